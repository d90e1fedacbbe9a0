"""Views: named modalities aligned by row, and Ragged: rows of unequal length."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from numbers import Number, Real
from types import MappingProxyType
from typing import Any, NoReturn, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from crossfit._arrays import (
    as_array,
    as_numpy,
    check_finite,
    check_tensor,
    checked_csr,
    floats,
    is_missing,
    is_tensor,
    listed,
    missing_rows,
)
from crossfit._frames import frame_of
from crossfit._html import Items, html_table
from crossfit._text import shown
from crossfit._warnings import warn
from crossfit.labels import check_labels, class_codes, group_codes, joined_labels, read_labels

__all__ = [
    "Channels",
    "Ragged",
    "Views",
    "as_float",
    "check_columns",
    "as_numpy",
    "item_weights",
    "is_tensor",
    "is_views",
    "n_rows",
    "take_rows",
    "without_padding",
]

IntArray = NDArray[np.int64]


class _Immutable:
    """Objects whose attributes cannot be set after they are made."""

    __slots__ = ()

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is immutable: cannot set {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is immutable: cannot delete {name!r}")


class Ragged(_Immutable):
    """Rows of unequal length: region vectors of an image, words of a sentence.

    Parameters
    ----------
    values : array of shape (n_elements, ...)
        The elements of all rows, one row after the other.
    offsets : array-like of int, shape (n_rows + 1,)
        Row ``i`` is ``values[offsets[i]:offsets[i + 1]]``.
    info : mapping, optional
        Additional data. Arrays whose first axis has ``n_elements`` entries (boxes, scores) are
        indexed together with the rows; anything else (a vocabulary) is kept unchanged.

    Raises
    ------
    ValueError
        If the offsets do not increase monotonically from 0 to ``len(values)``, or values are
        masked or missing.
    TypeError
        If `values` is not an array-like or `info` is not a mapping.

    See Also
    --------
    Ragged.from_list : Build one from a list of arrays.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit import Ragged
    >>> regions = Ragged.from_list([np.zeros((2, 3)), np.ones((1, 3))])
    >>> regions.lengths.tolist()
    [2, 1]
    >>> regions[1].tolist()
    [[1.0, 1.0, 1.0]]
    >>> dense, mask = regions.padded()
    >>> dense.shape, mask.tolist()
    ((2, 2, 3), [[True, True], [True, False]])
    """

    __slots__ = ("info", "offsets", "values")

    values: NDArray[Any]
    offsets: IntArray
    info: Mapping[str, Any]

    def __init__(
        self, values: ArrayLike, offsets: ArrayLike, info: Mapping[str, Any] | None = None
    ) -> None:
        array = _read_only(_of_elements(values, "the values of a Ragged"))
        bounds = as_numpy(offsets, "the offsets of a Ragged")
        if (
            bounds.ndim != 1
            or len(bounds) < 1
            or bounds.dtype.kind not in "iu"
            or bounds[0] != 0
            or array.ndim < 1
            or bounds[-1] != len(array)
            or np.any(bounds[1:] < bounds[:-1])
        ):
            raise ValueError(
                "Ragged expects integer offsets that rise from 0 to the number of elements "
                f"({len(array) if array.ndim else 'a scalar'}), got offsets of shape "
                f"{bounds.shape} and type {bounds.dtype}"
                + (
                    f" from {bounds[0]} to {bounds[-1]}"
                    if bounds.ndim == 1 and len(bounds) and bounds.dtype.kind in "iuf"
                    else ""
                )
            )
        object.__setattr__(self, "values", array)
        object.__setattr__(self, "offsets", _read_only(bounds.astype(np.int64, copy=False)))
        if info is not None and not isinstance(info, Mapping):
            raise TypeError(f"info must be a mapping, got an object of type {type(info).__name__}")
        object.__setattr__(self, "info", MappingProxyType(dict({} if info is None else info)))

    @classmethod
    def from_list(cls, rows: Sequence[ArrayLike], info: Mapping[str, Any] | None = None) -> Self:
        """Build a Ragged from one array per row.

        Parameters
        ----------
        rows : sequence of array-like, each of shape (R_i, ...)
            All shapes must agree after the first axis.
        info : mapping, optional
            As for the class.

        Returns
        -------
        Ragged

        Raises
        ------
        ValueError, TypeError
            If there are no rows, if their trailing shapes or types differ, or if elements are
            masked or missing.
        """
        unordered = isinstance(rows, (str, bytes, Mapping, Set)) or getattr(rows, "ndim", 1) == 0
        if unordered or sp.issparse(rows) or not isinstance(rows, Iterable):
            raise TypeError(
                "Ragged.from_list expects a sequence of rows, got an object of type "
                f"{type(rows).__name__}"
            )
        arrays = [_of_elements(row, f"row {i} of a Ragged") for i, row in enumerate(rows)]
        if not arrays:
            raise ValueError("Ragged.from_list expects at least one row, got none")
        shapes = {a.shape[1:] for a in arrays if a.size}
        if any(a.ndim == 0 for a in arrays) or len(shapes) > 1:
            raise ValueError(
                "Ragged.from_list expects rows that agree in all axes but the first, got "
                f"trailing shapes {sorted(shapes)}"
            )
        if shapes:
            trailing = next(iter(shapes))
            kinds = {"b" if a.dtype.kind in "biufc" else a.dtype.kind for a in arrays if a.size}
            if len(kinds) > 1:
                raise ValueError(
                    "Ragged.from_list expects elements of one kind, got the types "
                    f"{', '.join(sorted({str(a.dtype) for a in arrays if a.size}))}"
                )
            dtype = np.result_type(*[a for a in arrays if a.size])
            arrays = [a if a.size else np.empty((0, *trailing), dtype) for a in arrays]
        offsets = np.concatenate([[0], np.cumsum([len(a) for a in arrays])])
        return cls(np.concatenate(arrays), offsets, info)

    @property
    def shape(self) -> tuple[int]:
        """``(n_rows,)``, from which scikit-learn reads the number of samples."""
        return (len(self),)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements."""
        return self.values.dtype

    @property
    def lengths(self) -> IntArray:
        """Number of elements of each row, shape (n_rows,)."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, rows: Any) -> Any:
        """Return one row as an array for an int, else a Ragged of the selected rows."""
        rows = _drop_ellipsis(rows)
        if isinstance(rows, (int, np.integer)) and not isinstance(rows, bool):
            i = int(_positions(rows, len(self))[0])
            return self.values[self.offsets[i] : self.offsets[i + 1]]
        at = _positions(rows, len(self))
        lengths = self.lengths[at]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        element = np.arange(offsets[-1]) + np.repeat(self.offsets[at] - offsets[:-1], lengths)
        n = len(self.values)
        info = {
            key: part[element]
            if isinstance(part, np.ndarray) and part.ndim and len(part) == n
            else part
            for key, part in self.info.items()
        }
        return type(self)(self.values[element], offsets, info)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        for start, stop in zip(self.offsets[:-1], self.offsets[1:]):
            yield self.values[start:stop]

    def padded(
        self, length: int | None = None, fill: float = 0
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Return a dense, padded array and the mask of real elements.

        Parameters
        ----------
        length : int, optional
            Length of every row; longer rows are truncated. Default: the length of the longest row.
        fill : number, default=0
            The value of the padding.

        Returns
        -------
        dense : array of shape (n_rows, length, ...)
        mask : bool array of shape (n_rows, length)
            True for real elements, False for padding.

        Raises
        ------
        ValueError
            If `length` is not a non-negative integer, or the dtype of the elements cannot hold
            `fill`.
        """
        lengths = self.lengths
        whole = isinstance(length, (int, np.integer)) and not isinstance(length, bool)
        if length is not None and not (whole and 0 <= length < 2**31):
            raise ValueError(
                f"length must be a whole number of at least 0 or None, got {shown(length)}"
            )
        if not _can_hold(self.dtype, fill):
            raise ValueError(f"fill must be a number that {self.dtype} can hold, got {shown(fill)}")
        width = int(lengths.max(initial=0)) if length is None else int(length)
        mask = np.arange(width) < lengths[:, None]
        dense = np.empty((len(self), width, *self.values.shape[1:]), dtype=self.dtype)
        dense.fill(fill)
        kept = np.arange(len(self.values)) - np.repeat(self.offsets[:-1], lengths) < width
        dense[mask] = self.values[kept]
        return dense, mask

    def to_frame(self) -> Any:
        """Return the elements as a pandas DataFrame, one per row; pandas must be installed.

        Returns
        -------
        pandas.DataFrame
            Columns ``row``, ``element`` (its place in the row), ``value`` (a number, or an array)
            and one for each array of `info` with an entry per element.

        Examples
        --------
        >>> Ragged.from_list([[5, 6], [7]]).to_frame().values.tolist()
        [[0, 0, 5], [0, 1, 6], [1, 0, 7]]
        """
        n = len(self.values)
        starts = np.repeat(self.offsets[:-1], self.lengths)
        found: dict[str, Any] = {
            "row": np.repeat(np.arange(len(self)), self.lengths),
            "element": np.arange(n) - starts,
            "value": _as_column(self.values),
        }
        for name, part in self.info.items():
            if isinstance(part, np.ndarray) and part.ndim and len(part) == n:
                found.setdefault(str(name), _as_column(part))
        return frame_of(found)

    def _repr_html_(self) -> str:
        lengths = self.lengths
        texts = self.values.dtype.kind in "OU"
        items = Items()
        rows = [
            (
                i,
                int(lengths[i]),
                items.shown(" ".join(map(str, self[i][:20])) if texts else self[i]),
            )
            for i in range(min(len(self), 5))
        ]
        caption = f"{self!r}: {len(rows)} of {len(self)} rows"
        return html_table(caption, ("row", "elements", "values"), rows)

    def __repr__(self) -> str:
        extra = f", info: {', '.join(self.info)}" if self.info else ""
        return (
            f"Ragged(n={len(self)}, {len(self.values)} elements of shape "
            f"{self.values.shape[1:]} {self.dtype}{extra})"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.values, self.offsets, dict(self.info))


