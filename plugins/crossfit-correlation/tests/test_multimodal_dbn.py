"""The multimodal deep belief network against enumerated states, its phases and chance."""

import itertools

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.special import expit
from sklearn.base import clone
from skorch.callbacks import Callback, EarlyStopping

import crossfit
from crossfit import Views, evaluate
from crossfit.neural import Checkpoint, listening
from crossfit_correlation.multimodal_dbn import DeepBeliefNetwork, MultimodalDBN
from crossfit_correlation.testing import make_inputs

SMALL = {"hidden": (10, 8), "width": 6, "max_epochs": 9, "batch_size": 32, "device": "cpu"}


@pytest.fixture(scope="module")
def planted():
    views, _ = make_inputs(np.random.default_rng(0), 120)
    return views[:80], views[80:]


@pytest.fixture(scope="module")
def documents():
    """Images that depend on one of four topics, and counts of 5 to 30 words of that topic."""
    rng = np.random.default_rng(0)
    topic = np.arange(200) % 4
    image = 2 * rng.normal(size=(4, 10))[topic] + rng.normal(size=(200, 10))
    shares = rng.dirichlet(np.full(12, 0.15), size=4)[topic]
    lengths = rng.integers(5, 30, 200)
    text = np.array([rng.multinomial(n, p) for n, p in zip(lengths, shares)])
    return Views(image=image, text=text.astype(float)), topic


def _weights(method, part=""):
    state = method.net_.module_.state_dict()
    return torch.cat([w.flatten().double() for name, w in state.items() if part in name])


