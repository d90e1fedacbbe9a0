"""A page of methods that were just evaluated."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import crossfit
from crossfit.experiment.comparison import Result
from crossfit.metrics import (
    Evaluation,
    Repeats,
    chance_level,
    interpolated_precision_recall,
    recall_at_k_curve,
)
from crossfit.report.attention import Attention
from crossfit.report.gallery import Gallery, GalleryRow
from crossfit.report.leaderboard import Board, Row
from crossfit.report.page import Part, write_page
from crossfit.scoring import relevance_of
from crossfit.views import Views, n_rows

__all__ = ["write_report"]


def write_report(
    path: Path,
    *,
    title: str,
    lead: str,
    results: Sequence[Result],
    views: Views,
    text_queries: Sequence[GalleryRow] = (),
    picture_queries: Sequence[GalleryRow] = (),
    gallery_note: str = "",
    attention: Sequence[Attention] = (),
    facts: Sequence[tuple[str, str]] = (),
    footer: str = "",
) -> None:
    """Write a report of methods that were just evaluated; it appears whole or not at all.

    Parameters
    ----------
    path : Path
        The HTML file; its folder is made.
    title, lead : str
        Heading and first sentences.
    results : sequence of Result
        Rows of the leaderboard, chance among them.
    views : Views
        The test pairs, for the curves.
    text_queries, picture_queries : sequence of GalleryRow
        The retrieval gallery.
    gallery_note : str
        How the gallery's queries were chosen.
    attention : sequence of Attention
        Where a method looks.
    facts : sequence of (str, str)
        What else to state: split sizes, settings, versions, times.
    footer : str
        Attribution.
    """
    methods = [result for result in results if result.scores is not None]
    labelled = methods[0].by_label is not None
    galleries = [
        Gallery(heading, rows, own)
        for heading, rows, own in (
            ("Texts, and the pictures found", text_queries, "own picture"),
            ("Pictures, and the texts found", picture_queries, "own text"),
        )
        if rows
    ]
    board = Board(
        "Leaderboard",
        [_row(result, views) for result in methods],
        ("map@all", "r@1", "r@5", "r@10", "medr") if labelled else ("r@1", "r@5", "r@10", "medr"),
        "mAP: an item is relevant if it shares the query's class. R@K and the median rank (MedR): "
        "only the query's own pair is."
        if labelled
        else "Only the query's own pair is relevant.",
        _chance_of(results, views),
    )
    write_page(
        path,
        title=title,
        lead=lead,
        parts=[Part(board, galleries, gallery_note, attention, labelled=labelled)],
        facts=[*facts, *_versions()],
        footer=footer,
    )


def _row(result: Result, views: Views) -> Row:
    found = [ev for ev in (result.by_label, result.by_pair) if ev is not None]
    direction = result.by_pair.directions[0]
    pairs = relevance_of(views, direction.query, direction.gallery, None)
    curves: dict[str, dict[str, Any]] = {}
    for side, direction in zip(("forward", "backward"), result.by_pair.directions):
        recall = recall_at_k_curve(result.scores, pairs, _cut_offs(views), direction=side)
        precision = interpolated_precision_recall(result.scores, pairs, direction=side)
        curves[direction] = {"recall": recall}
        if result.by_label is None:
            curves[direction]["pr"] = precision
    return Row(
        result.name,
        Repeats([merged(*found)]),
        result.detail,
        curves=curves,
        costs={"fit": result.fit_seconds, "score": result.score_seconds},
    )


def _cut_offs(views: Views) -> list[int]:
    smallest = min(n_rows(views.distinct(name)[0]) for name in views.names)
    return np.unique(np.geomspace(1, min(100, smallest), 24).astype(int)).tolist()


def _chance_of(results: Sequence[Result], views: Views) -> dict[tuple[str, str], float]:
    baseline = next((result for result in results if result.scores is None), None)
    if baseline is None:
        return {}
    forward = baseline.by_pair.directions[0]
    query, gallery = forward.query, forward.gallery
    curve = chance_level(
        relevance_of(views, query, gallery, None),
        [f"r@{k}" for k in _cut_offs(views)],
        names=(query, gallery),
    )
    found = [ev for ev in (baseline.by_label, baseline.by_pair, curve) if ev is not None]
    return {
        (direction, metric): ev.mean(direction, metric)
        for ev in found
        for direction in ev.directions
        for metric in ev.metrics
    }


def _versions() -> list[tuple[str, str]]:
    import scipy
    import sklearn

    parts = (
        f"crossfit {crossfit.__version__}",
        f"Python {platform.python_version()}",
        f"numpy {np.__version__}",
        f"scipy {scipy.__version__}",
        f"scikit-learn {sklearn.__version__}",
    )
    return [("versions", ", ".join(parts))]


def merged(*evaluations: Evaluation) -> Evaluation:
    """Return evaluations of the same queries with different relevance as one."""
    first = evaluations[0]
    values = {key: ev.per_query[key] for ev in evaluations for key in ev.per_query}
    metrics = tuple(dict.fromkeys(m for ev in evaluations for m in ev.metrics))
    return replace(first, per_query=first.per_query.holding(values), metrics=metrics)
