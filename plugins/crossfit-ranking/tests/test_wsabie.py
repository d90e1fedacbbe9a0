"""WSABIE: the WARP loss by loops, ranks, the norms of the columns, real captions."""

import math

import numpy as np
import pytest
import torch

from crossfit import Views, evaluate
from crossfit.neural import triplet_loss
from crossfit_ranking.draws import drawn, first_violations
from crossfit_ranking.testing import make_inputs
from crossfit_ranking.wsabie import WSABIE, rank_weights, warp_loss

SMALL = {"width": 12, "max_epochs": 4, "lr": 0.02, "batch_size": 30, "device": "cpu", "verbose": 0,
         "random_state": 0}  # fmt: skip


@pytest.fixture
def scored():
    """Scores of 6 images against 6 texts, of which 0 and 1 share an image."""
    S = torch.randn(6, 6, generator=torch.Generator().manual_seed(1))
    positives = torch.eye(6, dtype=torch.bool)
    positives[0, 1] = positives[1, 0] = True
    return S, positives, ~positives


def _harmonic(k):
    return sum(1 / i for i in range(1, k + 1))


def test_the_weights_of_ranks():
    torch.testing.assert_close(
        rank_weights(5), torch.tensor([_harmonic(k) for k in range(6)], dtype=torch.float32)
    )
    assert rank_weights(3, "rank").tolist() == [0, 1, 2, 3]
    assert rank_weights(3, "constant").tolist() == [0, 1, 1, 1]


def _warp_in_a_batch(S, positives, negatives, margin, weight):
    """The batch form, by a double loop."""
    found = []
    for i, p in positives.nonzero().tolist():
        hinges = [margin - (S[i, p] - S[i, n]).item() for n in range(6) if negatives[i, n]]
        violating = [h for h in hinges if h > 0]
        if violating:
            found.append(weight(len(violating)) * sum(violating) / len(violating))
        else:
            found.append(0.0)
    return sum(found) / len(found)


@pytest.mark.parametrize("margin", [0.1, 1.0])
@pytest.mark.parametrize(("kind", "weight"), [
    ("harmonic", _harmonic), ("rank", lambda k: k), ("constant", lambda k: 1)
])  # fmt: skip
def test_the_batch_form_is_that_of_a_double_loop(scored, margin, kind, weight):
    found = warp_loss(*scored, margin=margin, kind=kind, sampled=False)
    assert found.item() == pytest.approx(_warp_in_a_batch(*scored, margin, weight), abs=1e-6)


def test_with_l_of_the_rank_itself_it_is_the_plain_sum_of_hinges(scored):
    plain = triplet_loss(*scored, margin=1.0, mining="sum")
    torch.testing.assert_close(warp_loss(*scored, kind="rank", sampled=False), plain)


def test_with_constant_l_it_is_the_plain_hinge_of_the_drawn_negatives(scored):
    S, positives, negatives = scored
    row, column = positives.nonzero(as_tuple=True)
    torch.manual_seed(0)
    found = warp_loss(S, positives, negatives, kind="constant")
    torch.manual_seed(0)
    draws = drawn(negatives[row], replace=True).tolist()
    hinges = []
    for i, p, tried in zip(row.tolist(), column.tolist(), draws, strict=True):
        each = [1 - (S[i, p] - S[i, n]).item() for n in tried if n >= 0]
        hinges.append(next((h for h in each if h > 0), 0.0))
    assert found.item() == pytest.approx(sum(hinges) / len(hinges), abs=1e-6)


