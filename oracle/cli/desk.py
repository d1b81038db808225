"""What the commands share: the desk they work at, the group they belong to, and how they show things."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
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

from ..config import KeyFile, OracleConfig
from ..errors import ConfigError

# Validation pulls in pvlib and the chain web3, a second or two each: commands import what they need.
if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

    from ..chain import Chain
    from ..signer import Signer
    from ..store import Store

EXIT_CHAIN, EXIT_REFUSED, EXIT_NOT_VERIFIED, EXIT_UNHEALTHY, EXIT_INTERRUPTED = 4, 3, 8, 9, 130
EXIT_DECISION_REFUSED = 7


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
        from ..store import Store

        return Store.open(self.config.database_url)

    @cached_property
    def chain(self) -> Chain:
        from ..chain import Chain

        return Chain.open(self.config.network)

    @cached_property
    def account(self) -> Signer:
        from ..signer import open_signer

        if self.config.key is None:
            raise ConfigError(
                f"{self.config.file} names no key, so nothing can be signed or sent; `keys create` makes one"
            )
        return open_signer(self.config.key)

    @cached_property
    def reviewer(self) -> LocalAccount:
        from ..keys import load_account

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


def parse_day(text: str) -> int:
    """UTC seconds of a day given as 2016-07-01."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a day; write 2016-07-01") from None
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


def parse_time(text: str) -> int:
    """UTC seconds of a time given as 2016-07-14T22:00, which is UTC unless it carries an offset."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a time; write 2016-07-14T22:00") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


# -- the group --------------------------------------------------------------------------------------


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
