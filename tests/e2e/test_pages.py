"""Every page in a real browser: light and dark, phone and desktop; Validate, the chart, the keyboard and the wallet button."""

from __future__ import annotations

import pytest

from webapp.index import hex_id

FIRST_DAY = 1_467_331_200
SIZES = {"desktop": {"width": 1280, "height": 860}, "phone": {"width": 390, "height": 844}}


def paths(site) -> dict[str, str]:
    world = site.world
    root = "0x" + world.archives[0].root.hex()
    return {
        "overview": "/", "devices": "/devices", "device": "/devices/1", "batches": "/batches", "batch": f"/batches/{root}",
        "certificates": "/certificates", "certificate": f"/certificates/{hex_id(world.done['tokens'][0])}",
        "account": f"/accounts/{world.account(2)}", "transaction": f"/transactions/{world.chain_transactions[-1]}",
        "retirements": "/retirements", "retirement": "/retirements/certificate/2", "outcomes": "/outcomes",
        "outcome": f"/outcomes/{hex_id(world.done['outcome'])}", "factors": "/factors", "checks": "/checks",
        "statement": f"/checks/{root}/1/{FIRST_DAY}", "search": "/search?q=1",
        "portfolio": f"/portfolio/{world.account(1)}", "entrance": "/portfolio", "transactions": "/transactions", "accounts": "/accounts",
        "month": "/devices/1/2016-07", "auditor": "/auditor", "verify": "/verify", "conversions": "/conversions", "audit": "/audit",
    }  # fmt: skip


@pytest.fixture
def visit(browser, site):
    """Opens pages and collects whatever a browser complains about; asked for other hosts than the site's, it fails."""
    contexts = []

    def start(**options):
        context = browser.new_context(locale="en-GB", **options)
        contexts.append(context)
        page = context.new_page()
        page.complaints = []
        page.on("console", lambda m: page.complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: page.complaints.append(str(e)))
        page.on(
            "request", lambda r: page.complaints.append(r.url) if not r.url.startswith((site.url, "data:")) else None
        )
        return page

    yield start
    for context in contexts:
        context.close()


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_in_each_size_and_scheme_load_without_complaint_or_overflow(site, visit, size, scheme):
    page = visit(viewport=SIZES[size], color_scheme=scheme)
    for name, path in paths(site).items():
        for language in ("en", "ru") if scheme == "light" else ("es",):
            target = f"{path}{'&' if '?' in path else '?'}lang={language}"
            answer = page.goto(site.url + target, wait_until="networkidle" if language == "en" else "load")
            assert answer.status == 200, name
            assert page.complaints == [], (name, page.complaints)
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= SIZES[size]["width"], f"{name} in {language} is {wide} px wide"
            assert page.evaluate(STICKING_OUT) == [], f"{name} in {language}"
            assert page.locator("h1").count() == 1, name
            low = page.evaluate(CONTRAST)
            assert low == [], (name, scheme, low)


#: What is drawn beyond the right edge of the card that it stands in, unless it can be scrolled to.
STICKING_OUT = """() => [...document.querySelectorAll('main .card *, main .tbl.stack td *')].filter(el => {
  const card = el.closest('.card, .tbl.stack tr'), [inner, outer] = [el, card].map(e => e.getBoundingClientRect())
  return inner.width && !el.closest('svg *, thead, .vh, [tabindex="0"]') && inner.right > outer.right + 1 &&
    !(el.closest('.tbl') && getComputedStyle(el.closest('.tbl')).overflowX === 'auto')
}).map(el => `${el.tagName} ${el.textContent.trim().slice(0, 40)}`)"""

#: Texts whose contrast against what lies behind them is below 4.5 (WCAG AA), computed by the browser's own colours.
CONTRAST = """() => {
  const parse = c => { const m = c.match(/[\\d.]+/g).map(Number); return m.length > 3 ? m : [...m, 1] }
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0)
  const behind = el => { for (let e = el; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c[3] === 1) return c } return [255, 255, 255, 1] }
  const low = []
  for (const el of document.querySelectorAll('main *, header *, footer *')) {
    const own = [...el.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())
    if (!own || el.closest('svg, .vh, .skip, button:disabled') || !el.getClientRects().length) continue
    const [a, b] = [light(parse(getComputedStyle(el).color)), light(behind(el))].sort((x, y) => y - x)
    const ratio = (a + .05) / (b + .05)
    if (ratio < 4.5) low.push(`${el.className || el.tagName} ${el.textContent.trim().slice(0, 20)} ${ratio.toFixed(2)}`)
  }
  return [...new Set(low)].slice(0, 8)
}"""


