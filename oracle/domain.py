"""The words of Wattmark as types: what a reading, a statement, a batch and a verdict are.

Only values live here, nothing that reads, hashes or sends. Times on their way to the chain are integers
of UTC seconds (``start``); energies are integers of watt-hours (``energy_wh``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum, IntFlag
from typing import Any

SLOT_SECONDS = 900
DAY_SECONDS = 86_400
SLOTS_PER_DAY = DAY_SECONDS // SLOT_SECONDS
MAX_DURATION_SECONDS = 31 * DAY_SECONDS
MAX_SLOT_WH = 2**32 - 1


class Quality(IntFlag):
    """Quality bits of one slot (docs/protocol.md). A missing slot has none of them and 0 Wh."""

    MEASURED = 1
    ESTIMATED = 2
    EDITED = 4
    COARSE = 8
    SUSPECT = 16
    CERTIFIED = 32


class BatchKind(IntEnum):
    """FINAL batches are chained and issuable; INTERIM ones are evidence only."""

    FINAL = 1
    INTERIM = 2


class BatchStatus(IntEnum):
    """State of a notarization on the chain; NONE means that the root was never notarized."""

    NONE = 0
    OPEN = 1
    REVOKED = 2


class DeviceKind(IntEnum):
    """What the one flow of a device is. Only generation issues."""

    GENERATION = 1
    CONSUMPTION = 2
    STORAGE_CHARGE = 3
    STORAGE_DISCHARGE = 4


class Visibility(IntEnum):
    """Whether a device's archives are published whole or stay with its operator and witnesses."""

    PUBLIC = 1
    PRIVATE = 2


class DayState(str, Enum):
    """How far a device-day has come. The gap report shows each device-day in exactly one of these."""

    METERED = "metered"
    HELD = "held"
    ACCEPTED = "accepted"
    SEALED = "sealed"
    NOTARIZED = "notarized"
    ISSUED = "issued"
    FINAL = "final"
    REJECTED = "rejected"


class DecisionState(str, Enum):
    """What became of a decision that came as a file; one that waits lacks something that may still come."""

    TAKEN = "taken"
    REFUSED = "refused"
    WAITING = "waiting"


class SagaState(str, Enum):
    """State of one act on the chain. ``final`` is left only by a reorganisation deeper than finality."""

    QUEUED = "queued"
    SIGNED = "signed"
    SENT = "sent"
    MINED = "mined"
    FINAL = "final"
    FAILED = "failed"


class CorroborationResult(str, Enum):
    """What independent irradiance says about a device's day."""

    CORROBORATED = "corroborated"
    UNCORROBORATED = "uncorroborated"
    CONTRADICTED = "contradicted"


class Verdict(str, Enum):
    """Answer to one question of a check. Order of severity: see :meth:`worst`."""

    VERIFIED = "verified"
    NOT_FINAL = "not final"
    CANNOT_CHECK = "cannot check"
    NOT_FOUND = "not found"
    REVOKED = "revoked"
    MISMATCH = "mismatch"

    @classmethod
    def worst(cls, verdicts: list[Verdict]) -> Verdict:
        """The headline of a check is the worst of its parts; members above stand from best to worst."""
        order = list(cls)
        return max(verdicts, key=order.index)


@dataclass(frozen=True, slots=True)
class Finding:
    """One verdict with the sentence that explains it and the figures behind it."""

    verdict: Verdict
    reason: str
    evidence: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The four separate answers about one statement; never merged into one but in the headline."""

    data: Finding
    inclusion: Finding
    finality: Finding
    authority: Finding

    @property
    def headline(self) -> Verdict:
        return Verdict.worst([self.data.verdict, self.inclusion.verdict, self.finality.verdict, self.authority.verdict])


@dataclass(frozen=True, slots=True)
class Profile:
    """One device's slots of one UTC day or of a period's part of it.

    ``start`` UTC seconds of the first slot; ``energy_wh`` watt-hours and ``quality`` one
    :class:`Quality` byte for each slot, both of the same length (1 to 96).
    """

    start: int
    energy_wh: tuple[int, ...]
    quality: tuple[int, ...]

    @property
    def certified_wh(self) -> int:
        """Energy over the slots that carry the certified bit."""
        certified = int(Quality.CERTIFIED)
        return sum(wh for wh, q in zip(self.energy_wh, self.quality, strict=True) if q & certified)


@dataclass(frozen=True, slots=True)
class Statement:
    """What is certified about one device and period (docs/protocol.md, "Statement").

    ``start`` UTC seconds, ``duration`` seconds, ``version`` 0 for the first, ``energy_wh`` certifiable
    energy, ``previous_wh`` energy of the version before (0 for version 0), ``profile_hash`` 32 bytes.
    """

    device_id: int
    start: int
    duration: int
    version: int
    energy_wh: int
    previous_wh: int
    profile_hash: bytes

    @property
    def end(self) -> int:
        return self.start + self.duration


@dataclass(frozen=True, slots=True)
class Batch:
    """A notarization as it is signed (EIP-712 struct ``Batch``). Times in UTC seconds."""

    kind: BatchKind
    signer_epoch: int
    head: bytes
    root: bytes
    start: int
    end: int
    statements: int
    energy_wh: int
    archive_hash: bytes
    deadline: int


@dataclass(frozen=True, slots=True)
class NotaryDomain:
    """Where a signature counts: one Notary contract on one chain. ``contract`` is a 0x address."""

    chain_id: int
    contract: str
