"""Cards: the metadata of plugins, which can be listed without importing the plugins.

A card is a frozen dataclass of plain values. An entry point names a card, and the ``target`` of the
card names a class or function, which is imported when it is first used. This module does not import
anything that is slow to import.
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
        raise ValueError(f"{where} must have the form 'package.module:function', got {shown(name)}")


@dataclass(frozen=True, kw_only=True)
class Card:
    """Base of all cards.

    Parameters
    ----------
    api : int
        Version of the card format, at present 1. A card of another version is listed as
        incompatible and cannot be loaded.
    name : str
        Name of the entry: lower-case letters, digits and hyphens.
    target : str
        Path of the class or function, ``"package.module:attribute"``.
    summary : str
        Summary for the listing, one line.
    citation : str, default=""
        BibTeX entry, or one line of text if there is none.
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
                f"card {shown(self.name)}: target must have the form 'package.module:attribute', "
                f"got {shown(self.target)}"
            )
        if self.api == API:  # other versions may have other fields
            self._check(f"card {shown(self.name)}: ")

    def _check(self, card: str) -> None:
        """Raise if a field of this kind of card is invalid."""


@dataclass(frozen=True, kw_only=True)
class MethodCard(Card):
    """The card of a retrieval method.

    Parameters
    ----------
    roles : tuple of str, default=("image", "text")
        The modalities of the method, in order. The first is X of ``fit(X, Y, y)``.
    extra_views : bool, default=False
        True if `fit` accepts more views than there are roles.
    missing_views : bool, default=False
        True if `fit` learns from rows that lack a view; if False, it rejects them.
    inputs : mapping of str to tuple of str, default={}
        Kinds of input that each role accepts: ``"vectors"``, ``"regions"``, ``"pixels"``,
        ``"tokens"``, ``"strings"``, ``"sequence"``, ``"channels"``.
    labels : {"none", "optional", "single", "multi"}, default="none"
        Labels in `fit`: never used, used if given, one class per row required, or one class per row
        or an indicator matrix required.
    kind : {"embedding", "pair"}, default="embedding"
        ``"embedding"`` methods map into a common space, ``"pair"`` methods only score pairs.
    search_space : mapping of str to Float, Int, Choice or Each, default={}
        Default search space for tuning.
    test_params : mapping of str to object, default={}
        Settings with which the conformance kit takes seconds.
    make_inputs : str, optional
        Path of a function ``(rng, n) -> (Views, y)``, ``"package.module:function"``. From a
        ``numpy.random.Generator`` it makes n pairs that share no item and have a correspondence
        that the method can learn. By default, the kit makes vectors, regions or sequences.
    """

    group: ClassVar[str] = "crossfit.methods"
    roles: tuple[str, ...] = ("image", "text")
    extra_views: bool = False
    missing_views: bool = False
    inputs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    labels: Literal["none", "optional", "single", "multi"] = "none"
    kind: Literal["embedding", "pair"] = "embedding"
    search_space: Space = field(default_factory=dict)
    test_params: Mapping[str, Any] = field(default_factory=dict)
    make_inputs: str | None = None

    def _check(self, card: str) -> None:
        check_names(f"{card}roles", self.roles)
        if len(self.roles) < 2:
            raise ValueError(f"{card}roles must have at least two names, got {shown(self.roles)}")
        check_type(f"{card}extra_views", self.extra_views, bool)
        check_type(f"{card}missing_views", self.missing_views, bool)
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
        """Draw parameters from the search space of the method.

        Parameters
        ----------
        trial : optuna.trial.Trial
            The trial.
        prefix : str, default=""
            Prefix of every name.
        fixed : mapping of str to object, optional
            Parameters that are set, not drawn: ``card.suggest(trial, fixed={"max_epochs": 4})``.

        Returns
        -------
        dict of str to object
            Arguments of ``set_params``.

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
        ``"image"``, ``"text"`` or ``"audio"``; ``"pairs"`` if it maps all views of pairs at once,
        from Views to Views.
    inputs : tuple of str, default=()
        Kinds of input: ``"pixels"``, ``"paths"``, ``"strings"``, ``"samples"`` (of sound),
        ``"sequence"``.
    outputs : tuple of str, default=("vectors",)
        Kinds of output: ``"vectors"``, ``"regions"``, ``"maps"``, ``"tokens"``.
    needs_fit : bool, default=False
        True if the extractor learns from training rows.
    weights : str, default=""
        Source of the trained weights, if there are any.
    licence : str, default=""
        Licence of the weights, as far as it is known.
    search_space : mapping of str to Float, Int, Choice or Each, default={}
        Default search space for tuning.
    test_params : mapping of str to object, default={}
        Settings with which the conformance kit takes seconds.
    make_inputs : str, optional
        Path of a function ``(rng, n) -> items``, ``"package.module:function"``, which makes n
        different items, or for ``"pairs"`` Views and labels. It is required for items that the kit
        cannot make.
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
    modalities : tuple of str, default=("image", "text")
        Names of the views.
    labels : {"none", "single", "multi"}, default="none"
        Kind of the labels.
    licence, url : str, default=""
        Licence of the data set, and the address at which it can be obtained.
    counts : mapping of str to int, default={}
        Official number of items of each split.
    splits : tuple of str, default=("official",)
        Names of the official ways to split the data set, values of ``split`` in
        `crossfit.datasets.load`; the first is the default.
    embedded : bool, default=False
        True if the data are part of the distribution.
    make_files : str, optional
        Path of a function ``(folder) -> None``, ``"package.module:function"``, which writes a few
        items in the official layout into an empty folder, so that the conformance kit can run the
        loader without the data. They are loaded with ``strict=False`` if the loader has that
        option.
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
    """The card of a shipped experiment, whose ``target`` is ``"package:path/inside/it.yaml"``.

    Parameters
    ----------
    datasets, methods : tuple of str, default=()
        Names of the data sets and methods of the experiment.
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
