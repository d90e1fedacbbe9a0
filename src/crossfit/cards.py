"""Cards: what a plugin declares about itself, cheap enough to list without importing it.

A card is a frozen dataclass of plain values. An entry point names a card, the card's
``target`` names the class or function behind it, and only asking for the target imports it.
This module imports nothing but the standard library.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Protocol

__all__ = [
    "API",
    "Card",
    "Choice",
    "DatasetCard",
    "Each",
    "ExperimentCard",
    "ExtractorCard",
    "Float",
    "Int",
    "MethodCard",
    "suggest",
]

API = 1
"""The version of the card format that this crossfit reads."""

_METHOD_INPUTS = ("vectors", "regions", "pixels", "tokens", "strings", "sequence", "channels")
_EXTRACTOR_INPUTS = ("pixels", "paths", "strings", "samples", "sequence")
_EXTRACTOR_OUTPUTS = ("vectors", "regions", "maps", "tokens")


class Trial(Protocol):
    """The part of ``optuna.trial.Trial`` that a search space uses."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Suggest a real number."""
        ...

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        """Suggest a whole number."""
        ...

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """Suggest one of the choices."""
        ...


@dataclass(frozen=True)
class Float:
    """A real-valued parameter between ``low`` and ``high``.

    Parameters
    ----------
    low, high : float
        Bounds, both included.
    log : bool
        Search on a logarithmic scale.
    when : mapping of str to object, optional
        Ask for this parameter only if the parameters named have these values
        (or one of a tuple of values), for instance ``when={"kernel": ("rbf", "poly")}``.
    """

    low: float
    high: float
    log: bool = False
    when: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        _check_bounds(self, Real, "numbers")

    def suggest(self, trial: Trial, name: str) -> float:
        """Ask `trial` for a value under `name`."""
        return trial.suggest_float(name, self.low, self.high, log=self.log)


@dataclass(frozen=True)
class Int:
    """A whole-number parameter between ``low`` and ``high``; see `Float`."""

    low: int
    high: int
    log: bool = False
    when: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        _check_bounds(self, Integral, "whole numbers")

    def suggest(self, trial: Trial, name: str) -> int:
        """Ask `trial` for a value under `name`."""
        return trial.suggest_int(name, self.low, self.high, log=self.log)


@dataclass(frozen=True, init=False)
class Choice:
    """One of several values, given one by one: ``Choice("a", "b")``; see `Float` for ``when``."""

    options: tuple[Any, ...]
    when: Mapping[str, Any] | None = None

    def __init__(self, *options: Any, when: Mapping[str, Any] | None = None) -> None:
        if not options:
            raise ValueError("Choice needs at least one option")
        if len(options) == 1 and isinstance(options[0], (list, tuple, set, dict)):
            raise ValueError(
                "Choice takes its options one by one, as in Choice('a', 'b'), "
                f"got the single option {options[0]!r}"
            )
        _check_when("Choice", when)
        object.__setattr__(self, "options", options)
        object.__setattr__(self, "when", when)

    def suggest(self, trial: Trial, name: str) -> Any:
        """Ask `trial` for a value under `name`."""
        return trial.suggest_categorical(name, list(self.options))


@dataclass(frozen=True)
class Each:
    """A parameter that takes a mapping, with one value for each key: one for every view, say.

    Parameters
    ----------
    keys : tuple of str
        The keys of the mapping.
    part : Float, Int or Choice
        The space of every value. The trial sees ``name.key``.
    """

    keys: tuple[str, ...]
    part: Float | Int | Choice
    when: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        _check_names("Each: keys", self.keys)
        if not isinstance(self.part, (Float, Int, Choice)):
            raise TypeError(f"Each: part must be a Float, Int or Choice, got {self.part!r}")
        if self.part.when not in (None, self.when):
            raise ValueError("Each: when= belongs to Each itself, not to its part")
        _check_when("Each", self.when)

    def suggest(self, trial: Trial, name: str) -> dict[str, Any]:
        """Ask `trial` for a value under each ``name.key``."""
        return {key: self.part.suggest(trial, f"{name}.{key}") for key in self.keys}


