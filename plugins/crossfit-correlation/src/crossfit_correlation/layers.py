"""What the networks of this plugin share: functions of units, and widths by view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

from torch import nn

__all__ = ["ACTIVATIONS", "widths_by_role"]

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
