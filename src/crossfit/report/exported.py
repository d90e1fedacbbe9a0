"""Results as JSON files, one per cell, which travel without the store that they come from."""

from __future__ import annotations

import base64
import binascii
import os
import re
import shlex
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit._arguments import a_path, validated
from crossfit.experiment.keys import canonical, key_of, plain_json
from crossfit.experiment.records import CellRecord, RunRecord, data_name
from crossfit.experiment.store import Store
from crossfit.experiment.store_files import StoreError, damaged, now, read_json, write_signed
from crossfit.experiment.stored_schema import (
    HISTORY,
    TRIALS,
    Maybe,
    misfit,
    wrong_arrays,
    wrong_cell,
    wrong_run,
)
from crossfit.experiment.task import Cell

__all__ = ["ExportedCell", "ExportedRun", "read_results", "tested_split", "write_results"]

#: What a file is, so that any other JSON file is rejected with a clear message.
KIND = "crossfit result"

_ARRAY = {"type": {"float64", "int64"}, "n": int, "zlib": str}
_RESULT = {
    "kind": {KIND},
    "key": str,
    "label": str,
    "dataset": str,
    "seed": int,
    "features": str,
    "note": str,
    "cell": {str: object},
    "run": {str: object},
    "values": {str: _ARRAY},
    "history": Maybe(HISTORY),
    "trials": Maybe(TRIALS),
    "evaluations": [str],
    "exported": str,
    str: object,
}

