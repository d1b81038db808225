"""The golden vectors of docs/protocol.md, reached by the contracts, and where none computes them by a reading in Solidity."""

import pytest
from brownie import web3
from eth_utils import keccak, to_checksum_address

from tests.contracts.reference import Batch, Statement, Tree
from tests.contracts.world import refuses


def statement_of(entry):
    return Statement(
        int(entry["deviceId"]),
        entry["start"],
        entry["duration"],
        entry["version"],
        int(entry["energyWh"]),
        int(entry["previousWh"]),
        bytes.fromhex(entry["profileHash"][2:]),
    )


def bytes_of(texts):
    return [bytes.fromhex(text[2:]) for text in texts]


def notarize_root(world, root):
    batch = world.batch([Statement(1, 1_467_331_200)], root=root)
    world.notary.notarize(batch, world.signatures(batch), {"from": world.stranger})


def test_verify_reaches_every_leaf_of_every_tree(world, vectors):
    for tree in vectors("trees")["trees"]:
        root = bytes.fromhex(tree["root"][2:])
        notarize_root(world, root)
        for entry in tree["statements"][:40]:
            statement = statement_of(entry)
            assert statement.leaf == bytes.fromhex(entry["leaf"][2:])
            assert world.notary.verify(root, statement, bytes_of(entry["proof"]))
            if entry["proof"]:
                assert not world.notary.verify(root, statement, bytes_of(entry["proof"])[:-1])


def test_issue_many_takes_the_multi_proofs(world, vectors):
    """Devices of the vectors are not registered: a proof that holds gets as far as that, a wrong one does not."""
    for tree in vectors("trees")["trees"]:
        root = bytes.fromhex(tree["root"][2:])
        notarize_root(world, root)
        multi = tree["multiProof"]
        of_leaf = {entry["leaf"]: statement_of(entry) for entry in tree["statements"]}
        statements = [of_leaf[leaf] for leaf in multi["leaves"]]
        first = statements[0]
        expected = ("VersionNotZero", first.version) if first.version else ("DeviceUnknown", first.device_id)
        arguments = (root, statements, bytes_of(multi["proof"]), multi["flags"])
        with refuses(*expected):
            world.certificate.issueMany.call(*arguments, {"from": world.stranger})
        wrong = [first._replace(energy_wh=first.energy_wh ^ 1), *statements[1:]]
        with refuses("ProofInvalid", root):
            world.certificate.issueMany.call(root, wrong, *arguments[2:], {"from": world.stranger})


def test_trees_of_the_tests_are_those_of_the_vectors(vectors):
    for tree in vectors("trees")["trees"]:
        statements = [statement_of(entry) for entry in tree["statements"]]
        ours = Tree(statements)
        assert ours.root == bytes.fromhex(tree["root"][2:])
        for entry, statement in zip(tree["statements"], statements, strict=True):
            assert ours.proof(statement) == bytes_of(entry["proof"])


def test_digest_is_the_vectors_struct_under_the_notarys_domain(world, vectors):
    types = vectors("batches")["types"]
    _, name, version, chain_id, contract, _, _ = world.notary.eip712Domain()
    separator = keccak(
        keccak(text=types["domain"])
        + keccak(text=name)
        + keccak(text=version)
        + int(chain_id).to_bytes(32, "big")
        + bytes.fromhex(contract[2:]).rjust(32, b"\0")
    )
    for entry in vectors("batches")["batches"]:
        struct = bytes.fromhex(entry["struct"][2:])
        assert bytes(world.notary.digest(batch_of(entry["batch"]))) == keccak(b"\x19\x01" + separator + struct)


def test_digest_on_the_vectors_chain_and_address_is_the_vectors_digest(world, vectors):
    """The Notary's run-time code, put where the vectors have it by a call with overrides of address and chain id."""
    domain = vectors("batches")["domain"]
    at = to_checksum_address(domain["verifyingContract"])
    code = web3.eth.get_code(world.notary.address).hex()
    for entry in vectors("batches")["batches"]:
        data = world.notary.digest.encode_input(batch_of(entry["batch"]))
        call = [{"to": at, "data": data}, "latest", {at: {"code": "0x" + code.removeprefix("0x")}}]
        previous = web3.eth.chain_id
        web3.provider.make_request("anvil_setChainId", [int(domain["chainId"])])
        try:
            answer = web3.provider.make_request("eth_call", call)
        finally:
            web3.provider.make_request("anvil_setChainId", [previous])
        assert answer["result"] == entry["digest"]


def batch_of(entry):
    return Batch(
        entry["kind"],
        entry["signerEpoch"],
        bytes.fromhex(entry["head"][2:]),
        bytes.fromhex(entry["root"][2:]),
        entry["start"],
        entry["end"],
        entry["statements"],
        int(entry["energyWh"]),
        bytes.fromhex(entry["archiveHash"][2:]),
        entry["deadline"],
    )


def test_issue_gives_the_id_of_the_vectors(world, vectors):
    for entry in vectors("ids")["certificates"]:
        duration, start = entry["duration"], entry["start"]
        if duration == 2**32 - 1:  # the greatest id is no period that can be issued
            continue
        world.register(int(entry["deviceId"]), granularity=3_600, active_from=0)
        tx = world.issue(Statement(int(entry["deviceId"]), start, duration, energy_wh=1))
        assert tx.return_value == int(entry["id"], 16)


def test_outcome_ids_are_those_of_the_vectors(world, vectors):
    for entry in vectors("ids")["outcomes"]:
        factor_id, year, country, authorisation_id = world.outcome.parseId(int(entry["id"], 16))
        told = (int(factor_id), int(year), bytes(country).decode(), int(authorisation_id))
        assert told == (entry["factorId"], entry["vintageYear"], entry["country"], int(entry["authorisationId"]))


@pytest.fixture
def reading(world):
    """tests/contracts/attackers/Protocol.sol: what the contracts leave to others, once more in Solidity."""
    return world.attacker("ProtocolReading")


def test_every_profile_of_the_vectors_is_packed_summed_and_hashed_alike(reading, vectors):
    for period in vectors("profiles")["periods"]:
        parts = period["parts"]
        starts, sizes = reading.parts(period["start"], period["duration"])
        assert list(starts) == [part["start"] for part in parts]
        assert list(sizes) == [len(part["packed"]) // 2 - 1 for part in parts]
        for part in parts:
            assert str(reading.pack(part["energyWh"], part["quality"])) == part["packed"], period["name"]
            assert reading.certifiedWh(part["packed"]) == part["certifiedWh"], period["name"]
            assert str(reading.dayHash(part["salt"], part["packed"])) == part["dayHash"], period["name"]
        assert str(reading.profileHash([part["dayHash"] for part in parts])) == period["profileHash"]
        whole = "0x" + "".join(part["packed"][2:] for part in parts)
        assert reading.certifiedWh(whole) == period["energyWh"]


def test_every_id_of_the_vectors_is_put_together_alike(reading, vectors):
    for entry in vectors("ids")["certificates"]:
        told = reading.certificateId(int(entry["deviceId"]), entry["start"], entry["duration"])
        assert told == int(entry["id"], 16)
    for entry in vectors("ids")["outcomes"]:
        country = "0x" + entry["country"].encode().hex()
        told = reading.outcomeId(entry["factorId"], entry["vintageYear"], country, int(entry["authorisationId"]))
        assert told == int(entry["id"], 16)
