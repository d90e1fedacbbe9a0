"""Negatives that are tried one after the other until one violates the margin."""

from __future__ import annotations

import torch
from torch import Tensor

from crossfit.neural import hinge

__all__ = ["drawn", "first_violations"]


def drawn(allowed: Tensor, *, replace: bool) -> Tensor:
    """Draw columns at random for every row, as many times as there are columns to draw from.

    Parameters
    ----------
    allowed : bool Tensor of shape (n, m)
        True at the columns to draw from.
    replace : bool
        Whether a column may be drawn again; otherwise the result is a random order.

    Returns
    -------
    int64 Tensor of shape (n, m)
        For a row with c allowed columns, the first c entries are drawn; the others are -1.
    """
    count = allowed.sum(dim=1, keepdim=True)
    keys = torch.rand(allowed.shape, device=allowed.device)
    if replace:
        at = torch.minimum((keys * count).long(), count - 1)
        listed = allowed.nonzero()[:, 1]
        first = count.cumsum(dim=0) - count
        columns = listed[(first + at).clamp(0, max(len(listed) - 1, 0))] if len(listed) else at
    else:
        columns = keys.masked_fill(~allowed, 2.0).argsort(dim=1)
    places = torch.arange(allowed.shape[1], device=allowed.device)
    return columns.masked_fill(places >= count, -1)


def first_violations(
    positive: Tensor, scores: Tensor, draws: Tensor, margin: float
) -> tuple[Tensor, Tensor]:
    """Return the hinge of the first drawn negative that violates the margin, and its place.

    Parameters
    ----------
    positive : Tensor of shape (n,)
        Scores of matched pairs.
    scores : Tensor of shape (n, m)
        Scores of their anchors against all items.
    draws : int64 Tensor of shape (n, k)
        Columns of negatives in the order in which they are tried, then -1.
    margin : float
        Margin by which a positive must outscore a negative.

    Returns
    -------
    hinges : Tensor of shape (n,)
        Positive part of margin - positive + negative; 0 if no drawn negative violates the margin.
    places : int64 Tensor of shape (n,)
        Number of draws, including the last; 0 if no negative violates the margin.
    """
    hinges = margin - positive[:, None] + scores.gather(1, draws.clamp(min=0))
    violating = (hinges.detach() > 0) & (draws >= 0)
    found = violating.any(dim=1)
    at = violating.int().argmax(dim=1)  # the first of equal ones
    first = hinges.gather(1, at[:, None]).squeeze(1)
    return hinge(torch.where(found, first, 0.0), found), torch.where(found, at + 1, 0)
