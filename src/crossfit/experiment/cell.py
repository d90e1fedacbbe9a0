"""One cell: load, extract, tune, fit, score, evaluate, and put the result into the store."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import logging
import os
import platform
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit import registry
from crossfit._code import code_of
from crossfit.cards import check_space, remaining, renamed
from crossfit.datasets import Dataset, Split
from crossfit.experiment.features import StoredFeatures, needs_fit
from crossfit.experiment.forms import SEARCH
from crossfit.experiment.parts import (
    build_features,
    build_method,
    build_similarity,
    check_settings,
)
from crossfit.experiment.spec import MethodSpec, TuningSpec, space_of
from crossfit.experiment.store import (
    DamageWarning,
    Store,
    StoreError,
    data_name,
    key_of,
    now,
    read_json,
    warn_of_damage,
    write_json,
)
from crossfit.metrics.names import parse_metric
from crossfit.views import Views, n_rows, take_rows

__all__ = ["Outcome", "Skip", "Task", "execute", "load_splits"]

#: Recall is drawn at these cut-offs.
KS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100)
#: How many of the best items of each query are kept.
TOP = 10
#: Attention is kept for so many of the first test pairs.
EXPLAINED = 4
# Score matrices beyond this many bytes lie in a temporary file, filled by blocks of this size.
_IN_MEMORY = 2**30
_BLOCK = 2**27

Arrays = dict[str, NDArray[Any]]

logger = logging.getLogger("crossfit")


class Skip(Exception):
    """Raised by what cannot run here; the cell is stored as skipped, with the reason."""


@dataclass(frozen=True)
class Task:
    """All that a process needs to compute a cell, or the search that its cells share.

    Parameters
    ----------
    key : str
        Key of the cell.
    cell : mapping
        What the key is made of.
    method : MethodSpec
        The method.
    dataset : mapping
        ``name``, ``options``, ``subset``, ``splits``, and ``own``: a table of the user's pairs.
    features : mapping
        View to features.
    seed : int or None
        None if it makes no difference.
    metrics : tuple of str
        Canonical names.
    relevance, ties : str
        See `Experiment`.
    tuning : TuningSpec or None
        None if the method is not tuned.
    store : str
        Folder of the store.
    root : str or None
        Folder of the data sets.
    lease : float
        See `Store`.
    tracker : object or None
        Who is handed the result too.
    run : pair of str
        Name and title of the run.
    """

    key: str
    cell: Mapping[str, Any]
    method: MethodSpec
    dataset: Mapping[str, Any]
    features: Mapping[str, Any]
    seed: int | None
    metrics: tuple[str, ...]
    relevance: str
    ties: str
    tuning: TuningSpec | None
    store: str
    root: str | None = None
    lease: float = 120.0
    tracker: Any = None
    run: tuple[str, str] = ("", "")

    @property
    def search_key(self) -> str | None:
        """Key of the search that the cells of all seeds share."""
        if self.tuning is None:
            return None
        return key_of(
            {"search": {name: part for name, part in self.cell.items() if name != "seed"}}
        )


@dataclass(frozen=True)
class Outcome:
    """How a task ended: ``done``, ``failed``, ``skipped``, ``cached`` or ``busy``."""

    key: str
    status: str
    seconds: float = 0.0
    message: str = ""


def execute(
    task: Task, *, search_only: bool = False, retry_before: str = "", force: bool = False
) -> Outcome:
    """Compute a cell and store it, unless it is there or another process is at it.

    Parameters
    ----------
    task : Task
        The cell.
    search_only : bool
        Only tune; what goes wrong is told by the cells, which ask for the result.
    retry_before : str
        Compute a cell again that failed before this time (ISO 8601).
    force : bool
        Compute a cell again that was done before that time, and take no features from the store.
    """
    store = Store(task.store, lease=task.lease)
    begun = time.perf_counter()
    if search_only:
        try:
            chosen_settings(task, store)
        except Exception as error:
            return Outcome(task.key, "failed", time.perf_counter() - begun, _told(error))
        return Outcome(task.key, "done", time.perf_counter() - begun)
    if _is_settled(store, task.key, retry_before, force):
        return Outcome(task.key, "cached")
    claim = store.claim(task.key)
    if claim is None:
        return Outcome(task.key, "busy")
    with claim:
        # By who had the claim before.
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
    said: list[str] = []
    about: dict[str, Any] = {"cell": task.cell, "started": started}
    try:
        with _noted(said):
            record, extras = compute(task, store, fresh=force)
    except (Skip, registry.RegistryError, ImportError, FileNotFoundError) as error:
        reason = _told(error)
        store.write_cell(task.key, {**about, "status": "skipped", "reason": reason})
        return Outcome(task.key, "skipped", time.perf_counter() - begun, reason)
    except Exception as error:
        about |= {"warnings": said, "finished": now(), "traceback": traceback.format_exc()}
        about["environment"] = environment(task)
        store.write_cell(task.key, {**about, "status": "failed"})
        _track(task, store)
        return Outcome(task.key, "failed", time.perf_counter() - begun, _told(error))
    # Only now, for a method loads what it needs (torch, gensim) when it is fitted.
    about["environment"] = environment(task)
    seconds = time.perf_counter() - begun
    record["timing"]["total"] = seconds
    store.write_cell(
        task.key,
        {**about, "status": "done", **record, "warnings": said, "finished": now()},
        **extras,
        replace=force,
    )
    _track(task, store)
    return Outcome(task.key, "done", seconds)


def _track(task: Task, store: Store) -> None:
    """Hand the result on; that this fails is no failure of the cell."""
    if task.tracker is None:
        return
    try:
        cell = store.cell(
            task.key, label=task.method.label, dataset=task.dataset["name"], seed=task.seed or 0
        )
        task.tracker.track(cell, SimpleNamespace(name=task.run[0], title=task.run[1]))
    except Exception as error:
        logger.warning("the tracker did not take %s: %s", task.method.label, _told(error))


def _told(error: Exception) -> str:
    words = " ".join(str(error).split())
    plain = isinstance(error, (Skip, ValueError, registry.RegistryError, FileNotFoundError))
    return words if plain and words else f"{type(error).__name__}: {words}"


@contextmanager
def _noted(said: list[str]) -> Iterator[None]:
    """Collect warnings, each once, instead of printing them from every worker."""
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
                    if text not in said and len(said) < 50:
                        said.append(text[:500])
    finally:
        for message in damages:  # of this store, and not of the cell
            warnings.warn(message, stacklevel=2)


# ---- the data ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Loaded:
    """A data set with the splits that an experiment uses.

    Parameters
    ----------
    dataset : Dataset
        As it was loaded.
    roles : mapping of str to str
        Role (``train``, ``validation``, ``test``) to the name of the split.
    splits : mapping of str to Split
        Role to the pairs, subsets drawn.
    """

    dataset: Dataset
    roles: Mapping[str, str]
    splits: Mapping[str, Split]


def load_splits(
    dataset: Mapping[str, Any], root: str | None, revision: str | None = None
) -> Loaded:
    """Load a data set and draw subsets; the last two are remembered.

    Parameters
    ----------
    dataset : mapping
        As in `Task`.
    root : str or None
        Folder of the data sets.
    revision : str, optional
        What it must be; without it the data set is read anew.

    Raises
    ------
    FileNotFoundError, ValueError, crossfit.registry.RegistryError
        If it is not there or not what it should be.
    """
    key = key_of({"dataset": dataset, "root": root})
    found = _loaded.get(key)
    if found is None or revision is None or found.dataset.revision != revision:
        found = _read_splits(dataset, root)
        _loaded[key] = found
        while len(_loaded) > 2:
            _loaded.popitem(last=False)
    if revision not in (None, found.dataset.revision):
        raise ValueError(
            f"data set {found.dataset.name!r} is not what it was when the run was planned: "
            f"revision {found.dataset.revision}, not {revision}"
        )
    return found


_loaded: OrderedDict[str, Loaded] = OrderedDict()


def dataset_of(cell: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `load_splits` takes, from what a cell's record says of its data set."""
    about = cell["dataset"]
    return {
        "name": about["name"],
        "options": about["params"],
        "subset": about["subset"],
        "splits": about["splits"],
        "own": about.get("own"),
    }


