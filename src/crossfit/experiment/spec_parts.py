"""Read and check the parts of an experiment: data sets, features, methods and tuning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from crossfit import registry
from crossfit._sizes import COSTS
from crossfit.experiment._yaml import Node, SpecError, plain, what
from crossfit.experiment.nested import (
    HOLDERS,
    fixed_parameters,
    member_problem,
    parameter_problem,
)
from crossfit.experiment.spec_space import read_space, written_tune
from crossfit.metrics.directions import Direction, spellings
from crossfit.metrics.names import parse_metric
from crossfit.search_space import Part

__all__ = [
    "DatasetSpec",
    "MethodSpec",
    "PublishedRow",
    "RELEVANCE",
    "TIES",
    "TuningSpec",
    "check_unique",
    "directions_between",
    "is_part",
    "read_datasets",
    "read_features",
    "read_methods",
    "read_metrics",
    "read_published_only",
    "read_seeds",
    "read_splits",
    "read_tuning",
    "written_tuning",
]

RELEVANCE = ("auto", "pair", "label")
ROLES = ("train", "validation", "test")
TIES = ("expected", "stable", "worst", "best")
_SAMPLERS = ("tpe", "random", "grid", "cmaes", "gp", "nsga2")
_PRUNERS = ("none", "median")


@dataclass(frozen=True)
class TuningSpec:
    """Settings of a search; see `tuning` of `Experiment`."""

    trials: int = 30
    folds: int | str = 3
    validation: bool = False
    metric: str | None = None
    timeout: float | None = None
    sampler: str = "tpe"
    pruner: str = "none"
    seed: int = 0
    storage: str | None = None
    refit_epochs: bool = False
    against: tuple[str, ...] = ()
    defaults: bool = True


@dataclass(frozen=True)
class DatasetSpec:
    """A data set to load.

    Parameters
    ----------
    name : str
        Name in the registry.
    options : mapping
        Arguments of `crossfit.datasets.load`: ``split`` and the data set's own options.
    subset : mapping of str to int
        Role or split name to the number of groups that are drawn from it.
    label : str
        Label in tables.
    """

    name: str
    options: Mapping[str, Any]
    subset: Mapping[str, int]
    label: str


@dataclass(frozen=True)
class MethodSpec:
    """A method with its settings.

    Parameters
    ----------
    method : str
        Name in the registry.
    label : str
        Label in tables.
    params : mapping
        Parameters of the method. A mapping of ``name`` and ``params`` describes an object.
    features : mapping
        View to features, which replace those of the experiment.
    similarity : object
        Name of a similarity, a mapping that describes one, or None for the method's own.
    tune : mapping of str to Float, Int, Choice or Each, "default" or None
        Search space.
    published : mapping
        Published figures: metric to a mapping of direction (or ``mean``) to value.
    tuning : TuningSpec, optional
        Settings of its search: those of the experiment, updated by its own; None if it is not
        tuned.
    note : str
        A note that tables show with its figures.
    line : str
        Place in the file, for messages.
    members : mapping of str to MethodSpec
        Names and methods that it holds; empty for most methods. A member has only parameters,
        features, a similarity and members.
    """

    method: str
    label: str
    params: Mapping[str, Any]
    features: Mapping[str, Any]
    similarity: Any
    tune: Mapping[str, Part] | str | None
    published: Mapping[str, Any]
    tuning: TuningSpec | None = None
    note: str = ""
    line: str = ""
    members: Mapping[str, MethodSpec] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the method as plain values, as in a file."""
        own = self._own()
        return {
            "method": own.pop("method"),
            "label": self.label,
            **own,
            "published": plain(self.published),
            "note": self.note,
            "tune": written_tune(self.tune),
            "tuning": written_tuning(self.tuning),
        }

    def _own(self) -> dict[str, Any]:
        """Return what a member has too."""
        names = ("method", "params", "features", "similarity")
        found = {name: plain(getattr(self, name)) for name in names}
        if self.members:
            found["members"] = {name: one._own() for name, one in self.members.items()}
        return found


