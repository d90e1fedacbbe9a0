"""Restricted Boltzmann machines against enumerated states, finite differences and closed forms."""

import copy
import itertools

import numpy as np
import pytest
import torch
from scipy.special import expit, logsumexp, softmax
from torch import nn

from crossfit.cards import MethodCard
from crossfit.neural import (
    RBM,
    NeuralEstimator,
    RBMSchedule,
    RBMStack,
    Standardize,
    pretrain_rbms,
)
from crossfit.neural.rbm import per_layer, phase_of

KINDS = ["bernoulli", "gaussian", "replicated-softmax"]


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def machine(kind, rng, n_visible=4, n_hidden=3, **settings):
    rbm = RBM(n_visible, n_hidden, kind, **settings).double()
    with torch.no_grad():
        for part in rbm.parameters():
            part.copy_(torch.randn(part.shape, generator=rng, dtype=torch.float64))
    return rbm


def energy(rbm, v, h):
    """Return E(v, h) as printed."""
    W, c, b = (part.detach().numpy() for part in (rbm.weight, rbm.hidden_bias, rbm.visible_bias))
    words = v.sum() if rbm.kind == "replicated-softmax" else 1
    alone = ((v - b) ** 2).sum() / 2 if rbm.kind == "gaussian" else -b @ v
    return alone - words * (c @ h) - h @ W @ v


def rows(kind, rng, n=5):
    if kind == "gaussian":
        return torch.randn(n, 4, generator=rng, dtype=torch.float64)
    if kind == "bernoulli":
        return torch.randint(0, 2, (n, 4), generator=rng).double()
    return torch.randint(0, 5, (n, 4), generator=rng).double()


HIDDEN = [np.array(h, dtype=float) for h in itertools.product((0, 1), repeat=3)]


