"""Every route of the app, who may ask it and what they are answered. A route without an entry here fails.

``ANSWERS`` says what everybody is answered, or by role: "*" stands for whoever is signed in and not named. Who is signed in posts as
the site's own pages do, with Origin and token; what is posted without them is in tests/webapp/test_sign_in.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from bs4 import BeautifulSoup

from webapp.app import CSP
from webapp.index import hex_id

#: Who asks: nobody signed in, an account with nothing to do here, the devices' account, and the holder of each role.
ROLES = ("anonymous", "other", "owner", "registrar", "factor publisher", "guardian", "authoriser", "transfer recorder", "adjustment recorder",
         "reviewer", "administrator")  # fmt: skip
SIGNED_IN = {"anonymous": 401, "*": 200}
#: For whoever holds a role at all, and for reviewers alone.
ANY_ROLE = {"anonymous": 401, "other": 403, "owner": 403, "*": 200}


def reviewers(status: int) -> dict[str, int]:
    return {"anonymous": 401, "reviewer": status, "*": 403}


#: A list is asked for in four ways, a page in three.
LISTS = (
    "/devices", "/batches", "/checks", "/certificates", "/accounts", "/accounts/<address>/holdings", "/accounts/<address>/activity",
    "/transactions", "/retirements", "/conversions", "/outcomes", "/factors",
)  # fmt: skip
PAGES = (
    "/devices/<device_id>", "/devices/<device_id>/<month>", "/batches/<root>", "/certificates/<token>", "/accounts/<address>", "/transactions/<tx>",
    "/retirements/<token>/<int:number>", "/outcomes/<token>", "/checks/<root>/<device_id>/<int:start>", "/checks/jobs/<int:job_id>",
    "/auditor", "/portfolio/<address>",
)  # fmt: skip
#: Everything else, with what it answers: the status for everybody, or by role.
ANSWERS: dict[str, int | dict[str, int]] = {
    **{f"GET {rule}{end}": 200 for rule in LISTS for end in ("", ".json", ".csv")},
    **{f"GET {rule}{end}": 200 for rule in PAGES for end in ("", ".json")},
    **{f"GET /api/v1{rule}": 200 for rule in (*LISTS, *PAGES, "/overview", "/search", "/openapi.json")},
    "GET /": 200,
    "GET /.json": 200,
    "GET /api": 200,
    "GET /search": 302,
    "GET /static/<path:filename>": 200,
    "GET /verify": 200,
    "GET /verify.json": 200,
    "POST /verify": 400,  # no file was sent
    "POST /checks/validate": {"anonymous": 403, "*": 303},  # only with a token of ours
    "GET /auditor.zip": 200,
    "GET /auditor/<name>": 200,
    "GET /bundles/statement/<root>/<device_id>/<int:start>.zip": 200,
    "GET /bundles/certificate/<token>.zip": 200,
    "GET /bundles/retirement/<token>/<int:number>.zip": 200,
    "GET /bundles/outcome/<token>.zip": 200,
    "GET /retirements/<token>/<int:number>/statement.json": 200,
    "GET /retirements/<token>/<int:number>/statement.pdf": 200,
    "GET /retirements/<token>/<int:number>/badge.svg": 200,
    "GET /portfolio": 200,
    "GET /portfolio/<address>/issue/<root>.json": 200,
    "GET /wallet/abi.json": 200,
    "GET /clear-signing/<name>.json": 200,
    # This app has no relay behind it.
    "POST /relay/retirements.json": 413,
    "GET /relay/retirements/<request_id>.json": 404,
    "GET /relay/health.json": 404,
    # Operators.
    "GET /operators": SIGNED_IN,
    "GET /operators/sign-in": {"anonymous": 200, "*": 302},
    "GET /operators/sign-in/message.json": 200,
    "POST /operators/sign-in.json": {"anonymous": 403, "*": 400},  # no token; no message
    "POST /operators/sign-out": {"anonymous": 403, "*": 303},
    "GET /operators/abi.json": 200,
    "GET /operators/roles": 200,
    "GET /operators/roles.json": 200,
    "GET /api/v1/operators/roles": 200,
    "GET /operators/requests": SIGNED_IN,
    "GET /operators/requests/new": SIGNED_IN,
    "POST /operators/requests": {"anonymous": 401, "*": 422},  # nothing is filled in
    # The owner's own request: nobody else learns that it exists, but the registrar.
    "GET /operators/requests/<int:number>": {"anonymous": 401, "owner": 200, "registrar": 200, "*": 404},
    "POST /operators/requests/<int:number>/refuse": {
        "anonymous": 401,
        "registrar": 400,
        "*": 403,
    },  # no reason is given
    "POST /operators/requests/<int:number>/withdraw": {
        "anonymous": 401,
        "owner": 409,
        "registrar": 403,
        "*": 404,
    },  # withdrawn before
    "GET /operators/factors": {"anonymous": 401, "factor publisher": 200, "*": 403},
    "GET /operators/administration": SIGNED_IN,
    "GET /operators/reviews": reviewers(200),
    "GET /operators/reviews/<int:device_id>/<day>": reviewers(404),  # no oracle's database is behind this app
    "GET /operators/reviews/decisions/<sha256>.json": reviewers(404),
    "POST /operators/reviews/draft.json": reviewers(400),
    "POST /operators/reviews/decision.json": reviewers(400),
    "POST /operators/reviews/evidence.json": reviewers(503),
    "GET /operators/audit": ANY_ROLE,
    "GET /operators/audit.json": ANY_ROLE,
    "GET /operators/audit/<part>.csv": ANY_ROLE,
    **{f"GET /operators/{name}": ANY_ROLE for name in ("health", "health.json", "gaps", "gaps.json", "gaps.csv")},
    **{f"GET {rule}": 200 for rule in ("/audit", "/audit.json", "/audit.csv", "/api/v1/audit")},
}
#: Arguments that some need beside the values of their rule.
QUERIES = {
    "GET /search": {"q": "SERF East"},
    "GET /api/v1/search": {"q": "SERF East"},
    "GET /api": {"module": "proxy", "action": "eth_blockNumber"},
    "GET /operators/sign-in/message.json": {"address": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"},
}
FIVE = ("GET", "POST", "PUT", "PATCH", "DELETE")


def rules_of(app: Any) -> dict[str, Any]:
    """Every rule by method and path, as the table names it."""
    return {
        f"{method} {rule.rule}": rule
        for rule in app.url_map.iter_rules()
        for method in rule.methods
        if method not in ("HEAD", "OPTIONS")
    }


@pytest.fixture(scope="module")
def world(office):
    return office


@pytest.fixture(scope="module")
def app(office_app):
    return office_app


@pytest.fixture(scope="module")
def client_of(app, operators) -> Callable[[str], Any]:
    """A client of each role, and the headers that its posts carry."""

    def made(role: str) -> tuple[Any, dict[str, str]]:
        client = app.test_client()
        if role == "anonymous":
            return client, {}
        number = {"other": operators.OTHER, "owner": operators.OWNER, **operators.OFFICES}[role]
        return client, operators.posting(operators.sign_in(client, operators.key_of(number)))

    return made


@pytest.fixture(scope="module")
def withdrawn(app, world, operators) -> str:
    """Number of a request that the owner filed and withdrew."""
    client = app.test_client()
    posting = operators.posting(operators.sign_in(client, operators.key_of(operators.OWNER)))
    filed = client.post(
        "/operators/requests", data=operators.device_form(world.account(operators.OWNER)), headers=posting
    )
    assert client.post(f"{filed.headers['Location']}/withdraw", headers=posting).status_code == 303
    return filed.headers["Location"].rpartition("/")[2]


@pytest.fixture(scope="module")
def address_of(world, app, w, withdrawn) -> Callable[[str], str]:
    """An address that a rule of the table answers."""
    s = app.extensions["wattmark"]
    root, job = "0x" + world.archives[0].root.hex(), s.validator.ask({"root": "0x" + world.archives[0].root.hex()})
    s.validator.work(job)
    # A batch that two of whose statements are not issued yet belongs to the generator.
    later = "0x" + world.archives[1].root.hex()
    values = {
        "address": world.account(1), "root": root, "device_id": "1", "start": str(w.FIRST_DAY), "int:start": str(w.FIRST_DAY),
        "int:number": "1", "int:job_id": str(job), "tx": world.chain_transactions[-1], "path:filename": "app.css",
        "request_id": "0" * 32, "month": "2016-07", "int:device_id": "1", "day": "2016-07-01", "sha256": "0" * 64, "part": "acts",
    }  # fmt: skip

    def made(rule: str) -> str:
        own = dict(values)
        own["token"] = hex_id(world.done["outcome"] if "/outcome" in rule else world.done["tokens"][0])
        if "/retirement" in rule:
            own["token"] = "certificate"
        if "/operators/requests/" in rule:
            own["int:number"] = withdrawn
        if "/issue/" in rule:
            own["root"] = later
        own["name"] = "calldata-EnergyCertificate" if "clear-signing" in rule else "statements.csv"
        for name, value in own.items():
            rule = rule.replace(f"<{name}>", value)
        assert "<" not in rule, rule
        return rule

    return made


def test_every_route_has_its_entry_and_every_entry_its_route(app):
    rules = set(rules_of(app))
    assert rules - set(ANSWERS) == set(), "routes without an entry in ANSWERS: say who may ask them"
    assert set(ANSWERS) - rules == set(), "entries whose route is gone"


@pytest.mark.parametrize("role", ROLES)
def test_every_route_answers_each_role_as_the_table_says(client_of, address_of, role):
    client, posting = client_of(role)
    found = {}
    # Signing out comes last, since it ends what the others need.
    for entry, expected in sorted(ANSWERS.items(), key=lambda one: one[0].endswith("/sign-out")):
        method, rule = entry.split(" ", 1)
        answer = client.open(
            address_of(rule), method=method, query_string=QUERIES.get(entry), headers=posting if method != "GET" else {}
        )
        wanted = expected if isinstance(expected, int) else expected.get(role, expected.get("*"))
        if answer.status_code != wanted:
            found[entry] = (answer.status_code, answer.text[:200])
        # A picture for other sites is allowed less than a page.
        assert answer.headers["Content-Security-Policy"] in (CSP, "default-src 'none'; sandbox"), entry
        assert answer.headers["X-Content-Type-Options"] == "nosniff", entry
        for cookie in answer.headers.getlist("Set-Cookie"):
            assert "HttpOnly" in cookie and "SameSite=" in cookie, (entry, cookie)
        answer.close()
    assert found == {}


def test_no_route_takes_a_method_that_it_does_not_name(app, client, address_of):
    rules: dict[str, set[str]] = {}
    for entry in rules_of(app):
        method, rule = entry.split(" ", 1)
        rules.setdefault(rule, set()).add(method)
    for rule, methods in rules.items():
        for method in FIVE:
            if method not in methods:
                answer = client.open(address_of(rule), method=method)
                assert answer.status_code == 405, (method, rule)
                assert methods <= set(answer.headers["Allow"].split(", ")), (method, rule)


def test_reads_change_nothing(app, client, address_of):
    """GET of every route leaves both databases' rows as they were, but for results of checks with their times."""
    s = app.extensions["wattmark"]

    def counted() -> dict[str, int]:
        with s.index.reading() as db:
            tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            counts = {name: db.execute(f"SELECT COUNT(*) FROM {name}").fetchone()[0] for name in tables}
        with s.catalogue.connection() as db:
            for name in ("setting", "archive", "statement", "evidence", "job"):
                counts[f"web.{name}"] = db.execute(f"SELECT COUNT(*) FROM {name}").fetchone()[0]
        with s.desk.connection() as db:
            for name in ("sign_in", "spent_nonce", "request"):
                counts[f"desk.{name}"] = db.execute(f"SELECT COUNT(*) FROM {name}").fetchone()[0]
        return counts

    before = counted()
    for entry in ANSWERS:
        method, rule = entry.split(" ", 1)
        if method == "GET":
            client.get(address_of(rule), query_string=QUERIES.get(entry)).close()
    assert counted() == before


