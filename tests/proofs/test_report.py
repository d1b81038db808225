"""What docs/assurance.md says of proofs and mutants, and docs/gas.md of gas, belongs to the contracts as they are."""

import json
import re

import pytest

from scripts import bench_gas, mutate, prove

REPORT = prove.load_report()


def test_report_of_proofs_is_about_the_committed_artifacts():
    assert REPORT["contracts"] == prove.contract_codes(), "mend: ./run prove --report"


@pytest.mark.parametrize("wanted", prove.PROPERTIES, ids=lambda wanted: wanted.title)
def test_report_property_is_proven_and_its_planted_bug_found(wanted):
    entry = REPORT["properties"][wanted.name]
    code = entry["proof"]["code"]
    assert prove.holds(wanted, entry, code, "proof")
    assert prove.holds(wanted, entry, code, "planted"), "mend: ./run prove --report"


def test_report_entry_of_other_code_or_bug_does_not_hold():
    wanted = prove.PROPERTIES[0]
    entry = REPORT["properties"][wanted.name]
    code = entry["proof"]["code"]
    other = {**entry, "planted": {**entry["planted"], "bug": "another"}}
    assert not prove.holds(wanted, entry, "00" * 32, "proof")
    assert not prove.holds(wanted, other, code, "planted")
    assert not prove.holds(wanted, {}, code, "proof")


def test_page_shows_the_report():
    assert prove.PAGE.read_text(encoding="utf-8") == prove.page_with(REPORT), "mend: ./run prove --report"


def test_page_of_gas_shows_the_snapshot_and_sizes_of_the_artifacts():
    snapshot = json.loads(bench_gas.SNAPSHOT.read_text(encoding="utf-8"))
    assert bench_gas.PAGE.read_text(encoding="utf-8") == bench_gas.page_with(snapshot), "mend: ./run bench gas --write"
    assert snapshot["sizes"] == bench_gas.sizes()


@pytest.mark.parametrize(("what", "value"), [("gas", 1), ("budget", 1), ("peers", {}), ("variant", "another")])
def test_drift_of_a_row_that_changed_names_it(what, value):
    snapshot = json.loads(bench_gas.SNAPSHOT.read_text(encoding="utf-8"))
    rows = [{**row, what: value} if row["variant"] == "3 of 5 signers, steady" else row for row in snapshot["rows"]]
    assert bench_gas.drift(snapshot, snapshot) == []
    found = bench_gas.drift({**snapshot, "rows": rows}, snapshot)
    assert found and all(one.startswith(("notarize, 3 of 5 signers, steady: ", "notarize, another: ")) for one in found)


def test_page_of_gas_names_every_act_without_its_budget():
    """What is not held to its budget is told in words: issueAndRetire but for the warm one, months over a border."""
    page = bench_gas.PAGE.read_text(encoding="utf-8").split(bench_gas.END)[1]
    gas = {row["variant"]: row["gas"] for row in json.loads(bench_gas.SNAPSHOT.read_text(encoding="utf-8"))["rows"]}
    first, cold = (gas[f"no mint, proof of 5, {state}"] for state in ("first of its root", "cold"))
    months = gas["first month of 30 devices, over a word's border, per 15-minute interval"]
    for figure in (first, cold):
        assert f"{figure:,}" in page
    assert f"{months:.1f}" in page


def test_survivors_have_an_argument_or_a_test_that_exists():
    for mutant, says in json.loads(mutate.SURVIVORS.read_text(encoding="utf-8")).items():
        assert set(says) in ({"equivalent"}, {"test"}), mutant
        if "test" in says:
            file, _, name = says["test"].partition("::")
            defined = re.findall(r"^def (test_\w+)", (mutate.ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
            assert name in defined, mutant
        else:
            assert len(says["equivalent"]) > 40, mutant
