"""``crossfit demo``: a comparison of methods on the emoji data set."""

from __future__ import annotations

import time
from pathlib import Path

import click

from crossfit.cli._emoji import check_page_folders, write_gallery, write_winner_of
from crossfit.cli._shared import FEATURES, TABLES, Folder, check_not_foreign, emoji_experiment
from crossfit.cli.run import run_and_print
from crossfit.cli.serve import serve_gallery

__all__ = ["demo"]


EXAMPLES = """\b
Examples:
  crossfit demo
  crossfit demo --serve
"""


@click.command(epilog=EXAMPLES)
@click.option(
    "-o", "--out", type=Folder(), default=Path("demo"),
    show_default=True, help="Folder for report.html, the tables and the results.",
)  # fmt: skip
@FEATURES
@click.option("--serve", is_flag=True, help="Then serve the page that searches all emoji.")
@click.option(
    "--port", type=click.IntRange(0, 65_535),
    help="Port of the page; 0 for any free one.  [default: 8000]",
)  # fmt: skip
@click.option("--no-open", is_flag=True, help="Do not show the page in the browser.")
def demo(out: Path, features: str, serve: bool, port: int | None, no_open: bool) -> None:
    """Fit and compare methods on the emoji data set, and write a report.

    With --serve, the page of `crossfit serve` then searches all emoji by CCA; Ctrl-C stops it.
    """
    if not serve:
        if port is not None or no_open:
            raise click.UsageError("--port and --no-open belong to the page; add --serve")
        _compare(out, features)
        click.echo('next:   crossfit search "a red heart"')
        return
    from crossfit.serving.start import check_installed

    check_installed("crossfit.serving.server")
    from crossfit.serving import server
    from crossfit.serving.limits import Limits

    winner, gallery = out / "winner", out / "emoji"
    check_page_folders(winner, gallery)
    with server.bind("127.0.0.1", 8000 if port is None else port) as listener:
        _compare(out, features)
        write_winner_of(features, winner)
        write_gallery(gallery)
        serve_gallery(listener, winner, gallery, limits=Limits(), show=not no_open)


def _compare(out: Path, features: str) -> None:
    """Run the experiment, and write its report."""
    from crossfit import registry
    from crossfit.experiment import Store

    begun = time.perf_counter()
    check_not_foreign([out / name for name in TABLES])
    experiment = emoji_experiment(features)
    counts = registry.get("emoji", "crossfit.datasets").counts
    click.echo(
        f"{counts['train']} training, {counts['val']} validation and {counts['test']} test emoji "
        "with their keywords"
    )
    store = Store(out / "store")
    record = run_and_print(experiment, store)
    from crossfit.report import report_runs

    page = report_runs([record.name], store, out)
    click.echo(f"report: {page}   ({time.perf_counter() - begun:.0f} s in all)")
