"""Witnesses recompute from their own raw files: they sign what agrees and name the device-days that do not."""

import asyncio
import contextlib
import json
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import replace

import pytest
import yaml
from aiohttp import web
from eth_account import Account

from oracle import cli, decisions, pipeline, review, sealing
from oracle import witness as witness_module
from oracle.config import OracleConfig, WitnessConfig
from oracle.coordinator import collect_signatures
from oracle.domain import Batch, BatchKind, NotaryDomain
from oracle.errors import WitnessRefused
from oracle.issuance import propose_batch
from oracle.keys import create_device_key, device_key_file
from oracle.messages import Malformed, SignAnswer
from oracle.protocol import batch_digest, batch_fields, keccak256, manifest_bytes, statement_fields, statement_leaf
from oracle.signer import as_signer
from oracle.store import SignedStatement, Store
from oracle.witness import (
    SIGNATURE_HEADER,
    VERDICT_TOLERANCE,
    Proposal,
    Refused,
    Witness,
    application,
    assessments_hash,
    difference,
    message_signer,
    sign_message,
    sign_own,
)
from tests.oracle import databases, nodes
from tests.oracle.test_pipeline import DAY, FIRST, REVIEWER, configure, day_rows, device, write

START_SECONDS = 60

both = databases.both


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with nodes.anvil(tmp_path_factory.mktemp("anvil")) as running:
        yield running


class House:
    """One coordinator and its witnesses, each with its own folder, raw files, device keys and database."""

    def __init__(self, node, folder):
        self.node, self.folder, self.chain = node, folder, node.chain()
        self.meters = [device(1), device(2)]
        self.files = [
            write(folder, "meter-1.csv", day_rows(0), day_rows(1), day_rows(2)),
            write(folder, "meter-2.csv", day_rows(0, 70), day_rows(1, 70), day_rows(2, 70)),
        ]
        self.account = node.witnesses[0]
        self.config, self.store = configure(folder / "oracle", *self.meters)
        for device_id in (1, 2):
            create_device_key(self.config.device_keys_folder, device_id)
        pipeline.ingest(self.config, self.store, self.files)
        [self.archive] = sealing.seal(self.config, self.store)
        self.deadline = propose_batch(self.chain, self.archive).deadline

    @property
    def proposal(self):
        # One deadline for all of the house's proposals: two of the same batch are the same to the second.
        batch = replace(propose_batch(self.chain, self.archive), deadline=self.deadline)
        return Proposal(self.chain.domain, batch, self.archive.manifest)

    def equip(self, name, files=None):
        """A witness's own folder, with the shared device keys and its own copy of the raw files."""
        config, store = configure(self.folder / name, *self.meters)
        for device_id in (1, 2):
            key = device_key_file(config.device_keys_folder, device_id)
            key.parent.mkdir(parents=True, exist_ok=True)
            key.write_bytes(device_key_file(self.config.device_keys_folder, device_id).read_bytes())
            key.chmod(0o600)
        pipeline.ingest(config, store, files or self.files)
        return config, store

    def witness(self, index=1, files=None):
        config, store = self.equip(f"witness-{index}", files)

        def recompute(batch, decisions, visibility, previous):
            return sealing.recompute(config, store, batch, decisions, visibility, previous)

        return Witness(self.chain, store, self.node.witnesses[index], [self.account.address], recompute)

    def altered(self, name="meter-2.csv", day=1, slot=70):
        """A copy of the raw files in which one digit of one reading differs."""
        other = self.folder / "altered"
        other.mkdir(exist_ok=True)
        copies = []
        for file in self.files:
            lines = file.read_text().splitlines()
            if file.name == name:
                row = 1 + day * 96 + slot
                assert lines[row].endswith("70"), lines[row]
                lines[row] = lines[row][:-1] + "1"
            copy = other / file.name
            copy.write_text("\n".join(lines) + "\n")
            copies.append(copy)
        return copies


@pytest.fixture(scope="module")
def judge(node, tmp_path_factory):
    """A house and one witness of it, for proposals that are refused: refusing changes nothing."""
    house = House(node, tmp_path_factory.mktemp("judge"))
    return house, house.witness(1)


@pytest.fixture
def house(node, tmp_path):
    snapshot = node.rpc("evm_snapshot")
    yield House(node, tmp_path)
    node.rpc("evm_revert", snapshot)


# -- judging ----------------------------------------------------------------------------------------


