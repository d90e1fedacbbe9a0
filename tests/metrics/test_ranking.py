"""Ranking measures against worked numbers, other packages, all orders of ties and a loop."""

from __future__ import annotations

import itertools
import pickle
import re
import subprocess
import sys
import warnings
from math import comb
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score, ndcg_score

from crossfit.metrics import (
    average_precision,
    chance_level,
    evaluate,
    mean_average_precision,
    mean_rank,
    mean_reciprocal_rank,
    median_rank,
    ndcg,
    paired_test,
    parse_metric,
    precision_at_k,
    ranking,
    recall_at_k,
    rsum,
)
from crossfit.metrics.names import KINDS, Kind

ALL = (
    "map@all", "map@1", "map@3", "map@3:all", "map@3:min", "map@5:hits", "map@5:all", "map@5:min",
    "map@99:hits", "r@1", "r@3", "r@5", "r@99", "r@1:fraction", "r@3:fraction", "r@99:fraction",
    "p@1", "p@3", "p@99", "ndcg@1", "ndcg@3", "ndcg@all", "mrr", "meanr", "map@r", "p@r",
)  # fmt: skip


def naive(metric: str, grades: np.ndarray) -> float:
    """Return the value of one query from the grades in ranked order, one step at a time."""
    measure = parse_metric(metric)
    k = len(grades) if measure.k is None else measure.k
    total = sum(g > 0 for g in grades)
    if total == 0:
        return float("nan")
    if measure.at_r:
        k = total
    if measure.kind == "tied":  # called for scores without ties
        return 0.0
    first = next(i for i, g in enumerate(grades, 1) if g > 0)
    if measure.kind == "mrr":
        return 1 / first
    if measure.kind in ("meanr", "medr"):
        return float(first)
    top = list(grades[:k])
    hits = sum(g > 0 for g in top)
    if measure.kind == "p":
        return hits / k
    if measure.variant == "twowaynet":  # ranks from 0
        return float(any(g > 0 and rank <= k for rank, g in enumerate(grades)))
    if measure.kind == "r":
        return float(hits > 0) if measure.variant == "any" else hits / total
    if measure.kind == "ndcg":

        def dcg(gains):
            return sum((2**g - 1) / np.log2(1 + i) for i, g in enumerate(gains, 1))

        return dcg(top) / dcg(sorted(grades, reverse=True)[:k])
    assert measure.kind == "map", f"naive of {__name__} has no loop for {measure.kind}: add one"
    seen, found = 0, 0.0
    for i, g in enumerate(top, 1):
        if g > 0:
            seen += 1
            found += seen / i
    if measure.k is None or measure.variant == "all":  # also map@R
        return found / total
    return found / (min(total, k) if measure.variant == "min" else max(hits, 1))


def orders_of_ties(scores: np.ndarray):
    """Yield every order of the gallery that a sort of these scores may return."""
    levels = [np.flatnonzero(scores == s) for s in np.unique(scores)[::-1]]
    for parts in itertools.product(*(itertools.permutations(level) for level in levels)):
        yield np.array(list(itertools.chain(*parts)))


