"""Evidence bundles that the site serves, judged by the stand-alone script in a clean interpreter against the node alone."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from oracle import verify
from webapp.index import hex_id


def judged(world, path, *arguments: str) -> dict:
    command = [sys.executable, "-I", "-S", verify.__file__, str(path), "--json", *arguments]
    shown = subprocess.run(command, env={}, capture_output=True, text=True, timeout=60)
    assert not shown.stderr, shown.stderr
    return json.loads(shown.stdout)


@pytest.fixture
def paths(world, w) -> dict[str, str]:
    root = "0x" + world.archives[0].root.hex()
    return {
        "statement": f"/bundles/statement/{root}/1/{w.FIRST_DAY}.zip",
        "certificate": f"/bundles/certificate/{hex_id(world.done['tokens'][0])}.zip",
        "retirement": "/bundles/retirement/certificate/2.zip",
        "outcome": f"/bundles/outcome/{hex_id(world.done['outcome'])}.zip",
        "outcome retirement": "/bundles/retirement/outcome/1.zip",
    }


@pytest.mark.parametrize("kind", ["statement", "certificate", "retirement", "outcome", "outcome retirement"])
def test_bundle_served_is_verified_by_the_stand_alone_script(world, client, paths, tmp_path, kind):
    answer = client.get(paths[kind])
    assert answer.status_code == 200
    assert answer.headers["Content-Disposition"].startswith('attachment; filename="wattmark-')
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    (tmp_path / "bundle.zip").write_bytes(answer.data)
    found = judged(world, tmp_path / "bundle.zip", "--rpc", world.anvil.url, "--confirmations", "1")
    assert found["headline"] == "verified", found
    manifest = json.loads(verify.read_zip(answer.data)["manifest.json"])
    assert manifest["subject"]["kind"] == kind
    again = client.get(paths[kind], headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status_code == 304


def test_bundle_link_stands_on_the_page_of_each_subject(world, client, paths, w):
    root = "0x" + world.archives[0].root.hex()
    pages = {
        "statement": f"/checks/{root}/1/{w.FIRST_DAY}",
        "certificate": f"/certificates/{hex_id(world.done['tokens'][0])}",
        "retirement": "/retirements/certificate/2",
        "outcome": f"/outcomes/{hex_id(world.done['outcome'])}",
        "outcome retirement": "/retirements/outcome/1",
    }
    for kind, page in pages.items():
        assert f'href="{paths[kind]}"' in client.get(page).text, kind


@pytest.mark.parametrize("path", [
    "/bundles/statement/0x" + "11" * 32 + "/1/0.zip", "/bundles/statement/nonsense/1/0.zip", "/bundles/retirement/certificate/99.zip",
    "/bundles/retirement/promise/1.zip", "/bundles/certificate/0x" + "11" * 32 + ".zip", "/bundles/outcome/0x" + "11" * 32 + ".zip",
    "/bundles/retirement/certificate/99999999999999999999999.zip",
])  # fmt: skip
def test_bundle_of_nothing_is_not_found(client, path):
    assert client.get(path).status_code == 404


def test_bundle_of_a_private_device_leaves_readings_out(fresh_world, app_of, w):
    world = fresh_world
    world.register(1, visibility=w.Visibility.PRIVATE)
    record = w.day_record(1, w.FIRST_DAY)
    archive = world.notarize([record], visibility=w.Visibility.PRIVATE)
    content = app_of(world).test_client().get(f"/bundles/statement/0x{archive.root.hex()}/1/{w.FIRST_DAY}.zip").data
    members = verify.read_zip(content)
    assert json.loads(members["statements.json"])[0]["readings"] is None
    assert not any(name.startswith("archives/") for name in members)
    assert record.salts.hex().encode() not in content and record.profile.hex().encode() not in content


def test_bundle_where_something_is_missing_says_what(fresh_world, app_of, w):
    world = fresh_world
    world.register(1)
    archive = world.notarize([w.day_record(1, w.FIRST_DAY)])
    token = world.issue(archive, 1, w.FIRST_DAY)
    client = app_of(world).test_client()
    path = f"/bundles/certificate/{hex_id(token)}.zip"
    assert client.get(path).status_code == 200
    manifest = world.archive_folder / f"{archive.root.hex()}.json"
    kept = manifest.read_bytes()
    manifest.write_bytes(kept.replace(b'"public"', b'"privat"'))
    answer = client.get(path)
    assert answer.status_code == 409 and "not the one that was notarized" in answer.text
    manifest.unlink()
    assert client.get(path).status_code == 409
    manifest.write_bytes(kept)
    world.anvil.stop()
    assert client.get(path).status_code == 503
