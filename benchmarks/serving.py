"""Measure the HTTP service under load, while items are added and removed.

Run ``python benchmarks/serving.py``; ``--quick`` takes a tenth of the time. A process of its own
serves an index of the emoji by text; 1, 8 and 64 clients send one text at a time for a fixed time,
while this process adds items to the index and removes them. Every line has the throughput, the
median and the 99th percentile of the time of an answer, the memory of the service, and the ratio of
its throughput to that of the bare encoder, which encodes the same texts in batches of 64 in this
process before. Clients and service share the cores. At the end every item that was added and not
removed is found by its name, and none that was removed.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
import psutil

HEADERS = {"Content-Type": "application/json"}


class Load(NamedTuple):
    """Measurements of some clients."""

    clients: int
    rate: float  # answers per second
    median: float  # seconds
    p99: float
    statuses: dict[int, int]


def client(port: int, texts: Sequence[str], until: float, found: list[tuple[int, float]]) -> None:
    """Send one text after the other, and note status and seconds of each answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    at = 0
    while time.perf_counter() < until:
        body = json.dumps({"text": texts[at % len(texts)], "k": 10})
        at += 1
        begun = time.perf_counter()
        connection.request("POST", "/search", body, HEADERS)
        answer = connection.getresponse()
        content = answer.read()
        found.append((answer.status, time.perf_counter() - begun))
        if answer.status == 200:
            (rows,) = json.loads(content)["results"]
            names = [row["id"] for row in rows]
            assert len(set(names)) == 10, names
            assert all(row["payload"] for row in rows), rows
    connection.close()


def load(port: int, texts: Sequence[str], clients: int, seconds: float) -> Load:
    """Return what some clients measure for some seconds."""
    until = time.perf_counter() + seconds
    found: list[list[tuple[int, float]]] = [[] for _ in range(clients)]
    threads = [
        threading.Thread(target=client, args=(port, texts[n::clients] or texts, until, found[n]))
        for n in range(clients)
    ]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - begun
    rows = [row for part in found for row in part]
    times = np.array([seconds for _, seconds in rows])
    statuses = {status: sum(s == status for s, _ in rows) for status in {s for s, _ in rows}}
    return Load(clients, len(rows) / took, float(np.median(times)),
                float(np.quantile(times, 0.99)), statuses)  # fmt: skip


class Writer:
    """A thread that adds items to an index and removes them, as often as it can."""

    def __init__(self, folder: Path, vectors: np.ndarray, path: str) -> None:
        self.folder, self.vectors, self.path = folder, vectors, path
        self.kept: set[str] = set()
        self.removed: set[str] = set()
        self.changes = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._error: BaseException | None = None

    def _run(self) -> None:
        from crossfit.retrieval import Index

        rng = np.random.default_rng(0)
        try:
            with Index.open(self.folder, "a") as index:
                while not self._stop.wait(0.05):
                    names = [f"new/{self.changes}-{n} ü.png" for n in range(5)]
                    rows = self.vectors[rng.integers(len(self.vectors), size=5)]
                    index.add(rows, names, {"path": [self.path] * 5, "year": [self.changes] * 5})
                    self.kept.update(names)
                    gone = rng.choice(sorted(self.kept), size=2, replace=False).tolist()
                    index.remove(gone)
                    self.kept.difference_update(gone)
                    self.removed.update(gone)
                    self.changes += 1
        except BaseException as error:
            self._error = error

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._error is not None:
            raise self._error


def check(port: int, writer: Writer, n: int) -> None:
    """Raise if an item was lost, or one that was removed is still there."""
    time.sleep(1.2)  # changes are seen within a second
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def status(path: str) -> tuple[int, Any]:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    for name in writer.kept:
        code, item = status(f"/items/{quote(name, safe='')}")
        assert (code, item.get("id")) == (200, name), (code, item)
    for name in writer.removed:
        code, item = status(f"/items/{quote(name, safe='')}")
        assert code == 404, (code, item)
    assert status("/about")[1]["gallery"]["n"] == n + len(writer.kept)


