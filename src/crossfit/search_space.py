"""Search spaces: the values that tuning may give to parameters, described without Optuna.

Cards have a search space, `crossfit.model_selection.OptunaSearch` accepts one, and ``tune:`` of an
experiment is converted to one. This module does not import anything that is slow to import.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Protocol

from crossfit._fields import check_names, check_type
from crossfit._suggest import did_you_mean
from crossfit._text import shown

__all__ = [
    "Choice",
    "Each",
    "Float",
    "Int",
    "Part",
    "Space",
    "Trial",
    "check_parts",
    "check_space",
    "located",
    "remaining",
    "renamed",
    "size_of",
    "suggest",
    "with_condition",
]


class Trial(Protocol):
    """The part of ``optuna.trial.Trial`` that a search space uses."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Suggest a real number.

        Parameters
        ----------
        name : str
            Name of the parameter in the study.
        low, high : float
            Bounds, both included.
        step : float, optional
            Distance between values.
        log : bool, default=False
            Search on a logarithmic scale.

        Returns
        -------
        float
        """
        ...

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        """Suggest a whole number.

        Parameters
        ----------
        name : str
            Name of the parameter in the study.
        low, high : int
            Bounds, both included.
        step : int, default=1
            Distance between values.
        log : bool, default=False
            Search on a logarithmic scale.

        Returns
        -------
        int
        """
        ...

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """Suggest one of the choices.

        Parameters
        ----------
        name : str
            Name of the parameter in the study.
        choices : sequence
            Values that may be suggested.

        Returns
        -------
        object
        """
        ...


@dataclass(frozen=True)
class Float:
    """A real-valued parameter between ``low`` and ``high``.

    Parameters
    ----------
    low, high : float
        Bounds, both included.
    log : bool, default=False
        Search on a logarithmic scale.
    when : mapping of str to object, optional
        Condition: search this parameter only if other parameters have these values (or one of a
        tuple of values), for instance ``when={"kernel": ("rbf", "poly")}``. For a `Choice` with
        names, the values are names.

    Examples
    --------
    >>> from crossfit.cards import Float
    >>> Float(0.01, 100.0, log=True)
    Float(low=0.01, high=100.0, log=True, when=None)
    """

    low: float
    high: float
    log: bool = False
    when: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        _check_bounds(self, Real, "numbers")

    def suggest(self, trial: Trial, name: str) -> float:
        """Suggest a value with a trial, which records it under `name`.

        Parameters
        ----------
        trial : optuna.trial.Trial
            The trial.
        name : str
            Name of the parameter in the study.

        Returns
        -------
        float
        """
        _check_trial(trial, name)
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def _offers(self, value: Any) -> bool:
        return isinstance(value, Real) and bool(self.low <= value <= self.high)  # type: ignore[operator]

    def _seen(self, value: Any) -> Any:
        """Return the value that conditions compare with."""
        return value


@dataclass(frozen=True)
class Int:
    """A whole-number parameter between ``low`` and ``high``.

    Parameters
    ----------
    low, high : int
        Bounds, both included.
    log : bool, default=False
        Search on a logarithmic scale.
    when : mapping of str to object, optional
        See `Float`.

    Examples
    --------
    >>> Int(1, 8, log=True)
    Int(low=1, high=8, log=True, when=None)
    """

    low: int
    high: int
    log: bool = False
    when: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        _check_bounds(self, Integral, "whole numbers")

    def suggest(self, trial: Trial, name: str) -> int:
        """Suggest a value with a trial, which records it under `name`.

        Parameters
        ----------
        trial : optuna.trial.Trial
            The trial.
        name : str
            Name of the parameter in the study.

        Returns
        -------
        int
        """
        _check_trial(trial, name)
        return trial.suggest_int(name, self.low, self.high, log=self.log)

    def _offers(self, value: Any) -> bool:
        return isinstance(value, Real) and self.low <= value <= self.high and value == int(value)  # type: ignore[operator,call-overload,no-any-return]

    def _seen(self, value: Any) -> Any:
        return value


@dataclass(frozen=True, init=False, repr=False)
class Choice:
    """One of several values, which are separate arguments: ``Choice("a", "b")``.

    Options may have names, as in ``Choice(small=(64,), large=(512, 512))``. The study, its plots,
    queued trials and conditions then contain the names, and the parameter is set to the value.
    Without names, a study contains None, bools, numbers and strings unchanged, and the ``repr`` of
    other values.

    Parameters
    ----------
    *options : object
        Different values, for instance estimators.
    when : mapping of str to object, optional
        See `Float`.
    **named : object
        The options by name, instead of `options`.

    Raises
    ------
    ValueError
        If there are no options, if only some have names, or if two options are equal.

    Examples
    --------
    >>> from crossfit.cards import Choice
    >>> Choice("rbf", "linear")
    Choice('rbf', 'linear')
    >>> Choice(small=(64,), large=(512, 512)).recorded
    ('small', 'large')
    """

    options: tuple[Any, ...]
    when: Mapping[str, Any] | None = None
    names: tuple[str, ...] | None = None

    def __init__(
        self, /, *options: Any, when: Mapping[str, Any] | None = None, **named: Any
    ) -> None:
        if options and named:
            raise ValueError(
                "Choice: all options must have names, or none of them; got the names "
                f"{', '.join(named)} and {len(options)} options without a name"
            )
        if not options and not named:
            raise ValueError("Choice: at least one option is required, as in Choice('a', 'b')")
        for field_name in ("options", "names"):
            if field_name in named:
                raise ValueError(
                    "Choice: options must be separate arguments, as in Choice('a', 'b') or "
                    f"Choice(small='a', large='b'), got {field_name}={shown(named[field_name])}"
                )
        if len(options) == 1 and isinstance(options[0], (list, tuple, set, dict)):
            raise ValueError(
                "Choice: options must be separate arguments, as in Choice('a', 'b'), "
                f"got the single option {shown(options[0])}"
            )
        _check_distinct(options or tuple(named.values()))
        _check_when("Choice", when)
        object.__setattr__(self, "options", options or tuple(named.values()))
        object.__setattr__(self, "when", when)
        if named:  # otherwise the default of the class, which keeps the hash of earlier versions
            object.__setattr__(self, "names", tuple(named))

    def __repr__(self) -> str:
        """Return the expression that makes an equal object."""
        words = list(map(repr, self.options))
        if self.names is not None:
            words = [f"{name}={word}" for name, word in zip(self.names, words)]
        when = [] if self.when is None else [f"when={self.when!r}"]
        return f"Choice({', '.join(words + when)})"

    @property
    def recorded(self) -> tuple[Any, ...]:
        """The value that a study records for each option: its name, plain value or ``repr``."""
        if self.names is not None:
            return self.names
        if self._plain:
            return self.options
        found: list[str] = []
        for option in self.options:
            # Addresses differ between processes, and scikit-learn shortens long representations,
            # so that different options may have the same text.
            text = re.sub(r" at 0x[0-9a-fA-F]+", "", repr(option))
            n, own = 1, text
            while own in found:
                n += 1
                own = f"{text} ({n})"
            found.append(own)
        return tuple(found)

    @property
    def _plain(self) -> bool:
        """True if Optuna can store the options themselves, and considers them different."""
        plain = (bool, int, float, str, type(None))
        kept = all(isinstance(option, plain) for option in self.options)
        return kept and len(set(self.options)) == len(self.options)  # True equals 1

    def suggest(self, trial: Trial, name: str) -> Any:
        """Suggest one of the options with a trial, which records it under `name`; see `recorded`.

        Parameters
        ----------
        trial : optuna.trial.Trial
            The trial.
        name : str
            Name of the parameter in the study.

        Returns
        -------
        object
        """
        _check_trial(trial, name)
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
    """A parameter whose value is a mapping, for instance with one number per view.

    Parameters
    ----------
    keys : tuple of str
        The keys of the mapping.
    part : Float, Int or Choice
        Search space of each value. A trial records the values under ``name.key``.
    when : mapping of str to object, optional
        See `Float`.

    Examples
    --------
    >>> from crossfit.cards import Each, Float
    >>> Each(("image", "text"), Float(0.1, 10.0, log=True)).keys
    ('image', 'text')
    """

    keys: tuple[str, ...]
    part: Float | Int | Choice
    when: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        check_names("Each: keys", self.keys)
        if not self.keys:
            raise ValueError("Each: keys must not be empty")
        if not isinstance(self.part, (Float, Int, Choice)):
            raise TypeError(f"Each: part must be a Float, Int or Choice, got {shown(self.part)}")
        if self.part.when not in (None, self.when):
            raise ValueError("Each: the part must not have a when=; pass when= to Each instead")
        _check_when("Each", self.when)

    def suggest(self, trial: Trial, name: str) -> dict[str, Any]:
        """Suggest a value for each key with a trial, which records it under ``name.key``.

        Parameters
        ----------
        trial : optuna.trial.Trial
            The trial.
        name : str
            Name of the parameter in the study.

        Returns
        -------
        dict of str to object
        """
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


# ---- checks --------------------------------------------------------------------------------------


def _check_bounds(space: Float | Int, number: type, words: str) -> None:
    name, given = type(space).__name__, f"{shown(space.low)} and {shown(space.high)}"
    for bound in (space.low, space.high):
        if not isinstance(bound, number) or isinstance(bound, bool):
            raise TypeError(f"{name}: low and high must be {words}, got {given}")
        if not _finite(bound):
            raise ValueError(f"{name}: low and high must be finite, got {given}")
    if not space.low <= space.high:
        raise ValueError(f"{name}: low must not be greater than high, got {given}")
    if not _finite(space.high - space.low):
        raise ValueError(f"{name}: high - low must be finite, got {given}")
    check_type(f"{name}: log", space.log, bool)
    if space.log and space.low <= 0:
        raise ValueError(f"{name}: low must be positive if log=True, got {shown(space.low)}")
    _check_when(name, space.when)


def _finite(number: Any) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an integer beyond the range of floats
        return False


def _check_when(owner: str, when: Any) -> None:
    if when is not None:
        check_type(f"{owner}: when", when, Mapping)
        for other, values in when.items():
            check_type(f"{owner}: the keys of when", other, str)
            if isinstance(values, tuple) and not values:
                raise ValueError(
                    f"{owner}: when= must have at least one value of {other!r}, got ()"
                )


def _check_distinct(options: tuple[Any, ...]) -> None:
    seen: set[Any] = set()
    others: list[Any] = []
    for option in options:
        # NaN does not equal itself, but Optuna treats it as one value.
        key = (type(option), "nan" if isinstance(option, float) and option != option else option)
        try:
            twice = key in seen
            seen.add(key)
        except TypeError:  # the option is not hashable
            twice = any(type(option) is type(other) and _equal(option, other) for other in others)
            others.append(option)
        if twice:
            raise ValueError(f"Choice: options must differ, got {shown(option)} twice")


def _check_trial(trial: Any, name: Any) -> None:
    if not hasattr(trial, "suggest_categorical"):
        raise TypeError(f"trial must be an Optuna trial, got {shown(trial)}")
    check_type("the name of a parameter", name, str)


def check_parts(where: str, space: Any) -> None:
    """Check that a search space is a mapping of str to Float, Int, Choice or Each.

    Parameters
    ----------
    where : str
        Name of the search space in messages.
    space : object
        The search space.

    Raises
    ------
    TypeError
        If it is not such a mapping.
    """
    check_type(where, space, Mapping)
    for name, part in space.items():
        check_type(f"{where}: the names", name, str)
        if not isinstance(part, (Float, Int, Choice, Each)):
            raise TypeError(
                f"{where}: {name!r} must be a Float, Int, Choice or Each, got {shown(part)}"
            )


def check_space(where: str, space: Any) -> None:
    """Check that a search space is valid, and that its conditions can hold.

    Parameters
    ----------
    where : str
        Name of the search space in messages.
    space : object
        The search space, a mapping of str to Float, Int, Choice or Each.

    Raises
    ------
    TypeError, ValueError
        If it is not such a mapping, if a ``when=`` names a parameter that does not precede its own,
        or if the conditions of a parameter, with those of the parameters that they name, can never
        hold.
    """
    check_parts(where, space)
    # The conditions under which each parameter is drawn: its own, and those that it inherits.
    needed: dict[str, dict[str, list[Any]]] = {}
    recorded: set[str] = set()
    for name, part in space.items():
        mine: dict[str, list[Any]] = {}
        for other, wanted in (part.when or {}).items():
            if other not in needed:
                raise ValueError(
                    f"{where}: when= of {name!r} must name parameters that precede it, got "
                    f"{shown(other)}" + did_you_mean(other, needed)
                )
            for key, conditions in {**needed[other], other: [wanted]}.items():
                mine[key] = mine.get(key, []) + conditions
        for other, conditions in mine.items():
            values = conditions[0] if isinstance(conditions[0], tuple) else (conditions[0],)
            possible = (value for value in values if space[other]._offers(value))
            if not any(all(_matches(value, one) for one in conditions) for value in possible):
                wanted = " and ".join(map(shown, conditions))
                raise ValueError(
                    f"{where}: {name!r} is never searched, because its condition requires "
                    f"{other!r} to be {wanted}, which is not in {shown(space[other])}"
                )
        needed[name] = mine
        for key in [f"{name}.{key}" for key in part.keys] if isinstance(part, Each) else [name]:
            if key in recorded:
                raise ValueError(
                    f"{where}: two parameters would have the name {key!r} in a study; rename one"
                )
            recorded.add(key)


def renamed(space: Space, name: Callable[[str], str]) -> dict[str, Part]:
    """Return a search space with other names of its parameters, in its conditions too.

    Parameters
    ----------
    space : mapping of str to Float, Int, Choice or Each
        Parameters in order.
    name : callable
        ``(str) -> str``, the new name of a parameter.
    """
    return {
        name(key): with_condition(part, part.when and {name(k): v for k, v in part.when.items()})
        for key, part in space.items()
    }


def with_condition(part: Part, when: Mapping[str, Any] | None) -> Part:
    """Return a copy of a part of a search space with another condition.

    Parameters
    ----------
    part : Float, Int, Choice or Each
        The part, which is not changed.
    when : mapping of str to object, or None
        The new condition; None for no condition.
    """
    if not when and part.when is None:
        return part
    made = copy.copy(part)
    object.__setattr__(made, "when", when or None)
    if isinstance(made, Each) and made.part.when is not None:  # a copy of the old condition
        object.__setattr__(made, "part", with_condition(made.part, None))
    return made


def remaining(space: Space, fixed: Mapping[str, Any]) -> dict[str, Part]:
    """Return the part of a search space that remains if some parameters are set.

    Parameters
    ----------
    space : mapping of str to Float, Int, Choice or Each
        Parameters in order.
    fixed : mapping of str to object
        Values of parameters, which may be in the search space or not.

    Returns
    -------
    dict of str to Float, Int, Choice or Each
        The search space without the parameters in `fixed` and those whose condition cannot hold
        with these values; conditions that hold with them are removed.
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


