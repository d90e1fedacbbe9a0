"""Files that have their name only when they are whole, and room for them before they are filled."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

__all__ = ["clear_drafts", "draft_of", "reserve", "room_for", "whole_file"]

_NO_ROOM = {
    errno.ENOSPC: "there is no space left on the disk",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file is larger than may be written here",
}
# File systems and C libraries without the call.
_CANNOT_RESERVE = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
_ZEROS = bytes(2**20)


@contextlib.contextmanager
def room_for(what: str, path: str | os.PathLike[str], size: int | None = None) -> Iterator[None]:
    """Turn the errors of a full disk into one sentence.

    Parameters
    ----------
    what : str
        What is written, for instance "the scores".
    path : path-like
        Where it is written to.
    size : int, optional
        Its size in bytes, where that is known.

    Raises
    ------
    OSError
        With the number of the error that it replaces.
    """
    try:
        yield
    except Exception as error:
        # NumPy and torch raise errors of their own out of a failed write.
        number = _number_of(error)
        if number is None:
            raise
        much = "" if size is None else f" ({size:,} bytes)"
        told = OSError(f"cannot write {what}{much} to {os.fspath(path)!r}: {_NO_ROOM[number]}")
        told.errno = number
        raise told from error


def _number_of(error: BaseException | None) -> int | None:
    """Return the number of a full disk's error, which may lie behind another one."""
    while error is not None:
        number = getattr(error, "errno", None)
        if number in _NO_ROOM:
            return int(number)
        error = error.__cause__ or error.__context__
    return None


def reserve(stream: IO[Any], size: int) -> None:
    """Reserve room on disk for a file of `size` bytes, from its present end.

    A memory map of a file with holes is killed by a signal where the disk is full: what is
    mapped must be there before.

    Parameters
    ----------
    stream : binary file
        Open for writing.
    size : int
        Bytes from its beginning.

    Raises
    ------
    OSError
        If there is no room.
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

    What processes that were killed meanwhile left there of the same file goes first.

    Parameters
    ----------
    path : path-like
        The name wanted; a file of that name is replaced. The folder must be there.
    what : str
        What the sentence about a full disk calls it.
    size : int, optional
        Its size in bytes, where that is known.

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

    It is locked while this process lives, so that `clear_drafts` can tell whose process does not.

    Parameters
    ----------
    path : pathlib.Path
        What the draft will be.
    make : callable
        Makes an empty one: ``Path.touch`` or ``Path.mkdir``.

    Yields
    ------
    pathlib.Path
        The draft.
    """
    while True:
        draft = path.with_name(f"{_draft_prefix(path)}{secrets.token_hex(8)}")
        try:
            make(draft)
            lock = _locked(draft, wait=True)
            if os.path.lexists(draft):  # else it was cleared before it was locked
                break
            _unlock(lock)
        except BaseException:
            _remove(draft)
            raise
    try:
        yield draft
    finally:  # after Ctrl-C too
        _remove(draft)
        _unlock(lock)


def clear_drafts(path: str | os.PathLike[str]) -> None:
    """Remove the drafts of a file or folder whose processes were killed while they wrote.

    Drafts of living processes are locked and stay. So does everything where files cannot be
    locked.
    """
    path = Path(path).absolute()
    name = re.compile(re.escape(_draft_prefix(path)) + "[0-9a-f]{16}")
    with contextlib.suppress(OSError):
        for found in os.listdir(path.parent):
            if not name.fullmatch(found):
                continue
            draft = path.with_name(found)
            with contextlib.suppress(OSError):
                lock = _locked(draft, wait=False)
                if lock is not None:
                    _remove(draft)
                    _unlock(lock)


def _draft_prefix(path: Path) -> str:
    return f".{path.name[:100]}-"


def _remove(draft: Path) -> None:
    if draft.is_dir() and not draft.is_symlink():
        shutil.rmtree(draft, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            draft.unlink()


def _locked(draft: Path, *, wait: bool) -> int | None:
    """Lock a draft and return what to unlock it by; None where there are no such locks.

    The kernel lets go of the lock when the process dies, however it does.
    """
    try:
        import fcntl
    except ImportError:
        return None
    if not wait and not (draft.is_dir() or draft.is_file()):  # opening a pipe would wait
        return None
    descriptor = os.open(draft, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(descriptor)
        if wait:  # a file system without locks
            return None
        raise
    return descriptor


def _unlock(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)
