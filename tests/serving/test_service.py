"""The service without HTTP: batches, two stages, bounds, and what fails alone."""

import asyncio
import threading
import time

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import Pipeline, make_pipeline

import crossfit
from crossfit import RetrievalScorer, Views, ViewTransformer
from crossfit.base import CrossModalEstimator
from crossfit.cards import MethodCard
from crossfit.extraction import GridFeatures
from crossfit.galleries import Gallery, read_gallery
from crossfit.methods import CCA, KCCA
from crossfit.retrieval import Reranker
from crossfit.serving import Limits
from crossfit.serving.batching import Batcher, Room
from crossfit.serving.errors import Refused
from crossfit.serving.gallery import MemoryGallery
from crossfit.serving.searcher import Searcher
from crossfit.serving.service import Query, Service
from crossfit.winners import Winner


def made(model, photos, **limits):
    searcher = Searcher(Winner(model, name="winner"))
    gallery = MemoryGallery(searcher, "image", read_gallery(photos))
    return Service(searcher, gallery, Limits(**limits))


def asked(service, *queries):
    """Return the answers of queries that arrive at the same time; errors are returned too."""

    async def every():
        return await asyncio.gather(*map(service.search, queries), return_exceptions=True)

    return asyncio.run(every())


def by_text(*texts, **options):
    return Query("text", values=list(texts), **options)


def test_batched_queries_have_the_answers_of_single_ones(model, photos):
    service = made(model, photos, window=0.2, batch=64)
    sizes = []
    service.on_batch = sizes.append
    queries = [
        by_text(f"a {colour} tile", *more, k=k)
        for colour in ("red", "blue", "pink", "black")
        for k, more in ((1, ()), (5, ()), (14, ("a white tile", "a grey tile")))
    ]
    vector = crossfit.encode(model, ["a green tile"], "text")
    queries += [Query("text", vectors=vector, k=3), Query("image", id="red.png", k=4)]
    single = [asked(service, query)[0] for query in queries]
    assert set(sizes) == {1}
    sizes.clear()
    together = asked(service, *queries)
    assert sizes == [len(queries)]
    for one, other in zip(single, together, strict=True):
        for rows, others in zip(one, other, strict=True):
            assert [row["id"] for row in rows] == [row["id"] for row in others]
            scores = [row["score"] for row in rows], [row["score"] for row in others]
            np.testing.assert_allclose(*scores, rtol=1e-5, atol=1e-6)
    service.close()


def test_a_query_that_fails_does_not_take_others_down(model, photos):
    service = made(model, photos, window=0.2)
    good = by_text("a red tile", k=2)
    answers = asked(
        service,
        good,
        by_text("a red tile", where="x ==="),
        Query("text", vectors=np.ones((1, 3), np.float32)),
        Query("image", id="nothing"),
        good,
    )
    assert [type(answer) for answer in answers] == [list, Refused, Refused, Refused, list]
    assert [answer.status for answer in answers[1:4]] == [422, 422, 404]
    assert answers[0] == answers[4]
    service.close()


def features(max_features=None):
    texts = TfidfVectorizer(token_pattern=r"[a-z]{2,}", max_features=max_features)
    return ViewTransformer([("image", GridFeatures(4)), ("text", texts)])


@pytest.fixture(scope="module")
def pairs(photos):
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, size=(40, 8, 8, 3), dtype=np.uint8)
    words = ("red", "blue", "pink", "black", "tile", "noise")
    texts = [" ".join(rng.choice(words, 3)) for _ in pictures]
    return Views(image=pictures, text=texts)


class Shifted(CrossModalEstimator):
    """Score pairs by a product that no common space has."""

    card = MethodCard(api=1, name="shifted", target="tests:Shifted", summary="toy", kind="pair")

    def _fit(self, views, y):
        self.map_ = np.random.default_rng(0).normal(size=(views["image"].shape[1], 3))

    def _prepare(self, values, view):
        dense = values.toarray() if hasattr(values, "toarray") else values
        return np.asarray(dense, dtype=np.float64)

    def _similarity(self, P, Q):
        return np.tanh(P @ self.map_).sum(axis=1)[:, None] * (1 + Q.sum(axis=1)[None, :])


