"""The Pareto front of a search for settings: what is gained by what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from crossfit._sizes import COSTS
from crossfit.report.format import figure, metric_words, short
from crossfit.report.html_tables import Cell, Column, Line, Table
from crossfit.report.leaderboard import Row

__all__ = ["costs_of", "front_of", "front_table"]


def costs_of(trials: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of the costs that the trials of a search have."""
    first: Mapping[str, Any] = next((t["scores"] for t in trials if t.get("scores")), {})
    return [name for name in first if name in COSTS]


def front_of(trials: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the trials that no other one dominates, best first.

    A trial dominates another if it is better in its value or one of its costs, and worse in none.
    """
    costs = costs_of(trials)
    known = [t for t in trials if t.get("value") is not None and t.get("scores")]

    def gains(trial: Mapping[str, Any]) -> tuple[float, ...]:
        return (trial["value"], *(-trial["scores"][name] for name in costs))

    front: list[Mapping[str, Any]] = []
    for trial in sorted(known, key=gains, reverse=True):
        own = gains(trial)
        # Those before it are at least as good in value, so only they can dominate it.
        if not any(all(a >= b for a, b in zip(gains(other), own)) for other in front):
            front.append(trial)
    return front


def front_table(row: Row) -> Table | None:
    """Return the settings of a Pareto front with their values; None if there were no costs."""
    costs = costs_of(row.trials)
    if not costs:
        return None
    front = front_of(row.trials)
    metric = next(name for name in front[0]["scores"] if name not in COSTS)
    columns = [Column(metric_words(metric)), *(Column(COSTS[n], ascending=True) for n in costs)]
    lines = []
    for trial in front:
        values = [trial["value"], *(trial["scores"][name] for name in costs)]
        texts = [figure(values[0]), *(short(value) for value in values[1:])]
        lines.append(
            Line(
                ", ".join(f"{name}={short(value)}" for name, value in trial["params"].items()),
                "",
                [Cell(text, value=value) for text, value in zip(texts, values)],
            )
        )
    return Table(f"Pareto front of {row.label}", (), columns, lines)
