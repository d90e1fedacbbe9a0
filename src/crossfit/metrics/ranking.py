"""Ranking measures per query, block by block, exact under ties.

The ranking of a query is reduced to the tie groups that contain its relevant items: the numbers
of gallery items that score higher, that are tied, and that are tied and relevant. Every measure is
a closed form of these numbers. They are obtained from one sort of the values of a row and a binary
search for the relevant ones or, if few items are relevant, by counting. Rows are argsorted only
for ``ties="stable"``, and only one block of scores is in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from crossfit._arrays import (
    NUMPY_DEFAULTS,
    as_array,
    as_numpy,
    check_tensor,
    is_tensor,
    listed,
)
from crossfit.metrics.names import Measure
from crossfit.metrics.relevance import Relevance, Row

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TIES = ("expected", "stable", "worst", "best")

#: Number of scores in a block, which bounds the memory in addition to the scores themselves.
_BLOCK_SCORES = 2**20
#: The same on another device than the CPU, where blocks are sorted at once.
_TENSOR_SCORES = 2**23
#: Number of relevant items up to which counting twice per item is faster than sorting the row.
_FEW = 8
#: Largest grade; sums of 2^1000 over the items of any gallery are finite.
_LARGEST_GRADE = 1000


@dataclass(frozen=True)
class RelevantGroups:
    """Tie groups that contain relevant items, for a block of queries; the best group comes first.

    Parameters
    ----------
    query : ndarray of shape (g,)
        Row of the block that is the query of each group, ascending.
    above, tied, relevant, before : ndarray of shape (g,)
        Numbers of gallery items that score higher than the group, of items in the group, of
        relevant items in the group, and of relevant items in higher groups.
    gain : ndarray of shape (g,)
        Sum of the gains 2^grade - 1 in the group.
    n_relevant : ndarray of shape (b,)
        Number of relevant items of each query of the block; a query with 0 is excluded.
    ideal_gains : ndarray or None
        Gains of all relevant items, query by query and descending for each; None if every grade
        is 1.
    n_gallery : int
        Size of the gallery.
    """

    query: Ints
    above: Ints
    tied: Ints
    relevant: Ints
    before: Ints
    gain: Floats
    n_relevant: Ints
    ideal_gains: Floats | None
    n_gallery: int

    def per_query(self, contributions: NDArray[Any]) -> Floats:
        """Return sums over the groups of each query; shape (b,)."""
        sums: NDArray[Any] = np.bincount(self.query, contributions, len(self.n_relevant))
        return sums

    def divide(self, numerator: Floats, denominator: Any) -> Floats:
        """Return the quotient for each query; NaN for queries without a relevant item."""
        out = np.full(len(self.n_relevant), np.nan)
        return np.divide(numerator, denominator, out=out, where=self.n_relevant > 0)

    def cutoff(self, measure: Measure) -> Any:
        """Return the cut-off of a measure, one number or one for each group."""
        if measure.at_r:
            return self.n_relevant[self.query]
        return self.n_gallery if measure.k is None else measure.k


# ---------------------------------------------------------------- scores, block by block


def check_scores(scores: Any) -> None:
    """Raise if a model or the views were passed in place of scores."""
    if hasattr(scores, "get_params") or hasattr(scores, "relevance"):
        name = scores.__name__ if isinstance(scores, type) else type(scores).__name__
        raise TypeError(
            f"scores must be a matrix of similarities, got {name}; pass "
            "crossfit.similarity(model, views), and as relevance views.relevance('image', 'text') "
            "or the pair of labels (y_image, y_text)"
        )


def on_device(scores: Any) -> bool:
    """Return True for a tensor that is ranked where it is: NumPy is faster on the CPU."""
    return is_tensor(scores) and scores.device.type != "cpu"


def check_shape(scores: Any, shape: tuple[int, int], both: bool) -> Any:
    """Check that scores are 2-D and have the shape of the relevance; return them sliceable."""
    check_scores(scores)
    if isinstance(scores, Iterator):
        if both:
            raise ValueError(
                "an iterator of row blocks is read once, so only directions='forward' can be "
                "evaluated from it; pass an array or memmap for the backward direction"
            )
        return scores
    if sp.issparse(scores):
        raise TypeError("scores must be a dense array, got a sparse one; convert it by toarray()")
    # Arrays, memory maps and objects that can be sliced like them are read block by block; tensors
    # on the CPU share their memory with an array.
    if is_tensor(scores):
        check_tensor(scores, "scores")
    blockwise = on_device(scores) if is_tensor(scores) else hasattr(scores, "shape")
    blockwise = blockwise and isinstance(scores.shape, tuple)
    if isinstance(scores, np.ma.MaskedArray) or hasattr(scores, "iloc") or not blockwise:
        scores = as_array(scores, "scores", numbers=True)
    found = tuple(scores.shape)
    if len(found) != 2 or 0 in found:
        raise ValueError(f"scores must be a non-empty (n, m) matrix, got shape {found}")
    if found != shape:
        raise ValueError(f"scores have shape {found} but relevance has shape {shape}")
    return scores


def _as_block(block: Any, row: int, backward: bool) -> NDArray[Any]:
    """Return a block of scores as C-ordered rows of float32 or float64, checked for NaN."""
    block = as_numpy(block, "scores")
    kind, size = block.dtype.kind, block.dtype.itemsize
    if kind not in "biuf":
        raise TypeError(f"scores must be real numbers, got dtype {block.dtype}")
    if block.dtype not in (np.float32, np.float64):
        # float32 is exact for integers of up to 24 bits; among wider ones new ties would arise.
        block = block.astype(np.float32 if size <= 2 else np.float64)
    block = np.ascontiguousarray(block.T if backward else block)
    if np.isnan(block.max()):
        rows = np.flatnonzero(np.isnan(block).any(axis=1))
        columns = np.flatnonzero(np.isnan(block[rows[0]]))
        raise ValueError(
            f"scores must not be NaN, got NaN for query {row + int(rows[0])} against "
            f"{len(columns)} of {block.shape[1]} gallery items ({listed(columns)})"
        )
    return block


def _blocks(scores: Any, shape: tuple[int, int], backward: bool) -> Iterator[tuple[int, Any]]:
    """Yield the first row and the scores of each block; `shape` is (queries, gallery)."""
    n, m = shape
    if not isinstance(scores, Iterator):
        # Fewer, larger blocks keep a device busy.
        step = max(1, (_TENSOR_SCORES if on_device(scores) else _BLOCK_SCORES) // m)
        for start in range(0, n, step):
            stop = min(start + step, n)
            yield start, scores[:, start:stop] if backward else scores[start:stop]
        return
    start = 0
    for given in scores:
        block = as_numpy(given, "a block of scores")
        if block.ndim != 2 or block.shape[1] != m or start + len(block) > n:
            raise ValueError(
                f"blocks of scores must have shape (b, {m}) and {n} rows in all, got shape "
                f"{block.shape} after {start} rows"
            )
        if len(block):
            yield start, block
        start += len(block)
    if start != n:
        raise ValueError(f"blocks of scores must have {n} rows in all, got {start}")


def score_blocks(scores: Any, backward: bool = False) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield the first query and the scores of each block, checked and with queries as rows."""
    if not isinstance(getattr(scores, "shape", None), tuple) or is_tensor(scores):
        scores = as_array(scores, "scores", numbers=True)
    n, m = scores.shape
    for start, raw in _blocks(scores, (m, n) if backward else (n, m), backward):
        yield start, _as_block(raw, start, backward)


