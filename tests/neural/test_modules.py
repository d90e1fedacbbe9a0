"""The shared blocks against closed forms, torch's own layers and gradcheck."""

import math

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax
from torch import nn

from crossfit.neural import (
    AttentionPool,
    BilinearAttention,
    CharCNN,
    Items,
    MLPBranch,
    Standardize,
    grad_reverse,
    grad_reverse_schedule,
    init_weights,
    masked_softmax,
)


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def test_branch_is_what_its_layers_compute(rng):
    branch = MLPBranch([5, 7, 3], activation=nn.Tanh, last_activation=nn.Sigmoid)
    x = torch.randn(4, 5, generator=rng)
    w, b, v, c = (p.detach().numpy() for p in branch.parameters())
    expected = expit(np.tanh(x.numpy() @ w.T + b) @ v.T + c)
    np.testing.assert_allclose(branch(x).detach(), expected, rtol=1e-5)
    assert [type(layer) for layer in branch.layers] == [nn.Linear, nn.Tanh, nn.Linear, nn.Sigmoid]


def test_branch_normalises_batches_and_rows_and_drops(rng):
    branch = MLPBranch([5, 6, 3], batch_norm=True, dropout=0.5, normalize=True)
    kinds = [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Dropout, nn.Linear]
    assert [type(layer) for layer in branch.layers] == kinds
    x = torch.randn(50, 5, generator=rng)
    torch.testing.assert_close(branch(x).norm(dim=1), torch.ones(50))
    inside = branch.layers[:2](x)
    torch.testing.assert_close(inside.mean(dim=0), torch.zeros(6), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="sizes"):
        MLPBranch([5])


def test_masked_softmax_is_scipys_on_the_real_elements(rng):
    logits = torch.randn(6, 9, generator=rng, dtype=torch.float64) * 30
    mask = torch.rand(6, 9, generator=rng) < 0.6
    mask[0] = False
    found = masked_softmax(logits, mask)
    assert (found[0] == 0).all()
    for row in range(1, 6):
        expected = softmax(logits[row][mask[row]].numpy())
        np.testing.assert_allclose(found[row][mask[row]], expected, rtol=1e-12)
        assert (found[row][~mask[row]] == 0).all()
    torch.testing.assert_close(masked_softmax(logits), logits.softmax(dim=-1))


def test_masked_softmax_has_finite_gradients_even_over_nothing(rng):
    logits = torch.randn(3, 4, generator=rng, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[1, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]]).bool()
    assert torch.autograd.gradcheck(lambda z: masked_softmax(z, mask), logits)
    weights = torch.arange(4.0)
    (gradient,) = torch.autograd.grad((masked_softmax(logits, mask) * weights).sum(), logits)
    assert (gradient[~mask] == 0).all() and (gradient[0][mask[0]] != 0).all()


def _naive_pool(x, logits, mask):
    pooled, weights = np.zeros((len(x), x.shape[2])), np.zeros(x.shape[:2])
    for b in range(len(x)):
        total = sum(math.exp(logits[b, r]) for r in range(x.shape[1]) if mask[b, r])
        for r in range(x.shape[1]):
            if mask[b, r]:
                weights[b, r] = math.exp(logits[b, r]) / total
                pooled[b] += weights[b, r] * x[b, r].numpy()
    return pooled, weights


@pytest.mark.parametrize("kind", ["vector", "additive"])
@pytest.mark.parametrize("activation", [torch.tanh, None])
def test_attention_is_the_loop_over_elements(rng, kind, activation):
    pool = AttentionPool(4, kind, hidden=3, activation=activation).double()
    x = torch.randn(5, 6, 4, generator=rng, dtype=torch.float64)
    mask = torch.rand(5, 6, generator=rng) < 0.7
    mask[:, 0] = True
    w = pool.weight.weight.detach()[0]
    act = activation or (lambda z: z)
    logits = act(x @ w) if kind == "vector" else act(x @ pool.inner.weight.detach().T) @ w
    pooled, weights = pool(x, mask)
    for found, expected in zip((pooled, weights), _naive_pool(x, logits.numpy(), mask)):
        np.testing.assert_allclose(found.detach(), expected, rtol=1e-10)
    permuted = torch.randperm(6, generator=rng)
    again, _ = pool(x[:, permuted], mask[:, permuted])
    torch.testing.assert_close(again, pooled)
    padded = torch.cat([x, torch.full((5, 3, 4), 7.0)], dim=1)
    more, _ = pool(padded, torch.cat([mask, torch.zeros(5, 3).bool()], dim=1))
    torch.testing.assert_close(more, pooled)
    assert torch.autograd.gradcheck(lambda z: pool(z, mask)[0], x.requires_grad_())


