"""Synthetic inputs for the conformance kit: pairs share factors, which depend on the class."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit import Ragged, Views
from crossfit.testing.planted import planted_pairs as make_inputs

__all__ = ["make_inputs", "make_patches"]


def make_patches(rng: np.random.Generator, n: int) -> tuple[Views, NDArray[Any]]:
    """Generate n pairs whose items have patches, and their labels.

    Parameters
    ----------
    rng : numpy.random.Generator
        Random number generator.
    n : int
        Number of pairs.

    Returns
    -------
    views : Views
        The images have the channels ``whole``, (n, 24), and ``patches``, a Ragged with one to three
        noisy copies of each; the texts are vectors, (n, 14).
    y : int array of shape (n,)
    """
    views, y = make_inputs(rng, n)
    image = views["image"]
    lengths = rng.integers(1, 4, size=n)
    patches = np.repeat(image, lengths, axis=0)
    patches = patches + 0.3 * rng.normal(size=patches.shape)
    ragged = Ragged(patches, np.concatenate([[0], np.cumsum(lengths)]))
    return views.replace(image={"whole": image, "patches": ragged}), y
