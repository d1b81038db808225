"""Evidence bundles against a real node: made, verified without us, damaged, forged."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
import sha3
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oracle import bundle, cli, verify
from oracle.archive import Archive, read_archive, write_archive
from oracle.domain import Visibility
from oracle.errors import ArchiveError, ChainError, ChainUnreachable
from oracle.protocol import statement_fields, statement_leaf, token_id
from oracle.units import utc_date
from tests.oracle import nodes

VECTORS = Path(__file__).parents[1] / "vectors"
OFFLINE = {"data": "verified", "inclusion": "verified", "finality": "cannot check", "authority": "cannot check"}
ONLINE = dict.fromkeys(OFFLINE, "verified")
BAD = {"mismatch", "not found"}
KINDS = ["statement", "certificate", "retirement", "outcome", "outcome_retirement"]


@dataclass
class World:
    """Batches notarized, certificates issued, corrected and retired on a node of its own; bundles of them in ``folder``."""

    node: nodes.Node
    folder: Path
    archive: Archive
    private: Archive
    account: str

    @property
    def statement(self):
        return self.folder / "statement.zip"

    @property
    def retirement(self):
        return self.folder / "retirement.zip"

    @property
    def certificate(self):
        return self.folder / "certificate.zip"

    @property
    def outcome(self):
        return self.folder / "outcome.zip"

    @property
    def outcome_retirement(self):
        return self.folder / "outcome_retirement.zip"

    def token(self, record):
        return token_id(record.statement.device_id, record.statement.start, record.statement.duration)

    def issue(self, archive, record, function="issue"):
        proof = archive.tree.proof(statement_leaf(record.statement))
        arguments = (archive.root, statement_fields(record.statement), proof)
        self.node.act("EnergyCertificate", function, *arguments, sender=self.account)


def make_statement_bundle(chain, archive, record, path, **options):
    path.write_bytes(bundle.statement_bundle(chain, archive, record, **options))
    return path


def make_retirement_bundle(chain, archive_folder, number, path):
    path.write_bytes(bundle.retirement_bundle(chain, archive_folder, number))
    return path


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    with nodes.anvil(folder) as node:
        chain, account = node.chain(), node.w3.eth.accounts[1]
        nodes.register_device(node, 1, account)
        records = [nodes.day_statement(1, day) for day in range(5)]
        batch = nodes.sealed_batch(chain, folder / "archive", records)
        nodes.notarize(node, chain, batch)
        hidden = [nodes.day_statement(2, day) for day in range(3)]
        write_archive(folder / "private", hidden, visibility=Visibility.PRIVATE, policy={"rules": "test"})
        secret = nodes.sealed_batch(chain, folder / "private", hidden)
        nodes.notarize(node, chain, secret)
        made = World(
            node,
            folder,
            read_archive(folder / "archive", batch.root),
            read_archive(folder / "private", secret.root),
            account,
        )
        for record in made.archive.records[:3]:
            made.issue(made.archive, record)
        first, second = (made.token(record) for record in made.archive.records[:2])
        details = (account, "\u202eEvil\x1b[2J name", "scope 2 of 2022", b"DE", "Kassel", 1, 2)
        node.act("EnergyCertificate", "retireBatch", [first, second], [500, 700], details, sender=account)
        make_statement_bundle(chain, made.archive, made.archive.records[0], made.statement)
        make_retirement_bundle(chain, folder / "archive", 1, made.retirement)
        # 1000 Wh by 700 kg/MWh are 700 g; 300 g of them are retired.
        node.act("EnergyCertificate", "bindConverter", chain.address("MitigationOutcome"))
        source = "Hand-made figure for tests"
        factor = (b"RMPA".ljust(16, b"\0"), 2022, 700_000, True, sha3.keccak_256(source.encode()).digest(), source)
        node.act("EmissionFactors", "publish", *factor)
        node.act("MitigationOutcome", "convert", [first, second], [400, 600], 0, sender=account)
        outcome = 1 << 224 | 2022 << 208 | int.from_bytes(b"US", "big") << 192
        node.act("MitigationOutcome", "retire", outcome, 300, details, sender=account)
        made.certificate.write_bytes(bundle.certificate_bundle(chain, folder / "archive", first))
        made.outcome.write_bytes(bundle.outcome_bundle(chain, folder / "archive", outcome))
        made.outcome_retirement.write_bytes(bundle.outcome_retirement_bundle(chain, folder / "archive", 1))
        yield made


def run(path, *arguments):
    """(exit code, answer) of the script in a clean interpreter with an empty environment."""
    command = [sys.executable, "-I", "-S", verify.__file__, str(path), "--json", *arguments]
    shown = subprocess.run(command, env={}, capture_output=True, text=True, timeout=60)
    assert not shown.stderr, shown.stderr
    return shown.returncode, json.loads(shown.stdout)


def verdicts(answer):
    return {question: finding["verdict"] for question, finding in answer["verdicts"].items()}


def judged(path, *arguments):
    """The same in this process, for many bundles: (exit code, verdicts or the refusal)."""
    with redirect_stdout(StringIO()) as shown:
        code = verify.main([str(path), "--json", *arguments])
    answer = json.loads(shown.getvalue())
    return code, verdicts(answer) if "verdicts" in answer else answer["refused"]


def resealed(path, target, **edits):
    """A forger's copy: each edit changes the value of a JSON member, and every hash of the manifest is made to fit."""
    members = verify.read_zip(path.read_bytes())
    manifest = json.loads(members.pop("manifest.json"))
    for name, edit in edits.items():
        if name == "manifest":
            edit(manifest)
        elif name == "members":
            edit(members)
        else:
            value = json.loads(members[f"{name}.json"])
            edited = edit(value)
            members[f"{name}.json"] = verify.canonical(value if edited is None else edited)
    manifest["members"] = {name: verify.stated(content) for name, content in members.items()}
    manifest["seal"] = verify.seal(manifest)
    target.write_bytes(verify.pack_zip({**members, "manifest.json": verify.canonical(manifest)}))
    return target


