"""The verify page in a browser: files are hashed there, nothing but hashes leaves it, and what it computes is right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sha3

from oracle import verify

FIRST_DAY = 1_467_331_200
ALL = {"data": "verified", "inclusion": "verified", "finality": "verified", "authority": "verified"}


@pytest.fixture
def page(browser, site):
    context = browser.new_context(locale="en-GB", viewport={"width": 1280, "height": 860})
    page = context.new_page()
    page.sent, page.complaints = [], []
    page.on("request", lambda request: page.sent.append((request.method, request.url, request.post_data_buffer)))
    page.on(
        "console",
        lambda message: page.complaints.append(message.text) if message.type in ("error", "warning") else None,
    )
    page.on("pageerror", lambda fault: page.complaints.append(str(fault)))
    page.goto(f"{site.url}/verify")
    page.sent.clear()
    yield page
    context.close()


def drop(page, name: str, content: bytes) -> dict[str, str]:
    """Give the page a file; the verdicts it shows."""
    page.locator("#result").evaluate("result => result.replaceChildren()")
    page.set_input_files("input[type=file]", {"name": name, "mimeType": "application/octet-stream", "buffer": content})
    page.locator(
        "#result > *, [data-status]:has-text('no usable'), [data-status]:has-text('more than')"
    ).first.wait_for(state="attached")
    page.wait_for_load_state("networkidle")
    return page.eval_on_selector_all(
        "#result [data-part]", "cards => Object.fromEntries(cards.map(c => [c.dataset.part, c.dataset.verdict]))"
    )


@pytest.fixture(scope="module")
def bundle(site):
    import requests

    root = "0x" + site.world.archives[0].root.hex()
    return requests.get(f"{site.url}/bundles/statement/{root}/1/{FIRST_DAY}.zip", timeout=30).content


def test_bundle_dropped_is_judged_here_and_only_its_root_is_asked(site, page, bundle):
    assert drop(page, "bundle.zip", bundle) == ALL
    assert page.locator("[data-headline]").get_attribute("data-headline") == "verified"
    root = "0x" + site.world.archives[0].root.hex()
    asked = [(method, url.split("?")[-1], body) for method, url, body in page.sent if "/verify" in url]
    assert asked == [("GET", f"root={root}", None)]
    record = site.world.archives[0].record(1, FIRST_DAY)
    row = page.locator("#result [data-computed] tbody tr td")
    assert row.nth(1).get_attribute("title") == "0x" + record.statement.profile_hash.hex()
    assert row.nth(3).get_attribute("title") == root
    assert page.complaints == []


def test_statement_changed_by_a_digit_is_noticed_in_the_browser(page, bundle):
    statement = json.loads(verify.read_zip(bundle)["statements.json"])[0]
    assert drop(page, "statement.json", json.dumps(statement).encode()) == ALL
    statement["statement"]["energyWh"] = "23098"
    assert drop(page, "statement.json", json.dumps(statement).encode()) == {
        **ALL,
        "data": "mismatch",
        "inclusion": "mismatch",
    }
    assert page.locator("[data-headline]").get_attribute("data-headline") == "mismatch"
    del statement["readings"]
    statement["statement"]["energyWh"] = "23099"
    assert drop(page, "statement.json", json.dumps(statement).encode()) == {**ALL, "data": "cannot check"}


def test_bundle_with_a_flipped_bit_is_told_to_be_damaged(page, bundle):
    for at in (300, len(bundle) // 2):
        damaged = bytearray(bundle)
        damaged[at] ^= 1
        assert drop(page, "bundle.zip", bytes(damaged)) == {}
        assert "no usable bundle" in page.locator("[data-status]").inner_text()
    assert not any("/verify" in url for _, url, _ in page.sent)


@pytest.mark.parametrize("path", ["/retirements/certificate/2/statement.pdf?lang=ru", "/retirements/certificate/2/statement.json", "/retirements/certificate/2/statement.pdf?evidence=1"])  # fmt: skip
def test_retirement_statement_dropped_is_verified(site, page, path):
    content = page.request.get(site.url + path).body()
    page.sent.clear()
    assert drop(page, "statement", content) == ALL
    assert all(body is None for _, _, body in page.sent)
    recorded = page.locator("#result dl.facts").inner_text()
    assert "000 kWh" in recorded and "Town library" in recorded and "Heat pumps" in recorded
    forged = content.replace(b'"Town library"', b'"Town brewery"')
    assert forged != content and drop(page, "statement", forged) == {**ALL, "data": "mismatch"}
    assert "Town brewery" not in page.locator("#result").inner_text()


def test_bundle_on_more_batches_than_are_asked_for_has_no_verdict(page, bundle):
    members = verify.read_zip(bundle)
    [genuine] = json.loads(members["statements.json"])
    manifest = json.loads(members["manifest.json"])
    members["statements.json"] = verify.canonical([genuine, *({**genuine, "root": f"0x{n:064x}"} for n in range(64))])
    manifest["members"]["statements.json"] = verify.stated(members["statements.json"])
    manifest["seal"] = verify.seal(manifest)
    members["manifest.json"] = verify.canonical(manifest)
    assert drop(page, "bundle.zip", verify.pack_zip(members)) == {}
    assert "more than 64 batches" in page.locator("[data-status]").inner_text()
    assert not any("/verify" in url for _, url, _ in page.sent)


def test_raw_file_is_looked_up_by_its_hash_alone(page):
    drop(page, "meter.csv", b"date,kWh\n" * 1000)
    page.get_by_text("No notarized statement that this site knows").wait_for()
    [(method, url, body)] = [entry for entry in page.sent if "/verify" in entry[1]]
    import hashlib

    assert (method, body) == ("GET", None) and url.endswith(
        "sha256=0x" + hashlib.sha256(b"date,kWh\n" * 1000).hexdigest()
    )


def test_file_is_sent_only_by_the_button_that_says_so(site, page, bundle, tmp_path):
    (tmp_path / "bundle.zip").write_bytes(bundle)
    page.set_input_files("input[type=file]", str(tmp_path / "bundle.zip"))
    page.get_by_role("button", name="Send the file and check it here").click()
    page.get_by_role("heading", name="An evidence bundle").wait_for()
    assert page.locator("#result [data-part][data-verdict=verified]").count() == 4
    assert any(method == "POST" for method, _, _ in page.sent)


def test_keccak_of_the_page_agrees_at_every_length(site, page):
    found = page.evaluate("""async () => {
      const { keccak256 } = await import('/static/keccak.js')
      return [0, 1, 55, 56, 135, 136, 137, 271, 272, 1000].map(n => [n, Array.from(keccak256(Uint8Array.from({ length: n }, (_, i) => (7 * i + 3) % 256)))])
    }""")
    for length, digest in found:
        assert bytes(digest) == sha3.keccak_256(bytes((7 * i + 3) % 256 for i in range(length))).digest(), length


def test_site_gone_what_the_browser_computed_still_stands(page, bundle):
    page.route("**/verify?**", lambda route: route.abort())
    drop(page, "bundle.zip", bundle)
    page.get_by_text("This site did not answer").wait_for()
    assert page.locator("#result [data-computed] tbody tr").count() == 1


def test_form_without_scripts_judges_the_file(site, browser, bundle, tmp_path: Path):
    (tmp_path / "bundle.zip").write_bytes(bundle)
    context = browser.new_context(locale="es-ES", java_script_enabled=False)
    try:
        page = context.new_page()
        page.goto(f"{site.url}/verify")
        page.set_input_files("input[type=file]", str(tmp_path / "bundle.zip"))
        page.locator("[data-send]").click()
        assert page.locator("#result [data-part][data-verdict=verified]").count() == 4
        assert not page.locator("[data-local]").is_visible()
    finally:
        context.close()
