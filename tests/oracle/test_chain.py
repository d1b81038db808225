"""Reading the chain: what it says, what it does not say, and what must stop us."""

import json
import random
from dataclasses import replace

import pytest

from oracle.archive import read_archive
from oracle.chain import AddressBook, BlockGone, Chain, ChainView, Reverted, notarize_call
from oracle.domain import BatchStatus
from oracle.errors import ChainError, ChainUnreachable, ConfigError
from oracle.protocol import batch_fields, next_head, statement_fields, statement_leaf, token_id
from tests.oracle import nodes
from tests.oracle.proxy import proxy


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with nodes.anvil(tmp_path_factory.mktemp("anvil")) as running:
        yield running


@pytest.fixture(scope="module")
def chain(node):
    return node.chain()


@pytest.fixture
def notarized(node, chain, tmp_path):
    """A batch of two statements of one device, notarized by the first two witnesses."""
    device = random.getrandbits(63)
    batch = nodes.sealed_batch(chain, tmp_path, [nodes.day_statement(device, day) for day in (0, 1)])
    receipt = nodes.notarize(node, chain, batch)
    return batch, receipt


def test_open_right_network_reads_head(node, chain):
    assert chain.head().number == node.w3.eth.block_number
    assert chain.head().hash == bytes(node.w3.eth.get_block("latest")["hash"])


def test_open_other_chain_id_raises(node, tmp_path):
    book = json.loads(node.config.addresses.read_text()) | {"chainId": 7}
    (tmp_path / "7.json").write_text(json.dumps(book))
    with pytest.raises(ChainError, match=f"chain {nodes.CHAIN_ID}.*chain 7") as caught:
        ChainView.open(replace(node.config, chain_id=7, addresses=tmp_path / "7.json"))
    assert not isinstance(caught.value, ChainUnreachable)


def test_open_other_code_raises_with_contract(node, tmp_path):
    book = json.loads(node.config.addresses.read_text())
    book["contracts"]["Notary"]["codeHash"] = "0x" + "11" * 32
    (tmp_path / "book.json").write_text(json.dumps(book))
    with pytest.raises(ChainError, match="code of Notary"):
        ChainView.open(replace(node.config, addresses=tmp_path / "book.json"))


def test_open_no_contract_there_raises(node, tmp_path):
    book = json.loads(node.config.addresses.read_text())
    book["contracts"]["Notary"]["address"] = "0x" + "22" * 20
    (tmp_path / "book.json").write_text(json.dumps(book))
    with pytest.raises(ChainError, match="no contract Notary"):
        ChainView.open(replace(node.config, addresses=tmp_path / "book.json"))


def test_open_nobody_listens_raises_unreachable_without_url_secrets(node):
    silent = f"http://user:secret@127.0.0.1:{nodes.free_port()}/key-in-path"
    with pytest.raises(ChainUnreachable) as caught:
        ChainView.open(replace(node.config, rpc_urls=(silent,)))
    assert "secret" not in str(caught.value) and "key-in-path" not in str(caught.value)


def test_head_first_node_down_second_answers(node):
    down = f"http://127.0.0.1:{nodes.free_port()}"
    chain = ChainView.open(replace(node.config, rpc_urls=(down, node.url)))
    assert chain.head().number == node.w3.eth.block_number


@pytest.mark.parametrize("text", ["", "[]", '{"schema":"wattmark/addresses/2"}', '{"schema":"wattmark/addresses/1"}'])
def test_address_book_wrong_form_raises_config_error(tmp_path, text):
    path = tmp_path / "book.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"book\.json"):
        AddressBook.read(path)


def test_notarization_notarized_root_gives_the_signed_figures(chain, notarized):
    batch, _ = notarized
    record = chain.notarization(batch.root)
    assert record.status == BatchStatus.OPEN
    assert (record.energy_wh, record.statements, record.start, record.end) == (9_600, 2, batch.start, batch.end)


def test_notarization_unknown_root_is_none(chain):
    assert chain.notarization(b"\x01" * 32).status == BatchStatus.NONE
    assert chain.find_notarization(b"\x01" * 32) is None


