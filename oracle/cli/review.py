"""The ``review`` commands: held device-days and the signed decisions about them."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..units import format_kwh
from .desk import EXIT_DECISION_REFUSED, Desk, cli, json_option, parse_day, pass_desk, print_json, print_table

if TYPE_CHECKING:
    from ..store import Version


@cli.group()
def review() -> None:
    """Held device-days and the signed decisions about them.

    Example: python -m oracle review accept 1 2016-09-29 --reason "snow on the array, seen on the camera"
    """


@review.command("list")
@json_option
@pass_desk
def review_list(desk: Desk, as_json: bool) -> None:
    """Device-days that wait for a decision, with the rules and figures that hold them.

    Example: python -m oracle review list
    """
    from ..domain import DayState
    from ..reports import corrections, held_first_versions

    days = held_first_versions(desk.config, desk.store)
    later = [line for line in corrections(desk.store) if line.state is DayState.HELD]
    if as_json:
        print_json([gap.to_json() | {"version": 0} for gap in days] + [line.to_json() for line in later])
        return
    print_table(
        f"Held ({len(days) + len(later)})",
        ("device", "day", "version", "kWh", "reason"),
        [(gap.device_id, gap.day, 0, format_kwh(gap.energy_wh), gap.reason) for gap in days]
        + [(one.device_id, one.day, one.version, format_kwh(one.energy_wh), one.reason) for one in later],
    )


@review.command("conflict")
@click.argument("device", type=click.IntRange(min=1))
@click.argument("day")
@json_option
@pass_desk
def review_conflict(desk: Desk, device: int, day: str, as_json: bool) -> None:
    """Which file says what about a day on which files disagree.

    Example: python -m oracle review conflict 1 2016-09-29
    """
    from ..decisions import conflict_of

    said = conflict_of(desk.config, desk.store, device, parse_day(day))
    if as_json:
        print_json([asdict(one) | {"slots": {str(slot): wh for slot, wh in one.slots.items()}} for one in said])
        return
    rows = [(one.name, one.sha256[:12], slot, wh) for one in said for slot, wh in one.slots.items()]
    print_table(f"Said about device {device} {day}", ("file", "sha256", "slot", "Wh"), rows)


@review.command("choose")
@click.argument("device", type=click.IntRange(min=1))
@click.argument("day")
@click.option("--file", "file", required=True, help="Name, or start of the sha256, of the file whose values count.")
@click.option("--reason", required=True, help="Why; it is signed and travels with the batch.")
@json_option
@pass_desk
def review_choose(desk: Desk, device: int, day: str, file: str, reason: str, as_json: bool) -> None:
    """Settle a conflict by the values of one file; the slots are marked as edited, with the file as evidence.

    Example: python -m oracle review choose 1 2016-09-29 --file meter-late.csv --reason "read again at the meter"
    """
    from ..decisions import choose

    _show_decided(choose(desk.config, desk.store, desk.reviewer, device, parse_day(day), file, reason), day, as_json)


@review.command("edit")
@click.argument("device", type=click.IntRange(min=1))
@click.argument("day")
@click.option(
    "--slot", "slots", multiple=True, required=True, metavar="SLOT=WH", help="A slot (0 to 95) and its Wh; repeatable."
)
@click.option(
    "--evidence",
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The file that shows the figures; its sha256 is signed. Keep it: nobody else does.",
)
@click.option("--reason", required=True, help="Why; it is signed and travels with the batch.")
@json_option
@pass_desk
def review_edit(
    desk: Desk, device: int, day: str, slots: tuple[str, ...], evidence: Path, reason: str, as_json: bool
) -> None:
    """Give slots of a held device-day other figures, shown by evidence, and certify it.

    Example: python -m oracle review edit 1 2016-09-29 --slot 41=250 --evidence protocol.pdf --reason "read by hand"
    """
    from ..decisions import decide

    edits = {}
    for slot in slots:
        number, _, wh = slot.partition("=")
        if not (number.isascii() and number.isdigit() and wh.isascii() and wh.isdigit()):
            raise click.BadParameter(f"{slot!r} is not a slot and its Wh; write 41=250")
        edits[int(number)] = int(wh)
    with evidence.open("rb") as shown_by:
        sha256 = hashlib.file_digest(shown_by, "sha256").hexdigest()
    row = decide(
        desk.config,
        desk.store,
        desk.reviewer,
        device,
        parse_day(day),
        "edit",
        reason,
        edits=edits,
        evidence=sha256,
    )
    _show_decided(row, day, as_json)


def _show_decided(row: Version, day: str, as_json: bool) -> None:
    if as_json:
        facts = {"device_id": row.device_id, "day": day, "version": row.version, "energy_wh": row.energy_wh}
        print_json(facts | {"state": row.state.value, "reason": row.reason})
    else:
        version = f" version {row.version}" if row.version else ""
        click.echo(f"device {row.device_id} {day}{version} is {row.state.value}")


def _decision(name: str, summary: str) -> Callable[..., Any]:
    @review.command(name, help=f'{summary}\n\nExample: python -m oracle review {name} 1 2016-09-29 --reason "…"')
    @click.argument("device", type=click.IntRange(min=1))
    @click.argument("day")
    @click.option("--reason", required=True, help="Why; it is signed and travels with the batch.")
    @json_option
    @pass_desk
    def decided(desk: Desk, device: int, day: str, reason: str, as_json: bool) -> None:
        from ..decisions import decide

        _show_decided(
            decide(desk.config, desk.store, desk.reviewer, device, parse_day(day), name, reason), day, as_json
        )

    return decided  # type: ignore[no-any-return]


accept = _decision("accept", "Certify a held device-day in its measured, unsuspected slots.")
reject = _decision("reject", "Keep a device-day out of any batch.")


@review.command("clock")
@click.argument("device", type=click.IntRange(min=1))
@click.option("--from", "since", metavar="DAY", help="The day on which the shift begins, where `clocks` lists several.")
@click.option("--reason", required=True, help="Why; it is signed and kept with the correction.")
@json_option
@pass_desk
def review_clock(desk: Desk, device: int, since: str | None, reason: str, as_json: bool) -> None:
    """Correct the clock of a device as `clocks` offers it; the days that it moves are judged anew.

    The signed correction goes into the file that the sites file names as `clock_decisions`; witnesses need it too.

    Example: python -m oracle review clock 1 --reason "logger ran on summer time, seen at the site"
    """
    from ..decisions import correct_clock

    start = parse_day(since) if since else None
    shift = correct_clock(desk.config, desk.store, desk.reviewer, device, reason, start=start)
    if as_json:
        print_json(shift.to_json())
    else:
        click.echo(
            f"{abs(shift.minutes)} minutes are {'taken off' if shift.minutes > 0 else 'added to'} the stamps of device {device}"
        )


@review.command("import")
@click.argument("path", type=click.Path(path_type=Path, exists=True), required=False)
@json_option
@pass_desk
def review_import(desk: Desk, path: Path | None, as_json: bool) -> None:
    """Take in decisions that were signed elsewhere: a file, a folder of files, or the configured decisions folder.

    Each is checked as one made here. What is refused is kept with the reason; doing it again changes nothing. Ends with
    code 7 where a decision was refused now.

    Example: python -m oracle review import decisions/
    """
    from ..decisions import import_decisions
    from ..domain import DecisionState
    from ..pipeline import assess_all

    folder = path or desk.config.decisions_folder
    if folder is None:
        raise click.UsageError("name a file or folder, or set decisions_folder in the configuration")
    assess_all(desk.config, desk.store)
    received = import_decisions(desk.config, desk.store, folder)
    if as_json:
        print_json([one.to_json() for one in received])
    else:
        rows = [
            (one.name, one.about, one.state.value + (" before" if one.known else ""), one.reason) for one in received
        ]
        print_table(f"Decisions ({len(rows)})", ("file", "about", "state", "reason"), rows)
    if any(one.state is DecisionState.REFUSED and not one.known for one in received):
        sys.exit(EXIT_DECISION_REFUSED)
