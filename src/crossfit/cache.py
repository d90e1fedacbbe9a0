"""The feature cache: arrays by key in one SQLite file, shared by processes and capped in size."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["FeatureCache", "cache_folder"]

DEFAULT_SIZE = 2 * 1024**3
_FILE = "features-v1.sqlite3"
_BUSY_SECONDS = 30.0
_KEYS_PER_QUERY = 500  # well under SQLite's limit on bound values

# Sizes and times of use stand apart from the values, so that marking an entry as used, adding up
# and evicting never touch the pages that hold arrays. Triggers keep the total exact whoever writes.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, extractor TEXT NOT NULL,
    size INTEGER NOT NULL, used INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS entries_used ON entries (used);
CREATE INDEX IF NOT EXISTS entries_extractor ON entries (extractor, size);
CREATE TABLE IF NOT EXISTS arrays (
    id INTEGER PRIMARY KEY, dtype TEXT NOT NULL, shape TEXT NOT NULL, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS total (bytes INTEGER NOT NULL);
INSERT INTO total SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM total);
CREATE TRIGGER IF NOT EXISTS entry_added AFTER INSERT ON entries BEGIN
    UPDATE total SET bytes = bytes + NEW.size; END;
CREATE TRIGGER IF NOT EXISTS entry_removed AFTER DELETE ON entries BEGIN
    UPDATE total SET bytes = bytes - OLD.size;
    DELETE FROM arrays WHERE id = OLD.id; END;
"""

_warned: set[str] = set()


def cache_folder() -> Path:
    """Return the folder of all of crossfit's caches.

    Returns
    -------
    pathlib.Path
        ``CROSSFIT_CACHE`` if that is set, else the user's cache folder. It need not exist.
    """
    folder = os.environ.get("CROSSFIT_CACHE")
    if folder:
        return Path(folder).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("crossfit", appauthor=False))


def _size_from_environment() -> int:
    text = os.environ.get("CROSSFIT_CACHE_SIZE", "").strip()
    if not text:
        return DEFAULT_SIZE
    try:
        size = int(text)
    except ValueError:
        size = -1
    if size < 0:
        raise ValueError(f"CROSSFIT_CACHE_SIZE must be a whole number of bytes >= 0, got {text!r}")
    return size