class Views(_Immutable):
    """Named modalities of the same samples: row ``i`` of every view belongs to sample ``i``.

    A row may lack some of the views, which methods whose card has ``missing_views`` learn from;
    items of a view, and the scores of methods, are those of the rows that have it.
    Behaves like an array of ``n`` rows wherever scikit-learn splits data, so that pipelines,
    cross-validation and grid search work on several modalities at once.

    Parameters
    ----------
    views : mapping of str to array-like, optional
        The views in order; use it instead of keywords for names that are not identifiers.
    present : mapping of str to array-like of bool, shape (n,), optional
        For views that some rows lack: True for the rows that have the view. The values given for
        the other rows are ignored, whatever they are, and not kept. Every row must have a view.
    **named : array-like
        The views in order. Each is an ndarray, memmap, CSR matrix, tensor, `Ragged`, DataFrame or
        Series (rows by position), or a list of strings, paths or PIL images. A mapping becomes a
        view of several row-aligned channels (`Channels`).

    Raises
    ------
    ValueError
        If the views are empty or their numbers of rows differ; the message lists the names and
        sizes. If a mask of `present` does not fit, or a row or a view has no values at all.
    TypeError
        If a view does not consist of rows, or `present` is not a mapping.

    See Also
    --------
    Ragged : Rows of unequal length.
    Channels : A view of several row-aligned parts.
    Views.from_items : Build Views in which rows share items.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit import Views
    >>> v = Views(image=np.zeros((3, 4)), text=["a cat", "a dog", "a bird"])
    >>> v.shape
    (3,)
    >>> v[[0, 2]]["text"].tolist()
    ['a cat', 'a bird']

    Rows that lack a view:

    >>> given = {"text": [True, False, True]}
    >>> v = Views(image=np.zeros((3, 4)), text=["a cat", None, "a bird"], present=given)
    >>> v.distinct("text")[0].tolist(), v.complete()["text"].tolist()
    (['a cat', 'a bird'], ['a cat', 'a bird'])
    """

    __slots__ = ("_columns", "_groups", "_index", "_n", "_values")

    _values: dict[str, Any]
    _index: dict[str, IntArray]
    _groups: IntArray | None
    _n: int
    _columns: dict[str, tuple[str, ...]]

    def __init__(
        self,
        views: Mapping[str, Any] | None = None,
        /,
        *,
        present: Mapping[str, ArrayLike] | None = None,
        **named: Any,
    ) -> None:
        given = _named(type(self).__name__, ", Views(image=..., text=...)", views, named)
        masks = self._masks(present, given)
        values, sizes, index = {}, {}, {}
        for name, part in given.items():
            read = _as_values(part, name)
            sizes[name] = n_rows(read)
            if name in masks and len(masks[name]) == sizes[name]:
                index[name] = _numbered(masks[name])
                read = take_rows(read, masks[name])
            values[name] = self._read(read, name)
        n = _common_size(sizes)
        for name, mask in masks.items():
            if len(mask) != n:
                raise ValueError(
                    f"present[{name!r}] must have one entry per row ({n}), got {len(mask)}"
                )
        if len(masks) == len(values):
            _check_complete(masks.values())
        columns = {name: _columns_of(part) for name, part in given.items()}
        self._set(values, index, None, n, columns)

    @classmethod
    def _masks(cls, present: Any, given: Mapping[str, Any]) -> dict[str, NDArray[np.bool_]]:
        """Return the masks of the views that some rows lack."""
        if present is None:
            return {}
        if not isinstance(present, Mapping) or issubclass(cls, Channels):
            raise TypeError(
                "present must be a mapping of view names to masks of rows, for Views alone, got "
                f"an object of type {type(present).__name__} for {cls.__name__}; pass a view of "
                "this name in a mapping of views"
            )
        _check_entries(present, "present", given)
        masks = {}
        for name, part in present.items():
            mask = as_numpy(part, f"present[{name!r}]")
            if mask.ndim != 1 or mask.dtype != bool:
                raise ValueError(
                    f"present[{name!r}] must be one bool per row, got an array of shape "
                    f"{mask.shape} and type {mask.dtype}"
                )
            if not mask.any():
                raise ValueError(f"view {name!r} is missing in every row; leave it out")
            if not mask.all():
                masks[name] = mask
        return masks

    def _set(
        self,
        values: dict[str, Any],
        index: dict[str, IntArray],
        groups: IntArray | None,
        n: int,
        columns: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
    ) -> None:
        _common_size(dict.fromkeys(values, n))
        # Set here too, and not only for arrays given by users: pickling drops the flag.
        locked = {k: _read_only(v) if isinstance(v, np.ndarray) else v for k, v in values.items()}
        object.__setattr__(self, "_values", locked)
        object.__setattr__(self, "_index", {k: _read_only(v) for k, v in index.items()})
        object.__setattr__(self, "_groups", None if groups is None else _read_only(groups))
        object.__setattr__(self, "_n", n)
        known = {name: columns[name] for name in values if columns.get(name)}
        object.__setattr__(self, "_columns", known)

    @classmethod
    def _read(cls, given: Any, name: str) -> Any:
        """Convert the values given for a view to one of the types that views hold."""
        values = _as_values(given, name)
        # A channel may have missing rows; a view may not.
        _check_items(values, name, may_lack=issubclass(cls, Channels))
        return values

    @classmethod
    def _build(
        cls,
        values: dict[str, Any],
        index: dict[str, IntArray],
        groups: IntArray | None,
        n: int,
        columns: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
    ) -> Self:
        made = cls.__new__(cls)
        made._set(values, index, groups, n, columns)
        return made

    @classmethod
    def from_captions(
        cls,
        images: Any,
        captions: Any,
        image_index: ArrayLike,
        *,
        names: tuple[str, str] = ("image", "text"),
    ) -> Self:
        """Build Views from images that have several captions each.

        A row is a pair of a caption and its image; each image is stored, encoded and ranked
        once.

        Parameters
        ----------
        images : array-like of n_images rows
            Any valid values of a view.
        captions : array-like of n rows
            Any valid values of a view.
        image_index : array-like of int, shape (n,)
            The row of `images` that each caption describes.
        names : pair of str, default=("image", "text")
            Names of the two views.

        Returns
        -------
        Views
            With one row per caption.

        Raises
        ------
        ValueError
            If the sizes disagree or an index is out of range for `images`.

        Warns
        -----
        UserWarning
            If some images have no caption; they are left out, because every row is a pair.

        Examples
        --------
        >>> import numpy as np
        >>> from crossfit import Views
        >>> captions = ["a cat", "a sleeping cat", "a dog"]
        >>> v = Views.from_captions(np.eye(2), captions, [0, 0, 1])
        >>> len(v), v.groups.tolist()
        (3, [0, 0, 1])
        """
        if not isinstance(names, (tuple, list)) or len(names) != 2:
            raise ValueError(f"names must be a pair of different strings, got {shown(names)}")
        image, text = names
        _check_names(names, "names must be a pair of different strings")
        items, rows = cls._read(images, image), cls._read(captions, text)
        sizes = n_rows(items), n_rows(rows)
        groups = _item_index(image_index, "image_index", sizes, ("images", "caption"), lowest=0)
        compact, index = _compact(items, groups)
        if n_rows(compact) < n_rows(items):
            warn(
                f"{n_rows(items) - n_rows(compact)} of {n_rows(items)} images have no caption and "
                "are left out"
            )
        columns = {image: _columns_of(images), text: _columns_of(captions)}
        n = n_rows(rows)
        return cls._build({image: compact, text: rows}, {image: index}, groups, n, columns)

    @classmethod
    def from_items(
        cls,
        views: Mapping[str, Any] | None = None,
        /,
        *,
        index: Mapping[str, ArrayLike],
        **named: Any,
    ) -> Self:
        """Build Views of any number of modalities in which rows share items.

        Each item is stored, encoded and ranked once, whatever the number of its rows. Rows that
        share an item of any view, directly or through other rows, are one group.

        Parameters
        ----------
        views : mapping of str to array-like, optional
            The items of the views in order; use it instead of keywords for names that are not
            identifiers.
        index : mapping of str to array-like of int, shape (n,)
            For the views whose items are shared: the item of each row, or -1 for a row that lacks
            the view. The other views have one item per row.
        **named : array-like
            The items of the views in order.

        Returns
        -------
        Views

        Raises
        ------
        ValueError
            If the sizes disagree, an index is out of range, or a row lacks every view.
        TypeError
            If `index` is not a mapping.

        Warns
        -----
        UserWarning
            If some items belong to no row; they are left out.

        See Also
        --------
        from_captions : The same for pairs, of which one view is shared.

        Examples
        --------
        >>> import numpy as np
        >>> from crossfit import Views
        >>> english, french = ["a cat", "a tomcat", "a dog"], ["un chat", "un matou", "un chien"]
        >>> picture = {"image": [0, 0, 1]}
        >>> v = Views.from_items(image=np.eye(2), en=english, fr=french, index=picture)
        >>> len(v), len(v.distinct("image")[0]), v.groups.tolist()
        (3, 2, [0, 0, 1])
        """
        if not isinstance(index, Mapping):
            raise TypeError(
                "index must be a mapping of view names to the item of each row, got an object of "
                f"type {type(index).__name__}"
            )
        given = _named(f"{cls.__name__}.from_items", "", views, named)
        _check_entries(index, "index", given)
        values = {name: cls._read(part, name) for name, part in given.items()}
        of_rows = {name: _integers(part, f"index[{name!r}]", "row") for name, part in index.items()}
        sizes = {name: n_rows(of_rows.get(name, part)) for name, part in values.items()}
        n = _common_size(sizes)
        shared: dict[str, IntArray] = {}
        for name in values:
            if name not in index:
                continue
            n_items, what = n_rows(values[name]), f"index[{name!r}]"
            items = _item_index(of_rows[name], what, (n_items, n), ("items", "row"), lowest=-1)
            if not np.any(items >= 0):
                raise ValueError(f"view {name!r} is missing in every row; leave it out")
            values[name], shared[name] = _compact(values[name], items)
            if n_rows(values[name]) < n_items:
                warn(
                    f"{n_items - n_rows(values[name])} of {n_items} items of view {name!r} belong "
                    "to no row and are left out"
                )
            if np.array_equal(shared[name], np.arange(n)):
                del shared[name]  # every row has an item of its own
        if len(shared) == len(values):
            _check_complete(part >= 0 for part in shared.values())
        columns = {name: _columns_of(part) for name, part in given.items()}
        return cls._build(values, shared, _linked(shared.values(), n), n, columns)

    @property
    def shape(self) -> tuple[int]:
        """``(n,)``: the number of rows (pairs)."""
        return (self._n,)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the views, in order."""
        return tuple(self._values)

    @property
    def columns(self) -> dict[str, tuple[str, ...]]:
        """Column names by view, for the views that were given as DataFrames."""
        return dict(self._columns)

    @property
    def groups(self) -> IntArray:
        """Group of each row, shape (n,): rows that share an item or that must stay together.

        Every row has its own group unless several rows share an item or groups were given.
        Pass it to scikit-learn's group splitters as ``groups=views.groups``.
        """
        return np.arange(self._n) if self._groups is None else self._groups

    def __len__(self) -> int:
        return self._n

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._values

    # Without this, Python would iterate through __getitem__ and yield rows as if they were views.
    __iter__ = None  # type: ignore[assignment]

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(
            f"{type(self).__name__} contains the views {', '.join(self.names)} and is not a single "
            f"array: select one, for instance views[{self.names[0]!r}]"
        )

    def __getitem__(self, key: Any) -> Any:
        """Return the values of one view for a name, else the selected rows as Views.

        Parameters
        ----------
        key : str, or int, slice, integer array or boolean mask
            An int selects Views of one row. ``views[rows, ...]`` is supported as well.

        Returns
        -------
        array-like or Views
        """
        if isinstance(key, str):
            values = self._item_values(key)
            lacking = np.flatnonzero(~self.present(key))
            if len(lacking):
                raise ValueError(
                    f"{_missing(key, lacking, self._n)}, and has no value for each row; take "
                    f"views.complete({key!r}), or its items with views.distinct({key!r})"
                )
            return take_rows(values, self._index[key]) if key in self._index else values
        key = _drop_ellipsis(key)
        at = _positions(key, self._n)
        # A slice of an array is a view of the same memory: keep it if no items are shared.
        # Tensors do not support negative steps.
        rows = key if isinstance(key, slice) and (key.step or 1) > 0 else at
        values, index = {}, {}
        for name, part in self._values.items():
            if name in self._index:
                values[name], index[name] = _compact(part, self._index[name][at])
            else:
                values[name] = take_rows(part, rows)
        return self._build(values, index, self.groups[at], len(at), self._columns)

    def _item_values(self, name: str) -> Any:
        if name not in self:
            raise ValueError(f"no view {shown(name)}: the views are {', '.join(self.names)}")
        return self._values[name]

    def distinct(self, name: str) -> tuple[Any, IntArray]:
        """Return the distinct items of a view and the index of each row's item.

        Parameters
        ----------
        name : str
            Name of a view.

        Returns
        -------
        values : array-like of n_items rows
            In order of first appearance.
        row_to_item : int array of shape (n,)
            Index of each row's item in `values`; -1 for rows that lack the view.
        """
        values = self._item_values(name)
        return values, self._index.get(name, np.arange(self._n))

    def first_rows(self, name: str) -> IntArray:
        """Return the first row in which each distinct item of a view appears.

        Parameters
        ----------
        name : str
            Name of a view.

        Returns
        -------
        int array of shape (n_items,)
        """
        self._item_values(name)
        if name in self._index:
            items, first = np.unique(self._index[name], return_index=True)
            return first[items >= 0]
        return np.arange(self._n)

    def present(self, name: str) -> NDArray[np.bool_]:
        """Return which rows have a view.

        Parameters
        ----------
        name : str
            Name of a view.

        Returns
        -------
        bool array of shape (n,)
        """
        self._item_values(name)
        if name in self._index:
            return self._index[name] >= 0
        return np.ones(self._n, bool)

    @property
    def is_complete(self) -> bool:
        """True if every row has every view."""
        return all(np.all(index >= 0) for index in self._index.values())

    def complete(self, *names: str) -> Self:
        """Return the rows that have all views, or all of some views.

        Parameters
        ----------
        *names : str
            Names of the views that rows must have. Default: all views.

        Returns
        -------
        Views

        Raises
        ------
        ValueError
            If there is no such view, or no row has all of them.

        See Also
        --------
        present : The rows that have one view.

        Examples
        --------
        >>> import numpy as np
        >>> from crossfit import Views
        >>> given = {"text": [True, False, True]}
        >>> v = Views(image=np.eye(3), text=np.eye(3), present=given)
        >>> len(v.complete()), len(v.complete("image")), v.is_complete
        (2, 3, False)
        """
        has = np.all([self.present(name) for name in names or self.names], axis=0)
        if not has.any():
            raise ValueError(f"no row has all of the views {', '.join(names or self.names)}")
        return self if has.all() else self[has]

    def select(self, *names: str) -> Self:
        """Return Views of some of the modalities, in the given order.

        Parameters
        ----------
        *names : str
            Names of the views to keep.

        Returns
        -------
        Views

        Raises
        ------
        ValueError
            If there is no view of a given name.
        """
        if not names:
            raise ValueError(f"select expects view names, one of {', '.join(self.names)}")
        return self._build(
            {name: self._item_values(name) for name in names},
            {name: self._index[name] for name in names if name in self._index},
            self._groups,
            self._n,
            self._columns,
        )

    def replace(self, **named: Any) -> Self:
        """Return Views in which the values of some views are replaced.

        Parameters
        ----------
        **named : array-like of n rows, or of n_items rows
            New values, one per row; or one per distinct item for a view whose items are shared
            by several rows or that some rows lack. Rows that lack the view still lack it.

        Returns
        -------
        Views

        Raises
        ------
        ValueError
            If there is no such view, or the number of rows is neither of the two.
        """
        values, index, columns = dict(self._values), dict(self._index), dict(self._columns)
        for name, given in named.items():
            n_items, has = n_rows(self._item_values(name)), self.present(name)
            part = _as_values(given, name)
            n = n_rows(part)
            part = self._read(take_rows(part, has) if n == self._n > has.sum() else part, name)
            if n not in (n_items, self._n):
                wanted = f"{self._n} rows" + (f" or {n_items} items" if name in index else "")
                raise ValueError(f"view {name!r} must have {wanted}, got {n}")
            values[name], columns[name] = part, _columns_of(given)
            if n != n_items:
                del index[name]
                if not has.all():
                    index[name] = _numbered(has)
        return self._build(values, index, self._groups, self._n, columns)

    def rename(self, names: Mapping[str, str]) -> Self:
        """Return the same views under other names; views that are not named keep theirs.

        Parameters
        ----------
        names : mapping of str to str
            Old names to new ones.

        Returns
        -------
        Views

        Raises
        ------
        ValueError
            If there is no such view, or two views would have the same name.
        TypeError
            If `names` is not a mapping to strings.
        """
        if not isinstance(names, Mapping):
            raise TypeError(
                "rename expects a mapping of old names to new ones, got an object of type "
                f"{type(names).__name__}"
            )
        for name in names:
            self._item_values(name)
        renamed = [names.get(name, name) for name in self.names]
        _check_names(renamed, "views must have different names")
        return self._build(
            {names.get(name, name): part for name, part in self._values.items()},
            {names.get(name, name): part for name, part in self._index.items()},
            self._groups,
            self._n,
            {names.get(name, name): part for name, part in self._columns.items()},
        )

    def with_channels(self, **named: Sequence[str]) -> Self:
        """Return Views in which some views become the channels of one.

        Parameters
        ----------
        **named : sequence of str
            Names of the views that become channels, by the name of the view that holds them, which
            takes the place of the first. Rows that share an item of each of them share the item of
            the new view.

        Returns
        -------
        Views

        Raises
        ------
        ValueError, TypeError
            If a view does not exist, would become a channel twice or is lacked by other rows than
            the others, or if two views would have the same name.

        See Also
        --------
        crossfit.compose.SelectChannel : Use one of the channels.

        Examples
        --------
        >>> import numpy as np
        >>> from crossfit import Views
        >>> v = Views(image=np.eye(2), title=["soup", "cake"], steps=["boil", "bake"])
        >>> v = v.with_channels(recipe=("title", "steps"))
        >>> v.names, v["recipe"].names
        (('image', 'recipe'), ('title', 'steps'))
        """
        parts: list[str] = []
        for view, names in named.items():
            listed = isinstance(names, (list, tuple)) and len(names) > 0
            if not listed or not all(isinstance(name, str) for name in names):
                raise TypeError(
                    f"with_channels expects names of views for {view!r}, such as {self.names[:2]}, "
                    f"got {shown(names)}"
                )
            parts += names
        for name in parts:
            self._item_values(name)
        if len(set(parts)) < len(parts):
            raise ValueError(f"a view can become one channel only, got {', '.join(parts)}")
        home = {name: view for view, names in named.items() for name in names}
        order = list(dict.fromkeys(home.get(name, name) for name in self.names))
        kept = [name for name in self.names if name not in home]
        _check_names([*kept, *named], "views must have different names")
        values, index = {}, {}
        for view in order:
            if view in kept:
                values[view] = self._values[view]
                if view in self._index:
                    index[view] = self._index[view]
                continue
            names = tuple(named[view])
            has = self.present(names[0])
            if any(not np.array_equal(self.present(name), has) for name in names[1:]):
                raise ValueError(
                    f"the channels of {view!r} must be present in the same rows; take "
                    f"views.complete({', '.join(map(repr, names))})"
                )
            rows = np.stack([self.distinct(name)[1][has] for name in names], axis=1)
            combined, own = np.unique(rows, axis=0, return_inverse=True)
            channels = {
                name: take_rows(self._values[name], combined[:, i]) for i, name in enumerate(names)
            }
            item = np.full(self._n, -1)
            item[has] = own.ravel()
            values[view], item = _compact(Channels(channels), item)
            if not np.array_equal(item, np.arange(self._n)):
                index[view] = item
        return self._build(values, index, self._groups, self._n, self._columns)

    def with_groups(self, groups: ArrayLike) -> Self:
        """Return the same views with coarser groups, for instance the clips of one recording.

        Parameters
        ----------
        groups : array-like of shape (n,)
            Rows with equal entries are kept together by splits and are not negatives of each
            other. Rows that share an item must be in the same group.

        Returns
        -------
        Views

        Raises
        ------
        ValueError
            If `groups` has another shape, splits an item, or is missing (None, NaN) in some rows.
            A row that belongs to no larger group needs a group of its own.
        """
        codes = group_codes(groups, self._n)
        for name, index in self._index.items():
            first = codes[self.first_rows(name)]
            if np.any((first[index] != codes)[index >= 0]):
                raise ValueError(f"groups must not split an item that rows of {name!r} share")
        return self._build(self._values, self._index, codes, self._n, self._columns)

    def map(self, function: Callable[[Any, str], Any], *names: str) -> Self:
        """Apply ``function(values, name)`` to the distinct items of some or all views.

        The result must have one row per item; the assignment of rows to items is unchanged.

        Parameters
        ----------
        function : callable
            ``(values, name) -> values``, called once per view.
        *names : str
            Names of the views to map. Default: all views.

        Returns
        -------
        Views
            With the results in place of the values.

        Raises
        ------
        ValueError
            If there is no such view, or the function returns another number of rows.
        TypeError
            If `function` is not callable or does not return valid values of a view.
        """
        if not callable(function):
            raise TypeError(
                "map expects a function of values and a name, got an object of type "
                f"{type(function).__name__}"
            )
        values, columns = dict(self._values), dict(self._columns)
        for name in names or self.names:
            made = function(self._item_values(name), name)
            part, columns[name] = self._read(made, name), _columns_of(made)
            if n_rows(part) != n_rows(values[name]):
                raise ValueError(
                    f"view {name!r} has {n_rows(values[name])} items, but the function "
                    f"returned {n_rows(part)}"
                )
            values[name] = part
        return self._build(values, self._index, self._groups, self._n, columns)

    def item_labels(self, name: str, y: ArrayLike) -> NDArray[Any]:
        """Reduce row labels to the distinct items of a view.

        Parameters
        ----------
        name : str
            Name of a view.
        y : array-like of shape (n,) or (n, n_classes)
            Labels of the rows.

        Returns
        -------
        array of shape (n_items,) or (n_items, n_classes)

        Raises
        ------
        ValueError, TypeError
            If the rows of an item have different labels, or if `y` is not a valid array of
            labels; see `crossfit.labels.read_labels`.
        """
        self._item_values(name)
        labels = read_labels(y)
        if len(labels) != self._n:
            raise ValueError(f"expected one label per row ({self._n}), got {len(labels)}")
        reduced = labels[self.first_rows(name)]
        has = self.present(name)
        differs = reduced[self.distinct(name)[1]] != labels
        differs[~has] = False
        if np.any(differs):
            row = int(np.argwhere(differs)[0, 0])
            raise ValueError(
                f"item {int(self.distinct(name)[1][row])} of view {name!r} has conflicting "
                f"labels in its rows (for instance in row {row})"
            )
        return reduced

    def relevance(self, query: str, gallery: str, y: ArrayLike | None = None) -> sp.csr_array:
        """Return which items of one view are relevant to the items of another.

        Parameters
        ----------
        query, gallery : str
            Names of two views.
        y : array-like of shape (n,) or (n, n_classes), optional
            Labels of the rows. Without labels, two items are relevant to each other if they are
            paired in some row, which has both views; with labels, if they share one. ``-1`` in a
            vector of numbers or objects means unlabelled, which is relevant to nothing; ``"-1"`` in
            an array of strings is a class.

        Returns
        -------
        csr_array of shape (n_query_items, n_gallery_items)
            Nonzero where relevant; with an indicator matrix, the number of shared labels.
        """
        _, rows = self.distinct(query)
        _, columns = self.distinct(gallery)
        shape = (n_rows(self._values[query]), n_rows(self._values[gallery]))
        if y is None:
            both = (rows >= 0) & (columns >= 0)
            pairs = rows[both], columns[both]
            paired = sp.csr_array((np.ones(len(pairs[0]), np.int32), pairs), shape=shape)
            paired.sum_duplicates()
            paired.data[:] = 1
            return paired
        # Reduced to items first: with as many classes as rows, a matrix of rows would be huge.
        labels = check_labels(y)
        of_query, of_gallery = self.item_labels(query, labels), self.item_labels(gallery, labels)
        if of_query.ndim == 1:
            classes, codes = class_codes(joined_labels(of_query, of_gallery))
            one = _one_hot(codes[: len(of_query)], len(classes))
            other = _one_hot(codes[len(of_query) :], len(classes))
        else:
            one = sp.csr_array(of_query.astype(np.int32))
            other = sp.csr_array(of_gallery.astype(np.int32))
        return sp.csr_array(one @ other.T)

    def __repr__(self) -> str:
        parts = []
        for name, part in self._values.items():
            items = f"{n_rows(part)} items, " if name in self._index else ""
            parts.append(f"{name}: {items}{_described(part)}")
        return f"{type(self).__name__}(n={self._n}, {'; '.join(parts)})"

    def to_frame(self) -> Any:
        """Return the rows as a pandas DataFrame with a column per view; pandas must be installed.

        Returns
        -------
        pandas.DataFrame
            Texts and paths as they are; a vector, picture or row of a Ragged is an array in its
            cell. Channels have a column each, ``image.map`` for instance. A row that lacks a view
            has None.

        Examples
        --------
        >>> import numpy as np
        >>> views = Views(image=np.eye(2), text=["a cat", "a dog"])
        >>> list(views.to_frame().columns), views.to_frame()["text"][1]
        (['image', 'text'], 'a dog')
        """
        return frame_of(self._as_columns())

    def _as_columns(self, prefix: str = "") -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, values in self._values.items():
            own = {prefix + name: values}
            if isinstance(values, Channels):
                own = values._as_columns(f"{prefix}{name}.")
            index = self._index.get(name)
            for column, part in own.items():
                cells = part if isinstance(part, list) else _as_column(part)
                if index is not None:
                    cells = [None if i < 0 else cells[i] for i in index.tolist()]
                found[column] = cells
        return found

    def _repr_html_(self) -> str:
        kind = "channel" if isinstance(self, Channels) else "view"
        caption = f"{type(self).__name__} of {self._n} rows"
        items = Items(24)
        rows: list[list[Any]] = []
        for name, part in self._values.items():
            first = [items.shown(item) for item in part[:4]] if can_be_shown(part) else []
            rows.append([name, n_rows(part), _described(part), *first])
        most = max(map(len, rows)) - 3
        head = [kind, "items", "values", *(["first items"] if most else []), *[""] * (most - 1)]
        return html_table(caption, head, rows)

    def __reduce__(self) -> tuple[Any, ...]:
        # A sequence, because joblib's hash ignores the order of a dict.
        views = tuple(self._values.items())
        columns = tuple(self._columns.items())
        return _rebuild, (type(self), views, columns, self._index, self._groups, self._n)


class Channels(Views):
    """A view of several row-aligned parts, for instance a feature map and detected objects.

    A mapping passed to `Views` becomes Channels, as does the output of
    `crossfit.compose.ChannelUnion`. Its parts are accessed like views.

    See Also
    --------
    crossfit.compose.SelectChannel : Use one of the parts only.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit import Views
    >>> image = {"map": np.zeros((2, 7, 7)), "objects": np.ones((2, 4))}
    >>> v = Views(image=image, text=["a cat", "a dog"])
    >>> v["image"].names
    ('map', 'objects')
    >>> v["image"]["objects"].shape
    (2, 4)
    """

    __slots__ = ()


def _rebuild(cls: type[Views], views: Any, columns: Any, index: Any, groups: Any, n: int) -> Views:
    return cls._build(dict(views), index, groups, n, dict(columns))


def check_columns(fitted: Mapping[str, tuple[str, ...]], given: Views, who: str) -> None:
    """Check that DataFrames have the columns seen during fit, in the same order.

    Parameters
    ----------
    fitted : mapping of str to tuple of str
        `Views.columns` of the views passed to `fit`.
    given : Views
        The views to check.
    who : str
        Name of the fitted object in error messages.

    Raises
    ------
    ValueError
        If the column names of a view are known from the fit and from `given`, and they differ.
    """
    for name, columns in given.columns.items():
        wanted = fitted.get(name, columns)
        if columns == wanted:
            continue
        start = f"{who}: the columns of view {name!r} must match those passed to fit"
        missing = [column for column in wanted if column not in columns]
        extra = [column for column in columns if column not in wanted]
        if missing or extra:
            parts = [f"{missing[0]!r} is missing"] * bool(missing)
            parts += [f"{extra[0]!r} is not one of them"] * bool(extra)
            raise ValueError(f"{start}: {', '.join(parts)}")
        raise ValueError(f"{start}; their order differs, {wanted[0]!r} was the first")


def _columns_of(given: Any) -> tuple[str, ...]:
    """Return the column names of a DataFrame; an empty tuple if they are not strings."""
    names = () if isinstance(given, Views) else tuple(getattr(given, "columns", ()))
    return names if all(isinstance(name, str) for name in names) else ()


def is_views(X: Any) -> bool:
    """Return True if `X` is Views but not Channels, which are a single modality.

    Parameters
    ----------
    X : object
        Any object.

    Returns
    -------
    bool
    """
    return isinstance(X, Views) and not isinstance(X, Channels)


def without_padding(values: Any) -> Ragged:
    """Return sequences of vectors without the zero vectors after the last element of a row.

    Parameters
    ----------
    values : Ragged, or array or tensor of shape (n, T, d)
        A Ragged is returned as it is.

    Returns
    -------
    Ragged
        Zero vectors between other vectors are kept; a row of zeros is empty.

    Examples
    --------
    >>> import numpy as np
    >>> without_padding(np.array([[[1.0], [2.0]], [[3.0], [0.0]]])).lengths.tolist()
    [2, 1]
    """
    if isinstance(values, Ragged):
        return values
    held = as_array(values, "values", numbers=True)
    if held.ndim != 3:
        raise ValueError(
            f"values must be sequences of vectors, of shape (n, T, d), got shape {held.shape}"
        )
    real = (held != 0).any(axis=2)
    lengths = real.shape[1] - real[:, ::-1].argmax(axis=1)
    lengths[~real.any(axis=1)] = 0
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Ragged(held[np.arange(held.shape[1]) < lengths[:, None]], offsets)


def n_rows(values: Any) -> int:
    """Return the number of rows of the values of a view.

    Parameters
    ----------
    values : array, sparse matrix, Ragged, Channels or Views
        Values of a view.

    Returns
    -------
    int
    """
    return int(values.shape[0])


def item_weights(views: Views, name: str, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weights of the distinct items of a view: the sums of those of their rows.

    Parameters
    ----------
    views : Views
        Views with the rows.
    name : str
        Name of a view.
    weights : array of shape (n,)
        Weights of the rows.

    Returns
    -------
    array of shape (n_items,)

    Examples
    --------
    >>> import numpy as np
    >>> views = Views.from_captions(np.eye(2), ["a", "b", "c"], [0, 0, 1])
    >>> item_weights(views, "image", np.array([1.0, 2.0, 5.0])).tolist()
    [3.0, 5.0]
    """
    items, index = views.distinct(name)
    has = index >= 0
    return np.bincount(index[has], weights[has], n_rows(items)).astype(np.float64, copy=False)


