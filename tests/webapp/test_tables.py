"""Tables: one query behind page, JSON, CSV and API; order, filters and pages held against plain Python over all rows."""

from __future__ import annotations

import csv
import io
import random
import sqlite3

import pytest
from bs4 import BeautifulSoup

from webapp import tables
from webapp.queries import WORDS, BadQuery, Column, Filter, Table, csv_cell


@pytest.fixture
def paths(world) -> dict[str, str]:
    """Where each table is found."""
    address = world.account(2)
    return {
        table.name: f"/accounts/{address}/{table.name}" if table.name in ("holdings", "activity") else f"/{table.name}"
        for table in tables.TABLES
    }


def rows_of(client, path: str, **query: str) -> list[dict]:
    answer = client.get(f"{path}.json", query_string={"rows": "500", **query})
    assert answer.status_code == 200, answer.text
    return answer.json["rows"]


def every_page(client, path: str, **query: str) -> list[dict]:
    """All rows, two at a time."""
    found, after = [], ""
    for _ in range(400):
        answer = client.get(
            f"{path}.json", query_string={"rows": "2", **query, **({"after": after} if after else {})}
        ).json
        found += answer["rows"]
        after = answer["next"]
        if not after:
            return found
    raise AssertionError("pages without end")


def of(table: Table, row: dict) -> tuple:
    return tuple(str(row[key]) for key in row if key in {c.name for c in table.columns if not c.made})


@pytest.mark.parametrize("table", tables.TABLES, ids=lambda table: table.name)
def test_table_in_every_order_shows_each_row_once_and_sorted(client, paths, table):
    path = paths[table.name]
    whole = {of(table, row) for row in rows_of(client, path)}
    assert whole, "the world has nothing to show here"
    for column in table.sorts:
        for sign in ("", "-"):
            shown = every_page(client, path, sort=sign + column.name)
            assert len(shown) == len(whole) and {of(table, row) for row in shown} == whole, (column.name, sign)
            values = [row[column.name] for row in shown]
            if column.name == "device_id":
                values = [int(value or -1) for value in values]
            keys = [(value is not None, value) for value in values]
            assert keys == sorted(keys, reverse=bool(sign)), (column.name, sign, values)


def test_tables_of_the_app_are_all_reached(app, paths):
    rules = {rule.rule for rule in app.url_map.iter_rules()}
    for table in tables.TABLES:
        rule = "/accounts/<address>/" + table.name if table.name in ("holdings", "activity") else f"/{table.name}"
        assert {rule, f"{rule}.json", f"{rule}.csv", f"/api/v1{rule}"} <= rules


# What a filter means, said once more in Python: table, query, and the rows that must be left.
FILTERS = [
    ("devices", {"zone": "RMPA"}, lambda r, w: r["grid_zone"] == "RMPA"),
    ("devices", {"zone": "NONE"}, lambda r, w: False),
    ("devices", {"country": "us"}, lambda r, w: r["country"] == "US"),
    ("devices", {"technology": "solar"}, lambda r, w: str(r["fuel_code"]).zfill(8)[:6] == "010401"),
    ("devices", {"technology": "wind"}, lambda r, w: False),
    ("devices", {"kind": "1"}, lambda r, w: r["kind"] == 1),
    ("devices", {"state": "inactive"}, lambda r, w: not r["active"]),
    ("devices", {"state": "active"}, lambda r, w: r["active"]),
    ("batches", {"from": "2016-07-02"}, lambda r, w: r["start"] >= w.FIRST_DAY + w.DAY),
    ("batches", {"from": "2016-07-02", "to": "2016-07-02"}, lambda r, w: r["start"] == w.FIRST_DAY + w.DAY),
    ("batches", {"kind": "interim"}, lambda r, w: r["kind"] == 2),
    ("batches", {"state": "revoked"}, lambda r, w: bool(r["revoked_tx"])),
    ("batches", {"state": "notarized"}, lambda r, w: not r["revoked_tx"]),
    ("checks", {"device": "2"}, lambda r, w: r["device_id"] == "2"),
    ("checks", {"device": "02", "to": "2016-07-01"}, lambda r, w: r["device_id"] == "2" and r["start"] == w.FIRST_DAY),
    ("checks", {"result": "unchecked"}, lambda r, w: r["headline"] is None),
    ("checks", {"result": "verified"}, lambda r, w: r["headline"] == "verified"),
    ("certificates", {"device": "1"}, lambda r, w: r["device_id"] == "1"),
    ("certificates", {"zone": "RMPA", "from": "2016-07-03"}, lambda r, w: r["start"] >= w.FIRST_DAY + 2 * w.DAY),
    ("certificates", {"state": "live"}, lambda r, w: r["live_wh"] > 0),
    ("certificates", {"technology": "solar"}, lambda r, w: True),
    ("accounts", {"holds": "outcomes"}, lambda r, w: r["live_g"] > 0),
    ("accounts", {"holds": "certificates"}, lambda r, w: r["live_wh"] > 0),
    ("holdings", {"contract": "MitigationOutcome"}, lambda r, w: r["contract"] == "MitigationOutcome"),
    ("activity", {"contract": "EnergyCertificate"}, lambda r, w: r["contract"] == "EnergyCertificate"),
    ("activity", {"name": "TransferSingle"}, lambda r, w: r["name"] == "TransferSingle"),
    ("transactions", {"function": "retire"}, lambda r, w: r["function"] == "retire"),
    ("retirements", {"contract": "MitigationOutcome"}, lambda r, w: r["contract"] == "MitigationOutcome"),
    ("retirements", {"q": "heat"}, lambda r, w: "heat" in (r["purpose"] + r["beneficiary_name"]).lower()),
    ("retirements", {"q": "%"}, lambda r, w: "%" in r["purpose"] + r["beneficiary_name"]),
    ("retirements", {"q": "_"}, lambda r, w: "_" in r["purpose"] + r["beneficiary_name"]),
    ("retirements", {"country": "ES"}, lambda r, w: False),
    ("outcomes", {"state": "live"}, lambda r, w: r["live_g"] > 0),
    ("factors", {"year": "2016"}, lambda r, w: r["year"] == 2016),
    ("factors", {"state": "superseded"}, lambda r, w: r["superseded_by"] is not None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "query", "holds"), FILTERS, ids=lambda value: str(value) if isinstance(value, dict | str) else ""
)
def test_filter_leaves_the_rows_that_it_names(client, paths, w, name, query, holds):
    whole = rows_of(client, paths[name])
    table = next(table for table in tables.TABLES if table.name == name)
    assert [of(table, row) for row in rows_of(client, paths[name], **query)] == [
        of(table, row) for row in whole if holds(row, w)
    ]