class _Dies(Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == self.epoch:
            raise InterruptedError


# ---- the phases ----------------------------------------------------------------------------------


def test_layers_are_trained_one_after_the_other(planted):
    states = []

    def keep(estimator, epoch, record):
        module = estimator.net_.module_
        states.append({name: w.clone() for name, w in module.named_parameters()})

    settings = SMALL | {"hidden": {"image": (10, 8), "text": (7,)}}
    with listening(keep):
        method = MultimodalDBN(random_state=0, **settings).fit(planted[0])
    trained = [
        {name.rsplit(".", 1)[0] for name, w in now.items() if not torch.equal(w, before[name])}
        for before, now in itertools.pairwise(states)
    ]
    first = {"paths.image.rbms.0", "paths.text.rbms.0"}
    expected = [first] * 2 + [{"paths.image.rbms.1"}] * 3 + [{"joint"}] * 3
    assert trained == expected
    terms = [{key for key in row if key in LAYERS} for row in method.net_.history]
    both = {"train_image_1", "train_text_1"}
    assert terms == [both] * 3 + [{"train_image_2"}] * 3 + [{"train_joint"}] * 3
    for row in method.net_.history:
        assert row["train_loss"] == pytest.approx(sum(row.get(key, 0) for key in LAYERS), rel=1e-5)


LAYERS = {"train_image_1", "train_image_2", "train_text_1", "train_text_2", "train_joint"}


def test_every_layer_learns_to_reconstruct(planted):
    settings = SMALL | {"max_epochs": 90}
    history = MultimodalDBN(random_state=0, **settings).fit(planted[0]).net_.history
    for name in ("image_1", "text_1", "image_2", "text_2", "joint"):
        errors = [row[f"train_{name}"] for row in history if f"train_{name}" in row]
        assert len(errors) == 30 and errors[-1] < 0.9 * errors[0], name


@pytest.mark.parametrize("counts", [False, True])
def test_a_killed_fit_goes_on_to_the_same_weights_in_any_phase(
    counts, planted, documents, tmp_path
):
    train, test = planted if not counts else (documents[0][:150], documents[0][150:])
    settings = SMALL | {
        "n_chains": 20, "sparsity": 0.2, "k_after": 3, "k_every": 2, "lr_half_life": 10.0,
        "sample_visible": True, "validation_fraction": 0.2,
    }  # fmt: skip
    through = MultimodalDBN(random_state=0, **settings).fit(train)
    checkpoint = Checkpoint(tmp_path / "fit.pt")
    for epoch in (2, 3, 5, 7):
        with pytest.raises(InterruptedError):
            clone(through).set_params(callbacks=[checkpoint, _Dies(epoch)]).fit(train)
    resumed = clone(through).set_params(callbacks=[checkpoint]).fit(train)
    assert torch.equal(_weights(resumed), _weights(through))
    np.testing.assert_array_equal(resumed.similarity(test), through.similarity(test))
    # With more epochs every layer would have had another share of them.
    with pytest.raises(ValueError, match="with other parameters"):
        resumed.set_params(max_epochs=12).fit(train)


def test_the_learning_rates_of_the_layers(planted):
    rates = []

    class Sees(Callback):
        def on_batch_end(self, net, training=False, **kwargs):
            if training:
                rates.append([(g["lr"], g["momentum"]) for g in net.optimizer_.param_groups])

    method = MultimodalDBN(
        layer_lr={"image": [0.001, 0.05], "joint": 0.02}, lr_half_life=2.0, callbacks=[Sees()],
        random_state=0, **SMALL,
    ).fit(planted[0])  # fmt: skip
    # Image layers, text layers, joint; Gaussian units have gaussian_lr / n_hidden.
    base = [0.001, 0.05, 2.0 / 10, 0.1, 0.02]
    n = len(rates) // 3
    assert len(rates) == 3 * n
    for phase in range(3):  # the updates are counted from 0 again
        for step in (0, 2, 5):
            found = rates[phase * n + step]
            assert [lr for lr, _ in found] == pytest.approx([lr / (1 + step / 2) for lr in base])
            assert found[0][1] == pytest.approx(0.9 - 0.4 * np.exp(-step / 1000))
    assert method.net_.optimizer_.param_groups[0]["params"]


def test_the_layers_have_their_own_penalties(planted):
    settings = SMALL | {
        "max_epochs": 3, "l2": {"image": [0.1, 0.2], "text": 0.3, "joint": 0.0},
        "sparsity": {"image": [0.2, 0.1], "text": 0.15, "joint": None},
    }  # fmt: skip
    module = MultimodalDBN(random_state=0, **settings).fit(planted[0]).net_.module_
    machines = [*module.paths["image"].rbms, *module.paths["text"].rbms, module.joint]
    assert [rbm.l2 for rbm in machines] == [0.1, 0.2, 0.3, 0.3, 0.0]
    assert [rbm.sparsity for rbm in machines] == [0.2, 0.1, 0.15, 0.15, None]


# ---- inference -----------------------------------------------------------------------------------


def _network(scale):
    torch.manual_seed(0)
    module = DeepBeliefNetwork(
        {"image": 5, "text": 4}, units={"image": "gaussian", "text": "bernoulli"},
        hidden={"image": [2], "text": [3]}, width=4, length=100.0,
    )  # fmt: skip
    with torch.no_grad():
        for part in module.joint.parameters():
            part.copy_(scale * torch.randn(part.shape))
    return module.eval()


def _exact(module, known, view):
    """Return E[joint | known] by summation over all states of the unknown units."""
    W, c, b = (
        part.detach().double().numpy()
        for part in (module.joint.weight, module.joint.hidden_bias, module.joint.visible_bias)
    )
    at = slice(0, 2) if view == "image" else slice(2, 5)
    free = slice(2, 5) if view == "image" else slice(0, 2)
    total, weight = 0.0, 0.0
    for states in itertools.product((0.0, 1.0), repeat=W[:, free].shape[1]):
        u = np.array(states)
        x = c + W[:, at] @ known + W[:, free] @ u
        p = np.exp(b[free] @ u + np.logaddexp(0, x).sum())
        total, weight = total + p * expit(x), weight + p
    return total / weight


@pytest.mark.parametrize("view", ["image", "text"])
def test_gibbs_sampling_has_the_exact_means(view):
    module = _network(1.0)
    known = torch.rand(3, module.widths[view])
    with torch.no_grad():
        found = module.gibbs(known, view, 20_000)
    for row, mine in zip(known.double().numpy(), found.numpy()):
        np.testing.assert_allclose(mine, _exact(module, row, view), atol=0.015)


@pytest.mark.parametrize("view", ["image", "text"])
def test_mean_field_is_a_fixed_point_and_near_the_exact_means(view):
    module = _network(0.3)
    known = torch.rand(3, module.widths[view])
    with torch.no_grad():
        found = module.mean_field(known, view, 200)
        given, W, bias = module._clamped(known, view)
        again = (given + (bias + found @ W).sigmoid() @ W.T).sigmoid()
    torch.testing.assert_close(found, again, atol=1e-6, rtol=0)
    for row, mine in zip(known.double().numpy(), found.numpy()):
        np.testing.assert_allclose(mine, _exact(module, row, view), atol=0.01)


@pytest.mark.parametrize("inference", ["mean-field", "gibbs"])
def test_an_item_is_encoded_alike_in_any_company(planted, inference):
    train, test = planted
    method = MultimodalDBN(inference=inference, inference_steps=50, random_state=0, **SMALL)
    method.fit(train)
    together = method.transform(test)["image"]
    alone = np.vstack([method.encode(test["image"][[i]], "image") for i in range(len(test))])
    np.testing.assert_allclose(alone, together, atol=1e-6)
    np.testing.assert_array_equal(method.transform(test)["image"], together)
    other = clone(method).set_params(inference="gibbs", inference_steps=3).fit(train)
    assert not np.allclose(other.transform(test)["image"], together, atol=1e-4)


# ---- units ---------------------------------------------------------------------------------------


def test_units_are_chosen_by_the_values(planted, documents):
    def units(views, **settings):
        return MultimodalDBN(random_state=0, **settings, **SMALL).fit(views).units_

    views, _ = documents
    assert units(planted[0]) == {"image": "gaussian", "text": "gaussian"}
    assert units(views) == {"image": "gaussian", "text": "replicated-softmax"}
    assert units(views.replace(text=sp.csr_array(views["text"])))["text"] == "replicated-softmax"
    assert units(views.replace(text=(views["text"] > 0).astype(float)))["text"] == "bernoulli"
    chosen = {"image": "gaussian", "text": "gaussian"}
    assert units(views, units=chosen) == chosen


def test_counts_of_words_are_found_and_stay_so_in_a_bundle(documents, tmp_path):
    views, topic = documents
    train, test = views[:150], views[150:]
    method = MultimodalDBN(hidden=(16,), width=16, max_epochs=60, batch_size=30, device="cpu",
                           random_state=0).fit(train)  # fmt: skip
    scores = method.similarity(test)
    relevant = topic[150:, None] == topic[150:]
    found = evaluate(scores, relevant, "map@all", ci=None)
    for direction in found.directions:
        assert found.mean(direction, "map@all") > 0.6  # by chance about .29
    # A document does not depend on its length, and none of its words is required.
    twice = method.encode(2 * test["text"], "text")
    np.testing.assert_allclose(twice, method.encode(test["text"], "text"), atol=1e-6)
    assert np.isfinite(method.encode(np.zeros((2, 12)), "text")).all()
    empty = train.replace(text=np.where(np.arange(150)[:, None] < 5, 0, train["text"]))
    again = clone(method).set_params(max_epochs=4).fit(empty)
    assert np.isfinite(again.similarity(test)).all()
    crossfit.save(method, tmp_path / "dbn.crossfit")
    loaded = crossfit.load(tmp_path / "dbn.crossfit")
    assert loaded.units_ == method.units_
    np.testing.assert_array_equal(loaded.similarity(test), scores)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_epochs": 2}, "max_epochs=2 is less than the number of layers that are trained one"),
        ({"hidden": ()}, "hidden must have at least one layer for image"),
        ({"hidden": {"image": (3,)}}, "MultimodalDBN: hidden must be integers of at least 1"),
        ({"units": {"image": "gaussian"}}, "units must be one of auto"),
        ({"units": "softmax"}, "units"),
        ({"units": "bernoulli"}, "bernoulli units need numbers from 0 to 1 in view 'image', got"),
        ({"units": "replicated-softmax"}, "replicated-softmax units need numbers of at least 0"),
        ({"layer_lr": {"top": 0.1}}, "layer_lr has the learning rate of 'top', but there are only"),
        ({"l2": {"image": 0.1}}, "l2 must be one value, or one for each of image, text and joint"),
        ({"layer_lr": {"image": [0.1]}}, r"must be one value, or one per layer \(2\)"),
        ({"layer_lr": {"image": "no"}}, "layer_lr must have positive learning rates, got"),
        ({"momentum": (0.5, 1.0)}, "momentum must be two numbers in"),
        ({"callbacks": [EarlyStopping()], "validation_fraction": 0.2}, "EarlyStopping would comp"),
        ({"inference": "exact"}, "inference"),
    ],
)
def test_bad_parameters_are_one_sentence(planted, settings, message):
    with pytest.raises(ValueError, match=message):
        MultimodalDBN(**SMALL | settings).fit(planted[0])


def test_the_defaults_find_emoji_by_their_names(emoji):
    (train, _), (test, y) = emoji
    method = MultimodalDBN(random_state=0, verbose=0).fit(train)
    scores = method.similarity(test)
    by_pair = evaluate(scores, test.relevance("image", "text"), ("r@10",), ci=None)
    by_group = evaluate(scores, test.relevance("image", "text", y), ("map@all",), ci=None)
    for direction in by_pair.directions:
        # By chance: 10 of 324, and the share of the groups, .16.
        assert by_pair.mean(direction, "r@10") > 0.06
        assert by_group.mean(direction, "map@all") > 0.19
