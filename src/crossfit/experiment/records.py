"""Records of cells and runs in a store."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crossfit import registry
from crossfit._tabular import Tabular
from crossfit.experiment.store_files import check_sum, damaged, read_bytes, read_json, sums_of
from crossfit.experiment.stored_schema import HISTORY, TRIALS, wrong_arrays, wrong_attention
from crossfit.experiment.task import Cell
from crossfit.metrics.directions import Direction

if TYPE_CHECKING:
    from crossfit.experiment.store import Store

__all__ = ["CellRecord", "RunRecord", "data_name"]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class CellRecord(Tabular, Cell):
    """A cell with its stored result.

    Parameters
    ----------
    key, label, dataset, seed, features, note, cell
        As in `Cell`.
    status : {"done", "failed", "skipped", "pending"}
        ``"pending"`` if the store has no result yet.
    folder : pathlib.Path or None
        Folder with the files of the cell; None while it is pending.
    reason, traceback : str
        Why the cell was skipped or has failed, and the traceback if it failed.
    results : mapping
        ``{direction: {metric: {"mean", "low", "high", "n"}}}``.
    chosen, tuning : mapping
        Settings chosen by tuning, and facts about the search.
    timing, memory, size, n : mapping
        Seconds by phase; peak memory in MiB; numbers of parameters and dimensions; numbers of
        items.
    hubness, curves, abstention : mapping
        Hubness, curves, and the area under the abstention curve by confidence, by direction.
    chance : mapping
        ``{direction: {metric: value}}`` for random ranking.
    relevant : mapping
        Metric, ``"first"``, ``"recall curve"`` or ``"pr curve"`` to ``"label"`` or ``"pair"``:
        what counts as relevant there.
    environment : mapping
        Versions of Python and of the libraries that were used.
    started, finished : str
        ISO 8601, UTC.
    warnings : sequence of str
        Warnings during the fit and the evaluation.
    """

    status: str = "pending"
    folder: Path | None = None
    reason: str = ""
    traceback: str = ""
    results: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    chosen: Mapping[str, Any] = field(default_factory=dict)
    tuning: Mapping[str, Any] = field(default_factory=dict)
    timing: Mapping[str, float] = field(default_factory=dict)
    memory: Mapping[str, float] = field(default_factory=dict)
    size: Mapping[str, int | None] = field(default_factory=dict)
    n: Mapping[str, Any] = field(default_factory=dict)
    hubness: Mapping[str, Any] = field(default_factory=dict)
    curves: Mapping[str, Any] = field(default_factory=dict)
    abstention: Mapping[str, Any] = field(default_factory=dict)
    chance: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    relevant: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    started: str = ""
    finished: str = ""
    warnings: Sequence[str] = ()

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per direction and metric.

        Returns
        -------
        list of dict
            Keys ``direction, metric, mean, low, high, n``; no rows if the cell is not done.
        """
        return [
            {"direction": direction, "metric": metric}
            | {key: found.get(key) for key in ("mean", "low", "high", "n")}
            for direction, metrics in self.results.items()
            for metric, found in metrics.items()
        ]

    def _title(self) -> str:
        about = f"{self.label} on {self.dataset}, seed {self.seed}: {self.status}"
        return f"CellRecord {about}" + (f", {self.problem}" if self.problem else "")

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the stored arrays, read from disk.

        Returns
        -------
        dict of str to ndarray
            ``"<direction>|<metric>"`` values per query, NaN if a query has no relevant item;
            ``"<direction>|groups"`` queries that belong together; ``"<direction>|first"`` rank of
            the first relevant item; ``"<direction>|top"`` and ``"<direction>|top_scores"`` the ten
            best gallery items of each query. Empty unless the cell is done.
        """
        return self._arrays("arrays.npz", wrong_arrays)

    def attention(self) -> list[dict[str, NDArray[Any]]]:
        """Return the stored attention maps, read from disk; empty if the method has none.

        Returns
        -------
        list of dict
            ``weights`` (R,) or (T, R); ``query`` the text; ``item`` the number of the item in its
            view; ``view`` the name of that view; ``regions`` boxes (R, 4), ``grid`` rows and
            columns of regions, and ``words`` (T,) where they are known; ``quantity`` what the one
            number of the item is, if it is not a weight.
        """
        found: dict[int, dict[str, NDArray[Any]]] = {}
        for name, array in self._arrays("attention.npz", wrong_attention).items():
            number, _, part = name.partition("|")
            found.setdefault(int(number), {})[part] = array
        return [found[number] for number in sorted(found)]

    def _arrays(self, name: str, wrong: Callable[[Any], str]) -> dict[str, NDArray[Any]]:
        if self.folder is None or not os.path.lexists(self.folder / name):
            return {}
        path = self.folder / name
        content = read_bytes(path)
        check_sum(path, content)
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                found = {name: file[name] for name in file.files}
        except Exception as error:  # damage may cause any error of zipfile, zlib or NumPy
            raise damaged(path, f"{type(error).__name__}: {error}") from error
        if problem := wrong(found):
            raise damaged(path, problem)
        return found

    def history(self) -> list[dict[str, Any]]:
        """Return the training curve, one row per epoch; empty if the method has none."""
        return self._json("history.json", HISTORY) or []

    def trials(self) -> list[dict[str, Any]]:
        """Return the trials of the search that chose the settings; empty without tuning."""
        return self._json("trials.json", TRIALS) or []

    def _json(self, name: str, form: Any) -> Any:
        if self.folder is None or not os.path.lexists(self.folder / name):
            return None
        return read_json(self.folder / name, form)

    def check(self) -> None:
        """Read all files of the cell, and raise a `StoreError` if one of them is damaged."""
        if self.folder is None:
            return
        for name in sums_of(self.folder):
            if not os.path.lexists(self.folder / name):
                raise damaged(self.folder / name, "it does not exist")
        arrays = self.arrays()
        lacking = {f"{d}|{m}" for d, found in self.results.items() for m in found} - set(arrays)
        if arrays and lacking:
            raise damaged(self.folder / "arrays.npz", f"it has no {sorted(lacking)[0]!r}")
        self.attention(), self.history(), self.trials()

    @property
    def directions(self) -> tuple[Direction, ...]:
        """Directions with results."""
        views = self.n.get("test") or ()
        return tuple(Direction.stored(key, views) for key in self.results)

    @property
    def problem(self) -> str:
        """Why the cell has no result, in one line; empty if it has one."""
        if self.status == "done":
            return ""
        last = self.traceback.strip().splitlines()[-1:] or [""]
        return self.reason or last[0] or "not run yet, or interrupted"

    def mean(self, metric: str, direction: str | None = None) -> float:
        """Return the mean of a metric over the queries.

        Parameters
        ----------
        metric : str
            Canonical name of a metric of the experiment.
        direction : str, optional
            Key of a direction; by default the mean over all directions.

        Returns
        -------
        float
            NaN if the cell is not done or a mean is not defined.

        Raises
        ------
        KeyError
            If the cell is done and has no such metric or direction.
        """
        if not self.results:
            return math.nan
        of = [direction] if direction is not None else list(self.results)
        values = [self.results[each][metric]["mean"] for each in of]
        return math.nan if None in values else float(np.mean(values))


@dataclass(frozen=True, eq=False, repr=False)
class RunRecord(Tabular):
    """One experiment as it was run, with its cells.

    Parameters
    ----------
    name : str
        Name in the store.
    title : str
        Title of the experiment.
    spec : mapping
        The whole experiment, as returned by `Experiment.to_dict`.
    cells : tuple of CellRecord
        In the order of the experiment: data sets, methods, seeds.
    command : str
        Command line that ran it.
    created : str
        ISO 8601, UTC.
    version : str
        Version of crossfit.
    store : Store
        Store of the run.
    data, root : str or None
        Table of the user's own pairs, and folder of the data sets, if they were given.
    """

    name: str
    title: str
    spec: Mapping[str, Any]
    cells: tuple[CellRecord, ...]
    command: str
    created: str
    version: str
    store: Store
    data: str | None = None
    root: str | None = None

    @property
    def done(self) -> tuple[CellRecord, ...]:
        """The cells with results."""
        return tuple(cell for cell in self.cells if cell.status == "done")

    @property
    def metrics(self) -> tuple[str, ...]:
        """Canonical names of the metrics, the main one first."""
        from crossfit.metrics import parse_metric

        return tuple(dict.fromkeys(parse_metric(m).name for m in self.spec["metrics"]))

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per cell.

        Returns
        -------
        list of dict
            Keys ``dataset, method, seed, status``, the mean of each metric over the directions, and
            ``problem``, why a cell has no result.
        """
        return [
            {
                "dataset": cell.dataset,
                "method": cell.label,
                "seed": cell.seed,
                "status": cell.status,
            }
            | {metric: cell.mean(metric) for metric in self.metrics}
            | {"problem": cell.problem}
            for cell in self.cells
        ]

    def _title(self) -> str:
        return f"RunRecord {self.name!r}: {len(self.done)} of {len(self.cells)} cells are done"

    def test_looks(self) -> dict[tuple[str, str], int]:
        """Return how often each test split of this run was evaluated on, in the whole store.

        Returns
        -------
        dict of (str, str) to int
            By data set and split. Every evaluation counts, including those of other runs, of
            earlier settings, and on the same items under another name.
        """
        found: dict[tuple[str, str], int] = {}
        keys = {cell.key for cell in self.cells}
        for cell in self.cells:
            about = cell.cell.get("dataset", {})
            split = (about.get("splits") or {}).get("test")
            if split is not None:
                dataset = data_name(about["name"])
                found[dataset, split] = len(self.store.test_evaluations(dataset, split, keys))
        return found


def data_name(name: str) -> str:
    """Return the name under which evaluations on a data set are counted."""
    return registry.normalise(name.rpartition(":")[2])
