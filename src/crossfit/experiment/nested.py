"""Methods of an experiment that hold other methods: fusion and re-ranking."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from crossfit import registry
from crossfit.search_space import Choice, Part, remaining, renamed

if TYPE_CHECKING:
    from crossfit.experiment.spec_parts import MethodSpec

__all__ = [
    "HOLDERS",
    "default_space",
    "fixed_parameters",
    "inner_name",
    "leaf_names",
    "leaves",
    "load_method",
    "member_problem",
    "origin",
    "outer_name",
    "parameter_problem",
    "with_members",
]

#: Methods that hold others, and the names of those if they are not free.
HOLDERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "fusion": ("crossfit.retrieval.fusion:Fusion", ()),
    "reranker": ("crossfit.retrieval.rerank:Reranker", ("first", "second")),
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*(?:_[A-Za-z0-9-]+)*")
#: Parameters that are set by the members, or are of fitted members.
_OWN = ("estimators", "first", "second", "prefit")


def load_method(name: str) -> Any:
    """Return the class of a method, also of one that holds others.

    Raises
    ------
    crossfit.registry.RegistryError
        If it is not installed or cannot be imported.
    """
    return registry.resolve_target(HOLDERS[name][0]) if name in HOLDERS else registry.load(name)


def origin(name: str) -> dict[str, str]:
    """Return the name, the distribution and its version of a method, as parts of a key."""
    if name in HOLDERS:
        import crossfit

        return {"name": name, "distribution": registry.CORE, "version": crossfit.__version__}
    entry = registry.find(name)
    # Whether the file names its distribution or not.
    plain = name.rpartition(":")[2]
    return {"name": plain, "distribution": entry.distribution, "version": entry.version}


def member_problem(method: str, names: list[str]) -> str:
    """Return what is wrong with the names of the members of a method; empty if they are right."""
    if method not in HOLDERS:
        return f"{method} holds no methods; only {' and '.join(HOLDERS)} have members" * bool(names)
    target, wanted = HOLDERS[method]
    if wanted:
        listed = " and ".join(map(repr, wanted))
        return f"{method} needs the members {listed}" * (sorted(names) != sorted(wanted))
    if not names:
        return f"{method} needs members: a mapping from names to methods"
    taken = [*inspect.signature(registry.resolve_target(target)).parameters, "features", "scorer"]
    for name in names:
        if not _NAME.fullmatch(name) or name in taken:
            return (
                f"the name {name!r} of a member must be made of letters, digits, hyphens and "
                f"single underscores, and not be a parameter of {method} ({', '.join(taken)})"
            )
    return ""


def parameter_problem(method: str, params: Mapping[str, Any]) -> str:
    """Return which parameter of a holder an experiment may not set; empty if there is none."""
    if method not in HOLDERS:
        return ""
    given = [name for name in params if name in _OWN]
    return f"{given[0]!r} cannot be set; describe the methods under 'members'" if given else ""


def with_members(method: str, members: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a holder that are its members."""
    return dict(members) if HOLDERS[method][1] else {"estimators": list(members.items())}


def leaf_names(spec: MethodSpec) -> Iterator[str]:
    """Yield the names of the methods that hold no others."""
    if not spec.members:
        yield spec.method
    for member in spec.members.values():
        yield from leaf_names(member)


def leaves(spec: MethodSpec, made: Any) -> Iterator[tuple[MethodSpec, Any, frozenset[str]]]:
    """Yield the methods that hold no others, each with its object and its views with features.

    Parameters
    ----------
    spec : MethodSpec
        A method.
    made : estimator
        The object that `build_method` returns for it.
    """
    if not spec.members:
        yield spec, made, frozenset()
        return
    parts = made.get_params()
    for name, member in spec.members.items():
        own = frozenset(view for view, part in member.features.items() if part is not None)
        for leaf, held, views in leaves(member, parts[name].named_steps["method"]):
            yield leaf, held, views | own


def inner_name(spec: MethodSpec, name: str) -> str:
    """Return the name of a parameter in the object for its name in the file.

    A member is a pipeline with a step ``method``, so that ``cca__reg`` is ``cca__method__reg``.
    """
    head, _, rest = name.partition("__")
    member = spec.members.get(head)
    if member is None or not rest:
        return name
    if rest.startswith(("features__", "scorer__")):
        return name
    return f"{head}__method__{inner_name(member, rest)}"


def outer_name(spec: MethodSpec, name: str) -> str:
    """Return the name of a parameter in the file for its name in the object."""
    head, _, rest = name.partition("__")
    member = spec.members.get(head)
    if member is None or not rest.startswith("method__"):
        return name
    return f"{head}__{outer_name(member, rest.removeprefix('method__'))}"


def fixed_parameters(
    params: Mapping[str, Any], members: Mapping[str, MethodSpec]
) -> dict[str, Any]:
    """Return the parameters that an experiment sets, with those of the members by their names."""
    found = dict(params)
    for name, member in members.items():
        inner = fixed_parameters(member.params, member.members)
        found |= {f"{name}__{key}": value for key, value in inner.items()}
    return found


def default_space(spec: MethodSpec) -> dict[str, Part]:
    """Return the search space of a method's card, or those of its members and its own."""
    if not spec.members:
        return remaining(registry.get(spec.method).search_space, spec.params)
    own: dict[str, Part] = {}
    if spec.method == "fusion" and "weights" not in spec.params:
        own["how"] = Choice("zsum", "rrf", "weighted")
    found = remaining(own, spec.params)
    for name, member in spec.members.items():
        found |= renamed(default_space(member), lambda key, name=name: f"{name}__{key}")  # type: ignore[misc]
    return found
