"""CrossModalEstimator, what every method is, and the functions that ask methods and pipelines."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from itertools import combinations
from numbers import Integral
from typing import Any, ClassVar, NamedTuple, Self, cast

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.pipeline import Pipeline
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from crossfit.cards import MethodCard
from crossfit.metrics import evaluate
from crossfit.metrics.names import parse_metric
from crossfit.similarities import fill_blocks, pairwise_similarity
from crossfit.views import Channels, Ragged, Views, is_tensor

__all__ = [
    "CrossModalEstimator",
    "SearchResult",
    "ViewsTransformerMixin",
    "answering",
    "check_k",
    "direction",
    "encode",
    "mean_over_directions",
    "relevance_of",
    "search",
    "similarity",
    "top_k",
    "view_names",
]

Scores = NDArray[np.float32]

_KINDS = {
    "vectors": "a numeric array of shape (n, d)",
    "regions": "a numeric array of shape (n, R, d) or a Ragged of region vectors",
    "sequence": "a numeric array of shape (n, T, d) or a Ragged of vectors",
    "tokens": "integer ids, (n, T) or Ragged",
    "pixels": "uint8 images (n, H, W, 3), paths or PIL images",
    "strings": "a list of strings",
    "channels": "a mapping of channels",
}


def _is_embedding(estimator: CrossModalEstimator) -> bool:
    return estimator._kind() == "embedding"


class ViewsTransformerMixin(TransformerMixin):
    """A transformer that returns Views.

    Takes no part in scikit-learn's ``set_output``, which would turn Views into a DataFrame; the
    setting is not inherited, so that it is made for every subclass.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        kwargs["auto_wrap_output_keys"] = None
        super().__init_subclass__(**kwargs)

    def set_output(self, *, transform: str | None = None) -> Self:
        """Change nothing: Views stay Views, also in a pipeline that asks for DataFrames."""
        return self


