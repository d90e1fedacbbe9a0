"""Run an experiment: plan its cells, compute those that the store lacks, show how far it is."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import crossfit
from crossfit import registry
from crossfit._code import code_of, package_files
from crossfit._files import room_for
from crossfit.experiment._yaml import Node, SpecError
from crossfit.experiment.forms import PLAN, RUN
from crossfit.experiment.spec import DatasetSpec, Experiment, MethodSpec
from crossfit.experiment.store import (
    RunRecord,
    Store,
    StoreError,
    draft_name,
    key_of,
    now,
    put,
    read_json,
    signed,
    write_json,
)

__all__ = ["Planned", "plan", "run"]


@dataclass(frozen=True)
class Planned:
    """A cell of an experiment, before it is computed.

    Parameters
    ----------
    key : str
        Key in the store.
    method, dataset : str
        Labels.
    seed : int
        The seed.
    features : str
        The features in one line.
    note : str
        What is to be said of it, for instance that the seed makes no difference.
    skip : str
        Why it cannot be computed; empty if it can.
    task : Task or None
        What to compute; None if it is skipped.
    cell : mapping
        What the key is made of.
    """

    key: str
    method: str
    dataset: str
    seed: int
    features: str
    note: str
    skip: str
    task: Any
    cell: Mapping[str, Any]


def plan(
    experiment: Experiment,
    store: Store | str | os.PathLike[str] = "crossfit-runs",
    *,
    root: str | os.PathLike[str] | None = None,
    data: str | os.PathLike[str] | None = None,
) -> list[Planned]:
    """Return the cells of an experiment, in order; data sets are loaded, nothing is computed.

    Parameters
    ----------
    experiment : Experiment
        What to run.
    store : Store or path
        Where results go.
    root : path, optional
        Folder of the data sets; ``CROSSFIT_DATA`` by default.
    data : path, optional
        A table of the user's own pairs, in place of the experiment's data sets.

    Raises
    ------
    SpecError
        If a data set has no such option, or a method or a part no such parameter.
    """
    store = store if isinstance(store, Store) else Store(store)
    _check_storages(experiment)
    datasets: Sequence[DatasetSpec] = experiment.datasets
    if data is not None:
        name = Path(data).stem
        datasets = (DatasetSpec(name, {}, {}, name),)
    found: list[Planned] = []
    for dataset in datasets:
        about = _about(experiment, dataset, root, data)
        for method in experiment.methods:
            found += _cells_of(experiment, method, about, store, root)
    return found


def _check_storages(experiment: Experiment) -> None:
    """Refuse what cannot hold the studies of a method, before anything is loaded."""
    for method in experiment.methods:
        if method.tuning is None or method.tuning.storage is None:
            continue
        from crossfit.model_selection.storages import check_storage

        try:
            check_storage(method.tuning.storage)
        except ValueError as error:
            place = f"{method.line}method {method.label!r}: tuning"
            raise SpecError(f"{place}: {error}") from error


def _about(
    experiment: Experiment,
    dataset: DatasetSpec,
    root: str | os.PathLike[str] | None,
    data: str | os.PathLike[str] | None,
) -> _Data:
    """Load a data set, or find out why it cannot be loaded."""
    from crossfit.datasets.loading import options_of
    from crossfit.experiment.cell import load_splits

    task = {
        "name": dataset.name,
        "options": dict(dataset.options),
        "subset": dict(dataset.subset),
        "splits": {} if data is not None else dict(experiment.splits),
        "own": None if data is None else str(Path(data).absolute()),
    }
    keyed = {
        "name": dataset.name,
        "params": dict(dataset.options),
        "revision": None,
        "subset": dict(dataset.subset),
        "splits": dict(experiment.splits),
    }
    code = ""
    try:
        if data is None:
            loader = registry.load(dataset.name, "crossfit.datasets")
            code = code_of(loader)
            own = options_of(loader)
            if own is not None:
                given = Node(dataset.options, f"dataset {dataset.label!r}", "")
                given.known(["name", "split", "subset", "label", *own])
        loaded = load_splits(task, None if root is None else str(root))
    except (registry.RegistryError, FileNotFoundError, ImportError) as error:
        return _Data(dataset.label, task, keyed, code, None, _words(error))
    keyed |= {"revision": loaded.dataset.revision, "splits": dict(loaded.roles)}
    return _Data(dataset.label, task, keyed, code, loaded, "")


@dataclass(frozen=True)
class _Data:
    """A data set as tasks and keys have it, loaded, or with the reason why not."""

    label: str
    task: dict[str, Any]
    keyed: dict[str, Any]
    code: str
    loaded: Any
    problem: str


def _words(error: Exception) -> str:
    return " ".join(str(error).split())


def _cells_of(
    experiment: Experiment,
    method: MethodSpec,
    data: _Data,
    store: Store,
    root: str | os.PathLike[str] | None,
) -> Iterator[Planned]:
    from crossfit.experiment.cell import Task, labels_missing, search_space
    from crossfit.experiment.parts import (
        build_features,
        build_method,
        build_similarity,
        describe,
        digests,
        draws_at_random,
        one_line,
    )

    features = {**experiment.features, **method.features}
    skip = data.problem
    about: dict[str, Any] = {"name": method.method, "distribution": "", "version": ""}
    about |= {"params": dict(method.params), "similarity": method.similarity}
    keyed_features: dict[str, Any] = dict(features)
    tune, space = None, {}
    random = True
    try:
        entry = registry.find(method.method)
        about |= {"distribution": entry.distribution, "version": entry.version}
        described = describe(build_method(method))
        about |= {"params": described["params"], "code": described.get("code", "")}
        # What a search may choose are files too.
        files = described.get("files", {}) | digests(method.tune)
        about |= {"files": files} if files else {}
        about["similarity"] = describe(build_similarity(method.similarity))
        random = draws_at_random(method)
        if method.tune is not None:
            space = search_space(method)
            tune = {name: _space(part) for name, part in space.items()}
        if method.tuning is not None and method.tuning.storage is not None:
            from crossfit.model_selection.storages import check_storage

            check_storage(method.tuning.storage)
        transformers = build_features(features)
        _check_tuned(method, space, transformers)
        keyed_features = {view: describe(part) for view, part in transformers}
        if not skip:
            train = data.loaded.splits["train"]
            skip = labels_missing(method.method, experiment.relevance, train.y)
            absent = [view for view in keyed_features if view not in train.views]
            if absent:
                there = ", ".join(train.views.names)
                skip = f"features name the view {absent[0]!r}, the data set has {there}"
    except (registry.RegistryError, ImportError, FileNotFoundError) as error:
        skip = skip or _words(error)
    tuning = None
    if method.tuning is not None:
        tuning = asdict(method.tuning)
        del tuning["storage"]  # where trials are kept, and not what they are
    for seed in experiment.seeds if random else experiment.seeds[:1]:
        cell = {
            "dataset": data.keyed,
            "loader": data.code,
            "features": keyed_features,
            "method": about,
            "seed": seed if random else None,
            "protocol": {
                "metrics": list(experiment.metrics),
                "relevance": experiment.relevance,
                "ties": experiment.ties,
                "tuning": tuning,
                "tune": tune,
            },
        }
        key = key_of(cell)
        task = Task(
            key=key,
            cell=cell,
            method=method,
            dataset=data.task,
            features={view: part for view, part in features.items() if part is not None},
            seed=seed if random else None,
            metrics=experiment.metrics,
            relevance=experiment.relevance,
            ties=experiment.ties,
            tuning=method.tuning,
            store=str(store.folder.absolute()),
            root=None if root is None else str(Path(root).absolute()),
            lease=store.lease,
        )
        note = ""
        if not random and len(experiment.seeds) > 1:
            note = "draws nothing at random: runs once"
        yield Planned(
            key, method.label, data.label, seed, one_line(features), note, skip,
            None if skip else task, cell,
        )  # fmt: skip


def _check_tuned(method: MethodSpec, space: Mapping[str, Any], transformers: Any) -> None:
    """Refuse to tune what the features or the similarity do not have; for methods see parts."""
    from sklearn.pipeline import Pipeline

    from crossfit.compose import ViewTransformer
    from crossfit.experiment.parts import build_method, build_similarity, check_settings
    from crossfit.retrieval import RetrievalScorer

    scorer = RetrievalScorer(build_similarity(method.similarity))
    steps = {"features": ViewTransformer(transformers), "scorer": scorer}
    whole = Pipeline([*steps.items(), ("method", build_method(method))])
    check_settings(whole, space, f"{method.line}method {method.label!r}: tune")
    for name in space:
        step, _, inner = name.partition("__")
        if step in steps and inner not in steps[step].get_params():
            raise SpecError(
                f"{method.line}method {method.label!r}: tune: {name!r} names no parameter of the "
                + {"features": "features", "scorer": "similarity"}[step]
            )


def _space(part: Any) -> dict[str, Any]:
    """Return a part of a search space as JSON has it."""
    found = {"kind": type(part).__name__, **vars(part)}
    if "part" in found:
        found["part"] = _space(found["part"])
    return found


# ---- running -------------------------------------------------------------------------------------


class Listener:
    """What is told how far a run is; the command line draws it."""

    def begin(self, planned: Sequence[Planned], todo: int) -> None:
        """Hear what there is and how many cells must be computed."""

    def search(self, label: str, outcome: Any, left: int) -> None:
        """Hear that settings of a method have been searched for."""

    def finished(self, planned: Planned, outcome: Any, left: int) -> None:
        """Hear that a cell has ended."""

    def waiting(self, left: int) -> None:
        """Hear that other processes compute what is left."""

    def end(self) -> None:
        """Hear that the run has ended or was interrupted."""


def run(
    experiment: Experiment,
    store: Store | str | os.PathLike[str] = "crossfit-runs",
    *,
    root: str | os.PathLike[str] | None = None,
    data: str | os.PathLike[str] | None = None,
    n_jobs: int = 1,
    backend: str = "loky",
    scheduler: str | None = None,
    retry_failed: bool = False,
    force: bool = False,
    listener: Listener | None = None,
    tracker: str | None = None,
    command: str = "",
) -> RunRecord:
    """Run an experiment; cells that the store has are taken from there.

    Parameters
    ----------
    experiment : Experiment
        What to run.
    store : Store or path
        Where results go. Several runs may use one store at once.
    root : path, optional
        Folder of the data sets; ``CROSSFIT_DATA`` by default.
    data : path, optional
        A table of the user's own pairs, in place of the experiment's data sets.
    n_jobs : int
        Processes; the processors are divided among them. -1 is one for each processor.
    backend : {"loky", "dask"}
        Processes on this machine, or the workers of a Dask cluster.
    scheduler : str, optional
        Address of the Dask scheduler, ``"tcp://..."``.
    retry_failed : bool
        Compute cells again that have failed.
    force : bool
        Compute all cells again, their searches and features too: after a change that no key sees,
        of a library for instance. Those that are done stay until they are replaced.
    listener : Listener, optional
        Hears how far the run is.
    tracker : {"mlflow", "tensorboard", "wandb"}, optional
        Who is handed the results too; see `crossfit.experiment.trackers`.
    command : str
        What was typed, for the record.

    Returns
    -------
    RunRecord
        With the cells in order. A cell that failed says so and has its traceback; it does not
        end the run.

    Examples
    --------
    >>> import tempfile
    >>> from crossfit.experiment import Experiment, run
    >>> e = Experiment(title="One", dataset="emoji", methods=["cca"],
    ...                features={"image": "grid", "text": [
    ...                    "sklearn.feature_extraction.text.TfidfVectorizer",
    ...                    {"name": "sklearn.decomposition.TruncatedSVD",
    ...                     "params": {"n_components": 50}}]})
    >>> run(e, tempfile.mkdtemp()).cells[0].status  # doctest: +SKIP
    'done'
    """
    if not isinstance(experiment, Experiment):
        raise TypeError(
            "run expects an Experiment, for instance Experiment.find('file.yaml' or a name), got "
            f"{experiment!r}"
        )
    store = store if isinstance(store, Store) else Store(store)
    store.clear_claims()
    if backend not in ("loky", "dask"):
        raise ValueError(f"backend must be 'loky' or 'dask', got {backend!r}")
    if backend == "dask" and not scheduler:
        raise ValueError("the backend 'dask' needs scheduler='tcp://<host>:<port>'")
    if not isinstance(n_jobs, int) or n_jobs == 0 or n_jobs < -1:
        raise ValueError(f"n_jobs must be a positive integer or -1, got {n_jobs!r}")
    listener = listener or Listener()
    follow = None
    if tracker is not None:
        from crossfit.experiment.trackers import make

        follow = make(tracker, store.folder / "tracking")
    # The user's own files are looked at in every run: a table does not say when one has changed.
    state = None if data is not None else _state(experiment, root)
    planned = None if retry_failed or force or state is None else _settled_plan(store, state)
    if planned is None:
        planned = plan(experiment, store, root=root, data=data)
    name = experiment.name if data is None else f"{experiment.name}-{Path(data).stem}"
    begun = now()
    given = {"data": None if data is None else str(Path(data).absolute())}
    given["root"] = None if root is None else str(Path(root).absolute())
    _write_run(store, name, experiment, planned, {"command": command, "created": begun, **given})
    for part in planned:
        if part.skip:
            record = {
                "status": "skipped",
                "reason": part.skip,
                "cell": part.cell,
                "finished": now(),
            }
            store.write_cell(part.key, record)  # unless it is done
    if retry_failed or force:
        from crossfit.experiment.cell import forget_search

        for part in planned:
            if part.task is not None:
                forget_search(part.task, store, failed=not force)
    options = {"retry_before": begun if retry_failed or force else "", "force": force}
    todo: dict[str, Planned] = {}
    for part in planned:
        found = store.usable(part.key)
        settled = found.status == "done" or (found.status == "failed" and not retry_failed)
        if part.task is not None and (force or not settled):
            about = {"tracker": follow, "run": (name, experiment.title)}
            todo.setdefault(part.key, replace(part, task=replace(part.task, **about)))
    listener.begin(planned, len(todo))
    try:
        if todo:
            with _workers(n_jobs, backend, scheduler) as work:
                _search(work, store, todo, listener)
                _compute(work, store, todo, options, listener)
    finally:
        listener.end()
        store.clear_claims()
    if state is not None:
        _keep_plan(store, state, planned)
    return store.run(name)


# ---- a finished experiment is not planned again --------------------------------------------------

_KEPT = ("key", "method", "dataset", "seed", "features", "note")


def _state(experiment: Experiment, root: str | os.PathLike[str] | None) -> str:
    """Hash what the plan of an experiment depends on, without loading data or methods.

    As `make` does, it takes files of equal size and time of change as unchanged.
    """
    from crossfit.experiment.parts import files_named

    folder = root or os.environ.get("CROSSFIT_DATA")
    files = {os.path.expanduser(path) for path in files_named(experiment.to_dict())}
    for dataset in experiment.datasets:
        for place in (Path(folder) / dataset.name, Path(folder)) if folder else ():
            if place.is_dir():
                files |= {str(path) for path in islice(place.rglob("*"), 200_000)}
                break
    # The code of all that is installed: what of it matters is known only to the plan.
    targets = {entry.card.target for entry in registry.entries() if entry.card is not None}
    for package in {"crossfit", *(re.split("[.:]", target)[0] for target in targets)}:
        files |= {str(path) for path in package_files(package).values()}
    stats = []
    for path in sorted(files):
        with contextlib.suppress(OSError):
            about = os.stat(path)
            stats.append([path, about.st_size, about.st_mtime_ns])
    versions = sorted({(entry.distribution, entry.version) for entry in registry.entries()})
    return key_of(
        {
            "experiment": experiment.to_dict(),
            "files": stats,
            "versions": [*versions, ("scikit-learn", importlib.metadata.version("scikit-learn"))],
        }
    )


def _settled_plan(store: Store, state: str) -> list[Planned] | None:
    """Return the plan kept from a run after which nothing was left to do."""
    path = store.folder / "plans" / f"{state}.json"
    try:
        if not os.path.lexists(path):
            return None
        rows = read_json(path, PLAN)["rows"]
    except StoreError:  # planned anew
        return None
    if not rows or any(store.usable(row["key"]).status not in ("done", "failed") for row in rows):
        return None
    return [Planned(**row, skip="", task=None, cell={}) for row in rows]


def _keep_plan(store: Store, state: str, planned: Sequence[Planned]) -> None:
    if any(part.skip for part in planned):
        return  # what is missing now may be there next time
    home = store.folder / "plans"
    home.mkdir(parents=True, exist_ok=True)
    draft = home / draft_name(state)
    rows = [{name: getattr(part, name) for name in _KEPT} for part in planned]
    try:
        with room_for("a plan", home):
            write_json(draft, signed({"rows": rows}))
            put(draft, home / f"{state}.json")
    finally:
        draft.unlink(missing_ok=True)


def _write_run(
    store: Store,
    name: str,
    experiment: Experiment,
    planned: Sequence[Planned],
    about: Mapping[str, Any],
) -> None:
    cells = [
        {
            "key": part.key,
            "method": part.method,
            "dataset": part.dataset,
            "seed": part.seed,
            "features": part.features,
            "note": part.note,
        }
        for part in planned
    ]
    record = {
        "title": experiment.title,
        "spec": experiment.to_dict(),
        "cells": cells,
        **about,
        "crossfit version": crossfit.__version__,
    }
    with contextlib.suppress(FileNotFoundError, ValueError):
        old = read_json(store.folder / "runs" / f"{name}.json", RUN)
        if old["cells"] == cells:
            record["created"] = old["created"]
    store.write_run(name, record)


Work = Callable[[Sequence[Any], Mapping[str, Any]], Iterator[Any]]


def _search(work: Work, store: Store, todo: Mapping[str, Planned], listener: Listener) -> None:
    """Search for settings first, once for the cells of all seeds."""
    from crossfit.experiment.cell import kept_search

    wanted: dict[str, Planned] = {}
    for part in todo.values():
        key = part.task.search_key
        if key is not None and kept_search(store, key) is None:
            wanted.setdefault(key, part)
    left = len(wanted)
    by_cell = {part.key: part for part in wanted.values()}
    for outcome in work([part.task for part in wanted.values()], {"search_only": True}):
        left -= 1
        listener.search(by_cell[outcome.key].method, outcome, left)


def _compute(
    work: Work,
    store: Store,
    todo: dict[str, Planned],
    options: Mapping[str, Any],
    listener: Listener,
) -> None:
    """Compute the cells; those that other runners have claimed are asked for again."""
    left = dict(todo)
    pause = 0.1
    while left:
        before = len(left)
        for outcome in work([part.task for part in left.values()], options):
            if outcome.status == "busy":
                continue
            part = left.pop(outcome.key)
            if outcome.status == "cached":  # another runner was quicker
                outcome = replace(outcome, status=store.cell(outcome.key).status)
            listener.finished(part, outcome, len(left))
        if left:
            listener.waiting(len(left))
            pause = 0.1 if len(left) < before else min(5.0, 1.5 * pause)
            time.sleep(pause)


@contextlib.contextmanager
def _workers(n_jobs: int, backend: str, scheduler: str | None) -> Iterator[Work]:
    if backend == "dask":
        with _dask(str(scheduler)) as work:
            yield work
    elif n_jobs == 1:
        yield _here
    else:
        with _processes((os.cpu_count() or 1) if n_jobs == -1 else n_jobs) as work:
            yield work


def _here(tasks: Sequence[Any], options: Mapping[str, Any]) -> Iterator[Any]:
    from crossfit.experiment.cell import execute

    for task in tasks:
        yield execute(task, **options)


@contextlib.contextmanager
def _processes(n_jobs: int) -> Iterator[Work]:
    """Give processes of this machine; one that is killed is replaced.

    All end with it. What they were at is then computed one cell at a time, and a cell during which
    its process is killed once more fails.
    """
    import joblib
    from joblib.externals.loky import get_reusable_executor
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    threads = max(1, (os.cpu_count() or 1) // n_jobs)

    def work(tasks: Sequence[Any], options: Mapping[str, Any]) -> Iterator[Any]:
        left = {task.key: task for task in tasks}
        suspects: list[str] = []
        while left:
            alone = next((key for key in suspects if key in left), None)
            batch = list(left.values()) if alone is None else [left[alone]]
            pool = joblib.Parallel(n_jobs=n_jobs, return_as="generator_unordered")
            me = os.getpid()
            jobs = [joblib.delayed(_for_parent)(me, task, **options) for task in batch]
            try:
                with joblib.parallel_config("loky", inner_max_num_threads=threads):
                    for outcome in pool(jobs):
                        left.pop(outcome.key)
                        yield outcome
            except TerminatedWorkerError:
                if alone is None:
                    # One that is killed before it claims anything leaves no trace.
                    suspects = [key for key, task in left.items() if _orphaned(task)] or list(left)
                else:
                    told = "the process that computed it was killed, perhaps for want of memory"
                    yield _lost(left.pop(alone), options, told)

    try:
        yield work
    except BaseException:
        # Ctrl-C too: what the processes compute now is not waited for, and stays unclaimed.
        get_reusable_executor().shutdown(wait=True, kill_workers=True)
        raise


def _for_parent(parent: int, task: Any, **options: Any) -> Any:
    """Compute a cell in a process of its own, which ends with the one that has started it."""
    from crossfit._processes import end_with
    from crossfit.experiment.cell import execute

    end_with(parent)
    return execute(task, **options)


def _orphaned(task: Any) -> bool:
    """Say whether a process that was at a cell, or at its search, has ended without a word."""
    names = [task.key] if task.search_key is None else [task.key, f"search-{task.search_key}"]
    return any(map(Store(task.store, lease=task.lease).is_orphaned, names))


def _lost(task: Any, options: Mapping[str, Any], told: str) -> Any:
    """Store the failure of a cell, or of a search, whose process cannot tell of it."""
    from crossfit.experiment.cell import Outcome, keep_search

    store = Store(task.store, lease=task.lease)
    if options.get("search_only"):
        claim = store.claim(f"search-{task.search_key}")
        if claim is not None:  # or another runner is at it
            with claim:
                keep_search(task, store, {"error": told, "traceback": ""})
    else:
        record = {"status": "failed", "cell": task.cell, "finished": now(), "traceback": told}
        store.write_cell(task.key, record)  # what was done before stays
    return Outcome(task.key, "failed", 0.0, told)


@contextlib.contextmanager
def _dask(scheduler: str) -> Iterator[Work]:
    """Give the workers of a Dask cluster; cells of a worker that is lost go to another."""
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise ImportError(
            "the backend 'dask' needs dask.distributed: pip install 'dask[distributed]'"
        ) from None

    from crossfit.experiment.cell import execute

    with Client(scheduler, timeout="20s", set_as_default=False) as client:

        def work(tasks: Sequence[Any], options: Mapping[str, Any]) -> Iterator[Any]:
            futures = {client.submit(execute, task, **options, pure=False): task for task in tasks}
            for future in as_completed(futures, loop=client.loop):
                if future.status == "error":
                    # Of the cluster, not of the cell: those are in the outcome.
                    error = future.exception()
                    yield _lost(futures[future], options, f"{type(error).__name__}: {error}")
                else:
                    yield future.result()

        yield work
