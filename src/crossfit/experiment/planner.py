"""Plan an experiment: its cells, their keys, and which of them cannot be computed."""

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
from crossfit.experiment.nested import leaves, origin, with_members
from crossfit.experiment.spec import Experiment
from crossfit.experiment.spec_parts import DatasetSpec, MethodSpec
from crossfit.experiment.spec_space import written_tune
from crossfit.experiment.store import Store
from crossfit.experiment.task import Cell, PairSource, Task
from crossfit.search_space import Part

__all__ = ["method_identity", "plan"]


def plan(
    experiment: Experiment,
    store: Store | str | os.PathLike[str] = "crossfit-runs",
    *,
    root: str | os.PathLike[str] | None = None,
    data: str | os.PathLike[str] | None = None,
) -> list[Task]:
    """Return the tasks of an experiment, one per cell, in order.

    Data sets are loaded, but nothing is computed.

    Parameters
    ----------
    experiment : Experiment
        The experiment.
    store : Store or path-like, default="crossfit-runs"
        Where results are stored.
    root : path-like, optional
        Folder of the data sets; ``CROSSFIT_DATA`` by default.
    data : path-like, optional
        A table of the user's own pairs, which replaces the experiment's data sets.

    Returns
    -------
    list of Task
        ``task.cell`` is the cell; ``task.skip`` is the reason why it cannot be computed.

    Raises
    ------
    SpecError
        If the experiment sets an unknown option of a data set, or an unknown parameter.
    """
    store = store if isinstance(store, Store) else Store(store)
    _check_storages(experiment)
    datasets: Sequence[DatasetSpec] = experiment.datasets
    if data is not None:
        name = Path(data).stem
        datasets = (DatasetSpec(name, {}, {}, name),)
    methods = [_method(experiment, method) for method in experiment.methods]
    found: list[Task] = []
    for dataset in datasets:
        pairs = _pairs(experiment, dataset, root, data)
        for method in methods:
            found += _tasks(experiment, method, pairs, store)
    return found


def _check_storages(experiment: Experiment) -> None:
    """Check, before anything is loaded, that the studies of the methods can be stored."""
    for method in experiment.methods:
        if method.tuning is None or method.tuning.storage is None:
            continue
        from crossfit.model_selection.storages import check_storage

        try:
            check_storage(method.tuning.storage)
        except ValueError as error:
            place = f"{method.line}method {method.label!r}: tuning"
            raise SpecError(f"{place}: {error}") from error


@dataclass(frozen=True, eq=False)
class _Pairs:
    """The pairs of a data set, or the reason why they cannot be loaded.

    Parameters
    ----------
    label : str
        Label of the data set in the experiment.
    source : PairSource
        Source of the pairs.
    identity : mapping
        Part of a cell's key.
    code : str
        Hash of the loader's code.
    train : Split or None
        The pairs to fit on.
    problem : str
        Why they cannot be loaded; empty if they can.
    """

    label: str
    source: PairSource
    identity: Mapping[str, Any]
    code: str
    train: Any
    problem: str


def _pairs(
    experiment: Experiment,
    dataset: DatasetSpec,
    root: str | os.PathLike[str] | None,
    data: str | os.PathLike[str] | None,
) -> _Pairs:
    from crossfit.datasets.loading import options_of
    from crossfit.experiment.data import load_splits

    splits = {} if data is not None else dict(experiment.splits)
    source = PairSource.of(dataset.name, dataset.options, dataset.subset, splits, data, root)
    identity = {
        "name": dataset.name,
        "params": dict(dataset.options),
        "revision": None,
        "subset": dict(dataset.subset),
        "splits": dict(experiment.splits),
    }
    code = ""
    try:
        if source.table is None:
            loader = registry.load(dataset.name, "crossfit.datasets")
            code = code_of(loader)
            own = options_of(loader)
            if own is not None:
                given = Node(dataset.options, f"dataset {dataset.label!r}", "")
                given.known(["name", "split", "subset", "label", *own])
        loaded = load_splits(source)
    except (registry.RegistryError, FileNotFoundError, ImportError) as error:
        return _Pairs(dataset.label, source, identity, code, None, _words(error))
    identity |= {"revision": loaded.dataset.revision, "splits": dict(loaded.roles)}
    return _Pairs(dataset.label, source, identity, code, loaded.splits["train"], "")


