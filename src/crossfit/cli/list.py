"""``crossfit list``: the installed methods, extractors, data sets and experiments."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from crossfit._text import printable
from crossfit.cards import GROUPS
from crossfit.cli._shared import console

if TYPE_CHECKING:
    from crossfit.registry import Entry

__all__ = ["list_"]

SECTIONS = [group.removeprefix("crossfit.") for group in GROUPS]


EXAMPLES = """\b
Examples:
  crossfit list
  crossfit list methods
  crossfit list extractors --json
"""


@click.command("list", epilog=EXAMPLES)
@click.argument("section", required=False, type=click.Choice(SECTIONS))
@click.option("--json", "as_json", is_flag=True, help="Print the complete cards as JSON.")
@click.option("-v", "--verbose", is_flag=True, help="Show tracebacks of broken plugins.")
def list_(section: str | None, as_json: bool, verbose: bool) -> None:
    """List the installed methods, extractors, data sets and experiments."""
    from crossfit import registry

    found = registry.entries(f"crossfit.{section}" if section else None)
    if as_json:
        rows = [
            {
                "kind": entry.kind,
                "name": entry.name,
                "distribution": entry.distribution,
                "version": entry.version,
                "status": entry.status,
                "error": entry.error,
                "shadowed": entry.shadowed,
                "card": None if entry.card is None else dataclasses.asdict(entry.card),
            }
            for entry in found
        ]
        click.echo(json.dumps(rows, indent=2, default=str))
        return
    _print_entries(found)
    for entry in found:
        if verbose and entry.error:
            click.echo(f"\n{entry.distribution} {entry.version}, {entry.kind} {entry.name}:")
            click.echo(printable(entry.error.rstrip(), lines=True))


def _print_entries(found: Sequence[Entry]) -> None:
    from rich.table import Table
    from rich.text import Text

    if not found:
        click.echo("nothing is installed")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("kind", "name", "from", "summary"):
        table.add_column(heading, no_wrap=heading != "summary")
    for entry in found:
        if entry.card is not None:
            summary = Text(printable(entry.card.summary))
        else:
            last = entry.error.strip().splitlines()[-1]
            summary = Text(printable(f"{entry.status}: {last}"), style="red")
        if entry.shadowed:
            other = f"{entry.distribution}:{entry.name}"
            summary = Text(f"hidden by crossfit's own; use the name {other}: ").append(summary)
        source = printable(f"{entry.distribution} {entry.version}")
        table.add_row(entry.kind, Text(printable(entry.name)), Text(source), summary)
    console().print(table)
