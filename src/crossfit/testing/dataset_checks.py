"""The checks of data sets: one function each, as those of methods in `crossfit.testing.checks`."""

# The docstrings state what must hold.
# ruff: noqa: D401

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any
from unittest import SkipTest

import joblib
import numpy as np

from crossfit import registry
from crossfit.cards import DatasetCard
from crossfit.datasets.loading import folder_of, options_of
from crossfit.datasets.record import Dataset, Split
from crossfit.testing.shared import CARD_CHECKS, global_state, other_random_state, refuses
from crossfit.views import Channels, Ragged, n_rows

__all__ = ["CHECKS", "DatasetSubject"]


@dataclass(frozen=True)
class DatasetSubject:
    """A data set under test.

    Parameters
    ----------
    target : callable
        The loader, ``(folder, split, **options) -> Dataset``.
    card : DatasetCard
    params : mapping of str to object
        Options of the loader.
    root : path, optional
        As in `crossfit.datasets.load`; without it a card's ``make_files`` writes the files.
    """

    target: Callable[..., Dataset]
    card: DatasetCard
    params: Mapping[str, Any]
    root: str | os.PathLike[str] | None = None

    @property
    def made(self) -> bool:
        """Whether the files are those of ``make_files``, and not the official ones."""
        return self.card.make_files is not None and self.root is None

    @property
    def options(self) -> list[str] | None:
        """Options that the loader takes; None if it takes any."""
        return options_of(self.target)

    @cached_property
    def _temporary(self) -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory(prefix="crossfit-check-")

    @cached_property
    def folder(self) -> Path | None:
        """Where the files are.

        Raises
        ------
        SkipTest
            If the data set is not at hand.
        """
        if self.card.embedded:
            return None
        if not self.made:
            try:
                return folder_of(self.card, self.root)
            except FileNotFoundError as error:
                raise SkipTest(str(error)) from None
        folder = Path(self._temporary.name) / self.card.name
        folder.mkdir()
        registry.resolve_target(str(self.card.make_files))(folder)
        return folder

    def load(self, folder: Path | None, split: str | None = None, **options: Any) -> Dataset:
        """Call the loader."""
        chosen = {**self.params, **options}
        if self.made and self.options is not None and "strict" in self.options:
            chosen = {"strict": False, **chosen}
        return self.target(folder, split or self.card.splits[0], **chosen)

    @cached_property
    def _loaded(self) -> tuple[Dataset, dict[str, Any]]:
        folder = self.folder
        try:
            return self.load(folder), {}
        except FileNotFoundError as error:
            if self.made:
                raise
            # Of some data sets one may have the files of a few splits.
            names = self.card.counts if "subsets" in (self.options or ()) else ()
            at_hand = [name for name in names if self._has(folder, name)]
            if not at_hand:
                raise SkipTest(str(error)) from None
            chosen: dict[str, Any] = {"subsets": tuple(at_hand)}
            return self.load(folder, **chosen), chosen

    def _has(self, folder: Path | None, name: str) -> bool:
        try:
            self.load(folder, subsets=(name,))
        except FileNotFoundError:
            return False
        return True

    @property
    def dataset(self) -> Dataset:
        """The data set, with the splits that are at hand."""
        return self._loaded[0]

    def again(self) -> Dataset:
        """Load the same once more."""
        return self.load(self.folder, **self._loaded[1])


def _digest(split: Split) -> str:
    return joblib.hash((split.views, split.y, dict(split.info)))


def check_record(subject: DatasetSubject) -> None:
    """It loads as a Dataset with its card, the splits of the card and the views of the card"""
    found = subject.dataset
    assert isinstance(found, Dataset), f"the loader must return a Dataset, got {type(found)!r}"
    assert found.card == subject.card, "the Dataset names another card than the entry point"
    assert found.splits, "it has no split"
    counts = subject.card.counts
    for name, split in found.splits.items():
        assert not counts or name in counts, (
            f"it has the split {name!r}, but the card counts {', '.join(counts)}"
        )
        assert split.views.names == subject.card.modalities, (
            f"split {name!r} has the views {split.views.names}, but the card has "
            f"modalities={subject.card.modalities}"
        )
        assert len(split), f"split {name!r} is empty"


