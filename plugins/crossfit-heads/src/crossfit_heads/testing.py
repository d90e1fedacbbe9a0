"""Synthetic inputs for the conformance kit: pairs share factors, which depend on the class."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit import Ragged, Views
from crossfit.testing.planted import planted_pairs as make_inputs

__all__ = ["make_inputs", "make_sets"]

N_CONCEPTS, N_SHOWN, N_REGIONS, REGION, WORD = 12, 3, 6, 10, 9


def make_sets(rng: np.random.Generator, n: int) -> tuple[Views, NDArray[Any]]:
    """Generate n pairs of sets with the views ``image`` and ``text``, and their labels.

    Parameters
    ----------
    rng : numpy.random.Generator
        Random number generator.
    n : int
        Number of pairs.

    Returns
    -------
    views : Views
        Three of twelve concepts are shown, each in two of the six regions of an image, (n, 6, 10),
        and named in any order, some of them twice, in ragged texts of word vectors (9 numbers
        each).
    y : int array of shape (n,)
        The first of the concepts.
    """
    regions = 1.5 * rng.normal(size=(N_CONCEPTS, REGION))
    words = 1.5 * rng.normal(size=(N_CONCEPTS, WORD))
    shown = np.array([rng.choice(N_CONCEPTS, N_SHOWN, replace=False) for _ in range(n)])
    images, texts = np.empty((n, N_REGIONS, REGION)), []
    for i, own in enumerate(shown):
        images[i] = regions[rng.permutation(np.tile(own, N_REGIONS // N_SHOWN))]
        named = words[rng.permutation(np.concatenate([own, own[: rng.integers(3)]]))]
        texts.append(named + 0.1 * rng.normal(size=named.shape))
    images += 0.1 * rng.normal(size=images.shape)
    return Views(image=images, text=Ragged.from_list(texts)), shown[:, 0]
