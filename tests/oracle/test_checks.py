"""The four verdicts, against real contracts: each flip of a byte changes exactly the verdict it should."""

from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests

from oracle.archive import read_archive
from oracle.chain import ChainView
from oracle.checks import ChainFacts, StatementEvidence, check, check_archive, check_batch, gather
from oracle.domain import Verdict
from oracle.errors import ChainUnreachable
from tests.oracle import nodes

VERDICTS = ("data", "inclusion", "finality", "authority")


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with nodes.anvil(tmp_path_factory.mktemp("anvil")) as running:
        yield running


@pytest.fixture(scope="module")
def chain(node):
    return node.chain()


@pytest.fixture
def folder(node, chain, tmp_path):
    """An archive of five statements, notarized."""
    batch = nodes.sealed_batch(chain, tmp_path, [nodes.day_statement(device, 3) for device in range(1, 6)])
    nodes.notarize(node, chain, batch)
    return tmp_path


@pytest.fixture
def evidence(chain, folder):
    """Everything that can be shown about the third statement, claims about the chain included."""
    root = bytes.fromhex(next(folder.glob("*.parquet")).stem)
    archive = read_archive(folder, root)
    event = chain.find_notarization(root)
    return replace(
        gather(archive, archive.records[2]), transaction=event.transaction, signer_set=chain.signer_set(1).signers
    )


def verdicts(result):
    return {name: getattr(result, name).verdict for name in VERDICTS}


def only(**changed):
    return dict.fromkeys(VERDICTS, Verdict.VERIFIED) | changed


def flip(data: bytes, at: int = 0) -> bytes:
    return data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]


def test_check_untouched_evidence_all_verified_with_figures(chain, evidence):
    result = check(evidence, chain)
    assert verdicts(result) == only()
    assert result.headline == Verdict.VERIFIED
    # 48 slots of 100 Wh between 06:00 and 18:00 of a day of 96 certified slots.
    assert result.data.evidence["certified_wh"] == 4_800 and result.data.evidence["certified_slots"] == 96
    assert result.authority.evidence["signers"] == list(chain.find_notarization(evidence.root).signers)
    assert result.authority.evidence["threshold"] == 2


@pytest.mark.parametrize("at", [3, 4, 120, 479])
def test_check_profile_byte_flipped_only_data_mismatches(chain, evidence, at):
    altered = replace(evidence.record, profile=flip(evidence.record.profile, at))
    assert verdicts(check(replace(evidence, record=altered), chain)) == only(data=Verdict.MISMATCH)


def test_check_salt_byte_flipped_only_data_mismatches(chain, evidence):
    altered = replace(evidence.record, salts=flip(evidence.record.salts, 31))
    assert verdicts(check(replace(evidence, record=altered), chain)) == only(data=Verdict.MISMATCH)


@pytest.mark.parametrize("node_index", [0, 1])
def test_check_proof_byte_flipped_only_inclusion_mismatches(chain, evidence, node_index):
    proof = list(evidence.proof)
    proof[node_index] = flip(proof[node_index], 7)
    assert verdicts(check(replace(evidence, proof=tuple(proof)), chain)) == only(inclusion=Verdict.MISMATCH)


def test_check_transaction_byte_flipped_only_finality_is_not_found(chain, evidence):
    altered = replace(evidence, transaction=flip(evidence.transaction, 15))
    assert verdicts(check(altered, chain)) == only(finality=Verdict.NOT_FOUND)


def test_check_another_transaction_only_finality_mismatches(chain, evidence):
    deployment = chain.book.contracts["Notary"].transaction
    assert verdicts(check(replace(evidence, transaction=deployment), chain)) == only(finality=Verdict.MISMATCH)


@pytest.mark.parametrize("member", [0, 1, 2])
def test_check_signer_set_byte_flipped_only_authority_mismatches(chain, evidence, member):
    shown = list(evidence.signer_set)
    shown[member] = "0x" + flip(bytes.fromhex(shown[member][2:]), 19).hex()
    assert verdicts(check(replace(evidence, signer_set=tuple(shown)), chain)) == only(authority=Verdict.MISMATCH)


