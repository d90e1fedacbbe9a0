"""Arrays as users pass them: conversion of numbers, tables, sparse matrices and tensors."""

import importlib.util
import subprocess
import sys
import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from sklearn.preprocessing import FunctionTransformer

import crossfit
from crossfit import Channels, Ragged, Views
from crossfit.base import CrossModalEstimator
from crossfit.compose import ColumnsAsViews, ViewTransformer
from crossfit.subspace import CCA, CFA, KCCA, PLS, SM
from crossfit.views import as_float, as_numpy

nan = float("nan")
N = 40


@pytest.fixture
def pairs():
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(N, 2))
    return Z @ rng.normal(size=(2, 4)), Z @ rng.normal(size=(2, 3)) + rng.normal(size=(N, 3))


# ---- integers -----------------------------------------------------------------------------


def stamps(dtype=np.int64):
    """Return the seconds of a day in 2038, and values that grow with them."""
    seconds = (2**31 + np.arange(60)).astype(dtype)
    return seconds[:, None], np.arange(60.0)[:, None]


FORMS = {
    "int64": lambda x: x,
    "uint64": lambda x: x.astype(np.uint64),
    "uint32": lambda x: x.astype(np.uint32),
    "big-endian": lambda x: x.astype(">i8"),
    "csr": sp.csr_array,
    "tensor": torch.tensor,
    "tensor of uint64": lambda x: torch.tensor(x.astype(np.uint64)),
    "list": lambda x: x.tolist(),
    "frame": pd.DataFrame,
    "nullable": lambda x: pd.DataFrame(x).convert_dtypes(),
    "long double": lambda x: x.astype(np.longdouble),
}


@pytest.mark.parametrize("form", FORMS)
def test_integers_that_float32_cannot_hold_are_float64(form):
    x, t = stamps()
    if form == "tensor" or form == "tensor of uint64":
        t = torch.tensor(t)
    cca = CCA(1, reg=1e-9).fit(FORMS[form](x), t)
    np.testing.assert_allclose(cca.correlations_, 1, atol=1e-6)  # it was .32 before the fix
    found = as_float(Views(a=FORMS[form](x))["a"], "a")
    found = found.toarray() if sp.issparse(found) else as_numpy(found)
    assert found.dtype == np.float64 and np.array_equal(found, x)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32])
@pytest.mark.parametrize("wrap", [np.asarray, sp.csr_array, lambda x: Ragged(x, [0, len(x)])])
def test_every_integer_stays_what_it_is(dtype, wrap):
    ends = np.iinfo(dtype)
    for high in (3, 2**24, 2**24 + 1):
        x = np.array([[0], [1], [min(high, ends.max)]], dtype)
        found = as_float(wrap(x), "x")
        data = found.values if isinstance(found, Ragged) else found
        data = data.toarray() if sp.issparse(data) else data
        assert data.dtype == (np.float64 if x.max() > 2**24 else np.float32)
        assert np.array_equal(data.astype(np.float64), x.astype(np.float64))
    low = np.array([[max(-(2**24) - 1, ends.min)]], dtype)
    assert as_float(low, "x")[0, 0] == low[0, 0]
    extremes = np.array([[ends.min], [ends.max]], dtype)
    assert np.array_equal(as_float(extremes, "x").astype(np.float64), extremes.astype(np.float64))


@pytest.mark.parametrize("x", [2**53 + 1, 2**60 + 1, 2**63 - 1, -(2**63) + 1, 2**64 - 1])
def test_integers_that_no_float_holds_are_refused(x):
    array = np.array([[x]], np.uint64 if x >= 2**63 else np.int64)
    for given in (array, sp.csr_array(array), torch.tensor(array)):
        with pytest.raises(ValueError, match=f"float64 cannot hold, {x} for instance.*offset"):
            as_float(given, "x")
    # float64 holds nanoseconds of whole seconds exactly, and the smallest integer too.
    for held in (10**9 * 1_700_000_000, -(2**63), 2**62):
        assert int(as_float(np.array([[held]]), "x")[0, 0]) == held


