"""Exact count of the memory of torch tensors, independent of the memory of the process."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["PeakBytes"]


class PeakBytes(TorchDispatchMode):
    """Context manager that counts the bytes of the tensors that are made inside its block.

    A test can use it to check that a pair method keeps to its ``score_memory``.

    Parameters
    ----------
    *given : tensors, or lists, tuples or dicts of them
        Tensors that exist already; neither they nor views of them are counted.

    Attributes
    ----------
    now, peak : int
        Bytes in use at present, and the largest number in use at any time.

    Examples
    --------
    >>> import torch
    >>> with PeakBytes() as counter:
    ...     total = (torch.ones(1000) + 1).sum()
    >>> counter.peak
    8000
    """

    def __init__(self, *given: Any) -> None:
        super().__init__()
        tensors = [part for part in tree_leaves(given) if isinstance(part, torch.Tensor)]
        self._given = {part.untyped_storage()._cdata for part in tensors}
        self._alive: dict[int, int] = {}
        self.now = self.peak = 0

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[Any],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation and count what it returns."""
        found = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(found):
            if isinstance(tensor, torch.Tensor) and tensor.numel():
                storage = tensor.untyped_storage()
                key = storage._cdata
                if key not in self._alive and key not in self._given:
                    self._alive[key] = storage.nbytes()
                    self.now += storage.nbytes()
                    self.peak = max(self.peak, self.now)
                    weakref.finalize(storage, self._gone, key)
        return found

    def _gone(self, key: int) -> None:
        self.now -= self._alive.pop(key, 0)
