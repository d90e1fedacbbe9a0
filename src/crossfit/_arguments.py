"""Checks of the arguments of public functions, by scikit-learn's parameter constraints.

Classes declare constraints as ``_parameter_constraints``. Functions in modules that must be fast
to import declare them here, and scikit-learn is imported at the first call.
"""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from functools import cache, wraps
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, ParamSpec, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossfit._text import shown

__all__ = [
    "CheckedParameters",
    "a_path",
    "check_arguments",
    "finite_array",
    "integer",
    "is_word",
    "mapping_of",
    "not_views",
    "one_of",
    "real",
    "shown",
    "validated",
]

P = ParamSpec("P")
R = TypeVar("R")

Closed = Literal["left", "right", "both", "neither"]


class _Lazy:
    """A constraint that is built on first use, when scikit-learn is imported.

    What `accepts` returns True for needs no further check, so that the import of scikit-learn, a
    second, is not needed for arguments that are plainly valid.
    """

    def __init__(
        self, build: Callable[[], Any], accepts: Callable[[Any], bool] = lambda value: False
    ) -> None:
        self.build = cache(build)
        self.accepts = accepts


def integer(low: int | None = None, high: int | None = None) -> _Lazy:
    """Return the constraint of integers from `low` to `high`, inclusive."""

    def build() -> Any:
        from sklearn.utils._param_validation import Interval

        closed = {(True, True): "both", (True, False): "left", (False, True): "right"}
        ends = (low is not None, high is not None)
        return Interval(Integral, low, high, closed=closed.get(ends, "neither"))

    def accepts(value: Any) -> bool:
        inside = type(value) is int
        return inside and (low is None or value >= low) and (high is None or value <= high)

    return _Lazy(build, accepts)


def real(low: float | None = None, high: float | None = None, closed: Closed = "neither") -> _Lazy:
    """Return the constraint of finite real numbers between `low` and `high`."""

    def build() -> Any:
        from sklearn.utils._param_validation import Interval

        return Interval(Real, low, high, closed=closed)

    def accepts(value: Any) -> bool:
        inside = type(value) in (int, float) and math.isfinite(value)
        return inside and (low is None or value > low) and (high is None or value < high)

    return _Lazy(build, accepts)


def one_of(*options: str) -> _Lazy:
    """Return the constraint of one of some strings."""

    def build() -> Any:
        from sklearn.utils._param_validation import StrOptions

        return StrOptions(set(options))

    return _Lazy(build, lambda value: type(value) is str and value in options)


class _Path:
    """The constraint of paths."""

    hidden = False

    def is_satisfied_by(self, value: Any) -> bool:
        text = os.fspath(value) if isinstance(value, (str, os.PathLike)) else None
        return isinstance(text, str) and "\0" not in text

    def __str__(self) -> str:
        return "a path"


def a_path() -> _Lazy:
    """Return the constraint of paths: strings and path-like objects."""
    return _Lazy(_Path, _Path().is_satisfied_by)


class _MappingOf:
    """The constraint of mappings from names to values that satisfy one of some constraints."""

    hidden = False

    def __init__(self, parts: tuple[Any, ...]) -> None:
        self.parts = parts
        self.built = _built(parts)

    def is_satisfied_by(self, value: Any) -> bool:
        return isinstance(value, Mapping) and all(
            isinstance(name, str) and _satisfied(part, self.parts, self.built)
            for name, part in value.items()
        )

    def __str__(self) -> str:
        return f"a mapping from names to {_either(self.built)}"


def mapping_of(*parts: Any) -> _Lazy:
    """Return the constraint of mappings from names to values that satisfy one of `parts`."""
    return _Lazy(lambda: _MappingOf(parts))


def is_word(value: Any, options: Collection[str]) -> bool:
    """Return True if this is a string among some words; an array is equal to none of them."""
    return isinstance(value, str) and value in options


def check_arguments(who: str, constraints: dict[str, list[Any]], given: dict[str, Any]) -> None:
    """Check arguments against their constraints.

    Parameters
    ----------
    who : str
        Name of the function or class in the message.
    constraints : dict of str to list
        Constraints by argument, of this module or of scikit-learn.
    given : dict of str to object
        The arguments; those without constraints are not checked.

    Raises
    ------
    sklearn.utils._param_validation.InvalidParameterError
        A ValueError and TypeError with the argument, its valid values and the value given.
    """
    for name, parts in constraints.items():
        if name not in given or "no_validation" in parts or _plainly(given[name], parts):
            continue
        built = _built(parts)
        if not _satisfied(given[name], parts, built):
            from sklearn.utils._param_validation import InvalidParameterError

            raise InvalidParameterError(
                f"The {name!r} parameter of {who} must be {_either(built)}. Got "
                f"{shown(given[name])} instead."
            )


