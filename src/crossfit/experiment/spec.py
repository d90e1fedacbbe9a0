"""The experiment: data sets, features, methods, seeds, metrics and tuning, validated.

What is wrong in a file is reported with the file's name, the line and the key.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import permutations
from pathlib import Path
from typing import Any

from crossfit import registry
from crossfit.cards import Choice, Each, ExperimentCard, Float, Int
from crossfit.experiment._yaml import Node, SpecError, change, plain, read_yaml, what
from crossfit.metrics.names import parse_metric

__all__ = [
    "DatasetSpec",
    "Experiment",
    "MethodSpec",
    "SpecError",
    "TuningSpec",
    "is_part",
    "space_of",
]

RELEVANCE = ("auto", "pair", "label")
ROLES = ("train", "validation", "test")
_TIES = ("expected", "stable", "worst")
_SAMPLERS = ("tpe", "random")
_PRUNERS = ("none", "median")


# ---- what an experiment is made of ---------------------------------------------------------------


@dataclass(frozen=True)
class TuningSpec:
    """How methods are tuned; see the documentation of the keys in `Experiment`."""

    trials: int = 30
    folds: int = 3
    validation: bool = False
    metric: str | None = None
    timeout: float | None = None
    sampler: str = "tpe"
    pruner: str = "none"
    seed: int = 0
    storage: str | None = None


@dataclass(frozen=True)
class DatasetSpec:
    """A data set to load.

    Parameters
    ----------
    name : str
        Name in the registry.
    options : mapping
        Handed to `crossfit.datasets.load`: ``split`` and the data set's own options.
    subset : mapping of str to int
        Role or split name to the number of groups that are drawn from it.
    label : str
        What tables call it.
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
        What tables call it.
    params : mapping
        Parameters of the method. A mapping of ``name`` and ``params`` stands for an object.
    features : mapping
        View to features, in place of the experiment's.
    similarity : object
        Name of a similarity, a mapping that stands for one, or None for the method's own.
    tune : mapping, "default" or None
        Search space.
    published : mapping
        Published figures: metric to a mapping of direction (or ``mean``) to value.
    tuning : TuningSpec, optional
        How it is tuned: as the experiment says, with what the method says of its own; None if it
        is not tuned.
    line : str
        Where the file says it, for messages.
    """

    method: str
    label: str
    params: Mapping[str, Any]
    features: Mapping[str, Any]
    similarity: Any
    tune: Mapping[str, Any] | str | None
    published: Mapping[str, Any]
    tuning: TuningSpec | None = None
    line: str = ""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Data sets × features × methods × seeds, with metrics and tuning.

    Parameters
    ----------
    title : str
        Heading of the report.
    dataset, datasets : mapping, sequence of mappings
        One data set or several: ``{"name": ..., "split": ..., "subset": {"train": 500}}``; other
        keys are options of the data set.
    methods : sequence of mappings
        ``{"method": ..., "label": ..., "params": {...}, "features": {...}, "similarity": ...,
        "tune": {...}, "tuning": {...}, "published": {...}}``; a string is a method with its
        defaults.
    features : mapping
        View to an extractor ``{"name": ..., "params": {...}}``, a list of such, or
        ``{"channels": {...}}``. Views that are not named stay as they are.
    splits : mapping
        Which splits play the roles ``train``, ``validation`` and ``test``.
    seeds : sequence of int
        A method that draws nothing at random runs once.
    metrics : sequence of str
        The first is the main one.
    relevance : {"auto", "pair", "label"}
        With ``"auto"`` recall and ranks are by pair, precision and gain by label where there are
        labels.
    ties : {"expected", "stable", "worst"}
        How equal scores are ranked.
    tuning : mapping, optional
        ``trials``, ``folds`` or ``validation: true``, ``metric``, ``timeout`` in seconds,
        ``sampler``, ``pruner``, ``seed``, ``storage``.
    baseline : str, optional
        Label of the method that others are compared with; the best by default.
    reduced : bool
        Whether data or sizes are below the published ones; the title then says so.
    name : str
        Name of the run in the store; made from the title by default.

    Raises
    ------
    SpecError
        If something in it is wrong, with the key at fault.

    Examples
    --------
    >>> e = Experiment(title="Two methods", dataset={"name": "emoji"}, methods=["cca", "pls"])
    >>> [m.label for m in e.methods], e.metrics
    (['cca', 'pls'], ('map@all',))
    """

    title: str
    dataset: Any = None
    datasets: Any = ()
    methods: Any = ()
    features: Any = None
    splits: Any = None
    seeds: Any = (0,)
    metrics: Any = ("map@all",)
    relevance: str = "auto"
    ties: str = "expected"
    tuning: Any = None
    baseline: str | None = None
    reduced: bool = False
    name: str = ""

    def __post_init__(self) -> None:
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        self._take(Node(given, "", ""))

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any], source: str = "") -> Experiment:
        """Make an experiment from a mapping, which may know the lines of its file.

        Parameters
        ----------
        mapping : mapping
            The fields of the class. Keys that begin with ``x-`` are left alone: a place for
            anchors.
        source : str
            Name of the file, for messages.
        """
        node = Node(mapping, "", source)
        names = [field.name for field in fields(cls)]
        node.known([*names, *(key for key in mapping if str(key).startswith("x-"))])
        if "title" not in node.value:
            raise node.error("the key 'title' is missing")
        made = object.__new__(cls)
        for field in fields(cls):
            default = None if field.name == "title" else field.default
            object.__setattr__(made, field.name, node.value.get(field.name, default))
        made._take(node)
        return made

    @classmethod
    def from_file(
        cls, path: str | Path, settings: Sequence[str] = (), own: str | None = None, **replaced: Any
    ) -> Experiment:
        """Read a YAML file.

        Parameters
        ----------
        path : path
            The file.
        settings : sequence of str
            Changes, ``"key=value"``; see `change`.
        own : str, optional
            The name of the user's own data, which a file then need not name.
        **replaced
            Fields to replace altogether.
        """
        path = Path(path)
        tree = read_yaml(path)
        for setting in settings:
            change(tree, setting)
        tree.update(replaced)
        if own and not tree.get("dataset") and not tree.get("datasets"):
            tree["dataset"] = own
        if not tree.get("name"):
            tree["name"] = re.sub(r"[^A-Za-z0-9_.-]+", "-", path.stem).strip("-._")
        return cls.from_dict(tree, str(path))

    @classmethod
    def find(
        cls, name: str, settings: Sequence[str] = (), own: str | None = None, **replaced: Any
    ) -> Experiment:
        """Read an experiment by the name of its file or of an installed experiment.

        Raises
        ------
        FileNotFoundError
            If the file does not exist.
        crossfit.registry.NotInstalledError
            If no installed distribution offers that name.
        """
        if name.endswith((".yaml", ".yml")) or "/" in name or Path(name).is_file():
            if not Path(name).is_file():
                raise FileNotFoundError(f"there is no experiment file {name!r}")
            return cls.from_file(name, settings, own, **replaced)
        card: ExperimentCard = registry.get(name, "crossfit.experiments")
        return cls.from_file(shipped_file(card), settings, own, **replaced)

    def to_dict(self) -> dict[str, Any]:
        """Return the experiment as plain values, every default filled in."""
        return {
            "title": self.title,
            "name": self.name,
            "reduced": self.reduced,
            "datasets": [
                {
                    "name": one.name,
                    **plain(one.options),
                    "subset": dict(one.subset),
                    "label": one.label,
                }
                for one in self.datasets
            ],
            "splits": dict(self.splits),
            "features": plain(self.features),
            "seeds": list(self.seeds),
            "metrics": list(self.metrics),
            "relevance": self.relevance,
            "ties": self.ties,
            "tuning": None if self.tuning is None else asdict(self.tuning),
            "baseline": self.baseline,
            "methods": [
                {
                    **{
                        field.name: plain(getattr(one, field.name))
                        for field in fields(MethodSpec)
                        if field.name not in ("line", "tuning")
                    },
                    "tuning": None if one.tuning is None else asdict(one.tuning),
                }
                for one in self.methods
            ],
        }

    # ---- validation

    def _take(self, node: Node) -> None:
        """Check the fields and put the validated forms in their place."""

        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        title = node.child("title")
        put("title", title.text())
        put("reduced", node.child("reduced", False).boolean())
        if self.reduced and "reduced" not in self.title.lower():
            raise title.error("the title of a reduced experiment must contain the word 'reduced'")
        name = node.child("name", "").text(empty=True) or _slug(self.title)
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
            raise node.child("name").error(
                f"must be made of letters, digits, hyphens, dots and underscores, got {name!r}"
            )
        put("name", name)
        put("datasets", _datasets(node))
        put("dataset", None)
        put("splits", _splits(node.child("splits", None)))
        put("features", _features(node.child("features", None)))
        put("seeds", _seeds(node.child("seeds", (0,))))
        put("metrics", _metrics(node.child("metrics", ("map@all",))))
        put("relevance", node.child("relevance", "auto").one_of(RELEVANCE))
        put("ties", node.child("ties", "expected").one_of(_TIES))
        put("tuning", _tuning(node.child("tuning", None)))
        put("methods", _methods(node.child("methods", ()), self.tuning, _directions(self.datasets)))
        if self.tuning is not None and not any(method.tuning for method in self.methods):
            raise node.child("tuning").error("is of no use: no method has the key 'tune'")
        _unique(node.child("methods"), [method.label for method in self.methods], "label")
        put("baseline", node.child("baseline", None).optional(Node.text))
        labels = [method.label for method in self.methods]
        if self.baseline is not None and self.baseline not in labels:
            raise node.child("baseline").error(
                f"must be the label of a method ({', '.join(labels)}), got {self.baseline!r}"
            )


