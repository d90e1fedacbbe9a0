"""Build the objects of an experiment: methods, features and similarities."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from crossfit import registry
from crossfit.cards import Choice
from crossfit.experiment._yaml import SpecError
from crossfit.experiment.allowed_classes import CLASSES, KERNELS, refused_parameter
from crossfit.experiment.nested import inner_name, load_method, with_members
from crossfit.experiment.spec_parts import MethodSpec, is_part

__all__ = [
    "build_features",
    "build_method",
    "build_similarity",
    "checked_settings",
    "draws_at_random",
    "named",
]

#: Seed of extractors without a seed of their own, so that the features of a data set are the same
#: for every seed of the methods.
FEATURE_SEED = 0


def build_method(spec: MethodSpec, seed: int | None = None) -> Any:
    """Return the method, unfitted, with its parameters.

    Parameters
    ----------
    spec : MethodSpec
        The method of the experiment.
    seed : int, optional
        Value of every ``random_state`` that the experiment does not set, also in nested objects.

    Raises
    ------
    SpecError
        If a parameter that is set or tuned does not exist, or a value is invalid.
    crossfit.registry.RegistryError
        If the method is not installed or cannot be imported.
    """
    cls = load_method(spec.method)
    where = f"{spec.line}method {spec.label!r}"
    params = dict(spec.params)
    if spec.members:
        held = {name: _member(member, seed) for name, member in spec.members.items()}
        params |= with_members(spec.method, held)
    made = _instance(cls, params, seed, where, "the method " + spec.method)
    tune = spec.tune if isinstance(spec.tune, Mapping) else {}
    known_names = made.get_params() if tune else {}
    for name in tune:
        outer = name.partition("__")[0]
        # Parameters of an object that is tuned itself are known only during the search.
        inner = outer != name and outer in tune
        if (
            outer not in ("features", "scorer")
            and not inner
            and inner_name(spec, name) not in known_names
        ):
            member = spec.members.get(outer)
            owner, held = spec.method, made
            if member is not None:
                owner, held = member.method, known_names[outer].named_steps["method"]
            raise SpecError(
                f"{where}: tune: the method {owner} has no parameter {name!r}, it has "
                f"{', '.join(held.get_params(deep=False))}"
            )
    return made


def _member(spec: MethodSpec, seed: int | None) -> Any:
    """Return a method that another one holds, as a pipeline with its features and similarity."""
    from sklearn.pipeline import Pipeline

    from crossfit.compose import ViewTransformer
    from crossfit.retrieval import RetrievalScorer

    steps: list[tuple[str, Any]] = []
    if transformers := build_features(spec.features):
        steps.append(("features", ViewTransformer(transformers)))
    steps.append(("method", build_method(spec, seed)))
    if spec.similarity is not None:
        steps.append(("scorer", RetrievalScorer(build_similarity(spec.similarity))))
    return Pipeline(steps)


def build_features(features: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return (view, transformer) pairs for `crossfit.compose.ViewTransformer`."""
    found = []
    for view, spec in features.items():
        if spec is not None:
            _check_scope(view, spec)
            found.append((view, _transformer(spec, f"features.{view}")))
    return found


def _check_scope(view: str, spec: Any) -> None:
    """Check that transformers of all views, and only those, are under ``"*"``."""
    from crossfit.compose import ALL_VIEWS

    for part in spec if isinstance(spec, list) else [spec]:
        name = part.get("name", "channels")
        extractor = "." not in name and "name" in part
        pairs = extractor and registry.get(name, "crossfit.extractors").modality == "pairs"
        if pairs != (view == ALL_VIEWS):
            raise SpecError(
                f"{getattr(part, 'place', '')}features.{view}: {name!r} transforms "
                + ('all views at once; name it under "*"' if pairs else "a single view; name it")
            )


def build_similarity(similarity: Any) -> Any:
    """Return a similarity: the name of a measure, or the object that is named or described."""
    from crossfit.retrieval.hubs import CORRECTIONS

    part = similarity if isinstance(similarity, Mapping) else {"name": similarity}
    name = part.get("name")
    if isinstance(name, str) and name in CORRECTIONS:
        return _instance(CORRECTIONS[name], part.get("params") or {}, None, "similarity", name)
    return _value(similarity, None, "similarity")