Space = Mapping[str, "Float | Int | Choice | Each"]


# ---- checks: one sentence with what is allowed and what came -------------------------------------


def _check_bounds(space: Float | Int, number: type, words: str) -> None:
    name, given = type(space).__name__, f"{space.low!r} and {space.high!r}"
    for bound in (space.low, space.high):
        if not isinstance(bound, number) or isinstance(bound, bool):
            raise TypeError(f"{name}: low and high must be {words}, got {given}")
        if not math.isfinite(bound):
            raise ValueError(f"{name}: low and high must be finite, got {given}")
    if not space.low <= space.high:
        raise ValueError(f"a search space needs low <= high, got {given}")
    _check_type(f"{name}: log", space.log, bool)
    if space.log and space.low <= 0:
        raise ValueError(f"a logarithmic search space needs low > 0, got {space.low}")
    _check_when(name, space.when)


def _check_when(owner: str, when: Any) -> None:
    if when is not None:
        _check_type(f"{owner}: when", when, Mapping)


def _check_type(where: str, value: Any, wanted: type) -> None:
    # True is an int to Python, and a mistake where a number is meant.
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        kind = {str: "a string", int: "a whole number", bool: "True or False"}.get(
            wanted, f"a {wanted.__name__.lower()}"
        )
        raise TypeError(f"{where} must be {kind}, got {value!r}")


def _check_names(where: str, names: Any, allowed: Iterable[str] = ()) -> None:
    if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
        hint = f" (for one, write ({names!r},))" if isinstance(names, str) else ""
        raise TypeError(f"{where} must be a tuple of strings, got {names!r}{hint}")
    if len(set(names)) < len(names):
        raise ValueError(f"{where} must differ from each other, got {names!r}")
    if allowed:
        for name in names:
            _check_one(where, name, allowed)


def _check_one(where: str, value: Any, allowed: Iterable[str]) -> None:
    allowed = tuple(allowed)
    if value not in allowed:
        raise ValueError(
            f"{where} must be among {', '.join(allowed)}, got {value!r}"
            + did_you_mean(value, allowed)
        )


def did_you_mean(name: Any, known: Iterable[str]) -> str:
    """Return ``": did you mean 'x'?"`` with the known names close to one, "" without any."""
    import difflib

    near = difflib.get_close_matches(str(name), list(known), 3)
    return f": did you mean {' or '.join(map(repr, near))}?" if near else ""


def _check_space(where: str, space: Any) -> None:
    _check_type(where, space, Mapping)
    before: list[str] = []
    for name, part in space.items():
        if not isinstance(part, (Float, Int, Choice, Each)):
            raise TypeError(f"{where}: {name!r} must be a Float, Int, Choice or Each, got {part!r}")
        for other in part.when or ():
            if other not in before:
                raise ValueError(
                    f"{where}: when= of {name!r} must name parameters before it, got {other!r}"
                    + did_you_mean(other, before)
                )
        before.append(name)


def suggest(space: Space, trial: Trial, prefix: str = "") -> dict[str, Any]:
    """Draw one value for every parameter of a search space from an Optuna trial.

    Parameters
    ----------
    space : mapping of str to Float, Int or Choice
        Parameters in order; a ``when=`` may refer to parameters named before it.
    trial : optuna.trial.Trial
        Any trial, of any storage.
    prefix : str
        Put before every name, both in the study and in the result (``"acln__"``), so that the
        result can be handed to ``set_params`` of a pipeline.

    Returns
    -------
    dict of str to object
        Only the parameters whose condition holds.
    """
    drawn: dict[str, Any] = {}
    for name, part in space.items():
        if part.when is not None and not all(
            _matches(drawn.get(other, _ABSENT), wanted) for other, wanted in part.when.items()
        ):
            continue
        drawn[name] = part.suggest(trial, prefix + name)
    return {prefix + name: value for name, value in drawn.items()}


