"""The Python reading of docs/protocol.md against the golden vectors, which JavaScript libraries made."""

import json
from pathlib import Path

import pytest
from eth_account.messages import encode_typed_data
from eth_utils import keccak
from hypothesis import given
from hypothesis import strategies as st

from oracle import protocol, units
from oracle.domain import Batch, BatchKind, NotaryDomain, Profile, Quality, Statement
from oracle.errors import ProtocolError, UnitError
from oracle.merkle import MerkleTree, hash_pair, root_from_proof

VECTORS = Path(__file__).parents[1] / "vectors"


def vector(name):
    return json.loads((VECTORS / f"{name}.json").read_text())


def unhex(text):
    return bytes.fromhex(text.removeprefix("0x"))


def statement_of(v):
    return Statement(
        int(v["deviceId"]),
        v["start"],
        v["duration"],
        v["version"],
        int(v["energyWh"]),
        int(v["previousWh"]),
        unhex(v["profileHash"]),
    )


def batch_of(b):
    return Batch(
        BatchKind(b["kind"]), b["signerEpoch"], unhex(b["head"]), unhex(b["root"]), b["start"], b["end"], b["statements"],
        int(b["energyWh"]), unhex(b["archiveHash"]), b["deadline"],
    )  # fmt: skip


@pytest.mark.parametrize("period", vector("profiles")["periods"], ids=lambda p: p["name"])
def test_profile_hash_of_a_period_matches_the_vector(period):
    key = unhex(vector("profiles")["deviceKey"])
    hashes, energy_wh = [], 0
    for part, (start, duration) in zip(
        period["parts"], protocol.day_parts(period["start"], period["duration"]), strict=True
    ):
        profile = Profile(part["start"], tuple(part["energyWh"]), tuple(part["quality"]))
        packed = protocol.pack_profile(profile)
        salt = protocol.day_salt(key, period["deviceId"], start, period["version"])
        assert (start, duration) == (part["start"], 900 * len(part["quality"]))
        assert (packed.hex(), salt.hex()) == (part["packed"][2:], part["salt"][2:])
        assert protocol.day_hash(salt, packed).hex() == part["dayHash"][2:]
        assert protocol.unpack_profile(start, packed) == profile
        assert profile.certified_wh == part["certifiedWh"]
        hashes.append(unhex(part["dayHash"]))
        energy_wh += profile.certified_wh
    assert protocol.profile_hash(hashes).hex() == period["profileHash"][2:]
    assert energy_wh == period["energyWh"]


def test_quality_bits_are_those_of_the_protocol():
    names = ["MEASURED", "ESTIMATED", "EDITED", "COARSE", "SUSPECT", "CERTIFIED"]
    assert {q.name: int(q) for q in Quality} == {name: 1 << bit for bit, name in enumerate(names)}


@pytest.mark.parametrize(
    "profile",
    [
        Profile(0, (2**32,), (33,)),
        Profile(0, (-1,), (33,)),
        Profile(0, (1,), (64,)),
        Profile(0, (1,), (0,)),
        Profile(0, (1, 2), (33,)),
        Profile(1, (1,), (33,)),
        Profile(900, (1,) * 96, (33,) * 96),
        Profile(0, (), ()),
    ],
)
def test_pack_profile_of_a_value_that_does_not_fit_is_refused(profile):
    with pytest.raises(ProtocolError):
        protocol.pack_profile(profile)


@pytest.mark.parametrize("start, duration", [(1, 900), (0, 901), (0, 0), (0, 31 * 86400 + 900)])
def test_day_parts_of_a_bad_period_is_refused(start, duration):
    with pytest.raises(ProtocolError):
        protocol.day_parts(start, duration)


@pytest.mark.parametrize("case", vector("rounding")["micro"], ids=lambda c: c["text"])
def test_to_micro_rounds_as_the_vector(case):
    unit, mark = case.get("unit", "Wh"), case.get("decimalMark", ".")
    assert units.energy_micro_wh(case["text"], unit, decimal_mark=mark) == int(case["micro"])


@pytest.mark.parametrize("text", vector("rounding")["refused"])
def test_to_micro_refuses_what_is_no_decimal_number(text):
    with pytest.raises(UnitError):
        units.to_micro(text)


@pytest.mark.parametrize("case", vector("rounding")["wholeWh"])
def test_whole_wh_matches_the_vector(case):
    assert units.whole_wh(case["parts"], int(case["partsPerWh"])) == case["wh"]


