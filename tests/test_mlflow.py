"""Bundles as models of a local MLflow."""

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import Pipeline

import crossfit
from crossfit import RetrievalScorer, Views, ViewTransformer, encode, search
from crossfit.subspace import CCA

mlflow = pytest.importorskip("mlflow")
pd = pytest.importorskip("pandas")

TEXTS = ["a red car", "a blue car", "a red bus", "the sky", "the blue sky"] * 6
X = np.random.default_rng(0).normal(size=(30, 4))


def pipeline():
    return Pipeline([
        ("features", ViewTransformer([("text", TfidfVectorizer())])), ("cca", CCA(2)),
        ("scorer", RetrievalScorer()),
    ]).fit(Views(image=X, text=TEXTS))  # fmt: skip


def test_a_folder_answers_with_vectors_and_holds_no_pickle(tmp_path):
    import mlflow.pyfunc

    from crossfit.mlflow import load_model, save_model

    model = pipeline()
    folder = save_model(model, tmp_path / "model")
    found = mlflow.pyfunc.load_model(str(folder)).predict(pd.DataFrame({"text": TEXTS[:4]}))
    assert np.array_equal(np.asarray(found), encode(model, TEXTS[:4], "text"))
    assert not [p for p in folder.rglob("*") if p.suffix in (".pkl", ".pickle", ".joblib")]
    again = load_model(str(folder))
    assert np.array_equal(encode(again, TEXTS, "text"), encode(model, TEXTS, "text"))
    with pytest.raises(FileExistsError, match="is not empty"):
        save_model(model, folder)
    with pytest.raises(ValueError, match="one column, named as a view"):
        mlflow.pyfunc.load_model(str(folder)).predict(pd.DataFrame({"a": [1], "b": [2]}))


def test_an_indexed_gallery_answers_with_results(tmp_path):
    import mlflow.pyfunc

    from crossfit.mlflow import save_model

    model = pipeline()
    model[-1].index(crossfit.encode(model, X, "image"), "image")
    folder = save_model(model, tmp_path / "model")
    loaded = mlflow.pyfunc.load_model(str(folder))
    found = loaded.predict(pd.DataFrame({"text": TEXTS[:2]}))
    wanted = search(model, TEXTS[:2], view="text", k=10)
    assert found["index"].tolist() == wanted.indices.ravel().tolist()
    np.testing.assert_allclose(found["score"], wanted.scores.ravel())


def test_a_run_logs_a_model(tmp_path, monkeypatch):
    pytest.importorskip("sqlalchemy")
    import mlflow.pyfunc

    from crossfit.mlflow import load_model, log_model

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    model = pipeline()
    with mlflow.start_run():
        about = log_model(model)
    found = mlflow.pyfunc.load_model(about.model_uri).predict(pd.DataFrame({"text": TEXTS[:4]}))
    assert np.array_equal(np.asarray(found), encode(model, TEXTS[:4], "text"))
    assert np.array_equal(encode(load_model(about.model_uri), TEXTS, "text"),
                          encode(model, TEXTS, "text"))  # fmt: skip
