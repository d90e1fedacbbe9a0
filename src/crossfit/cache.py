"""The feature cache: arrays by key in one SQLite file, shared by processes and limited in size.

Each entry carries a hash of its key and its content, and is ignored if the hash does not match.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from crossfit._warnings import warn

__all__ = ["FeatureCache", "cache_folder"]

DEFAULT_SIZE = 2 * 1024**3
_FILE = "features-v2.sqlite3"
_OLD_FILES = ("features-v1.sqlite3",)  # without hashes, so their content cannot be verified
_COMPANIONS = ("", "-wal", "-shm", "-journal")
_BUSY_SECONDS = 30.0
_KEYS_PER_QUERY = 500  # well under SQLite's limit on bound values

# Sizes and times of use are stored in a table of their own, so that marking entries as used, adding
# up sizes and evicting never touch the pages of arrays. Triggers keep the total exact.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, extractor TEXT NOT NULL,
    size INTEGER NOT NULL, used INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS entries_used ON entries (used);
CREATE INDEX IF NOT EXISTS entries_extractor ON entries (extractor, size);
CREATE TABLE IF NOT EXISTS arrays (
    id INTEGER PRIMARY KEY, dtype TEXT NOT NULL, shape TEXT NOT NULL, value BLOB NOT NULL,
    digest BLOB NOT NULL);
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
    """Return the folder of crossfit's caches.

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


