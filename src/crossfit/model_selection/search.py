"""OptunaSearch: tune a method or a whole pipeline over Views."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import optuna
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.model_selection import GroupKFold

from crossfit import registry
from crossfit.cards import suggest
from crossfit.model_selection.scorers import make_retrieval_scorer
from crossfit.views import Views

__all__ = ["OptunaSearch"]


class OptunaSearch(MetaEstimatorMixin, BaseEstimator):
    """Tune a method or a pipeline (thin version, being widened)."""

    def __init__(
        self,
        estimator: Any,
        search_space: Mapping[str, Any] | str = "default",
        *,
        scoring: Any = None,
        cv: Any = 3,
        n_trials: int | None = 50,
        timeout: float | None = None,
        sampler: Any = None,
        pruner: Any = None,
        storage: Any = None,
        study_name: str | None = None,
        load_if_exists: bool = True,
        n_jobs: int = 1,
        random_state: int | None = None,
        refit: bool = True,
        refit_epochs: bool = False,
        verbose: bool | int | str = "auto",
    ) -> None:
        self.estimator = estimator
        self.search_space = search_space
        self.scoring = scoring
        self.cv = cv
        self.n_trials = n_trials
        self.timeout = timeout
        self.sampler = sampler
        self.pruner = pruner
        self.storage = storage
        self.study_name = study_name
        self.load_if_exists = load_if_exists
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.refit = refit
        self.refit_epochs = refit_epochs
        self.verbose = verbose

    def fit(self, X: Views, y: ArrayLike | None = None, groups: ArrayLike | None = None) -> Self:
        """Search, then fit the winner on all rows."""
        labels = None if y is None else np.asarray(y)
        space = self.search_space
        if space == "default":
            steps = getattr(self.estimator, "steps", [("", self.estimator)])
            space = {}
            for name, step in steps:
                try:
                    card: Any = registry.card_of(type(step))
                except registry.RegistryError:
                    continue
                prefix = f"{name}__" if name else ""
                space |= {prefix + key: part for key, part in card.search_space.items()}
        scorer = self.scoring
        if scorer is None or isinstance(scorer, str):
            scorer = make_retrieval_scorer(scorer or ("mrr" if y is None else "map@all"))
        held_out = isinstance(self.cv, tuple) and isinstance(self.cv[0], Views)
        if held_out:
            folds = [(X, labels, *self.cv)]
        else:
            pairs = (
                GroupKFold(self.cv).split(np.zeros(len(X)), groups=X.groups)
                if isinstance(self.cv, int)
                else self.cv.split(X, y, X.groups)
                if hasattr(self.cv, "split")
                else self.cv
            )
            folds = [
                (
                    X[a],
                    None if labels is None else labels[a],
                    X[b],
                    None if labels is None else labels[b],
                )
                for a, b in pairs
            ]

        def objective(trial: Any) -> float:
            values = []
            for step, (train, y_train, valid, y_valid) in enumerate(folds):
                found = clone(self.estimator).set_params(**suggest(space, trial))
                values.append(scorer(found.fit(train, y_train), valid, y_valid))
                trial.report(float(np.mean(values)), step)
            return float(np.mean(values))

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.study_ = optuna.create_study(
            storage=self.storage,
            study_name=self.study_name,
            load_if_exists=self.load_if_exists,
            direction="maximize",
            sampler=optuna.samplers.TPESampler(seed=self.random_state),
        )
        done = len(self.study_.trials)
        left = None if self.n_trials is None else max(0, self.n_trials - done)
        self.study_.optimize(objective, n_trials=left, timeout=self.timeout, catch=(ValueError,))
        self.trials_ = self.study_.trials
        self.best_score_ = self.study_.best_value
        self.best_params_ = suggest(space, optuna.trial.FixedTrial(self.study_.best_params))
        if self.refit:
            self.best_estimator_ = clone(self.estimator).set_params(**self.best_params_)
            self.best_estimator_.fit(X, y)
        return self
