"""Seeds, queries and families of tests: coverage and error rates on simulated methods."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from crossfit.metrics import (
    Comparison,
    Direction,
    Evaluation,
    Repeats,
    bootstrap_interval,
    compare,
    evaluate,
    paired_test,
    rank_ranges,
)
from crossfit.metrics.evaluation import PerQuery

DIRECTIONS = Direction.between(("image", "text"))
N_GROUPS = 40
# Images with several captions: the directions have different numbers of queries per group.
GROUPS = {
    DIRECTIONS[0]: np.arange(N_GROUPS),
    DIRECTIONS[1]: np.repeat(np.arange(N_GROUPS), 1 + np.arange(N_GROUPS) % 4),
}


def evaluation(values, metric="mrr", groups=GROUPS) -> Evaluation:
    """Return an evaluation with the given values by direction."""
    per_query = PerQuery({(d, metric): np.asarray(v, float) for d, v in values.items()})
    return Evaluation(per_query, tuple(values), (metric,), groups=groups)


def simulated(rng, n_methods, shift=0.0):
    """Return values of equal methods; a group has its own difficulty and effect on each method.

    Because of this effect, queries of one group agree on the better method, so that a test
    that takes them as independent would find differences that do not exist.
    """
    hard = rng.standard_normal(N_GROUPS)
    found = {}
    for i in range(n_methods):
        liking = 0.7 * rng.standard_normal(N_GROUPS)
        found[f"m{i}"] = evaluation(
            {
                d: (hard + liking)[codes] + 0.3 * rng.standard_normal(len(codes))
                + (shift if i == 0 else 0.0)
                for d, codes in GROUPS.items()
            }
        )  # fmt: skip
    return found


# ---------------------------------------------------------------- error rates


@pytest.mark.parametrize("direction", [None, "text2image"])
def test_any_false_difference_among_equal_methods_is_as_rare_as_the_level(direction) -> None:
    rng = np.random.default_rng(0)
    trials, wrong = 400, 0
    for trial in range(trials):
        tests = compare(simulated(rng, 4), "mrr", direction, n_resamples=600, random_state=trial)
        wrong += min(test.p_adjusted for test in tests) <= 0.05
    # Holm keeps the rate at or below .05; a rate above .05 must not be shown by the trials, and
    # one far below it would mean that the test is blind.
    assert stats.binomtest(wrong, trials, 0.05, alternative="greater").pvalue > 0.001
    assert wrong / trials > 0.01


def test_without_groups_the_same_methods_would_be_told_apart() -> None:
    rng = np.random.default_rng(1)
    wrong = 0
    for trial in range(100):
        ungrouped = {
            name: evaluation({DIRECTIONS[1]: ev.per_query["text2image", "mrr"]}, groups={})
            for name, ev in simulated(rng, 4).items()
        }
        tests = compare(ungrouped, "mrr", "text2image", n_resamples=600, random_state=trial)
        wrong += min(test.p_adjusted for test in tests) <= 0.05
    assert wrong / 100 > 0.15


def test_the_rate_holds_beside_a_method_that_differs() -> None:
    """Strong control: a real difference does not raise the error rate of the equal methods."""
    rng = np.random.default_rng(2)
    trials, wrong, found = 300, 0, 0
    for trial in range(trials):
        tests = compare(simulated(rng, 4, 1.5), "mrr", None, n_resamples=600, random_state=trial)
        among = [t.p_adjusted for t in tests if "m0" not in (t.first, t.second)]
        wrong += min(among) <= 0.05
        found += max(t.p_adjusted for t in tests if "m0" in (t.first, t.second)) <= 0.05
    assert stats.binomtest(wrong, trials, 0.05, alternative="greater").pvalue > 0.001
    assert found / trials > 0.95


@pytest.mark.parametrize("direction", [None, "image2text", "text2image"])
def test_intervals_over_seeds_cover_the_mean(direction) -> None:
    """Intervals cover the mean over these seeds, for a sample of queries in groups."""
    rng = np.random.default_rng(3)
    trials, covered = 400, 0
    for _ in range(trials):
        hard = rng.standard_normal(N_GROUPS)
        seeds = []
        for effect in (-0.2, 0.1, 0.4):
            seeds.append(
                evaluation(
                    {d: effect + hard[codes] + 0.5 * rng.standard_normal(len(codes))
                     for d, codes in GROUPS.items()}
                )
            )  # fmt: skip
        low, high = Repeats(seeds).interval(direction, "mrr")
        covered += low <= 0.1 <= high
    # The percentile bootstrap of 40 groups is a little narrow.
    assert stats.binomtest(covered, trials, 0.94).pvalue > 0.001, covered / trials


# ---------------------------------------------------------------- against simpler code


def test_the_mean_over_directions_is_tested_by_exchanging_whole_groups() -> None:
    """The p-value is that of all exchanges of a few groups."""
    rng = np.random.default_rng(4)
    groups = {DIRECTIONS[0]: np.arange(8), DIRECTIONS[1]: np.repeat(np.arange(8), 2)}
    a, b = (
        {d: rng.random(len(codes)) + shift for d, codes in groups.items()} for shift in (0, 0.25)
    )
    parts = np.zeros(8)
    for d, codes in groups.items():
        np.add.at(parts, codes, (a[d] - b[d]) / len(codes) / 2)
    signs = 2 * ((np.arange(256)[:, None] >> np.arange(8)) & 1) - 1
    exact = (np.abs(signs @ parts) >= abs(parts.sum()) - 1e-12).mean()
    (test,) = compare(
        {"a": evaluation(a, groups=groups), "b": evaluation(b, groups=groups)},
        "mrr", None, n_resamples=20_000,
    )  # fmt: skip
    assert test.difference == pytest.approx(parts.sum())
    assert test.p_value == pytest.approx(exact, abs=0.01)
    assert test.n == 24


def test_pairs_tested_together_are_tested_as_one_by_one() -> None:
    rng = np.random.default_rng(5)
    found = simulated(rng, 3)
    codes = GROUPS["text2image"]
    together = compare(found, "mrr", "text2image", n_resamples=500)
    for test, (first, second) in zip(together, combinations(found, 2), strict=True):
        alone = paired_test(
            found[first].per_query["text2image", "mrr"],
            found[second].per_query["text2image", "mrr"],
            groups=codes, n_resamples=500,
        )  # fmt: skip
        assert (test.difference, test.p_value) == (pytest.approx(alone.difference), alone.p_value)
        assert (test.low, test.high) == pytest.approx((alone.low, alone.high))


def test_one_seed_has_the_interval_of_the_evaluation_and_several_that_of_their_average() -> None:
    rng = np.random.default_rng(6)
    evaluations = [
        evaluate(
            2 * np.eye(30) + rng.standard_normal((30, 30)), np.eye(30), ["r@1", "medr", "mrr"],
            groups=(np.arange(30) // 2, np.arange(30) // 2), names=("image", "text"),
        )
        for _ in range(3)
    ]  # fmt: skip
    one, three = Repeats(evaluations[:1]), Repeats(evaluations)
    for metric in ("r@1", "medr", "mrr"):
        for direction in DIRECTIONS:
            assert one.interval(direction, metric) == pytest.approx(
                evaluations[0].interval(direction, metric)
            )
            assert one.mean(direction, metric) == evaluations[0].mean(direction, metric)
            assert three.mean(direction, metric) == pytest.approx(
                np.mean([ev.mean(direction, metric) for ev in evaluations])
            )
            assert three.spread(direction, metric) == pytest.approx(
                np.std([ev.mean(direction, metric) for ev in evaluations], ddof=1)
            )
    assert np.isnan(one.spread(None, "mrr"))
    assert one.averaged is evaluations[0]
    values = np.mean([ev.per_query["image2text", "mrr"] for ev in evaluations], axis=0)
    np.testing.assert_allclose(three.averaged.per_query["image2text", "mrr"], values)
    assert three.interval("image2text", "mrr") == pytest.approx(
        bootstrap_interval(values, groups=np.arange(30) // 2)
    )


def test_directions_without_common_groups_have_no_common_interval_and_no_common_test() -> None:
    rng = np.random.default_rng(7)
    plain = [
        evaluate(np.eye(9) + rng.random((9, 9)), np.eye(9), "mrr", names=("image", "text"))
        for _ in range(2)
    ]
    assert np.isnan(Repeats(plain[:1]).interval(None, "mrr")).all()
    with pytest.raises(ValueError, match=r"evaluate with groups="):
        compare(dict(zip("ab", plain, strict=True)), "mrr", None)
    other = {DIRECTIONS[0]: np.arange(4), DIRECTIONS[1]: np.arange(4) + 4}
    apart = evaluation({d: rng.random(4) for d in other}, groups=other)
    assert np.isnan(Repeats([apart]).interval(None, "mrr")).all()
    assert np.isfinite(Repeats([apart]).interval("image2text", "mrr")).all()


def test_queries_without_a_relevant_item_are_left_out() -> None:
    values = {d: np.linspace(0, 1, len(codes)) for d, codes in GROUPS.items()}
    values["image2text"][3] = np.nan
    one = evaluation(values)
    assert np.isfinite(Repeats([one]).interval("image2text", "mrr")).all()
    # Group 3 is missing on one side only: the sides are no longer samples of the same groups.
    assert np.isnan(Repeats([one]).interval(None, "mrr")).all()
    shifted = evaluation({d: v + 0.01 for d, v in values.items()})
    (test,) = compare({"a": one, "b": shifted}, "mrr", None, n_resamples=200)
    assert test.difference == pytest.approx(-0.01)
    assert test.n == len(GROUPS["text2image"]) + N_GROUPS - 1


def test_each_metric_has_the_interval_of_its_own_queries() -> None:
    """Two thirds have no label, so no precision; measures by pair use all of them."""
    rng = np.random.default_rng(8)
    hit = (rng.random(60) < 0.6).astype(float)
    precision = np.where(np.arange(60) % 3, np.nan, rng.random(60))
    hit[::3] = 1.0
    groups = dict.fromkeys(DIRECTIONS, np.arange(60) // 2)
    metrics = {"map@all": precision, "r@5": hit, "medr": 2 - hit}
    for order in (list(metrics), list(metrics)[::-1]):
        values = {(d, name): metrics[name] for d in DIRECTIONS for name in order}
        ev = Evaluation(PerQuery(values), DIRECTIONS, tuple(order), groups=groups)
        for name in order:
            found = Repeats([ev, ev]).interval("text2image", name)
            assert found == pytest.approx(ev.interval("text2image", name))
            low, high = found
            assert low <= ev.mean("text2image", name) <= high
            # Both directions are the same here, and so is their mean under the same resamples.
            assert Repeats([ev]).interval(None, name) == pytest.approx(found)
            if name != "medr":
                assert found == pytest.approx(
                    bootstrap_interval(metrics[name], groups=np.arange(60) // 2)
                )
        assert ev.interval("image2text", "r@5")[0] < 0.9


def test_seeds_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one evaluation, got none"):
        Repeats([])
    one = evaluation({d: np.ones(len(c)) for d, c in GROUPS.items()})
    other = evaluation({d: np.ones(len(c)) for d, c in GROUPS.items()}, "map@all")
    short = evaluation({d: np.ones(3) for d in GROUPS}, groups={})
    for wrong in (other, short):
        with pytest.raises(ValueError, match="same metrics and queries"):
            Repeats([one, wrong])


# ---------------------------------------------------------------- ranks


def _tests(*decided, names="abcd"):
    return [
        Comparison(
            1.0 if (first, second) in decided else -1.0, 0, 0, 0, 9, first, second,
            0.01 if {(first, second), (second, first)} & set(decided) else 0.9,
        )
        for first, second in combinations(names, 2)
    ]  # fmt: skip


def test_ranks_are_ranges_where_the_tests_leave_them_open() -> None:
    means = {"a": 0.1, "b": 0.4, "c": 0.3, "d": 0.2}
    assert rank_ranges(means, []) == {"b": (1, 4), "c": (1, 4), "d": (1, 4), "a": (1, 4)}
    # b beats a and d; c beats a.
    ranks = rank_ranges(means, _tests(("b", "a"), ("b", "d"), ("c", "a")))
    assert ranks == {"b": (1, 2), "c": (1, 3), "d": (2, 4), "a": (3, 4)}
    assert list(ranks) == ["b", "c", "d", "a"]


def test_lower_is_better_where_ranks_are_measured() -> None:
    means = {"a": 10.0, "b": 20.0}
    (test,) = _tests(("b", "a"), names="ab")
    test = Comparison(-10.0, 0, 0, 0, 9, "a", "b", 0.01)
    assert rank_ranges(means, [test], greater_is_better=False) == {"a": (1, 1), "b": (2, 2)}
    assert rank_ranges(means, [test]) == {"b": (1, 1), "a": (2, 2)}


def test_a_difference_at_the_level_counts() -> None:
    test = Comparison(1.0, 0, 0, 0, 9, "a", "b", 0.05)
    assert rank_ranges({"a": 2.0, "b": 1.0}, [test])["b"] == (2, 2)
    assert rank_ranges({"a": 2.0, "b": 1.0}, [test], level=0.01)["b"] == (1, 2)
