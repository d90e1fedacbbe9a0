"""Keys: hashes of the canonical JSON of a value."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["canonical", "key_of", "plain_json"]


def canonical(value: Any) -> str:
    """Return the canonical JSON of a value, with sorted keys and without any ``repr``.

    Raises
    ------
    TypeError
        If the value is not made of mappings, sequences, strings, numbers, booleans and None.
    """
    return json.dumps(plain_json(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def key_of(cell: Mapping[str, Any]) -> str:
    """Return the key of a cell: the SHA-256 of its canonical JSON."""
    return hashlib.sha256(canonical(cell).encode()).hexdigest()


_TAG = object()


def plain_json(value: Any, unreal: Any = _TAG) -> Any:
    """Return a value as JSON types; NaN and infinity become `unreal`, or are tagged by default."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        number = float(value)
        if math.isfinite(number):
            return number
        return {"$float": str(number)} if unreal is _TAG else unreal
    if isinstance(value, Mapping):
        wrong = next((key for key in value if not isinstance(key, str)), None)
        if wrong is not None:
            raise TypeError(f"keys of a mapping must be strings, got {wrong!r}")
        return {key: plain_json(part, unreal) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_json(part, unreal) for part in value]
    raise TypeError(f"{type(value).__name__} cannot be stored as JSON: {value!r}")
