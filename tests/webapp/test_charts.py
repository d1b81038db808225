"""The month of a device and its charts: every figure from the archives, every shape inside its box."""

from __future__ import annotations

import pytest
from bs4 import BeautifulSoup

from webapp.charts import heat_map, month_chart

# day_record: 95 measured slots of 23,099 Wh, slot 70 estimated with 917 Wh; irradiance of 23,750 W/m2 over quarter hours.
MEASURED_WH, ESTIMATED_WH, IRRADIATION_WH_M2 = 23_099, 917, 5_937


def test_month_tells_energy_quality_and_irradiation_of_each_day(client, w):
    found = client.get("/devices/1/2016-07.json").json
    assert found["months"] == ["2016-07"] and len(found["days"]) == 31
    assert found["irradiance"] == "modelled"
    for day in found["days"][:3]:
        assert day["energy_wh"] == {"measured": MEASURED_WH, "estimated": ESTIMATED_WH}
        assert day["slots"] == {"measured": 95, "estimated": 1}
        assert day["irradiation_wh_m2"] == IRRADIATION_WH_M2
        assert [(run["first"], run["slots"], run["state"]) for run in day["runs"]] == [(0, 70, "measured"), (70, 1, "estimated"), (71, 25, "measured")]  # fmt: skip
    assert all(day["runs"] == [] and day["state"] is None for day in found["days"][3:])


def test_month_page_has_every_figure_in_a_table_too(client):
    page = BeautifulSoup(client.get("/devices/1/2016-07?lang=en").data, "html.parser")
    assert len(page.select("table tbody tr")) == 31
    first = " ".join(page.select("table tbody tr")[0].get_text(" ").split())
    assert "24.016 kWh" in first and "23.099 kWh" in first and "5.937 kWh/m²" in first
    assert "No readings" in page.select("table tbody tr")[30].get_text()
    assert all(svg.get("role") == "img" and svg.get("aria-label") for svg in page.select("svg.chart"))
    assert page.select_one('a[href="/devices/1?day=2016-07-02#day"]')


@pytest.mark.parametrize(
    "path", ["/devices/1/2016-13", "/devices/1/2016-7", "/devices/99/2016-07", "/devices/1/../../etc"]
)
def test_month_that_is_none_is_not_found(client, path):
    assert client.get(path).status_code == 404


def day(energy_wh, irradiation=None, runs=()):
    return {"start": 0, "energy_wh": energy_wh, "irradiation_wh_m2": irradiation, "runs": list(runs)}


def test_month_chart_stacks_qualities_on_each_other():
    chart = month_chart(
        [day({"measured": 300, "suspect": 100}, 1000), day({}), day({"measured": 400}, 2000)], width=400, height=200
    )
    low, high, other = chart["bars"]
    assert low["height"] == pytest.approx(3 * high["height"], abs=0.02)
    assert high["y"] + high["height"] == pytest.approx(low["y"], abs=0.02)
    assert other["height"] == pytest.approx(low["height"] + high["height"], abs=0.02)
    assert low["y"] + low["height"] == pytest.approx(chart["bottom"], abs=0.02)
    assert chart["line"].count("M") == 2 and "L" not in chart["line"]
    assert all(bar["x"] >= chart["left"] and bar["x"] + bar["width"] <= chart["right"] for bar in chart["bars"])


def test_month_chart_of_nothing_has_no_bars():
    chart = month_chart([day({})] * 28, width=400, height=200)
    assert chart["bars"] == [] and chart["line"] == "" and chart["irradiance_ticks"] == []


def test_heat_map_puts_each_run_at_its_hour():
    runs = [{"first": 0, "slots": 48, "state": "missing"}, {"first": 48, "slots": 48, "state": "measured"}]
    drawn = heat_map([day({}, runs=runs), day({})], width=1006)
    missing, measured = drawn["rows"][0]["cells"]
    assert missing["x"] == drawn["left"] and missing["width"] == measured["width"]
    assert measured["x"] == next(tick.at for tick in drawn["hours"] if tick.text == "12:00")
    assert measured["x"] + measured["width"] == pytest.approx(drawn["right"], abs=0.1)
    assert drawn["rows"][1]["cells"] == [] and drawn["rows"][1]["y"] > drawn["rows"][0]["y"]
