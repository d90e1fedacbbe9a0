"""Storages of studies by URL: databases with a heartbeat, journal files, and memory."""

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

__all__ = [
    "check_storage",
    "failures_told",
    "open_storage",
    "reason_of_failure",
    "wait_for",
    "without_password",
]

# Seconds between two heartbeats of a trial, and without one until it is marked as failed.
HEARTBEAT, GRACE = 10, 40
# Seconds to wait for a database that another process has locked, in silence and in all.
PATIENCE, BUSY = 2.0, 30.0

_EXAMPLES = "sqlite:///study.db, postgresql://user@host/name or journal:///study.log"
_SCHEMES = ("sqlite", "postgresql", "journal", "mysql", "mariadb", "oracle", "mssql")


class _Database(optuna.storages.RDBStorage):
    """A database in which a sign of life that cannot be written is only missed."""

    def record_heartbeat(self, trial_id: int) -> None:
        with contextlib.suppress(StorageInternalError):
            super().record_heartbeat(trial_id)


class _JournalFile(JournalFileBackend):
    """A journal file whose failures are known as such."""

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
    """Check that this can be the storage of a study, before anything is opened.

    Parameters
    ----------
    storage : str or optuna storage, optional
        As `open_storage` takes it.

    Raises
    ------
    TypeError
        If it is neither a URL nor a storage of Optuna's.
    ValueError
        If it is not the URL of a journal or of a database, or of a file that cannot be one.
    ImportError
        If the driver of the database is not installed.
    """
    if storage is None or isinstance(storage, optuna.storages.BaseStorage):
        return
    if not isinstance(storage, str):
        raise TypeError(
            f"storage must be a URL, for instance {_EXAMPLES}, or a storage of Optuna's, "
            f"got {shown(storage)}"
        )
    scheme, separator, rest = storage.partition("://")
    told = without_password(storage)
    if not separator:
        raise ValueError(f"storage must be a URL, for instance {_EXAMPLES}, got {shown(told)}")
    if scheme == "journal":
        _check_file(_journal_path(rest), told, "journal:///study.log")
        return
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    try:
        url = make_url(_with_driver(storage))
        dialect = url.get_dialect()
    except NoSuchModuleError:
        raise ValueError(
            f"storage is not the URL of a database or a journal: {told!r} begins with {scheme!r}"
            + (did_you_mean(scheme.lower(), _SCHEMES) or f"; for instance {_EXAMPLES}")
        ) from None
    except (ArgumentError, ValueError):
        raise ValueError(
            f"storage is not the URL of a database, for instance {_EXAMPLES}, got {told!r}"
        ) from None
    try:
        dialect.import_dbapi()
    except ImportError as error:
        raise _no_driver(scheme) from error
    if dialect.name == "sqlite" and not _is_uri(url):
        if url.host:
            raise ValueError(
                f"storage {told!r} needs a third slash before the name of a file: "
                f"sqlite:///{url.host}"
            )
        if url.database == ":memory:":
            raise ValueError(
                f"storage {told!r} is memory, which is not kept: leave storage out, or name a "
                "file as in sqlite:///study.db"
            )
        _check_file(Path(url.database or ""), told, "sqlite:///study.db")


@contextlib.contextmanager
def open_storage(storage: Any, shared: bool) -> Iterator[Any]:
    """Open the storage of a study.

    Parameters
    ----------
    storage : str or optuna storage, optional
        A URL (``sqlite:///study.db``, ``postgresql://user@host/name``, ``journal:///study.log``;
        as usual, three slashes begin a relative path and four an absolute one).
    shared : bool
        Whether several processes use it. Without a storage it is a temporary file then, which is
        gone after the block.

    Raises
    ------
    TypeError, ValueError, ImportError
        As `check_storage` does, or if it is memory that processes cannot share.
    ConnectionError
        If the database cannot be reached, is locked by another process or its disk is full.
    """
    check_storage(storage)
    if storage is None and shared:
        with tempfile.TemporaryDirectory(prefix="crossfit-") as folder:
            yield _journal(Path(folder) / "study.log")
        return
    if isinstance(storage, optuna.storages.InMemoryStorage) and shared:
        raise ValueError("processes cannot share a storage in memory: give n_jobs=1 or a URL")
    if isinstance(storage, str):
        storage = _from_url(storage)
    yield optuna.storages.InMemoryStorage() if storage is None else storage


def reason_of_failure(error: BaseException | None) -> str | None:
    """Return in one line why a storage failed, or None where no storage did.

    Optuna raises its own error, or an assertion while it handles it.
    """
    from sqlalchemy.exc import DBAPIError

    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    for found in chain:
        if isinstance(found, DBAPIError):
            return _words(found)
    for found in chain:
        if isinstance(found, StorageInternalError):
            return " ".join(str(found).split())
    return None


