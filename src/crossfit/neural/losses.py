"""Losses over a whole batch of pairs, to be minimised."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from itertools import combinations
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["cca_loss", "counted_hinges", "hinge", "label_loss", "triplet_loss", "whitened"]

_Counts = list[tuple[Tensor, Tensor | int]]

_COUNTED: ContextVar[_Counts | None] = ContextVar("crossfit_hinges", default=None)


@contextlib.contextmanager
def counted_hinges() -> Iterator[_Counts]:
    """Count the hinges that losses compute inside the block.

    Yields
    ------
    list of (Tensor, Tensor or int)
        Filled by each call of `hinge` and `triplet_loss`: the number of hinges above zero, and the
        number of all.
    """
    counted: _Counts = []
    token = _COUNTED.set(counted)
    try:
        yield counted
    finally:
        _COUNTED.reset(token)


def hinge(values: Tensor, where: Tensor | None = None) -> Tensor:
    """Return the positive parts of values, and count the positive ones for the history.

    The share of active hinges of an epoch is ``train_active_hinges`` in the history: those that are
    zero have no gradient. `triplet_loss` counts its own.

    Parameters
    ----------
    values : Tensor
        For instance the margin less a distance.
    where : bool Tensor of the shape of `values`, optional
        Hinges that belong to the loss; all by default.

    Returns
    -------
    Tensor of the shape of `values`
        Zero outside `where`.
    """
    found = values.clamp(min=0)
    if where is not None:
        found = found * where
    counted = _COUNTED.get()
    if counted is not None:
        number = found.numel() if where is None else where.sum()
        counted.append((torch.count_nonzero(found.detach()), number))
    return found


def label_loss(logits: Tensor, y: Tensor) -> Tensor:
    """Return the cross-entropy of class logits, averaged over the labelled rows.

    Parameters
    ----------
    logits : Tensor of shape (n, n_classes)
        Scores of the classes before the softmax.
    y : int64 Tensor of shape (n,)
        Class numbers, -1 for unlabelled rows.

    Returns
    -------
    Tensor of shape ()
        Zero if no row is labelled, for which torch's mean would be NaN.

    Raises
    ------
    ValueError
        If the shapes or types are wrong; on the CPU also if a class number is out of range.
    """
    if logits.ndim != 2 or y.shape != logits.shape[:1] or y.dtype != torch.int64:
        raise ValueError(
            "the label loss needs logits of shape (n, n_classes) and int64 class numbers of shape "
            f"(n,), got shapes {tuple(logits.shape)} and {tuple(y.shape)} of {y.dtype}"
        )
    try:
        total = F.cross_entropy(logits, y, ignore_index=-1, reduction="sum")
    except IndexError as error:  # only on the CPU; a GPU has its own check
        raise ValueError(
            f"class numbers must be from -1 to {logits.shape[1] - 1}, got {int(y.min())} to "
            f"{int(y.max())}"
        ) from error
    return total / (y >= 0).sum().clamp(min=1)


def triplet_loss(
    scores: Tensor,
    positives: Tensor | None = None,
    negatives: Tensor | None = None,
    *,
    margin: float = 0.2,
    mining: str = "sum",
    k: int = 1,
) -> Tensor:
    r"""Return the hinge ranking loss: positives must outscore negatives of their row by a margin.

    The mean over all positives (i, p) of the mean over n of :math:`[m - s_{ip} + s_{in}]_+`, where
    n runs over the negatives of row i that the mining selects; ``"sum"`` has the sum over n
    instead, as VSE++ is printed. Rows are the queries; for the other direction, pass the
    transposes and add both losses.

    Parameters
    ----------
    scores : Tensor of shape (n, m)
        Similarities, higher is better.
    positives : bool Tensor of shape (n, m), optional
        True at the matching columns of each row; the diagonal by default.
        See `crossfit.neural.Batch.positives`.
    negatives : bool Tensor of shape (n, m), optional
        True at the wrong columns of each row; all that are not positive by default. Pass
        `crossfit.neural.Batch.negatives` to exclude other captions of the same image.
    margin : float, default=0.2
        Margin, in units of the scores.
    mining : {"sum", "all", "hardest", "top-k", "random"}, default="sum"
        Use all negatives, summed, so that the loss grows with the batch; all negatives, as a
        mean, which does not depend on the size of the batch; the one with the highest score; the
        mean over the `k` with the highest scores; or one drawn from torch's random state for
        every positive.
    k : int, default=1
        Number of negatives for ``"top-k"``; 1 is ``"hardest"``, all negatives is ``"all"``. A row
        with fewer negatives has the mean over those that it has.

    Returns
    -------
    Tensor of shape ()
        Zero if there are no positives. A row without negatives contributes zero.

    Raises
    ------
    ValueError
        If the mining is unknown, a shape differs, `margin` is not a finite number or `k` is not
        an integer of at least 1.

    References
    ----------
    Sum and hardest: F. Faghri, D. Fleet, J. Kiros, S. Fidler, VSE++: improving visual-semantic
    embeddings with hard negatives, BMVC 2018.
    """
    if scores.ndim != 2:
        raise ValueError(f"scores must be of shape (n, m), got {tuple(scores.shape)}")
    if not isinstance(margin, Real) or isinstance(margin, bool) or not math.isfinite(margin):
        raise ValueError(f"margin must be a finite number, got {margin!r}")
    if not isinstance(k, Integral) or isinstance(k, bool) or k < 1:
        raise ValueError(f"k must be an integer of at least 1, got {k!r}")
    if positives is None:
        positives = torch.eye(*scores.shape, dtype=torch.bool, device=scores.device)
    if negatives is None:
        negatives = ~positives
    for name, mask in (("positives", positives), ("negatives", negatives)):
        if mask.shape != scores.shape or mask.dtype != torch.bool:
            raise ValueError(
                f"{name} must be a bool tensor of the scores' shape {tuple(scores.shape)}, got "
                f"{mask.dtype} of shape {tuple(mask.shape)}"
            )
    row, column = positives.nonzero(as_tuple=True)
    hinges = margin - scores[row, column][:, None]
    allowed = negatives[row]
    if mining in ("sum", "all"):
        chosen = scores[row]
    elif mining == "random":
        # The largest of i.i.d. numbers is uniform over the negatives of the row.
        drawn = torch.rand(allowed.shape, device=scores.device).masked_fill(~allowed, -1.0)
        at = drawn.argmax(dim=1, keepdim=True)
        chosen, allowed = scores[row].gather(1, at), allowed.gather(1, at)
    elif mining in ("hardest", "top-k"):
        count = 1 if mining == "hardest" else k
        # Computed once per row, not once per positive.
        best, _ = scores.masked_fill(~negatives, -torch.inf).topk(
            min(count, scores.shape[1]), dim=1
        )
        chosen = best[row]
        allowed = chosen > -torch.inf
    else:
        raise ValueError(
            f"mining must be 'sum', 'all', 'hardest', 'top-k' or 'random', got {mining!r}"
        )
    # Masked before the hinge, so that no infinity enters the gradient.
    hinges = hinge(hinges + chosen.masked_fill(~allowed, 0.0), allowed)
    if mining in ("all", "top-k"):
        hinges = hinges / allowed.sum(dim=1, keepdim=True).clamp(min=1)
    return hinges.sum() / max(len(row), 1)


def cca_loss(
    first: Tensor,
    second: Tensor,
    *others: Tensor,
    reg: float | Sequence[float] = 1e-3,
    n_components: int | None = None,
) -> Tensor:
    r"""Return minus the sum of the canonical correlations of batches of outputs.

    The loss of deep CCA: the trace norm of :math:`T = S_{11}^{-1/2} S_{12} S_{22}^{-1/2}` with
    covariances :math:`S + rI`, summed over all pairs of views if there are more than two. It is
    computed in float64 by Cholesky factors and triangular solves, whose gradients stay finite when
    eigenvalues coincide.

    Parameters
    ----------
    first, second, *others : Tensor of shape (b, d), (b, e), ...
        Outputs of the networks. b should be far larger than the widths: with fewer rows the loss
        is saturated and carries no signal.
    reg : float or sequence of float, default=0.001
        Ridge added to the covariances, or one for each view.
    n_components : int, optional
        Number of largest correlations to sum for each pair of views; all by default.

    Returns
    -------
    Tensor of shape ()
        With the dtype of `first`; NaN if an output is not finite.

    Raises
    ------
    ValueError
        If the batches differ in length or have fewer than two rows, `reg` or `n_components`
        is invalid, or a covariance is singular.

    See Also
    --------
    whitened : The outputs with covariance I, on which other measures of correlation build.

    References
    ----------
    G. Andrew, R. Arora, J. Bilmes, K. Livescu, Deep canonical correlation analysis, ICML 2013.
    """
    if n_components is not None and (
        not isinstance(n_components, Integral) or isinstance(n_components, bool) or n_components < 1
    ):
        raise ValueError(f"n_components must be an integer of at least 1, got {n_components!r}")
    parts = whitened(first, second, *others, reg=reg)
    if not torch.isfinite(torch.stack([part.sum() for part in parts])).all():
        return torch.stack([part.sum() for part in parts]).sum().to(first.dtype) * math.nan
    pairs = [torch.linalg.svdvals(x.T @ z)[:n_components].sum() for x, z in combinations(parts, 2)]
    return -torch.stack(pairs).sum().to(first.dtype)


def whitened(
    first: Tensor, second: Tensor, *others: Tensor, reg: float | Sequence[float] = 0.0
) -> list[Tensor]:
    r"""Return batches of outputs centred and mapped to the covariance I, in float64.

    With the Cholesky factor :math:`L L' = S + rI` of the covariance of a view, its rows are
    :math:`L^{-1} (h - \bar h) / \sqrt{b - 1}`, so that the products of two results are the whitened
    cross-covariance :math:`L_1^{-1} S_{12} L_2^{-T}`, whose singular values are the canonical
    correlations.

    Parameters
    ----------
    first, second, *others : Tensor of shape (b, d), (b, e), ...
        Outputs of the networks.
    reg : float or sequence of float, default=0.0
        Ridge r added to the covariances, or one for each view.

    Returns
    -------
    list of float64 Tensor, with the shapes of the arguments
        NaN for a view that is not finite.

    Raises
    ------
    ValueError
        If the batches differ in length or have fewer than two rows, `reg` is invalid, or a
        covariance is singular.

    See Also
    --------
    cca_loss : The sum of the canonical correlations.
    """
    views = (first, second, *others)
    if any(part.ndim != 2 for part in views):
        raise ValueError(
            "the CCA loss needs batches of shape (b, d) and (b, e), got "
            + " and ".join(str(tuple(part.shape)) for part in views)
        )
    ridges: Any = [reg] * len(views) if isinstance(reg, Real) else reg
    if (
        isinstance(ridges, str)
        or not isinstance(ridges, Sequence)
        or len(ridges) != len(views)
        or not all(
            isinstance(r, Real) and not isinstance(r, bool) and 0 <= float(r) < math.inf
            for r in ridges
        )
    ):
        raise ValueError(
            f"reg must be a number of at least 0, or one for each of {len(views)} views, got "
            f"{reg!r}"
        )
    if len({len(part) for part in views}) > 1 or len(first) < 2:
        raise ValueError(
            f"the CCA loss needs {'two' if len(views) == 2 else len(views)} batches of the same "
            "number of rows, at least 2, got " + " and ".join(str(len(part)) for part in views)
        )
    found = []
    for part, ridge in zip(views, ridges, strict=True):
        centred = (part.double() - part.double().mean(dim=0)) / math.sqrt(len(part) - 1)
        S = centred.T @ centred
        S = S + float(ridge) * torch.eye(len(S), dtype=S.dtype, device=S.device)
        L, failed = torch.linalg.cholesky_ex(S)
        if failed:
            if torch.isfinite(S).all():
                raise ValueError(
                    f"the CCA loss: the covariance of {part.shape[1]} outputs over {len(part)} "
                    f"rows is singular with reg={ridge:g}; set reg above 0"
                )
            L = L * math.nan
        found.append(torch.linalg.solve_triangular(L, centred.T, upper=False).T)
    return found
