"""BSSAN against its equations, its invariances, its rulings, and the conformance kit."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.pipeline import Pipeline

import crossfit
from crossfit import ChannelUnion, Ragged, Views, ViewTransformer, datasets, registry
from crossfit.extraction import GridFeatures, WordVectors
from crossfit.metrics import chance_level
from crossfit.neural import Batch, Items, NeuralPairEstimator, Standardize
from crossfit.plotting import plot_attention
from crossfit.testing import PeakBytes, parametrize_with_checks
from crossfit_bssan import cards
from crossfit_bssan.estimator import BSSAN
from crossfit_bssan.network import BSSANNetwork, PairAttention
from crossfit_bssan.testing import make_inputs

SMALL = {**cards.BSSAN.test_params, "random_state": 0}


@pytest.fixture(scope="module")
def planted():
    views, _ = make_inputs(np.random.default_rng(0), 120)
    return views[:80], views[80:]


@pytest.fixture(scope="module")
def fitted(planted):
    return BSSAN(**SMALL).fit(planted[0])


@pytest.fixture(autouse=True)
def _leave_torch_as_it_was():
    with torch.random.fork_rng():
        yield


@parametrize_with_checks([BSSAN])
def test_conformance(check):
    check()


# ---- the network against the equations ---------------------------------------------------------

N_INPUTS = {"image": {"map": 7, "objects": 6}, "text": 5}
ROWS = torch.arange(3)[:, None]  # every image alone


def _network(n_inputs=N_INPUTS, **settings):
    torch.manual_seed(0)
    given = {
        "branches": ("w2r", "o2w"),
        "lstm_width": 8,
        "w2r_mlp": (8, 4),
        "bilstm_width": 6,
        "o2w_mlp": (6, 3),
        "activation": torch.tanh,
        "max_words": 30,
        "project": False,
    }
    network = BSSANNetwork(n_inputs, **{**given, **settings}).eval()
    # As after some training: weights and statistics with which scores depend on the inputs.
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(1.5)
        for branch in network.branches.values():
            branch.attention.map.weight.mul_(3)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm1d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
    return network


def _inputs(n=3, m=4, n_regions=5, n_objects=3, n_inputs=N_INPUTS):
    """Return the channels of n images, and m texts, of unequal lengths."""
    torch.manual_seed(1)
    width = n_inputs["image"]
    objects = torch.arange(n_objects) < torch.tensor([n_objects, 1, 2][:n])[:, None]
    words = torch.arange(6) < torch.tensor([6, 2, 1, 4][:m])[:, None]
    image = {
        "map": Items(torch.randn(n, n_regions, width["map"])),
        "objects": Items(torch.randn(n, n_objects, width["objects"]) * objects[..., None], objects),
    }
    return image, Items(torch.randn(m, 6, n_inputs["text"]) * words[..., None], words)


def _by_hand(network, image, text, i, j, learned=True):
    """Follow equations 1 to 16 for one pair, word by word and object by object."""
    w2r, o2w = network.branches["w2r"], network.branches["o2w"]
    words = text.values[j][text.mask[j]]
    regions = image["map"].values[i]
    objects = image["objects"].values[i][image["objects"].mask[i]]

    def attend(query, vectors, attention):
        W, b = attention.map.weight.T.detach().numpy(), attention.bias.item()
        e = [np.tanh(query.numpy() @ W @ v.detach().numpy() + b) for v in vectors]
        a = softmax(e) if learned else np.full(len(e), 1 / len(e))
        return sum(w * v for w, v in zip(a, vectors)), a

    with torch.no_grad():
        attended = [attend(t, regions, w2r.attention) for t in words]
        c = torch.stack([torch.cat([u, t]) for (u, _), t in zip(attended, words)])
        Y = w2r.mlp(w2r.lstm(c[None].float())[0][:, -1])
        states = o2w.lstm(words[None])[0][0].view(len(words), 2, -1).mean(dim=1)
        of_objects = [attend(o, states, o2w.attention) for o in objects]
        scores = [o2w.mlp(torch.cat([o, u]).float()[None])
                  for (u, _), o in zip(of_objects, objects)]  # fmt: skip
    alpha, beta = ([a for _, a in part] for part in (attended, of_objects))
    return Y.item(), float(np.mean([s.item() for s in scores])), alpha, beta


@pytest.mark.parametrize("activation", [torch.tanh, None])
@pytest.mark.parametrize("project", [True, False])
def test_the_network_is_the_equations(project, activation):
    network = _network(project=project)
    channels, items = _inputs()
    with torch.no_grad():
        image, text = network.image(channels), network.text(items)
        pairs = image.together(), text.together()
        scores = {name: part[0] for name, part in network(*pairs).items()}
        each = network(image.take(ROWS), text.take(torch.tensor([[0, 3], [1, 1], [2, 0]])))
        groups = torch.tensor([[0, 1], [2, 0]]), torch.tensor([[0, 3, 2], [1, 0, 2]])
        grouped = network(image.take(groups[0]), text.take(groups[1]))
        alpha = network.branches["w2r"].weights(*pairs)[0]
        beta = network.branches["o2w"].weights(*pairs)[0]
    for i in range(3):
        for j in range(4):
            Y, Y2, a, b = _by_hand(network, channels, items, i, j)
            assert scores["w2r"][i, j].item() == pytest.approx(Y, abs=1e-5)
            assert scores["o2w"][i, j].item() == pytest.approx(Y2, abs=1e-5)
            np.testing.assert_allclose(alpha[i, j, : len(a)], a, atol=1e-5)
            np.testing.assert_allclose(beta[i, j, : len(b), : len(a)], b, atol=1e-5)
            assert not beta[i, j, :, len(a) :].any()
    for name in scores:  # an image's own texts, the same ones for all, or for groups of images
        expected = scores[name][[0, 0, 1, 1, 2, 2], [0, 3, 1, 1, 2, 0]].view(3, 1, 2)
        torch.testing.assert_close(each[name], expected)
        expected = scores[name][groups[0][:, :, None], groups[1][:, None]]
        torch.testing.assert_close(grouped[name], expected)


def test_the_gradient_is_that_of_torchs_own_lstm():
    network = _network()
    channels, items = _inputs()
    w2r = network.branches["w2r"]
    pairs = torch.tensor([[0, 1], [2, 3], [1, 0]])

    def ours(project):
        w2r.project = project
        return w2r(network.image(channels).take(ROWS), network.text(items).take(pairs))

    def torchs():
        image, text = network.image(channels), network.text(items)
        alpha = w2r.weights(image.take(ROWS), text.take(pairs))[:, 0]
        found = []
        for i, row in enumerate(pairs.tolist()):
            for column, j in enumerate(row):
                n = int(items.mask[j].sum())
                u = alpha[i, column, :n] @ channels["map"].values[i]
                c = torch.cat([u, items.values[j, :n]], dim=1)
                found.append(w2r.mlp(w2r.lstm(c[None])[0][:, -1]))
        return torch.cat(found).view(3, 1, 2)

    gradients = []
    for scores in (torchs(), ours(True), ours(False)):
        loss = (scores * torch.tensor([1.0, -0.5])).sum()
        assert scores.shape == (3, 1, 2)
        gradients.append(torch.autograd.grad(loss, list(w2r.parameters())))
    for other in gradients[1:]:
        for found, expected in zip(other, gradients[0], strict=True):
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


PUBLISHED = {"image": {"map": 512, "objects": 4096}, "text": 300}


def published(name):
    """Return the parameters of the method in an experiment with the paper's settings."""
    yaml = pytest.importorskip("yaml")
    folder = Path(__file__).parents[1] / "experiments"
    described = yaml.safe_load((folder / f"huang-2018-bssan-{name}.yaml").read_text())
    (found,) = (part["params"] for part in described["methods"] if part["label"] == "BSSAN")
    return found