@contextlib.contextmanager
def failures_told(done: Callable[[], int] = int) -> Iterator[None]:
    """Turn what Optuna raises when a storage fails into one sentence.

    Parameters
    ----------
    done : callable
        Returns how many trials are done.

    Raises
    ------
    ConnectionError
        In place of errors of the storage; others pass.
    """
    try:
        yield
    except ConnectionError:
        raise
    except Exception as error:
        reason = reason_of_failure(error)
        if reason is None:
            raise
        n = done()
        kept = f"; the {n} trials done are kept, and the same search goes on with them" if n else ""
        raise ConnectionError(f"the storage of the study failed: {reason}{kept}") from error


def wait_for(storage: Any) -> None:
    """Wait for a database in a file that another process has locked.

    Parameters
    ----------
    storage : optuna storage
        Others than a database in a file are left alone.

    Raises
    ------
    ConnectionError
        If it is still locked after `BUSY` seconds, or is not a database.
    """
    storage = getattr(storage, "_backend", storage)  # Optuna's cache around a database
    engine = getattr(storage, "engine", None)
    if engine is not None and engine.dialect.name == "sqlite" and not _is_uri(engine.url):
        _wait_for_file(Path(engine.url.database or ""))


def without_password(url: str) -> str:
    """Return a URL as it may be shown."""
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
        except RuntimeError as error:  # tables of another version of Optuna
            raise ValueError(
                f"the storage {without_password(url)} cannot be opened: "
                f"{' '.join(str(error).split())}"
            ) from error
        except (DBAPIError, StorageInternalError) as error:
            # Two processes that make the tables at once: one of them finds them half there.
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
    # Which driver the bare name means changed between versions of SQLAlchemy.
    installed = importlib.util.find_spec("psycopg") or not importlib.util.find_spec("psycopg2")
    return f"postgresql+{'psycopg' if installed else 'psycopg2'}://{rest}"


def _no_driver(scheme: str) -> ImportError:
    install = ": pip install 'crossfit-retrieval[postgres]'"
    return ImportError(
        f"the driver for the storage {scheme}://... is not installed"
        + (install if scheme.startswith("postgres") else "")
    )


def _is_uri(url: Any) -> bool:
    """Return True if SQLite parses the name of its file itself."""
    return (url.database or "").startswith("file:")


def _journal_path(rest: str) -> Path:
    return Path(rest.removeprefix("/"))


def _check_file(path: Path, told: str, example: str) -> None:
    if "\0" in str(path):
        raise ValueError(f"storage {told!r} has a null byte in its name")
    if path == Path():
        raise ValueError(f"storage {told!r} names no file, as {example} does")
    if not path.parent.is_dir():
        raise ValueError(
            f"storage {told!r} names a file in {str(path.parent)!r}, which is not a folder"
        )
    if path.exists() and not path.is_file():
        what = "a folder" if path.is_dir() else "not a regular file"
        raise ValueError(f"storage {told!r} names {str(path)!r}, which is {what}")


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
                warnings.warn(
                    f"the study's database {path} is locked by another process: waiting up to "
                    f"{BUSY:.0f} seconds",
                    UserWarning,
                    stacklevel=2,
                )
    raise ConnectionError(
        f"the study's database {path} is locked by another process, which did not give it back "
        f"within {BUSY:.0f} seconds"
    )


def _words(error: Any) -> str:
    lines = str(error.orig).strip().splitlines()
    text = lines[0] if lines else type(error.orig).__name__
    if text == "database is locked":
        return f"the database is locked by another process, for more than {BUSY:.0f} seconds"
    return text


def _journal(path: Path) -> optuna.storages.JournalStorage:
    try:
        _mend(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return optuna.storages.JournalStorage(_JournalFile(str(path)))
    except OSError as error:
        raise ConnectionError(
            f"the storage {path} cannot be opened: {error.strerror or error}"
        ) from error
    except (StorageInternalError, LookupError, TypeError, ValueError, AssertionError) as error:
        raise ValueError(f"the storage {path} is not a journal of Optuna's, or damaged") from error


def _mend(path: Path) -> None:
    """Cut off a line that a killed process or a full disk left unfinished at a journal's end.

    What is appended to it would make the whole journal unreadable. Any other file is refused.
    """
    if not path.exists() or not path.stat().st_size:
        return
    lock = optuna.storages.journal.JournalFileSymlinkLock(str(path))
    until = time.monotonic() + PATIENCE
    while os.path.lexists(f"{path}.lock"):
        if time.monotonic() > until:
            warnings.warn(
                f"the study's journal {path} is locked by another process: waiting up to "
                f"{lock.grace_period} seconds",
                UserWarning,
                stacklevel=2,
            )
            break
        time.sleep(0.05)
    lock.acquire()
    try:
        text = path.read_bytes()
        begin = b'{"op_code"'
        if text[: len(begin)] != begin[: len(text)]:
            raise ValueError("it does not begin as a journal")
        end = text.rfind(b"\n") + 1
        if end < len(text):
            os.truncate(path, end)
        if end:
            json.loads(text[text.rfind(b"\n", 0, end - 1) + 1 : end])  # Optuna reads over it
    finally:
        lock.release()
