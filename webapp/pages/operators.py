"""Signing in and out by one's own wallet, and what waits for who is signed in."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, Response, abort, jsonify, redirect, render_template, request, url_for
from flask_babel import gettext, lazy_gettext

from oracle.errors import ChainError

from ..app import services
from ..operators import (
    NONCE_SECONDS,
    Operator,
    begin,
    end,
    needs,
    new_nonce,
    require_own_page,
    signed_in,
    site_origin,
    spend_nonce,
)
from ..siwe import Message, SiweError, check_signature, read_address
from . import acts, requests, reviews

html = Blueprint("operators", __name__)

#: Wallets show it as it stands; EIP-4361 allows ASCII alone.
STATEMENT = "Sign in to Wattmark. This sends no transaction and costs nothing."
#: Why a sign-in is refused, by the field of the message that is wrong.
REFUSALS = {
    "message": lazy_gettext("What was signed is not a sign-in message (EIP-4361)."),
    "version": lazy_gettext("The sign-in message has a version that is not known here."),
    "address": lazy_gettext("The address in the sign-in message is not written with its capitals (EIP-55)."),
    "domain": lazy_gettext(
        "The sign-in message was made for another site. If a site other than this asked you for it, do not trust that site."
    ),
    "scheme": lazy_gettext(
        "The sign-in message was made for another site. If a site other than this asked you for it, do not trust that site."
    ),
    "uri": lazy_gettext(
        "The sign-in message was made for another site. If a site other than this asked you for it, do not trust that site."
    ),
    "chain_id": lazy_gettext("The sign-in message was made for another chain. Change your wallet to this chain."),
    "nonce": lazy_gettext("This sign-in was used before, took too long, or began in another browser. Begin again."),
    "issued_at": lazy_gettext("The sign-in message is too old, or its clock is ahead. Begin again."),
    "expiration_time": lazy_gettext("The sign-in message has expired. Begin again."),
    "not_before": lazy_gettext("The sign-in message is not valid yet."),
    "altered": lazy_gettext("The sign-in message is not as this site wrote it. Begin again."),
    "signature": lazy_gettext("The signature is not by this account."),
}

#: What may wait for an operator: how many, what they are, and where. Zero is not shown.
WAITING: list[tuple[Callable[[Operator], int], Any, str]] = [
    (requests.waiting, lazy_gettext("device requests to decide"), "/operators/requests"),
    (acts.ready, lazy_gettext("planned acts to execute"), "/operators/administration"),
    (reviews.waiting, lazy_gettext("held days to decide"), "/operators/reviews"),
]


@html.get("/operators/sign-in")
def sign_in_page() -> Response | str:
    """Where a wallet is asked for a signature; who is signed in already goes on."""
    if signed_in():
        return redirect(_next())  # type: ignore[return-value]
    return render_template("operators/sign_in.html", next=_next(), json_url=None)


@html.get("/operators/sign-in/message.json")
def sign_in_message() -> Response:
    """The message for a wallet to sign, with a nonce of its own. Query: address."""
    try:
        address = read_address(request.args.get("address", ""))
    except ValueError:
        abort(400, gettext("This is not an address: 0x and 40 hex digits, capitals as they were given."))
    message = _message(address, new_nonce(), datetime.now(UTC).replace(microsecond=0))
    answer = jsonify({"message": str(message)})
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _message(address: str, nonce: str, issued_at: datetime) -> Message:
    """The message as this site writes it."""
    origin = site_origin()
    return Message(
        urlsplit(origin).netloc, address, f"{origin}{url_for('operators.sign_in_page')}", services().book.chain_id, nonce, issued_at,
        STATEMENT, expiration_time=issued_at + timedelta(seconds=NONCE_SECONDS),
    )  # fmt: skip


@html.post("/operators/sign-in.json")
def sign_in() -> Response:
    """Sign in by a signed message: ``{"message", "signature"}``."""
    require_own_page()
    body: Any = request.get_json(silent=True)
    text, signature = (body.get(name) if isinstance(body, dict) else None for name in ("message", "signature"))
    if not isinstance(text, str) or not isinstance(signature, str):
        abort(400, gettext("Send message and signature as JSON."))
    try:
        message = Message.read(text)
        message.check(origin=site_origin(), chain_id=services().book.chain_id, now=datetime.now(UTC))
        message.require(_message(message.address, message.nonce, message.issued_at))
        if not spend_nonce(message.nonce):
            raise SiweError("nonce", "was not given here, not to this browser, too long ago, or is used")
        check_signature(text, message.address, signature, services().node)
    except SiweError as refused:
        abort(401, str(REFUSALS[refused.field]))
    except ChainError:
        abort(503, gettext("The chain cannot be read at this moment, so nobody's role is known."))
    answer = jsonify({"address": message.address, "next": _next()})
    begin(message.address, answer)
    return answer


@html.post("/operators/sign-out")
def sign_out() -> Response:
    """End this sign-in; with ``everywhere``, all of this account."""
    require_own_page()
    answer = redirect(url_for("operators.sign_in_page"), 303)
    end(answer, everywhere="everywhere" in request.form)  # type: ignore[arg-type]
    return answer  # type: ignore[return-value]


@html.get("/operators")
@needs()
def home() -> str:
    """Who I am, what I may do, what waits for me."""
    operator = signed_in()
    assert operator is not None, "the view is not guarded"
    own = services().desk.requests(operator.address)
    waiting = [(count(operator), text, address) for count, text, address in WAITING]
    return render_template("operators/home.html", waiting=waiting, own_requests=len(own), json_url=None)


def _next() -> str:
    """Where to go once signed in: a page of ours alone."""
    wanted = request.args.get("next", "")
    fine = wanted.startswith("/operators") and not wanted.startswith("//") and "\\" not in wanted
    return wanted if fine else "/operators"
