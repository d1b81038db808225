"""What a deployment is made from: who signs and holds which role, in which chain's words, and the deployer's key.

Everything comes from the environment (docs/deployment.md) and is refused here, before anything is paid for, where the
contracts would refuse it or keep a mistake for ever.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils import to_checksum_address
from web3 import Web3

from scripts.networks import DeployError
from scripts.roles import ADMIN_DELAY_SECONDS, ADMINISTRATOR, ROLES

DEFAULT_BASE_URI = "http://localhost:8000/certificates/"
OUTCOME_BASE_URI = "http://localhost:8000/outcomes/"
MAX_SIGNERS = 32
MAX_DELAY_SECONDS = 2**32 - 1


@dataclass(frozen=True)
class Settings:
    """What a deployment is made from.

    ``holders``: address by role name; roles without one stay empty. ``admin_delay_seconds``: how long acts of
    the administrator wait. ``safe``: file for what the administrator, a Safe, has to execute; None where the sender is
    administrator until the hand-over. ``gas_price_wei``: a legacy price, None for what the chain asks.
    """

    book: Path
    chain_name: str
    signers: tuple[str, ...]
    threshold: int
    holders: dict[str, str]
    admin_delay_seconds: int
    certificate_uri: str
    outcome_uri: str
    safe: Path | None = None
    gas_price_wei: int | None = None
    confirmations: int = 1

    @classmethod
    def read(
        cls,
        environment: Mapping[str, str],
        deployer: str,
        book: Path,
        chain_name: str,
        development: Sequence[str] = (),
        safe: Path | None = None,
        confirmations: int = 1,
        public: bool = False,
    ) -> Settings:
        """From WATTMARK_SIGNERS (comma separated), WATTMARK_THRESHOLD, a WATTMARK_<ROLE> for each role, WATTMARK_ADMIN_DELAY,
        WATTMARK_CERTIFICATE_URI, WATTMARK_OUTCOME_URI, WATTMARK_CHAIN_NAME, WATTMARK_GAS_PRICE_WEI.

        ``development``: signers of a chain that ends with the run, where role holders default to the deployer and
        nothing waits; elsewhere nothing but the administrator (the deployer) has a default. ``public``: metadata must have
        an address that others reach, and the administrator's acts must wait.
        """
        addresses, threshold = witnesses(environment, development)
        holders = {}
        for role in ROLES:
            given = environment.get(role.variable, deployer if development or role is ADMINISTRATOR else "")
            if given:
                holders[role.name] = address_of(role.variable, given)
        for name in ("registrar", "factor publisher", "guardian"):
            if name not in holders:
                raise DeployError(f"no {name}: set {variable_of(name)} to its address")
        if safe and holders[ADMINISTRATOR.name] == deployer:
            raise DeployError(f"--safe: set {ADMINISTRATOR.variable} to the address of the Safe")
        for name in ("WATTMARK_CERTIFICATE_URI", "WATTMARK_OUTCOME_URI"):
            if public and not environment.get(name):
                raise DeployError(f"no metadata address: set {name}; it can never be changed on a public network")
        delay = environment.get("WATTMARK_ADMIN_DELAY", "0" if development else str(ADMIN_DELAY_SECONDS))
        seconds = whole("WATTMARK_ADMIN_DELAY", delay)
        if not int(public) <= seconds <= MAX_DELAY_SECONDS:
            raise DeployError(
                f"WATTMARK_ADMIN_DELAY: {seconds} s is not within {int(public)} to {MAX_DELAY_SECONDS} s here"
            )
        price = environment.get("WATTMARK_GAS_PRICE_WEI")
        return cls(
            book=book,
            chain_name=environment.get("WATTMARK_CHAIN_NAME", chain_name),
            signers=addresses,
            threshold=threshold,
            holders=holders,
            admin_delay_seconds=seconds,
            certificate_uri=environment.get("WATTMARK_CERTIFICATE_URI", DEFAULT_BASE_URI),
            outcome_uri=environment.get("WATTMARK_OUTCOME_URI", OUTCOME_BASE_URI),
            safe=safe,
            gas_price_wei=whole("WATTMARK_GAS_PRICE_WEI", price) if price else None,
            confirmations=confirmations,
        )


def witnesses(environment: Mapping[str, str], development: Sequence[str]) -> tuple[tuple[str, ...], int]:
    """The signers in the order of the Notary, and how many of them must sign: more than half unless told otherwise."""
    given = environment.get("WATTMARK_SIGNERS") or ",".join(development)
    if not given:
        raise DeployError("no signers: set WATTMARK_SIGNERS to the witnesses' addresses, separated by commas")
    signers = tuple(sorted((address_of("WATTMARK_SIGNERS", one) for one in given.split(",")), key=str.lower))
    if len(set(signers)) != len(signers) or len(signers) > MAX_SIGNERS:
        raise DeployError(f"WATTMARK_SIGNERS: {len(signers)} addresses; they must differ and be {MAX_SIGNERS} at most")
    threshold = whole("WATTMARK_THRESHOLD", environment.get("WATTMARK_THRESHOLD", str(len(signers) // 2 + 1)))
    if not 1 <= threshold <= len(signers):
        raise DeployError(
            f"WATTMARK_THRESHOLD: {threshold} of {len(signers)} signers cannot be; 1 to {len(signers)} can"
        )
    return signers, threshold


def address_of(variable: str, text: str) -> str:
    """The checksum address in ``text``; never that of nobody."""
    try:
        address = to_checksum_address(text.strip())
    except ValueError as error:
        raise DeployError(f"{variable}: {text.strip()!r} is not an address") from error
    if int(address, 16) == 0:
        raise DeployError(f"{variable}: the zero address belongs to nobody")
    return address


def whole(variable: str, text: str) -> int:
    if not text.isdecimal():
        raise DeployError(f"{variable}: {text!r} is not a whole number")
    return int(text)


def variable_of(role_name: str) -> str:
    return next(role.variable for role in ROLES if role.name == role_name)


# -- keys -------------------------------------------------------------------------------------------


def signer_of(environment: Mapping[str, str], w3: Web3, public: bool) -> LocalAccount | str:
    """Who deploys: WATTMARK_KEYSTORE with WATTMARK_PASSWORD_FILE, else WATTMARK_DEPLOYER_KEY, else, where the network is
    not ``public``, the node's first own account."""
    keystore, key = environment.get("WATTMARK_KEYSTORE"), environment.get("WATTMARK_DEPLOYER_KEY")
    if keystore:
        return opened(Path(keystore), environment.get("WATTMARK_PASSWORD_FILE"))
    if key:
        try:
            return Account.from_key(key.strip())
        except Exception:
            # Whatever is wrong with a key, no part of it may be shown.
            raise DeployError("WATTMARK_DEPLOYER_KEY is not a private key (32 bytes in hex)") from None
    return own_account(w3, public, "nothing to sign with: set WATTMARK_KEYSTORE and WATTMARK_PASSWORD_FILE")


