"""Storages of studies: databases with a heartbeat, journal files, and memory."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sqlite3
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages.journal import JournalFileBackend

from crossfit._suggest import did_you_mean
from crossfit._text import shown
from crossfit._warnings import warn

__all__ = [
    "as_connection_errors",
    "check_storage",
    "follows_interrupt",
    "open_storage",
    "reason_of_failure",
    "wait_for",
    "without_password",
]

# Seconds between two heartbeats of a trial, and seconds without a heartbeat after which it is
# marked as failed.
HEARTBEAT, GRACE = 10, 40
# Seconds to wait for a database that another process has locked: until a warning, and in total.
PATIENCE, BUSY = 2.0, 30.0

_EXAMPLES = "sqlite:///study.db, postgresql://user@host/name or journal:///study.log"
_SCHEMES = ("sqlite", "postgresql", "journal", "mysql", "mariadb", "oracle", "mssql")


class _Database(optuna.storages.RDBStorage):
    """A database that skips a heartbeat if it cannot be written, instead of raising."""

    def record_heartbeat(self, trial_id: int) -> None:
        with contextlib.suppress(StorageInternalError):
            super().record_heartbeat(trial_id)


class _JournalFile(JournalFileBackend):
    """A journal file that raises Optuna's storage error if it cannot be read or written."""

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        try:
            super().append_logs(logs)
        except OSError as error:
            raise StorageInternalError(error.strerror or str(error)) from error

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        try:
            yield from super().read_logs(log_number_from)
        except OSError as error:
            raise StorageInternalError(error.strerror or str(error)) from error
        except ValueError as error:
            raise StorageInternalError(f"{self._file_path} is not a journal: {error}") from error


def check_storage(storage: Any) -> None:
    """Check that a value can be the storage of a study, without opening anything.

    Parameters
    ----------
    storage : str or optuna storage, optional
        As in `open_storage`.

    Raises
    ------
    TypeError
        If it is neither a URL nor an Optuna storage.
    ValueError
        If it is not the URL of a journal or a database, or names a file that cannot be one.
    ImportError
        If the driver of the database is not installed.
    """
    if storage is None or isinstance(storage, optuna.storages.BaseStorage):
        return
    if not isinstance(storage, str):
        raise TypeError(
            f"storage must be a URL, for instance {_EXAMPLES}, or an Optuna storage, "
            f"got {shown(storage)}"
        )
    scheme, separator, rest = storage.partition("://")
    public = without_password(storage)
    if not separator:
        raise ValueError(f"storage must be a URL, for instance {_EXAMPLES}, got {shown(public)}")
    if scheme == "journal":
        _check_file(_journal_path(rest), public, "journal:///study.log")
        return
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    try:
        url = make_url(_with_driver(storage))
        dialect = url.get_dialect()
    except NoSuchModuleError:
        raise ValueError(
            f"storage must be the URL of a database or a journal, but {public!r} begins with "
            f"{scheme!r}"
            + (did_you_mean(scheme.lower(), _SCHEMES) or f"; use a URL such as {_EXAMPLES}")
        ) from None
    except (ArgumentError, ValueError):
        raise ValueError(
            f"storage must be the URL of a database, for instance {_EXAMPLES}, got {public!r}"
        ) from None
    try:
        dialect.import_dbapi()
    except ImportError as error:
        raise _no_driver(scheme) from error
    if dialect.name == "sqlite" and not _is_uri(url):
        if url.host:
            raise ValueError(
                f"storage {public!r} needs a third slash before the name of the file; write "
                f"sqlite:///{url.host}"
            )
        if url.database == ":memory:":
            raise ValueError(
                f"storage {public!r} is in memory and would not be kept; leave storage out, or "
                "name a file as in sqlite:///study.db"
            )
        _check_file(Path(url.database or ""), public, "sqlite:///study.db")


@contextlib.contextmanager
def open_storage(storage: Any, shared: bool) -> Iterator[Any]:
    """Open the storage of a study.

    Parameters
    ----------
    storage : str or optuna storage, optional
        A URL (``sqlite:///study.db``, ``postgresql://user@host/name``, ``journal:///study.log``;
        three slashes are followed by a relative path, four by an absolute one). By default the
        study is in memory or, if it is shared, in a temporary file that is deleted after the
        block.
    shared : bool
        Whether several processes use it.

    Yields
    ------
    optuna storage

    Raises
    ------
    TypeError, ValueError, ImportError
        As in `check_storage`, or if several processes would share a storage in memory.
    ConnectionError
        If the database cannot be reached or is locked by another process, or its disk is full.
    """
    check_storage(storage)
    if storage is None and shared:
        with tempfile.TemporaryDirectory(prefix="crossfit-") as folder:
            yield _journal(Path(folder) / "study.log")
        return
    if isinstance(storage, optuna.storages.InMemoryStorage) and shared:
        raise ValueError("processes cannot share a storage in memory; give n_jobs=1 or a URL")
    if isinstance(storage, str):
        storage = _from_url(storage)
    yield optuna.storages.InMemoryStorage() if storage is None else storage


