"""A cell, the task of computing it, and the outcome."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from crossfit import registry
from crossfit.experiment.keys import key_of
from crossfit.experiment.spec_parts import MethodSpec
from crossfit.search_space import Part

__all__ = ["Cell", "Outcome", "PairSource", "Skip", "Task", "reason_of"]


class Skip(Exception):
    """Raised if a cell cannot be computed; it is stored as skipped, with the reason."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Cell:
    """One method on one data set with one seed.

    Parameters
    ----------
    key : str
        Hash of `cell`, 64 hexadecimal digits.
    label : str
        Label of the method in the experiment.
    dataset : str
        Label of the data set in the experiment.
    seed : int
        The seed.
    features : str
        The features in one line.
    note : str
        A note for tables, for instance that the seed makes no difference.
    cell : mapping
        Everything that determines the result; the key is computed from it.
    """

    key: str
    label: str
    dataset: str
    seed: int
    features: str = ""
    note: str = ""
    cell: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Cell:
        """Return a cell from its row in the file of a run or of a plan."""
        return cls(
            key=row["key"],
            label=row["method"],
            dataset=row["dataset"],
            seed=row["seed"],
            features=row.get("features") or "",
            note=row.get("note") or "",
        )

    @property
    def row(self) -> dict[str, Any]:
        """The row of the cell in the file of a run or of a plan."""
        return {
            "key": self.key,
            "method": self.label,
            "dataset": self.dataset,
            "seed": self.seed,
            "features": self.features,
            "note": self.note,
        }


@dataclass(frozen=True)
class PairSource:
    """The source of the pairs of a cell.

    Parameters
    ----------
    name : str
        Name of the data set.
    options : mapping
        Arguments of its loader, and ``split``.
    subset : mapping of str to int
        Role or name of a split to the number of groups drawn from it.
    splits : mapping of str to str or None
        Role to the name of its split, if it is not the default.
    table : str or None
        A table of the user's own pairs, which replaces the data set.
    root : str or None
        Folder of the data sets.
    """

    name: str
    options: Mapping[str, Any]
    subset: Mapping[str, int]
    splits: Mapping[str, str | None]
    table: str | None = None
    root: str | None = None

    @classmethod
    def of_cell(
        cls, cell: Mapping[str, Any], table: str | None = None, root: str | None = None
    ) -> PairSource:
        """Return the source of the pairs of a stored cell, from its identity."""
        keyed = cell["dataset"]
        return cls.of(keyed["name"], keyed["params"], keyed["subset"], keyed["splits"], table, root)

    @classmethod
    def of(
        cls,
        name: str,
        options: Mapping[str, Any],
        subset: Mapping[str, int],
        splits: Mapping[str, str | None],
        table: str | os.PathLike[str] | None,
        root: str | os.PathLike[str] | None,
    ) -> PairSource:
        """Return a source; the option ``table`` names pairs of the user's own too."""
        rest = {key: value for key, value in options.items() if key != "table"}
        table = options.get("table") if table is None else table
        return cls(
            name,
            rest,
            dict(subset),
            dict(splits),
            None if table is None else os.path.abspath(table),
            None if root is None else os.path.abspath(root),
        )


@dataclass(frozen=True, eq=False)
class Task:
    """A cell with everything that a process needs to compute it or its search.

    Parameters
    ----------
    cell : Cell
        The cell.
    method : MethodSpec
        The method.
    source : PairSource
        Source of its pairs.
    features : mapping
        View to features.
    space : mapping of str to Float, Int, Choice or Each
        Search space by parameter names of the pipeline; empty if the method is not tuned.
    store : str
        Folder of the store.
    lease : float
        See `Store`.
    skip : str
        Why the cell cannot be computed; empty if it can.
    tracker : Tracker or None
        Also receives the result.
    run : pair of str
        Name and title of the run.
    """

    cell: Cell
    method: MethodSpec
    source: PairSource
    features: Mapping[str, Any]
    space: Mapping[str, Part]
    store: str
    lease: float = 120.0
    skip: str = ""
    tracker: Any = None
    run: tuple[str, str] = ("", "")

    @property
    def key(self) -> str:
        """Key of the cell."""
        return self.cell.key

    @property
    def identity(self) -> Mapping[str, Any]:
        """The values from which the key is computed."""
        return self.cell.cell

    @property
    def seed(self) -> int | None:
        """The seed; None if it makes no difference."""
        seed: int | None = self.identity["seed"]
        return seed

    @property
    def metrics(self) -> tuple[str, ...]:
        """Canonical names of the metrics, the main one first."""
        return tuple(self.identity["protocol"]["metrics"])

    @property
    def relevance(self) -> str:
        """Which items are relevant, see `Experiment`."""
        return str(self.identity["protocol"]["relevance"])

    @property
    def ties(self) -> str:
        """The rule for equal scores, see `Experiment`."""
        return str(self.identity["protocol"]["ties"])

    @property
    def search_key(self) -> str | None:
        """Key of the search that the cells of all seeds share."""
        if self.method.tuning is None:
            return None
        return key_of({"search": {k: part for k, part in self.identity.items() if k != "seed"}})


@dataclass(frozen=True)
class Outcome:
    """The outcome of a task: ``done``, ``failed``, ``skipped``, ``cached`` or ``busy``."""

    key: str
    status: str
    seconds: float = 0.0
    message: str = ""


def reason_of(error: Exception) -> str:
    """Return an error as one line, with its type unless its message is written for users."""
    words = " ".join(str(error).split())
    plain = isinstance(error, (Skip, ValueError, registry.RegistryError, FileNotFoundError))
    return words if plain and words else f"{type(error).__name__}: {words}"
