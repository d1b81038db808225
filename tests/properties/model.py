"""What the contracts should do, said again in Python: the design's promises, not the contracts' code.

`World.call` predicts a call: success with the very events and the state after it, or the very error with its
values. Periods are intervals, terms are two separate time lines, nothing is packed: where the contracts use
bitmaps and slots of storage, a mistake has no twin here.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

from . import encoding
from .bed import Inner
from .encoding import Batch, Statement, keccak

ZERO = "0x" + "00" * 20
NO_BYTES = bytes(32)
NEVER = 2**40 - 1
SLOT = 900
DAY = 86_400
MAX_DURATION = 31 * DAY

NONE, GENERATION, CONSUMPTION = 0, 1, 2
PUBLIC, PRIVATE = 1, 2
FINAL, INTERIM = 1, 2
OPEN, REVOKED = 1, 2
AUTHORISED, FIRST_TRANSFERRED, ADJUSTMENT_PENDING, COMPLETED = 1, 2, 3, 4
ACCEPT, WRONG_ANSWER, REVERT, REVERT_EMPTY, BURN_GAS = range(5)

# Who may call what, from promise 8 of the design. Everything else is open to everybody or closed to all but one contract.
ADMINISTRATOR, REGISTRAR, PUBLISHER, GUARDIAN, AUTHORISER, TRANSFERS, ADJUSTMENTS = range(7)
MATRIX = {
    ("DeviceRegistry", "register"): REGISTRAR,
    ("DeviceRegistry", "setAccount"): REGISTRAR,
    ("DeviceRegistry", "setCapacity"): REGISTRAR,
    ("DeviceRegistry", "deactivate"): REGISTRAR,
    ("DeviceRegistry", "bindCertificate"): ADMINISTRATOR,
    ("Notary", "revoke"): GUARDIAN,
    ("Notary", "removeSigner"): GUARDIAN,
    ("Notary", "pause"): GUARDIAN,
    ("Notary", "unpause"): ADMINISTRATOR,
    ("Notary", "setSigners"): ADMINISTRATOR,
    ("EnergyCertificate", "pause"): GUARDIAN,
    ("EnergyCertificate", "unpause"): ADMINISTRATOR,
    ("EnergyCertificate", "bindConverter"): ADMINISTRATOR,
    ("EmissionFactors", "publish"): PUBLISHER,
    ("EmissionFactors", "supersede"): PUBLISHER,
    ("MitigationOutcome", "authorise"): AUTHORISER,
    ("MitigationOutcome", "recordFirstTransfer"): TRANSFERS,
    ("MitigationOutcome", "recordAdjustmentPending"): ADJUSTMENTS,
    ("MitigationOutcome", "recordAdjustment"): ADJUSTMENTS,
}
ROLE_NAMES = (
    "administrator",
    "registrar",
    "factor publisher",
    "guardian",
    "authoriser",
    "transfer recorder",
    "adjustment recorder",
)


class Refusal(Exception):
    """The call reverts with this error."""

    def __init__(self, name: str, *values: Any) -> None:
        super().__init__(name, values)
        self.error = (name, values)


class Prediction(NamedTuple):
    success: bool
    result: Any
    error: tuple | None
    logs: tuple


class Part:
    """A contract's state. Attributes are plain values, or dicts of values that never change in place."""

    name: str

    def __init__(self, world: World) -> None:
        self.world = world
        self.ruler = Access.name  # the AccessManager that its restricted functions ask

    def emit(self, event: str, *values: Any) -> None:
        self.world.logs.append((self.name, event, values))

    @property
    def now(self) -> int:
        return self.world.now

    def address(self) -> str:
        return self.world.addresses[self.name]

    def authority(self, caller: str) -> str:
        return self.world.addresses[self.ruler]

    def setAuthority(self, caller: str, authority: str) -> None:
        if caller != self.authority(caller):
            raise Refusal("AccessManagedUnauthorized", caller)
        if authority not in self.world.names:
            raise Refusal("AccessManagedInvalidAuthority", authority)
        self.ruler = self.world.names[authority]
        self.emit("AuthorityUpdated", authority)


# -- AccessManager ----------------------------------------------------------------------------------------


class Delay(NamedTuple):
    """A number of seconds that is `before` until `effect`, `after` from then on."""

    before: int
    after: int
    effect: int

    def at(self, now: int) -> int:
        return self.after if self.effect <= now else self.before


class Member(NamedTuple):
    since: int
    delay: Delay


