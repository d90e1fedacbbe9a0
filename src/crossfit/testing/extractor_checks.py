"""The checks of extractors, one function per check, like those in `crossfit.testing.checks`."""

# The docstrings state what must hold, and some checks test the global random state.
# ruff: noqa: D401

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest import SkipTest, mock

import joblib
import numpy as np
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import get_tags

from crossfit import registry
from crossfit.cards import ExtractorCard
from crossfit.extraction.base import Extractor
from crossfit.testing.items import planted_items
from crossfit.testing.shared import (
    CARD_CHECKS,
    RandomTrial,
    dense,
    expect_error,
    global_state,
    other_random_state,
    same,
)
from crossfit.views import Channels, Ragged, Views, n_rows, take_rows

__all__ = ["CHECKS", "ExtractorSubject"]

N_TRAIN, N_TEST = 24, 8


@dataclass(frozen=True)
class ExtractorSubject:
    """An extractor under test, with items and features that several checks share.

    Parameters
    ----------
    target : type
        The class of the extractor, a scikit-learn transformer.
    card : ExtractorCard
    params : mapping of str to object
        Settings with which it extracts features in seconds.
    """

    target: type
    card: ExtractorCard
    params: Mapping[str, Any]

    def make(self, **params: Any) -> Any:
        """Return a new extractor with the test settings, without a cache by default."""
        made = self.target(**{**self.params, **params})
        if "cache" in made.get_params() and "cache" not in params:
            made.set_params(cache=False)
        return made

    @cached_property
    def _folder(self) -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory(prefix="crossfit-check-")

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of input that the card declares, or ``("given",)`` if it has ``make_inputs``."""
        return ("given",) if self.card.make_inputs else self.card.inputs

    def items(self, kind: str) -> Any:
        """Return the items to fit on, followed by the items to transform."""
        return self._items[kind]

    @cached_property
    def _items(self) -> dict[str, Any]:
        rng = np.random.default_rng(0)
        n = N_TRAIN + N_TEST
        if self.card.make_inputs:
            found = registry.resolve_target(self.card.make_inputs)(rng, n)
            if self.card.modality == "pairs":
                found, self.__dict__["labels"] = found
            n_found = n_rows(found) if hasattr(found, "shape") else len(found)
            if n_found != n:
                raise ValueError(f"{self.card.make_inputs} must return {n} items, got {n_found}")
            return {"given": found}
        folder = Path(self._folder.name)
        return {
            kind: planted_items(kind, self.card.modality, n, rng, folder) for kind in self.kinds
        }

    @property
    def train(self) -> Any:
        """Items to fit on."""
        return _take(self.items(self.kinds[0]), slice(N_TRAIN))

    @property
    def test(self) -> Any:
        """Items that no fit has seen."""
        return _take(self.items(self.kinds[0]), slice(N_TRAIN, None))

    def fit(self, made: Any, items: Any) -> Any:
        """Return an extractor, fitted on the first items; on pairs with their labels."""
        if self.card.modality != "pairs":
            return made.fit(items)
        return made.fit(items, self.__dict__["labels"][: n_rows(items)])

    @cached_property
    def _fitted(self) -> Any:
        return self.fit(self.make(), self.train)

    @property
    def fitted(self) -> Any:
        """A copy of the fitted extractor, which is fitted once."""
        return copy.deepcopy(self._fitted)

    @cached_property
    def features(self) -> Any:
        """Features of the test items."""
        return self.fitted.transform(self.test)


def _take(items: Any, rows: Any) -> Any:
    if isinstance(items, (list, tuple)):
        return items[rows] if isinstance(rows, slice) else [items[i] for i in rows]
    return take_rows(items, rows)


def _same_features(found: Any, expected: Any, what: str) -> None:
    """Raise an AssertionError unless two outputs of any form are equal."""
    assert type(found) is type(expected), (
        f"{what}: expected a {type(expected).__name__}, got a {type(found).__name__}"
    )
    if isinstance(expected, (Channels, Views)):
        assert found.names == expected.names, (
            f"{what}: expected {expected.names}, got {found.names}"
        )
        for name in expected.names:
            _same_features(found[name], expected[name], f"{what}, {name!r}")
    elif isinstance(expected, Ragged):
        assert np.array_equal(found.offsets, expected.offsets), (
            f"{what}: expected rows of {expected.lengths.tolist()} elements, got "
            f"{found.lengths.tolist()}"
        )
        same(found.values, expected.values, what)
        for name, part in expected.info.items():
            if isinstance(part, np.ndarray) and part.dtype.kind in "fiub":
                same(found.info.get(name, ()), part, f"{what}, info {name!r}")
    else:
        same(found, expected, what)


# ---- the card -----------------------------------------------------------------------------------


def check_what_it_takes_and_gives(subject: ExtractorSubject) -> None:
    """needs_fit, inputs and outputs of the card describe what the extractor does"""
    card = subject.card
    learns = bool(get_tags(subject.make()).requires_fit)
    assert learns == card.needs_fit, (
        f"the card has needs_fit={card.needs_fit}, but the tag requires_fit is {learns}"
    )
    for kind in subject.kinds:
        items = subject.items(kind)
        features = subject.fit(subject.make(), _take(items, slice(N_TRAIN))).transform(items)
        n = N_TRAIN + N_TEST
        assert n_rows(features) == n, f"{n} {kind} gave {n_rows(features)} rows of features"
        form = _form(features)
        assert set(form) & set(card.outputs), (
            f"the card has outputs={card.outputs}, but {kind} gave {' or '.join(form)}"
        )


def _form(features: Any) -> tuple[str, ...]:
    """Return the words of a card for an output."""
    if isinstance(features, Ragged):
        return ("tokens",) if features.dtype.kind in "iu" else ("regions",)
    if isinstance(features, (Channels, Views)):
        return tuple({word for name in features.names for word in _form(features[name])})
    if features.dtype.kind in "iu" and len(features.shape) == 2:
        return ("tokens", "vectors")
    return {2: ("vectors",), 3: ("regions", "maps", "tokens"), 4: ("maps",)}.get(
        len(features.shape), (f"an array with {len(features.shape)} axes",)
    )


def check_numbers(subject: ExtractorSubject) -> None:
    """Features are finite floats, or ids from 0, and as wide as n_features_out_ declares"""
    features = subject.features
    many = isinstance(features, (Channels, Views))
    parts: list[Any] = [features[name] for name in features.names] if many else [features]
    for part in parts:
        values = np.asarray(dense(part.values if isinstance(part, Ragged) else part))
        assert values.dtype.kind in "fiu", f"features must be numbers, got type {values.dtype}"
        if values.dtype.kind == "f":
            assert np.isfinite(values).all(), "features must be finite"
        else:
            assert values.min(initial=0) >= 0, f"ids must be at least 0, got {values.min()}"
    width = getattr(subject.fitted, "n_features_out_", None)
    if width is not None and not many:
        values = features.values if isinstance(features, Ragged) else features
        assert values.shape[-1] == width, (
            f"n_features_out_ is {width}, but the features are {values.shape[-1]} wide"
        )


def check_search_space(subject: ExtractorSubject) -> None:
    """Settings drawn from the search space are accepted"""
    if not subject.card.search_space:
        raise SkipTest("the card has no search space")
    from crossfit.cards import suggest

    for seed in range(3):
        drawn = suggest(subject.card.search_space, RandomTrial(seed))
        try:
            made = subject.make(**drawn)
        except TypeError as error:
            raise AssertionError(f"search_space: {error}") from error
        if hasattr(made, "_validate_params"):
            made._validate_params()


# ---- parameters and copies ----------------------------------------------------------------------


def check_parameters(subject: ExtractorSubject) -> None:
    """Parameters are stored unchanged, cloned and set by name; unknown ones are rejected"""
    wrong = {"no_such_parameter": 1}
    expect_error("an unknown constructor argument", lambda: subject.target(**wrong))
    made = subject.make()
    expect_error("set_params of an unknown name", lambda: made.set_params(**wrong), *wrong)
    given = made.get_params(deep=False)
    for name, value in subject.params.items():
        assert given[name] is value or joblib.hash(given[name]) == joblib.hash(value), (
            f"get_params returns {given[name]!r} after {name}={value!r}"
        )
    copied = clone(subject.fitted)
    assert joblib.hash(copied.get_params()) == joblib.hash(made.get_params()), (
        "the parameters of a clone differ"
    )
    _same_features(
        subject.fit(copied, subject.train).transform(subject.test),
        subject.features,
        "features of a clone",
    )
    before = joblib.hash(made.get_params())
    subject.fit(made, subject.train).transform(subject.test)
    assert joblib.hash(made.get_params()) == before, "fit or transform changed a parameter"


def check_not_fitted(subject: ExtractorSubject) -> None:
    """An extractor that needs a fit, and its clone, raise NotFittedError before fit"""
    if not subject.card.needs_fit:
        raise SkipTest("the extractor does not need a fit")
    name = subject.target.__name__
    for made, what in ((subject.make(), "transform"), (clone(subject.fitted), "a clone")):
        expect_error(
            f"{what} before fit", lambda m=made: m.transform(subject.test), name,  # type: ignore[misc]
            errors=(NotFittedError,),
        )  # fmt: skip


def check_pickle(subject: ExtractorSubject) -> None:
    """A fitted extractor gives the same features after pickling"""
    read = pickle.loads(pickle.dumps(subject.fitted))
    _same_features(read.transform(subject.test), subject.features, "features after pickling")


def check_bundle(subject: ExtractorSubject) -> None:
    """A fitted extractor gives the same features after `crossfit.save` and `crossfit.load`"""
    import crossfit

    try:
        registry.card_of(subject.target)
    except registry.NotInstalledError:
        raise SkipTest("bundles can only contain registered extractors") from None
    with tempfile.TemporaryDirectory() as folder:
        crossfit.save(subject.fitted, os.path.join(folder, "bundle"))
        read = crossfit.load(os.path.join(folder, "bundle"))
    _same_features(read.transform(subject.test), subject.features, "features of a bundle")


# ---- what the features depend on ----------------------------------------------------------------


def check_repeatable(subject: ExtractorSubject) -> None:
    """The same items give the same features, and the global random state is unchanged"""
    first = subject.fit(subject.make(), subject.train).transform(subject.test)
    with other_random_state():
        before = global_state()
        fitted = subject.fit(subject.make(), subject.train)
        again, twice = (fitted.transform(subject.test) for _ in range(2))
        after = global_state()
    _same_features(twice, again, "a second transform")
    _same_features(again, first, "features after a second fit")
    touched = [name for name in before if before[name] != after[name]]
    assert not touched, f"global state changed: {', '.join(touched)}"


def check_items(subject: ExtractorSubject) -> None:
    """The features of an item depend on it alone, not on other items, order or batch size"""
    expected, test = subject.features, subject.test
    rows = np.random.default_rng(0).permutation(N_TEST)
    fitted = subject.fitted
    permuted = fitted.transform(_take(test, rows))
    _same_features(permuted, _taken(expected, rows), "features in another order")
    for row in (0, 3, N_TEST - 1):
        alone = fitted.transform(_take(test, slice(row, row + 1)))
        _same_features(_trimmed(alone), _trimmed(_taken(expected, [row])), f"item {row} alone")
    twice = [0, 1, 0, 2, 1]
    _same_features(
        _trimmed(fitted.transform(_take(test, twice))),
        _trimmed(_taken(expected, twice)),
        "features of items that occur twice",
    )
    if "batch_size" in fitted.get_params():
        fitted.set_params(batch_size=1)
        _same_features(fitted.transform(test), expected, "features with batch_size=1")


def _taken(features: Any, rows: Any) -> Any:
    return take_rows(features, np.asarray(rows))


def _trimmed(features: Any) -> Any:
    """Remove columns of padding ids, whose number depends on the longest text of a call."""
    if isinstance(features, np.ndarray) and features.dtype.kind in "iu" and features.ndim == 2:
        return features[:, : int(np.flatnonzero(features.any(axis=0)).max(initial=0)) + 1]
    return features


def check_transform_learns_nothing(subject: ExtractorSubject) -> None:
    """Features do not depend on items that were transformed before"""
    fitted = subject.fitted
    fitted.transform(_take(subject.items(subject.kinds[0]), slice(5, N_TRAIN)))
    _same_features(fitted.transform(subject.test), subject.features, "features after others")


def check_inputs_unchanged(subject: ExtractorSubject) -> None:
    """Items are unchanged after fit and transform"""
    for kind in subject.kinds:
        # The arrays of a pickled copy are writable.
        items = pickle.loads(pickle.dumps(subject.items(kind)))
        before = joblib.hash(items)
        subject.fit(subject.make(), items).transform(items)
        assert joblib.hash(items) == before, f"{kind}: the items were modified"


def check_forms(subject: ExtractorSubject) -> None:
    """Lists, tuples, object arrays, PIL images and files of the same items give equal features"""
    if subject.card.make_inputs or subject.kinds[0] == "sequence":
        raise SkipTest("the items have only one form")
    fitted = subject.fitted
    test = list(subject.test)
    held = np.empty(len(test), dtype=object)
    held[:] = test
    forms: dict[str, Any] = {"a tuple": tuple(test), "an object array": held}
    with tempfile.TemporaryDirectory() as folder:
        if subject.card.modality == "image" and subject.kinds[0] == "pixels":
            from PIL import Image

            images = [Image.fromarray(pixels) for pixels in test]
            forms["PIL images"] = images
            if "paths" in subject.kinds:
                paths = [Path(folder) / f"{i}.png" for i in range(len(test))]
                for image, path in zip(images, paths):
                    image.save(path)
                forms["paths"] = paths
                forms["strings of paths"] = [str(path) for path in paths]
        for form, items in forms.items():
            _same_features(fitted.transform(items), subject.features, f"features of {form}")


# ---- the cache ----------------------------------------------------------------------------------


@contextmanager
def _own_cache() -> Iterator[None]:
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.dict(os.environ, {"CROSSFIT_CACHE": folder}),
    ):
        yield


def check_cache(subject: ExtractorSubject) -> None:
    """Cached features equal computed ones, and the cache key is the same in every process"""
    if not isinstance(subject.make(), Extractor):
        raise SkipTest("the extractor does not derive from Extractor, which caches features")
    made = subject.make()
    if "cache" not in made.get_params():
        raise SkipTest("the extractor has no parameter cache")
    if subject.card.needs_fit:
        raise SkipTest("fitted extractors do not cache features of single items")
    made.set_params(cache=True)
    with _own_cache():
        first = made.fit(subject.train).transform(subject.test)
        _same_features(first, subject.features, "features with cache=True")
        extract = type(made)._extract
        seen: list[int] = []

        def counting(self: Any, batch: list[Any]) -> Any:
            seen.append(len(batch))
            return extract(self, batch)

        again = clone(made).fit(subject.train)
        with mock.patch.object(type(made), "_extract", counting):
            _same_features(again.transform(subject.test), first, "features from the cache")
        assert not seen, (
            f"a clone extracted {sum(seen)} of {N_TEST} items again, so that the key must have "
            "changed between calls"
        )
    _check_key(made)


def _check_key(made: Any) -> None:
    code = (
        "import pickle, sys; made = pickle.load(sys.stdin.buffer); "
        "sys.stdout.write(made.fingerprint())"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps(clone(made)),
        # The order of sets depends on the hash seed; the key must not.
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "7"},
        capture_output=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr.decode()
    assert ran.stdout.decode() == made.fingerprint(), "the cache key differs in another process"


def check_neutral_parameters(subject: ExtractorSubject) -> None:
    """Parameters that are not part of the cache key do not change the features"""
    made = subject.make()
    if not isinstance(made, Extractor):
        raise SkipTest("the extractor does not derive from Extractor, which caches features")
    names = made.neutral_parameters & set(made.get_params(deep=False))
    others: dict[str, Any] = {"batch_size": 3, "n_jobs": 1, "verbose": False, "cache": False}
    tried = {name: others[name] for name in names & set(others)}
    if not tried:
        raise SkipTest("the extractor has no such parameters")
    found = subject.make(**tried).fit(subject.train).transform(subject.test)
    settings = ", ".join(f"{name}={value!r}" for name, value in tried.items())
    _same_features(found, subject.features, f"features with {settings}")


# ---- errors -------------------------------------------------------------------------------------


def check_wrong_items(subject: ExtractorSubject) -> None:
    """Invalid items are rejected with a ValueError or TypeError, in fit and in transform"""
    if subject.card.make_inputs:
        raise SkipTest("the items of make_inputs may be of any kind")
    single = subject.test[0]
    wrong: dict[str, Any] = {
        "None": None,
        "a number": 3,
        "a list of None": [None, None],
        "no items": [],
        "items of two kinds": [single, {"a": 1}],
    }
    if subject.kinds[0] != "sequence":
        wrong["a list of numbers"] = [1, 2, 3]
    if isinstance(single, str):
        wrong["a single item outside a list"] = single
    fitted = subject.fitted
    for what, items in wrong.items():
        expect_error(f"fit on {what}", lambda i=items: subject.make().fit(i).transform(i))  # type: ignore[misc]
        expect_error(f"transform of {what}", lambda i=items: fitted.transform(i))  # type: ignore[misc]


def check_wrong_files(subject: ExtractorSubject) -> None:
    """The error for a missing or damaged file names the file"""
    if "paths" not in subject.kinds:
        raise SkipTest("the extractor does not read files")
    fitted = subject.make().fit(_take(subject.items("paths"), slice(N_TRAIN)))
    good = subject.items("paths")[0]
    suffix = Path(good).suffix
    with tempfile.TemporaryDirectory() as folder:
        lost = os.path.join(folder, f"lost{suffix}")
        damaged = os.path.join(folder, f"damaged{suffix}")
        Path(damaged).write_bytes(Path(good).read_bytes()[:20])
        errors = (FileNotFoundError, ValueError)
        expect_error(
            "a missing file", lambda: fitted.transform([good, lost]), "lost", errors=errors
        )
        if subject.card.modality != "text":
            expect_error("a damaged file", lambda: fitted.transform([good, damaged]), "damaged")


CHECKS: tuple[Callable[[ExtractorSubject], None], ...] = CARD_CHECKS + tuple(
    check for name, check in list(globals().items()) if name.startswith("check_")
)
