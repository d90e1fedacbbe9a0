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
    """Run the command line; an error is printed as one line.

    The exit code is 0 on success, 1 on failure, 2 for wrong usage and 130 if interrupted. If
    ``CROSSFIT_DEBUG`` is set, errors are shown with their traceback.
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
        # The reader of the output has closed the pipe, as in `crossfit list | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (ValueError, LookupError, OSError, ImportError, RecursionError) as error:
        if os.environ.get("CROSSFIT_DEBUG"):
            raise
        message = str(error) or type(error).__name__
        click.echo(f"crossfit: {printable(' '.join(message.split()))}", err=True)
        sys.exit(1)


def _write_anything() -> None:
    """Write characters that the output cannot encode as escapes, instead of raising an error."""
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
        text = printable(" ".join(str(message).split()))
        print(f"crossfit: warning: {text}", file=sys.stderr)