@pytest.mark.parametrize("name", ["flickr30k", "coco"])
def test_the_published_settings(name, planted):
    """Every parameter of the method is in the file, so that no default stands in for it."""
    found = published(name)
    own = set(BSSAN()._get_param_names()) - set(NeuralPairEstimator()._get_param_names())
    # What one random negative does not use.
    assert own - {"k_negatives", "w2r_group_size", "o2w_group_size"} <= set(found)
    for key, value in {"mining": "random", "bidirectional": False, "negative_attention": "uniform",
                       "delta": 0.01, "o2w_weight": 0.6, "optimizer": "SGD", "lr": 0.01,
                       "n_components": None, "standardize": False, "dropout": 0,
                       "lr_decay": None}.items():  # fmt: skip
        assert found[key] == value and type(found[key]) in (type(value), float)
    small = {"lstm_width": 8, "w2r_mlp": [6], "bilstm_width": 4, "o2w_mlp": [6], "max_epochs": 1}
    method = BSSAN(**{**found, **small}, device="cpu", random_state=0).fit(planted[0])
    (group,) = method.net_.optimizer_.param_groups
    assert type(method.net_.optimizer_) is torch.optim.SGD
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.01, 0.9, 0)
    kinds = {type(part).__name__ for part in method.net_.module_.modules()}
    assert "Standardize" not in kinds and not hasattr(method, "map_components_")
    assert all(part.p == 0 for part in method.net_.module_.modules()
               if isinstance(part, torch.nn.Dropout))  # fmt: skip


def test_the_published_sizes():
    method = BSSAN(**published("flickr30k"), device="cpu")
    method.n_regions_ = 196
    network = method._build_module(PUBLISHED, None).eval()
    w2r, o2w = network.branches["w2r"], network.branches["o2w"]

    def count(module):
        return sum(p.numel() for p in module.parameters())

    assert count(w2r.lstm) == 7_528_448 and count(o2w.lstm) == 3_334_144
    assert count(w2r.attention) == 300 * 512 + 1 and count(o2w.attention) == 4096 * 512 + 1

    def widths(mlp):
        layers = [layer for layer in mlp.layers if isinstance(layer, torch.nn.Linear)]
        return [layers[0].in_features, *(layer.out_features for layer in layers)]

    assert widths(w2r.mlp) == [1024, 1024, 512, 128, 1]
    assert widths(o2w.mlp) == [4608, 512, 256, 64, 1]
    for mlp in (w2r.mlp, o2w.mlp):  # normalisation before tanh, and a linear last layer
        kinds = [type(layer).__name__ for layer in mlp.layers]
        assert kinds == ["Linear", "BatchNorm1d", "Tanh"] * 3 + ["Linear"]
    channels = {"map": Items(torch.rand(2, 196, 512)), "objects": Items(torch.rand(2, 10, 4096))}
    with torch.no_grad():
        image, text = network.image(channels), network.text(Items(torch.randn(3, 30, 300)))
        assert text.states.shape == (3, 30, 512)
        pairs = image.together(), text.together()
        assert w2r.weights(*pairs).shape == (1, 2, 3, 30, 196)
        assert o2w.weights(*pairs).shape == (1, 2, 3, 10, 30)
        scores = network(*pairs)
    shapes = {name: part.shape for name, part in scores.items()}
    assert shapes == {"w2r": (1, 2, 3), "o2w": (1, 2, 3)}


def test_tanh_bounds_the_weight_of_a_region():
    network = _network({"image": {"map": 7, "objects": 6}, "text": 5})
    with torch.no_grad():
        network.branches["w2r"].attention.map.weight.mul_(1e3)
        channels, items = _inputs()
        channels["map"] = Items(torch.randn(3, 196, 7))
        bounded = network.branches["w2r"].weights(
            network.image(channels).together(), network.text(items).together()
        )
        network.branches["w2r"].attention.activation = None
        free = network.branches["w2r"].weights(
            network.image(channels).together(), network.text(items).together()
        )
    assert bounded.max() <= np.e / (np.e + 195 / np.e) + 1e-6 < 0.0366
    assert free.max() > 0.5