def test_find_notarization_gives_event_transaction_and_block(node, chain, notarized):
    batch, receipt = notarized
    found = chain.find_notarization(batch.root)
    assert found is not None and found.batch == batch
    assert found.transaction == bytes(receipt["transactionHash"])
    assert (found.block_number, found.block_hash) == (receipt["blockNumber"], bytes(receipt["blockHash"]))
    assert found.signers == tuple(witness.address for witness in node.witnesses[:2])
    assert found.new_head == chain.call("Notary", "head")


def test_find_notarization_among_many_blocks_finds_each(node, chain, notarized, monkeypatch):
    monkeypatch.setattr("oracle.chain.LOG_RANGE_BLOCKS", 3)
    node.rpc("anvil_mine", hex(20))
    found = chain.find_notarization(notarized[0].root)
    assert found is not None and found.transaction == bytes(notarized[1]["transactionHash"])
    assert notarized[0].root in [event.batch.root for event in chain.notarized_events()]


def test_domain_and_head_agree_with_the_contract(chain, notarized):
    from oracle.protocol import batch_digest

    batch, _ = notarized
    digest = chain.call("Notary", "digest", batch_fields(batch))
    assert batch_digest(batch, chain.domain) == digest
    assert next_head(batch.head, digest) == chain.call("Notary", "head")


def test_signer_set_first_epoch_is_the_deployed_one(node, chain):
    signer_set = chain.signer_set(1)
    assert signer_set.signers == tuple(witness.address for witness in node.witnesses)
    assert (signer_set.threshold, signer_set.until) == (2, 0)
    assert signer_set.was_current_at(chain.head().time) and not signer_set.was_current_at(signer_set.since - 1)


def test_call_refused_decodes_error_with_names(chain):
    with pytest.raises(Reverted) as caught:
        chain.call("EnergyCertificate", "issue", b"\x05" * 32, (1, 0, 900, 0, 1, 0, b"\0" * 32), [])
    assert caught.value.reason == f"RootNotIssuable(root=0x{'05' * 32})"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            "08c379a00000000000000000000000000000000000000000000000000000000000000020"
            "00000000000000000000000000000000000000000000000000000000000000026e6f" + "00" * 30,
            "no",
        ),
        ("4e487b710000000000000000000000000000000000000000000000000000000000000011", "Panic(code=0x11)"),
        ("", "reverted without a reason"),
        ("deadbeef", "0xdeadbeef"),
    ],
)
def test_decode_error_other_reverts_in_words(chain, data, words):
    assert chain.decode_error(bytes.fromhex(data)) == words


def test_notarize_call_inside_another_call_is_found(node, chain, notarized):
    batch, receipt = notarized
    sent = chain.transaction(bytes(receipt["transactionHash"]))
    assert sent is not None
    direct = notarize_call(sent.input, batch.root)
    wrapped = notarize_call(b"\x12\x34\x56\x78" + sent.input, batch.root)
    assert direct == wrapped and direct is not None
    assert direct[0] == batch and len(direct[1]) == 2
    assert notarize_call(sent.input, b"\x01" * 32) is None


def test_call_block_reorganised_away_raises_block_gone(node, chain, tmp_path):
    gone = nodes.sealed_batch(chain, tmp_path, [nodes.day_statement(random.getrandbits(63), 0)])
    snapshot = node.rpc("evm_snapshot")
    nodes.notarize(node, chain, gone)
    head = chain.head()
    assert chain.notarization(gone.root, head).status == BatchStatus.OPEN
    assert chain.is_final(head.number, head.hash)
    node.rpc("evm_revert", snapshot)
    node.rpc("anvil_mine", hex(2))
    assert not chain.is_final(head.number, head.hash)
    with pytest.raises(BlockGone):
        chain.notarization(gone.root, head)
    assert chain.notarization(gone.root).status == BatchStatus.NONE


def test_is_final_by_depth_needs_that_many_blocks_on_top(node):
    chain = node.chain(finality_depth=2)
    head = chain.head()
    assert not chain.is_final(head.number, head.hash)
    node.rpc("anvil_mine", hex(2))
    assert chain.is_final(head.number, head.hash)