def test_sign_same_raw_files_gives_a_signature_the_contract_takes(house, node):
    signature = house.witness(1).sign(house.proposal)
    own = sign_own(house.store, house.account, house.proposal, house.archive.records)
    assert own[0] == node.witnesses[0].address
    node.act("Notary", "notarize", batch_fields(house.proposal.batch), [own[1], signature])
    event = house.chain.find_notarization(house.archive.root)
    assert event.signers == (node.witnesses[0].address, node.witnesses[1].address)
    assert event.batch.energy_wh == 3 * (2_412 + 1_692)


def test_sign_one_byte_altered_refuses_and_differences_name_the_device_day(house):
    witness = house.witness(1, house.altered())
    with pytest.raises(Refused) as caught:
        witness.sign(house.proposal)
    assert caught.value.code == "root"
    theirs = [
        (r.statement.device_id, r.statement.start, r.statement.version, house.archive.tree.nodes[at])
        for at, r in _positions(house.archive)
    ]
    found = witness.differences(house.proposal, theirs)
    assert [(device_id, start) for device_id, start, _, _ in found] == [(2, FIRST + DAY)]
    assert found[0][2] != found[0][3]
    with witness.store.session() as session:
        assert session.query(SignedStatement).count() == 0


def _positions(archive):
    return [(archive.tree.positions[statement_leaf(record.statement)], record) for record in archive.records]


def test_sign_raw_file_altered_after_ingest_refuses(house):
    witness = house.witness(1)
    kept = next(file for file in (house.folder / "witness-1" / "raw").iterdir() if len(file.name) == 64)
    data = bytearray(kept.read_bytes())
    data[-3] ^= 1
    kept.chmod(0o644)
    kept.write_bytes(bytes(data))
    with pytest.raises(Refused) as caught:
        witness.sign(house.proposal)
    assert caught.value.code == "recompute" and kept.name in caught.value.reason


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("epoch", {"signer_epoch": 2}),
        ("head", {"head": b"\x01" * 32}),
        ("head", {"kind": BatchKind.INTERIM, "head": b"\x01" * 32}),
        ("deadline", {"deadline": 1}),
        ("deadline", {"deadline": 2**39}),
        ("period", {"end": 2**39}),
        ("energy", {"energy_wh": 3 * (2_412 + 1_692) + 1}),
        ("count", {"statements": 7}),
        ("archive-hash", {"archive_hash": b"\x02" * 32}),
        ("period", {"start": FIRST - DAY}),
        ("manifest", {"root": b"\x03" * 32}),
    ],
)
def test_sign_wrong_parameter_refuses_with_its_code(judge, code, change):
    house, witness = judge
    proposal = house.proposal
    with pytest.raises(Refused) as caught:
        witness.sign(replace(proposal, batch=replace(proposal.batch, **change)))
    assert caught.value.code == code


def test_sign_chain_whose_last_block_is_old_measures_the_deadline_from_now(house, monkeypatch):
    """A quiet chain: a deadline after the wall clock is no further ahead for the last block being two days old."""
    witness, proposal = house.witness(1), house.proposal
    head = house.chain.head()
    monkeypatch.setattr(type(house.chain), "head", lambda self: replace(head, time=head.time - 2 * DAY))
    assert witness.sign(proposal)
    late = replace(proposal, batch=replace(proposal.batch, deadline=int(time.time()) + 2 * DAY))
    with pytest.raises(Refused) as caught:
        witness.sign(late)
    assert caught.value.code == "deadline"


def test_sign_other_chain_or_contract_refuses(judge):
    house, witness = judge
    proposal = house.proposal
    for code, domain in (
        ("chain", replace(proposal.domain, chain_id=1)),
        ("notary", replace(proposal.domain, contract="0x" + "11" * 20)),
    ):
        with pytest.raises(Refused) as caught:
            witness.sign(replace(proposal, domain=domain))
        assert caught.value.code == code