def test_uniform_attention_is_that_of_zero_weights():
    network, zero = _network(), _network()
    channels, items = _inputs()
    for branch in zero.branches.values():
        torch.nn.init.zeros_(branch.attention.map.weight)
        torch.nn.init.zeros_(branch.attention.bias)
    with torch.no_grad():
        text = network.text(items).together()
        some = torch.tensor([0.0, 1.0, 0.0, 1.0]).expand(1, 3, 4)
        uniform = network(network.image(channels).together(), text, some)
        flat = zero(zero.image(channels).together(), text)
        learned = network(network.image(channels).together(), text)
    for name in uniform:
        torch.testing.assert_close(uniform[name][..., ::2], flat[name][..., ::2])
        torch.testing.assert_close(uniform[name][..., 1::2], learned[name][..., 1::2])
        assert (learned[name] - flat[name]).abs().max() > 0.05
    for i in range(3):
        Y, Y2, a, b = _by_hand(network, channels, items, i, 0, learned=False)
        assert uniform["w2r"][0, i, 0].item() == pytest.approx(Y, abs=1e-5)
        assert uniform["o2w"][0, i, 0].item() == pytest.approx(Y2, abs=1e-5)
        assert np.allclose(a, 1 / 5) and np.allclose(b, 1 / 6)


# ---- invariances -------------------------------------------------------------------------------


def test_the_order_of_regions_and_objects_does_not_matter(fitted, planted):
    test = planted[1]
    rng = np.random.default_rng(0)
    order = rng.permutation(6)
    image = test["image"]
    objects = Ragged.from_list([rng.permutation(part) for part in image["objects"]])
    shuffled = {"map": image["map"][:, order], "objects": objects}
    scores = fitted.similarity(test)
    found = fitted.similarity(shuffled, test["text"])
    np.testing.assert_allclose(found, scores, rtol=1e-5, atol=1e-4)
    backwards = Ragged.from_list([part[::-1] for part in test["text"]])
    assert np.abs(fitted.similarity(image, backwards) - scores).max() > 0.1  # it reads words


def test_padding_does_not_matter(fitted, planted):
    test = planted[1]
    expected = fitted.similarity(test)
    padded, mask = test["text"].padded(40)
    assert not padded[~mask].any()
    found = fitted.similarity(test["image"], padded)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    images = test["image"]
    dense = np.stack([np.resize(part, (4, 9)) for part in images["objects"]])  # repeated
    alone = Ragged.from_list([np.resize(part, (4, 9)) for part in images["objects"]])
    np.testing.assert_allclose(
        fitted.similarity({"map": images["map"], "objects": dense}, test["text"]),
        fitted.similarity({"map": Ragged.from_list(list(images["map"])), "objects": alone},
                          test["text"]),
        rtol=1e-5, atol=1e-5,
    )  # fmt: skip


def test_the_backward_lstm_does_not_start_in_the_padding():
    network = _network()
    _, items = _inputs()
    long = Items(torch.cat([items.values, torch.randn(4, 5, 5)], 1),
                 torch.cat([items.mask, torch.zeros(4, 5).bool()], 1))  # fmt: skip
    with torch.no_grad():
        short, padded = network.text(items), network.text(long)
    torch.testing.assert_close(padded.states, short.states)
    torch.testing.assert_close(padded.lengths, short.lengths)


def test_texts_are_cut_and_a_text_without_words_is_a_word_of_zeros(fitted, planted):
    test = planted[1]
    cut = clone(fitted).set_params(max_words=3, max_epochs=1).fit(planted[0])
    first = Ragged.from_list([part[:3] for part in test["text"]])
    np.testing.assert_allclose(
        cut.similarity(test), cut.similarity(test["image"], first), rtol=1e-5, atol=1e-5
    )
    said = np.array([f"w{i}" for i in range(len(test["text"].values))], dtype=object)
    texts = Ragged.from_list(
        [test["text"][0], np.zeros((0, 8))], {"words": said[: len(test["text"][0])]}
    )
    weights = cut.explain(test["image"][:2], texts)["w2r"]
    assert weights.info["words"].tolist() == ["w0", "w1", "w2", ""]
    assert weights.lengths.tolist() == [3, 1]
    images = test["image"][:3]
    empty = fitted.similarity(images, Ragged.from_list([test["text"][0], np.zeros((0, 8))]))
    zeros = fitted.similarity(images, Ragged.from_list([test["text"][0], np.zeros((1, 8))]))
    assert np.isfinite(empty).all()
    np.testing.assert_allclose(empty[:, 0], zeros[:, 0])
    bare = {"map": images["map"], "objects": Ragged.from_list([np.zeros((0, 9))] * 3)}
    assert np.isfinite(fitted.similarity(bare, test["text"])).all()


# ---- the loss, and information in training -------------------------------------------------------


def _batch(groups):
    rows = torch.arange(len(groups))
    return Batch({"image": None, "text": None}, {"image": rows, "text": rows},
                 torch.tensor(groups), None)  # fmt: skip


def _pair_of_texts(known):
    """Return positives and negatives of images, each with its own text and one that is drawn."""
    known = torch.tensor(known)
    positives = torch.tensor([True, False]).expand(len(known), 1, 2)
    return positives, torch.stack([torch.zeros_like(known), known], dim=-1)[:, None]


