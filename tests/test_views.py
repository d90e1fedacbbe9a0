"""Views and Ragged: valid content, how rows are taken, which input is rejected."""

import pickle
from copy import copy, deepcopy
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from crossfit import Channels, Ragged, Views
from crossfit.views import as_numpy

N = 6
ROWS = np.array([4, 0, 4, 2])


def ragged(n=N, seed=0, dtype=float):
    rng = np.random.default_rng(seed)
    rows = [rng.normal(size=(i % 3, 2)).astype(dtype) for i in range(n)]
    boxes = np.arange(sum(len(r) for r in rows))
    return Ragged.from_list(rows, {"boxes": boxes, "vocabulary": ("a", "b")})


def captions(n_images=4, per_image=3, seed=0):
    """Return shuffled Views in which every image has several captions."""
    index = np.random.default_rng(seed).permutation(np.repeat(np.arange(n_images), per_image))
    images = 10.0 * np.arange(n_images)[:, None]
    texts = [f"caption {i} of {item}" for i, item in enumerate(index)]
    return Views.from_captions(images, texts, index), index


# ---- what a view can be ----------------------------------------------------------------


def kinds(tmp_path):
    import torch

    rng = np.random.default_rng(0)
    mapped = np.memmap(tmp_path / "map", dtype=np.float32, mode="w+", shape=(N, 3))
    mapped[:] = rng.normal(size=(N, 3))
    pictures = [Image.fromarray(np.full((2, 2, 3), i, np.uint8)) for i in range(N)]
    return {
        "float64": rng.normal(size=(N, 3)),
        "regions": rng.normal(size=(N, 2, 3)).astype(np.float32),
        "pixels": rng.integers(0, 255, (N, 4, 4, 3)).astype(np.uint8),
        "memmap": np.memmap(tmp_path / "map", dtype=np.float32, mode="r", shape=(N, 3)),
        "csr": sp.random_array((N, 4), density=0.5, rng=rng, format="csr"),
        "coo matrix": sp.coo_matrix(rng.integers(0, 2, (N, 4))),
        "tensor": torch.arange(N * 2.0).reshape(N, 2),
        "list of str": [f"text {i}" for i in range(N)],
        "paths": [Path(f"picture{i}.jpg") for i in range(N)],
        "pictures": pictures,
        "nested list": [[i, i + 1] for i in range(N)],
        "str array": np.array([f"text {i}" for i in range(N)]),
        "series": pd.Series([f"text {i}" for i in range(N)], index=[5, 3, 1, 0, 2, 4]),
        "frame": pd.DataFrame(rng.normal(size=(N, 2)), index=[5, 3, 1, 0, 2, 4]),
        "ragged": ragged(),
        "channels": {"map": rng.normal(size=(N, 2, 2)), "objects": ragged(seed=1)},
    }


KINDS = [
    "float64", "regions", "pixels", "memmap", "csr", "coo matrix", "tensor", "list of str",
    "paths", "pictures", "nested list", "str array", "series", "frame", "ragged", "channels",
]  # fmt: skip


def plain(values):
    """Convert the content of a view to nested lists, to compare it."""
    if isinstance(values, Channels):
        return {name: plain(values[name]) for name in values.names}
    if isinstance(values, Ragged):
        return [row.tolist() for row in values], values.info["boxes"].tolist()
    if sp.issparse(values):
        return values.toarray().tolist()
    return as_numpy(values).tolist()


