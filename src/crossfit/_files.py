"""Files that have their name only when they are whole, and room for them before they are filled."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

__all__ = ["reserve", "room_for", "whole_file"]

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
    """Have the file system keep room for a file of `size` bytes, from where it ends now.

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
    """Have a file written beside its name, which it gets when it is whole; else nothing stays.

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
    draft = path.with_name(f".{path.name[:100]}-{secrets.token_hex(8)}")
    with room_for(what, path, size):
        try:
            draft.touch(exist_ok=False)
            yield draft
            os.replace(draft, path)
        except BaseException:  # Ctrl-C too
            with contextlib.suppress(OSError):
                draft.unlink()
            raise
