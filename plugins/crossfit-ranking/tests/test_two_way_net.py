"""2WayNet against loops over its loss, and its tied weights."""

import numpy as np
import pytest
import torch
from torch import nn

from crossfit import Views, evaluate
from crossfit.experiment import Experiment
from crossfit.neural import Batch, Items
from crossfit_ranking.testing import make_inputs
from crossfit_ranking.two_way_net import TwoWayNet, decorrelation


@pytest.fixture(autouse=True)
def _leave_torch_as_it_was():
    with torch.random.fork_rng():
        yield


@pytest.fixture(scope="module")
def pairs():
    return make_inputs(np.random.default_rng(0), 120)[0]


def _batch(n, n_image=5, n_text=4, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    rows = torch.arange(n)
    return Batch(
        {"image": Items(torch.randn(n, n_image, generator=generator, dtype=dtype)),
         "text": Items(torch.randn(n, n_text, generator=generator, dtype=dtype))},
        {"image": rows, "text": rows}, rows, None,
    )  # fmt: skip


def _module(method, dtype=torch.float32):
    torch.manual_seed(0)
    module = method._build_module({"image": 5, "text": 4}, None).to(dtype)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d):
            for tensor in (part.running_mean, part.bias.data):
                tensor.normal_()
            for tensor in (part.running_var, part.weight.data):
                tensor.uniform_(0.5, 2)
    for bias in module.biases.values():
        bias.data.normal_()
    return module


# ---- the loss ----------------------------------------------------------------------------------


def _by_hand(module, x, view):
    """Return the middle layer and the output of a channel for one item, in NumPy."""
    weights = [layer.weight.detach().numpy() for layer in module.layers]
    norms = list(module.norms[view])
    if view == "text":
        weights, norms = [w.T for w in reversed(weights)], norms[::-1]
    hidden = []
    for W, norm in zip(weights[:-1], norms, strict=True):
        x = W @ x
        mean, var = norm.running_mean.numpy(), norm.running_var.numpy()
        x = (x - mean) / np.sqrt(var + norm.eps)
        x = norm.weight.detach().numpy() * x + norm.bias.detach().numpy()
        x = np.where(x > 0, x, 0.3 * x)
        hidden.append(x)
    other = {"image": "text", "text": "image"}[view]
    return hidden[1], weights[-1] @ x + module.biases[other].detach().numpy()


def test_the_loss_is_the_printed_one():
    method = TwoWayNet(
        widths=(6, 3, 7), standardize=False, coupling=0.3, decorrelation=0.7, scale_penalty=0.2,
        weight_decay=0.1,
    )  # fmt: skip
    module = _module(method).eval()
    batch = _batch(8)
    terms = method._loss(method._outputs(module, batch), batch)
    x, z = (batch.views[role].values.numpy() for role in ("image", "text"))
    hx, rebuilt_z = zip(*(_by_hand(module, row, "image") for row in x))
    hz, rebuilt_x = zip(*(_by_hand(module, row, "text") for row in z))
    errors = [((a - b) ** 2).sum() + ((c - d) ** 2).sum()
              for a, b, c, d in zip(x, rebuilt_x, z, rebuilt_z)]  # fmt: skip
    penalty = 0.0
    for h in (np.array(hx), np.array(hz)):
        C = np.zeros((3, 3))
        for row in h - h.mean(axis=0):
            C += np.outer(row, row) / 8
        penalty += np.sqrt((C**2).sum()) - np.sqrt(sum(C[i, i] ** 2 for i in range(3)))
    scales = [norm.weight.detach().numpy() for part in module.norms.values() for norm in part]
    expected = {
        "reconstruction": np.mean(errors),
        "distance": 0.3 * np.mean([((a - b) ** 2).sum() for a, b in zip(hx, hz)]),
        "decorrelation": 0.7 * penalty,
        "scales": 0.2 * sum((1 / part**2).sum() for part in scales),
        "decay": 0.1 * sum((w.weight.detach().numpy() ** 2).sum() for w in module.layers) / 2,
    }
    assert sum(len(part) for part in scales) == 2 * (6 + 3 + 7)
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(expected, rel=1e-4)
    for role, h in (("image", hx), ("text", hz)):
        np.testing.assert_allclose(
            module.encode(batch.views[role], role).detach(), np.array(h), atol=1e-5
        )


