"""The store: results of experiments in a folder of plain files, shared by several runners.

Every cell (one method on one data set with one seed) has a folder named by the hash of what
decides its result. Folders and files appear whole, by renaming, or not at all; nothing in a store
is pickled.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import math
import os
import re
import secrets
import shutil
import socket
import stat
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from crossfit import registry
from crossfit._files import room_for
from crossfit.experiment.forms import (
    HISTORY,
    TRIALS,
    misfit,
    wrong_arrays,
    wrong_attention,
    wrong_cell,
    wrong_run,
)

__all__ = ["CellRecord", "RunRecord", "Store", "StoreError", "canonical", "key_of"]

FORMAT = 1
#: The hashes of the files of a folder.
SUMS = "SHA256SUMS"
# No file that is read whole comes near.
_LARGEST = 2**30


class StoreError(ValueError):
    """A store, run or cell that is missing or cannot be read."""


class DamageWarning(UserWarning):
    """Something in a store is damaged, and is computed again."""


@dataclass(frozen=True, eq=False)
class CellRecord:
    """One method on one data set with one seed, as the store has it.

    Parameters
    ----------
    key : str
        Hash of `cell`, 64 hexadecimal digits.
    status : {"done", "failed", "skipped", "pending"}
        ``"pending"`` if the store has no result yet.
    label : str
        What the experiment calls the method.
    dataset : str
        What the experiment calls the data set.
    seed : int
        The seed.
    features : str
        The features in one line.
    note : str
        What is to be said of it, for instance that the seed makes no difference.
    folder : pathlib.Path or None
        Where the files of the cell are; None while it is pending.
    reason, traceback : str
        Why it was skipped; how it failed.
    cell : mapping
        Everything that decides the result; what the key is made of.
    results : mapping
        ``{direction: {metric: {"mean", "low", "high", "n"}}}``.
    chosen, tuning : mapping
        Settings that tuning chose, and how it went.
    timing, memory, size, n : mapping
        Seconds by phase, peak memory in MiB, parameters and dimensions, numbers of items.
    hubness, curves : mapping
        Both by direction.
    chance : mapping
        ``{direction: {metric: value}}`` of ranking at random.
    relevant : mapping
        Metric, ``"first"``, ``"recall curve"`` or ``"pr curve"`` to ``"label"`` or ``"pair"``:
        what counts as relevant there.
    environment : mapping
        Versions of what was used.
    started, finished : str
        ISO 8601, UTC.
    warnings : sequence of str
        What was warned of during the fit and the evaluation.
    """

    key: str
    status: str
    label: str
    dataset: str
    seed: int
    features: str = ""
    note: str = ""
    folder: Path | None = None
    reason: str = ""
    traceback: str = ""
    cell: Mapping[str, Any] = field(default_factory=dict)
    results: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    chosen: Mapping[str, Any] = field(default_factory=dict)
    tuning: Mapping[str, Any] = field(default_factory=dict)
    timing: Mapping[str, float] = field(default_factory=dict)
    memory: Mapping[str, float] = field(default_factory=dict)
    size: Mapping[str, int | None] = field(default_factory=dict)
    n: Mapping[str, Any] = field(default_factory=dict)
    hubness: Mapping[str, Any] = field(default_factory=dict)
    curves: Mapping[str, Any] = field(default_factory=dict)
    chance: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    relevant: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    started: str = ""
    finished: str = ""
    warnings: Sequence[str] = ()

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays kept, read from disk.

        Returns
        -------
        dict of str to ndarray
            ``"<direction>|<metric>"`` values per query, NaN where a query has nothing to find;
            ``"<direction>|groups"`` queries that belong together; ``"<direction>|first"`` rank of
            the first relevant item; ``"<direction>|top"`` and ``"<direction>|top_scores"`` the ten
            best gallery items of each query. Empty unless the cell is done.
        """
        return self._arrays("arrays.npz", wrong_arrays)

    def attention(self) -> list[dict[str, NDArray[Any]]]:
        """Return the attention maps kept, read from disk; empty where the method has none.

        Returns
        -------
        list of dict
            ``weights`` (R,) or (T, R); ``query`` the text; ``item`` the number of the item in its
            view; ``view`` the name of that view; ``regions`` boxes (R, 4), ``grid`` rows and
            columns of regions, and ``words`` (T,) where they are known.
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
        except Exception as error:  # of zipfile, zlib and NumPy, whatever the damage leads to
            raise _damaged(path, f"{type(error).__name__}: {error}") from error
        if said := wrong(found):
            raise _damaged(path, said)
        return found

    def history(self) -> list[dict[str, Any]]:
        """Return the training curve, one row an epoch; empty where the method has none."""
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
                raise _damaged(self.folder / name, "it is not there")
        arrays = self.arrays()
        lacking = {f"{d}|{m}" for d, found in self.results.items() for m in found} - set(arrays)
        if arrays and lacking:
            raise _damaged(self.folder / "arrays.npz", f"it has no {sorted(lacking)[0]!r}")
        self.attention(), self.history(), self.trials()

    def mean(self, metric: str, direction: str | None = None) -> float:
        """Return a mean over queries; over the directions too by default. NaN if not done."""
        if not self.results:
            return math.nan
        of = [direction] if direction is not None else list(self.results)
        values = [self.results[each][metric]["mean"] for each in of]
        return math.nan if None in values else float(np.mean(values))


@dataclass(frozen=True, eq=False)
class RunRecord:
    """One experiment as it was asked for, with the cells it is made of.

    Parameters
    ----------
    name : str
        Name in the store.
    title : str
        Title of the experiment.
    spec : mapping
        The whole experiment, as `Experiment.to_dict` gives it.
    cells : tuple of CellRecord
        In the order of the experiment: data sets, methods, seeds.
    command : str
        What was typed to run it.
    created : str
        ISO 8601, UTC.
    version : str
        Version of crossfit.
    store : Store
        Where it lies.
    data, root : str or None
        The table of the user's own pairs, and the folder of the data sets, if they were given.
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

    def test_looks(self) -> dict[tuple[str, str], int]:
        """Return how often each test split of this run was evaluated on, in the whole store.

        Returns
        -------
        dict of (str, str) to int
            By data set and split: every evaluation counts, of other runs and of settings that have
            been changed since too.
        """
        found: dict[tuple[str, str], int] = {}
        for cell in self.cells:
            about = cell.cell.get("dataset", {})
            split = (about.get("splits") or {}).get("test")
            if split is not None:
                dataset = data_name(about["name"])
                found[dataset, split] = len(self.store.test_evaluations(dataset, split))
        return found