@dataclass(frozen=True, eq=False)
class _Method:
    """A method with its features, or the reason why it cannot be built.

    Parameters
    ----------
    spec : MethodSpec
        The method in the experiment.
    features : mapping
        View to features, including those of the experiment.
    identity, keyed_features, tune : mapping
        Parts of a cell's key; `tune` is None if nothing is tuned.
    space : mapping of str to Float, Int, Choice or Each
        Search space.
    made : CrossModalEstimator or None
        The method, not fitted; None if it cannot be built.
    random : bool
        Whether the method depends on a seed.
    problem : str
        Why it cannot be built; empty if it can.
    """

    spec: MethodSpec
    features: Mapping[str, Any]
    identity: Mapping[str, Any]
    keyed_features: Mapping[str, Any]
    tune: Mapping[str, Any] | None
    space: Mapping[str, Part]
    made: Any
    random: bool
    problem: str


def _method(experiment: Experiment, spec: MethodSpec) -> _Method:
    from crossfit.experiment.build import (
        build_features,
        build_method,
        build_similarity,
        draws_at_random,
    )
    from crossfit.experiment.identity import describe, digests
    from crossfit.experiment.tuning import search_space

    features = {**experiment.features, **spec.features}
    identity: dict[str, Any] = {"name": spec.method.rpartition(":")[2]}
    identity |= {"distribution": "", "version": ""}
    identity |= {"params": dict(spec.params), "similarity": spec.similarity}
    keyed_features: dict[str, Any] = dict(features)
    tune, problem = None, ""
    space: Mapping[str, Part] = {}
    random = True
    made: Any = None
    try:
        identity |= origin(spec.method)
        made = build_method(spec)
        identity |= method_identity(spec, made)
        # A search may choose files too.
        files = identity.get("files", {}) | digests(written_tune(spec.tune))
        identity |= {"files": files} if files else {}
        similarity = build_similarity(spec.similarity)
        random = draws_at_random(spec)
        if spec.tune is not None:
            space = search_space(spec)
            tune = {name: _described(part) for name, part in space.items()}
        transformers = build_features(features)
        _check_tuned(spec, space, transformers, made, similarity)
        keyed_features = {view: describe(part) for view, part in transformers}
    except (registry.RegistryError, ImportError, FileNotFoundError) as error:
        problem = _words(error)
    return _Method(spec, features, identity, keyed_features, tune, space, made, random, problem)


def method_identity(spec: MethodSpec, made: Any) -> dict[str, Any]:
    """Return the part of a cell's key that is its method, and the methods that it holds.

    Parameters
    ----------
    spec : MethodSpec
        The method.
    made : estimator
        The object that `build_method` returns for it.
    """
    from crossfit.experiment.build import build_features, build_similarity
    from crossfit.experiment.identity import describe

    members = with_members(spec.method, dict.fromkeys(spec.members)) if spec.members else {}
    described = describe(made)
    found: dict[str, Any] = origin(spec.method)
    found["params"] = {
        key: value for key, value in described["params"].items() if key not in members
    }
    found["similarity"] = describe(build_similarity(spec.similarity))
    found["code"] = described.get("code", "")
    found |= {"files": described["files"]} if "files" in described else {}
    if spec.members:
        held = made.get_params()
        found["members"] = {
            name: {
                **method_identity(member, held[name].named_steps["method"]),
                "features": {
                    view: describe(part) for view, part in build_features(member.features)
                },
            }
            for name, member in spec.members.items()
        }
    return found


def _words(error: Exception) -> str:
    return " ".join(str(error).split())


