"""OptunaSearch: tune a method or a whole pipeline over Views."""

from __future__ import annotations

import contextlib
import copy
import os
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from types import ModuleType
from typing import Any, ClassVar, Self

import joblib
import numpy as np
import optuna
from numpy.typing import ArrayLike, NDArray
from optuna.trial import BaseTrial, FixedTrial, FrozenTrial, TrialState
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    process_routing,
)
from sklearn.utils.metaestimators import available_if
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_is_fitted, has_fit_parameter

from crossfit import registry
from crossfit._arguments import CheckedParameters, integer, not_views, one_of, real, shown
from crossfit._arrays import is_tensor
from crossfit._code import code_of
from crossfit._identities import identity_of
from crossfit._random import draw_seed
from crossfit._suggest import did_you_mean
from crossfit._warnings import warn_of_missing_labels
from crossfit.base import CrossModalEstimator
from crossfit.labels import check_labels
from crossfit.model_selection import storages
from crossfit.model_selection._trials import (
    DEFAULTS,
    Fold,
    Objective,
    Rows,
    cloned,
    routes,
    settings_of,
)
from crossfit.model_selection._workers import (
    calm,
    check_queue,
    level_of,
    n_trials_of,
    quiet,
    work,
)
from crossfit.model_selection.exhaustive import ExhaustiveSampler, counts
from crossfit.model_selection.objectives import Measures
from crossfit.model_selection.splitters import PairKFold, check_folds
from crossfit.querying import answering, encode, similarity
from crossfit.search_space import (
    Choice,
    Each,
    Part,
    Space,
    check_parts,
    check_space,
    located,
    remaining,
    renamed,
    size_of,
)
from crossfit.views import Views, is_views

__all__ = ["OptunaSearch", "default_search_space"]

SAMPLERS: dict[str, type[optuna.samplers.BaseSampler]] = {
    "tpe": optuna.samplers.TPESampler,
    "random": optuna.samplers.RandomSampler,
    "grid": optuna.samplers.BruteForceSampler,
    "cmaes": optuna.samplers.CmaEsSampler,
    "gp": optuna.samplers.GPSampler,
    "nsga2": optuna.samplers.NSGAIISampler,
}
# The attribute of a study that holds hashes of what its results depend on, and the words for each
# difference.
_MARK = "crossfit"
_MARKS = {
    "data": "other data",
    "folds": "other folds",
    "space": "another search space",
    "metric": "another metric",
    "estimator": "another method or other fixed settings",
    "epochs": "another setting of refit_epochs",
    "code": "other code of the method",
}
# Parameters that do not affect scores.
_NEUTRAL = ("device", "memory", "n_jobs", "verbose")
# States of all trials but queued ones.
_BEGUN = tuple(state for state in TrialState if state is not TrialState.WAITING)


def default_search_space(estimator: Any) -> dict[str, Part]:
    """Return the search spaces of the cards of a method, or of all parts of a pipeline.

    Parameters
    ----------
    estimator : CrossModalEstimator, Pipeline or transformer
        Parts that have no card, or whose card has no search space, add nothing.

    Returns
    -------
    dict of str to Float, Int, Choice or Each
        Keys are parameters as ``set_params`` takes them, for instance
        ``features__text__lda__n_topics``.

    Raises
    ------
    TypeError
        If it is not an estimator.

    Examples
    --------
    >>> from crossfit.methods import CCA
    >>> sorted(default_search_space(CCA()))
    ['n_components', 'power', 'reg']
    """
    _check_estimator(estimator)
    parts = {"": estimator} | {
        f"{name}__": value
        for name, value in estimator.get_params(deep=True).items()
        if hasattr(value, "get_params") and not isinstance(value, type)
    }
    space: dict[str, Part] = {}
    for prefix, part in parts.items():
        card: Any = getattr(part, "card", None)
        if card is None:
            try:
                card = registry.card_of(type(part))
            except registry.RegistryError:
                continue
        space |= renamed(getattr(card, "search_space", {}), prefix.__add__)
    return space


def _is_fitted_embedding(search: OptunaSearch) -> bool:
    estimator = getattr(search, "best_estimator_", search.estimator)
    return hasattr(estimator, "transform")


