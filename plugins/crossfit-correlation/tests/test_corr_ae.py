"""Corr-AE, Cross-AE and Full-AE against their losses and closed forms."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from crossfit import Views, evaluate
from crossfit.neural import Batch, Items, TrainingWarning
from crossfit_correlation.corr_ae import CorrAE, CrossAE, FullAE
from crossfit_correlation.testing import make_inputs

ALL = pytest.mark.parametrize("cls", [CorrAE, CrossAE, FullAE])
RECONSTRUCTED = {
    CorrAE: {"image": ["image"], "text": ["text"]},
    CrossAE: {"image": ["text"], "text": ["image"]},
    FullAE: {"image": ["image", "text"], "text": ["image", "text"]},
}


@pytest.fixture(autouse=True)
def _leave_torch_as_it_was():
    with torch.random.fork_rng():
        yield


@pytest.fixture(scope="module")
def pairs():
    return make_inputs(np.random.default_rng(0), 120)[0]


def _batch(n, n_image=5, n_text=4, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    rows = torch.arange(n)
    return Batch(
        {"image": Items(torch.randn(n, n_image, generator=generator, dtype=dtype)),
         "text": Items(torch.randn(n, n_text, generator=generator, dtype=dtype))},
        {"image": rows, "text": rows}, rows, None,
    )  # fmt: skip


# ---- the loss ----------------------------------------------------------------------------------


@ALL
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_the_loss_is_the_printed_one(cls, alpha):
    torch.manual_seed(0)
    method = cls(alpha=alpha, width=3, hidden=(6,), activation="sigmoid")
    module = method._build_module({"image": 5, "text": 4}, None)
    batch = _batch(7)
    terms = method._loss(method._outputs(module, batch), batch)

    def layers(branch, x, last):
        linear = [part for part in branch.layers if isinstance(part, nn.Linear)]
        for i, layer in enumerate(linear):
            x = layer.weight.detach().numpy() @ x + layer.bias.detach().numpy()
            if i < len(linear) - 1 or last:
                x = 1 / (1 + np.exp(-x))
        return x

    found = 0.0
    for i in range(7):
        x = {role: items.values[i].numpy() for role, items in batch.views.items()}
        code = {role: layers(module.encoders[role], x[role], True) for role in x}
        for role, targets in RECONSTRUCTED[cls].items():
            for target in targets:
                rebuilt = layers(module.decoders[role][target], code[role], False)
                found += (1 - alpha) * ((x[target] - rebuilt) ** 2).sum()
        found += alpha * ((code["image"] - code["text"]) ** 2).sum()
    assert sum(terms.values()).item() == pytest.approx(found / 7, rel=1e-5)
    weights = {name: tuple(w.shape) for name, w in module.named_parameters() if w.ndim == 2}
    sizes = {"image": 5, "text": 4}
    for role, targets in RECONSTRUCTED[cls].items():
        assert weights[f"encoders.{role}.layers.2.weight"] == (3, 6)
        assert set(module.decoders[role]) == set(targets)
        for target in targets:
            assert weights[f"decoders.{role}.{target}.layers.2.weight"] == (sizes[target], 6)


@ALL
def test_the_gradient_is_that_of_finite_differences(cls):
    torch.manual_seed(0)
    method = cls(alpha=0.3, width=3, hidden=(4,))
    module = method._build_module({"image": 5, "text": 4}, None).double()
    batch = _batch(6, dtype=torch.float64)
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


@ALL
def test_features_are_standardised_by_the_training_pairs_and_the_results_rebuilt(cls, pairs):
    shifted = Views(image=100 + 50 * pairs["image"], text=pairs["text"])
    method = cls(width=4, max_epochs=1, random_state=0, device="cpu")
    a, b = (clone(method).fit(views) for views in (pairs, shifted))
    first, second = (m.net_.history[0]["train_loss"] for m in (a, b))
    assert first == pytest.approx(second, rel=1e-4)
    raw = cls(width=4, max_epochs=1, random_state=0, standardize=False).fit(shifted)
    assert raw.net_.history[0]["train_loss"] > 100 * first


# ---- limit cases and closed forms ----------------------------------------------------------------


def test_with_alpha_0_corr_ae_is_two_autoencoders_trained_on_their_own(pairs):
    method = CorrAE(
        alpha=0.0, width=6, hidden=(12,), max_epochs=4, lr=1e-2, batch_size=len(pairs),
        iterator_train__shuffle=False, random_state=0, device="cpu",
    )  # fmt: skip
    method.fit(pairs)
    first = []

    class Kept(CorrAE):
        def _build_module(self, n_inputs, n_classes, **module):
            built = super()._build_module(n_inputs, n_classes, **module)
            first.append({name: w.clone() for name, w in built.state_dict().items()})
            return built

    Kept(**method.get_params()).fit(pairs)
    for role in ("image", "text"):
        alone = method._build_module(method.n_inputs_, None)
        alone.load_state_dict(first[0])
        X = torch.tensor(pairs[role]).float()
        X = (X - X.mean(dim=0)) / X.std(dim=0, correction=0)
        encoder, decoder = alone.encoders[role], alone.decoders[role][role]
        weights = [*encoder.parameters(), *decoder.parameters()]
        optimizer = torch.optim.Adam(weights, lr=1e-2)
        for _ in range(4):
            optimizer.zero_grad()
            (X - decoder(encoder(X))).square().sum(dim=1).mean().backward()
            optimizer.step()
        expected = encoder(X).detach().numpy()
        np.testing.assert_allclose(method.encode(pairs[role], role), expected, atol=1e-4)
    coupled = CorrAE(**{**method.get_params(), "alpha": 0.5}).fit(pairs)
    assert np.abs(coupled.transform(pairs)["image"] - method.transform(pairs)["image"]).max() > 0.01


def _least(X, Y, k):
    """Return the smallest squared error of Y by k linear codes of X, per row."""
    fitted = X @ np.linalg.lstsq(X, Y, rcond=None)[0]
    rest = np.linalg.svd(fitted, compute_uv=False)[k:]
    return (((Y - fitted) ** 2).sum() + (rest**2).sum()) / len(X)


@ALL
def test_linear_autoencoders_reach_the_errors_of_reduced_rank_regression(cls, pairs):
    """Own view: PCA. Other views: the principal directions of the fitted values (Izenman 1975)."""
    k = 3
    method = cls(
        alpha=0.0, width=k, activation="linear", optimizer="LBFGS", lr=1.0, max_epochs=12,
        batch_size=len(pairs), optimizer__max_iter=40, optimizer__history_size=30,
        optimizer__line_search_fn="strong_wolfe", random_state=0, device="cpu",
    ).fit(pairs)  # fmt: skip
    Z = {role: pairs[role] - pairs[role].mean(axis=0) for role in ("image", "text")}
    Z = {role: part / part.std(axis=0) for role, part in Z.items()}
    targets = {
        role: np.hstack([Z[target] for target in targets])
        for role, targets in RECONSTRUCTED[cls].items()
    }
    expected = sum(_least(Z[role], targets[role], k) for role in Z)
    assert method._measured(pairs, None)["checked_loss"] == pytest.approx(expected, rel=2e-3)
    if cls is CorrAE:
        singular = np.linalg.svd(Z["image"], compute_uv=False)
        assert _least(Z["image"], Z["image"], k) == pytest.approx((singular[k:] ** 2).sum() / 120)


def test_codes_that_collapse_are_reported():
    """Without reconstruction nothing keeps codes apart, and small weights make them equal."""
    views, _ = make_inputs(np.random.default_rng(0), 150)
    method = CorrAE(
        alpha=1.0, activation="sigmoid", width=16, max_epochs=250, optimizer="SGD", lr=0.1,
        optimizer__weight_decay=0.3, random_state=0, device="cpu", verbose=0,
    )  # fmt: skip
    with pytest.warns(TrainingWarning, match="the view 'image' have collapsed"):
        method.fit(views)


# ---- pairs ---------------------------------------------------------------------------------------


@ALL
def test_several_captions_per_image_are_pairs_of_the_image(cls, pairs):
    images, captions, index = pairs["image"][:40], pairs["text"][:120], np.arange(120) // 3
    grouped = Views.from_captions(images, captions, index)
    repeated = Views(image=images[index], text=captions)
    settings = {"width": 4, "max_epochs": 2, "random_state": 0, "device": "cpu"}
    a = cls(**settings, standardize=False).fit(grouped)
    b = cls(**settings, standardize=False).fit(repeated)
    np.testing.assert_allclose(a.encode(images, "image"), b.encode(images, "image"), atol=1e-5)
    assert a.similarity(grouped).shape == (40, 120)


@ALL
@pytest.mark.parametrize("hidden", [(0,), (2.5,), (True,)])
def test_bad_widths_are_rejected_in_one_sentence(cls, hidden, pairs):
    with pytest.raises(ValueError, match=f"{cls.__name__}: hidden must be integers of at least 1"):
        cls(hidden=hidden).fit(pairs)


# ---- belief networks -----------------------------------------------------------------------------


def test_a_belief_network_is_trained_first_and_then_fixed(pairs):
    settings = {
        "dbn": {"image": (10, 6), "text": (8,)}, "pretrain": 3, "width": 4, "device": "cpu",
        "pretrain_lr": {"image": [0.01, 0.05], "text": 0.01}, "last_activation": "sigmoid",
        "random_state": 0,
    }  # fmt: skip
    one, four = (CorrAE(**settings, max_epochs=n).fit(pairs) for n in (1, 4))
    networks = [method.net_.module_ for method in (one, four)]
    weights = [network.beliefs.state_dict() for network in networks]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(w, weights[1][name]) for name, w in weights[0].items())
    fresh = one._build_module(one.n_inputs_, None)
    assert fresh.decoders["image"]["image"].layers[-2].out_features == 6
    batch = Items(torch.tensor(pairs["image"]).float())
    inputs = networks[0].scaled(batch, "image")
    expected = networks[0].beliefs["image"].encode(networks[0].scaling["image"](batch.values))
    torch.testing.assert_close(inputs, expected)
    biases = networks[0].beliefs["image"].rbms[0].hidden_bias
    assert biases.abs().max() > 0  # they begin at zero
    again = CorrAE(**settings, max_epochs=1).fit(pairs)
    assert np.array_equal(again.similarity(pairs), one.similarity(pairs))


def test_counts_are_the_words_of_a_belief_network(pairs):
    counts = np.random.default_rng(0).poisson(2.0, size=(120, 14)).astype(float)
    method = CorrAE(
        dbn=(6,), visible={"image": "gaussian", "text": "replicated-softmax"}, pretrain=2,
        width=4, max_epochs=2, lr_half_life=50, optimizer="SGD", optimizer__momentum=0.5,
        random_state=0, device="cpu",
    )  # fmt: skip
    method.fit(pairs.replace(text=counts))
    # Counts are scaled to one length, so that twice the counts are the same document.
    codes = [method.encode(x, "text") for x in (counts, 2 * counts)]
    np.testing.assert_allclose(*codes, atol=1e-5)
    assert method.net_.optimizer_.param_groups[0]["lr"] < method.lr


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dbn": {"image": (4,)}}, "CorrAE: dbn must be integers of at least 1, one per layer"),
        ({"visible": "poisson"}, "CorrAE: visible must be one of gaussian, bernoulli"),
        ({"dbn": (4, 3), "pretrain_lr": {"image": [0.1], "text": [0.1, 0.1, 0.1]}},
         "CorrAE: pretrain_lr must be a positive number, or one for each of image and text"),
    ],
)  # fmt: skip
def test_bad_belief_networks_are_rejected_in_one_sentence(settings, message, pairs):
    with pytest.raises(ValueError, match=message):
        CorrAE(**settings).fit(pairs)


# ---- real pairs ----------------------------------------------------------------------------------


@ALL
def test_the_defaults_find_emoji_by_their_names(cls, emoji):
    (train, _), (test, y) = emoji
    method = cls(random_state=0, verbose=0).fit(train)
    scores = method.similarity(test)
    by_pair = evaluate(scores, test.relevance("image", "text"), ("r@10",), ci=None)
    by_group = evaluate(scores, test.relevance("image", "text", y), ("map@all",), ci=None)
    for direction in by_pair.directions:
        # By chance: 10 of 324, and the share of the groups, .16.
        assert by_pair.mean(direction, "r@10") > 0.1
        assert by_group.mean(direction, "map@all") > 0.22
