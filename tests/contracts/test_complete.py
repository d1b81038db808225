"""No function, no custom error and no event of the ABIs without its tests"""

import re
from pathlib import Path

from scripts.addresses import CONTRACTS, MANAGER, artifact

ROOT = Path(__file__).resolve().parent.parent.parent
HERE = Path(__file__).parent

#: Functions whose tests stand in the file of another, because one is told by the other or they share all of their set-up;
#: a function that is not named here has a file of its own.
TOLD_IN = {
    "test_adapter": (
        "ERC1888Adapter.certificate", "claimedBalanceOf", "claimedBalanceOfBatch", "getCertificate", "isIssued",
    ),
    "test_access": ("setAuthority", "authority", "isConsumingScheduledOp"),
    "test_bind": ("bindCertificate", "bindConverter", "DeviceRegistry.certificate", "converter", "consume",
                  "MitigationOutcome.certificate", "MitigationOutcome.registry", "factors"),
    "test_convert": (
        "authorise", "authorisation", "recordFirstTransfer", "recordAdjustmentPending", "recordAdjustment", "parseId",
        "isEstimate", "nameOf",
    ),
    "test_correct": ("settleDebt", "debtOf", "correctionOf"),
    "test_factors": ("publish", "supersede", "factor", "currentFactor"),
    "test_issue": ("EnergyCertificate.pause", "EnergyCertificate.unpause", "EnergyCertificate.paused", "isCertified",
                   "issuedFrom"),
    "test_issue_many": ("issueItem",),
    "test_notarize": ("revoke", "verify", "notarization", "issuable", "head"),
    "test_register": ("device",),
    "test_retire": (
        "retireBatch", "retireBySig", "retireBatchBySig", "cancelNonce", "retiredOf", "retirementCount", "uri", "nonces",
        "eip712Domain", "supportsInterface",
    ),
    "test_set_account": ("setCapacity", "termsAt", "admit", "granularityOf", "zoneOf", "deviceOfMeter"),
    "test_signers": (
        "setSigners", "removeSigner", "signerSet", "isSigner", "signerEpoch", "epochAt", "Notary.pause",
        "Notary.unpause", "Notary.paused",
    ),
    "test_transfer": (
        "safeTransferFrom", "safeBatchTransferFrom", "setApprovalForAll", "isApprovedForAll", "balanceOf",
        "balanceOfBatch",
    ),
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


def snake(name):
    return "test_" + re.sub(r"([A-Z])", r"_\1", name).lower()


def sources(pattern="test_*.py"):
    return "\n".join(
        path.read_text(encoding="utf-8") for path in HERE.glob(pattern) if path.name != Path(__file__).name
    )


def test_every_function_has_a_file_or_is_told_in_another():
    told = {one: name for name, functions in TOLD_IN.items() for one in functions}
    missing, met = [], set()
    for contract, function in abi("function"):
        key = next((one for one in (f"{contract}.{function}", function) if one in told), None)
        met.add(key)
        path = HERE / f"{told[key] if key else snake(function)}.py"
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        if not re.search(rf"\b{function}\b", text):
            missing.append((contract, function, path.name))
    assert missing == []
    assert told.keys() - met == set(), "named, but in no ABI"


def test_every_error_is_reached():
    reached = set(re.findall(r'(?:refuses\(\s*"|match=f?r?"|\("|\|)(\w+)', sources()))
    assert {name for _, name in abi("error")} - reached == UNREACHABLE.keys()
    assert len(reached) > 70


def test_every_event_is_seen():
    seen = set(re.findall(r'events\["(\w+)"\]', sources()))
    assert {name for _, name in abi("event")} - seen == {"EIP712DomainChanged", "URI"}, "neither is ever emitted"
