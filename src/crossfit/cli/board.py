"""``crossfit board``: a static site with the leaderboards of results."""

from __future__ import annotations

from pathlib import Path

import click

from crossfit.cli._shared import Folder

__all__ = ["board"]


EXAMPLES = """\b
Examples:
  crossfit report emoji-plain --results results/
  crossfit board results/ --out site/
"""


@click.command(epilog=EXAMPLES)
@click.argument(
    "results", nargs=-1, required=True, metavar="RESULTS...",
    type=click.Path(exists=True, path_type=Path),
)  # fmt: skip
@click.option(
    "-o", "--out", type=Folder(), default=Path("crossfit-board"), show_default=True,
    help="Folder of the site. A site that is there already is replaced.",
)  # fmt: skip
@click.option("--title", default="Leaderboards", show_default=True, help="Heading.")
def board(results: tuple[Path, ...], out: Path, title: str) -> None:
    """Build a static site with leaderboards of results, one per data set and protocol.

    RESULTS are files that `crossfit report RUN --results FOLDER` wrote, or folders of them, of
    one's own and of others. Results on other queries or with another relevance are rejected.
    """
    from crossfit.report.site import write_board

    click.echo(f"site: {write_board(results, out, title=title)}")
