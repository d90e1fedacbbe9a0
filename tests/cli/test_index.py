"""crossfit index: embeds a gallery with a winner, and the index answers as crossfit.search does."""

import csv
import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from sklearn.pipeline import Pipeline

import crossfit
from crossfit import RetrievalScorer, Views
from crossfit.cli.commands import cli
from crossfit.compose import ViewTransformer
from crossfit.extraction import Characters, GridFeatures
from crossfit.methods import CCA

pytest.importorskip("faiss")
pytest.importorskip("pyarrow")


@pytest.fixture(params=["cosine", "nnn"])
def winner(request, tmp_path, monkeypatch):
    """A fitted pipeline in winner/, and twelve pictures in photos/ with captions in a table."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CROSSFIT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    texts, files = [], []
    for i in range(12):
        pixels = rng.integers(0, 60, (24, 24, 3)) + 15 * i
        files.append(str(tmp_path / f"photos/{i:02}.png"))
        Image.fromarray(pixels.astype(np.uint8)).save(files[-1])
        texts.append("light " * i + f"picture {i}")
    views = Views(image=files, text=texts)
    model = Pipeline(
        [
            ("features", ViewTransformer([("image", GridFeatures()), ("text", Characters())])),
            ("cca", CCA(n_components=3, reg=1.0)),
            ("scorer", RetrievalScorer(request.param)),
        ]
    ).fit(views)
    crossfit.save(model, tmp_path / "winner")
    with open("captions.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "n"), *((t, i) for i, t in enumerate(texts))])
    return model, views


def call(*words):
    return CliRunner().invoke(cli, ["index", *map(str, words)])


def test_several_processes_give_the_same_index(winner, monkeypatch):
    monkeypatch.setattr("crossfit.cli.index._BLOCK", 5)
    for name, words in [("one.index", []), ("two.index", ["--jobs", 2])]:
        result = call("winner", "captions.csv", "--view", "text", "--out", name, *words)
        assert result.exit_code == 0, result.output
        assert f"{name}: 12 items, exact" in result.output
    one, two = (crossfit.retrieval.Index.open(name) for name in ("one.index", "two.index"))
    assert one.ids == two.ids and one.meta == two.meta
    queries = one.vectors(one.ids)
    np.testing.assert_array_equal(queries, two.vectors(two.ids))
    expected, found = one.search(queries, 5, "n > 3"), two.search(queries, 5, "n > 3")
    assert found.rows() == expected.rows()
    result = call("winner", "photos", "--out", "x", "--backend", "dask")
    assert result.exit_code == 2 and "--backend dask requires --scheduler" in result.output


def test_the_index_answers_as_search_does(winner):
    model, views = winner
    result = call("winner", "photos", "--out", "photos.index")
    assert result.exit_code == 0, result.output
    index = crossfit.retrieval.Index.open("photos.index")
    assert index.meta["view"] == "image" and len(index) == 12 and "path" in index.columns
    for query in ("a light picture", "light light light"):
        expected = crossfit.search(
            model, Views(text=[query])["text"], view="text", gallery=views["image"], k=4
        )
        steps = model[:-1].transform(Views(text=[query]))["text"]
        found = index.search(steps, k=4)
        assert found.ids.tolist() == [[f"{i:02}.png" for i in expected.indices[0]]]
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)


def test_filters_compare_numbers_booleans_and_dates_of_a_csv(winner):
    _, views = winner
    rows = []
    for i, text in enumerate(views["text"]):
        note = "yes" if i < 2 else ""
        rows.append((text, 2005 + i, i / 2, note, f"{i:03}", i % 2 == 0, f"2010-01-{i + 1:02}"))
    with open("typed.csv", "w", newline="", encoding="utf-8") as file:
        head = ("text", "year", "price", "note", "code", "new", "day")
        csv.writer(file).writerows([head, *rows])
    assert call("winner", "typed.csv", "--view", "text", "--out", "typed.index").exit_code == 0
    index = crossfit.retrieval.Index.open("typed.index")
    assert [index.columns[name] for name in head] == [
        "string", "int64", "double", "string", "string", "bool", "date32[day]",
    ]  # fmt: skip
    query = index.vectors(index.ids[:1])
    for where, kept in (
        ("year > 2010", range(6, 12)),
        ("price <= 1.5", range(4)),
        ("code == '007'", [7]),
        ("new and note == 'yes'", [0]),
        ("day >= '2010-01-11'", [10, 11]),
    ):
        found = index.search(query, 12, where)
        assert sorted(found.ids[0].tolist(), key=int) == [str(i) for i in kept], where
    words = ["search", "winner", "--image", "photos/03.png", "--gallery", "typed.index", "--json"]
    asked = CliRunner().invoke(cli, words)
    found = json.loads(asked.output)
    assert found[0]["day"].startswith("2010-01-") and isinstance(found[0]["year"], int)


def test_settings_are_tuned_on_queries_and_the_curve_is_written(winner, tmp_path):
    result = call(
        "winner", "captions.csv", "--view", "text", "--out", "texts.index", "--kind", "hnsw",
        "--target-recall", "0.9", "--queries", "photos",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "efSearch" in result.output and "12 items, hnsw" in result.output
    curve = json.loads((tmp_path / "texts.index/recall.json").read_text())
    assert curve["rows"][curve["chosen"]]["low"] >= 0.9
    assert (tmp_path / "texts.index/recall.png").stat().st_size > 5000
    index = crossfit.retrieval.Index.open("texts.index")
    assert index.tuning.met and index.columns["n"] == "int64"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["winner", "photos", "--out", "winner"], "exists already"),
        (["winner", "photos", "--out", "x", "--target-recall", "0.9"], "are given together"),
        (["winner", "photos", "--out", "x", "--view", "sound"], "the views of winner are"),
        (["photos", "photos", "--out", "x"], "photos"),
    ],
)
def test_wrong_input_is_one_sentence_and_leaves_nothing(winner, tmp_path, words, message):
    result = call(*words)
    assert result.exit_code != 0
    assert message in result.output + str(result.exception)
    assert not (tmp_path / "x").exists()
