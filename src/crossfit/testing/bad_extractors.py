"""Bad extractors that the kit must fail, and the correct one that they spoil."""

from __future__ import annotations

from typing import Any

import numpy as np

from crossfit.extraction import TextExtractor

__all__ = ["CentresBatch", "DrawsAnew", "LetterCounts"]


class LetterCounts(TextExtractor):
    """How often each letter from a to z stands in a text, (n, 26); a correct extractor.

    Parameters
    ----------
    scale : float
        What the counts are multiplied with.
    batch_size : int
        Texts at a time.
    cache : bool
        Whether to keep what was computed.
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
    """Takes the mean of a batch off its rows, so that a text depends on its neighbours."""

    def _extract(self, batch: list[Any]) -> np.ndarray:
        found = super()._extract(batch)
        return found - found.mean(axis=0)


class DrawsAnew(LetterCounts):
    """Adds noise without a seed, another one in every call."""

    def _extract(self, batch: list[Any]) -> np.ndarray:
        found = super()._extract(batch)
        return found + np.random.default_rng().normal(size=found.shape).astype(np.float32)
