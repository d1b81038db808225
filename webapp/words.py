"""How figures, times and verdicts are written, in the reader's language: template filters and fixed texts."""

from __future__ import annotations

import re
import time
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from babel.numbers import get_decimal_symbol
from flask_babel import format_date, format_decimal, format_timedelta, get_locale, gettext, lazy_gettext, ngettext

from oracle.domain import DeviceKind, Verdict

LONGEST_TEXT = 240
_INVISIBLE = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]+")

#: How a verdict looks: style and icon. "cannot check" has both of its own.
STYLES = {
    Verdict.VERIFIED.value: ("ok", "check"),
    Verdict.NOT_FINAL.value: ("wait", "clock"),
    Verdict.CANNOT_CHECK.value: ("unknown", "question"),
    Verdict.NOT_FOUND.value: ("warn", "search"),
    Verdict.REVOKED.value: ("bad", "ban"),
    Verdict.MISMATCH.value: ("bad", "cross"),
    "unchecked": ("none", "dash"),
}

VERDICTS = {
    Verdict.VERIFIED.value: lazy_gettext("Verified"),
    Verdict.NOT_FINAL.value: lazy_gettext("Not final yet"),
    Verdict.CANNOT_CHECK.value: lazy_gettext("Cannot check"),
    Verdict.NOT_FOUND.value: lazy_gettext("Not found"),
    Verdict.REVOKED.value: lazy_gettext("Revoked"),
    Verdict.MISMATCH.value: lazy_gettext("Altered"),
    "unchecked": lazy_gettext("Not checked yet"),
}

HEADLINES = {
    Verdict.VERIFIED.value: lazy_gettext("The readings shown here are exactly the ones that were notarized."),
    Verdict.NOT_FINAL.value: lazy_gettext(
        "Everything agrees so far, but the transaction is not final yet: look again in a while."
    ),
    Verdict.CANNOT_CHECK.value: lazy_gettext(
        "Something needed for the check could not be reached. This says nothing about the notarization itself."
    ),
    Verdict.NOT_FOUND.value: lazy_gettext("There is no notarization of this statement on the chain."),
    Verdict.REVOKED.value: lazy_gettext("This batch was revoked: nothing more is issued from it."),
    Verdict.MISMATCH.value: lazy_gettext("What is shown here is not what was notarized: something was altered since."),
}

PARTS = {
    "data": lazy_gettext("Data"),
    "inclusion": lazy_gettext("Inclusion"),
    "finality": lazy_gettext("Finality"),
    "authority": lazy_gettext("Witnesses"),
}

QUESTIONS = {
    "data": lazy_gettext("Do the readings match their hash?"),
    "inclusion": lazy_gettext("Is that hash in the notarized root?"),
    "finality": lazy_gettext("Is the transaction final?"),
    "authority": lazy_gettext("Were the signers authorised at that block?"),
}

#: One plain sentence for each question and answer; what the checker itself said stands beside it.
SENTENCES = {
    ("data", "verified"): lazy_gettext(
        "The profile hash, computed again from the readings, is the one in the statement."
    ),
    ("data", "mismatch"): lazy_gettext("The archived readings are not the ones that were stated."),
    ("data", "cannot check"): lazy_gettext("The readings are not at hand, so their hash could not be computed."),
    ("data", "not found"): lazy_gettext("The archive holds no readings for this statement."),
    ("inclusion", "verified"): lazy_gettext("The statement leads to the root that stands on the chain."),
    ("inclusion", "mismatch"): lazy_gettext("The statement does not lead to the notarized root."),
    ("inclusion", "cannot check"): lazy_gettext("The path to the root could not be followed."),
    ("inclusion", "not found"): lazy_gettext("The chain knows no notarization of this root."),
    ("inclusion", "revoked"): lazy_gettext("The root is on the chain, but it was revoked."),
    ("finality", "verified"): lazy_gettext("The block of the transaction is final."),
    ("finality", "not final"): lazy_gettext("The transaction is in a block that is not final yet."),
    ("finality", "mismatch"): lazy_gettext("The transaction does not say what the notarization says."),
    ("finality", "cannot check"): lazy_gettext("The node did not answer, so finality is unknown."),
    ("finality", "not found"): lazy_gettext("No transaction notarizes this root."),
    ("authority", "verified"): lazy_gettext("Enough signers of the epoch in force signed this very batch."),
    ("authority", "mismatch"): lazy_gettext("The signatures are not those of enough authorised signers."),
    ("authority", "cannot check"): lazy_gettext("The signer set could not be read."),
    ("authority", "not found"): lazy_gettext("There is no notarization, and so no signatures."),
}

