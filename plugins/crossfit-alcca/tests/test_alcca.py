"""ACMR and ALCCA against their equations and rulings."""

import itertools
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback
from torch.nn import functional as F

import crossfit
from crossfit import Ragged, Views, evaluate, registry
from crossfit.model_selection import make_retrieval_scorer
from crossfit.neural import Batch, Checkpoint, Items, listening
from crossfit.subspace import CCA
from crossfit_alcca import estimator
from crossfit_alcca.estimator import ACMR, ALCCA
from crossfit_alcca.network import AdversarialNetwork
from crossfit_alcca.testing import make_image_inputs, make_inputs

SMALL = {"hidden": 32, "width": 16, "max_epochs": 10, "lr": 1e-2, "margin": 5.0, "batch_size": 32,
         "standardize": False, "device": "cpu"}  # fmt: skip
pytestmark = pytest.mark.filterwarnings("ignore:CCA. n_components:UserWarning")
BOTH = pytest.mark.parametrize("cls", [ACMR, ALCCA])


@pytest.fixture(scope="module")
def planted():
    views, y = make_inputs(np.random.default_rng(0), 120)
    return views[:80], y[:80], views[80:], y[80:]


@pytest.fixture(scope="module")
def fitted(planted):
    return {cls: cls(random_state=0, **SMALL).fit(planted[0], planted[1]) for cls in (ACMR, ALCCA)}


@pytest.fixture(autouse=True)
def _leave_torch_as_it_was():
    with torch.random.fork_rng():
        yield


def _weights(method, part=""):
    state = method.net_.module_.state_dict()
    return torch.cat([w.flatten().double() for name, w in state.items() if name.startswith(part)])


# ---- the network -------------------------------------------------------------------------------


@pytest.mark.parametrize(("cls", "n_inputs", "hidden"), [
    (ALCCA, {"audio": 3220, "text": 300}, (1000, 200)),
    (ACMR, {"image": 4096, "text": 5000}, (2000, 500)),
])  # fmt: skip
def test_the_published_sizes(cls, n_inputs, hidden):
    module = cls()._build_module(n_inputs, 20)
    found = {name: tuple(w.shape) for name, w in module.named_parameters() if w.ndim == 2}
    (first, second), (d, e) = n_inputs, n_inputs.values()
    assert found == {
        f"projectors.{first}.layers.0.weight": (hidden[0], d),
        f"projectors.{first}.layers.2.weight": (200, hidden[0]),
        f"projectors.{second}.layers.0.weight": (hidden[1], e),
        f"projectors.{second}.layers.2.weight": (200, hidden[1]),
        "label_predictor.weight": (20, 200),
        "discriminator.layers.0.weight": (50, 200),
        "discriminator.layers.2.weight": (2, 50),
    }
    for projector in module.projectors.values():
        kinds = [type(layer).__name__ for layer in projector.layers]
        assert kinds == ["Linear", "Tanh", "Linear", "Tanh"]
    assert cls().get_params()["batch_size"] == (100 if cls is ALCCA else 64)


@pytest.mark.parametrize("name", [
    "vuong-2019-alcca-music", "vuong-2019-alcca-music-moods", "wang-2017-acmr-wikipedia"
])  # fmt: skip
def test_the_experiments_of_the_papers_have_the_published_settings(name):
    from crossfit.experiment import Experiment

    described = Experiment.from_file(FOLDER / f"{name}.yaml")
    assert described.methods
    for entry in described.methods:
        built = registry.load(entry.method, "crossfit.methods")(**entry.params)
        defaults = {"max_epochs": 200, "lr": 1e-4, "margin": 1.0, "optimizer": "Adam"}
        assert {key: built.get_params()[key] for key in defaults} == defaults
        assert built.standardize is (entry.method == "alcca")
        if entry.method == "alcca":
            assert built.cca_reg == 0.1


def test_one_batch_in_the_published_sizes():
    rng = np.random.default_rng(0)
    audio = rng.normal(size=(100, 20, 161)).astype(np.float32)
    text = rng.normal(size=(100, 300)).astype(np.float32)
    method = ALCCA(max_epochs=1, n_components=10, device="cpu", random_state=0)
    method.fit(audio, text, np.arange(100) % 20)
    row = method.net_.history[-1]
    # At the start the classifiers are at chance.
    assert row["train_labels"] == pytest.approx(2 * np.log(20), rel=0.1)
    assert row["train_adversary"] == pytest.approx(2 * np.log(2), rel=0.1)
    assert method.project(audio[:2], "audio").shape == (2, 200)
    assert method.transform(audio[:2], text[:3])[1].shape == (3, 10)


