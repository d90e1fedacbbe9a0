"""Folders that are given on the command line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

__all__ = ["Folder"]


class Folder(click.Path):
    """A folder that is there or can be made; what stands in its way is refused before any work."""

    def __init__(self) -> None:
        super().__init__(file_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        # click refuses regular files alone, and of the path itself alone.
        inner = next(part for part in (path.absolute(), *path.absolute().parents) if part.exists())
        if not inner.is_dir():
            self.fail(f"{str(inner)!r} is not a folder", param, ctx)
        return path
