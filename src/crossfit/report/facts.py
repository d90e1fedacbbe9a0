"""Facts on a page in addition to figures: data, settings, versions, warnings, missing results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from crossfit import registry
from crossfit.experiment.keys import canonical
from crossfit.experiment.records import CellRecord, RunRecord
from crossfit.experiment.store import Store
from crossfit.metrics import (
    parse_metric,
)
from crossfit.report.boards import Group
from crossfit.report.format import (
    counted,
    short,
)
from crossfit.report.leaderboard import Board

__all__ = [
    "Problem",
    "about_environment",
    "facts_of",
    "lead_of",
    "licences_of",
    "notes_of",
    "problems_of",
    "yaml_of",
]


@dataclass(frozen=True)
class Problem:
    """A cell without a result, with the reason."""

    label: str
    dataset: str
    seed: int
    status: str
    reason: str
    traceback: str = ""


def lead_of(records: Sequence[RunRecord], found: Sequence[Board]) -> str:
    """Return the first sentence of a page, on what was compared and how much is missing."""
    cells = {cell.key: cell for record in records for cell in record.cells}
    done = sum(cell.status == "done" for cell in cells.values())
    methods = {row.label for board in found for row in board.rows}
    seeds = {cell.seed for cell in cells.values()}
    data = {canonical(cell.cell["dataset"]) for cell in cells.values() if cell.status == "done"}
    words = [
        counted(len(methods), "method"), f"on {counted(len(data), 'data set')}",
        f"with {counted(len(seeds), 'seed')}" if len(seeds) > 1 else "",
    ]  # fmt: skip
    lead = " ".join(word for word in words if word)
    rest = len(cells) - done
    return lead + (f"; {rest} of {len(cells)} cells have no result." if rest else ".")


def notes_of(store: Store, records: Sequence[RunRecord]) -> list[str]:
    """Return sentences with the number of evaluations on each test split, by all runs."""
    looks = {used: n for record in records for used, n in record.test_looks().items()}
    reported = {cell.key for record in records for cell in record.done}
    notes = []
    for (dataset, split), n in sorted(looks.items(), key=str):
        own = len({row["key"] for row in store.test_evaluations(dataset, split)} & reported)
        notes.append(
            f"This store has {counted(n, 'evaluation')} on the split “{split}” of {dataset}; this "
            f"report includes {own} of them. The more evaluations there are on a test split, the "
            "more optimistic is the best figure on it."
        )
    return notes


def problems_of(records: Sequence[RunRecord]) -> list[Problem]:
    """Return the cells that have no result, with the reasons."""
    found = {}
    for record in records:
        for cell in record.cells:
            if cell.status == "done":
                continue
            found[cell.key, cell.label] = Problem(
                cell.label, cell.dataset, cell.seed, cell.status, cell.problem, cell.traceback
            )
    return list(found.values())


def facts_of(records: Sequence[RunRecord], groups: Sequence[Group]) -> list[tuple[str, str]]:
    """Return further facts as pairs of a term and a text: commands, data, settings, versions."""
    facts = []
    for record in records:
        if record.command:
            facts.append(("repeat", record.command))
        facts.append(("run", f"{record.name}, {record.created}, crossfit {record.version}"))
    named = [
        (label, cell)
        for _, methods, _ in groups
        for label, method in methods.items()
        for cell in method.cells
    ]
    done = {cell.key: cell for _, cell in named}.values()
    for text in dict.fromkeys(_about_data(cell) for cell in done):
        facts.append(("data", text))
    for text in dict.fromkeys(f"{cell.dataset}: {cell.features}" for cell in done if cell.features):
        facts.append(("features", text))
    for text in dict.fromkeys(about_method(label, cell) for label, cell in named):
        facts.append(("method", text))
    protocols = dict.fromkeys(_about_protocol(cell) for cell in done)
    facts += [("protocol", text) for text in protocols]
    for text in dict.fromkeys(about_environment(cell.environment) for cell in done):
        facts.append(("versions", text))
    warned = [f"{label}, seed {cell.seed}: {words}" for label, cell in named
              for words in cell.warnings]  # fmt: skip
    if warned:
        more = "" if len(warned) <= 20 else f"\nand {len(warned) - 20} more, in the store"
        facts.append(("warnings", "\n".join(warned[:20]) + more))
    times = [cell.timing.get("total") for cell in done]
    facts.append(("time", f"{sum(t for t in times if t):.1f} s in {counted(len(times), 'cell')}"))
    return facts


def yaml_of(spec: Mapping[str, Any]) -> str:
    """Return an experiment as YAML."""
    import yaml

    return yaml.safe_dump(dict(spec), sort_keys=False, allow_unicode=True, width=100)


def licences_of(records: Sequence[RunRecord]) -> str:
    """Return the licences of the data sets, whose pictures and texts are on the page."""
    found = {}
    for name in {cell.cell["dataset"]["name"]: None for run in records for cell in run.done}:
        with suppress(registry.RegistryError):  # a table of the user's own
            found[name] = registry.get(name, "crossfit.datasets").licence
    return "\n".join(f"Data set {name}: {words}." for name, words in found.items() if words)


def _about_data(cell: CellRecord) -> str:
    keyed = cell.cell["dataset"]
    splits = ", ".join(f"{role} = {name}" for role, name in (keyed.get("splits") or {}).items())
    parts = [f"{keyed['name']}, revision {keyed.get('revision')}", splits]
    for name, words in (("params", "options"), ("subset", "subset")):
        if keyed.get(name):
            parts.append(
                f"{words} " + ", ".join(f"{k} = {short(v)}" for k, v in keyed[name].items())
            )
    return "; ".join(part for part in parts if part)


def about_method(label: str, cell: CellRecord) -> str:
    """Return the distribution, version and parameters of a method, and how they were chosen."""
    words = f"{label}: {_about_settings(cell.cell['method'])}"
    if cell.chosen:
        chosen = ", ".join(f"{k}={short(v)}" for k, v in cell.chosen.items())
        on = cell.tuning.get("on", "the training pairs")
        metric, best = cell.tuning.get("metric"), cell.tuning.get("best_value")
        if metric and best is not None and not parse_metric(metric).greater_is_better:
            best = -best  # a search maximises
        words += (
            f"; chosen on {on}: {chosen} (best of {cell.tuning.get('trials')} trials by "
            f"{metric}, {short(best)})"
        )
    return words


def _about_settings(keyed: Mapping[str, Any]) -> str:
    params = ", ".join(f"{k}={short(v)}" for k, v in (keyed.get("params") or {}).items())
    words = f"{keyed.get('distribution')}:{keyed['name']} {keyed.get('version')}"
    words += f" ({params})" if params else ""
    if keyed.get("similarity"):
        words += f", similarity {short(keyed['similarity'])}"
    for name, member in (keyed.get("members") or {}).items():
        words += f"; member {name}: {_about_settings(member)}"
    return words


def _about_protocol(cell: CellRecord) -> str:
    protocol = cell.cell.get("protocol") or {}
    return (
        f"relevance {protocol.get('relevance')}, ties {protocol.get('ties')}; settings were chosen "
        "without the test split"
    )


def about_environment(about: Mapping[str, Any]) -> str:
    """Return the versions and the platform of an environment, in words."""
    packages = ", ".join(f"{name} {version}" for name, version in
                         sorted((about.get("packages") or {}).items()))  # fmt: skip
    # Networks on the processor need no mention; old cells do not have the entry.
    devices = "".join(f", {name}" for name in about.get("devices") or () if name != "cpu")
    return f"Python {about.get('python')}, {packages}; {about.get('platform')}{devices}"