def test_the_sampled_loss_is_that_of_the_loop_of_the_paper(scored):
    S, positives, negatives = scored
    row, column = positives.nonzero(as_tuple=True)
    torch.manual_seed(3)
    found = warp_loss(S, positives, negatives, margin=0.5)
    torch.manual_seed(3)
    draws = drawn(negatives[row], replace=True)
    losses = []
    for i, p, tried in zip(row.tolist(), column.tolist(), draws.tolist(), strict=True):
        n_negatives = int(negatives[i].sum())
        assert [n >= 0 for n in tried] == [k < n_negatives for k in range(6)]
        loss = 0.0
        for k, n in enumerate(tried[:n_negatives], start=1):
            assert negatives[i, n]
            if S[i, n] > S[i, p] - 0.5:
                loss = _harmonic(n_negatives // k) * (0.5 - S[i, p] + S[i, n]).item()
                break
        losses.append(loss)
    assert found.item() == pytest.approx(sum(losses) / len(losses), abs=1e-6)


def test_draws_are_uniform_with_and_without_replacement():
    torch.manual_seed(0)
    allowed = torch.tensor([[True, False, True, True, False]]).repeat(3000, 1)
    again = drawn(allowed, replace=True)
    assert (again[:, 3:] == -1).all()
    share = torch.bincount(again[:, :3].flatten(), minlength=5) / 9000
    np.testing.assert_allclose(share, [1 / 3, 0, 1 / 3, 1 / 3, 0], atol=0.02)
    assert (again[:, 0] == again[:, 1]).float().mean().item() == pytest.approx(1 / 3, abs=0.04)
    order = drawn(allowed, replace=False)
    assert (order[:, :3].sort(dim=1).values == torch.tensor([0, 2, 3])).all()
    assert (order[:, 3:] == -1).all()
    share = torch.bincount(order[:, 0], minlength=5) / 3000
    np.testing.assert_allclose(share, [1 / 3, 0, 1 / 3, 1 / 3, 0], atol=0.04)
    none = torch.zeros(2, 3, dtype=torch.bool)
    for replace in (True, False):
        assert (drawn(none, replace=replace) == -1).all()


def test_a_row_without_negatives_or_violations_has_no_loss():
    S = torch.tensor([[5.0, 0.0], [0.0, 5.0]], requires_grad=True)
    none = torch.zeros(2, 2, dtype=torch.bool)
    for sampled in (True, False):
        for negatives in (none, ~torch.eye(2, dtype=torch.bool)):
            loss = warp_loss(S, torch.eye(2, dtype=torch.bool), negatives, sampled=sampled)
            (gradient,) = torch.autograd.grad(loss, S)
            assert loss.item() == 0 and not gradient.any()
    hinges, places = first_violations(
        torch.tensor([1.0]), torch.tensor([[0.0, 0.9, 0.95]]), torch.tensor([[0, 2, 1]]), 0.2
    )
    assert places.tolist() == [2] and hinges.item() == pytest.approx(0.15)


def test_the_mean_of_many_samples_approaches_the_loss_of_the_batch(scored):
    torch.manual_seed(0)
    kept = [warp_loss(*scored, kind="constant").item() for _ in range(3000)]
    exact = warp_loss(*scored, kind="constant", sampled=False).item()
    # Draws may all miss the only violating negative, which makes it a little smaller.
    missed = (1 - 1 / 5) ** 5
    assert (1 - missed) * exact <= np.mean(kept) <= exact + 0.02


# ---- the method --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pairs():
    return make_inputs(np.random.default_rng(0), 90)[0]


@pytest.mark.parametrize("max_norm", [0.05, 0.4])
def test_no_column_is_longer_than_max_norm_after_any_update(pairs, max_norm):
    longest = []

    class Record:
        def __call__(self, estimator, epoch, record):
            maps = estimator.net_.module_.maps
            longest.append(max(m.weight.norm(dim=0).max().item() for m in maps.values()))

    from crossfit.neural import listening

    with listening(Record()):
        method = WSABIE(**SMALL, max_norm=max_norm).fit(pairs)
    assert len(longest) == 4 and max(longest) <= max_norm * (1 + 1e-5)
    assert longest[-1] == pytest.approx(max_norm, rel=1e-4)  # the bound is reached
    free = WSABIE(**SMALL, max_norm=1e6).fit(pairs).net_.module_.maps
    assert free["image"].weight.norm(dim=0).max() > max_norm
    assert method.net_.module_.maps["text"].weight.shape == (12, 14)


def test_scores_are_dot_products_of_linear_maps(pairs):
    method = WSABIE(**SMALL).fit(pairs)
    module = method.net_.module_
    parts = {}
    for role in ("image", "text"):
        x = np.asarray(pairs[role])
        x = (x - x.mean(axis=0)) / x.std(axis=0) / math.sqrt(x.shape[1])
        parts[role] = x @ module.maps[role].weight.detach().numpy().T
        np.testing.assert_allclose(method.encode(pairs[role], role), parts[role], atol=1e-4)
    np.testing.assert_allclose(
        method.similarity(pairs), parts["image"] @ parts["text"].T, atol=1e-4
    )


@pytest.mark.parametrize("settings", [{}, {"sampled": False}, {"bidirectional": False}])
def test_it_learns_from_pairs(pairs, settings):
    method = WSABIE(**SMALL | {"max_epochs": 20, "lr_step": None} | settings).fit(pairs[:60])
    found = evaluate(method.similarity(pairs[60:]), np.eye(30), "mrr", ci=None)
    assert found.mean(None, "mrr") > 0.4  # .13 at chance
    terms = {name for name in method.net_.history[-1] if "2" in name}
    both = {"train_image2text", "train_text2image"}
    assert terms == (both if settings.get("bidirectional", True) else {"train_image2text"})


def test_annotations_may_be_indicators_in_a_sparse_matrix():
    import scipy.sparse as sp

    rng = np.random.default_rng(0)
    y = np.arange(120) % 6
    marks = rng.normal(size=(6, 10))
    image = marks[y] + 0.3 * rng.normal(size=(120, 10))
    tags = sp.csr_array(np.eye(6)[y])
    views = Views(image=image, text=tags)
    settings = SMALL | {"standardize": False, "dropout": 0, "max_epochs": 10, "lr_step": None}
    method = WSABIE(**settings).fit(views.with_groups(y))
    scores = method.encode(image, "image") @ method.encode(np.eye(6), "text").T
    assert (scores.argmax(axis=1) == y).mean() > 0.9


def test_mistakes_are_reported_in_a_sentence(pairs):
    for settings in ({"max_norm": 0}, {"rank_weight": "log"}, {"sampled": "no"}, {"width": 0},
                     {"dropout": 1.0}):  # fmt: skip
        with pytest.raises(ValueError, match=next(iter(settings))):
            WSABIE(**SMALL | settings).fit(pairs)


# ---- real data ---------------------------------------------------------------------------------


def test_the_defaults_rank_pictures_and_captions(flickr8k):
    method = WSABIE(device="cpu", verbose=0, random_state=0).fit(flickr8k(0, 500))
    test = flickr8k(5000, 5150)
    scores = method.similarity(test)
    found = evaluate(scores, test.relevance("image", "text"), "r@10", ci=None)
    for direction in found.directions:
        assert found.mean(direction, "r@10") > 0.55  # .07 at chance
