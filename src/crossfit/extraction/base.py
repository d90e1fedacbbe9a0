"""Base class of extractors: scikit-learn transformers of items, batched and cached by content."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from crossfit._arguments import CheckedParameters
from crossfit._arrays import NUMPY_DEFAULTS, as_numpy, in_rows, is_missing
from crossfit._code import code_of
from crossfit._fitted import is_fitted_name, set_fitted
from crossfit._identities import identity_of
from crossfit._packed import container_of, file_size
from crossfit.cache import FeatureCache

__all__ = ["Extractor"]

logger = logging.getLogger("crossfit")

_BLOCK = 2**26  # bytes


class Extractor(CheckedParameters, TransformerMixin, BaseEstimator):
    """Base class of all extractors.

    To write an extractor, derive from `ImageExtractor`, `TextExtractor` or `AudioExtractor`, which
    define the items, and implement `_extract`; an extractor that learns from training rows also
    implements `_fit`. The public methods check their input, split it into batches, show a progress
    bar on long runs and return rows in the order of the items. Equal items of one call are
    processed once.

    Features are stored in the `FeatureCache` if the class does not implement `_fit` and has a
    parameter ``cache`` that is True. The key of an entry depends on the content of the item, on the
    class (its name, the version of its package and its code), on the weights, and on all
    parameters except those in ``neutral_parameters``.

    Notes
    -----
    The base class uses these parameters if the subclass has them: ``batch_size`` (items per call of
    `_extract`), ``cache``, and ``verbose`` (progress bar: ``"auto"`` for long runs on a terminal,
    True always, False never).
    """

    expects: ClassVar[str]
    """The kind of input, for error messages."""

    neutral_parameters: ClassVar[frozenset[str]] = frozenset(
        {"batch_size", "cache", "device", "n_jobs", "verbose"}
    )
    """Parameters that do not change the output."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        # set_output cannot convert outputs with three axes or ragged rows to a DataFrame.
        super().__init_subclass__(auto_wrap_output_keys=None, **kwargs)

    # -- for authors ---------------------------------------------------------------------------

    def _fit(self, items: list[Any], y: Any) -> None:
        """Learn from the training items; to be overridden by extractors that learn."""

    def _extract(self, batch: list[Any]) -> np.ndarray | Sequence[np.ndarray]:
        """Return one row of features for each loaded item of `batch`."""
        raise NotImplementedError(f"{type(self).__name__} must implement _extract(batch)")

    def _collect(self, rows: list[np.ndarray]) -> Any:
        """Combine the rows of a call; to be overridden for ragged output."""
        return np.stack(rows)

    def _weights_id(self) -> str:
        """Return an identifier of the trained weights, such as their SHA-256; empty without any."""
        return ""

    def _n_outputs(self) -> int | None:
        """Return the size of the last axis of the output, or None if it is not known."""
        return None

    # -- items, which ImageExtractor and others define -------------------------------------------

    def _as_items(self, X: Any) -> list[Any]:
        """Return the items of `X`, or raise if it is not what is expected."""
        raise NotImplementedError

    def _content(self, item: Any) -> bytes:
        """Return bytes that differ whenever two items differ."""
        raise NotImplementedError

    def _survey(self, items: list[Any]) -> None:
        """Warn if parts of the items are not used; called before features are extracted."""

    def _length(self, item: Any) -> int:
        """Return a measure of the work for an item; batches are made in descending order of it."""
        return 0

    def _lengths(self, items: list[Any]) -> list[int]:
        """Return the measure of the work for each item."""
        return [self._length(item) for item in items]

    def _load(self, item: Any) -> Any:
        """Return an item in the form that `_extract` processes."""
        return item

    # -- public ----------------------------------------------------------------------------------

    @np.errstate(**NUMPY_DEFAULTS)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Check the input, and learn from it if the extractor learns.

        Parameters
        ----------
        X : array-like of n items
            See the class.
        y : array-like of shape (n,), optional
            Labels, for extractors that use them.

        Returns
        -------
        self
        """
        self._validate_params()
        items = self._as_items(X)
        weights = self._weights_id()
        if weights:
            self.weights_id_ = weights
        self._fit(items, y)
        width = self._n_outputs()
        if width is not None:
            self.n_features_out_ = width
        return self

    def transform(self, X: Any) -> Any:
        """Return the features of items, in their order.

        Parameters
        ----------
        X : array-like of n items
            See the class.

        Returns
        -------
        ndarray or Ragged of n rows
            See the class.

        Raises
        ------
        TypeError, ValueError
            If `X` is not valid input of the extractor, if an item cannot be read, or if features
            are not finite.

        See Also
        --------
        transform_readable : The same without the items that cannot be read.
        """
        return self._transform(X, None)

    def transform_readable(self, X: Any) -> tuple[Any, dict[int, str]]:
        """Return the features of the items that can be read, and what is wrong with the others.

        Parameters
        ----------
        X : array-like of n items
            See the class.

        Returns
        -------
        features : ndarray or Ragged of n - b rows
            The features of all items but b, in their order.
        problems : dict of int to str
            The rows of the other b items, in their order: one sentence each, with the path of the
            file. Their files do not exist or are damaged, or their features are not finite.

        Raises
        ------
        TypeError, ValueError
            If `X` is not valid input of the extractor, or if none of the items can be read.

        Examples
        --------
        >>> import numpy as np
        >>> from crossfit.extraction import GridFeatures
        >>> items = [np.zeros((8, 8, 3), np.uint8), b"not a picture"]
        >>> features, problems = GridFeatures(cache=False).transform_readable(items)
        >>> features.shape, list(problems)
        ((1, 828), [1])
        """
        problems: dict[int, str] = {}
        return self._transform(X, problems), dict(sorted(problems.items()))

    @np.errstate(all="ignore")  # an overflow is reported with the item
    def _transform(self, X: Any, problems: dict[int, str] | None) -> Any:
        """Return features; with `problems`, note the items that cannot be read and leave them out.

        The rows of such items are the keys of `problems`.
        """
        check_is_fitted(self)
        self._validate_params()
        items = self._as_items(X)
        # A bundle names its weights but does not contain them, so they may have changed.
        weights = self._weights_id()
        if getattr(self, "weights_id_", weights) != weights:
            raise ValueError(
                f"{type(self).__name__} was fitted with the weights {self.weights_id_!r}, but its "
                f"weights are now {weights!r}; restore the former weights, or fit again"
            )
        self._survey(items)
        digests: dict[int, str] = {}
        for at, item in enumerate(items):
            with _noting(problems, at):
                digests[at] = hashlib.sha256(self._content(item)).hexdigest()
        first = {digest: at for at, digest in reversed(digests.items())}
        rows: dict[str, np.ndarray] = {}
        prefix = self._cache_prefix()
        cache = FeatureCache() if prefix else None
        if cache is not None:
            found = cache.get_many(prefix + digest for digest in first)
            rows = {key.removeprefix(prefix): row for key, row in found.items()}
        todo = [digest for digest in dict.fromkeys(digests.values()) if digest not in rows]
        lengths = self._lengths([items[first[digest]] for digest in todo])
        # The sort is stable, so equally long items stay in their order.
        todo = [todo[i] for i in sorted(range(len(todo)), key=lambda i: -lengths[i])]
        size = getattr(self, "batch_size", 256)
        # Writing once per second is cheap; writing every batch would halve the speed of a fast
        # extractor.
        unsaved: dict[str, np.ndarray] = {}
        saved_at = time.monotonic()
        # Rows are copied into a few large blocks: many small ones between the large temporary
        # arrays of a network would keep the memory of these from being returned to the system.
        room: np.ndarray | None = None
        try:
            with self._progress(len(todo)) as bar:
                for start in range(0, len(todo), size):
                    part = todo[start : start + size]
                    loaded: dict[str, Any] = {}
                    for digest in part:
                        with _noting(problems, first[digest]):
                            loaded[digest] = self._load(items[first[digest]])
                    for digest, row in zip(loaded, self._rows(list(loaded.values()))):
                        at = first[digest]
                        finite = False
                        with _noting(problems, at):
                            self._check_finite(row, at, items[at])
                            finite = True
                        if not finite:
                            continue
                        if room is None or (not len(room) and row.shape == room.shape[1:]):
                            n = min(_BLOCK // max(1, row.nbytes) + 1, len(todo))
                            room = np.empty((n, *row.shape), row.dtype)
                        if row.ndim and row.shape == room.shape[1:] and row.dtype == room.dtype:
                            room[0] = row
                            row, room = room[0], room[1:]
                        rows[digest] = unsaved[prefix + digest] = row
                    if cache is not None and time.monotonic() - saved_at > 1:
                        cache.put_many(unsaved, type(self).__name__)
                        unsaved, saved_at = {}, time.monotonic()
                    bar.update(len(part))
        finally:  # features from before an interruption are stored too
            if cache is not None:
                cache.put_many(unsaved, type(self).__name__)
        for at, digest in digests.items():
            if digest not in rows and problems is not None:
                problems[at] = problems[first[digest]]
        if problems and not rows:
            raise ValueError(
                f"{type(self).__name__}: none of the {len(items)} items can be read; the first "
                f"problem: {problems[min(problems)]}"
            )
        return self._collect([rows[digest] for digest in digests.values() if digest in rows])

    def _rows(self, loaded: list[Any]) -> list[np.ndarray]:
        """Return the features of loaded items, one row each."""
        if not loaded:
            return []
        extracted = self._extract(loaded)
        try:
            n = len(extracted)
        except TypeError:
            raise TypeError(
                f"{type(self).__name__}._extract must return one row of features for each item of "
                f"the batch, got {type(extracted).__name__}"
            ) from None
        if n != len(loaded):
            raise ValueError(
                f"{type(self).__name__}._extract returned {n} rows for a batch of {len(loaded)}"
            )
        return list(map(np.asarray, extracted))

    def _check_finite(self, row: np.ndarray, at: int, item: Any) -> None:
        if row.dtype.kind == "f" and not np.isfinite(row).all():
            named = f", {os.fspath(item)!r}" if isinstance(item, (str, os.PathLike)) else ""
            raise ValueError(
                f"{type(self).__name__} returned features that are not finite for item {at}{named}"
            )

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the last axis of the output: the class in lower case and a number.

        Parameters
        ----------
        input_features : None
            Ignored, since items have no named features.

        Returns
        -------
        ndarray of str objects
        """
        check_is_fitted(self)
        width = self._n_outputs()
        if width is None:
            raise AttributeError(f"the output of {type(self).__name__} has no named features")
        name = type(self).__name__.lower()
        return np.array([f"{name}{i}" for i in range(width)], dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        return not self._needs_fit() or any(map(is_fitted_name, vars(self)))

    def __crossfit_state__(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return the fitted attributes: plain values for JSON, and arrays."""
        fitted = {name: value for name, value in vars(self).items() if is_fitted_name(name)}
        arrays = {name: part for name, part in fitted.items() if isinstance(part, np.ndarray)}
        return {name: part for name, part in fitted.items() if name not in arrays}, arrays

    def __crossfit_restore__(
        self, state: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
    ) -> None:
        """Restore what `__crossfit_state__` returned, on an instance with the same parameters."""
        # JSON turns tuples into lists; a fitted list is always a tuple here.
        plain = {name: tuple(v) if isinstance(v, list) else v for name, v in state.items()}
        set_fitted(self, {**plain, **arrays})

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = self._needs_fit()
        tags.no_validation = True
        tags.input_tags.two_d_array = False
        return tags

    # -- inside ----------------------------------------------------------------------------------

    @classmethod
    def _needs_fit(cls) -> bool:
        return cls._fit is not Extractor._fit

    def _progress(self, total: int) -> Any:
        from tqdm import tqdm

        verbose = getattr(self, "verbose", "auto")
        on_terminal = sys.stderr is not None and sys.stderr.isatty()
        return tqdm(
            total=total,
            desc=type(self).__name__,
            unit="items",
            delay=0.0 if verbose is True else 2.0,
            leave=False,
            disable=not (on_terminal if verbose == "auto" else verbose),
        )

    def _cache_prefix(self) -> str:
        """Return the part of the cache key that all items share, or "" to disable caching."""
        if self._needs_fit() or not getattr(self, "cache", False):
            return ""
        try:
            return self.fingerprint()
        except TypeError as error:
            logger.debug("%s is not cached: %s", type(self).__name__, error)
            return ""

    def fingerprint(self) -> str:
        """Return a hash of everything that affects the output, except the items.

        Returns
        -------
        str
            64 hexadecimal digits.

        Raises
        ------
        TypeError
            If the code or a parameter has no lasting identity.
        """
        params = {
            name: value
            for name, value in self.get_params(deep=False).items()
            if name not in self.neutral_parameters
        }
        text = json.dumps(
            [_identity(type(self)), params, self._weights_id()], sort_keys=True, default=_plain
        )
        return hashlib.sha256(text.encode()).hexdigest()


@contextlib.contextmanager
def _noting(problems: dict[int, str] | None, at: int) -> Iterator[None]:
    """Note an error of the item at a row in `problems`; without `problems`, raise it."""
    try:
        yield
    except (OSError, ValueError) as error:
        if problems is None:
            raise
        problems[at] = str(error)


def _identity(cls: type) -> list[Any]:
    """Return values that identify the code of an extractor."""
    identity: list[Any] = [identity_of(cls)]
    for part in cls.__mro__:
        if part is Extractor or not issubclass(part, Extractor):
            continue
        # The code is needed in addition to the version, because an editable installation keeps its
        # version while the code changes, and a notebook has no version.
        source = code_of(part)
        version = _version(part.__module__.partition(".")[0])
        if not source and not version:
            raise TypeError(f"the source of {part.__name__} is unknown")
        identity.append([version, source])
    return identity


@functools.cache
def _version(package: str) -> str:
    version = getattr(sys.modules.get(package), "__version__", None)
    if version is not None:
        return str(version)
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        # If the distribution has another name, the file lists of all distributions are read,
        # which is slow.
        names = importlib.metadata.packages_distributions().get(package)
        return importlib.metadata.version(names[0]) if names else ""


def _plain(value: Any) -> Any:
    """Return a form of a parameter for JSON that is equal only for equal parameters."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        data = np.ascontiguousarray(value)
        return [data.dtype.str, value.shape, hashlib.sha256(data.tobytes()).hexdigest()]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Extractor):
        return value.fingerprint()
    if isinstance(value, BaseEstimator):
        return [identity_of(type(value)), value.get_params(deep=False)]
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a parameter of type {type(value).__name__} has no lasting identity")


def sequence_of(X: Any, expects: str, owner: str) -> list[Any]:
    """Return the members of a list, tuple, one-dimensional array or column.

    Parameters
    ----------
    X : array-like of n items
        The argument of the user.
    expects, owner : str
        Kind of input and name of the class, for the error message.

    Raises
    ------
    TypeError
        If `X` is not such a sequence, or if members are missing; the message lists their rows.
    ValueError
        If `X` is empty.
    """
    if not isinstance(X, (list, tuple)):
        values = as_numpy(X) if hasattr(X, "__array__") else None
        if values is None or values.ndim != 1:
            raise TypeError(f"{owner} expects {expects}, got {describe(X)}")
        X = values
    if not len(X):
        raise ValueError(f"{owner} expects {expects}, got {describe(X)}")
    items = list(X)
    lacking = [row for row, item in enumerate(items) if is_missing(item)]
    if lacking:
        raise TypeError(f"{owner} expects {expects}, got nothing in {in_rows(lacking, len(items))}")
    return items


def check_file(path: str | os.PathLike[str], kind: str) -> str:
    """Return the path of a file as str, after checking that it is a regular file.

    Reading from a FIFO, for instance, could block forever.

    Parameters
    ----------
    path : path-like
        The file, whose links are followed, or the address of a file in a tar, parquet or Arrow
        file (see `crossfit.datasets.from_webdataset`).
    kind : str
        Kind of the file in messages, such as "image" or "sound".

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If it is a folder, a FIFO, a socket or a device.
    """
    name = os.fspath(path)
    if container_of(name) is not None and file_size(name) is not None:
        return name
    if not os.path.exists(name):
        raise FileNotFoundError(f"there is no {kind} file {name!r}")
    if not os.path.isfile(name):
        raise ValueError(f"cannot read the {kind} {name!r}: it is not a regular file")
    return name


def describe(X: Any, member: Any = None) -> str:
    """Return a description of invalid input: its container, its size and the type of `member`."""
    if hasattr(X, "__array__") and not isinstance(X, (list, tuple)):
        X = as_numpy(X)
        if X.dtype != object or X.ndim != 1:
            return f"{X.dtype} array of shape {X.shape}"
        container = "object array"
    elif isinstance(X, (list, tuple)):
        container = type(X).__name__
    else:
        return f"a single {type(X).__name__}"
    return f"{container} of {len(X)}" + (f" {type(member).__name__}" if len(X) else "")
