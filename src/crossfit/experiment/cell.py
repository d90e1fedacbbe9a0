"""Compute one cell: load, extract, tune, fit, score, evaluate, and store the result."""

from __future__ import annotations

import logging
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import combinations
from types import SimpleNamespace
from typing import Any

import joblib
from sklearn.pipeline import Pipeline

from crossfit import registry
from crossfit._code import code_of
from crossfit._sizes import devices_of
from crossfit._warnings import warn
from crossfit.experiment.data import check_labels, load_splits
from crossfit.experiment.environment import environment, peak_memory
from crossfit.experiment.evaluate import Arrays, by_label, evaluate_both_ways, score_matrix
from crossfit.experiment.model_facts import attention_of, fitted_views, history_of, size_of
from crossfit.experiment.nested import load_method
from crossfit.experiment.pipeline import cell_pipeline, feature_stage
from crossfit.experiment.records import data_name
from crossfit.experiment.spec_parts import MethodSpec
from crossfit.experiment.store import Store
from crossfit.experiment.store_files import DamageWarning, now
from crossfit.experiment.task import Outcome, Skip, Task, reason_of
from crossfit.experiment.tuning import chosen_settings
from crossfit.metrics.directions import Direction
from crossfit.querying import answering
from crossfit.views import n_rows

__all__ = ["compute", "execute"]

logger = logging.getLogger("crossfit")


def execute(
    task: Task,
    *,
    search_only: bool = False,
    retry_before: str = "",
    force: bool = False,
    on_trial: Callable[[int, int], None] | None = None,
) -> Outcome:
    """Compute and store a cell, unless the store has it or another process is computing it.

    Parameters
    ----------
    task : Task
        The cell.
    search_only : bool, default=False
        Only tune. Errors are reported by the cells that need the result.
    retry_before : str, default=""
        Recompute the cell if it failed before this time (ISO 8601).
    force : bool, default=False
        Recompute the cell also if it was done before that time, without stored features.
    on_trial : callable, optional
        Called after each trial of a search with the number of finished and of requested trials.

    Returns
    -------
    Outcome
    """
    store = Store(task.store, lease=task.lease)
    begun = time.perf_counter()
    if search_only:
        try:
            found = chosen_settings(task, store, wait=False, on_trial=on_trial)
        except Exception as error:
            return Outcome(task.key, "failed", time.perf_counter() - begun, reason_of(error))
        status = "busy" if found is None else "done"
        return Outcome(task.key, status, time.perf_counter() - begun)
    if _is_settled(store, task.key, retry_before, force):
        return Outcome(task.key, "cached")
    claim = store.claim(task.key)
    if claim is None:
        return Outcome(task.key, "busy")
    with claim:
        # The process that held the claim before may have finished the cell.
        if _is_settled(store, task.key, retry_before, force):
            return Outcome(task.key, "cached")
        return _claimed(task, store, begun, force)


def _is_settled(store: Store, key: str, retry_before: str, force: bool) -> bool:
    found = store.usable(key)
    if found.status == "done" and not force:
        return True
    return found.status in ("done", "failed") and found.finished >= retry_before


def _claimed(task: Task, store: Store, begun: float, force: bool) -> Outcome:
    started = now()
    warned: list[str] = []
    about: dict[str, Any] = {"cell": task.identity, "started": started}
    try:
        with _noted(warned):
            record, extras = compute(task, store, fresh=force)
    except (Skip, registry.RegistryError, ImportError, FileNotFoundError) as error:
        reason = reason_of(error)
        store.write_cell(task.key, {**about, "status": "skipped", "reason": reason})
        return Outcome(task.key, "skipped", time.perf_counter() - begun, reason)
    except Exception as error:
        reason = reason_of(error)
        about |= {"warnings": warned, "finished": now(), "reason": reason}
        about["traceback"] = traceback.format_exc()
        about["environment"] = environment(task.identity["method"])
        store.write_cell(task.key, {**about, "status": "failed"})
        _track(task, store)
        return Outcome(task.key, "failed", time.perf_counter() - begun, reason)
    # Only now, because methods import their libraries (torch, gensim) when they are fitted.
    record["environment"] = environment(task.identity["method"]) | record["environment"]
    seconds = time.perf_counter() - begun
    record["timing"]["total"] = seconds
    store.write_cell(
        task.key,
        {**about, "status": "done", **record, "warnings": warned, "finished": now()},
        **extras,
        replace=force,
    )
    _track(task, store)
    return Outcome(task.key, "done", seconds)


def _track(task: Task, store: Store) -> None:
    """Pass the result on to the tracker; errors of the tracker do not affect the cell."""
    if task.tracker is None:
        return
    try:
        run = SimpleNamespace(name=task.run[0], title=task.run[1])
        task.tracker.track(store.cell(task.cell), run)
    except Exception as error:
        logger.warning("the tracker could not record %s: %s", task.method.label, reason_of(error))


