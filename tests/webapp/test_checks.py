"""The checks table, the four verdicts and Validate, on archives that are whole, altered, missing and on a silent node."""

from __future__ import annotations

import re
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bs4 import BeautifulSoup


@pytest.fixture
def checked(fresh_world, app_of, w):
    """One batch of two devices, final on the chain, and an app on it."""
    fresh_world.register(1)
    fresh_world.register(2)
    archive = fresh_world.notarize([w.day_record(1, w.FIRST_DAY), w.day_record(2, w.FIRST_DAY, peak_wh=480)])
    fresh_world.anvil.mine(70)
    app = app_of(fresh_world)
    return fresh_world, app, "0x" + archive.root.hex()


def token_of(client) -> str:
    return BeautifulSoup(client.get("/checks").data, "html.parser").select_one("input[name=csrf]")["value"]


def validate(app, client, **scope):
    """Ask as the page's script does, let the background work happen, and give the finished job."""
    answer = client.post(
        "/checks/validate", data={"csrf": token_of(client), **scope}, headers={"Accept": "application/json"}
    )
    assert answer.status_code == 202, answer.text
    app.extensions["wattmark"].validator.work(answer.json["id"])
    return client.get(f"/checks/jobs/{answer.json['id']}.json").json["job"]


def rows(client) -> dict[str, dict]:
    return {row["device_id"]: row for row in client.get("/checks.json").json["rows"]}


def parts(client, root, w, device=1) -> dict[str, str]:
    check = client.get(f"/checks/{root}/{device}/{w.FIRST_DAY}.json").json["check"]
    return {part: check[part]["verdict"] for part in ("data", "inclusion", "finality", "authority")}


def rewrite(world, root: str, change) -> None:
    """Alter the archive's Parquet file."""
    path = world.archive_folder / f"{root[2:]}.parquet"
    table = pq.read_table(path)
    lines = table.to_pylist()
    change(lines)
    pq.write_table(pa.Table.from_pylist(lines, schema=table.schema), path, compression="zstd")


def test_validate_everything_verifies_and_keeps_the_time(checked, w):
    world, app, root = checked
    client = app.test_client()
    assert {r["headline"] for r in rows(client).values()} == {None}
    assert "Not checked yet" in client.get("/checks").text
    job = validate(app, client)
    assert (job["state"], job["total"], job["done"], job["counts"]) == ("done", 2, 2, {"verified": 2})
    found = rows(client)
    assert {r["headline"] for r in found.values()} == {"verified"}
    assert all(r["calculated"] == r["leaf"] for r in found.values()) and len({r["leaf"] for r in found.values()}) == 2
    shown = client.get(f"/checks/{root}/1/{w.FIRST_DAY}.json").json
    assert shown["reached_root"] == root and shown["calculated"] == found["1"]["leaf"]
    assert all(abs(r["checked_at"] - world.w3.eth.get_block("latest")["timestamp"]) < 600 for r in found.values())
    page = client.get("/checks").text
    assert "Last validation:" in page and page.count("pill ok") == 2
    assert parts(client, root, w) == dict.fromkeys(("data", "inclusion", "finality", "authority"), "verified")
    page = client.get(f"/checks/{root}/1/{w.FIRST_DAY}").text
    assert len(re.findall(r'data-verdict="verified"', page)) == 4 and 'data-headline="verified"' in page


def test_validate_one_row_or_device_checks_that_alone(checked, w):
    _, app, root = checked
    client = app.test_client()
    assert validate(app, client, root=root, device="2", start=str(w.FIRST_DAY))["total"] == 1
    assert [r["headline"] for r in (rows(client)["1"], rows(client)["2"])] == [None, "verified"]
    assert validate(app, client, device="1")["total"] == 1
    assert validate(app, client, root=root)["total"] == 2
    assert validate(app, client, **{"from": "2020-01-01"})["total"] == 0


def test_validate_of_altered_readings_is_a_mismatch_with_another_address(checked, w):
    world, app, root = checked
    client = app.test_client()

    def alter(lines):
        line = next(item for item in lines if item["device_id"] == 1)
        changed = bytearray(line["profile"])
        changed[5 * 72 + 3] ^= 1
        line["profile"] = bytes(changed)

    rewrite(world, root, alter)
    job = validate(app, client)
    found = rows(client)
    assert found["1"]["headline"] == "mismatch" and found["1"]["calculated"] not in (found["1"]["leaf"], None)
    assert found["1"]["data"] == "mismatch" and found["1"]["authority"] == "verified"
    assert found["2"]["calculated"] == found["2"]["leaf"]
    assert job["counts"]["mismatch"] >= 1
    page = BeautifulSoup(client.get("/checks?device=1").data, "html.parser")
    assert page.select_one("table[data-checks] .pill.bad").get_text(strip=True) == "Altered"
    assert found["1"]["calculated"] in str(page.select_one("table[data-checks] .bad .hash"))
    assert parts(client, root, w)["data"] == "mismatch"


