"""Losses of contrastive heads over a batch of pairs, to be minimised."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["barlow_loss", "info_nce", "sigmoid_loss", "structure_loss", "vicreg_loss"]

# Added to variances under a root, whose gradient at 0 would be infinite.
_EPS = 1e-4
# Added to probabilities, which may be 0 in float32, before the logarithm.
_TINY = 1e-12


def info_nce(
    scores: Tensor,
    scale: Tensor | float,
    positives: Tensor | None = None,
    negatives: Tensor | None = None,
    *,
    first: int = 0,
) -> Tensor:
    r"""Return the cross-entropy of finding the right columns of every row (InfoNCE).

    The mean over the rows i of :math:`-\frac{1}{|P_i|} \sum_{p \in P_i} \log
    \frac{e^{s_{ip} / \tau}}{\sum_{j \in P_i \cup N_i} e^{s_{ij} / \tau}}`, with the positives P and
    the negatives N of a row: the target is shared equally by all captions of an image, of which
    none is a negative. With one positive per row it is the plain cross-entropy.

    Parameters
    ----------
    scores : Tensor of shape (n, m)
        Similarities of queries (rows) and gallery (columns), higher is better.
    scale : Tensor of shape () or float
        The inverse temperature :math:`1 / \tau`.
    positives : bool Tensor of shape (n, m), optional
        The right columns of each row, at least one; the column ``first + i`` of row i by default.
    negatives : bool Tensor of shape (n, m), optional
        The wrong columns; all that are not positive by default. Others are left out.
    first : int, default=0
        Column of the pair of the first row, if `positives` is not given.

    Returns
    -------
    Tensor of shape ()

    References
    ----------
    A. van den Oord, Y. Li, O. Vinyals, Representation learning with contrastive predictive coding,
    arXiv 1807.03748, 2018. Both directions, learnt temperature: A. Radford et al., Learning
    transferable visual models from natural language supervision, ICML 2021.
    """
    logits = scale * scores
    if positives is None:
        own = torch.arange(first, first + len(scores), device=scores.device)
        if negatives is None:
            return F.cross_entropy(logits, own)
        positives = torch.zeros_like(negatives).scatter_(1, own[:, None], True)
    shares = positives.to(scores.dtype)
    shares = shares / shares.sum(dim=1, keepdim=True)
    known = (
        logits if negatives is None else logits.masked_fill(~(positives | negatives), -torch.inf)
    )
    return (known.logsumexp(dim=1) - (shares * logits).sum(dim=1)).mean()


def sigmoid_loss(
    scores: Tensor,
    scale: Tensor | float,
    bias: Tensor | float,
    positives: Tensor | None = None,
    negatives: Tensor | None = None,
    *,
    first: int = 0,
) -> Tensor:
    r"""Return the loss of deciding for every row and column whether they are a pair (SigLIP).

    The mean over the rows i of :math:`-\sum_j \log \sigma(y_{ij} (t s_{ij} + b))` with y 1 for
    positives and -1 for negatives.

    Parameters
    ----------
    scores : Tensor of shape (n, m)
        Similarities of queries (rows) and gallery (columns), higher is better.
    scale, bias : Tensor of shape () or float
        t and b.
    positives, negatives, first
        As in `info_nce`.

    Returns
    -------
    Tensor of shape ()

    References
    ----------
    X. Zhai, B. Mustafa, A. Kolesnikov, L. Beyer, Sigmoid loss for language image pre-training,
    ICCV 2023.
    """
    if positives is None:
        positives = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)
        positives.diagonal(first).fill_(True)
    known = None if negatives is None else (positives | negatives).to(scores.dtype)
    total = F.binary_cross_entropy_with_logits(
        scale * scores + bias, positives.to(scores.dtype), known, reduction="sum"
    )
    return total / len(scores)


def vicreg_loss(x: Tensor, z: Tensor, weights: Sequence[float] = (25.0, 25.0, 1.0)) -> Tensor:
    r"""Return the loss of invariance, variance and covariance (VICReg).

    :math:`\lambda s(X, Z) + \mu \frac{v(X) + v(Z)}{2} + \nu (c(X) + c(Z))`, with s the mean squared
    difference of matched outputs, v the mean over the d outputs of
    :math:`[1 - \sqrt{\mathrm{Var} + 10^{-4}}]_+` and c the sum of the squared covariances of
    different outputs, divided by d.

    Parameters
    ----------
    x, z : Tensor of shape (n, d)
        Outputs of matched items. The variance of a single one is 0.
    weights : sequence of three floats, default=(25.0, 25.0, 1.0)
        The weights of invariance, variance and covariance.

    Returns
    -------
    Tensor of shape ()

    Notes
    -----
    s and v are those of the released code; the paper prints s as the mean over n of the squared
    distance, which is d times as large, and v without the factor 1/2.

    References
    ----------
    A. Bardes, J. Ponce, Y. LeCun, VICReg: variance-invariance-covariance regularization for
    self-supervised learning, ICLR 2022.
    """
    invariance, variance, covariance = weights
    loss = invariance * F.mse_loss(x, z)
    for part in (x, z):
        centred = part - part.mean(dim=0)
        S = centred.T @ centred / max(len(part) - 1, 1)
        deviations = (S.diagonal() + _EPS).sqrt()
        loss = loss + variance / 2 * (1 - deviations).clamp(min=0).mean()
        loss = loss + covariance / len(S) * _off_diagonal(S.square())
    return loss


def barlow_loss(x: Tensor, z: Tensor, weight: float = 0.005) -> Tensor:
    r"""Return the loss of a cross-correlation that is not the identity (Barlow Twins).

    :math:`\sum_i (1 - C_{ii})^2 + \lambda \sum_{i \ne j} C_{ij}^2` with the correlations C of the
    outputs of one view with those of the other over the batch.

    Parameters
    ----------
    x, z : Tensor of shape (n, d)
        Outputs of matched items. The correlations of a single pair are 0.
    weight : float, default=0.005
        The weight λ of the redundancy.

    Returns
    -------
    Tensor of shape ()

    References
    ----------
    J. Zbontar, L. Jing, I. Misra, Y. LeCun, S. Deny, Barlow Twins: self-supervised learning via
    redundancy reduction, ICML 2021.
    """
    scaled = []
    for part in (x, z):
        variance, mean = torch.var_mean(part, dim=0, correction=0)
        scaled.append((part - mean) / (variance + 1e-5).sqrt())
    C = scaled[0].T @ scaled[1] / len(x)
    return (1 - C.diagonal()).square().sum() + weight * _off_diagonal(C.square())


def structure_loss(
    before: Tensor, after: Tensor, temperature: float = 0.1, levels: int = 2
) -> Tensor:
    r"""Return how far a map changes the neighbourhoods of items (STRUCTURE).

    The neighbourhoods P are the softmax over the rows of the products of all items, which have
    norm 1 and are then centred, divided by the temperature. The loss is the mean over the levels
    l = 1, 2, ... of :math:`\frac1l` times the Jensen-Shannon divergence of :math:`P^l` before and
    after the map, which is the mean over the items.

    Parameters
    ----------
    before, after : Tensor of shape (n, d) and (n, e)
        Items before and after the map.
    temperature : float, default=0.1
        Temperature of the softmax.
    levels : int, default=2
        Number of powers.

    Returns
    -------
    Tensor of shape ()
        Zero if all neighbourhoods are the same; at most the mean over l of ln 2 / l.

    Notes
    -----
    The released code has the divergences from the mean in the other order, and raises the weight of
    the loss over the first 500 updates.

    References
    ----------
    F. Gröger, S. Wen, H. Le, M. Brbić, With limited data for multimodal alignment, let the
    STRUCTURE guide you, NeurIPS 2025.
    """
    P, Q = (_neighbourhoods(part, temperature) for part in (before, after))
    total = torch.zeros((), dtype=after.dtype, device=after.device)
    A, B = P, Q
    for level in range(1, levels + 1):
        if level > 1:
            A, B = A @ P, B @ Q
        M = (A + B) / 2
        mean = (M + _TINY).log()
        divergences = A * ((A + _TINY).log() - mean) + B * ((B + _TINY).log() - mean)
        total = total + divergences.sum(dim=1).mean() / (2 * level)
    return total / levels


def _neighbourhoods(items: Tensor, temperature: float) -> Tensor:
    unit = F.normalize(items, dim=1)
    centred = unit - unit.mean(dim=0)
    return (centred @ centred.T / temperature).softmax(dim=1)


def _off_diagonal(squares: Tensor) -> Tensor:
    return squares.sum() - squares.diagonal().sum()
