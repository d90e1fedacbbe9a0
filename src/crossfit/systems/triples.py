"""Values of pairs of a query and an item: the scores of a run, or the grades of judgements."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit._arguments import shown
from crossfit.datasets.opening import open_table

__all__ = ["Triples", "as_triples", "codes_of"]

#: Names of the columns in tables, of which the first that a table has is taken.
QUERIES = ("query", "query_id", "query-id", "qid", "q_id", "queryid")
ITEMS = (
    "item", "item_id", "doc_id", "docno", "doc", "docid", "corpus_id", "corpus-id", "document",
)  # fmt: skip
VALUES = ("score", "grade", "relevance", "label", "rel", "similarity")


@dataclass(frozen=True, eq=False, repr=False)
class Triples:
    """Values of pairs of a query and an item, in the order in which they were given.

    Parameters
    ----------
    query, item : ndarray of shape (n,), intp
        Numbers of the query and of the item of each pair.
    value : ndarray of shape (n,), float64
        Scores, of which higher ones are better, or grades, of which those above 0 are relevant.
    query_ids, item_ids : list of str
        Identifiers by number. Every query has a pair.
    name : str, default="the run"
        Name in messages.
    groups : mapping of str to str, optional
        Groups of queries that are resampled together, by identifier of the query.

    Raises
    ------
    ValueError
        If there is no pair, a value is NaN, or a pair occurs twice with different values.

    See Also
    --------
    evaluate_run : Evaluate a run by judgements.

    Examples
    --------
    >>> run = Triples.of({"q1": {"a": 0.9, "b": 0.3}})
    >>> run.query_ids, run.item_ids, run.value.tolist()
    (['q1'], ['a', 'b'], [0.9, 0.3])
    """

    query: NDArray[np.intp]
    item: NDArray[np.intp]
    value: NDArray[np.float64]
    query_ids: list[str]
    item_ids: list[str]
    name: str = "the run"
    groups: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        if not len(self.query):
            raise ValueError(f"{self.name} is empty; it must have at least one item for a query")
        wrong = np.flatnonzero(np.isnan(self.value))
        if len(wrong):
            raise ValueError(
                f"{self.name}: the value of {self._pair(int(wrong[0]))} is NaN; values must be "
                "numbers"
            )
        key = self.query * np.int64(len(self.item_ids)) + self.item
        found = np.sort(key)
        if (found[1:] == found[:-1]).any():
            order = np.argsort(key, kind="stable")
            same = np.flatnonzero(key[order][1:] == key[order][:-1])
            raise ValueError(
                f"{self.name}: {self._pair(int(order[same[0] + 1]))} occurs twice, as do "
                f"{len(same)} pairs in all; each item must be ranked or judged once per query"
            )

    def _pair(self, at: int) -> str:
        query, item = self.query_ids[self.query[at]], self.item_ids[self.item[at]]
        return f"item {shown(item)} of query {shown(query)}"

    def __len__(self) -> int:
        return len(self.query)

    def __repr__(self) -> str:
        return (
            f"Triples({len(self)} pairs of {len(self.query_ids)} queries and {len(self.item_ids)} "
            "items)"
        )

    @classmethod
    def of(cls, source: Any, name: str = "the run") -> Triples:
        """Build them from the objects of other libraries.

        Parameters
        ----------
        source : Triples, mapping, frame, or triple of sequences
            A mapping of queries to a mapping of items to values, to a list of items with the best
            first, to a set of relevant items, or to a list of (item, score) or of mappings with
            ``corpus_id`` and ``score``. Or a table with a column for queries (``query``,
            ``query_id``, ``qid`` ...), for items (``item``, ``doc_id``, ``docno``, ``corpus_id``
            ...) and, optionally, for values (``score``, ``grade``, ``relevance``, ``label`` ...),
            as in PyTerrier and ir-measures.  Or the three sequences themselves.
        name : str, default="the run"
            Name in messages.

        Returns
        -------
        Triples

        Raises
        ------
        ValueError, TypeError
            If the object is of another form, or a value is missing or repeated.
        """
        return as_triples(source, name)

    @classmethod
    def from_columns(
        cls,
        queries: Iterable[Any],
        items: Iterable[Any],
        values: Any,
        name: str = "the run",
        groups: Mapping[str, str] | None = None,
    ) -> Triples:
        """Build them from columns.

        Parameters
        ----------
        queries, items : iterable of str or int
            Identifiers of the query and of the item of each pair.
        values : array-like of shape (n,)
            Scores or grades.
        name : str, default="the run"
            Name in messages.
        groups : mapping of str to str, optional
            Groups of queries, by identifier.

        Returns
        -------
        Triples
        """
        query, query_ids = codes_of(queries)
        item, item_ids = codes_of(items)
        value = np.asarray(values, np.float64)
        if not len(query) == len(item) == len(value):
            raise ValueError(
                f"{name}: queries, items and values must have one entry per pair, got "
                f"{len(query)}, {len(item)} and {len(value)}"
            )
        return cls(query, item, value, query_ids, item_ids, name, groups)


def codes_of(ids: Iterable[Any]) -> tuple[NDArray[np.intp], list[str]]:
    """Return the number of each identifier in the order of first appearance, and the identifiers.

    Identifiers are strings; integers, also as floats of a table, are written as such.
    """
    given = ids if isinstance(ids, list) else list(ids)
    known = {each: number for number, each in enumerate(dict.fromkeys(given))}
    numbers = np.fromiter(map(known.__getitem__, given), np.intp, len(given))
    names = [plain_id(each) for each in known]
    if len(set(names)) == len(names):
        return numbers, names
    again, names = codes_of(names)  # 1 and "1" are one identifier
    return again[numbers], names


def plain_id(given: Any) -> str:
    """Return an identifier as a string."""
    if isinstance(given, str):
        return str(given)
    if isinstance(given, Real) and not isinstance(given, bool) and float(given).is_integer():
        return str(int(float(given)) if isinstance(given, float | np.floating) else given)
    raise TypeError(f"identifiers must be strings or integers, got {shown(given)}")


def as_triples(source: Any, name: str) -> Triples:
    """Return the triples of any form that `Triples.of` takes."""
    if isinstance(source, Triples):
        return source
    if isinstance(source, Mapping) and not _is_table(source):
        return _of_mapping(source, name)
    if isinstance(source, tuple) and len(source) == 3:
        return Triples.from_columns(*source, name=name)
    if isinstance(source, list) and source and all(hasattr(row, "query_id") for row in source):
        value = "score" if hasattr(source[0], "score") else "relevance"  # those of ir-measures
        return Triples.from_columns(
            [row.query_id for row in source],
            [row.doc_id for row in source],
            [getattr(row, value) for row in source],
            name,
        )
    return of_table(open_table(source), name)


def _is_table(source: Mapping[Any, Any]) -> bool:
    names = {str(key).casefold() for key in source}
    return bool(names & set(QUERIES)) and bool(names & set(ITEMS))


def _of_mapping(source: Mapping[Any, Any], name: str) -> Triples:
    queries: list[Any] = []
    counts: list[int] = []
    items: list[Any] = []
    values: list[Any] = []
    for query, found in source.items():
        own, scores = _listed(found, query, name)
        if own:
            queries.append(query)
            counts.append(len(own))
        items += own
        values += scores
    try:
        numbers = np.array(values, np.float64)
    except (TypeError, ValueError):
        wrong = next(v for v in values if not isinstance(v, Real))
        raise ValueError(f"{name}: values must be numbers, got {shown(wrong)}") from None
    query, query_ids = codes_of(queries)
    item, item_ids = codes_of(items)
    return Triples(np.repeat(query, counts), item, numbers, query_ids, item_ids, name)


def _listed(found: Any, query: Any, name: str) -> tuple[list[Any], list[Any]]:
    if isinstance(found, Mapping):
        return list(found), list(found.values())
    if isinstance(found, set | frozenset):
        return sorted(found, key=str), [1.0] * len(found)
    if isinstance(found, Sequence) and not isinstance(found, str):
        if all(isinstance(part, Mapping) for part in found):
            pairs = [
                (next((p[k] for k in ITEMS if k in p), None), p.get("score", 1.0)) for p in found
            ]
            if all(item is not None for item, _ in pairs):
                return [item for item, _ in pairs], [score for _, score in pairs]
        elif all(isinstance(part, str | int) for part in found):
            return list(found), list(range(len(found), 0, -1))
        elif all(isinstance(part, list | tuple) and len(part) == 2 for part in found):
            return [part[0] for part in found], [part[1] for part in found]
    raise ValueError(
        f"{name}: query {shown(query)} has {shown(found)}; give a mapping of items to scores, or a "
        "list of items with the best first"
    )


def of_table(table: Any, name: str) -> Triples:
    """Return the triples of an opened table; without a column of values all are 1."""
    known = {each.strip().casefold(): each for each in table.names}
    found = [next((known[n] for n in names if n in known), None)
             for names in (QUERIES, ITEMS, VALUES, ("group",), ("rank",))]  # fmt: skip
    query, item, value, group, rank = found
    if query is None or item is None:
        lacking, names = ("queries", QUERIES) if query is None else ("items", ITEMS)
        raise ValueError(
            f"{name} has no column of {lacking}; name one of its columns "
            f"({', '.join(table.names)}) {' or '.join(names[:4])}"
        )
    data = table.read([each for each in dict.fromkeys(found) if each is not None])
    n = len(data[query])
    if value is not None:
        values = _numbers(data[value], value, name)
    elif rank is not None:
        values = -_numbers(data[rank], rank, name)
    else:
        values = np.ones(n)
    groups = None
    if group is not None:
        groups = {plain_id(q): plain_id(g) for q, g in zip(data[query], data[group], strict=True)}
    return Triples.from_columns(data[query].tolist(), data[item].tolist(), values, name, groups)


def _numbers(column: NDArray[Any], head: str, name: str) -> NDArray[np.float64]:
    try:
        return np.array(column.tolist(), dtype=np.float64)
    except (TypeError, ValueError):
        for row, given in enumerate(column.tolist(), 1):
            try:
                float(given)
            except (TypeError, ValueError):
                raise ValueError(
                    f"{name}: column {head!r}, row {row}: {shown(given)} is not a number"
                ) from None
        return np.array([float(given) for given in column.tolist()])
