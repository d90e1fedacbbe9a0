"""Composition of transformers over Views: one per view, several per view, and columns as views."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
import scipy.sparse as sp
import sklearn
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.utils import TransformerTags, get_tags
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.metaestimators import _BaseComposition, available_if
from sklearn.utils.validation import check_is_fitted

from crossfit._arguments import not_views
from crossfit._arrays import NUMPY_DEFAULTS, as_array, checked_csr
from crossfit._text import shown
from crossfit._warnings import at_the_callers_line
from crossfit.base import ViewsTransformerMixin
from crossfit.labels import row_weights
from crossfit.views import Channels, Views, check_columns, item_weights

__all__ = ["ChannelUnion", "ColumnsAsViews", "SelectChannel", "ViewTransformer"]

Named = Sequence[tuple[str, Any]]

#: Name of a transformer of all views at once, in place of the name of a view.
ALL_VIEWS = "*"


def check_transformers(owner: str, transformers: Any, special: tuple[str, ...] = ()) -> None:
    """Check that transformers are (name, transformer) pairs with different names.

    Parameters
    ----------
    owner : str
        Name of the class in messages.
    transformers : object
        The argument to check.
    special : tuple of str, default=()
        Strings that are allowed in place of a transformer, such as ``"drop"``.

    Raises
    ------
    TypeError, ValueError
        If the argument is not a sequence of such pairs, if a name occurs twice, or if a transformer
        has no fit or no transform.
    """
    well_formed = isinstance(transformers, Sequence) and all(
        isinstance(pair, (tuple, list)) and len(pair) == 2 and isinstance(pair[0], str)
        for pair in transformers
    )
    if not well_formed or not transformers:
        raise TypeError(
            f"{owner}: transformers must be a list of (name, transformer) pairs, got "
            f"{shown(transformers)}"
        )
    names = [name for name, _ in transformers]
    if len(set(names)) < len(names):
        raise ValueError(f"{owner}: names of transformers must differ, got {', '.join(names)}")
    for name, transformer in transformers:
        if isinstance(transformer, str):
            if transformer not in special:
                raise ValueError(
                    f"{owner}: {name!r} must be a transformer"
                    + (f" or one of {', '.join(special)}" if special else "")
                    + f", got {transformer!r}"
                )
        elif not hasattr(transformer, "fit") or not hasattr(transformer, "transform"):
            raise TypeError(
                f"{owner}: {name!r} must be a transformer with fit and transform, got "
                f"{type(transformer).__name__}"
            )


class ViewTransformer(
    ViewsTransformerMixin,
    _BaseComposition,  # type: ignore[misc]
):
    """Apply a transformer to each view.

    A transformer processes each distinct item of a view once, even if several rows share it.

    Parameters
    ----------
    transformers : list of (str, transformer)
        Pairs of the name of a view and a scikit-learn transformer or pipeline, or
        ``"passthrough"`` or ``"drop"``. Parameters of the transformers are set as
        ``<view>__<parameter>``. A transformer named ``"*"`` maps all views at once, from Views to
        Views, before the others.
    remainder : {"passthrough", "drop"}, default="passthrough"
        Whether views that are not named are returned unchanged or left out.

    Attributes
    ----------
    transformers_ : dict of str to transformer
        The fitted transformers by view.
    views_in_ : dict of str to str
        The views of the fit, as keys and as values.

    See Also
    --------
    ChannelUnion : Apply several transformers to one view.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.decomposition import PCA
    >>> from sklearn.feature_extraction.text import CountVectorizer
    >>> from crossfit import Views, ViewTransformer
    >>> views = Views(image=np.eye(3), text=["a red car", "a blue car", "a red bus"])
    >>> features = ViewTransformer([("image", PCA(2)), ("text", CountVectorizer())])
    >>> found = features.fit_transform(views)
    >>> found["image"].shape, found["text"].shape
    ((3, 2), (3, 4))
    """

    def __init__(self, transformers: Named, remainder: str = "passthrough") -> None:
        self.transformers = transformers
        self.remainder = remainder

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters, including those of the transformers."""
        return self._get_params("transformers", deep=deep)

    def set_params(self, **params: Any) -> Self:
        """Set parameters, including those of the transformers."""
        self._set_params("transformers", **params)
        return self

    def get_metadata_routing(self) -> MetadataRouter:
        """Return where scikit-learn's metadata routing passes the weights of rows.

        Returns
        -------
        MetadataRouter
            Weights go to the transformers that request them, one weight per item.
        """
        return _router(self)

    def fit(self, X: Views, y: ArrayLike | None = None, **params: Any) -> Self:
        """Fit every transformer on its view.

        Parameters
        ----------
        X : Views
            Rows with all views that `transformers` names.
        y : array-like of shape (n,) or (n, n_classes), optional
            Labels of the rows; transformers are called with one label per item.
        **params : array-like of shape (n,)
            As in `fit_transform`.

        Returns
        -------
        Self
            The fitted object.

        Raises
        ------
        TypeError, ValueError
            If `X` is not Views, if a view that `transformers` names is missing, or if a parameter
            is invalid.
        """
        self.fit_transform(X, y, **params)
        return self

    def fit_transform(self, X: Views, y: ArrayLike | None = None, **params: Any) -> Views:
        """Fit every transformer on its view and return the transformed Views.

        Parameters
        ----------
        X : Views
            Rows with all views that `transformers` names.
        y : array-like of shape (n,) or (n, n_classes), optional
            Labels of the rows; transformers are called with one label per item.
        **params : array-like of shape (n,)
            With scikit-learn's metadata routing: ``sample_weight``, under the names that
            transformers request it by. The weight of an item is the sum of those of its rows.

        Returns
        -------
        Views
            The views, with the outputs of the transformers in place of their inputs.
        """
        if not isinstance(X, Views):
            raise not_views("ViewTransformer", X)
        check_transformers("ViewTransformer", self.transformers, ("passthrough", "drop"))
        if not (isinstance(self.remainder, str) and self.remainder in ("passthrough", "drop")):
            raise ValueError(
                f"remainder must be 'passthrough' or 'drop', got {shown(self.remainder)}"
            )
        missing = [name for name in self._by_view() if name not in X]
        if missing:
            raise ValueError(
                f"ViewTransformer needs the view {missing[0]!r}, got {', '.join(X.names)}"
            )
        names_in, columns = X.names, X.columns
        routed = _routed(self, params)
        chosen = dict.fromkeys(X.names, self.remainder) | self._by_view()
        fitted: dict[str, Any] = {}
        transformed: dict[str, Any] = {}
        if (together := self._of_all_views()) is not None:
            fitted[ALL_VIEWS] = clone(together).fit(X, y, **routed[ALL_VIEWS].get("fit", {}))
            X = fitted[ALL_VIEWS].transform(X)
        for name in X.names:
            transformer = chosen[name]
            if isinstance(transformer, str):
                fitted[name] = transformer
                continue
            values, _ = X.distinct(name)
            labels = None if y is None else X.item_labels(name, y)
            fitted[name] = clone(transformer)
            both = hasattr(fitted[name], "fit_transform")
            more = {
                key: item_weights(X, name, row_weights(part, len(X), "ViewTransformer: "))
                for key, part in routed[name].get("fit_transform" if both else "fit", {}).items()
            }
            with _naming(name):
                if both:
                    transformed[name] = fitted[name].fit_transform(values, labels, **more)
                else:
                    transformed[name] = fitted[name].fit(values, labels, **more).transform(values)
        self.transformers_ = fitted
        self.views_in_ = {name: name for name in names_in}
        self.feature_names_in_ = columns
        return self._assemble(X, transformed)

    def transform(self, X: Views) -> Views:
        """Transform any subset of the views of the fit.

        Parameters
        ----------
        X : Views
            Some or all of the views of the fit.

        Returns
        -------
        Views
            The views, with the outputs of the transformers in place of their inputs.
        """
        check_is_fitted(self)
        if not isinstance(X, Views):
            raise not_views("ViewTransformer", X)
        unknown = [name for name in X.names if name not in self.transformers_]
        if unknown:
            raise ValueError(
                f"ViewTransformer: the view {unknown[0]!r} was not in the fit, which had the views "
                f"{', '.join(self.transformers_)}"
            )
        check_columns(self.feature_names_in_, X, "ViewTransformer")
        if ALL_VIEWS in self.transformers_:
            X = self.transformers_[ALL_VIEWS].transform(X)
        transformed = {}
        for name in X.names:
            if not isinstance(self.transformers_[name], str):
                with _naming(name):
                    transformed[name] = self.transformers_[name].transform(X.distinct(name)[0])
        return self._assemble(X, transformed)

    def _by_view(self) -> dict[str, Any]:
        """Return the transformers of single views."""
        return {name: part for name, part in self.transformers if name != ALL_VIEWS}

    def _of_all_views(self) -> Any:
        """Return the transformer of all views at once, or None."""
        found = dict(self.transformers).get(ALL_VIEWS)
        return None if isinstance(found, str) else found

    def _assemble(self, X: Views, transformed: Mapping[str, Any]) -> Views:
        kept = [name for name in X.names if self.transformers_[name] != "drop"]
        if not kept:
            raise ValueError(
                f"ViewTransformer would drop all views, {', '.join(X.names)}; pass a view that is "
                "not dropped"
            )
        return X.select(*kept).map(lambda values, name: transformed.get(name, values))


