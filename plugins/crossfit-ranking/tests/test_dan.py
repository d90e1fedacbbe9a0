"""DAN against its equations, its invariances, and what a user sees of it."""

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.base import clone

import crossfit
from crossfit import Ragged, Views, datasets
from crossfit.compose import ViewTransformer
from crossfit.extraction import GridFeatures, Tokens, WordVectors
from crossfit.metrics import chance_level
from crossfit.neural import Batch, Items, Standardize, WordEmbedding
from crossfit_ranking import cards
from crossfit_ranking.dan import DAN, DANNetwork
from crossfit_ranking.testing import make_regions

SMALL = {**cards.DAN.test_params, "random_state": 0}
REGION, WORD, WIDTH = 7, 5, 6


@pytest.fixture(scope="module")
def planted():
    views, _ = make_regions(np.random.default_rng(0), 120)
    return views[:80], views[80:]


@pytest.fixture(scope="module")
def fitted(planted):
    return DAN(**SMALL).fit(planted[0])


@pytest.fixture(autouse=True)
def _leave_torch_as_it_was():
    with torch.random.fork_rng():
        yield


# ---- the network against the equations ---------------------------------------------------------


def _network(**settings):
    torch.manual_seed(0)
    given = {
        "width": WIDTH,
        "n_steps": 2,
        "directions": "sum",
        "dropout": 0.0,
        "normalize": False,
        "standardize": False,
    }
    network = DANNetwork(REGION, WordEmbedding(WORD), **{**given, **settings}).eval()
    with torch.no_grad():
        for weight in network.parameters():  # biases that are not zero, and sharp attention
            weight.mul_(2).add_(0.1 * torch.randn_like(weight))
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


def _steps_by_hand(network, elements, attentions, first, glimpse):
    """Follow the steps of one item: the vectors u_0 to u_K or v_0 to v_K, and the attention."""
    memory = first
    vectors, weights = [first], []
    for step, attention in enumerate(attentions, start=1):
        W, b = _array(attention.of_vectors.weight), _array(attention.of_vectors.bias)
        Wm, bm = _array(attention.of_memory.weight), _array(attention.of_memory.bias)
        w = _array(attention.weight.weight)[0]
        logits = [w @ (np.tanh(W @ x + b) * np.tanh(Wm @ memory + bm)) for x in elements]
        a = softmax(logits)
        vectors.append(glimpse(step, sum(share * x for share, x in zip(a, elements))))
        weights.append(a)
        memory = memory + vectors[-1]
    return vectors, weights


def _image_by_hand(network, regions):
    def glimpse(step, pooled):
        layer = network.projections[step]
        return np.tanh(_array(layer.weight) @ pooled + _array(layer.bias))

    first = glimpse(0, regions.mean(axis=0))
    return _steps_by_hand(network, regions, network.looks, first, glimpse)


def _text_by_hand(network, words, directions):
    with torch.no_grad():
        states = network.lstm.rnn(torch.tensor(words)[None])[0][0].view(len(words), 2, WIDTH)
    u = _array(states.sum(dim=1) if directions == "sum" else states.mean(dim=1))
    return _steps_by_hand(network, u, network.reads, u.mean(axis=0), lambda step, pooled: pooled)


@pytest.mark.parametrize("directions", ["sum", "mean"])
@pytest.mark.parametrize("n_steps", [0, 1, 3])
def test_the_network_is_the_equations(directions, n_steps):
    network = _network(directions=directions, n_steps=n_steps)
    images, texts = _inputs()
    with torch.no_grad():
        v, looks = network.steps(images, "image")
        u, reads = network.steps(texts, "text")
        scores = network.encode(images, "image") @ network.encode(texts, "text").T
    by_hand = {
        "image": [_image_by_hand(network, _array(x[m])) for x, m in zip(*images)],
        "text": [_text_by_hand(network, _array(x[m]), directions) for x, m in zip(*texts)],
    }
    for found, attention, expected in ((v, looks, by_hand["image"]), (u, reads, by_hand["text"])):
        assert len(found) == n_steps + 1 and len(attention) == n_steps
        for i, (vectors, weights) in enumerate(expected):
            for step, vector in enumerate(vectors):
                np.testing.assert_allclose(found[step][i], vector, atol=1e-5)
            for step, a in enumerate(weights):
                np.testing.assert_allclose(attention[step][i, : len(a)], a, atol=1e-5)
                assert not attention[step][i, len(a) :].any()
    # One dot product of the concatenated vectors is the sum of the dot products of the steps.
    for i, (image, _) in enumerate(by_hand["image"]):
        for j, (text, _) in enumerate(by_hand["text"]):
            expected = sum(a @ b for a, b in zip(image, text))
            assert scores[i, j].item() == pytest.approx(expected, abs=1e-4)