def reason_of_failure(error: BaseException | None) -> str | None:
    """Return the reason, in one line, if an error was caused by a storage, and None otherwise.

    The error of the storage may be hidden: Optuna wraps it in an error of its own, or raises
    another one while handling it, so the whole chain of causes is searched.
    """
    from sqlalchemy.exc import DBAPIError

    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    for found in chain:
        if isinstance(found, DBAPIError):
            return _first_line(found)
    for found in chain:
        if isinstance(found, StorageInternalError):
            return " ".join(str(found).split())
    return None


@contextlib.contextmanager
def as_connection_errors(finished: Callable[[], int] = int) -> Iterator[None]:
    """Convert errors that are caused by a storage into a ConnectionError of one sentence.

    Parameters
    ----------
    finished : callable, optional
        Returns the number of finished trials, which the message then states; 0 by default.

    Raises
    ------
    ConnectionError
        In place of an error caused by a storage; other errors are not changed.
    KeyboardInterrupt
        In place of the error that Optuna raises if Ctrl-C comes while it writes to the storage.
    """
    try:
        yield
    except ConnectionError:
        raise
    except Exception as error:
        if isinstance(error, UnboundLocalError) and follows_interrupt(error):
            # Optuna, interrupted while it stores the value of a trial, continues without a state.
            raise KeyboardInterrupt from error
        reason = reason_of_failure(error)
        if reason is None:
            raise
        n = finished()
        kept = f"; finished trials ({n}) are kept, and the same search resumes with them"
        raise ConnectionError(
            f"the storage of the study failed: {reason}{kept if n else ''}"
        ) from error


