"""DVSA against its equations, its invariances, its memory, and what a user sees of it."""

import numpy as np
import pytest
import torch
from sklearn.base import clone

import crossfit
from crossfit import Ragged, Views, datasets
from crossfit.compose import ViewTransformer
from crossfit.extraction import GridFeatures, WordVectors
from crossfit.metrics import chance_level
from crossfit.neural import Batch, Items, WordEmbedding
from crossfit.testing import PeakBytes
from crossfit_ranking import cards
from crossfit_ranking.dvsa import BRNN, DVSA, DVSANetwork, aligned
from crossfit_ranking.testing import make_regions

SMALL = {**cards.DVSA.test_params, "random_state": 0}
REGION, WORD, WIDTH = 7, 5, 6


@pytest.fixture(scope="module")
def planted():
    views, _ = make_regions(np.random.default_rng(0), 120)
    return views[:80], views[80:]


@pytest.fixture(scope="module")
def fitted(planted):
    return DVSA(**SMALL).fit(planted[0])


@pytest.fixture(autouse=True)
def _leave_torch_as_it_was():
    with torch.random.fork_rng():
        yield


# ---- the network against the equations ---------------------------------------------------------


def _network(**settings):
    torch.manual_seed(0)
    given = {
        "fragments": "brnn",
        "hidden": 8,
        "window": 2,
        "width": WIDTH,
        "dropout": 0.0,
        "standardize": False,
        "unit_length": False,
    }
    network = DVSANetwork(REGION, WordEmbedding(WORD), **{**given, **settings}).eval()
    with torch.no_grad():
        for weight in network.parameters():  # biases that are not zero
            weight.add_(0.2 * torch.randn_like(weight))
    return network


def _inputs():
    """Return regions of three images and words of four texts, of unequal numbers."""
    torch.manual_seed(1)
    seen = torch.arange(5) < torch.tensor([5, 2, 3])[:, None]
    said = torch.arange(6) < torch.tensor([6, 1, 3, 2])[:, None]
    regions = torch.randn(3, 5, REGION) * seen[..., None]
    return Items(regions, seen), Items(torch.randn(4, 6, WORD) * said[..., None], said)


def _array(tensor):
    return tensor.detach().numpy()


def _relu(x):
    return np.maximum(x, 0)


def _words_by_hand(network, words):
    """Follow equations 3 to 7 word by word, or the fragments of two words."""
    part = network.fragments
    if not isinstance(part, BRNN):
        following = [*words[1:], np.zeros_like(words[0])]
        pairs = [np.concatenate(pair) for pair in zip(words, following)]
        return [_relu(_array(part.map.weight) @ x + _array(part.map.bias)) for x in pairs]
    (Wf, Wb), (bf, bb) = _array(part.weight), _array(part.bias)[:, 0]
    e = [_relu(_array(part.read.weight) @ x + _array(part.read.bias)) for x in words]
    forward, backward = [], []
    h = np.zeros(8)
    for x in e:
        h = _relu(x + h @ Wf + bf)
        forward.append(h)
    h = np.zeros(8)
    for x in e[::-1]:
        h = _relu(x + h @ Wb + bb)
        backward.insert(0, h)
    return [_relu(_array(part.write.weight) @ (f + b) + _array(part.write.bias))
            for f, b in zip(forward, backward)]  # fmt: skip


def _by_hand(network, regions, words):
    W, b = _array(network.regions.weight), _array(network.regions.bias)
    v = [W @ r + b for r in regions]
    s = _words_by_hand(network, words)
    if network.unit_length:
        v, s = ([x / max(np.linalg.norm(x), 1e-12) for x in part] for part in (v, s))
    return sum(max(r @ t for r in v) for t in s)


@pytest.mark.parametrize("unit_length", [True, False])
@pytest.mark.parametrize("fragments", ["brnn", "windows"])
def test_the_scores_are_the_equations(fragments, unit_length):
    network = _network(fragments=fragments, unit_length=unit_length)
    images, texts = _inputs()
    with torch.no_grad():
        scores = aligned(*network.prepare(images, "image"), *network.prepare(texts, "text"))
    for i in range(3):
        for j in range(4):
            expected = _by_hand(
                network,
                _array(images.values[i][images.mask[i]]),
                _array(texts.values[j][texts.mask[j]]),
            )
            assert scores[i, j].item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("many", [False, True])