def test_normalised_scores_are_the_mean_of_the_cosines_of_the_steps():
    network = _network(normalize=True)
    images, texts = _inputs()
    with torch.no_grad():
        scores = network.encode(images, "image") @ network.encode(texts, "text").T
        (v, _), (u, _) = network.steps(images, "image"), network.steps(texts, "text")
    cosines = [torch.nn.functional.cosine_similarity(a[:, None], b, dim=2) for a, b in zip(v, u)]
    torch.testing.assert_close(scores, torch.stack(cosines).mean(dim=0))


def test_without_memory_the_attention_is_uniform():
    network = _network()
    images, texts = _inputs()
    for attention in (*network.looks, *network.reads):
        torch.nn.init.zeros_(attention.of_memory.weight)
        torch.nn.init.zeros_(attention.of_memory.bias)
    for items, view in ((images, "image"), (texts, "text")):
        with torch.no_grad():
            _, weights = network.steps(items, view)
        for found in weights:
            uniform = items.mask / items.mask.sum(dim=1, keepdim=True)
            torch.testing.assert_close(found, uniform)


# ---- invariances -------------------------------------------------------------------------------


def test_the_order_of_regions_does_not_matter_and_that_of_words_does(fitted, planted):
    test = planted[1]
    scores = fitted.similarity(test)
    shuffled = test["image"][:, np.random.default_rng(0).permutation(6)]
    np.testing.assert_allclose(fitted.similarity(shuffled, test["text"]), scores, atol=1e-5)
    backwards = Ragged.from_list([row[::-1] for row in test["text"]])
    assert np.abs(fitted.similarity(test["image"], backwards) - scores).max() > 0.01


def test_padding_does_not_matter(fitted, planted):
    test = planted[1]
    expected = fitted.similarity(test)
    padded, _ = test["text"].padded(30)
    np.testing.assert_allclose(fitted.similarity(test["image"], padded), expected, atol=1e-5)
    ragged = Ragged.from_list([*test["image"], np.ones((40, 10))])  # padded to 40 regions
    found = fitted.similarity(ragged, test["text"])[:-1]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_texts_without_words_and_images_without_regions_have_finite_scores(fitted, planted):
    images, texts = planted[1]["image"][:2], planted[1]["text"]
    empty = fitted.similarity(images, Ragged.from_list([np.zeros((0, 8)), texts[0]]))
    assert np.isfinite(empty).all()
    bare = Ragged.from_list([images[0], np.zeros((0, 10))])
    assert np.isfinite(fitted.similarity(bare, texts[:2])).all()
    np.testing.assert_allclose(empty[:, 1], fitted.similarity(images, texts[[0]])[:, 0], atol=1e-6)


def test_scores_are_dot_products_of_the_embeddings(planted):
    for normalize in (True, False):
        method = DAN(**{**SMALL, "max_epochs": 1}, normalize=normalize).fit(planted[0])
        vectors = method.transform(planted[1])
        assert vectors["image"].shape == (40, 48)
        expected = vectors["image"] @ vectors["text"].T
        np.testing.assert_allclose(method.similarity(planted[1]), expected, rtol=1e-4, atol=1e-5)
        lengths = np.linalg.norm(vectors["image"], axis=1)
        assert np.allclose(lengths, 1, atol=1e-5) == normalize


