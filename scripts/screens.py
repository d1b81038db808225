"""Screenshots of every page of a running web app, light and dark, phone and desktop: docs/screens/*.webp, at most 150 kB each.

    .wattmark/env/dev/bin/python scripts/screens.py --url http://localhost:8000 --keys .wattmark/demo/keys

With the keystores of a demo the pages of operators are taken too, each as an operator sees it who has signed in. Needs Chromium (Debian: apt-get install chromium) and the development environment (./run setup dev).
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

import requests
from eth_account import Account
from eth_account.messages import encode_defunct
from PIL import Image
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
SIZES = {"desktop": (1280, 860), "phone": (390, 844)}
MAX_BYTES = 150_000
#: Longer pages are cut here: a screenshot shows what a page is like, not all of it.
MAX_HEIGHT = {"desktop": 1500, "phone": 1700}
#: Pages behind the sign-in: who looks, and where.
OPERATORS = {
    "operators": ("administrator", "/operators"),
    "operators-roles": ("administrator", "/operators/roles"),
    "operators-administration": ("administrator", "/operators/administration"),
    "operators-factors": ("factor-publisher", "/operators/factors"),
    "operators-requests": ("registrar", "/operators/requests"),
    "operators-request": ("generator", "/operators/requests/new"),
    "operators-reviews": ("reviewer", "/operators/reviews"),
    "operators-health": ("reviewer", "/operators/health"),
    "operators-gaps": ("reviewer", "/operators/gaps"),
    "operators-audit": ("reviewer", "/operators/audit"),
}


def pages(url: str) -> dict[str, str]:
    """Name and path of every kind of page, on what the site happens to show."""

    def ask(path: str) -> dict:
        answer = requests.get(url + path, timeout=30)
        answer.raise_for_status()
        return answer.json()

    found = {"overview": "/", "devices": "/devices", "checks": "/checks", "batches": "/batches", "certificates": "/certificates",
             "retirements": "/retirements", "outcomes": "/outcomes", "factors": "/factors", "verify": "/verify", "auditor": "/auditor",
             "transactions": "/transactions", "accounts": "/accounts", "conversions": "/conversions", "search": "/search?q=1",
             "sign-in": "/operators/sign-in"}  # fmt: skip
    devices = ask("/devices.json")["rows"]
    if devices:
        device = devices[0]["device_id"]
        found["device"] = f"/devices/{device}"
        days = ask(f"/devices/{device}.json")["days"]
        if days:
            found["month"] = f"/devices/{device}/{datetime.fromtimestamp(days[-1]['start'], UTC):%Y-%m}"
    batches = ask("/batches.json")["rows"]
    if batches:
        found["batch"] = f"/batches/{batches[0]['root']}"
    statements = [row for row in ask("/checks.json")["rows"] if row["device_id"]]
    if statements:
        row = statements[0]
        found["statement"] = f"/checks/{row['root']}/{row['device_id']}/{row['start']}"
        evidence = ask(f"{found['statement']}.json")["evidence"]
        if evidence:
            found["verified-file"] = f"/verify?sha256={evidence[0]}"
    retirements = ask("/retirements.json")["rows"]
    for row in retirements:
        kind = "certificate" if row["contract"] == "EnergyCertificate" else "outcome"
        found[f"retirement-{kind}"] = f"/retirements/{kind}/{row['number']}"
        found[f"verified-{kind}"] = f"/verify?retirement={kind}/{row['number']}"
        found["account"] = f"/accounts/{row['account']}"
        found["portfolio"] = f"/portfolio/{row['account']}"
        found["transaction"] = f"/transactions/{row['tx']}"
    certificates = ask("/certificates.json")["rows"]
    if certificates:
        lively = sorted(certificates, key=lambda row: -(row["retired_wh"] + row["converted_wh"]))
        retired = next((r for r in retirements if r["contract"] == "EnergyCertificate"), None)
        token = (
            ask(f"/retirements/certificate/{retired['number']}.json")["retirement"]["items"][0]["id"]
            if retired
            else lively[0]["id"]
        )
        found["certificate"] = f"/certificates/{token}"
    outcomes = ask("/outcomes.json")["rows"]
    if outcomes:
        found["outcome"] = f"/outcomes/{outcomes[0]['id']}"
    return found


def sign_in(page: Page, url: str, keys: Path, actor: str) -> None:
    """Sign in as one of the demo's actors, as a wallet does: the site's message, signed by the actor's key."""
    keystore = json.loads((keys / f"{actor}.json").read_text())
    account = Account.from_key(Account.decrypt(keystore, (keys / f"{actor}.password").read_text().strip()))
    page.goto(f"{url}/operators/sign-in")
    told = page.evaluate(
        "async address => (await (await fetch(`/operators/sign-in/message.json?address=${address}`)).json()).message",
        account.address,
    )
    signature = "0x" + account.sign_message(encode_defunct(text=told)).signature.hex()
    status = page.evaluate(
        """async body => (await fetch('/operators/sign-in.json', { method: 'POST', body: JSON.stringify(body), headers: {
             'Content-Type': 'application/json', 'X-CSRF-Token': document.querySelector('[data-token]').dataset.token } })).status""",
        {"message": told, "signature": signature},
    )
    if status != 200:
        raise RuntimeError(f"{actor} could not sign in at {url}: status {status}")


