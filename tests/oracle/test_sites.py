"""The sites file: what it says is typed, and what it says wrongly is named by file and key."""

from decimal import Decimal
from pathlib import Path

import pytest
import yaml
from eth_hash.auto import keccak

from oracle.domain import DeviceKind, Visibility
from oracle.errors import ConfigError
from oracle.formats import ClockCorrection
from oracle.policies import ValidationPolicy
from oracle.sites import Basis, load_sites, source_folder

DEMO = Path(__file__).parents[2] / "scripts" / "demo_sites.yaml"


@pytest.fixture
def document():
    return yaml.safe_load(DEMO.read_text())


@pytest.fixture
def load(tmp_path, document):
    def load():
        file = tmp_path / "sites.yaml"
        file.write_text(yaml.safe_dump(document))
        return load_sites(file)

    return load


def put(document, path, value):
    *way, last = path
    for step in way:
        document = document[step]
    if value is None:
        del document[last]
    else:
        document[last] = value


def test_load_sites_demo_gives_typed_devices_stations_and_factors():
    config = load_sites(DEMO)
    east, west = config.devices
    assert (east.kind, east.visibility, east.capacity_w, east.granularity_seconds) == (
        DeviceKind.GENERATION,
        Visibility.PUBLIC,
        6000,
        86_400,
    )
    assert (east.fuel_number, east.technology_number, east.active_from) == (1_040_100, 10_100, 1_467_331_200)
    assert (east.site.country, east.site.grid_zone, east.orientation.provenance.basis) == ("US", "RMPA", Basis.KNOWN)
    assert (west.source.utc_offset_seconds, west.source.stamp_offset_seconds) == (-25_200, 60)
    assert east.source.stamp_zone == "each stamp carries its offset"
    assert west.source.stamp_zone == "UTC-07:00"
    assert {station.name: station.kind for station in config.stations} == {"psm3": "modelled", "rmis": "measured"}
    assert east.is_solar


def test_meter_hash_is_keccak256_of_the_identity():
    assert load_sites(DEMO).device(1).meter_hash == keccak(b"pvdaq:50/ac_power")


@pytest.mark.parametrize(("year", "pounds_per_mwh"), [(2016, "1367.8"), (2022, "1124.887")])
def test_emission_factor_is_its_source_converted_and_rounded_down(year, pounds_per_mwh):
    factor = load_sites(DEMO).emission_factor("RMPA", year)
    assert factor.grams_per_mwh == int(Decimal(pounds_per_mwh) * Decimal("453.59237"))
    assert f"{Decimal(pounds_per_mwh):,}" in factor.source


def test_emission_factor_that_is_not_there_is_an_error():
    with pytest.raises(ConfigError, match="RMPA in 2017"):
        load_sites(DEMO).emission_factor("RMPA", 2017)


def test_device_and_station_that_are_not_there_are_errors():
    config = load_sites(DEMO)
    with pytest.raises(ConfigError, match="id 9"):
        config.device(9)
    with pytest.raises(ConfigError, match="'moon'"):
        config.station("moon")


def test_load_sites_thresholds_given_replace_the_defaults(document, load):
    document["policies"]["rooftop-pv"] = {
        "validation": {"tare_per_mille": 8},
        "corroboration": {"clear_ratio": [0.5, 1.1], "required": False},
    }
    policy = load().device(1).policy
    assert (policy.validation.tare_per_mille, policy.validation.capacity_percent) == (8, 110)
    assert (policy.corroboration.clear_ratio, policy.corroboration.required) == ((0.5, 1.1), False)


def test_load_sites_policy_starts_from_its_class(document, load):
    document["policies"] = {"rooftop-pv": {}, "houses": {"for": "consumption", "validation": {"high_percent": 500}}}
    document["devices"][1]["policy"] = "houses"
    sites = load()
    assert sites.device(1).policy.validation == ValidationPolicy()
    houses = sites.device(2).policy
    assert (houses.name, houses.validation.high_percent, houses.validation.frozen_slots) == ("houses", 500, 0)
    assert houses.corroboration.required is False


def test_load_sites_usual_day_and_clock_corrections_are_typed(document, load):
    document["devices"][0]["usual_day"] = {
        "wh_by_month": list(range(12)),
        "history_days": 90,
        "basis": "fitted",
        "source": "s",
    }
    document["devices"][0]["file"]["clock_corrections"] = [
        {"from": "2016-08-01T00:00:00Z", "seconds": -1800, "evidence": "clock 30 min slow"}
    ]
    device = load().device(1)
    assert device.usual_day.wh_by_month == tuple(range(12))
    assert device.source.clock_corrections == (ClockCorrection(1_470_009_600, None, -1800, "clock 30 min slow"),)