# ---- the losses against loops and finite differences -------------------------------------------


def _batch(y, groups=None, progress=0.0):
    rows = torch.arange(len(y))
    item = {"image": rows, "text": rows}
    groups = rows if groups is None else torch.tensor(groups)
    return Batch({}, item, groups, torch.tensor(y), progress)


def _draw(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)


def _distance(a, b):
    return np.sqrt(((a - b) ** 2).sum() + 1e-4)


LABELS = [0, 1, 0, 2, -1, 1, -1]
GROUPS = [0, 1, 2, 3, 4, 0, 6]  # rows 0 and 5 are of one group, with different labels


def test_the_invariance_is_the_loop_over_positives_and_negatives():
    v, t, margin = _draw(7, 3), _draw(7, 3, seed=1), 2.0
    found = ACMR(margin=margin, negative_weight=0.7)._invariance(v, t, _batch(LABELS, GROUPS))
    near, far = [], []
    for anchors, others in ((v, t), (t, v)):
        for i, j in itertools.product(range(7), repeat=2):
            d = _distance(anchors[i].detach().numpy(), others[j].detach().numpy())
            if i == j or LABELS[i] == LABELS[j] != -1:
                near.append(d)
            elif -1 not in (LABELS[i], LABELS[j]) and GROUPS[i] != GROUPS[j]:
                far.append(max(0.0, margin - d))
    # Both directions are added, each a mean.
    assert found.item() == pytest.approx(2 * (np.mean(near) + 0.7 * np.mean(far)), rel=1e-9)
    assert 0 < len(far) < 2 * 42 - len(near)
    printed = ACMR(negatives=None)._invariance(v, t, _batch(LABELS))
    own = [_distance(a, b) for a, b in zip(v.detach().numpy(), t.detach().numpy())]
    assert printed.item() == pytest.approx(2 * np.mean(own), rel=1e-9)


def test_an_item_that_several_pairs_share_is_everyones_positive():
    rows = torch.arange(3)
    item = {"image": torch.tensor([0, 0, 1]), "text": rows}
    batch = Batch({}, item, torch.tensor([0, 0, 1]), torch.full((3,), -1))
    v, t = _draw(3, 2), _draw(3, 2, seed=1)
    found = ACMR()._invariance(v, t, batch)
    pairs = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 2)]
    near = [_distance(v[i].detach().numpy(), t[j].detach().numpy()) for i, j in pairs]
    assert found.item() == pytest.approx(2 * np.mean(near), rel=1e-9)


def test_the_label_loss_is_the_log_likelihood_of_both_modalities():
    logits, y = [_draw(7, 3), _draw(7, 3, seed=1)], torch.tensor(LABELS)
    p = [torch.softmax(z, 1).detach().numpy() for z in logits]
    known = [i for i, label in enumerate(LABELS) if label >= 0]
    expected = -np.mean([np.log(p[0][i, LABELS[i]]) + np.log(p[1][i, LABELS[i]]) for i in known])
    assert estimator._discrimination(logits, y).item() == pytest.approx(expected)
    assert estimator._discrimination(logits, torch.full((7,), -1)) == 0


def test_the_adversarial_loss_is_equation_6():
    logits = [_draw(7, 2), _draw(7, 2, seed=1)]
    D = [torch.softmax(z, 1)[:, 0].detach().numpy() for z in logits]
    expected = -np.mean(np.log(D[0]) + np.log(1 - D[1]))
    assert estimator._adversary(logits).item() == pytest.approx(expected)
    nothing = [torch.zeros(3, 2), torch.zeros(3, 2)]
    assert estimator._adversary(nothing).item() == pytest.approx(2 * np.log(2))


def test_the_losses_have_the_gradients_of_finite_differences():
    y = torch.tensor(LABELS)
    for negatives in ("triplet", None):
        method = ACMR(negatives=negatives, margin=2.0)
        batch = _batch(LABELS, GROUPS)
        assert torch.autograd.gradcheck(
            lambda v, t, m=method, b=batch: m._invariance(v, t, b),
            (_draw(7, 3), _draw(7, 3, seed=1)),
        )
    assert torch.autograd.gradcheck(
        lambda a, b: estimator._discrimination([a, b], y), (_draw(7, 3), _draw(7, 3, seed=1))
    )
    assert torch.autograd.gradcheck(
        lambda a, b: estimator._adversary([a, b]), (_draw(7, 2), _draw(7, 2, seed=1))
    )
    same = torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
    ACMR()._invariance(same, same, _batch([0, 1, 0, 1])).backward()
    assert torch.isfinite(same.grad).all()


