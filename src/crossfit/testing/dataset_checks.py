"""The checks of data sets, one function per check, like those in `crossfit.testing.checks`."""

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
from crossfit.testing.shared import CARD_CHECKS, expect_error, global_state, other_random_state
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
        As in `crossfit.datasets.load`; if None, the card's ``make_files`` writes the files.
    """

    target: Callable[..., Dataset]
    card: DatasetCard
    params: Mapping[str, Any]
    root: str | os.PathLike[str] | None = None

    @property
    def made(self) -> bool:
        """True if the files are those of ``make_files``, not the official ones."""
        return self.card.make_files is not None and self.root is None

    @property
    def options(self) -> list[str] | None:
        """Options of the loader; None if it accepts any."""
        return options_of(self.target)

    @cached_property
    def _temporary(self) -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory(prefix="crossfit-check-")

    @cached_property
    def folder(self) -> Path | None:
        """Folder of the files; None if they are part of the distribution.

        Raises
        ------
        SkipTest
            If the files of the data set are not there.
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
            # Some data sets can be used with the files of some of their splits only.
            names = self.card.counts if "subsets" in (self.options or ()) else ()
            available = [name for name in names if self._has(folder, name)]
            if not available:
                raise SkipTest(str(error)) from None
            chosen: dict[str, Any] = {"subsets": tuple(available)}
            return self.load(folder, **chosen), chosen

    def _has(self, folder: Path | None, name: str) -> bool:
        try:
            self.load(folder, subsets=(name,))
        except FileNotFoundError:
            return False
        return True

    @property
    def dataset(self) -> Dataset:
        """The data set, with the splits whose files are there."""
        return self._loaded[0]

    def again(self) -> Dataset:
        """Load the same splits again."""
        return self.load(self.folder, **self._loaded[1])


def _digest(split: Split) -> str:
    return joblib.hash((split.views, split.y, dict(split.info)))


def check_record(subject: DatasetSubject) -> None:
    """The loader returns a Dataset with its card and the splits and views that the card names"""
    found = subject.dataset
    assert isinstance(found, Dataset), f"the loader must return a Dataset, got {type(found)!r}"
    assert found.card == subject.card, "the Dataset has a card other than that of the entry point"
    assert found.splits, "the Dataset has no split"
    counts = subject.card.counts
    for name, split in found.splits.items():
        assert not counts or name in counts, (
            f"the Dataset has the split {name!r}, but counts of the card names {', '.join(counts)}"
        )
        assert split.views.names == subject.card.modalities, (
            f"split {name!r} has the views {split.views.names}, but the card has "
            f"modalities={subject.card.modalities}"
        )
        assert len(split), f"split {name!r} is empty"


def check_official_counts(subject: DatasetSubject) -> None:
    """Every split has the number of items that the card gives in counts"""
    if not subject.card.counts:
        raise SkipTest("the card has no counts")
    found = subject.dataset
    if subject.made:
        raise SkipTest("the files are those of make_files, not the official ones")
    if subject.params.get("strict") is False:
        raise SkipTest("strict=False disables the check of the counts")
    for name, split in found.splits.items():
        sizes = {"rows": len(split)}
        sizes |= {view: n_rows(split.views.distinct(view)[0]) for view in split.views.names}
        count = subject.card.counts[name]
        sized = ", ".join(f"{n} {what}" for what, n in sizes.items())
        assert count in sizes.values(), (
            f"split {name!r}: counts of the card has {count}, got {sized}"
        )


def check_labels(subject: DatasetSubject) -> None:
    """Labels are of the kind that the card declares, and agree with target_names"""
    found = subject.dataset
    kind = subject.card.labels
    for name, split in found.splits.items():
        if kind == "none":
            assert split.y is None, f"the card has labels='none', but split {name!r} has labels"
            continue
        assert split.y is not None, f"the card has labels={kind!r}, but split {name!r} has none"
        y = np.asarray(split.y)
        axes = 1 if kind == "single" else 2
        assert y.ndim == axes, (
            f"labels={kind!r} requires {axes}-D arrays, got shape {y.shape} in {name!r}"
        )
        if found.target_names is None:
            continue
        n = len(found.target_names)
        if kind == "multi":
            assert y.shape[1] == n, (
                f"labels of {name!r} have {y.shape[1]} columns, but target_names has {n} names"
            )
            assert np.isin(y, (0, 1)).all(), f"labels of {name!r} must be 0 and 1"
        else:
            assert y.dtype.kind in "iu" and y.min() >= -1 and y.max() < n, (
                f"labels of {name!r} must be indices of the {n} target_names, or -1, got "
                f"{y.min()} to {y.max()}"
            )


