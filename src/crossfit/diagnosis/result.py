"""The result of a diagnosis: figures, recommendations, groups, and the page that shows them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit._arguments import integer, validated
from crossfit._frames import frame_of
from crossfit._html import html_table
from crossfit.diagnosis.advice import Advice
from crossfit.diagnosis.align_or_predict import Recovery
from crossfit.diagnosis.alignment import CanonicalCorrelations
from crossfit.diagnosis.duplicates import Duplicates
from crossfit.diagnosis.estimate import METRICS, Estimate
from crossfit.diagnosis.hub_effect import HubEffect
from crossfit.diagnosis.learning import LearningCurve
from crossfit.diagnosis.wrong_pairs import PairRanking
from crossfit.views import Views

__all__ = ["Diagnosis"]

Codes = NDArray[np.int64]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Diagnosis:
    """Figures and recommendations for pairs before training; `crossfit.diagnose` returns it.

    Parameters
    ----------
    shown : Views
        What the page shows of the rows: pictures and texts, or the features.
    rows : int array of shape (n_train,)
        The rows that everything but duplicates was measured on.
    groups : int array of shape (n,)
        Groups of all rows, with near-duplicates joined, for ``views.with_groups`` and splitters.
    cka, neighbours : Estimate
        Linear CKA and the share of mutual neighbours.
    canonical : CanonicalCorrelations
        Canonical correlations of held-out pairs.
    dimensions : mapping of str to Estimate
        Intrinsic dimension of each view; NaN if there are too few different items.
    duplicates : mapping of str to Duplicates
        Near-duplicates of each view, over all splits.
    indistinct : tuple of str
        Views whose items are mostly linked, and therefore not used for `groups`.
    recoveries : sequence of Recovery
        Ways to relate the views, with their held-out retrieval.
    recovered : mapping of str to Estimate
        Mean reciprocal rank of each way.
    curve : LearningCurve
        Held-out retrieval against the number of pairs.
    hubs : HubEffect
        Hubness, and the effect of a hub correction.
    wrong : PairRanking
        Scores of the pairs; position i is row ``rows[i]``.
    n_groups, n_merged : int
        Number of groups, and of groups that near-duplicates joined to others.
    notes : tuple of str
        Sentences on draws and on what could not be measured.
    facts : mapping of str to str
        What the diagnosis was made of.
    train : str, default=""
        The split of `rows`; empty if there are no splits.
    title : str, default=""
        Title of the page.
    advice : tuple of Advice, default=()
        Recommendations, the most urgent first.
    """

    shown: Views
    rows: Codes
    groups: Codes
    cka: Estimate
    neighbours: Estimate
    canonical: CanonicalCorrelations
    dimensions: Mapping[str, Estimate]
    duplicates: Mapping[str, Duplicates]
    indistinct: tuple[str, ...]
    recoveries: Sequence[Recovery]
    recovered: Mapping[str, Estimate]
    curve: LearningCurve
    hubs: HubEffect
    wrong: PairRanking
    n_groups: int
    n_merged: int
    notes: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    train: str = ""
    title: str = ""
    advice: tuple[Advice, ...] = ()

    @property
    def suspicious(self) -> Codes:
        """All measured rows, from the pair that looks most wrong to the one that looks best."""
        return self.rows[self.wrong.order]

    def figures(self) -> list[dict[str, Any]]:
        """Return all figures.

        Returns
        -------
        list of dict
            Keys ``question, measure, of, value, low, high, chance``; NaN where there is none.
        """
        found: list[dict[str, Any]] = []

        def add(question: str, measure: str, of: str, estimate: Estimate) -> None:
            about = {"question": question, "measure": measure, "of": of}
            found.append({**about, **vars(estimate)})

        pair = " and ".join(self.shown.names)
        add("relation", "linear CKA", pair, self.cka)
        add("relation", "mutual neighbours", pair, self.neighbours)
        add("relation", "sum of held-out canonical correlations", pair, self.canonical.total)
        for name, estimate in self.dimensions.items():
            add("dimension", "intrinsic dimension", name, estimate)
        for way, estimate in self.recovered.items():
            add("align or predict", METRICS[-1], way, estimate)
        for size, estimate in zip(self.curve.sizes, self.curve.estimates):
            add("learning curve", METRICS[-1], f"{size} pairs", estimate)
        for words, parts in (("cosine", self.hubs.plain), ("nnn", self.hubs.corrected)):
            for direction, about in parts.items():
                for key in ("skewness", "max", "never"):
                    add("hubs", key, f"{words}, {direction}", Estimate(float(about[key])))
        test = self.hubs.test
        add("hubs", f"gain in {METRICS[-1]} by nnn", pair,
            Estimate(test.difference, test.low, test.high, 0.0))  # fmt: skip
        for name, each in self.duplicates.items():
            add("duplicates", "items with a near-duplicate", name, Estimate(each.n_affected))
            for (one, other), n in each.across.items():
                add("duplicates", f"items of {one} with a near-duplicate in {other}", name,
                    Estimate(n))  # fmt: skip
        add("wrong pairs", "share of random pairs", pair, Estimate(self.wrong.share))
        return found

    def to_frame(self) -> Any:
        """Return all figures as a pandas DataFrame; pandas must be installed."""
        return frame_of(self.figures())

    @validated(k=[integer(1), None])
    def suspects(self, k: int | None = None) -> list[dict[str, Any]]:
        """Return the pairs that look most wrong.

        Parameters
        ----------
        k : int, optional
            Number of pairs; all by default.

        Returns
        -------
        list of dict
            Keys ``row, score, better, better_score``: the row, its score, and the row whose second
            item matches its first item best.
        """
        wrong = self.wrong
        return [
            {"row": int(self.rows[at]), "score": float(wrong.scores[at]),
             "better": int(self.rows[wrong.better[at]]),
             "better_score": float(wrong.better_scores[at])}
            for at in wrong.order[:k]
        ]  # fmt: skip

    def write_html(self, path: str | os.PathLike[str]) -> Path:
        """Write the page: one HTML file that needs no other file.

        Parameters
        ----------
        path : path
            The file, which is written completely or not at all; its folder is created if necessary.

        Returns
        -------
        pathlib.Path
            Path of the page.
        """
        from crossfit.diagnosis.page import write_diagnosis

        return write_diagnosis(self, Path(path))

    def _repr_html_(self) -> str:
        rows = [(each.topic, each.do, each.reason) for each in self.advice]
        words = f": {self.title}" if self.title else ""
        return html_table(f"Diagnosis{words}", ("on", "recommendation", "reason"), rows)

    def __repr__(self) -> str:
        n = len(self.rows)
        head = f"Diagnosis of {n} pairs of {' and '.join(self.shown.names)}"
        return "\n".join([head, *(f"  {each.topic}: {each.do}" for each in self.advice)])
