"""EnergyCertificate.issueItem, which only issueMany of the same contract may call"""

from tests.contracts.world import refuses


def test_issue_item_by_anyone_but_the_contract_is_refused(world, day):
    tree = world.notarize(day(0))
    admitted = (day(0).id, world.stranger.address, 1, 0, 1)
    with refuses("OnlySelf", world.stranger.address):
        world.certificate.issueItem(tree.root, 10**9, day(0), admitted, {"from": world.stranger})
