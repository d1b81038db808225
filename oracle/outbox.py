"""Acts on the chain, each done exactly once: a saga over the database and the chain.

An act is a call with a name (``notarize:0x…``). Its signed bytes are committed to the database before they are
sent, so that after a crash at any point the same bytes, and no others, are sent again. What became of an act is
read from the chain by block hash; the text of an error decides nothing.

    queued ─> signed ─> sent ─> mined ─> final          a reorganisation leads back to sent or queued
       └───────────────────┴─> failed                   would revert (no nonce used) or did revert

* Nonces come from an own ledger: the lowest one that neither the chain nor stored bytes have used.
* Bytes that wait too long, in the chain's time, are replaced with both fees at least 12.5 % higher, up to a cap.
* A nonce that another transaction took makes the act be signed anew, after the chain was asked whether the act
  is done already. Notarizing, issuing and correcting cannot be done twice, the contracts see to that; an act
  without that protection waits until the taken nonce is final.
* Each act belongs to the account it is sent from; another account's acts in the same database are left alone. A
  lease (:mod:`oracle.lease`) lets one process at a time sign and send for an account; it is renewed in the very
  transaction that stores signed bytes, so a process that lost it cannot sign.

For tests alone: with ``CRASH_AT=n`` in the environment of a test the process kills itself at crash point n (1 to
:data:`CRASH_POINTS`), see :func:`oracle.store.crash_point`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from eth_account.signers.local import LocalAccount
from eth_utils import to_checksum_address
from sqlalchemy import ColumnElement, or_, select, true, update
from sqlalchemy.orm import Session

from .chain import BlockRef, Chain, ChainView, Reverted
from .domain import BatchStatus, SagaState
from .errors import ChainError, ChainUnreachable
from .lease import AccountLease
from .protocol import keccak256
from .signer import Signer, as_signer
from .store import Act, SignedTransaction, Store, crash_point

CRASH_POINTS = 15
GWEI = 10**9

#: Whether an act is done already, whoever did it. Asked of the chain, never of the database.
Predicate = Callable[[ChainView, Act], bool]

#: How nodes say that they hold a transaction already; some do not show by its hash what only waits.
_KNOWN = re.compile(r"already (known|imported|in the tx ?pool)|alreadyknown|known transaction", re.IGNORECASE)

_ORDER = [SagaState.QUEUED, SagaState.SIGNED, SagaState.SENT, SagaState.MINED, SagaState.FINAL]
#: Acts of which nothing may be on its way: they may be asked for with other data, or given up.
_RENEWABLE = (SagaState.QUEUED, SagaState.FAILED)
_OPEN = (SagaState.QUEUED, SagaState.SIGNED, SagaState.SENT, SagaState.MINED)
_IS_OPEN = Act.state.in_(_OPEN)


class OutboxError(ChainError):
    """Something an operator must mend; the acts stay as they are and go on afterwards."""


class InsufficientFunds(OutboxError):
    """The sender cannot pay: ``balance_wei`` against ``needed_wei``. No nonce was used."""

    def __init__(self, address: str, balance_wei: int, needed_wei: int):
        self.address, self.balance_wei, self.needed_wei = address, balance_wei, needed_wei
        super().__init__(f"{address} holds {balance_wei} wei and needs {needed_wei}; top it up and run again")


class FeeCapReached(OutboxError):
    """The chain asks for more than the operator allows: ``fee_wei`` a gas against ``cap_wei``."""

    def __init__(self, key: str, fee_wei: int, cap_wei: int):
        self.key, self.fee_wei, self.cap_wei = key, fee_wei, cap_wei
        super().__init__(f"{key} would need {fee_wei} wei a gas; the cap is {cap_wei}: raise it or wait")


class NotTaken(OutboxError):
    """No node takes the signed bytes of ``key``; ``refusal`` is the node's text."""

    def __init__(self, key: str, refusal: str):
        self.key, self.refusal = key, refusal
        super().__init__(f"no node takes the transaction of {key}: {refusal}")


class DriveTimeout(OutboxError):
    """Acts were not done in the time given; ``keys`` names them. Running again goes on with them."""

    def __init__(self, keys: tuple[str, ...], seconds: float):
        self.keys = keys
        more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
        super().__init__(f"after {seconds:.0f} s still waiting for {', '.join(keys[:3])}{more}; run again to go on")