def follows_interrupt(error: BaseException | None) -> bool:
    """Return True for an interrupt, and for an error that was raised while one was handled."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def wait_for(storage: Any) -> None:
    """Wait until the file of an SQLite database is not locked by another process.

    Parameters
    ----------
    storage : optuna storage
        Nothing is done if it is not an SQLite database in a file.

    Raises
    ------
    ConnectionError
        If it is still locked after `BUSY` seconds, or the file is not a database.
    """
    storage = getattr(storage, "_backend", storage)  # Optuna may wrap a database in a cache
    engine = getattr(storage, "engine", None)
    if engine is not None and engine.dialect.name == "sqlite" and not _is_uri(engine.url):
        _wait_for_file(Path(engine.url.database or ""))


def without_password(url: str) -> str:
    """Return a URL without its password, for messages."""
    scheme, separator, rest = url.partition("://")
    account, at, place = rest.rpartition("@")
    user = account.partition(":")[0]
    return f"{scheme}{separator}{user}{at}{place}" if at else url


def _from_url(url: str) -> Any:
    scheme, _, rest = url.partition("://")
    if scheme == "journal":
        return _journal(_journal_path(rest))
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import DBAPIError, OperationalError

    url = _with_driver(url)
    parsed = make_url(url)
    wait = {}
    if parsed.get_backend_name() == "sqlite":
        wait = {"connect_args": {"timeout": BUSY}}
        if not _is_uri(parsed):
            _wait_for_file(Path(parsed.database or ""))
    for attempt in range(5):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return _Database(
                    url,
                    engine_kwargs={"pool_pre_ping": True, **wait},
                    heartbeat_interval=HEARTBEAT,
                    grace_period=GRACE,
                )
        except ImportError as error:
            raise _no_driver(scheme) from error
        except RuntimeError as error:  # the tables were made by another version of Optuna
            raise ValueError(
                f"the storage {without_password(url)} cannot be opened: "
                f"{' '.join(str(error).split())}"
            ) from error
        except (DBAPIError, StorageInternalError) as error:
            # If two processes create the tables at once, one of them finds only some of them.
            reason = reason_of_failure(error) or ""
            lasting = isinstance(error, OperationalError) and not wait
            if attempt == 4 or lasting or any(word in reason for word in ("locked", "full")):
                raise ConnectionError(
                    f"the storage {without_password(url)} cannot be opened: {reason}"
                ) from error
            time.sleep(0.1)
    raise AssertionError("unreachable")


def _with_driver(url: str) -> str:
    scheme, _, rest = url.partition("://")
    if scheme not in ("postgres", "postgresql"):
        return url
    # The default driver of such URLs differs between versions of SQLAlchemy.
    installed = importlib.util.find_spec("psycopg") or not importlib.util.find_spec("psycopg2")
    return f"postgresql+{'psycopg' if installed else 'psycopg2'}://{rest}"


def _no_driver(scheme: str) -> ImportError:
    command = "run pip install 'crossfit-retrieval[postgres]'"
    return ImportError(
        f"the driver for the storage {scheme}://... is not installed; "
        + (command if scheme.startswith("postgres") else "install the one that SQLAlchemy uses")
    )


def _is_uri(url: Any) -> bool:
    """Return True if the name of the file is a URI, which SQLite itself parses."""
    return (url.database or "").startswith("file:")


def _journal_path(rest: str) -> Path:
    return Path(rest.removeprefix("/"))


def _check_file(path: Path, url: str, example: str) -> None:
    if "\0" in str(path):
        raise ValueError(f"storage {url!r} has a null byte in its name; remove it")
    if path == Path():
        raise ValueError(f"storage {url!r} does not name a file; name one as in {example}")
    if not path.parent.is_dir():
        raise ValueError(
            f"storage {url!r} names a file in {str(path.parent)!r}, which is not a folder; make "
            "the folder first"
        )
    if path.exists() and not path.is_file():
        what = "a folder" if path.is_dir() else "not a regular file"
        raise ValueError(
            f"storage {url!r} names {str(path)!r}, which is {what}; give the path of a file"
        )


def _wait_for_file(path: Path) -> None:
    if not path.exists():
        return
    waits: Sequence[float] = (min(PATIENCE, BUSY), max(0.0, BUSY - PATIENCE))
    for attempt, seconds in enumerate(waits):
        try:
            with contextlib.closing(sqlite3.connect(path, timeout=seconds)) as connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.rollback()
            return
        except sqlite3.Error as error:
            if "locked" not in str(error):
                raise ConnectionError(f"the storage {path} cannot be opened: {error}") from error
            if attempt == 0:
                warn(
                    f"the study's database {path} is locked by another process: waiting up to "
                    f"{BUSY:.0f} seconds"
                )
    raise ConnectionError(
        f"the study's database {path} is still locked by another process after {BUSY:.0f} "
        "seconds; wait for that process to finish, or end it"
    )


def _first_line(error: Any) -> str:
    lines = str(error.orig).strip().splitlines()
    text = lines[0] if lines else type(error.orig).__name__
    if text == "database is locked":
        return f"another process has locked the database for more than {BUSY:.0f} seconds"
    return text


def _journal(path: Path) -> optuna.storages.JournalStorage:
    try:
        _remove_unfinished_line(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return optuna.storages.JournalStorage(_JournalFile(str(path)))
    except OSError as error:
        raise ConnectionError(
            f"the storage {path} cannot be opened: {error.strerror or error}"
        ) from error
    except (StorageInternalError, LookupError, TypeError, ValueError, AssertionError) as error:
        raise ValueError(
            f"the storage {path} is not an Optuna journal, or is damaged; name another file"
        ) from error


def _remove_unfinished_line(path: Path) -> None:
    """Cut off the last line of a journal if a killed process or a full disk left it unfinished.

    A record appended to such a line would make the whole journal unreadable.

    Raises
    ------
    ValueError
        If the file does not begin like a journal (it is not changed then), or its last finished
        line is not JSON.
    """
    if not path.exists() or not path.stat().st_size:
        return
    lock = optuna.storages.journal.JournalFileSymlinkLock(str(path))
    until = time.monotonic() + PATIENCE
    while os.path.lexists(f"{path}.lock"):
        if time.monotonic() > until:
            warn(
                f"the study's journal {path} is locked by another process: waiting up to "
                f"{lock.grace_period} seconds"
            )
            break
        time.sleep(0.05)
    lock.acquire()
    try:
        text = path.read_bytes()
        begin = b'{"op_code"'
        if text[: len(begin)] != begin[: len(text)]:
            raise ValueError("the file does not begin like a journal")
        end = text.rfind(b"\n") + 1
        if end < len(text):
            os.truncate(path, end)
        if end:
            json.loads(text[text.rfind(b"\n", 0, end - 1) + 1 : end])  # Optuna ignores a bad one
    finally:
        lock.release()
