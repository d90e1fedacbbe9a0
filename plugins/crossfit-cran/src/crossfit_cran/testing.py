"""Synthetic inputs for the conformance kit: letters of a text correspond to parts of the image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit import Views

N_MARKS, N_REGIONS, WIDTH = 8, 4, 12


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
        Every pair has some of eight marks. The image's channels are ``global`` (n, 12), the sum
        of its marks, and ``regions`` (n, 4, 12), each the sum of some of them. In the text, every
        mark is a word of one repeated letter, in random order.
    y : int array of shape (n,)
        Number of marks, in five classes.
    """
    marks = 2 * rng.normal(size=(N_MARKS, WIDTH))
    has = rng.random((n, N_MARKS)) < 0.5
    shares = has[:, None] * (rng.random((n, N_REGIONS, N_MARKS)) < 0.7)
    regions = shares @ marks + 0.3 * rng.normal(size=(n, N_REGIONS, WIDTH))
    whole = has @ marks + 0.3 * rng.normal(size=(n, WIDTH))
    texts = np.empty(n, dtype=object)
    for i, row in enumerate(has):
        letters = rng.permutation([chr(ord("a") + 3 * mark) for mark in np.flatnonzero(row)])
        texts[i] = " ".join(letter * int(rng.integers(3, 5)) for letter in letters) or "nothing"
    image = {"global": whole, "regions": regions}
    return Views(image=image, text=texts), np.minimum(has.sum(axis=1) // 2, 4)
