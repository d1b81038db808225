"""Commands that take files: ``ingest`` and ``sources``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import RefusedInput
from ..units import format_kwh
from .desk import EXIT_REFUSED, Desk, cli, json_option, pass_desk, print_json, print_table, progress_shown, shown

if TYPE_CHECKING:
    from ..intake import IngestedFile


@cli.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--dry-run", is_flag=True, help="Read and report; keep nothing and need no database.")
@click.option(
    "--assume",
    multiple=True,
    metavar="KEY=VALUE",
    help="With --dry-run: read without the sites file, with this setting of a source (docs/formats.md); may be repeated.",
)
@json_option
@pass_desk
def ingest(desk: Desk, paths: tuple[Path, ...], dry_run: bool, assume: tuple[str, ...], as_json: bool) -> None:
    """Take meter and weather files, or folders of them, and assess their device-days.

    A file is taken whole or refused whole; a refused row is kept with its line and reason. The same content again
    changes nothing. A dry run where there is no configuration looks into any file and says what it had to assume.

    \b
    Example: python -m oracle ingest inbox/
             python -m oracle ingest --dry-run meter.csv --json
             python -m oracle ingest --dry-run meter.csv --assume timezone=Europe/Madrid --assume stamped=end
    """
    from ..intake import files_of, inspect_unconfigured
    from ..intake import inspect as inspect_file
    from ..pipeline import ingest as ingest_files

    refusals: list[RefusedInput] = []
    given = dict(one.partition("=")[::2] for one in assume)
    if given and not dry_run:
        raise click.UsageError("--assume is for --dry-run; what is kept is read as the sites file says")
    if dry_run:
        config = None if given or not desk.is_configured else desk.config
        looked: list[IngestedFile | RefusedInput] = []
        for path in files_of(paths):
            try:
                looked.append(inspect_file(config, path) if config else inspect_unconfigured(path, given))
            except RefusedInput as fault:
                looked.append(fault)
        refusals = [one for one in looked if isinstance(one, RefusedInput)]
        for refusal in refusals:
            click.echo(str(shown(f"error: {' '.join(str(refusal).split())}")), err=True)
        if as_json:
            answers = [_dry_run_json(one) for one in looked]
            print_json(answers[0] if len(answers) == 1 else answers)
        files = [one for one in looked if not isinstance(one, RefusedInput)]
        if as_json or not files:
            sys.exit(EXIT_REFUSED if refusals else 0)
        outcome: dict[str, Any] = {}
    else:
        with progress_shown(as_json) as progress:
            report = ingest_files(desk.config, desk.store, paths, progress)
        files, outcome = list(report.files), report.assessed.to_json()
        if as_json:
            print_json(report.to_json())
            sys.exit(EXIT_REFUSED if any(file.refusal for file in files) else 0)

    def line(file: IngestedFile) -> tuple[object, ...]:
        said = file.refusal or ("known already" if file.known else "readable" if dry_run else "taken")
        return (
            file.name,
            ", ".join(file.sources),
            file.used,
            len(file.refused),
            file.slots,
            "" if file.columns else file.tared_slots,
            format_kwh(file.energy_wh),
            said,
        )

    print_table(
        "Files", ("file", "source", "used", "refused", "slots", "tared slots", "kWh", "result"), map(line, files)
    )
    refused = [(file.name, row.line, row.reason, row.text) for file in files for row in file.refused]
    if refused:
        print_table(f"Refused rows ({len(refused)})", ("file", "line", "reason", "text"), refused[:20])
    for file in files:
        if file.assumed:
            print_table(f"Assumed of {file.name}", ("setting",), [(one,) for one in file.assumed])
    if outcome:
        print_table("Device-days", ("state", "count"), outcome["device_days"].items())
    sys.exit(EXIT_REFUSED if refusals or any(file.refusal for file in files) else 0)


def _dry_run_json(file: IngestedFile | RefusedInput) -> dict[str, Any]:
    if isinstance(file, RefusedInput):
        row = {"line": file.line, "text": "", "reason": str(file)}
        return {"format": None, "devices": [], "slots": 0, "energy_wh": 0, "refused": [row]}
    facts = file.to_json()
    agreed = {key: facts[key] for key in ("format", "devices", "slots", "energy_wh", "refused")}
    if not file.columns:
        return agreed
    return agreed | {"assumed": list(file.assumed), "columns": [asdict(column) for column in file.columns]}


@cli.command("sources")
@click.argument("names", nargs=-1)
@click.option("--list", "only_list", is_flag=True, help="Look at nothing; tell how the last looks ended.")
@json_option
@pass_desk
def look_at_sources(desk: Desk, names: tuple[str, ...], only_list: bool, as_json: bool) -> None:
    """Look at the configured sources of files, or at those of NAMES, take what is new and assess it.

    A source that does not answer is told and does not hold up the others; the exit code is 3 if a file was refused.

    \b
    Example: python -m oracle sources
             python -m oracle sources --list --json
    """
    from ..pipeline import assess_all
    from ..sources import collect, states

    if only_list:
        told = states(desk.config, desk.store)
        if as_json:
            print_json(told)
            return
        rows = [
            (one["source"], one["kind"], one["looked_at"] or "never", len(one["refused"]), one["problem"] or "")
            for one in told
        ]
        print_table("Sources", ("source", "kind", "looked at", "files refused", "problem"), rows)
        return
    with progress_shown(as_json) as progress:
        collected = collect(desk.config, desk.store, names, progress)
        report = assess_all(desk.config, desk.store, progress)
    if as_json:
        print_json({"sources": [one.to_json() for one in collected], **report.to_json()})
    else:
        taken = [
            (one.source, file.name, file.refusal or ("known already" if file.known else "taken"))
            for one in collected
            for file in one.files
        ]
        print_table("Files", ("source", "file", ""), taken or [("", "nothing new", "")])
        for one in collected:
            if one.problem:
                click.echo(one.problem, err=True)
    sys.exit(EXIT_REFUSED if any(file.refusal for one in collected for file in one.files) else 0)
