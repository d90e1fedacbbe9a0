"""Pascal Sentences (Rashtchian et al., NAACL-HLT workshop 2010): pictures with five sentences."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from crossfit.datasets.cards import PASCAL_SENTENCES as CARD
from crossfit.datasets.record import (
    Dataset,
    Split,
    check_counts,
    choose_subsets,
    content_hash,
    missing_files,
    read_lines,
    require,
)
from crossfit.datasets.voc2007 import CLASSES
from crossfit.views import Views

PER_CLASS = 50
COUNTS = {
    "all": CARD.counts,
    "600-400": {"train": 600, "test": 400},
    "800-100-100": {"train": 800, "val": 100, "test": 100},
}


def load(
    root: Path,
    split: str = "all",
    *,
    joined: bool = True,
    seed: int = 0,
    subsets: Iterable[str] | None = None,
    strict: bool = True,
) -> Dataset:
    """Load Pascal Sentences.

    Parameters
    ----------
    root : path
        Folder with ``dataset/<class>/<id>.jpg`` and ``sentence/<class>/<id>.txt``, one sentence
        per line: the usual copy of what the authors publish as one web page.
    split : {"all", "600-400", "800-100-100"}, default="all"
        All 1,000 pictures for testing, as in SSVR; or parts of the sizes used by others, drawn in
        equal shares from each class. The pictures that they drew are not published.
    joined : bool, default=True
        If True, a text is the five sentences joined; otherwise each sentence is a caption.
    seed : int, default=0
        Seed of the splits that are drawn.
    subsets : iterable of str, optional
        Splits to load.
    strict : bool, default=True
        Whether to check that there are 50 pictures of each of the 20 classes.

    Returns
    -------
    Dataset
        With labels 0 to 19 and ``image_id`` in ``info``.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a file of sentences is empty, or the counts differ.
    """
    chosen = choose_subsets(subsets, COUNTS[split], CARD)
    require(root, "dataset", "sentence", card=CARD)
    require(root, *(f"{kind}/{cls}" for kind in ("dataset", "sentence") for cls in CLASSES),
            card=CARD)  # fmt: skip
    sizes = COUNTS[split]
    ends = np.cumsum([0, *sizes.values()]) / sum(sizes.values())
    rng = np.random.default_rng(seed)
    parts: dict[str, list[tuple[Path, int]]] = {name: [] for name in chosen}
    for label, cls in enumerate(CLASSES):
        pictures = sorted((root / "dataset" / cls).glob("*.jpg"))
        if strict:
            check_counts({cls: len(pictures)}, {cls: PER_CLASS}, CARD)
        order = rng.permutation(len(pictures)) if len(sizes) > 1 else np.arange(len(pictures))
        bounds = [round(len(pictures) * end) for end in ends]
        for name, a, b in zip(sizes, bounds, bounds[1:]):
            if name in parts:
                parts[name] += [(pictures[i], label) for i in sorted(order[a:b])]
    sentences = {
        path: root / "sentence" / CLASSES[label] / f"{path.stem}.txt"
        for part in parts.values()
        for path, label in part
    }
    missing = [str(text.relative_to(root)) for text in sentences.values() if not text.is_file()]
    if missing:
        raise missing_files(missing, root, CARD)
    splits = {}
    for name, part in parts.items():
        paths = [str(path) for path, _ in part]
        texts = [_read_sentences(sentences[path], root) for path, _ in part]
        index = np.repeat(np.arange(len(part)), [1 if joined else len(own) for own in texts])
        views = (
            Views(image=paths, text=[" ".join(own) for own in texts])
            if joined
            else Views.from_captions(paths, [one for own in texts for one in own], index)
        )
        ids = np.array([path.stem for path, _ in part], dtype=object)
        labels = np.array([label for _, label in part], dtype=np.int64)
        splits[name] = Split(views, labels[index], {"image_id": ids[index]})
    hashed: list[str | Path] = [f"{split} {seed} {joined}"]
    for path, text in sentences.items():
        hashed += [f"{path.name} {path.stat().st_size}", text]
    return Dataset(CARD, splits, CLASSES, content_hash(*hashed))


def _read_sentences(path: Path, root: Path) -> list[str]:
    # Copies of the set differ in the encoding of a few characters.
    lines = read_lines(path, errors="replace")
    sentences = [line.strip() for line in lines if line.strip()]
    if not sentences:
        raise ValueError(f"{path.relative_to(root)} is empty: expected one sentence per line")
    return sentences
