"""Labels and groups: valid values, and which rows are unlabelled."""

import datetime
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

from crossfit import Views
from crossfit.labels import check_labels, class_codes, group_codes, labelled, read_labels
from crossfit.metrics import bootstrap_interval, evaluate
from crossfit.model_selection import PairKFold, PairShuffleSplit
from crossfit.similarities import KNNPosterior, PosteriorOverPrior
from crossfit.subspace import GMLDA, JRL, LCFS, LGCFL, SM

nan = float("nan")
NUMBERS = [0, 1, -1, 1, 0, -1, 0, 2, 2, 1]
WORDS = [{0: "a", 1: "b", 2: "c"}.get(number, -1) for number in NUMBERS]
# Every way to write the same labels, with the same three rows without a class.
FORMS = {
    "list": NUMBERS,
    "tuple": tuple(NUMBERS),
    "int64": np.array(NUMBERS),
    "int8": np.array(NUMBERS, np.int8),
    "big-endian": np.array(NUMBERS, ">i4"),
    "float": np.array(NUMBERS, float),
    "float16": np.array(NUMBERS, np.float16),
    "object": np.array(NUMBERS, object),
    "object of floats": np.array(NUMBERS, float).astype(object),
    "object of both": np.array([-1.0 if y == -1 else y for y in NUMBERS], object),
    "list of both": [-1.0 if y == -1 else np.int32(y) for y in NUMBERS],
    "unmasked": np.ma.array(NUMBERS),
    "series": pd.Series(NUMBERS, index=range(20, 10, -1)),
    "nullable": pd.array(NUMBERS, dtype="Int64"),
    "category": pd.Series(NUMBERS, dtype="category"),
    "words": WORDS,
    "words as objects": np.array(WORDS, object),
    "words in a column": pd.Series(WORDS),
    "words and a float": [-1.0 if y == -1 else y for y in WORDS],
    "beyond 64 bits": [y if y == -1 else 2**70 + y for y in NUMBERS],
    "dates": np.array(
        [y if y == -1 else datetime.date(2020, 1, 1 + y) for y in NUMBERS], dtype=object
    ),
}
KNOWN = np.array(NUMBERS) != -1
# And labels without unlabelled rows.
ALL_LABELLED = {
    "strings": ["-1", "a", "-1", "b"],
    "array of strings": np.array(["-1", "a", "-1", "b"]),
    "bools": [True, False, True, False],
    "unsigned": np.array([255, 1, 255, 0], np.uint8),
    "days": np.array(["2020-01-01", "2020-01-02"] * 2, "M8[D]"),
    "bytes": [b"-1", b"a", b"-1", b"b"],
}


@pytest.mark.parametrize("form", FORMS)
def test_minus_one_is_unlabelled_in_every_form(form):
    y = read_labels(FORMS[form])
    assert labelled(y).tolist() == KNOWN.tolist()
    classes, codes = class_codes(y)
    assert codes.tolist() == NUMBERS and len(classes) == 3
    assert class_codes(check_labels(FORMS[form]))[1].tolist() == NUMBERS


@pytest.mark.parametrize("form", ALL_LABELLED)
def test_what_cannot_be_minus_one_is_labelled(form):
    y = read_labels(ALL_LABELLED[form])
    assert labelled(y).all() and class_codes(y)[1].min() == 0


def average_precision(S, y):
    """Compute mAP with scikit-learn; unlabelled items are not queries and never relevant."""
    found = [
        average_precision_score((y == y[i]) & (y != -1), S[i]) for i in np.flatnonzero(y != -1)
    ]
    return np.mean(found)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.filterwarnings("ignore:.*no relevant item")
