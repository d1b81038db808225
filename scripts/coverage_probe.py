"""A pytest plugin for the contract tests: notes which instructions of which contract every transaction and call ran.

`./run coverage` loads it; WATTMARK_COVERAGE names the file it writes, or adds to: JSON {"code": {hash: hex}, "hits": {"<file of tests>": {"<hash>":
["<program counter>", "<program counter>:0" or ":1" for a conditional jump not taken or taken]}}}, where what a fixture of
the whole session runs stands under no file (""). Code is what stands at the address after the transaction, or the data of the transaction that creates it. The node replays each transaction
and call right after it under the tracer below (debug_traceTransaction, debug_traceCall).
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import defaultdict
from pathlib import Path

import pytest
from web3 import HTTPProvider

# One entry per account, kind of code and instruction, not one per step; little is done in a step, for there are many.
# "t" marks what the transaction itself calls or creates, "c" code that runs while its contract is being created.
TRACER = """{
    accounts: {}, frames: [], now: null,
    open: function(address, kind) {
        var key = toHex(address) + kind;
        this.now = this.accounts[key] || (this.accounts[key] = {});
        this.frames.push(this.now);
    },
    enter: function(frame) {
        var type = frame.getType();
        if (type === "CREATE" || type === "CREATE2") { this.frames.push(this.now = {}); return; }
        this.open(frame.getTo(), "r");
    },
    exit: function(frame) {
        this.frames.pop();
        this.now = this.frames[this.frames.length - 1];
    },
    step: function(log) {
        if (this.now === null) this.open(log.contract.getAddress(), "t");
        var place = log.getPC();
        if (log.op.toNumber() === 0x57) place = place + (log.stack.peek(1) != 0 ? ":1" : ":0");
        this.now[place] = 1;
    },
    fault: function(log) {},
    result: function() {
        var found = {};
        for (var key in this.accounts) found[key] = Object.keys(this.accounts[key]);
        return found;
    }
}"""
OPTIONS = {"tracer": TRACER, "timeout": "600s"}

_code: dict[str, str] = {}
_hits: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
_file = ""
_ask = HTTPProvider.make_request


def _result(provider, method, *params):
    # A receiver that burns all its gas takes the tracer longer than brownie waits for an answer.
    patient = HTTPProvider(provider.endpoint_uri, request_kwargs={"timeout": 600})
    answer = _ask(patient, method, list(params))
    if "error" in answer:
        raise RuntimeError(f"{method}: {answer['error']}")
    return answer["result"]


def _note(provider, ran, created: str | None):
    """`created`: the data of a transaction that creates a contract. What a contract creates is none of ours."""
    for account, places in ran.items():
        address, kind = account[:42], account[42]
        code = created if kind == "t" and created else _result(provider, "eth_getCode", address, "latest")
        name = hashlib.sha256(code.encode()).hexdigest()
        _code[name] = code
        _hits[_file][name].update(places)


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


def pytest_runtest_setup(item):
    global _file
    _file = item.nodeid.split("::")[0]


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef, request):
    global _file
    before = _file
    if fixturedef.scope == "session":
        _file = ""
    try:
        return (yield)
    finally:
        _file = before


def pytest_unconfigure(config):
    HTTPProvider.make_request = _ask
    path = Path(os.environ["WATTMARK_COVERAGE"])
    if path.exists():
        kept = json.loads(path.read_text(encoding="utf-8"))
        _code.update(kept["code"])
        for file, codes in kept["hits"].items():
            for name, places in codes.items():
                _hits[file][name].update(places)
    hits = {file: {name: sorted(seen) for name, seen in codes.items()} for file, codes in _hits.items()}
    path.write_text(json.dumps({"code": _code, "hits": hits}))
