"""What the checkers say and why days are held, in the reader's language.

:mod:`oracle.checks`, :mod:`oracle.verify` and the oracle's rules give their reasons in English, with their values in the sentence. Here stand the same
sentences as texts to translate; a reason is told by the one that fits it, its values kept. What fits none stays English.
"""

from __future__ import annotations

import re
from functools import cache

from flask_babel import gettext

from .words import decimal, language


def sentence(text: str) -> str:
    """Marks a sentence for the translators (webapp/texts.py)."""
    return text


SENTENCES = (
    # oracle/checks.py
    sentence("The archived readings hash to the statement, and %(slots)s certified slots add up to %(energy)s Wh."),
    sentence("The archived readings and salts do not hash to the statement."),
    sentence("The certified slots hold %(energy)s Wh; the statement says %(stated)s Wh."),
    sentence("The archive is damaged: %(problem)s."),
    sentence("The archive is not what it was: %(problem)s."),
    sentence("The archive's manifest is not the one whose hash was notarized."),
    sentence("The profile does not fit its statement: %(problem)s."),
    sentence("%(reason)s The archive's own hash was not compared: the chain cannot be read."),
    sentence("%(reason)s There is no notarized archive hash to compare with."),
    sentence("Cannot check: without the archive the statement is not known."),
    sentence("Cannot check: the chain kept being reorganised while it was read."),
    sentence("Cannot check: the transaction does not carry the signatures."),
    sentence("Cannot check: no archive is shown."),
    sentence("The statement has values that no statement can have: %(problem)s."),
    sentence("The statement and its proof do not lead to the batch's root."),
    sentence("No batch with this root is notarized on this chain."),
    sentence("The statement is in a batch that was notarized and has been revoked."),
    sentence("The statement is one of %(statements)s in the batch notarized on %(time)s."),
    sentence("No transaction in the chain notarized this root."),
    sentence("The chain has no transaction with the hash shown."),
    sentence("The transaction shown is not the one that notarized this root."),
    sentence("The transaction's block is no longer part of the chain."),
    sentence("The transaction is in block %(block)s; blocks are final up to %(final)s."),
    sentence("The transaction is in block %(block)s, which is final."),
    sentence("No notarization of this root is in the chain, so nobody signed one there."),
    sentence("The signers of epoch %(epoch)s were not in office at block %(block)s."),
    sentence("The signer set shown is not the one that the chain has for epoch %(epoch)s."),
    sentence("The batch that was signed is not the one that the event names."),
    sentence("An unreadable signature is not among the signers of epoch %(epoch)s."),
    sentence("%(signer)s is not among the signers of epoch %(epoch)s."),
    sentence("%(signed)s appointed witnesses signed; %(needed)s are needed."),
    sentence(
        "%(signed)s of %(appointed)s witnesses signed, %(needed)s were needed; all were in office at block %(block)s."
    ),
    # oracle/archive.py, oracle/chain.py
    sentence("%(file)s is not the file that its manifest names"),
    sentence("its statements lead to root %(root)s"),
    sentence("the manifest is not readable"),
    sentence("%(file)s is not here"),
    sentence("%(file)s may not be read by this user"),
    sentence("%(file)s is not readable (%(kind)s)"),
    sentence("the archive does not hold this statement"),
    # oracle/verify.py
    sentence("The archive's manifest is not the signed one."),
    sentence("The assessments are not those that were signed."),
    sentence("The readings were left out, as those of private devices are."),
    sentence("The readings do not hash to the statement."),
    sentence("Something here is not what it must be: %(problem)s."),
    sentence("The certified slots add up to %(energy)s Wh, the statement says %(stated)s Wh."),
    sentence("The readings hash to the statement, the certified slots add up to its %(energy)s Wh; %(archive)s."),
    sentence("The statement and its proof do not lead to the root."),
    sentence("The statement's period lies outside that of its batch."),
    sentence("The certificate was issued or corrected by another statement of this root."),
    sentence("The Notary on the chain does not know the root."),
    sentence("The Notary on the chain keeps other figures of this root."),
    sentence("It is one of %(statements)s under %(root)s, notarized as %(kind)s in %(place)s."),
    sentence("No transaction in this bundle notarizes root %(root)s."),
    sentence("The %(kind)s %(id)s rests on statements that are all in their roots."),
    sentence("The %(kind)s %(number)s is in %(place)s, and all statements behind it in their roots."),
    sentence("No transaction in this bundle is %(kind)s %(number)s."),
    sentence("No transaction here issues or corrects certificate %(id)s."),
    sentence("No transaction here converts into %(id)s by its factor."),
    sentence("A conversion is not by the factor of its zone and year."),
    sentence("More was retired of an outcome than was converted into it."),
    sentence("More was taken of %(id)s than any of its statements says."),
    sentence("The statements here are not those behind the %(kind)s."),
    sentence("The proof into %(place)s fails: %(problem)s."),
    sentence("The transaction is in %(place)s, whose hash you gave."),
    sentence("The transaction is in block %(block)s, which may still be reorganised away."),
    sentence("Only the bundle says that %(place)s is of the chain; %(mend)s."),
    sentence("The node's chain does not have %(place)s with this hash."),
    sentence("The node does not have this receipt in this block."),
    sentence("The node does not say which blocks are final; give --confirmations."),
    sentence("The signatures are not in the notarizing transaction's own data."),
    sentence("The signatures are not by those whom the event names, each once, for this batch."),
    sentence("Epoch %(epoch)s was not the current one then."),
    sentence("The bundle does not say who the witnesses of epoch %(epoch)s are."),
    sentence("The bundle names other witnesses of epoch %(epoch)s than the chain."),
    sentence("Others than the witnesses of epoch %(epoch)s signed."),
    sentence("Only %(signed)s of the %(appointed)s witnesses of epoch %(epoch)s signed, where %(needed)s are enough."),
    sentence(
        "%(signed)s of the %(appointed)s witnesses of epoch %(epoch)s signed, where %(needed)s are enough, but that they are the witnesses only the bundle says."
    ),
    sentence(
        "%(signed)s of the %(appointed)s witnesses of epoch %(epoch)s signed, where %(needed)s are enough: %(signers)s."
    ),
    sentence("%(contract)s at %(address)s is not among the contracts that you trust."),
    sentence("%(contract)s has other code on the chain."),
    sentence("%(contract)s is not bound to this %(other)s."),
    sentence("%(contract)s is what the bundle says."),
    sentence("The node gave no usable answer: %(problem)s."),
    # webapp/pages/verify.py
    sentence("The readings were not sent here."),
    sentence("A batch with this root is notarized and stands."),
    sentence("The batch with this root was notarized and has been revoked."),
    sentence("The file holds no readings."),
    sentence("The statement says what the chain records of this retirement, to the byte."),
    sentence("The statement says something else than the chain records of this retirement."),
    sentence("This is what the chain records; no file was compared with it."),
    sentence("The statement says something that the chain does not record."),
    sentence("The chain records no retirement with this number."),
    sentence("The account retired what it held."),
    sentence("The node does not have the transaction of this retirement."),
    sentence("The retirement is recorded in block %(block)s."),
    sentence("Block %(block)s is final."),
    sentence("Block %(block)s is not final yet."),
    sentence("%(statements)s statements stand behind it; the bundle proves them all."),
    # oracle/assessment.py, oracle/corroboration.py, oracle/pipeline.py: why a day is held, piece by piece
    sentence("incomplete: %(missing)s of %(slots)s slots have no reading"),
    sentence("suspect: %(slots)s slots (%(rules)s)"),
    sentence("at most %(most)s may be"),
    sentence("contradicted: %(reason)s"),
    sentence("uncorroborated: %(reason)s"),
    sentence("%(reason)s (%(station)s, modelled)"),
    sentence("%(reason)s (%(station)s, measured)"),
    sentence("day energy is %(ratio)s of what its own history leads to expect"),
    sentence("day energy is %(ratio)s of the assumed performance"),
    sentence("%(low)s to %(high)s is usual"),
    sentence("%(slots)s slots are above what a clear sky allows"),
    sentence("correlation with irradiance is %(correlation)s"),
    sentence("at least %(least)s is needed"),
    sentence("there was no daylight to compare with"),
    sentence("irradiance and readings together cover %(slots)s of %(daylight)s daylight slots"),
    sentence("%(share)s are needed"),
    sentence("%(share)s of the irradiance lies outside the QCRad limits"),
    sentence("at most %(share)s may"),
    sentence(
        "clock shift: readings fit irradiance %(minutes)s min late (correlation %(best)s instead of %(correlation)s)"
    ),
    sentence(
        "clock shift: readings fit irradiance %(minutes)s min early (correlation %(best)s instead of %(correlation)s)"
    ),
    sentence("day energy %(ratio)s of expected, correlation %(correlation)s"),
    sentence("no history of its own yet, against an assumed performance"),
    sentence("no irradiance was delivered for this day"),
    sentence("no independent check is known for this technology"),
    sentence("sum_check: %(says)s (%(figures)s)"),
    sentence("high: %(says)s (%(figures)s)"),
    sentence("low: %(says)s (%(figures)s)"),
    # oracle/balance.py
    sentence("no readings of device %(devices)s"),
    sentence("all meters have readings in %(slots)s of %(day)s slots only"),
    sentence("only %(energy)s Wh went in"),
    sentence("from %(least)s Wh on it is judged"),
    sentence("balance %(name)s: %(in_)s Wh went in and %(out)s Wh came out, a loss of %(loss)s"),
    # oracle/pipeline.py
    sentence("missing: no reading of this day, though there are some before and after it"),
    sentence("copied: every reading is that of device %(others)s"),
    sentence("conflict: different values were delivered for %(count)s slots (%(slots)s)"),
    sentence("`review choose` takes those of one file"),
    sentence("untimely: device %(device)s is active only from %(day)s"),
    sentence("untimely: this day is not over yet"),
    # oracle/drift.py
    sentence("drift: the energy of %(days)s days up to this one is %(ratio)s of what its own history leads to expect"),
    sentence("an earlier decision was about other figures and does not count"),
    sentence("its device is no longer in the sites file, or its raw files no longer speak of this day"),
    sentence("accepted by %(reviewer)s: %(reason)s"),
    sentence("edited by %(reviewer)s: %(reason)s"),
    sentence("rejected by %(reviewer)s: %(reason)s"),
    sentence("its batch is revoked on the chain"),
    # whatever a checker could not read: its own words follow, as they are
    sentence("Cannot check: %(problem)s."),
)
#: Values that are words themselves.
WORDS = (
    sentence("block %(block)s"), sentence("certificate"), sentence("retirement"), sentence("outcome"), sentence("outcome retirement"),
    sentence("final"), sentence("interim evidence"), sentence("give --rpc or --anchor"),
    sentence("the archive's manifest is the signed one"), sentence("the archive's manifest was left out"),
    # what a rule does
    sentence("missing"), sentence("zero"), sentence("suspect"), sentence("hold"), sentence("note"),
)  # fmt: skip
#: What each rule of oracle/vee.py says, by its name.
RULES = {
    "missing": sentence("no reading"),
    "register_break": sentence("the register was reset or its meter exchanged"),
    "within_tare": sentence("within the meter's tare band; counts as 0 Wh"),
    "duplicate_conflict": sentence("two different readings"),
    "source_suspect": sentence("marked as doubtful by the file itself"),
    "negative": sentence("negative beyond the tare band"),
    "above_capacity": sentence("above what the device can produce"),
    "night_generation": sentence("generation with the sun below the horizon"),
    "frozen": sentence("the same value again and again"),
    "interpolated": sentence("values on a straight line"),
    "spike": sentence("far above the day's third highest"),
    "sum_check": sentence("the intervals do not add up to what the register moved by"),
    "high": sentence("far above the device's usual day"),
    "low": sentence("far below the device's usual day"),
    "source_estimated": sentence("estimated or substituted by the file itself"),
    "clipped": sentence("a plateau at the day's highest, as of an inverter at its limit"),
    "outlier": sentence("far off the readings around it"),
    "zero_day": sentence("no energy all day"),
}
#: What a rule's figures are, by the names that it gives them.
FIGURES = {
    "third_highest_wh": sentence("third highest, Wh"),
    "tolerance_per_mille": sentence("tolerance, per mille"),
    "intervals_wh": sentence("sum of the intervals, Wh"),
    "register_wh": sentence("by the register, Wh"),
    "tolerance_wh": sentence("tolerance, Wh"),
    "day_wh": sentence("the day, Wh"),
    "usual_wh": sentence("a usual day, Wh"),
    "percent": sentence("percent of it"),
    "tare_wh": sentence("tare band, Wh"),
    "night_elevation_deg": sentence("night from a sun below, degrees"),
    "limit_wh": sentence("limit, Wh"),
    "capacity_percent": sentence("percent of the capacity"),
}
_NAMED = {**RULES, **FIGURES}
_NAMES = re.compile(r"(?:[a-z_]+ -?\d+(?:\.\d+)?(?:, |$))+")


