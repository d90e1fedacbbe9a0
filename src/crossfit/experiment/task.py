"""What a process needs to compute a cell, and how that ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crossfit import registry
from crossfit.experiment.keys import key_of
from crossfit.experiment.spec_parts import MethodSpec, TuningSpec

__all__ = ["Outcome", "Skip", "Task", "told"]


class Skip(Exception):
    """Raised by what cannot run here; the cell is stored as skipped, with the reason."""


@dataclass(frozen=True)
class Task:
    """All that a process needs to compute a cell, or the search that its cells share.

    Parameters
    ----------
    key : str
        Key of the cell.
    cell : mapping
        What the key is made of.
    method : MethodSpec
        The method.
    dataset : mapping
        ``name``, ``options``, ``subset``, ``splits``, and ``own``: a table of the user's pairs.
    features : mapping
        View to features.
    seed : int or None
        None if it makes no difference.
    metrics : tuple of str
        Canonical names.
    relevance, ties : str
        See `Experiment`.
    tuning : TuningSpec or None
        None if the method is not tuned.
    store : str
        Folder of the store.
    root : str or None
        Folder of the data sets.
    lease : float
        See `Store`.
    tracker : object or None
        Who is handed the result too.
    run : pair of str
        Name and title of the run.
    """

    key: str
    cell: Mapping[str, Any]
    method: MethodSpec
    dataset: Mapping[str, Any]
    features: Mapping[str, Any]
    seed: int | None
    metrics: tuple[str, ...]
    relevance: str
    ties: str
    tuning: TuningSpec | None
    store: str
    root: str | None = None
    lease: float = 120.0
    tracker: Any = None
    run: tuple[str, str] = ("", "")

    @property
    def search_key(self) -> str | None:
        """Key of the search that the cells of all seeds share."""
        if self.tuning is None:
            return None
        return key_of(
            {"search": {name: part for name, part in self.cell.items() if name != "seed"}}
        )


@dataclass(frozen=True)
class Outcome:
    """How a task ended: ``done``, ``failed``, ``skipped``, ``cached`` or ``busy``."""

    key: str
    status: str
    seconds: float = 0.0
    message: str = ""


def told(error: Exception) -> str:
    """Return an error as one line, with its type unless its message is written for users."""
    words = " ".join(str(error).split())
    plain = isinstance(error, (Skip, ValueError, registry.RegistryError, FileNotFoundError))
    return words if plain and words else f"{type(error).__name__}: {words}"
