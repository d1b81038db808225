"""Commands that make batches and certificates: ``seal, notarize, issue, run, correct, rebuild, witness``."""

from __future__ import annotations

import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..domain import DecisionState
from ..units import format_kwh
from .desk import (
    EXIT_CHAIN,
    EXIT_REFUSED,
    Desk,
    cli,
    json_option,
    parse_time,
    pass_desk,
    print_json,
    print_table,
    progress_shown,
    shown,
)

if TYPE_CHECKING:
    from ..watch import Step


@cli.command()
@json_option
@pass_desk
def seal(desk: Desk, as_json: bool) -> None:
    """Put every accepted device-day into a batch and write its archive. Nothing new: nothing is done.

    Example: python -m oracle seal
    """
    from ..pipeline import assess_all
    from ..sealing import seal as seal_days

    with progress_shown(as_json) as progress:
        assess_all(desk.config, desk.store, progress)
        archives = seal_days(desk.config, desk.store, progress)
    facts: list[dict[str, Any]] = [
        {
            "root": "0x" + archive.root.hex(),
            "statements": len(archive.records),
            "energy_wh": sum(record.statement.energy_wh for record in archive.records),
        }
        for archive in archives
    ]
    if as_json:
        print_json(facts)
    elif not facts:
        click.echo("nothing to seal")
    else:
        print_table(
            "Sealed",
            ("root", "statements", "kWh"),
            [(fact["root"], fact["statements"], format_kwh(fact["energy_wh"])) for fact in facts],
        )


@cli.command()
@json_option
@pass_desk
def notarize(desk: Desk, as_json: bool) -> None:
    """Have sealed batches signed by the witnesses and notarize them.

    Example: python -m oracle notarize
    """
    from ..issuance import notarize as notarize_batches

    with progress_shown(as_json) as progress:
        _show_sent(notarize_batches(desk.config, desk.store, desk.chain, desk.account, progress).to_json(), as_json)


@cli.command()
@json_option
@pass_desk
def issue(desk: Desk, as_json: bool) -> None:
    """Issue the certificates of notarized batches.

    Example: python -m oracle issue
    """
    from ..issuance import issue as issue_certificates

    with progress_shown(as_json) as progress:
        _show_sent(issue_certificates(desk.config, desk.store, desk.chain, desk.account, progress).to_json(), as_json)


@cli.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option("--watch", "watching", is_flag=True, help="Go on, with a round after each quarter hour, until Ctrl-C.")
@click.option("--until", "until", metavar="TIME", help="With --watch: end after the round at this UTC time.")
@click.option(
    "--accelerate",
    type=click.FloatRange(min=1),
    metavar="N",
    help="With --watch, on a local chain alone: time passes N times faster, from --from on.",
)
@click.option("--from", "since", metavar="TIME", help="With --accelerate: the UTC time at which to begin.")
@json_option
@pass_desk
def run(
    desk: Desk,
    paths: tuple[Path, ...],
    watching: bool,
    until: str | None,
    accelerate: float | None,
    since: str | None,
    as_json: bool,
) -> None:
    """All steps once: ingest PATHS, assess, seal, notarize, issue, correct. Run again, it sends nothing.

    With --watch in rounds: each quarter hour an INTERIM notarization of what the meters showed, never issuable, and when
    a day is over its FINAL one with the certificates. Ctrl-C at any moment loses nothing.

    \b
    Example: python -m oracle run inbox/
             python -m oracle run --watch inbox/
             python -m oracle run --watch --accelerate 900 --from 2016-07-14T22:00 --until 2016-07-15T00:15 inbox/
    """
    from ..issuance import run as run_all

    if watching:
        _watch(desk, paths, until, accelerate, since, as_json)
        return
    if until or accelerate or since:
        raise click.UsageError("--until, --accelerate and --from go with --watch")
    with progress_shown(as_json) as progress:
        facts = run_all(desk.config, desk.store, desk.chain, desk.account, paths, progress)
    if not as_json:
        print_table("Device-days", ("state", "count"), facts["device_days"].items())
    refused = any(file["refusal"] for file in facts["files"])
    _show_sent(facts, as_json)
    sys.exit(EXIT_REFUSED if refused else 0)


def _watch(
    desk: Desk, paths: tuple[Path, ...], until: str | None, accelerate: float | None, since: str | None, as_json: bool
) -> None:
    from ..watch import AcceleratedClock, Clock, Inbox, WallClock, watch

    if bool(accelerate) != bool(since):
        raise click.UsageError("--accelerate and --from go together")
    clock: Clock = WallClock()
    if accelerate and since:
        clock = AcceleratedClock(desk.chain, parse_time(since), accelerate)

    def tell(step: Step) -> None:
        if as_json:
            print_json(step.to_json())
        else:
            click.echo(str(shown(_step_line(step))))

    # A service is ended by SIGTERM: as safe as Ctrl-C, and told apart from a failure.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    end = parse_time(until) if until else None
    inbox = Inbox(paths) if not accelerate else Inbox(paths, settle_seconds=0)
    watch(desk.config, desk.store, desk.chain, desk.account, inbox, clock=clock, tell=tell, until=end)