def plain_row(given, i):
    """Return the same for row i of the user's input, without code of crossfit."""
    if isinstance(given, dict):
        return {name: plain_row(part, i) for name, part in given.items()}
    if isinstance(given, Ragged):
        start, stop = given.offsets[i : i + 2]
        return [given.values[start:stop].tolist()], given.info["boxes"][start:stop].tolist()
    if sp.issparse(given):
        return given.toarray()[[i]].tolist()
    if isinstance(given, (pd.Series, pd.DataFrame)):
        given = given.to_numpy()
    row = given[i]
    return [str(row) if isinstance(row, Path) else row.tolist() if hasattr(row, "tolist") else row]


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_every_kind_of_view(kind, tmp_path):
    given = kinds(tmp_path)[kind]
    v = Views(a=given, position=np.arange(N))
    assert v.shape == (N,) and len(v) == N and v.names == ("a", "position")
    for i in range(N):
        assert plain(v[i]["a"]) == plain_row(given, i)
    whole = plain(v["a"])
    mask = np.isin(np.arange(N), [1, 3])
    for rows in (ROWS, list(ROWS), slice(1, 4), slice(None, None, -2), mask, [-1], -2, np.int32(3)):
        at = np.atleast_1d(np.arange(N)[rows])
        for taken in (v[rows], v[rows, ...]):
            assert taken["position"].tolist() == at.tolist()
            assert plain(taken["a"]) == plain(Views(a=v["a"])[at]["a"])
            assert type(taken["a"]) is type(v[[0]]["a"]) or kind == "memmap"
    assert plain(v["a"]) == whole
    assert plain(pickle.loads(pickle.dumps(v))["a"]) == whole
    assert plain(deepcopy(v)["a"]) == plain(copy(v)["a"]) == whole


def test_a_view_is_taken_by_position_not_by_index():
    column = pd.Series(["first", "second", "third"], index=[2, 0, 1])
    v = Views(text=column, number=pd.Series([10, 20, 30], index=[7, 7, 7]))
    assert v["text"].tolist() == ["first", "second", "third"]
    assert v[[2, 0]]["number"].tolist() == [30, 10]


def test_strings_are_object_arrays_and_paths_are_strings():
    v = Views(text=np.array(["a", "bcd"]), path=[Path("x/y.png"), Path("z.png")])
    assert v["text"].dtype == object and v["path"].dtype == object
    assert v["path"].tolist() == [str(Path("x/y.png")), "z.png"]


def test_memmaps_stay_mapped_under_slices(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.arange(20.0).reshape(10, 2))
    stored = np.load(path, mmap_mode="r")
    v = Views(image=stored, text=np.zeros((10, 1)))
    part = v[2:8][1:3]
    assert isinstance(part["image"], np.memmap) and np.shares_memory(part["image"], stored)
    assert part["image"].tolist() == [[6, 7], [8, 9]]


def test_three_modalities_and_selection():
    v = Views({"image": np.eye(3), "lyrics 1": ["a", "b", "c"]}, audio=np.ones((3, 2)))
    assert v.names == ("image", "lyrics 1", "audio")
    assert v.select("audio", "image").names == ("audio", "image")
    assert "audio" in v and "video" not in v
    assert v.rename({"lyrics 1": "text"}).names == ("image", "text", "audio")
    swapped = v.rename({"image": "audio", "audio": "image"})
    assert swapped["audio"].tolist() == np.eye(3).tolist()
    replaced = v.replace(image=np.zeros((3, 1)))
    assert replaced.names == v.names and replaced["image"].tolist() == [[0], [0], [0]]
    assert Views(only=[1, 2])[1]["only"].tolist() == [2]


def test_channels():
    v = Views(image={"map": np.zeros((3, 2, 2)), "objects": np.arange(3)}, text=["a", "b", "c"])
    assert isinstance(v["image"], Channels) and v["image"].names == ("map", "objects")
    assert v[[2, 0]]["image"]["objects"].tolist() == [2, 0]
    assert isinstance(pickle.loads(pickle.dumps(v))["image"], Channels)
    assert isinstance(v.replace(image=v["image"][::1])["image"], Channels)


# ---- immutability ----------------------------------------------------------------------


def test_immutable():
    given = np.zeros((3, 2))
    v = Views(image=given, text=["a", "b", "c"])
    for made in (v, v[1:], v[[0, 1]], pickle.loads(pickle.dumps(v)), v.map(lambda x, _: x.copy())):
        with pytest.raises(ValueError, match="read-only"):
            made["image"][0] = 1
        with pytest.raises(ValueError, match="read-only"):
            made["text"][0] = "x"
    given[0] = 5  # the caller's own array stays writable
    for change in (
        lambda: setattr(v, "_n", 7),
        lambda: setattr(v, "image", 7),
        lambda: delattr(v, "_values"),
    ):
        with pytest.raises(AttributeError, match="Views is immutable"):
            change()
    with pytest.raises(TypeError, match="assignment"):
        v["image"] = given


