"""Measures report invalid input in one sentence with its position, and take tensors."""

import numpy as np
import pytest

from crossfit.metrics import (
    Comparison,
    Repeats,
    average_precision,
    bootstrap_interval,
    chance_level,
    compare,
    evaluate,
    holm,
    interpolated_precision_recall,
    mean_average_precision,
    ndcg,
    paired_test,
    parse_metric,
    precision_at_k,
    rank_ranges,
    recall_at_k,
    recall_at_k_curve,
    rsum,
    voc_average_precision,
    voc_mean_average_precision,
)

torch = pytest.importorskip("torch")
S = np.random.RandomState(0).normal(size=(6, 5)).astype(np.float32)
Y = ([0, 1, 2, 0, 1, 2], [0, 1, 2, 0, 1])
EVALUATION = evaluate(S, Y)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap_interval([1, 2, np.inf]), r"values .* infinity in 1 of 3 rows \(2\)"),
        (lambda: bootstrap_interval([-np.inf] * 9), r"in 9 of 9 rows \(0, 1, 2, 3, 4, \.\.\.\)"),
        (lambda: bootstrap_interval([1e308, 1e308]), "at most 1e.290, .* got 1e.308"),
        (lambda: bootstrap_interval([[1.0]]), "1-D, one number per query"),
        (lambda: bootstrap_interval(["a"]), "real numbers"),
        (lambda: bootstrap_interval([1j, 2]), "real numbers, got type complex128"),
        (lambda: bootstrap_interval([[1], [1, 2]]), "rows of unequal shape"),
        (lambda: bootstrap_interval([]), "must have at least one value that is not NaN"),
        (lambda: bootstrap_interval(np.ma.array([1.0, 2], mask=[0, 1])), "as in 1 of 2 rows"),
        (lambda: bootstrap_interval([1, 2], random_state=-1), "'random_state' parameter"),
        (lambda: bootstrap_interval([1, 2], random_state="0"), "'random_state' parameter"),
        (lambda: bootstrap_interval([1, 2], n_resamples=True), "positive integer"),
        (lambda: bootstrap_interval([1, 2], statistic=np.array(["mean"])), "'mean' or 'median'"),
        (lambda: paired_test([1, np.inf], [1, 2]), r"a .* infinity in 1 of 2 rows \(1\)"),
        (lambda: paired_test([1, 2], [-np.inf, 2]), r"b .* infinity in 1 of 2 rows \(0\)"),
        (lambda: paired_test([1, 2], [1, 3], method=["bootstrap"]), "randomization or bootstrap"),
        (lambda: holm([0.1, np.nan]), r"between 0 and 1, got nan in 1 of 2 rows \(1\)"),
        (lambda: holm([0.1, -1, 2]), r"between 0 and 1, got -1.0 in 2 of 3 rows \(1, 2\)"),
        (lambda: rank_ranges({"a": np.nan}, []), "numbers that are not NaN"),
        (lambda: rank_ranges([1], []), "must map names"),
        (lambda: rank_ranges({"a": 1}, [None]), "as crossfit.metrics.compare returns it"),
        (
            lambda: rank_ranges({"a": 1}, [Comparison(0, 0, 0, 1, 1, "a", "b", 0.5)]),
            "'b' is compared, but has no mean",
        ),
        (lambda: compare({"a": EVALUATION, "b": 1}, "map@all", None), "crossfit.evaluate returns"),
        (lambda: compare([1, 2], "map@all", None), "'evaluations' parameter of compare"),
        (lambda: rsum(None), "evaluation must be what crossfit.evaluate returns, got NoneType"),
        (lambda: Repeats([EVALUATION, None]), "list of what crossfit.evaluate returns"),
        (lambda: EVALUATION.mean(["forward"], "map@all"), "is not a string; use one of"),
        (lambda: voc_average_precision([1, 0], [1, np.inf]), r"infinity.* 1 of 2 rows \(1\)"),
        (lambda: voc_average_precision([1, np.nan], [1, 2]), r"y_true .* 1 of 2 rows \(1\)"),
        (
            lambda: voc_mean_average_precision(np.eye(3), [[1, np.nan, 0]] * 3),
            r"got NaN or infinity in 3 of 3 rows \(0, 1, 2\)",
        ),
        (lambda: voc_average_precision([1, 0], [1, 0], ignore=[2, 0]), "ignore must have only"),
        (lambda: recall_at_k(S, Y, True), "'k' parameter of recall_at_k must be an int"),
        (lambda: recall_at_k(S, Y, 2.5), "'k' parameter of recall_at_k must be an int"),
        (lambda: recall_at_k(S, Y, 1, mode=None), "'mode' parameter of recall_at_k"),
        (lambda: precision_at_k(S, Y, 10**30), "unknown metric"),
        (lambda: average_precision(S, Y, 2, denominator=["all"]), "'denominator' parameter"),
        (lambda: recall_at_k_curve(S, Y, [1, 2.5]), "ks must be integers of at least 1"),
        (lambda: recall_at_k_curve(S, Y, []), "ks must be integers of at least 1"),
        (lambda: interpolated_precision_recall(S, Y, n_points=True), "n_points must be an integer"),
        (lambda: evaluate(S, Y, n_jobs=0), "'n_jobs' parameter of evaluate"),
        (lambda: evaluate(S, Y, random_state=-1), "'random_state' parameter of evaluate"),
        (lambda: evaluate(S, Y, ties=None), "ties must be one of"),
        (lambda: evaluate(S, Y, directions={"forward"}), "both, forward or backward"),
        (lambda: evaluate(S, Y, names=None), "two different strings"),
        (lambda: evaluate([[1, 2], [1]], Y), "scores must not be rows of unequal shape"),
        (lambda: evaluate(np.ma.masked_less(S, 0), Y), "scores must not be masked, as in"),
        (lambda: chance_level(Y, None), "a name or a sequence of names"),
        (lambda: ndcg(S, 1001 * (S > 0)), "grades must be at most 1000, got 1001"),
    ],
)  # fmt: skip
def test_one_sentence_with_the_place(call, message):
    with pytest.raises((ValueError, TypeError), match=message) as raised:
        call()
    assert "\n" not in str(raised.value)