_ABSENT = object()


def _matches(value: Any, wanted: Any) -> bool:
    return value in wanted if isinstance(wanted, tuple) else bool(value == wanted)


@dataclass(frozen=True, kw_only=True)
class Card:
    """What every card has.

    Parameters
    ----------
    api : int
        Version of the card format, 1 today. A card of another version is listed as
        incompatible and not loaded.
    name : str
        The name people type: lower case, letters, digits and hyphens.
    target : str
        Where the thing is, as ``"package.module:attribute"``.
    summary : str
        One line for the listing.
    citation : str
        BibTeX, or one plain line where there is no entry.
    year : int, optional
        Year of publication.

    Raises
    ------
    TypeError, ValueError
        If a field has a value that it cannot have; the message says which it can have.
    """

    group: ClassVar[str] = ""
    api: int
    name: str
    target: str
    summary: str
    citation: str = ""
    year: int | None = None

    def __post_init__(self) -> None:
        _check_type(f"card {self.name!r}: api", self.api, int)
        for name in ("name", "target", "summary", "citation"):
            _check_type(f"card {self.name!r}: {name}", getattr(self, name), str)
        if self.year is not None:
            _check_type(f"card {self.name!r}: year", self.year, int)
        if ":" not in self.target:
            raise ValueError(
                f"card {self.name!r}: target must read 'package.module:attribute', "
                f"got {self.target!r}"
            )
        if self.api == API:  # of another version we cannot tell
            self._check(f"card {self.name!r}: ")

    def _check(self, card: str) -> None:
        """Raise if a field of this kind of card has a value that it cannot have."""


@dataclass(frozen=True, kw_only=True)
class MethodCard(Card):
    """The card of a retrieval method.

    Parameters
    ----------
    roles : tuple of str
        The modalities the method is written for, in order. The first is X of ``fit(X, Y, y)``.
    extra_views : bool
        Whether `fit` takes more views than there are roles.
    inputs : mapping of str to tuple of str
        Role to the kinds of input it takes: ``"vectors"``, ``"regions"``, ``"pixels"``,
        ``"tokens"``, ``"strings"``, ``"sequence"``, ``"channels"``.
    labels : {"none", "optional", "single", "multi"}
        Whether `fit` needs labels: never used, used when given, one class a row, or an
        indicator matrix as well.
    kind : {"embedding", "pair"}
        ``"embedding"`` methods map into a common space, ``"pair"`` methods only score pairs.
    search_space : mapping of str to Float, Int or Choice
        Default search space for tuning.
    test_params : mapping of str to object
        Small settings under which the conformance kit runs in seconds.
    make_inputs : str, optional
        ``"package.module:function"`` with signature ``(rng, n) -> (Views, y)``, rng a
        ``numpy.random.Generator``, which plants a correspondence that the method can learn, in
        n pairs that share no item. By default the kit makes vectors, regions or sequences.
    """

    group: ClassVar[str] = "crossfit.methods"
    roles: tuple[str, ...] = ("image", "text")
    extra_views: bool = False
    inputs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    labels: Literal["none", "optional", "single", "multi"] = "none"
    kind: Literal["embedding", "pair"] = "embedding"
    search_space: Space = field(default_factory=dict)
    test_params: Mapping[str, Any] = field(default_factory=dict)
    make_inputs: str | None = None

    def _check(self, card: str) -> None:
        _check_names(f"{card}roles", self.roles)
        if len(self.roles) < 2:
            raise ValueError(f"{card}roles must be two or more, got {self.roles!r}")
        _check_type(f"{card}extra_views", self.extra_views, bool)
        _check_type(f"{card}inputs", self.inputs, Mapping)
        for role, kinds in self.inputs.items():
            _check_one(f"{card}the keys of inputs", role, self.roles)
            _check_names(f"{card}inputs of {role!r}", kinds, _METHOD_INPUTS)
        _check_one(f"{card}labels", self.labels, ("none", "optional", "single", "multi"))
        _check_one(f"{card}kind", self.kind, ("embedding", "pair"))
        _check_space(f"{card}search_space", self.search_space)
        _check_type(f"{card}test_params", self.test_params, Mapping)
        if self.make_inputs is not None and ":" not in str(self.make_inputs):
            raise ValueError(
                f"{card}make_inputs must read 'package.module:function', got {self.make_inputs!r}"
            )

    def suggest(self, trial: Trial, prefix: str = "") -> dict[str, Any]:
        """Draw parameters from this method's search space; see `crossfit.cards.suggest`."""
        return suggest(self.search_space, trial, prefix)


