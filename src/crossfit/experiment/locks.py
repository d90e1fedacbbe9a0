"""Claims on pieces of work, which end with the process that made them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import socket
import threading
import time
from pathlib import Path
from typing import Any, Self

from crossfit.experiment.files import StoreError, read_json

__all__ = ["Claim", "draft_name", "is_left", "is_void", "this_process"]


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


def this_process() -> dict[str, Any]:
    """Return host, number and start of this process."""
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


def is_void(path: Path, lease: float, moment: float) -> bool:
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
    me = this_process()
    return f".{name[:16]}-{_short_host()}-{me['pid']}-{me['started'] or 0}-{secrets.token_hex(8)}"


def _short_host() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


_DRAFT = re.compile(r"-([0-9a-f]{8})-(\d{1,9})-(\d{1,20})-[0-9a-f]{16}$")


def is_left(draft: Path, moment: float) -> bool:
    """Say whether nobody is at a draft any more."""
    found = _DRAFT.search(draft.name)
    if found and found[1] == _short_host():
        return not _is_alive(int(found[2]), "" if found[3] == "0" else found[3])
    # Nothing takes an hour to write.
    return draft.lstat().st_mtime < moment - 3600