@contextmanager
def _noted(warned: list[str]) -> Iterator[None]:
    """Collect each distinct warning once instead of printing them from every worker."""
    damages = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            try:
                yield
            finally:
                for warning in caught:
                    if issubclass(warning.category, DamageWarning):
                        damages.append(warning.message)
                        continue
                    text = f"{warning.category.__name__}: {' '.join(str(warning.message).split())}"
                    if text not in warned and len(warned) < 50:
                        warned.append(text[:500])
    finally:
        for message in damages:  # these concern the store, not the cell
            warn(message)


def compute(
    task: Task, store: Store, *, fresh: bool = False
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Compute a cell; return the record and the other arguments of `Store.write_cell`.

    If `fresh`, features are neither read from the store nor written to it.
    """
    _check_code(task)
    clock = _Clock()
    loaded = load_splits(task.source, task.identity["dataset"]["revision"])
    train, test = loaded.splits["train"], loaded.splits["test"]
    check_labels(task, train)
    clock.lap("data")
    search = chosen_settings(task, store) or {}
    clock.lap("tune")
    stage = feature_stage(task, store, shared=not fresh)
    model = cell_pipeline(task, stage, task.seed, search)
    if stage is None:
        train_views, test_views = train.views, test.views
    else:
        stage = model.named_steps["features"]
        train_views = stage.fit_transform(train.views, train.y)
        test_views = stage.transform(test.views)
        model = model[1:]
    clock.lap("features")
    # A pipeline of one step is replaced by that step: methods that score pairs have no transform.
    model = model.steps[0][1] if len(model.steps) == 1 else model
    method = model[0] if isinstance(model, Pipeline) else model
    if task.tracker is not None and "callbacks" in method.get_params(deep=False):
        callbacks = task.tracker.callbacks(task.cell, task.run[0])
        method.set_params(callbacks=[*(method.callbacks or ()), *callbacks])
    model.fit(train_views, train.y)
    clock.lap("fit")
    items = joblib.hash([test.views[name] for name in test.views.names], coerce_mmap=True)
    store.count_test(data_name(task.source.name), loaded.roles["test"], task.key, items)
    names = tuple(name for name in test_views.names if name in fitted_views(model))
    record: dict[str, Any] = {"results": {}, "curves": {}, "hubness": {}, "chance": {}}
    record["abstention"] = {}
    labelled = {name: by_label(name, task.relevance, test.y) for name in (*task.metrics, "r@1")}
    kinds = {name: "label" if yes else "pair" for name, yes in labelled.items()}
    record["relevant"] = {
        **{name: kinds[name] for name in task.metrics},
        "first": kinds[task.metrics[0]],
        "pr curve": kinds[task.metrics[0]],
        "recall curve": kinds["r@1"],
    }
    arrays: Arrays = {}
    if len(set(Direction.between(names))) < len(Direction.between(names)):
        raise ValueError(
            f"views: two directions between {', '.join(names)} have the same key; rename a view"
        )
    one_way = answering(model)[1].one_way
    for pair in combinations(names, 2):
        with ExitStack() as held:
            # A correction of hubs has a bank of each view, so that each direction has its scores.
            ways = (pair, pair[::-1]) if one_way else (pair,)
            scores = [held.enter_context(score_matrix(model, test_views, *way)) for way in ways]
            clock.lap("score")
            evaluate_both_ways(task, scores, test_views, test.y, pair, record, arrays)
        clock.lap("evaluate")
    record |= {
        "timing": clock.seconds,
        "memory": {"peak_rss_mib": peak_memory()},
        "size": size_of(model, test_views),
        "environment": {"devices": devices_of(model)},
        "n": {
            "train": len(train),
            "test": {name: n_rows(test_views.distinct(name)[0]) for name in names},
        },
        "chosen": search.get("chosen", {}),
        "tuning": search.get("tuning", {}),
    }
    extras = {
        "arrays": arrays,
        "attention": attention_of(method, test_views, test.views),
        "history": history_of(method),
        "trials": search.get("trials", ()),
    }
    return record, extras


def _check_code(task: Task) -> None:
    """Check that the code of the method is the code from which the key was computed."""
    planned = task.identity["method"]
    for name, kept in _methods(task.method, planned):
        if code_of(load_method(name)) != kept.get("code", ""):
            raise RuntimeError(
                f"the code of {name} differs from that of the process that planned the run: it "
                "was edited since, or another version is installed here"
            )


def _methods(spec: MethodSpec, kept: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the name of a method, and of those that it holds, with their part of the key."""
    yield spec.method, kept
    for name, member in spec.members.items():
        yield from _methods(member, kept["members"][name])


@dataclass
class _Clock:
    """Seconds per phase, added up over repeated phases."""

    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(
            ("data", "features", "tune", "fit", "score", "evaluate"), 0.0
        )
    )
    at: float = field(default_factory=time.perf_counter)

    def lap(self, phase: str) -> None:
        """Add the time since the last lap to a phase."""
        moment = time.perf_counter()
        self.seconds[phase] += moment - self.at
        self.at = moment