@pytest.mark.parametrize(
    ("code", "key", "value"),
    [
        ("assessments", "assessments", "0x" + "00" * 32),
        ("policy", "policy", {"certified": "everything"}),
        ("review", "reviewTrail", ["trust me"]),
        ("manifest", "visibility", "secret"),
        ("manifest", "withheld", [{"deviceId": "one"}]),
        ("archive-hash", "policy", {"limit": 0.5}),
    ],
)
def test_sign_other_manifest_refuses_with_its_code(judge, code, key, value):
    house, witness = judge
    manifest = {**house.archive.manifest, key: value}
    proposal = house.proposal
    with contextlib.suppress(Exception):
        hashed = keccak256(manifest_bytes(manifest))
        proposal = replace(proposal, batch=replace(proposal.batch, archive_hash=hashed))
    with pytest.raises(Refused) as caught:
        witness.sign(replace(proposal, manifest=manifest))
    assert caught.value.code == code


def test_sign_forged_review_decision_refuses(judge):
    house, witness = judge
    stranger = Account.create()
    facts = review.draft(
        device_id=1, start=FIRST, version=0, decision="reject", reason="no", profile_hash=b"\0" * 32, decided_at=1
    )
    entry = review.sign(stranger, facts)
    manifest = {**house.archive.manifest, "reviewTrail": [entry]}
    proposal = house.proposal
    batch = replace(proposal.batch, archive_hash=keccak256(manifest_bytes(manifest)))
    with pytest.raises(Refused) as caught:
        witness.sign(replace(proposal, batch=batch, manifest=manifest))
    assert caught.value.code == "recompute" and stranger.address in caught.value.reason


@both
def test_sign_day_held_and_rejected_by_a_reviewer_is_left_out_by_all(house, tmp_path):
    """The decision travels with the manifest; the witness follows it because the reviewer's signature holds."""
    other = House.__new__(House)
    other.__dict__.update(house.__dict__)
    other.folder = tmp_path / "second"
    gap = [row for slot, row in enumerate(day_rows(1)) if slot != 70]
    other.files = [
        write(other.folder, "meter-1.csv", day_rows(0), gap, day_rows(2)),
        write(other.folder, "meter-2.csv", day_rows(0, 70)),
    ]
    other.config, other.store = other.equip("oracle")
    decisions.decide(other.config, other.store, REVIEWER, 1, FIRST + DAY, "reject", "a slot is missing")
    [other.archive] = sealing.seal(other.config, other.store)
    assert len(other.archive.manifest["reviewTrail"]) == 1
    assert len(other.witness(1).sign(other.proposal)) == 65


@both
def test_sign_second_version_zero_of_a_day_refuses_and_names_it(house):
    """The same witness, asked again after its raw file was replaced: it has signed other figures for that day."""
    witness = house.witness(1)
    witness.sign(house.proposal)
    assert len(witness.sign(house.proposal)) == 65, "the same statements may be signed again"

    second = House.__new__(House)
    second.__dict__.update(house.__dict__)
    second.folder = house.folder / "second"
    second.folder.mkdir()
    second.config, second.store = second.equip("oracle", house.altered())
    [second.archive] = sealing.seal(second.config, second.store)
    config, _ = second.equip("witness-1", house.altered())
    other_data = sealing.recompute(
        config, Store.open(config.database_url), second.proposal.batch, [], _visibility(second.archive)
    )
    forgetful = Witness(
        house.chain, witness.store, house.node.witnesses[1], [house.account.address], lambda *_: other_data
    )
    with pytest.raises(Refused) as caught:
        forgetful.sign(second.proposal)
    assert (caught.value.code, caught.value.device_days) == ("already-signed", ((2, FIRST + DAY),))

    sign_own(house.store, house.account, house.proposal, house.archive.records)
    with pytest.raises(WitnessRefused) as own:
        sign_own(house.store, house.account, second.proposal, second.archive.records)
    assert own.value.device_days == ((2, FIRST + DAY),)


