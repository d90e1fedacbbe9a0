"""Views: named modalities aligned by row, and Channels: the parts of one modality."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NoReturn, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from crossfit._arrays import as_array, as_numpy, check_tensor, checked_csr, is_tensor
from crossfit._frames import frame_of
from crossfit._html import Items, html_table
from crossfit._text import shown
from crossfit._warnings import warn
from crossfit.labels import check_labels, class_codes, group_codes, joined_labels, read_labels
from crossfit.views._checks import (
    check_complete,
    check_entries,
    check_items,
    check_names,
    common_size,
    is_mapping,
    missing_in,
    named_views,
)
from crossfit.views._items import (
    compacted,
    integers,
    item_index,
    linked_rows,
    numbers_of,
    one_hot,
)
from crossfit.views._rows import (
    IntArray,
    as_column,
    can_be_shown,
    drop_ellipsis,
    n_rows,
    positions,
    read_only,
    take_rows,
)
from crossfit.views.ragged import Immutable, Ragged

__all__ = ["Channels", "Views", "check_columns", "is_views", "item_weights"]


class Views(Immutable):
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
        given = named_views(type(self).__name__, ", Views(image=..., text=...)", views, named)
        masks = self._masks(present, given)
        values, sizes, index = {}, {}, {}
        for name, part in given.items():
            read = _as_values(part, name)
            sizes[name] = n_rows(read)
            if name in masks and len(masks[name]) == sizes[name]:
                index[name] = numbers_of(masks[name])
                read = take_rows(read, masks[name])
            values[name] = self._read(read, name)
        n = common_size(sizes)
        for name, mask in masks.items():
            if len(mask) != n:
                raise ValueError(
                    f"present[{name!r}] must have one entry per row ({n}), got {len(mask)}"
                )
        if len(masks) == len(values):
            check_complete(masks.values())
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
        check_entries(present, "present", given)
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
        common_size(dict.fromkeys(values, n))
        # Set here too, and not only for arrays given by users: pickling drops the flag.
        locked = {k: read_only(v) if isinstance(v, np.ndarray) else v for k, v in values.items()}
        object.__setattr__(self, "_values", locked)
        object.__setattr__(self, "_index", {k: read_only(v) for k, v in index.items()})
        object.__setattr__(self, "_groups", None if groups is None else read_only(groups))
        object.__setattr__(self, "_n", n)
        known = {name: columns[name] for name in values if columns.get(name)}
        object.__setattr__(self, "_columns", known)

    @classmethod
    def _read(cls, given: Any, name: str) -> Any:
        """Convert the values given for a view to one of the types that views hold."""
        values = _as_values(given, name)
        # A channel may have missing rows; a view may not.
        check_items(values, name, may_lack=issubclass(cls, Channels))
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
        check_names(names, "names must be a pair of different strings")
        items, rows = cls._read(images, image), cls._read(captions, text)
        sizes = n_rows(items), n_rows(rows)
        groups = item_index(image_index, "image_index", sizes, ("images", "caption"), lowest=0)
        compact, index = compacted(items, groups)
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
        given = named_views(f"{cls.__name__}.from_items", "", views, named)
        check_entries(index, "index", given)
        values = {name: cls._read(part, name) for name, part in given.items()}
        of_rows = {name: integers(part, f"index[{name!r}]", "row") for name, part in index.items()}
        sizes = {name: n_rows(of_rows.get(name, part)) for name, part in values.items()}
        n = common_size(sizes)
        shared: dict[str, IntArray] = {}
        for name in values:
            if name not in index:
                continue
            n_items, what = n_rows(values[name]), f"index[{name!r}]"
            items = item_index(of_rows[name], what, (n_items, n), ("items", "row"), lowest=-1)
            if not np.any(items >= 0):
                raise ValueError(f"view {name!r} is missing in every row; leave it out")
            values[name], shared[name] = compacted(values[name], items)
            if n_rows(values[name]) < n_items:
                warn(
                    f"{n_items - n_rows(values[name])} of {n_items} items of view {name!r} belong "
                    "to no row and are left out"
                )
            if np.array_equal(shared[name], np.arange(n)):
                del shared[name]  # every row has an item of its own
        if len(shared) == len(values):
            check_complete(part >= 0 for part in shared.values())
        columns = {name: _columns_of(part) for name, part in given.items()}
        return cls._build(values, shared, linked_rows(shared.values(), n), n, columns)

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
                    f"{missing_in(key, lacking, self._n)}, and has no value for each row; take "
                    f"views.complete({key!r}), or its items with views.distinct({key!r})"
                )
            return take_rows(values, self._index[key]) if key in self._index else values
        key = drop_ellipsis(key)
        at = positions(key, self._n)
        # A slice of an array is a view of the same memory: keep it if no items are shared.
        # Tensors do not support negative steps.
        rows = key if isinstance(key, slice) and (key.step or 1) > 0 else at
        values, index = {}, {}
        for name, part in self._values.items():
            if name in self._index:
                values[name], index[name] = compacted(part, self._index[name][at])
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
                    index[name] = numbers_of(has)
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
        check_names(renamed, "views must have different names")
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
        check_names([*kept, *named], "views must have different names")
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
            values[view], item = compacted(Channels(channels), item)
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
            one = one_hot(codes[: len(of_query)], len(classes))
            other = one_hot(codes[len(of_query) :], len(classes))
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
                cells = part if isinstance(part, list) else as_column(part)
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


def _as_values(given: Any, name: str) -> Any:
    """Convert values given by a user to one of the types that views hold."""
    if is_mapping(given):
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
    return read_only(array)


def _columns_of(given: Any) -> tuple[str, ...]:
    """Return the column names of a DataFrame; an empty tuple if they are not strings."""
    names = () if isinstance(given, Views) else tuple(getattr(given, "columns", ()))
    return names if all(isinstance(name, str) for name in names) else ()


def _described(values: Any) -> str:
    if isinstance(values, (Channels, Ragged)):
        return repr(values)
    kind = "csr " if sp.issparse(values) else ""
    if isinstance(values, np.ndarray) and values.dtype == object and len(values):
        return f"{values.shape} {type(values.flat[0]).__name__}"
    return f"{kind}{tuple(values.shape)} {values.dtype}"


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
