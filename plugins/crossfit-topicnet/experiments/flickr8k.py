"""Do two heads beat one on Flickr8k, and what do topics cost against the words themselves?

``python plugins/crossfit-topicnet/experiments/flickr8k.py`` trains SSVR (the article is an image's
five captions joined, the caption each of them) and TextTopicNet on either text, three seeds each,
beside CCA on the same topics, on TF-IDF and on MiniLM vectors, and writes
``docs/reproduction/ssvr.md``. Every method gets the same EfficientNet-Lite0 vectors. What is chosen
is chosen on 1,000 held-out training images, for every method on its own; the development images
are ranked at the end. Needs the data set in ``CROSSFIT_DATA``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline

from crossfit import Views, evaluate
from crossfit.datasets import load
from crossfit.extraction import LdaTopics
from crossfit.metrics import Repeats, holm, paired_test
from crossfit.neural import listening
from crossfit.similarities import pairwise_similarity
from crossfit.subspace import CCA
from crossfit_topicnet.estimator import SSVR, TextTopicNet

SEEDS = (0, 1, 2)
N_TOPICS = 40
HELD_OUT = 1000
EPOCHS = 9
EVERY = 3
GRID = [
    {"lr": lr, "hidden": hidden, "cut": cut}
    for lr, hidden, cut in product((0.01, 0.03), ((), (1024,)), (0.01, 0.0))
]
RIDGES = (0.01, 0.1, 1.0, 10.0)
SHARES = (0.25, 0.5, 0.95)  # of the components
POWERS = (0, 1, 4)
METRICS = ("r@1", "r@5", "r@10", "medr", "mrr")
WAYS = ("image2text", "text2image")
TASKS = ("article", "caption")
NETS = {
    "SSVR": TASKS,
    "TextTopicNet on articles": ("article",),
    "TextTopicNet on captions": ("caption",),
}


@dataclass(frozen=True)
class Part:
    """Some images with their five captions each; ``texts`` are by task what a method reads."""

    images: NDArray[np.float32]
    captions: list[str]
    sentences: NDArray[np.float32]
    texts: dict[str, Any]

    @property
    def owner(self) -> NDArray[np.int64]:
        """Image of every caption."""
        return np.repeat(np.arange(len(self.images)), 5)

    @property
    def articles(self) -> list[str]:
        """The captions of every image, joined."""
        return [" ".join(self.captions[i : i + 5]) for i in range(0, len(self.captions), 5)]

    def take(self, rows: NDArray[np.int64]) -> Part:
        """Return some of the images."""
        at = (5 * rows[:, None] + np.arange(5)).ravel()
        captions = [self.captions[i] for i in at]
        return Part(self.images[rows], captions, self.sentences[at], {})

    def pairs(self, task: str) -> Views:
        """Return the pairs of one task, where an article counts once."""
        images = self.images if task == "article" else self.images[self.owner]
        return Views(image=images, text=self.texts[task])

    def views(self, task: str | None = None) -> Views:
        """Return a row for every caption; the text of one task, or both as channels."""
        article, caption = self.texts["article"][self.owner], self.texts["caption"]
        both = {"article": article, "caption": caption}
        return Views.from_captions(self.images, both if task is None else both[task], self.owner)


def parts_of(name: str) -> tuple[Part, str]:
    """Return a split of the data set, and the data set's revision."""
    words = load("flickr8k", subsets=(name,))
    vectors = load("flickr8k", subsets=(name,), features="precomputed")[name].views
    views = words[name].views
    images, owner = vectors.distinct("image")
    if not np.array_equal(owner, np.repeat(np.arange(len(images)), 5)):
        raise ValueError("every image of Flickr8k must have five captions, in order")
    return Part(images, list(views["text"]), vectors["text"], {}), words.revision


