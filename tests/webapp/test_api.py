"""The API's document against its live answers, one shape of errors, entity tags, and reads from other origins."""

from __future__ import annotations

import re

import pytest

from webapp.index import hex_id

TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "boolean": bool,
    "number": (int, float),
    "null": type(None),
}


def faults(value, schema: dict, document: dict, at: str = "$") -> list[str]:
    """What of ``value`` a JSON Schema does not allow: the part of the standard that the document uses, and nothing else."""
    if "$ref" in schema:
        target = document
        for step in schema["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        return faults(value, target, document, at)
    known = {
        "type", "properties", "required", "additionalProperties", "items", "enum", "pattern", "anyOf", "oneOf", "allOf", "description",
        "title", "nullable", "readOnly", "format",
    }  # fmt: skip
    assert set(schema) <= known, f"{at}: {set(schema) - known}"
    for word in ("anyOf", "oneOf"):
        if word in schema:
            tried = [faults(value, part, document, at) for part in schema[word]]
            if all(tried):
                return [f"{at}: {value!r} is none of {schema[word]}"]
    found = [fault for part in schema.get("allOf", ()) for fault in faults(value, part, document, at)]
    types = schema.get("type", [])
    types = [types] if isinstance(types, str) else types
    if types and not any(
        isinstance(value, TYPES[t]) and not (isinstance(value, bool) and t != "boolean") for t in types
    ):
        return [*found, f"{at}: {value!r} is no {'/'.join(types)}"]
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{at}: {value!r} is not in {schema['enum']}")
    if "pattern" in schema and isinstance(value, str) and not re.search(schema["pattern"], value):
        found.append(f"{at}: {value!r} has another form")
    if isinstance(value, dict):
        properties, more = schema.get("properties", {}), schema.get("additionalProperties", True)
        found += [f"{at}.{name} is missing" for name in schema.get("required", ()) if name not in value]
        for name, inner in value.items():
            if name in properties:
                found += faults(inner, properties[name], document, f"{at}.{name}")
            elif more is False:
                found.append(f"{at}.{name} is not documented")
            elif isinstance(more, dict):
                found += faults(inner, more, document, f"{at}.{name}")
    if isinstance(value, list) and "items" in schema:
        found += [
            fault for i, item in enumerate(value) for fault in faults(item, schema["items"], document, f"{at}[{i}]")
        ]
    return found


@pytest.fixture(scope="session")
def document(app) -> dict:
    return app.test_client().get("/api/v1/openapi.json").json


@pytest.fixture
def values(world, w) -> dict[str, list[dict[str, str]]]:
    """For each path of the document with values in it, those that it is asked with."""
    root, done = "0x" + world.archives[0].root.hex(), world.done
    outcome = hex_id(done["outcome"])
    accounts = [{"address": world.account(n)} for n in (1, 2, 5)]
    return {
        "/devices/{device_id}": [{"device_id": "1"}, {"device_id": "2"}],
        "/devices/{device_id}/{month}": [{"device_id": "1", "month": "2016-07"}],
        "/batches/{root}": [{"root": root}],
        "/certificates/{token}": [{"token": hex_id(token)} for token in done["tokens"]],
        "/accounts/{address}": [*accounts, {"address": world.contracts["Notary"].address}],
        "/accounts/{address}/holdings": accounts,
        "/accounts/{address}/activity": accounts,
        "/portfolio/{address}": accounts,
        "/transactions/{tx}": [{"tx": tx} for tx in world.chain_transactions],
        "/retirements/{token}/{number}": [
            {"token": "certificate", "number": "1"}, {"token": "certificate", "number": "2"}, {"token": "outcome", "number": "1"},
        ],
        "/outcomes/{token}": [{"token": outcome}],
        "/checks/{root}/{device_id}/{start}": [{"root": root, "device_id": "1", "start": str(w.FIRST_DAY)}],
        "/checks/jobs/{job_id}": [{"job_id": "1"}],
    }  # fmt: skip


def schema_of(document: dict, path: str, status: str = "200") -> dict:
    return document["paths"][path]["get"]["responses"][status]["content"]["application/json"]["schema"]


def test_answers_of_every_path_have_the_documented_form(client, app, document, values):
    app.extensions["wattmark"].validator.work(app.extensions["wattmark"].validator.ask({}))
    for path in document["paths"]:
        short = path.removeprefix("/api/v1")
        assert "{" not in short or short in values, f"{short} has no example here"
        for given in values.get(short, [{}]):
            answer = client.get(path.format(**given))
            assert answer.status_code == 200, (path, given, answer.text[:300])
            found = faults(answer.json, schema_of(document, path), document)
            assert found == [], (path, given, found[:5])


def test_checker_of_forms_finds_what_is_planted(client, document):
    path = "/api/v1/batches"
    model = client.get(path).json
    schema = schema_of(document, path)
    assert faults(model, schema, document) == []
    row = model["rows"][0]
    for change, told in (
        ({"secret": 1}, "is not documented"), ({"root": 5}, "is no string"), ({"final": 1}, "is no boolean"),
        ({"energy_wh": "12a"}, "is none of"), ({"signers": [1]}, "is no string"), ({"block": None}, "is no integer"),
    ):  # fmt: skip
        [*found] = faults({**model, "rows": [{**row, **change}]}, schema, document)
        assert any(told in fault for fault in found), (change, found)
    less = {key: value for key, value in row.items() if key != "root"}
    assert faults({**model, "rows": [less]}, schema, document) == ["$.rows[0].root is missing"]


def test_document_names_every_path_parameter_and_error(document):
    assert document["openapi"] == "3.1.0"
    for path, operations in document["paths"].items():
        assert set(operations) == {"get"}, path
        named = {p["name"] for p in operations["get"]["parameters"] if p["in"] == "path"} if "{" in path else set()
        assert named == set(re.findall(r"{(\w+)}", path)), path
        for status in ("400", "429", *(["404"] if "{" in path else [])):
            assert schema_of(document, path, status) == {"$ref": "#/components/schemas/Error"}, (path, status)


def test_parameters_of_lists_are_those_that_the_table_takes(document):
    from webapp import tables

    parameters = {p["name"]: p for p in document["paths"]["/api/v1/certificates"]["get"]["parameters"]}
    assert set(parameters) == {*tables.CERTIFICATES.filter, "sort", "rows", "after"}
    assert "-live_wh" in parameters["sort"]["schema"]["enum"]


def test_errors_have_one_shape(client, document):
    error = {"$ref": "#/components/schemas/Error"}
    cases = [
        ("GET", "/api/v1/nothing", 404), ("GET", "/api/v1/devices/99", 404), ("GET", "/api/v1/devices?rows=0", 400),
        ("POST", "/api/v1/devices", 405), ("GET", "/devices.csv?sort=x", 400), ("GET", "/nothing.json", 404),
        ("GET", "/api/v1/transactions/0x12", 404),
    ]  # fmt: skip
    for method, path, status in cases:
        answer = client.open(path, method=method)
        assert answer.status_code == status, path
        assert faults(answer.json, error, document) == [] and answer.json["error"]["status"] == status, path


def test_tag_spares_the_answer_until_the_chain_moves(fresh_world, app_of, w):
    app = app_of(fresh_world)
    client = app.test_client()
    paths = ("/api/v1/batches", "/batches.json", "/api/v1/overview", "/api/v1/devices?zone=RMPA")
    tags = {}
    for path in paths:
        tags[path] = client.get(path).headers["ETag"]
        again = client.get(path, headers={"If-None-Match": tags[path]})
        assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", tags[path]), path
    assert len(set(tags.values())) == len(tags)
    other = client.get("/api/v1/devices?zone=OTHER", headers={"If-None-Match": tags["/api/v1/devices?zone=RMPA"]})
    assert other.status_code == 200
    fresh_world.register(7)
    app.extensions["wattmark"].refresh()
    for path in paths:
        changed = client.get(path, headers={"If-None-Match": tags[path]})
        assert changed.status_code == 200 and changed.headers["ETag"] != tags[path], path
    # A validation changes no block, and the answers that show it all the same.
    fresh_world.notarize([w.day_record(7, w.FIRST_DAY)])
    s = app.extensions["wattmark"]
    s.refresh()
    tag = client.get("/api/v1/checks").headers["ETag"]
    s.validator.work(s.validator.ask({}))
    assert client.get("/api/v1/checks", headers={"If-None-Match": tag}).status_code == 200


def test_answers_of_the_moment_have_no_tag(client, world, w):
    root = "0x" + world.archives[0].root.hex()
    for path in (f"/api/v1/transactions/{world.chain_transactions[0]}", f"/api/v1/checks/{root}/1/{w.FIRST_DAY}"):
        assert "ETag" not in client.get(path).headers, path


def test_other_origins_may_read_and_nothing_else(client):
    for path in ("/api/v1/devices", "/devices.json", "/devices.csv", "/api?module=stats", "/api/v1/openapi.json"):
        answer = client.get(path, headers={"Origin": "https://example.org"})
        assert answer.headers["Access-Control-Allow-Origin"] == "*", path
        assert "Access-Control-Allow-Credentials" not in answer.headers
    asked = client.options("/api/v1/devices", headers={
        "Origin": "https://example.org", "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "if-none-match",
    })  # fmt: skip
    assert asked.status_code == 200 and asked.headers["Access-Control-Allow-Methods"] == "GET, HEAD"
    assert "If-None-Match" in asked.headers["Access-Control-Allow-Headers"]
    for answer in (client.get("/devices"), client.post("/checks/validate"), client.options("/checks/validate")):
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_search_answers_what_the_page_finds(client, world):
    found = client.get("/api/v1/search", query_string={"q": world.account(2)}).json["found"]
    assert found == [{"kind": "Account", "name": world.account(2), "url": f"/accounts/{world.account(2)}"}]
    assert client.get("/api/v1/search?q=").json == {"q": "", "found": []}


def test_search_by_the_hash_of_a_meter_file_finds_what_rests_on_it(client, world, w):
    digest = world.archives[0].records[0].evidence[0].hex()
    for text in (digest, "0x" + digest, digest.upper()):
        found = client.get("/api/v1/search", query_string={"q": text}).json["found"]
        # Every statement of the world names the same file, of two devices on three days.
        assert len(found) == 6 and {f["kind"] for f in found} == {"Rests on this file"}
        assert all(client.get(f["url"]).status_code == 200 for f in found[:1])


def test_breakdown_of_the_overview_sums_to_its_totals(client, world):
    model = client.get("/api/v1/overview").json
    for parts in model["breakdown"].values():
        for name in ("issued_wh", "live_wh", "retired_wh", "converted_wh"):
            assert sum(part[name] for part in parts) == model["totals"][name]
    [month] = model["breakdown"]["month"]
    assert month["key"] == "2016-07" and month["retired_wh"] == 7_000
    assert [part["key"] for part in model["breakdown"]["technology"]] == ["solar"]
    assert [part["key"] for part in model["breakdown"]["grid_zone"]] == ["RMPA"]
