"""Pictures of Wikipedia with captions and articles (Patel et al., ICMR 2019), from JSON lines."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

from crossfit.datasets.articles import (
    Illustration,
    TextOf,
    check_inside,
    check_text,
    dataset_of,
    jpeg_problem,
)
from crossfit.datasets.cards import WIKIPEDIA_CAPTIONS as CARD
from crossfit.datasets.record import Dataset, missing_files, read_lines, require

PAIRS = "pairs.jsonl"
_KEYS = ("image", "caption", "article")


def load(
    root: Path,
    split: str = "official",
    *,
    text: TextOf = "both",
    min_words: int = 50,
    min_size: int = 256,
    subsets: Iterable[str] | None = None,
    strict: bool = True,
) -> Dataset:
    """Load captions and articles of pictures in Wikipedia.

    The authors of SSVR describe such a set of 1.8 million pictures but have not published it. This
    loader reads your own crawl and applies their filters.

    Parameters
    ----------
    root : path
        Folder with ``pairs.jsonl`` and the pictures. Each line is a JSON object with the strings
        ``image`` (a path inside the folder), ``caption`` and ``article``.
    split : {"official"}, default="official"
        Name of the split. There is one part, ``"train"``.
    text : {"both", "article", "caption"}, default="both"
        The view ``text``: two channels, ``article`` and ``caption``, or strings of one kind.
    min_words : int, default=50
        Articles with fewer words are skipped, as are rows without a caption.
    min_size : int, default=256
        Pictures that are not JPEG, or smaller than this number of pixels in width or height, are
        skipped. With 0, only the file extension is checked.
    subsets : iterable of str, optional
        Splits to load; only ``"train"``.
    strict : bool, default=True
        Whether to check that all pictures exist; otherwise rows without their picture are
        skipped.

    Returns
    -------
    Dataset
        ``info`` contains ``image_name`` and ``article_id``; there are no labels. A picture that is
        named in several rows is one item. Rows that share a picture or an article are one group.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a line is malformed, or no rows are left.
    """
    check_text(text, CARD)
    (pairs,) = require(root, PAIRS, card=CARD)
    rows: list[Illustration] = []
    left_out: Counter[str] = Counter()
    missing: list[str] = []
    problems: dict[str, str | None] = {}  # by picture, since many rows may name the same
    articles: dict[str, str] = {}  # stored once, whatever the number of pictures
    for number, line in enumerate(read_lines(pairs), 1):
        if not line.strip():
            continue
        image, caption, article = _read_line(line, number)
        if not caption:
            left_out["without a caption"] += 1
        elif len(article.split()) < min_words:
            left_out[f"with an article of less than {min_words} words"] += 1
        elif not (root / image).is_file():
            left_out["without their picture"] += 1
            missing.append(image)
        else:
            if image not in problems:
                problems[image] = jpeg_problem(root / image, min_size)
            if problem := problems[image]:
                left_out[problem] += 1
            else:
                of = sha256(article.encode()).hexdigest()[:16]
                article = articles.setdefault(of, article)
                rows.append(Illustration(image, article, caption, of))
    if strict and missing:
        raise missing_files(dict.fromkeys(missing), root, CARD)
    return dataset_of(
        rows,
        left_out,
        root=root,
        text=text,
        subsets=subsets,
        card=CARD,
        hashed=[pairs, f"{min_words} {min_size}"],
    )


def _read_line(line: str, number: int) -> tuple[str, str, str]:
    try:
        row: Any = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in _KEYS):
        raise ValueError(
            f"{PAIRS}, line {number}: expected a JSON object with the strings image, caption and "
            f"article, got {line.strip()[:80]!r}"
        )
    image, caption, article = (row[key].strip() for key in _KEYS)
    check_inside(image, f"{PAIRS}, line {number}")
    return image, caption, article
