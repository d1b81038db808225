"""A certificate of several days shows all of them, and any one of them by quarter hours."""

from __future__ import annotations

import json

import pytest
from bs4 import BeautifulSoup

from oracle.archive import ArchivedStatement
from oracle.domain import Statement
from oracle.protocol import day_hash, profile_hash

DAYS = 30


def month_record(w) -> ArchivedStatement:
    """June 2016 in one statement: day n rises to 240 (n + 1) Wh at 18:00 UTC; its irradiance is n + 1 W/m2 throughout."""
    start = w.FIRST_DAY - DAYS * w.DAY
    days = [w.day_record(3, start + n * w.DAY, peak_wh=240 * (n + 1)) for n in range(DAYS)]
    hashes = [day_hash(one.salts, one.profile) for one in days]
    energy_wh = sum(one.statement.energy_wh for one in days)
    station = {"station": "sky", "kind": "measured", "ghi_w_m2": [n + 1 for n in range(DAYS) for _ in range(96)]}
    return ArchivedStatement(
        Statement(3, start, DAYS * w.DAY, 0, energy_wh, 0, profile_hash(hashes)),
        b"".join(one.profile for one in days),
        b"".join(one.salts for one in days),
        (w.keccak256(b"file"),),
        json.dumps({"corroboration": {"result": "corroborated", "reasons": [], "stations": [station]}}),
    )


@pytest.fixture(scope="module")
def month(tmp_path_factory, w):
    from tests.webapp import conftest

    with conftest.new_world(tmp_path_factory.mktemp("month")) as world:
        device = (
            world.account(1), 60_000, 1, 1, b"US", w.DAY, 1_040_100, 10_100, w.FIRST_DAY - DAYS * w.DAY, 2**40 - 1,
            b"RMPA".ljust(16, b"\0"), w.keccak256(b"meter"),
        )  # fmt: skip
        world.send("DeviceRegistry", "register", 3, device)
        archive = world.notarize([month_record(w)])
        token = world.issue(archive, 3, w.FIRST_DAY - DAYS * w.DAY)
        app = conftest.create_app(conftest.web_config(world, tmp_path_factory.mktemp("month-web")))
        app.extensions["wattmark"].refresh()
        yield (
            app.test_client(),
            f"/certificates/{token:#066x}",
            f"/checks/0x{archive.root.hex()}/3/{w.FIRST_DAY - DAYS * w.DAY}",
        )


@pytest.mark.parametrize("page", [1, 2], ids=["certificate", "statement"])
def test_page_of_a_month_shows_each_of_its_days(month, w, page):
    client, path = month[0], month[page]
    told = client.get(f"{path}.json").json
    assert [day["certified_wh"] for day in told["days"]] == [
        w.day_record(3, 0, peak_wh=240 * (n + 1)).statement.energy_wh for n in range(DAYS)
    ]
    # 96 quarter hours of n + 1 W/m2 are 24 (n + 1) Wh/m2.
    assert [day["irradiation_wh_m2"] for day in told["days"]] == [24 * (n + 1) for n in range(DAYS)]
    shown = BeautifulSoup(client.get(f"{path}?lang=en").data, "html.parser")
    links = shown.select(".days-nav a")
    assert len(links) == DAYS and links[0]["aria-current"] == "date"
    assert len(shown.select("#days svg.wide rect.hit")) == DAYS


@pytest.mark.parametrize("page", [1, 2], ids=["certificate", "statement"])
def test_page_of_a_month_asked_for_a_day_shows_its_quarter_hours(month, w, page):
    client, path = month[0], month[page]
    profile = client.get(f"{path}.json?day=2016-06-17").json["profile"]
    record = w.day_record(3, 0, peak_wh=240 * 17)
    assert profile["start"] == w.FIRST_DAY - 14 * w.DAY
    assert len(profile["energy_wh"]) == 96 and max(profile["energy_wh"]) == 240 * 17
    assert profile["certified_wh"] == record.statement.energy_wh
    assert profile["irradiance"]["w_m2"] == [17] * 96
    shown = BeautifulSoup(client.get(f"{path}?lang=en&day=2016-06-17").data, "html.parser")
    assert shown.select_one(".days-nav a[aria-current]").get_text().startswith("17 June 2016")
    assert "17 June 2016" in shown.select_one("#shape h3").get_text()


def test_page_of_a_month_asked_for_a_day_outside_shows_the_first(month, w):
    client, path, _ = month
    assert client.get(f"{path}.json?day=2016-07-02").json["profile"]["start"] == w.FIRST_DAY - DAYS * w.DAY


def test_device_and_month_know_each_day_of_a_period(month, w):
    client, _, _ = month
    told = client.get("/devices/3.json?day=2016-06-17").json
    assert told["day"]["profile"]["irradiance"]["w_m2"] == [17] * 96 and len(told["days"]) == DAYS
    assert {day["state"] for day in told["days"]} == {"issued"} and {day["energy_wh"] for day in told["days"]} == {None}
    june = client.get("/devices/3/2016-06.json").json["days"]
    assert [day["irradiation_wh_m2"] for day in june] == [24 * (n + 1) for n in range(DAYS)]
    page = BeautifulSoup(client.get("/devices/3?lang=en&day=2016-06-17").data, "html.parser")
    assert len(page.select(".months a.cell")) == DAYS
    check = page.find("a", string="Check this day")["href"]
    assert client.get(check).status_code == 200


def test_page_of_one_day_has_no_days_to_choose_from(client, world):
    path = f"/certificates/{world.done['tokens'][0]:#066x}"
    assert client.get(f"{path}.json").json["days"] == []
    assert not BeautifulSoup(client.get(path).data, "html.parser").select(".days-nav")
