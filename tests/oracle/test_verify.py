"""The stand-alone verifier's primitives, each against a source that shares no code with it."""

import ast
import json
import struct
import subprocess
import sys
import warnings
import zipfile
from io import BytesIO
from pathlib import Path

import pytest
import rlp
import sha3
from eth_abi import encode
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_utils import to_checksum_address
from hypothesis import given, settings
from hypothesis import strategies as st

from oracle import verify
from oracle.bundle import Trie, encode_header, encode_receipt, encode_transaction
from tests.oracle import nodes

SCRIPT = Path(verify.__file__)
VECTORS = Path(__file__).parents[1] / "vectors"
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


def vector(name):
    return json.loads((VECTORS / f"{name}.json").read_text())


def unhex(text):
    return bytes.fromhex(text.removeprefix("0x"))


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with nodes.anvil(tmp_path_factory.mktemp("anvil"), "--order", "fifo") as running:
        running.rpc("evm_setAutomine", False)
        yield running


# -- the script itself ----------------------------------------------------------------------------------


def test_script_source_is_one_readable_file_of_the_standard_library():
    source = SCRIPT.read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 9))
    # Comments and docstrings are counted too; the empty lines between functions are not read.
    assert sum(bool(line.strip()) for line in source.splitlines()) <= 700
    assert max(map(len, source.splitlines())) <= 120
    imported = {alias.name for part in ast.walk(tree) if isinstance(part, ast.Import) for alias in part.names}
    imported |= {part.module for part in ast.walk(tree) if isinstance(part, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} <= sys.stdlib_module_names
    calls = {part.func.id for part in ast.walk(tree) if isinstance(part, ast.Call) and isinstance(part.func, ast.Name)}
    assert not calls & {"exec", "eval", "compile", "__import__"}


def test_script_no_such_file_is_refused_without_a_traceback(tmp_path):
    shown = subprocess.run(
        [sys.executable, "-I", "-S", str(SCRIPT), str(tmp_path / "no.zip")], env={}, capture_output=True, text=True
    )
    assert (shown.returncode, shown.stderr) == (2, "")
    assert shown.stdout.startswith("refused: no.zip is not there")


# -- keccak, curve --------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", vector("keccak")["keccak256"], ids=lambda case: str(case["length"]))
def test_keccak256_golden_vector_agrees(case):
    assert verify.keccak256(bytes((7 * i + 3) % 256 for i in range(case["length"]))) == unhex(case["digest"])


@given(st.binary(max_size=600))
def test_keccak256_any_message_agrees_with_pysha3(message):
    assert verify.keccak256(message) == sha3.keccak_256(message).digest()


@settings(max_examples=25, deadline=None)
@given(st.integers(1, ORDER - 1), st.binary(min_size=32, max_size=32))
def test_recover_any_key_and_digest_gives_its_address(key, digest):
    account = Account.from_key(key.to_bytes(32, "big"))
    signature = bytes(account.unsafe_sign_hash(digest).signature)
    assert verify.recover(digest, signature) == unhex(account.address)


@pytest.mark.parametrize(
    "change", ["high s", "v 0", "v 29", "r 0", "s 0", "r above the order", "short", "long", "empty"]
)
def test_recover_not_the_one_valid_form_is_refused(change):
    digest = b"\x11" * 32
    good = bytes(Account.from_key(b"\x22" * 32).unsafe_sign_hash(digest).signature)
    r, s, v = good[:32], good[32:64], good[64]
    high = (ORDER - int.from_bytes(s, "big")).to_bytes(32, "big")
    zero = bytes(32)
    bad = {
        "high s": r + high + bytes((55 - v,)),  # the same point, the other form: recovers elsewhere, refused here
        "v 0": r + s + bytes((v - 27,)),
        "v 29": r + s + bytes((v + 2,)),
        "r 0": zero + s + bytes((v,)),
        "s 0": r + zero + bytes((v,)),
        "r above the order": ORDER.to_bytes(32, "big") + s + bytes((v,)),
        "short": good[:64],
        "long": good + b"\x00",
        "empty": b"",
    }[change]
    with pytest.raises(verify.Refused):
        verify.recover(digest, bad)


@pytest.mark.parametrize(
    "address", ["0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"]
)
def test_checksummed_address_of_erc55_agrees(address):
    assert verify.checksummed(unhex(address)) == address == to_checksum_address(address)


# -- RLP and tries --------------------------------------------------------------------------------------

ITEMS = st.recursive(st.binary(max_size=70), lambda inner: st.lists(inner, max_size=6), max_leaves=20)


@given(ITEMS)
def test_rlp_any_item_agrees_with_the_library(item):
    def depth(part):
        return 1 + max(map(depth, part), default=0) if isinstance(part, list) else 0

    encoded = verify.rlp_encode(item)
    assert encoded == rlp.encode(item)
    if depth(item) < 8:
        assert verify.rlp_decode(encoded) == item


@pytest.mark.parametrize(
    "data",
    [
        "",
        "8100",
        "b800",
        "b90000",
        "83646f",
        "c3830102",
        "c0c0",
        "f800",
        "bfffffffffffffffff",
        "c20080ff",
        "c7c0c1c0c3c0c1c0c0",
    ],
)
def test_rlp_decode_not_whole_or_not_shortest_is_refused(data):
    with pytest.raises(verify.Refused):
        verify.rlp_decode(bytes.fromhex(data))


def test_rlp_decode_deep_nesting_is_refused():
    data = b"\xc0"
    for _ in range(2000):
        data = rlp.codec.length_prefix(len(data), 0xC0) + data
    with pytest.raises(verify.Refused, match="too deep"):
        verify.rlp_decode(data)


def test_trie_of_the_ethereum_test_suite_has_its_root():
    trie = Trie({b"doe": b"reindeer", b"dog": b"puppy", b"dogglesworth": b"cat"})
    assert trie.root.hex() == "8aad789dff2f538bca5d8ea56e8abe10f4c7ba3a5dea95fea4cd6e7c3a1168d3"
    assert verify.trie_value(trie.root, b"dogglesworth", trie.proof(b"dogglesworth")) == b"cat"


@settings(deadline=None)
@given(st.dictionaries(st.binary(max_size=4), st.binary(min_size=1, max_size=40), min_size=1, max_size=12))
def test_trie_any_pairs_each_is_proven_and_no_other(pairs):
    trie = Trie(pairs)
    for key, value in pairs.items():
        proof = trie.proof(key)
        assert verify.trie_value(trie.root, key, proof) == value
        with pytest.raises(verify.Refused):
            verify.trie_value(trie.root, key, [*proof, proof[-1]])
        with pytest.raises(verify.Refused):
            verify.trie_value(trie.root, key + b"\x00\x00\x00\x00\x00", proof)
        with pytest.raises(verify.Refused):
            verify.trie_value(trie.root, key, proof[:-1])


@settings(deadline=None)
@given(st.data())
def test_trie_value_any_flipped_bit_is_refused(data):
    pairs = {rlp.encode(i): bytes((i % 251,)) * 40 for i in range(200)}
    trie, key = Trie(pairs), rlp.encode(data.draw(st.integers(0, 199)))
    proof = trie.proof(key)
    which = data.draw(st.integers(0, len(proof) - 1))
    at = data.draw(st.integers(0, 8 * len(proof[which]) - 1))
    damaged = bytearray(proof[which])
    damaged[at // 8] ^= 1 << at % 8
    with pytest.raises(verify.Refused):
        verify.trie_value(trie.root, key, [*proof[:which], bytes(damaged), *proof[which + 1 :]])


def test_trie_value_account_and_storage_agree_with_the_node(node):
    """eth_getProof is the node's own trie: balances and code hashes of the contracts, and a slot of the Notary."""
    node.rpc("evm_mine")
    state_root = unhex(node.rpc("eth_getBlockByNumber", "latest", False)["stateRoot"])
    slots = [f"0x{slot:064x}" for slot in range(3)]
    proven = 0
    for contract in json.loads(node.config.addresses.read_text())["contracts"].values():
        shown = node.rpc("eth_getProof", contract["address"], slots, "latest")
        key = verify.keccak256(unhex(contract["address"]))
        account = verify.rlp_decode(verify.trie_value(state_root, key, [unhex(n) for n in shown["accountProof"]]))
        assert account[2:] == [unhex(shown["storageHash"]), unhex(contract["codeHash"])]
        for slot in shown["storageProof"]:
            if int(slot["value"], 16):
                place = verify.keccak256(int(slot["key"], 16).to_bytes(32, "big"))
                proof = [unhex(n) for n in slot["proof"]]
                value = verify.rlp_decode(verify.trie_value(account[2], place, proof))
                assert int.from_bytes(value, "big") == int(slot["value"], 16)
                proven += 1
    assert proven


def test_block_of_many_transactions_of_every_type_has_the_headers_roots(node):
    sender, other = node.funded(), node.funded()
    chain_id, price = node.w3.eth.chain_id, 5 * 10**9
    fees = {"maxFeePerGas": price, "maxPriorityFeePerGas": 1}
    access = [{"address": other.address, "storageKeys": ["0x" + "07" * 32]}]
    allowed = other.sign_authorization({"chainId": chain_id, "address": sender.address, "nonce": 0})
    kinds = [
        {"gasPrice": price},
        {"gasPrice": price, "accessList": access, "type": 1},
        {**fees, "type": 2},
        {**fees, "type": 2, "accessList": access, "data": "0x" + "ab" * 100},
        {**fees, "type": 4, "authorizationList": [allowed]},
    ]
    count = 150
    for nonce in range(count):
        fields = {"nonce": nonce, "to": other.address, "value": nonce, "gas": 120_000, "chainId": chain_id}
        node.w3.eth.send_raw_transaction(sender.sign_transaction(fields | kinds[nonce % 5]).raw_transaction)
    node.rpc("evm_mine")
    block = node.rpc("eth_getBlockByNumber", "latest", True)
    receipts = node.rpc("eth_getBlockReceipts", block["number"])
    assert len(receipts) == count
    assert {one["type"] for one in block["transactions"]} == {"0x0", "0x1", "0x2", "0x4"}
    header = encode_header(block)
    assert verify.keccak256(header) == unhex(block["hash"])
    raws = [encode_transaction(one) for one in block["transactions"]]
    for raw, one in zip(raws, block["transactions"], strict=True):
        assert verify.keccak256(raw) == unhex(one["hash"])
    encoded = [encode_receipt(one) for one in receipts]
    for values, root in ((raws, block["transactionsRoot"]), (encoded, block["receiptsRoot"])):
        trie = Trie({rlp.encode(index): value for index, value in enumerate(values)})
        assert trie.root == unhex(root)
        for index in (0, 1, 127, 128, count - 1):
            assert verify.trie_value(trie.root, rlp.encode(index), trie.proof(rlp.encode(index))) == values[index]


def test_encode_transaction_of_eip155_gives_its_signed_bytes():
    fields = {
        "nonce": "0x9",
        "gasPrice": "0x4a817c800",
        "gas": "0x5208",
        "to": "0x" + "35" * 20,
        "value": "0xde0b6b3a7640000",
        "input": "0x",
        "v": "0x25",
        "r": "0x28ef61340bd939bc2195fe537567866003e1a15d3c71ff63e1590620aa636276",
        "s": "0x67cbe9d8997f761aecb703304b3800ccf555c9f3dc64214b297fb1966a3b6d83",
    }
    assert encode_transaction(fields).hex() == (
        "f86c098504a817c800825208943535353535353535353535353535353535353535880de0b6b3a76400008025a028ef61340bd939bc"
        "2195fe537567866003e1a15d3c71ff63e1590620aa636276a067cbe9d8997f761aecb703304b3800ccf555c9f3dc64214b297fb196"
        "6a3b6d83"
    )


# -- ABI ------------------------------------------------------------------------------------------------

UINT = {bits: st.integers(0, 2**bits - 1) for bits in (8, 16, 32, 40, 64, 256)}
WORD = st.binary(min_size=32, max_size=32)
ADDRESS = st.binary(min_size=20, max_size=20)
BATCH = st.tuples(
    UINT[8], UINT[16], WORD, WORD, UINT[40], UINT[40], UINT[32], UINT[64], WORD, UINT[40]
)  # fmt: skip
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
DETAILS = st.tuples(ADDRESS, TEXT, TEXT, st.binary(min_size=2, max_size=2), TEXT, UINT[40], UINT[40])


@pytest.mark.parametrize(
    ("shapes", "values"),
    [
        ((verify.BATCH, ["bytes"]), st.tuples(BATCH, st.lists(st.binary(max_size=70), max_size=5))),
        ((verify.BATCH, ["address"]), st.tuples(BATCH, st.lists(ADDRESS, max_size=5))),
        (("uint256", verify.DETAILS), st.tuples(UINT[256], DETAILS)),
        ((["uint256"], ["uint256"], verify.DETAILS), st.tuples(st.lists(UINT[256]), st.lists(UINT[256]), DETAILS)),
        ((["address"], "uint8", "uint40", "uint40"), st.tuples(st.lists(ADDRESS), UINT[8], UINT[40], UINT[40])),
    ],
    ids=["notarize", "Notarized", "Retired", "RetiredBatch", "signerSet"],
)
def test_abi_decode_any_values_agrees_with_eth_abi(shapes, values):
    types = [verify.spell(shape) for shape in shapes]

    def plain(value):
        return [plain(one) for one in value] if isinstance(value, list | tuple) else value

    @settings(max_examples=40, deadline=None)
    @given(values)
    def agree(drawn):
        data = encode(types, [as_library(shape, value) for shape, value in zip(shapes, drawn, strict=True)])
        assert plain(verify.abi_decode(shapes, data)) == plain(drawn)
        with pytest.raises(verify.Refused):
            verify.abi_decode(shapes, data[:-32])

    agree()


def test_notarize_call_wrapped_in_another_call_is_found():
    root = b"\x07" * 32
    signatures = [b"\x01" * 65, b"\x02" * 65]
    types = [verify.spell(verify.BATCH), "bytes[]"]
    batches = [(1, 2, bytes(32), name, 5, 6, 7, 8, b"\x09" * 32, 10) for name in (b"\x06" * 32, root)]
    calls = [verify.NOTARIZE + encode(types, [batch, signatures]) for batch in batches]
    raw = b"\x99" * 7 + verify.NOTARIZE + b"\xff" * 40 + calls[0] + b"\x11" * 5 + calls[1] + b"\x00" * 3
    entry = {"blockHash": bytes(32), "index": 0, "transaction": raw, "proof": None, "unproven": "a test"}
    one = verify.Transaction({**entry, "receipt": rlp.encode([b"\x01", b"", b"", []])})
    assert one.notarize_call(root) == (verify.Batch(*batches[1]), signatures)
    assert one.notarize_call(bytes(32)) is None


def as_library(shape, value):
    if isinstance(shape, tuple):
        return tuple(as_library(inner, one) for inner, one in zip(shape, value, strict=True))
    if isinstance(shape, list):
        return [as_library(shape[0], one) for one in value]
    return "0x" + value.hex() if shape == "address" else value


@pytest.mark.parametrize(
    ("shapes", "data"),
    [
        ((["bytes"],), (32).to_bytes(32, "big") + (33).to_bytes(32, "big") + bytes(4096)),
        ((["uint256"],), (32).to_bytes(32, "big") + (2**31).to_bytes(32, "big")),
        (("bytes",), b"\xff" * 32),
        (("string",), (32).to_bytes(32, "big") + (1).to_bytes(32, "big")),
        (("uint8",), (256).to_bytes(32, "big")),
        (("address",), (1 << 160).to_bytes(32, "big")),
        (("bytes32",), bytes(31)),
    ],
)
def test_abi_decode_too_large_or_cut_off_is_refused(shapes, data):
    with pytest.raises(verify.Refused):
        verify.abi_decode(shapes, data)


def test_topics_of_events_are_those_of_the_artifacts():
    known = {}
    for contract in ("Notary", "EnergyCertificate", "EmissionFactors", "MitigationOutcome"):
        for entry in nodes.artifact(contract)["abi"]:
            if entry["type"] == "event":
                types = [typed(part) for part in entry["inputs"]]
                signature = f"{entry['name']}({','.join(types)})"
                indexed = [part["indexed"] for part in entry["inputs"]]
                emitters, _ = known.setdefault(
                    sha3.keccak_256(signature.encode()).digest(), ([], (entry["name"], indexed))
                )
                emitters.append(contract)
    for topic, name in verify.TOPICS.items():
        emitters, indexed, others = verify.EVENTS[name]
        assert known[topic] == (list(emitters), (name, [True] * len(indexed) + [False] * len(others)))


def typed(part):
    kind = part["type"]
    return "(" + ",".join(map(typed, part["components"])) + ")" + kind[5:] if kind.startswith("tuple") else kind


# -- the protocol's golden vectors ----------------------------------------------------------------------


def statement_of(v):
    return verify.Statement(
        int(v["deviceId"]), v["start"], v["duration"], v["version"], int(v["energyWh"]), int(v["previousWh"]), unhex(v["profileHash"])
    )  # fmt: skip


@pytest.mark.parametrize("tree", vector("trees")["trees"], ids=lambda tree: tree["name"])
def test_statement_leaf_and_proof_golden_vector_reach_the_root(tree):
    for one in tree["statements"]:
        leaf = verify.statement_leaf(statement_of(one))
        assert leaf == unhex(one["leaf"])
        assert verify.root_from_proof(leaf, [unhex(node) for node in one["proof"]]) == unhex(tree["root"])


@pytest.mark.parametrize("period", vector("profiles")["periods"], ids=lambda period: period["name"])
def test_profile_hash_golden_vector_agrees(period):
    profile = b"".join(unhex(part["packed"]) for part in period["parts"])
    salts = [unhex(part["salt"]) for part in period["parts"]]
    assert verify.profile_hash(period["start"], period["duration"], profile, salts) == unhex(period["profileHash"])
    assert verify.certified_wh(profile) == period["energyWh"]


@pytest.mark.parametrize(
    ("start", "duration", "size", "salts"),
    [
        (1, 900, 5, 1),
        (0, 0, 0, 0),
        (0, 32 * 86_400, 480 * 32, 32),
        (0, 900, 10, 1),
        (0, 900, 5, 2),
        (85_500, 1800, 10, 1),
    ],
)
def test_profile_hash_other_sizes_than_the_period_is_refused(start, duration, size, salts):
    with pytest.raises(verify.Refused):
        verify.profile_hash(start, duration, bytes(size), [bytes(32)] * salts)


@pytest.mark.parametrize("slot", [struct.pack(">IB", 0, 64), struct.pack(">IB", 1, 0)])
def test_certified_wh_impossible_slot_is_refused(slot):
    with pytest.raises(verify.Refused):
        verify.certified_wh(slot)


def test_batch_digest_golden_vectors_agree_also_with_eth_account():
    vectors = vector("batches")
    chain_id, contract = int(vectors["domain"]["chainId"]), vectors["domain"]["verifyingContract"]
    for one in vectors["batches"]:
        b = one["batch"]
        batch = verify.Batch(
            b["kind"], b["signerEpoch"], unhex(b["head"]), unhex(b["root"]), b["start"], b["end"], b["statements"],
            int(b["energyWh"]), unhex(b["archiveHash"]), b["deadline"],
        )  # fmt: skip
        assert verify.batch_digest(batch, chain_id, unhex(contract)) == unhex(one["digest"])
        fields = [part.split() for part in verify.BATCH_TYPE.decode()[6:-1].split(",")]
        typed_data = encode_typed_data(
            {"name": "Wattmark Notary", "version": "1", "chainId": chain_id, "verifyingContract": contract},
            {"Batch": [{"type": kind, "name": name} for kind, name in fields]},
            {name: value for (_, name), value in zip(fields, batch, strict=True)},
        )
        account = Account.create()
        signature = bytes(account.sign_message(typed_data).signature)
        assert verify.recover(verify.batch_digest(batch, chain_id, unhex(contract)), signature) == unhex(
            account.address
        )


# -- zip and JSON ---------------------------------------------------------------------------------------

MEMBERS = {"manifest.json": b"{}\n", "verify.py": b"print()\n", f"archives/{'a' * 64}.json": b""}


def test_pack_zip_members_are_read_by_other_programs():
    packed = verify.pack_zip(MEMBERS)
    with zipfile.ZipFile(BytesIO(packed)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == MEMBERS
    assert verify.read_zip(packed) == MEMBERS


def test_read_zip_every_flipped_bit_is_refused():
    packed = verify.pack_zip(MEMBERS)
    for at in range(8 * len(packed)):
        damaged = bytearray(packed)
        damaged[at // 8] ^= 1 << at % 8
        with pytest.raises(verify.Refused):
            verify.read_zip(bytes(damaged))


def zipped(*members, compression=zipfile.ZIP_STORED):
    buffer = BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", compression) as archive:
        warnings.simplefilter("ignore")  # of a duplicate name, which is the point
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a zip",
        zipped(),
        zipped(("manifest.json", bytes(50 << 20)), compression=zipfile.ZIP_DEFLATED),
        zipped(("../manifest.json", b"{}")),
        zipped(("/etc/passwd", b"")),
        zipped(("archives/../../x", b"")),
        zipped(("manifest.json", b"{}"), ("manifest.json", b"[]")),
        zipped(*((f"archives/{i:064x}.json", b"") for i in range(3000))),
        verify.pack_zip({"manifest.json": b"{}", "more.txt": b""}),
        verify.pack_zip(MEMBERS) + b"x",
        verify.pack_zip(MEMBERS)[:-1],
        verify.pack_zip(MEMBERS)[:45],
    ],
    ids=range(13),
)
def test_read_zip_hostile_zip_is_refused(data):
    with pytest.raises(verify.Refused):
        verify.read_zip(data)


@pytest.mark.parametrize(
    "text",
    [b"", b"\xff", b"{", b"1.5", b"NaN", b"1e3", b"-Infinity", b"1" * 5000, b"[" * 100_000, b'{"a":' * 100_000],
    ids=range(10),
)
def test_load_json_hostile_text_is_refused(text):
    with pytest.raises(verify.Refused):
        verify.load_json(text, "x.json")


@pytest.mark.parametrize(
    ("shape", "value"),
    [
        ("uint8", 256), ("uint8", -1), ("uint8", True), ("uint8", "1"), ("uint8", None), ("decimal64", 1), ("decimal64", "01"),
        ("decimal64", "-1"), ("decimal64", str(2**64)), ("decimal64", "٣"), ("hex32", "0x00"), ("hex", "0xA0"), ("hex", "0x0"),
        ("hex", "00"), ("hex", "0x00\n"), ("text3", "four"), ("text3", 3), (["uint8"], {}), ({"a": "uint8"}, {}),
        ({"a": "uint8"}, {"a": 1, "b": 1}), ({"a": "uint8"}, []), (("uint8",), "x"), (["uint8"], [0] * 2049),
    ],
)  # fmt: skip
def test_fit_other_than_the_shape_is_refused(shape, value):
    with pytest.raises(verify.Refused):
        verify.fit(shape, value, "here")


def test_printable_hostile_text_cannot_steer_a_terminal():
    assert verify.printable("a\x1b[2J\n\u202e\ud800é") == "a\\u001b[2J\\u000a\\u202e\\ud800é"
