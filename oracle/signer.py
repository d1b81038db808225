"""Who signs: one small protocol, a key opened from its keystore here, or a signer that keeps it elsewhere.

A remote signer is a JSON-RPC service such as Web3Signer: ``eth_accounts``, ``eth_signTransaction``,
``eth_signTypedData_v4`` and ``eth_sign``. Web3Signer has ``eth_signTypedData`` instead, which takes the data as JSON
text, and hands methods that it does not know to its node. What a signer answers is checked before it is used: a
transaction must say what was asked, to the last field, and every signature must recover to the configured address.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit

import orjson
import requests
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount
from eth_keys import keys as eth_keys
from eth_typing import Hash32

from .config import KeyFile, RemoteKey
from .domain import Batch, NotaryDomain
from .errors import ConfigError
from .keys import load_account, read_secret
from .protocol import batch_digest, batch_typed_data, keccak256
from .verify import rlp_decode

MAX_ANSWER_BYTES = 1 << 20
_HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
_LEGACY = ("nonce", "gasPrice", "gas", "to", "value", "data")
_DYNAMIC_FEE = ("chainId", "nonce", "maxPriorityFeePerGas", "maxFeePerGas", "gas", "to", "value", "data")


class SignerError(ConfigError):
    """A remote signer refuses, lacks the account, or answers something else than what was asked."""


class SignerRefused(SignerError):
    """The signer answered with an error: it does not know the method or the account, or will not."""


class SignerUnreachable(SignerError):
    """No answer from the remote signer. Nothing was signed that we know of; run again."""

    exit_code = 5


class Signer(Protocol):
    """An account that signs. Signatures are 65 bytes r, s, v with v 27 or 28 and a low s, as the contracts take them."""

    @property
    def address(self) -> str:
        """Checksummed."""

    def sign_transaction(self, fields: Mapping[str, Any]) -> bytes:
        """Signed bytes of a transaction. ``fields``: chainId, nonce, gas, to, value, data, and gasPrice or both fees."""

    def sign_batch(self, batch: Batch, domain: NotaryDomain) -> bytes:
        """Signature over a batch's EIP-712 digest."""

    def sign_message(self, message: bytes) -> bytes:
        """EIP-191 personal signature over bytes."""


class LocalSigner:
    """A key in this process."""

    def __init__(self, account: LocalAccount):
        self._account = account

    def __repr__(self) -> str:
        return f"LocalSigner({self.address})"

    @property
    def address(self) -> str:
        return self._account.address

    def sign_transaction(self, fields: Mapping[str, Any]) -> bytes:
        return bytes(self._account.sign_transaction(dict(fields)).raw_transaction)

    def sign_batch(self, batch: Batch, domain: NotaryDomain) -> bytes:
        return bytes(self._account.unsafe_sign_hash(Hash32(batch_digest(batch, domain))).signature)

    def sign_message(self, message: bytes) -> bytes:
        return bytes(self._account.sign_message(encode_defunct(message)).signature)