def test_evaluation_and_relevance_are_the_same_in_every_form(form):
    S = np.random.default_rng(0).permutation(np.arange(100.0)).reshape(10, 10)
    y = np.array(NUMBERS)
    value = evaluate(S, (FORMS[form], FORMS[form]), "map@all").mean("forward", "map@all")
    assert value == pytest.approx(average_precision(S, y), rel=1e-12)
    v = Views(image=np.eye(10), text=np.eye(10))
    right = (np.equal.outer(y, y) & KNOWN[:, None]).astype(int)
    assert np.array_equal(v.relevance("image", "text", FORMS[form]).toarray(), right)


@pytest.mark.filterwarnings("ignore:.*no relevant item")
def test_two_sides_may_write_their_labels_differently():
    S = np.random.default_rng(1).normal(size=(10, 10))
    for sort in ("words", "list"):
        same = [name for name, y in FORMS.items() if sort == "list" or name.startswith("words")]
        same = [name for name in same if sort == "words" or name not in WORDED]
        wanted = evaluate(S, (FORMS[sort],) * 2, "map@all").mean(None, "map@all")
        for name in same:
            for pair in ((FORMS[name], FORMS[sort]), (FORMS[sort], FORMS[name])):
                assert evaluate(S, pair, "map@all").mean(None, "map@all") == wanted
    with pytest.raises(TypeError, match="labels of both sides must be of one kind"):
        evaluate(S, (FORMS["words"], NUMBERS), "map@all")


WORDED = {name for name in FORMS if "word" in name or name in ("beyond 64 bits", "dates")}


@pytest.mark.filterwarnings("ignore:.*no relevant item")
def test_large_integers_of_two_types_stay_apart():
    first = np.array([2**63 - 1, 2**53 + 1, -1])
    second = np.array([2**63 - 1, 2**53, 2**63 - 2], np.uint64)
    ones = evaluate(np.eye(3), (first, second), "r@1", directions="forward").per_query
    assert ones["query2gallery", "r@1"].tolist()[:1] == [1] and np.isnan(
        ones["query2gallery", "r@1"][1]
    )
    floats = np.array([2.0**53, 1.0, 1.0])
    with pytest.raises(ValueError, match=r"no query.*relevant"):
        evaluate(np.eye(3), (first, floats), "r@1", directions="forward")


@pytest.mark.parametrize("form", FORMS)
def test_methods_and_similarities_read_the_same_rows(form):
    rng = np.random.default_rng(0)
    X, T = rng.normal(size=(10, 3)), rng.normal(size=(10, 2))
    y = FORMS[form]
    views = Views(image=X, text=T)
    jrl = JRL(random_state=0).fit(X, T, y)
    same = JRL(random_state=0).fit(X, T, NUMBERS)
    assert len(jrl.classes_) == 3
    np.testing.assert_array_equal(jrl.encode(X, "image"), same.encode(X, "image"))
    prior = PosteriorOverPrior().fit(views, y).prior_
    np.testing.assert_allclose(prior, [3 / 8, 3 / 8, 2 / 8])
    common = Views(image=X[:, :2], text=T)
    by_form = KNNPosterior(3).fit(common, y).posterior(T)
    by_number = KNNPosterior(3).fit(common, NUMBERS).posterior(T)
    np.testing.assert_allclose(by_form, by_number)
    for method in (GMLDA, LCFS, LGCFL, SM):
        with pytest.raises(ValueError, match="2 rows with the label -1"):
            method().fit(X, T, y)
    folds = [test.tolist() for _, test in PairKFold(2).split(views, y)]
    assert folds == [test.tolist() for _, test in PairKFold(2).split(views, NUMBERS)]


def test_networks_read_the_same_rows():
    from crossfit.neural.estimator import NeuralEstimator

    for form, y in FORMS.items():
        targets = NeuralEstimator._targets(type("Held", (), {})(), read_labels(y))
        assert targets.tolist() == NUMBERS, form


# ---- invalid labels --------------------------------------------------------------------

