"""Validation: what is wrong with a device's slots, as named masks over the device-day x slot matrix.

Every rule is a pure function from :class:`SlotMatrix` to a boolean mask of the same shape. A further rule is one
function and one line in ``RULES``. docs/validation.md lists them with thresholds and sources. Rules are exact integer
arithmetic, also where pvanalytics has one in floating point: their bits enter hashes that every witness must reach.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import numpy as np

from .domain import MAX_SLOT_WH, SLOT_SECONDS, SLOTS_PER_DAY, Profile, Quality
from .formats import DaySlots, RegisterSpan
from .formats.slots import MICRO_J_PER_WH
from .policies import Policy, ValidationPolicy
from .sites import DeviceConfig
from .sun import sun_day
from .units import whole_wh


@dataclass(frozen=True, slots=True)
class SlotMatrix:
    """n device-days as arrays of shape (n, 96), or (n, 1) where a figure belongs to the device.

    ``micro_j`` int64 microjoules, 0 where not ``present``; ``conflict`` where two values were delivered; ``said`` what the
    file itself says, :class:`Quality` bits; ``broken`` where a register was reset or its meter exchanged;
    ``sun_elevation_deg`` geometric, at the slot's middle (the highest within one reading, where a reading is coarser);
    ``reading_seconds`` span of one reading; ``tare_micro_j`` and ``limit_micro_j`` per reading; ``register_micro_j`` what a
    register beside the intervals moved by over the slots of ``in_register``; ``usual_wh`` of the device's like days, 0
    where not known.
    """

    micro_j: np.ndarray
    present: np.ndarray
    conflict: np.ndarray
    sun_elevation_deg: np.ndarray
    is_solar: np.ndarray
    reading_seconds: np.ndarray
    tare_micro_j: np.ndarray
    limit_micro_j: np.ndarray
    said: np.ndarray
    broken: np.ndarray
    register_micro_j: np.ndarray
    in_register: np.ndarray
    usual_wh: np.ndarray

    @property
    def live(self) -> np.ndarray:
        """Slots of solar devices, read slot by slot, with more than tare in them: where a pattern says something."""
        return (
            self.is_solar & self.present & (self.micro_j > self.tare_micro_j) & (self.reading_seconds == SLOT_SECONDS)
        )

    @property
    def scaled(self) -> np.ndarray:
        """Readings in units of which a device's bound is about 2**40, so that products with thresholds fit 64 bits."""
        return np.clip(self.micro_j // self.unit, -(1 << 44), 1 << 44)

    @property
    def scaled_limit(self) -> np.ndarray:
        return self.limit_micro_j // self.unit

    @property
    def unit(self) -> np.ndarray:
        return np.maximum(self.limit_micro_j >> 40, 1)

    @property
    def positive_micro_j(self) -> np.ndarray:
        """Energy of the device's one flow: nothing where it is missing or negative."""
        return np.where(self.present, np.maximum(self.micro_j, 0), 0)


def slot_matrix(days: Sequence[tuple[DeviceConfig, DaySlots]], policy: ValidationPolicy) -> SlotMatrix:
    """Lay device-days out as one matrix, a row each, in the order given."""
    present = np.array([[value is not None for value in slots.micro_j] for _, slots in days], dtype=bool)
    micro_j = np.array([[value or 0 for value in slots.micro_j] for _, slots in days], dtype=np.int64)
    conflict, broken, in_register = (np.zeros_like(present) for _ in range(3))
    said = np.zeros(present.shape, dtype=np.int64)
    elevation = np.empty(present.shape)
    for row, (device, slots) in enumerate(days):
        conflict[row, sorted(slots.conflicts)] = True
        broken[row, sorted(slots.breaks)] = True
        for slot, bits in slots.quality.items():
            said[row, slot] = int(bits)
        if slots.register is not None:
            in_register[row, slots.register.first : slots.register.end] = True
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
        said=said,
        broken=broken,
        register_micro_j=_column((slots.register or _NO_REGISTER).micro_j for _, slots in days),
        in_register=in_register,
        usual_wh=_column(_usual_wh(device, slots.start) for device, slots in days),
    )