def test_the_published_loss_is_the_hinges():
    rng = np.random.default_rng(0)
    Y, Y2 = (torch.tensor(rng.normal(size=(4, 1, 2))) for _ in range(2))
    all_known = _pair_of_texts([True] * 4)
    outputs = {"w2r": (Y, *all_known), "o2w": (Y2, *all_known), "reg": torch.tensor(3.0)}
    settings = {"mining": "random", "bidirectional": False, "margin": 0.7}
    terms = BSSAN(**settings, o2w_weight=0.3, delta=0.1)._loss(outputs, None)

    def hinge(y):
        return np.mean([max(0, 0.7 - own + negative) for own, negative in y[:, 0].tolist()])

    assert terms["w2r"].item() == pytest.approx(hinge(Y))
    assert terms["o2w"].item() == pytest.approx(0.3 * hinge(Y2))
    assert terms["reg"].item() == pytest.approx(0.3)
    outputs["w2r"] = (Y, *_pair_of_texts([True, False, True, True]))
    some = BSSAN(**settings)._loss(outputs, None)
    assert some["w2r"].item() == pytest.approx(hinge(Y[[0, 2, 3]]))
    outputs["w2r"] = (Y, *_pair_of_texts([False] * 4))
    assert BSSAN(**settings)._loss(outputs, None)["w2r"] == 0


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("mining", ["random", "all", "hardest", "top-k"])
def test_the_loss_is_that_of_the_naive_loop(mining, bidirectional):
    """Pairs of one image, of other images, and of neither kind; in groups that differ."""
    rng = np.random.default_rng(0)
    scores = torch.tensor(rng.normal(size=(3, 4, 4)))
    positives = torch.eye(4).bool().repeat(3, 1, 1)
    positives[1, 0, 1] = positives[1, 1, 0] = True
    negatives = ~positives
    negatives[2, 3, :] = negatives[2, :, 3] = False  # nobody to rank this row against
    if mining == "random":  # one negative per row and column at most
        negatives = negatives & torch.eye(4).bool().roll(2, 0)
    method = BSSAN(
        mining=mining, k_negatives=2, bidirectional=bidirectional, margin=0.8, o2w_weight=0.5
    )
    terms = method._loss({"w2r": (scores, positives, negatives)}, None)

    def ranked(s, own, other):
        found = []
        for i in range(4):
            wrong = sorted((s[i, j] for j in range(4) if other[i, j]), reverse=True)
            wrong = wrong[: {"hardest": 1, "top-k": 2}.get(mining, 4)]
            found += [np.mean([max(0, 0.8 - s[i, p] + n) for n in wrong])
                      for p in range(4) if own[i, p] and wrong]  # fmt: skip
        return found

    ways = [(0, 1, 2), (0, 2, 1)][: 1 + bidirectional]
    parts = [np.concatenate([ranked(*(t.permute(way)[a].numpy() for t in (scores, positives,
             negatives))) for a in range(3)]) for way in ways]  # fmt: skip
    assert terms["w2r"].item() == pytest.approx(sum(part.mean() for part in parts))