def _router(owner: ViewTransformer | ChannelUnion) -> MetadataRouter:
    """Return where metadata routing passes arguments of `fit` and `fit_transform`."""
    router = MetadataRouter(owner=owner)
    for name, transformer in owner.transformers:
        if isinstance(transformer, str):
            continue
        callee = "fit_transform" if hasattr(transformer, "fit_transform") else "fit"
        if name == ALL_VIEWS or isinstance(owner, ChannelUnion):
            callee = "fit"
        mapping = MethodMapping()
        for caller in ("fit", "fit_transform"):
            mapping.add(caller=caller, callee=callee)
        router.add(**{name: transformer}, method_mapping=mapping)
    return router


def _routed(owner: ViewTransformer | ChannelUnion, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the arguments of each transformer by method."""
    if params and not sklearn.get_config()["enable_metadata_routing"]:
        raise TypeError(
            f"{type(owner).__name__}.fit: {next(iter(params))!r} is passed on by metadata routing "
            "only; enable it, sklearn.set_config(enable_metadata_routing=True)"
        )
    return defaultdict(dict, process_routing(owner, "fit", **params) if params else {})


@contextlib.contextmanager
def _naming(view: str) -> Iterator[None]:
    """Add the name of the view to errors of a transformer, whose input is only an array.

    Its warnings are reported for the user's line.
    """
    try:
        with np.errstate(**NUMPY_DEFAULTS), at_the_callers_line():
            yield
    except (ValueError, TypeError) as error:
        if type(error) not in (ValueError, TypeError):  # others may have further arguments
            raise
        raise type(error)(f"view {view!r}: {error}") from error


class ChannelUnion(
    ViewsTransformerMixin,
    _BaseComposition,  # type: ignore[misc]
):
    """Apply several transformers to one view, and return their outputs as channels of the view.

    Parameters
    ----------
    transformers : list of (str, transformer)
        Pairs of the name of a channel and the transformer that computes it, for instance a
        convolutional map and the detected objects of the same picture.

    Attributes
    ----------
    transformers_ : dict of str to transformer
        The fitted transformers by channel.

    See Also
    --------
    SelectChannel : Return one channel of a view.
    ViewTransformer : Apply a transformer to each view.

    Examples
    --------
    >>> from sklearn.feature_extraction.text import CountVectorizer
    >>> from crossfit import ChannelUnion
    >>> words, letters = CountVectorizer(), CountVectorizer(analyzer="char")
    >>> union = ChannelUnion([("words", words), ("letters", letters)])
    >>> union.fit_transform(["red car", "red bus"]).names
    ('words', 'letters')
    """

    def __init__(self, transformers: Named) -> None:
        self.transformers = transformers

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters, including those of the transformers."""
        return self._get_params("transformers", deep=deep)

    def set_params(self, **params: Any) -> Self:
        """Set parameters, including those of the transformers."""
        self._set_params("transformers", **params)
        return self

    def get_metadata_routing(self) -> MetadataRouter:
        """Return where scikit-learn's metadata routing passes the weights of rows.

        Returns
        -------
        MetadataRouter
            Weights go to the transformers that request them.
        """
        return _router(self)

    def fit(self, X: Any, y: ArrayLike | None = None, **params: Any) -> Self:
        """Fit every transformer on the same values.

        Parameters
        ----------
        X : array-like of n items
            The values of one view.
        y : array-like of shape (n,) or (n, n_classes), optional
            Labels of the rows.
        **params : array-like of shape (n,)
            With scikit-learn's metadata routing: arguments that transformers request.

        Returns
        -------
        Self
            The fitted object.
        """
        check_transformers("ChannelUnion", self.transformers)
        routed = _routed(self, params)
        self.transformers_ = {
            name: clone(transformer).fit(X, y, **routed[name].get("fit", {}))
            for name, transformer in self.transformers
        }
        return self

    def transform(self, X: Any) -> Channels:
        """Return the `Channels` of all transformers.

        Parameters
        ----------
        X : array-like of n items
            The values of one view.
        """
        check_is_fitted(self)
        return Channels({name: part.transform(X) for name, part in self.transformers_.items()})


class SelectChannel(TransformerMixin, BaseEstimator):
    """Return one channel of a view, for methods that use only this channel.

    Parameters
    ----------
    channel : str
        Name of the channel, for instance ``"caption"``.

    Raises
    ------
    ValueError
        If the view does not have the channel.

    See Also
    --------
    ChannelUnion : Compute several channels of a view.

    Examples
    --------
    >>> from crossfit import Channels
    >>> texts = Channels({"article": ["long", "longer"], "caption": ["short", "brief"]})
    >>> SelectChannel("caption").fit_transform(texts).tolist()
    ['short', 'brief']
    """

    def __init__(self, channel: str) -> None:
        self.channel = channel

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        return tags

    def fit(self, X: Channels, y: ArrayLike | None = None) -> Self:
        """Check that the view has the channel.

        Parameters
        ----------
        X : Channels
            The values of one view.
        y : object, optional
            Ignored.

        Returns
        -------
        Self
            The fitted object.
        """
        self.transform(X)
        return self

    def transform(self, X: Channels) -> Any:
        """Return the values of the channel, one per row of the view.

        Parameters
        ----------
        X : Channels
            The values of one view.
        """
        names = X.names if isinstance(X, Channels) else ()
        if self.channel not in names:
            what = f"the channels {', '.join(names)}" if names else "no channels"
            raise ValueError(
                f"SelectChannel: the view has no channel {self.channel!r}; it has {what}"
            )
        return X[self.channel]


def _has_transform(adapter: ColumnsAsViews) -> bool:
    return hasattr(adapter.estimator, "transform")


class ColumnsAsViews(BaseEstimator):
    """Split the columns of one array into the views of a method.

    This adapter makes cross-modal methods available to tools that call ``fit(X, y)``, such as
    scikit-learn's estimator checks. It only splits the columns; the method raises all errors.

    Parameters
    ----------
    estimator : CrossModalEstimator
        The method, whose first two roles must accept vectors; it is cloned in `fit`.
    """

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True  # a method that rejects CSR arrays raises an error
        tags.input_tags.positive_only = get_tags(self.estimator).input_tags.positive_only
        tags.transformer_tags = TransformerTags() if _has_transform(self) else None
        card = self.estimator.card
        tags.target_tags.required = card is not None and card.labels in ("single", "multi")
        return tags

    def _split(self, X: Any) -> tuple[Any, Any]:
        if sp.issparse(X):
            X = checked_csr(X, "X")  # not every sparse format can be sliced
        elif hasattr(X, "iloc") or not hasattr(X, "shape"):
            X = as_array(X, "X")
        if len(X.shape) < 2 or X.shape[1] < 2:
            return X, X  # cannot be split; the method checks it
        half = X.shape[1] // 2
        if getattr(self.estimator, "equal_widths", False):
            # Of an odd number of columns the middle one is left out.
            expected = getattr(self, "n_features_in_", X.shape[1])
            if X.shape[1] != expected:
                raise ValueError(f"X has {X.shape[1]} features, but {expected} were fitted")
            return X[:, :half], X[:, -half:]
        return X[:, :half], X[:, half:]

    def fit(self, X: Any, y: ArrayLike | None = None) -> Self:
        """Fit the method on the two halves of the columns.

        Parameters
        ----------
        X : array-like of shape (n, n_columns)
            The columns of both views side by side.
        y : array-like of shape (n,) or (n, n_classes), optional
            Labels of the rows.

        Returns
        -------
        Self
            The fitted object.
        """
        self.__dict__.pop("n_features_in_", None)  # of an earlier fit
        self.estimator_ = clone(self.estimator).fit(*self._split(X), y)
        if hasattr(X, "shape"):
            self.n_features_in_ = X.shape[1]
        return self

    # TransformerMixin would add fit_transform to methods that only score pairs as well.
    @available_if(_has_transform)
    def fit_transform(self, X: Any, y: ArrayLike | None = None) -> Any:
        """Fit the method and transform the same rows.

        Parameters
        ----------
        X : array-like of shape (n, n_columns)
            The columns of both views side by side.
        y : array-like of shape (n,) or (n, n_classes), optional
            Labels of the rows.

        Returns
        -------
        array of shape (n, 2 n_components)
            Both embeddings side by side.
        """
        return self.fit(X, y).transform(X)

    @available_if(_has_transform)
    def transform(self, X: Any) -> Any:
        """Return both embeddings side by side, shape (n, 2 n_components).

        Parameters
        ----------
        X : array-like of shape (n, n_columns)
            The columns of both views side by side.
        """
        check_is_fitted(self)
        return np.hstack(self.estimator_.transform(*self._split(X)))

    def score(self, X: Any, y: ArrayLike | None = None) -> float:
        """Return the score of the method on the two halves of the columns.

        Parameters
        ----------
        X : array-like of shape (n, n_columns)
            The columns of both views side by side.
        y : array-like of shape (n,) or (n, n_classes), optional
            Labels of the rows.
        """
        check_is_fitted(self)
        return float(self.estimator_.score(*self._split(X), y))