class CrossModalEstimator(ViewsTransformerMixin, BaseEstimator):
    """Base class of every retrieval method.

    The public methods validate and translate names; an author writes the underscored ones,
    which see `Views` named by the card's roles: ``_fit(views, y)`` and, for methods with a
    common space, ``_encode(values, view)``; for methods that only score pairs,
    ``_prepare(values, view)`` (once per item) and ``_similarity(P, Q)``.

    Attributes
    ----------
    views_in_ : dict of str to str
        The name of the view that plays each role, in the order of the roles.
    n_features_in_ : dict of str to int
        Number of columns of each view that has columns.
    """

    card: ClassVar[MethodCard | None] = None
    """The method's card; roles, kinds of input and labels are read from it."""

    views: Mapping[str, str] | None = None
    """Role to view name; default of the parameter for methods that have no such parameter.

    Without it a view that bears a role's name plays that role, and the roles left over go to
    the other views in the order of the fit.
    """

    # ---- what an author writes ---------------------------------------------------------

    def _fit(self, views: Views, y: NDArray[Any] | None) -> None:
        raise NotImplementedError(f"{type(self).__name__} does not define _fit")

    def _encode(self, values: Any, view: str) -> Any:
        raise NotImplementedError(f"{type(self).__name__} does not define _encode")

    def _prepare(self, values: Any, view: str) -> Any:
        """Do once per item what does not depend on the other side; rows stay rows."""
        return self._encode(values, view)

    def _similarity(self, P: Any, Q: Any) -> NDArray[Any]:
        """Score prepared items of the earlier role against items of the later role."""
        return pairwise_similarity(P, Q, "cosine")

    # ---- fit ----------------------------------------------------------------------------

    def fit(self, X: Any, Y: Any = None, y: Any = None) -> Self:
        """Fit on pairs.

        Parameters
        ----------
        X : Views, or the first modality
            ``fit(views)``, ``fit(views, y)`` or ``fit(X, Y, y)``.
        Y : the second modality, or the labels if X is Views
            Row ``i`` of X and row ``i`` of Y belong together.
        y : array-like of shape (n,) or (n, n_classes), optional
            Labels of the rows.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            If the views are misaligned, empty, of a kind that the method does not take or
            contain NaN, or if labels are missing where the method needs them.
        """
        views, labels = self._given(X, Y, y)
        roles = self._assign_roles(views)
        name_to_role = {name: role for role, name in roles.items()}
        views = views.select(*name_to_role).rename(name_to_role)
        if len(views) < 2:
            raise ValueError(
                f"{self._name()}.fit needs at least 2 rows, got n_samples = {len(views)}"
            )
        features: dict[str, int] = {}
        views = views.map(lambda part, role: self._checked(part, role, roles[role], features))
        labels = self._checked_labels(labels, len(views))
        self.views_in_ = roles
        self.n_features_in_ = features
        try:
            self._fit(views, labels)
        except Exception:
            del self.views_in_  # what is half fitted must not answer
            raise
        return self

    @available_if(_is_embedding)
    def fit_transform(self, X: Any, Y: Any = None, y: Any = None) -> Any:
        """Fit, then transform the same pairs; see `fit` and `transform`."""
        self.fit(X, Y, y)
        return self.transform(X) if _is_views(X) else self.transform(X, Y)

    # ---- embedding ----------------------------------------------------------------------

    @available_if(_is_embedding)
    def transform(self, X: Any, Y: Any = None) -> Any:
        """Map into the common space.

        Parameters
        ----------
        X : Views, or the first modality
            Any subset of the modalities of the fit; views are matched by name.
        Y : the second modality, optional

        Returns
        -------
        Views, or array of shape (n, n_components), or a pair of arrays
            As Views came in, X alone, or X and Y.
        """
        check_is_fitted(self, "views_in_")
        if _is_views(X):
            if Y is not None:
                raise TypeError(f"{self._name()}.transform expects Views alone or (X, Y), got both")
            return self._fitted_views(X).map(self.encode)
        first, second = list(self.views_in_.values())[:2]
        encoded = self.encode(X, first)
        return encoded if Y is None else (encoded, self.encode(Y, second))

    @available_if(_is_embedding)
    def encode(self, values: Any, view: str) -> Any:
        """Map one modality alone into the common space, as at query time.

        Parameters
        ----------
        values : array-like of n rows
            Items of one modality.
        view : str
            The name of the view they belong to.

        Returns
        -------
        array of shape (n, n_components)
        """
        check_is_fitted(self, "views_in_")
        role = self._role_of(view)
        return self._encode(self._checked_values(values, role), role)

    # ---- scores -------------------------------------------------------------------------

    def similarity(
        self,
        X: Any,
        Y: Any = None,
        *,
        query: str | None = None,
        gallery: str | None = None,
        chunk_size: int | None = None,
    ) -> Scores:
        """Score every item of one modality against every item of another.

        Parameters
        ----------
        X : Views, or items of the first role
        Y : items of the second role
            Only where X is not Views; then the number of rows may differ from X's.
        query, gallery : str, optional
            Names of the views; the first and the second role by default.
        chunk_size : int, optional
            Rows and columns scored at a time; bounds the memory, does not change the scores.

        Returns
        -------
        float32 array of shape (n_query_items, n_gallery_items)
            Higher is better. Items are distinct items in order of first appearance.
        """
        check_is_fitted(self, "views_in_")
        if not _is_views(X):
            if Y is None:
                raise TypeError(
                    f"{self._name()}.similarity expects Views or two modalities (X, Y), got one"
                )
            first, second = list(self.views_in_.values())[:2]
            if query in (None, first) and gallery in (None, second):
                return self._score_items(X, first, Y, second, chunk_size)
            if query == second and gallery in (None, first):
                return self._score_items(Y, second, X, first, chunk_size)
            raise ValueError(
                f"query and gallery must be {first!r} and {second!r}, got {query!r} and {gallery!r}"
            )
        if Y is not None:
            raise TypeError(f"{self._name()}.similarity expects Views alone or (X, Y), got both")
        q, g = direction(tuple(self.views_in_.values()), X, query, gallery)
        return self._score_items(X.distinct(q)[0], q, X.distinct(g)[0], g, chunk_size)

    def _score_items(
        self, queries: Any, query: str, gallery: Any, view: str, chunk_size: int | None = None
    ) -> Scores:
        """Score items of the view `query` against items of the view `view`."""
        roles = list(self.views_in_)
        q, g = self._role_of(query), self._role_of(view)
        P = self._prepare(self._checked_values(queries, q), q)
        Q = self._prepare(self._checked_values(gallery, g), g)
        if roles.index(q) <= roles.index(g):
            return fill_blocks(self._similarity, P, Q, chunk_size)
        return fill_blocks(self._similarity, Q, P, chunk_size).T

    def score(self, X: Any, Y: Any = None, y: Any = None) -> float:
        """Return one figure of retrieval quality, between 0 and 1.

        The mean over both directions (over all ordered pairs of views when there are more) of
        the mean average precision if labels are given, else of the mean reciprocal rank of the
        paired item.

        Parameters
        ----------
        X, Y, y
            As in `fit`.
        """
        check_is_fitted(self, "views_in_")
        views, labels = self._given(X, Y, y, self.views_in_)
        return mean_over_directions(self, views, labels)

    # ---- names and validation -----------------------------------------------------------

    def _name(self) -> str:
        return type(self).__name__

    def _kind(self) -> str:
        return "embedding" if self.card is None else self.card.kind

    def _roles(self) -> tuple[str, ...]:
        return ("image", "text") if self.card is None else self.card.roles

    def _given(
        self, X: Any, Y: Any, y: Any, names: Mapping[str, str] | None = None
    ) -> tuple[Views, Any]:
        """Sort the arguments of ``(views, y)`` and ``(X, Y, y)`` into Views and labels.

        `names` are the view names by role, those wanted of a fit by default; X and Y get the
        first two.
        """
        if _is_views(X):
            if Y is not None and y is not None:
                raise TypeError(
                    f"{self._name()} expects (views, y) or (X, Y, y), got Views, a second "
                    "modality and labels"
                )
            return X, Y if y is None else y
        if Y is None:
            raise TypeError(
                f"{self._name()} expects Views or two modalities: pass (X, Y, y) or "
                "(Views(...), y), got one array"
            )
        first, second = list((names or self._wanted_roles()).values())[:2]
        return Views({first: X, second: Y}), y

    def _view_name(self, role: str) -> str:
        return self.views_in_[role]

    def _wanted_roles(self) -> dict[str, str]:
        """Map roles to view names by the parameter ``views``, or to themselves."""
        roles = self._roles()
        if self.views is None:
            return {role: role for role in roles}
        if not isinstance(self.views, Mapping):
            raise TypeError(
                f"views must map role to view name, for instance {{{roles[0]!r}: 'photo'}}, got "
                f"{type(self.views).__name__}"
            )
        unknown = [role for role in self.views if role not in roles]
        if unknown and not self._takes_extra_views():
            raise ValueError(
                f"{self._name()} has the roles {', '.join(roles)}, got {unknown[0]!r} in views"
            )
        wanted = {role: self.views.get(role, role) for role in (*roles, *self.views)}
        if len(set(wanted.values())) < len(wanted):
            raise ValueError(f"views must give every role a view of its own, got {wanted}")
        return wanted

    def _assign_roles(self, views: Views) -> dict[str, str]:
        """Map roles to the views given: by the parameter ``views``, by equal names, by order."""
        roles, names = self._roles(), views.names
        if self.views is not None:
            wanted = self._wanted_roles()
            missing = [name for name in wanted.values() if name not in names]
            if missing:
                raise ValueError(
                    f"{self._name()} needs a view {missing[0]!r}, got {', '.join(names)}"
                )
            return wanted
        if len(names) < len(roles) or (len(names) > len(roles) and not self._takes_extra_views()):
            least = "at least " if self._takes_extra_views() else ""
            raise ValueError(
                f"{self._name()} needs {least}{len(roles)} views ({', '.join(roles)}), got "
                f"{len(names)}: {', '.join(names)}"
                + ("; choose with views=" if len(names) > len(roles) else "")
            )
        others = iter([name for name in names if name not in roles])
        assigned = {role: role if role in names else next(others) for role in roles}
        return assigned | {name: name for name in others}

    def _takes_extra_views(self) -> bool:
        return self.card is not None and self.card.extra_views

    def _role_of(self, view: str) -> str:
        for role, name in self.views_in_.items():
            if view == name:
                return role
        raise ValueError(
            f"no view {view!r}: {self._name()} was fitted on {', '.join(self.views_in_.values())}"
        )

    def _fitted_views(self, X: Views) -> Views:
        """Select the views of the fit, in its order, from Views given after it."""
        names = tuple(self.views_in_.values())
        unknown = [name for name in X.names if name not in names]
        # With views= the caller chose among more views, and the others pass by.
        if len(unknown) == len(X.names) or (unknown and self.views is None):
            raise ValueError(
                f"no view {unknown[0]!r}: {self._name()} was fitted on {', '.join(names)}"
            )
        return X.select(*(name for name in names if name in X))

    def _checked_values(self, values: Any, role: str) -> Any:
        name = self._view_name(role)
        return self._checked(Views({name: values})[name], role, name)

    def _checked(
        self, values: Any, role: str, name: str, fitted: dict[str, int] | None = None
    ) -> Any:
        """Refuse what the method cannot read; return floats where it wants numbers.

        With `fitted`, record the number of columns; else compare with the fit's.
        """
        where = f"{self._name()}: view {name!r}"
        kinds = ("vectors",) if self.card is None else self.card.inputs.get(role, ("vectors",))
        kind = _kind_of(values, kinds)
        if kind not in kinds:
            wanted = " or ".join(_KINDS.get(kind, kind) for kind in kinds)
            raise ValueError(f"{where} must be {wanted}, got {_what(values)}")
        if isinstance(values, Channels):
            return values.map(
                lambda part, channel: (
                    _as_float(part, f"{where}, channel {channel!r}") if _is_real(part) else part
                )
            )
        if kind in ("vectors", "regions", "sequence"):
            values = _as_float(values, where)
            width = int(values.values.shape[-1] if isinstance(values, Ragged) else values.shape[-1])
            if width == 0:
                raise ValueError(
                    f"{where} has 0 feature(s) (shape={values.shape}) while a "
                    "minimum of 1 is required."
                )
            if fitted is not None:
                fitted[role] = width
            elif width != self.n_features_in_.get(role, width):
                raise ValueError(
                    f"{where} has {width} features, but {self._name()} is expecting "
                    f"{self.n_features_in_[role]} features as input"
                )
        return values

    def _checked_labels(self, y: Any, n: int) -> NDArray[Any] | None:
        wants = "optional" if self.card is None else self.card.labels
        if y is None:
            if wants in ("single", "multi"):
                raise ValueError(
                    f"{self._name()} requires y to be passed, but the target y is None: it "
                    "learns from labels, fit(X, Y, y) or fit(views, y)"
                )
            return None
        if wants == "none":
            return None
        labels = _labels(y)
        if len(labels) != n:
            raise ValueError(f"expected one label per row ({n}), got {len(labels)}")
        if labels.ndim == 2 and wants == "single":
            raise ValueError(
                f"{self._name()} expects one class label per row, got an array of shape "
                f"{labels.shape}"
            )
        return labels


