"""What several commands share: folders, the console, and the experiments on the emoji."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from crossfit.experiment import Experiment

__all__ = ["FEATURES", "TABLES", "Folder", "check_not_foreign", "console", "emoji_experiment"]

FEATURES = click.option(
    "--features",
    type=click.Choice(["auto", "pretrained", "plain"]),
    default="auto",
    help="Pretrained networks from crossfit-wheels, or descriptors that need no weights.",
)
#: The tables that a report consists of beside its page.
TABLES = tuple(f"leaderboard.{ending}" for ending in ("md", "tex", "csv"))


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


def check_not_foreign(files: Sequence[Path]) -> None:
    """Raise a UsageError if some of the files of a report exist: an earlier report has them all."""
    foreign = [str(path) for path in files if path.exists()]
    if foreign and len(foreign) < len(files):
        raise click.UsageError(
            f"{', '.join(foreign)} would be overwritten, but no report has been written there: "
            "choose another folder with --out"
        )


def emoji_experiment(features: str) -> Experiment:
    """Return the experiment on the emoji with the features that `FEATURES` takes."""
    from crossfit.experiment import Experiment
    from crossfit.experiment.cards import EMOJI_PLAIN
    from crossfit.experiment.spec import shipped_file
    from crossfit.registry import NotInstalledError

    if features != "plain":
        try:
            return Experiment.find("emoji-pretrained")
        except NotInstalledError:
            if features == "pretrained":
                raise NotInstalledError(
                    "--features: the pretrained networks are not installed; install "
                    "crossfit-wheels, or choose plain"
                ) from None
    return Experiment.from_file(shipped_file(EMOJI_PLAIN))
