"""Operators act from their own wallets, in a real browser: sign in, ask for a device, register it, publish a factor, plan and execute."""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from eth_utils import keccak

from scripts import safe
from tests.e2e.wallet import Wallet
from webapp.registrations import Registration

DAY = 86_400
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
AXE = Path(__file__).resolve().parents[2] / ".wattmark" / "node" / "node_modules" / "axe-core" / "axe.min.js"
SERIOUS = """async () => (await axe.run(document, { resultTypes: ['violations'] })).violations
  .filter(fault => ['serious', 'critical'].includes(fault.impact)).map(fault => `${fault.id}: ${fault.nodes[0].html.slice(0, 160)}`)"""
#: Pages of who is signed in; account 2 holds the roles that they need.
PAGES = ("/operators", "/operators/roles", "/operators/requests", "/operators/requests/new", "/operators/factors", "/operators/administration")  # fmt: skip
DOCUMENT = b"%PDF-1.7 commissioning protocol"


@pytest.fixture(scope="module")
def bureau(browser, sites, tmp_path_factory):
    """A site on a chain where every role is held by an account of its own."""
    folder = tmp_path_factory.mktemp("bureau")
    (folder / "world").mkdir()
    operators = sites.fixtures._module("operators")
    with sites.traded_world(folder / "world") as world:
        operators.take_office(world)
        for role in (1, 2, 3, 7):
            operators.grant(world, role, 2)
        with sites.served(world, folder / "web") as site:
            site.services.refresh()
            yield SimpleNamespace(site=site, world=world, operators=operators)


@pytest.fixture
def visit(browser, bureau):
    """Opens a page with a wallet that holds the key of one of anvil's accounts; complaints of the browser fail the test."""
    contexts = []

    def start(number, path="/operators/sign-in", size=DESKTOP, language="en", chain_id=None, bypass_csp=False):
        world = bureau.world
        wallet = Wallet(world.anvil.url, bureau.operators.key_of(number).key, chain_id or world.w3.eth.chain_id)
        context = browser.new_context(locale="en-GB", viewport=size, bypass_csp=bypass_csp, accept_downloads=True)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        wallet.install(page)
        page.complaints, page.expected = [], []
        page.on("console", lambda m: page.complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: page.complaints.append(str(e)))
        page.on(
            "request",
            lambda r: (
                page.complaints.append(r.url) if not r.url.startswith((bureau.site.url, "data:", "blob:")) else None
            ),
        )
        page.goto(f"{bureau.site.url}{path}?lang={language}")
        return page, wallet

    yield start
    for context in contexts:
        for page in context.pages:
            # The browser itself complains of every answer that is not 2xx.
            assert [text for text in page.complaints if not any(part in text for part in page.expected)] == []
        context.close()


def sign_in(page):
    page.locator("#sign-in").click()
    page.locator("#wallets button").first.click()
    page.wait_for_url("**/operators")


def signed_in(visit, number, path="/operators", **options):
    page, wallet = visit(number, **options)
    sign_in(page)
    page.goto(page.url.removesuffix("/operators") + path)
    return page, wallet


def check(page, button):
    button.click()
    page.locator("#act[open] #act-go:not([disabled])").wait_for()


def sign(page):
    """Go on in the wallet; wait until what was sent now, the first of the list, is in a block."""
    before = page.locator("#acts li").count()
    page.locator("#act-go").click()
    page.locator(f"#acts li:nth-child({before + 1})").wait_for()
    page.locator("#acts li:first-child:is([data-state=mined], [data-state=final])").wait_for()


