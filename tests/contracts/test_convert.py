"""MitigationOutcome.convert, with and without an authorisation, and what outcome ids tell"""

import calendar

import pytest
from eth_utils import keccak

from tests.contracts.reference import DAY, Statement, outcome_id
from tests.contracts.world import FACTOR_G_PER_MWH, GRID_ZONE, JULY_2016, plain, refuses

pytestmark = pytest.mark.usefixtures("certificates")


def grams_of(amount_wh, factor=FACTOR_G_PER_MWH):
    return amount_wh * factor // 10**6


def test_convert_consumes_certificates_and_mints_grams(world, day):
    tx = world.convert([day(0).id], [10_001])
    grams = grams_of(10_001)
    assert world.certificate.balanceOf(world.generator, day(0).id) == 9_999
    assert world.outcome.balanceOf(world.generator, outcome_id()) == grams == 7_000
    event = tx.events["Converted"]
    assert (event["account"], event["certificateId"], event["outcomeId"]) == (world.generator, day(0).id, outcome_id())
    assert (event["amountWh"], event["co2eG"]) == (10_001, grams)
    assert event["restMicrograms"] == 10_001 * FACTOR_G_PER_MWH - grams * 10**6 == 710_001
    consumed = tx.events["Consumed"]
    assert (consumed["account"], list(consumed["ids"]), list(consumed["amounts"])) == (
        world.generator,
        [day(0).id],
        [10_001],
    )
    assert plain(tx.return_value) == ((outcome_id(),), (grams,))
    assert world.outcome.isEstimate(outcome_id()) and "LeviesTaken" not in tx.events


def test_convert_several_ids_rounds_each_down(world, day):
    world.convert([day(n).id for n in range(3)], [1, 2, 3])
    assert world.outcome.balanceOf(world.generator, outcome_id()) == 0 + 1 + 2
    world.convert([day(0).id, day(0).id], [9, 9])
    assert world.outcome.balanceOf(world.generator, outcome_id()) == 3 + 6 + 6


def test_convert_what_was_converted_or_retired_is_refused(world, day):
    world.certificate.retire(day(0).id, 5_000, world.details(), {"from": world.generator})
    world.convert([day(0).id], [15_000])
    with refuses("ERC1155InsufficientBalance", world.generator.address, 0, 1, day(0).id):
        world.convert([day(0).id], [1])
    with refuses("ERC1155InsufficientBalance", world.generator.address, 0, 1, day(0).id):
        world.certificate.retire(day(0).id, 1, world.details(), {"from": world.generator})


def test_convert_anothers_certificates_is_refused(world, day):
    world.certificate.setApprovalForAll(world.stranger, True, {"from": world.generator})
    with refuses("ERC1155InsufficientBalance", world.stranger.address, 0, 1, day(0).id):
        world.convert([day(0).id], [1], sender=world.stranger)


def test_convert_nothing_or_zero_or_unequal_lists_is_refused(world, day):
    with refuses("NothingToConvert"):
        world.convert([], [])
    with refuses("AmountZero"):
        world.convert([day(0).id, day(1).id], [1, 0])
    with refuses("LengthsDiffer", 1, 2):
        world.convert([day(0).id], [1, 1])


def test_convert_goes_by_the_utc_year_of_the_start(world):
    world.register(2, active_from=calendar.timegm((1971, 1, 1, 0, 0, 0)))
    days = [
        (1971, 1, 1), (1972, 2, 29), (1972, 12, 31), (1999, 12, 31), (2000, 1, 1), (2000, 2, 29), (2000, 12, 31),
        (2015, 12, 31), (2016, 1, 1), (2016, 2, 29), (2016, 12, 31), (2017, 1, 1), (2023, 12, 31), (2024, 1, 1),
    ]  # fmt: skip
    statements = [Statement(2, calendar.timegm((*one, 0, 0, 0))) for one in days]
    world.issue_many(world.notarize(*statements))
    for year in sorted({year for year, _, _ in days} - {2016}):
        world.publish(year=year)
    for (year, _, _), statement in zip(days, statements, strict=True):
        tx = world.convert([statement.id], [1_000])
        assert world.outcome.parseId(tx.events["Converted"]["outcomeId"])[1] == year


def test_convert_without_a_factor_is_refused(world, day):
    world.register(2, grid_zone=b"ERCT".ljust(16, b"\0"))
    other = Statement(2, JULY_2016)
    world.issue(other)
    with refuses("FactorMissing", b"ERCT".ljust(16, b"\0"), 2016):
        world.convert([other.id], [1])


def test_convert_goes_by_the_current_factor_only(world, day):
    world.factors.supersede(1, 500_000, False, keccak(b"new"), "eGRID 2016 v2", {"from": world.publisher})
    world.convert([day(0).id], [10_000])
    assert world.outcome.balanceOf(world.generator, outcome_id(factor_id=2)) == 5_000
    assert world.outcome.balanceOf(world.generator, outcome_id(factor_id=1)) == 0


# -- under an authorisation --


