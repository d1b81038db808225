"""The retirement statement as PDF, JSON and badge: read back by other programs, and carrying what proves it."""

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import sys
from xml.etree import ElementTree

import pypdf
import pytest
from bs4 import BeautifulSoup

from oracle import verify

PATH = "/retirements/certificate/2"


def read(content: bytes) -> pypdf.PdfReader:
    return pypdf.PdfReader(io.BytesIO(content))


def words_of(content: bytes) -> str:
    return " ".join(" ".join(page.extract_text() for page in read(content).pages).split())


def attached(content: bytes) -> dict[str, bytes]:
    return {name: parts[0] for name, parts in read(content).attachments.items()}


@pytest.mark.parametrize(("language", "heading", "figure"), [
    ("en", "Retirement statement", "3.000 kWh"), ("es", "Constancia de retiro", "3,000 kWh"), ("ru", "Свидетельство о погашении", "3,000 kWh"),
])  # fmt: skip
def test_pdf_in_each_language_says_what_the_chain_records(client, world, language, heading, figure):
    answer = client.get(f"{PATH}/statement.pdf?lang={language}")
    assert answer.status_code == 200 and answer.mimetype == "application/pdf"
    assert len(answer.data) < 40_000
    text = words_of(answer.data)
    for part in (
        heading,
        figure,
        "Town library",
        "Heat pumps",
        "2016-07-01 – 2016-07-31",
        world.account(2),
        "http://localhost/retirements/certificate/2",
    ):
        assert part in text, part
    assert read(answer.data).metadata.title and len(read(answer.data).pages) == 1


def test_pdf_of_the_same_state_has_the_same_bytes(client):
    assert client.get(f"{PATH}/statement.pdf?lang=ru").data == client.get(f"{PATH}/statement.pdf?lang=ru").data


def test_pdf_carries_the_facts_byte_for_byte(client, world):
    told = client.get(f"{PATH}/statement.json")
    pdf = client.get(f"{PATH}/statement.pdf").data
    assert attached(pdf)["retirement.json"] == told.data and told.data in pdf
    assert hashlib.sha256(told.data).hexdigest() in words_of(pdf).replace(" ", "")
    facts = json.loads(told.data)
    [event] = world.contracts["EnergyCertificate"].events.RetiredBatch().get_logs(from_block=0)
    assert facts["number"] == str(event["args"]["number"]) and facts["block"] == event["blockNumber"]
    assert facts["blockHash"] == "0x" + bytes(event["blockHash"]).hex()
    assert [(int(item["id"], 16), int(item["amount"])) for item in facts["items"]] == list(zip(event["args"]["ids"], event["args"]["amounts"], strict=True))  # fmt: skip
    assert facts["details"]["beneficiaryName"] == event["args"]["details"]["beneficiaryName"]


@pytest.mark.parametrize("path", [PATH, "/retirements/outcome/1"])
def test_pdf_with_evidence_is_verified_by_the_stand_alone_script(client, world, tmp_path, path):
    (tmp_path / "s.pdf").write_bytes(client.get(f"{path}/statement.pdf?evidence=1").data)
    command = [sys.executable, "-I", "-S", verify.__file__, str(tmp_path / "s.pdf"), "--json", "--rpc", world.anvil.url, "--confirmations", "1"]  # fmt: skip
    shown = subprocess.run(command, env={}, capture_output=True, text=True, timeout=60)
    found = json.loads(shown.stdout)
    assert found["headline"] == "verified" and "for Town library" in found["subject"][1]


def test_pdf_of_an_estimate_says_so(client):
    text = words_of(client.get("/retirements/outcome/1/statement.pdf?lang=en").data)
    assert "must not be used against a mitigation target" in text and "0.100 kg CO₂e" in text


def test_badge_is_an_image_for_any_site_and_nothing_else(client):
    answer = client.get(f"{PATH}/badge.svg?lang=es")
    assert answer.status_code == 200 and answer.mimetype == "image/svg+xml"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    tree = ElementTree.fromstring(answer.data)  # noqa: S314 - our own
    text = " ".join("".join(tree.itertext()).split())
    assert "3,000 kWh" in text and "Town library" in text
    assert not re.search(rb"<script|href=|url\(|on[a-z]+=|<style|<foreignObject|<image", answer.data)


HOSTILE = '"><script>alert(1)</script>\u202e&amp;\x00<svg onload=x>'


def test_statement_with_hostile_names_stays_text(fresh_world, app_of, w):
    world = fresh_world
    world.register(1)
    token = world.issue(world.notarize([w.day_record(1, w.FIRST_DAY)]), 1, w.FIRST_DAY)
    for number, name in enumerate([HOSTILE, "東京 Ñandú Ёлка " * 40, "A" * 900], 1):
        world.retire(1, token, number, name=name, purpose=name)
    client = app_of(world).test_client()
    for number in (1, 2, 3):
        path = f"/retirements/certificate/{number}"
        badge = client.get(f"{path}/badge.svg")
        tags = {element.tag.split("}")[1] for element in ElementTree.fromstring(badge.data).iter()}  # noqa: S314
        assert tags <= {"svg", "title", "rect", "g", "path", "text", "tspan"}
        pdf = client.get(f"{path}/statement.pdf?lang=en")
        assert pdf.status_code == 200 and json.loads(attached(pdf.data)["retirement.json"])["number"] == str(number)
        page = BeautifulSoup(client.get(path).data, "html.parser")
        assert len(page.find_all("script")) == 1 and not page.select("[onload], [onerror]")
    assert (
        json.loads(client.get("/retirements/certificate/1/statement.json").data)["details"]["beneficiaryName"]
        == HOSTILE
    )


@pytest.mark.parametrize("path", ["/retirements/certificate/99", "/retirements/promise/1", "/retirements/certificate/99999999999999999999"])  # fmt: skip
@pytest.mark.parametrize("file", ["statement.pdf", "statement.json", "badge.svg"])
def test_statement_of_nothing_is_not_found(client, path, file):
    assert client.get(f"{path}/{file}").status_code == 404


def test_page_shows_a_code_that_leads_to_itself(client):
    page = BeautifulSoup(client.get(f"{PATH}?lang=en").data, "html.parser")
    assert page.select_one(".qr svg path")["d"].startswith("M")
    assert "http://localhost/retirements/certificate/2" in page.select_one(".qr").get_text()
    assert page.select_one('a[href="/verify?retirement=certificate/2"]')
