"""Verify: what somebody has in hand, judged: a raw meter file by its hash, a statement, a retirement or a bundle.

The browser hashes what is dropped and asks here with hashes alone (GET). A file comes here only when its owner sends it
(POST): the way without scripts, and the whole check of a bundle by the code of :mod:`oracle.verify`.
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass, field
from functools import cache
from threading import Lock
from types import ModuleType
from typing import Any

import orjson
from flask import Blueprint, Response, abort, jsonify, render_template, request
from flask_babel import gettext

from oracle import verify as script_of_bundles
from oracle.archive import ArchivedStatement
from oracle.checks import ChainFacts, StatementEvidence, check
from oracle.domain import BatchStatus, CheckResult, Finding, Statement, Verdict
from oracle.errors import ChainError
from oracle.protocol import keccak256

from .. import paper, reasons
from ..app import explorer, services
from ..explorer import TOKENS
from .public import hash_of
from .statements import facts_of, retirement_of

html = Blueprint("verify", __name__)
html.add_app_template_filter(reasons.in_words)
html.add_app_template_filter(reasons.language_of)
html.add_app_template_filter(reasons.in_pieces)
html.add_app_template_filter(reasons.language_of_pieces)

MAX_UPLOAD_BYTES = 4 << 20
MAX_ROOTS, MAX_STATEMENTS, MAX_FOUND = 64, 64, 200
NUMBERS = {
    "device_id": "deviceId", "start": "start", "duration": "duration", "version": "version",
    "energy_wh": "energyWh", "previous_wh": "previousWh",
}  # fmt: skip
QUESTIONS = ("data", "inclusion", "finality", "authority")
#: One bundle at a time: its hashes are the script's own, which takes seconds for a large one.
_BUSY = Lock()


class Unreadable(ValueError):
    """What was sent is nothing that can be judged; the text says why."""


@dataclass
class Answer:
    """What the page says of a thing. ``kind`` is file, statement, bundle, retirement or roots."""

    kind: str
    check: CheckResult | None = None
    sha256: str | None = None
    subject: list[str] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    retirement: dict[str, Any] | None = None
    roots: list[str] = field(default_factory=list)

    def model(self) -> dict[str, Any]:
        findings = {name: getattr(self.check, name) for name in QUESTIONS} if self.check else {}
        shown = {name: {"verdict": found.verdict.value, "reason": found.reason} for name, found in findings.items()}
        return {
            "kind": self.kind,
            "sha256": self.sha256,
            "subject": self.subject,
            "check": {**shown, "headline": self.check.headline.value} if self.check else None,
            "statements": self.rows,
            "retirement": self.retirement,
            "roots": self.roots,
        }


@html.get("/verify")
def page() -> str:
    """What is known of a hash, of roots or of a retirement (query: sha256; root, repeated; retirement and facts)."""
    return _shown(_asked())


@html.get("/verify.json")
def twin() -> Response:
    answer = _asked()
    return jsonify(answer.model() if answer else None)


@html.post("/verify")
def upload() -> str | tuple[str, int]:
    """Judge a file that its owner sends."""
    request.max_content_length = MAX_UPLOAD_BYTES + (64 << 10)
    given = request.files.get("file")
    content = given.read(MAX_UPLOAD_BYTES + 1) if given else b""
    try:
        if not content:
            raise Unreadable(gettext("No file was sent."))
        if len(content) > MAX_UPLOAD_BYTES:
            raise Unreadable(gettext("The file is larger than %(size)s MiB.", size=MAX_UPLOAD_BYTES >> 20))
        return _shown(examine(content))
    except Unreadable as fault:
        return _shown(None, str(fault)), 400


def _shown(answer: Answer | None, problem: str | None = None) -> str:
    return render_template(
        "verify.html", answer=answer.model() if answer else None, problem=problem, json_url=None,
        most_mib=MAX_UPLOAD_BYTES >> 20, notarization_selector="0x" + keccak256(b"notarization(bytes32)")[:4].hex(),
    )  # fmt: skip


def _asked() -> Answer | None:
    """The answer to the query in the address, None where there is none."""
    digest, roots, retirement = (
        request.args.get("sha256"),
        request.args.getlist("root"),
        request.args.get("retirement"),
    )
    if digest:
        return of_file(hash_of("0x" + digest.removeprefix("0x")))
    if roots:
        if len(roots) > MAX_ROOTS:
            abort(400, gettext("At most %(most)s roots can be asked for at once.", most=MAX_ROOTS))
        return of_roots([hash_of(root) for root in roots])
    if retirement:
        token, _, number = retirement.partition("/")
        if not number.isdecimal() or len(number) > 19:
            abort(404)
        return of_retirement(token, int(number), request.args.get("facts"))
    return None


# -- each kind of thing -----------------------------------------------------------------------------


def examine(content: bytes) -> Answer:
    """The answer about a whole file. Raises Unreadable for what pretends to be evidence and is none."""
    digest = "0x" + hashlib.sha256(content).hexdigest()
    if content[:4] == b"PK\3\4" and b"manifest.json" in content:
        return _named(of_bundle(content), digest)
    if content[:5] == b"%PDF-":
        start = content.find(b'{"account":"0x')
        told = content[start : content.find(b"\n", start)] if start >= 0 else b""
        attached = of_bundle(_script().attached(content)) if b"PK\3\4" in content else None
        if attached is None or not told:
            return _named(attached or _of_told(told), digest)
        # The evidence may be whole and the statement that it is attached to made up.
        answer = _of_told(told)
        assert answer.check and attached.check
        answer.check, answer.roots = _worst([answer.check, attached.check]), attached.roots
        return _named(answer, digest)
    if content[:1] in b"{[" and b"wattmark/retirement/" in content:
        return _named(_of_told(content), digest)
    if content[:1] == b"{" and b'"profileHash"' in content:
        return _named(of_statement(content), digest)
    return of_file(digest)


def _named(answer: Answer, digest: str) -> Answer:
    answer.sha256 = digest
    return answer


def of_file(digest: str) -> Answer:
    """Statements whose evidence names a raw meter file by this SHA-256."""
    found = explorer().evidence(digest)[:MAX_FOUND]
    rows = [row for one in found if (row := explorer().statement(one["root"], one["device_id"], one["start"]))]
    return Answer("file", sha256=digest, rows=rows)


def of_roots(roots: list[str]) -> Answer:
    """What the chain says of these roots; data and path to the root are what the asker has computed at home."""
    facts = ChainFacts(services().chain)
    results = []
    for root in dict.fromkeys(roots):
        name = bytes.fromhex(root[2:])
        result = check(StatementEvidence(name, None), facts)
        data = Finding(Verdict.CANNOT_CHECK, "The readings were not sent here.")
        results.append(CheckResult(data, _standing(name, facts), result.finality, result.authority))
    return Answer("roots", _worst(results), roots=list(dict.fromkeys(roots)))


def _standing(root: bytes, facts: ChainFacts) -> Finding:
    """Whether the Notary keeps a root."""
    try:
        status = facts.notarization(root).status
    except ChainError as fault:
        return Finding(Verdict.CANNOT_CHECK, f"Cannot check: {fault}.")
    if status == BatchStatus.NONE:
        return Finding(Verdict.NOT_FOUND, "No batch with this root is notarized on this chain.")
    if status == BatchStatus.REVOKED:
        return Finding(Verdict.REVOKED, "The batch with this root was notarized and has been revoked.")
    return Finding(Verdict.VERIFIED, "A batch with this root is notarized and stands.")


def of_statement(content: bytes) -> Answer:
    """One member of a bundle's statements.json: the statement with its root, path and readings."""
    try:
        told = orjson.loads(content)
        given, readings = told["statement"], told.get("readings") or {"profile": "0x", "salts": []}
        numbers = {noun: int(given[name]) for noun, name in NUMBERS.items()}
        statement = Statement(**numbers, profile_hash=_bytes(given["profileHash"]))
        salts = b"".join(map(_bytes, readings["salts"]))
        record = ArchivedStatement(statement, _bytes(readings["profile"]), salts)
        proof = tuple(map(_bytes, told["proof"]))
        fitting = all(0 <= number < 1 << 64 for number in numbers.values()) and len(proof) <= 64
        if not fitting or len(_bytes(told["root"])) != 32:
            raise ValueError
        result = check(StatementEvidence(_bytes(told["root"]), record, proof), ChainFacts(services().chain))
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError):
        raise Unreadable(gettext("The file looks like a statement and cannot be read as one.")) from None
    if not told.get("readings"):
        nothing = Finding(Verdict.CANNOT_CHECK, "The file holds no readings.")
        result = CheckResult(nothing, result.inclusion, result.finality, result.authority)
    row = explorer().statement("0x" + told["root"][2:].lower(), str(statement.device_id), statement.start)
    return Answer("statement", result, rows=[row] if row else [], roots=[told["root"].lower()])