def with_topics(train: Part, test: Part, seed: int) -> tuple[Part, Part]:
    """Give both the topics of their texts, by a model of the training articles."""
    lda = LdaTopics(N_TOPICS, random_state=seed, verbose=False).fit(train.articles)
    return tuple(
        replace(
            part,
            texts={
                "article": lda.transform(part.articles),
                "caption": lda.transform(part.captions),
            },
        )
        for part in (train, test)
    )  # type: ignore[return-value]


def cut(part: Part, least: float) -> Part:
    """Set topics below a share to exact zeros, as LdaTopics with that minimum does."""
    return replace(part, texts={k: np.where(t < least, 0, t) for k, t in part.texts.items()})


def with_words(train: Part, test: Part) -> tuple[Part, Part]:
    """Give both TF-IDF vectors, by a model of the training articles, in 200 dimensions."""
    words = make_pipeline(
        TfidfVectorizer(sublinear_tf=True, min_df=2), TruncatedSVD(200, random_state=0)
    ).fit(train.articles)
    return tuple(
        replace(
            part,
            texts={
                "article": words.transform(part.articles),
                "caption": words.transform(part.captions),
            },
        )
        for part in (train, test)
    )  # type: ignore[return-value]


def with_sentences(train: Part, test: Part) -> tuple[Part, Part]:
    """Give both MiniLM vectors, of an article the mean of its captions'."""
    return tuple(
        replace(
            part,
            texts={
                "article": part.sentences.reshape(len(part.images), 5, -1).mean(axis=1),
                "caption": part.sentences,
            },
        )
        for part in (train, test)
    )  # type: ignore[return-value]


def ranked(method: Any, test: Part, task: str, metrics: Any = METRICS, ci: Any = 0.95) -> Any:
    """Evaluate a method on one task."""
    if isinstance(method, SSVR):
        method.set_params(head=task)
    return assess(method.similarity(test.images, test.texts[task]), test, task, metrics, ci)


def assess(scores: Any, test: Part, task: str, metrics: Any, ci: Any = 0.95) -> Any:
    """Evaluate scores of images against articles, or against all captions."""
    n = len(test.images)
    owner = np.arange(n) if task == "article" else test.owner
    return evaluate(scores, (np.arange(n), owner), metrics, ci=ci, names=("image", "text"),
                    groups=(np.arange(n), owner))  # fmt: skip


def reached(method: Any, test: Part, tasks: tuple[str, ...]) -> float:
    """Return the MRR, mean of both directions and of the tasks: what settings are chosen by."""
    found = [ranked(method, test, task, "mrr", ci=None) for task in tasks]
    return float(np.mean([each.mean(None, "mrr") for each in found]))


def network(name: str, lr: float, hidden: tuple[int, ...], epochs: int, seed: int) -> Any:
    """Return a method in the size of this experiment."""
    settings: dict[str, Any] = {
        "lr": lr, "hidden": hidden, "max_epochs": epochs, "batch_size": 128, "lr_step": None,
        "random_state": seed, "device": "cpu", "verbose": 0,
    }  # fmt: skip
    return SSVR(**settings) if name == "SSVR" else TextTopicNet(**settings)


def choose_network(name: str, train: Part, valid: Part) -> dict[str, Any]:
    """Choose learning rate, layers, cut and epochs on held-out images."""
    tasks = NETS[name]
    heard: list[tuple[float, dict[str, Any]]] = []
    for setting in GRID:
        held = cut(valid, setting["cut"])

        def hear(
            estimator: Any, epoch: int, record: Any, s: Any = setting, held: Any = held
        ) -> None:
            if epoch % EVERY == 0:
                heard.append((reached(estimator, held, tasks), {**s, "epochs": epoch}))

        with listening(hear):
            method = network(name, setting["lr"], setting["hidden"], EPOCHS, SEEDS[0])
            method.fit(cut(train, setting["cut"]).views(None if len(tasks) > 1 else tasks[0]))
    score, setting = max(heard, key=lambda entry: entry[0])
    return {**setting, "score": score}


