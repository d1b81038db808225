"""Every error the oracle raises on purpose, under one root.

An error carries its values as attributes, so that a caller can react to them, and its text says what
is wrong and what mends it. Exit codes of the command line are kept here, beside what they mean.
"""

from __future__ import annotations

import os


class OracleError(Exception):
    """Root of all errors of this package. ``exit_code`` is what the command line ends with."""

    exit_code = 1


class ConfigError(OracleError):
    """The configuration file is missing, unreadable or contradicts itself."""

    exit_code = 2


class CannotListen(ConfigError):
    """A service cannot have its ``listen`` (host:port): another process uses it, or the host is not of this machine."""

    def __init__(self, listen: str, fault: OSError, *, setting: str):
        self.listen = listen
        reason = os.strerror(fault.errno) if fault.errno and fault.errno > 0 else fault.strerror
        super().__init__(f"cannot listen on {listen}: {reason}; end what uses it, or set another address as {setting}")


class RefusedInput(OracleError):
    """A whole file is refused: nothing of it was taken.

    Attributes: ``file`` (name), ``line`` (1-based, None where it does not apply), ``field`` (column or
    element), ``expected`` (what would have been right).
    """

    exit_code = 3

    def __init__(
        self, reason: str, *, file: str, line: int | None = None, field: str | None = None, expected: str | None = None
    ):
        self.reason, self.file, self.line, self.field, self.expected = reason, file, line, field, expected
        where = file + (f", line {line}" if line else "") + (f", field {field}" if field else "")
        super().__init__(f"{where}: {reason}" + (f"; expected {expected}" if expected else ""))


class UnitError(OracleError):
    """A quantity is not a finite number, is out of range or has an unknown unit."""

    exit_code = 3


class ProtocolError(OracleError):
    """A value does not fit the bytes that docs/protocol.md lays down."""


class ArchiveError(OracleError):
    """An archive is missing, incomplete or does not hash to its name. ``root`` names it."""

    def __init__(self, reason: str, *, root: str):
        self.reason, self.root = reason, root
        super().__init__(f"archive {root}: {reason}")


class StoreError(OracleError):
    """The database refuses or does not answer, is of another schema version or is held by another oracle."""


class SourceError(OracleError):
    """A source of files is unknown, does not answer or answers something that stops the look at it."""


class ChainError(OracleError):
    """The chain answered something that must stop the oracle (wrong chain id, wrong code, a revert)."""

    exit_code = 4


class ChainUnreachable(ChainError):
    """No answer from the node. Says nothing about what is on the chain."""

    exit_code = 5


class WitnessRefused(OracleError):
    """Too few witnesses signed. ``refusals`` maps a witness to its reason, ``device_days`` lists what differs."""

    exit_code = 6

    def __init__(self, reason: str, *, refusals: dict[str, str], device_days: tuple[tuple[int, int], ...] = ()):
        self.refusals, self.device_days = refusals, device_days
        super().__init__(reason)