@dataclass(frozen=True)
class PublishedRow:
    """A row of a published table that the experiment does not compute.

    Parameters
    ----------
    label : str
        Label in tables.
    published : mapping
        Published figures, as in `MethodSpec`.
    note : str
        Why it is not computed.
    """

    label: str
    published: Mapping[str, Any]
    note: str = ""


def read_datasets(node: Node) -> tuple[DatasetSpec, ...]:
    """Return the data sets, checked."""
    one, several = node.child("dataset", None), node.child("datasets", ())
    if (one.value is None) == (not several.value):
        raise node.error(
            "one of the keys 'dataset' and 'datasets' must be given; or, for pairs of your own, "
            "crossfit run FILE --data PAIRS.csv"
        )
    parts = several.sequence() if one.value is None else [one]
    found = []
    for part in parts:
        if isinstance(part.value, DatasetSpec):
            found.append(part.value)
            continue
        value = {"name": part.value} if isinstance(part.value, str) else part.mapping()
        name = Node(value, part.path, part.source, part.line).child("name").text()
        drawn = part.child("subset") if "subset" in value else Node(None, "", "")
        subset = drawn.optional(lambda n: {k: n.child(k).integer(1) for k in n.mapping()})
        label = part.child("label").text() if value.get("label") else ""
        options = {k: v for k, v in value.items() if k not in ("name", "subset", "label")}
        found.append(DatasetSpec(name, plain(options), subset or {}, label or name))
    check_unique(several if one.value is None else one, [part.label for part in found], "label")
    return tuple(found)


def directions_between(datasets: Sequence[DatasetSpec]) -> list[str]:
    """Return the directions between the views that the data sets' cards name, long and short.

    Empty if a data set is not installed, since its views are then unknown.
    """
    try:
        views = [registry.get(one.name, "crossfit.datasets").modalities for one in datasets]
    except registry.RegistryError:
        return []
    found = [spellings(Direction.between(names)) for names in views]
    return list(dict.fromkeys(text for texts in found for text in texts))


def read_splits(node: Node) -> dict[str, str | None]:
    """Return the splits by role, checked."""
    if node.value is None:
        return {}
    node.known(ROLES)
    return {role: node.child(role).optional(Node.text) for role in node.mapping()}


def is_part(value: Any) -> bool:
    """Return True if a mapping describes an object: ``{"name": ..., "params": {...}}``."""
    return (
        isinstance(value, Mapping)
        and isinstance(value.get("name"), str)
        and set(value) <= {"name", "params"}
    )


class _Placed(dict[str, Any]):
    """An extractor with its place in the file, for errors that occur when it is built."""

    place: str = ""


def _placed(part: Mapping[str, Any], node: Node) -> _Placed:
    made = _Placed(part)
    made.place = node.place
    return made


def _short(text: str, node: Node) -> dict[str, Any]:
    """Return an extractor in its short form as a mapping."""
    if ":" not in text:
        return {"name": text}
    from crossfit.extraction.named import parse_extractor

    try:
        name, params = parse_extractor(text)
    except registry.RegistryError:
        return {"name": text}  # reported when the extractor is built
    except ValueError as error:
        raise node.error(str(error)) from None
    return {"name": name, "params": params} if params else {"name": name}


def _part(node: Node) -> Any:
    """Check one extractor, a chain of them, channels, or None (the view is not transformed)."""
    value = node.value
    if value is None or value == "passthrough":
        return None
    if isinstance(value, str):
        return _placed(_short(value, node), node)
    if isinstance(value, Mapping) and "channel" in value:
        node.known(["channel"])
        return {"channel": node.child("channel").text()}
    if isinstance(value, Mapping) and "channels" in value:
        node.known(["channels"])
        channels = node.child("channels")
        return {"channels": {key: _part(channels.child(key)) for key in channels.mapping()}}
    if isinstance(value, Mapping):
        node.known(["name", "params"])
        node.child("name").text()
        params = node.child("params", {})
        given = {} if not params.value else plain(params.mapping())
        return _placed({"name": value["name"], "params": given}, node)
    parts = node.sequence()
    if not parts:
        raise node.error("must name at least one extractor")
    return [_part(part) for part in parts]


def read_features(node: Node) -> dict[str, Any]:
    """Return the extractors of each view, checked."""
    if node.value is None:
        return {}
    return {view: _part(node.child(view)) for view in node.mapping()}


