"""The application: its services, its headers and its languages. ``create_app(config)`` is all there is to know."""

from __future__ import annotations

import secrets
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlencode

import orjson
from apiflask import APIFlask
from babel import support
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from flask import Response, current_app, g, has_app_context, jsonify, render_template, request, session
from flask.json.provider import DefaultJSONProvider
from flask_babel import Babel, Domain, get_locale
from markupsafe import Markup
from werkzeug.exceptions import HTTPException, InternalServerError, MethodNotAllowed

from oracle.chain import AddressBook, ChainView

from . import charts, fragments, words
from .abi import artifacts
from .catalogue import Catalogue
from .codes import Codes
from .config import WebConfig
from .desk import Desk
from .explorer import Explorer
from .follower import Follower
from .index import Contracts, Freshness, Index
from .node import Node
from .oracle_state import OracleState
from .readings import Archives
from .site_facts import SiteFacts
from .tables import TECHNOLOGIES
from .validation import Validator

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
)
HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cross-Origin-Opener-Policy": "same-origin",
}
#: Forms are small; a route that takes files allows itself more.
MAX_BODY_BYTES = 64 << 10
#: How dates and numbers are written; the texts come from the language alone.
LOCALES = {"en": "en_GB", "es": "es", "ru": "ru"}


@dataclass(frozen=True, slots=True)
class Services:
    """What the pages ask: one of each for the life of the process."""

    config: WebConfig
    book: AddressBook
    index: Index
    node: Node
    follower: Follower
    catalogue: Catalogue
    desk: Desk
    archives: Archives
    oracle_days: OracleState
    facts: SiteFacts
    chain: ChainView
    validator: Validator
    codes: Codes
    #: Answers that hold until the newest block changes, with its hash.
    kept: dict[str, tuple[Any, Any]] = field(default_factory=dict)

    def refresh(self) -> Freshness:
        """Bring index and catalogue up to date now, waiting for it."""
        freshness = self.follower.sync()
        self.list_archives()
        self.codes.look()
        return freshness

    def list_archives(self) -> None:
        with self.index.reading() as db:
            roots = [row["root"] for row in db.execute("SELECT root FROM notarization")]
        self.catalogue.refresh(roots)

    def start(self) -> None:
        """Follow the chain and work off validations, on threads of their own."""
        # Pages are complete from the first request on where the node answers at once.
        first = Thread(target=self.refresh, daemon=True)
        first.start()
        first.join(timeout=5)
        self.follower.start(after=self.after_look)
        self.validator.start()
        # The first visitor finds results rather than empty columns.
        if self.catalogue.last_job() is None:
            self.validator.ask({})

    def after_look(self) -> None:
        self.catalogue.keep_waiting()
        self.list_archives()
        self.codes.look()

    def stop(self) -> None:
        self.follower.stop()
        self.validator.stop()
        self.catalogue.keep_waiting()


def services() -> Services:
    """The services of the running app."""
    found: Services = current_app.extensions["wattmark"]
    return found


def explorer() -> Explorer:
    """The index as it stands for this request."""
    if "explorer" not in g:
        s = services()
        g.explorer = _stack().enter_context(Explorer.open(s.index, str(s.catalogue.path)))
    found: Explorer = g.explorer
    return found


def reopen() -> None:
    """Let :func:`explorer` open the index anew; it is closed when the request is torn down next."""
    for name in ("explorer", "stack"):
        g.pop(name, None)


def freshness() -> Freshness:
    """How far the index has come, the same for a whole request."""
    if "freshness" not in g:
        g.freshness = services().follower.freshness()
    found: Freshness = g.freshness
    return found


def _stack() -> ExitStack:
    if "stack" not in g:
        g.stack = ExitStack()
    found: ExitStack = g.stack
    return found


def build_services(config: WebConfig) -> Services:
    """Open everything the pages read from. OracleError where a file is missing or wrong."""
    book = AddressBook.read(config.network.addresses)
    contracts = Contracts(
        book.chain_id, book.deployed_block, {name: entry.address for name, entry in book.contracts.items()}
    )
    index = Index(config.state_folder / "index.sqlite3", contracts)
    catalogue = Catalogue(config.state_folder / "web.sqlite3", config.archive_folder)
    node = Node(config.network.rpc_urls, config.network.timeout_seconds)
    follower = Follower(
        index, node, artifacts(), finality_depth=config.network.finality_depth, interval_seconds=config.interval_seconds
    )
    archives, chain = Archives(catalogue), ChainView(config.network)
    return Services(
        config, book, index, node, follower, catalogue, Desk(config.state_folder / "operators.sqlite3"), archives, OracleState(config.oracle_database_url), SiteFacts.load(config),
        chain, Validator(index, catalogue, archives, chain, node, config.head_seconds), Codes(book, node),
    )  # fmt: skip


class Json(DefaultJSONProvider):
    """Keys in the order that they were given in; a text nested too deep is malformed like any other (ValueError)."""

    sort_keys = False

    def loads(self, s: str | bytes, **_: Any) -> Any:
        return orjson.loads(s)