_NO_REGISTER = RegisterSpan(0, 0, 0)


def _usual_wh(device: DeviceConfig, start: int) -> int:
    return device.usual_day.wh_by_month[datetime.fromtimestamp(start, UTC).month - 1] if device.usual_day else 0


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
    equal = np.zeros_like(matrix.present)
    equal[:, 1:] = matrix.micro_j[:, 1:] == matrix.micro_j[:, :-1]
    return _runs(matrix.live, equal, policy.frozen_slots)


def _runs(live: np.ndarray, follows: np.ndarray, least: int) -> np.ndarray:
    """Live slots in runs of at least ``least``, each but the first of which ``follows`` the one before; none if below 2."""
    mask = np.zeros_like(live)
    if least < 2:
        return mask
    linked = follows[:, 1:] & live[:, 1:] & live[:, :-1]
    for first in range(SLOTS_PER_DAY - least + 1):
        whole = linked[:, first : first + least - 1].all(axis=1)
        mask[whole, first : first + least] = True
    return mask


def register_break(matrix: SlotMatrix, policy: ValidationPolicy) -> np.ndarray:
    """Slots over which a register fell beyond a rollover, or its meter was exchanged: no difference can be taken there."""
    return matrix.broken & ~matrix.present


def source_suspect(matrix: SlotMatrix, policy: ValidationPolicy) -> np.ndarray:
    """Slots that the file itself marks as not to be relied upon (status, quality flag). docs/formats.md lists the marks."""
    return matrix.present & (matrix.said & Quality.SUSPECT != 0)


def source_estimated(matrix: SlotMatrix, policy: ValidationPolicy) -> np.ndarray:
    """Slots that the file itself calls estimated or substituted; by default they are not certified."""
    return matrix.present & (matrix.said & Quality.ESTIMATED != 0)


