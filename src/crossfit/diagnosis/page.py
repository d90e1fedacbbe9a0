"""The page of a diagnosis: one HTML file with recommendations, figures and suspicious pairs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from crossfit.datasets import Split
from crossfit.diagnosis.estimate import METRICS, Estimate
from crossfit.diagnosis.result import Diagnosis
from crossfit.plotting import in_plain_words
from crossfit.report.drawing import (
    CHANCE,
    INK,
    SERIES,
    SOFT,
    Plot,
    as_svg,
    drawn,
    heading,
    in_panels,
    label_y,
    legend,
    log_scale,
)
from crossfit.report.format import figure, interval_figure, metric_words
from crossfit.report.gallery import shower
from crossfit.report.html_tables import Cell, Column, Line, Table
from crossfit.report.page import template, write_text

__all__ = ["write_diagnosis"]

#: Number of suspicious pairs and of near-duplicates per view that are shown.
_SUSPECTS, _TWINS = 24, 6
#: Number of canonical correlations that are drawn.
_COMPONENTS = 100


@dataclass(frozen=True)
class Item:
    """An item on the page: its text, and a data URI if it is a picture."""

    text: str
    picture: str


@dataclass(frozen=True)
class Suspect:
    """A pair that looks wrong, with the item that matches better."""

    row: int
    score: str
    items: tuple[Item, Item]
    better: Item
    better_row: int
    better_score: str


@dataclass(frozen=True)
class Twins:
    """Two near-duplicates, their cosine, rows and splits."""

    items: tuple[Item, Item]
    cosine: str
    words: str


def write_diagnosis(found: Diagnosis, path: Path) -> Path:
    """Write the page of a diagnosis; the file is written completely or not at all."""
    names = found.shown.names
    n_shown = min(_SUSPECTS, len(found.rows))
    html = template("diagnosis.html.j2", "crossfit.diagnosis").render(
        title=found.title or f"Diagnosis of {len(found.rows):,} pairs",
        lead=f"{len(found.rows):,} pairs of {names[0]} and {names[1]}, before anything is trained "
        "on them. Every figure of a fitted method is on pairs that were held out from the fit.",
        advice=found.advice,
        notes=found.notes,
        names=names,
        relation=_relation_table(found),
        spectrum=_one(partial(_spectrum, found), "Correlation of each canonical component on "
                      f"{found.canonical.n:,} held-out pairs; the dashed line is the 95 % quantile "
                      "after permuting the pairs."),
        curve=_one(partial(_curve, found), "Mean reciprocal rank on the same held-out pairs, mean "
                   "of both directions. The band is the 95 % interval over queries, the bars are "
                   "the standard deviation between draws; the dashed line is chance."),
        recoveries=_recoveries_table(found),
        hubs=_hubs_table(found),
        views=_views_table(found),
        across=[(name, one, other, n) for name, each in found.duplicates.items()
                for (one, other), n in each.across.items() if n],
        twins=[(name, _twins(found, name)) for name in names],
        histogram=_one(partial(_histogram, found), "Scores of the pairs, and of pairs drawn at "
                       "random. Pairs within the hill of the random ones are suspicious."),
        share=found.wrong.share,
        suspects=_suspects(found, n_shown),
        facts=list(found.facts.items()),
    )  # fmt: skip
    write_text(path, html)
    return path


def _one(draw: Callable[..., str | None], caption: str) -> Plot | None:
    return next(iter(drawn("", draw, caption)), None)


# ---- tables --------------------------------------------------------------------------------------


def _cell(estimate: Estimate, digits: int = 3, kind: str = "main") -> Cell:
    bounds = interval_figure((estimate.low, estimate.high), digits)
    return Cell(figure(estimate.value, digits), bounds, estimate.value, kind)


def _columns(*heads: str, left: Sequence[str] = ()) -> list[Column]:
    return [Column(head, "left" if head in left else "") for head in heads]


def _relation_table(found: Diagnosis) -> Table:
    rows = (
        ("linear CKA", "similarity of all distances; 1 is equal", found.cka, 3),
        ("mutual neighbours", "share of the ten nearest items of both views", found.neighbours, 3),
        ("canonical correlations", "sum over held-out pairs", found.canonical.total, 2),
    )
    lines = [
        Line(words, detail, [_cell(each, digits), Cell(figure(each.chance, digits), "",
                                                       each.chance, "soft")])
        for words, detail, each, digits in rows
    ]  # fmt: skip
    return Table("Relation of the views", (), _columns("value", "chance"), lines)


def _recoveries_table(found: Diagnosis) -> Table:
    directions = found.recoveries[0].evaluation.directions
    best = max(found.recovered, key=lambda name: found.recovered[name].value)
    values = [(each.low, each.value, each.high) for each in found.recovered.values()]
    low, high = min(value[0] for value in values), max(value[2] for value in values)
    lines = []
    for each in found.recoveries:
        whole = found.recovered[each.name]
        ends = (whole.low, whole.value, whole.high)
        bar = None
        if high > low and not any(map(math.isnan, ends)):
            first, middle, last = ((end - low) / (high - low) for end in ends)
            bar = (first, middle, last)
        cells = [Cell(figure(whole.value), interval_figure(ends[::2]), whole.value, "main", bar)]
        for d in directions:
            cells += [
                Cell(figure(each.evaluation.mean(d, metric)),
                     interval_figure(each.evaluation.interval(d, metric)),
                     each.evaluation.mean(d, metric), "first" if metric == METRICS[0] else "")
                for metric in METRICS
            ]  # fmt: skip
        lines.append(
            Line(
                each.name,
                f"{each.method}, {each.settings}",
                cells,
                "top" if each.name == best else "",
            )
        )
    columns = [Column(metric_words(METRICS[-1]), "main")]
    groups = [("both directions", 1)]
    for d in directions:
        groups.append((d.label, len(METRICS)))
        columns += [Column(metric_words(metric), "first" if metric == METRICS[0] else "")
                    for metric in METRICS]  # fmt: skip
    return Table("Align or predict", groups, columns, lines)


def _hubs_table(found: Diagnosis) -> Table:
    heads = (("skewness", "skewness", 2), ("max", "largest", 0), ("never", "never found", 3))
    ways = (("cosine", found.hubs.plain, found.hubs.cosine),
            ("cosine with nnn", found.hubs.corrected, found.hubs.nnn))  # fmt: skip
    directions = list(found.hubs.plain)
    lines = []
    for words, parts, evaluation in ways:
        mean = evaluation.mean(None, METRICS[-1])
        cells = [Cell(figure(mean), "", mean, "strong")]
        for d in directions:
            cells += [
                Cell(figure(float(parts[d][key]), digits), "", float(parts[d][key]),
                     "first" if not j else "")
                for j, (key, _, digits) in enumerate(heads)
            ]  # fmt: skip
        lines.append(Line(words, "", cells))
    groups = [("", 1), *((d.label, len(heads)) for d in directions)]
    columns = [Column(metric_words(METRICS[-1]))]
    columns += [Column(head, "first" if not j else "", True)
                for _ in directions for j, (_, head, _) in enumerate(heads)]  # fmt: skip
    return Table("Hubs", groups, columns, lines)


def _views_table(found: Diagnosis) -> Table:
    lines = []
    for name, each in found.duplicates.items():
        dimension = found.dimensions[name]
        counts = (len(each.clusters), each.n_affected, each.n_pairs, each.n_equal, each.largest)
        lines.append(Line(name, f"cosine of at least {each.threshold:g}", [
            _cell(dimension, 1, ""),
            *(Cell(f"{n:,}".replace(",", "\u202f"), "", n) for n in counts),
        ]))  # fmt: skip
    heads = ("intrinsic dimension", "items", "with a near-duplicate", "pairs of them",
             "with equal features", "largest cluster")  # fmt: skip
    return Table("Items of the views", (), _columns(*heads), lines)


# ---- items ---------------------------------------------------------------------------------------


def _shown_items(found: Diagnosis, name: str) -> Callable[[int], Item]:
    """Return a function of a row that returns its item of a view."""
    show = shower(Split(found.shown), name, None)
    row_to_item = found.shown.distinct(name)[1]

    def item(row: int) -> Item:
        text, picture, _ = show(int(row_to_item[row]))
        return Item(text, picture)

    return item


def _suspects(found: Diagnosis, n: int) -> list[Suspect]:
    first, second = (_shown_items(found, name) for name in found.shown.names)
    return [
        Suspect(
            each["row"],
            _score(each["score"]),
            (first(each["row"]), second(each["row"])),
            second(each["better"]),
            each["better"],
            _score(each["better_score"]),
        )
        for each in found.suspects(n)
    ]


def _score(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _twins(found: Diagnosis, name: str) -> list[Twins]:
    show = _shown_items(found, name)
    rows = found.shown.first_rows(name)
    return [
        Twins((show(rows[i]), show(rows[j])), f"{cosine:.3f}", f"rows {rows[i]:,} and {rows[j]:,}")
        for i, j, cosine in found.duplicates[name].closest[:_TWINS]
    ]


# ---- figures -------------------------------------------------------------------------------------


@in_plain_words
def _curve(found: Diagnosis, *, narrow: bool = False) -> str | None:
    curve = found.curve
    if len(curve.sizes) < 2:
        return None
    drawing, (ax,) = in_panels(1, 3.4, narrow=narrow)
    values = [each.value for each in curve.estimates]
    ax.fill_between(curve.sizes, [each.low for each in curve.estimates],
                    [each.high for each in curve.estimates], color=SERIES[0], alpha=0.15,
                    linewidth=0)  # fmt: skip
    ax.errorbar(curve.sizes, values, yerr=np.nan_to_num(curve.spreads), fmt="o-", capsize=3,
                color=SERIES[0], linewidth=2, markersize=6, label="CCA")  # fmt: skip
    ax.axhline(curve.estimates[-1].chance, color=INK, linewidth=1, linestyle=CHANCE, label="chance")
    log_scale(ax, curve.sizes)
    ax.set_ylim(bottom=0)
    ax.set_xlabel("pairs", color=INK)
    label_y([ax], metric_words(METRICS[-1]), narrow)
    return as_svg(drawing, "Learning curve")


@in_plain_words
def _spectrum(found: Diagnosis, *, narrow: bool = False) -> str:
    correlations = found.canonical.correlations[:_COMPONENTS]
    drawing, (ax,) = in_panels(1, 2.8, narrow=narrow)
    at = np.arange(1, len(correlations) + 1)
    ax.bar(at, correlations, width=0.8, color=SERIES[0], linewidth=0, label="held-out pairs")
    ax.plot(at, found.canonical.chance[:_COMPONENTS], color=INK, linewidth=1, linestyle=CHANCE,
            label="permuted pairs, 95 %")  # fmt: skip
    ax.set_xlabel("component", color=INK)
    label_y([ax], "correlation", narrow)
    legend(drawing, ax, narrow)
    return as_svg(drawing, "Canonical correlations of held-out pairs")


@in_plain_words
def _histogram(found: Diagnosis, *, narrow: bool = False) -> str:
    wrong = found.wrong
    both = np.concatenate([wrong.scores, wrong.chance])
    low, high = np.quantile(both, [0.001, 0.999])
    edges = np.linspace(low, high, 50)
    drawing, (ax,) = in_panels(1, 2.8, narrow=narrow)
    for values, colour, words in (
        (wrong.chance, SOFT, "random pairs"), (wrong.scores, SERIES[0], "the pairs"),
    ):  # fmt: skip
        ax.hist(values, edges, density=True, color=colour, alpha=0.6, linewidth=0, label=words)
    ax.axvline(np.median(wrong.chance), color=INK, linewidth=1, linestyle=CHANCE,
               label="median of random pairs")  # fmt: skip
    ax.set_yticks([])
    ax.set_xlabel("out-of-fold score", color=INK)
    heading(ax, "")
    legend(drawing, ax, narrow)
    return as_svg(drawing, "Out-of-fold scores of pairs and of random pairs")