# ---- the loss ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mining", ["all", "sum", "hardest"])
def test_the_loss_is_that_of_a_loop_in_which_siblings_are_never_wrong(mining):
    rng = np.random.default_rng(0)
    X, Z = (rng.normal(size=(5, 4)) for _ in range(2))
    # Rows 0 and 1 are captions of one image; 2 and 3 are different items of one group.
    image, group = torch.tensor([0, 0, 1, 2, 3]), torch.tensor([0, 0, 1, 1, 2])
    batch = Batch({"image": None, "text": None}, {"image": image, "text": torch.arange(5)},
                  group, None)  # fmt: skip
    method = DAN(mining=mining, margin=0.5)
    terms = method._loss({"image": torch.tensor(X), "text": torch.tensor(Z)}, batch)
    S = X @ Z.T

    def loop(S):
        found = []
        for i in range(5):
            for p in range(5):
                if image[i] == image[p]:
                    hinges = [max(0, 0.5 - S[i, p] + S[i, j]) for j in range(5)
                              if group[i] != group[j]]  # fmt: skip
                    worst = [S[i, j] for j in range(5) if group[i] != group[j]]
                    found.append({"all": np.mean(hinges), "sum": np.sum(hinges),
                                  "hardest": hinges[int(np.argmax(worst))]}[mining])  # fmt: skip
        return np.mean(found)

    assert terms["image2text"].item() == pytest.approx(loop(S))
    assert terms["text2image"].item() == pytest.approx(loop(S.T))


# ---- learning ----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*hold no word that has a vector")
def test_the_defaults_learn():
    """Pictures of emoji and their names: far above chance on test pairs, both ways."""
    emoji = datasets.load("emoji")
    grid = GridFeatures(4, output="regions", cache=False)
    words = WordVectors(vector_size=50, min_count=1, verbose=False)
    features = ViewTransformer([("image", grid), ("text", words)])
    train = features.fit_transform(emoji["train"].views)
    test = features.transform(emoji["test"].views)
    method = DAN(device="cpu", random_state=0).fit(train)
    found = crossfit.evaluate(method.similarity(test), np.eye(len(test)), "mrr", ci=None)
    chance = chance_level(np.eye(len(test)), "mrr").mean(None, "mrr")
    assert min(found.mean(way, "mrr") for way in found.directions) > 2 * chance


def test_the_method_learns_what_pairs_share(fitted, planted):
    assert fitted.score(planted[1]) > 0.4  # chance is about .1
    assert fitted.net_.history[-1]["train_loss"] < 0.5 * fitted.net_.history[0]["train_loss"]
    assert {"train_image2text", "train_text2image"} <= set(fitted.net_.history[-1])


def test_everything_is_standardised(fitted, planted):
    train = planted[0]
    scales = [m for m in fitted.net_.module_.modules() if isinstance(m, Standardize)]
    assert len(scales) == 2
    means = [np.concatenate(list(map(np.asarray, train[name]))).mean(axis=0)
             for name in ("image", "text")]  # fmt: skip
    for scaling, mean in zip(scales, means):
        np.testing.assert_allclose(scaling.mean, mean, atol=1e-5)
    plain = DAN(**{**SMALL, "max_epochs": 1}, standardize=False).fit(train)
    assert not any(isinstance(m, Standardize) for m in plain.net_.module_.modules())


@pytest.mark.parametrize("form", ["strings", "ids"])
def test_strings_and_word_ids_are_embedded(form, planted, tmp_path):
    train, test = planted
    names = np.array([f"w{k}" for k in range(10)])

    def texts(views):
        # The word whose vector is nearest to that of a concept's first appearance.
        return np.array([" ".join(names[np.abs(row[:, :4]).sum(axis=1).astype(int) % 10])
                         for row in views["text"]], dtype=object)  # fmt: skip

    said = {"train": texts(train), "test": texts(test)}
    if form == "ids":
        tokens = Tokens(min_count=1, verbose=False).fit(said["train"])
        said = {part: tokens.transform(values) for part, values in said.items()}
    method = DAN(**{**SMALL, "max_epochs": 2}, word_width=12).fit(train["image"], said["train"])
    assert method.text_form_ == form
    assert method.net_.module_.words.embedding.weight.shape[1] == 12
    scores = method.similarity(test["image"], said["test"])
    crossfit.save(method, tmp_path / "dan")
    read = crossfit.load(tmp_path / "dan")
    np.testing.assert_array_equal(read.similarity(test["image"], said["test"]), scores)
    explained = method.explain(test["image"][:2], said["test"][:2])[1]
    own = ["w0", "w1", "w2", "w3", "w4", "w5", "w6", "w7", "w8", "w9", "<unk>"]
    assert set(explained.info["words"]) <= set(own)
    with pytest.raises(ValueError, match="was fitted on"):
        method.similarity(test)


# ---- attention ---------------------------------------------------------------------------------


