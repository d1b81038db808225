"""The oracle's command line. Each command is a few lines: read the configuration, call the library, show the result.

Exit codes (also in docs/oracle.md): 0 done · 1 another error · 2 configuration, keys or usage · 3 input refused ·
4 the chain refuses · 5 no answer from the node · 6 too few witnesses · 7 a review decision is refused ·
8 a check did not verify · 9 status finds a problem · 130 interrupted.
"""

from __future__ import annotations

import hashlib
import json
import logging
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click
import structlog
from click.core import ParameterSource
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from .config import KeyFile, OracleConfig
from .errors import ConfigError, OracleError
from .units import format_kwh

# Validation pulls in pvlib and the chain web3, a second or two each: commands import what they need.
if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

    from .chain import Chain
    from .signer import Signer
    from .store import Store, Version
    from .watch import Step

EXIT_CHAIN, EXIT_REFUSED, EXIT_NOT_VERIFIED, EXIT_UNHEALTHY, EXIT_INTERRUPTED = 4, 3, 8, 9, 130


class Desk:
    """What commands share: configuration, database, chain and account, each opened when first needed."""

    def __init__(self, config_file: Path):
        self.config_file = config_file

    @property
    def is_configured(self) -> bool:
        """Whether there is a configuration, or one was asked for by name and is missed."""
        named = click.get_current_context().find_root().get_parameter_source("config_file")
        return named is not ParameterSource.DEFAULT or self.config_file.exists()

    @cached_property
    def config(self) -> OracleConfig:
        return OracleConfig.load(self.config_file)

    @cached_property
    def store(self) -> Store:
        from .store import Store

        return Store.open(self.config.database_url)

    @cached_property
    def chain(self) -> Chain:
        from .chain import Chain

        return Chain.open(self.config.network)

    @cached_property
    def account(self) -> Signer:
        from .signer import open_signer

        if self.config.key is None:
            raise ConfigError(
                f"{self.config.file} names no key, so nothing can be signed or sent; `keys create` makes one"
            )
        return open_signer(self.config.key)

    @cached_property
    def reviewer(self) -> LocalAccount:
        from .keys import load_account

        key = self.config.review_key or self.config.key
        if not isinstance(key, KeyFile):
            raise ConfigError(
                f"{self.config.file} names no keystore as review_key or key, so no decision can be signed"
            )
        return load_account(key)


pass_desk = click.make_pass_decorator(Desk)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON value on standard output.")


# -- showing ----------------------------------------------------------------------------------------


def shown(value: object) -> Text:
    """Text for a terminal: what files and people wrote must not steer it, so unprintable characters become a sign."""
    return Text("".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in str(value)))


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, ensure_ascii=True, sort_keys=False))


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    table = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for column in columns:
        table.add_column(
            column,
            justify="right" if column.endswith(("kWh", "rows", "slots", "count", "used", "refused")) else "left",
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(shown(cell) for cell in row))
    Console(width=None if sys.stdout.isatty() else 200).print(table)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "")


@contextmanager
def progress_shown(quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A progress callback that draws on a terminal (standard error) with rate and time left, and else does nothing."""
    if quiet or not sys.stderr.isatty():
        yield lambda what, done, total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield progress


def _configure_log(verbose: bool, log_file: Path | None) -> None:
    """Structured logs on standard error, or as JSON lines in a file. They carry neither keys nor readings."""
    target: TextIO = sys.stderr
    render: Any = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    if log_file:
        log_file.parent.mkdir(parents=True, exist_ok=True)
        target, render = log_file.open("a", encoding="utf-8"), structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO if verbose or log_file else logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(target),
        cache_logger_on_first_use=False,
    )


def utc_date(start: int) -> str:
    return datetime.fromtimestamp(start, UTC).strftime("%Y-%m-%d")


def _parse_day(text: str) -> int:
    """UTC seconds of a day given as 2016-07-01."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a day; write 2016-07-01") from None
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


