"""A file of 100 MB in each of the large formats stays within the memory that docs/formats.md states."""

import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SIZE = 100_000_000
START = datetime(1990, 1, 1)  # noqa: DTZ001 (files have no zone)

_READ = """
import sys
sys.path.insert(0, {root!r})
from oracle.formats import Channel, Quantity, SourceConfig, read
_, name, path, column, unit, interval, zone = sys.argv
channel = Channel("e", column, Quantity.POWER if unit == "W" else Quantity.ENERGY, unit)
source = SourceConfig(name, ("*",), (channel,), ("time",), int(interval), utc_offset_seconds=int(zone))
parsed = read(open(path, "rb").read(), source, "x")
[peak] = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(parsed.used, len(parsed.refused), sum(parsed.series[0].values), peak)
"""


def csv():
    yield "time,value\n"
    n = 0
    while True:
        block = range(n, n + 4000)
        yield "".join(
            f"{START + timedelta(minutes=15 * k):%Y-%m-%d %H:%M:%S},{k % 977}.{k % 1000:03d}\n" for k in block
        )
        n += 4000


def mii_xml():
    devices = range(20)
    declared = "".join(f'<device type="meter" id="M{n}"/>' for n in devices)
    yield f'<mii version="2.0"><datalogger><configuration><devices>{declared}</devices></configuration><datapoints>\n'
    values = "".join(
        f'<device id="M{n}"><mv t="M_AC_P" v="1234.5"/><mv t="M_AC_E_EXP" v="5000.25"/></device>' for n in devices
    )
    n = 0
    while True:
        yield f'<datapoint interval="900" timestamp="{START + timedelta(minutes=15 * n):%Y-%m-%dT%H:%M:%SZ}">{values}</datapoint>\n'
        n += 1


def message_80020():
    yield '<?xml version="1.0" encoding="windows-1251"?><message class="80020"><datetime><day>20260621</day></datetime><area>\n'
    ends = [f"{n // 2 % 24:02d}{n % 2 * 30:02d}" for n in range(49)]
    periods = "".join(
        f'<period start="{ends[n]}" end="{ends[n + 1]}"><value>12.5</value></period>\n' for n in range(48)
    )
    n = 0
    while True:
        yield f'<measuringpoint code="{n:06d}"><measuringchannel code="02">\n{periods}</measuringchannel></measuringpoint>\n'
        n += 1


def nem12():
    yield "100,NEM12,1,M,R\n"
    values = ",".join(["1.234"] * 96)
    n = 0
    while True:
        yield f"200,N{n:06d},B1,B1,B1,N1,S,kWh,15,\n"
        for day in range(365):
            yield f"300,{START + timedelta(days=day):%Y%m%d},{values},A,,,1,\n"
        n += 1


LARGE = {
    "csv": (csv, "", ("value", "kWh", "900", "0"), 600),
    "mii-xml": (mii_xml, "</datapoints></datalogger></mii>", ("M7/M_AC_P", "W", "900", "0"), 200),
    "80020": (message_80020, "</area></message>", ("000007/02", "kWh", "1800", "0"), 200),
    "nem12": (nem12, "900\n", ("N000007/B1", "kWh", "900", "36000"), 200),
}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")
@pytest.mark.parametrize("name", LARGE)
def test_read_file_of_100_megabytes_stays_within_its_memory(name, tmp_path):
    pieces, end, arguments, megabytes = LARGE[name]
    with (tmp_path / "large").open("w", encoding="utf-8", newline="") as file:
        for piece in pieces():
            file.write(piece)
            # A piece of the largest kind, a year of NEM12, still ends below the cap of 128 MiB.
            if file.tell() > SIZE and not (name == "nem12" and piece.startswith("300") and "1231," not in piece[:16]):
                break
        file.write(end)
    done = subprocess.run(
        [sys.executable, "-c", _READ.format(root=str(ROOT)), name, tmp_path / "large", *arguments],
        capture_output=True, text=True, timeout=500, check=True,
    )  # fmt: skip
    used, refused, total, kilobytes = map(int, done.stdout.split())
    assert refused == 0 and used
    if name == "80020":
        assert (used, total) == (48, 48 * 12_500 * 10**6)
    elif name == "nem12":
        assert (used, total) == (365 * 96, 365 * 96 * 1_234 * 10**6)
    assert kilobytes < megabytes * 1000