def _transformer(spec: Any, where: str) -> Any:
    from sklearn.pipeline import make_pipeline

    from crossfit.compose import ChannelUnion, SelectChannel

    if isinstance(spec, list):
        return make_pipeline(*(_transformer(part, f"{where}[{i}]") for i, part in enumerate(spec)))
    if "channel" in spec:
        return SelectChannel(spec["channel"])
    if "channels" in spec:
        return ChannelUnion(
            [
                (name, _transformer(part, f"{where}.{name}"))
                for name, part in spec["channels"].items()
            ]
        )
    where = getattr(spec, "place", "") + where
    made = _object(spec, FEATURE_SEED, where)
    if not hasattr(made, "fit") or not hasattr(made, "transform"):
        raise SpecError(
            f"{where}: {spec['name']!r} is not a transformer; it needs fit and transform"
        )
    return made


def _value(value: Any, seed: int | None, where: str) -> Any:
    """Return a parameter's value, building the objects that mappings and lists describe."""
    if is_part(value):
        return _object(value, seed, where)
    if isinstance(value, Mapping):
        return {key: _value(part, seed, f"{where}.{key}") for key, part in value.items()}
    if isinstance(value, list) and value and all(map(is_part, value)):
        from sklearn.pipeline import make_pipeline

        return make_pipeline(*(_object(part, seed, where) for part in value))
    if isinstance(value, (list, tuple)):
        parts = [_value(part, seed, f"{where}[{i}]") for i, part in enumerate(value)]
        return tuple(parts) if isinstance(value, tuple) else parts
    return value


def _object(spec: Mapping[str, Any], seed: int | None, where: str) -> Any:
    name = spec["name"]
    found = named(name, where)
    if not inspect.isclass(found):
        if spec.get("params"):
            raise SpecError(f"{where}: {name!r} is a function and takes no params")
        return found
    return _instance(found, spec.get("params") or {}, seed, where, name)


def named(name: str, where: str) -> Any:
    """Return the class or function that a name in an experiment stands for.

    Parameters
    ----------
    name : str
        Name of a registered extractor, or the full dotted path of a class in `allowed.CLASSES` or
        of a kernel in ``sklearn.metrics.pairwise``.
    where : str
        Place in the experiment, for error messages.

    Raises
    ------
    SpecError
        If the name is none of these. Nothing else is imported.
    crossfit.registry.RegistryError
        If no extractor has that name.
    """
    if "." not in name or ":" in name:
        return registry.load(name, "crossfit.extractors")
    module, _, attribute = name.rpartition(".")
    kernel = module == "sklearn.metrics.pairwise" and attribute in KERNELS
    if kernel or CLASSES.get(attribute) == module:
        return registry.resolve_target(f"{module}:{attribute}")
    near = CLASSES.get(attribute)
    hint = f": did you mean '{near}.{attribute}'?" if near else ""
    raise SpecError(
        f"{where}: {name!r} is neither an installed extractor nor an estimator that experiments "
        f"may name{hint}"
    )


def _instance(cls: Any, params: Mapping[str, Any], seed: int | None, where: str, name: str) -> Any:
    parameters = inspect.signature(cls).parameters
    takes_any = any(part.kind is part.VAR_KEYWORD for part in parameters.values())
    unknown = [key for key in params if key not in parameters]
    if unknown and not takes_any:
        known = ", ".join(key for key in parameters if key != "self")
        raise SpecError(f"{where}: {name} has no parameter {unknown[0]!r}, it has {known}")
    for key, part in params.items():
        if isinstance(part, str) and _is_number(cls, key):
            raise SpecError(f"{where}: {key} of {name} must be a number, got {part!r}")
    values = {
        key: _as_tuple(cls, key, _value(part, seed, f"{where}.{key}"))
        for key, part in params.items()
    }
    for key, part in values.items():
        if refused := refused_parameter(cls, key, part):
            raise SpecError(f"{where}: {refused}")
    try:
        made = cls(**values)
    except (TypeError, ValueError) as error:
        raise SpecError(f"{where}: {error}") from error
    open_seed = "random_state" in parameters and "random_state" not in params
    if open_seed and seed is not None:
        made.set_params(random_state=seed)
    if hasattr(made, "_validate_params") and getattr(cls, "_parameter_constraints", None):
        try:
            made._validate_params()
        except ValueError as error:
            raise SpecError(f"{where}: {error}") from error
    return made


