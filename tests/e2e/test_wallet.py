"""Buyers act from their own wallets, in a real browser: every signature is made by a key of the test and mined by a real node."""

from __future__ import annotations

import importlib.util
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from eth_account import Account

from webapp.index import hex_id

DAY, FIRST_DAY = 86_400, 1_467_331_200
#: anvil's own accounts are those of its well-known mnemonic.
MNEMONIC = "test test test test test test test test test test test junk"
AXE = Path(__file__).resolve().parents[2] / ".wattmark" / "node" / "node_modules" / "axe-core" / "axe.min.js"
SERIOUS = """async () => (await axe.run(document, { resultTypes: ['violations'] })).violations
  .filter(fault => ['serious', 'critical'].includes(fault.impact)).map(fault => `${fault.id}: ${fault.nodes[0].html.slice(0, 160)}`)"""
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


def _wallet_module():
    if "wattmark_test_wallet" not in sys.modules:
        path = Path(__file__).with_name("wallet.py")
        spec = importlib.util.spec_from_file_location("wattmark_test_wallet", path)
        module = importlib.util.module_from_spec(spec)
        sys.modules["wattmark_test_wallet"] = module
        spec.loader.exec_module(module)
    return sys.modules["wattmark_test_wallet"]


def key_of(number):
    Account.enable_unaudited_hdwallet_features()
    return Account.from_mnemonic(MNEMONIC, account_path=f"m/44'/60'/0'/0/{number}").key


@contextmanager
def relay_serving(world, folder):
    """A relay over HTTP, its own account funded."""
    import waitress

    from oracle.chain import Chain
    from oracle.config import KeyFile, NetworkConfig
    from webapp.relay import Relay, RelayConfig, create_relay_app

    network = NetworkConfig("Test chain", (world.anvil.url,), 420_042, world.addresses_path, timeout_seconds=5)
    payer = Account.create()
    world.anvil.rpc("anvil_setBalance", payer.address, hex(10**18))
    relay = Relay(RelayConfig(network, KeyFile(folder, folder), folder / "relay"), Chain.open(network), payer)
    relay.start()
    server = waitress.create_server(create_relay_app(relay), host="127.0.0.1", port=0, threads=4)
    threading.Thread(target=server.run, daemon=True).start()
    yield f"http://127.0.0.1:{server.effective_port}", payer.address
    server.close()
    relay.stop()


@pytest.fixture(scope="module")
def market(browser, sites, tmp_path_factory):
    """The main job's world, its site, and a relay."""
    folder = tmp_path_factory.mktemp("market")
    (folder / "world").mkdir()
    with sites.traded_world(folder / "world") as world, relay_serving(world, folder) as (relay_url, payer):
        # One certificate of the generator's for each test, beside what the main job left.
        w = sites.fixtures.world_module
        archive = world.notarize([w.day_record(1, FIRST_DAY + day * DAY, peak_wh=960) for day in range(31, 41)])
        world.days = [world.issue(archive, 1, FIRST_DAY + day * DAY) for day in range(31, 41)]
        with sites.served(world, folder / "web", relay_url=relay_url) as site:
            site.services.refresh()
            yield SimpleNamespace(site=site, world=world, payer=payer, w=w)


@pytest.fixture
def visit(browser, market):
    """Opens the portfolio of one of anvil's accounts with a wallet that holds its key; complaints of the browser fail the test."""
    contexts = []

    def start(number=1, path=None, size=DESKTOP, announced=True, language="en", chain_id=None, **options):
        world = market.world
        wallet = _wallet_module().Wallet(world.anvil.url, key_of(number), chain_id or world.w3.eth.chain_id, **options)
        context = browser.new_context(locale="en-GB", viewport=size)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        wallet.install(page, announced=announced)
        page.complaints = []
        page.on("console", lambda m: page.complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: page.complaints.append(str(e)))
        page.on(
            "request",
            lambda r: page.complaints.append(r.url) if not r.url.startswith((market.site.url, "data:")) else None,
        )
        page.goto(f"{market.site.url}{path or f'/portfolio/{world.account(number)}'}?lang={language}")
        return page, wallet

    yield start
    for context in contexts:
        for page in context.pages:
            assert page.complaints == []
        context.close()


