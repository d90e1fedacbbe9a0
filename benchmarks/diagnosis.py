"""Measure how well a diagnosis finds faults that are put into pairs on purpose.

``python benchmarks/diagnosis.py`` uses pretrained features of emoji and of Flickr8k. They need
``crossfit-wheels``, and Flickr8k also the files of the data set in ``CROSSFIT_DATA``.

Wrong pairs: the texts of a tenth of the groups are passed on in a circle, so that each of these
pairs is wrong. Reported are the share of them among the first tenth of `crossfit.diagnose`'s list,
the area under the ROC curve, and the share of random pairs that the diagnosis estimates.

Near-duplicates: copies of pictures (saved again as JPEG of quality 75 or 30, or without a margin of
2 % and then as JPEG) and of captions (one word dropped) are added in groups of their own. Reported
are the share of copies that are linked to their original at the default threshold, and the number
of other pairs of items that are linked, with and without equal features.

Every result is appended to a log, one line of JSON; what the log has is not computed again. Finally
the tables are printed, or with ``--page docs/reproduction/diagnosis.md`` written to a page between
its marks.
"""

from __future__ import annotations

import argparse
import io
import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.metrics import roc_auc_score

from crossfit import Views, ViewTransformer, diagnose, registry
from crossfit.datasets import load
from crossfit.diagnosis import near_duplicates
from crossfit.extraction import load_rgb

SEEDS = (0, 1, 2)
WRONG = 0.1
COPIES = 200
PICTURES = 3000
BEGIN, END = "<!-- measured -->", "<!-- end -->"


def extractor(name: str) -> Any:
    return registry.load(name, "crossfit.extractors")()


@cache
def features(name: str) -> Views:
    """Return all pairs of the emoji, or 3,000 pictures of Flickr8k with captions, as vectors."""
    made = ViewTransformer([("image", extractor("efficientnet-lite0")),
                            ("text", extractor("minilm"))])  # fmt: skip
    return made.fit_transform(raw(name))


@cache
def raw(name: str) -> Views:
    if name == "emoji":
        splits = load("emoji").splits.values()
        return Views({view: np.concatenate([split.views[view] for split in splits])
                      for view in ("image", "text")})  # fmt: skip
    views = load("flickr8k", subsets=("train",))["train"].views
    return views[np.isin(views.groups, np.unique(views.groups)[:PICTURES])]


def one_caption(views: Views, seed: int) -> Views:
    """Return one random caption per picture."""
    order = np.random.default_rng(seed).permutation(len(views))
    _, first = np.unique(views.groups[order], return_index=True)
    return views[np.sort(order[first])]


def wrong_pairs(name: str, seed: int) -> dict[str, Any]:
    data, _, captions = name.partition(", ")
    views = features(data)
    if captions == "one caption":
        views = one_caption(views, seed)
    rng = np.random.default_rng(seed)
    n = len(views)
    wrong = rng.permutation(n)[: round(WRONG * n)]
    text = views["text"].copy()
    text[wrong] = text[np.roll(wrong, 1)]
    found = diagnose(views.replace(text=text), random_state=seed)
    is_wrong = np.zeros(n, bool)
    is_wrong[wrong] = True
    return {
        "pairs": n,
        "wrong": len(wrong),
        "found": float(is_wrong[found.suspicious[: len(wrong)]].mean()),
        "auc": float(roc_auc_score(is_wrong[found.suspicious], np.arange(n)[::-1])),
        "share": found.wrong.share,
    }


def as_jpeg(pixels: Any, quality: int) -> Any:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))


def without_margin(pixels: Any, share: float) -> Any:
    height, width = pixels.shape[:2]
    top, left = max(1, round(share * height / 2)), max(1, round(share * width / 2))
    return pixels[top : height - top, left : width - left]


def without_a_word(text: str, rng: np.random.Generator) -> str:
    words = text.split()
    return " ".join(np.delete(words, rng.integers(len(words)))) if len(words) > 1 else text


CHANGES: dict[str, tuple[str, Callable[[Any, Any], Any]]] = {
    "JPEG, quality 75": ("image", lambda pixels, rng: as_jpeg(pixels, 75)),
    "JPEG, quality 30": ("image", lambda pixels, rng: as_jpeg(pixels, 30)),
    "cropped by 2 %, JPEG 75": ("image", lambda pixels, rng: as_jpeg(
        without_margin(pixels, 0.02), 75)),
    "one word dropped": ("text", without_a_word),
}  # fmt: skip