class Access(Part):
    """OpenZeppelin's AccessManager, as far as a deployment uses it: roles, delays, scheduled acts."""

    name = "AccessManager"
    EXPIRATION = 7 * DAY

    def __init__(self, world: World, deployer: str, name: str = name) -> None:
        super().__init__(world)
        self.name = name
        self.closed: dict[str, bool] = {}
        self.members: dict[tuple[int, str], Member] = {}
        self.function_roles: dict[tuple[str, str], int] = {}
        self.guardians: dict[int, int] = {}
        self.schedules: dict[bytes, tuple[int, int]] = {}  # operation: when, nonce
        self._grant(ADMINISTRATOR, deployer, 0)

    # What a caller may do.

    def has_role(self, role: int, account: str) -> tuple[bool, int]:
        member = self.members.get((role, account))
        if member is None:
            return False, 0
        return member.since <= self.now, member.delay.at(self.now)

    def _may(self, caller: str, target: str, function: str) -> tuple[bool, int]:
        """Whether at once, and else after how long; (False, 0) is never."""
        if target != self.name and self.closed.get(target):
            return False, 0
        role = ADMINISTRATOR if target == self.name else self.function_roles.get((target, function), ADMINISTRATOR)
        has, delay = self.has_role(role, caller)
        return (delay == 0, delay) if has else (False, 0)

    def check(self, caller: str, target: str, function: str, arguments: tuple) -> None:
        """What the modifier of a restricted function does."""
        if caller == self.address():
            if self.world.executing == (self.name, target, function) and not self.closed.get(target):
                return
            at_once, delay = False, 0
        else:
            at_once, delay = self._may(caller, target, function)
        if at_once:
            return
        if delay == 0:
            if target == self.name:
                raise Refusal("AccessManagerUnauthorizedAccount", caller, ADMINISTRATOR)
            raise Refusal("AccessManagedUnauthorized", caller)
        self._consume(self._operation(caller, Inner(target, function, arguments)))

    def _operation(self, caller: str, call: Inner) -> bytes:
        target = self.world.addresses[call.target]
        return keccak(self.world.encode(["address", "address", "bytes"], [caller, target, self.world.calldata(call)]))

    def _consume(self, operation: bytes) -> int:
        when, nonce = self.schedules.get(operation, (0, 0))
        if when == 0:
            raise Refusal("AccessManagerNotScheduled", operation)
        if when > self.now:
            raise Refusal("AccessManagerNotReady", operation)
        if when + self.EXPIRATION <= self.now:
            raise Refusal("AccessManagerExpired", operation)
        self.schedules[operation] = (0, nonce)
        self.emit("OperationExecuted", operation, nonce)
        return nonce

    # Calls.

    def schedule(self, caller: str, target: str, call: Inner, when: int) -> tuple[bytes, int]:
        _, delay = self._may(caller, call.target, call.function)
        earliest = self.now + delay
        if delay == 0 or 0 < when < earliest:
            raise Refusal("AccessManagerUnauthorizedCall", caller, target, self.world.calldata(call)[:4])
        operation = self._operation(caller, call)
        before, nonce = self.schedules.get(operation, (0, 0))
        if before and before + self.EXPIRATION > self.now:
            raise Refusal("AccessManagerAlreadyScheduled", operation)
        when = max(when, earliest)
        self.schedules[operation] = (when, nonce + 1)
        self.emit("OperationScheduled", operation, nonce + 1, when, caller, target, self.world.calldata(call))
        return operation, nonce + 1

    def execute(self, caller: str, target: str, call: Inner) -> int:
        at_once, delay = self._may(caller, call.target, call.function)
        if not at_once and delay == 0:
            raise Refusal("AccessManagerUnauthorizedCall", caller, target, self.world.calldata(call)[:4])
        operation = self._operation(caller, call)
        when, _ = self.schedules.get(operation, (0, 0))
        scheduled = when != 0 and when + self.EXPIRATION > self.now
        nonce = self._consume(operation) if delay or scheduled else 0
        before, self.world.executing = self.world.executing, (self.name, call.target, call.function)
        try:
            self.world.enter(self.address(), call)
        finally:
            self.world.executing = before
        return nonce

    def cancel(self, caller: str, account: str, target: str, call: Inner) -> int:
        operation = self._operation(account, call)
        when, nonce = self.schedules.get(operation, (0, 0))
        if when == 0:
            raise Refusal("AccessManagerNotScheduled", operation)
        role = self.function_roles.get((call.target, call.function), ADMINISTRATOR)
        watcher = self.guardians.get(role, ADMINISTRATOR)
        may = caller == account or self.has_role(ADMINISTRATOR, caller)[0] or self.has_role(watcher, caller)[0]
        if not may:
            raise Refusal("AccessManagerUnauthorizedCancel", caller, account, target, self.world.calldata(call)[:4])
        self.schedules[operation] = (0, nonce)
        self.emit("OperationCanceled", operation, nonce)
        return nonce

    def grantRole(self, caller: str, role: int, account: str, delay: int) -> None:
        self.check(caller, self.name, "grantRole", (role, account, delay))
        self._grant(role, account, delay)

    def revokeRole(self, caller: str, role: int, account: str) -> None:
        self.check(caller, self.name, "revokeRole", (role, account))
        self._revoke(role, account)

    def renounceRole(self, caller: str, role: int, confirmation: str) -> None:
        if confirmation != caller:
            raise Refusal("AccessManagerBadConfirmation")
        self._revoke(role, caller)

    def setTargetFunctionRole(self, caller: str, target: str, selectors: tuple, role: int) -> None:
        self.check(caller, self.name, "setTargetFunctionRole", (target, selectors, role))
        name = self.world.names[target]
        for selector in selectors:
            self.function_roles[name, self.world.function_of(name, selector)] = role
            self.emit("TargetFunctionRoleUpdated", target, selector, role)

    def setRoleGuardian(self, caller: str, role: int, guardian: int) -> None:
        self.check(caller, self.name, "setRoleGuardian", (role, guardian))
        self.guardians[role] = guardian
        self.emit("RoleGuardianChanged", role, guardian)

    def setTargetClosed(self, caller: str, target: str, closed: bool) -> None:
        self.check(caller, self.name, "setTargetClosed", (target, closed))
        self.closed[self.world.names[target]] = closed
        self.emit("TargetClosed", target, closed)

    def isTargetClosed(self, caller: str, target: str) -> bool:
        return self.closed.get(self.world.names[target], False)

    def updateAuthority(self, caller: str, target: str, authority: str) -> None:
        self.check(caller, self.name, "updateAuthority", (target, authority))
        self.world.parts[self.world.names[target]].setAuthority(self.address(), authority)

    def _grant(self, role: int, account: str, delay: int) -> None:
        member = self.members.get((role, account))
        if member is None:
            since = self.now
            self.members[role, account] = Member(self.now, Delay(0, delay, 0))
        else:
            value = member.delay.at(self.now)
            since = self.now + max(0, value - delay)  # a shorter delay waits for the difference
            self.members[role, account] = member._replace(delay=Delay(value, delay, since))
        self.emit("RoleGranted", role, account, delay, since, member is None)

    def _revoke(self, role: int, account: str) -> None:
        if self.members.pop((role, account), None) is not None:
            self.emit("RoleRevoked", role, account)


def restricted(act: Callable) -> Callable:
    """For the administrator or another role, as the AccessManager says."""

    def checked(self: Part, caller: str, *arguments: Any) -> Any:
        self.world.parts[self.ruler].check(caller, self.name, act.__name__, arguments)
        return act(self, caller, *arguments)

    checked.__name__ = act.__name__
    return checked


# -- DeviceRegistry -------------------------------------------------------------------------------------------


class Device(NamedTuple):
    account: str
    capacity_w: int
    kind: int
    visibility: int
    country: bytes
    granularity: int
    fuel_code: int
    technology_code: int
    active_from: int
    active_until: int
    grid_zone: bytes
    meter_hash: bytes


