"""Training curves that still fall at their end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from crossfit.report.format import listed
from crossfit.report.leaderboard import Board

__all__ = ["LEVELLED", "final_fall", "unfinished"]

LEVELLED = 0.05
"""Largest fall of the loss over the last quarter of the epochs, as a share of its whole fall, of a
training that has levelled off. An exponential decay reaches it after three time constants."""


def final_fall(history: Sequence[Mapping[str, Any]]) -> float | None:
    """Compute how far the loss fell over the last quarter of the epochs.

    Parameters
    ----------
    history : sequence of mapping
        One row per epoch. The loss is ``valid_loss`` if it was recorded, else ``train_loss``. Only
        the last stage counts: the epochs whose loss has the terms of the last one.

    Returns
    -------
    float or None
        Fall of a least-squares line through the last quarter of the epochs, as a share of the fall
        from the first epoch to the mean of the last quarter; 0 if the loss did not fall. None if
        there are fewer than four epochs with a loss in the last stage.

    Examples
    --------
    >>> final_fall([{"train_loss": 1 - epoch / 40} for epoch in range(40)]) > 0.2
    True
    >>> final_fall([{"train_loss": 0.5**epoch} for epoch in range(40)]) < 0.01
    True
    """
    rows = _last_stage(history)
    for name in ("valid_loss", "train_loss"):
        losses = np.array([row[name] for row in rows if isinstance(row.get(name), (int, float))])
        if len(losses) >= 4:
            last = losses[-max(len(losses) // 4, 2) :]
            whole = losses[0] - last.mean()
            if whole <= 0:
                return 0.0
            slope = np.polyfit(np.arange(len(last)), last, 1)[0]
            return max(float(-slope * len(last) / whole), 0.0)
    return None


def _last_stage(history: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Return the last epochs with one loss: a term that is added raises the loss."""
    terms = [{name for name in row if name.startswith("train_")} for row in history]
    first = len(terms)
    while first and terms[first - 1] == terms[-1]:
        first -= 1
    return history[first:]


def unfinished(board: Board) -> str:
    """Return a sentence on methods whose training had not levelled off; empty if there are none."""
    found = []
    for row in board.rows:
        falls = [final_fall(history) for history in row.histories.values()]
        most = max((fall for fall in falls if fall is not None), default=0.0)
        if most > LEVELLED:
            found.append(f"{row.label} ({most:.0%})")
    if not found:
        return ""
    return (
        f"Training had not levelled off for {listed(found)}: over the last quarter of the epochs, "
        f"the loss fell by more than {LEVELLED:.0%} of its whole fall. More epochs may change "
        "these figures."
    )
