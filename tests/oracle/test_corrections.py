"""Late and corrected data after notarization, on a real node; expected energies are worked out by hand."""

import functools
import multiprocessing
import os
from dataclasses import replace

import pytest
from eth_account import Account

from oracle import decisions, issuance, pipeline, reports, sealing
from oracle.archive import build_tree
from oracle.domain import DayState, Quality
from oracle.keys import create_device_key
from oracle.outbox import CRASH_POINTS, crash_point
from oracle.protocol import keccak256, manifest_bytes, token_id, unpack_profile
from oracle.store import Correction, Store
from oracle.witness import Refused, Witness
from tests.oracle import databases, nodes
from tests.oracle.test_issuance import signing
from tests.oracle.test_pipeline import DAY, FIRST, REVIEWER, configure, day_rows, device, rows_of, write
from tests.oracle.test_witness import House

SLOT = 70  # inside the hours of generation: 100 Wh


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with nodes.anvil(tmp_path_factory.mktemp("anvil")) as running:
        yield running


class Plant:
    """A registered device, its oracle, and an account that holds its certificates."""

    numbers = iter(range(1, 1_000))

    def __init__(self, node, folder, register=True):
        self.node, self.folder, self.id = node, folder, next(self.numbers)
        self.holder = Account.create().address
        self.config, self.store = configure(folder / "oracle", device(self.id))
        create_device_key(self.config.device_keys_folder, self.id)
        self.account, self.chain = node.funded(), node.chain()
        if register:
            nodes.register_device(node, self.id, self.holder)

    def file(self, name, *days):
        return write(self.folder, f"meter-{self.id}{name}.csv", *days)

    def run(self, *files):
        return issuance.run(self.config, self.store, self.chain, self.account, files, collect=signing(self.node))

    def late(self, slot_wh, day=0):
        """Another file that says something else about one slot."""
        [row] = day_rows(day, slots=[SLOT])
        return self.file(f"-late-{day}-{slot_wh}", [row.replace(",100", f",{slot_wh}")])

    def choose(self, file, day=0):
        return decisions.choose(
            self.config, self.store, REVIEWER, self.id, FIRST + day * DAY, file.name, "the meter was read again"
        )

    def balance(self, day=0):
        return self.chain.balance_of(self.holder, token_id(self.id, FIRST + day * DAY, DAY))

    @property
    def debt_wh(self):
        return self.chain.call("EnergyCertificate", "debtOf", self.id)

    @property
    def corrections(self):
        with self.store.session() as session:
            return session.query(Correction).order_by(Correction.start, Correction.version).all()

    def on_chain(self, day=0):
        return tuple(self.chain.call("EnergyCertificate", "correctionOf", token_id(self.id, FIRST + day * DAY, DAY)))


@pytest.fixture
def plant(node, tmp_path):
    one = Plant(node, tmp_path)
    assert one.run(one.file("", day_rows(0)))["transactions"] == 2
    assert one.balance() == 2_412
    return one


def test_run_higher_figures_of_a_conflict_wait_for_a_reviewer_and_then_mint_the_difference(plant):
    late = plant.late(300)
    report = plant.run(late)
    assert (report["transactions"], report["pending"], report["corrections"]) == (0, 1, {"held": 1})
    [draft] = plant.corrections
    assert (draft.version, draft.previous_wh, draft.state) == (1, 2_412, DayState.HELD)
    assert "conflict: different values were delivered for 1 slots (70)" in draft.reason
    assert [
        (said.name, dict(said.slots)) for said in decisions.conflict_of(plant.config, plant.store, plant.id, FIRST)
    ][-1] in [(late.name, {70: 300}), (f"meter-{plant.id}.csv", {70: 100})]

    plant.choose(late)
    assert plant.run()["transactions"] == 2
    assert plant.balance() == 2_412 + 200
    assert plant.on_chain() == (1, 2_612) and plant.debt_wh == 0
    [done] = plant.corrections
    assert (done.state, done.energy_wh, done.previous_wh, done.owed_wh) == (DayState.FINAL, 2_612, 2_412, 0)
    quality = unpack_profile(FIRST, done.profile).quality
    assert quality[SLOT] == Quality.EDITED | Quality.CERTIFIED
    assert quality[SLOT - 1] == Quality.MEASURED | Quality.CERTIFIED
    # Nothing is left to do, and the first version is untouched.
    again = plant.run(late)
    assert (again["transactions"], again["pending"], again["failed"]) == (0, 0, [])
    [first] = rows_of(plant.store).values()
    assert (first.energy_wh, first.state) == (2_412, DayState.FINAL)


