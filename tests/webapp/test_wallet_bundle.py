"""The committed bundle is what its entry builds to, and its hash is the one written down."""

from __future__ import annotations

import hashlib
import json
import os

import pytest

from scripts import wallet_bundle


@pytest.fixture
def builder():
    if not (wallet_bundle.NODE / "node_modules" / ".bin" / "esbuild").exists() and not os.environ.get("CI"):
        pytest.skip("npm packages are not installed: ./run setup node")
    return wallet_bundle


def test_bundle_is_what_its_entry_builds_to(builder):
    assert builder.drift() == []


def test_bundle_has_the_hash_that_is_written_down():
    record = json.loads(wallet_bundle.RECORD.read_text())
    assert hashlib.sha256(wallet_bundle.BUNDLE.read_bytes()).hexdigest() == record["sha256"]
    assert record["esbuild"] == wallet_bundle.versions()["esbuild"]
    assert record["packages"]["viem"] == wallet_bundle.versions()["viem"]
    licences = wallet_bundle.LICENCES.read_text()
    assert all(name in licences for name in record["packages"]) and "Permission is hereby granted" in licences


def test_drift_of_a_planted_byte_is_found(builder, tmp_path, monkeypatch):
    planted = wallet_bundle.ROOT / ".wattmark" / f"planted-{os.getpid()}.js"
    planted.write_bytes(wallet_bundle.BUNDLE.read_bytes() + b"/**/")
    try:
        monkeypatch.setattr(wallet_bundle, "BUNDLE", planted)
        assert any("is not what" in line for line in builder.drift())
    finally:
        planted.unlink()


def test_build_with_another_version_installed_names_the_mend(builder, monkeypatch):
    monkeypatch.setattr(wallet_bundle, "versions", lambda: {"viem": "0.0.1", "esbuild": "0.0.1"})
    with pytest.raises(wallet_bundle.BundleError, match="./run setup node"):
        builder.build()
