"""Schemas of the files of a store; a file that does not match is damaged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit.metrics.directions import Direction
from crossfit.metrics.names import parse_metric

__all__ = [
    "HISTORY",
    "PLAN",
    "RUN",
    "SEARCH",
    "TRIALS",
    "misfit",
    "wrong_arrays",
    "wrong_attention",
    "wrong_cell",
    "wrong_run",
]

Arrays = Mapping[str, NDArray[Any]]


class Maybe:
    """A value of a form, or null; as an entry of a mapping, it may also be missing."""

    def __init__(self, form: Any) -> None:
        self.form = form


NUMBER = (int, float)
_SETTINGS = {str: object}
_FIGURE = {"mean": Maybe(NUMBER), "low": Maybe(NUMBER), "high": Maybe(NUMBER), "n": Maybe(int)}
_CURVE = [[Maybe(NUMBER)]]
_BY_NAME = {str: Maybe(NUMBER)}

CELL = {
    "key": Maybe(str),
    "status": {"done", "failed", "skipped"},
    "reason": Maybe(str),
    "traceback": Maybe(str),
    "cell": {
        "dataset": {
            "name": str,
            "params": Maybe(_SETTINGS),
            "subset": Maybe({str: int}),
            "splits": Maybe({str: Maybe(str)}),
            str: object,
        },
        "method": {"name": str, "params": Maybe(_SETTINGS), str: object},
        "seed": Maybe(int),
        "features": Maybe(_SETTINGS),
        "protocol": Maybe({"metrics": Maybe([str]), "ties": Maybe(str), str: object}),
        str: object,
    },
    "results": Maybe({str: {str: _FIGURE}}),
    "chosen": Maybe(_SETTINGS),
    "tuning": Maybe(
        {"trials": Maybe(int), "best_value": Maybe(NUMBER), "metric": Maybe(str),
         "seconds": Maybe(NUMBER), "on": Maybe(str), str: object}
    ),
    "timing": Maybe(_BY_NAME),
    "memory": Maybe(_BY_NAME),
    "size": Maybe(_BY_NAME),
    "n": Maybe({"train": Maybe(int), "test": Maybe({str: int}), str: object}),
    "hubness": Maybe({str: _BY_NAME}),
    "abstention": Maybe({str: _BY_NAME}),
    "curves": Maybe({str: {str: _CURVE}}),
    "chance": Maybe({str: _BY_NAME}),
    "relevant": Maybe({str: str}),
    "environment": Maybe(
        {"packages": Maybe({str: Maybe(str)}), "devices": Maybe([str]), str: object}
    ),
    "started": Maybe(str),
    "finished": Maybe(str),
    "warnings": Maybe([str]),
    str: object,
}  # fmt: skip

_ROW = {
    "key": str, "method": str, "dataset": str, "seed": int, "features": Maybe(str),
    "note": Maybe(str),
}  # fmt: skip

RUN = {
    "name": str,
    "title": str,
    "spec": {
        "metrics": [str],
        "methods": [
            {"label": str, "params": Maybe(_SETTINGS), "published": Maybe({str: {str: NUMBER}}),
             "note": Maybe(str), str: object}
        ],
        "baseline": Maybe(str),
        "reduced": Maybe(bool),
        "description": Maybe(str),
        "notes": Maybe(str),
        "comparisons": Maybe([[str]]),
        "published_only": Maybe(
            [{"label": str, "published": {str: {str: NUMBER}}, "note": Maybe(str), str: object}]
        ),
        str: object,
    },
    "cells": [_ROW],
    "command": str,
    "created": str,
    "crossfit version": str,
    "data": Maybe(str),
    "root": Maybe(str),
    str: object,
}  # fmt: skip

PLAN = {"rows": [_ROW], str: object}

SEARCH = {
    "params": Maybe(_SETTINGS), "chosen": Maybe(_SETTINGS), "tuning": Maybe(_SETTINGS),
    "trials": Maybe(list), "error": Maybe(str), "traceback": Maybe(str),
}  # fmt: skip

HISTORY = [{str: object}]

TRIALS = [{"value": Maybe(NUMBER), "params": {str: object}, str: object}]


def misfit(value: Any, form: Any, where: str = "it") -> str:
    """Return a message if a value does not match a form, else an empty string.

    Parameters
    ----------
    value : object
        Value read from JSON.
    form : object
        A type or several; a set of values; ``[form]`` for lists; a mapping of names to forms, in
        which ``str`` stands for any other name; `Maybe`.
    where : str, default="it"
        Name of the value in the message.
    """
    if isinstance(form, Maybe):
        return "" if value is None else misfit(value, form.form, where)
    if form is object:
        return ""
    if isinstance(form, set):
        return "" if isinstance(value, str) and value in form else f"{where} is {_shown(value)}"
    if isinstance(form, list):
        if not isinstance(value, list):
            return f"{where} is not a list"
        found = (misfit(part, form[0], f"{where}[{i}]") for i, part in enumerate(value))
        return next(filter(None, found), "")
    if isinstance(form, dict):
        if not isinstance(value, dict):
            return f"{where} is not a mapping"
        for name, part in form.items():
            if name is str:
                continue
            if name not in value and not isinstance(part, Maybe):
                return f"{where} has no {name!r}"
            if problem := misfit(value.get(name), part, f"{where}.{name}"):
                return problem
        for name in value.keys() - form.keys():
            if str not in form:
                return f"{where} has an entry {name!r}"
            if problem := misfit(value[name], form[str], f"{where}.{name}"):
                return problem
        return ""
    kinds = form if isinstance(form, tuple) else (form,)
    fits = isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))
    return "" if fits else f"{where} is {_shown(value)}"


def wrong_cell(found: Any) -> str:
    """Return a message if the record of a cell is invalid, else an empty string."""
    if problem := misfit(found, CELL):
        return problem
    results = found.get("results") or {}
    if found["status"] == "done" and not results:
        return "it is done but has no results"
    for direction, by_metric in results.items():
        try:
            Direction.stored(direction, (found.get("n") or {}).get("test") or ())
        except ValueError as error:
            return f"it.results has {direction!r}: {error}"
        if not by_metric:
            return f"it.results.{direction} is empty"
    tuned = (found.get("tuning") or {}).get("metric")
    of_queries = (results, found.get("chance") or {})
    names = {metric for each in of_queries for by_metric in each.values() for metric in by_metric}
    names |= {tuned} - {None}
    if problem := _unknown(names):
        return problem
    metrics = {tuple(by_metric) for by_metric in results.values()}
    if len(metrics) > 1:
        return "it.results has different metrics in different directions"
    for direction, curves in (found.get("curves") or {}).items():
        for kind, curve in curves.items():
            if len(curve) != 2 or len(curve[0]) != len(curve[1]) or not curve[0]:
                return f"it.curves.{direction}.{kind} has different numbers of x and y"
    return ""


def wrong_run(found: Any) -> str:
    """Return a message if the record of a run is invalid, else an empty string."""
    if problem := misfit(found, RUN):
        return problem
    spec = found["spec"]
    if any(len(pair) != 2 for pair in spec.get("comparisons") or ()):
        return "it.spec.comparisons has an entry that is not a pair"
    rows = [*spec["methods"], *(spec.get("published_only") or ())]
    published = {name for row in rows for name in row.get("published") or ()}
    return _unknown({*spec["metrics"], *published})


def _unknown(metrics: Iterable[str]) -> str:
    for metric in metrics:
        try:
            parse_metric(metric)
        except ValueError as error:
            return str(error)
    return ""


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:39] + "…"


def wrong_arrays(arrays: Arrays) -> str:
    """Return a message if the arrays of a cell are invalid, else an empty string.

    Each array of a direction has one entry per query.
    """
    sizes: dict[str, int] = {}
    for name, array in arrays.items():
        direction, _, part = name.partition("|")
        if array.ndim != (2 if part in ("top", "top_scores") else 1):
            return f"{name!r} has the shape {array.shape}"
        if array.dtype.kind not in ("iu" if part in ("top", "groups") else "iuf"):
            return f"{name!r} is of type {array.dtype}"
        if part == "top" and array.size and array.min() < 0:
            return f"{name!r} has items below 0"
        if sizes.setdefault(direction, len(array)) != len(array):
            return f"{name!r} has {len(array)} queries, the others have {sizes[direction]}"
    return ""


def wrong_attention(arrays: Arrays) -> str:
    """Return a message if the attention maps of a cell are invalid, else an empty string."""
    kinds = {"weights": "iuf", "item": "iu", "view": "U", "query": "U", "regions": "iuf",
             "grid": "iu",
             "words": "U", "quantity": "U"}  # fmt: skip
    shapes = {"weights": (1, 2), "regions": (2,), "grid": (1,), "words": (1,)}
    for name, array in arrays.items():
        number, _, part = name.partition("|")
        if not number.isdigit() or part not in kinds:
            return f"{name!r} is not a part of a map"
        if array.dtype.kind not in kinds[part] or array.ndim not in shapes.get(part, (0,)):
            return f"{name!r} is of type {array.dtype} and shape {array.shape}"
        if part == "weights" and (not array.size or not np.isfinite(array).all()):
            return f"{name!r} is empty or not finite"
        if part == "grid" and array.shape != (2,):
            return f"{name!r} has the shape {array.shape}"
    maps = {name.partition("|")[0] for name in arrays}
    lacking = [number for number in maps if {f"{number}|weights", f"{number}|item"} - set(arrays)]
    return f"map {lacking[0]} has no weights or no item" if lacking else ""
