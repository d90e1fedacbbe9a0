"""One trial of a search: settings that are drawn, fitted on each fold and scored."""

from __future__ import annotations

import contextlib
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any

import numpy as np
import optuna
import sklearn
from numpy.typing import NDArray
from optuna.trial import BaseTrial, FrozenTrial, TrialState
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import get_routing_for_object
from sklearn.utils.validation import _check_method_params

from crossfit.model_selection.exhaustive import ExhaustiveSampler, counts, is_complete
from crossfit.model_selection.objectives import Measures, as_score
from crossfit.querying import answering
from crossfit.search_space import Space, suggest
from crossfit.views import Views

__all__ = [
    "DEFAULTS",
    "Fold",
    "Objective",
    "Rows",
    "SurplusError",
    "TrialFailedError",
    "cloned",
    "routes",
    "settings_of",
]

#: The attribute of the trial with the settings of the estimator: its values outside the space.
DEFAULTS = "defaults"
# Seconds after which a trial has drawn its settings, and between two looks.
_DRAWN, _POLL = 10.0, 0.02


class TrialFailedError(Exception):
    """Raised if a trial fails; its reason is stored and the search continues."""


class SurplusError(Exception):
    """Raised if a trial was begun while another process was beginning the last one."""


@dataclass(frozen=True)
class Rows:
    """Rows of Views with their labels and other arguments by row; all rows by default."""

    views: Views
    y: NDArray[Any] | None
    rows: NDArray[np.int64] | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    def taken(self) -> tuple[Views, NDArray[Any] | None]:
        if self.rows is None:
            return self.views, self.y
        return self.views[self.rows], None if self.y is None else self.y[self.rows]

    def arguments(self) -> dict[str, Any]:
        return _check_method_params(self.views, self.more, self.rows)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Fold:
    train: Rows
    valid: Rows


