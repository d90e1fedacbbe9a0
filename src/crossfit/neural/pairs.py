"""NeuralPairEstimator: base class of neural methods that score pairs of items in blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from numbers import Integral
from operator import itemgetter
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval
from torch import Tensor, nn

from crossfit._progress import progress_bar
from crossfit._torch import few_torch_threads, isolated
from crossfit.neural.batching import Batch
from crossfit.neural.estimator import NeuralEstimator
from crossfit.neural.losses import triplet_loss
from crossfit.neural.training import operations_of
from crossfit.similarities import Scores, check_chunk
from crossfit.views import Views, n_rows

__all__ = ["NeuralPairEstimator", "PairGroups", "Prepared", "group_loss"]

# Minimum number of items per call of _prepare_batch, for small training batches.
_ITEMS = 64


class NeuralPairEstimator(NeuralEstimator):
    """Base class of neural methods that score pairs of items and have no common space.

    In addition to `_build_module` and `_loss` of `NeuralEstimator`, a subclass implements

    - ``_prepare_batch(module, items, view)``: everything that can be computed from an item alone,
      as a tensor, or a tuple or dict of tensors, whose first axis is the items. It runs once per
      item, never once per pair. Further axes may be padded to the longest item of the batch, with
      a mask among the tensors: batches of different lengths are padded with zeros and False.
    - ``_score_pairs(module, P, Q)``: scores of shape (len P, len Q), higher is better, of
      prepared items of the first role against prepared items of the second. A score may depend
      on its own two items only. Scores should be computed in float32: under autocast, wrap
      the last products in ``torch.autocast(device_type, enabled=False)``, since bfloat16
      distinguishes only 128 values between 1 and 2.
    - ``_pair_bytes(P, Q)``: bytes of the tensors that `_score_pairs` makes for one pair and
      holds at the same time, including the score, from the shapes of P and Q. Allocations per
      row belong in `_prepare_batch`.

    In training, `_outputs` passes the scores of all items of the batch against each other, (b, b),
    to `_loss`; ``batch.positives`` and ``batch.negatives`` identify them, and another caption of
    the same image is never a negative. Methods whose pairs are too expensive for this override
    `_outputs`, and score `PairGroups`.

    The base class provides `similarity`, ``score``, searches and bundles. They work in blocks
    over both axes, within a memory limit, on the device of the fit and with its mixed precision,
    and score every pair once: the other direction is the transpose.

    Parameters
    ----------
    score_memory : int, default=2 ** 28
        Maximum size in bytes of the temporary tensors of one block of pairs. Prepared items and
        the matrix of scores are not included.
    **kwargs
        `max_epochs`, `lr`, `batch_size` and the other parameters of `NeuralEstimator`.

    See Also
    --------
    NeuralEstimator : Base class of neural methods with a common space.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **NeuralEstimator._parameter_constraints,
        "batch_size": [Interval(Integral, 2, None, closed="left")],  # one pair has no negatives
        "score_memory": [Interval(Integral, 1, None, closed="left")],
    }
    _neutral: ClassVar[tuple[str, ...]] = (*NeuralEstimator._neutral, "score_memory")

    def __init__(self, *, score_memory: int = 2**28, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.score_memory = score_memory

    # ---- what an author writes ---------------------------------------------------------------

    def _prepare_batch(self, module: nn.Module, items: Any, view: str) -> Any:
        """Return what can be computed from each item alone; rows stay rows."""
        raise NotImplementedError(f"{type(self).__name__} does not define _prepare_batch")

    def _score_pairs(self, module: nn.Module, P: Any, Q: Any) -> Tensor:
        """Score prepared items of the first role against prepared items of the second."""
        raise NotImplementedError(f"{type(self).__name__} does not define _score_pairs")

    def _pair_bytes(self, P: Any, Q: Any) -> int:
        """Return the peak number of bytes needed to score one pair."""
        raise NotImplementedError(f"{type(self).__name__} does not define _pair_bytes")

    def _fit(self, views: Views, y: NDArray[Any] | None) -> None:
        if len(np.unique(views.groups)) < 2:
            raise ValueError(
                f"{self._name()}: ranks matching pairs above others, so it needs rows of at least "
                f"two groups, got {len(views)} rows of one group"
            )
        super()._fit(views, y)

    def _outputs(self, module: nn.Module, batch: Batch) -> Any:
        P, Q = (self._prepare_batch(module, items, role) for role, items in batch.views.items())
        return self._score_pairs(module, P, Q)

    # ---- scores ------------------------------------------------------------------------------

    def _prepare(self, values: Any, view: str) -> Prepared:
        """Run `_prepare_batch` on all items of a view."""
        rows = max(self.batch_size, _ITEMS)
        parts: list[Any] = []
        with progress_bar(n_rows(values), f"{self._name()}: {view}", "item", self.verbose) as bar:

            def prepare(module: nn.Module, items: Any) -> None:
                # The batches of _apply are limited by the size of their features. The prepared
                # tensors are larger, so parts of the size of a training batch are used.
                for start in range(0, _length(items), rows):
                    some = _map(itemgetter(slice(start, start + rows)), items)
                    found = self._prepare_batch(module, some, view)
                    parts.append(_map(_kept, found))
                    bar.update(_length(some))

            self._apply(prepare, values, view)
        return Prepared(_joined(parts))

    def _similarity(self, P: Any, Q: Any) -> NDArray[Any]:
        """Score `Prepared` items of the first role against those of the second."""
        scores = np.empty((len(P), len(Q)), np.float32)
        self._fill(P, Q, scores, None, verbose=False)
        return scores

    def _fill(
        self,
        P: Prepared,
        Q: Prepared,
        scores: Scores,
        chunk_size: int | None,
        verbose: bool | int | str | None = None,
    ) -> None:
        """Write the scores of all pairs, rows in P and columns in Q."""
        self.net_.module_.eval()
        device = torch.device(self.net_.device)
        rows, columns = self._block(P, Q, chunk_size, device)
        P, Q = _together(P, Q, device)
        shown = self.verbose if verbose is None else verbose
        operations = operations_of(self.net_.module_, rows * columns, 1)
        with (
            isolated(),
            few_torch_threads(operations),
            progress_bar(scores.size, self._name(), "pair", shown) as bar,
        ):
            for i in range(0, len(P), rows):
                p = P[i : i + rows].to(device)
                for j in range(0, len(Q), columns):
                    found = self._scored(p, Q[j : j + columns].to(device), device)
                    scores[i : i + rows, j : j + columns] = found
                    bar.update(found.size)

    def _scored(self, P: Prepared, Q: Prepared, device: torch.device) -> NDArray[Any]:
        """Return the scores of one block."""
        with (
            torch.inference_mode(),
            torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.net_.amp),
        ):
            found = self._score_pairs(self.net_.module_, P.parts, Q.parts)
        if found.shape != (len(P), len(Q)):  # would be broadcast
            raise ValueError(
                f"{self._name()}._score_pairs must return ({len(P)}, {len(Q)}) scores, got "
                f"{tuple(found.shape)}"
            )
        return found.float().cpu().numpy()

    def _block(
        self, P: Prepared, Q: Prepared, chunk_size: int | None, device: torch.device
    ) -> tuple[int, int]:
        """Return the numbers of rows and columns of a block, within `chunk_size` and memory."""
        most = check_chunk(chunk_size)
        # Scores are copied to the host and to float32 unless they are already there.
        copied = device.type != "cpu" or self.net_.amp
        pair = int(self._pair_bytes(P.parts, Q.parts)) + (8 if copied else 0)
        # On another device, the items of a block are copies.
        per_row, per_column = (
            (0, 0) if device.type == "cpu" else (P.nbytes // len(P), Q.nbytes // len(Q))
        )

        def needed(rows: int, columns: int) -> int:
            return rows * columns * pair + rows * per_row + columns * per_column

        rows, columns = min(len(P), most), min(len(Q), most)
        while needed(rows, columns) > self.score_memory:
            if rows == columns == 1:
                raise ValueError(
                    f"{self._name()}: score_memory is {self.score_memory} bytes, but one pair "
                    f"takes {needed(1, 1)}; increase score_memory"
                )
            if rows > columns:
                rows = -(-rows // 2)
            else:
                columns = -(-columns // 2)
        return rows, columns


class Prepared:
    """Prepared items of one view: a tensor, or a tuple or dict of tensors with the same rows.

    Has a ``shape``, a length and indexing by rows, like the values of a view.

    Parameters
    ----------
    parts : Tensor, or tuple or dict of Tensors
        As `NeuralPairEstimator._prepare_batch` returns them.

    Raises
    ------
    ValueError
        If there is no tensor, or the tensors differ in their number of rows.
    """

    def __init__(self, parts: Any) -> None:
        self.parts = parts
        lengths = {len(part) for part in _leaves(parts)}
        if len(lengths) != 1:
            raise ValueError(
                "prepared items must be tensors of the same number of rows, got "
                f"{', '.join(map(str, sorted(lengths))) or 'no tensor'}"
            )
        self.shape = (lengths.pop(),)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> Prepared:
        """Return some rows, by a slice, an integer array or a mask; a slice copies nothing."""
        at = torch.from_numpy(rows.copy()) if isinstance(rows, np.ndarray) else rows
        return Prepared(_map(lambda part: part[at], self.parts))

    @property
    def nbytes(self) -> int:
        """Size of all tensors in bytes."""
        return sum(part.nbytes for part in _leaves(self.parts))

    def to(self, device: torch.device) -> Prepared:
        """Return the items on a device.

        Parameters
        ----------
        device : torch.device
            Where to move the tensors.

        Returns
        -------
        Prepared
            The same items; tensors that are on the device already are not copied.
        """
        return Prepared(_map(lambda part: part.to(device), self.parts))


class PairGroups(NamedTuple):
    """Groups of rows of a batch, in which every first item is scored with every second item.

    For methods whose pairs are too expensive to score all of a batch in training.

    Parameters
    ----------
    first, second : int64 Tensor of shape (g, n) and (g, m)
        Rows of the batch whose items of the first and of the second role are in each group.
    positives, negatives : bool Tensor of shape (g, n, m)
        True at pairs, and at items of different groups of rows. Another caption of the same image
        is never a negative.

    See Also
    --------
    group_loss : The ranking loss of scores (g, n, m).
    """

    first: Tensor
    second: Tensor
    positives: Tensor
    negatives: Tensor

    @classmethod
    def divided(cls, batch: Batch, size: int) -> Self:
        """Divide a batch into groups of equal size.

        Parameters
        ----------
        batch : Batch
            The pairs.
        size : int
            Number of rows of a group. The last group may begin again at row 0.
        """
        b = len(batch)
        size = min(size, b)
        rows = torch.arange(-(-b // size) * size, device=batch.groups.device).remainder(b)
        rows = rows.view(-1, size)
        first, second = rows[:, :, None], rows[:, None]
        return cls(rows, rows, batch.positives[first, second], batch.negatives[first, second])

    @classmethod
    def drawn(cls, batch: Batch, bidirectional: bool = True) -> Self:
        """Put every row in a group with one random wrong second item, and perhaps a first one.

        Parameters
        ----------
        batch : Batch
            The pairs.
        bidirectional : bool, default=True
            Whether to draw a wrong first item too, so that groups are (2, 2) and not (1, 2).
        """
        wrong = batch.negatives
        own = torch.arange(len(batch), device=wrong.device)

        def draw() -> Tensor:
            # The largest of i.i.d. numbers is uniform over the items of other groups.
            return torch.rand(wrong.shape, device=wrong.device).masked_fill(~wrong, -1).argmax(1)

        second = torch.stack([own, draw()], dim=1)
        first = torch.stack([own, draw()], dim=1) if bidirectional else own[:, None]
        positives = wrong.new_zeros(len(own), first.shape[1], 2)
        negatives = positives.clone()
        positives[:, 0, 0] = True
        known = wrong.any(dim=1)
        negatives[:, 0, 1] = known
        if bidirectional:
            negatives[:, 1, 0] = known
        return cls(first, second, positives, negatives)


def group_loss(
    scores: Tensor,
    positives: Tensor,
    negatives: Tensor,
    *,
    margin: float,
    mining: str,
    k: int = 1,
    bidirectional: bool = True,
) -> Tensor:
    """Return the mean hinge of scores in groups, over the positives that have a negative.

    Parameters
    ----------
    scores : Tensor of shape (g, n, m)
        Scores of each group's first items (rows) against its second items.
    positives, negatives : bool Tensor of shape (g, n, m)
        As in `PairGroups`.
    margin : float
        See `triplet_loss`.
    mining : {"all", "random", "hardest", "top-k", "sum"}
        See `triplet_loss`. ``"random"`` is ``"all"``: `PairGroups.drawn` has drawn already.
    k : int, default=1
        See `triplet_loss`.
    bidirectional : bool, default=True
        Add the hinges whose anchors are second items. By default those of both directions are
        added up.

    Returns
    -------
    Tensor of shape ()

    See Also
    --------
    triplet_loss : The same for the scores of a whole batch.
    """
    mining = "all" if mining == "random" else mining
    sides = [(scores, positives, negatives)]
    if bidirectional:
        sides.append((scores.mT, positives.mT, negatives.mT))
    terms = []
    for found, right, wrong in sides:
        right = right & wrong.any(dim=-1, keepdim=True)
        rows = (part.flatten(0, 1) for part in (found, right, wrong))
        terms.append(triplet_loss(*rows, margin=margin, mining=mining, k=k))
    return torch.stack(terms).sum()


# ---- tensors, alone or in tuples and dicts -------------------------------------------------------


def _map(function: Callable[[Tensor], Any], parts: Any) -> Any:
    """Apply a function to every tensor; None is returned unchanged."""
    if parts is None:
        return None
    if isinstance(parts, Mapping):
        return {name: _map(function, part) for name, part in parts.items()}
    if isinstance(parts, (tuple, list)):
        found = [_map(function, part) for part in parts]
        return type(parts)(*found) if hasattr(parts, "_fields") else tuple(found)
    return function(parts)


def _leaves(parts: Any) -> list[Tensor]:
    found: list[Tensor] = []
    _map(found.append, parts)
    return found


def _length(parts: Any) -> int:
    return len(_leaves(parts)[0])


def _kept(part: Tensor) -> Tensor:
    """Return a prepared tensor on the host, in float32, without the storage it is a view of."""
    part = part.float() if part.is_floating_point() else part
    part = part.cpu()
    return part.clone() if part.untyped_storage().nbytes() > part.nbytes else part


def _joined(parts: list[Any]) -> Any:
    """Concatenate batches; axes on which they differ are padded with zeros and False."""
    first = parts[0]
    if first is None:
        return None
    if isinstance(first, Mapping):
        return {name: _joined([part[name] for part in parts]) for name in first}
    if isinstance(first, (tuple, list)):
        found = [_joined(list(same)) for same in zip(*parts, strict=True)]
        return type(first)(*found) if hasattr(first, "_fields") else tuple(found)
    if len(parts) == 1:
        return first
    longest = [max(sizes) for sizes in zip(*(part.shape[1:] for part in parts), strict=True)]
    whole = first.new_zeros((sum(map(len, parts)), *longest))
    start = 0
    while parts:
        part = parts.pop(0)
        whole[(slice(start, start + len(part)), *map(slice, part.shape[1:]))] = part
        start += len(part)
    return whole


def _together(P: Prepared, Q: Prepared, device: torch.device) -> tuple[Prepared, Prepared]:
    """Move both sides to a GPU if they fit; otherwise blocks are moved one by one."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if P.nbytes + Q.nbytes < free / 2:
            return P.to(device), Q.to(device)
    return P, Q