class Registry(Part):
    """Devices; accounts and capacities are two time lines of (since, value), in order, the first since 0."""

    name = "DeviceRegistry"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.devices: dict[int, Device] = {}
        self.accounts: dict[int, tuple[tuple[int, str], ...]] = {}
        self.capacities: dict[int, tuple[tuple[int, int], ...]] = {}
        self.meters: dict[bytes, int] = {}
        self.certificate = ZERO

    @restricted
    def register(self, caller: str, device_id: int, given: tuple) -> None:
        device = Device(*given)
        if device_id in self.devices:
            raise Refusal("DeviceAlreadyRegistered", device_id)
        for field, is_right in self._rules(device_id, device):
            if not is_right:
                raise Refusal("DeviceFieldInvalid", device_id, field)
        previous = self.meters.get(device.meter_hash)
        if previous is not None:
            until = self.devices[previous].active_until
            if device.active_from < until:
                raise Refusal("MeterInUse", device.meter_hash, previous, until)
            self._refuse_debt(previous)
        self.devices[device_id] = device
        self.accounts[device_id] = ((0, device.account),)
        self.capacities[device_id] = ((0, device.capacity_w),)
        self.meters[device.meter_hash] = device_id
        self.emit("DeviceRegistered", device_id, device.account, device.meter_hash, tuple(device))

    @staticmethod
    def _rules(device_id: int, device: Device) -> list[tuple[str, bool]]:
        step = device.granularity
        on_grid = step > 0 and step % SLOT == 0 and DAY % step == 0
        return [
            ("deviceId", device_id != 0),
            ("account", device.account != ZERO),
            ("capacityW", device.capacity_w > 0),
            ("kind", device.kind != NONE),
            ("visibility", device.visibility != NONE),
            ("country", all(65 <= letter <= 90 for letter in device.country)),
            ("fuelCode", device.fuel_code <= 99_999_999),
            ("technologyCode", device.technology_code <= 999_999),
            ("gridZone", any(device.grid_zone)),
            ("meterHash", any(device.meter_hash)),
            ("granularity", on_grid),
            ("activeFrom", on_grid and device.active_from % step == 0),
            ("activeUntil", device.active_until == NEVER),
        ]

    @restricted
    def setAccount(self, caller: str, device_id: int, account: str, since: int) -> None:
        self._check_change(device_id, since)
        if account == ZERO:
            raise Refusal("DeviceFieldInvalid", device_id, "account")
        self._refuse_debt(device_id)
        self.accounts[device_id] = self._planned(self.accounts[device_id], since, account)
        self.emit("AccountSet", device_id, account, since)

    @restricted
    def setCapacity(self, caller: str, device_id: int, capacity_w: int, since: int) -> None:
        self._check_change(device_id, since)
        if capacity_w == 0:
            raise Refusal("DeviceFieldInvalid", device_id, "capacityW")
        self.capacities[device_id] = self._planned(self.capacities[device_id], since, capacity_w)
        self.emit("CapacitySet", device_id, capacity_w, since)

    def _planned(self, line: tuple, since: int, value: Any) -> tuple:
        """The time line with a new change: it replaces a planned one, never what is in force before it."""
        return (*(entry for entry in line if entry[0] <= self.now and entry[0] != since), (since, value))

    @restricted
    def deactivate(self, caller: str, device_id: int, until: int) -> None:
        self._check_change(device_id, until)
        self._refuse_debt(device_id)
        self.devices[device_id] = self.devices[device_id]._replace(active_until=until)
        self.emit("DeviceDeactivated", device_id, until)

    @restricted
    def bindCertificate(self, caller: str, certificate: str) -> None:
        if self.certificate != ZERO:
            raise Refusal("CertificateAlreadyBound", self.certificate)
        self.certificate = certificate
        self.emit("CertificateBound", certificate)

    def known(self, device_id: int) -> Device:
        if device_id not in self.devices:
            raise Refusal("DeviceUnknown", device_id)
        return self.devices[device_id]

    def terms_at(self, device_id: int, time: int) -> tuple[str, int]:
        """Account and capacity in force at `time`."""
        self.known(device_id)
        account = [value for since, value in self.accounts[device_id] if since <= time][-1]
        capacity_w = [value for since, value in self.capacities[device_id] if since <= time][-1]
        return account, capacity_w

    def device(self, caller: str, device_id: int) -> tuple:
        device = self.known(device_id)
        account, capacity_w = self.terms_at(device_id, NEVER)
        return tuple(device._replace(account=account, capacity_w=capacity_w))

    def deviceOfMeter(self, caller: str, meter_hash: bytes) -> int:
        return self.meters.get(meter_hash, 0)

    def _check_change(self, device_id: int, time: int) -> None:
        device = self.known(device_id)
        if time % device.granularity:
            raise Refusal("NotOnGrid", device_id, time, device.granularity)
        earliest = max(device.active_from, self.now)
        if time < earliest:
            raise Refusal("ChangeInThePast", device_id, time, earliest)
        if time >= device.active_until:
            raise Refusal("DeviceInactive", device_id, device.active_until)

    def _refuse_debt(self, device_id: int) -> None:
        if self.certificate == ZERO:
            raise Refusal("CertificateNotBound")
        debt_wh = self.world.certificate.debts.get(device_id, 0)
        if debt_wh:
            raise Refusal("DeviceInDebt", device_id, debt_wh)


# -- Notary ------------------------------------------------------------------------------------------------------


class Notarization(NamedTuple):
    notarized_at: int
    start: int
    end: int
    statements: int
    energy_wh: int
    kind: int
    status: int
    signer_epoch: int


class Notary(Part):
    name = "Notary"

    def __init__(self, world: World, signers: Sequence[str], threshold: int) -> None:
        super().__init__(world)
        self.records: dict[bytes, Notarization] = {}
        self.epochs: dict[int, tuple[tuple[str, ...], int, int]] = {}  # signers, threshold, since
        self.epoch = 0
        self.paused = False
        self.head = NO_BYTES
        self._start_epoch(tuple(signers), threshold)

    def notarize(self, caller: str, given: tuple, signatures: tuple[bytes, ...]) -> None:
        batch = Batch(*given)
        if self.paused:
            raise Refusal("Paused")
        self._check(batch)
        expected = self.head if batch.kind == FINAL else NO_BYTES
        if batch.head != expected:
            raise Refusal("HeadMismatch", expected, batch.head)
        digest = encoding.batch_digest(self.world.separator("Wattmark Notary", self.name), batch)
        signers = self._signers(digest, signatures)
        if batch.kind == FINAL:
            self.head = encoding.next_head(self.head, digest)
        self.records[batch.root] = Notarization(
            self.now, batch.start, batch.end, batch.statements, batch.energy_wh, batch.kind, OPEN, batch.signer_epoch
        )
        new_head = self.head if batch.kind == FINAL else NO_BYTES
        self.emit("Notarized", batch.root, new_head, tuple(batch), signers)

    def _check(self, batch: Batch) -> None:
        for field, is_right in (
            ("kind", batch.kind != NONE),
            ("root", batch.root != NO_BYTES),
            ("statements", batch.statements > 0),
            ("start", batch.start < batch.end),
        ):
            if not is_right:
                raise Refusal("BatchInvalid", field)
        if batch.end > self.now:
            raise Refusal("PeriodNotEnded", batch.end, self.now)
        if batch.deadline < self.now:
            raise Refusal("DeadlinePassed", batch.deadline, self.now)
        if batch.signer_epoch != self.epoch:
            raise Refusal("EpochNotCurrent", self.epoch, batch.signer_epoch)
        if batch.root in self.records:
            raise Refusal("RootAlreadyNotarized", batch.root)

    def _signers(self, digest: bytes, signatures: tuple[bytes, ...]) -> tuple[str, ...]:
        members, threshold, _ = self.epochs[self.epoch]
        if len(signatures) < threshold:
            raise Refusal("TooFewSignatures", len(signatures), threshold)
        signers: list[str] = []
        for signature in signatures:
            if len(signature) != 65:
                raise Refusal("ECDSAInvalidSignatureLength", len(signature))
            if int.from_bytes(signature[32:64], "big") > encoding.HALF_ORDER:
                raise Refusal("ECDSAInvalidSignatureS", signature[32:64])
            signer = encoding.recover(digest, signature)
            if signer is None:
                raise Refusal("ECDSAInvalidSignature")
            previous = signers[-1] if signers else ZERO
            if int(signer, 16) <= int(previous, 16):
                raise Refusal("SignersNotSorted", previous, signer)
            if signer not in members:
                raise Refusal("SignerNotAuthorised", self.epoch, signer)
            signers.append(signer)
        return tuple(signers)

    @restricted
    def revoke(self, caller: str, root: bytes, reason: str) -> None:
        record = self.records.get(root)
        if record is None:
            raise Refusal("RootNotNotarized", root)
        if record.status == REVOKED:
            raise Refusal("RootAlreadyRevoked", root)
        self.records[root] = record._replace(status=REVOKED)
        self.emit("Revoked", root, caller, reason)

    @restricted
    def setSigners(self, caller: str, signers: tuple[str, ...], threshold: int) -> None:
        self._start_epoch(signers, threshold)

    def _start_epoch(self, signers: tuple[str, ...], threshold: int) -> None:
        if threshold == 0 or threshold > len(signers) or len(signers) > 32:
            raise Refusal("SignerSetInvalid", len(signers), threshold)
        for previous, signer in zip((ZERO, *signers), signers, strict=False):
            if int(signer, 16) <= int(previous, 16):
                raise Refusal("SignersNotSorted", previous, signer)
        self._put_epoch(signers, threshold)

    def _put_epoch(self, signers: tuple[str, ...], threshold: int) -> None:
        self.epoch += 1
        self.epochs[self.epoch] = (signers, threshold, self.now)
        self.emit("SignersSet", self.epoch, threshold, signers)

    @restricted
    def removeSigner(self, caller: str, signer: str, reason: str) -> None:
        members, threshold, _ = self.epochs[self.epoch]
        if signer not in members:
            raise Refusal("SignerNotAuthorised", self.epoch, signer)
        self._put_epoch(tuple(member for member in members if member != signer), threshold)
        self.emit("SignerRemoved", self.epoch, signer, reason)

    @restricted
    def pause(self, caller: str) -> None:
        if self.paused:
            raise Refusal("Paused")
        self.paused = True
        self.emit("NotarizingPaused", caller)

    @restricted
    def unpause(self, caller: str) -> None:
        if not self.paused:
            raise Refusal("NotPaused")
        self.paused = False
        self.emit("NotarizingResumed", caller)

    def verify(self, caller: str, root: bytes, statement: tuple, proof: tuple[bytes, ...]) -> bool:
        record = self.records.get(root)
        reached = encoding.root_of_proof(encoding.leaf_of(statement), proof)
        return record is not None and record.status == OPEN and reached == root

    def notarization(self, caller: str, root: bytes) -> tuple:
        return tuple(self.records.get(root, (0,) * 8))

    def signerSet(self, caller: str, epoch: int) -> tuple:
        signers, threshold, since = self.epochs.get(epoch, ((), 0, 0))
        until = self.epochs[epoch + 1][2] if epoch < self.epoch and epoch + 1 in self.epochs else 0
        return (signers, threshold, since, until)

    def epochAt(self, caller: str, time: int) -> int:
        return max((epoch for epoch, (_, _, since) in self.epochs.items() if since <= time), default=0)

    def isSigner(self, caller: str, epoch: int, signer: str) -> bool:
        return signer in self.epochs.get(epoch, ((),))[0]


