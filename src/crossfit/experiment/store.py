"""The store: results of experiments in a folder of plain files, shared by several runners.

Every cell (one method on one data set with one seed) has a folder named by the hash of everything
that determines its result. Folders and files are written under temporary names and renamed, so they
are never incomplete; nothing in a store is pickled.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit._files import draft_of, is_left, put_folder, remove, room_for
from crossfit.experiment.locks import Claim, is_void, this_process
from crossfit.experiment.records import CellRecord, RunRecord, data_name
from crossfit.experiment.store_files import (
    FORMAT,
    StoreError,
    check_regular,
    damaged,
    now,
    read_json,
    to_disk,
    warn_of_damage,
    write_json,
    write_signed,
    write_sums,
)
from crossfit.experiment.stored_schema import wrong_cell, wrong_run
from crossfit.experiment.task import Cell

__all__ = ["Store"]


class Store:
    """Results of experiments in a folder.

    Parameters
    ----------
    folder : path-like, default="crossfit-runs"
        The folder. It need not exist; the first write creates it.
    lease : float, default=120.0
        Seconds after which a claim of another machine is void if that machine has not renewed it.
        On the same machine a claim ends when its process does.

    Examples
    --------
    >>> Store("no-such-folder").runs()
    []
    """

    def __init__(
        self, folder: str | os.PathLike[str] = "crossfit-runs", *, lease: float = 120.0
    ) -> None:
        self.folder = Path(folder).expanduser()
        self.lease = lease

    def __repr__(self) -> str:
        return f"Store({str(self.folder)!r})"

    # ---- reading

    def runs(self) -> list[str]:
        """Return the names of the runs, sorted."""
        return sorted(path.stem for path in (self.folder / "runs").glob("[!.]*.json"))

    def run(self, name: str) -> RunRecord:
        """Return a run by its name.

        Parameters
        ----------
        name : str
            Name of the run; `runs` lists them.

        Returns
        -------
        RunRecord
            The run with the records of its cells.

        Raises
        ------
        StoreError
            If there is no such run, or it cannot be read.
        """
        path = self.folder / "runs" / f"{name}.json"
        if name not in self.runs():
            # A run on the user's own pairs has the name of their table too.
            own = [run for run in self.runs() if run.startswith(f"{name}-")]
            near = f"; did you mean {' or '.join(map(repr, own))}?" if own else ""
            raise StoreError(
                f"{str(self.folder)!r} has no run {name!r}{near} (there are: "
                f"{', '.join(self.runs()) or 'none'})"
            )
        found = read_json(path)
        if problem := wrong_run(found):
            raise damaged(path, problem)
        cells = tuple(self.cell(Cell.from_row(row)) for row in found["cells"])
        return RunRecord(
            found["name"], found["title"], found["spec"], cells, found["command"],
            found["created"], found["crossfit version"], self, found.get("data"),
            found.get("root"),
        )  # fmt: skip

    def cell(self, cell: str | Cell) -> CellRecord:
        """Return the record of a cell; its status is ``"pending"`` if the store has none.

        Parameters
        ----------
        cell : str or Cell
            The key, or the cell with the labels of a run.

        Returns
        -------
        CellRecord
            The record, with the labels of `cell`.

        Raises
        ------
        StoreError
            If the record cannot be read.
        """
        key = cell if isinstance(cell, str) else cell.key
        labels = Cell(key=key, label="", dataset="", seed=0) if isinstance(cell, str) else cell
        folder = self.folder / "cells" / key
        if not os.path.lexists(folder / "cell.json"):
            return CellRecord(**vars(labels))
        found = read_json(folder / "cell.json")
        if problem := wrong_cell(found):
            raise damaged(folder / "cell.json", problem)
        about = vars(labels) | {"folder": folder}
        if isinstance(cell, str):
            identity = found["cell"]
            about |= {"label": identity["method"]["name"], "dataset": identity["dataset"]["name"]}
            about["seed"] = identity["seed"] or 0
        kept = {field.name for field in fields(CellRecord)} - {field.name for field in fields(Cell)}
        kept = (kept | {"cell"}) - {"folder"}
        about |= {name: found[name] for name in kept if found.get(name) is not None}
        return CellRecord(**about)

    def usable(self, key: str) -> CellRecord:
        """Return a cell as `cell` does, but treat a damaged one as pending and warn of it.

        Parameters
        ----------
        key : str
            Key of the cell.

        Returns
        -------
        CellRecord
            The record; its status is ``"pending"`` if the cell is missing or damaged.
        """
        try:
            found = self.cell(key)
            found.check()
        except StoreError as error:
            warn_of_damage(error)
            return CellRecord(key=key, label="", dataset="", seed=0)
        return found

    def test_evaluations(
        self, dataset: str | None = None, split: str | None = None, keys: Container[str] = ()
    ) -> list[dict[str, Any]]:
        """Return every evaluation on a test split: ``dataset``, ``split``, ``key``, ``when``.

        Rows that were not written by version 0.1.0 have ``items`` too, a hash of the items.

        Parameters
        ----------
        dataset, split : str, optional
            Restrict the result to a data set and to one of its splits. Incomplete lines, for
            instance after a power cut, are always included.
        keys : container of str, default=()
            Include also the evaluations on the same items as these cells, whatever their data set
            is called: a copy of a table is not a new test set.

        Returns
        -------
        list of dict of str to str
            In the order of the evaluations; the values of a damaged line are ``"?"``.
        """
        path = self.folder / "test_evaluations.jsonl"
        check_regular(path)
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
        except FileNotFoundError:
            return []
        rows = [_evaluation_of(line) for line in lines if line.strip()]
        items = {row["items"] for row in rows if row["key"] in keys and row.get("items")}
        return [
            row
            for row in rows
            if row["dataset"] == "?"
            or row.get("items") in items
            or (
                (dataset is None or data_name(row["dataset"]) == data_name(dataset))
                and split in (None, row["split"])
            )
        ]

    # ---- writing

    @contextlib.contextmanager
    def new_folder(self, home: Path) -> Iterator[Path]:
        """Provide a temporary folder, which is renamed to `home` when the block ends.

        Anything already at `home` is replaced, unless another process has put it there meanwhile.

        Parameters
        ----------
        home : pathlib.Path
            Final place of the folder.

        Yields
        ------
        pathlib.Path
            The temporary folder.

        Raises
        ------
        OSError
            If the folder cannot be written; nothing is left at `home` then.
        """
        with room_for("a result", home):
            home.parent.mkdir(parents=True, exist_ok=True)
            with draft_of(home, Path.mkdir) as draft:
                yield draft
                write_sums(draft)
                for path in draft.iterdir():
                    to_disk(path)
                put_folder(draft, home)

    def write_cell(
        self,
        key: str,
        record: Mapping[str, Any],
        arrays: Mapping[str, NDArray[Any]] | None = None,
        attention: Mapping[str, NDArray[Any]] | None = None,
        history: Sequence[Mapping[str, Any]] = (),
        trials: Sequence[Mapping[str, Any]] = (),
        *,
        replace: bool = False,
    ) -> None:
        """Store the result of a cell, as a whole or not at all.

        Parameters
        ----------
        key : str
            Key of the cell.
        record : mapping
            Content of ``cell.json``: the fields of `CellRecord` except `folder` and the labels.
        arrays, attention : mapping of str to ndarray, optional
            As `CellRecord.arrays` returns them; attention maps by ``"<number>|<part>"``.
        history, trials : sequence of mapping, default=()
            As `CellRecord.history` and `CellRecord.trials` return them.
        replace : bool, default=False
            Whether to replace a result that the store has already.
        """
        home = self.folder / "cells" / key
        if not replace and self.usable(key).status == "done":
            return  # not replaced: a claim was lost, and the result is the same
        with self.new_folder(home) as draft:
            write_json(draft / "cell.json", {"format": FORMAT, "key": key, **record})
            for name, held in {"arrays.npz": arrays, "attention.npz": attention}.items():
                if held:
                    with open(draft / name, "wb") as stream:
                        np.savez_compressed(stream, allow_pickle=False, **held)
            if history:
                write_json(draft / "history.json", history)
            if trials:
                write_json(draft / "trials.json", trials)

    def write_run(self, name: str, record: Mapping[str, Any]) -> None:
        """Store the record of a run, replacing an earlier one of that name.

        Parameters
        ----------
        name : str
            Name of the run.
        record : mapping
            Content of the file: title, experiment, cells, command, time and version.
        """
        path = self.folder / "runs" / f"{name}.json"
        write_signed(path, {"format": FORMAT, "name": name, **record}, "a run")

    def count_test(self, dataset: str, split: str, key: str, items: str = "") -> None:
        """Record an evaluation on a test split, before it takes place.

        Parameters
        ----------
        dataset, split : str
            Data set and its split.
        key : str
            Key of the cell that is evaluated.
        items : str, default=""
            Hash of the items of the split.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        check_regular(self.folder / "test_evaluations.jsonl")
        row = {"dataset": dataset, "split": split, "key": key, "when": now()}
        line = json.dumps(row | ({"items": items} if items else {}))
        # A single write to the end of the file, so that lines of several processes do not mix.
        handle = os.open(
            self.folder / "test_evaluations.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666
        )
        try:
            with room_for("a look at a test split", self.folder / "test_evaluations.jsonl"):
                os.write(handle, line.encode() + b"\n")
        finally:
            os.close(handle)

    # ---- claims

    def claim(self, name: str) -> Claim | None:
        """Claim a piece of work for this process, unless another one has claimed it.

        The claim is a file in ``locks/`` that is created only if it does not exist. It is void if
        its process has ended or, on another machine, if it was not renewed for `lease` seconds,
        by the clock of the file system or as observed by this process.

        Parameters
        ----------
        name : str
            Name of the piece of work.

        Returns
        -------
        Claim or None
            The claim, to be released after the work; None if another process holds one.
        """
        path = self.folder / "locks" / name
        with self._guard() as moment:
            if is_void(path, self.lease, moment):
                path.unlink(missing_ok=True)
            try:
                handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            except FileExistsError:
                return None
            try:
                token = secrets.token_hex(8)
                with os.fdopen(handle, "w", encoding="utf-8") as stream:
                    json.dump({**this_process(), "token": token, "since": now()}, stream)
                return Claim(path, token, self.lease)
            except BaseException:  # including Ctrl-C
                path.unlink(missing_ok=True)
                raise

    @contextlib.contextmanager
    def waiting_claim(self, name: str, pause: float = 0.05) -> Iterator[Claim]:
        """Claim a piece of work as soon as no other process holds a claim on it.

        Parameters
        ----------
        name : str
            Name of the piece of work.
        pause : float, default=0.05
            Seconds before the second attempt; later pauses grow to 2 seconds.

        Yields
        ------
        Claim
            The claim; it is released when the block ends.
        """
        while (claim := self.claim(name)) is None:
            time.sleep(pause)
            pause = min(2.0, 1.5 * pause)
        with claim:
            yield claim

    def clear_claims(self) -> int:
        """Remove the claims and incomplete files of processes that have ended.

        Returns
        -------
        int
            Number of claims removed.
        """
        with self._guard() as moment:
            for draft in self.folder.glob("*/.*-*"):
                with contextlib.suppress(OSError):
                    if is_left(draft, moment - 3600):  # nothing takes an hour to write
                        remove(draft)
        removed = 0
        for path in (self.folder / "locks").glob("[!.]*"):
            with self._guard() as moment:
                if is_void(path, self.lease, moment):
                    path.unlink(missing_ok=True)
                    removed += 1
        return removed

    def is_orphaned(self, name: str) -> bool:
        """Return True if the process that claimed a piece of work has ended.

        Parameters
        ----------
        name : str
            Name of the piece of work.

        Returns
        -------
        bool
            False as well if the work is not claimed.
        """
        with self._guard() as moment:
            return is_void(self.folder / "locks" / name, self.lease, moment)

    @contextlib.contextmanager
    def _guard(self) -> Iterator[float]:
        """Lock the claims for one process at a time; yield the time of the file system.

        Machines that share a folder may disagree on the time, so the age of claims is measured by
        the clock that sets the modification times of files.
        """
        guard = self.folder / "locks" / ".guard"
        guard.parent.mkdir(parents=True, exist_ok=True)
        check_regular(guard)
        with open(guard, "a+b") as stream:
            try:
                import fcntl

                # If the system or file system has no such locks, O_EXCL alone has to suffice.
                with contextlib.suppress(OSError):
                    fcntl.flock(stream, fcntl.LOCK_EX)
            except ImportError:
                pass
            os.utime(guard)
            yield guard.stat().st_mtime


def _evaluation_of(line: str) -> dict[str, str]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    names = ("dataset", "split", "key", "when")
    if not isinstance(row, dict) or any(not isinstance(row.get(name), str) for name in names):
        return dict.fromkeys(names, "?")  # an incomplete line still counts as one evaluation
    return row