class CheckedParameters:
    """Part of estimators: ``_validate_params`` also rejects a bool where a number belongs."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {}

    def _validate_params(self) -> None:
        given: dict[str, Any] = self.get_params(deep=False)  # type: ignore[attr-defined]
        check_arguments(type(self).__name__, self._parameter_constraints, given)


def _built(parts: Iterable[Any]) -> list[Any]:
    from sklearn.utils._param_validation import make_constraint

    unwrapped = (part.build() if isinstance(part, _Lazy) else part for part in parts)
    own = (_MappingOf, _Path)
    return [part if isinstance(part, own) else make_constraint(part) for part in unwrapped]


def _plainly(value: Any, parts: Iterable[Any]) -> bool:
    """Return True if a value is valid for a reason that needs no scikit-learn."""
    if isinstance(value, int) and value.bit_length() > 1023:
        return False
    for part in parts:
        if part is None or isinstance(part, str):
            if value is None and part in (None, "random_state"):
                return True
            if type(value) is bool and part == "boolean":
                return True
            if type(value) is int and part == "random_state" and 0 <= value < 2**32:
                return True
        elif isinstance(part, _Lazy):
            if part.accepts(value):
                return True
        elif type(value) is part and part is not bool:
            return True
    return False


def _satisfied(value: Any, parts: Iterable[Any], built: list[Any]) -> bool:
    # To Python, a bool is an integer, but it is a mistake in place of a number.
    if isinstance(value, (bool, np.bool_)) and not any(
        part in ("boolean", "verbose", bool, object) for part in parts
    ):
        return False
    # An integer beyond the range of floats is in every interval, but causes an OverflowError later.
    if isinstance(value, int) and value.bit_length() > 1023:
        return False
    for part in built:
        # NumPy raises errors for some values, for instance fractions.
        with suppress(Exception):
            if part.is_satisfied_by(value):
                return True
    return False


def _either(built: list[Any]) -> str:
    named = [str(part) for part in built if not part.hidden]
    return ", ".join(named[:-1]) + " or " * (len(named) > 1) + named[-1]


def validated(**constraints: list[Any]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator that checks the arguments of a function before it runs.

    Parameters
    ----------
    **constraints : list
        Constraints by argument: `integer`, `real`, `one_of`, or entries of scikit-learn's
        ``_parameter_constraints`` ("array-like", "boolean", "random_state", None, a type).

    Examples
    --------
    >>> @validated(k=[integer(1), None])
    ... def first(items, k=None):
    ...     return items[:k]
    >>> first("abc", k=0)
    Traceback (most recent call last):
    sklearn.utils._param_validation.InvalidParameterError: The 'k' parameter of first must be an \
int in the range [1, inf) or None. Got 0 instead.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        *_, name = function.__qualname__.removesuffix(".__init__").split(".")
        unknown = set(constraints) - set(signature.parameters)
        if unknown:
            raise TypeError(f"{function.__name__} has no argument {sorted(unknown)[0]!r}")

        @wraps(function)
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                given = signature.bind(*args, **kwargs).arguments
            except TypeError:  # Python's own error names the function
                return function(*args, **kwargs)
            check_arguments(name, constraints, given)
            return function(*args, **kwargs)

        return checked

    return decorate


def finite_array(values: ArrayLike, name: str, ndim: int | None = None) -> NDArray[Any]:
    """Return numbers as an array, after checking that they are real, finite numbers.

    Parameters
    ----------
    values : array-like
        The numbers.
    name : str
        Name of the argument in the message.
    ndim : int, optional
        Required number of axes.

    Raises
    ------
    ValueError
        If the array has another shape, is not of real numbers, or contains NaN or infinity; the
        message gives the place.
    """
    from crossfit._arrays import as_numpy, is_tensor

    if is_tensor(values):
        values = as_numpy(values, name)
    try:
        array = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be an array of numbers, got {_called(values)}") from error
    if array.dtype.kind not in "biuf":
        raise ValueError(
            f"{name} must be an array of real numbers, got {_called(values)} of type {array.dtype}"
        )
    if ndim is not None and array.ndim != ndim:
        raise ValueError(
            f"{name} must have {ndim} ax{'is' if ndim == 1 else 'es'}, got an array of shape "
            f"{array.shape}"
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        at = np.argwhere(~np.isfinite(array))
        place = ", ".join(map(str, at[0].tolist()))
        raise ValueError(
            f"{name} must be finite, got {array[tuple(at[0])]} at [{place}]"
            + (f" and {len(at) - 1} more" if len(at) > 1 else "")
        )
    return array


def _called(values: Any) -> str:
    return f"an object of type {type(values).__name__}"


def not_views(owner: str, *given: Any) -> TypeError:
    """Return the error of a function that expects Views.

    Parameters
    ----------
    owner : str
        What expects them.
    *given : object
        What it was given.
    """
    names = " and ".join(type(one).__name__ for one in given)
    return TypeError(
        f"{owner} expects Views, got {names}; pass Views(image=..., text=...), with the names of "
        "your modalities"
    )
