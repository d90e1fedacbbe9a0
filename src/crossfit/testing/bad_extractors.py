"""Faulty extractors that must fail a check of the kit, and the correct one they derive from."""

from __future__ import annotations

from typing import Any

import numpy as np

from crossfit.extraction import TextExtractor

__all__ = ["CentresBatch", "LetterCounts", "UnseededNoise"]


class LetterCounts(TextExtractor):
    """Counts of each letter from a to z in a text, (n, 26); a correct extractor.

    Parameters
    ----------
    scale : float, default=1.0
        Factor of the counts.
    batch_size : int, default=4
        Number of texts per batch.
    cache : bool, default=True
        If True, store features in the cache.
    """

    def __init__(self, scale: float = 1.0, batch_size: int = 4, cache: bool = True) -> None:
        self.scale = scale
        self.batch_size = batch_size
        self.cache = cache

    def _extract(self, batch: list[Any]) -> np.ndarray:
        letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
        counts = [[text.count(letter) for letter in letters] for text in batch]
        return (self.scale * np.array(counts)).astype(np.float32)

    def _n_outputs(self) -> int:
        return 26


class CentresBatch(LetterCounts):
    """Subtracts the mean of the batch, so that the features of a text depend on other texts."""

    def _extract(self, batch: list[Any]) -> np.ndarray:
        found = super()._extract(batch)
        return found - found.mean(axis=0)


class UnseededNoise(LetterCounts):
    """Adds noise without a seed, so that features differ between calls."""

    def _extract(self, batch: list[Any]) -> np.ndarray:
        found = super()._extract(batch)
        return found + np.random.default_rng().normal(size=found.shape).astype(np.float32)
