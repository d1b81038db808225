"""Deploy the contracts with brownie, from what is committed in oracle/artifacts.

    ./run deploy --network development      a chain of its own that ends with the run
    ./run deploy --network local            a node that is running already
    ./run deploy --network sepolia --dry-run    what it would cost; nothing is sent
    ./run deploy --network sepolia --safe acts.json     the administrator is a Safe: its calls go into a file
    ./run deploy --network sepolia --check  compare the chain with address book, artifacts and role table

Who holds which role and what signs is taken from the environment: docs/deployment.md. Running it again sends nothing;
a run that was cut short is taken up where it stopped (scripts/deployment.py).
The last line is one JSON object: chainId, addresses (the book's path), deployed, transactions, gas, seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from web3 import Web3  # noqa: E402

from scripts import safe  # noqa: E402
from scripts.addresses import partial  # noqa: E402
from scripts.deployment import Deployment, deploy, expected_price, say  # noqa: E402
from scripts.deployment_settings import Settings, address_without_key, signer_of  # noqa: E402
from scripts.local_chain import LocalChainError, anvil, free_port  # noqa: E402
from scripts.networks import FAULTS, DeployError, Network, connect, told  # noqa: E402
from scripts.roles import ADMINISTRATOR  # noqa: E402

WEI = 10**18


# -- dry run ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def fork_of(rpc: str, chain_id: int) -> Iterator[Web3]:
    """A chain of our own that continues the one at ``rpc``, where anybody may send. Its address goes through the
    loopback, not through the command line, for it may carry a key. What anvil caches is in the run's own home."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        url = stack.enter_context(anvil(Path(folder), free_port(), chain_id, "--auto-impersonate"))
        w3 = connect(url)
        answer = w3.provider.make_request("anvil_reset", [{"forking": {"jsonRpcUrl": rpc}}])
        if "error" in answer:
            said = str(answer["error"].get("message", "")).replace(rpc, "the node").splitlines()
            raise DeployError(f"the chain cannot be continued for a dry run: {(said or ['no reason given'])[0]}")
        yield w3


def dry_run(target: Network, safe_file: Path | None) -> dict[str, Any]:
    """Deploy on a continuation of the chain; what each step costs there, and what that is at the chain's present price."""
    real = target.connect()
    chain_id, who = real.eth.chain_id, address_without_key(os.environ, real, target.public)
    book = target.book(chain_id)
    with fork_of(target.rpc, chain_id) as w3, tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder) / book.name
        for kept, copy in ((book, scratch), (partial(book), partial(scratch))):
            if kept.exists():
                shutil.copyfile(kept, copy)
        settings = Settings.read(os.environ, who, scratch, target.id, safe=safe_file, public=target.public)
        w3.provider.make_request("anvil_setBalance", [who, hex(10**9 * WEI)])
        with contextlib.redirect_stdout(sys.stderr):
            run = deploy(Deployment(w3, who, settings, {}))
    expected, most = expected_price(real, settings.gas_price_wei)
    cost = {
        "gasPriceWei": expected,
        "feeWei": run.gas * expected,
        "feeAtMostWei": run.gas * most,
        "balanceWei": real.eth.get_balance(who),
    }
    width = max([len(step.what) for step in run.steps] + [5])
    for step in run.steps:
        say(f"{step.what:<{width}} {step.gas:>12,} gas {in_currency(step.gas * expected, target):>28}")
    say(f"{'total':<{width}} {run.gas:>12,} gas {in_currency(cost['feeWei'], target):>28}")
    say(f"at most {in_currency(cost['feeAtMostWei'], target)}; {who} has {in_currency(cost['balanceWei'], target)}")
    if cost["balanceWei"] < cost["feeAtMostWei"]:
        say("that is not enough to be sure")
    say("dry run: nothing was sent")
    steps = [{"what": step.what, "gas": step.gas} for step in run.steps]
    acts = {"actsOfTheSafe": len(run.outstanding)} if safe_file else {}
    return {"dryRun": True, "chainId": chain_id, "from": who, "steps": steps, "gas": run.gas, **acts, **cost}


def in_currency(wei: int, target: Network) -> str:
    return f"{(Decimal(wei) / WEI).normalize():f} {target.currency}"


# -- entry ------------------------------------------------------------------------------------------


def write_for_safe(run: Deployment, path: Path) -> None:
    """What the Safe has to execute, as a file for its Transaction Builder."""
    document = safe.batch(
        run.book["chainId"],
        run.settings.holders[ADMINISTRATOR.name],
        time.time_ns() // 1_000_000,
        "Wattmark deployment",
        "Bind the contracts, set roles and, last, the administrator's delay. All in one batch.",
        [run.call(act) for act in run.outstanding],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    say(f"{path}: {len(run.outstanding)} calls for the Safe to execute; then run the same again")


def run_on(target: Network, safe_file: Path | None) -> dict[str, Any]:
    """Deploy on ``target`` and say what was done."""
    # Takes seconds, which neither a dry run nor a mistake in the arguments should cost.
    from brownie import network, web3

    began = time.monotonic()
    os.environ["WATTMARK_RPC"] = target.rpc
    if not target.own_node:
        target.connect()
    network.connect(target.id)
    try:
        signer = signer_of(os.environ, web3, target.public)
        sender = signer if isinstance(signer, str) else signer.address
        chain_id = web3.eth.chain_id
        development = web3.eth.accounts[7:10] if target.own_node else []
        settings = Settings.read(
            os.environ,
            sender,
            target.book(chain_id),
            target.id,
            development,
            safe_file,
            target.confirmations,
            target.public,
        )
        say(f"chain {chain_id} ({settings.chain_name}), from {sender}")
        run = deploy(Deployment(web3, signer, settings, {}))
        if run.outstanding and safe_file:
            write_for_safe(run, safe_file)
        complete = {"safe": str(safe_file), "acts": len(run.outstanding)} if run.outstanding else {}
        return {
            "chainId": chain_id,
            "addresses": str(settings.book),
            "deployed": run.deployed,
            "transactions": run.sent,
            "gas": run.gas,
            "seconds": round(time.monotonic() - began, 1),
            "complete": not run.outstanding,
            **complete,
        }
    finally:
        network.disconnect()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="./run deploy",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--network", required=True, metavar="NAME", help="a network of networks.yaml")
    parser.add_argument("--dry-run", action="store_true", help="say what each step costs; send nothing, open no key")
    parser.add_argument("--safe", type=Path, metavar="FILE", help="the administrator is a Safe; its calls go into FILE")
    parser.add_argument("--check", action="store_true", help="compare the chain with what it should be; --json as well")
    options = parser.parse_args(arguments)
    try:
        target = Network.load(options.network)
        if options.dry_run and target.own_node:
            raise DeployError(f"network {target.id} is begun anew by each run: there is nothing to try first")
        summary = dry_run(target, options.safe) if options.dry_run else run_on(target, options.safe)
    except (*FAULTS, LocalChainError) as fault:
        print(f"./run deploy: {told(fault)}", file=sys.stderr)
        return 1
    print(json.dumps(summary), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
