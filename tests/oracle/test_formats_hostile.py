"""Files that attack the reader: refused in under a second and within 200 MB, whatever the format."""

import gzip
import io
import stat
import struct
import subprocess
import sys
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pytest

from oracle.errors import RefusedInput
from oracle.formats import SourceConfig, read, sniff

ROOT = Path(__file__).resolve().parent.parent.parent
SAMPLES = ROOT / "tests" / "samples"
XML = {"mii-xml": "mii", "80020": "message", "prime-s02": "Report", "green-button": "feed"}
LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
PROLOGS = {
    "billion laughs": f'<!DOCTYPE x [<!ENTITY l0 "ha">{LAUGHS}]>',
    "quadratic": f'<!DOCTYPE x [<!ENTITY l11 "{"x" * 200_000}">]>',
    "external entity": '<!DOCTYPE x [<!ENTITY l11 SYSTEM "file:///etc/passwd">]>',
    "parameter entity": '<!DOCTYPE x [<!ENTITY % p SYSTEM "http://localhost/x.dtd"> %p;]>',
    "external type": '<!DOCTYPE x SYSTEM "http://localhost/x.dtd">',
    "bare type": "<!DOCTYPE x>",
}


def source(name, **changes):
    return SourceConfig(name, ("*",), (), ("time",), 900, utc_offset_seconds=0, **changes)


def packed(*entries, method=zipfile.ZIP_DEFLATED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return out.getvalue()


def refusal(data, name="80020", **changes):
    with pytest.raises(RefusedInput) as refused:
        read(data, source(name, **changes), "evil.zip")
    assert refused.value.expected
    return refused.value


@pytest.mark.parametrize("prolog", PROLOGS)
@pytest.mark.parametrize("name", XML)
def test_read_xml_with_a_document_type_is_refused(name, prolog):
    text = f'<?xml version="1.0"?>{PROLOGS[prolog]}<{XML[name]}>{"&l11;" * 1000}</{XML[name]}>'
    assert "document type" in refusal(text.encode(), name).reason


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"<message class='80020'>" + b"<a>" * 500_000, "nested too deeply"),
        (b"<message class='80020'><a>" + b"x" * 30_000_000, "very long"),
        (b"<message class='80020'><a b='" + b"x" * 30_000_000, "very long"),
        (b"<message class='80020'><!--" + b"x" * 30_000_000, "very long"),
        (b"<message class='80020'>" + b"<a/>" * 10, "not well-formed"),
        ("<message class='80020'/>".encode("utf-16"), "none"),
        (b'<?xml version="1.0" encoding="nonsense"?><message class="80020"/>', "cannot be read|not well-formed"),
    ],
    ids=["deep", "long text", "long attribute", "long comment", "cut", "utf-16", "encoding"],
)
def test_read_xml_out_of_all_measure_is_refused(data, word):
    assert any(one in str(refusal(data)) for one in word.split("|"))


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "a/../../b", "C:\\x.xml", "..\\x.xml", "a\0.xml", "folder/"]
)
def test_read_zip_whose_entry_points_elsewhere_is_refused(name):
    data = packed((name.replace("\0", "Z"), b"<message/>")).replace(b"aZ.xml", b"a\0.xml")
    assert "entry of the ZIP" in refusal(data).reason


def test_read_zip_with_a_link_is_refused():
    info = zipfile.ZipInfo("x.xml")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    assert "no plain file" in refusal(packed((info, b"/etc/passwd"))).reason


@pytest.mark.parametrize("inner", [packed(("a.xml", b"<message/>")), gzip.compress(b"<message/>")])
def test_read_packed_file_in_a_packed_file_is_refused(inner):
    assert "holds another" in refusal(packed(("a.xml", inner))).reason
    assert "holds another" in refusal(gzip.compress(inner)).reason


def test_read_zip_with_several_or_no_entries_is_refused():
    assert "entries" in refusal(packed(("a", b"1"), ("b", b"2"))).reason
    assert "empty" in refusal(packed()).reason


def test_read_zip_that_hides_a_million_entries_is_refused_before_they_are_read():
    entry = struct.pack("<4s4B4HL2L5H2L", b"PK\x01\x02", 20, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    directory = entry * 1_000_000
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(directory), 4, 0)
    tracemalloc.start()
    try:
        assert "bytes of directory" in refusal(b"PK\x03\x04" + directory + end).reason
        assert tracemalloc.get_traced_memory()[1] < 120_000_000  # the file itself is 47 MB, twice
    finally:
        tracemalloc.stop()


def test_read_zip_with_a_password_or_damage_is_refused():
    data = packed(("a.xml", b"<message/>" * 100))
    flagged = data.replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01")
    assert flagged != data and "password" in refusal(flagged).reason
    assert refusal(data[:-30])
    assert refusal(data.replace(zlib.compress(b"<message/>" * 100)[2:8], b"\0" * 6))
    assert "ends early" in refusal(gzip.compress(b"<message/>" * 1000)[:-20]).reason


def test_read_file_beyond_its_cap_is_refused_packed_or_not():
    plain = (SAMPLES / "message_80020.xml").read_bytes()
    for data in (plain, gzip.compress(plain), packed(("a.xml", plain))):
        assert read(data, _half_hourly(len(plain)), "x").used == 96
        assert "too large" in refusal(data, max_bytes=len(plain) - 1).reason


def _half_hourly(max_bytes):
    return SourceConfig("80020", ("*",), (), (), 0, utc_offset_seconds=0, max_bytes=max_bytes)


_MEASURED = """
import resource, sys
sys.path.insert(0, {root!r})
from oracle.formats import SourceConfig, read
from oracle.errors import RefusedInput
data = open(sys.argv[1], "rb").read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
try:
    read(data, SourceConfig("80020", ("*",), (), (), 1800, utc_offset_seconds=0, max_bytes=50_000_000), "x")
except RefusedInput:
    # ru_maxrss would count what the parent held when it forked.
    [peak] = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
    print(resource.getrusage(resource.RUSAGE_SELF).ru_utime - before, peak)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")
@pytest.mark.parametrize("attack", ["zip bomb", "gzip bomb", "laughs", "attribute"])
def test_read_attack_is_refused_soon_and_within_200_megabytes(attack, tmp_path):
    data = {
        "zip bomb": lambda: packed(("a.xml", bytes(1 << 30))),
        "gzip bomb": lambda: gzip.compress(bytes(1 << 30), 1),
        "laughs": lambda: f"{PROLOGS['billion laughs']}<message class='80020'>&l11;</message>".encode(),
        "attribute": lambda: b"<message class='80020'><a b='" + b"x" * 40_000_000,
    }[attack]()
    (tmp_path / "attack").write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED.format(root=str(ROOT)), tmp_path / "attack"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    seconds, kilobytes = map(float, done.stdout.split())
    assert seconds < 5, attack  # of processor time; what an attack asks for would take minutes
    assert kilobytes < 200_000, attack


def test_sniff_bomb_is_refused_too():
    with pytest.raises(RefusedInput, match="too large"):
        sniff(gzip.compress(bytes(3_000_000)), "x", max_bytes=2_000_000)