@both
def test_sign_own_overlapping_periods_at_once_signs_one_of_them(tmp_path, monkeypatch):
    """Two processes read that nothing is signed; the one that comes second must see what the first wrote."""
    account, url = Account.create(), databases.url(tmp_path)
    day = nodes.day_statement(1, 0)
    longer = replace(day, statement=replace(day.statement, duration=2 * DAY))
    together, meeting = threading.Barrier(2, timeout=60), threading.Barrier(2)
    look = witness_module._signed_within

    def look_and_wait(*arguments):
        found = look(*arguments)
        with contextlib.suppress(threading.BrokenBarrierError):
            meeting.wait(1)
        return found

    monkeypatch.setattr(witness_module, "_signed_within", look_and_wait)
    outcomes = []
    stores = [Store.open(url) for _ in range(2)]
    for store in stores:
        with store.session() as session:
            assert session.query(SignedStatement).count() == 0

    def sign(store, record):
        statement = record.statement
        root, nothing = statement.profile_hash, b"\0" * 32
        batch = Batch(BatchKind.FINAL, 1, nothing, root, statement.start, statement.end, 1, 0, nothing, 1)
        proposal = Proposal(NotaryDomain(1, "0x" + "11" * 20), batch, {})
        # Everything else is done: without a lock both would now look within milliseconds of each other.
        together.wait()
        try:
            outcomes.append(sign_own(store, account, proposal, [record])[0])
        except WitnessRefused as refused:
            outcomes.append(refused.device_days)

    threads = [threading.Thread(target=sign, args=each) for each in zip(stores, (day, longer), strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(map(str, outcomes)) == sorted([account.address, str(((1, day.statement.start),))])


def _visibility(archive):
    from oracle.domain import Visibility

    return Visibility[archive.manifest["visibility"].upper()]


@both
def test_sign_next_batch_after_a_notarized_one_leaves_its_days_out(house, node):
    """Days of the same time that came late: the witness remembers which ones are notarized."""
    witness = house.witness(1)
    signature = witness.sign(house.proposal)
    own = sign_own(house.store, house.account, house.proposal, house.archive.records)
    node.act("Notary", "notarize", batch_fields(house.proposal.batch), [own[1], signature])
    with pytest.raises(Refused) as caught:
        witness.sign(house.proposal)
    assert caught.value.code in ("head", "already-notarized")

    late = [
        write(house.folder, "meter-1-late.csv", day_rows(3)),
        write(house.folder, "meter-2-late.csv", day_rows(3, 70)),
    ]
    configs = {}
    for name in ("oracle", "witness-1"):
        configs[name] = OracleConfig.load(house.folder / name / "wattmark.yaml")
        pipeline.ingest(configs[name], Store.open(configs[name].database_url), late)
    [house.archive] = sealing.seal(configs["oracle"], house.store)
    assert {record.statement.start for record in house.archive.records} == {FIRST + 3 * DAY}
    wide = replace(house.proposal.batch, start=FIRST)
    with pytest.raises(Refused) as caught:
        witness.sign(replace(house.proposal, batch=wide))
    assert caught.value.code == "period", "older days are left out, so the root agrees and only the start is wrong"
    assert len(witness.sign(house.proposal)) == 65


def test_sign_witness_that_was_away_finds_on_the_chain_what_others_certified(house, node):
    """The batch before was notarized and issued without it: it remembers none of it, and certifies nothing twice."""
    signed = [as_signer(node.witnesses[index]).sign_batch(house.proposal.batch, house.chain.domain) for index in (0, 2)]
    node.act("Notary", "notarize", batch_fields(house.proposal.batch), signed)
    for device_id in (1, 2):
        nodes.register_device(node, device_id, node.w3.eth.accounts[3])
    for record in house.archive.records:
        proof = house.archive.tree.proof(statement_leaf(record.statement))
        node.act("EnergyCertificate", "issue", house.archive.root, statement_fields(record.statement), proof)
    late = [
        write(house.folder, "meter-1-late.csv", day_rows(3)),
        write(house.folder, "meter-2-late.csv", day_rows(3, 70)),
    ]
    witness = house.witness(1, [*house.files, *late])
    pipeline.ingest(house.config, house.store, late)
    [house.archive] = sealing.seal(house.config, house.store)
    batch = replace(house.proposal.batch, start=FIRST)
    with pytest.raises(Refused) as caught:
        witness.sign(replace(house.proposal, batch=batch))
    assert caught.value.code == "period", "the root agrees: only what is not certified yet"
    assert len(witness.sign(house.proposal)) == 65


# -- messages ---------------------------------------------------------------------------------------


def test_proposal_json_round_trip_is_the_same(judge):
    proposal = judge[0].proposal
    assert Proposal.parse(json.loads(json.dumps(proposal.to_json()))) == proposal


@pytest.mark.parametrize(
    "path",
    ["schema", "chainId", "notary", "batch", "manifest", "batch.kind", "batch.root", "batch.energyWh", "batch.end"],
)
@pytest.mark.parametrize("value", [None, "x", -1, 2**80, True, [], 1.5])
def test_proposal_parse_wrong_field_raises_malformed(judge, path, value):
    message = json.loads(json.dumps(judge[0].proposal.to_json()))
    *outer, name = path.split(".")
    place = message[outer[0]] if outer else message
    place[name] = value
    with pytest.raises(Malformed):
        Proposal.parse(message)


def test_message_signer_recovers_the_sender_and_only_for_this_body():
    account = Account.create()
    header = sign_message(account, b"body")
    assert message_signer(b"body", header) == account.address
    assert message_signer(b"bodz", header) != account.address
    for broken in ("", "0x", "0x" + "00" * 65, header + "00", "0x" + "ff" * 65):
        assert message_signer(b"body", broken) is None


# -- processes --------------------------------------------------------------------------------------


@contextlib.contextmanager
def witness_processes(house, copies):
    """``python -m oracle witness``, one process for each ``{index: raw files}``; gives ``(WitnessConfig, log)`` of each."""
    with contextlib.ExitStack() as running:
        started = [running.enter_context(_started(house, index, files)) for index, files in copies.items()]
        end = time.monotonic() + START_SECONDS
        for process, witness, log in started:
            while True:
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"{witness.url}/v1/health", timeout=5).read()
                    break
                if process.poll() is not None or time.monotonic() > end:
                    raise AssertionError(f"{log.parent.name} did not start:\n{log.read_text()}")
                time.sleep(0.05)
        yield [(witness, log) for _, witness, log in started]


def _configured(house, index, files, port):
    """The configuration file of a witness that is a command of its own."""
    name = f"witness-{index}"
    house.equip(name, files)
    folder = house.folder / name
    account = house.node.witnesses[index]
    (folder / "password").write_text("test")
    (folder / "keystore").write_text(json.dumps(Account.encrypt(account.key, "test", iterations=2)))
    for secret in ("password", "keystore"):
        (folder / secret).chmod(0o600)
    settings = yaml.safe_load((folder / "wattmark.yaml").read_text())
    network = house.node.config
    settings["network"] = {
        "rpc_urls": list(network.rpc_urls),
        "chain_id": network.chain_id,
        "addresses": str(network.addresses),
        "finality": network.finality_depth,
    }
    settings |= {
        "key": {"keystore": "keystore", "password_file": "password"},
        "coordinators": [house.account.address],
        "listen": f"127.0.0.1:{port}",
    }
    (folder / "wattmark.yaml").write_text(yaml.safe_dump(settings))
    return folder / "wattmark.yaml"


@contextlib.contextmanager
def _started(house, index, files):
    port = nodes.free_port()
    config = _configured(house, index, files, port)
    log = config.parent / "log"
    command = [sys.executable, "-m", "oracle", "--config", str(config), "witness"]
    with (
        log.open("wb") as output,
        nodes.process_group(command, stdout=output, stderr=output, cwd=nodes.ROOT) as process,
    ):
        yield process, WitnessConfig(f"http://127.0.0.1:{port}", house.node.witnesses[index].address), log


def test_serve_port_in_use_names_it_and_the_mend(house, capsys):
    """The command itself, in this process: it ends before it serves."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        config = _configured(house, 1, None, port)
        with pytest.raises(SystemExit) as ended:
            cli.main(["--config", str(config), "witness"])
    told = capsys.readouterr().err
    assert (ended.value.code, len(told.splitlines())) == (2, 1)
    assert f"127.0.0.1:{port}" in told and "in use" in told and "another address as listen" in told


def collect(house, witnesses, **options):
    proposal = house.proposal
    signed = collect_signatures(
        proposal,
        house.archive.records,
        witnesses,
        house.account,
        house.chain.signer_set(1),
        **{"timeout_seconds": 60, **options},
    )
    return proposal, signed


@pytest.mark.slow
def test_collect_two_processes_sign_and_the_contract_takes_all_three(house, node):
    with witness_processes(house, {1: None, 2: None}) as [(first, log), (second, _)]:
        proposal, signed = collect(
            house,
            [second, first],
            own=lambda: sign_own(house.store, house.account, house.proposal, house.archive.records),
            grace_seconds=30,
        )
        text = log.read_text()
    digest = batch_digest(proposal.batch, house.chain.domain)
    assert digest == house.chain.call("Notary", "digest", batch_fields(proposal.batch))
    assert [address for address, _ in signed] == [witness.address for witness in node.witnesses]
    node.act("Notary", "notarize", batch_fields(proposal.batch), [signature for _, signature in signed])
    assert len(house.chain.find_notarization(house.archive.root).signers) == 3
    secrets = [
        bytes(node.witnesses[1].key).hex(),
        device_key_file(house.config.device_keys_folder, 1).read_bytes().hex(),
    ]
    assert not any(secret in text for secret in secrets)


@pytest.mark.slow
def test_collect_altered_copy_refuses_names_the_day_and_the_other_signs(house, node):
    with witness_processes(house, {1: house.altered(), 2: None}) as [(altered, _), (sound, _)]:
        with pytest.raises(WitnessRefused) as caught:
            collect(house, [altered, sound])
        assert caught.value.device_days == ((2, FIRST + DAY),)
        assert list(caught.value.refusals) == [altered.address]
        assert "root" in caught.value.refusals[altered.address]
        assert "device 2 2022-06-02" in str(caught.value)
        with house.store.session() as session:
            assert session.query(SignedStatement).count() == 0

        own = sign_own(house.store, house.account, house.proposal, house.archive.records)
        down = WitnessConfig(f"http://127.0.0.1:{nodes.free_port()}", node.witnesses[1].address)
        _, signed = collect(house, [down, sound], own=lambda: own)
        assert [address for address, _ in signed] == [node.witnesses[0].address, sound.address]

        _, body, _ = _post(sound.url, b"{}", {SIGNATURE_HEADER: sign_message(Account.create(), b"{}")})
        assert "coordinator" in json.loads(body)["error"]
        for body in (b"{}", b"not json", b"[" * 100_000):
            status, answer, header = _post(sound.url, body, {SIGNATURE_HEADER: sign_message(house.account, body)})
            assert status == 400 and "error" in json.loads(answer)
            assert message_signer(answer, header) == sound.address


def _post(url, body, headers):
    request = urllib.request.Request(f"{url}/v1/proposals", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read(), answer.headers.get(SIGNATURE_HEADER)
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read(), refused.headers.get(SIGNATURE_HEADER)


@contextlib.contextmanager
def sleeper():
    """A witness that takes the connection and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = []
        stop = threading.Event()

        def accept():
            server.settimeout(0.1)
            while not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    taken.append(server.accept()[0])

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            stop.set()
            thread.join()
            for connection in taken:
                connection.close()


@pytest.mark.slow
def test_collect_sleeping_witness_is_not_waited_for_when_enough_signed(house, node):
    own = sign_own(house.store, house.account, house.proposal, house.archive.records)
    with witness_processes(house, {2: None}) as [(sound, _)], sleeper() as url:
        began = time.monotonic()
        _, signed = collect(
            house, [WitnessConfig(url, node.witnesses[1].address), sound], own=lambda: own, grace_seconds=0.2
        )
        assert len(signed) == 2 and time.monotonic() - began < 30


def test_collect_only_a_sleeping_witness_raises_after_the_timeout(house, node):
    with sleeper() as url, pytest.raises(WitnessRefused) as caught:
        collect(house, [WitnessConfig(url, node.witnesses[1].address)], timeout_seconds=0.5)
    assert caught.value.refusals[node.witnesses[1].address].startswith("no-answer")
    assert caught.value.device_days == ()


@pytest.mark.slow
def test_collect_witness_under_another_name_is_not_believed(house, node):
    """A real witness that answers in the place of another one."""
    with witness_processes(house, {2: None}) as [(sound, _)]:
        with pytest.raises(WitnessRefused) as caught:
            collect(house, [WitnessConfig(sound.url, node.witnesses[1].address), sound], grace_seconds=30)
        assert "not signed by this witness" in caught.value.refusals[node.witnesses[1].address]


# -- served in this process -------------------------------------------------------------------------


@contextlib.contextmanager
def served(app):
    """An aiohttp application on a free port, in a thread of this process."""
    loop, ready, stop, urls = asyncio.new_event_loop(), threading.Event(), asyncio.Event(), []

    async def run():
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        urls.append(f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}")
        ready.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()), daemon=True)
    thread.start()
    assert ready.wait(20)
    try:
        yield urls[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        loop.close()


def liar(account):
    """A witness that says it signs, in a well-signed answer, and signs a batch of one Wh more."""

    async def proposals(request):
        proposal = Proposal.parse(await request.json())
        other = replace(proposal, batch=replace(proposal.batch, energy_wh=proposal.batch.energy_wh + 1))
        signature = "0x" + as_signer(account).sign_batch(other.batch, other.domain).hex()
        answer = SignAnswer(root="0x" + proposal.batch.root.hex(), signer=account.address, signature=signature)
        body = json.dumps(answer.to_json()).encode()
        return web.Response(body=body, headers={SIGNATURE_HEADER: sign_message(account, body)})

    app = web.Application()
    app.router.add_post("/v1/proposals", proposals)
    return app


@pytest.mark.parametrize("coordinator", [0, 1, 2])
def test_collect_coordinator_can_be_any_of_the_witnesses(house, node, coordinator):
    """Whoever proposes, the signatures come sorted by address, as the contract wants them."""
    house.account = node.witnesses[coordinator]
    others = [house.witness(index) for index in range(3) if index != coordinator]
    with contextlib.ExitStack() as stack:
        asked = [
            WitnessConfig(stack.enter_context(served(application(one))), one.signer.address) for one in reversed(others)
        ]
        proposal, signed = collect(
            house,
            asked,
            own=lambda: sign_own(house.store, house.account, house.proposal, house.archive.records),
            grace_seconds=30,
        )
    assert [address for address, _ in signed] == [witness.address for witness in node.witnesses]
    node.act("Notary", "notarize", batch_fields(proposal.batch), [signature for _, signature in signed])
    assert len(house.chain.find_notarization(house.archive.root).signers) == 3


@both
def test_collect_three_witnesses_of_which_one_lies_and_one_sleeps_still_notarizes(tmp_path):
    """The coordinator, itself a signer, needs one more signature: the honest witness gives it, the others are named."""
    with nodes.anvil(tmp_path, witnesses=4) as node:
        house = House(node, tmp_path / "house")
        honest, lying, sleeping = (node.witnesses[index] for index in (2, 1, 3))
        with (
            served(application(house.witness(2))) as good,
            served(liar(lying)) as bad,
            sleeper() as silent,
        ):
            witnesses = [
                WitnessConfig(silent, sleeping.address),
                WitnessConfig(bad, lying.address),
                WitnessConfig(good, honest.address),
            ]
            with pytest.raises(WitnessRefused) as caught:
                collect(house, witnesses, timeout_seconds=12, grace_seconds=0.1)
            assert set(caught.value.refusals) == {lying.address, sleeping.address}
            assert "not of this witness over this batch" in caught.value.refusals[lying.address]
            own = sign_own(house.store, house.account, house.proposal, house.archive.records)
            proposal, signed = collect(house, witnesses, own=lambda: own, grace_seconds=0.5)
        assert {address for address, _ in signed} == {house.account.address, honest.address}
        node.act("Notary", "notarize", batch_fields(proposal.batch), [signature for _, signature in signed])
        assert house.chain.notarization(house.archive.root).energy_wh == 3 * (2_412 + 1_692)


def test_collect_split_witnesses_name_every_day_that_one_of_them_has_otherwise(house, node):
    """Two witnesses, each with another reading: no majority, and both days are named."""
    first = house.witness(1, house.altered())
    (house.folder / "altered").rename(house.folder / "altered-1")
    second = house.witness(2, house.altered(day=2))
    with served(application(first)) as one, served(application(second)) as two, pytest.raises(WitnessRefused) as caught:
        collect(house, [WitnessConfig(one, first.signer.address), WitnessConfig(two, second.signer.address)])
    assert caught.value.device_days == ((2, FIRST + DAY), (2, FIRST + 2 * DAY))
    assert all("root" in reason for reason in caught.value.refusals.values())


# -- figures of floating point ----------------------------------------------------------------------

ASSESSMENT = {
    "report": {"missing_slots": 0, "findings": []},
    "corroboration": {
        "result": "corroborated",
        "reasons": ["day energy 0.98 of expected, correlation 0.97 over 40 slots"],
        "stations": [{"figures": {"correlation": 0.971, "pairs": 40}, "expected_wh": [None, 12.3, 1500.0]}],
    },
}


def changed(path, value):
    copy = json.loads(json.dumps(ASSESSMENT))
    *outer, last = path
    place = copy
    for step in outer:
        place = place[step]
    place[last] = value
    return json.dumps(copy)


STATION = ("corroboration", "stations", 0)


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ((*STATION, "figures", "correlation"), 0.972, None),
        ((*STATION, "figures", "correlation"), 0.9731, "corroboration.stations.figures.correlation"),
        ((*STATION, "figures", "pairs"), 41, "corroboration.stations.figures.pairs"),
        ((*STATION, "expected_wh", 1), 12.4, None),
        ((*STATION, "expected_wh", 1), 12.5, "corroboration.stations.expected_wh"),
        ((*STATION, "expected_wh", 0), 0.0, "corroboration.stations.expected_wh"),
        (("corroboration", "reasons", 0), "day energy 0.99 of expected, correlation 0.97 over 40 slots", None),
        (("corroboration", "reasons", 0), "day energy 0.98 of expected, correlation 0.97 over 41 slots", "corroboration.reasons"),
        (("corroboration", "result"), "contradicted", "corroboration.result"),
        (("report", "missing_slots"), 0.0, None),
        (("report", "missing_slots"), False, "report.missing_slots"),
        (("report", "more"), 1, "report"),
    ],
)  # fmt: skip
def test_difference_of_assessments_whole_numbers_exactly_and_fractions_within_tolerance(path, value, told):
    assert difference(json.dumps(ASSESSMENT), changed(path, value), VERDICT_TOLERANCE) == told


