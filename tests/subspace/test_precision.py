"""float32 data whose small variances stand next to large means and large variances.

The oracle is the same data in float64, with orthonormal bases for correlations and the same method
for everything else.
"""

import numpy as np
import pytest
import scipy.sparse as sp

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
    KCCA,
    LCFS,
    LGCFL,
    MLCCA,
    PLS,
    S2UPG,
    SCM,
    TCCA,
    SparseCCA,
)
from crossfit.subspace._linalg import Moments

N, FAR = 300, 1000.0


def pairs(n=N, p=6, q=4, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    Z = rng.normal(size=(n, 3)) + 1.5 * rng.normal(size=(3, 3))[y]
    X, T = (Z @ rng.normal(size=(3, d)) + 0.8 * rng.normal(size=(n, d)) for d in (p, q))
    return X / X.std(axis=0), T / T.std(axis=0), y


def far(kind):
    """Return float32 views that are 1,000 standard deviations away from zero."""
    X, T, y = pairs()
    rng = np.random.default_rng(1)
    away = {
        "columns": FAR * np.sign(rng.normal(size=X.shape[1])),
        "rows": FAR * rng.normal(size=(N, 1)),
        "batches": FAR * np.repeat(np.arange(4), N // 4)[:, None],
        "all but the first": FAR * (np.arange(N) > 0)[:, None],
        "all but the last": FAR * (np.arange(N) < N - 1)[:, None],
    }[kind]
    T = T + (FAR if kind == "columns" else 0)
    return (X + away).astype(np.float32), T.astype(np.float32), y


FAR_KINDS = ["columns", "rows", "batches", "all but the first", "all but the last"]
kinds = pytest.mark.parametrize("kind", FAR_KINDS)


def correlations(X, T):
    Q = [np.linalg.qr(part - part.mean(axis=0))[0] for part in (X.astype(float), T.astype(float))]
    return np.linalg.svd(Q[0].T @ Q[1], compute_uv=False)


def streamed(X, T, batch):
    cca = CCA(reg=0)
    for start in range(0, X.shape[0], batch):
        cca = cca.partial_fit(X[start : start + batch], T[start : start + batch])
    return cca


def merged(X, T, batch):
    parts = [
        CCA(reg=0).partial_fit(X[start : start + batch], T[start : start + batch])
        for start in range(0, X.shape[0], batch)
    ]
    for part in parts[1:]:
        parts[0].merge(part)
    return parts[0]


WAYS = {
    "fit": lambda X, T: CCA(reg=0).fit(X, T),
    "fit, standardised": lambda X, T: CCA(reg=0, standardize=True).fit(X, T),
    "row by row": lambda X, T: streamed(X, T, 1),
    "in batches": lambda X, T: streamed(X, T, 75),
    "in uneven batches": lambda X, T: streamed(X, T, 41),
    "merged": lambda X, T: merged(X, T, 75),
    "sparse": lambda X, T: CCA(reg=0).fit(sp.csr_array(X), sp.csr_array(T)),
    "sparse in batches": lambda X, T: streamed(sp.csr_array(X), sp.csr_array(T), 75),
}


@kinds
@pytest.mark.parametrize("way", WAYS)
def test_no_canonical_component_is_lost(kind, way):
    X, T, _ = far(kind)
    expected = correlations(X, T)
    found = WAYS[way](X, T)
    np.testing.assert_allclose(found.correlations_, expected, rtol=0, atol=2e-5)
    Zx, Zt = (part.astype(float) for part in found.transform(X, T))
    each = [np.corrcoef(a, b)[0, 1] for a, b in zip(Zx.T, Zt.T)]
    np.testing.assert_allclose(each, expected, rtol=0, atol=2e-3)


@kinds
def test_tensors_lose_none_either(kind):
    torch = pytest.importorskip("torch")
    X, T, _ = far(kind)
    found = CCA(reg=0).fit(torch.as_tensor(X), torch.as_tensor(T))
    np.testing.assert_allclose(found.correlations_, correlations(X, T), rtol=0, atol=2e-5)


def test_statsmodels_agrees_on_what_is_right():
    from statsmodels.multivariate.cancorr import CanCorr

    X, T, _ = far("rows")
    expected = CanCorr(T.astype(float), X.astype(float) - X.mean(axis=0, dtype=float)).cancorr
    np.testing.assert_allclose(correlations(X, T), expected, rtol=0, atol=1e-6)


METHODS = {
    "PLS": PLS(3),
    "PLS canonical": PLS(3, mode="canonical"),
    "CFA": CFA(3),
    "CFA as it is": CFA(3, center=False, standardize=False),
    "CM": CM(3, reg=0.0),
    "SCM": SCM(3, reg=0.0),
    "CCA3V": CCA3V(3, semantics="labels", reg=1e-9),
    "GCCA": GCCA(3, reg=0.0),
    "TCCA": TCCA(3, reg=0.0),
    "SparseCCA": SparseCCA(3, l1=0.9),
    "BLM": BLM(3, variance=1.0),
    "GMLDA": GMLDA(2, variance=1.0),
    "GMMFA": GMMFA(2, variance=1.0, n_within=8, n_between=60),
    "MLCCA": MLCCA(2, reg=0.0),
    "LCFS": LCFS(1.0),
    "LGCFL": LGCFL(2.0, 2.0),
    "JFSSL": JFSSL(),
    "JRL": JRL(1.0, 1.0, n_neighbors=10, measure="cosine"),
    "S2UPG": S2UPG(measure="cosine"),
    "KCCA": KCCA(3, kernel="linear", reg=1e-6),
}


@kinds
@pytest.mark.parametrize("name", METHODS)
def test_methods_find_in_float32_what_they_find_in_float64(name, kind):
    X, T, y = far(kind)
    found = METHODS[name].fit(X, T, y)
    # Encoded in float64, so that only the fits are compared.
    wide = X.astype(float), T.astype(float)
    ours = found.similarity(*wide)
    np.testing.assert_allclose(ours, METHODS[name].fit(*wide, y).similarity(*wide), atol=2e-3)


def test_products_are_in_float64_where_that_is_needed_alone():
    X, T, _ = pairs(n=400)
    plain, far_away = Moments(), Moments()
    plain.update(Views(a=X.astype(np.float32), b=T.astype(np.float32)))
    assert np.all(plain.rounded > 0) and plain.rounding() == [np.finfo(np.float32).eps] * 2
    X = (X + FAR * np.random.default_rng(0).normal(size=(400, 1))).astype(np.float32)
    far_away.update(Views(a=X, b=T.astype(np.float32)))
    assert np.all(far_away.rounded == 0) and max(far_away.rounding()) < 1e-12
    ridged = Moments()
    ridged.update(Views(a=X, b=T.astype(np.float32)), ridge=1e-2)
    assert np.all(ridged.rounded > 0)


def test_sums_of_an_earlier_version_are_read():
    moments = Moments()
    moments.update(Views(a=pairs()[0].astype(np.float32)))
    kept = {name: part for name, part in vars(moments).items() if name != "rounded"}
    assert Moments(**kept).rounding() == moments.rounding()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_rounding_alone_counts_as_no_component(dtype):
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(500, 3))
    X, T = (Z @ rng.normal(size=(3, d)) for d in (8, 6))  # of rank 3
    found = CCA(reg=0).fit((X + 7).astype(dtype), T.astype(dtype))
    assert found.n_components_ == 3
    histogram = rng.dirichlet(np.ones(6), size=500).astype(dtype)
    found = CCA(reg=0).fit(histogram, (histogram[:, :4] + rng.normal(size=(500, 4))).astype(dtype))
    assert max(np.abs(part).max() for part in found.weights_.values()) < 1e3
