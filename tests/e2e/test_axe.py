"""axe-core finds no serious fault on any public page, light and dark, phone and desktop; and it does look."""

from __future__ import annotations

from pathlib import Path

import pytest

from webapp.index import hex_id

AXE = Path(__file__).resolve().parents[2] / ".wattmark" / "node" / "node_modules" / "axe-core" / "axe.min.js"
FIRST_DAY = 1_467_331_200
SIZES = {"desktop": {"width": 1280, "height": 860}, "phone": {"width": 390, "height": 844}}
RUN = """async () => (await axe.run(document, { resultTypes: ['violations'] })).violations
  .filter(fault => ['serious', 'critical'].includes(fault.impact))
  .map(fault => `${fault.id}: ${fault.nodes.slice(0, 3).map(node => node.html.slice(0, 120)).join(' | ')}`)"""


def paths(site) -> dict[str, str]:
    world = site.world
    root = "0x" + world.archives[0].root.hex()
    return {
        "overview": "/", "devices": "/devices", "device": "/devices/1", "month": "/devices/1/2016-07", "batches": "/batches",
        "batch": f"/batches/{root}", "certificates": "/certificates", "certificate": f"/certificates/{hex_id(world.done['tokens'][0])}",
        "account": f"/accounts/{world.account(2)}", "transaction": f"/transactions/{world.chain_transactions[-1]}",
        "transactions": "/transactions", "retirements": "/retirements", "retirement": "/retirements/certificate/2",
        "retired outcome": "/retirements/outcome/1", "outcomes": "/outcomes", "outcome": f"/outcomes/{hex_id(world.done['outcome'])}",
        "factors": "/factors", "checks": "/checks", "statement": f"/checks/{root}/1/{FIRST_DAY}", "search": "/search?q=1",
        "verify": "/verify", "verified": "/verify?retirement=certificate/2", "file": f"/verify?sha256={'0' * 64}", "auditor": "/auditor", "sign in": "/operators/sign-in", "roles": "/operators/roles",
        "portfolio": f"/portfolio/{world.account(1)}", "entrance": "/portfolio", "nothing": "/devices/99",
    }  # fmt: skip


@pytest.fixture(scope="module")
def axe() -> str:
    if not AXE.exists():
        pytest.fail("no axe-core; ./run setup node installs it")
    return AXE.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_on_every_public_page_finds_no_serious_fault(site, browser, axe, size, scheme):
    # axe is put into the page past its Content-Security-Policy, which is tested elsewhere.
    context = browser.new_context(viewport=SIZES[size], color_scheme=scheme, locale="en-GB", bypass_csp=True)
    try:
        page = context.new_page()
        found = {}
        for name, path in paths(site).items():
            page.goto(f"{site.url}{path}", wait_until="load")
            page.add_script_tag(content=axe)
            if faults := page.evaluate(RUN):
                found[name] = faults
        assert not found, "\n".join(f"{name}: {fault}" for name, faults in found.items() for fault in faults)
    finally:
        context.close()


def test_axe_on_a_page_with_planted_faults_finds_them(site, browser, axe):
    context = browser.new_context(bypass_csp=True)
    try:
        page = context.new_page()
        page.goto(f"{site.url}/verify")
        page.evaluate("() => { document.querySelector('main').innerHTML += '<img src=\"data:,\"><button></button>' }")
        page.add_script_tag(content=axe)
        assert {fault.split(":")[0] for fault in page.evaluate(RUN)} >= {"image-alt", "button-name"}
    finally:
        context.close()
