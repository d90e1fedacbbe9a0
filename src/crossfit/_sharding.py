"""Extraction in parts: by several processes, GPUs or machines, continued after a kill.

A part is a fixed number of items of a view. Its features are written to a folder, values first and
the description last, each by a rename, so that a part is complete or absent. The features of all
parts are read from there without loading them into memory.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import crossfit
from crossfit._files import draft_of
from crossfit._workers import Lost, Run
from crossfit.views import Ragged, n_rows

__all__ = ["Part", "array_of", "device_names", "extracted_in_parts", "is_being_made", "parts_of"]

#: Number of items of a part. It is fixed, so that features do not depend on the number of
#: processes: those of a network depend on the batch in their last bits.
SIZE = 512


@dataclass(frozen=True)
class Part:
    """Some items of a view, to be extracted by any process.

    Parameters
    ----------
    path : pathlib.Path
        Where the features are written, without suffix; in a folder that all processes can access.
    view : str
        Name of the view, for messages.
    extractor : transformer
        Fitted.
    items : array-like of n items
        The items.
    skip : bool
        Whether to leave out items that cannot be read.
    devices : tuple of str
        Devices of the processes of this machine; each process uses one that no other uses.
    """

    path: Path
    view: str
    extractor: Any
    items: Any
    skip: bool
    devices: tuple[str, ...] = ()

    @property
    def is_made(self) -> bool:
        """Return True if all of its features are there."""
        return self.path.with_suffix(".json").exists()


def parts_of(
    folder: Path, view: str, extractor: Any, items: Any, skip: bool, devices: tuple[str, ...] = ()
) -> list[Part]:
    """Return the parts of a view; their names depend on all that their features depend on."""
    n = n_rows(items) if hasattr(items, "shape") else len(items)
    if isinstance(items, np.ndarray) and items.ndim == 1:
        paths = [os.path.abspath(item) for item in items.tolist() if _is_file(item)]
        if len(paths) == n:  # a worker may run in another folder
            items = np.array(paths, dtype=object)
    identity = _identity(extractor, skip)
    found = []
    for start in range(0, n, SIZE):
        part = items[start : start + SIZE]
        digest = hashlib.sha256(f"{view} {identity} {start} {_content(part)}".encode())
        found.append(Part(folder / digest.hexdigest()[:32], view, extractor, part, skip, devices))
    return found


def extracted_in_parts(
    run: Run, parts: list[Part], done: Callable[[int], None]
) -> Iterator[tuple[Any, dict[int, str]]]:
    """Extract parts and yield, in their order, their features and what is wrong with items.

    Parameters
    ----------
    run : callable
        Applies a function in other processes, see `crossfit._workers`.
    parts : list of Part
        The parts of a view. Those that are made already are not made again.
    done : callable
        Called with the number of items of each part that is made.

    Yields
    ------
    rows : ndarray or Ragged
        Features, in files that are mapped into memory.
    problems : dict of int to str
        Positions in the part that were left out, and why.

    Raises
    ------
    ValueError, TypeError, OSError
        If an item cannot be read, or features are not arrays of numbers.
    RuntimeError
        If a part was lost with its process several times.
    """
    todo = {part.path.name: part for part in parts if not part.is_made}
    for part in parts:
        if part.is_made:
            done(len(part.items))
    results = run(_make, todo)
    for name, error in results:
        part = todo[name]
        if isinstance(error, Lost):
            raise RuntimeError(
                f"{part.view}: a part of {len(part.items)} items was lost: {error.reason}; repeat "
                "the command to continue"
            )
        if error is not None:
            with warnings.catch_warnings():  # joblib's, about parts that are not needed now
                warnings.simplefilter("ignore")
                results.close()
            raise error
        done(len(part.items))
    for part in parts:
        about = json.loads(part.path.with_suffix(".json").read_text(encoding="utf-8"))
        problems = {int(at): why for at, why in about["problems"].items()}
        if about["rows"]:
            rows: Any = np.load(part.path.with_suffix(".npy"), mmap_mode="r", allow_pickle=False)
            if about["offsets"] is not None:
                rows = Ragged(rows, np.array(about["offsets"], dtype=np.int64))
            yield rows, problems
        else:
            yield None, problems


def is_being_made(part: Part) -> bool:
    """Return True if a process has begun with a part and has not ended it."""
    return part.path.with_suffix(".begun").exists()


def device_names(devices: str, uses_torch: bool) -> tuple[str, ...]:
    """Return the devices of a list such as ``"cuda:0,cuda:1"``; ``"auto"`` is each GPU.

    Parameters
    ----------
    devices : str
        Names with commas, or ``"auto"``.
    uses_torch : bool
        Whether an extractor has a device; if not, torch is not asked.

    Raises
    ------
    ValueError
        If a device does not exist.
    """
    from crossfit._devices import resolve_device

    if devices != "auto":
        return tuple(resolve_device(name.strip()) for name in devices.split(","))
    if not uses_torch:
        return ()
    import torch

    n = torch.cuda.device_count()
    return tuple(f"cuda:{i}" for i in range(n)) if n > 1 else ()


def array_of(rows: Any, view: str) -> NDArray[Any]:
    """Return features as one array of numbers, those of ragged rows below one another.

    Raises
    ------
    ValueError
        If they are something else.
    """
    if isinstance(rows, Ragged):
        if rows.info:
            raise ValueError(
                f"{view}: rows with {', '.join(rows.info)} cannot be stored as an array; name the "
                "extractor in crossfit fit instead"
            )
        rows = rows.values
    if not isinstance(rows, np.ndarray) or rows.ndim < 2 or rows.dtype.kind not in "biuf":
        what = f"{rows.dtype} of shape {rows.shape}" if hasattr(rows, "shape") else ""
        raise ValueError(
            f"{view}: features must be an array of numbers with a row per item, got "
            f"{type(rows).__name__} {what}; sparse ones can be reduced by a further step, or "
            "name the extractor in crossfit fit instead"
        )
    return rows


def _make(part: Part) -> Exception | None:
    """Extract a part and write it; return the error if its items or features are wrong."""
    if part.is_made:  # by a process that was lost afterwards
        return None
    begun = part.path.with_suffix(".begun")
    try:
        begun.touch()
        extractor = part.extractor
        if part.devices:
            extractor = _on(extractor, _own_device(part.path.parent, part.devices))
        if part.skip and hasattr(extractor, "transform_readable"):
            try:
                rows, problems = extractor.transform_readable(part.items)
            except ValueError:
                # None can be read: the reason for each of them.
                rows, problems = None, _reasons(extractor, part.items)
        else:
            rows, problems = extractor.transform(part.items), {}
        _write(part, rows, problems)
    except (ValueError, TypeError, OSError) as error:
        return error
    finally:
        begun.unlink(missing_ok=True)
    return None


def _reasons(extractor: Any, items: Any) -> dict[int, str]:
    problems = {}
    for at in range(len(items)):
        try:
            extractor.transform(items[at : at + 1])
        except (ValueError, OSError) as error:
            problems[at] = str(error)
    if len(problems) < len(items):
        raise ValueError(f"some of {len(items)} items can be read at one time and not at another")
    return problems


def _write(part: Part, rows: Any, problems: dict[int, str]) -> None:
    offsets = None
    if rows is not None:
        values = array_of(rows, part.view)
        if isinstance(rows, Ragged):
            offsets = rows.offsets.tolist()
        with draft_of(part.path.with_suffix(".npy"), Path.touch) as draft:
            with draft.open("wb") as stream:
                np.save(stream, values, allow_pickle=False)
            os.replace(draft, part.path.with_suffix(".npy"))
    about = {"rows": rows is not None, "offsets": offsets, "problems": problems}
    with draft_of(part.path.with_suffix(".json"), Path.touch) as draft:
        draft.write_text(json.dumps(about), encoding="utf-8")
        os.replace(draft, part.path.with_suffix(".json"))


_held: dict[tuple[str, ...], tuple[str, Any]] = {}


def _own_device(folder: Path, devices: tuple[str, ...]) -> str:
    """Return a device that no other process of this run uses, until this process ends."""
    if len(devices) == 1:
        return devices[0]
    key = (str(folder), *devices)
    if key not in _held:
        import fcntl

        for i, device in enumerate(devices):
            stream = open(folder / f"device-{i}", "ab")  # noqa: SIM115 - locked until the end
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                stream.close()
                continue
            _held[key] = device, stream
            break
        else:
            return devices[0]  # a process that is about to end has one still
    return _held[key][0]


def _on(extractor: Any, device: str) -> Any:
    """Return a copy of an extractor, or of a pipeline, that runs on a device."""
    names = [
        name for name in extractor.get_params()
        if name.rpartition("__")[2] == "device"
    ]  # fmt: skip
    return copy.deepcopy(extractor).set_params(**dict.fromkeys(names, device))


def _identity(extractor: Any, skip: bool) -> str:
    """Return a hash of an extractor with what it has learned, and of its code."""
    import joblib

    code = ""
    if hasattr(extractor, "fingerprint"):
        with contextlib.suppress(TypeError):
            code = extractor.fingerprint()
    return f"{crossfit.__version__} {code} {joblib.hash(extractor)} {skip}"


def _content(items: Any) -> str:
    """Return a hash of items, and of the size and time of change of files."""
    import joblib

    files = [
        (status.st_size, status.st_mtime_ns)
        for item in items
        if _is_file(item)
        for status in (os.stat(item),)
    ]
    return f"{joblib.hash(list(items) if not hasattr(items, 'dtype') else items)} {files}"


def _is_file(item: Any) -> bool:
    try:
        return isinstance(item, (str, os.PathLike)) and os.path.isfile(item)
    except (ValueError, OSError):  # a text may hold anything
        return False