#: The same for a retirement, which is judged together with the readings behind it; whatever is not here is said as above.
OF_RETIREMENT = {
    "headlines": {
        "verified": lazy_gettext(
            "The chain records this retirement as it is stated, and the readings behind it are the ones that were notarized."
        ),
        "mismatch": lazy_gettext(
            "What is stated is not what the chain records, or the readings behind it were altered since."
        ),
        "not found": lazy_gettext("The chain records no such retirement, or not what stands behind it."),
        "revoked": lazy_gettext("The chain records this retirement, but a batch behind it was revoked."),
    },
    "questions": {
        "data": lazy_gettext("Does it say what the chain records, and do the readings behind it match their hashes?"),
        "inclusion": lazy_gettext("Is the retirement on the chain, and are those hashes in notarized roots?"),
        "finality": lazy_gettext("Are the transactions final?"),
        "authority": lazy_gettext("Did the account hold what it retired, and were the signers authorised?"),
    },
    "sentences": {
        ("data", "verified"): lazy_gettext("The statement and all readings behind it agree with what the chain records."),
        ("data", "mismatch"): lazy_gettext("The statement, or readings behind it, do not agree with what the chain records."),
        ("inclusion", "verified"): lazy_gettext("The retirement and every root behind it stand on the chain."),
        ("inclusion", "not found"): lazy_gettext("The chain does not have the retirement, or not a root behind it."),
        ("inclusion", "revoked"): lazy_gettext("A root behind the retirement was revoked."),
        ("finality", "verified"): lazy_gettext("The blocks of all transactions are final."),
        ("finality", "not final"): lazy_gettext("A transaction is in a block that is not final yet."),
        ("authority", "verified"): lazy_gettext("The account held what it retired, and enough signers in force signed every batch."),
    },
}  # fmt: skip

STATES = {
    "metered": lazy_gettext("Metered"),
    "held": lazy_gettext("Held for review"),
    "accepted": lazy_gettext("Accepted"),
    "sealed": lazy_gettext("Sealed"),
    "notarized": lazy_gettext("Notarized"),
    "issued": lazy_gettext("Issued"),
    "final": lazy_gettext("Issued and final"),
    "rejected": lazy_gettext("Rejected"),
}

SLOTS = {
    "measured": lazy_gettext("Measured"),
    "estimated": lazy_gettext("Estimated"),
    "edited": lazy_gettext("Edited"),
    "coarse": lazy_gettext("Coarser source"),
    "suspect": lazy_gettext("Suspect"),
    "missing": lazy_gettext("Missing"),
}

IRRADIANCE = {"measured": lazy_gettext("measured irradiance"), "modelled": lazy_gettext("modelled irradiance")}
BASES = {"known": lazy_gettext("known"), "fitted": lazy_gettext("fitted"), "assumed": lazy_gettext("assumed")}
CORROBORATION = {
    "corroborated": lazy_gettext("Corroborated"),
    "uncorroborated": lazy_gettext("Uncorroborated"),
    "contradicted": lazy_gettext("Contradicted"),
}
KINDS = {
    DeviceKind.GENERATION: lazy_gettext("generation"),
    DeviceKind.CONSUMPTION: lazy_gettext("consumption"),
    DeviceKind.STORAGE_CHARGE: lazy_gettext("storage, charging"),
    DeviceKind.STORAGE_DISCHARGE: lazy_gettext("storage, discharging"),
}
JOBS = {
    "queued": lazy_gettext("Waiting"),
    "running": lazy_gettext("Running"),
    "done": lazy_gettext("Done"),
    "failed": lazy_gettext("Did not finish"),
}
LANGUAGE_NAMES = {"en": "English", "es": "Español", "ru": "Русский"}

CONTRACTS = {
    "AccessManager": lazy_gettext("Access manager"),
    "DeviceRegistry": lazy_gettext("Device registry"),
    "Notary": lazy_gettext("Notary"),
    "EnergyCertificate": lazy_gettext("Energy certificates"),
    "EmissionFactors": lazy_gettext("Emission factors"),
    "MitigationOutcome": lazy_gettext("Mitigation outcomes"),
    "ERC1888Adapter": lazy_gettext("View for ERC-1888 tools"),
}