def create_app(config: WebConfig) -> APIFlask:
    """The WSGI application. It reads the chain only once ``app.extensions["wattmark"].start()`` or ``.refresh()`` is called."""
    app = APIFlask(
        "webapp", title="Wattmark", version="1", spec_path="/api/v1/openapi.json", docs_path=None, json_errors=False,
    )  # fmt: skip
    app.config.update(
        MAX_CONTENT_LENGTH=MAX_BODY_BYTES,
        SESSION_COOKIE_NAME="wattmark",
        SESSION_COOKIE_SAMESITE="Strict",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SECURE=(config.site_url or "").startswith("https://"),
        AUTO_SERVERS=False,
        SPEC_FORMAT="json",
        DESCRIPTION="Everything the pages show. Energy in Wh, outcomes in g CO2e, times in UTC seconds.",
    )
    app.json = Json(app)
    built = build_services(config)
    app.extensions["wattmark"] = built
    app.secret_key = built.catalogue.secret("session")
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    PoBabel(
        app,
        locale_selector=lambda: LOCALES[_language(config.languages)],
        default_locale="en_GB",
        default_timezone="UTC",
    )
    _templates(app, built)
    _headers(app)
    _errors(app)

    from . import api, etherscan
    from .pages import register

    api.install(app)
    register(app)
    app.register_blueprint(etherscan.blueprint)
    return app


# -- languages --------------------------------------------------------------------------------------


class PoDomain(Domain):  # type: ignore[misc]  # Flask-Babel has no types
    """Texts straight from the .po files, so that no compiled file can be out of step with them."""

    def get_translations(self) -> support.NullTranslations:
        return _texts()


class PoBabel(Babel):  # type: ignore[misc]
    """Babel that takes its texts from :class:`PoDomain`."""

    _domain = PoDomain()

    @property
    def domain_instance(self) -> Domain:
        return self._domain


def _texts() -> support.Translations:
    """The texts of the request's language, which a page looks up a hundred times."""
    if not has_app_context():
        return catalogue_of("en")
    found: support.Translations | None = g.get("texts")
    if found is None:
        locale = get_locale()
        found = g.texts = catalogue_of(locale.language if locale else "en")
    return found


_CATALOGUES: dict[str, support.Translations] = {}
TRANSLATIONS = Path(__file__).parent / "translations"


def catalogue_of(language: str) -> support.Translations:
    """The texts of a language (``en``, ``es``, ``ru``), read once in a process."""
    if language not in _CATALOGUES:
        from io import BytesIO

        with (TRANSLATIONS / f"{language}.po").open("rb") as file:
            messages = read_po(file, locale=language)
        compiled = BytesIO()
        write_mo(compiled, messages)
        compiled.seek(0)
        _CATALOGUES[language] = support.Translations(compiled)
    return _CATALOGUES[language]


def _language(languages: tuple[str, ...]) -> str:
    """Asked for in the address, else chosen before, else what the browser prefers."""
    for wanted in (request.args.get("lang"), request.cookies.get("lang")):
        if wanted in languages:
            return str(wanted)
    return request.accept_languages.best_match(languages) or languages[0]


# -- templates, headers, errors ---------------------------------------------------------------------


def _templates(app: APIFlask, built: Services) -> None:
    filters = (
        words.kwh, words.mass, words.number, words.utc, words.iso, words.day, words.isoday, words.age, words.short, words.tame,
        words.act, words.hours, words.ether, words.brief_ether, words.month, words.figures,
    )  # fmt: skip
    app.jinja_env.filters.update({function.__name__: function for function in filters})
    app.jinja_env.globals.update(
        verdicts=words.VERDICTS, verdict_styles=words.STYLES, headlines=words.HEADLINES, parts=words.PARTS,
        questions=words.QUESTIONS, sentences=words.SENTENCES, retirement_words=words.OF_RETIREMENT, states=words.STATES, slot_words=words.SLOTS, bases=words.BASES,
        irradiance_words=words.IRRADIANCE, corroboration_words=words.CORROBORATION, kinds=words.KINDS, jobs=words.JOBS,
        contract_words=words.CONTRACTS, code_words=words.CODES, moved_words=words.moved, technology_names=TECHNOLOGIES, language_names=words.LANGUAGE_NAMES, period=words.period, days_of=words.days_of, technology=words.technology,
        weekdays=words.weekdays, token_name=words.token_name, day_chart=charts.day_chart, axes=charts.axes, bars=charts.bars, hits=charts.hits, slot_rows=charts.slot_rows, slot_state=charts.slot_state, calendar=charts.calendar, csrf_token=csrf_token, asset=asset, query_of=query_of,
        icon_html=fragments.icon, hash_html=fragments.hash_of, kept=fragments.kept,
    )  # fmt: skip

    from .authority import ROLE_WORDS
    from .operators import signed_in
    from .pages.acts import operator_setup

    app.jinja_env.install_gettext_callables(  # type: ignore[attr-defined]
        lambda text: _texts().ugettext(text),
        lambda one, many, n: _texts().ungettext(one, many, n),
        newstyle=True,
    )

    @app.context_processor
    def page_context() -> dict[str, Any]:
        return {
            "config_": built.config,
            "book": built.book,
            "fresh": freshness(),
            "language": words.language(),
            "device_name": lambda device_id: built.facts.name(str(device_id)) or None,
            "label": label,
            "codes": built.codes.states,
            "device_choices": device_choices,
            "signed_in": signed_in,
            "role_words": ROLE_WORDS,
            "operator_setup": operator_setup,
        }