def test_check_shown_signature_byte_flipped_only_authority_mismatches(node, chain, evidence):
    batch = chain.find_notarization(evidence.root).batch
    signed = nodes.signatures(chain, batch, node.witnesses[:2])
    assert verdicts(check(replace(evidence, signatures=tuple(signed)), chain)) == only()
    for at in (0, 40, 64):
        forged = (flip(signed[0], at), signed[1])
        assert verdicts(check(replace(evidence, signatures=forged), chain)) == only(authority=Verdict.MISMATCH)


def test_check_one_shown_signature_twice_is_too_few(node, chain, evidence):
    batch = chain.find_notarization(evidence.root).batch
    twice = tuple(nodes.signatures(chain, batch, node.witnesses[:1]) * 2)
    result = check(replace(evidence, signatures=twice), chain)
    assert result.authority.verdict == Verdict.MISMATCH and "1 appointed" in result.authority.reason


def test_check_more_energy_stated_mismatches_data_and_inclusion(chain, evidence):
    boasting = replace(evidence.record, statement=replace(evidence.record.statement, energy_wh=4_801))
    result = check(replace(evidence, record=boasting), chain)
    assert verdicts(result) == only(data=Verdict.MISMATCH, inclusion=Verdict.MISMATCH)
    assert "4800 Wh" in result.data.reason and "4801 Wh" in result.data.reason


def flip_profile_on_disk(parquet, row: int, at: int) -> None:
    """One byte of one archived profile: written by pyarrow, because the column is compressed in the file."""
    table = pq.read_table(parquet)
    profiles = table["profile"].to_pylist()
    profiles[row] = flip(profiles[row], at)
    column = table.schema.get_field_index("profile")
    altered = table.set_column(column, table.schema.field(column), pa.array(profiles, pa.binary()))
    pq.write_table(altered, parquet, compression="zstd")


def test_check_one_byte_flipped_in_turn_in_archive_proof_transaction_and_signer_set_exactly_that_verdict_changes(
    chain, folder, evidence
):
    parquet = next(folder.glob("*.parquet"))
    root, whole = evidence.root, parquet.read_bytes()

    def on_disk():
        archive = read_archive(folder, root)
        claims = {"transaction": evidence.transaction, "signer_set": evidence.signer_set}
        return replace(gather(archive, archive.records[2]), **claims)

    assert verdicts(check(on_disk(), chain)) == only()

    # Archive, a salt: it stands uncompressed in the file.
    parquet.write_bytes(flip(whole, whole.index(evidence.record.salts)))
    assert on_disk().record == replace(evidence.record, salts=flip(evidence.record.salts))
    assert verdicts(check(on_disk(), chain)) == only(data=Verdict.MISMATCH)
    # Archive, a reading. All statements of a file that is not the notarized one are told so.
    flip_profile_on_disk(parquet, 2, 123)
    parquet_flipped = on_disk()
    assert parquet_flipped.record.statement == evidence.record.statement
    assert verdicts(check(parquet_flipped, chain)) == only(data=Verdict.MISMATCH)
    assert [verdicts(found.result) for found in check_batch(folder, root, chain)] == [only(data=Verdict.MISMATCH)] * 5
    parquet.write_bytes(whole)

    untouched = on_disk()
    assert verdicts(check(untouched, chain)) == only()
    proof = replace(untouched, proof=(flip(untouched.proof[0]), *untouched.proof[1:]))
    assert verdicts(check(proof, chain)) == only(inclusion=Verdict.MISMATCH)
    transaction = replace(untouched, transaction=flip(untouched.transaction))
    assert verdicts(check(transaction, chain)) == only(finality=Verdict.NOT_FOUND)
    member = "0x" + flip(bytes.fromhex(untouched.signer_set[0][2:])).hex()
    signer_set = replace(untouched, signer_set=(member, *untouched.signer_set[1:]))
    assert verdicts(check(signer_set, chain)) == only(authority=Verdict.MISMATCH)


