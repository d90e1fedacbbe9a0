"""Reasons: parts that add up to the score, the items at the ends, words, attention, filters."""

import numpy as np
import pytest

import crossfit
from crossfit import RetrievalScorer, Views
from crossfit.methods import CCA

pytest.importorskip("fastapi", reason="fastapi is of the extra serve")

from crossfit.serving.filters import filters_of
from crossfit.serving.why import contributions

MEASURES = ["cosine", "dot", "correlation", "l2", "l1", "kl", "kl_reversed"]


@pytest.fixture(scope="module")
def pairs():
    rng = np.random.default_rng(0)
    topics = rng.normal(size=(80, 4))
    return Views(
        image=topics @ rng.normal(size=(4, 9)) + 0.3 * rng.normal(size=(80, 9)),
        text=topics @ rng.normal(size=(4, 7)) + 0.3 * rng.normal(size=(80, 7)),
    )


def rows_of(scorer, views, measure):
    """Return rows that the measure can compare: distributions for a divergence."""
    if measure.startswith("kl"):
        return views.map(lambda values, _: np.exp(values) / np.exp(values).sum(1, keepdims=True))
    return views


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("order", [("image", "text"), ("text", "image"), ("text", "text")])
def test_the_parts_add_up_to_the_score(pairs, measure, order):
    encoded = rows_of(None, CCA(4).fit(pairs).transform(pairs), measure)
    scorer = RetrievalScorer(measure).fit(encoded)
    query, gallery = order
    for i, j in ((0, 0), (3, 17), (40, 2)):
        q, g = encoded[query][i], encoded[gallery][j]
        found = contributions(scorer, q, query, g, gallery)
        assert found.parts.shape == (4,)
        assert found.parts.sum() + found.rest == pytest.approx(found.score, abs=1e-9)
        if query != gallery:
            scored = scorer.score_items(q[None], query, g[None], gallery)[0, 0]
            assert found.score == pytest.approx(float(scored), abs=1e-5)


def test_a_correction_of_hubs_is_a_part_of_its_own(pairs):
    from crossfit.retrieval import NNN

    encoded = CCA(4).fit(pairs).transform(pairs)
    scorer = RetrievalScorer(NNN()).fit(encoded)
    found = contributions(scorer, encoded["text"][0], "text", encoded["image"][5], "image")
    scored = scorer.score_items(encoded["text"][:1], "text", encoded["image"][5:6], "image")
    assert found.score == pytest.approx(float(scored[0, 0]), abs=1e-5)
    assert found.parts.sum() + found.rest == pytest.approx(found.score, abs=1e-9)
    assert found.rest != 0


def test_a_similarity_of_ones_own_is_not_decomposed(pairs):
    encoded = CCA(4).fit(pairs).transform(pairs)
    scorer = RetrievalScorer(lambda P, Q: P @ Q.T).fit(encoded)
    assert contributions(scorer, encoded["text"][0], "text", encoded["image"][0], "image") is None


def asked(client, body, path="/explain"):
    return client.post(path, json=body)


def test_reasons_over_http_agree_with_the_search(client, model, photos):
    found = asked(client, {"text": "a red tile", "k": 5}, "/search").json()["results"][0]
    why = asked(client, {"text": "a red tile", "item": found[0]["id"]}).json()
    assert why["score"] == pytest.approx(found[0]["score"], abs=1e-5)
    assert why["dimensions"] == 8 and len(why["directions"]) == 5
    parts = [each["part"] for each in why["directions"]]
    assert parts == sorted(parts, reverse=True)
    # By hand: the products of the entries of the unit rows.
    text = crossfit.encode(model, ["a red tile"], "text")[0]
    picture = crossfit.encode(model, [str(photos / "red.png")], "image")[0]
    why_red = asked(client, {"text": "a red tile", "item": "red.png"}).json()
    by_hand = text * picture / np.linalg.norm(text) / np.linalg.norm(picture)
    top = np.argsort(-by_hand)[:5]
    assert [each["number"] - 1 for each in why_red["directions"]] == top.tolist()
    assert [each["part"] for each in why_red["directions"]] == pytest.approx(
        by_hand[top].tolist(), abs=1e-5
    )
    # Leaving out the word that decides costs most.
    changes = {each["word"]: each["change"] for each in why["words"]}
    assert set(changes) == {"a", "red", "tile"} and max(changes, key=changes.get) == "red"
    without = asked(client, {"text": "a tile", "item": found[0]["id"]}).json()["score"]
    # The text without it is nearly of length 0 in the common space, so that its digits are few.
    assert changes["red"] == pytest.approx(why["score"] - without, abs=1e-3)
    like = asked(client, {"id": found[0]["id"], "k": 3}, "/search").json()["results"][0]
    known = [row["id"] for row in like if row["id"] != found[0]["id"]]
    assert [row["id"] for row in why["alike"]][: len(known)] == known
    assert all(row["file"].startswith("/items/") for row in why["alike"])