def with_figures(house, change):
    """The house's proposal as a machine would make it whose figures of the first statement differ by ``change``."""
    records = list(house.archive.records)
    own = json.loads(records[0].assessment) | {"drift": 0.5}
    theirs = own | {"drift": 0.5 + change}
    mine = [json.dumps(own), *(record.assessment for record in records[1:])]
    given = [json.dumps(theirs), *mine[1:]]
    manifest = {**house.archive.manifest, "assessments": assessments_hash(given)}
    batch = replace(house.proposal.batch, archive_hash=keccak256(manifest_bytes(manifest)))
    proposal = Proposal(house.chain.domain, batch, manifest, tuple(given))
    return proposal, [replace(record, assessment=text) for record, text in zip(records, mine, strict=True)]


@pytest.mark.parametrize(("change", "signs"), [(0.0005, True), (0.002, False)])
def test_sign_figures_that_differ_are_taken_within_tolerance_and_named_beyond(house, change, signs):
    proposal, own = with_figures(house, change)
    witness = house.witness(1)
    recompute = witness.recompute

    def elsewhere(*arguments):
        return replace(recompute(*arguments), records=tuple(own))

    witness.recompute = elsewhere
    with pytest.raises(Refused) as caught:
        witness.sign(replace(proposal, assessments=None))
    assert caught.value.code == "assessments"
    if signs:
        assert len(witness.sign(proposal)) == 65
        with pytest.raises(Refused) as caught:
            witness.sign(replace(proposal, assessments=proposal.assessments[::-1]))
        assert caught.value.code == "manifest"
        witness.tolerance = 0.0001
    with pytest.raises(Refused) as caught:
        witness.sign(proposal)
    assert caught.value.code == "assessments" and "drift" in caught.value.reason
    assert caught.value.device_days == ((own[0].statement.device_id, own[0].statement.start),)