def test_run_lower_figures_become_debt_that_the_next_issuance_settles(plant):
    late = plant.late(40)
    plant.run(late)
    plant.choose(late)
    plant.run()
    assert plant.balance() == 2_412
    assert plant.debt_wh == 60
    assert issuance.debts_wh(plant.chain, [plant.id]) == {plant.id: 60}
    [done] = plant.corrections
    assert (done.energy_wh, done.owed_wh) == (2_352, 60)
    plant.run(plant.file("-next", day_rows(1)))
    assert plant.balance(1) == 2_412 - 60
    assert plant.debt_wh == 0
    # Up again: version 2 follows version 1.
    more = plant.late(90)
    plant.run(more)
    plant.choose(more)
    plant.run()
    assert plant.on_chain() == (2, 2_402)
    assert plant.balance() == 2_412 + 50
    assert [(one.version, one.previous_wh, one.energy_wh) for one in plant.corrections] == [
        (1, 2_412, 2_352),
        (2, 2_352, 2_402),
    ]


def test_run_late_slot_of_an_accepted_partial_day_needs_no_further_decision(node, tmp_path):
    one = Plant(node, tmp_path)
    one.run(one.file("", day_rows(0, slots=[slot for slot in range(96) if slot != SLOT])))
    decisions.decide(one.config, one.store, REVIEWER, one.id, FIRST, "accept", "a slot was lost")
    one.run()
    assert one.balance() == 2_312
    report = one.run(one.file("-late", day_rows(0, slots=[SLOT])))
    assert (report["transactions"], one.balance(), one.on_chain()) == (2, 2_412, (1, 2_412))
    lines = reports.corrections(one.store)
    assert [(line.version, line.previous_wh, line.energy_wh, line.difference_wh) for line in lines] == [
        (1, 2_312, 2_412, 100)
    ]


def test_run_correction_of_a_revoked_batch_issues_at_the_corrected_value(node, tmp_path):
    one = Plant(node, tmp_path)
    pipeline.ingest(one.config, one.store, [one.file("", day_rows(0))])
    [archive] = sealing.seal(one.config, one.store)
    issuance.notarize(one.config, one.store, one.chain, one.account, collect=signing(node))
    node.act("Notary", "revoke", archive.root, "wrong current transformer")
    late = one.late(50)
    one.run(late)
    assert one.balance() == 0
    one.choose(late)
    one.run()
    assert (one.balance(), one.debt_wh, one.on_chain()) == (2_362, 0, (1, 2_362))


def test_run_rejected_correction_leaves_what_is_certified(plant):
    late = plant.late(300)
    plant.run(late)
    decisions.decide(
        plant.config, plant.store, REVIEWER, plant.id, FIRST, "reject", "the second file is of another meter"
    )
    assert plant.run()["transactions"] == 0
    [one] = plant.corrections
    assert one.state is DayState.REJECTED and "another meter" in one.reason
    assert plant.balance() == 2_412


