"""ACLN against its equations, its invariances, its rulings, and the conformance kit."""

import json
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.special import log_softmax, softmax
from scipy.stats import entropy
from sklearn.base import clone
from skorch.callbacks import Callback
from torch.nn import CosineEmbeddingLoss

import crossfit
from crossfit import Ragged, Views, ViewTransformer, datasets
from crossfit.extraction import GridFeatures
from crossfit.extraction.images import load_rgb
from crossfit.metrics import chance_level
from crossfit.neural import Batch, Checkpoint, Items, listening
from crossfit.neural.pictures import Pictures
from crossfit.neural.trunks import ALEXNET_CUT, AlexNet
from crossfit.testing import parametrize_with_checks
from crossfit_acln.estimator import ACLN
from crossfit_acln.network import ACLNNetwork
from crossfit_acln.testing import make_inputs

SMALL = {"width": 32, "max_epochs": 12, "lr": 4e-3, "dropout": 0.2, "device": "cpu"}


@pytest.fixture(scope="module")
def planted():
    views, y = make_inputs(np.random.default_rng(0), 120)
    return views[:80], y[:80], views[80:], y[80:]


@pytest.fixture(scope="module")
def fitted(planted):
    return ACLN(random_state=0, **SMALL).fit(planted[0], planted[1])


def _weights(method):
    return torch.cat([w.flatten() for w in method.net_.module_.state_dict().values()])


@parametrize_with_checks([ACLN])
def test_conformance(check):
    check()


# ---- the network against the equations ---------------------------------------------------------


def _network(attention="shared", attn_act="tanh", **n_inputs):
    torch.manual_seed(0)
    settings = {"attention": attention, "width": 8, "dropout": 0.5, "attn_act": attn_act}
    return ACLNNetwork({"image": 6, "text": 9} | n_inputs, 4, **settings).eval()


@pytest.fixture(autouse=True)
def _leave_torch_as_it_was():
    with torch.random.fork_rng():
        yield


def _by_hand(state, x, view, pool):
    """Follow equations 1 to 9 and section 3.3 for one item, element by element, in NumPy."""

    def dense(v, layer):
        return np.tanh(state[f"{layer}.weight"] @ v + state[f"{layer}.bias"])

    if view == "text":
        local = [dense(np.tanh(state["local.text.0.weight"][i]), "local.text.3") for i in x]
    else:
        local = [dense(dense(v, "local.image.0"), "local.image.3") for v in x]
    logits = [np.tanh(state[f"attention.{pool}.weight.weight"][0] @ v) for v in local]
    weights = np.exp(logits) / np.exp(logits).sum()
    g = sum(a * v for a, v in zip(weights, local))
    head = f"heads.{view}"
    z = state[f"{head}.3.weight"] @ dense(g, f"{head}.0") + state[f"{head}.3.bias"]
    return weights, g, softmax(z)


@pytest.mark.parametrize("attention", ["shared", "separate"])
def test_the_network_is_the_equations(attention):
    network = _network(attention)
    state = {name: w.numpy().astype(float) for name, w in network.state_dict().items()}
    regions, words = torch.randn(3, 5, 6), torch.randint(1, 9, (3, 4))
    for view, values in (("image", regions), ("text", words)):
        pool = "both" if attention == "shared" else view
        with torch.no_grad():
            pooled, weights = network.pool(Items(values), view)
            encoded = network.encode(Items(values), view)
        for i in range(3):
            a, g, p = _by_hand(state, values[i].numpy(), view, pool)
            np.testing.assert_allclose(weights[i], a, rtol=1e-4)
            np.testing.assert_allclose(pooled[i], g, rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(encoded[i], p, rtol=1e-4)


def test_the_published_sizes():
    settings = {"width": 512, "dropout": 0.5, "attn_act": "tanh"}
    sizes = {}
    for attention in ("shared", "separate", "none"):
        network = ACLNNetwork({"image": 256, "text": 100}, 10, attention=attention, **settings)
        sizes[attention] = sum(p.numel() for p in network.parameters())
    square, last = 512 * 512 + 512, 512 * 10 + 10
    without = 100 * 512 + 256 * 512 + 512 + 2 * square + 2 * (square + last)
    assert sizes == {"none": without, "shared": without + 512, "separate": without + 1024}
    # Dropout after the tanh of W_e, FC1i, FC2i, FC1t, FC3i and FC2t, and nowhere else.
    for part in (*network.local.values(), *network.heads.values()):
        layers = [type(layer).__name__ for layer in part]
        after = [layers[i - 1] for i, layer in enumerate(layers) if layer == "Dropout"]
        assert after == ["Tanh"] * layers.count("Tanh")
    assert sum(isinstance(m, torch.nn.Dropout) for m in network.modules()) == 6


def test_attention_without_weights_is_no_attention():
    with_, without = _network("shared"), _network("none")
    without.load_state_dict(with_.state_dict(), strict=False)
    torch.nn.init.zeros_(with_.attention["both"].weight.weight)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]).bool()
    items = Items(torch.randn(2, 5, 6), mask)
    torch.testing.assert_close(with_.encode(items, "image"), without.encode(items, "image"))
    assert not torch.allclose(
        _network("shared").encode(items, "image"), without.encode(items, "image")
    )


