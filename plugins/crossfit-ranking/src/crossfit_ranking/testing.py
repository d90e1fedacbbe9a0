"""Synthetic inputs for the conformance kit: pairs share factors or concepts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit import Ragged, Views
from crossfit.testing.planted import planted_pairs as make_inputs

__all__ = ["make_inputs", "make_regions", "make_sentences"]

N_FEATURES = 24
N_CONCEPTS, N_SHOWN, N_COMMON = 8, 3, 2
N_REGIONS, REGION, WORD = 6, 10, 8


def make_regions(rng: np.random.Generator, n: int) -> tuple[Views, NDArray[Any]]:
    """Generate n pairs of regions and word vectors, and their labels.

    Parameters
    ----------
    rng : numpy.random.Generator
        Random number generator.
    n : int
        Number of pairs.

    Returns
    -------
    views : Views
        Three of eight concepts are shown in two of the six regions each, (n, 6, 10), and named in
        any order in ragged texts of three to five word vectors of 8 numbers, among words that mean
        nothing.
    y : int array of shape (n,)
        The first of the concepts.
    """
    words = 1.5 * rng.normal(size=(N_CONCEPTS + N_COMMON, WORD))
    concepts = 1.5 * rng.normal(size=(N_CONCEPTS, REGION))
    regions = 0.1 * rng.normal(size=(n, N_REGIONS, REGION))
    shown = np.array([rng.choice(N_CONCEPTS, N_SHOWN, replace=False) for _ in range(n)])
    texts = []
    for image, own in zip(regions, shown):
        image[rng.permutation(N_REGIONS)] += concepts[np.tile(own, N_REGIONS // N_SHOWN)]
        common = N_CONCEPTS + rng.integers(N_COMMON, size=rng.integers(3))
        said = rng.permutation(np.concatenate([own, common]))
        texts.append(words[said] + 0.1 * rng.normal(size=(len(said), WORD)))
    return Views(image=regions, text=Ragged.from_list(texts)), shown[:, 0]


def make_sentences(rng: np.random.Generator, n: int) -> tuple[Views, NDArray[Any]]:
    """Generate n pairs of a vector that shows three concepts and word ids that name them.

    Parameters
    ----------
    rng : numpy.random.Generator
        Random number generator.
    n : int
        Number of pairs.

    Returns
    -------
    views : Views
        ``image``, (n, 24): the sum of three of eight vectors, with noise; ``text``, ragged word
        ids: the three concepts in any order, among up to two common words.
    y : int array of shape (n,)
        The first of the concepts.
    """
    vectors = rng.normal(size=(N_CONCEPTS, N_FEATURES))
    shown = np.array([rng.choice(N_CONCEPTS, N_SHOWN, replace=False) for _ in range(n)])
    image = vectors[shown].sum(axis=1) + 0.1 * rng.normal(size=(n, N_FEATURES))
    texts = []
    for own in shown:
        common = N_CONCEPTS + rng.integers(N_COMMON, size=rng.integers(3))
        # Ids 0 and 1 are padding and unknown words.
        texts.append(2 + rng.permutation(np.concatenate([own, common])))
    return Views(image=image, text=Ragged.from_list(texts)), shown[:, 0]