# -- tokens ---------------------------------------------------------------------------------------------------


class Token(Part):
    """ERC-1155 with retirements."""

    domain: str

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.balances: dict[tuple[int, str], int] = {}
        self.approvals: dict[tuple[str, str], bool] = {}
        self.retired: dict[tuple[int, str], int] = {}
        self.nonces_: dict[str, int] = {}
        self.count = 0

    # ERC-1155.

    def setApprovalForAll(self, caller: str, operator: str, approved: bool) -> None:
        if operator == ZERO:
            raise Refusal("ERC1155InvalidOperator", ZERO)
        self.approvals[caller, operator] = approved
        self.emit("ApprovalForAll", caller, operator, approved)

    def safeTransferFrom(self, caller: str, sender: str, to: str, id_: int, amount: int, data: bytes) -> None:
        self._check_transfer(caller, sender, to)
        self.move(caller, sender, to, (id_,), (amount,), batch=False)

    def safeBatchTransferFrom(
        self, caller: str, sender: str, to: str, ids: tuple[int, ...], amounts: tuple[int, ...], data: bytes
    ) -> None:
        self._check_transfer(caller, sender, to)
        self.move(caller, sender, to, ids, amounts, batch=True)

    def _check_transfer(self, caller: str, sender: str, to: str) -> None:
        if caller != sender and not self.approvals.get((sender, caller), False):
            raise Refusal("ERC1155MissingApprovalForAll", caller, sender)
        if to == ZERO:
            raise Refusal("ERC1155InvalidReceiver", ZERO)

    def move(
        self, operator: str, sender: str, to: str, ids: tuple[int, ...], amounts: tuple[int, ...], batch: bool
    ) -> None:
        """From the zero address is a mint, to it a burn. A receiver is called last."""
        if len(ids) != len(amounts):
            raise Refusal("ERC1155InvalidArrayLength", len(ids), len(amounts))
        for id_, amount in zip(ids, amounts, strict=True):
            if sender != ZERO:
                balance = self.balances.get((id_, sender), 0)
                if balance < amount:
                    raise Refusal("ERC1155InsufficientBalance", sender, balance, amount, id_)
                self.balances[id_, sender] = balance - amount
            if to != ZERO:
                self.balances[id_, to] = self.balances.get((id_, to), 0) + amount
        if len(ids) == 1:
            self.emit("TransferSingle", operator, sender, to, ids[0], amounts[0])
        else:
            self.emit("TransferBatch", operator, sender, to, ids, amounts)
        if to != ZERO:
            self.world.deliver(self, to, ids[0] if ids else 0)

    # Retiring.

    def retire(self, caller: str, id_: int, amount: int, details: tuple) -> int:
        return self._retire_own(caller, caller, id_, amount, details)

    def retireBatch(self, caller: str, ids: tuple[int, ...], amounts: tuple[int, ...], details: tuple) -> int:
        return self._retire_many(caller, caller, ids, amounts, details)

    def retireBySig(
        self, caller: str, account: str, id_: int, amount: int, details: tuple, deadline: int, signature: bytes
    ) -> int:
        digest = encoding.retire_digest(
            self.separator(), account, id_, amount, details, self.use_nonce(account), deadline
        )
        self._check_signature(account, digest, deadline, signature)
        return self._retire_own(caller, account, id_, amount, details)

    def retireBatchBySig(
        self,
        caller: str,
        account: str,
        ids: tuple[int, ...],
        amounts: tuple[int, ...],
        details: tuple,
        deadline: int,
        signature: bytes,
    ) -> int:
        digest = encoding.retire_batch_digest(
            self.separator(), account, ids, amounts, details, self.use_nonce(account), deadline
        )
        self._check_signature(account, digest, deadline, signature)
        return self._retire_many(caller, account, ids, amounts, details)

    def cancelNonce(self, caller: str) -> None:
        self.emit("NonceCancelled", caller, self.use_nonce(caller))

    def separator(self) -> bytes:
        return self.world.separator(self.domain, self.name)

    def use_nonce(self, account: str) -> int:
        nonce = self.nonces_.get(account, 0)
        self.nonces_[account] = nonce + 1
        return nonce

    def _check_signature(self, account: str, digest: bytes, deadline: int, signature: bytes) -> None:
        if self.now > deadline:
            raise Refusal("SignatureExpired", deadline, self.now)
        receiver = self.world.receivers.get(account)
        if receiver is not None:
            is_valid = receiver.mood == ACCEPT and digest in receiver.signed
        else:
            low = int.from_bytes(signature[32:64], "big") <= encoding.HALF_ORDER
            is_valid = low and encoding.recover(digest, signature) == account
        if not is_valid:
            raise Refusal("SignatureInvalid", account)

    def check_retirable(self, id_: int) -> None:
        """Whether this id may be retired now."""

    def _retire_own(self, caller: str, account: str, id_: int, amount: int, details: tuple) -> int:
        if amount == 0:
            raise Refusal("AmountZero")
        self.check_retirable(id_)
        self.move(caller, account, ZERO, (id_,), (amount,), batch=False)
        return self.record_retirement(account, id_, amount, details)

    def record_retirement(self, account: str, id_: int, amount: int, details: tuple) -> int:
        check_details(details)
        self.add_retired(account, id_, amount)
        self.count += 1
        self.emit("Retired", self.count, account, id_, amount, tuple(details))
        return self.count

    def _retire_many(
        self, caller: str, account: str, ids: tuple[int, ...], amounts: tuple[int, ...], details: tuple
    ) -> int:
        check_amounts(ids, amounts)
        check_details(details)
        self.move(caller, account, ZERO, ids, amounts, batch=True)
        for id_, amount in zip(ids, amounts, strict=True):
            self.check_retirable(id_)
            self.add_retired(account, id_, amount)
        self.count += 1
        self.emit("RetiredBatch", self.count, account, ids, amounts, tuple(details))
        return self.count

    def add_retired(self, account: str, id_: int, amount: int) -> None:
        self.retired[id_, account] = self.retired.get((id_, account), 0) + amount


