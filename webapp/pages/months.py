"""A device's month: a bar for each day by quality with its irradiation, and every quarter hour as a heat map of gaps."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from apiflask.fields import Dict, Integer, List, String
from flask import abort

from oracle.domain import DAY_SECONDS, SLOT_SECONDS

from .. import api, charts, words
from ..app import explorer, services
from ..charts import slot_state
from ..readings import day_profile, device_days
from . import Model, Pages
from .public import final_block

pages = Pages("months")
pages.html.add_app_template_global(charts.month_chart, "month_chart")
pages.html.add_app_template_global(charts.heat_map, "heat_map")
pages.html.add_app_template_filter(lambda seconds: words.month(datetime.fromtimestamp(seconds, UTC).date()), "month_of")

_RUN = api.shape("SlotRun", first=Integer(), slots=Integer(), state=api.text())
_DAY = api.shape(
    "MonthDay", start=Integer(), state=api.maybe(api.text()), reason=api.text(), certified_wh=api.maybe(api.Whole()),
    irradiation_wh_m2=api.maybe(Integer()), energy_wh=Dict(keys=String(), values=api.Whole()),
    slots=Dict(keys=String(), values=Integer()), runs=api.many(_RUN),
)  # fmt: skip
_SCHEMA = api.shape(
    "MonthPage", device_id=api.text(), device_name=api.maybe(api.text()), month=api.text(), first=Integer(),
    irradiance=api.maybe(api.text()), months=List(String()), days=api.many(_DAY),
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
        days.append({"start": at, "state": None, "reason": "", **_known(known.get(at)), **_figures(profile)})
        kind = kind or (profile["irradiance"]["kind"] if profile and profile["irradiance"] else None)
        at += DAY_SECONDS
    return {
        "device_id": device_id,
        "device_name": s.facts.name(device_id),
        "month": month,
        "first": first,
        "irradiance": kind,
        "months": months,
        "days": days,
    }


def _known(day: dict[str, Any] | None) -> dict[str, Any]:
    return {"state": day["state"], "reason": day["reason"]} if day else {}


def _figures(profile: dict[str, Any] | None) -> dict[str, Any]:
    """Energy (Wh) and slots by quality, runs of slots of one quality, and irradiation (Wh/m2) of a day."""
    if profile is None:
        return {"certified_wh": None, "irradiation_wh_m2": None, "energy_wh": {}, "slots": {}, "runs": []}
    states = [slot_state(bits) for bits in profile["quality"]]
    energy_wh: Counter[str] = Counter()
    for state, wh in zip(states, profile["energy_wh"], strict=True):
        energy_wh[state] += wh
    offset, runs, at = profile["start"] % DAY_SECONDS // SLOT_SECONDS, [], 0
    for state, group in groupby(states):
        slots = len(list(group))
        runs.append({"first": offset + at, "slots": slots, "state": state})
        at += slots
    w_m2 = [value for value in (profile["irradiance"] or {"w_m2": []})["w_m2"] if value is not None]
    return {
        "certified_wh": profile["certified_wh"],
        "irradiation_wh_m2": sum(w_m2) * SLOT_SECONDS // 3600 if w_m2 else None,
        "energy_wh": dict(energy_wh),
        "slots": dict(Counter(states)),
        "runs": runs,
    }


def _month_of(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m")
