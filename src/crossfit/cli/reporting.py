"""The command that reports runs of experiments."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["report"]


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--store", type=click.Path(file_okay=False, path_type=Path), default=Path("crossfit-runs"),
    show_default=True, help="Folder with the results.",
)  # fmt: skip
@click.option(
    "-o", "--out", type=click.Path(file_okay=False, path_type=Path),
    default=Path("crossfit-report"), show_default=True,
    help="Folder for report.html and the tables.",
)  # fmt: skip
@click.option(
    "--root", type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="Folder of the data sets, for the gallery.  [default: CROSSFIT_DATA]",
)  # fmt: skip
def report(runs: tuple[str, ...], store: Path, out: Path, root: Path | None) -> None:
    """Report runs: one HTML page, and tables in Markdown, LaTeX and CSV.

    Methods that were evaluated on the same test queries share a leaderboard, also over several
    runs.
    """
    from crossfit.experiment.runs import report_runs

    page = report_runs(runs, store, out, root=root)
    click.echo(f"report: {page}")
    click.echo(f"tables: {', '.join(str(path) for path in sorted(out.glob('leaderboard.*')))}")