def test_operators_register_a_requested_device_from_the_registrars_wallet(bureau, visit):
    world, offices = bureau.world, bureau.operators.OFFICES
    page, _ = signed_in(visit, 1, "/operators/requests/new")
    for name, text in bureau.operators.device_form(world.account(1), meter="Maker 77", note="Roof of hall 2").items():
        field = page.locator(f"#device-request [name={name}]")
        if name in ("kind", "visibility", "granularity"):
            field.select_option(text)
        else:
            field.fill(text)
    page.locator("[data-hash=evidence_hash]").set_input_files(
        {"name": "protocol.pdf", "mimeType": "application/pdf", "buffer": DOCUMENT}
    )
    page.locator("[data-hash-state]", has_text="protocol.pdf was hashed").wait_for()
    assert page.locator("[name=evidence_hash]").input_value() == "0x" + hashlib.sha256(DOCUMENT).hexdigest()
    assert page.locator("[name=evidence_name]").input_value() == "protocol.pdf"
    page.locator("#device-request button.pri").click()
    page.wait_for_url("**/operators/requests/1")
    page.locator("#live .pill", has_text="Waits for the registrar").wait_for()

    registrar, wallet = signed_in(visit, offices["registrar"], "/operators/requests/1")
    assert registrar.locator("[name=deviceId]").input_value() == "3"
    check(registrar, registrar.locator("form[data-act=register] button"))
    assert "never be changed" in registrar.locator("#act-review").inner_text()
    assert wallet.asked("eth_sendTransaction") == []
    sign(registrar)
    registrar.locator("#live .pill", has_text="Registered").wait_for()
    device = world.call("DeviceRegistry", "device", 3)
    zone, meter = b"RMPA".ljust(16, b"\0"), keccak(text="Maker 77")
    assert tuple(device) == (
        world.account(1), 6_000, 1, 1, b"US", DAY, 1_040_100, 10_100, 1_467_331_200, 2**40 - 1, zone, meter,
    )  # fmt: skip
    page.reload()
    page.locator("#live .pill", has_text="Registered").wait_for()


def test_factor_is_published_and_superseded_from_the_publishers_wallet(bureau, visit):
    world = bureau.world
    page, wallet = signed_in(visit, bureau.operators.OFFICES["factor publisher"], "/operators/factors", size=PHONE)
    page.locator("#factor [name=gridZone]").fill("NWPP")
    page.locator("#factor [name=year]").fill("2020")
    page.locator("#factor [name=gramsPerMWh]").fill("700")
    assert "less than 1 g per kWh" in page.locator("#factor-says").inner_text()
    page.locator("#factor [name=gramsPerMWh]").fill("650 000")
    assert page.locator("#factor-says").inner_text() == "650,000 g CO₂e per MWh: a kWh avoids 650 g, a MWh 650 kg."
    page.locator("#factor [name=source]").fill("Made for this test, page 1")
    page.locator("#factor button").click()
    page.locator("#wallet-problem", has_text="choose the document").wait_for()
    page.locator("[data-hash=sourceHash]").set_input_files(
        {"name": "grid.pdf", "mimeType": "application/pdf", "buffer": DOCUMENT}
    )
    page.locator("[data-hash-state]", has_text="grid.pdf was hashed").wait_for()
    check(page, page.locator("#factor button"))
    sign(page)
    number, grams = world.call("EmissionFactors", "currentFactor", b"NWPP".ljust(16, b"\0"), 2020)
    published = world.call("EmissionFactors", "factor", number)
    assert grams == 650_000 and keccak(DOCUMENT) in published and "Made for this test, page 1" in published

    page.locator("#live td", has_text="NWPP").wait_for()
    page.goto(page.url.split("?")[0] + f"?supersede={number}")
    page.locator("#factor [name=gramsPerMWh]").fill("640000")
    page.locator("#factor [name=source]").fill("Corrected")
    page.locator("#factor [name=sourceHash]").fill("0x" + keccak(DOCUMENT).hex())
    page.locator("#factor [name=illustrative]").check()
    wallet.refused.add("eth_sendTransaction")
    check(page, page.locator("#factor button"))
    page.locator("#act-go").click()
    page.locator("#act-problem", has_text="You said no in the wallet").wait_for()
    wallet.refused.clear()
    sign(page)
    assert world.call("EmissionFactors", "currentFactor", b"NWPP".ljust(16, b"\0"), 2020)[1] == 640_000
    # What the contract refuses is told before the wallet is asked.
    page.locator("#factor button").click()
    page.locator("#act-problem", has_text="was superseded by").wait_for()
    assert page.locator("#act-go").is_hidden()


def test_sign_in_refused_in_the_wallet_or_on_another_chain_says_so(bureau, visit):
    page, wallet = visit(3)
    wallet.refused.add("personal_sign")
    page.locator("#sign-in").click()
    page.locator("#wallets button").first.click()
    page.locator("#wallet-problem", has_text="You refused the signature").wait_for()
    page, wallet = visit(3, chain_id=1)
    wallet.refused |= {"wallet_switchEthereumChain", "wallet_addEthereumChain"}
    page.locator("#sign-in").click()
    page.locator("#wallets button").first.click()
    page.locator("#wallet-problem", has_text="did not change to Test chain").wait_for()
    assert wallet.asked("personal_sign") == []


