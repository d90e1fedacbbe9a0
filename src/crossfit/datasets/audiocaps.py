"""AudioCaps (Kim et al., NAACL 2019), read from its official tables and your copy of the clips."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from crossfit._warnings import warn
from crossfit.datasets.captions import Captioned, captioned_set, check_per_image
from crossfit.datasets.cards import AUDIOCAPS as CARD
from crossfit.datasets.record import (
    Dataset,
    check_counts,
    choose_subsets,
    missing_files,
    shortened,
)
from crossfit.datasets.text_tables import open_csv
from crossfit.extraction.formats import SOUND_SUFFIXES

#: Rows, which are captions, of each table.
CAPTIONS = {
    "official": {"train": 49838, "val": 2475, "test": 4875},
    "2.0": {"train": 91256, "val": 2475, "test": 4875},
}
FOLDERS = {"official": "dataset", "2.0": "dataset2.0"}
_COLUMNS = ["audiocap_id", "youtube_id", "start_time", "caption"]


def load(
    root: Path,
    split: str = "official",
    *,
    captions_per_clip: int = 5,
    subsets: Iterable[str] | None = None,
    strict: bool = True,
) -> Dataset:
    """Load AudioCaps.

    Parameters
    ----------
    root : path
        Folder with ``train.csv``, ``val.csv`` and ``test.csv``, or with ``dataset/`` that contains
        them (``dataset2.0/`` for version 2.0), as in the repository of the authors; and, anywhere
        below it, the ten-second clips, which are not distributed. A clip is the sound file with one
        of the names ``<youtube_id>_<start_time>``, ``<youtube_id>_<start>_<end>`` in seconds or
        milliseconds, ``Y<youtube_id>``, ``<youtube_id>`` or ``<audiocap_id>``.
    split : {"official", "2.0"}, default="official"
        The tables of 2019, or those of AudioCaps 2.0.
    captions_per_clip : int, default=5
        Number of captions per clip, from the first. Clips of the training split have one.
    subsets : iterable of str, optional
        Splits to load, of ``"train"``, ``"val"`` and ``"test"``.
    strict : bool, default=True
        Whether to check that the tables have the official number of captions and that all clips are
        there. Many have been removed from YouTube: with ``strict=False`` those that are missing are
        left out, and a warning gives their number.

    Returns
    -------
    Dataset
        Views ``audio`` (paths) and ``text``; a row is a caption with its clip. ``info`` has the
        name of the clip's file and, as ``caption_id``, the ``audiocap_id`` of each caption.

    Raises
    ------
    FileNotFoundError
        If a table or, with `strict`, a clip is missing; without it, if all clips of a split are.
    ValueError
        If an option is invalid, a table lacks a column, or the counts differ.
    """
    check_per_image(captions_per_clip, CARD, "captions_per_clip")
    chosen = choose_subsets(subsets, CAPTIONS[split], CARD)
    tables = {name: _table(root, FOLDERS[split], name) for name in chosen}
    clips = _clips(root)
    parts, rows, lost = {}, {}, 0
    for name, path in tables.items():
        items, rows[name] = _read(path)
        found = {key: _find(key, ids[0], clips) for key, (_, ids) in items.items()}
        gone = [f"{youtube}_{start}" for (youtube, start), file in found.items() if file is None]
        if gone and (strict or len(gone) == len(found)):
            raise missing_files((f"{part}.wav ({name})" for part in gone), root, CARD)
        lost += len(gone)
        parts[name] = [
            Captioned(file, *items[key]) for key, file in found.items() if file is not None
        ]
    if strict:
        check_counts(rows, CAPTIONS[split], CARD)
    if lost:
        warn(f"data set {CARD.name!r}: {lost} clips are not in {str(root)!r} and are left out")
    return captioned_set(
        root,
        parts,
        per_image=captions_per_clip,
        card=CARD,
        counts=None,
        hashed=[split, *tables.values()],
        view="audio",
    )


def _table(root: Path, folder: str, name: str) -> Path:
    places = [root / folder / f"{name}.csv", root / f"{name}.csv"]
    found = next((path for path in places if path.is_file()), None)
    if found is None:
        raise missing_files([f"{folder}/{name}.csv"], root, CARD)
    return found


def _clips(root: Path) -> dict[str, str]:
    """Return the sound files below a folder by their names without suffixes."""
    found: dict[str, str] = {}
    for inner, _, files in os.walk(root, followlinks=True):
        for file in sorted(files):
            stem, suffix = os.path.splitext(file)
            if suffix.lower() in SOUND_SUFFIXES:
                found.setdefault(stem, os.path.relpath(os.path.join(inner, file), root))
    return found


def _find(key: tuple[str, str], audiocap_id: str, clips: dict[str, str]) -> str | None:
    youtube, start = key
    end = int(start) + 10
    names = (
        f"{youtube}_{start}",
        f"{youtube}_{start}_{end}",
        f"{youtube}_{start}000_{end}000",
        f"Y{youtube}",
        youtube,
        audiocap_id,
    )
    return next((clips[name] for name in names if name in clips), None)


def _read(path: Path) -> tuple[dict[tuple[str, str], tuple[list[str], list[str]]], int]:
    """Return the captions and their ids by clip, and the number of rows."""
    table = open_csv(path)
    lacking = [name for name in _COLUMNS if name not in table.names]
    if lacking:
        raise ValueError(
            f"{path.name} must have the columns {', '.join(_COLUMNS)}, but lacks "
            f"{', '.join(lacking)}"
        )
    columns = table.read(_COLUMNS)
    items: dict[tuple[str, str], tuple[list[str], list[str]]] = {}
    for own, youtube, start, caption in zip(*(columns[name] for name in _COLUMNS)):
        if not start.strip().isdecimal():
            raise ValueError(
                f"{path.name}: the start_time of {youtube!r} must be whole seconds, got {start!r}"
            )
        captions, ids = items.setdefault((youtube.strip(), start.strip()), ([], []))
        captions.append(caption.strip())
        ids.append(own.strip())
    mute = [youtube for (youtube, _), (captions, _) in items.items() if not all(captions)]
    if mute:
        raise ValueError(f"{path.name} has an empty caption of {shortened(mute)}")
    return items, len(columns["caption"])
