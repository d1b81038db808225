"""Memory and time that each meter format needs for a large file.

./run bench formats                         100 MB of each format, a table
./run bench formats --megabytes 10 csv xlsx --json

Files are made on the fly and read in a process of their own by a source that names one device.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import openpyxl

ROOT = Path(__file__).resolve().parent.parent
START = datetime(1990, 1, 1, tzinfo=UTC)

_READ = """
import resource, sys
sys.path.insert(0, {root!r})
from oracle.formats import Channel, Quantity, SourceConfig, read
_, name, path, column, unit, interval, zone = sys.argv
channel = Channel("e", column, Quantity.POWER if unit == "W" else Quantity.ENERGY, unit)
offset = None if zone == "own" else int(zone)
stamps = ("time",) if name in ("csv", "xlsx") else ()
source = SourceConfig(name, ("*",), (channel,), stamps, int(interval), utc_offset_seconds=offset)
before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
parsed = read(open(path, "rb").read(), source, "x")
seconds = resource.getrusage(resource.RUSAGE_SELF).ru_utime - before
# ru_maxrss would count what the parent held when it forked.
[peak] = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(parsed.used, parsed.skipped, len(parsed.refused), sum(parsed.series[0].values), peak, round(seconds, 1))
"""


def stamp(n: int, pattern: str = "%Y-%m-%d %H:%M:%S", minutes: int = 15) -> str:
    return f"{START + timedelta(minutes=minutes * n):{pattern}}"


def csv(size: int) -> Iterator[str]:
    yield "time,value\n"
    n = 0
    while True:
        yield "".join(f"{stamp(k)},{k % 977}.{k % 1000:03d}\n" for k in range(n, n + 1000))
        n += 1000


def mii_csv(size: int) -> Iterator[str]:
    meters = range(30)
    yield "datalogger,DL\n" + "".join(
        f"{name}," + ",".join(text.format(n) for n in meters) + "\n"
        for name, text in (
            ("type", "meter"),
            ("name", "feed {}"),
            ("uid", "M{}"),
            ("unit", "W"),
            ("abbreviation", "M_AC_P"),
        )
    )
    values, n = ",".join(["1234.5"] * len(meters)), 0
    while True:
        yield f"{stamp(n)},{values}\n"
        n += 1


def mii_xml(size: int) -> Iterator[str]:
    devices = range(20)
    declared = "".join(f'<device type="meter" id="M{n}"/>' for n in devices)
    yield f'<mii version="2.0"><datalogger><configuration><devices>{declared}</devices></configuration><datapoints>\n'
    values = "".join(
        f'<device id="M{n}"><mv t="M_AC_P" v="1234.5"/><mv t="M_AC_E_EXP" v="5000.25"/></device>' for n in devices
    )
    n = 0
    while True:
        yield f'<datapoint interval="900" timestamp="{stamp(n, "%Y-%m-%dT%H:%M:%SZ")}">{values}</datapoint>\n'
        n += 1


def weblog(size: int) -> Iterator[str]:
    yield "[info]\nAnlage=P\nDatum=260621\n\n[messung]\n"
    yield "Uhrzeit;Intervall;Serien Nummer;Adresse;Pac;E_Tag;E_Int;E_Total;Status;Fehler\n;s;;;kW;kWh;kWh;kWh;;\n\n[Start]\n"
    inverters = max(1, size // 96 // 56)
    for slot in range(96):
        at = f"{slot // 4:02d}:{slot % 4 * 15:02d}:00"
        for n in range(inverters):
            yield f"{at};900;INV{n:06d};1;4.000;12.500;1.000;36545.25;7;0\n"


def message_80020(size: int) -> Iterator[str]:
    yield '<?xml version="1.0" encoding="windows-1251"?><message class="80020"><datetime><day>20260621</day></datetime><area>\n'
    ends = [f"{n // 2 % 24:02d}{n % 2 * 30:02d}" for n in range(49)]
    periods = "".join(
        f'<period start="{ends[n]}" end="{ends[n + 1]}"><value>12.5</value></period>\n' for n in range(48)
    )
    n = 0
    while True:
        yield f'<measuringpoint code="{n:06d}"><measuringchannel code="02">\n{periods}</measuringchannel></measuringpoint>\n'
        n += 1


def prime_s02(size: int) -> Iterator[str]:
    yield '<Report IdRpt="S02" IdPet="0" Version="3.1.c">\n<Cnc Id="CIR0000000001">\n'
    n = 0
    while True:
        hours = "".join(
            f'<S02 Fh="{stamp(hour, "%Y%m%d%H%M%S", 60)}000W" Bc="00" AI="0" AE="250" R1="3" R2="0" R3="0" R4="9"/>\n'
            for hour in range(1, 25)
        )
        yield f'<Cnt Id="ZIV{n:06d}" Magn="1">\n{hours}</Cnt>\n'
        n += 1


def green_button(size: int) -> Iterator[str]:
    meter = "http://example.invalid/espi/1_1/resource/UsagePoint/1/MeterReading/1"
    espi = 'xmlns="http://naesb.org/espi"'
    yield '<feed xmlns="http://www.w3.org/2005/Atom">\n'
    yield f'<entry><link rel="self" href="{meter}"/><link rel="related" href="http://example.invalid/ReadingType/1"/><content><MeterReading {espi}/></content></entry>\n'
    yield (
        f'<entry><link rel="self" href="http://example.invalid/ReadingType/1"/><content><ReadingType {espi}>'
        "<accumulationBehaviour>4</accumulationBehaviour><commodity>1</commodity><flowDirection>19</flowDirection>"
        "<intervalLength>900</intervalLength><powerOfTenMultiplier>0</powerOfTenMultiplier><uom>72</uom></ReadingType></content></entry>\n"
    )
    day = int(START.timestamp())
    while True:
        readings = "".join(
            f"<IntervalReading><timePeriod><duration>900</duration><start>{at}</start></timePeriod><value>250</value></IntervalReading>"
            for at in range(day, day + 86_400, 900)
        )
        yield (
            f'<entry><link rel="up" href="{meter}/IntervalBlock"/><content><IntervalBlock {espi}><interval><duration>86400</duration>'
            f"<start>{day}</start></interval>{readings}</IntervalBlock></content></entry>\n"
        )
        day += 86_400


def nem12(size: int) -> Iterator[str]:
    yield "100,NEM12,1,M,R\n"
    values = ",".join(["1.234"] * 96)
    n = 0
    while True:
        days = "".join(f"300,{stamp(day, '%Y%m%d', 1440)},{values},A,,,1,\n" for day in range(30))
        yield f"200,N{n:06d},B1,B1,B1,N1,S,kWh,15,\n{days}"
        n += 1


def vcom(size: int) -> Iterator[str]:
    values = ", ".join(f'"{n}": {{"E_INT": 1.25, "P_AC": 5000.0, "ERROR": null}}' for n in range(20))
    yield '{"meters": {\n'
    n = 0
    while True:
        yield f'{"," if n else ""}"{stamp(n, "%Y-%m-%dT%H:%M:%S+00:00")}": {{{values}}}\n'
        n += 1


@dataclass(frozen=True)
class Large:
    """How a large file of a format is made: pieces, what ends it, and what a source says to read one device of it.

    ``value_micro`` is each of its readings in millionths, 0 where they differ; the peak of memory stays within
    90 MB + ``per_megabyte`` for each megabyte of the file.
    """

    pieces: Callable[[int], Iterator[str]]
    end: str
    column: str
    unit: str
    interval: int
    zone: str
    value_micro: int
    per_megabyte: float

    def limit_megabytes(self, megabytes: float) -> float:
        return 90 + self.per_megabyte * megabytes


LARGE = {
    "csv": Large(csv, "", "value", "kWh", 900, "0", 0, 5.0),
    "mii-csv": Large(mii_csv, "", "M7/M_AC_P", "W", 900, "0", 1_234_500_000, 1.3),
    "mii-xml": Large(mii_xml, "</datapoints></datalogger></mii>", "M7/M_AC_P", "W", 900, "0", 1_234_500_000, 1.3),
    "weblog-ini": Large(weblog, "", "INV000007/E_Int", "kWh", 900, "0", 10**9, 1.3),
    "80020": Large(message_80020, "</area></message>", "000007/02", "kWh", 1800, "0", 12_500_000_000, 1.3),
    "prime-s02": Large(prime_s02, "</Cnc>\n</Report>\n", "ZIV000007/AE", "Wh", 3600, "0", 250_000_000, 1.3),
    "green-button": Large(green_button, "</feed>\n", "UsagePoint/1/MeterReading/1", "Wh", 900, "own", 250_000_000, 2.0),
    "nem12": Large(nem12, "900\n", "N000007/B1", "kWh", 900, "own", 1_234_000_000, 1.3),
    "vcom": Large(vcom, "}}\n", "meters/7/E_INT", "kWh", 900, "own", 1_250_000_000, 1.3),
    "xlsx": Large(csv, "", "value", "kWh", 900, "0", 0, 2.0),
}


def write(name: str, size: int, path: Path) -> None:
    """A file of about ``size`` bytes; of a workbook that is its sheet unpacked."""
    large = LARGE[name]
    if name == "xlsx":
        book = openpyxl.Workbook(write_only=True)
        sheet = book.create_sheet()
        sheet.append(["time", "value"])
        for n in range(size // 110):
            sheet.append([(START + timedelta(minutes=15 * n)).replace(tzinfo=None), n % 977])
        book.save(path)
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        for piece in large.pieces(size):
            file.write(piece)
            if name != "weblog-ini" and file.tell() >= size:
                break
        file.write(large.end)


@dataclass(frozen=True)
class Measured:
    """What reading took: ``seconds`` of processor time without start-up, ``megabytes`` of the process at its peak."""

    used: int
    skipped: int
    refused: int
    total_micro: int
    megabytes: float
    seconds: float


def measure(name: str, path: Path) -> Measured:
    large = LARGE[name]
    arguments = [name, str(path), large.column, large.unit, str(large.interval), large.zone]
    done = subprocess.run(
        [sys.executable, "-c", _READ.format(root=str(ROOT)), *arguments], capture_output=True, text=True, check=True
    )
    used, skipped, refused, total, kilobytes = map(int, done.stdout.split()[:5])
    return Measured(used, skipped, refused, total, kilobytes / 1000, float(done.stdout.split()[5]))


def main() -> None:
    parser = argparse.ArgumentParser(prog="./run bench formats", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="FORMAT", help="; ".join(LARGE))
    parser.add_argument("--megabytes", type=int, default=100, help="size of each file (100)")
    parser.add_argument("--json", action="store_true", help="as JSON")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(LARGE))
    if unknown:
        parser.error(f"no such format: {', '.join(unknown)}; there are {', '.join(LARGE)}")
    rows = []
    for name in options.names or LARGE:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "large"
            write(name, options.megabytes * 1_000_000, path)
            found = measure(name, path)
        limit = LARGE[name].limit_megabytes(options.megabytes)
        rows.append(
            {
                "format": name,
                "megabytes": round(found.megabytes),
                "limit": round(limit),
                "seconds": found.seconds,
                "readings": found.used + found.skipped,
            }
        )
        if not options.json:
            row = rows[-1]
            print(
                f"| `{name}` | {row['megabytes']} | {row['limit']} | {row['seconds']:.0f} | {row['readings']:,} |",
                flush=True,
            )
    if options.json:
        print(json.dumps({"file_megabytes": options.megabytes, "rows": rows}))


if __name__ == "__main__":
    main()
