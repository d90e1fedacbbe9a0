"""Plots of many methods: colours, legends and ticks."""

import re

import numpy as np
import pytest

from crossfit.metrics import evaluate
from crossfit.metrics.repeats import Repeats
from crossfit.report.drawing import _log_ticks, _short
from crossfit.report.leaderboard import Board, Row
from crossfit.report.page import _fragments
from crossfit.report.plots import curves


def board(n, best_by_recall):
    """Return a board of n methods, of which those named last are best by recall."""
    evaluation = evaluate(np.eye(4), (range(4), range(4)), "map@all", names=("image", "text"))
    rows = []
    for i in range(n):
        height = 0.9 if i >= n - best_by_recall else 0.5 - 0.4 * i / n
        row = Row(f"m{i:02}", Repeats([evaluation]))
        row.curves.update({d: {"recall": ([1, 10], [0, height])} for d in evaluation.directions})
        rows.append(row)
    return Board("many", rows, ("map@all",))


def legend(svg):
    return re.findall(r">(m\d\d|\w+ other methods?|chance)</text>", svg)


@pytest.mark.parametrize("narrow", [True, False])
def test_every_method_has_a_line_of_its_own(narrow):
    svg = curves(board(18, 3), "recall", narrow=narrow)
    assert legend(svg) == [f"m{i:02}" for i in range(18)]
    assert "var(--faint)" not in svg


def test_the_best_methods_of_a_plot_are_never_grey():
    svg = curves(board(30, 3), "recall")
    names = legend(svg)
    assert names[-1] == "12 other methods" and "var(--faint)" in svg
    assert {"m00", "m01", "m27", "m28", "m29"} <= set(names)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (2.2e6, 2.8e6, ["2.2M", "2.4M", "2.6M", "2.8M"]),
        (1, 10, ["1", "2", "5", "10"]),
        (3, 4000, ["10", "100", "1k"]),
        (64, 130, ["80", "100", "120"]),
    ],
)
def test_ticks_are_few_and_round(low, high, ticks):
    assert [_short(tick) for tick in _log_ticks(low, high, 5)] == ticks


def test_settings_break_between_words_only():
    text = "lr=0.001, measure=posterior_over_prior; tuned"
    parts = _fragments(text)
    assert "".join(parts) == text
    assert parts == ["lr=0.001, ", "measure=", "posterior_", "over_", "prior; ", "tuned"]
