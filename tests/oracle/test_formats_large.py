"""Large files of every format stay within the memory that docs/formats.md states; made and read as `./run bench formats` does."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from oracle.formats import FORMATS

ROOT = Path(__file__).resolve().parent.parent.parent
_SPEC = spec_from_file_location("bench_formats", ROOT / "scripts" / "bench_formats.py")
bench = sys.modules["bench_formats"] = module_from_spec(_SPEC)
_SPEC.loader.exec_module(bench)
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from Linux's /proc")


def test_large_files_of_every_format_are_known():
    assert set(bench.LARGE) == set(FORMATS)


def held(name, megabytes, tmp_path):
    large = bench.LARGE[name]
    bench.write(name, megabytes * 1_000_000, tmp_path / "large")
    if name != "xlsx":
        assert (tmp_path / "large").stat().st_size >= megabytes * 990_000
    found = bench.measure(name, tmp_path / "large")
    assert found.refused == 0 and found.used
    if large.value_micro:
        assert found.total_micro == found.used * large.value_micro
    assert found.megabytes < large.limit_megabytes(megabytes)


@pytest.mark.parametrize("name", bench.LARGE)
def test_read_large_file_stays_within_its_memory(name, tmp_path):
    held(name, 1 if name == "xlsx" else 4, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nem12", "mii-csv"])
def test_read_file_of_100_megabytes_stays_within_its_memory(name, tmp_path):
    held(name, 100, tmp_path)