def take_rows(values: Any, rows: Any) -> Any:
    """Return a selection of rows, as the same type as the values.

    Parameters
    ----------
    values : array, sparse matrix, Ragged, Channels or Views
        Values of a view.
    rows : int array, bool array or slice
        The rows to take.

    Returns
    -------
    array, sparse matrix, Ragged, Channels or Views
    """
    if is_tensor(values) and isinstance(rows, np.ndarray):
        rows = rows.copy()  # torch warns about read-only index arrays
    taken = values[rows]
    return _read_only(taken) if isinstance(taken, np.ndarray) else taken


def as_float(values: Any, where: str) -> Any:
    """Convert values to float32 or float64, and check that they are finite.

    float32 and float64 are kept. Other numbers become float32 if none exceeds 2**24, up to which
    float32 represents integers exactly; otherwise float64.

    Parameters
    ----------
    values : array, CSR matrix, tensor or Ragged
        Values of a view.
    where : str
        Name of the values in error messages.

    Returns
    -------
    array, CSR matrix, tensor or Ragged
        The same type, with dtype float32 or float64.

    Raises
    ------
    ValueError
        If there is NaN or infinity (the message lists rows and columns), if the values are not
        real numbers, or if they are integers that float64 cannot hold.
    """
    ragged = isinstance(values, Ragged)
    given = values.values if ragged else values
    made = floats(given, where)
    if given.is_floating_point() if is_tensor(given) else given.dtype.kind == "f":
        offsets = values.offsets if ragged else None
        check_finite(made, where, "contains NaN or infinity", offsets)
    return Ragged(made, values.offsets, values.info) if ragged else made


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    seen = array.view()
    seen.setflags(write=False)
    return seen


