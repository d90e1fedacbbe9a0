"""Attention maps over the pictures and texts of some pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crossfit._pictures import data_uri, is_picture, lit
from crossfit.experiment.records import CellRecord
from crossfit.report import plots
from crossfit.report.format import (
    clipped,
)

__all__ = ["Attention", "attention_maps"]

#: Longest side of an attention map in pixels.
_MAP = 240


@dataclass(frozen=True)
class Attention:
    """An attention map: on a picture, in a text, or between words and regions.

    Parameters
    ----------
    caption : str
        The method and the pair.
    picture : str, default=""
        A data URI of the picture, bright where weights are high, or empty.
    words : sequence of (str, float), default=()
        Words with their weights as fractions of the largest.
    svg : str, default=""
        A plot of words against regions, or empty.
    """

    caption: str
    picture: str = ""
    words: Sequence[tuple[str, float]] = ()
    svg: str = ""


def attention_maps(label: str, cell: CellRecord, test: Any) -> list[Attention]:
    """Return the attention maps that a cell stored, for which pictures or words are available."""
    from crossfit.extraction import grid_boxes  # imports scikit-learn

    found = []
    for stored in cell.attention():
        weights = np.atleast_2d(np.asarray(stored["weights"], np.float64))
        text, view = str(stored.get("query", "")), str(stored.get("view", ""))
        caption = ": ".join(part for part in (label, view, clipped(text)) if part)
        if "quantity" in stored and weights.size == 1:
            found.append(_with_number(caption, stored, weights.item(), test))
            continue
        boxes = stored.get("regions")
        side = math.isqrt(weights.shape[1])
        if boxes is None and ("grid" in stored or side * side == weights.shape[1]):
            # Without boxes a square number of regions is a square grid, as for `make_regions`.
            boxes = grid_boxes(*(int(n) for n in stored.get("grid", (side, side))))
        words = [str(word) for word in stored.get("words", ())]
        mean = weights.mean(axis=0)
        share = mean / max(float(mean.max()), 1e-12)
        name = next((name for name in test.views.names if is_picture(
            test.views.distinct(name)[0][0])), None)  # fmt: skip
        if words and len(words) == len(mean):
            found.append(Attention(caption, words=list(zip(words, share.tolist()))))
        elif boxes is not None and len(boxes) == len(mean) and name is not None:
            image = test.views.distinct(name)[0][int(stored["item"])]
            found.append(Attention(caption, data_uri(lit(image, mean, boxes), _MAP)))
        elif words and len(words) == len(weights):
            found.append(Attention(caption, svg=plots.attention(weights, words)))
    return found


def _with_number(caption: str, stored: Any, number: float, test: Any) -> Attention:
    """Return an item with a number that belongs to all of it, such as its variance."""
    picture, view = "", str(stored.get("view", ""))
    if view in test.views.names:
        item = test.views.distinct(view)[0][int(stored["item"])]
        picture = data_uri(item, _MAP) if is_picture(item) else ""
    return Attention(f"{caption}: {stored['quantity']} {number:.3g}", picture)
