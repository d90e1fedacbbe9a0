"""The plan of an experiment: its cells, their keys, and what cannot be computed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from crossfit import registry
from crossfit._code import code_of
from crossfit.experiment._yaml import Node, SpecError
from crossfit.experiment.keys import key_of
from crossfit.experiment.spec import Experiment
from crossfit.experiment.spec_parts import DatasetSpec, MethodSpec
from crossfit.experiment.store import Store
from crossfit.experiment.task import Task

__all__ = ["Planned", "plan"]


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
    from crossfit.experiment.data import load_splits

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
    from crossfit.experiment.build import (
        build_features,
        build_method,
        build_similarity,
        draws_at_random,
    )
    from crossfit.experiment.data import labels_missing
    from crossfit.experiment.identity import describe, digests
    from crossfit.experiment.tuning import search_space

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
        if not tuning["refit_epochs"]:
            del tuning["refit_epochs"]  # keys of before there was a choice stay as they are
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
    from crossfit.experiment.build import build_method, build_similarity, check_settings
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


def one_line(features: Mapping[str, Any]) -> str:
    """Return features in one line: ``image: efficientnet-lite0, text: TfidfVectorizer + ...``."""

    def words(spec: Any) -> str:
        if spec is None:
            return "as they are"
        if isinstance(spec, list):
            return " + ".join(map(words, spec))
        if "channel" in spec:
            return str(spec["channel"])
        if "channels" in spec:
            return " | ".join(f"{name}: {words(part)}" for name, part in spec["channels"].items())
        return str(spec["name"]).rpartition(".")[2]

    return ", ".join(f"{view}: {words(spec)}" for view, spec in features.items())
