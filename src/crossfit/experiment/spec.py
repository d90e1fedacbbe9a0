"""The experiment: data sets, features, methods, seeds, metrics and tuning, validated.

Errors are reported with the file, line and key.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from crossfit import registry
from crossfit.cards import ExperimentCard
from crossfit.experiment._yaml import Node, change, plain, read_yaml
from crossfit.experiment.spec_parts import (
    RELEVANCE,
    TIES,
    check_unique,
    directions_between,
    read_datasets,
    read_features,
    read_methods,
    read_metrics,
    read_published_only,
    read_seeds,
    read_splits,
    read_tuning,
    written_tuning,
)

__all__ = ["Experiment", "change"]


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
        ``{"channels": {...}}``. Views that are not named stay as they are. ``"*"`` in place of a
        view is a transformer of all views at once, which comes first.
    splits : mapping
        Names of the splits used as ``train``, ``validation`` and ``test``.
    seeds : sequence of int, default=(0,)
        Random seeds. A method that does not depend on a seed runs once.
    metrics : sequence of str, default=("map@all",)
        Metrics; the first is the main one.
    relevance : {"auto", "pair", "label"}, default="auto"
        With ``"auto"``, recall and ranks are by pair; precision and gain are by label if there are
        labels.
    ties : {"expected", "stable", "worst", "best"}, default="expected"
        How equal scores are ranked.
    tuning : mapping, optional
        ``trials``, ``folds`` or ``validation: true``, ``metric``, ``timeout`` in seconds,
        ``sampler``, ``pruner``, ``seed``, ``storage``, ``refit_epochs``, ``against`` (costs),
        ``defaults`` (whether the method's own settings are the first trial, by default true).
    baseline : str, optional
        Label of the method that others are compared with; the best by default.
    reduced : bool, default=False
        Whether data or models are smaller than the published ones; the title must then contain
        the word "reduced".
    description, notes : str
        Markdown that the report prints before and after its tables: what is compared on which
        data, and how to read the figures.
    comparisons : sequence of (str, str)
        Pairs of labels whose difference the report tests, corrected for their number; the first
        is expected to be the better one.
    published_only : sequence of mappings
        Rows of a published table that are not computed: ``{"label": ..., "published": {...},
        "note": ...}``. Reports show them next to the methods.
    name : str
        Name of the run in the store; derived from the title by default.

    Raises
    ------
    SpecError
        If a value is invalid; the message names the key.

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
    description: str = ""
    notes: str = ""
    comparisons: Any = ()
    published_only: Any = ()
    name: str = ""

    def __post_init__(self) -> None:
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        self._take(Node(given, "", ""))

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any], source: str = "") -> Experiment:
        """Build an experiment from a mapping, which may carry line numbers of its file.

        Parameters
        ----------
        mapping : mapping
            The fields of the class. Keys that begin with ``x-`` are ignored and may hold anchors.
        source : str, default=""
            Name of the file, for messages.

        Returns
        -------
        Experiment
            The experiment, validated.

        Raises
        ------
        SpecError
            If a key is unknown or missing, or a value is invalid.
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
            Data set to use if the file does not name one.
        **replaced
            Fields to replace as a whole.

        Returns
        -------
        Experiment
            The experiment, validated.

        Raises
        ------
        SpecError
            If the file is not valid.
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

        Parameters
        ----------
        name : str
            Path of a YAML file, or the registered name of an experiment.
        settings : sequence of str
            Changes, ``"key=value"``; see `change`.
        own : str, optional
            Data set to use if the file does not name one.
        **replaced
            Fields to replace as a whole.

        Returns
        -------
        Experiment
            The experiment, validated.

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
        """Return the experiment as plain values, including all defaults."""
        return {
            "title": self.title,
            "name": self.name,
            "reduced": self.reduced,
            "description": self.description,
            "notes": self.notes,
            "comparisons": [list(pair) for pair in self.comparisons],
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
            "tuning": written_tuning(self.tuning),
            "baseline": self.baseline,
            "methods": [one.to_dict() for one in self.methods],
            "published_only": [asdict(one) for one in self.published_only],
        }

    # ---- validation

    def _take(self, node: Node) -> None:
        """Check the fields and replace them by their validated forms."""

        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        title = node.child("title")
        put("title", title.text())
        put("reduced", node.child("reduced", False).boolean())
        for key in ("description", "notes"):
            put(key, node.child(key, "").text(empty=True))
        if self.reduced and "reduced" not in self.title.lower():
            raise title.error("the title of a reduced experiment must contain the word 'reduced'")
        name = node.child("name", "").text(empty=True) or _slug(self.title)
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
            raise node.child("name").error(
                f"must be made of letters, digits, hyphens, dots and underscores, got {name!r}"
            )
        put("name", name)
        put("datasets", read_datasets(node))
        put("dataset", None)
        put("splits", read_splits(node.child("splits", None)))
        put("features", read_features(node.child("features", None)))
        put("seeds", read_seeds(node.child("seeds", (0,))))
        put("metrics", read_metrics(node.child("metrics", ("map@all",))))
        put("relevance", node.child("relevance", "auto").one_of(RELEVANCE))
        put("ties", node.child("ties", "expected").one_of(TIES))
        put("tuning", read_tuning(node.child("tuning", None)))
        directions = directions_between(self.datasets)
        put("methods", read_methods(node.child("methods", ()), self.tuning, directions))
        only = node.child("published_only", ())
        put("published_only", read_published_only(only, directions))
        if self.tuning is not None and not any(method.tuning for method in self.methods):
            raise node.child("tuning").error("has no effect: no method has the key 'tune'")
        check_unique(node.child("methods"), [method.label for method in self.methods], "label")
        put("baseline", node.child("baseline", None).optional(Node.text))
        labels = [method.label for method in self.methods]
        for i, row in enumerate(self.published_only):
            if row.label in [*labels, *(other.label for other in self.published_only[:i])]:
                raise only.child(i).error(f"the label {row.label!r} occurs twice")
        if self.baseline is not None and self.baseline not in labels:
            raise node.child("baseline").error(
                f"must be the label of a method ({', '.join(labels)}), got {self.baseline!r}"
            )
        put("comparisons", _comparisons(node.child("comparisons", ()), labels))


def _comparisons(node: Node, labels: Sequence[str]) -> tuple[tuple[str, str], ...]:
    found = []
    for pair in node.sequence():
        parts = [part.one_of(labels) for part in pair.sequence()]
        if len(set(parts)) != 2:
            raise pair.error(f"must be the labels of two methods, got {', '.join(parts)}")
        found.append((parts[0], parts[1]))
    return tuple(found)


def shipped_file(card: ExperimentCard) -> Path:
    """Return the file that an experiment's card names.

    Raises
    ------
    FileNotFoundError
        If the distribution does not contain it.
    """
    package, _, inside = card.target.partition(":")
    found = importlib.util.find_spec(package)
    places = [Path(place) for place in (found and found.submodule_search_locations) or ()]
    # Also look in the checkout of an editable install, whose files are copied into the package only
    # when it is built, and in the place to which they are copied.
    outer = [place.parents[1] for place in places if len(place.parents) > 1]
    installed = [Path(folder) / package.replace(".", "/") for folder in sys.path if folder]
    for place in (*places, *outer, *installed):
        if (place / inside).is_file():
            return place / inside
    raise FileNotFoundError(f"the experiment {card.name!r} has no file {card.target!r}")


def _slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "experiment"