def _is_views(X: Any) -> bool:
    """Channels are Views in form, but they are one modality."""
    return isinstance(X, Views) and not isinstance(X, Channels)


def direction(
    names: Sequence[str], views: Views, query: str | None, gallery: str | None
) -> tuple[str, str]:
    """Return query and gallery view: by default the first two of `names`, in that order.

    Raises
    ------
    ValueError
        If a view is not known or not given.
    """
    q = names[0] if query is None else query
    g = next((name for name in names if name != q), q) if gallery is None else gallery
    for name in (q, g):
        if name not in names:
            raise ValueError(f"no view {name!r}: the views of the fit are {', '.join(names)}")
        if name not in views:
            raise ValueError(f"the view {name!r} is needed, got {', '.join(views.names)}")
    return q, g


def _labels(y: Any) -> NDArray[Any]:
    labels = np.asarray(y)
    indicator = labels.ndim == 2 and labels.dtype.kind in "biuf" and np.isin(labels, (0, 1)).all()
    if labels.ndim != 1 and not indicator:
        raise ValueError(
            "labels must be 1-D classes or an (n, n_classes) indicator of 0 and 1, got shape "
            f"{labels.shape} of type {labels.dtype}; a second modality goes into Views, or "
            "between X and y"
        )
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise ValueError("labels must be finite, got NaN or infinity")
    return labels


