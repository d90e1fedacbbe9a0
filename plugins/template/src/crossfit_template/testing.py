"""Synthetic inputs for the conformance checks: pairs that methods of this kind must match."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit import Views


def make_inputs(rng: np.random.Generator, n: int) -> tuple[Views, NDArray[Any]]:
    """Generate n pairs that share latent factors, and their labels.

    Parameters
    ----------
    rng : numpy.random.Generator
        Random number generator.
    n : int
        Number of pairs.

    Returns
    -------
    views : Views
        ``image`` of shape (n, 12) and ``text`` of shape (n, 10).
    y : int array of shape (n,)
        Five classes.
    """
    y = rng.permutation(np.arange(n) % 5)
    factors = 1.5 * rng.normal(size=(5, 8))[y] + rng.normal(size=(n, 8))
    views = {
        role: factors @ rng.normal(size=(8, width)) + 0.3 * rng.normal(size=(n, width))
        for role, width in (("image", 12), ("text", 10))
    }
    return Views(views), y
