"""Corroboration: does independent irradiance confirm what a solar device says it generated on a UTC day?

The model is pvlib's: solar position, Erbs-Driesse decomposition, Hay-Davies transposition, physical incidence
angle modifier, SAPM cell temperature, PVWatts DC power. It knows no losses; those are in the device's own
performance ratio. Without a known or fitted orientation plain horizontal irradiance is used, because a wrong tilt is worse than
none. Figures are floating point, rounded; they are verdicts of the trail and never enter a profile.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pvlib
from pvanalytics.quality.irradiance import check_ghi_limits_qcrad

from .domain import SLOT_SECONDS, SLOTS_PER_DAY, CorroborationResult, Profile, Quality
from .formats import StationDay
from .policies import CorroborationPolicy
from .sites import DeviceConfig, StationConfig
from .sun import SunDay, sun_day

#: Wind at the modules. Taken alike everywhere, because few stations record it; 1 m/s more changes a day's energy by about 1 %.
WIND_M_S = 2.0
#: Power per kelvin of cell temperature above 25 C, typical of crystalline silicon.
TEMPERATURE_COEFFICIENT = -0.004
_SAPM = pvlib.temperature.TEMPERATURE_MODEL_PARAMETERS["sapm"]["open_rack_glass_polymer"]
_MINUTES_PER_SLOT = SLOT_SECONDS // 60
_LEAST_PAIRS = 12


@dataclass(frozen=True, slots=True)
class StationFinding:
    """What one station says about one device-day; ``figures`` are rounded, ``expected_wh`` is per slot for plots."""

    station: str
    kind: str
    result: CorroborationResult
    reasons: tuple[str, ...]
    figures: dict[str, float | int | bool | None]
    ghi_w_m2: tuple[float | None, ...]
    expected_wh: tuple[float | None, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "station": self.station,
            "kind": self.kind,
            "result": self.result.value,
            "reasons": list(self.reasons),
            "figures": self.figures,
            "ghi_w_m2": list(self.ghi_w_m2),
            "expected_wh": list(self.expected_wh),
        }


@dataclass(frozen=True, slots=True)
class Corroboration:
    """The verdict on one device-day with the reasons that decided it and each station's finding."""

    result: CorroborationResult
    reasons: tuple[str, ...]
    stations: tuple[StationFinding, ...] = ()

    @property
    def clock_shift_minutes(self) -> int:
        """By how much the device's clock seems fast (readings late; negative: slow), 0 where it seems right.

        Named only where nothing worse is: the day is uncorroborated, and the stations that see a shift, measured ones
        before modelled ones, agree on it within a slot. It is offered as a correction, never made by itself.
        """
        if self.result is not CorroborationResult.UNCORROBORATED:
            return 0
        seen = [(one.kind, int(one.figures.get("clock_shift_minutes") or 0)) for one in self.stations]
        sizes = sorted(size for kind, size in seen if size and kind == "measured")
        sizes = sizes or sorted(size for _, size in seen if size)
        if not sizes or sizes[-1] - sizes[0] > _MINUTES_PER_SLOT:
            return 0
        return sizes[len(sizes) // 2]

    def to_json(self) -> dict[str, Any]:
        return {
            "result": self.result.value,
            "reasons": list(self.reasons),
            "clock_shift_minutes": self.clock_shift_minutes,
            "stations": [station.to_json() for station in self.stations],
        }


def corroborate(
    device: DeviceConfig, profile: Profile, irradiance: Sequence[tuple[StationConfig, StationDay]]
) -> Corroboration:
    """Hold a device's day against its stations.

    Measured stations decide; modelled ones decide only where no measured one could. Among those that decide, one
    contradiction outweighs any confirmation. Deterministic: profile, configuration and irradiance are all it looks at.
    """
    if not device.is_solar:
        return Corroboration(CorroborationResult.UNCORROBORATED, ("no independent check is known for this technology",))
    findings = tuple(
        _station_finding(device, profile, station, day)
        for station, day in sorted(irradiance, key=lambda pair: pair[0].name)
    )
    if not findings:
        return Corroboration(CorroborationResult.UNCORROBORATED, ("no irradiance was delivered for this day",))
    conclusive = [finding for finding in findings if finding.result is not CorroborationResult.UNCORROBORATED]
    deciding = [finding for finding in conclusive if finding.kind == "measured"] or conclusive
    for result in (CorroborationResult.CONTRADICTED, CorroborationResult.CORROBORATED):
        agreeing = [finding for finding in deciding if finding.result is result]
        if agreeing:
            return Corroboration(result, _reasons(agreeing), findings)
    return Corroboration(CorroborationResult.UNCORROBORATED, _reasons(findings), findings)


def _reasons(findings: Sequence[StationFinding]) -> tuple[str, ...]:
    return tuple(f"{reason} ({finding.station}, {finding.kind})" for finding in findings for reason in finding.reasons)


def expected_w(device: DeviceConfig, ghi_w_m2: np.ndarray, temp_air_c: np.ndarray, sun: SunDay) -> np.ndarray:
    """Power in W that the device would give without losses under this irradiance; all arrays per slot.

    NaN irradiance gives NaN; unknown air temperature is taken as cells at 25 C.
    """
    ghi = np.clip(ghi_w_m2, 0.0, None)
    if device.orientation is None:
        return device.capacity_w * ghi / 1_000.0
    tilt, azimuth = device.orientation.tilt_deg, device.orientation.azimuth_deg
    known = np.nan_to_num(ghi)
    split = pvlib.irradiance.erbs_driesse(known, sun.zenith, dni_extra=sun.extra_w_m2)
    plane = pvlib.irradiance.get_total_irradiance(
        tilt,
        azimuth,
        sun.apparent_zenith,
        sun.azimuth,
        split["dni"],
        known,
        split["dhi"],
        dni_extra=sun.extra_w_m2,
        model="haydavies",
    )
    modifier = pvlib.iam.physical(pvlib.irradiance.aoi(tilt, azimuth, sun.apparent_zenith, sun.azimuth))
    effective = np.nan_to_num(plane["poa_direct"]) * np.nan_to_num(modifier) + np.nan_to_num(plane["poa_diffuse"])
    cells = pvlib.temperature.sapm_cell(np.nan_to_num(plane["poa_global"]), temp_air_c, WIND_M_S, **_SAPM)
    power = pvlib.pvsystem.pvwatts_dc(
        effective, np.where(np.isnan(cells), 25.0, cells), device.capacity_w, TEMPERATURE_COEFFICIENT
    )
    return np.where(np.isnan(ghi), np.nan, np.clip(power, 0.0, None))


def clear_sky_w(device: DeviceConfig, sun: SunDay) -> np.ndarray:
    """Power in W per slot that the device would give without losses under a clear sky (Haurwitz) with cells at 25 C."""
    return expected_w(device, _haurwitz(sun), np.full(SLOTS_PER_DAY, np.nan), sun)


def clear_sky_bound_w(device: DeviceConfig, sun: SunDay) -> np.ndarray:
    """Power in W per slot above which no sky explains a reading: cold cells, the device's own ratio, the policy's margin."""
    cold = expected_w(device, _haurwitz(sun), np.zeros(SLOTS_PER_DAY), sun)
    return cold * _ratio(device) * device.policy.corroboration.clear_sky_margin + 0.1 * device.capacity_w


def _station_finding(device: DeviceConfig, profile: Profile, station: StationConfig, day: StationDay) -> StationFinding:
    policy, site = device.policy.corroboration, device.site
    offset = (
        SLOT_SECONDS // 2 if station.value == "mean" else max(0, SLOT_SECONDS - station.source.interval_seconds) // 2
    )
    sun = sun_day(site.latitude, site.longitude, site.altitude_m, profile.start, offset)
    daylight = (
        sun_day(site.latitude, site.longitude, site.altitude_m, profile.start).elevation > policy.daylight_elevation_deg
    )
    ghi, temp_air = _floats(day.ghi_w_m2), _floats(day.temp_air_c)
    measured = np.array([bool(quality & Quality.MEASURED) for quality in profile.quality])
    power = np.where(measured, np.array(profile.energy_wh, dtype=float) * 3600 / SLOT_SECONDS, np.nan)
    expected = expected_w(device, ghi, temp_air, sun)
    pairs = daylight & ~np.isnan(power) & ~np.isnan(expected)

    figures: dict[str, float | int | bool | None] = {
        "daylight_slots": int(daylight.sum()),
        "compared_slots": int(pairs.sum()),
    }
    result, reasons = _judge(device, daylight, pairs, power, expected, ghi, sun, figures)
    return StationFinding(
        station=station.name,
        kind=station.kind,
        result=result,
        reasons=tuple(reasons),
        figures=figures,
        ghi_w_m2=day.ghi_w_m2,
        expected_wh=tuple(
            None if math.isnan(one) else round(one * SLOT_SECONDS / 3600 * _ratio(device), 1)
            for one in expected.tolist()
        ),
    )


def _judge(
    device: DeviceConfig,
    daylight: np.ndarray,
    pairs: np.ndarray,
    power: np.ndarray,
    expected: np.ndarray,
    ghi: np.ndarray,
    sun: SunDay,
    figures: dict[str, float | int | bool | None],
) -> tuple[CorroborationResult, list[str]]:
    """The verdict of one station; adds its figures to ``figures``. First whether the station can say anything at all."""
    policy, unsure = device.policy.corroboration, CorroborationResult.UNCORROBORATED
    count, light = int(pairs.sum()), int(daylight.sum())
    figures["coverage"] = coverage = round(count / light, 3) if light else 0.0
    if coverage < policy.min_coverage or count < _LEAST_PAIRS:
        return unsure, [
            f"irradiance and readings together cover {count} of {light} daylight slots; {policy.min_coverage:.0%} are needed"
        ]

    plausible = np.asarray(check_ghi_limits_qcrad(ghi[pairs], sun.zenith[pairs], sun.extra_w_m2[pairs]))
    figures["implausible_irradiance"] = implausible = round(1 - float(plausible.mean()), 3)
    if implausible > policy.max_implausible_irradiance:
        return unsure, [
            f"{implausible:.0%} of the irradiance lies outside the QCRad limits; at most {policy.max_implausible_irradiance:.0%} may"
        ]

    clear_ghi = _haurwitz(sun)
    figures["clear_sky_index"] = clear_sky_index = round(
        float(np.clip(ghi[pairs], 0, None).sum() / clear_ghi[pairs].sum()), 3
    )
    figures["energy_ratio"] = None
    if not expected[pairs].sum() > 0:
        return unsure, ["there was no daylight to compare with"]
    seen = _compare(device, pairs, power, expected, sun, clear_sky_index)
    figures |= seen.figures(policy)
    return _verdict(policy, seen)


@dataclass(frozen=True, slots=True)
class _Comparison:
    """A day's readings beside what is expected: ratios and correlations rounded, ``lag`` in slots (positive: readings late),
    ``above`` the slots above what a clear sky allows, ``fitted`` whether the device has a history of its own."""

    clear_sky_index: float
    energy_ratio: float
    correlation: float
    lag: int
    lag_correlation: float
    above: int
    fitted: bool

    def is_shifted(self, policy: CorroborationPolicy) -> bool:
        return abs(self.lag) >= policy.shift_slots and gain(self.correlation, self.lag_correlation) >= policy.shift_gain

    def figures(self, policy: CorroborationPolicy) -> dict[str, float | int | bool | None]:
        return {
            "energy_ratio": self.energy_ratio,
            "correlation": self.correlation,
            "lag_minutes": self.lag * _MINUTES_PER_SLOT,
            "lag_correlation": self.lag_correlation,
            "slots_above_clear_sky": self.above,
            "own_history": self.fitted,
            "clock_shift_minutes": self.lag * _MINUTES_PER_SLOT if self.is_shifted(policy) else 0,
        }


def _compare(
    device: DeviceConfig,
    pairs: np.ndarray,
    power: np.ndarray,
    expected: np.ndarray,
    sun: SunDay,
    clear_sky_index: float,
) -> _Comparison:
    policy = device.policy.corroboration
    correlation = _correlation(power, expected, pairs, 0)
    lag, best = _best_lag(power, expected, pairs, policy.max_lag_slots, correlation)
    return _Comparison(
        clear_sky_index=clear_sky_index,
        energy_ratio=round(float(power[pairs].sum()) / float(expected[pairs].sum()) / _ratio(device), 3),
        correlation=correlation,
        lag=lag,
        lag_correlation=best,
        above=int((pairs & (power > clear_sky_bound_w(device, sun))).sum()),
        fitted=device.performance is not None and device.performance.history_days >= policy.min_history_days,
    )


def _verdict(policy: CorroborationPolicy, seen: _Comparison) -> tuple[CorroborationResult, list[str]]:
    """What the policy makes of a comparison, with its reasons. A clock explains everything but a wrong energy."""
    low, high = (
        (policy.clear_ratio if seen.clear_sky_index >= policy.clear_sky_index else policy.cloudy_ratio)
        if seen.fitted
        else policy.unfitted_ratio
    )
    reasons = []
    if not low <= seen.energy_ratio <= high:
        against = "what its own history leads to expect" if seen.fitted else "the assumed performance"
        reasons.append(f"day energy is {seen.energy_ratio:.2f} of {against}; {low:g} to {high:g} is usual")
    elif seen.is_shifted(policy):
        side, minutes = "late" if seen.lag > 0 else "early", abs(seen.lag) * _MINUTES_PER_SLOT
        return CorroborationResult.UNCORROBORATED, [
            f"clock shift: readings fit irradiance {minutes} min {side} (correlation {seen.lag_correlation:.2f} instead of {seen.correlation:.2f})"
        ]
    if seen.above > policy.max_above_clear_sky:
        reasons.append(
            f"{seen.above} slots are above what a clear sky allows; at most {policy.max_above_clear_sky} may be"
        )
    if seen.correlation < policy.min_correlation:
        reasons.append(
            f"correlation with irradiance is {seen.correlation:.2f}; at least {policy.min_correlation:g} is needed"
        )
    if reasons:
        return CorroborationResult.CONTRADICTED, reasons
    history = "" if seen.fitted else "; no history of its own yet, against an assumed performance"
    return CorroborationResult.CORROBORATED, [
        f"day energy {seen.energy_ratio:.2f} of expected, correlation {seen.correlation:.2f}{history}"
    ]


def _haurwitz(sun: SunDay) -> np.ndarray:
    return pvlib.clearsky.haurwitz(pd.Series(sun.apparent_zenith))["ghi"].to_numpy()


def _ratio(device: DeviceConfig) -> float:
    return device.performance.ratio if device.performance else device.policy.corroboration.assumed_performance


def _floats(values: Sequence[float | None]) -> np.ndarray:
    return np.array([math.nan if value is None else value for value in values], dtype=float)


def _correlation(power: np.ndarray, expected: np.ndarray, pairs: np.ndarray, lag: int) -> float:
    """Pearson correlation of readings ``lag`` slots later with what is expected in the day's paired slots; 0 where undefined."""
    slots = np.flatnonzero(pairs)
    slots = slots[(slots + lag >= 0) & (slots + lag < SLOTS_PER_DAY)]
    late = power[slots + lag]
    known = ~np.isnan(late)
    one, other = late[known], expected[slots][known]
    if one.size < _LEAST_PAIRS or one.std() < 1e-9 or other.std() < 1e-9:
        return 0.0
    return round(float(np.corrcoef(one, other)[0, 1]), 3)


def _best_lag(
    power: np.ndarray, expected: np.ndarray, pairs: np.ndarray, most: int, correlation: float
) -> tuple[int, float]:
    """The lag in slots with the highest correlation, the smaller one of equals; positive: readings are late."""
    best, at = correlation, 0
    for size in range(1, most + 1):
        for lag in (-size, size):
            value = _correlation(power, expected, pairs, lag)
            if value > best:
                best, at = value, lag
    return at, best


def gain(correlation: float, best: float) -> float:
    """How much better a lag explains the day, on Fisher's z scale, where differences mean the same everywhere."""
    return math.atanh(min(best, 0.999)) - math.atanh(max(min(correlation, 0.999), -0.999))
