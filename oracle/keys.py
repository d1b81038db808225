"""Secrets on disk: an account as an encrypted keystore, and one key for each device.

Every secret file is created whole, never overwritten, and readable by its owner alone (0600). A file that
others can read is refused, not repaired: it may have been read already.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
import tempfile
from pathlib import Path

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils import is_address, to_checksum_address

from .config import KeyFile
from .errors import ConfigError

DEVICE_KEY_BYTES = 32


class SecretError(ConfigError):
    """A secret file is missing, exposed, damaged, or would be overwritten. ``file`` names it."""

    def __init__(self, reason: str, *, file: Path):
        self.reason, self.file = reason, file
        super().__init__(f"{file}: {reason}")


def create_account(key: KeyFile) -> str:
    """Make a new account: its encrypted keystore and, unless it is there already, a random password.

    Returns the checksummed address. Raises SecretError when the keystore exists.
    """
    if key.keystore.exists():
        raise SecretError("there is a keystore already; move it away to make a new one", file=key.keystore)
    if not key.password_file.exists():
        _create_secret(key.password_file, secrets.token_urlsafe(32).encode() + b"\n")
    account: LocalAccount = Account.create()
    encrypted = Account.encrypt(account.key, _password(key.password_file))
    _create_secret(key.keystore, json.dumps(encrypted).encode())
    return account.address


def load_account(key: KeyFile) -> LocalAccount:
    """Decrypt a keystore (takes about a second, by design). Raises SecretError without quoting any secret."""
    try:
        encrypted = json.loads(read_secret(key.keystore))
        if not isinstance(encrypted, dict):
            raise TypeError
    except (ValueError, TypeError):
        raise SecretError("this is not a keystore (Web3 Secret Storage JSON)", file=key.keystore) from None
    try:
        return Account.from_key(Account.decrypt(encrypted, _password(key.password_file)))
    except (ValueError, TypeError, LookupError):
        raise SecretError(f"does not open with the password in {key.password_file}", file=key.keystore) from None


def keystore_address(key: KeyFile) -> str | None:
    """The address that a keystore states, without opening it; None where it states none."""
    try:
        address = json.loads(read_secret(key.keystore)).get("address")
    except (ValueError, AttributeError):
        raise SecretError("this is not a keystore (Web3 Secret Storage JSON)", file=key.keystore) from None
    return to_checksum_address(address) if is_address(address) else None


def device_key_file(folder: Path, device_id: int) -> Path:
    """Where the key that salts a device's slots lies."""
    return folder / f"{device_id}.key"


def create_device_key(folder: Path, device_id: int) -> Path:
    """Make the key that salts a device's profiles: 32 random bytes, to be shared with its witnesses alone."""
    file = device_key_file(folder, device_id)
    _create_secret(file, secrets.token_bytes(DEVICE_KEY_BYTES))
    return file


def load_device_key(folder: Path, device_id: int) -> bytes:
    """The 32 bytes that salt the profiles of ``device_id``."""
    file = device_key_file(folder, device_id)
    key = read_secret(file)
    if len(key) != DEVICE_KEY_BYTES:
        raise SecretError(f"a device key has {DEVICE_KEY_BYTES} bytes, this file has {len(key)}", file=file)
    return key


def _password(file: Path) -> str:
    try:
        password = read_secret(file).decode().strip()
    except UnicodeDecodeError:
        password = ""
    if not password:
        raise SecretError("there is no password in this file", file=file)
    return password


def read_secret(file: Path) -> bytes:
    """What a secret file holds; SecretError if it is not there or if others can read it."""
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
        if mode & 0o077:
            raise SecretError(
                f"others can read this file (mode {mode:04o}); renew it, or chmod 600 if nobody did", file=file
            )
        return file.read_bytes()
    except FileNotFoundError:
        raise SecretError("is not there; `python -m oracle keys --help` tells how to make it", file=file) from None
    except OSError as fault:
        raise SecretError(f"is not readable: {fault.strerror}", file=file) from None


def _create_secret(file: Path, secret: bytes) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # mkstemp makes the file 0600 from its first moment; link() refuses to overwrite.
        handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=".part-")
    except OSError as fault:
        raise SecretError(f"cannot be made: {fault.strerror}; name another path", file=file) from None
    try:
        with os.fdopen(handle, "wb") as target:
            target.write(secret)
            target.flush()
            os.fsync(target.fileno())
        os.link(temporary, file)
    except FileExistsError:
        raise SecretError("is there already and is never overwritten", file=file) from None
    finally:
        Path(temporary).unlink(missing_ok=True)