def check_details(details: tuple) -> None:
    beneficiary, name, purpose, _, _, start, end = details
    if beneficiary == ZERO and not name:
        raise Refusal("DetailsInvalid", "beneficiary")
    if not purpose:
        raise Refusal("DetailsInvalid", "purpose")
    if start > end:
        raise Refusal("DetailsInvalid", "consumptionStart")


def check_amounts(ids: tuple[int, ...], amounts: tuple[int, ...]) -> None:
    if len(ids) != len(amounts):
        raise Refusal("LengthsDiffer", len(ids), len(amounts))
    if not ids or 0 in amounts:
        raise Refusal("AmountZero")


# -- EnergyCertificate -------------------------------------------------------------------------------------------


class Admitted(NamedTuple):
    account: str
    is_private: bool


class Certificate(Token):
    name = "EnergyCertificate"
    domain = "Wattmark Energy Certificate"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.paused = False
        self.converter = ZERO
        self.issued_from: dict[bytes, int] = {}
        self.debts: dict[int, int] = {}
        self.periods: dict[int, tuple[tuple[int, int], ...]] = {}  # of the certificates of a device
        self.corrections: dict[int, tuple[int, int]] = {}  # id: version, energy

    # Issuing.

    def issue(self, caller: str, root: bytes, given: tuple, proof: tuple[bytes, ...]) -> int:
        statement, record = Statement(*given), self._issuable(root)
        self._check_proof(root, statement, proof)
        admitted = self._admit(root, record, statement, is_first=True)
        self._check_caller(caller, statement, admitted)
        self._issue(caller, root, record, statement, admitted)
        return statement.id

    def issueMany(
        self, caller: str, root: bytes, given: tuple[tuple, ...], proof: tuple[bytes, ...], flags: tuple[bool, ...]
    ) -> None:
        statements, record = [Statement(*one) for one in given], self._issuable(root)
        if not statements:
            raise Refusal("NothingToIssue")
        leaves = [encoding.leaf_of(statement) for statement in statements]
        if len(leaves) + len(proof) != len(flags) + 1:
            raise Refusal("MerkleProofInvalidMultiproof")
        if encoding.root_of_multi_proof(leaves, proof, flags) != root:
            raise Refusal("ProofInvalid", root)
        run: list[tuple[int, int]] = []  # minted together to one account without code
        holder = ZERO
        for statement in statements:
            admitted = self._admit(root, record, statement, is_first=True)
            self._check_caller(caller, statement, admitted)
            if not self._is_free(statement):
                self.emit("SkippedCertified", statement.id, root)
                continue
            if holder != admitted.account:
                self._mint_run(caller, holder, run)
                holder = admitted.account
            if admitted.account in self.world.receivers:
                self._issue_to_code(root, record, statement, admitted)
                continue
            minted = self._certify(root, record, statement, admitted)
            if minted:
                run.append((statement.id, minted))
        self._mint_run(caller, holder, run)

    def _mint_run(self, caller: str, holder: str, run: list[tuple[int, int]]) -> None:
        if run:
            ids, amounts = zip(*run, strict=True)
            run.clear()
            self.move(caller, ZERO, holder, ids, amounts, batch=True)

    def _issue_to_code(self, root: bytes, record: Notarization, statement: Statement, admitted: Admitted) -> None:
        """Alone, so that its failure undoes it whole. Its gas is limited: `starving` says where it was too little."""
        self._issued_with(root, record, statement.energy_wh)

        def item() -> None:
            if statement.id in self.world.starving:
                raise Refusal("")
            self._issue(self.address(), root, record, statement, admitted)

        with self.world.cramped():
            success, _ = self.world.attempt(item)
        if not success:
            self.emit("SkippedRefused", statement.id, root, admitted.account)

    def issueItem(self, caller: str, *_: Any) -> None:
        raise Refusal("OnlySelf", caller)

    def issueAndRetire(self, caller: str, root: bytes, given: tuple, proof: tuple[bytes, ...], details: tuple) -> int:
        statement = Statement(*given)
        balance = self.balances.get((statement.id, caller), 0)
        if balance:
            return self._retire_own(caller, caller, statement.id, min(balance, statement.energy_wh), details)
        record = self._issuable(root)
        self._check_proof(root, statement, proof)
        admitted = self._admit(root, record, statement, is_first=True)
        if caller != admitted.account:
            raise Refusal("NotEntitled", statement.device_id, caller, admitted.account)
        amount = self._certify(root, record, statement, admitted)
        if amount == 0:
            raise Refusal("AmountZero")
        return self.record_retirement(caller, statement.id, amount, details)

    # Corrections and debts.

    def correct(self, caller: str, root: bytes, given: tuple, proof: tuple[bytes, ...]) -> None:
        statement, record = Statement(*given), self._issuable(root)
        self._check_proof(root, statement, proof)
        admitted = self._admit(root, record, statement, is_first=False)
        version, energy_wh = self.corrections.get(statement.id, (0, 0))
        if statement.version != version + 1:
            raise Refusal("VersionDoesNotFollow", statement.id, version, statement.version)
        if version and statement.previous_wh != energy_wh:
            raise Refusal("PreviousEnergyMismatch", statement.id, energy_wh, statement.previous_wh)
        self.corrections[statement.id] = (statement.version, statement.energy_wh)

        minted = 0
        more_wh = statement.energy_wh - statement.previous_wh
        if more_wh > 0:
            self._count(root, record, more_wh)
        if (statement.start, statement.end) not in self.periods.get(statement.device_id, ()):
            self._check_caller(caller, statement, admitted)
            self._take_period(statement)
            minted = self._credit(root, statement, admitted, statement.energy_wh)
        elif more_wh > 0:
            minted = self._credit(root, statement, admitted, more_wh)
        elif more_wh < 0:
            debt_wh = self.debts.get(statement.device_id, 0) - more_wh
            self.debts[statement.device_id] = debt_wh
            self.emit("DebtIncurred", statement.id, statement.device_id, -more_wh, debt_wh)
        self.emit(
            "Corrected",
            statement.id,
            root,
            statement.version,
            statement.previous_wh,
            statement.energy_wh,
            statement.profile_hash,
        )
        if minted:
            self.move(caller, ZERO, admitted.account, (statement.id,), (minted,), batch=False)

    def settleDebt(self, caller: str, id_: int, amount_wh: int) -> None:
        device_id = id_ >> 192
        if amount_wh == 0:
            raise Refusal("AmountZero")
        debt_wh = self.debts.get(device_id, 0)
        if debt_wh == 0:
            raise Refusal("NoDebt", device_id)
        if amount_wh > debt_wh:
            raise Refusal("AmountExceedsDebt", device_id, amount_wh, debt_wh)
        self.debts[device_id] = debt_wh - amount_wh
        self.move(caller, caller, ZERO, (id_,), (amount_wh,), batch=False)
        self.emit("Settled", id_, caller, amount_wh, debt_wh - amount_wh)

    # Conversion and pause.

    def consume(self, caller: str, account: str, ids: tuple[int, ...], amounts: tuple[int, ...]) -> None:
        if caller != self.converter:
            raise Refusal("OnlyConverter", caller)
        check_amounts(ids, amounts)
        self.move(caller, account, ZERO, ids, amounts, batch=True)
        self.emit("Consumed", account, ids, amounts)

    @restricted
    def bindConverter(self, caller: str, converter: str) -> None:
        if self.converter != ZERO:
            raise Refusal("ConverterAlreadyBound", self.converter)
        self.converter = converter
        self.emit("ConverterBound", converter)

    @restricted
    def pause(self, caller: str) -> None:
        if self.paused:
            raise Refusal("Paused")
        self.paused = True
        self.emit("IssuingPaused", caller)

    @restricted
    def unpause(self, caller: str) -> None:
        if not self.paused:
            raise Refusal("NotPaused")
        self.paused = False
        self.emit("IssuingResumed", caller)

    def isCertified(self, caller: str, device_id: int, start: int, duration: int) -> bool:
        if duration == 0:
            return False
        step = self.world.registry.known(device_id).granularity
        first, end = start // step * step, -(-(start + duration) // step) * step
        return any(s < end and first < e for s, e in self.periods.get(device_id, ()))

    def isIssued(self, caller: str, id_: int) -> bool:
        device_id, start, duration = id_ >> 192, id_ >> 152 & NEVER, id_ >> 120 & 2**32 - 1
        if duration == 0 or id_ & 2**120 - 1:
            return False
        self.world.registry.known(device_id)
        return (start, start + duration) in self.periods.get(device_id, ())

    # Checks and effects.

    def _issuable(self, root: bytes) -> Notarization:
        if self.paused:
            raise Refusal("Paused")
        record = self.world.notary.records.get(root)
        if record is None or record.kind != FINAL or record.status != OPEN:
            raise Refusal("RootNotIssuable", root)
        return record

    def _check_proof(self, root: bytes, statement: Statement, proof: tuple[bytes, ...]) -> None:
        if encoding.root_of_proof(encoding.leaf_of(statement), proof) != root:
            raise Refusal("ProofInvalid", root)

    def _admit(self, root: bytes, record: Notarization, statement: Statement, is_first: bool) -> Admitted:
        device_id, start, duration = statement[:3]
        if is_first and statement.version:
            raise Refusal("VersionNotZero", statement.version)
        account, capacity_w = self.world.registry.terms_at(device_id, start)
        device = self.world.registry.known(device_id)
        if device.kind != GENERATION:
            raise Refusal("NotGeneration", device_id)
        step = device.granularity
        if not 0 < duration <= MAX_DURATION or duration % step or start % step or statement.end > NEVER:
            raise Refusal("PeriodInvalid", device_id, start, duration, step)
        if statement.end > self.now:
            raise Refusal("PeriodNotEnded", statement.end, self.now)
        if start < device.active_from or statement.end > device.active_until:
            raise Refusal("PeriodOutsideActivity", device_id, start, statement.end)
        limit_wh = capacity_w * duration * 11 // (3600 * 10)  # 1.1 times what it can produce
        energy_wh = max(statement.energy_wh, statement.previous_wh)
        if energy_wh > limit_wh:
            raise Refusal("EnergyAboveCapacity", device_id, energy_wh, limit_wh)
        if start < record.start or statement.end > record.end:
            raise Refusal("PeriodOutsideBatch", root, start, statement.end)
        return Admitted(account, device.visibility == PRIVATE)

    def _check_caller(self, caller: str, statement: Statement, admitted: Admitted) -> None:
        if admitted.is_private and caller != admitted.account:
            raise Refusal("NotEntitled", statement.device_id, caller, admitted.account)

    def _is_free(self, statement: Statement) -> bool:
        taken = self.periods.get(statement.device_id, ())
        return not any(start < statement.end and statement.start < end for start, end in taken)

    def _take_period(self, statement: Statement) -> None:
        if not self._is_free(statement):
            raise Refusal("SlotAlreadyCertified", statement.device_id, statement.start)
        taken = self.periods.get(statement.device_id, ())
        self.periods[statement.device_id] = (*taken, (statement.start, statement.end))

    def _count(self, root: bytes, record: Notarization, energy_wh: int) -> None:
        self.issued_from[root] = self._issued_with(root, record, energy_wh)

    def _issued_with(self, root: bytes, record: Notarization, energy_wh: int) -> int:
        issued_wh = self.issued_from.get(root, 0) + energy_wh
        if issued_wh > record.energy_wh:
            raise Refusal("BatchExhausted", root, issued_wh, record.energy_wh)
        return issued_wh

    def _credit(self, root: bytes, statement: Statement, admitted: Admitted, energy_wh: int) -> int:
        """Books energy as issued, debts first. Returns what is left for the account."""
        debt_wh = self.debts.get(statement.device_id, 0)
        settled_wh = min(debt_wh, energy_wh)
        self.emit("Issued", statement.id, root, admitted.account, energy_wh, statement.profile_hash)
        if settled_wh:
            self.debts[statement.device_id] = debt_wh - settled_wh
            self.emit("Settled", statement.id, admitted.account, settled_wh, debt_wh - settled_wh)
        return energy_wh - settled_wh

    def _certify(self, root: bytes, record: Notarization, statement: Statement, admitted: Admitted) -> int:
        self._take_period(statement)
        self._count(root, record, statement.energy_wh)
        return self._credit(root, statement, admitted, statement.energy_wh)

    def _issue(
        self, operator: str, root: bytes, record: Notarization, statement: Statement, admitted: Admitted
    ) -> None:
        minted = self._certify(root, record, statement, admitted)
        if minted:
            self.move(operator, ZERO, admitted.account, (statement.id,), (minted,), batch=False)


