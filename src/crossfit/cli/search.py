"""``crossfit search``: the emoji for a text, or the texts for a picture."""

from __future__ import annotations

import json
import sys

import click

from crossfit._text import printable
from crossfit.cli._shared import FEATURES

__all__ = ["search"]


@click.command()
@click.argument("query", required=False)
@click.option("--picture", type=click.Path(exists=True, dir_okay=False), help="Search by picture.")
@click.option("-k", type=click.IntRange(min=1), default=5, show_default=True, help="How many.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@FEATURES
def search(query: str | None, picture: str | None, k: int, as_json: bool, features: str) -> None:
    """Find the emoji for a text, or the texts for a picture.

    QUERY is a text, for instance "a red heart"; or give --picture FILE instead.
    """
    if (query is None) == (picture is None):
        raise click.UsageError("give a text or --picture FILE, one of the two")
    if query is not None and not query.strip():
        raise click.UsageError("the text is empty")
    if picture is not None:
        from crossfit.extraction.images import load_rgb

        load_rgb(picture)  # what is no picture is told before the work begins
    click.echo("reading all emoji: the first time may take minutes", err=True)
    from crossfit.experiment.demo import answer

    found = answer(query, picture, k, features)
    if as_json:
        # Escapes of JSON, where the output cannot take what it would need.
        readable = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
        click.echo(json.dumps(found, ensure_ascii=not readable, indent=2))
        return
    for row in found:
        line = f"{row['score']:6.3f}  {row['character']}  {row['name']}: {row['text']}"
        click.echo(printable(line))
