"""A device as somebody asks to have it registered: what was filled in, read strictly, and the call that would register it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from flask_babel import gettext, lazy_gettext

from oracle.domain import DeviceKind, Visibility
from oracle.protocol import keccak256

from .siwe import read_address

#: The registry's grid: a quarter hour, or a multiple that divides a day.
GRANULARITIES = tuple(seconds for seconds in range(900, 86_401, 900) if 86_400 % seconds == 0)
#: An end that never comes, as the registry writes it: devices end by being deactivated.
NEVER = (1 << 40) - 1
MOST_CAPACITY_W = (1 << 56) - 1
KIND_WORDS = {
    DeviceKind.GENERATION: lazy_gettext("Generation"),
    DeviceKind.CONSUMPTION: lazy_gettext("Consumption"),
    DeviceKind.STORAGE_CHARGE: lazy_gettext("Storage, charging"),
    DeviceKind.STORAGE_DISCHARGE: lazy_gettext("Storage, discharging"),
}
VISIBILITY_WORDS = {
    Visibility.PUBLIC: lazy_gettext("Public: readings are published"),
    Visibility.PRIVATE: lazy_gettext("Private: readings stay with operator and witnesses"),
}
#: EECS codes (energy source, technology) that are asked for most, as suggestions.
CODES = (
    ("F01040100", "T010100", lazy_gettext("Photovoltaic")),
    ("F01050100", "T020000", lazy_gettext("Wind")),
    ("F01050200", "T030000", lazy_gettext("Hydro")),
)


class FormFaults(Exception):
    """What is wrong with a form. ``faults``: a sentence in the reader's language by field."""

    def __init__(self, faults: dict[str, str]):
        self.faults = faults
        super().__init__("; ".join(f"{name}: {text}" for name, text in faults.items()))


@dataclass(frozen=True, slots=True)
class Registration:
    """Everything that ``DeviceRegistry.register`` takes but the device's id, and what stands behind it.

    ``capacity_w`` in W, ``granularity`` in seconds, ``active_from`` in UTC seconds; codes without their letter; ``meter`` is the
    meter's identity, of which the chain gets the keccak256; ``evidence_hash`` the SHA-256 of a document, empty without one.
    """

    account: str
    capacity_w: int
    kind: int
    visibility: int
    country: str
    granularity: int
    fuel_code: int
    technology_code: int
    active_from: int
    grid_zone: str
    meter: str
    evidence_name: str
    evidence_hash: str
    note: str

    @classmethod
    def read(cls, form: Mapping[str, str]) -> Registration:
        """Out of a form's texts. Raises FormFaults that names every field that is wrong."""
        faults: dict[str, str] = {}

        def given(name: str) -> str:
            return str(form.get(name, "")).strip()

        def wrong(name: str, text: str) -> None:
            faults.setdefault(name, text)

        def whole(name: str, pattern: str, least: int, most: int, text: str) -> int:
            found = re.fullmatch(pattern, given(name), re.ASCII)
            value = int(found[1]) if found else -1
            if not least <= value <= most:
                wrong(name, text)
            return value

        account = given("account")
        try:
            account = read_address(account)
            fine = int(account, 16) != 0
        except ValueError:
            fine = False
        if not fine:
            wrong("account", gettext("This is not an address: 0x and 40 hex digits, capitals as they were given."))
        kinds, visibilities = "".join(map(str, map(int, KIND_WORDS))), "".join(map(str, map(int, VISIBILITY_WORDS)))
        choose = gettext("Choose one of the list.")
        code = gettext("A letter and its digits as EECS writes them, such as F01040100 and T010100.")
        if not re.fullmatch("[A-Z]{2}", given("country")):
            wrong("country", gettext("A country has two capital letters, such as ES."))
        if not re.fullmatch("[!-~]{1,16}", given("grid_zone")):
            wrong("grid_zone", gettext("1 to 16 letters, digits or signs without spaces, such as RMPA."))
        capacity_w = whole("capacity_w", r"(\d{1,17})", 1, MOST_CAPACITY_W, gettext("Whole watts, above 0."))
        kind = whole("kind", f"([{kinds}])", 1, 9, choose)
        visibility = whole("visibility", f"([{visibilities}])", 1, 9, choose)
        granularity = whole("granularity", r"(\d{3,5})", 900, 86_400, choose)
        if granularity not in GRANULARITIES:
            wrong("granularity", choose)
        fuel_code = whole("fuel_code", r"F(\d{8})", 0, 99_999_999, code)
        technology_code = whole("technology_code", r"T(\d{6})", 0, 999_999, code)
        if not 1 <= len(given("meter")) <= 200:
            wrong("meter", gettext("The meter's identity, 1 to 200 characters."))
        if given("evidence_hash") and not re.fullmatch("0x[0-9a-f]{64}", given("evidence_hash")):
            wrong("evidence_hash", gettext("A SHA-256 has 0x and 64 small hex digits; choosing the file fills it in."))
        for name, most in (("evidence_name", 200), ("note", 2_000)):
            if len(given(name)) > most:
                wrong(name, gettext("At most %(most)s characters.", most=most))
        active_from = _midnight(given("active_from"))
        if active_from is None:
            wrong("active_from", gettext("A day from 1970 on, such as 2026-07-01. It begins at 0:00 UTC."))
        if faults:
            raise FormFaults(faults)
        return cls(
            account, capacity_w, kind, visibility, given("country"), granularity, fuel_code, technology_code,
            active_from or 0, given("grid_zone"), given("meter"), given("evidence_name"), given("evidence_hash"), given("note"),
        )  # fmt: skip

    def plain(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def meter_hash(self) -> str:
        """keccak256 of the meter's identity in UTF-8, 0x text: what the registry keeps of it."""
        return "0x" + keccak256(self.meter.encode()).hex()

    def call(self) -> dict[str, Any]:
        """The struct that ``register`` takes, by the ABI's names; whole numbers as text, for scripts."""
        return {
            "account": self.account, "capacityW": str(self.capacity_w), "kind": self.kind, "visibility": self.visibility,
            "country": "0x" + self.country.encode().hex(), "granularity": self.granularity, "fuelCode": self.fuel_code,
            "technologyCode": self.technology_code, "activeFrom": self.active_from, "activeUntil": NEVER,
            "gridZone": "0x" + self.grid_zone.encode().ljust(16, b"\0").hex(), "meterHash": self.meter_hash,
        }  # fmt: skip


def _midnight(text: str) -> int | None:
    try:
        moment = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        return None
    return int(moment.timestamp()) if moment.year >= 1970 else None