def test_channels_ragged_and_floats():
    x, _ = stamps()
    ragged = as_float(Ragged(x, [0, 20, 60]), "x")
    assert ragged.dtype == np.float64 and np.array_equal(ragged.values, x)
    for dtype, wanted in ((np.float16, np.float32), (np.float32, np.float32), (float, np.float64)):
        assert as_float(np.ones((2, 1), dtype), "x").dtype == wanted
    for dtype in (">f4", ">f8", "<f4"):
        found = as_float(np.array([[1.5]], dtype), "x")
        assert found.dtype == np.dtype(dtype).newbyteorder("=") and found[0, 0] == 1.5
    fine = np.array([[2**31 + 0.25]], np.longdouble)
    assert as_float(fine, "x")[0, 0] == 2**31 + 0.25
    for dtype in (torch.bfloat16, torch.float16, torch.int8, torch.bool, torch.uint16):
        assert as_float(torch.ones(2, 1).to(dtype), "x").dtype == torch.float32


# ---- NaN with its position --------------------------------------------------------------------


def holed():
    x = np.ones((12, 4))
    x[3, 1] = x[7, 1] = nan
    x[7, 2] = np.inf
    return x


@pytest.mark.parametrize(
    "wrap", [np.asarray, np.asfortranarray, np.float32, sp.csr_array, torch.tensor, pd.DataFrame,
             np.ndarray.tolist, lambda x: pd.DataFrame(x).convert_dtypes()]
)  # fmt: skip
def test_nan_is_told_with_rows_and_columns(wrap):
    with pytest.raises(
        ValueError,
        match=r"view 'image' contains NaN or infinity in 2 of 12 rows \(3, 7\) and 2 of 4 columns "
        r"\(1, 2\)",
    ):
        CCA().fit(wrap(holed()), wrap(np.ones((12, 4))))


def test_nan_in_ragged_regions_and_many_rows():
    with pytest.raises(ValueError, match=r"2 of 3 rows \(0, 2\) and 2 of 4 columns \(1, 2\)"):
        as_float(Ragged(holed(), [0, 4, 4, 12]), "x")
    with pytest.raises(ValueError, match=r"2 of 6 rows \(1, 3\) and 2 of 4 columns"):
        as_float(holed().reshape(6, 2, 4), "x")
    with pytest.raises(ValueError, match=r"20 of 20 rows \(0, 1, 2, 3, 4, \.\.\.\) and 1 of 1 col"):
        as_float(np.full((20, 1), nan), "x")
    with pytest.raises(ValueError, match=r"1 of 4 rows \(3\)$"):
        as_float(np.array([0, 1, 2, nan]), "x")


# ---- sparse matrices -----------------------------------------------------------------------


def csr(kind=sp.csr_array):
    return kind(np.arange(1.0, 13).reshape(4, 3))


def damaged_indices(kind, at=2, value=7):
    made = csr(kind)
    made.indices[at] = value
    return made


def damaged_offsets(offsets):
    made = csr()
    made.indptr[:] = offsets
    return made


def damaged_coo(which, value):
    made = sp.coo_array(csr())
    getattr(made, which)[2] = value
    return made


def damaged_dok():
    made = sp.dok_array(csr())
    made._dict[(9, 9)] = 1.0
    return made


def damaged_lil():
    made = sp.lil_array(csr())
    made.rows[1][0] = 9
    return made


