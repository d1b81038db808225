"""Validation: what is wrong with a device's slots, as named masks over the device-day x slot matrix.

Every rule is a pure function from :class:`SlotMatrix` to a boolean mask of the same shape. A further rule is one
function and one line in ``RULES``. docs/validation.md lists them with thresholds and sources.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from .domain import MAX_SLOT_WH, SLOT_SECONDS, SLOTS_PER_DAY, Profile, Quality
from .formats import DaySlots
from .formats.slots import MICRO_J_PER_WH
from .sites import DeviceConfig, Policy, ValidationPolicy
from .sun import sun_day
from .units import whole_wh


@dataclass(frozen=True, slots=True)
class SlotMatrix:
    """n device-days as arrays of shape (n, 96), or (n, 1) where a figure belongs to the device.

    ``micro_j`` int64 microjoules, 0 where not ``present``; ``conflict`` where two values were delivered;
    ``sun_elevation_deg`` geometric, at the slot's middle (the highest within one reading, where a reading is coarser);
    ``reading_seconds`` span of one reading; ``tare_micro_j`` and ``limit_micro_j`` per reading.
    """

    micro_j: np.ndarray
    present: np.ndarray
    conflict: np.ndarray
    sun_elevation_deg: np.ndarray
    is_solar: np.ndarray
    reading_seconds: np.ndarray
    tare_micro_j: np.ndarray
    limit_micro_j: np.ndarray


def slot_matrix(days: Sequence[tuple[DeviceConfig, DaySlots]], policy: ValidationPolicy) -> SlotMatrix:
    """Lay device-days out as one matrix, a row each, in the order given."""
    present = np.array([[value is not None for value in slots.micro_j] for _, slots in days], dtype=bool)
    micro_j = np.array([[value or 0 for value in slots.micro_j] for _, slots in days], dtype=np.int64)
    conflict = np.zeros_like(present)
    elevation = np.empty(present.shape)
    for row, (device, slots) in enumerate(days):
        conflict[row, sorted(slots.conflicts)] = True
        site, span = device.site, slots.reading_seconds // SLOT_SECONDS
        sun = sun_day(site.latitude, site.longitude, site.altitude_m, slots.start).elevation
        elevation[row] = np.repeat(sun.reshape(-1, span).max(axis=1), span)
    seconds = np.array([[slots.reading_seconds] for _, slots in days], dtype=np.int64)
    watt_seconds = [device.capacity_w * slots.reading_seconds for device, slots in days]
    return SlotMatrix(
        micro_j=micro_j,
        present=present,
        conflict=conflict,
        sun_elevation_deg=elevation,
        is_solar=np.array([[device.is_solar] for device, _ in days]),
        reading_seconds=seconds,
        tare_micro_j=_column(ws * 1_000 * policy.tare_per_mille for ws in watt_seconds),
        limit_micro_j=_column(ws * 10_000 * policy.capacity_percent for ws in watt_seconds),
    )


def _column(values: Iterable[int]) -> np.ndarray:
    # Readings are below 2**62 microjoules, so a higher bound is none.
    return np.array([[min(value, 1 << 62)] for value in values], dtype=np.int64)


# -- rules: each a pure function from matrix to mask ------------------------------------------------


def missing(matrix: SlotMatrix, policy: ValidationPolicy) -> np.ndarray:
    """Slots for which no file holds a value. A UTC day has 96 whatever local clocks do. Source: docs/protocol.md."""
    return ~matrix.present


def duplicate_conflict(matrix: SlotMatrix, policy: ValidationPolicy) -> np.ndarray:
    """Slots for which two different values were delivered, in one file or in several. No threshold: exact integers."""
    return matrix.conflict & matrix.present


def night(matrix: SlotMatrix, policy: ValidationPolicy) -> np.ndarray:
    """Slots of solar devices during which the sun does not rise at all.

    Sun below ``night_elevation_deg`` (-2.5) at the slot's middle: half a slot moves it by at most 1.9 degrees,
    refraction lifts it by 0.6. Source: pvlib solar position (NREL SPA), geometric.
    """
    return matrix.is_solar & (matrix.sun_elevation_deg < policy.night_elevation_deg)


def within_tare(matrix: SlotMatrix, policy: ValidationPolicy) -> np.ndarray:
    """Slots whose value is the meter's own noise and counts as 0 Wh.

    Negative, or positive at night, by at most ``tare_per_mille`` (5) of capacity x reading. Source: docs/protocol.md.
    """
    small = np.abs(matrix.micro_j) <= matrix.tare_micro_j
    return matrix.present & small & ((matrix.micro_j < 0) | (night(matrix, policy) & (matrix.micro_j > 0)))


def negative(matrix: SlotMatrix, policy: ValidationPolicy) -> np.ndarray:
    """Slots more negative than the tare band: a device measures one flow in one direction. Source: docs/protocol.md."""
    return matrix.present & (matrix.micro_j < -matrix.tare_micro_j)


def above_capacity(matrix: SlotMatrix, policy: ValidationPolicy) -> np.ndarray:
    """Slots above ``capacity_percent`` (110) of capacity x reading, the bound that the contracts also hold."""
    return matrix.present & (matrix.micro_j > matrix.limit_micro_j)


def night_generation(matrix: SlotMatrix, policy: ValidationPolicy) -> np.ndarray:
    """Slots in which a solar device generates beyond the tare band at night (see :func:`night`)."""
    return matrix.present & night(matrix, policy) & (matrix.micro_j > matrix.tare_micro_j)


def frozen(matrix: SlotMatrix, policy: ValidationPolicy) -> np.ndarray:
    """Slots in a run of at least ``frozen_slots`` (4: one hour) equal values of a solar device above the tare band.

    Readings of microwatt grain do not repeat by chance: in 10,480 slots of SERF East and West no two
    neighbours above tare are equal. Zeros at night are no finding. 0 turns the rule off, as it must be
    for meters that count in coarse steps. A run is not followed over midnight. Cf. pvanalytics.quality.gaps.stale_values_diff; exact here.
    """
    run = policy.frozen_slots
    mask = np.zeros_like(matrix.present)
    if run < 2:
        return mask
    live = (
        matrix.is_solar
        & matrix.present
        & (matrix.micro_j > matrix.tare_micro_j)
        & (matrix.reading_seconds == SLOT_SECONDS)
    )
    equal = (matrix.micro_j[:, 1:] == matrix.micro_j[:, :-1]) & live[:, 1:] & live[:, :-1]
    for first in range(SLOTS_PER_DAY - run + 1):
        whole = equal[:, first : first + run - 1].all(axis=1)
        mask[whole, first : first + run] = True
    return mask


class Effect(str, Enum):
    """What a rule does to a slot: it is absent, counts as zero, or is suspect."""

    MISSING = "missing"
    ZERO = "zero"
    SUSPECT = "suspect"


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of the report: its ``name``, its mask, its effect and the sentence that pages show."""

    name: str
    mask: Callable[[SlotMatrix, ValidationPolicy], np.ndarray]
    effect: Effect
    says: str


