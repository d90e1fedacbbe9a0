"""The sampler that tries every combination of a space, each once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.trial import FixedTrial, FrozenTrial, TrialState, create_trial

from crossfit.search_space import Space, suggest

__all__ = ["ExhaustiveSampler", "counts", "is_complete"]


def counts(trial: FrozenTrial, running: bool = True) -> bool:
    """Return True if a trial counts towards the number of trials of a search.

    Parameters
    ----------
    trial : optuna.trial.FrozenTrial
        A trial of a study.
    running : bool, default=True
        Whether those under way count.

    Returns
    -------
    bool
        Finished and pruned trials count, and those that failed for a reason; those that were killed
        or withdrawn do not.
    """
    if trial.state is TrialState.FAIL:
        return "reason" in trial.user_attrs
    if trial.state is TrialState.RUNNING:
        return running
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED)


def is_complete(space: Space, params: Mapping[str, Any]) -> bool:
    """Return True if parameters, as a study records them, are settings of a space.

    Parameters
    ----------
    space : mapping of str to Float, Int, Choice or Each
        The search space.
    params : mapping of str to object
        Recorded values.

    Returns
    -------
    bool
        False if one is missing, or is not an option of its `Choice`.
    """
    try:
        suggest(space, FixedTrial(dict(params)))
    except ValueError:
        return False
    return True


class ExhaustiveSampler(optuna.samplers.BaseSampler):
    """Draw as a ``BruteForceSampler`` that is shown only trials which used up their settings.

    To Optuna's sampler every failed trial has used up its settings, also one that was killed,
    interrupted or withdrawn; and if it ended before all its settings were drawn, its settings seem
    to be those of another space, which is an error.

    Parameters
    ----------
    sampler : optuna.samplers.BruteForceSampler
        The sampler that draws.
    space : mapping of str to Float, Int, Choice or Each
        The search space.
    """

    def __init__(self, sampler: optuna.samplers.BruteForceSampler, space: Space) -> None:
        self._sampler = sampler
        self._space = space
        self._complete: dict[int, bool] = {}

    def reseed_rng(self) -> None:
        """Draw a new seed, in a copy for another process."""
        self._sampler.reseed_rng()

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return an empty mapping, since parameters are drawn one after the other."""
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return an empty mapping."""
        return {}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Return a value with which settings are left that were not tried yet."""
        others = [other for other in self._tried(study) if other.number != trial.number]
        known, current = _study_of([*others, trial])
        return self._sampler.sample_independent(known, current, param_name, param_distribution)

    def is_exhausted(self, study: optuna.Study) -> bool:
        """Return True if all settings were tried, or are being tried.

        Parameters
        ----------
        study : optuna.Study
            The study.

        Returns
        -------
        bool
        """
        # Optuna's sampler concludes from a trial that has all its parameters.
        tried = sorted(self._tried(study), key=self._is_complete)
        if not tried or not self._is_complete(tried[-1]):
            return False
        known, last = _study_of(tried)
        stopped: list[bool] = []
        known.stop = lambda: stopped.append(True)  # type: ignore[method-assign]
        self._sampler.after_trial(known, last, TrialState.FAIL, None)
        return bool(stopped)

    def _tried(self, study: optuna.Study) -> list[FrozenTrial]:
        """Return the trials that count and have all their parameters, and those under way."""
        trials = study.get_trials(deepcopy=False)
        return [
            trial
            for trial in trials
            if counts(trial)
            and trial.params
            and (trial.state is TrialState.RUNNING or self._is_complete(trial))
        ]

    def _is_complete(self, trial: FrozenTrial) -> bool:
        if trial.state is TrialState.RUNNING:  # it may be given further parameters
            return is_complete(self._space, trial.params)
        if trial.number not in self._complete:
            self._complete[trial.number] = is_complete(self._space, trial.params)
        return self._complete[trial.number]


def _study_of(trials: Sequence[FrozenTrial]) -> tuple[optuna.Study, FrozenTrial]:
    """Return a study in memory with the parameters of trials, and its last trial."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study()
    finally:
        optuna.logging.set_verbosity(level)
    for trial in trials:
        running = trial.state is TrialState.RUNNING
        distributions = {name: _listable(one) for name, one in trial.distributions.items()}
        study.add_trial(
            create_trial(
                state=TrialState.RUNNING if running else TrialState.FAIL,
                params=trial.params,
                distributions=distributions,
            )
        )
    return study, study.get_trials(deepcopy=False)[-1]


def _listable(distribution: BaseDistribution) -> BaseDistribution:
    """Return a distribution whose values Optuna's sampler can list, if there is only one."""
    if isinstance(distribution, FloatDistribution) and distribution.single():
        return FloatDistribution(distribution.low, distribution.high, step=1.0)
    return distribution
