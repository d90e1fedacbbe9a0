"""Identities of objects: plain values that determine their behaviour and can be hashed."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from crossfit._code import code_of
from crossfit._identities import identity_of
from crossfit.extraction.weights import file_sha256
from crossfit.protocols import Weighted

__all__ = ["describe", "digests", "files_named"]

# Parameters that do not change results.
_NEUTRAL = frozenset({"n_jobs", "verbose"})


def describe(value: Any) -> Any:
    """Return the identity of an object, as values that JSON can hold.

    Estimators are identified by their class, its code, all parameters and the content of files
    that these name; extractors with trained weights also by the weights; functions by their names;
    arrays by their hashes.

    Raises
    ------
    TypeError
        If a value has no lasting identity, for instance a lambda.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(key): describe(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [describe(part) for part in value]
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return {"array": [value.dtype.str, list(value.shape), digest]}
    if isinstance(value, type):
        return {"type": identity_of(value)}
    if hasattr(value, "get_params"):
        cls = type(value)
        neutral = getattr(cls, "neutral_parameters", _NEUTRAL)
        params = {k: v for k, v in value.get_params(deep=False).items() if k not in neutral}
        found = {"class": identity_of(cls), "params": describe(params)}
        package = sys.modules.get(cls.__module__.partition(".")[0])
        if package is not None and package.__name__ != "sklearn":
            found["version"] = str(getattr(package, "__version__", ""))
            found["code"] = code_of(cls)
        weights = value._weights_id() if isinstance(value, Weighted) else ""
        found |= {"weights": weights} if weights else {}
        files = digests(params)
        return found | ({"files": files} if files else {})
    name = getattr(value, "__qualname__", "<lambda>")
    if callable(value) and "<" not in name:
        return {"function": f"{value.__module__}.{name}"}
    raise TypeError(f"a value of type {type(value).__name__} has no lasting identity: {value!r}")


def digests(value: Any) -> dict[str, str]:
    """Return the SHA-256 of the files, for instance weights, that parameters name."""
    return {path: file_sha256(path) for path in files_named(value)}


def files_named(value: Any) -> Iterator[str]:
    """Yield the strings among parameters that name an existing file."""
    if isinstance(value, str):
        if len(value) < 1000 and os.path.isfile(os.path.expanduser(value)):
            yield value
    elif isinstance(value, (Mapping, list, tuple)):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from files_named(part)
