"""Synthetic inputs for the conformance kit: pairs share factors, which depend on the class."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit import Views

N_CLASSES, N_FACTORS, N_FEATURES, N_WORDS = 5, 8, 24, 14


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
        Vectors of images, (n, 24), and of texts, (n, 14): linear maps of eight factors distributed
        around the centre of the class, with noise.
    y : int array of shape (n,)
    """
    y = rng.permutation(np.arange(n) % N_CLASSES)
    factors = (1.5 * rng.normal(size=(N_CLASSES, N_FACTORS)))[y] + rng.normal(size=(n, N_FACTORS))
    image = factors @ rng.normal(size=(N_FACTORS, N_FEATURES)) / 3
    text = factors @ rng.normal(size=(N_FACTORS, N_WORDS)) / 3
    return Views(
        image=image + 0.1 * rng.normal(size=image.shape),
        text=text + 0.1 * rng.normal(size=text.shape),
    ), y