class FeatureCache:
    """Arrays by key on disk, for work that is worth doing once.

    A cache never makes a computation fail: if the file is damaged or its folder cannot be
    written, one warning is given per file and process, look-ups find nothing and writes are
    dropped. Several processes and threads may use one file at once. Values are stored as dtype,
    shape and raw bytes; nothing is pickled.

    Parameters
    ----------
    folder : path-like, optional
        Where the file lies. Default: see `cache_folder`.
    max_bytes : int, optional
        When the arrays exceed this many bytes, those not used for longest are removed. Default:
        ``CROSSFIT_CACHE_SIZE``, else 2 GiB.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> cache = FeatureCache(tempfile.mkdtemp())
    >>> cache.put_many({"a": np.arange(3)}, extractor="demo")
    >>> cache.get_many(["a", "b"])
    {'a': array([0, 1, 2])}
    """

    def __init__(
        self, folder: str | os.PathLike[str] | None = None, max_bytes: int | None = None
    ) -> None:
        self.path = (cache_folder() if folder is None else Path(folder)) / _FILE
        self.max_bytes = _size_from_environment() if max_bytes is None else max_bytes

    @contextlib.contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        # A connection per call: it costs under a millisecond, and there is none to carry across
        # a fork, a thread or a pickle.
        connection = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            yield connection
        finally:
            connection.close()

    @contextlib.contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._connect() as connection:
            with contextlib.suppress(sqlite3.OperationalError):
                # Locked: another process is turning it on at this moment, once for all.
                connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            if not connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
                connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    @contextlib.contextmanager
    def _forgive(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            if str(self.path) not in _warned:
                _warned.add(str(self.path))
                warnings.warn(
                    f"the feature cache {self.path} cannot be used ({error}); going on without "
                    "it. `crossfit cache clear` or CROSSFIT_CACHE=<another folder> mends this.",
                    stacklevel=5,
                )

    def get_many(self, keys: Iterable[str]) -> dict[str, np.ndarray]:
        """Look up arrays and mark those found as just used.

        Parameters
        ----------
        keys : iterable of str
            Keys of any number of entries.

        Returns
        -------
        dict of str to ndarray
            The entries found. The arrays are read-only.
        """
        wanted = list(keys)
        found: dict[str, np.ndarray] = {}
        if not wanted or not self.path.exists():
            return found
        with self._forgive(), self._connect() as connection:
            ids: list[int] = []
            for start in range(0, len(wanted), _KEYS_PER_QUERY):
                part = wanted[start : start + _KEYS_PER_QUERY]
                rows = connection.execute(
                    "SELECT id, key, dtype, shape, value FROM entries JOIN arrays USING (id) "
                    f"WHERE key IN ({','.join('?' * len(part))})",
                    part,
                )
                for number, key, dtype, shape, value in rows:
                    with contextlib.suppress(ValueError, TypeError):  # a damaged entry is no entry
                        found[key] = np.frombuffer(value, np.dtype(dtype)).reshape(
                            json.loads(shape)
                        )
                        ids.append(number)
            # A read-only or busy file still answers; only the order of eviction suffers.
            with contextlib.suppress(sqlite3.OperationalError):
                now = time.time_ns()
                connection.execute("PRAGMA busy_timeout = 1000")
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(
                    "UPDATE entries SET used = ? WHERE id = ?", [(now, number) for number in ids]
                )
                connection.execute("COMMIT")
        return found

    def put_many(self, mapping: Mapping[str, np.ndarray], extractor: str = "") -> None:
        """Store arrays in one transaction, then evict the least recently used beyond the cap.

        Parameters
        ----------
        mapping : mapping of str to ndarray
            Arrays of any numeric or boolean dtype. A key that is there already keeps its value.
        extractor : str
            What the entries are counted under in `info` and cleared by in `clear`.

        Raises
        ------
        TypeError
            If an array holds Python objects.
        """
        now = time.time_ns()
        rows = []
        for key, value in mapping.items():
            array = np.ascontiguousarray(value)
            if array.dtype.hasobject:
                raise TypeError(f"the feature cache stores numbers, got dtype {array.dtype}")
            if array.nbytes <= self.max_bytes:
                # np.shape(value): ascontiguousarray makes a scalar one-dimensional.
                rows.append((key, array.dtype.str, json.dumps(np.shape(value)), array.tobytes()))
        if not rows:
            return
        with self._forgive(), self._write() as connection:
            for key, dtype, shape, data in rows:
                added = connection.execute(
                    "INSERT OR IGNORE INTO entries (key, extractor, size, used) VALUES (?,?,?,?)",
                    (key, extractor, len(data), now),
                )
                if added.rowcount:
                    connection.execute(
                        "INSERT INTO arrays VALUES (?,?,?,?)",
                        (added.lastrowid, dtype, shape, data),
                    )
            self._evict(connection)

    def _evict(self, connection: sqlite3.Connection) -> None:
        (excess,) = connection.execute("SELECT bytes FROM total").fetchone()
        excess -= self.max_bytes
        if excess <= 0:
            return
        oldest = []
        for number, size in connection.execute("SELECT id, size FROM entries ORDER BY used, id"):
            oldest.append((number,))
            excess -= size
            if excess <= 0:
                break
        connection.executemany("DELETE FROM entries WHERE id = ?", oldest)

    def info(self) -> dict[str, Any]:
        """Describe the cache.

        Returns
        -------
        dict
            ``path`` (str), ``max_bytes``, ``entries`` and ``bytes`` (int), ``extractors``
            (name to ``{"entries": int, "bytes": int}``) and ``error`` (str or None: why the file
            cannot be read).
        """
        extractors: dict[str, dict[str, int]] = {}
        error = None
        if self.path.exists():
            try:
                with self._connect() as connection:
                    if connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
                        for name, entries, size in connection.execute(
                            "SELECT extractor, COUNT(*), SUM(size) FROM entries "
                            "GROUP BY extractor ORDER BY extractor"
                        ):
                            extractors[name] = {"entries": entries, "bytes": size}
            except (sqlite3.Error, OSError) as problem:
                error = str(problem)
        return {
            "path": str(self.path),
            "max_bytes": self.max_bytes,
            "entries": sum(part["entries"] for part in extractors.values()),
            "bytes": sum(part["bytes"] for part in extractors.values()),
            "extractors": extractors,
            "error": error,
        }

    def clear(self, extractor: str | None = None) -> int:
        """Remove the entries of one extractor, or all.

        Parameters
        ----------
        extractor : str, optional
            A name that `info` lists. Default: remove everything, and a damaged file too.

        Returns
        -------
        int
            Number of entries removed.

        Raises
        ------
        ValueError
            If no entry belongs to `extractor`.
        """
        info = self.info()
        if extractor is None and info["error"]:
            for suffix in ("", "-wal", "-shm"):
                self.path.with_name(_FILE + suffix).unlink(missing_ok=True)
            _warned.discard(str(self.path))
            return 0
        if extractor is not None and extractor not in info["extractors"]:
            raise ValueError(
                f"the feature cache holds nothing of {extractor!r}; it holds "
                f"{', '.join(info['extractors']) or 'nothing at all'}"
            )
        if not info["entries"]:
            return 0
        where = "" if extractor is None else " WHERE extractor = ?"
        with self._write() as connection:
            removed = connection.execute(
                "DELETE FROM entries" + where, () if extractor is None else (extractor,)
            ).rowcount
        with self._connect() as connection, contextlib.suppress(sqlite3.OperationalError):
            # Another process may hold the file: its free pages are used again all the same.
            connection.execute("VACUUM")
        return removed