def test_what_says_which_rows_share_an_item_is_immutable():
    v, index = captions()
    for made in (v, v[2:], pickle.loads(pickle.dumps(v))):
        for array in (made.distinct("image")[1], made.groups):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 99
    index[:] = 0
    assert len(v.distinct("image")[0]) == len(set(v.groups)) == 4


def test_ragged_is_immutable():
    r = ragged()
    with pytest.raises(ValueError, match="read-only"):
        r.values[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        r.offsets[0] = 1
    with pytest.raises(AttributeError, match="Ragged is immutable"):
        r.values = None
    with pytest.raises(TypeError, match="assignment"):
        r.info["boxes"] = None


# ---- rejected input --------------------------------------------------------------------

BAD_VIEWS = {
    "misaligned": (lambda: Views(image=np.eye(3), text=["a"]), ValueError, "image: 3, text: 1"),
    "none": (lambda: Views(), ValueError, "at least one view"),
    "empty": (lambda: Views(image=[], text=[]), ValueError, "must not be empty.*image, text"),
    "empty mapping": (lambda: Views({}), ValueError, "at least one view"),
    "array": (lambda: Views(np.eye(3)), TypeError, r"Views\(image=..., text=...\).*ndarray"),
    "views": (lambda: Views(Views(a=[1])), TypeError, "by name.*got Views"),
    "scalar": (lambda: Views(image=3.0), TypeError, "'image' must be.*float"),
    "0-d": (lambda: Views(image=np.array(3.0)), TypeError, "'image' must have rows"),
    "string": (lambda: Views(text="a cat"), TypeError, "'text' must be.*got str"),
    "none given": (lambda: Views(text=None), TypeError, "'text' must be.*NoneType"),
    "generator": (lambda: Views(text=(t for t in "ab")), TypeError, "'text'.*generator"),
    "set": (lambda: Views(text={"a", "b"}), TypeError, "'text'.*set"),
    "unequal rows": (lambda: Views(i=[[1, 2], [3]]), ValueError, "'i'.*unequal.*Ragged.from_list"),
    "unequal arrays": (lambda: Views(i=[np.zeros(2), np.zeros(3)]), ValueError, "'i'.*Ragged"),
    "1-d sparse": (lambda: Views(i=sp.coo_array([1, 0, 2])), TypeError, "'i'.*1-D"),
    "channels": (
        lambda: Views(image={"a": np.zeros(3), "b": np.zeros(2)}), ValueError, "a: 3, b: 2",
    ),
    "no channel": (lambda: Views(image={}), ValueError, "Channels expects at least one"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_VIEWS)
def test_bad_views(case):
    make, error, message = BAD_VIEWS[case]
    with pytest.raises(error, match=message):
        make()


def test_a_tensor_without_rows():
    import torch

    with pytest.raises(TypeError, match="'image' must have rows"):
        Views(image=torch.tensor(1.0))


V = Views(image=np.eye(4), text=list("abcd"))
BAD_USES = {
    "unknown view": (lambda: V["audio"], ValueError, "'audio'.*image, text"),
    "unknown select": (lambda: V.select("audio"), ValueError, "'audio'.*image, text"),
    "empty select": (lambda: V.select(), ValueError, "expects view names"),
    "unknown distinct": (lambda: V.distinct("audio"), ValueError, "'audio'"),
    "unknown first": (lambda: V.first_rows("audio"), ValueError, "'audio'"),
    "no rows": (lambda: V[[]], ValueError, "empty.*image, text"),
    "no rows by slice": (lambda: V[4:], ValueError, "empty"),
    "too far": (lambda: V[[0, 4]], IndexError, "row 4 is out of range for 4 rows"),
    "too far back": (lambda: V[-5], IndexError, "row -5 is out of range for 4 rows"),
    "floats": (lambda: V[[0.5]], IndexError, "integer array.*float64"),
    "mask": (lambda: V[[True, False]], IndexError, r"mask must have shape \(4,\), got \(2,\)"),
    "columns": (lambda: V[:, 0], IndexError, "rows must be an int"),
    "two names": (lambda: V[["image", "text"]], IndexError, "rows must be an int"),
    "replace rows": (lambda: V.replace(text=["a"]), ValueError, "'text' must have 4 rows, got 1"),
    "replace name": (lambda: V.replace(audio=list("abcd")), ValueError, "'audio'"),
    "map rows": (lambda: V.map(lambda x, _: x[:2]), ValueError, "'image' has 4.*returned 2"),
    "map name": (lambda: V.map(lambda x, _: x, "audio"), ValueError, "'audio'"),
    "same name": (lambda: V.rename({"image": "text"}), ValueError, "different names.*text, text"),
    "groups": (lambda: V.with_groups([1, 2]), ValueError, r"shape \(4,\), got \(2,\)"),
    "labels": (lambda: V.item_labels("text", [1, 2]), ValueError, r"per row \(4\), got 2"),
    "relevance": (lambda: V.relevance("image", "audio"), ValueError, "'audio'"),
    "relevance y": (lambda: V.relevance("image", "text", [1]), ValueError, r"\(4\), got 1"),
    "as array": (lambda: np.asarray(V), TypeError, r"image, text.*views\['image'\]"),
    "iterated": (lambda: list(V), TypeError, "not iterable"),
}


@pytest.mark.parametrize("case", BAD_USES)
def test_bad_uses(case):
    use, error, message = BAD_USES[case]
    with pytest.raises(error, match=message):
        use()


# ---- several rows per item -------------------------------------------------------------


def test_captions_store_each_image_once_in_order_of_first_appearance():
    v, index = captions()
    order = list(dict.fromkeys(index.tolist()))
    values, row_to_item = v.distinct("image")
    assert values.ravel().tolist() == [10.0 * i for i in order]
    assert [order[i] for i in row_to_item] == index.tolist()
    assert v["image"].ravel().tolist() == (10.0 * index).tolist()
    texts, of_row = v.distinct("text")
    assert texts.tolist() == v["text"].tolist() and of_row.tolist() == list(range(12))
    assert v.first_rows("image").tolist() == [index.tolist().index(i) for i in order]


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_taking_rows_of_captions_keeps_pairs_items_and_groups(data):
    n_images = data.draw(st.integers(1, 6))
    index = np.array(data.draw(st.lists(st.integers(0, n_images - 1), min_size=1, max_size=12)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("crossfit.views.container.warn", lambda *a, **k: None)
        v = Views.from_captions(np.arange(n_images), [str(i) for i in range(len(index))], index)
    for _ in range(2):  # rows of rows, repetitions included
        rows = np.array(data.draw(st.lists(st.integers(0, len(v) - 1), min_size=1, max_size=10)))
        taken = v[rows]
        assert taken["image"].tolist() == v["image"][rows].tolist()
        assert taken["text"].tolist() == v["text"][rows].tolist()
        assert taken.groups.tolist() == v.groups[rows].tolist()
        values, row_to_item = taken.distinct("image")
        assert values.tolist() == list(dict.fromkeys(taken["image"].tolist()))
        assert values[row_to_item].tolist() == taken["image"].tolist()
        v = taken


def test_captions_survive_select_rename_replace_map():
    v, index = captions()
    w = v.rename({"image": "picture"}).select("text", "picture")
    assert w.names == ("text", "picture") and len(w.distinct("picture")[0]) == 4
    calls = []
    mapped = v.map(lambda values, name: calls.append(len(values)) or np.arange(len(values)))
    assert calls == [4, 12] and mapped.groups.tolist() == index.tolist()
    assert mapped["image"].tolist() == v.distinct("image")[1].tolist()
    by_item = v.replace(image=np.arange(4))
    assert len(by_item.distinct("image")[0]) == 4
    by_row = v.replace(image=np.arange(12))
    assert len(by_row.distinct("image")[0]) == 12 and by_row.groups.tolist() == index.tolist()
    with pytest.raises(ValueError, match="12 rows or 4 items, got 5"):
        v.replace(image=np.arange(5))


def test_images_without_captions_are_left_out_with_a_warning():
    with pytest.warns(UserWarning, match="2 of 4 images have no caption"):
        v = Views.from_captions(np.arange(4), ["a", "b"], [3, 1])
    assert v["image"].tolist() == [3, 1] and len(v.distinct("image")[0]) == 2


@pytest.mark.parametrize(
    "index, message",
    [
        ([0, 1], "2 entries for 3 captions"),
        ([0, 1, 2], "between 0 and 1 for 2 images, got values from 0 to 2"),
        ([-1, 0, 1], "from -1 to 1"),
        ([0.0, 1.0, 1.0], "integer per caption.*float64"),
        ([[0], [1], [1]], r"shape \(3, 1\)"),
    ],
)
def test_bad_image_index(index, message):
    with pytest.raises(ValueError, match=message):
        Views.from_captions(np.eye(2), ["a", "b", "c"], index)


def test_groups():
    v = Views(image=np.eye(4), text=list("abcd"))
    assert v.groups.tolist() == [0, 1, 2, 3]
    assert v[[2, 0]].groups.tolist() == [2, 0]
    coarse = v.with_groups(["x", "y", "x", "y"])
    assert coarse.groups.tolist() == [0, 1, 0, 1] and coarse.select("text").groups[2] == 0
    assert coarse.relevance("image", "text").toarray().tolist() == np.eye(4).tolist()
    shared, _ = captions()
    with pytest.raises(ValueError, match="split an item that rows of 'image' share"):
        shared.with_groups(np.arange(12))
    assert len(set(shared.with_groups(shared.groups // 2).groups)) == 2


# ---- relevance -------------------------------------------------------------------------


def naive_relevance(v, query, gallery, y=None):
    q_items, q = v.distinct(query)
    g_items, g = v.distinct(gallery)
    S = np.zeros((len(q_items), len(g_items)), int)
    for i in range(len(v)):
        for j in range(len(v)):
            if y is None:
                S[q[i], g[j]] |= i == j
            elif np.ndim(y) == 2:
                S[q[i], g[j]] = np.sum((y[i] > 0) & (y[j] > 0))
            else:
                S[q[i], g[j]] |= (y[i] == y[j]) and not (not isinstance(y[i], str) and y[i] == -1)
    return S


@pytest.mark.parametrize("query, gallery", [("image", "text"), ("text", "image"), ("image",) * 2])
@pytest.mark.parametrize("labels", ["pairs", "classes", "strings", "floats", "indicator"])
def test_relevance_against_the_naive_loop(query, gallery, labels):
    v, index = captions(n_images=5)
    per_image = {
        "pairs": None,
        "classes": np.array([2, -1, 0, 2, -1]),
        "strings": np.array(["b", "a", "b", "-1", "-1"]),
        "floats": np.array([1.0, -1.0, 1.0, 0.5, -1.0]),
        "indicator": np.array([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0], [1, 0, 0]]),
    }[labels]
    y = None if per_image is None else per_image[index]
    found = v.relevance(query, gallery, y)
    assert sp.issparse(found) and found.format == "csr"
    assert np.array_equal(found.toarray(), naive_relevance(v, query, gallery, y))


def test_relevance_by_as_many_classes_as_rows_stays_sparse():
    n = 50_000  # dense rows by classes would be 10 GB
    v = Views(image=np.zeros((n, 1)), text=np.zeros((n, 1)))
    assert v.relevance("image", "text", np.arange(n)).nnz == n


def test_labels_by_item():
    v, index = captions()
    by_item = v.item_labels("image", index)
    assert by_item[v.distinct("image")[1]].tolist() == index.tolist()
    assert v.item_labels("text", index).tolist() == index.tolist()
    y = index.copy()
    y[5] = 77
    with pytest.raises(ValueError, match=r"of view 'image' has conflicting labels.*row"):
        v.item_labels("image", y)
    Y = np.eye(4)[index]
    Y[5] = 1
    with pytest.raises(ValueError, match="conflicting labels"):
        v.relevance("image", "text", Y)


# ---- joblib ----------------------------------------------------------------------------


def test_joblib_hash_sees_values_names_order_and_items():
    a, b = np.arange(6.0).reshape(3, 2), list("abc")
    v = Views(image=a, text=b)
    assert joblib.hash(v) == joblib.hash(Views(image=a.copy(), text=list(b)))
    others = [
        Views(text=b, image=a),
        Views(image=a + 1, text=b),
        Views(picture=a, text=b),
        v.with_groups([0, 0, 1]),
        Views.from_captions(a[:2], b, [0, 1, 1]),
        Channels(image=a, text=b),
    ]
    assert len({joblib.hash(each) for each in [v, *others]}) == 1 + len(others)


def test_repr_names_views_and_sizes():
    v, _ = captions()
    assert repr(v) == "Views(n=12, image: 4 items, (4, 1) float64; text: (12,) str)"
    w = Views(a=sp.eye_array(3, format="csr"), b={"x": np.zeros(3), "y": ragged(3)})
    assert "a: csr (3, 3) float64" in repr(w) and "Channels(n=3, x:" in repr(w)


# ---- Ragged ----------------------------------------------------------------------------


def test_ragged_rows_and_info():
    r = ragged()
    assert len(r) == N and r.shape == (N,) and r.lengths.tolist() == [0, 1, 2, 0, 1, 2]
    taken = r[ROWS]
    assert [row.tolist() for row in taken] == [r[int(i)].tolist() for i in ROWS]
    assert taken.info["boxes"].tolist() == [3, 3, 1, 2]
    assert taken.info["vocabulary"] == ("a", "b")
    assert r[-1].tolist() == r[5].tolist()
    assert len(r[[]]) == 0 and r[[]].padded()[0].shape == (0, 0, 2)
    again = pickle.loads(pickle.dumps(r))
    assert again.info["boxes"].tolist() == list(range(6)) and plain(again) == plain(r)


def test_padding_against_the_naive_loop():
    r = ragged()
    dense, mask = r.padded(fill=-1)
    assert dense.shape == (N, 2, 2) and mask.sum() == len(r.values)
    for i, row in enumerate(r):
        assert dense[i, : len(row)].tolist() == row.tolist()
        assert np.all(dense[i, len(row) :] == -1)
        assert mask[i].tolist() == [j < len(row) for j in range(2)]
    cut, mask = r.padded(length=1)
    assert cut.shape == (N, 1, 2) and mask.sum(axis=1).tolist() == [0, 1, 1, 0, 1, 1]
    long, mask = r.padded(length=4)
    assert long.shape == (N, 4, 2) and not mask[:, 2:].any()
    tokens = Ragged.from_list([[3, 4], [], [5]])
    assert tokens.dtype == np.int64 and tokens.padded()[0].tolist() == [[3, 4], [0, 0], [5, 0]]


def test_ragged_keeps_types():
    assert Ragged.from_list([np.zeros((0, 2), np.float32), np.ones((1, 2), np.float32)]).dtype == (
        np.float32
    )
    assert ragged(dtype=np.float32)[[1, 2]].dtype == np.float32


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Ragged(np.zeros((4, 2)), [0, 2]), "number of elements"),
        (lambda: Ragged(np.zeros((4, 2)), [1, 4]), "from 0"),
        (lambda: Ragged(np.zeros((4, 2)), [0, 3, 2, 4]), "rise"),
        (lambda: Ragged(np.zeros((4, 2)), [0.0, 4.0]), "integer offsets.*float64"),
        (lambda: Ragged(np.zeros((4, 2)), [[0, 4]]), r"shape \(1, 2\)"),
        (lambda: Ragged(np.zeros((4, 2)), []), "offsets"),
        (lambda: Ragged(3.0, [0, 1]), "a scalar"),
        (lambda: Ragged.from_list([]), "at least one row"),
        (lambda: Ragged.from_list([np.zeros((1, 2)), np.zeros((1, 3))]), "trailing shapes"),
        (lambda: Ragged.from_list([1, 2]), "agree in all axes"),
    ],
)
def test_bad_ragged(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("nothing", [None, float("nan"), np.nan])
@pytest.mark.parametrize("at", [0, 1, 30])
def test_rows_with_nothing_in_them_are_refused(nothing, at):
    texts = [f"text {i}" for i in range(31)]
    texts[at] = nothing
    with pytest.raises(ValueError, match=f"view 'text' is missing in 1 of 31 rows .row {at} is"):
        Views(text=np.array(texts, dtype=object))


def test_a_channel_may_lack_some_rows():
    texts = {"article": ["a", "b", "c"], "caption": ["x", None, "z"]}
    assert Views(text=texts)["text"]["caption"].tolist() == ["x", None, "z"]