def _kind_of(values: Any, wanted: Sequence[str]) -> str:
    """Name the kind of input, preferring a wanted one where the form allows several."""
    if isinstance(values, Channels):
        return "channels"
    if isinstance(values, Ragged):
        form: tuple[str, ...] = ("regions", "sequence")
        if values.values.ndim == 1:
            form = ("tokens",) if values.dtype.kind in "iu" else ("numbers",)
    elif isinstance(values, np.ndarray) and values.dtype == object:
        form = ("objects",)
        if values.ndim == 1:
            strings = all(isinstance(value, str) for value in values)
            form = ("strings", "pixels") if strings else ("pixels",)
    else:
        integer = "int" in str(values.dtype)  # of numpy or torch
        form = {
            1: ("labels",),
            2: ("vectors", "tokens") if integer else ("vectors",),
            3: ("regions", "sequence"),
            4: ("pixels",) if str(values.dtype).endswith("uint8") else ("numbers",),
        }.get(len(values.shape), ("numbers",))
    return next((kind for kind in form if kind in wanted), form[0])


def _is_real(values: Any) -> bool:
    if isinstance(values, Ragged):
        values = values.values
    return hasattr(values, "dtype") and "float" in str(values.dtype)


def _what(values: Any) -> str:
    if isinstance(values, Channels):
        return f"channels {', '.join(values.names)}"
    if isinstance(values, Ragged):
        return f"a Ragged with elements of shape {values.values.shape[1:]}"
    if values.dtype == object:
        held = sorted({type(value).__name__ for value in values.flat})
        return f"an object array of {' and '.join(held)}, shape {values.shape}"
    text = f"an array of shape {tuple(values.shape)} and type {values.dtype}"
    if len(values.shape) == 1:
        text += " (labels go in as y; Reshape your data if it is one feature)"
    return text


