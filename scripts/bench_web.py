"""Requests per second of the check page of a random statement, and of a bare Flask page by the same server and load.

    ./run bench web              a table
    ./run bench web --json       {"statements", "command", "seconds", "connections", "rows": [{page, requests_per_second, p50_ms, p99_ms,
                                 errors, rss_before_mb, rss_after_mb, cpu_ms_per_request}], "goal", "load_average"}
    ./run bench web --seconds 60 --connections 8 --statements 10000

A local anvil holds batches of made-up device-days, notarized by three of five; their archives lie beside it. Each request asks for the
page of another statement: its profile, leaf and path are hashed again, what the chain says is read anew for each block.
The server first works off the validation of everything that it begins with, as a server does that has run for a while.
The load is made by wrk, which must be installed (Debian's package wrk); it and the local chain take their share of the same cores.
`cpu_ms_per_request` is what the server's processes alone used.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import requests
import yaml
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from oracle.archive import ArchivedStatement, write_archive  # noqa: E402
from oracle.domain import Batch, BatchKind, NotaryDomain, Profile, Quality, Statement, Visibility  # noqa: E402
from oracle.protocol import (  # noqa: E402
    batch_digest,
    batch_energy_wh,
    batch_fields,
    day_hash,
    day_salt,
    keccak256,
    pack_profile,
    profile_hash,
)
from scripts.bench_gas import CHAIN_ID, DAY, NOW, START, Bench  # noqa: E402
from scripts.local_chain import anvil, await_that, child, free_port, listens  # noqa: E402

GOAL = {"requests_per_second": 200, "p99_ms": 200}
DEVICES, DAYS_PER_BATCH = 30, 31
BARE = """
import flask, sys
app = flask.Flask(__name__)
@app.get("/")
def page():
    return "<!doctype html><title>bare</title><p>Nothing is checked here."
