"""EnergyCertificate.issueMany"""

import pytest
from eth_utils import keccak

from tests.contracts.reference import DAY, PRIVATE, Statement, Tree
from tests.contracts.world import JULY_2016, refuses


@pytest.fixture(autouse=True)
def devices(world):
    world.register(1)
    world.register(2, account=world.neighbour.address)


def balance(world, account, statement):
    return world.certificate.balanceOf(account, statement.id)


def test_issue_many_mints_each_to_its_account(world):
    statements = [Statement(d, JULY_2016 + n * DAY, energy_wh=1_000 * d + n) for d in (1, 2) for n in range(4)]
    tree = world.notarize(*statements)
    tx = world.issue_many(tree)
    assert len(tx.events["Issued"]) == 8
    for statement in statements:
        owner = world.generator if statement.device_id == 1 else world.neighbour
        assert balance(world, owner, statement) == statement.energy_wh
    assert world.certificate.issuedFrom(tree.root) == sum(s.energy_wh for s in statements)


def test_issue_many_mints_a_run_of_one_account_at_once(world, day):
    tree = world.notarize(*[day(n) for n in range(5)])
    tx = world.issue_many(tree)
    assert len(tx.events["TransferBatch"]) == 1 and "TransferSingle" not in tx.events
    assert sorted(tx.events["TransferBatch"]["ids"]) == [day(n).id for n in range(5)]


@pytest.mark.parametrize("chosen", [1, 2, 3, 7])
def test_issue_many_takes_any_part_of_a_batch(world, day, chosen):
    statements = [day(n) for n in range(7)]
    tree = world.notarize(*statements)
    world.issue_many(tree, statements[:chosen])
    assert [balance(world, world.generator, s) > 0 for s in statements] == [i < chosen for i in range(7)]


def test_issue_many_skips_what_is_certified(world, day):
    statements = [day(n) for n in range(3)]
    tree = world.notarize(*statements)
    world.issue(day(1), tree)
    tx = world.issue_many(tree)
    skipped = tx.events["SkippedCertified"]
    assert (skipped["id"], bytes(skipped["root"])) == (day(1).id, tree.root)
    assert [balance(world, world.generator, s) for s in statements] == [20_000] * 3
    assert world.certificate.issuedFrom(tree.root) == 60_000
    tx = world.issue_many(tree)
    assert len(tx.events["SkippedCertified"]) == 3 and "Issued" not in tx.events


def test_issue_many_skips_two_statements_for_one_slot(world, day):
    rivals = [day(0), day(0, profile_hash=keccak(b"rival"))]
    tree = world.notarize(*rivals)
    tx = world.issue_many(tree)
    assert len(tx.events["Issued"]) == 1 and len(tx.events["SkippedCertified"]) == 1
    assert balance(world, world.generator, day(0)) == 20_000


def test_issue_many_without_energy_or_under_debt_mints_what_is_left(world, day):
    world.indebt(1, 30_000)
    statements = [day(n, energy_wh=0 if n == 1 else 20_000) for n in range(3)]
    tx = world.issue_many(world.notarize(*statements))
    assert sum(world.certificate.balanceOf(world.generator, s.id) for s in statements) == 10_000
    assert sum(event["amountWh"] for event in tx.events["Settled"]) == 30_000
    assert world.certificate.debtOf(1) == 0


@pytest.mark.parametrize("way", range(5))
def test_issue_many_skips_an_account_that_refuses(world, day, way):
    refuser = world.attacker("Refuser", way)
    world.register(3, account=refuser.address)
    refused = Statement(3, JULY_2016)
    statements = [day(0), day(1), refused, Statement(2, JULY_2016)]
    tree = world.notarize(*statements)
    tx = world.issue_many(tree)
    skipped = tx.events["SkippedRefused"]
    assert (skipped["id"], bytes(skipped["root"]), skipped["account"]) == (refused.id, tree.root, refuser.address)
    assert balance(world, world.generator, day(0)) == balance(world, world.generator, day(1)) == 20_000
    assert balance(world, world.neighbour, statements[3]) == 20_000
    assert world.certificate.issuedFrom(tree.root) == 60_000
    assert not world.certificate.isCertified(3, JULY_2016, DAY)
    assert tx.gas_used < 1_000_000


