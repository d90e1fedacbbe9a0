"""Identities: the names of classes in bundles, cell keys and caches.

The identity of a registered class is its name in the registry, ``faster-rcnn`` for instance; that
of any other class is its path. A registered class may therefore move to another file: its results
are not computed again, and bundles can still be loaded.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from crossfit import registry

__all__ = ["entry_named", "identity_of"]

_GROUPS = ("crossfit.methods", "crossfit.extractors")


def identity_of(thing: Any) -> str:
    """Return the permanent name of a class or function.

    Parameters
    ----------
    thing : type or function
        The class or function.

    Returns
    -------
    str
        Its name in the registry if it is registered, else ``module:qualname``.
    """
    try:
        return registry.entry_of(thing).name
    except (registry.NotInstalledError, TypeError):
        return f"{thing.__module__}:{thing.__qualname__}"


def entry_named(identity: str, distribution: str | None = None) -> registry.Entry | None:
    """Return the entry of a method or extractor by its identity, current or of version 0.1.0.

    Only cards are imported.

    Parameters
    ----------
    identity : str
        A registered name, or the path of a class.
    distribution : str, optional
        Distribution of the class, to choose between several entries of one name.

    Returns
    -------
    Entry or None
        None if there is no such class, or if the identity is ambiguous.
    """
    known = [entry for group in _GROUPS for entry in registry.entries(group) if entry.card]
    if ":" in identity:
        for entry in known:
            if entry.card is not None and entry.card.target == identity:
                return entry
        identity = _former().get(identity, "")
    named = [entry for entry in known if entry.name == identity]
    for found in (
        [entry for entry in named if entry.distribution == distribution],
        [entry for entry in named if not entry.shadowed],
    ):
        if len(found) == 1:
            return found[0]
    return None


@cache
def _former() -> dict[str, str]:
    """Return the names of classes by the paths written by version 0.1.0."""
    text = files("crossfit").joinpath("class_paths_of_0_1.json").read_text(encoding="utf-8")
    return dict(json.loads(text))
