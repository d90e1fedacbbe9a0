"""Cards: what a plugin declares about itself, cheap enough to list without importing it.

A card is a frozen dataclass of plain values. An entry point names a card, the card's
``target`` names the class or function behind it, and only asking for the target imports it.
This module imports nothing that is slow to import.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from crossfit._fields import check_names, check_one, check_type
from crossfit._text import shown
from crossfit.search_space import (
    Choice,
    Each,
    Float,
    Int,
    Space,
    Trial,
    check_space,
    suggest,
)

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


def _check_function(where: str, name: Any) -> None:
    if name is not None and (not isinstance(name, str) or ":" not in name):
        raise ValueError(f"{where} must read 'package.module:function', got {shown(name)}")


@dataclass(frozen=True, kw_only=True)
class Card:
    """Base of all cards.

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
        If a field is invalid; the message lists the valid values.
    """

    group: ClassVar[str] = ""
    api: int
    name: str
    target: str
    summary: str
    citation: str = ""
    year: int | None = None

    def __post_init__(self) -> None:
        check_type(f"card {shown(self.name)}: api", self.api, int)
        for name in ("name", "target", "summary", "citation"):
            check_type(f"card {shown(self.name)}: {name}", getattr(self, name), str)
        if self.year is not None:
            check_type(f"card {shown(self.name)}: year", self.year, int)
        if ":" not in self.target:
            raise ValueError(
                f"card {shown(self.name)}: target must read 'package.module:attribute', "
                f"got {shown(self.target)}"
            )
        if self.api == API:  # the fields of other versions are not known
            self._check(f"card {shown(self.name)}: ")

    def _check(self, card: str) -> None:
        """Raise if a field of this kind of card is invalid."""


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
        Whether `fit` needs labels: never used, used when given, one class per row, or an
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
        check_names(f"{card}roles", self.roles)
        if len(self.roles) < 2:
            raise ValueError(f"{card}roles must be two or more, got {shown(self.roles)}")
        check_type(f"{card}extra_views", self.extra_views, bool)
        check_type(f"{card}inputs", self.inputs, Mapping)
        for role, kinds in self.inputs.items():
            check_one(f"{card}the keys of inputs", role, self.roles)
            check_names(f"{card}inputs of {role!r}", kinds, _METHOD_INPUTS)
        check_one(f"{card}labels", self.labels, ("none", "optional", "single", "multi"))
        check_one(f"{card}kind", self.kind, ("embedding", "pair"))
        check_space(f"{card}search_space", self.search_space)
        check_type(f"{card}test_params", self.test_params, Mapping)
        _check_function(f"{card}make_inputs", self.make_inputs)

    def suggest(
        self, trial: Trial, prefix: str = "", *, fixed: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Draw parameters from this method's search space.

        Parameters
        ----------
        trial : optuna.trial.Trial
            Any trial, of any storage.
        prefix : str, default=""
            Put before every name.
        fixed : mapping of str to object, optional
            Parameters that are set and not drawn: ``card.suggest(trial, fixed={"max_epochs": 4})``.

        Returns
        -------
        dict of str to object
            Parameters, as ``set_params`` takes them.

        See Also
        --------
        crossfit.cards.suggest : The same for any search space.
        """
        return suggest(self.search_space, trial, prefix, fixed=fixed)


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
    search_space : mapping of str to Float, Int or Choice
        Default search space for tuning.
    test_params : mapping of str to object
        Small settings under which the conformance kit runs in seconds.
    make_inputs : str, optional
        ``"package.module:function"`` with signature ``(rng, n) -> items``, n different items, for
        an extractor of what the kit cannot make by itself.
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
    make_inputs: str | None = None

    def _check(self, card: str) -> None:
        for name in ("modality", "weights", "licence"):
            check_type(f"{card}{name}", getattr(self, name), str)
        check_names(f"{card}inputs", self.inputs, _EXTRACTOR_INPUTS)
        check_names(f"{card}outputs", self.outputs, _EXTRACTOR_OUTPUTS)
        check_type(f"{card}needs_fit", self.needs_fit, bool)
        check_space(f"{card}search_space", self.search_space)
        check_type(f"{card}test_params", self.test_params, Mapping)
        _check_function(f"{card}make_inputs", self.make_inputs)


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
        Terms, and where to obtain the data set.
    counts : mapping of str to int
        Official number of items by split.
    splits : tuple of str
        Official split names that ``load(..., split=...)`` takes; the first is the default.
    embedded : bool
        Whether the data come inside the distribution.
    make_files : str, optional
        ``"package.module:function"`` with signature ``(folder) -> None``, which writes a few items
        in the official layout into an empty folder, so that the conformance kit can try the
        loader without the data. Loaded with ``strict=False`` where the loader takes that.
    """

    group: ClassVar[str] = "crossfit.datasets"
    modalities: tuple[str, ...] = ("image", "text")
    labels: Literal["none", "single", "multi"] = "none"
    licence: str = ""
    url: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    splits: tuple[str, ...] = ("official",)
    embedded: bool = False
    make_files: str | None = None

    def _check(self, card: str) -> None:
        check_names(f"{card}modalities", self.modalities)
        check_one(f"{card}labels", self.labels, ("none", "single", "multi"))
        for name in ("licence", "url"):
            check_type(f"{card}{name}", getattr(self, name), str)
        check_type(f"{card}counts", self.counts, Mapping)
        check_names(f"{card}splits", self.splits)
        check_type(f"{card}embedded", self.embedded, bool)
        _check_function(f"{card}make_files", self.make_files)


@dataclass(frozen=True, kw_only=True)
class ExperimentCard(Card):
    """The card of a shipped experiment: ``target`` is ``"package:path/inside/it.yaml"``.

    Parameters
    ----------
    datasets, methods : tuple of str, default=()
        Names of the data sets and methods that it runs.
    """

    group: ClassVar[str] = "crossfit.experiments"
    datasets: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()

    def _check(self, card: str) -> None:
        check_names(f"{card}datasets", self.datasets)
        check_names(f"{card}methods", self.methods)


GROUPS: dict[str, type[Card]] = {
    card.group: card for card in (MethodCard, ExtractorCard, DatasetCard, ExperimentCard)
}
