"""Texts off the chain are hostile: none of them may become markup, direction or an endless page."""

from __future__ import annotations

import csv
import io

import pytest
from bs4 import BeautifulSoup

PAYLOADS = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "' onmouseover='alert(1)",
    "</title><script>alert(1)</script>",
    "{{ 7*7 }}{% for x in y %}",
    "javascript:alert(1)",
    "<svg/onload=alert(1)>",
    "\u202egnp.exe\u2066 right to left",
    "line\r\nSet-Cookie: a=b\x00\x1b[31m",
    "%(evil)s %s %d {0}",
    "&lt;b&gt; &amp; &#x3c;script&#x3e;",
    "A" * 20_000,
    "Z\u0335\u0310" * 500,
]  # fmt: skip


def test_pages_with_hostile_texts_gain_no_markup(fresh_world, app_of, w):
    world = fresh_world
    world.register(1)
    archive = world.notarize([w.day_record(1, w.FIRST_DAY)])
    token = world.issue(archive, 1, w.FIRST_DAY)
    for text in PAYLOADS:
        details = (world.account(1), text, text, b"<>", text, w.FIRST_DAY, w.FIRST_DAY + w.DAY)
        call = world.contracts["EnergyCertificate"].functions.retire(token, 1, details)
        receipt = world.w3.eth.wait_for_transaction_receipt(
            call.transact({"from": world.account(1), "gas": 25_000_000}), poll_latency=0.01
        )
        assert receipt["status"] == 1, text[:40]
    world.send(
        "EmissionFactors",
        "publish",
        b"<b>RMPA</b>".ljust(16, b"\0"),
        2016,
        700_000,
        True,
        w.keccak256(b"x"),
        "<img src=x onerror=alert(1)>",
    )
    world.send("Notary", "revoke", archive.root, "<script>alert(1)</script>\u202e")
    app = app_of(world, labels={world.account(1): "<script>alert(1)</script>"})
    client = app.test_client()
    root = "0x" + archive.root.hex()
    found = client.get("/retirements.json").json["rows"]
    values = {
        "<address>": world.account(1), "<root>": root, "<device_id>": "1", "<int:start>": str(w.FIRST_DAY), "<month>": "2016-07",
        "/certificates/<token>": f"/certificates/{token:#066x}", "/retirements/<token>": "/retirements/certificate",
        "<int:number>": "1", "<tx>": found[0]["tx"], "<int:job_id>": "1", "/outcomes/<token>": "/outcomes",
    }  # fmt: skip
    app.extensions["wattmark"].validator.ask({})
    plain = {
        "/retirements?q=alert",
        "/transactions?function=retire",
        f"/retirements?account={world.account(1)}",
        "/search?q=1",
    }
    for rule in app.url_map.iter_rules():
        path = rule.rule
        for name, value in values.items():
            path = path.replace(name, value)
        # What one has to sign in for is in tests/webapp/test_operators.py.
        elsewhere = path.startswith(("/api", "/operators"))
        if "GET" in rule.methods and "<" not in path and "." not in path and not elsewhere:
            plain.add(path)
    assert {"/", "/retirements", "/factors", "/transactions", "/retirements/certificate/1", f"/batches/{root}"} <= plain
    assert len(found) == len(PAYLOADS)
    assert {row["purpose"] for row in found} == set(PAYLOADS)  # the JSON twin carries them whole
    for row in found:
        plain |= {f"/retirements/certificate/{row['number']}", f"/transactions/{row['tx']}"}
    for path in sorted(plain):
        answer = client.get(path)
        assert answer.status_code == 200, path
        page = BeautifulSoup(answer.data, "html.parser")
        # The only pictures are our own badges.
        assert all(
            img["src"].startswith("/retirements/") and set(img.attrs) <= {"src", "alt", "width", "height"}
            for img in page.find_all("img")
        ), path
        scripts = page.find_all("script")
        # Values for a script stand in a block that no browser runs.
        data = [s for s in scripts if s.get("type") == "application/json"]
        ran = [s for s in scripts if s not in data]
        assert all(set(s.attrs) == {"type", "src"} and s["src"].startswith("/static/") for s in ran), path
        assert all("<" not in s.string for s in data), path
        for tag in page.find_all(True):
            assert not [a for a in tag.attrs if a.startswith("on") or a == "style"], (path, tag.name)
            assert not str(tag.get("href", "")).lower().startswith("javascript:"), path
        text = answer.get_data(as_text=True)
        assert not any(mark in text for mark in "\u202e\u2066\x00\x1b"), path
        assert "A" * 500 not in text, path
        assert "49{%" not in text
        isolated = [b for b in page.find_all("bdi") if "alert(1)" in b.get_text()]
        if path.startswith("/retirements/") and "alert(1)" in page.get_text():
            assert isolated, path
        assert len(text) < 600_000, path