def read_seeds(node: Node) -> tuple[int, ...]:
    """Return the seeds, checked."""
    if isinstance(node.value, int):
        return (node.integer(0),)
    seeds = tuple(part.integer(0) for part in node.sequence())
    if not seeds:
        raise node.error("must have at least one seed")
    check_unique(node, seeds, "seed")
    return seeds


def read_metrics(node: Node) -> tuple[str, ...]:
    """Return the canonical names of the metrics."""
    parts = [node] if isinstance(node.value, str) else node.sequence()
    found = []
    for part in parts:
        try:
            found.append(parse_metric(part.text()).name)
        except ValueError as error:
            raise (error if isinstance(error, SpecError) else part.error(str(error))) from None
    if not found:
        raise node.error("must have at least one metric")
    return tuple(dict.fromkeys(found))


def read_tuning(node: Node, default: TuningSpec | None = None) -> TuningSpec | None:
    """Return the settings of a search; missing ones are taken from `default`."""
    if node.value is None or isinstance(node.value, TuningSpec):
        return node.value or default
    node.known([field.name for field in fields(TuningSpec)])
    given = node.mapping()
    if "folds" in given and given.get("validation"):
        raise node.error("requires one of 'folds' and 'validation', got both")
    default = default or TuningSpec()

    def metric(part: Node) -> str:
        return read_metrics(part)[0]

    costs = node.child("against", default.against).sequence()
    against = tuple(part.one_of(tuple(COSTS)) for part in costs)
    if against:
        for key, allowed in (("refit_epochs", (False,)), ("pruner", ("none", None))):
            if given.get(key, getattr(default, key)) not in allowed:
                raise node.error(f"{key!r} requires trials with one value; leave out 'against'")
        if given.get("sampler", default.sampler) == "cmaes":
            raise node.error("CMA-ES optimises one value; with 'against', use the sampler nsga2")
    return TuningSpec(
        node.child("trials", default.trials).integer(1),
        _number_or_name(node.child("folds", default.folds)),
        node.child("validation", default.validation and "folds" not in given).boolean(),
        node.child("metric", default.metric).optional(metric),
        node.child("timeout", default.timeout).optional(Node.number),
        node.child("sampler", default.sampler).one_of(_SAMPLERS),
        node.child("pruner", default.pruner).optional(lambda n: n.one_of(_PRUNERS)) or "none",
        node.child("seed", default.seed).integer(0),
        node.child("storage", default.storage).optional(Node.text),
        node.child("refit_epochs", default.refit_epochs).boolean(),
        tuple(dict.fromkeys(against)),
        node.child("defaults", default.defaults).boolean(),
    )


def written_tuning(tuning: TuningSpec | None) -> dict[str, Any] | None:
    """Return the settings of a search as in a file, which has one of folds and validation."""
    if tuning is None:
        return None
    return {
        name: value
        for name, value in asdict(tuning).items()
        if name != "folds" or not tuning.validation
    }


def _number_or_name(node: Node) -> int | str:
    """Return the number of folds to draw, or the name of the folds of the data set."""
    return node.text() if isinstance(node.value, str) else node.integer(2)


def read_methods(
    node: Node, tuning: TuningSpec | None, directions: Sequence[str]
) -> tuple[MethodSpec, ...]:
    """Return the methods, checked."""
    found = [_method(part, tuning, directions) for part in node.sequence()]
    if not found:
        raise node.error("must have at least one method")
    return tuple(found)


