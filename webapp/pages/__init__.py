"""The pages. Each is one function that gives a model; the same model is the page, its ``.json`` twin and the API's answer."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from apiflask import APIBlueprint, APIFlask
from flask import Blueprint, Response, abort, jsonify, render_template, request

from ..abi import plain
from ..explorer import BadCursor

Model = dict[str, Any]
View = Callable[..., Model]


class Pages:
    """A family of pages: ``page("/devices/<device_id>", "device.html")`` above a function that gives a model."""

    def __init__(self, name: str):
        self.name = name
        self.html = Blueprint(name, __name__)
        self.api = APIBlueprint(f"{name}_api", __name__, url_prefix="/api/v1", tag=name.capitalize())

    def page(self, rule: str, template: str) -> Callable[[View], View]:
        def put(view: View) -> View:
            name = view.__name__
            summary = (view.__doc__ or name).strip().splitlines()[0].rstrip(".")

            @wraps(view)
            def html(**values: Any) -> str:
                return render_template(template, json_url=_twin(), **_model(view, values))

            @wraps(view)
            def twin(**values: Any) -> Response:
                return jsonify(plain(_model(view, values)))

            def api(**values: Any) -> Response:
                return twin(**values)

            api.__name__ = name
            self.html.add_url_rule(rule, name, html)
            self.html.add_url_rule(f"{rule}.json", f"{name}_json", twin)
            documented = self.api.doc(summary=summary, responses={200: "The model of the page", 404: "Not there"})(api)
            self.api.add_url_rule("/overview" if rule == "/" else rule, name, documented)
            return view

        return put


def _model(view: View, values: Model) -> Model:
    try:
        return view(**values)
    except BadCursor:
        abort(400, "This is not a page cursor of ours.")


def _twin() -> str:
    """Address of the JSON of the page being shown, with the same query."""
    query = request.query_string.decode("ascii", "ignore")
    return request.path + ".json" + (f"?{query}" if query else "")


def cursor() -> str | None:
    return request.args.get("after") or None


def register(app: APIFlask) -> None:
    from . import checks, public

    for family in (public.pages, checks.pages):
        app.register_blueprint(family.html)
        app.register_blueprint(family.api)
