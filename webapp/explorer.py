"""Questions to the index: every answer is a dictionary or list that JSON can carry.

Amounts of certificates are Wh, of outcomes grams; times are UTC seconds. Lists are those of :mod:`webapp.tables`, in pages of
``{"rows": […], "next": cursor or None}``.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

from oracle.domain import Visibility
from oracle.errors import ProtocolError
from oracle.protocol import parse_token_id

from . import tables
from .index import Index
from .queries import PAGE_ROWS, Dress, Query, Row
from .tables import CERTIFICATE, OUTCOME, ZERO

TOKENS = {"certificate": CERTIFICATE, "outcome": OUTCOME}
FOREVER = (1 << 40) - 1
#: Rows that are read and dressed together where a whole list is written out.
STREAM_ROWS = 200


def certificate_parts(token: str) -> Row:
    """Device, start and duration that a certificate id spells out. Raises ProtocolError for another id."""
    device_id, start, duration = parse_token_id(int(token, 16))
    return {"device_id": str(device_id), "start": start, "duration": duration}


def outcome_parts(token: str) -> Row:
    """Factor, vintage, country and authorisation that an outcome id spells out (0: an estimate)."""
    value = int(token, 16)
    if value & ((1 << 128) - 1):
        raise ProtocolError(f"{token} is not an outcome id")
    country = (value >> 192 & 0xFFFF).to_bytes(2, "big").rstrip(b"\0").decode("ascii", "replace")
    authorisation = value >> 128 & (1 << 64) - 1
    parts = {"factor_id": value >> 224, "year": value >> 208 & 0xFFFF, "country": country}
    return {**parts, "authorisation_id": str(authorisation), "estimate": authorisation == 0}


class Explorer:
    """Reads the index, with the web database attached as ``web``, in one consistent state."""

    def __init__(self, db: sqlite3.Connection):
        self.db = db

    @classmethod
    @contextmanager
    def open(cls, index: Index, web_database: str) -> Iterator[Explorer]:
        with index.reading(web_database) as db:
            yield cls(db)

    # -- helpers ------------------------------------------------------------------------------------

    def all(self, sql: str, *parameters: Any) -> list[Row]:
        return [dict(row) for row in self.db.execute(sql, parameters)]

    def one(self, sql: str, *parameters: Any) -> Row | None:
        row = self.db.execute(sql, parameters).fetchone()
        return dict(row) if row else None

    def number(self, sql: str, *parameters: Any) -> int:
        value = self.db.execute(sql, parameters).fetchone()[0]
        return int(value or 0)

    def page(self, query: Query, dress: Dress | None = None) -> dict[str, Any]:
        """One page of a table: ``{"rows", "next"}``. Raises BadQuery for a cursor that no page of it gave out."""
        answers = self.db.execute(*query.sql()).fetchall()
        more, answers = len(answers) > query.rows, answers[: query.rows]
        rows = query.dressed([query.row(dict(answer)) for answer in answers], self._dress(query, dress))
        return {"rows": rows, "next": query.cursor(dict(answers[-1])) if more else None}

    def stream(self, query: Query, dress: Dress | None = None) -> Iterator[Row]:
        """Every row of a query, whatever its page; read as they are taken, in one state of the index."""
        answers = self.db.execute(*query.sql(whole=True))
        while chunk := list(islice(answers, STREAM_ROWS)):
            yield from query.dressed([query.row(dict(answer)) for answer in chunk], self._dress(query, dress))

    def _dress(self, query: Query, more: Dress | None) -> Dress:
        """What this class itself knows of the rows of a table, and then ``more``."""
        own = {
            tables.HOLDINGS: self._dress_holdings, tables.RETIREMENTS: self._dress_retirements,
            tables.CONVERSIONS: self._dress_conversions, tables.OUTCOMES: self._dress_outcomes,
        }.get(query.table)  # fmt: skip

        def dress(rows: list[Row]) -> None:
            for step in (own, more):
                if step:
                    step(rows)

        return dress

    def _dress_holdings(self, rows: list[Row]) -> None:
        for row in rows:
            row |= {"estimate": False, "illustrative": False}
            if row["contract"] == CERTIFICATE:
                row |= certificate_parts(row["id"])
            else:
                row |= self._standing([row["id"]])

    def _dress_retirements(self, rows: list[Row]) -> None:
        for row in rows:
            row |= self._standing(row["ids"].split(",") if row["contract"] == OUTCOME else ())

    def _dress_conversions(self, rows: list[Row]) -> None:
        for row in rows:
            row["outcome"] = outcome_parts(row["outcome_id"]) | self._standing([row["outcome_id"]])

    def _dress_outcomes(self, rows: list[Row]) -> None:
        for row in rows:
            parts = outcome_parts(row["id"])
            row |= {**parts, "factor": self.factor(parts["factor_id"])}

    def newest(self) -> str | None:
        """Hash of the newest block that the index has read."""
        row = self.one("SELECT hash FROM block ORDER BY number DESC LIMIT 1")
        return str(row["hash"]) if row else None

    # -- overview -----------------------------------------------------------------------------------

    def totals(self) -> Row:
        """What there is; the contracts promise issued = live + retired + converted + settled, each counted here by itself."""
        live = self.number("SELECT SUM(amount) FROM balance WHERE contract = ?", CERTIFICATE)
        retired = self.number("SELECT SUM(amount) FROM retirement WHERE contract = ?", CERTIFICATE)
        converted = self.number("SELECT SUM(amount_wh) FROM conversion")
        settled = self.number("SELECT SUM(energy_wh) FROM issuance WHERE event = 'Settled'")
        issued = self.number("SELECT SUM(energy_wh) FROM issuance WHERE event = 'Issued'")
        batches = (
            self.one("SELECT COUNT(*) n, SUM(statements) s, SUM(energy_wh) e FROM notarization WHERE kind = 1") or {}
        )
        return {
            "issued_wh": issued,
            "live_wh": live,
            "retired_wh": retired,
            "converted_wh": converted,
            "settled_wh": settled,
            "co2e_g": self.number("SELECT SUM(co2e_g) FROM conversion"),
            **self._standing(row["id"] for row in self.all("SELECT DISTINCT outcome_id AS id FROM conversion")),
            "co2e_retired_g": self.number("SELECT SUM(amount) FROM retirement WHERE contract = ?", OUTCOME),
            "batches": batches.get("n") or 0,
            "statements": batches.get("s") or 0,
            "notarized_wh": batches.get("e") or 0,
            "readings": self.number(
                "SELECT SUM(s.readings) FROM web.statement s JOIN notarization n USING (root) WHERE n.kind = 1"
            ),
            "retirements": self.number("SELECT COUNT(DISTINCT contract || number) FROM retirement"),
            "devices": self.number("SELECT COUNT(*) FROM device"),
        }

    def breakdown(self) -> dict[str, list[Row]]:
        """Issued, live, retired and converted Wh by technology, grid zone and month of production (UTC, ``YYYY-MM``)."""
        sums = ", ".join(f"SUM({name}) AS {name}" for name in ("issued_wh", "live_wh", "retired_wh", "converted_wh"))
        keys = {
            "technology": tables.TECHNOLOGY_SQL,
            "grid_zone": "grid_zone",
            "month": "strftime('%Y-%m', start, 'unixepoch')",
        }
        # Each certificate is summed once, then grouped three ways.
        grouped = " UNION ALL ".join(
            f"SELECT '{name}' AS part, {sql} AS key, {sums} FROM certificate GROUP BY 2" for name, sql in keys.items()
        )
        rows = self.all(f"WITH certificate AS MATERIALIZED ({tables.CERTIFICATES.select}) {grouped} ORDER BY part, key")
        return {
            name: [{k: v for k, v in row.items() if k != "part"} for row in rows if row["part"] == name]
            for name in keys
        }

    # -- devices ------------------------------------------------------------------------------------

    def device_ids(self) -> list[str]:
        rows = self.all("SELECT device_id FROM device ORDER BY LENGTH(device_id), device_id")
        return [row["device_id"] for row in rows]

    def is_private(self, device_id: str) -> bool:
        """Whether a device is registered as one whose readings stay with its operator and witnesses."""
        sql = "SELECT 1 FROM device WHERE device_id = ? AND visibility = ?"
        return self.one(sql, device_id, int(Visibility.PRIVATE)) is not None

    def device(self, device_id: str) -> Row | None:
        """A device with its terms as they stand now, what was changed, and its totals."""
        device = self.one("SELECT d.*, b.timestamp AS registered_at FROM device d JOIN block b ON b.number = d.block"
                          " WHERE device_id = ?", device_id)  # fmt: skip
        if device is None:
            return None
        changes = self.all(
            "SELECT c.field, c.value, c.since, c.tx, b.timestamp AS time FROM device_change c JOIN block b ON b.number = c.block"
            " WHERE device_id = ? ORDER BY c.since, c.block, c.log_index", device_id)  # fmt: skip
        now = self.number(f"SELECT {tables.AS_OF}")
        for change in changes:
            if change["field"] == "active_until" or change["since"] <= now:
                device[change["field"]] = change["value"] if change["field"] == "account" else int(change["value"])
        device["active"] = device["active_from"] <= now < device["active_until"]
        if device["active_until"] >= FOREVER:
            device["active_until"] = None
        issued = "SELECT SUM(energy_wh) FROM issuance WHERE device_id = ? AND event = 'Issued'"
        statements = self.one("SELECT COUNT(*) n, SUM(s.energy_wh) e, MIN(s.start) first, MAX(s.start) last FROM web.statement s"
                              " JOIN notarization n USING (root) WHERE s.device_id = ? AND n.kind = 1", device_id)  # fmt: skip
        debts = self.one("SELECT debt_wh FROM issuance WHERE device_id = ? AND debt_wh IS NOT NULL"
                         " ORDER BY block DESC, log_index DESC LIMIT 1", device_id)  # fmt: skip
        return {
            **device,
            "changes": changes,
            "issued_wh": self.number(issued, device_id),
            "statements": statements["n"] if statements else 0,
            "notarized_wh": (statements["e"] if statements else 0) or 0,
            "first_start": statements["first"] if statements else None,
            "last_start": statements["last"] if statements else None,
            "debt_wh": debts["debt_wh"] if debts else 0,
        }

    # -- batches and statements ---------------------------------------------------------------------

    def batches(self, rows: int = PAGE_ROWS) -> list[Row]:
        """The last batches notarized."""
        return list(self.page(tables.BATCHES.query({}, rows=rows))["rows"])

    def batch(self, root: str) -> Row | None:
        query = tables.BATCHES.query({})
        row = self.one(f"SELECT * FROM ({tables.BATCHES.select}) WHERE root = ?", root)
        return query.dressed([query.row(row)], None)[0] if row else None

    def statement_keys(self, scope: Mapping[str, str]) -> list[Row]:
        """Root, device and start of every statement that these filters of the checks table leave."""
        where, values = tables.CHECKS.where(scope)
        where = f"WHERE {where}" if where else ""
        order = "ORDER BY root, device_id, start"
        return self.all(
            f"SELECT root, device_id, start, version FROM ({tables.CHECKS.select}) {where} {order}", *values
        )

    def statement(self, root: str, device_id: str, start: int) -> Row | None:
        sql = f"{tables.CHECKS.select} WHERE n.root = ? AND COALESCE(s.device_id, '') = ? AND COALESCE(s.start, n.start) = ?"
        return self.one(sql + " ORDER BY s.version DESC", root, device_id, start)

    def statement_row(self, root: str, device_id: str, start: int) -> Row | None:
        """The same as a row of the checks table."""
        query, row = tables.CHECKS.query({}), self.statement(root, device_id, start)
        return query.dressed([query.row(row)], None)[0] if row else None

    def day_statement(self, device_id: str, start: int) -> Row | None:
        """The statement in force for the UTC day that begins at ``start``: the first period's latest version, of a FINAL batch if any.

        A statement covers 31 days at most.
        """
        sql = f"{tables.CHECKS.select} WHERE s.device_id = ? AND s.start BETWEEN ? AND ? AND s.start + s.duration > ?"
        edges = (start - 30 * 86_400, start + 86_399, start)
        return self.one(f"{sql} ORDER BY n.kind, s.start, s.version DESC, n.block DESC", device_id, *edges)

    def statement_counts(self) -> dict[str, int]:
        """Statements by the headline of their last validation."""
        sql = (
            f"SELECT COALESCE(headline, 'unchecked') AS result, COUNT(*) AS n FROM ({tables.CHECKS.select}) GROUP BY 1"
        )
        return {row["result"]: row["n"] for row in self.all(sql)}

    def evidence(self, file_hash: str) -> list[Row]:
        """Statements whose evidence names this raw meter file (SHA-256 as 0x text), newest first."""
        return self.all(
            "SELECT DISTINCT e.root, e.device_id, e.start FROM web.evidence e JOIN notarization n USING (root)"
            " WHERE e.file_hash = ? ORDER BY e.start DESC, e.root", file_hash)  # fmt: skip

    def device_days(self, device_id: str) -> list[Row]:
        """Latest notarized statement of each period of a device, with whether it was issued and its last result."""
        return self.all(
            f"SELECT x.*, EXISTS (SELECT 1 FROM issuance i WHERE i.event = 'Issued' AND i.device_id = x.device_id"
            f" AND i.start = x.start) AS issued, MAX(x.version) FROM ({tables.CHECKS.select} WHERE s.device_id = ?) x"
            " GROUP BY x.start, x.kind ORDER BY x.start, x.kind", device_id)  # fmt: skip

    # -- certificates -------------------------------------------------------------------------------

    def certificates(self, device_id: str, rows: int = PAGE_ROWS) -> list[Row]:
        """The last certificates of a device, by day."""
        query = tables.CERTIFICATES.query({"device": device_id, "sort": "-start"}, rows=rows)
        return list(self.page(query)["rows"])

    def certificate(self, token: str) -> Row | None:
        """The whole story of a certificate id; None if nothing ever happened to it."""
        events = self.all(
            "SELECT i.*, b.timestamp AS time FROM issuance i JOIN block b ON b.number = i.block WHERE i.id = ?"
            " ORDER BY i.block, i.log_index", token)  # fmt: skip
        issued = next((e for e in events if e["event"] == "Issued"), None)
        if issued is None:
            return None
        return {
            "id": token,
            **certificate_parts(token),
            "issued": issued,
            "issued_wh": sum(e["energy_wh"] for e in events if e["event"] == "Issued"),
            "events": events,
            "holders": self.holders(CERTIFICATE, token),
            "transfers": self.transfers(CERTIFICATE, token),
            "retirements": self.retirement_items(CERTIFICATE, token),
            "conversions": self.conversions(certificate=token),
            "settled_wh": sum(e["energy_wh"] for e in events if e["event"] == "Settled"),
        }

    def holders(self, contract: str, token: str) -> list[Row]:
        return self.all(
            "SELECT account, amount FROM balance WHERE contract = ? AND id = ? ORDER BY amount DESC, account",
            contract,
            token,
        )

    def transfers(self, contract: str, token: str) -> list[Row]:
        """Movements from account to account; issuing and retiring are told by their own events."""
        return self.all(
            "SELECT t.*, b.timestamp AS time FROM transfer t JOIN block b ON b.number = t.block WHERE contract = ? AND id = ?"
            " AND sender <> ? AND receiver <> ? ORDER BY t.block, t.log_index, t.item", contract, token, ZERO, ZERO)  # fmt: skip

    def retirement_items(self, contract: str, token: str) -> list[Row]:
        return self.all(
            "SELECT r.*, b.timestamp AS time FROM retirement r JOIN block b ON b.number = r.block WHERE contract = ? AND id = ?"
            " ORDER BY r.block, r.log_index, r.item", contract, token)  # fmt: skip

    # -- retirements --------------------------------------------------------------------------------

    def retirements(self, *, account: str | None = None, rows: int = PAGE_ROWS) -> list[Row]:
        """The last retirements, of everyone or by one account."""
        return list(self.page(tables.RETIREMENTS.query({"account": account} if account else {}, rows=rows))["rows"])

    def _standing(self, outcome_ids: Iterable[str]) -> Row:
        """Whether there are avoided-emission estimates among these outcomes, or factors that are illustrative only."""
        parts = [outcome_parts(token) for token in outcome_ids]
        factors = [self.factor(part["factor_id"]) for part in parts]
        return {
            "estimate": any(part["estimate"] for part in parts),
            "illustrative": any(factor["illustrative"] for factor in factors if factor),
        }

    def retirement(self, contract: str, number: int) -> Row | None:
        items = self.all(
            "SELECT r.*, b.timestamp AS time FROM retirement r JOIN block b ON b.number = r.block"
            " WHERE r.contract = ? AND r.number = ? ORDER BY r.item", contract, number)  # fmt: skip
        if not items:
            return None
        shared = {key: value for key, value in items[0].items() if key not in ("id", "amount", "item")}
        split = [{"id": i["id"], "amount": i["amount"], **_parts(contract, i["id"])} for i in items]
        return {**shared, "amount": sum(i["amount"] for i in items), "items": split}

    # -- outcomes -----------------------------------------------------------------------------------

    def conversions(self, **chosen: str) -> list[Row]:
        """Conversions of a certificate (``certificate=id``) or to an outcome (``outcome=id``), newest first."""
        return list(self.stream(tables.CONVERSIONS.query(chosen)))

    def outcome(self, token: str) -> Row | None:
        query = tables.OUTCOMES.query({})
        row = self.one(f"SELECT * FROM ({tables.OUTCOMES.select}) WHERE id = ?", token)
        return query.dressed([query.row(row)], self._dress_outcomes)[0] if row else None

    def factor(self, factor_id: int) -> Row | None:
        row = self.one(f"{tables.FACTORS.select} WHERE f.factor_id = ?", factor_id)
        return {**row, "illustrative": bool(row["illustrative"])} if row else None

    # -- accounts and transactions ------------------------------------------------------------------

    def account(self, address: str) -> Row:
        """Balances of an account; all empty for one that was never seen."""
        held = self.all("SELECT contract, id, amount FROM balance WHERE account = ? ORDER BY contract, id", address)
        certificates = [{**row, **certificate_parts(row["id"])} for row in held if row["contract"] == CERTIFICATE]
        outcomes = [{**row, **outcome_parts(row["id"])} for row in held if row["contract"] == OUTCOME]
        retired = "SELECT SUM(amount) FROM retirement WHERE contract = ? AND account = ?"
        return {
            "address": address,
            "seen": bool(self.one("SELECT 1 FROM account WHERE address = ? LIMIT 1", address)),
            "live_wh": sum(row["amount"] for row in certificates),
            "live_g": sum(row["amount"] for row in outcomes),
            "retired_wh": self.number(retired, CERTIFICATE, address),
            "retired_g": self.number(retired, OUTCOME, address),
            "certificates": certificates,
            "outcomes": [{**row, "factor": self.factor(row["factor_id"])} for row in outcomes],
        }

    def transaction(self, tx: str) -> Row | None:
        """A transaction that left events of ours, or was sent to one of our contracts, as the index keeps it.

        None while its block is still to be read (``Freshness.unread_blocks``).
        """
        row = self.one("SELECT t.*, b.timestamp AS time, b.hash AS block_hash FROM tx t JOIN block b ON b.number = t.block"
                       " WHERE t.hash = ?", tx)  # fmt: skip
        if row is None:
            return None
        events = self.all("SELECT log_index, contract, name, args FROM event WHERE tx = ? ORDER BY log_index", tx)
        moved = self.all(
            "SELECT contract, sender, receiver, id, amount FROM transfer WHERE tx = ? ORDER BY log_index, item", tx
        )
        row["succeeded"] = bool(row["succeeded"])
        return {**row, "events": [{**e, "args": json.loads(e["args"])} for e in events], "moved": moved}

    def labels(self) -> list[tuple[str, str]]:
        """Accounts that the registry entitles or entitled, each with its device's id."""
        changed = "SELECT value, device_id FROM device_change WHERE field = 'account'"
        return [tuple(row) for row in self.db.execute(f"SELECT account, device_id FROM device UNION {changed}")]


def _parts(contract: str, token: str) -> Row:
    try:
        return certificate_parts(token) if contract == CERTIFICATE else outcome_parts(token)
    except ProtocolError:
        return {}
