"""Cards: what a plugin declares about itself, cheap enough to list without importing it.

A card is a frozen dataclass of plain values. An entry point names a card, the card's
``target`` names the class or function behind it, and only asking for the target imports it.
This module imports nothing but the standard library.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
        _check_bounds(self)

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
        _check_bounds(self)

    def suggest(self, trial: Trial, name: str) -> int:
        """Ask `trial` for a value under `name`."""
        return trial.suggest_int(name, self.low, self.high, log=self.log)


@dataclass(frozen=True, init=False)
class Choice:
    """One of several values; see `Float` for ``when``."""

    options: tuple[Any, ...]
    when: Mapping[str, Any] | None = None

    def __init__(self, *options: Any, when: Mapping[str, Any] | None = None) -> None:
        if not options:
            raise ValueError("Choice needs at least one option")
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

    def suggest(self, trial: Trial, name: str) -> dict[str, Any]:
        """Ask `trial` for a value under each ``name.key``."""
        return {key: self.part.suggest(trial, f"{name}.{key}") for key in self.keys}


Space = Mapping[str, "Float | Int | Choice | Each"]


def _check_bounds(space: Float | Int) -> None:
    if not space.low <= space.high:
        raise ValueError(f"a search space needs low <= high, got {space.low} and {space.high}")
    if space.log and space.low <= 0:
        raise ValueError(f"a logarithmic search space needs low > 0, got {space.low}")


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
    """

    group: ClassVar[str] = ""
    api: int
    name: str
    target: str
    summary: str
    citation: str = ""
    year: int | None = None

    def __post_init__(self) -> None:
        if ":" not in self.target:
            raise ValueError(
                f"card {self.name!r}: target must read 'package.module:attribute', "
                f"got {self.target!r}"
            )


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
        Kinds of input: ``"pixels"``, ``"paths"``, ``"strings"``, ``"samples"`` (of sound).
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


@dataclass(frozen=True, kw_only=True)
class ExperimentCard(Card):
    """The card of a shipped experiment: ``target`` is ``"package:path/inside/it.yaml"``."""

    group: ClassVar[str] = "crossfit.experiments"
    datasets: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()


GROUPS: dict[str, type[Card]] = {
    card.group: card for card in (MethodCard, ExtractorCard, DatasetCard, ExperimentCard)
}
