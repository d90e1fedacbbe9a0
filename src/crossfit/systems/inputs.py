"""Evaluation of files: which form a system has is found by its name, and judgements are shared."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crossfit.datasets.opening import open_table
from crossfit.datasets.record import Split
from crossfit.hub import is_address
from crossfit.metrics.directions import Direction
from crossfit.systems.evaluation import SystemEvaluation, evaluate_matrix, evaluate_run, joined
from crossfit.systems.files import (
    ARRAYS,
    Matrix,
    read_matrix,
    read_qrels,
    read_run,
    write_qrels,
    write_run,
)
from crossfit.systems.triples import QUERIES, Triples, plain_id
from crossfit.winners import Winner, evaluate_winner, is_winner, read_winner

__all__ = ["Protocol", "System", "evaluate_systems", "open_system", "place_of", "read_groups",
           "write_systems"]  # fmt: skip


@dataclass(frozen=True, eq=False)
class System:
    """The output of a system: ranked lists by direction, or a matrix of scores.

    Parameters
    ----------
    label : str
        Label in the leaderboard.
    runs : mapping of direction to Triples
        Ranked lists; the direction is None for a file.
    matrix : Matrix, optional
        Scores, in place of the lists.
    folder : Path, optional
        Folder of the lists, which may have their judgements as well.
    winner : Winner, optional
        A fitted method, in place of its output.
    """

    label: str
    runs: Mapping[Direction | None, Triples]
    matrix: Matrix | None = None
    folder: Path | None = None
    winner: Winner | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Protocol:
    """Arguments of `evaluate_run` that are the same for all systems, and the pairs of methods."""

    metrics: Sequence[str]
    qrels: Triples | None = None
    captions: int | None = None
    names: tuple[str, str] = ("query", "item")
    groups: Mapping[str, Any] | None = None
    ties: str = "expected"
    random_state: int = 0
    gallery_size: int | None = None
    at_least: float | None = None
    gain: str = "exponential"
    missing: str = "zero"
    ignore_identical: bool = False
    pairs: Split | None = None
    revision: str | None = None


def place_of(argument: str) -> str:
    """Return the path of ``PATH`` or ``LABEL=PATH`` of a command line."""
    _, equals, tail = argument.partition("=")
    return tail if equals and not os.path.exists(argument) else argument


def open_system(
    argument: str,
    *,
    similarity: str = "cosine",
    query_ids: list[str] | None = None,
    item_ids: list[str] | None = None,
    dtype: str | None = None,
) -> System:
    """Open ``PATH``, ``LABEL=PATH`` or ``LABEL=QUERIES,ITEMS`` of a command line."""
    place = place_of(argument)
    label = "" if place == argument else argument.partition("=")[0]
    if is_address(place):
        winner = read_winner(place)
        return System(label or winner.name, {}, winner=winner)
    parts = [place] if os.path.exists(place) else place.split(",")
    paths = [Path(part) for part in parts]
    for path, part in zip(paths, parts, strict=True):
        if not Path(part.partition("::")[0]).exists():
            raise FileNotFoundError(f"there is no file {str(path)!r}")
    label = label or paths[0].name.removesuffix(".gz").rpartition(".")[0] or paths[0].name
    if len(paths) > 2:
        raise ValueError(
            f"{argument!r} has {len(paths)} files; give one, or two of embeddings, QUERIES,ITEMS"
        )
    if paths[0].is_dir():
        return _of_folder(label, paths[0])
    if len(paths) == 2 or parts[0].partition("::")[0].lower().endswith(ARRAYS):
        matrix = read_matrix(
            parts, similarity=similarity, query_ids=query_ids, item_ids=item_ids, dtype=dtype
        )
        return System(label, {}, matrix)
    return System(label, {None: read_run(paths[0])})


def _of_folder(label: str, folder: Path) -> System:
    files = sorted(folder.glob("*.run"))
    if not files:
        if is_winner(folder):
            return System(label, {}, winner=read_winner(folder))
        raise ValueError(
            f"{str(folder)!r} has no file that ends with .run; name a file, or a folder with one "
            "run per direction, such as image2text.run"
        )
    runs: dict[Direction | None, Triples] = {}
    for file in files:
        query, two, gallery = file.name.removesuffix(".run").partition("2")
        if not (two and query and gallery):
            raise ValueError(
                f"{file.name} in {str(folder)!r} is not named by a direction such as image2text.run"
            )
        runs[Direction(query, gallery)] = read_run(file)
    return System(label, runs, folder=folder)


def evaluate_systems(systems: Sequence[System], protocol: Protocol) -> dict[str, SystemEvaluation]:
    """Evaluate systems by one protocol, on the same queries and the same gallery."""
    twice = {s.label for s in systems if sum(s.label == other.label for other in systems) > 1}
    if twice:
        raise ValueError(f"label {min(twice)!r} is that of several systems; name them LABEL=PATH")
    return {system.label: _evaluated(system, systems, protocol) for system in systems}


def _evaluated(system: System, systems: Sequence[System], by: Protocol) -> SystemEvaluation:
    common: dict[str, Any] = {
        "ties": by.ties, "random_state": by.random_state, "at_least": by.at_least, "gain": by.gain,
        "captions": by.captions,
    }  # fmt: skip
    if system.winner is not None:
        if by.pairs is None:
            raise ValueError(
                f"{system.label} is a fitted method, which needs pairs to be evaluated on: "
                "crossfit evaluate WINNER PAIRS"
            )
        return evaluate_winner(
            system.winner, by.pairs, by.metrics, ties=by.ties, random_state=by.random_state,
            revision=by.revision,
        )  # fmt: skip
    if system.matrix is not None and by.qrels is None:
        given = system.matrix
        return evaluate_matrix(given.scores, metrics=by.metrics, names=by.names,
                               query_ids=given.query_ids, item_ids=given.item_ids,
                               **common)  # fmt: skip
    common |= {
        "groups": _numbered(system, by), "missing": by.missing,
        "ignore_identical": by.ignore_identical,
    }  # fmt: skip
    parts = []
    for direction in system.runs or (None,):
        qrels = by.qrels if direction is None else _beside(system, direction, by)
        if qrels is None:
            raise ValueError(
                f"{system.label} has ranked lists, which need judgements; give --qrels FILE"
            )
        run = _listed(system) if system.matrix is not None else system.runs[direction]
        size = by.gallery_size or _known(qrels, systems, direction)
        names = by.names if direction is None else (direction.query, direction.gallery)
        parts.append(evaluate_run(run, qrels, by.metrics, names=names, gallery_size=size, **common))
    return joined(parts)


def _beside(system: System, direction: Direction, by: Protocol) -> Triples:
    """Return the judgements of a direction from the folder of its run."""
    assert system.folder is not None
    if by.qrels is not None:
        return by.qrels
    found = sorted(system.folder.glob(f"{direction}*.qrels"))
    if len(found) != 1:
        number = "several files" if found else "no file"
        raise ValueError(
            f"{str(system.folder)!r} has {number} with judgements of {direction}; it must have "
            f"{direction}.qrels"
        )
    return read_qrels(found[0])


def _known(qrels: Triples, systems: Sequence[System], direction: Direction | None) -> int:
    """Return the number of items that have a judgement or a score of a system."""
    known = set(qrels.item_ids)
    for system in systems:
        if system.matrix is not None:
            known |= set(_names(system.matrix)[1])
        elif direction in system.runs:
            known |= set(system.runs[direction].item_ids)
    return len(known)


def _names(matrix: Matrix) -> tuple[list[str], list[str]]:
    n, m = matrix.scores.shape
    rows, columns = (
        [str(i) for i in range(size)] if given is None else given
        for given, size in ((matrix.query_ids, n), (matrix.item_ids, m))
    )
    for given, size, what in ((rows, n, "queries"), (columns, m, "items")):
        if len(given) != size:
            raise ValueError(
                f"there are {len(given)} identifiers of {what}, but {size} in the scores"
            )
    return rows, columns


def _listed(system: System) -> Triples:
    """Return a matrix of scores as ranked lists of all items."""
    assert system.matrix is not None
    rows, columns = _names(system.matrix)
    scores = np.asarray(system.matrix.scores)
    if scores.ndim != 2 or scores.dtype.kind not in "biuf":
        raise ValueError(f"{system.label}: scores must be (n, m) numbers, got {scores.shape}")
    query, item = np.divmod(np.arange(scores.size), scores.shape[1])
    return Triples(query, item, scores.astype(np.float64).ravel(), rows, columns, system.label)


def _numbered(system: System, by: Protocol) -> Mapping[str, Any] | None:
    """Return the groups of queries, as numbers that are the same in all directions."""
    groups = by.groups
    if groups is None and system.folder is not None and (system.folder / "groups.csv").exists():
        groups = read_groups(system.folder / "groups.csv")
    if groups is None and len(system.runs) < 2:
        return None
    if groups is None:  # every query of every direction by itself
        every = [query for d in system.runs if d for query in _beside(system, d, by).query_ids]
        return {query: number for number, query in enumerate(dict.fromkeys(every))}
    try:
        return {query: int(group) for query, group in groups.items()}
    except (TypeError, ValueError):
        numbers = {group: i for i, group in enumerate(dict.fromkeys(groups.values()))}
        return {query: numbers[group] for query, group in groups.items()}


def read_groups(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read the group of each query from a table with the columns ``query`` and ``group``."""
    table = open_table(Path(path))
    known = {name.strip().casefold(): name for name in table.names}
    query = next((known[name] for name in QUERIES if name in known), None)
    if query is None or "group" not in known:
        raise ValueError(
            f"{Path(path).name} must have the columns query and group; it has "
            f"{', '.join(table.names)}"
        )
    data = table.read([query, known["group"]])
    pairs = zip(data[query], data[known["group"]], strict=True)
    return {plain_id(one): plain_id(other) for one, other in pairs}