def networks_folder() -> Path:
    """Return the folder of the networks that were exported for ONNX Runtime; it need not exist."""
    return cache_folder() / "onnx"


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
    """Arrays by key on disk, for results that are expensive to compute.

    A cache never makes a computation fail, and never returns anything that was not stored in it.
    Entries that do not match their hashes are dropped. If the file is damaged or cannot be written,
    look-ups find nothing and writes are ignored. Both cases are reported by one warning per file
    and process. A read-only cache can be used for look-ups. Several processes and threads may use
    the same file at once. Values are stored as dtype, shape and raw bytes; nothing is pickled.

    Parameters
    ----------
    folder : path-like, optional
        Folder of the file. Default: see `cache_folder`.
    max_bytes : int, optional
        If the arrays exceed this many bytes, the least recently used ones are removed. Default:
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
        if folder is not None and not isinstance(folder, str | os.PathLike):
            raise TypeError(f"folder must be a path, got {type(folder).__name__}")
        if max_bytes is not None and (
            isinstance(max_bytes, bool) or not isinstance(max_bytes, Integral) or max_bytes < 0
        ):
            raise ValueError(f"max_bytes must be a whole number >= 0 or None, got {max_bytes!r}")
        self.path = (cache_folder() if folder is None else Path(folder)) / _FILE
        self.max_bytes = _size_from_environment() if max_bytes is None else int(max_bytes)

    @contextlib.contextmanager
    def _connect(self, write: bool = False) -> Iterator[sqlite3.Connection]:
        # One connection per call: it costs less than a millisecond, and no connection has to
        # survive a fork, a change of threads or pickling.
        for path in self._files():
            # Opening a FIFO would block, and a link may point to a file of someone else.
            if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
                raise OSError(f"{path.name} is not a regular file")
        if write or self._is_writable():
            connection = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)
        else:
            connection = self._connect_read_only()
        # A misspelled name is better than losing all entries.
        connection.text_factory = lambda text: text.decode(errors="replace")
        try:
            yield connection
        finally:
            connection.close()

    def _connect_read_only(self) -> sqlite3.Connection:
        uri = self.path.absolute().as_uri()
        # If no other process writes, "immutable" leaves none of SQLite's auxiliary files behind; in
        # a folder where they cannot be created, it is the only mode that works.
        in_use = self._files()[1].exists()
        for mode in ("mode=ro", "immutable=1") if in_use else ("immutable=1",):
            connection = sqlite3.connect(f"{uri}?{mode}", timeout=_BUSY_SECONDS, uri=True)
            try:
                connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
            except sqlite3.OperationalError as error:
                connection.close()
                problem = error
            else:
                return connection
        raise problem

    def _files(self) -> list[Path]:
        return [self.path.with_name(_FILE + suffix) for suffix in _COMPANIONS]

    def _is_writable(self) -> bool:
        return os.access(self.path, os.W_OK) and os.access(self.path.parent, os.W_OK)

    @contextlib.contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists() and not self._is_writable():
            raise PermissionError(f"the feature cache {self.path} is read-only")
        with self._connect(write=True) as connection:
            with contextlib.suppress(sqlite3.OperationalError):
                # If it is locked, another process is just enabling it, permanently.
                connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            if not connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
                connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
                self._remove_old_files()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # SQLite may have rolled back already
                    connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def _remove_old_files(self) -> None:
        for name in _OLD_FILES:
            for suffix in _COMPANIONS:
                with contextlib.suppress(OSError):
                    self.path.with_name(name + suffix).unlink()

    @contextlib.contextmanager
    def _forgive(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # a damaged file can cause any error
            if isinstance(error, PermissionError) and self.path.exists():
                self._warn(f"{error}: stored features are used, but new ones are not stored")
            else:
                self._warn(
                    f"the feature cache {self.path} cannot be used ({error}); continuing without "
                    "it. Run `crossfit cache clear` or set CROSSFIT_CACHE=<another folder>."
                )

    def _warn(self, message: str) -> None:
        if str(self.path) not in _warned:
            _warned.add(str(self.path))
            warn(message)

    def get_many(self, keys: Iterable[str]) -> dict[str, np.ndarray]:
        """Look up arrays and mark those found as just used.

        Parameters
        ----------
        keys : iterable of str
            Keys of the entries.

        Returns
        -------
        dict of str to ndarray
            The entries found. The arrays are read-only.

        Raises
        ------
        TypeError
            If `keys` is not an iterable of strings.
        """
        if not np.iterable(keys):
            raise TypeError(f"keys must be strings in a sequence, got {type(keys).__name__}")
        wanted = {_key(key): key for key in keys}
        found: dict[str, np.ndarray] = {}
        if not wanted or not self.path.exists():
            return found
        with self._forgive(), self._connect() as connection:
            used: list[int] = []
            damaged: list[int] = []
            stored = list(wanted)
            for start in range(0, len(stored), _KEYS_PER_QUERY):
                part = stored[start : start + _KEYS_PER_QUERY]
                rows = connection.execute(
                    "SELECT id, key, dtype, shape, value, digest FROM entries JOIN arrays "
                    f"USING (id) WHERE key IN ({','.join('?' * len(part))})",
                    part,
                )
                for number, key, dtype, shape, value, digest in rows:
                    if key not in wanted or _digest(key, dtype, shape, value) != digest:
                        damaged.append(number)
                        continue
                    found[wanted[key]] = np.frombuffer(value, np.dtype(dtype)).reshape(
                        json.loads(shape)
                    )
                    used.append(number)
            if damaged:
                self._warn(
                    f"the feature cache {self.path} contains damaged entries, which do not match "
                    f"their hashes: {len(damaged)} of {len(damaged) + len(used)} looked up are "
                    "dropped and computed again"
                )
            # A read-only or busy file can still be read; only the order of eviction suffers.
            with contextlib.suppress(sqlite3.OperationalError):
                now = time.time_ns()
                connection.execute("PRAGMA busy_timeout = 1000")
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(
                    "UPDATE entries SET used = ? WHERE id = ?", [(now, number) for number in used]
                )
                if damaged:
                    connection.executemany(
                        "DELETE FROM entries WHERE id = ?", [(number,) for number in damaged]
                    )
                    connection.execute(
                        "UPDATE total SET bytes = (SELECT COALESCE(SUM(size), 0) FROM entries)"
                    )
                connection.execute("COMMIT")
        return found

    def put_many(self, mapping: Mapping[str, np.ndarray], extractor: str = "") -> None:
        """Store arrays in one transaction, then evict the least recently used beyond the cap.

        Parameters
        ----------
        mapping : mapping of str to ndarray
            Arrays of any numeric or boolean dtype. Keys that are already stored keep their value.
        extractor : str, default=""
            Name under which `info` counts the entries and `clear` removes them.

        Raises
        ------
        TypeError
            If an array contains Python objects.
        """
        if not isinstance(mapping, Mapping):
            raise TypeError(f"mapping must map keys to arrays, got {type(mapping).__name__}")
        if not isinstance(extractor, str):
            raise TypeError(f"extractor must be a name, got {type(extractor).__name__}")
        now = time.time_ns()
        rows = []
        for key, value in mapping.items():
            try:
                array = np.ascontiguousarray(value)
            except Exception as error:
                raise TypeError(
                    f"the feature cache stores numbers, got {type(value).__name__}"
                ) from error
            if array.dtype.hasobject:
                raise TypeError(f"the feature cache stores numbers, got dtype {array.dtype}")
            if array.nbytes <= self.max_bytes:
                # np.shape(value): ascontiguousarray makes a scalar one-dimensional.
                content = array.dtype.str, json.dumps(np.shape(value)), array.tobytes()
                rows.append((_key(key), *content, _digest(_key(key), *content)))
        if not rows:
            return
        name = extractor.encode(errors="replace").decode()  # SQLite rejects lone surrogates
        with self._forgive(), self._write() as connection:
            for encoded, dtype, shape, data, digest in rows:
                connection.execute(
                    "INSERT OR IGNORE INTO entries (key, extractor, size, used) VALUES (?,?,?,?)",
                    (encoded, name, len(data), now),
                )
                # Selected by key, because damage may have left an entry without its array.
                connection.execute(
                    "INSERT OR IGNORE INTO arrays SELECT id, ?, ?, ?, ? FROM entries WHERE key = ?",
                    (dtype, shape, data, digest, encoded),
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
            (name to ``{"entries": int, "bytes": int}``) and ``error`` (str or None: the reason why
            the file cannot be read).
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
                            extractors[str(name)] = {"entries": entries, "bytes": int(size)}
            except Exception as problem:  # a damaged file can cause any error
                extractors, error = {}, str(problem)
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
            A name listed by `info`. Default: remove all entries, or the file if it is damaged.

        Returns
        -------
        int
            Number of entries removed.

        Raises
        ------
        ValueError
            If no entry belongs to `extractor`, or if the file is damaged: it can only be cleared as
            a whole.
        TimeoutError
            If the file is in use by another process.
        """
        info = self.info()
        if not isinstance(extractor, (str, type(None))):
            raise TypeError(f"extractor must be a name or None, got {type(extractor).__name__}")
        if extractor is None:
            return self._clear_all(info["entries"])
        damaged = f"the feature cache {self.path} is damaged; clear all of it"
        if info["error"]:
            raise ValueError(f"{damaged}: {info['error']}")
        if extractor not in info["extractors"]:
            raise ValueError(
                f"the feature cache has no entries of {extractor!r}; it has entries of "
                f"{', '.join(info['extractors']) or 'no extractor'}"
            )
        try:
            with self._write() as connection:
                removed = connection.execute(
                    "DELETE FROM entries WHERE extractor = ?", (extractor,)
                ).rowcount
            self._vacuum()
        except sqlite3.Error as error:
            self._refuse_busy(error)
            raise ValueError(f"{damaged}: {error}") from error
        return removed

    def _clear_all(self, entries: int) -> int:
        self._remove_old_files()
        _warned.discard(str(self.path))
        if not os.path.lexists(self.path):
            return 0
        try:
            with self._write() as connection:
                connection.execute("DELETE FROM entries")
                connection.execute("DELETE FROM arrays")
                connection.execute("UPDATE total SET bytes = 0")
            self._vacuum()
            with self._connect() as connection:
                if _state(connection) != _empty():
                    raise sqlite3.DatabaseError("not the tables of a feature cache")
        except (sqlite3.Error, OSError) as error:
            self._refuse_busy(error)
            for path in self._files():
                path.unlink(missing_ok=True)
        return entries

    def _vacuum(self) -> None:
        with self._connect() as connection, contextlib.suppress(sqlite3.OperationalError):
            # If another process uses the file, its free pages are reused later anyway.
            connection.execute("VACUUM")

    def _refuse_busy(self, error: Exception) -> None:
        if getattr(error, "sqlite_errorcode", None) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise TimeoutError(
                f"the feature cache {self.path} is in use by another process; nothing is deleted"
            ) from error


def _state(connection: sqlite3.Connection) -> list[Any]:
    """Return the properties that every empty cache has."""
    return [
        connection.execute("PRAGMA integrity_check").fetchone(),
        sorted(connection.execute("SELECT name, sql FROM sqlite_master WHERE sql NOT NULL")),
        connection.execute("SELECT bytes FROM total").fetchall(),
    ]


def _empty() -> list[Any]:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(_SCHEMA)
        return _state(connection)


def _key(key: str) -> bytes:
    if not isinstance(key, str):
        raise TypeError(f"keys of the feature cache must be strings, got {type(key).__name__}")
    return key.encode("utf-8", "surrogatepass")


def _digest(key: bytes, dtype: Any, shape: Any, value: Any) -> bytes:
    """Hash an entry including its key, so that exchanged rows are detected too."""
    digest = hashlib.blake2b(repr((key, dtype, shape)).encode(errors="replace"), digest_size=16)
    digest.update(value if isinstance(value, bytes) else repr(value).encode(errors="replace"))
    return digest.digest()
