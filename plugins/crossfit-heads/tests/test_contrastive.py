"""ContrastiveHead against loops over its losses, CCA, plain batches, and on real data."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch.callbacks import Callback
from torch.nn import functional as F

import crossfit
from crossfit import Ragged, Views
from crossfit.model_selection import make_retrieval_scorer
from crossfit.neural import Batch, Checkpoint, Items, triplet_loss
from crossfit.subspace import CCA
from crossfit_heads.contrastive import (
    LOSSES,
    RANKING,
    ContrastiveHead,
    MemoryBank,
    OneCycle,
    mixed,
)
from crossfit_heads.testing import make_inputs

SMALL = {"init": "random", "width": 8, "max_epochs": 12, "lr": 1e-2, "batch_size": 50,
         "dropout": 0.0, "device": "cpu", "verbose": 0, "random_state": 0}  # fmt: skip


@pytest.fixture(scope="module")
def planted():
    views, _ = make_inputs(np.random.default_rng(0), 200)
    return views[:150], views[150:]


@pytest.fixture(scope="module")
def captioned(planted):
    """Return 50 images with three captions each."""
    image, of = planted[0]["image"][:50], np.arange(150) // 3
    text = planted[0]["text"][of] + 0.2 * np.random.default_rng(1).normal(size=(150, 14))
    return Views.from_captions(image, text, of)


@pytest.fixture(autouse=True)
def _leave_torch_as_it_was():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def _weights(method):
    return torch.cat([w.flatten().double() for w in method.net_.module_.state_dict().values()])


def _batch(n=12, groups=None, dtype=torch.float64, seed=0, progress=0.5):
    """Return a batch; rows of a group share an image."""
    generator = torch.Generator().manual_seed(seed)
    groups = torch.arange(n) if groups is None else torch.tensor(groups)
    views = {
        "image": Items(torch.randn(n, 5, generator=generator, dtype=dtype)[groups]),
        "text": Items(torch.randn(n, 4, generator=generator, dtype=dtype)),
    }
    return Batch(views, {"image": groups, "text": torch.arange(n)}, groups, None, progress)


def _rows(batch, at):
    return Batch(
        {role: Items(items.values[at]) for role, items in batch.views.items()},
        {role: item[at] for role, item in batch.item.items()},
        batch.groups[at], None, batch.progress,
    )  # fmt: skip


def _method(**settings):
    """Return a method and its network in training, in float64."""
    method = ContrastiveHead(**{"width": 3, "standardize": False, "dropout": 0.0, **settings})
    method.n_outputs_ = method.width
    torch.manual_seed(1)
    module = method._build_module({"image": 5, "text": 4}, None).double().train()
    return method, module


def _loss(method, module, batch):
    terms = method._loss(method._outputs(module, batch), batch)
    return torch.stack(list(terms.values())).sum()


def _gradients(method, module, batch):
    module.zero_grad()
    loss = _loss(method, module, batch)
    loss.backward()
    # The hinges have no temperature.
    return loss.detach(), {n: w.grad.clone() for n, w in module.named_parameters()}


def _scores(module, batch):
    x, z = (F.normalize(module.branch(role)(batch.views[role].values), dim=1).detach()
            for role in ("image", "text"))  # fmt: skip
    return (x @ z.T).numpy()


# ---- the losses in the estimator ---------------------------------------------------------------

SIBLINGS = [0, 1, 1, 2, 3, 4, 4, 4, 5, 6, 7, 8]


def _naive(loss, S, groups, scale, margin=0.2):
    """Return a loss by loops over rows and columns of the scores."""
    n = len(S)
    found = []
    for scores in (S, S.T):
        rows = []
        for i in range(n):
            own = [j for j in range(n) if groups[i] == groups[j]]
            wrong = [j for j in range(n) if groups[i] != groups[j]]
            if loss == "infonce":
                below = sum(np.exp(scale * scores[i, j]) for j in range(n))
                rows.append(np.mean([-np.log(np.exp(scale * scores[i, j]) / below) for j in own]))
            elif loss == "sigmoid":
                right = sum(np.log1p(np.exp(-(scale * scores[i, j] - 10))) for j in own)
                rows.append(right + sum(np.log1p(np.exp(scale * scores[i, j] - 10)) for j in wrong))
            else:
                hardest = max(scores[i, j] for j in wrong)
                rows += [max(0.0, margin - scores[i, j] + hardest) for j in own]
        found.append(np.mean(rows))
    return sum(found) if loss == "hardest" else np.mean(found)


@pytest.mark.parametrize("loss", RANKING)
@pytest.mark.parametrize("groups", [None, SIBLINGS])
def test_losses_are_loops_in_which_siblings_are_positives(loss, groups):
    method, module = _method(loss=loss)
    batch = _batch(groups=groups)
    scale = {"infonce": 1 / 0.07, "sigmoid": 10.0, "hardest": 1.0}[loss]
    assert torch.as_tensor(module.scale()).item() == pytest.approx(scale, rel=1e-6)
    expected = _naive(loss, _scores(module, batch), batch.groups.tolist(), scale)
    assert _loss(method, module, batch).item() == pytest.approx(expected, rel=1e-6)


def test_hinges_are_summed_in_the_first_quarter_of_training_only():
    method, module = _method(loss="hardest")
    for progress, mining in ((0.0, "sum"), (0.24, "sum"), (0.25, "hardest")):
        batch = _batch(progress=progress)
        S = torch.from_numpy(_scores(module, batch))
        expected = sum(triplet_loss(part, margin=0.2, mining=mining) for part in (S, S.T))
        torch.testing.assert_close(_loss(method, module, batch).detach(), expected)
    module.eval()  # held-out losses can be compared between all epochs
    batch = _batch(progress=0.0)
    expected = sum(triplet_loss(part, margin=0.2, mining="hardest") for part in (S, S.T))
    torch.testing.assert_close(_loss(method, module, batch).detach(), expected)


@pytest.mark.parametrize("loss", LOSSES)
def test_one_caption_of_an_image_is_kept_if_it_is_asked_for(loss):
    method, module = _method(loss=loss, captions="one")
    batch = _batch(groups=SIBLINGS)
    alone = _rows(batch, torch.tensor([0, 1, 3, 4, 5, 8, 9, 10, 11]))
    torch.testing.assert_close(_loss(method, module, batch), _loss(method, module, alone))


@pytest.mark.parametrize("loss", ["sigmoid", "hardest"])
def test_no_sibling_is_pushed_away(loss):
    method, module = _method(loss=loss)
    batch = _batch(groups=SIBLINGS)
    S = torch.rand(12, 12, dtype=torch.float64, requires_grad=True)
    outputs = method._outputs(module, batch)
    positives, negatives = outputs["pairing"].masks(slice(0, 12))
    same = batch.groups[:, None] == batch.groups
    assert torch.equal(positives, same) and torch.equal(negatives, ~same)
    method._row_loss(outputs)(S, positives, negatives, first=0).backward()
    assert (S.grad[same] <= 0).all() and (S.grad[same] < 0).any()
    assert (S.grad[~same] >= 0).all() and (S.grad[~same] > 0).any()


def test_rows_of_a_group_without_a_common_item_are_neither_right_nor_wrong():
    batch = _batch(6)
    grouped = Batch(batch.views, batch.item, torch.tensor([0, 0, 1, 2, 3, 4]), None)
    method, module = _method()
    positives, negatives = method._outputs(module, grouped)["pairing"].masks(slice(0, 6))
    assert torch.equal(positives, torch.eye(6, dtype=torch.bool))
    assert not negatives[0, 1] and not negatives[1, 0] and negatives.sum() == 28


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("settings", [{}, {"structure": 2.0}, {"bank_size": 7}])
def test_the_order_of_a_batch_does_not_matter(loss, settings):
    if loss not in RANKING:
        settings = {k: v for k, v in settings.items() if k != "bank_size"}
    batch = _batch(groups=SIBLINGS)
    order = torch.randperm(12)
    found = []
    for each in (batch, _rows(batch, order)):
        method, module = _method(loss=loss, **settings)
        if module.bank is not None:
            _loss(method, module, _batch(5, seed=3))
        found.append(_loss(method, module, each))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("branch", ["linear", "mlp", "gated"])
def test_gradients_are_those_of_finite_differences(loss, branch):
    method, module = _method(loss=loss, branch=branch, hidden=2)
    batch = _batch(6)
    names = [name for name, _ in module.named_parameters()]

    def value(*weights):
        def run(module, batch):
            outputs = method._outputs(module, batch)
            return method._loss(outputs, batch)["contrast"]

        class Bound(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = module

            def forward(self):
                return run(self.inner, batch)

        named = {f"inner.{name}": weight for name, weight in zip(names, weights)}
        return torch.func.functional_call(Bound(), named, ())

    weights = [w.detach().clone().requires_grad_() for w in module.parameters()]
    assert torch.autograd.gradcheck(value, weights, atol=1e-4)


# ---- gradient caching --------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("settings", "groups"), [
    ({}, None), ({}, SIBLINGS), ({"branch": "mlp", "hidden": 6}, SIBLINGS),
    ({"structure": 1.0}, None), ({"bank_size": 9}, SIBLINGS), ({"mixup": 1.0}, SIBLINGS),
    ({"captions": "one"}, SIBLINGS),
])  # fmt: skip
def test_gradients_chunk_by_chunk_are_those_of_the_batch(loss, settings, groups):
    if "bank_size" in settings and loss not in RANKING:
        pytest.skip("has no negatives")
    for progress in (0.0, 0.5):
        batch = _batch(groups=groups, progress=progress)
        found = []
        for chunk_size in (None, 1, 5, 100):
            method, module = _method(loss=loss, chunk_size=chunk_size, **settings)
            if module.bank is not None:
                _loss(method, module, _batch(6, seed=2))
            torch.manual_seed(4)
            found.append(_gradients(method, module, batch))
        for value, gradients in found[1:]:
            torch.testing.assert_close(value, found[0][0])
            torch.testing.assert_close(gradients, found[0][1])


def test_dropout_is_the_same_when_activations_are_computed_again():
    method, module = _method(branch="mlp", dropout=0.5, chunk_size=4)
    batch = _batch()
    torch.manual_seed(0)
    _, gradients = _gradients(method, module, batch)
    # The same masks, drawn chunk by chunk, in a pass that keeps all activations.
    torch.manual_seed(0)
    module.zero_grad()
    parts = {
        role: torch.cat([module.branch(role)(part) for part in items.values.split(4)])
        for role, items in batch.views.items()
    }
    S = F.normalize(parts["image"], dim=1) @ F.normalize(parts["text"], dim=1).T * module.scale()
    own = torch.arange(12)
    ((F.cross_entropy(S, own) + F.cross_entropy(S.T, own)) / 2).backward()
    torch.testing.assert_close(gradients, {n: w.grad for n, w in module.named_parameters()})


# ---- memory bank -------------------------------------------------------------------------------


def test_the_bank_keeps_the_latest_pairs():
    bank = MemoryBank(5, 2, 1)
    for start, n in ((0, 2), (2, 2), (4, 4), (8, 9)):
        rows = torch.arange(start, start + n)
        bank.add([rows[:, None].float(), -rows[:, None].float()], rows[:, None].expand(-1, 2))
        outputs, groups = bank.content()
        latest = list(range(max(start + n - 5, 0), start + n))
        assert sorted(groups[:, 0].tolist()) == latest
        assert torch.equal(outputs[0, :, 0].long(), groups[:, 0])
        assert torch.equal(outputs[1], -outputs[0])


@pytest.mark.parametrize("loss", RANKING)
def test_the_bank_is_a_loop_over_earlier_pairs_of_other_groups(loss):
    method, module = _method(loss=loss, bank_size=8)
    earlier = _batch(groups=[0, 1, 2, 3, 4, 4, 9, 10, 11, 12, 12, 12], n=13, seed=5)
    earlier = _rows(earlier, torch.arange(12))
    _loss(method, module, earlier)
    batch = _batch(groups=SIBLINGS)
    scale = torch.as_tensor(module.scale()).item()
    kept = _rows(earlier, torch.arange(4, 12))
    old = {role: F.normalize(module.branch(role)(kept.views[role].values), dim=1).detach().numpy()
           for role in ("image", "text")}  # fmt: skip
    new = {role: F.normalize(module.branch(role)(batch.views[role].values), dim=1).detach().numpy()
           for role in ("image", "text")}  # fmt: skip
    groups, before = batch.groups.tolist(), kept.groups.tolist()
    directions = []
    for query, gallery in (("image", "text"), ("text", "image")):
        rows = []
        for i, q in enumerate(new[query]):
            own = [q @ new[gallery][j] for j in range(12) if groups[i] == groups[j]]
            wrong = [q @ new[gallery][j] for j in range(12) if groups[i] != groups[j]]
            wrong += [q @ old[gallery][j] for j in range(8) if groups[i] != before[j]]
            if loss == "infonce":
                below = np.exp(scale * np.array(own + wrong)).sum()
                rows.append(np.mean([-np.log(np.exp(scale * s) / below) for s in own]))
            elif loss == "sigmoid":
                rows.append(np.log1p(np.exp(10 - scale * np.array(own))).sum()
                            + np.log1p(np.exp(scale * np.array(wrong) - 10)).sum())  # fmt: skip
            else:
                rows += [max(0.0, 0.2 - s + max(wrong)) for s in own]
        directions.append(np.mean(rows))
    expected = sum(directions) if loss == "hardest" else np.mean(directions)
    assert _loss(method, module, batch).item() == pytest.approx(expected, rel=1e-6)


def test_the_bank_is_not_used_for_held_out_pairs():
    method, module = _method(bank_size=8)
    batch = _batch()
    _loss(method, module, _batch(seed=1))
    held = module.bank.content()
    with_bank = _loss(method, module, batch)
    module.eval()
    assert "bank" not in method._outputs(module, batch)
    assert _loss(method, module, batch) < with_bank
    module.train()
    assert not torch.equal(module.bank.content()[0], held[0])


# ---- mixup -------------------------------------------------------------------------------------


def test_mixed_rows_have_one_weight_for_all_views():
    x = torch.randn(4, 3)
    weight, other = torch.tensor([1.0, 0.25, 0.5, 0.0]), torch.tensor([1, 0, 3, 2])
    found = mixed(x, weight, other)
    expected = [w * x[i] + (1 - w) * x[j] for i, (w, j) in enumerate(zip(weight, other))]
    torch.testing.assert_close(found, torch.stack(expected))
    assert torch.equal(found[0], x[0])


@pytest.mark.parametrize("loss", LOSSES)
def test_mixup_with_weight_1_is_no_mixup(loss, monkeypatch):
    batch = _batch(groups=SIBLINGS)
    plain = _gradients(*_method(loss=loss), batch)
    monkeypatch.setattr(torch.distributions.Beta, "sample",
                        lambda self, *shape: torch.ones_like(self.concentration1))  # fmt: skip
    torch.testing.assert_close(_gradients(*_method(loss=loss, mixup=1.0), batch), plain)


def test_a_mixed_row_has_no_negative_with_a_part_of_its_own():
    method, module = _method(mixup=1.0)
    batch = _batch(groups=SIBLINGS)
    pairing = method._outputs(module, batch)["pairing"]
    positives, negatives = pairing.masks(slice(0, 12))
    assert torch.equal(positives, torch.eye(12, dtype=torch.bool))
    assert torch.equal(pairing.groups[:, 0], batch.groups)
    for i, mine in enumerate(pairing.groups.tolist()):
        for j, theirs in enumerate(pairing.groups.tolist()):
            assert bool(negatives[i, j]) == (not set(mine) & set(theirs))
    module.eval()
    assert torch.equal(method._outputs(module, batch)["pairing"].masks(slice(0, 12))[0],
                       batch.positives)  # fmt: skip


# ---- the first weights -------------------------------------------------------------------------


@pytest.mark.parametrize("branch", ["linear", "mlp", "gated"])
@pytest.mark.parametrize("standardize", [True, False])
def test_a_head_that_starts_from_cca_ranks_as_cca(branch, standardize, planted):
    train, test = planted
    settings = {"branch": branch, "standardize": standardize, "max_epochs": 0, "width": 64,
                "validation_fraction": None, "random_state": 0, "device": "cpu"}  # fmt: skip
    cca = CCA(reg=0.5).fit(train)
    expected = cca.similarity(test)
    for init in ({"init": "cca", "cca_reg": 0.5}, {"init": cca}, {"init": CCA(reg=0.5)}):
        head = ContrastiveHead(**settings, **init).fit(train)
        found = head.similarity(test)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        np.testing.assert_array_equal(found.argsort(axis=1), expected.argsort(axis=1))
        assert head.n_outputs_ == cca.n_components_ and len(head.net_.history) == 0
    regs = {"image": 0.1, "text": 2.0}
    head = ContrastiveHead(**{**settings, "width": 4}, init="cca", cca_reg=regs).fit(train)
    np.testing.assert_allclose(
        head.similarity(test), CCA(4, reg=regs).fit(train).similarity(test), atol=1e-5
    )


def test_cca_is_fitted_to_the_training_rows_only(planted):
    head = ContrastiveHead(init="cca", max_epochs=0, validation_fraction=0.3, random_state=0)
    head.fit(planted[0])
    rows, held_out = head._split(planted[0], head._seed())
    assert len(held_out) == 45
    expected = CCA().fit(planted[0][rows]).similarity(planted[1])
    np.testing.assert_allclose(head.similarity(planted[1]), expected, atol=1e-5)


def test_training_goes_on_from_cca(planted):
    train, test = planted
    first = ContrastiveHead(**SMALL | {"max_epochs": 0, "init": "cca"}).fit(train)
    trained = ContrastiveHead(**SMALL | {"init": "cca"}).fit(train)
    assert trained.net_.history[0]["train_loss"] < 1.5 < np.log(50)
    assert trained.score(test) > first.score(test)


# ---- training ----------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
def test_pairs_never_seen_are_found(loss, planted):
    method = ContrastiveHead(**SMALL | {"max_epochs": 30}, loss=loss).fit(planted[0])
    assert method.score(planted[1]) > 0.4  # the mean reciprocal rank of a random order is .09


def test_a_batch_may_have_all_pairs(captioned, planted):
    seen = []

    class Sizes(Callback):
        def on_batch_end(self, net, batch=None, training=False, y_pred=None, **kwargs):
            if training:
                seen.append(len(y_pred["outputs"]["image"]))

    settings = SMALL | {"batch_size": 10_000, "max_epochs": 40, "validation_fraction": None}
    method = ContrastiveHead(**settings, captions="one", callbacks=[Sizes()]).fit(captioned)
    assert seen == [50] * 40  # images, with one caption each
    assert method.similarity(captioned).shape == (50, 150)
    assert method.score(captioned) > 0.5


def test_the_temperature_is_learnt_and_limited(planted):
    method = ContrastiveHead(**SMALL).fit(planted[0])
    assert method.net_.module_.scale().item() != pytest.approx(1 / 0.07, rel=1e-3)
    cold = ContrastiveHead(**SMALL, temperature=0.001).fit(planted[0])
    assert cold.net_.module_.scale().item() == pytest.approx(100, rel=0.05)
    assert cold.net_.module_.scale().item() < 100.001
    sigmoid = ContrastiveHead(**SMALL, loss="sigmoid").fit(planted[0]).net_.module_
    assert sigmoid.bias.item() != -10 and sigmoid.log_scale.exp().item() != 10
    assert ContrastiveHead(**SMALL, loss="barlow").fit(planted[0]).net_.module_.log_scale is None


def test_biases_and_the_temperature_do_not_decay(planted):
    method = ContrastiveHead(**SMALL | {"max_epochs": 1}, branch="mlp", weight_decay=0.5)
    method.fit(planted[0])
    decayed = {id(w) for group in method.net_.optimizer_.param_groups
               if group["weight_decay"] == 0.5 for w in group["params"]}  # fmt: skip
    for name, weight in method.net_.module_.named_parameters():
        assert (id(weight) in decayed) == (weight.ndim == 2), name
    ContrastiveHead(**SMALL, optimizer="Rprop").fit(planted[0])  # has no weight decay


def test_the_learning_rate_has_one_cycle(planted):
    rates = []

    class Rates(Callback):
        def on_batch_end(self, net, batch=None, training=False, **kwargs):
            if training:
                rates.append(net.optimizer_.param_groups[0]["lr"])

    settings = SMALL | {"validation_fraction": None, "max_epochs": 7, "batch_size": 15}
    ContrastiveHead(**settings, callbacks=[Rates()]).fit(planted[0])
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1e-2)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=70)
    expected = []
    for _ in range(70):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        cycle.step()
    assert max(rates) == pytest.approx(1e-2, rel=0.01) and rates[-1] < 1e-6
    np.testing.assert_allclose(rates, expected, rtol=0.15, atol=2e-4)
    assert OneCycle().factor(0.3) == pytest.approx(1.0)
    rates.clear()
    ContrastiveHead(**settings, schedule=None, callbacks=[Rates()]).fit(planted[0])
    assert set(rates) == {1e-2}


def test_it_stops_early_on_held_out_groups(captioned, planted):
    settings = SMALL | {"max_epochs": 200, "lr": 0.1, "patience": 2, "schedule": None}
    method = ContrastiveHead(**settings, validation_fraction=0.3).fit(captioned)
    losses = [row["valid_loss"] for row in method.net_.history]
    assert len(losses) < 200 and np.argmin(losses) == len(losses) - 3
    rows, held_out = method._split(captioned, method._seed())
    assert not set(captioned.groups[rows]) & set(captioned.groups[held_out])
    # The weights are those of the best epoch.
    pairs = captioned[held_out]
    data = method._data(pairs, None, torch.device("cpu"), method._features)
    batch = data.batch(torch.arange(len(data)))
    module = method.net_.module_.eval()
    with torch.no_grad():
        assert _loss(method, module, batch).item() == pytest.approx(min(losses), rel=1e-5)
    every = ContrastiveHead(**SMALL, patience=None).fit(captioned)
    assert len(every.net_.history) == 12 and "valid_loss" in every.net_.history[-1]
    none = ContrastiveHead(**SMALL, validation_fraction=None).fit(captioned)
    assert len(none.net_.history) == 12 and "valid_loss" not in none.net_.history[-1]


@pytest.mark.parametrize("loss", LOSSES)
def test_few_pairs_hold_out_two_groups(loss, planted):
    method = ContrastiveHead(**SMALL, loss=loss).fit(planted[0][:9])
    rows, held_out = method._split(planted[0][:9], method._seed())
    assert len(rows) == 7 and len(held_out) == 2
    assert np.isfinite(method.net_.history[:, "valid_loss"]).all()
    assert len(set(method.net_.history[:, "valid_loss"])) > 1
    captions = Views.from_captions(
        planted[0]["image"][:9], planted[0]["text"][:27], np.arange(27) // 3
    )
    rows, held_out = method._split(captions, 0)
    assert len(np.unique(captions.groups[held_out])) == 2 and len(held_out) == 6
    assert np.isfinite(method.fit(planted[0][:3]).similarity(planted[1])).all()


def test_fits_repeat_bit_for_bit(planted):
    settings = SMALL | {"max_epochs": 3, "mixup": 1.0, "bank_size": 60, "dropout": 0.3}
    first = ContrastiveHead(**settings).fit(planted[0])
    again = clone(first).fit(planted[0])
    assert torch.equal(_weights(first), _weights(again))


class _Dies(Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_batch_end(self, net, batch=None, training=False, **kwargs):
        if net.history[-1]["epoch"] == self.epoch and training:
            raise InterruptedError


@pytest.mark.parametrize("settings", [
    {"mixup": 1.0, "bank_size": 60, "dropout": 0.3, "branch": "mlp"},
    {"loss": "hardest", "init": "cca", "captions": "one"},
    {"loss": "vicreg", "chunk_size": 20, "structure": 1.0},
])  # fmt: skip
def test_a_killed_fit_goes_on_to_the_same_weights(settings, captioned, tmp_path):
    through = ContrastiveHead(**SMALL | {"max_epochs": 5} | settings).fit(captioned)
    checkpoint = Checkpoint(tmp_path / "fit.pt")
    with pytest.raises(InterruptedError):
        clone(through).set_params(callbacks=[checkpoint, _Dies(3)]).fit(captioned)
    resumed = clone(through).set_params(callbacks=[checkpoint]).fit(captioned)
    assert torch.equal(_weights(resumed), _weights(through))
    assert resumed.net_.history[:, "valid_loss"] == through.net_.history[:, "valid_loss"]
    with pytest.raises(ValueError, match="belongs to a fit with other parameters"):
        clone(through).set_params(callbacks=[checkpoint], max_epochs=9).fit(captioned)


# ---- views and their forms ---------------------------------------------------------------------


@pytest.mark.parametrize("settings", [
    {"loss": "infonce"}, {"loss": "sigmoid", "bank_size": 30}, {"loss": "vicreg"},
    {"init": "cca"}, {"structure": 1.0, "mixup": 0.5},
])  # fmt: skip
def test_three_views_are_compared_in_pairs(settings, planted):
    mix = np.random.default_rng(5).normal(size=(24, 10))
    three, more = (
        Views(image=v["image"], text=v["text"], third=np.tanh(v["image"] @ mix / 5))
        for v in planted
    )
    method = ContrastiveHead(**SMALL | {"max_epochs": 30} | settings).fit(three)
    assert method.transform(more).names == ("image", "text", "third")
    assert method.score(more) > 0.5
    two = ContrastiveHead(width=3, standardize=False, dropout=0.0)
    two.n_outputs_ = 3
    module = two._build_module({"a": 5, "b": 4, "c": 2}, None).eval()
    rows = torch.arange(6)
    parts = {"a": torch.randn(6, 5), "b": torch.randn(6, 4), "c": torch.randn(6, 2)}

    def loss(*names):
        views = {name: Items(parts[name]) for name in names}
        return _loss(two, module, Batch(views, dict.fromkeys(names, rows), rows, None))

    torch.testing.assert_close(
        loss("a", "b", "c"), loss("a", "b") + loss("a", "c") + loss("b", "c")
    )


def test_equal_items_are_tied_exactly(planted):
    head = ContrastiveHead(**SMALL, branch="gated").fit(planted[0])
    text = np.asarray(planted[1]["text"], np.float32)
    repeated = np.vstack([text[:3], np.repeat(text[:1], 4, axis=0), text[3:9]])
    scores = head.similarity(planted[1]["image"][:5], repeated)
    assert (scores[:, 3:7] == scores[:, :1]).all()


@pytest.mark.parametrize("settings", [
    {"bank_size": 40, "loss": "sigmoid"}, {"branch": "mlp", "init": "cca"}, {"branch": "gated"},
])  # fmt: skip
def test_bundles_and_pickles_answer_as_the_model_does(settings, planted, tmp_path):
    method = ContrastiveHead(**SMALL | {"max_epochs": 3} | settings).fit(planted[0])
    expected = method.similarity(planted[1])
    crossfit.save(method, tmp_path / "model")
    loaded = crossfit.load(tmp_path / "model")
    assert type(loaded) is ContrastiveHead and loaded.get_params() == method.get_params()
    for other in (loaded, pickle.loads(pickle.dumps(method))):
        np.testing.assert_array_equal(other.similarity(planted[1]), expected)
    np.testing.assert_array_equal(loaded.fit(planted[0]).similarity(planted[1]), expected)


def test_a_bundle_has_no_memory_bank(planted):
    method = ContrastiveHead(**SMALL | {"max_epochs": 1}, bank_size=40).fit(planted[0])
    assert int(method.net_.module_.bank.counts[0]) == 40
    assert not [name for name in method.__crossfit_state__()[1] if "bank" in name]


def test_mistakes_are_reported_in_a_sentence(planted):
    narrow = CCA().fit(planted[0]["image"][:, :9], planted[0]["text"])
    for settings, message in (
        ({"loss": "triplet"}, "loss"),
        ({"branch": "deep"}, "branch"),
        ({"init": "pca"}, "init"),
        ({"init": narrow}, r"ContrastiveHead: init was fitted on views of columns {'image': 9, "
                           r"'text': 14}, the training pairs have {'image': 24, 'text': 14}"),
        ({"bank_size": 9, "loss": "barlow"}, "ContrastiveHead: bank_size=9 needs a loss with "
                                             "negatives, one of infonce, sigmoid, hardest, got"),
        ({"vicreg_weights": (1.0, -1.0, 0.0)}, "vicreg_weights must be three numbers"),
        ({"cca_reg": {"image": -1.0, "text": 1.0}}, "cca_reg must be a number of at least 0"),
        ({"cca_reg": {"image": 1.0}, "init": "cca"}, "cca_reg has no entry for 'text'"),
        ({"chunk_size": 0}, "chunk_size"),
        ({"temperature": 0.0}, "temperature"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            ContrastiveHead(**SMALL | settings).fit(planted[0])
    ragged = Ragged.from_list([np.zeros((1 + i % 3, 6)) for i in range(150)])
    with pytest.raises(ValueError, match=r"'image' must be a numeric array .* got a Ragged"):
        ContrastiveHead(**SMALL).fit(Views(image=ragged, text=planted[0]["text"]))


# ---- real data ---------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [
    {}, {"loss": "hardest"}, {"loss": "sigmoid", "mixup": 1.0},
    {"init": "random", "branch": "mlp", "batch_size": 128},
])  # fmt: skip
def test_emoji_are_found_by_their_keywords(settings, emoji):
    (train, _), (test, _) = emoji
    method = ContrastiveHead(random_state=0, device="cpu", verbose=0, **settings).fit(train)
    score = make_retrieval_scorer("mrr", direction="both")
    assert score(method, test) > 0.08  # .02 at chance
