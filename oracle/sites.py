"""What is known of sites, devices, irradiance stations and emission factors: typed, from one YAML file.

The oracle and its witnesses share this file. Every assertion about the world in it says whether it is known, fitted
or assumed, and by what source; pages show that beside the figure. docs/formats.md and docs/validation.md
explain the keys.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from enum import Enum
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import yaml

from .domain import DAY_SECONDS, SLOT_SECONDS, DeviceKind, Visibility
from .errors import ConfigError
from .formats import FORMATS, Channel, Quantity, SourceConfig
from .formats.base import MAX_BYTES, ClockCorrection
from .policies import CLASSES, Policy
from .protocol import keccak256
from .sections import Section

T = TypeVar("T")
PACKAGE_PREFIX = "package:"


class Basis(str, Enum):
    """How sure a figure of the configuration is."""

    KNOWN = "known"
    FITTED = "fitted"
    ASSUMED = "assumed"


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a figure comes from: its basis and one sentence that names the source."""

    basis: Basis
    source: str


@dataclass(frozen=True, slots=True)
class Site:
    """A place: degrees north and east, metres above the sea, IANA zone, ISO country, eGRID or EIC grid zone."""

    key: str
    name: str
    latitude: float
    longitude: float
    altitude_m: float
    timezone: str
    country: str
    grid_zone: str
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class Orientation:
    """Fixed array: tilt from horizontal and azimuth clockwise from north, both in degrees."""

    tilt_deg: float
    azimuth_deg: float
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class Performance:
    """The device's own history in one number.

    ``ratio``: daylight energy measured / expected by the model of :mod:`oracle.corroboration` (which knows no losses),
    the median over ``history_days`` days. It is fixed here rather than fitted while running, so that
    a witness that holds other days still reaches the same verdict.
    """

    ratio: float
    history_days: int
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class UsualDay:
    """The device's own like-day average: Wh of a usual UTC day of each month, January first; 0 where none is known.

    It is fixed here for the reason that :class:`Performance` is; :func:`oracle.estimation.usual_day_wh` finds it from past days.
    """

    wh_by_month: tuple[int, ...]
    history_days: int
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class StationConfig:
    """An irradiance source independent of the meters: ``kind`` is ``measured`` or ``modelled``.

    ``value`` is ``mean`` over the sample's interval or ``instant`` at its stamp. ``ghi`` and ``temp_air`` name
    channels of ``source``.
    """

    name: str
    title: str
    kind: str
    value: str
    operator: str
    source: SourceConfig
    provenance: Provenance
    ghi: str = "ghi"
    temp_air: str | None = None


@dataclass(frozen=True, slots=True)
class DeviceConfig:
    """A metered device as registered and as judged. ``active_from`` UTC seconds, ``meter`` its identity text."""

    device_id: int
    name: str
    site: Site
    kind: DeviceKind
    visibility: Visibility
    fuel_code: str
    technology_code: str
    capacity_w: int
    capacity_provenance: Provenance
    granularity_seconds: int
    meter: str
    meter_provenance: Provenance
    active_from: int
    source: SourceConfig
    source_provenance: Provenance
    stations: tuple[str, ...]
    policy: Policy
    orientation: Orientation | None = None
    performance: Performance | None = None
    usual_day: UsualDay | None = None

    @property
    def channel(self) -> Channel:
        """What the device's readings are: power, energy or, where there is nothing else, its register."""
        return min(self.source.channels, key=lambda one: one.quantity is Quantity.REGISTER)

    @property
    def check_register(self) -> Channel | None:
        """The register read beside the intervals, which their sum must agree with; None where there is none."""
        return next((one for one in self.source.channels if one is not self.channel), None)

    @property
    def meter_hash(self) -> bytes:
        """keccak256 of the meter's identity in UTF-8: 32 bytes, unique among active devices."""
        return keccak256(self.meter.encode())

    @property
    def is_solar(self) -> bool:
        """Whether the sun is the source of what the device generates (EECS F010401…)."""
        return self.kind is DeviceKind.GENERATION and self.fuel_code.startswith("F010401")

    @property
    def fuel_number(self) -> int:
        """Digits of the EECS energy source code as the registry stores them: F01040100 gives 1040100."""
        return int(self.fuel_code[1:])

    @property
    def technology_number(self) -> int:
        """Digits of the EECS technology code as the registry stores them: T010100 gives 10100."""
        return int(self.technology_code[1:])


