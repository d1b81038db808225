"""The role table: who may call what, on chain as in scripts/roles.py and docs/roles.md, and how administration waits"""

import re
from pathlib import Path

import pytest
from eth_utils import function_signature_to_4byte_selector

from scripts.addresses import MANAGED, changing_functions
from scripts.roles import ADMIN_DELAY_SECONDS, ROLES
from tests.contracts import reference
from tests.contracts.world import address, now, travel

ROOT = Path(__file__).resolve().parent.parent.parent


def entries():
    return [(role, name, one) for role in ROLES for name, signatures in role.functions.items() for one in signatures]


def test_roles_let_their_holders_call_and_nobody_else(world):
    everyone = {account.address: account for account in [*world.holders.values(), world.stranger, world.generator]}
    for role, name, signature in entries():
        selector = function_signature_to_4byte_selector(signature)
        for who in everyone.values():
            allowed, delay = world.manager.canCall(who, world.contracts[name], selector)
            assert (bool(allowed), int(delay)) == (who == world.holders[role.id], 0), (who, name, signature)


def test_roles_held_apart_allow_each_its_own_functions_only(world):
    """One account for each role: whoever records transfers does not record adjustments, and so on."""
    members = {role.id: address(reference.key(f"{role.name} alone")) for role in ROLES}
    grants = [world.manager.grantRole.encode_input(role_id, who, 0) for role_id, who in members.items()]
    world.manager.multicall(grants, {"from": world.admin})
    for role, name, signature in entries():
        selector = function_signature_to_4byte_selector(signature)
        able = {held for held, who in members.items() if world.manager.canCall(who, world.contracts[name], selector)[0]}
        assert able == {role.id}, (name, signature)


def test_role_table_holds_every_restricted_function_and_no_other():
    found = set()
    for path in (ROOT / "contracts").glob("*.sol"):
        for head in re.findall(r"function (\w+)\([^{;]*?\brestricted\b", path.read_text(encoding="utf-8")):
            found.add((path.stem, head))
    assert found == {(name, signature.split("(")[0]) for _, name, signature in entries()}
    assert len(found) == 19


def test_role_table_names_functions_that_exist():
    for _, name, signature in entries():
        assert signature in changing_functions(name)


def test_docs_hold_the_role_table():
    text = (ROOT / "docs" / "roles.md").read_text(encoding="utf-8")
    for role in ROLES:
        rows = [line for line in text.splitlines() if line.startswith(f"| {role.id} | {role.name} |")]
        assert len(rows) == 1, role.name
        told = set(re.findall(r"`(\w+)\.(\w+)`", rows[0]))
        assert told == {(name, one.split("(")[0]) for name, signatures in role.functions.items() for one in signatures}
        assert ("delay" in rows[0]) == role.delayed


def test_administration_waits_and_can_be_watched(world):
    signers = [address(reference.key("new witness"))]
    data = world.notary.setSigners.encode_input(signers, 1)
    world.manager.grantRole(0, world.admin, ADMIN_DELAY_SECONDS, {"from": world.admin})
    with pytest.raises(Exception, match="AccessManagerNotScheduled"):
        world.notary.setSigners(signers, 1, {"from": world.admin})
    with pytest.raises(Exception, match="AccessManagerUnauthorizedCall|AccessManagerNotScheduled"):
        world.manager.grantRole(3, world.stranger, 0, {"from": world.admin})
    with pytest.raises(Exception, match="AccessManagerUnauthorizedCall"):
        world.manager.schedule(world.notary, data, 0, {"from": world.stranger})
    world.manager.schedule(world.notary, data, 0, {"from": world.admin})
    travel(now() + ADMIN_DELAY_SECONDS - 60)
    with pytest.raises(Exception, match="AccessManagerNotReady"):
        world.notary.setSigners(signers, 1, {"from": world.admin})
    with pytest.raises(Exception, match="AccessManagerUnauthorizedCancel"):
        world.manager.cancel(world.admin, world.notary, data, {"from": world.guardian})
    travel(now() + 120)
    world.notary.setSigners(signers, 1, {"from": world.admin})
    assert list(world.notary.signerSet(2)[0]) == signers


def test_guardian_powers_end_there(world):
    """Of all functions that change something the guardian may call four."""
    allowed = set()
    for name in MANAGED:
        for signature in changing_functions(name):
            selector = function_signature_to_4byte_selector(signature)
            if world.manager.canCall(world.guardian, world.contracts[name], selector)[0]:
                allowed.add(f"{name}.{signature.split('(')[0]}")
    assert allowed == {"Notary.pause", "Notary.revoke", "Notary.removeSigner", "EnergyCertificate.pause"}