@pytest.fixture
def fast(monkeypatch):
    """The compiled keccak instead of the script's own, which has its own tests."""
    monkeypatch.setattr(verify, "keccak256", lambda data: sha3.keccak_256(bytes(data)).digest())


# -- a bundle of another time, whose chain is gone ------------------------------------------------------


def test_verify_golden_bundle_shows_what_it_always_did():
    code, answer = run(VECTORS / "bundle.zip")
    assert answer == json.loads((VECTORS / "bundle.json").read_text())
    assert code == 3
    anchors = [part for one in answer["blocks"] for part in ("--anchor", one["hash"])]
    assert judged(VECTORS / "bundle.zip", *anchors) == (0, ONLINE)


# -- what a whole bundle shows --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_verify_offline_clean_interpreter_cannot_check_only_what_needs_the_chain(world, kind):
    code, answer = run(getattr(world, kind))
    assert (code, answer["headline"], verdicts(answer)) == (3, "cannot check", OFFLINE)


@pytest.mark.parametrize("kind", KINDS)
def test_verify_with_node_is_verified(world, kind):
    code, answer = run(getattr(world, kind), "--rpc", world.node.url, "--confirmations", "1")
    assert (code, answer["headline"], verdicts(answer)) == (0, "verified", ONLINE)
    contracts = json.loads(world.node.config.addresses.read_text())["contracts"]
    assert answer["contracts"] == {name: entry["address"] for name, entry in contracts.items()}


def test_verify_unpacked_folder_by_its_own_copy_gives_the_same(world, tmp_path):
    with zipfile.ZipFile(world.retirement) as archive:
        archive.extractall(tmp_path)
    command = [sys.executable, "-I", "-S", str(tmp_path / "verify.py"), str(tmp_path)]
    shown = subprocess.run(command, env={}, capture_output=True, text=True, cwd=tmp_path)
    assert (shown.returncode, shown.stderr) == (3, "")
    assert "CANNOT CHECK" in shown.stdout
    assert "1200 Wh" in shown.stdout and "\\u202eEvil\\u001b[2J name" in shown.stdout
    assert all(character.isprintable() or character == "\n" for character in shown.stdout)


def test_verify_anchored_blocks_are_verified_without_a_node(world):
    anchors = [one["hash"] for one in run(world.statement)[1]["blocks"]]
    every = [part for anchor in anchors for part in ("--anchor", anchor)]
    assert judged(world.statement, *every) == (0, ONLINE)
    code, found = judged(world.statement, "--anchor", "0x" + "12" * 32)
    assert (code, found) == (3, OFFLINE)


def test_verify_trusted_addresses_others_are_mismatch(world):
    contracts = json.loads(world.node.config.addresses.read_text())["contracts"]
    notary, certificate = contracts["Notary"]["address"], contracts["EnergyCertificate"]["address"]
    assert judged(world.statement, "--trust", notary)[1] == OFFLINE
    assert judged(world.retirement, "--trust", notary, "--trust", certificate)[1] == OFFLINE
    assert judged(world.retirement, "--trust", notary) == (1, {**OFFLINE, "authority": "mismatch"})
    assert judged(world.statement, "--trust", certificate) == (1, {**OFFLINE, "authority": "mismatch"})