def test_sign_in_with_a_message_for_another_site_is_refused_in_words(bureau, visit):
    """As behind a phishing site: what the wallet signed names another domain."""
    page, _ = visit(3)
    page.expected.append("401")
    page.route("**/message.json*", lambda route: (answer := route.fetch()) and route.fulfill(
        response=answer, body=answer.text().replace("localhost", "wattmark.example")))  # fmt: skip
    page.locator("#sign-in").click()
    page.locator("#wallets button").first.click()
    page.locator("#wallet-problem", has_text="made for another site").wait_for()


@contextmanager
def held_by(world, role, holder, delay_seconds=0):
    world.send("AccessManager", "grantRole", role, holder, delay_seconds)
    yield
    world.send("AccessManager", "revokeRole", role, holder)


def test_role_is_granted_and_taken_back_from_the_administrators_wallet(bureau, visit):
    world = bureau.world
    page, _ = signed_in(visit, 0, "/operators/administration")
    form = page.locator("form[data-act=grantRole]")
    form.locator("[name=roleId]").select_option("5")
    form.locator("[name=account]").fill(world.account(11))
    form.locator("[name=executionDelay]").fill("60")
    check(page, form.locator("button[value=grantRole]"))
    sign(page)
    assert world.call("AccessManager", "hasRole", 5, world.account(11)) == [True, 60]
    check(page, form.locator("button[value=revokeRole]"))
    sign(page)
    assert world.call("AccessManager", "hasRole", 5, world.account(11))[0] is False


def test_act_without_a_role_is_told_before_the_wallet_opens(bureau, visit):
    page, wallet = signed_in(visit, 3, "/operators/administration")
    page.locator("form[data-act=pause][data-contract=Notary] button").click()
    page.locator("#act-problem", has_text="lets your account do no such thing").wait_for()
    assert page.locator("#act-go").is_hidden() and wallet.asked("eth_sendTransaction") == []


def test_act_of_a_safe_comes_as_a_file_for_its_transaction_builder(bureau, visit, tmp_path):
    world = bureau.world
    holder = (
        world.contracts["ERC1888Adapter"].address
        if "ERC1888Adapter" in world.contracts
        else world.contracts["EmissionFactors"].address
    )
    with held_by(world, 3, holder):
        page, wallet = signed_in(visit, 3, "/operators/administration")
        page.locator("form[data-act=pause][data-contract=Notary] button").click()
        page.locator("#act-review", has_text="contract wallet").wait_for()
        assert page.locator("#act-go").is_hidden()
        with page.expect_download() as download:
            page.locator("#act-safe").click()
        download.value.save_as(tmp_path / "acts.json")
        document = json.loads((tmp_path / "acts.json").read_text())
        assert document["meta"]["checksum"] == safe.checksum(document)
        assert document["meta"]["createdFromSafeAddress"] == holder
        (call,) = document["transactions"]
        notary = world.contracts["Notary"]
        assert (call["to"], call["data"]) == (notary.address, notary.encode_abi("pause", []))
        assert wallet.asked("eth_sendTransaction") == []


def form_of(page, act):
    """The form of an act, opened."""
    form = page.locator(f"form:is([data-act={act}], :has(button[value={act}]))")
    if not form.is_visible():
        page.locator("details").filter(has=form).locator("summary").click()
    return form


def asked_for(page, act, **fields):
    """Fill in the form of an act and check it."""
    form = form_of(page, act)
    for name, text in fields.items():
        form.locator(f"[name={name}]").fill(text)
    check(page, form.locator(f"button[value={act}], button:not([value])").first)


def events(world, contract, name):
    return [event.args for event in world.contracts[contract].events[name]().get_logs(from_block=0)]


