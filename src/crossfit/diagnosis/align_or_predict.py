"""Align or predict: a common space of both views, or a regression of one view on the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sklearn.base import clone

from crossfit._arguments import validated
from crossfit._random import draw_seed
from crossfit._tabular import Tabular
from crossfit.diagnosis.estimate import METRICS, Estimate, fitted_and_held_out, ranked
from crossfit.metrics import Evaluation, Repeats, chance_level
from crossfit.model_selection import PairShuffleSplit
from crossfit.subspace import CCA, Identity, ReducedRank, RidgeMap
from crossfit.views import Views

__all__ = ["Recovery", "estimate_of", "recoveries"]

#: Ridges as multiples of the mean variance.
REGS = (0.03, 0.3, 3.0, 30.0)


@dataclass(frozen=True, eq=False, repr=False)
class Recovery(Tabular):
    """Held-out retrieval by one way to relate two views.

    Parameters
    ----------
    kind : {"align", "predict", "as they are"}
        A common space, a regression of one view on the other, or neither.
    name : str
        Name of the way with its direction.
    method : str
        Name of the method in the registry.
    settings : str
        Settings that were chosen on a part of the training pairs.
    evaluation : Evaluation
        Retrieval of the held-out pairs.
    """

    kind: str
    name: str
    method: str
    settings: str
    evaluation: Evaluation

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of the evaluation.

        Returns
        -------
        list of dict
            Keys ``direction, metric, value, low, high, n_queries, n_excluded``.
        """
        return self.evaluation.rows()

    def _title(self) -> str:
        return f"Recovery by {self.name} ({self.kind}), {self.method} with {self.settings}"


@validated(random_state=["random_state"], progress=[callable, None])
def recoveries(
    train: Views,
    test: Views,
    *,
    random_state: Any = 0,
    progress: Callable[[float], object] | None = None,
) -> list[Recovery]:
    """Compare CCA with regressions of either view on the other, by held-out retrieval [1]_.

    CCA maps both views, and discards what is not correlated in either. A ridge regression maps one
    view into the other, whose own geometry stays, at full rank or at a quarter of it. Which one
    recovers more depends on where the noise is. Ridge and rank are chosen on a fifth of the
    training groups, by the mean reciprocal rank.

    Parameters
    ----------
    train, test : Views
        Two views of the pairs to fit on, and to rank.
    random_state : int, RandomState or None, default=0
        Source of the choice of groups.
    progress : callable, optional
        Called after each method with its share of the work.

    Returns
    -------
    list of Recovery
        CCA, the regressions in both directions, and if both views have the same number of columns,
        their cosine as they are.

    Raises
    ------
    ValueError
        If there are not two views of vectors.

    References
    ----------
    .. [1] "Align or predict", arXiv 2606.11190.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit import Views
    >>> Z = np.random.default_rng(0).normal(size=(200, 4))
    >>> views = Views(image=Z, text=Z @ np.triu(np.ones((4, 4))))
    >>> [found.name for found in recoveries(views[:150], views[150:])]
    ['CCA', 'regression image → text', 'regression text → image', 'cosine as they are']
    """
    first, second = fitted_and_held_out(train, test, "recoveries")
    splitter = PairShuffleSplit(1, test_size=0.2, random_state=draw_seed(random_state))
    inner, held_out = next(splitter.split(train))
    roles = dict(zip(RidgeMap.card.roles, (first, second)))
    widths = [train.distinct(name)[0].shape[1] for name in (first, second)]
    rank = max(1, min(widths) // 4)
    ways = [("align", "CCA", [("cca", f"reg {reg:g}", CCA(reg=reg)) for reg in REGS])]
    for way, source, target in (("forward", first, second), ("backward", second, first)):
        whole = [("ridge-map", f"reg {reg:g}", RidgeMap(way, reg, views=roles)) for reg in REGS]
        reduced = [
            ("reduced-rank", f"reg {reg:g}, rank {rank}", ReducedRank(rank, way, reg, views=roles))
            for reg in REGS[1:3]
        ]
        ways.append(("predict", f"regression {source} → {target}", [*whole, *reduced]))
    if widths[0] == widths[1]:
        settings = {"as given": Identity(), "centred": Identity(center=True)}
        plain = [("identity", words, method) for words, method in settings.items()]
        ways.append(("as they are", "cosine as they are", plain))

    def measured(method: Any, fit: Views, rest: Views, ci: float | None) -> Evaluation:
        fitted = clone(method).fit(fit)
        return ranked(rest, fitted.similarity(rest, query=first, gallery=second), ci=ci)

    found = []
    for kind, name, candidates in ways:
        values = [
            measured(method, train[inner], train[held_out], None).mean(None, METRICS[-1])
            for _, _, method in candidates
        ]
        card, words, method = candidates[values.index(max(values))]
        found.append(Recovery(kind, name, card, words, measured(method, train, test, 0.95)))
        if progress is not None:
            progress(1 / len(ways))
    return found


def estimate_of(evaluation: Evaluation, test: Views, metric: str = METRICS[-1]) -> Estimate:
    """Return the mean of a measure over both directions, with its interval and chance level."""
    names = (test.names[0], test.names[1])
    chance = chance_level(test.relevance(*names), [metric], names=names)
    value = evaluation.mean(None, metric)
    return Estimate(value, *Repeats([evaluation]).interval(None, metric), chance.mean(None, metric))
