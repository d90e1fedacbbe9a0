"""``crossfit cite``: citations of methods, extractors, data sets and experiments."""

from __future__ import annotations

import click

from crossfit._suggest import did_you_mean
from crossfit._text import printable
from crossfit.cards import GROUPS

__all__ = ["cite"]


EXAMPLES = """\b
Examples:
  crossfit cite acln
  crossfit cite flickr8k
"""


@click.command(epilog=EXAMPLES)
@click.argument("name")
def cite(name: str) -> None:
    """Print how to cite a method, extractor, data set or experiment."""
    from crossfit import registry

    for group in GROUPS:
        try:
            card = registry.get(name, group)
        except registry.NotInstalledError:
            continue
        click.echo(printable(card.citation, lines=True) or f"the card of {name} has no citation")
        return
    known = {entry.name for entry in registry.entries()}
    raise registry.NotInstalledError(
        f"no method, extractor, data set or experiment {name!r} is installed"
        + (did_you_mean(name, sorted(known)) or "; see `crossfit list`")
    )