def _read_splits(dataset: Mapping[str, Any], root: str | None) -> Loaded:
    if dataset.get("own"):
        ds, roles = _own_pairs(dataset["own"], dataset["name"])
    else:
        ds = _load(dataset, root)
        roles = _roles(ds, dataset["splits"])
    splits = {}
    for role, name in roles.items():
        size = dataset["subset"].get(role, dataset["subset"].get(name))
        splits[role] = ds[name] if size is None else _drawn(ds[name], size, f"{ds.name}.{name}")
    unknown = set(dataset["subset"]) - set(roles) - set(roles.values())
    if unknown:
        raise ValueError(
            f"subset of data set {ds.name!r} names {sorted(unknown)[0]!r}: the splits in use are "
            f"{', '.join(f'{name} ({role})' for role, name in roles.items())}"
        )
    return Loaded(ds, roles, splits)


def _load(dataset: Mapping[str, Any], root: str | None) -> Dataset:
    import inspect

    from crossfit.datasets import load

    options = dict(dataset["options"])
    named = [name for name in dataset["splits"].values() if name]
    if {"train", "test"} <= set(dataset["splits"]) and "subsets" not in options:
        # Only the files of the splits in use need to be there.
        loader = registry.load(dataset["name"], "crossfit.datasets")
        if "subsets" in inspect.signature(loader).parameters:
            options["subsets"] = tuple(dict.fromkeys(named))
    split = options.pop("split", None)
    return load(dataset["name"], root, split=split, **options)