def check_official_counts(subject: DatasetSubject) -> None:
    """Every split has as many items as the card counts"""
    if not subject.card.counts:
        raise SkipTest("the card counts nothing")
    found = subject.dataset
    if subject.made:
        raise SkipTest("the files are made up")
    if subject.params.get("strict") is False:
        raise SkipTest("strict=False takes the files as they are")
    for name, split in found.splits.items():
        sizes = {"rows": len(split)}
        sizes |= {view: n_rows(split.views.distinct(view)[0]) for view in split.views.names}
        wanted = subject.card.counts[name]
        told = ", ".join(f"{n} {what}" for what, n in sizes.items())
        assert wanted in sizes.values(), f"split {name!r}: the card counts {wanted}, got {told}"


def check_labels(subject: DatasetSubject) -> None:
    """Labels are of the kind that the card names, and of classes that have names"""
    found = subject.dataset
    kind = subject.card.labels
    for name, split in found.splits.items():
        if kind == "none":
            assert split.y is None, f"the card has labels='none', but split {name!r} has labels"
            continue
        assert split.y is not None, f"the card has labels={kind!r}, but split {name!r} has none"
        y = np.asarray(split.y)
        wanted = 1 if kind == "single" else 2
        assert y.ndim == wanted, (
            f"{kind} labels have {wanted} axes, got shape {y.shape} in {name!r}"
        )
        if found.target_names is None:
            continue
        n = len(found.target_names)
        if kind == "multi":
            assert y.shape[1] == n, f"{y.shape[1]} columns of labels in {name!r}, but {n} names"
            assert np.isin(y, (0, 1)).all(), f"labels of {name!r} must be 0 and 1"
        else:
            assert y.dtype.kind in "iu" and y.min() >= -1 and y.max() < n, (
                f"labels of {name!r} must be numbers of the {n} target_names, or -1, got "
                f"{y.min()} to {y.max()}"
            )


def check_splits_share_nothing(subject: DatasetSubject) -> None:
    """Items of the first view, and groups, do not lie in two splits"""
    found = subject.dataset
    if len(found.splits) < 2:
        raise SkipTest("there is one split at hand")
    first = subject.card.modalities[0]
    items = {name: _items(split.views.distinct(first)[0]) for name, split in found.splits.items()}
    for one, other in combinations(found.splits, 2):
        both = items[one].keys() & items[other].keys()
        at = min((items[one][key] for key in both), default=0)
        # Large official sets have a few pictures twice; a hundredth is no accident.
        allowed = min(len(items[one]), len(items[other])) // 100
        assert len(both) <= allowed, (
            f"{len(both)} items of {first!r} are in {one!r} and in {other!r}, the first of them "
            f"is item {at} of {one!r}"
        )
        groups = [found[name].info.get("group") for name in (one, other)]
        if None not in [None if part is None else 0 for part in groups]:
            shared = set(np.asarray(groups[0]).tolist()) & set(np.asarray(groups[1]).tolist())
            assert not shared, f"group {min(map(str, shared))} is in {one!r} and in {other!r}"


def _items(values: Any) -> dict[Any, int]:
    """Return where each different item of a view stands."""
    if isinstance(values, Channels):
        parts = [list(_items(values[name])) for name in values.names]
        return {key: i for i, key in reversed(list(enumerate(zip(*parts))))}
    if isinstance(values, np.ndarray) and values.dtype == object:
        keys: list[Any] = [
            value if isinstance(value, (str, os.PathLike)) else joblib.hash(value)
            for value in values
        ]
    elif isinstance(values, (np.ndarray, Ragged)):
        keys = [np.ascontiguousarray(row).tobytes() for row in values]
    else:
        keys = [joblib.hash(values[[i]]) for i in range(n_rows(values))]
    return {key: i for i, key in reversed(list(enumerate(keys)))}


def check_subsets(subject: DatasetSubject) -> None:
    """subsets= loads the splits asked for as they are among all, and no others"""
    if subject.options is not None and "subsets" not in subject.options:
        raise SkipTest("the loader takes no subsets")
    found = subject.dataset
    for name, split in found.splits.items():
        for form in ((name,), name):
            alone = subject.load(subject.folder, subsets=form)
            assert list(alone.splits) == [name], f"subsets={form!r} gave {', '.join(alone.splits)}"
        assert _digest(alone[name]) == _digest(split), f"{name!r} alone differs from {name!r}"
    refuses(
        "an unknown split in subsets",
        lambda: subject.load(subject.folder, subsets=("no-such-split",)),
        "no-such-split",
    )