def checked_settings(model: Any, settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Check that an experiment file may set these parameters, and return the values to set.

    Parameters
    ----------
    model : estimator
        The estimator on which they are to be set.
    settings : mapping of str to object
        Parameter name, with double underscores for nested ones, to its value or the part of a
        search space that describes its values.
    where : str
        Place in the experiment, for error messages.

    Returns
    -------
    dict of str to object
        The settings, with tuples in place of lists where the parameter takes only tuples.

    Raises
    ------
    SpecError
        If one is not allowed.
    """
    holders = {"": model, **model.get_params()}
    found = {}
    for name, value in settings.items():
        parts = name.split("__")
        # The innermost object that the name refers to; the rest is its parameter.
        reached = ("__".join(parts[:i]) for i in range(len(parts) - 1, -1, -1))
        outer = next(part for part in reached if hasattr(holders.get(part), "get_params"))
        holder: Any = holders[outer]
        inner = name[len(outer) :].removeprefix("__")
        # For unknown names, set_params raises its own error.
        own = holder.get_params(deep=False)
        if inner in own and (refused := refused_parameter(type(holder), inner, value)):
            raise SpecError(f"{where}: {name}: {refused}")
        found[name] = _as_tuple(type(holder), inner, value)
    return found


def _as_tuple(cls: Any, name: str, value: Any) -> Any:
    """Return a list, or the lists of a search space, as tuples if the parameter takes only these.

    YAML and JSON have no tuples.
    """
    if isinstance(value, Choice):
        options = [_as_tuple(cls, name, option) for option in value.options]
        named = {} if value.names is None else dict(zip(value.names, options))
        return Choice(*([] if named else options), when=value.when, **named)
    if not isinstance(value, list):
        return value
    kinds = getattr(cls, "_parameter_constraints", {}).get(name)
    if kinds is None:
        default = inspect.signature(cls).parameters.get(name)
        takes_tuples = default is not None and isinstance(default.default, tuple)
    else:
        takes_tuples = tuple in kinds and list not in kinds and "array-like" not in kinds
    return tuple(value) if takes_tuples else value


def _is_number(cls: Any, name: str) -> bool:
    """Return True if the annotation of a parameter allows numbers but not strings."""
    try:
        hint = get_type_hints(cls.__init__).get(name, Any)
    except NameError:  # a type that is imported for type checkers only
        return False
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    texts = any(option in (str, Any, object) or get_origin(option) is Literal for option in options)
    return not texts and (int in options or float in options)


def draws_at_random(spec: MethodSpec) -> bool:
    """Return True if the method depends on a seed, that is, if a ``random_state`` is not set."""
    if spec.members:
        tune = spec.tune if isinstance(spec.tune, Mapping) else {}
        # A fusion draws only the pairs on which it chooses weights.
        chooses = "how" in tune or spec.tune == "default" or spec.params.get("how") == "weighted"
        return chooses or any(map(draws_at_random, spec.members.values()))
    return _leaves_seed_open(registry.load(spec.method), spec.params)


def _leaves_seed_open(cls: Any, params: Mapping[str, Any]) -> bool:
    if "random_state" in inspect.signature(cls).parameters and "random_state" not in params:
        return True
    return any(map(_has_open_seed, params.values()))


def _has_open_seed(value: Any) -> bool:
    if is_part(value):
        found = named(value["name"], "")
        return inspect.isclass(found) and _leaves_seed_open(found, value.get("params") or {})
    if isinstance(value, (Mapping, list, tuple)):
        parts = value.values() if isinstance(value, Mapping) else value
        return any(map(_has_open_seed, parts))
    return False