def test_explain_gives_the_attention_of_every_item(fitted, planted):
    test = planted[1][:9]
    words = np.array([f"w{i}" for i in range(len(test["text"].values))], dtype=object)
    boxes = np.arange(9 * 6 * 4).reshape(-1, 4)
    views = Views(
        image=Ragged(test["image"].reshape(-1, 10), np.arange(10) * 6, {"boxes": boxes}),
        text=Ragged(test["text"].values, test["text"].offsets, {"words": words}),
    )
    steps = [fitted.explain(views, step=k) for k in (1, 2)]
    mean = fitted.explain(views)
    for name, lengths in (("image", [6] * 9), ("text", test["text"].lengths)):
        assert mean[name].lengths.tolist() == list(lengths)
        np.testing.assert_allclose([row.sum() for row in mean[name]], 1, rtol=1e-5)
        average = (steps[0][name].values + steps[1][name].values) / 2
        np.testing.assert_allclose(mean[name].values, average, atol=1e-6)
        assert np.abs(steps[0][name].values - steps[1][name].values).max() > 1e-3
    np.testing.assert_array_equal(mean["image"].info["boxes"], boxes)
    assert mean["text"].info["words"].tolist() == words.tolist()
    network = fitted.net_.module_
    with torch.no_grad():
        given = Items(torch.tensor(test["image"], dtype=torch.float32))
        _, weights = network.steps(given, "image")
    np.testing.assert_allclose(steps[1]["image"].values, weights[1].flatten(), atol=1e-5)


def test_explain_takes_one_side_or_both_but_no_step_that_does_not_exist(fitted, planted):
    test = planted[1][:4]
    alone = fitted.explain(test["image"])
    both = fitted.explain(test["image"], test["text"])
    np.testing.assert_array_equal(alone.values, both[0].values)
    np.testing.assert_array_equal(fitted.explain(test)["text"].values, both[1].values)
    with pytest.raises(ValueError, match="no step 3 of attention, because the method has 2"):
        fitted.explain(test, step=3)
    with pytest.raises(TypeError, match="expects Views alone"):
        fitted.explain(test, test["text"])
    none = DAN(**{**SMALL, "max_epochs": 1, "n_steps": 0}).fit(test)
    with pytest.raises(ValueError, match="there is no attention with n_steps=0"):
        none.explain(test)


# ---- fits and errors ---------------------------------------------------------------------------


def test_several_captions_of_an_image(planted):
    train = planted[0]
    index = np.repeat(np.arange(16), 5)
    views = Views.from_captions(train["image"][:16], train["text"], index)
    method = DAN(**{**SMALL, "max_epochs": 2}).fit(views)
    assert method.similarity(views).shape == (16, 80)
    alone = Views.from_captions(train["image"][:1], train["text"][:5], np.zeros(5, int))
    with pytest.raises(ValueError, match="DAN: ranks matching pairs above others"):
        DAN(**SMALL).fit(alone)


def test_the_schedule_is_that_of_the_parameters(planted):
    settings = {**SMALL, "max_epochs": 3, "clip": 0.1, "lr_step": 2}
    method = DAN(**settings, optimizer="SGD", optimizer__momentum=0.9).fit(planted[0])
    (group,) = method.net_.optimizer_.param_groups
    assert group["lr"] == pytest.approx(0.001) and group["momentum"] == 0.9
    again = clone(method).fit(planted[0])
    np.testing.assert_array_equal(again.similarity(planted[1]), method.similarity(planted[1]))


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"directions": "max"}, "directions"),
        ({"n_steps": -1}, "n_steps"),
        ({"width": 0}, "width"),
        ({"dropout": 1}, "dropout"),
        ({"max_words": 0}, "max_words"),
        ({"margin": -1}, "margin"),
    ],
)
def test_wrong_parameters_are_rejected(planted, params, words):
    with pytest.raises(ValueError, match=words):
        DAN(**{**SMALL, **params}).fit(planted[0])


def test_vectors_are_rejected_as_regions_and_as_words(fitted, planted):
    test = planted[1]
    with pytest.raises(ValueError, match="view 'image'"):
        fitted.similarity(test["image"][:, 0], test["text"])
    with pytest.raises(ValueError, match="view 'text'"):
        fitted.similarity(test["image"], test["image"][:, 0, :8])