@dataclass(frozen=True)
class Objective:
    """Mean score of a trial over folds, each fitted on one part and scored on the other."""

    estimator: Any
    space: Mapping[str, Any]
    measures: Measures
    folds: list[Fold]
    n_trials: int | None
    prunes: bool
    refit_epochs: bool
    verbose: int
    catch: tuple[type[Exception], ...] = ()

    def with_fixed_steps_done(self) -> Objective:
        """Return an objective in which the leading steps without searched parameters are done.

        They are run once per fold, instead of once per fold and trial.
        """
        if not isinstance(self.estimator, Pipeline):
            return self
        names = [name for name, _ in self.estimator.steps]
        touched = [name.partition("__")[0] for name in self.space]
        if any(name not in names for name in touched):
            return self  # a parameter of the pipeline itself, such as memory
        first = min(map(names.index, touched))
        if first == 0:
            return self
        folds = []
        for fold in self.folds:
            head = clone(self.estimator[:first])
            train, y = fold.train.taken()
            valid, y_valid = fold.valid.taken()
            given, of_score = fold.train.arguments(), fold.valid.arguments()
            transformed = head.fit_transform(train, y, **_taken(head, "fit_transform", given))
            folds.append(
                Fold(
                    Rows(transformed, y, more=_taken(self.estimator[first:], "fit", given)),
                    Rows(head.transform(valid), y_valid, more=of_score),
                )
            )
        return replace(self, estimator=clone(self.estimator[first:]), folds=folds)

    def __call__(self, trial: optuna.Trial) -> float | list[float]:
        try:
            return self._value(trial)
        except (optuna.exceptions.OptunaError, SurplusError):  # or pruned, or no storage
            raise
        except Exception as error:
            trial.set_user_attr("traceback", traceback.format_exc())
            # An estimator may need a parameter that only the search sets, and fail without it in
            # any way.
            kept = trial.user_attrs.get(DEFAULTS)
            if not kept and not isinstance(error, (*_failures(), *self.catch)):
                raise
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            trial.set_user_attr("reason", reason)
            raise TrialFailedError(reason) from error

    def _value(self, trial: optuna.Trial) -> float | list[float]:
        params = settings_of(self.space, trial, self.estimator, trial.user_attrs)
        # Withdrawn after it was drawn: samplers that list settings could not read a trial without
        # parameters.
        if reason := self._surplus(trial):
            raise SurplusError(reason)
        before = _with_same_settings(trial)
        if before is not None:
            if before.state is TrialState.PRUNED:
                raise optuna.TrialPruned(f"as trial {before.number} with the same settings")
            for name in {"fold_scores", "epochs", "scores"} & set(before.user_attrs):
                trial.set_user_attr(name, before.user_attrs[name])
            return list(before.values)
        scores: list[float] = []
        others: list[dict[str, float]] = []
        of_folds: list[_EpochScores] = []
        for number, fold in enumerate(self.folds):
            estimator = clone(self.estimator).set_params(**cloned(params))
            train, y_train = fold.train.taken()
            valid, y_valid = fold.valid.taken()
            epochs = _EpochScores(self, estimator, (train, y_train), (valid, y_valid))
            epochs.trial = trial if self.prunes and number == 0 else None
            begun = time.perf_counter()
            with epochs.recording():
                estimator.fit(train, y_train, **fold.train.arguments())
            seconds, more = time.perf_counter() - begun, fold.valid.arguments()
            scores.append(self.score(estimator, valid, y_valid, more))
            others.append(self.measures.others(estimator, valid, y_valid, more, seconds))
            of_folds.append(epochs)
            mean = float(np.mean(scores))
            if self.prunes and not of_folds[0].curve and number + 1 < len(self.folds):
                trial.report(mean, number)
                if trial.should_prune():
                    trial.set_user_attr("fold_scores", scores)
                    raise optuna.TrialPruned(f"after {number + 1} of {len(self.folds)} folds")
        if self.refit_epochs:
            scores = self._best_epoch(trial, of_folds)
        trial.set_user_attr("fold_scores", scores)
        means = {self.measures.main: float(np.mean(scores))}
        means |= {name: float(np.mean([each[name] for each in others])) for name in others[0]}
        if self.measures.several:
            trial.set_user_attr("scores", {name: means[name] for name in self.measures.scorers})
        return [means[name] for name in self.measures.objectives]

    def _surplus(self, trial: optuna.Trial) -> str:
        """Return why a trial is one too many, because of other processes; empty if it is not."""
        listed = isinstance(trial.study.sampler, ExhaustiveSampler)
        if listed:
            self._wait_for_earlier(trial)
        trials = trial.study.get_trials(deepcopy=False)
        earlier = [other for other in trials if other.number < trial.number and counts(other)]
        if self.n_trials is not None and len(earlier) >= self.n_trials:
            return "another process has begun the last trial"
        mine = next(other for other in trials if other.number == trial.number)
        if DEFAULTS in mine.user_attrs and any(DEFAULTS in t.user_attrs for t in earlier):
            return "another process has begun the settings of the estimator"
        if listed and not _is_queued(mine):
            ended = [other for other in trials if counts(other, running=False)]
            if any(other.params == mine.params for other in [*earlier, *ended]):
                return "another process has begun the last settings"
        return ""

    def _wait_for_earlier(self, trial: optuna.Trial) -> None:
        """Wait until the trials before this one have drawn their settings, which takes moments.

        Two processes that draw at the same time may draw the same; the later one withdraws its
        trial, and for that must see what the earlier one drew.
        """
        running = (TrialState.RUNNING,)
        limit = time.monotonic() + _DRAWN
        while time.monotonic() < limit:
            now = datetime.now()
            if not any(
                other.number < trial.number
                and not is_complete(self.space, other.params)
                # An older one belongs to a process that was killed, or to another program.
                and other.datetime_start is not None
                and (now - other.datetime_start).total_seconds() < _DRAWN
                for other in trial.study.get_trials(deepcopy=False, states=running)
            ):
                return
            time.sleep(_POLL)

    def _best_epoch(self, trial: optuna.Trial, of_folds: list[_EpochScores]) -> list[float]:
        """Store the epoch whose mean score over the folds is best; return its scores."""
        if not all(epochs.curve for epochs in of_folds):
            raise TypeError(
                "refit_epochs needs a method of crossfit.neural, alone or as a step of a pipeline; "
                "the scores of its epochs were not received"
            )
        # A fold may have stopped early, so only epochs that all folds reached are compared.
        shortest = min(len(epochs.curve) for epochs in of_folds)
        curves = np.array([epochs.curve[:shortest] for epochs in of_folds])
        best = int(np.argmax(curves.mean(axis=0)))
        trial.set_user_attr("epochs", {of_folds[0].parameter: best + 1})
        return [float(score) for score in curves[:, best]]

    def score(
        self,
        estimator: Any,
        views: Views,
        y: NDArray[Any] | None,
        more: Mapping[str, Any] = MappingProxyType({}),
    ) -> float:
        """Return the score on held-out rows, checked to be a finite number."""
        return as_score(self.measures.scorer(estimator, views, y, **more))