MISSING = {
    "nan": ([0, 1, nan, 1], r"labels must be finite, got NaN or infinity in 1 of 4 rows \(2\)"),
    "infinity": (np.array([0, np.inf, 1, -np.inf]), r"finite.*2 of 4 rows \(1, 3\)"),
    "None": ([0, None, 1, None], r"must not be None or NaN, as in 2 of 4 rows \(1, 3\)"),
    "nan among strings": (["a", nan, "b", "a"], r"1 of 4 rows \(1\)"),
    "nan first": ([nan, "a", "b", "a"], r"1 of 4 rows \(0\)"),
    "None among strings": (["a", "b", None, "a"], r"1 of 4 rows \(2\)"),
    "NA": (["a", pd.NA, "b", "a"], r"1 of 4 rows \(1\)"),
    "NaT": (np.array(["2020-01-01", "NaT"], "M8[D]"), r"1 of 2 rows \(1\)"),
    "pandas NaT": ([pd.NaT, pd.Timestamp(0)], r"1 of 2 rows \(0\)"),
    "column": (pd.Series(["a", None, "b"]), r"1 of 3 rows \(1\)"),
    "string column": (pd.Series(["a", None, "b"], dtype="string"), r"1 of 3 rows \(1\)"),
    "nullable": (pd.array([1, None, 2], dtype="Int64"), r"1 of 3 rows \(1\)"),
    "category": (pd.Series(["a", None], dtype="category"), r"1 of 2 rows \(1\)"),
    "masked": (np.ma.array([0, 1, -1], mask=[0, 1, 0]), r"must not be masked.*1 of 3 rows \(1\)"),
    "masked among them": ([0, np.ma.masked, 1], r"1 of 3 rows \(1\)"),
    "indicator": ([[1, 0], [nan, 1]], r"1 of 2 rows \(1\)"),
    "masked indicator": (np.ma.array(np.eye(2), mask=np.eye(2)), r"2 of 2 rows \(0, 1\)"),
    "many": ([nan] * 9, r"9 of 9 rows \(0, 1, 2, 3, 4, \.\.\.\)"),
}
NO_LABELS = {
    "sets": ([{1}, {2}, {1}], r"got an object of type set in row 0"),
    "mappings": ([{"a": 1}] * 3, "type dict in row 0"),
    "lists of unequal length": ([[1, 2], [3], [4]], "must not be rows of unequal shape"),
    "lists as objects": (np.array([[1, 2], [3], None], object)[:2], "type list in row 0"),
    "numbers among strings": (["a", 3, "b"], r"of one kind, got strings and numbers \(row 1 is 3"),
    "complex": ([1j, 2j], "got type complex128"),
    "objects": ([object(), object()], "type object in row 0"),
    "a set": ({1, 2, 3}, "array-like with one entry per row.*set"),
    "a mapping": ({0: 1}, "array-like.*dict"),
    "a generator": ((i for i in range(3)), "array-like.*generator"),
    "a word": ("abc", "array-like.*str"),
    "None": (None, "array-like.*NoneType"),
    "one": (3, r"shape \(\)"),
    "records": (np.zeros(3, [("a", int)]), "numbers, strings or dates"),
}  # fmt: skip


@pytest.mark.parametrize("case", [*MISSING, *NO_LABELS])
def test_what_is_missing_or_no_label_is_refused_with_its_row(case):
    y, message = {**MISSING, **NO_LABELS}[case]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises((ValueError, TypeError), match=message):
            read_labels(y)
        with pytest.raises((ValueError, TypeError), match=message):
            check_labels(y)
        n = 3 if np.isscalar(y) or not hasattr(y, "__len__") else len(y)
        if y is not None:
            with pytest.raises((ValueError, TypeError), match=message):
                evaluate(np.eye(n), (y, y), "r@1")
            with pytest.raises((ValueError, TypeError), match=message):
                JRL().fit(np.eye(9), np.eye(9), y)
            v = Views(image=np.eye(n), text=np.eye(n))
            with pytest.raises((ValueError, TypeError), match=message):
                v.relevance("image", "text", y)
            with pytest.raises((ValueError, TypeError), match=message):
                v.item_labels("image", y)


