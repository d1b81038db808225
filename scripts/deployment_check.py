"""Whether a deployment is what it should be: the chain against artifacts, address book and role table.

    ./run deploy --network NAME --check [--json]

Code (immutables masked), bindings, parameters, witnesses, each function's role, each role's holders, administrators,
guardians and delays, with nobody beyond them. Needs a node and no key. Exit code 1 where anything differs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import requests
from eth_utils import function_signature_to_4byte_selector, keccak
from web3 import Web3
from web3.contract import Contract
from web3.exceptions import Web3Exception

from scripts.addresses import (
    ADAPTER,
    CONTRACTS,
    MANAGED,
    MANAGER,
    changing_functions,
    contract_at,
    is_ours,
    load,
    selectors,
)
from scripts.networks import FAULTS, DeployError, Network, told
from scripts.roles import ADMINISTRATOR, ROLES, Role

#: Fewest blocks to ask events of at once, before a node's refusal is taken as final.
LEAST_BLOCKS = 100


@dataclass(frozen=True)
class Fact:
    """Something that was compared: ``found`` on the chain, ``wanted`` by artifacts, book or role table."""

    about: str
    what: str
    found: Any
    wanted: Any

    @property
    def holds(self) -> bool:
        return bool(self.found == self.wanted)

    def __str__(self) -> str:
        return f"{self.what}: {self.found}, should be {self.wanted}"


def facts(w3: Web3, book: Mapping[str, Any]) -> list[Fact]:
    """Everything there is to compare."""
    missing = [name for name in CONTRACTS if name not in book["contracts"]]
    if missing:
        raise DeployError(f"the address book lacks {', '.join(missing)}")
    return [*code_facts(w3, book), *binding_facts(w3, book), *parameter_facts(w3, book), *role_facts(w3, book)]


def require(found: Sequence[Fact]) -> int:
    """The number of facts; DeployError that lists everything that differs."""
    wrong = [str(fact) for fact in found if not fact.holds]
    if wrong:
        raise DeployError("the deployment is not what it should be:\n  " + "\n  ".join(wrong))
    return len(found)


def code_facts(w3: Web3, book: Mapping[str, Any]) -> list[Fact]:
    found = []
    for name in CONTRACTS:
        entry = book["contracts"][name]
        code = bytes(w3.eth.get_code(entry["address"]))
        found.append(Fact("code", f"{name} code hash", "0x" + keccak(code).hex(), entry["codeHash"]))
        found.append(Fact("code", f"{name} code is the artifact's", is_ours(name, code), True))
    return found


def binding_facts(w3: Web3, book: Mapping[str, Any]) -> list[Fact]:
    at = {name: entry["address"] for name, entry in book["contracts"].items()}
    ties = {
        ("DeviceRegistry", "certificate"): "EnergyCertificate",
        ("EnergyCertificate", "registry"): "DeviceRegistry",
        ("EnergyCertificate", "notary"): "Notary",
        ("EnergyCertificate", "converter"): "MitigationOutcome",
        ("MitigationOutcome", "certificate"): "EnergyCertificate",
        ("MitigationOutcome", "registry"): "DeviceRegistry",
        ("MitigationOutcome", "factors"): "EmissionFactors",
        (ADAPTER, "certificate"): "EnergyCertificate",
        **{(name, "authority"): MANAGER for name in MANAGED},
    }
    return [
        Fact("bindings", f"{name}.{view}", contract_at(w3, book, name).functions[view]().call(), at[target])
        for (name, view), target in ties.items()
    ]


def parameter_facts(w3: Web3, book: Mapping[str, Any]) -> list[Fact]:
    """Witnesses and threshold in force, addresses of metadata, and that nothing stands still."""
    notary = contract_at(w3, book, "Notary")
    epoch = notary.functions.signerEpoch().call()
    signers, threshold, _, _ = notary.functions.signerSet(epoch).call()
    found = [
        Fact("witnesses", f"Notary signers of epoch {epoch}", sorted(signers), sorted(book["signers"])),
        Fact("witnesses", f"Notary threshold of epoch {epoch}", threshold, book["threshold"]),
    ]
    for name, key in (("EnergyCertificate", "certificateUri"), ("MitigationOutcome", "outcomeUri")):
        if key in book.get("parameters", {}):
            uri = contract_at(w3, book, name).functions.uri(0).call()
            found.append(Fact("parameters", f"{name}.uri", uri, book["parameters"][key] + "{id}.json"))
    for name in ("Notary", "EnergyCertificate"):
        found.append(Fact("parameters", f"{name} paused", contract_at(w3, book, name).functions.paused().call(), False))
    return found


def role_facts(w3: Web3, book: Mapping[str, Any]) -> list[Fact]:
    """Each function's role, each holder with its delay, no holder beyond them, no contract closed."""
    manager = contract_at(w3, book, MANAGER)
    view = manager.functions
    roles = {
        (name, selector): role.id
        for role in ROLES
        for name, signatures in role.functions.items()
        for selector in selectors(signatures)
    }
    found = []
    for name in MANAGED:
        target = book["contracts"][name]["address"]
        found.append(Fact("functions", f"{name} closed", view.isTargetClosed(target).call(), False))
        found.append(Fact("delays", f"{name} administration delay", view.getTargetAdminDelay(target).call(), 0))
        signatures = changing_functions(name)
        for signature, role in zip(signatures, roles_of(manager, target, selectors(signatures)), strict=True):
            wanted = roles.pop((name, function_signature_to_4byte_selector(signature)), ADMINISTRATOR.id)
            found.append(Fact("functions", f"role of {name}.{signature}", role, wanted))
    found.append(Fact("functions", "entries of the role table that no contract has", roles, {}))
    members = members_of(w3, manager, book["deployedBlock"])
    for role in ROLES:
        # A book may be older than a role: nobody holds it then.
        entry = book["roles"].get(role.name, {"holder": None, "delaySeconds": 0})
        holder = entry["holder"]
        found.append(Fact("roles", f"holders of {role.name}", members.pop(role.id, []), [holder] if holder else []))
        if holder:
            held = membership(manager, role, holder)
            found.append(Fact("roles", f"{role.name} {holder}", held, (True, entry["delaySeconds"])))
        for what, number in (("administrator", view.getRoleAdmin), ("guardian", view.getRoleGuardian)):
            found.append(Fact("roles", f"{what} of role {role.name}", number(role.id).call(), ADMINISTRATOR.id))
        found.append(Fact("delays", f"grant delay of role {role.name}", view.getRoleGrantDelay(role.id).call(), 0))
    others = {number: accounts for number, accounts in members.items() if accounts}
    found.append(Fact("roles", "holders of roles that the table does not have", others, {}))
    return found


