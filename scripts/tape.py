"""Recorded histories of the state machines: what the contracts answered, to be asked of other code again.

The machines of tests/properties compare every answer of the contracts with their model. So code that answers each call
of a history as the contracts did passes it, and code that does not fails it: replaying the calls judges other code
without hypothesis and without the model, much faster.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.properties.bed import GAS
from tests.properties.machines import Bench
from tests.properties.system import System

CALLS_PER_HISTORY = 50


@dataclass(frozen=True)
class Call:
    """A call and the digest of what came of it: the answer and the logs, or the error. Gas is no part of it."""

    caller: str
    to: str
    data: bytes
    outcome: bytes


@dataclass
class History:
    """Calls upon the system as deployed, and the times (Unix seconds) set between them; drawn by `machine`."""

    machine: str
    steps: list[Call | int] = field(default_factory=list)


class Recorder:
    """Stands in for the EVM of a bed and notes what goes through it."""

    def __init__(self, evm: Any) -> None:
        self.evm = evm
        self.machine = ""
        self.histories: list[History] = []
        self.is_listening = False

    @property
    def result(self) -> Any:
        return self.evm.result

    def snapshot(self) -> Any:
        return self.evm.snapshot()

    def revert(self, snapshot: Any) -> None:
        """Where a history begins."""
        self.evm.revert(snapshot)
        self.histories.append(History(self.machine))
        self.is_listening = True

    def set_block_env(self, block: Any) -> None:
        self.evm.set_block_env(block)
        self._note(block.timestamp)

    def message_call(self, caller: str, to: str, calldata: bytes, gas: int) -> Any:
        if gas < GAS:
            # Whether so little suffices hangs on the code, not on what it means.
            self.is_listening = False
        try:
            answer = self.evm.message_call(caller=caller, to=to, calldata=calldata, gas=gas)
        except RuntimeError as error:
            self._note(Call(caller, to, calldata, refused(error)))
            raise
        self._note(Call(caller, to, calldata, done(answer, self.evm.result.logs)))
        return answer

    def cut(self) -> None:
        """Ends the history before its last call."""
        if self.is_listening:
            self.histories[-1].steps.pop()
        self.is_listening = False

    def _note(self, step: Call | int) -> None:
        if self.is_listening:
            self.histories[-1].steps.append(step)


class RecordedSystem(System):
    """A system whose calls are noted from the first reset on."""

    def __init__(self) -> None:
        super().__init__()
        self.recorder = self.bed.evm = Recorder(self.bed.evm)

    def _starved(self, *arguments: Any) -> Any:
        # A receiver that was called ran out of gas: other code may spare it that.
        self.recorder.cut()
        return super()._starved(*arguments)


def record(machine: type[Bench], runs: int) -> list[History]:
    """Histories that a machine draws, the same ones every time."""
    system = Bench.system = RecordedSystem()
    system.recorder.machine = machine.__name__
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=runs,
            stateful_step_count=CALLS_PER_HISTORY,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
    return system.recorder.histories


def replay(histories: Sequence[History], artifacts: Mapping[str, dict[str, Any]]) -> str:
    """The machine of the first history that these contracts answer otherwise; "deployment" if they cannot even be
    deployed and set up as they should, empty if they answer all alike."""
    try:
        system = System(artifacts)
    except (AssertionError, RuntimeError, KeyError):
        return "deployment"
    evm, bed = system.bed.evm, system.bed
    snapshot = evm.snapshot()
    for history in histories:
        evm.revert(snapshot)
        snapshot = evm.snapshot()
        for step in history.steps:
            if isinstance(step, int):
                bed.set_time(step)
                continue
            try:
                answer = evm.message_call(caller=step.caller, to=step.to, calldata=step.data, gas=GAS)
                outcome = done(answer, evm.result.logs)
            except RuntimeError as error:
                outcome = refused(error)
            if outcome != step.outcome:
                return history.machine
    return ""


def done(answer: Any, logs: Sequence[Any]) -> bytes:
    def parts() -> Iterator[bytes]:
        yield bytes(answer)
        for log in logs:
            topics, data = log.data
            yield from (log.address.encode(), b"".join(map(bytes, topics)), bytes(data))

    return hashlib.blake2b(b"".join(len(part).to_bytes(4, "big") + part for part in parts()), digest_size=16).digest()


def refused(error: RuntimeError) -> bytes:
    text = str(error)
    said = text.rsplit("0x", 1)[1].strip(" }") if text.startswith("Revert") else text.split("{")[0].strip()
    return hashlib.blake2b(b"refused" + said.encode(), digest_size=16).digest()
