"""The search for settings, which the cells of all seeds share."""

from __future__ import annotations

import os
import shutil
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from crossfit import registry
from crossfit.datasets import Split
from crossfit.experiment.build import checked_settings
from crossfit.experiment.data import check_labels, load_splits
from crossfit.experiment.evaluate import by_label
from crossfit.experiment.features import needs_fit
from crossfit.experiment.nested import (
    default_space,
    fixed_parameters,
    inner_name,
    outer_name,
)
from crossfit.experiment.pipeline import cell_pipeline, feature_stage
from crossfit.experiment.spec_parts import MethodSpec
from crossfit.experiment.store import Store
from crossfit.experiment.store_files import StoreError, read_json, warn_of_damage, write_json
from crossfit.experiment.stored_schema import SEARCH
from crossfit.experiment.task import Skip, Task, reason_of
from crossfit.metrics.names import parse_metric
from crossfit.search_space import check_space, remaining, renamed
from crossfit.views import Views

__all__ = [
    "Scoring",
    "chosen_settings",
    "forget_search",
    "keep_search",
    "kept_search",
    "search_space",
]


def in_pipeline(spec: MethodSpec, name: str) -> str:
    """Return the pipeline's name of a parameter; names without a prefix belong to the method."""
    if name.startswith(("features__", "scorer__")):
        return name
    return f"method__{inner_name(spec, name)}"