def interpolated(matrix: SlotMatrix, policy: ValidationPolicy) -> np.ndarray:
    """Slots in a run of at least ``interpolated_slots`` (5) on one straight line, rising or falling, above the tare band.

    A logger drew the line, no sun does: between neighbouring steps less than a millionth of capacity changes. Not asked of a
    day whose readings come in steps coarser than a thousandth of capacity, where equal steps are chance.
    Cf. pvanalytics.quality.gaps.interpolation_diff; exact here.
    """
    least = policy.interpolated_slots
    if least < 3:
        return np.zeros_like(matrix.present)
    grain = np.gcd.reduce(np.where(matrix.live, matrix.micro_j, 0), axis=1, keepdims=True)
    live = matrix.live & (grain <= matrix.limit_micro_j // 1_000)
    step = np.diff(matrix.scaled, axis=1)
    straight = np.zeros_like(live)
    straight[:, 2:] = (
        (np.abs(np.diff(step, axis=1)) <= matrix.scaled_limit // 1_000_000)
        & (step[:, 1:] != 0)
        & live[:, 2:] & live[:, 1:-1] & live[:, :-2]
    )  # fmt: skip
    # A line of n slots has n - 2 joints, each over three slots.
    mask = np.zeros_like(live)
    for first in range(SLOTS_PER_DAY - least + 1):
        whole = straight[:, first + 2 : first + least].all(axis=1)
        mask[whole, first : first + least] = True
    return mask


def clipped(matrix: SlotMatrix, policy: ValidationPolicy) -> np.ndarray:
    """Slots in a run of at least ``clipped_slots`` (4) within 0.2 % of the day's highest, which is half of capacity or more.

    An inverter at its limit does this; it is no fault. Cf. pvanalytics.features.clipping.geometric; exact here.
    """
    highest = np.where(matrix.live, matrix.micro_j, 0).max(axis=1, keepdims=True)
    half = matrix.limit_micro_j // max(policy.capacity_percent, 1) * 50
    near = matrix.live & (matrix.micro_j >= highest - highest // 500) & (highest >= half)
    return _runs(near, np.ones_like(near), policy.clipped_slots)


def spike(matrix: SlotMatrix, policy: ValidationPolicy) -> np.ndarray:
    """Slots that exceed the day's third highest by more than ``spike_per_mille`` (1800) of it: the VEE spike check per 24 h.

    (highest - third highest) / third highest > 1.8. Slots within the tare band count as the band. Only what is asked of
    days with a reading a slot; the ratio of coarser ones means something else.
    """
    if not policy.spike_per_mille:
        return np.zeros_like(matrix.present)
    values = np.maximum(matrix.scaled, matrix.tare_micro_j // matrix.unit)
    third = np.sort(values, axis=1)[:, -3:-2]
    above = (values - third) * 1_000 > third * policy.spike_per_mille
    return matrix.present & above & (matrix.reading_seconds == SLOT_SECONDS)


def outlier(matrix: SlotMatrix, policy: ValidationPolicy) -> np.ndarray:
    """Slots more than 4 robust standard deviations off the median of the ``outlier_window`` (9) slots around them.

    The Hampel identifier: |value - median| > 4 x 1.4826 x median absolute deviation, and more than 5 % of capacity. Passing
    clouds do it too, so it is a note to the reader. Cf. pvanalytics.quality.outliers.hampel; exact here.
    """
    mask = np.zeros_like(matrix.present)
    window = policy.outlier_window | 1
    if policy.outlier_window < 3:
        return mask
    values = matrix.scaled
    around = np.lib.stride_tricks.sliding_window_view(values, window, axis=1)
    middle = np.sort(around, axis=2)[:, :, window // 2]
    spread = np.sort(np.abs(around - middle[:, :, None]), axis=2)[:, :, window // 2]
    inner = slice(window // 2, SLOTS_PER_DAY - window // 2)
    off = np.abs(values[:, inner] - middle)
    mask[:, inner] = (off * 10_000 > spread * 59_304) & (off * 22 > matrix.scaled_limit)
    return mask & matrix.is_solar & matrix.present & (matrix.reading_seconds == SLOT_SECONDS)


def sum_check(matrix: SlotMatrix, policy: ValidationPolicy) -> np.ndarray:
    """Slots over which the intervals do not add up to what a register beside them moved by.

    |sum - difference| > ``sum_tolerance_per_mille`` (10) of the difference + ``sum_tolerance_wh`` (100). No slot is to blame, so
    the day waits. Not asked where one of the slots is missing.
    """
    whole = (matrix.present | ~matrix.in_register).all(axis=1, keepdims=True)
    return matrix.in_register & whole & (_sum_difference(matrix) > _sum_tolerance(matrix, policy))


def _sum_difference(matrix: SlotMatrix) -> np.ndarray:
    counted = np.where(matrix.in_register, matrix.positive_micro_j, 0).sum(axis=1, keepdims=True)
    return np.abs(counted - matrix.register_micro_j)


def _sum_tolerance(matrix: SlotMatrix, policy: ValidationPolicy) -> np.ndarray:
    return matrix.register_micro_j // 1_000 * policy.sum_tolerance_per_mille + policy.sum_tolerance_wh * MICRO_J_PER_WH


def _day_wh(matrix: SlotMatrix) -> np.ndarray:
    return matrix.positive_micro_j.sum(axis=1, keepdims=True) // MICRO_J_PER_WH


def high(matrix: SlotMatrix, policy: ValidationPolicy) -> np.ndarray:
    """All slots with a reading of a day above ``high_percent`` (300) of the device's usual day of that month."""
    known = (matrix.usual_wh > 0) & (policy.high_percent > 0)
    return matrix.present & known & (_day_wh(matrix) * 100 > matrix.usual_wh * policy.high_percent)


def low(matrix: SlotMatrix, policy: ValidationPolicy) -> np.ndarray:
    """All slots of a whole day below ``low_percent`` (20) of the device's usual day of that month."""
    whole = matrix.present.all(axis=1, keepdims=True) & (matrix.usual_wh > 0)
    return matrix.present & whole & (_day_wh(matrix) * 100 < matrix.usual_wh * policy.low_percent)


def zero_day(matrix: SlotMatrix, policy: ValidationPolicy) -> np.ndarray:
    """All slots of a whole day without any energy beyond the tare band: a meter that stands still, or nothing to measure."""
    still = matrix.present.all(axis=1, keepdims=True) & (matrix.micro_j <= matrix.tare_micro_j).all(
        axis=1, keepdims=True
    )
    return matrix.present & still & (matrix.micro_j >= -matrix.tare_micro_j)


class Effect(str, Enum):
    """What a rule does: the slot is absent, counts as zero, or is suspect; the day is held; or it is only noted."""

    MISSING = "missing"
    ZERO = "zero"
    SUSPECT = "suspect"
    HOLD = "hold"
    NOTE = "note"


#: Figures behind a finding by name, for one row of the matrix: whole numbers, or rounded ones of the sun.
Figures = Callable[[SlotMatrix, ValidationPolicy, int], Mapping[str, int | float]]


def _wh(matrix: np.ndarray, row: int) -> int:
    return int(matrix[row, 0]) // MICRO_J_PER_WH


def _of_spike(matrix: SlotMatrix, policy: ValidationPolicy, row: int) -> dict[str, int | float]:
    third = int(np.sort(np.maximum(matrix.positive_micro_j[row], matrix.tare_micro_j[row]))[-3])
    return {"third_highest_wh": third // MICRO_J_PER_WH, "tolerance_per_mille": policy.spike_per_mille}


def _of_sum(matrix: SlotMatrix, policy: ValidationPolicy, row: int) -> dict[str, int | float]:
    counted = int(matrix.positive_micro_j[row, matrix.in_register[row]].sum()) // MICRO_J_PER_WH
    return {
        "intervals_wh": counted,
        "register_wh": _wh(matrix.register_micro_j, row),
        "tolerance_wh": _wh(_sum_tolerance(matrix, policy), row),
    }


def _of_usual(matrix: SlotMatrix, policy: ValidationPolicy, row: int) -> dict[str, int | float]:
    day_wh, usual_wh = int(_day_wh(matrix)[row, 0]), int(matrix.usual_wh[row, 0])
    return {"day_wh": day_wh, "usual_wh": usual_wh, "percent": day_wh * 100 // usual_wh}


def _of_night(matrix: SlotMatrix, policy: ValidationPolicy, row: int) -> dict[str, int | float]:
    return {"tare_wh": _wh(matrix.tare_micro_j, row), "night_elevation_deg": policy.night_elevation_deg}


def _of_tare(matrix: SlotMatrix, policy: ValidationPolicy, row: int) -> dict[str, int | float]:
    return {"tare_wh": _wh(matrix.tare_micro_j, row)}


def _of_capacity(matrix: SlotMatrix, policy: ValidationPolicy, row: int) -> dict[str, int | float]:
    return {"limit_wh": _wh(matrix.limit_micro_j, row), "capacity_percent": policy.capacity_percent}


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of the report: its ``name``, its mask, its effect, the sentence that pages show and what it was held against."""

    name: str
    mask: Callable[[SlotMatrix, ValidationPolicy], np.ndarray]
    effect: Effect
    says: str
    figures: Figures = lambda matrix, policy, row: {}


RULES: tuple[Rule, ...] = (
    Rule("missing", missing, Effect.MISSING, "no reading"),
    Rule("register_break", register_break, Effect.MISSING, "the register was reset or its meter exchanged"),
    Rule("within_tare", within_tare, Effect.ZERO, "within the meter's tare band; counts as 0 Wh", _of_tare),
    Rule("duplicate_conflict", duplicate_conflict, Effect.SUSPECT, "two different readings"),
    Rule("source_suspect", source_suspect, Effect.SUSPECT, "marked as doubtful by the file itself"),
    Rule("negative", negative, Effect.SUSPECT, "negative beyond the tare band", _of_tare),
    Rule("above_capacity", above_capacity, Effect.SUSPECT, "above what the device can produce", _of_capacity),
    Rule("night_generation", night_generation, Effect.SUSPECT, "generation with the sun below the horizon", _of_night),
    Rule("frozen", frozen, Effect.SUSPECT, "the same value again and again"),
    Rule("interpolated", interpolated, Effect.SUSPECT, "values on a straight line"),
    Rule("spike", spike, Effect.SUSPECT, "far above the day's third highest", _of_spike),
    Rule("sum_check", sum_check, Effect.HOLD, "the intervals do not add up to what the register moved by", _of_sum),
    Rule("high", high, Effect.HOLD, "far above the device's usual day", _of_usual),
    Rule("low", low, Effect.HOLD, "far below the device's usual day", _of_usual),
    Rule("source_estimated", source_estimated, Effect.NOTE, "estimated or substituted by the file itself"),
    Rule("clipped", clipped, Effect.NOTE, "a plateau at the day's highest, as of an inverter at its limit"),
    Rule("outlier", outlier, Effect.NOTE, "far off the readings around it"),
    Rule("zero_day", zero_day, Effect.NOTE, "no energy all day"),
)


# -- reports ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RuleFinding:
    """A rule that fired on one device-day: the slots (0 to 95), the least and greatest reading there in Wh, and the
    ``figures`` it was held against."""

    rule: str
    effect: Effect
    says: str
    slots: tuple[int, ...]
    least_wh: float | None
    greatest_wh: float | None
    figures: Mapping[str, int | float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "rule": self.rule,
            "effect": self.effect.value,
            "says": self.says,
            "slots": list(self.slots),
            "least_wh": self.least_wh,
            "greatest_wh": self.greatest_wh,
            "figures": dict(self.figures),
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


def quality_bytes(matrix: SlotMatrix, suspect: np.ndarray) -> np.ndarray:
    """Quality bytes of all slots by the default policy of docs/protocol.md: certified is what was measured or edited,
    and is neither estimated nor suspect."""
    said = matrix.said & int(Quality.ESTIMATED | Quality.EDITED | Quality.SUSPECT)
    measured = np.where(said & int(Quality.ESTIMATED | Quality.EDITED), 0, int(Quality.MEASURED))
    coarse = np.where(matrix.reading_seconds > SLOT_SECONDS, int(Quality.COARSE), 0)
    bits = measured | said | coarse | np.where(suspect, int(Quality.SUSPECT), 0)
    doubtful = bits & int(Quality.ESTIMATED | Quality.SUSPECT)
    return np.where(matrix.present, bits | np.where(doubtful, 0, int(Quality.CERTIFIED)), 0)


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
    counted = np.where(zeroed, 0, matrix.positive_micro_j)
    quality = quality_bytes(matrix, suspect)
    return [
        _day(row, device, slots, matrix, masks, counted[row], quality[row], policy.validation)
        for row, (device, slots) in enumerate(days)
    ]


def _day(
    row: int,
    device: DeviceConfig,
    slots: DaySlots,
    matrix: SlotMatrix,
    masks: dict[str, np.ndarray],
    counted: np.ndarray,
    quality: np.ndarray,
    policy: ValidationPolicy,
) -> tuple[Profile, DayReport]:
    energy_wh = [min(wh, MAX_SLOT_WH) for wh in whole_wh(counted.tolist(), MICRO_J_PER_WH)]
    # A remainder can turn into a whole watt-hour only where energy arrives, so missing slots hold 0 Wh.
    profile = Profile(slots.start, tuple(energy_wh), tuple(quality.tolist()))
    report = DayReport(
        device_id=device.device_id,
        start=slots.start,
        measured_slots=int(matrix.present[row].sum()),
        missing_slots=int((~matrix.present[row]).sum()),
        tare_zeroed_slots=int(masks["within_tare"][row].sum()),
        suspect_slots=int((quality & int(Quality.SUSPECT) != 0).sum()),
        energy_wh=sum(energy_wh),
        certified_wh=profile.certified_wh,
        findings=tuple(_findings(row, matrix, masks, policy)),
    )
    return profile, report


def _findings(
    row: int, matrix: SlotMatrix, masks: dict[str, np.ndarray], policy: ValidationPolicy
) -> list[RuleFinding]:
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
                    rule.figures(matrix, policy, row),
                )
            )
    return found
