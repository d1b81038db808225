"""What a private device measures is on no public page: neither readings nor salts, though the web app can read them itself."""

from __future__ import annotations

import pytest

from oracle.domain import DayState
from oracle.store import DeviceDay, Store
from webapp.index import hex_id

SECOND_DAY = "2016-07-02"


@pytest.fixture(params=["PRIVATE PUBLIC", "PUBLIC PRIVATE"], ids=["device", "archive"])
def shut(request, fresh_world, app_of, w, tmp_path):
    """A device whose first day is notarized and issued, and whose second is held; the registry or its archive calls it private."""
    of_device, of_archive = (w.Visibility[name] for name in request.param.split())
    fresh_world.register(1, visibility=of_device)
    record = w.day_record(1, w.FIRST_DAY)
    archive = fresh_world.notarize([record], visibility=of_archive, review_trail=[
        {"deviceId": 1, "start": w.FIRST_DAY, "version": 0, "decision": "edit", "reason": "read again", "edits": [[72, 1, 1_000]]}
    ])  # fmt: skip
    token = fresh_world.issue(archive, 1, w.FIRST_DAY, sender=1)
    url = f"sqlite:///{tmp_path / 'oracle.db'}"
    store = Store.open(url)
    with store.session() as session:
        session.add(DeviceDay(
            device_id=1, start=w.FIRST_DAY + w.DAY, state=DayState.HELD, reason="suspect", profile=record.profile, energy_wh=4_711,
            evidence=[], assessment={},
        ))  # fmt: skip
    store.engine.dispose()
    return (
        of_device is w.Visibility.PRIVATE,
        record,
        archive,
        token,
        app_of(fresh_world, oracle_database_url=url).test_client(),
    )


def test_pages_of_a_private_device_show_no_reading_and_no_salt(shut, w):
    is_private, record, archive, token, client = shut
    statement = f"/checks/0x{archive.root.hex()}/1/{w.FIRST_DAY}"
    pages = ["/devices/1?day=2016-07-01", "/devices/1/2016-07", statement, f"/certificates/{hex_id(token)}"]
    found = {path: client.get(path.replace("?", ".json?") if "?" in path else path + ".json") for path in pages}
    assert [answer.status_code for answer in found.values()] == [200] * 4
    assert found[pages[0]].json["day"]["profile"] is None
    first = found[pages[1]].json["days"][0]
    assert (first["runs"], first["energy_wh"], first["certified_wh"]) == ([], {}, None)
    for path in pages[2:]:
        assert (found[path].json["profile"], found[path].json["days"]) == (None, [])
    assert found[statement].json["salts"] is None and found[statement].json["check"]["headline"] == "not final"
    # What the bundle and the chain tell of a statement is public: its energy.
    assert found[statement].json["statement"]["energy_wh"] == record.statement.energy_wh
    for path in [*pages, *(f"/api/v1{path}" for path in pages)]:
        content = client.get(path).get_data(as_text=True)
        assert record.salts.hex() not in content, path
    assert client.get("/audit.json").json["rows"][0]["edits"] == ([[72, 1, 1_000]] if is_private else [])
    for path in pages if is_private else ():
        content = client.get(path).text
        assert "readings of this device are private" in content and "s-measured" not in content, path


@pytest.mark.parametrize("shut", ["PRIVATE PRIVATE"], indirect=True)
def test_days_of_a_private_device_that_are_not_notarized_have_no_figures(shut):
    *_, client = shut
    found = client.get(f"/devices/1.json?day={SECOND_DAY}").json
    assert found["day"]["known"]["state"] == "held" and found["day"]["known"]["energy_wh"] is None
    assert (found["day"]["profile"], found["device"]["place"], found["facts"]) == (None, None, [])
    gaps = client.get(f"/auditor.json?to={SECOND_DAY}").json["gaps"]
    assert [(one["day"], one["state"], one["energy_wh"]) for one in gaps] == [(SECOND_DAY, "held", None)]
    assert "4711" not in client.get(f"/devices/1?day={SECOND_DAY}").text + client.get("/devices/1/2016-07").text
    assert client.get("/devices.json").json["rows"][0]["place"] is None
