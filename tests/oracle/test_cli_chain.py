"""Commands that need a chain, on a real node: continuous mode on accelerated time, corrections, making again."""

import json
import os
import signal
import time

import pytest
from defusedxml import ElementTree
from eth_account import Account

from oracle.keys import create_device_key
from oracle.protocol import token_id
from tests.oracle import nodes
from tests.oracle.test_cli import call, process
from tests.oracle.test_issuance import adjust
from tests.oracle.test_pipeline import DAY, FIRST, REVIEWER, configure, day_rows, device, write

HOLDER = Account.create().address


@pytest.fixture(scope="module")
def plant(tmp_path_factory):
    """An oracle that is the only signer a batch needs, on a chain that stands at 2022-06-01."""
    folder = tmp_path_factory.mktemp("plant")
    (folder / "node").mkdir()
    with nodes.anvil(folder / "node", "--timestamp", str(FIRST)) as node:
        node.act("Notary", "setSigners", [node.witnesses[0].address], 1)
        config, _ = configure(folder / "oracle", device(1))
        create_device_key(config.device_keys_folder, 1)
        nodes.register_device(node, 1, HOLDER)
        node.rpc("anvil_setBalance", node.witnesses[0].address, hex(10**20))
        key = {"keystore": "review.json", "password_file": "password"}
        config = adjust(config, node, node.witnesses[0], review_key=key)
        (folder / "oracle" / "review.json").touch(mode=0o600)
        (folder / "oracle" / "review.json").write_text(
            json.dumps(Account.encrypt(REVIEWER.key, "a password", iterations=1_024))
        )
        yield folder / "oracle", node


def certified_wh(node, day=0):
    return node.chain().balance_of(HOLDER, token_id(1, FIRST + day * DAY, DAY))