# -- EmissionFactors and MitigationOutcome ---------------------------------------------------------------------


class Factor(NamedTuple):
    grid_zone: bytes
    year: int
    grams_per_mwh: int
    illustrative: bool
    superseded_by: int
    approver: str
    source_hash: bytes
    source: str


class Factors(Part):
    name = "EmissionFactors"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.factors: dict[int, Factor] = {}

    def _current(self, grid_zone: bytes, year: int) -> int:
        """Id of the factor that nothing supersedes; 0 if there is none."""
        for id_, factor in self.factors.items():
            if (factor.grid_zone, factor.year, factor.superseded_by) == (grid_zone, year, 0):
                return id_
        return 0

    @restricted
    def publish(self, caller: str, grid_zone: bytes, year: int, *rest: Any) -> int:
        if not any(grid_zone):
            raise Refusal("FactorInvalid", "gridZone")
        if year == 0:
            raise Refusal("FactorInvalid", "year")
        current = self._current(grid_zone, year)
        if current:
            raise Refusal("FactorAlreadyPublished", grid_zone, year, current)
        return self._put(caller, grid_zone, year, *rest)

    @restricted
    def supersede(self, caller: str, factor_id: int, *rest: Any) -> int:
        old = self._known(factor_id)
        if old.superseded_by:
            raise Refusal("FactorNotCurrent", factor_id, old.superseded_by)
        new_id = self._put(caller, old.grid_zone, old.year, *rest)
        self.factors[factor_id] = old._replace(superseded_by=new_id)
        self.emit("FactorSuperseded", factor_id, new_id)
        return new_id

    def _put(
        self,
        caller: str,
        grid_zone: bytes,
        year: int,
        grams_per_mwh: int,
        illustrative: bool,
        source_hash: bytes,
        source: str,
    ) -> int:
        for field, is_right in (
            ("gramsPerMWh", grams_per_mwh > 0),
            ("sourceHash", any(source_hash)),
            ("source", bool(source)),
        ):
            if not is_right:
                raise Refusal("FactorInvalid", field)
        factor_id = len(self.factors) + 1
        factor = Factor(grid_zone, year, grams_per_mwh, illustrative, 0, caller, source_hash, source)
        self.factors[factor_id] = factor
        self.emit("FactorPublished", factor_id, grid_zone, year, tuple(factor))
        return factor_id

    def _known(self, factor_id: int) -> Factor:
        if factor_id not in self.factors:
            raise Refusal("FactorUnknown", factor_id)
        return self.factors[factor_id]

    def factor(self, caller: str, factor_id: int) -> tuple:
        return tuple(self._known(factor_id))

    def currentFactor(self, caller: str, grid_zone: bytes, year: int) -> tuple[int, int]:
        current = self._current(grid_zone, year)
        if not current:
            raise Refusal("FactorMissing", grid_zone, year)
        return current, self.factors[current].grams_per_mwh


