"""The checks of methods: functions that raise AssertionError on a fault, or skip with a reason.

The listing shows the first line of the docstring of each check.
"""

# The docstrings state what must hold, and some checks test the global random state.
# ruff: noqa: D401

from __future__ import annotations

import copy
import os
import pickle
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import count, permutations
from typing import Any
from unittest import SkipTest

import joblib
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from crossfit.base import CrossModalEstimator
from crossfit.cards import MethodCard
from crossfit.metrics import chance_level, evaluate
from crossfit.testing.planted import planted_inputs
from crossfit.testing.shared import (
    CARD_CHECKS,
    RandomTrial,
    dense,
    expect_error,
    global_state,
    other_random_state,
    same,
)
from crossfit.testing.uneven import forms, resized, strange_padding
from crossfit.views import Channels, Ragged, Views, n_rows, take_rows

__all__ = ["CHECKS", "Subject"]

N_TRAIN, N_TEST = 80, 40
# Required share of the way from chance to a perfect score. Random linear maps of planted views
# reach it once in a hundred times for mAP and never for MRR.
MARGIN = 0.3


@dataclass(frozen=True)
class Subject:
    """A method under test, with planted data and fitted results that several checks share.

    Parameters
    ----------
    cls : type
        The class of the method.
    params : mapping of str to object
        Settings with which a fit takes seconds.
    """

    cls: type[CrossModalEstimator]
    params: Mapping[str, Any]

    @property
    def target(self) -> type[CrossModalEstimator]:
        """The class of the method."""
        return self.cls

    @property
    def card(self) -> MethodCard:
        """The card of the class."""
        card = self.cls.card
        assert card is not None
        return card

    @property
    def embeds(self) -> bool:
        """True if the method has a common space."""
        return self.card.kind == "embedding"

    def make(self, **params: Any) -> CrossModalEstimator:
        """Return a new method with the test settings, and with a seed if it has random_state."""
        chosen = {**self.params, **params}
        if "random_state" in self.cls().get_params():
            chosen = {"random_state": 0, **chosen}
        return self.cls(**chosen)

    @cached_property
    def data(self) -> tuple[Views, NDArray[Any]]:
        """All pairs and their labels.

        Raises
        ------
        ValueError
            If the inputs cannot be made; see `planted_inputs`.
        """
        views, y = planted_inputs(self.card, N_TRAIN + N_TEST)
        return views.select(*self.card.roles), y

    @property
    def train(self) -> Views:
        """Pairs to fit on."""
        return self.data[0][:N_TRAIN]

    @property
    def test(self) -> Views:
        """Pairs that no fit has seen."""
        return self.data[0][N_TRAIN:]

    @property
    def y_train(self) -> NDArray[Any] | None:
        """Labels of the training pairs; None for methods without labels."""
        return None if self.card.labels == "none" else self.data[1][:N_TRAIN]

    @property
    def y_test(self) -> NDArray[Any]:
        """Labels of the test pairs."""
        return self.data[1][N_TRAIN:]

    def fit(self, method: CrossModalEstimator) -> CrossModalEstimator:
        """Fit on the training pairs."""
        return method.fit(self.train, self.y_train)

    @cached_property
    def _fitted(self) -> CrossModalEstimator:
        return self.fit(self.make())

    @property
    def fitted(self) -> CrossModalEstimator:
        """A copy of the fitted method, which is fitted once."""
        return copy.deepcopy(self._fitted)

    @cached_property
    def scores(self) -> NDArray[Any]:
        """Similarity of the test pairs."""
        return self.fitted.similarity(self.test)


# ---- planted views, changed ---------------------------------------------------------------------