def connect(page):
    page.locator("#wallet-connect").click()
    page.locator("#wallets button").first.click()
    page.locator("#chooser").wait_for(state="hidden")
    page.locator("#wallet-leave").wait_for()


def pick(page, *tokens):
    for token in tokens:
        page.locator(f"input[data-pick][value='{hex_id(token)}']").check()


def check(page):
    page.locator("#act-go").click()
    page.locator("#act-form[data-stage=review]").wait_for()


def sign(page):
    """Go on in the wallet; wait until what was sent is in a block that the site knows."""
    page.locator("#act-go").click()
    page.locator("#act").wait_for(state="hidden")
    in_a_block(page)


def in_a_block(page):
    page.locator("#acts li:first-child:is([data-state=mined], [data-state=final])").wait_for()


def tool(page, what, kind="certificate"):
    page.locator(f"[data-tools={kind}] [data-act={what}]").click()
    page.locator("#act[open]").wait_for()


def fill_retirement(page, name="Town library", purpose="Electricity of August 2016", **more):
    for field, value in {"beneficiaryName": name, "purpose": purpose, **more}.items():
        page.locator(f"#act-form [name={field}]").fill(value)


def held(world, number, token, contract="EnergyCertificate"):
    return world.call(contract, "balanceOf", world.account(number), token)


def retired_details(world, number):
    """Amounts and details of the last retirement, out of its event."""
    token = world.contracts["EnergyCertificate"]
    last = world.call("EnergyCertificate", "retirementCount")
    [event] = [
        e for name in ("Retired", "RetiredBatch") for e in token.events[name]().get_logs(from_block=0, argument_filters={"number": last})
    ]  # fmt: skip
    assert event.args.account == world.account(number)
    return event


# -- finding and connecting -------------------------------------------------------------------------


def test_connect_of_an_announced_wallet_leads_to_its_own_portfolio(market, visit):
    page, wallet = visit(path="/portfolio")
    page.locator("#wallet-connect").click()
    chosen = page.locator("#wallets button")
    assert chosen.inner_text() == "Test Wallet"
    chosen.click()
    page.wait_for_url(f"**/portfolio/{wallet.account.address}")
    # The page of the account takes the wallet up again without a question.
    page.get_by_text("Connected").wait_for()
    assert len(wallet.asked("eth_requestAccounts")) == 1


def test_connect_of_a_wallet_that_only_injects_itself_works_too(market, visit):
    page, _ = visit(announced=False)
    connect(page)
    assert "Wallet of this browser" in page.locator("#wallet-state").inner_text()


def test_connect_without_any_wallet_says_so(market, browser):
    page = browser.new_page()
    page.goto(f"{market.site.url}/portfolio?lang=en")
    page.locator("#wallet-connect").click()
    page.locator("#wallets-none").wait_for()
    page.keyboard.press("Escape")
    assert not page.locator("#chooser").is_visible()
    page.close()


def test_connect_that_is_rejected_says_so(market, visit):
    page, wallet = visit()
    wallet.refused = {"eth_requestAccounts"}
    page.locator("#wallet-connect").click()
    page.locator("#wallets button").click()
    page.get_by_text("You said no in the wallet.").wait_for()


def test_change_of_account_and_chain_in_the_wallet_is_noticed(market, visit):
    page, wallet = visit()
    connect(page)
    page.evaluate("address => window.__tell('accountsChanged', [address])", market.world.account(2).lower())
    page.get_by_text("The wallet uses another account").wait_for()
    assert page.locator("#wallet-own").get_attribute("href") == f"/portfolio/{market.world.account(2)}"
    tool_ = page.locator("[data-tools=certificate] [data-act=retire]")
    pick(page, market.world.days[0])
    tool_.click()
    assert not page.locator("#act").is_visible()
    wallet.chain_id = 1
    page.evaluate("address => window.__tell('accountsChanged', [address])", wallet.account.address.lower())
    page.evaluate("window.__tell('chainChanged', '0x1')")
    page.get_by_text("The wallet is on another chain.").wait_for()


# -- acting -----------------------------------------------------------------------------------------


