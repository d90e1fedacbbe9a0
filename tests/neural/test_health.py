"""Signs of failure: each on a made-up network that has it, and none on networks that learn."""

import math
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from crossfit import registry
from crossfit.neural import (
    Checkpoint,
    MLPBranch,
    NeuralEstimator,
    NeuralPairEstimator,
    TrainingWarning,
    hinge,
    training,
    triplet_loss,
)
from crossfit.neural.health import DeadUnits, constant, due, mean_cosine, signs
from crossfit.neural.losses import counted_hinges
from crossfit.testing.planted import planted_inputs


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


# ---- what is measured --------------------------------------------------------------------------


def _cosine(a, b):
    if not (a.any() and b.any()):
        return float(a.any() == b.any())
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("shape", [(2, 3), (9, 4), (5, 3, 2)])
@pytest.mark.parametrize("shift", [0.0, 1e3])
def test_the_mean_cosine_is_that_of_all_pairs(rng, shape, shift):
    outputs = torch.randn(shape, generator=rng) + shift
    outputs[1:3] = 0
    rows = outputs.flatten(1).double().numpy()
    pairs = [(i, j) for i in range(len(rows)) for j in range(i)]
    expected = np.mean([_cosine(rows[i], rows[j]) for i, j in pairs])
    assert mean_cosine(outputs) == pytest.approx(expected, abs=1e-9)


def test_outputs_that_are_equal_or_zero_have_cosine_one():
    assert mean_cosine(torch.ones(4, 3)) == pytest.approx(1)
    assert mean_cosine(torch.zeros(4, 3)) == pytest.approx(1)
    assert mean_cosine(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])) == pytest.approx(-1)


@pytest.mark.parametrize("axis", [1, 2])
def test_dead_units_are_those_that_are_zero_throughout(rng, axis):
    x = torch.randn(6, 8, 8, generator=rng)
    x.movedim(axis, 0)[[0, 3, 4]] = -1
    expected = sum(not (part > 0).any() for part in x.movedim(axis, 0)) / 8
    for relu in (torch.relu, F.relu, nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6()):
        with torch.no_grad(), DeadUnits() as units:
            relu(x.clone())
        assert units.share == expected == 3 / 8