#: Fields of a run that are in each of its files.
_OF_RUN = ("name", "title", "spec", "command", "created", "version")
#: Largest number of queries.
_QUERIES = 2**26


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ExportedCell(CellRecord):
    """A cell that was read from a file: a `CellRecord` with its values.

    Parameters
    ----------
    values : mapping of str to ndarray
        ``"<direction>|<metric>"`` values per query, and ``"<direction>|groups"``.
    curve, searched : sequence of mapping
        The training curve, and the trials of the search for settings.
    evaluations : frozenset of str
        Hashes of all evaluations on the test split in the store of the cell.
    file : pathlib.Path
        The file.
    """

    values: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    curve: Sequence[dict[str, Any]] = ()
    searched: Sequence[dict[str, Any]] = ()
    evaluations: frozenset[str] = frozenset()
    file: Path = Path()

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the values per query and the groups of queries."""
        return dict(self.values)

    def history(self) -> list[dict[str, Any]]:
        """Return the training curve, one row per epoch."""
        return list(self.curve)

    def trials(self) -> list[dict[str, Any]]:
        """Return the trials of the search that chose the settings."""
        return list(self.searched)


class ExportedRun(RunRecord):
    """A run whose cells are `ExportedCell` objects, which may be some of its cells only."""

    def test_looks(self) -> dict[tuple[str, str], int]:
        """Return how often each test split was evaluated on in the stores of the cells."""
        found: dict[tuple[str, str], set[str]] = {}
        for cell in self.cells:
            assert isinstance(cell, ExportedCell)
            found.setdefault(tested_split(cell), set()).update(cell.evaluations)
        return {used: len(each) for used, each in found.items()}


def tested_split(cell: CellRecord) -> tuple[str, str]:
    """Return the data set and the name of the test split of a cell."""
    about = cell.cell["dataset"]
    return data_name(about["name"]), (about.get("splits") or {}).get("test") or "test"


@validated(out=[a_path()])
def write_results(
    runs: Sequence[str],
    store: Store | str | os.PathLike[str] = "crossfit-runs",
    out: str | os.PathLike[str] = "crossfit-results",
) -> list[Path]:
    """Write the finished cells of runs as JSON files, for `write_board`.

    Parameters
    ----------
    runs : sequence of str
        Names of runs in the store.
    store : Store or path, default="crossfit-runs"
        The store that has the results.
    out : path, default="crossfit-results"
        Folder of the files. Files of the same cells are replaced.

    Returns
    -------
    list of pathlib.Path
        The files, one per cell. Each has the figures, the values of every query and the groups of
        queries, the settings, the whole experiment, the versions, the training curve, the trials
        of the search for settings, and hashes of all evaluations on the test split in the store.
        It has neither the data nor the fitted method; paths of the data are left out.

    Raises
    ------
    StoreError
        If a run is not in the store, or none of its cells is done.

    See Also
    --------
    write_board : Write a leaderboard of such files.
    crossfit.systems.write_cell : Write the scores of a cell as TREC runs.
    """
    store = store if isinstance(store, Store) else Store(store)
    written: dict[Path, None] = {}
    for name in dict.fromkeys(runs):
        run = store.run(name)
        if not run.done:
            raise StoreError(f"no cell of {name} is done; run it first")
        for cell in run.done:
            path = Path(out) / _file_name(cell)
            write_signed(path, _exported(run, cell), "a result")
            written[path] = None
    return list(written)


def _file_name(cell: CellRecord) -> str:
    words = f"{cell.dataset}-{cell.label}-{cell.seed}"
    slug = "-".join(re.findall(r"[a-z0-9]+", words.lower()))[:80]
    return f"{slug}-{cell.key[:8]}.json"


def _exported(run: RunRecord, cell: CellRecord) -> dict[str, Any]:
    stored = {each.name for each in fields(CellRecord)} - {each.name for each in fields(Cell)}
    stored -= {"folder", "traceback", "reason"}
    arrays = cell.arrays()
    values = {
        name: _packed(array)
        for name, array in arrays.items()
        if name.partition("|")[2] not in ("top", "top_scores", "first")
    }
    dataset, split = tested_split(cell)
    looks = run.store.test_evaluations(dataset, split, {cell.key})
    record = {name: getattr(cell, name) for name in sorted(stored)} | {"cell": cell.cell}
    return {
        "kind": KIND,
        "key": cell.key,
        **{name: getattr(cell, name) for name in ("label", "dataset", "seed", "features", "note")},
        "cell": record,
        "run": {
            **{name: getattr(run, name) for name in _OF_RUN},
            "command": _command(run),
            "own data": run.data is not None,
        },
        "values": values,
        "history": cell.history(),
        "trials": cell.trials(),
        "evaluations": sorted({key_of(row)[:16] for row in looks}),
        "exported": now(),
    }


def _command(run: RunRecord) -> str:
    """Return the command of a run without the paths of one machine, which do not help others."""
    parts = iter(shlex.split(run.command))
    kept = []
    for part in parts:
        if part == "--store":
            next(parts, None)
        elif not part.startswith("--store="):
            for path, name in ((run.data, "DATA"), (run.root, "ROOT")):
                part = part.replace(path, name) if path else part
            kept.append(part)
    return shlex.join(kept)


def _packed(array: NDArray[Any]) -> dict[str, Any]:
    kind = "float64" if array.dtype.kind == "f" else "int64"
    content = np.ascontiguousarray(array, np.dtype(kind).newbyteorder("<")).tobytes()
    return {
        "type": kind,
        "n": len(array),
        "zlib": base64.b64encode(zlib.compress(content, 9)).decode("ascii"),
    }


def _unpacked(packed: Mapping[str, Any]) -> NDArray[Any]:
    """Return an array, after the size that it takes has been checked against its length."""
    n = packed["n"]
    if not 0 <= n <= _QUERIES:
        raise ValueError(f"its length is {n}")
    reader = zlib.decompressobj()
    content = reader.decompress(base64.b64decode(packed["zlib"], validate=True), 8 * n + 1)
    if len(content) != 8 * n:
        raise ValueError(f"it has {len(content)} bytes and not {8 * n}")
    return np.frombuffer(content, np.dtype(packed["type"]).newbyteorder("<"))


def read_results(files: Sequence[str | os.PathLike[str]]) -> list[ExportedRun]:
    """Read results that `write_results` wrote, and group them by their runs.

    Parameters
    ----------
    files : sequence of path
        The files, or folders of them.

    Returns
    -------
    list of ExportedRun
        Runs that have the same experiment, command, time and version are one. A name that several
        runs have is followed by a part of the hash of the run.

    Raises
    ------
    StoreError
        If a file is missing, damaged or not a result, or if two files have different values for
        the same cell.
    """
    known: dict[str, ExportedCell] = {}
    about: dict[str, dict[str, Any]] = {}
    cells: dict[str, list[ExportedCell]] = {}
    for path in _paths(files):
        found = _read(path)
        cell, run = _cell(path, found), found["run"]
        first = known.setdefault(cell.key, cell)
        if _differ(first, cell):
            raise StoreError(
                f"{first.file} and {path} have different values for the same cell; keep one of them"
            )
        key = key_of(plain_json(run, None))
        about[key] = run
        cells.setdefault(key, []).append(cell)
    names = [run["name"] for run in about.values()]
    return [
        ExportedRun(
            run["name"] if names.count(run["name"]) == 1 else f"{run['name']} {key[:6]}",
            run["title"], run["spec"], tuple(cells[key]), run["command"], run["created"],
            run["version"], Store(), "a table" if run["own data"] else None,
        )
        for key, run in about.items()
    ]  # fmt: skip


def _paths(files: Sequence[str | os.PathLike[str]]) -> list[Path]:
    found: list[Path] = []
    for path in map(Path, files):
        if path.is_dir():
            inside = sorted(path.glob("*.json"))
            if not inside:
                raise StoreError(f"{path} has no JSON file; write results with crossfit report")
            found += inside
        else:
            found.append(path)
    if not found:
        raise StoreError("files is empty; name at least one result")
    return list(dict.fromkeys(found))


def _read(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
    except FileNotFoundError:
        raise StoreError(f"{path} does not exist") from None
    if not isinstance(found, dict) or found.get("kind") != KIND:
        raise StoreError(f"{path} is not a result that crossfit report --results wrote")
    run: Any = found.get("run")
    row = {name: found.get(name) for name in ("key", "dataset", "seed", "features", "note")}
    row["method"] = found.get("label")
    if problem := (
        misfit(found, _RESULT)
        or wrong_cell(found["cell"])
        or wrong_run({**found["run"], "cells": [row], "crossfit version": run["version"]})
        or ("" if isinstance(run.get("own data"), bool) else "it.run has no 'own data'")
        or ("" if found["cell"]["status"] == "done" else "its cell is not done")
    ):
        raise damaged(path, problem)
    return found


def _cell(path: Path, found: Mapping[str, Any]) -> ExportedCell:
    values = {}
    for name, packed in found["values"].items():
        try:
            values[name] = _unpacked(packed)
        except (ValueError, zlib.error, binascii.Error) as error:
            raise damaged(path, f"{name!r}: {error}") from error
    kept = {each.name for each in fields(CellRecord)} - {"folder", "traceback", "reason"}
    record = {name: value for name, value in found["cell"].items()
              if name in kept and value is not None}  # fmt: skip
    lacking = [
        f"{direction}|{part}"
        for direction, by_metric in record["results"].items()
        for part in (*by_metric, "groups")
        if f"{direction}|{part}" not in values
    ]
    problem = wrong_arrays(values) or (f"it has no {lacking[0]!r}" if lacking else "")
    if problem:
        raise damaged(path, problem)
    if key_of(record["cell"]) != found["key"]:
        raise damaged(path, "its key is not that of its cell")
    labels = {name: found[name] for name in ("key", "label", "dataset", "seed", "features", "note")}
    return ExportedCell(
        **{**record, **labels},
        values=values,
        curve=found.get("history") or (),
        searched=found.get("trials") or (),
        evaluations=frozenset(found["evaluations"]),
        file=path,
    )


def _differ(one: ExportedCell, other: ExportedCell) -> bool:
    return canonical(one.cell) != canonical(other.cell) or any(
        not np.array_equal(one.values[name], other.values.get(name, ()), equal_nan=True)
        for name in one.values
    )