def located(
    space: Space, values: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return how a study records settings, and those of them that are outside the space.

    Parameters
    ----------
    space : mapping of str to Float, Int, Choice or Each
        The search space.
    values : mapping of str to object
        A value for every parameter. One number for all keys of an `Each` is its value for each.

    Returns
    -------
    recorded : dict of str to object
        Values as a study records them.
    outside : dict of str to object
        The values that the space does not have, for instance None where it has numbers.

    None is returned in place of both if a parameter has no value, or a value outside the space is
    an estimator or another object that cannot be written to a file.
    """
    recorded: dict[str, Any] = {}
    outside: dict[str, Any] = {}
    seen: dict[str, Any] = {}
    for name, part in space.items():
        if not all(
            _matches(seen.get(other, _ABSENT), wanted)
            for other, wanted in (part.when or {}).items()
        ):
            continue
        if name not in values:
            return None
        value = values[name]
        if isinstance(part, Each):
            value = value if isinstance(value, Mapping) else dict.fromkeys(part.keys, value)
            found = {f"{name}.{key}": _recorded(part.part, one) for key, one in value.items()}
            keys = {f"{name}.{key}" for key in part.keys}
        else:
            found, keys = {name: _recorded(part, value)}, {name}
        if set(found) == keys and not any(one is _ABSENT for one in found.values()):
            recorded |= found
        elif _plain(value):
            outside[name] = value
        else:
            return None
        seen[name] = part._seen(value)
    return recorded, outside


def _recorded(part: Float | Int | Choice, value: Any) -> Any:
    if isinstance(part, Choice):
        alike = [
            (type(one) is type(value), key)
            for key, one in zip(part.recorded, part.options)
            if _equal(one, value)
        ]
        return next((key for same, key in alike if same), alike[0][1] if alike else _ABSENT)
    if isinstance(value, bool) or not part._offers(value):
        return _ABSENT
    return int(value) if isinstance(part, Int) else float(value)


def _plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_plain, value))
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _plain(one) for key, one in value.items())
    return value is None or isinstance(value, (bool, int, float, str))


def size_of(space: Space) -> int | None:
    """Return the number of settings in a search space, without regard to conditions.

    Parameters
    ----------
    space : mapping of str to Float, Int, Choice or Each
        The search space.

    Returns
    -------
    int or None
        None if a part is a `Float` with more than one value.
    """

    def n_values(part: Part) -> int | None:
        if isinstance(part, Each):
            of_key = n_values(part.part)
            return None if of_key is None else of_key ** len(part.keys)
        if isinstance(part, Float):
            return 1 if part.low == part.high else None
        return len(part.options) if isinstance(part, Choice) else part.high - part.low + 1

    found = [n_values(part) for part in space.values()]
    return None if None in found else math.prod(n for n in found if n is not None)


def suggest(
    space: Space, trial: Trial, prefix: str = "", *, fixed: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Draw one value for every parameter of a search space from an Optuna trial.

    Parameters
    ----------
    space : mapping of str to Float, Int, Choice or Each
        Parameters in order; a ``when=`` may name parameters that precede it.
    trial : optuna.trial.Trial
        The trial. A finished one, such as ``study.best_trial``, returns its parameters again.
    prefix : str, default=""
        Prefix of every name, both in the study and in the result, such as ``"acln__"``, so that the
        result can be passed to ``set_params`` of a pipeline.
    fixed : mapping of str to object, optional
        Values of parameters that are not drawn. They are part of the result, and conditions that
        name them are evaluated with these values.

    Returns
    -------
    dict of str to object
        The parameters in `fixed`, and the drawn ones; a parameter is drawn only if its condition
        holds.

    Raises
    ------
    TypeError, ValueError
        If `space` is not a valid search space, if one of its conditions can never hold, or if
        `trial` is not a trial.

    Examples
    --------
    >>> import optuna
    >>> from crossfit.cards import Choice, Float, suggest
    >>> space = {"kernel": Choice("rbf", "linear"), "gamma": Float(0.1, 10, when={"kernel": "rbf"})}
    >>> trial = optuna.trial.FixedTrial({"kernel": "linear"})
    >>> suggest(space, trial)
    {'kernel': 'linear'}
    """
    check_type("prefix", prefix, str)
    if not hasattr(trial, "suggest_categorical"):
        raise TypeError(f"trial must be an Optuna trial, got {shown(trial)}")
    fixed = {} if fixed is None else fixed
    check_type("fixed", fixed, Mapping)
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
    if {type(a), type(b)} == {list, tuple}:  # tuples are lists in YAML
        return tuple(a) == tuple(b)
    try:
        return bool(a == b)
    except Exception:  # the comparison of arrays is not a single bool
        return False
