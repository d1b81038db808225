"""MitigationOutcome at the borders that mutants moved unnoticed."""

import pytest


@pytest.mark.parametrize("years", [(2016, 2016), (2016, 2017), (2015, 2016)])
def test_convert_in_the_first_and_the_last_year_authorised_is_covered(world, day, years):
    world.register(1)
    world.publish()
    world.issue(day(0))
    world.authorise(7, first_year=years[0], last_year=years[1])
    tx = world.outcome.convert([day(0).id], [10_000], 7, {"from": world.generator})
    assert world.outcome.parseId(tx.events["Converted"]["outcomeId"])[1] == 2016
