"""The coordinator: asks every witness at once for its signature under a batch, and believes none unchecked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import aiohttp
import structlog
from eth_account.signers.local import LocalAccount

from .archive import ArchivedStatement
from .chain import SignerSet
from .checks import recover_signer
from .config import WitnessConfig
from .errors import WitnessRefused
from .messages import (
    DifferencesAnswer,
    DifferencesMessage,
    ErrorAnswer,
    Malformed,
    ProposalMessage,
    RefuseAnswer,
    SignAnswer,
    parse_answer,
)
from .protocol import statement_leaf
from .signer import Signer
from .units import day_list
from .witness import (
    MAX_BODY_BYTES,
    SIGNATURE_HEADER,
    DeviceDay,
    Proposal,
    Refused,
    message_signer,
    parse_json,
    sign_message,
)

T = TypeVar("T")

log = structlog.get_logger("oracle.coordinator")


def collect_signatures(
    proposal: Proposal,
    records: Sequence[ArchivedStatement],
    witnesses: Sequence[WitnessConfig],
    account: Signer | LocalAccount,
    signer_set: SignerSet,
    *,
    own: Callable[[], tuple[str, bytes]] | None = None,
    timeout_seconds: float = 120.0,
    grace_seconds: float = 2.0,
) -> list[tuple[str, bytes]]:
    """Ask all witnesses at once; ``(address, signature)`` of those that signed, sorted by address.

    ``own`` gives the coordinator's own signature (:func:`sign_own`); it is called last, and only where it makes up
    the number, so that a refused batch leaves nothing remembered here. When enough have signed, the others get
    ``grace_seconds`` more. Raises WitnessRefused, with each witness's reason and the device-days that
    differ, when fewer than ``signer_set.threshold`` appointed witnesses signed. Every signature is verified here.
    """
    needed = signer_set.threshold - (own is not None)
    asking = _ask_all(proposal, records, witnesses, account, signer_set, needed, timeout_seconds, grace_seconds)
    signed, refusals, device_days = asyncio.run(asking)
    if own and len(signed) >= needed:
        address, signature = own()
        signed[address] = signature
    for address, reason in refusals.items():
        log.warning("no signature", witness=address, reason=reason)
    if len(signed) < signer_set.threshold:
        told = "; ".join(f"{address}: {reason}" for address, reason in sorted(refusals.items()))
        days = f"; device-days that differ: {day_list(device_days)}" if device_days else ""
        raise WitnessRefused(
            f"too few witnesses signed, {signer_set.threshold} are needed ({told}){days}",
            refusals=refusals,
            device_days=tuple(sorted(device_days)),
        )
    return sorted(signed.items(), key=lambda pair: int(pair[0], 16))


async def _ask_all(
    proposal: Proposal,
    records: Sequence[ArchivedStatement],
    witnesses: Sequence[WitnessConfig],
    account: Signer | LocalAccount,
    signer_set: SignerSet,
    needed: int,
    timeout_seconds: float,
    grace_seconds: float,
) -> tuple[dict[str, bytes], dict[str, str], set[DeviceDay]]:
    """Verified signatures and reasons by witness, and the device-days that differ."""
    signed: dict[str, bytes] = {}
    refusals: dict[str, str] = {}
    device_days: set[DeviceDay] = set()
    timeout = aiohttp.ClientTimeout(total=timeout_seconds, connect=5)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        asked = {asyncio.create_task(_ask(http, witness, proposal, records, account)): witness for witness in witnesses}
        pending = set(asked)
        while pending:
            patience = grace_seconds if len(signed) >= needed else None
            done, pending = await asyncio.wait(pending, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                break
            for task in done:
                address = asked[task].address
                try:
                    signature = task.result()
                except Refused as refused:
                    refusals[address] = f"{refused.code}: {refused.reason}"
                    device_days.update(refused.device_days)
                    continue
                if address in signer_set.signers:
                    signed[address] = signature
                else:
                    refusals[address] = f"not-appointed: not a signer of epoch {signer_set.epoch}"
        for task in pending:
            task.cancel()
            refusals[asked[task].address] = "slow: no answer before enough others had signed"
        await asyncio.gather(*pending, return_exceptions=True)
    return signed, refusals, device_days


async def _ask(
    http: aiohttp.ClientSession,
    witness: WitnessConfig,
    proposal: Proposal,
    records: Sequence[ArchivedStatement],
    account: Signer | LocalAccount,
) -> bytes:
    """One witness's verified signature, or Refused with the reason and, where it can name them, the device-days."""
    answer = await _propose(http, witness, proposal, account)
    if isinstance(answer, RefuseAnswer) and answer.code == "assessments":
        given = replace(proposal, assessments=tuple(record.assessment for record in records))
        answer = await _propose(http, witness, given, account)
    if isinstance(answer, SignAnswer):
        signature = bytes.fromhex(answer.signature[2:])
        if recover_signer(proposal.digest, signature) != witness.address:
            raise Refused("lying", "the signature is not of this witness over this batch")
        return signature
    days: list[DeviceDay] = list(answer.deviceDays)
    if answer.code == "root":
        leaves = [
            (r.statement.device_id, r.statement.start, r.statement.version, _hex(statement_leaf(r.statement)))
            for r in records
        ]
        path = f"/v1/proposals/{_hex(proposal.batch.root)}/differences"
        message = DifferencesMessage(proposal=ProposalMessage.parse(proposal.to_json()), statements=leaves)
        compared = _understood(DifferencesAnswer.parse, await _post(http, witness, path, message.to_json(), account))
        days = [(day.deviceId, day.start) for day in compared.deviceDays]
    raise Refused(answer.code, answer.reason[:1_000], days)


