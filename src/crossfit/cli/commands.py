"""The group of all commands, which have one file each.

Commands import what they need when they run, so that ``--help`` is fast.
"""

from __future__ import annotations

import click

import crossfit
from crossfit.cli.board import board
from crossfit.cli.cache import cache
from crossfit.cli.check import check
from crossfit.cli.cite import cite
from crossfit.cli.data import data
from crossfit.cli.demo import demo
from crossfit.cli.diagnose import diagnose
from crossfit.cli.embed import embed
from crossfit.cli.evaluate import evaluate
from crossfit.cli.fit import fit
from crossfit.cli.index import index
from crossfit.cli.list import list_
from crossfit.cli.new import new
from crossfit.cli.push import push
from crossfit.cli.report import report
from crossfit.cli.run import run
from crossfit.cli.search import search
from crossfit.cli.serve import serve
from crossfit.cli.tune import tune

__all__ = ["cli"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(crossfit.__version__, prog_name="crossfit", message="%(prog)s %(version)s")
def cli() -> None:
    """Cross-modal retrieval: find texts for a picture, and pictures for a text.

    Start with `crossfit demo`. Errors are printed as one line; set the environment variable
    CROSSFIT_DEBUG=1 to see their traceback.
    """


for command in (
    board, cache, check, cite, data, demo, diagnose, embed, evaluate, fit, index, list_, new,
    push, report, run, search, serve, tune,
):  # fmt: skip
    cli.add_command(command)