def duplicates(name: str, change: str, seed: int) -> dict[str, Any]:
    view, alter = CHANGES[change]
    rng = np.random.default_rng(seed)
    given, vectors = raw(name), features(name)
    rows = given.first_rows(view)
    items = vectors.distinct(view)[0]
    chosen = rng.permutation(len(items))[:COPIES]
    originals = [given.distinct(view)[0][i] for i in chosen]
    if view == "image":
        originals = [load_rgb(each) for each in originals]
    copies = Views({view: [alter(each, rng) for each in originals]})
    made = extractor("efficientnet-lite0" if view == "image" else "minilm")
    altered = made.fit_transform(copies[view])
    n, groups = len(items), vectors.groups[rows]
    everything = np.concatenate([items, altered])
    own = np.concatenate([groups, groups.max() + 1 + np.arange(len(chosen))])
    found = near_duplicates(everything, groups=own, n_closest=10**6)
    linked = {(i, j) for i, j, _ in found.closest}
    hits = sum((int(i), n + k) in linked for k, i in enumerate(chosen))
    others = [(i, j, cosine) for i, j, cosine in found.closest if i < n and j < n]
    equal = sum(cosine >= 1 - 1e-5 for *_, cosine in others)
    return {
        "items": n,
        "copies": len(chosen),
        "recall": hits / len(chosen),
        "others": len(others),
        "equal": equal,
    }


def jobs(names: list[str]) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    sets = {"emoji": ["emoji"], "flickr8k": ["flickr8k, one caption", "flickr8k, five captions"]}
    for data in names:
        for name in sets[data]:
            for seed in SEEDS:
                key = f"wrong|{name}|{seed}"
                yield key, lambda name=name, seed=seed: wrong_pairs(name, seed)  # type: ignore[misc]
        for change in CHANGES:
            key = f"duplicates|{data}|{change}"
            yield key, lambda data=data, change=change: duplicates(data, change, 0)  # type: ignore[misc]


def table(known: dict[str, dict[str, Any]]) -> str:
    lines = [
        "| pairs | n | wrong | among the first tenth | area under the curve | estimated share "
        "of random pairs |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    names = dict.fromkeys(key.split("|")[1] for key in known if key.startswith("wrong|"))
    for name in names:
        runs = [found for key, found in known.items() if key.startswith(f"wrong|{name}|")]

        def over(key: str, runs: Any = runs) -> str:
            values = [run[key] for run in runs]
            return f"{np.mean(values):.3f} ({min(values):.3f}–{max(values):.3f})"

        lines.append(f"| {name} | {runs[0]['pairs']:,} | {runs[0]['wrong']:,} | {over('found')} | "
                     f"{over('auc')} | {over('share')} |")  # fmt: skip
    lines += [
        "",
        "| items | n | change of the copies | copies | found | other pairs linked | of these with "
        "equal features |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for key, found in known.items():
        kind, name, change = key.split("|")
        if kind == "duplicates":
            view = CHANGES[change][0]
            lines.append(
                f"| {name}, {view} | {found['items']:,} | {change} | {found['copies']} | "
                f"{found['recall']:.3f} | {found['others']:,} | {found['equal']:,} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", nargs="*", default=["emoji", "flickr8k"])
    parser.add_argument("--log", type=Path, default=Path("diagnosis.jsonl"))
    parser.add_argument("--page", type=Path, help="page whose marked part is replaced")
    given = parser.parse_args()
    known = {}
    if given.log.exists():
        rows = map(json.loads, given.log.read_text(encoding="utf-8").splitlines())
        known = {row.pop("key"): row for row in rows}
    for key, compute in jobs(given.data):
        if key not in known:
            known[key] = compute()
            with given.log.open("a", encoding="utf-8") as log:
                log.write(json.dumps({"key": key, **known[key]}) + "\n")
            print(key, known[key], flush=True)
    known = {key: known[key] for key, _ in jobs(given.data)}
    if given.page is None:
        print(table(known))
        return
    text = given.page.read_text(encoding="utf-8")
    part = f"{BEGIN}\n{table(known)}\n{END}"
    given.page.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: part, text, flags=re.DOTALL),
                          encoding="utf-8")  # fmt: skip


if __name__ == "__main__":
    main()
