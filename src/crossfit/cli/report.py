"""``crossfit report``: a page and tables with the results of runs."""

from __future__ import annotations

from pathlib import Path

import click

from crossfit.cli._shared import TABLES, Folder, check_not_foreign

__all__ = ["report"]


EXAMPLES = """\b
Examples:
  crossfit report emoji-plain
  crossfit report emoji-plain other-run --out page/
  crossfit report emoji-plain --results results/
"""


@click.command(epilog=EXAMPLES)
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--store", type=Folder(), default=Path("crossfit-runs"),
    show_default=True, help="Folder with the results.",
)  # fmt: skip
@click.option(
    "-o", "--out", type=Folder(),
    default=Path("crossfit-report"), show_default=True,
    help="Folder for report.html and the tables.",
)  # fmt: skip
@click.option(
    "--root", type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="Folder of the data sets, for the gallery.  [default: the run's, else CROSSFIT_DATA]",
)  # fmt: skip
@click.option(
    "--results", type=Folder(),
    help="Write the result of each cell as JSON to this folder too, for `crossfit board`.",
)  # fmt: skip
@click.option(
    "--items", type=click.IntRange(min=1),
    help="Items per query in the gallery.  [default: 9 pictures, 5 texts]",
)  # fmt: skip
def report(
    runs: tuple[str, ...],
    store: Path,
    out: Path,
    root: Path | None,
    results: Path | None,
    items: int | None,
) -> None:
    """Report runs in an HTML page, and in tables in Markdown, LaTeX and CSV.

    Methods that were evaluated on the same test queries share a leaderboard, even if they are from
    different runs. An earlier report in the output folder is replaced.
    """
    from crossfit.experiment.evaluate import TOP
    from crossfit.report.from_runs import report_runs

    if items is not None and items > TOP:
        raise click.UsageError(
            f"--items must be at most {TOP}, the number of items that are stored per query, got "
            f"{items}"
        )
    written = [out / name for name in ("report.html", *TABLES)]
    check_not_foreign(written)
    page = report_runs(runs, store, out, root=root, items=items)
    click.echo(f"report: {page}")
    click.echo(f"tables: {', '.join(str(path) for path in written[1:])}")
    if results is not None:
        from crossfit.report.exported import write_results
        from crossfit.report.format import counted

        click.echo(f"results: {counted(len(write_results(runs, store, results)), 'file')} in "
                   f"{results}")  # fmt: skip
