"""Views with more columns than items are solved in the span of the items; the result is equal."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone

from crossfit import Views
from crossfit.subspace import (
    BLM,
    CCA,
    CCA3V,
    CFA,
    CM,
    GCCA,
    GMLDA,
    GMMFA,
    JFSSL,
    JRL,
    LCFS,
    LGCFL,
    MLCCA,
    PLS,
    S2UPG,
    SCM,
    TCCA,
    SparseCCA,
    _joint,
    _span,
)  # fmt: skip
from crossfit.subspace._span import narrowed

METHODS = {
    "CCA": CCA(4, reg=0.2),
    "CCA, all": CCA(reg=0.2),
    "PLS": PLS(4),
    "PLS, canonical": PLS(4, mode="canonical"),
    "CFA": CFA(4),
    "CFA as it is": CFA(4, center=False),
    "CM": CM(4, reg=0.2),
    "SCM": SCM(4, reg=0.2),
    "CCA3V": CCA3V(4, reg=0.2, semantics="labels"),
    "GCCA": GCCA(4, reg=0.2),
    "TCCA": TCCA(4, reg=0.2),
    "BLM": BLM(4),
    "GMLDA": GMLDA(2),
    "GMMFA": GMMFA(2, n_within=5, n_between=40),
    "MLCCA": MLCCA(2),
}
APART = {
    "LCFS": LCFS(),
    "LGCFL": LGCFL(),
    "JFSSL": JFSSL(),
    "JRL": JRL(n_neighbors=5),
    "S2UPG": S2UPG(n_neighbors=5),
    "SparseCCA": SparseCCA(),
}
each = pytest.mark.parametrize("name", METHODS)


def wide(kind="dense", n=30, p=90, q=50, dtype=np.float64):
    rng = np.random.default_rng(0)
    y = np.arange(n) % 3
    Z = rng.normal(size=(n, 6)) + 2 * rng.normal(size=(3, 6))[y]
    image = (Z @ rng.normal(size=(6, p)) + rng.normal(size=(n, p)) + 3).astype(dtype)
    text = (Z @ rng.normal(size=(6, q)) + rng.normal(size=(n, q))).astype(dtype)
    image[:, 5] = 2  # constant
    if kind == "captions":
        index = rng.permutation(np.r_[np.arange(n), rng.integers(0, n, 25)])
        words = text[index] + rng.normal(size=(len(index), q)).astype(dtype)
        return Views.from_captions(image, words, index), y[index]
    if kind == "sparse":
        image = sp.csr_array(np.where(np.abs(image) > 3, image, 0))
        text = sp.csr_array(np.where(np.abs(text) > 9, text, 0))  # few, so that rows stay sparse
    return Views(image=image, text=text), y


@each
@pytest.mark.parametrize("kind", ["dense", "sparse", "captions"])
@pytest.mark.parametrize("standardize", [False, True])
def test_the_span_changes_nothing(monkeypatch, name, kind, standardize):
    views, y = wide(kind)
    method = clone(METHODS[name]).set_params(standardize=standardize)
    plain = clone(method).fit(views, y)
    monkeypatch.setattr(_span, "WIDE", 1)
    assert "image" in narrowed(views)[1]
    spanned = clone(method).fit(views, y)
    np.testing.assert_allclose(
        spanned.similarity(views), plain.similarity(views), rtol=0, atol=2e-6
    )
    if hasattr(plain, "weights_"):
        for role in ("image", "text"):
            size = np.abs(plain.weights_[role]).max()
            off = np.abs(spanned.weights_[role] - plain.weights_[role]).max() / size
            assert off < 1e-7, (role, off)
            np.testing.assert_allclose(spanned.means_[role], plain.means_[role], atol=1e-12)


@pytest.mark.parametrize("kind", ["dense", "sparse", "captions"])
@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("center", [False, True])
def test_coordinates_have_the_inner_products_of_the_items(monkeypatch, kind, standardize, center):
    monkeypatch.setattr(_span, "WIDE", 1)
    views, _ = wide(kind)
    found, spans = narrowed(views, standardize, center=center)
    for role in ("image", "text"):
        rows = views[role].toarray() if sp.issparse(views[role]) else np.asarray(views[role])
        if role not in spans:
            continue
        mean = rows.mean(axis=0) if center else np.zeros(rows.shape[1])
        deviation = rows.std(axis=0, ddof=1) if standardize else 1.0
        expected = (rows - mean) / np.where(deviation, deviation, 1.0)
        Z = np.asarray(found[role])
        np.testing.assert_allclose(Z @ Z.T, expected @ expected.T, atol=1e-9)
        basis = spans[role].weights(np.eye(Z.shape[1]))
        np.testing.assert_allclose((rows - mean) @ basis, Z, atol=1e-9)


def test_sparse_rows_of_any_density_have_the_same_coordinates(monkeypatch):
    monkeypatch.setattr(_span, "WIDE", 1)
    X = sp.random_array((40, 300), density=0.03, rng=np.random.default_rng(0), format="csr")
    Z = {}
    for density in (0.0, 1.0):
        monkeypatch.setattr(_span, "_DENSE", density)
        monkeypatch.setattr(_span, "_COLUMNS", 7)
        Z[density] = narrowed(Views(a=X), True)[0]["a"]
    np.testing.assert_allclose(Z[0.0] @ Z[0.0].T, Z[1.0] @ Z[1.0].T, atol=1e-10)


@each
def test_wide_views_in_float32(monkeypatch, name):
    monkeypatch.setattr(_span, "WIDE", 1)
    (coarse, y), (exact, _) = wide(dtype=np.float32), wide()
    found = METHODS[name].fit(coarse, y).similarity(exact)
    np.testing.assert_allclose(found, METHODS[name].fit(exact, y).similarity(exact), atol=1e-3)


def test_a_wide_view_that_is_constant(monkeypatch):
    monkeypatch.setattr(_span, "WIDE", 1)
    views, y = wide()
    flat = views.replace(image=np.ones((30, 90)))
    for name, method in METHODS.items():
        with pytest.raises(ValueError, match=r"constant|no covariance"):
            method.fit(flat, y)
            raise AssertionError(name)


@pytest.mark.parametrize("name", APART)
def test_methods_of_single_columns_refuse_what_memory_cannot_hold(monkeypatch, name):
    views, y = wide()
    monkeypatch.setattr(_joint, "machine_memory", lambda: 4e5)
    with pytest.raises(MemoryError, match=r"covariances of all 140 columns.*TruncatedSVD"):
        APART[name].fit(views, y)
