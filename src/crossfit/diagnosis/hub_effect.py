"""Hubs in a common space, and whether their correction helps on held-out pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils._param_validation import HasMethods

from crossfit._arguments import validated
from crossfit._tabular import Tabular
from crossfit.diagnosis.estimate import METRICS, fitted_and_held_out, ranked, unit
from crossfit.metrics import Comparison, Direction, Evaluation, compare, hubness
from crossfit.querying import top_k
from crossfit.retrieval import NNN
from crossfit.views import Views

__all__ = ["HubEffect", "hub_effect_of"]

#: Number of ranks in which items are counted.
K = 10


@dataclass(frozen=True, eq=False, repr=False)
class HubEffect(Tabular):
    """Hubness and retrieval of held-out pairs, by the cosine and with a hub correction.

    Parameters
    ----------
    plain, corrected : mapping of Direction to dict
        As returned by `crossfit.metrics.hubness`, of the first 10 ranks.
    cosine, nnn : Evaluation
        Retrieval of the held-out pairs.
    test : Comparison
        Difference in the mean reciprocal rank, corrected minus plain, over both directions.
    """

    plain: Mapping[Direction, Mapping[str, Any]]
    corrected: Mapping[Direction, Mapping[str, Any]]
    cosine: Evaluation
    nnn: Evaluation
    test: Comparison

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per direction and similarity.

        Returns
        -------
        list of dict
            Keys ``direction, similarity, skewness, max, never, mrr``.
        """
        return [
            {"direction": str(direction), "similarity": name, **hubs}
            | {metric: evaluation.mean(direction, metric) for metric in evaluation.metrics}
            for name, found, evaluation in (
                ("cosine", self.plain, self.cosine), ("nnn", self.corrected, self.nnn),
            )
            for direction, hubs in found.items()
        ]  # fmt: skip

    def _title(self) -> str:
        test = self.test
        return f"HubEffect: nnn - cosine {test.difference:.4f} [{test.low:.4f}, {test.high:.4f}]"

    @property
    def helps(self) -> bool:
        """True if the interval of the difference is above 0."""
        return self.test.low > 0


@validated(method=[HasMethods(["encode", "transform"])])
def hub_effect_of(method: Any, train: Views, test: Views) -> HubEffect:
    """Measure hubness in the common space of a method, with and without `crossfit.retrieval.NNN`.

    Parameters
    ----------
    method : CrossModalEstimator
        A method that was fitted on `train`.
    train, test : Views
        Two views: the pairs that are the bank of the correction, and held-out pairs.

    Returns
    -------
    HubEffect

    Raises
    ------
    ValueError
        If there are not two views.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit import Views
    >>> from crossfit.subspace import CCA
    >>> Z = np.random.default_rng(0).normal(size=(200, 4))
    >>> views = Views(image=Z, text=Z[:, ::-1])
    >>> found = hub_effect_of(CCA().fit(views[:100]), views[:100], views[100:])
    >>> found.cosine.mean(None, "mrr")
    1.0
    """
    names = fitted_and_held_out(train, test, "hub_effect_of")
    bank, held_out = method.transform(train), method.transform(test)
    x, z = (held_out.distinct(name)[0] for name in names)
    plain = unit(x) @ unit(z).T
    correction = NNN().fit(bank)

    def scores(queries: Any, query: str, gallery: Any, view: str) -> Any:
        p, q, block = correction.prepared(queries, query, gallery, view)
        return block(p, q)

    forward = scores(x, names[0], z, names[1])
    backward = scores(z, names[1], x, names[0]).T
    cosine, nnn = ranked(test, plain), ranked(test, forward, backward)
    (found,) = compare({"nnn": nnn, "cosine": cosine}, METRICS[-1], None, baseline="cosine")
    return HubEffect(
        _hubness(cosine, plain, plain), _hubness(nnn, forward, backward), cosine, nnn, found
    )


def _hubness(evaluation: Evaluation, forward: Any, backward: Any) -> dict[Direction, Any]:
    return {
        direction: hubness(top_k(scores, K).indices, scores.shape[1])
        for direction, scores in zip(evaluation.directions, (forward, np.transpose(backward)))
    }
