"""The oracle's command line. Each command is a few lines: read the configuration, call the library, show the result.

Exit codes (also in docs/oracle.md): 0 done · 1 another error · 2 configuration, keys, paths, ports or usage · 3 input refused ·
4 the chain refuses · 5 no answer from the node · 6 too few witnesses · 7 a review decision is refused ·
8 a check did not verify · 9 status finds a problem · 130 interrupted.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence

import click

from ..errors import ConfigError, OracleError

# Importing a module of commands is what makes the group know them.
from . import batches, evidence, files, keys, reports, review
from .desk import EXIT_INTERRUPTED, Desk, cli, shown

__all__ = ["Desk", "batches", "cli", "evidence", "files", "keys", "main", "reports", "review", "shown"]

_FULL = (errno.ENOSPC, errno.EDQUOT)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry of ``python -m oracle``: one clear line for an error, and the exit code that fits it."""
    debug = "--debug" in (sys.argv[1:] if arguments is None else arguments)
    try:
        cli.main(arguments, prog_name="python -m oracle", standalone_mode=False)
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
        text, code = _told(fault)
        click.echo(f"error: {shown(' '.join(text.split()))}", err=True)
        sys.exit(code)


def _told(fault: Exception) -> tuple[str, int]:
    """What is wrong and what mends it, and the exit code."""
    if isinstance(fault, OracleError):
        return str(fault), fault.exit_code
    if isinstance(fault, OSError) and fault.errno in _FULL:
        return f"{fault.strerror}; make room and run again", OracleError.exit_code
    if isinstance(fault, OSError) and fault.filename and fault.strerror:
        mend = "see that it may be read and written here, or name another path"
        return f"{fault.filename}: {fault.strerror}; {mend}", ConfigError.exit_code
    return f"{type(fault).__name__}: {fault} (--debug shows where)", OracleError.exit_code
