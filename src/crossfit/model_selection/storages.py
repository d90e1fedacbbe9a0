"""Storages of studies by URL: databases with a heartbeat, journal files, and memory."""

from __future__ import annotations

import contextlib
import importlib.util
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna

__all__ = ["open_storage"]

# Seconds between two signs of life of a trial, and without one until it is given up for dead.
HEARTBEAT, GRACE = 10, 40


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
    ValueError
        If it is no URL, or memory that processes cannot share.
    ImportError
        If the driver of the database is not installed.
    ConnectionError
        If the database cannot be reached.
    """
    if storage is None and shared:
        with tempfile.TemporaryDirectory(prefix="crossfit-") as folder:
            yield _journal(Path(folder) / "study.log")
        return
    if isinstance(storage, optuna.storages.InMemoryStorage) and shared:
        raise ValueError("processes cannot share a storage in memory: give n_jobs=1 or a URL")
    if isinstance(storage, str):
        storage = _from_url(storage)
    yield optuna.storages.InMemoryStorage() if storage is None else storage


def _from_url(url: str) -> Any:
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise ValueError(
            "storage must be a URL, for instance sqlite:///study.db, "
            f"postgresql://user@host/name or journal:///study.log, got {url!r}"
        )
    if scheme == "journal":
        return _journal(Path(rest.removeprefix("/")))
    from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError

    if scheme in ("postgres", "postgresql"):
        # Which driver the bare name means changed between versions of SQLAlchemy.
        installed = importlib.util.find_spec("psycopg") or not importlib.util.find_spec("psycopg2")
        url = f"postgresql+{'psycopg' if installed else 'psycopg2'}://{rest}"
    wait = {"connect_args": {"timeout": 60}} if scheme.startswith("sqlite") else {}
    for attempt in range(5):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                opened = optuna.storages.RDBStorage(
                    url,
                    engine_kwargs={"pool_pre_ping": True, **wait},
                    heartbeat_interval=HEARTBEAT,
                    grace_period=GRACE,
                )
            return opened
        except ImportError as error:
            raise ImportError(
                f"the driver for the storage {scheme}://... is not installed"
                + (
                    ": pip install 'crossfit-retrieval[postgres]'"
                    if scheme.startswith("postgres")
                    else ""
                )
            ) from error
        except (ArgumentError, NoSuchModuleError) as error:
            raise ValueError(f"storage is no URL of a database: {error}") from error
        except DBAPIError as error:
            # Two processes that make the tables at once: one of them finds them half there.
            if attempt == 4 or (isinstance(error, OperationalError) and scheme != "sqlite"):
                reason = str(error.orig).strip().splitlines()[0]
                raise ConnectionError(f"the storage cannot be opened: {reason}") from error
            time.sleep(0.1)
    raise AssertionError("unreachable")


def _journal(path: Path) -> optuna.storages.JournalStorage:
    from optuna.storages.journal import JournalFileBackend

    if not path.parent.is_dir():
        raise ValueError(f"storage names a file in {str(path.parent)!r}, which is no folder")
    return optuna.storages.JournalStorage(JournalFileBackend(str(path)))
