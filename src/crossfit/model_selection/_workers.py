"""Processes that run the trials of one study, side by side or one after another."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from numbers import Real
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from crossfit._arguments import shown
from crossfit._arrays import NUMPY_DEFAULTS
from crossfit._processes import end_with
from crossfit._progress import progress_bar
from crossfit._suggest import did_you_mean
from crossfit.model_selection import storages
from crossfit.model_selection._trials import Objective, SurplusError, TrialFailedError
from crossfit.model_selection.exhaustive import counts, is_complete
from crossfit.search_space import Choice, Each, Part, Space

__all__ = [
    "calm",
    "check_queue",
    "fail_dead_trials",
    "level_of",
    "n_trials_of",
    "quiet",
    "work",
]

# The attribute of a study that names a sampler without further settings.
_EXHAUSTED = "crossfit_exhausted"
# Seconds between two checks whether other processes have finished their trials.
_POLL = 0.2
# The logger of the connections of SQLite files and of servers.
_POOL = "sqlalchemy.pool.impl.QueuePool"


def work(
    storage: Any,
    study_name: str,
    objective: Objective,
    deadline: float | None,
    verbose: bool | int | str,
    sampler: optuna.samplers.BaseSampler,
    pruner: optuna.pruners.BasePruner,
    callbacks: Sequence[Callable[[optuna.Study, FrozenTrial], None]] | None,
    parent: int,
) -> None:
    """Run trials until the study has the requested number, in this and other processes."""
    end_with(parent)
    wanted, done = objective.n_trials, 0
    with quiet(verbose), storages.as_connection_errors(lambda: done):
        with calm(verbose):
            study = optuna.load_study(
                study_name=study_name, storage=storage, sampler=sampler, pruner=pruner
            )
        # Each call of optimize runs one trial, but a sampler that stops must end the whole search.
        study.stop = lambda: study.set_user_attr(  # type: ignore[method-assign]
            _EXHAUSTED, type(sampler).__name__
        )
        with progress_bar(wanted or 0, "tuning", "trial", verbose) as bar:
            while deadline is None or time.time() < deadline:
                done = n_trials_of(study, running=False)
                bar.update(done - bar.n)
                if wanted is not None and done >= wanted:
                    break
                exhausted = _is_exhausted(study)
                running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
                if exhausted and not running:
                    if not _queue_lost(study, objective.space):
                        break
                elif not exhausted and (wanted is None or n_trials_of(study) < wanted):
                    storages.wait_for(storage)
                    try:
                        with calm(verbose):
                            study.optimize(
                                objective,
                                n_trials=1,
                                catch=(TrialFailedError, SurplusError),
                                callbacks=list(callbacks or ()),
                            )
                    except (
                        ValueError,
                        AssertionError,
                        optuna.exceptions.UpdateFinishedTrialError,
                    ) as error:
                        # Another process has finished the trial: it marked it as failed because
                        # this one was suspended for a while and seemed dead, or both took it from
                        # the queue at the same moment, which SQLite does not prevent. Optuna
                        # reports this in three ways (the assertion is in its log of the trial);
                        # the search continues.
                        finished = isinstance(error, optuna.exceptions.UpdateFinishedTrialError)
                        told = f"{error} {error.__context__}"
                        if not finished and not re.search("Cannot tell a (FAIL|COMPLETE)", told):
                            raise
                elif not _heartbeats(storage):
                    break
                else:  # other processes run the last trials; those of killed ones are run here
                    time.sleep(_POLL)
                    fail_dead_trials(study)


def _is_exhausted(study: optuna.Study) -> bool:
    """Return True if no trial is queued and the sampler has no further settings."""
    if study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        return False
    drawn = getattr(study.sampler, "is_exhausted", None)
    if drawn is not None:
        return bool(drawn(study))
    return bool(study.user_attrs.get(_EXHAUSTED) == type(study.sampler).__name__)


def _queue_lost(study: optuna.Study, space: Space) -> bool:
    """Queue points of a ``GridSampler`` whose trials were killed or withdrawn; True if any.

    The sampler itself does not draw a point again.
    """
    if not isinstance(study.sampler, optuna.samplers.GridSampler):
        return False
    trials = study.get_trials(deepcopy=False)
    scored = [trial.params for trial in trials if counts(trial)]
    lost: list[dict[str, Any]] = []
    for trial in trials:
        at_point = "grid_id" in trial.system_attrs and is_complete(space, trial.params)
        if at_point and trial.params not in [*scored, *lost]:
            lost.append(trial.params)
            study.enqueue_trial(trial.params)
    return bool(lost)


def check_queue(study: optuna.Study, space: Mapping[str, Part]) -> None:
    """Check that queued trials set only searched parameters, to values as the study records."""
    parts: dict[str, Any] = {}
    for name, part in space.items():
        if isinstance(part, Each):
            parts |= {f"{name}.{key}": part.part for key in part.keys}
        else:
            parts[name] = part
    for trial in study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        for name, value in trial.system_attrs.get("fixed_params", {}).items():
            what = f"a trial in the queue of {study.study_name!r}"
            if name not in parts:
                raise ValueError(
                    f"{what} sets {name!r}, which is not searched{did_you_mean(name, parts)}"
                )
            part = parts[name]
            if isinstance(part, Choice):
                if value not in part.recorded:
                    raise ValueError(
                        f"{what} sets {name!r} to {shown(value)}; use one of the recorded values, "
                        f"{', '.join(map(repr, part.recorded))}"
                    )
            elif not isinstance(value, Real) or not np.isfinite(float(value)):
                raise ValueError(f"{what} sets {name!r} to {shown(value)}, which is not a number")


def _heartbeats(storage: Any) -> bool:
    """Return True if trials of killed processes can be detected in the storage."""
    interval = getattr(storage, "get_heartbeat_interval", None)
    return interval is not None and interval() is not None


def fail_dead_trials(study: optuna.Study) -> None:
    """Mark unfinished trials of killed processes as failed, so that others take their place."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        optuna.storages.fail_stale_trials(study)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        # Optuna does not detect a process that was killed before its first heartbeat. Its trial
        # does not have parameters yet.
        age = datetime.now() - trial.datetime_start if trial.datetime_start else timedelta()
        if not trial.params and age.total_seconds() > storages.GRACE:
            with contextlib.suppress(ValueError, optuna.exceptions.UpdateFinishedTrialError):
                study.tell(trial.number, state=TrialState.FAIL)  # unless it has finished by now


