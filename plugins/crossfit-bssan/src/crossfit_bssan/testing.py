"""Synthetic inputs for the conformance kit: texts name the concepts that images show."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit import Ragged, Views

N_CONCEPTS, N_SHOWN, N_REGIONS, N_COMMON = 8, 3, 6, 2
WORD, REGION, OBJECT = 8, 10, 9


def make_inputs(rng: np.random.Generator, n: int) -> tuple[Views, NDArray[Any]]:
    """Generate n pairs with the views ``image`` (map and objects) and ``text``, and labels.

    Parameters
    ----------
    rng : numpy.random.Generator
        Random number generator.
    n : int
        Number of pairs.

    Returns
    -------
    views : Views
        Three of eight concepts are shown in some of the six regions (10 numbers each) and as three
        or four ragged objects (9 numbers each), and named, in any order and among common words,
        in ragged texts of word vectors (8 numbers each).
    y : int array of shape (n,)
        The first of the concepts.
    """
    words = 1.5 * rng.normal(size=(N_CONCEPTS + N_COMMON, WORD))
    regions = 1.5 * rng.normal(size=(N_CONCEPTS, REGION))
    objects = 1.5 * rng.normal(size=(N_CONCEPTS, OBJECT))
    maps = 0.1 * rng.normal(size=(n, N_REGIONS, REGION))
    found, texts = [], []
    shown = np.array([rng.choice(N_CONCEPTS, N_SHOWN, replace=False) for _ in range(n)])
    for image, own in zip(maps, shown):
        image[rng.permutation(N_REGIONS)] += regions[np.tile(own, N_REGIONS // N_SHOWN)]
        seen = np.concatenate([own, own[: rng.integers(2)]])
        found.append(objects[seen] + 0.1 * rng.normal(size=(len(seen), OBJECT)))
        common = N_CONCEPTS + rng.integers(N_COMMON, size=rng.integers(3))
        said = rng.permutation(np.concatenate([own, common]))
        texts.append(words[said] + 0.1 * rng.normal(size=(len(said), WORD)))
    image = {"map": maps, "objects": Ragged.from_list(found)}
    return Views(image=image, text=Ragged.from_list(texts)), shown[:, 0]
