"""No function, no custom error and no event of the ABIs without its tests"""

import json
import re
from pathlib import Path

from scripts.addresses import CONTRACTS, MANAGER, artifact

ROOT = Path(__file__).resolve().parent.parent.parent
HERE = Path(__file__).parent

#: Views alone: they are told in the file of the act that they report on. Whatever changes state has a file of its own.
TOLD_IN = {
    "test_access": ("isConsumingScheduledOp",),
    "test_adapter": (
        "ERC1888Adapter.certificate", "claimedBalanceOf", "claimedBalanceOfBatch", "getCertificate", "isIssued",
    ),
    "test_authorise": ("authorisation",),
    "test_bind_certificate": ("DeviceRegistry.certificate",),
    "test_bind_converter": ("converter", "MitigationOutcome.certificate", "MitigationOutcome.registry", "factors"),
    "test_convert": ("parseId", "isEstimate", "nameOf"),
    "test_correct": ("debtOf", "correctionOf"),
    "test_issue": ("isCertified", "issuedFrom"),
    "test_notarize": ("verify", "notarization", "issuable", "head"),
    "test_pause": ("paused",),
    "test_publish": ("factor", "currentFactor"),
    "test_register": ("device",),
    "test_retire": ("retiredOf", "uri", "eip712Domain", "supportsInterface"),
    "test_retire_batch": ("retirementCount",),
    "test_retire_by_sig": ("nonces",),
    "test_safe_batch_transfer_from": ("balanceOfBatch",),
    "test_safe_transfer_from": ("balanceOf",),
    "test_set_account": ("termsAt", "admit", "granularityOf", "zoneOf", "deviceOfMeter"),
    "test_set_approval_for_all": ("isApprovedForAll",),
    "test_set_authority": ("authority",),
    "test_set_signers": ("signerSet", "isSigner", "signerEpoch", "epochAt"),
    "test_vectors": ("digest",),
    "world": ("EnergyCertificate.registry", "EnergyCertificate.notary"),  # held by tests/deploy/test_check.py
}  # fmt: skip

#: Errors that our ABIs take over from the libraries and that no call can reach, each with the reason.
UNREACHABLE = {
    "AccessManagedRequiredDelay": "declared by IAccessManaged, thrown nowhere",
    "CheckpointUnorderedInsertion": "epochs are pushed at the present time, which does not fall",
    "ERC1155InvalidApprover": "nobody calls from address zero",
    "ERC1155InvalidSender": "nobody calls from address zero, and it approves nobody",
    "InvalidAccountNonce": "thrown by a check of given nonces, which we do not use",
    "InvalidShortString": "names and versions are constants of 31 bytes at most",
    "StringTooLong": "names and versions are constants of 31 bytes at most",
}
#: The AccessManager is OpenZeppelin's as it is: its errors are its own tests' but for those that our deployments meet.
OURS = tuple(name for name in CONTRACTS if name != MANAGER)


def abi(kind):
    return [(name, entry["name"]) for name in OURS for entry in artifact(name)["abi"] if entry["type"] == kind]


def functions(*, change_state):
    """(contract, function) of those that change state, or of the views."""
    return [
        (name, entry["name"])
        for name in OURS
        for entry in artifact(name)["abi"]
        if entry["type"] == "function" and (entry["stateMutability"] not in ("view", "pure")) == change_state
    ]


def snake(name):
    return "test_" + re.sub(r"([A-Z])", r"_\1", name).lower()


def sources(pattern="test_*.py"):
    return "\n".join(
        path.read_text(encoding="utf-8") for path in HERE.glob(pattern) if path.name != Path(__file__).name
    )


def test_every_function_that_changes_state_has_a_file_of_its_own():
    missing = []
    for contract, function in functions(change_state=True):
        path = HERE / f"{snake(function)}.py"
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        if not re.search(rf"\b{function}\b", text) or "\ndef test_" not in text:
            missing.append((contract, function, path.name))
    assert missing == []
    assert len(set(functions(change_state=True))) > 45


def test_every_view_has_a_file_or_is_told_in_the_file_of_an_act():
    told = {one: name for name, views in TOLD_IN.items() for one in views}
    missing, met = [], set()
    for contract, view in functions(change_state=False):
        key = next((one for one in (f"{contract}.{view}", view) if one in told), None)
        met.add(key)
        path = HERE / f"{told[key] if key else snake(view)}.py"
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        if not re.search(rf"\b{view}\b", text):
            missing.append((contract, view, path.name))
    assert missing == []
    assert told.keys() - met == set(), "named, but no view of any ABI"


def test_every_error_is_reached():
    reached = set(re.findall(r'(?:refuses\(\s*"|match=f?r?"|\|)(\w+)', sources()))
    assert {name for _, name in abi("error")} - reached == UNREACHABLE.keys()
    assert len(reached) > 70


def test_every_event_is_seen():
    seen = set(re.findall(r'events\["(\w+)"\]', sources()))
    assert {name for _, name in abi("event")} - seen == {"EIP712DomainChanged", "URI"}, "neither is ever emitted"


def test_docs_state_the_gas_of_the_snapshot():
    rows = json.loads((ROOT / "docs" / "gas.json").read_text(encoding="utf-8"))["rows"]
    gas = {(row["act"], row["variant"]): row["gas"] for row in rows}
    told = (ROOT / "docs" / "oracle.md").read_text(encoding="utf-8")
    for count in (10, 50, 100, 200):
        assert f"| {count} | {gas['issueMany', f'first {count} device-days of two devices, each']:,.0f} |" in told
    told = (ROOT / "docs" / "decisions.md").read_text(encoding="utf-8")
    for variant in (
        "20 months of one device", "first month of 30 devices, in one word", "second month of 30 devices, in that word",
        "first month of 30 devices, over a word's border", "fifth month of 30 devices, over a word's border",
        "first year of 30 devices, month by month",
    ):  # fmt: skip
        assert f"{gas['issueMany', variant + ', per 15-minute interval']:.1f}" in told, variant