def _tasks(experiment: Experiment, method: _Method, pairs: _Pairs, store: Store) -> Iterator[Task]:
    """Yield the tasks of a method on a data set, one per seed on which it depends."""
    spec = method.spec
    tuning = None
    if spec.tuning is not None:
        tuning = asdict(spec.tuning)
        del tuning["storage"]  # where trials are stored does not change them
        if not tuning["refit_epochs"]:
            del tuning["refit_epochs"]  # keeps the keys of versions without this setting
        if not tuning["against"]:
            del tuning["against"]
        if not tuning["defaults"]:
            del tuning["defaults"]
    for seed in experiment.seeds if method.random else experiment.seeds[:1]:
        identity = {
            "dataset": pairs.identity,
            "loader": pairs.code,
            "features": method.keyed_features,
            "method": method.identity,
            "seed": seed if method.random else None,
            "protocol": {
                "metrics": list(experiment.metrics),
                "relevance": experiment.relevance,
                "ties": experiment.ties,
                "tuning": tuning,
                "tune": method.tune,
            },
        }
        once = not method.random and len(experiment.seeds) > 1
        cell = Cell(
            key=key_of(identity),
            label=spec.label,
            dataset=pairs.label,
            seed=seed,
            features="; ".join([one_line(method.features), *_of_members(spec)]),
            note="draws nothing at random: runs once" if once else "",
            cell=identity,
        )
        yield Task(
            cell,
            spec,
            pairs.source,
            {view: part for view, part in method.features.items() if part is not None},
            method.space,
            str(store.folder.absolute()),
            store.lease,
            pairs.problem or method.problem or _unfit(experiment, method, pairs),
        )


def _unfit(experiment: Experiment, method: _Method, pairs: _Pairs) -> str:
    """Return why a method cannot be fitted on these pairs; empty if it can."""
    from crossfit.compose import ALL_VIEWS
    from crossfit.experiment.data import labels_missing

    views = (*pairs.train.views.names, ALL_VIEWS)
    there = ", ".join(pairs.train.views.names)
    absent = [view for view in method.keyed_features if view not in views]
    if absent:
        return f"features name the view {absent[0]!r}, but the data set has {there}"
    names = set(pairs.train.views.names)
    for leaf, made, own in leaves(method.spec, method.made):
        problem = labels_missing(leaf.method, experiment.relevance, pairs.train.y)
        if not problem and (missing := sorted(own.difference(views))):
            problem = f"features name the view {missing[0]!r}, but the data set has {there}"
        if not problem and ALL_VIEWS not in {*method.keyed_features, *own}:
            try:
                made.check_kinds(pairs.train.views, names - set(method.keyed_features) - own)
            except ValueError as error:
                problem = str(error)
        if problem:
            return problem if leaf is method.spec else f"member {leaf.label}: {problem}"
    return ""


def _check_tuned(
    spec: MethodSpec, space: Mapping[str, Part], transformers: Any, method: Any, similarity: Any
) -> None:
    """Check that the tuned parameters of features and similarity exist."""
    from sklearn.pipeline import Pipeline

    from crossfit.compose import ViewTransformer
    from crossfit.experiment.build import checked_settings
    from crossfit.retrieval import RetrievalScorer

    steps = {"features": ViewTransformer(transformers), "scorer": RetrievalScorer(similarity)}
    place = f"{spec.line}method {spec.label!r}: tune"
    checked_settings(Pipeline([*steps.items(), ("method", method)]), space, place)
    for name in space:
        step, _, inner = name.partition("__")
        if step in steps and inner not in steps[step].get_params():
            kind = {"features": "features", "scorer": "similarity"}[step]
            raise SpecError(f"{place}: {name!r} is not a parameter of the {kind}")


def _described(part: Any) -> dict[str, Any]:
    """Return a part of a search space as part of a key."""
    found = {"kind": type(part).__name__, **vars(part)}
    if "part" in found:
        found["part"] = _described(found["part"])
    return found


def _of_members(spec: MethodSpec) -> Iterator[str]:
    for name, member in spec.members.items():
        if member.features:
            yield f"{name}: {one_line(member.features)}"
        yield from (f"{name} {words}" for words in _of_members(member))


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

    return ", ".join(
        f"{'all views' if view == '*' else view}: {words(spec)}" for view, spec in features.items()
    )