@pytest.mark.parametrize("mining", ["random", "all", "hardest"])
def test_the_loss_has_the_right_gradient(mining):
    torch.manual_seed(0)
    Y, Y2 = (torch.randn(5, 1, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    reg = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    masks = _pair_of_texts([True, True, False, True, True])

    def loss(a, b, c):
        outputs = {"w2r": (a, *masks), "o2w": (b, *masks), "reg": c}
        return sum(BSSAN(mining=mining, margin=1.0)._loss(outputs, None).values())

    assert torch.autograd.gradcheck(loss, (Y, Y2, reg))


def test_the_loss_does_not_grow_with_the_batch():
    """A batch twice, whose pairs meet in the same groups, has the same loss."""
    views, _ = make_inputs(np.random.default_rng(0), 16)
    method = BSSAN(**SMALL, w2r_group_size=8, o2w_group_size=8).fit(views)
    module = method.net_.module_.eval()
    losses = []
    for times in (1, 2):
        rows = np.tile(np.arange(16), times)
        data = method._data(views[rows].map(method._features), None, torch.device("cpu"))
        batch = data.batch(torch.arange(len(rows)))
        with torch.no_grad():
            losses.append(sum(method._loss(method._outputs(module, batch), batch).values()))
    torch.testing.assert_close(losses[0], losses[1])


def test_the_regulariser_is_of_weight_matrices_alone():
    network = _network()
    expected = sum((p**2).sum() for n, p in network.named_parameters()
                   if p.ndim == 2 and "bias" not in n)  # fmt: skip
    torch.testing.assert_close(network.squared_norm(), expected)
    network.squared_norm().backward()
    for name, p in network.named_parameters():
        if p.ndim == 2:
            torch.testing.assert_close(p.grad, 2 * p)
        else:
            assert p.grad is None, name
    assert sum(p.ndim == 2 for p in network.parameters()) == 2 + 6 + 2 * 3


class _Recorder(torch.nn.Module):
    """A substitute for the network that records which images and texts are compared, and how."""

    def __init__(self):
        super().__init__()
        self.seen = []
        self.branches = {"w2r": self._branch, "o2w": self._branch}

    def image(self, items):
        return self

    text = image

    def take(self, rows):
        return rows

    def _branch(self, images, texts, learned=None):
        self.seen.append((images, texts, learned))
        return torch.zeros(*images.shape, texts.shape[1])


PUBLISHED_LOSS = {"mining": "random", "bidirectional": False, "negative_attention": "uniform"}


@pytest.mark.parametrize("bidirectional", [False, True])
def test_negatives_are_items_of_other_images_each_equally_often(bidirectional):
    module, method = (
        _Recorder(),
        BSSAN(**{**PUBLISHED_LOSS, "bidirectional": bidirectional}, delta=0),
    )
    groups = torch.tensor([0, 0, 0, 1, 1, 2])
    torch.manual_seed(0)
    drawn = torch.zeros(2, 6, 6)
    for _ in range(1500):
        outputs = method._outputs(module, _batch(groups.tolist()))
        (images, texts, learned), again = module.seen[-2:]
        assert all(a is b for a, b in zip((images, texts), again))  # the same for both branches
        assert texts.shape == (6, 2) and images.shape == (6, 1 + bidirectional)
        assert texts[:, 0].tolist() == images[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
        expected = [[1, 0], [0, 0]][: 1 + bidirectional]
        assert learned.tolist() == [expected] * 6
        for counts, rows in zip(drawn, (texts, images)):
            counts[torch.arange(6), rows[:, -1]] += 1
    wrong = groups[:, None] != groups
    for counts in drawn[: 1 + bidirectional]:
        assert not counts[~wrong].any()
        found = counts[wrong] * wrong.sum(1).repeat_interleave(wrong.sum(1)) / 1500
        np.testing.assert_allclose(found, 1, atol=0.2)
    _, positives, negatives = outputs["w2r"]
    assert positives.sum() == 6 and negatives.sum() == 6 * (1 + bidirectional)
    assert not method._outputs(module, _batch([3, 3]))["w2r"][2].any()
    method.set_params(negative_attention="learned")._outputs(module, _batch([0, 1]))
    assert module.seen[-1][2] is None


def test_groups_cover_the_batch_with_their_positives_and_negatives():
    module, groups = _Recorder(), [0, 0, 1, 2, 3, 4, 4]
    item = torch.tensor([0, 0, 1, 2, 3, 4, 5])  # rows 5 and 6: one group, two images
    batch = Batch({"image": None, "text": None}, {"image": item, "text": torch.arange(7)},
                  torch.tensor(groups), None)  # fmt: skip
    method = BSSAN(w2r_group_size=3, o2w_group_size=100, negative_attention="uniform", delta=0)
    outputs = method._outputs(module, batch)
    (images, texts, learned), whole = module.seen
    assert images.tolist() == texts.tolist() == [[0, 1, 2], [3, 4, 5], [6, 0, 1]]
    assert whole[0].tolist() == whole[1].tolist() == [[0, 1, 2, 3, 4, 5, 6]]
    for name in ("w2r", "o2w"):
        scores, positives, negatives = outputs[name]
        rows = images if name == "w2r" else whole[0]
        assert scores.shape == positives.shape == negatives.shape
        for a, i, j in np.ndindex(*scores.shape):
            first, second = rows[a, i], rows[a, j]
            assert positives[a, i, j] == (item[first] == item[second])
            assert negatives[a, i, j] == (groups[first] != groups[second])
    torch.testing.assert_close(learned, outputs["w2r"][1].float())


def test_uniform_attention_for_negatives_never_leaves_the_training(planted, monkeypatch):
    seen = []
    weigh = PairAttention.weigh

    def recording(self, einsum, queries, x, mask, learned):
        seen.append((torch.is_grad_enabled(), learned))
        return weigh(self, einsum, queries, x, mask, learned)

    monkeypatch.setattr(PairAttention, "weigh", recording)
    train, test = planted
    method = BSSAN(**{**SMALL, **PUBLISHED_LOSS, "max_epochs": 2}, validation_fraction=0.2).fit(
        train
    )
    training = [learned for gradients, learned in seen if gradients]
    validation = [learned for gradients, learned in seen if not gradients]
    assert training and all(set(learned.unique().tolist()) == {0, 1} for learned in training)
    assert validation and all(learned is None for learned in validation)
    seen.clear()
    scores = method.similarity(test)
    method.score(test)
    method.explain(test)
    assert seen and all(learned is None for _, learned in seen)
    method.set_params(negative_attention="learned")
    np.testing.assert_array_equal(method.similarity(test), scores)


def test_who_belongs_to_whom_changes_no_score(planted):
    train, test = planted
    for negative_attention in ("uniform", "learned"):
        method = BSSAN(**{**SMALL, "negative_attention": negative_attention, "max_epochs": 3})
        scores = method.fit(train).similarity(test)
        order = np.random.default_rng(0).permutation(40)
        found = method.similarity(Views(image=test["image"], text=test["text"][order]))
        np.testing.assert_allclose(found, scores[:, order], rtol=1e-5, atol=1e-5)
        alone = method.similarity(test["image"][:1], test["text"][order][:1])
        assert alone[0, 0] == pytest.approx(scores[0, order[0]], abs=1e-5)


def test_uniform_attention_for_negatives_is_a_cue_that_is_absent_at_test(planted):
    """The loss vanishes by recognising uniform weights, and ranking stays near chance."""
    train, test = planted
    settings = {
        **SMALL,
        **PUBLISHED_LOSS,
        "margin": 1.0,
        "delta": 0,
        "max_epochs": 15,
        "lr_decay": None,
    }
    uniform = BSSAN(**{**settings, "negative_attention": "uniform"}).fit(train)
    learned = BSSAN(**{**settings, "negative_attention": "learned"}).fit(train)
    last = {m.negative_attention: m.net_.history[-1]["train_loss"] for m in (uniform, learned)}
    assert last["uniform"] < 0.1 < last["learned"]
    assert uniform.score(test) < learned.score(test) - 0.1


# ---- scores ------------------------------------------------------------------------------------


def test_scores_are_those_of_the_naive_loop(fitted, planted):
    test = planted[1][:9]
    images, texts = test["image"], test["text"]
    naive = np.array([[fitted.similarity(images[[i]], texts[[j]])[0, 0] for j in range(9)]
                      for i in range(9)])  # fmt: skip
    for memory, chunk in ((2**28, None), (2**16, None), (2**28, 4)):
        fitted.set_params(score_memory=memory)
        found = fitted.similarity(test, chunk_size=chunk)
        np.testing.assert_allclose(found, naive, rtol=1e-5, atol=1e-5)
    fitted.set_params(score_memory=2**28)
    module = fitted.net_.module_
    with torch.no_grad():
        image = {"map": Items(torch.tensor(images["map"][:1], dtype=torch.float32)),
                 "objects": Items(torch.tensor(images["objects"][0], dtype=torch.float32)[None],
                                  torch.ones(1, len(images["objects"][0])).bool())}  # fmt: skip
        words = Items(torch.tensor(texts[3], dtype=torch.float32)[None])
        parts = module(module.image(image).together(), module.text(words).together())
    expected = parts["w2r"] + 0.6 * parts["o2w"]
    assert naive[0, 3] == pytest.approx(expected.item(), abs=1e-4)


@pytest.mark.parametrize("branches", [("w2r", "o2w"), ("w2r",), ("o2w",)])
def test_memory_keeps_to_the_bound(planted, branches):
    train, test = planted[0], planted[1][:24]
    method = BSSAN(**{**SMALL, "branches": branches, "max_epochs": 1}).fit(train)
    assert method.n_regions_ == (6 if "w2r" in branches else 0)
    for max_words in (30, 4):  # more words than regions, and fewer
        method.set_params(max_words=max_words).fit(train)
        P, Q = (method._prepare(test[role], role) for role in ("image", "text"))
        scores = np.empty((len(P), len(Q)), np.float32)
        for memory in (2**17, 2**20):
            method.set_params(score_memory=memory)
            with PeakBytes(*(p for p in (*P.parts, *Q.parts) if p is not None)) as counter:
                method._fill(P, Q, scores, None)
            assert 0 < counter.peak <= memory
            rows, columns = method._block(P, Q, None, torch.device("cpu"))
            assert rows * columns == scores.size or counter.peak > memory / 10


@pytest.mark.filterwarnings("ignore:.*hold no word that has a vector")
def test_the_defaults_learn():
    """Pictures of emoji and their names: far above chance on test pairs, both ways."""
    emoji = datasets.load("emoji")
    settings = {"output": "regions", "cache": False}
    channels = ChannelUnion(
        [("map", GridFeatures(4, **settings)), ("objects", GridFeatures(2, **settings))]
    )
    words = WordVectors(vector_size=50, min_count=1, verbose=False)
    features = ViewTransformer([("image", channels), ("text", words)])
    train = features.fit_transform(emoji["train"].views)
    test = features.transform(emoji["test"].views)
    method = BSSAN(device="cpu", random_state=0).fit(train)
    found = crossfit.evaluate(method.similarity(test), np.eye(len(test)), "mrr", ci=None)
    chance = chance_level(np.eye(len(test)), "mrr")
    assert found.mean(None, "mrr") > 2 * chance.mean(None, "mrr")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("branches", "delta"),
    [(("w2r",), 1e-6), (("o2w",), 1e-6), (("w2r", "o2w"), 0), (("w2r", "o2w"), 1e-6)],
    ids=["w2r", "o2w", "no_reg", "full"],
)
def test_two_hundred_pairs_are_memorised(branches, delta):
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(200, 3))

    def shown(k):
        return (codes @ rng.normal(size=(3, k * 8))).reshape(200, k, 8)

    views = Views(image={"map": shown(2), "objects": shown(2)}, text=shown(2))
    method = BSSAN(
        branches=branches, delta=delta, negative_attention="learned", lstm_width=48, w2r_mlp=(64,),
        bilstm_width=48, o2w_mlp=(64, 32), margin=4.0, optimizer="Adam", lr=5e-3, batch_size=50,
        max_epochs=120, device="cpu", random_state=0,
    ).fit(views)  # fmt: skip
    found = crossfit.evaluate(method.similarity(views), np.eye(200), "r@10", ci=None)
    assert min(found.mean(way, "r@10") for way in found.directions) > 0.95


def test_fits_repeat_bit_for_bit(fitted, planted):
    again = clone(fitted).fit(planted[0])
    states = [m.net_.module_.state_dict() for m in (again, fitted)]
    assert all(torch.equal(part, states[1][name]) for name, part in states[0].items())
    np.testing.assert_array_equal(again.similarity(planted[1]), fitted.similarity(planted[1]))


def test_mixed_precision_tells_scores_apart(fitted, planted):
    train, test = planted
    mixed = BSSAN(**SMALL, amp=True).fit(train)
    scores = mixed.similarity(test)
    assert scores.dtype == np.float32 and len(np.unique(scores)) > 0.99 * scores.size
    mixed.net_.amp = False
    exact = mixed.similarity(test)
    assert 0 < np.abs(scores - exact).max() < 0.05 * np.abs(exact).max()


def test_a_bundle_keeps_the_scores(fitted, planted, tmp_path):
    crossfit.save(fitted, tmp_path / "bssan")
    read = crossfit.load(tmp_path / "bssan")
    np.testing.assert_array_equal(read.similarity(planted[1]), fitted.similarity(planted[1]))
    assert read.get_params() == fitted.get_params() and read.n_regions_ == 6


def test_terms_of_the_loss_are_in_the_history(planted):
    method = BSSAN(**{**SMALL, "max_epochs": 1}).fit(planted[0])
    row = method.net_.history[-1]
    assert {"train_w2r", "train_o2w", "train_reg"} <= set(row)
    none = BSSAN(**{**SMALL, "delta": 0, "max_epochs": 1}).fit(planted[0])
    assert "train_reg" not in none.net_.history[-1]


def test_a_branch_that_is_left_out_reads_nothing(planted):
    train, test = planted
    for name, channel in (("w2r", "map"), ("o2w", "objects")):
        method = BSSAN(**{**SMALL, "branches": [name], "max_epochs": 1}).fit(train)
        assert set(method.net_.module_.branches) == {name}
        only = {channel: test["image"][channel]}
        np.testing.assert_array_equal(
            method.similarity(only, test["text"]), method.similarity(test)
        )
        assert method.explain(test).names == (name,)


@pytest.mark.slow
def test_one_batch_of_the_published_size_trains():
    rng = np.random.default_rng(0)
    image = {"map": rng.random((8, 196, 512), dtype=np.float32),
             "objects": rng.random((8, 10, 4096), dtype=np.float32)}  # fmt: skip
    views = Views(image=image, text=rng.normal(size=(8, 30, 300)).astype(np.float32))
    settings = {**published("flickr30k"), "max_epochs": 1, "batch_size": 8}
    method = BSSAN(**settings, device="cpu", random_state=0).fit(views)
    row = method.net_.history[-1]
    assert 0.5 < row["train_w2r"] < 2 and 0.3 < row["train_o2w"] < 1.2 and row["train_reg"] > 1
    assert method.similarity(views[:2]).shape == (2, 2)


# ---- attention ---------------------------------------------------------------------------------


def test_explain_gives_the_attention_of_every_row(fitted, planted):
    test = planted[1]
    boxes = np.arange(4 * len(test["image"]["objects"].values)).reshape(-1, 4)
    objects = test["image"]["objects"]
    words = np.array([f"w{i}" for i in range(len(test["text"].values))], dtype=object)
    image = {"map": test["image"]["map"],
             "objects": Ragged(objects.values, objects.offsets, {"boxes": boxes})}  # fmt: skip
    text = Ragged(test["text"].values, test["text"].offsets, {"words": words})
    explained = fitted.explain(image, text)
    alpha, beta = explained["w2r"], explained["o2w"]
    assert len(explained) == 40 and alpha.info["words"].tolist() == words.tolist()
    np.testing.assert_array_equal(beta.info["boxes"], boxes)
    np.testing.assert_array_equal(alpha.lengths, text.lengths)
    np.testing.assert_array_equal(beta.lengths, objects.lengths)
    for i in (0, 7):
        assert alpha[i].shape == (text.lengths[i], 6)
        np.testing.assert_allclose(alpha[i].sum(axis=1), 1, rtol=1e-5)
        np.testing.assert_allclose(beta[i][:, : text.lengths[i]].sum(axis=1), 1, rtol=1e-5)
        assert not beta[i][:, text.lengths[i] :].any()
        alone = fitted.explain(test[[i]])
        np.testing.assert_allclose(alone["w2r"][0], alpha[i], rtol=1e-4, atol=1e-6)
    module = fitted.net_.module_
    attention = module.branches["w2r"].attention
    with torch.no_grad():
        words = module.scaling["text"](torch.tensor(text[3], dtype=torch.float32)).numpy()
        regions = torch.tensor(np.asarray(image["map"][3]), dtype=torch.float32)
        regions = module.scaling["map"](regions).numpy()
    logits = words @ attention.map.weight.detach().numpy().T @ regions.T + attention.bias.item()
    np.testing.assert_allclose(alpha[3], softmax(logits, axis=1), atol=1e-4)


def test_explain_takes_several_captions_of_an_image(fitted, planted):
    test = planted[1]
    index = np.repeat(np.arange(8), 3)
    views = Views.from_captions(test["image"][:8], test["text"][index], index)
    found = fitted.explain(views)
    assert len(found) == 24
    pairs = fitted.explain(test["image"][index], test["text"][index])
    for name in ("w2r", "o2w"):
        np.testing.assert_allclose(found[name].values, pairs[name].values, atol=1e-6)
    with pytest.raises(ValueError, match="needs the views image and text, got image"):
        fitted.explain(test.select("image"))


def test_pictures_and_strings_go_through_a_pipeline(tmp_path):
    rng = np.random.default_rng(0)
    colours = np.array([(220, 30, 30), (30, 200, 40), (20, 40, 230)])
    pictures = np.tile(colours[np.arange(24) % 3][:, None, None], (1, 32, 32, 1)).astype(np.uint8)
    pictures[:, :8] = rng.integers(0, 256, (24, 8, 32, 3))
    texts = [f"a {['red', 'green', 'blue'][i % 3]} square" for i in range(24)]
    settings = {"size": 32, "output": "regions", "cache": False}
    channels = ChannelUnion(
        [("map", GridFeatures(4, **settings)), ("objects", GridFeatures(2, **settings))]
    )
    words = WordVectors(vector_size=8, min_count=1, verbose=False)
    pipeline = Pipeline(
        [("features", ViewTransformer([("image", channels), ("text", words)])),
         ("bssan", BSSAN(**SMALL))]
    ).fit(Views(image=pictures, text=texts))  # fmt: skip
    scores = crossfit.similarity(pipeline, Views(image=pictures[:3], text=texts[:3]))
    assert scores.shape == (3, 3) and scores.argmax(axis=1).tolist() == [0, 1, 2]
    features = pipeline[0].transform(Views(image=pictures[:2], text=texts[:2]))
    explained = pipeline[-1].explain(features)
    assert explained["w2r"][0].shape == (3, 16) and explained["o2w"][0].shape == (4, 3)
    figure = plot_attention(
        pictures[0], explained["w2r"][[0]].info["words"], word_to_region=explained["w2r"][0],
        object_to_word=explained["o2w"][0],
    )  # fmt: skip
    figure.savefig(tmp_path / "attention.png", dpi=30)


# ---- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"branches": ()}, "branches must be some of w2r, o2w"),
        ({"branches": ("w2r", "r2w")}, "branches must be some of w2r, o2w"),
        ({"w2r_mlp": (8, 0)}, "w2r_mlp must be widths of layers"),
        ({"negative_attention": "none"}, "negative_attention"),
        ({"margin": 0}, "margin"),
        ({"mining": "sum"}, "mining"),
        ({"w2r_group_size": 1}, "w2r_group_size"),
        ({"n_components": 0}, "n_components"),
        ({"dropout": 1}, "dropout"),
    ],
)
def test_wrong_parameters_are_refused(planted, params, words):
    with pytest.raises(ValueError, match=words):
        BSSAN(**{**SMALL, **params}).fit(planted[0])


