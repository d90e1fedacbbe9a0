"""Views with rows of unequal length, made from planted views, and padding that is not zero."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from crossfit.views import Channels, Ragged, as_numpy

__all__ = ["forms", "resized", "strange_padding"]

_PAD = 0


def forms(values: Any, kinds: Sequence[str]) -> list[Any]:
    """Return a view in every form that allows rows of unequal length.

    Parameters
    ----------
    values : a view
        The planted view.
    kinds : sequence of str
        The kinds of input that the card declares for the view.

    Returns
    -------
    list
        Ragged vectors, ragged token ids, strings, or channels of which at least one is ragged;
        empty if there is no such form. If the card declares regions or sequences, a vector
        becomes three regions, which are noisy copies of it. If it declares tokens, strings are
        returned as token ids too, one per word.
    """
    if isinstance(values, Channels):
        ragged = values.map(lambda part, _: _ragged(part))
        found = [ragged] if any(isinstance(ragged[name], Ragged) for name in ragged.names) else []
        if any(isinstance(values[name], Ragged) for name in values.names):
            found.append(values)
        return found
    if isinstance(values, Ragged):
        return [values]
    if _are_strings(values):
        return [values, *([_ids(values)] if "tokens" in kinds else [])]
    array = as_numpy(values)
    if array.ndim == 2 and array.dtype.kind in "iu" and "tokens" in kinds:
        return [Ragged.from_list([row[row != _PAD] for row in array])]
    if array.ndim == 3 and {"regions", "sequence"}.intersection(kinds):
        return [_ragged(array)]
    if array.ndim == 2 and array.dtype.kind == "f" and {"regions", "sequence"}.intersection(kinds):
        noise = np.random.default_rng(0).normal(size=(len(array), 3, array.shape[1]))
        return [_ragged(array[:, None] + 0.3 * array.std() * noise)]
    return []


def _are_strings(values: Any) -> bool:
    return (
        isinstance(values, np.ndarray)
        and values.dtype == object
        and all(isinstance(value, str) for value in values)
    )


def _ids(texts: NDArray[Any]) -> Ragged:
    words = sorted({word for text in texts for word in text.split()})
    # Ids start at 2, after PAD and UNK, and are few, since a method may limit its vocabulary.
    numbers = {word: 2 + i % 40 for i, word in enumerate(words)}
    return Ragged.from_list(
        [np.array([numbers[word] for word in text.split()] or [2], np.int64) for text in texts]
    )


def _ragged(values: Any) -> Any:
    """Return arrays of shape (n, R, d) as a Ragged, and everything else unchanged."""
    if isinstance(values, Ragged) or getattr(values, "ndim", 0) != 3:
        return values
    n, length, width = values.shape
    return Ragged(values.reshape(n * length, width), np.arange(n + 1) * length)


def resized(values: Any, lengths: NDArray[np.int64]) -> Any:
    """Return a view whose row i has ``lengths[i]`` elements or words, which repeat its own.

    Empty rows remain empty; views without rows of variable length are returned unchanged.
    """
    if isinstance(values, Channels):
        return values.map(lambda part, _: resized(part, lengths))
    if isinstance(values, Ragged):
        own = values.lengths
        lengths = np.where(own > 0, lengths, 0)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        place = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
        at = np.repeat(values.offsets[:-1], lengths) + place % np.repeat(own, lengths)
        n = len(values.values)
        info = {
            key: part[at] if isinstance(part, np.ndarray) and part.ndim and len(part) == n else part
            for key, part in values.info.items()
        }
        return Ragged(values.values[at], offsets, info)
    if _are_strings(values):
        found = np.empty(len(values), dtype=object)
        for i, (text, length) in enumerate(zip(values, lengths)):
            words = text.split() or [""]
            found[i] = " ".join(words[k % len(words)] for k in range(length))
        return found
    return values


@contextlib.contextmanager
def strange_padding() -> Iterator[None]:
    """Replace the zeros in the padding of vectors by random numbers, in a block.

    This concerns `Ragged.padded`, unless it is called with another ``fill``, and the batches of
    neural methods. The padding of token ids is unchanged.
    """
    padded = Ragged.padded

    def strange(
        self: Ragged, length: int | None = None, fill: float = 0
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        dense, mask = padded(self, length, fill)
        if dense.dtype.kind == "f" and fill == 0:
            dense[~mask] = _strange(dense[~mask].shape)
        return dense, mask

    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(Ragged, "padded", strange))
        batching = sys.modules.get("crossfit.neural.batching")
        if batching is not None:
            take = batching._Flat.take

            def strange_take(self: Any, at: Any) -> Any:
                values, real = take(self, at)
                if values.is_floating_point():
                    held = values[~real]
                    values[~real] = held.new_tensor(_strange(tuple(held.shape)))
                return batching.Items(values, real)

            stack.enter_context(mock.patch.object(batching._Flat, "take", strange_take))
        yield


def _strange(shape: tuple[int, ...]) -> NDArray[np.float64]:
    return np.random.default_rng(0).normal(scale=30.0, size=shape)