def test_attention_without_weights_is_the_mean_and_a_tanh_bounds_it(rng):
    pool = AttentionPool(4)
    x = torch.randn(3, 36, 4, generator=rng)
    with torch.no_grad():
        pool.weight.weight.zero_()
    torch.testing.assert_close(pool(x)[0], x.mean(dim=1))
    # Logits in [-1, 1]: the largest weight that one of 36 regions can have.
    with torch.no_grad():
        pool.weight.weight.fill_(100.0)
    x = torch.cat([torch.ones(1, 1, 4), -torch.ones(1, 35, 4)], dim=1)
    assert pool(x)[1].max().item() == pytest.approx(0.174, abs=5e-4)
    with pytest.raises(ValueError, match="kind"):
        AttentionPool(4, "shared")


def test_bilinear_attention_is_the_loop_over_queries(rng):
    attention = BilinearAttention(3, 4).double()
    with torch.no_grad():
        attention.bias.fill_(0.3)
    queries = torch.randn(2, 5, 3, generator=rng, dtype=torch.float64)
    x = torch.randn(2, 6, 4, generator=rng, dtype=torch.float64)
    mask = torch.ones(2, 6, dtype=torch.bool)
    mask[1, 3:] = False
    pooled, weights = attention(queries, x, mask)
    W = attention.map.weight.detach().T  # (query_width, width)
    for k in range(5):
        logits = torch.tanh(torch.stack([x[b] @ (queries[b, k] @ W) for b in range(2)]) + 0.3)
        expected = _naive_pool(x, logits.numpy(), mask)
        np.testing.assert_allclose(pooled[:, k].detach(), expected[0], rtol=1e-10)
        np.testing.assert_allclose(weights[:, k].detach(), expected[1], rtol=1e-10)
    inputs = (queries.requires_grad_(), x.requires_grad_())
    assert torch.autograd.gradcheck(lambda q, z: attention(q, z, mask)[0], inputs)
    # The weights when W and c vanish are even.
    with torch.no_grad():
        attention.map.weight.zero_()
        attention.bias.zero_()
    torch.testing.assert_close(attention(queries, x)[1], torch.full((2, 5, 6), 1 / 6).double())


def test_gradients_come_back_reversed_and_scaled(rng):
    x = torch.randn(4, 3, generator=rng, dtype=torch.float64, requires_grad=True)
    y = grad_reverse(x, 0.7)
    assert torch.equal(y, x)
    (plain,) = torch.autograd.grad((x**2).sum(), x)
    (reversed_,) = torch.autograd.grad((grad_reverse(x, 0.7) ** 2).sum(), x)
    torch.testing.assert_close(reversed_, -0.7 * plain)


def test_the_schedule_of_the_reversal():
    for progress, expected in ((0.0, 0.0), (0.1, 0.4621), (0.5, 0.9866), (1.0, 0.9999)):
        assert grad_reverse_schedule(progress) == pytest.approx(expected, abs=5e-5)


def test_char_cnn_has_the_published_stages_and_weights():
    net = CharCNN()
    assert sum(p.numel() for p in net.parameters()) == 5_091_200
    stages = []
    for convolution in net.convolutions:
        convolution.register_forward_hook(lambda m, i, o: stages.append(tuple(o.shape[1:])))
    with torch.no_grad():
        assert net(torch.zeros(1, 201, 70)).shape == (1, 18, 2048)
    assert stages == [(384, 198), (512, 63), (2048, 18)]