def values(scores, relevance, metrics, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ev = evaluate(scores, relevance, metrics, directions="forward", ci=None, **options)
    return [ev.per_query["forward", metric] for metric in metrics]


def names_of(kind: str) -> set[str]:
    """Return names of a kind with each of its variants and a few cut-offs."""
    found = set()
    for form in KINDS[kind].forms(kind):
        stem, _, variants = form.partition(":")
        for name in (stem.replace("@K", f"@{k}") for k in (1, 3, 99)):
            found |= {parse_metric(f"{name}:{v}" if v else name).name for v in variants.split("|")}
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_what_a_loop_computes(kind: str) -> None:
    """A kind without a loop in `naive` fails here."""
    rng = np.random.default_rng(0)
    scores = rng.permuted(np.tile(np.arange(12.0), (30, 1)), axis=1)
    grades = rng.choice([0, 0, 0, 1, 2], (30, 12))
    for name in names_of(kind):
        expected = [naive(name, row[np.argsort(-s)]) for s, row in zip(scores, grades)]
        (found,) = values(scores, grades, [name])
        np.testing.assert_allclose(found, expected, err_msg=name)
        if KINDS[kind].bounded:
            assert np.nanmin(found) >= 0 and np.nanmax(found) <= 1
        if KINDS[kind].is_rank:
            assert np.nanmin(found) >= 1 and not KINDS[kind].greater_is_better
        if not KINDS[kind].needs_grades:
            np.testing.assert_array_equal(values(scores, grades > 0, [name])[0], found)
        if parse_metric(name).needs_first_only:
            (joined,) = values(scores, grades, [name, "map@all"])[:1]
            np.testing.assert_array_equal(joined, found)


def test_every_kind_is_computed_and_an_unknown_one_is_an_error(monkeypatch) -> None:
    assert ranking.VALUES.keys() == KINDS.keys()
    monkeypatch.setitem(KINDS, "new", Kind(words="New"))
    with pytest.raises(NotImplementedError, match="new: no function computes its values; add"):
        evaluate([[1.0, 0.0]], [[0, 1]], "new", directions="forward")


def test_the_page_on_measures_lists_every_kind_with_every_variant() -> None:
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    table = page.partition("## Names")[2].partition("\n## ")[0]
    first = " ".join(re.findall(r"^\| (`.*?) \|", table, re.MULTILINE))
    listed = {parse_metric(name).name for name in re.findall(r"`([^`]+)`", first)}
    listed = {re.sub(r"@\d+", "@K", name) for name in listed}
    known = {re.sub(r"@\d+", "@K", name) for kind in KINDS for name in names_of(kind)}
    assert listed == known, "list every kind with every variant in the table of docs/metrics.md"


# ------------------------------------------------------------------ worked numbers


def test_worked_ties() -> None:
    scores, relevance = [[1.0, 1.0, 0.0, 0.0]], [[0, 1, 1, 0]]
    assert average_precision(scores, relevance)[0] == pytest.approx(2 / 3)
    assert average_precision(scores, relevance, ties="worst")[0] == pytest.approx(0.5)
    assert average_precision([[0.9, 1.0, 0.5, 0.4]], relevance)[0] == pytest.approx(0.833, abs=1e-3)
    assert average_precision_score(relevance[0], scores[0]) == pytest.approx(0.5)
    tied, three = np.zeros((1, 9)), [[1] * 3 + [0] * 6]
    assert average_precision(tied, three)[0] == pytest.approx(0.486, abs=5e-4)
    assert average_precision(tied, three, ties="worst")[0] == pytest.approx(0.242, abs=5e-4)
    assert average_precision_score(three[0], tied[0]) == pytest.approx(1 / 3)


def test_first_rank_and_success_with_one_relevant_item() -> None:
    # g = 2 above, t = 4 tied, r = 1: rank g + (t+1)/(r+1), R@K clip((K-g)/t, 0, 1).
    scores, relevance = [[9, 8, 5, 5, 5, 5, 1]], [[0, 0, 0, 1, 0, 0, 0]]
    assert mean_rank(scores, relevance) == 2 + 5 / 2
    for k, expected in zip(range(1, 8), (0, 0, 0.25, 0.5, 0.75, 1, 1)):
        assert recall_at_k(scores, relevance, k) == pytest.approx(expected)
    assert mean_rank(scores, relevance, ties="stable") == 4
    assert mean_rank(scores, relevance, ties="worst") == 6
    assert mean_reciprocal_rank(scores, relevance) == pytest.approx(
        np.mean([1 / 3, 1 / 4, 1 / 5, 1 / 6])
    )


def test_recall_at_k_is_not_off_by_one() -> None:
    scores = -np.arange(10.0)[None]
    for position in range(10):
        relevance = np.zeros((1, 10))
        relevance[0, position] = 1
        for k in range(1, 11):
            assert recall_at_k(scores, relevance, k) == float(position + 1 <= k)


def test_map_at_k_denominators() -> None:
    relevance = np.zeros((1, 10))
    relevance[0, [0, 2, 7, 8]] = 1
    scores = -np.arange(10.0)[None]
    found = 1 + 2 / 3
    for denominator, divisor in (("hits", 2), ("all", 4), ("min", 3)):
        value = average_precision(scores, relevance, 3, denominator=denominator)[0]
        assert value == pytest.approx(found / divisor)
    no_hit = np.zeros((1, 10))
    no_hit[0, 9] = 1
    assert average_precision(scores, no_hit, 3)[0] == 0.0


def test_median_rank_conventions() -> None:
    # First ranks 1, 2, 4, 10: the median is 3; from 0 it is 2, its floor 2, plus 1 is 3.
    relevance = np.zeros((4, 10))
    relevance[np.arange(4), [0, 1, 3, 9]] = 1
    scores = np.tile(-np.arange(10.0), (4, 1))
    assert median_rank(scores, relevance) == 3.0
    relevance[2] = np.roll(relevance[2], 1)  # ranks 1, 2, 5, 10
    ev = evaluate(scores, relevance, ["medr", "medr:vsepp"], directions="forward")
    assert ev.mean("forward", "medr") == 3.5
    assert ev.mean("forward", "medr:vsepp") == np.floor(np.median([0, 1, 4, 9])) + 1 == 3.0


# ------------------------------------------------------------------ the key oracle: all orders


@pytest.mark.parametrize("few", [0, 8])
@pytest.mark.parametrize("seed", range(4))
def test_expected_is_the_mean_over_all_orders_of_ties(
    seed: int, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking, "_FEW", few)
    rng = np.random.default_rng(seed)
    n, m = 6, 7
    scores = rng.integers(-1, 2 if seed % 2 else 1, (n, m)).astype(np.float32)
    grades = rng.integers(0, 4, (n, m)) * (rng.random((n, m)) < 0.6)
    for metric, got in zip(ALL, values(scores, grades, ALL)):
        for i in range(n):
            orders = list(orders_of_ties(scores[i]))
            expected = np.mean([naive(metric, grades[i][order]) for order in orders])
            np.testing.assert_allclose(got[i], expected, atol=1e-12, err_msg=f"{metric} {i}")


@pytest.mark.parametrize("n_relevant", [3, 12, 25])
def test_expected_is_the_mean_over_random_orders_of_a_larger_gallery(n_relevant: int) -> None:
    # So many relevant items that the sort is used and not the count.
    rng = np.random.default_rng(n_relevant)
    m, draws = 40, 4000
    scores = rng.integers(0, 4, m).astype(np.float64)
    grades = np.zeros(m, int)
    grades[rng.choice(m, n_relevant, replace=False)] = rng.integers(1, 3, n_relevant)
    shuffled = np.argsort(-(scores + rng.random((draws, m)) * 0.5), axis=1)
    metrics = ("map@all", "map@15", "map@15:min", "r@3", "r@15:fraction", "ndcg@15", "mrr", "meanr")
    for metric, got in zip(metrics, values(scores[None], grades[None], metrics)):
        sample = np.array([naive(metric, grades[order]) for order in shuffled])
        error = sample.std() / np.sqrt(draws)
        assert abs(got[0] - sample.mean()) < 4.5 * error + 1e-9, metric


@pytest.mark.parametrize("few", [0, 8])
def test_stable_worst_and_best_against_the_loop(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "_FEW", few)
    rng = np.random.default_rng(3)
    scores = rng.integers(-2, 3, (30, 20)).astype(np.float32)
    grades = rng.integers(0, 4, (30, 20)) * (rng.random((30, 20)) < 0.5)
    stable, worst, best = (
        values(scores, grades, ALL, ties=ties) for ties in ("stable", "worst", "best")
    )
    for metric, in_order, last, leading in zip(ALL, stable, worst, best):
        for i in range(30):
            order = np.argsort(-scores[i], kind="stable")
            assert in_order[i] == pytest.approx(naive(metric, grades[i][order])), metric
            order = np.lexsort((grades[i], -scores[i]))
            assert last[i] == pytest.approx(naive(metric, grades[i][order])), metric
            order = np.lexsort((-grades[i], -scores[i]))
            assert leading[i] == pytest.approx(naive(metric, grades[i][order])), metric


@pytest.mark.parametrize("ties", ["expected", "stable", "worst", "best"])
@pytest.mark.parametrize("metric", ["r@3", "mrr", "meanr"])
def test_counting_the_first_item_equals_reading_all(ties: str, metric: str) -> None:
    rng = np.random.default_rng(4)
    scores = rng.integers(-3, 3, (40, 25))
    relevance = rng.random((40, 25)) < 0.3
    (alone,) = values(scores, relevance, [metric], ties=ties)
    beside, _ = values(scores, relevance, [metric, "map@all"], ties=ties)
    np.testing.assert_allclose(alone, beside, rtol=1e-13)


# ------------------------------------------------------------------ other packages


@pytest.mark.parametrize("n_relevant", [3, 30])
def test_untied_scores_against_scikit_learn(n_relevant: int) -> None:
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((20, 100)) - 5
    grades = np.zeros((20, 100), int)
    for row in grades:
        row[rng.choice(100, n_relevant, replace=False)] = rng.integers(1, 4, n_relevant)
    got = average_precision(scores, grades)
    expected = [average_precision_score(g > 0, s) for g, s in zip(grades, scores)]
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    for k in (1, 10, None):
        expected = ndcg_score(2.0**grades - 1, scores, k=k)
        assert ndcg(scores, grades, k) == pytest.approx(expected, rel=1e-12)


def test_untied_scores_against_trec() -> None:
    ir_measures = pytest.importorskip("ir_measures")
    rng = np.random.default_rng(1)
    scores = rng.standard_normal((25, 60))
    relevance = rng.random((25, 60)) < 0.15
    relevance[:, 0] = True
    run = {str(i): {str(j): float(s) for j, s in enumerate(r)} for i, r in enumerate(scores)}
    qrels = {str(i): {str(j): int(x) for j, x in enumerate(r)} for i, r in enumerate(relevance)}
    pairs = {
        "map@all": ir_measures.AP, "map@10:all": ir_measures.AP @ 10, "p@5": ir_measures.P @ 5,
        "r@5:fraction": ir_measures.R @ 5, "r@5": ir_measures.Success @ 5, "mrr": ir_measures.RR,
        "ndcg@10": ir_measures.nDCG @ 10, "p@r": ir_measures.Rprec,
    }  # fmt: skip
    theirs = ir_measures.calc_aggregate(list(pairs.values()), qrels, run)
    ev = evaluate(scores, relevance, list(pairs), directions="forward", ci=None)
    for name, measure in pairs.items():
        assert ev.mean("forward", name) == pytest.approx(theirs[measure], abs=1e-6), name


# ------------------------------------------------------------------ constant and perfect scorers


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize(
    "metric",
    ["map@all", "map@50", "r@1", "r@10", "mrr", "ndcg@10", "p@5", "p@r", "map@r",
     "map@all:adjusted", "r@10:adjusted", "meanr:adjusted"],
)  # fmt: skip
def test_constant_scores_are_at_chance(interleaved: bool, metric: str) -> None:
    y = np.arange(200) % 10 if interleaved else np.repeat(np.arange(10), 20)
    constant = evaluate(np.ones((200, 200), np.float32), (y, y), metric, ci=None)
    chance = chance_level((y, y), metric)
    assert constant.mean(None, metric) == pytest.approx(
        chance.mean(None, metric), rel=1e-12, abs=1e-12
    )
    rng = np.random.default_rng(0)
    random = evaluate(rng.random((200, 200)), (y, y), metric, directions="forward", ci=None)
    spread = random.per_query["forward", metric].std() / np.sqrt(200)
    assert abs(random.mean("forward", metric) - chance.mean("forward", metric)) < 5 * spread


def test_closed_forms_of_chance() -> None:
    n, r = 30, 4
    relevance = np.zeros((1, n))
    relevance[0, :r] = 1
    ev = chance_level(relevance, ["map@all", "r@5", "meanr", "p@3"], directions="forward")
    harmonic = sum(1 / i for i in range(1, n + 1))
    ap = (harmonic + (r - 1) / (n - 1) * (n - harmonic)) / n
    assert ev.mean("forward", "map@all") == pytest.approx(ap, rel=1e-12)
    assert ev.mean("forward", "r@5") == pytest.approx(1 - comb(n - r, 5) / comb(n, 5), rel=1e-12)
    assert ev.mean("forward", "meanr") == pytest.approx((n + 1) / (r + 1))
    assert ev.mean("forward", "p@3") == pytest.approx(r / n)


def test_chance_with_grades_equals_all_tied_scores() -> None:
    rng = np.random.default_rng(5)
    a, b = (rng.random((n, 6)) < 0.3 for n in (15, 12))
    a[:, 0] = b[:, 0] = True
    metrics = ["ndcg@5", "ndcg@all", "map@7", "mrr", "r@3"]
    tied = evaluate(np.zeros((15, 12)), (a, b), metrics, ci=None)
    chance = chance_level((a, b), metrics)
    for key, value in tied.per_query.items():
        np.testing.assert_allclose(chance.per_query[key], value, rtol=1e-12)


def test_stable_ties_flatter_a_constant_scorer_on_a_sorted_gallery() -> None:
    y = np.repeat(np.arange(10), 20)
    flat = np.ones((200, 200))
    assert mean_average_precision(flat, y, y, ties="stable") > 1.5 * mean_average_precision(
        flat, y, y
    )


@pytest.mark.parametrize("ties", ["expected", "stable", "worst", "best"])
def test_perfect_scores_are_exactly_one(ties: str) -> None:
    y = np.random.default_rng(0).integers(0, 4, 60)
    metrics = ["map@all", "map@50", "map@5:min", "map@r", "p@r", "r@1", "mrr", "ndcg@10",
               "ndcg@all", "meanr", "meanr:adjusted", "map@all:adjusted", "ndcg@10:adjusted",
               "map@r:adjusted"]  # fmt: skip
    ev = evaluate(np.equal.outer(y, y) - 3.0, (y, y), metrics, ties=ties, ci=None)
    for metric in metrics:
        assert ev.mean(None, metric) == pytest.approx(1.0, abs=1e-12)
    distinct = np.where(np.equal.outer(y, y), 10.0, 0.0) + np.random.default_rng(1).random((60, 60))
    assert evaluate(distinct, (y, y), ci=None, ties=ties).mean(None, "map@all") == 1.0


# ------------------------------------------------------------------ invariances

GRID = st.tuples(
    hnp.arrays(np.float32, (5, 9), elements=st.integers(-3, 3).map(np.float32)),
    hnp.arrays(np.int64, (5, 9), elements=st.integers(0, 2)),
    st.permutations(range(9)),
)
INVARIANT = (
    "map@all", "map@4", "map@4:min", "map@r", "p@r", "r@2", "r@4:fraction", "mrr", "meanr",
    "ndcg@4", "tied", "map@all:adjusted",
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(GRID)
def test_order_of_the_gallery_does_not_matter(case) -> None:
    scores, grades, order = case
    if not grades.any():
        grades[0, 0] = 1
    if grades.all():
        grades[0, 0] = 0
    for ties in ("expected", "worst", "best"):
        before = values(scores, grades, INVARIANT, ties=ties)
        after = values(scores[:, order], grades[:, order], INVARIANT, ties=ties)
        np.testing.assert_allclose(after, before, rtol=1e-12, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(GRID)
def test_increasing_transforms_do_not_matter(case) -> None:
    scores, grades, _ = case
    if not grades.any():
        grades[0, 0] = 1
    if grades.all():
        grades[0, 0] = 0
    for ties in ("expected", "stable", "worst", "best"):
        before = values(scores, grades, INVARIANT, ties=ties)
        for other in (np.exp(scores.astype(np.float64)), 3 * scores - 100, scores.astype(np.int16)):
            np.testing.assert_array_equal(values(other, grades, INVARIANT, ties=ties), before)


@settings(max_examples=40, deadline=None)
@given(GRID)
def test_worst_expected_and_best_are_ordered(case) -> None:
    scores, grades, _ = case
    grades[:, 0] = 1
    names = ["map@all", "map@4:all", "map@r", "p@r", "p@3", "r@2", "r@2:fraction", "mrr", "ndcg@4"]
    worst, expected, best = (
        np.array(values(scores, grades, names, ties=t)) for t in ("worst", "expected", "best")
    )
    assert (worst <= expected + 1e-12).all()
    assert (expected <= best + 1e-12).all()
    (tied,) = values(scores, grades > 0, ["tied"])
    binary = [
        np.array(values(scores, grades > 0, names, ties=t)) for t in ("worst", "expected", "best")
    ]
    untied = tied == 0
    np.testing.assert_allclose(binary[0][:, untied], binary[2][:, untied], rtol=1e-12)
    np.testing.assert_allclose(binary[0][:, untied], binary[1][:, untied], rtol=1e-12)
    # The average precision depends on every tie.
    assert (binary[0][0, ~untied] < binary[2][0, ~untied]).all()


def test_backward_is_the_transpose() -> None:
    rng = np.random.default_rng(2)
    scores = rng.integers(-4, 4, (12, 17)).astype(np.float32)
    grades = rng.integers(0, 3, (12, 17))
    for relevance, turned in (
        (grades, grades.T),
        (sp.csr_array(grades), sp.csc_array(grades.T)),
        ((np.arange(12) % 3, np.arange(17) % 3), (np.arange(17) % 3, np.arange(12) % 3)),
    ):
        for ties in ("expected", "stable", "worst", "best"):
            ev = evaluate(scores, relevance, ALL, directions="backward", ties=ties, ci=None)
            for metric, expected in zip(ALL, values(scores.T, turned, ALL, ties=ties)):
                np.testing.assert_array_equal(ev.per_query["backward", metric], expected)


# ------------------------------------------------------------------ forms of input


def test_labels_sparse_and_dense_relevance_agree() -> None:
    rng = np.random.default_rng(6)
    scores = rng.standard_normal((20, 30))
    y, gallery = rng.integers(-1, 4, 20), rng.integers(-1, 4, 30)
    y[0], y[1] = -1, 2
    dense = np.equal.outer(y, gallery) & (y >= 0)[:, None]
    words = np.array(["none", "a", "b", "c", "d"])
    expected = values(scores, dense, ALL)
    np.testing.assert_array_equal(values(scores, (y, gallery), ALL), expected)
    np.testing.assert_array_equal(values(scores, sp.coo_array(dense), ALL), expected)
    kept = y >= 0
    hot = (np.eye(5)[y + 1][:, 1:], np.eye(5)[gallery + 1][:, 1:])
    np.testing.assert_array_equal(values(scores, hot, ALL), expected)
    named = values(scores[kept], (words[y + 1][kept], words[gallery + 1]), ALL)
    np.testing.assert_array_equal(named, np.array(expected)[:, kept])
    assert np.isnan(expected[0][0])


def test_shared_labels_are_the_grade() -> None:
    rng = np.random.default_rng(7)
    a, b = rng.random((10, 5)) < 0.5, rng.random((14, 5)) < 0.5
    scores = rng.standard_normal((10, 14))
    np.testing.assert_allclose(
        values(scores, (a, b), ALL), values(scores, a.astype(int) @ b.T.astype(int), ALL)
    )


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.int32, np.int64, np.float16])
def test_number_types(dtype) -> None:
    rng = np.random.default_rng(8)
    scores = rng.integers(0, 2, (10, 12)).astype(dtype)
    relevance = rng.random((10, 12)) < 0.4
    expected = values(scores.astype(np.float64), relevance, ALL)
    np.testing.assert_array_equal(values(scores, relevance, ALL), expected)


def test_wide_integers_gain_no_ties() -> None:
    scores = np.array([[2**24, 2**24 + 1]], np.int32)
    assert average_precision(scores, [[0, 1]])[0] == 1.0


def test_infinities_and_signed_zeros() -> None:
    relevance = [[0, 1, 0, 0]]
    assert mean_rank([[-np.inf, -np.inf, 0, np.inf]], relevance) == 3.5
    for dtype in (np.float32, np.float64):
        zeros = np.array([[0.0, -0.0, -1, -2]], dtype)
        assert mean_rank(zeros, relevance) == 1.5
        many = np.array([[0.0, -0.0] * 20], dtype)
        flags = np.array([[1, 0] * 20])
        assert average_precision(many, flags)[0] == pytest.approx(
            average_precision(np.zeros((1, 40)), flags)[0]
        )


def test_block_size_iterator_memmap_and_threads_agree(tmp_path, monkeypatch) -> None:
    rng = np.random.default_rng(9)
    scores = np.round(rng.standard_normal((37, 53)), 1).astype(np.float32)
    y, gallery = rng.integers(0, 4, 37), rng.integers(0, 4, 53)
    names = [*ALL, "medr"]
    whole = evaluate(scores, (y, gallery), names)
    np.save(tmp_path / "scores.npy", scores)
    mapped = np.load(tmp_path / "scores.npy", mmap_mode="r")
    for size in (1, 100, 700):
        monkeypatch.setattr(ranking, "_BLOCK_SCORES", size)
        for other in (scores, mapped, scores.tolist()):
            ev = evaluate(other, (y, gallery), names, n_jobs=2)
            for key, value in whole.per_query.items():
                np.testing.assert_array_equal(ev.per_query[key], value)
    blocks = (scores[i : i + 10] for i in range(0, 37, 10))
    ev = evaluate(blocks, (y, gallery), names, directions="forward")
    for name in names:
        np.testing.assert_array_equal(
            ev.per_query["forward", name], whole.per_query["forward", name]
        )


def test_array_likes_of_other_libraries() -> None:
    rng = np.random.default_rng(13)
    scores, relevance = rng.standard_normal((7, 9)).astype(np.float32), rng.random((7, 9)) < 0.5
    relevance[0] = relevance[:, 0] = True
    expected = evaluate(scores, relevance, ci=None).mean(None, "map@all")
    pd = pytest.importorskip("pandas")
    torch = pytest.importorskip("torch")
    for other in (pd.DataFrame(scores), torch.from_numpy(scores)):
        assert evaluate(other, relevance, ci=None).mean(None, "map@all") == expected


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_joblib_context_gives_threads_and_the_same_errors(backend: str) -> None:
    from joblib import parallel_config

    scores, y = np.random.default_rng(14).random((30, 30)), np.arange(30) % 3
    alone = evaluate(scores, (y, y)).rows()
    with parallel_config(backend, n_jobs=2):
        assert evaluate(scores, (y, y)).rows() == alone
        with pytest.raises(ValueError, match="NaN for query 29"):
            evaluate(np.where(np.arange(30) == 29, np.nan, scores.T).T, (y, y))


def test_import_is_light_and_names_resolve() -> None:
    code = (
        "import sys, crossfit.metrics as m; "
        "heavy = {'numpy', 'scipy', 'sklearn', 'torch', 'joblib'} & set(sys.modules); "
        "assert not heavy, heavy; [getattr(m, name) for name in m.__all__]; "
        "assert 'torch' not in sys.modules and set(m.__all__) == set(m._HOMES)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_inputs_are_not_written_to() -> None:
    rng = np.random.default_rng(10)
    scores, grades = rng.standard_normal((6, 20)), rng.integers(0, 3, (6, 20))
    copies = scores.copy(), grades.copy()
    for ties in ("expected", "stable", "worst", "best"):
        evaluate(scores, grades, ALL, ties=ties)
    np.testing.assert_array_equal(scores, copies[0])
    np.testing.assert_array_equal(grades, copies[1])


def test_memory_stays_within_blocks(tmp_path) -> None:
    import tracemalloc

    n, m = 3000, 4000
    mapped = np.lib.format.open_memmap(
        tmp_path / "s.npy", mode="w+", dtype=np.float32, shape=(n, m)
    )
    mapped[:] = np.random.default_rng(0).standard_normal((n, m), dtype=np.float32)
    y, gallery = np.arange(n) % 20, np.arange(m) % 20
    tracemalloc.start()
    evaluate(mapped, (y, gallery), ["map@all", "r@1"], ci=None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.6 * n * m * 4


# ------------------------------------------------------------------ five captions per image


def test_five_captions_per_image() -> None:
    rng = np.random.default_rng(11)
    n = 40
    image = np.repeat(np.arange(n), 5)
    scores = rng.standard_normal((n, 5 * n)).astype(np.float32)
    scores[image, np.arange(5 * n)] += 1.5
    names = ["r@1", "r@5", "r@10", "r@1:twowaynet", "r@5:twowaynet", "medr", "medr:vsepp", "meanr"]
    ev = evaluate(
        scores, (np.arange(n), image), names, names=("image", "text"), groups=(None, image)
    )
    # As vsepp does: ranks from 0, the best of an image's five captions.
    i2t = [min(np.flatnonzero(image[np.argsort(-scores[i])] == i)) for i in range(n)]
    t2i = [int(np.flatnonzero(np.argsort(-scores[:, j]) == image[j])[0]) for j in range(5 * n)]
    for direction, ranks in (("image2text", np.array(i2t)), ("text2image", np.array(t2i))):
        for k in (1, 5, 10):
            assert ev.mean(direction, f"r@{k}") == pytest.approx((ranks < k).mean())
        # As the code of 2WayNet does.
        for k in (1, 5):
            assert ev.mean(direction, f"r@{k}:twowaynet") == pytest.approx((ranks <= k).mean())
        assert ev.mean(direction, "medr:vsepp") == np.floor(np.median(ranks)) + 1
        assert ev.mean(direction, "meanr") == pytest.approx(ranks.mean() + 1)
        assert len(ev.per_query[direction, "r@1"]) == len(ranks)
    total = sum((np.array(r) < k).mean() for r in (i2t, t2i) for k in (1, 5, 10))
    assert rsum(ev) == pytest.approx(100 * total)
    assert ev.mean("t2i", "R@5") == ev.mean("backward", "r@5:any") == ev.mean("text2image", "r@5")


def test_the_protocol_of_2waynet_is_recall_at_the_next_rank_and_never_recall() -> None:
    rng = np.random.default_rng(5)
    n = 200
    scores = np.round(rng.standard_normal((n, n)) + 2 * np.eye(n), 1)  # with ties
    own = np.arange(n)
    protocol, recall = "r@1:twowaynet", "r@2"
    for ties in ("expected", "stable", "worst", "best"):
        ev = evaluate(scores, (own, own), [protocol, recall, "r@1"], ties=ties)
        for direction in ev.directions:
            found = ev.per_query[direction, protocol]
            np.testing.assert_array_equal(found, ev.per_query[direction, recall])
            assert ev.mean(direction, protocol) > ev.mean(direction, "r@1") + 0.02
    assert chance_level((own, own), protocol).mean(None, protocol) == pytest.approx(2 / n)
    assert parse_metric("R@1:TwoWayNet").name == protocol != parse_metric("r@1").name
    assert "do not compare it with R@1" in parse_metric(protocol).protocol
    assert not parse_metric("r@1").protocol
    # Neither takes the place of the other.
    six = [f"r@{k}:twowaynet" for k in (1, 5, 10)]
    with pytest.raises(ValueError, match="must have r@1, r@5 and r@10"):
        rsum(evaluate(scores, (own, own), six, ci=None))
    with pytest.raises(KeyError, match="r@1 was not evaluated"):
        evaluate(scores, (own, own), six, ci=None).mean("forward", "r@1")


# ------------------------------------------------------------------ the record and the refusals


def test_evaluation_is_a_readable_immutable_record() -> None:
    rng = np.random.default_rng(12)
    y = rng.integers(0, 3, 30)
    y[:2] = -1
    with pytest.warns(UserWarning, match=r"2 of 30 queries of image2text and 2 of 30") as caught:
        ev = evaluate(rng.random((30, 30)), (y, y), ["mAP@50", "medr"], names=("image", "text"))
    assert len(caught) == 1
    assert ev.metrics == ("map@50:hits", "medr")
    assert list(ev.per_query) == [(d, m) for d in ev.directions for m in ev.metrics]
    with pytest.raises(ValueError):
        ev.per_query["image2text", "medr"][0] = 1
    with pytest.raises(AttributeError):
        ev.ties = "worst"
    for row in ev.rows():
        assert row["n_queries"] == 28 and row["n_excluded"] == 2
        assert row["low"] <= row["value"] <= row["high"]
        assert f"{row['value']:.4f}" in repr(ev)
    mean = np.mean([ev.mean(d, "map@50") for d in ev.directions])
    assert ev.mean(None, "map@50:hits") == pytest.approx(mean)
    again = pickle.loads(pickle.dumps(ev))
    assert again.rows() == ev.rows()
    with pytest.raises(KeyError, match="map@all was not evaluated"):
        ev.mean("i2t", "map@all")
    with pytest.raises(
        KeyError, match="direction: 'audio2text' is unknown; use one of image2text, text2image"
    ):
        ev.mean("audio2text", "medr")
    pd = pytest.importorskip("pandas")
    assert isinstance(ev.to_frame(), pd.DataFrame) and len(ev.to_frame()) == 4


def test_intervals_repeat_and_need_ci() -> None:
    scores, y = np.random.default_rng(0).random((20, 20)), np.arange(20) % 4
    a, b = (evaluate(scores, (y, y), random_state=3) for _ in range(2))
    assert a.interval("forward", "map@all") == b.interval("forward", "map@all")
    assert a.interval("q2g", "map@all") != evaluate(scores, (y, y), random_state=4).interval(
        "q2g", "map@all"
    )
    state = str(np.random.get_state())  # noqa: NPY002
    evaluate(scores, (y, y), random_state=None).rows()
    paired_test(scores[0], scores[1], random_state=None)
    assert str(np.random.get_state()) == state  # noqa: NPY002
    with pytest.raises(ValueError, match="ci=None"):
        evaluate(scores, (y, y), ci=None).interval("forward", "map@all")


def test_precision_divides_by_k() -> None:
    assert precision_at_k([[3.0, 2.0, 1.0]], [[1, 1, 0]], 10) == pytest.approx(0.2)


GOOD = np.arange(6.0).reshape(2, 3)
LABELS = ([0, 1], [0, 1, 1])


@pytest.mark.parametrize(
    ("scores", "relevance", "options", "message"),
    [
        ([[0.0, np.nan, 1.0], [0.0, 1.0, 2.0]], LABELS, {}, "must not be NaN, got NaN for query 0"),
        (np.empty((0, 3)), LABELS, {}, "non-empty"),
        (np.zeros(3), LABELS, {}, r"\(n, m\) matrix, got shape \(3,\)"),
        (GOOD.T, LABELS, {}, r"scores have shape \(3, 2\) but relevance has shape \(2, 3\)"),
        (GOOD, np.empty((0, 0)), {}, "non-empty"),
        (GOOD, -np.ones((2, 3)), {}, "grades >= 0"),
        (GOOD, np.full((2, 3), np.nan), {}, "grades >= 0"),
        (GOOD, ([0, 1], []), {}, "labels must not be empty"),
        (GOOD, ([0, np.nan], [0, 1, 1]), {}, r"labels must be finite, got NaN.*1 of 2 rows \(1\)"),
        (GOOD, (np.eye(2), np.eye(3)), {}, "same number of columns"),
        (GOOD, (np.eye(2), [0, 1, 1]), {}, "both be 1-D or both"),
        (GOOD, (2 * np.eye(2), np.ones((3, 2))), {}, "with only 0 and 1"),
        (GOOD, ([0, 1],), {}, "pair"),
        (GOOD, ([5, 6], [0, 1, 1]), {}, "no query of query2gallery has a relevant item"),
        (GOOD, LABELS, {"ties": "last"}, "expected, stable, worst, best"),
        (GOOD, LABELS, {"directions": "i2t"}, "both, forward or backward"),
        (GOOD, LABELS, {"names": ("a", "a")}, "two different strings"),
        (GOOD, LABELS, {"ci": 95}, "between 0 and 1"),
        (GOOD, LABELS, {"groups": ([0, 1, 2], None)}, "one entry per query, that is shape"),
        (GOOD, LABELS, {"groups": [0]}, "pair"),
        (GOOD, LABELS, {"metrics": ()}, "metrics is empty"),
        (iter([GOOD]), LABELS, {}, "read once"),
        (iter([GOOD[:1]]), LABELS, {"directions": "forward"}, "2 rows in all, got 1"),
        (iter([GOOD, GOOD]), LABELS, {"directions": "forward"}, "2 rows in all"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(scores, relevance, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(scores, relevance, **options)


@pytest.mark.parametrize(
    ("scores", "relevance"),
    [
        (sp.csr_array(GOOD), LABELS),
        (GOOD.astype(complex), LABELS),
        (GOOD.astype(str), LABELS),
        (GOOD, ([0, 1], ["a", "b", "c"])),
        (GOOD, [["a", "b", "c"]] * 2),
    ],
)
def test_wrong_types_are_refused(scores, relevance) -> None:
    with pytest.raises(TypeError):
        evaluate(scores, relevance)


def test_a_model_or_views_in_place_of_scores_are_named() -> None:
    from crossfit import Views
    from crossfit.methods import CCA
    from crossfit.metrics import mean_average_precision

    views = Views(image=GOOD, text=GOOD)
    for call in (
        lambda: evaluate(CCA(), views, [0, 1]),
        lambda: evaluate(views, [0, 1]),
        lambda: mean_average_precision(CCA(), [0, 1], [0, 1]),
    ):
        with pytest.raises(TypeError, match=r"got (CCA|Views); pass crossfit\.similarity\("):
            call()


@pytest.mark.parametrize(
    ("given", "canonical"),
    [
        ("mAP@ALL", "map@all"), ("map@50", "map@50:hits"), ("map@50:ALL", "map@50:all"),
        ("R@5", "r@5"), ("r@5:any", "r@5"), ("r@5:fraction", "r@5:fraction"), ("MedR", "medr"),
        ("r@5:twowaynet", "r@5:twowaynet"), ("medr:vsepp", "medr:vsepp"), ("nDCG@10", "ndcg@10"),
        ("ndcg@all", "ndcg@all"), ("P@3", "p@3"), ("MRR", "mrr"), ("meanr", "meanr"),
        ("mAP@R", "map@r"), ("P@R", "p@r"), ("map@50:adjusted", "map@50:hits:adjusted"),
        ("R@5:Adjusted", "r@5:adjusted"),
    ],
)  # fmt: skip
def test_names(given: str, canonical: str) -> None:
    assert parse_metric(given).name == canonical
    assert parse_metric(canonical) == parse_metric(given)
    rank = given.lower().startswith(("medr", "meanr"))
    assert parse_metric(given).greater_is_better is not rank


@pytest.mark.parametrize(
    "name",
    ["", "map", "map@", "map@0", "map@-1", "map@5:best", "map@all:hits", "r@all", "r", "mrr@5",
     "medr:foo", "ndcg", "p", "p@5:any", "auc", "r@5:", "r@r", "ndcg@r", "map@r:hits", "tied@5",
     "adjusted", ":adjusted", "map:adjusted", "r@5:adjusted:adjusted"],
)  # fmt: skip
def test_unknown_names_list_what_exists(name: str) -> None:
    with pytest.raises(ValueError, match=r"expected one of map@all, map@K:hits"):
        parse_metric(name)


def test_a_name_that_is_no_string() -> None:
    with pytest.raises(TypeError, match="metric must be a string"):
        parse_metric(5)
