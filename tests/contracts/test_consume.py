"""EnergyCertificate.consume, which only the bound converter may call"""

from tests.contracts.world import refuses


def test_consume_by_anyone_but_the_converter_is_refused(world, day):
    for account in (world.generator, world.admin, world.stranger):
        with refuses("OnlyConverter", account.address):
            world.certificate.consume(world.generator, [day(0).id], [1], {"from": account})