def operators(page: Page, url: str, actor: str) -> dict[str, str]:
    """Name and path of the pages that this actor looks at; of the review queue also its first case."""
    found = {name: path for name, (who, path) in OPERATORS.items() if who == actor}
    if "operators-reviews" in found:
        page.goto(url + found["operators-reviews"])
        first = page.locator("main a[href^='/operators/reviews/']").first
        if first.count():
            found["operators-review"] = str(first.get_attribute("href"))
    return found


def shot(page: Page, size: str) -> bytes:
    """The page as WebP, cut at the size's greatest height, as good as fits into MAX_BYTES."""
    picture = Image.open(io.BytesIO(page.screenshot(full_page=True)))
    scale = picture.width / SIZES[size][0]
    picture = picture.crop((0, 0, picture.width, min(picture.height, round(MAX_HEIGHT[size] * scale)))).convert("RGB")
    for quality in (88, 78, 66, 50, 35):
        buffer = io.BytesIO()
        picture.save(buffer, "WEBP", quality=quality, method=6)
        if buffer.tell() <= MAX_BYTES:
            return buffer.getvalue()
    raise ValueError(f"a screenshot of {picture.width} x {picture.height} does not fit into {MAX_BYTES} bytes")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--url", default="http://localhost:8000", help="the running web app (default http://localhost:8000)"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "screens", help="folder to write to")
    parser.add_argument("--keys", type=Path, help="folder of a demo's keystores, for the pages of operators")
    parser.add_argument("--only", nargs="*", help="names of pages, without which all are taken")
    options = parser.parse_args()
    browser_path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not browser_path:
        print("no Chromium found; apt-get install chromium", file=sys.stderr)
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    taken = 0
    visits: list[str | None] = [None, *dict.fromkeys(who for who, _ in OPERATORS.values())] if options.keys else [None]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=browser_path, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        for size, (width, height) in SIZES.items():
            for scheme, actor in itertools.product(("light", "dark"), visits):
                context = browser.new_context(
                    viewport={"width": width, "height": height}, color_scheme=scheme, device_scale_factor=1.5 if size == "phone" else 1,
                    locale="en-GB", timezone_id="UTC",
                )  # fmt: skip
                page = context.new_page()
                if actor:
                    sign_in(page, options.url, options.keys, actor)
                for name, path in (operators(page, options.url, actor) if actor else pages(options.url)).items():
                    if options.only and name not in options.only:
                        continue
                    answer = page.goto(options.url + path, wait_until="networkidle")
                    if answer and answer.status >= 400:
                        raise RuntimeError(f"{path} answers {answer.status}")
                    (options.out / f"{name}-{scheme}-{size}.webp").write_bytes(shot(page, size))
                    taken += 1
                context.close()
        browser.close()
    print(f"{taken} screenshots in {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
