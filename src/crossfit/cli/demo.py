"""``crossfit demo``: methods compared on the emoji set."""

from __future__ import annotations

from pathlib import Path

import click

from crossfit.cli._shared import FEATURES, Folder

__all__ = ["demo"]


@click.command()
@click.option(
    "-o", "--out", type=Folder(), default=Path("demo"),
    show_default=True, help="Folder for report.html.",
)  # fmt: skip
@FEATURES
def demo(out: Path, features: str) -> None:
    """Fit and compare methods on the emoji set and write a report."""
    from crossfit.experiment.demo import run_demo

    run_demo(out, features)