def shipped_file(card: ExperimentCard) -> Path:
    """Return the file that an experiment's card names.

    Raises
    ------
    FileNotFoundError
        If it is not where the distribution should have put it.
    """
    package, _, inside = card.target.partition(":")
    found = importlib.util.find_spec(package)
    places = [Path(place) for place in (found and found.submodule_search_locations) or ()]
    # Besides the package itself: the checkout of an editable install, whose files are put into
    # the package only when it is built, and the place where they then lie.
    outer = [place.parents[1] for place in places if len(place.parents) > 1]
    installed = [Path(folder) / package.replace(".", "/") for folder in sys.path if folder]
    for place in (*places, *outer, *installed):
        if (place / inside).is_file():
            return place / inside
    raise FileNotFoundError(f"the experiment {card.name!r} has no file {card.target!r}")


# ---- the keys, one by one ------------------------------------------------------------------------


def _datasets(node: Node) -> tuple[DatasetSpec, ...]:
    one, several = node.child("dataset", None), node.child("datasets", ())
    if (one.value is None) == (not several.value):
        raise node.error("one of the keys 'dataset' and 'datasets' must be given")
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
    _unique(several if one.value is None else one, [part.label for part in found], "label")
    return tuple(found)


def _directions(datasets: Sequence[DatasetSpec]) -> list[str]:
    """Return the directions between the views that the data sets' cards name, long and short.

    Empty where a data set is not installed, so that nobody knows its views.
    """
    try:
        views = [registry.get(one.name, "crossfit.datasets").modalities for one in datasets]
    except registry.RegistryError:
        return []
    found = [(a, b) for names in views for a, b in permutations(names, 2)]
    return list(dict.fromkeys([*(f"{a}2{b}" for a, b in found),
                               *(f"{a[:1]}2{b[:1]}" for a, b in found)]))  # fmt: skip