class Authorisation(NamedTuple):
    country: bytes
    first_year: int
    last_year: int
    purposes: int
    proceeds_bps: int
    mitigation_bps: int
    state: int
    cap_g: int
    converted_g: int
    proceeds_account: str
    document_hash: bytes
    reference: str


class MitigationOutcome(Token):
    name = "MitigationOutcome"
    domain = "Wattmark Mitigation Outcome"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.authorisations: dict[int, Authorisation] = {}

    def convert(
        self, caller: str, ids: tuple[int, ...], amounts: tuple[int, ...], authorisation_id: int
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        if not ids:
            raise Refusal("NothingToConvert")
        if authorisation_id:
            state = self._known(authorisation_id).state
            if state != AUTHORISED:
                raise Refusal("AuthorisationNotOpen", authorisation_id, state)
        self.world.certificate.consume(self.address(), caller, ids, amounts)
        booked = [
            self._book(caller, id_, amount_wh, authorisation_id) for id_, amount_wh in zip(ids, amounts, strict=True)
        ]
        outcome_ids = tuple(outcome_id for outcome_id, _ in booked)
        grams = tuple(co2e_g for _, co2e_g in booked)
        if authorisation_id:
            grams, proceeds = self._take_levies(outcome_ids, grams, authorisation_id)
            account = self.authorisations[authorisation_id].proceeds_account
            if self.authorisations[authorisation_id].proceeds_bps:
                self.move(caller, ZERO, account, outcome_ids, proceeds, batch=True)
        self.move(caller, ZERO, caller, outcome_ids, grams, batch=True)
        return outcome_ids, grams

    def _book(self, caller: str, certificate_id: int, amount_wh: int, authorisation_id: int) -> tuple[int, int]:
        device = self.world.registry.known(certificate_id >> 192)
        start = certificate_id >> 152 & NEVER
        year = datetime.fromtimestamp(start, UTC).year
        factor_id, grams_per_mwh = self.world.factors.currentFactor(caller, device.grid_zone, year)
        if authorisation_id:
            terms = self.authorisations[authorisation_id]
            if terms.country != device.country or not terms.first_year <= year <= terms.last_year:
                raise Refusal("AuthorisationDoesNotCover", authorisation_id, device.country, year)
        country = int.from_bytes(device.country, "big")
        outcome_id = factor_id << 224 | year << 208 | country << 192 | authorisation_id << 128
        co2e_g, rest = divmod(amount_wh * grams_per_mwh, 10**6)
        self.emit("Converted", caller, certificate_id, outcome_id, amount_wh, co2e_g, rest)
        return outcome_id, co2e_g

    def _take_levies(
        self, outcome_ids: tuple[int, ...], grams: tuple[int, ...], authorisation_id: int
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """What is left for the account and what the adaptation account gets; levies are rounded up."""
        terms = self.authorisations[authorisation_id]
        converted_g = terms.converted_g + sum(grams)
        if converted_g > terms.cap_g:
            raise Refusal("AuthorisationCapExceeded", authorisation_id, converted_g, terms.cap_g)
        self.authorisations[authorisation_id] = terms._replace(converted_g=converted_g)
        if terms.proceeds_bps == terms.mitigation_bps == 0:
            return grams, ()
        left, proceeds = [], []
        for outcome_id, co2e_g in zip(outcome_ids, grams, strict=True):
            share_g = -(-co2e_g * terms.proceeds_bps // 10_000)
            mitigation_g = min(-(-co2e_g * terms.mitigation_bps // 10_000), co2e_g - share_g)
            left.append(co2e_g - share_g - mitigation_g)
            proceeds.append(share_g)
            if mitigation_g:
                self.add_retired(self.address(), outcome_id, mitigation_g)
            self.emit("LeviesTaken", outcome_id, share_g, mitigation_g)
        return tuple(left), tuple(proceeds)

    @restricted
    def authorise(self, caller: str, authorisation_id: int, given: tuple) -> None:
        if authorisation_id in self.authorisations:
            raise Refusal("AuthorisationAlreadyExists", authorisation_id)
        terms = Authorisation(*given)
        for field, is_right in (
            ("authorisationId", authorisation_id != 0),
            ("country", any(terms.country)),
            ("firstYear", 0 < terms.first_year <= terms.last_year),
            ("purposes", 0 < terms.purposes <= 7),
            ("overallMitigationBps", terms.proceeds_bps + terms.mitigation_bps <= 10_000),
            ("shareOfProceedsAccount", terms.proceeds_bps == 0 or terms.proceeds_account != ZERO),
            ("state", terms.state == AUTHORISED),
            ("capG", terms.cap_g > 0),
            ("convertedG", terms.converted_g == 0),
            ("documentHash", any(terms.document_hash)),
            ("reference_", bool(terms.reference)),
        ):
            if not is_right:
                raise Refusal("AuthorisationInvalid", field)
        self.authorisations[authorisation_id] = terms
        self.emit("Authorised", authorisation_id, terms.country, tuple(terms))

    @restricted
    def recordFirstTransfer(self, caller: str, authorisation_id: int, evidence: bytes) -> None:
        self._advance(authorisation_id, FIRST_TRANSFERRED, evidence)

    @restricted
    def recordAdjustmentPending(self, caller: str, authorisation_id: int, evidence: bytes) -> None:
        self._advance(authorisation_id, ADJUSTMENT_PENDING, evidence)

    @restricted
    def recordAdjustment(self, caller: str, authorisation_id: int, evidence: bytes) -> None:
        self._advance(authorisation_id, COMPLETED, evidence)

    def _advance(self, authorisation_id: int, state: int, evidence: bytes) -> None:
        terms = self._known(authorisation_id)
        if state != terms.state + 1:
            raise Refusal("StateDoesNotFollow", authorisation_id, terms.state, state)
        if not any(evidence):
            raise Refusal("AuthorisationInvalid", "evidenceHash")
        self.authorisations[authorisation_id] = terms._replace(state=state)
        self.emit("StateAdvanced", authorisation_id, state, evidence)

    def _known(self, authorisation_id: int) -> Authorisation:
        if authorisation_id not in self.authorisations:
            raise Refusal("AuthorisationUnknown", authorisation_id)
        return self.authorisations[authorisation_id]

    def authorisation(self, caller: str, authorisation_id: int) -> tuple:
        return tuple(self._known(authorisation_id))

    def check_retirable(self, id_: int) -> None:
        authorisation_id = id_ >> 128 & 2**64 - 1
        if not authorisation_id:
            return
        known = self.authorisations.get(authorisation_id)
        state = known.state if known else NONE
        if state < FIRST_TRANSFERRED:
            raise Refusal("NotFirstTransferred", authorisation_id, state)


# -- contract accounts ---------------------------------------------------------------------------------------


class Receiver(NamedTuple):
    """A contract account of Actors.sol."""

    name: str
    mood: int = ACCEPT
    watched: bytes = NO_BYTES
    armed: Inner | None = None  # what it does when it is next called
    signed: frozenset[bytes] = frozenset()


# -- all of it ---------------------------------------------------------------------------------------------------


class World:
    """The state of every contract, and what a call would do to it."""

    def __init__(
        self, bed: Any, now: int, deployer: str, signers: Sequence[str], threshold: int, administrator: str
    ) -> None:
        self.now = now
        self.addresses: dict[str, str] = bed.addresses
        self.names: dict[str, str] = bed.names
        self.logs: list[tuple] = []
        self.receivers: dict[str, Receiver] = {}
        self.executing: tuple[str, str, str] | None = None
        self.starving: dict[int | str, tuple] = {}  # certificate ids and receivers that have too little gas
        self.is_roomy = True
        self.totals_of: Sequence[str] = ()
        self._bed = bed
        self._separators: dict[str, bytes] = {}
        self.access = Access(self, deployer)
        self.other_access = Access(self, administrator, "OtherManager")
        self.registry = Registry(self)
        self.notary = Notary(self, signers, threshold)
        self.certificate = Certificate(self)
        self.factors = Factors(self)
        self.outcome = MitigationOutcome(self)
        self.parts = {
            part.name: part
            for part in (
                self.access,
                self.other_access,
                self.registry,
                self.notary,
                self.certificate,
                self.factors,
                self.outcome,
            )
        }
        self.logs.clear()

    # Encodings that depend on where contracts are.

    @staticmethod
    def encode(types: Sequence[str], values: Sequence[Any]) -> bytes:
        return encoding.encode(types, values)

    def calldata(self, call: Inner) -> bytes:
        return self._bed.calldata(*call)

    def function_of(self, target: str, selector: bytes) -> str:
        return next(name for name, entry in self._bed.abis[target].functions.items() if entry[0] == selector)

    def separator(self, domain: str, contract: str) -> bytes:
        if contract not in self._separators:
            self._separators[contract] = encoding.domain_separator(domain, self._bed.chain_id, self.addresses[contract])
        return self._separators[contract]

    # Saving and restoring: values are immutable, so copies are shallow.

    def save(self) -> list[dict]:
        parts = [
            {name: copy.copy(value) for name, value in vars(part).items() if name != "world"}
            for part in self.parts.values()
        ]
        return [*parts, {"now": self.now, "receivers": dict(self.receivers)}]

    def restore(self, saved: list[dict]) -> None:
        for part, state in zip([*self.parts.values(), self], saved, strict=True):
            for name, value in state.items():
                setattr(part, name, copy.copy(value))

    # Calls.

    def call(self, caller: str, target: str, function: str, *arguments: Any) -> Prediction:
        """What the call does; the state afterwards is this one's."""
        self.logs.clear()
        result = None

        def act() -> None:
            nonlocal result
            result = self.enter(caller, Inner(target, function, arguments))

        success, error = self.attempt(act)
        return Prediction(success, result, error, tuple(self.logs))

    def enter(self, caller: str, call: Inner) -> Any:
        return getattr(self.parts[call.target], call.function)(caller, *call.arguments)

    def attempt(self, act: Callable[[], None]) -> tuple[bool, tuple | None]:
        """Acts; undone whole where it is refused. Success and the error."""
        saved, logged = self.save(), len(self.logs)
        try:
            act()
        except Refusal as refusal:
            self.restore(saved)
            del self.logs[logged:]
            return False, refusal.error
        return True, None

    @contextmanager
    def cramped(self):
        """While an item of `issueMany` is issued, with little gas."""
        before, self.is_roomy = self.is_roomy, False
        try:
            yield
        finally:
            self.is_roomy = before

    def deliver(self, token: Token, to: str, id_: int) -> None:
        """Calls the receiver of tokens, if it is a contract account."""
        receiver = self.receivers.get(to)
        if receiver is None:
            if to in self.names:
                raise Refusal("ERC1155InvalidReceiver", to)  # a contract that receives nothing
            return
        if receiver.mood == REVERT:
            raise Refusal("Refused")
        if receiver.mood != ACCEPT:
            raise Refusal("ERC1155InvalidReceiver", to)
        record = self.notary.records.get(receiver.watched)
        holdings = [token.balances.get((id_, account), 0) for account in self.totals_of]
        retired = [token.retired.get((id_, account), 0) for account in self.totals_of]
        self.logs.append(
            (
                receiver.name,
                "Observed",
                (
                    id_,
                    token.balances.get((id_, to), 0),
                    token.retired.get((id_, to), 0),
                    self.certificate.issued_from.get(receiver.watched, 0),
                    record.energy_wh if record else 0,
                    self.is_roomy,
                    sum(holdings) if self.is_roomy else 0,
                    sum(retired) if self.is_roomy else 0,
                ),
            )
        )
        if receiver.armed is None:
            return
        call = receiver.armed
        self.receivers[to] = receiver._replace(armed=None)
        if receiver.name in self.starving and not self.is_roomy:
            success, error = False, self.starving[receiver.name]
        else:
            success, error = self.attempt(lambda: self.enter(to, call))
        self.logs.append((receiver.name, "Reentered", (success, error)))
