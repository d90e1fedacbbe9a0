"""Synthetic inputs for the conformance kit, with class-specific regions and words."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit import Ragged, Views

N_CLASSES, N_REGIONS, WIDTH = 5, 6, 12


def make_inputs(rng: np.random.Generator, n: int) -> tuple[Views, NDArray[Any]]:
    """Generate n pairs with the views ``image`` and ``text``, and their labels.

    Parameters
    ----------
    rng : numpy.random.Generator
        Random number generator.
    n : int
        Number of pairs.

    Returns
    -------
    views : Views
        Regions of shape (n, 6, 12), two of which carry the mark of the class, and ragged token
        ids, two to four of which are words of the class.
    y : int array of shape (n,)
    """
    y = rng.permutation(np.arange(n) % N_CLASSES)
    marks = 2 * rng.normal(size=(N_CLASSES, WIDTH))
    regions = rng.normal(size=(n, N_REGIONS, WIDTH))
    texts = []
    for i, label in enumerate(y):
        regions[i, rng.choice(N_REGIONS, 2, replace=False)] += marks[label]
        own = 2 + 4 * label + rng.integers(4, size=rng.integers(2, 5))
        common = 2 + 4 * N_CLASSES + rng.integers(20, size=rng.integers(1, 6))
        texts.append(rng.permutation(np.concatenate([own, common])))
    return Views(image=regions, text=Ragged.from_list(texts)), y
