"""Sniffing, and every sample with its energy as worked out by hand; how a file without a source is looked into."""

import gzip
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from oracle.cli import cli
from oracle.errors import RefusedInput
from oracle.formats import FORMATS, sniff
from oracle.formats.survey import survey

ROOT = Path(__file__).resolve().parent.parent.parent
SAMPLES = ROOT / "tests" / "samples"

# The samples hold one bell-shaped day: 23 quarter-hours that rise, a highest one, and the same 23 falling.
# Green Button and NEM12, Wh: 1177+2349+3512+4659+5786+6888+7961+9000+10000+10958+11868+12728+13533+14280+14966+15588
# +16144+16630+17045+17387+17654+17846+17961 = 265920, twice that and 18000 are 549840.
BELL_WH = 2 * 265_920 + 18_000
# Inverter 1: 706+1410+2107+2795+3472+4133+4777+5400+6000+6575+7121+7637+8120+8568+8980+9353+9686+9978+10227+10432
# +10592+10708+10777 = 159554, twice that and 10800 are 329908. Inverter 2: 471+940+1405+1863+2314+2755+3184+3600+4000
# +4383+4747+5091+5413+5712+5987+6235+6457+6652+6818+6955+7062+7138+7185 = 106367, twice that and 7200 are 219934.
INVERTERS_WH = (2 * 159_554 + 10_800) + (2 * 106_367 + 7_200)
# Export by half-hours, kWh: 1+6+10+15+19+23+26+29+32+34+35 = 230, 3 x 36 = 108, 34+33+31+28+25+21+17+13+8+4 = 214.
HALF_HOURS_WH = (230 + 108 + 214) * 1000
# Hourly export, Wh: 2 x (213+861+1574+2220+2707+2967) = 21084 and 2 x (128+516+944+1332+1624+1780) = 12648.
HOURS_WH = 21_084 + 12_648
# Registers, kWh: 5549.843 - 5000.000 and 5063.165 - 5000.000. The first reading opens no slot of its own.
REGISTER_CSV_WH, REGISTER_XML_WH = 549_843, 63_165
# The Spanish file, Wh: 28+117+227+349+481+618+760+903+1046+1189+1328+1464+1594+1717+1833+1941+2038+2126+2202+2267
# +2319+2358+2385+2398 = 33688, there and back.
SPANISH_WH = 2 * 33_688
# VCOM, inverter by E_INT and meter by its register, each: 20 x (1+2+…+20) = 4200, twice, and 8 x 400: 11600. The register's
# first reading opens no slot of its own; it says the same as the one before.
VCOM_WH = 2 * (2 * 4_200 + 8 * 400)

EXPECTED = {
    "generic_es.csv": ("csv", ["Energía (kWh)"], 96, SPANISH_WH),
    "greenbutton.xml": ("green-button", ["UsagePoint/1/MeterReading"], 96, BELL_WH),
    "message_80020.xml": ("80020", ["000000000000001"], 96, HALF_HOURS_WH),
    "meteocontrol_delta_analog.txt": ("weblog-ini", [], 0, 0),
    "meteocontrol_delta_inverter.txt": ("weblog-ini", ["INV0001", "INV0002"], 192, INVERTERS_WH),
    "meteocontrol_mii.csv": ("mii-csv", ["M1"], 95, REGISTER_CSV_WH),
    "meteocontrol_mii.xml": ("mii-xml", ["M1"], 95, REGISTER_XML_WH),
    "nem12.csv": ("nem12", ["NMI0000001"], 96, BELL_WH),
    "vcom_bulk.json": ("vcom", ["inverters/Id100.1", "meters/200"], 96 + 95, VCOM_WH),
    "prime_s02.xml": ("prime-s02", ["ZIV0000000001", "ZIV0000000002"], 192, HOURS_WH),
}


def test_samples_are_all_expected():
    assert {file.name for file in SAMPLES.iterdir()} == set(EXPECTED)


@pytest.mark.parametrize("pack", ["plain", "gzip", "zip"])
@pytest.mark.parametrize("name", EXPECTED)
def test_survey_sample_packed_or_not_gives_the_energy_worked_out_by_hand(name, pack):
    data = (SAMPLES / name).read_bytes()
    if pack == "gzip":
        data = gzip.compress(data)
    elif pack == "zip":
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, data)
        data = packed.getvalue()
    found = survey(data, name)
    devices, slots, energy_wh = list(found.devices), 0, 0
    for column in found.counted:
        slots, energy_wh = slots + column.slots, energy_wh + column.energy_wh
    assert (found.format, devices, slots, energy_wh, found.refused) == (*EXPECTED[name], ())


@pytest.mark.parametrize("name", EXPECTED)
def test_ingest_dry_run_without_configuration_prints_the_agreed_fields(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, ["ingest", "--dry-run", str(SAMPLES / name), "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert [said[key] for key in ("format", "devices", "slots", "energy_wh", "refused")] == [*EXPECTED[name], []]
    assert said["assumed"] or name in ("nem12.csv", "greenbutton.xml")


def test_ingest_dry_run_as_a_command_prints_the_agreed_fields(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "oracle", "ingest", "--dry-run", str(SAMPLES / "generic_es.csv"), "--json"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    said = json.loads(done.stdout)
    assert [said[key] for key in ("format", "slots", "energy_wh")] == ["csv", 96, SPANISH_WH]
    assert any("stamps are UTC" in one for one in said["assumed"])


def test_ingest_dry_run_prints_refused_rows_with_line_and_reason(tmp_path):
    file = tmp_path / "x.xml"
    file.write_bytes(
        (SAMPLES / "message_80020.xml").read_bytes().replace(b"<value>36</value>", b"<value>3,6</value>", 1)
    )
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "oracle",
            "ingest",
            "--dry-run",
            str(file),
            "--json",
            "--assume",
            "timezone=Europe/Moscow",
        ],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    said = json.loads(done.stdout)
    line = file.read_bytes().split(b"<value>3,6")[0].count(b"\n") + 1
    assert [(row["line"], "not a decimal" in row["reason"]) for row in said["refused"]] == [(line, True)]
    assert said["energy_wh"] == HALF_HOURS_WH - 36_000 and said["slots"] == 94
    assert not any("UTC" in one for one in said["assumed"])


def test_survey_given_settings_replace_what_would_be_assumed():
    data = (SAMPLES / "message_80020.xml").read_bytes()
    found = survey(data, "x", {"unit": "Wh", "utc_offset": "+03:00"})
    assert found.assumed == ()
    assert [column.energy_wh for column in found.counted] == [552]


@pytest.mark.parametrize(
    ("given", "field"),
    [({"timezone": "Mars/Base"}, "timezone"), ({"stamped": "middle"}, "stamped"), ({"max_bytes": "-1"}, "max_bytes"), ({"colour": "red"}, None)],
)  # fmt: skip
def test_survey_setting_that_is_not_understood_is_refused(given, field):
    with pytest.raises(RefusedInput) as refused:
        survey((SAMPLES / "generic_es.csv").read_bytes(), "x", given)
    assert refused.value.field == field and refused.value.expected


@pytest.mark.parametrize("data", [b"", b"hello", b"\x89PNG\r\n\x1a\n" + bytes(50), b"<html><body/></html>", b"{}"])
def test_sniff_unknown_file_is_refused_and_names_all_that_was_tried(data):
    with pytest.raises(RefusedInput) as refused:
        sniff(data, "x")
    assert all(name in refused.value.expected for name in FORMATS)
