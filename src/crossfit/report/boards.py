"""Leaderboards of runs: cells on the same queries are compared, and seeds share a row."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crossfit.datasets.loading import with_defaults
from crossfit.experiment.keys import canonical
from crossfit.experiment.records import CellRecord, RunRecord
from crossfit.experiment.store_files import StoreError
from crossfit.metrics import (
    Direction,
    Evaluation,
    Repeats,
    parse_metric,
)
from crossfit.metrics.confidence import CONFIDENCES
from crossfit.metrics.directions import spellings
from crossfit.metrics.evaluation import PerQuery
from crossfit.report.format import listed, metric_words, short
from crossfit.report.leaderboard import Board, Quoted, Row

__all__ = ["Group", "Method", "Methods", "board_of", "boards", "data_of", "grouped"]


@dataclass(frozen=True)
class Method:
    """A method whose cells become a row of a leaderboard.

    Parameters
    ----------
    cells : list of CellRecord
        Cells that differ only in their seed.
    spec : mapping
        Entry of the method in an experiment.
    names : set of (str, str)
        Names of the runs that include the method, with its label in each.
    """

    cells: list[CellRecord]
    spec: Mapping[str, Any]
    names: set[tuple[str, str]]


Methods = dict[str, Method]


_RunCells = list[tuple[RunRecord, CellRecord]]


#: The contents of a leaderboard: its title, its methods, and the runs that include them.
Group = tuple[str, Methods, list[RunRecord]]


def boards(records: Sequence[RunRecord]) -> list[Board]:
    """Return the leaderboards of runs, one for each set of test queries.

    Parameters
    ----------
    records : sequence of RunRecord
        The runs.
    """
    return [board_of(*group) for group in grouped(records)]


def grouped(records: Sequence[RunRecord]) -> list[Group]:
    """Group the done cells by their test queries, one group per leaderboard, and by method."""
    kinds: dict[str, dict[str, _RunCells]] = {}
    for record in dict.fromkeys(records):
        for cell in record.done:
            protocol = cell.cell.get("protocol") or {}
            kind = canonical([data_of(cell), protocol.get("relevance"), protocol.get("ties")])
            method = canonical({**cell.cell, "seed": None})
            kinds.setdefault(kind, {}).setdefault(method, []).append((record, cell))
    found = []
    for methods in kinds.values():
        held = [pair for pairs in methods.values() for pair in pairs]
        found.append((held[0][1].dataset, _named(methods), list(dict.fromkeys(r for r, _ in held))))
    # Runs on the same data set may differ in the subset or the relevance.
    clashes = Counter(title for title, _, _ in found)
    return [
        (title if clashes[title] == 1 else f"{title} ({_names(runs)})", methods, runs)
        for title, methods, runs in found
    ]


def data_of(cell: CellRecord) -> dict[str, Any]:
    """Return the data of a cell, with options that were left out: those given may be the same."""
    about = dict(cell.cell.get("dataset") or {})
    return about | {"params": with_defaults(about.get("name", ""), about.get("params") or {})}


def _names(runs: Sequence[RunRecord]) -> str:
    """Return the names of runs, or of the first two of many."""
    names = list(dict.fromkeys(run.name for run in runs))
    return listed(names if len(names) <= 3 else [*names[:2], f"{len(names) - 2} more"])


def _named(methods: Mapping[str, _RunCells]) -> Methods:
    """Return methods by label; the name of the run is added if different methods have one label.

    A method with several labels in a run gets a row for each of them. A method that several runs
    include gets a single row.
    """
    rows = []
    for held in methods.values():
        labels: dict[RunRecord, dict[str, None]] = {}
        for run, cell in held:
            labels.setdefault(run, {})[cell.label] = None
        namer = max(labels, key=lambda run: len(labels[run]))
        rows += [(label, namer, held) for label in labels[namer]]
    clashes = Counter(label for label, _, _ in rows)
    found = {}
    for label, namer, held in rows:
        cells = {cell.cell.get("seed"): cell for _, cell in reversed(held)}
        own = [
            (run, cell.label) for run, cell in held if cell.label == label or run.name != namer.name
        ]
        specs = [
            # Published figures are for the data of the experiment, not for the user's own.
            method if run.data is None else {**method, "published": {}}
            for run, name in own
            for method in run.spec.get("methods", ())
            if method["label"] == name
        ]
        found[label if clashes[label] == 1 else f"{label} ({namer.name})"] = Method(
            sorted(cells.values(), key=lambda cell: cell.seed),
            next((each for each in specs if each.get("published")), specs[0] if specs else {}),
            {(run.name, name) for run, name in own},
        )
    return found


def board_of(title: str, methods: Methods, records: Sequence[RunRecord]) -> Board:
    """Build the leaderboard of a group, with the directions and metrics that all cells have."""
    cells = [cell for method in methods.values() for cell in method.cells]
    first = cells[0]
    # Methods may use different views of the same data.
    directions = [each for each in first.directions if all(each in cell.results for cell in cells)]
    metrics = [
        metric
        for metric in dict.fromkeys(metric for record in records for metric in record.metrics)
        if all(metric in cell.results[name] for cell in cells for name in directions)
    ]
    # The first measure is that which the runs list first on average, in whatever order they come.
    metrics.sort(key=lambda metric: sum(_place(record, metric) for record in records))
    if not directions or not metrics:
        raise StoreError(
            f"{', '.join(record.name for record in records)} have no "
            f"{'metric' if directions else 'direction'} in common on {title}; report them "
            "one by one"
        )
    several = len({cell.features for cell in cells}) > 1
    rows = [_row(label, method, metrics, directions, several) for label, method in methods.items()]
    chance = {
        (direction, parse_metric(metric).name): value
        for direction, by_metric in first.chance.items()
        for metric, value in by_metric.items()
        if value is not None
    }
    about, baseline = about_queries(first, metrics), None
    left_out = {each.label: None for cell in cells for each in cell.directions
                if each not in directions}  # fmt: skip
    if left_out:
        about += f" Left out, because not all methods have it: {', '.join(left_out)}."
    named = next(((run.name, run.spec["baseline"]) for run in records
                  if run.spec.get("baseline")), None)  # fmt: skip
    if named is not None:
        baseline = next((label for label, each in methods.items() if named in each.names), None)
        if baseline is None:
            about += (
                f" The baseline, {named[1]}, has no result here, so methods are compared with "
                "the best one."
            )
    known = {name: label for label, each in methods.items() for name in each.names}
    planned = [
        (known[record.name, first], known[record.name, second])
        for record in records
        for first, second in record.spec.get("comparisons") or ()
        if {(record.name, first), (record.name, second)} <= known.keys()
    ]
    quoted = _quoted(records, known.keys(), first)
    return Board(title, rows, metrics, about, chance, baseline, planned, quoted)


def _place(record: RunRecord, metric: str) -> int:
    return record.metrics.index(metric) if metric in record.metrics else len(record.metrics)


def _quoted(
    records: Sequence[RunRecord], done: Collection[tuple[str, str]], cell: CellRecord
) -> list[Quoted]:
    """Return the published figures of the runs for which there is no result on these queries."""
    found: dict[Any, Quoted] = {}
    for run in records:
        if run.data is not None:  # published figures are for the data of the experiment
            continue
        reasons = {each.label: each.problem for each in run.cells if each.status != "done"}
        only = run.spec.get("published_only") or ()
        for row in (*run.spec["methods"], *only):
            label, figures = row["label"], row.get("published")
            if figures and (run.name, label) not in done:
                reason = row.get("note") if row in only else reasons.get(label)
                note = f"not computed: {reason}" if reason else "not computed"
                found.setdefault(
                    canonical([label, figures]), Quoted(label, _published(figures, cell), note)
                )
    return list(found.values())


def _row(
    label: str,
    method: Method,
    metrics: Sequence[str],
    directions: Sequence[Direction],
    several: bool,
) -> Row:
    cells, spec = method.cells, method.spec
    first = cells[0]
    given = {**_set_parameters(spec), **first.chosen}
    settings = ", ".join(
        [*_members(spec), *(f"{name}={short(value)}" for name, value in given.items())]
    )
    tuned = "; tuned" if first.chosen else ""
    detail = "; ".join(part for part in (first.features if several else "", settings) if part)
    keyed = first.cell.get("method", {})
    return Row(
        label,
        Repeats([_evaluation(cell, metrics, directions) for cell in cells]),
        detail + tuned,
        tuple(cell.seed for cell in cells),
        keyed.get("name", ""),
        {**keyed.get("params", {}), **first.chosen, "features": first.cell.get("features"),
         "similarity": keyed.get("similarity"), "members": keyed.get("members")},
        _published(spec.get("published") or {}, first),
        mean_curves(cells, metrics[0]),
        {
            **{name: _mean(cell.timing.get(name) for cell in cells) for name in ("fit", "score")},
            "tune": _mean(cell.tuning.get("seconds") for cell in cells),
            "peak": _mean(cell.memory.get("peak_rss_mib") for cell in cells),
        },
        {name: _mean(cell.size.get(name) for cell in cells)
         for name in ("parameters", "dimensions")},
        _by_direction([cell.hubness for cell in cells], ("skewness", "max", "never")),
        _by_direction([cell.abstention for cell in cells], CONFIDENCES),
        {cell.seed: cell.history() for cell in cells},
        first.trials(),
        spec.get("note", ""),
    )  # fmt: skip


def _members(spec: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the methods that a method holds: ``cca``, or ``first = cca`` under another name."""
    for name, member in (spec.get("members") or {}).items():
        method = member["method"].rpartition(":")[2]
        similarity = member.get("similarity")
        words = method if f"{prefix}{name}" == method else f"{prefix}{name} = {method}"
        yield words + (f" with {short(similarity)}" if similarity else "")
        yield from _members(member, f"{prefix}{name}__")