def test_char_cnn_sees_the_order_of_characters(rng):
    net = CharCNN(5, (4, 6, 3))
    x = torch.nn.functional.one_hot(torch.randint(0, 5, (2, 60), generator=rng), 5).float()
    assert not torch.allclose(net(x), net(x.flip(1)))
    assert (net(x) >= 0).all() and net(x).shape == (2, 2, 3)


@pytest.mark.parametrize(
    ("nonlinearity", "gain"), [("relu", 2.0), ("tanh", 25 / 9), ("sigmoid", 1.0), ("linear", 1.0)]
)
def test_first_weights_have_the_variance_of_their_number_of_inputs(nonlinearity, gain):
    layers = nn.Sequential(nn.Linear(300, 400), nn.Conv1d(60, 500, 4), nn.Linear(9, 3, bias=False))
    assert init_weights(layers, nonlinearity) is layers
    for layer, n_inputs in ((layers[0], 300), (layers[1], 240)):
        weight = layer.weight.detach()
        assert weight.var().item() == pytest.approx(gain / n_inputs, rel=0.03)
        assert abs(weight.mean().item()) < 5 * math.sqrt(gain / n_inputs / weight.numel())
        assert not layer.bias.any()


def test_first_weights_keep_the_items_apart(rng):
    x = torch.relu(torch.randn(50, 64, generator=rng))
    torch.manual_seed(0)
    layers = [part for _ in range(6) for part in (nn.Linear(64, 64), nn.ReLU())]

    def cosine(network):
        unit = nn.functional.normalize(network(x).detach(), dim=1)
        return (unit @ unit.T).mean().item()

    network = nn.Sequential(*layers)
    collapsed = cosine(network)
    spread = network(x).std(dim=0).mean().item()
    assert collapsed > 0.99
    assert cosine(init_weights(network)) < collapsed
    assert network(x).std(dim=0).mean().item() > 20 * spread


def test_first_weights_of_recurrences_are_orthogonal_by_gate():
    lstm = init_weights(nn.LSTM(5, 7, num_layers=2, bidirectional=True, proj_size=0))
    gru = init_weights(nn.GRU(5, 7))
    for network, n_gates in ((lstm, 4), (gru, 3)):
        for name, weight in network.named_parameters():
            gates = weight.detach().chunk(n_gates)
            if name.startswith("weight_hh"):
                for gate in gates:
                    torch.testing.assert_close(gate @ gate.T, torch.eye(7), atol=1e-5, rtol=0)
            elif name.startswith("weight_ih"):
                bound = math.sqrt(6 / (7 + weight.shape[1]))
                assert all(0.5 * bound < gate.abs().max() <= bound for gate in gates)
            else:
                forget = n_gates == 4 and name.startswith("bias_ih")
                for i, gate in enumerate(gates):
                    assert (gate == (1.0 if forget and i == 1 else 0.0)).all()


def test_other_layers_keep_their_first_weights():
    network = nn.ModuleList([nn.Embedding(5, 3), nn.BatchNorm1d(4)])
    before = [weight.detach().clone() for weight in network.parameters()]
    init_weights(network)
    assert all(torch.equal(one, two) for one, two in zip(before, network.parameters()))


