"""The operators' desk: the role matrix against chain and role table, planned acts, device requests from form to chain, hostile texts."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from bs4 import BeautifulSoup
from eth_utils import keccak

from scripts.roles import ROLES
from webapp import operator_words
from webapp.authority import RESTRICTED, ROLE_IDS, ROLE_WORDS
from webapp.pages.acts import OPERATOR_CALLS
from webapp.registrations import GRANULARITIES, FormFaults, Registration

DAY = 86_400
#: What the access manager is asked, not told.
VIEWS = ("canCall", "getSchedule", "hashOperation", "expiration")


def words_of(answer) -> str:
    assert answer.status_code == 200, answer.text[:300]
    return " ".join(BeautifulSoup(answer.data, "html.parser").get_text(" ").split())


@pytest.fixture
def signed_in(operators):
    """Makes a client of an app signed in as an account of anvil; its second value are the headers of posts."""

    def make(app, number):
        client = app.test_client()
        return client, operators.posting(operators.sign_in(client, operators.key_of(number)))

    return make


# -- the role matrix --------------------------------------------------------------------------------


def test_roles_and_restricted_functions_are_those_of_the_role_table():
    assert {role.name: role.id for role in ROLES} == ROLE_IDS and set(ROLE_WORDS) == set(ROLE_IDS)
    table = {
        (contract, one.split("(")[0]) for role in ROLES for contract, found in role.functions.items() for one in found
    }
    assert {(contract, name) for contract, names in RESTRICTED.items() for name in names} == table


def test_matrix_of_the_role_table_on_the_chain_is_the_role_table(office, office_app, operators):
    model = office_app.test_client().get("/operators/roles.json").json
    assert model["manager"] == office.contracts["AccessManager"].address
    found = {row["name"]: row for row in model["roles"]}
    assert len(found) == len(model["roles"]) == len(ROLES)
    for role in ROLES:
        row = found[role.name]
        functions = {(one["contract"], one["function"]) for one in row["functions"]}
        assert functions == {
            (contract, one.split("(")[0]) for contract, names in role.functions.items() for one in names
        }
        holder = {"address": office.account(operators.OFFICES[role.name]), "delay_seconds": 0, "contract": False}
        assert row["holders"] == [holder] and row["id"] == str(role.id) and row["admin"] == "0"


def test_matrix_follows_the_chain_and_planned_acts_wait_pass_and_expire(fresh_world, app_of):
    world = fresh_world
    app = app_of(world)
    client, manager = app.test_client(), world.contracts["AccessManager"]
    notary = world.contracts["Notary"].address
    world.send("AccessManager", "grantRole", 3, notary, 0)  # a contract may hold a role
    world.send("AccessManager", "grantRole", 3, world.account(5), 60)
    world.send("AccessManager", "grantRole", 9, world.account(6), 0)
    world.send("AccessManager", "labelRole", 9, "<b>night watch</b>")
    world.send("AccessManager", "revokeRole", 3, world.account(5))
    world.send("AccessManager", "setTargetFunctionRole", notary, [keccak(text="pause()")[:4]], 9)
    world.send("AccessManager", "grantRole", 0, world.account(0), 3_600)
    app.extensions["wattmark"].refresh()

    def model():
        app.extensions["wattmark"].refresh()
        return client.get("/operators/roles.json").json

    roles = {row["id"]: row for row in model()["roles"]}
    assert roles["3"]["holders"] == [{"address": notary, "delay_seconds": 0, "contract": True}]
    assert roles["9"] == {
        "id": "9", "name": None, "label": "<b>night watch</b>", "admin": "0", "functions": [{"contract": "Notary", "function": "pause"}],
        "holders": [{"address": world.account(6), "delay_seconds": 0, "contract": False}],
    }  # fmt: skip
    assert roles["0"]["holders"][0]["delay_seconds"] == 3_600
    page = client.get("/operators/roles").text
    assert "<b>night watch</b>" not in page and "&lt;b&gt;night watch" in page

    data = world.contracts["Notary"].encode_abi("unpause", [])
    receipt = world.send("AccessManager", "schedule", notary, data, 0)
    scheduled = manager.events.OperationScheduled().process_receipt(receipt)[0]["args"]
    (planned,) = model()["operations"]
    assert planned["state"] == "waiting" and planned["ready_at"] == scheduled["schedule"]
    assert (planned["contract"], planned["function"], planned["caller"]) == ("Notary", "unpause", world.account(0))
    assert planned["expires_at"] - planned["ready_at"] == manager.functions.expiration().call()
    world.anvil.rpc("evm_increaseTime", 3_601)
    world.anvil.mine(1)
    assert model()["operations"][0]["state"] == "ready"
    world.anvil.rpc("evm_increaseTime", 7 * DAY)
    world.anvil.mine(1)
    assert model()["operations"][0]["state"] == "expired"
    world.send("AccessManager", "cancel", world.account(0), notary, data)
    assert model()["operations"] == []


# -- acts -------------------------------------------------------------------------------------------


def test_every_act_of_a_role_can_be_signed_but_the_two_of_the_deployment():
    """Binding happens once, before anybody holds a role (docs/roles.md)."""
    acts = {(contract, name) for contract, names in RESTRICTED.items() for name in names}
    can = {(contract, name) for contract, names in OPERATOR_CALLS.items() for name in names}
    assert acts - can == {("DeviceRegistry", "bindCertificate"), ("EnergyCertificate", "bindConverter")}


def test_forms_of_administration_ask_for_every_argument_by_its_name(office_app, signed_in):
    client, _ = signed_in(office_app, 3)
    page = BeautifulSoup(client.get("/operators/administration").data, "html.parser")
    functions = client.get("/operators/abi.json").json["functions"]
    script = (Path(office_app.static_folder) / "wallet" / "calls.js").read_text()
    own = set(re.findall(r"^  (\w+): form =>", script, re.MULTILINE))
    asked = {}
    for form in page.select("form[data-contract]"):
        for act in [form.get("data-act"), *(button["value"] for button in form.select("button[name=act]"))]:
            if act and act not in own:
                asked[form["data-contract"], act] = {field["name"] for field in form.select("input[name]")}
    assert len(asked) == 12
    for (contract, act), names in asked.items():
        [entry] = [one for one in functions[contract] if one["name"] == act]
        assert names == {argument["name"] for argument in entry["inputs"]}, act


def test_words_of_operators_scripts_are_all_there_and_all_used(office_app):
    folder = Path(office_app.static_folder)
    scripts = ("operators", "wallet/calls", "wallet/acting", "wallet/follow")
    code = "\n".join((folder / f"{name}.js").read_text() for name in scripts)
    told = re.findall(r"\b(?:say|told|tell|report)\(([^(),]*)", code)
    used = {word for text in told for word in re.findall(r"(?<!=== )'([\w:-]+)'", text)}
    # Only the relay, which operators do not use, is told of in these.
    assert used - set(operator_words.WORDS) == {"relayFailed", "relayUnknown", "unsure", "noFundsRelay"} & used
    acts = {name for names in OPERATOR_CALLS.values() for name in names if name not in VIEWS}
    assert acts <= set(operator_words.WORDS)
    assert not {word for word in set(operator_words.WORDS) - acts if f"'{word}'" not in code}


# -- requests ---------------------------------------------------------------------------------------


FORM = {
    "account": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8", "meter": "Maker № 12345", "capacity_w": "6000", "kind": "1", "visibility": "2",
    "granularity": "900", "fuel_code": "F01040100", "technology_code": "T010100", "country": "US", "grid_zone": "RMPA",
    "active_from": "2016-07-01", "evidence_name": "protocol.pdf", "evidence_hash": "0x" + "ab" * 32, "note": "",
}  # fmt: skip


def test_read_of_a_whole_form_gives_the_registrys_call():
    wanted = Registration.read(FORM)
    assert wanted.meter_hash == "0x" + keccak(text="Maker № 12345").hex()
    assert wanted.call() == {
        "account": FORM["account"], "capacityW": "6000", "kind": 1, "visibility": 2, "country": "0x5553", "granularity": 900,
        "fuelCode": 1_040_100, "technologyCode": 10_100, "activeFrom": 1_467_331_200, "activeUntil": 2**40 - 1,
        "gridZone": "0x" + b"RMPA".ljust(16, b"\0").hex(), "meterHash": wanted.meter_hash,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("field", "texts"),
    [
        ("account", ["", "0x12", "0x" + "0" * 40, "0x70997970c51812dc3A010C7d01b50e0d17dc79C8", "Alice"]),
        ("meter", ["", "  ", "m" * 201]),
        ("capacity_w", ["", "0", "-5", "6.5", "6 kW", "1" * 18, str(2**56), "６０００"]),
        ("kind", ["", "0", "5", "generation"]),
        ("visibility", ["", "0", "3"]),
        ("granularity", ["", "0", "60", "901", "6300", "172800"]),
        ("fuel_code", ["", "01040100", "F0104010", "T01040100", "F٠١٢٣٤٥٦٧"]),
        ("technology_code", ["", "F010100", "T0101001"]),
        ("country", ["", "us", "USA", "U1", "ЕС"]),
        ("grid_zone", ["", "a b", "Z" * 17, "зона"]),
        ("active_from", ["", "2016-13-01", "1969-12-31", "01.07.2016", "2016-07-01T00:00"]),
        ("evidence_hash", ["ab" * 32, "0x12", "0x" + "AB" * 32]),
        ("evidence_name", ["n" * 201]),
        ("note", ["n" * 2_001]),
    ],
)
def test_read_of_a_form_names_exactly_the_field_that_is_wrong(office_app, field, texts):
    with office_app.test_request_context():
        for text in texts:
            with pytest.raises(FormFaults) as wrong:
                Registration.read({**FORM, field: text})
            assert set(wrong.value.faults) == {field}, text


def test_registry_takes_every_granularity_that_the_form_offers_and_every_edge_of_its_fields(fresh_world, operators):
    """What the form lets through, the contract does not refuse for its fields."""
    register = fresh_world.contracts["DeviceRegistry"].functions.register
    edges = [{"granularity": str(seconds)} for seconds in GRANULARITIES]
    edges += [
        {"capacity_w": str(2**56 - 1)},
        {"fuel_code": "F99999999"},
        {"technology_code": "T999999"},
        {"grid_zone": "~" * 16},
    ]
    for number, change in enumerate(edges, 1):
        call = Registration.read({**FORM, "meter": f"m{number}", **change}).call()
        device = tuple(int(value) if name == "capacityW" else value for name, value in call.items())
        register(number, device).call({"from": fresh_world.account(0)})


@pytest.fixture(scope="module")
def desk_world(tmp_path_factory, operators, w):
    """A world whose registrar is account 4. Tests register meters of their own."""
    folder = tmp_path_factory.mktemp("desk")
    anvil = w.Anvil(folder)
    try:
        made = w.deploy(anvil, folder)
        operators.grant(made, 1, 4)
        yield made
    finally:
        anvil.stop()


@pytest.fixture
def requested(desk_world, app_of, signed_in, operators, request):
    """That world with an app of the test's own, the generator's client, and a request of it for the meter ``test name``."""
    app = app_of(desk_world)
    owner, posting = signed_in(app, 1)
    meter = request.node.name
    filed = owner.post("/operators/requests", data=operators.device_form(desk_world.account(1), meter), headers=posting)
    assert filed.status_code == 303
    return SimpleNamespace(
        world=desk_world, app=app, owner=owner, posting=posting, path=filed.headers["Location"], meter=meter
    )


def state_of(client, path):
    page = BeautifulSoup(client.get(path).data, "html.parser")
    return page.select_one("#live .pill").get_text(strip=True)


def register(world, app, number, meter):
    device = (world.account(1), 6_000, 1, 1, b"US", DAY, 1_040_100, 10_100, 1_467_331_200, 2**40 - 1, b"RMPA".ljust(16, b"\0"), keccak(text=meter))  # fmt: skip
    world.send("DeviceRegistry", "register", number, device)
    app.extensions["wattmark"].refresh()


def test_request_is_registered_once_the_chain_has_its_meter(requested, signed_in):
    r = requested
    registrar, _ = signed_in(r.app, 4)
    assert state_of(r.owner, r.path) == "Waits for the registrar"
    assert "1 device requests to decide" in words_of(registrar.get("/operators"))
    page = BeautifulSoup(registrar.get(r.path).data, "html.parser")
    call = json.loads(page.select_one("form[data-act=register]")["data-device"])
    assert call["meterHash"] == "0x" + keccak(text=r.meter).hex()
    assert not BeautifulSoup(r.owner.get(r.path).data, "html.parser").select("form[data-act]")
    register(r.world, r.app, 7, "Another meter")
    assert state_of(r.owner, r.path) == "Waits for the registrar"
    register(r.world, r.app, 8, r.meter)
    assert state_of(r.owner, r.path) == "Registered" and "/devices/8" in r.owner.get(r.path).text
    assert "Nothing waits for you" in words_of(registrar.get("/operators"))


def test_request_registered_otherwise_says_in_what(requested, signed_in, operators):
    r = requested
    form = operators.device_form(r.world.account(3), r.meter, capacity_w="7000", grid_zone="NWPP")
    path = r.owner.post("/operators/requests", data=form, headers=r.posting).headers["Location"]
    register(r.world, r.app, 10, r.meter)
    told = BeautifulSoup(r.owner.get(path).data, "html.parser").select_one("#live .notice").get_text(" ", strip=True)
    assert told == "The device was registered otherwise than asked for here: account, capacity, grid zone"
    assert not BeautifulSoup(r.owner.get(r.path).data, "html.parser").select("#live .notice")


def test_request_for_a_meter_that_a_device_has_says_so_and_waits_for_the_next(requested, operators):
    r = requested
    register(r.world, r.app, 9, r.meter)
    form = operators.device_form(r.world.account(1), r.meter)
    path = r.owner.post("/operators/requests", data=form, headers=r.posting).headers["Location"]
    assert state_of(r.owner, path) == "Waits for the registrar"
    assert "belongs to a registered device" in r.owner.get(path).text


def test_request_refused_tells_its_author_why_and_stays_refused(requested, signed_in):
    r = requested
    registrar, headers = signed_in(r.app, 4)

    def refuse(reason):
        return registrar.post(f"{r.path}/refuse", headers=headers, data={"reason": reason}).status_code

    assert (refuse(" "), refuse("r" * 1_001), refuse("The protocol is not signed.")) == (400, 400, 303)
    assert state_of(r.owner, r.path) == "Refused" and "The protocol is not signed." in words_of(r.owner.get(r.path))
    assert refuse("again") == 409
    assert r.owner.post(f"{r.path}/withdraw", headers=r.posting).status_code == 409


def test_request_with_a_fault_comes_back_with_what_was_written(requested, operators):
    r = requested
    form = operators.device_form(r.world.account(1), meter="Kept as it was", capacity_w="many")
    answer = r.owner.post("/operators/requests", data=form, headers=r.posting)
    page = BeautifulSoup(answer.data, "html.parser")
    assert answer.status_code == 422
    assert page.select_one("[name=meter]")["value"] == "Kept as it was"
    assert page.select_one("[name=capacity_w]")["aria-invalid"] == "true"
    assert page.select_one("#fault-capacity_w").text == "Whole watts, above 0."
    assert len(page.select("span.bad")) == 1


def test_request_beyond_the_most_open_ones_is_refused(requested, operators, monkeypatch):
    r = requested
    monkeypatch.setattr("webapp.desk.MOST_OPEN_REQUESTS", 2)
    form = operators.device_form(r.world.account(1))
    answers = [r.owner.post("/operators/requests", data=form, headers=r.posting).status_code for _ in range(2)]
    assert answers == [303, 429]


def test_requests_of_others_are_not_there_for_who_is_not_registrar(requested, signed_in):
    stranger, _ = signed_in(requested.app, 3)
    assert stranger.get(requested.path).status_code == 404 == stranger.get("/operators/requests/999").status_code
    assert "There are no requests" in words_of(stranger.get("/operators/requests"))


# -- hostile texts ----------------------------------------------------------------------------------


def payloads():
    spec = importlib.util.spec_from_file_location("hostile_texts", Path(__file__).with_name("test_hostile.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.PAYLOADS


def test_operators_pages_with_hostile_texts_gain_no_markup(fresh_world, app_of, signed_in, operators):
    world, app = fresh_world, app_of(fresh_world)
    for number in (1, 2, 3, 7):
        operators.grant(world, number, 4)
    owner, posting = signed_in(app, 1)
    texts = payloads()
    paths = []
    for text in texts:
        form = operators.device_form(world.account(1), meter=text[:200], evidence_name=text[:200], note=text[:2_000])
        paths.append(owner.post("/operators/requests", data=form, headers=posting).headers["Location"])
    world.send(
        "EmissionFactors",
        "publish",
        b"<b>RMPA</b>".ljust(16, b"\0"),
        2016,
        700_000,
        True,
        keccak(b"x"),
        texts[0] + texts[1],
    )
    world.send("AccessManager", "labelRole", 12, texts[0])
    world.send("AccessManager", "grantRole", 12, world.account(5), 0)
    world.send("AccessManager", "grantRole", 0, world.account(0), 60)
    for text in texts[:5]:
        data = world.contracts["Notary"].encode_abi("removeSigner", [world.account(1), text])
        world.send("AccessManager", "schedule", world.contracts["Notary"].address, data, 0)
    app.extensions["wattmark"].refresh()
    registrar, headers = signed_in(app, 4)
    registrar.post(f"{paths[0]}/refuse", headers=headers, data={"reason": texts[0] + texts[1]})
    faulty = registrar.post("/operators/requests", headers=headers, data=dict.fromkeys(FORM, texts[1]))
    assert faulty.status_code == 422
    pages = [registrar.get(one) for one in (*paths, "/operators", "/operators/requests", "/operators/roles", "/operators/administration",
                                            "/operators/factors", "/operators/factors?supersede=1")]  # fmt: skip
    allowed = {"/static/app.js", "/static/operators.js"}
    for answer in [*pages, faulty]:
        assert answer.status_code in (200, 422)
        page = BeautifulSoup(answer.data, "html.parser")
        assert {script["src"].split("?")[0] for script in page.find_all("script")} <= allowed, answer.request.path
        assert not page.select("svg[onload], img[onerror], [onmouseover], b:-soup-contains('RMPA')"), (
            answer.request.path
        )
        assert all(not name.startswith("on") for tag in page.find_all(True) for name in tag.attrs), answer.request.path
        assert all(img["src"] != "x" for img in page.find_all("img")), answer.request.path
        assert "\u202e" not in answer.text.replace(json.dumps("\u202e"), ""), answer.request.path
