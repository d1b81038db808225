"""What all days together show: energy balances, clocks and energies that are constantly wrong, and what gaps probably held.

For reports. Nothing here changes a reading or a verdict; :func:`keep` keeps the reports in the database, for pages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select

from .assessment import ClockShift, DayAssessment, clock_shifts
from .balance import BalanceDay, balances
from .config import OracleConfig
from .domain import Profile
from .drift import EnergyDrift, by_device, drifts
from .estimation import EstimatedDay, estimate, gaps
from .pipeline import Progress, assess_raw, no_progress
from .protocol import unpack_profile
from .sites import load_sites
from .store import DeviceDay, KeptReport, Store, utc_now
from .units import utc_date


@dataclass(frozen=True, slots=True)
class EstimatedDeviceDay:
    """A device-day with gaps, and what they probably held."""

    device_id: int
    day: EstimatedDay

    def to_json(self) -> dict[str, Any]:
        left = sum(len(gap) for gap in gaps(self.day.profile))
        facts = {"device_id": self.device_id, "day": utc_date(self.day.profile.start), **self.day.to_json()}
        return facts | {"unknown_slots": left}


def balance_report(config: OracleConfig, store: Store) -> list[BalanceDay]:
    """Every balance of the sites file on every day of its feeder, whether usual, unusual or not to be judged."""
    return balances(load_sites(config.sites_file).balances, _profiles(store))


def clock_report(config: OracleConfig, store: Store, progress: Progress = no_progress) -> list[ClockShift]:
    """Constant clock shifts of 30 minutes or more, found in all raw files as they are configured now."""
    return clock_shifts(day.assessment for day in assess_raw(config, store, progress))


def drift_report(config: OracleConfig, store: Store, progress: Progress = no_progress) -> list[EnergyDrift]:
    """Weeks and longer in which a device's energy was above or below what irradiance leads to expect, by all raw files."""
    return _drifts(config, [day.assessment for day in assess_raw(config, store, progress)])


def _drifts(config: OracleConfig, days: Iterable[DayAssessment]) -> list[EnergyDrift]:
    known = by_device(days)
    devices = load_sites(config.sites_file).devices
    return [drift for device in devices for drift in drifts(device, known.get(device.device_id, ()))]


def estimates(config: OracleConfig, store: Store, device_id: int | None = None) -> Iterator[EstimatedDeviceDay]:
    """Device-days with missing slots, filled as far as anything is known; of one device, or of all."""
    profiles = _profiles(store)
    for device in load_sites(config.sites_file).devices:
        own = [profile for (one, _), profile in sorted(profiles.items()) if one == device.device_id]
        if device_id in (None, device.device_id):
            yield from (
                EstimatedDeviceDay(device.device_id, estimate(device, profile, own)) for profile in own if gaps(profile)
            )


def keep(config: OracleConfig, store: Store, progress: Progress = no_progress, *, now: datetime | None = None) -> None:
    """Make all reports and keep them as those of ``now``, each in place of its last."""
    days = [day.assessment for day in assess_raw(config, store, progress)]
    made: dict[str, list[Any]] = {
        "clocks": [shift.to_json() for shift in clock_shifts(days)],
        "drifts": [drift.to_json() for drift in _drifts(config, days)],
        "balances": [day.to_json() for day in balance_report(config, store)],
        "estimates": [day.to_json() for day in estimates(config, store)],
    }
    with store.writing() as session:
        for name, content in made.items():
            session.merge(KeptReport(name=name, content=content, made_at=now or utc_now()))


def keep_daily(config: OracleConfig, store: Store, now: datetime) -> None:
    """:func:`keep`, unless it was done on the UTC day of ``now`` already: it looks at all days there are."""
    with store.session() as session:
        last = session.scalars(select(KeptReport.made_at).order_by(KeptReport.made_at).limit(1)).first()
    if last is None or last.date() != now.date():
        keep(config, store, now=now)


def _profiles(store: Store) -> dict[tuple[int, int], Profile]:
    with store.session() as session:
        rows = session.execute(select(DeviceDay.device_id, DeviceDay.start, DeviceDay.profile)).all()
    return {(device_id, start): unpack_profile(start, packed) for device_id, start, packed in rows}