RULES: tuple[Rule, ...] = (
    Rule("missing", missing, Effect.MISSING, "no reading"),
    Rule("within_tare", within_tare, Effect.ZERO, "within the meter's tare band; counts as 0 Wh"),
    Rule("duplicate_conflict", duplicate_conflict, Effect.SUSPECT, "two different readings"),
    Rule("negative", negative, Effect.SUSPECT, "negative beyond the tare band"),
    Rule("above_capacity", above_capacity, Effect.SUSPECT, "above what the device can produce"),
    Rule("night_generation", night_generation, Effect.SUSPECT, "generation with the sun below the horizon"),
    Rule("frozen", frozen, Effect.SUSPECT, "the same value again and again"),
)


# -- reports ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RuleFinding:
    """A rule that fired on one device-day: the slots (0 to 95) and the least and greatest reading there, in Wh."""

    rule: str
    effect: Effect
    says: str
    slots: tuple[int, ...]
    least_wh: float | None
    greatest_wh: float | None

    def to_json(self) -> dict[str, Any]:
        return {
            "rule": self.rule,
            "effect": self.effect.value,
            "says": self.says,
            "slots": list(self.slots),
            "least_wh": self.least_wh,
            "greatest_wh": self.greatest_wh,
        }


@dataclass(frozen=True, slots=True)
class DayReport:
    """What validation found on one device-day. Counts are of slots, energies whole watt-hours."""

    device_id: int
    start: int
    measured_slots: int
    missing_slots: int
    tare_zeroed_slots: int
    suspect_slots: int
    energy_wh: int
    certified_wh: int
    findings: tuple[RuleFinding, ...]

    @property
    def complete(self) -> bool:
        """Whether all 96 slots were measured."""
        return self.measured_slots == SLOTS_PER_DAY

    def to_json(self) -> dict[str, Any]:
        return {
            "device_id": self.device_id,
            "start": self.start,
            "measured_slots": self.measured_slots,
            "missing_slots": self.missing_slots,
            "tare_zeroed_slots": self.tare_zeroed_slots,
            "suspect_slots": self.suspect_slots,
            "complete": self.complete,
            "energy_wh": self.energy_wh,
            "certified_wh": self.certified_wh,
            "findings": [finding.to_json() for finding in self.findings],
        }


