"""What the AccessManager says: who holds each role, what each may call, what is planned and when. The role matrix as a model.

Who ever was granted a role is taken from the index; whether they hold it is asked of the chain at its newest block.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from eth_abi import decode, encode
from eth_abi.exceptions import DecodingError
from flask_babel import lazy_gettext

from oracle.errors import ChainError
from oracle.protocol import keccak256

from .abi import Shape, artifacts
from .app import Services, explorer, services

Model = dict[str, Any]

MANAGER = "AccessManager"
#: Ids of the AccessManager's roles; docs/roles.md says what each may do. tests/webapp/test_authority.py compares with scripts/roles.py.
ROLE_IDS = {
    "administrator": 0, "registrar": 1, "factor publisher": 2, "guardian": 3, "authoriser": 4, "transfer recorder": 5,
    "adjustment recorder": 6, "reviewer": 7,
}  # fmt: skip
ROLE_WORDS = {
    "administrator": lazy_gettext("administrator"),
    "registrar": lazy_gettext("registrar"),
    "factor publisher": lazy_gettext("factor publisher"),
    "guardian": lazy_gettext("guardian"),
    "authoriser": lazy_gettext("authoriser"),
    "transfer recorder": lazy_gettext("transfer recorder"),
    "adjustment recorder": lazy_gettext("adjustment recorder"),
    "reviewer": lazy_gettext("reviewer"),
}
#: Every function that the AccessManager restricts. tests/webapp/test_authority.py compares with scripts/roles.py, which the
#: contracts are held to.
RESTRICTED = {
    "DeviceRegistry": ("register", "setAccount", "setCapacity", "deactivate", "bindCertificate"),
    "Notary": ("setSigners", "unpause", "pause", "revoke", "removeSigner"),
    "EnergyCertificate": ("unpause", "pause", "bindConverter"),
    "EmissionFactors": ("publish", "supersede"),
    "MitigationOutcome": ("authorise", "recordFirstTransfer", "recordAdjustmentPending", "recordAdjustment"),
}
#: States of a planned operation.
WAITING, READY, EXPIRED = "waiting", "ready", "expired"


def matrix() -> Model:
    """Roles with holders and functions, and the operations that are planned. Raises ChainError without an answer of the node."""
    s = services()
    head = s.node.call("eth_getBlockByNumber", "latest", False)
    state = (head["hash"], explorer().newest())
    if s.kept.get("matrix", (None, None))[0] != state:
        s.kept["matrix"] = (state, _matrix(s, head))
    found: Model = s.kept["matrix"][1]
    return found


def _matrix(s: Services, head: Model) -> Model:
    ask = Manager(s, head["number"])
    return {
        "block": int(head["number"], 16),
        "manager": s.book.contracts[MANAGER].address,
        "roles": _roles(ask),
        "operations": _operations(ask, int(head["timestamp"], 16)),
        "expiration_seconds": ask.numbers("expiration()", "uint32", [()])[0],
    }


class Manager:
    """Views of the AccessManager at one block, many in one request."""

    def __init__(self, s: Services, block: str):
        self._s, self._block = s, block

    def views(
        self, signature: str, gives: Sequence[str], arguments: Sequence[tuple[Any, ...]]
    ) -> list[tuple[Any, ...]]:
        """What the view answers to each of the argument lists."""
        takes = [part for part in signature[signature.index("(") + 1 : -1].split(",") if part]
        to, selector = self._s.book.contracts[MANAGER].address, keccak256(signature.encode())[:4]
        asked = [[{"to": to, "data": "0x" + (selector + encode(takes, one)).hex()}, self._block] for one in arguments]
        try:
            return [decode(gives, bytes.fromhex(answer[2:])) for answer in self._s.node.batch("eth_call", asked)]
        except (DecodingError, TypeError, ValueError):
            raise ChainError(f"{MANAGER} at {to} does not answer {signature}") from None

    def numbers(self, signature: str, gives: str, arguments: Sequence[tuple[Any, ...]]) -> list[int]:
        return [int(answer[0]) for answer in self.views(signature, [gives], arguments)]

    def with_code(self, addresses: Sequence[str]) -> set[str]:
        """Those of ``addresses`` that are contracts."""
        codes = self._s.node.batch("eth_getCode", [[one, self._block] for one in addresses])
        return {one for one, code in zip(addresses, codes, strict=True) if len(code) > 2}


def _roles(ask: Manager) -> list[Model]:
    s = services()
    events = _events("RoleGranted", "RoleRevoked", "RoleLabel")
    granted: dict[int, list[str]] = {number: [] for number in ROLE_IDS.values()}
    labels: dict[int, str] = {}
    for name, args in events:
        number = int(args["roleId"])
        if name == "RoleGranted" and args["account"] not in granted.setdefault(number, []):
            granted[number].append(args["account"])
        elif name == "RoleLabel":
            labels[number] = args["label"]
    pairs = [(number, account) for number, accounts in granted.items() for account in accounts]
    held = dict(zip(pairs, ask.views("hasRole(uint64,address)", ["bool", "uint32"], pairs), strict=True))
    contracts = ask.with_code(sorted({account for _, account in pairs}))
    targets = [(name, shape) for name, functions in RESTRICTED.items() for shape in _shapes(name, functions)]
    allowed = ask.numbers(
        "getTargetFunctionRole(address,bytes4)", "uint64",
        [(s.book.contracts[name].address, selector(shape)) for name, shape in targets])  # fmt: skip
    numbers = list(granted)
    admins = ask.numbers("getRoleAdmin(uint64)", "uint64", [(number,) for number in numbers])
    names = {number: name for name, number in ROLE_IDS.items()}
    return [
        {
            "id": str(number), "name": names.get(number), "label": labels.get(number, ""), "admin": str(admin),
            "holders": [
                {"address": account, "delay_seconds": held[number, account][1], "contract": account in contracts}
                for account in granted[number] if held[number, account][0]
            ],
            "functions": [
                {"contract": name, "function": shape.name}
                for (name, shape), role in zip(targets, allowed, strict=True) if role == number
            ],
        }
        for number, admin in zip(numbers, admins, strict=True)
    ]  # fmt: skip


def _operations(ask: Manager, chain_time: int) -> list[Model]:
    """What is scheduled and neither executed nor cancelled, the next first. Times in UTC seconds."""
    planned: dict[str, Model] = {}
    for name, args in _events("OperationScheduled", "OperationExecuted", "OperationCanceled"):
        planned.pop(args["operationId"], None)
        if name == "OperationScheduled":
            planned[args["operationId"]] = args
    if not planned:
        return []
    lifetime = ask.numbers("expiration()", "uint32", [()])[0]
    rows = []
    for operation, args in planned.items():
        call = artifacts().call(bytes.fromhex(args["data"][2:]))
        at = int(args["schedule"])
        state = WAITING if chain_time < at else READY if chain_time < at + lifetime else EXPIRED
        rows.append({
            "id": operation, "caller": args["caller"], "target": args["target"], "data": args["data"],
            "contract": _name_of(args["target"]), "function": call.name if call else None, "args": call.args if call else {},
            "ready_at": at, "expires_at": at + lifetime, "state": state,
        })  # fmt: skip
    return sorted(rows, key=lambda row: row["ready_at"])


def _name_of(address: str) -> str | None:
    return next((name for name, entry in services().book.contracts.items() if entry.address == address), None)


def _shapes(contract: str, functions: Sequence[str]) -> list[Shape]:
    by_name = {
        entry["name"]: Shape(contract, entry["name"], tuple(entry["inputs"]))
        for entry in artifacts().abis[contract] if entry["type"] == "function"
    }  # fmt: skip
    return [by_name[name] for name in functions]


def selector(shape: Shape) -> bytes:
    return keccak256(shape.signature.encode())[:4]


def _events(*names: str) -> list[tuple[str, Model]]:
    """The AccessManager's events of these names in order, as the index has them."""
    marks = ",".join("?" * len(names))
    rows = explorer().all(
        f"SELECT name, args FROM event WHERE contract = ? AND name IN ({marks}) ORDER BY block, log_index", MANAGER, *names)  # fmt: skip
    return [(row["name"], orjson.loads(row["args"])) for row in rows]
