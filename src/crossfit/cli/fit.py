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
    COLUMNS,
    EXTRACTORS,
    KIND_OF,
    Folder,
    check_new_folder,
    features_given,
    modality_of,
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
@EXTRACTORS
@COLUMNS
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
    features: tuple[str, ...],
    image: str | None,
    text: str | None,
    audio: str | None,
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
    given = features_given(features, image, text, audio)
    check_new_folder(out, "--save")
    options = pairs_options(pairs, columns, given)
    for role, value in (("validation", validation), ("test", test)):
        if value is not None:
            options[role] = _share(value)
    params = name_values(settings, "--set")

    from crossfit.experiment.own import read_own

    dataset = read_own(pairs, options, {})
    experiment = _experiment(
        method, pairs, dataset, given, options, params, trials, metrics, seed, _name(out)
    )
    _check(dataset, given)
    model, record = _run(experiment, store)
    _write(model, record, dataset, pairs, options, given, params, out)


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
    from sklearn.pipeline import Pipeline

    import crossfit
    from crossfit.datasets.features import is_features, manifest_of
    from crossfit.datasets.pairs import columns_read
    from crossfit.winners import kind_of_items, versions, write_winner

    columns: Any
    described = dict(features)
    if is_features(pairs):
        manifest = manifest_of(pairs)
        columns = manifest.get("columns")
        described = {**(manifest.get("features") or {}), **features}
        source = manifest.get("source") or Path(pairs).name
        if (Path(pairs) / "extractors").is_dir():
            embedded = crossfit.load(Path(pairs) / "extractors")
            model = Pipeline([("embedded", embedded), *model.steps])
    else:
        read = {key: value for key, value in options.items() if key not in ("test", "validation")}
        columns, source = columns_read(pairs, **read), Path(pairs).name
    views = dataset["train"].views
    kinds = {
        view: KIND_OF.get(str(modality_of(described.get(view))))
        or kind_of_items(views.distinct(view)[0])
        for view in views.names
    }
    cell = run.cells[0]
    command = shlex.join(["crossfit", *sys.argv[1:]])
    record = {
        "format": 1,
        "method": cell.label,
        "views": list(views.names),
        "kinds": kinds,
        "columns": columns,
        "features": described,
        "settings": {**params, **dict(cell.chosen)},
        "tuning": dict(cell.tuning),
        "data": {
            "name": Path(source).stem,
            "source": source,
            "pairs": {name: len(split) for name, split in dataset.splits.items()},
            "groups": {name: len(set(split.groups.tolist())) for name, split in
                       dataset.splits.items()},
            "revision": dataset.revision,
        },
        "measures": _measures(cell),
        "beside": {other.label: _measures(other) for other in run.cells[1:] if
                   other.status == "done"},
        "chance": {str(way): dict(values) for way, values in cell.chance.items()},
        "warnings": list(cell.warnings),
        "command": command,
        "versions": versions(),
    }  # fmt: skip
    write_winner(model, record, out, _card(model, record))
    click.echo(f"wrote the method, fitted on the training pairs, to {out}")
    text = next((view for view, kind in kinds.items() if kind == "text"), None)
    if text is not None:
        click.echo(f'next: crossfit search {shlex.quote(str(out))} "WORDS" --gallery FOLDER')


def _measures(cell: Any) -> list[dict[str, Any]]:
    return [
        {"direction": str(way), "measure": metric, "value": found["mean"], "low": found["low"],
         "high": found["high"], "n": found["n"]}
        for way, by_metric in cell.results.items() for metric, found in by_metric.items()
    ]  # fmt: skip


def _card(model: Any, record: dict[str, Any]) -> str:
    """Return the model card."""
    import crossfit

    about = record["data"]
    sizes = [f"{n} in {split} ({about['groups'][split]} groups)" for split, n in
             about["pairs"].items()]  # fmt: skip
    columns = ", ".join(f"{view}: {column}" for view, column in (record["columns"] or {}).items())
    return crossfit.model_card(
        model,
        data={"name": about["name"], "file": about["source"], "pairs": ", ".join(sizes),
              "revision": about["revision"], **({"columns": columns} if columns else {})},
        measures=[{**row, "level": 0.95} for row in record["measures"]],
        command=record["command"],
    )  # fmt: skip
