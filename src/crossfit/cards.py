"""Cards: what a plugin declares about itself, cheap enough to list without importing it.

A card is a frozen dataclass of plain values. An entry point names a card, the card's
``target`` names the class or function behind it, and only asking for the target imports it.
This module imports nothing that is slow to import.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Protocol

from crossfit._text import shown

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
        Of a `Choice` with names it is the name that counts.
    """

    low: float
    high: float
    log: bool = False
    when: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        _check_bounds(self, Real, "numbers")

    def suggest(self, trial: Trial, name: str) -> float:
        """Ask `trial` for a value under `name`."""
        _check_asked(trial, name)
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def _offers(self, value: Any) -> bool:
        return isinstance(value, Real) and bool(self.low <= value <= self.high)  # type: ignore[operator]

    def _seen(self, value: Any) -> Any:
        """Return what a condition compares with."""
        return value


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
        _check_asked(trial, name)
        return trial.suggest_int(name, self.low, self.high, log=self.log)

    def _offers(self, value: Any) -> bool:
        return isinstance(value, Real) and self.low <= value <= self.high and value == int(value)  # type: ignore[operator,call-overload,no-any-return]

    def _seen(self, value: Any) -> Any:
        return value


@dataclass(frozen=True, init=False, repr=False)
class Choice:
    """One of several values, given one by one: ``Choice("a", "b")``; see `Float` for ``when``.

    Options may have names, ``Choice(small=(64,), large=(512, 512))``. A study, its plots, queued
    trials and conditions then have the name, and the parameter gets the value. Without names a
    study has None, bools, numbers and strings as they are, and of all else what ``repr`` returns.

    Parameters
    ----------
    *options : object
        Values that differ from each other, estimators for instance.
    when : mapping of str to object, optional
        See `Float`.
    **named : object
        The options by name, in place of `options`.
    """

    options: tuple[Any, ...]
    when: Mapping[str, Any] | None = None
    names: tuple[str, ...] | None = None

    def __init__(
        self, /, *options: Any, when: Mapping[str, Any] | None = None, **named: Any
    ) -> None:
        if options and named:
            raise ValueError(
                "Choice: either all options have names or none has, got the names "
                f"{', '.join(named)} beside {len(options)} options without"
            )
        if not options and not named:
            raise ValueError("Choice needs at least one option")
        for field_name in ("options", "names"):
            if field_name in named:
                raise ValueError(
                    "Choice takes its options one by one, as in Choice('a', 'b') or "
                    f"Choice(small='a', large='b'), got {field_name}={shown(named[field_name])}"
                )
        if len(options) == 1 and isinstance(options[0], (list, tuple, set, dict)):
            raise ValueError(
                "Choice takes its options one by one, as in Choice('a', 'b'), "
                f"got the single option {shown(options[0])}"
            )
        _check_distinct(options or tuple(named.values()))
        _check_when("Choice", when)
        object.__setattr__(self, "options", options or tuple(named.values()))
        object.__setattr__(self, "when", when)
        if named:  # else the class's None: such a Choice hashes as it did before there were names
            object.__setattr__(self, "names", tuple(named))

    def __repr__(self) -> str:
        """Return it as it is written."""
        words = list(map(repr, self.options))
        if self.names is not None:
            words = [f"{name}={word}" for name, word in zip(self.names, words)]
        when = [] if self.when is None else [f"when={self.when!r}"]
        return f"Choice({', '.join(words + when)})"

    @property
    def recorded(self) -> tuple[Any, ...]:
        """What a study has for each option: its name, its plain value, or its ``repr``."""
        if self.names is not None:
            return self.names
        if self._plain:
            return self.options
        found: list[str] = []
        for option in self.options:
            # An address is another one in the next process, and scikit-learn shortens long texts.
            text = re.sub(r" at 0x[0-9a-fA-F]+", "", repr(option))
            n, own = 1, text
            while own in found:
                n += 1
                own = f"{text} ({n})"
            found.append(own)
        return tuple(found)

    @property
    def _plain(self) -> bool:
        """Whether Optuna keeps the options themselves, and tells them apart."""
        plain = (bool, int, float, str, type(None))
        kept = all(isinstance(option, plain) for option in self.options)
        return kept and len(set(self.options)) == len(self.options)  # True and 1 are the same

    def suggest(self, trial: Trial, name: str) -> Any:
        """Ask `trial` for one of the options, which it has as `recorded` under `name`."""
        _check_asked(trial, name)
        recorded = self.recorded
        drawn = trial.suggest_categorical(name, list(recorded))
        if self.names is None and self._plain:
            return drawn
        return self.options[recorded.index(drawn)]

    def _offers(self, value: Any) -> bool:
        return any(_equal(self._seen(option), value) for option in self.options)

    def _seen(self, value: Any) -> Any:
        if self.names is None:
            return value
        alike = zip(self.names, self.options)
        found = (n for n, one in alike if type(one) is type(value) and _equal(one, value))
        return next(found, value)


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
        if not self.keys:
            raise ValueError("Each needs at least one key")
        if not isinstance(self.part, (Float, Int, Choice)):
            raise TypeError(f"Each: part must be a Float, Int or Choice, got {shown(self.part)}")
        if self.part.when not in (None, self.when):
            raise ValueError("Each: when= belongs to Each itself, not to its part")
        _check_when("Each", self.when)

    def suggest(self, trial: Trial, name: str) -> dict[str, Any]:
        """Ask `trial` for a value under each ``name.key``."""
        return {key: self.part.suggest(trial, f"{name}.{key}") for key in self.keys}

    def _offers(self, value: Any) -> bool:
        return (
            isinstance(value, Mapping)
            and set(value) == set(self.keys)
            and all(self.part._offers(one) for one in value.values())
        )

    def _seen(self, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {key: self.part._seen(one) for key, one in value.items()}


Part = Float | Int | Choice | Each
Space = Mapping[str, "Float | Int | Choice | Each"]


# ---- checks: one sentence with what is allowed and what came -------------------------------------


def _check_bounds(space: Float | Int, number: type, words: str) -> None:
    name, given = type(space).__name__, f"{shown(space.low)} and {shown(space.high)}"
    for bound in (space.low, space.high):
        if not isinstance(bound, number) or isinstance(bound, bool):
            raise TypeError(f"{name}: low and high must be {words}, got {given}")
        if not _finite(bound):
            raise ValueError(f"{name}: low and high must be finite, got {given}")
    if not space.low <= space.high:
        raise ValueError(f"a search space needs low <= high, got {given}")
    if not _finite(space.high - space.low):
        raise ValueError(f"{name}: high - low must be finite, got {given}")
    _check_type(f"{name}: log", space.log, bool)
    if space.log and space.low <= 0:
        raise ValueError(f"a logarithmic search space needs low > 0, got {shown(space.low)}")
    _check_when(name, space.when)


def _finite(number: Any) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # a whole number that no float holds
        return False


def _check_when(owner: str, when: Any) -> None:
    if when is not None:
        _check_type(f"{owner}: when", when, Mapping)
        for other, wanted in when.items():
            _check_type(f"{owner}: the keys of when", other, str)
            if isinstance(wanted, tuple) and not wanted:
                raise ValueError(f"{owner}: when= can never hold: {other!r} is none of no values")


def _check_distinct(options: tuple[Any, ...]) -> None:
    seen: set[Any] = set()
    others: list[Any] = []
    for option in options:
        # NaN equals nothing, and is one value to Optuna.
        key = (type(option), "nan" if isinstance(option, float) and option != option else option)
        try:
            twice = key in seen
            seen.add(key)
        except TypeError:  # cannot be hashed
            twice = any(type(option) is type(other) and _equal(option, other) for other in others)
            others.append(option)
        if twice:
            raise ValueError(f"Choice: options must differ, got {shown(option)} twice")


def _check_asked(trial: Any, name: Any) -> None:
    if not hasattr(trial, "suggest_categorical"):
        raise TypeError(f"trial must be a trial of Optuna's, got {shown(trial)}")
    _check_type("the name of a parameter", name, str)


def _check_type(where: str, value: Any, wanted: type) -> None:
    # True is an int to Python, and a mistake where a number is meant.
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        kind = {str: "a string", int: "a whole number", bool: "True or False"}.get(
            wanted, f"a {wanted.__name__.lower()}"
        )
        raise TypeError(f"{where} must be {kind}, got {shown(value)}")


def _check_names(where: str, names: Any, allowed: Iterable[str] = ()) -> None:
    if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
        hint = f" (for one, write ({shown(names)},))" if isinstance(names, str) else ""
        raise TypeError(f"{where} must be a tuple of strings, got {shown(names)}{hint}")
    if len(set(names)) < len(names):
        raise ValueError(f"{where} must differ from each other, got {shown(names)}")
    if allowed:
        for name in names:
            _check_one(where, name, allowed)


def _check_one(where: str, value: Any, allowed: Iterable[str]) -> None:
    allowed = tuple(allowed)
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(
            f"{where} must be among {', '.join(allowed)}, got {shown(value)}"
            + did_you_mean(value, allowed)
        )


def did_you_mean(name: Any, known: Iterable[str]) -> str:
    """Return ``": did you mean 'x'?"`` with the known names close to one, "" without any."""
    import difflib

    near = difflib.get_close_matches(name, list(known), 3) if isinstance(name, str) else []
    return f": did you mean {' or '.join(map(repr, near))}?" if near else ""


def _check_function(where: str, name: Any) -> None:
    if name is not None and (not isinstance(name, str) or ":" not in name):
        raise ValueError(f"{where} must read 'package.module:function', got {shown(name)}")


def check_parts(where: str, space: Any) -> None:
    """Refuse what is not a mapping of names to parts of a search space."""
    _check_type(where, space, Mapping)
    for name, part in space.items():
        _check_type(f"{where}: the names", name, str)
        if not isinstance(part, (Float, Int, Choice, Each)):
            raise TypeError(
                f"{where}: {name!r} must be a Float, Int, Choice or Each, got {shown(part)}"
            )


def check_space(where: str, space: Any) -> None:
    """Refuse what is not a search space, and conditions that can never hold.

    Parameters
    ----------
    where : str
        What the message calls it.
    space : mapping of str to Float, Int, Choice or Each

    Raises
    ------
    TypeError, ValueError
        If it is not such a mapping, if a ``when=`` does not name a parameter before it, or if its
        conditions, with those of the parameters that they name, can never hold.
    """
    check_parts(where, space)
    # For every parameter what must hold for it to be drawn, its own conditions and inherited ones.
    needed: dict[str, dict[str, list[Any]]] = {}
    recorded: set[str] = set()
    for name, part in space.items():
        mine: dict[str, list[Any]] = {}
        for other, wanted in (part.when or {}).items():
            if other not in needed:
                raise ValueError(
                    f"{where}: when= of {name!r} must name parameters before it, got {shown(other)}"
                    + did_you_mean(other, needed)
                )
            for key, conditions in {**needed[other], other: [wanted]}.items():
                mine[key] = mine.get(key, []) + conditions
        for other, conditions in mine.items():
            values = conditions[0] if isinstance(conditions[0], tuple) else (conditions[0],)
            possible = (value for value in values if space[other]._offers(value))
            if not any(all(_matches(value, one) for one in conditions) for value in possible):
                wanted = " and ".join(map(shown, conditions))
                raise ValueError(
                    f"{where}: {name!r} is never searched: its condition needs {other!r} to be "
                    f"{wanted}, which {shown(space[other])} does not offer"
                )
        needed[name] = mine
        for key in [f"{name}.{key}" for key in part.keys] if isinstance(part, Each) else [name]:
            if key in recorded:
                raise ValueError(f"{where}: a study would have two parameters {key!r}")
            recorded.add(key)


def renamed(space: Space, name: Callable[[str], str]) -> dict[str, Part]:
    """Return a search space under other names, which its conditions follow."""
    return {
        name(key): with_condition(part, part.when and {name(k): v for k, v in part.when.items()})
        for key, part in space.items()
    }


def with_condition(part: Part, when: Mapping[str, Any] | None) -> Part:
    """Return a part of a search space with this condition in place of its own."""
    if not when and part.when is None:
        return part
    made = copy.copy(part)
    object.__setattr__(made, "when", when or None)
    if isinstance(made, Each) and made.part.when is not None:  # the same, said twice
        object.__setattr__(made, "part", with_condition(made.part, None))
    return made


def remaining(space: Space, fixed: Mapping[str, Any]) -> dict[str, Part]:
    """Return what is left of a search space where some parameters are set by hand.

    Parameters
    ----------
    space : mapping of str to Float, Int, Choice or Each
    fixed : mapping of str to object
        Parameters, of the space or others, with the values that they have.

    Returns
    -------
    dict of str to Float, Int, Choice or Each
        Without the parameters in `fixed` and those whose condition these values refute; a
        condition that they satisfy is gone.
    """
    left: dict[str, Part] = {}
    refuted: set[str] = set()
    for name, part in space.items():
        if name in fixed:
            continue
        when = dict(part.when or {})
        for other in [other for other in when if other in fixed]:
            value = space[other]._seen(fixed[other]) if other in space else fixed[other]
            if not _matches(value, when.pop(other)):
                refuted.add(name)
        if refuted & {name, *when}:
            refuted.add(name)
        else:
            left[name] = with_condition(part, when)
    return left


def suggest(
    space: Space, trial: Trial, prefix: str = "", *, fixed: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Draw one value for every parameter of a search space from an Optuna trial.

    Parameters
    ----------
    space : mapping of str to Float, Int, Choice or Each
        Parameters in order; a ``when=`` may refer to parameters named before it.
    trial : optuna.trial.Trial
        Any trial, of any storage. A finished one, ``study.best_trial``, gives its parameters again.
    prefix : str
        Put before every name, both in the study and in the result (``"acln__"``), so that the
        result can be handed to ``set_params`` of a pipeline.
    fixed : mapping of str to object, optional
        Parameters that are not drawn, with the values that they have. They are part of the result,
        and decide the conditions that name them.

    Returns
    -------
    dict of str to object
        Those of `fixed`, and of the others only those whose condition holds.

    Raises
    ------
    TypeError, ValueError
        If `space` is not one, if a condition in it can never hold, or if `trial` is not a trial.
    """
    _check_type("prefix", prefix, str)
    if not hasattr(trial, "suggest_categorical"):
        raise TypeError(f"trial must be a trial of Optuna's, got {shown(trial)}")
    fixed = {} if fixed is None else fixed
    _check_type("fixed", fixed, Mapping)
    check_parts("space", space)
    left = remaining(space, fixed)
    check_space("space", left)
    drawn: dict[str, Any] = {}
    seen: dict[str, Any] = {}
    for name, part in left.items():
        if all(
            _matches(seen.get(other, _ABSENT), wanted)
            for other, wanted in (part.when or {}).items()
        ):
            drawn[name] = part.suggest(trial, prefix + name)
            seen[name] = part._seen(drawn[name])
    return {prefix + name: value for name, value in {**fixed, **drawn}.items()}


_ABSENT = object()


def _matches(value: Any, wanted: Any) -> bool:
    return any(_equal(value, one) for one in (wanted if isinstance(wanted, tuple) else (wanted,)))


def _equal(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if {type(a), type(b)} == {list, tuple}:  # YAML has lists for tuples
        return tuple(a) == tuple(b)
    try:
        return bool(a == b)
    except Exception:  # arrays are not compared as a whole
        return False


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
        _check_type(f"card {shown(self.name)}: api", self.api, int)
        for name in ("name", "target", "summary", "citation"):
            _check_type(f"card {shown(self.name)}: {name}", getattr(self, name), str)
        if self.year is not None:
            _check_type(f"card {shown(self.name)}: year", self.year, int)
        if ":" not in self.target:
            raise ValueError(
                f"card {shown(self.name)}: target must read 'package.module:attribute', "
                f"got {shown(self.target)}"
            )
        if self.api == API:  # of another version we cannot tell
            self._check(f"card {shown(self.name)}: ")

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
        _check_names(f"{card}roles", self.roles)
        if len(self.roles) < 2:
            raise ValueError(f"{card}roles must be two or more, got {shown(self.roles)}")
        _check_type(f"{card}extra_views", self.extra_views, bool)
        _check_type(f"{card}inputs", self.inputs, Mapping)
        for role, kinds in self.inputs.items():
            _check_one(f"{card}the keys of inputs", role, self.roles)
            _check_names(f"{card}inputs of {role!r}", kinds, _METHOD_INPUTS)
        _check_one(f"{card}labels", self.labels, ("none", "optional", "single", "multi"))
        _check_one(f"{card}kind", self.kind, ("embedding", "pair"))
        check_space(f"{card}search_space", self.search_space)
        _check_type(f"{card}test_params", self.test_params, Mapping)
        _check_function(f"{card}make_inputs", self.make_inputs)

    def suggest(
        self, trial: Trial, prefix: str = "", *, fixed: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Draw parameters from this method's search space; see `crossfit.cards.suggest`.

        Parameters
        ----------
        trial : optuna.trial.Trial
        prefix : str
            Put before every name.
        fixed : mapping of str to object, optional
            Parameters that are set and not drawn: ``card.suggest(trial, fixed={"max_epochs": 4})``.
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
            _check_type(f"{card}{name}", getattr(self, name), str)
        _check_names(f"{card}inputs", self.inputs, _EXTRACTOR_INPUTS)
        _check_names(f"{card}outputs", self.outputs, _EXTRACTOR_OUTPUTS)
        _check_type(f"{card}needs_fit", self.needs_fit, bool)
        check_space(f"{card}search_space", self.search_space)
        _check_type(f"{card}test_params", self.test_params, Mapping)
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
        Terms, and where the data set is to be had.
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
        _check_names(f"{card}modalities", self.modalities)
        _check_one(f"{card}labels", self.labels, ("none", "single", "multi"))
        for name in ("licence", "url"):
            _check_type(f"{card}{name}", getattr(self, name), str)
        _check_type(f"{card}counts", self.counts, Mapping)
        _check_names(f"{card}splits", self.splits)
        _check_type(f"{card}embedded", self.embedded, bool)
        _check_function(f"{card}make_files", self.make_files)


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
