"""PairKFold and PairShuffleSplit: no group divided, labels spread, galleries of one size."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    cross_val_score,
    cross_validate,
)

from crossfit import Views, make_retrieval_scorer
from crossfit.methods import CCA
from crossfit.model_selection import PairKFold, PairShuffleSplit
from crossfit.model_selection.splitters import check_folds


def captions(sizes, seed=0, order=None):
    """Return images with given numbers of captions, in mixed order."""
    rng = np.random.default_rng(seed)
    index = np.repeat(np.arange(len(sizes)), sizes)
    index = rng.permutation(index) if order is None else index
    return Views.from_captions(
        rng.normal(size=(len(sizes), 3)), rng.normal(size=(len(index), 4)), index
    )


sizes_of_groups = st.lists(st.integers(1, 6), min_size=6, max_size=40)


@st.composite
def labelled(draw):
    """Draw Views with captions, one label per image, and a number of folds."""
    sizes = draw(sizes_of_groups)
    views = captions(sizes, seed=draw(st.integers(0, 99)))
    n_classes = draw(st.integers(1, 4))
    labels = np.array(draw(st.lists(st.integers(0, n_classes - 1), min_size=len(sizes),
                                    max_size=len(sizes))))  # fmt: skip
    return views, labels[views.groups], draw(st.integers(2, 6)), draw(st.integers(0, 2**31 - 1))


def splitters(n_splits, seed):
    return [
        PairKFold(n_splits),
        PairKFold(n_splits, shuffle=True, random_state=seed),
        PairKFold(n_splits, gallery_size=2, n_draws=2, random_state=seed),
        PairShuffleSplit(n_splits, test_size=0.3, random_state=seed),
        PairShuffleSplit(n_splits, test_size=2, random_state=seed),
    ]


@settings(max_examples=60, deadline=None)
@given(labelled(), st.booleans())
def test_no_group_is_divided_and_the_same_seed_gives_the_same_folds(case, with_labels):
    views, y, n_splits, seed = case
    for cv in splitters(n_splits, seed):
        if getattr(cv, "gallery_size", None) and not has_galleries(views, y, with_labels, n_splits):
            continue
        folds = list(cv.split(views, y if with_labels else None))
        assert len(folds) == cv.get_n_splits()
        for train, test in folds:
            assert len(train) and len(test)
            assert not set(views.groups[train]) & set(views.groups[test])
        again = list(clone_splitter(cv).split(views, y if with_labels else None))
        for (a, b), (c, d) in zip(folds, again):
            assert np.array_equal(a, c) and np.array_equal(b, d)


def has_galleries(views, y, with_labels, n_splits):
    """Return True if every fold has two images; a large group may fill one alone."""
    folds = PairKFold(n_splits).split(views, y if with_labels else None)
    return all(len(np.unique(views.groups[test])) > 1 for _, test in folds)


def clone_splitter(cv):
    return type(cv)(**vars(cv))


@settings(max_examples=60, deadline=None)
@given(labelled())
def test_k_folds_test_every_row_once_and_spread_the_classes(case):
    views, y, n_splits, seed = case
    for cv in (PairKFold(n_splits), PairKFold(n_splits, shuffle=True, random_state=seed)):
        folds = [test for _, test in cv.split(views, y)]
        assert np.array_equal(np.sort(np.concatenate(folds)), np.arange(len(views)))
        for train, test in cv.split(views, y):
            assert np.array_equal(np.sort(np.concatenate([train, test])), np.arange(len(views)))
        # Too few groups to fill the folds class by class: with equal shares, a fold would
        # be empty.
        counts = np.array([np.bincount(y[test], minlength=4) for test in folds])
        for label in np.unique(y):
            largest = np.bincount(views.groups[y == label]).max()
            if len(np.unique(views.groups)) >= 4 * n_splits:
                assert np.ptp(counts[:, label]) <= largest


@settings(max_examples=40, deadline=None)
@given(labelled(), st.sampled_from([0.2, 0.5, 3]))
def test_held_out_parts_have_their_size_and_the_share_of_every_class(case, test_size):
    views, y, _, seed = case
    groups = np.unique(views.groups)
    wanted = test_size if isinstance(test_size, int) else max(1, round(test_size * len(groups)))
    for _, test in PairShuffleSplit(3, test_size=test_size, random_state=seed).split(views, y):
        tested = np.unique(views.groups[test])
        assert len(tested) == wanted
        of_group = np.array([y[views.groups == group][0] for group in groups])
        for label in np.unique(y):
            share = (of_group == label).sum() * wanted / len(groups)
            assert abs((of_group[np.isin(groups, tested)] == label).sum() - share) <= 1


@settings(max_examples=40, deadline=None)
@given(labelled(), st.integers(1, 3), st.booleans())
def test_galleries_have_exactly_the_size_asked_for(case, n_draws, with_labels):
    views, y, _, seed = case
    assume(has_galleries(views, y, with_labels, 2))
    cv = PairKFold(2, gallery_size=2, n_draws=n_draws, random_state=seed)
    folds = list(cv.split(views, y if with_labels else None))
    assert len(folds) == cv.get_n_splits(views) == 2 * n_draws
    for train, test in folds:
        drawn = views[test]
        assert len(drawn.distinct("image")[0]) == 2
        for group in np.unique(views.groups[test]):  # an image comes with all its captions
            assert set(np.flatnonzero(views.groups == group)) <= set(test)
        assert not set(train) & set(test)


def test_draws_differ_and_keep_the_classes():
    views = captions([2] * 60)
    y = np.arange(60)[views.groups] % 3
    cv = PairKFold(2, gallery_size=12, n_draws=4, random_state=0)
    folds = list(cv.split(views, y))
    assert len({tuple(test) for _, test in folds}) == 8
    assert all(np.bincount(y[test]).tolist() == [8, 8, 8] for _, test in folds)


def test_recall_depends_on_the_gallery_and_a_fixed_one_makes_folds_comparable(planted):
    views, _ = planted(n=240, noise=4.0)
    scorer = make_retrieval_scorer("r@1")
    whole = cross_val_score(CCA(3), views, cv=PairKFold(2), scoring=scorer)
    small = cross_val_score(
        CCA(3), views, cv=PairKFold(2, gallery_size=12, n_draws=5, random_state=0), scoring=scorer
    )
    assert len(small) == 10
    assert small.mean() > 1.5 * whole.mean()


def test_plain_scikit_learn_takes_them_where_its_own_splitters_would_leak():
    rng = np.random.default_rng(0)
    index = np.repeat(np.arange(60), 3)
    Z = rng.normal(size=(60, 3))
    views = Views.from_captions(
        Z @ rng.normal(size=(3, 6)),
        (Z @ rng.normal(size=(3, 5)))[index] + rng.normal(size=(180, 5)),
        index,
    )
    scorer = make_retrieval_scorer("mrr")
    cv = PairKFold(3, shuffle=True, random_state=0)
    scores = cross_val_score(CCA(3), views, cv=cv, scoring=scorer)
    by_hand = [scorer(CCA(3).fit(views[a]), views[b]) for a, b in cv.split(views)]
    assert scores.tolist() == by_hand
    search = GridSearchCV(CCA(), {"n_components": [1, 3]}, cv=cv, scoring=scorer).fit(views)
    assert search.best_params_ == {"n_components": 3}
    assert search.n_splits_ == 3
    found = cross_validate(CCA(3), views, cv=PairShuffleSplit(2, random_state=1), scoring=scorer)
    assert len(found["test_score"]) == 2
    with pytest.raises(ValueError, match=r"fold 0 has rows of the same groups .* \(39 in"):
        check_folds(KFold(3, shuffle=True, random_state=0).split(views), views.groups)
    folds = GroupKFold(3).split(views, groups=views.groups)
    assert len(check_folds(folds, views.groups)) == 3


def test_groups_given_must_be_coarser_than_those_of_the_views():
    views = captions([2, 2, 2, 2, 2, 2], order="sorted")
    recordings = np.repeat([0, 1, 2], 4)
    tested = [set(recordings[test]) for _, test in PairKFold(3).split(views, groups=recordings)]
    assert tested == [{0}, {1}, {2}]
    with pytest.raises(ValueError, match="must not separate rows that share an item"):
        next(PairKFold(3).split(views, groups=np.arange(12)))
    clips = views.with_groups(recordings)
    for train, test in PairKFold(3).split(clips):
        assert not set(recordings[train]) & set(recordings[test])


def test_arrays_and_multilabel_targets_split_too():
    X, Y = np.zeros((30, 2)), np.eye(3, dtype=int)[np.arange(30) % 3]
    for _, test in PairKFold(5).split(X, Y):
        assert Y[test].sum(axis=0).tolist() == [2, 2, 2]
    folds = [test for _, test in PairKFold(3, gallery_size=4, random_state=0).split(X)]
    assert [len(test) for test in folds] == [4, 4, 4]


def test_a_group_of_several_classes_counts_as_its_most_frequent_one():
    views = Views(a=np.zeros((12, 1)), b=np.zeros((12, 1))).with_groups(np.repeat([0, 1, 2, 3], 3))
    y = np.array([0, 0, 1, 0, 0, 1, 1, 1, 0, 1, 1, 0])
    for _, test in PairKFold(2).split(views, y):
        assert np.bincount(y[test]).tolist() == [3, 3]


def test_a_fold_is_never_empty():
    # One group per class: by class alone, all would be in the first fold.
    views, y = captions([1] * 6), np.arange(6)
    assert [len(test) for _, test in PairKFold(6).split(views, y)] == [1] * 6
    huge = captions([50, 1, 1])
    assert all(len(test) for _, test in PairKFold(3).split(huge))


@pytest.mark.parametrize(
    "cv, message",
    [
        (PairKFold(1), r"'n_splits' .* int in the range \[2, inf\). Got 1"),
        (PairKFold(True), r"'n_splits' parameter of PairKFold .* Got True"),
        (PairKFold("3"), "'n_splits' .* Got '3'"),
        (PairKFold(2.0), "'n_splits' .* Got 2.0"),
        (PairKFold(shuffle="no"), "'shuffle' .* Got 'no'"),
        (PairKFold(random_state="0"), "'random_state' .* Got '0'"),
        (PairKFold(shuffle=True, random_state=True), "'random_state' .* Got True"),
        (PairKFold(9), "n_splits=9 folds need at least as many groups of rows, got 6 groups"),
        (PairKFold(2, gallery_size=4), "gallery_size=4 exceeds the 3 items of a test part"),
        (PairKFold(2, gallery_size=1), r"'gallery_size' .* int in the range \[2, inf\).*Got 1"),
        (PairKFold(2, gallery_size=2, n_draws=0), r"'n_draws' .* Got 0"),
        (PairKFold(2, n_draws=3), "n_draws: there are no galleries .*; set gallery_size"),
        (PairShuffleSplit(test_size=1.5), "'test_size' .* Got 1.5"),
        (PairShuffleSplit(test_size=0), "'test_size' .* Got 0"),
        (PairShuffleSplit(test_size=float("nan")), "'test_size' .* Got nan"),
        (PairShuffleSplit(test_size=True), "'test_size' .* Got True"),
        (PairShuffleSplit(test_size=None), "'test_size' .* Got None"),
        (PairShuffleSplit(test_size=6), "test_size=6 does not leave a group to train on"),
        (PairShuffleSplit(0), r"'n_splits' .* int in the range \[1, inf\). Got 0"),
    ],
)
def test_refusals(cv, message):
    with pytest.raises(ValueError, match=message):
        list(cv.split(captions([2] * 6)))


@pytest.mark.parametrize("X", [5, None, np.float64(3), object()])
def test_what_has_no_rows_is_not_split(X):
    with pytest.raises(TypeError, match=f"X must be Views or have rows, got {type(X).__name__}"):
        next(PairKFold(2).split(X))


def test_wrong_settings_are_refused_where_splits_are_counted():
    with pytest.raises(ValueError, match="Got 'x'"):
        PairKFold("x").get_n_splits()


@pytest.mark.parametrize(
    "folds, message",
    [
        ([], "at least one fold"),
        ([[0, 1, 2]], "fold 0 must be a pair"),
        ([([0], [])], "fold 0 must have row numbers on both sides"),
        ([(0, 1)], "fold 0 must have row numbers on both sides, got 1 to train on and 1 to test"),
        ([([0], ["a"])], "fold 0 must have row numbers on both sides"),
        ([([0], [[1], [2, 3]])], "fold 0 must be a pair"),
        ([None], "fold 0 must be a pair .* got None"),
        ([([0], [9])], "fold 0 has the row 9, but there are 4 rows"),
        ([([0], [-1])], "fold 0 has the row -1, but there are 4 rows"),
        (
            [([0], [1]), ([0, 2], [3])],
            r"fold 1 .* groups on both sides \(1 in all, for instance 2\)",
        ),
    ],
)
def test_folds_that_are_none(folds, message):
    with pytest.raises(ValueError, match=message):
        check_folds(folds, np.array([0, 1, 2, 2]))


def test_masks_are_folds_too():
    mask = np.array([True, True, False, False])
    [(train, test)] = check_folds([(mask, ~mask)], np.arange(4))
    assert train.tolist() == [0, 1] and test.tolist() == [2, 3]


def test_they_are_shown_with_their_settings():
    assert "n_splits=4" in repr(PairKFold(4)) and "test_size=0.2" in repr(PairShuffleSplit())