def test_nan_scores_are_told_with_query_and_gallery():
    wrong = S.copy()
    wrong[4, [1, 3]] = np.nan
    message = r"got NaN for query 4 against 2 of 5 gallery items \(1, 3\)"
    with pytest.raises(ValueError, match=message):
        evaluate(wrong, Y)
    with pytest.raises(ValueError, match=r"got NaN for query 1 against 1 of 6 gallery items \(4\)"):
        evaluate(wrong, Y, directions="backward")
    with pytest.raises(ValueError, match=message):
        evaluate(iter([wrong[:3], wrong[3:]]), Y, directions="forward")


@pytest.mark.parametrize(
    "name",
    [
        "map@-1", "r@1e3", "r@１", "r@" + "9" * 19, "r@" + "9" * 5000, "r@ 1", "r@+1",
        "r@1\n\n:any", "\0",
    ],
)  # fmt: skip
def test_names_that_are_no_metrics(name):
    with pytest.raises(ValueError, match="unknown metric") as raised:
        parse_metric(name)
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize("name", [None, 5, b"r@1", ["r@1"], np.array("r@1"), torch.ones(2), float])
def test_names_that_are_no_strings(name):
    with pytest.raises(TypeError, match="metric must be a string"):
        parse_metric(name)


def test_a_cutoff_beyond_any_gallery():
    k = 10**18 - 1
    assert recall_at_k(S, Y, k) == 1
    assert precision_at_k(S, Y, k) == pytest.approx(np.mean([2, 2, 1] * 2) / k)
    for metric in (f"map@{k}:hits", f"map@{k}:all", f"map@{k}:min", f"ndcg@{k}"):
        assert evaluate(S, Y, metric).mean(None, metric) == pytest.approx(
            evaluate(S, Y, metric.split("@")[0] + "@all").mean(None, metric.split("@")[0] + "@all")
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int32])
@pytest.mark.parametrize("grad", [False, True])
def test_tensors_are_read_as_the_arrays_that_they_hold(dtype, grad):
    if grad and not dtype.is_floating_point:
        return
    rounded = torch.from_numpy(S * 4).to(dtype)
    as_array = rounded.to(torch.float64).numpy()
    given = rounded.clone().requires_grad_(grad)
    labels = tuple(torch.tensor(side) for side in Y)
    for names in ("map@all", "ndcg@3", "r@1"):
        expected, found = evaluate(as_array, Y, names), evaluate(given, labels, names)
        for key in expected.per_query:
            np.testing.assert_array_equal(found.per_query[key], expected.per_query[key])
    assert mean_average_precision(given, *labels) == mean_average_precision(as_array, *Y)
    blocks = iter([given[:2], given[2:]])
    assert evaluate(blocks, labels, directions="forward").mean("forward", "map@all") == (
        mean_average_precision(as_array, *Y)
    )
    relevance = (torch.tensor(Y[0])[:, None] == torch.tensor(Y[1])).to(dtype).requires_grad_(grad)
    assert ndcg(given, relevance) == pytest.approx(ndcg(as_array, Y))
    column = given[:, 0]
    np.testing.assert_array_equal(bootstrap_interval(column), bootstrap_interval(as_array[:, 0]))
    assert paired_test(column, given[:, 1]) == paired_test(as_array[:, 0], as_array[:, 1])
    assert voc_average_precision(torch.tensor(Y[0]), column) == (
        voc_average_precision(Y[0], as_array[:, 0])
    )


def test_half_precision_relevance():
    relevance = np.equal.outer(*map(np.array, Y))
    assert ndcg(S, relevance.astype(np.float16)) == ndcg(S, relevance)
    assert ndcg(S, relevance.astype(np.longdouble)) == ndcg(S, relevance)


def test_nan_stays_an_excluded_query_and_groups_of_those_are_not_drawn():
    values = np.array([1.0, np.nan, 3.0, 4.0])
    assert bootstrap_interval(values) == bootstrap_interval([1.0, 3.0, 4.0])
    assert bootstrap_interval(values, groups=["b", "z", "a", "a"]) == bootstrap_interval(
        [1.0, 3.0, 4.0], groups=[1, 0, 0]
    )