def map_blocks(
    functions: Iterable[Callable[[RelevantGroups], NDArray[Any]]],
    scores: Any,
    relevance: Relevance,
    *,
    backward: bool = False,
    ties: str | Sequence[str] = "expected",
    first_only: bool = False,
    graded: bool = False,
    n_jobs: int | None = None,
) -> list[NDArray[Any]]:
    """Apply functions of the relevant groups to every block, and join the results.

    Parameters
    ----------
    functions : iterable of callable
        Each takes a `RelevantGroups` and returns an array whose first axis is the block's queries.
    scores : (n, m) array or iterator of row blocks
        Higher is better.
    relevance : Relevance
        Relevance of shape (queries, gallery), already transposed if `backward`.
    backward : bool, default=False
        Whether the columns of `scores` are the queries.
    ties : str or sequence of str, default="expected"
        How tied items are ranked, one of `TIES`, for all functions or for each of them.
    first_only : bool, default=False
        Whether only the best group of each query is needed.
    graded : bool, default=False
        Whether grades are needed.
    n_jobs : int or None, default=None
        Number of threads, as in joblib.

    Returns
    -------
    list of ndarray
        One array per function.
    """
    from joblib import Parallel, delayed

    functions = tuple(functions)
    rules = (ties,) * len(functions) if isinstance(ties, str) else tuple(ties)
    find, as_block = _first_groups if first_only else _all_groups, _as_block
    if on_device(scores):
        from crossfit.metrics import tensor_ranks

        find = tensor_ranks.first_groups if first_only else tensor_ranks.all_groups
        as_block = tensor_ranks.as_block
    graded = graded and relevance.graded

    @np.errstate(**NUMPY_DEFAULTS)  # every thread has an error state of its own
    def measure(start: int, raw: Any) -> list[NDArray[Any]]:
        block = as_block(raw, start, backward)
        groups = {
            rule: find(block, relevance.rows(start, start + len(block)), rule, graded)
            for rule in dict.fromkeys(rules)
        }
        return [function(groups[rule]) for function, rule in zip(functions, rules, strict=True)]

    parts = Parallel(n_jobs=n_jobs, require="sharedmem")(
        delayed(measure)(start, raw) for start, raw in _blocks(scores, relevance.shape, backward)
    )
    return [np.concatenate(columns) for columns in zip(*parts, strict=True)]