def _drop_ellipsis(key: Any) -> Any:
    if isinstance(key, tuple) and len(key) == 2 and key[1] is Ellipsis:
        return key[0]
    return key


def _positions(rows: Any, n: int) -> IntArray:
    if isinstance(rows, slice):
        ends = (rows.start, rows.stop, rows.step)
        whole = all(end is None or isinstance(end, (int, np.integer)) for end in ends)
        if not whole or rows.step == 0:
            raise IndexError(
                f"a slice of rows must have integer bounds and a nonzero step, got {shown(rows)}"
            )
        return np.arange(n)[rows]
    if isinstance(rows, (bool, np.bool_)):
        raise IndexError(f"rows must be an int, a slice, an integer array or a mask, got {rows}")
    try:
        at = np.atleast_1d(as_numpy(rows, "rows"))
    except (TypeError, ValueError) as error:
        raise IndexError(
            f"rows must be an int, a slice, an integer array or a mask: {error}"
        ) from None
    if at.dtype == bool:
        if at.shape != (n,):
            raise IndexError(f"a row mask must have shape ({n},), got {at.shape}")
        return np.flatnonzero(at)
    if at.size == 0:
        return np.empty(0, np.int64)
    if at.ndim != 1 or not np.issubdtype(at.dtype, np.integer):
        raise IndexError(
            "rows must be an int, a slice, a 1-D integer array or a mask, got "
            f"{type(rows).__name__} of type {at.dtype} and shape {at.shape}"
        )
    if at.min() < -n or at.max() >= n:
        outside = at.max() if at.max() >= n else at.min()
        raise IndexError(f"row {outside} is out of range for {n} rows")
    return np.where(at < 0, at + n, at).astype(np.int64)


