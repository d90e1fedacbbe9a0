"""Load the pairs of a cell: load the data set, assign roles to its splits, draw subsets."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from crossfit import registry
from crossfit.datasets import Dataset, Split
from crossfit.experiment.keys import key_of
from crossfit.experiment.nested import leaf_names
from crossfit.experiment.own import read_own, rows_of
from crossfit.experiment.task import PairSource, Skip, Task

__all__ = ["check_labels", "labels_missing", "load_splits"]


@dataclass(frozen=True, eq=False)
class Loaded:
    """A data set with the splits that an experiment uses.

    Parameters
    ----------
    dataset : Dataset
        The data set.
    roles : mapping of str to str
        Role (``train``, ``validation``, ``test``) to the name of the split.
    splits : mapping of str to Split
        Role to its pairs, after drawing subsets.
    """

    dataset: Dataset
    roles: Mapping[str, str]
    splits: Mapping[str, Split]


def load_splits(source: PairSource, revision: str | None = None) -> Loaded:
    """Load a data set and draw subsets; the two most recent results are kept in memory.

    Parameters
    ----------
    source : PairSource
        Source of the pairs.
    revision : str, optional
        Expected revision of the data set. Without it the data set is read again.

    Raises
    ------
    FileNotFoundError, ValueError, crossfit.registry.RegistryError
        If the data set is missing, cannot be read or has another revision.
    """
    key = key_of(dataclasses.asdict(source))
    found = _loaded.get(key)
    if found is None or revision is None or found.dataset.revision != revision:
        found = _read_splits(source)
        _loaded[key] = found
        while len(_loaded) > 2:
            _loaded.popitem(last=False)
    if revision not in (None, found.dataset.revision):
        raise ValueError(
            f"data set {found.dataset.name!r} has changed since the run was planned: "
            f"revision {found.dataset.revision}, not {revision}"
        )
    return found


_loaded: OrderedDict[str, Loaded] = OrderedDict()


def _read_splits(source: PairSource) -> Loaded:
    if source.table:
        ds, roles = _own_pairs(source)
    else:
        ds = _load(source)
        roles = _roles(ds, source.splits)
    splits = {}
    taken: dict[str, int] = {}
    for role, name in roles.items():
        # Roles that share a split get consecutive, disjoint groups of one shuffle.
        shared = list(roles.values()).count(name) > 1
        size = source.subset.get(role, None if shared else source.subset.get(name))
        if shared and size is None:
            raise ValueError(
                f"the key 'splits' names {name!r} for {role} and another role; give the number "
                f"of groups that {role} draws from it under 'subset'"
            )
        start = taken.get(name, 0)
        if size is None:
            splits[role] = ds[name]
        else:
            splits[role] = _drawn(ds[name], start, size, f"{ds.name}.{name}")
            taken[name] = start + size
    unknown = set(source.subset) - set(roles) - set(roles.values())
    if unknown:
        raise ValueError(
            f"subset of data set {ds.name!r} names {sorted(unknown)[0]!r}: the splits in use are "
            f"{', '.join(f'{name} ({role})' for role, name in roles.items())}"
        )
    return Loaded(ds, roles, splits)


def _load(source: PairSource) -> Dataset:
    import inspect

    from crossfit.datasets import load

    options = dict(source.options)
    named = [name for name in source.splits.values() if name]
    if {"train", "test"} <= set(source.splits) and "subsets" not in options:
        # Only the files of the splits in use are required.
        loader = registry.load(source.name, "crossfit.datasets")
        if "subsets" in inspect.signature(loader).parameters:
            options["subsets"] = tuple(dict.fromkeys(named))
    split = options.pop("split", None)
    return load(source.name, source.root, split=split, **options)


def _roles(ds: Dataset, wanted: Mapping[str, str | None]) -> dict[str, str]:
    validation = next((name for name in ("val", "validation", "dev") if name in ds), None)
    roles: dict[str, str | None] = {
        "train": "train", "validation": validation, "test": "test", **wanted
    }  # fmt: skip
    if "validation" not in wanted and roles["test"] == validation:
        roles["validation"] = None  # test pairs must not be used for validation
    found = {role: name for role, name in roles.items() if name is not None}
    for role, name in found.items():
        if name not in ds:
            raise ValueError(
                f"data set {ds.name!r} has the splits {', '.join(ds.splits)}, not {name!r}: set "
                f"the split for {role} under the key 'splits'"
            )
    if {"train", "test"} - set(found):
        raise ValueError("the key 'splits' must name a split for train and one for test")
    return found


def _own_pairs(source: PairSource) -> tuple[Dataset, dict[str, str]]:
    """Read the user's pairs; unless they are divided, test on a fifth of the groups."""
    assert source.table is not None
    ds = read_own(source.table, source.options, source.splits)
    named = {
        role: source.options[role] if source.options[role] in ds else role
        for role in ("validation", "test")
        if source.options.get(role) is not None
    }
    return ds, _roles(ds, {**named, **source.splits})


def _drawn(split: Split, start: int, size: int, name: str) -> Split:
    """Draw groups from position `start` of a seeded shuffle; rows keep their order."""
    groups = np.unique(split.groups)
    if start + size > len(groups):
        before = f" after the {start} of another role" if start else ""
        raise ValueError(
            f"subset requires {size} groups of {name}{before}, which has {len(groups)}"
        )
    chosen = np.random.RandomState(0).permutation(groups)[start : start + size]
    return rows_of(split, np.flatnonzero(np.isin(split.groups, chosen)))


def labels_missing(method: str, relevance: str, y: Any) -> str:
    """Return a message if the method or the relevance lacks labels, else an empty string."""
    card = registry.get(method)
    if card.labels in ("single", "multi") and y is None:
        return f"{method} requires labels, but the data set has none"
    if card.labels == "single" and np.ndim(y) == 2:
        return f"{method} requires one label per pair, but the data set has several"
    if relevance == "label" and y is None:
        return "relevance is by label, but the data set has no labels"
    return ""


def check_labels(task: Task, train: Split) -> None:
    """Raise `Skip` if the data set lacks labels that the task needs."""
    for name in leaf_names(task.method):
        if problem := labels_missing(name, task.relevance, train.y):
            raise Skip(problem)