async def _propose(
    http: aiohttp.ClientSession, witness: WitnessConfig, proposal: Proposal, account: Signer | LocalAccount
) -> SignAnswer | RefuseAnswer:
    message = await _post(http, witness, "/v1/proposals", proposal.to_json(), account)
    answer = _understood(parse_answer, message)
    if answer.root != _hex(proposal.batch.root):
        raise Refused("lying", "the answer is about another root")
    return answer


def _understood(parse: Callable[[Any], T], message: Any) -> T:
    try:
        return parse(message)
    except Malformed as fault:
        raise Refused("lying", f"the answer is not one: {fault}") from None


async def _post(
    http: aiohttp.ClientSession, witness: WitnessConfig, path: str, message: Any, account: Signer | LocalAccount
) -> dict[str, Any]:
    body = json.dumps(message).encode()
    # The key may be with a remote signer: the others are asked meanwhile.
    signed = await asyncio.to_thread(sign_message, account, body)
    headers = {SIGNATURE_HEADER: signed, "Content-Type": "application/json"}
    try:
        async with http.post(witness.url + path, data=body, headers=headers, allow_redirects=False) as response:
            received = await response.content.read(MAX_BODY_BYTES + 1)
            while len(received) <= MAX_BODY_BYTES and (more := await response.content.read(MAX_BODY_BYTES)):
                received += more
            status, signature = response.status, response.headers.get(SIGNATURE_HEADER, "")
    except (aiohttp.ClientError, TimeoutError, OSError) as fault:
        raise Refused("no-answer", f"no answer ({type(fault).__name__})") from None
    if len(received) > MAX_BODY_BYTES:
        raise Refused("lying", "the answer is too long")
    if status != 200 and not signature:
        # A proxy before the witness, or a witness whose signer is down. Anybody could say so: it names no device-day.
        raise Refused("no-answer", f"HTTP {status}, not signed{_told(received)}")
    if message_signer(received, signature) != witness.address:
        raise Refused("lying", "the answer is not signed by this witness")
    try:
        answer = parse_json(received)
    except Malformed as fault:
        raise Refused("lying", str(fault)) from None
    if not isinstance(answer, dict):
        raise Refused("lying", "the answer is not an object")
    if status != 200:
        raise Refused(f"http-{status}", str(answer.get("error"))[:1_000])
    return answer


def _told(received: bytes) -> str:
    """The error that an unsigned answer tells, if any."""
    try:
        error = ErrorAnswer.parse(parse_json(received)).error
    except Malformed:
        return ""
    return f": {error[:200]}"


def _hex(value: bytes) -> str:
    return "0x" + value.hex()
