"""Curves for reports and VOC's average precision."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve

from crossfit.metrics import (
    chance_level,
    interpolated_precision_recall,
    recall_at_k,
    recall_at_k_curve,
    voc_average_precision,
    voc_mean_average_precision,
)

RANKED = np.array([0, 1, 0, 0, 1, 1, 0, 0, 1, 0])


@pytest.mark.parametrize(
    ("interpolation", "value"), [("11", 0.4848), ("all", 0.4861), ("none", 0.4611)]
)
def test_voc_worked_example(interpolation: str, value: float) -> None:
    scores = np.arange(10, 0, -1.0)
    got = voc_average_precision(RANKED, scores, interpolation=interpolation)
    assert got == pytest.approx(value, abs=5e-5)
    order = np.random.default_rng(0).permutation(10)
    again = voc_average_precision(RANKED[order], scores[order], interpolation=interpolation)
    assert again == pytest.approx(got)


def voc_eval(truth: np.ndarray, score: np.ndarray, eleven: bool) -> float:
    """Compute AP as the development kit does, with exact fractions for the recalls."""
    order = np.argsort(-score)
    hits = np.cumsum(truth[order])
    precision = hits / np.arange(1, len(truth) + 1)
    if eleven:
        tops = [precision[hits * 10 >= i * truth.sum()] for i in range(11)]
        return float(np.mean([top.max() for top in tops]))
    recall = np.concatenate([[0], hits / truth.sum(), [1]])
    envelope = np.concatenate([[0], precision, [0]])
    for i in range(len(envelope) - 2, -1, -1):
        envelope[i] = max(envelope[i], envelope[i + 1])
    change = np.flatnonzero(recall[1:] != recall[:-1]) + 1
    return float(((recall[change] - recall[change - 1]) * envelope[change]).sum())


@pytest.mark.parametrize("n_positive", [1, 3, 7, 10, 29])
def test_voc_against_the_loop(n_positive: int) -> None:
    rng = np.random.default_rng(n_positive)
    truth = np.zeros(40, int)
    truth[rng.choice(40, n_positive, replace=False)] = 1
    score = rng.standard_normal(40)
    assert voc_average_precision(truth, score, interpolation="11") == pytest.approx(
        voc_eval(truth, score, True)
    )
    assert voc_average_precision(truth, score) == pytest.approx(voc_eval(truth, score, False))
    assert voc_average_precision(truth, score, interpolation="none") == pytest.approx(
        average_precision_score(truth, score)
    )


def test_voc_difficult_images_and_classes() -> None:
    scores = np.arange(10, 0, -1.0)
    difficult = np.zeros(10, bool)
    difficult[0] = True
    ignored = voc_average_precision(RANKED, scores, ignore=difficult)
    assert ignored == pytest.approx(voc_average_precision(RANKED[1:], scores[1:]))
    assert ignored > voc_average_precision(RANKED, scores)
    truth = np.stack([RANKED, RANKED[::-1], np.zeros(10)], axis=1)
    table = np.tile(scores[:, None], 3)
    with pytest.warns(UserWarning, match="1 of 3 classes"):
        mean = voc_mean_average_precision(truth, table)
    assert mean == pytest.approx(np.mean([voc_average_precision(t, scores) for t in truth.T[:2]]))
    signed = np.where(truth > 0, 1, -1)[:, :2]
    assert voc_mean_average_precision(signed, table[:, :2]) == pytest.approx(mean)


def test_voc_refusals() -> None:
    with pytest.raises(ValueError, match="'all', '11' or 'none'"):
        voc_average_precision(RANKED, RANKED, interpolation="10")
    with pytest.raises(ValueError, match="the same length"):
        voc_average_precision(RANKED, [1.0])
    with pytest.raises(ValueError, match="NaN"):
        voc_average_precision([1], [np.nan])
    with pytest.raises(ValueError, match="ignore must have shape"):
        voc_average_precision(RANKED, RANKED, ignore=[True])
    with pytest.raises(ValueError, match=r"both be \(n, c\)"):
        voc_mean_average_precision(RANKED, RANKED)
    with pytest.raises(ValueError, match="no class has a positive"):
        voc_mean_average_precision(np.zeros((3, 2)), np.zeros((3, 2)))


@pytest.mark.parametrize("n_points", [11, 101])
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_interpolated_curve_against_scikit_learn(n_points: int, direction: str) -> None:
    rng = np.random.default_rng(1)
    scores = np.round(rng.standard_normal((15, 60)), 1)
    relevance = rng.random((15, 60)) < 0.3
    relevance[:, 0] = relevance[0] = True
    recall, got = interpolated_precision_recall(
        scores, relevance, n_points=n_points, direction=direction
    )
    rows = (scores, relevance) if direction == "forward" else (scores.T, relevance.T)
    expected = []
    for s, truth in zip(*rows):
        precision, reached, _ = precision_recall_curve(truth, s)
        precision, reached = precision[:-1], reached[:-1]
        expected.append([precision[reached >= r - 1e-9].max() for r in recall])
    np.testing.assert_allclose(got, np.mean(expected, axis=0))
    np.testing.assert_allclose(recall, np.linspace(0, 1, n_points))


def test_interpolated_curve_of_constant_and_perfect_scores() -> None:
    y = np.arange(40) % 4
    _, flat = interpolated_precision_recall(np.zeros((40, 40)), (y, y))
    np.testing.assert_allclose(flat, 0.25)
    _, perfect = interpolated_precision_recall(np.equal.outer(y, y), (y, y))
    np.testing.assert_array_equal(perfect, 1.0)
    with pytest.raises(ValueError, match="no query"):
        interpolated_precision_recall(np.ones((2, 2)), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="n_points"):
        interpolated_precision_recall(np.ones((2, 2)), np.ones((2, 2)), n_points=1)
    with pytest.raises(ValueError, match="forward or backward"):
        interpolated_precision_recall(np.ones((2, 2)), np.ones((2, 2)), direction="both")


@pytest.mark.parametrize("mode", ["any", "fraction"])
def test_recall_curve(mode: str) -> None:
    rng = np.random.default_rng(2)
    scores, y = rng.integers(0, 9, (30, 30)), np.arange(30) % 6
    ks, recall = recall_at_k_curve(scores, (y, y), [10, 1, 3, 3], mode=mode)
    assert ks.tolist() == [1, 3, 10]
    expected = [recall_at_k(scores, (y, y), k, mode=mode) for k in ks]
    np.testing.assert_allclose(recall, expected)
    assert (np.diff(recall) >= 0).all()
    _, flat = recall_at_k_curve(np.zeros((30, 30)), (y, y), ks, mode=mode, direction="backward")
    chance = chance_level((y, y), [f"r@{k}:{mode}" for k in ks])
    np.testing.assert_allclose(flat, [chance.mean("backward", f"r@{k}:{mode}") for k in ks])
