"""CrossModalEstimator: the base class of all methods."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.pipeline import Pipeline
from sklearn.utils._available_if import _AvailableIfDescriptor, available_if
from sklearn.utils.validation import check_is_fitted

from crossfit._arguments import check_arguments, is_word, mapping_of, not_views, shown
from crossfit._arrays import (
    NUMPY_DEFAULTS,
    RangeError,
    as_numpy,
    check_finite,
    is_tensor,
    size_warning,
)
from crossfit._frames import frame_of
from crossfit._threads import few_threads
from crossfit._warnings import warn_of_missing_labels
from crossfit.cards import MethodCard
from crossfit.labels import check_labels
from crossfit.scoring import mean_over_directions, score_views
from crossfit.similarities import (
    MethodSimilarity,
    Out,
    Scores,
    Similarity,
    check_chunk,
    check_out,
    fill_blocks,
    in_order,
    of_one_block,
    resolve,
    write_scores,
)
from crossfit.views import Channels, Ragged, Views, as_float, check_columns, is_views, n_rows

__all__ = ["CrossModalEstimator", "EncodedViews", "ViewsTransformerMixin"]

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


class _Transform(_AvailableIfDescriptor):
    """Descriptor of ``transform``, which only methods with a common space have.

    A Pipeline checks that its inner steps have a transform; scikit-learn's own message does not
    explain why a method that scores pairs has none.
    """

    def __init__(self, fn: Callable[..., Any]) -> None:
        super().__init__(fn, _is_embedding, fn.__name__)

    def __get__(self, obj: Any, owner: Any = None) -> Any:
        if obj is not None and not _is_embedding(obj):
            asking = sys._getframe(1)
            pipeline = asking.f_locals.get("self")
            if asking.f_code.co_name == "_validate_steps" and isinstance(pipeline, Pipeline):
                last = type(pipeline.steps[-1][1]).__name__
                raise TypeError(
                    f"{owner.__name__} scores pairs and has no common space, so no step can follow "
                    f"it; make it the last step of the pipeline, without {last}"
                )
        return super().__get__(obj, owner)


class EncodedViews(Views):
    """Views in the common space of a method, with the similarity that the method uses.

    Parameters
    ----------
    views : Views
        Output of `CrossModalEstimator.transform`.
    method : CrossModalEstimator
        The fitted method that computed them.

    Attributes
    ----------
    similarity : str, callable or None
        As in `crossfit.RetrievalScorer`, fitted; None if it cannot be computed from rows of the
        common space alone.
    order : tuple of str
        Names of the views in the order of the roles; the first argument of `similarity` are items
        of the earlier view.
    """

    __slots__ = ("order", "similarity")

    similarity: str | Similarity | None
    order: tuple[str, ...]

    def __init__(self, views: Views, method: CrossModalEstimator) -> None:
        self._copy(views, method._own_similarity(), tuple(method.views_in_.values()))

    def _copy(
        self, views: Views, similarity: str | Similarity | None, order: tuple[str, ...]
    ) -> Self:
        self._set(views._values, views._index, views._groups, views._n, views._columns)
        object.__setattr__(self, "similarity", similarity)
        object.__setattr__(self, "order", order)
        return self

    # Operations that keep the values keep the similarity; all others return plain Views.

    @classmethod
    def _build(cls, *parts: Any, **named: Any) -> Any:
        return Views._build(*parts, **named)

    def _kept(self, views: Views) -> Self:
        cls = type(self)
        return cls.__new__(cls)._copy(views, self.similarity, self.order)

    def __getitem__(self, key: Any) -> Any:
        """Return the values of one view for a name, else the selected rows; see `Views`."""
        found = super().__getitem__(key)
        return self._kept(found) if is_views(found) else found

    def select(self, *names: str) -> Self:
        """Return Views of some of the modalities, in the given order.

        Parameters
        ----------
        *names : str
            Names of views.
        """
        return self._kept(super().select(*names))

    def with_groups(self, groups: Any) -> Self:
        """Return the same views with coarser groups.

        Parameters
        ----------
        groups : array-like of shape (n,)
            See `Views.with_groups`.
        """
        return self._kept(super().with_groups(groups))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._build(
            self._values, self._index, self._groups, self._n, self._columns
        ), self.similarity, self.order)  # fmt: skip


def _rebuild(
    views: Views, similarity: str | Similarity | None, order: tuple[str, ...]
) -> EncodedViews:
    return EncodedViews.__new__(EncodedViews)._copy(views, similarity, order)


class ViewsTransformerMixin(TransformerMixin):
    """A transformer that returns Views.

    It disables scikit-learn's ``set_output``, which would convert Views to a DataFrame. That
    setting is not inherited, so it is repeated for every subclass.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        kwargs["auto_wrap_output_keys"] = None
        super().__init_subclass__(**kwargs)

    def set_output(self, *, transform: str | None = None) -> Self:
        """Return self, unchanged: Views stay Views, also in a pipeline with DataFrame output."""
        return self