def write_systems(folder: Path, systems: Sequence[System], protocol: Protocol) -> list[Path]:
    """Write the runs and judgements as TREC files, in which equal scores remain equal."""
    written = []
    for system in systems:
        tag = "_".join(system.label.split())
        runs = dict(system.runs) if system.matrix is None else {None: _listed(system)}
        for direction, run in runs.items():
            path = folder / (f"{tag}.run" if direction is None else f"{tag}/{direction}.run")
            write_run(path, run, tag)
            written.append(path)
            if direction is not None:
                qrels = _beside(system, direction, protocol)
                write_qrels(path.with_suffix(".qrels"), qrels)
    shared = protocol.qrels if protocol.qrels is not None else _of_pairs(systems, protocol)
    if shared is not None:
        written.append(folder / "judgements.qrels")
        write_qrels(written[-1], shared)
    return written


def _of_pairs(systems: Sequence[System], protocol: Protocol) -> Triples | None:
    """Return the judgements of pairs, item j of which belongs to query j // captions."""
    matrix = next((s.matrix for s in systems if s.matrix is not None), None)
    if matrix is None:
        return None
    rows, columns = _names(matrix)
    at = np.arange(len(columns))
    return Triples(at // (protocol.captions or 1), at, np.ones(len(at)), rows, columns)
