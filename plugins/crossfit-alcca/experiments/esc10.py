"""Does CCA after the adversarial network help, and does the adversary, on sounds and titles?

``python plugins/crossfit-alcca/experiments/esc10.py`` fits CCA, ACMR and ALCCA to ESC-10 (folds
1 to 3 for training, fold 4 for testing) and writes ``docs/reproduction/alcca.md`` and
``docs/images/alcca.png``. Features, ridge, learning rate, margin and number of components are
chosen on the training folds: each is held out in turn, so that no recording lies on both sides.
The test fold is looked at once. Needs ``CROSSFIT_DATA`` and crossfit-wheels.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterable, Iterator
from itertools import chain, product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from crossfit import Views, evaluate
from crossfit.datasets import load
from crossfit.extraction import MFCC, Doc2VecFeatures, LogMel
from crossfit.metrics import bootstrap_interval, chance_level, holm, paired_test
from crossfit.similarities import pairwise_similarity
from crossfit.subspace import CCA
from crossfit_alcca.estimator import ALCCA
from crossfit_wheels.minilm import MiniLM

SEEDS = (0, 1, 2)
COMPONENTS = (10, 20, 30, 40, 50, 60, 70, 80, 90, 100)
RIDGES = (0.1, 1.0, 10.0, 100.0)
RATES = (1e-4, 1e-3)
MARGINS = (1.0, 5.0)
EPOCHS = 200
NAMES = ("audio", "text")
WAYS = ("audio2text", "text2audio")
# Relevance and metric: by pair as in the paper's I-MRR1, R@1 and R@5, by label as in its C-MRR1.
FIGURES = {
    "MRR by pair": ("pair", "mrr"),
    "R@1 by pair": ("pair", "r@1"),
    "R@5 by pair": ("pair", "r@5"),
    "MRR by label": ("label", "mrr"),
    "mAP by label": ("label", "map@all"),
}
MAIN, SECOND = "mAP by label", "MRR by pair"
ON, OFF = "with adversary", "without adversary"

Floats = NDArray[np.float64]
PerQuery = dict[tuple[str, str], Floats]


# ---- features ------------------------------------------------------------------------------------


def sounds(paths: Any) -> dict[str, NDArray[np.float32]]:
    """Return the two descriptions of the sounds to choose from."""
    bands = LogMel(duration=5).transform(paths)
    return {
        "MFCC, 20 × 161": MFCC(duration=5, n_fft=2048, hop_length=676).transform(paths),
        "log-mel, mean and deviation": np.hstack([bands.mean(axis=2), bands.std(axis=2)]),
    }


def titles(train: Any, test: Any) -> dict[str, list[NDArray[np.float32]]]:
    """Return the two descriptions of titles; Doc2Vec knows the training titles alone."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*known word.*")  # titles left empty
        doc2vec = Doc2VecFeatures(300, verbose=False).fit(train)
        found = {"Doc2Vec, 300": [doc2vec.transform(part) for part in (train, test)]}
    found["MiniLM, 384"] = [MiniLM(device="cpu").transform(part) for part in (train, test)]
    return found


def described(train: Views, test: Views) -> dict[str, tuple[Views, Views]]:
    """Return the views under every pair of descriptions, scaled by the training items."""
    audio = list(
        zip(sounds(train.distinct("audio")[0]).items(), sounds(test.distinct("audio")[0]).values())
    )
    text = titles(train.distinct("text")[0], test.distinct("text")[0])
    found = {}
    for ((a, a_train), a_test), (t, (t_train, t_test)) in product(audio, text.items()):
        A, T = StandardScaler().fit(_flat(a_train)), StandardScaler().fit(t_train)
        found[f"{a}; {t}"] = (
            train.replace(audio=A.transform(_flat(a_train)), text=T.transform(t_train)),
            test.replace(audio=A.transform(_flat(a_test)), text=T.transform(t_test)),
        )
    return found


def _flat(values: NDArray[Any]) -> NDArray[Any]:
    return values.reshape(len(values), -1)


# ---- methods -------------------------------------------------------------------------------------


def network(adversary: str, lr: float, margin: float, seed: int) -> ALCCA:
    """Return ALCCA in the published sizes."""
    return ALCCA(
        lr=lr, margin=margin, max_epochs=EPOCHS, adv_weight=float(adversary == ON),
        random_state=seed, device="cpu", verbose=0,
    )  # fmt: skip


