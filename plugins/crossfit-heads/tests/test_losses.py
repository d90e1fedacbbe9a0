"""The losses of contrastive heads against loops over their definitions."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from crossfit_heads.losses import (
    barlow_loss,
    info_nce,
    sigmoid_loss,
    structure_loss,
    vicreg_loss,
)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def _masked(n=7, m=10):
    """Return scores, and masks in which every kind of column occurs."""
    rng = np.random.default_rng(0)
    scores = torch.from_numpy(rng.uniform(-1, 1, (n, m)))
    kind = rng.choice(3, (n, m), p=[0.5, 0.2, 0.3])  # negative, positive, neither
    kind[np.arange(n), np.arange(n)] = 1
    return scores, torch.from_numpy(kind == 1), torch.from_numpy(kind == 0)


# ---- InfoNCE -----------------------------------------------------------------------------------


def test_info_nce_is_the_loop_over_its_definition():
    scores, positives, negatives = _masked()
    total = 0.0
    for i, row in enumerate(scores.tolist()):
        own = [j for j in range(len(row)) if positives[i, j]]
        known = own + [j for j in range(len(row)) if negatives[i, j]]
        below = sum(math.exp(5 * row[j]) for j in known)
        total += sum(-math.log(math.exp(5 * row[j]) / below) for j in own) / len(own)
    found = info_nce(scores, 5.0, positives, negatives)
    assert found.item() == pytest.approx(total / len(scores), rel=1e-12)


@pytest.mark.parametrize("first", [0, 3])
def test_info_nce_without_siblings_is_the_cross_entropy(first):
    scores = _masked()[0]
    own = torch.arange(first, first + 7)
    expected = F.cross_entropy(5.0 * scores, own)
    assert info_nce(scores, 5.0, first=first) == expected
    positives = F.one_hot(own, 10).bool()
    torch.testing.assert_close(info_nce(scores, 5.0, positives, ~positives), expected)
    torch.testing.assert_close(info_nce(scores, 5.0, positives), expected)
    torch.testing.assert_close(info_nce(scores, 5.0, negatives=~positives, first=first), expected)


def test_info_nce_of_a_sibling_is_lowest_if_it_scores_as_high_as_the_own_caption():
    positives = torch.tensor([[True, True, False]])
    losses = [
        info_nce(torch.tensor([[1.0, s, 0.0]]), 3.0, positives, ~positives).item()
        for s in (0.0, 0.9, 1.0, 1.1, 2.0)
    ]
    assert min(losses) == losses[2]
    left_out = info_nce(torch.tensor([[1.0, 99.0, 0.0]]), 3.0, positives & False | F.one_hot(
        torch.tensor([0]), 3).bool(), torch.tensor([[False, False, True]]))  # fmt: skip
    assert left_out.item() == pytest.approx(math.log(1 + math.exp(-3)), rel=1e-5)


# ---- sigmoid -----------------------------------------------------------------------------------


def test_sigmoid_loss_is_the_loop_over_its_definition():
    scores, positives, negatives = _masked()
    total = 0.0
    for i, row in enumerate(scores.tolist()):
        for j, s in enumerate(row):
            y = int(positives[i, j]) - int(negatives[i, j])
            if y:
                total += math.log(1 + math.exp(-y * (4 * s - 2)))
    found = sigmoid_loss(scores, 4.0, -2.0, positives, negatives)
    assert found.item() == pytest.approx(total / len(scores), rel=1e-12)


def test_sigmoid_loss_in_closed_form():
    # All scores 0: every pair costs log(1 + e^10), every other one log(1 + e^-10).
    n = 6
    found = sigmoid_loss(torch.zeros(n, n, dtype=torch.float64), 10.0, -10.0)
    expected = math.log1p(math.exp(10)) + (n - 1) * math.log1p(math.exp(-10))
    assert found.item() == pytest.approx(expected, rel=1e-12)
    S = torch.randn(4, 9, dtype=torch.float64)
    z = torch.full((4, 9), -1.0, dtype=torch.float64)
    z[torch.arange(4), torch.arange(2, 6)] = 1.0
    expected = -F.logsigmoid(z * (3 * S - 1)).sum() / 4
    torch.testing.assert_close(sigmoid_loss(S, 3.0, -1.0, first=2), expected)


# ---- VICReg and Barlow Twins -------------------------------------------------------------------


def test_vicreg_is_its_definition(generator):
    x, z = (0.5 * torch.randn(9, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    x[:, 0] *= 5  # above a deviation of 1, where the hinge is not active
    X, Z = x.numpy(), z.numpy()
    n, d = X.shape
    s = sum((X[i, j] - Z[i, j]) ** 2 for i in range(n) for j in range(d)) / (n * d)
    v, c = 0.0, 0.0
    for A in (X, Z):
        C = np.cov(A.T)
        v += sum(max(0.0, 1 - math.sqrt(C[j, j] + 1e-4)) for j in range(d)) / d / 2
        c += sum(C[i, j] ** 2 for i in range(d) for j in range(d) if i != j) / d
    assert vicreg_loss(x, z).item() == pytest.approx(25 * s + 25 * v + c, rel=1e-9)
    assert vicreg_loss(x, z, (1, 0, 0)).item() == pytest.approx(s, rel=1e-9)
    assert vicreg_loss(x, z, (0, 1, 0)).item() == pytest.approx(v, rel=1e-9)
    assert vicreg_loss(x, z, (0, 0, 1)).item() == pytest.approx(c, rel=1e-9)


def test_barlow_is_its_definition(generator):
    x, z = (torch.randn(30, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    C = np.corrcoef(x.numpy().T, z.numpy().T)[:4, 4:]
    expected = sum(
        (1 - C[i, j]) ** 2 if i == j else 0.01 * C[i, j] ** 2 for i in range(4) for j in range(4)
    )
    assert barlow_loss(x, z, 0.01).item() == pytest.approx(expected, rel=1e-3)
    q, _ = torch.linalg.qr(x - x.mean(dim=0))  # perfectly correlated and not redundant
    assert barlow_loss(100 * q, 300 * q + 1).item() == pytest.approx(0, abs=1e-6)


# ---- STRUCTURE ---------------------------------------------------------------------------------


def test_structure_is_the_loop_over_its_definition(generator):
    x = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    z = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    neighbours = []
    for A in (x.numpy(), z.numpy()):
        A = A / np.linalg.norm(A, axis=1, keepdims=True)
        A = A - A.mean(axis=0)
        E = np.exp(A @ A.T / 0.2)
        neighbours.append(E / E.sum(axis=1, keepdims=True))
    total = 0.0
    for level in (1, 2, 3):
        P, Q = (np.linalg.matrix_power(A, level) for A in neighbours)
        M = (P + Q) / 2
        divergence = [
            sum(p * math.log(p / m) + q * math.log(q / m) for p, q, m in zip(*rows)) / 2
            for rows in zip(P, Q, M)
        ]
        total += np.mean(divergence) / level
    assert structure_loss(x, z, 0.2, 3).item() == pytest.approx(total / 3, rel=1e-8)


def test_structure_is_zero_for_maps_that_keep_all_cosines(generator):
    x = torch.randn(20, 5, generator=generator, dtype=torch.float64)
    rotation, _ = torch.linalg.qr(torch.randn(5, 5, generator=generator, dtype=torch.float64))
    assert structure_loss(x, x).item() == 0
    assert structure_loss(x, 3 * x @ rotation).item() == pytest.approx(0, abs=1e-9)
    z = torch.randn(20, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    assert 0.1 < structure_loss(x, z).item() < (1 + 1 / 2) / 2 * math.log(2)
    # In float32 most of these probabilities are 0.
    sharp = z.detach().float().requires_grad_()
    structure_loss(x.float(), sharp, 0.01).backward()
    assert sharp.grad.isfinite().all() and sharp.grad.any()


# ---- all ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["info_nce", "sigmoid", "vicreg", "barlow", "structure"])
def test_gradients_are_those_of_finite_differences(name, generator):
    scores, positives, negatives = _masked(4, 6)
    x, z = (torch.randn(8, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    t, b = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (3.0, -1.0))
    loss, inputs = {
        "info_nce": (lambda s, t: info_nce(s, t, positives, negatives), [scores, t]),
        "sigmoid": (lambda s, t, b: sigmoid_loss(s, t, b, positives, negatives), [scores, t, b]),
        "vicreg": (vicreg_loss, [x, z]),
        "barlow": (barlow_loss, [x, z]),
        "structure": (lambda z: structure_loss(x, z), [z]),
    }[name]
    assert torch.autograd.gradcheck(loss, [part.requires_grad_() for part in inputs])


@pytest.mark.parametrize("loss", [vicreg_loss, barlow_loss, structure_loss])
def test_the_order_of_pairs_does_not_matter(loss, generator):
    x, z = (torch.randn(12, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    order = torch.randperm(12, generator=generator)
    torch.testing.assert_close(loss(x[order], z[order]), loss(x, z))
