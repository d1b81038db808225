"""Compile contracts/ and write the committed artifacts in oracle/artifacts/.

Standard library only, so that `./run compile` needs no Python environment. The compiler is the
`solc` that `./run` keeps in the state folder; the settings and source names are the ones brownie
uses (brownie-config.yaml), so both give the same bytecode, metadata hash included.

One artifact per deployable contract, `oracle/artifacts/<Contract>.json`, UTF-8 JSON:

    contractName         as in Solidity
    sourceName           source unit that defines it
    abi                  as the compiler gives it
    bytecode             creation code, 0x-prefixed hex
    deployedBytecode     run-time code, 0x-prefixed hex, immutables zero
    immutableReferences  {number: [{start, length}]}, byte offsets into deployedBytecode; immutables are numbered
                         by their first offset, as the compiler's own ids change with unrelated sources
    compiler             {version: "0.8.37+commit.…", settings: the standard-JSON settings}
    sourceHash           sha256 over the lines "<keccak256>  <source name>\\n" of every source the
                         contract is made of, sorted by name; the keccak256 are the compiler's own
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
from operator import itemgetter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / ".wattmark"
ARTIFACTS = ROOT / "oracle" / "artifacts"

SOLC_VERSION = "0.8.37"
SETTINGS = {
    "evmVersion": "cancun",
    "optimizer": {"enabled": True, "runs": 200},
    "remappings": ["@openzeppelin=.wattmark/node/node_modules/@openzeppelin"],
}
OUTPUTS = ["abi", "evm.bytecode.object", "evm.deployedBytecode", "metadata"]

DEPLOYABLE = (
    "AccessManager",
    "DeviceRegistry",
    "Notary",
    "EnergyCertificate",
    "EmissionFactors",
    "MitigationOutcome",
    "ERC1888Adapter",
)


class CompileError(Exception):
    """The contracts do not compile, or not to what the artifacts need."""


def standard_input(root: Path) -> dict[str, Any]:
    """Standard-JSON input over every contracts/**/*.sol below `root`, named by its path from `root`."""
    sources = {
        path.relative_to(root).as_posix(): {"content": path.read_text(encoding="utf-8")}
        for path in sorted((root / "contracts").glob("**/*.sol"))
    }
    if not sources:
        raise CompileError("no .sol file under contracts/")
    settings = {**SETTINGS, "outputSelection": {"*": {"*": OUTPUTS}}}
    return {"language": "Solidity", "sources": sources, "settings": settings}


def compile_contracts(root: Path = ROOT, state: Path = STATE) -> dict[str, Any]:
    """The compiler's output for contracts/ below `root`, kept in `state` by the hash of everything it depends on.

    Raises CompileError with the compiler's messages. Warnings about our own sources go to standard error.
    """
    solc = Path(os.environ.get("WATTMARK_SOLC") or state / "solc" / f"solc-v{SOLC_VERSION}")
    if not solc.exists():
        raise CompileError(f"no compiler at {solc}; mend: ./run setup node")
    text = json.dumps(standard_input(root), sort_keys=True)
    version = compiler_version(solc)
    # The packages that contracts import are pinned, with integrity hashes, by package-lock.json.
    lock = (root / "package-lock.json").read_text(encoding="utf-8")
    key = hashlib.sha256("\0".join((text, version, lock)).encode()).hexdigest()
    kept = state / "compile" / f"{key}.json"
    if kept.exists():
        output = json.loads(kept.read_text(encoding="utf-8"))
    else:
        result = subprocess.run(
            [str(solc), "--standard-json"], input=text, capture_output=True, text=True, encoding="utf-8", cwd=root
        )
        if result.returncode:
            raise CompileError(f"solc ended with {result.returncode}: {result.stderr.strip()}")
        output = json.loads(result.stdout)
        output["compilerVersion"] = version
    report_messages(output)
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps(output), encoding="utf-8")
        partial.replace(kept)
    return output


def compiler_version(solc: Path) -> str:
    """Version with commit, "0.8.37+commit.…", without the platform. Raises CompileError on another release."""
    shown = subprocess.run([str(solc), "--version"], capture_output=True, text=True)
    found = re.search(r"Version: (\d+\.\d+\.\d+\+commit\.[0-9a-f]+)", shown.stdout)
    if not found:
        raise CompileError(f"{solc} --version failed: {(shown.stderr or shown.stdout).strip()}")
    if not found[1].startswith(f"{SOLC_VERSION}+"):
        raise CompileError(f"{solc} is solc {found[1]}, needed is {SOLC_VERSION}")
    return found[1]


def report_messages(output: dict[str, Any]) -> None:
    """Raise CompileError with the compiler's errors; print the warnings about our own sources."""
    messages = output.get("errors", [])
    errors = [m["formattedMessage"].strip() for m in messages if m["severity"] == "error"]
    if errors:
        raise CompileError("\n".join(errors))
    for message in messages:
        if message.get("sourceLocation", {}).get("file", "").startswith("contracts/"):
            print(message["formattedMessage"].strip(), file=sys.stderr)