class RemoteSigner:
    """A key that a service keeps. :meth:`open` makes sure that it has the account."""

    def __init__(self, key: RemoteKey):
        self.key = key
        self._http = requests.Session()
        # Neither a proxy nor a .netrc of the environment comes between us and the signer.
        self._http.trust_env = False
        self._http.verify = str(key.ca_file) if key.ca_file else True
        self._http.cert = (str(key.certificate), str(key.certificate_key)) if key.certificate else None

    @classmethod
    def open(cls, key: RemoteKey) -> RemoteSigner:
        for file in (key.ca_file, key.certificate):
            if file and not file.is_file():
                raise SignerError(f"{file} is not there; the signer's ca_file and certificate are PEM files")
        if key.certificate_key:
            read_secret(key.certificate_key)
        signer = cls(key)
        accounts = signer._ask("eth_accounts")
        held = {str(one).lower() for one in accounts} if isinstance(accounts, list) else set()
        if key.address.lower() not in held:
            raise SignerError(f"the signer at {signer._host} does not hold {key.address}; it holds {len(held)} others")
        return signer

    def __repr__(self) -> str:
        return f"RemoteSigner({self.address} at {self._host})"

    @property
    def address(self) -> str:
        return self.key.address

    def sign_transaction(self, fields: Mapping[str, Any]) -> bytes:
        named = {name: value for name, value in fields.items() if name != "type"}
        answer = self._ask("eth_signTransaction", {"from": self.address, **{k: _json(v) for k, v in named.items()}})
        raw = _bytes(answer.get("raw") if isinstance(answer, dict) else answer)
        if raw is None or not _says(raw, named, self.address):
            raise SignerError(f"the signer at {self._host} answered another transaction than the one asked for")
        return raw

    def sign_batch(self, batch: Batch, domain: NotaryDomain) -> bytes:
        typed = batch_typed_data(batch, domain)
        try:
            answer = self._ask("eth_signTypedData_v4", self.address, typed)
        except SignerRefused as refused:
            # Web3Signer's node answered this, in whatever words, or nobody did: ask by the name that Web3Signer knows.
            try:
                answer = self._ask("eth_signTypedData", self.address, orjson.dumps(typed).decode())
            except SignerRefused as again:
                raise SignerError(f"{refused}; {again}") from None
        return self._checked(answer, batch_digest(batch, domain))

    def sign_message(self, message: bytes) -> bytes:
        answer = self._ask("eth_sign", self.address, "0x" + message.hex())
        return self._checked(answer, _message_hash(message))

    def _checked(self, answer: Any, digest: bytes) -> bytes:
        signature = _bytes(answer)
        if signature is not None and len(signature) == 65 and signature[64] in (0, 1):
            signature = signature[:64] + bytes((signature[64] + 27,))
        if signature is None or len(signature) != 65 or not _is_of(self.address, digest, signature):
            raise SignerError(f"the signer at {self._host} answered something that is no signature of {self.address}")
        return signature

    @property
    def _host(self) -> str:
        # A URL may carry a password or an access key: only its host is ever shown.
        return urlsplit(self.key.url).netloc.rpartition("@")[2]

    def _ask(self, method: str, *params: Any) -> Any:
        """The result of one JSON-RPC call. Nothing is asked twice: the caller's next run does that."""
        body = orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        headers = {"Content-Type": "application/json"}
        try:
            with self._http.post(
                self.key.url,
                data=body,
                headers=headers,
                timeout=self.key.timeout_seconds,
                allow_redirects=False,
                stream=True,
            ) as response:
                received = response.raw.read(MAX_ANSWER_BYTES + 1, decode_content=True)
                status = response.status_code
        except (requests.RequestException, OSError) as fault:
            raise SignerUnreachable(f"no answer from the signer at {self._host} ({type(fault).__name__})") from None
        except Exception as fault:
            # urllib3's own errors of a connection that breaks while it is read.
            raise SignerUnreachable(
                f"half an answer from the signer at {self._host} ({type(fault).__name__})"
            ) from None
        try:
            answer = orjson.loads(received) if len(received) <= MAX_ANSWER_BYTES else None
        except ValueError:
            answer = None
        error = answer.get("error") if isinstance(answer, dict) else None
        if isinstance(error, dict):
            raise SignerRefused(f"the signer at {self._host} refuses {method}: {str(error.get('message'))[:200]}")
        if not isinstance(answer, dict) or "result" not in answer:
            raise SignerUnreachable(f"the signer at {self._host} gave no JSON-RPC answer (HTTP {status})")
        return answer["result"]


def open_signer(key: KeyFile | RemoteKey) -> Signer:
    """The signer that a configuration names; SecretError, SignerError or SignerUnreachable if it cannot be used."""
    return RemoteSigner.open(key) if isinstance(key, RemoteKey) else LocalSigner(load_account(key))


def as_signer(account: Signer | LocalAccount) -> Signer:
    """``account`` behind the protocol, where it is a key in this process."""
    return LocalSigner(account) if isinstance(account, LocalAccount) else account


# -- what was answered ------------------------------------------------------------------------------


def _json(value: Any) -> Any:
    if isinstance(value, int):
        return hex(value)
    return "0x" + value.hex() if isinstance(value, bytes) else value


def _bytes(value: Any) -> bytes | None:
    try:
        return bytes.fromhex(value.removeprefix("0x"))
    except (AttributeError, TypeError, ValueError):
        return None


def _message_hash(message: bytes) -> bytes:
    """What EIP-191 has a personal signature sign."""
    return keccak256(b"\x19Ethereum Signed Message:\n%d" % len(message) + message)


def _is_of(address: str, digest: bytes, signature: bytes) -> bool:
    if signature[64] not in (27, 28) or int.from_bytes(signature[32:64]) > _HALF_ORDER:
        return False
    try:
        parsed = eth_keys.Signature(signature[:64] + bytes((signature[64] - 27,)))
        return parsed.recover_public_key_from_msg_hash(digest).to_checksum_address() == address
    except Exception:
        # The libraries below raise many kinds of errors over hostile bytes; all mean the same.
        return False


def _says(raw: bytes, fields: Mapping[str, Any], address: str) -> bool:
    """Whether signed bytes are of ``address`` and say exactly ``fields``: legacy or EIP-1559, without an access list."""
    try:
        if raw[0] == 2:
            *told, access_list, _, _, _ = rlp_decode(raw[1:])
            if access_list:
                return False
            said = dict(zip(_DYNAMIC_FEE, told, strict=True))
        else:
            *told, v, _, _ = rlp_decode(raw)
            said = dict(zip(_LEGACY, told, strict=True)) | {"chainId": _minimal((int.from_bytes(v) - 35) // 2)}
        asked = {name: _minimal(value) if isinstance(value, int) else value for name, value in fields.items()}
        asked["to"] = bytes.fromhex(fields["to"][2:])
        return said == asked and Account.recover_transaction(raw) == address
    except Exception:
        return False


def _minimal(number: int) -> bytes:
    """As RLP has integers: big-endian without leading zeros."""
    return number.to_bytes(-(-number.bit_length() // 8))
