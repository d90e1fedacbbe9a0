"""The Wikipedia set of Rasiwasia et al. (ACM MM 2010), read from its official files."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from crossfit._arguments import is_word
from crossfit.datasets.cards import WIKIPEDIA as CARD
from crossfit.datasets.record import (
    Dataset,
    Split,
    check_counts,
    choose_subsets,
    content_hash,
    missing_files,
    read_lines,
    read_text,
    require,
)
from crossfit.views import Views

COUNTS = {"official": CARD.counts, "acln": {"train": 2173, "val": 231, "test": 462}}
MATRICES = "raw_features.mat"
PERMUTATION = "indice.mat"


def load(
    root: Path,
    split: str = "official",
    *,
    features: Literal["raw"] | None = "raw",
    subsets: Iterable[str] | None = None,
    strict: bool = True,
) -> Dataset:
    """Load the Wikipedia set.

    Parameters
    ----------
    root : path
        Folder with ``categories.list``, ``trainset_txt_img_cat.list``,
        ``testset_txt_img_cat.list`` and either ``raw_features.mat`` or ``texts/`` and
        ``images/``; for the split ``"acln"`` also ``indice.mat``.
    split : {"official", "acln"}, default="official"
        ``"official"``: 2,173 training and 693 test pairs. ``"acln"``: as in ACLN and the papers
        that follow Corr-AE, with the test pairs divided into 231 for validation and 462 for
        testing (the permutation is ``indice.mat`` of PKU-ICST-MIPL/MCSM_TIP2018).
    features : {"raw", None}, default="raw"
        ``"raw"``: the authors' features, 128 bins of SIFT words and 10 LDA topics, with rows
        summing to one. ``None``: paths of the pictures and the articles as strings.
    subsets : iterable of str, optional
        Splits to load.
    strict : bool, default=True
        Whether to check the official counts.

    Returns
    -------
    Dataset
        With labels 0 to 9, and the official ``text_id`` and ``image_id`` in ``info``.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If an option is invalid, a file is malformed, or the counts differ.
    """
    if features is not None and not is_word(features, ("raw",)):
        raise ValueError(
            f"features of data set 'wikipedia' must be 'raw' or None, got {features!r}"
        )
    chosen = choose_subsets(subsets, COUNTS[split], CARD)
    sources = {name: "train" if name == "train" else "test" for name in chosen}
    lists = {source: f"{source}set_txt_img_cat.list" for source in sources.values()}
    data = [MATRICES] if features else ["texts", "images"]
    permuted = split == "acln" and "test" in lists
    names = ["categories.list", *lists.values(), *data, *([PERMUTATION] if permuted else [])]
    used = require(root, *names, card=CARD)

    target_names = tuple(read_text(root / "categories.list").split())
    tables = {source: _read_list(root / name, target_names) for source, name in lists.items()}
    rows = {name: np.arange(len(tables[source][2])) for name, source in sources.items()}
    if permuted:
        order = _read_permutation(root / PERMUTATION, len(tables["test"][2]))
        n_val = len(order) // 3
        rows |= {"val": order[:n_val], "test": order[n_val:]}
    rows = {name: rows[name] for name in chosen}
    if strict:
        check_counts({name: len(part) for name, part in rows.items()}, COUNTS[split], CARD)

    read = _read_features if features else _read_originals
    pairs = {source: read(root, source, *tables[source][:2]) for source in tables}
    splits = {}
    for name, at in rows.items():
        text_ids, image_ids, labels = tables[sources[name]]
        image, text = pairs[sources[name]]
        splits[name] = Split(
            Views(image=image[at], text=text[at]),
            labels[at],
            {"text_id": text_ids[at], "image_id": image_ids[at]},
        )
    hashed: list[Path | str] = [split, *(path for path in used if path.is_file())]
    if not features:
        for image, text in pairs.values():
            hashed += [*text, *(f"{Path(path).name} {Path(path).stat().st_size}" for path in image)]
    return Dataset(CARD, splits, target_names, content_hash(*hashed))


_Strings = NDArray[Any]


def _read_list(
    path: Path, target_names: tuple[str, ...]
) -> tuple[_Strings, _Strings, NDArray[np.int64]]:
    rows = [line.split() for line in read_lines(path) if line.strip()]
    for number, row in enumerate(rows, 1):
        if len(row) != 3 or not row[2].isdigit() or not 1 <= int(row[2]) <= len(target_names):
            raise ValueError(
                f"{path.name}, row {number}: expected a text id, an image id and a class from 1 "
                f"to {len(target_names)}, got {' '.join(row)!r}"
            )
    texts, images, classes = zip(*rows) if rows else ((), (), ())
    return (
        np.array(texts, dtype=object),
        np.array(images, dtype=object),
        np.array(classes, dtype=np.int64) - 1,
    )


def _read_permutation(path: Path, n: int) -> NDArray[np.int64]:
    from scipy.io import loadmat

    order = loadmat(path, variable_names=["indice"]).get("indice")
    if order is None or not np.array_equal(np.sort(order, axis=None), np.arange(n)):
        raise ValueError(f"{path.name} must hold 'indice', a permutation of the {n} test rows")
    return order.ravel().astype(np.int64)


def _read_features(
    root: Path, source: str, text_ids: _Strings, image_ids: _Strings
) -> tuple[NDArray[Any], NDArray[Any]]:
    from scipy.io import loadmat

    names = ["I_tr", "T_tr"] if source == "train" else ["I_te", "T_te"]
    found = loadmat(root / MATRICES, variable_names=names)
    n = len(text_ids)
    for name in names:
        if name not in found or len(found[name]) != n:
            got = f"{len(found[name])} rows" if name in found else "none"
            raise ValueError(f"{MATRICES} must hold {name} with {n} rows, one per pair, got {got}")
    return found[names[0]], found[names[1]]


def _read_originals(
    root: Path, source: str, text_ids: _Strings, image_ids: _Strings
) -> tuple[_Strings, _Strings]:
    # In some copies of the set, all pictures are in one folder, in others in one per category.
    pictures = {path.stem: str(path) for path in sorted((root / "images").rglob("*.jpg"))}
    missing = [f"images/**/{name}.jpg" for name in image_ids if name not in pictures]
    missing += [
        f"texts/{name}.xml" for name in text_ids if not (root / f"texts/{name}.xml").exists()
    ]
    if missing:
        raise missing_files(missing, root, CARD)
    return (
        np.array([pictures[name] for name in image_ids], dtype=object),
        np.array([_read_article(root / f"texts/{name}.xml") for name in text_ids], dtype=object),
    )


def _read_article(path: Path) -> str:
    # Not all files are well-formed XML, so the text between the tags is cut out without a parser.
    content = read_text(path, errors="replace")
    found = re.search(r"<text[^>]*>(.*?)</text>", content, re.DOTALL)
    if found is None:
        raise ValueError(f"texts/{path.name} has no <text> element")
    # The article ends at the name of a picture, as in the code of TextTopicNet's authors.
    return html.unescape(found[1]).split("../img/")[0].strip()