def test_filter_by_account_takes_any_case_of_the_address(client, world):
    address = world.account(2)
    sent = [row for row in rows_of(client, "/transactions") if address in (row["sender"], row["receiver"])]
    assert sent
    for text in (address, address.lower()):
        assert len(rows_of(client, "/transactions", account=text)) == len(sent)
    wrong = address[:2] + address[2:].swapcase()
    assert client.get("/transactions.json", query_string={"account": wrong}).status_code == 400


def test_csv_is_the_same_query_whole(client, paths):
    for table in tables.TABLES:
        sort = f"-{table.sorts[0].name}"
        answer = client.get(f"{paths[table.name]}.csv", query_string={"sort": sort, "rows": "1"})
        assert answer.mimetype == "text/csv" and "attachment" in answer.headers["Content-Disposition"]
        lines = list(csv.DictReader(io.StringIO(answer.text)))
        rows = rows_of(client, paths[table.name], sort=sort)
        assert len(lines) == len(rows)
        for line, row in zip(lines, rows, strict=True):
            assert set(line) == set(row)
            for key, value in row.items():
                if isinstance(value, int) and not isinstance(value, bool):
                    assert line[key] == str(value), (table.name, key)


def test_csv_cells_are_no_formulas():
    for text in ('=HYPERLINK("http://x")', "+1", "-1", "@SUM(A1)", "\tx", "\r=1", "\n=1", "＝1+1"):
        assert csv_cell(text) == "'" + text
    assert [csv_cell(value) for value in (-5, None, True, "a=b", [1, "x"], "", 0)] == [
        "-5",
        "",
        "true",
        "a=b",
        '[1,"x"]',
        "",
        "0",
    ]


BAD = [
    ("sort", "name; DROP TABLE tx"), ("sort", "--block"), ("rows", "0"), ("rows", "501"), ("rows", "-1"), ("rows", "x"),
    ("rows", "٣"), ("from", "2016-13-01"), ("from", "yesterday"), ("to", "0000-01-01"), ("kind", "3"), ("state", "' OR 1=1"),
    ("signer", "0x12"), ("after", "zz"), ("after", "5b5d"), ("after", (b"[" * 20_000).hex()),
    ("after", b'["-block",1.5,2]'.hex()), ("after", b'["block",1,2]'.hex()), ("after", b'["-block",9223372036854775808,2]'.hex()),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), BAD, ids=lambda value: value[:20])
def test_query_that_cannot_be_read_is_refused_where_machines_ask(client, name, value):
    for path in ("/batches.json", "/api/v1/batches", "/batches.csv"):
        answer = client.get(path, query_string={name: value})
        if name == "after" and path.endswith(".csv"):
            continue  # whole lists have no pages
        assert answer.status_code == 400, path
        assert answer.json["error"]["status"] == 400 and answer.json["error"]["detail"].startswith(name)


def test_query_that_cannot_be_read_is_told_on_the_page(client):
    page = client.get("/batches?from=yesterday&kind=final&sort=nonsense")
    text = BeautifulSoup(page.data, "html.parser").get_text(" ")
    assert page.status_code == 200 and "could not be read and was left out: from, sort" in text
    assert client.get("/batches?after=zz").status_code == 400


