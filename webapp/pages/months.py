"""A device's month: a bar for each day by quality with its irradiation, and every quarter hour as a heat map of gaps."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from apiflask.fields import Boolean, Integer, List, String
from flask import abort

from oracle.domain import DAY_SECONDS

from .. import api, charts, words
from ..app import explorer, services
from ..readings import day_profile, device_days, figures
from . import Model, Pages
from .public import final_block

pages = Pages("months")
pages.html.add_app_template_global(charts.month_chart, "month_chart")
pages.html.add_app_template_global(charts.heat_map, "heat_map")
pages.html.add_app_template_filter(
    lambda seconds: words.month_of(datetime.fromtimestamp(seconds, UTC).date()), "month_of"
)

_DAY = api.shape(
    "MonthDay", state=api.maybe(api.text()), reason=api.text(), **api.day_figures(),
)  # fmt: skip
_SCHEMA = api.shape(
    "MonthPage", device_id=api.text(), device_name=api.maybe(api.text()), month=api.text(), first=Integer(),
    irradiance=api.maybe(api.text()), private=Boolean(), months=List(String()), days=api.many(_DAY),
)  # fmt: skip


@pages.page("/devices/<device_id>/<month>", "month.html", schema=_SCHEMA)
def month(device_id: str, month: str) -> Model:
    """A device's month, YYYY-MM in UTC: each day's energy by quality, its irradiation and its gaps."""
    ask, s = explorer(), services()
    if not re.fullmatch(r"(19|20)[0-9]{2}-(0[1-9]|1[0-2])", month) or ask.device(device_id) is None:
        abort(404)
    known = {day["start"]: day for day in device_days(ask, s.oracle_days, device_id, final_block())}
    months = sorted({_month_of(start) for start in known})
    days, kind = [], None
    at = int(datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC).timestamp())
    first = at
    while _month_of(at) == month:
        profile = day_profile(ask, s.archives, s.oracle_days, device_id, at) if at in known else None
        days.append({"start": at, "state": None, "reason": "", **_known(known.get(at)), **figures(profile)})
        kind = kind or (profile["irradiance"]["kind"] if profile and profile["irradiance"] else None)
        at += DAY_SECONDS
    return {
        "device_id": device_id,
        "device_name": s.facts.name(device_id),
        "month": month,
        "first": first,
        "irradiance": kind,
        "private": ask.is_private(device_id),
        "months": months,
        "days": days,
    }


def _known(day: dict[str, Any] | None) -> dict[str, Any]:
    return {"state": day["state"], "reason": day["reason"]} if day else {}


def _month_of(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m")
