"""NeuralPairEstimator: a neural method that scores pairs of items, block by block."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from numbers import Integral
from operator import itemgetter
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval
from torch import Tensor, nn

from crossfit._progress import progress_bar
from crossfit._torch import few_torch_threads, isolated
from crossfit.neural.batching import Batch
from crossfit.neural.estimator import NeuralEstimator
from crossfit.neural.training import operations_of
from crossfit.similarities import Scores, check_chunk
from crossfit.views import Views, n_rows

__all__ = ["NeuralPairEstimator", "Prepared"]

# Rows of one call of _prepare_batch, where a training batch is smaller.
_ITEMS = 64


class NeuralPairEstimator(NeuralEstimator):
    """Base class of neural methods that score pairs of items and have no common space.

    An author writes, besides `_build_module` and `_loss` of `NeuralEstimator`,

    - ``_prepare_batch(module, items, view)``: whatever can be computed of an item alone, as a
      tensor, or a tuple or dict of tensors, whose first axis is the items. It runs once per
      item, never once per pair. Further axes may be padded to the longest of the batch, with
      a mask among the tensors: where batches differ, they are padded on with zeros and False.
    - ``_score_pairs(module, P, Q)``: scores of shape (len P, len Q), higher is better, of
      prepared items of the first role against prepared items of the second. A score may depend
      on its own two items only. What ranks should be computed in float32: under autocast put
      the last products into ``torch.autocast(device_type, enabled=False)``, for bfloat16 tells
      only 128 scores apart between 1 and 2.
    - ``_pair_bytes(P, Q)``: bytes of the tensors that `_score_pairs` makes for one pair and
      holds at the same time, the score included, from the shapes of P and Q. Whatever it
      allocates by the row alone belongs into `_prepare_batch`.

    In training `_outputs` gives `_loss` the scores of every item of the batch with every other,
    (b, b); ``batch.positives`` and ``batch.negatives`` say what they are, and another caption
    of the same image is never a negative. Methods whose pairs are too dear for that override
    `_outputs`.

    Everything else is there: `similarity`, ``score``, searches and bundles. They work block by
    block over both axes, within a bound of memory, on the device of the fit and with its mixed
    precision, and score every pair once: the other direction is the transpose.

    Parameters
    ----------
    score_memory : int, default=2 ** 28
        Bytes that the temporary tensors of one block of pairs may take. Prepared items and the
        matrix of scores come on top.
    max_epochs, lr, batch_size, ...
        See `NeuralEstimator`.
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
        """Return what can be computed of each item alone; rows stay rows."""
        raise NotImplementedError(f"{type(self).__name__} does not define _prepare_batch")

    def _score_pairs(self, module: nn.Module, P: Any, Q: Any) -> Tensor:
        """Score prepared items of the first role against prepared items of the second."""
        raise NotImplementedError(f"{type(self).__name__} does not define _score_pairs")

    def _pair_bytes(self, P: Any, Q: Any) -> int:
        """Return the bytes that scoring one pair takes at its peak."""
        raise NotImplementedError(f"{type(self).__name__} does not define _pair_bytes")

    def _fit(self, views: Views, y: NDArray[Any] | None) -> None:
        if len(np.unique(views.groups)) < 2:
            raise ValueError(
                f"{self._name()} learns to rank what belongs together above what does not: "
                f"expected rows of at least two groups, got {len(views)} of one"
            )
        super()._fit(views, y)

    def _outputs(self, module: nn.Module, batch: Batch) -> Any:
        P, Q = (self._prepare_batch(module, items, role) for role, items in batch.views.items())
        return self._score_pairs(module, P, Q)

    # ---- scores ------------------------------------------------------------------------------

    def _prepare(self, values: Any, view: str) -> Prepared:
        """Run `_prepare_batch` on all items of a view; the result has rows to take."""
        rows = max(self.batch_size, _ITEMS)
        parts: list[Any] = []
        with progress_bar(n_rows(values), f"{self._name()}: {view}", "item", self.verbose) as bar:

            def prepare(module: nn.Module, items: Any) -> None:
                # The batches of _apply are as large as their features allow; what a network
                # makes of them is larger, so that the size of a training batch is the guide.
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
        """Score one block."""
        with (
            torch.inference_mode(),
            torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.net_.amp),
        ):
            found = self._score_pairs(self.net_.module_, P.parts, Q.parts)
        if found.shape != (len(P), len(Q)):  # it would be broadcast
            raise ValueError(
                f"{self._name()}._score_pairs must return ({len(P)}, {len(Q)}) scores, got "
                f"{tuple(found.shape)}"
            )
        return found.float().cpu().numpy()

    def _block(
        self, P: Prepared, Q: Prepared, chunk_size: int | None, device: torch.device
    ) -> tuple[int, int]:
        """Return rows and columns of a block that keeps to `chunk_size` and to the memory."""
        most = check_chunk(chunk_size)
        # The scores as float32 and on the host, where that is not what they are already.
        copied = device.type != "cpu" or self.net_.amp
        pair = int(self._pair_bytes(P.parts, Q.parts)) + (8 if copied else 0)
        # On another device the block's items are copies.
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
                    f"takes {needed(1, 1)}"
                )
            if rows > columns:
                rows = -(-rows // 2)
            else:
                columns = -(-columns // 2)
        return rows, columns


class Prepared:
    """Prepared items of one view: a tensor, or tensors in a tuple or dict, of equally many rows.

    Has a ``shape``, a length and rows to take, like anything that a view can hold.

    Parameters
    ----------
    parts : Tensor, or tuple or dict of Tensors
        As `NeuralPairEstimator._prepare_batch` returns them.
    """

    def __init__(self, parts: Any) -> None:
        self.parts = parts
        lengths = {len(part) for part in _leaves(parts)}
        if len(lengths) != 1:
            raise ValueError(
                "prepared items must be tensors of equally many rows, got "
                f"{', '.join(map(str, sorted(lengths))) or 'no tensor'}"
            )
        self.shape = (lengths.pop(),)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> Prepared:
        """Take rows by a slice, an integer array or a mask; a slice copies nothing."""
        at = torch.from_numpy(rows.copy()) if isinstance(rows, np.ndarray) else rows
        return Prepared(_map(lambda part: part[at], self.parts))

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(part.nbytes for part in _leaves(self.parts))

    def to(self, device: torch.device) -> Prepared:
        """Return the items on a device."""
        return Prepared(_map(lambda part: part.to(device), self.parts))


# ---- tensors, alone or in tuples and dicts -------------------------------------------------------


def _map(function: Callable[[Tensor], Any], parts: Any) -> Any:
    """Apply a function to every tensor; None stays."""
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
    """Keep a prepared tensor on the host, in float32, and nothing it is a part of."""
    part = part.float() if part.is_floating_point() else part
    part = part.cpu()
    return part.clone() if part.untyped_storage().nbytes() > part.nbytes else part


def _joined(parts: list[Any]) -> Any:
    """Put batches end to end, padding axes on which they differ with zeros and False."""
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
    """Put both sides on a GPU at once where they fit; else blocks go over one by one."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if P.nbytes + Q.nbytes < free / 2:
            return P.to(device), Q.to(device)
    return P, Q
