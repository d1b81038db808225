"""From the logs that a node tells to the rows of the index."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson

from .abi import Artifacts, Call, plain
from .index import hex_id

Row = dict[str, Any]
#: Rows by table, each in the order of the table's columns.
Rows = dict[str, list[tuple[Any, ...]]]
#: The rows that an event of a contract adds to the event tables, of its arguments.
_Maker = Callable[[str, str, dict[str, Any]], Iterable[tuple[str, Row]]]


def ascii_of(value: str) -> str:
    """Text of a right-padded bytes field (country, grid zone)."""
    return bytes.fromhex(value[2:]).rstrip(b"\0").decode("ascii", "replace")


def event_rows(event: Call) -> list[tuple[str, Row]]:
    """The rows that one event adds to the event tables, by column."""
    make = MAKERS.get(event.name)
    return list(make(event.contract, event.name, event.args)) if make else []


def decode_logs(logs: Iterable[Mapping[str, Any]], contracts: Mapping[str, str], known: Artifacts) -> Rows:
    """Rows of ``event``, ``account`` and the event tables. ``contracts`` are names by address in lower case.

    A log of another contract, or that no ABI describes, has no row.
    """
    rows: Rows = {"event": []}
    events = rows["event"]
    parties: defaultdict[str, list[tuple[str, int, int]]] = defaultdict(list)
    for log in logs:
        contract = contracts.get(log["address"].lower())
        if contract is None:
            continue
        topics, data = log["topics"], log["data"]
        reader = known.readers.get((contract, topics[0])) if topics else None
        args = reader.read(topics, data) if reader else None
        if reader and args is not None:
            name, told, named = reader.shape.name, reader.plain(args), reader.addresses(args)
        else:
            event = known.event(contract, [bytes.fromhex(t[2:]) for t in topics], bytes.fromhex(data[2:]))
            if event is None:
                continue
            name, args, told, named = event.name, event.args, plain(event.args), event.addresses()
        block, log_index, tx = int(log["blockNumber"], 16), int(log["logIndex"], 16), log["transactionHash"]
        events.append((block, log_index, tx, contract, name, orjson.dumps(told).decode()))
        for address in named:
            parties[address].append((address, block, log_index))
        make = MAKERS.get(name)
        if make:
            for item, (table, row) in enumerate(make(contract, name, args)):
                entry = (block, log_index, item, tx, *row.values())
                if table in rows:
                    rows[table].append(entry)
                else:
                    rows[table] = [entry]
    # In the order of the table's key, as events are: quicker than to sort every row.
    rows["account"] = [row for address in sorted(parties) for row in parties[address]]
    return rows


# -- what each event adds. The keys of a row are the columns of its table, in their order. ----------


def _registered(_contract: str, _name: str, a: dict[str, Any]) -> Iterable[tuple[str, Row]]:
    d = a["device"]
    yield "device", {
        "device_id": str(a["deviceId"]), "account": d["account"], "meter_hash": d["meterHash"], "capacity_w": d["capacityW"],
        "kind": d["kind"], "visibility": d["visibility"], "country": ascii_of(d["country"]), "granularity": d["granularity"],
        "fuel_code": d["fuelCode"], "technology_code": d["technologyCode"], "active_from": d["activeFrom"],
        "active_until": d["activeUntil"], "grid_zone": ascii_of(d["gridZone"]),
    }  # fmt: skip


def _changed(_contract: str, name: str, a: dict[str, Any]) -> Iterable[tuple[str, Row]]:
    field, argument = {
        "AccountSet": ("account", "account"), "CapacitySet": ("capacity_w", "capacityW"),
        "DeviceDeactivated": ("active_until", "activeUntil"),
    }[name]  # fmt: skip
    value = str(a[argument])
    since = a["activeUntil"] if name == "DeviceDeactivated" else a["since"]
    yield "device_change", {"device_id": str(a["deviceId"]), "field": field, "value": value, "since": since}


def _notarized(_contract: str, _name: str, a: dict[str, Any]) -> Iterable[tuple[str, Row]]:
    b = a["batch"]
    yield "notarization", {
        "root": a["root"], "new_head": a["newHead"], "kind": b["kind"], "signer_epoch": b["signerEpoch"], "head": b["head"],
        "start": b["start"], "end": b["end"], "statements": b["statements"], "energy_wh": b["energyWh"],
        "archive_hash": b["archiveHash"], "deadline": b["deadline"], "signers": json.dumps(a["signers"]),
    }  # fmt: skip


def _revoked(_contract: str, _name: str, a: dict[str, Any]) -> Iterable[tuple[str, Row]]:
    yield "revocation", {"root": a["root"], "by": a["by"], "reason": a["reason"]}


def _signers(_contract: str, _name: str, a: dict[str, Any]) -> Iterable[tuple[str, Row]]:
    yield "signer_set", {
        "epoch": a["epoch"], "threshold": a.get("threshold"),
        "signers": json.dumps(a["signers"]) if "signers" in a else None,
        "removed": a.get("signer"), "reason": a.get("reason"),
    }  # fmt: skip


def _issuance(_contract: str, name: str, a: dict[str, Any]) -> Iterable[tuple[str, Row]]:
    token, get = a["id"], a.get
    yield "issuance", {
        "event": name, "id": hex_id(token), "device_id": str(token >> 192), "start": token >> 152 & (1 << 40) - 1,
        "duration": token >> 120 & (1 << 32) - 1, "root": get("root"), "account": get("account"),
        "energy_wh": get("energyWh", get("amountWh")), "previous_wh": get("previousWh"), "version": get("version"),
        "profile_hash": get("profileHash"), "debt_wh": get("debtWh"),
    }  # fmt: skip


def _transfer(contract: str, _name: str, a: dict[str, Any]) -> Iterable[tuple[str, Row]]:
    items = zip(a["ids"], a["values"], strict=True) if "ids" in a else ((a["id"], a["value"]),)
    for token, amount in items:
        yield "transfer", {
            "contract": contract, "operator": a["operator"], "sender": a["from"], "receiver": a["to"],
            "id": hex_id(token), "amount": amount,
        }  # fmt: skip


def _retirement(contract: str, _name: str, a: dict[str, Any]) -> Iterable[tuple[str, Row]]:
    d = a["details"]
    items = zip(a["ids"], a["amounts"], strict=True) if "ids" in a else ((a["id"], a["amount"]),)
    for token, amount in items:
        yield "retirement", {
            "contract": contract, "number": a["number"], "account": a["account"], "id": hex_id(token), "amount": amount,
            "beneficiary": d["beneficiary"], "beneficiary_name": d["beneficiaryName"], "purpose": d["purpose"],
            "country": ascii_of(d["country"]), "location": d["location"], "consumption_start": d["consumptionStart"],
            "consumption_end": d["consumptionEnd"],
        }  # fmt: skip


def _converted(_contract: str, _name: str, a: dict[str, Any]) -> Iterable[tuple[str, Row]]:
    yield "conversion", {
        "account": a["account"], "certificate_id": hex_id(a["certificateId"]), "outcome_id": hex_id(a["outcomeId"]),
        "amount_wh": a["amountWh"], "co2e_g": a["co2eG"], "rest_micrograms": a["restMicrograms"],
    }  # fmt: skip


def _levied(_contract: str, _name: str, a: dict[str, Any]) -> Iterable[tuple[str, Row]]:
    levies = {"share_of_proceeds_g": a["shareOfProceedsG"], "overall_mitigation_g": a["overallMitigationG"]}
    yield "levy", {"outcome_id": hex_id(a["outcomeId"]), **levies}


def _published(_contract: str, _name: str, a: dict[str, Any]) -> Iterable[tuple[str, Row]]:
    f = a["factor"]
    yield "factor", {
        "factor_id": a["factorId"], "grid_zone": ascii_of(f["gridZone"]), "year": f["year"], "grams_per_mwh": f["gramsPerMWh"],
        "illustrative": int(f["illustrative"]), "approver": f["approver"], "source_hash": f["sourceHash"], "source": f["source"],
    }  # fmt: skip


def _superseded(_contract: str, _name: str, a: dict[str, Any]) -> Iterable[tuple[str, Row]]:
    yield "factor_supersession", {"factor_id": a["factorId"], "superseded_by": a["supersededBy"]}


def _authorised(_contract: str, _name: str, a: dict[str, Any]) -> Iterable[tuple[str, Row]]:
    details = json.dumps(plain(a["authorisation"]))
    yield (
        "authorisation",
        {"authorisation_id": str(a["authorisationId"]), "country": ascii_of(a["country"]), "details": details},
    )


def _advanced(_contract: str, _name: str, a: dict[str, Any]) -> Iterable[tuple[str, Row]]:
    state = {"state": a["state"], "evidence_hash": a["evidenceHash"]}
    yield "authorisation_state", {"authorisation_id": str(a["authorisationId"]), **state}


MAKERS: dict[str, _Maker] = {
    "DeviceRegistered": _registered,
    "Notarized": _notarized,
    "Revoked": _revoked,
    "SignersSet": _signers,
    "SignerRemoved": _signers,
    "TransferSingle": _transfer,
    "TransferBatch": _transfer,
    "Retired": _retirement,
    "RetiredBatch": _retirement,
    "Converted": _converted,
    "LeviesTaken": _levied,
    "FactorPublished": _published,
    "FactorSuperseded": _superseded,
    "Authorised": _authorised,
    "StateAdvanced": _advanced,
}
MAKERS |= dict.fromkeys(("AccountSet", "CapacitySet", "DeviceDeactivated"), _changed)
MAKERS |= dict.fromkeys(
    ("Issued", "Settled", "SkippedCertified", "SkippedRefused", "Corrected", "DebtIncurred"), _issuance
)
