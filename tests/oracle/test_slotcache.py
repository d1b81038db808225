"""What a file is read as is the same out of the cache, and a cache that is wrong or gone changes nothing."""

import hashlib
import math

import pytest

from oracle import pipeline, slotcache
from oracle.formats import Channel, Quantity, SourceConfig, read
from oracle.formats.base import UNIT_OF_FILE
from oracle.intake import cache_folder, sources
from oracle.sites import load_sites
from oracle.slotcache import read_cached
from tests.oracle.test_pipeline import ROOT, SERF, configure, day_rows, device, rows_of, write

FILES = {"device:1": "serf_east_15min_ac_power.csv", "station:rmis": "rmis_weather_data.csv"}


def same(one, other):
    """Equal in every field; a missing value of weather is NaN, which equals nothing."""

    def plain(parsed):
        return [
            parsed.file_name,
            parsed.rows,
            parsed.refused,
            parsed.skipped,
            [(s.channel, s.interval_seconds, s.starts, s.conflicts, dict(s.quality), s.serials) for s in parsed.series],
            [["none" if isinstance(v, float) and math.isnan(v) else v for v in s.values] for s in parsed.series],
        ]

    return plain(one) == plain(other)


@pytest.mark.parametrize("source", FILES)
def test_read_cached_gives_what_reading_gives(tmp_path, monkeypatch, source):
    named = sources(load_sites(ROOT / "scripts" / "demo_sites.yaml"))
    fitting = next(one for one in named.values() if FILES[source] in one.files)
    data = (SERF / FILES[source]).read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    plain = read(data, fitting, FILES[source])
    assert len(plain.series[0].starts) > 1_000
    assert same(read_cached(tmp_path / "c", data, sha256, fitting, FILES[source]), plain)
    monkeypatch.setattr(slotcache, "read", None)  # from here on only the cache can answer
    assert same(read_cached(tmp_path / "c", data, sha256, fitting, FILES[source]), plain)
    [entry] = (tmp_path / "c").iterdir()
    assert entry.stat().st_mode & 0o777 == 0o600
    with pytest.raises(TypeError):
        read_cached(tmp_path / "c", data, sha256, fitting, "another name.csv")


def test_read_cached_unit_of_the_file_is_kept(tmp_path, monkeypatch):
    """A register that rolls over is read by its unit, which here the file alone states."""
    monkeypatch.setattr(slotcache, "LEAST_BYTES", 1)
    name = "meteocontrol_mii.csv"
    data = (ROOT / "tests" / "samples" / name).read_bytes()
    register = Channel("energy", "M1/M_AC_E_EXP", Quantity.REGISTER, UNIT_OF_FILE, rolls_over_at=1_000_000)
    fitting = SourceConfig("mii-csv", (name,), (register,), (), 900, utc_offset_seconds=0, stamped="end")
    sha256 = hashlib.sha256(data).hexdigest()
    plain = read(data, fitting, name)
    assert plain.series[0].channel.unit == "kWh"
    read_cached(tmp_path / "c", data, sha256, fitting, name)
    again = read_cached(tmp_path / "c", data, sha256, fitting, name)
    assert same(again, plain)


def test_assess_all_damaged_or_deleted_cache_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr(slotcache, "LEAST_BYTES", 1)
    config, store = configure(tmp_path / "oracle", device(1))
    pipeline.ingest(config, store, [write(tmp_path, "meter-1.csv", day_rows(0))])
    before = {key: row.profile for key, row in rows_of(store).items()}
    [entry] = cache_folder(config).iterdir()
    whole = entry.read_bytes()
    for damage in (whole[: len(whole) // 2], b"", whole[:-8] + b"x" * 8, whole[:40] + b"xxxx" + whole[44:]):
        entry.write_bytes(damage)
        assert pipeline.assess_all(config, store).changed == 0
        assert entry.read_bytes() == whole
    entry.unlink()
    assert pipeline.assess_all(config, store).changed == 0
    assert {key: row.profile for key, row in rows_of(store).items()} == before
