"""``crossfit tune``: an Optuna study of a method on a data set."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from crossfit._sizes import COSTS
from crossfit._text import printable
from crossfit.cli._shared import (
    Folder,
    check_new_folder,
    load_splits_of,
    name_values,
    with_splits,
)

__all__ = ["tune"]

STORAGE = "sqlite:///crossfit-studies.db"


EXAMPLES = """\b
Examples:
  crossfit tune cca --dataset emoji --validation val --features image=grid \\
      --features text=characters
  crossfit tune kcca --data pairs.csv --features image=grid --features text=minilm \\
      --trials 20 --save winner/
  crossfit tune cca --data features/ --metric r@1 --against dimensions \\
      --space 'reg={float: [0.01, 1], log: true}'
"""


@click.command(epilog=EXAMPLES)
@click.argument("method")
@click.option("--dataset", help="Name of an installed data set.")
@click.option(
    "--data", type=click.Path(exists=True),
    help="Your own pairs, in place of --dataset: a table or a folder as for `crossfit run`.",
)  # fmt: skip
@click.option(
    "--root", type=click.Path(exists=True, file_okay=False),
    help="Folder of the data sets.  [default: CROSSFIT_DATA]",
)  # fmt: skip
@click.option(
    "--features", multiple=True, metavar="VIEW=NAME[,NAME]",
    help="Extractors of a view, applied in order: text=characters, or "
    "text='[{name: lda, params: {n_topics: 50}}]' as in experiment files; repeatable.",
)  # fmt: skip
@click.option("--set", "settings", multiple=True, metavar="PARAM=VALUE",
              help="Fix a parameter of the method; repeatable.")  # fmt: skip
@click.option(
    "--space", multiple=True, metavar="PARAM=SPACE",
    help="Search space that replaces that of the method: reg='{float: [0.01, 1], log: true}'; "
    "repeatable.",
)  # fmt: skip
@click.option("--trials", default=50, show_default=True, type=click.IntRange(min=1),
              help="Total number of trials of the study, including earlier ones.")  # fmt: skip
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True),
              help="Seconds after which no new trial starts.")  # fmt: skip
@click.option("--storage", default=STORAGE, show_default=True, metavar="URL",
              help="sqlite:///FILE, postgresql://USER@HOST/NAME or journal:///FILE.")  # fmt: skip
@click.option("--study", help="Name of the study.  [default: derived from the search]")
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(min=1),
              help="Number of processes.")  # fmt: skip
@click.option("--metric", "metrics", multiple=True,
              help="Metric to maximise, such as r@1; further ones are only recorded.  [default: "
              "map@all with labels, else mrr]")  # fmt: skip
@click.option("--against", multiple=True, type=click.Choice(list(COSTS)),
              help="Cost to minimise at the same time; repeatable.")  # fmt: skip
@click.option("--folds", default=3, show_default=True, type=click.IntRange(min=2),
              help="Number of folds of the training pairs.")  # fmt: skip
@click.option("--validation", metavar="SPLIT",
              help="Split to score on, instead of cross-validation.")  # fmt: skip
@click.option("--train", default="train", show_default=True, metavar="SPLIT",
              help="Split to fit on.")  # fmt: skip
@click.option("--split", help="One of the official ways to split the data set.")
@click.option("--pruner", type=click.Choice(["median", "none"]),
              help="Rule that stops bad trials early.  [default: median, with --against none]",
              )  # fmt: skip
@click.option("--sampler", type=click.Choice(["tpe", "random", "grid", "cmaes", "gp", "nsga2"]),
              default="tpe", show_default=True, help="Algorithm that proposes settings.",
              )  # fmt: skip
@click.option("--epochs", is_flag=True, help="Also choose the number of epochs.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**32 - 1),
              help="Random seed of the search and of the method.")  # fmt: skip
@click.option("--save", "--out", "out", type=Folder(),
              help="New folder for a bundle of the best settings, fitted on all training pairs.",
              )  # fmt: skip
def tune(
    method: str,
    dataset: str | None,
    data: str | None,
    root: str | None,
    features: tuple[str, ...],
    settings: tuple[str, ...],
    space: tuple[str, ...],
    trials: int,
    timeout: float | None,
    storage: str,
    study: str | None,
    jobs: int,
    metrics: tuple[str, ...],
    against: tuple[str, ...],
    folds: int,
    validation: str | None,
    train: str,
    split: str | None,
    pruner: str | None,
    sampler: str,
    epochs: bool,
    seed: int,
    out: Path | None,
) -> None:
    """Search for the best settings of METHOD on training and validation pairs.

    The study is stored, and the same command continues it. Test pairs are not used.
    """
    if (dataset is None) == (data is None):
        raise click.UsageError("give the pairs by one of --dataset NAME and --data FILE")
    if data is not None and (root is not None or split is not None):
        raise click.UsageError("--root and --split belong to --dataset, not to --data")
    name = dataset if data is None else Path(data).stem
    if "test" in (train, validation):
        raise click.UsageError(
            "--train and --validation must not name the test split, which is for the final "
            "evaluation only; choose other splits"
        )
    if train == validation:
        raise click.UsageError(
            f"--train and --validation both name {train!r}, but settings must be scored on pairs "
            "that are not fitted on; choose two splits"
        )
    if out is not None:
        check_new_folder(out, "--save")
    from crossfit.model_selection.storages import check_storage

    check_storage(storage)
    pipeline, searched = _pipeline(
        method, name, name_values(features, "--features", chain=True),
        name_values(settings, "--set"), name_values(space, "--space"), seed,
    )  # fmt: skip
    if epochs and not any(name.endswith("__max_epochs") for name in pipeline.get_params(deep=True)):
        raise click.UsageError(
            f"--epochs is for neural methods, and {method} has no parameter max_epochs; omit it"
        )
    names = [train] if validation is None else [train, validation]
    if dataset is not None:
        loaded = load_splits_of(dataset, root, split, names)
    else:
        loaded = _own_pairs(str(data), names)
    _check_pairs(method, pipeline, loaded[train])

    from crossfit.experiment.task import reason_of
    from crossfit.experiment.tuning import Scoring
    from crossfit.model_selection import OptunaSearch
    from crossfit.model_selection.storages import without_password

    held_out = None if validation is None else loaded[validation]
    labelled = loaded[train].y is not None
    measured = [*(metrics or ["map@all" if labelled else "mrr"]), *against]
    scorers: dict[str, Any] = {name: name if name in COSTS else Scoring(name) for name in measured}
    search = OptunaSearch(
        pipeline,
        searched,
        scoring=scorers if len(scorers) > 1 else scorers[measured[0]],
        objectives=[measured[0], *against] if against else None,
        cv=folds if held_out is None else (held_out.views, held_out.y),
        n_trials=trials,
        timeout=timeout,
        sampler=sampler,
        pruner=pruner or ("none" if against else "median"),
        storage=storage,
        study_name=study,
        n_jobs=jobs,
        random_state=seed,
        refit=out is not None,
        refit_epochs=epochs,
    )
    again = _again()
    try:
        search.fit(loaded[train].views, loaded[train].y)
    except KeyboardInterrupt:
        if hasattr(search, "study_"):
            done = sum(trial.state.is_finished() for trial in search.study_.get_trials())
            click.echo(
                f"interrupted after {done} trials; the study {search.study_.study_name!r} is in "
                f"{without_password(storage)}; to continue: {again} --trials {trials}",
                err=True,
            )
        raise
    except (OSError, ImportError):  # among them, a storage that cannot be reached
        raise
    except Exception as error:
        where = ""
        if hasattr(search, "study_") and _has_traceback(search.study_.get_trials()):
            where = (
                "; the tracebacks of failed trials are in the study "
                f"{search.study_.study_name!r} in {without_password(storage)}"
            )
        raise ValueError(f"{reason_of(error).rstrip('.')}{where}") from error
    _print(search, trials, measured)
    if out is not None:
        _save(search, out, method, loaded, data, train, validation, features, measured[0])
        click.echo(f"wrote the method with the best settings, fitted on {train}, to {out}")
    click.echo(f"study {search.study_.study_name!r} in {without_password(storage)}")
    click.echo(f"to continue: {again} --trials {2 * max(trials, len(search.trials_))}")


def _save(
    search: Any,
    out: Path,
    method: str,
    pairs: Any,
    source: str | None,
    train: str,
    validation: str | None,
    features: Sequence[str],
    metric: str,
) -> None:
    """Write the best method with its record and its card."""
    from crossfit.cli._winners import measures_of_search, save_winner
    from crossfit.datasets import Dataset
    from crossfit.winners import BY_LABEL, METRICS

    n = len(search.trials_)
    scored = pairs[train if validation is None else validation]
    usual = METRICS if scored.y is None else BY_LABEL
    metrics = dict.fromkeys([*([] if metric in COSTS else [metric]), *usual])
    on = validation or f"{len(search.folds_)} folds of {train}"
    how = "" if validation else ", each fold scored by a model that was fitted on the others"
    own = {train: pairs[train]} | ({} if validation is None else {validation: scored})
    save_winner(
        search.best_estimator_, out, method=method,
        pairs=Dataset(pairs.card, own, pairs.target_names, pairs.revision),
        source=source, options={}, features=name_values(features, "--features", chain=True),
        measures=measures_of_search(search, scored, list(metrics)), split=on,
        notes=f"The settings are the best of {n} trials. The measures are on the pairs that chose "
        f"them ({on}{how}), and therefore somewhat better than those on new pairs: measure it on "
        "test pairs by `crossfit evaluate`.",
        settings=dict(search.best_params_),
        tuning={"trials": n, "on": on, "metric": metric, "score": float(search.best_score_)},
    )  # fmt: skip


def _pipeline(
    method: str,
    dataset: str | None,
    features: dict[str, Any],
    params: dict[str, Any],
    space: dict[str, Any],
    seed: int,
) -> tuple[Any, dict[str, Any]]:
    """Return a pipeline of features and method, and its search space by parameter name."""
    from sklearn.pipeline import Pipeline

    from crossfit.compose import ViewTransformer
    from crossfit.experiment import SpecError
    from crossfit.experiment.build import build_features, build_method, checked_settings
    from crossfit.experiment.spec import Experiment
    from crossfit.experiment.tuning import search_space

    try:
        experiment = Experiment(
            title=f"tuning {method}",
            dataset={"name": dataset},
            features=features,
            methods=[{"method": method, "params": params, "tune": space or "default"}],
            tuning={},
        )
    except SpecError as error:  # the message has keys of an experiment file
        words = str(error).replace("methods[0].tune.", "--space ")
        raise SpecError(words.replace("methods[0].params.", "--set ")) from None
    (spec,) = experiment.methods
    made = build_features(experiment.features)
    steps = [("features", ViewTransformer(made))] if made else []
    searched = search_space(spec)
    if not searched:
        raise ValueError(f"{method} has no search space of its own; use --space PARAM=SPACE")
    pipeline = Pipeline([*steps, ("method", build_method(spec, seed))])
    return pipeline, checked_settings(pipeline, searched, "--space")


def _own_pairs(path: str, names: list[str]) -> Any:
    """Load the user's pairs, whose test pairs are those of `crossfit run --data`."""
    from crossfit.experiment.data import load_splits
    from crossfit.experiment.task import PairSource

    loaded = load_splits(PairSource(Path(path).stem, {}, {}, {}, table=path))
    return with_splits(loaded.dataset, f"the table {path!r}", names)


