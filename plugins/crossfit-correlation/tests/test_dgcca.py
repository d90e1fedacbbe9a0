"""DGCCA against its definition, linear GCCA of cca-zoo and DCCA."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone

import crossfit
from crossfit import Views
from crossfit.neural import Batch, Items, cca_loss
from crossfit_correlation.dgcca import DGCCA
from crossfit_correlation.testing import make_inputs

SMALL = {"hidden": 24, "width": 6, "max_epochs": 15, "lr": 5e-3, "batch_size": 100,
         "dropout": 0.0, "device": "cpu", "verbose": 0, "random_state": 0}  # fmt: skip
LINEAR = {"hidden": [], "reg": 1e-7, "weight_decay": 0, "cca_reg": 0, "cca_power": 0,
          "optimizer": "LBFGS", "lr": 1.0, "batch_size": 10_000, "dropout": 0.0, "device": "cpu",
          "verbose": 0, "random_state": 0}  # fmt: skip


@pytest.fixture(scope="module")
def planted():
    views, _ = make_inputs(np.random.default_rng(0), 160)
    mix = np.random.default_rng(5).normal(size=(24, 10))
    three = Views(image=views["image"], text=views["text"], tags=np.tanh(views["image"] @ mix / 5))
    return three[:120], three[120:]


@pytest.fixture(scope="module")
def fitted(planted):
    return DGCCA(**SMALL).fit(planted[0])


@pytest.fixture(autouse=True)
def _leave_torch_as_it_was():
    with torch.random.fork_rng():
        yield


def _drawn(*widths, n=30):
    generator = torch.Generator().manual_seed(0)
    common = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    parts = []
    for d in widths:
        part = torch.randn(n, d, generator=generator, dtype=torch.float64)
        part[:, :2] += common
        parts.append(part.requires_grad_())
    return parts


def _loss(method, *parts):
    roles = ("image", "text", "tags")[: len(parts)]
    rows = torch.arange(len(parts[0]))
    batch = Batch({r: Items(p) for r, p in zip(roles, parts)}, dict.fromkeys(roles, rows), rows,
                  None)  # fmt: skip
    method.views_in_ = {role: role for role in roles}
    terms = method._loss({"outputs": list(parts), "decay": torch.zeros(())}, batch)
    return terms["reconstruction"]


def _projections(parts, ridges):
    """Return the sum of the projections onto the centred outputs, (n, n)."""
    total = 0.0
    for part, ridge in zip(parts, ridges):
        F = part.detach().numpy() - part.detach().numpy().mean(axis=0)
        A = F.T @ F + (len(F) - 1) * ridge * np.eye(F.shape[1])
        total = total + F @ np.linalg.solve(A, F.T)
    return total


def test_the_loss_is_what_the_best_shared_representation_leaves():
    parts = _drawn(4, 4, 4)
    found = _loss(DGCCA(width=4, reg=0), *parts)
    # The definition, with G from the eigenvectors and U by least squares.
    _, vectors = np.linalg.eigh(_projections(parts, [0, 0, 0]))
    G = vectors[:, -4:]
    expected = 0.0
    for part in parts:
        F = part.detach().numpy() - part.detach().numpy().mean(axis=0)
        expected += np.square(G - F @ np.linalg.lstsq(F, G)[0]).sum()
    assert found.item() == pytest.approx(expected, rel=1e-9)


def test_the_loss_with_ridges_is_that_of_cca_zoo_and_has_its_gradient():
    parts = _drawn(4, 4, 4)
    ridges = {"image": 0.1, "text": 0.3, "tags": 1.0}
    found = _loss(DGCCA(width=4, reg=ridges), *parts)
    values = np.linalg.eigvalsh(_projections(parts, ridges.values()))
    assert found.item() == pytest.approx(12 - values[-4:].sum(), rel=1e-9)
    small = _drawn(3, 3, 3, n=12)
    assert torch.autograd.gradcheck(lambda *p: _loss(DGCCA(width=3, reg=ridges), *p), small)
    objectives = pytest.importorskip("cca_zoo.deep.objectives")
    theirs = objectives.GCCALoss(reg_covar=0.1)(parts)
    ours = _loss(DGCCA(width=4, reg=0.1), *parts)
    assert ours.item() == pytest.approx(12 + theirs.item(), rel=1e-9)
    for mine, other in zip(torch.autograd.grad(ours, parts), torch.autograd.grad(theirs, parts)):
        torch.testing.assert_close(mine, other)


def test_two_views_have_the_loss_of_dcca():
    parts = _drawn(4, 4)
    found = _loss(DGCCA(width=4, reg=0), *parts)
    torch.testing.assert_close(found, 4 + cca_loss(*parts, reg=0))


def test_linear_networks_reach_the_gcca_of_cca_zoo(planted):
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(150, 3))
    parts = [Z @ rng.normal(size=(3, d)) + rng.normal(size=(150, d)) for d in (6, 5, 4)]
    views = Views(image=parts[0], text=parts[1], tags=parts[2])
    method = DGCCA(width=3, max_epochs=5, **LINEAR).fit(views)
    # The loss: the three largest eigenvalues of the projections onto all features.
    values, vectors = np.linalg.eigh(_projections([torch.from_numpy(p) for p in parts], [0] * 3))
    assert method.net_.history[-1]["train_reconstruction"] == pytest.approx(
        9 - values[-3:].sum(), abs=2e-3
    )
    shared = method.shared(views)
    for found, expected in zip(shared.T, vectors[:, ::-1].T):
        assert abs(np.corrcoef(found, expected)[0, 1]) > 0.999
    linear = pytest.importorskip("cca_zoo.linear")
    theirs = linear.GCCA(n_components=3).fit(parts).transform(parts)
    ours = method.transform(views)
    for name, other in zip(views.names, theirs):
        for a, b in zip(ours[name].T, other.T):
            assert abs(np.corrcoef(a, b)[0, 1]) > 0.995


def test_pairs_never_seen_are_found_among_three_views(fitted, planted):
    assert fitted.score(planted[1]) > 0.8  # the mean reciprocal rank of a random order is .11
    row = fitted.net_.history[-1]
    assert 0 < row["train_reconstruction"] < 4  # of at most 12
    assert row["train_loss"] == pytest.approx(row["train_reconstruction"] + row["train_decay"])


def test_the_shared_representation_is_the_mean_of_the_views_given(fitted, planted):
    encoded = fitted.transform(planted[1])
    np.testing.assert_allclose(
        fitted.shared(planted[1]), sum(encoded[name] for name in encoded.names) / 3, rtol=1e-6
    )
    one = planted[1].select("text")
    np.testing.assert_allclose(fitted.shared(one), encoded["text"], rtol=1e-6)


def test_outputs_that_are_not_finite_make_the_loss_nan():
    first, second = (part.detach() for part in _drawn(3, 3))
    first[0, 0] = float("nan")
    assert _loss(DGCCA(width=3), first, second).isnan()


def test_bundles_answer_as_the_model_does(fitted, planted, tmp_path):
    crossfit.save(fitted, tmp_path / "model")
    loaded = crossfit.load(tmp_path / "model")
    assert type(loaded) is DGCCA and loaded.get_params() == fitted.get_params()
    expected = fitted.shared(planted[1])
    np.testing.assert_array_equal(loaded.shared(planted[1]), expected)
    np.testing.assert_array_equal(clone(fitted).fit(planted[0]).shared(planted[1]), expected)


def test_the_defaults_align_pictures_with_two_captions_each():
    folder = os.environ.get("CROSSFIT_DATA")
    if not folder:
        pytest.skip("CROSSFIT_DATA does not name a folder with the real data sets")
    with np.load(Path(folder) / "flickr8k" / "features_train_dev.npz") as held:
        image = held["image_efficientnet_lite0"][:1200].astype(np.float32)
        captions, of = held["caption_minilm_l6"], held["caption_image_index"]
        first = np.searchsorted(of, np.arange(1200))
        texts = [captions[first + i].astype(np.float32) for i in range(2)]
    views = Views(image=image, text=texts[0], second=texts[1])
    method = DGCCA(device="cpu", verbose=0, random_state=0).fit(views[:1000])
    assert method.cca_.n_components_ == 50
    # The mean reciprocal rank over all six directions among 200 rows is .029 in a random order.
    assert method.score(views[1000:]) > 0.3
    scores = method.similarity(views[1000:], query="image", gallery="second")
    assert crossfit.evaluate(scores, np.eye(200), "mrr", ci=None).mean(None, "mrr") > 0.3