def test_registrar_sets_account_and_capacity_and_ends_a_device(bureau, visit):
    world = bureau.world
    page, _ = signed_in(visit, bureau.operators.OFFICES["registrar"], "/operators/administration", size=PHONE)
    tomorrow = (world.w3.eth.get_block("latest")["timestamp"] // DAY + 1) * DAY
    first, last = (time.strftime("%Y-%m-%d", time.gmtime(tomorrow + days * DAY)) for days in (0, 9))
    asked_for(page, "setCapacity", deviceId="2", since=first, capacityW="7 500")
    review = page.locator("#act-review").inner_text()
    assert "7,500 W" in review and f"{first} 00:00:00 UTC" in review
    sign(page)
    assert dict(events(world, "DeviceRegistry", "CapacitySet")[-1]) == {
        "deviceId": 2,
        "capacityW": 7_500,
        "since": tomorrow,
    }
    asked_for(page, "setAccount", deviceId="2", since=first, account=world.account(3))
    sign(page)
    assert dict(events(world, "DeviceRegistry", "AccountSet")[-1]) == {
        "deviceId": 2,
        "account": world.account(3),
        "since": tomorrow,
    }
    asked_for(page, "deactivate", deviceId="2", activeUntil=last)
    assert "never further away" in page.locator("#act-review").inner_text()
    sign(page)
    assert world.call("DeviceRegistry", "device", 2)[9] == tomorrow + 9 * DAY
    # The registry's refusal, in words, before the wallet opens.
    form = form_of(page, "setCapacity")
    form.locator("[name=since]").fill("2016-07-02")
    form.locator("button").click()
    page.locator("#act-problem", has_text="is too early for device 2").wait_for()


def test_guardian_revokes_a_batch_and_removes_a_witness(bureau, visit):
    world = bureau.world
    page, _ = signed_in(visit, bureau.operators.OFFICES["guardian"], "/operators/administration")
    root = "0x" + world.archives[-1].root.hex()
    form = form_of(page, "revoke")
    form.locator("[name=root]").fill(root)
    form.locator("button").click()
    page.locator("#wallet-problem", has_text="A text is missing").wait_for()
    form.locator("[name=reason]").fill("Made for this test")
    check(page, form.locator("button"))
    assert "never be brought back" in page.locator("#act-review").inner_text()
    sign(page)
    assert dict(events(world, "Notary", "Revoked")[-1])["reason"] == "Made for this test"
    assert world.call("Notary", "notarization", world.archives[-1].root)[6] == 2
    signers = world.call("Notary", "signerSet", world.call("Notary", "signerEpoch"))[0]
    asked_for(page, "removeSigner", signer=signers[0], reason="Key lost")
    sign(page)
    assert world.call("Notary", "signerSet", world.call("Notary", "signerEpoch"))[0] == signers[1:]


def test_authorisation_is_recorded_and_its_first_transfer(bureau, visit):
    world, offices = bureau.world, bureau.operators.OFFICES
    page, _ = signed_in(visit, offices["authoriser"], "/operators/administration")
    form = form_of(page, "authorise")
    for name, text in {
        "authorisationId": "7", "country": "us", "firstYear": "2016", "lastYear": "2017", "capKg": "1500,5", "shareOfProceeds": "5",
        "overallMitigation": "2.25", "shareOfProceedsAccount": world.account(9), "reference": "A-7",
    }.items():  # fmt: skip
        form.locator(f"[name={name}]").fill(text)
    form.locator("[data-hash]").set_input_files(
        {"name": "letter.pdf", "mimeType": "application/pdf", "buffer": DOCUMENT}
    )
    form.locator("[data-hash-state]", has_text="letter.pdf was hashed").wait_for()
    form.locator("button").click()
    page.locator("#wallet-problem", has_text="at least one purpose").wait_for()
    form.locator("[name=purpose][value='1']").check()
    form.locator("[name=purpose][value='4']").check()
    check(page, form.locator("button"))
    assert "1,500.500 kg CO₂e (1500500)" in page.locator("#act-review").inner_text()
    sign(page)
    assert tuple(world.call("MitigationOutcome", "authorisation", 7)) == (
        b"US", 2016, 2017, 5, 500, 225, 1, 1_500_500, 0, world.account(9), keccak(DOCUMENT), "A-7",
    )  # fmt: skip
    page, _ = signed_in(visit, offices["transfer recorder"], "/operators/administration")
    asked_for(page, "recordFirstTransfer", authorisationId="7", evidenceHash="0x" + keccak(DOCUMENT).hex())
    sign(page)
    assert dict(events(world, "MitigationOutcome", "StateAdvanced")[-1]) == {
        "authorisationId": 7, "state": 2, "evidenceHash": keccak(DOCUMENT),
    }  # fmt: skip
    check_again = page.locator("button[value=recordFirstTransfer]")
    check_again.click()
    page.locator("#act-problem", has_text="step 2 of 4").wait_for()


@pytest.mark.slow
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_on_every_operators_page_finds_no_serious_fault(bureau, visit, scheme, size):
    """Signed in as who holds several roles, so that every part of every page shows."""
    world = bureau.world
    page, _ = signed_in(visit, 2, size=size, bypass_csp=True)
    page.emulate_media(color_scheme=scheme)
    form = bureau.operators.device_form(world.account(2), meter="For axe")
    filed = bureau.site.services.desk.file(world.account(2), Registration.read(form).plain(), "0x" + "77" * 32, None)
    found = {}
    for path in (*PAGES, f"/operators/requests/{filed}"):
        page.goto(f"{bureau.site.url}{path}", wait_until="load")
        assert page.locator("nav.desk form").count() == 1, path
        page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true })")
        page.add_script_tag(content=AXE.read_text(encoding="utf-8"))
        if faults := page.evaluate(SERIOUS):
            found[path] = faults
    assert found == {}
    if (size, scheme) == (DESKTOP, "light"):
        page.goto(f"{bureau.site.url}/operators/requests/new")
        page.locator("#device-request button.pri").click()
        page.expected.append("422")
        page.locator("#fault-meter").wait_for()
        page.add_script_tag(content=AXE.read_text(encoding="utf-8"))
        assert page.evaluate(SERIOUS) == []
        page.goto(f"{bureau.site.url}/operators/administration")
        page.locator("form[data-act=pause][data-contract=Notary] button").click()
        page.locator("#act[open] #act-review .calldata").first.wait_for()
        page.add_script_tag(content=AXE.read_text(encoding="utf-8"))
        assert page.evaluate(SERIOUS) == []


