"""Whether two machines mean the same by an assessment: whole numbers and words exactly, fractions within a tolerance."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import orjson

from .protocol import keccak256

#: By how much energies that are rounded to a tenth of a Wh may differ.
TENTH_WH = 0.1
_FRACTION = r"(-?\d+\.\d+)"


def assessments_hash(assessments: Sequence[str]) -> str:
    """The hash of all assessments of a batch in its order, as the manifest has it."""
    return "0x" + keccak256("\n".join(assessments).encode()).hex()


def difference(ours: str, theirs: str, tolerance: float) -> str | None:
    """Where two assessments (JSON) differ by more than ``tolerance``, None if they agree.

    Whole numbers, truth values and texts must be equal. A number with a fraction may differ by ``tolerance``, absolute
    up to 1 and relative beyond; one of Wh (its name ends in ``_wh``), which is rounded to a tenth, by a tenth; one
    within a text by its last digit.
    """
    try:
        return _differs(orjson.loads(ours), orjson.loads(theirs), tolerance, "")
    except ValueError:
        return "its form"


def _differs(ours: Any, theirs: Any, tolerance: float, where: str) -> str | None:
    if isinstance(ours, dict) and isinstance(theirs, dict) and ours.keys() == theirs.keys():
        inner = ((ours[key], theirs[key], f"{where}.{key}") for key in ours)
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        inner = ((one, other, where) for one, other in zip(ours, theirs, strict=True))
    else:
        return None if _close(ours, theirs, tolerance, where) else where.removeprefix(".") or "its form"
    return next((found for one in inner if (found := _differs(one[0], one[1], tolerance, one[2]))), None)


def _close(ours: Any, theirs: Any, tolerance: float, where: str) -> bool:
    if isinstance(ours, str) and isinstance(theirs, str):
        mine, other = re.split(_FRACTION, ours), re.split(_FRACTION, theirs)
        return mine[::2] == other[::2] and all(
            abs(float(one) - float(two)) <= 10.0 ** -min(map(_digits, (one, two))) * (1 + 1e-9)
            for one, two in zip(mine[1::2], other[1::2], strict=True)
        )
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in (ours, theirs))
    if not numbers or not (isinstance(ours, float) or isinstance(theirs, float)):
        return type(ours) is type(theirs) and bool(ours == theirs)
    allowed = TENTH_WH if where.endswith("_wh") else tolerance * max(1.0, abs(ours), abs(theirs))
    # The least bits of the bound itself are no matter.
    return abs(ours - theirs) <= allowed * (1 + 1e-9)


def _digits(number: str) -> int:
    return len(number.partition(".")[2])