def test_issue_many_pays_a_contract_account_that_accepts(world):
    holder = world.attacker("Reenterer")
    world.register(3, account=holder.address)
    statements = [Statement(3, JULY_2016), Statement(3, JULY_2016 + DAY)]
    world.issue_many(world.notarize(*statements))
    assert [balance(world, holder.address, s) for s in statements] == [20_000, 20_000]


@pytest.mark.parametrize("has_code", [False, True])
def test_issue_many_from_a_batch_that_states_too_little_reverts_for_every_kind_of_account(world, has_code):
    holder = world.attacker("Reenterer") if has_code else world.neighbour
    world.register(3, account=holder.address)
    tree = world.notarize(Statement(3, JULY_2016), energy_wh=19_999)
    with refuses("BatchExhausted", tree.root, 20_000, 19_999):
        world.issue_many(tree)


def test_issue_many_to_a_contract_over_an_hourly_month_has_gas_enough(world):
    holder = world.attacker("Reenterer")
    world.register(3, account=holder.address, granularity=3_600)
    month = Statement(3, JULY_2016, 31 * DAY)
    tx = world.issue_many(world.notarize(month))
    assert "SkippedRefused" not in tx.events and balance(world, holder.address, month) == 20_000


def test_issue_many_with_little_gas_cannot_starve_a_receiver(world):
    holder = world.attacker("Reenterer")
    world.register(3, account=holder.address)
    statement = Statement(3, JULY_2016)
    tree = world.notarize(statement)
    for gas in range(100_000, 460_000, 40_000):
        try:
            tx = world.certificate.issueMany(
                tree.root, [statement], [], [], {"from": world.stranger, "gas_limit": gas, "allow_revert": True}
            )
        except Exception as error:
            assert "GasTooLow" in str(error) or "out of gas" in str(error).lower() or "outofgas" in str(error).lower()
        else:
            assert "SkippedRefused" not in tx.events
            break
    else:
        raise AssertionError("460,000 gas must do for one item")


def test_issue_many_with_too_little_gas_says_how_much(world):
    holder = world.attacker("Reenterer")
    world.register(3, account=holder.address)
    tree = world.notarize(Statement(3, JULY_2016))
    with pytest.raises(Exception, match=r"GasTooLow: \d+, 309375"):
        world.certificate.issueMany.call(
            tree.root, tree.statements, [], [], {"from": world.stranger, "gas_limit": 250_000}
        )


def test_issue_many_of_nothing_is_refused(world, day):
    tree = world.notarize(day(0))
    with refuses("NothingToIssue"):
        world.certificate.issueMany(tree.root, [], [tree.root], [], {"from": world.stranger})


def test_issue_many_with_a_wrong_proof_is_refused(world, day):
    statements = [day(n) for n in range(4)]
    tree = world.notarize(*statements)
    ordered, proof, flags = tree.multi_proof(statements[:2])

    def send(statements, proof, flags):
        world.certificate.issueMany(tree.root, statements, proof, flags, {"from": world.stranger})

    with refuses("ProofInvalid", tree.root):
        send([ordered[0]._replace(energy_wh=1), ordered[1]], proof, flags)
    with refuses("MerkleProofInvalidMultiproof"):
        send(ordered, proof[:-1], flags)
    with refuses("ProofInvalid", tree.root):
        send([day(8)], [], [])


def test_issue_many_from_a_root_that_is_not_notarized_is_refused(world, day):
    tree = Tree([day(0)])
    with refuses("RootNotIssuable", tree.root):
        world.issue_many(tree)


def test_issue_many_with_a_correction_is_refused(world, day):
    tree = world.notarize(day(0), day(1).corrected(1))
    with refuses("VersionNotZero", 1):
        world.issue_many(tree)


def test_issue_many_of_private_devices_is_for_their_account_only(world):
    world.register(3, visibility=PRIVATE)
    tree = world.notarize(Statement(3, JULY_2016))
    with refuses("NotEntitled", 3, world.stranger.address, world.generator.address):
        world.issue_many(tree)
    world.issue_many(tree, sender=world.generator)