# -- commands ---------------------------------------------------------------------------------------


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    default="wattmark.yaml",
    envvar="WATTMARK_CONFIG",
    show_default=True,
    help="The oracle's configuration.",
)
@click.option("--verbose", "-v", is_flag=True, help="Log what is done on standard error.")
@click.option(
    "--log-file", type=click.Path(path_type=Path, dir_okay=False), help="Log as JSON lines into this file instead."
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def cli(context: click.Context, config_file: Path, verbose: bool, log_file: Path | None, debug: bool) -> None:
    """From meter files to notarized, issued and checked energy certificates.

    Example: python -m oracle --config wattmark.yaml run inbox/
    """
    _configure_log(verbose, log_file)
    context.obj = Desk(config_file)


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
    from .intake import IngestedFile, inspect_unconfigured
    from .intake import inspect as inspect_file
    from .pipeline import ingest as ingest_files

    given = dict(one.partition("=")[::2] for one in assume)
    if given and not dry_run:
        raise click.UsageError("--assume is for --dry-run; what is kept is read as the sites file says")
    if dry_run:
        if given or not desk.is_configured:
            files = [inspect_unconfigured(path, given) for path in paths]
        else:
            files = [inspect_file(desk.config, path) for path in paths]
        if as_json:
            answers = [_dry_run_json(file) for file in files]
            print_json(answers[0] if len(answers) == 1 else answers)
            return
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
    sys.exit(EXIT_REFUSED if any(file.refusal for file in files) else 0)


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
    from .pipeline import assess_all
    from .sources import collect, states

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


def _dry_run_json(file: Any) -> dict[str, Any]:
    facts = file.to_json()
    agreed = {key: facts[key] for key in ("format", "devices", "slots", "energy_wh", "refused")}
    if not file.columns:
        return agreed
    return agreed | {"assumed": list(file.assumed), "columns": [asdict(column) for column in file.columns]}


@cli.command()
@json_option
@pass_desk
def status(desk: Desk, as_json: bool) -> None:
    """Health, and counts of files, rows, device-days, batches and acts on the chain.

    Ends with code 9 where something wants a hand: no node answers, the account cannot pay, a device-day is stuck.

    Example: python -m oracle status --json
    """
    from .reports import status as status_of

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
    from .chain import Chain
    from .keys import keystore_address
    from .metrics import health

    key = desk.config.key
    try:
        signer = keystore_address(key) if isinstance(key, KeyFile) else key.address if key else None
        return health(desk.store, Chain(desk.config.network), signer).to_json()
    except ConfigError as fault:
        return {"chain_answers": False, "problems": [str(fault)]}


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
    from .domain import DayState
    from .reports import corrections, held_first_versions

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
    from .pipeline import conflict_of

    said = conflict_of(desk.config, desk.store, device, _parse_day(day))
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
    from .pipeline import choose

    _show_decided(choose(desk.config, desk.store, desk.reviewer, device, _parse_day(day), file, reason), day, as_json)


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
    from .pipeline import decide

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
        _parse_day(day),
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
        from .pipeline import decide

        _show_decided(
            decide(desk.config, desk.store, desk.reviewer, device, _parse_day(day), name, reason), day, as_json
        )

    return decided  # type: ignore[no-any-return]


accept = _decision("accept", "Certify a held device-day in its measured, unsuspected slots.")
reject = _decision("reject", "Keep a device-day out of any batch.")


@cli.command()
@json_option
@pass_desk
def seal(desk: Desk, as_json: bool) -> None:
    """Put every accepted device-day into a batch and write its archive. Nothing new: nothing is done.

    Example: python -m oracle seal
    """
    from .pipeline import assess_all
    from .sealing import seal as seal_days

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
    from .issuance import notarize as notarize_batches

    with progress_shown(as_json) as progress:
        _show_sent(notarize_batches(desk.config, desk.store, desk.chain, desk.account, progress).to_json(), as_json)


@cli.command()
@json_option
@pass_desk
def issue(desk: Desk, as_json: bool) -> None:
    """Issue the certificates of notarized batches.

    Example: python -m oracle issue
    """
    from .issuance import issue as issue_certificates

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
    from .issuance import run as run_all

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
    from .watch import AcceleratedClock, Clock, Inbox, WallClock, watch

    if bool(accelerate) != bool(since):
        raise click.UsageError("--accelerate and --from go together")
    clock: Clock = WallClock()
    if accelerate and since:
        clock = AcceleratedClock(desk.chain, _parse_time(since), accelerate)

    def tell(step: Step) -> None:
        if as_json:
            print_json(step.to_json())
        else:
            click.echo(str(shown(_step_line(step))))

    # A service is ended by SIGTERM: as safe as Ctrl-C, and told apart from a failure.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    end = _parse_time(until) if until else None
    inbox = Inbox(paths) if not accelerate else Inbox(paths, settle_seconds=0)
    watch(desk.config, desk.store, desk.chain, desk.account, inbox, clock=clock, tell=tell, until=end)


def _step_line(step: Step) -> str:
    states = ", ".join(f"{count} {state}" for state, count in step.states.items())
    did = [
        f"{step.files} files" if step.files else "",
        f"{len(step.refused)} files refused" if step.refused else "",
        f"INTERIM {', '.join(root[:10] for root in step.interim)}" if step.interim else "",
        f"FINAL {', '.join(root[:10] for root in step.final)}" if step.final else "",
        f"{step.sent.transactions} transactions" if step.sent.transactions else "",
        *(f"failed: {act.key}: {act.error}" for act in step.sent.failed),
        *(f"waits: {reason}" for reason in step.waits),
    ]
    at = datetime.fromtimestamp(step.at, UTC).strftime("%Y-%m-%d %H:%M")
    return f"{at}  {'; '.join(filter(None, did)) or 'nothing new'}  [{states}]"


def _parse_time(text: str) -> int:
    """UTC seconds of a time given as 2016-07-14T22:00, which is UTC unless it carries an offset."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a time; write 2016-07-14T22:00") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


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
    from .issuance import confirm, debts_wh, issue, notarize
    from .pipeline import assess_all
    from .reports import corrections
    from .sealing import seal

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


@cli.command()
@json_option
@pass_desk
def rebuild(desk: Desk, as_json: bool) -> None:
    """Make the database again from raw files, archives and chain. End other commands first.

    Kept as they are: review decisions, what this process has signed, and the outbox.

    Example: python -m oracle rebuild
    """
    from .rebuild import rebuild as rebuild_database

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
    from .witness import serve

    serve(desk.config)


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
    from .chain import ChainView
    from .checks import check_archive
    from .domain import Verdict

    start = _parse_day(day) if day else None
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
    from . import bundle as bundles
    from .archive import read_archive, roots_in, write_whole
    from .chain import ChainView

    chain, folder = ChainView(desk.config.network), desk.config.archive_folder
    if kind == "statement":
        device, _, day = what.partition("/")
        start = _parse_day(day)
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
    from .reports import gaps as gap_report
    from .reports import gaps_csv, gaps_heat, gaps_svg

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
    from .findings import balance_report

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
    from .findings import clock_report

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
        click.echo(f"device {shift.device_id}, under file.clock_corrections, if a reviewer agrees:")
        click.echo("  - " + "\n    ".join(f"{key}: {json.dumps(value)}" for key, value in shift.correction.items()))


@cli.command()
@click.option("--device", type=int, help="One device alone.")
@json_option
@click.pass_obj
def estimates(desk: Desk, device: int | None, as_json: bool) -> None:
    """What missing slots probably held, by which method; for reports, never certified.

    \b
    Example: python -m oracle estimates --device 1
    """
    from .findings import estimates as estimated_days

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
    from .reports import export_csv, export_slots

    rows = export_slots(desk.config, device)
    if as_json:
        for row in rows:
            print_json(row)
    else:
        for line in export_csv(rows):
            click.echo(line, nl=False)


@cli.group()
def keys() -> None:
    """Keystores and device keys; files that only their owner can read.

    Example: python -m oracle keys create --keystore key.json --password-file password
    """


@keys.command("create")
@click.option(
    "--keystore",
    required=True,
    type=click.Path(path_type=Path),
    help="Where the encrypted key goes; never overwritten.",
)
@click.option(
    "--password-file",
    required=True,
    type=click.Path(path_type=Path),
    help="Holds the password; made at random if it is not there.",
)
@json_option
def keys_create(keystore: Path, password_file: Path, as_json: bool) -> None:
    """Make a new account and print its address.

    Example: python -m oracle keys create --keystore key.json --password-file password
    """
    from .keys import create_account

    address = create_account(KeyFile(keystore, password_file))
    if as_json:
        print_json({"address": address, "keystore": str(keystore)})
    else:
        click.echo(address)


@keys.command("device")
@click.argument("device_ids", nargs=-1, required=True, type=click.IntRange(min=1))
@json_option
@pass_desk
def keys_device(desk: Desk, device_ids: tuple[int, ...], as_json: bool) -> None:
    """Make the salt keys of devices. Copy them to the devices' witnesses, and to nobody else.

    Example: python -m oracle keys device 1 2
    """
    from .keys import create_device_key

    files = [create_device_key(desk.config.device_keys_folder, device_id) for device_id in device_ids]
    if as_json:
        print_json([str(file) for file in files])
    else:
        for file in files:
            click.echo(file)


@keys.command("show")
@json_option
@pass_desk
def keys_show(desk: Desk, as_json: bool) -> None:
    """The addresses this configuration signs with, without opening any key.

    Example: python -m oracle keys show
    """
    from .keys import keystore_address

    named = {"key": desk.config.key, "review_key": desk.config.review_key}
    addresses = {
        name: keystore_address(key) if isinstance(key, KeyFile) else key.address for name, key in named.items() if key
    }
    if as_json:
        print_json(addresses)
    else:
        print_table("Accounts", ("use", "address"), addresses.items())


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry of ``python -m oracle``: one clear line for an error, and the exit code that fits it."""
    debug = "--debug" in (sys.argv[1:] if arguments is None else arguments)
    try:
        cli.main(arguments, prog_name="python -m oracle", standalone_mode=False)
    except OracleError as fault:
        if debug:
            raise
        click.echo(f"error: {shown(' '.join(str(fault).split()))}", err=True)
        sys.exit(fault.exit_code)
    except click.ClickException as fault:
        fault.show()
        sys.exit(fault.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; run again to go on", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output closed it, as `| head` does.
        sys.stderr.close()
        sys.exit(0)
    except Exception as fault:
        if debug:
            raise
        click.echo(
            f"error: {type(fault).__name__}: {shown(' '.join(str(fault).split()))} (--debug shows where)", err=True
        )
        sys.exit(1)