def test_dead_units_of_several_layers_are_counted_together(rng):
    network = nn.Sequential(
        nn.Conv1d(3, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(20, 12), nn.ReLU(), nn.Tanh()
    )
    with torch.no_grad():
        network[0].weight[:1] = 0
        network[0].bias[:1] = -1
        network[0].bias[1:] = 9
        network[3].bias.fill_(9)
        network[3].bias[:7] = -99
    with torch.no_grad(), DeadUnits() as units:
        network(torch.rand(5, 3, 6, generator=rng))
    assert units.share == (1 + 7) / (4 + 12)
    with DeadUnits() as units:
        nn.Tanh()(torch.ones(3, 3))
    assert units.share is None


def test_constant_outputs_are_the_means(rng):
    first, scores = torch.randn(4, 3, generator=rng), torch.randn(4, 4, generator=rng)
    given = {"a": first, "b": (first > 0, [first.sum(), first[:2]])}
    found = constant(given, 4, whole=False)
    torch.testing.assert_close(found["a"], first.mean(dim=0).repeat(4, 1))
    assert found["b"][0] is given["b"][0]
    assert found["b"][1][0] is given["b"][1][0] and found["b"][1][1] is given["b"][1][1]
    whole = constant((scores, scores > 0), 4, whole=True)
    torch.testing.assert_close(whole[0], torch.full((4, 4), scores.mean().item()))
    assert whole[1].dtype == torch.bool
    # All scores are equal, and so each hinge is the margin.
    assert triplet_loss(whole[0], margin=0.3, mining="all").item() == pytest.approx(0.3)


def test_hinges_are_counted_where_the_loss_has_them(rng):
    values = torch.randn(5, 4, generator=rng)
    where = torch.rand(5, 4, generator=rng) < 0.5
    with counted_hinges() as counted:
        torch.testing.assert_close(hinge(values, where), values.clamp(min=0) * where)
        torch.testing.assert_close(hinge(values), F.relu(values))
    expected = [
        (int(((values > 0) & where).sum()), int(where.sum())),
        (int((values > 0).sum()), 20),
    ]
    assert [(int(active), int(number)) for active, number in counted] == expected


@pytest.mark.parametrize("mining", ["sum", "all", "hardest", "top-k", "random"])
def test_active_hinges_are_those_above_zero(rng, mining):
    scores = torch.randn(6, 6, generator=rng)
    margin = 0.5
    with counted_hinges() as counted:
        triplet_loss(scores, margin=margin, mining=mining, k=2)
    ((active, number),) = counted
    negatives = [sorted((scores[i, j] for j in range(6) if j != i), reverse=True) for i in range(6)]
    n = {"sum": 5, "all": 5, "hardest": 1, "top-k": 2}.get(mining)
    assert int(number) == 6 * (n or 1)
    if n:
        hinges = [margin - scores[i, i] + s for i in range(6) for s in negatives[i][:n]]
        assert int(active) == sum(h > 0 for h in hinges)


@pytest.mark.parametrize(("n_rows", "n_checked"), [(80, 80), (400, 128), (6000, 128), (10**6, 128)])
def test_checks_are_at_most_one_per_fifty_times_their_rows(n_rows, n_checked):
    epochs = 300
    found = [epoch for epoch in range(1, epochs + 1) if due(epoch, n_rows, n_checked)]
    assert len(found) == min(epochs, epochs * n_rows // (50 * n_checked))
    assert found[0] == math.ceil(50 * n_checked / n_rows)


# ---- fits --------------------------------------------------------------------------------------

SETTINGS = {"random_state": 0, "max_epochs": 160, "batch_size": 40, "lr": 0.005}


def _warned(method, views, y=None):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        method.fit(views, y)
    return [str(w.message) for w in caught if w.category is TrainingWarning]


def _checked(method, name):
    return [row[name] for row in method.net_.history if name in row]


def test_a_fit_that_learns_has_curves_and_no_warning(planted, towers):
    method = towers(**SETTINGS, validation_fraction=0.2)
    assert not _warned(method, planted(80)[0])
    history = method.net_.history
    assert all(0 <= row["train_active_hinges"] <= 1 for row in history)
    assert all(0 <= row["valid_active_hinges"] <= 1 for row in history)
    for name in ("cosine_image", "cosine_text", "checked_loss", "constant_loss"):
        assert 3 <= len(_checked(method, name)) <= 10
    assert not _checked(method, "dead_units")  # tanh
    loss, same = (_checked(method, f"{name}_loss")[-1] for name in ("checked", "constant"))
    assert loss < 0.5 * same


NETWORKS = [
    entry.name
    for entry in registry.entries("crossfit.methods")
    if entry.distribution in ("crossfit-acln", "crossfit-alcca", "crossfit-bssan",
                              "crossfit-correlation", "crossfit-cran", "crossfit-heads",
                              "crossfit-ranking", "crossfit-topicnet")
    and issubclass(registry.load(entry.name), NeuralEstimator)
]  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_published_methods_that_learn_raise_no_warning(name):
    cls = registry.load(name)
    views, y = planted_inputs(cls.card, 80)
    settings = {**cls.card.test_params, "random_state": 0}
    if "patience" in cls._get_param_names():
        settings["patience"] = None  # the signs are of the whole training
    pairs = cls.card.kind == "pair"
    n_checked = min(cls(**settings).batch_size, 80) if pairs else 80
    method = cls(**settings).set_params(max_epochs=math.ceil(3 * 50 * n_checked / 80))
    views = views.select(*cls.card.roles)
    assert not _warned(method, views, None if cls.card.labels == "none" else y)
    for role in cls.card.roles:
        assert len(_checked(method, f"cosine_{role}")) >= 3
        assert _checked(method, f"cosine_{role}")[-1] < 0.9
    assert _checked(method, "checked_loss")[-1] < 0.8 * _checked(method, "constant_loss")[-1]


def test_a_short_fit_is_not_judged(planted, towers):
    class Collapsed(towers):
        """Outputs are the same for all items."""

        def _encode_batch(self, module, items, view):
            return 0 * super()._encode_batch(module, items, view) + 1

    assert not _warned(Collapsed(random_state=0, max_epochs=2), planted(80)[0])
    assert _warned(Collapsed(**SETTINGS), planted(80)[0])


def test_collapsed_outputs_are_reported_once(planted, towers):
    class Collapsed(towers):
        """The text hardly matters."""

        def _encode_batch(self, module, items, view):
            found = super()._encode_batch(module, items, view)
            return found if view == "image" else F.normalize(1 + 1e-3 * found, dim=1)

    method = Collapsed(**SETTINGS)
    said = _warned(method, planted(80)[0])
    text = [message for message in said if "view 'text' have collapsed" in message]
    assert len(text) == 1 and "Collapsed: the outputs" in text[0] and "init_weights" in text[0]
    assert not any("'image'" in message for message in said)
    assert min(_checked(method, "cosine_text")) > 0.999
    assert max(_checked(method, "cosine_image")) < 0.999


def test_a_margin_that_never_bites_is_reported(planted, towers):
    said = _warned(towers(margin=-10.0, **SETTINGS), planted(80)[0])
    assert sum("no hinge was active in epoch" in message for message in said) == 1
    # Hinges that training has satisfied are not a fault.
    rows = [{"train_active_hinges": share} for share in (0.4, 0.1, 0.0, 0.0)]
    assert not signs("Towers", rows, 1000)
    assert signs("Towers", [rows[2]], 1000) and not signs("Towers", [rows[2]], 10)


class _Dead(nn.Module):
    def __init__(self, n_inputs, dead):
        super().__init__()
        self.branches = nn.ModuleDict({role: MLPBranch([n, 9, 4]) for role, n in n_inputs.items()})
        with torch.no_grad():
            for branch in self.branches.values():
                branch.layers[0].bias[:dead] = -1e3

    def encode(self, items, view):
        return self.branches[view](items.values)


@pytest.mark.parametrize("dead", [2, 4])
def test_dead_units_are_reported_from_a_third_on(planted, towers, dead):
    class Dying(towers):
        """With units that are never active."""

        def _build_module(self, n_inputs, n_classes):
            return _Dead(n_inputs, dead)

    method = Dying(**SETTINGS)
    said = _warned(method, planted(80)[0])
    assert sum("of the ReLU units are zero" in message for message in said) == (dead == 4)
    assert min(_checked(method, "dead_units")) >= dead / 9


class _Dots(NeuralPairEstimator):
    """Scores pairs by dot products, times a factor."""

    def __init__(self, *, factor=1.0, shift=0.0, **kwargs):
        super().__init__(device="cpu", **kwargs)
        self.factor, self.shift = factor, shift

    def _build_module(self, n_inputs, n_classes):
        return nn.ModuleDict({role: nn.Linear(n, 6) for role, n in n_inputs.items()})

    def _prepare_batch(self, module, items, view):
        encoded = module[view](items.values)
        # The second tensor is an input, which no weight has changed.
        shift = self.shift if view == "text" else 0
        return {"encoded": encoded + shift, "same": items.values.new_ones(len(encoded), 2)}

    def _score_pairs(self, module, P, Q):
        return self.factor * F.normalize(P["encoded"], dim=1) @ F.normalize(Q["encoded"], dim=1).T

    def _pair_bytes(self, P, Q):
        return 8

    def _loss(self, outputs, batch):
        masks = batch.positives, batch.negatives
        return triplet_loss(outputs, *masks, mining="all") + triplet_loss(
            outputs.T, *(mask.T for mask in masks), mining="all"
        )


def _pairs(cls, towers, **params):
    cls.card = towers.card
    return cls(**params)


def test_scores_of_pairs_are_checked_too(planted, towers):
    views = planted(80)[0]
    sound = _pairs(_Dots, towers, **SETTINGS)
    assert not _warned(sound, views)
    assert len(_checked(sound, "cosine_text")) == 160 * 80 // (50 * 40)
    assert max(_checked(sound, "cosine_text")) < 0.9
    assert _checked(sound, "constant_loss")[-1] == pytest.approx(2 * 0.2)
    shifted = _warned(_pairs(_Dots, towers, shift=1e4, **SETTINGS), views)
    assert any("view 'text' have collapsed" in message for message in shifted)
    same = _warned(_pairs(_Dots, towers, factor=1e-6, **SETTINGS), views)
    assert sum("as for outputs that are the same" in message for message in same) == 1


def test_checks_do_not_reach_the_training(planted, towers, weights, monkeypatch):
    settings = {**SETTINGS, "module__dropout": 0.5}
    views = planted(80)[0]
    checked = towers(**settings).fit(views)
    assert _checked(checked, "cosine_text")
    monkeypatch.setattr(training, "due", lambda *_: False)
    plain = towers(**settings).fit(views)
    assert not _checked(plain, "cosine_text")
    assert torch.equal(weights(checked), weights(plain))


def test_a_resumed_fit_makes_the_checks_of_one_that_went_through(planted, towers, tmp_path):
    views = planted(80)[0]
    names = ("cosine_image", "cosine_text", "checked_loss", "constant_loss")

    def curves(method):
        return [_checked(method, name) for name in names]

    through = towers(**SETTINGS).fit(views)
    path = tmp_path / "fit.pt"
    towers(**{**SETTINGS, "max_epochs": 70}, callbacks=[Checkpoint(path)]).fit(views)
    resumed = towers(**SETTINGS, callbacks=[Checkpoint(path)]).fit(views)
    assert curves(resumed) == curves(through)


def test_a_loss_that_is_not_defined_for_equal_outputs_has_no_constant_value(planted, towers):
    class Divides(towers):
        """Needs outputs that differ."""

        def _loss(self, outputs, batch):
            if outputs["image"].std(dim=0).max() < 1e-6:
                raise ValueError("outputs must differ")
            return super()._loss(outputs, batch)

    method = Divides(**SETTINGS)
    assert not _warned(method, planted(80)[0])
    assert _checked(method, "checked_loss") and not _checked(method, "constant_loss")