def _as_float(values: Any, where: str) -> Any:
    """Keep float32 and float64, turn other numbers into float32, refuse NaN and infinity."""
    if isinstance(values, Ragged):
        return Ragged(_as_float(values.values, where), values.offsets, values.info)
    xp = sys.modules["torch"] if is_tensor(values) else np
    dtype = str(values.dtype).removeprefix("torch.")
    if dtype.startswith("complex"):
        raise ValueError(f"{where}: Complex data not supported, got {dtype}")
    if not dtype.startswith(("float", "int", "uint", "bool", "bfloat", "longdouble")):
        raise ValueError(f"{where} must be numeric, got type {dtype}")
    if is_tensor(values):
        values = values.detach()
    if dtype not in ("float32", "float64"):
        values = values.to(xp.float32) if is_tensor(values) else values.astype(np.float32)
    data = values.data if sp.issparse(values) else values
    with np.errstate(over="ignore", invalid="ignore"):
        total = xp.sum(data, dtype=xp.float64)
    # The sum is finite unless an entry is not, or sums overflow: look closer only then.
    if not xp.isfinite(total) and not xp.isfinite(data).all():
        raise ValueError(f"{where} contains NaN or infinity")
    return values


# ---- asking methods and pipelines --------------------------------------------------------------


def mean_over_directions(
    last: Any,
    views: Views,
    y: ArrayLike | None,
    metric: str | None = None,
    *,
    ties: str = "expected",
    only: tuple[str, str] | None = None,
) -> float:
    """Average a metric over both directions of every pair of views; larger is better.

    Parameters
    ----------
    last : CrossModalEstimator or RetrievalScorer
        Scores items of one view against items of another.
    views : Views
        As they reach `last`.
    y : array-like of shape (n,) or (n, n_classes), optional
        Labels of the rows.
    metric : str, optional
        ``"map@all"`` with labels and ``"mrr"`` without, by default. Ranks are negated.
    ties : {"expected", "stable", "worst"}
        How equal scores are ranked.
    only : pair of str, optional
        Query and gallery view of the one direction wanted.
    """
    metric = metric or ("mrr" if y is None else "map@all")
    if isinstance(last, CrossModalEstimator):
        views = last._fitted_views(views)
    if len(views.names) < 2:
        raise ValueError(f"retrieval is scored between two modalities, got only {views.names[0]!r}")
    values = []
    pairs: list[tuple[str, str]] = list(combinations(views.names, 2))
    for q, g in pairs if only is None else [only]:
        relevance = relevance_of(views, q, g, y)
        found = evaluate(
            last._score_items(views.distinct(q)[0], q, views.distinct(g)[0], g),
            relevance,
            (metric,),
            directions="forward" if only is not None else "both",
            ties=ties,
            ci=None,
        )
        values.append(found.mean(None, metric))
    mean = float(np.mean(values))
    return mean if parse_metric(metric).greater_is_better else -mean