# ---------------------------------------------------------------- groups of relevant items


def _first_groups(
    block: NDArray[Any], rows: Iterable[Row], ties: str, graded: bool
) -> RelevantGroups:
    """Return the best group of each query, found by counting items above it and tied with it."""
    found: list[tuple[int, ...]] = []
    n_relevant = np.zeros(len(block), np.int64)
    for i, (row, (columns, _)) in enumerate(zip(block, rows, strict=True)):
        n_relevant[i] = len(columns)
        if not len(columns):
            continue
        values = row[columns]
        best = values.max()
        counts = (int(np.count_nonzero(row > best)), int(np.count_nonzero(row == best)))
        first = columns[values == best].min() if ties == "stable" else 0
        earlier = int(np.count_nonzero(row[:first] == best))
        found.append((i, *counts, int(np.count_nonzero(values == best)), earlier))
    columns_ = np.array(found, np.int64).reshape(-1, 5).T
    query, above_, tied_, relevant_ = first_table(ties, *columns_)
    return RelevantGroups(
        query, above_, tied_, relevant_, np.zeros_like(query), relevant_.astype(np.float64),
        n_relevant, None, block.shape[1],
    )  # fmt: skip


def first_table(
    ties: str, query: Ints, above: Ints, tied: Ints, relevant: Ints, earlier: Ints
) -> tuple[Ints, Ints, Ints, Ints]:
    """Return the queries, and the numbers above, tied and relevant of their best groups.

    Parameters
    ----------
    ties : str
        One of `TIES`, which places the group or keeps it as it is.
    query, above, tied, relevant, earlier : ndarray of shape (g,)
        Query of each best group; the numbers of gallery items above it, in it and relevant in it;
        and of those in it that come before its first relevant item in the gallery.
    """
    one = np.ones_like(above)
    if ties == "stable":
        return query, above + earlier, one, one
    if ties == "worst":
        return query, above + tied - relevant, one, one
    if ties == "best":
        return query, above, one, one
    return query, above, tied, relevant