#: What the node says of the code at a contract's address: word, style and icon.
CODES = {
    "matches": (lazy_gettext("Code matches"), "ok", "check"),
    "differs": (lazy_gettext("Code differs from what was deployed"), "bad", "cross"),
    "missing": (lazy_gettext("No code at this address"), "bad", "cross"),
    "unknown": (lazy_gettext("Code cannot be checked"), "unknown", "question"),
}

#: Events and calls in words.
ACTS = {
    "DeviceRegistered": lazy_gettext("Device registered"),
    "AccountSet": lazy_gettext("Account of a device set"),
    "CapacitySet": lazy_gettext("Capacity set"),
    "DeviceDeactivated": lazy_gettext("Device deactivated"),
    "CertificateBound": lazy_gettext("Certificate contract bound"),
    "Notarized": lazy_gettext("Batch notarized"),
    "Revoked": lazy_gettext("Batch revoked"),
    "SignersSet": lazy_gettext("Witnesses appointed"),
    "SignerRemoved": lazy_gettext("Witness removed"),
    "Issued": lazy_gettext("Certificate issued"),
    "Settled": lazy_gettext("Debt settled"),
    "SkippedCertified": lazy_gettext("Skipped: certified already"),
    "SkippedRefused": lazy_gettext("Skipped: receiver refused"),
    "Corrected": lazy_gettext("Statement corrected"),
    "DebtIncurred": lazy_gettext("Debt incurred"),
    "Consumed": lazy_gettext("Certificates consumed"),
    "TransferSingle": lazy_gettext("Transfer"),
    "TransferBatch": lazy_gettext("Transfer of several"),
    "Retired": lazy_gettext("Retired"),
    "RetiredBatch": lazy_gettext("Several retired"),
    "Converted": lazy_gettext("Converted to a mitigation outcome"),
    "LeviesTaken": lazy_gettext("Levies taken"),
    "FactorPublished": lazy_gettext("Emission factor published"),
    "FactorSuperseded": lazy_gettext("Emission factor superseded"),
    "ApprovalForAll": lazy_gettext("Allowance changed"),
    "NonceCancelled": lazy_gettext("Signature cancelled"),
    "ConverterBound": lazy_gettext("Converting contract bound"),
    "NotarizingPaused": lazy_gettext("Notarizing stopped"),
    "NotarizingResumed": lazy_gettext("Notarizing started again"),
    "IssuingPaused": lazy_gettext("Issuing stopped"),
    "IssuingResumed": lazy_gettext("Issuing started again"),
    "Authorised": lazy_gettext("Authorisation recorded"),
    "StateAdvanced": lazy_gettext("State of an authorisation recorded"),
    "RoleGranted": lazy_gettext("Role granted"),
    "RoleRevoked": lazy_gettext("Role taken back"),
    "RoleLabel": lazy_gettext("Role named"),
    "TargetFunctionRoleUpdated": lazy_gettext("Function given to a role"),
    "OperationScheduled": lazy_gettext("Act planned"),
    "OperationExecuted": lazy_gettext("Planned act executed"),
    "OperationCanceled": lazy_gettext("Plan cancelled"),
    "register": lazy_gettext("Register a device"),
    "notarize": lazy_gettext("Notarize a batch"),
    "revoke": lazy_gettext("Revoke a batch"),
    "issue": lazy_gettext("Issue a certificate"),
    "issueMany": lazy_gettext("Issue certificates"),
    "issueAndRetire": lazy_gettext("Issue and retire"),
    "correct": lazy_gettext("Correct a statement"),
    "settleDebt": lazy_gettext("Settle a debt"),
    "safeTransferFrom": lazy_gettext("Transfer"),
    "safeBatchTransferFrom": lazy_gettext("Transfer of several"),
    "retire": lazy_gettext("Retire"),
    "retireBatch": lazy_gettext("Retire several"),
    "retireBySig": lazy_gettext("Retire by signature"),
    "retireBatchBySig": lazy_gettext("Retire several by signature"),
    "convert": lazy_gettext("Convert to a mitigation outcome"),
    "publish": lazy_gettext("Publish an emission factor"),
    "supersede": lazy_gettext("Supersede an emission factor"),
    "setAccount": lazy_gettext("Set the account of a device"),
    "setCapacity": lazy_gettext("Set the capacity of a device"),
    "deactivate": lazy_gettext("End a device"),
    "setSigners": lazy_gettext("Set witnesses"),
    "removeSigner": lazy_gettext("Remove a witness"),
    "pause": lazy_gettext("Stop"),
    "unpause": lazy_gettext("Start again"),
    "authorise": lazy_gettext("Record an authorisation"),
    "recordFirstTransfer": lazy_gettext("Record the first transfer"),
    "recordAdjustmentPending": lazy_gettext("Record that an adjustment is pending"),
    "recordAdjustment": lazy_gettext("Record the adjustment"),
    "grantRole": lazy_gettext("Grant role"),
    "revokeRole": lazy_gettext("Take back role"),
    "schedule": lazy_gettext("Plan"),
    "execute": lazy_gettext("Execute"),
    "cancel": lazy_gettext("Cancel the plan"),
    "setApprovalForAll": lazy_gettext("Change an allowance"),
}


