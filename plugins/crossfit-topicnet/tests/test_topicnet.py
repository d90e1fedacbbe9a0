"""TextTopicNet and SSVR against their equations, the topic model, and their rulings."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import psutil
import pytest
import scipy.sparse as sp
import torch
from scipy.special import expit, log_softmax
from scipy.stats import entropy
from sklearn.base import clone
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback
from torch.nn import functional as F

import crossfit
from crossfit import Views
from crossfit.datasets import load
from crossfit.extraction import LdaTopics
from crossfit.neural import Batch, Checkpoint
from crossfit.views import Channels
from crossfit_topicnet.estimator import SSVR, TextTopicNet, topic_loss
from crossfit_topicnet.network import CaffeNet, TopicNetwork, stored_edge
from crossfit_topicnet.testing import make_two_texts

SMALL = {"hidden": (32,), "dropout": 0.1, "lr": 0.03, "batch_size": 16, "max_epochs": 15,
         "device": "cpu", "random_state": 0}  # fmt: skip


@pytest.fixture(autouse=True)
def _leave_torch_as_it_was():
    with torch.random.fork_rng():
        yield


@pytest.fixture(scope="module")
def planted():
    views, _ = make_two_texts(np.random.default_rng(0), 120)
    return views[:80], views[80:]


@pytest.fixture(scope="module")
def fitted(planted):
    return SSVR(**SMALL).fit(planted[0])


def _weights(method):
    return torch.cat([w.flatten() for w in method.net_.module_.state_dict().values()])


# ---- the loss ----------------------------------------------------------------------------------


def _drawn(n=6, k=5, seed=0):
    rng = np.random.default_rng(seed)
    topics = rng.dirichlet(np.full(k, 0.3), n)
    topics[topics < 0.01] = 0
    return torch.tensor(rng.normal(size=(n, k)), requires_grad=True), torch.tensor(topics)


def test_the_sigmoid_loss_is_torchs_and_the_closed_form():
    z, t = _drawn()
    found = topic_loss(z, t)
    torch.testing.assert_close(
        found, F.binary_cross_entropy_with_logits(z, t, reduction="sum") / len(z)
    )
    p, t_ = expit(z.detach().numpy()), t.numpy()
    by_hand = -(t_ * np.log(p) + (1 - t_) * np.log(1 - p)).sum(axis=1).mean()
    assert found.item() == pytest.approx(by_hand)


def test_the_softmax_loss_is_the_cross_entropy_of_distributions():
    z, t = _drawn()
    shares = t.numpy() / t.numpy().sum(axis=1, keepdims=True)
    expected = -(shares * log_softmax(z.detach().numpy(), axis=1)).sum(axis=1).mean()
    assert topic_loss(z, t, "softmax").item() == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["sigmoid", "softmax"])
def test_the_losses_have_the_right_gradient(kind):
    z, t = _drawn()
    t[2] = 0
    assert torch.autograd.gradcheck(lambda logits: topic_loss(logits, t, kind), z)


def test_the_minimum_of_the_sigmoid_loss_is_the_topic_vector():
    z, t = _drawn()
    best = torch.logit(t.clamp(1e-9, 1 - 1e-9)).requires_grad_()
    topic_loss(best, t).backward()
    assert best.grad.abs().max() < 1e-6
    optimizer = torch.optim.LBFGS([z], max_iter=500, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = topic_loss(z, t)
        loss.backward()
        return loss

    optimizer.step(closure)
    torch.testing.assert_close(z.sigmoid(), t, atol=2e-3, rtol=0)
    assert topic_loss(z, t) >= topic_loss(best, t) - 1e-7


def test_a_row_without_a_text_counts_in_no_mean():
    z, t = _drawn()
    missing = t.clone()
    missing[[1, 4]] = 0
    kept = [0, 2, 3, 5]
    for kind in ("sigmoid", "softmax"):
        found = topic_loss(z, missing, kind)
        torch.testing.assert_close(found, topic_loss(z[kept], t[kept], kind))
        (gradient,) = torch.autograd.grad(found, z)
        assert not gradient[[1, 4]].any() and gradient[kept].any(dim=1).all()
        assert topic_loss(z, torch.zeros_like(t), kind) == 0


def test_equal_targets_make_two_heads_twice_one():
    z, t = _drawn()
    outputs = {"logits": {"article": z, "caption": z}, "topics": {"article": t, "caption": t}}
    terms = SSVR()._loss(outputs, Batch({}, {}, torch.arange(6), None))
    torch.testing.assert_close(sum(terms.values()), 2 * topic_loss(z, t))


# ---- the network -------------------------------------------------------------------------------


def _network(**settings):
    torch.manual_seed(0)
    return TopicNetwork(7, {"article": 5, "caption": 5}, **{"hidden": (6, 4), "dropout": 0.5,
                                                            **settings}).eval()  # fmt: skip


def test_the_network_over_vectors_is_its_layers():
    network, x = _network(), torch.randn(3, 7)
    state = {name: w.numpy() for name, w in network.state_dict().items()}

    def dense(v, name):
        return v @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    fc6 = np.maximum(dense(x.numpy(), "hidden.fc6"), 0)
    fc7 = np.maximum(dense(fc6, "hidden.fc7"), 0)
    with torch.no_grad():
        np.testing.assert_allclose(network.layer(x, "fc6"), fc6, rtol=1e-5)
        np.testing.assert_allclose(network.layer(x, "fc7"), fc7, rtol=1e-5)
        for head, logits in network(x).items():
            np.testing.assert_allclose(logits, dense(fc7, f"heads.{head}"), rtol=1e-4, atol=1e-6)
            p = expit(dense(fc7, f"heads.{head}"))
            np.testing.assert_allclose(
                network.distribution(logits), p / p.sum(axis=1, keepdims=True), rtol=1e-5
            )
    assert network.layers == ("fc6", "fc7")


def test_outputs_stay_distributions_where_every_sigmoid_is_zero():
    network = _network()
    for loss in ("sigmoid", "softmax"):
        network.loss = loss
        found = network.distribution(torch.tensor([[-1e4, -2e4, -1e4], [1e4, -1e4, 1e4]]))
        torch.testing.assert_close(found, torch.tensor([[0.5, 0, 0.5]] * 2))


def test_two_heads_share_the_trunk_and_nothing_else(planted):
    method = SSVR(**{**SMALL, "max_epochs": 1}).fit(planted[0])
    module = method.net_.module_.eval()
    data = method._data(
        planted[0].map(method._features), None, torch.device("cpu")
    ).batch(torch.arange(80))  # fmt: skip
    moved = {}
    for head in ("article", "caption"):
        module.zero_grad()
        method._loss(method._outputs(module, data), data)[head].backward()
        moved[head] = {n for n, p in module.named_parameters() if p.grad is not None}
    trunk = {"hidden.fc6.weight", "hidden.fc6.bias"}
    for head, names in moved.items():
        assert names == trunk | {f"heads.{head}.weight", f"heads.{head}.bias"}


def test_caffenet_is_caffenet():
    with torch.device("meta"):
        network = TopicNetwork(3, {"article": 40, "caption": 40}, hidden=(4096, 4096), dropout=0.5,
                               image_size=227)  # fmt: skip
    sizes = {name: p.numel() for name, p in network.named_parameters() if "weight" in name}
    assert sizes == {
        "convolutions.conv1.weight": 96 * 3 * 11 * 11,
        "convolutions.conv2.weight": 256 * 48 * 5 * 5,
        "convolutions.conv3.weight": 384 * 256 * 3 * 3,
        "convolutions.conv4.weight": 384 * 192 * 3 * 3,
        "convolutions.conv5.weight": 256 * 192 * 3 * 3,
        "hidden.fc6.weight": 9216 * 4096,
        "hidden.fc7.weight": 4096 * 4096,
        "heads.article.weight": 4096 * 40,
        "heads.caption.weight": 4096 * 40,
    }
    # The trunk is AlexNet's 60,965,224 parameters without its 1,000 classes.
    trunk = sum(p.numel() for n, p in network.named_parameters() if "heads" not in n)
    assert trunk == 60_965_224 - 4097 * 1000


def test_the_first_weights_are_caffes():
    torch.manual_seed(0)
    network = TopicNetwork(3, {"article": 40}, hidden=(256, 256), dropout=0.5, image_size=67)
    biases = {n.split(".")[-2]: p.unique().tolist()
              for n, p in network.named_parameters() if "bias" in n}  # fmt: skip
    assert biases == {"conv1": [0], "conv2": [1], "conv3": [0], "conv4": [1], "conv5": [1],
                      "fc6": [1], "fc7": [1], "article": [0]}  # fmt: skip
    stds = {
        n.split(".")[-2]: p.std().item() for n, p in network.named_parameters() if "weight" in n
    }
    for name, std in stds.items():
        assert std == pytest.approx(0.005 if name in ("fc6", "fc7") else 0.01, rel=0.1)


def test_kaimings_weights_keep_the_size_of_the_signal():
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (8, 67, 67, 3), dtype=torch.uint8)
    for channels in ((16,) * 5, (64,) * 5):
        network = TopicNetwork(3, {"article": 40}, hidden=(64, 64), dropout=0.5, image_size=67,
                               channels=channels, init="kaiming").eval()  # fmt: skip
        with torch.no_grad():
            for layer in ("pool5", "fc6", "fc7"):
                assert 0.1 < network.layer(pixels, layer).pow(2).mean().sqrt() < 10


def test_caffenets_maps_are_those_of_its_layers_one_by_one():
    torch.manual_seed(0)
    net = CaffeNet(67, (8, 12, 12, 12, 10)).eval()
    pixels = torch.randint(0, 256, (2, 67, 67, 3), dtype=torch.uint8)
    bgr = pixels.numpy().astype(np.float32)[..., ::-1] - np.array(
        [104.007, 116.669, 122.679], np.float32
    )
    x = torch.tensor(bgr.transpose(0, 3, 1, 2).copy())
    norm = torch.nn.LocalResponseNorm(5, 1e-4, 0.75)
    with torch.no_grad():
        x = norm(F.max_pool2d(F.relu(net.conv1(x)), 3, 2))
        x = norm(F.max_pool2d(F.relu(net.conv2(x)), 3, 2))
        x = F.relu(net.conv5(F.relu(net.conv4(F.relu(net.conv3(x))))))
        torch.testing.assert_close(net(pixels), x)
    assert x.shape == (2, 10, 3, 3) and net.n_outputs == 10


def test_pictures_are_resized_to_the_papers_edges(on_raw, raw):
    cut = on_raw._pictures(raw[0]).cut
    assert (cut.resized, cut.edge, stored_edge(227)) == (76, 67, 256)


# ---- training ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sigmoid", "softmax"])
def test_two_hundred_pairs_are_memorised(kind):
    rng = np.random.default_rng(0)
    X, T = rng.normal(size=(200, 64)), rng.dirichlet(np.full(40, 0.1), 200)
    method = TextTopicNet(
        hidden=(256,), dropout=0, loss=kind, lr=0.1, batch_size=50, max_epochs=300,
        weight_decay=0, lr_step=None, device="cpu", random_state=0,
    ).fit(X, T)  # fmt: skip
    found = crossfit.evaluate(method.similarity(X, T), np.eye(200), "r@1", ci=None)
    assert found.mean("forward", "r@1") > 0.97 and found.mean("backward", "r@1") > 0.97


def test_texttopicnet_is_ssvr_with_one_text(planted):
    train, test = planted
    one = Views(image=train["image"], text=train["text"]["article"])
    single = TextTopicNet(**SMALL).fit(one)
    double = SSVR(**SMALL, lr_step=50_000).fit(one)
    assert torch.equal(_weights(single), _weights(double))
    expected = single.similarity(test["image"], test["text"]["article"])
    np.testing.assert_array_equal(
        double.similarity(test["image"], test["text"]["article"]), expected
    )
    # With a second head whose text is missing in all rows but one.
    caption = np.zeros_like(train["text"]["caption"])
    caption[0, 0] = 1
    missing = train.replace(text={"article": train["text"]["article"], "caption": caption})
    almost = SSVR(**{**SMALL, "dropout": 0.0}).fit(missing)
    whole = TextTopicNet(**{**SMALL, "dropout": 0.0}).fit(one)
    found = almost.similarity(test)
    expected = whole.similarity(test["image"], test["text"]["article"])
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.95


def test_both_heads_learn_and_head_says_which_answers(fitted, planted):
    test = planted[1]
    scores = {}
    for head in ("article", "caption", "mean"):
        scores[head] = fitted.set_params(head=head).similarity(test)
        assert fitted.score(test) > 0.6
        alone = fitted.encode(test["image"], "image")
        assert alone.shape == (40, 8)
        np.testing.assert_allclose(alone.sum(axis=1), 1, rtol=1e-5)
    assert np.abs(scores["article"] - scores["caption"]).max() > 0.1
    text = test["text"]
    for head in ("article", "caption"):
        fitted.set_params(head=head)
        plain = fitted.similarity(test["image"], text[head])  # a plain text is what head reads
        np.testing.assert_allclose(plain, scores[head], rtol=1e-5)
        np.testing.assert_allclose(
            fitted.similarity(test["image"], {head: text[head]}), scores[head], rtol=1e-5
        )
    heads = ("article", "caption")
    means = [fitted.set_params(head=head).encode(test["image"], "image") for head in heads]
    fitted.set_params(head="mean")
    np.testing.assert_allclose(
        fitted.encode(test["image"], "image"), np.mean(means, axis=0), rtol=1e-5
    )
    shares = [text[h] / text[h].sum(axis=1, keepdims=True) for h in heads]
    np.testing.assert_allclose(fitted.encode(text, "text"), np.mean(shares, axis=0), atol=1e-6)
    fitted.set_params(head="article")


def test_rows_without_a_caption_teach_the_article_alone(planted):
    train, test = planted
    text = train["text"]
    caption = np.where(np.arange(80)[:, None] % 2, 0, text["caption"])
    method = SSVR(**SMALL).fit(train.replace(text={"article": text["article"], "caption": caption}))
    assert method.score(test) > 0.6
    rows = [row["train_caption"] for row in method.net_.history]
    assert np.isfinite(rows).all() and rows[-1] < rows[0]
    method.set_params(head="mean")
    # If one text is missing, the other is the mean; if both are missing, topics are uniform.
    some = {"article": text["article"][:3].copy(), "caption": text["caption"][:3].copy()}
    some["caption"][0] = 0
    some["article"][2] = some["caption"][2] = 0
    found = method.encode(some, "text")
    np.testing.assert_allclose(found[0], some["article"][0] / some["article"][0].sum(), rtol=1e-5)
    np.testing.assert_allclose(found[2], 1 / 8)
    with pytest.raises(ValueError, match=r"channel 'caption', has no text in any of the 80 rows"):
        SSVR(**SMALL).fit(train.replace(text={"article": text["article"], "caption": 0 * caption}))


def test_the_optimizer_is_the_papers(planted):
    rate = dict(SMALL, lr=1e-3, max_epochs=1)
    group, biases = None, None
    method = SSVR(**rate).fit(planted[0])
    for part in method.net_.optimizer_.param_groups:
        if part["weight_decay"] == 0:
            biases = part
        else:
            group = part
    assert type(method.net_.optimizer_) is torch.optim.SGD
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (1e-3, 0.9, 5e-4)
    assert biases["lr"] == 2e-3 and all(p.ndim == 1 for p in biases["params"])
    assert len(group["params"]) == len(biases["params"]) == 3
    SSVR(**{**rate, "optimizer": "Adam"}).fit(planted[0])
    SSVR(**{**rate, "optimizer__nesterov": True}).fit(planted[0])


DEFAULTS = {"device": "cpu", "random_state": 0, "verbose": 0}


def test_the_defaults_learn_vectors_of_any_scale():
    views, _ = make_two_texts(np.random.default_rng(0), 400)
    train, test = views[:300], views[300:]
    for scale in (1e-3, 1e3):
        method = SSVR(**DEFAULTS).fit(train.replace(image=scale * train["image"] + 5 * scale))
        for head in ("article", "caption"):
            method.set_params(head=head)
            shown = test.replace(image=scale * test["image"] + 5 * scale)
            # The mean reciprocal rank of a random order of 100 is .052.
            assert method.score(shown) > 0.4
    wrong = test.replace(image=np.random.default_rng(1).permutation(shown["image"]))
    assert method.score(wrong) < 0.1


def test_the_defaults_learn_pictures():
    rng = np.random.default_rng(0)
    y = np.arange(128) % 3
    colours = np.array([(220, 30, 30), (30, 200, 40), (20, 40, 230)])[y][:, None, None]
    noisy = colours + rng.normal(0, 20, (128, 40, 30, 3))
    pictures, topics = np.clip(noisy, 0, 255).astype(np.uint8), 0.9 * np.eye(3)[y] + 0.03
    for seed in (0, 1):
        method = TextTopicNet(**DEFAULTS | {"random_state": seed}, image_size=67,
                              module__channels=(16,) * 5)  # fmt: skip
        method.fit(pictures[:96], topics[:96])
        assert method.score(pictures[96:], topics[96:], y[96:]) > 0.9


@pytest.mark.data
def test_the_defaults_beat_chance_on_wikipedia():
    if not os.environ.get("CROSSFIT_DATA"):
        pytest.skip("CROSSFIT_DATA does not name a folder with the real data sets")
    ds = load("wikipedia")
    test = ds["test"]
    method = TextTopicNet(**DEFAULTS).fit(ds["train"].views)

    def quality(views):
        scores = method.similarity(views)
        found = crossfit.evaluate(scores, (test.y, test.y), "map@all", ci=None)
        return np.array([found.mean(way, "map@all") for way in ("forward", "backward")])

    chance = quality(test.views.replace(image=np.random.default_rng(0).permutation(
        test.views["image"])))  # fmt: skip
    assert (chance < 0.14).all() and (quality(test.views) > chance + 0.05).all()


def test_standardised_vectors_are_scaled_by_the_training_images(planted):
    train, test = planted
    short = SMALL | {"max_epochs": 3, "validation_fraction": 0.25}
    method = SSVR(**short)
    rows = method._split(train, method._seed())[0]
    scaler = StandardScaler().fit(train["image"][rows])
    by_hand, other = (v.replace(image=scaler.transform(v["image"])) for v in (train, test))
    expected = SSVR(**short, standardize=False).fit(by_hand).similarity(other)
    np.testing.assert_allclose(method.fit(train).similarity(test), expected, rtol=1e-3, atol=1e-4)


def test_weights_of_a_version_that_did_not_standardise_are_read(planted):
    old = _network()
    network = _network(standardize=True)
    network.scaling.mean.fill_(3)
    new = _network(standardize=True)
    new.load_state_dict(network.state_dict())
    assert (new.scaling.mean == 3).all()
    new = _network(standardize=True)
    new.load_state_dict(old.state_dict())
    x = torch.randn(3, 7)
    with torch.no_grad():
        torch.testing.assert_close(new(x), old(x))


def test_biases_learn_with_a_multiple_of_whatever_rate_there_is(planted):
    method = SSVR(**{**SMALL, "max_epochs": 1, "optimizer__lr": 0.004, "bias_lr": 3.0})
    rates = {group["lr"] for group in method.fit(planted[0]).net_.optimizer_.param_groups}
    assert sorted(rates) == pytest.approx([0.004, 0.012])


@pytest.mark.parametrize("params", [
    {"hidden": (-3,)}, {"hidden": (8.0,)}, {"hidden": (0,)}, {"module__channels": (8, 8, 8, 8)},
    {"module__channels": (8, 8, 7, 8, 8)}, {"module__channels": (8, 8, 8.0, 8, 8)},
    {"module__channels": 8},
])  # fmt: skip
def test_widths_that_no_network_has_are_refused(planted, params):
    name = next(iter(params))
    with pytest.raises(ValueError, match=f"SSVR: {name} must be .*integers of at least"):
        SSVR(**{**SMALL, **params}).fit(planted[0])


class _Rates(Callback):
    def __init__(self):
        self.heard = []

    def on_batch_begin(self, net, batch=None, training=False, **kwargs):
        self.heard.append([group["lr"] for group in net.optimizer_.param_groups])


def test_the_learning_rate_falls_after_so_many_batches(planted):
    rates = _Rates()
    callbacks = [rates]
    method = SSVR(**{**SMALL, "max_epochs": 2}, lr_step=4, lr_gamma=0.1, callbacks=callbacks)
    method.fit(planted[0])
    (heard,) = [cb.heard for _, cb in method.net_.callbacks_ if isinstance(cb, _Rates)]
    expected = [[0.03 * f * 0.1 ** (i // 4) for f in (2, 1)] for i in range(10)]
    np.testing.assert_allclose(np.sort(heard), np.sort(expected))
    assert method.callbacks is callbacks
    assert "lr_step" not in dict(SSVR(**SMALL | {"lr_step": None}).fit(planted[0]).net_.callbacks_)


class _Dies(Callback):
    def __init__(self, epoch, error=InterruptedError):
        self.epoch, self.error = epoch, error

    def on_batch_end(self, net, batch=None, training=False, **kwargs):
        if net.history[-1]["epoch"] == self.epoch and len(net.history[-1]["batches"]) == 2:
            raise self.error


def test_a_killed_fit_goes_on_with_its_schedule(planted, tmp_path):
    settings = {**SMALL, "max_epochs": 6, "lr_step": 12, "lr_gamma": 0.3}
    through = SSVR(**settings).fit(planted[0])
    checkpoint = Checkpoint(tmp_path / "fit.pt")
    for epoch in (3, 5):
        with pytest.raises(InterruptedError):
            SSVR(**settings, callbacks=[checkpoint, _Dies(epoch)]).fit(planted[0])
    resumed = SSVR(**settings, callbacks=[checkpoint]).fit(planted[0])
    assert torch.equal(_weights(resumed), _weights(through))


def test_fits_repeat_bit_for_bit(fitted, planted):
    again = clone(fitted).fit(planted[0])
    assert torch.equal(_weights(again), _weights(fitted))


# ---- similarities ------------------------------------------------------------------------------


def test_the_similarity_is_minus_kl_of_text_to_image(fitted, planted):
    test = planted[1]
    scores = fitted.similarity(test)
    P, Q = fitted.encode(test["image"], "image"), fitted.encode(test["text"], "text")
    expected = -np.array([[entropy(q, p + 1e-12) for q in Q.astype(float)] for p in P])
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)
    assert (scores <= 1e-6).all()
    np.testing.assert_array_equal(fitted.similarity(test, query="text", gallery="image"), scores.T)
    equal = fitted.set_params(measure="cosine").similarity(test)
    norms = np.outer(np.linalg.norm(P, axis=1), np.linalg.norm(Q, axis=1))
    np.testing.assert_allclose(equal, P @ Q.T / norms, rtol=1e-4)
    fitted.set_params(measure="kl_reversed")


def test_topics_of_zero_give_no_infinity(fitted, planted):
    images = planted[1]["image"]
    texts = np.vstack([np.eye(8), np.zeros((1, 8)), np.full((1, 8), 1 / 8)])
    scores = fitted.similarity(images, texts)
    assert np.isfinite(scores).all()
    np.testing.assert_array_equal(scores[:, 8], scores[:, 9])
    extreme = fitted.similarity(1e6 * images, texts)
    assert np.isfinite(extreme).all()


def test_an_item_does_not_depend_on_its_batch(fitted, planted):
    test = planted[1]
    expected = fitted.encode(test["image"], "image")
    alone = np.vstack([fitted.encode(test["image"][[i]], "image") for i in range(40)])
    np.testing.assert_allclose(alone, expected, rtol=1e-5)


def test_topic_vectors_are_scaled_checked_and_may_be_sparse(planted):
    train, test = planted
    T = train["text"]["article"]
    X = train["image"]
    method = TextTopicNet(**SMALL).fit(X, T)
    counts = TextTopicNet(**SMALL).fit(X, T / T.sum(axis=1, keepdims=True) * 30)
    np.testing.assert_allclose(
        counts.encode(30 * test["text"]["article"], "text"),
        method.encode(test["text"]["article"], "text"), rtol=1e-5,
    )  # fmt: skip
    sparse = TextTopicNet(**SMALL).fit(sp.csr_array(X), sp.csr_array(T))
    np.testing.assert_allclose(sparse.similarity(X, T), method.similarity(X, T), rtol=1e-4)
    with pytest.raises(ValueError, match="'text', which holds topic vectors: expected shares"):
        TextTopicNet(**SMALL).fit(X, T - 0.1)
    with pytest.raises(ValueError, match=r"'text'.*8 features"):
        method.encode(T[:, :7], "text")


def test_ssvr_says_which_texts_it_wants(fitted, planted):
    train, test = planted
    text = train["text"]
    with pytest.raises(ValueError, match="channels article and caption, got article, title"):
        SSVR(**SMALL).fit(train["image"], {"article": text["article"], "title": text["caption"]})
    with pytest.raises(ValueError, match="head='caption' needs the channels article and caption"):
        SSVR(**SMALL, head="caption").fit(train["image"], text["article"])
    with pytest.raises(ValueError, match="head='article' needs the channel article"):
        fitted.encode({"caption": test["text"]["caption"]}, "text")
    with pytest.raises(ValueError, match="'text' has 5 topics, but SSVR was fitted on 8"):
        fitted.encode(np.ones((2, 5)), "text")
    with pytest.raises(ValueError, match="must both be strings or both be topic vectors"):
        SSVR(**SMALL).fit(train["image"], {"article": text["article"], "caption": ["a"] * 80})
    with pytest.raises(ValueError, match="the same number of topics, got 8 and 7"):
        SSVR(**SMALL).fit(
            train["image"], {"article": text["article"], "caption": text["caption"][:, :7]}
        )
    mixed = np.array(["a", None, 3.0, float("nan")] * 20, object)
    with pytest.raises(ValueError, match=r"'caption',? must (be|hold) strings"):
        SSVR(**SMALL).fit(train["image"], {"article": mixed[[0] * 80], "caption": mixed})
    one = SSVR(**{**SMALL, "max_epochs": 1}).fit(train["image"], text["article"])
    with pytest.raises(ValueError, match="heads article and their mean, got head='caption'"):
        one.set_params(head="caption").similarity(test["image"], text["article"])
    with pytest.raises(ValueError, match=r"must be .* got channels"):
        TextTopicNet(**SMALL).fit(train["image"], text)
    with pytest.raises(ValueError, match="head"):
        SSVR(**SMALL, head="both").fit(train)


def test_layers_are_features(fitted, planted):
    images = planted[1]["image"]
    fc6 = fitted.visual_features(images, layer="fc6")
    assert fc6.shape == (40, 32) and fc6.dtype == np.float32 and (fc6 >= 0).all()
    state = {name: w.numpy() for name, w in fitted.net_.module_.state_dict().items()}
    mean, scale = (
        next(w for key, w in state.items() if key.endswith(end)) for end in (".mean", ".scale")
    )
    by_hand = (images - mean) / scale @ state["hidden.fc6.weight"].T + state["hidden.fc6.bias"]
    np.testing.assert_allclose(fc6, np.maximum(by_hand, 0), rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match="layer must be one of fc6, got 'pool5'"):
        fitted.visual_features(images, layer="pool5")
    with pytest.raises(ValueError, match="has no words"):
        fitted.topic_words()


# ---- strings -----------------------------------------------------------------------------------

THEMES = {
    "red": "war army battle soldier general empire",
    "green": "tree leaf forest plant river mountain",
    "blue": "song album band guitar singer concert",
}
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (20, 40, 230)}


@pytest.fixture(scope="module")
def raw():
    rng = np.random.default_rng(0)
    names = [list(THEMES)[i % 3] for i in range(36)]
    pictures = np.array([COLOURS[name] for name in names])[:, None, None]
    pictures = np.clip(pictures + rng.normal(0, 20, (36, 40, 30, 3)), 0, 255).astype(np.uint8)

    def text(name, n):
        return " ".join(rng.choice(THEMES[name].split(), n))

    texts = {
        "article": np.array([text(name, 30) for name in names], object),
        "caption": np.array([text(name, 4) for name in names], object),
    }
    return pictures, texts, np.array(names)


RAW = {"hidden": (32,), "dropout": 0.0, "lr": 0.01, "batch_size": 12, "max_epochs": 6,
       "n_topics": 3, "passes": 8, "minimum_probability": 0.05, "no_below": 2, "no_above": 0.9,
       "image_size": 67, "module__channels": (16, 16, 16, 16, 16), "init": "kaiming",
       "device": "cpu", "random_state": 2}  # fmt: skip  # a seed whose topics are the themes


@pytest.fixture(scope="module")
def on_raw(raw):
    pictures, texts, _ = raw
    return SSVR(**RAW).fit(pictures, texts)


def test_pictures_and_strings_are_a_whole_program(on_raw, raw, tmp_path):
    from PIL import Image

    pictures, texts, names = raw
    for head in ("article", "caption", "mean"):
        assert on_raw.set_params(head=head).score(pictures, texts, names) > 0.9
    on_raw.set_params(head="article")
    assert on_raw.score(pictures, texts["article"], names) > 0.9
    words = [set(row) for row in on_raw.topic_words(6)]
    for theme in THEMES.values():
        assert set(theme.split()) in words
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path, picture in zip(paths, pictures):
        Image.fromarray(picture).save(path)
    expected = on_raw.encode(pictures[:3], "image")
    np.testing.assert_allclose(on_raw.encode(paths, "image"), expected, atol=1e-6)
    given = [Image.open(path) for path in paths]
    np.testing.assert_allclose(on_raw.encode(given, "image"), expected, atol=1e-6)
    widths = {layer: on_raw.visual_features(pictures[:2], layer=layer).shape[1]
              for layer in ("max5", "pool5", "fc6")}  # fmt: skip
    assert widths == {"max5": 16, "pool5": 16, "fc6": 32}


@pytest.fixture(scope="module")
def files(raw, tmp_path_factory):
    from PIL import Image

    folder = tmp_path_factory.mktemp("files")
    paths = [str(folder / f"{i}.png") for i in range(len(raw[0]))]
    for path, picture in zip(paths, raw[0]):
        Image.fromarray(picture).save(path)
    return paths


STREAM = RAW | {"max_epochs": 4, "dropout": 0.2, "validation_fraction": 0.2, "picture_memory": 0}


@pytest.fixture(scope="module")
def in_memory(raw):
    return SSVR(**STREAM).fit(*raw[:2])


@pytest.mark.parametrize("settings", [{"num_workers": 0}, {"num_workers": 2},
                                      {"num_workers": 1, "picture_memory": 2**30}])  # fmt: skip
def test_pictures_read_batch_by_batch_train_as_arrays_do(in_memory, raw, files, settings):
    found = SSVR(**STREAM | settings).fit(files, raw[1])
    assert torch.equal(_weights(found), _weights(in_memory))
    assert found.net_.history[:, "valid_loss"] == in_memory.net_.history[:, "valid_loss"]
    np.testing.assert_array_equal(found.encode(files, "image"), in_memory.encode(raw[0], "image"))


def test_a_fit_interrupted_while_it_reads_goes_on_with_the_same_squares(
    in_memory, raw, files, tmp_path
):
    method = SSVR(**STREAM, num_workers=2)
    checkpoint = Checkpoint(tmp_path / "run.pt")
    children = psutil.Process().children()
    for epoch in (2, 3):
        killed = clone(method).set_params(callbacks=[checkpoint, _Dies(epoch, KeyboardInterrupt)])
        with pytest.raises(KeyboardInterrupt):
            killed.fit(files, raw[1])
        assert psutil.Process().children() == children
    resumed = clone(method).set_params(callbacks=[checkpoint], num_workers=0).fit(files, raw[1])
    assert len(resumed.net_.history) == 4
    assert torch.equal(_weights(resumed), _weights(in_memory))


def test_a_damaged_picture_ends_a_fit_with_its_name(raw, files, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(Path(files[0]).read_bytes()[:-2000])
    given = [*files[:-1], str(broken)]
    children = psutil.Process().children()
    for settings in ({"num_workers": 2}, {"num_workers": 0}, {"picture_memory": 2**30}):
        method = SSVR(**STREAM | {"validation_fraction": None} | settings)
        with pytest.raises(ValueError, match=r"^SSVR: view 'image': cannot read the .*broken.png'"):
            method.fit(given, raw[1])
    assert psutil.Process().children() == children


def test_a_missing_picture_is_reported_before_the_topic_model_is_fitted(raw, files, monkeypatch):
    monkeypatch.setattr(LdaTopics, "fit", None)
    with pytest.raises(FileNotFoundError, match=r"^SSVR: view 'image': there is no .*'gone.png'"):
        SSVR(**RAW).fit([*files[:-1], "gone.png"], raw[1])


def test_texts_become_the_topics_of_the_extractor(on_raw, raw):
    _, texts, _ = raw
    seed = int(np.random.RandomState(2).randint(2**31 - 1))  # numbers drawn by the method
    lda = LdaTopics(3, 8, 0.05, 2, 0.9, random_state=seed).fit(list(texts["article"]))
    for name in ("article", "caption"):
        topics = lda.transform(list(texts[name]))
        np.testing.assert_array_equal(on_raw._topics(texts[name], "text"), topics)
        on_raw.set_params(head=name)
        np.testing.assert_allclose(
            on_raw.encode(texts, "text"), topics / topics.sum(axis=1, keepdims=True), rtol=1e-5
        )
    on_raw.set_params(head="article")
    topics = on_raw._topics(texts["article"], "text")
    assert (topics == 0).any() and not ((topics > 0) & (topics < 0.05)).any()


@pytest.mark.filterwarnings("ignore:.*no word of the vocabulary")
def test_topics_are_the_same_in_any_company_and_of_nothing_uniform(on_raw, raw):
    texts = list(raw[1]["caption"])
    expected = on_raw.encode(texts, "text")
    np.testing.assert_array_equal(on_raw.encode(texts, "text"), expected)
    np.testing.assert_array_equal(on_raw.encode(texts[::-1], "text")[::-1], expected)
    np.testing.assert_array_equal(on_raw.encode(texts[4:5], "text"), expected[4:5])
    odd = on_raw.encode(["", "zebra xylophone", "  ", texts[4]], "text")
    np.testing.assert_allclose(odd[:3], 1 / 3, rtol=1e-6)
    np.testing.assert_array_equal(odd[3], expected[4])
    # A text of one unknown word has the prior as its topics; an empty text is missing.
    assert on_raw._topics(np.array(["", "zebra"], object), "").sum(axis=1).tolist() == [
        0.0, pytest.approx(1),
    ]  # fmt: skip


def test_the_order_of_the_channels_does_not_matter_and_none_is_no_text(raw):
    pictures, texts, _ = raw
    captions = texts["caption"].copy()
    captions[:6] = [None, float("nan"), "", " ", None, ""]
    short = RAW | {"max_epochs": 1}
    one = SSVR(**short).fit(pictures, {"article": texts["article"], "caption": captions})
    other = SSVR(**short).fit(pictures, {"caption": captions, "article": texts["article"]})
    for name, weights in one.net_.module_.state_dict().items():
        assert torch.equal(weights, other.net_.module_.state_dict()[name])
    assert one.vocabulary_ == other.vocabulary_
    assert not one._topics(captions, "text")[:6].any()


def test_an_article_counts_once_and_test_texts_not_at_all(raw):
    pictures, texts, _ = raw
    short = RAW | {"max_epochs": 1}
    twice = np.concatenate([pictures, pictures[:6]])
    more = {name: np.concatenate([part, part[:6]]) for name, part in texts.items()}
    one, other = (SSVR(**short).fit(*pair) for pair in ((pictures, texts), (twice, more)))
    np.testing.assert_array_equal(one.word_counts_, other.word_counts_)
    before = one.encode(texts, "text")
    one.similarity(pictures[:3], ["army army army zebra"] * 3)
    np.testing.assert_array_equal(one.encode(texts, "text"), before)
    # Held-out rows do not influence the topics.
    spoiled = {name: part.copy() for name, part in texts.items()}
    held = SSVR(**short, validation_fraction=0.3)
    rows = held._split(Views(image=pictures), held._seed())[1]
    spoiled["article"][rows] = "zebra zebra xylophone xylophone"
    a, b = (clone(held).fit(pictures, part) for part in (texts, spoiled))
    assert a.vocabulary_ == b.vocabulary_
    np.testing.assert_array_equal(a.word_counts_, b.word_counts_)


def test_bundles_keep_the_topic_model_and_unpickle_nothing(on_raw, raw, tmp_path, monkeypatch):
    pictures, texts, _ = raw
    expected = on_raw.similarity(pictures, texts)
    crossfit.save(on_raw, tmp_path / "ssvr")

    def refuse(*args, **kwargs):
        raise AssertionError("something was unpickled")

    for owner, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"),
                        (torch, "load")):  # fmt: skip
        monkeypatch.setattr(owner, name, refuse)
    read = crossfit.load(tmp_path / "ssvr")
    np.testing.assert_array_equal(read.similarity(pictures, texts), expected)
    assert read.vocabulary_ == on_raw.vocabulary_ and read.topic_words(3) == on_raw.topic_words(3)
    manifest = json.loads((tmp_path / "ssvr" / "manifest.json").read_text())
    assert "gensim" not in json.dumps(manifest)


def test_a_pickle_answers_alike(on_raw, raw):
    pictures, texts, _ = raw
    read = pickle.loads(pickle.dumps(on_raw))
    np.testing.assert_array_equal(
        read.similarity(pictures, texts), on_raw.similarity(pictures, texts)
    )


def test_what_was_fitted_on_raw_items_refuses_features_and_the_reverse(on_raw, raw, fitted):
    pictures, texts, _ = raw
    with pytest.raises(ValueError, match="'image' was fitted on pictures, got vectors"):
        on_raw.encode(np.zeros((2, 12)), "image")
    with pytest.raises(ValueError, match="'text' was fitted on strings, got topic vectors"):
        on_raw.encode(np.ones((2, 3)), "text")
    with pytest.raises(ValueError, match="'image' was fitted on vectors, got pictures"):
        fitted.encode(pictures, "image")
    with pytest.raises(ValueError, match="'text', channel 'article', was fitted on topic vectors"):
        fitted._features(Channels(texts), "text")


def test_weights_come_from_a_file(raw, tmp_path):
    pictures, texts, _ = raw
    settings = RAW | {"max_epochs": 1, "lr": 1e-9}
    first = SSVR(**settings).fit(pictures, texts)
    state = first.net_.module_.state_dict()
    held = {name.partition(".")[2]: w for name, w in state.items() if "heads" not in name}
    assert {"conv1.weight", "conv5.bias", "fc6.weight"} <= set(held)
    path = tmp_path / "trunk.pt"
    torch.save(held, path)
    second = SSVR(**settings | {"random_state": 5}, trunk_weights=path).fit(pictures, texts)
    for name, w in second.net_.module_.state_dict().items():
        same = torch.allclose(w, state[name], atol=1e-6)
        assert same or "heads" in name
    crossfit.save(second, tmp_path / "bundle")
    path.unlink()  # a bundle contains its own
    read = crossfit.load(tmp_path / "bundle")
    np.testing.assert_array_equal(
        read.visual_features(pictures, layer="fc6"), second.visual_features(pictures, layer="fc6")
    )
    with pytest.raises(FileNotFoundError, match="trunk_weights must be a file"):
        clone(second).fit(pictures, texts)
    torch.save({"conv1.weight": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="belong to another network"):
        clone(second).fit(pictures, texts)


@pytest.mark.slow
def test_a_batch_of_the_published_size_trains(raw):
    pictures, texts, _ = raw
    published = {"hidden": (4096, 4096), "init": "caffe", "lr": 1e-3, "n_topics": 40}
    method = SSVR(**published, no_below=2, no_above=0.9, batch_size=8, max_epochs=1, device="cpu",
                  random_state=1)  # fmt: skip
    method.fit(pictures[:8], {name: part[:8] for name, part in texts.items()})
    loss = method.net_.history[-1]["train_loss"]
    assert 2 * 40 * np.log(2) * 0.8 < loss < 2 * 40 * np.log(2) * 1.2  # logits start near 0
    widths = [method.visual_features(pictures[:1], layer=layer).shape[1]
              for layer in ("max5", "pool5", "fc6", "fc7")]  # fmt: skip
    assert widths == [256, 9216, 4096, 4096]
    assert method.encode(pictures[:2], "image").shape == (2, 40)
