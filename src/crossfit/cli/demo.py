"""``crossfit demo``: a comparison of methods on the emoji data set."""

from __future__ import annotations

import time
from pathlib import Path

import click

from crossfit.cli._shared import FEATURES, TABLES, Folder, check_not_foreign, emoji_experiment
from crossfit.cli.run import run_and_print

__all__ = ["demo"]


@click.command()
@click.option(
    "-o", "--out", type=Folder(), default=Path("demo"),
    show_default=True, help="Folder for report.html, the tables and the results.",
)  # fmt: skip
@FEATURES
def demo(out: Path, features: str) -> None:
    """Fit and compare methods on the emoji data set, and write a report."""
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
    click.echo('next:   crossfit search "a red heart"')
