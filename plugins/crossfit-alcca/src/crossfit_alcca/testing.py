"""Synthetic inputs for the conformance kit: pairs share factors, which depend on the class."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit import Views

N_CLASSES, N_FACTORS, N_COEFFICIENTS, N_FRAMES, N_WORDS = 5, 8, 4, 6, 14


def make_inputs(rng: np.random.Generator, n: int) -> tuple[Views, NDArray[Any]]:
    """Generate n pairs with the views ``audio`` and ``text``, and their labels.

    Parameters
    ----------
    rng : numpy.random.Generator
        Random number generator.
    n : int
        Number of pairs.

    Returns
    -------
    views : Views
        Coefficients of sounds, (n, 4, 6), and vectors of texts, (n, 14): linear maps of eight
        factors distributed around the centre of the class, with noise.
    y : int array of shape (n,)
    """
    y = rng.permutation(np.arange(n) % N_CLASSES)
    factors = (1.5 * rng.normal(size=(N_CLASSES, N_FACTORS)))[y] + rng.normal(size=(n, N_FACTORS))
    flat = factors @ rng.normal(size=(N_FACTORS, N_COEFFICIENTS * N_FRAMES)) / 3
    audio = flat.reshape(n, N_COEFFICIENTS, N_FRAMES)
    text = factors @ rng.normal(size=(N_FACTORS, N_WORDS)) / 3
    return Views(
        audio=audio + 0.1 * rng.normal(size=audio.shape),
        text=text + 0.1 * rng.normal(size=text.shape),
    ), y


def make_image_inputs(rng: np.random.Generator, n: int) -> tuple[Views, NDArray[Any]]:
    """Generate the same pairs with the views ``image``, of shape (n, 24), and ``text``."""
    views, y = make_inputs(rng, n)
    return Views(image=views["audio"].reshape(n, -1), text=views["text"]), y
