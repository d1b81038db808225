"""MitigationOutcome.authorise"""

import pytest

from tests.contracts.reference import ZERO_ADDRESS, ZERO_HASH
from tests.contracts.world import plain, refuses


def test_authorise_is_kept_and_told(world):
    tx = world.authorise(7)
    assert (tx.events["Authorised"]["authorisationId"], bytes(tx.events["Authorised"]["country"])) == (7, b"US")
    kept = plain(world.outcome.authorisation(7))
    assert kept[:9] == (b"US", 2016, 2020, 1, 500, 200, 1, 1_000_000, 0)
    assert kept[9] == world.neighbour.address and kept[11] == "US-2016-0001"


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("country", {"country": b"\0\0"}),
        ("firstYear", {"first_year": 0}),
        ("firstYear", {"first_year": 2021}),
        ("purposes", {"purposes": 0}),
        ("purposes", {"purposes": 8}),
        ("overallMitigationBps", {"share_of_proceeds_bps": 9_801}),
        ("shareOfProceedsAccount", {"share_of_proceeds_account": ZERO_ADDRESS}),
        ("state", {"state": 0}),
        ("state", {"state": 2}),
        ("capG", {"cap_g": 0}),
        ("convertedG", {"converted_g": 1}),
        ("documentHash", {"document_hash": ZERO_HASH}),
        ("reference_", {"reference": ""}),
    ],
)
def test_authorise_bad_field_is_refused_by_name(world, field, changes):
    with refuses("AuthorisationInvalid", field):
        world.authorise(7, **changes)


def test_authorise_id_zero_or_known_is_refused(world):
    with refuses("AuthorisationInvalid", "authorisationId"):
        world.authorise(0)
    world.authorise(7)
    with refuses("AuthorisationAlreadyExists", 7):
        world.authorise(7, cap_g=2)


def test_authorise_by_anyone_else_is_refused(world):
    for account in (world.recorder, world.stranger):
        with refuses("AccessManagedUnauthorized", account.address):
            world.outcome.authorise(7, world.authorisation(), {"from": account})
