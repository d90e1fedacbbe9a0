"""Write a page of docs/reproduction for each shipped experiment that a store has a run of.

crossfit run shallow-wikipedia --root FOLDER
crossfit run flickr8k-dev --root FOLDER
python docs/tables/experiments.py --store crossfit-runs
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crossfit.experiment import RunRecord, Store
from crossfit.report.boards import boards
from crossfit.report.leaderboard import Board

OUT = Path(__file__).parents[1] / "reproduction"
LEVEL = 0.05
# Rasiwasia et al., ACM MM 2010, the same features and split; and what we hoped to reach.
SCM, AIM = 0.2515, 0.32


def figure(value: float, digits: int = 3) -> str:
    """Return a number, or a dash for none."""
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def settings(cell: Any) -> str:
    """Return the chosen settings in one line."""

    def word(value: Any) -> str:
        if isinstance(value, Mapping):
            return ", ".join(f"{key} {word(part)}" for key, part in value.items())
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    return "; ".join(f"`{name}` {word(value)}" for name, value in cell.chosen.items()) or "–"


def leaderboard(board: Board, metrics: tuple[str, ...]) -> list[str]:
    """Return the table of test results, best first."""
    directions = board.directions
    arrows = [direction.label for direction in directions]
    heads = [f"{metric} {arrow}" for metric in metrics for arrow in arrows]
    published = any(row.published for row in board.rows)
    main = board.metric
    lines = [
        f"| rank | method | {main}, mean | p | {' | '.join(heads)} |"
        + (" published |" if published else ""),
        "| --- | --- |" + " ---: |" * (2 + len(heads) + published),
    ]
    for row in board.rows:
        low, high = row.repeats.interval(None, main)
        first, last = board.ranks[row.label]
        p = board.p_value(row.label)
        values = [
            figure(row.repeats.mean(d, metric), 1 if metric == "medr" else 3)
            for metric in metrics
            for d in directions
        ]
        cells = [
            f"{first}–{last}" if first != last else str(first),
            row.label,
            f"{row.repeats.mean(None, main):.3f} [{low:.3f}, {high:.3f}]",
            "" if math.isnan(p) else f"{p:.3f}" if p >= 0.001 else "< .001",
            *values,
        ]
        if published:
            cells.append(" ".join(figure(row.published[d, main]) for d in directions
                                  if (d, main) in row.published))  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    chance = [board.chance.get((d, metric), math.nan) for metric in metrics for d in directions]
    mean = sum(board.chance[d, main] for d in directions) / len(directions)
    cells = ["", "chance", f"{mean:.3f}", "", *(
        figure(value, 1 if heads[i].startswith("medr") else 3) for i, value in enumerate(chance)
    )]  # fmt: skip
    lines.append("| " + " | ".join([*cells, *([""] if published else [])]) + " |")
    return lines


def chosen(record: RunRecord) -> list[str]:
    """Return the table of what tuning chose, on training pairs only."""
    lines = [
        "| method | trials | score of the folds | chosen | search s | fit s |",
        "| --- | ---: | ---: | --- | ---: | ---: |",
    ]
    for cell in record.done:
        about = cell.tuning
        lines.append(
            f"| {cell.label} | {about.get('trials', 0)} | {figure(about['best_value'])} | "
            f"{settings(cell)} | {about['seconds']:.0f} | {cell.timing['fit']:.1f} |"
        )
    return lines


def facts(record: RunRecord) -> list[str]:
    """Say how often the test pairs were looked at, and with what versions."""
    keys = {cell.key for cell in record.cells}
    first = record.done[0]
    split = first.cell["dataset"]["splits"]["test"]
    rows = record.store.test_evaluations(first.cell["dataset"]["name"], split)
    here = sum(row["key"] in keys for row in rows)
    packages = first.environment["packages"]
    versions = ", ".join(f"{name} {version}" for name, version in sorted(packages.items()))
    once = (
        f"The {len(record.done)} cells ranked the {split} pairs {here} times, once each."
        if here == len(record.done)
        else f"The {len(record.done)} cells ranked the {split} pairs {here} times."
    )
    lines = [once, f"Versions: {versions}, Python {first.environment['python']}."]
    failed = [cell for cell in record.cells if cell.status != "done"]
    for cell in failed:
        why = cell.reason or cell.traceback.strip().splitlines()[-1:]
        lines.append(f"Without a result: {cell.label} ({cell.status}: {why}).")
    return lines


def tied(board: Board) -> str:
    """Say which methods cannot be told from the best one."""
    best = board.rows[0].label
    same = [row.label for row in board.rows[1:] if board.p_value(row.label, best) > LEVEL]
    if not same:
        return f"{best} is better than each other method (Holm's correction, level {LEVEL})."
    others = " and ".join([", ".join(same[:-1]), same[-1]] if len(same) > 1 else same)
    return (
        f"{best} cannot be told from {others} (paired randomisation tests, Holm's correction, "
        f"level {LEVEL})."
    )


def wikipedia(record: RunRecord, board: Board) -> list[str]:
    """Say what came out beside the published figures."""
    best = board.rows[0]
    mean = best.repeats.mean(None, board.metric)
    both = " / ".join(figure(best.repeats.mean(d, board.metric)) for d in board.directions)
    low, high = best.repeats.interval(None, board.metric)
    lines = [f"- The best, {best.label}, reaches {both}, {mean:.3f} on average."]
    if low > SCM:
        lines.append(f"- That is above the published {SCM:.3f} of SCM (.277 / .226), which lies "
                     f"below the interval [{low:.3f}, {high:.3f}].")  # fmt: skip
    else:
        lines.append(f"- The interval [{low:.3f}, {high:.3f}] does not lie above the published "
                     f"{SCM:.3f} of SCM (.277 / .226).")  # fmt: skip
    if mean >= AIM:
        lines.append(f"- The aim set beforehand, an average of {AIM:.2f}, is reached.")
    else:
        lines.append(f"- The aim set beforehand, an average of {AIM:.2f}, is missed by "
                     f"{AIM - mean:.3f}"
                     + ("; it lies within the interval." if high >= AIM else "."))  # fmt: skip
    above = [row.label for row in board.rows if row.repeats.mean(None, board.metric) > SCM]
    lines.append(f"- {len(above)} of {len(board.rows)} methods are above the published SCM on "
                 f"average{': ' + ', '.join(above) if above else ''}.")  # fmt: skip
    by_folds = max(record.done, key=lambda cell: cell.tuning["best_value"])
    if by_folds.label == best.label:
        lines.append(f"- The folds of the training pairs would have chosen {best.label} too.")
    else:
        other = next(row for row in board.rows if row.label == by_folds.label)
        lines.append(
            f"- Whoever trusts the folds of the training pairs takes {by_folds.label}, which "
            f"reaches {other.repeats.mean(None, board.metric):.3f}."
        )
    return lines


PAGES: dict[str, Any] = {
    "shallow-wikipedia": {
        "title": "The closed-form methods on the shallow features of Wikipedia",
        "lead": "Every closed-form method on the features that the data set ships with (128 bins "
        "of SIFT words, 10 topics of LDA): 2,173 pairs to train on, 693 to test. Settings were "
        "chosen by 3-fold cross-validation on the training pairs, the test pairs ranked once by "
        "each method. mAP over the whole gallery, p@10 and mAP@50 (by hits) by category. "
        "Published figures are those of Rasiwasia et al. (ACM MM 2010) on the same features and "
        "split, as they are commonly quoted. The test pairs are not fresh: the table of the "
        "methods with fixed settings (wikipedia-table) ranks them too, and the stronger "
        "classifiers and the posterior over the prior are here because they did well there.",
        "metrics": ("map@all", "map@50:hits", "p@10"),
        "says": wikipedia,
    },
    "flickr8k-dev": {
        "title": "Embedding methods on the development pictures of Flickr8k",
        "lead": "Linear and kernel methods that learn from pairs alone, on vectors of two "
        "pretrained networks (EfficientNet-Lite0 for pictures, MiniLM for captions): 6,000 "
        "pictures with five captions each to train on, 1,000 development pictures with 5,000 "
        "captions to rank. Settings were chosen by 3-fold cross-validation on the training "
        "pictures, by the mean reciprocal rank. There are no published figures for these features; "
        "the official test pictures were not at hand, so these figures are no test results.",
        "metrics": ("r@1", "r@5", "r@10", "medr"),
        "says": lambda record, board: [],
    },
}


def page(record: RunRecord) -> str:
    """Return a page on a run."""
    about = PAGES[record.name]
    (board,) = boards([record])
    lines = [
        f"# {about['title']}",
        "",
        "Written by `docs/tables/experiments.py` from the store of "
        f"`crossfit run {record.name}`; run both again rather than edit this page.",
        "",
        about["lead"],
        "",
        *leaderboard(board, about["metrics"]),
        "",
        "In brackets the 95 % bootstrap interval over queries, groups kept together; p compares "
        "with the first row (paired randomisation test of the mean over both directions, after "
        "Holm's correction for all pairs); a range of ranks is what the tests leave open.",
        "",
        "## What it says",
        "",
        *about["says"](record, board),
        f"- {tied(board)}",
        "",
        "## What was chosen",
        "",
        *chosen(record),
        "",
        *(f"{line}\n" for line in facts(record)),
    ]
    return "\n".join(lines).rstrip("\n") + "\n"


def main() -> None:
    """Write the pages."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--store", default="crossfit-runs")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    store = Store(args.store)
    for name in PAGES:
        if name in store.runs():
            record = store.run(name)
            if not record.done:
                print(f"{name}: no cell is done")
                continue
            path = args.out / f"{name}.md"
            draft = path.with_suffix(".tmp")
            draft.write_text(page(record), encoding="utf-8")
            draft.replace(path)
            print(path)


if __name__ == "__main__":
    main()