@pytest.mark.slow
def test_run_watch_accelerated_mines_quarter_hours_and_the_day_and_ends_on_ctrl_c(plant):
    folder, node = plant
    file = write(folder / "in", "meter-1.csv", day_rows(0))
    os.utime(file, (time.time() - 60, time.time() - 60))  # it has come to rest, so the first round takes it
    command = ["run", "--watch", "--accelerate", "900", "--from", "2022-06-01T23:15", "--json", "in"]
    with process(folder, *command, stdout=-1, stderr=-1, text=True) as running:
        steps = []
        for line in running.stdout:
            steps.append(json.loads(line))
            if steps[-1]["final"]:
                break
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=60)
    assert running.returncode == 130 and errors.strip() == "interrupted; run again to go on"
    # 23:15, then a minute after each quarter hour: 23:16, 23:31, 23:46, 00:01. Nothing new is over at 23:16.
    assert [(step["at"] - FIRST) // 60 % 1_440 for step in steps] == [1_395, 1_396, 1_411, 1_426, 1]
    assert [len(step["interim"]) for step in steps] == [1, 0, 1, 1, 1]
    assert certified_wh(node) == 2_412
    again = call(folder, "run", "--json")
    assert (again.returncode, json.loads(again.stdout)["transactions"]) == (0, 0)


@pytest.mark.slow
def test_correct_shows_old_new_and_debt_of_a_conflict_that_a_reviewer_settled(plant):
    folder, node = plant
    certified = certified_wh(node)
    [row] = day_rows(0, slots=[70])
    write(folder / "late", "meter-1-late.csv", [row.replace(",100", ",30")])
    assert call(folder, "ingest", "late").returncode == 0
    [held] = json.loads(call(folder, "review", "list", "--json").stdout)
    assert (held["version"], held["state"]) == (1, "held") and "conflict" in held["reason"]
    said = json.loads(call(folder, "review", "conflict", "1", "2022-06-01", "--json").stdout)
    assert sorted((one["name"], one["slots"]["70"]) for one in said) == [("meter-1-late.csv", 30), ("meter-1.csv", 100)]
    wrong = call(folder, "review", "choose", "1", "2022-06-01", "--file", "meter", "--reason", "x")
    assert wrong.returncode == 7 and "choose one of" in wrong.stderr
    command = ["review", "choose", "1", "2022-06-01", "--file", "meter-1-late.csv", "--reason", "read again"]
    assert call(folder, *command).stdout == "device 1 2022-06-01 version 1 is accepted\n"

    before = json.loads(call(folder, "correct", "--list", "--json").stdout)
    assert (before["transactions"], before["debt_wh"]) == (0, {})
    done = json.loads(call(folder, "correct", "--json").stdout)
    assert (done["transactions"], done["debt_wh"], done["failed"]) == (2, {"1": 70}, [])
    [line] = done["corrections"]
    assert [line[name] for name in ("previous_wh", "energy_wh", "difference_wh", "owed_wh", "state")] == [
        2_412,
        2_342,
        -70,
        70,
        "final",
    ]
    assert certified_wh(node) == certified
    assert "0.070" in call(folder, "correct").stdout
    [gap] = json.loads(call(folder, "gaps", "--json").stdout)
    assert gap["correction"] == "version 1 final: 2.342 kWh instead of 2.412 kWh, 0.070 kWh of it owed"
    status = json.loads(call(folder, "status", "--json").stdout)
    assert (status["corrections"], status["owed_wh"]) == ({"final": 1}, 70)


@pytest.mark.slow
def test_rebuild_counts_what_it_made_again(plant):
    folder, _ = plant
    before = call(folder, "gaps", "--json").stdout
    facts = json.loads(call(folder, "rebuild", "--json").stdout)
    assert (facts["files"], facts["decisions"], facts["unread"]) == (2, 0, [])
    assert facts["batches"] == facts["statements"] > 2
    assert call(folder, "gaps", "--json").stdout == before


def test_run_watch_options_that_do_not_fit_are_usage_errors(plant):
    folder, _ = plant
    for options in (["--until", "2022-06-01"], ["--watch", "--accelerate", "2"], ["--watch", "--until", "soon"]):
        assert call(folder, "run", *options).returncode == 2


def test_gaps_svg_titles_each_day_and_carries_no_markup_of_names(tmp_path):
    config, _ = configure(tmp_path, device(1, name="</title><script>"))
    create_device_key(config.device_keys_folder, 1)
    write(tmp_path / "in", "meter-1.csv", day_rows(0), day_rows(2, slots=range(40)))
    assert call(tmp_path, "ingest", "in").returncode == 0
    assert call(tmp_path, "gaps", "--svg", "gaps.svg").returncode == 0
    picture = ElementTree.parse(tmp_path / "gaps.svg").getroot()
    name = "{http://www.w3.org/2000/svg}"
    titles = [one.text for box in picture.iter(f"{name}rect") for one in box.iter(f"{name}title")]
    assert [title[:29] for title in titles] == [
        "2022-06-01 device 1: accepted",
        "2022-06-02 device 1: held, 0.",
        "2022-06-03 device 1: held, 0.",
    ]
    assert "incomplete: 56 of 96 slots" in titles[2]
    drawn = call(tmp_path, "gaps", "--heat").stdout.splitlines()
    assert drawn[1].split() == ["1", "2022-06", "-??"]
    assert drawn[-1].split() == ["?", "held", "-", "accepted"]


def test_review_edit_signs_figures_with_their_evidence(tmp_path):
    config, _ = configure(tmp_path, device(1))
    create_device_key(config.device_keys_folder, 1)
    write(tmp_path / "in", "meter-1.csv", day_rows(0, slots=[slot for slot in range(96) if slot != 70]))
    made = call(tmp_path, "keys", "create", "--keystore", "review.json", "--password-file", "password", "--json")
    text = (tmp_path / "wattmark.yaml").read_text().replace(REVIEWER.address, json.loads(made.stdout)["address"])
    (tmp_path / "wattmark.yaml").write_text(text + "review_key: {keystore: review.json, password_file: password}\n")
    assert call(tmp_path, "ingest", "in").returncode == 0
    (tmp_path / "protocol.txt").write_text("12:00 to 12:15: 90 Wh, read by hand\n")
    edit = ["review", "edit", "1", "2022-06-01", "--evidence", "protocol.txt", "--reason", "read by hand", "--slot"]
    assert call(tmp_path, *edit, "70").returncode == 2
    assert call(tmp_path, *edit, "96=90").returncode == 7
    done = json.loads(call(tmp_path, *edit, "70=90", "--json").stdout)
    assert (done["state"], done["energy_wh"]) == ("accepted", 2_412 - 100 + 90)
    assert call(tmp_path, "seal").returncode == 0
    [manifest] = (tmp_path / "archive").glob("*.json")
    [entry] = json.loads(manifest.read_text())["reviewTrail"]
    assert entry["edits"] == [[70, 0, 90]]
    # printf '12:00 to 12:15: 90 Wh, read by hand\n' | sha256sum
    assert entry["evidence"] == "a9ddc0a7171c9bb1f5f5a570df8f0c01a3353dcbb101b2b616a60d3a92d4689d"