def test_a_shared_attention_does_not_ask_which_modality_it_sees():
    network = _network("shared")
    x = torch.randn(2, 5, 8)
    assert network.attention["both"](x)[1].shape == (2, 5)
    for part in network.local.values():
        part.forward = lambda values: x
    items = Items(torch.zeros(2, 5))
    assert torch.equal(network.pool(items, "image")[1], network.pool(items, "text")[1])
    apart = _network("separate")
    for part in apart.local.values():
        part.forward = lambda values: x
    assert not torch.equal(apart.pool(items, "image")[1], apart.pool(items, "text")[1])


def test_the_order_of_regions_and_words_and_padding_do_not_matter(fitted, planted):
    test = planted[2]
    rng = np.random.default_rng(0)
    regions, texts = test["image"], test["text"]
    found = fitted.encode(regions[:, rng.permutation(6)], "image")
    np.testing.assert_allclose(found, fitted.encode(regions, "image"), atol=1e-6)
    shuffled = Ragged.from_list([rng.permutation(text) for text in texts])
    expected = fitted.encode(texts, "text")
    np.testing.assert_allclose(fitted.encode(shuffled, "text"), expected, atol=1e-6)
    padded = texts.padded(30)[0]
    np.testing.assert_allclose(fitted.encode(padded, "text"), expected, atol=1e-6)
    np.testing.assert_allclose(fitted.encode(padded[:, ::-1].copy(), "text"), expected, atol=1e-6)
    ragged = Ragged.from_list([row[:k] for row, k in zip(regions, rng.integers(1, 7, 40))])
    alone = np.vstack([fitted.encode(ragged[[i]], "image") for i in range(40)])
    np.testing.assert_allclose(fitted.encode(ragged, "image"), alone, atol=1e-6)


def test_a_text_without_words_and_a_picture_without_regions_have_finite_posteriors(fitted):
    empty = fitted.encode(Ragged.from_list([[3, 4], np.zeros(0, int)]), "text")
    unknown = fitted.encode(np.array([[1]]), "text")[0]
    np.testing.assert_allclose(empty[1], unknown, rtol=1e-5)
    none = fitted.encode(Ragged.from_list([np.ones((2, 12)), np.zeros((0, 12))]), "image")
    np.testing.assert_allclose(none.sum(axis=1), 1, rtol=1e-5)


# ---- the loss ----------------------------------------------------------------------------------


