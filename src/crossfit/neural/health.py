"""Signs that a network does not learn: collapsed outputs, idle hinges, dead units."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = [
    "CHECKED_ROWS",
    "DeadUnits",
    "TrainingWarning",
    "constant",
    "due",
    "mean_cosine",
    "signs",
]

CHECKED_ROWS = 128
"""Smallest number of rows of a check of a method with a common space, if there are so many."""

# A check of n rows is made after every 50 n rows of training: less than one percent of the work.
_SPACING = 50
# A network may start collapsed or with dead units, and recover: so many checks in a row are needed.
_IN_A_ROW = 3
_COLLAPSED = 0.999
_DEAD = 1 / 3
_EQUAL = 1e-3
# Below this share in every epoch, hinges have never had an effect.
_IDLE = 0.01
# Untrained networks are not judged before this number of updates.
_UPDATES = 50


class TrainingWarning(UserWarning):
    """A network does not learn: its outputs have collapsed, or hinges or units are idle."""


def due(epoch: int, n_rows: int, n_checked: int) -> bool:
    """Return whether an epoch ends with a check, so that checks are few compared with training.

    Parameters
    ----------
    epoch : int
        Number of epochs done, from 1.
    n_rows : int
        Number of training rows.
    n_checked : int
        Number of rows of a check.
    """
    spacing = _SPACING * n_checked
    return epoch * n_rows // spacing > (epoch - 1) * n_rows // spacing


class DeadUnits(TorchDispatchMode):
    """Context that counts the units of ReLUs that are zero for all items of a batch.

    A unit is a place on the axis of the channels, which follows that of the items in convolutions
    and is the last one in linear layers: the one on which more places are zero.

    """

    def __init__(self) -> None:
        super().__init__()
        self._counts: list[tuple[Tensor, Tensor, tuple[int, int]]] = []

    @property
    def share(self) -> float | None:
        """Share of units that are zero throughout; None if there are no ReLUs."""
        dead = units = 0.0
        for first, last, sizes in self._counts:
            shares = [(count.item() / size, size) for count, size in zip((first, last), sizes)]
            share, size = max(shares)
            dead, units = dead + share * size, units + size
        return dead / units if units else None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__.rstrip("_")
        relu = name == "relu" or (name == "hardtanh" and args[1:2] == (0.0,))
        if relu and found.ndim > 1:
            on = found > 0
            first, last = (
                (~on.any(dim=[i for i in range(on.ndim) if i != axis])).sum()
                for axis in (1, on.ndim - 1)
            )
            self._counts.append((first, last, (on.shape[1], on.shape[-1])))
        return found


def mean_cosine(outputs: Tensor) -> float:
    """Return the mean cosine of all pairs of different rows.

    Parameters
    ----------
    outputs : Tensor of shape (n, ...)
        Outputs of at least two items, which are flattened. The cosine of two rows of zeros is 1,
        that of one with another row 0.

    Returns
    -------
    float
        In [-1, 1].
    """
    n = len(outputs)
    rows = outputs.detach().flatten(1).double()
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    unit = torch.cat([rows / norms.clamp(min=1e-300), (norms == 0).double()], dim=1)
    total = unit.sum(dim=0).square().sum().item()
    return (total - n) / (n * (n - 1))


def constant(outputs: Any, n: int, whole: bool) -> Any:
    """Return the outputs that a network without regard to its input would have.

    Parameters
    ----------
    outputs : Tensor, or tuple, list or dict of these
        Input of the loss.
    n : int
        Number of rows of the batch. Every tensor with this number of rows is replaced by its mean
        over the rows.
    whole : bool
        Replace every tensor of several numbers by its mean over all axes, as for scores of pairs.
    """
    if isinstance(outputs, Tensor):
        if not outputs.is_floating_point() or outputs.ndim == 0:
            return outputs
        if whole:
            return outputs.mean().expand_as(outputs)
        return (
            outputs.mean(dim=0, keepdim=True).expand_as(outputs) if len(outputs) == n else outputs
        )
    if isinstance(outputs, Mapping):
        return {name: constant(part, n, whole) for name, part in outputs.items()}
    if isinstance(outputs, (tuple, list)):
        parts = [constant(part, n, whole) for part in outputs]
        return type(outputs)(*parts) if hasattr(outputs, "_fields") else type(outputs)(parts)
    return outputs


def signs(
    name: str, rows: Sequence[Mapping[str, Any]], updates: float, in_a_row: int = _IN_A_ROW
) -> dict[str, str]:
    """Return what is wrong with a fit, by kind, from the rows of its history.

    Parameters
    ----------
    name : str
        Name of the method.
    rows : sequence of mapping
        One per epoch so far.
    updates : float
        Number of updates so far.
    in_a_row : int, default=3
        Number of checks, up to this epoch, that must agree.

    Returns
    -------
    dict of str to str
        One sentence per kind.
    """
    found: dict[str, str] = {}
    last = [row for row in rows if "checked_loss" in row][-in_a_row:]
    epoch = len(rows)
    if len(last) == in_a_row and last[-1] is rows[-1]:
        for key in last[-1]:
            view = key.removeprefix("cosine_")
            if view != key and all(row.get(key, 0.0) > _COLLAPSED for row in last):
                found[key] = (
                    f"{name}: the outputs of the view {view!r} have collapsed, their mean cosine "
                    f"is {last[-1][key]:.5f} after epoch {epoch}; standardise the features, draw "
                    "the first weights with init_weights, lower lr, or compare each pair with "
                    "more negatives"
                )
        if all(row.get("dead_units", 0.0) >= _DEAD for row in last):
            found["dead_units"] = (
                f"{name}: {last[-1]['dead_units']:.0%} of the ReLU units are zero for every item "
                f"after epoch {epoch}; lower lr, or raise it slowly with warm_up, and draw the "
                "first weights with init_weights"
            )
        if all(
            math.isclose(row["checked_loss"], row.get("constant_loss", math.inf), rel_tol=_EQUAL)
            for row in last
        ):
            found["constant_loss"] = (
                f"{name}: the loss is {last[-1]['checked_loss']:.4g} after epoch {epoch}, as for "
                "outputs that are the same for all items: nothing has been learned; change lr, "
                "standardise the features, or compare each pair with more negatives"
            )
    shares = [row["train_active_hinges"] for row in rows if "train_active_hinges" in row]
    if shares and updates >= _UPDATES and shares[-1] == 0 and max(shares) <= _IDLE:
        found["active_hinges"] = (
            f"{name}: no hinge was active in epoch {epoch}, and hardly any before, so that "
            "negatives have no effect; increase the margin"
        )
    return found
