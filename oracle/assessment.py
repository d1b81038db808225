"""The judgement of one device-day: the one function that the oracle and every witness call alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .corroboration import Corroboration, corroborate
from .domain import SLOTS_PER_DAY, CorroborationResult, DayState, Profile
from .formats import DaySlots, Parsed, StationDay, day_slots, station_days
from .sites import DeviceConfig, StationConfig
from .vee import DayReport, validate


@dataclass(frozen=True, slots=True)
class DayAssessment:
    """A device-day after validation and corroboration: ACCEPTED, or HELD for the reasons given.

    The profile is what would be certified; a held one waits for a collaborator's decision. ``to_json`` holds integers, texts
    and figures rounded to fixed digits only.
    """

    device_id: int
    start: int
    state: DayState
    reasons: tuple[str, ...]
    profile: Profile
    report: DayReport
    corroboration: Corroboration

    def to_json(self) -> dict[str, Any]:
        return {
            "device_id": self.device_id,
            "start": self.start,
            "state": self.state.value,
            "reasons": list(self.reasons),
            "energy_wh": list(self.profile.energy_wh),
            "quality": list(self.profile.quality),
            "certified_wh": self.profile.certified_wh,
            "report": self.report.to_json(),
            "corroboration": self.corroboration.to_json(),
        }


def device_days(device: DeviceConfig, files: Iterable[Parsed]) -> dict[int, DaySlots]:
    """UTC days of a device out of all its files as parsed, keyed and ordered by day start; see :func:`oracle.formats.day_slots`."""
    [channel] = device.source.channels
    return day_slots(parsed.channel(channel.name) for parsed in files)


def irradiance_days(station: StationConfig, files: Iterable[Parsed]) -> dict[int, StationDay]:
    """UTC days of an irradiance station out of all its files as parsed, keyed and ordered by day start."""
    files = list(files)
    temperatures = [parsed.channel(station.temp_air) for parsed in files] if station.temp_air else []
    return station_days(station.name, [parsed.channel(station.ghi) for parsed in files], temperatures)


def assess(
    device: DeviceConfig, slots: DaySlots, irradiance: Sequence[tuple[StationConfig, StationDay]] = ()
) -> DayAssessment:
    """Judge one UTC day of one device by its own policy.

    ``irradiance``: the day's station data, of the stations the device names (others are ignored). Depends on nothing but its
    arguments, so machines that hold the same files and configuration agree.
    """
    [(profile, report)] = validate([(device, slots)], device.policy)
    usable = [
        (station, day) for station, day in irradiance if station.name in device.stations and day.start == slots.start
    ]
    corroboration = corroborate(device, profile, usable)
    reasons = tuple(_held(device, report, corroboration))
    return DayAssessment(
        device.device_id,
        slots.start,
        DayState.HELD if reasons else DayState.ACCEPTED,
        reasons,
        profile,
        report,
        corroboration,
    )


def _held(device: DeviceConfig, report: DayReport, corroboration: Corroboration) -> list[str]:
    """Why the day may not be certified without a collaborator's decision; empty if it may."""
    reasons = []
    if not report.complete:
        reasons.append(f"incomplete: {report.missing_slots} of {SLOTS_PER_DAY} slots have no reading")
    if report.suspect_slots > device.policy.validation.max_suspect_slots:
        rules = ", ".join(
            f"{finding.rule} {len(finding.slots)}" for finding in report.findings if finding.effect.value == "suspect"
        )
        reasons.append(
            f"suspect: {report.suspect_slots} slots ({rules}); at most {device.policy.validation.max_suspect_slots} may be"
        )
    if device.policy.corroboration.required and corroboration.result is not CorroborationResult.CORROBORATED:
        reasons.extend(f"{corroboration.result.value}: {reason}" for reason in corroboration.reasons)
    return reasons
