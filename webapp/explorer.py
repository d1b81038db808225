"""Questions to the index: every answer is a dictionary or list that JSON can carry.

Amounts of certificates are Wh, of outcomes grams; times are UTC seconds; lists come in pages of
``{"rows": […], "next": cursor or None}``, newest first.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import orjson

from oracle.errors import ProtocolError
from oracle.protocol import parse_token_id

from .index import ZERO, Index

PAGE_ROWS = 50
CERTIFICATE, OUTCOME = "EnergyCertificate", "MitigationOutcome"
TOKENS = {"certificate": CERTIFICATE, "outcome": OUTCOME}
FOREVER = (1 << 40) - 1

Row = dict[str, Any]


class BadCursor(ValueError):
    """A page cursor that no page gave out."""


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
        with index.reading() as db:
            db.execute("COMMIT")
            db.execute("ATTACH ? AS web", (web_database,))
            db.execute("BEGIN")
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

    def page(
        self, sql: str, parameters: Sequence[Any], keys: Sequence[str], cursor: str | None, *, rows: int = PAGE_ROWS
    ) -> dict[str, Any]:
        """One page of ``sql`` (which ends in its WHERE clause) by keyset, all ``keys`` falling.

        ``keys`` are columns of the answer; a cursor is their values at a page's last row.
        """
        values = list(parameters)
        sql = f"SELECT * FROM ({sql}) AS rows"
        if cursor:
            try:
                at = orjson.loads(bytes.fromhex(cursor))
            except ValueError:
                at = None
            if not isinstance(at, list) or len(at) != len(keys) or not all(isinstance(v, int | str) for v in at):
                raise BadCursor(cursor)
            sql += f" WHERE ({', '.join(keys)}) < ({', '.join('?' * len(keys))})"
            values += at
        sql += f" ORDER BY {', '.join(key + ' DESC' for key in keys)} LIMIT {rows + 1}"
        found = [dict(row) for row in self.db.execute(sql, values)]
        more, found = len(found) > rows, found[:rows]
        following = json.dumps([found[-1][key] for key in keys]).encode().hex() if more else None
        return {"rows": found, "next": following}

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

    # -- devices ------------------------------------------------------------------------------------

    def devices(self) -> list[Row]:
        rows = self.all("SELECT device_id FROM device ORDER BY LENGTH(device_id), device_id")
        return [device for row in rows if (device := self.device(row["device_id"]))]

    def device(self, device_id: str) -> Row | None:
        """A device with its terms as they stand now, what was changed, and its totals."""
        device = self.one("SELECT d.*, b.timestamp AS registered_at FROM device d JOIN block b ON b.number = d.block"
                          " WHERE device_id = ?", device_id)  # fmt: skip
        if device is None:
            return None
        changes = self.all(
            "SELECT c.field, c.value, c.since, c.tx, b.timestamp AS time FROM device_change c JOIN block b ON b.number = c.block"
            " WHERE device_id = ? ORDER BY c.since, c.block, c.log_index", device_id)  # fmt: skip
        now = int(time.time())
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

    _BATCH = (
        "SELECT n.*, b.timestamp AS notarized_at, r.reason AS revoked_reason, r.by AS revoked_by, r.tx AS revoked_tx,"
        " (SELECT SUM(energy_wh) FROM issuance i WHERE i.root = n.root AND i.event = 'Issued') AS issued_wh,"
        " a.problem AS archive_problem, a.root IS NOT NULL AND a.present AS archive_present"
        " FROM notarization n JOIN block b ON b.number = n.block LEFT JOIN revocation r ON r.root = n.root"
        " LEFT JOIN web.archive a ON a.root = n.root"
    )

    def batches(self, cursor: str | None = None, rows: int = PAGE_ROWS) -> dict[str, Any]:
        page = self.page(self._BATCH, (), ("block", "log_index"), cursor, rows=rows)
        page["rows"] = [self._batch(row) for row in page["rows"]]
        return page

    def batch(self, root: str) -> Row | None:
        row = self.one(f"{self._BATCH} WHERE n.root = ?", root)
        return self._batch(row) if row else None

    @staticmethod
    def _batch(row: Row) -> Row:
        return {**row, "signers": json.loads(row["signers"]), "issued_wh": row["issued_wh"] or 0}

    def statements(
        self, *, root: str | None = None, device_id: str | None = None, first: int | None = None, last: int | None = None,
        result: str | None = None, cursor: str | None = None, rows: int = PAGE_ROWS,
    ) -> dict[str, Any]:  # fmt: skip
        """Rows of the checks table. A notarized batch whose archive was never seen is one row without a device.

        ``first`` and ``last`` bound the period's start (UTC seconds, inclusive); ``result`` is a verdict or ``"unchecked"``.
        """
        where, values = self._statement_filter(root, device_id, first, last, result)
        return self.page(
            f"{self._STATEMENT} {where}", values, ("start", "device_order", "root", "version"), cursor, rows=rows
        )

    def statement_keys(self, **filters: Any) -> list[Row]:
        """Root, device and start of every statement that the filters of :meth:`statements` leave."""
        where, values = self._statement_filter(
            filters.get("root"),
            filters.get("device_id"),
            filters.get("first"),
            filters.get("last"),
            filters.get("result"),
        )
        order = "ORDER BY root, device_id, start"
        return self.all(f"SELECT root, device_id, start, version FROM ({self._STATEMENT} {where}) {order}", *values)

    def statement(self, root: str, device_id: str, start: int) -> Row | None:
        sql = f"{self._STATEMENT} WHERE n.root = ? AND COALESCE(s.device_id, '') = ? AND COALESCE(s.start, n.start) = ?"
        return self.one(sql + " ORDER BY s.version DESC", root, device_id, start)

    def statement_counts(self) -> dict[str, int]:
        """Statements by the headline of their last validation."""
        sql = f"SELECT COALESCE(headline, 'unchecked') AS result, COUNT(*) AS n FROM ({self._STATEMENT}) GROUP BY 1"
        return {row["result"]: row["n"] for row in self.all(sql)}

    _STATEMENT = (
        "SELECT n.root, COALESCE(s.device_id, '') AS device_id, COALESCE(s.start, n.start) AS start,"
        " printf('%020s', COALESCE(s.device_id, '')) AS device_order, COALESCE(s.version, 0) AS version,"
        " COALESCE(s.duration, n.end - n.start) AS duration, s.energy_wh, s.previous_wh, s.profile_hash, s.leaf, s.readings,"
        " n.block, n.tx, n.kind, b.timestamp AS notarized_at, v.headline, v.data, v.inclusion, v.finality, v.authority,"
        " v.calculated, v.reasons, v.checked_at"
        " FROM notarization n JOIN block b ON b.number = n.block LEFT JOIN web.statement s ON s.root = n.root"
        " LEFT JOIN web.validation v ON v.root = n.root AND v.device_id = COALESCE(s.device_id, '')"
        " AND v.start = COALESCE(s.start, n.start) AND v.version = COALESCE(s.version, 0)"
    )

    @staticmethod
    def _statement_filter(
        root: str | None, device_id: str | None, first: int | None, last: int | None, result: str | None
    ) -> tuple[str, list[Any]]:
        terms: list[tuple[str, Any]] = []
        if root:
            terms.append(("n.root = ?", root))
        if device_id:
            terms.append(("s.device_id = ?", device_id))
        if first is not None:
            terms.append(("COALESCE(s.start, n.start) >= ?", first))
        if last is not None:
            terms.append(("COALESCE(s.start, n.start) <= ?", last))
        if result:
            terms.append(("COALESCE(v.headline, 'unchecked') = ?", result))
        where = "WHERE " + " AND ".join(sql for sql, _ in terms) if terms else ""
        return where, [value for _, value in terms]

    def device_days(self, device_id: str) -> list[Row]:
        """Latest notarized statement of each period of a device, with whether it was issued and its last result."""
        return self.all(
            f"SELECT x.*, EXISTS (SELECT 1 FROM issuance i WHERE i.event = 'Issued' AND i.device_id = x.device_id"
            f" AND i.start = x.start) AS issued, MAX(x.version) FROM ({self._STATEMENT} WHERE s.device_id = ?) x"
            " GROUP BY x.start ORDER BY x.start", device_id)  # fmt: skip

    # -- certificates -------------------------------------------------------------------------------

    def certificates(self, *, device_id: str | None = None, root: str | None = None, cursor: str | None = None,
                     rows: int = PAGE_ROWS) -> dict[str, Any]:  # fmt: skip
        where, values = "WHERE i.event = 'Issued'", []
        for column, value in (("device_id", device_id), ("root", root)):
            if value:
                where += f" AND i.{column} = ?"
                values.append(value)
        # An id is issued again when a correction adds to it; MIN makes SQLite take the other columns of the first time.
        sql = (
            "SELECT i.id, i.device_id, i.start, i.duration, i.root, i.account, i.tx, MIN(i.block) AS block, i.log_index, i.item,"
            " SUM(i.energy_wh) AS issued_wh, b.timestamp AS issued_at,"
            f" (SELECT SUM(amount) FROM balance x WHERE x.contract = '{CERTIFICATE}' AND x.id = i.id) AS live_wh,"
            f" (SELECT SUM(amount) FROM retirement x WHERE x.contract = '{CERTIFICATE}' AND x.id = i.id) AS retired_wh,"
            " (SELECT SUM(amount_wh) FROM conversion x WHERE x.certificate_id = i.id) AS converted_wh"
            f" FROM issuance i JOIN block b ON b.number = i.block {where} GROUP BY i.id"
        )
        # Those of one device are asked for by day, all together by what was issued last.
        keys = ("start", "id") if device_id else ("block", "log_index", "item")
        page = self.page(sql, values, keys, cursor, rows=rows)
        for row in page["rows"]:
            for name in ("live_wh", "retired_wh", "converted_wh"):
                row[name] = row[name] or 0
        return page

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
            "conversions": self.conversions(certificate_id=token)["rows"],
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

    def retirements(
        self, *, account: str | None = None, cursor: str | None = None, rows: int = PAGE_ROWS
    ) -> dict[str, Any]:
        where, values = ("WHERE r.account = ?", [account]) if account else ("", [])
        sql = (
            "SELECT r.contract, r.number, r.account, r.block, r.log_index, r.tx, SUM(r.amount) AS amount, COUNT(*) AS items,"
            " GROUP_CONCAT(r.id) AS ids,"
            " r.beneficiary, r.beneficiary_name, r.purpose, r.country, r.location, r.consumption_start, r.consumption_end,"
            f" b.timestamp AS time FROM retirement r JOIN block b ON b.number = r.block {where} GROUP BY r.contract, r.number"
        )
        page = self.page(sql, values, ("block", "log_index"), cursor, rows=rows)
        page["rows"] = [self._with_standing(row) for row in page["rows"]]
        return page

    def _with_standing(self, row: Row) -> Row:
        """A retirement, and whether any of what it retired must be marked."""
        ids = row.pop("ids").split(",") if row["contract"] == OUTCOME else []
        return {**row, **self._standing(ids)}

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

    def conversions(self, *, certificate_id: str | None = None, outcome_id: str | None = None, cursor: str | None = None,
                    rows: int = PAGE_ROWS) -> dict[str, Any]:  # fmt: skip
        terms, values = [], []
        for column, value in (("certificate_id", certificate_id), ("outcome_id", outcome_id)):
            if value:
                terms.append(f"c.{column} = ?")
                values.append(value)
        where = "WHERE " + " AND ".join(terms) if terms else ""
        sql = f"SELECT c.*, b.timestamp AS time FROM conversion c JOIN block b ON b.number = c.block {where}"
        page = self.page(sql, values, ("block", "log_index", "item"), cursor, rows=rows)
        page["rows"] = [
            {**row, "outcome": outcome_parts(row["outcome_id"]) | self._standing([row["outcome_id"]])}
            for row in page["rows"]
        ]
        return page

    def outcomes(self) -> list[Row]:
        """Every outcome id with what was converted, is held and was retired, in grams."""
        rows = self.all(
            "SELECT c.outcome_id AS id, SUM(c.co2e_g) AS converted_g, SUM(c.amount_wh) AS amount_wh,"
            f" (SELECT SUM(amount) FROM balance x WHERE x.contract = '{OUTCOME}' AND x.id = c.outcome_id) AS live_g,"
            f" (SELECT SUM(amount) FROM retirement x WHERE x.contract = '{OUTCOME}' AND x.id = c.outcome_id) AS retired_g"
            " FROM conversion c GROUP BY c.outcome_id ORDER BY MAX(c.block) DESC"
        )
        return [self._outcome(row) for row in rows]

    def outcome(self, token: str) -> Row | None:
        return next((row for row in self.outcomes() if row["id"] == token), None)

    def _outcome(self, row: Row) -> Row:
        parts = outcome_parts(row["id"])
        held = {"live_g": row["live_g"] or 0, "retired_g": row["retired_g"] or 0}
        return {**row, **held, **parts, "factor": self.factor(parts["factor_id"])}

    _FACTOR = (
        "SELECT f.*, b.timestamp AS published_at, s.superseded_by FROM factor f JOIN block b ON b.number = f.block"
        " LEFT JOIN factor_supersession s ON s.factor_id = f.factor_id"
    )

    def factors(self) -> list[Row]:
        return [
            {**row, "illustrative": bool(row["illustrative"])}
            for row in self.all(f"{self._FACTOR} ORDER BY f.factor_id")
        ]

    def factor(self, factor_id: int) -> Row | None:
        row = self.one(f"{self._FACTOR} WHERE f.factor_id = ?", factor_id)
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

    def history(self, address: str, cursor: str | None = None, rows: int = PAGE_ROWS) -> dict[str, Any]:
        sql = (
            "SELECT e.block, e.log_index, e.tx, e.contract, e.name, e.args, b.timestamp AS time FROM account a"
            " JOIN event e USING (block, log_index) JOIN block b ON b.number = e.block WHERE a.address = ?"
        )
        page = self.page(sql, (address,), ("block", "log_index"), cursor, rows=rows)
        page["rows"] = [{**row, "args": json.loads(row["args"])} for row in page["rows"]]
        return page

    def transaction(self, tx: str) -> Row | None:
        """A transaction that left events of ours, as the index keeps it."""
        row = self.one("SELECT t.*, b.timestamp AS time, b.hash AS block_hash FROM tx t JOIN block b ON b.number = t.block"
                       " WHERE t.hash = ?", tx)  # fmt: skip
        if row is None:
            return None
        events = self.all("SELECT log_index, contract, name, args FROM event WHERE tx = ? ORDER BY log_index", tx)
        moved = self.all(
            "SELECT contract, sender, receiver, id, amount FROM transfer WHERE tx = ? ORDER BY log_index, item", tx
        )
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