@cache
def _patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    return tuple(
        (text, re.compile(re.sub(r"%\\\((\w+)\\\)s", r"(?P<\1>.+)", re.escape(text)), re.DOTALL))
        for text in (*SENTENCES, *WORDS, *RULES.values())
    )


def in_words(reason: str) -> str:
    """A checker's reason in the reader's language, as far as it is known."""
    if language() == "en":
        return reason
    for text, pattern in _patterns():
        found = pattern.fullmatch(reason)
        if found:
            return str(gettext(text, **{name: in_words(value) for name, value in found.groupdict().items()}))
    return _named(reason) or decimal(reason)


def _named(reason: str) -> str | None:
    """Rules or figures with their numbers, as "frozen 8, spike 4", in words; None for anything else."""
    pairs = [part.split(" ") for part in reason.split(", ")] if _NAMES.fullmatch(reason) else []
    if not pairs or any(name not in _NAMED for name, _ in pairs):
        return None
    return "; ".join(f"{gettext(_NAMED[name])}: {decimal(number)}" for name, number in pairs)


def in_pieces(reason: str) -> str:
    """The reasons of a day, which stand side by side, each as :func:`in_words` tells it."""
    return "; ".join(in_words(piece) for piece in reason.split("; "))


def language_of_pieces(reason: str) -> str:
    """The language that :func:`in_pieces` begins in."""
    return language_of(reason.split("; ")[0])


def language_of(reason: str) -> str:
    """The language that :func:`in_words` tells a reason in."""
    known = _named(reason) or any(pattern.fullmatch(reason) for _, pattern in _patterns())
    return language() if known else "en"