class Store:
    """Results of experiments in a folder.

    Parameters
    ----------
    folder : path-like
        Need not exist; it is made when something is written.
    lease : float
        Seconds after which a claim of another machine is void if that machine has not renewed it.
        On the same machine a claim ends with its process, however that ends.

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

        Raises
        ------
        StoreError
            If there is none, or it cannot be read.
        """
        path = self.folder / "runs" / f"{name}.json"
        if name not in self.runs():
            raise StoreError(
                f"{str(self.folder)!r} has no run {name!r} (there are: "
                f"{', '.join(self.runs()) or 'none'})"
            )
        found = read_json(path)
        if said := wrong_run(found):
            raise _damaged(path, said)
        cells = tuple(
            self.cell(
                row["key"], label=row["method"], dataset=row["dataset"], seed=row["seed"],
                features=row.get("features", ""), note=row.get("note", ""),
            )
            for row in found["cells"]
        )  # fmt: skip
        return RunRecord(
            found["name"], found["title"], found["spec"], cells, found["command"],
            found["created"], found["crossfit version"], self, found.get("data"),
            found.get("root"),
        )  # fmt: skip

    def cell(
        self,
        key: str,
        *,
        label: str = "",
        dataset: str = "",
        seed: int = 0,
        features: str = "",
        note: str = "",
    ) -> CellRecord:
        """Return a cell by its key; its status is ``"pending"`` where the store has none.

        What a run calls it (label, data set, seed, features, note) may be given.
        """
        folder = self.folder / "cells" / key
        path = folder / "cell.json"
        about: dict[str, Any] = {"label": label, "dataset": dataset, "seed": seed}
        about |= {"features": features, "note": note}
        if not os.path.lexists(path):
            return CellRecord(key, "pending", **about)
        found = read_json(path)
        if said := wrong_cell(found):
            raise _damaged(path, said)
        fields = CellRecord.__dataclass_fields__
        kept = {
            name: value
            for name, value in found.items()
            if name in fields and name not in ("key", *about) and value is not None
        }
        about["label"] = label or found["cell"]["method"]["name"]
        about["dataset"] = dataset or found["cell"]["dataset"]["name"]
        if not label:
            about["seed"] = found["cell"]["seed"] or 0
        return CellRecord(key, folder=folder, **about, **kept)

    def usable(self, key: str) -> CellRecord:
        """Return a cell as `cell` does, one that is damaged as pending, with a warning."""
        try:
            found = self.cell(key)
            found.check()
        except StoreError as error:
            warn_of_damage(error)
            return CellRecord(key, "pending", label="", dataset="", seed=0)
        return found

    def test_evaluations(
        self, dataset: str | None = None, split: str | None = None
    ) -> list[dict[str, Any]]:
        """Return every evaluation on a test split: ``dataset``, ``split``, ``key``, ``when``.

        Parameters
        ----------
        dataset, split : str, optional
            Only those on one data set, on one of its splits; and lines that a power cut ended
            early, which may have been of any.
        """
        path = self.folder / "test_evaluations.jsonl"
        check_regular(path)
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
        except FileNotFoundError:
            return []
        rows = [_evaluation_of(line) for line in lines if line.strip()]
        return [
            row
            for row in rows
            if row["dataset"] == "?"
            or (
                (dataset is None or data_name(row["dataset"]) == data_name(dataset))
                and split in (None, row["split"])
            )
        ]

    # ---- writing

    @contextlib.contextmanager
    def new_folder(self, home: Path) -> Iterator[Path]:
        """Give a folder to write to, which becomes `home` at once when all is written.

        What is at `home` already is replaced, unless another process has put it there meanwhile.
        """
        with room_for("a result", home):
            home.parent.mkdir(parents=True, exist_ok=True)
            draft = home.parent / draft_name(home.name)
            draft.mkdir()
            try:
                yield draft
                self._put_folder(draft, home)
            finally:
                shutil.rmtree(draft, ignore_errors=True)

    def _put_folder(self, draft: Path, home: Path) -> None:
        _write_sums(draft)
        for path in draft.iterdir():
            _to_disk(path)
        old = home.parent / draft_name(home.name)
        with contextlib.suppress(FileNotFoundError):
            home.rename(old)
        try:
            draft.rename(home)
        except OSError as error:
            # Systems differ in how they refuse to replace a folder that is not empty.
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
        _remove(old)

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
        """Store the result of a cell; it appears whole or not at all."""
        home = self.folder / "cells" / key
        if not replace and self.usable(key).status == "done":
            return  # never replaced: a claim was lost, and the result is the same
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
        """Store what a run consists of."""
        path = self.folder / "runs" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(draft_name(name))
        try:
            with room_for("a run", path):
                write_json(draft, signed({"format": FORMAT, "name": name, **record}))
                _to_disk(draft)
                put(draft, path)
        finally:
            draft.unlink(missing_ok=True)

    def count_test(self, dataset: str, split: str, key: str) -> None:
        """Note, before it happens, that a test split is looked at."""
        self.folder.mkdir(parents=True, exist_ok=True)
        check_regular(self.folder / "test_evaluations.jsonl")
        line = json.dumps({"dataset": dataset, "split": split, "key": key, "when": now()})
        # One write to the end of the file: lines of several processes do not mix.
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
        """Claim a piece of work for this process; None if another one has it.

        The claim is a file in ``locks/`` that is made only if it does not exist. It is void if
        its process has ended, or, on another machine, if it was not renewed for `lease` seconds
        by the clock of the file system, or under our eyes.
        """
        path = self.folder / "locks" / name
        with self._guard() as moment:
            if _is_void(path, self.lease, moment):
                path.unlink(missing_ok=True)
            try:
                handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            except FileExistsError:
                return None
            try:
                token = secrets.token_hex(8)
                with os.fdopen(handle, "w", encoding="utf-8") as stream:
                    json.dump({**_this_process(), "token": token, "since": now()}, stream)
                return Claim(path, token, self.lease)
            except BaseException:  # Ctrl-C too, at this moment
                path.unlink(missing_ok=True)
                raise

    @contextlib.contextmanager
    def waiting_claim(self, name: str, pause: float = 0.05) -> Iterator[Claim]:
        """Claim a piece of work, and wait while another process has it."""
        while (claim := self.claim(name)) is None:
            time.sleep(pause)
            pause = min(2.0, 1.5 * pause)
        with claim:
            yield claim

    def clear_claims(self) -> int:
        """Remove the claims of processes that have ended, and what they left half-written.

        Returns
        -------
        int
            How many claims there were.
        """
        with self._guard() as moment:
            for draft in self.folder.glob("*/.*-*"):
                with contextlib.suppress(OSError):
                    if _is_left(draft, moment):
                        shutil.rmtree(draft) if draft.is_dir() else draft.unlink()
        removed = 0
        for path in (self.folder / "locks").glob("[!.]*"):
            with self._guard() as moment:
                if _is_void(path, self.lease, moment):
                    path.unlink(missing_ok=True)
                    removed += 1
        return removed

    def is_orphaned(self, name: str) -> bool:
        """Say whether a piece of work is claimed by who has ended."""
        with self._guard() as moment:
            return _is_void(self.folder / "locks" / name, self.lease, moment)

    @contextlib.contextmanager
    def _guard(self) -> Iterator[float]:
        """Let one process at a time judge and break claims; give the file system's time.

        Machines that share a folder need not agree on the time: claims are as old as the clock
        makes them that also sets their time of change.
        """
        guard = self.folder / "locks" / ".guard"
        guard.parent.mkdir(parents=True, exist_ok=True)
        check_regular(guard)
        with open(guard, "a+b") as stream:
            try:
                import fcntl

                # Without such locks, of the system or of this file system, O_EXCL has to do alone.
                with contextlib.suppress(OSError):
                    fcntl.flock(stream, fcntl.LOCK_EX)
            except ImportError:
                pass
            os.utime(guard)
            yield guard.stat().st_mtime


