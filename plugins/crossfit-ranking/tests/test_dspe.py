"""DSPE against loops over its hinges."""

import numpy as np
import pytest
import torch
from torch import nn

from crossfit import Views, evaluate
from crossfit.experiment import Experiment
from crossfit.neural import Batch, Items
from crossfit.neural.batching import Batches
from crossfit_ranking.dspe import DSPE, distances, structure_loss
from crossfit_ranking.testing import make_inputs


@pytest.fixture(autouse=True)
def _leave_torch_as_it_was():
    with torch.random.fork_rng():
        yield


@pytest.fixture(scope="module")
def captions():
    """Forty images with one to five captions each; images 0 and 1 are of one group."""
    pairs, _ = make_inputs(np.random.default_rng(0), 130)
    index = np.repeat(np.arange(40), 1 + np.arange(40) % 5)
    views = Views.from_captions(pairs["image"][:40], pairs["text"][: len(index)], index)
    return views.with_groups(np.where(index == 1, 0, index))


# Images 0 to 4 of the rows, and their captions; images 3 and 4 are of one group.
IMAGE = [0, 1, 0, 2, 1, 0, 3, 4]
GROUP = {0: 0, 1: 1, 2: 2, 3: 3, 4: 3}


def _batch(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    image, n = torch.tensor(IMAGE), len(IMAGE)
    x = torch.randn(5, 6, generator=generator, dtype=dtype)[image]
    z = torch.randn(n, 4, generator=generator, dtype=dtype)
    return Batch(
        {"image": Items(x), "text": Items(z)}, {"image": image + 10, "text": torch.arange(n)},
        torch.tensor([GROUP[i] for i in IMAGE]), None,
    )  # fmt: skip


# ---- the loss ----------------------------------------------------------------------------------


def _mean_of_largest(hinges, k):
    return np.mean(sorted((max(h, 0.0) for h in hinges), reverse=True)[:k])


@pytest.mark.parametrize("k", [1, 2, 10])
@pytest.mark.parametrize("margin", [0.05, 0.6])
def test_the_loss_is_the_printed_one(k, margin):
    torch.manual_seed(0)
    method = DSPE(hidden=(7,), width=3, margin=margin, k_negatives=k, dropout=0.0, structure=0.4)
    module = method._build_module({"image": 6, "text": 4}, None).eval()
    batch = _batch()
    terms = method._loss(method._outputs(module, batch), batch)
    with torch.no_grad():
        x = module.encode(batch.views["image"], "image").numpy()
        z = module.encode(batch.views["text"], "text").numpy()
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, atol=1e-6)
    images = {i: x[IMAGE.index(i)] for i in set(IMAGE)}

    def d(a, b):
        return np.linalg.norm(a - b)

    forward, back, structure = [], [], []
    for t, own in enumerate(IMAGE):
        p = d(images[own], z[t])
        wrong = [u for u, i in enumerate(IMAGE) if GROUP[i] != GROUP[own]]
        forward.append(_mean_of_largest([margin + p - d(images[own], z[u]) for u in wrong], k))
        others = [i for i in images if GROUP[i] != GROUP[own]]
        back.append(_mean_of_largest([margin + p - d(images[i], z[t]) for i in others], k))
        siblings = [u for u, i in enumerate(IMAGE) if i == own and u != t]
        if siblings:
            far = max(d(z[t], z[u]) for u in siblings)
            structure.append(_mean_of_largest([margin + far - d(z[t], z[u]) for u in wrong], k))
    assert len(structure) == 5
    expected = {
        "image2text": np.mean(forward), "text2image": 1.5 * np.mean(back),
        "structure": 0.4 * np.mean(structure),
    }  # fmt: skip
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(expected, abs=1e-4)
    assert min(expected.values()) > 0
    without = DSPE(structure=0.0)._loss(method._outputs(module, batch), batch)
    assert set(without) == {"image2text", "text2image"}


def test_the_gradient_is_that_of_finite_differences():
    torch.manual_seed(0)
    method = DSPE(hidden=(5,), width=3, margin=0.5, k_negatives=2, dropout=0.0, structure=0.3)
    module = method._build_module({"image": 6, "text": 4}, None).double().eval()
    batch = _batch(torch.float64)
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


def test_equal_rows_have_a_finite_gradient():
    x = nn.functional.normalize(torch.ones(3, 4), dim=1).requires_grad_()
    distances(x, x).sum().backward()
    assert torch.isfinite(x.grad).all()


def test_captions_alone_have_no_structure():
    z = nn.functional.normalize(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)))
    apart = ~torch.eye(4, dtype=torch.bool)
    assert structure_loss(distances(z, z), torch.zeros_like(apart), apart, 1.0, 2) == 0


