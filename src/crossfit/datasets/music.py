"""The 10,000 songs with lyrics of Yu et al. (2017), as features in one npz file."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import KFold

from crossfit.datasets.cards import MUSIC as CARD
from crossfit.datasets.record import (
    Dataset,
    Split,
    check_counts,
    choose_subsets,
    content_hash,
    require,
)
from crossfit.views import Channels, Views, take_rows

FILE = "music.npz"
N_FOLDS = 5
SHAPES = {"audio": (20, 161), "text": (300,), "y": ()}
# Other features of the sounds, of any width, as the channels of `channels=True`.
FEATURES = ("pretrained", "spotify")
MOODS = (
    "aggressive", "angry", "bittersweet", "calm", "depressing", "dreamy", "fun", "gay", "happy",
    "heavy", "intense", "melancholy", "playful", "quiet", "quirky", "sad", "sentimental",
    "sleepy", "soothing", "sweet",
)  # fmt: skip


def load(
    root: Path,
    split: str = "official",
    *,
    fold: int = 0,
    seed: int = 0,
    channels: bool = False,
    subsets: Iterable[str] | None = None,
    strict: bool = True,
) -> Dataset:
    """Load the music set.

    The songs are not public. If you have them, or songs of your own, store their features in
    ``music.npz``: ``audio`` of shape (n, 20, 161), 20 cepstral coefficients in 161 frames of 30
    seconds (the defaults of `crossfit.extraction.MFCC`); ``text`` of shape (n, 300), Doc2Vec of
    the lyrics; ``y`` of shape (n,), the mood of every song, as a name or as a number from 0 in the
    alphabetical order of the twenty moods. It may also hold ``pretrained`` and ``spotify``, each
    of shape (n, d): features of the sounds from a pretrained music network and from Spotify's
    interface, which some of the authors' methods use.

    Parameters
    ----------
    root : path
        Folder with ``music.npz``.
    split : {"official"}, default="official"
        The authors' protocol is five-fold cross-validation with one fold for testing. Their folds
        are not published; these come from a seeded shuffle.
    fold : int, default=0
        The fold used for testing, 0 to 4.
    seed : int, default=0
        Seed of the shuffle.
    channels : bool, default=False
        Whether the view ``audio`` has the channels ``mfcc``, the coefficients, and, as far as the
        file holds them, ``pretrained`` and ``spotify``; by default it is the coefficients alone.
    subsets : iterable of str, optional
        Splits to load, of ``"train"`` and ``"test"``.
    strict : bool, default=True
        Whether to check that there are 10,000 songs.

    Returns
    -------
    Dataset
        Views ``audio``, (n, 20, 161) or channels, and ``text``, (n, 300), labels 0 to 19, and in
        ``info`` the ``row`` of every song in the file.

    Raises
    ------
    FileNotFoundError
        If the file is missing.
    ValueError
        If an array is missing, has another shape or type, or is not finite, or a mood is unknown.
        Arrays of Python objects are rejected, since reading them would execute code.
    """
    if fold not in range(N_FOLDS):
        raise ValueError(f"data set 'music' has the folds 0 to {N_FOLDS - 1}, got fold={fold!r}")
    chosen = choose_subsets(subsets, ("train", "test"), CARD)
    (path,) = require(root, FILE, card=CARD)
    arrays = _read(path)
    labels = _labels(arrays["y"])
    if len(labels) < N_FOLDS:
        raise ValueError(f"{FILE} must have at least {N_FOLDS} songs, got {len(labels)}")
    folds = list(KFold(N_FOLDS, shuffle=True, random_state=seed).split(labels))
    rows = dict(zip(("train", "test"), folds[fold]))
    if strict:
        check_counts({name: len(part) for name, part in rows.items()}, CARD.counts, CARD)
    audio: Any = arrays["audio"]
    if channels:
        found = {name: arrays[name] for name in FEATURES if name in arrays}
        audio = Channels({"mfcc": arrays["audio"], **found})
    splits = {
        name: Split(
            Views(audio=take_rows(audio, rows[name]), text=arrays["text"][rows[name]]),
            labels[rows[name]],
            {"row": rows[name]},
        )
        for name in chosen
    }
    revision = f"{fold} {seed} channels" if channels else f"{fold} {seed}"
    return Dataset(CARD, splits, MOODS, content_hash(revision, path))


def _read(path: Path) -> dict[str, NDArray[Any]]:
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{FILE} is not an npz archive as written by numpy.savez")
    with np.load(path, allow_pickle=False) as archive:
        missing = [name for name in SHAPES if name not in archive]
        if missing:
            raise ValueError(
                f"{FILE} must hold {', '.join(SHAPES)}; {' and '.join(missing)} is missing, got "
                f"{', '.join(archive.files) or 'nothing'}"
            )
        names = [*SHAPES, *(name for name in FEATURES if name in archive)]
        arrays = {name: _read_array(archive, name) for name in names}
    n = len(arrays["y"])
    for name, values in arrays.items():
        if name in SHAPES:
            wanted: tuple[Any, ...] = (n, *SHAPES[name])
        else:
            wanted = (n, values.shape[1] if values.ndim == 2 else "d")
        if values.shape != wanted:
            shown = f"({', '.join(map(str, wanted))}{',' * (len(wanted) == 1)})"
            raise ValueError(f"{FILE}: {name} must have shape {shown}, got {values.shape}")
        if name != "y" and values.dtype.kind not in "fiu":
            raise ValueError(f"{FILE}: {name} must hold numbers, got type {values.dtype}")
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ValueError(f"{FILE}: {name} contains NaN or infinity")
    return arrays


def _read_array(archive: Any, name: str) -> NDArray[Any]:
    try:
        values = archive[name]
    except ValueError:
        raise ValueError(
            f"{FILE}: {name} is an array of Python objects, which is not read; save numbers, or "
            "moods as a string array"
        ) from None
    if not values.ndim:
        raise ValueError(f"{FILE}: {name} must have one row per song, got a single value")
    return np.asarray(values)


def _labels(y: NDArray[Any]) -> NDArray[np.int64]:
    if y.dtype.kind in "US":
        names = y.astype(str)
        unknown = sorted(set(names.tolist()) - set(MOODS))
        if unknown:
            raise ValueError(f"{FILE}: y has the mood {unknown[0]!r}, there are {', '.join(MOODS)}")
        return np.searchsorted(MOODS, names).astype(np.int64)
    if y.dtype.kind not in "iu" or (len(y) and not (y.min() >= 0 and y.max() < len(MOODS))):
        found = f"type {y.dtype}" if y.dtype.kind not in "iu" else f"{y.min()} to {y.max()}"
        raise ValueError(
            f"{FILE}: y must hold names of moods or whole numbers from 0 to {len(MOODS) - 1}, got "
            f"{found}"
        )
    return y.astype(np.int64)
