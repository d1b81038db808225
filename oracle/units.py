"""Quantities from text to integers, exactly.

Meter files carry decimal text. It becomes an integer number of *micro-units* (1e-6 of the stated unit,
digits past the sixth decimal rounded half to even) and from there integer watt-hours; binary floating
point never carries energy, so that every witness arrives at the same bytes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from itertools import accumulate

from .errors import UnitError

MICRO = 1_000_000
SECONDS_PER_HOUR = 3_600
MICROGRAMS_PER_GRAM = 1_000_000

#: Watt-hours in one unit of energy.
ENERGY_UNITS = {"Wh": Decimal(1), "kWh": Decimal(1_000), "MWh": Decimal(1_000_000)}
#: Watts in one unit of power.
POWER_UNITS = {"W": Decimal(1), "kW": Decimal(1_000), "MW": Decimal(1_000_000)}

_LIMIT = 1 << 62


def to_micro(text: str, *, factor: Decimal = Decimal(1), decimal_mark: str = ".") -> int:
    """Decimal text times ``factor`` in millionths, rounded half to even.

    ``"2.5"`` gives 2 500 000. Accepts a sign, digits, one decimal mark and an exponent; nothing else
    (no thousands marks, no NaN, no infinity). Raises :class:`UnitError` with the text.
    """
    plain = text.strip()
    if decimal_mark != ".":
        if "." in plain:
            raise UnitError(f"{text!r} has a point, but the decimal mark of this source is {decimal_mark!r}")
        plain = plain.replace(decimal_mark, ".")
    # Decimal() would also take "1_000", "NaN" and digits of other scripts.
    if not plain.isascii() or "_" in plain:
        raise UnitError(f"{text!r} is not a decimal number")
    try:
        value = Decimal(plain)
    except InvalidOperation:
        raise UnitError(f"{text!r} is not a decimal number") from None
    if not value.is_finite():
        raise UnitError(f"{text!r} is not a finite number")
    if value and value.adjusted() > 30:
        raise UnitError(f"{text!r} is out of range")
    micro = int((value * factor * MICRO).to_integral_value(rounding=ROUND_HALF_EVEN))
    if abs(micro) >= _LIMIT:
        raise UnitError(f"{text!r} is out of range")
    return micro


def energy_micro_wh(text: str, unit: str, *, decimal_mark: str = ".") -> int:
    """Energy text in ``unit`` (Wh, kWh, MWh) as micro-watt-hours."""
    if unit not in ENERGY_UNITS:
        raise UnitError(f"unit {unit!r} is not an energy unit; use one of {', '.join(ENERGY_UNITS)}")
    return to_micro(text, factor=ENERGY_UNITS[unit], decimal_mark=decimal_mark)


def power_micro_w(text: str, unit: str, *, decimal_mark: str = ".") -> int:
    """Power text in ``unit`` (W, kW, MW) as microwatts."""
    if unit not in POWER_UNITS:
        raise UnitError(f"unit {unit!r} is not a power unit; use one of {', '.join(POWER_UNITS)}")
    return to_micro(text, factor=POWER_UNITS[unit], decimal_mark=decimal_mark)


def whole_wh(parts: Iterable[int], parts_per_wh: int) -> list[int]:
    """Split a day's finer energies into whole watt-hours without losing any.

    ``parts`` are the day's energies in order, each an integer of 1/``parts_per_wh`` Wh (for power in
    microwatts over a slot of s seconds: microwatts x s, with ``parts_per_wh`` = 3.6e9). Slot n gets
    floor(running sum after n) - floor(running sum before n): the day's total is off by less than 1 Wh and
    no remainder crosses midnight. Source: docs/protocol.md, "Slots".
    """
    ends = [total // parts_per_wh for total in accumulate(parts)]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


def format_kwh(energy_wh: int) -> str:
    """Watt-hours as kWh with three decimals: 25410 gives ``"25.410"``."""
    sign = "-" if energy_wh < 0 else ""
    return f"{sign}{abs(energy_wh) // 1000}.{abs(energy_wh) % 1000:03d}"


def utc_date(start: int) -> str:
    """The UTC day of a time in UTC seconds: 1467331200 gives "2016-07-01"."""
    return datetime.fromtimestamp(start, UTC).strftime("%Y-%m-%d")


def day_list(days: Collection[tuple[int, int]]) -> str:
    """Device-days, ``(device, start)``, in words: the first five and how many more."""
    shown = ", ".join(f"device {device_id} {utc_date(start)}" for device_id, start in sorted(days)[:5])
    return (shown or "none") + (f" and {len(days) - 5} more" if len(days) > 5 else "")
