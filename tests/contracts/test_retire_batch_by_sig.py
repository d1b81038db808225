"""RetirableToken.retireBatchBySig"""

import pytest

from tests.contracts.signing import sign
from tests.contracts.world import now, refuses


def test_retire_batch_by_sig_is_sent_by_anyone_as_signed(world, day, holder):
    ids, amounts, deadline = [day(0).id, day(1).id], [100, 200], now() + 3_600
    values = (holder.address, ids, amounts, world.details(), 0, deadline)
    signature = sign(world, "RetireBatch", values)

    def send(ids, amounts, details):
        arguments = (holder, ids, amounts, details, deadline, signature)
        return world.certificate.retireBatchBySig(*arguments, {"from": world.stranger})

    for changed in (
        (ids[::-1], amounts, world.details()),
        (ids, amounts[::-1], world.details()),
        (ids, amounts, world.details(purpose="mine")),
        ([*ids, *amounts], [], world.details()),
        (ids[:1], amounts[:1], world.details()),
    ):
        with refuses("SignatureInvalid", holder.address):
            send(*changed)
    tx = send(ids, amounts, world.details())
    assert list(tx.events["RetiredBatch"]["amounts"]) == amounts
    with refuses("SignatureInvalid", holder.address):
        send(ids, amounts, world.details())


def test_retire_batch_by_sig_too_late_is_refused(world, day, holder):
    last = now() - 10
    values = (holder.address, [day(0).id], [1], world.details(), 0, last)
    signature = sign(world, "RetireBatch", values)
    with pytest.raises(Exception, match=f"SignatureExpired: {last}, "):
        world.certificate.retireBatchBySig(*values[:4], last, signature, {"from": world.stranger})
