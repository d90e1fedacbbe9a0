"""crossfit.search: what a result holds, and which queries are errors."""

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline

from crossfit import Views, search
from crossfit.compose import ViewTransformer
from crossfit.querying import SearchResult
from crossfit.subspace import CCA

TITLES = np.array([f"w{i % 7} x{i % 5} red" for i in range(60)], dtype=object)
LYRICS = np.array([f"y{i % 7} z{i % 5} blue" for i in range(60)], dtype=object)


@pytest.fixture(scope="module")
def model():
    features = ViewTransformer([("title", TfidfVectorizer()), ("lyrics", TfidfVectorizer())])
    return make_pipeline(features, CCA(4)).fit(Views(title=TITLES, lyrics=LYRICS))


@pytest.mark.parametrize("gallery", [LYRICS[:20], LYRICS[:20].astype(str), list(LYRICS[:20])])
def test_a_result_holds_the_items_and_their_names(model, gallery):
    ids = [f"song {n}" for n in range(20)]
    found = search(model, TITLES[:3], view="title", gallery=gallery, ids=ids, k=4)
    indices, scores = found
    assert indices.shape == scores.shape == found.items.shape == found.ids.shape == (3, 4)
    for query in range(3):
        for rank in range(4):
            assert found.items[query, rank] == LYRICS[indices[query, rank]]
            assert found.ids[query, rank] == f"song {indices[query, rank]}"
    rows = found.rows()
    assert [(row["query"], row["rank"]) for row in rows] == [
        (q, r) for q in range(3) for r in (1, 2, 3, 4)
    ]
    assert [row["score"] for row in rows] == scores.ravel().tolist()
    for same in (copy.copy(found), pickle.loads(pickle.dumps(found))):
        np.testing.assert_array_equal(same.ids, found.ids)
        np.testing.assert_array_equal(same.items, found.items)


def test_a_frame_has_the_rows(model):
    pd = pytest.importorskip("pandas")
    found = search(model, TITLES[:2], view="title", gallery=LYRICS, k=2)
    frame = found.to_frame()
    assert list(frame.columns) == ["query", "rank", "index", "score", "item"]
    pd.testing.assert_frame_equal(frame, pd.DataFrame(found.rows()))


def test_vectors_have_no_items():
    Z = np.random.default_rng(0).normal(size=(20, 3))
    found = search(CCA().fit(Z, Z), Z[:2], view="image", gallery=Z)
    assert found.items is None and found.ids is None
    assert set(found.rows()[0]) == {"query", "rank", "index", "score"}
    assert isinstance(found, SearchResult) and len(found) == 2


@pytest.mark.parametrize(("queries", "more", "error", "message"), [
    ("w1", {}, TypeError, r"queries must be a list of items, got 'w1'; write \['w1'\]"),
    (Path("a.png"), {}, TypeError, "queries must be a list of items"),
    (["w1"], {"gallery": "y1"}, TypeError, "gallery must be a list of items, got 'y1'"),
    (["w1", " "], {}, ValueError, "queries: row 1 is an empty text; leave it out"),
    (["w1"], {"ids": ["a"]}, ValueError, r"ids must name the 60 items .* got shape \(1,\)"),
])  # fmt: skip
def test_mistakes_are_named(model, queries, more, error, message):
    with pytest.raises(error, match=message):
        search(model, queries, **{"view": "title", "gallery": LYRICS, **more})