def _roles(ds: Dataset, wanted: Mapping[str, str | None]) -> dict[str, str]:
    validation = next((name for name in ("val", "validation", "dev") if name in ds), None)
    roles: dict[str, str | None] = {
        "train": "train", "validation": validation, "test": "test", **wanted
    }  # fmt: skip
    if "validation" not in wanted and roles["test"] == validation:
        roles["validation"] = None  # what is tested on is not looked at before
    found = {role: name for role, name in roles.items() if name is not None}
    for role, name in found.items():
        if name not in ds:
            raise ValueError(
                f"data set {ds.name!r} has the splits {', '.join(ds.splits)}, not {name!r}: the "
                f"key 'splits' says which of them is the one for {role}"
            )
    if {"train", "test"} - set(found):
        raise ValueError("the key 'splits' must name a split for train and one for test")
    if len(set(found.values())) < len(found):
        raise ValueError("the key 'splits' names one split for two roles")
    return found


def _own_pairs(path: str, name: str) -> tuple[Dataset, dict[str, str]]:
    """Read the user's pairs; without a column ``split`` a fifth of the groups is for testing."""
    import csv

    from sklearn.model_selection import GroupShuffleSplit

    from crossfit.datasets import from_csv

    if not os.path.isfile(path):  # opening a pipe would wait
        raise ValueError(f"the table {path!r} is not a regular file")
    separator = "\t" if path.lower().endswith((".tsv", ".tab")) else ","
    with open(path, encoding="utf-8-sig", newline="") as stream:
        header = next(csv.reader(stream, delimiter=separator), [])
    columns = {part: part for part in ("label", "group", "split") if part in header}
    views = None
    if not {"image", "text"} <= set(header):
        views = {part: part for part in header if part not in columns}
    ds = from_csv(path, views=views, **columns)
    if "split" not in columns:
        whole = ds["all"]
        splitter = GroupShuffleSplit(1, test_size=0.2, random_state=0)
        train, test = next(splitter.split(np.zeros(len(whole)), groups=whole.groups))
        parts = {"train": _rows(whole, train), "test": _rows(whole, test)}
        ds = dataclasses.replace(ds, splits=parts)
    return ds, _roles(ds, {})


def _rows(split: Split, rows: NDArray[Any]) -> Split:
    return Split(
        split.views[rows],
        None if split.y is None else split.y[rows],
        {key: values[rows] for key, values in split.info.items()},
    )


def _drawn(split: Split, size: int, name: str) -> Split:
    """Draw groups by a seeded shuffle; rows stay in their order."""
    groups = np.unique(split.groups)
    if size > len(groups):
        raise ValueError(f"subset asks for {size} groups of {name}, which has {len(groups)}")
    chosen = np.random.RandomState(0).permutation(groups)[:size]
    return _rows(split, np.flatnonzero(np.isin(split.groups, chosen)))


# ---- the model -----------------------------------------------------------------------------------