@dataclass(frozen=True, kw_only=True)
class ExtractorCard(Card):
    """The card of a feature extractor.

    Parameters
    ----------
    modality : str
        ``"image"``, ``"text"`` or ``"audio"``.
    inputs : tuple of str
        Kinds of input: ``"pixels"``, ``"paths"``, ``"strings"``, ``"samples"`` (of sound),
        ``"sequence"``.
    outputs : tuple of str
        Kinds of output: ``"vectors"``, ``"regions"``, ``"maps"``, ``"tokens"``.
    needs_fit : bool
        Whether it learns from training rows.
    weights : str
        Where trained weights come from, if any.
    licence : str
        Licence of the weights, or what is known of it.
    test_params : mapping of str to object
        Small settings for tests.
    """

    group: ClassVar[str] = "crossfit.extractors"
    modality: str
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ("vectors",)
    needs_fit: bool = False
    weights: str = ""
    licence: str = ""
    search_space: Space = field(default_factory=dict)
    test_params: Mapping[str, Any] = field(default_factory=dict)

    def _check(self, card: str) -> None:
        for name in ("modality", "weights", "licence"):
            _check_type(f"{card}{name}", getattr(self, name), str)
        _check_names(f"{card}inputs", self.inputs, _EXTRACTOR_INPUTS)
        _check_names(f"{card}outputs", self.outputs, _EXTRACTOR_OUTPUTS)
        _check_type(f"{card}needs_fit", self.needs_fit, bool)
        _check_space(f"{card}search_space", self.search_space)
        _check_type(f"{card}test_params", self.test_params, Mapping)


@dataclass(frozen=True, kw_only=True)
class DatasetCard(Card):
    """The card of a data set.

    Parameters
    ----------
    modalities : tuple of str
        Names of the views.
    labels : {"none", "single", "multi"}
        Kind of labels.
    licence, url : str
        Terms, and where the data set is to be had.
    counts : mapping of str to int
        Official number of items by split.
    splits : tuple of str
        Official split names that ``load(..., split=...)`` takes; the first is the default.
    embedded : bool
        Whether the data come inside the distribution.
    """

    group: ClassVar[str] = "crossfit.datasets"
    modalities: tuple[str, ...] = ("image", "text")
    labels: Literal["none", "single", "multi"] = "none"
    licence: str = ""
    url: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    splits: tuple[str, ...] = ("official",)
    embedded: bool = False

    def _check(self, card: str) -> None:
        _check_names(f"{card}modalities", self.modalities)
        _check_one(f"{card}labels", self.labels, ("none", "single", "multi"))
        for name in ("licence", "url"):
            _check_type(f"{card}{name}", getattr(self, name), str)
        _check_type(f"{card}counts", self.counts, Mapping)
        _check_names(f"{card}splits", self.splits)
        _check_type(f"{card}embedded", self.embedded, bool)


@dataclass(frozen=True, kw_only=True)
class ExperimentCard(Card):
    """The card of a shipped experiment: ``target`` is ``"package:path/inside/it.yaml"``."""

    group: ClassVar[str] = "crossfit.experiments"
    datasets: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()

    def _check(self, card: str) -> None:
        _check_names(f"{card}datasets", self.datasets)
        _check_names(f"{card}methods", self.methods)


GROUPS: dict[str, type[Card]] = {
    card.group: card for card in (MethodCard, ExtractorCard, DatasetCard, ExperimentCard)
}
