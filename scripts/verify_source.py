"""Whether the code on a chain is what the sources of this checkout compile to, and publishing those sources.

    ./run verify-source --network NAME              compare run-time and creation code with oracle/artifacts
    ./run verify-source --network NAME --submit sourcify|etherscan|blockscout
    ./run verify-source --network NAME --write FOLDER    the compiler's inputs as files, for an upload by hand

The comparison needs a node and nothing else; publishing needs the compiler as well. The services' addresses are in
networks.yaml. Exit code 1 where a contract does not match or a service refuses it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import requests
from eth_utils import keccak, to_checksum_address
from web3 import Web3

from scripts import compile as compiler
from scripts.addresses import CONTRACTS, artifact, load, masked
from scripts.networks import FAULTS, ROOT, DeployError, Network, told

SERVICES = ("sourcify", "etherscan", "blockscout")
TIMEOUT_SECONDS = 60
POLL_SECONDS = 5.0
PATIENCE_SECONDS = 300


@dataclass(frozen=True)
class Match:
    """How a deployed contract compares with its artifact.

    ``runtime``: same run-time code, immutables left out; ``metadata``: same hash of sources and settings at its end;
    ``creation``: the creating transaction carries the artifact's code; None where there is no such transaction in
    the book. ``immutables``: value by number, with what it is where that is known. ``constructor_arguments``: hex without 0x.
    """

    name: str
    address: str
    runtime: bool
    metadata: bool
    creation: bool | None
    metadata_hash: str
    immutables: dict[str, str]
    constructor_arguments: str
    transaction: str

    @property
    def holds(self) -> bool:
        return self.runtime and self.metadata and self.creation is not False


def metadata_of(code: bytes) -> bytes:
    """The CBOR map that the compiler appends to run-time code: hash of the metadata, compiler version."""
    length = int.from_bytes(code[-2:], "big") + 2
    return code[-length:-2] if 2 < length <= len(code) else b""


def ipfs_hash(metadata: bytes) -> str:
    """Multihash of the metadata file, hex; empty where there is none. The map has one or two entries, ``ipfs`` first."""
    key = b"\x64ipfs\x58\x22"
    return metadata.partition(key)[2][:34].hex()


def immutables_of(code: bytes, document: Mapping[str, Any], known: Mapping[str, str]) -> dict[str, str]:
    """Value of each immutable, with the contract's name where it is an address of the book."""
    values = {}
    for number, places in document["immutableReferences"].items():
        found = {code[place["start"] : place["start"] + place["length"]] for place in places}
        shown = []
        for value in sorted(found):
            name = known.get(to_checksum_address(value[-20:])) if value[:12] == bytes(12) else None
            shown.append("0x" + value.hex() + (f" ({name})" if name else ""))
        values[number] = ", ".join(shown)
    return values


def compare(w3: Web3, book: Mapping[str, Any]) -> list[Match]:
    """Every contract of the book against its artifact."""
    known = {entry["address"]: name for name, entry in book["contracts"].items()}
    return [match(w3, name, entry, known) for name, entry in book["contracts"].items()]


def match(w3: Web3, name: str, entry: Mapping[str, Any], known: Mapping[str, str]) -> Match:
    document = artifact(name)
    wanted = bytes.fromhex(document["deployedBytecode"][2:])
    code = bytes(w3.eth.get_code(entry["address"]))
    same, creation, arguments = masked(code, document) == wanted, None, ""
    if entry.get("transaction"):
        data = bytes(w3.eth.get_transaction(entry["transaction"])["input"])
        start = bytes.fromhex(document["bytecode"][2:])
        creation = data.startswith(start)
        arguments = data[len(start) :].hex() if creation else ""
    return Match(
        name=name,
        address=entry["address"],
        runtime=same,
        metadata=bool(code) and metadata_of(code) == metadata_of(wanted),
        creation=creation,
        metadata_hash=ipfs_hash(metadata_of(code)),
        immutables=immutables_of(code, document, known) if same else {},
        constructor_arguments=arguments,
        transaction=entry.get("transaction") or "",
    )


# -- publishing -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """What a contract is compiled from: the compiler's standard-JSON input with every source in it."""

    identifier: str
    compiler_version: str
    input: dict[str, Any]