def _splits(node: Node) -> dict[str, str | None]:
    if node.value is None:
        return {}
    node.known(ROLES)
    return {role: node.child(role).optional(Node.text) for role in node.mapping()}


def is_part(value: Any) -> bool:
    """Say whether a mapping stands for an object: ``{"name": ..., "params": {...}}``."""
    return (
        isinstance(value, Mapping)
        and isinstance(value.get("name"), str)
        and set(value) <= {"name", "params"}
    )


class _Placed(dict[str, Any]):
    """An extractor that knows where the file names it, for what only making it finds wrong."""

    place: str = ""


def _placed(part: Mapping[str, Any], node: Node) -> _Placed:
    made = _Placed(part)
    made.place = node.place
    return made


def _part(node: Node) -> Any:
    """Check one extractor, a chain of them, channels, or None (the view stays as it is)."""
    value = node.value
    if value is None or value == "passthrough":
        return None
    if isinstance(value, str):
        return _placed({"name": value}, node)
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


def _features(node: Node) -> dict[str, Any]:
    if node.value is None:
        return {}
    return {view: _part(node.child(view)) for view in node.mapping()}


def _seeds(node: Node) -> tuple[int, ...]:
    if isinstance(node.value, int):
        return (node.integer(0),)
    seeds = tuple(part.integer(0) for part in node.sequence())
    if not seeds:
        raise node.error("must have at least one seed")
    _unique(node, seeds, "seed")
    return seeds


def _metrics(node: Node) -> tuple[str, ...]:
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


def _tuning(node: Node, default: TuningSpec | None = None) -> TuningSpec | None:
    """Read how to tune; what is not said is as in `default`."""
    if node.value is None or isinstance(node.value, TuningSpec):
        return node.value or default
    node.known([field.name for field in fields(TuningSpec)])
    given = node.mapping()
    if "folds" in given and given.get("validation"):
        raise node.error("takes one of 'folds' and 'validation', got both")
    default = default or TuningSpec()

    def metric(part: Node) -> str:
        return _metrics(part)[0]

    return TuningSpec(
        node.child("trials", default.trials).integer(1),
        node.child("folds", default.folds).integer(2),
        node.child("validation", default.validation and "folds" not in given).boolean(),
        node.child("metric", default.metric).optional(metric),
        node.child("timeout", default.timeout).optional(Node.number),
        node.child("sampler", default.sampler).one_of(_SAMPLERS),
        node.child("pruner", default.pruner).optional(lambda n: n.one_of(_PRUNERS)) or "none",
        node.child("seed", default.seed).integer(0),
        node.child("storage", default.storage).optional(Node.text),
    )


