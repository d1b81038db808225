"""The public statement of a retirement beside its page: as JSON, as PDF and as a badge for other sites."""

from __future__ import annotations

import hashlib
from typing import Any

from flask import Blueprint, Response, abort, render_template, request, url_for

from .. import paper
from ..app import explorer, services
from ..explorer import TOKENS
from .bundles import bundle_bytes, retirement_maker

html = Blueprint("statements", __name__)

html.add_app_template_global(paper.qr_svg, "qr")

#: An image for other sites: it may be embedded anywhere and loads nothing.
BADGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "Access-Control-Allow-Origin": "*",
    "Cache-Control": "public, max-age=3600",
}


def retirement_of(token: str, number: int) -> dict[str, Any]:
    """A retirement of the index; 404 if there is none."""
    contract = TOKENS.get(token)
    found = explorer().retirement(contract, number) if contract and number < 1 << 63 else None
    if found is None:
        abort(404)
    return {**found, "kind": token}


def facts_of(found: dict[str, Any]) -> dict[str, Any]:
    s = services()
    block = explorer().one("SELECT hash FROM block WHERE number = ?", found["block"])
    address = s.book.contracts[TOKENS[found["kind"]]].address
    return paper.facts(found, chain_id=s.book.chain_id, contract=address, block_hash=block["hash"] if block else "")


def page_url(token: str, number: int) -> str:
    return url_for("public.retirement", token=token, number=number, _external=True)


@html.get("/retirements/<token>/<int:number>/statement.json")
def facts(token: str, number: int) -> Response:
    """What the statement claims, as the one JSON text that the PDF carries."""
    content = paper.canonical(facts_of(retirement_of(token, number)))
    return _file(content, "application/json", f"retirement-{token}-{number}.json")


@html.get("/retirements/<token>/<int:number>/statement.pdf")
def pdf(token: str, number: int) -> Response:
    """The statement on paper (query: lang; evidence=1 attaches the bundle)."""
    found = retirement_of(token, number)
    devices = {str(item["device_id"]) for item in found["items"] if "device_id" in item}
    names = {device: name for device in devices if (name := services().facts.name(device))}
    evidence = bundle_bytes(retirement_maker(token, number)) if request.args.get("evidence") == "1" else None
    estimate = any(item.get("estimate") for item in found["items"])
    content = paper.pdf(facts_of(found), url=page_url(token, number), names=names, estimate=estimate, evidence=evidence)
    return _file(content, "application/pdf", f"retirement-{token}-{number}.pdf")


@html.get("/retirements/<token>/<int:number>/badge.svg")
def badge(token: str, number: int) -> Response:
    """A small image of the statement that other sites may embed (query: lang)."""
    found = retirement_of(token, number)
    told = facts_of(found)
    figure, unit = paper.amount(told)
    drawn = render_template("badge.svg", retirement=found, figure=figure, unit=unit, url=page_url(token, number))
    answer = Response(drawn, mimetype="image/svg+xml")
    answer.headers.update(BADGE_HEADERS)
    return answer


def _file(content: bytes, kind: str, name: str) -> Response:
    answer = Response(content, mimetype=kind)
    answer.headers["Content-Disposition"] = f'inline; filename="wattmark-{name}"'
    answer.headers["Access-Control-Allow-Origin"] = "*"
    answer.set_etag(hashlib.sha256(content).hexdigest())
    return answer.make_conditional(request)  # type: ignore[return-value]