def test_reasons_for_a_file_and_for_an_item(client, photos):
    with open(photos / "blue.png", "rb") as stream:
        found = client.post("/explain", files={"file": stream}, data={"item": "blue.png"})
    assert found.json()["score"] == pytest.approx(1.0, abs=1e-5)
    again = asked(client, {"id": "red.png", "item": "blue.png"}).json()
    assert -1 <= again["score"] < 0.9 and again["words"] == []


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"item": "red.png"}, 422, "exactly one of text and id is required"),
        ({"text": "a", "id": "red.png", "item": "red.png"}, 422, "exactly one of text and id"),
        ({"text": " ", "item": "red.png"}, 422, "must not be empty"),
        ({"text": "a", "item": "nothing.png"}, 404, "nothing.png"),
        ({"id": "nothing.png", "item": "red.png"}, 404, "nothing.png"),
        ({"text": "a"}, 422, "item"),
        ({"text": "a" * 10_001, "item": "red.png"}, 422, "of at most 10,000"),
        ({"text": "a", "item": "red.png", "more": 1}, 422, "more"),
    ],
)
def test_bad_questions(client, body, status, words):
    answer = asked(client, body)
    assert answer.status_code == status
    assert words in answer.json()["error"]
    assert client.post("/explain", content=b"x").status_code == 415


def test_a_method_that_attends_shows_where(photos):
    """Weights of words and of regions come from ``explain``, as shares of the largest."""
    from crossfit.serving.why import _maps

    weights = np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.0]])
    boxes = np.array([[0, 0, 0.5, 1], [0.5, 0, 1, 1]])
    words, regions = _maps(weights, {"words": ["a", "red", "tile"], "boxes": boxes}, "image")
    by_word = weights.mean(axis=1) / weights.mean(axis=1).max()
    assert words["words"] == [
        [word, pytest.approx(share)] for word, share in zip(("a", "red", "tile"), by_word)
    ]
    by_region = weights.mean(axis=0) / weights.mean(axis=0).max()
    assert [region[4] for region in regions["regions"]] == pytest.approx(by_region.tolist())
    assert regions["regions"][1][:4] == [0.5, 0, 1, 1]
    (grid,) = _maps(np.arange(9.0)[None], {}, "image")
    assert len(grid["regions"]) == 9 and grid["regions"][8][4] == 1.0


def test_filters_of_columns():
    pa = pytest.importorskip("pyarrow", reason="pyarrow is of the extra tables")
    table = pa.table(
        {
            "id": list("abcdef"),
            "label": ["dog", "cat", "dog", "dog", None, "cat"],
            "year": [2001, 2003, 2002, 2001, 2003, 2003],
            "width": [1.5, 2.5, float("nan"), 4.0, None, 3.0],
            "caption": [f"text {i}" * 20 for i in range(6)],
            "same": [1] * 6,
            "good": [True, False, True, True, True, None],
        }
    )
    found = {each["column"]: each for each in filters_of(table)}
    assert found["label"]["choices"] == [["dog", 3], ["cat", 2]]
    assert found["year"]["choices"] == [[2003, 3], [2001, 2], [2002, 1]]
    assert (found["width"]["low"], found["width"]["high"]) == (1.5, 4.0)
    assert found["good"]["choices"] == [[True, 4], [False, 1]]
    assert set(found) == {"label", "year", "width", "good"}


def test_the_page_and_its_files(client):
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "unsafe-inline" not in policy and "default-src" in policy
    for name in ("page.css", "page.js", "icon.svg"):
        assert client.get(f"/static/{name}").status_code == 200
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static/"):
        assert client.get(path).status_code == 404
    assert "<style" not in page.text and "onclick" not in page.text
    look = client.get("/gallery").json()
    assert 0 < len(look["sample"]) <= 24


