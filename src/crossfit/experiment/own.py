"""A user's own pairs, and which of them are for training, validation and the test."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit.datasets.pairs import read_pairs
from crossfit.datasets.record import Dataset, Split, content_hash, shortened

__all__ = ["divided", "read_own", "rows_of"]

#: Share of the groups of pairs that are not divided which is held out for the test.
TEST = 0.2


def read_own(
    path: str | os.PathLike[str], options: Mapping[str, Any], roles: Mapping[str, str | None]
) -> Dataset:
    """Read a user's own pairs, and divide them if they are not.

    Parameters
    ----------
    path : path
        Anything that `crossfit.datasets.read_pairs` reads.
    options : mapping
        Its options; and ``test`` and ``validation``: the name of a split, the share of the groups
        of the training pairs, or the path of further pairs.
    roles : mapping of str to str or None
        Role to the name of its split, if the experiment sets it.

    Returns
    -------
    Dataset
        With a split ``test``, unless `roles` or `options` name another.

    Raises
    ------
    ValueError
        If there are too few pairs to hold some out, or a picture or sound is on both sides.
    """
    rest = {key: value for key, value in options.items() if key not in ("test", "validation")}
    ds = read_pairs(path, **rest)
    if list(ds.splits) == ["all"]:
        ds = dataclasses.replace(ds, splits={"train": ds["all"]})
        # A stored cell names the split of each role, also one that was made here.
        if options.get("test") is None and roles.get("test", "test") == "test":
            ds = divided(ds, "test", TEST, Path(path).name)
    for role in ("test", "validation"):
        given = options.get(role)
        if isinstance(given, (int, float)):
            ds = divided(ds, role, float(given), Path(path).name)
        elif given is not None and given not in ds:
            ds = _with_further(ds, role, Path(given), rest)
    return ds


def divided(ds: Dataset, role: str, share: float, name: str) -> Dataset:
    """Return a data set with a share of the groups of its training pairs as a split of their own.

    Parameters
    ----------
    ds : Dataset
        With a split ``train``; its other splits stay as they are.
    role : str
        Name of the new split.
    share : float
        Share of the groups, more than 0 and less than 1.
    name : str
        Name of the pairs in messages.
    """
    from sklearn.model_selection import GroupShuffleSplit

    if not 0 < share < 1:
        raise ValueError(f"{role} must be a share of the pairs between 0 and 1, got {share:g}")
    if role in ds:
        raise ValueError(f"{name} has a split {role!r} already; name it instead of a share")
    if "train" not in ds:
        raise ValueError(
            f"{name} has the splits {', '.join(ds.splits)}, and no split 'train' to take {role} "
            "from"
        )
    whole = ds["train"]
    n = len(np.unique(whole.groups))
    if n < 3:
        raise ValueError(
            f"{name} has {len(whole)} pair{'s' * (len(whole) != 1)} in {n} "
            f"group{'s' * (n != 1)} to learn from, too few to hold some out for {role}: at least 3 "
            "groups are needed"
        )
    splitter = GroupShuffleSplit(1, test_size=share, random_state=0)
    kept, held_out = next(splitter.split(np.zeros(len(whole)), groups=whole.groups))
    parts = {"train": rows_of(whole, kept), role: rows_of(whole, held_out)}
    splits = {**parts, **{key: split for key, split in ds.splits.items() if key not in parts}}
    return dataclasses.replace(ds, splits=splits)


def rows_of(split: Split, rows: NDArray[Any]) -> Split:
    """Return some rows of a split."""
    return Split(
        split.views[rows],
        None if split.y is None else split.y[rows],
        {key: values[rows] for key, values in split.info.items()},
    )


def _with_further(ds: Dataset, role: str, path: Path, options: Mapping[str, Any]) -> Dataset:
    """Return a data set with the pairs of another file as the split of a role."""
    if not path.exists():
        raise FileNotFoundError(
            f"{role} must be a split ({', '.join(ds.splits)}), a share of the pairs such as 0.2, "
            f"or a file, got {str(path)!r}"
        )
    other = read_pairs(path, **options)
    split = next((other[name] for name in (role, "all") if name in other), None)
    if split is None:
        raise ValueError(
            f"{str(path)!r} has the splits {', '.join(other.splits)}: expected pairs that are not "
            f"divided, or a split {role!r}"
        )
    if role in ds:
        raise ValueError(f"the pairs have a split {role!r} already, so that {path} cannot be it")
    first = next(iter(ds.splits.values())).views
    if split.views.names != first.names:
        raise ValueError(
            f"{str(path)!r} must have the views {', '.join(first.names)}, it has "
            f"{', '.join(split.views.names)}"
        )
    for name, own in ds.splits.items():
        _refuse_shared(own, split, name, path)
    y = split.y
    if y is not None and other.target_names != ds.target_names:
        known = {name: code for code, name in enumerate(ds.target_names or ())}
        new = [name for name in other.target_names or () if name not in known]
        if new or y.ndim == 2:
            raise ValueError(
                f"{str(path)!r} must have the classes of the other pairs, but they differ: "
                f"{shortened(new) or 'their order does'}"
            )
        codes = np.array([known[name] for name in other.target_names or ()] + [-1])
        y = codes[y]
    made = Split(split.views, y, split.info)
    revision = content_hash(ds.revision, role, other.revision)
    return dataclasses.replace(ds, splits={**ds.splits, role: made}, revision=revision)


def _refuse_shared(one: Split, other: Split, name: str, path: Path) -> None:
    """Raise a ValueError if a file is in both."""
    for view in one.views.names:
        items, others = one.views.distinct(view)[0], other.views.distinct(view)[0]
        if not all(
            isinstance(part, np.ndarray) and part.ndim == 1 and isinstance(part[0], str)
            for part in (items, others)
        ):
            continue
        both = sorted({*map(os.path.abspath, items)} & {*map(os.path.abspath, others)})
        files = [item for item in both if os.path.exists(item.partition("::")[0])]
        if files:
            raise ValueError(
                f"{str(path)!r} has {len(files)} files of {view!r} that are in the split {name!r} "
                f"too: {shortened(files)}; what is learnt from them cannot be tested on them"
            )
