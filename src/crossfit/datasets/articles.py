"""Helpers for sets of illustrated articles: filters, and articles and captions as one view."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from crossfit.cards import DatasetCard
from crossfit.datasets.record import Dataset, Split, choose_subsets, content_hash
from crossfit.views import Views

__all__ = [
    "TEXTS",
    "Illustration",
    "TextOf",
    "check_inside",
    "check_text",
    "dataset_of",
    "jpeg_problem",
]

TEXTS = ("both", "article", "caption")
TextOf = Literal["both", "article", "caption"]


class Illustration(NamedTuple):
    """A picture in an article.

    Parameters
    ----------
    image : str
        Path of the picture, relative to the data set's folder.
    article, caption : str
        The texts.
    article_id : str
        Identifier of the article, equal for rows of the same article.
    """

    image: str
    article: str
    caption: str
    article_id: str


def check_text(text: str, card: DatasetCard) -> None:
    """Raise a ValueError if `text` is not one of `TEXTS`."""
    if text not in TEXTS:
        raise ValueError(
            f"text of data set {card.name!r} is 'both', 'article' or 'caption', got {text!r}"
        )


def check_inside(name: str, source: str) -> None:
    """Raise a ValueError if a path leads out of the data set's folder."""
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ValueError(f"{source}: expected a path inside the data set's folder, got {name!r}")


def jpeg_problem(path: Path, min_size: int) -> str | None:
    """Return why a picture is skipped, from its name and header alone; None if it is used.

    Parameters
    ----------
    path : path
        A picture.
    min_size : int
        Minimum width and height in pixels. With 0, the file is not opened.

    Returns
    -------
    str or None
    """
    if path.suffix.lower() not in (".jpg", ".jpeg"):
        return "not a JPEG"
    if min_size > 0:
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(path, formats=["JPEG"]) as picture:
                if picture.format != "JPEG":
                    return "not a JPEG"
                if min(picture.size) < min_size:
                    return f"smaller than {min_size} pixels"
        except UnidentifiedImageError:
            return "not a JPEG"
    return None


def dataset_of(
    rows: Sequence[Illustration],
    left_out: Counter[str],
    *,
    root: Path,
    text: str,
    subsets: Iterable[str] | None,
    card: DatasetCard,
    hashed: Iterable[str | bytes | Path],
) -> Dataset:
    """Build the only split, ``"train"``, of a set of illustrated articles.

    A row is a picture with one caption in one article; a picture that occurs in several articles
    is one item. Rows that share a picture or an article, directly or indirectly, are one group.

    Raises
    ------
    ValueError
        If the filters leave no rows; the message lists what was skipped.
    """
    choose_subsets(subsets, ("train",), card)
    listed = ", ".join(f"{n} {why}" for why, n in sorted(left_out.items())) or "none"
    if not rows:
        raise ValueError(f"data set {card.name!r} has no usable rows; skipped: {listed}")
    logging.getLogger("crossfit").info(
        "%s: %d rows used; skipped: %s", card.name, len(rows), listed
    )
    images, index = _coded(row.image for row in rows)
    articles, of_article = _coded(row.article_id for row in rows)
    texts: dict[str, Any] = {
        "article": np.array([row.article for row in rows], dtype=object),
        "caption": np.array([row.caption for row in rows], dtype=object),
    }
    views = Views.from_captions(
        [str(root / name) for name in images], texts if text == "both" else texts[text], index
    )
    linked = sp.coo_array(
        (np.ones(len(rows)), (index, of_article + len(images))),
        shape=(len(images) + len(articles),) * 2,
    )
    groups = sp.csgraph.connected_components(linked, directed=False)[1][index]
    info = {
        "image_name": np.array([row.image for row in rows], dtype=object),
        "article_id": np.array([row.article_id for row in rows], dtype=object),
    }
    splits = {"train": Split(views.with_groups(groups), info=info)}
    stamps = (f"{name} {(root / name).stat().st_size}" for name in images)
    return Dataset(card, splits, revision=content_hash(text, *hashed, *stamps))


def _coded(keys: Iterable[str]) -> tuple[list[str], NDArray[np.int64]]:
    """Return the distinct keys in order of first appearance, and the number of each row's key."""
    first: dict[str, int] = {}
    codes = np.array([first.setdefault(key, len(first)) for key in keys], dtype=np.int64)
    return list(first), codes
