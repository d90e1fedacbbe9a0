"""ESC-10 (Piczak, ACM MM 2015): short clips of ten kinds of environmental sounds, with titles."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from crossfit.datasets.cards import ESC10 as CARD
from crossfit.datasets.record import (
    Dataset,
    Split,
    check_counts,
    choose_subsets,
    content_hash,
    missing_files,
    read_lines,
    require,
    shortened,
)
from crossfit.views import Views

README = "README.md"
PER_FOLD = 80
CLASSES = (
    "Dog bark", "Rain", "Sea waves", "Baby cry", "Clock tick", "Person sneeze", "Helicopter",
    "Chainsaw", "Rooster", "Fire crackling",
)  # fmt: skip

_CLIP = re.compile(r"(\d)-(\d+)-([A-Z])\.(?:ogg|mp3|wav)")
_TITLE = re.compile(r"^(?:- )?\*\*(\d-\d+-[A-Z])\.\w+\*\*:\s*clip derived from \[(.*?)\]\(http")
_SUFFIX = re.compile(r"\s*\.(?:wav|aiff?|flac|mp3|ogg)$", re.IGNORECASE)
_ESCAPE = re.compile(r"\\u([0-9a-f]{4})")
# Words that contain the stem of any class are removed from every title, so that what is left does
# not depend on the class of the clip.
_LEAK = re.compile(
    "dog|bark|rain|sea|wave|bab(?:y|ie)|cry|cries|cried|clock|tick|person|sneez|helicopter|"
    "chain|saw|rooster|fire|crackl",
    re.IGNORECASE,
)


def load(
    root: Path,
    split: str = "official",
    *,
    fold: int = 4,
    folds: Iterable[int] = (1, 2, 3, 4),
    subsets: Iterable[str] | None = None,
    strict: bool = True,
) -> Dataset:
    """Load ESC-10.

    Parameters
    ----------
    root : path
        Folder with ``README.md``, which contains the titles, and the folders ``001 - Dog bark`` to
        ``010 - Fire crackling``, whose clips are named ``<fold>-<recording>-<take>.ogg``.
    split : {"official"}, default="official"
        The folds of the authors. No recording is in more than one of them.
    fold : int, default=4
        The fold used for testing.
    folds : iterable of int, default=(1, 2, 3, 4)
        The folds to load; those other than `fold` are for training. The set has five, with eight
        clips of each class; by default the fifth is not used.
    subsets : iterable of str, optional
        Splits to load, of ``"train"`` and ``"test"``.
    strict : bool, default=True
        Whether to check that each fold has its 80 clips.

    Returns
    -------
    Dataset
        Views ``audio`` (paths) and ``text`` (titles), labels 0 to 9. Clips of one recording share
        its title and are one group. Since titles often name the class, words that contain a stem
        of any class name are removed, as are file extensions and numbers, which leaves some titles
        empty. ``info`` contains the full ``title``, the ``recording``, the ``fold`` and the
        ``name`` of each clip.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If an option is invalid, a title is missing, or the counts differ.
    """
    used = sorted({int(k) for k in folds})
    if not set(used) <= set(range(1, 6)) or fold not in used or len(used) < 2:
        raise ValueError(
            "data set 'esc10' has the folds 1 to 5, and needs one for testing and others for "
            f"training, got fold={fold} and folds={tuple(used)}"
        )
    chosen = choose_subsets(subsets, ("train", "test"), CARD)
    folders = [f"{i:03d} - {name}" for i, name in enumerate(CLASSES, 1)]
    require(root, README, *folders, card=CARD)
    titles = _read_titles(root / README)
    wanted = {"train": [k for k in used if k != fold], "test": [fold]}
    clips = [
        (path, label, int(found[1]), found[2])
        for label, folder in enumerate(folders)
        for path in sorted((root / folder).iterdir())
        if (found := _CLIP.fullmatch(path.name)) is not None
    ]
    untitled = [path.name for path, _, k, _ in clips if path.stem not in titles and k in used]
    if untitled:
        raise ValueError(f"{README} has no title of {shortened(untitled)}")
    rows = {name: [clip for clip in clips if clip[2] in wanted[name]] for name in chosen}
    for name, part in rows.items():
        empty = [k for k in wanted[name] if not any(clip[2] == k for clip in part)]
        if empty:
            raise missing_files((f"*/{k}-*.ogg" for k in empty), root, CARD)
    if strict:
        counts = {name: len(part) for name, part in rows.items()}
        check_counts(counts, {name: PER_FOLD * len(wanted[name]) for name in counts}, CARD)

    splits = {}
    for name, part in rows.items():
        paths, labels, of_fold, recordings = zip(*part)
        distinct = list(dict.fromkeys(recordings))
        full = {clip: titles[path.stem] for path, _, _, clip in part}
        views = Views.from_captions(
            [strip_title(full[recording]) for recording in distinct],
            [str(path) for path in paths],
            [distinct.index(recording) for recording in recordings],
            names=("text", "audio"),
        )
        info = {
            "name": np.array([path.stem for path in paths], dtype=object),
            "recording": np.array(recordings, dtype=object),
            "fold": np.array(of_fold),
            "title": np.array([full[recording] for recording in recordings], dtype=object),
        }
        splits[name] = Split(views.select("audio", "text"), np.array(labels), info)
    hashed = [f"{path.name} {path.stat().st_size}" for part in rows.values() for path, *_ in part]
    revision = content_hash(f"{fold} {used}", root / README, *hashed)
    return Dataset(CARD, splits, CLASSES, revision)


def strip_title(title: str) -> str:
    """Return the words of a title that do not name a class, without file extension and numbers.

    Examples
    --------
    >>> strip_title("Dog barking at night (nice reflection).wav")
    'at night nice reflection'
    """
    title = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", _SUFFIX.sub("", title))
    return " ".join(w for w in re.findall(r"[^\W\d_]+", title) if not _LEAK.search(w))


def _read_titles(path: Path) -> dict[str, str]:
    found = (_TITLE.match(line) for line in read_lines(path))
    # Some characters are written as Python escapes.
    return {m[1]: _ESCAPE.sub(lambda code: chr(int(code[1], 16)), m[2]).strip() for m in found if m}