class BalanceEffect(str, Enum):
    """What an energy balance outside its bounds does: it is reported, or holds the days of its devices as well."""

    FLAG = "flag"
    HOLD = "hold"


@dataclass(frozen=True, slots=True)
class BalanceConfig:
    """A feeder and what is behind it (:mod:`oracle.balance`). Devices by id; losses in thousandths of what went in.

    ``flow`` "collects": the ``children`` feed into the feeder, which measures less than their sum; "distributes": the
    feeder supplies them and measures more. ``less`` are children that count negative, such as a battery's charge.
    Days on which less than ``least_wh`` went in are not judged.
    """

    name: str
    feeder: int
    children: tuple[int, ...]
    less: tuple[int, ...]
    flow: str
    min_loss_per_mille: int
    max_loss_per_mille: int
    least_wh: int
    effect: BalanceEffect
    provenance: Provenance

    @property
    def devices(self) -> tuple[int, ...]:
        return (self.feeder, *self.children, *self.less)


@dataclass(frozen=True, slots=True)
class EmissionFactorConfig:
    """Grams of CO2e avoided per MWh on a grid in a UTC year. Illustrative ones are marked wherever they show."""

    grid_zone: str
    year: int
    grams_per_mwh: int
    source: str
    illustrative: bool


@dataclass(frozen=True, slots=True)
class SitesConfig:
    """The whole file. ``folder`` is where source files lie: a folder or ``package:NAME/FOLDER``.

    ``clock_decisions`` (JSON) keeps corrections of clocks that reviewers signed; the devices' sources hold them already.
    """

    file: str
    folder: str
    sites: tuple[Site, ...]
    devices: tuple[DeviceConfig, ...]
    stations: tuple[StationConfig, ...]
    emission_factors: tuple[EmissionFactorConfig, ...]
    balances: tuple[BalanceConfig, ...] = ()
    clock_decisions: Path | None = None

    def device(self, device_id: int) -> DeviceConfig:
        """The device with this id; ConfigError if there is none."""
        return _found(
            self.devices, lambda one: one.device_id == device_id, f"{self.file}: no device has the id {device_id}"
        )

    def station(self, name: str) -> StationConfig:
        """The station with this name; ConfigError if there is none."""
        return _found(self.stations, lambda one: one.name == name, f"{self.file}: no station is called {name!r}")

    def emission_factor(self, grid_zone: str, year: int) -> EmissionFactorConfig:
        """The factor of a grid and year; ConfigError if there is none: nothing stands in for a missing factor."""
        return _found(
            self.emission_factors,
            lambda one: (one.grid_zone, one.year) == (grid_zone, year),
            f"{self.file}: no emission factor for {grid_zone} in {year}",
        )


def source_folder(folder: str, base: Path | None = None) -> Path:
    """The folder a configuration names: relative to ``base``, or inside an installed package (``package:NAME/FOLDER``)."""
    if not folder.startswith(PACKAGE_PREFIX):
        return ((base or Path()) / folder).resolve()
    package, _, inner = folder.removeprefix(PACKAGE_PREFIX).partition("/")
    try:
        return Path(str(resources.files(package))) / inner
    except ModuleNotFoundError:
        raise ConfigError(f"package {package!r} of {folder!r} is not installed; pip install {package}") from None


def load_sites(file: Path | str) -> SitesConfig:
    """Read and check a sites file. Raises :class:`ConfigError` that names the file, the key and what was expected."""
    file = Path(file)
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{file} is not there") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as fault:
        raise ConfigError(f"{file} is not readable: {' '.join(str(fault).split())}") from None
    top = Section(str(file), "", document)
    folder = top.text("folder")
    sites = {key: _site(key, node) for key, node in top.named("sites").items()}
    policies = {"default": Policy("default")} | {
        key: _policy(key, node) for key, node in top.named("policies", least=0).items()
    }
    stations = {key: _station(key, node) for key, node in top.named("stations", least=0).items()}
    devices = [_device(node, sites, policies, stations) for node in top.several("devices")]
    factors = [_factor(node) for node in top.several("emission_factors", least=0)]
    known = [device.device_id for device in devices]
    balances = [_balance(key, node, known) for key, node in top.named("balances", least=0).items()]
    clocks = file.parent / top.text("clock_decisions") if top.has("clock_decisions") else None
    top.close()
    _unique(top, "devices", "id", [one.device_id for one in devices])
    _unique(top, "devices", "meter", [one.meter for one in devices])
    _unique(top, "emission_factors", "grid zone and year", [(one.grid_zone, one.year) for one in factors])
    return SitesConfig(
        file=str(file),
        folder=folder,
        sites=tuple(sites.values()),
        devices=tuple(_with_clock(device, _clock_decisions(clocks)) for device in devices),
        stations=tuple(stations.values()),
        emission_factors=tuple(factors),
        balances=tuple(balances),
        clock_decisions=clocks,
    )


