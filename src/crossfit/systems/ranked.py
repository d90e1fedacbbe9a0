"""Measures of ranked lists that end somewhere, from the positions of their relevant items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from crossfit._arrays import NUMPY_DEFAULTS
from crossfit.metrics.names import Measure
from crossfit.metrics.ranking import RelevantGroups, gains_of, joined_groups, measure_queries
from crossfit.systems.triples import Triples

__all__ = ["Judgements", "Ranked", "columns_of"]

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Judgements:
    """The relevant items of each query, for arrays.

    Parameters
    ----------
    grades : csr_array of shape (n_queries, n_judged)
        Grades above 0 of the relevant items.
    query_ids, item_ids : list of str
        Identifiers of the rows and columns; items that are not relevant are columns as well.
    """

    grades: sp.csr_array
    query_ids: list[str]
    item_ids: list[str]

    @classmethod
    def of(cls, qrels: Triples, at_least: float | None, gain: str) -> Judgements:
        """Return the judgements of a file; grades below 0 are of irrelevant items."""
        value = np.where(qrels.value < max(at_least or 0.0, 0.0), 0.0, qrels.value)
        if gain == "linear":  # the gain of the measures is 2^grade - 1
            value = np.log2(1.0 + value)
        shape = len(qrels.query_ids), len(qrels.item_ids)
        grades = sp.csr_array((value, (qrels.query, qrels.item)), shape=shape)
        grades.eliminate_zeros()
        grades.sort_indices()
        return cls(grades, qrels.query_ids, qrels.item_ids)

    @cached_property
    def ideal(self) -> Floats:
        """Gains of the relevant items of each query, largest first."""
        every = gains_of(self.grades.data)
        rows = np.repeat(np.arange(len(self.query_ids)), self.n_relevant)
        return every[np.lexsort((-every, rows))]

    @property
    def graded(self) -> bool:
        """True if a grade differs from 1."""
        return bool((self.grades.data != 1).any())

    @property
    def n_relevant(self) -> Ints:
        """Number of relevant items of each query."""
        return np.diff(self.grades.indptr).astype(np.intp)


@dataclass(frozen=True, eq=False)
class Ranked:
    """The relevant items that a run has, with their positions.

    Parameters
    ----------
    query, above, position, tied : ndarray of shape (r,), intp
        Query of each relevant item, ascending and best item first, and the numbers of items that
        score higher, of those before it in the file and of those with the same score.
    grade : ndarray of shape (r,), float64
        Its grade.
    depth : ndarray of shape (n_queries,), intp
        Number of items in the run for each query; 0 if it does not have the query.
    constant : ndarray of shape (n_queries,), bool
        Whether several items were scored and all scores are the same.
    missing : tuple of two ndarray
        Queries and grades of the relevant items that the run does not have, best grade first.
    itself : ndarray of shape (n_queries,), bool
        Whether the first item has the identifier of the query and is not relevant.
    unknown : int
        Number of queries of the run without judgements.
    """

    query: Ints
    above: Ints
    position: Ints
    tied: Ints
    grade: Floats
    depth: Ints
    constant: NDArray[np.bool_]
    missing: tuple[Ints, Floats]
    itself: NDArray[np.bool_]
    unknown: int

    @classmethod
    def of(cls, run: Triples, judged: Judgements, ignore_identical: bool) -> Ranked:
        """Rank the items of a run for the queries that have judgements."""
        n = len(judged.query_ids)
        queries = _numbers(run.query_ids, judged.query_ids)
        items = _numbers(run.item_ids, judged.item_ids)
        own = _numbers(run.query_ids, run.item_ids)[run.query] == run.item
        kept = queries[run.query] >= 0
        if ignore_identical:
            kept &= ~own
        query, item = queries[run.query[kept]], items[run.item[kept]]
        value, own = run.value[kept], own[kept]
        order = _by_query_and_value(query, value, n)
        query, item, value, own = query[order], item[order], value[order], own[order]
        depth = np.bincount(query, minlength=n)
        first = np.cumsum(depth) - depth
        position = np.arange(len(query)) - first[query]
        new = np.ones(len(query), bool)
        new[1:] = (value[1:] != value[:-1]) | (query[1:] != query[:-1])
        start = np.flatnonzero(new)
        tie = np.cumsum(new) - 1
        above, tied = position[start][tie], np.diff(start, append=len(query))[tie]
        width = np.int64(len(judged.item_ids))
        pairs = judged.grades.tocoo()
        keys = pairs.row * width + pairs.col  # ascending, by the order of the rows
        key = np.where(item >= 0, query * width + item, -1)
        at = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
        relevant = keys[at] == key
        lost = np.ones(len(keys), bool)
        lost[at[relevant]] = False
        lost_query, lost_grade = pairs.row[lost].astype(np.intp), pairs.data[lost]
        order = np.lexsort((-lost_grade, lost_query))
        itself = np.zeros(n, bool)
        itself[query[(position == 0) & own & ~relevant]] = True
        constant = np.zeros(n, bool)
        constant[query[(tied == depth[query]) & (tied > 1)]] = True
        return cls(
            query[relevant], above[relevant], position[relevant], tied[relevant],
            pairs.data[at[relevant]], depth, constant, (lost_query[order], lost_grade[order]),
            itself, int((queries < 0).sum()),
        )  # fmt: skip

    @cached_property
    def has_ties(self) -> bool:
        """True if the rule for ties matters."""
        return bool((self.tied > 1).any())

    def groups(
        self, judged: Judgements, n_items: int, ties: str, graded: bool, *, hopeful: bool = False
    ) -> RelevantGroups:
        """Return the groups of relevant items for the measures.

        If `hopeful`, the relevant items that the run does not have follow directly after its end.
        Otherwise they are never found.
        """
        query, grade = self.query, self.grade
        above = self.position if ties == "stable" else self.above
        tied = np.ones_like(above) if ties == "stable" else self.tied
        if hopeful:
            lost, lost_grade = self.missing
            count = np.bincount(lost, minlength=len(self.depth))
            after = np.arange(len(lost)) - (np.cumsum(count) - count)[lost]
            query, grade = np.append(query, lost), np.append(grade, lost_grade)
            above = np.append(above, self.depth[lost] + after)
            tied = np.append(tied, np.ones_like(lost))
        if hopeful or (tied > 1).any():
            order = np.lexsort((-grade if ties == "best" else grade, above, query))
            query, above, tied, grade = query[order], above[order], tied[order], grade[order]
        gain, ideal = None, None
        if graded:
            gain, ideal = gains_of(grade), judged.ideal
        return joined_groups(query, above, tied, gain, judged.n_relevant, ideal, n_items, ties)


def _by_query_and_value(query: Ints, value: Floats, n: int) -> Ints:
    """Return the order of ``lexsort((-value, query))``; small integers are sorted faster."""
    order = np.argsort(-value, kind="stable")
    codes = query[order]
    codes = codes.astype(np.uint16) if n <= 2**16 else codes
    return order[np.argsort(codes, kind="stable")]


def _numbers(ids: Sequence[str], known: Sequence[str]) -> Ints:
    """Return the position of each identifier among the known ones, -1 if it is not there."""
    at = {name: i for i, name in enumerate(known)}
    return np.array([at.get(name, -1) for name in ids], np.intp)


@np.errstate(**NUMPY_DEFAULTS)
def columns_of(
    ranked: Ranked,
    judged: Judgements,
    measures: Sequence[Measure],
    n_items: int,
    ties: str,
    *,
    hopeful: bool = False,
) -> list[Floats]:
    """Return the values per query of each measure, NaN for queries without a relevant item.

    A query of which the run has no relevant item has the value 0, or the rank infinity.
    """
    graded = judged.graded and any(measure.row.needs_grades for measure in measures)
    groups = ranked.groups(judged, n_items, ties, graded, hopeful=hopeful)
    nothing = np.bincount(groups.query, minlength=len(ranked.depth)) == 0
    nothing &= judged.n_relevant > 0
    found = []
    for measure in measures:
        column = measure_queries(measure, groups)
        column[nothing] = np.inf if measure.row.is_rank or measure.row.median_of else 0.0
        found.append(column)
    return found
