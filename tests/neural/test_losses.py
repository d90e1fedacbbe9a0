"""Losses against torch's own, naive loops, closed forms and gradcheck."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import MultiMarginLoss

from crossfit.neural import cca_loss, label_loss, triplet_loss, whitened
from crossfit.subspace import CCA


def _scores(n, m, seed=0):
    return torch.randn(n, m, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_label_loss_is_torchs_over_the_labelled_rows():
    logits, y = _scores(6, 4), torch.tensor([2, -1, 0, 3, -1, 1])
    expected = torch.nn.CrossEntropyLoss()(logits[y >= 0], y[y >= 0])
    torch.testing.assert_close(label_loss(logits, y), expected)
    assert label_loss(logits, torch.full((6,), -1)) == 0


def test_summed_hinges_are_torchs_multi_margin_loss():
    S = _scores(7, 7)
    expected = 7 * MultiMarginLoss(margin=0.4)(S, torch.arange(7))
    torch.testing.assert_close(triplet_loss(S, margin=0.4), expected)


def _loop(S, positives, negatives, margin, pick, mean):
    terms = []
    for i in range(S.shape[0]):
        wrong = sorted((S[i, j].item() for j in range(S.shape[1]) if negatives[i, j]), reverse=True)
        for p in range(S.shape[1]):
            if positives[i, p]:
                hinges = [max(0.0, margin - S[i, p].item() + s) for s in pick(wrong)]
                terms.append(sum(hinges) / (max(len(hinges), 1) if mean else 1))
    return sum(terms) / max(len(terms), 1)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 8),
    st.integers(1, 8),
    st.integers(0, 10_000),
    st.floats(0, 2),
    st.integers(1, 9),
)
def test_mining_is_the_loop_over_rows(n, m, seed, margin, k):
    S = _scores(n, m, seed)
    rng = np.random.default_rng(seed)
    positives = torch.tensor(rng.random((n, m)) < 0.3)
    negatives = torch.tensor(rng.random((n, m)) < 0.5) & ~positives
    picks = {
        "sum": lambda w: w,
        "all": lambda w: w,
        "hardest": lambda w: w[:1],
        "top-k": lambda w: w[:k],
    }
    for mining, pick in picks.items():
        found = triplet_loss(S, positives, negatives, margin=margin, mining=mining, k=k)
        expected = _loop(S, positives, negatives, margin, pick, mining != "sum")
        assert found.item() == pytest.approx(expected, abs=1e-9)


def test_the_mean_over_all_negatives_does_not_depend_on_the_batch():
    S = _scores(6, 6)
    twice = S.repeat(2, 2)
    same = torch.eye(6, dtype=torch.bool).repeat(2, 2)
    small = triplet_loss(S, margin=0.5, mining="all")
    torch.testing.assert_close(triplet_loss(twice, same, margin=0.5, mining="all"), small)
    summed = triplet_loss(S, margin=0.5)
    torch.testing.assert_close(triplet_loss(twice, same, margin=0.5), 2 * summed)
    torch.testing.assert_close(summed, 5 * small)
    torch.testing.assert_close(triplet_loss(S, margin=0.5, mining="top-k", k=5), small)


def test_a_random_negative_is_drawn_evenly_among_the_allowed():
    S = torch.tensor([[0.0, 1.0, 2.0, 4.0]])
    positives = torch.tensor([[True, False, False, False]])
    negatives = torch.tensor([[False, True, True, False]])
    with torch.random.fork_rng():
        torch.random.default_generator.manual_seed(0)
        drawn = [
            triplet_loss(S, positives, negatives, margin=1.0, mining="random").item()
            for _ in range(400)
        ]
    assert set(drawn) == {2.0, 3.0}
    assert 150 < drawn.count(2.0) < 250


def test_rows_without_negatives_or_positives_add_nothing():
    S = _scores(3, 3).requires_grad_()
    nothing = torch.zeros(3, 3, dtype=torch.bool)
    for mining in ("sum", "all", "hardest", "top-k", "random"):
        for positives, negatives in ((nothing, None), (torch.eye(3).bool(), nothing)):
            loss = triplet_loss(S, positives, negatives, mining=mining, k=2)
            assert loss.item() == 0
            (gradient,) = torch.autograd.grad(loss, S, allow_unused=True)
            assert gradient is None or (gradient == 0).all()


def test_gradients_of_all_minings_are_right():
    positives = torch.eye(5, dtype=torch.bool)
    for mining in ("sum", "all", "hardest", "top-k"):
        S = _scores(5, 5, 3).requires_grad_()
        assert torch.autograd.gradcheck(
            lambda s, mining=mining: triplet_loss(s, positives, mining=mining, margin=1.0, k=2), S
        )


def test_wrong_arguments_are_named():
    S = _scores(3, 4)
    with pytest.raises(ValueError, match=r"positives must be a bool tensor .*\(3, 4\)"):
        triplet_loss(S, torch.eye(3).bool())
    with pytest.raises(ValueError, match="negatives"):
        triplet_loss(S, None, torch.zeros(3, 4))
    with pytest.raises(ValueError, match="mining"):
        triplet_loss(S, mining="easy")
    with pytest.raises(ValueError, match="k must"):
        triplet_loss(S, mining="top-k", k=0)


def _two_views(n=200, p=6, q=4, seed=0):
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(n, 3))
    X = Z @ rng.normal(size=(3, p)) + rng.normal(size=(n, p))
    return X, Z @ rng.normal(size=(3, q)) + rng.normal(size=(n, q))


def test_cca_loss_of_identity_nets_is_minus_the_sum_of_correlations():
    from statsmodels.multivariate.cancorr import CanCorr

    X, Y = _two_views()
    found = cca_loss(torch.from_numpy(X), torch.from_numpy(Y), reg=0.0)
    expected = CanCorr(Y, X).cancorr
    assert found.item() == pytest.approx(-expected.sum(), rel=1e-10)
    two = cca_loss(torch.from_numpy(X), torch.from_numpy(Y), reg=0.0, n_components=2)
    assert two.item() == pytest.approx(-np.sort(expected)[-2:].sum(), rel=1e-10)


def test_cca_loss_with_a_ridge_is_our_cca():
    X, Y = _two_views(seed=1)
    found = cca_loss(torch.from_numpy(X), torch.from_numpy(Y), reg=0.5)
    fitted = CCA(reg=0.5, reg_style="ridge").fit(X, Y)
    assert found.item() == pytest.approx(-fitted.correlations_.sum(), rel=1e-10)


def test_cca_loss_has_the_published_gradient():
    X, Y = (torch.from_numpy(part[:12]).requires_grad_() for part in _two_views())
    assert torch.autograd.gradcheck(lambda a, b: cca_loss(a, b, reg=0.1), (X, Y))
    (found,) = torch.autograd.grad(cca_loss(X, Y, reg=0.1), X)
    # Andrew et al. (2013), equations 11 to 13, for rows as samples.
    H, G = (Z.detach() - Z.detach().mean(dim=0) for Z in (X, Y))
    m = len(H)

    def root(S):
        values, vectors = torch.linalg.eigh(S)
        return vectors @ torch.diag(values**-0.5) @ vectors.T

    A = root(H.T @ H / (m - 1) + 0.1 * torch.eye(6))
    B = root(G.T @ G / (m - 1) + 0.1 * torch.eye(4))
    U, D, Vt = torch.linalg.svd(A @ (H.T @ G / (m - 1)) @ B, full_matrices=False)
    N12, N11 = A @ U @ Vt @ B, -0.5 * A @ U @ torch.diag(D) @ U.T @ A
    torch.testing.assert_close(found, -(2 * H @ N11 + G @ N12.T) / (m - 1))


def test_cca_loss_has_finite_gradients_where_correlations_coincide():
    X = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = cca_loss(X, X * 1.0)
    (gradient,) = torch.autograd.grad(loss, X)
    assert loss.dtype == torch.float32 and torch.isfinite(gradient).all()


def test_cca_loss_of_more_views_is_the_sum_over_pairs_with_a_ridge_for_each():
    X, Y = (torch.from_numpy(part) for part in _two_views())
    Z = torch.from_numpy(_two_views(seed=2)[0]) + X
    views, ridges = [X, Y, Z], [0.1, 0.0, 2.0]
    found = cca_loss(*views, reg=ridges)
    pairs = [cca_loss(views[i], views[j], reg=[ridges[i], ridges[j]])
             for i, j in ((0, 1), (0, 2), (1, 2))]  # fmt: skip
    assert found.item() == pytest.approx(sum(pairs).item(), rel=1e-12)
    fitted = CCA(reg={"image": 0.1, "text": 2.0}, reg_style="ridge").fit(X.numpy(), Z.numpy())
    assert pairs[1].item() == pytest.approx(-fitted.correlations_.sum(), rel=1e-9)
    small = [part[:12].clone().requires_grad_() for part in views]
    assert torch.autograd.gradcheck(lambda *parts: cca_loss(*parts, reg=[0.1, 0.2, 2.0]), small)


def test_whitened_outputs_have_the_covariance_1_and_the_correlations_as_singular_values():
    X, Y = (torch.from_numpy(part) for part in _two_views())
    A, B = whitened(X, Y)
    torch.testing.assert_close(A.T @ A, torch.eye(6, dtype=A.dtype))
    expected = CCA(reg=0).fit(X.numpy(), Y.numpy()).correlations_
    np.testing.assert_allclose(torch.linalg.svdvals(A.T @ B).numpy(), expected, rtol=1e-9)


def test_cca_loss_of_outputs_that_are_not_finite_is_nan():
    X, Y = (torch.from_numpy(part) for part in _two_views())
    for bad in (float("nan"), float("inf")):
        assert cca_loss(torch.cat([X[:-1], torch.full((1, 6), bad)]), Y).isnan()


def test_cca_loss_ignores_shifts_and_refuses_unequal_batches():
    X, Y = (torch.from_numpy(part) for part in _two_views())
    torch.testing.assert_close(cca_loss(X + 5, Y - 3), cca_loss(X, Y))
    with pytest.raises(ValueError, match="the same number of rows"):
        cca_loss(X, Y[1:])
    with pytest.raises(ValueError, match="at least 2"):
        cca_loss(X[:1], Y[:1])


def test_arguments_of_another_kind_are_named():
    scores, y = torch.zeros(3, 3), torch.tensor([0, 1, 2])
    for call, says in [
        (lambda: label_loss(scores, y.float()), "int64 class numbers"),
        (lambda: label_loss(scores, y[:2]), r"shapes \(3, 3\) and \(2,\)"),
        (lambda: label_loss(scores[0], y), "logits of shape"),
        (lambda: label_loss(scores, y + 1), "class numbers must be from -1 to 2, got 1 to 3"),
        (lambda: label_loss(scores, y - 2), "got -2 to 0"),
        (lambda: triplet_loss(scores[0]), r"scores must be of shape \(n, m\)"),
        (lambda: triplet_loss(scores, margin="a"), "margin must be a finite number, got 'a'"),
        (lambda: triplet_loss(scores, margin=float("nan")), "margin must be a finite number"),
        (lambda: triplet_loss(scores, mining="top-k", k=1.5), "k must be an integer"),
        (lambda: triplet_loss(scores, mining="top-k", k=True), "k must be an integer"),
        (lambda: triplet_loss(scores, mining=None), "mining must be"),
        (
            lambda: cca_loss(scores, scores, reg=-1),
            "reg must be a number of at least 0, or one for each of 2 views, got -1",
        ),
        (lambda: cca_loss(scores, scores, reg=[0.1]), r"each of 2 views, got \[0.1\]"),
        (lambda: cca_loss(scores, scores, scores, reg=(1, 2)), r"of 3 views, got \(1, 2\)"),
        (
            lambda: cca_loss(scores, scores, reg=0),
            r"of 3 outputs over 3 rows is singular with "
            "reg=0; set reg above 0",
        ),
        (lambda: cca_loss(scores, scores, reg="a"), "reg must be"),
        (lambda: cca_loss(scores, scores, n_components=0), "n_components must be an integer"),
        (lambda: cca_loss(scores, scores, n_components=1.0), "n_components must be an integer"),
        (lambda: cca_loss(scores[0], scores), r"shape \(b, d\) and \(b, e\), got \(3,\)"),
    ]:
        with pytest.raises(ValueError, match=says):
            call()
