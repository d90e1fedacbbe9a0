"""Code as a hash: what was computed by other code is computed again."""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["code_of", "package_files"]

_SUFFIXES = {".py", ".so", ".pyd"}
#: Their versions say enough, and are recorded.
_VERSIONED = {"sklearn", "numpy", "scipy", "torch", "skorch", "joblib", *sys.stdlib_module_names}


def code_of(thing: Any) -> str:
    """Return a hash of the files that a class, with its bases, or a function is written in.

    A plugin is taken whole, for its modules use each other; of crossfit itself the package that it
    stands in, and the modules of its bases. Libraries that others keep are left out. A class is
    looked at once: it does not change when its file does, until it is loaded anew.

    Parameters
    ----------
    thing : type or function
        What computes something.

    Returns
    -------
    str
        64 hexadecimal digits, which depend on the names of the files within their package and on
        their content; empty for what libraries bring, or if there is no file.
    """
    return _code_of(thing)


@functools.cache
def _code_of(thing: Any) -> str:
    files: dict[str, Path] = {}
    for part in getattr(thing, "__mro__", (thing,)):
        top, package = part.__module__.partition(".")[0], part.__module__.rpartition(".")[0]
        own: dict[str, Path] = {}
        if top == "crossfit":
            own = _named(part)
            if part is thing and package != "crossfit":
                own |= package_files(package)
        elif top not in _VERSIONED:
            # What is not in a package, a script or a notebook, is at least in a file.
            own = package_files(top) or _named(part)
        if part is thing and not own:
            return ""
        files |= own
    digest = hashlib.sha256()
    for name, path in sorted(files.items()):
        try:
            content = _hashed(path)
        except OSError:  # gone since
            content = ""
        digest.update(f"{name} {content}\n".encode())
    return digest.hexdigest()


def package_files(package: str) -> dict[str, Path]:
    """Return the files of code of a package, by their names within it, without importing it.

    Parameters
    ----------
    package : str
        Of top level, or imported.
    """
    import importlib.util

    try:
        found = importlib.util.find_spec(package)
    except (ImportError, ValueError, AttributeError):
        return {}
    if found is None:
        return {}
    files = {}
    if found.origin and Path(found.origin).suffix in _SUFFIXES:
        files[package] = Path(found.origin)
    for place in found.submodule_search_locations or ():
        files |= {f"{package}/{path.relative_to(place)}": path for path in _below(Path(place))}
    return files


def _below(folder: Path) -> Iterator[Path]:
    try:
        inside = sorted(folder.iterdir())
    except OSError:
        return
    for path in inside:
        if path.is_dir() and not path.name.startswith((".", "__pycache__")):
            yield from _below(path)
        elif path.suffix in _SUFFIXES:
            yield path


def _named(thing: Any) -> dict[str, Path]:
    """Return the file that something is written in, a notebook's too."""
    try:
        file = inspect.getsourcefile(thing)
    except (OSError, TypeError):
        return {}
    return {thing.__module__: Path(file)} if file else {}


def _hashed(path: Path) -> str:
    about = path.stat()
    return _content(path, about.st_size, about.st_mtime_ns)


@functools.cache
def _content(path: Path, size: int, changed: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