class Claim:
    """A claim on a piece of work; renewed in the background until it is released.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    token : str
        What the file says if it is still ours.
    lease : float
        Seconds; renewed six times as often.
    """

    def __init__(self, path: Path, token: str, lease: float) -> None:
        self.path, self.token = path, token
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._renew, args=(lease / 6,), daemon=True)
        self._thread.start()

    def _renew(self, every: float) -> None:
        while not self._done.wait(every):
            with contextlib.suppress(OSError):
                os.utime(self.path)

    def release(self) -> None:
        """Give the work back, unless another process has taken it meanwhile."""
        self._done.set()
        with contextlib.suppress(OSError, StoreError, TypeError, LookupError):
            if read_json(self.path)["token"] == self.token:
                self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _evaluation_of(line: str) -> dict[str, str]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    names = ("dataset", "split", "key", "when")
    if not isinstance(row, dict) or any(not isinstance(row.get(name), str) for name in names):
        return dict.fromkeys(names, "?")  # ended early: it still counts as one
    return row


def data_name(name: str) -> str:
    """Return the one name under which looks at a data set are counted."""
    return registry.normalise(name.rpartition(":")[2])


def _this_process() -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": _started(os.getpid())}


def _started(pid: int) -> str:
    """Return when a process started, in clock ticks since boot; empty where it cannot be known.

    A number of a process is used again, and the same number does not mean the same process.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    # The name, in parentheses, may hold anything.
    fields = text.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]


def _is_void(path: Path, lease: float, moment: float) -> bool:
    """Say whether a claim is void at a moment of the file system's clock; under the guard."""
    try:
        changed = path.stat().st_mtime
        owner = read_json(path)
    except FileNotFoundError:
        return False
    except StoreError:  # a process was killed, or is, between making and filling the file
        return moment - changed > 5.0
    kinds = {"host": str, "pid": int, "started": str, "token": str}
    if not isinstance(owner, dict) or any(
        type(owner.get(name)) is not kind for name, kind in kinds.items()
    ):
        return moment - changed > lease
    if owner["host"] != socket.gethostname():
        # Its machine may also set the time, and set it wrong: it must be seen to change.
        token, last, since = _seen.get(path, ("", 0.0, 0.0))
        if (token, last) != (owner["token"], changed):
            since = time.monotonic()
            _seen[path] = (owner["token"], changed, since)
        return moment - changed > lease or time.monotonic() - since > lease
    return not _is_alive(owner["pid"], owner["started"])