def test_standardised_features_have_the_moments_of_the_real_elements(rng):
    values = 5 + 3 * torch.randn(40, 6, 4, generator=rng)
    values[..., 2] = 0.1
    mask = torch.rand(40, 6, generator=rng) < 0.5
    blocks = [Items(*parts) for parts in zip(values.split(7), mask.split(7))]
    module = Standardize(4)
    assert torch.equal(module(values), values)
    assert module.fit(blocks) is module
    real = values[mask].double().numpy()
    np.testing.assert_allclose(module.mean, real.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(module.scale, [*real.std(axis=0)[:2], 1, real.std(axis=0)[3]], 1e-5)
    found = module(values)[mask]
    np.testing.assert_allclose(found.mean(dim=0), np.zeros(4), atol=1e-5)
    np.testing.assert_allclose(found.std(dim=0, correction=0), [1, 1, 0, 1], atol=1e-5)
    dense = Standardize(4).fit([Items(values[:, 0])])
    np.testing.assert_allclose(dense.mean, values[:, 0].mean(dim=0), rtol=1e-6)
    assert set(module.state_dict()) == {"mean", "scale"}


def test_features_of_another_width_are_not_standardised():
    with pytest.raises(ValueError, match=r"has 3 features, got items of shape \(5, 4\)"):
        Standardize(3).fit([Items(torch.zeros(5, 4))])
    nothing = Items(torch.zeros(2, 3, 4), torch.zeros(2, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="no items to fit"):
        Standardize(4).fit([nothing])


@pytest.mark.parametrize("length", [48, 60, 61])
def test_char_cnn_equals_the_convolutions_of_torch(rng, length):
    """Of one-hot rows and of ids, with the gradients of all weights."""
    net = CharCNN(5, (4, 6, 3)).double()
    ids = torch.randint(0, 6, (3, length), generator=rng)
    onehot = torch.nn.functional.one_hot(ids, 6)[..., 1:].double()
    weights = list(net.parameters())
    x = onehot.transpose(1, 2)
    for weight, bias in zip(weights[:-2:2], weights[1:-2:2]):
        x = nn.functional.max_pool1d(torch.relu(nn.functional.conv1d(x, weight, bias)), 3)
    plain = torch.relu(nn.functional.conv1d(x, *weights[-2:])).transpose(1, 2)
    factors = torch.rand(plain.shape, generator=rng, dtype=torch.float64)
    expected = torch.autograd.grad((plain * factors).sum(), weights)
    for given in (onehot, ids, ids.to(torch.uint8)):
        found = net(given)
        torch.testing.assert_close(found, plain)
        gradients = torch.autograd.grad((found * factors).sum(), weights)
        torch.testing.assert_close(gradients, expected)


def test_wrong_parameters_are_named():
    for call, says in [
        (lambda: MLPBranch([3, 0]), "sizes must be the input width and one or more layers, int"),
        (lambda: MLPBranch([3, 2.5]), "integers of at least 1"),
        (lambda: MLPBranch(3), "integers of at least 1, got 3"),
        (lambda: MLPBranch([3, 2], dropout=1.0), "'dropout' parameter of MLPBranch must be"),
        (lambda: MLPBranch([3, 2], dropout="a"), "'dropout' parameter of MLPBranch"),
        (lambda: MLPBranch([3, 2], batch_norm="False"), "'batch_norm' parameter of MLPBranch"),
        (lambda: MLPBranch([3, 2], activation="relu"), "'activation' parameter of MLPBranch"),
        (lambda: AttentionPool(0), "'width' parameter of AttentionPool"),
        (lambda: AttentionPool(True), "'width' parameter of AttentionPool"),
        (lambda: AttentionPool(3, "none"), "'kind' parameter of AttentionPool"),
        (lambda: AttentionPool(3, hidden=-1), "'hidden' parameter of AttentionPool"),
        (lambda: AttentionPool(3, activation="tanh"), "'activation' parameter of AttentionPool"),
        (lambda: BilinearAttention(3, 2.5), "'width' parameter of BilinearAttention"),
        (lambda: CharCNN(alphabet=0), "'alphabet' parameter of CharCNN"),
        (lambda: CharCNN(channels=()), "channels must be those of every convolution"),
        (lambda: masked_softmax(torch.zeros(2, 2), torch.ones(2, 2)), "mask must be a bool tensor"),
        (lambda: grad_reverse(torch.zeros(2), "a"), "'strength' parameter of grad_reverse"),
        (lambda: grad_reverse(3), "'x' parameter of grad_reverse"),
        (lambda: grad_reverse_schedule(2.0), "'progress' parameter of grad_reverse_schedule"),
        (lambda: grad_reverse_schedule(0.5, -1e9), "'steepness' parameter"),
        (lambda: Standardize(0), "'width' parameter of Standardize"),
        (lambda: Standardize(2, 3), "'view' parameter of Standardize"),
        (lambda: init_weights(nn.Linear(2, 2), "swish"), "'nonlinearity' parameter"),
        (lambda: init_weights(torch.zeros(2)), "'module' parameter of init_weights"),
    ]:
        with pytest.raises(ValueError, match=says):
            call()