def test_grades_that_are_masked_or_out_of_their_matrix_are_refused():
    import scipy.sparse as sp

    masked = np.ma.array(np.eye(3), mask=np.eye(3))
    with pytest.raises(ValueError, match="relevance must not be masked, as in 3 of 3 rows"):
        evaluate(np.eye(3), masked, "r@1")
    with pytest.raises(ValueError, match="scores must not be masked, as in 3 of 3 rows"):
        evaluate(masked, np.eye(3), "r@1")
    damaged = sp.csr_array(np.eye(3))
    damaged.indices[1] = 77
    coo = sp.coo_array(np.eye(3))
    coo.col[1] = 77
    for made in (damaged, coo, sp.csr_matrix(damaged)):
        with pytest.raises(ValueError, match="relevance is a damaged sparse matrix"):
            evaluate(np.eye(3), made, "r@1")
        with pytest.raises(ValueError, match="labels is a damaged sparse matrix"):
            evaluate(np.eye(3), (made, made), "r@1")


def test_an_indicator_has_nothing_between_0_and_1():
    v = Views(image=np.eye(2), text=np.eye(2))
    with pytest.raises(ValueError, match="indicator of 0 and 1"):
        v.relevance("image", "text", [[0.5, 0], [0.5, 1]])  # 0.5 was truncated to 0 before the fix


# ---- groups ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "groups, message",
    [
        (
            [1, nan, nan],
            r"must not be None or NaN, as in 2 of 3 rows \(1, 2\); a row",
        ),
        (["a", None, "a"], r"1 of 3 rows \(1\)"),
        ([nan, "a", "a"], r"1 of 3 rows \(0\)"),
        (pd.array([1, None, 1], dtype="Int64"), r"1 of 3 rows \(1\)"),
        (np.ma.array([1, 2, 2], mask=[0, 0, 1]), r"groups must not be masked.*\(2\)"),
        (np.array(["a", 1, "a"], object), "of one kind, got strings and numbers"),
        (["a", 1, "a"], "of one kind"),
        ([{1}, {2}, {1}], "type set in row 0"),
        ([1, 2], r"shape \(3,\), got \(2,\)"),
        (3, r"shape \(3,\), got \(\)"),
        ({1, 2, 3}, "array-like with one entry per row.*set"),
        (None, "array-like"),
    ],
)
def test_groups_that_are_missing_or_none_are_refused(groups, message):
    v = Views(image=np.eye(3), text=np.eye(3))
    with pytest.raises((ValueError, TypeError), match=message):
        v.with_groups(groups)
    if groups is None:
        return
    message = message.replace("rows", "(rows|queries)").replace("row", "(row|query)")
    doors = {
        "folds": lambda: list(PairKFold(2).split(v, groups=groups)),
        "shuffled": lambda: list(PairShuffleSplit(2).split(np.eye(3), groups=groups)),
        "evaluate": lambda: evaluate(np.eye(3), np.eye(3), "r@1", groups=(groups, None)),
        "interval": lambda: bootstrap_interval([1.0, 2.0, 3.0], groups=groups),
    }
    for door in doors.values():
        with pytest.raises((ValueError, TypeError), match=r"groups|shape"):
            door()


def test_groups_are_numbered_as_numpy_sorts_them():
    assert group_codes(["b", "a", "b"], 3).tolist() == [1, 0, 1]
    assert group_codes([-1, 5, -1], 3).tolist() == [0, 1, 0]  # like any other number
    assert group_codes(pd.Series([2.5, 1.5, 2.5]), 3).tolist() == [1, 0, 1]
    assert group_codes(np.array([2**70, 1, 2**70 + 1], object), 3).tolist() == [1, 0, 2]
