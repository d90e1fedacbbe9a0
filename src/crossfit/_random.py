"""Sources of random numbers that do not use NumPy's global state."""

from __future__ import annotations

from typing import Any

import numpy as np


def random_source(random_state: Any) -> np.random.RandomState:
    """Return a RandomState for an int, a RandomState or None; a new one for None."""
    if random_state is None or type(random_state) is int:
        return np.random.RandomState(random_state)
    from sklearn.utils import check_random_state

    return check_random_state(random_state)


def draw_seed(random_state: Any) -> int:
    """Return a seed below 2³¹ drawn from `random_state`."""
    return int(random_source(random_state).randint(2**31 - 1))
