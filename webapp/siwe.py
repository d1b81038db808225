"""Sign-In with Ethereum (EIP-4361): the message, read strictly, and who signed it.

Strict: the text is exactly what the standard's grammar allows, every field is compared, nothing is guessed. Accounts sign with
their key (EIP-191); contract wallets are asked themselves (ERC-1271) at the newest block.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from datetime import datetime

from eth_abi import encode
from eth_account import Account
from eth_account.messages import SignableMessage, defunct_hash_message, encode_defunct
from eth_utils.address import to_checksum_address

from oracle.errors import ChainUnreachable

from .node import Node, NodeRefused

#: A message may be this old when it comes back, and its clock this far ahead of ours.
FRESH_SECONDS, SKEW_SECONDS = 600, 60
#: Longer ones are not read at all: wallets' own signatures have 65 bytes, those of contract wallets several times that.
MOST_CHARACTERS, MOST_SIGNATURE_BYTES = 4_000, 8_192
#: What isValidSignature(bytes32,bytes) gives for yes, which is its own selector too.
MAGIC = "1626ba7e"

_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)"
_URI = r"[A-Za-z][A-Za-z0-9+.\-]*:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]*"
_MESSAGE = re.compile(
    r"(?:(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*)://)?(?P<domain>[A-Za-z0-9\-._~:\[\]@!$&'()*+,;=%]+)"
    r" wants you to sign in with your Ethereum account:\n(?P<address>0x[0-9A-Fa-f]{40})\n\n"
    r"(?:(?P<statement>[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;= ]+)\n)?\n"
    rf"URI: (?P<uri>{_URI})\nVersion: (?P<version>\d+)\nChain ID: (?P<chain_id>\d{{1,78}})\nNonce: (?P<nonce>[A-Za-z0-9]{{8,200}})\n"
    rf"Issued At: (?P<issued_at>{_TIME})(?:\nExpiration Time: (?P<expiration_time>{_TIME}))?(?:\nNot Before: (?P<not_before>{_TIME}))?"
    r"(?:\nRequest ID: (?P<request_id>[A-Za-z0-9\-._~!$&'()*+,;=:@%]*))?"
    rf"(?P<resources>\nResources:(?:\n- {_URI})*)?",
    re.ASCII,
)  # fmt: skip


def read_address(text: str) -> str:
    """The address in ``text`` with its EIP-55 capitals. Raises ValueError for anything else, and for capitals that do not fit."""
    digits = text[2:]
    plain = re.fullmatch("0x[0-9a-fA-F]{40}", text) and digits in (digits.lower(), digits.upper())
    if not plain and (not re.fullmatch("0x[0-9a-fA-F]{40}", text) or text != to_checksum_address(text)):
        raise ValueError(f"{text[:60]!r} is not an address")
    return str(to_checksum_address(text))


class SiweError(Exception):
    """A sign-in that is refused. ``field``: the part of the message that is wrong, ``message`` or ``signature`` for the whole,
    ``altered`` for a message that is sound and for this site, but not as the site wrote it."""

    def __init__(self, field: str, reason: str):
        self.field = field
        super().__init__(f"{field}: {reason}")


@dataclass(frozen=True, slots=True)
class Message:
    """The fields of a message; times are aware datetimes, None where the field is left out."""

    domain: str
    address: str
    uri: str
    chain_id: int
    nonce: str
    issued_at: datetime
    statement: str | None = None
    scheme: str | None = None
    expiration_time: datetime | None = None
    not_before: datetime | None = None
    request_id: str | None = None
    resources: tuple[str, ...] = ()

    @classmethod
    def read(cls, text: str) -> Message:
        """Raises SiweError unless ``text`` is a message of version 1 to the letter, its address with an EIP-55 checksum."""
        found = _MESSAGE.fullmatch(text) if len(text) <= MOST_CHARACTERS else None
        if found is None:
            raise SiweError("message", "is not one of EIP-4361")
        part = found.groupdict()
        if part["version"] != "1":
            raise SiweError("version", "is not 1")
        if part["address"] != to_checksum_address(part["address"]):
            raise SiweError("address", "does not have its EIP-55 capitals")
        until, since = part["expiration_time"], part["not_before"]
        listed = (part["resources"] or "").removeprefix("\nResources:").split("\n")
        return cls(
            domain=part["domain"], address=part["address"], uri=part["uri"], chain_id=int(part["chain_id"]), nonce=part["nonce"],
            issued_at=_time("issued_at", part["issued_at"]), statement=part["statement"], scheme=part["scheme"],
            expiration_time=_time("expiration_time", until) if until else None,
            not_before=_time("not_before", since) if since else None,
            request_id=part["request_id"], resources=tuple(line.removeprefix("- ") for line in listed if line),
        )  # fmt: skip

    def __str__(self) -> str:
        """The text that is signed."""
        lines = [f"{self.scheme + '://' if self.scheme else ''}{self.domain} wants you to sign in with your Ethereum account:", self.address, ""]  # fmt: skip
        lines += [self.statement] if self.statement is not None else []
        lines += ["", f"URI: {self.uri}", "Version: 1", f"Chain ID: {self.chain_id}", f"Nonce: {self.nonce}", f"Issued At: {_text(self.issued_at)}"]  # fmt: skip
        lines += [f"Expiration Time: {_text(self.expiration_time)}"] if self.expiration_time else []
        lines += [f"Not Before: {_text(self.not_before)}"] if self.not_before else []
        lines += [f"Request ID: {self.request_id}"] if self.request_id is not None else []
        return "\n".join([*lines, *(["Resources:", *(f"- {one}" for one in self.resources)] if self.resources else [])])

    def require(self, made: Message) -> None:
        """Raises SiweError unless every field, a statement, a resource and what is left out too, is that of ``made``."""
        for part in fields(self):
            if getattr(self, part.name) != getattr(made, part.name):
                raise SiweError("altered", f"{part.name} is not as this site wrote it")

    def check(self, *, origin: str, chain_id: int, now: datetime) -> None:
        """Raises SiweError unless it was made for the site at ``origin`` (``https://host[:port]``), for this chain, and for now.

        The nonce is for the caller to judge: it knows which it gave away.
        """
        scheme, _, domain = origin.partition("://")
        age = (now - self.issued_at).total_seconds()
        rules = (
            ("domain", self.domain == domain, "is another site's"),
            ("scheme", self.scheme in (None, scheme), "is not how this site is reached"),
            ("uri", self.uri == origin or self.uri.startswith(f"{origin}/"), "is not of this site"),
            ("chain_id", self.chain_id == chain_id, "is another chain's"),
            ("issued_at", age >= -SKEW_SECONDS, "lies in the future"),
            ("issued_at", age <= FRESH_SECONDS, "is too long ago"),
            ("expiration_time", self.expiration_time is None or now < self.expiration_time, "is over"),
            ("not_before", self.not_before is None or now >= self.not_before, "is not reached"),
        )
        for field, holds, reason in rules:
            if not holds:
                raise SiweError(field, reason)


def check_signature(text: str, address: str, signature: str, node: Node) -> None:
    """Raises SiweError unless ``address`` signed ``text``; ``signature`` is 0x text. ChainUnreachable where a contract cannot be asked."""
    try:
        signed = bytes.fromhex(signature.removeprefix("0x"))
    except ValueError:
        raise SiweError("signature", "is not hexadecimal") from None
    if not signature.startswith("0x") or not 0 < len(signed) <= MOST_SIGNATURE_BYTES:
        raise SiweError("signature", "has no signature's length")
    if _signer(encode_defunct(text=text), signed) != address and not _contract_says_yes(text, address, signed, node):
        raise SiweError("signature", "is not by this account")


def _signer(message: SignableMessage, signature: bytes) -> str | None:
    if len(signature) != 65:
        return None
    try:
        return str(Account.recover_message(message, signature=signature))
    except Exception:
        # eth-account and eth-keys have several unrelated errors for bytes that are no signature.
        return None


def _contract_says_yes(text: str, address: str, signature: bytes, node: Node) -> bool:
    data = MAGIC + encode(["bytes32", "bytes"], [defunct_hash_message(text=text), signature]).hex()
    try:
        answer = node.call("eth_call", {"to": address, "data": f"0x{data}"}, "latest")
    except NodeRefused:
        return False
    if not isinstance(answer, str):
        raise ChainUnreachable("the node's answer is not JSON-RPC")
    return len(answer) == 66 and answer[2:] == MAGIC + "0" * 56


def _time(field: str, text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise SiweError(field, "is no time") from None


def _text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
