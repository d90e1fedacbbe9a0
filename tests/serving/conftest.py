"""A small winner and its gallery: tiles of colour with their names."""

import subprocess
import sys
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import Pipeline

import crossfit
from crossfit import RetrievalScorer, Views, ViewTransformer
from crossfit.extraction import GridFeatures
from crossfit.galleries import read_gallery
from crossfit.methods import CCA
from crossfit.retrieval import Index

COLOURS = {
    "red": (220, 30, 30), "green": (30, 180, 60), "blue": (40, 60, 220), "yellow": (240, 220, 40),
    "black": (10, 10, 10), "white": (250, 250, 250), "grey": (128, 128, 128),
    "pink": (250, 130, 180), "orange": (250, 140, 20), "brown": (110, 60, 20),
}  # fmt: skip


def tile(colour, seed, size=32):
    """Return a noisy tile of one colour."""
    noise = np.random.default_rng(seed).normal(0, 12, size=(size, size, 3))
    return np.clip(np.array(COLOURS[colour]) + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def model():
    """Return a pipeline that finds tiles by the names of their colours."""
    names = [name for name in COLOURS for _ in range(6)]
    pictures = np.stack([tile(name, seed) for seed, name in enumerate(names)])
    texts = [f"a {name} tile number {seed}" for seed, name in enumerate(names)]
    features = ViewTransformer(
        [("image", GridFeatures(4)), ("text", TfidfVectorizer(token_pattern=r"[a-z]{2,}"))]
    )
    pipeline = Pipeline(
        [("features", features), ("cca", CCA(8, reg=0.1)), ("scorer", RetrievalScorer())]
    )
    return pipeline.fit(Views(image=pictures, text=texts))


@pytest.fixture(scope="session")
def bundle(model, tmp_path_factory):
    """Return the folder of the model."""
    return crossfit.save(model, tmp_path_factory.mktemp("bundle") / "tiles")


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Return a folder of tiles, some of which have awkward names."""
    folder = tmp_path_factory.mktemp("photos")
    for seed, name in enumerate(COLOURS):
        Image.fromarray(tile(name, 1000 + seed)).save(folder / f"{name}.png")
    for path in ("sub dir/red again.png", "file/file.png", "grün %2F ü&?#.jpg", "a..b...png"):
        (folder / path).parent.mkdir(exist_ok=True)
        Image.fromarray(tile("red", len(path))).save(folder / path)
    Image.fromarray(tile("black", 5)).save(folder.parent / "secret.png")
    return folder


@pytest.fixture
def index(model, photos, tmp_path):
    """Return the folder of an index of the tiles."""
    pytest.importorskip("faiss", reason="faiss is of the extra ann")
    pytest.importorskip("pyarrow", reason="pyarrow is of the extra tables")
    gallery = read_gallery(photos)
    vectors = crossfit.encode(model, gallery.items, "image")
    folder = tmp_path / "tiles.index"
    with Index.create(folder, dim=vectors.shape[1], meta={"view": "image"}) as made:
        payload = {"path": gallery.items, "year": list(range(len(gallery.ids)))}
        made.add(vectors, gallery.ids, payload)
    return folder


@pytest.fixture(scope="session")
def app(bundle, photos):
    """Return the application over the folder of tiles."""
    pytest.importorskip("fastapi", reason="fastapi is of the extra serve")
    from crossfit.serving import build_app

    return build_app(bundle, photos)


@pytest.fixture
def client(app):
    """Return a client of it."""
    from starlette.testclient import TestClient

    return TestClient(app, base_url="http://localhost")


@pytest.fixture(scope="session")
def start(bundle, photos):
    """Return ``start(*words, gallery=photos, model=bundle)``: a running service and its port."""
    pytest.importorskip("uvicorn", reason="uvicorn is of the extra serve")

    @contextmanager
    def begin(*words, gallery=photos, model=bundle):
        process = subprocess.Popen(
            [sys.executable, "-m", "crossfit", "serve", str(model), "--gallery", str(gallery),
             "--port", "0", *words],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        log = []
        try:
            line = process.stdout.readline()
            assert line.startswith("http://"), process.stderr.read()
            reader = threading.Thread(target=lambda: log.extend(process.stderr), daemon=True)
            reader.start()
            port = int(line.split()[0].rstrip("/").rpartition(":")[2])
            yield SimpleNamespace(process=process, port=port, log=log, reader=reader)
        finally:
            process.kill()
            process.wait()

    return begin