def _one_hot(codes: IntArray, n_classes: int) -> sp.csr_array:
    """Return the one-hot rows of class numbers; the row of -1 (unlabelled) is empty."""
    known = np.flatnonzero(codes != -1)
    ones = np.ones(len(known), np.int32)
    return sp.csr_array((ones, (known, codes[known])), shape=(len(codes), n_classes))


def _is_mapping(given: Any) -> bool:
    """Return True for a mapping of names; scipy's DOK matrices map indices and do not count."""
    return isinstance(given, Mapping) and not sp.issparse(given)


def _named(owner: str, form: str, views: Any, named: Mapping[str, Any]) -> dict[str, Any]:
    """Return the views that are given in a mapping and by keyword, with names checked."""
    if views is not None and not _is_mapping(views):
        raise TypeError(
            f"{owner} expects views by name{form} or a mapping, got {type(views).__name__}"
        )
    given = {**({} if views is None else views), **named}
    if not given:
        raise ValueError(f"{owner} expects at least one view, got none")
    _check_names(given, "views must be named by strings")
    return given


def _check_entries(entries: Mapping[str, Any], what: str, given: Mapping[str, Any]) -> None:
    """Raise if a mapping has an entry that is not of a view."""
    for name in entries:
        if name not in given:
            raise ValueError(
                f"{what} has an entry for {shown(name)}, but the views are {', '.join(given)}"
            )


