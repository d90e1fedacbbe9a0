"""Dual-path against its losses by hand and convolutions of torch, and in both stages."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch.callbacks import Callback
from torch import nn
from torch.nn import functional as F

import crossfit
from crossfit import Ragged, Views, datasets, evaluate, registry
from crossfit.experiment import Experiment
from crossfit.experiment.build import build_method
from crossfit.neural import Batch, Checkpoint, Items
from crossfit_ranking.dual_path import DualPath, Layout, WordResNet
from crossfit_ranking.testing import make_inputs

EXPERIMENT = Path(__file__).parents[1] / "experiments" / "zheng-2017-dual-path-flickr30k.yaml"
SMALL = {"width": 8, "hidden": 16, "channels": (12, 16), "blocks": (1, 2), "word_width": 10,
         "min_count": 1, "batch_size": 20, "device": "cpu", "random_state": 0}  # fmt: skip


@pytest.fixture(autouse=True)
def _leave_torch_as_it_was():
    with torch.random.fork_rng():
        yield


@pytest.fixture(scope="module")
def pairs():
    return make_inputs(np.random.default_rng(0), 60)[0]


@pytest.fixture(scope="module")
def captioned():
    """20 images with three captions each, of one to nine words that depend on the image."""
    rng = np.random.default_rng(0)
    index = np.repeat(np.arange(20), 3)
    words = np.array([f"w{i}" for i in range(30)])
    captions = [
        " ".join(np.append(rng.choice(words[:10], rng.integers(9)), words[10 + i])) for i in index
    ]
    return Views.from_captions(rng.normal(size=(20, 6)), np.array(captions, dtype=object), index)


def _weights(method):
    return method.net_.module_.state_dict()


# ---- the losses --------------------------------------------------------------------------------


def test_the_losses_are_the_printed_ones(captioned):
    """One classifier for both branches, whose classes are images; then hinges of cosines."""
    weights = {"image_weight": 0.5, "text_weight": 2.0, "ranking_weight": 3.0, "margin": 0.7}
    method = DualPath(**SMALL, **weights, instance_epochs=2, max_epochs=4).fit(captioned)
    module = method.net_.module_
    W = module.classifier.weight.detach().double().numpy()
    assert module.classifier.bias is None and W.shape == (20, 8)
    data = method._data(captioned, None, torch.device("cpu"), method._features)
    rows = [0, 1, 5, 9, 40]
    module.eval()
    f, g = (
        method.encode(captioned.distinct(view)[0], view).astype(float)[
            captioned.distinct(view)[1][rows]
        ]
        for view in ("image", "text")
    )
    classes = np.array(rows) // 3

    def entropy(x):
        logits = x @ W.T
        return np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[range(5), classes])

    cosines = (f @ g.T) / np.linalg.norm(f, axis=1)[:, None] / np.linalg.norm(g, axis=1)
    hinges = {"image2text": 0.0, "text2image": 0.0}
    # The pairs of image 0, whose two captions are both its matches.
    matches = [(i, j) for i in range(5) for j in range(5) if classes[i] == classes[j]]
    for i, j in matches:
        for wrong in np.flatnonzero(classes != classes[i]):
            hinges["image2text"] += max(0, 0.7 - cosines[i, j] + cosines[i, wrong])
            hinges["text2image"] += max(0, 0.7 - cosines[i, j] + cosines[wrong, j])
    batch = data.batch(torch.tensor(rows), 0.5)
    found = method._loss(method._outputs(module, batch), batch)
    assert found["image"].item() == pytest.approx(0.5 * entropy(f), rel=1e-4)
    assert found["text"].item() == pytest.approx(2.0 * entropy(g), rel=1e-4)
    for name, total in hinges.items():
        assert found[name].item() == pytest.approx(3.0 * total / len(matches), rel=1e-4)
    module.train()
    first = method._loss(method._outputs(module, data.batch(torch.tensor(rows), 0.25)), batch)
    assert set(first) == set(found)
    before = data.batch(torch.tensor(rows), 0.25)
    assert set(method._loss(method._outputs(module, before), before)) == {"image", "text"}


def test_the_gradient_is_that_of_finite_differences():
    torch.manual_seed(0)
    method = DualPath(width=3, hidden=4, dropout=0.0, standardize=False, instance_epochs=0)
    method.text_form_, method.pictures_, method.identities_ = "vectors", False, np.arange(3)
    module = method._build_module({"image": 4, "text": 5}, None).double().train()
    generator = torch.Generator().manual_seed(0)
    rows, groups = torch.arange(6), torch.tensor([0, 0, 1, 1, 2, 2])
    views = {
        "image": Items(torch.randn(6, 4, generator=generator, dtype=torch.float64)),
        "text": Items(torch.randn(6, 5, generator=generator, dtype=torch.float64)),
    }
    batch = Batch(views, {"image": groups, "text": rows}, groups, None)
    method.net_ = type("Net", (), {"module_": module})

    class Loss(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = module

        def forward(self):
            return sum(method._loss(method._outputs(self.module, batch), batch).values())

    names, weights = zip(*module.named_parameters())

    def loss(*weights):
        named = {f"module.{name}": w for name, w in zip(names, weights)}
        return torch.func.functional_call(Loss(), named, ())

    assert torch.autograd.gradcheck(loss, tuple(w.detach().requires_grad_() for w in weights))


def test_without_ranking_loss_stage_two_is_stage_one(captioned):
    settings = {**SMALL, "max_epochs": 4, "shift": True, "word_dropout": 0.1}
    one = DualPath(**settings, instance_epochs=4).fit(captioned)
    two = DualPath(**settings, instance_epochs=2, ranking_weight=0.0).fit(captioned)
    for name, weights in _weights(one).items():
        assert torch.equal(_weights(two)[name], weights), name
    ranked = DualPath(**settings, instance_epochs=2).fit(captioned)
    assert not torch.equal(
        _weights(ranked)["classifier.weight"], _weights(one)["classifier.weight"]
    )
    assert "train_image2text" not in ranked.net_.history[1]
    assert "train_image2text" in ranked.net_.history[2]


def test_every_image_with_its_captions_is_a_class(captioned, pairs):
    method = DualPath(**SMALL, max_epochs=2).fit(captioned)
    assert len(method.identities_) == method.net_.module_.classifier.out_features == 20
    data = method._data(captioned, None, torch.device("cpu"), method._features)
    rows = torch.tensor([59, 0, 1, 30])
    assert method._classes_of(data.batch(rows)).tolist() == [19, 0, 0, 10]
    assert method.similarity(captioned).shape == (20, 60)
    # Of pairs, each is a class; those that are held out have none, and are ranked alone.
    method = DualPath(**SMALL, max_epochs=3, instance_epochs=2, validation_fraction=0.25).fit(pairs)
    assert len(method.identities_) == 45
    for row in method.net_.history:
        assert row["valid_image"] == row["valid_text"] == 0
        total = row["valid_image2text"] + row["valid_text2image"]
        assert row["valid_loss"] == pytest.approx(total, rel=1e-5)


def test_the_learning_rate_of_stage_two(pairs):
    rates = []

    class Seen(Callback):
        def on_epoch_begin(self, net, **kwargs):
            rates.append(net.optimizer_.param_groups[0]["lr"])

    settings = {**SMALL, "lr": 0.01, "max_epochs": 4, "callbacks": [Seen()]}
    DualPath(**settings, instance_epochs=2, stage_two_rate=0.1).fit(pairs)
    assert rates == pytest.approx([0.01, 0.01, 0.001, 0.001])
    rates.clear()
    DualPath(**settings, instance_epochs=0, stage_two_rate=0.1).fit(pairs)
    assert rates == pytest.approx([0.001] * 4)


# ---- convolutions over words -------------------------------------------------------------------


def _reference(network, words, start=0):
    """Return the output for the words (T, d) of one text, by convolutions of torch."""

    def normalised(linear, norm, x):
        kernel = linear.in_features // x.shape[1]
        weight = linear.weight.view(len(linear.weight), kernel, -1).transpose(1, 2)
        return norm, kernel, weight

    x, first = words.T[None], start
    for number, stage in enumerate(network.stages):
        for i, block in enumerate(stage):
            stride = 2 if number and i == 0 else 1
            h = F.relu(block.reduce[1](F.conv1d(x, block.reduce[0].weight[:, :, None])))
            norm, kernel, weight = normalised(block.convolve[0], block.convolve[1], h)
            before, parity = (kernel - 1) // 2, first % stride
            # Zeros on the left up to the place 2j of the first step, and enough on the right.
            padded = F.pad(h, (before + parity, kernel + stride))
            steps = (parity + x.shape[2] - 1) // stride + 1
            h = F.relu(norm(F.conv1d(padded, weight, stride=stride)[..., :steps]))
            h = block.expand[1](F.conv1d(h, block.expand[0].weight[:, :, None]))
            places = [max(stride * j - parity, 0) for j in range(steps)]
            kept = x[..., places]
            if not isinstance(block.shortcut, nn.Identity):
                kept = block.shortcut[1](F.conv1d(kept, block.shortcut[0].weight[:, :, None]))
            x, first = F.relu(kept + h), first // stride
    return x.mean(dim=2)[0]


@pytest.mark.parametrize("kernel", [1, 2, 3, 4])
def test_the_network_over_words_is_made_of_convolutions(kernel):
    torch.manual_seed(0)
    method = DualPath()
    method.text_form_ = "words"
    network = WordResNet(method._words(5, 5), (8, 12, 8), (1, 2, 1), kernel=kernel).double()
    for part in network.modules():  # as after training
        if isinstance(part, nn.BatchNorm1d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    network.eval()
    lengths = [1, 2, 3, 4, 7, 9]
    values = torch.randn(len(lengths), 9, 5, dtype=torch.float64)
    mask = torch.arange(9) < torch.tensor(lengths)[:, None]
    found = network(Items(values, mask))
    for row, length in enumerate(lengths):
        expected = _reference(network, values[row, :length])
        torch.testing.assert_close(found[row], expected)


@pytest.mark.parametrize("start", [1, 2, 3])
def test_a_shifted_text_has_strides_at_other_places(start, monkeypatch):
    torch.manual_seed(0)
    method = DualPath()
    method.text_form_ = "words"
    network = WordResNet(method._words(5, 5), (8, 12, 8), (1, 2, 1), shift=True).double().train()
    for part in network.modules():  # the statistics of the batch are those of all its words
        if isinstance(part, nn.BatchNorm1d):
            part.eval()
    drawn = []

    def place(lengths, high):
        drawn.append(high)
        return torch.full_like(lengths, start)

    monkeypatch.setattr(torch, "randint_like", place)
    values = torch.randn(3, 7, 5, dtype=torch.float64)
    mask = torch.arange(7) < torch.tensor([7, 1, 4])[:, None]
    found = network(Items(values, mask))
    assert drawn == [4]
    for row, length in enumerate([7, 1, 4]):
        torch.testing.assert_close(found[row], _reference(network, values[row, :length], start))
    network.eval()
    for row, length in enumerate([7, 1, 4]):
        expected = _reference(network, values[row, :length])
        torch.testing.assert_close(network(Items(values, mask))[row], expected)


def test_a_text_without_words_is_zero():
    method = DualPath()
    method.text_form_ = "words"
    network = WordResNet(method._words(5, 5), (8, 8), (1, 1), shift=True)
    mask = torch.tensor([[True, True], [False, False], [True, False]])
    for mode in (True, False):
        found = network.train(mode)(Items(torch.randn(3, 2, 5), mask))
        assert found[1].abs().max() == 0 and found[[0, 2]].abs().amax(dim=1).min() > 0


def test_padding_changes_nothing_even_in_training():
    torch.manual_seed(0)
    method = DualPath()
    method.text_form_ = "words"
    network = WordResNet(method._words(5, 5), (8, 12), (2, 1)).train()
    mask = torch.arange(6) < torch.tensor([6, 2, 3])[:, None]
    values = torch.randn(3, 6, 5)
    found = network(Items(values, mask))
    noise = torch.where(mask[..., None], values, 100.0)
    wider = Items(F.pad(noise, (0, 0, 0, 3), value=7.0), F.pad(mask, (0, 3)))
    torch.testing.assert_close(network(wider), found)


def test_layouts_are_those_of_places_counted_one_by_one():
    lengths, first = torch.tensor([3, 0, 4, 1]), torch.tensor([1, 3, 0, 3])
    layout = Layout(lengths, first)
    rows = [(t, first[t].item() + k) for t in range(4) for k in range(lengths[t])]
    assert list(zip(layout.text.tolist(), layout.place.tolist())) == rows
    half = layout.halved()
    halves = sorted({(t, p // 2) for t, p in rows})
    assert list(zip(half.text.tolist(), half.place.tolist())) == halves
    at = {row: i for i, row in enumerate(rows)}
    for kernel in (1, 2, 3):
        shift = (kernel - 1) // 2
        own = [[at.get((t, p + k - shift), 8) for k in range(kernel)] for t, p in rows]
        assert layout.windows(kernel).tolist() == own
        read = [[at.get((t, 2 * p + k - shift), 8) for k in range(kernel)] for t, p in halves]
        assert half.windows(kernel, layout).tolist() == read
    starts = [min(at[t, p] for t, p in rows if (t, p // 2) == row) for row in halves]
    assert half.starts(layout).tolist() == starts


@pytest.mark.parametrize("form", ["strings", "ids", "words", "vectors"])
def test_every_form_of_texts(form, captioned, pairs, tmp_path):
    texts = captioned["text"]
    if form == "ids":
        texts = Ragged.from_list([np.array([2 + int(w[1:]) for w in t.split()]) for t in texts])
    elif form == "words":
        table = np.random.default_rng(1).normal(size=(30, 7))
        texts = Ragged.from_list([table[[int(w[1:]) for w in t.split()]] for t in texts])
    elif form == "vectors":
        texts = pairs["text"]
    views = captioned.replace(text=texts)
    method = DualPath(**SMALL, max_epochs=2, instance_epochs=1, lr=0.01).fit(views)
    assert (method.net_.module_.words is None) == (form == "vectors")
    whole = method.encode(texts, "text")
    alone = np.concatenate([method.encode(texts[i : i + 1], "text") for i in range(6)])
    np.testing.assert_allclose(whole[:6], alone, rtol=1e-4, atol=1e-5)
    crossfit.save(method, tmp_path / "bundle")
    loaded = crossfit.load(tmp_path / "bundle")
    np.testing.assert_array_equal(loaded.similarity(views), method.similarity(views))


# ---- stages, pictures, checkpoints ---------------------------------------------------------------

COLOURS = {"red": (220, 30, 30), "blue": (20, 40, 230)}
RAW = {"width": 8, "hidden": 16, "max_epochs": 2, "instance_epochs": 1, "trunk_weights": None,
       "batch_size": 8, "min_count": 1, "channels": (8,), "blocks": (1,), "word_width": 6,
       "device": "cpu", "random_state": 0}  # fmt: skip


@pytest.fixture(scope="module")
def raw():
    rng = np.random.default_rng(0)
    names = np.array([list(COLOURS)[i % 2] for i in range(8)])
    pictures = np.array([COLOURS[name] for name in names])[:, None, None]
    pictures = np.clip(pictures + rng.normal(0, 20, (8, 32, 32, 3)), 0, 255).astype(np.uint8)
    return pictures, np.array([f"a {name} square" for name in names], dtype=object)


def test_the_trunk_is_fixed_in_stage_one_and_tuned_in_stage_two(raw, tmp_path):
    torch.manual_seed(3)
    from torchvision.models import alexnet

    start = alexnet(weights=None).state_dict()
    torch.save(start, tmp_path / "alexnet.pth")
    after_one = []

    class Seen(Callback):
        def on_epoch_end(self, net, **kwargs):
            if not after_one:
                after_one.append({k: w.clone() for k, w in net.module_.trunk.state_dict().items()})

    method = DualPath(
        **RAW | {"trunk_weights": tmp_path / "alexnet.pth"}, optimizer="SGD", lr=0.01,
        stage_two_rate=0.5, trunk_lr=1e-4, optimizer__weight_decay=0.1, callbacks=[Seen()],
    ).fit(*raw)  # fmt: skip
    for name, weights in method.net_.module_.trunk.state_dict().items():
        assert torch.equal(after_one[0][name], start[name]), name
        assert 0 < (weights - start[name]).abs().max() < 0.01, name
    rates = {group["lr"] for group in method.net_.optimizer_.param_groups}
    assert sorted(rates) == pytest.approx([1e-4, 0.005])
    crossfit.save(method, tmp_path / "bundle")
    loaded = crossfit.load(tmp_path / "bundle")
    np.testing.assert_array_equal(loaded.similarity(*raw), method.similarity(*raw))
    with pytest.raises(ValueError, match="'image' was fitted on pictures, got vectors"):
        method.encode(np.zeros((2, 5)), "image")


class _Dies(Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_batch_end(self, net, batch=None, training=False, **kwargs):
        if net.history[-1]["epoch"] == self.epoch:
            raise InterruptedError


@pytest.mark.parametrize("killed", [2, 4])
def test_a_fit_that_is_killed_in_either_stage_ends_with_the_same_weights(
    captioned, tmp_path, killed
):
    through = DualPath(
        **SMALL, max_epochs=5, instance_epochs=2, stage_two_rate=0.5, word_dropout=0.1
    ).fit(captioned)
    checkpoint = Checkpoint(tmp_path / "fit.pt")
    with pytest.raises(InterruptedError):
        clone(through).set_params(callbacks=[checkpoint, _Dies(killed)]).fit(captioned)
    resumed = clone(through).set_params(callbacks=[checkpoint]).fit(captioned)
    for name, weights in _weights(through).items():
        assert torch.equal(_weights(resumed)[name], weights), name


def test_a_finished_stage_one_may_go_on_with_stage_two(captioned, tmp_path):
    through = DualPath(**SMALL, max_epochs=4, instance_epochs=2).fit(captioned)
    method = clone(through).set_params(max_epochs=2, callbacks=[Checkpoint(tmp_path / "fit.pt")])
    method.fit(captioned)
    assert "train_image2text" not in method.net_.history[-1]
    method.set_params(max_epochs=4).fit(captioned)
    for name, weights in _weights(through).items():
        assert torch.equal(_weights(method)[name], weights), name


def test_a_killed_fit_on_pictures_ends_with_the_same_weights(raw, tmp_path):
    through = DualPath(**RAW).fit(*raw)
    checkpoint = Checkpoint(tmp_path / "fit.pt")
    with pytest.raises(InterruptedError):
        clone(through).set_params(callbacks=[checkpoint, _Dies(2)]).fit(*raw)
    resumed = clone(through).set_params(callbacks=[checkpoint]).fit(*raw)
    for name, weights in _weights(through).items():
        assert torch.equal(_weights(resumed)[name], weights), name


# ---- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"channels": (0,)}, "DualPath: channels must be integers of at least 1, one per stage"),
        ({"blocks": ()}, "DualPath: blocks must be integers of at least 1, one per stage"),
        ({"channels": (8, 8, 8)}, "DualPath: channels and blocks must have one number per stage, "
                                  "got 3 and 1"),
    ],
)  # fmt: skip
def test_bad_stages_are_rejected_in_one_sentence(settings, message, pairs):
    with pytest.raises(ValueError, match=message):
        DualPath(**settings).fit(pairs)


# ---- the experiment ------------------------------------------------------------------------------


def test_the_experiment_has_the_figures_and_settings_that_we_know():
    described = Experiment.from_file(EXPERIMENT)
    card = registry.get(EXPERIMENT.stem, "crossfit.experiments")
    assert set(card.methods) == {entry.method for entry in described.methods}
    rows = {entry.label: entry for entry in described.methods}
    for entry in described.methods:
        build_method(entry)  # checks the values
    found = rows["Dual-path"].published
    assert found["r@1"] == {"image2text": 0.556, "text2image": 0.391}
    assert found["r@10"] == {"image2text": 0.895, "text2image": 0.809}
    method = DualPath(**rows["Dual-path"].params)
    settings = {"ranking_weight": 1, "image_weight": 1, "text_weight": 1, "margin": 1, "kernel": 2,
                "batch_size": 32, "optimizer": "SGD", "optimizer__momentum": 0.9, "width": 2048,
                "max_words": 32}  # fmt: skip
    assert {name: method.get_params()[name] for name in settings} == settings
    alone = DualPath(**rows["Dual-path, stage one"].params)
    assert alone.max_epochs == alone.instance_epochs == method.instance_epochs < method.max_epochs


# ---- real pairs ----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*of the vocabulary")
def test_the_defaults_find_emoji_by_their_names(emoji):
    """Names word by word: texts of the test hold words that no training text has."""
    data = datasets.load("emoji")
    train, test = (
        views.replace(text=data[part].views["text"])
        for (views, _), part in zip(emoji, ("train", "test"))
    )
    method = DualPath(device="cpu", random_state=0, verbose=0).fit(train)
    found = evaluate(method.similarity(test), test.relevance("image", "text"), ("r@10",), ci=None)
    for direction in found.directions:
        assert found.mean(direction, "r@10") > 0.18  # by chance: 10 of 324