#: Claims of other machines: token, time of change, and when we first saw that.
_seen: dict[Path, tuple[str, float, float]] = {}


def _is_alive(pid: int, started: str) -> bool:
    if os.path.isdir("/proc/self"):
        return _started(pid) == started
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def draft_name(name: str) -> str:
    """Return a name for what becomes `name` when it is whole; it tells whose draft it is."""
    me = _this_process()
    return f".{name[:16]}-{_short_host()}-{me['pid']}-{me['started'] or 0}-{secrets.token_hex(8)}"


def _short_host() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


_DRAFT = re.compile(r"-([0-9a-f]{8})-(\d{1,9})-(\d{1,20})-[0-9a-f]{16}$")


def _is_left(draft: Path, moment: float) -> bool:
    """Say whether nobody is at a draft any more."""
    found = _DRAFT.search(draft.name)
    if found and found[1] == _short_host():
        return not _is_alive(int(found[2]), "" if found[3] == "0" else found[3])
    # Nothing takes an hour to write.
    return draft.lstat().st_mtime < moment - 3600


def now() -> str:
    """Return the time, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def write_json(path: Path, value: Any) -> None:
    """Write JSON as browsers and other languages read it: no NaN, no infinity."""
    text = json.dumps(_plain(value, None), indent=1, ensure_ascii=False, allow_nan=False)
    # Half of a surrogate pair stays what it is, as an escape of JSON.
    path.write_bytes(f"{text}\n".encode("utf-8", "backslashreplace"))


def _to_disk(path: Path) -> None:
    with open(path, "rb") as stream:
        os.fsync(stream.fileno())


def canonical(value: Any) -> str:
    """Return the one JSON text of a value: keys sorted, nothing by its ``repr``.

    Raises
    ------
    TypeError
        If the value is not made of mappings, sequences, strings, numbers, booleans and None.
    """
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def key_of(cell: Mapping[str, Any]) -> str:
    """Return the key of a cell: the SHA-256 of its canonical JSON."""
    return hashlib.sha256(canonical(cell).encode()).hexdigest()


_TAG = object()


def _plain(value: Any, unreal: Any = _TAG) -> Any:
    """Return a value as JSON has it; NaN and infinity become `unreal`, or are tagged."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        number = float(value)
        if math.isfinite(number):
            return number
        return {"$float": str(number)} if unreal is _TAG else unreal
    if isinstance(value, Mapping):
        wrong = next((key for key in value if not isinstance(key, str)), None)
        if wrong is not None:
            raise TypeError(f"keys of a mapping must be strings, got {wrong!r}")
        return {key: _plain(part, unreal) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part, unreal) for part in value]
    raise TypeError(f"{type(value).__name__} has no place in JSON: {value!r}")