def test_is_final_by_tag_follows_the_node(node):
    chain = node.chain(finality_depth=None)
    head = chain.head()
    final = int(node.rpc("eth_getBlockByNumber", "finalized", False)["number"], 16)
    assert chain.final_number() == final
    assert not chain.is_final(head.number, head.hash)


def test_issued_ids_after_issue_holds_the_certificate(node, chain, tmp_path):
    owner, device = node.w3.eth.accounts[3], random.getrandbits(63)
    nodes.register_device(node, device, owner)
    batch = nodes.sealed_batch(chain, tmp_path, [nodes.day_statement(device, 0)])
    nodes.notarize(node, chain, batch)
    archive = read_archive(tmp_path, batch.root)
    statement = archive.records[0].statement
    assert not chain.is_certified(device, statement.start, statement.duration)
    node.act(
        "EnergyCertificate",
        "issue",
        batch.root,
        (device, statement.start, statement.duration, 0, 4_800, 0, statement.profile_hash),
        [],
    )
    certificate = token_id(device, statement.start, statement.duration)
    assert chain.issued_ids(batch.root) == [certificate]
    assert chain.balance_of(owner, certificate) == 4_800
    assert chain.is_certified(device, statement.start, statement.duration)


def test_certified_of_many_periods_gives_those_that_are_and_takes_unknown_devices_for_free(node, chain, tmp_path):
    """400 periods of which two are certified, asked for in a few requests; ``isCertified`` itself reverts for a stranger."""
    device, stranger = random.getrandbits(63), random.getrandbits(63)
    nodes.register_device(node, device, node.w3.eth.accounts[3])
    batch = nodes.sealed_batch(chain, tmp_path, [nodes.day_statement(device, day) for day in range(3)])
    nodes.notarize(node, chain, batch)
    before = chain.head()
    archive = read_archive(tmp_path, batch.root)
    for record in archive.records[:2]:
        proof = archive.tree.proof(statement_leaf(record.statement))
        node.act("EnergyCertificate", "issue", batch.root, statement_fields(record.statement), proof)
    days = [nodes.day_statement(one, day).statement for day in range(200) for one in (device, stranger)]
    periods = [(one.device_id, one.start, one.duration) for one in days]
    with pytest.raises(Reverted, match="DeviceUnknown"):
        chain.call("EnergyCertificate", "isCertified", *periods[1])
    with proxy(node.url) as counting:
        behind = node.chain(rpc_urls=(counting.url,))
        asked = counting.requests
        found = behind.certified(periods, behind.head())
        assert counting.requests - asked <= 6
    issued = [record.statement for record in archive.records[:2]]
    assert found == {(one.device_id, one.start, one.duration) for one in issued}
    assert chain.certified(periods, before) == set(), "as the block has it, not as the chain has it now"


def test_request_error_answer_raises_chain_error_with_the_words(chain):
    with pytest.raises(ChainError, match="eth_nonsense|not found|Method"):
        chain.request("eth_nonsense")
    assert int(chain.request("eth_chainId"), 16) == nodes.CHAIN_ID


def test_check_identity_node_switches_chain_raises(tmp_path):
    with nodes.anvil(tmp_path) as node:
        chain = Chain.open(node.config)
        node.rpc("anvil_setChainId", 99)
        with pytest.raises(ChainError, match="chain 99"):
            chain.check_identity()


def test_send_contract_whose_code_was_exchanged_raises_and_sends_nothing(tmp_path):
    """As behind a proxy's upgrade, or on a node that was reset: it is found out before each send, not only at the start."""
    with nodes.anvil(tmp_path) as node:
        chain, account = Chain.open(node.config), node.funded()
        fields = {"chainId": nodes.CHAIN_ID, "nonce": 0, "gas": 21_000, "gasPrice": 2 * 10**9, "value": 0, "data": b""}
        raw = account.sign_transaction(fields | {"to": account.address}).raw_transaction
        node.rpc("anvil_setCode", chain.address("Notary"), "0x6000")
        with pytest.raises(ChainError, match="code of Notary"):
            chain.send(raw)
        assert chain.transaction_count(account.address) == 0
        node.rpc("anvil_setCode", chain.address("Notary"), "0x")
        with pytest.raises(ChainError, match="no contract Notary"):
            chain.send(raw)