def _batch(n=6, y=None):
    rows = torch.arange(n)
    labels = torch.tensor([0, 1, 2, 3, 0, 1]) if y is None else y
    return Batch({}, {"image": rows, "text": rows}, rows // 2, labels)


def _outputs(n=6):
    generator = torch.Generator().manual_seed(1)

    def draw(width):
        return torch.randn(n, width, generator=generator, dtype=torch.float64, requires_grad=True)

    return {"image": (draw(8), draw(4)), "text": (draw(8), draw(4))}


def test_the_loss_is_torchs_cosine_embedding_and_the_log_likelihood():
    outputs, batch = _outputs(), _batch()
    terms = ACLN(corr_weight=0.7)._loss(outputs, batch)
    (g, z), (h, w) = outputs["image"], outputs["text"]
    cosine = CosineEmbeddingLoss()
    torch.testing.assert_close(terms["correlation"], 0.7 * cosine(g, h, torch.ones(6)))
    for name, logits in (("image", z), ("text", w)):
        expected = -log_softmax(logits.detach().numpy(), axis=1)[np.arange(6), batch.y].mean()
        assert terms[name].item() == pytest.approx(expected)
    with_negatives = ACLN(corr_weight=0.7, corr_negatives=True)._loss(outputs, batch)
    i, j = batch.negatives.nonzero(as_tuple=True)
    assert len(i) == 36 - 12
    pushed = cosine(g[i], h[j], -torch.ones(len(i)))
    torch.testing.assert_close(with_negatives["correlation"], terms["correlation"] + 0.7 * pushed)


def test_the_loss_has_the_right_gradient():
    outputs, batch = _outputs(), _batch()
    flat = [part for pair in outputs.values() for part in pair]

    def loss(a, b, c, d):
        terms = ACLN(corr_negatives=True)._loss({"image": (a, b), "text": (c, d)}, batch)
        return sum(terms.values())

    assert torch.autograd.gradcheck(loss, flat)


def test_rows_without_a_label_take_part_in_the_correlation_alone(planted):
    outputs = _outputs()
    some = ACLN()._loss(outputs, _batch(y=torch.tensor([0, -1, 2, -1, 0, 1])))
    kept = [0, 2, 4, 5]
    fewer = {view: (g[kept], z[kept]) for view, (g, z) in outputs.items()}
    expected = ACLN()._loss(fewer, _batch(4, torch.tensor([0, 2, 0, 1])))
    torch.testing.assert_close(some["image"], expected["image"])
    assert some["correlation"] == ACLN()._loss(outputs, _batch())["correlation"]
    none = ACLN()._loss(outputs, _batch(y=torch.full((6,), -1)))
    assert none["image"] == 0 and none["correlation"] > 0
    train, y, test, y_test = planted
    half = np.where(np.arange(80) % 2, -1, y)
    method = ACLN(random_state=0, **SMALL).fit(train, half)
    assert method.classes_.tolist() == [0, 1, 2, 3, 4] and method.score(test, y_test) > 0.5


@pytest.mark.parametrize(("corr_weight", "low", "high"), [(1, 0.75, 1), (0, -0.4, 0.4),
                                                          (-1, -1, -0.75)])  # fmt: skip
def test_the_sign_of_the_correlation_loss_shows_in_the_global_features(
    planted, corr_weight, low, high
):
    """The cosine of true pairs reveals a wrong sign, retrieval does not. -1 is the printed sign."""
    train, y, test, _ = planted
    method = ACLN(corr_weight=corr_weight, random_state=0, **{**SMALL, "max_epochs": 25})
    method.fit(train, y)
    g = {
        view: torch.cat(method._apply(lambda m, i, v=view: m.pool(i, v)[0], test[view], view))
        for view in ("image", "text")
    }
    mean = torch.cosine_similarity(g["image"], g["text"]).mean().item()
    assert low <= mean <= high


def test_without_correlation_the_branches_meet_in_the_attention_alone(planted):
    train, y = planted[:2]
    for attention in ("shared", "separate", "none"):
        method = ACLN(corr_weight=0, attention=attention, **{**SMALL, "max_epochs": 1})
        module = method.fit(train, y).net_.module_
        data = method._data(train, method._targets(y), torch.device("cpu"))
        terms = method._loss(method._outputs(module, data.batch(torch.arange(80))),
                             data.batch(torch.arange(80)))  # fmt: skip
        module.zero_grad()
        (terms["image"] + terms["correlation"]).backward()
        moved = {n for n, p in module.named_parameters() if p.grad is not None and p.grad.any()}
        expected = {n for n, _ in module.named_parameters() if ".image." in n}
        assert moved == expected | ({"attention.both.weight.weight"} & set(module.state_dict()))


# ---- training ----------------------------------------------------------------------------------


def test_the_optimizer_is_the_papers(planted):
    method = ACLN(width=8, max_epochs=1, image_head_lr=4e-5, device="cpu").fit(*planted[:2])
    optimizer = method.net_.optimizer_
    assert type(optimizer) is torch.optim.RMSprop
    head, rest = optimizer.param_groups
    for group in (head, rest):
        assert (group["alpha"], group["eps"], group["momentum"]) == (0.99, 1e-8, 0)
        assert group["weight_decay"] == 0
    assert (head["lr"], rest["lr"]) == (4e-5, 4e-4)
    heads = method.net_.module_.heads["image"].parameters()
    assert {id(p) for p in head["params"]} == {id(p) for p in heads}
    method.set_params(alpha=0.9, eps=1e-6, momentum=0.5, weight_decay=0.1).fit(*planted[:2])
    group = method.net_.optimizer_.param_groups[0]
    found = [group[name] for name in ("alpha", "eps", "momentum", "weight_decay")]
    assert found == [0.9, 1e-6, 0.5, 0.1]
    ACLN(width=8, max_epochs=1, optimizer="Adam", device="cpu").fit(*planted[:2])


def test_two_hundred_pairs_are_memorised():
    rng = np.random.default_rng(0)
    regions, ids = rng.normal(size=(200, 4, 16)), rng.integers(2, 300, (200, 5))
    y = rng.permutation(np.arange(200) % 10)
    settings = {"width": 128, "dropout": 0, "lr": 3e-3, "batch_size": 50, "max_epochs": 60}
    method = ACLN(**settings, random_state=0, device="cpu").fit(regions, ids, y)
    assert method.score(regions, ids, y) > 0.99


def test_fits_repeat_bit_for_bit(fitted, planted):
    again = clone(fitted).fit(planted[0], planted[1])
    assert torch.equal(_weights(again), _weights(fitted))


class _Dies(Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_batch_end(self, net, batch=None, training=False, **kwargs):
        if net.history[-1]["epoch"] == self.epoch and len(net.history[-1]["batches"]) == 2:
            raise InterruptedError


def test_a_fit_killed_at_random_epochs_ends_with_the_same_weights(fitted, planted, tmp_path):
    train, y = planted[:2]
    for seed in range(3):
        checkpoint = Checkpoint(tmp_path / f"{seed}.pt")
        for epoch in np.sort(np.random.default_rng(seed).choice(np.arange(2, 13), 3, False)):
            with pytest.raises(InterruptedError):
                clone(fitted).set_params(callbacks=[checkpoint, _Dies(epoch)]).fit(train, y)
        resumed = clone(fitted).set_params(callbacks=[checkpoint]).fit(train, y)
        assert torch.equal(_weights(resumed), _weights(fitted))


@pytest.mark.filterwarnings("ignore:.*hold no word of the vocabulary")
def test_the_defaults_learn():
    """Regions of emoji and their names, a sixth of the training pairs: far above chance."""
    emoji = datasets.load("emoji")
    regions = GridFeatures(2, output="regions", cache=False)
    features = ViewTransformer([("image", regions)])
    train, test = features.fit_transform(emoji["train"].views[::6]), emoji["test"]
    method = ACLN(device="cpu", random_state=0, verbose=0).fit(train, emoji["train"].y[::6])
    scores = method.similarity(features.transform(test.views))
    found = crossfit.evaluate(scores, (test.y, test.y), "map@all", ci=None)
    chance = chance_level(test.y[:, None] == test.y, "map@all").mean(None, "map@all")
    for direction in found.directions:
        assert found.mean(direction, "map@all") > 2 * chance


def test_one_class_is_too_few(planted):
    with pytest.raises(ValueError, match="labels of at least two classes, got 1"):
        ACLN(device="cpu").fit(planted[0], np.zeros(80, int))


# ---- similarities and explanations -------------------------------------------------------------


def test_posteriors_are_compared_as_asked(fitted, planted):
    test = planted[2]
    P, Q = (np.asarray(part, float) for part in fitted.transform(test["image"], test["text"]))
    np.testing.assert_allclose(P.sum(axis=1), 1, rtol=1e-5)
    prior = np.bincount(planted[1]) / 80
    expected = {
        "cosine": (P @ Q.T) / np.outer(np.linalg.norm(P, axis=1), np.linalg.norm(Q, axis=1)),
        "kl": -np.array([[entropy(p, q + 1e-12) for q in Q] for p in P]),
        "l1": -np.abs(P[:, None] - Q).sum(axis=2),
        "posterior_over_prior": (P / prior) @ Q.T,
    }
    for measure, scores in expected.items():
        found = fitted.set_params(measure=measure).similarity(test)
        np.testing.assert_allclose(found, scores, rtol=1e-4, atol=1e-4)
    fitted.set_params(measure="cosine")
    with pytest.raises(ValueError, match="measure"):
        ACLN(measure="euclid", device="cpu").fit(*planted[:2])


def test_priors_are_those_of_the_rows_that_are_trained_on(planted, tmp_path):
    train = planted[0]
    # Rows that are held out teach the network nothing, whatever their labels.
    method = ACLN(**SMALL | {"max_epochs": 2}, measure="posterior_over_prior",
                  validation_fraction=0.4, random_state=0)  # fmt: skip
    rows, held_out = method._split(train, method._seed())
    y = np.arange(80) % 3
    other = y.copy()
    other[held_out] = 0
    for labels in (y, other):
        found = clone(method).fit(train, labels)
        np.testing.assert_allclose(found.prior_, np.bincount(y[rows]) / len(rows))
    # Of class 7 there are only held-out rows.
    other[held_out] = 7
    checkpoint = Checkpoint(tmp_path / "fit.pt")
    found = clone(method).set_params(callbacks=[checkpoint, _Dies(2)])
    with pytest.raises(InterruptedError):
        found.fit(train, other)
    found = clone(method).set_params(callbacks=[checkpoint]).fit(train, other)
    counts = np.append(np.bincount(y[rows]), 1)
    np.testing.assert_allclose(found.prior_, counts / counts.sum())
    assert np.isfinite(found.similarity(planted[2])).all()


def test_explain_gives_weights_that_pool_to_the_encoding(fitted, planted):
    test = planted[2]
    explained = fitted.explain(test)
    module = fitted.net_.module_
    for view in ("image", "text"):
        weights = explained[view]
        assert len(weights) == 40
        np.testing.assert_allclose([row.sum() for row in weights], 1, rtol=1e-5)
        values = test[view] if view == "text" else torch.tensor(test[view], dtype=torch.float32)
        for i in (0, 9):
            row = torch.tensor(np.asarray(values[i]))[None]
            with torch.no_grad():
                local = module.local[view](row)[0]
                pooled = module.pool(Items(row), view)[0][0]
            np.testing.assert_allclose(weights[i] @ local.numpy(), pooled, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(explained["text"].lengths, test["text"].lengths)
    both = fitted.explain(test["image"], test["text"])
    np.testing.assert_array_equal(both[1].values, explained["text"].values)
    np.testing.assert_array_equal(fitted.explain(test["image"]).values, both[0].values)


def test_explain_knows_boxes_and_words_that_ride_along(fitted, planted):
    regions = planted[2]["image"][:3]
    boxes = np.arange(18 * 4).reshape(18, 4)
    ragged = Ragged(regions.reshape(18, 12), [0, 6, 12, 18], info={"boxes": boxes})
    np.testing.assert_array_equal(fitted.explain(ragged).info["boxes"], boxes)
    names = tuple(f"w{i}" for i in range(60))
    texts = Ragged.from_list([[4, 9], [5, 2, 7]], info={"vocabulary": names})
    _, weights = fitted.explain(regions[:2], texts)
    assert weights.info["words"].tolist() == ["w4", "w9", "w5", "w2", "w7"]
    assert weights[[1]].info["words"].tolist() == ["w5", "w2", "w7"]


def test_the_mark_of_the_class_gets_the_attention(planted):
    train, y, test, _ = planted
    method = ACLN(attn_act=None, random_state=0, **{**SMALL, "max_epochs": 30}).fit(train, y)
    weights, ids = method.explain(test)["text"], test["text"]
    own = np.concatenate([text < 22 for text in ids])
    assert weights.values[own].mean() > 1.5 * weights.values[~own].mean()


# ---- pictures and strings ----------------------------------------------------------------------

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (20, 40, 230)}


@pytest.fixture(scope="module")
def raw():
    rng = np.random.default_rng(0)
    names = [list(COLOURS)[i % 3] for i in range(24)]
    pictures = np.array([COLOURS[name] for name in names])[:, None, None]
    pictures = np.clip(pictures + rng.normal(0, 20, (24, 32, 32, 3)), 0, 255).astype(np.uint8)
    texts = [f"a {name} square, number {i}" for i, name in enumerate(names)]
    return pictures, texts, np.array(names)


RAW = {"width": 32, "max_epochs": 5, "lr": 4e-3, "dropout": 0.2, "trunk_weights": None,
       "trunk_epochs": 1, "batch_size": 8, "device": "cpu", "random_state": 0}  # fmt: skip


@pytest.fixture(scope="module")
def on_raw(raw):
    pictures, texts, y = raw
    heard = []
    with listening(lambda estimator, epoch, record: heard.append(epoch)):
        method = ACLN(**RAW).fit(pictures, texts, y)
    assert heard == [1, 2, 3, 4, 5]  # the parameters of the method without its trunk
    return method


def test_pictures_and_strings_are_a_whole_program(on_raw, raw, tmp_path):
    pictures, texts, y = raw
    assert on_raw.score(pictures, texts, y) > 0.6
    assert set(on_raw.vocabulary_) == {"<pad>", "<unk>", "a", "square", "number", *COLOURS}
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path, picture in zip(paths, pictures):
        Image.fromarray(picture).save(path)
    expected = on_raw.encode(pictures[:3], "image")
    np.testing.assert_allclose(on_raw.encode(paths, "image"), expected, atol=1e-6)
    given = [Image.open(path) for path in paths]
    np.testing.assert_allclose(on_raw.encode(given, "image"), expected, atol=1e-6)
    image, text = on_raw.explain(pictures[:2], ["a red square", "zebra"])
    assert image.lengths.tolist() == [36, 36] and image.info["grid"] == (6, 6)
    assert text.info["words"].tolist() == ["a", "red", "square", "<unk>"]


def test_the_trunk_is_fine_tuned_and_then_frozen(on_raw, raw):
    assert not any(p.requires_grad for p in on_raw.trunk_.parameters())
    assert not any("features" in name for name in on_raw.net_.module_.state_dict())
    torch.manual_seed(0)
    start = AlexNet(3)
    kept = {name: w.clone() for name, w in start.state_dict().items()}
    pixels = Pictures(raw[0][:2], ALEXNET_CUT).take(torch.arange(2)).values
    assert pixels.shape == (2, 227, 227, 3)
    assert start(pixels).shape == (2, 3)
    assert start.fc7(pixels).shape == (2, 4096)
    start.cut()
    with torch.no_grad():
        assert start(pixels).shape == (2, 36, 256)
    other = AlexNet(5)
    other.fill(kept, "x")
    assert torch.equal(other.features[0].weight, kept["features.0.weight"])
    assert other.classifier[-1].out_features == 5


def test_weights_of_alexnet_come_from_a_file(raw, tmp_path):
    from torchvision.models import alexnet

    torch.manual_seed(3)
    network = alexnet(weights=None)
    path = tmp_path / "alexnet.pth"
    torch.save(network.state_dict(), path)
    method = ACLN(**RAW | {"trunk_weights": path, "trunk_epochs": 0, "max_epochs": 1})
    pictures, texts, y = raw
    trunk = method.fit(pictures, texts, y).trunk_
    torch.testing.assert_close(trunk.features[0].weight, network.features[0].weight)
    # As torchvision itself prepares and encodes a picture.
    from torchvision.transforms import v2

    prepare = v2.Compose(
        [v2.Resize((256, 256)), v2.CenterCrop(227), v2.ToImage(),
         v2.ToDtype(torch.float32, scale=True),
         v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
    )  # fmt: skip
    with torch.no_grad():
        expected = network.features(prepare(Image.fromarray(pictures[0]))[None])
        found = trunk(Pictures(pictures[:1], ALEXNET_CUT).take(torch.arange(1)).values)
    torch.testing.assert_close(found[0].T.reshape(256, 6, 6), expected[0], rtol=1e-3, atol=1e-4)
    with pytest.raises(FileNotFoundError, match="no such file"):
        clone(method).set_params(trunk_weights=str(tmp_path / "nowhere")).fit(pictures, texts, y)
    torch.save({"features.0.weight": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="not those of torchvision's AlexNet"):
        clone(method).fit(pictures, texts, y)


def test_a_killed_fit_on_pictures_goes_on_without_tuning_the_trunk_again(
    raw, tmp_path, monkeypatch
):
    pictures, texts, y = raw
    through = ACLN(**RAW | {"trunk_epochs": 0}).fit(pictures, texts, y)
    checkpoint = Checkpoint(tmp_path / "fit.pt")
    resumed = clone(through).set_params(callbacks=[checkpoint, _Dies(3)])
    with pytest.raises(InterruptedError):
        resumed.fit(pictures, texts, y)
    monkeypatch.setattr(ACLN, "_fine_tuned", None)
    resumed.set_params(callbacks=[checkpoint]).fit(pictures, texts, y)
    assert torch.equal(_weights(resumed), _weights(through))
    expected = through.similarity(pictures, texts)
    np.testing.assert_array_equal(resumed.similarity(pictures, texts), expected)


def test_state_and_pickle_keep_the_trunk_and_the_vocabulary(on_raw, raw):
    pictures, texts, _ = raw
    expected = on_raw.similarity(pictures, texts)
    state, arrays = on_raw.__crossfit_state__()
    other = clone(on_raw)
    generator = torch.get_rng_state()
    other.__crossfit_restore__(json.loads(json.dumps(state)), arrays)
    assert torch.equal(torch.get_rng_state(), generator)
    np.testing.assert_array_equal(other.similarity(pictures, texts), expected)
    assert other.classes_.tolist() == ["blue", "green", "red"]
    read = pickle.loads(pickle.dumps(on_raw))
    np.testing.assert_array_equal(read.similarity(pictures, texts), expected)


def test_what_was_fitted_on_raw_items_refuses_features_and_the_reverse(on_raw, raw, fitted):
    pictures, texts, _ = raw
    with pytest.raises(ValueError, match="'image' was fitted on pictures, got regions"):
        on_raw.encode(np.zeros((2, 36, 256)), "image")
    with pytest.raises(ValueError, match="'text' was fitted on strings, got token ids"):
        on_raw.encode(np.array([[2, 3]]), "text")
    with pytest.raises(ValueError, match="'image' was fitted on regions, got pictures"):
        fitted.encode(pictures, "image")
    with pytest.raises(ValueError, match="'text' was fitted on token ids, got strings"):
        fitted.encode(texts, "text")


def test_several_captions_of_a_picture_read_it_once(raw, monkeypatch):
    pictures, texts, y = raw
    read = []

    def counting(image):
        read.append(image)
        return load_rgb(image)

    monkeypatch.setattr("crossfit.neural.pictures.load_rgb", counting)
    index = np.repeat(np.arange(8), 3)
    views = Views.from_captions(pictures[:8], texts, index)
    method = ACLN(**RAW | {"max_epochs": 1, "trunk_epochs": 0}).fit(views, y[:8][index])
    assert len(read) == 8 and method.similarity(views).shape == (8, 24)


def test_pictures_read_batch_by_batch_train_as_arrays_do(raw, tmp_path):
    pictures, texts, y = raw
    paths = [tmp_path / f"{i}.png" for i in range(len(pictures))]
    for path, picture in zip(paths, pictures):
        Image.fromarray(picture).save(path)
    short = RAW | {"max_epochs": 1}
    expected = ACLN(**short).fit(pictures, texts, y)
    found = ACLN(**short, picture_memory=0, num_workers=2).fit(paths, texts, y)
    for name, weights in expected.trunk_.state_dict().items():
        assert torch.equal(found.trunk_.state_dict()[name], weights)
    assert torch.equal(_weights(found), _weights(expected))
    np.testing.assert_array_equal(found.encode(paths, "image"), expected.encode(pictures, "image"))


def test_a_class_may_be_held_out_altogether(raw):
    pictures, texts, _ = raw
    y = np.array(["a"] + ["b"] * 6 + ["c"] * 5)
    # The seed holds out the one picture of class a.
    params = RAW | {"max_epochs": 1, "min_count": 1, "validation_fraction": 0.25, "random_state": 1}
    method = ACLN(**params).fit(pictures[:12], texts[:12], y)
    assert method.classes_.tolist() == ["a", "b", "c"]
    assert method.transform(pictures[:2]).shape == (2, 3)


@pytest.mark.parametrize("trunk_epochs", [0, 1])
def test_a_picture_may_have_a_caption_without_a_label(raw, trunk_epochs):
    pictures, texts, _ = raw
    index = np.repeat(np.arange(8), 3)
    y = np.arange(8)[index] % 2
    y[::3] = y[-3:] = -1  # one caption of every picture, and all captions of the last
    views = Views.from_captions(pictures[:8], texts, index)
    method = ACLN(**RAW | {"max_epochs": 1, "trunk_epochs": trunk_epochs}).fit(views, y)
    assert method.classes_.tolist() == [0, 1]
    y[1] = 1 - y[2]
    if trunk_epochs:  # a picture must have one label
        with pytest.raises(ValueError, match="conflicting labels"):
            method.fit(views, y)
    else:
        method.fit(views, y)


# ---- experiments -------------------------------------------------------------------------------


def test_the_experiments_name_parameters_that_exist():
    yaml = pytest.importorskip("yaml")
    files = sorted((Path(__file__).parents[1] / "experiments").glob("*.yaml"))
    assert len(files) == 3
    for file in files:
        described = yaml.safe_load(file.read_text())
        entries = [entry for entry in described["methods"] if entry["method"] == "acln"]
        variants = [ACLN(**entry["params"]) for entry in entries]
        assert [v.attention for v in variants[:3]] == ["shared", "separate", "none"]
        without_tanh = [v for v in variants[3:] if (v.attention, v.attn_act) == ("shared", None)]
        assert len(without_tanh) == len(variants[3:]) == ("reduced" in file.stem)
        if "reduced" not in file.stem:
            published = {"lr": 4e-4, "batch_size": 20, "width": 512, "dropout": 0.5,
                         "corr_weight": 1.0, "alpha": 0.99, "eps": 1e-8}  # fmt: skip
            basic = described["x-basic"]
            assert all(published.items() <= part.items() for part in (entries[0]["params"], basic))
            assert basic["attention"] == "none"
            ACLN(**basic)._validate_params()
        for variant in variants:
            variant._validate_params()


def test_a_bundle_does_without_the_callbacks(planted, tmp_path):
    train, y, test, _ = planted
    method = ACLN(random_state=0, callbacks=[_Dies(10**6)], **{**SMALL, "max_epochs": 2})
    method.fit(train, y)
    crossfit.save(method, tmp_path / "bundle")
    loaded = crossfit.load(tmp_path / "bundle")
    assert loaded.callbacks is None and len(method.callbacks) == 1
    np.testing.assert_array_equal(loaded.similarity(test), method.similarity(test))


@pytest.mark.parametrize("kind", ["ragged", "padded"])
def test_one_long_text_costs_no_more_than_the_limit(kind, monkeypatch):
    rng = np.random.default_rng(0)
    lengths = [*rng.integers(4, 9, 39), 3000]
    texts = Ragged(rng.integers(1, 30, sum(lengths)), np.concatenate([[0], np.cumsum(lengths)]))
    X, y = rng.normal(size=(40, 5, 6)).astype(np.float32), np.arange(40) % 3
    seen = []
    pool = ACLNNetwork.pool

    def watched(self, items, view):
        seen.append(items.values.shape[1])
        return pool(self, items, view)

    monkeypatch.setattr(ACLNNetwork, "pool", watched)
    given = texts if kind == "ragged" else texts.padded()[0]
    method = ACLN(width=8, max_epochs=1, max_length=50, random_state=0, device="cpu")
    says = "ACLN: view 'text': 1 of 40 texts have more than 50 words, the longest 3000"
    with pytest.warns(UserWarning, match=says):
        method.fit(X, given, y)
    assert max(seen) == 50
    # As if it had been truncated before.
    cut = Ragged.from_list([texts[i][:50] for i in range(40)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = clone(method).fit(X, cut, y)
    with pytest.warns(UserWarning, match="longest 3000"):
        np.testing.assert_array_equal(method.encode(given, "text"), before.encode(cut, "text"))