def membership(manager: Contract, role: Role, account: str) -> tuple[bool, int]:
    """Whether ``account`` holds ``role``, and for how many seconds its calls wait."""
    is_member, delay = manager.functions.hasRole(role.id, account).call()
    return bool(is_member), int(delay)


def roles_of(manager: Contract, target: str, functions: Sequence[bytes]) -> list[int]:
    """The role that may call each of a contract's functions, asked for in one call."""
    asked = [manager.encode_abi("getTargetFunctionRole", [target, one]) for one in functions]
    return [int.from_bytes(answer, "big") for answer in manager.functions.multicall(asked).call()]


def members_of(w3: Web3, manager: Contract, from_block: int) -> dict[int, list[str]]:
    """Who holds each role, replayed from the AccessManager's events."""
    members: dict[int, set[str]] = {}
    for log in role_logs(manager, from_block, w3.eth.block_number):
        holders = members.setdefault(log["args"]["roleId"], set())
        (holders.add if log["event"] == "RoleGranted" else holders.discard)(log["args"]["account"])
    return {role: sorted(holders) for role, holders in members.items()}


def role_logs(manager: Contract, first: int, last: int) -> list[Any]:
    """Grants and revocations in order. Where a node refuses a range, its halves are asked for."""
    try:
        logs = [
            log
            for event in (manager.events.RoleGranted(), manager.events.RoleRevoked())
            for log in event.get_logs(from_block=first, to_block=last)
        ]
    except (Web3Exception, requests.HTTPError, ValueError):
        if last - first < LEAST_BLOCKS:
            raise
        middle = (first + last) // 2
        return role_logs(manager, first, middle) + role_logs(manager, middle + 1, last)
    return sorted(logs, key=lambda log: (log["blockNumber"], log["logIndex"]))


# -- the command ------------------------------------------------------------------------------------


def table(found: Sequence[Fact]) -> str:
    """One line for a fact, what differs marked and with both values."""
    lines, about = [], ""
    for fact in sorted(found, key=lambda one: one.about):
        if fact.about != about:
            about = fact.about
            lines.append(about)
        shown = f"{fact.what}: {fact.found}" if fact.holds else str(fact)
        lines.append(f"  {'ok' if fact.holds else 'DIFFERS':<8} {shown}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="./run deploy --check", description="Compare a deployment with what it should be.", allow_abbrev=False
    )
    parser.add_argument("--network", required=True, metavar="NAME", help="a network of networks.yaml")
    parser.add_argument("--check", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    options = parser.parse_args(arguments)
    try:
        network = Network.load(options.network)
        if network.own_node:
            raise DeployError(f"the chain of network {network.id} ends with the run that started it")
        w3 = network.connect()
        chain_id = w3.eth.chain_id
        path: Path = network.book(chain_id)
        found = facts(w3, load(path, chain_id))
    except FAULTS as fault:
        print(f"./run deploy --check: {told(fault)}", file=sys.stderr)
        return 1
    wrong = [fact for fact in found if not fact.holds]
    if options.json:
        compared = [{**asdict(fact), "holds": fact.holds} for fact in found]
        summary = {"chainId": chain_id, "addresses": str(path), "compared": len(found), "different": len(wrong)}
        print(json.dumps({"ok": not wrong, **summary, "facts": compared}, default=str))
    else:
        print(table(found))
        print(f"chain {chain_id}, {path}: {len(found)} compared, {len(wrong)} different")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
