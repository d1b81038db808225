"""The contracts on an EVM in this process: deploys committed artifacts, encodes calls, decodes answers.

Run as a module, it compiles the contract accounts: `python -m tests.properties.bed`.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import eth_abi
from pyrevm import EVM, BlockEnv, CfgEnv, Env

from .encoding import encode, keccak

ROOT = Path(__file__).resolve().parents[2]
ARTIFACTS = ROOT / "oracle" / "artifacts"
SOLIDITY = Path(__file__).parent / "solidity"
CHAIN_ID = 20160714
GAS = 30_000_000

CONTRACTS = ("AccessManager", "DeviceRegistry", "Notary", "EnergyCertificate", "EmissionFactors", "MitigationOutcome")


class Inner(NamedTuple):
    """A call as an argument of a call: encoded to calldata for the chain, kept readable for the model."""

    target: str
    function: str
    arguments: tuple


class Outcome(NamedTuple):
    """What a call did. `error` is (name, values); ("", ()) where it failed without saying why."""

    success: bool
    result: Any
    error: tuple | None
    logs: tuple


@dataclass(frozen=True)
class Abi:
    """What of a contract's ABI is needed to talk to it."""

    functions: dict[str, tuple[bytes, list[str], list[str]]]  # selector, inputs, outputs
    events: dict[bytes, tuple[str, list[tuple[str, bool]]]]
    errors: dict[bytes, tuple[str, list[str]]]

    @staticmethod
    def of(entries: list[dict]) -> Abi:
        functions, events, errors = {}, {}, {}
        for entry in entries:
            inputs = [_type_of(parameter) for parameter in entry.get("inputs", ())]
            signature = keccak(f"{entry.get('name')}({','.join(inputs)})".encode())
            if entry["type"] == "function":
                outputs = [_type_of(parameter) for parameter in entry["outputs"]]
                functions[entry["name"]] = signature[:4], inputs, outputs
            elif entry["type"] == "event":
                flags = [parameter["indexed"] for parameter in entry["inputs"]]
                events[signature] = entry["name"], list(zip(inputs, flags, strict=True))
            elif entry["type"] == "error":
                errors[signature[:4]] = entry["name"], inputs
        return Abi(functions, events, errors)


def _type_of(parameter: dict) -> str:
    kind = parameter["type"]
    if kind.startswith("tuple"):
        return f"({','.join(map(_type_of, parameter['components']))}){kind[5:]}"
    return kind


ERRORS_OF_SOLIDITY = {
    keccak(b"Error(string)")[:4]: ("Error", ["string"]),
    keccak(b"Panic(uint256)")[:4]: ("Panic", ["uint256"]),
}


class Bed:
    """One EVM with contracts on it, known by name. Time stands still but for `set_time`."""

    def __init__(self, time: int) -> None:
        self.evm = EVM(env=Env(cfg=CfgEnv(chain_id=CHAIN_ID)), spec_id="CANCUN")
        self.addresses: dict[str, str] = {}
        self.names: dict[str, str] = {}
        self.abis: dict[str, Abi] = {}
        self.errors = dict(ERRORS_OF_SOLIDITY)
        self.chain_id = CHAIN_ID
        self.forwarders: set[str] = set()  # contract accounts: what they call goes through their `act`
        self.set_time(time)

    def set_time(self, time: int) -> None:
        self.time = time
        self.evm.set_block_env(BlockEnv(number=1, timestamp=time, gas_limit=GAS))

    def deploy(self, name: str, document: dict, types: Sequence[str], arguments: Sequence, sender: str) -> str:
        code = bytes.fromhex(document["bytecode"].removeprefix("0x")) + encode(types, arguments)
        address = self.evm.deploy(sender, code).lower()
        self.addresses[name], self.names[address] = address, name
        abi = self.abis[name] = Abi.of(document["abi"])
        self.errors.update(abi.errors)
        return address

    def calldata(self, target: str, function: str, arguments: Sequence) -> bytes:
        selector, inputs, _ = self.abis[target].functions[function]
        plain = [self.calldata(*one) if isinstance(one, Inner) else one for one in arguments]
        return selector + encode(inputs, plain)

    def call(self, caller: str, target: str, function: str, *arguments: Any, gas: int = GAS) -> Outcome:
        data, to = self.calldata(target, function, arguments), self.addresses[target]
        if caller in self.forwarders:
            name = self.names[caller]
            data, to, caller = self.calldata(name, "act", (to, data)), caller, EVERYBODY
        try:
            answer = self.evm.message_call(caller=caller, to=to, calldata=data, gas=gas)
        except RuntimeError as error:
            return Outcome(False, None, self.error_of(str(error)), ())
        outputs = self.abis[target].functions[function][2]
        result = decode(outputs, bytes(answer)) if outputs else ()
        logs = tuple(self.log_of(log) for log in self.evm.result.logs)
        return Outcome(True, result[0] if len(result) == 1 else result, None, logs)

    def read(self, target: str, function: str, *arguments: Any) -> Any:
        """The answer of a view; raises where it reverts."""
        outcome = self.call(EVERYBODY, target, function, *arguments)
        if not outcome.success:
            raise AssertionError(f"{target}.{function}{arguments} reverts: {outcome.error}")
        return outcome.result

    def look(self, targets: Sequence[str], lists: Sequence[Sequence[Any]]) -> list[int]:
        """The words of `Lens.look`; lists of integers, of bytes32, or of addresses."""
        head, tail = b"".join(_word(self.addresses[name]) for name in targets), b""
        for values in lists:
            head += _word(32 * (len(targets) + len(lists)) + len(tail))
            tail += _word(len(values)) + b"".join(map(_word, values))
        data = self.abis["Lens"].functions["look"][0] + _word(32) + head + tail
        answer = bytes(self.evm.message_call(caller=EVERYBODY, to=self.addresses["Lens"], calldata=data, gas=10 * GAS))
        return [int.from_bytes(answer[i : i + 32], "big") for i in range(64, len(answer), 32)]

    def error_of(self, text: str) -> tuple:
        """The custom error in pyrevm's text; ("", ()) for an empty one, ("halt", (why,)) where the gas ended."""
        if not text.startswith("Revert"):
            return ("halt", (text.split("{")[0].strip(),))
        return self.decode_error(bytes.fromhex(text.rsplit("0x", 1)[1].split()[0].strip(" }") or ""))

    def decode_error(self, data: bytes) -> tuple:
        if not data:
            return ("", ())
        name, inputs = self.errors[data[:4]]
        return (name, decode(inputs, data[4:]))

    def log_of(self, log: Any) -> tuple:
        topics, data = log.data
        contract = self.names[log.address.lower()]
        name, inputs = self.abis[contract].events[bytes(topics[0])]
        indexed = iter(topics[1:])
        rest = iter(decode([kind for kind, is_indexed in inputs if not is_indexed], bytes(data)))
        values = [decode([kind], bytes(next(indexed)))[0] if is_indexed else next(rest) for kind, is_indexed in inputs]
        if name == "Reentered":
            values = [values[0], None if values[0] else self.decode_error(values[1])]
        return (contract, name, plain(values))