def _bytes(text: str) -> bytes:
    if not text.startswith("0x"):
        raise ValueError
    return bytes.fromhex(text[2:])


def of_retirement(token: str, number: int, facts_sha256: str | None = None) -> Answer:
    """A retirement of this chain: is it what somebody's statement says, and what stands behind it?

    ``facts_sha256`` is the SHA-256 of the facts that the statement carries; None compares nothing, and the answer says so.
    """
    found = retirement_of(token, number)
    told = paper.canonical(facts_of(found))
    data = Finding(Verdict.VERIFIED, "The statement says what the chain records of this retirement, to the byte.")
    if facts_sha256 is None:
        data = Finding(Verdict.VERIFIED, "This is what the chain records; no file was compared with it.")
    elif facts_sha256.removeprefix("0x").lower() != hashlib.sha256(told).hexdigest():
        data = Finding(Verdict.MISMATCH, "The statement says something else than the chain records of this retirement.")
    facts = ChainFacts(services().chain)
    rows = _behind(found)
    checks = [CheckResult(data, *_recorded(found, facts))]
    checks += [services().validator.check_now(row, facts=facts)[0] for row in rows[:MAX_STATEMENTS]]
    if len(rows) > MAX_STATEMENTS or not rows:
        missing = Finding(Verdict.CANNOT_CHECK, f"{len(rows)} statements stand behind it; the bundle proves them all.")
        checks.append(CheckResult(missing, missing, missing, missing))
    return Answer("retirement", _worst(checks), rows=rows[:MAX_STATEMENTS], retirement={**found, "token": token})