def _network(**settings):
    torch.manual_seed(0)
    return AdversarialNetwork({"image": 5, "text": 4}, 3, hidden={"image": 6, "text": 7}, width=3,
                              modality_hidden=4, **settings)  # fmt: skip


def test_the_decay_is_of_the_projectors_matrices_with_gradients_in_closed_form():
    module = _network()
    matrices = [w for name, w in module.projectors.named_parameters() if name.endswith("weight")]
    assert len(matrices) == 4
    for power in (2, 1):
        norms = [np.linalg.norm(w.detach().numpy()) for w in matrices]
        module.zero_grad()
        decay = module.decay(power)
        assert decay.item() == pytest.approx(sum(norm**power for norm in norms), rel=1e-6)
        decay.backward()
        for w, norm in zip(matrices, norms):
            torch.testing.assert_close(w.grad, 2 * w.detach() if power == 2 else w.detach() / norm)
        held = {name for name, w in module.named_parameters() if w.grad is not None}
        assert all(name.startswith("projectors") for name in held)


# ---- the adversary -----------------------------------------------------------------------------


def _step(method, module, progress):
    """Return the batch of a training step, its outputs and its terms."""
    generator = torch.Generator().manual_seed(3)
    views = {"image": Items(torch.randn(6, 5, generator=generator)),
             "text": Items(torch.randn(6, 4, generator=generator))}  # fmt: skip
    batch = _batch([0, 1, 2, 0, 1, 2], progress=progress)
    batch = Batch(views, batch.item, batch.groups, batch.y, progress)
    outputs = method._outputs(module, batch)
    return outputs, method._loss(outputs, batch)


@pytest.mark.parametrize(("progress", "schedule"), [(0.0, 0.0), (0.1, 0.4621), (0.5, 0.9866)])
@pytest.mark.parametrize("adv_weight", [1.0, 0.3, 0.0])
def test_the_projectors_get_minus_lambda_times_the_gradient_of_the_adversarial_loss(
    progress, schedule, adv_weight
):
    method = ACMR(adv_weight=adv_weight)
    module = _network()
    names = [name for name, _ in module.named_parameters()]
    own = [name for name in names if name.startswith("projectors")]
    of = dict(module.named_parameters())
    outputs, terms = _step(method, module, progress)
    reversed_ = torch.autograd.grad(terms["adversary"], [of[n] for n in own], retain_graph=True,
                                    allow_unused=True)  # fmt: skip
    at_discriminator = torch.autograd.grad(
        terms["adversary"], list(module.discriminator.parameters()), retain_graph=True
    )
    # The same loss by hand, without the reversal, at the embeddings.
    embedded = [z.detach().requires_grad_() for z in outputs["embedded"]]
    plain = sum(
        F.cross_entropy(module.discriminator(z), torch.full((6,), i))
        for i, z in enumerate(embedded)
    )
    plain.backward()
    torch.testing.assert_close(terms["adversary"], plain)
    strength = adv_weight * schedule
    expected = torch.autograd.grad(
        outputs["embedded"], [of[n] for n in own], [-strength * z.grad for z in embedded],
        retain_graph=True,
    )  # fmt: skip
    for got, wanted in zip(reversed_, expected):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-7)
    assert any(wanted.abs().max() > 1e-4 for wanted in expected) == (strength > 0)
    # The classifier itself learns at full strength, in the opposite direction.
    for got, w in zip(at_discriminator, module.discriminator.parameters()):
        torch.testing.assert_close(got, w.grad)
    # The label predictor does not receive a gradient of it.
    heard = torch.autograd.grad(
        terms["adversary"], list(module.label_predictor.parameters()), allow_unused=True
    )
    assert heard == (None, None)


def test_the_schedule_follows_the_epochs(planted, monkeypatch):
    seen = []

    def hear(progress, steepness):
        seen.append((progress, steepness))
        return 0.0

    monkeypatch.setattr(estimator, "grad_reverse_schedule", hear)
    settings = SMALL | {"max_epochs": 4, "batch_size": 40, "adv_steepness": 7.0}
    ACMR(random_state=0, **settings).fit(planted[0], planted[1])
    assert seen == [(epoch / 4, 7.0) for epoch in range(4) for _ in range(2)]


