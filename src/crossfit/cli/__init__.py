"""The command line, ``crossfit`` or ``python -m crossfit``."""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Sequence
from typing import TextIO

from crossfit._text import printable

__all__ = ["main"]


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line; errors are one line, and the exit code shows the outcome.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted. With ``CROSSFIT_DEBUG`` set, an
    error shows its traceback.
    """
    try:
        import click

        from crossfit.cli.commands import cli
    except KeyboardInterrupt:
        print("crossfit: interrupted", file=sys.stderr)
        sys.exit(130)

    _write_anything()
    warnings.showwarning = _one_line_warning
    try:
        cli.main(args, prog_name="crossfit", standalone_mode=False)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("crossfit: interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output has gone, as with `crossfit list | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (ValueError, LookupError, OSError, ImportError, RecursionError) as error:
        if os.environ.get("CROSSFIT_DEBUG"):
            raise
        message = str(error) or type(error).__name__
        click.echo(f"crossfit: {printable(' '.join(message.split()))}", err=True)
        sys.exit(1)


def _write_anything() -> None:
    """Write characters that the output cannot encode as escapes, in place of an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _one_line_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    if issubclass(category, UserWarning):
        told = printable(" ".join(str(message).split()))
        print(f"crossfit: warning: {told}", file=sys.stderr)
