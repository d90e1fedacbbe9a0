"""Synthetic inputs for the conformance kit: images are functions of the topics of their texts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit import Views

__all__ = ["make_inputs", "make_two_texts"]

N_CLASSES, N_TOPICS, WIDTH = 5, 8, 12


def make_inputs(rng: np.random.Generator, n: int) -> tuple[Views, NDArray[Any]]:
    """Generate n pairs of vectors and topics, and their labels.

    Parameters
    ----------
    rng : numpy.random.Generator
        Random number generator.
    n : int
        Number of pairs.

    Returns
    -------
    views : Views
        ``image`` of shape (n, 12), a linear map of the log-topics with noise, and ``text`` of
        shape (n, 8), topics in which small values are exact zeros.
    y : int array of shape (n,)
        Classes, each with its own preferred topics.
    """
    y, factors = _factors(rng, n)
    return Views(image=_images(rng, factors), text=_topics(factors)), y


def make_two_texts(rng: np.random.Generator, n: int) -> tuple[Views, NDArray[Any]]:
    """Generate n pairs as `make_inputs` does, with the channels article and caption in the text."""
    y, factors = _factors(rng, n)
    own = factors + 0.5 * rng.normal(size=factors.shape)
    text = {"article": _topics(factors), "caption": _topics(own)}
    return Views(image=_images(rng, factors), text=text), y


def _factors(rng: np.random.Generator, n: int) -> tuple[NDArray[Any], NDArray[Any]]:
    y = rng.permutation(np.arange(n) % N_CLASSES)
    centres = 1.5 * rng.normal(size=(N_CLASSES, N_TOPICS))
    return y, centres[y] + rng.normal(size=(n, N_TOPICS))


def _images(rng: np.random.Generator, factors: NDArray[Any]) -> NDArray[Any]:
    mixed = factors @ rng.normal(size=(N_TOPICS, WIDTH))
    return mixed + 0.3 * rng.normal(size=mixed.shape)


def _topics(factors: NDArray[Any]) -> NDArray[Any]:
    shares = np.exp(factors - factors.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    shares[shares < 0.01] = 0
    return shares
