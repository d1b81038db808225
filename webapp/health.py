"""How the operator's machines are: the oracle, the witnesses, the relay, the node and this site's index, in words and figures.

The oracle is known by its database, opened for reading, and by its metrics where they are served; witnesses and relay are asked over
HTTP. Nothing secret is asked for or told: addresses of processes stay on the operators' page.
"""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import requests
from flask_babel import gettext

from oracle.errors import ChainError

from .app import Services
from .index import Freshness
from .words import ether, number, tame, utc

Model = dict[str, Any]

ASK_SECONDS, MOST_ANSWER_BYTES = 3, 1 << 20
#: A device-day on its way to finality that has not moved for longer is a problem, as for the oracle (docs/oracle.md).
MAX_LAG_SECONDS = 72 * 3_600
#: So many blocks, or seconds without a look, and the index is behind.
MOST_BLOCKS_BEHIND, MOST_SECONDS_UNSEEN = 20, 120
OK, WARN, BAD, UNKNOWN = "ok", "warn", "bad", "unknown"
_METRIC = re.compile(r"^wattmark_([a-z_]+) ([0-9.eE+-]+)$", re.MULTILINE)


def look(s: Services, fresh: Freshness) -> list[Model]:
    """Each part with its ``state`` (ok, warn, bad, unknown), sentences about it, and its figures. Asks for all at once."""
    with ThreadPoolExecutor(8) as pool:
        witnesses = {name: pool.submit(_ask, f"{url}/v1/health") for name, url in s.config.witness_urls.items()}
        relay = pool.submit(_ask, f"{s.config.relay_url}/health") if s.config.relay_url else None
        metrics = pool.submit(_ask, s.config.oracle_metrics_url) if s.config.oracle_metrics_url else None
        appointed = pool.submit(_appointed, s)
        node = pool.submit(_node, s)
        parts = [
            _oracle(s, metrics.result() if metrics else None),
            *(_witness(name, found.result(), s.book.chain_id, appointed.result()) for name, found in witnesses.items()),
            *([_relay(s, relay.result())] if relay else []),
            _of_node(node.result(), s.book.chain_id),
            _index(fresh),
        ]
    return parts


# -- asking -----------------------------------------------------------------------------------------


def _ask(url: str) -> tuple[bytes | None, str]:
    """The body of an answer, or None and why there is none."""
    try:
        with requests.Session() as session:
            session.trust_env = False
            answer = session.get(url, timeout=ASK_SECONDS, allow_redirects=False, stream=True)
            content = answer.raw.read(MOST_ANSWER_BYTES + 1, decode_content=True)
    except (requests.RequestException, OSError) as fault:
        return None, type(fault).__name__
    if answer.status_code != 200 or len(content) > MOST_ANSWER_BYTES:
        return None, f"HTTP {answer.status_code}"
    return content, ""


def _json(answer: tuple[bytes | None, str]) -> Model | None:
    try:
        told = orjson.loads(answer[0] or b"")
        return told if isinstance(told, dict) else None
    except orjson.JSONDecodeError:
        return None


def _appointed(s: Services) -> tuple[str, ...] | None:
    """Who vouches in the current epoch; None where the chain does not say."""
    try:
        return s.chain.signer_set(s.chain.call("Notary", "signerEpoch")).signers
    except ChainError:
        return None


def _node(s: Services) -> Model | str:
    try:
        head = s.node.call("eth_getBlockByNumber", "latest", False)
        return {
            "chain_id": int(s.node.call("eth_chainId"), 16),
            "number": int(head["number"], 16),
            "time": int(head["timestamp"], 16),
        }
    except (ChainError, TypeError, ValueError, KeyError) as fault:
        return str(fault)


# -- what is made of it -----------------------------------------------------------------------------


class _Part:
    """A part's sentences and figures; its state is that of its worst sentence."""

    def __init__(self, kind: str, name: str):
        self.kind, self.name, self.says, self.figures = kind, name, list[Model](), dict[str, Any]()

    def say(self, state: str, words: str) -> None:
        self.says.append({"state": state, "words": words})

    def model(self) -> Model:
        worst = max((one["state"] for one in self.says), key=(OK, UNKNOWN, WARN, BAD).index, default=UNKNOWN)
        return {"kind": self.kind, "name": self.name, "state": worst, "says": self.says, "figures": self.figures}


def _oracle(s: Services, metrics: tuple[bytes | None, str] | None) -> Model:
    part, found = _Part("oracle", ""), s.oracle_days.health()
    if found is None:
        part.say(UNKNOWN, gettext("Its database cannot be read here."))
    else:
        _of_database(part, found)
    if metrics is not None:
        told = {name: float(value) for name, value in _METRIC.findall((metrics[0] or b"").decode("utf-8", "replace"))}
        if "head_block" in told:
            part.say(OK, gettext("It runs: its metrics answer."))
            if not told.get("chain_answers"):
                part.say(BAD, gettext("It cannot reach a node of the right chain."))
            if told.get("problems"):
                part.say(
                    WARN,
                    gettext(
                        "It counts %(count)s problems; its status command names them.", count=int(told["problems"])
                    ),
                )
            balance = told.get("signer_balance_wei")
            if balance is not None:
                part.figures["balance"] = f"{ether(int(balance))} {s.config.currency}"
            part.figures |= {
                name: int(told[name]) for name in ("final_block", "head_block", "waiting_acts") if name in told
            }
        else:
            part.say(BAD, gettext("Its metrics do not answer (%(why)s): it may not be running.", why=metrics[1] or gettext("not understood")))  # fmt: skip
    return part.model()