def _common_size(sizes: Mapping[str, int]) -> int:
    """Return the number of rows of all views; raise if it differs or is 0."""
    n = next(iter(sizes.values()))
    if len(set(sizes.values())) > 1:
        raise ValueError(f"views must have the same number of rows, got {_listed(sizes)}")
    if n == 0:
        raise ValueError(f"views must not be empty, got 0 rows in {', '.join(sizes)}")
    return n


def _check_complete(masks: Iterable[NDArray[np.bool_]]) -> None:
    """Raise if a row has none of the views; the masks are those of the rows that have each."""
    lacking = np.flatnonzero(~np.any(list(masks), axis=0))
    if len(lacking):
        raise ValueError(f"row {lacking[0]} lacks every view; leave it out")


def _check_names(names: Iterable[Any], wanted: str) -> None:
    names = list(names)
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"{wanted}, got {', '.join(map(shown, names))}")
    if len(set(names)) < len(names):
        raise ValueError(f"{wanted}, got {', '.join(names)}")


def _can_hold(dtype: np.dtype[Any], fill: Any) -> bool:
    """Return True if an array of this dtype can represent a number."""
    if dtype.kind == "O":
        return True
    if dtype.kind not in "biufc":
        return isinstance(fill, (str, bytes)) or (isinstance(fill, int) and not fill)
    if not isinstance(fill, (Real, np.bool_)):
        return dtype.kind == "c" and isinstance(fill, complex)
    number: Any = fill
    if number != number or abs(number) == float("inf"):
        return dtype.kind in "fc"
    if dtype.kind in "fc":
        return bool(abs(number) <= float(np.finfo(dtype).max))
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return bool(number == int(number) and low <= int(number) <= high)