def crashing(config_file, node, account, file, point):
    os.environ["CRASH_AT"] = str(point)
    from oracle.config import OracleConfig

    config = OracleConfig.load(config_file)
    issuance.run(config, Store.open(config.database_url), node.chain(), account, [file], collect=signing(node))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("database", "point"),
    # The whole way on one database; on the other where a transaction of its own was cut.
    [(kind, point) for kind in databases.KINDS for point in (range(16, 24) if kind == "sqlite" else (17, 20, 23))],
    indirect=["database"],
)
def test_run_killed_at_a_crash_point_of_the_pipeline_ends_the_same(node, tmp_path, point):
    """Ingest, assess, seal, notarize, issue and correct, each killed in the middle: every act happens once."""
    one = Plant(node, tmp_path)
    one.run(one.file("", day_rows(0, slots=[slot for slot in range(96) if slot != SLOT])))
    decisions.decide(one.config, one.store, REVIEWER, one.id, FIRST, "accept", "a slot was lost")
    one.run()
    file = one.file("-more", day_rows(0, slots=[SLOT]), day_rows(1))
    arguments = one.config.file, node, one.account, file, point
    child = multiprocessing.get_context("fork").Process(target=crashing, args=arguments)
    child.start()
    child.join(60)
    assert child.exitcode == -9, f"crash point {point} was not reached"
    one.run(file)
    assert (one.balance(), one.balance(1), one.on_chain()) == (2_412, 2_412, (1, 2_412))
    corrected = [
        event for event in one.chain.events("EnergyCertificate", "Corrected") if event.values["id"] >> 192 == one.id
    ]
    issued = [event for event in one.chain.events("EnergyCertificate", "Issued") if event.values["id"] >> 192 == one.id]
    # The correction issues the difference: 2312 and 2412 Wh of the two days, and 100 Wh.
    assert len(corrected) == 1
    assert sorted(event.values["energyWh"] for event in issued) == [100, 2_312, 2_412]
    assert one.run(file)["transactions"] == 0


def test_run_interrupted_again_and_again_goes_on_where_it_stopped(node, tmp_path, monkeypatch):
    """Ctrl-C at each numbered point in turn, the next run going a little further, and every act happens once."""
    one = Plant(node, tmp_path)
    one.run(one.file("", day_rows(0, slots=[slot for slot in range(96) if slot != SLOT])))
    decisions.decide(one.config, one.store, REVIEWER, one.id, FIRST, "accept", "a slot was lost")
    one.run()
    file = one.file("-more", day_rows(0, slots=[SLOT]), day_rows(1))

    def interrupt(*_):
        raise KeyboardInterrupt

    reached = []
    # From ingest to the signatures, and then each point of sending.
    for point in (*range(16, 22), *range(1, CRASH_POINTS + 1)):
        with monkeypatch.context() as patch:
            patch.setenv("CRASH_AT", str(point))
            patch.setattr(os, "kill", interrupt)
            try:
                one.run(file)
            except KeyboardInterrupt:
                reached.append(point)
    # Not those of a replacement, nor of what the runs before have done already.
    assert len(reached) >= 16 and set(range(16, 22)) <= set(reached), reached
    one.run(file)
    assert (one.balance(), one.balance(1), one.on_chain()) == (2_412, 2_412, (1, 2_412))
    issued = [event for event in one.chain.events("EnergyCertificate", "Issued") if event.values["id"] >> 192 == one.id]
    assert sorted(event.values["energyWh"] for event in issued) == [100, 2_312, 2_412]
    assert one.run(file)["transactions"] == 0


def beside(config_file, node, account, file, start):
    from oracle.config import OracleConfig
    from oracle.errors import OracleError

    config = OracleConfig.load(config_file)
    start.wait(30)
    try:
        issuance.run(config, Store.open(config.database_url), node.chain(), account, [file], collect=signing(node))
    except OracleError as fault:
        # Whoever comes second may be told to run again.
        print(fault)