@pytest.mark.parametrize(
    ("start", "end", "told"),
    [(0, 2**40 - 1, "1970-01-01 – 9999-12-31"), (0, 0, "–"), (2**40 - 1, 2**40 - 1, "9999-12-31")],
    ids=["to the end of time", "none", "the end of time"],
)
def test_retirement_for_any_time_the_chain_can_carry_has_its_page_and_pdf(fresh_world, app_of, w, start, end, told):
    world = fresh_world
    world.register(1)
    token = world.issue(world.notarize([w.day_record(1, w.FIRST_DAY)]), 1, w.FIRST_DAY)
    details = (world.account(1), "Somebody", "Something", b"US", "", start, end)
    world.send("EnergyCertificate", "retire", token, 1, details, sender=1)
    client = app_of(world).test_client()
    for language in ("en", "es", "ru"):
        page = client.get(f"/retirements/certificate/1?lang={language}")
        assert page.status_code == 200
        facts = BeautifulSoup(page.data, "html.parser").select_one(".deed dl").select("dd")
        assert facts[1].get_text().startswith(told)
        assert client.get(f"/retirements/certificate/1/statement.pdf?lang={language}").status_code == 200
    assert client.get("/retirements").status_code == 200


def test_csv_of_hostile_texts_holds_no_formula_and_every_text(fresh_world, app_of, w):
    world = fresh_world
    world.register(1)
    archive = world.notarize([w.day_record(1, w.FIRST_DAY)])
    token = world.issue(archive, 1, w.FIRST_DAY)
    texts = ['=cmd|"/C calc"!A0', "+1+1", "-2+3", "@SUM(1)", 'a,b;"c"\nd', "\u202egnp"]
    for text in texts:
        world.retire(1, token, 1, name=text, purpose=text)
    lines = list(
        csv.DictReader(io.StringIO(app_of(world).test_client().get("/retirements.csv?sort=number").text, newline=""))
    )
    assert [line["purpose"] for line in lines] == ["'" + t if t[0] in "=+-@" else t for t in texts]
    assert not [cell for line in lines for cell in line.values() if cell.startswith(("=", "+", "-", "@"))]


def test_search_and_filters_with_hostile_texts_are_harmless(client):
    for text in PAYLOADS:
        for path in (
            "/search?q=",
            "/checks?device=",
            "/checks?from=",
            "/checks?result=",
            "/certificates?device=",
            "/retirements?q=",
            "/transactions?account=",
            "/devices?zone=",
            "/batches?sort=",
            "/?lang=",
        ):
            answer = client.get(path.split("?")[0], query_string={path.split("?")[1][:-1]: text[:1000]})
            assert answer.status_code in (200, 302, 404), (path, text[:40])
            page = BeautifulSoup(answer.data, "html.parser")
            assert not page.find_all("img") and all(s.get("src") for s in page.find_all("script"))


def test_body_too_large_is_refused(client):
    assert client.post("/checks/validate", data={"csrf": "x" * (1 << 21)}).status_code == 413


def test_json_nested_without_end_is_a_bad_request(office_app, operators):
    visitor = office_app.test_client()
    sent = operators.posting(operators.token_of(visitor))
    for body in (b"[" * 60_000, b'{"a":' * 10_000):
        answer = visitor.post("/operators/sign-in.json", data=body, content_type="application/json", headers=sent)
        assert answer.status_code == 400