def test_validate_everything_shows_progress_and_result(site, visit):
    page = visit(viewport=SIZES["desktop"])
    page.goto(f"{site.url}/checks")
    page.get_by_role("button", name="Validate everything").click()
    page.get_by_text("Last validation:").wait_for(timeout=20_000)
    page.wait_for_load_state("networkidle")
    assert page.locator("table[data-checks] .pill.ok").count() == 6
    assert "6 statements" in page.locator("[data-job]").inner_text()
    assert page.complaints == []


def test_validate_of_one_row_on_a_phone_shows_its_result(site, visit):
    page = visit(viewport=SIZES["phone"])
    page.goto(f"{site.url}/checks?device=2")
    before = site.services.catalogue.last_job()
    page.locator("table[data-checks] tbody tr").first.get_by_role("button", name="Validate").click()
    page.locator("[data-job] progress").wait_for(state="attached")
    page.get_by_text("Last validation:").wait_for(timeout=20_000)
    job = site.services.catalogue.last_job()
    assert job["id"] > (before["id"] if before else 0) and job["counts"] == {"verified": 1}
    assert page.locator("table[data-checks] tbody tr").first.locator(".pill.ok").is_visible()


def test_chart_of_a_day_is_drawn_and_read_out(site, visit):
    page = visit(viewport=SIZES["desktop"])
    page.goto(f"{site.url}/devices/1?day=2016-07-01")
    chart = page.locator("svg.chart.wide")
    assert chart.is_visible() and not page.locator("svg.chart.narrow").is_visible()
    assert chart.locator("rect.s-measured").count() > 40 and chart.locator("path.irr").count() == 1
    chart.locator("rect.hit").nth(72).hover()
    assert page.locator("[data-readout]").inner_text() == "18:00 UTC · 1000 Wh · Measured · 912 W/m²"
    page.set_viewport_size(SIZES["phone"])
    assert page.locator("svg.chart.narrow").is_visible() and not chart.is_visible()


def test_keyboard_reaches_the_content_and_the_search(site, visit):
    page = visit(viewport=SIZES["desktop"])
    page.goto(site.url)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.get_by_role("searchbox").fill("SERF East")
    page.keyboard.press("Enter")
    page.wait_for_url("**/devices/1")


def test_copy_button_copies_the_whole_hash(site, visit):
    page = visit(viewport=SIZES["desktop"], permissions=["clipboard-read", "clipboard-write"])
    page.goto(f"{site.url}/batches")
    button = page.locator("td .copy").first
    button.click()
    assert page.evaluate("navigator.clipboard.readText()") == button.get_attribute("data-copy")
    assert len(button.get_attribute("data-copy")) == 66


WALLET = """
window.asked = [];
const provider = { request: async call => { window.asked.push(call); return null } };
const announce = () => window.dispatchEvent(new CustomEvent('eip6963:announceProvider',
  { detail: Object.freeze({ info: { uuid: 'a', name: 'Test', icon: 'data:,', rdns: 'test' }, provider }) }));
window.addEventListener('eip6963:requestProvider', announce);
"""


def test_add_chain_hands_the_chain_to_the_wallet(site, visit):
    page = visit(viewport=SIZES["desktop"])
    page.add_init_script(WALLET)
    page.goto(site.url)
    page.get_by_role("button", name="Add to my wallet").click()
    page.get_by_text("The wallet now knows this chain.").wait_for()
    [call] = page.evaluate("window.asked")
    assert call["method"] == "wallet_addEthereumChain"
    assert call["params"][0]["chainId"] == hex(site.world.w3.eth.chain_id)
    assert call["params"][0]["rpcUrls"] == [site.world.anvil.url]


def test_add_chain_without_a_wallet_says_so(site, visit):
    page = visit(viewport=SIZES["desktop"])
    page.goto(site.url)
    page.get_by_role("button", name="Add to my wallet").click()
    page.get_by_text("No wallet was found in this browser.").wait_for()


def test_retirement_statement_on_paper_is_the_statement_alone(site, visit):
    page = visit(viewport=SIZES["desktop"])
    page.goto(f"{site.url}/retirements/certificate/2")
    page.emulate_media(media="print")
    assert not page.locator("header.top").is_visible() and not page.locator("footer.foot").is_visible()
    assert page.locator(".deed .amount").is_visible()
    assert page.pdf().startswith(b"%PDF")
