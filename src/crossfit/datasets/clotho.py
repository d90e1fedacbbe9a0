"""Clotho 2.1 (Drossos, Lipping and Virtanen, ICASSP 2020), read from its official files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from crossfit.datasets.captions import Captioned, captioned_set, check_per_image
from crossfit.datasets.cards import CLOTHO as CARD
from crossfit.datasets.record import Dataset, choose_subsets, missing_files
from crossfit.datasets.text_tables import open_csv

#: The official name of each split.
PARTS = {"train": "development", "val": "validation", "test": "evaluation"}
CAPTIONS = [f"caption_{k}" for k in range(1, 6)]


def load(
    root: Path,
    split: str = "official",
    *,
    captions_per_clip: int = 5,
    subsets: Iterable[str] | None = None,
    strict: bool = True,
) -> Dataset:
    """Load Clotho.

    Parameters
    ----------
    root : path
        Folder with ``clotho_captions_development.csv``, ``clotho_captions_validation.csv`` and
        ``clotho_captions_evaluation.csv``, or ``clotho_csv_files/`` with these, and the unpacked
        archives of sounds, ``development/`` and so on, or ``clotho_audio_files/`` with these.
    split : {"official"}, default="official"
        3,839 clips of the development split for training, 1,045 for validation and 1,045 of the
        evaluation split for testing.
    captions_per_clip : int, default=5
        Number of captions per clip, from the first.
    subsets : iterable of str, optional
        Splits to load, of ``"train"``, ``"val"`` and ``"test"``.
    strict : bool, default=True
        Whether to check the official counts.

    Returns
    -------
    Dataset
        Views ``audio`` (paths) and ``text``; a row is a caption with its clip. There are no labels.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If an option is invalid, a table lacks a column, or the counts differ.
    """
    check_per_image(captions_per_clip, CARD, "captions_per_clip")
    chosen = choose_subsets(subsets, PARTS, CARD)
    parts, sources = {}, []
    for name in chosen:
        file = f"clotho_captions_{PARTS[name]}.csv"
        path = _first(root, (file, f"clotho_csv_files/{file}"))
        folder = _first(root, (PARTS[name], f"clotho_audio_files/{PARTS[name]}"))
        parts[name] = _read(path, folder.relative_to(root).as_posix())
        sources.append(path)
    counts = CARD.counts if strict else None
    return captioned_set(
        root,
        parts,
        per_image=captions_per_clip,
        card=CARD,
        counts=counts,
        hashed=sources,
        view="audio",
    )


def _first(root: Path, names: tuple[str, ...]) -> Path:
    """Return the first path that exists."""
    found = next((root / name for name in names if (root / name).exists()), None)
    if found is None:
        raise missing_files(names[:1], root, CARD)
    return found


def _read(path: Path, folder: str) -> list[Captioned]:
    table = open_csv(path)
    lacking = [name for name in ("file_name", *CAPTIONS) if name not in table.names]
    if lacking:
        raise ValueError(
            f"{path.name} must have the columns file_name and caption_1 to caption_5, but lacks "
            f"{', '.join(lacking)}"
        )
    columns = table.read(["file_name", *CAPTIONS])
    rows = zip(*(columns[name] for name in CAPTIONS))
    return [
        Captioned(f"{folder}/{name}", [caption.strip() for caption in row if caption.strip()])
        for name, row in zip(columns["file_name"], rows)
    ]