DAMAGED = {
    "csr": lambda: damaged_indices(sp.csr_array),
    "csr matrix": lambda: damaged_indices(sp.csr_matrix),
    "csr below": lambda: damaged_indices(sp.csr_array, value=-1),
    "csr far beyond": lambda: damaged_indices(sp.csr_array, value=2**31 - 1),
    "csc": lambda: damaged_indices(sp.csc_array),
    "bsr": lambda: damaged_indices(sp.bsr_array, at=0),
    "falling offsets": lambda: damaged_offsets([0, 9, 3, 12, 12]),
    "offsets beyond": lambda: damaged_offsets([0, 3, 6, 9, 99]),
    "offsets from 1": lambda: damaged_offsets([1, 3, 6, 9, 12]),
    "negative offsets": lambda: damaged_offsets([0, -3, 6, 9, 12]),
    "coo column": lambda: damaged_coo("col", 9),
    "coo row": lambda: damaged_coo("row", 2**30),
    "coo negative": lambda: damaged_coo("row", -1),
    "dok": damaged_dok,
    "lil": damaged_lil,
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_sparse_matrices_are_refused_at_every_door(case):
    good, text = csr(), np.arange(8.0).reshape(4, 2)
    fitted = SM().fit(np.eye(6, 3), np.eye(6, 2), [0, 1, 0, 1, 0, 1])
    cca = CCA(1).fit(np.random.default_rng(0).normal(size=(9, 3)), np.arange(18.0).reshape(9, 2))
    passing = ViewTransformer([("image", "passthrough")]).fit(Views(image=good))
    v = Views(image=good, text=text)
    doors = {
        "views": lambda bad: Views(image=bad),
        "mapping": lambda bad: Views({"image": bad}),
        "channels": lambda bad: Channels(a=bad),
        "views of channels": lambda bad: Views(image={"a": bad}),
        "captions": lambda bad: Views.from_captions(bad, text, [0, 1, 2, 3]),
        "images": lambda bad: Views.from_captions(text, bad, [0, 1, 2, 3]),
        "replace": lambda bad: v.replace(image=bad),
        "map": lambda bad: v.map(lambda part, name: bad, "image"),
        "fit": lambda bad: SM().fit(bad, text, [0, 1, 0, 1]),
        "partial_fit": lambda bad: CCA().partial_fit(bad, text),
        "transform": lambda bad: fitted.transform(bad),
        "encode": lambda bad: fitted.encode(bad, "image"),
        "encode cca": lambda bad: cca.encode(bad, "image"),
        "similarity": lambda bad: fitted.similarity(bad, text),
        "score": lambda bad: fitted.score(bad, text, [0, 1, 0, 1]),
        "crossfit.encode": lambda bad: crossfit.encode(fitted, bad, "image"),
        "crossfit.similarity": lambda bad: crossfit.similarity(fitted, bad, text),
        "transformer": lambda bad: passing.transform(Views(image=bad)),
        "columns": lambda bad: ColumnsAsViews(SM()).fit(bad, [0, 1, 0, 1]),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for door, enter in doors.items():
            enter(csr())  # a valid one passes
            with pytest.raises(ValueError, match="is a damaged sparse matrix of shape"):
                enter(DAMAGED[case]())
                pytest.fail(door)


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "lil", "dok", "dia", "bsr"])
@pytest.mark.parametrize("kind", ["array", "matrix"])
def test_every_format_is_taken_as_csr_and_left_as_it_was(form, kind):
    dense = np.arange(12.0).reshape(4, 3)
    given = getattr(sp, f"{form}_{kind}")(dense)
    found = Views(a=given)["a"]
    assert found.format == "csr" and np.array_equal(found.toarray(), dense)
    assert given.format == form and np.array_equal(given.toarray(), dense)
    given = given.astype(np.float64)
    holed = np.where(dense == 7, nan, dense)
    with pytest.raises(ValueError, match=r"1 of 4 rows \(2\) and 1 of 3 columns \(1\)"):
        CCA().fit(getattr(sp, f"{form}_{kind}")(holed), dense)