def settings_of(
    space: Space, trial: BaseTrial, estimator: Any, user_attrs: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the settings of a trial, with values of the estimator where it draws none."""
    kept = user_attrs.get(DEFAULTS, ())
    own = estimator.get_params(deep=True) if kept else {}
    return suggest(space, trial, fixed={name: own[name] for name in kept})


def _is_queued(trial: FrozenTrial) -> bool:
    return "fixed_params" in trial.system_attrs


def _with_same_settings(trial: optuna.Trial) -> FrozenTrial | None:
    """Return an earlier trial of the study with the same settings that was scored or pruned."""
    ended = (TrialState.COMPLETE, TrialState.PRUNED)
    trials = trial.study.get_trials(deepcopy=False, states=ended)
    return next((other for other in trials if other.params == trial.params), None)


@dataclass
class _EpochScores:
    """Scores of a neural method on held-out rows, one at the end of every epoch."""

    objective: Objective
    estimator: Any
    train: tuple[Views, NDArray[Any] | None]
    valid: tuple[Views, NDArray[Any] | None]
    trial: optuna.Trial | None = None
    curve: list[float] = field(default_factory=list)
    parameter: str = ""

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        # A program with a neural method has imported this module; for other methods the import
        # would load torch.
        training = sys.modules.get("crossfit.neural.training")
        if training is None or not (self.trial is not None or self.objective.refit_epochs):
            yield
            return
        with training.listening(self):
            yield

    def __call__(self, fitting: Any, epoch: int, record: Mapping[str, Any]) -> None:
        if not self.curve and not self._place(fitting):
            return
        self.curve.append(self._score(fitting))
        if self.trial is None:
            return
        self.trial.report(self.curve[-1], epoch)
        done = len(self.objective.folds) == 1 and epoch >= getattr(fitting, "max_epochs", np.inf)
        if not done and self.trial.should_prune():
            self.trial.set_user_attr("fold_scores", [self.curve[-1]])
            raise optuna.TrialPruned(f"after epoch {epoch}")

    def _place(self, fitting: Any) -> bool:
        """Find the method in the pipeline, and transform the rows by the steps before it.

        Returns False if the method is not a step of the pipeline.
        """
        parts = {"": self.estimator, **self.estimator.get_params(deep=True)}
        # A pipeline with memory fits copies of its steps, which are then found by their class.
        path = next((name for name, part in parts.items() if part is fitting), None) or next(
            (name for name, part in parts.items() if type(part) is type(fitting)), None
        )
        if path is None:
            return False
        self.parameter = f"{path}__max_epochs" if path else "max_epochs"
        steps, last = answering(self.estimator)
        steps = [*steps, last]
        at = next((i for i, step in enumerate(steps) if step is parts[path]), None)
        if at is None:
            return False  # inside something other than a pipeline
        (train, y), (valid, y_valid) = self.train, self.valid
        for step in steps[:at]:
            train, valid = step.transform(train), step.transform(valid)
        self.train, self.valid = (train, y), (valid, y_valid)
        self._after = steps[at + 1 :]
        return True

    def _score(self, fitting: Any) -> float:
        valid, y_valid = self.valid
        if not self._after:
            return self.objective.score(fitting, valid, y_valid)
        # Later steps, for instance a scorer, are fitted on training rows, as in the pipeline.
        train, y = self.train
        after = clone(Pipeline([(str(i), step) for i, step in enumerate(self._after)]))
        after.fit(fitting.transform(train), y)
        whole = Pipeline([("fitting", fitting), *after.steps])
        return self.objective.score(whole, valid, y_valid)


def _failures() -> tuple[type[BaseException], ...]:
    """Return the errors that unsuitable parameters may cause (LinAlgError is a ValueError)."""
    torch = sys.modules.get("torch")
    out_of_memory = () if torch is None else (torch.OutOfMemoryError,)
    return (ValueError, ArithmeticError, MemoryError, *out_of_memory)


def routes() -> bool:
    """Return True if scikit-learn's metadata routing is enabled."""
    return bool(sklearn.get_config()["enable_metadata_routing"])


def _taken(steps: Pipeline, method: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that reach some of the steps of a pipeline."""
    if routes():
        names = get_routing_for_object(steps).consumes(method, given) if given else ()
    else:
        names = [name for name in given if name.partition("__")[0] in steps.named_steps]
    return {name: given[name] for name in names}


def cloned(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters with clones of estimators among them, since a fit would change them."""
    return {name: clone(value, safe=False) for name, value in params.items()}