def test_links_of_every_page_lead_somewhere(client, address_of):
    """Every link within the site, on every page of the table, to where something answers."""
    targets: dict[str, str] = {}
    for entry in ANSWERS:
        method, rule = entry.split(" ", 1)
        answer = client.get(address_of(rule), query_string=QUERIES.get(entry)) if method == "GET" else None
        if answer is None or answer.mimetype != "text/html":
            continue
        page = BeautifulSoup(answer.data, "html.parser")
        for tag, attribute in (("a", "href"), ("img", "src"), ("link", "href"), ("script", "src"), ("form", "action")):
            for element in page.find_all(tag):
                target = str(element.get(attribute) or "")
                if target.startswith("/") and not (element.name == "form" and element.get("method") == "post"):
                    targets.setdefault(target.split("#")[0], rule)
                else:
                    assert not target.startswith(("http:", "//", "javascript:")), (rule, target)
    kinds: dict[str, str] = {}
    for target in targets:
        # One of each kind is asked: the addresses of one table differ in their values alone.
        shape = "/".join(
            "*" if len(part) > 30 or part.isdecimal() else part for part in target.split("?")[0].split("/")
        )
        kinds.setdefault(f"{shape}?{'&'.join(p.split('=')[0] for p in target.partition('?')[2].split('&'))}", target)
    assert len(kinds) > 40
    for target in kinds.values():
        answer = client.get(target)
        assert answer.status_code in (200, 302), (target, targets[target], answer.status_code)
        answer.close()