def _stage(task: Task, store: Store, *, shared: bool) -> StoredFeatures | None:
    """Return the features as the first step; `shared` with other processes through the store."""
    transformers = build_features(task.features)
    if not transformers:
        return None
    return StoredFeatures(
        transformers,
        folder=str(store.folder) if shared else None,
        salt=f"{task.cell['dataset']['revision']} {task.cell['loader']}",
    )


def _model(task: Task, stage: StoredFeatures | None) -> Any:
    """Return the pipeline of features, method and similarity, with the cell's seed."""
    from sklearn.pipeline import Pipeline

    from crossfit.retrieval import RetrievalScorer

    steps: list[tuple[str, Any]] = [] if stage is None else [("features", stage)]
    steps.append(("method", build_method(task.method, task.seed)))
    if task.method.similarity is not None:
        steps.append(("scorer", RetrievalScorer(build_similarity(task.method.similarity))))
    return Pipeline(steps)


def in_pipeline(name: str) -> str:
    """Return a tuned parameter's name in the pipeline: of the method unless it says otherwise."""
    return name if name.startswith(("features__", "scorer__")) else f"method__{name}"


def search_space(spec: MethodSpec) -> dict[str, Any]:
    """Return the search space of a method by pipeline names.

    What the experiment sets is set, and decides the conditions that name it.

    Raises
    ------
    ValueError
        If a parameter would never be searched, because its condition can never hold.
    """
    if spec.tune == "default":
        space = remaining(registry.get(spec.method).search_space, spec.params)
    else:
        given = space_of(spec.tune or {})  # type: ignore[arg-type]
        fixed = {name: value for name, value in spec.params.items() if name not in given}
        space = remaining(given, fixed)
        for name in given:
            if name not in space:
                raise ValueError(
                    f"{spec.line}method {spec.label!r}: tune: {name!r} is never searched: its "
                    f"condition is {given[name].when!r}, and the experiment sets {fixed!r}"
                )
    check_space(f"{spec.line}method {spec.label!r}: tune", space)
    return renamed(space, in_pipeline)