def test_validate_of_an_altered_statement_keeps_the_row_it_was(checked, w):
    world, app, root = checked
    client = app.test_client()
    before = rows(client)["1"]["energy_wh"]
    rewrite(world, root, lambda lines: lines[0].update(energy_wh=lines[0]["energy_wh"] + 1))
    app.extensions["wattmark"].refresh()
    assert rows(client)["1"]["energy_wh"] == before
    validate(app, client)
    assert rows(client)["1"]["headline"] == "mismatch"
    assert rows(client)["1"]["calculated"] != rows(client)["1"]["leaf"]
    assert client.get(f"/batches/{root}.json").json["batch"]["archive_problem"]


def test_validate_without_the_archive_cannot_check_and_is_not_not_found(checked, w):
    world, app, root = checked
    client = app.test_client()
    (world.archive_folder / f"{root[2:]}.parquet").unlink()
    app.extensions["wattmark"].refresh()
    validate(app, client)
    row = rows(client)["1"]
    assert row["headline"] == row["data"] == "cannot check"
    assert row["finality"] == row["authority"] == "verified"
    page = client.get("/checks").text
    assert "Cannot check" in page and ">Not found<" not in page.split("<tbody>")[1]


def test_table_of_a_batch_whose_archive_was_never_seen_has_a_row(fresh_world, app_of, w, tmp_path):
    fresh_world.register(1)
    fresh_world.notarize([w.day_record(1, w.FIRST_DAY)])
    app = app_of(fresh_world, archive_folder=tmp_path / "elsewhere")
    client = app.test_client()
    [row] = client.get("/checks.json").json["rows"]
    assert row["device_id"] == "" and row["energy_wh"] is None
    assert validate(app, client)["counts"] == {"cannot check": 1}
    assert client.get(f"/checks/{row['root']}/-/{row['start']}").status_code == 200


def test_validate_with_the_node_down_cannot_check_and_says_why(checked, w):
    world, app, root = checked
    client = app.test_client()
    world.anvil.stop()
    job = validate(app, client)
    assert job["state"] == "done" and job["counts"] == {"cannot check": 2}
    row = rows(client)["1"]
    assert row["data"] == "verified"
    assert row["inclusion"] == row["finality"] == row["authority"] == "cannot check"
    page = BeautifulSoup(client.get(f"/checks/{root}/1/{w.FIRST_DAY}").data, "html.parser")
    cards = {card["data-part"]: card for card in page.select("[data-part]")}
    assert (
        cards["finality"]["data-verdict"] == "cannot check"
        and "answer" in cards["finality"].select_one(".said").get_text()
    )
    assert page.select_one(".verdict.unknown")


def test_statement_page_before_finality_and_after_revocation_says_so(fresh_world, app_of, w):
    fresh_world.register(1)
    root = "0x" + fresh_world.notarize([w.day_record(1, w.FIRST_DAY)]).root.hex()
    app = app_of(fresh_world)
    client = app.test_client()
    assert parts(client, root, w)["finality"] == "not final"
    assert "Not final yet" in client.get(f"/checks/{root}/1/{w.FIRST_DAY}").text
    fresh_world.send("Notary", "revoke", bytes.fromhex(root[2:]), "meter was wired wrongly")
    fresh_world.anvil.mine(70)
    app.extensions["wattmark"].refresh()
    assert parts(client, root, w)["inclusion"] == "revoked"
    page = client.get(f"/batches/{root}").text
    assert "Revoked" in page and "meter was wired wrongly" in page


def test_statement_page_after_a_reorganisation_finds_nothing(fresh_world, app_of, w):
    fresh_world.register(1)
    root = "0x" + fresh_world.notarize([w.day_record(1, w.FIRST_DAY)]).root.hex()
    app = app_of(fresh_world)
    client = app.test_client()
    fresh_world.anvil.rpc("anvil_reorg", 1, [])
    # Before the index has noticed, the check itself does: it asks the chain.
    found = parts(client, root, w)
    assert found["inclusion"] == found["finality"] == "not found"
    fresh_world.anvil.mine(1)
    app.extensions["wattmark"].refresh()
    assert client.get(f"/batches/{root}").status_code == 404
    assert client.get("/checks.json").json["rows"] == []