def test_sparse_integers_objects_and_read_only_parts():
    big = sp.csr_array(np.array([[0, 2**31 + 1], [3, 0]]))
    assert as_float(Views(a=big)["a"], "a").dtype == np.float64
    locked = csr()
    for part in (locked.data, locked.indices, locked.indptr):
        part.setflags(write=False)
    assert np.array_equal(Views(a=locked)["a"].toarray(), csr().toarray())
    # Unused entries at the end of the arrays stay in the user's matrix.
    roomy = csr()
    roomy.data, roomy.indices = np.append(roomy.data, nan), np.append(roomy.indices, 99)
    assert np.array_equal(Views(a=roomy)["a"].toarray(), csr().toarray())
    assert len(roomy.data) == 13


# ---- empty texts -----------------------------------------------------------------------------

NOTHING = [None, nan, np.float32(nan), np.float64(nan), pd.NA, pd.NaT, np.datetime64("NaT"),
           np.ma.masked, complex(nan)]  # fmt: skip


@pytest.mark.parametrize("nothing", NOTHING, ids=lambda x: f"{type(x).__name__}")
@pytest.mark.parametrize("at", [[0], [1], [3], [0, 2], [0, 1, 2, 3]])
def test_text_with_nothing_in_it_is_refused_with_its_rows(nothing, at):
    texts = [f"text {i}" for i in range(5)]
    for i in at:
        texts[i] = nothing
    told = rf"'text' is missing in {len(at)} of 5 rows \(row {at[0]} is "
    if len(at) > 1:
        told += rf".*; then {', '.join(map(str, at[1:]))}\)"
    held = np.empty(5, object)
    held[:] = texts if nothing is not np.ma.masked else ["", *texts[1:]]
    for i in at:
        held[i] = nothing
    v = Views(text=list("abcde"))
    doors = [
        lambda: Views(text=texts), lambda: Views(text=tuple(texts)), lambda: Views(text=held),
        lambda: Views(text=pd.Series(held)), lambda: v.replace(text=texts),
        lambda: v.map(lambda part, name: held),
        lambda: Views.from_captions(np.eye(5), texts, range(5)),
        lambda: Views.from_captions(texts, np.eye(5), range(5), names=("text", "image")),
    ]  # fmt: skip
    for door in doors:
        with pytest.raises(ValueError, match=told):
            door()
    assert Channels(text=held)["text"][4] == "text 4"


def test_columns_of_text_with_nothing_in_them():
    for dtype in (object, "string", "category", "str"):
        column = pd.Series(["a", None, "b"], dtype=dtype)
        with pytest.raises(ValueError, match=r"missing in 1 of 3 rows \(row 1 is"):
            Views(text=column)
        assert Views(text=column.dropna())["text"].tolist() == ["a", "b"]
    held = np.array(["a", "b"], dtype=np.dtypes.StringDType())
    assert Views(text=held)["text"].tolist() == ["a", "b"]


def test_numbers_among_strings_do_not_become_text():
    for mixed in (["a", 1], [1, "a"], [2.5, "a"], ["a", True], np.array(["a", 1], object)):
        with pytest.raises(ValueError, match="'text' must hold strings or numbers, not both: row"):
            Views(text=mixed)
    table = pd.DataFrame({"word": ["a", "b"], "number": [1, 2]})
    assert Views(a=table)["a"].tolist() == [["a", 1], ["b", 2]]


# ---- masked arrays -------------------------------------------------------------------------