"""
SCRIPT = """
local paths = {}
for line in io.lines("%s") do paths[#paths + 1] = line end
math.randomseed(771643)
function request() return wrk.format("GET", paths[math.random(#paths)]) end
function done(summary, latency)
  local e = summary.errors
  print(string.format("RESULT %%d %%d %%d %%d %%d", summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


def record(device_id: int, day: int) -> ArchivedStatement:
    """A made-up sunny day; the seed of its figures is its place."""
    start = START + day * DAY
    tilt = 1 + keccak256(b"%d %d" % (device_id, day))[0]
    energies = [max(0, (24 - abs(slot - 60)) * (30 + tilt % 40)) for slot in range(96)]
    quality = [int(Quality.MEASURED | Quality.CERTIFIED)] * 96
    profile = Profile(start, tuple(energies), tuple(quality))
    packed, salt = pack_profile(profile), day_salt(bytes(32), device_id, start, 0)
    statement = Statement(device_id, start, DAY, 0, profile.certified_wh, 0, profile_hash([day_hash(salt, packed)]))
    ghi = [max(0, 950 - abs(slot - 60) * 38) for slot in range(96)]
    assessment = {
        "device_id": device_id, "start": start, "state": "accepted", "reasons": [],
        "corroboration": {"result": "corroborated", "reasons": [], "stations": [{
            "station": "roof", "kind": "measured", "result": "corroborated", "reasons": [],
            "figures": {"energy_ratio": "0.97", "correlation": "0.991"}, "ghi_w_m2": ghi, "expected_wh": energies,
        }]},
    }  # fmt: skip
    return ArchivedStatement(statement, packed, salt, (keccak256(packed),), json.dumps(assessment, sort_keys=True))


def notarize(bench: Bench, folder: Path, records: list[ArchivedStatement]) -> None:
    archive = write_archive(folder, records, visibility=Visibility.PUBLIC, policy={"name": "bench"})
    statements = [entry.statement for entry in records]
    batch = Batch(
        BatchKind.FINAL, 1, bench.notary.functions.head().call(), archive.root, min(s.start for s in statements),
        max(s.end for s in statements), len(statements), batch_energy_wh(statements), archive.archive_hash, NOW + 365 * DAY,
    )  # fmt: skip
    digest = batch_digest(batch, NotaryDomain(CHAIN_ID, bench.notary.address))
    signed = [bytes(signer.unsafe_sign_hash(digest).signature) for signer in bench.signers[:3]]
    bench.gas(bench.notary.functions.notarize(batch_fields(batch), signed))


def fill(bench: Bench, folder: Path, statements: int) -> list[str]:
    """Batches of a month of 30 devices each; the paths of their check pages."""
    paths: list[str] = []
    for device_id in range(1, DEVICES + 1):
        bench.register(device_id, bench.generator)
    day = 0
    while len(paths) < statements:
        month = range(day, day + DAYS_PER_BATCH)
        records = [record(device_id, at) for device_id in range(1, DEVICES + 1) for at in month]
        notarize(bench, folder / "archive", records)
        root = max((folder / "archive").glob("*.json"), key=lambda path: path.stat().st_mtime_ns).stem
        paths += [f"/checks/0x{root}/{r.statement.device_id}/{r.statement.start}" for r in records]
        day += DAYS_PER_BATCH
    return paths


def write_config(bench: Bench, folder: Path, url: str) -> Path:
    deployed = {
        "AccessManager": bench.authority, "DeviceRegistry": bench.registry, "Notary": bench.notary,
        "EnergyCertificate": bench.certificate, "EmissionFactors": bench.factors, "MitigationOutcome": bench.outcome,
    }  # fmt: skip
    book: dict[str, Any] = {
        "schema": "wattmark/addresses/1", "chainId": CHAIN_ID, "chainName": "Bench", "deployedBlock": 1, "roles": {},
        "signers": [signer.address for signer in bench.signers], "threshold": 3,
        "contracts": {
            name: {
                "address": contract.address, "codeHash": "0x" + keccak256(bytes(bench.w3.eth.get_code(contract.address))).hex(),
                "transaction": None, "block": 1,
            }
            for name, contract in deployed.items()
        },
    }  # fmt: skip
    (folder / "addresses.json").write_text(json.dumps(book))
    network = {
        "name": "Bench",
        "rpc_urls": [url],
        "chain_id": CHAIN_ID,
        "addresses": "addresses.json",
        "finality_depth": 0,
    }
    config = {"archive_folder": "archive", "state_folder": "state", "network": network, "limits": {"pages": None}}
    file = folder / "web.yaml"
    file.write_text(yaml.safe_dump(config))
    return file


def resident_mb(group: int) -> float:
    """Memory of every process of a group, in MB."""
    total = 0
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
            if int(fields[2]) == group:
                total += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError):
            continue
    return total / 1e6


def cpu_seconds(group: int) -> float:
    """Processor time that the processes of a group have used."""
    total = 0
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
            if int(fields[2]) == group:
                total += int(fields[11]) + int(fields[12])
        except (OSError, IndexError):
            continue
    return total / os.sysconf("SC_CLK_TCK")


def load(wrk: str, url: str, paths: Path, seconds: int, connections: int) -> tuple[float, float, float, int]:
    """Requests per second, median and 99th percentile in ms, errors."""
    script = paths.with_suffix(".lua")
    script.write_text(SCRIPT % paths)
    command = [
        wrk,
        "-t",
        "1",
        "-c",
        str(connections),
        "-d",
        f"{seconds}s",
        "--timeout",
        "10s",
        "--latency",
        "-s",
        str(script),
        url,
    ]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+)", output)
    if not found:
        raise SystemExit(f"wrk says:\n{output}")
    count, microseconds, p50, p99, errors = map(int, found.groups())
    return count / microseconds * 1e6, p50 / 1e3, p99 / 1e3, errors


def measured(
    name: str, command: list[str], port: int, folder: Path, paths: list[str], options: argparse.Namespace, wrk: str
) -> dict[str, Any]:
    listing = folder / f"{name.split()[0]}.txt"
    listing.write_text("\n".join(paths))
    log = folder / f"{name.split()[0]}.log"
    url = f"http://127.0.0.1:{port}"
    with child(command, log) as process:
        await_that(name, lambda: listens(port), process, log, 120)
        warm(url, paths)
        load(wrk, url, listing, max(2, options.seconds // 6), options.connections)
        before, used = resident_mb(process.pid), cpu_seconds(process.pid)
        rate, p50, p99, errors = load(wrk, url, listing, options.seconds, options.connections)
        after, used = resident_mb(process.pid), cpu_seconds(process.pid) - used
    return {
        "page": name, "requests_per_second": round(rate, 1), "p50_ms": round(p50, 1), "p99_ms": round(p99, 1), "errors": errors,
        "rss_before_mb": round(before), "rss_after_mb": round(after),
        "cpu_ms_per_request": round(used / max(1, rate * options.seconds) * 1e3, 2),
    }  # fmt: skip


def warm(url: str, paths: list[str]) -> None:
    """Wait until the last statement is listed, so that every page is there."""
    end = time.monotonic() + 180
    while (answer := requests.get(url + paths[-1], timeout=60)).status_code != 200:
        if time.monotonic() > end:
            raise SystemExit(f"{paths[-1]}: {answer.status_code}")
        time.sleep(0.2)
    if len(paths) == 1:
        return
    if "erified" not in answer.text:
        raise SystemExit("the page of a sound statement does not say that it is verified")
    while requests.get(f"{url}/checks.json", params={"rows": 1}, timeout=60).json()["job"]["state"] in (
        "queued",
        "running",
    ):
        if time.monotonic() > end + 600:
            raise SystemExit("the validation that the server begins with does not end")
        time.sleep(1)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="./run bench web", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=60, help="length of each measurement (60)")
    parser.add_argument("--connections", type=int, default=8, help="requests under way at once (8)")
    parser.add_argument("--statements", type=int, default=10_000, help="statements to choose from, at least (10,000)")
    parser.add_argument("--workers", type=int, default=2, help="processes of the server (2)")
    parser.add_argument("--threads", type=int, default=1, help="requests that each of them serves at once (1)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    wrk = shutil.which("wrk")
    if wrk is None:
        raise SystemExit("wrk is not on PATH; Debian's package wrk installs it")
    err = Console(stderr=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with anvil(folder, free_port(), CHAIN_ID, "--timestamp", str(NOW), "--mnemonic-seed-unsafe", "771643") as url:
            bench = Bench(url)
            paths = fill(bench, folder, options.statements)
            config = write_config(bench, folder, url)
            err.print(f"{len(paths):,} statements in {len(paths) // (DEVICES * DAYS_PER_BATCH)} batches")
            port = free_port()
            command = [
                sys.executable,
                "-m",
                "webapp",
                "--config",
                str(config),
                "--port",
                str(port),
                "--workers",
                str(options.workers),
                "--threads",
                str(options.threads),
            ]
            rows = [measured("check page", command, port, folder, paths, options, wrk)]
            (folder / "bare.py").write_text(BARE)
            port = free_port()
            bare = [sys.executable, "-m", "gunicorn", "--chdir", str(folder), "-k", "sync", "-w", str(options.workers), "--threads", str(options.threads),
                    "-b", f"127.0.0.1:{port}", "bare:app"]  # fmt: skip
            rows.append(measured("bare Flask page", bare, port, folder, ["/"], options, wrk))
    shown = [
        "python",
        "-m",
        "webapp",
        "--config",
        "web.yaml",
        "--port",
        "PORT",
        "--workers",
        str(options.workers),
        "--threads",
        str(options.threads),
    ]
    result = {"statements": len(paths), "command": " ".join(shown), "seconds": options.seconds, "connections": options.connections,
              "rows": rows, "goal": GOAL, "load_average": [round(load, 2) for load in os.getloadavg()]}  # fmt: skip
    if options.json:
        print(json.dumps(result))
        return
    table = Table(
        "page",
        "requests/s",
        "median ms",
        "p99 ms",
        "errors",
        "memory MB before, after",
        "CPU ms each",
        title=f"{len(paths):,} statements; {result['command']}",
    )
    for row in rows:
        table.add_row(row["page"], f"{row['requests_per_second']:,}", str(row["p50_ms"]), str(row["p99_ms"]), str(row["errors"]),
                      f"{row['rss_before_mb']}, {row['rss_after_mb']}", str(row["cpu_ms_per_request"]))  # fmt: skip
    Console().print(table)
    print(f"load average {result['load_average']}")
    print(f"goal: at least {GOAL['requests_per_second']} requests/s, p99 at most {GOAL['p99_ms']} ms, no errors")


if __name__ == "__main__":
    main()