def test_blocks_are_those_of_the_loop_with_and_without_a_copy_of_the_words(many):
    torch.manual_seed(0)
    n = 40 if many else 1  # 40 x 5 regions are more than four times the 6 features
    regions = torch.randn(n, 5, 6, dtype=torch.float64, requires_grad=True)
    words = torch.randn(7, 4, 6, dtype=torch.float64, requires_grad=True)
    said = torch.arange(4) < torch.tensor([4, 0, 1, 2, 3, 4, 0])[:, None]
    seen = torch.rand(n, 5) < 0.7
    seen[0], seen[-1] = True, not many
    assert (n * 5 >= 4 * 6) == many
    scores = aligned(regions, seen, words, said)
    loop = torch.stack([
        torch.stack([
            sum(
                [max((r @ w for r in image[real]), default=torch.zeros(()).double())
                 for w in text[mask]],
                start=torch.zeros(()).double(),
            )
            for text, mask in zip(words, said)
        ])
        for image, real in zip(regions, seen)
    ])  # fmt: skip
    torch.testing.assert_close(scores, loop)
    assert not scores[:, 1].any() and not (many and scores[-1].any())
    weights = torch.randn_like(scores)
    ours = torch.autograd.grad((scores * weights).sum(), (regions, words))
    theirs = torch.autograd.grad((loop * weights).sum(), (regions, words))
    for found, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(aligned(regions, None, words, said),
                               aligned(regions, torch.ones_like(seen), words, said))  # fmt: skip


def test_a_window_of_one_word_is_the_word_alone():
    network = _network(fragments="windows", window=1)
    _, texts = _inputs()
    with torch.no_grad():
        found, _ = network.prepare(texts, "text")
        expected = torch.relu(network.fragments.map(texts.values))
    torch.testing.assert_close(found, expected)


# ---- invariances -------------------------------------------------------------------------------


def test_the_order_of_regions_does_not_matter_and_that_of_words_does(fitted, planted):
    test = planted[1]
    scores = fitted.similarity(test)
    shuffled = test["image"][:, np.random.default_rng(0).permutation(6)]
    np.testing.assert_allclose(fitted.similarity(shuffled, test["text"]), scores, atol=1e-5)
    backwards = Ragged.from_list([row[::-1] for row in test["text"]])
    assert np.abs(fitted.similarity(test["image"], backwards) - scores).max() > 0.01


@pytest.mark.parametrize("fragments", ["brnn", "windows"])
def test_padding_does_not_matter(planted, fragments):
    train, test = planted
    method = DVSA(**{**SMALL, "max_epochs": 1, "fragments": fragments}).fit(train)
    expected = method.similarity(test)
    padded, _ = test["text"].padded(30)
    np.testing.assert_allclose(method.similarity(test["image"], padded), expected, atol=1e-5)
    ragged = Ragged.from_list([*test["image"], np.ones((40, 10))])  # padded to 40 regions
    long = Ragged.from_list([*test["text"], np.ones((25, 8))])  # and to 25 words
    found = method.similarity(ragged, long)[:-1, :-1]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_repeated_word_counts_twice_unless_scores_are_divided_by_the_number_of_words(planted):
    train, test = planted
    settings = {**SMALL, "max_epochs": 1, "fragments": "windows", "window": 1}
    twice = Ragged.from_list([np.concatenate([row, row]) for row in test["text"]])
    for normalize, factor in ((True, 1), (False, 2)):
        method = DVSA(**settings, normalize=normalize).fit(train)
        scores = method.similarity(test)
        found = method.similarity(test["image"], twice)
        np.testing.assert_allclose(found, factor * scores, rtol=1e-4, atol=1e-5)


def test_texts_without_words_and_images_without_regions_have_the_score_0(fitted, planted):
    images, texts = planted[1]["image"][:2], planted[1]["text"]
    empty = fitted.similarity(images, Ragged.from_list([np.zeros((0, 8)), texts[0]]))
    assert not empty[:, 0].any() and empty[:, 1].all()
    bare = fitted.similarity(Ragged.from_list([images[0], np.zeros((0, 10))]), texts[:2])
    assert bare[0].all() and not bare[1].any()


# ---- blocks ------------------------------------------------------------------------------------


def test_scores_are_those_of_single_pairs_in_blocks_of_any_size(fitted, planted):
    test = planted[1][:9]
    images, texts = test["image"], test["text"]
    naive = np.array([[fitted.similarity(images[[i]], texts[[j]])[0, 0] for j in range(9)]
                      for i in range(9)])  # fmt: skip
    for memory, chunk in ((2**28, None), (2**12, None), (2**28, 4)):
        fitted.set_params(score_memory=memory)
        found = fitted.similarity(test, chunk_size=chunk)
        np.testing.assert_allclose(found, naive, rtol=1e-5, atol=1e-5)
    fitted.set_params(score_memory=2**28)