def _in_file(spec: MethodSpec, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters by their names in the file."""
    return {outer_name(spec, name.removeprefix("method__")): v for name, v in params.items()}


def search_space(spec: MethodSpec) -> dict[str, Any]:
    """Return the search space of a method by pipeline names.

    Parameters that the experiment sets are fixed and decide the conditions that refer to them.

    Raises
    ------
    ValueError
        If a parameter would never be searched, because its condition can never hold.
    """
    if isinstance(spec.tune, str):  # "default"
        space = default_space(spec)
    else:
        given = spec.tune or {}
        known = fixed_parameters(spec.params, spec.members)
        fixed = {name: value for name, value in known.items() if name not in given}
        space = remaining(given, fixed)
        for name in given:
            if name not in space:
                raise ValueError(
                    f"{spec.line}method {spec.label!r}: tune: {name!r} is never searched: its "
                    f"condition is {given[name].when!r}, and the experiment sets {fixed!r}"
                )
    check_space(f"{spec.line}method {spec.label!r}: tune", space)
    return renamed(space, partial(in_pipeline, spec))


@dataclass(frozen=True)
class Scoring:
    """A scorer that uses labels if the relevance of its metric is by label.

    Parameters
    ----------
    metric : str
        Name of a measure.
    relevance : {"auto", "label", "pair"}, default="auto"
        As in an experiment; by default, that of the measure.
    ties : str, default="expected"
        As in `crossfit.evaluate`.

    Raises
    ------
    ValueError
        If there is no such measure.
    """

    metric: str
    relevance: str = "auto"
    ties: str = "expected"

    def __post_init__(self) -> None:
        parse_metric(self.metric)

    def __call__(self, estimator: Any, X: Views, y: Any = None) -> float:
        """Return the score of a fitted method on Views; larger is better."""
        from crossfit.model_selection import make_retrieval_scorer

        labels = y if by_label(self.metric, self.relevance, y) else None
        return make_retrieval_scorer(self.metric, ties=self.ties)(estimator, X, labels)


OnTrial = Callable[[int, int], None]


def chosen_settings(
    task: Task, store: Store, *, wait: bool = True, on_trial: OnTrial | None = None
) -> dict[str, Any] | None:
    """Return the result of the search, which runs first if needed; empty without tuning.

    The search uses training and validation pairs only. The cells of all seeds share it.

    Parameters
    ----------
    task : Task
        The cell.
    store : Store
        Where searches are stored.
    wait : bool, default=True
        Whether to wait if another runner is searching; else the result is None.
    on_trial : callable, optional
        See `crossfit.experiment.cell.execute`.
    """
    if task.search_key is None:
        return {}
    found = kept_search(store, task.search_key)
    if found is None:
        name = f"search-{task.search_key}"
        claim = store.waiting_claim(name) if wait else store.claim(name)
        if claim is None:
            return None
        with claim:
            found = kept_search(store, task.search_key)
            if found is None:
                try:
                    found = _search(task, store, on_trial)
                except (Skip, registry.RegistryError, ImportError, FileNotFoundError):
                    raise
                except Exception as error:
                    # Stored, or the cell of every seed would repeat the failing search.
                    found = {"error": reason_of(error), "traceback": traceback.format_exc()}
                keep_search(task, store, found)
                if task.method.tuning is not None and task.method.tuning.storage is None:
                    _study_file(task, store).unlink(missing_ok=True)
                found = kept_search(store, task.search_key) or found
    if "error" in found:
        stored = _StoredError(found["traceback"]) if found.get("traceback") else None
        raise SearchError(f"the search for settings failed: {found['error']}") from stored
    return found


def kept_search(store: Store, key: str) -> dict[str, Any] | None:
    """Return the stored result or error of a search, or None; warn if it is damaged."""
    path = store.folder / "searches" / key / "search.json"
    try:
        if not os.path.lexists(path):
            return None
        found: dict[str, Any] = read_json(path, SEARCH)
        if not found.get("params") and not found.get("error"):
            raise StoreError(f"{path} is damaged: it has neither settings nor an error")
    except StoreError as error:
        warn_of_damage(error)
        return None
    return found


def keep_search(task: Task, store: Store, found: Mapping[str, Any]) -> None:
    """Store the result or error of a search, unless one is stored; requires its claim."""
    home = store.folder / "searches" / str(task.search_key)
    if kept_search(store, str(task.search_key)) is None:
        with store.new_folder(home) as draft:
            write_json(draft / "search.json", found)


def forget_search(task: Task, store: Store, *, failed: bool = True) -> None:
    """Remove a search and its study; if `failed`, only a failed search.

    The study of a failed search is removed only if it has no complete trial. Failed trials count
    towards their number, so a study in which all have failed would never continue.
    """
    tuning = task.method.tuning
    if tuning is None:
        return
    home = store.folder / "searches" / str(task.search_key)
    if not failed:
        _study_file(task, store).unlink(missing_ok=True)
    found = kept_search(store, str(task.search_key))
    if found is None or (failed and "error" not in found):
        return
    if tuning.storage is not None:
        import optuna

        from crossfit.model_selection.storages import open_storage

        name = _study_name(task)
        with open_storage(tuning.storage, False) as storage, suppress(KeyError):
            study = storage.get_study_id_from_name(name)
            states = (optuna.trial.TrialState.COMPLETE,)
            if not failed or not storage.get_all_trials(study, deepcopy=False, states=states):
                storage.delete_study(study)
    shutil.rmtree(home, ignore_errors=True)  # another runner may remove it at the same time


def _study_name(task: Task) -> str:
    return f"crossfit-{task.search_key}"


def _study_file(task: Task, store: Store) -> Path:
    """Return the database of an unfinished search, which ends with it."""
    return store.folder / "studies" / f"{task.search_key}.db"


def _storage(task: Task, store: Store) -> str:
    """Return the URL of the study: the experiment's, or a database in the store."""
    tuning = task.method.tuning
    assert tuning is not None
    if tuning.storage is not None:
        return tuning.storage
    file = _study_file(task, store)
    file.parent.mkdir(exist_ok=True)
    return f"sqlite:///{file.absolute()}"


def _listener(on_trial: OnTrial, wanted: int) -> Callable[[Any, Any], None]:
    """Return a callback of a study that reports how many trials are finished."""

    def report(study: Any, _: Any) -> None:
        done = sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))
        on_trial(done, wanted)

    return report


class SearchError(ValueError):
    """The search that a cell depends on has failed; its cause has the stored traceback."""


