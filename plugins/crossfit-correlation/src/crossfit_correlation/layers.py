"""Parts that the networks of this plugin share: functions of units, and widths by view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

from torch import nn

from crossfit.neural import RBMStack

__all__ = ["ACTIVATIONS", "LENGTH", "belief_stack", "kinds_by_role", "widths_by_role"]

LENGTH = 100.0
"""Number of words to which counts are scaled."""

# Standard deviation of the first weights of units for counts, as in `MultimodalDBN`.
_COUNT_STD = 0.03
_KINDS = ("gaussian", "bernoulli", "replicated-softmax")

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "linear": nn.Identity,
}


def widths_by_role(given: Any, roles: Sequence[str], what: str) -> dict[str, list[int]]:
    """Return the widths of the layers of every view.

    Parameters
    ----------
    given : sequence of int, or mapping of str to sequence of int
        Widths for all views, or those of each by role.
    roles : sequence of str
        The roles.
    what : str
        Beginning of the message.

    Returns
    -------
    dict of str to list of int

    Raises
    ------
    ValueError
        If they are not integers of at least 1, or a role is missing.
    """
    widths = given if isinstance(given, Mapping) else dict.fromkeys(roles, given)
    if set(widths) != set(roles) or not all(
        isinstance(each, (list, tuple))
        and all(isinstance(n, Integral) and not isinstance(n, bool) and int(n) >= 1 for n in each)
        for each in widths.values()
    ):
        raise ValueError(
            f"{what} must be integers of at least 1, one per layer, or such a list for each of "
            f"{' and '.join(roles)}, got {given!r}"
        )
    return {role: [int(n) for n in widths[role]] for role in roles}


def kinds_by_role(given: Any, roles: Sequence[str], what: str) -> dict[str, str]:
    """Return the kind of the visible units of every view.

    Parameters
    ----------
    given : str, or mapping of str to str
        One kind for all views, or that of each by role.
    roles : sequence of str
        The roles.
    what : str
        Beginning of the message.

    Returns
    -------
    dict of str to str

    Raises
    ------
    ValueError
        If a kind is unknown, or a role is missing.
    """
    each = given if isinstance(given, Mapping) else dict.fromkeys(roles, given)
    if set(each) != set(roles) or not set(each.values()) <= set(_KINDS):
        raise ValueError(
            f"{what} must be one of {', '.join(_KINDS)}, or one for each of "
            f"{' and '.join(roles)}, got {given!r}"
        )
    return {role: str(each[role]) for role in roles}


def belief_stack(sizes: Sequence[int], visible: str, **settings: Any) -> RBMStack:
    """Return a deep belief network of one view.

    Parameters
    ----------
    sizes : sequence of int
        Width of the features, then the number of hidden units of every machine.
    visible : str
        Kind of the features.
    **settings
        Other parameters of `RBM`.

    Returns
    -------
    RBMStack
        Counts are scaled to 100 words, and have first weights that a few epochs can change.
    """
    own: dict[str, Any] = {}
    if visible == "replicated-softmax":
        own = {"length": LENGTH, "weight_std": [_COUNT_STD, *[None] * (len(sizes) - 2)]}
    return RBMStack(sizes, visible, **own, **settings)