# -- sections of the file ---------------------------------------------------------------------------


def _site(key: str, node: Section) -> Site:
    site = Site(
        key=key,
        name=node.text("name"),
        latitude=node.number("latitude", -90, 90),
        longitude=node.number("longitude", -180, 180),
        altitude_m=node.number("altitude_m", -450, 9_000),
        timezone=node.zone("timezone").key,
        country=node.text("country", pattern=r"[A-Z]{2}", called="two capital letters (ISO 3166-1)"),
        grid_zone=node.text("grid_zone", pattern=r"[!-~]{1,16}", called="1 to 16 ASCII characters"),
        provenance=_provenance(node),
    )
    node.close()
    return site


def _provenance(node: Section) -> Provenance:
    return Provenance(Basis(node.choice("basis", [basis.value for basis in Basis])), node.text("source"))


def _policy(key: str, node: Section) -> Policy:
    base = CLASSES[node.choice("for", list(CLASSES), default="solar")]
    policy = Policy(
        key,
        _thresholds(node.section("validation"), base.validation),
        _thresholds(node.section("corroboration"), base.corroboration),
    )
    node.close()
    return policy


def _thresholds(node: Section, defaults: T) -> T:
    """Thresholds that differ from the defaults; each must be of its default's type."""
    given: dict[str, Any] = {}
    for one in fields(defaults):  # type: ignore[arg-type]
        default = getattr(defaults, one.name)
        if isinstance(default, bool):
            given[one.name] = node.flag(one.name, default)
        elif isinstance(default, int):
            given[one.name] = node.whole(one.name, default=default)
        elif isinstance(default, float):
            given[one.name] = node.number(one.name, default=default)
        else:
            given[one.name] = node.band(one.name, default)
    node.close()
    return type(defaults)(**given)


def _station(key: str, node: Section) -> StationConfig:
    source = _source(node.section("file"))
    names = [channel.name for channel in source.channels]
    station = StationConfig(
        name=key,
        title=node.text("title"),
        kind=node.choice("kind", ["measured", "modelled"]),
        value=node.choice("value", ["mean", "instant"]),
        operator=node.text("operator"),
        source=source,
        provenance=_provenance(node),
        ghi=node.choice("ghi", names),
        temp_air=node.choice("temp_air", names, default=None),
    )
    node.close()
    return station


def _device(
    node: Section, sites: dict[str, Site], policies: dict[str, Policy], stations: dict[str, StationConfig]
) -> DeviceConfig:
    capacity, meter, file = node.section("capacity"), node.section("meter"), node.section("file")
    source_provenance = _provenance(file)
    device = DeviceConfig(
        device_id=node.whole("id", least=1, most=2**64 - 1),
        name=node.text("name"),
        site=sites[node.choice("site", list(sites))],
        kind=DeviceKind[node.choice("kind", [kind.name.lower() for kind in DeviceKind]).upper()],
        visibility=Visibility[node.choice("visibility", [one.name.lower() for one in Visibility]).upper()],
        fuel_code=node.text("fuel_code", pattern=r"F\d{8}", called="an EECS energy source code such as F01040100"),
        technology_code=node.text(
            "technology_code", pattern=r"T\d{6}", called="an EECS technology code such as T010100"
        ),
        capacity_w=capacity.whole("watts", least=1, most=2**56 - 1),
        capacity_provenance=_provenance(capacity),
        granularity_seconds=node.whole("granularity_seconds", least=SLOT_SECONDS, most=DAY_SECONDS),
        meter=meter.text("identity"),
        meter_provenance=_provenance(meter),
        active_from=node.moment("active_from"),
        source=_source(file),
        source_provenance=source_provenance,
        stations=tuple(node.texts("stations")),
        policy=policies[node.choice("policy", list(policies), default="default")],
        orientation=_optional(node, "orientation", _orientation),
        performance=_optional(node, "performance", _performance),
        usual_day=_optional(node, "usual_day", _usual_day),
    )
    if DAY_SECONDS % device.granularity_seconds or device.granularity_seconds % SLOT_SECONDS:
        raise node.fault("granularity_seconds", f"a multiple of {SLOT_SECONDS} that divides {DAY_SECONDS}")
    if device.active_from % device.granularity_seconds:
        raise node.fault("active_from", f"on the device's grid of {device.granularity_seconds} s")
    channels = device.source.channels
    if not channels or not all(channel.quantity.is_exact for channel in channels):
        raise file.fault("channels", "exactly one channel of power or energy, and a register to check its sum at most")
    of_intervals = [channel for channel in channels if channel.quantity is not Quantity.REGISTER]
    if len(channels) > 2 or (len(channels) == 2 and len(of_intervals) != 1):
        raise file.fault("channels", "exactly one channel of power or energy, and a register to check its sum at most")
    if not device.channel.required:
        raise file.fault(f"channels.{device.channel.name}.required", "true: it is what the device measures")
    for name in device.stations:
        if name not in stations:
            raise node.fault("stations", "names out of: " + ", ".join(stations))
    for section in (capacity, meter, node):
        section.close()
    return device