def _of_elements(given: Any, what: str) -> NDArray[Any]:
    """Read elements of a Ragged: numbers or strings, none of them missing."""
    if sp.issparse(given):
        raise TypeError(f"{what} must be a dense array, got a sparse one; call toarray()")
    array = as_array(given, what)
    if array.dtype == object and array.ndim:
        gone = [i for i, item in enumerate(array.ravel().tolist()) if is_missing(item)]
        if gone:
            raise ValueError(
                f"{what} must not have missing elements, got {len(gone)} (the first is number "
                f"{gone[0]})"
            )
    return array


def _numbered(mask: NDArray[np.bool_]) -> IntArray:
    """Return numbers from 0 for the rows of a mask, and -1 for the others."""
    return np.where(mask, np.cumsum(mask) - 1, -1)


def _missing(name: str, rows: IntArray, n: int) -> str:
    """Return the start of a message on rows that lack a view."""
    others = f"; then {listed(rows[1:])}" if len(rows) > 1 else ""
    return f"view {name!r} is missing in {len(rows)} of {n} rows (row {rows[0]}{others})"


def _integers(given: ArrayLike, what: str, unit: str) -> NDArray[Any]:
    index = as_numpy(given, what)
    if index.ndim != 1 or index.dtype.kind not in "iu":
        raise ValueError(
            f"{what} must be one integer per {unit}, got an array of shape {index.shape} and type "
            f"{index.dtype}"
        )
    return index