def test_transfer_from_a_wallet_that_does_not_know_the_chain_adds_it_and_arrives(market, visit):
    world, token = market.world, market.world.days[0]
    page, wallet = visit(chain_id=1)
    connect(page)
    page.get_by_text("The wallet is on another chain.").wait_for()
    before = held(world, 1, token)
    pick(page, token)
    tool(page, "transfer")
    page.locator("#act-form [name^=amount]").fill("1,5")
    page.locator("#act-form [name=to]").fill(world.account(6))
    check(page)
    # 4902 to the switch, so the chain was added, then switched to.
    [added] = wallet.asked("wallet_addEthereumChain")
    assert added[0]["chainId"] == hex(world.w3.eth.chain_id) and added[0]["rpcUrls"] == [world.anvil.url]
    review = page.locator("#act-review").inner_text()
    assert "1.500" in review and "1500" in review and world.account(6) in review and "Only the receiver" in review
    sign(page)
    assert (held(world, 6, token), held(world, 1, token)) == (1_500, before - 1_500)
    # The page shows what the chain says, without being loaded anew.
    row = page.locator("tr", has=page.locator(f"input[value='{hex_id(token)}']"))
    row.get_by_text(f"{(before - 1_500) / 1000:.3f}").wait_for()


def test_transfer_of_several_goes_in_one_transaction(market, visit):
    world, tokens = market.world, market.world.days[1:3]
    page, wallet = visit()
    connect(page)
    amounts = [held(world, 1, token) for token in tokens]
    pick(page, *tokens)
    assert f"{sum(amounts) / 1000:.3f}" in page.locator("[data-tools=certificate] [data-chosen]").inner_text()
    tool(page, "transfer")
    page.locator("#act-form [name=to]").fill(world.account(6))
    check(page)
    sign(page)
    assert [held(world, 6, token) for token in tokens] == amounts
    assert len(wallet.asked("eth_sendTransaction")) == 1


def test_retire_shows_what_is_for_ever_and_goes_on_to_final(market, visit):
    world, token = market.world, market.world.days[3]
    page, wallet = visit()
    connect(page)
    pick(page, token)
    tool(page, "retire")
    page.locator("#act-form [name^=amount]").fill("2")
    fill_retirement(page, country="us", location="Golden")
    check(page)
    review = page.locator("#act-review").inner_text()
    for words in (
        "2.000",
        "2000",
        "cannot be undone",
        "This name will be public for ever: “Town library”",
        "Wallets show whole Wh",
    ):
        assert words in review, words
    sign(page)
    event = retired_details(world, 1)
    assert (event.args.id, event.args.amount) == (token, 2_000)
    details = event.args.details
    assert (details.beneficiaryName, details.country, details.location) == ("Town library", b"US", "Golden")
    assert details.beneficiary == world.account(1)
    start = FIRST_DAY + 34 * DAY
    assert (details.consumptionStart, details.consumptionEnd) == (start, start + DAY)
    [[asked]] = wallet.asked("eth_sendTransaction")
    assert set(asked) == {"from", "to", "data", "gas", "chainId"}
    # Not final before the chain says so; then it is, and still known after a reload.
    assert "not final yet" in page.locator("#acts li").first.inner_text()
    world.anvil.mine(80)
    page.reload()
    page.locator("#acts li[data-state=final]").first.wait_for()


def test_retire_of_an_amount_of_a_month_takes_as_few_certificates_as_it_can(market, visit):
    world = market.world
    page, _ = visit()
    connect(page)
    quick = page.locator("#quick")
    quick.locator("[name=month]").select_option("2016-08")
    quick.locator("[name=technology]").select_option("Photovoltaic")
    free = {token: held(world, 1, token) for token in world.days}
    most = max(free.values())
    quick.locator("[name=amount]").fill(f"{(most + 700) / 1000:.3f}")
    quick.locator("[value=retire]").click()
    page.locator("#act[open]").wait_for()
    fill_retirement(page)
    assert page.locator("#act-form [name=consumptionStart]").input_value() == "2016-08-01"
    assert page.locator("#act-form [name=consumptionEnd]").input_value() == "2016-08-31"
    check(page)
    sign(page)
    event = retired_details(world, 1)
    assert sorted(event.args.amounts) == [700, most]
    # The rest comes out of the smallest that is enough.
    rest = dict(zip(event.args.amounts, event.args.ids, strict=True))[700]
    others = [
        amount
        for token, amount in free.items()
        if token != dict(zip(event.args.amounts, event.args.ids, strict=True))[most]
    ]
    assert free[rest] == min(amount for amount in others if amount >= 700)


