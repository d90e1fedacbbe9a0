"""HGLMM and GMM+HGLMM with CCA: the pipeline of their parts, strings, chunks, real captions."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator

from crossfit import Ragged, Views, make_retrieval_scorer, registry
from crossfit.experiment import Experiment
from crossfit.experiment.cards import KLEIN_COCO, KLEIN_FLICKR30K
from crossfit.extraction import FisherVector, WordVectors
from crossfit.persistence import load, save
from crossfit.subspace import CCA, GMMHGLMMCCA, HGLMMCCA

BOTH = pytest.mark.parametrize("kind", [HGLMMCCA, GMMHGLMMCCA])
SMALL = {"mixture_size": 3}


def topical(n=240, n_topics=12, seed=0):
    """Return pictures that show a topic, and sentences of words that are drawn around it."""
    rng = np.random.default_rng(seed)
    topics = rng.normal(size=(n_topics, 6))
    y = np.arange(n) % n_topics
    text = Ragged.from_list([topics[k] + 0.5 * rng.laplace(size=(8, 6)) for k in y])
    image = topics[y] @ rng.normal(size=(6, 10)) + 0.5 * rng.normal(size=(n, 10))
    return Views(image=image, text=text), y


def sayings(n=120, seed=0):
    """Return pictures of one of six things, each with a sentence that names it."""
    rng = np.random.default_rng(seed)
    things = ["cat", "dog", "river", "violin", "kitchen", "mountain"]
    others = ["a", "the", "by", "small", "old", "red", "sleeps", "waits"]
    y = np.arange(n) % 6
    text = [" ".join(rng.permutation([*rng.choice(others, 4), things[k], things[k]])) for k in y]
    image = 3 * np.eye(6, 8)[y] + 0.3 * rng.normal(size=(n, 8))
    return Views(image=image, text=text), y


# ---- the parts ---------------------------------------------------------------------------------


@BOTH
def test_it_is_fisher_vectors_and_cca(kind):
    views, y = topical()
    method = kind(6, **SMALL, reg={"image": 0.2, "text": 0.05}, random_state=4)
    method.fit(views[:180])
    seed = np.random.RandomState(4).randint(2**31 - 1)
    mixtures = {HGLMMCCA: ["hglmm"], GMMHGLMMCCA: ["gmm", "hglmm"]}[kind]
    fishers = [
        FisherVector(name, 3, random_state=seed).fit(views[:180]["text"]) for name in mixtures
    ]
    described = views.replace(text=np.hstack([f.transform(views["text"]) for f in fishers]))
    assert described["text"].shape[1] == len(mixtures) * 2 * 3 * 6
    cca = CCA(6, reg={"image": 0.2, "text": 0.05}, reg_style="spectral", power=1.0)
    cca.fit(described[:180])
    for role in views.names:
        expected = cca.transform(described[180:])[role]
        np.testing.assert_allclose(method.transform(views[180:])[role], expected, atol=1e-8)
    np.testing.assert_allclose(method.cca_.correlations_, cca.correlations_)
    assert method.score(views[180:], y[180:]) > 0.6


def test_both_mixtures_share_the_rotation():
    method = GMMHGLMMCCA(**SMALL).fit(topical()[0])
    gmm, hglmm = method.fishers_
    np.testing.assert_array_equal(gmm.rotation_, hglmm.rotation_)
    assert (gmm.mixture_.kind, hglmm.mixture_.kind) == ("gaussian", "hybrid")


def test_parameters_of_the_fisher_vectors():
    views, _ = topical()
    method = HGLMMCCA(mixture_size=2, ica=False, fisher_power=1.0, normalize=False, max_words=99)
    fisher = method.fit(views).fishers_[0]
    assert not (fisher.ica or fisher.normalize)
    assert (fisher.power, fisher.max_words, fisher.n_components) == (1.0, 99, 2)
    np.testing.assert_array_equal(fisher.rotation_, np.eye(6))


def test_some_coordinates_at_random():
    views, y = topical()
    method = GMMHGLMMCCA(**SMALL, n_coordinates=40).fit(views)
    chosen = method.coordinates_
    assert len(np.unique(chosen)) == 40 and np.all(np.diff(chosen) > 0) and chosen[-1] < 72
    full = np.hstack([fisher.transform(views["text"]) for fisher in method.fishers_])
    expected = method.cca_.encode(full[:, chosen], "text")
    np.testing.assert_allclose(method.encode(views["text"], "text"), expected)
    other = GMMHGLMMCCA(**SMALL, n_coordinates=40, random_state=1).fit(views)
    assert not np.array_equal(other.coordinates_, chosen)
    assert len(GMMHGLMMCCA(**SMALL, n_coordinates=1000).fit(views).coordinates_) == 72
    assert method.score(views, y) > 0.6


@pytest.mark.parametrize("rows", [7, 50])
def test_chunks_give_the_same_method(rows, monkeypatch):
    views, _ = topical()
    views = Views.from_captions(views["image"][:60], views["text"], np.arange(240) // 4)
    expected = HGLMMCCA(6, mixture_size=2).fit(views)
    monkeypatch.setattr("crossfit.subspace.hglmm._ENTRIES", rows * 24)
    found = HGLMMCCA(6, mixture_size=2).fit(views)
    assert not hasattr(found.cca_, "sums_")
    np.testing.assert_allclose(found.cca_.correlations_, expected.cca_.correlations_, atol=1e-9)
    np.testing.assert_allclose(found.similarity(views), expected.similarity(views), atol=1e-5)


def test_captions_count_as_pairs():
    views, _ = topical(60)
    index = np.repeat(np.arange(20), 3)
    captions = Views.from_captions(views["image"][:20], views["text"], index)
    rows = Views(image=views["image"][:20][index], text=views["text"])
    one, other = (HGLMMCCA(4, mixture_size=2).fit(part) for part in (captions, rows))
    np.testing.assert_allclose(
        one.encode(views["image"], "image"), other.encode(views["image"], "image"), atol=1e-8
    )
    assert one.similarity(captions).shape == (20, 60)


# ---- strings -----------------------------------------------------------------------------------


@BOTH
def test_strings_learn_word_vectors(kind, tmp_path):
    views, y = sayings()
    method = kind(5, **SMALL).fit(views[:90])
    assert method.words_.vectors_.shape[1] == 100
    assert method.score(views[90:], y[90:]) > 0.5
    read = load(save(method, tmp_path / "model"))
    np.testing.assert_array_equal(read.similarity(views[90:]), method.similarity(views[90:]))


def test_a_given_transformer_of_strings_is_cloned():
    views, _ = sayings()
    words = WordVectors(vector_size=12, min_count=1)
    method = HGLMMCCA(5, words=words, **SMALL).fit(views)
    assert method.words_.vectors_.shape[1] == 12 and not hasattr(words, "vectors_")
    ragged = views.replace(text=method.words_.transform(views["text"]))
    same = HGLMMCCA(5, **SMALL).fit(ragged)
    assert same.words_ is None
    np.testing.assert_allclose(same.similarity(ragged), method.similarity(views), atol=1e-6)


def test_texts_without_known_words_have_zero_fisher_vectors():
    views, _ = topical()
    method = HGLMMCCA(4, mixture_size=2).fit(views)
    empty = Ragged.from_list([np.zeros((0, 6)), views["text"][0], np.zeros((2, 6))])
    with pytest.warns(UserWarning, match="2 of 3 sets hold no known word"):
        found = method.encode(empty, "text")
    expected = method.cca_.encode(np.zeros((1, 24)), "text")
    np.testing.assert_allclose(found[[0, 2]], np.repeat(expected, 2, axis=0), atol=1e-9)
    np.testing.assert_allclose(found[1], method.encode(views["text"][:1], "text")[0], atol=1e-9)


def test_arrays_and_tensors_of_words():
    import torch

    views, _ = topical()
    array = views.replace(text=np.stack(list(views["text"])))
    expected = HGLMMCCA(4, mixture_size=2).fit(views).similarity(views)
    found = HGLMMCCA(4, mixture_size=2).fit(array).similarity(array)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    tensors = array.map(lambda values, _: torch.tensor(values))
    found = HGLMMCCA(4, mixture_size=2).fit(tensors).similarity(tensors)
    np.testing.assert_allclose(found, expected, atol=1e-6)


# ---- bad input ---------------------------------------------------------------------------------


class Letters(BaseEstimator):
    """Returns numbers, not sets of vectors."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return np.array([[len(text)] for text in X])


