"""Names of fitted attributes, and which of them a bundle or checkpoint may set."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["is_fitted_name", "set_fitted", "stands_for_code"]


def is_fitted_name(name: Any) -> bool:
    """Return True for names that scikit-learn gives to what `fit` learns: ``mean_``."""
    return (
        isinstance(name, str)
        and name.isidentifier()
        and name.endswith("_")
        and not name.startswith("_")
    )


def stands_for_code(cls: type, name: str) -> bool:
    """Return True if a value under this name would take the place of code of a class.

    Code is affected by more than methods: by properties, and by declarations of the class, such as
    its parameter constraints. A fitted attribute may have a default in the class.
    """
    held = inspect.getattr_static(cls, name, None)
    if held is None:
        return name.startswith("__")
    return callable(held) or hasattr(type(held), "__get__") or not is_fitted_name(name)


def set_fitted(target: object, values: Mapping[str, Any], taken: Iterable[str] = ()) -> None:
    """Set fitted attributes that come from a file.

    Parameters
    ----------
    target : object
        The object.
    values : mapping of str to object
        Values by name.
    taken : iterable of str, default=()
        Fitted attributes that must not be set here.

    Raises
    ------
    ValueError
        If a name is not that of a fitted attribute, or belongs to code of the class. In this case
        nothing is set.
    """
    cls = type(target)
    for name in values:
        if not is_fitted_name(name) or stands_for_code(cls, name) or name in taken:
            raise ValueError(f"{name!r} is not the name of a fitted attribute of {cls.__name__}")
    for name, value in values.items():
        setattr(target, name, value)
