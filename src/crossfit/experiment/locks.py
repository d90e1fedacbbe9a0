"""Claims on pieces of work, which end when their process ends."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any, Self

from crossfit._processes import is_alive, started
from crossfit.experiment.store_files import StoreError, read_json

__all__ = ["Claim", "is_void", "this_process"]


class Claim:
    """A claim on a piece of work; renewed in the background until it is released.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    token : str
        Content of the file while this process holds the claim.
    lease : float
        Lease in seconds; the claim is renewed every sixth of it.
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
        """Release the claim, unless another process has taken it over."""
        self._done.set()
        with contextlib.suppress(OSError, StoreError, TypeError, LookupError):
            if read_json(self.path)["token"] == self.token:
                self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def this_process() -> dict[str, Any]:
    """Return the host, ID and start time of this process."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": started(os.getpid())}


def is_void(path: Path, lease: float, moment: float) -> bool:
    """Return True if a claim is void at a time of the file system's clock; requires the guard."""
    try:
        changed = path.stat().st_mtime
        owner = read_json(path)
    except FileNotFoundError:
        return False
    except StoreError:  # its process is between creating and filling the file, or was killed there
        return moment - changed > 5.0
    kinds = {"host": str, "pid": int, "started": str, "token": str}
    if not isinstance(owner, dict) or any(
        type(owner.get(name)) is not kind for name, kind in kinds.items()
    ):
        return moment - changed > lease
    if owner["host"] != socket.gethostname():
        # The clock of its machine may be wrong, so the time of change must be seen to change.
        token, last, since = _seen.get(path, ("", 0.0, 0.0))
        if (token, last) != (owner["token"], changed):
            since = time.monotonic()
            _seen[path] = (owner["token"], changed, since)
        return moment - changed > lease or time.monotonic() - since > lease
    return not is_alive(owner["pid"], owner["started"])


#: Claims of other machines: token, time of change, and when this process first saw both.
_seen: dict[Path, tuple[str, float, float]] = {}