def test_check_batch_byte_of_parquet_flipped_each_verdict_by_what_can_still_be_read(chain, folder):
    parquet = next(folder.glob("*.parquet"))
    root, whole = bytes.fromhex(parquet.stem), parquet.read_bytes()
    stated = [record.statement for record in read_archive(folder, root).records]
    hash_column = whole.index(stated[2].profile_hash)
    seen = set()
    for at in (hash_column, *range(0, len(whole), max(1, len(whole) // 25))):
        parquet.write_bytes(flip(whole, at))
        checks = check_batch(folder, root, chain)
        if checks[0].device_id is None:
            # Which statement it was is not known any more: nothing to look for under the root.
            (found,) = checks
            assert verdicts(found.result) == only(data=Verdict.MISMATCH, inclusion=Verdict.CANNOT_CHECK), at
            assert "damaged" in found.result.data.reason and "not readable" in found.result.data.reason
            assert "the statement is not known" in found.result.inclusion.reason
            seen.add("unreadable")
            continue
        kept = [record.statement for record in read_archive(folder, root).records] == stated
        inclusion = Verdict.VERIFIED if kept else Verdict.MISMATCH
        for found in checks:
            assert verdicts(found.result) == only(data=Verdict.MISMATCH, inclusion=inclusion), at
        seen.add("statements kept" if kept else "a statement changed")
    assert seen == {"unreadable", "statements kept", "a statement changed"}


def test_check_batch_manifest_byte_flipped_only_data_mismatches(chain, folder):
    manifest = next(folder.glob("*.json"))
    root, text = bytes.fromhex(manifest.stem), manifest.read_bytes()
    at = text.index(b'"rules":"test"') + 10
    manifest.write_bytes(flip(text, at))
    for found in check_batch(folder, root, chain):
        assert verdicts(found.result) == only(data=Verdict.MISMATCH)
        assert "manifest" in found.result.data.reason


def test_check_batch_missing_archive_cannot_check_data(chain, folder):
    parquet = next(folder.glob("*.parquet"))
    parquet.unlink()
    (found,) = check_batch(folder, bytes.fromhex(parquet.stem), chain)
    assert verdicts(found.result) == only(data=Verdict.CANNOT_CHECK, inclusion=Verdict.CANNOT_CHECK)
    assert parquet.name in found.result.data.reason


def test_check_never_notarized_is_not_found(chain, tmp_path):
    batch = nodes.sealed_batch(chain, tmp_path, [nodes.day_statement(9, 9)])
    archive = read_archive(tmp_path, batch.root)
    found = verdicts(check(gather(archive, archive.records[0]), chain))
    assert found == dict.fromkeys(VERDICTS, Verdict.NOT_FOUND) | {"data": Verdict.VERIFIED}


def test_check_revoked_root_only_inclusion_says_revoked(node, chain, evidence):
    node.act("Notary", "revoke", evidence.root, "meter was bypassed")
    result = check(evidence, chain)
    assert verdicts(result) == only(inclusion=Verdict.REVOKED)
    assert result.headline == Verdict.REVOKED


def test_check_node_unreachable_cannot_check_what_needs_the_chain(node, evidence):
    silent = ChainView(replace(node.config, rpc_urls=(f"http://127.0.0.1:{nodes.free_port()}",)))
    result = check(evidence, silent)
    assert verdicts(result) == dict.fromkeys(VERDICTS, Verdict.CANNOT_CHECK) | {"data": Verdict.VERIFIED}
    assert "no answer" in result.finality.reason and "not compared" in result.data.reason


def test_check_many_with_a_silent_node_wait_once(node, folder, monkeypatch):
    """All five checks together wait as often as one look at such a node does."""
    waits = []
    monkeypatch.setattr("oracle.nodes.time.sleep", waits.append)
    alone, silent = (
        ChainView(replace(node.config, rpc_urls=(f"http://127.0.0.1:{nodes.free_port()}",))) for _ in range(2)
    )
    with pytest.raises(ChainUnreachable):
        alone.head()
    once = len(waits)
    found = check_archive(folder, silent)
    assert len(found) == 5 and len(waits) == 2 * once > 0
    assert {check.result.inclusion.verdict for check in found} == {Verdict.CANNOT_CHECK}


def test_check_node_of_another_chain_cannot_check(tmp_path, node, evidence):
    other = tmp_path / "other"
    other.mkdir()
    with nodes.anvil(other, chain_id=777) as stranger:
        result = check(evidence, ChainView(replace(node.config, rpc_urls=(stranger.url,))))
    assert verdicts(result) == dict.fromkeys(VERDICTS, Verdict.CANNOT_CHECK) | {"data": Verdict.VERIFIED}
    assert "chain 777" in result.inclusion.reason


def test_check_not_yet_final_only_finality_says_so(node, evidence):
    patient = node.chain(finality_depth=2)
    assert verdicts(check(evidence, patient)) == only(finality=Verdict.NOT_FINAL)
    node.rpc("anvil_mine", "0x2")
    assert verdicts(check(evidence, patient)) == only()


def test_check_reorganised_away_is_not_found_and_found_again_when_back(node, chain, tmp_path):
    batch = nodes.sealed_batch(chain, tmp_path, [nodes.day_statement(11, 2)])
    archive = read_archive(tmp_path, batch.root)
    shown = gather(archive, archive.records[0])
    facts = ChainFacts(chain)
    snapshot = node.rpc("evm_snapshot")
    receipt = nodes.notarize(node, chain, batch)
    claim = replace(shown, transaction=bytes(receipt["transactionHash"]))
    assert verdicts(check(claim, facts)) == only()
    node.rpc("evm_revert", snapshot)
    node.rpc("anvil_mine", "0x3")
    gone = dict.fromkeys(VERDICTS, Verdict.NOT_FOUND) | {"data": Verdict.VERIFIED}
    assert verdicts(check(claim, chain)) == gone
    nodes.notarize(node, chain, batch)
    assert verdicts(check(shown, chain)) == only()


def test_check_facts_pinned_to_a_block_that_vanished_are_read_anew(node, chain, tmp_path):
    batch = nodes.sealed_batch(chain, tmp_path, [nodes.day_statement(12, 2)])
    archive = read_archive(tmp_path, batch.root)
    shown = gather(archive, archive.records[0])
    snapshot = node.rpc("evm_snapshot")
    nodes.notarize(node, chain, batch)
    facts = ChainFacts(chain)
    facts.head()
    node.rpc("evm_revert", snapshot)
    node.rpc("anvil_mine", "0x3")
    assert check(shown, facts).inclusion.verdict == Verdict.NOT_FOUND


def test_check_signer_removed_later_was_in_office_then(tmp_path):
    with nodes.anvil(tmp_path) as node:
        chain = node.chain()
        batch = nodes.sealed_batch(chain, tmp_path, [nodes.day_statement(1, 1)])
        nodes.notarize(node, chain, batch)
        node.rpc("evm_increaseTime", 60)
        node.act("Notary", "removeSigner", node.witnesses[0].address, "key lost")
        archive = read_archive(tmp_path, batch.root)
        result = check(gather(archive, archive.records[0]), chain)
        assert verdicts(result) == only()
        assert node.witnesses[0].address in result.authority.evidence["signers"]
        assert chain.signer_set(1).until > 0 and len(chain.signer_set(2).signers) == 2


@pytest.mark.parametrize("field", ["device_id", "start", "duration", "energy_wh"])
def test_check_impossible_statement_mismatches_without_raising(chain, evidence, field):
    absurd = replace(evidence.record, statement=replace(evidence.record.statement, **{field: 2**70}))
    result = check(replace(evidence, record=absurd), chain)
    assert result.inclusion.verdict == Verdict.MISMATCH


def test_check_nothing_shown_cannot_check_data(chain, evidence):
    result = check(StatementEvidence(evidence.root, None), chain)
    assert verdicts(result) == only(data=Verdict.CANNOT_CHECK, inclusion=Verdict.CANNOT_CHECK)


def test_check_archive_of_many_batches_asks_the_node_no_more_often_than_of_few(node, tmp_path, monkeypatch):
    chain = node.chain()
    asked = []
    for day in range(40):
        folder = tmp_path / ("few" if day < 4 else "many")
        batch = nodes.sealed_batch(chain, folder, [nodes.day_statement(1, 500 + day)])
        nodes.notarize(node, chain, batch)
    for folder, statements in (("few", 4), ("many", 36)):
        chain, steps = node.chain(), []
        calls = []
        post = requests.Session.post
        monkeypatch.setattr(
            requests.Session, "post", lambda *a, calls=calls, post=post, **k: (calls.append(1), post(*a, **k))[1]
        )
        found = check_archive(
            tmp_path / folder, chain, lambda what, done, total, steps=steps: steps.append((done, total))
        )
        monkeypatch.undo()
        assert len(found) == statements and steps[-1] == (statements, statements)
        assert {str(verdicts(check.result)) for check in found} == {str(only())}
        asked.append(len(calls))
    assert 0 < asked[1] < asked[0] + 8, asked
