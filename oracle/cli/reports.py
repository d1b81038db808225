"""Commands that say how things are and send nothing: ``status, gaps, balance, clocks, drifts, estimates, export``."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from ..config import KeyFile
from ..errors import ConfigError
from ..units import format_kwh, utc_date
from .desk import (
    EXIT_UNHEALTHY,
    Desk,
    cli,
    json_option,
    pass_desk,
    print_json,
    print_table,
    progress_shown,
    shown,
)


@cli.command()
@json_option
@pass_desk
def status(desk: Desk, as_json: bool) -> None:
    """Health, and counts of files, rows, device-days, batches and acts on the chain.

    Ends with code 9 where something wants a hand: no node answers, the account cannot pay, a device-day is stuck.

    Example: python -m oracle status --json
    """
    from ..reports import status as status_of

    facts = status_of(desk.store) | {"health": _health(desk)}
    problems = facts["health"]["problems"]
    if as_json:
        print_json(facts)
        sys.exit(EXIT_UNHEALTHY if problems else 0)
    batch = facts["last_batch"]
    rows: list[tuple[object, object]] = [
        (key.replace("_", " "), facts[key])
        for key in ("files", "rows_used", "rows_refused", "last_file_at", "decisions", "pending", "batches")
    ]
    rows += [(f"device-days {state}", count) for state, count in facts["device_days"].items()]
    rows += [(f"corrections {state}", count) for state, count in facts["corrections"].items()]
    rows += [(f"tared slots of device {device}", count) for device, count in facts["tared_slots"].items()]
    rows += [(f"acts {state}", count) for state, count in facts["acts"].items()]
    if batch:
        rows.append(
            (
                "last batch",
                f"{batch['root']} {batch['state']}, {batch['statements']} statements, {format_kwh(batch['energy_wh'])} kWh",
            )
        )
    rows += [(name.replace("_", " "), value) for name, value in facts["health"].items() if name != "problems"]
    print_table("Status", ("what", "value"), rows)
    for problem in problems:
        click.echo(str(shown(f"problem: {problem}")), err=True)
    sys.exit(EXIT_UNHEALTHY if problems else 0)


def _health(desk: Desk) -> dict[str, Any]:
    """Database and chain as they are now; also where there is no chain, address book or key yet."""
    from ..chain import Chain
    from ..keys import keystore_address
    from ..metrics import health

    key = desk.config.key
    try:
        signer = keystore_address(key) if isinstance(key, KeyFile) else key.address if key else None
        return health(desk.store, Chain(desk.config.network), signer).to_json()
    except ConfigError as fault:
        return {"chain_answers": False, "problems": [str(fault)]}


@cli.command()
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV that no spreadsheet takes for formulas.")
@click.option("--state", "states", multiple=True, help="Only device-days in this state; may be repeated.")
@click.option("--heat", is_flag=True, help="Draw a map: a row for each device and month, a mark for each day.")
@click.option(
    "--svg",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the map as an SVG file that says every reason.",
)
@json_option
@pass_desk
def gaps(desk: Desk, as_csv: bool, states: tuple[str, ...], heat: bool, svg: Path | None, as_json: bool) -> None:
    """Every device-day, how far it has come, and why no further. Nothing is left out.

    \b
    Example: python -m oracle gaps --csv > gaps.csv
             python -m oracle gaps --heat
             python -m oracle gaps --svg gaps.svg
    """
    from ..reports import gaps as gap_report
    from ..reports import gaps_csv, gaps_heat, gaps_svg

    report = [gap for gap in gap_report(desk.config, desk.store) if not states or gap.state.value in states]
    if as_json:
        print_json([gap.to_json() for gap in report])
    elif as_csv:
        click.echo(gaps_csv(report), nl=False)
    elif svg:
        svg.write_text(gaps_svg(report), encoding="utf-8")
        click.echo(svg)
    elif heat:
        console = Console(width=None if sys.stdout.isatty() else 120)
        for line in gaps_heat(report):
            console.print(line)
    else:
        rows = [
            (
                gap.device_id,
                gap.day,
                gap.state.value,
                format_kwh(gap.energy_wh),
                gap.missing_slots,
                gap.suspect_slots,
                "; ".join(filter(None, (gap.reason, gap.pending, gap.correction))),
            )
            for gap in report
        ]
        print_table(
            f"Device-days ({len(rows)})",
            ("device", "day", "state", "kWh", "missing slots", "suspect slots", "reason"),
            rows,
        )


@cli.command()
@json_option
@click.pass_obj
def balance(desk: Desk, as_json: bool) -> None:
    """Feeders against the sum of the meters behind them: what went in, what came out, what was lost, day by day.

    \b
    Example: python -m oracle balance --json
    """
    from ..findings import balance_report

    days = balance_report(desk.config, desk.store)
    if as_json:
        print_json([day.to_json() for day in days])
        return
    rows = [
        (day.name, utc_date(day.start), format_kwh(day.in_wh), format_kwh(day.out_wh), day.loss_percent, day.reason)
        for day in days
    ]
    print_table(f"Energy balances ({len(rows)})", ("feeder", "day", "kWh in", "kWh out", "loss %", "finding"), rows)


@cli.command()
@json_option
@click.pass_obj
def clocks(desk: Desk, as_json: bool) -> None:
    """Devices whose clock was wrong by the same time for a week or more, and the correction that their source needs.

    \b
    Example: python -m oracle clocks
    """
    from ..findings import clock_report

    with progress_shown(as_json) as progress:
        shifts = clock_report(desk.config, desk.store, progress)
    if as_json:
        print_json([shift.to_json() for shift in shifts])
        return
    rows = [
        (shift.device_id, shift.minutes, utc_date(shift.start), utc_date(shift.end), shift.correction["evidence"])
        for shift in shifts
    ]
    print_table(f"Clock shifts ({len(rows)})", ("device", "minutes", "from", "until", "evidence"), rows)
    for shift in shifts:
        click.echo(
            f"device {shift.device_id}, by `review clock {shift.device_id}`, or under file.clock_corrections, if a reviewer agrees:"
        )
        click.echo("  - " + "\n    ".join(f"{key}: {json.dumps(value)}" for key, value in shift.correction.items()))


@cli.command("drifts")
@json_option
@click.pass_obj
def show_drifts(desk: Desk, as_json: bool) -> None:
    """Solar devices whose energy was above or below what irradiance leads to expect for a week or more.

    \b
    Example: python -m oracle drifts
    """
    from ..findings import drift_report

    with progress_shown(as_json) as progress:
        found = drift_report(desk.config, desk.store, progress)
    if as_json:
        print_json([one.to_json() for one in found])
        return
    rows = [
        (
            one.device_id,
            utc_date(one.start),
            utc_date(one.end),
            one.days,
            f"{one.ratio:.2f}",
            "held" if one.side > 0 else "told",
        )
        for one in found
    ]
    print_table(f"Energy drifts ({len(rows)})", ("device", "from", "until", "days", "of expected", ""), rows)


@cli.command()
@click.option("--device", type=int, help="One device alone.")
@json_option
@click.pass_obj
def estimates(desk: Desk, device: int | None, as_json: bool) -> None:
    """What missing slots probably held, by which method; for reports, never certified.

    \b
    Example: python -m oracle estimates --device 1
    """
    from ..findings import estimates as estimated_days

    days = [day.to_json() for day in estimated_days(desk.config, desk.store, device)]
    if as_json:
        print_json(days)
        return
    rows = [
        (
            day["device_id"],
            day["day"],
            format_kwh(day["estimated_wh"]),
            ", ".join(f"{name} {count}" for name, count in Counter(slot["method"] for slot in day["slots"]).items()),
            day["unknown_slots"],
        )
        for day in days
    ]
    print_table(f"Estimates ({len(rows)})", ("device", "day", "kWh", "slots by method", "unknown slots"), rows)


@cli.command()
@click.option("--device", type=click.IntRange(min=1), help="Only this device.")
@json_option
@pass_desk
def export(desk: Desk, device: int | None, as_json: bool) -> None:
    """The 15-minute slots of all sealed statements, out of the archives: CSV, or JSON lines.

    Example: python -m oracle export --device 1 > slots.csv
    """
    from ..reports import export_csv, export_slots

    rows = export_slots(desk.config, device)
    if as_json:
        for row in rows:
            print_json(row)
    else:
        for line in export_csv(rows):
            click.echo(line, nl=False)