def test_masked_arrays_are_never_read_under_the_mask():
    x = np.ma.array(np.eye(4), mask=np.eye(4, k=1))
    told = r"must not be masked, as in 3 of 4 rows \(0, 1, 2\): fill"
    clean = np.ma.array(np.eye(4), mask=False)
    fitted = CCA(1).fit(clean, np.eye(4)[::-1])
    doors = {
        "views": lambda: Views(image=x),
        "fit": lambda: CCA().fit(np.eye(4), x),
        "transform": lambda: fitted.transform(x),
        "similarity": lambda: fitted.similarity(np.eye(4), x),
        "list": lambda: Views(image=list(x)),
        "nested": lambda: Views(image=[list(row) for row in x]),
        "objects": lambda: Views(image=x.astype(object)),
        "ragged": lambda: Ragged(x, [0, 4]),
        "rows of a ragged": lambda: Ragged.from_list([x]),
        "captions": lambda: Views.from_captions(x, list("abcd"), range(4)),
        "cosines": lambda: crossfit.similarities.pairwise_similarity(x, np.eye(4), "cosine"),
        "index": lambda: crossfit.retrieval.ExactIndex().add(x),
        "grades": lambda: crossfit.metrics.evaluate(np.eye(4), x),
    }
    for door in doors.values():
        with pytest.raises(ValueError, match="must not be masked"):
            door()
    with pytest.raises(ValueError, match=told):
        Views(image=x)
    index = np.ma.array([0, 1, 2, 3], mask=[0, 0, 0, 1])
    with pytest.raises(ValueError, match=r"image_index must not be masked.*\(3\)"):
        Views.from_captions(np.eye(4), list("abcd"), index)
    with pytest.raises(IndexError, match="must not be masked"):
        Views(image=np.eye(4))[index]
    assert np.array_equal(fitted.transform(clean), fitted.transform(np.eye(4)))


# ---- tables of pandas ----------------------------------------------------------------------


def frame():
    return pd.DataFrame(
        {
            "a": [1, 2, 3, 4], "b": [0.5, 1.5, -2.0, 3.0], "c": [True, False, True, True],
            "d": np.array([1, 2, 3, 5], ">f4"), "e": np.array([1, 0, 2, 1], "u1"),
        }
    )  # fmt: skip


def test_tables_of_every_type_of_column_are_numbers():
    plain = frame().astype(float).to_numpy()
    tables = {
        "as it is": frame(),
        "converted": frame().convert_dtypes(),
        "nullable": frame().astype("Float64"),
        "integers": frame().astype({"a": "Int8", "e": "UInt32"}),
        "objects": frame().astype(object),
        "boolean": frame().astype({"c": "boolean"}),
        "category": frame().astype({"a": "category"}),
        "sparse": frame().astype({"e": pd.SparseDtype("float", 0)}),
        "big-endian": pd.DataFrame(plain.astype(">f4")),
    }
    if importlib.util.find_spec("pyarrow"):
        # Arrow has no columns with swapped bytes.
        native = frame().astype({"d": "f4"})
        tables["arrow"] = native.convert_dtypes(dtype_backend="pyarrow")
        assert all("pyarrow" in str(dtype) for dtype in tables["arrow"].dtypes)
    other = np.random.default_rng(0).normal(size=(4, 2))
    wanted = CCA(1).fit(plain, other).correlations_
    for name, table in tables.items():
        values = Views(a=table)["a"]
        assert values.dtype.kind in "fiu" and values.dtype.isnative, name
        assert np.array_equal(values.astype(float), plain), name
        np.testing.assert_allclose(CCA(1).fit(table, other).correlations_, wanted, rtol=1e-5)
        assert Views(a=table).columns.get("a", ()) == (
            () if name == "big-endian" else ("a", "b", "c", "d", "e")
        )


def test_what_a_table_lacks_is_nan_and_refused_with_its_place():
    table = frame().convert_dtypes()
    table.loc[2, "a"] = pd.NA
    table.loc[1, "c"] = pd.NA
    values = Views(a=table)["a"]
    assert np.isnan(values).tolist() == [
        [False] * 5, [False, False, True, False, False], [True, *[False] * 4], [False] * 5,
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"2 of 4 rows \(1, 2\) and 2 of 5 columns \(0, 2\)"):
        CCA().fit(table, np.eye(4))