def _all_groups(
    block: NDArray[Any], rows: Iterable[Row], ties: str, graded: bool
) -> RelevantGroups:
    """Return every group that contains a relevant item."""
    n_queries, n_gallery = block.shape
    n_relevant = np.zeros(n_queries, np.int64)
    aboves: list[Ints] = []
    tieds: list[Ints] = []
    grades: list[Floats] = []
    buffer = np.empty(n_gallery, block.dtype)
    for i, (row, (columns, grade)) in enumerate(zip(block, rows, strict=True)):
        n_relevant[i] = len(columns)
        if not len(columns):
            continue
        values = row[columns]
        order: NDArray[np.intp] | None = None
        if ties == "stable":
            order = np.lexsort((columns, -values))
        elif graded and grade is not None:
            # Within a tie, lower grades come first, which is the worst case for graded items.
            order = np.lexsort((-grade if ties == "best" else grade, -values))
        if order is None:
            values.sort()
            values = values[::-1]
        else:
            values = values[order]
        above, tied = _count_above_and_tied(row, values, buffer)
        if order is not None and ties == "stable" and (tied > 1).any():
            above, tied = _stable_positions(row, columns[order], values, above)
        aboves.append(above)
        tieds.append(tied)
        if graded and grade is not None:
            grades.append(grade if order is None else grade[order])

    query = np.repeat(np.arange(n_queries), n_relevant)
    gain, ideal = None, None
    if graded:
        gain = gains_of(_join(grades, np.float64))
        ideal = gain[np.lexsort((-gain, query))]
    above, tied = _join(aboves, np.int64), _join(tieds, np.int64)
    return joined_groups(query, above, tied, gain, n_relevant, ideal, n_gallery, ties)


def joined_groups(
    query: Ints,
    above: Ints,
    tied: Ints,
    gain: Floats | None,
    n_relevant: Ints,
    ideal: Floats | None,
    n_gallery: int,
    ties: str,
) -> RelevantGroups:
    """Join relevant items of the same tie to groups, or place each of them by the rule of ties.

    Parameters
    ----------
    query, above, tied : ndarray of shape (r,)
        Query of each relevant item that was ranked, ascending and best item first, and the numbers
        of gallery items that score higher and that have its score. Under ``"worst"`` and
        ``"best"`` the items of a tie are in the order of their positions.
    gain : ndarray of shape (r,) or None
        Gains of the items; None if every gain is 1.
    n_relevant, ideal, n_gallery
        As in `RelevantGroups`.
    ties : str
        One of `TIES`; under ``"stable"``, `above` has the positions and no item is tied.
    """
    found = np.bincount(query, minlength=len(n_relevant))
    before = np.arange(len(query)) - np.repeat(np.cumsum(found) - found, found)
    if not (tied > 1).any():
        ones = np.ones_like(above)
        gains = ones.astype(np.float64) if gain is None else gain
        return RelevantGroups(query, above, tied, ones, before, gains, n_relevant, ideal, n_gallery)
    new = np.ones(len(query), bool)
    new[1:] = (above[1:] != above[:-1]) | (query[1:] != query[:-1])
    start = np.flatnonzero(new)
    relevant = np.diff(start, append=len(query))
    if ties in ("worst", "best"):
        at = np.arange(len(query))
        if ties == "worst":
            position = above + tied - (np.repeat(start + relevant, relevant) - at)
        else:
            position = above + (at - np.repeat(start, relevant))
        ones = np.ones_like(above)
        gains = ones.astype(np.float64) if gain is None else gain
        return RelevantGroups(
            query, position, ones, ones, before, gains, n_relevant, ideal, n_gallery
        )
    gains = relevant.astype(np.float64) if gain is None else np.add.reduceat(gain, start)
    return RelevantGroups(
        query[start], above[start], tied[start], relevant, before[start], gains, n_relevant,
        ideal, n_gallery,
    )  # fmt: skip


def gains_of(grades: Floats) -> Floats:
    """Return 2^grade - 1; raise if a sum of such gains might not be finite."""
    if grades.max(initial=0) > _LARGEST_GRADE:
        raise ValueError(
            f"grades must be at most {_LARGEST_GRADE}, got {grades.max():g}; their gains are "
            "2^grade - 1"
        )
    gains: Floats = np.exp2(grades) - 1.0
    return gains