class CrossModalEstimator(ViewsTransformerMixin, BaseEstimator):
    """Base class of every retrieval method.

    The public methods validate their arguments and translate names. The author of a method
    implements the underscored ones, which receive `Views` named by the card's roles:
    ``_fit(views, y)`` and, for methods with a common space, ``_encode(values, view)``; or, for
    methods that only score pairs, ``_prepare(values, view)`` (called once per item) and
    ``_similarity(P, Q)``.

    Attributes
    ----------
    views_in_ : dict of str to str
        Role to name of its view, in the order of the roles.
    n_features_in_ : dict of str to int
        Number of columns of each view that has columns.
    feature_names_in_ : dict of str to tuple of str
        Role to column names, for views that were DataFrames in `fit`; not set if there were none.

    See Also
    --------
    crossfit.protocols.Scorer : What every object that scores items has in common.
    crossfit.testing.check_method : Check an implementation.
    """

    card: ClassVar[MethodCard | None] = None
    """The method's card, which declares roles, kinds of input and labels."""

    one_way: bool = False
    """Always False for methods: the scores of one direction are the transpose of the other's."""

    equal_widths: ClassVar[bool] = False
    """All views must have the same number of columns, because they share a space already."""

    views: Mapping[str, str] | None = None
    """Role to view name; the default for methods without a parameter of this name.

    If it is None, a view whose name is a role takes that role, and the remaining roles are
    assigned to the other views in the order of the fit.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {}
    """Valid values of the parameters, declared as in scikit-learn and checked by `fit`."""

    # ---- implemented by the author of a method -----------------------------------------

    def _fit(self, views: Views, y: NDArray[Any] | None) -> None:
        raise NotImplementedError(f"{type(self).__name__} does not define _fit")

    def _encode(self, values: Any, view: str) -> Any:
        raise NotImplementedError(f"{type(self).__name__} does not define _encode")

    def _prepare(self, values: Any, view: str) -> Any:
        """Prepare items once, independent of the other side; the number of rows is unchanged."""
        return self._encoded(values, view)

    def _similarity(self, P: Any, Q: Any) -> NDArray[Any]:
        """Score prepared items of the earlier role against items of the later role."""
        return of_one_block(resolve(self._own_similarity() or "cosine"))(P, Q)

    def _own_similarity(self) -> str | Similarity | None:
        """Return the similarity of rows of the common space: a name or a callable.

        A `crossfit.RetrievalScorer` that follows this method in a pipeline uses it too. None if the
        similarity cannot be computed from rows of the common space alone.
        """
        kind = type(self)
        if kind._prepare is not CrossModalEstimator._prepare:
            return None
        if kind._similarity is not CrossModalEstimator._similarity:
            return MethodSimilarity(self)
        return "cosine"

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
            If a parameter violates ``_parameter_constraints``; if the views are misaligned, empty,
            of a kind that the method does not support, or contain NaN; or if the method requires
            labels and there are none.
        """
        return self._fitted_with(X, Y, y)

    def _fitted_with(self, X: Any, Y: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit; the weights are None for methods whose `fit` does not take them."""
        self._validate_params()
        views, labels = self._given(X, Y, y)
        roles = self._assign_roles(views)
        if self.card is None or not self.card.missing_views:
            self._check_complete(views, roles)
        name_to_role = {name: role for role, name in roles.items()}
        views = views.select(*name_to_role).rename(name_to_role)
        if len(views) < 2:
            raise ValueError(
                f"{self._name()}.fit needs at least 2 rows, got n_samples = {len(views)}"
            )
        features: dict[str, int] = {}
        columns = views.columns
        views = views.map(lambda part, role: self._checked(part, role, roles[role], features))
        labels = self._checked_labels(labels, len(views))
        more: dict[str, Any] = {}
        if sample_weight is not None:
            weights = self._checked_weights(sample_weight, len(views))
            if not weights.all():
                has = weights > 0
                views, weights = views[has], weights[has]
                labels = None if labels is None else labels[has]
            more = {"weights": None if np.all(weights == 1) else weights}
        self.views_in_ = roles
        self.n_features_in_ = features
        self._set_columns(columns)
        try:
            with np.errstate(**NUMPY_DEFAULTS), few_threads(self._operations(len(views))):
                self._fit(views, labels, **more)
        except BaseException as error:  # Ctrl-C too
            if not self._still_answers(error):
                del self.views_in_  # a partially fitted method must not score
            if isinstance(error, (ValueError, ArithmeticError)) and not isinstance(
                error, RangeError
            ):
                # If squares overflow, most methods report a constant view or NaN instead.
                for role in views.names:
                    warning = size_warning(views.distinct(role)[0])
                    if warning:
                        where = f"{self._name()}: view {roles[role]!r}"
                        raise ValueError(f"{where} {warning}; scale it") from error
            raise
        return self

    def _checked_weights(self, given: Any, n: int) -> NDArray[np.float64]:
        raise NotImplementedError(f"{self._name()} does not take weights of rows")

    def _check_complete(self, views: Views, roles: Mapping[str, str]) -> None:
        """Check that no row lacks one of the views that take a role."""
        for name in roles.values():
            lacking = np.flatnonzero(~views.present(name))
            if len(lacking):
                raise ValueError(
                    f"{self._name()}: view {name!r} is missing in {len(lacking)} of {len(views)} "
                    f"rows (the first is row {lacking[0]}), and {self._name()} learns from rows "
                    "that have every view; fit on views.complete()"
                )

    def _set_columns(self, columns: dict[str, tuple[str, ...]]) -> None:
        if columns:
            self.feature_names_in_ = columns
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_

    def _check_columns(self, views: Views) -> None:
        known = getattr(self, "feature_names_in_", {})
        fitted = {self._view_name(role): columns for role, columns in known.items()}
        check_columns(fitted, views, self._name())

    def _operations(self, n: int) -> float:
        """Return the approximate number of operations of a fit on n rows; see `few_threads`."""
        d = sum(self.n_features_in_.values())
        return n * d**2 + d**3

    @contextlib.contextmanager
    def _more_rows(self, X: Any, Y: Any, y: Any) -> Iterator[Views]:
        """Yield the rows of a call of ``partial_fit`` by role, checked as those of `fit` are.

        The first call assigns the roles; this is undone if the block raises. Views of later calls
        are matched by name.
        """
        first = not hasattr(self, "views_in_")
        views, _ = self._given(X, Y, y, None if first else self.views_in_)
        roles = self._assign_roles(views) if first else self.views_in_
        missing = [name for name in roles.values() if name not in views]
        if missing:
            raise ValueError(
                f"{self._name()} needs the view {missing[0]!r}, got {', '.join(views.names)}"
            )
        if not first:
            views = self.fitted_views(views)
        self._check_complete(views, roles)
        name_to_role = {name: role for role, name in roles.items()}
        views = views.select(*name_to_role).rename(name_to_role)
        features: dict[str, int] = {}
        columns = views.columns
        views = views.map(
            lambda part, role: self._checked(part, role, roles[role], features if first else None)
        )
        if first:
            self.views_in_, self.n_features_in_ = roles, features
            self._set_columns(columns)
        try:
            with np.errstate(**NUMPY_DEFAULTS):
                yield views
        except BaseException:
            if first:
                del self.views_in_, self.n_features_in_
            raise

    def _still_answers(self, error: BaseException) -> bool:
        """Return True if the estimator is still usable after `_fit` raised `error`."""
        return False

    @available_if(_is_embedding)
    def fit_transform(self, X: Any, Y: Any = None, y: Any = None) -> Any:
        """Fit, then transform the same pairs.

        Parameters
        ----------
        X, Y, y
            As in `fit`.

        Returns
        -------
        Views, or a pair of arrays
            As returned by `transform`.

        See Also
        --------
        fit : Fit without transforming.
        transform : Transform other items.
        """
        self.fit(X, Y, y)
        return self.transform(X) if is_views(X) else self.transform(X, Y)

    # ---- embedding ----------------------------------------------------------------------

    @_Transform
    def transform(self, X: Any, Y: Any = None) -> Any:
        """Map items into the common space.

        Parameters
        ----------
        X : Views, or the first modality
            Any subset of the modalities of the fit; views are matched by name.
        Y : the second modality, optional
            Only if X is not Views.

        Returns
        -------
        Views, or array of shape (n, n_components), or a pair of arrays
            For Views, for X alone, and for X and Y, respectively.
        """
        check_is_fitted(self, "views_in_")
        if is_views(X):
            if Y is not None:
                raise TypeError(f"{self._name()}.transform expects Views alone or (X, Y), got both")
            return EncodedViews(self.fitted_views(X).map(self.encode), self)
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

        Raises
        ------
        ValueError, TypeError
            If there is no such view, or the values do not match those of the fit.

        See Also
        --------
        crossfit.encode : The same for pipelines.
        """
        check_is_fitted(self, "views_in_")
        role = self._role_of(view)
        return self._encoded(self._checked_values(values, role), role)

    def _encoded(self, values: Any, role: str) -> Any:
        """Encode, and check that the result is finite and 2-D with one row per item."""
        with np.errstate(all="ignore"):  # overflow is reported below, with its row
            found = self._encode(values, role)
        shape = getattr(found, "shape", None)
        if shape is None or len(shape) != 2 or shape[0] != n_rows(values):
            came = type(found).__name__ if shape is None else f"shape {tuple(shape)}"
            raise TypeError(
                f"{self._name()}._encode must return an array of shape ({n_rows(values)}, k) for "
                f"{n_rows(values)} rows of {role!r}, got {came}"
            )
        if "float" in str(found.dtype):
            check_finite(
                found,
                f"{self._name()}: the encoding of view {self._view_name(role)!r}",
                "overflows to NaN or infinity",
            )
        return found

    # ---- scores -------------------------------------------------------------------------

    def similarity(
        self,
        X: Any,
        Y: Any = None,
        *,
        query: str | None = None,
        gallery: str | None = None,
        chunk_size: int | None = None,
        out: Out = None,
    ) -> Scores:
        """Score every item of one modality against every item of another.

        Parameters
        ----------
        X : Views, or items of the first role
            Views with both modalities, or the items of the first alone.
        Y : items of the second role, optional
            Only if X is not Views; the number of rows may differ from that of X.
        query, gallery : str, optional
            Names of the views. Default: the views of the first and the second role.
        chunk_size : int, optional
            Number of rows and columns scored at a time. It limits the memory needed and does not
            change the scores.
        out : path or float32 array of shape (n_query_items, n_gallery_items), optional
            Destination of the scores: an array, or a file in NumPy's format, which is written as
            a memory map and appears under its name only when it is complete.

        Returns
        -------
        float32 array of shape (n_query_items, n_gallery_items)
            Scores of the distinct items, in order of first appearance; higher is better. `out`
            itself if it is an array, a read-only memory map if it is a file. If the method encodes
            both views as tensors, a tensor on their device.

        Raises
        ------
        ValueError
            If `out` is an array of another shape or dtype, or a file whose folder does not exist.

        See Also
        --------
        crossfit.similarity : The same for pipelines.
        """
        check_is_fitted(self, "views_in_")
        if not is_views(X):
            if Y is None:
                raise TypeError(
                    f"{self._name()}.similarity expects Views or two modalities (X, Y), got one"
                )
            first, second = list(self.views_in_.values())[:2]
            for name in (query, gallery):
                if name is not None and not is_word(name, (first, second)):
                    raise ValueError(
                        f"query and gallery must be {first!r} and {second!r}, got {shown(name)}"
                    )
            if query in (None, first) and gallery in (None, second):
                return self.score_items(X, first, Y, second, chunk_size, out)
            if query == second and gallery in (None, first):
                return self.score_items(Y, second, X, first, chunk_size, out)
            raise ValueError(
                f"query and gallery must be {first!r} and {second!r}, got {query!r} and {gallery!r}"
            )
        if Y is not None:
            raise TypeError(f"{self._name()}.similarity expects Views alone or (X, Y), got both")
        names = tuple(self.views_in_.values())
        self._check_columns(X)
        return score_views(self, names, X, query, gallery, chunk_size, out)

    def score_items(
        self,
        queries: Any,
        query: str,
        gallery: Any,
        view: str,
        chunk_size: int | None = None,
        out: Out = None,
    ) -> Scores:
        """Score items of the view `query` against items of the view `view`.

        Parameters
        ----------
        queries : array-like of n rows
            Items of one view.
        query : str
            The view of the queries.
        gallery : array-like of m rows
            Items of another view.
        view : str
            The view of the gallery.
        chunk_size, out
            As in `similarity`.

        Returns
        -------
        float32 array of shape (n, m)

        See Also
        --------
        crossfit.protocols.Scorer : The protocol that this method belongs to.
        """
        roles = list(self.views_in_)
        q, g = self._role_of(query), self._role_of(view)
        queries, gallery = self._checked_values(queries, q), self._checked_values(gallery, g)
        shape = (n_rows(queries), n_rows(gallery))
        check_chunk(chunk_size)
        check_out(out, shape)
        P, Q = self._prepared(queries, q), self._prepared(gallery, g)
        own_fill = type(self)._fill is not CrossModalEstimator._fill
        if out is None and is_tensor(P) and is_tensor(Q) and not own_fill:
            with np.errstate(**NUMPY_DEFAULTS):
                return in_order(self._similarity, P, Q, roles.index(q) > roles.index(g), chunk_size)

        @np.errstate(**NUMPY_DEFAULTS)
        def fill(scores: Scores) -> None:
            if roles.index(q) <= roles.index(g):
                self._fill(P, Q, scores, chunk_size)
            else:
                self._fill(Q, P, scores.T, chunk_size)

        return write_scores(fill, shape, out)

    def prepared(
        self, queries: Any, query: str, gallery: Any, view: str
    ) -> tuple[Any, Any, Similarity]:
        """Return prepared queries and gallery items, and a function that compares their rows.

        Parameters
        ----------
        queries, query, gallery, view
            As in `score_items`.

        Returns
        -------
        queries, gallery : objects with rows
        similarity : callable
            Its first argument are rows of the earlier role, whether they are queries or not.

        See Also
        --------
        crossfit.protocols.PairScorer : The protocol that this method belongs to.
        """
        q, g = self._role_of(query), self._role_of(view)
        sides = ((queries, q), (gallery, g))
        P, Q = (self._prepared(self._checked_values(part, role), role) for part, role in sides)
        return P, Q, self._similarity

    def _prepared(self, values: Any, role: str) -> Any:
        with np.errstate(**NUMPY_DEFAULTS):
            found = self._prepare(values, role)
        if not hasattr(found, "shape"):
            raise TypeError(
                f"{self._name()}._prepare must return something with rows for {role!r}, got "
                f"{type(found).__name__}"
            )
        return found

    def _fill(self, P: Any, Q: Any, scores: Scores, chunk_size: int | None) -> None:
        """Write the scores of prepared items, rows in P and columns in Q."""
        fill_blocks(self._similarity, P, Q, chunk_size, scores)

    def score(self, X: Any, Y: Any = None, y: Any = None) -> float:
        """Return a single measure of retrieval quality, between 0 and 1.

        With labels, it is the mean average precision; without, the mean reciprocal rank of the
        paired item, with a warning if the method learns from labels. It is averaged over both
        directions, or over all ordered pairs of views if there are more than two.

        Parameters
        ----------
        X, Y, y
            As in `fit`.

        See Also
        --------
        crossfit.evaluate : All measures, with intervals.
        """
        check_is_fitted(self, "views_in_")
        views, labels = self._given(X, Y, y, self.views_in_)
        if labels is None and self.card is not None and self.card.labels in ("single", "multi"):
            warn_of_missing_labels(self._name())
        return mean_over_directions(self, views, labels)

    # ---- names and validation -----------------------------------------------------------

    def to_frame(self) -> Any:
        """Return what was learned of each view as a pandas DataFrame; pandas must be installed.

        Returns
        -------
        pandas.DataFrame
            One row per view: ``view``, its ``role`` in the method, ``n_features`` of its vectors
            and, of a method with a common space of a known size, ``n_components``; None where
            there is none.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the method is not fitted.
        """
        check_is_fitted(self, "views_in_")
        features = getattr(self, "n_features_in_", None)
        features = features if isinstance(features, Mapping) else {}
        n = getattr(self, "n_components_", None)
        return frame_of(
            [
                {"view": view, "role": role, "n_features": features.get(role), "n_components": n}
                for role, view in self.views_in_.items()
            ]
        )

    def _validate_params(self) -> None:
        constraints = {"views": [mapping_of(str), None]} | self._parameter_constraints
        check_arguments(self._name(), constraints, self.get_params(deep=False))

    def _name(self) -> str:
        return type(self).__name__

    def _kind(self) -> str:
        return "embedding" if self.card is None else self.card.kind

    def _roles(self) -> tuple[str, ...]:
        return ("image", "text") if self.card is None else self.card.roles

    def _given(
        self, X: Any, Y: Any, y: Any, names: Mapping[str, str] | None = None
    ) -> tuple[Views, Any]:
        """Convert the arguments of ``(views, y)`` and ``(X, Y, y)`` into Views and labels.

        `names` maps roles to view names, by default as required by `fit`; X and Y take the first
        two.
        """
        if is_views(X):
            if Y is not None and y is not None:
                raise TypeError(
                    f"{self._name()} expects (views, y) or (X, Y, y), got Views, a second "
                    "modality and labels"
                )
            return X, Y if y is None else y
        if Y is None:
            raise TypeError(
                f"{self._name()} expects Views or two modalities: pass (X, Y, y) or "
                f"(Views(...), y), got one {type(X).__name__}"
            )
        first, second = list((names or self._wanted_roles()).values())[:2]
        return Views({first: X, second: Y}), y

    def _view_name(self, role: str) -> str:
        return self.views_in_[role]

    def _of_view(self, parameter: str, role: str) -> Any:
        """Return the value for one view of a parameter that may be a mapping.

        Parameters
        ----------
        parameter : str
            Name of a parameter that is either one value for all views or a mapping from role or
            view name to value.
        role : str
            Role of the view.

        Raises
        ------
        ValueError
            If a mapping has no entry for the view, or has an entry for an unknown view.
        """
        value = getattr(self, parameter)
        if not isinstance(value, Mapping):
            return value
        name = self.views_in_[role]
        known = {*self.views_in_, *self.views_in_.values()}
        unknown = [key for key in value if key not in known]
        if unknown:
            raise ValueError(
                f"{parameter} has an entry for {unknown[0]!r}, but the views are "
                f"{', '.join(self.views_in_.values())}"
            )
        if role not in value and name not in value:
            raise ValueError(
                f"{parameter} has no entry for {role!r}, got {', '.join(map(str, value))}"
            )
        return value[role] if role in value else value[name]

    def _wanted_roles(self) -> dict[str, str]:
        """Map roles to view names, as given by the parameter ``views`` or else to themselves."""
        roles = self._roles()
        if self.views is None:
            return {role: role for role in roles}
        if not all(isinstance(name, str) for name in (*self.views, *self.views.values())):
            raise TypeError(f"views must map role to view name, strings both, got {self.views!r}")
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
        """Map roles to the given views: by the parameter ``views``, by equal names, by order."""
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
            if is_word(view, (name,)):
                return role
        raise ValueError(
            f"no view {shown(view)}: {self._name()} was fitted on "
            + ", ".join(self.views_in_.values())
        )

    def fitted_views(self, X: Views) -> Views:
        """Select the views that were passed to `fit`, in the same order.

        Parameters
        ----------
        X : Views
            Any subset of the modalities of the fit.

        Returns
        -------
        Views

        Raises
        ------
        ValueError
            If none of the views was passed to `fit`; if one of them was not, unless the parameter
            ``views`` selects some; or if the columns of a DataFrame differ from those in `fit`.
        """
        names = tuple(self.views_in_.values())
        unknown = [name for name in X.names if name not in names]
        # With views= the caller selected some of the views, so the others are ignored.
        if len(unknown) == len(X.names) or (unknown and self.views is None):
            raise ValueError(
                f"no view {unknown[0]!r}: {self._name()} was fitted on {', '.join(names)}"
            )
        self._check_columns(X)
        return X.select(*(name for name in names if name in X))

    def _checked_values(self, values: Any, role: str) -> Any:
        name = self._view_name(role)
        views = Views({name: values})
        self._check_columns(views)
        return self._checked(views[name], role, name)

    def _checked(
        self, values: Any, role: str, name: str, fitted: dict[str, int] | None = None
    ) -> Any:
        """Check that the method supports these values; convert numbers to floats if it needs them.

        With `fitted`, record the number of columns; otherwise compare it with that of the fit.
        """
        where = f"{self._name()}: view {name!r}"
        kind = self._kind_of(values, role, name)
        if isinstance(values, Channels):
            return values.map(
                lambda part, channel: (
                    as_float(part, f"{where}, channel {channel!r}") if _is_real(part) else part
                )
            )
        if kind in ("vectors", "regions", "sequence"):
            values = as_float(values, where)
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

    def _kind_of(self, values: Any, role: str, name: str) -> str:
        """Return the kind of input of a view; raise if the method does not take it."""
        kinds = ("vectors",) if self.card is None else self.card.inputs.get(role, ("vectors",))
        kind = _kind_of(values, kinds)
        if kind not in kinds:
            wanted = " or ".join(_KINDS.get(kind, kind) for kind in kinds)
            raw = "; extract features first, by a ViewTransformer or the key 'features'"
            raise ValueError(
                f"{self._name()}: view {name!r} must be {wanted}, got {_what(values)}"
                + (raw if kind in ("strings", "pixels") else "")
            )
        return kind

    def check_kinds(self, views: Views, names: Collection[str]) -> None:
        """Check, before any work, that the method takes views of these kinds.

        Parameters
        ----------
        views : Views
            All views of a fit.
        names : collection of str
            Names of those to check.

        Raises
        ------
        TypeError
            If `views` are not Views, or `names` are not names.
        ValueError
            If the method needs other views, or another kind of input for one of them.
        """
        if not is_views(views):
            raise not_views(f"{self._name()}.check_kinds", views)
        words = isinstance(names, Collection) and not isinstance(names, (str, bytes))
        if not words or is_tensor(names):
            raise TypeError(f"names must be a collection of names of views, got {shown(names)}")
        for role, name in self._assign_roles(views).items():
            if name in names:
                self._kind_of(views.distinct(name)[0], role, name)

    def _checked_labels(self, y: Any, n: int) -> NDArray[Any] | None:
        wants = "optional" if self.card is None else self.card.labels
        if y is None:
            if wants in ("single", "multi"):
                raise ValueError(
                    f"{self._name()} requires y to be passed, but the target y is None: it "
                    "learns from labels, fit(X, Y, y) or fit(views, y)"
                )
            return None
        if is_tensor(y) or (not hasattr(y, "__len__") and hasattr(y, "__array__")):
            y = as_numpy(y, "labels")
        # For a method that does not learn from labels only their number is checked.
        labels = y if wants == "none" else check_labels(y)
        if isinstance(y, (str, bytes)) or not hasattr(y, "__len__") or getattr(y, "ndim", 1) == 0:
            raise ValueError(f"expected one label per row ({n}), got {y!r}")
        n_labels = y.shape[0] if hasattr(y, "shape") else len(y)
        if n_labels != n:
            raise ValueError(f"expected one label per row ({n}), got {n_labels}")
        if wants == "none":
            return None
        if labels.ndim == 2 and wants == "single":
            raise ValueError(
                f"{self._name()} expects one class label per row, got an array of shape "
                f"{labels.shape}"
            )
        return labels


def _kind_of(values: Any, wanted: Sequence[str]) -> str:
    """Return the kind of input; if several are possible, prefer one that is wanted."""
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
        text = f"an object array of {' and '.join(held)}, shape {values.shape}"
        if set(held) <= {"list", "ndarray", "tuple"}:
            text += " (convert with np.stack(column), or Ragged.from_list for unequal lengths)"
        return text
    text = f"an array of shape {tuple(values.shape)} and type {values.dtype}"
    if len(values.shape) == 1:
        text += " (labels go in as y; Reshape your data if it is one feature)"
    return text