def test_bad_input_is_refused():
    views, _ = topical(60)
    said, _ = sayings(60)
    for params, words in [
        ({"mixture_size": 0}, "'mixture_size' parameter of HGLMMCCA"),
        ({"words": "glove.txt"}, "'words' parameter of HGLMMCCA"),
        ({"n_coordinates": 0}, "'n_coordinates' parameter of HGLMMCCA"),
        ({"reg": -1}, "'reg' parameter of HGLMMCCA"),
        ({"fisher_power": 2}, "'fisher_power' parameter of HGLMMCCA"),
    ]:
        with pytest.raises(ValueError, match=words):
            HGLMMCCA(**params).fit(views)
    with pytest.raises(ValueError, match="view 'text' must be a list of strings"):
        HGLMMCCA().fit(views["image"], views["image"])
    method = HGLMMCCA(mixture_size=2).fit(views)
    with pytest.raises(ValueError, match="'text' must be word vectors, as in fit, got strings"):
        method.encode(["a cat"], "text")
    with pytest.raises(ValueError, match="view 'text' has 5 features"):
        method.encode(Ragged.from_list([np.ones((2, 5))]), "text")
    method = HGLMMCCA(mixture_size=2).fit(said)
    with pytest.raises(ValueError, match="'text' must be strings, as in fit, got word vectors"):
        method.encode(views["text"], "text")
    with pytest.raises(TypeError, match="HGLMMCCA expects a Ragged of vectors"):
        HGLMMCCA(words=Letters()).fit(said)
    with pytest.raises(ValueError, match="at least 500 known words for n_components=500"):
        HGLMMCCA(mixture_size=500).fit(views)