def test_columns_of_equal_rows_are_stacked():
    rows = np.arange(12.0).reshape(4, 3)
    for column in (
        pd.Series(list(rows)),
        pd.Series(rows.tolist()),
        pd.DataFrame({"x": list(rows)})["x"],
    ):
        found = Views(a=column)["a"]
        assert found.shape == (4, 3) and found.dtype == float and np.array_equal(found, rows)
    held = np.empty(4, object)
    held[:] = list(rows.astype(np.float32))
    assert Views(a=held)["a"].dtype == np.float32
    assert Views(a=list(torch.tensor(rows)))["a"].shape == (4, 3)
    regions = pd.Series(list(np.zeros((4, 2, 3))))
    assert Views(a=regions)["a"].shape == (4, 2, 3)
    uneven = pd.Series([np.zeros(2), np.zeros(3)])
    with pytest.raises(ValueError, match=r"must be a numeric.*object array of ndarray"):
        CCA().fit(uneven, np.eye(2))


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_big_endian_arrays_everywhere(pairs):
    X, T = pairs
    swapped = CCA().fit(X.astype(">f8"), T.astype(">f4"))
    plain = CCA().fit(X, T.astype(np.float32))
    np.testing.assert_array_equal(swapped.correlations_, plain.correlations_)
    assert np.array_equal(swapped.encode(X.astype(">f8"), "image"), plain.encode(X, "image"))
    assert Views(a=X.astype(">f8"))["a"].dtype.isnative
    assert Views(a=np.asmatrix(X))["a"][0].shape == (4,)


# ---- tensors -------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_tensors_that_are_not_one_block_of_numbers_are_refused():
    odd = {
        "sparse": torch.eye(4).to_sparse(),
        "sparse rows": torch.eye(4).to_sparse_csr(),
        "nested": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
        "jagged": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged),
        "meta": torch.zeros(4, 4, device="meta"),
        "quantized": torch.quantize_per_tensor(torch.eye(4), 0.1, 0, torch.qint8),
    }
    for name, tensor in odd.items():
        kind = {"jagged": "nested", "sparse rows": "sparse"}.get(name, name)
        for door in (
            lambda t: Views(image=t), lambda t: CCA().fit(t, torch.eye(4)), as_numpy,
            lambda t: Ragged(t, [0, 4]), lambda t: as_float(t, "x"),
            lambda t: crossfit.metrics.evaluate(np.eye(4), (t, t)),
        ):  # fmt: skip
            with pytest.raises(TypeError, match=f"must not be a {kind} tensor"):
                door(tensor)
    with pytest.raises(ValueError, match="Complex data not supported"):
        as_float(torch.eye(2).to(torch.complex64), "x")


def test_tensors_of_every_type_become_arrays():
    for dtype in (torch.bfloat16, torch.float16, torch.float8_e5m2, torch.float64, torch.int32):
        found = as_numpy(
            torch.tensor([[1.0, 2.0]]).to(dtype).requires_grad_(dtype.is_floating_point)
        )
        assert found.tolist() == [[1, 2]]
    assert as_numpy(torch.tensor([1 + 2j]).conj())[0] == 1 - 2j


