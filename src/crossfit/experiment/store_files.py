"""Files of a store: written atomically, with hashes that are checked when they are read."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from crossfit._files import remove, whole_file
from crossfit._warnings import warn
from crossfit.experiment.keys import key_of, plain_json
from crossfit.experiment.stored_schema import misfit

__all__ = [
    "DamageWarning",
    "FORMAT",
    "SUMS",
    "StoreError",
    "check_regular",
    "check_sum",
    "damaged",
    "now",
    "read_bytes",
    "read_json",
    "sums_of",
    "to_disk",
    "warn_of_damage",
    "write_json",
    "write_signed",
    "write_sums",
]

FORMAT = 1
#: Name of the file with the hashes of a folder.
SUMS = "SHA256SUMS"
# Maximum size in bytes of a file that is read as a whole.
_LARGEST = 2**30


class StoreError(ValueError):
    """A store, run or cell that is missing or cannot be read."""


class DamageWarning(UserWarning):
    """Warns that something in a store is damaged and is computed again."""


def now() -> str:
    """Return the current time in UTC, in ISO 8601 format."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def write_json(path: Path, value: Any) -> None:
    """Write standard JSON, without NaN and infinity, which other languages cannot read."""
    text = json.dumps(plain_json(value, None), indent=1, ensure_ascii=False, allow_nan=False)
    # A lone surrogate is written as a JSON escape.
    path.write_bytes(f"{text}\n".encode("utf-8", "backslashreplace"))


def to_disk(path: Path) -> None:
    """Flush a file to the disk."""
    with open(path, "rb") as stream:
        os.fsync(stream.fileno())


def write_signed(path: Path, value: Mapping[str, Any], what: str) -> None:
    """Write a JSON file with the hash of its content, which `read_json` checks.

    Parameters
    ----------
    path : pathlib.Path
        The file. A folder of that name is removed.
    value : mapping
        Content of the file.
    what : str
        Name of the content in the message about a full disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        remove(path)
    with whole_file(path, what) as draft:
        write_json(draft, {**value, "sha256": key_of(plain_json(value, None))})
        to_disk(draft)


def write_sums(folder: Path) -> None:
    """Write the hashes of the files in a folder, in the format of ``sha256sum --check``."""
    lines = []
    for path in sorted(folder.iterdir()):
        with open(path, "rb") as stream:
            lines.append(f"{hashlib.file_digest(stream, 'sha256').hexdigest()}  {path.name}\n")
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def check_sum(path: Path, content: bytes | None = None) -> None:
    """Raise a `StoreError` if a file does not match its hash.

    Folders without hashes, written by earlier versions, are not checked.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    content : bytes, optional
        Content of the file, if it has been read already.
    """
    if not os.path.lexists(path.parent / SUMS):
        return
    wanted = sums_of(path.parent).get(path.name)
    if wanted is None:
        raise damaged(path.parent / SUMS, f"it has no hash of {path.name}")
    if content is None:
        with open(path, "rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    else:
        found = hashlib.sha256(content).hexdigest()
    if found != wanted:
        raise damaged(path, "its content has changed since it was written")


def sums_of(folder: Path) -> dict[str, str]:
    """Return the hashes of the files in a folder, by name; empty if an earlier version wrote it."""
    sums = folder / SUMS
    if not os.path.lexists(sums):
        return {}
    check_regular(sums)
    try:
        pairs = [line.split("  ", 1) for line in sums.read_text("utf-8").splitlines()]
        return {name: digest for digest, name in pairs}
    except (ValueError, OSError) as error:
        raise damaged(sums, "it is not a list of hashes and names") from error


def damaged(path: Path, problem: str) -> StoreError:
    """Return the error for a damaged file."""
    return StoreError(f"{path} is damaged: {problem}")


def warn_of_damage(error: StoreError) -> None:
    """Warn, once per file and process, that the content of a damaged file is computed again."""
    text = f"{error}; it is computed again"
    if text not in _warned:
        _warned.add(text)
        warn(text, DamageWarning)


_warned: set[str] = set()


def read_bytes(path: Path) -> bytes:
    """Read a file of the store, which must be a regular file."""
    check_regular(path)
    size = path.stat().st_size
    if size > _LARGEST:
        raise damaged(path, f"it has {size:,} bytes")
    return path.read_bytes()


def read_json(path: Path, form: Any = None) -> Any:
    """Read a JSON file of the store.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    form : object, optional
        Expected form, see `schema.misfit`.

    Raises
    ------
    StoreError
        If the file is damaged, or has another format or form.
    FileNotFoundError
        If the file does not exist.
    """
    content = read_bytes(path)
    try:
        found = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{path} cannot be read: {error}") from error
    if isinstance(found, dict) and found.get("format", FORMAT) != FORMAT:
        raise StoreError(f"{path} has format {found['format']!r}; this version reads {FORMAT}")
    check_sum(path, content)
    if isinstance(found, dict) and "sha256" in found:
        digest = found.pop("sha256")
        if digest != key_of(found):
            raise damaged(path, "its content has changed since it was written")
    if form is not None and (problem := misfit(found, form)):
        raise damaged(path, problem)
    return found


def check_regular(path: Path) -> None:
    """Raise a `StoreError` if a path is a pipe, a device or a folder instead of a file."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:  # for instance a file in place of a folder, or a link to itself
        raise StoreError(f"{path} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(mode):
        raise StoreError(f"{path} is not a regular file")