def choose_cca(train: Part, valid: Part, task: str) -> tuple[CCA, float]:
    """Choose components, ridge and power of CCA on held-out images."""
    heard = []
    for reg in RIDGES:
        full = CCA(reg=reg).fit(train.pairs(task))
        X, Z = full.transform(valid.images, valid.texts[task])
        # Fewer components and a power are the first columns, scaled: no other fit is needed.
        for share, power in product(SHARES, POWERS):
            k = int(share * full.n_components_)
            scale = full.correlations_[:k] ** power
            scores = pairwise_similarity(X[:, :k] * scale, Z[:, :k] * scale)
            score = assess(scores, valid, task, "mrr", ci=None).mean(None, "mrr")
            heard.append((score, len(heard), CCA(k, reg=reg, power=power)))
    score, _, method = max(heard)
    return method, score


def run() -> tuple[dict[str, dict[str, Repeats]], dict[str, str], dict[str, Any]]:
    """Return evaluations by task and method, what was chosen, and facts of the data."""
    start = time.perf_counter()
    everything, revision = parts_of("train")
    order = np.random.default_rng(0).permutation(len(everything.images))
    train = everything.take(np.sort(order[HELD_OUT:]))
    valid = everything.take(np.sort(order[:HELD_OUT]))
    test, _ = parts_of("dev")

    def say(what: str) -> None:
        print(f"{time.perf_counter() - start:5.0f} s  {what}", flush=True)

    chosen: dict[str, str] = {}
    settings: dict[str, dict[str, Any]] = {}
    small, held = with_topics(train, valid, SEEDS[0])
    say("topics")
    for name in NETS:
        settings[name] = s = choose_network(name, small, held)
        layers = f"fc6 of {s['hidden'][0]}" if s["hidden"] else "no hidden layer"
        chosen[name] = (
            f"lr {s['lr']:g}, {layers}, topics below {s['cut']:g} cut, {s['epochs']} epochs "
            f"(validation MRR {s['score']:.3f})"
        )
        say(f"{name}: {chosen[name]}")
    baselines: dict[tuple[str, str], CCA] = {}
    sources = {"LDA topics": None, "TF-IDF": with_words, "MiniLM": with_sentences}
    for source, give in sources.items():
        a, b = (small, held) if give is None else give(train, valid)
        for task in TASKS:
            method, score = choose_cca(a, b, task)
            baselines[source, task] = method
            chosen[f"CCA on {source}, {task}"] = (
                f"{method.n_components} components, ridge {method.reg:g}, power {method.power} "
                f"(validation MRR {score:.3f})"
            )
        say(f"CCA on {source}")

    found: dict[str, dict[str, list[Any]]] = {task: {} for task in TASKS}

    def keep(task: str, name: str, method: Any, part: Part) -> None:
        found[task].setdefault(name, []).append(ranked(method, part, task))

    for seed in SEEDS:
        whole, dev = with_topics(everything, test, seed)
        for name, tasks in NETS.items():
            s = settings[name]
            method = network(name, s["lr"], s["hidden"], s["epochs"], seed)
            method.fit(cut(whole, s["cut"]).views(None if len(tasks) > 1 else tasks[0]))
            for task in tasks:
                keep(task, name, method, cut(dev, s["cut"]))
        for task in TASKS:
            keep(task, "CCA on LDA topics", baselines["LDA topics", task].fit(whole.pairs(task)),
                 dev)  # fmt: skip
        say(f"seed {seed}")
    for source, give in list(sources.items())[1:]:
        assert give is not None
        whole, dev = give(everything, test)
        for task in TASKS:
            keep(task, f"CCA on {source}", baselines[source, task].fit(whole.pairs(task)), dev)
    repeats = {
        task: {name: Repeats(runs) for name, runs in by_name.items()}
        for task, by_name in found.items()
    }
    about = {"revision": revision, "train": len(everything.images), "test": len(test.images)}
    say("done")
    return repeats, chosen, about


# ---- the page ------------------------------------------------------------------------------------