def test_convert_gives_an_outcome_of_the_factor(market, visit):
    world, token = market.world, market.world.days[5]
    page, _ = visit()
    connect(page)
    outcome = world.done["outcome"]
    before = held(world, 1, outcome, "MitigationOutcome")
    pick(page, token)
    tool(page, "convert")
    page.locator("#act-form [name^=amount]").fill("3")
    check(page)
    review = page.locator("#act-review").inner_text()
    # 3,000 Wh by 700,000 g a MWh are 2,100 g.
    assert "2.100 kg CO₂e" in review and "avoided-emission estimate" in review and "used up" in review
    sign(page)
    assert held(world, 1, outcome, "MitigationOutcome") == before + 2_100


def test_outcome_is_retired_in_grams(market, visit):
    world, outcome = market.world, market.world.done["outcome"]
    page, _ = visit()
    connect(page)
    before = held(world, 1, outcome, "MitigationOutcome")
    pick(page, outcome)
    tool(page, "retire", "outcome")
    page.locator("#act-form [name^=amount]").fill("0.1")
    fill_retirement(page)
    check(page)
    assert "Wallets show whole grams: 100 is 0.100 kg CO₂e." in page.locator("#act-review").inner_text()
    sign(page)
    assert held(world, 1, outcome, "MitigationOutcome") == before - 100


def test_issue_of_what_is_ready_makes_a_certificate(market, visit):
    world = market.world
    page, _ = visit()
    connect(page)
    start = FIRST_DAY + DAY
    assert not world.call("EnergyCertificate", "isCertified", 2, start, DAY)
    root = "0x" + world.archives[1].root.hex()
    page.locator(f"[data-issue='{root}']").click()
    page.locator("#act-form[data-stage=review] #act-go").filter(has_text="Go on").wait_for()
    sign(page)
    assert world.call("EnergyCertificate", "isCertified", 2, start, DAY)
    page.locator(f"[data-issue='{root}']").wait_for(state="detached")


def test_allowance_is_given_and_taken_back(market, visit):
    world = market.world
    page, _ = visit()
    connect(page)

    def allowed():
        return world.call("EnergyCertificate", "isApprovedForAll", world.account(1), world.account(7))

    page.locator("summary", has_text="Allow an operator").click()
    page.locator("#allow [name=operator]").fill(world.account(7))
    page.locator("#allow button").click()
    page.locator("#act-review .warnings").get_by_text("everything you hold").wait_for()
    sign(page)
    assert allowed()
    page.locator(f"[data-revoke='{world.account(7)}']").click()
    page.locator("#act-review dl").wait_for()
    sign(page)
    assert not allowed()


def test_retire_without_a_fee_is_signed_here_and_paid_by_the_relay(market, visit):
    world, token = market.world, market.world.days[6]
    page, wallet = visit()
    connect(page)
    before = world.w3.eth.get_balance(world.account(1))
    pick(page, token)
    tool(page, "retire")
    page.locator("#act-form [name^=amount]").fill("1.25")
    fill_retirement(page, name="Школа № 7")
    page.get_by_text("Without a fee").click()
    check(page)
    assert "the relay pays" in page.locator("#act-review").inner_text()
    sign(page)
    event = retired_details(world, 1)
    assert (event.args.amount, event.args.details.beneficiaryName) == (1_250, "Школа № 7")
    assert world.w3.eth.get_transaction(event.transactionHash)["from"] == market.payer
    assert world.w3.eth.get_balance(world.account(1)) == before
    assert wallet.asked("eth_sendTransaction") == [] and len(wallet.asked("eth_signTypedData_v4")) == 1


def test_retire_of_several_without_a_fee_and_without_gas(market, visit):
    world, tokens = market.world, market.world.days[7:9]
    page, _ = visit()
    connect(page)
    saved = world.w3.eth.get_balance(world.account(1))
    world.anvil.rpc("anvil_setBalance", world.account(1), "0x0")
    try:
        pick(page, *tokens)
        tool(page, "retire")
        for field in page.locator("#act-form [name^=amount]").all():
            field.fill("0.3")
        fill_retirement(page)
        page.locator("#act-go").click()
        page.get_by_text("Choose “Without a fee”").wait_for()
        page.get_by_text("Without a fee: I sign").click()
        check(page)
        sign(page)
    finally:
        world.anvil.rpc("anvil_setBalance", world.account(1), hex(saved))
    assert list(retired_details(world, 1).args.amounts) == [300, 300]


