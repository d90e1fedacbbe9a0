"""Methods that compare items by the labels of their nearest training items, or by the cosine."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from crossfit.base import CrossModalEstimator
from crossfit.similarities import KNNPosterior, Similarity, pairwise_similarity

__all__ = ["POSTERIOR_MEASURES", "PosteriorMethod"]

POSTERIOR_MEASURES = ("knn_posterior", "cosine")


class PosteriorMethod(CrossModalEstimator):
    """Base class of methods with a parameter ``measure``, one of `POSTERIOR_MEASURES`.

    A subclass sets ``posterior_`` in `_fit`, fitted on the labelled training items in the common
    space.
    """

    measure: str
    posterior_: KNNPosterior

    def _own_similarity(self) -> str | Similarity:
        return self.posterior_ if self.measure == "knn_posterior" else "cosine"

    def _prepare(self, values: Any, view: str) -> Any:
        mapped = self._encode(values, view)
        return self.posterior_.posterior(mapped) if self.measure == "knn_posterior" else mapped

    def _similarity(self, P: Any, Q: Any) -> NDArray[Any]:
        return pairwise_similarity(P, Q, "dot" if self.measure == "knn_posterior" else "cosine")