def figures(told: dict[str, str]) -> list[str]:
    """The figures of a corroboration that a reader can use, in words and units."""
    shown = [
        ("energy_ratio", gettext("energy %(figure)s of what was expected", figure="{}")),
        ("correlation", gettext("correlation %(figure)s", figure="{}")),
        ("clear_sky_index", gettext("clear-sky index %(figure)s", figure="{}")),
        ("coverage", gettext("coverage %(figure)s", figure="{}")),
        ("lag_minutes", gettext("best lag %(figure)s min", figure="{}")),
    ]
    return [
        words.replace("{}", decimal(tame(told[key], 20)))
        for key, words in shown
        if told.get(key) not in (None, "", "None")
    ]


def act(name: str | None) -> str:
    """An event or a call in words; the contract's own name where there are none."""
    return str(ACTS.get(name or "", name or gettext("Call")))


def moved(name: str, contract: str, args: dict[str, Any]) -> str:
    """How much an event moved, in kWh or kg CO2e; empty for one that moves nothing or several things."""
    field = {
        "TransferSingle": "value",
        "Retired": "amount",
        "Issued": "energyWh",
        "Settled": "amountWh",
        "Converted": "co2eG",
    }.get(name)
    try:
        amount = int(args[field]) if field else None
    except (KeyError, TypeError, ValueError):
        amount = None
    if amount is None:
        return ""
    return f"{kwh(amount)} kWh" if contract == "EnergyCertificate" else f"{mass(amount)} kg CO₂e"


def kwh(energy_wh: int | None) -> str:
    """Wh as kWh with three decimals and the reader's marks."""
    return "–" if energy_wh is None else str(format_decimal(Decimal(energy_wh) / 1000, "#,##0.000"))


def decimal(figure: str) -> str:
    """A figure as a checker wrote it ("0.815", "80%"), with the reader's decimal mark; any other text as it is."""
    if not re.fullmatch(r"-?[0-9]+\.[0-9]+(?: ?%)?", figure):
        return figure
    return figure.replace(".", get_decimal_symbol(get_locale() or "en"))


def number(value: int | None) -> str:
    return "–" if value is None else str(format_decimal(value))


def mass(grams: int | None) -> str:
    """Grams as kg with three decimals."""
    return "–" if grams is None else str(format_decimal(Decimal(grams) / 1000, "#,##0.000"))


def ether(wei: str | int | None) -> str:
    """Wei in the chain's currency, every digit that counts."""
    return "–" if wei is None else str(format_decimal(Decimal(int(wei)) / 10**18, "0.##################"))


def brief_ether(wei: str | int | None) -> str:
    """The same to six places, for lists; anything that is not nothing stays more than nothing."""
    if wei is not None and 0 < int(wei) < 10**12:
        return f"< {format_decimal(Decimal(10**12) / 10**18, '0.######')}"
    return "–" if wei is None else str(format_decimal(Decimal(int(wei)) / 10**18, "0.######"))


def moment(seconds: int | float) -> datetime:
    """The time in UTC; what lies beyond the year 9999, which a chain can carry, as the last second of it."""
    return datetime.fromtimestamp(min(seconds, 253_402_300_799), UTC)


def utc(seconds: int | float | None) -> str:
    """``2016-07-14 20:14:09 UTC``, the same in every language."""
    return "–" if seconds is None else moment(seconds).strftime("%Y-%m-%d %H:%M:%S UTC")