def _orientation(node: Section) -> Orientation:
    return Orientation(node.number("tilt_deg", 0, 90), node.number("azimuth_deg", 0, 360), _provenance(node))


def _performance(node: Section) -> Performance:
    return Performance(node.number("ratio", 0.05, 2), node.whole("history_days"), _provenance(node))


def _usual_day(node: Section) -> UsualDay:
    return UsualDay(tuple(node.wholes("wh_by_month", 12)), node.whole("history_days", least=1), _provenance(node))


def _balance(key: str, node: Section, known: list[int]) -> BalanceConfig:
    feeder = node.whole("feeder", least=1)
    balance = BalanceConfig(
        name=key,
        feeder=feeder,
        children=tuple(node.wholes("children")),
        less=tuple(node.wholes("less")) if node.has("less") else (),
        flow=node.choice("flow", ["collects", "distributes"]),
        min_loss_per_mille=node.whole("min_loss_per_mille", default=0, least=-1_000, most=1_000),
        max_loss_per_mille=node.whole("max_loss_per_mille", default=50, least=-1_000, most=1_000),
        least_wh=node.whole("least_wh", default=1_000),
        effect=BalanceEffect(node.choice("effect", [one.value for one in BalanceEffect], default="flag")),
        provenance=_provenance(node),
    )
    for one in balance.devices:
        if one not in known or balance.devices.count(one) > 1:
            raise node.fault("children", f"ids of devices of this file, each once and not the feeder's; {one} is not")
    if balance.min_loss_per_mille >= balance.max_loss_per_mille:
        raise node.fault("max_loss_per_mille", "more than min_loss_per_mille")
    node.close()
    return balance


def _clock_correction(node: Section) -> ClockCorrection:
    correction = ClockCorrection(
        start=node.moment("from"),
        end=node.moment("until") if node.has("until") else None,
        seconds=node.whole("seconds", least=-DAY_SECONDS, most=DAY_SECONDS),
        evidence=node.text("evidence"),
    )
    if not correction.seconds or correction.end is not None and correction.end <= correction.start:
        raise node.fault("seconds", "other than 0, and until later than from")
    node.close()
    return correction


def _clock_decisions(file: Path | None) -> dict[int, tuple[ClockCorrection, ...]]:
    """Corrections by device that reviewers signed, out of the file that ``review clock`` and ``review import`` write."""
    if file is None or not file.exists():
        return {}
    found: dict[int, tuple[ClockCorrection, ...]] = {}
    try:
        for one in json.loads(file.read_text(encoding="utf-8")):
            evidence = f"{one['reason']} (decided by {one['reviewer']})"
            correction = ClockCorrection(int(one["from"]), int(one["until"]), int(one["seconds"]), evidence)
            found[int(one["deviceId"])] = (*found.get(int(one["deviceId"]), ()), correction)
    except (OSError, ValueError, LookupError, TypeError) as fault:
        raise ConfigError(f"{file} is not a list of signed corrections of clocks: {fault}") from None
    return found


