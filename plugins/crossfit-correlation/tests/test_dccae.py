"""DCCAE against DCCA, PCA and cca-zoo's terms of the loss."""

import os

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

import crossfit
from crossfit import datasets
from crossfit.model_selection import make_retrieval_scorer
from crossfit.neural import Batch, Items, whitened
from crossfit_correlation.dcca import DCCA
from crossfit_correlation.dccae import DCCAE
from crossfit_correlation.testing import make_inputs

SMALL = {"hidden": [24, 16], "width": 6, "max_epochs": 15, "lr": 5e-3, "batch_size": 100,
         "dropout": 0.0, "device": "cpu", "verbose": 0, "random_state": 0}  # fmt: skip


@pytest.fixture(scope="module")
def planted():
    views, _ = make_inputs(np.random.default_rng(0), 160)
    return views[:120], views[120:]


@pytest.fixture(scope="module")
def fitted(planted):
    return DCCAE(**SMALL).fit(planted[0])


@pytest.fixture(autouse=True)
def _leave_torch_as_it_was():
    with torch.random.fork_rng():
        yield


def test_pairs_never_seen_are_found(fitted, planted):
    assert fitted.score(planted[1]) > 0.8  # the mean reciprocal rank of a random order is .11


def test_decoders_mirror_the_branches(fitted):
    module = fitted.net_.module_
    for role, n in (("image", 24), ("text", 14)):
        widths = [layer.out_features for layer in module.decoder(role)
                  if isinstance(layer, torch.nn.Linear)]  # fmt: skip
        assert widths == [16, 24, n]
    held = {id(w) for w in module.parameters() if w.ndim > 1}
    assert len(held) == 2 * 3 * 2  # the decay is of both


def test_without_reconstruction_the_branches_are_those_of_dcca(planted):
    settings = SMALL | {"max_epochs": 2, "weight_decay": 0}
    method = DCCAE(reconstruction=0, **settings).fit(planted[0])
    row = method.net_.history[-1]
    assert row["train_reconstruction"] == 0
    assert row["train_loss"] == pytest.approx(row["train_correlation"])
    # The same first weights and batches give the same loss.
    plain = DCCA(**settings)
    plain.views_in_, plain.shapes_ = method.views_in_, {}
    module = method.net_.module_
    batch = _batch(planted[0])
    outputs = method._outputs(module, batch)
    again = plain._outputs(module, batch)
    for a, b in zip(outputs["outputs"], again["outputs"]):
        torch.testing.assert_close(a, b)
    found, expected = method._loss(outputs, batch), plain._loss(again, batch)
    torch.testing.assert_close(found["correlation"], expected["correlation"])


def _batch(views):
    rows = torch.arange(len(views))
    items = {role: Items(torch.from_numpy(np.asarray(views[role], np.float32)))
             for role in views.names}  # fmt: skip
    return Batch(items, dict.fromkeys(items, rows), rows, None)


def test_the_terms_are_those_of_cca_zoo(fitted, planted):
    objectives = pytest.importorskip("cca_zoo.deep.objectives")
    module, batch = fitted.net_.module_, _batch(planted[0])
    with torch.no_grad():
        outputs = fitted._outputs(module, batch)
        terms = fitted._loss(outputs, batch)
        error = 0.0
        for role, z in zip(batch.views, outputs["outputs"]):
            x = module.branch(role).scaling(batch.views[role].values)
            # cca-zoo takes the mean over rows and features.
            mean = torch.nn.functional.mse_loss(module.decoder(role)(z), x)
            error += x.shape[1] * mean.item()
        assert terms["reconstruction"].item() == pytest.approx(0.1 * error, rel=1e-5)
        # Its loss sums the squares of the correlations that ours sums.
        A, B = whitened(*outputs["outputs"], reg=1e-3)
        rho = torch.linalg.svdvals(A.T @ B)
        squares = objectives.MCCALoss(reg_covar=1e-3)([z.double() for z in outputs["outputs"]])
        assert squares.item() == pytest.approx(-rho.square().sum().item(), rel=1e-6)
        assert terms["correlation"].item() == pytest.approx(-rho.sum().item(), rel=1e-6)


def test_linear_networks_without_correlation_are_principal_components(planted):
    # The reconstruction dominates, so that each linear autoencoder has the error of PCA.
    train = planted[0]
    method = DCCAE(**SMALL | {"hidden": [], "reconstruction": 1e4, "weight_decay": 0,
                              "optimizer": "LBFGS", "lr": 1.0, "batch_size": 1000,
                              "max_epochs": 5}).fit(train)  # fmt: skip
    expected = 0.0
    for role in train.names:
        X = StandardScaler().fit_transform(train[role])
        pca = PCA(6).fit(X)
        expected += np.square(X - pca.inverse_transform(pca.transform(X))).sum(axis=1).mean()
    assert method.net_.history[-1]["train_reconstruction"] / 1e4 == pytest.approx(
        expected, rel=0.01
    )


def test_the_reconstruction_is_validated_and_lowered_by_its_weight(planted):
    settings = SMALL | {"max_epochs": 10, "validation_fraction": 0.3}
    rows = [
        DCCAE(**settings, reconstruction=weight).fit(planted[0]).net_.history[-1]
        for weight in (1e-3, 1.0)
    ]
    for row in rows:
        total = row["valid_correlation"] + row["valid_reconstruction"]
        assert row["valid_loss"] == pytest.approx(total, rel=1e-5)
    low, high = (row["train_reconstruction"] / w for row, w in zip(rows, (1e-3, 1.0)))
    assert high < 0.9 * low


def test_matrices_are_reconstructed_flat(planted):
    train = planted[0]
    square = train.map(lambda v, role: v.reshape(-1, 4, 6) if role == "image" else v)
    method = DCCAE(**SMALL | {"audio_branch": "cnn", "max_epochs": 2}).fit(square)
    assert method.net_.module_.decoder("image")[-1].out_features == 24


def test_bundles_answer_as_the_model_does(fitted, planted, tmp_path):
    crossfit.save(fitted, tmp_path / "model")
    loaded = crossfit.load(tmp_path / "model")
    assert type(loaded) is DCCAE and loaded.get_params() == fitted.get_params()
    expected = fitted.similarity(planted[1])
    np.testing.assert_array_equal(loaded.similarity(planted[1]), expected)
    again = clone(fitted).fit(planted[0])
    np.testing.assert_array_equal(again.similarity(planted[1]), expected)


def test_a_negative_weight_is_reported(planted):
    with pytest.raises(ValueError, match="reconstruction"):
        DCCAE(**SMALL, reconstruction=-1).fit(planted[0])


def test_the_defaults_find_articles_of_the_class_of_a_picture():
    if not os.environ.get("CROSSFIT_DATA"):
        pytest.skip("CROSSFIT_DATA does not name a folder with the real data sets")
    data = datasets.load("wikipedia")
    method = DCCAE(device="cpu", verbose=0, random_state=0).fit(data["train"].views)
    score = make_retrieval_scorer("map@all", direction="both")
    assert score(method, data["test"].views, data["test"].y) > 0.22  # .118 at chance