def check_repeatable(subject: DatasetSubject) -> None:
    """Loading again gives the same, under the same revision, and writes and draws nothing"""
    first = subject.dataset
    files = _listing(subject.folder)
    with other_random_state():
        before = global_state()
        second = subject.again()
        after = global_state()
    assert isinstance(first.revision, str) and first.revision, "it has no revision"
    assert second.revision == first.revision, (
        f"the revision was {first.revision!r} and is {second.revision!r}"
    )
    for name in first.splits:
        assert _digest(second[name]) == _digest(first[name]), f"split {name!r} differs"
    touched = [name for name in before if before[name] != after[name]]
    assert not touched, f"changed: {', '.join(touched)}"
    assert _listing(subject.folder) == files, "the loader wrote to the folder of the data"


def _listing(folder: Path | None) -> list[tuple[str, int]]:
    if folder is None:
        return []
    return [
        (os.path.join(top, name), os.stat(os.path.join(top, name)).st_mtime_ns)
        for top, _, names in sorted(os.walk(folder))
        for name in sorted(names)
    ]


def check_revision(subject: DatasetSubject) -> None:
    """The revision differs between the ways to split, and changes when the files do"""
    found = subject.dataset
    seen = {subject.card.splits[0]: found.revision}
    for split in subject.card.splits[1:]:
        try:
            seen[split] = subject.load(subject.folder, split).revision
        except FileNotFoundError as error:
            if subject.made:
                raise
            raise SkipTest(str(error)) from None
    assert len(set(seen.values())) == len(seen), f"two ways to split have one revision: {seen}"
    if not subject.made:
        if len(seen) < 2:
            raise SkipTest("there is one way to split, and official files are not changed")
        return
    assert subject.folder is not None
    names = [os.path.relpath(name, subject.folder) for name, _ in _listing(subject.folder)]
    for name in names[:20]:
        with _copied(subject.folder) as copied:
            file = Path(copied, name)
            file.write_bytes(file.read_bytes() * 2)
            try:
                changed = subject.load(Path(copied)).revision
            except Exception:
                return  # noticed
        if changed != found.revision:
            return
    raise AssertionError(f"whichever file was changed, the revision stayed {found.revision!r}")


def check_missing_files(subject: DatasetSubject) -> None:
    """A file that is missing is named, with the place where the data set is to be had"""
    card = subject.card
    if card.embedded:
        raise SkipTest("the data come with the distribution")
    assert card.url, "the card has no url: the message cannot say where the data set is to be had"
    # The files of one data set may lie in several places.
    place = "http" if card.url.startswith("http") else card.url
    with tempfile.TemporaryDirectory() as empty:
        refuses(
            "an empty folder",
            lambda: subject.load(Path(empty)),
            place,
            errors=(FileNotFoundError,),
        )
    if not subject.made:
        return
    assert subject.folder is not None
    for full, _ in _listing(subject.folder)[:20]:
        name = os.path.relpath(full, subject.folder)
        with _copied(subject.folder) as copied:
            Path(copied, name).unlink()
            try:
                subject.load(Path(copied))
            except FileNotFoundError as error:
                assert os.path.basename(name) in str(error), (
                    f"without {name!r}: the message should name it, got: {error}"
                )
            except Exception as error:
                raise AssertionError(
                    f"without {name!r}: expected FileNotFoundError or another that needs no such "
                    f"file, got {type(error).__name__}: {error}"
                ) from error


class _copied(tempfile.TemporaryDirectory[str]):
    """A copy of a folder, for as long as a block lasts."""

    def __init__(self, folder: Path) -> None:
        super().__init__(prefix="crossfit-check-")
        shutil.copytree(folder, self.name, dirs_exist_ok=True)


CHECKS: tuple[Callable[[DatasetSubject], None], ...] = CARD_CHECKS + tuple(
    check for name, check in list(globals().items()) if name.startswith("check_")
)
