"""Names and assertions from the sites file: what is known, fitted or assumed about each device, for display."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flask_babel import gettext

from oracle.sites import DeviceConfig, SitesConfig, StationConfig, load_sites

from .config import WebConfig


@dataclass(frozen=True, slots=True)
class SiteFacts:
    """The sites file as pages use it; without one, devices go by their number."""

    sites: SitesConfig | None = None

    @classmethod
    def load(cls, config: WebConfig) -> SiteFacts:
        return cls(load_sites(config.sites_file) if config.sites_file else None)

    def device(self, device_id: str) -> DeviceConfig | None:
        return next((d for d in self.sites.devices if str(d.device_id) == device_id), None) if self.sites else None

    def name(self, device_id: str) -> str | None:
        device = self.device(device_id)
        return device.name if device else None

    def place(self, device_id: str) -> dict[str, Any] | None:
        device = self.device(device_id)
        if not device:
            return None
        site = device.site
        return {
            "name": site.name,
            "latitude": site.latitude,
            "longitude": site.longitude,
            "altitude_m": site.altitude_m,
        }

    def stations(self, device_id: str) -> list[StationConfig]:
        device = self.device(device_id)
        return [self.sites.station(name) for name in device.stations] if device and self.sites else []

    def station_title(self, name: str) -> str:
        return next((s.title for s in self.sites.stations if s.name == name), name) if self.sites else name

    def table(self, device_id: str) -> list[dict[str, str]]:
        """Each assertion about a device: what, its value, its basis and its source."""
        device = self.device(device_id)
        if not device:
            return []
        site, source = device.site, device.source
        stamped = gettext("stamped at the start") if source.stamped == "start" else gettext("stamped at the end")
        rows = [
            (
                gettext("Place"),
                f"{site.name}: {site.latitude:.3f}°, {site.longitude:.3f}°, {site.altitude_m:.0f} m",
                site.provenance,
            ),
            (gettext("Capacity"), f"{device.capacity_w / 1000:g} kW", device.capacity_provenance),
            (gettext("Meter"), device.meter, device.meter_provenance),
            (gettext("Readings"), f"{source.interval_seconds // 60} min, {stamped}", device.source_provenance),
        ]
        if device.orientation:
            o = device.orientation
            rows.append((gettext("Tilt and azimuth"), f"{o.tilt_deg:g}°, {o.azimuth_deg:g}°", o.provenance))
        if device.performance:
            p = device.performance
            rows.append((gettext("Performance against the model"), f"{p.ratio:g} ({p.history_days} d)", p.provenance))
        for station in self.stations(device_id):
            kind = gettext("measured") if station.kind == "measured" else gettext("modelled")
            value = gettext("mean over the interval") if station.value == "mean" else gettext("value at the stamp")
            rows.append(
                (gettext("Irradiance"), f"{station.title} ({station.operator}): {kind}, {value}", station.provenance)
            )
        return [{"what": what, "value": value, "basis": p.basis.value, "source": p.source} for what, value, p in rows]
