"""ONNX files return what `encode` returns, for every method that can be exported."""

import re
from pathlib import Path

import numpy as np
import pytest
from sklearn import decomposition, preprocessing
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import Pipeline, make_pipeline

from crossfit import RetrievalScorer, Views, ViewTransformer, encode, export, registry
from crossfit.subspace import CCA, KCCA, SM
from crossfit.testing.planted import planted_inputs

onnxruntime = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

DOCS = Path(__file__).parent.parent / "docs" / "bundles.md"
RNG = np.random.default_rng(0)
X = (RNG.normal(size=(60, 8)) * 3 + 1).astype(np.float32)
Y = (X[:, :5] + RNG.normal(size=(60, 5))).astype(np.float32)


def run(path, rows):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"rows": np.asarray(rows, np.float32)})[0]


def close(found, wanted):
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def documented():
    """Return which views of each method are exported, from the table in the docs."""
    rows = re.findall(r"^\| `([\w-]+)` \| (\w[\w ,]*|—) \|", DOCS.read_text("utf-8"), re.MULTILINE)
    return {name: set() if views == "—" else set(views.split(", ")) for name, views in rows}


ENTRIES = [entry for entry in registry.entries("crossfit.methods") if entry.card]


@pytest.mark.parametrize("entry", ENTRIES, ids=[entry.name for entry in ENTRIES])
def test_every_method_is_exported_or_refused_as_documented(entry, tmp_path):
    card = entry.card
    views, y = planted_inputs(card, 60)
    method = registry.resolve_target(card.target)(**card.test_params)
    method.fit(views, None if card.labels == "none" else y)
    exported = set()
    for name in list(method.views_in_.values())[:2]:
        path = tmp_path / f"{name}.onnx"
        try:
            export(method, name, path)
        except ValueError as error:
            assert type(method).__name__ in str(error) and "ONNX" in str(error)
            assert not path.exists()
            continue
        exported.add(name)
        values = views[name]
        if not isinstance(values, np.ndarray):  # channels, whose vectors may come alone
            values = RNG.normal(size=(40, method.n_features_in_[name]))
        rows = values[:40].astype(np.float32)
        close(run(path, rows), np.asarray(method.encode(rows, name)))
    assert documented()[entry.name] == exported


STEPS = [
    preprocessing.StandardScaler(), preprocessing.StandardScaler(with_mean=False),
    preprocessing.RobustScaler(), preprocessing.MaxAbsScaler(), preprocessing.MinMaxScaler(),
    preprocessing.MinMaxScaler(clip=True), preprocessing.Normalizer(),
    preprocessing.Normalizer("l1"), preprocessing.Normalizer("max"), decomposition.PCA(4),
    decomposition.PCA(4, whiten=True), decomposition.TruncatedSVD(4),
]  # fmt: skip


@pytest.mark.parametrize("step", STEPS, ids=repr)
def test_steps_of_scikit_learn_are_in_the_file(step, tmp_path):
    stage = make_pipeline(step, preprocessing.Normalizer())
    model = Pipeline([
        ("features", ViewTransformer([("image", stage)])), ("cca", CCA(3)),
        ("scorer", RetrievalScorer()),
    ]).fit(Views(image=X, text=Y))  # fmt: skip
    path = export(model, "image", tmp_path / "image.onnx")
    rows = np.vstack([X[:9], 3 * X[:4], np.zeros((1, 8), np.float32)])
    close(run(path, rows), encode(model, rows, "image"))


def test_the_file_begins_after_a_vectorizer(tmp_path):
    texts = ["a red car", "a blue car", "a red bus", "the sky", "the blue sky"] * 12
    stage = make_pipeline(TfidfVectorizer(), decomposition.TruncatedSVD(4, random_state=0))
    model = Pipeline([("features", ViewTransformer([("text", stage)])), ("cca", CCA(2))])
    model.fit(Views(image=X, text=texts))
    path = export(model, "text", tmp_path / "text.onnx")
    vectorizer = model[0].transformers_["text"][0]
    close(run(path, vectorizer.transform(texts[:5]).toarray()), encode(model, texts[:5], "text"))
    about = {prop.key: prop.value for prop in onnx.load(path).metadata_props}
    assert about == {"view": "text", "before": "TfidfVectorizer", "method": "CCA"}


@pytest.mark.parametrize("kernel", ["linear", "rbf", "poly", "sigmoid"])
def test_kernels(kernel, tmp_path):
    model = KCCA(3, kernel=kernel, standardize=True).fit(X, Y)
    close(run(export(model, "image", tmp_path / "a.onnx"), X[:9]), model.encode(X[:9], "image"))


def test_a_kernel_without_a_counterpart_is_named(tmp_path):
    model = KCCA(3, kernel="laplacian").fit(X, Y)
    with pytest.raises(ValueError, match="KCCA cannot be exported to ONNX: the kernel 'laplacian'"):
        export(model, "image", tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


def test_two_classes(tmp_path):
    model = SM().fit(X, Y, (X[:, 0] > 1).astype(int))
    close(run(export(model, "text", tmp_path / "a.onnx"), Y[:9]), model.encode(Y[:9], "text"))


def test_what_is_not_a_method_is_refused(tmp_path):
    with pytest.raises((TypeError, ValueError)):
        export(preprocessing.StandardScaler().fit(X), "image", tmp_path / "a.onnx")
    with pytest.raises(ValueError, match="no view"):
        export(CCA(2).fit(X, Y), "sound", tmp_path / "a.onnx")