def test_watch_asks_the_wallet_for_each_certificate(market, visit):
    page, wallet = visit()
    connect(page)
    pick(page, market.world.days[0])
    page.locator("[data-tools=certificate] [data-act=watch]").click()
    page.get_by_text("The wallet shows it now.").wait_for()
    [asked] = wallet.asked("wallet_watchAsset")
    options = (asked[0] if isinstance(asked, list) else asked)["options"]
    assert options == {
        "address": market.world.contracts["EnergyCertificate"].address, "tokenId": str(market.world.days[0])
    }  # fmt: skip


def retire_signed(page, token, amount="0.1"):
    """The form of a retirement without a fee, up to the button that signs."""
    pick(page, token)
    tool(page, "retire")
    page.locator("#act-form [name^=amount]").fill(amount)
    fill_retirement(page)
    page.get_by_text("Without a fee: I sign").click()
    check(page)


def test_retirement_whose_taking_the_relay_could_not_tell_is_asked_again_and_happens_once(market, visit):
    world = market.world
    page, wallet = visit()
    connect(page)
    before, asked = world.call("EnergyCertificate", "retirementCount"), []

    def lost(route):
        asked.append(route.request.post_data)
        answer = route.fetch()
        route.abort() if len(asked) == 1 else route.fulfill(response=answer)

    page.route("**/relay/retirements.json", lost)
    retire_signed(page, world.days[7])
    sign(page)
    assert len(asked) == 2 and asked[0] == asked[1]
    assert len(wallet.asked("eth_signTypedData_v4")) == 1
    assert world.call("EnergyCertificate", "retirementCount") == before + 1
    page.complaints = [text for text in page.complaints if "ERR_FAILED" not in text]


def test_retirement_that_the_relay_never_confirms_is_told_as_open_then_as_not_arrived(market, visit):
    world = market.world
    page, _ = visit()
    page.clock.install()
    page.reload()
    connect(page)
    page.route("**/relay/retirements.json", lambda route: route.abort())
    before = world.call("EnergyCertificate", "retirementCount")
    retire_signed(page, world.days[7])
    page.locator("#act-go").click()
    late, seen = time.monotonic() + 60, set()
    while "relayFailed" not in seen:
        assert time.monotonic() < late
        page.clock.fast_forward(5_000)
        seen |= {item.get_attribute("data-state") for item in page.locator("#acts li").all()[:1]}
    assert "unsure" in seen and "never arrived" in page.locator("#acts li").first.inner_text()
    assert world.call("EnergyCertificate", "retirementCount") == before
    page.complaints = [text for text in page.complaints if "ERR_FAILED" not in text and "404" not in text]


# -- refusals ---------------------------------------------------------------------------------------


def transfer_reviewed(page, market):
    pick(page, market.world.days[9])
    tool(page, "transfer")
    page.locator("#act-form [name^=amount]").fill("0.1")
    page.locator("#act-form [name=to]").fill(market.world.account(8))
    check(page)


def test_account_changed_while_the_wallet_changes_chains_sends_nothing(market, visit):
    page, wallet = visit()
    connect(page)
    pick(page, market.world.days[9])
    tool(page, "retire")
    fill_retirement(page)
    check(page)
    wallet.chain_id, wallet.known = 1, {1, market.world.w3.eth.chain_id}
    wallet.before["wallet_switchEthereumChain"] = lambda: setattr(wallet, "account", Account.from_key(key_of(2)))
    page.locator("#act-go").click()
    page.get_by_text("The wallet uses another account").wait_for()
    page.wait_for_timeout(500)
    assert wallet.asked("eth_accounts") and wallet.asked("eth_sendTransaction") == []