def _method(node: Node, tuning: TuningSpec | None, directions: Sequence[str]) -> MethodSpec:
    if isinstance(node.value, MethodSpec):
        return node.value
    if isinstance(node.value, str):
        return _named(node)
    node.known([field.name for field in fields(MethodSpec) if field.name != "line"])
    name = node.child("method").text()
    params = node.child("params", {})
    members = _members(node, name)
    similarity = _similarity(node, name)
    tune = node.child("tune", None)
    space: Mapping[str, Part] | str | None = tune.value
    if isinstance(tune.value, Mapping):
        fixed = list(fixed_parameters(params.value or {}, members))
        space = read_space(tune, ranked=similarity.value is not None, fixed=fixed)
    elif tune.value not in (None, "default"):
        raise tune.error(f"must be 'default', null or a mapping, got {what(tune.value)}")
    own_way = node.child("tuning", None)
    own = read_tuning(own_way, tuning)
    if tune.value is None and own_way.value is not None:
        raise own_way.error("has no effect: the method has no key 'tune'")
    if tune.value is not None and own is None:
        raise tune.error("requires the key 'tuning', with the number of trials and folds")
    return MethodSpec(
        name,
        node.child("label", name).text(),
        _params(node, name),
        read_features(node.child("features", None)),
        plain(similarity.value),
        space,
        _published(node.child("published", None), directions),
        None if tune.value is None else own,
        node.child("note", "").text(empty=True),
        node.place,
        members,
    )


def _named(node: Node) -> MethodSpec:
    """Return a method that is given by its name alone."""
    if problem := member_problem(node.value, []):
        raise node.error(problem)
    return MethodSpec(node.value, node.value, {}, {}, None, None, {}, None, "", node.place)


def _members(node: Node, method: str) -> dict[str, MethodSpec]:
    """Return the methods that a method holds, checked."""
    held = node.child("members", {})
    names = list(held.mapping() if held.value else ())
    if problem := member_problem(method, names):
        raise (held if held.value else node).error(problem)
    found = {}
    for name in names:
        part = held.child(name)
        if isinstance(part.value, str):
            found[name] = replace(_named(part), label=name)
            continue
        part.known(["method", "params", "features", "similarity", "members"])
        own = part.child("method").text()
        found[name] = MethodSpec(
            own, name, _params(part, own), read_features(part.child("features", None)),
            plain(_similarity(part, own).value), None, {}, None, "", part.place,
            _members(part, own),
        )  # fmt: skip
    return found


def _params(node: Node, method: str) -> dict[str, Any]:
    params = node.child("params", {})
    found = {} if not params.value else plain(params.mapping())
    if problem := parameter_problem(method, found):
        raise params.error(problem)
    return found


def _similarity(node: Node, method: str) -> Node:
    similarity = node.child("similarity", None)
    if similarity.value is not None and not isinstance(similarity.value, str):
        similarity = Node(_part(similarity), similarity.path, similarity.source, similarity.line)
    elif similarity.value is not None:
        from crossfit.retrieval.hubs import CORRECTIONS
        from crossfit.similarities import MEASURES

        similarity.one_of([*MEASURES, *CORRECTIONS])
    if similarity.value is not None and method in HOLDERS:
        raise similarity.error(f"{method} ranks by its members; set the similarity of a member")
    return similarity


def read_published_only(node: Node, directions: Sequence[str]) -> tuple[PublishedRow, ...]:
    """Return the published rows that are not computed, checked."""
    found = []
    for part in node.sequence():
        if isinstance(part.value, PublishedRow):
            found.append(part.value)
            continue
        part.known([field.name for field in fields(PublishedRow)])
        figures = _published(part.child("published", None), directions)
        if not figures:
            raise part.error("has no figures; give them under 'published'")
        note = part.child("note", "").text(empty=True)
        found.append(PublishedRow(part.child("label").text(), figures, note))
    return tuple(found)


def _published(node: Node, directions: Sequence[str]) -> dict[str, dict[str, float]]:
    if not node.value:
        return {}
    found: dict[str, dict[str, float]] = {}
    for name in node.mapping():
        part = node.child(name)
        (metric,) = read_metrics(Node([name], part.path, part.source, part.line))
        if isinstance(part.value, Mapping):
            if directions:
                part.known(["mean", *directions])
            found[metric] = {key: part.child(key).number() for key in part.value}
        else:
            found[metric] = {"mean": part.number()}
    return found


def check_unique(node: Node, values: Sequence[Any], what: str) -> None:
    """Raise a `SpecError` if a value occurs twice."""
    seen: set[Any] = set()
    for i, value in enumerate(values):
        if value in seen:
            at = node.child(i) if isinstance(node.value, Sequence) else node
            raise at.error(f"the {what} {value!r} occurs twice")
        seen.add(value)
