"""The state machines. Every rule draws a call that would succeed and a twist that may spoil it; whatever comes of
it, the model has to predict it, and what must always hold is checked on the chain's own words after every step."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from hypothesis import reject
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from . import encoding, model
from .bed import GAS, Inner, Outcome
from .encoding import Batch, Details, Statement, Tree
from .ledger import Ledger, always
from .model import ADJUSTMENTS, ADMINISTRATOR, AUTHORISER, DAY, GUARDIAN, PUBLISHER, REGISTRAR, TRANSFERS, ZERO
from .system import (
    ADAPTATION,
    ADMIN_DELAY,
    ALICE,
    BOB,
    CAROL,
    FIRST_PERIOD,
    HISTOGRAM,
    HOLDERS_OF_ROLES,
    KEYS,
    STRANGER,
    WITNESSES,
    ZONES,
    System,
    device,
)

CERTIFICATE, OUTCOME, NOTARY, REGISTRY, FACTORS, MANAGER, OTHER_MANAGER = (
    "EnergyCertificate",
    "MitigationOutcome",
    "Notary",
    "DeviceRegistry",
    "EmissionFactors",
    "AccessManager",
    "OtherManager",
)
MANAGED = (REGISTRY, NOTARY, CERTIFICATE, FACTORS, OUTCOME)
HOUR = 3600
OUTSIDER = encoding.Key.named("outsider")
ANY = st.integers(0, 2**16 - 1)


def twists(*names: str, straight: int = 2) -> st.SearchStrategy[str]:
    """One of the names, or nothing (""), which comes `straight` times as often as all the names together."""
    return st.sampled_from(("",) * (straight * len(names)) + names)


def step(**given: st.SearchStrategy) -> Callable:
    """A rule whose calls are counted under its name."""

    def wrap(act: Callable) -> Callable:
        @functools.wraps(act)
        def run(self: Bench, **drawn: Any) -> Any:
            self.rule_name = act.__name__
            return act(self, **drawn)

        return rule(**given)(run)

    return wrap


class Sealed:
    """A batch that was proposed, and its tree."""

    def __init__(self, tree: Tree, statements: Sequence[Statement]) -> None:
        self.tree, self.statements, self.root = tree, tuple(statements), tree.root


class Bench(RuleBasedStateMachine):
    """What all machines have: calls, the ledger of what the chain said, the invariants."""

    system: System  # set before a machine is run

    def __init__(self) -> None:
        super().__init__()
        self.system.reset()
        self.world, self.bed = self.system.world, self.system.bed
        self.rule_name = ""
        self.serial = 0
        self.sealed: list[Sealed] = []
        self.known: dict[bytes, tuple[Sealed, Statement]] = {}
        self.scheduled: list[tuple[str, Inner]] = []
        self.used: list[tuple[str, tuple]] = []  # signed retirements that were done
        self.ledger = Ledger(self.world, self.system.history)
        # Of the step that runs:
        self.acting: set[str] = set()
        self.signing: set[str] = set()
        self.holdings_before: dict[tuple[str, int, str], int] = {}
        self.retired_before: dict[tuple[str, int, str], int] = {}

    # -- calls ------------------------------------------------------------------------------------------------

    def send(self, caller: str, target: str, function: str, *arguments: Any, gas: int = GAS) -> Outcome:
        """A call that the rule is about: predicted, compared, counted."""
        outcome = self._call(caller, target, function, *arguments, gas=gas)
        HISTOGRAM.count(type(self).__name__, self.rule_name, outcome)
        return outcome

    def prepare(self, caller: str, target: str, function: str, *arguments: Any) -> Outcome:
        """A call that only leads up to it: compared, not counted, and it succeeds."""
        outcome = self._call(caller, target, function, *arguments)
        if not outcome.success and not self.system.compares:
            reject()  # the contracts went their own way
        assert outcome.success, f"{target}.{function}{arguments}: {outcome.error}"
        return outcome

    def ask(self, target: str, function: str, *arguments: Any) -> Outcome:
        return self.send(STRANGER, target, function, *arguments)

    def _call(self, caller: str, target: str, function: str, *arguments: Any, gas: int = GAS) -> Outcome:
        self.acting.add(caller)
        self.acting.update(address for address, receiver in self.world.receivers.items() if receiver.armed)
        if function.endswith("BySig"):
            self.signing.add(arguments[0])
        outcome = self.system.call(caller, target, function, *arguments, gas=gas)
        self.ledger.absorb(outcome.logs)
        return outcome

    # -- invariants -------------------------------------------------------------------------------------------

    @invariant()
    def everything_holds(self) -> None:
        ids, outcome_ids = tuple(self.ledger.issued), tuple(self.ledger.converted)
        accounts, roots = self.system.accounts, tuple(sealed.root for sealed in self.sealed)
        devices = tuple(self.world.registry.devices)
        lists = (ids, outcome_ids, accounts, roots, devices)
        words = self.bed.look((CERTIFICATE, OUTCOME, NOTARY), lists)
        expected = self._expected_words(*lists)
        assert words == expected or not self.system.compares, (
            f"state differs from the model: {words} instead of {expected}"
        )
        self._check_holdings(words, ids, outcome_ids, accounts)
        self._check_roots(words, roots, len(ids) * (2 * len(accounts) + 2) + len(outcome_ids) * 2 * len(accounts))
        self._check_authorisations(self.retired_before)
        self.acting.clear()
        self.signing.clear()

    def _expected_words(self, ids: tuple, outcome_ids: tuple, accounts: tuple, roots: tuple, devices: tuple) -> list:
        certificate, outcome, notary = self.world.certificate, self.world.outcome, self.world.notary
        words: list[int] = []
        for id_ in ids:
            words += [certificate.balances.get((id_, account), 0) for account in accounts]
            words += [certificate.retired.get((id_, account), 0) for account in accounts]
            words += certificate.corrections.get(id_, (0, 0))
        for id_ in outcome_ids:
            words += [outcome.balances.get((id_, account), 0) for account in accounts]
            words += [outcome.retired.get((id_, account), 0) for account in accounts]
        for root in roots:
            record = notary.records.get(root)
            words += [certificate.issued_from.get(root, 0)]
            words += [record.energy_wh, record.status] if record else [0, 0]
        words += [certificate.debts.get(device_id, 0) for device_id in devices]
        for account in accounts:
            words += [certificate.nonces_.get(account, 0), outcome.nonces_.get(account, 0)]
        words += [certificate.count, outcome.count, int(certificate.paused), int(notary.paused), notary.epoch]
        return [*words, int.from_bytes(notary.head, "big")]

    def _check_holdings(self, words: list[int], ids: tuple, outcome_ids: tuple, accounts: tuple) -> None:
        count, at = len(accounts), 0
        holdings, retired = {}, {}
        for token, token_ids in ((CERTIFICATE, ids), (OUTCOME, outcome_ids)):
            for id_ in token_ids:
                balances, ended = words[at : at + count], words[at + count : at + 2 * count]
                at += 2 * count + (2 if token == CERTIFICATE else 0)
                if token == CERTIFICATE:
                    gone = self.ledger.consumed[id_] + self.ledger.settled[id_]
                    always(self.ledger.issued[id_] == sum(balances) + sum(ended) + gone, "conservation of certificates")
                else:
                    always(self.ledger.converted[id_] == sum(balances) + sum(ended), "conservation of outcomes")
                for account, balance, amount in zip(accounts, balances, ended, strict=True):
                    holdings[token, id_, account] = balance
                    retired[token, id_, account] = amount
        for key, amount in self.retired_before.items():
            always(retired[key] >= amount, "retired never falls")
        for (token, id_, account), balance in self.holdings_before.items():
            if holdings[token, id_, account] < balance:
                may = account in self.acting | self.signing or any(
                    (account, one) in self.ledger.approvals for one in self.acting
                )
                always(may, "only the holder moves tokens")
        self.holdings_before, self.retired_before = holdings, retired

    def _check_roots(self, words: list[int], roots: tuple, at: int) -> None:
        for i, root in enumerate(roots):
            issued_wh, notarized_wh, _ = words[at + 3 * i : at + 3 * i + 3]
            always(self.ledger.issued_by_root[root] <= issued_wh <= notarized_wh, "issued <= notarized")

    def _check_authorisations(self, retired: dict[tuple[str, int, str], int]) -> None:
        """Each one's cap, as the chain counts it, and what its mitigation levy cancelled, apart from all others."""
        for authorisation_id, converted_g in self.ledger.converted_by_authorisation.items():
            if authorisation_id:
                terms = model.Authorisation(*self.bed.read(OUTCOME, "authorisation", authorisation_id))
                always(terms.converted_g == converted_g <= terms.cap_g, "authorised cap")
                always(terms.state == self.ledger.states[authorisation_id], "states move one at a time")
        own = self.bed.addresses[OUTCOME]
        for outcome_id in self.ledger.converted:
            always(retired[OUTCOME, outcome_id, own] == self.ledger.cancelled[outcome_id], "levies are cancelled")

    # -- choosing -------------------------------------------------------------------------------------------------

    def next_serial(self) -> int:
        self.serial += 1
        return self.serial

    def holder_of(self, role: int) -> str:
        """Somebody who may act in this role at once, in any contract."""
        self.put_in_order()
        return self.member_of(role)

    def member_of(self, role: int) -> str:
        """Who was given the role at deployment, unless that changed."""
        first = HOLDERS_OF_ROLES[role]
        members = [first, *(account for of, account in self.world.access.members if of == role)]
        able = [one for one in members if self.world.access.has_role(role, one) == (True, 0)]
        if not able:
            self.as_administrator(MANAGER, "grantRole", role, first, 0)
            self.prepare(HOLDERS_OF_ROLES[ADMINISTRATOR], MANAGER, "grantRole", role, first, 0)
            self.system.set_time(max(self.world.now, self.world.access.members[role, first].delay.effect))
            able.append(first)
        return able[0]

    def put_in_order(self) -> None:
        """Contracts that are closed or ruled by the other manager come back to the roles."""
        administrator, manager = HOLDERS_OF_ROLES[ADMINISTRATOR], self.bed.addresses[MANAGER]
        for contract in MANAGED:
            address = self.bed.addresses[contract]
            if self.world.parts[contract].ruler != MANAGER:
                self.prepare(administrator, OTHER_MANAGER, "updateAuthority", address, manager)
            if self.world.access.closed.get(contract):
                self.as_administrator(MANAGER, "setTargetClosed", address, False)
                self.prepare(administrator, MANAGER, "setTargetClosed", address, False)

    def warp(self, seconds: int) -> None:
        self.system.set_time(self.world.now + seconds)

    def plan(self, caller: str, call: Inner) -> int:
        """Schedules the act, unless it is. From when on it may be done."""
        if call.target != MANAGER:
            self.put_in_order()
        when, _ = self.world.access.schedules.get(self.world.access._operation(caller, call), (0, 0))
        if when == 0 or when + model.Access.EXPIRATION <= self.world.now:
            self.prepare(caller, MANAGER, "schedule", self.bed.addresses[call.target], call, 0)
            when = self.world.now + self.world.access.has_role(ADMINISTRATOR, caller)[1]
        return when

    def as_administrator(self, target: str, function: str, *arguments: Any) -> None:
        """Schedules the act and waits: the administrator may do it now."""
        when = self.plan(HOLDERS_OF_ROLES[ADMINISTRATOR], Inner(target, function, arguments))
        self.system.set_time(max(self.world.now, when))

    def mend(self) -> None:
        """What it takes so that notarizing and issuing are possible again."""
        administrator, notary = HOLDERS_OF_ROLES[ADMINISTRATOR], self.world.notary
        for target, is_paused in ((NOTARY, notary.paused), (CERTIFICATE, self.world.certificate.paused)):
            if is_paused:
                self.as_administrator(target, "unpause")
                self.prepare(administrator, target, "unpause")
        members, threshold, _ = notary.epochs[notary.epoch]
        if len(members) < threshold:
            signers = tuple(key.address for key in WITNESSES[1:5])
            self.as_administrator(NOTARY, "setSigners", signers, 2)
            self.prepare(administrator, NOTARY, "setSigners", signers, 2)

    def free_start(self, device_id: int, offset: int, duration: int) -> int:
        """A start on the device's grid from which nothing is certified or sealed, near `offset` steps after the first."""
        step_ = self.world.registry.devices[device_id].granularity
        taken = list(self.world.certificate.periods.get(device_id, ()))
        taken += [(s.start, s.end) for _, s in self.known.values() if s.device_id == device_id]
        start = FIRST_PERIOD + offset * step_
        for begin, end in sorted(taken):
            if begin < start + duration and start < end:
                start = end
        return start

    def make_statement(self, device_id: int, offset: int, length: int, level: int, overlapping: bool) -> Statement:
        """A version 0. `level` chooses the energy: nothing, a little, the device's limit, one more, or anything below."""
        registered = self.world.registry.devices[device_id]
        duration = (1 + length) * registered.granularity
        if overlapping:
            start = FIRST_PERIOD + offset * registered.granularity
        else:
            start = self.free_start(device_id, offset, duration)
        _, capacity_w = self.world.registry.terms_at(device_id, start)
        limit_wh = capacity_w * duration * 11 // 36_000
        energy_wh = {0: 0, 1: 1, 2: limit_wh, 3: limit_wh + 1}.get(level, 1 + level * 7919 % limit_wh)
        profile = model.keccak(b"profile" + self.next_serial().to_bytes(4, "big"))
        return Statement(device_id, start, duration, 0, energy_wh, 0, profile)

    def propose(self, statements: Sequence[Statement], **changes: Any) -> tuple[Sealed, Batch]:
        """A batch as the witnesses would sign it now."""
        sealed = Sealed(Tree.of(statements), statements)
        notary, kind = self.world.notary, changes.get("kind", model.FINAL)
        batch = Batch(
            kind=kind,
            signer_epoch=notary.epoch,
            head=notary.head if kind == model.FINAL else model.NO_BYTES,
            root=sealed.root,
            start=min(statement.start for statement in statements),
            end=max(statement.end for statement in statements),
            statements=len(statements),
            energy_wh=sum(max(0, s.energy_wh - s.previous_wh) for s in statements),
            archive_hash=model.keccak(b"archive"),
            deadline=self.world.now + HOUR,
        )
        return sealed, batch._replace(**changes)

    def sign(self, batch: Batch, who: Sequence[encoding.Key] | None = None) -> tuple[bytes, ...]:
        """Signatures of as many current witnesses as must sign, or of those given, in the right order."""
        members, threshold, _ = self.world.notary.epochs[self.world.notary.epoch]
        who = [key for key in WITNESSES if key.address in members][:threshold] if who is None else who
        digest = encoding.batch_digest(self.world.separator("Wattmark Notary", NOTARY), batch)
        return tuple(key.sign(digest) for key in sorted(who, key=lambda key: key.address))

    def remember(self, sealed: Sealed, outcome: Outcome) -> None:
        if outcome.success:
            self.sealed.append(sealed)
            self.known.update((encoding.leaf_of(statement), (sealed, statement)) for statement in sealed.statements)

    def seal(self, statements: Sequence[Statement], **changes: Any) -> Sealed:
        """Notarized without further ado."""
        self.mend()
        latest = max(statement.end for statement in statements)
        if latest > self.world.now:
            self.system.set_time(latest)
        sealed, batch = self.propose(statements, **changes)
        self.remember(sealed, self.prepare(STRANGER, NOTARY, "notarize", batch, self.sign(batch)))
        return sealed

    def is_open(self, sealed: Sealed) -> bool:
        record = self.world.notary.records.get(sealed.root)
        return record is not None and record.kind == model.FINAL and record.status == model.OPEN

    def issuable(self) -> list[tuple[Sealed, Statement]]:
        return [
            (sealed, one) for sealed, one in self.known.values() if one.version == 0 and self._can_issue(sealed, one)
        ]

    def _can_issue(self, sealed: Sealed, statement: Statement) -> bool:
        certificate = self.world.certificate
        if not self.is_open(sealed) or not certificate._is_free(statement):
            return False
        record = self.world.notary.records[sealed.root]
        try:
            certificate._admit(sealed.root, record, statement, is_first=True)
        except model.Refusal:
            return False
        return certificate.issued_from.get(sealed.root, 0) + statement.energy_wh <= record.energy_wh

    def correctable(self) -> list[tuple[Sealed, Statement]]:
        found = []
        for sealed, statement in self.known.values():
            version, energy_wh = self.world.certificate.corrections.get(statement.id, (0, statement.previous_wh))
            if statement.version == version + 1 and statement.previous_wh == energy_wh and self.is_open(sealed):
                found.append((sealed, statement))
        return found

    def some_issuable(self, pick: int, devices: Sequence[int] = (1, 2, 3, 4, 5, 7)) -> tuple[Sealed, Statement]:
        """One that can be issued now, notarized for the purpose if need be."""
        self.mend()
        found = [one for one in self.issuable() if one[1].device_id in devices]
        if not found:
            numbers = [devices[(pick + i) % len(devices)] for i in range(min(3, len(devices)))]
            statements = [
                self.make_statement(number, pick % 97 + i, pick % 5, 5 + pick + i, False)
                for i, number in enumerate(numbers)
            ]
            sealed = self.seal(distinct(statements))
            found = [(sealed, statement) for statement in sealed.statements]
        return found[pick % len(found)]

    def payee(self, statement: Statement) -> str:
        return self.world.registry.terms_at(statement.device_id, statement.start)[0]

    def some_holding(self, pick: int, token: str = CERTIFICATE, of: Sequence[str] = ()) -> tuple[int, str, int]:
        """(id, account, balance) of somebody; issued for the purpose if there is too little."""
        for _ in range(2):
            balances = self.world.parts[token].balances
            found = [(i, a, b) for (i, a), b in balances.items() if b and a in (of or self.able())]
            if len(found) > 1 + bool(of) * -1:
                return found[pick % len(found)]
            self.stock(pick, token, of)
        return (found or self.nothing_left())[pick % len(found)]

    def nothing_left(self) -> NoReturn:
        """Debts took all that was issued for a holding: the history ends here."""
        reject()

    def able(self) -> tuple[str, ...]:
        return (ALICE, BOB, CAROL, *self.system.receivers)

    def stock(self, pick: int, token: str, of: Sequence[str]) -> None:
        """Issues a few certificates, and converts some where outcomes are wanted."""
        for receiver in self.system.receivers:
            self.system.disarm(receiver)
            self.system.set_mood(receiver, model.ACCEPT)
        for number in (1, 2, 4) if pick % 2 else (1, 2, 5):
            for _ in range(2):
                fresh = self.make_statement(number, pick % 89, pick % 3, 2, False)
                fresh = fresh._replace(energy_wh=fresh.energy_wh - fresh.energy_wh * (pick % 7) // 10)
                sealed = self.seal([fresh])
                self.prepare(STRANGER, CERTIFICATE, "issue", sealed.root, fresh, sealed.tree.proof(fresh))
        if of and not any(b for (_, a), b in self.world.certificate.balances.items() if a in of):
            id_, account, balance = next((i, a, b) for (i, a), b in self.world.certificate.balances.items() if b > 1)
            self.prepare(account, CERTIFICATE, "safeTransferFrom", account, of[0], id_, balance // 2, b"")
        if token == OUTCOME:
            for (id_, account), balance in list(self.world.certificate.balances.items()):
                if balance > 9 and account in self.able() and self.factor_of(id_):
                    self.prepare(account, OUTCOME, "convert", (id_,), (balance // 2,), 0)

    def factor_of(self, certificate_id: int) -> int:
        year = model.datetime.fromtimestamp(certificate_id >> 152 & 2**40 - 1, model.UTC).year
        registered = self.world.registry.devices[certificate_id >> 192]
        return self.world.factors._current(registered.grid_zone, year)

    def details(self, pick: int, twist: str = "") -> Details:
        return Details(
            beneficiary=ZERO if twist in ("nobody", "named") else BOB,
            beneficiary_name="" if twist == "nobody" or pick % 2 else "Städtische Bücherei",
            purpose="" if twist == "no purpose" else "Scope 2, 2024",
            country=b"ES",
            location="",
            consumption_start=1_704_067_200 + (twist == "backwards") * 10**9,
            consumption_end=1_735_689_600,
        )


def amount_of(balance: int, share: int) -> int:
    """A part of a balance: all of it, one more, nothing, a unit, or a fraction."""
    return {0: balance, 1: balance + 1, 2: 0, 3: 1}.get(share, max(1, balance * share // 12))


SHARES = st.sampled_from((0, 0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11))


def distinct(statements: Sequence[Statement]) -> list[Statement]:
    """Without those whose period overlaps an earlier one's."""
    kept: list[Statement] = []
    for one in statements:
        if not any(o.device_id == one.device_id and o.start < one.end and one.start < o.end for o in kept):
            kept.append(one)
    return kept


# -- rules by contract -----------------------------------------------------------------------------------------------


class Clock:
    @step(hours=st.integers(1, 40), odd=st.integers(0, 3599))
    def time_passes(self, hours: int, odd: int) -> None:
        self.warp(hours * HOUR + odd)
        self.ask(NOTARY, "epochAt", self.world.now - hours * 1800)


class RegistryRules:
    TWISTS = ("off grid", "past", "unknown", "stranger", "nothing")

    @step(
        pick=ANY,
        owner=st.integers(0, 4),
        granularity=st.sampled_from((900, 1800, HOUR, 4 * HOUR, DAY)),
        twist=twists(
            "again", "zero id", "meter", "account", "capacity", "kind", "visibility", "country", "fuel", "technology",
            "zone", "no meter", "granularity", "active from", "active until", "stranger", straight=1,
        ),
    )  # fmt: skip
    def register(self, pick: int, owner: int, granularity: int, twist: str) -> None:
        device_id = 100 + self.next_serial()
        given = model.Device(
            *device(self.able()[owner], device_id, kind=1 + pick % 4, visibility=1 + pick % 2, zone=pick % 2)
        )._replace(granularity=granularity)
        others = list(self.world.registry.devices)
        if twist == "again":
            device_id = others[pick % len(others)]
        elif twist == "zero id":
            device_id = 0
        elif twist == "meter":
            ended = [o for o, d in self.world.registry.devices.items() if d.active_until != model.NEVER] or others
            previous = self.world.registry.devices[ended[pick % len(ended)]]
            begin = previous.active_until if pick % 3 and previous.active_until != model.NEVER else given.active_from
            given = given._replace(meter_hash=previous.meter_hash, active_from=-(-begin // DAY) * DAY)
        caller = STRANGER if twist == "stranger" else self.holder_of(REGISTRAR)
        changes = {
            "account": {"account": ZERO},
            "capacity": {"capacity_w": 0},
            "kind": {"kind": 0},
            "visibility": {"visibility": 0},
            "country": {"country": b"De"},
            "fuel": {"fuel_code": 10**8},
            "technology": {"technology_code": 10**6},
            "zone": {"grid_zone": bytes(16)},
            "no meter": {"meter_hash": bytes(32)},
            "granularity": {"granularity": (0, 901, 7 * 900, 2 * DAY)[pick % 4]},
            "active from": {"active_from": given.active_from + 450},
            "active until": {"active_until": self.world.now + DAY},
        }
        self.send(caller, REGISTRY, "register", device_id, tuple(given._replace(**changes.get(twist, {}))))

    def _change(self, pick: int, steps: int, twist: str, own: bool) -> tuple[str, int, int]:
        """Caller, device and time of a change. `own` keeps to devices that machines registered themselves."""
        devices = self.world.registry.devices
        active = [one for one, d in devices.items() if d.active_until == model.NEVER and (one > 100 or not own)]
        if not active or (twist == "nothing" and pick % 2 and not own):
            active = list(devices)
        device_id = active[pick % len(active)]
        step_ = devices[device_id].granularity
        time = -(-max(self.world.now, devices[device_id].active_from) // step_) * step_ + steps * step_
        if twist == "off grid":
            time += 60
        elif twist == "past":
            time -= (steps + 1) * step_
        elif twist == "unknown":
            device_id = 99
        return STRANGER if twist == "stranger" else self.holder_of(REGISTRAR), device_id, time

    @step(pick=ANY, owner=st.integers(0, 4), steps=st.integers(0, 30), twist=twists(*TWISTS))
    def set_account(self, pick: int, owner: int, steps: int, twist: str) -> None:
        caller, device_id, time = self._change(pick, steps, twist, own=False)
        account = ZERO if twist == "nothing" else self.able()[owner]
        self.send(caller, REGISTRY, "setAccount", device_id, account, time)

    @step(pick=ANY, kilowatts=st.integers(1, 60), steps=st.integers(0, 30), twist=twists(*TWISTS))
    def set_capacity(self, pick: int, kilowatts: int, steps: int, twist: str) -> None:
        caller, device_id, time = self._change(pick, steps, twist, own=False)
        capacity_w = 0 if twist == "nothing" else 1000 * kilowatts
        self.send(caller, REGISTRY, "setCapacity", device_id, capacity_w, time)

    @step(pick=ANY, steps=st.integers(0, 30), twist=twists(*TWISTS))
    def deactivate(self, pick: int, steps: int, twist: str) -> None:
        if not any(o > 100 and d.active_until == model.NEVER for o, d in self.world.registry.devices.items()):
            device_id = 100 + self.next_serial()
            self.prepare(
                self.holder_of(REGISTRAR), REGISTRY, "register", device_id, device(ALICE, device_id, granularity=HOUR)
            )
        caller, device_id, time = self._change(pick, steps, twist, own=True)
        self.send(caller, REGISTRY, "deactivate", device_id, time)

    @step(pick=ANY, hours=st.integers(-400, 400))
    def terms_are_in_force(self, pick: int, hours: int) -> None:
        """Account and capacity at any time are those of the two time lines; `since` says when they began."""
        devices = list(self.world.registry.devices)
        device_id, time = devices[pick % len(devices)], self.world.now + hours * HOUR
        account, since, capacity_w = self.bed.read(REGISTRY, "termsAt", device_id, time)
        assert (account, capacity_w) == self.world.registry.terms_at(device_id, time) and since <= time
        assert self.world.registry.terms_at(device_id, since) == (account, capacity_w)
        self.ask(REGISTRY, "device", device_id)
        self.ask(REGISTRY, "deviceOfMeter", self.world.registry.devices[device_id].meter_hash)


class AccountRules:
    @step(pick=ANY, owners=st.lists(st.integers(0, 4), min_size=1, max_size=3))
    def change_accounts(self, pick: int, owners: list[int]) -> None:
        """Several changes of account, some of which replace planned ones; what lies around them is issued afterwards."""
        device_id = (1, 2, 4, 5)[pick % 4]
        step_ = self.world.registry.devices[device_id].granularity
        caller, changes = self.holder_of(REGISTRAR), []
        for i, owner in enumerate(owners):
            time = -(-self.world.now // step_) * step_ + (pick >> 3 * i) % 5 * step_
            self.send(caller, REGISTRY, "setAccount", device_id, self.able()[owner], time)
            changes.append(time)
            if pick >> i & 1:
                self.warp(step_)
        self.system.set_time(max(self.world.now, *changes) + 2 * step_)
        around = []
        for time in sorted({time + ahead * step_ for time in changes for ahead in (-1, 0)}):
            account, _, _ = self.bed.read(REGISTRY, "termsAt", device_id, time)
            always(account == self.ledger.account_at(device_id, time), "the account at the start is paid")
            profile = model.keccak(b"profile" + self.next_serial().to_bytes(4, "big"))
            around.append(Statement(device_id, time, step_, 0, 1 + pick % 100, 0, profile))
        sealed = self.seal(around)
        for one in filter(self.world.certificate._is_free, around):
            self.send(STRANGER, CERTIFICATE, "issue", sealed.root, one, sealed.tree.proof(one))


STATEMENTS = st.lists(
    st.tuples(
        st.sampled_from((1, 1, 1, 2, 2, 3, 4, 4, 5, 7, 6)),
        st.integers(0, 300),
        st.sampled_from((0, 0, 1, 2, 3, 5, 11, 23, 30, 129)),
        st.integers(0, 500),
        st.sampled_from((False, False, False, True)),
    ),
    min_size=1,
    max_size=5,
)


class NotaryRules:
    @step(
        drawn=STATEMENTS,
        pick=ANY,
        interim=st.sampled_from((False, False, False, False, True)),
        twist=twists(
            "head", "epoch", "deadline", "future", "too few", "unsorted", "twice", "outsider", "malleable", "compact",
            "short", "bad v", "again", "kind", "root", "statements", "period", "other chain", "understated", "all sign",
        ),
    )  # fmt: skip
    def notarize(self, drawn: list, pick: int, interim: bool, twist: str) -> None:
        if pick % 3:
            self.mend()
        statements: dict[tuple, Statement] = {}
        for device_id, offset, length, level, overlapping in drawn:
            length = min(length, {DAY: 5, 900: 129}.get(self.world.registry.devices[device_id].granularity, 40))
            one = self.make_statement(device_id, offset, length, level, overlapping)
            if one.end <= self.world.now or twist == "future":
                statements[one.id, one.energy_wh] = one
        if not statements:
            one = self.make_statement(1, pick % 9, 0, 9, True)
            statements[one.id, one.energy_wh] = one
        chosen = list(statements.values()) if pick % 5 == 0 else distinct(list(statements.values()))
        changes: dict[str, Any] = {"kind": model.INTERIM} if interim else {}
        sealed, batch = self.propose(chosen, **changes)
        batch = batch._replace(**self._spoiled(batch, pick, twist))
        self.remember(sealed, self.send(STRANGER, NOTARY, "notarize", batch, self._signatures(batch, pick, twist)))

    def _spoiled(self, batch: Batch, pick: int, twist: str) -> dict[str, Any]:
        roots = [sealed.root for sealed in self.sealed] or [batch.root]
        return {
            "head": {"head": model.keccak(b"fork")},
            "epoch": {"signer_epoch": batch.signer_epoch + 1 if pick % 2 else batch.signer_epoch - 1},
            "deadline": {"deadline": self.world.now - 1},
            "future": {"end": self.world.now + 1 + pick},
            "again": {"root": roots[pick % len(roots)]},
            "kind": {"kind": model.NONE},
            "root": {"root": model.NO_BYTES},
            "statements": {"statements": 0},
            "period": {"start": batch.end},
            "understated": {"energy_wh": batch.energy_wh * (pick % 4) // 5},
        }.get(twist, {})

    def _signatures(self, batch: Batch, pick: int, twist: str) -> tuple[bytes, ...]:
        members, threshold, _ = self.world.notary.epochs[self.world.notary.epoch]
        own = [key for key in WITNESSES if key.address in members]
        if twist == "all sign":
            return self.sign(batch, own)
        if twist == "too few":
            return self.sign(batch, own[: threshold - 1])
        if twist == "outsider":
            # The one that is never a member is there because all witnesses may be.
            outsiders = [key for key in (*WITNESSES, OUTSIDER) if key.address not in members]
            return self.sign(batch, [*own[: threshold - 1], outsiders[pick % len(outsiders)]])
        if twist == "other chain":
            separator = encoding.domain_separator("Wattmark Notary", 1, self.bed.addresses[NOTARY])
            digest = encoding.batch_digest(separator, batch)
            return tuple(key.sign(digest) for key in own[:threshold])
        signatures = list(self.sign(batch, own[pick % 2 :][:threshold] if len(own) > threshold else None))
        if twist == "unsorted":
            signatures.reverse()
        elif twist == "twice" and signatures:
            signatures = [signatures[0]] * len(signatures)
        elif twist in ("malleable", "compact", "short", "bad v") and signatures:
            spoil: dict[str, Callable[[bytes], bytes]] = {
                "malleable": encoding.malleated,
                "compact": encoding.compacted,
                "short": lambda signature: signature[:64] if pick % 2 else b"",
                "bad v": lambda signature: signature[:64] + bytes([signature[64] - 27]),
            }
            signatures[-1] = spoil[twist](signatures[-1])
        return tuple(signatures)

    @step(pick=ANY, twist=twists("stranger", "unknown", "again", "administrator"))
    def revoke(self, pick: int, twist: str) -> None:
        live = [s.root for s in self.sealed if self.world.notary.records[s.root].status == model.OPEN]
        if not live:
            sealed = self.seal([self.make_statement(1, pick % 99, 0, 9, True)])
            live = [sealed.root]
        root = live[pick % len(live)]
        dead = [s.root for s in self.sealed if s.root not in live]
        if twist == "again" and dead:
            root = dead[pick % len(dead)]
        elif twist == "unknown":
            root = model.keccak(root)
        caller = {"stranger": STRANGER, "administrator": HOLDERS_OF_ROLES[ADMINISTRATOR]}.get(twist)
        self.send(caller or self.holder_of(GUARDIAN), NOTARY, "revoke", root, "found wrong")

    @step(pick=ANY, twist=twists("stranger", "gone", "registrar"))
    def remove_signer(self, pick: int, twist: str) -> None:
        self.mend()
        members, _, _ = self.world.notary.epochs[self.world.notary.epoch]
        gone = [key.address for key in WITNESSES if key.address not in members]
        signer = gone[pick % len(gone)] if twist == "gone" and gone else members[pick % len(members)]
        caller = {"stranger": STRANGER, "registrar": HOLDERS_OF_ROLES[REGISTRAR]}.get(twist)
        self.send(caller or self.holder_of(GUARDIAN), NOTARY, "removeSigner", signer, "key lost")

    @step(
        pick=ANY,
        chosen=st.sets(st.integers(0, 5), min_size=1),
        twist=twists("hasty", "guardian", "unsorted", "threshold", "zero"),
    )
    def set_signers(self, pick: int, chosen: set[int], twist: str) -> None:
        signers = tuple(WITNESSES[i].address for i in sorted(chosen))
        threshold = 1 + pick % len(signers)
        if twist == "unsorted":
            signers = (*signers[::-1], signers[0])
        elif twist == "threshold":
            threshold = len(signers) + 1 if pick % 2 else 0
        elif twist == "zero":
            signers = (ZERO, *signers)
        caller = HOLDERS_OF_ROLES[GUARDIAN if twist == "guardian" else ADMINISTRATOR]
        if twist not in ("hasty", "guardian"):
            self.as_administrator(NOTARY, "setSigners", signers, threshold)
        self.send(caller, NOTARY, "setSigners", signers, threshold)

    @step(contract=st.sampled_from((NOTARY, CERTIFICATE)), pick=ANY, twist=twists("stranger", "twice", "hasty"))
    def pause_or_resume(self, contract: str, pick: int, twist: str) -> None:
        """The guardian pauses at once; only the administrator resumes, and waits for it."""
        if self.world.parts[contract].paused == (twist == "twice"):
            self.send(STRANGER if twist == "stranger" else self.holder_of(GUARDIAN), contract, "pause")
            return
        if twist != "hasty":
            self.as_administrator(contract, "unpause")
        caller = HOLDERS_OF_ROLES[GUARDIAN if twist == "hasty" and pick % 2 else ADMINISTRATOR]
        self.send(STRANGER if twist == "stranger" else caller, contract, "unpause")

    @step(pick=ANY, twist=twists("proof", "statement", "unknown"))
    def verify(self, pick: int, twist: str) -> None:
        if not self.known:
            self.seal([self.make_statement(1, pick % 99, 0, 9, True)])
        sealed, statement = list(self.known.values())[pick % len(self.known)]
        proof = sealed.tree.proof(statement)
        if twist == "proof":
            proof = (*proof[1:], model.keccak(b"?"))
        elif twist == "statement":
            statement = statement._replace(energy_wh=statement.energy_wh + 1)
        root = model.keccak(b"?") if twist == "unknown" else sealed.root
        self.ask(NOTARY, "verify", root, statement, proof)
        self.ask(NOTARY, "notarization", root)
        self.ask(NOTARY, "signerSet", pick % (self.world.notary.epoch + 2))
        self.ask(NOTARY, "isSigner", 1 + pick % self.world.notary.epoch, WITNESSES[pick % 6].address)


class IssuingRules:
    @step(
        pick=ANY,
        caller=st.integers(0, 5),
        twist=twists("any", "stranger", "proof", "energy", "root", "paused", "overlap", "revoked", straight=3),
    )
    def issue(self, pick: int, caller: int, twist: str) -> None:
        sealed, statement = self.some_overlapping(pick) if twist == "overlap" else self.some_issuable(pick)
        if twist == "any":
            sealed, statement = list(self.known.values())[pick % len(self.known)]
        who = self.payee(statement)
        if twist == "stranger" or self.world.registry.devices[statement.device_id].visibility == model.PUBLIC:
            who = (*self.able(), STRANGER)[caller]
        proof, root = sealed.tree.proof(statement), sealed.root
        if twist == "proof":
            proof = (*proof, model.keccak(b"?"))
        elif twist == "energy":
            statement = statement._replace(energy_wh=statement.energy_wh + 1)
        elif twist == "root":
            root = self.sealed[pick % len(self.sealed)].root
        elif twist == "revoked" and self.is_open(sealed):
            self.prepare(self.holder_of(GUARDIAN), NOTARY, "revoke", root, "found wrong")
        elif twist == "paused" and not self.world.certificate.paused:
            self.prepare(self.holder_of(GUARDIAN), CERTIFICATE, "pause")
        self.send(who, CERTIFICATE, "issue", root, statement, proof)

    def some_overlapping(self, pick: int) -> tuple[Sealed, Statement]:
        """One that reaches over the border of a word of 128 slots to where something is certified, on free slots before."""
        device_id = (1, 2, 5)[pick % 3]
        step_ = self.world.registry.devices[device_id].granularity
        border = -(-FIRST_PERIOD // (128 * step_)) * 128 * step_ + pick // 3 % 9 * 128 * step_ * (step_ < DAY)
        first = self.make_statement(device_id, 0, 0, 9, True)
        taken = first._replace(start=border + pick // 27 % 3 * step_)
        if self.world.certificate._is_free(taken):
            sealed = self.seal([taken])
            self.prepare(self.payee(taken), CERTIFICATE, "issue", sealed.root, taken, sealed.tree.proof(taken))
        over = first._replace(start=border - step_, duration=5 * step_, profile_hash=model.keccak(first.profile_hash))
        return self.seal([over]), over

    @step(
        drawn=STATEMENTS,
        pick=ANY,
        fresh=st.booleans(),
        twist=twists("understated", "order", "proof", "stranger", "none", "short of gas", "inside", straight=3),
    )
    def issue_many(self, drawn: list, pick: int, fresh: bool, twist: str) -> None:
        """Several statements of one batch, some of them issued before, some to contracts."""
        fresh = fresh or twist == "understated"
        if fresh or not self.issuable():
            statements = [
                self.make_statement(device_id, offset, min(length, 5), 4 + level, False)
                for device_id, offset, length, level, _ in drawn
                if device_id in ((1, 2, 4, 5) if pick % 4 else (1, 3))
            ] or [self.make_statement(4, pick % 97, 0, 7, False)]
            statements = distinct(statements)
            energy_wh = sum(statement.energy_wh for statement in statements)
            sealed = self.seal(
                statements, energy_wh=energy_wh * (pick % 4) // 4 if twist == "understated" else energy_wh
            )
        else:
            self.mend()
            sealed, _ = self.issuable()[pick % len(self.issuable())]
        chosen = [s for i, s in enumerate(sealed.statements) if s.version == 0 and (pick >> i & 1 or fresh)]
        if not chosen:
            chosen = [sealed.statements[0]]
        if twist == "none":
            chosen = []
        private = [s for s in chosen if self.world.registry.devices[s.device_id].visibility == model.PRIVATE]
        caller = self.payee(private[0]) if private and twist != "stranger" else STRANGER
        ordered, proof, flags = sealed.tree.multi_proof(chosen) if chosen else ((), (sealed.root,), ())
        if twist == "order":
            ordered = ordered[::-1]
        elif twist == "proof":
            proof = tuple(model.keccak(part) for part in proof) or (sealed.root,)
        if twist == "inside":
            self.send(caller, CERTIFICATE, "issueItem", sealed.root, 2**63, sealed.statements[0],
                      (sealed.statements[0].id, STRANGER, False, 0, 1))  # fmt: skip
            return
        gas = 250_000 + pick * 37 if twist == "short of gas" else GAS
        self.send(caller, CERTIFICATE, "issueMany", sealed.root, ordered, proof, flags, gas=gas)

    @step(pick=ANY, twist=twists("issued", "stranger", "proof", "nobody", "no purpose", "backwards", straight=3))
    def issue_and_retire(self, pick: int, twist: str) -> None:
        sealed, statement = self.some_issuable(pick)
        done = [one for one in self.known.values() if one[1].id in self.ledger.issued and one[1].version == 0]
        if twist == "issued" and done:
            sealed, statement = done[pick % len(done)]
        proof = sealed.tree.proof(statement)
        if twist == "proof":
            proof = (*proof, model.keccak(b"?"))
        caller = STRANGER if twist == "stranger" else self.payee(statement)
        self.send(caller, CERTIFICATE, "issueAndRetire", sealed.root, statement, proof, self.details(pick, twist))

    @step(pick=ANY, offset=st.integers(0, 340), length=st.integers(0, 200_000))
    def certified_is_told(self, pick: int, offset: int, length: int) -> None:
        devices = list(self.world.registry.devices)
        self.ask(CERTIFICATE, "isCertified", devices[pick % len(devices)], FIRST_PERIOD + offset * HOUR, length)
        # Every id there is, and one that is a step longer, shorter or later, or not an id at all.
        for id_ in list(self.ledger.issued)[pick % 3 :: 3]:
            step_ = self.world.registry.devices[id_ >> 192].granularity
            for near in (id_, id_ + (step_ << 120), id_ - (step_ << 120), id_ + (step_ << 152), id_ + 1):
                self.ask(CERTIFICATE, "isIssued", near)


class CorrectionRules:
    @step(
        pick=ANY,
        level=st.sampled_from((0, 30, 50, 80, 99, 100, 101, 120, 150)),
        twist=twists("fork", "skip", "previous", "replay", straight=4),
    )
    def amend(self, pick: int, level: int, twist: str) -> None:
        """Notarizes the next version of a statement; forked, skipping or with another past where twisted."""
        self.mend()
        latest: dict[int, Statement] = {}
        for _, known in self.known.values():
            if known.id not in latest or known.version > latest[known.id].version:
                latest[known.id] = known
        if not latest:
            _, statement = self.some_issuable(pick)
            latest[statement.id] = statement
        choice = list(latest.values())
        issued = [one for one in choice if one.id in self.ledger.issued]
        before = (issued if issued and pick % 4 else choice)[pick // 4 % len(issued if issued and pick % 4 else choice)]
        if twist == "fork" and before.version:
            before = before._replace(version=before.version - 1, energy_wh=before.previous_wh)
        after = before._replace(
            version=before.version + (2 if twist == "skip" else 1),
            energy_wh=before.energy_wh * level // 100,
            previous_wh=before.energy_wh + (1 if twist == "previous" else 0),
            profile_hash=model.keccak(b"amended" + self.next_serial().to_bytes(4, "big")),
        )
        sealed, batch = self.propose([after])
        self.remember(sealed, self.send(STRANGER, NOTARY, "notarize", batch, self.sign(batch)))

    @step(pick=ANY, caller=st.integers(0, 5), twist=twists("any", "stranger", "proof", "first", "past", straight=3))
    def correct(self, pick: int, caller: int, twist: str) -> None:
        found = self.correctable()
        if not found:
            sealed, statement = self.some_issuable(pick)
            if pick % 5:
                self.prepare(
                    self.payee(statement), CERTIFICATE, "issue", sealed.root, statement, sealed.tree.proof(statement)
                )
            after = statement._replace(
                version=1,
                previous_wh=statement.energy_wh,
                energy_wh=statement.energy_wh * (60, 104, 80)[pick % 3] // 100,
                profile_hash=model.keccak(b"amended" + self.next_serial().to_bytes(4, "big")),
            )
            found = [(self.seal([after]), after)]
        self.mend()
        sealed, statement = found[pick % len(found)]
        if twist == "any":
            sealed, statement = list(self.known.values())[pick % len(self.known)]
        elif twist == "first":
            sealed, statement = self.some_issuable(pick)
        elif twist == "past" and self.world.certificate.corrections:
            sealed, statement = self.some_with_another_past(pick)
        proof = sealed.tree.proof(statement)
        if twist == "proof":
            statement = statement._replace(previous_wh=statement.previous_wh + 1)
        who = (*self.able(), STRANGER)[caller]
        if self.world.registry.devices[statement.device_id].visibility == model.PRIVATE and twist != "stranger":
            who = self.payee(statement)
        self.send(who, CERTIFICATE, "correct", sealed.root, statement, proof)

    def some_with_another_past(self, pick: int) -> tuple[Sealed, Statement]:
        """The next version of something corrected, but not of the energy that it stands at."""
        corrected = list(self.world.certificate.corrections.items())
        id_, (version, energy_wh) = corrected[pick % len(corrected)]
        forked = next(one for _, one in self.known.values() if one.id == id_)._replace(
            version=version + 1,
            previous_wh=energy_wh - 1 if energy_wh else 1,
            energy_wh=energy_wh // 2,
            profile_hash=model.keccak(b"forked" + self.next_serial().to_bytes(4, "big")),
        )
        return self.seal([forked]), forked

    @step(pick=ANY, share=SHARES, twist=twists("other", straight=4))
    def settle_debt(self, pick: int, share: int, twist: str) -> None:
        debts = {one: debt for one, debt in self.world.certificate.debts.items() if debt}
        balances = self.world.certificate.balances
        able = [(i, a, b) for (i, a), b in balances.items() if b and i >> 192 in debts and a in self.able()]
        if not able:
            # A shortfall of a certificate that is sold on in part.
            statement = self.make_statement(1, pick % 89, pick % 3, 2, False)
            sealed = self.seal([statement])
            self.prepare(STRANGER, CERTIFICATE, "issue", sealed.root, statement, sealed.tree.proof(statement))
            after = statement._replace(version=1, previous_wh=statement.energy_wh, energy_wh=statement.energy_wh // 3)
            sealed = self.seal([after])
            self.prepare(STRANGER, CERTIFICATE, "correct", sealed.root, after, sealed.tree.proof(after))
            debts = {one: debt for one, debt in self.world.certificate.debts.items() if debt}
            balances = self.world.certificate.balances
            able = [(i, a, b) for (i, a), b in balances.items() if b and i >> 192 in debts and a in self.able()]
        if not able or twist == "other":
            id_, account, balance = self.some_holding(pick)
        else:
            id_, account, balance = able[pick % len(able)]
        amount = amount_of(min(balance, debts.get(id_ >> 192, balance)), share)
        self.send(account, CERTIFICATE, "settleDebt", id_, amount)

    @step(
        pick=ANY, owner=st.integers(0, 4), what=st.sampled_from(("setAccount", "deactivate", "register", "setCapacity"))
    )
    def shed_debt(self, pick: int, owner: int, what: str) -> None:
        """Tries to be rid of a debt by another account, an end, or another device with the same meter."""
        debts = [one for one, debt in self.world.certificate.debts.items() if debt] or [1, 2, 4]
        device_id = debts[pick % len(debts)] if pick % 3 else (1, 2, 4, 5)[pick % 4]
        registered = self.world.registry.devices[device_id]
        time = -(-self.world.now // DAY) * DAY + (pick % 3) * DAY
        caller = self.holder_of(REGISTRAR)
        if what == "register":
            again = registered._replace(active_from=time, active_until=model.NEVER)
            if pick % 2:
                again = again._replace(meter_hash=model.keccak(self.next_serial().to_bytes(4, "big")))
            self.send(caller, REGISTRY, what, 100 + self.next_serial(), tuple(again))
        elif what == "setAccount":
            self.send(caller, REGISTRY, what, device_id, self.able()[owner], time)
        elif what == "setCapacity":
            self.send(caller, REGISTRY, what, device_id, registered.capacity_w, time)
        else:
            self.send(caller, REGISTRY, what, device_id, time + 3650 * DAY - self.next_serial() * DAY)


TOKENS = st.sampled_from((CERTIFICATE, CERTIFICATE, CERTIFICATE, OUTCOME))


class TokenRules:
    @step(
        token=TOKENS,
        pick=ANY,
        to=st.integers(0, 4),
        share=SHARES,
        twist=twists("thief", "operator", "nowhere", "contract", "wrong id", straight=3),
    )
    def transfer(self, token: str, pick: int, to: int, share: int, twist: str) -> None:
        id_, account, balance = self.some_holding(pick, token)
        caller = account
        if twist == "thief":
            caller = (*self.able(), STRANGER, HOLDERS_OF_ROLES[pick % 7])[pick % 7]
        elif twist == "operator":
            friends = [one for owner, one in self.ledger.approvals if owner == account]
            caller = friends[pick % len(friends)] if friends else STRANGER
        target = {"nowhere": ZERO, "contract": self.bed.addresses[REGISTRY]}.get(twist, self.able()[to])
        self.send(
            caller,
            token,
            "safeTransferFrom",
            account,
            target,
            id_ + (twist == "wrong id"),
            amount_of(balance, share),
            b"",
        )

    @step(
        token=TOKENS,
        pick=ANY,
        to=st.integers(0, 4),
        share=SHARES,
        twist=twists("thief", "lengths", "none", "nowhere", straight=3),
    )
    def transfer_batch(self, token: str, pick: int, to: int, share: int, twist: str) -> None:
        account, ids, amounts = self._many(token, pick, share)
        if twist == "lengths":
            amounts = amounts[:-1]
        elif twist == "none":
            ids, amounts = (), ()
        caller = self.able()[pick % 5] if twist == "thief" else account
        target = ZERO if twist == "nowhere" else self.able()[to]
        self.send(caller, token, "safeBatchTransferFrom", account, target, ids, amounts, b"")

    def _many(self, token: str, pick: int, share: int) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
        _, account, _ = self.some_holding(pick, token)
        own = [(i, b) for (i, a), b in self.world.parts[token].balances.items() if b and a == account]
        chosen = [own[(pick + i) % len(own)] for i in range(min(len(own), 1 + pick % 3))]
        # The same id twice is as good as twice the amount, so halves of what there is always suffice.
        return account, tuple(i for i, _ in chosen), tuple(amount_of(b, share) for _, b in chosen)

    @step(
        token=TOKENS,
        owner=st.integers(0, 4),
        operator=st.integers(0, 4),
        approved=st.booleans(),
        twist=twists("nobody", straight=6),
    )
    def approve(self, token: str, owner: int, operator: int, approved: bool, twist: str) -> None:
        target = ZERO if twist == "nobody" else self.able()[operator]
        self.send(self.able()[owner], token, "setApprovalForAll", target, approved)

    @step(
        token=TOKENS,
        pick=ANY,
        share=SHARES,
        twist=twists("nobody", "no purpose", "backwards", "named", "thief", straight=3),
    )
    def retire(self, token: str, pick: int, share: int, twist: str) -> None:
        id_, account, balance = self.some_holding(pick, token)
        caller = STRANGER if twist == "thief" else account
        self.send(caller, token, "retire", id_, amount_of(balance, share), self.details(pick, twist))

    @step(token=TOKENS, pick=ANY, share=SHARES, twist=twists("nobody", "lengths", "none", "thief", straight=3))
    def retire_batch(self, token: str, pick: int, share: int, twist: str) -> None:
        account, ids, amounts = self._many(token, pick, share)
        if twist == "lengths":
            ids = (*ids, ids[0])
        elif twist == "none":
            ids, amounts = (), ()
        caller = STRANGER if twist == "thief" else account
        self.send(caller, token, "retireBatch", ids, amounts, self.details(pick, twist))

    SIGNED = twists(
        "expired", "wrong key", "replay", "amount", "beneficiary", "malleable", "compact", "other token", "other chain",
        "nonce", "cancelled", straight=5,
    )  # fmt: skip

    @step(token=TOKENS, pick=ANY, share=SHARES, many=st.booleans(), mood=st.integers(0, 24), twist=SIGNED)
    def retire_by_signature(self, token: str, pick: int, share: int, many: bool, mood: int, twist: str) -> None:
        function = "retireBatchBySig" if many else "retireBySig"
        if twist == "replay" and self.used:
            token, function, arguments = self.used[pick % len(self.used)]
            self.send(STRANGER, token, function, *arguments)
            return
        account, ids, amounts = self._many(token, pick, share)
        what: tuple = (ids, amounts) if many else (ids[0], amounts[0])
        details = self.details(pick, "backwards" if pick % 29 == 0 else "")
        deadline = self.world.now + (-1 if twist == "expired" else HOUR)
        contract = self.world.parts[token]
        nonce = contract.nonces_.get(account, 0) + (1 if twist == "nonce" else 0)
        separator = contract.separator()
        if twist in ("other token", "other chain"):
            other = "MitigationOutcome" if token == CERTIFICATE else CERTIFICATE
            chain_id = 1 if twist == "other chain" else self.bed.chain_id
            address = self.bed.addresses[other if twist == "other token" else token]
            separator = encoding.domain_separator(contract.domain, chain_id, address)
        digest_of = encoding.retire_batch_digest if many else encoding.retire_digest
        digest = digest_of(separator, account, *what, details, nonce, deadline)
        signature = self._signed(account, digest, mood, twist)
        if twist == "amount":
            what = (ids, (amounts[0] + 1, *amounts[1:])) if many else (ids[0], amounts[0] + 1)
        elif twist == "beneficiary":
            details = details._replace(beneficiary=STRANGER)
        elif twist == "cancelled":
            self.prepare(account, token, "cancelNonce")
        arguments = (account, *what, details, deadline, signature)
        if self.send(STRANGER, token, function, *arguments).success:
            self.used.append((token, function, arguments))
        if account in self.world.receivers:
            self.system.set_mood(account, model.ACCEPT)

    def _signed(self, account: str, digest: bytes, mood: int, twist: str) -> bytes:
        if account in self.world.receivers:
            if twist != "wrong key":
                self.system.sign_by_contract(account, digest)
            self.system.set_mood(account, mood if mood in range(1, 5) else model.ACCEPT)
            return b"any bytes"
        key = KEYS[account]
        if twist == "wrong key":
            key = next(other for other in KEYS.values() if other is not key)
        signature = key.sign(digest)
        if twist == "malleable":
            return encoding.malleated(signature)
        return encoding.compacted(signature) if twist == "compact" else signature

    @step(token=TOKENS, owner=st.integers(0, 4))
    def cancel_nonce(self, token: str, owner: int) -> None:
        self.send(self.able()[owner], token, "cancelNonce")


class ConversionRules:
    @step(
        pick=ANY,
        year=st.integers(2023, 2090),
        twist=twists("stranger", "zone", "year", "grams", "source", "hash", "again"),
    )
    def publish(self, pick: int, year: int, twist: str) -> None:
        zone = bytes(16) if twist == "zone" else ZONES[pick % 2][0]
        if twist == "again":
            taken = list(self.world.factors.factors.values())
            zone, year = taken[pick % len(taken)][:2]
        while twist == "" and self.world.factors._current(zone, year):
            year += 1
        source_hash = model.NO_BYTES if twist == "hash" else model.keccak(b"source")
        self.send(
            STRANGER if twist == "stranger" else self.holder_of(PUBLISHER),
            FACTORS,
            "publish",
            zone,
            0 if twist == "year" else year,
            0 if twist == "grams" else 1 + pick * 11,
            bool(pick % 2),
            source_hash,
            "" if twist == "source" else "inventory",
        )

    @step(pick=ANY, twist=twists("stranger", "old", "unknown", "grams"))
    def supersede(self, pick: int, twist: str) -> None:
        factors = self.world.factors.factors
        current = [one for one, factor in factors.items() if not factor.superseded_by and factor.year < 2026]
        old = [one for one, factor in factors.items() if factor.superseded_by] or [0]
        factor_id = {"old": old[pick % len(old)], "unknown": len(factors) + 1}.get(twist, current[pick % len(current)])
        caller = STRANGER if twist == "stranger" else self.holder_of(PUBLISHER)
        grams = 0 if twist == "grams" else 1 + pick * 11
        self.send(caller, FACTORS, "supersede", factor_id, grams, True, model.keccak(b"newer"), "inventory, revised")

    @step(
        pick=ANY,
        cap_kg=st.sampled_from((1, 20, 10**6, 10**6)),
        proceeds=st.sampled_from((0, 0, 500, 3333, 10_000)),
        mitigation=st.sampled_from((0, 0, 200, 3333, 9_999)),
        twist=twists("stranger", "zero id", "again", "country", "years", "purposes", "nobody", "state", "cap", "converted",
                     "document", "reference", straight=3),
    )  # fmt: skip
    def authorise(self, pick: int, cap_kg: int, proceeds: int, mitigation: int, twist: str) -> None:
        given = model.Authorisation(
            country=ZONES[pick % 2][1],
            first_year=2024 + (pick % 7 == 0),
            last_year=2090,
            purposes=1 + pick % 7,
            proceeds_bps=500 if twist == "nobody" else proceeds,
            mitigation_bps=mitigation if pick % 11 == 0 else min(mitigation, 10_000 - proceeds),
            state=model.AUTHORISED,
            cap_g=cap_kg * 1000,
            converted_g=0,
            proceeds_account=(ADAPTATION, ADAPTATION, self.system.receivers[1])[pick % 3],
            document_hash=model.keccak(b"letter"),
            reference="ITMO-1",
        )
        changes = {
            "country": {"country": bytes(2)},
            "years": {"first_year": 2091 if pick % 2 else 0},
            "purposes": {"purposes": 8 if pick % 2 else 0},
            "nobody": {"proceeds_account": ZERO},
            "state": {"state": (0, 2, 3, 4)[pick % 4]},
            "cap": {"cap_g": 0},
            "converted": {"converted_g": 1},
            "document": {"document_hash": bytes(32)},
            "reference": {"reference": ""},
        }
        known = list(self.world.outcome.authorisations)
        id_ = {"zero id": 0, "again": known[pick % len(known)] if known else 0}.get(twist, 1000 + self.next_serial())
        caller = STRANGER if twist == "stranger" else self.holder_of(AUTHORISER)
        self.send(caller, OUTCOME, "authorise", id_, tuple(given._replace(**changes.get(twist, {}))))

    @step(pick=ANY, twist=twists("stranger", "step", "unknown", "evidence", straight=3))
    def advance(self, pick: int, twist: str) -> None:
        known = self.world.outcome.authorisations
        live = [(one, terms.state) for one, terms in known.items() if terms.state < model.COMPLETED]
        if not live:
            self._authorise(pick)
            live = [(one, terms.state) for one, terms in known.items() if terms.state < model.COMPLETED]
            live = live or [(one, t.state) for one, t in self.world.outcome.authorisations.items() if t.state < 4]
        id_, state = live[pick % len(live)]
        function, role = self.STATES[(state - 1 + (twist == "step") * (1 + pick % 2)) % 3]
        caller = HOLDERS_OF_ROLES[AUTHORISER] if twist == "stranger" else self.holder_of(role)
        evidence = model.NO_BYTES if twist == "evidence" else model.keccak(b"evidence")
        self.send(caller, OUTCOME, function, 1 if twist == "unknown" else id_, evidence)

    @step(pick=ANY, steps=st.integers(1, 3))
    def see_through(self, pick: int, steps: int) -> None:
        """An authorisation that is converted under moves on; what it made may be used then, and nothing more be made."""
        id_, account, balance = self._some_convertible(pick)
        country = self.world.registry.devices[id_ >> 192].country
        authorisation_id = self._authorise(0 if country == ZONES[0][1] else 1)
        amount = max(1, balance // 3)
        self.send(account, OUTCOME, "convert", (id_,), (amount,), authorisation_id)
        outcome_id = next(one for one in reversed(self.ledger.converted) if one >> 128 & 2**64 - 1 == authorisation_id)
        if pick % 3 == 0:  # a state too early
            function, role = self.STATES[1 + pick % 2]
            self.send(self.holder_of(role), OUTCOME, function, authorisation_id, model.keccak(b"evidence"))
        for function, role in self.STATES[:steps]:
            self.send(self.holder_of(role), OUTCOME, function, authorisation_id, model.keccak(b"evidence"))
            self.send(account, OUTCOME, "convert", (id_,), (1,), authorisation_id)
        held = self.world.outcome.balances.get((outcome_id, account), 0)
        if held:
            self.send(account, OUTCOME, "retire", outcome_id, 1 + pick % held, self.details(pick))

    def _some_convertible(self, pick: int) -> tuple[int, str, int]:
        """A holding of some units of a certificate whose zone and year have a factor."""
        for _ in range(2):
            found = [
                (i, a, b)
                for (i, a), b in self.world.certificate.balances.items()
                if b > 3 and a in self.able() and self.factor_of(i)
            ]
            if found:
                break
            self.stock(pick, CERTIFICATE, ())
        return (found or self.nothing_left())[pick % len(found)]

    STATES = (
        ("recordFirstTransfer", TRANSFERS),
        ("recordAdjustmentPending", ADJUSTMENTS),
        ("recordAdjustment", ADJUSTMENTS),
    )

    def _authorise(self, pick: int) -> int:
        id_ = 1000 + self.next_serial()
        given = model.Authorisation(
            ZONES[pick % 2][1], 2024, 2090, 7, 500, 200, model.AUTHORISED, 10**12, 0, ADAPTATION,
            model.keccak(b"letter"), "ITMO-2",
        )  # fmt: skip
        self.prepare(self.holder_of(AUTHORISER), OUTCOME, "authorise", id_, tuple(given))
        return id_

    @step(
        pick=ANY,
        share=SHARES,
        authorised=st.booleans(),
        twist=twists("lengths", "none", "any", "thief", "direct", straight=4),
    )
    def convert(self, pick: int, share: int, authorised: bool, twist: str) -> None:
        account, ids, amounts = self._many(CERTIFICATE, pick, share)
        if twist != "any":
            ready = [(i, n) for i, n in zip(ids, amounts, strict=True) if self.factor_of(i)]
            ids, amounts = tuple(i for i, _ in ready) or ids, tuple(n for _, n in ready) or amounts
        authorisation_id = 0
        if authorised:
            countries = {self.world.registry.devices[id_ >> 192].country for id_ in ids}
            fitting = [
                one
                for one, terms in self.world.outcome.authorisations.items()
                if twist == "any" or (terms.state == model.AUTHORISED and countries == {terms.country})
            ]
            if fitting:
                authorisation_id = fitting[pick % len(fitting)]
            elif len(countries) == 1:
                authorisation_id = self._authorise(0 if countries == {ZONES[0][1]} else 1)
        if twist == "lengths":
            amounts = amounts[:-1]
        elif twist == "none":
            ids, amounts = (), ()
        caller = STRANGER if twist == "thief" else account
        if twist == "direct":
            people = (account, HOLDERS_OF_ROLES[ADMINISTRATOR], HOLDERS_OF_ROLES[GUARDIAN])
            self.send(people[pick % 3], CERTIFICATE, "consume", account, ids, amounts)
        else:
            self.send(caller, OUTCOME, "convert", ids, amounts, authorisation_id)

    @step(pick=ANY, year=st.integers(2024, 2026))
    def factors_and_states_are_told(self, pick: int, year: int) -> None:
        self.ask(FACTORS, "factor", 1 + pick % len(self.world.factors.factors))
        if self.world.factors._current(ZONES[0][0], year):
            self.ask(FACTORS, "currentFactor", ZONES[0][0], year)
        for authorisation_id in list(self.world.outcome.authorisations)[pick % 3 :: 3]:
            self.ask(OUTCOME, "authorisation", authorisation_id)


class AccessRules:
    """Roles granted and taken, acts scheduled, carried out, cancelled; and everybody trying everything."""

    PEOPLE = (*HOLDERS_OF_ROLES, ALICE, STRANGER, WITNESSES[0].address)

    def _act(self, pick: int) -> tuple[int, Inner]:
        """A restricted act that would succeed now, and its role."""
        notary, certificate = self.world.notary, self.world.certificate
        members, _threshold, _ = notary.epochs[notary.epoch]
        serial = self.next_serial()
        acts = [
            Inner(REGISTRY, "register", (100 + serial, device(ALICE, 100 + serial))),
            Inner(REGISTRY, "setCapacity", (1, 41_000 + serial, -(-self.world.now // HOUR) * HOUR + 90 * DAY)),
            Inner(FACTORS, "publish", (ZONES[1][0], 2100 + serial, 7, True, model.keccak(b"s"), "source")),
            Inner(NOTARY, "unpause" if notary.paused else "pause", ()),
            Inner(CERTIFICATE, "unpause" if certificate.paused else "pause", ()),
            Inner(NOTARY, "setSigners", (tuple(key.address for key in WITNESSES[serial % 3 :]), 1 + serial % 3)),
            Inner(
                OUTCOME,
                "authorise",
                (2000 + serial, (b"DE", 2024, 2030, 1, 0, 0, 1, 10**9, 0, ZERO, model.keccak(b"d"), "r")),
            ),
        ]
        if members:
            acts.append(Inner(NOTARY, "removeSigner", (members[0], "lost")))
        authorised = [o for o, terms in self.world.outcome.authorisations.items() if terms.state < model.COMPLETED]
        if authorised:
            state = self.world.outcome.authorisations[authorised[0]].state
            name = ("recordFirstTransfer", "recordAdjustmentPending", "recordAdjustment")[state - 1]
            acts.append(Inner(OUTCOME, name, (authorised[0], model.keccak(b"e"))))
        call = acts[pick % len(acts)]
        return model.MATRIX[call.target, call.function], call

    @step(pick=ANY, who=st.integers(0, 9), twist=twists("other", straight=1))
    def act(self, pick: int, who: int, twist: str) -> None:
        """A restricted act, by whoever holds its role or by somebody else. The denial is held to the matrix itself."""
        role, call = self._act(pick)
        ruler = self.world.parts[call.target].ruler
        if role == ADMINISTRATOR and not twist and ruler == MANAGER:
            self.as_administrator(*call[:2], *call.arguments)
        able = HOLDERS_OF_ROLES[ADMINISTRATOR] if role == ADMINISTRATOR or ruler != MANAGER else self.member_of(role)
        caller = self.PEOPLE[who] if twist == "other" else able
        if self.send(caller, *call[:2], *call.arguments).success:
            ruler = self.bed.names[self.bed.read(call.target, "authority")]
            needed = role if ruler == MANAGER else ADMINISTRATOR
            always(self.bed.read(ruler, "hasRole", needed, caller)[0], "only who has the role acts")
            closed = self.bed.read(ruler, "isTargetClosed", self.bed.addresses[call.target])
            always(not closed, "nobody acts where roles are closed out")

    @step(pick=ANY, twist=twists("stranger", "hasty", "guardian"))
    def close_or_open(self, pick: int, twist: str) -> None:
        """A contract is closed to its roles, which stops no holder of tokens; the next act of a role may find it so."""
        contract = MANAGED[pick % len(MANAGED)]
        arguments = self.bed.addresses[contract], not self.world.access.closed.get(contract, False)
        if twist != "hasty":
            self.as_administrator(MANAGER, "setTargetClosed", *arguments)
        caller = {"stranger": STRANGER, "guardian": HOLDERS_OF_ROLES[GUARDIAN]}.get(twist)
        self.send(caller or HOLDERS_OF_ROLES[ADMINISTRATOR], MANAGER, "setTargetClosed", *arguments)

    @step(pick=ANY, twist=twists("stranger", "hasty", "no code", "direct", "other"))
    def hand_over(self, pick: int, twist: str) -> None:
        """A contract goes to the other manager, in which the administrator alone may act, or comes back from it."""
        contract = MANAGED[pick % len(MANAGED)]
        ruler = self.world.parts[contract].ruler
        heir = OTHER_MANAGER if ruler == MANAGER else MANAGER
        arguments = self.bed.addresses[contract], ALICE if twist == "no code" else self.bed.addresses[heir]
        caller = STRANGER if twist == "stranger" else HOLDERS_OF_ROLES[ADMINISTRATOR]
        if twist == "direct":
            self.send(caller, contract, "setAuthority", arguments[1])
            return
        if twist == "other":  # the manager that does not rule it
            ruler = heir
        if twist != "hasty" and ruler == MANAGER:
            self.as_administrator(MANAGER, "updateAuthority", *arguments)
        self.send(caller, ruler, "updateAuthority", *arguments)

    @step(pick=ANY, who=st.integers(0, 9), early=st.integers(0, 3), twist=twists("other", "early", straight=3))
    def schedule(self, pick: int, who: int, early: int, twist: str) -> None:
        call, caller = self._administrative(pick, who)
        if twist == "other":
            caller = self.PEOPLE[who]
        when = self.world.now + ADMIN_DELAY - (early * HOUR + 1 if twist == "early" else 0)
        target = self.bed.addresses[call.target]
        if self.send(caller, MANAGER, "schedule", target, call, when).success:
            self.scheduled.append((caller, call))

    def _administrative(self, pick: int, who: int) -> tuple[Inner, str]:
        """An act of the administrator, and somebody who is one."""
        people = [account for role, account in self.world.access.members if role == ADMINISTRATOR]
        late = [one for one in people if self.world.access.has_role(0, one)[1]] or [HOLDERS_OF_ROLES[0]]
        caller, serial = late[pick % len(late)], self.next_serial()
        other = self.PEOPLE[1 + who % 9]
        acts = (
            Inner(MANAGER, "grantRole", (1 + pick % 6, other, (0, 0, HOUR)[serial % 3])),
            Inner(MANAGER, "revokeRole", (1 + pick % 6, other)),
            Inner(MANAGER, "grantRole", (0, other, ADMIN_DELAY - serial)),
            Inner(MANAGER, "setRoleGuardian", (1 + pick % 6, GUARDIAN)),
            Inner(NOTARY, "setSigners", (tuple(key.address for key in WITNESSES[: 1 + serial % 5]), 1)),
            (Inner(REGISTRY, "bindCertificate", (self.bed.addresses[CERTIFICATE],)) if serial % 2
             else Inner(CERTIFICATE, "bindConverter", (self.bed.addresses[OUTCOME],))),
            Inner(MANAGER, "setTargetFunctionRole",
                  (self.bed.addresses[FACTORS], (self.bed.abis[FACTORS].functions["publish"][0],), PUBLISHER)),
        )  # fmt: skip
        return acts[pick // 7 % len(acts)], caller

    @step(
        pick=ANY,
        who=st.integers(0, 9),
        wait=st.sampled_from((0, 1, 1, 1, 1, 1, 1, 9)),
        through=st.booleans(),
        twist=twists("other", straight=4),
    )
    def carry_out(self, pick: int, who: int, wait: int, through: bool, twist: str) -> None:
        """What was scheduled: too early, in time, or too late; directly or through the manager; by others too."""
        if not self.scheduled:
            call, caller = self._administrative(pick, who)
            self.plan(caller, call)
            self.scheduled.append((caller, call))
        caller, call = self.scheduled.pop(pick % len(self.scheduled))
        self.warp({0: 0, 1: ADMIN_DELAY, 9: 9 * DAY + ADMIN_DELAY}[wait])
        if twist == "other":
            caller = self.PEOPLE[who]
        if through:
            self.send(caller, MANAGER, "execute", self.bed.addresses[call.target], call)
        else:
            self.send(caller, call.target, call.function, *call.arguments)

    @step(pick=ANY, who=st.integers(0, 9), twist=twists("other", "again", straight=3))
    def cancel(self, pick: int, who: int, twist: str) -> None:
        call, caller = self._administrative(pick, who)
        self.plan(caller, call)
        if twist == "again":
            self.prepare(caller, MANAGER, "cancel", caller, self.bed.addresses[call.target], call)
        canceller = self.PEOPLE[who] if twist == "other" else caller
        if not self.send(canceller, MANAGER, "cancel", caller, self.bed.addresses[call.target], call).success:
            self.scheduled.append((caller, call))

    @step(
        role=st.integers(1, 6),
        who=st.integers(1, 9),
        delay=st.sampled_from((0, 0, 0, HOUR)),
        twist=twists("hasty", "other"),
    )
    def grant(self, role: int, who: int, delay: int, twist: str) -> None:
        arguments = (role, self.PEOPLE[who], delay)
        if twist != "hasty":
            self.as_administrator(MANAGER, "grantRole", *arguments)
        caller = self.PEOPLE[who] if twist == "other" else HOLDERS_OF_ROLES[ADMINISTRATOR]
        self.send(caller, MANAGER, "grantRole", *arguments)

    @step(pick=ANY, who=st.integers(1, 9), twist=twists("for another", straight=3))
    def renounce(self, pick: int, who: int, twist: str) -> None:
        """Whoever likes may drop a role that others hold too."""
        members = [(r, a) for r, a in self.world.access.members if r and a != HOLDERS_OF_ROLES[r]]
        role, account = members[pick % len(members)] if members else (1 + pick % 6, self.PEOPLE[who])
        confirmed = HOLDERS_OF_ROLES[role] if twist == "for another" else account
        self.send(account, MANAGER, "renounceRole", role, confirmed)

    @invariant()
    def contracts_are_ruled_as_handed_over(self) -> None:
        contract = MANAGED[self.serial % len(MANAGED)]
        address, ruler = self.bed.addresses[contract], self.world.parts[contract].ruler
        assert self.bed.read(contract, "authority") == self.bed.addresses[ruler]
        assert self.bed.read(MANAGER, "isTargetClosed", address) == self.world.access.closed.get(contract, False)

    @invariant()
    def members_are_as_granted(self) -> None:
        for role in range(7):
            for person in self.PEOPLE:
                if (role * 7 + self.serial + len(person)) % 5 == 0 or (role, person) in self.world.access.members:
                    assert self.bed.read(MANAGER, "hasRole", role, person) == self.world.access.has_role(role, person)


class ReentryRules:
    """Contract accounts that act from inside the callback of a mint, a transfer or a conversion."""

    ACTS = ("issue", "issueMany", "issueAndRetire", "correct", "retire", "retireBatch", "transfer", "convert", "settleDebt",
            "approve", "again", "cancelNonce", "notarize", "consume", "issueItem")  # fmt: skip

    @step(
        pick=ANY,
        trigger=st.sampled_from(("issue", "issueMany", "correct", "transfer", "transferBatch", "convert")),
        act=st.sampled_from(ACTS),
        twice=st.booleans(),
    )
    def provoke(self, pick: int, trigger: str, act: str, twice: bool) -> None:
        """`trigger` sends tokens to a contract, which does `act` while it is called; the next contract too if `twice`."""
        self.mend()
        first, second = self.system.receivers
        call, root = self._trigger(pick, trigger, first)
        self.system.watch(first, root)
        self.system.arm(first, self._reaction(pick, act, first, second, call[1:]))
        if twice:
            self.system.watch(second, root)
            self.system.arm(
                second, self._reaction(pick // 3, self.ACTS[pick % len(self.ACTS)], second, first, call[1:])
            )
        self.send(*call)
        for receiver in (first, second):
            self.system.disarm(receiver)

    def _trigger(self, pick: int, trigger: str, to: str) -> tuple[tuple, bytes]:
        """A call after which `to` is called, and the root that is issued from."""
        own = [number for number in (4, 7) if self.world.registry.terms_at(number, self.world.now)[0] == to]
        if trigger == "issue" and own:
            sealed, statement = self.some_issuable(pick, own)
            return (
                self.payee(statement),
                CERTIFICATE,
                "issue",
                sealed.root,
                statement,
                sealed.tree.proof(statement),
            ), sealed.root
        if trigger == "issueMany" and own:
            statements = [
                self.make_statement(4, pick % 97 + 9 * i, pick % 3, 60 + pick, False) for i in range(1 + pick % 3)
            ]
            statements.append(self.make_statement(1, pick % 97, 1, 30, False))
            sealed = self.seal(distinct(statements))
            ordered, proof, flags = sealed.tree.multi_proof(sealed.statements)
            return (STRANGER, CERTIFICATE, "issueMany", sealed.root, ordered, proof, flags), sealed.root
        if trigger == "correct" and own:
            statement = self.make_statement(4, pick % 97, pick % 3, 60 + pick, False)._replace(energy_wh=900)
            sealed = self.seal([statement])
            self.prepare(STRANGER, CERTIFICATE, "issue", sealed.root, statement, sealed.tree.proof(statement))
            after = statement._replace(version=1, previous_wh=900, energy_wh=1800)
            sealed = self.seal([after])
            return (STRANGER, CERTIFICATE, "correct", sealed.root, after, sealed.tree.proof(after)), sealed.root
        root = self.sealed[pick % len(self.sealed)].root if self.sealed else model.NO_BYTES
        if trigger == "convert":
            id_, account, balance = self.some_holding(pick, of=(to,))
            if self.factor_of(id_):
                return (account, OUTCOME, "convert", (id_,), (max(1, balance // 2),), 0), root
        id_, account, balance = self.some_holding(pick)
        if trigger == "transferBatch":
            return (
                account,
                CERTIFICATE,
                "safeBatchTransferFrom",
                account,
                to,
                (id_,),
                (max(1, balance // 2),),
                b"",
            ), root
        return (account, CERTIFICATE, "safeTransferFrom", account, to, id_, max(1, balance // 2), b""), root

    def _reaction(self, pick: int, act: str, own: str, other: str, outer: tuple) -> Inner:
        """What the contract does when it is called: something that succeeds or not, as the model will know."""
        certificate = self.world.certificate
        held = [(i, b) for (i, a), b in certificate.balances.items() if a == own and b]
        id_, balance = held[pick % len(held)] if held else (self._id_of(outer), 2)
        share = (balance, max(1, balance // 2), balance + 1)[pick % 3]
        if act in ("issue", "issueAndRetire", "issueMany"):
            found = self.issuable()
            sealed, statement = (
                found[pick % len(found)]
                if found
                else (self.sealed[-1], self.sealed[-1].statements[0])
                if self.sealed
                else (None, None)
            )
            if sealed is None:
                return Inner(CERTIFICATE, "cancelNonce", ())
            if act == "issueMany":
                ordered, proof, flags = sealed.tree.multi_proof([statement])
                return Inner(CERTIFICATE, act, (sealed.root, ordered, proof, flags))
            more = (self.details(pick),) if act == "issueAndRetire" else ()
            return Inner(CERTIFICATE, act, (sealed.root, statement, sealed.tree.proof(statement), *more))
        if act == "correct" and self.correctable():
            sealed, statement = self.correctable()[pick % len(self.correctable())]
            return Inner(CERTIFICATE, act, (sealed.root, statement, sealed.tree.proof(statement)))
        return {
            "retire": Inner(CERTIFICATE, "retire", (id_, share, self.details(pick))),
            "retireBatch": Inner(CERTIFICATE, "retireBatch", ((id_,), (share,), self.details(pick))),
            "transfer": Inner(CERTIFICATE, "safeTransferFrom", (own, (other, ALICE)[pick % 2], id_, share, b"")),
            "convert": Inner(OUTCOME, "convert", ((id_,), (share,), 0)),
            "settleDebt": Inner(CERTIFICATE, "settleDebt", (id_, share)),
            "approve": Inner(CERTIFICATE, "setApprovalForAll", (other, True)),
            "again": Inner(outer[0], outer[1], outer[2:]),
            "consume": Inner(CERTIFICATE, "consume", (ALICE, (id_,), (1,))),
        }.get(act, Inner(CERTIFICATE, "cancelNonce", ()))

    @staticmethod
    def _id_of(outer: tuple) -> int:
        """The id that is about to come, so that it can be used at once."""
        _, function, *rest = outer
        if function in ("issue", "correct"):
            return rest[1].id
        return rest[1][0].id if function == "issueMany" else 1

    @step(
        pick=ANY,
        mood=st.integers(1, 4),
        trigger=st.sampled_from(("issueMany", "issueMany", "issue", "transfer", "convert")),
    )
    def refuse(self, pick: int, mood: int, trigger: str) -> None:
        """A contract that refuses, lies or burns its gas: alone it undoes the call, among many it is passed over."""
        first, _ = self.system.receivers
        call, _ = self._trigger(pick, trigger, first)
        if pick % 3:
            self.system.set_mood(first, mood)
        self.send(*call)
        self.system.set_mood(first, model.ACCEPT)


# -- the machines ------------------------------------------------------------------------------------------------------


class Registering(RegistryRules, Clock, Bench):
    pass


class Notarizing(NotaryRules, Clock, Bench):
    pass


class Issuing(AccountRules, IssuingRules, Clock, Bench):
    pass


class Correcting(CorrectionRules, Clock, Bench):
    pass


class Holding(TokenRules, Clock, Bench):
    pass


class Converting(ConversionRules, TokenRules, Bench):
    pass


class Governing(AccessRules, Clock, Bench):
    pass


class Reentering(ReentryRules, CorrectionRules, Bench):
    pass


class WholeSystem(
    ReentryRules,
    AccessRules,
    ConversionRules,
    TokenRules,
    CorrectionRules,
    IssuingRules,
    NotaryRules,
    AccountRules,
    RegistryRules,
    Clock,
    Bench,
):
    pass


MACHINES = (
    Registering, Notarizing, Issuing, Correcting, Holding, Converting, Governing, Reentering, WholeSystem,
)  # fmt: skip