def _map_arrays(values: Any, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Any:
    """Apply a function to the arrays of a view, which may be ragged or have several channels."""
    if isinstance(values, Channels):
        return values.map(lambda part, name: _map_arrays(part, change))
    if isinstance(values, Ragged):
        return Ragged(change(values.values), values.offsets, values.info)
    return change(values) if isinstance(values, np.ndarray) else values


def _spoiled(
    views: Views, change: Callable[[NDArray[Any]], NDArray[Any]]
) -> Iterator[tuple[str, Views]]:
    """Yield the name of each view with vectors, and the views with those vectors changed."""

    def of_vectors(array: NDArray[Any]) -> NDArray[Any]:
        return change(array.copy()) if array.dtype.kind == "f" and array.ndim > 1 else array

    found = False
    for name in views.names:
        spoiled = views.map(lambda values, _: _map_arrays(values, of_vectors), name)
        if joblib.hash(spoiled[name]) != joblib.hash(views[name]):
            found = True
            yield name, spoiled
    if not found:
        raise SkipTest(f"none of the views {', '.join(views.names)} holds vectors")


def _items(views: Views) -> list[Any]:
    return [views[name] for name in views.names]


# ---- the card -----------------------------------------------------------------------------------


def _drawn(subject: Subject, seed: int) -> dict[str, Any]:
    if not subject.card.search_space:
        raise SkipTest("the card has no search space")
    return subject.card.suggest(RandomTrial(seed))


def check_search_space(subject: Subject) -> None:
    """Settings drawn from the search space are accepted, and a fit with them succeeds"""
    for seed in range(3):
        drawn = _drawn(subject, seed)
        try:
            method = subject.make(**drawn)
        except TypeError as error:
            raise AssertionError(f"search_space: {error}") from error
        scores = subject.fit(method).similarity(subject.test)
        assert np.isfinite(scores).all(), f"scores are not finite with {drawn}"


def check_kind(subject: Subject) -> None:
    """Embedding methods have transform and encode, pair methods have neither"""
    for method, when in ((subject.make(), "before"), (subject.fitted, "after")):
        for name in ("transform", "fit_transform", "encode"):
            has = hasattr(method, name)
            assert has == subject.embeds, (
                f"a method of kind {subject.card.kind!r} "
                f"{'has' if has else 'lacks'} {name} {when} fit"
            )


# ---- parameters and copies ----------------------------------------------------------------------


def check_unknown_parameters(subject: Subject) -> None:
    """The constructor and set_params reject unknown parameters"""
    wrong = {"no_such_parameter": 1}
    expect_error("an unknown constructor argument", lambda: subject.cls(**wrong))
    expect_error(
        "set_params of an unknown name", lambda: subject.make().set_params(**wrong), *wrong
    )


def check_set_params(subject: Subject) -> None:
    """Parameters set by set_params have the same effect as those of the constructor"""
    given = subject.make().get_params(deep=False)
    other = subject.card.suggest(RandomTrial(0))
    method = subject.cls(**other).set_params(**given)
    got = method.get_params(deep=False)
    differing = [name for name in given if joblib.hash(got[name]) != joblib.hash(given[name])]
    assert not differing, f"set_params did not set {', '.join(differing)}"
    same(subject.fit(method).similarity(subject.test), subject.scores, "scores after set_params")


def check_clone(subject: Subject) -> None:
    """A clone of a fitted method has the same parameters and is not fitted"""
    method = subject.fitted
    fresh = clone(method)
    assert joblib.hash(fresh.get_params()) == joblib.hash(method.get_params()), (
        "the parameters of a clone differ"
    )
    expect_error(
        "similarity of a clone", lambda: fresh.similarity(subject.test), errors=(NotFittedError,)
    )
    same(subject.fit(fresh).similarity(subject.test), subject.scores, "scores of a fitted clone")


def check_pickle(subject: Subject) -> None:
    """A fitted method gives the same scores after pickling"""
    method = subject.fit(subject.make())
    read = pickle.loads(pickle.dumps(method))
    expected = method.similarity(subject.test)
    same(read.similarity(subject.test), expected, "scores after pickling")
    assert read.views_in_ == method.views_in_, "views_in_ differs after pickling"


# ---- repeatability ------------------------------------------------------------------------------


def check_same_seed(subject: Subject) -> None:
    """The same seed gives the same scores, regardless of the global random state"""
    with other_random_state():
        same(subject.fit(subject.make()).similarity(subject.test), subject.scores, "second fit")
    if "random_state" in subject.make().get_params():
        a, b = (subject.fit(subject.make(random_state=np.random.RandomState(7))) for _ in range(2))
        same(b.similarity(subject.test), a.similarity(subject.test), "fits with RandomState(7)")
        subject.fit(subject.make(random_state=None))


def check_global_state(subject: Subject) -> None:
    """Fitting and scoring leave global random states and thread counts unchanged"""
    before = global_state()
    method = subject.fit(subject.make())
    method.similarity(subject.test)
    method.score(subject.test, subject.y_test)
    after = global_state()
    touched = [name for name in before if before[name] != after[name]]
    assert not touched, f"global state changed: {', '.join(touched)}"


def check_refit(subject: Subject) -> None:
    """A second fit does not depend on the first, and fit returns self"""
    method = subject.make()
    first = None if subject.y_train is None else subject.y_train[10:50]
    assert method.fit(subject.train[10:50], first) is method, "fit must return self"
    for fit in ("a fit on other rows", "a fit on the same rows"):
        scores = subject.fit(method).similarity(subject.test)
        same(scores, subject.scores, f"scores after {fit}")


def check_inputs_unchanged(subject: Subject) -> None:
    """Inputs and constructor parameters are unchanged after fit, similarity and transform"""
    # The arrays of a pickled copy are writable.
    views: Views = pickle.loads(pickle.dumps(subject.train))
    y = None if subject.y_train is None else subject.y_train.copy()
    method = subject.make()
    params = joblib.hash(method.get_params())
    forms: list[tuple[Any, ...]] = [(views,)]
    if len(views.names) == 2:
        forms.append(tuple(_items(views)))
    for form in forms:
        arguments = (*form, y)
        given = joblib.hash(arguments)
        method.fit(*arguments)
        method.similarity(*form)
        if subject.embeds:
            method.transform(*form)
        assert joblib.hash(arguments) == given, "the inputs were modified"
    assert joblib.hash(method.get_params()) == params, "fit changed constructor parameters"


def check_memmap(subject: Subject) -> None:
    """Read-only memory-mapped views give the same scores"""
    with tempfile.TemporaryDirectory() as folder:
        files = (os.path.join(folder, f"{i}.npy") for i in count())

        def mapped(array: NDArray[Any]) -> Any:
            if array.dtype == object:
                return array
            file = next(files)
            np.save(file, array)
            return np.load(file, mmap_mode="r")

        train, test = (
            views.map(lambda values, _: _map_arrays(values, mapped))
            for views in (subject.train, subject.test)
        )
        if not os.listdir(folder):
            raise SkipTest("no view can be memory-mapped")
        scores = subject.make().fit(train, subject.y_train).similarity(test)
        same(scores, subject.scores, "scores")


def check_sparse(subject: Subject) -> None:
    """Sparse vectors give the scores of dense ones, or are rejected with the name of the view"""
    takes = [r for r in subject.card.roles if "vectors" in subject.card.inputs.get(r, ("vectors",))]
    takes = [role for role in takes if getattr(subject.train[role], "ndim", 0) == 2]
    if not takes:
        raise SkipTest("no view takes vectors")
    for role in takes:
        train = subject.train.replace(**{role: sp.csr_array(subject.train[role])})
        test = subject.test.replace(**{role: sp.csr_array(subject.test[role])})
        given = joblib.hash(train[role])
        try:
            scores = subject.make().fit(train, subject.y_train).similarity(test)
        except (ValueError, TypeError) as error:
            message = str(error).lower()
            assert "sparse" in message and role in message, (
                f"the message must contain 'sparse' and the view's name, {role!r}, got: {error}"
            )
        else:
            same(scores, subject.scores, f"scores with a sparse {role}")
        assert joblib.hash(train[role]) == given, f"the sparse view {role!r} was modified"


# ---- forms of calling ---------------------------------------------------------------------------


def check_three_arguments(subject: Subject) -> None:
    """fit(X, Y, y) and fit(views, y) are equivalent, and so are the two forms of other methods"""
    if len(subject.card.roles) > 2:
        raise SkipTest("the method has more than two roles")
    (A, B), (X, Y) = _items(subject.train), _items(subject.test)
    method = subject.make().fit(A, B, subject.y_train)
    scores = method.similarity(X, Y)
    same(scores, subject.scores, "similarity(X, Y)")
    same(method.similarity(subject.test), scores, "similarity(views) after fit(X, Y, y)")
    score = method.score(subject.test, subject.y_test)
    same(method.score(X, Y, subject.y_test), score, "score(X, Y, y)")
    same(method.score(X, Y), method.score(subject.test), "score(X, Y)")
    if subject.embeds:
        transformed = _items(method.transform(subject.test))
        for name, found, expected in zip(subject.test.names, method.transform(X, Y), transformed):
            same(found, expected, f"transform(X, Y) of {name}")
        same(method.transform(X), transformed[0], "transform(X)")
        both = subject.make().fit_transform(A, B, subject.y_train)
        views = subject.make().fit_transform(subject.train, subject.y_train)
        assert isinstance(views, Views), "fit_transform(views, y) must return Views"
        for name, found in zip(views.names, both):
            same(found, views[name], f"fit_transform(X, Y, y) of {name}")


def check_view_names(subject: Subject) -> None:
    """Views are assigned to roles by name, otherwise by order, and later matched by name"""
    other = {role: f"other {role}" for role in subject.card.roles}
    method = subject.make().fit(subject.train.rename(other), subject.y_train)
    assert method.views_in_ == other, f"views_in_ must be {other}, got {method.views_in_}"
    backwards = tuple(reversed(list(other.values())))
    test = subject.test.rename(other).select(*backwards)
    same(method.similarity(test), subject.scores, "scores of views in another order")
    train = subject.train.select(*reversed(subject.card.roles))
    scores = subject.make().fit(train, subject.y_train).similarity(subject.test)
    same(scores, subject.scores, "scores after a fit on named views in another order")
    if "views" in method.get_params():
        chosen = subject.make(views=other)
        chosen.fit(subject.train.rename(other).select(*backwards), subject.y_train)
        same(chosen.similarity(test), subject.scores, "scores with views=")


def check_extra_views(subject: Subject) -> None:
    """Extra views are used if the card declares extra_views, otherwise rejected by name"""
    width = 6
    if subject.target.equal_widths:
        width = dense(_items(subject.train)[0]).shape[1]
    extra = np.random.default_rng(0).normal(size=(N_TRAIN + N_TEST, width))

    def added(views: Views, rows: slice) -> Views:
        return Views({**dict(zip(views.names, _items(views))), "another": extra[rows]})

    train, test = added(subject.train, slice(N_TRAIN)), added(subject.test, slice(N_TRAIN, None))
    method = subject.make()
    if not subject.card.extra_views:
        expect_error("one view too many", lambda: method.fit(train, subject.y_train), "another")
        return
    method.fit(train, subject.y_train)
    assert tuple(method.views_in_) == (*subject.card.roles, "another"), (
        f"views_in_ must contain the extra view 'another', got {method.views_in_}"
    )
    scores = method.similarity(test, query="another", gallery=subject.card.roles[0])
    assert scores.shape == (N_TEST, N_TEST), f"scores of the extra view have shape {scores.shape}"
    assert 0 <= method.score(test, subject.y_test) <= 1, "score must lie between 0 and 1"
    if subject.embeds:
        assert "another" in method.transform(test), "transform must return the extra view too"


def check_subset(subject: Subject) -> None:
    """One view alone is mapped by transform and encode as it is together with all others"""
    if not subject.embeds:
        raise SkipTest("pair methods have no common space")
    method = subject.fitted
    full = method.transform(subject.test)
    assert isinstance(full, Views), "transform(views) must return Views"
    sizes = {dense(full[name]).shape[1] for name in full.names}
    assert len(sizes) == 1, f"the common space must have one dimension, got {sizes}"
    for name in full.names:
        alone = method.transform(subject.test.select(name))
        assert alone.names == (name,), f"transform of {name} alone returned {alone.names}"
        same(alone[name], full[name], f"transform of {name} alone")
        same(method.encode(subject.test[name], name), full[name], f"encode of {name}")


# ---- scores -------------------------------------------------------------------------------------


def check_scores(subject: Subject) -> None:
    """Scores are finite float32 with one row per query, and score is a float from 0 to 1"""
    scores = subject.scores
    assert isinstance(scores, np.ndarray) and scores.dtype == np.float32, (
        f"scores must be a float32 array, got {getattr(scores, 'dtype', type(scores))}"
    )
    first, second, *_ = _items(subject.test[:7])
    wide = subject.fitted.similarity(take_rows(first, slice(4)), second)
    assert wide.shape == (4, 7), f"4 queries and 7 items must give (4, 7) scores, got {wide.shape}"
    assert np.isfinite(scores).all(), "scores must be finite"
    score = subject.fitted.score(subject.test, subject.y_test)
    assert isinstance(score, float) and 0 <= score <= 1, f"score must be in [0, 1], got {score!r}"


def check_directions(subject: Subject) -> None:
    """The scores of one direction are the transpose of those of the other"""
    first, second, *_ = subject.test.names
    scores = subject.fitted.similarity(subject.test, query=second, gallery=first)
    same(scores.T, subject.scores, f"scores with query={second!r}")


def check_chunks(subject: Subject) -> None:
    """Scoring in chunks gives the same scores as scoring all at once"""
    for size in (1, 7):
        scores = subject.fitted.similarity(subject.test, chunk_size=size)
        same(scores, subject.scores, f"scores with chunk_size={size}")


def check_batch(subject: Subject) -> None:
    """A score depends on its two items alone, not on other items of the batch"""
    method = subject.fitted
    rows = np.array([3, 0, 11, 5, 26])
    same(method.similarity(subject.test[rows]), subject.scores[np.ix_(rows, rows)], "five rows")
    same(method.similarity(subject.test[[8]]), subject.scores[8:9, 8:9], "one row")
    if subject.embeds:
        full = method.transform(subject.test)
        for name in full.names:
            for some, what in ((rows, "five rows"), (rows[:1], "one row")):
                encoded = method.encode(take_rows(subject.test[name], some), name)
                same(encoded, dense(full[name])[some], f"encode of {what} of {name}")


def check_permutation(subject: Subject) -> None:
    """Permuting test items permutes their scores: they do not depend on the order of rows"""
    rng = np.random.default_rng(0)
    p, q = rng.permutation(N_TEST), rng.permutation(N_TEST)
    method = subject.fitted
    scores = method.similarity(subject.test[p])
    same(scores, subject.scores[np.ix_(p, p)], "scores of permuted pairs")
    first, second, *_ = _items(subject.test)
    scores = method.similarity(take_rows(first, p), take_rows(second, q))
    same(scores, subject.scores[np.ix_(p, q)], "scores of views permuted independently")


def check_captions(subject: Subject) -> None:
    """With several captions per image, every item is encoded and ranked once"""
    first, second, *rest = subject.card.roles
    if rest:
        raise SkipTest("the method has more than two roles")

    def captioned(views: Views) -> tuple[Views, NDArray[np.int64]]:
        index = np.repeat(np.arange(len(views) // 3), 3)
        images = take_rows(views[first], slice(len(views) // 3))
        captions = take_rows(views[second], index)
        return Views.from_captions(images, captions, index, names=(first, second)), index

    train, rows = captioned(subject.train)
    y = None if subject.y_train is None else subject.y_train[rows]
    method = subject.make().fit(train, y)
    test, index = captioned(subject.test)
    prepared: list[tuple[str, int]] = []
    prepare = method._prepare

    def counting(values: Any, view: str) -> Any:
        prepared.append((view, n_rows(values)))
        return prepare(values, view)

    method._prepare = counting  # type: ignore[method-assign]
    scores = method.similarity(test)
    n, m = len(index) // 3, len(index)
    assert scores.shape == (n, m), (
        f"{n} images and {m} captions must give scores of shape ({n}, {m}), got {scores.shape}"
    )
    once = {(first, n), (second, m)}
    # A method with a similarity of its own may not use _prepare at all.
    assert not prepared or (set(prepared) == once and len(prepared) == 2), (
        f"_prepare must be called once per view, with distinct items, as {sorted(once)}, but was "
        f"called with {prepared}"
    )
    images, captions = test.distinct(first)[0], test.distinct(second)[0]
    same(scores, method.similarity(images, captions), "scores of grouped views")
    for offset in (1, 2):
        same(scores[:, offset::3], scores[:, ::3], "scores of equal captions")
    if subject.embeds:
        encoded = method.transform(test)
        assert encoded.distinct(first)[0].shape[0] == n, (
            f"transform must return each of the {n} distinct items of {first!r} once"
        )
        assert np.array_equal(encoded.groups, test.groups), "transform must not change the groups"


def check_missing_views(subject: Subject) -> None:
    """Rows that lack a view are learnt from or rejected, and never scored as if they had it"""
    first, second, *_ = subject.card.roles
    has = np.arange(len(subject.data[0])) % 5 > 0
    views = Views({n: subject.data[0][n] for n in subject.data[0].names}, present={second: has})
    train, test = views[:N_TRAIN], views[N_TRAIN:]
    if subject.card.missing_views:
        method = subject.make().fit(train, subject.y_train)
        scores = method.similarity(subject.test)
        assert np.isfinite(scores).all(), "scores after a fit on rows that lack a view: not finite"
    else:
        expect_error(
            f"fit on rows that lack {second}",
            lambda: subject.make().fit(train, subject.y_train),
            second,
            "missing",
        )
    fitted = subject.fitted
    expected = subject.scores[:, has[N_TRAIN:]]
    same(fitted.similarity(test), expected, f"scores of the rows that have {second}")
    same(
        fitted.similarity(test, query=second, gallery=first),
        expected.T,
        f"scores of the rows that have {second}, as queries",
    )
    if subject.embeds:
        encoded = fitted.transform(test)
        assert np.array_equal(encoded.present(second), has[N_TRAIN:]), (
            f"transform must keep which rows lack {second}"
        )


def check_label_leak(subject: Subject) -> None:
    """Labels passed to score define which items are relevant and do not change similarities"""
    rng = np.random.default_rng(0)
    expected = subject.scores
    method = subject.fitted
    y = subject.y_test
    cases = ((y, "the labels"), (rng.permutation(y), "permuted labels"), (None, "no labels"))
    for labels, what in cases:
        score = method.score(subject.test, labels)
        same(method.similarity(subject.test), expected, f"similarity after scoring with {what}")
        figure = _figure(method, subject.test, labels)
        same(score, figure, f"score with {what}, compared with the metric of the similarities")


def _figure(method: CrossModalEstimator, views: Views, y: NDArray[Any] | None) -> float:
    """Compute the value that `score` must return from similarities alone."""
    metric = "mrr" if y is None else "map@all"
    figures = []
    for q, g in permutations(views.names, 2):
        scores = method.similarity(views, query=q, gallery=g)
        found = evaluate(scores, _relevance(views, y), metric, directions="forward", ci=None)
        figures.append(found.mean(None, metric))
    return float(np.mean(figures))


def _relevance(views: Views, y: NDArray[Any] | None) -> Any:
    """Return what is relevant for planted pairs, which share no item.

    Without labels the partner is relevant, with labels every item that shares one.
    """
    return np.eye(len(views)) if y is None else (y, y)


def check_better_than_chance(subject: Subject) -> None:
    """The score on planted test pairs is better than chance"""
    y = None if subject.card.labels == "none" else subject.y_test
    metric = "mrr" if y is None else "map@all"
    relevance = _relevance(subject.test, y)
    reached = evaluate(subject.scores, relevance, metric, ci=None).mean(None, metric)
    chance = chance_level(relevance, metric).mean(None, metric)
    required = chance + MARGIN * (1 - chance)
    assert reached >= required, (
        f"{metric} on planted pairs must be at least {required:.3f}, got {reached:.3f} "
        f"(chance is {chance:.3f})"
    )


def check_training(subject: Subject) -> None:
    """Training keeps outputs of different items apart, and hinges and units active"""
    if not hasattr(subject.cls, "_build_module"):
        raise SkipTest("the method is not a network")
    from crossfit.neural.health import TrainingWarning, signs

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        method: Any = subject.fit(subject.make())
    found = [str(each.message) for each in caught if issubclass(each.category, TrainingWarning)]
    if not found:  # test settings may be too short for the checks of the fit itself
        *rows, last = method.net_.history
        measured = method._measured(subject.train, subject.y_train)
        rows = [*rows, {**last, **measured}]
        found = list(signs(subject.cls.__name__, rows, np.inf, in_a_row=1).values())
    assert not found, "; ".join(found)


# ---- rows of unequal length ---------------------------------------------------------------------

_PROBES = 4


def _uneven(subject: Subject) -> Iterator[tuple[Views, Views]]:
    """Yield training and test views with rows of unequal length, in every possible form."""
    views = subject.data[0]
    kinds = subject.card.inputs
    found = {name: forms(views[name], kinds.get(name, ("vectors",))) for name in views.names}
    if not any(found.values()):
        raise SkipTest("no view can have rows of unequal length")
    lengths = np.random.default_rng(1).integers(1, 7, len(views))
    lengths[N_TRAIN : N_TRAIN + _PROBES] = 2, 5, 1, 3
    for i in range(max(map(len, found.values()))):
        chosen = {name: part[min(i, len(part) - 1)] for name, part in found.items() if part}
        part = views.replace(**{name: resized(form, lengths) for name, form in chosen.items()})
        yield part[:N_TRAIN], part[N_TRAIN:]


def _each_uneven(subject: Subject, check: Callable[[Views, Views], None]) -> None:
    """Check every form of the views; skip if the method rejects all of them with a clear message.

    A message is clear if it contains "ragged" and the name of a view.
    """
    rejected = []
    tried = list(_uneven(subject))
    for train, test in tried:
        try:
            check(train, test)
        except (ValueError, TypeError) as error:
            message = str(error)
            if "ragged" not in message.lower() or not any(r in message for r in train.names):
                raise
            rejected.append(message)
    if len(rejected) == len(tried):
        raise SkipTest(f"rows of unequal length are rejected: {rejected[0]}")


def check_ragged(subject: Subject) -> None:
    """Rows of unequal length: a score does not depend on the length of other rows"""

    def check(train: Views, test: Views) -> None:
        method = subject.make().fit(train, subject.y_train)
        probes = np.arange(_PROBES)
        first, second, *_ = test.names
        single = [test[[i]] for i in probes]
        alone = np.array(
            [[method.similarity(p[first], q[second])[0, 0] for q in single] for p in single]
        )
        own = np.array([2, 5, 1, 3])
        for length, what in ((1, "shorter"), (19, "longer")):
            neighbours = np.full(len(test) - _PROBES, length)
            company = test.map(
                lambda values, _, n=neighbours: resized(values, np.concatenate([own, n]))  # type: ignore[misc]
            )
            compared = f"scores among {what} items, compared with those of the items alone"
            same(method.similarity(company)[:_PROBES, :_PROBES], alone, compared)
            for size in (1, 3):
                chunked = method.similarity(company, chunk_size=size)[:_PROBES, :_PROBES]
                same(chunked, alone, f"{compared}, with chunk_size={size}")
            if subject.embeds:
                for name in test.names:
                    among = dense(method.encode(company[name], name))[:_PROBES]
                    for i, p in enumerate(single):
                        same(among[[i]], method.encode(p[name], name),
                             f"encode of {name} among {what} items, not alone")  # fmt: skip
            if "batch_size" in method.get_params():
                other = copy.deepcopy(method).set_params(batch_size=2)
                found = other.similarity(company)[:_PROBES, :_PROBES]
                same(found, alone, f"{compared}, with batch_size=2")

    _each_uneven(subject, check)


def check_padding(subject: Subject) -> None:
    """Rows of unequal length: the values of the padding change neither a fit nor a score"""

    def check(train: Views, test: Views) -> None:
        method = subject.make().fit(train, subject.y_train)
        expected = method.similarity(test)
        with strange_padding():
            found = method.similarity(test)
            other = subject.make().fit(train, subject.y_train)
        same(found, expected, "scores with other values in the padding")
        same(
            other.similarity(test), expected, "scores after a fit with other values in the padding"
        )

    _each_uneven(subject, check)


def check_pair_memory(subject: Subject) -> None:
    """Scoring a block of pairs uses at most the memory that _pair_bytes declares, and most of it"""
    if not hasattr(subject.cls, "_pair_bytes"):
        raise SkipTest("the method has no _pair_bytes")
    from crossfit.testing.memory import PeakBytes

    def check(train: Views, test: Views) -> None:
        method: Any = subject.make().fit(train, subject.y_train)
        P, Q = (method._prepare(test[role], role) for role in subject.card.roles[:2])
        pair = int(method._pair_bytes(P.parts, Q.parts))
        memory = 200 * pair
        method.set_params(score_memory=memory)
        scores = np.empty((len(P), len(Q)), np.float32)
        with PeakBytes(P.parts, Q.parts) as counter:
            method._fill(P, Q, scores, None)
        assert counter.peak <= memory, (
            f"_pair_bytes declares {pair} bytes per pair, but a block limited to {memory} bytes "
            f"used {counter.peak}"
        )
        assert counter.peak > memory / 20, (
            f"_pair_bytes declares {pair} bytes per pair, but a block limited to {memory} bytes "
            f"used only {counter.peak}: blocks are too small, which makes scoring slow"
        )

    try:
        _each_uneven(subject, check)
    except SkipTest:
        check(subject.train, subject.test)


# ---- errors -------------------------------------------------------------------------------------


def check_labels(subject: Subject) -> None:
    """Labels are required if the card requires them, and must be one per row"""
    method, train = subject.make(), subject.train
    kind = subject.card.labels
    if kind in ("single", "multi"):
        expect_error("fit without labels", lambda: method.fit(train), "label")
    else:
        method.fit(train)
    if kind == "none":
        return
    y = subject.y_train
    assert y is not None
    expect_error("too few labels", lambda: method.fit(train, y[:-1]), "label")
    if kind == "single":
        indicator = (y[:, None] == np.unique(y)).astype(int)
        expect_error("an indicator of classes", lambda: method.fit(train, indicator), "label")


def check_not_fitted(subject: Subject) -> None:
    """Every method that needs a fit raises NotFittedError before fit"""
    method, test = subject.make(), subject.test
    calls: dict[str, Callable[[], Any]] = {
        "similarity": lambda: method.similarity(test),
        "score": lambda: method.score(test, subject.y_test),
    }
    if subject.embeds:
        name = test.names[0]
        calls["transform"] = lambda: method.transform(test)
        calls["encode"] = lambda: method.encode(test[name], name)
    for what, call in calls.items():
        expect_error(f"{what} before fit", call, subject.cls.__name__, errors=(NotFittedError,))


def check_misaligned(subject: Subject) -> None:
    """Views with different numbers of rows are rejected, with their names"""
    first, second, *_ = _items(subject.train)
    expect_error(
        "fit with one more row in X than in Y",
        lambda: subject.make().fit(first, take_rows(second, slice(N_TRAIN - 1)), subject.y_train),
        *subject.card.roles[:2],
        errors=(ValueError,),
    )


def check_wrong_view(subject: Subject) -> None:
    """Missing and unknown views are rejected, with their names"""
    first, second, *_ = subject.card.roles
    method = subject.make()
    expect_error(
        "fit on one view", lambda: method.fit(subject.train.select(first), subject.y_train)
    )
    if "views" in method.get_params():
        lost = subject.make(views={second: "lost"})
        expect_error(
            "views= with a view that does not exist",
            lambda: lost.fit(subject.train, subject.y_train),
            "lost",
        )
    fitted = subject.fitted
    wrong = subject.test.rename({second: "stranger"})
    expect_error(
        "similarity of an unknown view",
        lambda: fitted.similarity(wrong, gallery="stranger"),
        "stranger",
    )
    expect_error("similarity without a view", lambda: fitted.similarity(wrong), second)
    expect_error(
        "score of an unknown view", lambda: fitted.score(wrong, subject.y_test), "stranger"
    )
    if subject.embeds:
        values = subject.test[second]
        expect_error("transform of an unknown view", lambda: fitted.transform(wrong), "stranger")
        expect_error(
            "encode of an unknown view", lambda: fitted.encode(values, "stranger"), "stranger"
        )


def check_label_vector(subject: Subject) -> None:
    """A label vector in place of a view is rejected, with the name of the view"""
    first, second, *_ = subject.card.roles
    values, labels = subject.train[first], np.arange(N_TRAIN) % 5
    expect_error("fit(X, y)", lambda: subject.make().fit(values, labels), second)
    expect_error("fit(X, y, y)", lambda: subject.make().fit(values, labels, labels), second)


def check_not_finite(subject: Subject) -> None:
    """NaN and infinity are rejected, with the name of the view, in fit and afterwards"""
    for value in (np.nan, np.inf):

        def change(array: NDArray[Any], value: float = value) -> NDArray[Any]:
            array.flat[0] = value
            return array

        for name, train in _spoiled(subject.train, change):
            fit = partial(subject.make().fit, train, subject.y_train)
            expect_error(f"fit with {value} in {name}", fit, name)
        _expect_error_of_spoiled(subject, f"{value} in", change)


def check_columns(subject: Subject) -> None:
    """A number of columns that differs from fit is rejected, with the name of the view"""
    _expect_error_of_spoiled(subject, "one column less in", lambda array: array[..., :-1])


def _expect_error_of_spoiled(
    subject: Subject, what: str, change: Callable[[NDArray[Any]], NDArray[Any]]
) -> None:
    method = subject.fitted
    for name, test in _spoiled(subject.test, change):
        other = next(view for view in test.names if view != name)
        similarity = partial(method.similarity, test, query=name, gallery=other)
        expect_error(f"similarity with {what} {name}", similarity, name)
        if subject.embeds:
            expect_error(f"transform with {what} {name}", partial(method.transform, test), name)
            expect_error(
                f"encode with {what} {name}", partial(method.encode, test[name], name), name
            )


def check_one_sample(subject: Subject) -> None:
    """A single pair is rejected in fit"""
    y = None if subject.y_train is None else subject.y_train[:1]
    expect_error("fit on one pair", lambda: subject.make().fit(subject.train[:1], y), "sample")


CHECKS: tuple[Callable[[Subject], None], ...] = CARD_CHECKS + tuple(
    check for name, check in list(globals().items()) if name.startswith("check_")
)