def test_page_of_a_table_carries_order_filters_and_labels(client):
    page = BeautifulSoup(client.get("/certificates?device=1&sort=-retired_wh&rows=2").data, "html.parser")
    heads = {th.get_text(strip=True): th for th in page.select("table thead th")}
    assert heads["Retired"]["aria-sort"] == "descending" and heads["Live"]["aria-sort"] == "none"
    turned = heads["Retired"].a["href"]
    assert "sort=retired_wh" in turned and "device=1" in turned and "rows=2" in turned and "after" not in turned
    assert page.select_one('select[name="device"] option[selected]')["value"] == "1"
    assert page.select_one('select[name="sort"] option[selected]')["value"] == "-retired_wh"
    following = page.select_one('a[rel="next"]')["href"]
    assert "device=1" in following and "sort=-retired_wh" in following and "after=" in following
    first = [a.get_text() for a in page.select("tbody tr td:first-child a")]
    second = BeautifulSoup(client.get(f"/certificates{following}").data, "html.parser")
    assert first and not set(first) & {a.get_text() for a in second.select("tbody tr td:first-child a")}
    for cell in page.select("tbody td"):
        assert cell.get("data-l"), "a phone shows each cell under its label"
    assert page.select_one(".more a[href^='/certificates.csv?']")["href"].endswith("device=1&sort=-retired_wh&rows=2")
    for control in page.select("form.filters input:not([type=hidden]), form.filters select"):
        assert control.find_parent("label"), control


def test_page_of_a_filter_without_rows_says_so_and_keeps_the_form(client):
    page = BeautifulSoup(client.get("/devices?zone=NOWHERE").data, "html.parser")
    assert "Nothing here fits these filters." in page.get_text()
    assert page.select_one('input[name="zone"]')["value"] == "NOWHERE"


def test_transactions_show_fee_status_and_confirmations_of_the_node(client, world):
    client.application.extensions["wattmark"].refresh()  # other tests may have mined since
    rows = rows_of(client, "/transactions")
    assert {row["hash"] for row in rows} >= set(world.chain_transactions)
    for row in rows[:5]:
        receipt = world.w3.eth.get_transaction_receipt(row["hash"])
        assert row["fee_wei"] == str(receipt["gasUsed"] * receipt["effectiveGasPrice"])
        assert row["status"] == ("succeeded" if receipt["status"] else "reverted") and row["sender"] == receipt["from"]
        assert row["confirmations"] == world.w3.eth.block_number - receipt["blockNumber"] + 1
    moved = next(row for row in rows if row["function"] == "retireBatch")
    assert (moved["moved_wh"], moved["moves"]) == (3_000, 2)


# -- the mechanism by itself ------------------------------------------------------------------------

THINGS = Table(
    "things", "Things", "", "None", "SELECT a, b, id FROM thing WHERE kept = ?", ("id",), "-a",
    (Column("a", type="integer", sort="COALESCE(a, -1)"), Column("b", sort="b"), Column("id", type="integer", sort="id")),
    (Filter("b", "b", "b = ?", WORDS),),
)  # fmt: skip


def _things(rows: list[tuple]) -> sqlite3.Connection:
    db = sqlite3.connect(":memory:")
    db.row_factory = sqlite3.Row
    db.execute("CREATE TABLE thing (a INTEGER, b TEXT, id INTEGER PRIMARY KEY, kept INTEGER DEFAULT 1)")
    db.executemany("INSERT INTO thing (a, b, id) VALUES (?, ?, ?)", rows)
    return db


def _page(db: sqlite3.Connection, **arguments: str) -> tuple[list[int], str | None]:
    query = THINGS.query(arguments, base=(1,))
    answers = db.execute(*query.sql()).fetchall()
    more = len(answers) > query.rows
    shown = answers[: query.rows]
    return [row["id"] for row in shown], query.cursor(dict(shown[-1])) if more else None


@pytest.mark.parametrize("sort", ["a", "-a", "b", "-b", "id", "-id"])
def test_pages_by_keyset_lose_and_repeat_nothing_while_rows_come_and_go(sort):
    chance = random.Random(sort)
    for _ in range(30):
        rows = [
            (chance.choice([None, 0, 1, 2, 2**62]), chance.choice("xyZ"), i * 2) for i in range(chance.randint(0, 25))
        ]
        db = _things(rows)
        seen: list[int] = []
        after, added = "", 1
        while True:
            ids, following = _page(db, sort=sort, rows=str(chance.randint(1, 4)), after=after)
            seen += ids
            if following is None:
                break
            after = following
            # Meanwhile others are added anywhere; what stood there from the first must still be shown once.
            db.execute("INSERT INTO thing (a, b, id) VALUES (?, ?, ?)", (chance.choice([None, 1]), "y", added))
            added += 2
        assert len(seen) == len(set(seen))
        assert {i for _, _, i in rows} <= set(seen)


def test_cursor_of_another_order_is_refused():
    db = _things([(i, "x", i) for i in range(5)])
    _, after = _page(db, sort="a", rows="2")
    with pytest.raises(BadQuery, match="after"):
        _page(db, sort="-a", rows="2", after=after)


def test_fixed_filters_hold_whatever_the_address_says():
    query = THINGS.query({"b": "y"}, base=(1,), fixed={"b": "x"})
    assert query.filters == {"b": "x"} and query.chosen == {}