@pytest.mark.parametrize("width", [8, 64])
@pytest.mark.parametrize("ragged", [True, False])
@pytest.mark.parametrize("n_images", [1, 40])
def test_memory_keeps_to_the_bound(planted, width, ragged, n_images):
    train, test = planted
    method = DVSA(**{**SMALL, "max_epochs": 1, "width": width}).fit(train)
    images = test["image"][:n_images]
    if ragged:
        images = Ragged.from_list(list(images))
    long = Ragged.from_list([np.resize(row, (20 - i % 9, 8)) for i, row in enumerate(test["text"])])
    P, Q = method._prepare(images, "image"), method._prepare(long, "text")
    scores = np.empty((len(P), len(Q)), np.float32)
    for memory in (2**15, 2**17):
        method.set_params(score_memory=memory)
        with PeakBytes(*(p for p in (*P.parts, *Q.parts) if p is not None)) as counter:
            method._fill(P, Q, scores, None)
        rows, columns = method._block(P, Q, None, torch.device("cpu"))
        assert 0 < counter.peak <= memory
        assert rows * columns == scores.size or counter.peak > memory / 10


# ---- the loss ----------------------------------------------------------------------------------


def test_the_published_loss_is_the_sum_of_hinges_in_both_directions(planted):
    """Equation 9, in which captions of one image are never wrong."""
    rng = np.random.default_rng(0)
    S = rng.normal(size=(5, 5))
    image, group = torch.tensor([0, 0, 1, 2, 3]), torch.tensor([0, 0, 1, 1, 2])
    batch = Batch({"image": None, "text": None}, {"image": image, "text": torch.arange(5)},
                  group, None)  # fmt: skip
    terms = DVSA(mining="sum", margin=1.0)._loss(torch.tensor(S), batch)

    def loop(S):
        found = []
        for k in range(5):
            for p in range(5):
                if image[k] == image[p]:
                    wrong = [j for j in range(5) if group[k] != group[j]]
                    found.append(sum(max(0, S[k, j] - S[k, p] + 1) for j in wrong))
        return np.mean(found)

    assert terms["image2text"].item() == pytest.approx(loop(S))
    assert terms["text2image"].item() == pytest.approx(loop(S.T))


def test_every_element_of_the_gradient_is_limited(planted):
    seen = []

    class Watch(torch.optim.SGD):
        def step(self, closure):
            loss = closure()  # computes the gradients
            parts = [p.grad.abs().max() for group in self.param_groups for p in group["params"]]
            seen.append(float(torch.stack(parts).max()))
            super().step()
            return loss

    settings = {**SMALL, "max_epochs": 1, "optimizer": Watch, "lr": 1e-3, "mining": "sum"}
    DVSA(**settings).fit(planted[0])
    free = max(seen)
    seen.clear()
    DVSA(**settings, clip=free / 10).fit(planted[0])
    assert max(seen) == pytest.approx(free / 10, rel=1e-5)


# ---- learning ----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*hold no word that has a vector")
@pytest.mark.parametrize("fragments", ["brnn", "windows"])
def test_the_defaults_learn(fragments):
    """Pictures of emoji and their names: far above chance on test pairs, both ways."""
    emoji = datasets.load("emoji")
    grid = GridFeatures(4, output="regions", cache=False)
    words = WordVectors(vector_size=50, min_count=1, verbose=False)
    features = ViewTransformer([("image", grid), ("text", words)])
    train = features.fit_transform(emoji["train"].views)
    test = features.transform(emoji["test"].views)
    method = DVSA(fragments=fragments, device="cpu", random_state=0).fit(train)
    found = crossfit.evaluate(method.similarity(test), np.eye(len(test)), "mrr", ci=None)
    chance = chance_level(np.eye(len(test)), "mrr").mean(None, "mrr")
    assert min(found.mean(way, "mrr") for way in found.directions) > 2 * chance


def test_the_method_learns_what_pairs_share(fitted, planted):
    assert fitted.score(planted[1]) > 0.25  # chance is about .1
    assert fitted.net_.history[-1]["train_loss"] < 0.7 * fitted.net_.history[0]["train_loss"]
    assert {"train_image2text", "train_text2image"} <= set(fitted.net_.history[-1])