def _step_line(step: Step) -> str:
    states = ", ".join(f"{count} {state}" for state, count in step.states.items())
    did = [
        f"{step.files} files" if step.files else "",
        f"{len(step.refused)} files refused" if step.refused else "",
        *(f"decision about {one.about or one.name} {one.state.value}" for one in step.decisions),
        *(f"refused because {one.reason}" for one in step.decisions if one.state is DecisionState.REFUSED),
        f"INTERIM {', '.join(root[:10] for root in step.interim)}" if step.interim else "",
        f"FINAL {', '.join(root[:10] for root in step.final)}" if step.final else "",
        f"{step.sent.transactions} transactions" if step.sent.transactions else "",
        *(f"failed: {act.key}: {act.error}" for act in step.sent.failed),
        *(f"waits: {reason}" for reason in step.waits),
    ]
    at = datetime.fromtimestamp(step.at, UTC).strftime("%Y-%m-%d %H:%M")
    return f"{at}  {'; '.join(filter(None, did)) or 'nothing new'}  [{states}]"


@cli.command()
@click.option("--list", "only_list", is_flag=True, help="Only show; read the chain, send nothing.")
@json_option
@pass_desk
def correct(desk: Desk, only_list: bool, as_json: bool) -> None:
    """Make the accepted corrections of notarized days certificates or debt, and show old, new and debt of each.

    Newer data after notarization become the next version of a device-day, by the same rules as the first; a held one
    waits for `review`. This seals, notarizes and applies those that are accepted.

    \b
    Example: python -m oracle correct
             python -m oracle correct --list --json
    """
    from ..issuance import confirm, debts_wh, issue, notarize
    from ..pipeline import assess_all
    from ..reports import corrections
    from ..sealing import seal

    sent: dict[str, Any] = {"transactions": 0, "failed": []}
    with progress_shown(as_json) as progress:
        if only_list:
            confirm(desk.config, desk.store, desk.chain)
        else:
            assess_all(desk.config, desk.store, progress)
            seal(desk.config, desk.store, progress)
            done = notarize(desk.config, desk.store, desk.chain, desk.account, progress)
            sent = (done + issue(desk.config, desk.store, desk.chain, desk.account, progress)).to_json()
    lines = corrections(desk.store)
    debts = debts_wh(desk.chain, {line.device_id for line in lines})
    if as_json:
        debt_wh = {str(device): wh for device, wh in debts.items()}
        print_json({"corrections": [line.to_json() for line in lines], "debt_wh": debt_wh, **sent})
        sys.exit(EXIT_CHAIN if sent["failed"] else 0)
    print_table(
        f"Corrections ({len(lines)})",
        ("device", "day", "version", "state", "old kWh", "new kWh", "owed kWh", "reason"),
        [
            (
                line.device_id,
                line.day,
                line.version,
                line.state.value,
                format_kwh(line.previous_wh),
                format_kwh(line.energy_wh),
                "" if line.owed_wh is None else format_kwh(line.owed_wh),
                line.reason,
            )
            for line in lines
        ],
    )
    if debts:
        print_table("Debt now", ("device", "kWh"), [(device, format_kwh(wh)) for device, wh in debts.items()])
    if not only_list:
        _show_sent(sent, as_json)


def _show_sent(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(facts)
    elif not facts["transactions"]:
        click.echo("nothing was sent: the chain holds all of it already")
    else:
        click.echo(f"transactions sent: {facts['transactions']}")
    for act in facts["failed"]:
        click.echo(str(shown(f"error: {act['act']}: {act['reason']}")), err=True)
    if facts["failed"]:
        sys.exit(EXIT_CHAIN)


@cli.command()
@json_option
@pass_desk
def rebuild(desk: Desk, as_json: bool) -> None:
    """Make the database again from raw files, archives and chain. End other commands first.

    Kept as they are: review decisions, what this process has signed, and the outbox.

    Example: python -m oracle rebuild
    """
    from ..rebuild import rebuild as rebuild_database

    with progress_shown(as_json) as progress:
        facts = rebuild_database(desk.config, desk.store, desk.chain, progress).to_json()
    if as_json:
        print_json(facts)
    else:
        rows = [(name, facts[name]) for name in ("files", "batches", "statements", "decisions")]
        print_table("Made again", ("what", "count"), rows)
        for reason in facts["unread"]:
            click.echo(str(shown(f"not read: {reason}")), err=True)
    sys.exit(EXIT_REFUSED if facts["unread"] else 0)


@cli.command()
@pass_desk
def witness(desk: Desk) -> None:
    """Serve as a witness: recompute proposed batches from the raw files ingested here, sign them or say what differs.

    Example: python -m oracle --config witness.yaml witness
    """
    from ..witness import serve

    serve(desk.config)