def _join(parts: list[NDArray[Any]], dtype: type) -> NDArray[Any]:
    return np.concatenate(parts) if parts else np.empty(0, dtype)


def _count_above_and_tied(
    row: NDArray[Any], values: NDArray[Any], buffer: NDArray[Any]
) -> tuple[Ints, Ints]:
    """Count the items of `row` above, and tied with, each of the descending `values`."""
    if len(values) <= _FEW:
        above = np.array([np.count_nonzero(row > v) for v in values], np.int64)
        return above, np.array([np.count_nonzero(row == v) for v in values], np.int64)
    np.copyto(buffer, row)
    buffer.sort()
    ascending = values[::-1]
    left = buffer.searchsorted(ascending)
    # Most values are not tied with others, so the second search is only for those that are.
    right = left + 1
    tied = np.flatnonzero(buffer[np.minimum(right, len(row) - 1)] == ascending)
    right[tied] = buffer.searchsorted(ascending[tied], side="right")
    return (len(row) - right)[::-1], (right - left)[::-1]


def _stable_positions(
    row: NDArray[Any], columns: NDArray[np.intp], values: NDArray[Any], above: Ints
) -> tuple[Ints, Ints]:
    """Count the items ranked before each of `columns` if ties keep the order of the gallery.

    Returns these counts and the sizes of the groups, which are all 1.
    """
    if len(columns) <= _FEW:
        earlier = [np.count_nonzero(row[:c] == v) for c, v in zip(columns, values, strict=True)]
        return above + np.array(earlier, np.int64), np.ones_like(above)
    position = np.empty(len(row), np.int64)
    position[np.argsort(-row, kind="stable")] = np.arange(len(row))
    return position[columns], np.ones_like(above)


def all_tied_groups(rows: Iterable[Row], n_gallery: int, graded: bool) -> RelevantGroups:
    """Return the groups of a constant scorer, for which the whole gallery is tied."""
    found = list(rows)
    n_relevant = np.array([len(columns) for columns, _ in found], np.int64)
    query = np.flatnonzero(n_relevant)
    relevant = n_relevant[query]
    ideal = None
    gain = relevant.astype(np.float64)
    if graded:
        every = gains_of(_join([grade for _, grade in found if grade is not None], np.float64))
        gains = np.split(every, np.cumsum(relevant)[:-1])
        gain = np.array([g.sum() for g in gains])
        ideal = _join([np.sort(g)[::-1] for g in gains], np.float64)
    zeros = np.zeros_like(query)
    return RelevantGroups(
        query, zeros, np.full_like(query, n_gallery), relevant, zeros, gain, n_relevant, ideal,
        n_gallery,
    )  # fmt: skip


# ---------------------------------------------------------------- the measures


@lru_cache(maxsize=8)
def _prefix_sums(n: int, what: str) -> Floats:
    """Sum 1/rank or 1/log2(1 + rank) over the first 0, 1, ..., n ranks."""
    rank = np.arange(1, n + 1, dtype=np.float64)
    table = np.zeros(n + 1)
    np.cumsum(1.0 / rank if what == "harmonic" else 1.0 / np.log2(1.0 + rank), out=table[1:])
    table.flags.writeable = False
    return table


def measure_queries(measure: Measure, groups: RelevantGroups) -> Floats:
    """Compute a measure for each query of a block; NaN for queries without a relevant item.

    Parameters
    ----------
    measure : Measure
        Measure to compute.
    groups : RelevantGroups
        Positions of the relevant items in the ranking.

    Returns
    -------
    ndarray of shape (b,), float64

    Raises
    ------
    NotImplementedError
        If the values of its kind are not computed here.
    """
    if measure.kind not in VALUES:
        raise NotImplementedError(
            f"{measure.name}: no function computes its values; add one to VALUES in {__name__}"
        )
    return VALUES[measure.kind](groups, measure)


