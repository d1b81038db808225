"""What each act costs in gas, beside OpenZeppelin's ERC-1155 measured in the same run and the peers' stated figures.

    ./run bench gas              a table
    ./run bench gas --json       {"rows": [{act, variant, gas, budget, peers}], "sizes": {contract: bytes}}
    ./run bench gas --check      compare with docs/gas.json; exit 1 if anything costs more (or less) than it says
    ./run bench gas --write      measure and rewrite docs/gas.json and the table in docs/gas.md

Whole-transaction ``gasUsed`` on anvil, from the committed artifacts. Keys, times and data are fixed, so that the same
contracts cost the same gas in every run. Warm: the storage word written was in use; cold or first: it was empty.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.messages import encode_typed_data
from rich.console import Console
from rich.table import Table
from web3.types import RPCEndpoint

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from oracle.chain import artifact  # noqa: E402
from oracle.domain import Batch, BatchKind, NotaryDomain, Statement  # noqa: E402
from oracle.merkle import MerkleTree  # noqa: E402
from oracle.protocol import (  # noqa: E402
    batch_digest,
    batch_energy_wh,
    batch_fields,
    keccak256,
    statement_fields,
    statement_leaf,
    token_id,
)
from scripts.compile import DEPLOYABLE, SETTINGS, SOLC_VERSION  # noqa: E402
from scripts.local_chain import anvil, connect, create, free_port  # noqa: E402

SNAPSHOT = ROOT / "docs" / "gas.json"
# Shows the snapshot between these two lines.
PAGE, BEGIN, END = (
    ROOT / "docs" / "gas.md",
    "<!-- written by ./run bench gas --write -->\n",
    "<!-- until here -->\n",
)
DAY = 86_400
START = 1_735_689_600  # 2025-01-01
NOW = 1_790_000_000
CHAIN_ID = 771_643
CODE_LIMIT_BYTES = 24_576
INTERVALS_PER_DAY = 96
READINGS_OF_10_000_DEVICE_DAYS = 10_000 * INTERVALS_PER_DAY

#: Stated figures of peers (gasUsed of whole transactions, measured 2026-11-21). L: like for like; W: weaker or different promise.
EW, EAS, TOUCAN, OZ = "Energy Web Origin", "Ethereum Attestation Service", "Toucan", "OpenZeppelin"
PEERS: dict[str, dict[str, str]] = {
    "notarize": {EAS: "45,952 W: one anonymous sender"},
    "interval": {
        EW: "541,938 batch, 589,643 single W",
        EAS: "233,765 W: an attestation",
        OZ: "23,855 W: an id for each interval, no proof",
    },
    "token unit": {EW: "541,960 L", EAS: "233,764 L", OZ: "23,843 L: mintBatch"},
    "transfer": {TOUCAN: "68,366 L", OZ: "40,024 L", EW: "39,659 L", "Solady": "38,468 L"},
    "retire first": {EW: "127,912 L", TOUCAN: "215,422 L (+ certificate 477,918)"},
    "retire again": {EW: "110,812 L"},
    "retire batch": {EW: "1,102,992 L"},
    "by signature": {"others": "do not offer it"},
}


@dataclass(frozen=True)
class Row:
    """One measured act. ``gas`` may be a share (per reading, per interval); ``budget`` None where none is set."""

    act: str
    variant: str
    gas: float
    budget: float | None = None
    peers: dict[str, str] = field(default_factory=dict)


class Bench:
    """The contracts on a fresh chain, and the rows measured on it."""

    def __init__(self, url: str):
        self.w3 = connect(url)
        self.time = NOW
        self.admin, self.generator, self.buyer, self.other = self.w3.eth.accounts[:4]
        self.signers = sorted(
            (Account.from_key(keccak256(b"bench signer %d" % n)) for n in range(5)), key=lambda a: int(a.address, 16)
        )
        self.rows: list[Row] = []
        self.heads = 0
        self.authority = self.create("AccessManager", self.admin)
        self.registry = self.create("DeviceRegistry", self.authority.address)
        self.notary = self.create("Notary", self.authority.address, [s.address for s in self.signers], 3)
        uri = "https://example.org/certificates/"
        self.certificate = self.create(
            "EnergyCertificate", self.authority.address, self.registry.address, self.notary.address, uri
        )
        self.factors = self.create("EmissionFactors", self.authority.address)
        self.outcome = self.create(
            "MitigationOutcome", self.authority.address, self.certificate.address, self.factors.address, uri
        )
        self.gas(self.registry.functions.bindCertificate(self.certificate.address))
        self.gas(self.certificate.functions.bindConverter(self.outcome.address))
        self.plain = create(self.w3, self.admin, compile_plain_token())

    def create(self, name: str, *arguments: Any) -> Any:
        return create(self.w3, self.admin, artifact(name), *arguments)

    def gas(self, call: Any, sender: str | None = None) -> int:
        """Send a call and return the gas the whole transaction used."""
        self.time += 12
        self.w3.provider.make_request(RPCEndpoint("evm_setNextBlockTimestamp"), [self.time])
        transaction = call.transact({"from": sender or self.admin, "gas": 16_000_000})
        receipt = self.w3.eth.wait_for_transaction_receipt(transaction, poll_latency=0.02)
        if receipt["status"] != 1:
            call.call({"from": sender or self.admin})
            raise SystemExit(f"{call.fn_name} reverted")
        return int(receipt["gasUsed"])

    def add(
        self, act: str, variant: str, gas: float, budget: float | None = None, peers: dict[str, str] | None = None
    ) -> None:
        # Four digits below 1: a share must not meet its budget by being rounded.
        gas = round(gas, 2 if gas >= 1 else 4) if isinstance(gas, float) else gas
        self.rows.append(Row(act, variant, gas, budget, peers or {}))

    def register(self, device_id: int, account: str) -> None:
        device = (account, 10_000, 1, 1, b"CL", DAY, 1_040_100, 10_100, START, 2**40 - 1, b"SEN".ljust(16, b"\0"))
        self.gas(self.registry.functions.register(device_id, (*device, keccak256(device_id.to_bytes(8, "big")))))

    def notarize(self, statements: Sequence[Statement], signatures: int = 3) -> tuple[MerkleTree, int]:
        """Notarize a batch; returns its tree and the gas of it."""
        tree = MerkleTree.of([statement_leaf(s) for s in statements])
        batch = Batch(
            BatchKind.FINAL,
            1,
            self.notary.functions.head().call(),
            tree.root,
            min(s.start for s in statements),
            max(s.end for s in statements),
            len(statements),
            batch_energy_wh(statements),
            keccak256(tree.root),
            NOW + 365 * DAY,
        )
        digest = batch_digest(batch, NotaryDomain(CHAIN_ID, self.notary.address))
        signed = [bytes(signer.unsafe_sign_hash(digest).signature) for signer in self.signers[:signatures]]
        return tree, self.gas(self.notary.functions.notarize(batch_fields(batch), signed))

    def issue(self, tree: MerkleTree, statement: Statement) -> int:
        proof = tree.proof(statement_leaf(statement))
        return self.gas(self.certificate.functions.issue(tree.root, statement_fields(statement), proof))

    def issue_many(self, tree: MerkleTree, statements: Sequence[Statement]) -> int:
        by_leaf = {statement_leaf(s): s for s in statements}
        leaves, proof, flags = tree.multi_proof(list(by_leaf))
        return self.gas(
            self.certificate.functions.issueMany(
                tree.root, [statement_fields(by_leaf[leaf]) for leaf in leaves], proof, flags
            )
        )


def statement(device_id: int, day: int, days: int = 1) -> Statement:
    """A made-up statement; energies differ so that amounts have the bytes of real ones."""
    label = keccak256(b"%d %d %d" % (device_id, day, days))
    return Statement(device_id, START + day * DAY, days * DAY, 0, days * (20_000 + label[0]), 0, label)


def details(beneficiary: str) -> tuple[Any, ...]:
    return (
        beneficiary,
        "Universidad de Ejemplo",
        "Electricity consumption 2025",
        b"CL",
        "Santiago",
        START,
        START + 365 * DAY,
    )


def compile_plain_token() -> dict[str, Any]:
    """OpenZeppelin's token, by the compiler and settings of our own contracts."""
    source = (ROOT / "scripts" / "bench" / "PlainToken.sol").read_text()
    request = {
        "language": "Solidity",
        "sources": {"PlainToken.sol": {"content": source}},
        "settings": {**SETTINGS, "outputSelection": {"*": {"PlainToken": ["abi", "evm.bytecode.object"]}}},
    }
    solc = ROOT / ".wattmark" / "solc" / f"solc-v{SOLC_VERSION}"
    done = subprocess.run(
        [str(solc), "--standard-json"], input=json.dumps(request), capture_output=True, text=True, cwd=ROOT
    )
    try:
        compiled = json.loads(done.stdout)["contracts"]["PlainToken.sol"]["PlainToken"]
    except (ValueError, KeyError):
        raise SystemExit(f"PlainToken.sol does not compile: {done.stdout[:500]}{done.stderr[:500]}") from None
    return {"abi": compiled["abi"], "bytecode": "0x" + compiled["evm"]["bytecode"]["object"]}


