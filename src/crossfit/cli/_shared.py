"""What several commands share: folders, the console, and the features of the emoji."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

__all__ = ["FEATURES", "Folder", "console"]

FEATURES = click.option(
    "--features",
    type=click.Choice(["auto", "pretrained", "plain"]),
    default="auto",
    help="Pretrained networks from crossfit-wheels, or descriptors that need no weights.",
)


class Folder(click.Path):
    """A folder that exists or can be made; anything else is reported before any work."""

    def __init__(self) -> None:
        super().__init__(file_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        # click rejects regular files only, and looks at the path itself only.
        inner = next(part for part in (path.absolute(), *path.absolute().parents) if part.exists())
        if not inner.is_dir():
            self.fail(f"{str(inner)!r} is not a folder", param, ctx)
        return path


def console(stderr: bool = False) -> Any:
    """Return a rich console; in a pipe every row stays on one line, for grep and cut."""
    from rich.console import Console

    found = Console(stderr=stderr)
    return found if found.is_terminal else Console(stderr=stderr, width=240)
