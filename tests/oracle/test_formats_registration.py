"""A new format is one file and one registration: nothing else has to know of it."""

import importlib.util
import sys
from pathlib import Path

import pytest
import yaml

from oracle import formats
from oracle.errors import RefusedInput
from oracle.formats import Channel, Format, Quantity, SourceConfig, day_slots, read, sniff
from oracle.formats.slots import MICRO_J_PER_WH
from oracle.formats.survey import survey
from oracle.sites import load_sites

DEMO = Path(__file__).parents[2] / "scripts" / "demo_sites.yaml"
# Everything that the new format is: what recognises it and what reads it.
MODULE = '''
"""Tally sheets: a line TALLY, then `meter slot-start-in-UTC-seconds Wh`."""

from oracle.errors import RefusedInput
from oracle.formats.base import Parsed, Quantity, SourceConfig
from oracle.formats.readings import Readings


def recognises(data: bytes) -> bool:
    return data.startswith(b"TALLY\\n")


def read(data: bytes, source: SourceConfig, file_name: str) -> Parsed:
    if not recognises(data):
        raise RefusedInput("no tally sheet", file=file_name, line=1, expected="TALLY first")
    readings = Readings(source, file_name)
    for line, text in enumerate(data.decode("ascii", "replace").splitlines()[1:], 2):
        fields = text.split()
        if len(fields) != 3 or not fields[1].isdigit():
            readings.refuse(line, text, "field 'slot': three fields are expected")
            continue
        meter, start, value = fields
        column = readings.column(f"{meter}/wh", unit="Wh", quantity=Quantity.ENERGY, line=line)
        if column is None:
            readings.skipped += 1
        else:
            column.interval_seconds = column.interval_seconds or 900
            column.take(line, value, int(start))
    return readings.parsed()
'''

DAY = 1_782_000_000
SHEET = b"TALLY\n" + b"".join(b"%s %d %d\n" % (meter, DAY + 900 * n, n * k) for n in range(96) for k, meter in ((1, b"A"), (2, b"B")))  # fmt: skip


@pytest.fixture
def tally(tmp_path, monkeypatch):
    (tmp_path / "tally.py").write_text(MODULE, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("tally", tmp_path / "tally.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "tally", module)
    spec.loader.exec_module(module)
    # The one registration.
    monkeypatch.setitem(formats.FORMATS, "tally", Format(module.read, module.recognises, "tally sheet"))
    return module


def test_format_of_one_file_and_one_registration_is_read_sniffed_and_surveyed(tally):
    assert sniff(SHEET, "x") == "tally"
    channel = Channel("e", "B/wh", Quantity.ENERGY, "Wh")
    parsed = read(SHEET, SourceConfig("tally", ("*",), (channel,), (), 900), "x")
    assert (parsed.used, parsed.skipped) == (96, 96)
    # 2 x (0 + 1 + … + 95) = 9120
    assert sum(day_slots(parsed.series)[DAY].micro_j) == 9_120 * MICRO_J_PER_WH
    found = survey(SHEET, "x")
    assert (found.format, found.devices, [column.energy_wh for column in found.counted]) == (
        "tally",
        ("A", "B"),
        [4_560, 9_120],
    )
    [row] = survey(SHEET + b"A tomorrow 5\n", "x").refused
    assert (row.line, "field 'slot'" in row.reason) == (194, True)


def test_format_of_one_file_and_one_registration_may_stand_in_a_sites_file(tally, tmp_path):
    source = {"format": "tally", "names": ["*.tally"], "interval_seconds": 900, "stamped": "start"}
    source |= {"channels": {"e": {"column": "A/wh", "quantity": "energy", "unit": "Wh"}}}
    document = yaml.safe_load(DEMO.read_text(encoding="utf-8"))
    described = {key: document["devices"][0]["file"][key] for key in ("basis", "source")}
    document["devices"][0]["file"] = source | described
    (tmp_path / "sites.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    device = load_sites(tmp_path / "sites.yaml").device(1)
    assert device.source.format == "tally"
    assert read(SHEET, device.source, "x").used == 96


def test_format_that_is_not_registered_is_refused():
    with pytest.raises(RefusedInput):
        sniff(SHEET.replace(b" ", b"_"), "x")
    source = SourceConfig("tally", ("*",), (), (), 900)
    with pytest.raises(RefusedInput, match="not known"):
        read(SHEET, source, "x")
