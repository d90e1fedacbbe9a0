"""Intervals cover, tests keep their level, Holm agrees with statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from crossfit.metrics import bootstrap_interval, compare, evaluate, holm, intervals, paired_test


def test_interval_covers_the_mean() -> None:
    rng = np.random.default_rng(0)
    trials = 300
    hits = 0
    for trial in range(trials):
        values = rng.beta(0.5, 1.5, 150)
        low, high = bootstrap_interval(values, n_resamples=300, random_state=trial)
        hits += low <= 0.25 <= high
    # Three standard errors of a proportion near .95, and a margin for the percentile method.
    assert 0.90 < hits / trials < 0.99


def test_grouped_interval_covers_where_the_plain_one_does_not() -> None:
    rng = np.random.default_rng(1)
    trials = 200
    covered = {"grouped": 0, "plain": 0}
    groups = np.repeat(np.arange(80), 5)
    for trial in range(trials):
        values = np.repeat(rng.standard_normal(80), 5) + 0.1 * rng.standard_normal(400)
        for name, group in (("grouped", groups), ("plain", None)):
            low, high = bootstrap_interval(
                values, groups=group, n_resamples=200, random_state=trial
            )
            covered[name] += low <= 0.0 <= high
    assert covered["grouped"] / trials > 0.88
    assert covered["plain"] / trials < 0.75


@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_bootstrap_against_the_laid_out_sample(
    statistic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(2)
    values = 8 * rng.random(24)
    values[3] = np.nan
    groups = np.arange(24) // 3
    got = bootstrap_interval(values, statistic=statistic, groups=groups, n_resamples=200)
    drawn = np.random.RandomState(0).randint(0, 8, size=(200, 8))
    function = getattr(np, "nan" + statistic)
    means = [function(np.concatenate([values[groups == g] for g in row])) for row in drawn]
    np.testing.assert_allclose(got, np.quantile(means, [0.025, 0.975]))
    monkeypatch.setattr(intervals, "_CHUNK", 50)
    chunked = bootstrap_interval(values, statistic=statistic, groups=groups, n_resamples=200)
    np.testing.assert_allclose(chunked, got)


def test_interval_against_scipy() -> None:
    values = np.random.default_rng(3).gamma(2.0, size=120)
    for statistic in ("mean", "median"):
        got = bootstrap_interval(values, statistic=statistic, n_resamples=4000)
        theirs = stats.bootstrap(
            (values,), getattr(np, statistic), n_resamples=4000, method="percentile",
            rng=np.random.default_rng(0),
        ).confidence_interval  # fmt: skip
        np.testing.assert_allclose(got, theirs, rtol=0.03)


@pytest.mark.parametrize("method", ["randomization", "bootstrap"])
@pytest.mark.parametrize("grouped", [False, True])
def test_level_under_equal_methods_and_power_under_different_ones(
    method: str, grouped: bool
) -> None:
    rng = np.random.default_rng(4)
    trials = 300
    groups = np.repeat(np.arange(50), 2) if grouped else None
    false, found = 0, 0
    for trial in range(trials):
        noise = rng.standard_normal((2, 100))
        if grouped:
            noise = np.repeat(rng.standard_normal((2, 50)), 2, axis=1)
        a, b = rng.random(100) + 0.3 * noise
        options = {"method": method, "groups": groups, "n_resamples": 200, "random_state": trial}
        false += paired_test(a, b, **options).p_value <= 0.05
        found += paired_test(a + 0.3, b, **options).p_value <= 0.05
    assert 0.01 < false / trials < 0.10
    assert found / trials > 0.9


def test_ignoring_groups_breaks_the_level() -> None:
    rng = np.random.default_rng(5)
    groups = np.repeat(np.arange(30), 5)
    rejected = {True: 0, False: 0}
    for trial in range(150):
        a, b = np.repeat(rng.standard_normal((2, 30)), 5, axis=1)
        for kept in rejected:
            test = paired_test(
                a, b, groups=groups if kept else None, n_resamples=200, random_state=trial
            )
            rejected[kept] += test.p_value <= 0.05
    assert rejected[False] > 40 > 20 > rejected[True]


def test_randomization_against_scipy() -> None:
    rng = np.random.default_rng(6)
    a, b = rng.random((2, 12))
    exact = stats.permutation_test(
        (a, b), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=np.inf
    )
    got = paired_test(a, b, n_resamples=20_000)
    assert got.p_value == pytest.approx(exact.pvalue, abs=0.015)
    assert got.difference == pytest.approx((a - b).mean())
    assert got.low < got.difference < got.high


def test_chunks_do_not_change_the_randomization(monkeypatch: pytest.MonkeyPatch) -> None:
    from crossfit.metrics import significance

    a, b = np.random.default_rng(7).random((2, 40))
    whole = paired_test(a, b + 0.05, n_resamples=2000)
    monkeypatch.setattr(significance, "_CHUNK", 320)
    assert paired_test(a, b + 0.05, n_resamples=2000).p_value == pytest.approx(
        whole.p_value, abs=0.03
    )


def test_equal_values_and_missing_ones() -> None:
    a = np.array([0.1, np.nan, 0.5, 0.3])
    same = paired_test(a, a)
    assert (same.difference, same.p_value, same.n) == (0.0, 1.0, 3)
    b = np.array([np.nan, 0.2, 0.4, 0.1])
    assert paired_test(a, b).n == 2
    assert paired_test(a, b).difference == pytest.approx(0.15)
    with pytest.raises(ValueError, match="no query in common"):
        paired_test([1.0, np.nan], [np.nan, 1.0])


def test_holm_against_statsmodels() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    rng = np.random.default_rng(8)
    for size in (1, 2, 7, 30):
        p = np.round(rng.random(size) ** 3, 2)
        np.testing.assert_allclose(holm(p), multitest.multipletests(p, method="holm")[1])
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([0.5, 1.5])


def _evaluations():
    rng = np.random.default_rng(9)
    y = np.arange(90) % 5
    relevance = np.equal.outer(y, y)
    return {
        name: evaluate(
            relevance * strength + rng.standard_normal((90, 90)), (y, y), ["r@1", "medr"]
        )
        for name, strength in (("weak", 0.1), ("weak too", 0.1), ("strong", 2.0))
    }


@pytest.mark.parametrize("pairs", [("a", "b"), [("a", "b", "c")], [3]])
def test_pairs_are_pairs_of_names(pairs) -> None:
    evaluations = {name: evaluate(np.eye(4), (range(4), range(4)), "r@1") for name in "ab"}
    with pytest.raises(ValueError, match="pairs must be pairs of two names, got"):
        compare(evaluations, "r@1", "forward", pairs=pairs)


def test_compare_all_pairs_and_against_a_baseline() -> None:
    evaluations = _evaluations()
    pairs = compare(evaluations, "r@1", "forward", n_resamples=1000)
    assert [(c.first, c.second) for c in pairs] == [
        ("weak", "weak too"), ("weak", "strong"), ("weak too", "strong")
    ]  # fmt: skip
    np.testing.assert_allclose([c.p_adjusted for c in pairs], holm([c.p_value for c in pairs]))
    assert pairs[0].p_adjusted > 0.05 > pairs[1].p_adjusted
    assert pairs[1].high < 0
    against = compare(evaluations, "R@1", "q2g", baseline="weak", n_resamples=1000)
    assert [(c.first, c.second) for c in against] == [("weak too", "weak"), ("strong", "weak")]
    assert against[1].difference == pytest.approx(-pairs[1].difference)
    with pytest.raises(ValueError, match="use meanr"):
        compare(evaluations, "medr", "forward")
    with pytest.raises(ValueError, match="was not evaluated; use one of weak, weak too, strong"):
        compare(evaluations, "r@1", "forward", baseline="cca")
    with pytest.raises(ValueError, match="at least two"):
        compare({"weak": evaluations["weak"]}, "r@1", "forward")
    other = evaluate(np.eye(3), ([0, 1, 2], [0, 1, 2]), "r@1")
    with pytest.raises(ValueError, match="other and weak were not evaluated on the same"):
        compare({"weak": evaluations["weak"], "other": other}, "r@1", "forward")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "t"}, "randomization or bootstrap"),
        ({"ci": 2.0}, "between 0 and 1"),
        ({"n_resamples": 0}, "positive integer"),
        ({"groups": [0]}, "one entry per query"),
    ],
)
def test_bad_options_are_refused(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        paired_test([1.0, 2.0], [2.0, 1.0], **options)
    with pytest.raises(ValueError, match="same queries"):
        paired_test([1.0], [2.0, 1.0])
    with pytest.raises(ValueError, match="'mean' or 'median'"):
        bootstrap_interval([1.0], statistic="mode")
    with pytest.raises(ValueError, match="not NaN"):
        bootstrap_interval([np.nan])


def test_median_intervals_of_an_evaluation() -> None:
    ev = _evaluations()["weak"]
    low, high = ev.interval("forward", "medr")
    ranks = ev.per_query["forward", "medr"]
    assert (low, high) == bootstrap_interval(ranks, statistic="median", random_state=0)
    assert low <= np.median(ranks) <= high