class OptunaSearch(CheckedParameters, MetaEstimatorMixin, BaseEstimator):
    """Tune a method or a pipeline over Views with Optuna.

    Every trial is scored on rows that it was not fitted on. All trials use the same folds, which
    never divide a group (an image and its captions, the clips of a recording); the default folds
    also spread the labels evenly. The winner is fitted on all rows and can be used like any
    method.

    Parameters
    ----------
    estimator : CrossModalEstimator or Pipeline
        Never changed; every trial works on a clone.
    search_space : "default", or mapping of str to Float, Int, Choice or Each
        Parameter, as ``set_params`` names it, to a part of `crossfit.cards`. A ``when=`` names
        parameters in the same way. By default `default_search_space`.
    scoring : str, callable, sequence of str, or mapping of str to str or callable, optional
        A metric of `crossfit.metrics`, or ``(estimator, views, y) -> float``, larger is better.
        By default ``"map@all"`` with labels and ``"mrr"`` without. Several are a mapping of names
        to metrics, or a sequence of metrics; they may include the costs ``"seconds"`` (of a fit),
        ``"dimensions"`` (of the common space) and ``"parameters"`` (of networks), for which
        smaller is better. All are recorded; the first score, or that of `refit`, decides.
    objectives : sequence of str, optional
        Names of the measures that the study optimises together, for instance a score and a cost;
        by default only the one that decides.
    cv : int, splitter, iterable of (train, test), or (Views, labels)
        Number of folds (of a shuffled `PairKFold`), any splitter, row numbers, or Views held out
        for validation with their labels or None.
    n_trials : int, optional
        Total number of trials of the study, including those of earlier and parallel runs, and
        pruned and failed trials. Settings that a finished trial had have its score, without
        another fit.
    timeout : float, optional
        Seconds after which no new trial begins.
    sampler : {"tpe", "random", "grid", "cmaes", "gp", "nsga2"} or optuna sampler, optional
        Sampler that chooses the settings of the next trial; by default TPE, or the sampler of
        `study`. The others are CMA-ES (for numbers; needs the package cmaes), a Gaussian process
        (for few, slow trials) and NSGA-II (for several objectives). ``"grid"`` tries every
        combination of a space of `Choice` and `Int`, in random order, as TPE and ``"random"`` do
        if there are no more of them than trials. The search ends
        early if the sampler has no further settings (``GridSampler``).
    pruner : {"median", "none"} or optuna pruner, optional
        Pruner that stops trials early; by default none, or the pruner of `study`. It is given
        scores of held-out rows: of each epoch in the first fold for neural methods, and means over
        the completed folds for others.
    storage : str or optuna storage, optional
        Storage of the study: ``sqlite:///study.db``, ``postgresql://user@host/name``,
        ``journal:///study.log``, or any other that Optuna supports; by default in memory.
    study_name : str, optional
        Name of the study. With a storage it is by default derived from the method, the data, the
        folds, the metric and the space, so that the same search is resumed.
    load_if_exists : bool
        Whether to resume a study that exists; if False, an existing study is an error.
    study : optuna.Study, optional
        In place of `storage` and `study_name`: a study that maximises, new, of an earlier search,
        or with trials in its queue (``study.enqueue_trial``), which come first.
    defaults : bool
        Whether the first trial of a new study has the settings of `estimator` itself, so that the
        winner is not inferior to them on these folds. TPE and random search keep values that
        are not in the space, such as ``n_components=None``; with other samplers there is such a
        trial only if all values are in the space, and with a ``GridSampler`` there is none.
    n_jobs : int
        Number of processes that share the study.
    random_state : int, RandomState or None
        Seed of a sampler that is given by its name; a sampler object has a seed of its own. With
        one process, and a method that is seeded, the search is repeatable.
    refit : bool, str or callable
        Whether to fit the winner on all rows. With several measures, the name of the score that
        decides, or a function that is given the trials of the Pareto front (with one objective, the
        complete trials), best first, and returns the winner among them.
    refit_epochs : bool
        Whether the number of epochs is chosen too: the score of a trial is that of its best
        epoch, averaged over the folds, and the winner is fitted for that many epochs. For neural
        methods; a schedule that depends on ``max_epochs`` is then completed in fewer epochs.
    catch : exception class or tuple of them
        Further exceptions after which a trial is marked as failed and the search continues,
        ``RuntimeError`` for instance. ``ValueError``, arithmetic errors and lack of memory are
        always treated so.
    callbacks : sequence of callable, optional
        Called with the study and the finished trial after each trial, as by Optuna's
        ``Study.optimize``, in the process that ran it.
    verbose : {"auto", True, False} or int
        Progress bar: on a terminal if the search takes long ("auto"), always (True) or never
        (False). Values from 2 also show Optuna's messages and the warnings of the trials.

    Attributes
    ----------
    best_estimator_ : estimator
        The winner, fitted on all rows (with ``refit``).
    best_params_ : dict of str to object
        Its parameters, as ``set_params`` takes them.
    best_score_ : float
        Its mean score over the folds, by the measure that decides.
    best_scores_ : dict of str to float
        Its means of all measures, if there are several.
    front_ : list of optuna.trial.FrozenTrial
        The Pareto front: trials to which no other is superior in one objective without being
        inferior in another, best by the measure that decides first. With several objectives.
    study_ : optuna.Study
        The study, with the sampler and the pruner that were used. Options of a `Choice` that have
        names are recorded under their names.
    trials_ : list of optuna.trial.FrozenTrial
        The finished trials. ``user_attrs`` has ``fold_scores``, with several measures ``scores``
        (their means by name), or the ``reason`` of a failure and its ``traceback``.
        That with the settings of `estimator` has ``defaults``, the names of those outside the
        space.
    folds_ : list of (train, test), or None
        Row numbers; None if Views were held out.
    search_space_ : dict
        The search space.
    scorer_ : callable, or dict of str to callable or str
        The scorer, ``(estimator, views, y) -> float``; several by name, with the costs as words.
    labelled_ : bool
        Whether `fit` was given labels.

    Raises
    ------
    TypeError, ValueError
        Before any work if a parameter is invalid, or if the study was made with another method,
        other code, data or folds, another metric or space; at the end if all trials fail, with
        the reason of the first failure.
    ConnectionError
        If the storage cannot be reached, stays locked by another process or its disk is full.
        Trials that were finished until then are kept, and the same search resumes with them.

    See Also
    --------
    default_search_space : Search spaces of the cards.
    make_retrieval_scorer : Scorers with other directions or another rule for ties.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit import Views
    >>> from crossfit.cards import Float
    >>> from crossfit.methods import CCA
    >>> rng = np.random.default_rng(0)
    >>> Z = rng.normal(size=(60, 3))
    >>> views = Views(image=Z @ rng.normal(size=(3, 8)), text=Z @ rng.normal(size=(3, 5)))
    >>> space = {"reg": Float(1e-3, 1e3, log=True)}
    >>> search = OptunaSearch(CCA(n_components=3), space, n_trials=4, random_state=0).fit(views)
    >>> sorted(search.best_params_)
    ['reg']
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "search_space": [one_of("default"), Mapping],
        "scoring": [str, callable, Mapping, list, tuple, None],
        "objectives": [list, tuple, None],
        "n_trials": [integer(1), None],
        "timeout": [real(0, None), None],
        "sampler": [one_of(*SAMPLERS), optuna.samplers.BaseSampler, None],
        "pruner": [one_of("median", "none"), optuna.pruners.BasePruner, None],
        "study_name": [str, None],
        "load_if_exists": ["boolean"],
        "study": [optuna.Study, None],
        "defaults": ["boolean"],
        "n_jobs": [integer(1)],
        "random_state": ["random_state"],
        "refit": ["boolean", str, callable],
        "refit_epochs": ["boolean"],
        "callbacks": [list, tuple, None],
        "verbose": [one_of("auto"), "boolean", integer(0)],
    }

    def __init__(
        self,
        estimator: Any,
        search_space: Space | str = "default",
        *,
        scoring: Any = None,
        objectives: Sequence[str] | None = None,
        cv: Any = 3,
        n_trials: int | None = 50,
        timeout: float | None = None,
        sampler: str | optuna.samplers.BaseSampler | None = None,
        pruner: str | optuna.pruners.BasePruner | None = None,
        storage: str | optuna.storages.BaseStorage | None = None,
        study_name: str | None = None,
        load_if_exists: bool = True,
        study: optuna.Study | None = None,
        defaults: bool = True,
        n_jobs: int = 1,
        random_state: int | np.random.RandomState | None = None,
        refit: bool | str | Callable[[list[FrozenTrial]], FrozenTrial] = True,
        refit_epochs: bool = False,
        catch: type[Exception] | tuple[type[Exception], ...] = (),
        callbacks: Sequence[Callable[[optuna.Study, FrozenTrial], None]] | None = None,
        verbose: bool | int | str = "auto",
    ) -> None:
        self.estimator = estimator
        self.search_space = search_space
        self.scoring = scoring
        self.objectives = objectives
        self.cv = cv
        self.n_trials = n_trials
        self.timeout = timeout
        self.sampler = sampler
        self.pruner = pruner
        self.storage = storage
        self.study_name = study_name
        self.load_if_exists = load_if_exists
        self.study = study
        self.defaults = defaults
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.refit = refit
        self.refit_epochs = refit_epochs
        self.catch = catch
        self.callbacks = callbacks
        self.verbose = verbose

    # ---- the search ----------------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        Y: Any = None,
        y: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
        **params: Any,
    ) -> Self:
        """Search for the best parameters and, with ``refit``, fit the winner on all rows.

        Parameters
        ----------
        X : Views, or the first modality
            Pairs to search and fit on: ``fit(views)``, ``fit(views, y)`` or, unless the estimator
            is a pipeline, ``fit(X, Y, y)``.
        Y : the second modality, or the labels if X is Views
            Row ``i`` of X and row ``i`` of Y belong together.
        y : array-like of shape (n,) or (n, n_classes), optional
            Labels of the rows. They are used by methods that learn from labels, by the metric,
            and to spread the classes over the folds.
        groups : array-like of shape (n,), optional
            Groups that are coarser than ``X.groups``; folds never divide them. With Views and
            labels, it may be the third argument.
        sample_weight : array-like of shape (n,), optional
            Weights of the rows, which the method of each trial and the winner are fitted with. With
            scikit-learn's metadata routing enabled, they are passed to the steps, and to a scorer,
            that request them.
        **params : array-like of shape (n,)
            With metadata routing only: other metadata that a step or the scorer requests.

        Returns
        -------
        self

        Raises
        ------
        TypeError
            If no part of the estimator takes the weights.
        """
        self._validate_params()
        if is_views(X) and Y is not None and y is not None and groups is None:
            Y, y, groups = None, Y, y
        views, y = self._given(X, Y, y)
        if groups is not None:
            views = views.with_groups(groups)
        labels = None if y is None else check_labels(y)
        if labels is not None and len(labels) != len(views):
            raise ValueError(f"y: expected one label per row ({len(views)}), got {len(labels)}")
        space = self._checked_space()
        measures = self._checked_measures(labels is not None)
        of_fit, of_score = self._routed(sample_weight, params)
        for name in ("best_estimator_", "best_params_", "best_score_", "best_scores_", "front_"):
            self.__dict__.pop(name, None)
        self.search_space_, self._measures = space, measures
        self.scorer_ = dict(measures.scorers) if measures.several else measures.scorer
        self.labelled_ = labels is not None
        folds, self.folds_ = self._folds(views, labels, of_fit, of_score)

        # Hashing reads all the data, so only a study that outlives this fit is marked.
        lasting = self.storage is not None or self.study is not None
        mark = self._mark(views, labels, folds, of_fit, of_score) if lasting else None
        with quiet(self.verbose), contextlib.ExitStack() as stack:
            if self.study is None:
                opened = storages.open_storage(self.storage, self.n_jobs > 1)
                storage = stack.enter_context(opened)
            else:
                storage = self.study._storage
            stack.enter_context(storages.as_connection_errors())
            with calm(self.verbose):
                self.study_ = study = self._study(storage, mark)
            check_queue(study, space)
            done = len(study.get_trials(deepcopy=False, states=_BEGUN))
            seed = draw_seed(self.random_state)
            study.sampler, study.pruner = self._sampler(study, seed, done, 0), self._pruner(study)
            if self.defaults and not study.get_trials(deepcopy=False):
                self._queue_defaults(study)
            try:
                if self._left(study):
                    objective = Objective(
                        self.estimator,
                        space,
                        measures,
                        folds,
                        self.n_trials,
                        prunes=not isinstance(study.pruner, optuna.pruners.NopPruner),
                        refit_epochs=self.refit_epochs,
                        verbose=level_of(self.verbose),
                        catch=self.catch if isinstance(self.catch, tuple) else (self.catch,),
                    ).with_fixed_steps_done()
                    self._run(study, storage, objective, seed, done)
            except ConnectionError:
                with contextlib.suppress(Exception):  # the study may still be readable
                    self._conclude(study)
                raise
            self._conclude(study)
        if self.refit:
            winner = clone(self.estimator).set_params(**cloned(self.best_params_))
            self.best_estimator_ = winner.fit(views, labels, **of_fit)
        return self

    def get_metadata_routing(self) -> MetadataRouter:
        """Return where scikit-learn's metadata routing passes weights, groups and other metadata.

        Returns
        -------
        MetadataRouter
            Arguments of `fit` go to the estimator, the splitter and the scorer.
        """
        scorer = Measures.read(self.scoring, self.objectives, self.refit, True).scorer
        own = PairKFold() if isinstance(self.cv, Integral) else None
        router = MetadataRouter(owner=self)
        router.add(estimator=self.estimator, method_mapping=_mapping(fit="fit"))
        router.add(scorer=scorer, method_mapping=_mapping(fit="score", score="score"))
        splitter = own or (self.cv if hasattr(self.cv, "split") else None)
        router.add(splitter=splitter, method_mapping=_mapping(fit="split"))
        return router

    def _routed(
        self, sample_weight: ArrayLike | None, params: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the arguments of the fits and those of the scores."""
        if sample_weight is not None:
            params = {"sample_weight": sample_weight, **params}
        if not params:
            return {}, {}
        if routes():
            routed = process_routing(self, "fit", **params)
            return dict(routed.estimator.fit), dict(routed.scorer.score)
        if list(params) != ["sample_weight"]:
            unknown = next(name for name in params if name != "sample_weight")
            raise TypeError(
                f"OptunaSearch.fit: {unknown!r} is passed on by metadata routing only; enable it, "
                "sklearn.set_config(enable_metadata_routing=True)"
            )
        prefix, method = "", self.estimator
        while isinstance(method, Pipeline):
            name, method = next(
                ((name, step) for name, step in reversed(method.steps) if _has_method(step)),
                method.steps[-1],
            )
            prefix += f"{name}__"
        if not has_fit_parameter(method, "sample_weight"):
            raise TypeError(
                f"OptunaSearch.fit: {type(method).__name__} does not take weights of rows; leave "
                "out sample_weight, or use a method that does, such as CCA"
            )
        return {f"{prefix}sample_weight": sample_weight}, {}

    def _given(self, X: Any, Y: Any, y: Any) -> tuple[Views, Any]:
        """Convert the arguments of ``(views, y)`` and ``(X, Y, y)`` into Views and labels."""
        if is_views(X):
            if Y is not None and y is not None:
                raise TypeError("OptunaSearch expects (views, y) or (X, Y, y), got Views, Y and y")
            return X, Y if y is None else y
        # Numbers alone cannot be a modality: they are labels.
        numbers = np.ndim(Y) == 1 and np.asarray(Y).dtype.kind in "biuf"
        if Y is None or numbers or not isinstance(self.estimator, CrossModalEstimator):
            raise not_views("OptunaSearch", *(part for part in (X, Y) if part is not None))
        return self.estimator._given(X, Y, y)

    def _run(
        self, study: optuna.Study, storage: Any, objective: Objective, seed: int, done: int
    ) -> None:
        deadline = None if self.timeout is None else time.time() + self.timeout
        # Those of scikit-learn pass on its configuration, of which metadata routing is a part.
        Parallel(n_jobs=self.n_jobs, backend="loky" if self.n_jobs > 1 else "sequential")(
            delayed(work)(
                storage,
                study.study_name,
                objective,
                deadline,
                self.verbose if worker == 0 else False,
                self._sampler(study, seed, done, worker) if worker else study.sampler,
                copy.deepcopy(study.pruner),
                self.callbacks,
                os.getpid(),
            )
            for worker in range(self.n_jobs)
        )

    def _conclude(self, study: optuna.Study) -> None:
        """Set the attributes of the result from the finished trials."""
        if self.storage is None and self.study is None and self.n_jobs > 1:
            # The processes shared a temporary file, which is about to be deleted.
            self.study_ = optuna.create_study(
                directions=self._measures.directions,
                study_name=study.study_name,
                sampler=study.sampler,
                pruner=study.pruner,
            )
            self.study_.add_trials(study.get_trials())
        self.trials_ = [trial for trial in study.get_trials() if counts(trial, running=False)]
        if len(self._measures.objectives) > 1:
            self.front_ = self._measures.front(self.trials_)
        best = self._best()
        self.best_score_ = self._measures.value_of(best)
        if self._measures.several:
            self.best_scores_ = dict(best.user_attrs["scores"])
        with calm(self.verbose):
            # Copies, so that setting parameters of a part does not change options of the space.
            trial = FixedTrial(best.params)
            drawn = settings_of(self.search_space_, trial, self.estimator, best.user_attrs)
            self.best_params_ = cloned(drawn)
        self.best_params_ |= best.user_attrs.get("epochs", {})

    def _left(self, study: optuna.Study) -> bool:
        return self.n_trials is None or n_trials_of(study, running=False) < self.n_trials

    def _best(self) -> FrozenTrial:
        complete = [trial for trial in self.trials_ if trial.state is TrialState.COMPLETE]
        if complete:
            # The first of equal ones, as it was found with the fewest trials.
            ordered = sorted(complete, key=self._measures.value_of, reverse=True)
            if not callable(self.refit):
                return ordered[0]
            known = getattr(self, "front_", ordered)
            found = self.refit(list(known))
            if not any(found is trial for trial in known):
                raise TypeError(f"refit must return one of its trials, got {shown(found)}")
            return found
        reasons = [t.user_attrs["reason"] for t in self.trials_ if "reason" in t.user_attrs]
        if reasons:
            n = len(self.trials_)
            which = f"all {n} trials failed, the first" if n > 1 else "the only trial failed"
            raise ValueError(f"{which} with {reasons[0]}")
        raise ValueError(
            f"no trial was finished within timeout={self.timeout!r} seconds; give more time"
            if not self.trials_
            else f"all {len(self.trials_)} trials were pruned; use another pruner, or none"
        )

    # ---- parameters ----------------------------------------------------------------------------

    def _validate_params(self) -> None:
        _check_estimator(self.estimator)
        super()._validate_params()
        storages.check_storage(self.storage)
        if self.n_trials is None and self.timeout is None:
            raise ValueError("n_trials and timeout are both None; give at least one of them")
        caught = self.catch if isinstance(self.catch, tuple) else (self.catch,)
        if not all(isinstance(one, type) and issubclass(one, Exception) for one in caught):
            raise TypeError(
                "catch must be an exception class or a tuple of exception classes, "
                f"got {shown(self.catch)}"
            )
        if self.study is not None:
            if self.storage is not None or self.study_name is not None or not self.load_if_exists:
                raise ValueError(
                    "study already has a storage and a name; leave out storage, study_name and "
                    "load_if_exists"
                )
            if self.n_jobs > 1 and isinstance(self.study._storage, optuna.storages.InMemoryStorage):
                raise ValueError(
                    "processes cannot share a study in memory; give n_jobs=1 or a study in a "
                    "database"
                )
        own_seed = self.sampler is not None and not isinstance(self.sampler, str)
        if self.random_state is not None and (own_seed or (self.study and self.sampler is None)):
            raise ValueError(
                f"random_state seeds the samplers {', '.join(map(repr, SAMPLERS))}, but a "
                "sampler object has a seed of its own; leave out random_state and seed the "
                "sampler, as in TPESampler(seed=0)"
            )
        if self.sampler == "cmaes":
            try:
                import cmaes  # noqa: F401
            except ImportError:
                raise ImportError(
                    "the sampler 'cmaes' needs the package cmaes: pip install "
                    "'crossfit-retrieval[samplers]'"
                ) from None
        params = self.estimator.get_params(deep=True)
        if self.refit_epochs and not any(n.rpartition("__")[2] == "max_epochs" for n in params):
            raise ValueError(
                "refit_epochs chooses the number of epochs of a neural method, but no part of "
                f"{type(self.estimator).__name__} has max_epochs; set it to False"
            )
        for name, value in params.items():
            if isinstance(value, BaseTrial):
                raise TypeError(
                    f"the parameter {name!r} holds an Optuna trial, and copies of it cannot prune; "
                    "leave it out, since the search itself reports scores and prunes"
                )

    def _checked_measures(self, labelled: bool) -> Measures:
        measures = Measures.read(self.scoring, self.objectives, self.refit, labelled)
        if measures.several and self.refit_epochs:
            raise ValueError(
                "refit_epochs chooses the epoch that is best by one measure; give a single scoring"
            )
        if len(measures.objectives) > 1:
            if self.pruner not in (None, "none"):
                raise ValueError(
                    "a pruner compares trials by one value; leave it out with several objectives"
                )
            if self.sampler == "cmaes" or isinstance(self.sampler, optuna.samplers.CmaEsSampler):
                raise ValueError(
                    "CMA-ES optimises one value; use the sampler 'nsga2', 'tpe' or 'gp' with "
                    "several objectives"
                )
        return measures

    def _checked_space(self) -> dict[str, Part]:
        given: Any = self.search_space
        default = isinstance(given, str)
        if default:
            given = default_search_space(self.estimator)
            if not given:
                name = type(self.estimator).__name__
                raise ValueError(f"{name} has no default search space; give search_space={{...}}")
        check_parts("search_space", given)
        if not given:
            raise ValueError("search_space is empty; give at least one parameter to search")
        # Conditions on parameters that are not searched are decided now, by their fixed values.
        params = self.estimator.get_params(deep=True)
        fixed: dict[str, Any] = {}
        for key, part in given.items():
            for other in part.when or ():
                if other in given:
                    continue
                if other not in params or any(other.startswith(f"{name}__") for name in given):
                    raise ValueError(
                        f"search_space: when= of {key!r} must name a parameter, got {shown(other)}"
                        + did_you_mean(other, [*given, *params])
                    )
                fixed[other] = params[other]
        space = remaining(given, fixed)
        never = [name for name in given if name not in space]
        if never and not default:
            raise ValueError(
                f"search_space: {never[0]!r} is never searched, because its condition is "
                f"{shown(dict(given[never[0]].when))} and {shown(fixed)} is fixed; leave it out"
            )
        check_space("search_space", space)
        sampler = self.sampler or (None if self.study is None else self.study.sampler)
        listed = sampler == "grid" or isinstance(sampler, optuna.samplers.BruteForceSampler)
        for key, part in space.items() if listed else ():
            if size_of({key: part}) is None:
                raise ValueError(
                    f"search_space: {key!r} is a Float, whose values a grid cannot list; use a "
                    "Choice or an Int, or another sampler"
                )
        # set_params raises for unknown names here, once, instead of in every trial.
        unconditional = {key: _example(part) for key, part in space.items() if part.when is None}
        clone(self.estimator).set_params(**cloned(unconditional))
        return space

    def _pruner(self, study: optuna.Study) -> optuna.pruners.BasePruner:
        if len(self._measures.objectives) > 1:
            return optuna.pruners.NopPruner()
        if self.pruner is None and self.study is not None:
            return study.pruner
        if self.pruner is None or self.pruner == "none":
            return optuna.pruners.NopPruner()
        if isinstance(self.pruner, str):
            return optuna.pruners.MedianPruner()
        return copy.deepcopy(self.pruner)

    def _sampler(
        self, study: optuna.Study, seed: int, done: int, worker: int
    ) -> optuna.samplers.BaseSampler:
        given = self.sampler
        if given is None:
            given = "tpe" if self.study is None else study.sampler
        if isinstance(given, str):
            n_settings = size_of(self.search_space_)
            if self.n_trials is not None and n_settings is not None and n_settings <= self.n_trials:
                given = "grid"
            # A resumed study must not draw its first settings again.
            words = [seed] if done == worker == 0 else [seed, done, worker]
            state = int(np.random.SeedSequence(words).generate_state(1)[0])
            with calm(False):  # BruteForceSampler still warns that it is experimental
                quiet = {"warn_independent_sampling": False} if given in ("cmaes", "gp") else {}
                sampler = SAMPLERS[given](seed=state, **quiet)  # type: ignore[call-arg]
        else:
            sampler = copy.deepcopy(given)
            if done or worker:
                sampler.reseed_rng()
        if isinstance(sampler, optuna.samplers.BruteForceSampler):
            return ExhaustiveSampler(sampler, self.search_space_)
        return sampler

    def _queue_defaults(self, study: optuna.Study) -> None:
        """Queue a trial with the settings of the estimator, as far as the sampler allows it."""
        found = located(self.search_space_, self.estimator.get_params(deep=True))
        if found is None or isinstance(study.sampler, optuna.samplers.GridSampler):
            return
        recorded, outside = found
        # Other samplers model or list all parameters together, and cannot read a trial without
        # some; so may samplers of the user.
        own = isinstance(self.sampler, str) or (self.sampler is None and self.study is None)
        kinds = optuna.samplers.TPESampler, optuna.samplers.RandomSampler
        if not outside or (own and isinstance(study.sampler, kinds)):
            study.enqueue_trial(recorded, user_attrs={DEFAULTS: list(outside)})

    def _folds(
        self,
        views: Views,
        y: NDArray[Any] | None,
        of_fit: dict[str, Any],
        of_score: dict[str, Any],
    ) -> tuple[list[Fold], list[tuple[NDArray[np.int64], NDArray[np.int64]]] | None]:
        cv = self.cv
        if is_views(cv):
            cv = (cv, None)
        if isinstance(cv, tuple) and len(cv) == 2 and is_views(cv[0]):
            labels = None if cv[1] is None else check_labels(cv[1])
            if (labels is None) != (y is None):
                raise ValueError(
                    "labels must be given both for fitting (y) and for validation (cv), or for "
                    "neither"
                )
            if labels is not None and len(labels) != len(cv[0]):
                raise ValueError(
                    f"cv: expected one label per row of the Views held out ({len(cv[0])}), got "
                    f"{len(labels)}"
                )
            if of_score:
                raise ValueError(
                    f"cv: the scorer requests {', '.join(of_score)}, which the Views held out do "
                    "not have; give folds instead"
                )
            return [Fold(Rows(views, y, more=of_fit), Rows(cv[0], labels))], None
        if isinstance(cv, Integral) and not isinstance(cv, bool):
            cv = PairKFold(int(cv), shuffle=True, random_state=0)
        # Strings and tensors also have a method `split`, and sparse matrices are not iterables of
        # folds.
        other = isinstance(cv, (str, bytes, type, ModuleType)) or is_tensor(cv)
        other = other or (hasattr(cv, "shape") and not (isinstance(cv, np.ndarray) and cv.ndim))
        if other or not (hasattr(cv, "split") or hasattr(cv, "__iter__")):
            raise TypeError(
                "cv must be a number of folds, a splitter, pairs of row numbers, or held-out "
                f"Views with their labels, got {shown(cv)}"
            )
        if hasattr(cv, "split"):
            cv = cv.split(views, y, views.groups)
        rows = check_folds(cv, views.groups)
        folds = [
            Fold(Rows(views, y, train, of_fit), Rows(views, y, test, of_score))
            for train, test in rows
        ]
        return folds, rows

    # ---- the study -----------------------------------------------------------------------------

    def _mark(
        self,
        views: Views,
        y: NDArray[Any] | None,
        folds: list[Fold],
        of_fit: dict[str, Any],
        of_score: dict[str, Any],
    ) -> dict[str, str | bool]:
        """Return hashes of everything that the results of a study depend on."""
        neutral = {
            name: None
            for name in self.estimator.get_params(deep=True)
            if name.rpartition("__")[2] in _NEUTRAL
        }
        held_out = None if self.folds_ is not None else (folds[0].valid.views, folds[0].valid.y)
        try:
            return {
                # Without weights as it was before searches took them.
                "data": joblib.hash((views, y, *(part for part in (of_fit, of_score) if part))),
                "folds": joblib.hash((self.folds_, held_out)),
                "space": joblib.hash(list(self.search_space_.items())),
                "metric": joblib.hash(self._measures.hashed),
                "estimator": joblib.hash(_described(clone(self.estimator).set_params(**neutral))),
                "epochs": bool(self.refit_epochs),
                "code": joblib.hash(_codes(self.estimator)),
            }
        except (TypeError, AttributeError, ValueError, pickle.PicklingError) as error:
            raise ValueError(
                f"a study that is stored needs a method and a metric that can be pickled: {error}"
            ) from error

    def _study(self, storage: Any, mark: dict[str, Any] | None) -> optuna.Study:
        name = self.study_name
        if self.study is not None:
            name = self.study.study_name
        elif name is None and mark is not None:
            method = _method_of(self.estimator)
            name = f"{type(method).__name__.lower()}-{joblib.hash(list(mark.items()))[:8]}"
        try:
            # The copy shares the trials of the study given, but not its sampler and pruner.
            study = copy.copy(self.study) or optuna.create_study(
                storage=storage,
                study_name=name,
                directions=self._measures.directions,
                load_if_exists=self.load_if_exists,
            )
        except optuna.exceptions.DuplicatedStudyError:
            raise ValueError(
                f"the storage already has a study {name!r}; set load_if_exists=True to resume it, "
                "or give this search another study_name"
            ) from None
        if mark is None:
            return study
        ways, wanted = [way.name.lower() for way in study.directions], self._measures.directions
        if len(ways) != len(wanted):
            raise ValueError(
                f"the study {name!r} has {len(ways)} objectives; use a study with "
                f"{'one' if len(wanted) == 1 else len(wanted)}"
            )
        if ways != wanted:
            verb = {"minimize": "minimises", "maximize": "maximises"}
            i = next(i for i in range(len(ways)) if ways[i] != wanted[i])
            which = f" {self._measures.objectives[i]!r}" if len(wanted) > 1 else ""
            raise ValueError(
                f"the study {name!r} {verb[ways[i]]} its objective{which}; use a study that "
                f"{verb[wanted[i]]} it"
            )
        found = study.user_attrs.get(_MARK)
        if found is None:
            if study.get_trials(deepcopy=False, states=_BEGUN):
                raise ValueError(
                    f"the study {name!r} has trials, but was not made by OptunaSearch; use a new "
                    "study, and enqueue settings to start with by study.enqueue_trial"
                )
            study.set_user_attr(_MARK, mark)
        # Studies of earlier versions of crossfit record no code.
        elif (found := {"code": mark["code"], **found}) != mark:
            other = [words for key, words in _MARKS.items() if found.get(key) != mark[key]]
            raise ValueError(
                f"the study {name!r} was made with {' and '.join(other)}; give this search "
                "another study_name"
            )
        return study

    # ---- the winner ----------------------------------------------------------------------------

    def score(
        self,
        X: Any,
        Y: Any = None,
        y: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
    ) -> float:
        """Return the score of the winner by the metric of the search.

        Parameters
        ----------
        X, Y
            Pairs that the search did not use, as in `fit`.
        y : array-like of shape (n,) or (n, n_classes), optional
            Labels of the rows.
        sample_weight : array-like of shape (n,), optional
            Weights of the rows, for a scorer that takes them.

        Returns
        -------
        float
            Larger is better.
        """
        check_is_fitted(self, "best_estimator_")
        views, y = self._given(X, Y, y)
        more = {} if sample_weight is None else {"sample_weight": sample_weight}
        if y is None and self.labelled_:
            warn_of_missing_labels("OptunaSearch")
        return float(self._measures.scorer(self.best_estimator_, views, y, **more))

    @available_if(_is_fitted_embedding)
    def transform(self, X: Views) -> Views:
        """Map Views into the common space of the winner.

        Parameters
        ----------
        X : Views
            Views of any of the modalities of the fit.

        Returns
        -------
        Views
        """
        check_is_fitted(self, "best_estimator_")
        return self.best_estimator_.transform(X)  # type: ignore[no-any-return]

    def encode(self, values: Any, view: str) -> Any:
        """Map one modality alone into the common space of the winner.

        Parameters
        ----------
        values : array-like of n rows
            Items of one modality.
        view : str
            Name of the view that the items belong to.

        Returns
        -------
        array of shape (n, n_components)
        """
        check_is_fitted(self, "best_estimator_")
        return encode(self.best_estimator_, values, view)

    def similarity(
        self, X: Any, Y: Any = None, *, query: str | None = None, gallery: str | None = None
    ) -> Any:
        """Score every item of one modality against every item of another with the winner.

        Parameters
        ----------
        X, Y, query, gallery
            As in `crossfit.similarity`.

        Returns
        -------
        float32 array of shape (n_query_items, n_gallery_items)
        """
        check_is_fitted(self, "best_estimator_")
        return similarity(self.best_estimator_, X, Y, query=query, gallery=gallery)