def is_certified(quality: int) -> bool:
    """The default policy of docs/protocol.md: measured or edited, not estimated, not suspect."""
    return bool(quality & (Quality.MEASURED | Quality.EDITED)) and not quality & (Quality.ESTIMATED | Quality.SUSPECT)


def validate(days: Sequence[tuple[DeviceConfig, DaySlots]], policy: Policy) -> list[tuple[Profile, DayReport]]:
    """Profile and report of each device-day, in the order given. All must be judged by the same policy.

    Suspect slots keep their energy (0 where negative) but not the certified bit. Whole watt-hours come from the
    running sum over the UTC day, after the tare rule (docs/protocol.md, "Slots").
    """
    if not days:
        return []
    matrix = slot_matrix(days, policy.validation)
    masks = {rule.name: rule.mask(matrix, policy.validation) for rule in RULES}
    suspect = np.logical_or.reduce([masks[rule.name] for rule in RULES if rule.effect is Effect.SUSPECT])
    zeroed = np.logical_or.reduce([masks[rule.name] for rule in RULES if rule.effect is Effect.ZERO])
    counted = np.where(zeroed | ~matrix.present, 0, np.maximum(matrix.micro_j, 0))
    return [
        _day(row, device, slots, matrix, masks, suspect[row], zeroed[row], counted[row])
        for row, (device, slots) in enumerate(days)
    ]


def _day(
    row: int,
    device: DeviceConfig,
    slots: DaySlots,
    matrix: SlotMatrix,
    masks: dict[str, np.ndarray],
    suspect: np.ndarray,
    zeroed: np.ndarray,
    counted: np.ndarray,
) -> tuple[Profile, DayReport]:
    energy_wh = [min(wh, MAX_SLOT_WH) for wh in whole_wh(counted.tolist(), MICRO_J_PER_WH)]
    coarse = Quality.COARSE if slots.reading_seconds > SLOT_SECONDS else 0
    quality = [0] * SLOTS_PER_DAY
    for slot in np.flatnonzero(matrix.present[row]):
        said = slots.quality.get(int(slot), Quality(0))
        measured = Quality(0) if said & (Quality.ESTIMATED | Quality.EDITED) else Quality.MEASURED
        bits = measured | said | coarse | (Quality.SUSPECT if suspect[slot] else 0)
        quality[slot] = int(bits | (Quality.CERTIFIED if is_certified(bits) else 0))
    # A remainder can turn into a whole watt-hour only where energy arrives, so missing slots hold 0 Wh.
    profile = Profile(slots.start, tuple(energy_wh), tuple(quality))
    report = DayReport(
        device_id=device.device_id,
        start=slots.start,
        measured_slots=int(matrix.present[row].sum()),
        missing_slots=int((~matrix.present[row]).sum()),
        tare_zeroed_slots=int(zeroed.sum()),
        suspect_slots=int(suspect.sum()),
        energy_wh=sum(energy_wh),
        certified_wh=profile.certified_wh,
        findings=tuple(_findings(row, matrix, masks)),
    )
    return profile, report


def _findings(row: int, matrix: SlotMatrix, masks: dict[str, np.ndarray]) -> list[RuleFinding]:
    found = []
    for rule in RULES:
        slots = np.flatnonzero(masks[rule.name][row])
        if slots.size:
            values = (
                [round(value / MICRO_J_PER_WH, 3) for value in matrix.micro_j[row, slots].tolist()]
                if rule.effect is not Effect.MISSING
                else []
            )
            found.append(
                RuleFinding(
                    rule.name,
                    rule.effect,
                    rule.says,
                    tuple(int(slot) for slot in slots),
                    min(values, default=None),
                    max(values, default=None),
                )
            )
    return found