@pytest.mark.parametrize("years", [(2016, 2016), (2016, 2017), (2015, 2016)])
def test_convert_in_the_first_and_the_last_year_authorised_is_covered(world, day, years):
    world.authorise(7, first_year=years[0], last_year=years[1])
    tx = world.convert([day(0).id], [10_000], 7)
    assert world.outcome.parseId(tx.events["Converted"]["outcomeId"])[1] == 2016


def test_convert_under_authorisation_takes_levies_rounded_up(world, day):
    world.authorise(7)
    token = outcome_id(authorisation_id=7)
    tx = world.convert([day(0).id], [10_001], 7)
    share, mitigation = 350, 140  # 5 % and 2 % of 7,000
    assert dict(tx.events["LeviesTaken"]) == {
        "outcomeId": token, "shareOfProceedsG": share, "overallMitigationG": mitigation,
    }  # fmt: skip
    assert world.outcome.balanceOf(world.neighbour, token) == share
    assert world.outcome.balanceOf(world.generator, token) == 7_000 - share - mitigation
    assert world.outcome.retiredOf(world.outcome, token) == mitigation
    assert tx.events["Converted"]["co2eG"] == 7_000 and plain(tx.return_value)[1] == (6_510,)
    assert not world.outcome.isEstimate(token)
    world.convert([day(1).id], [10], 7)  # 7 g: 0.35 and 0.14 become 1 and 1
    assert world.outcome.balanceOf(world.neighbour, token) == share + 1
    assert world.outcome.retiredOf(world.outcome, token) == mitigation + 1
    assert world.outcome.authorisation(7)[8] == 7_007


def test_convert_with_levies_of_everything_leaves_nothing_and_loses_nothing(world, day):
    world.authorise(7, share_of_proceeds_bps=5_000, overall_mitigation_bps=5_000)
    world.convert([day(0).id], [10], 7)  # 7 g: 3.5 and 3.5 become 4 and what is left
    token = outcome_id(authorisation_id=7)
    assert world.outcome.balanceOf(world.neighbour, token) == 4
    assert world.outcome.retiredOf(world.outcome, token) == 3
    assert world.outcome.balanceOf(world.generator, token) == 0


@pytest.mark.parametrize(("proceeds", "mitigation"), [(0, 0), (0, 200), (500, 0)])
def test_convert_with_one_or_no_levy_conserves_grams(world, day, proceeds, mitigation):
    world.authorise(7, share_of_proceeds_bps=proceeds, overall_mitigation_bps=mitigation)
    world.convert([day(0).id], [10_001], 7)
    token = outcome_id(authorisation_id=7)
    parts = (
        world.outcome.balanceOf(world.generator, token),
        world.outcome.balanceOf(world.neighbour, token),
        world.outcome.retiredOf(world.outcome, token),
    )
    assert parts == (7_000 - 7 * proceeds // 10 - 7 * mitigation // 10, 7 * proceeds // 10, 7 * mitigation // 10)


def test_convert_beyond_the_authorised_cap_is_refused(world, day):
    world.authorise(7, cap_g=7_000)
    with refuses("AuthorisationCapExceeded", 7, 7_001, 7_000):
        world.convert([day(0).id, day(1).id], [10_001, 2], 7)
    world.convert([day(0).id], [10_001], 7)
    with refuses("AuthorisationCapExceeded", 7, 7_001, 7_000):
        world.convert([day(1).id], [2], 7)


def test_convert_under_an_authorisation_that_does_not_cover_is_refused(world, day):
    with refuses("AuthorisationUnknown", 7):
        world.convert([day(0).id], [1], 7)
    world.authorise(7, first_year=2017)
    world.authorise(8, last_year=2016, first_year=2015, country=b"CA")
    world.authorise(9, first_year=2014, last_year=2015)
    for authorisation_id in (7, 8, 9):
        with refuses("AuthorisationDoesNotCover", authorisation_id, b"US", 2016):
            world.convert([day(0).id], [1], authorisation_id)


def test_retire_estimate_needs_no_authorisation(world, day):
    world.convert([day(0).id], [10_000])
    world.outcome.retire(outcome_id(), 7_000, world.details(), {"from": world.generator})
    assert world.outcome.retiredOf(world.generator, outcome_id()) == 7_000


def test_outcome_ids_tell_their_parts_and_names(world):
    token = outcome_id(0xFFFFFFFF, 65_535, b"ZZ", 2**64 - 1)
    factor_id, year, country, authorisation_id = world.outcome.parseId(token)
    assert (factor_id, year, bytes(country), authorisation_id) == (0xFFFFFFFF, 65_535, b"ZZ", 2**64 - 1)
    assert world.outcome.nameOf(token) == "Mitigation outcome"
    assert world.outcome.nameOf(outcome_id()) == "Avoided-emission estimate"


def test_convert_of_a_day_in_a_month_certificate_uses_its_start(world):
    world.register(2)
    month = Statement(2, calendar.timegm((2016, 12, 20, 0, 0, 0)), 31 * DAY)
    world.issue(month)
    tx = world.convert([month.id], [1_000])
    assert world.outcome.parseId(tx.events["Converted"]["outcomeId"])[1] == 2016
    assert world.factors.currentFactor(GRID_ZONE, 2016)[0] == 1