def test_operators_pages_in_three_languages_fit_a_phone_and_keep_the_console_clean(bureau, visit):
    page, _ = signed_in(visit, 2, size=PHONE)
    for language in ("en", "es", "ru"):
        for path in PAGES:
            page.goto(f"{bureau.site.url}{path}?lang={language}")
            assert page.evaluate("document.documentElement.lang") == language
            page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true })")
            assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], (language, path)


def test_act_with_a_delay_is_planned_waits_and_is_executed(bureau, visit):
    """The last test here: it moves the chain's clock. The new witnesses are three, two of whom must sign."""
    world = bureau.world
    world.send("AccessManager", "grantRole", 0, world.account(0), 7_200)
    world.anvil.mine(1)
    page, _ = signed_in(visit, 0, "/operators/administration")
    form = page.locator("form[data-act=setSigners]")
    wanted = sorted((world.account(number) for number in (9, 10, 11)), key=str.lower)
    form.locator("[name=signers]").fill("\n".join(reversed(wanted)))
    form.locator("[name=threshold]").fill("4")
    form.locator("button").click()
    page.locator("#wallet-problem", has_text="threshold from 1 to their number").wait_for()
    form.locator("[name=threshold]").fill("2")
    check(page, form.locator("button"))
    assert (
        "2 h" in page.locator("#act-review").inner_text()
        and page.locator("#act-title").inner_text() == "Planned: Set witnesses"
    )
    sign(page)
    page.locator("#live .pill", has_text="Waits").wait_for()
    before = world.call("Notary", "signerEpoch")
    check_again = form.locator("button")
    check_again.click()
    page.locator("#act-problem", has_text="planned already and can be executed from").wait_for()
    page.locator("#act-close").click()
    world.anvil.rpc("evm_increaseTime", 7_300)
    world.anvil.mine(1)
    page.reload()
    page.locator("#live .pill", has_text="Can be executed").wait_for()
    check(page, page.locator("[data-operation=execute]"))
    sign(page)
    page.locator("#live", has_text="Nothing is planned").wait_for()
    epoch = world.call("Notary", "signerEpoch")
    assert epoch == before + 1 and sorted(world.call("Notary", "signerSet", epoch)[0], key=str.lower) == wanted
