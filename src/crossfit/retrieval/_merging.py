"""Checks before indexes are merged."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crossfit._arguments import shown
from crossfit.retrieval._segments import Segment, Snapshot, arrow

if TYPE_CHECKING:
    from crossfit.retrieval.stored import Index

__all__ = ["check_alike", "check_columns", "check_distinct"]


def check_alike(one: Index, other: Index) -> None:
    """Raise a ValueError if two indexes cannot be merged."""
    import joblib

    for name in ("dim", "metric", "views", "combine", "meta", "_directions"):
        if (here := getattr(one, name)) != (there := getattr(other, name)):
            raise ValueError(
                f"indexes with different {name.strip('_')} cannot be merged: {shown(here)} in "
                f"{str(one.folder)!r} and {shown(there)} in {str(other.folder)!r}"
            )
    if joblib.hash(one.correction) != joblib.hash(other.correction):
        raise ValueError(
            f"indexes with different corrections cannot be merged: {str(one.folder)!r} and "
            f"{str(other.folder)!r}"
        )


def check_columns(snapshots: list[Snapshot]) -> None:
    """Raise a ValueError if a column has several types."""
    known: dict[str, tuple[Any, Path]] = {}
    for snapshot in snapshots:
        for field in snapshot.schema:
            kind, folder = known.setdefault(field.name, (field.type, snapshot.folder))
            if arrow().types.is_null(kind):
                known[field.name] = (field.type, snapshot.folder)
            elif kind != field.type and not arrow().types.is_null(field.type):
                raise ValueError(
                    f"column {field.name!r} is {kind} in {str(folder)!r} and {field.type} in "
                    f"{str(snapshot.folder)!r}; give it one type"
                )


def check_distinct(segments: list[Segment]) -> None:
    """Raise a ValueError if two items have the same name."""

    def alive(part: Segment) -> Any:
        return slice(None) if part.dead is None else ~part.dead[part.order]

    keys = np.sort(np.concatenate([np.empty(0, "<u8"), *(s.keys[alive(s)] for s in segments)]))
    twice = np.unique(keys[1:][keys[1:] == keys[:-1]])
    if not len(twice):
        return
    seen: set[str] = set()
    for part in segments:
        rows = part.order[alive(part)][np.isin(part.keys[alive(part)], twice)]
        for name in part.table.column(0).take(arrow().array(rows)).to_pylist():
            if name in seen:
                raise ValueError(f"ids must differ, and {shown(name)} is in more than one index")
            seen.add(name)
