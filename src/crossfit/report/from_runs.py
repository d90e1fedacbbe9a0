"""From the store to the report: runs become leaderboards, galleries, tables and one page."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crossfit.experiment.files import StoreError
from crossfit.experiment.keys import canonical
from crossfit.experiment.records import CellRecord, RunRecord
from crossfit.experiment.store import Store
from crossfit.extraction import grid_boxes
from crossfit.extraction.formats import PICTURE_SUFFIXES
from crossfit.labels import is_unlabelled
from crossfit.metrics import Evaluation, Repeats, parse_metric
from crossfit.metrics.directions import Direction, spellings
from crossfit.metrics.evaluation import PerQuery
from crossfit.report import figures
from crossfit.report.leaderboard import Board, Row, metric_words
from crossfit.report.markdown import markdown_page
from crossfit.report.page import (
    Attention,
    Found,
    Gallery,
    GalleryRow,
    Part,
    Problem,
    data_uri,
    lit,
    write_page,
    write_text,
)
from crossfit.report.tables import csv_table, latex_table

__all__ = ["boards", "report_runs"]

#: Queries of each kind in a gallery, and items shown of each.
_HITS, _FAILURES, _SHOWN = 3, 3, 6
_LONGEST = 180
#: Longest side of an attention map in pixels.
_MAP = 240


def report_runs(
    runs: Sequence[str],
    store: Store | str | os.PathLike[str] = "crossfit-runs",
    out: str | os.PathLike[str] = "crossfit-report",
    *,
    root: str | os.PathLike[str] | None = None,
) -> Path:
    """Report runs: a self-contained page, and tables in Markdown, LaTeX and CSV.

    Parameters
    ----------
    runs : sequence of str
        Names of runs in the store. Methods on the same test queries share a leaderboard, and
        seeds of one method a row, whichever run has them.
    store : Store or path
        Where the results are.
    out : path
        Folder of ``report.html``, ``leaderboard.md``, ``leaderboard.tex`` and ``leaderboard.csv``.
    root : path, optional
        Folder of the data sets, for the gallery; by default that of the run, or else
        ``CROSSFIT_DATA``. Without the data the report says so and has no gallery.

    Returns
    -------
    pathlib.Path
        The page.

    Raises
    ------
    StoreError
        If a run is not in the store, or none of its cells is done.
    """
    store = store if isinstance(store, Store) else Store(store)
    records = [store.run(name) for name in dict.fromkeys(runs)]
    groups = _groups(records)
    if not groups:
        raise StoreError(
            f"no cell of {', '.join(record.name for record in records)} is done: run it first"
        )
    parts = [_part(*group, root) for group in groups]
    found = [part.board for part in parts]
    title = " + ".join(record.title for record in records)
    reduced = [record.title for record in records if record.spec.get("reduced")]
    if reduced and "reduced" not in title.lower():
        title += " (reduced)"
    folder = Path(out)
    page = folder / "report.html"
    notes, facts = _notes(store, records), _facts(records, groups)
    write_page(
        page,
        title=title,
        lead=_lead(records, found),
        parts=parts,
        reduced="Data or sizes are below the published ones; what is found here holds for these "
        "sizes only." if reduced else "",
        notes=notes,
        problems=_problems(records),
        facts=facts,
        sources=[(record.name, _yaml(record.spec)) for record in records],
    )  # fmt: skip
    write_text(folder / "leaderboard.md", markdown_page(records, found, title, facts, notes))
    write_text(folder / "leaderboard.tex", "\n".join(latex_table(board) for board in found))
    write_text(folder / "leaderboard.csv", csv_table(found))
    return page


def boards(records: Sequence[RunRecord]) -> list[Board]:
    """Return the leaderboards of runs, one for each set of test queries.

    Parameters
    ----------
    records : sequence of RunRecord
        The runs.
    """
    return [_board(*group) for group in _groups(records)]


# ---------------------------------------------------------------- leaderboards


@dataclass(frozen=True)
class _Method:
    """A row of a leaderboard to be.

    Its cells differ in their seed alone; `said` is what an experiment says of the method, and
    `called` the runs that have it, with their labels.
    """

    cells: list[CellRecord]
    said: Mapping[str, Any]
    called: set[tuple[str, str]]


_Methods = dict[str, _Method]
_Held = list[tuple[RunRecord, CellRecord]]
#: What a leaderboard is made of: its title, the methods, and the runs that have them.
_Group = tuple[str, _Methods, list[RunRecord]]


def _groups(records: Sequence[RunRecord]) -> list[_Group]:
    """Gather done cells by test queries and then by method: what one leaderboard compares."""
    kinds: dict[str, dict[str, _Held]] = {}
    for record in dict.fromkeys(records):
        for cell in record.done:
            protocol = cell.cell.get("protocol", {})
            kind = canonical(
                [cell.cell.get("dataset"), protocol.get("relevance"), protocol.get("ties")]
            )
            method = canonical({**cell.cell, "seed": None})
            kinds.setdefault(kind, {}).setdefault(method, []).append((record, cell))
    found = []
    for methods in kinds.values():
        held = [pair for pairs in methods.values() for pair in pairs]
        found.append((held[0][1].dataset, _named(methods), list(dict.fromkeys(r for r, _ in held))))
    # Runs may ask other things of one data set: other subsets, another relevance.
    clashes = Counter(title for title, _, _ in found)
    return [
        (title if clashes[title] == 1 else f"{title} ({', '.join(run.name for run in runs)})",
         methods, runs)
        for title, methods, runs in found
    ]  # fmt: skip


def _named(methods: Mapping[str, _Held]) -> _Methods:
    """Name methods by their labels; a label that runs give to different ones names the run too.

    What one run has under several labels has a row for each; what several runs have has one row.
    """
    rows = []
    for held in methods.values():
        labels: dict[RunRecord, dict[str, None]] = {}
        for run, cell in held:
            labels.setdefault(run, {})[cell.label] = None
        namer = max(labels, key=lambda run: len(labels[run]))
        rows += [(label, namer, held) for label in labels[namer]]
    clashes = Counter(label for label, _, _ in rows)
    found = {}
    for label, namer, held in rows:
        cells = {cell.cell.get("seed"): cell for _, cell in reversed(held)}
        own = [
            (run, cell.label) for run, cell in held if cell.label == label or run.name != namer.name
        ]
        said = [
            # What was published is of the experiment's data, not of the user's own.
            method if run.data is None else {**method, "published": {}}
            for run, name in own
            for method in run.spec.get("methods", ())
            if method["label"] == name
        ]
        found[label if clashes[label] == 1 else f"{label} ({namer.name})"] = _Method(
            sorted(cells.values(), key=lambda cell: cell.seed),
            next((each for each in said if each.get("published")), said[0] if said else {}),
            {(run.name, name) for run, name in own},
        )
    return found


def _board(title: str, methods: _Methods, records: Sequence[RunRecord]) -> Board:
    cells = [cell for method in methods.values() for cell in method.cells]
    first = cells[0]
    # Methods may take other views of the same data.
    directions = [each for each in first.directions if all(each in cell.results for cell in cells)]
    metrics = [
        metric
        for metric in dict.fromkeys(metric for record in records for metric in record.metrics)
        if all(metric in cell.results[name] for cell in cells for name in directions)
    ]
    if not directions or not metrics:
        raise StoreError(
            f"{', '.join(record.name for record in records)} have no "
            f"{'metric' if directions else 'direction'} in common on {title}: report them "
            "one by one"
        )
    several = len({cell.features for cell in cells}) > 1
    rows = [_row(label, method, metrics, directions, several) for label, method in methods.items()]
    chance = {
        (direction, parse_metric(metric).name): value
        for direction, by_metric in first.chance.items()
        for metric, value in by_metric.items()
        if value is not None
    }
    about, baseline = _about(first, metrics), None
    left_out = {each.label: None for cell in cells for each in cell.directions
                if each not in directions}  # fmt: skip
    if left_out:
        about += f" Not all methods have {', '.join(left_out)}: left out, also of the means."
    wish = next(((run.name, run.spec["baseline"]) for run in records
                 if run.spec.get("baseline")), None)  # fmt: skip
    if wish is not None:
        baseline = next((label for label, each in methods.items() if wish in each.called), None)
        if baseline is None:
            about += f" The baseline, {wish[1]}, has no result here: p is against the best method."
    known = {name: label for label, each in methods.items() for name in each.called}
    asked = [
        (known[record.name, first], known[record.name, second])
        for record in records
        for first, second in record.spec.get("comparisons", ())
        if {(record.name, first), (record.name, second)} <= known.keys()
    ]
    return Board(title, rows, metrics, about, chance, baseline, asked)


def _row(
    label: str,
    method: _Method,
    metrics: Sequence[str],
    directions: Sequence[Direction],
    several: bool,
) -> Row:
    cells, spec = method.cells, method.said
    first = cells[0]
    given = spec.get("params", {})
    settings = ", ".join(
        f"{name}={_short(value)}" for name, value in {**given, **first.chosen}.items()
    )
    how = "; tuned" if first.chosen else ""
    detail = "; ".join(part for part in (first.features if several else "", settings) if part)
    keyed = first.cell.get("method", {})
    return Row(
        label,
        Repeats([_evaluation(cell, metrics, directions) for cell in cells]),
        detail + how,
        tuple(cell.seed for cell in cells),
        keyed.get("name", ""),
        {**keyed.get("params", {}), **first.chosen, "features": first.cell.get("features"),
         "similarity": keyed.get("similarity")},
        _published(spec.get("published") or {}, first),
        _curves(cells, metrics[0]),
        {
            **{name: _mean(cell.timing.get(name) for cell in cells) for name in ("fit", "score")},
            "tune": _mean(cell.tuning.get("seconds") for cell in cells),
            "peak": _mean(cell.memory.get("peak_rss_mib") for cell in cells),
        },
        {name: _mean(cell.size.get(name) for cell in cells)
         for name in ("parameters", "dimensions")},
        {
            direction: {
                name: _mean(cell.hubness.get(direction, {}).get(name) for cell in cells)
                for name in ("skewness", "max", "never")
            }
            for direction in first.hubness
        },
        {cell.seed: cell.history() for cell in cells},
        first.trials(),
        spec.get("note", ""),
    )  # fmt: skip


def _curves(cells: Sequence[CellRecord], main: str) -> dict[str, dict[str, Any]]:
    """Average curves over the seeds, as figures are; precision where it is of the main metric."""
    first = cells[0]
    found: dict[str, dict[str, Any]] = {}
    for direction, kinds in first.curves.items():
        for kind, (x, _) in kinds.items():
            of = first.relevant.get(f"{kind} curve")
            if kind == "pr" and of not in (None, first.relevant.get(main)):
                continue  # other items are relevant there
            y = np.mean([cell.curves[direction][kind][1] for cell in cells], axis=0)
            found.setdefault(direction, {})[kind] = (x, y.tolist())
    return found


def _evaluation(
    cell: CellRecord, metrics: Sequence[str], directions: Sequence[Direction]
) -> Evaluation:
    """Build the evaluation that a cell was stored from."""
    arrays = cell.arrays()
    try:
        values = {
            (direction, metric): np.asarray(arrays[f"{direction}|{metric}"], np.float64)
            for direction in directions
            for metric in metrics
        }
        raw = {direction: arrays[f"{direction}|groups"] for direction in directions}
    except KeyError as error:
        raise StoreError(f"{cell.folder}: arrays.npz has no {error}") from None
    # One numbering over the directions, so that both are resampled together.
    known = np.unique(np.concatenate(list(raw.values())))
    groups: dict[str, Any] = {each: np.searchsorted(known, codes) for each, codes in raw.items()}
    ties = cell.cell.get("protocol", {}).get("ties", "expected")
    return Evaluation(PerQuery(values), tuple(directions), tuple(metrics), ties, 0.95, 0, groups)


def _published(
    said: Mapping[str, Mapping[str, float]], cell: CellRecord
) -> dict[tuple[str | None, str], float]:
    known = spellings(cell.directions)
    return {
        (None if direction == "mean" else known.get(direction, direction),
         parse_metric(metric).name): float(value)
        for metric, by_direction in said.items()
        for direction, value in by_direction.items()
    }  # fmt: skip


def _mean(values: Iterable[Any]) -> float:
    kept = [float(value) for value in values if value is not None]
    return float(np.mean(kept)) if kept else math.nan


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, Mapping):
        if "name" in value:
            return str(value["name"]).rpartition(".")[2]
        value = ", ".join(f"{name}: {_short(part)}" for name, part in value.items())
    elif isinstance(value, (list, tuple)):
        value = ", ".join(map(_short, value))
    text = str(value)
    return text if len(text) <= 40 else text[:39] + "…"


def _about(cell: CellRecord, metrics: Sequence[str]) -> str:
    keyed = cell.cell.get("dataset", {})
    split = (keyed.get("splits") or {}).get("test") or "test"
    sizes = ", ".join(f"{n} {view} items" for view, n in (cell.n.get("test") or {}).items())
    words = [f"Evaluated on the split “{split}”: {sizes}; trained on {cell.n.get('train')} pairs."]
    relevant = cell.relevant
    by_label = [metric_words(metric) for metric in metrics if relevant.get(metric) == "label"]
    by_pair = [metric_words(metric) for metric in metrics if relevant.get(metric) == "pair"]
    if by_label:
        words.append(f"{', '.join(by_label)}: an item is relevant if it shares the query's label.")
    if by_pair:
        words.append(f"{', '.join(by_pair)}: only the query's own pair is relevant.")
    for direction in cell.directions:
        found = cell.results[direction]
        whole = (cell.n.get("test") or {}).get(direction.query, 0)
        few: dict[int, list[str]] = {}
        for metric in metrics:
            few.setdefault(found[metric].get("n", whole), []).append(metric_words(metric))
        words += [
            f"{', '.join(names)}, {direction.label}: over the {n} of {whole} queries with "
            "something to find."
            for n, names in few.items()
            if n < whole
        ]
    return " ".join(words)


# ---------------------------------------------------------------- galleries


def _part(
    title: str,
    methods: _Methods,
    records: Sequence[RunRecord],
    root: str | os.PathLike[str] | None,
) -> Part:
    board = _board(title, methods, records)
    best = methods[board.rows[0].label].cells[0]
    curve = "a relevant item" if best.relevant.get("recall curve") == "label" else "their own pair"
    try:
        run = next(run for run in records if best.key in {cell.key for cell in run.done})
        test, names = _test_split(best, run, None if root is None else str(root))
    except (OSError, ValueError, LookupError, ImportError) as error:
        why = " ".join(str(error).split())
        return Part(board, gallery_note=f"No gallery, for want of the data: {why}", relevant=curve)
    galleries = _galleries(best, test, names)
    note = f"Answered by {board.rows[0].label}, the first of the leaderboard"
    note += f" (seed {best.seed})." if len(board.rows[0].seeds) > 1 else "."
    hidden = [name for name in test.views.names if not _can_be_shown(test, name)]
    if hidden:
        note += f" The data has features of {' and '.join(hidden)} only, so items are named."
    maps = [
        each
        for row in board.rows
        for each in _attention(row.label, methods[row.label].cells[0], test)
    ]
    return Part(board, galleries, note, maps, curve, test.y is not None)


def _test_split(cell: CellRecord, run: RunRecord, root: str | None) -> tuple[Any, Any]:
    """Load the test split of a cell of a run again, and the names of its classes."""
    from crossfit.experiment.data import dataset_of, load_splits

    if run.data is not None and not Path(run.data).is_file():
        raise FileNotFoundError(f"the table {run.data} is no longer there")
    loaded = load_splits({**dataset_of(cell.cell), "own": run.data}, root or run.root)
    keyed = cell.cell["dataset"]
    if loaded.dataset.revision != keyed.get("revision"):
        raise ValueError(
            f"{run.data or keyed['name']} has changed: it is there in revision "
            f"{loaded.dataset.revision}, the run had {keyed.get('revision')}"
        )
    return loaded.splits["test"], loaded.dataset.target_names


def _galleries(cell: CellRecord, test: Any, names: Any) -> list[Gallery]:
    arrays = cell.arrays()
    rng = np.random.RandomState(0)
    found = []
    for direction in cell.directions:
        query, gallery = direction.query, direction.gallery
        top = arrays.get(f"{direction}|top")
        first = arrays.get(f"{direction}|first")
        if top is None or first is None:
            continue
        verdict = _verdicts(test, query, gallery)
        shown = {name: _shower(test, name, names) for name in (query, gallery)}
        hits = np.flatnonzero(first <= 1)
        chosen = rng.permutation(hits)[:_HITS]
        late = np.flatnonzero(first > 1)
        worst = late[np.argsort(-first[late], kind="stable")][:_FAILURES]
        n = np.isfinite(first).sum()  # the others have nothing to find
        own = "own" if cell.relevant.get("first", "pair") == "pair" else "first relevant"
        for kind, queries, note in (
            ("hits", chosen, f"Drawn at random (seed 0) from the {len(hits)} of {n} queries "
             "whose first item is relevant."),
            ("worst failures", worst, "The queries with the largest rank of a relevant item."),
        ):  # fmt: skip
            rows = []
            for q in queries.tolist():
                answers = [
                    (*shown[gallery](item), verdict(q, item)) for item in top[q][:_SHOWN].tolist()
                ]
                text, picture = shown[query](q)
                found_ = [Found(words, pixels, said) for words, pixels, said in answers]
                rows.append(GalleryRow(text, picture, float(first[q]), found_))
            if rows:
                title = f"{direction.label}: {kind}"
                found.append(Gallery(title, rows, f"{own} {gallery}", note))
    return found


def _verdicts(test: Any, query: str, gallery: str) -> Any:
    pairs = test.views.relevance(query, gallery)
    labels = None
    if test.y is not None:
        labels = [test.views.item_labels(name, test.y) for name in (query, gallery)]

    def verdict(q: int, item: int) -> str:
        if item in pairs.indices[pairs.indptr[q] : pairs.indptr[q + 1]]:
            return "pair"
        if labels is None:
            return "wrong"
        a, b = labels[0][q], labels[1][item]
        same = bool((a * b).any()) if np.ndim(a) else bool(a == b and not is_unlabelled(a))
        return "relevant" if same else "wrong"

    return verdict


def _can_be_shown(test: Any, name: str) -> bool:
    value = test.views.distinct(name)[0][0]
    return isinstance(value, str) or _is_picture(value)


def _is_picture(value: Any) -> bool:
    if isinstance(value, str):
        path = Path(value)
        return path.suffix.lower() in PICTURE_SUFFIXES and path.is_file()
    return isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim == 3


def _attention(label: str, cell: CellRecord, test: Any) -> list[Attention]:
    """Return the maps that a cell kept, on the pictures and in the words where they are known."""
    found = []
    for kept in cell.attention():
        weights = np.atleast_2d(np.asarray(kept["weights"], np.float64))
        text, view = str(kept.get("query", "")), str(kept.get("view", ""))
        caption = ": ".join(part for part in (label, view, _clipped(text)) if part)
        boxes = kept.get("regions")
        side = math.isqrt(weights.shape[1])
        if boxes is None and ("grid" in kept or side * side == weights.shape[1]):
            # Without boxes a square number of regions is a square grid, as for `make_regions`.
            boxes = grid_boxes(*(int(n) for n in kept.get("grid", (side, side))))
        words = [str(word) for word in kept.get("words", ())]
        mean = weights.mean(axis=0)
        share = mean / max(float(mean.max()), 1e-12)
        name = next((name for name in test.views.names if _is_picture(
            test.views.distinct(name)[0][0])), None)  # fmt: skip
        if words and len(words) == len(mean):
            found.append(Attention(caption, words=list(zip(words, share.tolist()))))
        elif boxes is not None and len(boxes) == len(mean) and name is not None:
            image = test.views.distinct(name)[0][int(kept["item"])]
            found.append(Attention(caption, data_uri(lit(image, mean, boxes), _MAP)))
        elif words and len(words) == len(weights):
            found.append(Attention(caption, svg=figures.attention(weights, words)))
    return found


def _shower(test: Any, name: str, classes: Any) -> Any:
    """Return what shows an item of a view: its text and its picture, as far as there are any."""
    values, _ = test.views.distinct(name)
    rows = test.views.first_rows(name)

    def shower(item: int) -> tuple[str, str]:
        value = values[item]
        label = ""
        if test.y is not None and np.ndim(test.y) == 1:
            y = test.y[rows[item]]
            label = "" if is_unlabelled(y) else str(y if classes is None else classes[int(y)])
        if isinstance(value, str):
            path = Path(value)
            if _is_picture(value):
                return _known(test, rows[item], name) or path.stem, data_uri(path)
            return _clipped(path.name if os.sep in value and path.is_file() else value), ""
        words = _known(test, rows[item], name) or f"{name} {item + 1}"
        picture = data_uri(value) if _is_picture(value) else ""
        return f"{words}, {label}" if label else words, picture

    return shower


def _known(test: Any, row: int, view: str) -> str:
    """Return what the data set calls a row: a name of that view before any other."""
    named = {key: values for key, values in test.info.items() if isinstance(values[row], str)}
    order = sorted(named, key=lambda key: (view not in key, list(named).index(key)))
    return _clipped(str(named[order[0]][row])) if order else ""


def _clipped(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1].rstrip() + "…"


# ---------------------------------------------------------------- what the page states


def _lead(records: Sequence[RunRecord], found: Sequence[Board]) -> str:
    cells = {cell.key: cell for record in records for cell in record.cells}
    done = sum(cell.status == "done" for cell in cells.values())
    methods = {row.label for board in found for row in board.rows}
    seeds = {cell.seed for cell in cells.values()}
    data = {canonical(cell.cell["dataset"]) for cell in cells.values() if cell.status == "done"}
    words = [
        _counted(len(methods), "method"), f"on {_counted(len(data), 'data set')}",
        f"with {_counted(len(seeds), 'seed')}" if len(seeds) > 1 else "",
    ]  # fmt: skip
    said = " ".join(word for word in words if word)
    rest = len(cells) - done
    return said + (f"; {rest} of {len(cells)} cells have no result." if rest else ".")


def _counted(n: int, word: str) -> str:
    return f"{n} {word}" + ("" if n == 1 else "s")


def _notes(store: Store, records: Sequence[RunRecord]) -> list[str]:
    """Say how often the test splits were looked at, by this and every other run of the store."""
    looks = {used: n for record in records for used, n in record.test_looks().items()}
    mine = {cell.key for record in records for cell in record.done}
    said = []
    for (dataset, split), n in sorted(looks.items(), key=str):
        own = len({row["key"] for row in store.test_evaluations(dataset, split)} & mine)
        said.append(
            f"In this store {_counted(n, 'evaluation')} on the split “{split}” of {dataset} "
            f"have been made so far; {own} of them are reported here. Each further look "
            "at a test split makes the best figure on it more optimistic."
        )
    return said


def _problems(records: Sequence[RunRecord]) -> list[Problem]:
    found = {}
    for record in records:
        for cell in record.cells:
            if cell.status == "done":
                continue
            last = cell.traceback.strip().splitlines()[-1:] or [""]
            reason = cell.reason or last[0] or "not run yet, or interrupted"
            found[cell.key, cell.label] = Problem(
                cell.label, cell.dataset, cell.seed, cell.status, reason, cell.traceback
            )
    return list(found.values())


def _facts(records: Sequence[RunRecord], groups: Sequence[_Group]) -> list[tuple[str, str]]:
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
    for text in dict.fromkeys(_about_method(label, cell) for label, cell in named):
        facts.append(("method", text))
    protocols = dict.fromkeys(_about_protocol(cell) for cell in done)
    facts += [("protocol", text) for text in protocols]
    for text in dict.fromkeys(_about_environment(cell) for cell in done):
        facts.append(("versions", text))
    said = [f"{label}, seed {cell.seed}: {words}" for label, cell in named
            for words in cell.warnings]  # fmt: skip
    if said:
        more = "" if len(said) <= 20 else f"\nand {len(said) - 20} more, in the store"
        facts.append(("warnings", "\n".join(said[:20]) + more))
    times = [cell.timing.get("total") for cell in done]
    facts.append(("time", f"{sum(t for t in times if t):.1f} s in {_counted(len(times), 'cell')}"))
    return facts


def _yaml(spec: Mapping[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(dict(spec), sort_keys=False, allow_unicode=True, width=100)


def _about_data(cell: CellRecord) -> str:
    keyed = cell.cell["dataset"]
    splits = ", ".join(f"{role} = {name}" for role, name in (keyed.get("splits") or {}).items())
    parts = [f"{keyed['name']}, revision {keyed.get('revision')}", splits]
    for name, words in (("params", "options"), ("subset", "subset")):
        if keyed.get(name):
            parts.append(
                f"{words} " + ", ".join(f"{k} = {_short(v)}" for k, v in keyed[name].items())
            )
    return "; ".join(part for part in parts if part)


def _about_method(label: str, cell: CellRecord) -> str:
    keyed = cell.cell["method"]
    params = ", ".join(f"{k}={_short(v)}" for k, v in (keyed.get("params") or {}).items())
    words = f"{label}: {keyed.get('distribution')}:{keyed['name']} {keyed.get('version')}"
    words += f" ({params})" if params else ""
    if keyed.get("similarity"):
        words += f", similarity {_short(keyed['similarity'])}"
    if cell.chosen:
        chosen = ", ".join(f"{k}={_short(v)}" for k, v in cell.chosen.items())
        on = cell.tuning.get("on", "the training pairs")
        metric, best = cell.tuning.get("metric"), cell.tuning.get("best_value")
        if metric and best is not None and not parse_metric(metric).greater_is_better:
            best = -best  # a search maximises
        words += (
            f"; chosen on {on}: {chosen} (best of {cell.tuning.get('trials')} trials by "
            f"{metric}, {_short(best)})"
        )
    return words


def _about_protocol(cell: CellRecord) -> str:
    protocol = cell.cell.get("protocol", {})
    return (
        f"relevance {protocol.get('relevance')}, ties {protocol.get('ties')}; settings are chosen "
        "without the test split"
    )


def _about_environment(cell: CellRecord) -> str:
    about = cell.environment
    packages = ", ".join(f"{name} {version}" for name, version in
                         sorted((about.get("packages") or {}).items()))  # fmt: skip
    return f"Python {about.get('python')}, {packages}; {about.get('platform')}"