@pytest.mark.parametrize("kind", KINDS)
def test_free_energy_is_the_sum_over_the_hidden_states(rng, kind):
    rbm = machine(kind, rng)
    v = rows(kind, rng)
    expected = [-logsumexp([-energy(rbm, row, h) for h in HIDDEN]) for row in v.numpy()]
    found = rbm.free_energy(v)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found.detach(), expected, rtol=1e-8)
    # Probabilities of the hidden units, by Bayes' rule over the same states.
    for row, p in zip(v.numpy(), rbm.hidden(v).detach().numpy()):
        weights = softmax([-energy(rbm, row, h) for h in HIDDEN])
        np.testing.assert_allclose(p, weights @ np.array(HIDDEN), rtol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_the_free_energy_are_finite_differences(rng, kind):
    rbm = machine(kind, rng)
    v = rows(kind, rng)
    names = [name for name, _ in rbm.named_parameters()]

    def energies(v, *weights):
        return torch.func.functional_call(rbm, dict(zip(names, weights)), v, strict=True)

    rbm.forward = rbm.free_energy
    weights = [part.detach().clone().requires_grad_() for part in rbm.parameters()]
    v = v + (0.5 if kind == "replicated-softmax" else 0)
    assert torch.autograd.gradcheck(energies, (v.requires_grad_(), *weights))


@pytest.mark.parametrize("kind", KINDS)
def test_flipping_a_unit_changes_the_free_energy_by_its_log_odds(rng, kind):
    """The means given h are the derivatives of the energy; for one binary unit, its log-odds."""
    rbm = machine(kind, rng)
    for h in HIDDEN:
        mean = rbm.visible(torch.tensor(h)[None], 3.0)[0].detach().numpy()
        flipped = []
        for i in range(4):
            low, high = np.zeros(4), np.zeros(4)
            high[i] = 1.0
            if kind == "replicated-softmax":  # one more word; the bias of words is common to all
                low, high = 2 * np.eye(4)[0], 2 * np.eye(4)[0] + np.eye(4)[i]
            flipped.append(energy(rbm, low, h) - energy(rbm, high, h))
        if kind == "bernoulli":
            np.testing.assert_allclose(mean, expit(flipped), rtol=1e-8)
        elif kind == "gaussian":
            np.testing.assert_allclose(mean, np.array(flipped) + 0.5, rtol=1e-8)
        else:
            np.testing.assert_allclose(mean, 3 * softmax(flipped), rtol=1e-8)


def exact_gradient(rbm, v):
    """Return the gradients of the mean negative log-likelihood of binary rows, by enumeration."""
    states = torch.tensor(list(itertools.product((0.0, 1.0), repeat=v.shape[1])), dtype=v.dtype)
    loss = rbm.free_energy(v).mean() + torch.logsumexp(-rbm.free_energy(states), dim=0)
    return torch.autograd.grad(loss, list(rbm.parameters()))


def cd_gradient(rbm, v, k, rng, repeats):
    big = v.repeat(repeats, 1)
    return torch.autograd.grad(rbm.contrast(big, k, rng), list(rbm.parameters()))


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_that_of_the_difference_of_free_energies(rng, kind):
    rbm = machine(kind, rng, l2=0.3).float()
    v = rows(kind, rng).float() + (kind == "replicated-softmax")
    words = v.sum(dim=1) if kind == "replicated-softmax" else 1.0
    state = rng.get_state()
    end = rbm.gibbs(v, 2, rng)
    loss = ((rbm.free_energy(v) - rbm.free_energy(end)) / words).mean()
    expected = torch.autograd.grad(loss + 0.15 * rbm.weight.square().sum(), list(rbm.parameters()))
    rng.set_state(state)
    found = torch.autograd.grad(2 * rbm.contrast(v, 2, rng), list(rbm.parameters()))
    for a, b in zip(found, expected):
        torch.testing.assert_close(a, 2 * b)


def test_long_chains_have_the_exact_gradient(rng):
    rbm = machine("bernoulli", rng, sample_visible=True).float()
    v = rows("bernoulli", rng).float()
    exact = exact_gradient(rbm, v)
    long = cd_gradient(rbm, v, 60, rng, 20_000)
    for a, b in zip(long, exact):
        torch.testing.assert_close(a, b, atol=0.01, rtol=0)
    # One step is biased, but points the same way.
    short = cd_gradient(rbm, v, 1, rng, 20_000)
    assert max((a - b).abs().max().item() for a, b in zip(short, exact)) > 0.02
    flat = [torch.cat([g.flatten() for g in gradients]) for gradients in (short, exact)]
    assert torch.cosine_similarity(*flat, dim=0) > 0.7


def test_persistent_chains_have_the_exact_gradient_after_few_steps_each(rng):
    rbm = machine("bernoulli", rng, sample_visible=True, n_chains=50_000).float()
    v = rows("bernoulli", rng).float()
    for _ in range(60):
        found = torch.autograd.grad(rbm.contrast(v, 1, rng), list(rbm.parameters()))
    for a, b in zip(found, exact_gradient(rbm, v)):
        torch.testing.assert_close(a, b, atol=0.01, rtol=0)
    # In evaluation the chains stay where they are.
    kept = rbm.eval().chains.clone()
    rbm.contrast(v, 1, rng)
    assert torch.equal(rbm.chains, kept)


def test_words_have_the_exact_gradient_too(rng):
    """Documents of two words over four: all 16 of them are enumerated."""
    rbm = machine("replicated-softmax", rng, sample_visible=True).float()
    documents = torch.stack(
        [torch.eye(4)[i] + torch.eye(4)[j] for i, j in itertools.product(range(4), repeat=2)]
    )
    v = documents[[0, 1, 6, 11, 11]]
    loss = rbm.free_energy(v).mean() + torch.logsumexp(-rbm.free_energy(documents), dim=0)
    exact = torch.autograd.grad(loss / 2, list(rbm.parameters()))  # per word
    for a, b in zip(cd_gradient(rbm, v, 60, rng, 20_000), exact):
        torch.testing.assert_close(a, b, atol=0.015, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_samples_have_the_means(rng, kind):
    rbm = machine(kind, rng).float()
    mean = rbm.visible(torch.tensor([[1.0, 0.0, 1.0]]), 7.0).detach().expand(40_000, 4)
    words = torch.full((40_000, 1), 7.0)
    drawn = rbm.sample(mean, words, rng)
    torch.testing.assert_close(drawn.mean(dim=0), mean[0], atol=0.05, rtol=0)
    if kind == "replicated-softmax":
        assert (drawn.sum(dim=1) == 7).all() and (drawn == drawn.round()).all()
    if kind == "gaussian":
        torch.testing.assert_close(drawn.var(dim=0), torch.ones(4), atol=0.05, rtol=0)


def test_an_empty_document_stays_finite(rng):
    for settings in ({}, {"length": 100}, {"sample_visible": True}, {"sparsity": 0.2}):
        rbm = machine("replicated-softmax", rng, **settings).float()
        v = torch.tensor([[0.0, 0, 0, 0], [3, 0, 1, 0]])
        found = rbm.contrast(v, 2, rng)
        found.backward()
        values = [found, rbm.hidden(v), rbm.reconstruct(v), rbm.free_energy(v)]
        values += [part.grad for part in rbm.parameters()]
        assert all(torch.isfinite(value).all() for value in values), settings
    # All documents have the same length, and shares give what counts give.
    rbm = machine("replicated-softmax", rng, length=100)
    counts = rows("replicated-softmax", rng) + 1
    shares = counts / counts.sum(dim=1, keepdim=True)
    torch.testing.assert_close(rbm.hidden(counts), rbm.hidden(shares))
    torch.testing.assert_close(rbm.reconstruct(counts).sum(dim=1), torch.full((5,), 100.0).double())


def test_the_value_of_the_loss_is_the_error(rng):
    rbm = machine("gaussian", rng).float()
    v = rows("gaussian", rng).float()
    state = rng.get_state()
    found = rbm.contrast(v, 1, rng)
    # The error is that of the means, given a draw of the hidden units.
    rng.set_state(state)
    h = torch.bernoulli(rbm.hidden(v), generator=rng)
    expected = (v - rbm.visible(h)).square().sum(dim=1).mean()
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


def test_penalties_have_the_gradients_of_deepnet(rng):
    v = rows("gaussian", rng).float()
    state = rng.get_state()
    gradients = []
    for settings in ({}, {"l2": 0.5}, {"sparsity": 0.1, "sparsity_cost": 2.0}):
        rng.set_state(state)
        rbm = machine("gaussian", torch.Generator().manual_seed(1), **settings).float()
        gradients.append(torch.autograd.grad(rbm.contrast(v, 1, rng), list(rbm.parameters())))
    plain, decayed, sparse = gradients
    torch.testing.assert_close(decayed[0], plain[0] + 0.5 * rbm.weight)
    assert torch.equal(decayed[1], plain[1]) and torch.equal(decayed[2], plain[2])
    q = 0.9 * 0.1 + 0.1 * rbm.hidden(v).mean(dim=0).detach()
    torch.testing.assert_close(rbm.activity, q)
    slope = 2.0 * (q - 0.1) / (q * (1 - q))
    torch.testing.assert_close(sparse[1], plain[1] + slope)
    torch.testing.assert_close(sparse[0], plain[0] + slope[:, None] * v.mean(dim=0))
    assert torch.equal(sparse[2], plain[2])


def bars(rng, n=600):
    """Return pictures of 4 x 4 in which rows or columns are on."""
    on = torch.rand(n, 8, generator=rng) < 0.25
    pictures = on[:, :4, None] | on[:, None, 4:]
    return pictures.flatten(1).float()


def test_a_stack_learns_bars_and_is_repeatable(rng):
    x = bars(rng)
    found = []
    for _ in range(2):
        generator = torch.Generator().manual_seed(3)
        torch.manual_seed(3)
        stack = RBMStack([16, 32, 16], "bernoulli", sparsity=[0.2, None])
        errors = stack.fit(x, epochs=30, batch_size=50, lr=[0.2, 0.1], generator=generator)
        found.append((errors, stack.state_dict()))
    (errors, state), (again, same) = found
    assert errors == again and all(torch.equal(state[name], same[name]) for name in state)
    assert all(each[-1] < 0.5 * each[0] for each in errors)
    # Better than the best constant, by far.
    left = (stack.reconstruct(x) - x).square().sum(dim=1).mean()
    assert left < 0.4 * (x - x.mean(dim=0)).square().sum(dim=1).mean()
    # The second layer is above the first one.
    assert torch.equal(stack.encode(x), stack.rbms[1].hidden(stack.rbms[0].hidden(x)))
    assert torch.equal(stack.encode(x, 0), x) and stack.encode(x, 1).shape == (600, 32)


def test_words_that_occur_together_are_learnt(rng):
    """Two topics of three words each: a document's own words get the reconstruction."""
    topic = torch.arange(400) % 2
    words = torch.randint(0, 3, (400, 12), generator=rng) + 3 * topic[:, None]
    x = nn.functional.one_hot(words, 6).sum(dim=1).float()
    stack = RBMStack([6, 4], "replicated-softmax", weight_std=0.01)
    stack.fit(x, epochs=40, batch_size=40, lr=0.3, generator=rng)
    mean = stack.reconstruct(x)
    own = mean.view(400, 2, 3).sum(dim=2)[torch.arange(400), topic]
    assert own.mean() > 0.95 * 12


def test_layers_of_an_autoencoder_start_at_the_stack(rng):
    x = bars(rng)
    stack = RBMStack([16, 12, 5], "bernoulli")
    stack.fit(x, epochs=3, generator=rng)
    encoder = nn.Sequential(nn.Linear(16, 12), nn.Sigmoid(), nn.Linear(12, 5), nn.Sigmoid())
    decoder = nn.Sequential(nn.Linear(5, 12), nn.Sigmoid(), nn.Linear(12, 16), nn.Sigmoid())
    stack.initialize(encoder, decoder)
    torch.testing.assert_close(encoder(x), stack.encode(x))
    torch.testing.assert_close(decoder(encoder(x)), stack.reconstruct(x))
    deeper = nn.Sequential(nn.Linear(16, 12), nn.Linear(12, 5), nn.Linear(5, 2))
    kept = deeper[2].weight.clone()
    stack.initialize(deeper)
    assert torch.equal(deeper[1].weight, stack.rbms[1].weight) and torch.equal(
        deeper[2].weight, kept
    )
    with pytest.raises(ValueError, match="encoder must have linear layers"):
        stack.initialize(decoder)
    with pytest.raises(ValueError, match="decoder must have linear layers"):
        stack.initialize(encoder, nn.Linear(5, 16))
    counts = RBMStack([16, 12], "replicated-softmax", length=50)
    with torch.no_grad():
        counts.rbms[0].hidden_bias.normal_(generator=rng)
        counts.rbms[0].weight.normal_(generator=rng)
    counts.initialize(encoder)
    torch.testing.assert_close(encoder[:2](counts.rbms[0].scaled(x + 1)), counts.encode(x + 1))
    with pytest.raises(ValueError, match="set length"):
        RBMStack([16, 12], "replicated-softmax").initialize(encoder)


def test_the_schedule_is_that_of_deepnet():
    schedule = RBMSchedule(10_000, (0.5, 0.9), 5_000, k_after=15_000, k_every=5_000)
    assert schedule.at(0) == (1.0, 0.5, 0)
    factor, momentum, more = schedule.at(10_000)
    assert (factor, more) == (0.5, 0) and momentum == pytest.approx(0.9 - 0.4 * np.exp(-2))
    # gibbs_steps + 1 + (step - start) / every, once step > start.
    assert [schedule.at(t)[2] for t in (15_000, 15_001, 19_999, 20_000, 25_000)] == [0, 1, 1, 2, 3]
    assert RBMSchedule().at(10**6)[0] == 1.0


def test_every_layer_has_the_same_share_of_the_epochs():
    for n, epochs in ((3, 9), (7, 49), (2, 50), (3, 100)):
        layers = [phase_of(done / epochs, n) for done in range(epochs)]
        assert layers == sorted(layers) and set(layers) == set(range(n))
        counts = np.bincount(layers)
        assert counts.max() - counts.min() <= (epochs % n > 0)
    assert per_layer(3, 2, "k") == [3, 3] and per_layer([1, 2], 2, "k") == [1, 2]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RBM(0, 3), "n_visible"),
        (lambda: RBM(3, 3, "softmax"), "visible"),
        (lambda: RBM(3, 3, length=10), "length is for replicated-softmax"),
        (lambda: RBM(3, 3, sparsity=1.0), "sparsity"),
        (lambda: RBMStack([4]), "sizes"),
        (lambda: RBMStack([4, 3, 2], l2=[0.1]), r"l2 must be one value, or one per layer \(2\)"),
        (lambda: RBMStack([4, 3]).fit(torch.zeros(5, 3)), r"shape \(n, 4\), got \(5, 3\)"),
        (lambda: RBMStack([4, 3]).fit(torch.zeros(5, 4), epochs=0), "epochs"),
        (lambda: RBMSchedule(momentum=(0.5, 1.0)), "momentum"),
        (lambda: RBMSchedule(half_life=0), "half_life"),
    ],
)
def test_bad_arguments_are_one_sentence(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_weights_that_explode_are_an_error(rng):
    with pytest.raises(FloatingPointError, match="weights of layer 1 became NaN or infinite"):
        RBMStack([4, 3], "gaussian").fit(
            torch.randn(100, 4, generator=rng) * 1e4, epochs=40, lr=1e3
        )


class Code(nn.Module):
    """Two encoders whose first weights come from stacks."""

    def __init__(self, n_inputs):
        super().__init__()
        self.scaling = nn.ModuleDict({role: Standardize(n, role) for role, n in n_inputs.items()})
        self.encoders = nn.ModuleDict(
            {
                role: nn.Sequential(nn.Linear(n, 12), nn.Sigmoid(), nn.Linear(12, 6), nn.Sigmoid())
                for role, n in n_inputs.items()
            }
        )

    def encode(self, items, view):
        return self.encoders[view](self.scaling[view](items.values))


class Pretrained(NeuralEstimator):
    """Stacks alone: the loss has no gradient, so that the first weights stay."""

    card = MethodCard(
        api=1, name="pretrained", target=f"{__name__}:Pretrained", summary="Stacks",
        inputs={"image": ("vectors",), "text": ("vectors",)},
    )  # fmt: skip

    def _build_module(self, n_inputs, n_classes):
        return Code(n_inputs)

    def _first_weights(self, module, pairs):
        # The text's stack has one layer, so it rests while the second layer of the other learns.
        self.stacks = {
            "image": RBMStack([module.scaling["image"].mean.numel(), 12, 6], "gaussian"),
            "text": RBMStack([module.scaling["text"].mean.numel(), 12], "gaussian"),
        }
        self.before = {role: copy.deepcopy(stack) for role, stack in self.stacks.items()}
        pretrain_rbms(
            self,
            self.stacks,
            pairs,
            lambda batch, role: module.scaling[role](batch.views[role].values),
            epochs=8,
            batch_size=32,
            lr={"image": [0.01, 0.05], "text": 0.02},
            schedule=RBMSchedule(k_after=10),
        )
        for role, stack in self.stacks.items():
            stack.initialize(module.encoders[role])

    def _loss(self, outputs, batch):
        return sum(0 * part.sum() for part in outputs.values())


def test_a_method_pretrains_its_layers_in_its_own_loop(planted):
    views, _ = planted(200, dims=(9, 7))
    fits = [
        Pretrained(max_epochs=1, random_state=0, device="cpu", optimizer="SGD").fit(views)
        for _ in range(2)
    ]
    one, two = fits
    for role in ("image", "text"):
        stack = one.stacks[role]
        x = torch.tensor(np.asarray(views[role]), dtype=torch.float32)
        x = one.net_.module_.scaling[role](x)
        layers = [part for part in one.net_.module_.encoders[role] if isinstance(part, nn.Linear)]
        assert all(torch.equal(a.weight, b.weight) for a, b in zip(layers, stack.rbms))
        left = [
            (each.reconstruct(x) - x).square().sum(dim=1).mean().item()
            for each in (one.before[role], stack)
        ]
        assert left[1] < 0.8 * left[0], (role, left)
        same = two.stacks[role].state_dict()
        assert all(torch.equal(part, same[name]) for name, part in stack.state_dict().items())
        assert stack.rbms[0].more_steps > 0