# ---- the network -------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "figure"), [("flickr30k", 0.403), ("coco", 0.501)])
def test_the_experiment_has_the_settings_of_the_code(name, figure):
    described = Experiment.find(f"wang-2016-dspe-{name}")
    constant, decaying = (DSPE(**entry.params) for entry in described.methods)
    module = constant._build_module({"image": 4096, "text": 6000}, None)
    for role, n in (("image", 4096), ("text", 6000)):
        layers = module.branches[role].layers
        assert [type(layer).__name__ for layer in layers] == [
            "Linear", "BatchNorm1d", "ReLU", "Dropout", "Linear",
        ]  # fmt: skip
        assert layers[0].weight.shape == (2048, n) and layers[4].weight.shape == (512, 2048)
        assert layers[1].momentum == 0.9 and layers[3].p == 0.5
        assert isinstance(module.scaling[role], nn.Identity)
    settings = {"margin": 0.05, "k_negatives": 10, "text2image": 1.5, "structure": 0.05,
                "optimizer": "Adam", "lr": 1e-4, "batch_size": 1000, "captions": 2,
                "max_epochs": 20}  # fmt: skip
    for method in (constant, decaying):
        assert {key: method.get_params()[key] for key in settings} == settings
    assert (constant.lr_decay, decaying.lr_decay) == (1.0, 0.794)
    assert described.methods[0].published["r@1"]["image2text"] == figure


def test_every_image_of_a_batch_passes_through_the_network_once():
    method = DSPE(hidden=(7,), width=3, dropout=0.5)
    module = method._build_module({"image": 6, "text": 4}, None)
    seen = []
    module.branches["image"].layers[0].register_forward_hook(lambda _, x, y: seen.append(len(y)))
    outputs = method._outputs(module, _batch())
    assert seen == [5] and outputs["image"].shape == (8, 3)
    # Captions of an image see one draw of the dropout.
    assert torch.equal(outputs["image"][0], outputs["image"][5])
    assert not torch.equal(outputs["image"][0], outputs["image"][1])


# ---- pairs -------------------------------------------------------------------------------------


def test_batches_have_two_captions_of_an_image_in_a_row(captions, monkeypatch):
    orders = []
    iterate = Batches.__iter__

    def watched(self):
        for batch in iterate(self):
            orders.append(batch.item["image"].tolist())
            yield batch

    monkeypatch.setattr(Batches, "__iter__", watched)
    settings = {"batch_size": 200, "max_epochs": 1, "random_state": 0, "device": "cpu"}
    runs = {}
    for n in (1, 2):
        DSPE(**settings, captions=n).fit(captions)
        order = np.array(orders.pop())
        runs[n] = 1 + np.count_nonzero(np.diff(order))
    assert runs[1] > 0.9 * len(captions) and runs[2] < 0.75 * len(captions)
    history = DSPE(**{**settings, "batch_size": 20}).fit(captions).net_.history
    assert history[0]["train_structure"] > 0


def test_the_rate_decays_by_epoch_or_not_at_all(captions):
    for decay, expected in ((1.0, 1e-3), (0.794, 1e-3 * 0.794**3)):
        method = DSPE(lr=1e-3, lr_decay=decay, max_epochs=3, random_state=0).fit(captions)
        assert method.net_.optimizer_.param_groups[0]["lr"] == pytest.approx(expected)


def test_scores_are_distances(captions):
    method = DSPE(hidden=(8,), width=4, max_epochs=1, random_state=0, device="cpu").fit(captions)
    x, z = (method.encode(captions.distinct(view)[0], view) for view in ("image", "text"))
    expected = -np.linalg.norm(x[:5, None] - z[None, :9], axis=2)
    np.testing.assert_allclose(method.similarity(captions)[:5, :9], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden": (8, 0)}, "DSPE: hidden must be integers of at least 1, one per layer"),
        ({"captions": 0}, "'captions' parameter of DSPE"),
        ({"lr_decay": 1.5}, "'lr_decay' parameter of DSPE"),
        ({"batch_size": 1}, "'batch_size' parameter of DSPE"),
    ],
)
def test_bad_settings_are_rejected_in_one_sentence(settings, message, captions):
    with pytest.raises(ValueError, match=message):
        DSPE(**settings).fit(captions)


def test_pairs_of_one_group_are_rejected(captions):
    with pytest.raises(ValueError, match="DSPE: ranks matching pairs above others"):
        DSPE().fit(captions.with_groups(np.zeros(len(captions), dtype=int)))


# ---- real pairs --------------------------------------------------------------------------------


def test_the_defaults_find_emoji_by_their_names(emoji):
    (train, _), (test, y) = emoji
    method = DSPE(random_state=0, verbose=0).fit(train)
    scores = method.similarity(test)
    by_pair = evaluate(scores, test.relevance("image", "text"), ("r@10",), ci=None)
    by_group = evaluate(scores, test.relevance("image", "text", y), ("map@all",), ci=None)
    for direction in by_pair.directions:
        # By chance: 10 of 324, and the share of the groups, .16.
        assert by_pair.mean(direction, "r@10") > 0.2
        assert by_group.mean(direction, "map@all") > 0.26