def _with_clock(device: DeviceConfig, decided: Mapping[int, tuple[ClockCorrection, ...]]) -> DeviceConfig:
    further = decided.get(device.device_id, ())
    if not further:
        return device
    source = replace(device.source, clock_corrections=(*device.source.clock_corrections, *further))
    return replace(device, source=source)


def _optional(node: Section, key: str, build: Callable[[Section], T]) -> T | None:
    if not node.has(key):
        return None
    section = node.section(key)
    built = build(section)
    section.close()
    return built


def _source(node: Section) -> SourceConfig:
    source = SourceConfig(
        format=node.choice("format", list(FORMATS)),
        files=tuple(node.texts("names", least=1)),
        channels=tuple(_channel(key, channel) for key, channel in node.named("channels").items()),
        stamp_columns=tuple(node.texts("stamp_columns", empty=True)),
        interval_seconds=node.whole("interval_seconds", least=1, most=DAY_SECONDS),
        stamped=node.choice("stamped", ["start", "end"]),
        stamp_format=node.text("stamp_format", default="iso"),
        utc_offset_seconds=node.offset("utc_offset"),
        timezone=node.zone("timezone") if node.has("timezone") else None,
        stamp_offset_seconds=node.whole("stamp_offset_seconds", default=0, least=-DAY_SECONDS),
        stamp_tolerance_seconds=node.whole("stamp_tolerance_seconds", default=0),
        delimiter=node.text("delimiter", default=","),
        decimal_mark=node.choice("decimal_mark", [".", ","], default="."),
        encoding=node.text("encoding", default="utf-8-sig"),
        skip_lines=node.whole("skip_lines", default=0),
        note=node.text("note", default="", empty=True),
        max_bytes=node.whole("max_bytes", default=MAX_BYTES, least=1),
        clock_corrections=tuple(map(_clock_correction, node.several("clock_corrections", least=0))),
    )
    if any(one.seconds % source.interval_seconds for one in source.clock_corrections):
        raise node.fault("clock_corrections", f"of whole intervals of {source.interval_seconds} s")
    if (source.format in ("csv", "xlsx")) != bool(source.stamp_columns):
        raise node.fault("stamp_columns", "given for csv and xlsx, and left out for formats that know their stamps")
    if source.timezone is not None and source.utc_offset_seconds is not None:
        raise node.fault("timezone", "left out where utc_offset is given")
    if (
        SLOT_SECONDS % source.interval_seconds
        and source.interval_seconds % SLOT_SECONDS
        or DAY_SECONDS % source.interval_seconds
    ):
        raise node.fault("interval_seconds", f"a divisor or a multiple of {SLOT_SECONDS} that divides {DAY_SECONDS}")
    if 2 * source.stamp_tolerance_seconds >= source.interval_seconds:
        raise node.fault("stamp_tolerance_seconds", "less than half an interval")
    if len(source.delimiter) != 1 or source.delimiter == source.decimal_mark:
        raise node.fault("delimiter", "one character other than the decimal mark")
    node.close()
    return source


def _channel(key: str, node: Section) -> Channel:
    channel = Channel(
        name=key,
        column=node.text("column", empty=True),
        quantity=Quantity(node.choice("quantity", [quantity.value for quantity in Quantity])),
        unit=node.text("unit"),
        required=node.flag("required", True),
        rolls_over_at=node.whole("rolls_over_at", least=1) if node.has("rolls_over_at") else None,
        serial_column=node.text("serial_column", default="", empty=True),
    )
    if channel.quantity is not Quantity.REGISTER and (channel.rolls_over_at or channel.serial_column):
        raise node.fault("quantity", "register where rolls_over_at or serial_column is given")
    node.close()
    return channel


def _factor(node: Section) -> EmissionFactorConfig:
    factor = EmissionFactorConfig(
        grid_zone=node.text("grid_zone", pattern=r"[!-~]{1,16}", called="1 to 16 ASCII characters"),
        year=node.whole("year", least=1970, most=9999),
        grams_per_mwh=node.whole("grams_per_mwh", least=1, most=10**7),
        source=node.text("source"),
        illustrative=node.flag("illustrative"),
    )
    node.close()
    return factor


def _found(many: tuple[T, ...], wanted: Callable[[T], bool], otherwise: str) -> T:
    for one in many:
        if wanted(one):
            return one
    raise ConfigError(otherwise)


def _unique(top: Section, key: str, what: str, values: list[Any]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise ConfigError(f"{top.file}: {key}: {what} {value!r} stands more than once")