def test_the_gradient_is_that_of_finite_differences():
    method = TwoWayNet(widths=(4, 3, 4), decorrelation=0.4, dropout=0.0)
    module = _module(method, torch.float64)
    batch = _batch(6, dtype=torch.float64)
    names, weights = zip(*module.named_parameters())

    class Loss(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = module

        def forward(self):
            found = {**self.module(batch.views), "scales": self.module.scales(),
                     "decay": self.module.decay()}  # fmt: skip
            return sum(method._loss(found, batch).values())

    def loss(*weights):
        named = {f"module.{name}": w for name, w in zip(names, weights)}
        return torch.func.functional_call(Loss(), named, ())

    assert torch.autograd.gradcheck(loss, tuple(w.detach().requires_grad_() for w in weights))


# ---- tied ----------------------------------------------------------------------------------------


def test_both_channels_have_the_same_matrices_and_both_train_them():
    module = _module(TwoWayNet(widths=(2000, 3000, 16)))
    shapes = [tuple(w.shape) for w in module.parameters() if w.ndim == 2]
    assert shapes == [(2000, 5), (3000, 2000), (16, 3000), (4, 16)]
    batch = _batch(8)
    for view, other in (("image", "text"), ("text", "image")):
        module.zero_grad()
        _, rebuilt = module.channel(batch.views[view].values, view)
        assert rebuilt.shape == batch.views[other].values.shape
        rebuilt.square().sum().backward()
        for layer in module.layers:
            assert layer.weight.grad.abs().sum() > 0
        # The normalisations of the other channel are its own.
        assert all(norm.weight.grad is None for norm in module.norms[other])
        assert module.biases[view].grad is None


def test_the_gradient_of_a_matrix_is_the_sum_of_those_of_both_channels():
    module = _module(TwoWayNet(widths=(4, 3, 4), dropout=0.0), torch.float64)
    batch = _batch(6, dtype=torch.float64)
    parts = []
    for view in ("image", "text"):
        module.zero_grad()
        module.channel(batch.views[view].values, view)[1].square().sum().backward()
        parts.append(module.layers[1].weight.grad.clone())
    at, step = (1, 2), 1e-6

    def both(change):
        with torch.no_grad():
            module.layers[1].weight[at] += change
            found = sum(
                module.channel(batch.views[view].values, view)[1].square().sum()
                for view in ("image", "text")
            )
            module.layers[1].weight[at] -= change
        return found.item()

    slope = (both(step) - both(-step)) / (2 * step)
    assert slope == pytest.approx((parts[0] + parts[1])[at].item(), rel=1e-5)
    assert min(abs(part[at].item()) for part in parts) > 1e-3


def test_the_same_units_of_both_channels_are_dropped():
    method = TwoWayNet(widths=(50, 40, 30), dropout=0.5)
    module = _module(method)
    masks = module._masks(torch.zeros(400, 5))
    assert [mask.shape[1] for mask in masks] == [50, 40, 30]
    for mask in masks:
        values = mask.unique()
        torch.testing.assert_close(values, torch.tensor([0.0, 0.5**-0.5]))
        # Squares keep their size, so that products of the two channels do.
        assert mask.square().mean().item() == pytest.approx(1, abs=0.05)
    middle = module(_batch(30).views)["middle"]
    dropped = [part == 0 for part in middle.values()]
    assert torch.equal(*dropped) and 0.4 < dropped[0].float().mean() < 0.6
    assert module.eval()._masks(torch.zeros(4, 5)) is None


# ---- decorrelation -----------------------------------------------------------------------------


def test_units_without_correlation_have_no_penalty():
    h = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert decorrelation(h + 5).item() == pytest.approx(0, abs=1e-6)
    same = h[:, [0, 0]]
    # C is all ones: 2 less the root of 2.
    assert decorrelation(same).item() == pytest.approx(2 - 2**0.5)


def test_the_penalty_makes_units_less_correlated(pairs):
    settings = {"widths": (16, 8, 16), "max_epochs": 20, "lr": 3e-3, "random_state": 0,
                "device": "cpu", "dropout": 0.0}  # fmt: skip
    found = []
    for weight in (0.0, 20.0):
        method = TwoWayNet(**settings, decorrelation=weight).fit(pairs)
        R = np.corrcoef(method.encode(pairs["image"], "image"), rowvar=False)
        found.append(np.abs(R[~np.eye(8, dtype=bool)]).mean())
    assert found[1] < 0.8 * found[0]


# ---- experiments ---------------------------------------------------------------------------------

FIGURES = {
    "flickr30k": {"r@1:twowaynet": (0.498, 0.360), "r@5:twowaynet": (0.675, 0.556)},
    "coco": {"r@1:twowaynet": (0.558, 0.397), "r@5:twowaynet": (0.752, 0.633)},
}


@pytest.mark.parametrize("name", FIGURES)
def test_the_experiment_has_the_settings_of_the_code_and_figures_of_its_protocol(name):
    described = Experiment.find(f"eisenschtat-2017-2waynet-{name}")
    (entry,) = described.methods
    method = TwoWayNet(**entry.params)
    with torch.device("meta"):
        module = method._build_module({"image": 4096, "text": 18_000}, None)
    shapes = [tuple(w.shape) for w in module.parameters() if w.ndim == 2]
    assert shapes == [(2000, 4096), (3000, 2000), (16_000, 3000), (18_000, 16_000)]
    assert module.middle == 1 and (module.slope, module.dropout) == (0.3, 0.5)
    settings = {
        "coupling": 0.25, "decorrelation": 0.5, "scale_penalty": 0.05, "weight_decay": 0.05,
        "optimizer": "SGD", "lr": 1e-4, "batch_size": 128, "max_epochs": 100,
    }  # fmt: skip
    assert {key: method.get_params()[key] for key in settings} == settings
    (schedule,) = method._schedule()
    rates = schedule.simulate(100, initial_lr=1.0)
    assert rates[[0, 19, 20, 40, 60, 80, 99]] == pytest.approx(
        [1, 1, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 16]
    )
    # Neither is a recall, next to which it would be read as one.
    found = {metric: (by["image2text"], by["text2image"]) for metric, by in entry.published.items()}
    assert found == FIGURES[name]
    assert set(found) < set(described.metrics) and "r@1" in described.metrics


# ---- pairs -------------------------------------------------------------------------------------


def test_scores_are_correlations(pairs):
    method = TwoWayNet(widths=(8, 6, 8), max_epochs=2, random_state=0, device="cpu").fit(pairs)
    x, z = (method.encode(pairs[view], view) for view in ("image", "text"))
    expected = np.corrcoef(x, z)[: len(x), len(x) :]
    np.testing.assert_allclose(method.similarity(pairs), expected, atol=1e-5)
    assert x.shape == (120, 6)


def test_several_captions_per_image_are_pairs_of_the_image(pairs):
    images, captions, index = pairs["image"][:40], pairs["text"], np.arange(120) // 3
    settings = {"widths": (8, 6, 8), "max_epochs": 2, "random_state": 0, "device": "cpu"}
    a, b = (
        TwoWayNet(**settings, standardize=False).fit(views)
        for views in (
            Views.from_captions(images, captions, index),
            Views(image=images[index], text=captions),
        )
    )
    np.testing.assert_allclose(a.encode(images, "image"), b.encode(images, "image"), atol=1e-5)


def test_the_rate_is_halved(pairs):
    method = TwoWayNet(widths=(4,), lr=1e-3, lr_halving=2, max_epochs=5, random_state=0).fit(pairs)
    assert method.net_.optimizer_.param_groups[0]["lr"] == pytest.approx(1e-3 / 4)
    assert method.transform(pairs)["image"].shape == (120, 4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"widths": ()}, "TwoWayNet: widths must be one or more integers of at least 1"),
        ({"widths": (4, 0)}, "TwoWayNet: widths must be one or more integers of at least 1"),
        ({"dropout": 1.0}, "'dropout' parameter of TwoWayNet"),
    ],
)
def test_bad_settings_are_rejected_in_one_sentence(settings, message, pairs):
    with pytest.raises(ValueError, match=message):
        TwoWayNet(**settings).fit(pairs)


# ---- real pairs --------------------------------------------------------------------------------


def test_the_defaults_find_emoji_by_their_names(emoji):
    (train, _), (test, y) = emoji
    method = TwoWayNet(random_state=0, verbose=0).fit(train)
    scores = method.similarity(test)
    by_pair = evaluate(scores, test.relevance("image", "text"), ("r@10",), ci=None)
    by_group = evaluate(scores, test.relevance("image", "text", y), ("map@all",), ci=None)
    for direction in by_pair.directions:
        # By chance: 10 of 324, and the share of the groups, .16.
        assert by_pair.mean(direction, "r@10") > 0.2
        assert by_group.mean(direction, "map@all") > 0.26
