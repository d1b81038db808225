"""What large raw files were read as, kept as Parquet beside the raw folder, so that they are parsed once.

Only a saving of time: an entry is named by the file's sha256, the source's settings and the program that read it; a
missing or damaged one is made again, and the folder may be deleted at any moment.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import asdict
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import structlog

from .archive import write_whole
from .domain import Quality
from .formats import Parsed, RefusedRow, SourceConfig, read
from .formats.base import Channel, Quantity, Series

log = structlog.get_logger("oracle.slotcache")

#: Smaller files are read as fast as their entry would be.
LEAST_BYTES = 64 << 10

_COLUMNS = pa.schema(
    [
        pa.field("starts", pa.list_(pa.int64())),
        pa.field("whole", pa.list_(pa.int64())),
        pa.field("weather", pa.list_(pa.float64())),
        pa.field("serials", pa.list_(pa.string())),
    ]
)


def read_cached(folder: Path, data: bytes, sha256: str, source: SourceConfig, name: str) -> Parsed:
    """As :func:`oracle.formats.read`, out of ``folder`` where the same was read before. ``sha256`` is that of ``data``."""
    if len(data) < LEAST_BYTES:
        return read(data, source, name)
    key = hashlib.sha256("\n".join((sha256, repr(source), name, _program())).encode()).hexdigest()
    entry = folder / f"{key}.parquet"
    if entry.exists():
        try:
            return _load(entry)
        except (pa.ArrowException, ValueError, KeyError, OSError, TypeError) as fault:
            log.warning("entry is damaged", file=name, error=type(fault).__name__)
    parsed = read(data, source, name)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_whole(entry, _dump(parsed), 0o600)
    return parsed


@functools.cache
def _program() -> str:
    """Changes whenever the code that reads files does."""
    here = Path(__file__).parent
    code = sorted([*here.glob("formats/*.py"), here / "units.py", here / "domain.py", Path(__file__)])
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in code)).hexdigest()


def _dump(parsed: Parsed) -> bytes:
    facts = {
        "name": parsed.file_name,
        "rows": parsed.rows,
        "skipped": parsed.skipped,
        "refused": [asdict(row) for row in parsed.refused],
        "series": [
            {
                # As the file has it: a format may have put the file's own unit for the source's.
                "channel": {**asdict(one.channel), "quantity": one.channel.quantity.value},
                "interval_seconds": one.interval_seconds,
                "conflicts": sorted(one.conflicts),
                "quality": [[start, int(bits)] for start, bits in one.quality.items()],
            }
            for one in parsed.series
        ],
    }
    exact = [one.channel.quantity.is_exact for one in parsed.series]
    table = pa.table(
        {
            "starts": [list(one.starts) for one in parsed.series],
            "whole": [list(one.values) if is_exact else [] for one, is_exact in zip(parsed.series, exact, strict=True)],
            "weather": [
                [] if is_exact else list(one.values) for one, is_exact in zip(parsed.series, exact, strict=True)
            ],
            "serials": [list(one.serials) for one in parsed.series],
        },
        schema=_COLUMNS.with_metadata({"parsed": orjson.dumps(facts)}),
    )
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return bytes(sink.getvalue().to_pybytes())


def _load(entry: Path) -> Parsed:
    table = pq.read_table(pa.BufferReader(entry.read_bytes()), page_checksum_verification=True)
    facts = orjson.loads(table.schema.metadata[b"parsed"])
    series = []
    for row, one in zip(table.to_pylist(), facts["series"], strict=True):
        channel = Channel(**{**one["channel"], "quantity": Quantity(one["channel"]["quantity"])})
        series.append(
            Series(
                channel,
                one["interval_seconds"],
                tuple(row["starts"]),
                tuple(row["whole"] if channel.quantity.is_exact else row["weather"]),
                frozenset(one["conflicts"]),
                {start: Quality(bits) for start, bits in one["quality"]},
                tuple(row["serials"]),
            )
        )
    refused = tuple(RefusedRow(**row) for row in facts["refused"])
    return Parsed(facts["name"], facts["rows"], tuple(series), refused, facts["skipped"])