# ---- overflow ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make", [partial(CCA, reg=0, power=0), CFA, PLS], ids=["CCA", "CFA", "PLS"]
)
def test_encodings_that_overflow_are_refused_with_their_rows(make, pairs):
    X, T = pairs
    fitted = make().fit(X, T)
    huge = np.array(X)
    huge[[3, 7]] = 1.7e308 * np.sign(fitted.encode(np.eye(4), "image")[:, 0])
    told = r"encoding of view 'image' overflows to NaN or infinity in 2 of 40 rows \(3, 7\)"
    doors = [
        lambda: fitted.transform(huge),
        lambda: fitted.encode(huge, "image"),
        lambda: fitted.similarity(huge, T),
        lambda: fitted.score(huge, T),
        lambda: fitted.transform(Views(image=huge, text=T)),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for door in doors:
            with pytest.raises(ValueError, match=told):
                door()
    assert np.isfinite(fitted.encode(1e300 * X, "image")).all()  # large numbers are accepted


@pytest.mark.parametrize("name", ["CCA", "CFA", "JRL", "KCCA", "MLCCA", "PLS", "GMLDA", "LCFS"])
def test_features_whose_squares_overflow_or_vanish_are_not_called_constant(name, pairs):
    X, T = pairs
    y = np.arange(N) % 3
    method = getattr(crossfit.subspace, name)
    one = np.array(X)
    one[5, 2] = 1e200
    told = (
        rf"{name}: view 'image' holds values up to \S+, whose products leave the range of float64"
    )
    for huge in (1e200 * X, 1e160 * X, one):
        with pytest.raises(ValueError, match=told):
            method().fit(huge, T, y)
    with pytest.raises(ValueError, match=r"'image' holds no number above .* vanishes in float64"):
        method().fit(1e-200 * X, T, y)
    with pytest.raises(ValueError, match=r"(?i)constant|same for all rows"):
        method().fit(np.ones_like(X), T, y)
    # The square of any float32 number is finite in float64.
    large = method().fit((1e25 * X).astype(np.float32), T, y)
    plain = method().fit(X.astype(np.float32), T, y)
    assert large.score((1e25 * X).astype(np.float32), T, y) == pytest.approx(
        plain.score(X.astype(np.float32), T, y), abs=1e-3
    )


def test_what_an_author_calls_constant_may_be_too_large(pairs):
    X, T = pairs

    class Strict(CrossModalEstimator):
        def _fit(self, views, y):
            raise ValueError("view 'image' is constant")

    told = r"Strict: view 'image' holds numbers as large as \S+, whose squares overflow float64"
    with pytest.raises(ValueError, match=told):
        Strict().fit(1e200 * X, T)
    with pytest.raises(ValueError, match="view 'image' is constant"):
        Strict().fit(X, T)


# ---- global settings -----------------------------------------------------------------------


def test_nothing_depends_on_settings_of_the_program(pairs):
    X, T = pairs
    y = np.arange(N) % 3
    tiny, halves, fine = 1e-310 * X, X.astype(np.float16), X.astype(np.longdouble)
    wide = np.array([[1e300]], np.longdouble)
    narrow = ViewTransformer([("image", FunctionTransformer(lambda x: np.exp(-1e4 * x**2)))])

    def results():
        v = Views(image=X, text=T).with_groups(np.arange(N) // 2)
        cca = CCA(2).fit(v, y)
        found = [cca.encode(X, "image"), cca.similarity(v), cca.score(v, y)]
        found += [v.relevance("image", "text", y).toarray(), as_float(tiny, "x")]
        found += [as_float(np.full((2, 2), 1e308), "x"), as_float(halves, "x")]
        found += [KCCA(2).fit(X, T).encode(1e3 * X, "image")]  # the kernel underflows
        found += [narrow.fit_transform(v)["image"], as_float(wide, "x")]
        ragged = Ragged.from_list([X[:2], X[2:5]])
        found += [*ragged.padded(), as_float(ragged, "x").values]
        found += [as_float(np.array([[2**40]]), "x"), as_float(fine, "x")]
        try:
            as_float(np.array([[np.float32(nan)]]), "x")
        except ValueError as error:
            found.append(str(error))
        try:
            v.item_labels("image", [np.float64(1), *"ab" * 19, "a"])
        except ValueError as error:
            found.append(str(error))
        return found

    plain = results()
    before = np.geterr()
    printing = np.printoptions(precision=1, threshold=2, legacy="1.13")
    with np.errstate(all="raise"), printing, warnings.catch_warnings():
        warnings.simplefilter("error")
        strict = results()
    assert np.geterr() == before
    for one, other in zip(plain, strict, strict=True):
        np.testing.assert_array_equal(one, other)


def test_pandas_and_masked_arrays_are_not_imported_for_plain_arrays():
    code = (
        "import sys, numpy as np; from crossfit import Views\n"
        "v = Views(a=np.eye(3), b=list('abc')); v.relevance('a', 'b', [1, 1, 2])\n"
        "assert not {'pandas', 'torch', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
