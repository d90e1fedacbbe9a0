"""Classes of installed distributions as attributes of a module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from crossfit import registry
from crossfit._suggest import did_you_mean

__all__ = ["classes_of"]


def classes_of(
    module: str, group: str
) -> tuple[Callable[[str], Any], Callable[[], dict[str, list[registry.Entry]]]]:
    """Return functions that import a class by its name, and that list the names.

    Parameters
    ----------
    module : str
        ``__name__`` of the module that has the classes as attributes.
    group : str
        Group of entry points whose targets are classes.

    Returns
    -------
    get : callable
        For ``__getattr__`` (PEP 562): imports the class. Raises an AttributeError for names that
        cannot be a class, and an ImportError, whose message `from ... import` keeps, for a class
        that is not offered or offered by several distributions.
    names : callable
        Returns the entries by the name of their class; only crossfit's own if it has one.
    """
    section = group.rpartition(".")[2]
    kind = section.removesuffix("s")
    article = "an" if kind[0] in "aeiou" else "a"

    def names() -> dict[str, list[registry.Entry]]:
        named: dict[str, list[registry.Entry]] = {}
        for entry in registry.entries(group):
            if entry.card is not None:
                named.setdefault(entry.card.target.rpartition(":")[2], []).append(entry)
        # Classes of crossfit take precedence, as in `crossfit.registry.find`.
        return {
            name: [entry for entry in offered if entry.distribution == registry.CORE] or offered
            for name, offered in named.items()
        }

    def get(name: str) -> Any:
        if not name[:1].isupper():
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        offered = names().get(name, [])
        if len(offered) > 1:
            sources = ", ".join(f"{e.distribution}:{e.name}" for e in offered)
            raise ImportError(
                f"several distributions offer {article} {kind} {name}: use "
                f"crossfit.registry.load with one of {sources}"
            )
        if offered:
            return registry.load(f"{offered[0].distribution}:{offered[0].name}", group)
        # `from ... import` would swallow the message of an AttributeError.
        try:
            target = registry.get(name, group).target
        except registry.NotInstalledError:
            hint = did_you_mean(name, names()) or f"; see `crossfit list {section}`"
            raise ImportError(f"no installed {kind} has the class {name}{hint}") from None
        raise ImportError(f"no {kind} class {name}: {registry.normalise(name)!r} is {target}")

    return get, names