def source_of(name: str, output: Mapping[str, Any], root: Path = ROOT) -> Source:
    """The sources of a contract as the compiler's output names them, and no others. Raises DeployError where one on
    disk is not what was compiled, or where the artifact is out of step."""
    document = artifact(name)
    if compiler.artifact(dict(output), name) != dict(document):
        raise DeployError(f"oracle/artifacts/{name}.json is out of step with contracts/; mend: ./run compile")
    unit = document["sourceName"]
    metadata = json.loads(output["contracts"][unit][name]["metadata"])
    sources = {}
    for one, described in metadata["sources"].items():
        content = (root / one).read_bytes()
        if "0x" + keccak(content).hex() != described["keccak256"]:
            raise DeployError(f"{one} is not what was compiled; mend: ./run setup node, ./run compile")
        sources[one] = {"content": content.decode("utf-8")}
    settings = {
        **compiler.SETTINGS,
        "outputSelection": {"*": {"*": ["abi", "evm.bytecode", "evm.deployedBytecode", "metadata"]}},
    }
    return Source(
        f"{unit}:{name}",
        document["compiler"]["version"],
        {"language": "Solidity", "sources": sources, "settings": settings},
    )


def answer_of(response: requests.Response) -> dict[str, Any]:
    """The JSON object in a response. The URL is never part of an error: it may carry a key."""
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise DeployError(f"status {response.status_code} without a JSON object")
    return answer


def ask(method: str, url: str, **parts: Any) -> requests.Response:
    try:
        return requests.request(method, url, timeout=TIMEOUT_SECONDS, allow_redirects=False, **parts)
    except requests.RequestException as error:
        raise DeployError(f"the service does not answer ({type(error).__name__})") from None


def poll(look: Callable[[], str | None], poll_seconds: float) -> str:
    """What ``look`` says once it says something."""
    end = time.monotonic() + PATIENCE_SECONDS
    while (said := look()) is None:
        if time.monotonic() > end:
            raise DeployError(f"no result after {PATIENCE_SECONDS} s; ask again later")
        time.sleep(poll_seconds)
    return said


def submit_sourcify(base: str, chain_id: int, found: Match, source: Source, poll_seconds: float) -> str:
    """Sourcify's API v2: a job for each contract, then its result."""
    body = {
        "stdJsonInput": source.input,
        "compilerVersion": source.compiler_version,
        "contractIdentifier": source.identifier,
    }
    if found.transaction:
        body["creationTransactionHash"] = found.transaction
    response = ask("POST", f"{base}/v2/verify/{chain_id}/{found.address}", json=body)
    answer = answer_of(response)
    if answer.get("customCode") == "already_verified":
        return "verified before"
    if response.status_code != 202 or not isinstance(answer.get("verificationId"), str):
        raise DeployError(f"{answer.get('customCode', response.status_code)}: {answer.get('message', 'refused')}")
    job = answer["verificationId"]

    def look() -> str | None:
        state = answer_of(ask("GET", f"{base}/v2/verify/{job}"))
        if not state.get("isJobCompleted"):
            return None
        if state.get("error"):
            raise DeployError(f"{state['error'].get('customCode')}: {state['error'].get('message')}")
        outcome = (state.get("contract") or {}).get("match")
        if not outcome:
            raise DeployError("the service found no match")
        return str(outcome)

    return poll(look, poll_seconds)


def submit_etherscan(base: str, chain_id: int, found: Match, source: Source, poll_seconds: float) -> str:
    """Etherscan's API v2. The key is WATTMARK_ETHERSCAN_KEY."""
    key = os.environ.get("WATTMARK_ETHERSCAN_KEY")
    if not key:
        raise DeployError("set WATTMARK_ETHERSCAN_KEY to the key of an Etherscan account")
    query = {"chainid": str(chain_id), "apikey": key}
    form = {
        "module": "contract",
        "action": "verifysourcecode",
        "contractaddress": found.address,
        "sourceCode": json.dumps(source.input),
        "codeformat": "solidity-standard-json-input",
        "contractname": source.identifier,
        "compilerversion": f"v{source.compiler_version}",
        # Documented in the second spelling; for years the service has known the first alone.
        "constructorArguements": found.constructor_arguments,
        "constructorArguments": found.constructor_arguments,
        "licenseType": "3",
    }
    answer = answer_of(ask("POST", base, params=query, data=form))
    said = str(answer.get("result"))
    if "already verified" in said.lower():
        return "verified before"
    if answer.get("status") != "1":
        raise DeployError(said)

    def look() -> str | None:
        status = {**query, "module": "contract", "action": "checkverifystatus", "guid": said}
        state = answer_of(ask("GET", base, params=status))
        outcome = str(state.get("result"))
        if "pending" in outcome.lower():
            return None
        if state.get("status") != "1" and "already verified" not in outcome.lower():
            raise DeployError(outcome)
        return outcome

    return poll(look, poll_seconds)


