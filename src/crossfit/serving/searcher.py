"""The model that answers: its views, the kinds of their items, and its one or two stages."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sklearn.pipeline import FeatureUnion, Pipeline

from crossfit.base import CrossModalEstimator
from crossfit.compose import ChannelUnion, ViewTransformer
from crossfit.extraction import (
    AudioExtractor,
    Extractor,
    ImageExtractor,
    MultimodalExtractor,
    TextExtractor,
)
from crossfit.galleries import KINDS
from crossfit.querying import answering, check_independent, view_names
from crossfit.retrieval import Fusion, Reranker, RetrievalScorer
from crossfit.similarities import resolve
from crossfit.views import Views
from crossfit.winners import Winner, read_winner

__all__ = ["Searcher", "kinds_of"]

_OF_VIEW = {view: kind for kind, view in KINDS.items()}


class Searcher:
    """A winner as it searches: its one or two stages, and the kinds of its views.

    Parameters
    ----------
    winner : Winner
        A fitted method, pipeline or Reranker, with what its folder holds next to it.

    Attributes
    ----------
    model : estimator
    name, card : str
        Those of the winner.
    views : tuple of str
        Names of the views, in the order of the fit.
    kinds : dict of str to str
        View to the kind of its items, "text", "picture" or "sound", where it is known.
    steps : list of transformers
    scorer : Scorer
        The parts of the first stage. A method with a common space that is the last step is one of
        the steps, and the scorer compares in this space.
    second : estimator or None
        The second stage of a Reranker.
    depth : int
        Number of items that the second stage ranks, if no other is required.
    embeds : bool
        Whether the scorer compares vectors of a common space.
    """

    def __init__(self, winner: Winner) -> None:
        self.winner = winner
        self.model, self.name, self.card = winner.model, winner.name, winner.card
        steps, last = answering(self.model)
        self.views = view_names(last)
        self.second: Any = None
        self.depth = 0
        if isinstance(last, Reranker):
            first, second = (
                (last.first, last.second) if last.prefit else (last.first_, last.second_)
            )
            self.second = _chain(steps, second)
            self.depth = last.k
            first_steps, last = answering(first)
            steps = [*steps, *first_steps]
        check_independent(last)
        if isinstance(last, CrossModalEstimator) and hasattr(last, "transform"):
            steps, last = _with_scorer(steps, last)
        self.steps, self.scorer = steps, last
        self.embeds = isinstance(last, RetrievalScorer)
        self.kinds = {**kinds_of(self.model), **self._recorded()}

    def with_second(self, winner: Winner, depth: int) -> Searcher:
        """Return this searcher with another model as its second stage.

        Parameters
        ----------
        winner : Winner
            Fitted on views of the same names.
        depth : int
            Number of items that it ranks by default.

        Raises
        ------
        ValueError
            If it has other views.
        """
        if not set(self.views) <= set(winner.views):
            raise ValueError(
                f"{winner.name} cannot rank what {self.name} finds: it has the views "
                f"{', '.join(winner.views)}, not {', '.join(self.views)}"
            )
        found = copy.copy(self)
        found.second, found.depth = winner.model, depth
        return found

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Searcher:
        """Load a bundle; see `crossfit.winners.read_winner`.

        Parameters
        ----------
        folder : path-like
            As `crossfit.save` or ``crossfit fit --save`` wrote it, or its address on the hub.

        Raises
        ------
        ValueError, OSError
            If there is no bundle, it is damaged, or its model cannot search.
        """
        try:
            return cls(read_winner(folder))
        except TypeError as error:  # the model is not one that searches
            raise ValueError(str(error)) from error

    def view_of(self, kind: str) -> str | None:
        """Return the view whose items are of a kind, or None."""
        return next((view for view in self.views if self.kinds.get(view) == kind), None)

    def features(self, values: Any, view: str) -> Any:
        """Return what the scorer compares, one row for each item of a view.

        Parameters
        ----------
        values : array-like of n items
            Texts, files, pixels or sounds.
        view : str
            Their view.
        """
        return _through(self.steps, values, view)

    def features_of_second(self, values: Any, view: str) -> Any:
        """Return what the scorer of the second stage compares; see `features`."""
        return _through(answering(self.second)[0], values, view)

    def score_second(self, queries: Any, query: str, items: Any, view: str) -> Any:
        """Return the scores of the second stage, from what `features_of_second` returned."""
        return answering(self.second)[1].score_items(queries, query, items, view)

    @contextmanager
    def without_cache(self) -> Iterator[None]:
        """Compute features without the cache on disk, which would keep what people search for."""
        models = (self.model, self.second)
        cached = [
            part for model in models for part in extractors_of(model) if getattr(part, "cache", 0)
        ]
        for part in cached:
            part.cache = False
        try:
            yield
        finally:
            for part in cached:
                part.cache = True

    def _recorded(self) -> dict[str, str]:
        found = self.winner.record.get("kinds", {}).items()
        return {view: kind for view, kind in found if view in self.views and kind in KINDS}


def _through(steps: list[Any], values: Any, view: str) -> Any:
    found = Views({view: values})
    for step in steps:
        found = step.transform(found)
    return found[view]


def _with_scorer(steps: list[Any], method: CrossModalEstimator) -> tuple[list[Any], Any]:
    """Return steps into the common space of a method, and a scorer with its similarity."""
    similarity = method._own_similarity()
    if similarity is None:
        return steps, method
    scorer = RetrievalScorer(similarity)
    scorer.similarity_ = resolve(similarity)
    scorer.views_in_ = {name: name for name in view_names(method)}
    return [*steps, method], scorer


def _chain(steps: list[Any], last: Any) -> Any:
    if not steps:
        return last
    return Pipeline([(f"{at}", step) for at, step in enumerate((*steps, last))])


def kinds_of(model: Any) -> dict[str, str]:
    """Return the kinds of items that a model takes, by view, as its extractors show them.

    Parameters
    ----------
    model : estimator
        A fitted method or pipeline.

    Returns
    -------
    dict of str to str
        View to "text", "picture" or "sound"; views of arrays are left out.
    """
    steps, last = answering(model)
    if isinstance(last, Reranker):
        steps = [*steps, *answering(last.first if last.prefit else last.first_)[0]]
    found: dict[str, str] = {}
    for step in steps:
        if isinstance(step, ViewTransformer):
            for view, part in step.transformers_.items():
                kind = _kind(part, view)
                if kind is not None:
                    found.setdefault(view, kind)
    return found


def _kind(part: Any, view: str) -> str | None:
    """Return the kind of items that a transformer takes, or None for arrays."""
    from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer

    if isinstance(part, Pipeline):
        return _kind(part.steps[0][1], view)
    if isinstance(part, ChannelUnion):
        return _kind(next(iter(part.transformers_.values())), view)
    if isinstance(part, FeatureUnion):
        return _kind(part.transformer_list[0][1], view)
    if isinstance(part, MultimodalExtractor):
        taken = part._views()
        named = getattr(part, "view", "auto")
        named = view if named == "auto" else named
        return _OF_VIEW.get(named if named in taken else taken[0])
    for base, kind in (
        (ImageExtractor, "picture"),
        (AudioExtractor, "sound"),
        ((TextExtractor, CountVectorizer, HashingVectorizer), "text"),
    ):
        if isinstance(part, base):
            return kind
    return None


def extractors_of(model: Any) -> list[Extractor]:
    """Return the fitted extractors of a model, wherever they are in it."""
    found: list[Extractor] = []

    def visit(part: Any) -> None:
        if isinstance(part, Extractor):
            found.append(part)
        elif isinstance(part, Pipeline):
            for _, step in part.steps:
                visit(step)
        elif isinstance(part, FeatureUnion):
            for _, step in part.transformer_list:
                visit(step)
        elif isinstance(part, (ViewTransformer, ChannelUnion)):
            for step in part.transformers_.values():
                visit(step)
        elif isinstance(part, Fusion):
            for member in part.estimators_:
                visit(member)
        elif isinstance(part, Reranker):
            for stage in (part.first, part.second) if part.prefit else (part.first_, part.second_):
                visit(stage)

    visit(getattr(model, "best_estimator_", model))
    return found
