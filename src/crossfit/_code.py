"""Hashes of code, so that results computed by other code are computed again."""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import inspect
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["code_of", "package_files"]

_SUFFIXES = {".py", ".so", ".pyd"}
#: Their versions are recorded instead.
_VERSIONED = {"sklearn", "numpy", "scipy", "torch", "skorch", "joblib", *sys.stdlib_module_names}

#: The part of a card that names its class.
_TARGET = re.compile(rb"""\btarget=(["'])[\w.]+:[\w.]+\1""")


def code_of(thing: Any) -> str:
    """Return a hash of the files that define a class, with its bases, or a function.

    Of a plugin, all files are hashed, because its modules use each other; of crossfit, those of
    the package of the class and the modules of its bases. Libraries are left out. The hash of a
    class is computed once, since a class does not change before it is loaded again.

    Only the statements are hashed, not the files that contain them, so that a class may move
    within its package.

    Parameters
    ----------
    thing : type or function
        A class or function that computes something.

    Returns
    -------
    str
        64 hexadecimal digits, which depend on the statements in these files but not on their
        order; empty for classes of libraries, or if there is no file.
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
            # A class in a script or a notebook, outside a package, is at least in a file.
            own = package_files(top) or _named(part)
        if part is thing and not own:
            return ""
        files |= own
    return _hash_of(files)


def _hash_of(files: dict[str, Path]) -> str:
    read = []
    for name, path in files.items():
        with contextlib.suppress(OSError):  # deleted since
            about = path.stat()
            read.append((re.split("[./]", name)[0], _read(path, about.st_size, about.st_mtime_ns)))
    defined = Counter(name for _, module in read for name in module.defined)
    statements = {text for _, module in read for text in module.statements}
    for top, module in read:
        for source, names in module.imports:
            if source.partition(".")[0] not in ("", top):
                statements.add(f"from {source} import {names}")
                continue
            # Within a package, imports change when a class moves. They matter only if a name
            # alone is ambiguous.
            for name, other in names:
                if other or defined[name] > 1:
                    statements.add(f"from {source} import {name} as {other}")
    return hashlib.sha256("\0".join(sorted(statements)).encode()).hexdigest()


def package_files(package: str) -> dict[str, Path]:
    """Return the code files of a package, by their names within it, without importing it.

    Parameters
    ----------
    package : str
        Name of a top-level package, or of one that is imported.
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
    """Return the file that defines a class or function, including cells of notebooks."""
    try:
        file = inspect.getsourcefile(thing)
    except (OSError, TypeError):
        return {}
    return {thing.__module__: Path(file)} if file else {}


class _Module(NamedTuple):
    """A file of code: hashes of its statements, its imports and the names that it defines."""

    statements: tuple[str, ...]
    imports: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()
    defined: frozenset[str] = frozenset()


@functools.cache
def _read(path: Path, size: int, changed: int) -> _Module:
    raw = path.read_bytes()
    try:
        body = ast.parse(raw).body if path.suffix == ".py" else None
    except (SyntaxError, ValueError):
        body = None
    if body is None:
        return _Module((_hashed(raw),))
    lines = raw.splitlines()
    statements, imports, defined = [], [], set()
    for node in body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = tuple((alias.name, alias.asname or "") for alias in node.names)
            if isinstance(node, ast.ImportFrom):
                imports.append(("" if node.level else node.module or "", names))
            else:
                imports += [(name, ((name, other),)) for name, other in names]
        elif not _is_about_the_file(node):
            marks = getattr(node, "decorator_list", ())
            first = min([node.lineno, *(mark.lineno for mark in marks)])
            text = b"\n".join(lines[first - 1 : node.end_lineno])
            statements.append(_hashed(_TARGET.sub(b"", text)))
            defined |= {node.name} if hasattr(node, "name") else set()
    return _Module(tuple(statements), tuple(imports), frozenset(defined))


def _is_about_the_file(node: ast.stmt) -> bool:
    """Return True for a docstring, ``__all__`` and imports for type checkers."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    targets = node.targets if isinstance(node, ast.Assign) else []
    return any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets)


def _hashed(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()