@pytest.mark.parametrize("texts", [["red tile"], ["pink noise", "black blue", "tile"]])
@pytest.mark.parametrize(
    "build",
    [
        lambda: Pipeline([("features", features()), ("cca", CCA(3, reg=1.0))]),
        lambda: Pipeline([("features", features()), ("pairs", Shifted())]),
        lambda: make_pipeline(features(), CCA(3, reg=1.0), RetrievalScorer("csls")),
        lambda: make_pipeline(features(), Reranker(CCA(2, reg=1.0), KCCA(2, reg=1.0), k=5)),
        lambda: make_pipeline(features(), Reranker(CCA(2, reg=1.0), Shifted(), k=5)),
        lambda: Reranker(
            make_pipeline(features(5), CCA(2, reg=1.0)), make_pipeline(features(), Shifted()), k=5
        ),
    ],
    ids=["cca", "pair", "hub", "rerank", "rerank-pair", "rerank-pipelines"],
)
def test_every_kind_of_model_answers_as_crossfit_search_does(build, pairs, photos, texts):
    model = build().fit(pairs)
    service = made(model, photos)
    gallery = read_gallery(photos)
    expected = crossfit.search(
        model, texts, view="text", gallery=gallery.items, ids=gallery.ids, k=5
    )
    for _ in range(2):  # the gallery is prepared with the first query
        (found,) = asked(service, by_text(*texts, k=5))
        assert not isinstance(found, Exception), found
        assert [[row["id"] for row in rows] for rows in found] == expected.ids.tolist()
        scores = [[row["score"] for row in rows] for rows in found]
        np.testing.assert_allclose(scores, expected.scores, rtol=1e-4, atol=1e-5)
    service.close()


def test_a_second_model_ranks_again(model, pairs, photos):
    second = make_pipeline(features(), Shifted()).fit(pairs)
    searcher = Searcher(Winner(model, name="winner")).with_second(Winner(second, name="second"), 4)
    gallery = read_gallery(photos)
    service = Service(searcher, MemoryGallery(searcher, "image", gallery))
    (plain,) = asked(service, by_text("red tile", k=4, rerank=0))[0]
    (found,) = asked(service, by_text("red tile", k=4))[0]
    chosen = [gallery.items[gallery.ids.index(row["id"])] for row in plain]
    full = crossfit.search(second, ["red tile"], view="text", gallery=chosen, k=4)
    assert [row["id"] for row in found] == [plain[at]["id"] for at in full.indices[0]]
    assert {row["id"] for row in found} == {row["id"] for row in plain}
    other = make_pipeline(CCA(1)).fit(Views(sound=np.eye(5), words=np.eye(5)))
    with pytest.raises(ValueError, match="sound"):
        searcher.with_second(Winner(other, name="other"), 4)
    service.close()


def test_texts_are_found_by_a_picture(model, photos):
    searcher = Searcher(Winner(model, name="winner"))
    texts = [f"a {name} tile" for name in ("red", "green", "blue", "yellow")]
    gallery = Gallery(texts, ["r", "g", "b", "y"], {"text": texts}, "text")
    service = Service(searcher, MemoryGallery(searcher, "text", gallery))

    async def upload():
        data = (photos / "blue.png").read_bytes()
        return await service.search_file(data, Query("", k=1))

    ((row,),) = asyncio.run(upload())
    assert (row["id"], row["payload"], row["has_file"]) == ("b", {"text": "a blue tile"}, False)
    service.close()


