"""What needs an operator's signature on the chain: the role matrix for everybody, the factor desk, and acts of administration.

Nothing is sent from here. Calls are made in the browser from the published ABI and signed in the operator's wallet; where an
act waits for the administration delay, the same page schedules it and executes it afterwards.
"""

from __future__ import annotations

from typing import Any

import orjson
from apiflask.fields import Boolean, Dict, Integer, String
from flask import Blueprint, Response, abort, jsonify, render_template, request, url_for
from flask_babel import gettext

from oracle.errors import ChainError

from .. import operator_words, wallet_words
from ..abi import artifacts
from ..api import many, maybe, shape, text
from ..app import csrf_token, explorer, services
from ..authority import MANAGER, READY, ROLE_IDS, matrix
from ..operators import Operator, needs, signed_in_address
from . import Pages

html = Blueprint("acts", __name__)
pages = Pages("roles")
Model = dict[str, Any]

#: What operators' wallets call, by contract. The browser gets these functions and every contract's errors.
OPERATOR_CALLS = {
    "DeviceRegistry": ("register", "setAccount", "setCapacity", "deactivate"),
    "EmissionFactors": ("publish", "supersede"),
    "Notary": ("setSigners", "removeSigner", "pause", "unpause", "revoke"),
    "EnergyCertificate": ("pause", "unpause"),
    "MitigationOutcome": ("authorise", "recordFirstTransfer", "recordAdjustmentPending", "recordAdjustment"),
    MANAGER: ("grantRole", "revokeRole", "schedule", "execute", "cancel", "canCall", "getSchedule", "hashOperation", "expiration"),
}  # fmt: skip

_HOLDER = shape("RoleHolder", address=text(), delay_seconds=Integer(), contract=Boolean())
_FUNCTION = shape("RestrictedFunction", contract=text(), function=text())
_ROLE = shape(
    "Role", id=text(), name=maybe(text()), label=text(), admin=text(), holders=many(_HOLDER), functions=many(_FUNCTION)
)
_OPERATION = shape(
    "PlannedOperation", id=text(), caller=text(), target=text(), contract=maybe(text()), function=maybe(text()), data=text(),
    args=Dict(keys=String()), ready_at=Integer(), expires_at=Integer(), state=text(),
)  # fmt: skip
ROLES = shape(
    "RoleMatrix", block=Integer(), manager=text(), expiration_seconds=Integer(), roles=many(_ROLE), operations=many(_OPERATION)
)  # fmt: skip


# -- who may do what --------------------------------------------------------------------------------


@pages.page("/operators/roles", "operators/roles.html", schema=ROLES)
def roles() -> Model:
    """Roles with their holders, delays and functions, and what is planned."""
    return _matrix()


def _matrix() -> Model:
    try:
        return matrix()
    except ChainError:
        abort(503, gettext("The chain cannot be read at this moment, so nobody's role is known."))


# -- the desks --------------------------------------------------------------------------------------


@html.get("/operators/factors")
@needs("factor publisher")
def factor_desk() -> str:
    """Publish an emission factor, or one in the place of another."""
    current = explorer().all(
        "SELECT f.factor_id, f.grid_zone, f.year, f.grams_per_mwh, f.illustrative, f.source FROM factor f WHERE NOT EXISTS"
        " (SELECT 1 FROM factor_supersession s WHERE s.factor_id = f.factor_id) ORDER BY f.grid_zone, f.year DESC")  # fmt: skip
    chosen = request.args.get("supersede", type=int)
    old = next((row for row in current if row["factor_id"] == chosen), None)
    return render_template("operators/factors.html", current=current, old=old, json_url=None)


@html.get("/operators/administration")
@needs()
def administration() -> str:
    """Every act of a role that has no page of its own, and what is planned; prepared for whoever may sign it."""
    found = _matrix()
    found_set = explorer().one(
        "SELECT signers, threshold FROM signer_set WHERE signers IS NOT NULL ORDER BY block DESC, log_index DESC LIMIT 1"
    )
    signers = {**found_set, "signers": orjson.loads(found_set["signers"])} if found_set else None
    return render_template(
        "operators/administration.html", matrix=found, signers=signers, role_ids=ROLE_IDS, json_url=None,
    )  # fmt: skip


def ready(operator: Operator) -> int:
    """How many planned operations this operator can execute now."""
    return sum(1 for row in _matrix()["operations"] if row["caller"] == operator.address and row["state"] == READY)


@html.get("/operators/abi.json")
def abi() -> Response:
    """The published ABI as far as operators' wallets use it: functions by contract, and the errors of every contract."""
    known = artifacts().abis
    functions = {
        contract: [entry for entry in known[contract] if entry["type"] == "function" and entry["name"] in names]
        for contract, names in OPERATOR_CALLS.items()
    }
    errors = {(e["name"], str(e["inputs"])): e for entries in known.values() for e in entries if e["type"] == "error"}
    response = jsonify({"functions": functions, "errors": list(errors.values())})
    response.headers["Cache-Control"] = "public, max-age=300"
    return response


def operator_setup(next_page: str | None = None) -> Model:
    """What the operators' script starts from: account, chain, contracts, and its texts in the reader's language."""
    s, operator = services(), signed_in_address()
    try:
        holders = sorted(
            {(holder["address"], holder["contract"]) for role in matrix()["roles"] for holder in role["holders"]}
        )
    except ChainError:
        holders = []
    return {
        "account": operator,
        "token": csrf_token(),
        "next": next_page,
        "chain": {
            "chainId": hex(s.book.chain_id), "name": s.config.network.name, "rpcUrl": s.config.public_rpc_url,
            "currency": s.config.currency,
        },
        "contracts": {name: entry.address for name, entry in s.book.contracts.items()},
        "contractHolders": [address for address, is_contract in holders if is_contract],
        "abi": url_for("acts.abi"),
        "words": {key: str(word) for key, word in operator_words.WORDS.items()},
        "errors": {key: str(word) for key, word in {**wallet_words.ERRORS, **operator_words.ERRORS}.items()},
        "fields": {key: str(word) for key, word in operator_words.FIELDS.items()},
    }  # fmt: skip
