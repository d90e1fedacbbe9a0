"""PCME++ against draws from its distributions, loops over its loss, and on real pairs."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch.callbacks import Callback
from torch import nn

import crossfit
from crossfit import Views, evaluate
from crossfit.neural import Batch, Checkpoint, Items
from crossfit.retrieval import ExactIndex
from crossfit_heads.pcmepp import PCMEpp, distances, divergence, match_loss, pseudo_matches
from crossfit_heads.testing import make_inputs

SMALL = {"width": 8, "batch_size": 30, "max_epochs": 4, "pseudo_from": 2, "lr": 1e-2,
         "device": "cpu", "random_state": 0, "verbose": 0}  # fmt: skip


@pytest.fixture(autouse=True)
def _leave_torch_as_it_was():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="module")
def pairs():
    return make_inputs(np.random.default_rng(0), 120)[0]


@pytest.fixture(scope="module")
def captioned(pairs):
    index = np.repeat(np.arange(40), 3)
    return Views.from_captions(pairs["image"][:40], pairs["text"], index)


def _gaussians(n, d, dtype=torch.float64):
    return torch.randn(n, d, dtype=dtype), torch.randn(n, d, dtype=dtype)


# ---- the distance ------------------------------------------------------------------------------


def test_the_distance_is_the_mean_over_points_drawn_from_the_distributions():
    x, z = _gaussians(3, 4), _gaussians(5, 4)
    rng = np.random.default_rng(0)
    draws = [
        mean.numpy() + log_var.mul(0.5).exp().numpy() * rng.normal(size=(200_000, *mean.shape))
        for mean, log_var in (x, z)
    ]
    found = distances(*x, *z).numpy()
    for i in range(3):
        for j in range(5):
            squares = ((draws[0][:, i] - draws[1][:, j]) ** 2).sum(axis=1)
            error = squares.std() / np.sqrt(len(squares))
            assert found[i, j] == pytest.approx(squares.mean(), abs=5 * error)
    assert torch.autograd.gradcheck(distances, [w.requires_grad_() for w in (*x, *z)])


def test_without_variance_the_distance_is_euclidean():
    x, z = torch.randn(3, 4).double(), torch.randn(5, 4).double()
    none = torch.tensor(-torch.inf)
    found = distances(x, none.expand(3, 4), z, none.expand(5, 4))
    torch.testing.assert_close(found.sqrt(), torch.cdist(x, z))


def test_scores_are_the_closed_form_and_an_index_ranks_by_them(captioned):
    method = PCMEpp(**SMALL).fit(captioned)
    module = method.net_.module_
    parts = []
    for view in ("image", "text"):
        values = torch.tensor(captioned.distinct(view)[0])
        parts += [part.detach() for part in module.in_float64(Items(values), view)]
    scores = method.similarity(captioned)
    np.testing.assert_allclose(scores, -distances(*parts).sqrt(), rtol=1e-5)
    assert method.transform(captioned)["image"].shape == (120, 10)
    index = ExactIndex(similarity="l2").add(method.encode(captioned["text"], "text"))
    rows = index.search(method.encode(captioned.distinct("image")[0], "image"), k=5).indices
    np.testing.assert_array_equal(rows, np.argsort(-scores, axis=1, kind="stable")[:, :5])


def test_the_variance_of_the_query_changes_no_order_and_that_of_the_items_does():
    mean, log_var = _gaussians(1, 4)
    other = _gaussians(20, 4)
    order = distances(mean, log_var, *other).argsort(dim=1)
    torch.testing.assert_close(distances(mean, log_var + 2, *other).argsort(dim=1), order)
    last = order[0, -1].item()
    spread = other[1].clone()
    spread[order[0, 0]] += 10
    assert distances(mean, log_var, other[0], spread).argmax().item() == order[0, 0] != last


# ---- the loss ----------------------------------------------------------------------------------


def _batch(n, groups, images=None, dtype=torch.float64):
    rows, groups = torch.arange(n), torch.tensor(groups)
    images = groups if images is None else torch.tensor(images)
    features = torch.randn(n, 5, dtype=dtype)[images]
    views = {"image": Items(features), "text": Items(torch.randn(n, 4, dtype=dtype))}
    return Batch(views, {"image": images, "text": rows}, groups, None, 0.5)


def _built(**settings):
    method = PCMEpp(width=3, standardize=False, dropout=0.0, **settings)
    module = method._build_module({"image": 5, "text": 4}, None).double().train()
    for head in module.log_vars.values():
        nn.init.normal_(head.layers.linear.weight, std=0.3)
    method.net_ = type("Net", (), {"module_": module})
    return method, module


@pytest.mark.parametrize("mixup", [0.0, 0.5])
def test_the_loss_is_that_of_loops_over_pairs(mixup, monkeypatch):
    weights = {"scale": 3.0, "shift": 4.0, "pseudo_weight": 0.3, "vib_weight": 0.2}
    method, module = _built(**weights, pseudo_from=0, mixup=mixup)
    # The last two rows are a group of two pairs that share no item.
    groups, images = [0, 0, 1, 2, 3, 3], [0, 0, 1, 2, 3, 4]
    batch = _batch(6, groups, images)
    share, partner = torch.ones(6).double(), torch.tensor([3, 1, 0, 2, 5, 4])
    if mixup:
        share[:3] = torch.tensor([0.7, 0.2, 0.4])
        monkeypatch.setattr(method, "_mixed", lambda batch: (partner, share))
    outputs = method._outputs(module, batch)
    found = method._loss(outputs, batch)
    x = batch.views["image"].values
    x = share[:, None] * x + (1 - share[:, None]) * x[partner]
    mean, log_var = module(Items(x), "image")
    other, other_log_var = module(batch.views["text"], "text")

    def matches(i, j):
        return float(images[i] == images[j])

    def counts(i, j):
        return images[i] == images[j] or groups[i] != groups[j]

    mean, log_var, other, other_log_var = (
        part.detach() for part in (mean, log_var, other, other_log_var)
    )
    apart, entropy = np.zeros((6, 6)), {"match": [], "pseudo": []}
    for i in range(6):
        for j in range(6):
            squares = (mean[i] - other[j]).square().sum()
            apart[i, j] = squares + log_var[i].exp().sum() + other_log_var[j].exp().sum()
    for i in range(6):
        pure, p = share[i] == 1, partner[i].item()
        radius = max(apart[i, j] for j in range(6) if images[i] == images[j])
        for j in range(6):
            probability = 1 / (1 + np.exp(3.0 * apart[i, j] - 4.0))
            target = share[i].item() * matches(i, j) + (1 - share[i].item()) * matches(p, j)
            for name, wanted, counted in (
                ("match", target, counts(i, j) and (pure or counts(p, j))),
                ("pseudo", float(apart[i, j] <= radius), counts(i, j) and pure),
            ):
                if counted:
                    loss = wanted * np.log(probability) + (1 - wanted) * np.log(1 - probability)
                    entropy[name].append(-loss)
    assert found["match"].item() == pytest.approx(np.mean(entropy["match"]), rel=1e-6)
    assert found["pseudo"].item() == pytest.approx(0.3 * np.mean(entropy["pseudo"]), rel=1e-6)
    assert len(entropy["match"]) < 36
    total = 0.0
    for part in ((mean, log_var), (other, other_log_var)):
        own = torch.distributions.Normal(part[0], part[1].mul(0.5).exp())
        standard = torch.distributions.Normal(0.0, 1.0)
        kl = torch.distributions.kl_divergence(own, standard).mean(dim=1)
        torch.testing.assert_close(divergence(*part), kl)
        total += kl.mean().item()
    assert found["vib"].item() == pytest.approx(0.2 * total, rel=1e-6)


@pytest.mark.parametrize("branch", ["linear", "mlp", "gated"])
def test_the_gradient_is_that_of_finite_differences(branch):
    method, module = _built(branch=branch, hidden=3, pseudo_from=0)
    batch = _batch(5, [0, 0, 1, 2, 3])
    names, weights = zip(*module.named_parameters())

    class Loss(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = module

        def forward(self):
            return sum(method._loss(method._outputs(self.module, batch), batch).values())

    def loss(*weights):
        named = {f"module.{name}": w for name, w in zip(names, weights)}
        return torch.func.functional_call(Loss(), named, ())

    assert torch.autograd.gradcheck(loss, tuple(w.detach().requires_grad_() for w in weights))


def test_siblings_are_matches(captioned):
    """A batch of three captions of one image has no wrong pair."""
    positives = torch.ones(3, 3, dtype=torch.bool)
    apart = torch.rand(3, 3)
    assert pseudo_matches(apart, positives).all()
    method, module = _built(pseudo_weight=0.0, vib_weight=0.0)
    batch = _batch(3, [0, 0, 0])
    loss = method._loss(method._outputs(module, batch), batch)["match"]
    logits = module.shift - module.scale * distances(
        *module(batch.views["image"], "image"), *module(batch.views["text"], "text")
    )
    torch.testing.assert_close(loss, -torch.nn.functional.logsigmoid(logits).mean())
    assert PCMEpp(**SMALL).fit(captioned).similarity(captioned).shape == (40, 120)


def test_pairs_that_do_not_count_change_nothing():
    logits, targets = torch.randn(3, 4), torch.rand(3, 4)
    counted = torch.rand(3, 4) < 0.5
    other = torch.where(counted, logits, 50.0)
    torch.testing.assert_close(
        match_loss(logits, targets, counted), match_loss(other, targets, counted)
    )
    assert match_loss(logits, targets, torch.zeros_like(counted)) == 0


# ---- training ------------------------------------------------------------------------------------


def test_all_variances_are_equal_at_first(pairs):
    module = PCMEpp(width=16, first_variance=0.3)._build_module({"image": 24, "text": 14}, None)
    for view in ("image", "text"):
        _, log_var = module(Items(torch.tensor(pairs[view]).float()), view)
        torch.testing.assert_close(log_var.exp().sum(dim=1), torch.full((120,), 0.3))


def test_pseudo_matches_begin_later_and_are_not_a_part_of_the_held_out_loss(pairs):
    history = PCMEpp(**SMALL, validation_fraction=0.2).fit(pairs).net_.history
    assert ["train_pseudo" in row for row in history] == [False, False, True, True]
    for row in history:
        assert row["valid_loss"] == pytest.approx(row["valid_match"] + row["valid_vib"], rel=1e-5)
    assert "valid_pseudo" in history[-1]


def test_images_are_mixed_in_training_alone(pairs):
    settings = {**SMALL, "max_epochs": 1, "dropout": 0.0}
    plain, mixes = (PCMEpp(**settings, mixup=share).fit(pairs) for share in (0.0, 1.0))
    losses = [method.net_.history[0]["train_match"] for method in (plain, mixes)]
    assert losses[0] != losses[1]
    module = plain.net_.module_.train()
    data = mixes._data(pairs, None, torch.device("cpu"), mixes._features)
    partner, share = mixes._outputs(module, data.batch(torch.arange(120)))["mixed"]
    assert sorted(partner.tolist()) == list(range(120)) and 0 <= share.min() < share.max() <= 1
    assert (share < 1).all() and abs(share.mean().item() - 0.5) < 0.1
    half = clone(mixes).set_params(mixup=0.25)._mixed(data.batch(torch.arange(120)))[1]
    assert (half < 1).sum() == 30
    assert "mixed" not in mixes._outputs(module.eval(), data.batch(torch.arange(120)))
    whole = mixes.encode(pairs["image"], "image")
    np.testing.assert_allclose(mixes.encode(pairs["image"][:3], "image"), whole[:3], rtol=1e-6)


class _Dies(Callback):
    def on_batch_end(self, net, batch=None, training=False, **kwargs):
        if net.history[-1]["epoch"] == 3:
            raise InterruptedError


def test_a_killed_fit_ends_with_the_same_weights_and_is_bundled(pairs, tmp_path):
    through = PCMEpp(**SMALL, mixup=0.25, branch="mlp", hidden=8).fit(pairs)
    checkpoint = Checkpoint(tmp_path / "fit.pt")
    with pytest.raises(InterruptedError):
        clone(through).set_params(callbacks=[checkpoint, _Dies()]).fit(pairs)
    resumed = clone(through).set_params(callbacks=[checkpoint]).fit(pairs)
    for name, weights in through.net_.module_.state_dict().items():
        assert torch.equal(resumed.net_.module_.state_dict()[name], weights), name
    crossfit.save(through, tmp_path / "bundle")
    loaded = crossfit.load(tmp_path / "bundle")
    np.testing.assert_array_equal(loaded.similarity(pairs), through.similarity(pairs))


# ---- variances -----------------------------------------------------------------------------------


def test_explain_returns_the_variance_of_every_item(captioned):
    method = PCMEpp(**SMALL).fit(captioned)
    found = method.explain(captioned)
    _, log_var = method.net_.module_.in_float64(Items(torch.tensor(captioned["text"])), "text")
    expected = log_var.exp().sum(dim=1).detach()
    np.testing.assert_allclose(found["text"].values, expected, rtol=1e-5)
    assert len(found) == 120 and found["image"].lengths.max() == 1
    assert found["image"].info["quantity"] == "variance"
    alone = method.explain(captioned["image"][:2])
    image, text = method.explain(captioned["image"][:2], captioned["text"][:2])
    np.testing.assert_allclose(alone.values, image.values)
    np.testing.assert_allclose(text.values, found["text"].values[:2])
    with pytest.raises(TypeError, match="explain expects Views alone or"):
        method.explain(captioned, captioned["text"])


def test_matches_lower_variances_and_wrong_pairs_raise_them():
    """The gradient of the logarithms of the variances of an item: a s^2 (y - p) per pair."""
    x, z = _gaussians(4, 3), _gaussians(5, 3)
    log_var = x[1].clone().requires_grad_()
    logits = 4.0 - 3.0 * distances(x[0], log_var, *z)
    targets = (torch.rand(4, 5) < 0.4).double()
    match_loss(logits, targets, torch.ones(4, 5, dtype=torch.bool)).backward()
    expected = 3.0 * x[1].exp() * (targets - logits.sigmoid().detach()).sum(1, keepdim=True) / 20
    torch.testing.assert_close(log_var.grad, expected)


# ---- real pairs ----------------------------------------------------------------------------------


def test_the_defaults_find_emoji_by_their_names(emoji):
    (train, _), (test, _) = emoji
    method = PCMEpp(device="cpu", random_state=0, verbose=0).fit(train)
    found = evaluate(method.similarity(test), test.relevance("image", "text"), ("r@10",), ci=None)
    for direction in found.directions:
        assert found.mean(direction, "r@10") > 0.15  # by chance: 10 of 324