def _told_apart(method, views):
    """Return how often the modality classifier is right about the views."""
    module = method.net_.module_
    right = []
    for i, role in enumerate(method.views_in_):
        z = torch.as_tensor(np.asarray(ACMR._encode(method, views[role], role))).float()
        with torch.no_grad():
            right.append(module.discriminator(z).argmax(dim=1) == i)
    return torch.cat(right).double().mean().item()


def test_the_adversary_takes_the_modalities_together():
    # Labels and invariance also do so; without them only the adversary moves the projectors.
    views, y = make_image_inputs(np.random.default_rng(0), 200)
    settings = SMALL | {"alpha": 0.0, "beta": 0.0, "reg": 0.0, "max_epochs": 40, "batch_size": 100}
    on, off = (ACMR(adv_weight=w, random_state=0, **settings).fit(views, y) for w in (1.0, 0.0))
    assert _told_apart(off, views) > 0.99
    assert _told_apart(on, views) < 0.9
    chance = 2 * np.log(2)
    assert off.net_.history[-1]["train_adversary"] < 0.1 * chance
    assert on.net_.history[-1]["train_adversary"] > 0.6 * chance


class _Watches(Callback):
    """Record, batch by batch, which parts of the network changed."""

    def on_train_begin(self, net, **kwargs):
        self.moved_ = []
        self.last_ = self._state(net)

    def on_batch_end(self, net, batch=None, training=False, **kwargs):
        now = self._state(net)
        self.moved_.append({part for part in now if not torch.equal(now[part], self.last_[part])})
        self.last_ = now

    def _state(self, net):
        parts = ("projectors", "discriminator", "label_predictor")
        return {
            part: torch.cat([w.detach().flatten() for w in getattr(net.module_, part).parameters()])
            for part in parts
        }


@pytest.mark.parametrize("k", [1, 3])
def test_the_discriminator_learns_from_every_kth_batch(planted, k):
    settings = SMALL | {"max_epochs": 2, "batch_size": 16}
    watch = _Watches()
    method = ACMR(projector_steps=k, random_state=0, callbacks=[("watch", watch)], **settings)
    method.fit(planted[0], planted[1])
    moved = dict(method.net_.callbacks_)["watch"].moved_
    assert len(moved) == 10
    for i, parts in enumerate(moved, 1):
        assert {"projectors", "label_predictor"} <= parts
        assert ("discriminator" in parts) == (i % k == 0)


# ---- training ----------------------------------------------------------------------------------


def test_the_optimizer_is_adam_with_the_momentum_of_the_authors_code(planted):
    method = ACMR(**SMALL | {"max_epochs": 1}).fit(planted[0], planted[1])
    assert type(method.net_.optimizer_) is torch.optim.Adam
    assert method.net_.optimizer_.param_groups[0]["betas"] == (0.5, 0.999)
    clone(method).set_params(optimizer="SGD").fit(planted[0], planted[1])
    other = clone(method).set_params(optimizer__betas=(0.8, 0.99)).fit(planted[0], planted[1])
    assert other.net_.optimizer_.param_groups[0]["betas"] == (0.8, 0.99)


@BOTH
def test_two_hundred_pairs_are_memorised(cls):
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(200, 40)), rng.normal(size=(200, 30))
    settings = {"hidden": 256, "width": 64, "lr": 3e-3, "margin": 5.0, "batch_size": 100}
    method = cls(max_epochs=60, **settings, random_state=0, device="cpu")
    found = method.fit(X, Y, np.arange(200)).similarity(X, Y)  # every pair is its own class
    assert evaluate(found, np.eye(200), "r@1", ci=None).mean(None, "r@1") > 0.98


@BOTH
def test_pairs_never_seen_are_found_by_label(cls, fitted, planted):
    assert fitted[cls].score(planted[2], y=planted[3]) > 0.6


@BOTH
def test_fits_repeat_bit_for_bit(cls, fitted, planted):
    again = clone(fitted[cls]).fit(planted[0], planted[1])
    assert torch.equal(_weights(again), _weights(fitted[cls]))
    np.testing.assert_array_equal(again.similarity(planted[2]), fitted[cls].similarity(planted[2]))


def test_the_networks_of_both_methods_are_one(fitted):
    assert torch.equal(_weights(fitted[ACMR]), _weights(fitted[ALCCA]))


@BOTH
def test_rows_without_a_label_take_part_in_the_invariance_alone(cls, planted):
    train, y, test, y_test = planted
    half = np.where(np.arange(80) % 2, -1, y)
    method = cls(random_state=0, **SMALL).fit(train, half)
    assert method.classes_.tolist() == [0, 1, 2, 3, 4] and method.score(test, y_test) > 0.5