def test_chain_changed_after_the_estimate_is_named_to_the_wallet_which_refuses(market, visit):
    world = market.world
    page, wallet = visit()
    connect(page)
    before = world.w3.eth.get_transaction_count(world.account(1))
    transfer_reviewed(page, market)
    wallet.before["eth_getTransactionCount"] = lambda: setattr(wallet, "chain_id", 1)
    page.locator("#act-go").click()
    page.get_by_text("The wallet is on another chain.").wait_for()
    page.wait_for_timeout(500)
    [[asked]] = wallet.asked("eth_sendTransaction")
    assert asked["chainId"] == hex(world.w3.eth.chain_id) and page.locator("#acts li").count() == 0
    assert world.w3.eth.get_transaction_count(world.account(1)) == before


def test_wallet_that_names_no_transaction_is_told_as_such(market, visit):
    page, wallet = visit()
    connect(page)
    for answer in (None, "0x12", {"hash": 1}):
        transfer_reviewed(page, market)
        wallet.lies["eth_sendTransaction"] = answer
        page.locator("#act-go").click()
        page.locator("#act-problem").get_by_text("The wallet named no transaction").wait_for()
        page.locator("#act-close").click()
        page.locator("[data-pick]:checked").uncheck()
    assert page.locator("#acts li").count() == 0


def test_reject_in_the_wallet_sends_nothing_and_leaves_the_dialog(market, visit):
    world, token = market.world, market.world.days[9]
    page, wallet = visit()
    connect(page)
    before = held(world, 1, token)
    pick(page, token)
    tool(page, "retire")
    fill_retirement(page)
    check(page)
    wallet.refused = {"eth_sendTransaction"}
    page.locator("#act-go").click()
    page.get_by_text("You said no in the wallet. Nothing was sent.").wait_for()
    assert page.locator("#act").is_visible() and page.locator("#acts li").count() == 0
    assert held(world, 1, token) == before
    # The chain that the wallet will not go to is told as such.
    wallet.refused, wallet.chain_id = {"wallet_switchEthereumChain"}, 1
    page.locator("#act-go").click()
    page.get_by_text("The wallet did not change to Test chain").wait_for()
    assert wallet.asked("eth_sendTransaction")[1:] == []


@pytest.mark.parametrize(("language", "words"), [
    ("en", "The contract refuses:"), ("es", "El contrato lo rechaza:"), ("ru", "Контракт отказывает:"),
])  # fmt: skip
def test_what_would_revert_is_told_in_words_before_the_wallet_opens(market, visit, language, words):
    page, wallet = visit(language=language, wrap=language != "es")
    connect(page)
    pick(page, market.world.days[9])
    tool(page, "transfer")
    # No contract but one that takes tokens may receive them.
    page.locator("#act-form [name=to]").fill("0x" + "0" * 40)
    page.locator("#act-go").click()
    told = page.locator("#act-problem")
    told.get_by_text(words).wait_for()
    assert "0x0000…0000" in told.inner_text() and "ERC1155" not in told.inner_text()
    assert wallet.asked("eth_sendTransaction") == []


def test_what_another_tab_already_moved_is_refused_with_the_figures(market, visit):
    world, token = market.world, market.world.done["tokens"][0]
    page, wallet = visit(number=2)
    connect(page)
    had = held(world, 2, token)
    pick(page, token)
    tool(page, "transfer")
    world.transfer(2, 6, token, had - 500)
    page.locator("#act-form [name=to]").fill(world.account(7))
    page.locator("#act-go").click()
    told = page.locator("#act-problem")
    told.get_by_text("holds 0.500 kWh").wait_for()
    assert f"{had / 1000:.3f} kWh are needed" in told.inner_text() and "1-20160701" in told.inner_text()
    assert wallet.asked("eth_sendTransaction") == []


@pytest.mark.parametrize(("fields", "words"), [
    ({"amount": "0"}, "amount above 0"), ({"amount": "1.0005"}, "amount above 0"), ({"amount": "999"}, "You hold"),
    ({"purpose": ""}, "Say what it is retired for"), ({"beneficiaryName": "", "beneficiary": ""}, "Say for whom"),
    ({"beneficiary": "0x12"}, "not an address"), ({"country": "U1"}, "two letters"),
    ({"consumptionStart": "2016-09-01", "consumptionEnd": "2016-08-01"}, "must not lie after"),
])  # fmt: skip
def test_form_with_a_fault_says_which(market, shared_page, fields, words):
    page = shared_page
    pick(page, market.world.days[9])
    tool(page, "retire")
    fill_retirement(page)
    for name, value in fields.items():
        page.locator("#act-form [name^=amount]" if name == "amount" else f"#act-form [name={name}]").fill(value)
    page.locator("#act-go").click()
    page.locator("#act-problem").get_by_text(words).wait_for()
    page.locator("#act-close").click()


