"""Planted items for extractors: pictures, texts, sounds and sequences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from crossfit.views import Ragged

__all__ = ["RATE", "planted_items"]

RATE = 22050
"""Samples per second of the planted sounds."""

_NOUNS = ("cat", "dog", "engine", "river", "teacher", "violin", "mountain", "kitchen")
_VERBS = ("sleeps", "runs", "sings", "waits", "turns", "falls")
_QUALITIES = ("red", "quiet", "old", "bright", "heavy", "small", "wet")


def planted_items(
    kind: str, modality: str, n: int, rng: np.random.Generator, folder: Path
) -> list[Any] | Ragged:
    """Make n different items of one kind, of different sizes.

    Parameters
    ----------
    kind : {"pixels", "paths", "strings", "samples", "sequence"}
        Kind of input, as in the card of an extractor.
    modality : {"image", "audio", "text"}
        Content of the files; used only if `kind` is ``"paths"``.
    n : int
        Number of items.
    rng : numpy.random.Generator
        Random number generator.
    folder : path
        Folder in which files are written.

    Returns
    -------
    list, or Ragged
        For ``"pixels"``, uint8 pictures (H, W, 3) with sides of 24 to 47 pixels; for
        ``"strings"``, sentences; for ``"samples"``, float32 sounds of 0.5 to 1 s; for
        ``"sequence"``, a Ragged with 10 to 29 vectors of 5 numbers per row; for ``"paths"``, the
        paths of PNG, WAV or text files with such items.

    Raises
    ------
    ValueError
        If `kind` is ``"paths"`` and `modality` is not one of the three.
    """
    if kind == "pixels":
        return [_picture(rng) for _ in range(n)]
    if kind == "strings":
        return [_sentence(rng, i) for i in range(n)]
    if kind == "samples":
        return [_sound(rng) for _ in range(n)]
    if kind == "sequence":
        return Ragged.from_list([rng.normal(size=(k, 5)) for k in rng.integers(10, 30, n)])
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{i}{_SUFFIXES.get(modality, '')}" for i in range(n)]
    if modality == "image":
        from PIL import Image

        for path in paths:
            Image.fromarray(_picture(rng)).save(path)
    elif modality == "audio":
        from scipy.io import wavfile

        for path in paths:
            wavfile.write(path, RATE, _sound(rng))
    elif modality == "text":
        for i, path in enumerate(paths):
            path.write_text(_sentence(rng, i), encoding="utf-8")
    else:
        raise ValueError(
            f"the kit can make files for the modalities image, audio and text, not {modality!r}; "
            "set make_inputs of the card"
        )
    return [str(path) for path in paths]


_SUFFIXES = {"image": ".png", "audio": ".wav", "text": ".txt"}


def _picture(rng: np.random.Generator) -> Any:
    height, width = rng.integers(24, 48, 2)
    coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return np.ascontiguousarray(np.kron(coarse, np.ones((8, 8, 1), np.uint8))[:height, :width])


def _sentence(rng: np.random.Generator, i: int) -> str:
    words = [rng.choice(part) for part in (_QUALITIES, _NOUNS, _VERBS)] + [_NOUNS[i % len(_NOUNS)]]
    more = rng.choice(_QUALITIES, 1 + i // len(_NOUNS))
    return f"a {words[0]} {words[1]} {words[2]} by the {' '.join(more)} {words[3]}"


def _sound(rng: np.random.Generator) -> Any:
    time = np.arange(rng.integers(RATE // 2, RATE)) / RATE
    tones = sum(np.sin(2 * np.pi * f * time) for f in rng.uniform(100, 2000, 3))
    return (0.2 * tones + 0.01 * rng.normal(size=len(time))).astype(np.float32)