def signed(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping with the hash of its content, which `read_json` compares."""
    return {**value, "sha256": key_of(_plain(value, None))}


def _write_sums(folder: Path) -> None:
    """Write the hashes of the files in a folder, as ``sha256sum --check`` reads them."""
    lines = []
    for path in sorted(folder.iterdir()):
        with open(path, "rb") as stream:
            lines.append(f"{hashlib.file_digest(stream, 'sha256').hexdigest()}  {path.name}\n")
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def check_sum(path: Path, content: bytes | None = None) -> None:
    """Raise a `StoreError` if a file is not what was written beside its hash.

    A folder without hashes is one of an earlier crossfit.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    content : bytes, optional
        What it holds, where it was read already.
    """
    if not os.path.lexists(path.parent / SUMS):
        return
    wanted = sums_of(path.parent).get(path.name)
    if wanted is None:
        raise _damaged(path.parent / SUMS, f"it has no hash of {path.name}")
    if content is None:
        with open(path, "rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    else:
        found = hashlib.sha256(content).hexdigest()
    if found != wanted:
        raise _damaged(path, "its content is not what was written")


def sums_of(folder: Path) -> dict[str, str]:
    """Return the hashes of the files in a folder, by name; none where an older crossfit wrote."""
    sums = folder / SUMS
    if not os.path.lexists(sums):
        return {}
    check_regular(sums)
    try:
        pairs = [line.split("  ", 1) for line in sums.read_text("utf-8").splitlines()]
        return {name: digest for digest, name in pairs}
    except (ValueError, OSError) as error:
        raise _damaged(sums, "it is not a list of hashes and names") from error


def _damaged(path: Path, said: str) -> StoreError:
    return StoreError(f"{path} is damaged: {said}")


def warn_of_damage(error: StoreError) -> None:
    """Say, once for each file and process, that what a damaged file holds is computed again."""
    text = f"{error}; it is computed again"
    if text not in _warned:
        _warned.add(text)
        warnings.warn(text, DamageWarning, stacklevel=3)


_warned: set[str] = set()


def put(draft: Path, path: Path) -> None:
    """Give a file its name; a folder of that name, which does not belong there, is removed."""
    if path.is_dir() and not path.is_symlink():
        _remove(path)
    draft.replace(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def read_bytes(path: Path) -> bytes:
    """Read a file of the store; what is not a regular file is refused."""
    check_regular(path)
    size = path.stat().st_size
    if size > _LARGEST:
        raise _damaged(path, f"it has {size:,} bytes")
    return path.read_bytes()


def read_json(path: Path, form: Any = None) -> Any:
    """Read a JSON file of the store.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    form : object, optional
        What it must hold, see `forms.misfit`.

    Raises
    ------
    StoreError
        If it is damaged, is of another format, or holds something else.
    FileNotFoundError
        If it is not there.
    """
    content = read_bytes(path)
    try:
        found = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path} cannot be read: {error}") from error
    if isinstance(found, dict) and found.get("format", FORMAT) != FORMAT:
        raise StoreError(f"{path} has format {found['format']!r}, this crossfit reads {FORMAT}")
    check_sum(path, content)
    if isinstance(found, dict) and "sha256" in found:
        digest = found.pop("sha256")
        if digest != key_of(found):
            raise _damaged(path, "its content is not what was written")
    if form is not None and (said := misfit(found, form)):
        raise _damaged(path, said)
    return found


def check_regular(path: Path) -> None:
    """Refuse to wait for a pipe or a device, or to read a folder, in the place of a file."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:  # a file in the place of a folder, a link to itself
        raise StoreError(f"{path} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(mode):
        raise StoreError(f"{path} is not a regular file")