@pytest.fixture(scope="module")
def shared_page(browser, market):
    page = browser.new_page(viewport=PHONE)
    page.set_default_timeout(30_000)
    _wallet_module().Wallet(market.world.anvil.url, key_of(1), market.world.w3.eth.chain_id).install(page)
    page.goto(f"{market.site.url}/portfolio/{market.world.account(1)}?lang=en")
    connect(page)
    yield page
    page.close()


# -- what becomes of a transaction ------------------------------------------------------------------


@pytest.fixture
def by_hand(market):
    """Blocks come when the test says so."""
    market.world.anvil.rpc("evm_setAutomine", False)
    yield market.world.anvil
    market.world.anvil.rpc("evm_setAutomine", True)
    market.world.anvil.mine(1)


def sent_waiting(page, market, amount="0.2"):
    pick(page, market.world.days[9])
    tool(page, "transfer")
    page.locator("#act-form [name^=amount]").fill(amount)
    page.locator("#act-form [name=to]").fill(market.world.account(8))
    check(page)
    page.locator("#act-go").click()
    page.locator("#acts li[data-state=sent]").wait_for()


def test_transaction_sent_again_with_another_fee_is_followed_on(market, visit, by_hand):
    page, wallet = visit()
    connect(page)
    sent_waiting(page, market)
    [[asked]] = wallet.asked("eth_sendTransaction")
    nonce = market.world.w3.eth.get_transaction_count(market.world.account(1))
    wallet.send(asked, nonce=nonce, fee_wei=5 * 10**10)
    by_hand.mine(1)
    in_a_block(page)
    assert held(market.world, 8, market.world.days[9]) == 200


def test_transaction_cancelled_in_the_wallet_is_told_as_cancelled(market, visit, by_hand):
    page, wallet = visit()
    connect(page)
    sent_waiting(page, market)
    before = held(market.world, 8, market.world.days[9])
    nonce = market.world.w3.eth.get_transaction_count(market.world.account(1))
    own = market.world.account(1)
    wallet.send({"from": own, "to": own, "gas": hex(21_000)}, nonce=nonce, fee_wei=5 * 10**10)
    by_hand.mine(1)
    page.locator("#acts li[data-state=cancelled]").wait_for()
    assert held(market.world, 8, market.world.days[9]) == before


def test_transaction_replaced_by_another_call_is_told_as_replaced(market, visit, by_hand):
    page, wallet = visit()
    connect(page)
    sent_waiting(page, market)
    before = held(market.world, 8, market.world.days[9]), held(market.world, 6, market.world.days[9])
    own = market.world.account(1)
    nonce = market.world.w3.eth.get_transaction_count(own)
    call = market.world.contracts["EnergyCertificate"].encode_abi(
        "safeTransferFrom", [own, market.world.account(6), market.world.days[9], 100, b""]
    )
    token = market.world.contracts["EnergyCertificate"].address
    wallet.send({"from": own, "to": token, "data": call, "gas": hex(200_000)}, nonce=nonce, fee_wei=5 * 10**10)
    by_hand.mine(1)
    page.locator("#acts li[data-state=replaced]").wait_for()
    assert "Another transaction of the wallet" in page.locator("#acts li").first.inner_text()
    assert (held(market.world, 8, market.world.days[9]), held(market.world, 6, market.world.days[9])) == (
        before[0],
        before[1] + 100,
    )


def test_transaction_that_the_node_forgot_is_told_as_dropped(market, visit, by_hand):
    page, _ = visit()
    page.clock.install()
    page.reload()
    connect(page)
    sent_waiting(page, market)
    sent = page.locator("#acts li a").first.get_attribute("href").rpartition("/")[2]
    assert by_hand.rpc("anvil_dropTransaction", sent) == sent
    late = time.monotonic() + 60
    while not page.locator("#acts li[data-state=dropped]").count():
        assert time.monotonic() < late
        page.clock.fast_forward(20_000)