def artifact(output: dict[str, Any], name: str) -> dict[str, Any] | None:
    """The artifact of the contract called `name`, None if no source defines it.

    Raises CompileError if several sources define it, or if it cannot be deployed.
    """
    units = [unit for unit, contracts in output.get("contracts", {}).items() if name in contracts]
    if not units:
        return None
    if len(units) > 1:
        raise CompileError(f"{name} is defined in {' and in '.join(sorted(units))}; names must be unique")
    contract = output["contracts"][units[0]][name]
    code, runtime = contract["evm"]["bytecode"]["object"], contract["evm"]["deployedBytecode"]
    if not re.fullmatch(r"[0-9a-f]+", code):
        raise CompileError(f"{name} in {units[0]} is abstract, an interface, or needs a library linked")
    references = [sorted(p, key=itemgetter("start")) for p in runtime.get("immutableReferences", {}).values()]
    immutables = sorted(references, key=lambda places: places[0]["start"])
    sources = json.loads(contract["metadata"])["sources"]
    listing = "".join(f"{source['keccak256']}  {unit}\n" for unit, source in sorted(sources.items()))
    return {
        "contractName": name,
        "sourceName": units[0],
        "abi": contract["abi"],
        "bytecode": "0x" + code,
        "deployedBytecode": "0x" + runtime["object"],
        "immutableReferences": {str(number): places for number, places in enumerate(immutables)},
        "compiler": {"version": output["compilerVersion"], "settings": SETTINGS},
        "sourceHash": hashlib.sha256(listing.encode()).hexdigest(),
    }


def render(document: dict[str, Any]) -> str:
    """The artifact file's text: keys sorted, two spaces, final newline."""
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def drift(documents: dict[str, dict[str, Any]], folder: Path) -> list[str]:
    """What differs between compiled artifacts and the files in `folder`, one sentence each; empty if nothing."""
    found = []
    for name, document in documents.items():
        path = folder / f"{name}.json"
        if not path.exists():
            found.append(f"{path.name}: missing")
        elif path.read_text(encoding="utf-8") != render(document):
            try:
                kept = json.loads(path.read_text(encoding="utf-8"))
            except ValueError:
                kept = {}
            keys = [key for key in document if kept.get(key) != document[key]]
            found.append(f"{path.name}: differs in {', '.join(keys) or 'its formatting'}")
    for path in sorted(folder.glob("*.json")):
        if path.stem not in documents:
            found.append(f"{path.name}: no contract in contracts/ makes it")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Write the artifacts, or with --check compare them. Exit code 1 on drift, missing contracts, compile errors."""
    parser = argparse.ArgumentParser(prog="./run compile", description="Compile contracts/ into oracle/artifacts/.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if the artifacts are out of step")
    options = parser.parse_args(arguments)
    try:
        output = compile_contracts()
        compiled = {name: artifact(output, name) for name in DEPLOYABLE}
    except CompileError as error:
        print(error, file=sys.stderr)
        return 1
    missing = [name for name, document in compiled.items() if document is None]
    documents = {name: document for name, document in compiled.items() if document is not None}
    problems = [f"{name}: not defined by any source in contracts/" for name in missing]
    if options.check:
        problems += drift(documents, ARTIFACTS)
        for name, document in documents.items():
            print(f"{name}: {(len(document['deployedBytecode']) - 2) // 2:,} bytes")
    else:
        ARTIFACTS.mkdir(parents=True, exist_ok=True)
        for name, document in documents.items():
            text, path = render(document), ARTIFACTS / f"{name}.json"
            changed = not path.exists() or path.read_text(encoding="utf-8") != text
            if changed:
                path.write_text(text, encoding="utf-8")
            size = (len(document["deployedBytecode"]) - 2) // 2
            print(f"{name}: {size:,} bytes, {'written' if changed else 'unchanged'}")
    for problem in problems:
        print(problem, file=sys.stderr)
    if options.check and problems:
        print("mend: ./run compile, and commit oracle/artifacts", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