def compute(
    task: Task, store: Store, *, fresh: bool = False
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Compute a cell; return the record and what `Store.write_cell` keeps beside it.

    With `fresh` no features are taken from the store, nor put there.
    """
    _check_code(task)
    clock = _Clock()
    loaded = load_splits(task.dataset, task.root, task.cell["dataset"]["revision"])
    train, test = loaded.splits["train"], loaded.splits["test"]
    _check_labels(task, train)
    clock.lap("data")
    search = chosen_settings(task, store)
    clock.lap("tune")
    stage = _stage(task, store, shared=not fresh)
    model = _model(task, stage)
    if search:
        check_settings(model, search["params"], f"the search {task.search_key}")
        model.set_params(**search["params"])
    if stage is None:
        train_views, test_views = train.views, test.views
    else:
        stage = model.named_steps["features"]
        train_views = stage.fit_transform(train.views, train.y)
        test_views = stage.transform(test.views)
        model = model[1:]
    clock.lap("features")
    # A pipeline of one step is that step: methods that score pairs know no transform.
    model = model.steps[0][1] if len(model.steps) == 1 else model
    method = getattr(model, "steps", [("", model)])[0][1]
    if task.tracker is not None and "callbacks" in method.get_params(deep=False):
        callbacks = task.tracker.callbacks(
            task.method.label, task.dataset["name"], task.seed, task.key, task.run[0]
        )
        method.set_params(callbacks=[*(method.callbacks or ()), *callbacks])
    model.fit(train_views, train.y)
    clock.lap("fit")
    store.count_test(data_name(task.dataset["name"]), loaded.roles["test"], task.key)
    names = tuple(name for name in test_views.names if name in _fitted_on(model))
    record: dict[str, Any] = {"results": {}, "curves": {}, "hubness": {}, "chance": {}}
    labelled = {name: by_label(name, task.relevance, test.y) for name in (*task.metrics, "r@1")}
    kinds = {name: "label" if yes else "pair" for name, yes in labelled.items()}
    record["relevant"] = {
        **{name: kinds[name] for name in task.metrics},
        "first": kinds[task.metrics[0]],
        "pr curve": kinds[task.metrics[0]],
        "recall curve": kinds["r@1"],
    }
    arrays: Arrays = {}
    for query, gallery in combinations(names, 2):
        with _scores(model, test_views, query, gallery) as scores:
            clock.lap("score")
            _evaluate(task, scores, test_views, test.y, (query, gallery), record, arrays)
        clock.lap("evaluate")
    record |= {
        "timing": clock.seconds,
        "memory": {"peak_rss_mib": _peak_mib()},
        "size": _size(model, test_views),
        "n": {
            "train": len(train),
            "test": {name: n_rows(test_views.distinct(name)[0]) for name in names},
        },
        "chosen": search.get("chosen", {}),
        "tuning": search.get("tuning", {}),
    }
    extras = {
        "arrays": arrays,
        "attention": _attention(method, test_views, test.views),
        "history": _history(method),
        "trials": search.get("trials", ()),
    }
    return record, extras


def _check_code(task: Task) -> None:
    """Refuse to compute a cell by other code than its key names."""
    name = task.method.method
    if code_of(registry.load(name)) != task.cell["method"].get("code", ""):
        raise RuntimeError(
            f"the code of {name} here is not that of the process that planned the run: it was "
            "edited since, or another version is installed here"
        )


def _check_labels(task: Task, train: Split) -> None:
    problem = labels_missing(task.method.method, task.relevance, train.y)
    if problem:
        raise Skip(problem)


def labels_missing(method: str, relevance: str, y: Any) -> str:
    """Say what labels are missing for a method or for the relevance; empty if none are."""
    card = registry.get(method)
    if card.labels in ("single", "multi") and y is None:
        return f"{method} learns from labels, and the data set has none"
    if card.labels == "single" and np.ndim(y) == 2:
        return f"{method} takes one label a pair, and the data set has several"
    if relevance == "label" and y is None:
        return "relevance is by label, and the data set has none"
    return ""


def _fitted_on(model: Any) -> tuple[str, ...]:
    from crossfit.querying import answering, view_names

    return view_names(answering(model)[1])


# ---- tuning --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Scoring:
    """A scorer that knows by what items are relevant."""

    metric: str
    relevance: str
    ties: str

    def __call__(self, estimator: Any, X: Views, y: Any = None) -> float:
        from crossfit.model_selection import make_retrieval_scorer

        labels = y if by_label(self.metric, self.relevance, y) else None
        return make_retrieval_scorer(self.metric, ties=self.ties)(estimator, X, labels)


def chosen_settings(task: Task, store: Store) -> dict[str, Any]:
    """Return what the search found, searching first if no process has; empty without tuning.

    It sees training and validation pairs only. The cells of all seeds share one search.
    """
    if task.tuning is None or task.search_key is None:
        return {}
    found = kept_search(store, task.search_key)
    if found is None:
        with store.waiting_claim(f"search-{task.search_key}"):
            found = kept_search(store, task.search_key)
            if found is None:
                try:
                    found = _search(task, store)
                except (Skip, registry.RegistryError, ImportError, FileNotFoundError):
                    raise
                except Exception as error:
                    # Kept, or the cell of every seed would search in vain.
                    found = {"error": _told(error), "traceback": traceback.format_exc()}
                keep_search(task, store, found)
                found = kept_search(store, task.search_key) or found
    if "error" in found:
        raise SearchError(f"the search for settings failed: {found['error']}\n{found['traceback']}")
    return found


def kept_search(store: Store, key: str) -> dict[str, Any] | None:
    """Return what the store has of a search, or its error; a damaged one is warned of."""
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
    """Store what a search found, or its error, unless there is something; under its claim."""
    home = store.folder / "searches" / str(task.search_key)
    if kept_search(store, str(task.search_key)) is None:
        with store.new_folder(home) as draft:
            write_json(draft / "search.json", found)


def forget_search(task: Task, store: Store, *, failed: bool = True) -> None:
    """Remove a search, and its study; of those that `failed`, only studies of failed trials.

    Failed trials count, so that a study in which all have failed would never go on.
    """
    if task.tuning is None or task.search_key is None:
        return
    home = store.folder / "searches" / task.search_key
    found = kept_search(store, task.search_key)
    if found is None or (failed and "error" not in found):
        return
    if task.tuning.storage is not None:
        import optuna

        from crossfit.model_selection.storages import open_storage

        name = _study_name(task)
        with open_storage(task.tuning.storage, False) as storage, suppress(KeyError):
            study = storage.get_study_id_from_name(name)
            states = (optuna.trial.TrialState.COMPLETE,)
            if not failed or not storage.get_all_trials(study, deepcopy=False, states=states):
                storage.delete_study(study)
    shutil.rmtree(home, ignore_errors=True)  # another runner may do so too


def _study_name(task: Task) -> str:
    return f"crossfit-{task.search_key}"


class SearchError(RuntimeError):
    """The search that a cell depends on has failed."""


def _search(task: Task, store: Store) -> dict[str, Any]:
    from crossfit.model_selection import OptunaSearch

    assert task.tuning is not None
    tuning = task.tuning
    begun = time.perf_counter()
    splits = load_splits(task.dataset, task.root, task.cell["dataset"]["revision"]).splits
    train = splits["train"]
    _check_labels(task, train)
    if tuning.validation and "validation" not in splits:
        raise Skip("tuning wants validation pairs, and the data set has none: use folds")
    space = search_space(task.method)
    if not space:
        raise Skip(f"{task.method.method} has no search space: write one under 'tune'")
    stage = _stage(task, store, shared=False)
    tuned_features = any(name.startswith("features__") for name in space)
    train_views = train.views
    val = splits["validation"] if tuning.validation else None
    val_views = None if val is None else val.views
    if stage is not None and not tuned_features:
        fitted = any(needs_fit(part) for _, part in stage.transformers)
        if not fitted or val is not None:
            # Nothing that other folds could tell: extracted once, before the search.
            shared = _stage(task, store, shared=True)
            assert shared is not None
            train_views = shared.fit_transform(train.views, train.y)
            val_views = None if val is None else shared.transform(val.views)
            stage = None
    metric = tuning.metric or task.metrics[0]
    seed = None if task.seed is None else tuning.seed
    search = OptunaSearch(
        _model(dataclasses.replace(task, seed=seed), stage),
        space,
        scoring=_Scoring(metric, task.relevance, task.ties),
        cv=tuning.folds if val is None else (val_views, val.y),
        n_trials=tuning.trials,
        timeout=tuning.timeout,
        sampler=tuning.sampler,
        pruner=None if tuning.pruner == "none" else tuning.pruner,
        storage=tuning.storage,
        study_name=_study_name(task) if tuning.storage else None,
        random_state=tuning.seed,
        refit=False,
        verbose=False,
    )
    search.fit(train_views, train.y)
    return {
        "params": search.best_params_,
        "chosen": {name.removeprefix("method__"): v for name, v in search.best_params_.items()},
        "tuning": {
            "trials": len(search.trials_),
            "best_value": search.best_score_,
            "metric": metric,
            "seconds": time.perf_counter() - begun,
            "on": "validation" if tuning.validation else f"{tuning.folds} folds of train",
        },
        "trials": [_trial(trial) for trial in search.trials_],
    }


def _trial(trial: Any) -> dict[str, Any]:
    return {
        "number": trial.number,
        "state": trial.state.name.lower(),
        "value": trial.value,
        "params": {name.removeprefix("method__"): value for name, value in trial.params.items()},
        "seconds": None if trial.duration is None else trial.duration.total_seconds(),
        "steps": {str(step): value for step, value in trial.intermediate_values.items()},
    }


# ---- scores and what is made of them -------------------------------------------------------------


def by_label(metric: str, relevance: str, y: Any) -> bool:
    """Say whether items of one label are relevant, or only the paired ones."""
    if relevance == "auto":
        return y is not None and parse_metric(metric).kind in ("map", "p", "ndcg")
    return relevance == "label"


@contextmanager
def _scores(model: Any, views: Views, query: str, gallery: str) -> Iterator[Any]:
    """Give the scores of all query items against all gallery items; large ones on disk."""
    from crossfit.querying import similarity

    n, m = (n_rows(views.distinct(name)[0]) for name in (query, gallery))
    if 4 * n * m <= _IN_MEMORY:
        yield similarity(model, views, query=query, gallery=gallery)
        return
    with tempfile.TemporaryDirectory(prefix="crossfit-scores-") as folder:
        file = Path(folder) / "scores.npy"
        yield similarity(model, views, query=query, gallery=gallery, out=file)


def _evaluate(
    task: Task,
    scores: Any,
    views: Views,
    y: Any,
    names: tuple[str, str],
    record: dict[str, Any],
    arrays: Arrays,
) -> None:
    """Evaluate one score matrix in both directions."""
    from crossfit.metrics import (
        chance_level,
        evaluate,
        interpolated_precision_recall,
        recall_at_k_curve,
    )
    from crossfit.scoring import relevance_of

    directions = (f"{names[0]}2{names[1]}", f"{names[1]}2{names[0]}")
    first, second = (views.groups[views.first_rows(name)] for name in names)
    groups = (first, second)
    relevant = {
        labelled: relevance_of(views, *names, y if labelled else None)
        for labelled in {by_label(metric, task.relevance, y) for metric in task.metrics}
        | {by_label("r@1", task.relevance, y)}
    }
    results: dict[str, dict[str, Any]] = {direction: {} for direction in directions}
    main = by_label(task.metrics[0], task.relevance, y)
    for labelled, relevance in relevant.items():
        metrics = [m for m in task.metrics if by_label(m, task.relevance, y) == labelled]
        asked = [*metrics, "meanr"] if labelled == main else metrics
        if not asked:
            continue
        found = evaluate(scores, relevance, asked, groups=groups, names=names, ties=task.ties)
        at_random = chance_level(relevance, asked, names=names)
        for direction in directions:
            record["chance"].setdefault(direction, {}).update(
                {metric: at_random.mean(direction, metric) for metric in metrics}
            )
            for metric in metrics:
                values = found.per_query[direction, metric]
                low, high = found.interval(direction, metric)
                results[direction][metric] = {
                    "mean": found.mean(direction, metric),
                    "low": low,
                    "high": high,
                    "n": int((~np.isnan(values)).sum()),
                }
                arrays[f"{direction}|{metric}"] = np.asarray(values)
            if labelled == main:
                arrays[f"{direction}|first"] = np.asarray(found.per_query[direction, "meanr"])
    for i, direction in enumerate(directions):
        side = "forward" if i == 0 else "backward"
        record["results"][direction] = {
            metric: results[direction][metric] for metric in task.metrics
        }
        arrays[f"{direction}|groups"] = groups[i]
        top, best = _best(scores if i == 0 else scores.T)
        arrays[f"{direction}|top"], arrays[f"{direction}|top_scores"] = top, best
        size = scores.shape[1 - i]
        record["hubness"][direction] = _hubness(top, size)
        recall = relevant[by_label("r@1", task.relevance, y)]
        ks, values = recall_at_k_curve(
            scores, recall, [k for k in KS if k <= size], direction=side, ties=task.ties
        )
        levels, precision = interpolated_precision_recall(scores, relevant[main], direction=side)
        record["curves"][direction] = {
            "recall": [ks.tolist(), values.tolist()],
            "pr": [levels.tolist(), precision.tolist()],
        }


def _best(scores: Any) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return number and score of the best items of each row, best first."""
    n, m = scores.shape
    k = min(TOP, m)
    top = np.empty((n, k), np.int64)
    best = np.empty((n, k), np.float32)
    rows = max(1, _BLOCK // (12 * m))
    for start in range(0, n, rows):
        block = np.asarray(scores[start : start + rows])
        some = np.argpartition(-block, k - 1, axis=1)[:, :k]
        values = np.take_along_axis(block, some, axis=1)
        order = np.lexsort((some, -values), axis=1)
        top[start : start + rows] = np.take_along_axis(some, order, axis=1)
        best[start : start + rows] = np.take_along_axis(values, order, axis=1)
    return top, best


def _hubness(top: NDArray[np.int64], n_gallery: int) -> dict[str, Any]:
    """Describe how often gallery items are among the first ten: skewness, maximum, share never."""
    counts = np.bincount(top.ravel(), minlength=n_gallery).astype(np.float64)
    spread = counts.std()
    skewness = float(np.mean((counts - counts.mean()) ** 3) / spread**3) if spread else 0.0
    return {
        "skewness": skewness,
        "max": int(counts.max()),
        "never": float((counts == 0).mean()),
    }


# ---- what else is recorded -----------------------------------------------------------------------


@dataclass
class _Clock:
    """Seconds by phase; a phase that comes several times adds up."""

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


def _peak_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _size(model: Any, views: Views) -> dict[str, int | None]:
    """Return the number of trained parameters, of a network, and of dimensions, of a space."""
    from crossfit.querying import encode

    method = getattr(model, "steps", [("", model)])[0][1]
    parameters = None
    if hasattr(getattr(method, "net_", None), "module_"):
        parameters = sum(part.numel() for part in method.net_.module_.parameters())
    dimensions = None
    if hasattr(method, "transform"):
        name = next(name for name in views.names if name in _fitted_on(model))
        try:
            few = encode(method, take_rows(views.distinct(name)[0], slice(0, 2)), name)
            dimensions = int(few.shape[1])
        except (ValueError, TypeError, AttributeError, IndexError):
            dimensions = None  # a space that is no array of vectors
    return {"parameters": parameters, "dimensions": dimensions}


def _attention(method: Any, views: Views, raw: Views) -> Arrays:
    """Return attention maps of the first test pairs, where the method explains itself.

    Keys are ``"<number>|<part>"``, see `CellRecord.attention`. `raw` has the texts.
    """
    if not hasattr(method, "explain"):
        return {}
    rows = np.sort(np.unique(views.groups, return_index=True)[1])[:EXPLAINED]
    try:
        explained = method.explain(views[rows])
        texts = [name for name in raw.names if _is_text(raw[rows][name])]
        found: Arrays = {}
        for i, row in enumerate(rows):
            for name in explained.names:
                weights = explained[name][[i]]
                info = getattr(weights, "info", {})
                number = len({key.partition("|")[0] for key in found})
                view = name if name in views else views.names[0]
                parts: dict[str, Any] = {
                    "weights": np.asarray(weights[0], np.float32),
                    "item": views.distinct(view)[1][row],
                    "view": name,
                    "query": str(raw[rows][texts[0]][i]) if texts else "",
                }
                if "boxes" in info:
                    parts["regions"] = np.asarray(info["boxes"], np.float32)
                if "grid" in info:
                    parts["grid"] = np.asarray(info["grid"])
                if "words" in info:
                    parts["words"] = np.asarray(list(info["words"]), dtype=str)
                found |= {f"{number}|{key}": np.asarray(part) for key, part in parts.items()}
        return {key: part for key, part in found.items() if part.dtype != object}
    except Exception as error:
        warnings.warn(f"no attention maps: {_told(error)}", stacklevel=2)
        return {}


def _is_text(values: Any) -> bool:
    return getattr(values, "dtype", None) == np.dtype(object) and isinstance(values[0], str)


def _history(method: Any) -> list[dict[str, Any]]:
    """Return the epochs of a trained network: numbers only."""
    history = getattr(getattr(method, "net_", None), "history", None) or []
    return [
        {
            key: float(value) if isinstance(value, (float, np.floating)) else value
            for key, value in row.items()
            if isinstance(value, (bool, int, float, str, np.floating))
        }
        for row in history
    ]


def environment(task: Task) -> dict[str, Any]:
    """Return Python, platform, threads, and the versions of what is loaded and matters."""
    import crossfit

    packages = {"crossfit-retrieval": crossfit.__version__}
    packages[task.cell["method"]["distribution"]] = task.cell["method"]["version"]
    for module, name in _WATCHED.items():
        if module in sys.modules:
            packages[name] = _version(name)
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages,
        "threads": _threads(sys.modules.get("torch")),
        "processors": os.cpu_count(),
    }


@cache
def _version(name: str) -> str:
    return importlib.metadata.version(name)


_WATCHED = {
    "numpy": "numpy", "scipy": "scipy", "sklearn": "scikit-learn", "torch": "torch",
    "torchvision": "torchvision", "skorch": "skorch", "optuna": "optuna", "gensim": "gensim",
    "onnxruntime": "onnxruntime", "librosa": "librosa",
}  # fmt: skip


@cache
def _threads(torch: Any) -> int:
    import threadpoolctl

    pools = [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]
    return max([*pools, *([torch.get_num_threads()] if torch else [])], default=1)