def n_trials_of(study: optuna.Study, running: bool = True) -> int:
    return sum(counts(trial, running) for trial in study.get_trials(deepcopy=False))


def level_of(verbose: bool | int | str) -> int:
    return 0 if isinstance(verbose, str) else int(verbose)


@contextlib.contextmanager
def quiet(verbose: bool | int | str) -> Iterator[None]:
    """Silence Optuna's messages inside the block, or show them from ``verbose=2``."""
    before = optuna.logging.get_verbosity()
    # Below, not even Optuna's warnings of failed trials are shown: trials store their reasons.
    level = optuna.logging.INFO if level_of(verbose) >= 2 else optuna.logging.ERROR
    optuna.logging.set_verbosity(level)
    thread = threading.get_ident()

    def without_traceback(record: logging.LogRecord) -> bool:
        # Trials store their tracebacks. Studies of other threads are left as they are.
        if record.thread == thread:
            record.exc_info = None
        return True

    logger, pool = logging.getLogger("optuna.study._optimize"), logging.getLogger(_POOL)
    logger.addFilter(without_traceback)
    pool.addFilter(_without_interrupts)
    try:
        yield
    finally:
        pool.removeFilter(_without_interrupts)
        logger.removeFilter(without_traceback)
        optuna.logging.set_verbosity(before)


def _without_interrupts(record: logging.LogRecord) -> bool:
    """Return False for a cursor that was not closed because Ctrl-C had closed its database."""
    return not (record.exc_info and storages.follows_interrupt(record.exc_info[1]))


@contextlib.contextmanager
def calm(verbose: bool | int | str) -> Iterator[None]:
    """Prevent the user's warning filters and NumPy error state from raising inside the block."""
    with warnings.catch_warnings(), np.errstate(**NUMPY_DEFAULTS):
        warnings.simplefilter("default" if level_of(verbose) >= 2 else "ignore")
        yield