def test_wrong_channels_are_refused_by_name(fitted, planted):
    test = planted[1]
    image, text = test["image"], test["text"]
    with pytest.raises(ValueError, match="view 'image' must have the channels map and objects"):
        fitted.similarity({"map": image["map"]}, text)
    flat = {"map": image["map"][:, 0], "objects": image["objects"]}
    with pytest.raises(ValueError, match="channel 'map' must be vectors of shape"):
        fitted.similarity(flat, text)
    narrow = {"map": image["map"][..., :-1], "objects": image["objects"]}
    with pytest.raises(ValueError, match="'map' has 9 features, but BSSAN is expecting 10"):
        fitted.similarity(narrow, text)
    with pytest.raises(ValueError, match=r"must be a numeric array of shape \(n, T, d\)"):
        fitted.similarity(image, ["a dog"] * 40)


# ---- experiments -------------------------------------------------------------------------------


def test_the_experiments_name_parameters_that_exist():
    yaml = pytest.importorskip("yaml")
    folder = Path(__file__).parents[1] / "experiments"
    files = {file.stem for file in folder.glob("*.yaml")}
    tables = {card.name for card in (cards.FLICKR30K, cards.COCO, cards.FLICKR8K_REDUCED)}
    choice = cards.FLICKR8K_CHOICE.name
    assert files == {*tables, choice}
    for name in files:
        described = yaml.safe_load((folder / f"{name}.yaml").read_text())
        methods = [entry for entry in described["methods"] if entry["method"] == "bssan"]
        card = registry.get(name, "crossfit.experiments")
        named = {entry["method"] for entry in described["methods"]}
        assert named == set(card.methods)
        given = [entry["params"] for entry in methods]
        # A delta that is tuned is above 0.
        variants = {
            (tuple(p.get("branches", ("w2r", "o2w"))), p.get("delta", 1) > 0) for p in given
        }
        wanted = {
            (("w2r",), True),
            (("o2w",), True),
            (("w2r", "o2w"), True),
            (("w2r", "o2w"), False),
        }
        assert variants == {(("w2r",), True)} if name == choice else wanted <= variants
        for entry in methods:
            BSSAN(**entry["params"])._validate_params()