def test_fits_repeat_bit_for_bit_and_bundles_keep_the_scores(fitted, planted, tmp_path):
    scores = fitted.similarity(planted[1])
    again = clone(fitted).fit(planted[0])
    np.testing.assert_array_equal(again.similarity(planted[1]), scores)
    crossfit.save(fitted, tmp_path / "dvsa")
    np.testing.assert_array_equal(crossfit.load(tmp_path / "dvsa").similarity(planted[1]), scores)


def test_mixed_precision_distinguishes_scores(fitted, planted):
    mixed = DVSA(**SMALL, amp=True).fit(planted[0])
    scores = mixed.similarity(planted[1])
    assert scores.dtype == np.float32 and len(np.unique(scores)) > 0.99 * scores.size


def test_several_captions_of_an_image(planted):
    train = planted[0]
    index = np.repeat(np.arange(16), 5)
    views = Views.from_captions(train["image"][:16], train["text"], index)
    method = DVSA(**{**SMALL, "max_epochs": 2}).fit(views)
    assert method.similarity(views).shape == (16, 80)


# ---- which region every word matched -----------------------------------------------------------


@pytest.mark.parametrize("ragged", [True, False])
def test_explain_gives_the_region_of_every_word(fitted, planted, ragged):
    test = planted[1][:9]
    images, texts = test["image"], test["text"]
    words = np.array([f"w{i}" for i in range(len(texts.values))], dtype=object)
    boxes = np.arange(9 * 6 * 4).reshape(-1, 4)
    views = Views(
        image=Ragged(images.reshape(-1, 10), np.arange(10) * 6, {"boxes": boxes})
        if ragged
        else images,
        text=Ragged(texts.values, texts.offsets, {"words": words}),
    )
    found = fitted.explain(views)
    network = fitted.net_.module_.eval()
    for i in range(9):
        with torch.no_grad():
            v, _ = network.prepare(Items(torch.tensor(images[[i]], dtype=torch.float32)), "image")
            s, _ = network.prepare(Items(torch.tensor(texts[i][None], dtype=torch.float32)), "text")
        at = (s[0] @ v[0].T).argmax(dim=1).numpy()
        np.testing.assert_array_equal(found["alignment"][i], np.eye(6)[at])
        expected = np.bincount(at, minlength=6) / len(at)
        np.testing.assert_allclose(found["image"][i], expected, atol=1e-6)
    assert found["alignment"].info["words"].tolist() == words.tolist()
    assert ("boxes" in found["image"].info) == ragged
    # What is matched accounts for the score.
    total = [(fitted.explain(views[[i]])["alignment"][0]).sum() for i in range(9)]
    assert total == texts.lengths.tolist()


@pytest.mark.filterwarnings("ignore:.*hold no word of the vocabulary")
def test_explain_takes_several_captions_strings_and_empty_items(fitted, planted):
    train, test = planted
    index = np.repeat(np.arange(4), 2)
    views = Views.from_captions(test["image"][:4], test["text"][:8], index)
    pairs = fitted.explain(test["image"][index], test["text"][:8])
    found = fitted.explain(views)
    assert len(found) == 8
    np.testing.assert_array_equal(found["alignment"].values, pairs["alignment"].values)
    with pytest.raises(ValueError, match="needs the views image and text, got image"):
        fitted.explain(test.select("image"))
    bare = Ragged.from_list([test["image"][0], np.zeros((0, 10))])
    none = fitted.explain(bare, Ragged.from_list([np.zeros((0, 8)), test["text"][1]]))
    assert none["alignment"].lengths.tolist() == [0, test["text"].lengths[1]]
    assert not none["alignment"].values.any() and none["image"].lengths.tolist() == [6, 0]
    texts = np.array([f"a{i % 7} b{i % 5} a{i % 3}" for i in range(80)], dtype=object)
    said = DVSA(**{**SMALL, "max_epochs": 1}, max_words=2).fit(train["image"], texts)
    explained = said.explain(train["image"][:2], np.array(["a1 b2 a3", "zz"], dtype=object))
    assert explained["alignment"].info["words"].tolist() == ["a1", "b2", "<unk>"]


# ---- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"fragments": "trees"}, "fragments"),
        ({"window": 0}, "window"),
        ({"hidden": 0}, "hidden"),
        ({"clip": 0}, "clip"),
        ({"mining": "none"}, "mining"),
        ({"margin": -1}, "margin"),
        ({"normalize": None}, "normalize"),
    ],
)
def test_wrong_parameters_are_rejected(planted, params, words):
    with pytest.raises(ValueError, match=words):
        DVSA(**{**SMALL, **params}).fit(planted[0])