def test_statement_bundle_again_gives_the_same_bytes(world, tmp_path):
    chain = world.node.chain()
    again = make_statement_bundle(chain, world.archive, world.archive.records[0], tmp_path / "again.zip")
    assert again.read_bytes() == world.statement.read_bytes()


def test_statement_bundle_every_member_is_evidence(world):
    members = verify.read_zip(world.statement.read_bytes())
    whole = verify.Bundle(members)
    assert [event.name for event in whole.events] == ["Notarized", "SignersSet", "Issued"]
    assert not any(one.fault or one.unproven for one in whole.transactions)
    assert members["verify.py"] == Path(verify.__file__).read_bytes()
    name = world.archive.root.hex()
    assert verify.keccak256(members[f"archives/{name}.json"]) == world.archive.archive_hash


def test_statement_bundle_private_device_leaves_readings_out_unless_asked(world, tmp_path):
    chain, record = world.node.chain(), world.private.records[1]
    left_out = make_statement_bundle(chain, world.private, record, tmp_path / "without.zip")
    added = make_statement_bundle(chain, world.private, record, tmp_path / "with.zip", include_readings=True)
    for path, secret_is_there in ((left_out, False), (added, True)):
        content = path.read_bytes()
        assert (record.salts.hex().encode() in content, record.profile.hex().encode() in content) == (
            secret_is_there,
        ) * 2
        assert not any(name.startswith("archives/") for name in verify.read_zip(content))
        for other in world.private.records:
            assert other is record or other.salts.hex().encode() not in content
    node = ("--rpc", world.node.url, "--confirmations", "1")
    assert judged(left_out, *node) == (3, {**ONLINE, "data": "cannot check"})
    assert judged(added, *node) == (0, ONLINE)


def test_statement_bundle_public_device_may_leave_readings_out(world, tmp_path):
    record = world.archive.records[0]
    path = tmp_path / "without.zip"
    make_statement_bundle(world.node.chain(), world.archive, record, path, include_readings=False)
    assert record.salts.hex().encode() not in path.read_bytes()
    assert judged(path)[1]["data"] == "cannot check"


def test_retirement_bundle_of_corrected_certificate_holds_both_statements(world, tmp_path):
    chain, first = world.node.chain(), world.archive.records[2]
    more = nodes.day_statement(1, 2, slot_wh=120)
    corrected = replace(more, statement=replace(more.statement, version=1, previous_wh=first.statement.energy_wh))
    batch = nodes.sealed_batch(chain, world.folder / "archive", [corrected])
    nodes.notarize(world.node, chain, batch)
    archive = read_archive(world.folder / "archive", batch.root)
    world.issue(archive, corrected, "correct")
    details = (world.account, "Name", "purpose", b"DE", "", 0, 0)
    world.node.act("EnergyCertificate", "retire", world.token(first), 5000, details, sender=world.account)
    number = chain.call("EnergyCertificate", "retirementCount")
    path = make_retirement_bundle(chain, world.folder / "archive", number, tmp_path / "corrected.zip")
    assert [record.statement.version for record in verify.Bundle(verify.read_zip(path.read_bytes())).records] == [0, 1]
    assert judged(path, "--rpc", world.node.url, "--confirmations", "1") == (0, ONLINE)


def test_bundle_not_there_or_not_whole_raises(world, tmp_path):
    chain = world.node.chain()
    with pytest.raises(ChainError, match="no retirement 999"):
        make_retirement_bundle(chain, world.folder / "archive", 999, tmp_path / "x.zip")
    with pytest.raises(ArchiveError, match="is not here"):
        make_retirement_bundle(chain, tmp_path, 1, tmp_path / "x.zip")
    damaged = replace(world.archive, problem="it was changed")
    with pytest.raises(ArchiveError, match="it was changed"):
        make_statement_bundle(chain, damaged, damaged.records[0], tmp_path / "x.zip")
    stranger = write_archive(tmp_path, [nodes.day_statement(9, 0)], visibility=Visibility.PUBLIC, policy={})
    with pytest.raises(ChainError, match="not notarized"):
        make_statement_bundle(chain, stranger, stranger.records[0], tmp_path / "x.zip")
    assert not (tmp_path / "x.zip").exists()


# -- chains of another kind -----------------------------------------------------------------------------


