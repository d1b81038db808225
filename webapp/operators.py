"""Who is signed in, what the chain lets them do, and what a request must bring before it may change anything.

Signing in proves an address (:mod:`webapp.siwe`); what it may do is asked of the AccessManager at the newest block, each time a
new one comes. The web app holds no key: whatever goes to the chain is signed in the operator's own wallet.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

from flask import Response, abort, g, request, session
from flask_babel import gettext

from oracle.errors import ChainError

from .app import csrf_is_right, csrf_token, explorer, services
from .authority import ROLE_IDS, ROLE_WORDS, Manager

COOKIE = "wattmark-operator"
#: A nonce is given for one sign-in, which has to come within this time.
NONCE_SECONDS = 600
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True, slots=True)
class Operator:
    """A signed-in account, as the newest block has it.

    ``address`` with its EIP-55 capitals; ``roles`` by the names of docs/roles.md; ``delays``: seconds that an act of each of these
    roles waits; ``owns``: ids of the devices whose account it is now.
    """

    address: str
    roles: frozenset[str]
    delays: dict[str, int] = field(default_factory=dict)
    owns: tuple[str, ...] = ()


# -- who asks ---------------------------------------------------------------------------------------


def signed_in() -> Operator | None:
    """Who sent this request; None without a sign-in that holds. 503 where the chain cannot be asked what they may do."""
    if "operator" not in g:
        address = signed_in_address()
        g.operator = _operator(address) if address else None
    found: Operator | None = g.operator
    return found


def signed_in_address() -> str | None:
    """The signed-in account alone, without asking the chain."""
    if "operator_address" not in g:
        cookie = request.cookies.get(_cookie_name())
        g.operator_address = services().desk.address_of(cookie) if cookie else None
    found: str | None = g.operator_address
    return found


def _operator(address: str) -> Operator:
    try:
        delays = role_delays(address)
    except ChainError:
        abort(503, gettext("The chain cannot be read at this moment, so nobody's role is known."))
    return Operator(address, frozenset(delays), delays, _devices_of(address))


def _devices_of(address: str) -> tuple[str, ...]:
    """Ids of the devices whose account is ``address`` now."""
    rows = explorer().all(
        "SELECT d.device_id, COALESCE((SELECT c.value FROM device_change c WHERE c.device_id = d.device_id AND c.field = 'account'"
        " AND c.since <= ? ORDER BY c.since DESC, c.block DESC, c.log_index DESC LIMIT 1), d.account) AS account FROM device d",
        int(time.time()))  # fmt: skip
    return tuple(row["device_id"] for row in rows if row["account"] == address)


def role_delays(address: str) -> dict[str, int]:
    """The roles that ``address`` holds at the newest block, each with the seconds its acts wait. Raises ChainError."""
    s = services()
    head = s.node.call("eth_getBlockByNumber", "latest", False)
    block, known = s.kept.get("roles", (None, {}))
    if block != head["hash"]:
        known = {}
        s.kept["roles"] = (head["hash"], known)
    if address not in known:
        pairs = [(number, address) for number in ROLE_IDS.values()]
        answers = Manager(s, head["number"]).views("hasRole(uint64,address)", ["bool", "uint32"], pairs)
        known[address] = {name: delay for name, (member, delay) in zip(ROLE_IDS, answers, strict=True) if member}
    found: dict[str, int] = known[address]
    return found


def needs(*roles: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Above a view: only who is signed in with one of ``roles`` comes in; with none named, whoever is signed in.

    401 and 403 say why. A request that may change something must come from a page of ours (:func:`require_own_page`).
    """
    unknown = set(roles) - set(ROLE_IDS)
    if unknown:
        raise ValueError(f"no such role: {', '.join(sorted(unknown))}")

    def put(view: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(view)
        def guarded(**values: Any) -> Any:
            operator = signed_in()
            if operator is None:
                abort(401, gettext("Sign in with your wallet first, or again: a sign-in ends after a while."))
            if roles and not operator.roles.intersection(roles):
                named = ", ".join(str(ROLE_WORDS[name]) for name in roles)
                abort(403, gettext("This is for: %(roles)s. The chain gives your account none of these roles.", roles=named))  # fmt: skip
            if request.method not in ("GET", "HEAD", "OPTIONS"):
                require_own_page()
            return view(**values)

        return guarded

    return put


def require_own_page() -> None:
    """403 unless the request was sent by a page of this site that this browser was shown: by Origin and by token."""
    if request.headers.get("Origin") != site_origin() or not csrf_is_right():
        abort(403, gettext("This was not sent by a page of this site that you have open now. Load the page again."))


def site_origin() -> str:
    """``https://host[:port]`` of this site: ``site_url`` of the configuration. Without it only this machine may sign in, since what
    a request says about the site's name proves nothing."""
    configured = services().config.site_url
    if configured:
        return configured
    if request.host.rpartition(":")[0] in _LOOPBACK or request.host in _LOOPBACK:
        return f"{request.scheme}://{request.host}"
    abort(403, gettext("Nobody can sign in here: the configuration does not name this site's address (site_url)."))


# -- signing in and out -----------------------------------------------------------------------------


def new_nonce(*, now: float | None = None) -> str:
    """A nonce for this browser alone, for :data:`NONCE_SECONDS`. Nothing is kept until it is used."""
    issued = f"{int(time.time() if now is None else now):010d}{secrets.token_hex(8)}"
    return issued + _seal(issued)


def spend_nonce(nonce: str, *, now: float | None = None) -> bool:
    """Whether ``nonce`` was given to this browser, not too long ago and not used yet. It is used from now on."""
    moment = time.time() if now is None else now
    issued, seal = nonce[:26], nonce[26:]
    if not hmac.compare_digest(seal.encode(), _seal(issued).encode()):
        return False
    until = int(issued[:10]) + NONCE_SECONDS
    return moment <= until and services().desk.spend(nonce, until, now=now)


def _seal(issued: str) -> str:
    key = services().catalogue.secret("nonce")
    return hmac.new(key.encode(), f"{issued} {csrf_token()}".encode(), "sha256").hexdigest()[:32]


def begin(address: str, response: Response) -> None:
    """Sign ``address`` in by this response: a new id in place of whatever this browser had, and a new token."""
    new = services().desk.sign_in(address, instead_of=request.cookies.get(_cookie_name()))
    session.pop("csrf", None)
    # Not even by a name that others may set: a cookie __Host-… comes from this very host over https alone.
    response.set_cookie(_cookie_name(), new, secure=_secure(), httponly=True, samesite="Strict", path="/")


def end(response: Response, *, everywhere: bool = False) -> None:
    """Sign this browser out, or all that the account is signed in with."""
    cookie, address = request.cookies.get(_cookie_name()), signed_in_address()
    if everywhere and address:
        services().desk.sign_out_everywhere(address)
    if cookie:
        services().desk.sign_out(cookie)
    session.pop("csrf", None)
    response.delete_cookie(_cookie_name(), secure=_secure(), httponly=True, samesite="Strict", path="/")


def _secure() -> bool:
    return (services().config.site_url or request.url_root).startswith("https://")


def _cookie_name() -> str:
    return f"__Host-{COOKIE}" if _secure() else COOKIE


def session_token() -> str | None:
    """The token of this sign-in's forms; None for who is not signed in."""
    cookie = request.cookies.get(_cookie_name())
    if not cookie or signed_in_address() is None:
        return None
    key = services().catalogue.secret("token")
    return hmac.new(key.encode(), cookie.encode(), "sha256").hexdigest()