def _check_pairs(method: str, pipeline: Any, pairs: Any) -> None:
    """Raise if labels or a view are missing, or if a method cannot take a view as it is."""
    from crossfit.compose import ALL_VIEWS
    from crossfit.experiment.data import labels_missing

    if problem := labels_missing(method, "auto", pairs.y):
        raise ValueError(problem)
    views = pairs.views
    stage = pipeline.named_steps.get("features")
    described = [] if stage is None else [view for view, _ in stage.transformers]
    if absent := [view for view in described if view not in (*views.names, ALL_VIEWS)]:
        raise ValueError(
            f"--features name the view {absent[0]!r}, but the pairs have {', '.join(views.names)}"
        )
    if ALL_VIEWS in described:
        return
    try:
        pipeline[-1].check_kinds(views, set(views.names) - set(described))
    except ValueError as error:
        words = str(error).replace("by a ViewTransformer or the key 'features'", "by --features")
        raise ValueError(words) from None


def _again() -> str:
    """Return the command as it was typed, without ``--trials``, ``--save`` and ``--out``."""
    kept: list[str] = []
    words = iter(sys.argv[1:])
    for word in words:
        if word in ("--trials", "--save", "--out"):
            next(words, None)
        elif not word.startswith(("--trials=", "--save=", "--out=")):
            kept.append(word)
    return shlex.join(["crossfit", *kept])