def tables(found: dict[str, dict[str, Repeats]]) -> Iterator[str]:
    titles = {
        "article": "Images and articles (an image's five captions joined)",
        "caption": "Images and single captions",
    }
    for task, methods in found.items():
        yield from (f"## {titles[task]}", "")
        for way in WAYS:
            yield from (
                f"{way.replace('2', ' → ')}:", "",
                "| method | R@1 | R@5 | R@10 | median rank | MRR | MRR, seeds |",
                "|---|---|---|---|---|---|---|",
            )  # fmt: skip
            for name, runs in methods.items():
                cells = []
                for metric in METRICS:
                    low, high = runs.interval(way, metric)
                    form = ".1f" if metric == "medr" else ".3f"
                    cells.append(f"{runs.mean(way, metric):{form}} [{low:{form}}, {high:{form}}]")
                spread = runs.spread(way, "mrr")
                cells.append("" if np.isnan(spread) else f"{spread:.3f}")
                yield f"| {name} | {' | '.join(cells)} |"
            yield ""


def pairwise(found: dict[str, dict[str, Repeats]]) -> list[tuple[str, str, str, Any, float]]:
    """Return task, first, second, test and Holm's p, of the mean reciprocal rank both ways."""
    pairs = []
    for task in TASKS:
        one = f"TextTopicNet on {task}s"
        for first, second in (
            ("SSVR", one), ("SSVR", "CCA on LDA topics"), (one, "CCA on LDA topics"),
            ("SSVR", "CCA on TF-IDF"), ("SSVR", "CCA on MiniLM"),
        ):  # fmt: skip
            values = [both_ways(found[task][name]) for name in (first, second)]
            pairs.append((task, first, second, paired_test(*values)))
    adjusted = holm([pair[3].p_value for pair in pairs])
    return [(*pair, float(p)) for pair, p in zip(pairs, adjusted)]


def both_ways(runs: Repeats) -> NDArray[np.float64]:
    """Return one value an image: the mean of its reciprocal rank as a query and of its texts'."""
    values = runs.averaged.per_query
    forward, backward = (values[way, "mrr"] for way in WAYS)
    return (forward + backward.reshape(len(forward), -1).mean(axis=1)) / 2


def verdict(tests: list[tuple[str, str, str, Any, float]]) -> str:
    """Say in words whether what the paper claims shows here."""
    words = []
    for task in TASKS:
        of_task = {(a, b): (t, p) for k, a, b, t, p in tests if k == task}
        for first, second in (("SSVR", f"TextTopicNet on {task}s"), ("SSVR", "CCA on LDA topics"),
                              ("SSVR", "CCA on TF-IDF"), ("SSVR", "CCA on MiniLM")):  # fmt: skip
            test, p = of_task[first, second]
            if p >= 0.05:
                words.append(f"on {task}s {first} and {second} cannot be told apart")
            else:
                more = "better" if test.difference > 0 else "worse"
                words.append(f"on {task}s {first} is {more} than {second}")
    return f"**Here, by MRR and at a level of 5 % after Holm: {'; '.join(words)}.**"


def claim(tests: list[tuple[str, str, str, Any, float]]) -> str:
    """Answer whether a second head helps, the comparison that is the paper's own."""
    better, worse = [], []
    for task, first, second, test, p in tests:
        if first == "SSVR" and second == f"TextTopicNet on {task}s" and p < 0.05:
            (better if test.difference > 0 else worse).append(f"{task}s")
    if len(better) == len(TASKS):
        return "The paper's claim, that the caption's head helps, holds here for both texts."
    if better and not worse:
        return f"The paper's claim, that a second head helps, holds here for {better[0]} only."
    if worse and not better:
        return (
            "The paper's claim, that a second head helps, does not hold here: SSVR is worse than "
            f"one head for {' and '.join(worse)}."
        )
    if better:
        return (
            f"The second head helps for {better[0]} and harms for {worse[0]}: the claim holds in "
            "part."
        )
    return "The paper's claim, that a second head helps, cannot be seen here."


