"""Measure the cost of own pairs without the encoders: the memory, and the share of the time.

``python benchmarks/own_pairs.py`` writes 20,000 small pictures and a CSV file with 100,000 captions
of them, opens the table, and extracts EfficientNet-Lite0 and MiniLM features of crossfit-wheels
with an empty feature cache. It prints the time and memory of opening the table, the peak memory of
the process, and the share of the time, by the wall clock and of the processor, that is spent
outside the encoders: on reading the table, hashing and decoding pictures, and on the cache.
``--pictures`` and ``--captions`` (of each picture) change the size.
"""

from __future__ import annotations

import argparse
import csv
import functools
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

WORDS = [
    "a", "red", "green", "blue", "dog", "cat", "bird", "child", "runs", "sits", "jumps", "over",
    "under", "beside", "the", "old", "wooden", "small", "large", "table", "river", "house", "snow",
]  # fmt: skip


def write_pairs(folder: Path, pictures: int, captions: int) -> Path:
    """Write pictures of 96 x 96 pixels, with smooth colours as photographs have, and a table."""
    from PIL import Image

    rng = np.random.default_rng(0)
    table = folder / "pairs.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "text"))
        for i in range(pictures):
            name = f"{i // 1000:03d}/{i:06d}.jpg"
            (folder / name).parent.mkdir(exist_ok=True)
            colours = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
            colours.resize((96, 96), Image.Resampling.BICUBIC).save(folder / name, quality=90)
            for _ in range(captions):
                writer.writerow((name, " ".join(rng.choice(WORDS, rng.integers(6, 15)))))
    return table


class Clock:
    """Time inside some functions, by the wall clock and of the processor."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def measured(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function whose time is added up."""

        @functools.wraps(function)
        def run(*args: Any) -> Any:
            wall, cpu = time.perf_counter(), time.process_time()
            try:
                return function(*args)
            finally:
                self.wall += time.perf_counter() - wall
                self.cpu += time.process_time() - cpu

        return run


def memory() -> float:
    """Return the peak memory of this process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--captions", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CROSSFIT_CACHE"] = f"{folder}/cache"
        table = write_pairs(Path(folder), options.pictures, options.captions)

        from crossfit import ViewTransformer
        from crossfit.datasets import from_table
        from crossfit_wheels.efficientnet import EfficientNetLite0
        from crossfit_wheels.minilm import MiniLM

        clock = Clock()
        for encoder in (EfficientNetLite0, MiniLM):
            encoder._extract = clock.measured(encoder._extract)  # type: ignore[method-assign]
        # What is loaded once, whatever the number of pairs, is loaded before.
        MiniLM(cache=False).fit_transform(["a dog"])
        EfficientNetLite0(cache=False).fit_transform([np.zeros((96, 96, 3), np.uint8)])
        clock.wall = clock.cpu = 0.0
        print(f"before: {memory():.0f} MiB", flush=True)
        wall, cpu = time.perf_counter(), time.process_time()
        views = from_table(table)["all"].views
        print(
            f"table of {len(views):,} rows opened in {time.perf_counter() - wall:.1f} s, peak "
            f"memory {memory():.0f} MiB",
            flush=True,
        )
        features = ViewTransformer([("image", EfficientNetLite0()), ("text", MiniLM())])
        made = features.fit_transform(views)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        n_pictures = len(made.distinct("image")[0])
        print(
            f"{n_pictures:,} pictures and {len(made):,} captions in {wall:.0f} s "
            f"({cpu:.0f} s of the processor), peak memory {memory():.0f} MiB"
        )
        print(
            f"outside the encoders: {100 * (1 - clock.wall / wall):.1f} % of the time, "
            f"{100 * (1 - clock.cpu / cpu):.1f} % of the processor's"
        )


if __name__ == "__main__":
    main()