def _print(search: Any, trials: int, names: list[str]) -> None:
    from collections import Counter

    states = Counter(trial.state.name.lower() for trial in search.trials_)
    named = {"complete": "complete", "pruned": "pruned", "fail": "failed"}
    words = ", ".join(f"{states[state]} {word}" for state, word in named.items() if states[state])
    click.echo(f"{len(search.trials_)} of {trials} trials: {words}")
    others = "".join(
        f", {name} {_shown(value)}"
        for name, value in getattr(search, "best_scores_", {}).items() if name != names[0]
    )  # fmt: skip
    click.echo(f"best {names[0]} {search.best_score_:.4f}{others} with")
    front = hasattr(search, "front_")
    importance = {} if front else _importance(search.study_)
    for name, value in search.best_params_.items():
        # A parameter that is drawn for each view has one name per view.
        parts = [share for key, share in importance.items() if key.partition(".")[0] == name]
        share = f"   importance {sum(parts):.2f}" if parts else ""
        click.echo(f"  {name.removeprefix('method__')} = {_shown(value)}{share}")
    if front:
        click.echo("settings to which no other is superior in all objectives:")
        for trial in search.front_:
            values = ", ".join(f"{n} {_shown(trial.user_attrs['scores'][n])}" for n in names)
            chosen = ", ".join(
                f"{name.removeprefix('method__')} = {_shown(value)}"
                for name, value in trial.params.items()
            )
            click.echo(f"  {values}: {chosen}")
    for reason in dict.fromkeys(t.user_attrs.get("reason") for t in search.trials_):
        if reason is not None:
            n = sum(trial.user_attrs.get("reason") == reason for trial in search.trials_)
            click.echo(printable(f"{n} failed with: {' '.join(reason.split())}"), err=True)
    if _has_traceback(search.trials_):
        click.echo("the tracebacks of failed trials are in the study", err=True)


def _has_traceback(trials: Any) -> bool:
    return any("traceback" in trial.user_attrs for trial in trials)


def _importance(study: Any) -> dict[str, float]:
    """Return the importance of each parameter; empty with fewer than 10 or over 1000 trials."""
    import optuna

    complete = [t for t in study.get_trials(deepcopy=False) if t.state.name == "COMPLETE"]
    if not 10 <= len(complete) <= 1000:
        return {}
    # The trial with the method's own settings may be without some parameters.
    drawn = [t.params for t in complete if not t.user_attrs.get("defaults")]
    names = [name for name in drawn[0] if all(name in params for params in drawn)]
    try:
        return optuna.importance.get_param_importances(study, params=names)
    except (ValueError, RuntimeError):  # all scores are equal, or no parameter was in every trial
        return {}


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_shown(part)}" for key, part in value.items())
    return str(value)
