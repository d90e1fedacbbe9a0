"""``crossfit data``: what is there of the data sets in a folder, and what is missing."""

from __future__ import annotations

from collections.abc import Sequence

import click

from crossfit._text import printable
from crossfit.cli._shared import console, settings_of

__all__ = ["data"]

#: Number of missing files that are listed without ``--all``.
_LISTED = 10


EXAMPLES = """\b
Examples:
  crossfit data --root ~/data
  crossfit data flickr8k --root ~/data --split official
"""


@click.command(epilog=EXAMPLES)
@click.argument("names", nargs=-1)
@click.option(
    "--root", type=click.Path(exists=True, file_okay=False),
    help="Folder that holds a folder for each data set, or the data set itself.  [default: "
    "CROSSFIT_DATA]",
)  # fmt: skip
@click.option("--split", help="Check one way to split the data sets.  [default: all of them]")
@click.option(
    "--params", multiple=True, metavar="JSON|KEY=VALUE",
    help="Options of the loader: features=raw, strict=false; repeatable.",
)  # fmt: skip
@click.option("--all", "every", is_flag=True, help="List all missing files, not only the first.")
def data(
    names: tuple[str, ...], root: str | None, split: str | None, params: tuple[str, ...],
    every: bool,
) -> None:  # fmt: skip
    """Check local copies of data sets, and list the files that are missing.

    NAMES are names of data sets, as `crossfit list` shows them; by default, all of which the folder
    holds a copy. The exit code is 1 if a copy is incomplete.
    """
    from rich.text import Text

    from crossfit.datasets.copies import check_copy

    chosen = names or _those_there(root)
    options = settings_of(params)
    screen = console()
    wrong = False
    for name in chosen:
        try:
            folder, parts = check_copy(name, root, split, options)
        except TypeError as error:  # an option that the loader does not have
            raise click.UsageError(f"--params: {error}") from None
        place = "part of its distribution" if folder is None else f"in {folder}"
        screen.print(Text.assemble((printable(name), "bold"), f" {printable(str(place))}"))
        for part in parts:
            line = f"  {part.way:12s} {part.name:10s} "
            if not part.problem:
                items = ", ".join(f"{n:,} {view}" for view, n in (part.items or {}).items())
                line += f"{part.rows:,} rows: {items}"
            screen.print(Text(printable(line + part.problem)), soft_wrap=True)
        missing = list(dict.fromkeys(file for part in parts for file in part.missing))
        for line in _listed(missing, every):
            screen.print(Text(printable(line)), soft_wrap=True)
        wrong = wrong or any(part.problem for part in parts)
    if wrong:
        raise SystemExit(1)


def _those_there(root: str | None) -> list[str]:
    """Return the names of the data sets that have a folder."""
    import os
    from pathlib import Path

    from crossfit.datasets import available

    given = os.environ.get("CROSSFIT_DATA") if root is None else root
    if not given:
        raise click.UsageError("name data sets, or set --root or CROSSFIT_DATA to their folder")
    folder = Path(given).expanduser()
    found = [card.name for card in available() if (folder / card.name).is_dir()]
    if not found:
        raise click.UsageError(
            f"{str(folder)!r} has no folder with the name of a data set; name the data set"
        )
    return found


def _listed(missing: Sequence[str], every: bool) -> list[str]:
    if not missing:
        return []
    shown = missing if every else missing[:_LISTED]
    more = len(missing) - len(shown)
    count = f"{len(missing):,} file{'s' if len(missing) > 1 else ''}"
    lines = [f"  missing: {count}", *(f"    {name}" for name in shown)]
    return lines + ([f"    and {more:,} more; --all lists them"] if more else [])