@pytest.mark.slow
def test_run_two_instances_at_once_do_everything_once(node, tmp_path):
    one = Plant(node, tmp_path)
    one.run(one.file("", day_rows(0, slots=[slot for slot in range(96) if slot != SLOT])))
    decisions.decide(one.config, one.store, REVIEWER, one.id, FIRST, "accept", "a slot was lost")
    one.run()
    file = one.file("-more", day_rows(0, slots=[SLOT]), day_rows(1))
    fork = multiprocessing.get_context("fork")
    start = fork.Barrier(2)
    arguments = one.config.file, node, one.account, file, start
    children = [fork.Process(target=beside, args=arguments) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    assert [child.exitcode for child in children] == [0, 0]
    one.run(file)
    assert (one.balance(), one.balance(1), one.on_chain()) == (2_412, 2_412, (1, 2_412))
    assert (
        len(
            [
                event
                for event in one.chain.events("EnergyCertificate", "Corrected")
                if event.values["id"] >> 192 == one.id
            ]
        )
        == 1
    )
    assert node.w3.eth.get_transaction_count(one.account.address) == 2 + 4
    assert one.run(file)["transactions"] == 0


def test_crash_point_without_a_number_goes_on(monkeypatch):
    monkeypatch.delenv("CRASH_AT", raising=False)
    crash_point(16)


# -- witnesses --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def house(tmp_path_factory, database):
    """Version 0 is notarized by two witnesses; then both get a late file that the reviewer accepted."""
    tmp_path = tmp_path_factory.mktemp("house")
    folder = tmp_path / "node"
    folder.mkdir()
    with nodes.anvil(folder) as running:
        one = House(running, tmp_path / "house")
        running.rpc("anvil_setBalance", one.account.address, hex(10**20))
        theirs = one.equip("witness")
        recompute = functools.partial(sealing.recompute, *theirs)
        one.judge = Witness(one.chain, theirs[1], running.witnesses[1], [one.account.address], recompute)

        def collect(batch, archive):
            proposal = replace(one.proposal, batch=batch, manifest=archive.manifest)
            return [
                (one.account.address, bytes(one.account.unsafe_sign_hash(proposal.digest).signature)),
                (running.witnesses[1].address, one.judge.sign(proposal)),
            ]

        one.collect = collect
        issuance.notarize(one.config, one.store, one.chain, one.account, collect=collect)
        late = write(tmp_path, "meter-1-late.csv", [row.replace(",100", ",300") for row in day_rows(1, slots=[SLOT])])
        for config, store in ((one.config, one.store), theirs):
            pipeline.ingest(config, store, [late])
        decisions.choose(one.config, one.store, REVIEWER, 1, FIRST + DAY, late.name, "read again")
        [one.archive] = sealing.seal(one.config, one.store)
        yield one


def forged(house, **changes):
    """The same batch, but with other words about the version before."""
    manifest = house.archive.manifest
    [entry] = manifest["corrects"]
    manifest = {**manifest, "corrects": [{**entry, **changes}]}
    proposal = house.proposal
    return replace(
        proposal, manifest=manifest, batch=replace(proposal.batch, archive_hash=keccak256(manifest_bytes(manifest)))
    )


@pytest.mark.parametrize(
    "changes", [{"energyWh": 2_411}, {"version": 1}, {"root": "0x" + "11" * 32}, {"proof": []}, {"start": FIRST}]
)
def test_witness_refuses_a_version_that_does_not_follow(house, changes):
    with pytest.raises(Refused) as caught:
        house.judge.sign(forged(house, **changes))
    assert caught.value.code == "version"
    assert caught.value.device_days == ((1, changes.get("start", FIRST + DAY)),)


def test_witness_signs_a_correction_that_follows(house):
    [record] = house.archive.records
    statement = record.statement
    assert (statement.version, statement.previous_wh, statement.energy_wh) == (1, 2_412, 2_612)
    sent = issuance.notarize(house.config, house.store, house.chain, house.account, collect=house.collect)
    assert (sent.transactions, sent.failed) == (1, ())
    assert house.chain.notarization(house.archive.root).energy_wh == 200


def test_witness_refuses_a_second_version_1_after_one_was_signed(house):
    """After the test before: once version 1 is signed, no other version 1 is."""
    [record] = house.archive.records
    other = replace(record, statement=replace(record.statement, energy_wh=record.statement.energy_wh + 1))
    tree = build_tree([other])
    assert tree.root != house.archive.root
    house.judge.recompute = lambda *_: sealing.Recomputation((other,), house.archive.manifest["policy"], None)
    manifest = {**house.archive.manifest, "root": "0x" + tree.root.hex()}
    batch = replace(
        house.proposal.batch, root=tree.root, energy_wh=201, archive_hash=keccak256(manifest_bytes(manifest))
    )
    with pytest.raises(Refused) as caught:
        house.judge.sign(replace(house.proposal, manifest=manifest, batch=batch))
    assert caught.value.code == "already-signed"