class Altered:
    """A node's answers with something changed on the way."""

    def __init__(self, chain, **changes):
        self._chain, self._changes = chain, changes

    def __getattr__(self, name):
        return getattr(self._chain, name)

    def request(self, method, *params):
        answer = self._chain.request(method, *params)
        return self._changes[method](answer) if method in self._changes else answer


def no_such_method(answer):
    raise ChainError("the node answered: method not found")


def test_statement_bundle_foreign_headers_says_so_and_a_node_still_verifies(world, tmp_path):
    chain = Altered(world.node.chain(), eth_getBlockByHash=lambda block: {**block, "extraData": "0x1234"})
    path = make_statement_bundle(chain, world.archive, world.archive.records[0], tmp_path / "foreign.zip")
    code, answer = run(path)
    assert (code, verdicts(answer)) == (3, OFFLINE)
    assert "do not hash to their block hashes" in answer["verdicts"]["finality"]["reason"]
    assert judged(path, "--rpc", world.node.url, "--confirmations", "1") == (0, ONLINE)
    anchors = [part for one in answer["blocks"] for part in ("--anchor", one["hash"])]
    assert judged(path, *anchors) == (3, OFFLINE)

    def forge(transactions):
        transactions[0]["receipt"] = transactions[0]["receipt"].replace(
            world.archive.root.hex(), world.private.root.hex()
        )

    forged = resealed(path, tmp_path / "forged.zip", transactions=forge)
    assert judged(forged, "--rpc", world.node.url, "--confirmations", "1")[0] == 1


def test_statement_bundle_node_without_block_receipts_gives_the_same_bytes(world, tmp_path):
    chain = Altered(world.node.chain(), eth_getBlockReceipts=no_such_method)
    path = make_statement_bundle(chain, world.archive, world.archive.records[0], tmp_path / "b.zip")
    assert path.read_bytes() == world.statement.read_bytes()


def test_statement_bundle_unknown_transaction_type_is_asked_from_the_node(world, tmp_path):
    def renamed(block):
        return {**block, "transactions": [{**one, "type": "0x7e"} for one in block["transactions"]]}

    chain = Altered(world.node.chain(), eth_getBlockByHash=renamed)
    path = make_statement_bundle(chain, world.archive, world.archive.records[0], tmp_path / "b.zip")
    assert path.read_bytes() == world.statement.read_bytes()


# -- with a node that says otherwise, or nothing --------------------------------------------------------


def test_verify_node_gone_is_cannot_check(world):
    code, answer = run(world.statement, "--rpc", f"http://127.0.0.1:{nodes.free_port()}")
    assert (code, verdicts(answer)) == (3, {**dict.fromkeys(OFFLINE, "cannot check"), "data": "verified"})
    assert "no usable answer" in answer["verdicts"]["inclusion"]["reason"]


def test_verify_node_of_another_chain_is_cannot_check(world, tmp_path):
    with nodes.anvil(tmp_path, chain_id=77) as other:
        code, answer = run(world.statement, "--rpc", other.url)
    assert (code, answer["verdicts"]["finality"]["verdict"]) == (3, "cannot check")
    assert "another chain" in answer["verdicts"]["finality"]["reason"]


def test_verify_not_yet_final_is_not_final(world):
    found = judged(world.statement, "--rpc", world.node.url, "--confirmations", "100000")
    assert found == (3, {**ONLINE, "finality": "not final"})


def test_verify_before_and_after_revocation_reorganisation_and_finality(tmp_path):
    with nodes.anvil(tmp_path) as node:
        chain = node.chain()
        nodes.register_device(node, 1, node.w3.eth.accounts[1])
        before = node.rpc("evm_snapshot")
        batch = nodes.sealed_batch(chain, tmp_path / "a", [nodes.day_statement(1, 0), nodes.day_statement(1, 1)])
        nodes.notarize(node, chain, batch)
        archive = read_archive(tmp_path / "a", batch.root)
        path = make_statement_bundle(chain, archive, archive.records[0], tmp_path / "b.zip")
        shown = ("--rpc", node.url)
        assert judged(path, *shown) == (3, {**ONLINE, "finality": "not final"})
        node.rpc("anvil_mine", "0x80")
        assert judged(path, *shown) == (0, ONLINE)
        node.act("Notary", "revoke", batch.root, "a reason")
        assert judged(path, *shown) == (1, {**ONLINE, "inclusion": "revoked"})
        node.act("Notary", "removeSigner", node.witnesses[0].address, "a reason")
        assert judged(path, *shown)[1]["authority"] == "verified"
        node.rpc("evm_revert", before)
        assert judged(path, *shown)[1] == {
            "data": "verified",
            "inclusion": "not found",
            "finality": "not found",
            "authority": "verified",
        }


