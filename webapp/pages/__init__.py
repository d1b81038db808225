"""The pages. Each is one function that gives a model; the same model is the page, its ``.json`` twin and the API's answer.

A list is a :class:`~webapp.queries.Table`: its page, ``.json``, ``.csv`` and API answer are one query each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any

import orjson
from apiflask import APIBlueprint, APIFlask, Schema
from flask import Blueprint, Response, abort, current_app, render_template, request, stream_with_context

from .. import api
from ..abi import plain
from ..app import explorer, reopen
from ..queries import BadQuery, Query, Row, Table, csv_lines

Model = dict[str, Any]
View = Callable[..., Model]


@dataclass(frozen=True, slots=True)
class Listing:
    """A table on a page: the query, what it found, and the ``path`` that asks it."""

    query: Query
    path: str
    rows: list[Row]
    next: str | None

    @property
    def table(self) -> Table:
        return self.query.table

    @property
    def model(self) -> Model:
        return {"rows": self.rows, "next": self.next, "sort": self.query.sort, "filters": self.query.chosen}


class Pages:
    """A family of pages: ``page("/devices/<device_id>", "device.html", schema=…)`` above a function that gives a model."""

    def __init__(self, name: str):
        self.name = name
        self.html = Blueprint(name, __name__)
        self.api = APIBlueprint(f"{name}_api", __name__, url_prefix="/api/v1", tag=name.capitalize())

    def page(
        self, rule: str, template: str, *, schema: type[Schema] | None = None, steady: bool = False,
        query: Mapping[str, api.Parameter] | None = None,
    ) -> Callable[[View], View]:  # fmt: skip
        """Put a page, its twin and its API answer. ``schema`` describes the model; ``steady`` pages change only with the index
        and the catalogue, and so have an ETag; ``query`` describes what the address may ask."""

        def put(view: View) -> View:
            @wraps(view)
            def html(**values: Any) -> str:
                return render_template(template, json_url=twin_url(), **asked(view, values))

            @wraps(view)
            def twin(**values: Any) -> Response:
                return api.answer(lambda: _told(asked(view, values)), steady=steady)

            self._put(rule, view, html, twin, schema, query)
            return view

        return put

    def list(
        self, rule: str, table: Table, template: str = "list.html", *, base: Callable[..., tuple[Any, ...]] = lambda: (),
        more: Callable[[Query], Model] | None = None, schema: Mapping[str, Any] | None = None, steady: bool = True,
    ) -> Callable[[Callable[[list[Row]], None]], Callable[[list[Row]], None]]:  # fmt: skip
        """Put a table above a function that dresses its rows in place.

        ``base`` turns the rule's values into those that the table's SQL binds first; ``more`` adds to the model beside the rows,
        as ``schema`` (marshmallow fields by name) says.
        """

        def put(dress: Callable[[list[Row]], None]) -> Callable[[list[Row]], None]:
            def listing(forgiving: bool, values: Model) -> tuple[Listing, Model]:
                query = table.query(request.args, base=base(**values), forgiving=forgiving)
                page = explorer().page(query, dress)
                return Listing(query, request.path, page["rows"], page["next"]), more(query) if more else {}

            def html(**values: Any) -> str:
                found, added = asked(listing, {"forgiving": True, "values": values})
                return render_template(template, json_url=twin_url(), listing=found, **found.model, **added)

            def twin(**values: Any) -> Response:
                def model() -> Model:
                    found, added = asked(listing, {"forgiving": False, "values": values})
                    return {**found.model, **added}

                return api.answer(model, steady=steady)

            def lines(**values: Any) -> Response:
                query = asked(table.query, {"arguments": request.args, "base": base(**values)})

                def written() -> Iterator[str]:
                    # A stream is written after its request was torn down, and with it the request's view of the index.
                    reopen()
                    yield from csv_lines(table, map(plain, explorer().stream(query, dress)))

                answer = current_app.response_class(stream_with_context(written()), mimetype="text/csv")
                answer.headers["Content-Disposition"] = f'attachment; filename="wattmark-{table.name}.csv"'
                return answer

            self.html.add_url_rule(f"{rule}.csv", f"{dress.__name__}_csv", lines)
            self._put(rule, dress, html, twin, api.list_schema(table, schema or {}), api.list_query(table))
            return dress

        return put

    def _put(
        self, rule: str, view: Callable[..., Any], html: Callable[..., Any], twin: Callable[..., Response],
        schema: type[Schema] | None, query: Mapping[str, api.Parameter] | None,
    ) -> None:  # fmt: skip
        name = view.__name__
        summary = (view.__doc__ or name).strip().splitlines()[0].rstrip(".")

        def answer(**values: Any) -> Response:
            return twin(**values)

        answer.__name__ = name
        self.html.add_url_rule(rule, name, html)
        self.html.add_url_rule(f"{rule}.json", f"{name}_json", twin)
        documented = self.api.doc(summary=summary, extensions={"x-query": api.described(query)})(answer)
        if schema is not None:
            documented = self.api.output(schema, description="The model of the page")(documented)
        self.api.add_url_rule("/overview" if rule == "/" else rule, name, documented)


def _told(model: Model) -> Model:
    """The model without what only its page needs."""
    return {name: value for name, value in model.items() if not isinstance(value, Listing)}


def asked(view: Callable[..., Any], values: Model) -> Any:
    """What ``view`` gives; a query that cannot be read is the asker's fault (400)."""
    try:
        return view(**values)
    except BadQuery as fault:
        abort(400, str(fault))


def twin_url(suffix: str = ".json") -> str:
    """Address of the JSON or CSV of the page being shown, with the same query."""
    query = request.query_string.decode("ascii", "ignore")
    return request.path + suffix + (f"?{query}" if query else "")


def json_response(model: Any) -> Response:
    """A model as the twins write it: integers past 2**53 as text."""
    return current_app.response_class(orjson.dumps(plain(model)), mimetype="application/json")


def register(app: APIFlask) -> None:
    from . import (  # fmt: skip
        acts,
        audit_trail,
        auditor,
        bundles,
        checks,
        health,
        months,
        operators,
        portfolio,
        public,
        requests,
        reviews,
        statements,
        verify,
    )

    for family in (
        public.pages,
        checks.pages,
        portfolio.pages,
        auditor.pages,
        months.pages,
        acts.pages,
        audit_trail.pages,
    ):
        app.register_blueprint(family.html)
        app.register_blueprint(family.api)
    for blueprint in (audit_trail.html, bundles.html, operators.html, acts.html, health.html, requests.html, reviews.html, statements.html, verify.html):  # fmt: skip
        app.register_blueprint(blueprint)
