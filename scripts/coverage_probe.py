"""A pytest plugin for the contract tests: notes which instructions of which contract every transaction and call ran.

`./run coverage` loads it; WATTMARK_COVERAGE names the file it writes: JSON {"code": {hash: hex}, "hits": {"<hash>":
["<program counter>", "<program counter>:0" or ":1" for a conditional jump not taken or taken]}}. Code is what stands at
the address after the transaction, or the data of the transaction that creates it. The node replays each transaction
and call right after it under the tracer below (debug_traceTransaction, debug_traceCall).
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import defaultdict

from web3 import HTTPProvider

# One entry per address and instruction, not one per step. Code that runs while its contract is being created is
# marked by "c": its program counters are those of the creation code.
TRACER = """{
    seen: {}, creating: [],
    enter: function(frame) { this.creating.push(frame.getType().indexOf("CREATE") === 0); },
    exit: function(frame) { this.creating.pop(); },
    step: function(log) {
        var n = this.creating.length;
        var key = toHex(log.contract.getAddress()) + (n === 0 ? "t" : this.creating[n - 1] ? "c" : "r") + log.getPC();
        if (log.op.toNumber() === 0x57) key += log.stack.peek(1) != 0 ? ":1" : ":0";
        this.seen[key] = 1;
    },
    fault: function(log) {},
    result: function() { return Object.keys(this.seen); }
}"""
OPTIONS = {"tracer": TRACER, "timeout": "600s"}

_code: dict[str, str] = {}
_hits: dict[str, set[str]] = defaultdict(set)
_ask = HTTPProvider.make_request


def _result(provider, method, *params):
    # A receiver that burns all its gas takes the tracer longer than brownie waits for an answer.
    patient = HTTPProvider(provider.endpoint_uri, request_kwargs={"timeout": 600})
    answer = _ask(patient, method, list(params))
    if "error" in answer:
        raise RuntimeError(f"{method}: {answer['error']}")
    return answer["result"]


def _note(provider, steps, created: str | None):
    """`created`: the data of a transaction that creates a contract."""
    codes = {}
    for step in steps:
        address, kind, at = step[:42], step[42], step[43:]
        if kind == "t":
            kind = "c" if created else "r"
        if kind == "c" and created is None:
            continue  # created by a contract: none of ours is
        if (address, kind) not in codes:
            code = created if kind == "c" else _result(provider, "eth_getCode", address, "latest")
            name = hashlib.sha256(code.encode()).hexdigest()
            _code[name] = code
            codes[address, kind] = name
        _hits[codes[address, kind]].add(at)


def make_request(self, method, params):
    answer = _ask(self, method, params)
    if method == "eth_call" and params[0].get("to"):
        _note(
            self, _result(self, "debug_traceCall", params[0], params[1] if len(params) > 1 else "latest", OPTIONS), None
        )
    elif method in ("eth_sendTransaction", "eth_sendRawTransaction") and answer.get("result"):
        while _result(self, "eth_getTransactionReceipt", answer["result"]) is None:
            time.sleep(0.002)
        transaction = _result(self, "eth_getTransactionByHash", answer["result"])
        steps = _result(self, "debug_traceTransaction", answer["result"], OPTIONS)
        _note(self, steps, None if transaction.get("to") else transaction["input"])
    return answer


def pytest_configure(config):
    HTTPProvider.make_request = make_request


def pytest_unconfigure(config):
    HTTPProvider.make_request = _ask
    with open(os.environ["WATTMARK_COVERAGE"], "w", encoding="utf-8") as file:
        json.dump({"code": _code, "hits": {name: sorted(seen) for name, seen in _hits.items()}}, file)
