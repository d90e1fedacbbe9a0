"""The bimodal autoencoder against loops, principal components and chance."""

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles
from sklearn.base import clone
from skorch.callbacks import Callback
from torch import nn

from crossfit import evaluate
from crossfit.neural import Batch, Checkpoint, Items
from crossfit_correlation.bimodal_ae import BimodalAE, BimodalNetwork
from crossfit_correlation.testing import make_inputs

SMALL = {"width": 8, "max_epochs": 6, "lr": 1e-2, "batch_size": 32, "device": "cpu"}


@pytest.fixture(scope="module")
def planted():
    views, _ = make_inputs(np.random.default_rng(0), 120)
    return views[:80], views[80:]


def _weights(method):
    return torch.cat([w.flatten().double() for w in method.net_.module_.state_dict().values()])


class _Dies(Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == self.epoch:
            raise InterruptedError


def _errors(module, x, z, sources):
    """Return the squared errors of all rows of the (tripled) set, one row at a time."""
    found = []
    for a, b in zip(x, z):
        for source in sources:
            given = {
                "image": torch.zeros_like(a[None]) if source == "text" else a[None],
                "text": torch.zeros_like(b[None]) if source == "image" else b[None],
            }
            parts = [module.encoders[role](given[role]) for role in ("image", "text")]
            code = module.act(module.code(torch.cat(parts, dim=1)))
            rebuilt = torch.cat([module.decode(code)[role] for role in ("image", "text")], dim=1)
            found.append((rebuilt - torch.cat([a, b])).square().sum().item())
    return found


@pytest.mark.parametrize("hidden", [(), (5,), {"image": (6, 4), "text": ()}])
@pytest.mark.parametrize("tripled", [True, False])
def test_the_loss_is_the_mean_over_the_tripled_set(hidden, tripled):
    method = BimodalAE(hidden=hidden, width=3, tripled=tripled, standardize=False)
    torch.manual_seed(0)
    module = method._build_module({"image": 7, "text": 4}, None)
    x, z = torch.randn(6, 7), torch.randn(6, 4)
    rows = torch.arange(6)
    batch = Batch({"image": Items(x), "text": Items(z)}, {"image": rows, "text": rows}, rows, None)
    method.net_ = type("Net", (), {"module_": module})()
    terms = method._loss(method._outputs(module, batch), batch)
    sources = ["both", "image", "text"] if tripled else ["both"]
    assert list(terms) == [f"from_{source}" for source in sources]
    with torch.no_grad():
        expected = np.mean(_errors(module, x, z, sources))
    assert sum(terms.values()).item() == pytest.approx(expected, rel=1e-5)
    # At test the other view is zero.
    with torch.no_grad():
        code = method._encode_batch(module, Items(x), "image")
        direct = module.encode({"image": x, "text": torch.zeros(6, 4)})
    torch.testing.assert_close(code, direct)


def test_linear_units_on_pairs_alone_find_the_principal_components(planted):
    train, _ = planted
    method = BimodalAE(
        width=4, activation="linear", tripled=False, standardize=True, lr=3e-2, max_epochs=400,
        batch_size=80, device="cpu", random_state=0, verbose=0,
    ).fit(train)  # fmt: skip
    both = np.hstack([train["image"], train["text"]])
    both = (both - both.mean(axis=0)) / both.std(axis=0)
    _, _, components = np.linalg.svd(both, full_matrices=False)
    decoder = method.net_.module_.expand.weight.detach().numpy()
    assert np.degrees(subspace_angles(decoder, components[:4].T)).max() < 1.0


def test_each_view_reconstructs_the_other_one(planted):
    train, test = planted
    settings = SMALL | {"width": 16, "max_epochs": 60}
    left = {}
    for tripled in (True, False):
        method = BimodalAE(tripled=tripled, random_state=0, **settings).fit(train)
        module = method.net_.module_
        with torch.no_grad():
            x, z = (
                module.inputs(torch.tensor(test[role], dtype=torch.float32), role)
                for role in ("image", "text")
            )
            rebuilt = module.decode(module.encode({"image": x}))["text"]
            left[tripled] = ((rebuilt - z).square().mean() / z.square().mean()).item()
    # 1 would be the error of the mean text; pairs alone do not teach what to do without a text.
    assert left[True] < 0.5 and left[True] < 0.7 * left[False], left


@pytest.mark.parametrize("hidden", [(), (10,)])
def test_pretrained_layers_start_ahead(planted, hidden):
    train, _ = planted
    settings = SMALL | {"activation": "sigmoid", "hidden": hidden, "max_epochs": 1, "lr": 1e-6}
    plain = BimodalAE(random_state=0, **settings).fit(train)
    ahead = BimodalAE(random_state=0, pretrain=30, **settings).fit(train)
    loss = [method.net_.history[-1]["train_from_both"] for method in (plain, ahead)]
    assert loss[1] < 0.8 * loss[0]
    again = BimodalAE(random_state=0, pretrain=30, **settings).fit(train)
    assert torch.equal(_weights(again), _weights(ahead))


def test_a_killed_fit_goes_on_to_the_same_weights(planted, tmp_path):
    train, test = planted
    settings = SMALL | {"activation": "sigmoid", "hidden": (10,), "pretrain": 2}
    through = BimodalAE(random_state=0, **settings).fit(train)
    checkpoint = Checkpoint(tmp_path / "fit.pt")
    for epoch in (2, 4):
        with pytest.raises(InterruptedError):
            clone(through).set_params(callbacks=[checkpoint, _Dies(epoch)]).fit(train)
    resumed = clone(through).set_params(callbacks=[checkpoint]).fit(train)
    assert torch.equal(_weights(resumed), _weights(through))
    np.testing.assert_array_equal(resumed.similarity(test), through.similarity(test))


def test_the_schedule_of_deepnet(planted):
    rates = []

    class Sees(Callback):
        def on_batch_end(self, net, training=False, **kwargs):
            (group,) = net.optimizer_.param_groups
            rates.append((group["lr"], group["momentum"]))

    settings = SMALL | {"optimizer": "SGD", "callbacks": [Sees()], "max_epochs": 2}
    BimodalAE(lr_half_life=2.0, random_state=0, **settings | {"lr": 1e-4}).fit(planted[0])
    steps = np.arange(len(rates))
    assert [lr for lr, _ in rates] == pytest.approx(list(1e-4 / (1 + steps / 2)))
    assert [m for _, m in rates] == pytest.approx(list(0.9 - 0.4 * np.exp(-steps / 2)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden": {"image": (4,)}}, "BimodalAE: hidden must be integers of at least 1, one per"),
        ({"hidden": (0,)}, "hidden must be integers"),
        ({"hidden": 4}, "hidden"),
        (
            {"pretrain": 3},
            "pretrain=3 needs logistic units and standardised features, got activation",
        ),
        ({"activation": "softplus"}, "activation"),
        ({"width": 0}, "width"),
    ],
)
def test_bad_parameters_are_one_sentence(planted, settings, message):
    with pytest.raises(ValueError, match=message):
        BimodalAE(device="cpu", **settings).fit(planted[0])


def test_layers_mirror_each_other():
    module = BimodalNetwork({"image": 9, "text": 5}, hidden={"image": [8, 7], "text": []}, width=6)
    shapes = [tuple(w.shape) for name, w in module.named_parameters() if w.ndim == 2]
    assert shapes == [(8, 9), (7, 8), (8, 7), (9, 8), (6, 12), (12, 6)]
    assert isinstance(module.encoders["text"], nn.Identity)


def test_the_defaults_find_emoji_by_their_names(emoji):
    (train, _), (test, y) = emoji
    method = BimodalAE(random_state=0, verbose=0).fit(train)
    scores = method.similarity(test)
    by_pair = evaluate(scores, test.relevance("image", "text"), ("r@10",), ci=None)
    by_group = evaluate(scores, test.relevance("image", "text", y), ("map@all",), ci=None)
    for direction in by_pair.directions:
        # By chance: 10 of 324, and the share of the groups, .16.
        assert by_pair.mean(direction, "r@10") > 0.1
        assert by_group.mean(direction, "map@all") > 0.22