def relevance_of(views: Views, query: str, gallery: str, y: ArrayLike | None) -> Any:
    """Return what `crossfit.metrics.evaluate` takes as relevance: labels of items, or pairs."""
    if y is None:
        return views.relevance(query, gallery)
    labels = _labels(y)
    return views.item_labels(query, labels), views.item_labels(gallery, labels)


class SearchResult(NamedTuple):
    """What a search found, best first.

    Parameters
    ----------
    indices : int array of shape (n_queries, k)
        Rows of the gallery.
    scores : float32 array of shape (n_queries, k)
    """

    indices: NDArray[np.int64]
    scores: Scores


def _split(estimator: Any) -> tuple[list[Any], Any]:
    """Return the transforming steps and the step that answers."""
    estimator = getattr(estimator, "best_estimator_", estimator)  # of a finished search
    if not isinstance(estimator, Pipeline):
        return [], estimator
    steps: list[Any] = []
    for _, step in estimator.steps:
        if isinstance(step, Pipeline):
            inner, last = _split(step)
            steps += [*inner, last]
        elif step is not None and step != "passthrough":
            steps.append(step)
    return (steps[:-1], steps[-1]) if steps else ([], estimator)


def answering(estimator: Any) -> tuple[list[Any], Any]:
    """Return the steps of a pipeline that transform, and the step that scores.

    Raises
    ------
    TypeError
        If the last step is neither a CrossModalEstimator nor a RetrievalScorer.
    """
    steps, last = _split(estimator)
    if not hasattr(last, "_score_items"):
        raise TypeError(
            "expected a CrossModalEstimator, or a Pipeline that ends in one or in a "
            f"RetrievalScorer, got {type(last).__name__}"
        )
    return steps, last