@contextlib.contextmanager
def service(bundle: Path, index: Path) -> Iterator[tuple[int, psutil.Process]]:
    """Start the service in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "crossfit", "serve", str(bundle), "--gallery", str(index),
         "--port", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        yield int(line.split()[0].rstrip("/").rpartition(":")[2]), psutil.Process(process.pid)
    finally:
        process.terminate()
        assert process.wait(60) == 0


def build(top: Path) -> tuple[Any, np.ndarray, list[str], str]:
    """Write a model and an index; return the model, vectors, texts and a path of a picture."""
    from PIL import Image
    from sklearn.pipeline import Pipeline

    import crossfit
    from crossfit import RetrievalScorer
    from crossfit.cli._shared import emoji_experiment
    from crossfit.compose import ViewTransformer
    from crossfit.datasets import load as load_data
    from crossfit.experiment.build import build_features
    from crossfit.methods import CCA
    from crossfit.retrieval import Index

    data = load_data("emoji")
    features = ViewTransformer(build_features(emoji_experiment("auto").features))
    steps = [("features", features), ("cca", CCA(64, reg=1.0)), ("scorer", RetrievalScorer())]
    model = Pipeline(steps).fit(data["train"].views)
    crossfit.save(model, top / "winner")
    pictures = np.concatenate([split.views["image"] for split in data.splits.values()])
    texts = [str(text) for split in data.splits.values() for text in split.views["text"]]
    vectors = np.asarray(crossfit.encode(model, pictures, "image"), np.float32)
    (top / "photos").mkdir()
    paths = []
    for n, pixels in enumerate(pictures):
        paths.append(str(top / "photos" / f"{n}.png"))
        Image.fromarray(pixels).save(paths[-1])
    with Index.create(top / "index", dim=vectors.shape[1], meta={"view": "image"}) as index:
        payload = {"path": paths, "year": list(range(len(paths)))}
        index.add(vectors, [Path(path).name for path in paths], payload)
    # Words in other orders are texts that no cache has.
    rng = np.random.default_rng(0)
    queries = [" ".join(rng.permutation(text.split())) for text in texts * 4]
    return model, vectors, queries, paths[0]


def bare(model: Any, texts: Sequence[str], seconds: float, batch: int = 64) -> float:
    """Return the texts per second of the encoder alone."""
    from crossfit.serving.searcher import Searcher
    from crossfit.winners import Winner

    searcher = Searcher(Winner(model, name="bare"))
    n, begun = 0, time.perf_counter()
    with searcher.without_cache():
        while time.perf_counter() - begun < seconds:
            searcher.features(list(texts[n % len(texts) :][:batch]), "text")
            n += batch
    return n / (time.perf_counter() - begun)


def main(seconds: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        model, vectors, texts, path = build(top)
        alone = bare(model, texts, seconds)
        encoder = type(dict(model[0].transformers)["text"]).__name__
        print(f"bare {encoder} with CCA, batches of 64: {alone:.0f} texts/s")
        with service(top / "winner", top / "index") as (port, process):
            load(port, texts, 4, min(1.0, seconds))  # caches of the system
            with Writer(top / "index", vectors, path) as writer:
                for clients in (1, 8, 64):
                    found = load(port, texts, clients, seconds)
                    memory = process.memory_info().rss / 1e6
                    print(
                        f"{clients:>3} clients: {found.rate:6.0f} answers/s "
                        f"({found.rate / alone:.2f} x the bare encoder), "
                        f"median {found.median * 1000:6.1f} ms, p99 {found.p99 * 1000:6.1f} ms, "
                        f"{memory:.0f} MB, statuses {found.statuses}",
                        flush=True,
                    )
            check(port, writer, len(vectors))
            print(
                f"{writer.changes} times 5 items added and 2 removed meanwhile: "
                f"{len(writer.kept)} are there, {len(writer.removed)} are not"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the time")
    main(1.0 if parser.parse_args().quick else 10.0)