@both
def test_collect_sends_the_assessments_to_a_witness_that_asks_for_them(house):
    proposal, own = with_figures(house, 0.0005)
    witness = house.witness(1)
    recompute = witness.recompute
    witness.recompute = lambda *arguments: replace(recompute(*arguments), records=tuple(own))
    records = [replace(one, assessment=text) for one, text in zip(own, proposal.assessments, strict=True)]
    with served(application(witness)) as url:
        signed = collect_signatures(
            replace(proposal, assessments=None),
            records,
            [WitnessConfig(url, witness.signer.address)],
            house.account,
            house.chain.signer_set(1),
            own=lambda: sign_own(house.store, house.account, proposal, records),
        )
    assert len(signed) == 2


def test_application_serves_the_schemas_of_its_messages(judge):
    house, witness = judge
    with served(application(witness)) as url, urllib.request.urlopen(f"{url}/v1/schemas", timeout=10) as answer:
        schemas = json.load(answer)
    assert {"proposal", "answer", "differences", "differencesAnswer", "error"} < set(schemas)
    batch = schemas["proposal"]["$defs"]["BatchMessage"]
    assert set(batch["required"]) == set(house.proposal.to_json()["batch"]) and not batch["additionalProperties"]
    assert batch["properties"]["energyWh"]["exclusiveMaximum"] == 2**64
    with pytest.raises(Malformed, match=r"batch\.more"):
        message = house.proposal.to_json()
        Proposal.parse(message | {"batch": message["batch"] | {"more": 1}})