def _of_first(groups: RelevantGroups, value: Callable[[Ints, Ints, Ints], Floats]) -> Floats:
    """Return a function of above, tied and relevant of the best group of each query."""
    first = groups.before == 0
    out = np.full(len(groups.n_relevant), np.nan)
    out[groups.query[first]] = value(
        groups.above[first], groups.tied[first], groups.relevant[first]
    )
    return out


def _recall(groups: RelevantGroups, measure: Measure) -> Floats:
    k = groups.cutoff(measure)
    if measure.variant == "fraction":
        return groups.divide(_hits(groups, k), groups.n_relevant)
    if measure.variant == "twowaynet":  # ranks from 0 up to k
        k += 1
    return _of_first(groups, partial(_success, k=k))


def _precision(groups: RelevantGroups, measure: Measure) -> Floats:
    k = groups.cutoff(measure)
    return groups.divide(_hits(groups, k), groups.n_relevant if measure.at_r else k)


def _reciprocal(groups: RelevantGroups, measure: Measure) -> Floats:
    return _of_first(groups, _reciprocal_rank)


def _rank(groups: RelevantGroups, measure: Measure) -> Floats:
    return _of_first(groups, lambda above, tied, relevant: above + (tied + 1) / (relevant + 1))


def _tied(groups: RelevantGroups, measure: Measure) -> Floats:
    """Return 1 if a relevant item is tied with one that is not relevant, else 0."""
    mixed = groups.per_query(groups.tied > groups.relevant)
    return groups.divide((mixed > 0).astype(np.float64), 1.0)


def _hits(groups: RelevantGroups, k: Any) -> Floats:
    """Return the expected number of relevant items among the first k of each query."""
    inside = np.clip((k - groups.above) / groups.tied, 0.0, 1.0)
    return groups.per_query(groups.relevant * inside)


def _precision_sum(
    above: Ints, depth: Ints, tied: Ints, relevant: Ints, before: Ints, harmonic: Floats
) -> Floats:
    """Sum the expected precisions at relevant items among the first `depth` of a tie group.

    Position j of the group holds a relevant item with probability r/t, and then (j-1)(r-1)/(t-1)
    more are expected before it, so the sum over j is a difference of harmonic numbers.
    """
    slope = (relevant - 1) / np.maximum(tied - 1, 1)
    inverse_ranks = harmonic[above + depth] - harmonic[above]
    return (relevant / tied) * (
        (before + 1) * inverse_ranks + slope * (depth - (above + 1) * inverse_ranks)
    )


def _average_precision(groups: RelevantGroups, measure: Measure) -> Floats:
    k, variant = measure.k, measure.variant
    above, tied, relevant, before = groups.above, groups.tied, groups.relevant, groups.before
    cut = groups.cutoff(measure)
    harmonic = _prefix_sums(groups.n_gallery, "harmonic")
    contribution = (before + 1) / (above + 1)
    contribution[above >= cut] = 0.0
    several = np.flatnonzero(tied > 1)
    if len(several):
        depth = np.clip((cut - above)[several], 0, tied[several])
        contribution[several] = _precision_sum(
            above[several], depth, tied[several], relevant[several], before[several], harmonic
        )
    total = groups.per_query(contribution)
    if k is None or variant == "all":
        return groups.divide(total, groups.n_relevant)
    if variant == "min":
        return groups.divide(total, np.minimum(groups.n_relevant, k))
    inside = above + tied <= cut
    hits = groups.per_query(np.where(inside, relevant, 0))
    value = groups.divide(total, np.maximum(hits, 1.0))
    straddling = np.flatnonzero((above < cut) & ~inside)
    if len(straddling):
        certain = groups.per_query(np.where(inside, contribution, 0.0))[groups.query[straddling]]
        value[groups.query[straddling]] = _straddling_hits(
            above[straddling], cut - above[straddling], tied[straddling], relevant[straddling],
            before[straddling], certain, harmonic,
        )  # fmt: skip
    return value