def similarity(
    estimator: Any,
    X: Any,
    Y: Any = None,
    *,
    query: str | None = None,
    gallery: str | None = None,
    chunk_size: int | None = None,
) -> Scores:
    """Score every item of one modality against every item of another.

    Parameters
    ----------
    estimator : CrossModalEstimator or Pipeline
        Fitted. The steps of a pipeline before the last transform, the last one answers.
    X, Y, query, gallery, chunk_size
        As in `CrossModalEstimator.similarity`.

    Returns
    -------
    float32 array of shape (n_query_items, n_gallery_items)
    """
    steps, last = answering(estimator)
    if not steps and isinstance(last, CrossModalEstimator):
        return last.similarity(X, Y, query=query, gallery=gallery, chunk_size=chunk_size)
    if not _is_views(X) or Y is not None:
        raise TypeError(
            "a pipeline expects Views alone, got "
            + (f"{type(X).__name__} and {type(Y).__name__}" if Y is not None else type(X).__name__)
        )
    for step in steps:
        X = step.transform(X)
    q, g = direction(view_names(last), X, query, gallery)
    return cast(Scores, last._score_items(X.distinct(q)[0], q, X.distinct(g)[0], g, chunk_size))


def encode(estimator: Any, values: Any, view: str) -> Any:
    """Map one modality alone into the common space of a method or a pipeline.

    Parameters
    ----------
    estimator : CrossModalEstimator or Pipeline
        Fitted.
    values : array-like of n rows
        Items of one modality, as they go into the estimator.
    view : str
        The name of the view they belong to.

    Returns
    -------
    array of shape (n, n_components)
    """
    steps, last = _split(estimator)
    if not steps and isinstance(last, CrossModalEstimator):
        return last.encode(values, view)
    views = Views({view: values})
    for step in (*steps, last):
        views = step.transform(views)
    return views[view]


def search(
    estimator: Any,
    queries: Any,
    *,
    view: str,
    gallery: Any = None,
    gallery_view: str | None = None,
    k: int = 10,
) -> SearchResult:
    """Find the best items of another modality for each query.

    Parameters
    ----------
    estimator : CrossModalEstimator or Pipeline
        Fitted.
    queries : array-like of n rows
        Items of the view named by `view`.
    view : str
        The view of the queries.
    gallery : array-like of m rows, optional
        Items to search in. Without it, the gallery given to ``RetrievalScorer.index`` answers.
    gallery_view : str, optional
        The view of the gallery; needed where the estimator knows more than two.
    k : int
        How many to return; all of a smaller gallery.

    Returns
    -------
    SearchResult
        ``indices`` into the gallery and ``scores``, both of shape (n, k), best first. Equal
        scores come in gallery order.
    """
    check_k(k)
    steps, last = answering(estimator)
    names = view_names(last)
    found = Views({view: queries})
    if gallery is None:
        shown, gallery_view = getattr(last, "index_", (None, None))
        if shown is None:
            raise ValueError(
                f"{type(last).__name__} has no gallery: pass gallery=, or end the pipeline in a "
                "RetrievalScorer and call its index(values, view)"
            )
    else:
        if gallery_view is None:
            others = [name for name in names if name != view]
            if len(others) != 1:
                raise ValueError(
                    f"gallery_view must name the view of the gallery, one of {', '.join(names)}"
                )
            gallery_view = others[0]
        shown = Views({gallery_view: gallery})
        for step in steps:
            shown = step.transform(shown)
        shown = shown[gallery_view]
    for step in steps:
        found = step.transform(found)
    return top_k(last._score_items(found[view], view, shown, gallery_view), k)


def view_names(last: Any) -> tuple[str, ...]:
    """Return the names of the views that a fitted method or scorer knows, in order."""
    check_is_fitted(last, "views_in_")
    return tuple(last.views_in_.values())


def top_k(scores: Scores, k: int) -> SearchResult:
    """Return the k best columns of each row, best first; equal scores in column order."""
    check_k(k)
    k = min(k, scores.shape[1])
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return SearchResult(order, np.take_along_axis(scores, order, axis=1))


def check_k(k: Any) -> None:
    """Refuse a number of results that is no positive integer."""
    if not isinstance(k, Integral) or k < 1:
        raise ValueError(f"k must be an integer of at least 1, got {k!r}")
