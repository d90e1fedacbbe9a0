"""Atomic writing of files, and reservation of disk space."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from crossfit._processes import is_alive, started

__all__ = [
    "clear_drafts",
    "draft_of",
    "is_left",
    "put_folder",
    "remove",
    "reserve",
    "room_for",
    "whole_file",
]

_NO_ROOM = {
    errno.ENOSPC: "there is no space left on the disk",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file is larger than may be written here",
}
# Errors of file systems and C libraries that do not support the call.
_CANNOT_RESERVE = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
_ZEROS = bytes(2**20)


@contextlib.contextmanager
def room_for(what: str, path: str | os.PathLike[str], size: int | None = None) -> Iterator[None]:
    """Convert the errors of a full disk into one clear OSError.

    Parameters
    ----------
    what : str
        Name of the content in the message, for instance "the scores".
    path : path-like
        Path of the file.
    size : int, optional
        Size in bytes, if known.

    Raises
    ------
    OSError
        With the number of the original error.
    """
    try:
        yield
    except Exception as error:
        # NumPy and torch raise their own errors if a write fails.
        number = _number_of(error)
        if number is None:
            raise
        much = "" if size is None else f" ({size:,} bytes)"
        full = OSError(f"cannot write {what}{much} to {os.fspath(path)!r}: {_NO_ROOM[number]}")
        full.errno = number
        raise full from error


def _number_of(error: BaseException | None) -> int | None:
    """Return the number of an error of a full disk, which may be the cause of another error."""
    while error is not None:
        number = getattr(error, "errno", None)
        if number in _NO_ROOM:
            return int(number)
        error = error.__cause__ or error.__context__
    return None


def reserve(stream: IO[Any], size: int) -> None:
    """Reserve room on disk for a file of `size` bytes, from its present end.

    If the disk is full, writing to a memory map of a file with holes kills the process by a
    signal, so the space must be reserved before.

    Parameters
    ----------
    stream : binary file
        File opened for writing.
    size : int
        Size of the whole file in bytes.

    Raises
    ------
    OSError
        If there is not enough space.
    """
    stream.flush()
    descriptor = stream.fileno()
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)
            return
        except OSError as error:
            if error.errno not in _CANNOT_RESERVE:
                raise
    at = os.fstat(descriptor).st_size
    stream.seek(at)
    for start in range(at, size, len(_ZEROS)):
        stream.write(_ZEROS[: size - start])
    stream.flush()


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str], what: str, size: int | None = None) -> Iterator[Path]:
    """Write a file under a temporary name and rename it when it is complete.

    If the block raises, the temporary file is deleted. Temporary files of the same file that were
    left by killed processes are deleted first.

    Parameters
    ----------
    path : path-like
        Path of the file, which is replaced if it exists. The folder must exist.
    what : str
        Name of the content in error messages.
    size : int, optional
        Size in bytes, if known.

    Yields
    ------
    pathlib.Path
        An empty file to write to, with the permissions of any new file.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    path = Path(path).absolute()
    clear_drafts(path)
    with room_for(what, path, size), draft_of(path, Path.touch) as draft:
        yield draft
        os.replace(draft, path)


@contextlib.contextmanager
def draft_of(path: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """Create a draft next to a file or folder, and remove it at the end unless it was renamed.

    Its name holds the process that writes it, so that `is_left` can find out whether that has
    ended.

    Parameters
    ----------
    path : pathlib.Path
        Path of the final file or folder.
    make : callable
        Function that creates an empty one: ``Path.touch`` or ``Path.mkdir``.

    Yields
    ------
    pathlib.Path
        The draft.
    """
    draft = _draft_beside(path)
    try:
        make(draft)
        yield draft
    finally:  # after Ctrl-C too
        remove(draft)


def put_folder(draft: Path, path: Path) -> None:
    """Rename a folder, in place of what is there, unless another process has just put one there."""
    old = _draft_beside(path)
    with contextlib.suppress(FileNotFoundError):
        path.rename(old)
    try:
        draft.rename(path)
    except OSError as error:
        # Systems differ in the error for a folder that is not empty.
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
    remove(old)


def clear_drafts(path: str | os.PathLike[str]) -> None:
    """Delete temporary files of a file or folder that were left by killed processes.

    Drafts of living processes, and of other machines, stay.
    """
    path = Path(path).absolute()
    with contextlib.suppress(OSError):
        for name in os.listdir(path.parent):
            if name.startswith(_prefix(path)) and is_left(path.with_name(name)):
                remove(path.with_name(name))


def is_left(draft: Path, before: float | None = None) -> bool:
    """Return True if a draft belongs to a process that has ended.

    Parameters
    ----------
    draft : pathlib.Path
        The draft.
    before : float, optional
        What was changed last before this time, in seconds of the file system's clock, is taken
        as left where its process is not known: it may be one of another machine.
    """
    found = _DRAFT.search(draft.name)
    if found and found[1] == _host():
        return not is_alive(int(found[2]), found[3])
    return before is not None and draft.lstat().st_mtime < before


_DRAFT = re.compile(r"-([0-9a-f]{8})-(\d{1,9})-(\d{1,20})-[0-9a-f]{16}$")


def _draft_beside(path: Path) -> Path:
    me = os.getpid()
    owner = f"{_host()}-{me}-{started(me)}"
    return path.with_name(f"{_prefix(path)}{owner}-{secrets.token_hex(8)}")


def _prefix(path: Path) -> str:
    return f".{path.name[:40]}-"


def _host() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def remove(path: Path) -> None:
    """Remove a file, or a folder with all it holds, if it is there and can be removed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()
