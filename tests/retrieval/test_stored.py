"""Index: equal to a dict and brute force, whatever was added, removed, updated and opened again."""

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from crossfit import Views
from crossfit.retrieval import CSLS, NNN, DualSoftmax, Index, InvertedSoftmax

pytest.importorskip("faiss")
pa = pytest.importorskip("pyarrow")


def rows(n, d=5, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def scores_of(metric, queries, items):
    """Return all scores, the naive way, in float64."""
    if metric == "dot":
        return queries @ items.T
    if metric == "euclidean":
        return -np.linalg.norm(queries[:, None] - items[None], axis=2)
    if metric == "correlation":
        queries = queries - queries.mean(axis=1, keepdims=True)
        items = items - items.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(items, axis=1)
    return queries @ items.T / lengths


def assert_found(found, scores, ids, k, allowed=None):
    """Check a result against the matrix of all scores."""
    scores = scores.copy()
    allowed = np.ones(scores.shape[1], bool) if allowed is None else np.asarray(allowed)
    scores[:, ~allowed] = -np.inf
    k = min(k, int(allowed.sum()))
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    assert found.ids.shape == best.shape
    assert found.ids.tolist() == [[ids[i] for i in row] for row in best]
    np.testing.assert_allclose(found.scores, np.take_along_axis(scores, best, 1), atol=2e-6)


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean", "correlation"])
@pytest.mark.parametrize("n_queries", [1, 50])
def test_search_is_that_of_all_scores(tmp_path, metric, n_queries):
    items, queries = rows(300), rows(n_queries, seed=1)
    ids = [f"item {i}" for i in range(300)]
    years = np.arange(300) % 7
    with Index.create(tmp_path / "i", 5, metric=metric) as index:
        for start in range(0, 300, 90):
            some = slice(start, start + 90)
            index.add(items[some], ids[some], {"year": years[some]})
    index = Index.open(tmp_path / "i")
    scores = scores_of(metric, queries, items)
    assert_found(index.search(queries, k=11), scores, ids, 11)
    assert_found(index.search(queries, k=1000), scores, ids, 1000)
    found = index.search(queries, k=20, where="year in [2, 5]")
    assert_found(found, scores, ids, 20, np.isin(years, [2, 5]))
    assert {item["year"] for item in found.items.ravel()} <= {2, 5}
    assert index.search(queries, where="year > 6").ids.shape == (n_queries, 0)


def test_a_near_item_is_at_its_distance(tmp_path):
    """Differences of squares would be off by far more."""
    items = rows(200) + 1000
    with Index.create(tmp_path / "i", 5, metric="euclidean") as index:
        index.add(items, [str(i) for i in range(200)])
    stored = items.astype(np.float32)
    found = index.search(stored, k=1)
    assert found.ids.ravel().tolist() == [str(i) for i in range(200)]
    assert np.abs(found.scores).max() == 0


@pytest.mark.parametrize("correction", [NNN(k=3, weight=0.7), CSLS(k=3), InvertedSoftmax(beta=5.0)])
def test_a_correction_is_kept_and_applied(tmp_path, correction):
    bank = Views(image=rows(40, seed=2), text=rows(40, seed=3))
    correction.fit(bank)
    items, queries = rows(80, seed=4), rows(6, seed=5)
    ids = [str(i) for i in range(80)]
    made = Index.create(
        tmp_path / "i", 5, correction=correction, directions=("text", "image"), meta={"a": [1]}
    )
    with made as index:
        index.add(items[:50], ids[:50])
        index.add(items[50:], ids[50:])
        index.update(None, ["3"], {"note": ["again"]})
    index = Index.open(tmp_path / "i")
    assert index.meta == {"a": [1]}
    p, q, block = correction.prepared(queries, "text", items, "image")
    scores = block(p, q)
    if isinstance(correction, CSLS):  # a constant per query is left out
        scores = (
            correction.of_queries(queries, "text", "image")
            @ correction.of_gallery(items, "text", "image").T
        )
    assert_found(index.search(queries, k=9), scores, ids, 9)
    plain = scores_of("cosine", queries, items)
    assert_found(index.search(queries, k=9, corrected=False), plain, ids, 9)
    np.testing.assert_allclose(np.linalg.norm(index.vectors(ids), axis=1), 1, atol=1e-6)
    assert index.vectors(ids).shape == (80, 5)


@pytest.mark.parametrize(
    ("correction", "metric", "message"),
    [
        (NNN(measure="dot"), "cosine", "must be the same"),
        (DualSoftmax(), "cosine", "more than a number per item"),
    ],
)
def test_corrections_that_an_index_cannot_hold(tmp_path, correction, metric, message):
    correction.fit(Views(image=rows(40, seed=2), text=rows(40, seed=3)))
    with pytest.raises(ValueError, match=message):
        Index.create(tmp_path / "i", 5, metric=metric, correction=correction)
    assert not (tmp_path / "i").exists()


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
@pytest.mark.parametrize("combine", ["max", "sum"])
def test_items_with_several_vectors(tmp_path, metric, combine):
    image, caption, queries = rows(120), rows(120, seed=1), rows(9, seed=2)
    ids = [str(i) for i in range(120)]
    even = np.arange(120) % 2 == 0
    views = ["image", "caption"]
    with Index.create(tmp_path / "i", 5, metric=metric, views=views, combine=combine) as index:
        for some in (slice(0, 70), slice(70, 120)):
            index.add(
                {"caption": caption[some], "image": image[some]}, ids[some], {"even": even[some]}
            )
        index.remove(["4", "77"])
    alive = ~np.isin(ids, ["4", "77"])
    parts = [scores_of(metric, queries, part) for part in (image, caption)]
    if combine == "max":
        both = np.maximum(*parts)
    elif metric == "euclidean":
        both = -np.sqrt(parts[0] ** 2 + parts[1] ** 2)
    else:
        both = parts[0] + parts[1]
    assert_found(index.search(queries, k=12), both, ids, 12, alive)
    assert_found(index.search(queries, k=12, where="even"), both, ids, 12, alive & even)
    for view, scores in zip(views, parts):
        assert_found(index.search(queries, k=7, view=view), scores, ids, 7, alive)
    assert set(index.vectors(["5"])) == set(views)
    with pytest.raises(ValueError, match="no view 'sound': the views are image, caption"):
        index.search(queries, view="sound")


def test_items_are_added_updated_and_removed(tmp_path):
    with Index.create(tmp_path / "i", 2) as index:
        assert len(index) == 0 and bool(index)
        assert index.search([[1, 0]]).ids.shape == (1, 0)
        index.add([[1, 0], [0, 1]], ["a", "b"], {"n": [1, 2]})
        index.add([[1, 1]], ["c"], {"n": [3], "word": ["new"]})
        assert index.get(["b", "c", "b"]) == [
            {"id": "b", "n": 2, "word": None},
            {"id": "c", "n": 3, "word": "new"},
            {"id": "b", "n": 2, "word": None},
        ]
        index.update([[0, -1]], ["b"])
        index.update(None, ["a"], {"word": ["old"]})
        index.remove(["c"])
    index = Index.open(tmp_path / "i")
    assert sorted(index.ids) == ["a", "b"] and "c" not in index and "a" in index
    assert index.columns == {"n": "int64", "word": "string"}
    assert index.get(["a", "b"]) == [
        {"id": "a", "n": 1, "word": "old"},
        {"id": "b", "n": 2, "word": None},
    ]
    assert index.vectors(["a", "b"]).tolist() == [[1, 0], [0, -1]]
    assert index.table("word is not None").to_pylist() == [{"id": "a", "n": 1, "word": "old"}]


BAD = [
    (lambda i: i.add([[1, 0]], ["a"]), "1 of 1 ids are in the index already, such as 'a'"),
    (lambda i: i.add([[1, 0], [1, 0]], ["x", "x"]), "ids must differ, got 'x' 2 times"),
    (lambda i: i.add([[1, 0]], [""]), "ids must be strings of 1 to"),
    (lambda i: i.add([[1, 0]], [7]), "ids must be strings of 1 to"),
    (lambda i: i.add([[1, 0]], ["\ud800"]), "ids must be valid text"),
    (lambda i: i.add([[1, 0]], "x"), "ids must be a list of strings"),
    (lambda i: i.add([[1, 0, 0]], ["x"]), r"vectors of shape \(n, 2\), got shape \(1, 3\)"),
    (lambda i: i.add([[1, np.nan]], ["x"]), "finite vectors, got NaN or infinity in 1 of 1"),
    (lambda i: i.add([[1e300, 1]], ["x"]), "too large"),
    (lambda i: i.add([[1, 0]], ["x", "y"]), "one vector per id is required, got 1 for 2"),
    (lambda i: i.add({"image": [[1, 0]]}, ["x"]), "the index has no views"),
    (lambda i: i.add([[1, 0]], ["x"], {"n": ["many"]}), "column 'n' is int64 in this index"),
    (lambda i: i.add([[1, 0]], ["x"], {"n": [1, 2]}), "column 'n' has 2 entries for 1 ids"),
    (lambda i: i.add([[1, 0]], ["x"], {"id": ["x"]}), "other than 'id'"),
    (lambda i: i.add([[1, 0]], ["x"], 3), "payload must be an Arrow table"),
    (lambda i: i.remove(["b"]), "1 of 1 ids are not in the index, such as 'b'"),
    (lambda i: i.update([[1, 0]], ["b"]), "1 of 1 ids are not in the index"),
    (lambda i: i.get(["b"]), "1 of 1 ids are not in the index"),
    (lambda i: i.search([[1, 0]], k=0), "k must be an integer of at least 1"),
    (lambda i: i.search([1, 0]), r"vectors of shape \(n, 2\)"),
    (lambda i: i.search([["a", "b"]]), "numbers|numeric"),
    (lambda i: i.search([[1, 0]], view="image"), "no view 'image': the index has one"),
]


@pytest.mark.parametrize(("act", "message"), BAD, ids=[message[:30] for _, message in BAD])
def test_what_does_not_fit_is_one_sentence_and_changes_nothing(tmp_path, act, message):
    with Index.create(tmp_path / "i", 2, metric="dot") as index:
        index.add([[1, 0]], ["a"], {"n": [1]})
        before = sorted(path.name for path in index.folder.iterdir())
        with pytest.raises((ValueError, TypeError), match=message) as raised:
            act(index)
        assert "\n" not in str(raised.value)
        assert sorted(path.name for path in index.folder.iterdir()) == before
        assert index.get(["a"]) == [{"id": "a", "n": 1}]


class Model(RuleBasedStateMachine):
    """The index, compared with a dict."""

    def __init__(self):
        super().__init__()
        import tempfile

        self.temporary = tempfile.TemporaryDirectory()
        self.known = {}
        self.number = 0

    @initialize(metric=st.sampled_from(["cosine", "dot", "euclidean"]))
    def create(self, metric):
        self.index = Index.create(f"{self.temporary.name}/i", 3, metric=metric)
        self.reader = Index.open(f"{self.temporary.name}/i")

    def new(self, n):
        self.number += 1
        return rows(n, 3, seed=self.number)

    @rule(n=st.integers(0, 40), labels=st.booleans())
    def add(self, n, labels):
        vectors = self.new(n)
        ids = [f"é{self.number}-{i}" for i in range(n)]
        labels = [f"l{i % 3}" for i in range(n)] if labels else [None] * n
        self.index.add(vectors, ids, {"label": labels})
        for name, vector, label in zip(ids, vectors, labels):
            self.known[name] = (vector, label)

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def remove(self, data):
        ids = data.draw(st.lists(st.sampled_from(sorted(self.known)), unique=True, max_size=30))
        self.index.remove(ids)
        for name in ids:
            del self.known[name]

    @precondition(lambda self: self.known)
    @rule(data=st.data(), which=st.sampled_from(["vectors", "columns", "both"]))
    def update(self, data, which):
        ids = data.draw(st.lists(st.sampled_from(sorted(self.known)), unique=True, max_size=30))
        vectors = self.new(len(ids))
        labels = [f"u{i % 2}" for i in range(len(ids))]
        self.index.update(
            None if which == "columns" else vectors,
            ids,
            None if which == "vectors" else {"label": labels},
        )
        for name, vector, label in zip(ids, vectors, labels):
            old = self.known[name]
            self.known[name] = (
                old[0] if which == "columns" else vector,
                old[1] if which == "vectors" else label,
            )

    @rule()
    def open_again(self):
        self.index.close()
        self.index = Index.open(self.index.folder, "a")

    @rule()
    def refresh(self):
        self.reader.refresh()
        assert sorted(self.reader.ids) == sorted(self.known)

    @invariant()
    def equal(self):
        if not hasattr(self, "index"):
            return
        assert len(self.index) == len(self.known)
        assert sorted(self.index.ids) == sorted(self.known)
        if not self.known:
            return
        ids = self.index.ids
        assert [row["label"] for row in self.index.get(ids)] == [self.known[i][1] for i in ids]
        items = np.array([self.known[name][0] for name in ids])
        queries = rows(3, 3, seed=999)
        scores = scores_of(self.index.metric, queries, items)
        assert_found(self.index.search(queries, k=5), scores, ids, 5)
        allowed = np.array([self.known[name][1] == "l1" for name in ids])
        found = self.index.search(queries, k=5, where="label == 'l1'")
        assert_found(found, scores, ids, 5, allowed)
        assert len(self.index._snapshot.segments) <= 12

    def teardown(self):
        self.temporary.cleanup()


Model.TestCase.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestAgainstADict = Model.TestCase
