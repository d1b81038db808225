"""RetirableToken.cancelNonce"""

from tests.contracts.signing import by_sig, request, sign
from tests.contracts.world import refuses


def test_cancel_nonce_makes_a_signed_request_void(world, day, holder):
    values = request(world, holder, day)
    signature = sign(world, "Retire", values)
    tx = world.certificate.cancelNonce({"from": holder})
    assert dict(tx.events["NonceCancelled"]) == {"account": holder, "nonce": 0}
    with refuses("SignatureInvalid", holder.address):
        by_sig(world, values, signature)
    values = request(world, holder, day, nonce=1)
    by_sig(world, values, sign(world, "Retire", values))