def test_validate_without_the_token_is_refused(checked):
    _, app, _ = checked
    client = app.test_client()
    assert client.post("/checks/validate").status_code == 403
    assert client.post("/checks/validate", data={"csrf": ""}).status_code == 403
    stolen = token_of(app.test_client())
    token_of(client)
    assert client.post("/checks/validate", data={"csrf": stolen}).status_code == 403
    cookie = app.test_client().get("/checks").headers["Set-Cookie"]
    assert "SameSite=Strict" in cookie and "HttpOnly" in cookie
    assert app.extensions["wattmark"].catalogue.last_job() is None


def test_validate_form_without_script_leads_to_the_job(checked):
    _, app, _ = checked
    client = app.test_client()
    answer = client.post("/checks/validate", data={"csrf": token_of(client)})
    assert answer.status_code == 303 and re.fullmatch(r"/checks/jobs/\d+", answer.headers["Location"])
    again = client.post("/checks/validate", data={"csrf": token_of(client)})
    assert again.headers["Location"] == answer.headers["Location"]  # the same wish waits once
    assert client.get(answer.headers["Location"]).status_code == 200


WRONG = [
    ("profile", b""), ("profile", b"abc"), ("profile", b"\xff" * 480), ("profile", b"\0" * 5_000), ("salts", b""), ("salts", b"x" * 33),
    ("assessment", ""), ("assessment", "[1]"), ("assessment", '{"corroboration": {"stations": [{"ghi_w_m2": ["a"]}]}}'), ("evidence", []),
    ("start", 0), ("duration", 0), ("duration", 2**32 - 1), ("energy_wh", 2**63 - 1), ("version", 9),
]  # fmt: skip


def test_pages_of_an_archive_with_anything_in_it_say_what_is_wrong(checked, w):
    world, app, root = checked
    client, file = app.test_client(), world.archive_folder / f"{root[2:]}.parquet"
    whole, statement = file.read_bytes(), f"/checks/{root}/1/{w.FIRST_DAY}"
    for column, value in WRONG:
        rewrite(world, root, lambda lines, changed={column: value}: lines[0].update(changed))
        app.extensions["wattmark"].list_archives()
        for path in (
            statement,
            "/devices/1?day=2016-07-01",
            "/devices/1/2016-07",
            "/checks",
            f"/batches/{root}",
            "/auditor",
            "/audit",
        ):
            assert client.get(path).status_code == 200, (column, value, path)
        check = client.get(f"{statement}.json").json["check"]
        assert check["data"]["verdict"] in ("mismatch", "cannot check"), (column, value)
        file.write_bytes(whole)
    assert parts(client, root, w)["data"] == "verified"


def test_validations_run_in_the_background_once_started(checked):
    _, app, _ = checked
    services = app.extensions["wattmark"]
    client = app.test_client()
    services.start()
    try:
        job = client.post(
            "/checks/validate", data={"csrf": token_of(client)}, headers={"Accept": "application/json"}
        ).json["id"]
        deadline = time.monotonic() + 20
        while (found := client.get(f"/checks/jobs/{job}.json").json["job"])["state"] != "done":
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        assert found["counts"] == {"verified": 2}
    finally:
        services.stop()


def test_validations_outlive_the_process_that_was_asked_and_the_one_that_worked_on_them(checked, app_of):
    world, app, root = checked
    asked = app.extensions["wattmark"]
    left, waiting = (asked.validator.ask(scope) for scope in ({"root": root}, {"device": "2"}))
    asked.catalogue.update_job(left, state="running", done=1, counts='{"verified": 1}')
    begun = [app_of(world).extensions["wattmark"] for _ in range(2)]
    # Another process that begins changes nothing of what this one was asked.
    assert [asked.catalogue.job(job)["state"] for job in (left, waiting)] == ["running", "queued"]
    assert asked.validator.ask({"device": "2"}) == waiting
    try:
        for services in begun:
            services.validator.start()
        assert [finished(asked, job)["counts"] for job in (left, waiting)] == [{"verified": 2}, {"verified": 1}]
        begun[0].validator.stop()
        assert finished(asked, asked.validator.ask({}))["counts"] == {"verified": 2}
    finally:
        for services in begun:
            services.validator.stop()


def finished(services, job: int) -> dict:
    deadline = time.monotonic() + 20
    while (found := services.catalogue.job(job))["state"] != "done":
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    return found


@pytest.mark.parametrize(("head_seconds", "seen"), [(3_600, "verified"), (0, "revoked")])
def test_check_within_head_seconds_shares_what_the_chain_said(checked, app_of, w, head_seconds, seen):
    world, _, root = checked
    client = app_of(world, head_seconds=head_seconds).test_client()
    assert parts(client, root, w)["inclusion"] == "verified"
    world.send("Notary", "revoke", bytes.fromhex(root[2:]), "meter was wired wrongly")
    assert parts(client, root, w)["inclusion"] == seen