def opened(keystore: Path, password_file: str | None) -> LocalAccount:
    """The account in an encrypted keystore."""
    if not password_file:
        raise DeployError("WATTMARK_KEYSTORE needs WATTMARK_PASSWORD_FILE: the file that holds its password")
    try:
        password = Path(password_file).read_text(encoding="utf-8").rstrip("\n")
        return Account.from_key(Account.decrypt(keystore.read_text(encoding="utf-8"), password))
    except OSError as error:
        raise DeployError(f"{error.filename} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, LookupError):
        raise DeployError(f"{keystore}: the password in {password_file} does not open it") from None


def address_without_key(environment: Mapping[str, str], w3: Web3, public: bool) -> str:
    """Who would deploy: WATTMARK_DEPLOYER, the keystore's address (not opened), the key's, or the node's account."""
    given, keystore = environment.get("WATTMARK_DEPLOYER"), environment.get("WATTMARK_KEYSTORE")
    if given:
        return address_of("WATTMARK_DEPLOYER", given)
    if keystore:
        try:
            return to_checksum_address(json.loads(Path(keystore).read_text(encoding="utf-8"))["address"])
        except (OSError, ValueError, TypeError, LookupError):
            raise DeployError(f"{keystore} states no address; set WATTMARK_DEPLOYER") from None
    if environment.get("WATTMARK_DEPLOYER_KEY"):
        signer = signer_of(environment, w3, public)
        return signer if isinstance(signer, str) else signer.address
    return own_account(w3, public, "who would deploy? set WATTMARK_DEPLOYER to an address, or WATTMARK_KEYSTORE")


def own_account(w3: Web3, public: bool, otherwise: str) -> str:
    """The first account whose key the node itself holds; never on a public network."""
    accounts = [] if public else w3.eth.accounts
    if not accounts:
        raise DeployError(otherwise)
    return accounts[0]