def test_principal_components_are_those_of_the_training_vectors(planted):
    train, test = planted
    settings = {**SMALL, "max_epochs": 1}
    method = BSSAN(**settings, n_components=4).fit(train)
    assert method.n_inputs_["image"] == {"map": 4, "objects": 4}
    for channel in ("map", "objects"):
        part = train["image"][channel]
        vectors = np.concatenate([np.asarray(row) for row in part])
        pca = PCA(4).fit(vectors)
        of_test = np.concatenate([np.asarray(row) for row in test["image"][channel]])
        found = method._features(test["image"], "image")[channel]
        found = np.concatenate([np.asarray(row) for row in found])
        # Signs of components are arbitrary; one factor makes the mean variance 1.
        expected = pca.transform(of_test) / np.sqrt(pca.explained_variance_.mean())
        np.testing.assert_allclose(np.abs(found), np.abs(expected), rtol=1e-3, atol=1e-4)
    narrow = {"map": test["image"]["map"][..., :9], "objects": test["image"]["objects"]}
    with pytest.raises(ValueError, match="'map' has 9 features, but BSSAN is expecting 10"):
        method.similarity(narrow, test["text"])
    plain = BSSAN(**settings, n_components=4, standardize=False).fit(train)
    scale = plain.map_components_ / method.map_components_
    np.testing.assert_allclose(scale, scale[0, 0], rtol=1e-4)
    assert not any(isinstance(part, Standardize) for part in plain.net_.module_.modules())
    # As many components as features change nothing.
    assert not hasattr(BSSAN(**settings, n_components=50).fit(train), "map_components_")