@dataclass(frozen=True, slots=True)
class SendPolicy:
    """How the outbox sends. Fees in wei a gas, times in seconds.

    ``patience_seconds`` of the chain's time until waiting bytes are replaced; ``lease_seconds`` until another
    process may take over from one that died; ``gas_margin_percent`` on top of the estimate; ``in_flight`` acts
    at most wait in the node's pool.
    """

    max_fee_cap_wei: int = 500 * GWEI
    patience_seconds: int = 90
    gas_margin_percent: int = 20
    in_flight: int = 16
    poll_seconds: float = 0.1
    lease_seconds: float = 20.0
    refusals: int = 5


@dataclass(frozen=True, slots=True)
class ActReport:
    """Where an act stands: ``transaction`` and ``block`` once mined, ``error`` in words."""

    key: str
    state: SagaState
    transaction: str | None
    block: int | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Driven:
    """What one drive did: acts newly ``sent`` (the same again or dearer does not count) and how those it followed stand."""

    sent: int
    acts: tuple[ActReport, ...]

    @property
    def failed(self) -> tuple[ActReport, ...]:
        return tuple(act for act in self.acts if act.state == SagaState.FAILED)


def is_done(chain: ChainView, act: Act) -> bool | None:
    """Whether a call that the contracts accept only once was made, by anyone; None if ``act`` is no such call."""
    call = chain.decode_call(act.to, act.data)
    if call is None:
        return None
    _, function, values = call
    if function == "notarize":
        return chain.notarization(_fields(values["batch"])[3]).status != BatchStatus.NONE
    if function == "issue":
        return _certified(chain, values["statement"])
    if function == "issueMany":
        return all(_certified(chain, statement) for statement in values["statements"])
    if function == "correct":
        device_id, start, duration, version, *_ = _fields(values["statement"])
        certificate_id = device_id << 192 | start << 152 | duration << 120
        return bool(chain.call("EnergyCertificate", "correctionOf", certificate_id)[0] >= version)
    return None


