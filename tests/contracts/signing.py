"""Signed retirements as tests make and send them; the `holder` of conftest.py signs."""

from __future__ import annotations

from tests.contracts import reference
from tests.contracts.world import HOLDER_KEY, now


def sign(world, kind, values, private_key=HOLDER_KEY, **domain):
    return reference.sign(world.request(kind, values, **domain), private_key)


def request(world, holder, day, amount=500, nonce=0, deadline=None, details=None):
    return (holder.address, day(0).id, amount, details or world.details(), nonce, deadline or now() + 3_600)


def by_sig(world, values, signature, sender=None):
    account, token, amount, details, _, deadline = values
    return world.certificate.retireBySig(
        account, token, amount, details, deadline, signature, {"from": sender or world.stranger}
    )