def check_splits_share_nothing(subject: DatasetSubject) -> None:
    """No item of the first view and no group is in two splits"""
    found = subject.dataset
    if len(found.splits) < 2:
        raise SkipTest("only one split is loaded")
    first = subject.card.modalities[0]
    items = {name: _items(split.views.distinct(first)[0]) for name, split in found.splits.items()}
    for one, other in combinations(found.splits, 2):
        both = items[one].keys() & items[other].keys()
        at = min((items[one][key] for key in both), default=0)
        # Large official sets contain a few pictures twice; more than 1 % is not an accident.
        allowed = min(len(items[one]), len(items[other])) // 100
        assert len(both) <= allowed, (
            f"{len(both)} items of {first!r} are both in {one!r} and in {other!r}; the first of "
            f"them is item {at} of {one!r}"
        )
        groups = [found[name].info.get("group") for name in (one, other)]
        if None not in [None if part is None else 0 for part in groups]:
            shared = set(np.asarray(groups[0]).tolist()) & set(np.asarray(groups[1]).tolist())
            assert not shared, f"group {min(map(str, shared))} is both in {one!r} and in {other!r}"


def _items(values: Any) -> dict[Any, int]:
    """Return the first position of each distinct item of a view."""
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
    """subsets= loads the named splits and no others, equal to those of the whole data set"""
    if subject.options is not None and "subsets" not in subject.options:
        raise SkipTest("the loader has no option subsets")
    found = subject.dataset
    for name, split in found.splits.items():
        for form in ((name,), name):
            alone = subject.load(subject.folder, subsets=form)
            assert list(alone.splits) == [name], (
                f"subsets={form!r} loaded {', '.join(alone.splits)}"
            )
        assert _digest(alone[name]) == _digest(split), (
            f"split {name!r} loaded alone differs from the one loaded with the others"
        )
    expect_error(
        "an unknown split in subsets",
        lambda: subject.load(subject.folder, subsets=("no-such-split",)),
        "no-such-split",
    )


def check_repeatable(subject: DatasetSubject) -> None:
    """Loading again returns equal data and revision, writes no file and draws no random number"""
    first = subject.dataset
    files = _listing(subject.folder)
    with other_random_state():
        before = global_state()
        second = subject.again()
        after = global_state()
    assert isinstance(first.revision, str) and first.revision, "the Dataset has no revision"
    assert second.revision == first.revision, (
        f"the revision changed from {first.revision!r} to {second.revision!r} on loading again"
    )
    for name in first.splits:
        assert _digest(second[name]) == _digest(first[name]), (
            f"split {name!r} differs after loading again"
        )
    touched = [name for name in before if before[name] != after[name]]
    assert not touched, f"global state changed: {', '.join(touched)}"
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
    """The revision differs between the official ways to split, and changes if the files change"""
    found = subject.dataset
    seen = {subject.card.splits[0]: found.revision}
    for split in subject.card.splits[1:]:
        try:
            seen[split] = subject.load(subject.folder, split).revision
        except FileNotFoundError as error:
            if subject.made:
                raise
            raise SkipTest(str(error)) from None
    assert len(set(seen.values())) == len(seen), f"two ways to split have the same revision: {seen}"
    if not subject.made:
        if len(seen) < 2:
            raise SkipTest("there is only one way to split, and official files are not modified")
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
                return  # the change was detected
        if changed != found.revision:
            return
    raise AssertionError(
        f"the revision was {found.revision!r} whichever file was changed; it must depend on them"
    )


def check_missing_files(subject: DatasetSubject) -> None:
    """The error for a missing file names the file, and where to obtain the data set"""
    card = subject.card
    if card.embedded:
        raise SkipTest("the data are part of the distribution")
    assert card.url, "the card has no url, so no message can state where to obtain the data set"
    # The files of one data set may be available at several places.
    place = "http" if card.url.startswith("http") else card.url
    with tempfile.TemporaryDirectory() as empty:
        expect_error(
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
                    f"without {name!r}: the message must name this file, got: {error}"
                )
            except Exception as error:
                raise AssertionError(
                    f"without {name!r}: the loader must raise FileNotFoundError or load the data "
                    f"without the file, got {type(error).__name__}: {error}"
                ) from error


class _copied(tempfile.TemporaryDirectory[str]):
    """A copy of a folder that is deleted at the end of a block."""

    def __init__(self, folder: Path) -> None:
        super().__init__(prefix="crossfit-check-")
        shutil.copytree(folder, self.name, dirs_exist_ok=True)


CHECKS: tuple[Callable[[DatasetSubject], None], ...] = CARD_CHECKS + tuple(
    check for name, check in list(globals().items()) if name.startswith("check_")
)