def test_transaction_that_fails_on_the_chain_is_told_with_its_reason(market, visit, by_hand):
    world = market.world
    page, _ = visit(number=2)
    connect(page)
    token = world.done["tokens"][1]
    had = held(world, 2, token)
    pick(page, token)
    tool(page, "transfer")
    page.locator("#act-form [name=to]").fill(world.account(7))
    check(page)
    # Somebody is faster: what was right when it was tried no longer is.
    call = world.contracts["EnergyCertificate"].functions.safeTransferFrom(
        world.account(2), world.account(6), token, had, b""
    )
    call.transact({"from": world.account(2), "gas": 500_000})
    page.locator("#act-go").click()
    page.locator("#acts li[data-state=sent]").wait_for()
    by_hand.mine(1)
    failed = page.locator("#acts li[data-state=reverted]")
    failed.wait_for()
    assert "It failed on the chain" in failed.inner_text()


# -- for every reader -------------------------------------------------------------------------------


def test_dialog_on_a_phone_fits_and_works_by_keyboard(market, shared_page):
    page = shared_page
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    pick(page, market.world.days[9])
    button = page.locator("[data-tools=certificate] [data-act=retire]")
    button.focus()
    page.keyboard.press("Enter")
    page.locator("#act[open]").wait_for()
    box = page.locator("#act").bounding_box()
    assert box["x"] >= 0 and box["width"] <= PHONE["width"] and box["height"] <= PHONE["height"]
    assert page.evaluate("document.getElementById('act').scrollWidth <= document.getElementById('act').clientWidth")
    # The dialog keeps the focus, and Escape gives it back to where it came from.
    for _ in range(30):
        page.keyboard.press("Tab")
        assert page.evaluate(
            "document.activeElement === document.body || document.getElementById('act').contains(document.activeElement)"
        )
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.dataset.act") == "retire"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_on_form_and_review_finds_no_serious_fault(market, browser, scheme):
    # axe is put into the page past its Content-Security-Policy, which the other tests keep.
    context = browser.new_context(viewport=PHONE, color_scheme=scheme, bypass_csp=True)
    page = context.new_page()
    page.set_default_timeout(30_000)
    _wallet_module().Wallet(market.world.anvil.url, key_of(1), market.world.w3.eth.chain_id).install(page)
    page.goto(f"{market.site.url}/portfolio/{market.world.account(1)}?lang=ru")
    page.add_script_tag(content=AXE.read_text(encoding="utf-8"))
    connect(page)
    found = {"page": page.evaluate(SERIOUS)}
    pick(page, *market.world.days[8:10])
    tool(page, "retire")
    found["form"] = page.evaluate(SERIOUS)
    page.locator("#act-go").click()
    page.locator("#act-problem").get_by_text("Укажите, для чего").wait_for()
    found["problem"] = page.evaluate(SERIOUS)
    fill_retirement(page)
    check(page)
    found["review"] = page.evaluate(SERIOUS)
    context.close()
    assert {name: faults for name, faults in found.items() if faults} == {}


def test_split_takes_as_few_certificates_as_a_search_over_all_choices(market, shared_page):
    import random
    from itertools import combinations

    random.seed(7)
    cases = [([random.randint(1, 40) for _ in range(7)], random.randint(1, 150)) for _ in range(60)]
    answers = shared_page.evaluate("""async cases => {
      const { choose } = await import('/static/wallet/split.js')
      return cases.map(([amounts, wanted]) => choose(amounts.map((amount, i) => ({ id: String(i), amount: BigInt(amount) })), BigInt(wanted))
        ?.map(row => [Number(row.id), Number(row.amount)]) ?? null)
    }""", cases)  # fmt: skip
    for (amounts, wanted), answer in zip(cases, answers, strict=True):
        fewest = next((n for n in range(1, 8) if any(sum(c) >= wanted for c in combinations(amounts, n))), None)
        assert (answer is None) == (fewest is None)
        if answer:
            assert len(answer) == fewest and sum(amount for _, amount in answer) == wanted
            assert all(0 < amount <= amounts[i] for i, amount in answer) and len({i for i, _ in answer}) == fewest
