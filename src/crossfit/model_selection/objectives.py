"""The measures of a search: scores on held-out rows, and what a fitted method costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState
from sklearn.utils.metadata_routing import get_routing_for_object

from crossfit._arguments import is_word, shown
from crossfit._sizes import COSTS, dimensions_of, parameters_of
from crossfit._suggest import did_you_mean
from crossfit.model_selection.scorers import make_retrieval_scorer
from crossfit.views import Views

__all__ = ["Measures", "as_score"]

Scorer = Callable[..., float]


@dataclass(frozen=True)
class Measures:
    """Measures of every trial of a search, and those of them that the search optimises.

    Parameters
    ----------
    scorers : mapping of str to callable or str
        Scorers, larger is better, or names of `COSTS`, smaller is better.
    main : str
        Name of the score that decides.
    objectives : tuple of str
        Names of the measures that the study optimises.
    several : bool, default=True
        Whether there are measures besides the main one, which trials record.
    """

    scorers: Mapping[str, Scorer | str]
    main: str
    objectives: tuple[str, ...]
    several: bool = True

    @classmethod
    def read(
        cls, scoring: Any, objectives: Sequence[str] | None, refit: Any, labelled: bool
    ) -> Measures:
        """Return the measures of the parameters of a search, checked."""
        several = isinstance(scoring, Mapping) or (
            isinstance(scoring, (list, tuple)) and not callable(scoring)
        )
        if not several:
            which = "objectives" if objectives is not None else f"refit={shown(refit)}"
            if objectives is not None or isinstance(refit, str):
                raise ValueError(
                    f"{which} chooses among several measures, but scoring is {shown(scoring)}; "
                    "give a mapping of names to metrics"
                )
            if scoring is None:
                scoring = "map@all" if labelled else "mrr"
            if is_word(scoring, COSTS):
                raise ValueError(f"scoring has only the cost {scoring!r}; give at least one metric")
            return cls({"score": _scorer("score", scoring)}, "score", ("score",), False)
        named = scoring if isinstance(scoring, Mapping) else {each: each for each in scoring}
        if not named:
            raise ValueError("scoring is empty; give at least one metric")
        for name in named:
            if not isinstance(name, str) or not name:
                raise TypeError(f"names of scoring must be strings, got {shown(name)}")
        scorers = {name: _scorer(name, each) for name, each in named.items()}
        scores = [name for name, each in scorers.items() if not isinstance(each, str)]
        if not scores:
            raise ValueError(
                f"scoring has only costs ({', '.join(scorers)}); give at least one metric"
            )
        main = refit if isinstance(refit, str) else scores[0]
        if main not in scores:
            raise ValueError(
                f"refit must name a score, {' or '.join(map(repr, scores))}, got {shown(main)}"
                f"{did_you_mean(main, scores)}"
            )
        if objectives is None:
            return cls(scorers, main, (main,))
        for name in objectives:
            if not is_word(name, scorers):
                raise ValueError(
                    f"objectives must be names of scoring ({', '.join(scorers)}), got {shown(name)}"
                )
        if len(set(objectives)) != len(objectives):
            raise ValueError(f"objectives names one measure twice: {', '.join(objectives)}")
        if main not in objectives:
            raise ValueError(
                f"objectives must include {main!r}, by which the winner is chosen, got "
                f"{', '.join(objectives) or 'none'}"
            )
        return cls(scorers, main, tuple(objectives))

    @property
    def directions(self) -> list[Literal["minimize", "maximize"]]:
        """The directions of the study, one for each objective."""
        costs = [isinstance(self.scorers[name], str) for name in self.objectives]
        return ["minimize" if cost else "maximize" for cost in costs]

    @property
    def hashed(self) -> Any:
        """The part of the identity of a study that stands for its measures."""
        return (list(self.scorers.items()), self.objectives) if self.several else self.scorer

    @property
    def scorer(self) -> Scorer:
        """The scorer of the main measure."""
        found = self.scorers[self.main]
        assert not isinstance(found, str)
        return found

    def others(
        self,
        estimator: Any,
        views: Views,
        y: NDArray[Any] | None,
        more: Mapping[str, Any],
        seconds: float,
    ) -> dict[str, float]:
        """Return all measures of a fitted estimator but the main one.

        `more` has the metadata of the rows, of which a scorer is given what it requests.
        """
        found: dict[str, float] = {}
        for name, each in self.scorers.items():
            if name == self.main:
                continue
            if isinstance(each, str):
                found[name] = _cost(each, estimator, views, seconds)
            else:
                wanted = get_routing_for_object(each).consumes("score", more) if more else ()
                given = {key: more[key] for key in wanted}
                found[name] = as_score(each(estimator, views, y, **given), name)
        return found

    def value_of(self, trial: FrozenTrial) -> float:
        """Return the main measure of a complete trial."""
        return float(trial.values[self.objectives.index(self.main)])

    def front(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Return the complete trials that no other one dominates, best by the main measure first.

        A trial dominates another if it is better in one objective and worse in none. Of trials
        with equal values only the first is kept.
        """
        complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
        signs = np.array([1.0 if way == "maximize" else -1.0 for way in self.directions])
        values = np.array([trial.values for trial in complete]).reshape(len(complete), -1) * signs
        kept = [
            i
            for i, own in enumerate(values)
            if not any(
                (other >= own).all() and ((other > own).any() or j < i)
                for j, other in enumerate(values)
                if j != i
            )
        ]
        return sorted((complete[i] for i in kept), key=self.value_of, reverse=True)


def _scorer(name: str, given: Any) -> Scorer | str:
    if isinstance(given, type) or not (isinstance(given, str) or callable(given)):
        what = "scoring" if name == "score" else f"scoring[{name!r}]"
        raise TypeError(f"{what} must be a metric or a function, got {shown(given)}")
    if isinstance(given, str):
        return given if given in COSTS else make_retrieval_scorer(given)
    return given  # type: ignore[no-any-return]


def _cost(cost: str, estimator: Any, views: Views, seconds: float) -> float:
    if cost == "seconds":
        return seconds
    found = parameters_of(estimator) if cost == "parameters" else dimensions_of(estimator, views)
    if found is None:
        has = "a network" if cost == "parameters" else "a common space of vectors"
        raise TypeError(f"scoring has {cost!r}, but {type(estimator).__name__} does not have {has}")
    return float(found)


def as_score(found: Any, name: str = "the score") -> float:
    """Return a score as a float, checked to be a finite number."""
    try:
        value = float(found)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"scoring must return a number, got {shown(found)}") from None
    if not np.isfinite(value):
        raise ValueError(f"{name} is {value}, which is not finite")
    return value
