"""Where the sun stands over a site during a UTC day (pvlib), as validation and corroboration need it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
import pvlib

from .domain import SLOT_SECONDS, SLOTS_PER_DAY


@dataclass(frozen=True, slots=True)
class SunDay:
    """Per slot of a UTC day, 96 values each: degrees, except ``extra_w_m2`` (extraterrestrial normal irradiance).

    ``elevation`` is geometric (no refraction); zenith and azimuth are as pvlib.irradiance wants them.
    """

    elevation: np.ndarray
    apparent_zenith: np.ndarray
    zenith: np.ndarray
    azimuth: np.ndarray
    extra_w_m2: np.ndarray


@lru_cache(maxsize=4096)
def sun_day(
    latitude: float, longitude: float, altitude_m: float, start: int, offset_seconds: int = SLOT_SECONDS // 2
) -> SunDay:
    """The sun over a place at ``offset_seconds`` after the start of each slot of the UTC day at ``start``.

    Elevation is rounded to 1e-3 degree, so that machines with slightly different mathematics agree on which
    side of a threshold a slot lies.
    """
    times = pd.to_datetime(start + offset_seconds + SLOT_SECONDS * np.arange(SLOTS_PER_DAY), unit="s", utc=True)
    position = pvlib.solarposition.get_solarposition(times, latitude, longitude, altitude=altitude_m)
    values = (
        position["elevation"].to_numpy().round(3),
        position["apparent_zenith"].to_numpy(),
        position["zenith"].to_numpy(),
        position["azimuth"].to_numpy(),
        np.asarray(pvlib.irradiance.get_extra_radiation(times.day_of_year.to_numpy()), dtype=float),
    )
    for value in values:
        value.setflags(write=False)
    return SunDay(*values)
