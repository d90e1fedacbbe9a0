"""Compare the defaults of every closed-form method with settings tuned on validation pairs.

``python benchmarks/defaults.py`` fits each method of `crossfit.subspace` on the training pairs of
each task twice: with default parameters, and with the best of a number of random settings from its
card's search space, chosen on the validation pairs. Both are then measured on the test pairs, which
take no part in the choice. The means over both directions are appended to a log, one line of JSON
per method and task; what stands in the log is not computed again. Finally the table is printed, and
with ``--table docs/tables/defaults.txt`` written to the file that ``docs/defaults.md`` includes.

The tasks are the shallow features of Wikipedia, plain and pretrained features of emoji, and
pretrained features of a part of Flickr8k (the first 2,000 training pictures with one caption each,
the next 500 for validation, the development pictures with all their captions to test). Pretrained
features need ``crossfit-wheels``, and the files of the data sets are looked for in
``CROSSFIT_DATA``. ``--tasks`` and ``--methods`` select some of them.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline

from crossfit import Views, ViewTransformer, registry
from crossfit.cards import MethodCard
from crossfit.datasets import load
from crossfit.metrics import evaluate, paired_test
from crossfit.model_selection import PairShuffleSplit
from crossfit.scoring import relevance_of

SEED = 0

# Parameters that bound the cost, the same for defaults and tuned settings.
FIXED: Mapping[str, Mapping[str, Any]] = {
    "kcca": {"n_landmarks": 1000},
    "macc": {"n_landmarks": 1000},
}

# A method whose default reaches less than this share of its tuned self is marked.
FAR_BELOW = 0.9

Labels = Any
Part = tuple[Views, Labels]
Parts = tuple[Part, Part, Part]


@cache
def wikipedia() -> Parts:
    splits = load("wikipedia", features="raw")
    train, test = splits["train"], splits["test"]
    splitter = PairShuffleSplit(1, test_size=0.2, random_state=SEED)
    rows, held_out = next(splitter.split(train.views, train.y))
    return (
        (train.views[rows], train.y[rows]),
        (train.views[held_out], train.y[held_out]),
        (test.views, test.y),
    )


def _emoji(image: Any, text: Any) -> Parts:
    splits = load("emoji")
    features = ViewTransformer([("image", image), ("text", text)])
    features.fit(splits["train"].views)
    train, val, test = (
        (features.transform(splits[name].views), splits[name].y)
        for name in ("train", "val", "test")
    )
    return train, val, test


@cache
def emoji_plain() -> Parts:
    words = make_pipeline(TfidfVectorizer(sublinear_tf=True), TruncatedSVD(200, random_state=SEED))
    return _emoji(registry.load("grid", "crossfit.extractors")(), words)


@cache
def emoji_pretrained() -> Parts:
    return _emoji(*_pretrained())


def _pretrained() -> tuple[Any, Any]:
    names = ("efficientnet-lite0", "minilm")
    image, text = (registry.load(name, "crossfit.extractors")() for name in names)
    return image, text


@cache
def flickr8k() -> Parts:
    splits = load("flickr8k", subsets=("train", "dev"))
    image, text = _pretrained()
    features = ViewTransformer([("image", image), ("text", text)])
    train, dev = splits["train"].views, splits["dev"].views
    first = train.first_rows("image")
    found = [
        features.fit_transform(part) for part in (train[first[:2000]], train[first[2000:2500]], dev)
    ]
    return (found[0], None), (found[1], None), (found[2], None)


@dataclass(frozen=True)
class Task:
    """A data set with a measure; by class where the test labels are used, by pair elsewhere."""

    title: str
    parts: Callable[[], Parts]
    by_label: bool
    trials: int

    @property
    def metric(self) -> str:
        """The measure that settings are chosen and reported by."""
        return "map@all" if self.by_label else "mrr"


TASKS: Mapping[str, Task] = {
    "wikipedia": Task("Wikipedia, shallow", wikipedia, True, 20),
    "emoji-plain": Task("emoji, plain", emoji_plain, True, 20),
    "emoji-plain-pairs": Task("emoji, plain", emoji_plain, False, 20),
    "emoji-pretrained": Task("emoji, pretrained", emoji_pretrained, True, 8),
    "emoji-pretrained-pairs": Task("emoji, pretrained", emoji_pretrained, False, 8),
    "flickr8k": Task("Flickr8k, pretrained", flickr8k, False, 12),
}


def closed_form() -> list[MethodCard]:
    cards = (entry.card for entry in registry.entries("crossfit.methods"))
    return [
        card
        for card in cards
        if isinstance(card, MethodCard)
        and card.target.startswith("crossfit.subspace.")
        and all("vectors" in kinds for kinds in card.inputs.values())  # as those of the tasks
    ]


def suits(card: MethodCard, task: Task) -> bool:
    """Return whether a method and a task go together: by pair, methods that need no labels."""
    return task.by_label or card.labels in ("none", "optional")


def per_query(method: Any, task: Task, part: Part) -> np.ndarray:
    """Return the values of the queries of both directions; rows of the two are of equal weight."""
    views, y = part
    q, g = views.names
    scores = method.similarity(views)
    relevance = relevance_of(views, q, g, y if task.by_label else None)
    found = evaluate(scores, relevance, (task.metric,), ci=None, names=(q, g))
    values = [found.per_query[f"{a}2{b}", task.metric] for a, b in ((q, g), (g, q))]
    total = sum(map(len, values))
    return np.concatenate([value * total / (2 * len(value)) for value in values])


def compare(card: MethodCard, tasks: Mapping[str, Task]) -> Iterable[dict[str, Any]]:
    """Yield one line for each task; the tasks share their parts and hence their fits."""
    begun = time.perf_counter()
    target = registry.load(card.name, "crossfit.methods")
    first = next(iter(tasks.values()))
    train, val, test = first.parts()

    def fitted(params: Mapping[str, Any]) -> Any:
        views, y = train
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return target(**FIXED.get(card.name, {}), **params).fit(
                views, y=None if card.labels == "none" else y
            )

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=SEED))
    found: list[tuple[dict[str, float], dict[str, Any]]] = []
    for _ in range(first.trials):
        params = card.suggest(study.ask())
        try:
            method = fitted(params)
        except (ValueError, ArithmeticError):
            continue
        scores = {
            name: float(np.mean(per_query(method, task, val))) for name, task in tasks.items()
        }
        found.append((scores, params))
    default = fitted({})
    for name, task in tasks.items():
        best, params = max(found, key=lambda trial: trial[0][name])
        ours = per_query(default, task, test)
        tuned = per_query(fitted(params), task, test)
        test_of = paired_test(ours, tuned, n_resamples=2000, random_state=SEED)
        yield {
            "method": card.name,
            "task": name,
            "default": float(np.mean(ours)),
            "tuned": float(np.mean(tuned)),
            "p": float(test_of.p_value),
            "default_val": float(np.mean(per_query(default, task, val))),
            "tuned_val": best[name],
            "params": params,
            "trials": first.trials,
            "seconds": round(time.perf_counter() - begun, 1),
        }


def table(lines: Iterable[Mapping[str, Any]]) -> str:
    """Return the table in Markdown: default and tuned, and their ratio where it is low."""
    found = {(line["method"], line["task"]): line for line in lines}
    tasks = [name for name in TASKS if any(task == name for _, task in found)]
    head = [f"{TASKS[name].title}, {'mAP' if TASKS[name].by_label else 'MRR'}" for name in tasks]
    rows = [["method", *head], ["---"] + ["---:"] * len(tasks)]
    for method in sorted({method for method, _ in found}):
        cells = []
        for name in tasks:
            line = found.get((method, name))
            if line is None:
                cells.append("")
                continue
            cell = f"{line['default']:.3f} / {line['tuned']:.3f}"
            low = line["default"] < FAR_BELOW * line["tuned"]
            cells.append(f"**{cell}**" if low else cell)
        rows.append([f"`{method}`", *cells])
    budgets = []
    for name in tasks:
        tried = {line["trials"] for (_, task), line in found.items() if task == name}
        budgets.append("–".join(map(str, sorted({min(tried), max(tried)}))))
    rows.append(["settings tried", *budgets])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--log", type=Path, default=Path("defaults.jsonl"), help="file of results")
    parser.add_argument("--tasks", nargs="*", choices=TASKS, default=list(TASKS))
    parser.add_argument("--methods", nargs="*", help="names; all closed-form methods by default")
    parser.add_argument("--table", type=Path, help="file for the table, printed in any case")
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    lines = []
    if given.log.exists():
        lines = [json.loads(line) for line in given.log.read_text().splitlines()]
    done = {(line["method"], line["task"]) for line in lines}
    groups: dict[Callable[[], Parts], dict[str, Task]] = {}
    for name in given.tasks:
        groups.setdefault(TASKS[name].parts, {})[name] = TASKS[name]
    for tasks in groups.values():
        for card in closed_form():
            if given.methods and card.name not in given.methods:
                continue
            left = {
                name: task
                for name, task in tasks.items()
                if suits(card, task) and (card.name, name) not in done
            }
            if not left:
                continue
            for line in compare(card, left):
                lines.append(line)
                with given.log.open("a") as log:
                    log.write(json.dumps(line) + "\n")
                ratio = line["default"] / line["tuned"]
                print(
                    f"{line['task']:24} {card.name:8} {line['default']:.3f} {line['tuned']:.3f} "
                    f"{ratio:5.2f}  p {line['p']:.3f}  {line['seconds']:.0f} s",
                    flush=True,
                )
    print(table(lines))
    if given.table:
        given.table.write_text(table(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
