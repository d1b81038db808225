"""Every message of layout 80020 that comes is answered by a file, whatever became of it."""

import io
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from oracle import pipeline
from oracle.config import OracleConfig
from tests.oracle.test_pipeline import configure, device

SAMPLE = (Path(__file__).resolve().parents[1] / "samples" / "message_80020.xml").read_bytes()
CLEAN = SAMPLE.replace(b' status="1"', b"")
NAME = "80020_0000000000_20260621_17"


def zipped(data):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("message.xml", data)
    return packed.getvalue()


@pytest.fixture
def oracle(tmp_path):
    """What takes a file by its name and content, and gives the answers that there are then by name."""
    meter = device(1)
    meter["file"] = {
        **{key: meter["file"][key] for key in ("basis", "source")},
        "format": "80020", "names": ["80020_*"], "interval_seconds": 1_800, "stamped": "start", "timezone": "Europe/Moscow",
        "channels": {"energy": {"column": "000000000000001/02", "quantity": "energy", "unit": "kWh"}},
    }  # fmt: skip
    config, store = configure(tmp_path / "oracle", meter)
    document = yaml.safe_load(config.file.read_text())
    config.file.write_text(yaml.safe_dump({**document, "replies_folder": "replies"}))
    config = OracleConfig.load(config.file)

    def take(name, data):
        (tmp_path / name).write_bytes(data)
        pipeline.ingest(config, store, [tmp_path / name])
        return {file.name: ElementTree.fromstring(file.read_bytes()) for file in config.replies_folder.iterdir()}  # noqa: S314

    return take


@pytest.mark.parametrize(
    ("name", "data", "status", "is_packed"),
    [
        (f"{NAME}.xml", CLEAN, "0", "0"),
        (f"{NAME}.xml", SAMPLE, "1", "0"),
        (f"{NAME}.zip", zipped(SAMPLE), "1", "1"),
        (f"{NAME}.xml", SAMPLE.replace(b'code="02"', b'code="07"'), "2", "0"),
        (f"{NAME}.xml", SAMPLE.replace(b"<value>8<", b"<value>x<"), "3", "0"),
        (f"{NAME}.xml", b"power cut", "4", "0"),
        (f"{NAME}.zip", zipped(SAMPLE)[:-9], "3", "1"),
    ],
)
def test_ingest_message_is_answered_with_the_status_of_what_became_of_it(oracle, name, data, status, is_packed):
    [(answered, reply)] = oracle(name, data).items()
    assert answered == "80021_0000000000_20260621_17.xml"
    assert (reply.get("class"), reply.get("id"), reply.find("reply").get("status")) == ("80021", "17", status)
    assert (reply.find("file/name").text, reply.find("file/date").text) == (name, "20260621")
    assert reply.find("file").get("zip") == is_packed


def test_ingest_message_again_and_mended_is_answered_in_the_same_file(oracle):
    def status(replies):
        [reply] = replies.values()
        return reply.find("reply").get("status")

    assert status(oracle(f"{NAME}.xml", b"power cut")) == "4"
    assert status(oracle(f"{NAME}.xml", CLEAN)) == "0"
    assert status(oracle(f"{NAME}.xml", CLEAN)) == "0"


def test_ingest_message_of_another_name_is_answered_with_the_day_of_its_content(oracle):
    [(answered, reply)] = oracle("80020_Ж day 21.xml", CLEAN).items()
    assert answered == "80021__ day 21.xml"
    assert (reply.get("id"), reply.find("file/date").text, reply.find("file/name").text) == (
        "0",
        "20260621",
        "80020_Ж day 21.xml",
    )
