"""A reviewer decides from a wallet, in a real browser: held day, signed decision, and what the oracle makes of it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace

import pytest

from oracle.domain import DayState
from oracle.store import DeviceDay
from tests.e2e.wallet import Wallet

REVIEWER = 7
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
AXE = Path(__file__).resolve().parents[2] / ".wattmark" / "node" / "node_modules" / "axe-core" / "axe.min.js"
SERIOUS = """async () => (await axe.run(document, { resultTypes: ['violations'] })).violations
  .filter(fault => ['serious', 'critical'].includes(fault.impact)).map(fault => `${fault.id}: ${fault.nodes[0].html.slice(0, 160)}`)"""
PAGES = (
    "/operators/reviews",
    "/operators/reviews/1/2022-06-02",
    "/operators/audit",
    "/operators/health",
    "/operators/gaps",
    "/audit",
)
HOSTILE = "<img src=x onerror=alert(1)> the meter was out"


@pytest.fixture(scope="module")
def bureau(browser, sites, tmp_path_factory):
    """A site on a chain where account 7 is a reviewer, beside an oracle that holds three days."""
    folder = tmp_path_factory.mktemp("reviews")
    (folder / "world").mkdir()
    operators, held_module = sites.fixtures._module("operators"), sites.fixtures._module("held")
    held = held_module.held_oracle(folder / "oracle", operators.key_of(REVIEWER).address)
    with sites.traded_world(folder / "world") as world:
        operators.grant(world, 7, REVIEWER)
        settings = {"oracle_database_url": held.config.database_url, "decisions_folder": held.config.decisions_folder}
        with sites.served(world, folder / "web", **settings) as site:
            site.services.refresh()
            yield SimpleNamespace(site=site, world=world, operators=operators, held=held, first=held_module.FIRST)


@pytest.fixture
def visit(browser, bureau):
    """Opens a page with the reviewer's wallet, signed in; complaints of the browser fail the test."""
    contexts = []

    def start(path, *, size=DESKTOP, scheme="light", bypass_csp=False):
        wallet = Wallet(bureau.world.anvil.url, bureau.operators.key_of(REVIEWER).key, bureau.world.w3.eth.chain_id)
        context = browser.new_context(locale="en-GB", viewport=size, color_scheme=scheme, bypass_csp=bypass_csp)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        wallet.install(page)
        page.complaints = []
        page.on("console", lambda m: page.complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: page.complaints.append(str(e)))
        page.goto(f"{bureau.site.url}/operators/sign-in?lang=en")
        page.locator("#sign-in").click()
        page.locator("#wallets button").first.click()
        page.wait_for_url("**/operators")
        page.goto(bureau.site.url + path)
        return page, wallet

    yield start
    for context in contexts:
        for page in context.pages:
            assert page.complaints == []
        context.close()


def review(page, decision, reason):
    page.locator(f"input[name=decision][value={decision}]").first.check()
    page.locator("#decision textarea[name=reason]").fill(reason)
    page.locator("#decision button.pri").click()
    page.locator("#sign[open]").wait_for()


def row_of(bureau, day):
    with bureau.held.store.session() as session:
        return session.get(DeviceDay, (1, bureau.first + day * 86_400))


def test_reviewer_accepts_a_held_day_and_sees_the_oracle_take_it(bureau, visit):
    page, wallet = visit("/operators/reviews")
    page.get_by_role("link", name="2022-06-01").click()
    assert page.locator("svg.chart.wide rect.hit").count() == 96
    review(page, "accept", "logger restarted at night")
    said = page.locator("#sign-words").inner_text()
    assert "Accept: certify" in said and "2022-06-01" in said and "logger restarted at night" in said
    text = page.locator("#sign-text").inner_text()
    # A person who says no in the wallet has signed nothing.
    wallet.refused.add("personal_sign")
    page.locator("#sign-go").click()
    page.locator("#sign-problem", has_text="Nothing was signed").wait_for()
    wallet.refused.clear()
    page.locator("#sign-go").click()
    page.locator("#decided", has_text="waits for the oracle").wait_for()
    page.locator("#live .pill.wait").wait_for()
    assert bytes.fromhex(wallet.asked("personal_sign")[-1][0][2:]).decode() == text
    [one] = bureau.held.take()
    assert one.state.value == "taken", one.reason
    page.locator("#decided[data-state=taken]").wait_for()
    page.locator("#live .pill.ok", has_text="Taken by the oracle").wait_for()
    row = row_of(bureau, 0)
    assert (row.state, row.energy_wh) == (DayState.ACCEPTED, 2_412)


def test_reviewer_edits_slots_with_evidence(bureau, visit):
    page, _ = visit("/operators/reviews/1/2022-06-03", size=PHONE)
    page.locator("input[name=decision][value=edit]").check()
    page.locator("#decision textarea[name=reason]").fill("read by hand")
    page.locator("#decision button.pri").click()
    page.locator("#decision-problem", has_text="Change the Wh").wait_for()
    page.locator("input[data-slot='10']").fill("7")
    page.locator("#decision button.pri").click()
    page.locator("#decision-problem", has_text="Choose the file").wait_for()
    content = b"a photograph of the meter"
    page.locator("#evidence").set_input_files({"name": "meter.jpg", "mimeType": "image/jpeg", "buffer": content})
    page.locator("#decision button.pri").click()
    page.locator("#sign[open]").wait_for()
    said = page.locator("#sign-words").inner_text()
    assert "02:30: 0 → 7" in said and hashlib.sha256(content).hexdigest() in said
    page.locator("#sign-go").click()
    page.locator("#live .pill.wait").wait_for()
    assert [one.state.value for one in bureau.held.take()] == ["taken"]
    page.locator("#decided[data-state=taken]").wait_for()
    row = row_of(bureau, 2)
    assert (row.state, row.energy_wh) == (DayState.ACCEPTED, 2_412 + 7)


def test_axe_on_operators_pages_finds_no_serious_fault(visit, bureau):
    axe = AXE.read_text(encoding="utf-8")
    for size, scheme in ((DESKTOP, "light"), (PHONE, "dark")):
        page, _ = visit("/operators/reviews", size=size, scheme=scheme, bypass_csp=True)
        found = {}
        for path in PAGES:
            page.goto(bureau.site.url + path)
            page.add_script_tag(content=axe)
            if faults := page.evaluate(SERIOUS):
                found[path] = faults
            assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth"), path
        assert found == {}


def test_reviewer_rejects_with_a_hostile_reason_that_stays_text(bureau, visit):
    page, _ = visit("/operators/reviews/1/2022-06-02")
    page.on("dialog", lambda dialog: page.complaints.append(dialog.message))
    review(page, "reject", HOSTILE)
    assert HOSTILE in page.locator("#sign-words").inner_text()
    page.locator("#sign-go").click()
    page.locator("#live .pill.wait").wait_for()
    assert HOSTILE in page.locator("#live").inner_text() and not page.locator("main img").count()
    assert [one.state.value for one in bureau.held.take()] == ["taken"]
    page.locator("#decided[data-state=taken]").wait_for()
    assert row_of(bureau, 1).state is DayState.REJECTED


def test_data_that_change_before_signing_are_noticed(bureau, visit, tmp_path):
    page, _ = visit("/operators/reviews/1/2022-06-03")
    review(page, "reject", "an old look")
    bureau.held.ingest_late(tmp_path, day=2)
    page.complaints.clear()
    page.locator("#sign-go").click()
    page.locator("#sign-problem", has_text="Load the page again").wait_for()
    # The browser itself complains of the answer.
    assert all("409" in text for text in page.complaints)
    page.complaints.clear()
