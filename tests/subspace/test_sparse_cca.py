"""SparseCCA against cca-zoo, PLS without bounds, its bounds, features and real data."""

import numpy as np
import pandas as pd
import pytest

import crossfit
from crossfit import Views
from crossfit.subspace import PLS, SparseCCA
from crossfit.subspace.sparse_cca import _bounded


def data(n=150, dims=(12, 9, 7), seed=0):
    """Return views of which the first three columns correlate with each other alone."""
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(n, 3))
    parts = [rng.normal(size=(n, d)) * np.arange(1, d + 1) for d in dims]
    for part in parts:
        part[:, :3] = Z + 0.5 * rng.normal(size=(n, 3))
    return Views(dict(zip(("image", "text", "tags"), parts)))


@pytest.mark.parametrize("names", [("image", "text"), ("image", "text", "tags")])
@pytest.mark.parametrize("l1", [0.3, 0.5, 0.8, 1.0, (0.4, 0.9, 0.6)])
def test_the_first_component_is_that_of_cca_zoo(names, l1):
    from cca_zoo.sparse import PMDCCA

    views = data().select(*names)
    bounds = dict(zip(names, l1)) if isinstance(l1, tuple) else l1
    ours = SparseCCA(1, l1=bounds, tol=1e-10).fit(views)
    parts = [views[name] for name in names]
    parts = [(part - part.mean(axis=0)) / part.std(axis=0, ddof=1) for part in parts]
    given = list(l1)[: len(names)] if isinstance(l1, tuple) else l1
    reached = 0.0
    for seed in range(3):  # a start at random may end in another optimum
        theirs = PMDCCA(1, l1_bound=given, random_state=seed, tol=1e-10).fit(parts)
        w = [u[:, 0] / np.linalg.norm(u) for u in theirs.weights_]
        scores = [part @ u for part, u in zip(parts, w)]
        found = np.sum(np.triu(np.cov(scores), 1)) / len(scores) / (len(scores) - 1) * 2
        reached = max(reached, found)
        if np.isclose(found, ours.covariances_[0], rtol=1e-6):
            for name, u in zip(names, w):
                assert abs(u @ ours.directions_[name][:, 0]) == pytest.approx(1, abs=1e-6)
    assert ours.covariances_[0] == pytest.approx(reached, rel=1e-6)


def test_without_bounds_it_is_pls():
    views = data().select("image", "text")
    ours = SparseCCA(4, l1=1.0, standardize=False, tol=1e-12).fit(views)
    pls = PLS(4).fit(views)
    np.testing.assert_allclose(ours.covariances_, pls.covariances_, rtol=1e-9)
    for name in views.names:
        np.testing.assert_allclose(ours.weights_[name], pls.weights_[name], atol=1e-6)


@pytest.mark.parametrize("bound", [1.0, 1.2, 2.0, 3.5])
def test_thresholds_meet_the_bound_and_maximise_the_product(bound):
    rng = np.random.default_rng(0)
    x = rng.normal(size=20)
    u = _bounded(x, bound)
    assert np.linalg.norm(u) == pytest.approx(1)
    own = np.abs(x).sum() / np.linalg.norm(x)
    assert np.abs(u).sum() == pytest.approx(min(bound, own), abs=1e-9)
    assert np.all(u * x >= 0)
    for other in rng.normal(size=(500, 20)):
        feasible = _bounded(other * (np.abs(u) > 0) + 0.1 * other, bound)
        assert feasible @ x <= u @ x + 1e-12
    np.testing.assert_array_equal(np.flatnonzero(_bounded(x, 1.0)), [np.argmax(np.abs(x))])


def test_the_columns_that_correlate_are_chosen():
    views = data(400)
    method = SparseCCA(3, l1=0.1).fit(views)  # one column of each view
    chosen = [[method.features(name, k) for name in views.names] for k in range(3)]
    for component in chosen:
        assert len({column for ((column, _),) in component}) == 1
    assert {component[0][0][0] for component in chosen} == {0, 1, 2}


def test_features_have_the_names_of_columns():
    views = data()
    columns = [f"word {i}" for i in range(12)]
    frame = pd.DataFrame(views["image"], columns=columns)
    method = SparseCCA(2, l1=0.4).fit(frame, views["text"])
    found = method.features("image", 1)
    u = method.directions_["image"][:, 1]
    assert [name for name, _ in found] == [columns[i] for i in np.argsort(-np.abs(u))[: len(found)]]
    assert len(found) == np.count_nonzero(u) < 12
    assert all(entry == u[columns.index(name)] for name, entry in found)
    for wrong in (2, -1, "first"):
        with pytest.raises(ValueError, match="component must be a number from 0 to 1"):
            method.features("image", wrong)
    with pytest.raises(ValueError, match="no view 'sound'"):
        method.features("sound")


def test_bounds_by_view_and_their_range():
    views = data()
    method = SparseCCA(1, l1={"image": 1.0, "text": 1e-9, "tags": 0.5}).fit(views)
    counts = {name: len(method.features(name)) for name in views.names}
    assert counts["image"] == 12 and counts["text"] == 1
    assert np.abs(method.directions_["tags"]).sum() <= 0.5 * np.sqrt(7) + 1e-9
    for wrong in (0.0, 1.1, {"image": 2.0, "text": 0.5, "tags": 0.5}):
        with pytest.raises(ValueError, match="'l1' parameter of SparseCCA"):
            SparseCCA(l1=wrong).fit(views)


def test_uncorrelated_views_are_rejected():
    X = np.tile(np.eye(4), (2, 1))
    with pytest.raises(ValueError, match="SparseCCA: the views have no covariance"):
        SparseCCA().fit(X, np.repeat([[1.0], [-1.0]], 4, axis=0))


def test_bundles_answer_as_the_model_does(tmp_path):
    views = data()
    method = SparseCCA(3).fit(views)
    crossfit.save(method, tmp_path / "model")
    loaded = crossfit.load(tmp_path / "model")
    assert type(loaded) is SparseCCA and loaded.get_params() == method.get_params()
    np.testing.assert_array_equal(loaded.similarity(views), method.similarity(views))
    assert loaded.features("tags", 2) == method.features("tags", 2)


def test_wikipedia(wikipedia):
    method = SparseCCA(10).fit(wikipedia.train)
    assert len(method.features("image")) < 128
    # Random rankings have .12; CCA has .230.
    assert method.score(wikipedia.test, wikipedia.y_test) > 0.2