# -- the acts ---------------------------------------------------------------------------------------


def measure(bench: Bench) -> None:
    bench.register(1, bench.generator)
    bench.register(2, bench.generator)
    notarizations(bench)
    issues(bench)
    tokens(bench)


def notarizations(bench: Bench) -> None:
    _, gas = bench.notarize([statement(1, 600)])
    bench.add("notarize", "3 of 5 signers, first head", gas)
    _, gas = bench.notarize([statement(1, 601)])
    bench.add("notarize", "3 of 5 signers, steady", gas, 92_000, PEERS["notarize"])
    bench.add("notarize", "per reading, 10,000 device-days", gas / READINGS_OF_10_000_DEVICE_DAYS, 0.1)


def issues(bench: Bench) -> None:
    # 2^14 leaves: device 1 by day, the rest made up of other devices that are never issued here.
    mine = [statement(1, day) for day in range(200)]
    filler = [statement(1_000 + n, n % 300) for n in range(2**14 - len(mine))]
    tree, _ = bench.notarize([*mine, *filler])
    bench.add("issue", "one, proof of 14, cold", bench.issue(tree, mine[0]))
    bench.add("issue", "one, proof of 14, warm", bench.issue(tree, mine[1]), 108_000, PEERS["token unit"])

    month = [statement(2, day) for day in range(256, 286)]
    tree, _ = bench.notarize(month)
    gas = bench.issue_many(tree, month)
    bench.add("issueMany", "30 device-days, each, cold", gas / 30)
    bench.add(
        "issueMany",
        "30 device-days, per 15-minute interval, cold",
        gas / 30 / INTERVALS_PER_DAY,
        peers=PEERS["interval"],
    )
    month = [statement(2, day) for day in range(286, 316)]
    tree, _ = bench.notarize([*month, statement(2, 316)])
    bench.issue(tree, statement(2, 316))
    gas = bench.issue_many(tree, month)
    bench.add("issueMany", "30 device-days, each, warm", gas / 30, 64_000, PEERS["token unit"])
    per_interval = gas / 30 / INTERVALS_PER_DAY
    bench.add("issueMany", "30 device-days, per 15-minute interval, warm", per_interval, 667, PEERS["interval"])

    bench.register(3, bench.generator)
    months = [statement(3, 31 * n, 31) for n in range(20)]
    tree, _ = bench.notarize(months)
    per_interval = bench.issue_many(tree, months) / 20 / (31 * INTERVALS_PER_DAY)
    bench.add("issueMany", "20 months of one device, per 15-minute interval", per_interval, 25, PEERS["interval"])
    months_of_fleets(bench)
    for number, count in enumerate((10, 50, 100, 200)):
        devices = (400 + 2 * number, 401 + 2 * number)
        for device_id in devices:
            bench.register(device_id, bench.generator)
        days = [statement(device_id, day) for device_id in devices for day in range(count // 2)]
        tree, _ = bench.notarize(days)
        bench.add("issueMany", f"first {count} device-days of two devices, each", bench.issue_many(tree, days) / count)

    plain = bench.plain.functions
    bench.add("OpenZeppelin mint", "one id, no proof, no bounds", bench.gas(plain.mint(bench.generator, 1, 20_000)))
    ids = list(range(100, 130))
    bench.add(
        "OpenZeppelin mintBatch", "30 ids, each", bench.gas(plain.mintBatch(bench.generator, ids, [20_000] * 30)) / 30
    )


def months_of_fleets(bench: Bench) -> None:
    """Months of 30 devices of which nothing is certified yet. A word of the bitmap is 128 days; the eighth day of START's
    month begins one, so a month from the first day lies over a border and one from the eighth does not."""

    def month(first_device: int, day: int) -> float:
        months = [statement(device_id, day, 31) for device_id in range(first_device, first_device + 30)]
        tree, _ = bench.notarize(months)
        return bench.issue_many(tree, months) / 30 / (31 * INTERVALS_PER_DAY)

    for device_id in (*range(100, 130), *range(200, 230)):
        bench.register(device_id, bench.generator)
    year = [month(200, 31 * number) for number in range(12)]
    for variant, gas, budget in (
        ("first month of 30 devices, in one word", month(100, 7), 25),
        ("second month of 30 devices, in that word", month(100, 38), 25),
        ("first month of 30 devices, over a word's border", year[0], None),
        ("fifth month of 30 devices, over a word's border", year[4], None),
        ("first year of 30 devices, month by month", sum(year) / 12, 25),
    ):
        bench.add("issueMany", f"{variant}, per 15-minute interval", gas, budget, PEERS["interval"])


def tokens(bench: Bench) -> None:
    days = [statement(1, day) for day in range(300, 340)]
    tree, _ = bench.notarize(days)
    bench.issue_many(tree, days[:30])
    ids = [token_id(s.device_id, s.start, s.duration) for s in days]
    certificate, generator, buyer = bench.certificate.functions, bench.generator, bench.buyer
    bench.add(
        "transfer", "first", bench.gas(certificate.safeTransferFrom(generator, buyer, ids[0], 4_000, b""), generator)
    )
    gas = bench.gas(certificate.safeTransferFrom(generator, buyer, ids[0], 4_000, b""), generator)
    bench.add("transfer", "steady", gas, 40_600, PEERS["transfer"])
    plain = bench.plain.functions
    bench.gas(plain.safeTransferFrom(generator, buyer, 1, 4_000, b""), generator)
    gas = bench.gas(plain.safeTransferFrom(generator, buyer, 1, 4_000, b""), generator)
    bench.add("OpenZeppelin transfer", "steady", gas)

    reason = details(buyer)
    bench.gas(certificate.retire(ids[5], 1_000, reason), generator)  # so that the running number is not at zero
    bench.add(
        "retire", "first", bench.gas(certificate.retire(ids[0], 1_000, reason), buyer), 88_000, PEERS["retire first"]
    )
    bench.add(
        "retire", "again", bench.gas(certificate.retire(ids[0], 1_000, reason), buyer), 54_000, PEERS["retire again"]
    )
    ten, amounts = ids[10:20], [1_000] * 10
    gas = bench.gas(certificate.retireBatch(ten, amounts, reason), generator)
    bench.add("retireBatch", "10 ids, first", gas, 350_000, PEERS["retire batch"])
    gas = bench.gas(certificate.retireBatch(ten, amounts, reason), generator)
    bench.add("retireBatch", "10 ids, again", gas, 176_000, PEERS["retire batch"])
    bench.add("OpenZeppelin burn", "no record", bench.gas(plain.burn(1, 1_000), buyer))
    by_signature(bench, ids[0])

    retire_at_once(bench, reason)
    conversions(bench, ids)


def retire_at_once(bench: Bench, reason: tuple[Any, ...]) -> None:
    """issueAndRetire from two batches of 32: the first of its root and one more, in a word of the bitmap that is in use (START's
    days 263 to 390), and the first of a root and of a word."""
    for first_day, variants in ((341, ("first of its root", "warm")), (392, ("cold",))):
        days = [statement(1, day) for day in range(first_day, first_day + 32)]
        tree, _ = bench.notarize(days)
        for one, variant in zip(days, variants, strict=False):
            proof = tree.proof(statement_leaf(one))
            call = bench.certificate.functions.issueAndRetire(tree.root, statement_fields(one), proof, reason)
            gas, budget = bench.gas(call, bench.generator), 120_000 if variant == "warm" else None
            bench.add("issueAndRetire", f"no mint, proof of 5, {variant}", gas, budget, PEERS["by signature"])


def by_signature(bench: Bench, certificate_id: int) -> None:
    signer = Account.from_key(keccak256(b"bench holder"))
    certificate = bench.certificate.functions
    bench.gas(
        certificate.safeTransferFrom(bench.generator, signer.address, certificate_id, 5_000, b""), bench.generator
    )
    fields = "address beneficiary,string beneficiaryName,string purpose,bytes2 country,string location,uint40 consumptionStart,uint40 consumptionEnd"
    types = {
        "Retire": fields_of(
            "address account,uint256 id,uint256 amount,RetirementDetails details,uint256 nonce,uint256 deadline"
        ),
        "RetirementDetails": fields_of(fields),
    }
    reason = details(signer.address)
    names = [one["name"] for one in types["RetirementDetails"]]
    domain = {
        "name": "Wattmark Energy Certificate",
        "version": "1",
        "chainId": CHAIN_ID,
        "verifyingContract": bench.certificate.address,
    }
    for nonce, variant in enumerate(("first", "steady")):
        message = {
            "account": signer.address,
            "id": certificate_id,
            "amount": 1_000,
            "details": dict(zip(names, reason, strict=True)),
            "nonce": nonce,
            "deadline": NOW + 365 * DAY,
        }
        signature = bytes(signer.sign_message(encode_typed_data(domain, types, message)).signature)
        call = certificate.retireBySig(signer.address, certificate_id, 1_000, reason, NOW + 365 * DAY, signature)
        bench.add(
            "retireBySig",
            variant,
            bench.gas(call, bench.other),
            80_000 if variant == "steady" else None,
            PEERS["by signature"],
        )


def fields_of(text: str) -> list[dict[str, str]]:
    return [dict(zip(("type", "name"), one.split(), strict=True)) for one in text.split(",")]


def conversions(bench: Bench, ids: Sequence[int]) -> None:
    zone, source = b"SEN".ljust(16, b"\0"), "made up for this measurement"
    bench.gas(bench.factors.functions.publish(zone, 2025, 300_000, True, keccak256(source.encode()), source))
    convert = bench.outcome.functions.convert
    bench.add("convert", "one id, first", bench.gas(convert([ids[20]], [1_000], 0), bench.generator))
    bench.add("convert", "one id, again", bench.gas(convert([ids[20]], [1_000], 0), bench.generator))
    bench.add("convert", "10 ids, again", bench.gas(convert(list(ids[6:16]), [1_000] * 10, 0), bench.generator))


# -- report -----------------------------------------------------------------------------------------


def sizes() -> dict[str, int]:
    """Run-time code in bytes of each contract that is deployed."""
    return {name: len(artifact(name)["deployedBytecode"][2:]) // 2 for name in DEPLOYABLE}


def drift(measured: dict[str, Any], committed: dict[str, Any]) -> list[str]:
    """What differs from the committed snapshot, in words."""
    now, then = ({(row["act"], row["variant"]): row for row in rows} for rows in (measured["rows"], committed["rows"]))
    found = [
        f"{act}, {variant}: {what} {then.get((act, variant), {}).get(what)} -> {now.get((act, variant), {}).get(what)}"
        for act, variant in sorted(now.keys() | then.keys())
        for what in ("gas", "budget", "peers")
        if now.get((act, variant), {}).get(what) != then.get((act, variant), {}).get(what)
    ]
    found += [
        f"size of {name}: {committed['sizes'].get(name)} -> {size}"
        for name, size in measured["sizes"].items()
        if committed["sizes"].get(name) != size
    ]
    return found


def shown(measured: dict[str, Any]) -> str:
    """The snapshot as tables of Markdown."""
    lines = ["", "| act | variant | gas | budget | peers, as stated |", "|---|---|--:|--:|---|"]
    for row in measured["rows"]:
        peers = "; ".join(f"{name} {figure}" for name, figure in row["peers"].items())
        budget = "" if row["budget"] is None else f"{row['budget']:,}"
        lines.append(f"| {row['act']} | {row['variant']} | {row['gas']:,} | {budget} | {peers} |")
    lines += ["", f"| contract | bytes of run-time code | of {CODE_LIMIT_BYTES:,} |", "|---|--:|--:|"]
    lines += [f"| {name} | {size:,} | {size / CODE_LIMIT_BYTES:.0%} |" for name, size in measured["sizes"].items()]
    return "\n".join([*lines, "", ""])


def page_with(measured: dict[str, Any]) -> str:
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    return before + BEGIN + shown(measured) + END + rest.split(END)[1]


def over_budget(rows: Sequence[Row]) -> list[str]:
    return [
        f"{row.act}, {row.variant}: {row.gas:,} over the budget of {row.budget:,}"
        for row in rows
        if row.budget and row.gas > row.budget
    ]


def table(rows: Sequence[Row], measured_sizes: dict[str, int]) -> None:
    console = Console()
    view = Table("act", "variant", "gas", "budget", "peers", title="gasUsed of whole transactions")
    for row in rows:
        within = row.budget is None or row.gas <= row.budget
        gas = f"{row.gas:,.2f}" if isinstance(row.gas, float) and row.gas < 1_000 else f"{row.gas:,.0f}"
        budget = "" if row.budget is None else f"{row.budget:,}"
        peers = "; ".join(f"{name} {figure}" for name, figure in row.peers.items())
        view.add_row(row.act, row.variant, gas if within else f"[red]{gas}[/red]", budget, peers)
    console.print(view)
    code = Table("contract", "bytes", f"of {CODE_LIMIT_BYTES:,}", title="run-time code")
    for name, size in measured_sizes.items():
        code.add_row(name, f"{size:,}", f"{size / CODE_LIMIT_BYTES:.0%}")
    console.print(code)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="./run bench gas", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    parser.add_argument("--check", action="store_true", help="compare with docs/gas.json")
    parser.add_argument("--write", action="store_true", help="rewrite docs/gas.json")
    options = parser.parse_args()
    settings = ("--timestamp", str(NOW), "--mnemonic-seed-unsafe", "771643")
    with tempfile.TemporaryDirectory() as folder, anvil(Path(folder), free_port(), CHAIN_ID, *settings) as url:
        bench = Bench(url)
        measure(bench)
    measured = {"rows": [asdict(row) for row in bench.rows], "sizes": sizes()}
    if options.json:
        print(json.dumps(measured))
    else:
        table(bench.rows, measured["sizes"])
    if options.write:
        SNAPSHOT.write_text(json.dumps(measured, indent=1) + "\n")
        PAGE.write_text(page_with(measured), encoding="utf-8")
    trouble = over_budget(bench.rows)
    trouble += [
        f"{name}: {size:,} bytes do not fit" for name, size in measured["sizes"].items() if size > CODE_LIMIT_BYTES
    ]
    if options.check:
        trouble += drift(measured, json.loads(SNAPSHOT.read_text()))
    for line in trouble:
        print(line, file=sys.stderr)
    return 1 if trouble else 0


if __name__ == "__main__":
    sys.exit(main())