def device_choices() -> list[tuple[str, str]]:
    """Every device's id and name, to choose from."""
    return [(found, services().facts.name(found) or f"#{found}") for found in explorer().device_ids()]


def label(address: str) -> dict[str, str] | None:
    """What is known of an address: ``{"kind", "text"}`` of a contract, a named account or a device's account."""
    if "labels" not in g:
        g.labels = _labels()
    found: dict[str, str] | None = g.labels.get(address)
    return found


def _labels() -> dict[str, dict[str, str]]:
    """Every address that has a name; the same until the next block."""
    s, block = services(), freshness().block_hash
    known = s.kept.get("labels")
    if known is None or known[0] != block:
        names: dict[str, list[str]] = {}
        for account, device_id in explorer().labels():
            names.setdefault(account, []).append(s.facts.name(device_id) or f"#{device_id}")
        found = {account: {"kind": "device", "text": ", ".join(devices[:3])} for account, devices in names.items()}
        found |= {account: {"kind": "name", "text": name} for account, name in s.config.labels.items()}
        found |= {entry.address: {"kind": "contract", "text": name} for name, entry in s.book.contracts.items()}
        known = s.kept["labels"] = (block, found)
    labels: dict[str, dict[str, str]] = known[1]
    return labels


def csrf_token() -> str:
    """What a form of ours sends back: bound to the sign-in, of visitors to their cookie."""
    from .operators import session_token

    bound = session_token()
    if bound:
        return bound
    if "csrf" not in session:
        session["csrf"] = secrets.token_urlsafe(24)
    return str(session["csrf"])


def csrf_is_right() -> bool:
    """Whether the request carries its session's token, in a form field or the header ``X-CSRF-Token``."""
    from .operators import session_token

    given = request.form.get("csrf") or request.headers.get("X-CSRF-Token", "")
    kept = session_token() or session.get("csrf", "")
    return bool(kept) and secrets.compare_digest(str(given).encode(), str(kept).encode())


@cache
def asset(name: str) -> Markup:
    """Address of a static file as it was when first asked for; a new release has another, so that browsers may keep it."""
    path = Path(current_app.static_folder or "") / name
    return Markup("/static/{}?v={:x}").format(name, int(path.stat().st_mtime))


def query_of(arguments: dict[str, str]) -> str:
    """Arguments as the query of an address, with its question mark; nothing for none."""
    return "?" + urlencode(arguments) if arguments else ""


def wants_json() -> bool:
    """Whether an error is told as JSON: to APIs and tables, not to pages."""
    return request.path.endswith((".json", ".csv")) or request.path == "/api" or request.path.startswith("/api/")


def _headers(app: APIFlask) -> None:
    @app.after_request
    def headers(response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        if request.path.startswith("/static/"):
            # Without a version in their address (scripts import each other so) files are asked for anew.
            response.headers["Cache-Control"] = "public, max-age=86400" if "v" in request.args else "no-cache"
        else:
            # What is shown to who is signed in stays in their browser, and not even there.
            response.headers.setdefault(
                "Cache-Control", "private, no-store" if g.get("operator_address") else "no-cache"
            )
            response.headers.add("Vary", "Accept-Language, Cookie")
        chosen = request.args.get("lang")
        if chosen in services().config.languages:
            response.set_cookie("lang", str(chosen), max_age=31_536_000, samesite="Lax", httponly=True)
        return response

    @app.teardown_request
    def close(_fault: BaseException | None) -> None:
        if "stack" in g:
            g.stack.close()


def _errors(app: APIFlask) -> None:
    @app.errorhandler(HTTPException)
    def told(fault: HTTPException) -> tuple[Any, int, dict[str, str]]:
        status = fault.code or 500
        allowed = fault.valid_methods if isinstance(fault, MethodNotAllowed) else None
        headers = {"Allow": ", ".join(sorted(allowed))} if allowed else {}
        if status == 401:
            # No browser knows the scheme, so that none asks for a password.
            headers["WWW-Authenticate"] = 'EIP-4361 realm="operators", uri="/operators/sign-in"'
        if wants_json():
            body = {"error": {"status": status, "title": fault.name, "detail": fault.description}}
            return jsonify(body), status, headers
        return render_template("error.html", status=status, detail=fault.description), status, headers

    @app.errorhandler(Exception)
    def failed(fault: Exception) -> tuple[Any, int, dict[str, str]]:
        current_app.logger.exception("%s %s failed", request.method, request.path)
        return told(InternalServerError())
