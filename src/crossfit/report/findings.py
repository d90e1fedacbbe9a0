"""The findings of a leaderboard, which are the differences that its tests establish, in words."""

from __future__ import annotations

from crossfit.metrics import (
    parse_metric,
)
from crossfit.report.format import (
    listed,
    metric_words,
)
from crossfit.report.leaderboard import LEVEL, Board

__all__ = ["compared", "findings", "planned"]


def findings(board: Board) -> str:
    """Return sentences on the differences that the tests of the main metric establish."""
    if len(board.rows) < 2:
        return ""
    if None not in board.comparisons:
        return "The directions have no groups of queries in common; see their tests below."
    metric = "mean rank" if board.tested == "meanr" else metric_words(board.metric)
    labels = [row.label for row in board.rows]
    first, others = labels[0], labels[1:]
    found = {label: compared(board, label, first) for label in others}
    ahead = [label for label in others if found[label] == "better"]
    tied = [label for label in others if not found[label]]
    n_pairs = len(board.comparisons[None])
    if ahead:
        finding = f"{first} ranks first by {metric_words(board.metric)}, but {listed(ahead)} "
        finding += "is better" if len(ahead) == 1 else "are better"
        if tied:
            differ = "does not" if len(tied) == 1 else "do not"
            finding += f" and {listed(tied)} {differ} differ significantly from it"
    elif not tied:
        finding = f"{first} is better than {others[0] if n_pairs == 1 else 'every other method'}"
    elif tied == others and n_pairs > 1:
        finding = "No method differs significantly from the best"
    else:
        finding = f"{first} does not differ significantly from {listed(tied)}"
    corrected = "" if n_pairs == 1 else f"Holm-corrected over all {n_pairs} pairs of methods, "
    tests = "test" if n_pairs == 1 else "tests"
    averaged = ", averaged over the directions" if len(board.directions) > 1 else ""
    return (
        f"{finding} in {metric}{averaged} (paired randomisation {tests} over "
        f"queries, groups kept together, {corrected}level {LEVEL:g})." + _about_disagreement(board)
    )


def _about_disagreement(board: Board) -> str:
    """Return a note on rows whose orders by median rank and by mean rank differ."""
    place = {row.label: i for i, row in enumerate(board.rows)}
    pairs = [
        f"{test.first} and {test.second}"
        for test in board.comparisons[None] if board.tested != board.metric
        if test.p_adjusted <= LEVEL
        and (test.difference < 0) != (place[test.first] < place[test.second])
    ]  # fmt: skip
    if not pairs:
        return ""
    return (
        " The rows are in the order of the median rank, but tests and ranks are of the mean rank, "
        f"which a few very high ranks increase. The two disagree on {'; '.join(pairs)}."
    )


def compared(board: Board, label: str, other: str) -> str:
    """Return ``better`` or ``worse`` if the test of two methods shows it, else an empty string."""
    if not board.p_value(label, other) <= LEVEL:
        return ""
    test = next(t for t in board.comparisons[None] if {t.first, t.second} == {label, other})
    gain = test.difference if test.first == label else -test.difference
    greater = parse_metric(board.tested).greater_is_better
    return "better" if (gain > 0) == greater else "worse"


def planned(board: Board) -> str:
    """Return a paragraph on how planned differences were tested, and which were established."""
    if not board.differences:
        return ""
    shown = []
    for test in board.differences:
        signs = {value > 0 for value in board.difference_by_seed(test.first, test.second)}
        better, worse = test.first, test.second
        if (test.difference > 0) != board.greater:
            better, worse = worse, better
        if test.p_adjusted > LEVEL or len(signs) > 1:
            shown.append(f"no difference between {test.first} and {test.second} is shown")
        else:
            shown.append(f"{better} is better than {worse}")
    return (
        f"These are differences of {metric_words(board.tested)}, averaged over the directions and "
        "the seeds, between methods that the experiment named beforehand. They are tested by "
        "paired randomisation tests that exchange whole groups of queries, with Holm's correction "
        "for the number of tests. Intervals and p do not cover other seeds, so the last column has "
        f"the difference for each seed. At level {LEVEL:g}, and for every seed: "
        f"{'; '.join(shown)}."
    )