@pytest.mark.parametrize(
    "answer", [b"", b"{", b"[]", b"null", b'{"result": null}', b'{"result": "0x"}', b'{"error": {"message": "no"}}']
)
def test_verify_node_that_answers_nonsense_is_cannot_check(world, answer, monkeypatch):
    class Response:
        def read(self, most):
            return answer

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

    monkeypatch.setattr(verify.urllib.request, "urlopen", lambda *_, **__: Response())
    code, found = judged(world.statement, "--rpc", "http://127.0.0.1:1")
    assert (code, found) == (3, {**dict.fromkeys(OFFLINE, "cannot check"), "data": "verified"})


@pytest.mark.parametrize(
    ("signature", "change", "expected"),
    [
        ("signerSet(uint16)", lambda v: [v[0], v[1], v[2] - 10, v[2] - 5], {"authority": "mismatch"}),  # ended before
        ("signerSet(uint16)", lambda v: [v[0], v[1], 2**40 - 1, 0], {"authority": "mismatch"}),  # began after
        ("signerSet(uint16)", lambda v: [v[0][:2], *v[1:]], {"authority": "mismatch"}),
        ("signerSet(uint16)", lambda v: [v[0], 3, *v[2:]], {"authority": "mismatch"}),
        ("notary()", lambda v: [bytes(20)], {"authority": "mismatch"}),
        ("notarization(bytes32)", lambda v: [0] * 8, {"inclusion": "not found"}),
        ("notarization(bytes32)", lambda v: [*v[:4], v[4] + 1, *v[5:]], {"inclusion": "mismatch"}),
        ("notarization(bytes32)", lambda v: [*v[:6], 2, v[7]], {"inclusion": "revoked"}),
    ],
)
def test_verify_chain_that_says_otherwise_is_what_it_says(world, monkeypatch, signature, change, expected):
    call = verify.Node.call

    def changed_call(self, contract, called, *rest):
        values = call(self, contract, called, *rest)
        return change(values) if called == signature else values

    monkeypatch.setattr(verify.Node, "call", changed_call)
    found = judged(world.statement, "--rpc", world.node.url, "--confirmations", "1")
    assert found == (1, {**ONLINE, **expected})


def test_verify_other_code_on_the_chain_is_mismatch(tmp_path, world):
    def change(manifest):
        manifest["contracts"]["DeviceRegistry"]["codeHash"] = "0x" + "12" * 32

    path = resealed(world.statement, tmp_path / "x.zip", manifest=change)
    found = judged(path, "--rpc", world.node.url, "--confirmations", "1")
    assert found == (1, {**ONLINE, "authority": "mismatch"})


def test_verify_block_that_is_no_longer_canonical_is_not_found(world, monkeypatch):
    block = verify.Node.block

    def forked(self, by, name):
        number, hashed = block(self, by, name)
        return (number, bytes(32)) if by == "Number" and name.startswith("0x") else (number, hashed)

    monkeypatch.setattr(verify.Node, "block", forked)
    found = judged(world.statement, "--rpc", world.node.url, "--confirmations", "1")
    assert found == (1, {**ONLINE, "finality": "not found"})


def test_verify_rpc_of_another_scheme_is_refused(world):
    assert judged(world.statement, "--rpc", "file:///etc/passwd")[0] == 2


