"""``crossfit fit``: from a user's own pairs to a fitted method that searches."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from crossfit._text import printable
from crossfit.cli._shared import (
    FEATURES_AND_COLUMNS,
    Folder,
    check_new_folder,
    name_values,
    pairs_options,
)

__all__ = ["fit"]

EXAMPLES = """\b
Examples:
  crossfit fit cca pairs.csv --image efficientnet-lite0 --text minilm --tune 20 --save winner/
  crossfit fit cca features/ --tune 20 --save winner/
  crossfit fit kcca pairs.csv --image grid --text minilm --set n_components=64 --test test.csv \\
      --save winner/
  crossfit search winner/ "a dog on the beach" --gallery photos/
"""


@click.command(epilog=EXAMPLES)
@click.argument("method")
@click.argument("pairs", type=click.Path(exists=True))
@FEATURES_AND_COLUMNS
@click.option("--set", "settings", multiple=True, metavar="PARAM=VALUE",
              help="Set a parameter of the method; repeatable.")  # fmt: skip
@click.option("--tune", "trials", type=click.IntRange(min=1), metavar="TRIALS",
              help="Choose the other parameters in this number of trials.")  # fmt: skip
@click.option("--validation", metavar="SPLIT|SHARE|FILE",
              help="Pairs that trials are scored on.  [default: the split val if there is one, "
              "else three folds of the training pairs]")  # fmt: skip
@click.option("--test", metavar="SPLIT|SHARE|FILE",
              help="Pairs that the result is measured on.  [default: the split test if there is "
              "one, else a fifth of the pairs]")  # fmt: skip
@click.option("-m", "--metric", "metrics", multiple=True, metavar="NAME",
              help="Measure such as mrr, r@1 or medr; repeatable, the main one first.  [default: "
              "mrr, or map@all with labels; r@1, r@5, r@10, medr]")  # fmt: skip
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**32 - 1),
              help="Random seed of the method and of the search.")  # fmt: skip
@click.option("--store", default="crossfit-runs", show_default=True, type=Folder(),
              help="Folder of the results, from which the same command continues.")  # fmt: skip
@click.option("--save", "out", type=Folder(), required=True, help="New folder for the winner.")
def fit(
    method: str,
    pairs: str,
    features: dict[str, Any],
    columns: tuple[str, ...],
    settings: tuple[str, ...],
    trials: int | None,
    validation: str | None,
    test: str | None,
    metrics: tuple[str, ...],
    seed: int,
    store: Path,
    out: Path,
) -> None:
    """Fit METHOD on PAIRS, measure it next to CCA and chance, and save it for search.

    PAIRS is a table, a folder of pictures and texts, tar shards, or a folder of `crossfit embed`.
    All captions of a picture are on one side of every division, settings are chosen on training
    and validation pairs alone, and the saved model is fitted on the training pairs. The folder has
    the extractors, the measures with intervals, and how to repeat it.
    """
    check_new_folder(out, "--save")
    options = pairs_options(pairs, columns, features)
    for role, value in (("validation", validation), ("test", test)):
        if value is not None:
            options[role] = _share(value)
    params = name_values(settings, "--set")

    from crossfit.experiment.own import read_own

    dataset = read_own(pairs, options, {})
    experiment = _experiment(
        method, pairs, dataset, features, options, params, trials, metrics, seed, _name(out)
    )
    _check(dataset, features)
    model, record = _run(experiment, store)
    _write(model, record, dataset, pairs, options, features, params, out)


def _name(out: Path) -> str:
    kept = "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in out.name)
    return f"fit-{kept.strip('-') or 'winner'}"


def _share(value: str) -> str | float:
    try:
        return float(value)
    except ValueError:
        return value


def _experiment(
    method: str,
    pairs: str,
    dataset: Any,
    features: dict[str, Any],
    options: dict[str, Any],
    params: dict[str, Any],
    trials: int | None,
    metrics: tuple[str, ...],
    seed: int,
    name: str,
) -> Any:
    """Return the experiment: the method, and CCA with its defaults if it is another."""
    from crossfit.experiment import SpecError
    from crossfit.experiment.spec import Experiment
    from crossfit.winners import BY_LABEL, METRICS

    own: dict[str, Any] = {"method": method, "label": method, "params": params}
    if trials is not None:
        own["tune"] = "default"
    methods = [own]
    if method != "cca" or params or trials is not None:
        methods.append({"method": "cca", "label": "CCA with its defaults"})
    labelled = any(split.y is not None for split in dataset.splits.values())
    held_out = any(name in dataset for name in ("val", "validation", "dev"))
    tuning: dict[str, Any] = {"trials": trials, "seed": seed}
    tuning |= {"validation": True} if held_out else {"folds": 3}
    try:
        return Experiment(
            title=f"{method} on {Path(pairs).name}",
            name=name,
            dataset={"name": Path(pairs).stem, "table": os.path.abspath(pairs), **options},
            features=features,
            methods=methods,
            metrics=list(metrics or (BY_LABEL if labelled else METRICS)),
            seeds=[seed],
            tuning=None if trials is None else tuning,
        )
    except SpecError as error:  # the message has keys of an experiment file
        words = (
            str(error).replace("methods[0].params.", "--set ").replace("features.", "--features ")
        )
        raise SpecError(words) from None


def _check(dataset: Any, features: dict[str, Any]) -> None:
    """Raise before any work if a view does not exist or is not described by numbers."""
    views = dataset["train"].views if "train" in dataset else None
    if views is None:
        return
    for view in features:
        if view not in views and view != "*":
            raise click.UsageError(
                f"--features name the view {view!r}, but the pairs have {', '.join(views.names)}"
            )


def _run(experiment: Any, store: Path) -> tuple[Any, Any]:
    """Run the experiment, print its results, and return the fitted method and its cell."""
    from crossfit.cli.run import listener_of, print_results
    from crossfit.experiment import run as run_experiment
    from crossfit.experiment.best import refit
    from crossfit.experiment.store import Store

    listener = listener_of(experiment.title)
    command = shlex.join(["crossfit", *sys.argv[1:]])
    try:
        record = run_experiment(
            experiment, Store(store), listener=listener, command=command, retry_failed=True
        )
    except KeyboardInterrupt:
        click.echo("interrupted; repeat the command to continue", err=True)
        raise
    cell = record.cells[0]
    if cell.status == "failed":
        reason = cell.problem.rstrip(".")
        raise ValueError(f"{cell.label} failed: {reason}; the traceback is in {cell.folder}")
    if cell.status != "done":
        raise ValueError(f"{cell.label} has no result: {cell.reason or cell.status}")
    print_results(record)
    for text in dict.fromkeys(cell.warnings):
        click.echo(printable(f"warning: {text.removeprefix('UserWarning: ')}"), err=True)
    for other in record.cells[1:]:
        if other.status != "done":
            click.echo(printable(f"{other.label} has no result: {other.problem}"), err=True)
    for key, value in cell.chosen.items():
        click.echo(printable(f"  {key} = {value}"))
    return refit(record, cell), record


def _write(
    model: Any,
    run: Any,
    dataset: Any,
    pairs: str,
    options: dict[str, Any],
    features: dict[str, Any],
    params: dict[str, Any],
    out: Path,
) -> None:
    from crossfit.cli._winners import measures_of_cell, save_winner

    cell = run.cells[0]
    record = save_winner(
        model, out, method=cell.label, pairs=dataset, source=pairs, options=options,
        features=features, measures=measures_of_cell(cell),
        settings={**params, **dict(cell.chosen)},
        tuning=dict(cell.tuning),
        beside={other.label: measures_of_cell(other) for other in run.cells[1:]
                if other.status == "done"},
        chance={str(way): dict(values) for way, values in cell.chance.items()},
        warnings=list(cell.warnings),
    )  # fmt: skip
    click.echo(f"wrote the method, fitted on the training pairs, to {out}")
    text = next((view for view, kind in record["kinds"].items() if kind == "text"), None)
    if text is not None:
        click.echo(f'next: crossfit search {shlex.quote(str(out))} "WORDS" --gallery FOLDER')