def embedded(model: ALCCA, views: Views) -> Views:
    """Return views in the network's space, before CCA."""
    return views.map(lambda values, role: model.project(values, role))


def canonical(train: Views, test: Views, reg: float) -> tuple[Views, int]:
    """Return the test views in the space of CCA, and how many components the data support."""
    cca = CCA(reg=reg).fit(train)
    # Beyond the rank of the training pairs a ridge leaves directions that mean nothing.
    return cca.transform(test), int((cca.correlations_ > 1e-6).sum())


def first(views: Views, k: int) -> Views:
    """Return the first k components."""
    return views.map(lambda values, _: values[:, :k])


def figures(views: Views, y: Any, measure: str, names: Any = FIGURES) -> PerQuery:
    """Return the value of every query, by figure and direction."""
    scores = pairwise_similarity(views.distinct("audio")[0], views.distinct("text")[0], measure)
    found: PerQuery = {}
    for name in names:
        kind, metric = FIGURES[name]
        result = evaluate(scores, relevance(views, y, kind), metric, ci=None, names=NAMES)
        found |= {(name, way): np.asarray(result.per_query[way, metric]) for way in WAYS}
    return found


def relevance(views: Views, y: Any, kind: str) -> Any:
    """Return which titles are right for which clips: their recording's, or their class's."""
    if kind == "pair":
        return views.relevance(*NAMES)
    return tuple(views.item_labels(name, y) for name in NAMES)


def mean(values: PerQuery, name: str) -> float:
    """Return the mean of both directions."""
    return float(np.mean([values[name, way].mean() for way in WAYS]))


# ---- choosing on the training folds --------------------------------------------------------------


Setting = tuple[Any, ...]
Candidate = tuple[str, Setting, Views, str]


def cca_candidates(train: Views, test: Views) -> Iterator[Candidate]:
    """Yield method, setting, the test views in the method's space, and how they are compared."""
    for reg in RIDGES:
        space, bound = canonical(train, test, reg)
        for k in COMPONENTS:
            yield "CCA", (reg, k), first(space, min(k, bound)), "cosine"


def network_candidates(train: Views, test: Views, y: Any) -> Iterator[Candidate]:
    """Yield the same for the networks, each of which is trained once for ACMR and ALCCA."""
    for adversary, lr, margin in product((ON, OFF), RATES, MARGINS):
        model = network(adversary, lr, margin, SEEDS[0]).fit(train, y)
        before, after = embedded(model, train), embedded(model, test)
        for measure in ("l2", "cosine"):
            yield f"ACMR {adversary}", (lr, margin, measure), after, measure
        for _, (reg, k), space, measure in cca_candidates(before, after):
            yield f"ALCCA {adversary}", (lr, margin, reg, k), space, measure