@pytest.mark.parametrize(
    ("path", "value", "key"),
    [
        (["folder"], None, "folder"),
        (["sites", "serf", "latitude"], 139.7, "sites.serf.latitude"),
        (["sites", "serf", "timezone"], "America/Golden", "sites.serf.timezone"),
        (["sites", "serf", "country"], "usa", "sites.serf.country"),
        (["sites", "serf", "grid_zone"], "a zone with blanks", "sites.serf.grid_zone"),
        (["sites", "serf", "basis"], "guessed", "sites.serf.basis"),
        (["devices"], [], "devices"),
        (["devices", 0, "id"], 0, "devices[0].id"),
        (["devices", 0, "id"], True, "devices[0].id"),
        (["devices", 0, "site"], "mars", "devices[0].site"),
        (["devices", 0, "fuel_code"], "solar", "devices[0].fuel_code"),
        (["devices", 0, "capacity", "watts"], 6000.5, "devices[0].capacity.watts"),
        (["devices", 0, "capacity", "source"], None, "devices[0].capacity.source"),
        (["devices", 0, "granularity_seconds"], 1000, "devices[0].granularity_seconds"),
        (["devices", 0, "active_from"], "2016-07-01T00:07:00Z", "devices[0].active_from"),
        (["devices", 0, "active_from"], "2016-07-01T00:00:00", "devices[0].active_from"),
        (["devices", 0, "stations"], ["moon"], "devices[0].stations"),
        (["devices", 0, "colour"], "blue", "devices[0].colour"),
        (["devices", 0, "file", "format"], "parchment", "devices[0].file.format"),
        (["devices", 0, "file", "interval_seconds"], 700, "devices[0].file.interval_seconds"),
        (["devices", 0, "file", "utc_offset"], "MST", "devices[0].file.utc_offset"),
        (["devices", 0, "file", "decimal_mark"], ";", "devices[0].file.decimal_mark"),
        (["devices", 0, "file", "names"], [], "devices[0].file.names"),
        (["devices", 0, "file", "channels", "ac_power", "quantity"], "irradiance", "devices[0].file.channels"),
        (
            ["devices", 0, "file", "channels", "ac_power", "required"],
            False,
            "devices[0].file.channels.ac_power.required",
        ),
        (["devices", 0, "usual_day"], {"wh_by_month": [1] * 11}, "devices[0].usual_day.wh_by_month"),
        (["devices", 0, "usual_day"], {"wh_by_month": [-1] * 12}, "devices[0].usual_day.wh_by_month"),
        (
            ["devices", 0, "file", "clock_corrections"],
            [{"from": "2016-08-01"}],
            "devices[0].file.clock_corrections[0].from",
        ),
        (
            ["devices", 0, "file", "clock_corrections"],
            [{"from": "2016-08-01T00:00:00Z", "seconds": 60, "evidence": "e"}],
            "devices[0].file.clock_corrections",
        ),
        (
            ["devices", 0, "file", "clock_corrections"],
            [{"from": "2016-08-01T00:00:00Z", "until": "2016-08-01T00:00:00Z", "seconds": 900, "evidence": "e"}],
            "devices[0].file.clock_corrections[0].seconds",
        ),
        (["policies", "rooftop-pv", "for"], "wind", "policies.rooftop-pv.for"),
        (
            ["policies", "rooftop-pv", "validation", "certify_estimated"],
            1,
            "policies.rooftop-pv.validation.certify_estimated",
        ),
        (["devices", 1, "file", "timezone"], "America/Denver", "devices[1].file.timezone"),
        (["devices", 1, "file", "stamp_tolerance_seconds"], 450, "devices[1].file.stamp_tolerance_seconds"),
        (["devices", 1, "id"], 1, "devices"),
        (["policies", "rooftop-pv", "validation", "tare"], 5, "policies.rooftop-pv.validation.tare"),
        (
            ["policies", "rooftop-pv", "corroboration", "clear_ratio"],
            [1.2, 0.7],
            "policies.rooftop-pv.corroboration.clear_ratio",
        ),
        (["stations", "psm3", "kind"], "measured?", "stations.psm3.kind"),
        (["stations", "psm3", "ghi"], "dni", "stations.psm3.ghi"),
        (["emission_factors", 0, "illustrative"], "no", "emission_factors[0].illustrative"),
        (["emission_factors", 0, "grams_per_mwh"], 0, "emission_factors[0].grams_per_mwh"),
    ],
)
def test_load_sites_wrong_value_is_named_by_file_and_key(document, load, path, value, key):
    put(document, path, value)
    with pytest.raises(ConfigError) as wrong:
        load()
    assert "sites.yaml: " in str(wrong.value)
    assert key in str(wrong.value)


@pytest.mark.parametrize("content", ["", "- 1\n", "a: [\n", "a: &a [*a]\n1: 2\n"])
def test_load_sites_file_that_is_no_mapping_is_refused(tmp_path, content):
    file = tmp_path / "sites.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=r"sites\.yaml"):
        load_sites(file)


def test_load_sites_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="not there"):
        load_sites(tmp_path / "nothing.yaml")


def test_source_folder_inside_a_package_holds_the_demo_files():
    config = load_sites(DEMO)
    for device in config.devices:
        for name in device.source.files:
            assert (source_folder(config.folder) / name).is_file()


def test_source_folder_of_a_missing_package_says_how_to_install_it():
    with pytest.raises(ConfigError, match="pip install nosuchpackage"):
        source_folder("package:nosuchpackage/data")


def test_source_folder_without_prefix_is_relative_to_the_base(tmp_path):
    assert source_folder("raw", tmp_path) == tmp_path / "raw"
