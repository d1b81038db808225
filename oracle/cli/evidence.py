"""Commands for whoever doubts: ``check`` and ``bundle``. They take nothing from the database."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import click

from ..domain import Verdict
from ..errors import OracleError
from ..units import utc_date
from .desk import (
    EXIT_NOT_VERIFIED,
    Desk,
    cli,
    json_option,
    parse_day,
    pass_desk,
    print_json,
    print_table,
    progress_shown,
)


@cli.command()
@click.argument("device", type=click.IntRange(min=1), required=False)
@click.argument("day", required=False)
@json_option
@pass_desk
def check(desk: Desk, device: int | None, day: str | None, as_json: bool) -> None:
    """Check archived statements against the chain, all or those of one DEVICE or DAY: four verdicts for each.

    Nothing is taken from the database. Ends with code 8 unless every verdict is "verified".

    \b
    Example: python -m oracle check
             python -m oracle check 1 2016-07-04
    """
    from ..chain import ChainView
    from ..checks import check_archive

    start = parse_day(day) if day else None
    with progress_shown(as_json) as progress:
        checks = check_archive(desk.config.archive_folder, ChainView(desk.config.network), progress)
    wanted = [one for one in checks if device in (None, one.device_id) and start in (None, one.start)]
    if not wanted:
        raise OracleError("there is no such statement in the archive folder; `gaps` shows what is sealed")
    headlines = [one.result.headline for one in wanted]
    counts = {verdict.value: headlines.count(verdict) for verdict in Verdict if verdict in headlines}
    if as_json:
        print_json({"checks": counts, "statements": [_check_json(one) for one in wanted]})
    else:
        print_table("Checks", ("verdict", "count"), counts.items())
        bad = [one for one in wanted if one.result.headline is not Verdict.VERIFIED]
        rows = [
            (one.device_id or "", one.start and utc_date(one.start), part, finding["verdict"], finding["reason"])
            for one in bad[:20]
            for part, finding in _check_json(one)["findings"].items()
            if finding["verdict"] != Verdict.VERIFIED.value
        ]
        if rows:
            print_table("Not verified", ("device", "day", "question", "verdict", "reason"), rows)
    sys.exit(0 if set(headlines) == {Verdict.VERIFIED} else EXIT_NOT_VERIFIED)


def _check_json(one: Any) -> dict[str, Any]:
    parts = ("data", "inclusion", "finality", "authority")
    findings = {part: getattr(one.result, part) for part in parts}
    return {
        "root": "0x" + one.root.hex(),
        "device_id": one.device_id,
        "start": one.start,
        "headline": one.result.headline.value,
        "findings": {
            part: {"verdict": found.verdict.value, "reason": found.reason} for part, found in findings.items()
        },
    }


@cli.command()
@click.argument("kind", type=click.Choice(("statement", "certificate", "retirement", "outcome", "outcome-retirement")))
@click.argument("what")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The zip to write.")
@click.option("--with-readings/--without-readings", default=None, help="Left out: readings of public devices alone.")
@json_option
@pass_desk
def bundle(desk: Desk, kind: str, what: str, out: Path, with_readings: bool | None, as_json: bool) -> None:
    """Write the evidence bundle of WHAT: DEVICE/DAY of a statement, an id (0x…), or the number of a retirement.

    The holder of a private device's archive adds its readings by --with-readings.

    \b
    Example: python -m oracle bundle statement 1/2016-07-04 --out statement.zip
             python -m oracle bundle retirement 7 --out retirement.zip
    """
    from .. import bundle as bundles
    from ..archive import read_archive, roots_in, write_whole
    from ..chain import ChainView

    chain, folder = ChainView(desk.config.network), desk.config.archive_folder
    if kind == "statement":
        device, _, day = what.partition("/")
        start = parse_day(day)
        archives = (read_archive(folder, root) for root in reversed(roots_in(folder)))
        found = [(one, record) for one in archives if device.isdecimal() and (record := one.record(int(device), start))]
        if not found:
            raise OracleError(f"no archive in {folder} has a statement of device {device} that starts on {day}")
        # Of several versions the last one is what stands.
        archive, record = max(found, key=lambda pair: pair[1].statement.version)
        content = bundles.statement_bundle(chain, archive, record, include_readings=with_readings)
    else:
        makers = {
            "certificate": bundles.certificate_bundle,
            "retirement": bundles.retirement_bundle,
            "outcome": bundles.outcome_bundle,
            "outcome-retirement": bundles.outcome_retirement_bundle,
        }
        try:
            number = int(what, 0)
        except ValueError:
            raise click.BadParameter(f"{what} is no number and no 0x… id", param_hint="WHAT") from None
        content = makers[kind](chain, folder, number, include_readings=with_readings)
    write_whole(out, content)
    told = {"bundle": str(out), "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    if as_json:
        print_json(told)
    else:
        click.echo("{bundle}: {bytes} bytes, sha256 {sha256}".format(**told))