def _described(value: Any) -> Any:
    """Return the identity of an estimator's class and its parameters, for hashing.

    The identity stays the same if the class moves to another module.
    """
    if isinstance(value, (list, tuple)):
        return [_described(part) for part in value]
    if not hasattr(value, "get_params") or isinstance(value, type):
        return value
    params = value.get_params(deep=False)
    return identity_of(type(value)), {name: _described(part) for name, part in params.items()}


def _codes(estimator: Any) -> list[str]:
    """Return hashes of the code of an estimator and of its parts."""
    parts = [estimator, *estimator.get_params().values()]
    return sorted({code_of(type(part)) for part in parts if hasattr(part, "get_params")})


def _example(part: Any) -> Any:
    """Return one value of a part of a search space."""
    if isinstance(part, Each):
        return {key: _example(part.part) for key in part.keys}
    return part.options[0] if isinstance(part, Choice) else part.low


def _check_estimator(estimator: Any) -> None:
    if isinstance(estimator, type):
        raise TypeError(
            f"estimator must be a method or a pipeline, got the class {estimator.__name__}; give "
            f"an instance, {estimator.__name__}()"
        )
    if not all(hasattr(estimator, name) for name in ("fit", "get_params", "set_params")):
        raise TypeError(f"estimator must be a method or a pipeline, got {shown(estimator)}")


def _mapping(**callers: str) -> MethodMapping:
    """Return which method of a part each method of the search calls."""
    mapping = MethodMapping()
    for caller, callee in callers.items():
        mapping.add(caller=caller, callee=callee)
    return mapping


def _has_method(step: Any) -> bool:
    """Return True if a step of a pipeline is a method, or a pipeline with one."""
    if isinstance(step, Pipeline):
        return any(_has_method(inner) for _, inner in step.steps)
    return getattr(step, "card", None) is not None


def _method_of(estimator: Any) -> Any:
    """Return the method in a pipeline, which may be followed by a scorer."""
    steps, last = answering(estimator)
    methods = [step for step in [*steps, last] if getattr(step, "card", None) is not None]
    return (methods or [last])[-1]
