"""What the sets of illustrated articles share: filters, and articles and captions as one view."""

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
        What makes two rows the same article.
    """

    image: str
    article: str
    caption: str
    article_id: str


def check_text(text: str, card: DatasetCard) -> None:
    """Refuse a choice of texts that is none."""
    if text not in TEXTS:
        raise ValueError(
            f"text of data set {card.name!r} is 'both', 'article' or 'caption', got {text!r}"
        )


def check_inside(name: str, source: str) -> None:
    """Refuse a path that leads out of the data set's folder."""
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ValueError(f"{source}: expected a path inside the data set's folder, got {name!r}")


def jpeg_problem(path: Path, min_size: int) -> str | None:
    """Say why a picture is not taken, from its name and header alone; None if it is.

    Parameters
    ----------
    path : path
        A picture.
    min_size : int
        Least width and height in pixels. With 0 the file is not opened.
    """
    if path.suffix.lower() not in (".jpg", ".jpeg"):
        return "no JPEG"
    if min_size > 0:
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(path, formats=["JPEG"]) as picture:
                if picture.format != "JPEG":
                    return "no JPEG"
                if min(picture.size) < min_size:
                    return f"smaller than {min_size} pixels"
        except UnidentifiedImageError:
            return "no JPEG"
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
    """Make the one split ``"train"`` of a set of illustrated articles.

    A row is a picture with one caption in one article; a picture that occurs in several is one
    item. Rows are one group if they share a picture or an article, directly or through others.

    Raises
    ------
    ValueError
        If the filters have left no row; the message says what they took away.
    """
    choose_subsets(subsets, ("train",), card)
    told = ", ".join(f"{n} {why}" for why, n in sorted(left_out.items())) or "none"
    if not rows:
        raise ValueError(f"data set {card.name!r} has no row that is taken; left out: {told}")
    logging.getLogger("crossfit").info(
        "%s: %d rows taken; left out: %s", card.name, len(rows), told
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
    """Return the distinct keys in order of first appearance, and the number of each row's."""
    first: dict[str, int] = {}
    codes = np.array([first.setdefault(key, len(first)) for key in keys], dtype=np.int64)
    return list(first), codes
