"""A retirement on paper: its facts as one canonical JSON text, and a PDF that carries them.

The same facts, language and address give the same bytes. The PDF holds ``retirement.json`` uncompressed as an
attachment, so that the verify page and :mod:`oracle.verify` read from it what it claims; with evidence it holds the
whole bundle too.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import segno
from flask_babel import format_decimal, gettext
from fpdf import FPDF
from fpdf.enums import WrapMode
from markupsafe import Markup

from . import words

SCHEMA = "wattmark/retirement/1"
FONT = Path(__file__).parent / "fonts" / "DejaVuSans.ttf"
LISTED_ITEMS = 24
INK, MUTED, LINE, SUN = (28, 33, 39), (93, 102, 111), (214, 210, 200), (160, 96, 0)


def facts(retirement: dict[str, Any], *, chain_id: int, contract: str, block_hash: str) -> dict[str, Any]:
    """What a statement of retirement says: only what the chain records, amounts and ids as text."""
    keys = {"beneficiary": "beneficiary", "beneficiaryName": "beneficiary_name", "purpose": "purpose", "country": "country",
            "location": "location", "consumptionStart": "consumption_start", "consumptionEnd": "consumption_end"}  # fmt: skip
    return {
        "schema": SCHEMA,
        "chainId": chain_id,
        "contract": contract,
        "token": retirement["kind"],
        "number": str(retirement["number"]),
        "account": retirement["account"],
        "amount": str(retirement["amount"]),
        "unit": "Wh" if retirement["kind"] == "certificate" else "g CO2e",
        "items": [{"id": item["id"], "amount": str(item["amount"])} for item in retirement["items"]],
        "details": {name: retirement[key] for name, key in keys.items()},
        "transaction": retirement["tx"],
        "block": retirement["block"],
        "blockHash": block_hash,
        "time": retirement["time"],
    }


def canonical(told: dict[str, Any]) -> bytes:
    """The one JSON text of some facts: sorted keys, no spaces, ASCII escapes, a newline at the end."""
    return (json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=True) + "\n").encode()


def amount(told: dict[str, Any]) -> tuple[str, str]:
    """Figure and unit as they are shown: ``("1,234.567", "kWh")``."""
    unit = "kWh" if told["token"] == "certificate" else "kg CO₂e"
    return str(format_decimal(Decimal(told["amount"]) / 1000, "#,##0.000")), unit


def pdf(
    told: dict[str, Any], *, url: str, names: dict[str, str], estimate: bool, evidence: bytes | None = None
) -> bytes:
    """The statement in the reader's language on one A4 page. ``url`` of its page, ``names`` of devices by id.

    ``evidence`` is the bundle to attach beside the facts.
    """
    said = canonical(told)
    made = datetime.fromtimestamp(told["time"], UTC)
    paper = FPDF(format="A4")
    title = gettext("Retirement %(n)s", n=told["number"])
    paper.set_creation_date(made)
    paper.set_title(title)
    paper.set_creator("Wattmark")
    paper.set_producer("Wattmark")
    paper.set_lang(words.language())
    paper.set_margins(24, 22)
    paper.set_auto_page_break(True, 18)
    paper.add_font("DejaVu", "", FONT)
    paper.add_page()

    def write(text: str, size: float, colour: tuple[int, int, int] = INK, gap: float = 1.45) -> None:
        paper.set_font("DejaVu", size=size)
        paper.set_text_color(*colour)
        paper.multi_cell(0, size * gap * 0.3528, text, new_x="LMARGIN", new_y="NEXT", align="L")

    def rule() -> None:
        paper.ln(4)
        paper.set_draw_color(*LINE)
        paper.line(paper.l_margin, paper.get_y(), paper.w - paper.r_margin, paper.get_y())
        paper.ln(4)

    def fact(name: str, value: str, size: float = 9.5) -> None:
        top = paper.get_y()
        paper.set_font("DejaVu", size=8.8)
        paper.set_text_color(*MUTED)
        paper.multi_cell(44, 5, name, new_x="RIGHT", new_y="TOP", align="L")
        paper.set_xy(paper.l_margin + 46, top)
        paper.set_font("DejaVu", size=size)
        paper.set_text_color(*INK)
        paper.multi_cell(
            paper.epw - 46,
            5,
            value,
            new_x="LMARGIN",
            new_y="NEXT",
            align="L",
            wrapmode=WrapMode.CHAR if size < 9 else WrapMode.WORD,
        )
        paper.ln(0.8)

    kind = gettext("Energy certificates") if told["token"] == "certificate" else gettext("Mitigation outcomes")
    _mark(paper)
    paper.set_xy(paper.l_margin + 16, paper.t_margin + 1)
    write(gettext("Retirement statement"), 11, MUTED)
    paper.set_x(paper.l_margin + 16)
    write(f"{kind} · {gettext('No. %(n)s', n=told['number'])}", 9.5, MUTED)
    paper.ln(8)
    figure, unit = amount(told)
    write(f"{figure} {unit}", 27, INK, 1.25)
    details = told["details"]
    write(gettext("retired for good on behalf of"), 11, MUTED, 1.6)
    write(words.tame(details["beneficiaryName"], 200) or details["beneficiary"], 15)
    if estimate:
        paper.ln(2)
        write(gettext("No authority has authorised this outcome. It is an estimate of avoided emissions and must not be used against a mitigation target."), 9, SUN)  # fmt: skip
    rule()
    fact(gettext("Purpose"), words.tame(details["purpose"], 400) or "–")
    place = ", ".join(
        words.tame(text, 120) for text in (details["location"], details["country"].strip("\0 ")) if text.strip("\0 ")
    )
    period = words.days_of(details["consumptionStart"], details["consumptionEnd"])
    fact(gettext("Consumption"), ", ".join(part for part in (period, place) if part))
    fact(gettext("Retired by"), told["account"], 8.6)
    if details["beneficiary"].strip("0x"):
        fact(gettext("Beneficiary"), details["beneficiary"], 8.6)
    fact(gettext("When"), f"{words.day(told['time'])}, {words.utc(told['time'])}")
    rule()
    origins = [_origin(told["token"], item, names) for item in told["items"][:LISTED_ITEMS]]
    if len(told["items"]) > LISTED_ITEMS:
        origins.append(gettext("and %(n)s more, in the attached file", n=len(told["items"]) - LISTED_ITEMS))
    fact(gettext("Origin"), "\n".join(origins))
    fact(gettext("Transaction"), told["transaction"], 7.6)
    fact(gettext("Chain"), f"{told['chainId']} · {gettext('block %(block)s', block=told['block'])}")
    fact(gettext("Contract"), told["contract"], 8.6)
    rule()
    top = paper.get_y()
    if top > paper.h - 70:
        paper.add_page()
        top = paper.get_y()
    side = 34
    _qr(paper, url, paper.w - paper.r_margin - side, top, side)
    paper.set_right_margin(paper.r_margin + side + 8)
    write(gettext("Check this statement"), 10.5)
    write(gettext("Open the address in the code, or drop this file on the verify page of any site of this kind: what it claims is attached to it and is compared with the chain."), 8.8, MUTED, 1.5)  # fmt: skip
    if evidence:
        write(gettext("The evidence is attached too: python3 -I verify.py FILE.pdf checks it without any of our servers."), 8.8, MUTED, 1.5)  # fmt: skip
    paper.ln(1)
    write(url, 8, INK, 1.6)
    paper.ln(1)
    write(f"SHA-256 retirement.json {hashlib.sha256(said).hexdigest()}", 6.2, MUTED, 1.6)
    paper.ln(1)
    write(gettext("The statement above repeats what the chain records. Names, purpose and location were given by whoever retired and were not checked by anybody."), 7.6, MUTED, 1.5)  # fmt: skip

    attached = [("retirement.json", said, title, "application/json")]
    if evidence:
        attached.append(("evidence.zip", evidence, gettext("Evidence bundle"), "application/zip"))
    for name, content, described, kind in attached:
        paper.embed_file(
            bytes=content, basename=name, desc=described, mime_type=kind, creation_date=made, modification_date=made
        )
    return bytes(paper.output())


def qr_svg(text: str) -> Markup:
    """A QR code as an inline SVG without any style of its own; it says nothing that the page does not."""
    matrix = segno.make(text, error="m", micro=False).matrix
    path = "".join(f"M{x} {y}.5h1" for y, line in enumerate(matrix) for x, dark in enumerate(line) if dark)
    size = len(matrix)
    return Markup('<svg viewBox="0 0 {} {}" aria-hidden="true"><path d="{}"/></svg>').format(size, size, path)


def _origin(token: str, item: dict[str, str], names: dict[str, str]) -> str:
    figure, unit = amount({"token": token, "amount": item["amount"]})
    value = int(item["id"], 16)
    if token == "outcome":
        return f"{figure} {unit}, {words.token_name(item['id'], 'outcomes')}"
    device, start, duration = str(value >> 192), value >> 152 & (1 << 40) - 1, value >> 120 & (1 << 32) - 1
    name = words.tame(names.get(device) or gettext("Device %(id)s", id=device), 60)
    return f"{figure} {unit}, {name}, {words.period(start, duration)}"


def _mark(paper: FPDF) -> None:
    """The hexagon of the site's head."""
    x, y, scale = paper.l_margin, paper.t_margin, 12 / 26
    paper.set_line_width(0.6)
    paper.set_draw_color(*INK)
    outline = ((13, 2), (22.5, 7.5), (22.5, 18.5), (13, 24), (3.5, 18.5), (3.5, 7.5))
    paper.polygon([(x + a * scale, y + b * scale) for a, b in outline])
    paper.set_draw_color(*SUN)
    paper.polyline(
        [(x + a * scale, y + b * scale) for a, b in ((7.4, 9.6), (10.3, 16.6), (13, 11), (15.7, 16.6), (18.6, 9.6))]
    )
    paper.set_line_width(0.2)


def _qr(paper: FPDF, text: str, x: float, y: float, side: float) -> None:
    """A QR code of ``side`` mm, drawn as runs of modules."""
    matrix = segno.make(text, error="m", micro=False).matrix
    module = side / len(matrix)
    paper.set_fill_color(*INK)
    for row, line in enumerate(matrix):
        column = 0
        while column < len(line):
            run = 0
            while column + run < len(line) and line[column + run]:
                run += 1
            if run:
                paper.rect(x + column * module, y + row * module, run * module + 0.01, module + 0.01, style="F")
            column += run or 1