# -- damage and forgery ---------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_verify_any_flipped_bit_of_the_zip_is_refused(world, tmp_path, data):
    content = bytearray(world.statement.read_bytes())
    at = data.draw(st.integers(0, 8 * len(content) - 1))
    content[at // 8] ^= 1 << at % 8
    (tmp_path / "x.zip").write_bytes(content)
    assert judged(tmp_path / "x.zip")[0] == 2


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_verify_any_flipped_bit_of_any_member_in_a_folder_is_refused(world, tmp_path, data):
    members = verify.read_zip(world.retirement.read_bytes())
    name = data.draw(st.sampled_from(sorted(members)))
    at = data.draw(st.integers(0, 8 * len(members[name]) - 1))
    damaged = bytearray(members[name])
    damaged[at // 8] ^= 1 << at % 8
    folder = tmp_path / "folder"
    shutil.rmtree(folder, ignore_errors=True)
    for each, content in {**members, name: bytes(damaged)}.items():
        (folder / each).parent.mkdir(parents=True, exist_ok=True)
        (folder / each).write_bytes(content)
    assert judged(folder)[0] == 2


def leaves(value, path=()):
    """Paths to every text and number in a JSON value."""
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        return [leaf for key, inner in pairs for leaf in leaves(inner, (*path, key))]
    return [path] if value is not None else []


def changed(value, draw):
    """One digit of it another one."""
    if isinstance(value, int):
        return value ^ 1 << draw(st.integers(0, 20))
    first = 2 if value.startswith("0x") else 0
    if len(value) <= first:
        return value + "00"
    at = draw(st.integers(first, len(value) - 1))
    digits = "0123456789abcdef" if first else "0123456789"
    return value[:at] + draw(st.sampled_from([digit for digit in digits if digit != value[at]])) + value[at + 1 :]


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_verify_any_digit_changed_by_a_forger_who_reseals_is_noticed(world, tmp_path, fast, data):
    source = getattr(world, data.draw(st.sampled_from(KINDS)))
    name = data.draw(st.sampled_from(["statements", "transactions"]))

    def edit(value):
        *path, last = data.draw(st.sampled_from(leaves(value)))
        inner = value
        for key in path:
            inner = inner[key]
        inner[last] = changed(inner[last], data.draw)

    code, found = judged(resealed(source, tmp_path / "x.zip", **{name: edit}))
    assert code == 2 or (code == 1 and BAD & set(found.values())), (code, found)


def set_chain_id(manifest):
    manifest["chainId"] += 1


def set_notary(manifest):
    manifest["contracts"]["Notary"]["address"] = manifest["contracts"]["EnergyCertificate"]["address"]


def drop_notary(manifest):
    del manifest["contracts"]["Notary"]


def set_retirement(manifest):
    manifest["subject"] = {"kind": "retirement", "id": "2"}


def other_outcome(manifest):
    manifest["subject"]["id"] = str(int(manifest["subject"]["id"]) + (1 << 224))


def of_certificates(manifest):
    manifest["subject"] = {"kind": "retirement", "id": "2"}


def unknown_kind(manifest):
    manifest["subject"]["kind"] = "promise"


def no_retirement(manifest):
    manifest["subject"]["id"] = None


def more_energy(statements):
    statements[0]["statement"]["energyWh"] = "4801"


def no_readings(statements):
    statements[0]["readings"] = None


def one_statement_less(statements):
    return statements[1:]


def one_statement_twice(statements):
    return [*statements, statements[0]]


def no_notarization(transactions):
    return [one for one in transactions if verify.NOTARIZE.hex() not in one["transaction"]]


def no_proofs(transactions):
    return [{**one, "proof": None, "unproven": "trust me"} for one in transactions]


def proof_and_excuse(transactions):
    return [{**one, "unproven": "trust me"} for one in transactions]


def reverted(transactions):
    """As if every call had failed, without the proofs that say otherwise."""
    changed = no_proofs(transactions)
    for one in changed:
        receipt = bytes.fromhex(one["receipt"][2:])
        fields = verify.rlp_decode(receipt[1:] if receipt[0] < 0x80 else receipt)
        one["receipt"] = "0x" + verify.rlp_encode([b"", *fields[1:]]).hex()
    return changed


def nothing(value):
    return []


@pytest.mark.parametrize(
    ("kind", "member", "edit", "expected"),
    [
        ("statement", "manifest", set_chain_id, (1, {**OFFLINE, "authority": "mismatch"})),
        ("statement", "manifest", set_notary, (1, dict.fromkeys(OFFLINE, "not found"))),
        ("statement", "manifest", drop_notary, 2),
        ("outcome", "manifest", other_outcome, (1, {**OFFLINE, "inclusion": "not found"})),
        ("outcome_retirement", "manifest", of_certificates, (1, {**OFFLINE, "inclusion": "not found"})),
        ("outcome_retirement", "statements", one_statement_less, (1, {**OFFLINE, "inclusion": "mismatch"})),
        ("certificate", "manifest", unknown_kind, 2),
        ("statement", "manifest", set_retirement, (1, {**OFFLINE, "inclusion": "not found"})),
        ("retirement", "manifest", set_retirement, (1, {**OFFLINE, "inclusion": "not found"})),
        ("retirement", "manifest", no_retirement, 2),
        ("statement", "statements", more_energy, (1, {**OFFLINE, "data": "mismatch", "inclusion": "mismatch"})),
        ("statement", "statements", no_readings, (3, {**OFFLINE, "data": "cannot check"})),
        ("retirement", "statements", one_statement_less, (1, {**OFFLINE, "inclusion": "mismatch"})),
        ("statement", "statements", one_statement_twice, 2),
        ("statement", "statements", nothing, 2),
        ("statement", "transactions", no_notarization, (1, dict.fromkeys(OFFLINE, "not found"))),
        ("statement", "transactions", no_proofs, (3, OFFLINE)),
        ("statement", "transactions", reverted, (1, dict.fromkeys(OFFLINE, "not found"))),
        ("statement", "transactions", proof_and_excuse, 2),
    ],
    ids=lambda part: getattr(part, "__name__", None),
)  # fmt: skip
def test_verify_forged_and_resealed_is_what_it_is(world, tmp_path, fast, kind, member, edit, expected):
    found = judged(resealed(getattr(world, kind), tmp_path / "x.zip", **{member: edit}))
    assert found == expected or found[0] == expected


def test_verify_other_readings_of_the_same_energy_are_mismatch(world, tmp_path, fast):
    def other_salt(statements):
        statements[0]["readings"]["salts"] = ["0x" + "12" * 32]

    path = resealed(world.statement, tmp_path / "x.zip", statements=other_salt)
    assert judged(path) == (1, {**OFFLINE, "data": "mismatch"})


@pytest.mark.parametrize(
    "what",
    ["amount retired", "start of the batch", "profile hash issued", "grams retired", "factor", "grams converted"],
)
def test_verify_events_rewritten_without_their_proofs_are_mismatch(world, tmp_path, fast, what):
    """Whoever leaves the proofs out can write any event; it still has to fit the statements."""
    hashed = world.archive.records[0].statement.profile_hash
    old, new = {
        "amount retired": ((500).to_bytes(32, "big"), (4801).to_bytes(32, "big")),
        "start of the batch": (nodes.FIRST_DAY.to_bytes(32, "big"), (nodes.FIRST_DAY + 1).to_bytes(32, "big")),
        "profile hash issued": (hashed, bytes(32)),
        "grams retired": ((300).to_bytes(32, "big"), (701).to_bytes(32, "big")),
        "factor": ((700_000).to_bytes(32, "big"), (710_000).to_bytes(32, "big")),
        "grams converted": ((280).to_bytes(32, "big"), (281).to_bytes(32, "big")),
    }[what]
    rewritten = []

    def edit(transactions):
        for one in no_proofs(transactions):
            changed = {**one, "receipt": one["receipt"].replace(old.hex(), new.hex())}
            rewritten.append(changed)
        return rewritten

    source = {
        "amount retired": world.retirement,
        "start of the batch": world.statement,
        "profile hash issued": world.statement,
    }
    path = resealed(source.get(what, world.outcome_retirement), tmp_path / "x.zip", transactions=edit)
    assert any(new.hex() in one["receipt"] for one in rewritten)
    code, found = judged(path)
    assert (code, found["inclusion"]) == (1, "mismatch")


def test_verify_transaction_damaged_past_recognition_is_mismatch(world, tmp_path, fast):
    """Its events are no longer known as ours, and it is still not passed over."""
    for topic, name in verify.TOPICS.items():
        if name in ("Issued", "SignersSet"):

            def edit(transactions, topic=topic):
                return [
                    {**one, "receipt": one["receipt"].replace(topic.hex(), bytes(32).hex())} for one in transactions
                ]

            code, found = judged(resealed(world.statement, tmp_path / "x.zip", transactions=edit))
            assert (code, found["finality"]) == (1, "mismatch")


@pytest.mark.parametrize("what", ["signer of the event", "signer of the set", "threshold of the set"])
def test_verify_witnesses_rewritten_without_their_proofs_are_mismatch(world, tmp_path, fast, what):
    signer = int(world.node.witnesses[0].address, 16).to_bytes(32, "big")
    topics = {name: topic.hex() for topic, name in verify.TOPICS.items()}
    event, old, new = {
        "signer of the event": ("Notarized", signer, signer[:-1] + bytes((signer[-1] ^ 1,))),
        "signer of the set": ("SignersSet", signer, signer[:-1] + bytes((signer[-1] ^ 1,))),
        "threshold of the set": ("SignersSet", (2).to_bytes(32, "big"), (3).to_bytes(32, "big")),
    }[what]

    def edit(transactions):
        rewritten = no_proofs(transactions)
        for one in rewritten:
            if topics[event] in one["receipt"]:
                assert old.hex() in one["receipt"]
                one["receipt"] = one["receipt"].replace(old.hex(), new.hex())
        return rewritten

    path = resealed(world.statement, tmp_path / "x.zip", transactions=edit)
    assert judged(path) == (1, {**OFFLINE, "authority": "mismatch"})
    code, found = judged(path, "--rpc", world.node.url, "--confirmations", "1")
    assert (code, found["authority"]) == (1, "mismatch")
    assert found["finality"] == ("not found" if event == "Notarized" else "verified")


def test_verify_archive_of_another_batch_is_mismatch(world, tmp_path, fast):
    def swap(members):
        name = next(name for name in members if name.startswith("archives/") and name.endswith(".json"))
        members[name] = members[name].replace(b'"rules":"test"', b'"rules":"lax"')

    def swap_texts(members):
        name = next(name for name in members if name.endswith(".assessments"))
        members[name] = members[name].replace(b"corroborated", b"Corroborated", 1)

    for edit in (swap, swap_texts):
        assert judged(resealed(world.statement, tmp_path / "x.zip", members=edit)) == (
            1,
            {**OFFLINE, "data": "mismatch"},
        )


def test_verify_witnesses_of_the_forgers_own_are_noticed_with_a_node(world, tmp_path):
    """A whole forged chain: everything fits inside the bundle, only the chain knows better."""
    (tmp_path / "forger").mkdir()
    with nodes.anvil(tmp_path / "forger") as node:
        chain = node.chain()
        nodes.register_device(node, 1, node.w3.eth.accounts[1])
        batch = nodes.sealed_batch(chain, tmp_path / "a", [nodes.day_statement(1, 0, slot_wh=200)])
        nodes.notarize(node, chain, batch)
        archive = read_archive(tmp_path / "a", batch.root)
        path = make_statement_bundle(chain, archive, archive.records[0], tmp_path / "b.zip")
    assert judged(path) == (3, OFFLINE)
    code, found = judged(path, "--rpc", world.node.url, "--confirmations", "1")
    assert code == 1
    assert found == {"data": "verified", "inclusion": "not found", "finality": "not found", "authority": "mismatch"}


def test_read_members_hostile_folder_is_refused(world, tmp_path):
    with zipfile.ZipFile(world.statement) as archive:
        archive.extractall(tmp_path)
    (tmp_path / "statements.json").unlink()
    os.symlink("/etc/passwd", tmp_path / "statements.json")
    assert judged(tmp_path)[0] == 2
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["members"]["../../etc/passwd"] = manifest["members"].pop("statements.json")
    manifest["seal"] = verify.seal(manifest)
    (tmp_path / "manifest.json").write_bytes(verify.canonical(manifest))
    assert judged(tmp_path)[0] == 2


def test_statement_bundle_node_gone_raises_unreachable(world, tmp_path):
    chain = world.node.chain()
    gone = type(chain)(replace(world.node.config, rpc_urls=(f"http://127.0.0.1:{nodes.free_port()}",)))
    with pytest.raises(ChainUnreachable):
        make_statement_bundle(gone, world.archive, world.archive.records[0], tmp_path / "x.zip")


# -- the command that writes one --------------------------------------------------------------------------


def test_bundle_command_writes_what_the_script_verifies(world, tmp_path, monkeypatch):
    day = utc_date(world.archive.records[0].statement.start)
    settings = SimpleNamespace(network=world.node.config, archive_folder=world.folder / "archive")
    monkeypatch.setattr(cli.Desk, "config", settings)

    def command(*arguments):
        return CliRunner().invoke(cli.cli, ["bundle", *arguments, "--out", str(tmp_path / "b.zip"), "--json"])

    for kind, what, same in (("statement", f"1/{day}", world.statement), ("retirement", "1", world.retirement)):
        shown = command(kind, what)
        assert shown.exit_code == 0, shown.output
        assert json.loads(shown.output)["bytes"] == same.stat().st_size
        assert (tmp_path / "b.zip").read_bytes() == same.read_bytes()
    assert command("statement", f"9/{day}").exit_code != 0
    assert command("retirement", "one").exit_code == 2


def test_bundle_command_for_the_holder_of_a_private_device_adds_readings(world, tmp_path, monkeypatch):
    record = world.private.records[0]
    monkeypatch.setattr(
        cli.Desk, "config", SimpleNamespace(network=world.node.config, archive_folder=world.folder / "private")
    )
    for option, there in ((), False), (("--with-readings",), True):
        arguments = [
            "bundle",
            "statement",
            f"2/{utc_date(record.statement.start)}",
            "--out",
            str(tmp_path / "b.zip"),
            *option,
        ]
        shown = CliRunner().invoke(cli.cli, arguments)
        assert shown.exit_code == 0, shown.output
        assert (record.salts.hex().encode() in (tmp_path / "b.zip").read_bytes()) is there