def iso(seconds: int | float) -> str:
    return moment(seconds).strftime("%Y-%m-%dT%H:%M:%SZ")


def day(seconds: int | None) -> str:
    """The UTC day in the reader's words: ``14 July 2016``."""
    return "–" if seconds is None else _day(str(get_locale() or "en"), moment(seconds).date())


@lru_cache(maxsize=4_096)
def _day(_locale: str, shown: date) -> str:
    return str(format_date(shown, "long"))


def isoday(seconds: int | None) -> str:
    return "–" if seconds is None else moment(seconds).strftime("%Y-%m-%d")


def days_of(start: int, end: int) -> str:
    """First and last UTC day of a time from ``start`` up to ``end``, which it does not include; "–" where none is given."""
    first, last = isoday(start), isoday(max(start, end - 1))
    return "–" if not end else first if first == last else f"{first} – {last}"


def age(seconds: int | float | None) -> str:
    """How long ago, or ahead."""
    if seconds is None:
        return "–"
    delta = seconds - time.time()
    return gettext("just now") if abs(delta) < 5 else str(format_timedelta(delta, add_direction=True))


def period(start: int, duration: int) -> str:
    """A whole UTC day by its name, several by the first and the last of them, anything else from – to."""
    if start % 86_400 == 0 and duration % 86_400 == 0 and duration:
        return day(start) if duration == 86_400 else f"{isoday(start)} – {isoday(start + duration - 1)}"
    return f"{utc(start)[:16]} – {utc(start + duration)[:16]} UTC"


def hours(seconds: int) -> str:
    if seconds % 86_400 == 0:
        return ngettext("%(num)d day", "%(num)d days", seconds // 86_400)
    if seconds % 3_600 == 0:
        return ngettext("%(num)d hour", "%(num)d hours", seconds // 3_600)
    return ngettext("%(num)d minute", "%(num)d minutes", seconds // 60)


def short(value: str | None) -> str:
    """A hash or address, shortened in the middle."""
    return "–" if not value else value if len(value) <= 14 else f"{value[:6]}…{value[-4:]}"


def token_name(token: str, kind: str = "certificates") -> str:
    """A token id in few characters: ``1-20160714`` is device 1's day, ``1-2016-US-0`` an outcome by factor 1."""
    value = int(token, 16)
    if kind == "outcomes":
        country = (value >> 192 & 0xFFFF).to_bytes(2, "big").decode("ascii", "replace")
        return f"{value >> 224}-{value >> 208 & 0xFFFF}-{tame(country)}-{value >> 128 & (1 << 64) - 1}"
    start, duration = value >> 152 & (1 << 40) - 1, value >> 120 & (1 << 32) - 1
    whole_day = start % 86_400 == 0 and duration == 86_400
    return f"{value >> 192}-{moment(start).strftime('%Y%m%d' if whole_day else '%Y%m%dT%H%M')}"


def tame(value: Any, longest: int = LONGEST_TEXT) -> str:
    """A text off the chain: no control or direction characters, and no longer than ``longest``. Escaping is the template's."""
    text = _INVISIBLE.sub(" ", str(value))
    return text if len(text) <= longest else text[:longest].rstrip() + "…"


def technology(fuel_code: int, technology_code: int) -> str:
    """The EECS codes in words where they are well known, else the codes."""
    fuel = str(fuel_code).zfill(8)
    for prefix, name in (
        ("010401", gettext("Solar")), ("010501", gettext("Wind")), ("010502", gettext("Hydro")), ("010503", gettext("Marine")),
    ):  # fmt: skip
        if fuel.startswith(prefix):
            return (
                gettext("Photovoltaic")
                if prefix == "010401" and str(technology_code).zfill(6).startswith("0101")
                else name
            )
    return f"F{fuel}"


def language() -> str:
    locale = get_locale()
    return str(locale.language) if locale else "en"


def month_of(first: Any) -> str:
    """A month as it stands in a sentence: "October 2016", "octubre 2016"."""
    return str(format_date(first, "LLLL yyyy"))


def month(first: Any) -> str:
    """The same standing alone."""
    return month_of(first).capitalize()


def weekdays() -> list[str]:
    locale = get_locale()
    names = locale.days["stand-alone"]["narrow"] if locale else {}
    return [names.get(i, "") for i in range(7)]
