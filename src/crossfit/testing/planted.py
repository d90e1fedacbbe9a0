"""Planted inputs: views that share latent factors, which any method should recover."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit.cards import MethodCard
from crossfit.registry import resolve_target
from crossfit.subspace.cards import S2UPG
from crossfit.views import Ragged, Views

__all__ = ["planted_aligned", "planted_inputs", "planted_pairs", "planted_patches", "planted_views"]

# With fewer of either, a method that learns nothing scores well too often by chance.
_N_FACTORS = 8
_N_CLASSES = 5
_NOISE = 0.3


def planted_views(
    rng: np.random.Generator, n: int, card: MethodCard
) -> tuple[Views, NDArray[np.int64]]:
    """Make paired views of vectors, regions or sequences with a shared latent structure.

    Every pair has eight latent factors, which are normally distributed around the centre of its
    class; every view is an affine map of the factors with noise.

    Parameters
    ----------
    rng : numpy.random.Generator
        Random number generator.
    n : int
        Number of pairs.
    card : MethodCard
        Its roles become the views. The first has 12 columns, the second 10, and all others 8.
        Regions and sequences have three rows per item, all with the same factors.

    Returns
    -------
    views : Views
        The n pairs.
    y : int array of shape (n,), or of shape (n, 5) if the card has ``labels="multi"``
        Five classes; the centre of an item with several classes is the mean of their centres.

    Raises
    ------
    ValueError
        If a role does not accept any of these kinds of input.
    """
    y = rng.permutation(np.arange(n) % _N_CLASSES)
    share = np.eye(_N_CLASSES, dtype=np.int64)[y]
    if card.labels == "multi":
        y = share = np.maximum(share, rng.random(share.shape) < 0.2)
    centres = 1.5 * rng.normal(size=(_N_CLASSES, _N_FACTORS))
    factors = share @ centres / share.sum(axis=1, keepdims=True)
    factors = factors + rng.normal(size=(n, _N_FACTORS))
    views = {}
    for i, role in enumerate(card.roles):
        kinds = card.inputs.get(role, ("vectors",))
        if not {"vectors", "regions", "sequence"}.intersection(kinds):
            raise ValueError(
                f"the kit can make vectors, regions and sequences, but {card.name!r} takes "
                f"{' or '.join(kinds)} as {role!r}; set make_inputs of its card"
            )
        d = max(12 - 2 * i, _N_FACTORS)
        shape: tuple[Any, ...] = (n, d) if "vectors" in kinds else (n, 3, d)
        mapped = (factors @ rng.normal(size=(_N_FACTORS, d)) + rng.normal(size=d)).reshape(
            n, *[1] * (len(shape) - 2), d
        )
        views[role] = mapped + _NOISE * rng.normal(size=shape)
    return Views(views), y


def planted_pairs(rng: np.random.Generator, n: int) -> tuple[Views, NDArray[np.int64]]:
    """Make pairs of vectors with little noise, which small networks learn in a few epochs.

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
        Five classes.
    """
    y = rng.permutation(np.arange(n) % _N_CLASSES)
    centres = 1.5 * rng.normal(size=(_N_CLASSES, _N_FACTORS))
    factors = centres[y] + rng.normal(size=(n, _N_FACTORS))
    image = factors @ rng.normal(size=(_N_FACTORS, 24)) / 3
    text = factors @ rng.normal(size=(_N_FACTORS, 14)) / 3
    return Views(
        image=image + 0.1 * rng.normal(size=image.shape),
        text=text + 0.1 * rng.normal(size=text.shape),
    ), y


def planted_aligned(rng: np.random.Generator, n: int) -> tuple[Views, NDArray[np.int64]]:
    """Make pairs of vectors that share a space, as encoders that were trained together do.

    Parameters
    ----------
    rng : numpy.random.Generator
        Random number generator.
    n : int
        Number of pairs.

    Returns
    -------
    views : Views
        Vectors of images and of texts, both (n, 12): one linear map of eight factors distributed
        around the centre of the class, with noise and a shift of each view.
    y : int array of shape (n,)
        Five classes.
    """
    y = rng.permutation(np.arange(n) % _N_CLASSES)
    centres = 1.5 * rng.normal(size=(_N_CLASSES, _N_FACTORS))
    factors = centres[y] + rng.normal(size=(n, _N_FACTORS))
    shared = factors @ rng.normal(size=(_N_FACTORS, 12))
    views = {
        role: shared + 0.2 * rng.normal(size=12) + _NOISE * rng.normal(size=shared.shape)
        for role in ("image", "text")
    }
    return Views(views), y


def planted_patches(rng: np.random.Generator, n: int) -> tuple[Views, NDArray[np.int64]]:
    """Make paired views of vectors, of which the images have patches too.

    Parameters
    ----------
    rng : numpy.random.Generator
        Random number generator.
    n : int
        Number of pairs.

    Returns
    -------
    views : Views
        The texts are vectors as in `planted_views`. The images have the channels ``whole``, such
        vectors, and ``patches``, a Ragged of zero to three noisy copies of each.
    y : int array of shape (n,)
        Five classes.
    """
    views, y = planted_views(rng, n, S2UPG)
    image = views["image"]
    lengths = rng.integers(4, size=n)
    noise = _NOISE * rng.normal(size=(lengths.sum(), image.shape[1]))
    patches = np.repeat(image, lengths, axis=0) + noise
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return views.replace(image={"whole": image, "patches": Ragged(patches, offsets)}), y


def planted_inputs(card: MethodCard, n: int, seed: int = 0) -> tuple[Views, NDArray[Any]]:
    """Return ``make_inputs(rng, n)`` of a card, or `planted_views` if it has no ``make_inputs``.

    Raises
    ------
    ValueError
        If ``make_inputs`` does not return n pairs with the views of the card and n labels.
    """
    rng = np.random.default_rng(seed)
    if card.make_inputs is None:
        return planted_views(rng, n, card)
    views, y = resolve_target(card.make_inputs)(rng, n)
    y = np.asarray(y)
    shared = [name for name in views.names if len(views.distinct(name)[0]) < len(views)]
    if len(views) != n or len(y) != n or shared or not set(card.roles) <= set(views.names):
        raise ValueError(
            f"{card.make_inputs} must return {n} pairs that share no item, with the views "
            f"{', '.join(card.roles)}, and {n} labels; got {views!r} and labels of shape {y.shape}"
        )
    return views, y
