"""The oracle as it runs day and night: take files, show each quarter hour on the chain, certify each day when it is over.

Time is a value here (:class:`Clock`), so that a demo and a test can let a day pass in seconds. Ending it at any
moment loses nothing: each step is that of the single commands, which may be run again.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import structlog
from eth_account.signers.local import LocalAccount

from .chain import Chain
from .config import OracleConfig
from .decisions import Received, take_waiting
from .domain import SLOT_SECONDS, DayState, DecisionState
from .errors import ArchiveError, ChainError, ConfigError, StoreError, WitnessRefused
from .findings import keep_daily
from .intake import take
from .issuance import Collect, Sent, issue, notarize
from .metrics import registry_of, serve_metrics
from .pipeline import assess_all
from .sealing import forget_unproposed, seal, seal_interim
from .signer import Signer, SignerUnreachable
from .store import Store

log = structlog.get_logger("oracle.watch")

#: What another round may find mended, and what must not keep this one from what else it has to do.
_PASSING = (ChainError, StoreError, ArchiveError, SignerUnreachable)
#: How long after the end of a quarter hour the oracle waits for the meters' files, in seconds.
DELAY_SECONDS = 60
#: A file that changed less than this many seconds ago may still be being written.
SETTLE_SECONDS = 2.0


class Clock(Protocol):
    """What time it is, in UTC seconds, and waiting for it to pass."""

    def now(self) -> int: ...
    def wait_until(self, moment: int) -> None: ...


class WallClock:
    """The machine's own clock."""

    def now(self) -> int:
        return int(time.time())

    def wait_until(self, moment: int) -> None:
        # In pieces, because a machine that sleeps wakes up with another time.
        while (left := moment - time.time()) > 0:
            time.sleep(min(left, 5.0))


class AcceleratedClock:
    """A time that passes ``factor`` times faster and stands still while work is done; a local chain's time follows it."""

    def __init__(self, chain: Chain, start: int, factor: float):
        self._chain, self._now, self._factor = chain, start, factor
        self._move_chain()

    def now(self) -> int:
        return self._now

    def wait_until(self, moment: int) -> None:
        time.sleep(max(0, moment - self._now) / self._factor)
        self._now = max(self._now, moment)
        self._move_chain()

    def _move_chain(self) -> None:
        if self._chain.head().time >= self._now:
            return
        try:
            self._chain.request("evm_setTime", hex(self._now * 1_000))
            self._chain.request("evm_mine")
        except ChainError as fault:
            raise ConfigError(f"only a local chain's time can be moved: {fault}") from None


@dataclass(frozen=True, slots=True)
class Step:
    """What one round did. ``interim`` and ``final``: roots of batches sealed in it; ``waits``: what must be tried again;
    ``decisions``: those signed elsewhere that came in it."""

    at: int
    files: int = 0
    refused: tuple[str, ...] = ()
    interim: tuple[str, ...] = ()
    final: tuple[str, ...] = ()
    sent: Sent = field(default_factory=Sent)
    states: dict[str, int] = field(default_factory=dict)
    waits: tuple[str, ...] = ()
    decisions: tuple[Received, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "at": self.at,
            "files": self.files,
            "refused": list(self.refused),
            "interim": list(self.interim),
            "final": list(self.final),
            "device_days": self.states,
            "waits": list(self.waits),
            "decisions": [one.to_json() for one in self.decisions],
            **self.sent.to_json(),
        }


class Inbox:
    """Files of folders that are new or changed since they were last asked for, once they have come to rest."""

    def __init__(self, folders: Iterable[Path], settle_seconds: float = SETTLE_SECONDS):
        self._folders, self._settle = list(folders), settle_seconds
        self._seen: dict[Path, tuple[int, int]] = {}

    def __call__(self) -> list[Path]:
        fresh = []
        for folder in self._folders:
            for file in sorted(folder.iterdir()) if folder.is_dir() else [folder]:
                try:
                    stat = file.stat()
                except FileNotFoundError:
                    continue
                mark = stat.st_size, stat.st_mtime_ns
                resting = time.time() - stat.st_mtime >= self._settle
                if file.is_file() and not file.name.startswith(".") and resting and self._seen.get(file) != mark:
                    self._seen[file] = mark
                    fresh.append(file)
        return fresh


def step(
    config: OracleConfig,
    store: Store,
    chain: Chain,
    account: Signer | LocalAccount,
    files: Sequence[Path],
    now: int,
    collect: Collect | None = None,
) -> Step:
    """One round at ``now`` (UTC seconds): look at the sources, take ``files``, notarize the last quarter hours, certify the days that are over.

    A witness that refuses, a node or a signer that does not answer, an archive that is damaged and another process that
    sends are told of and left to the next round; a faulty configuration or key is raised.
    """
    taken, waits = take(config, store, files), []
    if config.sources:
        # Its libraries for SFTP and MQTT are loaded only where there is something to look at.
        from .sources import collect as look

        for looked in look(config, store, now=datetime.fromtimestamp(now, UTC)):
            taken += looked.files
            waits += [f"source {looked.source}: {looked.problem}"] if looked.problem else []
    assessed = assess_all(config, store, now=now)
    received = take_waiting(config, store)
    if received:
        assessed = assess_all(config, store, now=now)
    waits += [f"decision {one.name}: {one.reason}" for one in received if one.state is DecisionState.WAITING]
    keep_daily(config, store, datetime.fromtimestamp(now, UTC))
    interim = seal_interim(config, store, now)
    final = seal(config, store)
    sent = Sent()
    acts: tuple[Callable[[], Sent], ...] = (
        functools.partial(notarize, config, store, chain, account, collect=collect),
        functools.partial(issue, config, store, chain, account),
    )
    for act in acts:
        try:
            sent += act()
        except (WitnessRefused, *_PASSING) as fault:
            log.warning("waits", reason=str(fault))
            waits.append(str(fault))
    return Step(
        at=now,
        files=sum(not one.known and one.refusal is None for one in taken),
        refused=tuple(one.refusal for one in taken if one.refusal),
        interim=tuple("0x" + archive.root.hex() for archive in interim),
        final=tuple("0x" + archive.root.hex() for archive in final),
        sent=sent,
        states={DayState(state).value: count for state, count in assessed.states.items()},
        waits=tuple(waits),
        decisions=tuple(received),
    )


def watch(
    config: OracleConfig,
    store: Store,
    chain: Chain,
    account: Signer | LocalAccount,
    gather: Callable[[], Sequence[Path]],
    *,
    clock: Clock,
    tell: Callable[[Step], None],
    until: int | None = None,
    delay_seconds: int = DELAY_SECONDS,
    collect: Collect | None = None,
) -> None:
    """A :func:`step` now and ``delay_seconds`` after each quarter hour, for ever or through ``until`` (UTC seconds).

    ``gather`` gives the files to take; ``tell`` is told of each step. Metrics are served where the configuration says.
    """
    if config.metrics_listen:
        serve_metrics(config.metrics_listen, registry_of(store, chain, account.address))
    forget_unproposed(config, store, chain)
    files: list[Path] = []
    while True:
        now = clock.now()
        files += [file for file in gather() if file not in files]
        try:
            told = step(config, store, chain, account, files, now, collect)
            files = []
        except _PASSING as fault:
            told = Step(at=now, waits=(str(fault),))  # its files are for the next round
        tell(told)
        following = (now - delay_seconds) // SLOT_SECONDS * SLOT_SECONDS + SLOT_SECONDS + delay_seconds
        if until is not None and following > until:
            return
        clock.wait_until(following)