def test_the_first_look_follows_an_index_whose_size_stays_the_same(bundle, index, monkeypatch):
    from starlette.testclient import TestClient

    from crossfit.retrieval import Index
    from crossfit.serving import build_app, gallery

    monkeypatch.setattr(gallery, "_REFRESH", 0.0)
    client = TestClient(build_app(bundle, index), base_url="http://localhost")

    def years():
        (found,) = client.get("/gallery").json()["filters"]
        return found["low"] if found["low"] is not None else min(row[0] for row in found["choices"])

    assert years() == 0
    with Index.open(index, mode="a") as writer:
        n, names = len(writer), writer.ids
        rows = [{**row, "year": row["year"] + 1900} for row in writer.get(names)]
        writer.update(None, names, {"path": [row["path"] for row in rows],
                                    "year": [row["year"] for row in rows]})  # fmt: skip
    assert years() == 1900
    assert len(Index.open(index)) == n
    with Index.open(index, mode="a") as writer:
        moved = writer.get(names[:1])[0]
        vectors = writer.vectors(names[:1])
        writer.remove(names[:1])
        writer.add(vectors, ["another"], {"path": [moved["path"]], "year": [moved["year"]]})
    shown = [row["id"] for row in client.get("/gallery").json()["sample"]]
    assert "another" in shown and names[0] not in shown


def test_a_large_gallery_shows_some_items_without_reading_all_names(bundle, index, monkeypatch):
    from crossfit.retrieval import Index
    from crossfit.serving import gallery
    from crossfit.serving.galleries import open_gallery
    from crossfit.serving.searcher import Searcher

    monkeypatch.setattr(gallery, "_MANY", 5)
    monkeypatch.setattr(Index, "ids", property(lambda self: pytest.fail("all names are read")))
    found = open_gallery(Searcher.load(bundle), index).sample(8)
    assert 1 < len(found) <= 8 and len(set(found)) == len(found)


def test_filters_of_a_column_whose_values_become_many_later():
    pa = pytest.importorskip("pyarrow", reason="pyarrow is of the extra tables")
    late = [0] * 10_000 + list(range(100))
    table = pa.table({"late": late, "ratio": [float("inf"), *map(float, late[1:])]})
    assert filters_of(table) == [
        {"column": "late", "low": 0, "high": 99},
        {"column": "ratio", "low": 0.0, "high": 99.0},
    ]


def of_rows(rows, texts, similarity):
    """Return a searcher, and a gallery in memory whose items are rows of the common space."""
    from crossfit.galleries import Gallery
    from crossfit.serving.gallery import MemoryGallery
    from crossfit.serving.searcher import Searcher
    from crossfit.winners import Winner

    scorer = RetrievalScorer(similarity).fit(Views(text=rows, image=rows))
    ids = [str(at) for at in range(len(rows))]
    searcher = Searcher(Winner(scorer))
    return searcher, MemoryGallery(
        searcher, "image", Gallery(list(rows), ids, {"caption": texts}, "picture")
    )


@pytest.mark.parametrize("similarity", ["cosine", "dot", "correlation", "l2"])
def test_the_ends_of_a_dimension_are_its_extreme_items_and_their_words(similarity):
    from crossfit.serving.why import Ends

    rng = np.random.default_rng(3)
    rows = rng.normal(size=(300, 6)).astype(np.float32)
    texts = [f"the {'sea' if row[2] > 0 else 'hill'} {at % 7 * 'x'} number{at}"
             for at, row in enumerate(rows)]  # fmt: skip
    searcher, gallery = of_rows(rows, texts, similarity)
    calls = []
    search = gallery.search
    gallery.search = lambda *given: calls.append(given) or search(*given)
    ends = Ends(searcher, gallery)
    found = ends.of([2, 4], 6)
    assert ends.of([4, 2], 6) == found[::-1] and len(calls) == 1
    unit = rows.astype(np.float64)
    if similarity == "correlation":
        unit = unit - unit.mean(axis=1, keepdims=True)
    if similarity in ("cosine", "correlation"):
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    for at, (positive, negative) in zip((2, 4), found):
        order = [str(row) for row in np.argsort(-unit[:, at], kind="stable")]
        agreed = 4 if similarity == "l2" else 5  # a point that is only far is not a direction
        assert len(set(positive.ids) & set(order[:5])) >= agreed
        assert len(set(negative.ids) & set(order[-5:])) >= agreed
    (positive, negative), (other, _) = found
    assert positive.words[0] == "sea" and negative.words[0] == "hill"
    assert "the" not in (*positive.words, *negative.words, *other.words)
    gallery.version += 1
    ends.of([2], 6)
    assert len(calls) == 2


def test_a_distance_is_explained_by_what_it_is_made_of():
    from crossfit.serving.why import Ends, explain

    rows = np.array([[0.0, 0, 0], [3, 0, 0], [0, 0.1, 4]], np.float32)
    searcher, gallery = of_rows(rows, ["a", "b", "c"], "l2")
    found = explain(searcher, gallery, Ends(searcher, gallery), rows[0], "text", "2")
    assert [each["number"] for each in found["directions"]] == [3, 2, 1]
    assert found["score"] == pytest.approx(-np.hypot(0.1, 4))
    assert found["alike"] == ["0", "1"]
