"""Pictures for training: read from their files batch by batch, by worker processes ahead of it."""

from __future__ import annotations

import contextlib
import copy
import math
import multiprocessing
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import joblib
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.utils._param_validation import Interval
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from crossfit._arguments import integer, validated
from crossfit.extraction.base import check_file
from crossfit.extraction.images import load_rgb
from crossfit.neural.batching import Draw, Items, Store

__all__ = ["READING", "Pictures", "SquareCut"]

READING: dict[str, list[Any]] = {
    "num_workers": [Interval(Integral, 0, 1024, closed="both"), None],
    "picture_memory": [Interval(Integral, 0, None, closed="left")],
}
"""Constraints of the parameters of methods that read pictures."""

# More processes than this seldom help, because the network takes longer than they do.
_MOST = 8
# Starting processes takes longer than reading this many pictures.
_FEW = 256
# Pictures per task where they are not read for batches.
_TOGETHER = 64

# The items of a batch, and the seed of each item's augmentation or None.
_Task = tuple[list[Any], Sequence[tuple[int, ...]] | None]


@dataclass(frozen=True)
class SquareCut:
    """Resize a picture to a square without keeping its proportions, and cut a smaller one out.

    Parameters
    ----------
    resized : int
        Edge in pixels of the resized picture; 256 for Caffe's networks.
    edge : int
        Edge in pixels of the square that is cut out; 227 for Caffe's networks.

    Raises
    ------
    ValueError
        If `edge` is not between 1 and `resized`.
    """

    resized: int
    edge: int

    def __post_init__(self) -> None:
        if not 1 <= self.edge <= self.resized:
            raise ValueError(
                f"SquareCut: edge must be between 1 and resized={self.resized}, got {self.edge}"
            )

    def whole(self, image: Any) -> NDArray[np.uint8]:
        """Return an image, of any kind that `load_rgb` reads, as (resized, resized, 3)."""
        rgb = load_rgb(image)
        if rgb.shape[:2] == (self.resized, self.resized):
            return rgb
        size = (self.resized, self.resized)
        return np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BILINEAR))

    def cut(self, whole: NDArray[np.uint8], seed: Sequence[int] | None) -> NDArray[np.uint8]:
        """Return a square (edge, edge, 3): the centre, or for a seed a random and mirrored one.

        Parameters
        ----------
        whole : uint8 array of shape (resized, resized, 3)
        seed : sequence of int, or None
            Determines the place, and whether the square is mirrored, which half of them are.
        """
        margin = self.resized - self.edge
        top = left = margin // 2
        step = 1
        if seed is not None:
            random = np.random.default_rng(seed)
            top, left = random.integers(margin + 1, size=2)
            step = 1 if random.random() < 0.5 else -1
        return whole[top : top + self.edge, left : left + self.edge][:, ::step]