def test_what_people_search_for_is_not_kept(model, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("CROSSFIT_CACHE", str(tmp_path))
    service = made(model, photos)

    def kept():
        return sorted(path for path in tmp_path.rglob("*") if path.is_file())

    before = kept()
    data = (photos.parent / "secret.png").read_bytes()
    asyncio.run(service.search_file(data, Query("", k=1)))
    assert before
    assert kept() == before
    service.close()


def test_arrays_cannot_be_typed(photos):
    bare = CCA(1).fit(Views(image=np.eye(6), text=np.eye(6)))
    searcher = Searcher(Winner(bare, name="bare"))
    assert searcher.kinds == {}
    with pytest.raises(ValueError, match="no view 'sound'"):
        from crossfit.serving.galleries import open_gallery

        open_gallery(searcher, photos, "sound")


def test_the_queue_is_bounded_and_what_was_cancelled_is_not_computed():
    begun, release, ran = threading.Event(), threading.Event(), []

    def run(jobs):
        begun.set()
        release.wait(10)
        ran.extend(jobs)
        return jobs

    batcher, room = Batcher(run, size=1, window=0.0), Room(2)

    async def one(job):
        with room.hold(1):
            return await batcher.submit(job)

    async def main():
        first = asyncio.create_task(one("first"))
        await asyncio.to_thread(begun.wait, 10)
        second = asyncio.create_task(one("second"))
        await asyncio.sleep(0.05)
        with pytest.raises(Refused) as caught:
            await one("third")
        assert (caught.value.status, caught.value.headers) == (429, {"Retry-After": "1"})
        second.cancel()
        await asyncio.sleep(0.05)
        assert room.taken == 1
        fourth = asyncio.create_task(one("fourth"))
        await asyncio.sleep(0.05)
        release.set()
        assert await first == "first"
        assert await fourth == "fourth"

    asyncio.run(main())
    batcher.stop()
    assert ran == ["first", "fourth"]
    assert room.taken == 0


def test_what_was_submitted_is_answered_before_the_thread_stops():
    def run(jobs):
        time.sleep(0.05)
        return jobs

    batcher = Batcher(run, size=2, window=0.0)

    async def main():
        tasks = [asyncio.create_task(batcher.submit(n)) for n in range(5)]
        await asyncio.sleep(0.01)
        await asyncio.to_thread(batcher.stop)
        assert await asyncio.gather(*tasks) == list(range(5))
        assert await batcher.submit(7) == 7  # another thread begins
        await asyncio.to_thread(batcher.stop)

    asyncio.run(main())


def test_an_error_of_the_program_reaches_the_caller_and_the_thread_lives_on():
    def run(jobs):
        raise KeyError("broken")

    batcher = Batcher(run, size=2, window=0.0)

    async def main():
        for _ in range(2):
            with pytest.raises(KeyError):
                await batcher.submit(1)
        assert await batcher.call(lambda: 5) == 5

    asyncio.run(main())
    batcher.stop()


@pytest.mark.parametrize("bad", [{"k": 0}, {"queue": 1.5}, {"seconds": -1}, {"window": "1"}])
def test_limits_are_positive_numbers(bad):
    with pytest.raises((ValueError, TypeError), match=next(iter(bad))):
        Limits(**bad)


def test_a_method_that_scores_pairs_shows_which_words_count(pairs, photos):
    model = make_pipeline(features(), Shifted()).fit(pairs)
    service = made(model, photos)
    found = asyncio.run(service.explain(by_text("red pink tile"), "red.png"))
    service.close()
    assert found["score"] is None and found["directions"] == [] and found["alike"] == []
    texts = ["red pink tile", " pink tile", "red  tile", "red pink"]
    views = Views(text=texts, image=[str(photos / "red.png")] * 4)
    whole, *others = crossfit.similarity(model, views, query="text", gallery="image")[:, 0]
    assert [each["word"] for each in found["words"]] == ["red", "pink", "tile"]
    changes = [each["change"] for each in found["words"]]
    np.testing.assert_allclose(changes, [whole - other for other in others], rtol=1e-5)
    assert len(set(changes)) > 1


def test_errors_do_not_show_where_files_are(model, photos, index, tmp_path):
    """An index outlives its files; what its second stage reports of them has their paths."""
    import shutil

    from crossfit.retrieval import Index
    from crossfit.serving.galleries import open_gallery

    with Index.open(index, "a") as writer:
        shutil.copytree(photos, tmp_path / "moved")
        names = writer.ids
        rows = writer.get(names)
        paths = [str(tmp_path / "moved" / name) for name in names]
        writer.update(None, names, {"path": paths, "year": [row["year"] for row in rows]})
    searcher = Searcher(Winner(model)).with_second(Winner(model), 4)
    service = Service(searcher, open_gallery(searcher, index))
    (good,) = asked(service, by_text("a red tile", k=2))
    (tmp_path / "moved" / good[0][0]["id"]).unlink()
    (lost,) = asked(service, by_text("a red tile", k=2))
    assert lost.status == 422 and "rerank 0" in lost.sentence and str(tmp_path) not in lost.sentence
    (first,) = asked(service, by_text("a red tile", k=2, rerank=0))
    assert first[0][0]["id"] in names
    # Neither the item nor the query is read again for reasons.
    gone = good[0][0]["id"]
    like = asyncio.run(service.explain(Query("image", id=gone), good[0][1]["id"]))
    assert like["score"] is not None and len(like["directions"]) == 5
    service.close()


def test_the_first_look_at_a_large_gallery_that_changes_is_seldom(model, photos, monkeypatch):
    from crossfit.serving import service as module

    service = made(model, photos)
    looks = []

    def slow(table):
        looks.append(table.num_rows)
        time.sleep(0.02)
        return []

    monkeypatch.setattr(module, "filters_of", slow)
    for quick, expected in ((1.0, 3), (0.0, 1)):
        monkeypatch.setattr(module, "_QUICK", quick)
        service._look = None
        looks.clear()
        for _ in range(3):
            service.gallery.version += 1
            assert asyncio.run(service.look())["sample"]
        assert len(looks) == expected
    service.close()
