"""Read and write the search spaces of an experiment file."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from crossfit.experiment._yaml import Node, SpecError, plain
from crossfit.search_space import Choice, Each, Float, Int, Part

__all__ = ["read_space", "written_tune"]


def read_space(node: Node, *, ranked: bool, fixed: Sequence[str]) -> dict[str, Part]:
    """Return a search space, checked.

    Parameters
    ----------
    node : Node
        Mapping of parameters to their search spaces.
    ranked : bool
        Whether the experiment sets a similarity, which may then be tuned.
    fixed : sequence of str
        Parameters with fixed values. Conditions may refer to these, and to parameters listed
        before their own.
    """
    found: dict[str, Part] = {}
    before = [name for name in fixed if name not in node.mapping()]
    for name in node.mapping():
        part = node.child(name)
        if name.startswith("scorer__") and not ranked:
            raise part.error("requires the key 'similarity', which the method does not set")
        found[name] = _part(part)
        for other in found[name].when or ():
            if other not in before:
                raise part.child("when").error(
                    f"must name parameters before it ({', '.join(before) or 'none'}), got {other!r}"
                )
        before.append(name)
    return found


def _part(node: Node) -> Part:
    value = node.mapping()
    node.known(["int", "float", "choice", "log", "when", "each"])
    kinds = [kind for kind in ("int", "float", "choice") if kind in value]
    if len(kinds) != 1:
        raise node.error("must have one of the keys 'int', 'float' and 'choice'")
    (kind,) = kinds
    if kind == "choice" and "log" in value:
        raise node.child("log").error("applies to numbers only, not to 'choice'")
    when = node.child("when", None).optional(
        lambda n: {k: tuple(v) if isinstance(v, list) else v for k, v in n.mapping().items()}
    )
    inner = node.child(kind)
    part: Float | Int | Choice
    if kind == "choice":
        named = {} if not isinstance(inner.value, Mapping) else plain(inner.mapping())
        options = [] if named else [plain(option.value) for option in inner.sequence()]
        if not named and not options:
            raise inner.error("must have at least one option")
        if "when" in named:
            raise inner.error("must not name an option 'when', which is the key of the condition")
        try:
            part = Choice(*options, **named, when=when)
        except ValueError as error:
            raise inner.error(str(error)) from None
    else:
        parts = inner.sequence()
        if len(parts) != 2:
            raise inner.error(f"must be [low, high], got {len(parts)} entries")
        log = node.child("log", False).boolean()
        try:
            if kind == "int":
                low, high = (bound.integer(-sys.maxsize) for bound in parts)
                part = Int(low, high, log=log, when=when)
            else:
                least, most = (float(bound.number()) for bound in parts)
                part = Float(least, most, log=log, when=when)
        except ValueError as error:
            raise (error if isinstance(error, SpecError) else inner.error(str(error))) from None
    if "each" in value:
        keys = tuple(key.text() for key in node.child("each").sequence())
        return Each(keys, replace(part, when=None) if kind != "choice" else part, when=when)
    return part


def written_tune(tune: Mapping[str, Part] | str | None) -> Any:
    """Return a search space in the form of an experiment file: ``{"reg": {"float": [0, 1]}}``."""
    if tune is None or isinstance(tune, str):
        return tune
    return {name: _written(part) for name, part in tune.items()}


def _written(part: Part) -> dict[str, Any]:
    inner = part.part if isinstance(part, Each) else part
    found: dict[str, Any]
    if isinstance(inner, Choice):
        options = list(inner.options)
        found = {"choice": options if inner.names is None else dict(zip(inner.names, options))}
    else:
        found = {type(inner).__name__.lower(): [inner.low, inner.high]}
        if inner.log:
            found["log"] = True
    if isinstance(part, Each):
        found["each"] = list(part.keys)
    if part.when is not None:
        found["when"] = {k: list(v) if isinstance(v, tuple) else v for k, v in part.when.items()}
    return found
