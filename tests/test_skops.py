"""Models of crossfit in files of skops: the example of the page runs, and scores are the same."""

import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import Pipeline, make_pipeline

import crossfit
from crossfit import RetrievalScorer, Views, ViewTransformer
from crossfit.datasets import load
from crossfit.extraction import GridFeatures
from crossfit.methods import CCA, KCCA, PLS

sio = pytest.importorskip("skops.io", reason="skops is of the extra skops")

PAGE = Path(__file__).parents[1] / "docs" / "bundles.md"


@pytest.fixture(scope="module")
def model():
    """Return the pipeline of the page, fitted on fewer emoji."""
    pairs = load("emoji").splits["test"].views[:80]
    words = make_pipeline(TfidfVectorizer(), TruncatedSVD(20, random_state=0))
    features = ViewTransformer([("image", GridFeatures(grid=3)), ("text", words)])
    steps = [("features", features), ("cca", CCA(8)), ("scorer", RetrievalScorer())]
    made = Pipeline(steps).fit(pairs)
    made[-1].index(crossfit.encode(made, pairs.distinct("image")[0], "image"), "image")
    return made


def test_the_example_of_the_page_runs(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = PAGE.read_text(encoding="utf-8")
    section = page.partition("## Bundles and skops\n")[2].partition("\n## ")[0]
    (block,) = re.findall(r"^```py\n(.*?)^```$", section, re.M | re.S)
    names = {"model": model}
    exec(compile(block, str(PAGE), "exec"), names)
    queries = ["a cat with a smile", "red heart"]
    plain, found = (
        crossfit.search(each, queries, view="text", k=5) for each in (model, names["again"])
    )
    np.testing.assert_array_equal(found.scores, plain.scores)
    np.testing.assert_array_equal(found.indices, plain.indices)
    # It becomes a bundle, with the bytes of that of the model.
    for each, name in ((model, "a"), (names["again"], "b")):
        crossfit.save(each, name)
    assert (tmp_path / "a/manifest.json").read_bytes() == (
        tmp_path / "b/manifest.json"
    ).read_bytes()


@pytest.mark.parametrize("method", [CCA(2), PLS(2), KCCA(2)], ids=lambda each: each.card.name)
def test_fitted_methods_are_the_same_bit_for_bit(method, tmp_path):
    rng = np.random.default_rng(0)
    views = Views(image=rng.normal(size=(40, 5)), text=rng.normal(size=(40, 4)))
    method.fit(views)
    sio.dump(method, tmp_path / "m.skops")
    unknown = sio.get_untrusted_types(file=tmp_path / "m.skops")
    assert unknown and all(name.startswith("crossfit.") for name in unknown)
    found = sio.load(tmp_path / "m.skops", trusted=unknown)
    np.testing.assert_array_equal(
        crossfit.similarity(found, views), crossfit.similarity(method, views)
    )
    with pytest.raises(Exception, match=r"[Uu]ntrusted"):
        sio.load(tmp_path / "m.skops", trusted=[])


def test_what_only_one_of_them_stores(tmp_path):
    rng = np.random.default_rng(0)
    forest = RandomForestClassifier(2, random_state=0).fit(
        rng.normal(size=(20, 3)), np.arange(20) % 2
    )
    sio.dump(forest, tmp_path / "f.skops")
    assert sio.load(
        tmp_path / "f.skops", trusted=sio.get_untrusted_types(file=tmp_path / "f.skops")
    ).n_estimators == 2  # fmt: skip
    with pytest.raises(crossfit.BundleError, match="RandomForestClassifier"):
        crossfit.save(forest, tmp_path / "f")


def test_a_pipeline_of_skops_is_the_extractor_of_a_view(tmp_path):
    texts = [f"a {word} {n}" for n in range(20) for word in ("red", "blue")]
    words = make_pipeline(TfidfVectorizer(), TruncatedSVD(4, random_state=0)).fit(texts)
    sio.dump(words, tmp_path / "w.skops")
    assert sio.get_untrusted_types(file=tmp_path / "w.skops") == []
    stored = sio.load(tmp_path / "w.skops")
    views = Views(image=np.random.default_rng(0).normal(size=(40, 3)), text=texts)
    made = make_pipeline(ViewTransformer([("text", stored)]), CCA(2)).fit(views)
    found = crossfit.load(crossfit.save(made, tmp_path / "bundle"))
    np.testing.assert_array_equal(
        crossfit.similarity(found, views), crossfit.similarity(made, views)
    )
