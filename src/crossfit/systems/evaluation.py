"""Evaluation of runs and score matrices, with the warnings that their output gives reason for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from crossfit._arguments import integer, one_of, real, validated
from crossfit._arrays import NUMPY_DEFAULTS
from crossfit._frames import frame_of
from crossfit._html import html_table
from crossfit._random import draw_seed
from crossfit.metrics.directions import Direction
from crossfit.metrics.evaluation import (
    Evaluation,
    PerQuery,
    adjusted_values,
    chance_values,
    evaluations,
    sides,
)
from crossfit.metrics.intervals import check_ci
from crossfit.metrics.names import Measure, parse_metric, parse_metrics
from crossfit.metrics.ranking import TIES, score_blocks
from crossfit.metrics.relevance import MatrixRelevance, as_relevance
from crossfit.metrics.ties import TieRange
from crossfit.systems.ranked import Judgements, Ranked, columns_of
from crossfit.systems.triples import Triples, as_triples

__all__ = ["SystemEvaluation", "evaluate_matrix", "evaluate_run", "joined"]

Floats = NDArray[np.float64]
Key = tuple[Direction, str]

#: Metrics if none are named.
METRICS = ("map@all", "ndcg@10", "r@1", "r@10", "mrr")
#: Share of queries from which ties are worth a note, and from which a pattern is the protocol.
_TIED, _MOST = 0.01, 0.5
_RULES = ("worst", "expected", "best")


@dataclass(frozen=True, eq=False, repr=False)
class SystemEvaluation:
    """Values of the output of a system on judged queries, and notes on it.

    Parameters
    ----------
    evaluation : Evaluation
        Values per query, means and intervals, by the requested rule for ties.
    ties : TieRange
        Worst, expected and best values, and the share of queries with ties.
    query_ids : mapping of direction to list of str
        Identifiers of the queries, in the order of the values.
    chance : mapping of (direction, metric) to float
        Exact values of a random ranking of the known items.
    at_most : mapping of (direction, metric) to float
        Largest values that the metrics may have, for those that depend on relevant items which
        the run does not have. The values of the evaluation are the smallest ones.
    n_items : mapping of direction to int
        Number of items of the gallery.
    notes : tuple of str
        Sentences on what is unusual in the output.

    See Also
    --------
    evaluate_run : Make one from a run.
    report_systems : Compare several of them on a page.
    """

    evaluation: Evaluation
    ties: TieRange
    query_ids: Mapping[Direction, list[str]]
    chance: Mapping[Key, float] = field(default_factory=dict)
    at_most: Mapping[Key, float] = field(default_factory=dict)
    n_items: Mapping[Direction, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def rows(self) -> list[dict[str, Any]]:
        """Return one dict per direction and metric.

        Returns
        -------
        list of dict
            Those of `Evaluation.rows`, with ``worst``, ``best`` and ``tied`` of the ties, the
            value ``chance`` of a random ranking, and ``at_most``, which is the value itself if the
            run determines it.
        """
        ties = {(row["direction"], row["metric"]): row for row in self.ties.rows()}
        found = []
        for row in self.evaluation.rows():
            key = row["direction"], row["metric"]
            tie = {name: ties[key][name] for name in ("worst", "best", "tied")}
            more = {"chance": self.chance[key], "at_most": self.at_most.get(key, row["value"])}
            found.append({**row, **tie, **more})
        return found

    def to_frame(self) -> Any:
        """Return the rows as a pandas DataFrame; pandas must be installed."""
        return frame_of(self.rows())

    def mean(self, metric: str, direction: str | None = None) -> float:
        """Return the mean of a metric over the queries.

        Parameters
        ----------
        metric : str
            A metric that was evaluated.
        direction : str, optional
            A direction; by default the mean over the directions.

        Returns
        -------
        float
        """
        return self.evaluation.mean(direction, metric)

    def _repr_html_(self) -> str:
        head = ("direction", "metric", "value", "low", "high", "chance", "worst", "best", "tied",
                "n_queries")  # fmt: skip
        rows = [[row[name] for name in head] for row in self.rows()]
        caption = "; ".join([f"Evaluation, ties: {self.evaluation.ties}", *self.notes])
        return html_table(caption, (*head[:-1], "queries"), rows)

    def __repr__(self) -> str:
        return "\n".join([repr(self.evaluation), *(f"  note: {note}" for note in self.notes)])


_RUN: dict[str, list[Any]] = {
    "ties": [one_of(*TIES)],
    "random_state": ["random_state"],
    "gallery_size": [integer(1), None],
    "at_least": [real(0, closed="left"), None],
    "gain": [one_of("exponential", "linear")],
    "missing": [one_of("zero", "skip")],
    "ignore_identical": ["boolean"],
    "captions": [integer(1), None],
}


@validated(**_RUN)
def evaluate_run(
    run: Any,
    qrels: Any,
    metrics: str | Sequence[str] = METRICS,
    *,
    ties: str = "expected",
    ci: float | None = 0.95,
    random_state: Any = 0,
    groups: Mapping[str, Any] | None = None,
    names: tuple[str, str] = ("query", "item"),
    gallery_size: int | None = None,
    at_least: float | None = None,
    gain: str = "exponential",
    missing: str = "zero",
    ignore_identical: bool = False,
    captions: int | None = None,
) -> SystemEvaluation:
    """Evaluate the ranked lists of any system by judgements.

    Parameters
    ----------
    run, qrels : mapping, frame, Triples or triple of sequences
        Scores and grades, in any form that `Triples.of` takes. Items are ranked by score and not
        by their order, and equal scores are tied. Items without a judgement, or with a grade of
        at most 0, are not relevant.
    metrics : str or sequence of str, default=("map@all", "ndcg@10", "r@1", "r@10", "mrr")
        See `crossfit.metrics.evaluate`.
    ties : {"expected", "stable", "worst", "best"}, default="expected"
        How tied items are ranked; ``"stable"`` keeps the order of the run.
    ci : float or None, default=0.95
        Coverage of the bootstrap intervals.
    random_state : int, RandomState or None, default=0
        Source of randomness of the bootstrap.
    groups : mapping, optional
        Group of each query by its identifier; queries of one group are resampled together.
    names : pair of str, default=("query", "item")
        Names of queries and items, for the direction.
    gallery_size : int, optional
        Number of items that could be retrieved; by default those of the run and the judgements.
        Values at chance depend on it.
    at_least : float, optional
        Lowest grade of a relevant item, by default any above 0.
    gain : {"exponential", "linear"}, default="exponential"
        Gain of ``ndcg`` for a grade g: 2^g - 1, or g as in trec_eval.
    missing : {"zero", "skip"}, default="zero"
        Value of queries that have relevant items but are not in the run: 0, as in ir-measures, or
        none, as in trec_eval without ``-c``.
    ignore_identical : bool, default=False
        Whether to leave out items with the identifier of their query.
    captions : int, optional
        Number of relevant items that every query should have, for a note if some have fewer.

    Returns
    -------
    SystemEvaluation
        A relevant item that is not in the run contributes 0, as in trec_eval. If a value depends
        on its position, it is the smallest possible, and `SystemEvaluation.at_most` has the
        largest.

    Raises
    ------
    ValueError
        If a query has an item twice, a value is NaN, no query has a relevant item or is in both,
        or a mean or median rank needs items that the run does not have.
    TypeError
        If an object is of another form.

    See Also
    --------
    evaluate_matrix : The same for a matrix of scores.
    report_systems : A page that compares systems.

    Examples
    --------
    >>> run = {"q1": {"a": 0.9, "b": 0.5}, "q2": {"b": 0.8, "a": 0.8}}
    >>> found = evaluate_run(run, {"q1": {"a": 1}, "q2": {"a": 1}}, ["mrr"], ci=None)
    >>> found.mean("mrr"), [round(row["worst"], 3) for row in found.rows()]
    (0.875, [0.75])
    """
    run, qrels = as_triples(run, "the run"), as_triples(qrels, "the judgements")
    measures = parse_metrics(metrics)
    direction = sides("forward", names)["forward"]
    if ci is not None:
        check_ci(ci)
    judged = Judgements.of(qrels, at_least, gain)
    if not judged.n_relevant.any():
        raise ValueError(f"{qrels.name}: no query has a relevant item; check the grades")
    ranked = Ranked.of(run, judged, ignore_identical)
    if not ranked.depth[judged.n_relevant > 0].any():
        raise ValueError(
            f"{run.name} has no query of {qrels.name}; its queries are for instance "
            f"{run.query_ids[0]!r}, and those with judgements {qrels.query_ids[0]!r}"
        )
    known = len({*run.item_ids, *qrels.item_ids})
    if gallery_size is not None and gallery_size < known:
        raise ValueError(
            f"gallery_size is {gallery_size}, but {known} items have a score or a judgement; give "
            "the number of all items"
        )
    n_items = gallery_size or known
    wanted = (*measures, *(m for m in (parse_metric("tied"),) if m not in measures))
    plain = [_unadjusted(m) for m in wanted]
    rules = tuple(dict.fromkeys((*_RULES, ties)))
    values = {
        rule: columns_of(ranked, judged, plain, n_items, rule)
        for rule in (rules if ranked.has_ties else ("expected",))
    }
    for rule in rules:  # without ties, the rule does not matter
        values.setdefault(rule, [column.copy() for column in values["expected"]])
    relevance = MatrixRelevance(_widened(judged.grades, n_items))
    at_random = chance_values(relevance, plain)
    skipped = (ranked.depth == 0) & (judged.n_relevant > 0)
    notes = list(_notes_on_run(run, qrels, ranked, judged, captions, skipped, missing, gain,
                               measures))  # fmt: skip
    for columns in values.values():
        for column, measure, tied in zip(columns, plain, values["expected"], strict=True):
            if measure.row.of_ties:  # how ties are ranked does not matter to their number
                column[:] = tied
            if missing == "skip":
                column[skipped] = np.nan
            _check_ranks(column, measure, run)
    at_most: dict[Key, float] = {}
    if len(ranked.missing[0]):
        hopeful = columns_of(ranked, judged, plain, n_items, "expected", hopeful=True)
        depth = ranked.depth[ranked.depth > 0].min()
        for j, measure in enumerate(measures):
            highest = np.where(np.isnan(values["expected"][j]), np.nan, hopeful[j])
            if np.nanmax(highest - values["expected"][j]) > 1e-12:
                if measure.adjusted:
                    highest = adjusted_values(highest, at_random[j], measure)
                at_most[direction, measure.name] = float(np.nanmean(highest))
        if at_most:
            notes.append(_about_end(at_most, len(ranked.missing[0]), int(depth)))
    for columns in values.values():
        for j, measure in enumerate(wanted):
            if measure.adjusted:
                columns[j] = adjusted_values(columns[j], at_random[j], measure)
    group = _groups(groups if groups is not None else qrels.groups, judged.query_ids)
    seed = int(random_state) if isinstance(random_state, int | np.integer) else draw_seed(
        random_state
    )  # fmt: skip
    found = {
        rule: _evaluation(columns, wanted, direction, rule, ci, seed, group)
        for rule, columns in values.items()
    }
    return _made(found, ties, measures, direction, judged.query_ids,
                 dict(zip(wanted, at_random, strict=True)), at_most, n_items, notes)  # fmt: skip


def _unadjusted(measure: Measure) -> Measure:
    return Measure(measure.kind, measure.k, measure.variant, at_r=measure.at_r)


def _widened(grades: sp.csr_array, n_items: int) -> sp.csr_array:
    shape = grades.shape[0], n_items
    return sp.csr_array((grades.data, grades.indices, grades.indptr), shape=shape)


def _groups(groups: Mapping[str, Any] | None, ids: Sequence[str]) -> NDArray[Any]:
    """Return the group of each query: numbers if all are whole numbers, so that 10 follows 9."""
    if groups is None:
        return np.arange(len(ids))
    missing = [name for name in ids if name not in groups]
    if missing:
        raise ValueError(
            f"groups: query {missing[0]!r} and {len(missing) - 1} others have no group; name one "
            "for every query"
        )
    found = [groups[name] for name in ids]
    try:
        return np.array([int(each) for each in found], np.int64)
    except (TypeError, ValueError):
        return np.array([str(each) for each in found])


def _evaluation(
    columns: Sequence[Floats],
    measures: Sequence[Measure],
    direction: Direction,
    rule: str,
    ci: float | None,
    seed: int,
    groups: NDArray[Any],
) -> Evaluation:
    values = {(direction, m.name): column for m, column in zip(measures, columns, strict=True)}
    # Numbers are kept, because several directions may have groups in common.
    numbers = groups if groups.dtype.kind == "i" else np.unique(groups, return_inverse=True)[1]
    codes = numbers.astype(np.intp)
    names = tuple(measure.name for measure in measures)
    return Evaluation(PerQuery(values, {"forward": direction}), (direction,), names, rule, ci,
                      seed, {direction: codes})  # fmt: skip


def _made(
    found: Mapping[str, Evaluation],
    rule: str,
    measures: Sequence[Measure],
    direction: Direction,
    query_ids: list[str],
    chance: Mapping[Measure, Floats],
    at_most: Mapping[Key, float],
    n_items: int,
    notes: list[str],
) -> SystemEvaluation:
    ties = TieRange(found["worst"], found["expected"], found["best"])
    names = tuple(measure.name for measure in measures)
    shown = found[rule]
    kept = {key: shown.per_query[key] for key in shown.per_query if key[1] in names}
    evaluation = Evaluation(shown.per_query.holding(kept), shown.directions, names, rule,
                            shown.ci, shown.seed, shown.groups)  # fmt: skip
    levels = {}
    for measure in measures:
        column = chance[measure]
        level = float(column[~np.isnan(column)].mean()) if not measure.row.median_of else float(
            np.nanmedian(column)
        )  # fmt: skip
        levels[direction, measure.name] = 0.0 if measure.adjusted else level
    notes += _notes_on_ties(ties, names)
    return SystemEvaluation(evaluation, ties, {direction: query_ids}, levels, at_most,
                            {direction: n_items}, tuple(notes))  # fmt: skip


def _check_ranks(column: Floats, measure: Measure, run: Triples) -> None:
    lost = int(np.isinf(column).sum())
    if lost:
        raise ValueError(
            f"{measure.name}: {run.name} has no relevant item for {lost} of "
            f"{int((~np.isnan(column)).sum())} queries, so that their ranks are not known; rank "
            "all items, or use r@K or mrr"
        )


def _about_end(at_most: Mapping[Key, float], lost: int, depth: int) -> str:
    bounds = ", ".join(
        f"{parse_metric(metric).words} is at most {value:.4f}"
        for (_, metric), value in at_most.items()
    )
    return (
        f"{lost} relevant items are not in the run, whose shortest list has {depth} items. They "
        f"contribute 0, as in trec_eval; if they followed directly after its end, {bounds}."
    )


def _notes_on_run(
    run: Triples,
    qrels: Triples,
    ranked: Ranked,
    judged: Judgements,
    captions: int | None,
    skipped: NDArray[np.bool_],
    missing: str,
    gain: str,
    measures: Sequence[Measure],
) -> list[str]:
    notes = []
    n_relevant = judged.n_relevant
    n = int((n_relevant > 0).sum())
    if empty := int((n_relevant == 0).sum()):
        notes.append(
            f"{empty} of {len(n_relevant)} queries have judgements but no relevant item, and are "
            "excluded."
        )
    if lost := int(skipped.sum()):
        first = judged.query_ids[int(np.flatnonzero(skipped)[0])]
        value = "their values are 0" if missing == "zero" else "they are left out"
        notes.append(f"{lost} of {n} queries are not in the run, for instance {first!r}; {value}.")
    if ranked.unknown:
        notes.append(f"{ranked.unknown} queries of the run have no judgements and are left out.")
    if constant := int((ranked.constant & (n_relevant > 0)).sum()):
        notes.append(
            f"All items of a query have the same score for {constant} of {n} queries: for these "
            "the run does not rank."
        )
    if int(ranked.itself.sum()) > _MOST * n:
        notes.append(
            f"The first item of {int(ranked.itself.sum())} of {n} queries is the query itself, so "
            "that ranks are one too high and recall is off by one; leave it out with "
            "ignore_identical."
        )
    notes += notes_on_captions(n_relevant[n_relevant > 0], captions)
    large = judged.grades.data.max(initial=0) > 1
    needed = any(measure.row.needs_grades for measure in measures)
    if large and needed and gain == "exponential":
        notes.append(
            "Judgements are graded, and the gain of nDCG is 2^grade - 1; that of trec_eval is the "
            "grade (gain linear)."
        )
    return notes


def notes_on_captions(n_relevant: NDArray[Any], captions: int | None) -> list[str]:
    """Return a note if queries have fewer relevant items than expected, or than most others."""
    expected = captions
    if expected is None:
        numbers, counts = np.unique(n_relevant, return_counts=True)
        if counts.max() < 0.9 * len(n_relevant) or numbers[counts.argmax()] < 2:
            return []
        expected = int(numbers[counts.argmax()])
    few = int((n_relevant < expected).sum())
    if not few:
        return []
    whose = "expected" if captions is not None else "most have"
    return [
        f"{few} of {len(n_relevant)} queries have fewer than {expected} relevant items, "
        f"the number that {'was ' if captions is not None else ''}{whose}: captions may be missing."
    ]


def _notes_on_ties(ties: TieRange, names: Sequence[str]) -> list[str]:
    notes = []
    for direction in ties.expected.directions:
        share = ties.expected.mean(direction, "tied")
        if share < _TIED:
            continue
        metric = names[0]
        low, high = ties.worst.mean(direction, metric), ties.best.mean(direction, metric)
        notes.append(
            f"In {share:.0%} of the queries of {direction.label} a relevant item has the score of "
            f"one that is not relevant; {parse_metric(metric).words} is between {low:.4f} and "
            f"{high:.4f}, by their order."
        )
    return notes


@validated(
    ties=[one_of(*TIES)], random_state=["random_state"], captions=[integer(1), None],
    gain=[one_of("exponential", "linear")], at_least=[real(0, closed="left"), None],
)  # fmt: skip
@np.errstate(**NUMPY_DEFAULTS)
def evaluate_matrix(
    scores: Any,
    relevance: Any = None,
    metrics: str | Sequence[str] = METRICS,
    *,
    query_ids: Sequence[Any] | None = None,
    item_ids: Sequence[Any] | None = None,
    ties: str = "expected",
    ci: float | None = 0.95,
    random_state: Any = 0,
    groups: tuple[Any, Any] | None = None,
    names: tuple[str, str] = ("query", "item"),
    directions: str = "both",
    at_least: float | None = None,
    gain: str = "exponential",
    captions: int | None = None,
    n_jobs: int | None = None,
) -> SystemEvaluation:
    """Evaluate a matrix of scores of any system.

    Parameters
    ----------
    scores : array-like of shape (n, m) or memmap
        Scores of items (columns) for queries (rows), of which higher ones are better.
    relevance : array-like or sparse of shape (n, m), or pair of labels, optional
        As in `crossfit.metrics.evaluate`. By default row i and column j are a pair if
        i = j // `captions`.
    metrics : str or sequence of str, default=("map@all", "ndcg@10", "r@1", "r@10", "mrr")
        See `crossfit.metrics.evaluate`.
    query_ids, item_ids : sequence of str or int, optional
        Identifiers of rows and columns, by default their numbers.
    ties, ci, random_state
        See `crossfit.metrics.evaluate`.
    groups : pair of array-like, optional
        Groups of the rows and of the columns; by default those of the pairs if `relevance` is not
        given, and otherwise every query is a group.
    names, directions
        See `crossfit.metrics.evaluate`.
    at_least, gain
        See `evaluate_run`.
    captions : int, optional
        Number of columns of each row, by default 1; with `relevance`, the number of relevant items
        that every row should have.
    n_jobs : int or None, default=None
        See `crossfit.metrics.evaluate`.

    Returns
    -------
    SystemEvaluation

    Raises
    ------
    ValueError, TypeError
        As in `crossfit.metrics.evaluate`; or if identifiers are repeated or of another number.

    See Also
    --------
    evaluate_run : The same for ranked lists.

    Examples
    --------
    >>> found = evaluate_matrix([[0.9, 0.8, 0.1, 0.2], [0.3, 0.1, 0.7, 0.2]], captions=2, ci=None)
    >>> found.mean("r@1", "query2item"), found.mean("r@1", "item2query")
    (1.0, 0.875)
    """
    measures = parse_metrics(metrics)
    shape = _shape(scores)
    expected = captions
    if relevance is None:
        per_row = captions or 1
        if shape[1] != per_row * shape[0]:
            raise ValueError(
                f"scores have shape {shape}, but with {per_row} captions per row they must have "
                f"{per_row * shape[0]} columns; give captions, or the relevance"
            )
        owner = np.repeat(np.arange(shape[0]), per_row)
        relevance = (np.arange(shape[0]), owner)
        groups = (np.arange(shape[0]), owner) if groups is None else groups
    else:
        relevance = _graded(relevance, shape, at_least, gain)
    ids = [_checked_ids(given, n, side) for given, n, side in zip(
        (query_ids, item_ids), shape, ("query_ids", "item_ids"), strict=True)]  # fmt: skip
    rules = tuple(dict.fromkeys((*_RULES, ties)))
    wanted = [*(m.name for m in measures), *(["tied"] * ("tied" not in {m.name for m in measures}))]
    if groups is None:
        groups = (np.arange(shape[0]), np.arange(shape[0], shape[0] + shape[1]))
    found = evaluations(
        (scores, relevance, wanted), directions, rules, ci, random_state, groups, names, n_jobs
    )
    by_rule = _with_common_groups(dict(zip(rules, found, strict=True)), groups, directions)
    forward = as_relevance(relevance)
    parts = []
    for side, direction in sides(directions, names).items():
        backward = side == "backward"
        own = forward.transpose() if backward else forward
        chance = dict(zip(measures, chance_values(own, [_unadjusted(m) for m in measures]),
                          strict=True))  # fmt: skip
        counts = np.array([len(columns) for columns, _ in own.rows(0, own.shape[0])])
        kept = counts > 0
        notes = []
        if (~kept).any():
            notes.append(
                f"{int((~kept).sum())} of {len(kept)} queries of {direction.label} have no "
                "relevant item and are excluded."
            )
        constant = sum(int((block.min(1) == block.max(1)).sum()) for _, block in
                       score_blocks(scores, backward)) if own.shape[1] > 1 else 0  # fmt: skip
        if constant:
            notes.append(
                f"All items have the same score for {constant} of {len(kept)} queries of "
                f"{direction.label}: for these the scores do not rank."
            )
        notes += notes_on_captions(counts[kept], None if backward else expected)
        only = {rule: _one_way(each, direction) for rule, each in by_rule.items()}
        parts.append(_made(only, ties, measures, direction, ids[backward], chance, {},
                           own.shape[1], notes))  # fmt: skip
    return joined(parts)


def _shape(scores: Any) -> tuple[int, int]:
    found = getattr(scores, "shape", None)
    shape = tuple(found) if isinstance(found, tuple) else np.shape(scores)
    if len(shape) != 2 or 0 in shape:
        raise ValueError(f"scores must be a non-empty (n, m) matrix, got shape {shape}")
    return int(shape[0]), int(shape[1])


def _graded(relevance: Any, shape: tuple[int, int], at_least: float | None, gain: str) -> Any:
    if at_least is None and gain == "exponential":
        return relevance
    found = as_relevance(relevance)
    rows = list(found.rows(0, found.shape[0]))
    counts = [len(columns) for columns, _ in rows]
    data = np.concatenate([np.ones(len(c)) if g is None else g for c, g in rows])
    data = np.where(data < (at_least or 0.0), 0.0, data)
    data = np.log2(1.0 + data) if gain == "linear" else data
    columns = np.concatenate([c for c, _ in rows])
    matrix = sp.csr_array((data, columns, np.concatenate([[0], np.cumsum(counts)])), shape=shape)
    matrix.eliminate_zeros()
    return matrix


def _checked_ids(ids: Any, n: int, name: str) -> list[str]:
    if ids is None:
        return [str(i) for i in range(n)]
    found = [str(each) for each in np.asarray(ids).tolist()]
    if len(found) != n:
        raise ValueError(f"{name} has {len(found)} identifiers, but there are {n} in the scores")
    if len(set(found)) < n:
        twice = next(each for i, each in enumerate(found) if each in found[:i])
        raise ValueError(f"{name}: {twice!r} occurs twice; every identifier must be different")
    return found


def _with_common_groups(
    found: Mapping[str, Evaluation], groups: tuple[Any, Any], directions: str
) -> dict[str, Evaluation]:
    """Return evaluations whose groups have the same numbers in both directions."""
    both = [np.asarray(each) for each in groups]
    known = np.unique(np.concatenate(both))
    codes = [np.searchsorted(known, each).astype(np.intp) for each in both]
    order = {"both": [0, 1], "forward": [0], "backward": [1]}[directions]
    result = {}
    for rule, each in found.items():
        own: dict[str, NDArray[np.intp] | None] = {
            d: codes[i] for d, i in zip(each.directions, order, strict=True)
        }
        result[rule] = Evaluation(
            each.per_query, each.directions, each.metrics, each.ties, each.ci, each.seed, own
        )
    return result


def _one_way(found: Evaluation, direction: Direction) -> Evaluation:
    values = {key: found.per_query[key] for key in found.per_query if key[0] == direction}
    return Evaluation(
        found.per_query.holding(values), (direction,), found.metrics, found.ties, found.ci,
        found.seed, {direction: found.groups.get(direction)},
    )  # fmt: skip


def joined(parts: Sequence[SystemEvaluation]) -> SystemEvaluation:
    """Join the evaluations of one system in several directions, or by several metrics."""
    if len(parts) == 1:
        return parts[0]

    def together(found: Sequence[Evaluation]) -> Evaluation:
        first = found[0]
        values = {key: each.per_query[key] for each in found for key in each.per_query}
        every = tuple(dict.fromkeys(way for each in found for way in each.directions))
        metrics = tuple(dict.fromkeys(metric for each in found for metric in each.metrics))
        aliases = {"forward": every[0], "backward": every[-1]}
        return Evaluation(
            PerQuery(values, aliases), every, metrics, first.ties, first.ci, first.seed,
            {direction: each.groups[direction] for each in found for direction in each.directions},
        )  # fmt: skip

    ranges = [together([getattr(part.ties, rule) for part in parts]) for rule in _RULES]
    return SystemEvaluation(
        together([part.evaluation for part in parts]),
        TieRange(*ranges),
        {key: value for part in parts for key, value in part.query_ids.items()},
        {key: value for part in parts for key, value in part.chance.items()},
        {key: value for part in parts for key, value in part.at_most.items()},
        {key: value for part in parts for key, value in part.n_items.items()},
        tuple(dict.fromkeys(note for part in parts for note in part.notes)),
    )