def tried(chosen: dict[str, str]) -> Iterator[str]:
    """Say what settings were chosen from, and which methods wanted more than that."""
    rates = sorted({f"{s['lr']:g}" for s in GRID})
    yield (
        f"Networks were chosen among lr {' and '.join(rates)}, no hidden layer and fc6 of 1024, "
        f"topics kept or cut, and {', '.join(map(str, range(EVERY, EPOCHS + 1, EVERY)))} epochs; "
        f"CCA among {', '.join(f'{share:.0%}' for share in SHARES)} of the components, ridges "
        f"{', '.join(f'{reg:g}' for reg in RIDGES)} and powers {', '.join(map(str, POWERS))}."
    )
    late = [name for name, words in chosen.items() if f" {EPOCHS} epochs" in words]
    if late:
        yield f"The longest training was chosen for {', '.join(late)}: more might be better."
    wide = [name for name, words in chosen.items() if f" ridge {RIDGES[-1]:g}," in words]
    if wide:
        yield f"The largest ridge was chosen for {', '.join(wide)}: more might be better."
    yield ""


def page(found: dict[str, dict[str, Repeats]], chosen: dict[str, str], about: Any) -> str:
    """Return the reproduction card as Markdown."""
    tests = pairwise(found)
    lines = [
        "# SSVR and TextTopicNet on Flickr8k, reduced",
        "",
        "Patel et al. (2019) train AlexNet from scratch on 1.8 million Wikipedia images to "
        "predict the LDA topics of article and caption, and report mAP by class on the Wikipedia "
        "set (image query, text query, mean): 39.10, 43.40, 41.25 for SSVR against 37.63, 40.25, "
        "38.94 for TextTopicNet, the article alone, and 18.77 for CCA. Neither images nor weights "
        "are at hand.",
        "",
        "What can be asked here is whether a second head helps, and what is lost when texts "
        "become 40 topics. This is a **reduced** run, by "
        "`plugins/crossfit-topicnet/experiments/flickr8k.py`: Flickr8k (revision "
        f"`{about['revision'][:12]}`; {about['train']} training images, settings chosen on "
        f"{HELD_OUT} of them, then the {about['test']} development images, which an earlier run "
        "with fewer ridges for CCA had ranked too; nothing was chosen on them), EfficientNet-"
        "Lite0 vectors in place of pixels, layers from fc6 up in place of AlexNet. There are no "
        "classes: an image's own text is relevant and nothing else. It says nothing about the "
        "paper's own data, and features trained on ImageNet leave out what the paper is mainly "
        "about, visual features learned without labels.",
        "",
        f"LDA of {N_TOPICS} topics on the training articles, 10 passes; words that occur in 20 "
        "articles and in half of them at most. Networks and topics are the mean of "
        f"{len(SEEDS)} seeds; in brackets 95 % bootstrap intervals over images, whose captions "
        "stay together; the last column is the standard deviation over the seeds.",
        "",
        *tables(found),
        f"Chosen on the {HELD_OUT} held-out training images by MRR, for each method on its own:",
        "",
        *(f"- {name}: {words}" for name, words in chosen.items()),
        "",
        *tried(chosen),
        "## Differences",
        "",
        "Of the reciprocal rank, mean of both directions, image by image, averaged over the "
        "seeds; randomisation test over images, 10,000 draws; p after Holm over all rows.",
        "",
        "| texts | | difference | 95 % interval | p | p, Holm |",
        "|---|---|---|---|---|---|",
        *(
            f"| {task}s | {a} − {b} | {t.difference:+.4f} | [{t.low:+.4f}, {t.high:+.4f}] | "
            f"{t.p_value:.4f} | {p:.4f} |"
            for task, a, b, t, p in tests
        ),
        "",
        verdict(tests),
        "",
        claim(tests),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/reproduction/ssvr.md"))
    out = parser.parse_args().out
    out.parent.mkdir(parents=True, exist_ok=True)
    result = run()
    out.write_text(page(*result), encoding="utf-8")
    print(f"wrote {out}")