class Pictures(Store):
    """Pictures of one view, of which a batch holds squares of uint8 pixels (b, edge, edge, 3).

    Files are read when a batch needs them, so that any number of pictures takes no more memory
    than a few batches. Worker processes read the next batches while the network is trained.

    Parameters
    ----------
    images : sequence of n pictures, or uint8 array of shape (n, H, W, 3)
        Paths, PIL images or arrays, as `crossfit.extraction.images.load_rgb` reads them.
    cut : SquareCut
        How a square is obtained from a picture.
    augment : bool, default=False
        Whether training cuts out and mirrors squares at random. The randomness depends on the
        seed of the fit, the epoch and the number of the row alone: a fit that is resumed, or has
        other workers, sees the same squares.
    num_workers : int or None, default=None
        Number of processes that read pictures; 0 reads them in this process. By default one less
        than there are cores, at most 8; 0 for fewer than 256 pictures, for pictures in memory,
        outside the main thread, inside worker processes of others, and where processes are not
        forked, because a script would then need ``if __name__ == "__main__":``.
    memory : int, default=0
        Pictures that are read many times are kept, resized, if they take at most this many bytes
        in all.
    where : str, default="pictures"
        Name of the pictures in error messages.

    Raises
    ------
    FileNotFoundError
        If a file does not exist.
    ValueError
        If a path does not lead to a regular file, and while reading if a picture is damaged.
    TypeError
        While reading, if an item is not a picture.
    """

    n_inputs = 3

    @validated(num_workers=[integer(0), None], memory=[integer(0)], augment=["boolean"])
    def __init__(
        self,
        images: Any,
        cut: SquareCut,
        *,
        augment: bool = False,
        num_workers: int | None = None,
        memory: int = 0,
        where: str = "pictures",
    ) -> None:
        self.images, self.cut = images, cut
        self.augment, self.num_workers, self.memory, self.where = (
            augment,
            num_workers,
            memory,
            where,
        )
        self._open: list[Any] = []
        if not self._in_memory:
            # Reading may be hours away.
            try:
                for image in images:
                    if isinstance(image, str):
                        check_file(image, "image")
            except (OSError, ValueError) as error:
                self._checked(error)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def nbytes(self) -> int:
        """0: pictures are moved to a device batch by batch."""
        return 0

    @property
    def longest(self) -> int:
        """Number of values of a square."""
        return 3 * self.elements

    @property
    def elements(self) -> int:
        """Number of pixels of a square."""
        return self.cut.edge**2

    @property
    def _in_memory(self) -> bool:
        return isinstance(self.images, np.ndarray) and self.images.dtype == np.uint8

    def to(self, device: torch.device) -> Store:
        """Return the store itself."""
        return self

    def kept(self) -> Store:
        """Return the resized pictures, all of them read now, if they take at most `memory` bytes.

        Otherwise, or if they are in memory already, the store itself is returned.
        """
        edge = self.cut.resized
        shape = (len(self), edge, edge, 3)
        if self._in_memory or math.prod(shape) > self.memory:
            return self
        found = copy.copy(self)
        found.cut, found._open = SquareCut(edge, edge), []
        values, start = np.empty(shape, np.uint8), 0
        with contextlib.closing(found):
            for part in found.read(torch.arange(len(self)).split(_TOGETHER)):
                values[start : start + len(part.values)] = part.values.numpy()
                start += len(part.values)
        found.images, found.cut = values, self.cut
        return found

    def take(self, at: Tensor) -> Items:
        """Return the centres of the pictures at positions `at`."""
        return next(self.read([at]))

    def read(
        self,
        parts: Sequence[Tensor],
        rows: Sequence[Tensor] | None = None,
        draw: Draw | None = None,
        *,
        pinned: bool = False,
    ) -> Iterator[Items]:
        """Yield the pictures of one batch after the other; see `Store.read`."""
        seeds: Iterable[Any] = [None] * len(parts)
        if self.augment and draw is not None and rows is not None:
            seeds = ([(*draw, row) for row in part.tolist()] for part in rows)
        tasks: Iterator[_Task] = (
            ([self.images[i] for i in at.tolist()], seed) for at, seed in zip(parts, seeds)
        )
        reader = _Reader(self.cut)
        n_workers = self._n_workers(len(parts))
        if not n_workers:
            for task in tasks:
                yield Items(torch.from_numpy(self._checked(reader[task])))
            return
        workers = self._start(reader, tasks, n_workers, pinned)
        try:
            while (found := self._next(workers)) is not None:
                pixels = self._checked(found.pixels)
                yield Items(pixels if pinned else torch.from_numpy(pixels))
        finally:
            self._stop(workers)

    def close(self) -> None:
        """End the worker processes of passes that were interrupted."""
        for workers in list(self._open):
            self._stop(workers)

    def _n_workers(self, n_parts: int) -> int:
        process = multiprocessing.current_process()
        if n_parts < 2 or self._in_memory or process.daemon:  # which may not have children
            return 0
        if self.num_workers is not None:
            return min(self.num_workers, n_parts)
        method = multiprocessing.get_start_method(allow_none=True)
        forked = (method or multiprocessing.get_all_start_methods()[0]) == "fork"
        alone = threading.current_thread() is threading.main_thread()
        few = len(self) < _FEW or not isinstance(self.images[0], str)
        return 0 if few or not (forked and alone) else min(joblib.cpu_count() - 1, _MOST, n_parts)

    def _start(self, reader: _Reader, tasks: Iterator[_Task], n_workers: int, pinned: bool) -> Any:
        with warnings.catch_warnings():
            # The processes only read pictures, which takes none of the locks that other threads
            # may hold.
            warnings.filterwarnings("ignore", message=".*multi-?threaded.*fork")
            # More workers than cores may be right if files come over a network.
            warnings.filterwarnings("ignore", message="This DataLoader will create")
            loader = DataLoader(
                reader,
                batch_size=None,
                sampler=tasks,  # type: ignore[arg-type]
                num_workers=n_workers,
                collate_fn=_Read,
                pin_memory=pinned,
                # The loader draws from it; by default it would draw from torch's random state.
                generator=torch.Generator(),
            )
            workers = iter(loader)
        self._open.append(workers)
        return workers

    def _stop(self, workers: Any) -> None:
        if workers in self._open:
            self._open.remove(workers)
            workers._shutdown_workers()

    def _next(self, workers: Any) -> _Read | None:
        try:
            return next(workers, None)
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise RuntimeError(
                f"{self.where}: a process that reads pictures ended early ({error}); in a script, "
                "put the calls under if __name__ == '__main__':, or set num_workers=0"
            ) from error

    def _checked(self, found: Any) -> Any:
        """Return pixels, or raise the error that was found in their place."""
        if isinstance(found, Exception):
            raise type(found)(
                f"{self.where}: {found}; replace this picture, or leave out its rows"
            ) from found
        return found


class _Reader(Dataset[Any]):
    """Reader of tasks, the only thing that workers hold: they need no copy of the paths."""

    def __init__(self, cut: SquareCut) -> None:
        self.cut = cut

    def __getitem__(self, task: _Task) -> Any:
        """Return pixels (b, edge, edge, 3), or the error that an item has caused."""
        items, seeds = task
        pixels = np.empty((len(items), self.cut.edge, self.cut.edge, 3), np.uint8)
        for i, item in enumerate(items):
            try:
                whole = self.cut.whole(item)
            # Returned, because the loader would put the worker's traceback into the message.
            except (OSError, TypeError, ValueError) as error:
                return error
            pixels[i] = self.cut.cut(whole, None if seeds is None else seeds[i])
        return pixels


class _Read:
    """Pixels that a worker sends as an array, because tensors would need shared memory.

    Containers often have 64 MB, which three batches of 128 pictures fill.
    """

    def __init__(self, pixels: Any) -> None:
        self.pixels = pixels

    def pin_memory(self) -> _Read:
        """Return pixels from which copies to a GPU are fast; called by the loader."""
        if isinstance(self.pixels, np.ndarray):
            return _Read(torch.from_numpy(self.pixels).pin_memory())
        return self