@given(st.lists(st.integers(0, 10**12), max_size=96), st.integers(1, 10**10))
def test_whole_wh_loses_less_than_one_wh_a_day(parts, per_wh):
    assert 0 <= sum(parts) - sum(units.whole_wh(parts, per_wh)) * per_wh < per_wh


@pytest.mark.parametrize("tree", vector("trees")["trees"], ids=lambda t: t["name"])
def test_tree_and_proofs_match_openzeppelin(tree):
    statements = [statement_of(v) for v in tree["statements"]]
    leaves = [protocol.statement_leaf(s) for s in statements]
    assert ["0x" + leaf.hex() for leaf in leaves] == [v["leaf"] for v in tree["statements"]]
    built = MerkleTree.of(leaves)
    assert "0x" + built.root.hex() == tree["root"]
    for leaf, v in zip(leaves, tree["statements"], strict=True):
        proof = built.proof(leaf)
        assert ["0x" + node.hex() for node in proof] == v["proof"]
        assert root_from_proof(leaf, proof) == built.root
    multi = tree["multiProof"]
    ordered, proof, flags = built.multi_proof([leaves[i] for i in multi["chosen"]])
    assert ["0x" + node.hex() for node in ordered] == multi["leaves"]
    assert ["0x" + node.hex() for node in proof] == multi["proof"]
    assert flags == multi["flags"]


def test_tree_of_a_leaf_that_comes_twice_is_refused():
    leaf = keccak(b"a")
    with pytest.raises(ProtocolError, match="twice"):
        MerkleTree.of([leaf, keccak(b"b"), leaf])
    with pytest.raises(ProtocolError):
        MerkleTree.of([])


def test_proof_of_an_inner_node_is_refused():
    """Second pre-image: an inner node is no leaf, whatever its proof says."""
    leaves = [keccak(bytes([i])) for i in range(4)]
    tree = MerkleTree.of(leaves)
    inner = tree.nodes[1]
    assert root_from_proof(inner, [tree.nodes[2]]) == hash_pair(*tree.nodes[1:3]) == tree.root
    with pytest.raises(ProtocolError):
        tree.proof(inner)


@pytest.mark.parametrize("case", vector("batches")["batches"], ids=lambda c: c["name"])
def test_batch_digest_matches_the_vector_and_eth_account(case):
    v = vector("batches")
    domain = NotaryDomain(int(v["domain"]["chainId"]), v["domain"]["verifyingContract"])
    batch = batch_of(case["batch"])
    digest = protocol.batch_digest(batch, domain)
    assert "0x" + digest.hex() == case["digest"]
    fields = protocol.BATCH_TYPE.removeprefix("Batch(").removesuffix(")").split(",")
    signable = encode_typed_data(
        {"name": "Wattmark Notary", "version": "1", "chainId": domain.chain_id, "verifyingContract": domain.contract},
        {"Batch": [dict(zip(("type", "name"), f.split(), strict=True)) for f in fields]},
        dict(zip((f.split()[1] for f in fields), protocol.batch_fields(batch), strict=True)),
    )
    assert keccak(b"\x19" + signable.version + signable.header + signable.body) == digest
    if case["nextHead"]:
        assert "0x" + protocol.next_head(batch.head, digest).hex() == case["nextHead"]


@pytest.mark.parametrize("case", vector("ids")["certificates"], ids=lambda c: c["id"])
def test_token_id_matches_the_vector_and_parses_back(case):
    fields = (int(case["deviceId"]), case["start"], case["duration"])
    assert protocol.token_id(*fields) == int(case["id"], 16)
    assert protocol.parse_token_id(int(case["id"], 16)) == fields


def test_parse_token_id_with_low_bits_is_refused():
    with pytest.raises(ProtocolError):
        protocol.parse_token_id(1)


def test_manifest_bytes_are_canonical_and_carry_no_floats():
    assert protocol.manifest_bytes({"b": 1, "a": ["ñ", None]}) == b'{"a":["\\u00f1",null],"b":1}'
    with pytest.raises(ProtocolError):
        protocol.manifest_bytes({"a": [{"b": 0.1}]})


def test_profile_without_salt_is_guessed_and_with_salt_is_not():
    """FAULTS: a household's reading has so few possible values that an unsalted hash gives it away."""
    secret = Profile(0, (137,), (33,))
    packed = protocol.pack_profile(secret)
    salt = protocol.day_salt(keccak(b"key"), 1, 0, 0)

    def guess(target):
        return [wh for wh in range(2000) if keccak(protocol.pack_profile(Profile(0, (wh,), (33,)))) == target]

    assert guess(keccak(packed)) == [137]
    assert guess(protocol.day_hash(salt, packed)) == []
