"""A feeder against its children: losses by hand, what holds and what is only flagged, and what cannot be judged."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from oracle import pipeline
from oracle.balance import balance_day, balances, held_by_balance
from oracle.config import OracleConfig
from oracle.domain import Profile, Quality
from oracle.errors import ConfigError
from oracle.keys import create_device_key
from oracle.sites import BalanceConfig, BalanceEffect, Basis, Provenance, load_sites
from oracle.store import Store

START = 1_467_417_600
GOOD = int(Quality.MEASURED | Quality.CERTIFIED)
DEMO = Path(__file__).parents[2] / "scripts" / "demo_sites.yaml"
ROOF = BalanceConfig("roof", 9, (1, 2), (), "collects", 0, 50, 1_000, BalanceEffect.HOLD, Provenance(Basis.KNOWN, "t"))


def profile(wh, missing=(), start=START, coarse=1):
    energy = [wh * coarse if slot % coarse == 0 else 0 for slot in range(96)]
    quality = [GOOD | (Quality.COARSE if coarse > 1 else 0)] * 96
    for slot in missing:
        energy[slot] = quality[slot] = 0
    return Profile(start, tuple(energy), tuple(int(one) for one in quality))


def day(feeder, *children, config=ROOF):
    return balance_day(config, START, {9: feeder, **dict(enumerate(children, 1))})


def test_balance_loss_within_its_bounds_is_usual():
    # In: 96 x (300 + 100) = 38,400 Wh; out: 96 x 388 = 37,248 Wh; lost 1,152 Wh, 3.0 %.
    found = day(profile(388), profile(300), profile(100))
    assert (found.in_wh, found.out_wh, found.loss_wh, found.loss_per_mille) == (38_400, 37_248, 1_152, 30)
    assert (found.judged, found.reason, found.holds) == (True, "", False)
    assert found.slots[5].loss_per_mille == 30 and len(found.slots) == 96


@pytest.mark.parametrize(("feeder", "unusual"), [(400, False), (380, False), (379, True), (401, True)])
def test_balance_loss_at_its_bounds_falls_on_its_side(feeder, unusual):
    # 400 Wh go in: 380 come out at 5.0 %, 379 at 5.25 %, 401 at less than nothing.
    found = day(profile(feeder), profile(300), profile(100))
    assert found.is_unusual is unusual is found.holds
    if feeder == 379:
        assert found.reason == (
            "balance roof: 38400 Wh went in and 36384 Wh came out, a loss of 5.2 %; 0 to 5 % is usual"
        )


def test_balance_that_only_flags_holds_nothing():
    flagging = replace(ROOF, effect=BalanceEffect.FLAG)
    found = day(profile(200), profile(300), profile(100), config=flagging)
    assert found.is_unusual and not found.holds
    assert held_by_balance([found]) == {}
    assert found.to_json()["unusual"] is True and found.to_json()["slots"][0]["loss_per_mille"] == 500


def test_balance_that_holds_names_every_device_of_it():
    found = day(profile(200), profile(300), profile(100))
    assert held_by_balance([found]) == {(device, START): [found.reason] for device in (9, 1, 2)}


def test_balance_of_a_feeder_that_distributes_counts_the_other_way_and_a_battery_negative():
    # The feeder supplies 500; the houses take 300 and 250, a battery gives 70 of it back: 480 come out, 4.0 % lost.
    config = replace(ROOF, flow="distributes", children=(1, 2), less=(3,))
    found = day(profile(500), profile(300), profile(250), profile(70), config=config)
    assert (found.in_wh, found.out_wh, found.loss_per_mille, found.is_unusual) == (48_000, 46_080, 40, False)


def test_balance_leaves_out_slots_in_which_a_meter_is_silent():
    found = day(profile(388, missing=range(10)), profile(300), profile(100, missing=[95]))
    assert len(found.slots) == 85 and found.slots[0].slot == 10
    assert found.loss_per_mille == 30


@pytest.mark.parametrize(
    ("children", "words"),
    [
        ((profile(300),), "no readings of device 2"),
        ((profile(300), profile(100, missing=range(30))), "in 66 of 96 slots only"),
        ((profile(5), profile(5)), "only 960 Wh went in"),
        ((profile(300), profile(100, start=START + 86_400)), "no readings of device 2"),
    ],
)
def test_balance_that_cannot_be_judged_says_why_and_holds_nothing(children, words):
    found = day(profile(5), *children)
    assert not found.judged and not found.holds and words in found.reason


def test_balance_compares_coarse_meters_over_their_whole_readings():
    found = day(profile(388, coarse=4), profile(300), profile(100, coarse=2))
    assert found.loss_per_mille == 30 and found.slots[0].in_wh == 1_600 and found.slots[1].in_wh == 0


def test_balances_of_all_days_of_a_feeder():
    profiles = {(device, START + n * 86_400): profile(wh, start=START + n * 86_400) for device, wh in ((9, 388), (1, 300), (2, 100)) for n in range(3)}  # fmt: skip
    assert [one.loss_per_mille for one in balances([ROOF], profiles)] == [30, 30, 30]


@pytest.fixture
def document():
    read = yaml.safe_load(DEMO.read_text(encoding="utf-8"))
    feeder = read["devices"][1] | {"id": 9, "meter": read["devices"][1]["meter"] | {"identity": "feeder"}}
    read["devices"].append(feeder)
    read["balances"] = {
        "roof": {"feeder": 9, "children": [1, 2], "flow": "collects", "max_loss_per_mille": 30, "effect": "hold"}
        | {"basis": "assumed", "source": "test"}
    }
    return read


def written(document, tmp_path):
    (tmp_path / "sites.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    return load_sites(tmp_path / "sites.yaml")


def test_load_sites_balance_is_typed(document, tmp_path):
    [balance] = written(document, tmp_path).balances
    assert (balance.devices, balance.max_loss_per_mille, balance.effect) == ((9, 1, 2), 30, BalanceEffect.HOLD)


@pytest.mark.parametrize(
    ("key", "value"),
    [("children", [1, 9]), ("children", [1, 7]), ("children", []), ("flow", "up"), ("max_loss_per_mille", 0), ("effect", "burn")],
)  # fmt: skip
def test_load_sites_balance_that_is_wrong_is_named(document, tmp_path, key, value):
    document["balances"]["roof"][key] = value
    with pytest.raises(ConfigError, match=rf"balances\.roof\.{key}"):
        written(document, tmp_path)


@pytest.mark.parametrize(("effect", "states"), [("hold", {"held"}), ("flag", {"accepted"})])
def test_assess_all_holds_the_days_of_a_feeder_whose_balance_is_off(tmp_path, effect, states):
    known = {"basis": "known", "source": "label"}

    def meter(device_id):
        return {
            "id": device_id, "name": f"meter {device_id}", "site": "serf", "kind": "generation", "visibility": "public",
            "fuel_code": "F01050100", "technology_code": "T020001", "capacity": {"watts": 10_000, **known},
            "granularity_seconds": 86_400, "meter": {"identity": f"m-{device_id}", **known},
            "active_from": "2016-01-01T00:00:00Z", "policy": "wind",
            "file": {
                "format": "csv", "names": [f"{device_id}.csv"], "stamp_columns": ["time"], "interval_seconds": 900,
                "stamped": "start", "channels": {"e": {"column": "Wh", "quantity": "energy", "unit": "Wh"}}, **known,
            },
        }  # fmt: skip

    document = {
        "folder": ".",
        "sites": yaml.safe_load(DEMO.read_text(encoding="utf-8"))["sites"],
        "policies": {"wind": {"for": "generation"}},
        "devices": [meter(1), meter(2), meter(9), meter(5)],
        "balances": {"park": {"feeder": 9, "children": [1, 2], "flow": "collects", "effect": effect, **known}},
    }
    (tmp_path / "sites.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    network = {"rpc_urls": ["http://127.0.0.1:1"], "chain_id": 1, "addresses": "1.json"}
    settings = {"sites": "sites.yaml", "database": f"sqlite:///{tmp_path / 'db'}", "raw_folder": "raw"}
    settings |= {"archive_folder": "archive", "device_keys_folder": "keys", "network": network}
    (tmp_path / "wattmark.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    config = OracleConfig.load(tmp_path / "wattmark.yaml")
    for device_id in (1, 2, 5, 9):
        create_device_key(config.device_keys_folder, device_id)
        # The feeder sees 5,760 of 6,000 Wh on the first day, 4,800 on the second.
        lines = ["time,Wh"]
        for slot in range(192):
            wh = {1: 40, 2: 22 + slot % 2, 5: 7, 9: 60 if slot < 96 else 50}[device_id]
            lines.append(f"{datetime.fromtimestamp(START + slot * 900, UTC).isoformat()},{wh}")
        (tmp_path / f"{device_id}.csv").write_text("\n".join(lines), encoding="utf-8")
    pipeline.ingest(config, Store.open(config.database_url), [tmp_path / f"{device}.csv" for device in (1, 2, 5, 9)])
    found = {day.key: day.assessment for day in pipeline.assess_raw(config, Store.open(config.database_url))}
    assert {found[device, START].state.value for device in (1, 2, 9)} == {"accepted"}
    assert {found[device, START + 86_400].state.value for device in (1, 2, 9)} == states
    assert found[5, START + 86_400].state.value == "accepted"
    if effect == "hold":
        # In 96 x 62.5 Wh, out 96 x 50 Wh: a fifth is lost.
        [reason] = found[9, START + 86_400].reasons
        assert reason.startswith("balance park: 6000 Wh went in and 4800 Wh came out, a loss of 20.0 %")