def test_a_bundle_keeps_the_components(planted, tmp_path):
    method = BSSAN(**{**SMALL, "max_epochs": 1}, n_components=4).fit(planted[0])
    crossfit.save(method, tmp_path / "bssan")
    read = crossfit.load(tmp_path / "bssan")
    np.testing.assert_array_equal(read.similarity(planted[1]), method.similarity(planted[1]))


def test_a_bundle_of_0_1_is_neither_standardised_nor_projected(planted, tmp_path, monkeypatch):
    settings = {**SMALL, "max_epochs": 1, "standardize": False, "dropout": 0.0}
    method = BSSAN(**settings, n_components=None).fit(planted[0])
    new = ("n_components", "standardize", "dropout", "mining", "k_negatives", "bidirectional",
           "w2r_group_size", "o2w_group_size", "lr_decay")  # fmt: skip
    given = method.get_params
    monkeypatch.setattr(method, "get_params", lambda deep=True: {
        name: value for name, value in given(deep).items() if name not in new})  # fmt: skip
    crossfit.save(method, tmp_path / "bssan")
    read = crossfit.load(tmp_path / "bssan")
    assert read.standardize is False and read.dropout == 0
    np.testing.assert_array_equal(read.similarity(planted[1]), method.similarity(planted[1]))


def test_everything_is_standardised(fitted, planted):
    scaling = fitted.net_.module_.scaling
    assert set(scaling) == {"text", "map", "objects"}
    image, text = planted[0]["image"], planted[0]["text"]
    for name, part in (("text", text), ("map", image["map"]), ("objects", image["objects"])):
        rows = np.concatenate([np.asarray(row) for row in part])
        np.testing.assert_allclose(scaling[name].mean, rows.mean(axis=0), atol=1e-4)
        np.testing.assert_allclose(scaling[name].scale, rows.std(axis=0), rtol=1e-3)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_channels_of_integers_are_numbers(planted, dtype):
    views = planted[0]
    objects = views["image"]["objects"]
    values = objects.values if isinstance(objects, Ragged) else objects
    whole = np.abs(10 * values).astype(dtype)
    image = {
        "map": np.abs(10 * views["image"]["map"]).astype(dtype),
        "objects": Ragged(whole, objects.offsets) if isinstance(objects, Ragged) else whole,
    }
    counts = views.replace(image=image)
    floats = {
        name: Ragged(part.values.astype(np.float32), part.offsets)
        if isinstance(part, Ragged)
        else part.astype(np.float32)
        for name, part in image.items()
    }
    plain = views.replace(image=floats)
    settings = {**SMALL, "max_epochs": 1}
    found = BSSAN(**settings).fit(counts).similarity(counts[:9])
    np.testing.assert_array_equal(found, BSSAN(**settings).fit(plain).similarity(plain[:9]))


def test_memory_is_that_of_the_network_that_was_fitted(planted):
    train, test = planted[0], planted[1][:24]
    wide = BSSAN(**{**SMALL, "max_epochs": 1, "branches": ("w2r",), "module__lstm_width": 96})
    wide.fit(train).set_params(score_memory=2**20)
    P, Q = (wide._prepare(test[name], name) for name in ("image", "text"))
    scores = np.empty((len(P), len(Q)), np.float32)
    with PeakBytes(P.parts, Q.parts) as counter:
        wide._fill(P, Q, scores, None)
    assert 2**18 < counter.peak <= 2**20


def test_words_that_are_not_read_cost_nothing(monkeypatch):
    views, _ = make_inputs(np.random.default_rng(0), 40)
    rows = [views["text"][i] for i in range(40)]
    rows[3] = np.concatenate([rows[3], np.ones((3000, rows[3].shape[1]))])
    long = views.replace(text=Ragged.from_list(rows))
    cut = views.replace(text=Ragged.from_list([row[:5] for row in rows]))
    seen = []
    read = BSSANNetwork.text

    def watched(self, items):
        seen.append(items.values.shape[1])
        return read(self, items)

    monkeypatch.setattr(BSSANNetwork, "text", watched)
    method = BSSAN(**{**SMALL, "max_epochs": 1, "max_words": 5})
    found = clone(method).fit(long).similarity(long)
    assert max(seen) == 5
    np.testing.assert_array_equal(found, clone(method).fit(cut).similarity(cut))