def _methods(
    node: Node, tuning: TuningSpec | None, directions: Sequence[str]
) -> tuple[MethodSpec, ...]:
    found = [_method(part, tuning, directions) for part in node.sequence()]
    if not found:
        raise node.error("must have at least one method")
    return tuple(found)


def _method(node: Node, tuning: TuningSpec | None, directions: Sequence[str]) -> MethodSpec:
    if isinstance(node.value, MethodSpec):
        return node.value
    if isinstance(node.value, str):
        return MethodSpec(node.value, node.value, {}, {}, None, None, {}, None, node.place)
    node.known([field.name for field in fields(MethodSpec) if field.name != "line"])
    name = node.child("method").text()
    params = node.child("params", {})
    similarity = node.child("similarity", None)
    if similarity.value is not None and not isinstance(similarity.value, str):
        similarity = Node(_part(similarity), similarity.path, similarity.source, similarity.line)
    elif similarity.value is not None:
        from crossfit.similarities import MEASURES

        similarity.one_of(list(MEASURES))
    tune = node.child("tune", None)
    if isinstance(tune.value, Mapping):
        fixed = list(params.value or ())
        _check_space(tune, ranked=similarity.value is not None, fixed=fixed)
    elif tune.value not in (None, "default"):
        raise tune.error(f"must be 'default', null or a mapping, got {what(tune.value)}")
    own_way = node.child("tuning", None)
    own = _tuning(own_way, tuning)
    if tune.value is None and own_way.value is not None:
        raise own_way.error("is of no use: the method has no key 'tune'")
    if tune.value is not None and own is None:
        raise tune.error("needs the key 'tuning', which says how many trials and folds")
    return MethodSpec(
        name,
        node.child("label", name).text(),
        {} if not params.value else plain(params.mapping()),
        _features(node.child("features", None)),
        plain(similarity.value),
        plain(tune.value),
        _published(node.child("published", None), directions),
        None if tune.value is None else own,
        node.place,
    )


def _published(node: Node, directions: Sequence[str]) -> dict[str, dict[str, float]]:
    if not node.value:
        return {}
    found: dict[str, dict[str, float]] = {}
    for name in node.mapping():
        part = node.child(name)
        (metric,) = _metrics(Node([name], part.path, part.source, part.line))
        if isinstance(part.value, Mapping):
            if directions:
                part.known(["mean", *directions])
            found[metric] = {key: part.child(key).number() for key in part.value}
        else:
            found[metric] = {"mean": part.number()}
    return found


def _check_space(node: Node, *, ranked: bool, fixed: Sequence[str]) -> None:
    """Check a search space; `ranked` says whether there is a similarity of its own to tune.

    Conditions name parameters before theirs, or those that are `fixed`.
    """
    before = [name for name in fixed if name not in node.mapping()]
    for name in node.mapping():
        part = node.child(name)
        if name.startswith("scorer__") and not ranked:
            raise part.error("needs the key 'similarity': the method has none of its own to tune")
        for other in _space(part).when or ():
            if other not in before:
                raise part.child("when").error(
                    f"must name parameters before it ({', '.join(before) or 'none'}), got {other!r}"
                )
        before.append(name)


def space_of(tune: Mapping[str, Any]) -> dict[str, Any]:
    """Return the search space that a checked ``tune`` mapping stands for."""
    node = Node(tune, "tune", "")
    return {name: _space(node.child(name)) for name in tune}


def _space(node: Node) -> Any:
    value = node.mapping()
    node.known(["int", "float", "choice", "log", "when", "each"])
    kinds = [kind for kind in ("int", "float", "choice") if kind in value]
    if len(kinds) != 1:
        raise node.error("must have one of the keys 'int', 'float' and 'choice'")
    (kind,) = kinds
    if kind == "choice" and "log" in value:
        raise node.child("log").error("is of numbers: 'choice' has none")
    when = node.child("when", None).optional(
        lambda n: {k: tuple(v) if isinstance(v, list) else v for k, v in n.mapping().items()}
    )
    inner = node.child(kind)
    part: Any
    if kind == "choice":
        named = {} if not isinstance(inner.value, Mapping) else plain(inner.mapping())
        options = [] if named else [plain(option.value) for option in inner.sequence()]
        if not named and not options:
            raise inner.error("must have at least one option")
        if "when" in named:
            raise inner.error("must not call an option 'when', which is the condition")
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


def _unique(node: Node, values: Sequence[Any], what: str) -> None:
    seen: set[Any] = set()
    for i, value in enumerate(values):
        if value in seen:
            at = node.child(i) if isinstance(node.value, Sequence) else node
            raise at.error(f"the {what} {value!r} is there twice")
        seen.add(value)


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "experiment"
