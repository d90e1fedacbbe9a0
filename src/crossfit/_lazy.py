"""Lazy public names for packages: a name is imported when it is first used.

The ``__init__`` of a package has a table of its public names, from which ``__all__`` is derived.
Type checkers do not evaluate the table, so the same names are imported under ``TYPE_CHECKING``, as
``from m import x as x``, which marks them as exported. A test compares both.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any


def attach(
    package: str, homes: Mapping[str, str], submodules: Iterable[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` for a package's ``__init__`` (PEP 562).

    Parameters
    ----------
    package : str
        ``__name__`` of the package.
    homes : mapping of str to str
        Public name to the submodule that defines it.
    submodules : iterable of str, default=()
        Submodules reachable as attributes without an import of their own.
    """
    modules = set(submodules)

    def get(name: str) -> Any:
        if name in homes:
            found = getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
            setattr(sys.modules[package], name, found)
            return found
        if name in modules:
            return importlib.import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def names() -> list[str]:
        return sorted({*homes, *modules})

    return get, names
