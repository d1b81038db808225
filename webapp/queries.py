"""A list's query: what can be asked of a table, its SQL page by page, and the whole of it as CSV.

SQL is put together from the constants of tables alone; every value that comes from outside is bound. Pages go by keyset: a
cursor is the sort key of the last row shown, so that rows added meanwhile neither repeat nor hide others.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from io import StringIO
from typing import Any

import orjson
from eth_utils.address import to_checksum_address

PAGE_ROWS = 50
MOST_ROWS = 500

Row = dict[str, Any]
Dress = Callable[[list[Row]], Any]


class BadQuery(ValueError):
    """A query that cannot be read: ``parameter`` of the address, and ``problem`` in plain words."""

    def __init__(self, parameter: str, problem: str):
        self.parameter, self.problem = parameter, problem
        super().__init__(f"{parameter}: {problem}")


# -- what a table is --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Column:
    """One field of every row.

    ``kind`` says how a page writes it (see templates/_tables.html); without a ``label`` it is in JSON and CSV alone. ``type`` is
    what JSON carries: text, integer, boolean or object; ``nullable`` if it may be missing. ``sort`` is the SQL that orders by it,
    never NULL; without it the table is not sorted by this column. ``made`` marks a field that SQL does not give.
    """

    name: str
    label: Any = ""
    kind: str = "text"
    type: str = "text"
    nullable: bool = False
    sort: str = ""
    made: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    """How the text of a filter is read: ``pattern`` bounds it, ``read`` gives the value to bind or raises ValueError."""

    pattern: str
    problem: str
    read: Callable[[str], Any] = str


@dataclass(frozen=True, slots=True)
class Filter:
    """One condition of a table: ``where`` is SQL with a ``?`` for each time the value is bound."""

    name: str
    label: Any
    where: str
    kind: Kind
    choices: Mapping[str, Any] = field(default_factory=dict)
    hidden: bool = False

    def value(self, text: str) -> Any:
        """The value to bind. Raises BadQuery."""
        if self.choices and text not in self.choices:
            raise BadQuery(self.name, "must be one of " + ", ".join(self.choices))
        if not re.fullmatch(self.kind.pattern, text):
            raise BadQuery(self.name, self.kind.problem)
        try:
            return self.kind.read(text)
        except (ValueError, OverflowError):
            raise BadQuery(self.name, self.kind.problem) from None


@dataclass(frozen=True, eq=False)
class Table:
    """A list: ``select`` gives its rows (``base`` values bound first), ``key`` tells them apart, ``order`` is how it begins."""

    name: str
    title: Any
    about: Any
    empty: Any
    select: str
    key: tuple[str, ...]
    order: str
    columns: tuple[Column, ...]
    filters: tuple[Filter, ...] = ()

    @cached_property
    def column(self) -> dict[str, Column]:
        return {column.name: column for column in self.columns}

    @cached_property
    def filter(self) -> dict[str, Filter]:
        return {found.name: found for found in self.filters}

    @property
    def shown(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.label)

    @property
    def sorts(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.sort)

    def where(self, values: Mapping[str, str]) -> tuple[str, list[Any]]:
        """The condition of filters given by name, as SQL and bound values. Raises BadQuery."""
        terms, bound = [], []
        for name, text in values.items():
            wanted = self.filter[name]
            terms.append(f"({wanted.where})")
            bound += [wanted.value(text)] * wanted.where.count("?")
        return " AND ".join(terms), bound

    def query(
        self, arguments: Mapping[str, str], *, base: tuple[Any, ...] = (), fixed: Mapping[str, str] | None = None,
        rows: int | None = None, forgiving: bool = False,
    ) -> Query:  # fmt: skip
        """The query that an address asks for: filters by name, ``sort``, ``after``, ``rows``. Raises BadQuery.

        ``fixed`` filters hold whatever the address says. A ``forgiving`` query leaves out what it cannot read and says so in
        ``problems``; cursors are never forgiven.
        """
        problems: list[BadQuery] = []
        given = dict(fixed or {})
        for name in self.filter:
            text = arguments.get(name, "").strip()
            if text and name not in given:
                try:
                    self.filter[name].value(text)
                    given[name] = text
                except BadQuery as fault:
                    problems.append(fault)
        sort = arguments.get("sort") or self.order
        if sort.removeprefix("-") not in {column.name for column in self.sorts}:
            problems.append(BadQuery("sort", "must be a column of this table, with - before it for falling order"))
            sort = self.order
        wanted = str(rows or arguments.get("rows") or PAGE_ROWS)
        if not re.fullmatch("[0-9]{1,3}", wanted, re.ASCII) or not 1 <= int(wanted) <= MOST_ROWS:
            problems.append(BadQuery("rows", f"must be a number from 1 to {MOST_ROWS}"))
            wanted = str(PAGE_ROWS)
        if problems and not forgiving:
            raise problems[0]
        after = arguments.get("after") or None
        return Query(self, base, given, dict(fixed or {}), sort, after, int(wanted), tuple(problems))


@dataclass(frozen=True)
class Query:
    """One question to a table. ``filters`` hold all conditions as text, ``fixed`` those of them the reader did not choose."""

    table: Table
    base: tuple[Any, ...]
    filters: Mapping[str, str]
    fixed: Mapping[str, str]
    sort: str
    after: str | None
    rows: int
    problems: tuple[BadQuery, ...] = ()

    @property
    def column(self) -> str:
        return self.sort.removeprefix("-")

    @property
    def falling(self) -> bool:
        return self.sort.startswith("-")

    @property
    def chosen(self) -> dict[str, str]:
        """The filters that the reader chose."""
        return {name: text for name, text in self.filters.items() if name not in self.fixed}

    def turned(self, column: str) -> str:
        """The sort that a click on a column asks for: the other way round on the column sorted by, falling for figures."""
        if column == self.column:
            return column if self.falling else f"-{column}"
        return f"-{column}" if self.table.column[column].type == "integer" else column

    def address(self, **changes: str | None) -> dict[str, str]:
        """The arguments of the address of this query with changes; the page begins anew unless ``after`` is given."""
        arguments = dict(self.chosen)
        if self.sort != self.table.order:
            arguments["sort"] = self.sort
        if self.rows != PAGE_ROWS:
            arguments["rows"] = str(self.rows)
        changed = {name: value for name, value in changes.items() if value}
        return {name: value for name, value in {**arguments, **changed}.items() if changes.get(name, value) is not None}

    def sql(self, *, whole: bool = False) -> tuple[str, list[Any]]:
        """The statement and its values: one page and a row more, or the ``whole`` list without a cursor."""
        order = [self.table.column[self.column].sort]
        order += [key for key in self.table.key if key not in order]
        where, values = self.table.where(self.filters)
        terms = [where] if where else []
        if self.after and not whole:
            at = self._cursor(len(order))
            terms.append(f"({', '.join(order)}) {'<' if self.falling else '>'} ({', '.join('?' * len(order))})")
            values += at
        keys = ", ".join(f"{expression} AS key_{i}" for i, expression in enumerate(order))
        sql = f"SELECT *, {keys} FROM ({self.table.select}) AS rows"
        sql += f" WHERE {' AND '.join(terms)}" if terms else ""
        way = "DESC" if self.falling else "ASC"
        sql += " ORDER BY " + ", ".join(f"{expression} {way}" for expression in order)
        return sql + ("" if whole else f" LIMIT {self.rows + 1}"), [*self.base, *values]

    def _cursor(self, length: int) -> list[int | str]:
        try:
            at = orjson.loads(bytes.fromhex(self.after or ""))
        except ValueError:
            at = None
        if not isinstance(at, list) or len(at) != length + 1 or at[0] != self.sort:
            raise BadQuery("after", "is no page cursor of this table and order")
        if not all(isinstance(v, str) or type(v) is int and abs(v) < 1 << 63 for v in at):
            raise BadQuery("after", "is no page cursor of this table and order")
        return at[1:]

    def cursor(self, row: Mapping[str, Any]) -> str:
        """The cursor that continues after ``row`` of the statement's answer."""
        keys = [row[name] for name in row if name.startswith("key_")]
        return json.dumps([self.sort, *keys]).encode().hex()

    def row(self, answer: Mapping[str, Any]) -> Row:
        """A row out of the statement's answer, with the types that its columns state, helpers of ``dress`` kept."""
        found: Row = {}
        for name in answer:
            if name.startswith("key_"):
                continue
            value, column = answer[name], self.table.column.get(name)
            if column and value is not None and column.type == "object":
                value = json.loads(value)
            elif column and value is not None and column.type == "boolean":
                value = bool(value)
            found[name] = value
        return found

    def dressed(self, rows: list[Row], dress: Dress | None) -> list[Row]:
        """The rows with the fields that SQL does not give, and only the fields that the columns state."""
        for row in rows:
            for column in self.table.columns:
                if column.made:
                    row.setdefault(column.name, None)
        if dress:
            dress(rows)
        return [{column.name: row[column.name] for column in self.table.columns} for row in rows]