def test_what_is_validated_is_the_embedding_and_not_the_classifier(planted):
    settings = SMALL | {"max_epochs": 2, "validation_fraction": 0.4}
    row = ACMR(random_state=0, **settings).fit(planted[0], planted[1]).net_.history[-1]
    terms = {
        prefix: [row[f"{prefix}_{name}"] for name in ("invariance", "labels", "decay", "adversary")]
        for prefix in ("train", "valid")
    }
    assert row["valid_loss"] == pytest.approx(sum(terms["valid"][:3]), rel=1e-5)
    assert row["train_loss"] == pytest.approx(sum(terms["train"]), rel=1e-5)
    assert min(terms["train"][3], terms["valid"][3]) > 0.1


class _Dies(Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_batch_end(self, net, batch=None, training=False, **kwargs):
        if net.history[-1]["epoch"] == self.epoch and len(net.history[-1]["batches"]) == 2:
            raise InterruptedError


def test_a_killed_fit_goes_on_to_the_same_weights(planted, tmp_path):
    settings = SMALL | {"projector_steps": 2, "standardize": True, "max_epochs": 6}
    through = ALCCA(random_state=0, **settings).fit(planted[0], planted[1])
    checkpoint = Checkpoint(tmp_path / "fit.pt")
    for epoch in (3, 5):
        with pytest.raises(InterruptedError):
            clone(through).set_params(callbacks=[checkpoint, _Dies(epoch)]).fit(*planted[:2])
    resumed = clone(through).set_params(callbacks=[checkpoint]).fit(*planted[:2])
    assert torch.equal(_weights(resumed), _weights(through))
    np.testing.assert_array_equal(resumed.similarity(planted[2]), through.similarity(planted[2]))


@BOTH
def test_a_checkpoint_does_not_go_on_with_more_epochs(cls, planted, tmp_path):
    views, y, *_ = planted
    settings = SMALL | {"max_epochs": 1, "callbacks": [Checkpoint(tmp_path / "fit.pt")]}
    method = cls(random_state=0, **settings).fit(views, y)
    with pytest.raises(ValueError, match="with other parameters"):
        method.set_params(max_epochs=2).fit(views, y)


# ---- CCA on top --------------------------------------------------------------------------------


def test_alcca_is_crossfits_cca_of_its_own_embeddings(fitted, planted):
    train, _, test, _ = planted
    method = fitted[ALCCA]
    embedded = train.map(lambda values, role: method.project(values, role))
    cca = CCA(80, reg=1.0, power=0).fit(embedded)
    np.testing.assert_allclose(method.cca_.correlations_, cca.correlations_, rtol=1e-6)
    expected = test.map(lambda values, role: cca.encode(method.project(values, role), role))
    found = method.transform(test)
    for role in ("audio", "text"):
        np.testing.assert_allclose(found[role], expected[role], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        method.similarity(test),
        crossfit.similarities.pairwise_similarity(expected["audio"], expected["text"]),
        atol=1e-6,
    )
    # The first k components are those of a method with n_components=k.
    few = clone(method).set_params(n_components=5).fit(train, planted[1]).transform(test)
    np.testing.assert_allclose(few["text"], found["text"][:, :5], rtol=1e-5, atol=1e-6)


def test_the_cca_sees_no_pair_that_is_held_out(planted, tmp_path):
    train, y, test, _ = planted
    settings = SMALL | {"max_epochs": 4, "validation_fraction": 0.4}
    through = ALCCA(random_state=0, **settings).fit(train, y)
    checkpoint = Checkpoint(tmp_path / "fit.pt")
    with pytest.raises(InterruptedError):
        clone(through).set_params(callbacks=[checkpoint, _Dies(3)]).fit(train, y)
    resumed = clone(through).set_params(callbacks=[checkpoint]).fit(train, y)
    rows, held_out = ACMR._split(through, train, through._seed())
    assert len(rows) == 48 and len(held_out) == 32
    for method in (through, resumed):
        embedded = train[rows].map(method.project)
        expected = CCA(80, reg=1.0, power=0).fit(embedded).correlations_
        np.testing.assert_allclose(method.cca_.correlations_, expected, rtol=1e-6)
    np.testing.assert_array_equal(resumed.similarity(test), through.similarity(test))


def test_a_text_that_several_sounds_share_counts_once_for_each(planted):
    views, y = planted[0], planted[1]
    shared = Views.from_captions(
        views["text"][:40], views["audio"], np.arange(80) % 40, names=("text", "audio")
    ).select("audio", "text")
    method = ALCCA(random_state=0, **SMALL).fit(shared, y)
    rows = {role: method.project(shared[role], role) for role in shared.names}
    cca = CCA(80, reg=1.0, power=0).fit(Views(rows))
    np.testing.assert_allclose(method.cca_.correlations_, cca.correlations_, rtol=1e-6)
    assert method.similarity(shared).shape == (80, 40)


def test_a_listener_is_answered_while_alcca_trains(planted):
    heard = []

    def hear(method, epoch, record):
        heard.append((epoch, method.score(planted[2], y=planted[3])))

    with listening(hear):
        method = ALCCA(random_state=0, **SMALL | {"max_epochs": 4}).fit(planted[0], planted[1])
    assert [epoch for epoch, _ in heard] == [1, 2, 3, 4]
    assert heard[-1][1] == pytest.approx(method.score(planted[2], y=planted[3]))
    assert "_pairs" not in vars(method)


# ---- encodings and scores ----------------------------------------------------------------------


@BOTH
def test_an_item_has_one_encoding_wherever_it_stands(cls, fitted, planted):
    method, text = fitted[cls], np.asarray(planted[2]["text"])
    whole = method.encode(text, "text")
    alone = np.vstack([method.encode(text[i : i + 1], "text") for i in range(len(text))])
    np.testing.assert_allclose(alone, whole, rtol=1e-12, atol=1e-12)
    twice = method.encode(np.vstack([text, text[::-1]]), "text")
    np.testing.assert_allclose(twice[:40], twice[40:][::-1], rtol=1e-12, atol=1e-12)
    # A text that occurs twice is tied exactly, so that the rule for ties applies.
    repeated = np.tile(text[:1], (7, 1)).astype(np.float32)
    scores = method.similarity(planted[2]["audio"][:5], np.vstack([repeated, text[1:5]]))
    assert (scores[:, :7] == scores[:, :1]).all()


@BOTH
def test_neither_the_order_of_pairs_nor_labels_change_a_score(cls, fitted, planted):
    method, test = fitted[cls], planted[2]
    rng = np.random.default_rng(0)
    order, other = rng.permutation(40), rng.permutation(40)
    expected = method.similarity(test)
    # Unpaired rows: each modality has its own order.
    torn = Views(audio=test["audio"][order], text=test["text"][other])
    np.testing.assert_allclose(
        method.similarity(torn), expected[np.ix_(order, other)], rtol=1e-5, atol=1e-6
    )
    before = _weights(method)
    method.score(test, y=planted[3])
    method.score(test, y=rng.permutation(planted[3]))
    np.testing.assert_array_equal(method.similarity(test), expected)
    assert torch.equal(_weights(method), before)


def test_items_are_compared_as_asked(fitted, planted):
    test = planted[2]
    P, Q = (np.asarray(part, float) for part in fitted[ACMR].transform(test["audio"], test["text"]))
    distances = np.array([[np.linalg.norm(p - q) for q in Q] for p in P])
    np.testing.assert_allclose(fitted[ACMR].similarity(test), -distances, rtol=1e-5)
    cosines = np.array([[p @ q / np.linalg.norm(p) / np.linalg.norm(q) for q in Q] for p in P])
    other = clone(fitted[ACMR]).set_params(measure="cosine").fit(planted[0], planted[1])
    np.testing.assert_allclose(other.similarity(test), cosines, rtol=1e-4, atol=1e-6)
    assert ALCCA().measure == "cosine"


# ---- input -------------------------------------------------------------------------------------


def test_matrices_are_flattened_row_by_row(fitted, planted):
    train, y, test, _ = planted
    flat = train.map(lambda values, role: values.reshape(len(values), -1))
    method = clone(fitted[ALCCA]).fit(flat, y)
    assert torch.equal(_weights(method), _weights(fitted[ALCCA]))
    found = method.encode(test["audio"].reshape(40, -1), "audio")
    np.testing.assert_array_equal(found, fitted[ALCCA].encode(test["audio"], "audio"))
    with pytest.raises(ValueError, match=r"'audio' was fitted on 24 numbers per item, got 18"):
        fitted[ALCCA].encode(test["audio"][:, :3], "audio")
    ragged = Ragged.from_list([test["audio"][i, : 1 + i % 4] for i in range(40)])
    with pytest.raises(ValueError, match=r"'audio' must have rows of one size, got a Ragged"):
        clone(method).fit(ragged, test["text"], planted[3])


def test_standardize_is_the_training_means_and_deviations(planted):
    train, y, test, _ = planted

    def change(values, role):
        values = 30 * values.reshape(len(values), -1) + 100
        values[:, 1] = 7.0  # a constant column
        return values

    train, test = train.map(change), test.map(change)
    scalers = {role: StandardScaler().fit(train[role]) for role in train.names}
    scaled = [
        part.map(lambda values, role: scalers[role].transform(values)) for part in (train, test)
    ]
    settings = SMALL | {"random_state": 0}
    method = ALCCA(**settings | {"standardize": True}).fit(train, y)
    by_hand = ALCCA(**settings).fit(scaled[0], y)
    np.testing.assert_allclose(
        method.similarity(test), by_hand.similarity(scaled[1]), rtol=1e-3, atol=1e-3
    )
    for role, scaler in scalers.items():
        scaling = method.net_.module_.scaling[role]
        np.testing.assert_allclose(scaling.mean.numpy(), scaler.mean_, rtol=1e-5)
        np.testing.assert_allclose(scaling.scale.numpy(), scaler.scale_, rtol=1e-5)


def test_bundles_of_0_1_0_kept_the_scaling_of_both_views_together(planted):
    train, y, test, _ = planted
    method = ALCCA(random_state=0, **SMALL | {"standardize": True, "max_epochs": 2}).fit(train, y)
    state, arrays = method.__crossfit_state__()
    rows = [
        np.concatenate([arrays.pop(f"module.scaling.{role}.{name}") for role in ("audio", "text")])
        for name in ("mean", "scale")
    ]
    arrays["features.scaling_"] = np.stack(rows).astype(np.float64)
    loaded = clone(method)
    loaded.views_in_, loaded.n_features_in_ = method.views_in_, method.n_features_in_
    loaded.__crossfit_restore__(state, arrays)
    np.testing.assert_array_equal(loaded.similarity(test), method.similarity(test))


def test_sparse_texts_are_dense_texts(planted):
    views, y = make_image_inputs(np.random.default_rng(1), 80)
    counts = np.maximum(views["text"], 0).round(1)
    dense = ACMR(random_state=0, **SMALL).fit(views["image"], counts, y)
    sparse = ACMR(random_state=0, **SMALL).fit(views["image"], sp.csr_array(counts), y)
    assert torch.equal(_weights(sparse), _weights(dense))
    found = sparse.encode(sp.csr_array(counts), "text")
    np.testing.assert_allclose(found, dense.encode(counts, "text"), rtol=1e-6)


def test_any_names_of_views_will_do(planted):
    named = planted[0].rename({"audio": "song", "text": "lyrics"})
    settings = SMALL | {"hidden": {"audio": 8, "text": 9}, "max_epochs": 1}
    method = ALCCA(views={"audio": "song", "text": "lyrics"}, **settings).fit(named, planted[1])
    assert method.transform(named).names == ("song", "lyrics")
    projectors = method.net_.module_.projectors
    widths = [projectors[role].layers[0].out_features for role in ("audio", "text")]
    assert widths == [8, 9]


def test_mistakes_are_said_in_a_sentence(planted):
    train, y = planted[:2]
    with pytest.raises(ValueError, match="ALCCA needs labels of at least two classes, got 1"):
        ALCCA(**SMALL).fit(train, np.zeros(80, int))
    for hidden in ({"image": 3, "text": 4}, {"audio": 3}, {"audio": 3, "text": 0}):
        with pytest.raises(ValueError, match="ALCCA: hidden must be a number of at least 1, or"):
            ALCCA(**SMALL | {"hidden": hidden}).fit(train, y)
    for name, value in (("negatives", "hard"), ("reg_power", 3), ("margin", 0), ("measure", "x"),
                        ("projector_steps", 0), ("n_components", 0)):  # fmt: skip
        with pytest.raises(ValueError, match=name):
            ALCCA(**SMALL | {name: value}).fit(train, y)
    with pytest.raises(TypeError, match="no parameter 'similarity'"):
        ALCCA(similarity="l2")


# ---- bundles -----------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("standardize", [False, True])
def test_bundles_and_pickles_answer_as_the_model_does(cls, standardize, planted, tmp_path):
    settings = SMALL | {"standardize": standardize, "max_epochs": 3}
    method = cls(random_state=0, **settings)
    method.fit(planted[0], planted[1])
    expected = method.similarity(planted[2])
    crossfit.save(method, tmp_path / "model")
    generator = torch.get_rng_state()
    loaded = crossfit.load(tmp_path / "model")
    assert torch.equal(torch.get_rng_state(), generator)
    assert type(loaded) is cls and loaded.get_params() == method.get_params()
    for other in (loaded, pickle.loads(pickle.dumps(method))):
        np.testing.assert_array_equal(other.similarity(planted[2]), expected)
        if cls is ALCCA:
            np.testing.assert_array_equal(other.cca_.correlations_, method.cca_.correlations_)
    assert loaded.net_.history[:, "train_adversary"] == method.net_.history[:, "train_adversary"]
    again = loaded.fit(planted[0], planted[1])  # a loaded method can be fitted again
    np.testing.assert_array_equal(again.similarity(planted[2]), expected)


# ---- experiments -------------------------------------------------------------------------------

FOLDER = Path(__file__).parents[1] / "experiments"


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.yaml")), ids=lambda file: file.stem)
def test_an_experiment_is_well_formed_registered_and_its_methods_take_its_parameters(file):
    from crossfit.experiment import Experiment

    card = registry.get(file.stem, "crossfit.experiments")
    described = Experiment.from_file(file)
    assert card.target == f"crossfit_alcca:experiments/{file.name}"
    assert set(card.methods) == {entry.method for entry in described.methods}
    assert set(card.datasets) == {entry.name for entry in described.datasets}
    for entry in described.methods:
        method = registry.load(entry.method, "crossfit.methods")(**entry.params)
        if hasattr(method, "_parameter_constraints"):
            method._validate_params()


def test_the_table_of_the_paper_is_there_row_by_row():
    from crossfit.experiment import Experiment

    by_pair = Experiment.from_file(FOLDER / "vuong-2019-alcca-music.yaml")
    by_mood = Experiment.from_file(FOLDER / "vuong-2019-alcca-music-moods.yaml")
    assert (by_pair.relevance, by_mood.relevance) == ("pair", "label")
    for described in (by_pair, by_mood):
        components = [entry.params["n_components"] for entry in described.methods]
        assert components == list(range(10, 101, 10))
        assert [one.options["fold"] for one in described.datasets] == [0, 1, 2, 3, 4]
    for pair, mood in zip(by_pair.methods, by_mood.methods):
        for way in ("audio2text", "text2audio"):
            instance, category = (e.published["mrr"][way] for e in (pair, mood))
            # Items of a pair have the same mood, so the first relevant item has no larger rank.
            assert pair.published["r@1"][way] <= instance <= category
            assert pair.published["r@1"][way] < pair.published["r@5"][way]
    best = by_pair.methods[7]
    assert best.params["n_components"] == 80
    assert best.published["mrr"] == {"audio2text": 0.456, "text2audio": 0.452}


@BOTH
def test_the_defaults_learn_on_sounds_and_titles(cls):
    from crossfit import datasets
    from crossfit.extraction import LogMel

    if not os.environ.get("CROSSFIT_DATA"):
        pytest.skip("CROSSFIT_DATA does not name a folder with the real data sets")
    data = datasets.load("esc10", fold=3, folds=(1, 2, 3))
    mel = LogMel(duration=5, output="moments")
    words = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), min_df=2)
    sounds = mel.fit_transform(data["train"].views["audio"])
    titles = words.fit_transform(data["train"].views["text"])
    views = dict(zip(cls.card.roles, ("audio", "text")))
    method = cls(random_state=0, views=views).fit(Views(audio=sounds, text=titles), data["train"].y)
    test = data["test"].views
    gallery = Views(audio=mel.transform(test["audio"]), text=words.transform(test["text"]))
    score = make_retrieval_scorer("map@all", direction="both")(method, gallery, data["test"].y)
    # A random order has a mean average precision of .14 with ten classes of eight.
    assert score > 0.2


def test_after_nan_it_answers_with_the_last_sound_weights():
    views, y = make_inputs(np.random.default_rng(0), 60)

    class Breaks(ALCCA):
        def _loss(self, outputs, batch):
            bad = float("nan") if batch.progress >= 0.5 else 1.0
            return {name: bad * term for name, term in super()._loss(outputs, batch).items()}

    method = Breaks(n_components=4, hidden=16, width=8, max_epochs=4, random_state=0)
    with pytest.raises(FloatingPointError, match="weights after epoch 2"):
        method.fit(views, y)
    assert np.isfinite(method.similarity(views)).all()