def _straddling_hits(
    above: Ints, depth: Ints, tied: Ints, relevant: Ints, before: Ints, certain: Floats,
    harmonic: Floats,
) -> Floats:  # fmt: skip
    """Average the AP over the number of hits, for tie groups that extend across the cut-off.

    The number of hits is then random and has a hypergeometric distribution. Given this number,
    the hits are uniformly distributed over the part of the group above the cut-off.
    """
    from scipy.special import gammaln

    def log_choose(n: Any, k: Any) -> Floats:
        return gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0)

    least = np.maximum(0, depth - (tied - relevant))
    most = np.minimum(depth, relevant)
    everything = log_choose(tied, depth)
    value = np.zeros(len(above))
    for h in range(int(least.min()), int(most.max()) + 1):
        at = np.flatnonzero((least <= h) & (h <= most) & (before + h > 0))
        if not len(at):
            continue
        t, r, q = tied[at], relevant[at], depth[at]
        chance = np.exp(log_choose(r, h) + log_choose(t - r, q - h) - everything[at])
        inner = _precision_sum(above[at], q, q, np.full_like(q, h), before[at], harmonic)
        value[at] += chance * (certain[at] + inner) / (before[at] + h)
    return value


def _ndcg(groups: RelevantGroups, measure: Measure) -> Floats:
    n = groups.n_gallery
    cut = n if measure.k is None else min(measure.k, n)
    discount = _prefix_sums(n, "discount")
    inside = discount[np.minimum(groups.above + groups.tied, cut)]
    inside = inside - discount[np.minimum(groups.above, cut)]
    gained = groups.per_query(groups.gain * inside / groups.tied)
    if groups.ideal_gains is None:
        return groups.divide(gained, discount[np.minimum(groups.n_relevant, cut)])
    counts = groups.n_relevant
    rank = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    weight = np.where(rank < cut, np.diff(discount)[rank], 0.0)
    query = np.repeat(np.arange(len(counts)), counts)
    ideal = np.bincount(query, groups.ideal_gains * weight, minlength=len(counts))
    return groups.divide(gained, ideal)


def _success(above: Ints, tied: Ints, relevant: Ints, k: int) -> Floats:
    """Return the probability that a relevant item of the best group is at rank k or better."""
    depth = np.clip(k - above, 0, tied)
    few, many = np.minimum(relevant, depth), np.maximum(relevant, depth)
    miss = np.ones(len(above))
    # C(t-r, q) / C(t, q) is symmetric in r and q, so the product is over the smaller one.
    for i in range(int(few.max(initial=0))):
        at = np.flatnonzero((few > i) & (miss > 0))
        if not len(at):
            break
        miss[at] *= np.maximum(tied[at] - many[at] - i, 0) / (tied[at] - i)
    return np.where(depth > 0, 1.0 - miss, 0.0)


def _reciprocal_rank(above: Ints, tied: Ints, relevant: Ints) -> Floats:
    """Return 1/rank of the first relevant item, averaged over the orders of its tie group."""
    value = 1.0 / (above + 1)
    several = np.flatnonzero(tied > 1)
    if not len(several):
        return value
    cases = np.stack([above, tied, relevant], axis=1)[several]
    unique, inverse = np.unique(cases, axis=0, return_inverse=True)
    means = np.empty(len(unique))
    for i, (g, t, r) in enumerate(unique):
        # P(first is at j) = r/t * prod over i < j of (t-i-r+1)/(t-i).
        j = np.arange(1, t - r + 1)
        chance = (r / t) * np.concatenate([[1.0], np.cumprod((t - j - r + 1) / (t - j))])
        means[i] = chance @ (1.0 / (g + np.arange(1, t - r + 2)))
    value[several] = means[inverse.ravel()]
    return value


#: Functions that compute the values of each kind in `crossfit.metrics.names`.
VALUES: dict[str, Callable[[RelevantGroups, Measure], Floats]] = {
    "map": _average_precision,
    "r": _recall,
    "p": _precision,
    "ndcg": _ndcg,
    "mrr": _reciprocal,
    "meanr": _rank,
    "medr": _rank,
    "tied": _tied,
}