# ---- experiments -------------------------------------------------------------------------------


FIGURES = {
    KLEIN_FLICKR30K: {
        "GMM+HGLMM": ".333 .620 .747 3 .256 .532 .668 5",
        "HGLMM": ".332 .607 .724 3 .249 .523 .664 5",
    },
    KLEIN_COCO: {
        "GMM+HGLMM": ".389 .684 .801 2 .256 .604 .768 4",
        "HGLMM": ".387 .684 .810 2 .251 .597 .765 4",
    },
}


@pytest.mark.parametrize("card", FIGURES, ids=lambda card: card.name)
def test_experiments_have_the_published_settings_and_figures(card):
    assert registry.get(card.name, "crossfit.experiments") == card
    spec = Experiment.find(card.name)
    assert {entry.method for entry in spec.methods} == set(card.methods)
    for entry in spec.methods:
        cls = registry.load(entry.method, "crossfit.methods")
        method = cls(**entry.params)
        method._validate_params()
        assert method.mixture_size == 30 and method.reg_style == "spectral" and method.power == 1
        found = [
            entry.published[metric][way]
            for way in ("image2text", "text2image")
            for metric in ("r@1", "r@5", "r@10", "medr")
        ]
        assert found == [float(value) for value in FIGURES[card][entry.label].split()]
    both = {entry.label: entry.params["n_coordinates"] for entry in spec.methods}
    assert both == {"GMM+HGLMM": 20_000 if card is KLEIN_COCO else None, "HGLMM": None}


# ---- real data ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def flickr8k(data_root):
    """Return pictures of Flickr8k with all their captions: 500 to train on, 200 to test."""
    folder = data_root / "flickr8k"
    if not (folder / "features_train_dev.npz").exists():
        pytest.skip(f"no flickr8k/features_train_dev.npz in {data_root}")
    captions = {}
    with open(folder / "Flickr8k_text" / "Flickr8k.token.txt", encoding="utf-8") as lines:
        for line in lines:
            name, caption = line.rstrip("\n").split("\t")
            captions.setdefault(name.partition("#")[0], []).append(caption)
    with np.load(folder / "features_train_dev.npz") as stored:
        names = stored["image_ids"]
        images = stored["image_efficientnet_lite0"].astype(np.float32)

    def part(chosen):
        texts = [captions[name] for name in names[chosen]]
        index = np.repeat(np.arange(len(texts)), [len(of_image) for of_image in texts])
        return Views.from_captions(images[chosen], [c for some in texts for c in some], index)

    return part(slice(500)), part(slice(6000, 6200))


@BOTH
def test_flickr8k_with_the_default(kind, flickr8k):
    train, test = flickr8k
    assert (len(train), len(test)) == (2500, 1000)
    score = make_retrieval_scorer("mrr")(kind().fit(train), test)
    print(f"{kind.__name__}: {score:.3f}")
    assert score > 0.15  # chance is .029