#: A spreadsheet takes a cell that begins like this for a formula.
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")


def csv_cell(value: Any) -> str:
    """A value as a CSV cell that no spreadsheet computes: texts that begin like a formula get an apostrophe in front."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    return f"'{text}" if text.startswith(_FORMULA) else text


def csv_lines(table: Table, rows: Iterable[Row]) -> Iterator[str]:
    """The rows as lines of CSV (RFC 4180), the names of the columns first."""
    buffer = StringIO()
    writer = csv.writer(buffer)

    def line(cells: Iterable[str]) -> str:
        writer.writerow(cells)
        text = buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
        return text

    yield line(column.name for column in table.columns)
    for row in rows:
        yield line(csv_cell(row[column.name]) for column in table.columns)


# -- kinds of filters -------------------------------------------------------------------------------


def _day(text: str) -> int:
    return int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp())


def _address(text: str) -> str:
    """An address; where its letters are cased both ways, their case must be its checksum."""
    address = str(to_checksum_address(text))
    if text not in (address, text.lower(), "0x" + text[2:].upper()):
        raise ValueError(text)
    return address


def _part(text: str) -> str:
    escaped = re.sub(r"([\\%_])", r"\\\1", text)
    return f"%{escaped}%"


NUMBER = Kind("[0-9]{1,20}", "must be a whole number", lambda text: str(int(text)))
BLOCK = Kind("[0-9]{1,18}", "must be a whole number", int)
DAY = Kind("[0-9]{4}-[0-9]{2}-[0-9]{2}", "must be a day, as 2016-07-14", _day)
HASH = Kind("0x[0-9a-fA-F]{64}", "must be 0x and 64 hexadecimal digits", str.lower)
ADDRESS = Kind("0x[0-9a-fA-F]{40}", "must be an address: 0x and 40 hexadecimal digits", _address)
CODE = Kind("[A-Za-z0-9 ./_-]{1,16}", "must be 1 to 16 letters, digits, spaces or ./_-")
WORDS = Kind("[^\\x00-\\x1f\\x7f]{1,100}", "must have 1 to 100 characters, no control characters among them", _part)
CHOICE = Kind(".{1,40}", "must be one of the choices")
