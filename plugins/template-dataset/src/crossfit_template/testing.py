"""Made-up files in the official layout, for the conformance checks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ["make_files"]


def make_files(folder: Path) -> None:
    """Write twelve pictures of one colour each, nine for training and three for testing.

    Parameters
    ----------
    folder : path
        An empty folder.
    """
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    lines = []
    for i in range(12):
        colour = tuple(int(part) for part in rng.integers(0, 256, 3))
        Image.new("RGB", (8, 8), colour).save(folder / "images" / f"{i}.png")
        lines.append(f"{i}.png\ta caption of picture {i}\t{('animal', 'plant', 'thing')[i % 3]}")
    for name, part in (("train", lines[:9]), ("test", lines[9:])):
        text = "\n".join(["image\tcaption\tclass", *part, ""])
        (folder / f"{name}.tsv").write_text(text, encoding="utf-8")