def _item_index(
    given: ArrayLike, what: str, sizes: tuple[int, int], units: tuple[str, str], lowest: int
) -> IntArray:
    """Return the item of each row, checked to be in range, for numbers of items and of rows."""
    (n_items, n), (items, unit) = sizes, units
    index = _integers(given, what, unit)
    if len(index) != n:
        raise ValueError(
            f"{what} must have one entry per {unit}, got {len(index)} entries for {n} {unit}s"
        )
    if n and (index.min() < lowest or index.max() >= n_items):
        raise ValueError(
            f"{what} must lie between {lowest} and {n_items - 1} for {n_items} {items}, got values "
            f"from {index.min()} to {index.max()}"
        )
    return index.astype(np.int64)


def _linked(indices: Iterable[IntArray], n: int) -> IntArray | None:
    """Return the groups of n rows that items link, in order of appearance; None without items."""
    rows, items, n_nodes = [], [], n
    for index in indices:
        has = np.flatnonzero(index >= 0)
        rows.append(has)
        items.append(n_nodes + index[has])
        n_nodes += int(index.max()) + 1
    if not rows:
        return None
    edges = np.concatenate(rows), np.concatenate(items)
    graph = sp.coo_array((np.ones(len(edges[0]), bool), edges), shape=(n_nodes, n_nodes))
    found = sp.csgraph.connected_components(graph, directed=False)[1][:n]
    _, first, codes = np.unique(found, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[codes]


def _compact(values: Any, index: IntArray) -> tuple[Any, IntArray]:
    """Keep only the items that `index` uses, in order of first appearance; -1 is none."""
    if np.any(index < 0):
        has, compact = index >= 0, np.full(len(index), -1)
        values, compact[has] = _compact(values, index[has])
        return values, compact
    used, first, inverse = np.unique(index, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    items = used[order]
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    if not np.array_equal(items, np.arange(n_rows(values))):
        values = take_rows(values, items)
    return values, rank[inverse]


def _as_values(given: Any, name: str) -> Any:
    """Convert values given by a user to one of the types that views hold."""
    if _is_mapping(given):
        return Channels(given)
    if isinstance(given, Views):
        return given if isinstance(given, Channels) else Channels(given._values)
    if isinstance(given, Ragged):
        return given
    what = f"view {name!r}"
    if is_tensor(given):
        check_tensor(given, what)
        if given.ndim == 0:
            raise TypeError(f"{what} must have rows, got a single value")
        return given
    if sp.issparse(given):
        return checked_csr(given, what)
    if not isinstance(given, (list, tuple)) and not hasattr(given, "__array__"):
        raise TypeError(
            f"{what} must be an array, a sparse matrix, a tensor, a list, a Ragged or a mapping "
            f"of channels, got {type(given).__name__}"
        )
    array = as_array(given, what, ": wrap it as Ragged.from_list(rows)")
    if array.ndim == 0:
        raise TypeError(f"{what} must have rows, got a single value")
    if array.dtype.kind in "UST":
        array = array.astype(object)
    return _read_only(array)


def _check_items(values: Any, name: str, *, may_lack: bool) -> None:
    """Check that no row is missing, and that strings and numbers are not mixed."""
    if not isinstance(values, np.ndarray) or values.dtype != object:
        return
    cells = values.ravel().tolist()
    if set(map(type, cells)) <= {str}:
        return
    numbers = (Number, np.number, np.bool_)
    strings = any(issubclass(kind, str) for kind in set(map(type, cells)))
    number = next(
        (i for i, cell in enumerate(cells) if isinstance(cell, numbers) and not is_missing(cell)),
        None,
    )
    if strings and number is not None:
        if values.ndim > 1:
            return  # a table, which a transformer may be able to read
        raise ValueError(
            f"view {name!r} must hold strings or numbers, not both: row {number} is "
            f"{shown(cells[number])}"
        )
    missing = missing_rows(values)
    if len(missing) and not may_lack:
        first = next(cell for cell in values[missing[:1]].ravel() if is_missing(cell))
        others = f"; then {listed(missing[1:])}" if len(missing) > 1 else ""
        raise ValueError(
            f"view {name!r} is missing in {len(missing)} of {len(values)} rows (row {missing[0]} "
            f"is {first}{others}); leave these pairs out, or mark them as rows without the view, "
            f"present={{{name!r}: mask}}"
        )


def _as_column(values: Any) -> Any:
    """Return the rows of a view as the cells of a column."""
    if isinstance(values, np.ndarray) and values.ndim == 1:
        return values
    return [values[i] for i in range(n_rows(values))]


def can_be_shown(values: Any) -> bool:
    """Return True if the items of a view are texts, paths or pictures.

    Parameters
    ----------
    values : array-like
        Values of a view.
    """
    if not isinstance(values, np.ndarray):
        return False
    return values.dtype.kind in "OU" or (values.dtype == np.uint8 and values.ndim == 4)


def _described(values: Any) -> str:
    if isinstance(values, (Channels, Ragged)):
        return repr(values)
    kind = "csr " if sp.issparse(values) else ""
    if isinstance(values, np.ndarray) and values.dtype == object and len(values):
        return f"{values.shape} {type(values.flat[0]).__name__}"
    return f"{kind}{tuple(values.shape)} {values.dtype}"


def _listed(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {n}" for name, n in sizes.items())