def _recorded(found: dict[str, Any], facts: ChainFacts) -> tuple[Finding, Finding, Finding]:
    """Inclusion, finality and authority of a retirement's own transaction; nobody but its account had to agree to it."""
    try:
        receipt, final = facts.receipt(bytes.fromhex(found["tx"][2:])), facts.final_number()
        block = facts.block(receipt.block_number) if receipt else None
    except ChainError as fault:
        unknown = Finding(Verdict.CANNOT_CHECK, f"Cannot check: {fault}.")
        return unknown, unknown, unknown
    account = Finding(Verdict.VERIFIED, "The account retired what it held.")
    if receipt is None or block is None or block.hash != receipt.block_hash:
        gone = Finding(Verdict.NOT_FOUND, "The node does not have the transaction of this retirement.")
        return gone, gone, account
    held = Finding(Verdict.VERIFIED, f"The retirement is recorded in block {block.number}.")
    if block.number > final:
        return held, Finding(Verdict.NOT_FINAL, f"Block {block.number} is not final yet."), account
    return held, Finding(Verdict.VERIFIED, f"Block {block.number} is final."), account


def _behind(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The statements behind a retirement's certificates, through the conversions where outcomes were retired."""
    ask, ids = explorer(), [item["id"] for item in found["items"]]
    if found["kind"] == "outcome":
        marks = ", ".join("?" * len(ids))
        ids = [row["certificate_id"] for row in ask.all(f"SELECT DISTINCT certificate_id FROM conversion WHERE outcome_id IN ({marks})", *ids)]  # fmt: skip
    rows = []
    for token in dict.fromkeys(ids):
        for one in ask.all("SELECT DISTINCT root, device_id, start FROM issuance WHERE id = ? AND event IN ('Issued', 'Corrected')", token):  # fmt: skip
            row = ask.statement(one["root"], one["device_id"], one["start"])
            if row:
                rows.append(row)
    return rows


def _of_told(told: bytes) -> Answer:
    """A statement of retirement as JSON, as its PDF carries it."""
    try:
        said = orjson.loads(told)
        here = said["chainId"] == services().book.chain_id
        token, number = str(said["token"]), int(said["number"])
        contract = TOKENS.get(token)
        here = here and said["contract"] == services().book.contracts[str(contract)].address
        canonical = paper.canonical(said)
    except (ValueError, LookupError, TypeError):
        raise Unreadable(gettext("The file carries no statement of retirement that can be read.")) from None
    if not here:
        raise Unreadable(gettext("The statement is about another chain or another contract than this site's."))
    row = explorer().one(
        "SELECT 1 FROM retirement WHERE contract = ? AND number = ? LIMIT 1", contract, min(number, (1 << 63) - 1)
    )
    if row is None:
        gone = Finding(Verdict.NOT_FOUND, "The chain records no retirement with this number.")
        data = Finding(Verdict.MISMATCH, "The statement says something that the chain does not record.")
        return Answer("retirement", CheckResult(data, gone, gone, gone))
    return of_retirement(token, number, hashlib.sha256(canonical).hexdigest())


def of_bundle(content: bytes) -> Answer:
    """A bundle judged as the stand-alone script does, with this site's node and contracts as what is trusted."""
    script, s = _script(), services()
    if not _BUSY.acquire(timeout=20):
        abort(503, gettext("Another bundle is being checked: try again in a moment."))
    try:
        whole = script.Bundle(script.read_zip(content))
        book = s.book
        trusted = {bytes.fromhex(entry.address[2:]) for entry in book.contracts.values()}
        if whole.chain_id != book.chain_id:
            raise Unreadable(gettext("The bundle is about chain %(chain)s, which this site does not read: verify.py checks it with a node of that chain.", chain=whole.chain_id))  # fmt: skip
        node = script.Node(s.config.network.rpc_urls[0], book.chain_id)
        found = script.Check(whole, node, set(), trusted, s.config.network.finality_depth).findings()
    except script.Refused as fault:
        raise Unreadable(gettext("This is no usable bundle: %(problem)s", problem=str(fault))) from None
    finally:
        _BUSY.release()
    findings = {name: Finding(Verdict(found[name].verdict), found[name].reason) for name in QUESTIONS}
    roots = ["0x" + record.root.hex() for record in whole.records]
    return Answer(
        "bundle", CheckResult(**findings), subject=script.subject(whole), roots=list(dict.fromkeys(roots))[:MAX_ROOTS]
    )


@cache
def _script() -> ModuleType:
    """The stand-alone script as a module of its own, with the compiled keccak instead of its own slow one."""
    spec = importlib.util.spec_from_file_location("wattmark_verify", script_of_bundles.__file__)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.keccak256 = keccak256  # type: ignore[attr-defined]
    return module


def _worst(results: list[CheckResult]) -> CheckResult:
    """For each question the worst of the answers."""
    order = list(Verdict)
    worst = {
        name: max((getattr(result, name) for result in results), key=lambda one: order.index(one.verdict))
        for name in QUESTIONS
    }
    return CheckResult(**worst)
