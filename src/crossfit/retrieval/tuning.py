"""Recall and speed of approximate indexes, by their settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crossfit._figures import ShownFigure
from crossfit._frames import frame_of
from crossfit._html import html_table

__all__ = ["Tuning", "measured_series"]

# A series of settings gives way to the next where twice the effort finds less than this more.
_LEAST_GAIN = 0.002


@dataclass(frozen=True, eq=False, repr=False)
class Tuning:
    """Recall and speed of an index for several settings, and the one that was chosen.

    Parameters
    ----------
    kind : str
        Kind of the index.
    k : int
        Number of results per query.
    target : float
        Share of the exact results that was to be found.
    n_queries : int
        Number of queries in the sample.
    rows : list of dict
        For each setting: ``settings``, ``recall`` (mean share of the exact results), ``low`` (lower
        end of its 95% interval over queries) and ``per_second`` (queries per second).
    exact_per_second : float
        Queries per second of the exact search.
    chosen : int or None
        Row whose settings the index has now: the fastest with ``low`` at the target. None if there
        is none; the index then has the settings of the highest recall.

    See Also
    --------
    Index.tune : Returns it.

    Examples
    --------
    >>> rows = [{"settings": {"efSearch": 16}, "recall": 0.97, "low": 0.96, "per_second": 900.0}]
    >>> print(Tuning("hnsw", 10, 0.95, 200, rows, 30.0, 0))
    settings     recall@10  (low)  queries/s
    efSearch=16      0.970  0.960        900  chosen
    exact            1.000  1.000         30
    """

    kind: str
    k: int
    target: float
    n_queries: int
    rows: list[dict[str, Any]]
    exact_per_second: float
    chosen: int | None

    @property
    def met(self) -> bool:
        """Return whether the target is met."""
        return self.chosen is not None

    @property
    def shortfall(self) -> str:
        """Return a sentence on what is reached if the target is not met, otherwise empty."""
        if self.met:
            return ""
        row = max(self.rows, key=lambda row: row["recall"])
        return (
            f"no settings reach {self.target:g}; the best, {_named(row['settings'])}, find "
            f"{row['recall']:.3f} of the exact results, {row['low']:.3f} at least"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the values as JSON has them."""
        return dict(vars(self))

    def _title(self) -> str:
        return f"Tuning of {self.kind} with {self.n_queries} queries, target {self.target:g}"

    def to_frame(self) -> Any:
        """Return a pandas DataFrame with a row for each setting and one for the exact search.

        Returns
        -------
        pandas.DataFrame
            Columns ``settings, recall, low, per_second`` and ``chosen``; pandas must be installed.
        """
        exact = {"settings": "exact", "recall": 1.0, "low": 1.0}
        rows = [{**row, "settings": _named(row["settings"])} for row in self.rows]
        rows.append({**exact, "per_second": self.exact_per_second})
        return frame_of([{**row, "chosen": i == self.chosen} for i, row in enumerate(rows)])

    def _repr_html_(self) -> str:
        rows: list[tuple[Any, ...]] = [
            (_named(row["settings"]), row["recall"], row["low"], row["per_second"],
             "chosen" if i == self.chosen else "")
            for i, row in enumerate(self.rows)
        ]  # fmt: skip
        rows.append(("exact", 1.0, 1.0, self.exact_per_second, ""))
        head = ("settings", f"recall@{self.k}", "low", "queries/s", "")
        return html_table(self._title(), head, rows)

    def __repr__(self) -> str:
        return f"{self._title()}\n{self}"

    def __str__(self) -> str:
        named = [
            (_named(row["settings"]), row["recall"], row["low"], row["per_second"])
            for row in self.rows
        ]
        named.append(("exact", 1.0, 1.0, self.exact_per_second))
        width = max(len(name) for name, *_ in named)
        lines = [f"{'settings':{width}}  recall@{self.k:<2}  (low)  queries/s"]
        for at, (name, recall, low, speed) in enumerate(named):
            mark = "  chosen" if at == self.chosen else ""
            lines.append(f"{name:{width}}  {recall:9.3f}  {low:.3f}  {speed:9,.0f}{mark}")
        return "\n".join([*lines, *filter(None, [self.shortfall])])

    def figure(self) -> ShownFigure:
        """Return the curve of recall and queries per second."""
        figure = ShownFigure(figsize=(5.5, 3.6), layout="constrained")
        axes = figure.subplots()
        recalls = [row["recall"] for row in self.rows]
        speeds = [row["per_second"] for row in self.rows]
        axes.plot(recalls, speeds, "o-", color="C0", label=self.kind)
        axes.plot([1], [self.exact_per_second], "s", color="C1", label="exact")
        axes.axvline(self.target, color="0.6", linestyle=":", label=f"target {self.target:g}")
        if self.chosen is not None:
            row = self.rows[self.chosen]
            axes.annotate(
                _named(row["settings"]),
                (row["recall"], row["per_second"]),
                textcoords="offset points",
                xytext=(-6, 8),
                ha="right",
            )
            axes.plot([row["recall"]], [row["per_second"]], "o", color="C3", label="chosen")
        axes.set_yscale("log")
        axes.set_xlabel(f"recall@{self.k} of the exact results")
        axes.set_ylabel("queries per second")
        axes.legend(frameon=False)
        return figure


def _named(settings: dict[str, int]) -> str:
    return ", ".join(f"{name}={value}" for name, value in settings.items())


def measured_series(
    every: Sequence[Sequence[Mapping[str, int]]],
    measure: Callable[[Mapping[str, int]], dict[str, Any]],
    target: float,
) -> list[dict[str, Any]]:
    """Return what was measured until settings meet a target and no faster ones are left.

    Parameters
    ----------
    every : sequence of sequence of mapping
        Series of settings, each with more effort than the one before.
    measure : callable
        Returns a row of `Tuning` for settings.
    target : float
        Share of the exact results that the lower end of the interval must reach.

    Returns
    -------
    list of dict
        Rows of `Tuning`.
    """
    measured: list[dict[str, Any]] = []
    skipped = 0
    for series in every:
        met = [row for row in measured if row["low"] >= target]
        own: list[dict[str, Any]] = []
        for settings in series[skipped:]:
            # After a series that met the target, the next one can be faster with fewer lists.
            if met and settings["nprobe"] >= met[-1]["settings"]["nprobe"]:
                break
            before = own[-1]["recall"] if own else -1.0
            own.append(measure(settings))
            recall = own[-1]["recall"]
            if own[-1]["low"] >= target or recall == 1:
                break
            if series is not every[-1] and recall - before < _LEAST_GAIN:
                break
        measured += own
        if met:
            break
        # What few lists do not have, more candidates do not find.
        most = max(row["recall"] for row in own)
        skipped += next(at for at, row in enumerate(own) if row["recall"] >= 0.9 * most)
    return measured