def _word(value: Any) -> bytes:
    if isinstance(value, int):
        return value.to_bytes(32, "big")
    return value if isinstance(value, bytes) else bytes(12) + bytes.fromhex(value[2:])


EVERYBODY = "0x" + "ee" * 20


def decode(types: Sequence[str], data: bytes) -> tuple:
    """ABI-decoded values. Words are read here, for eth_abi takes most of a run's time to do it; the rest is its."""
    values = []
    for i, kind in enumerate(types):
        word = data[32 * i : 32 * i + 32]
        if len(word) == 32 and kind.startswith("uint") and kind[-1] != "]":
            values.append(int.from_bytes(word, "big"))
        elif len(word) == 32 and kind == "address":
            values.append("0x" + word[12:].hex())
        elif len(word) == 32 and kind == "bool":
            values.append(word[31] != 0)
        elif len(word) == 32 and kind in FIXED_BYTES:
            values.append(word[: FIXED_BYTES[kind]])
        else:
            return plain(eth_abi.decode(list(types), data))
    return tuple(values)


FIXED_BYTES = {f"bytes{size}": size for size in range(1, 33)}


def plain(value: Any) -> Any:
    """Lists as tuples, so that values compare and hash."""
    return tuple(map(plain, value)) if isinstance(value, list | tuple) else value


# -- artifacts -----------------------------------------------------------------------------------------------


@cache
def artifact(name: str) -> dict:
    return json.loads((ARTIFACTS / f"{name}.json").read_text(encoding="utf-8"))


@cache
def actors() -> dict:
    """The contracts of Actors.sol by name, and `source`: the sha256 of what they were compiled from."""
    return json.loads((SOLIDITY / "Actors.json").read_text(encoding="utf-8"))


def source_hash() -> str:
    return hashlib.sha256((SOLIDITY / "Actors.sol").read_bytes()).hexdigest()


def compile_actors(solc: Path) -> dict:
    """Compiles Actors.sol with the settings of the contracts under test."""
    settings = {
        "evmVersion": "cancun",
        "optimizer": {"enabled": True, "runs": 200},
        "outputSelection": {"*": {"*": ["abi", "evm.bytecode.object"]}},
    }
    source = {"Actors.sol": {"content": (SOLIDITY / "Actors.sol").read_text(encoding="utf-8")}}
    given = json.dumps({"language": "Solidity", "sources": source, "settings": settings})
    done = subprocess.run([str(solc), "--standard-json"], input=given, capture_output=True, text=True, check=True)
    output = json.loads(done.stdout)
    wrong = [message["formattedMessage"] for message in output.get("errors", ()) if message["severity"] == "error"]
    if wrong:
        raise SystemExit("\n".join(wrong))
    compiled = {
        name: {
            "abi": output["contracts"]["Actors.sol"][name]["abi"],
            "bytecode": output["contracts"]["Actors.sol"][name]["evm"]["bytecode"]["object"],
        }
        for name in ("Lens", "Receiver")
    }
    return {"source": source_hash(), **compiled}


if __name__ == "__main__":
    document = compile_actors(next((ROOT / ".wattmark" / "solc").glob("solc-v*")))
    text = json.dumps(document, indent=1, sort_keys=True) + "\n"
    (SOLIDITY / "Actors.json").write_text(text, encoding="utf-8")
    print("Actors.json written")
