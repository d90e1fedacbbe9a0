"""Registered method classes as attributes: ``from crossfit.methods import CCA``."""

from __future__ import annotations

from typing import Any

from crossfit._installed import classes_of

_get, _class_names = classes_of(__name__, "crossfit.methods")


def __getattr__(name: str) -> Any:
    if name == "__all__":
        # For `from crossfit.methods import *`: a name that several offer belongs to none of them.
        return sorted(name for name, offered in _class_names().items() if len(offered) == 1)
    return _get(name)


def __dir__() -> list[str]:
    return sorted(_class_names())
