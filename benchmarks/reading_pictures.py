"""Pictures per second that training reads, as a ratio to a plain DataLoader, and the memory.

``python benchmarks/reading_pictures.py`` makes 100,000 JPEG files (links to 500 pictures, in a
temporary folder) and reads all of them once, resized to 256 x 256 and cut to 227 x 227, while it
records the peak memory of all processes, separately for each tenth of the pictures: memory that
grows with their number is larger in the last tenth than in the first. For the speed, blocks of
pictures are read in turns with ``torch.utils.data.DataLoader`` over the shortest data set that does
the same, so that what else the machine does falls on both; ``--turns 0`` leaves this out.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from crossfit.neural.batching import Draw
from crossfit.neural.pictures import Pictures, SquareCut

BATCH = 128


class Plain(Dataset[torch.Tensor]):
    """The shortest data set of files."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths
        self.prepare = v2.Compose(
            [v2.Resize((256, 256)), v2.RandomCrop(227), v2.RandomHorizontalFlip(), v2.PILToTensor()]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> torch.Tensor:
        """Return one picture."""
        with Image.open(self.paths[i]) as image:
            return self.prepare(image.convert("RGB"))


def make(folder: Path, n: int, size: tuple[int, int]) -> list[str]:
    """Write n files, most of them links."""
    rng = np.random.default_rng(0)
    paths = [folder / f"{i}.jpg" for i in range(n)]
    for i, path in enumerate(paths):
        if i < 500:
            coarse = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path)
        else:
            os.link(paths[i % 500], path)
    return [str(path) for path in paths]


@contextmanager
def watched() -> Iterator[list[int]]:
    """Yield a list whose last item becomes the peak growth of memory, in bytes, of all processes.

    Append 0 to it to begin another part.
    """
    me = psutil.Process()

    def used() -> int:
        total = me.memory_info().rss
        for child in me.children():
            try:
                total += child.memory_full_info().uss
            except psutil.Error:  # it has just ended
                continue
        return total

    before, peaks, done = used(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.25):
            growth = used() - before
            peaks[-1] = max(peaks[-1], growth)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peaks
    finally:
        done.set()
        watcher.join()


def rate(batches: Iterator[Any], n: int) -> float:
    begun = time.perf_counter()
    for _ in batches:
        pass
    return n / (time.perf_counter() - begun)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--block", type=int, default=2_560, help="pictures per turn")
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--size", type=int, nargs=2, default=(64, 48), help="of the pictures")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = make(Path(folder), given.pictures, tuple(given.size))
        cut = SquareCut(256, 227)

        def ours(some: list[str]) -> Iterator[Any]:
            store = Pictures(some, cut, augment=True, num_workers=given.workers)
            parts = torch.arange(len(some)).split(BATCH)
            return store.read(parts, parts, Draw(0, 0))

        def plain(some: list[str]) -> Iterator[Any]:
            return iter(DataLoader(Plain(some), BATCH, num_workers=given.workers))

        block = paths[: given.block]
        ratios = [rate(ours(block), len(block)) / rate(plain(block), len(block))
                  for _ in range(given.turns)]  # fmt: skip
        if ratios:
            print(
                f"speed, as a ratio to a plain DataLoader: median {statistics.median(ratios):.2f}"
            )

        def tenths(peaks: list[int]) -> Iterator[Any]:
            n_read = 0
            for items in ours(paths):
                n_read += len(items.values)
                yield items
                if 10 * n_read >= len(paths) * len(peaks) and n_read < len(paths):
                    print(f"{n_read} pictures: {peaks[-1] / 2**20:.0f} MiB", flush=True)
                    peaks.append(0)

        with watched() as peaks:
            speed = rate(tenths(peaks), len(paths))
        decoded = len(paths) * 256 * 256 * 3
        print(
            f"{len(paths)} pictures: {speed:.0f} per second, memory grows by "
            f"{peaks[0] / 2**20:.0f} MiB in the first tenth and {peaks[-1] / 2**20:.0f} MiB in the "
            f"last; decoded they would take {decoded / 2**20:.0f} MiB"
        )