class Outbox:
    """The acts of one account on one network.

    ``done`` may give a predicate for keys of a kind (the part before the colon) that :func:`is_done` does not
    know, such as a transfer. ``account`` signs, wherever its key is kept.
    """

    def __init__(
        self,
        store: Store,
        chain: Chain,
        account: Signer | LocalAccount,
        *,
        policy: SendPolicy | None = None,
        done: Mapping[str, Predicate] | None = None,
    ):
        self.store, self.chain, self.signer = store, chain, as_signer(account)
        self.policy = policy or SendPolicy()
        self.sender = to_checksum_address(self.signer.address)
        self._done = dict(done or {})
        self.lease = AccountLease(store, f"outbox:{chain.config.chain_id}:{self.sender}", self.policy.lease_seconds)
        self._sent = 0
        self._refused: dict[int, int] = {}
        self._taken: dict[int, int] = {}
        self._gap: tuple[int, int] | None = None

    # -- asking ---------------------------------------------------------------------------------------

    def enqueue(self, key: str, to: str, data: bytes, *, within: Session | None = None) -> SagaState:
        """Ask for an act; the same key again changes nothing, whatever became of it.

        A failed act is queued anew with the data given, a queued one takes the new data; both become this account's,
        whoever asked for them before. ``within`` a transaction of :meth:`Store.writing`, or in one of its own. Returns
        its state.
        """
        to = to_checksum_address(to)
        with nullcontext(within) if within else self.store.writing() as session:
            act = session.scalars(self._of(key).with_for_update()).one_or_none()
            if act is None:
                act = Act(chain_id=self.chain.config.chain_id, key=key, sender=self.sender, to=to, data=data)
                act.state = SagaState.QUEUED
                session.add(act)
            elif act.state in _RENEWABLE:
                act.sender, act.state, act.to, act.data = self.sender, SagaState.QUEUED, to, data
                act.error = act.transaction = act.block = None
            session.flush()
            crash_point(1)
            state = act.state
        crash_point(2)
        return state

    def withdraw(self, session: Session, key: str, reason: str) -> bool:
        """Give an act up, within a transaction of :meth:`Store.writing`; False where signed bytes may still do it.

        One that was never signed is forgotten, another stays as a failed one; both may be asked for again.
        """
        act = session.scalars(self._of(key).with_for_update()).one_or_none()
        if act is None:
            return True
        signed = session.scalars(select(SignedTransaction).where(SignedTransaction.act_id == act.id)).all()
        if act.state not in _RENEWABLE or any(one.nonce >= self.chain.transaction_count(one.sender) for one in signed):
            return False
        if signed:
            act.state, act.error = SagaState.FAILED, reason
        else:
            session.delete(act)
        return True

    def _of(self, key: str) -> Any:
        return select(Act).where(Act.chain_id == self.chain.config.chain_id, Act.key == key)

    def reports(self, *states: SagaState) -> tuple[ActReport, ...]:
        """The acts of this account that stand so, or all, as the database knows them, in the order in which they were asked for."""
        return tuple(self._reports(Act.state.in_(states) if states else true()).values())

    def _reports(self, which: ColumnElement[bool]) -> dict[int, ActReport]:
        """By id."""
        facts = select(Act.id, Act.key, Act.state, Act.transaction, Act.block, Act.error)
        with self.store.session() as session:
            rows = session.execute(facts.where(*self._own, which).order_by(Act.id))
            return {row[0]: ActReport(*row[1:]) for row in rows}

    # -- doing ----------------------------------------------------------------------------------------

    def drive(
        self,
        until: SagaState = SagaState.MINED,
        timeout_seconds: float = 300.0,
        progress: Callable[[ActReport], None] | None = None,
    ) -> Driven:
        """Send what is queued and follow it until every act is at least ``until`` (mined or final) or failed.

        ``progress`` is called with each act whose state changed. Raises :class:`DriveTimeout`,
        :class:`InsufficientFunds`, :class:`FeeCapReached`, :class:`NotTaken`, :class:`oracle.lease.LeaseHeld`, and
        :class:`ChainUnreachable` if the node does not answer until the time is up. All of them leave the acts in a
        state from which the next drive goes on.
        """
        end = time.monotonic() + timeout_seconds
        self._sent = 0
        self.lease.acquire(end, self.policy.poll_seconds)
        try:
            crash_point(3)
            self._recheck_final()
            seen = self._reports(_IS_OPEN)
            while True:
                silent: ChainUnreachable | None = None
                try:
                    with self.store.session() as session:
                        self.lease.renew(session)
                    self._pass()
                except ChainUnreachable as fault:
                    silent = fault
                # Those that were open at any moment of this drive; of the others there may be very many.
                before, found = seen, self._reports(or_(_IS_OPEN, Act.id >= min(seen)) if seen else _IS_OPEN)
                seen = {number: one for number, one in found.items() if number in before or one.state in _OPEN}
                for number, one in seen.items():
                    if progress and (number not in before or before[number].state != one.state):
                        progress(one)
                waiting = tuple(one.key for one in seen.values() if not _reached(one.state, until))
                if not waiting and not silent:
                    break
                if time.monotonic() > end:
                    raise silent or DriveTimeout(waiting, timeout_seconds)
                time.sleep(self.policy.poll_seconds)
            crash_point(15)
        finally:
            self.lease.release()
        return Driven(self._sent, tuple(seen.values()))

    def _pass(self) -> None:
        """One look at every open act, then send what can be sent."""
        self.chain.check_identity()
        head = self.chain.head()
        final = self.chain.final_number()
        count = self.chain.transaction_count(self.sender)
        for act in self._acts(SagaState.SIGNED, SagaState.SENT, SagaState.MINED):
            if act.state is SagaState.MINED:
                self._confirm(act, final)
            else:
                self._follow(act, head, count)
        # Signed bytes of settled acts hold up later nonces as long as the chain has not used theirs.
        self._clear_the_way(head, count)
        self._launch(head)

    def _confirm(self, act: Act, final: int) -> None:
        """mined ─> final, or back if its block is gone."""
        if not self._is_canonical(act):
            self._go_back(act)
        elif act.block is not None and act.block <= final:
            crash_point(11)
            self._note(act, state=SagaState.FINAL)
            crash_point(12)

    def _recheck_final(self) -> None:
        """A reorganisation deeper than finality, or a chain started anew, takes back even final acts."""
        newest = (
            select(Act).where(*self._own, Act.state == SagaState.FINAL).order_by(Act.block.desc().nulls_last()).limit(1)
        )
        while True:
            with self.store.session() as session:
                act = session.scalars(newest).one_or_none()
            if act is None or self._is_canonical(act):
                return
            self._go_back(act)

    def _is_canonical(self, act: Act) -> bool:
        if act.block is None or act.block_hash is None:
            return False
        return self.chain.is_canonical(act.block, bytes.fromhex(act.block_hash[2:]))

    def _go_back(self, act: Act) -> None:
        state = SagaState.SENT if self._signed(act) else SagaState.QUEUED
        self._note(act, state=state, transaction=None, block=None, block_hash=None)

    def _follow(self, act: Act, head: BlockRef, count: int) -> None:
        """What became of signed bytes."""
        signed = self._signed(act)
        for one in signed:
            receipt = self.chain.receipt(bytes.fromhex(one.hash[2:]))
            if receipt is None or not self.chain.is_canonical(receipt.block_number, receipt.block_hash):
                continue
            crash_point(9)
            place: dict[str, Any] = {
                "transaction": one.hash,
                "block": receipt.block_number,
                "block_hash": "0x" + receipt.block_hash.hex(),
            }
            if receipt.succeeded:
                self._note(act, state=SagaState.MINED, error=None, **place)
            elif self._is_done(act):
                self._note_done_elsewhere(act)
            else:
                mined = self.chain.transaction(receipt.transaction)
                reason = self.chain.replay(mined) if mined else "reverted"
                self._note(act, state=SagaState.FAILED, error=f"the transaction reverted: {reason}", **place)
            crash_point(10)
            return
        latest = next(one for one in signed if one.sender == self.sender)
        if latest.nonce < count:
            self._nonce_taken(act, latest)
            return
        known = self.chain.transaction(bytes.fromhex(latest.hash[2:])) is not None
        if self._is_stuck(latest, head, known):
            tip, fee = self._fees(act, head, latest)
            crash_point(13)
            dearer = self._sign(act, latest.nonce, act.gas or 0, tip, fee, head)
            crash_point(14)
            if dearer:
                self._send(act, dearer, head)
        elif not known:
            self._send(act, latest, head)
        elif act.state != SagaState.SENT:
            self._note_sent(act, latest, head)

    def _is_stuck(self, signed: SignedTransaction, head: BlockRef, known: bool) -> bool:
        """Whether bytes have waited too long, or are too cheap for any node to take them."""
        waited = head.time - int(signed.sent_at.timestamp()) if signed.sent_at else 0
        too_cheap = not known and signed.max_fee_wei < (head.base_fee_wei or 0)
        return too_cheap or waited >= self.policy.patience_seconds

    def _nonce_taken(self, act: Act, signed: SignedTransaction) -> None:
        """Another transaction used the nonce: look again, then sign the same act anew unless it is done."""
        transaction = self.chain.transaction(bytes.fromhex(signed.hash[2:]))
        if transaction is not None and transaction.block_number is not None:
            return  # mined after all; nodes may show the receipt a moment later
        self._taken[act.id] = self._taken.get(act.id, 0) + 1
        if self._taken[act.id] < 2:
            return
        done = self._is_done(act)
        if done:
            self._note_done_elsewhere(act)
        elif done is False or self._is_nonce_final(signed.nonce):
            self._note(act, state=SagaState.QUEUED, error=f"nonce {signed.nonce} was used by another transaction")
            del self._taken[act.id]

    def _is_nonce_final(self, nonce: int) -> bool:
        final = self.chain.final_number()
        return final >= 0 and self.chain.transaction_count(self.sender, final) > nonce

    def _launch(self, head: BlockRef) -> None:
        """queued ─> signed ─> sent, as many as may be in flight."""
        in_flight = len(self._acts(SagaState.SIGNED, SagaState.SENT))
        for act in self._acts(SagaState.QUEUED):
            if in_flight >= self.policy.in_flight:
                return
            if self._was_mined(act):
                self._note(act, state=SagaState.SENT)
                continue
            try:
                gas = self.chain.estimate_gas(self.sender, act.to, act.data)
            except Reverted as refused:
                if self._is_done(act):
                    self._note_done_elsewhere(act)
                elif not in_flight:
                    self._note(act, state=SagaState.FAILED, error=refused.reason)
                # Otherwise it may depend on what is in flight: asked again when that is mined.
                continue
            if self._is_done(act):
                self._note_done_elsewhere(act)
                continue
            gas += gas * self.policy.gas_margin_percent // 100
            tip, fee = self._fees(act, head, None)
            self._check_funds(gas * fee)
            crash_point(4)
            count = self.chain.transaction_count(self.sender)
            signed = self._sign(act, self._free_nonce(count), gas, tip, fee, head)
            if signed is None:
                continue
            crash_point(6)
            self._sent += 1
            self._send(act, signed, head)
            in_flight += 1

    def _was_mined(self, act: Act) -> bool:
        """Whether bytes of an act that is to be signed anew came into the chain after all, by a reorganisation."""
        receipts = (self.chain.receipt(bytes.fromhex(signed.hash[2:])) for signed in self._signed(act))
        return any(receipt and receipt.succeeded for receipt in receipts)

    def _check_funds(self, cost_wei: int) -> None:
        with self.store.session() as session:
            open_acts = session.execute(
                select(Act.id, Act.gas, SignedTransaction.max_fee_wei)
                .join(SignedTransaction, SignedTransaction.act_id == Act.id)
                .where(
                    Act.chain_id == self.chain.config.chain_id,
                    SignedTransaction.sender == self.sender,
                    Act.state.in_((SagaState.SIGNED, SagaState.SENT)),
                )
            ).all()
        dearest: dict[int, int] = {}
        for act_id, gas, fee in open_acts:
            dearest[act_id] = max(dearest.get(act_id, 0), (gas or 0) * fee)
        needed = cost_wei + sum(dearest.values())
        balance = self.chain.native_balance_wei(self.sender)
        if balance < needed:
            raise InsufficientFunds(self.sender, balance, needed)

    def _fees(self, act: Act, head: BlockRef, replaced: SignedTransaction | None) -> tuple[int, int]:
        """``(tip, fee)`` in wei a gas. On chains without a base fee both are the gas price."""
        if head.base_fee_wei is None:
            tip = fee = self.chain.gas_price_wei()
        else:
            tip = self.chain.priority_fee_wei()
            fee = 2 * head.base_fee_wei + tip
        least = (head.base_fee_wei or 0) + tip
        if replaced is not None:
            # Nodes refuse replacements that do not raise both by an eighth.
            tip = max(tip, -(-replaced.priority_fee_wei * 9 // 8))
            least = max(least, -(-replaced.max_fee_wei * 9 // 8))
            fee = max(fee, least)
        if least > self.policy.max_fee_cap_wei:
            raise FeeCapReached(act.key, least, self.policy.max_fee_cap_wei)
        fee = min(fee, self.policy.max_fee_cap_wei)
        return min(tip, fee), fee

    def _free_nonce(self, count: int) -> int:
        used = self._live_nonces(count)
        nonce = count
        while nonce in used:
            nonce += 1
        return nonce

    def _live_nonces(self, count: int) -> set[int]:
        return {signed.nonce for signed, _ in self._live(count)}

    def _live(self, count: int) -> list[tuple[SignedTransaction, Act]]:
        """Stored bytes that the chain may still take, with their acts, dearest first for each nonce."""
        with self.store.session() as session:
            rows = session.execute(
                select(SignedTransaction, Act)
                .join(Act, Act.id == SignedTransaction.act_id)
                .where(
                    Act.chain_id == self.chain.config.chain_id,
                    SignedTransaction.sender == self.sender,
                    SignedTransaction.nonce >= count,
                )
                .order_by(SignedTransaction.nonce, SignedTransaction.max_fee_wei.desc())
            ).all()
            return [(signed, act) for signed, act in rows]

    def _clear_the_way(self, head: BlockRef, count: int) -> None:
        """Bytes behind a nonce that nobody fills would wait for ever: send the settled acts' bytes, fill what is left."""
        live = self._live(count)
        open_states = (SagaState.SIGNED, SagaState.SENT)
        waiting = [signed.nonce for signed, act in live if act.state in open_states]
        for signed, act in live:
            if act.state not in open_states and waiting and signed.nonce < max(waiting):
                self.chain.send(signed.raw)
        if not waiting or count in {signed.nonce for signed, _ in live}:
            self._gap = None
        elif self._gap is None or self._gap[0] != count:
            self._gap = (count, head.number)
        elif head.number > self._gap[1]:
            self.enqueue(f"fill:{self.sender}:{count}", self.sender, b"")

    # -- noting ---------------------------------------------------------------------------------------

    def _sign(self, act: Act, nonce: int, gas: int, tip: int, fee: int, head: BlockRef) -> SignedTransaction | None:
        """Sign and commit; only then may the bytes be sent. None if the act was given up or taken over meanwhile."""
        fields: dict[str, Any] = {
            "chainId": self.chain.config.chain_id,
            "nonce": nonce,
            "gas": gas,
            "to": act.to,
            "data": act.data,
            "value": 0,
        }
        if head.base_fee_wei is None:
            fields["gasPrice"] = fee
        else:
            fields |= {"type": 2, "maxFeePerGas": fee, "maxPriorityFeePerGas": tip}
        raw = self.signer.sign_transaction(fields)
        signed = SignedTransaction(
            hash="0x" + keccak256(raw).hex(),
            act_id=act.id,
            sender=self.sender,
            nonce=nonce,
            raw=raw,
            max_fee_wei=fee,
            priority_fee_wei=tip,
        )
        with self.store.session() as session:
            self.lease.renew(session)
            as_it_was = Act.id == act.id, Act.state == act.state, Act.data == act.data
            ours = session.execute(
                update(Act)
                .where(*as_it_was, *self._own)
                .values(state=SagaState.SIGNED, sender=self.sender, gas=gas, error=None)
            )
            if ours.rowcount != 1:  # type: ignore[attr-defined]
                return None
            session.add(signed)
            session.flush()
            crash_point(5)
        act.state, act.gas = SagaState.SIGNED, gas
        return signed

    def _send(self, act: Act, signed: SignedTransaction, head: BlockRef) -> None:
        refusal = self.chain.send(signed.raw)
        crash_point(7)
        held = refusal is None or _KNOWN.search(refusal)
        if not held and self.chain.transaction(bytes.fromhex(signed.hash[2:])) is None:
            self._refused[act.id] = self._refused.get(act.id, 0) + 1
            self._note(act, error=f"not taken by the node: {refusal}")
            if self._refused[act.id] >= self.policy.refusals:
                raise NotTaken(act.key, str(refusal))
            return
        self._refused.pop(act.id, None)
        self._note_sent(act, signed, head)
        crash_point(8)

    def _note_sent(self, act: Act, signed: SignedTransaction, head: BlockRef) -> None:
        """``sent_at`` is the chain's time, so that a stopped clock or a stopped chain replaces nothing."""
        sent_at = datetime.fromtimestamp(head.time, UTC)
        with self.store.session() as session:
            session.execute(
                update(SignedTransaction).where(SignedTransaction.hash == signed.hash).values(sent_at=sent_at)
            )
        self._note(act, state=SagaState.SENT, error=None)

    def _note_done_elsewhere(self, act: Act) -> None:
        """The chain shows the effect, though not by our bytes: as sure as the block in which we saw it."""
        head = self.chain.head()
        self._note(
            act,
            state=SagaState.MINED,
            transaction=None,
            block=head.number,
            block_hash="0x" + head.hash.hex(),
            error=None,
        )

    def _note(self, act: Act, **values: Any) -> None:
        with self.store.session() as session:
            session.execute(update(Act).where(Act.id == act.id).values(**values))
        for name, value in values.items():
            setattr(act, name, value)

    def _is_done(self, act: Act) -> bool | None:
        own = self._done.get(act.key.partition(":")[0])
        return own(self.chain, act) if own else is_done(self.chain, act)

    @property
    def _own(self) -> tuple[ColumnElement[bool], ...]:
        return Act.chain_id == self.chain.config.chain_id, or_(Act.sender == self.sender, Act.sender.is_(None))

    def _acts(self, *states: SagaState) -> list[Act]:
        """The acts of this account that stand so, in the order in which they were asked for."""
        with self.store.session() as session:
            return list(session.scalars(select(Act).where(*self._own, Act.state.in_(states)).order_by(Act.id)))

    def _signed(self, act: Act) -> list[SignedTransaction]:
        """The act's signed bytes, the ones to send first."""
        newest = (SignedTransaction.nonce.desc(), SignedTransaction.max_fee_wei.desc())
        with self.store.session() as session:
            return list(
                session.scalars(select(SignedTransaction).where(SignedTransaction.act_id == act.id).order_by(*newest))
            )


def _reached(state: SagaState, until: SagaState) -> bool:
    return state == SagaState.FAILED or _ORDER.index(state) >= _ORDER.index(until)


def _certified(chain: ChainView, statement: Any) -> bool:
    device_id, start, duration, *_ = _fields(statement)
    return chain.is_certified(device_id, start, duration)


def _fields(struct: Any) -> tuple[Any, ...]:
    return tuple(struct.values()) if isinstance(struct, Mapping) else tuple(struct)