def folds(split: Any) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield training and held-out rows: every training fold of the set is held out once."""
    for fold in np.unique(split.info["fold"]):
        held = split.info["fold"] == fold
        yield np.flatnonzero(~held), np.flatnonzero(held)


def choose(ds: Any) -> tuple[str, dict[str, float], dict[str, tuple[float, Setting]]]:
    """Return the features, what they were chosen by, and score and setting of every method."""
    split = ds["train"]
    start = time.perf_counter()
    data = [
        (described(split.views[rows], split.views[held]), split.y[rows], split.y[held])
        for rows, held in folds(split)
    ]
    by_features = {
        features: best_of(
            (cca_candidates(*views[features]), y_held) for views, _, y_held in data
        )["CCA"][0]
        for features in data[0][0]
    }
    print(by_features, f"{time.perf_counter() - start:.0f} s", flush=True)
    chosen = max(by_features, key=by_features.__getitem__)
    settings = best_of(
        (chain(cca_candidates(*views[chosen]), network_candidates(*views[chosen], y)), y_held)
        for views, y, y_held in data
    )
    print(settings, f"{time.perf_counter() - start:.0f} s", flush=True)
    return chosen, by_features, settings


def best_of(of_folds: Iterable[tuple[Iterable[Candidate], Any]]) -> dict[str, Any]:
    """Return score and setting of every method: the highest mean over the folds."""
    scores: dict[tuple[str, Setting], list[float]] = {}
    for found, y in of_folds:
        for method, setting, space, measure in found:
            value = mean(figures(space, y, measure, [MAIN]), MAIN)
            scores.setdefault((method, setting), []).append(value)
    best: dict[str, tuple[float, Setting]] = {}
    for (method, setting), values in scores.items():
        if method not in best or np.mean(values) > best[method][0]:
            best[method] = float(np.mean(values)), setting
    return best


# ---- the one look at the test fold ---------------------------------------------------------------


def run() -> dict[str, Any]:
    """Return everything that the card tells."""
    ds = load("esc10")
    features, by_features, scored = choose(ds)
    settings = {method: setting for method, (_, setting) in scored.items()}
    train, test = described(ds["train"].views, ds["test"].views)[features]
    y, y_test = ds["train"].y, ds["test"].y
    runs: dict[str, list[PerQuery]] = {}
    curves: dict[str, dict[int, list[PerQuery]]] = {"CCA": {}}
    bounds: dict[str, int] = {}
    facts: dict[str, list[tuple[float, float]]] = {}

    def follow(name: str, space: Views, bound: int, k: int) -> None:
        bounds[name] = min(bound, bounds.get(name, bound))
        for components in COMPONENTS:
            if components <= bound:
                curves.setdefault(name, {}).setdefault(components, []).append(
                    figures(first(space, components), y_test, "cosine")
                )
        runs.setdefault(name, []).append(figures(first(space, min(k, bound)), y_test, "cosine"))

    reg, k = settings["CCA"]
    follow("CCA", *canonical(train, test, reg), k)
    for seed, adversary in product(SEEDS, (ON, OFF)):
        trained: dict[tuple[float, float], tuple[Views, Views]] = {}
        for kind in ("ACMR", "ALCCA"):
            name = f"{kind} {adversary}"
            lr, margin, *rest = settings[name]
            if (lr, margin) not in trained:
                model = network(adversary, lr, margin, seed).fit(train, y)
                trained[lr, margin] = embedded(model, train), embedded(model, test)
                loss = model.net_.history[-1]["train_adversary"]
                told = told_apart(*trained[lr, margin])
                facts.setdefault(name, []).append((loss, told))
            before, after = trained[lr, margin]
            if kind == "ACMR":
                runs.setdefault(name, []).append(figures(after, y_test, rest[0]))
                other = {"l2": "cosine", "cosine": "l2"}[rest[0]]
                runs.setdefault(f"{name}, {other}", []).append(figures(after, y_test, other))
            else:
                follow(name, *canonical(before, after, rest[0]), rest[1])
    chance = {
        name: chance_level(
            relevance(test, y_test, kind), metric, names=NAMES
        )
        for name, (kind, metric) in FIGURES.items()
    }  # fmt: skip
    return {
        "features": features, "by_features": by_features, "scored": scored, "runs": runs,
        "curves": curves, "bounds": bounds, "facts": facts,
        "chance": {n: {way: c.mean(way, FIGURES[n][1]) for way in WAYS} for n, c in chance.items()},
        "groups": tuple(
            groups_of(test, name) for name in NAMES
        ),
        "counts": counts(ds),
    }  # fmt: skip


def told_apart(train: Views, test: Views) -> float:
    """Return how often a fresh classifier, fitted on training items, tells test modalities."""
    def both(views: Views) -> tuple[Any, Any]:
        parts = [views.distinct(name)[0] for name in NAMES]
        return np.vstack(parts), np.repeat([0, 1], [len(part) for part in parts])

    X, m = both(train)
    return float(
        LogisticRegression(max_iter=2000, class_weight="balanced").fit(X, m).score(*both(test))
    )


def groups_of(views: Views, name: str) -> NDArray[np.int64]:
    """Return the recording of every item."""
    _, row_to_item = views.distinct(name)
    found = np.empty(row_to_item.max() + 1, np.int64)
    found[row_to_item] = views.groups
    return found


def counts(ds: Any) -> dict[str, Any]:
    """Return how many clips, recordings, different titles and empty titles there are."""
    found = {"revision": ds.revision}
    for name in ("train", "test"):
        texts = ds[name].views.distinct("text")[0]
        found[name] = (len(ds[name]), len(texts), len(set(texts)), sum(not t for t in texts))
    return found
