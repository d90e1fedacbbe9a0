"""Networks that end in linear CCA, as an author writes them."""

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from torch import nn

from crossfit.cards import MethodCard
from crossfit.neural import CanonicalEstimator, MLPBranch, cca_loss, in_float64, listening
from crossfit.neural.batching import flat_rows
from crossfit.subspace import CCA
from crossfit.views import Ragged

VECTORS = {"image": ("vectors",), "text": ("vectors",)}


class Branches(nn.Module):
    def __init__(self, n_inputs):
        super().__init__()
        self.branches = nn.ModuleDict({role: MLPBranch([n, 4]) for role, n in n_inputs.items()})

    def encode(self, items, view):
        return self.branches[view](items.values)


class Correlating(CanonicalEstimator):
    card = MethodCard(api=1, name="correlating", target="somewhere:Correlating", summary="a method",
                      inputs=VECTORS)  # fmt: skip
    _drop_last = True

    def __init__(self, *, n_components=None, cca_reg=0.5, max_epochs=4, **kwargs):
        super().__init__(max_epochs=max_epochs, **kwargs)
        self.n_components = n_components
        self.cca_reg = cca_reg

    def _build_module(self, n_inputs, n_classes):
        return Branches(n_inputs)

    def _loss(self, outputs, batch):
        return cca_loss(*outputs.values())


class Sizes(Callback):
    def on_train_begin(self, net, **kwargs):
        self.sizes_ = []

    def on_batch_end(self, net, batch=None, training=False, **kwargs):
        self.sizes_.append(len(batch))


SETTINGS = {"batch_size": 30, "lr": 1e-2, "device": "cpu", "random_state": 0, "verbose": 0}


@pytest.fixture(scope="module")
def pairs():
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(80, 3))
    X = Z @ rng.normal(size=(3, 6)) + 0.1 * rng.normal(size=(80, 6))
    return X, Z @ rng.normal(size=(3, 5)) + 0.1 * rng.normal(size=(80, 5))


def test_it_ends_in_plain_cca_of_the_outputs_with_a_ridge_per_view(pairs):
    method = Correlating(n_components=3, cca_reg={"image": 0.5, "text": 0.1}, **SETTINGS)
    method.fit(*pairs)
    outputs = [method.project(part, role) for part, role in zip(pairs, ("image", "text"))]
    cca = CCA(3, reg={"image": 0.5, "text": 0.1}, power=0).fit(*outputs)
    np.testing.assert_allclose(method.cca_.correlations_, cca.correlations_, rtol=1e-6)
    for found, expected in zip(method.transform(*pairs), cca.transform(*outputs)):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert method.score(*pairs) > 0.5


def test_a_listener_gets_the_cca_of_the_current_network(pairs):
    seen = []

    def listen(method, epoch, record):
        seen.append(method.score(*pairs))

    with listening(listen):
        method = Correlating(**SETTINGS).fit(*pairs)
    assert len(set(seen)) == 4 and seen[-1] == pytest.approx(method.score(*pairs))


@pytest.mark.parametrize(("settings", "sizes"), [
    ({}, [30, 30]), ({"iterator_train__drop_last": False}, [30, 30, 20])
])  # fmt: skip
def test_a_method_may_drop_last_batches_by_default(settings, sizes, pairs):
    method = Correlating(callbacks=[("sizes", Sizes())], max_epochs=1, **SETTINGS, **settings)
    method.fit(*pairs)
    assert dict(method.net_.callbacks_)["sizes"].sizes_ == sizes


def test_outputs_in_float64_are_those_of_the_network_and_equal_rows_are_equal():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.BatchNorm1d(7), nn.Linear(7, 3))
        x = torch.randn(64, 5)
    module(x)  # sets running means
    module.eval()
    x[40] = x[3]
    found = in_float64(module, x)
    assert found.dtype == torch.float64 and torch.equal(found[40], found[3])
    torch.testing.assert_close(found.float(), module(x))
    torch.testing.assert_close(found, module.double()(x.double()))


def test_matrices_become_rows():
    values = np.arange(24.0).reshape(2, 3, 4)
    np.testing.assert_array_equal(flat_rows(values, "X"), values.reshape(2, 12))
    np.testing.assert_array_equal(flat_rows(values[:, 0], "X", 4), values[:, 0])
    with pytest.raises(ValueError, match=r"X was fitted on 11 numbers per item, got 12 \(shape"):
        flat_rows(values, "X", 11)
    with pytest.raises(ValueError, match="X must have rows of one size, got a Ragged"):
        flat_rows(Ragged.from_list([values[0], values[0, :2]]), "X")
