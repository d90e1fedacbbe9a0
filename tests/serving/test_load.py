"""A service over an index, while another process adds items and removes them."""

import importlib.util
import json
import signal
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

import crossfit
from crossfit.galleries import read_gallery
from crossfit.retrieval import Index
from crossfit.serving.galleries import open_gallery
from crossfit.serving.searcher import Searcher
from crossfit.winners import Winner

pytest.importorskip("fastapi", reason="fastapi is of the extra serve")
pytest.importorskip("faiss", reason="faiss is of the extra ann")
pytest.importorskip("pyarrow", reason="pyarrow is of the extra tables")

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "serving.py"


@pytest.fixture(scope="module")
def bench():
    if not SCRIPT.is_file():
        pytest.skip("the benchmarks are not in this distribution")
    spec = importlib.util.spec_from_file_location("bench_serving", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_index_has_the_answers_of_a_folder_and_filters(bundle, model, photos, index):
    from starlette.testclient import TestClient

    from crossfit.serving import build_app

    folder, stored = (
        TestClient(build_app(bundle, source), base_url="http://localhost")
        for source in (photos, index)
    )
    for body in ({"text": "a red tile", "k": 14}, {"texts": ["pink", "a blue tile"], "k": 3}):
        expected, found = (
            [[(row["id"], row["file"]) for row in rows] for rows in answer.json()["results"]]
            for answer in (folder.post("/search", json=body), stored.post("/search", json=body))
        )
        assert [sorted(rows) for rows in found] == [sorted(rows) for rows in expected]
        assert found[0][0] == expected[0][0]
    answer = stored.post("/search", json={"text": "a red tile", "where": "year < 3"}).json()
    assert {row["payload"]["year"] for row in answer["results"][0]} == {0, 1, 2}
    assert stored.post("/search", json={"text": "a", "where": "year < 0"}).json()["results"] == [[]]
    for wrong in ("yeer < 3", "year <", "__import__('os')", "(" * 3000, "path.x == 1"):
        answer = stored.post("/search", json={"text": "a", "where": wrong})
        assert answer.status_code == 422, wrong
        assert set(answer.json()) == {"error"}
    assert "/" not in json.dumps(stored.get("/items/red.png").json()["payload"])
    assert stored.get("/items/red.png/file").content == (photos / "red.png").read_bytes()
    assert stored.post("/search", json={"vector": [1.0]}).status_code == 422
    assert len(stored.post("/search", json={"id": "red.png", "k": 3}).json()["results"][0]) == 3


def test_an_index_of_another_model_is_refused(model, tmp_path):
    searcher = Searcher(Winner(model, name="tiles"))
    for dim, column, meta, words in (
        (3, "path", {"view": "image"}, "columns"),
        (8, "caption", {"view": "image"}, "'path'"),
        (8, "path", {"view": "sound"}, "'sound'"),
    ):
        folder = tmp_path / words.strip("'")
        with Index.create(folder, dim=dim, meta=meta) as made:
            made.add(np.eye(dim), [str(n) for n in range(dim)], {column: ["x"] * dim})
        with pytest.raises(ValueError, match=words):
            open_gallery(searcher, folder)


@pytest.mark.slow
def test_nothing_is_lost_under_load(bench, start, model, photos, index):
    vectors = np.asarray(crossfit.encode(model, read_gallery(photos).items, "image"), np.float32)
    texts = [f"a {one} {other} tile" for one in ("red", "blue", "pink") for other in "abcdefgh"]
    with start(gallery=index) as service:
        before = bench.psutil.Process(service.process.pid).memory_info().rss
        with bench.Writer(index, vectors, str(photos / "red.png")) as writer:
            for clients in (1, 8, 16):
                found = bench.load(service.port, texts, clients, 1.0)
                assert set(found.statuses) == {200}
                assert found.p99 < 20
        assert writer.changes > 3
        bench.check(service.port, writer, len(vectors))
        memory = bench.psutil.Process(service.process.pid).memory_info().rss
        assert memory - before < 200e6


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_requests_that_run_are_answered_before_the_service_stops(start, index, number):
    answers = []

    def ask(port):
        body = json.dumps({"texts": ["a red tile"] * 64, "k": 14}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/search", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            answers.append(len(json.load(answer)["results"]))

    # The first query of a batch waits for half a second, so that the signal comes before.
    with start("--limit", "window=0.5", gallery=index) as service:
        threads = [threading.Thread(target=ask, args=(service.port,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        service.process.send_signal(number)
        for thread in threads:
            thread.join()
        assert service.process.wait(30) == 0
    assert answers == [64, 64, 64]