def _set_parameters(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a method, and those of its members under their names."""
    found = dict(spec.get("params") or {})
    for name, member in (spec.get("members") or {}).items():
        found |= {f"{name}__{key}": value for key, value in _set_parameters(member).items()}
    return found


def _by_direction(
    found: Sequence[Mapping[str, Mapping[str, Any]]], names: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Average facts by direction over the seeds."""
    return {
        direction: {
            name: _mean(each.get(direction, {}).get(name) for each in found) for name in names
        }
        for direction in found[0]
    }


def mean_curves(cells: Sequence[CellRecord], main: str) -> dict[str, dict[str, Any]]:
    """Average curves over the seeds; precision only if its relevance is that of the main metric."""
    first = cells[0]
    found: dict[str, dict[str, Any]] = {}
    for direction, kinds in first.curves.items():
        for kind, (x, _) in kinds.items():
            relevance = first.relevant.get(f"{kind} curve")
            if kind == "pr" and relevance not in (None, first.relevant.get(main)):
                continue
            y = np.mean([cell.curves[direction][kind][1] for cell in cells], axis=0)
            found.setdefault(direction, {})[kind] = (x, y.tolist())
    return found


def _evaluation(
    cell: CellRecord, metrics: Sequence[str], directions: Sequence[Direction]
) -> Evaluation:
    """Return the evaluation of a cell, from its stored values."""
    arrays = cell.arrays()
    try:
        values = {
            (direction, metric): np.asarray(arrays[f"{direction}|{metric}"], np.float64)
            for direction in directions
            for metric in metrics
        }
        raw = {direction: arrays[f"{direction}|groups"] for direction in directions}
    except KeyError as error:
        raise StoreError(f"{cell.folder}: arrays.npz has no {error}; run the cell again") from None
    # Groups have the same numbers in all directions, so that these are resampled together.
    known = np.unique(np.concatenate(list(raw.values())))
    groups: dict[str, Any] = {each: np.searchsorted(known, codes) for each, codes in raw.items()}
    ties = (cell.cell.get("protocol") or {}).get("ties", "expected")
    return Evaluation(PerQuery(values), tuple(directions), tuple(metrics), ties, 0.95, 0, groups)


def _published(
    figures: Mapping[str, Mapping[str, float]], cell: CellRecord
) -> dict[tuple[str | None, str], float]:
    known = spellings(cell.directions)
    return {
        (None if direction == "mean" else known.get(direction, direction),
         parse_metric(metric).name): float(value)
        for metric, by_direction in figures.items()
        for direction, value in by_direction.items()
    }  # fmt: skip


def _mean(values: Iterable[Any]) -> float:
    kept = [float(value) for value in values if value is not None]
    return float(np.mean(kept)) if kept else math.nan


def about_queries(cell: CellRecord, metrics: Sequence[str]) -> str:
    """Return sentences on the sizes of the splits and on the relevance of a cell."""
    keyed = cell.cell.get("dataset", {})
    split = (keyed.get("splits") or {}).get("test") or "test"
    sizes = ", ".join(f"{n} {view} items" for view, n in (cell.n.get("test") or {}).items())
    words = [f"Evaluated on the split “{split}”: {sizes}; trained on {cell.n.get('train')} pairs."]
    relevant = cell.relevant
    by_label = [metric_words(metric) for metric in metrics if relevant.get(metric) == "label"]
    by_pair = [metric_words(metric) for metric in metrics if relevant.get(metric) == "pair"]
    if by_label:
        words.append(f"{', '.join(by_label)}: an item is relevant if it shares the query's label.")
    if by_pair:
        words.append(f"{', '.join(by_pair)}: only the query's own pair is relevant.")
    if by_label:
        words.append("For a search that should find the query's own item, compare recall by pair.")
    for direction in cell.directions:
        found = cell.results[direction]
        whole = (cell.n.get("test") or {}).get(direction.query, 0)
        few: dict[int, list[str]] = {}
        for metric in metrics:
            few.setdefault(found[metric].get("n", whole), []).append(metric_words(metric))
        words += [
            f"{', '.join(names)}, {direction.label}: over the {n} of {whole} queries that have "
            "a relevant item."
            for n, names in few.items()
            if n < whole
        ]
    return " ".join(words)
