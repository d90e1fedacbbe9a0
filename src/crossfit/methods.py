"""Registered method classes as attributes: ``from crossfit.methods import CCA``."""

from __future__ import annotations

from typing import Any

from crossfit import registry
from crossfit.cards import did_you_mean


def _class_names() -> dict[str, list[registry.Entry]]:
    named: dict[str, list[registry.Entry]] = {}
    for entry in registry.entries("crossfit.methods"):
        if entry.card is not None:
            named.setdefault(entry.card.target.rpartition(":")[2], []).append(entry)
    # What crossfit itself brings wins a name, as it does in `crossfit.registry.find`.
    return {
        name: [entry for entry in offered if entry.distribution == registry.CORE] or offered
        for name, offered in named.items()
    }


def __getattr__(name: str) -> Any:
    if name == "__all__":
        # For `from crossfit.methods import *`: a name that several offer belongs to none of them.
        return sorted(name for name, offered in _class_names().items() if len(offered) == 1)
    if not name[:1].isupper():
        raise AttributeError(f"module 'crossfit.methods' has no attribute {name!r}")
    offered = _class_names().get(name, [])
    if len(offered) > 1:
        sources = ", ".join(f"{e.distribution}:{e.name}" for e in offered)
        raise ImportError(
            f"several distributions offer a method {name}: use crossfit.registry.load with one "
            f"of {sources}"
        )
    if offered:
        return registry.load(f"{offered[0].distribution}:{offered[0].name}")
    # `from ... import` would swallow the message of an AttributeError.
    try:
        target = registry.get(name).target
    except registry.NotInstalledError:
        hint = did_you_mean(name, _class_names()) or "; see `crossfit list methods`"
        raise ImportError(f"no installed method has the class {name}{hint}") from None
    raise ImportError(f"no method class {name}: {registry.normalise(name)!r} is {target}")


def __dir__() -> list[str]:
    return sorted(_class_names())