def submit_blockscout(base: str, chain_id: int, found: Match, source: Source, poll_seconds: float) -> str:
    """Blockscout's own API, v2. It reports success alone: what it refuses shows as no result."""
    url = f"{base}/api/v2/smart-contracts/{found.address}"
    fields = {
        "compiler_version": f"v{source.compiler_version}",
        "contract_name": source.identifier,
        "autodetect_constructor_args": "false",
        "constructor_args": found.constructor_arguments,
        "license_type": "mit",
    }
    files = {"files[0]": (f"{found.name}.json", json.dumps(source.input), "application/json")}
    response = ask("POST", f"{url}/verification/via/standard-input", data=fields, files=files)
    answer = answer_of(response)
    message = str(answer.get("message", "refused"))
    if "already verified" in message.lower():
        return "verified before"
    if response.status_code != 200:
        raise DeployError(f"status {response.status_code}: {message}")

    def look() -> str | None:
        state = ask("GET", url)
        if state.status_code == 404:
            return None
        verified = answer_of(state)
        if not verified.get("is_verified"):
            return None
        return "partial match" if verified.get("is_partially_verified") else "verified"

    return poll(look, poll_seconds)


SUBMIT: dict[str, Callable[[str, int, Match, Source, float], str]] = {
    "sourcify": submit_sourcify,
    "etherscan": submit_etherscan,
    "blockscout": submit_blockscout,
}


# -- the command ------------------------------------------------------------------------------------


def show(found: Match) -> None:
    def word(value: bool | None) -> str:
        return {True: "same", False: "DIFFERS", None: "not in the book"}[value]

    print(f"{found.name} {found.address}")
    print(f"  run-time code {word(found.runtime)}, metadata {word(found.metadata)} (ipfs {found.metadata_hash})")
    print(f"  creation code {word(found.creation)}, constructor arguments {found.constructor_arguments or 'none'}")
    for number, value in found.immutables.items():
        print(f"  immutable {number}: {value}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="./run verify-source",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--network", required=True, metavar="NAME", help="a network of networks.yaml")
    parser.add_argument("--submit", choices=SERVICES, help="publish the sources there")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="write the compiler's inputs there")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the text")
    options = parser.parse_args(arguments)
    try:
        network = Network.load(options.network)
        if network.own_node:
            raise DeployError(f"the chain of network {network.id} ends with the run that started it")
        base = network.verifiers.get(options.submit or "", "")
        if options.submit and not base:
            raise DeployError(
                f"no {options.submit} for {network.id}: name it in networks.yaml or WATTMARK_{options.submit.upper()}_URL"
            )
        w3 = network.connect()
        chain_id = w3.eth.chain_id
        book = load(network.book(chain_id), chain_id)
        missing = set(CONTRACTS) - set(book["contracts"])
        if missing:
            raise DeployError(f"the address book lacks {', '.join(sorted(missing))}")
        matches = compare(w3, book)
        output = compiler.compile_contracts() if options.submit or options.write else {}
    except (*FAULTS, compiler.CompileError) as fault:
        print(f"./run verify-source: {told(fault)}", file=sys.stderr)
        return 1
    failed, results = 0, {}
    for found in matches:
        if not options.json:
            show(found)
        failed += not found.holds
        if not output or not found.holds:
            continue
        try:
            source = source_of(found.name, output)
            if options.write:
                options.write.mkdir(parents=True, exist_ok=True)
                (options.write / f"{found.name}.json").write_text(json.dumps(source.input, indent=1), encoding="utf-8")
            if options.submit:
                results[found.name] = SUBMIT[options.submit](base, chain_id, found, source, POLL_SECONDS)
        except DeployError as fault:
            failed += 1
            results[found.name] = f"failed: {fault}"
        if not options.json and found.name in results:
            print(f"  {options.submit or 'source'}: {results[found.name]}")
    if options.json:
        contracts = [{**asdict(found), "holds": found.holds} for found in matches]
        print(json.dumps({"ok": not failed, "chainId": chain_id, "contracts": contracts, "submitted": results}))
    else:
        print(f"{len(matches)} contracts, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
