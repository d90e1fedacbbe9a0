"""Batches of pairs from cached features: dense, sparse, ragged, token ids or channels."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from crossfit._arguments import integer, validated
from crossfit._warnings import warn
from crossfit.views import Channels, Ragged, Views, as_numpy, is_tensor

__all__ = [
    "PAD",
    "UNK",
    "Batch",
    "batches_of",
    "Batches",
    "ChannelStore",
    "Draw",
    "cut_tokens",
    "first_elements",
    "flat_rows",
    "Items",
    "PairData",
    "Store",
    "store",
    "to_device",
]

PAD, UNK = 0, 1
# Numbers per batch of items, so that wide rows (maps, sequences) come in smaller batches.
_BATCH_NUMBERS, _BATCH_ROWS = 2**22, 1024
# Batches with at most this many elements, padding included, may consist of any share of padding.
_PADDED = 2**16


class Draw(NamedTuple):
    """Source of the randomness in one pass over training rows, together with a row's number.

    Parameters
    ----------
    seed : int
        Seed of the fit.
    epoch : int
        Number of epochs that are done.
    """

    seed: int
    epoch: int


class Items(NamedTuple):
    """A batch of items of one view.

    Parameters
    ----------
    values : Tensor of shape (b, ...) or (b, R, ...)
        float32 features, int64 token ids or uint8 pixels.
    mask : bool Tensor of shape (b, R), or None
        True at real elements; None if rows have no padding.
    """

    values: Tensor
    mask: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Batch:
    """A batch of pairs, with everything that a loss over pairs needs.

    Parameters
    ----------
    views : dict of str to Items, or to dict of str to Items for a view with channels
        By role. Row i of every view belongs together.
    item : dict of str to int64 Tensor of shape (b,)
        By role: the number of the distinct item of the view in each row.
    groups : int64 Tensor of shape (b,)
        Rows of one group are not negatives of each other.
    y : Tensor, or None
        int64 class numbers of shape (b,), -1 where unlabelled, or float32 indicators of shape
        (b, n_classes).
    progress : float
        Share of the epochs that are done, in [0, 1); used by schedules.
    """

    views: dict[str, Any]
    item: dict[str, Tensor]
    groups: Tensor
    y: Tensor | None
    progress: float = 0.0

    def __len__(self) -> int:
        return len(self.groups)

    @property
    def positives(self) -> Tensor:
        """Bool (b, b): True if row i's first item and row j's second item form a pair.

        True on the diagonal and for rows that share an item, such as two captions of one image.
        """
        first, *others = self.item.values()
        same = first[:, None] == first
        for other in others:
            same = same | (other[:, None] == other)
        return same

    @property
    def negatives(self) -> Tensor:
        """Bool (b, b): True if rows i and j belong to different groups.

        Rows of one group that do not share an item are neither positives nor negatives.
        """
        return self.groups[:, None] != self.groups


class Store:
    """The distinct items of one view, from which batches are taken (base class).

    Attributes
    ----------
    n_inputs : int
        Width of the feature vectors, or number of token ids.
    """

    n_inputs: int

    def __len__(self) -> int:
        raise NotImplementedError

    @property
    def nbytes(self) -> int:
        """Size of the features in bytes."""
        raise NotImplementedError

    @property
    def longest(self) -> int:
        """Number of values of the longest item."""
        raise NotImplementedError

    @property
    def elements(self) -> int:
        """Number of vectors or token ids of the longest item."""
        raise NotImplementedError

    @property
    def lengths(self) -> Tensor | None:
        """Number of vectors or token ids of each item; None if all items have the same number."""
        return None

    def to(self, device: torch.device) -> Store:
        """Return the store with its features on a device, if they can be moved."""
        raise NotImplementedError

    def kept(self) -> Store:
        """Return the store in the form in which it is read many times; itself by default."""
        return self

    def take(self, at: Tensor) -> Any:
        """Return the items at positions `at` as `Items`, or a dict of them for channels."""
        raise NotImplementedError

    def read(
        self,
        parts: Sequence[Tensor],
        rows: Sequence[Tensor] | None = None,
        draw: Draw | None = None,
        *,
        pinned: bool = False,
    ) -> Iterator[Any]:
        """Yield the items of one batch after the other, perhaps prepared ahead of their use.

        Parameters
        ----------
        parts : sequence of int64 Tensor
            Positions of the items of each batch.
        rows : sequence of int64 Tensor, optional
            Numbers of the rows to which the items belong, which augmentation depends on.
        draw : Draw, optional
            Source of the randomness of augmentation; None for none.
        pinned : bool, default=False
            Whether to use memory from which copies to a GPU are fast, where it makes a difference.

        Yields
        ------
        Items, or dict of str to Items
            As `take` returns them.
        """
        return map(self.take, parts)

    def close(self) -> None:
        """Stop everything that still prepares items."""


class _Dense(Store):
    def __init__(self, values: Tensor) -> None:
        self.values = values
        self.n_inputs = values.shape[-1]

    def __len__(self) -> int:
        return len(self.values)

    @property
    def nbytes(self) -> int:
        return self.values.nbytes

    @property
    def longest(self) -> int:
        return self.values[:1].numel()

    @property
    def elements(self) -> int:
        return self.longest // max(self.n_inputs, 1)

    def to(self, device: torch.device) -> Store:
        return _Dense(self.values.to(device))

    def take(self, at: Tensor) -> Items:
        return Items(self.values.index_select(0, at.to(self.values.device)))


class _Flat(Store):
    """Rows of unequal length in one array; padded to the longest row of each batch."""

    def __init__(self, values: Tensor, offsets: Tensor, n_inputs: int) -> None:
        self.values, self.offsets, self.n_inputs = values, offsets, n_inputs

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def nbytes(self) -> int:
        return self.values.nbytes

    @property
    def longest(self) -> int:
        return self.elements * math.prod(self.values.shape[1:])

    @property
    def elements(self) -> int:
        return int(self.lengths.max())

    @property
    def lengths(self) -> Tensor:
        return self.offsets.diff()

    def to(self, device: torch.device) -> Store:
        return _Flat(self.values.to(device), self.offsets.to(device), self.n_inputs)

    def take(self, at: Tensor) -> Items:
        at = at.to(self.offsets.device)
        start = self.offsets[at]
        lengths = self.offsets[at + 1] - start
        place = torch.arange(max(int(lengths.max()), 1), device=at.device)
        mask = place < lengths[:, None]
        shape = (*mask.shape, *self.values.shape[1:])
        if not len(self.values):
            return Items(self.values.new_zeros(shape), mask)
        # Padding reads element 0, which is overwritten below.
        element = torch.where(mask, start[:, None] + place, 0)
        values = self.values.index_select(0, element.flatten()).view(shape)
        values.masked_fill_(~mask.view(*mask.shape, *[1] * (values.ndim - 2)), PAD)
        return Items(values, mask)


class _Sparse(Store):
    def __init__(self, values: sp.csr_array) -> None:
        self.values = values
        self.n_inputs = values.shape[1]

    def __len__(self) -> int:
        return int(self.values.shape[0])

    @property
    def nbytes(self) -> int:
        return 0

    @property
    def longest(self) -> int:
        return self.n_inputs

    @property
    def elements(self) -> int:
        return 1

    def to(self, device: torch.device) -> Store:
        return self  # rows are converted to dense on the host, batch by batch

    def take(self, at: Tensor) -> Items:
        rows = self.values[at.cpu().numpy()].toarray()
        return Items(torch.from_numpy(rows.astype(np.float32, copy=False)))


class ChannelStore(Store):
    """The channels of a view, each in its own store; see `Store`."""

    def __init__(self, parts: Mapping[str, Store]) -> None:
        self.parts = dict(parts)

    def __len__(self) -> int:
        return len(next(iter(self.parts.values())))

    @property
    def nbytes(self) -> int:
        """Size of the features in bytes."""
        return sum(part.nbytes for part in self.parts.values())

    @property
    def longest(self) -> int:
        """Number of values of the longest items, summed over the channels."""
        return sum(part.longest for part in self.parts.values())

    @property
    def elements(self) -> int:
        """Number of vectors of the longest items, summed over the channels."""
        return sum(part.elements for part in self.parts.values())

    @property
    def lengths(self) -> Tensor | None:
        """Number of vectors of each item over all channels; None if all items have the same."""
        if all(part.lengths is None for part in self.parts.values()):
            return None
        total = torch.zeros(len(self), dtype=torch.int64)
        for part in self.parts.values():
            total += part.elements if part.lengths is None else part.lengths.cpu()
        return total

    def to(self, device: torch.device) -> Store:
        """Move every channel to a device."""
        return ChannelStore({name: part.to(device) for name, part in self.parts.items()})

    def take(self, at: Tensor) -> dict[str, Items]:
        """Return the items of every channel at positions `at`."""
        return {name: part.take(at) for name, part in self.parts.items()}

    def kept(self) -> Store:
        """Return the channels in the form in which they are read many times."""
        return ChannelStore({name: part.kept() for name, part in self.parts.items()})

    def read(
        self,
        parts: Sequence[Tensor],
        rows: Sequence[Tensor] | None = None,
        draw: Draw | None = None,
        *,
        pinned: bool = False,
    ) -> Iterator[dict[str, Items]]:
        """Yield the items of every channel, batch by batch; see `Store.read`."""
        found = {n: part.read(parts, rows, draw, pinned=pinned) for n, part in self.parts.items()}
        for _ in parts:
            yield {name: next(each) for name, each in found.items()}

    def close(self) -> None:
        """Stop everything that still prepares items."""
        for part in self.parts.values():
            part.close()


def store(values: Any, n_ids: Any = None) -> Store:
    """Convert the items of a view to tensors from which batches are taken.

    Parameters
    ----------
    values : array, CSR matrix, tensor, Ragged, Channels or Store of n items
        A store is returned as it is. Real numbers are converted to float32 and uint8 arrays of
        pixels are kept; other integers of shape (n, T) are token ids, padded with 0. float32
        arrays are not copied, and memory-mapped ones stay on disk.
    n_ids : int, or mapping of str to int for channels, optional
        Number of token ids of the network; larger ids become 1, unknown. By default, one more
        than the largest id.

    Returns
    -------
    Store

    Raises
    ------
    ValueError
        If token ids are negative or the values are not numbers.
    """
    if isinstance(values, Store):
        return values
    if isinstance(values, Channels):
        return ChannelStore(
            {name: store(values[name], (n_ids or {}).get(name)) for name in values.names}
        )
    if sp.issparse(values):
        return _Sparse(values.tocsr())
    if isinstance(values, Ragged):
        if values.dtype.kind in "iu":
            rows = np.repeat(np.arange(len(values)), values.lengths)
            vocabulary = values.info.get("vocabulary")
            known = len(vocabulary) if vocabulary is not None and n_ids is None else n_ids
            return _tokens(values.values, rows, len(values), known)
        elements = _float(values.values)
        width = elements.shape[-1] if elements.ndim > 1 else 1
        return _Flat(elements, torch.tensor(values.offsets), width)
    if is_tensor(values):
        values = values.detach()
        if values.dtype.is_floating_point or values.dtype == torch.uint8:
            return _Dense(values.to(torch.uint8 if values.dtype == torch.uint8 else torch.float32))
        values = as_numpy(values)
    if values.dtype.kind in "iu" and values.ndim == 2:
        real = values != PAD
        return _tokens(values[real], np.nonzero(real)[0], len(values), n_ids)
    if values.dtype == np.uint8:
        return _Dense(_no_copy(values))
    if values.dtype.kind not in "fiub":
        raise ValueError(
            f"a network needs numbers, got an array of type {values.dtype}; convert raw items to "
            "features in _features"
        )
    return _Dense(_float(values))


def _tokens(ids: NDArray[Any], rows: NDArray[Any], n: int, n_ids: int | None) -> _Flat:
    if len(ids) and ids.min() < 0:
        raise ValueError(f"token ids must be at least 0, got {ids.min()}")
    known = n_ids if n_ids is not None else max(int(ids.max(initial=UNK)) + 1, UNK + 1)
    # Attention over an empty set is undefined: a text without words becomes one unknown word.
    empty = np.flatnonzero(np.bincount(rows, minlength=n) == 0)
    ids = np.concatenate([np.where(ids < known, ids, UNK), np.full(len(empty), UNK)])
    rows = np.concatenate([rows, empty])
    ids = ids[np.argsort(rows, kind="stable")].astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n))])
    return _Flat(torch.from_numpy(ids), torch.from_numpy(offsets), known)


def _float(values: NDArray[Any]) -> Tensor:
    return _no_copy(values.astype(np.float32, copy=False))


def _no_copy(values: NDArray[Any]) -> Tensor:
    with warnings.catch_warnings():
        # Torch warns because views are read-only. Nothing here writes to its input.
        warnings.filterwarnings("ignore", message=".*not writable.*")
        return torch.from_numpy(np.ascontiguousarray(values))


class PairData(Dataset[Batch]):
    """Rows of pairs over stores of distinct items, from which batches are taken by index.

    Parameters
    ----------
    stores : mapping of str to Store
        Items of each view, by role.
    views : Views
        The pairs: item numbers and groups of the rows.
    y : ndarray, optional
        Class numbers or indicators of the rows.
    device : torch.device
        Device to which batches are moved.
    """

    def __init__(
        self,
        stores: Mapping[str, Store],
        views: Views,
        y: NDArray[Any] | None,
        device: torch.device,
    ) -> None:
        self.stores = dict(stores)
        self.device = device
        self.item = {role: torch.tensor(views.distinct(role)[1]) for role in stores}
        self.groups = torch.tensor(views.groups)
        self.y = None if y is None else torch.tensor(y)
        self.rows = torch.arange(len(views))

    def subset(self, rows: NDArray[np.int64]) -> PairData:
        """Return some of the rows over the same stores."""
        part = object.__new__(PairData)
        part.__dict__.update(self.__dict__, rows=self.rows[torch.from_numpy(rows)])
        return part

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, at: Tensor, progress: float = 0.0) -> Batch:
        """Return the rows at positions `at` as a batch."""
        return next(self.batches([at], progress))

    def distinct(self, view: str, channel: str | None = None) -> Iterator[Items]:
        """Yield the distinct items of a view in the rows, or one of its channels, in blocks."""
        items = self.stores[view]
        if isinstance(items, ChannelStore) and channel is not None:
            items = items.parts[channel]
        for at in self.item[view][self.rows].unique().split(most_rows(items)):
            yield items.take(at)

    def batches(
        self, parts: Sequence[Tensor], progress: float = 0.0, draw: Draw | None = None
    ) -> Iterator[Batch]:
        """Yield the rows at the positions of each part as a batch.

        Parameters
        ----------
        parts : sequence of int64 Tensor
            Positions of the rows of each batch.
        progress : float, default=0.0
            See `Batch`.
        draw : Draw, optional
            Source of the randomness of augmentation; None for none.

        Yields
        ------
        Batch
        """
        rows = [self.rows[at] for at in parts]
        pinned = self.device.type == "cuda"
        read = {
            role: part.read([self.item[role][at] for at in rows], rows, draw, pinned=pinned)
            for role, part in self.stores.items()
        }
        for at in rows:
            yield Batch(
                {role: to_device(next(items), self.device) for role, items in read.items()},
                {role: index[at].to(self.device) for role, index in self.item.items()},
                self.groups[at].to(self.device),
                None if self.y is None else self.y[at].to(self.device),
                progress,
            )

    def close(self) -> None:
        """Stop everything that still prepares items."""
        for part in self.stores.values():
            part.close()


def to_device(items: Any, device: torch.device) -> Any:
    """Return `Items`, or a dict of them, on a device."""
    if isinstance(items, dict):
        return {name: to_device(part, device) for name, part in items.items()}
    # Without effect unless the values are pinned.
    values = items.values.to(device, non_blocking=device.type == "cuda")
    return Items(values, None if items.mask is None else items.mask.to(device))


def most_rows(items: Store) -> int:
    """Return the number of items of a view that are taken at once."""
    return max(1, min(_BATCH_ROWS, len(items), _BATCH_NUMBERS // max(1, items.longest)))


def batches_of(items: Store, device: torch.device) -> Iterator[Any]:
    """Yield the items of a view in order, in batches that fit into memory.

    All items of a batch are padded to its longest one, so batches are smaller around an item that
    is much longer than its neighbours.
    """
    at = torch.arange(len(items))
    parts = at.split(most_rows(items) if items.lengths is None else _sizes(items))
    for part in items.read(parts, pinned=device.type == "cuda"):
        yield to_device(part, device)


def _sizes(items: Store) -> list[int]:
    """Return the number of rows of each batch of items of unequal length."""
    assert items.lengths is not None
    numbers = items.longest // max(items.elements, 1)
    sizes: list[int] = []
    rows = longest = real = 0
    for length in items.lengths.tolist():
        padded = (rows + 1) * max(longest, length)
        if rows and (
            rows == _BATCH_ROWS
            or padded * numbers > _BATCH_NUMBERS
            or padded > max(_PADDED, 2 * (real + length))
        ):
            sizes.append(rows)
            rows = longest = real = 0
        rows, longest, real = rows + 1, max(longest, length), real + length
    return [*sizes, rows] if rows else sizes


def cut_tokens(values: Any, most: int, where: str) -> Any:
    """Return token ids without rows longer than a maximum; warn if any are truncated.

    Parameters
    ----------
    values : Ragged of ids, or int array of shape (n, T) padded with 0
    most : int
        Number of token ids to keep per row, from the first.
    where : str
        Name of the texts in the warning.

    Returns
    -------
    Ragged or array, as `values`

    Warns
    -----
    UserWarning
        If rows are truncated, with their number and the length of the longest.
    """
    kept = None
    if isinstance(values, Ragged):
        lengths = values.lengths
    else:
        values = as_numpy(values)
        lengths = np.count_nonzero(values != PAD, axis=1)
        kept = np.cumsum(values != PAD, axis=1) <= most
    long = int(np.sum(lengths > most))
    if not long:
        return values
    warn(
        f"{where}: {long} of {len(lengths)} texts have more than {most} words, the longest "
        f"{int(lengths.max())}: only the first {most} are used"
    )
    if kept is not None:
        return np.where(kept, values, PAD)
    return first_elements(values, most)


def first_elements(values: Ragged, most: int) -> Ragged:
    """Return the first elements of every row, so that unused elements do not cost padding."""
    lengths = values.lengths
    if not len(lengths) or lengths.max() <= most:
        return values
    keep = np.arange(len(values.values)) - np.repeat(values.offsets[:-1], lengths) < most
    offsets = np.concatenate([[0], np.cumsum(np.minimum(lengths, most))])
    return Ragged(values.values[keep], offsets, values.info)


def flat_rows(values: Any, where: str, known: int | None = None) -> Any:
    """Return vectors from vectors or matrices of one size, row by row.

    Parameters
    ----------
    values : array, sparse matrix or tensor of shape (n, d) or (n, r, c), or Ragged
        Items of a view.
    where : str
        Name of the view in messages.
    known : int, optional
        Number of values per item in the fit.

    Returns
    -------
    array, sparse matrix or tensor of shape (n, d) or (n, r c)

    Raises
    ------
    ValueError
        If the values are ragged, or their number per item differs from `known`.
    """
    if isinstance(values, Ragged):
        raise ValueError(f"{where} must have rows of one size, got a Ragged; pad them first")
    flat = values.reshape(len(values), -1) if len(values.shape) == 3 else values
    if known is not None and flat.shape[1] != known:
        raise ValueError(
            f"{where} was fitted on {known} numbers per item, got {flat.shape[1]} (shape "
            f"{tuple(values.shape)})"
        )
    return flat


class Batches:
    """Iterator over the batches of a data set, in order or shuffled again for each pass.

    Parameters
    ----------
    dataset : PairData
    batch_size : int, default=128
        Rows per batch. A last batch of one row, which would have no negatives and no variance, is
        merged into the one before it.
    shuffle : bool, default=False
        Whether to draw a new order for every pass.
    drop_last : bool, default=False
        Whether to drop a last batch that is not full.
    together : int, default=1
        Number of rows of one item of the first view that follow each other if rows are shuffled, so
        that a batch contains several captions of an image. Every row is still used once per pass:
        of five captions, two runs have two and one has one with ``together=2``.
    generator : torch.Generator, optional
        Source of the random order.

    Raises
    ------
    ValueError
        If a parameter is invalid.
    """

    @validated(
        batch_size=[integer(1)], shuffle=["boolean"], drop_last=["boolean"], together=[integer(1)]
    )
    def __init__(
        self,
        dataset: PairData,
        batch_size: int = 128,
        shuffle: bool = False,
        drop_last: bool = False,
        together: int = 1,
        generator: torch.Generator | None = None,
    ) -> None:
        self.dataset = dataset
        self.shuffle = shuffle
        self.together = together
        self.generator = generator
        self.progress = 0.0
        self.epoch = 0
        n = len(dataset)
        stops = [*range(batch_size, n, batch_size), n]
        if drop_last and len(stops) > 1 and n % batch_size:
            stops.pop()
        elif len(stops) > 1 and stops[-1] - stops[-2] == 1:
            del stops[-2]
        self._slices = [slice(a, b) for a, b in zip([0, *stops[:-1]], stops)]

    def __len__(self) -> int:
        return len(self._slices)

    def __iter__(self) -> Iterator[Batch]:
        n = len(self.dataset)
        order = torch.randperm(n, generator=self.generator) if self.shuffle else torch.arange(n)
        if self.shuffle and self.together > 1:
            order = self._runs(order)
        # Only training has a generator, whose seed is the fit's.
        draw = None
        if self.generator is not None:
            draw = Draw(self.generator.initial_seed(), self.epoch)
        parts = [order[part] for part in self._slices]
        yield from self.dataset.batches(parts, self.progress, draw)

    def _runs(self, order: Tensor) -> Tensor:
        """Return a random order in which rows of one item of the first view come in short runs."""
        first = next(iter(self.dataset.item.values()))
        item, at = first[self.dataset.rows[order]].sort(stable=True)
        place = torch.arange(len(order)) - torch.searchsorted(item, item)
        run = (place % self.together == 0).cumsum(dim=0) - 1
        drawn = torch.randperm(int(run[-1]) + 1, generator=self.generator)
        return order[at[drawn[run].argsort(stable=True)]]