class _StoredError(Exception):
    """The text of a stored traceback, as the cause of an error in this process."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def _search(task: Task, store: Store, on_trial: OnTrial | None) -> dict[str, Any]:
    from crossfit.model_selection import OptunaSearch

    tuning = task.method.tuning
    assert tuning is not None
    begun = time.perf_counter()
    splits = load_splits(task.source, task.identity["dataset"]["revision"]).splits
    train = splits["train"]
    check_labels(task, train)
    if tuning.validation and "validation" not in splits:
        raise Skip("tuning needs validation pairs, but the data set has none; use folds")
    if not task.space:
        raise Skip(f"{task.method.method} has no search space: write one under 'tune'")
    stage = feature_stage(task, store, shared=False)
    tuned_features = any(name.startswith("features__") for name in task.space)
    train_views = train.views
    val = splits["validation"] if tuning.validation else None
    val_views = None if val is None else val.views
    if stage is not None and not tuned_features:
        fitted = any(needs_fit(part) for _, part in stage.transformers)
        if not fitted or val is not None:
            # The features do not depend on the fold, so they are extracted once, before the search.
            shared = feature_stage(task, store, shared=True)
            assert shared is not None
            train_views = shared.fit_transform(train.views, train.y)
            val_views = None if val is None else shared.transform(val.views)
            stage = None
    metric = tuning.metric or task.metrics[0]
    seed = None if task.seed is None else tuning.seed
    model = cell_pipeline(task, stage, seed)
    score = Scoring(metric, task.relevance, task.ties)
    search = OptunaSearch(
        model,
        checked_settings(model, task.space, f"method {task.method.label!r}: tune"),
        scoring={metric: score, **{name: name for name in tuning.against}}
        if tuning.against
        else score,
        objectives=[metric, *tuning.against] if tuning.against else None,
        cv=_folds(tuning.folds, train) if val is None else (val_views, val.y),
        n_trials=tuning.trials,
        timeout=tuning.timeout,
        sampler=tuning.sampler,
        pruner=None if tuning.pruner == "none" else tuning.pruner,
        storage=_storage(task, store),
        study_name=_study_name(task),
        defaults=tuning.defaults,
        random_state=tuning.seed,
        refit=False,
        refit_epochs=tuning.refit_epochs,
        callbacks=None if on_trial is None else [_listener(on_trial, tuning.trials)],
        verbose=False,
    )
    try:
        search.fit(train_views, train.y)
    except ValueError as error:
        # If all trials have failed, the cause is that of the first, whose study is not kept.
        for trial in getattr(search, "trials_", ()):
            if "traceback" in trial.user_attrs:
                raise error from _StoredError(trial.user_attrs["traceback"])
        raise
    return {
        "params": search.best_params_,
        "chosen": _in_file(task.method, search.best_params_),
        "tuning": {
            "trials": len(search.trials_),
            "best_value": search.best_score_,
            "metric": metric,
            "seconds": time.perf_counter() - begun,
            "on": "validation" if tuning.validation else _folds_in_words(tuning.folds),
            **({"against": list(tuning.against)} if tuning.against else {}),
        },
        "trials": [_trial(task.method, trial) for trial in search.trials_],
    }


def _folds(folds: int | str, train: Split) -> Any:
    """Return a number of folds unchanged, or splits that hold out each named fold in turn."""
    if isinstance(folds, int):
        return folds
    if folds not in train.info:
        known = ", ".join(train.info) or "nothing"
        raise Skip(f"tuning uses the folds {folds!r}, but the rows of the data set have {known}")
    of_row = np.asarray(train.info[folds])
    return [
        (np.flatnonzero(of_row != fold), np.flatnonzero(of_row == fold))
        for fold in np.unique(of_row)
    ]


def _folds_in_words(folds: int | str) -> str:
    return f"{folds} folds of train" if isinstance(folds, int) else f"every {folds} of train"


def _trial(spec: MethodSpec, trial: Any) -> dict[str, Any]:
    return {
        "number": trial.number,
        "state": trial.state.name.lower(),
        "value": trial.values[0] if trial.values else None,
        **{
            name: trial.user_attrs[name]
            for name in ("scores", "reason", "traceback")
            if name in trial.user_attrs
        },
        "params": _in_file(spec, trial.params),
        "seconds": None if trial.duration is None else trial.duration.total_seconds(),
        "steps": {str(step): value for step, value in trial.intermediate_values.items()},
    }