def _of_database(part: _Part, found: Model) -> None:
    held, failed, decisions = found["states"].get("held", 0), found["acts"].get("failed", 0), found["decisions"]
    lag = time.time() - found["oldest_moving"] if found["oldest_moving"] else 0
    if lag > MAX_LAG_SECONDS:
        part.say(
            BAD, gettext("A day on its way to finality has not moved since %(time)s.", time=utc(found["oldest_moving"]))
        )
    else:
        part.say(OK, gettext("No day is stuck on its way to finality."))
    if held:
        part.say(WARN, gettext("Days held for review: %(count)s", count=number(held)))
    if failed:
        part.say(BAD, gettext("Acts on the chain that failed: %(count)s", count=number(failed)))
    if found["not_issued"]:
        part.say(
            WARN,
            gettext("Notarized days that the contract refuses to issue: %(count)s", count=number(found["not_issued"])),
        )
    for source in found["sources"]:
        if source["problem"]:
            part.say(WARN, gettext("Source %(name)s: %(problem)s", name=tame(source["name"], 60), problem=tame(source["problem"], 200)))  # fmt: skip
    if decisions.get("refused"):
        part.say(WARN, gettext("Signed decisions that it refused: %(count)s", count=number(decisions["refused"])))
    part.figures |= {
        "held": held, "failed": failed, "last_final_block": found["last_final_block"], "last_batch": utc(found["last_batch_at"]),
        "last_file": utc(found["last_file_at"]), "refused_files": found["refused_files"],
        **{f"days_{state}": count for state, count in sorted(found["states"].items())},
    }  # fmt: skip
    for failure in found["failures"]:
        part.figures[tame(failure["act"], 80)] = tame(failure["error"], 200)


def _witness(name: str, answer: tuple[bytes | None, str], chain_id: int, appointed: tuple[str, ...] | None) -> Model:
    part, told = _Part("witness", name), _json(answer)
    if told is None:
        part.say(BAD, gettext("It does not answer (%(why)s).", why=answer[1] or gettext("not understood")))
        return part.model()
    part.say(OK, gettext("It answers."))
    address = str(told.get("address", ""))
    part.figures |= {"key": tame(address, 42), "asked": utc(time.time())}
    if told.get("chainId") != chain_id:
        part.say(BAD, gettext("It works for another chain."))
    if appointed is None:
        part.say(UNKNOWN, gettext("Whether its key is appointed cannot be checked: the chain cannot be read."))
    elif address.lower() in {one.lower() for one in appointed}:
        part.say(OK, gettext("Its key is appointed in the current epoch."))
    else:
        part.say(BAD, gettext("Its key is not appointed in the current epoch: its signatures do not count."))
    return part.model()


def _relay(s: Services, answer: tuple[bytes | None, str]) -> Model:
    part, told = _Part("relay", ""), _json(answer)
    if told is None:
        part.say(BAD, gettext("It does not answer (%(why)s).", why=answer[1] or gettext("not understood")))
        return part.model()
    if told.get("problem"):
        part.say(BAD, tame(told["problem"], 200))
    else:
        part.say(OK, gettext("It answers."))
    part.figures |= {name: told[name] for name in ("waiting", "block") if isinstance(told.get(name), int)}
    balance = str(told.get("balance_wei") or "")
    if balance.isdigit():
        part.figures["balance"] = f"{ether(int(balance))} {s.config.currency}"
    return part.model()


def _of_node(told: Model | str, chain_id: int) -> Model:
    part = _Part("node", "")
    if isinstance(told, str):
        part.say(BAD, gettext("The node cannot be reached"))
        return part.model()
    if told["chain_id"] == chain_id:
        part.say(OK, gettext("It answers."))
    else:
        part.say(BAD, gettext("It works for another chain."))
    part.figures |= {"head_block": told["number"], "head_time": utc(told["time"])}
    return part.model()


def _index(fresh: Freshness) -> Model:
    part = _Part("index", "")
    behind = fresh.head - fresh.block if fresh.head is not None and fresh.block is not None else None
    if fresh.block is None:
        part.say(BAD, gettext("Nothing has been read from the chain yet."))
    elif fresh.problem or fresh.looked_at is None or time.time() - fresh.looked_at > MOST_SECONDS_UNSEEN:
        part.say(BAD, gettext("Its last look at the chain failed, or is long ago."))
    elif behind is not None and behind > MOST_BLOCKS_BEHIND:
        part.say(WARN, gettext("It is %(blocks)s blocks behind.", blocks=number(behind)))
    else:
        part.say(OK, gettext("It has read what the chain has."))
    part.figures |= {
        "block": fresh.block,
        "final_block": fresh.final,
        "head_block": fresh.head,
        "looked_at": utc(fresh.looked_at),
    }
    return part.model()
