"""The review queue: what is held, one day with all that speaks for and against it, and signed decisions for the oracle."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, abort, jsonify, render_template, request
from flask_babel import gettext, lazy_gettext
from werkzeug.wrappers import Response

from oracle import review
from oracle.domain import DAY_SECONDS
from oracle.protocol import unpack_profile
from oracle.review import MAX_EVIDENCE_BYTES, ReviewError

from ..app import csrf_token, explorer, services
from ..operators import Operator, needs, signed_in
from ..oracle_state import OracleState
from ..readings import day_of, device_days
from ..reviews import (
    CHOOSE,
    SIGNED,
    DecisionsFolder,
    accept_signed,
    draft,
    draft_clock,
    findings_of,
    kinds_of,
    neighbours,
    stale,
    trail,
)
from ..words import tame
from .public import final_block

html = Blueprint("reviews", __name__)
Model = dict[str, Any]

ROWS = 100
#: A key's signature: 65 bytes as 0x text. What contract wallets give is longer.
SIGNATURE_CHARACTERS = 132
#: How a decision's progress looks: words, style, icon.
PROGRESS = {
    SIGNED: (lazy_gettext("Signed, waits for the oracle"), "wait", "clock"),
    "waiting": (lazy_gettext("The oracle has it; something is still missing"), "wait", "clock"),
    "taken": (lazy_gettext("Taken by the oracle"), "ok", "check"),
    "refused": (lazy_gettext("Refused by the oracle"), "bad", "cross"),
}
DECISIONS = {
    review.ACCEPT: lazy_gettext("Accepted"),
    review.EDIT: lazy_gettext("Edited"),
    review.REJECT: lazy_gettext("Rejected"),
    review.CLOCK: lazy_gettext("Clock corrected"),
}
#: What the script says; %(…)s are filled in the browser.
WORDS = {
    "accept": lazy_gettext("Accept: certify the measured slots that no rule suspects"),
    "edit": lazy_gettext("Edit: give slots other figures, and certify"),
    "reject": lazy_gettext("Reject: keep this day out of any batch"),
    "clock": lazy_gettext("Correct the clock"),
    "device": lazy_gettext("Device"),
    "day": lazy_gettext("Day (UTC)"),
    "time": lazy_gettext("Stamps from – until (UTC)"),
    "off": lazy_gettext("Taken off"),
    "version": lazy_gettext("Version"),
    "reason": lazy_gettext("Reason"),
    "edits": lazy_gettext("Slots: before → after, Wh"),
    "evidence": lazy_gettext("Evidence (SHA-256)"),
    "conflict": lazy_gettext("What files say that disagree (SHA-256)"),
    "profileHash": lazy_gettext("Profile hash that this is about"),
    "decidedAt": lazy_gettext("Decided at"),
    "minutes": lazy_gettext("%(minutes)s min"),
    "noWallet": lazy_gettext(
        "No wallet was found in this browser. Open this page in the browser in which you signed in."
    ),
    "otherAccount": lazy_gettext("The wallet does not offer the account that you signed in with, %(account)s."),
    "rejected": lazy_gettext("You declined in the wallet. Nothing was signed."),
    "waiting": lazy_gettext("Waiting for the wallet …"),
    "sending": lazy_gettext("Sending …"),
    "hashing": lazy_gettext("Reading the file …"),
    "altered": lazy_gettext("The server's text is not what you entered. Nothing was signed."),
    "noEdits": lazy_gettext("Change the Wh of at least one slot."),
    "badWh": lazy_gettext("Wh are whole numbers from 0 to 4,294,967,295: slot %(slot)s."),
    "noEvidence": lazy_gettext("Choose the file that shows the figures."),
    "failed": lazy_gettext("That did not work: %(problem)s"),
}


def waiting(operator: Operator) -> int:
    """How many device-days wait for this operator as reviewer."""
    return len(services().oracle_days.held()) if "reviewer" in operator.roles else 0


def decisions_folder() -> DecisionsFolder | None:
    """The folder of signed decisions, the same for all requests; None where none is configured."""
    path, kept = services().config.decisions_folder, services().kept
    if path is None:
        return None
    if "decisions" not in kept:
        kept["decisions"] = (None, DecisionsFolder(path))
    found: DecisionsFolder = kept["decisions"][1]
    return found


@html.get("/operators/reviews")
@needs("reviewer")
def queue() -> str:
    """Held device-days, filtered, the oldest first; shifts of clocks that are offered; the last decisions."""
    state, facts = services().oracle_days, services().facts
    held = [row | {"kinds": kinds_of(row["reason"])} for row in state.held()]
    chosen = {name: request.args.get(name, "").strip() for name in ("device", "kind", "q")}
    decided = trail(state, decisions_folder())
    fitting = [row for row in held if _fits(row, chosen)]
    if request.args.get("sort") == "-age":
        fitting.reverse()
    page = max(request.args.get("page", 1, type=int), 1)
    shifts, made_at = state.report("clocks")
    return render_template(
        "operators/reviews.html", rows=fitting[(page - 1) * ROWS : page * ROWS], count=len(fitting), held=len(held), page=page,
        pages=(len(fitting) + ROWS - 1) // ROWS, chosen=chosen, kinds_held=sorted({kind for row in held for kind in row["kinds"]}),
        devices_held=sorted({row["device_id"] for row in held}, key=int), facts_=facts, signed_days=_signed_days(decided),
        shifts=[shift for shift in shifts if _is_shift(shift)], shifts_at=made_at, decided=decided[:20], progress=PROGRESS,
        decision_words=DECISIONS, configured=state.is_configured, setup=_setup(), json_url=None,
    )  # fmt: skip


def _fits(row: Model, chosen: dict[str, str]) -> bool:
    return (
        (not chosen["device"] or row["device_id"] == chosen["device"])
        and (not chosen["kind"] or chosen["kind"] in row["kinds"])
        and chosen["q"].lower() in row["reason"].lower()
    )


def _signed_days(decided: list[Model]) -> dict[tuple[str, int], str]:
    """Days about which a decision is under way."""
    return {
        (row["device_id"], row["start"]): row["progress"] for row in decided if row["progress"] in (SIGNED, "waiting")
    }


def _is_shift(shift: Model) -> bool:
    return all(isinstance(shift.get(name), int) for name in ("device_id", "minutes", "start", "end"))


@html.get("/operators/reviews/<int:device_id>/<day>")
@needs("reviewer")
def case(device_id: int, day: str) -> str:
    """One day that can be decided about: profile, findings, files, neighbours, conflicts, and the forms."""
    state, s = services().oracle_days, services()
    found, start = _case(state, device_id, day)
    about = found["for_review"] or {}
    days = device_days(explorer(), state, str(device_id), final_block(), to_operators=True)
    decided = [
        row for row in trail(state, decisions_folder())
        if row["device_id"] == str(device_id) and row["start"] == start and row["decision"] != review.CLOCK
    ]  # fmt: skip
    profile = day_of(start, found["profile"], found["assessment"])
    if profile["irradiance"]:
        profile["irradiance"]["title"] = s.facts.station_title(profile["irradiance"]["station"])
    profile["bound_wh"] = _slots(about.get("clearSkyBoundWh"))
    assessed = unpack_profile(start, found["assessed"])
    return render_template(
        "operators/review.html", case=found, profile=profile, assessed=assessed, said=about.get("said", []),
        ready=bool(about.get("profileHash")) and s.config.decisions_folder is not None, folder=s.config.decisions_folder is not None,
        files=state.files(found["evidence"]), findings=findings_of(found["assessment"]), near=neighbours(days, start), decided=decided, progress=PROGRESS, decision_words=DECISIONS,
        kinds_held=kinds_of(found["reason"]), shifts=[one for one in state.report("clocks")[0] if _is_shift(one) and _over(one, device_id, start)],
        balances=[one for one in state.report("balances")[0] if one.get("start") == start and device_id in (one.get("devices") or ())],
        most_evidence_mib=MAX_EVIDENCE_BYTES >> 20, setup=_setup(), json_url=None,
    )  # fmt: skip


def _slots(values: Any) -> list[int] | None:
    sound = isinstance(values, list) and len(values) == 96 and all(isinstance(one, int) for one in values)
    return values if sound else None


def _over(shift: Model, device_id: int, start: int) -> bool:
    return shift["device_id"] == device_id and shift["start"] <= start < shift["end"]


def _case(state: OracleState, device_id: int, day: str) -> tuple[Model, int]:
    try:
        start = int(datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC).timestamp())
    except ValueError:
        abort(404)
    found = state.case(device_id, start) if device_id < 1 << 62 else None
    if found is None:
        abort(
            404,
            gettext("Nothing can be decided about this day: it is not known, or its figures are in a batch already."),
        )
    return found, start


# -- signing ----------------------------------------------------------------------------------------


@html.post("/operators/reviews/draft.json")
@needs("reviewer")
def drafted() -> Response:
    """The exact text that a wallet is to sign for what the form says: ``{"message"}``."""
    asked, state = _body(), services().oracle_days
    try:
        if asked.get("decision") == review.CLOCK:
            facts = draft_clock(state.report("clocks")[0], asked)
        else:
            device_id = asked.get("device_id")
            if not isinstance(device_id, int):
                abort(400, gettext("What was sent is not a decision."))
            facts = draft(_case(state, device_id, str(asked.get("day")))[0], asked, _folder())
        return jsonify({"message": review.message(facts).decode()})
    except ReviewError as fault:
        abort(400, _told(fault))


@html.post("/operators/reviews/decision.json")
@needs("reviewer")
def decided() -> Response:
    """Lay a signed decision down for the oracle: ``{"message", "signature"}``."""
    asked, operator = _body(), _operator()
    text, signature = asked.get("message"), asked.get("signature")
    if not isinstance(text, str) or not isinstance(signature, str):
        abort(400, gettext("What was sent is not a decision."))
    folder = _folder()
    if len(signature) != SIGNATURE_CHARACTERS:
        abort(400, gettext("This is no key's own signature. A decision is checked without asking a chain, so contract wallets cannot review: sign in with a key of your own."))  # fmt: skip
    try:
        entry = accept_signed(text, signature, operator.address)
    except ReviewError as fault:
        abort(400, _told(fault))
    if entry["decision"] != review.CLOCK:
        if stale(services().oracle_days.case(entry["deviceId"], entry["start"]), entry):
            abort(409, gettext("The day changed while you looked at it. Load the page again and decide anew."))
        raw = entry["decision"] == review.EDIT and services().oracle_days.files([entry["evidence"]])
        if entry["decision"] == review.EDIT and not raw and not folder.has_evidence(entry["evidence"]):
            abort(400, gettext("An edit needs the file that shows its figures: send it first."))
    return jsonify({"sha256": folder.lay(entry), "progress": SIGNED})


@html.get("/operators/reviews/decisions/<sha256>.json")
@needs("reviewer")
def progress(sha256: str) -> Response:
    """How far a signed decision has come: ``{"progress", "words", "refusal"}``."""
    folder = decisions_folder()
    found = [row for row in trail(services().oracle_days, folder) if sha256 and row["sha256"] == sha256]
    if not found:
        abort(404)
    [row] = found
    words = str(PROGRESS[row["progress"]][0])
    return jsonify({"progress": row["progress"], "words": words, "refusal": tame(row["refusal"], 400)})


@html.post("/operators/reviews/evidence.json")
@needs("reviewer")
def evidence() -> Response:
    """Keep a file that an edit will rest on: its bytes as the body; its sha256 is the answer."""
    request.max_content_length = MAX_EVIDENCE_BYTES
    try:
        return jsonify({"sha256": _folder().lay_evidence(request.get_data())})
    except ReviewError as fault:
        abort(400, _told(fault))


def _body() -> Model:
    told: Any = request.get_json(silent=True)
    if not isinstance(told, dict):
        abort(400, gettext("What was sent is not a decision."))
    return told


def _folder() -> DecisionsFolder:
    folder = decisions_folder()
    if folder is None:
        abort(503, gettext("Nothing can be decided here: the configuration names no decisions_folder."))
    return folder


def _operator() -> Operator:
    operator = signed_in()
    assert operator is not None, "the view is not guarded"
    return operator


def _told(fault: ReviewError) -> str:
    return tame(fault, 400)


def _setup() -> Model:
    operator = _operator()
    return {
        "account": operator.address,
        "token": csrf_token(),
        "choose": CHOOSE,
        "slotSeconds": 900,
        "daySeconds": DAY_SECONDS,
        "words": {name: str(word) for name, word in WORDS.items()},
    }
