"""Notebooks: tables of data, results and evaluations, and figures as pictures."""

import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest

import crossfit
from crossfit import Views, evaluate
from crossfit.datasets import load
from crossfit.methods import CCA
from crossfit.plotting import plot_attention, plot_intervals
from crossfit.views import Channels

PNG = b"\x89PNG"


def table(value):
    """Return the caption and the rows of an object's table, which must be well formed."""
    root = ElementTree.fromstring(value._repr_html_())
    return root.find("caption").text, [[cell.text for cell in row] for row in root.iter("tr")]


def test_views_are_tables_of_escaped_names():
    views = Views.from_captions(np.eye(2), ["a", "b", "c"], [0, 0, 1], names=("<img>", "text"))
    caption, (head, image, text) = table(views)
    assert caption == "Views of 3 rows" and head == ["view", "items", "values"]
    assert image[:2] == ["<img>", "2"] and text[:2] == ["text", "3"]
    assert "(2, 2)" in image[2]
    caption, rows = table(Channels(map=np.eye(3)))
    assert caption == "Channels of 3 rows" and rows[0][0] == "channel"


def test_a_data_set_is_a_table_of_its_splits():
    ds = load("emoji")
    caption, (_, *rows) = table(ds)
    assert caption.startswith("emoji: ") and ds.revision in caption
    assert [row[0] for row in rows] == list(ds.splits)
    test = ds["test"]
    assert rows[-1][1:] == [str(len(test)), "324 image, 324 text", str(len(test))]


def test_results_of_a_search_are_a_table():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 4))
    found = crossfit.search(CCA(2).fit(X, X[:, ::-1]), X[:25], view="image", gallery=X[:, ::-1],
                            k=3)  # fmt: skip
    caption, (head, *rows) = table(found)
    assert caption.startswith("20 of 25 queries") and head == ["query", "1.", "2.", "3."]
    assert len(rows) == 20
    assert rows[4] == ["4", *(f"{i} ({s:.3f})" for i, s in zip(found.indices[4], found.scores[4]))]


@pytest.fixture(scope="module")
def evaluation():
    S = np.random.default_rng(0).normal(size=(30, 30)) + 3 * np.eye(30)
    return evaluate(S, (range(30), range(30)), ["mrr", "r@5"], names=("image", "text"))


def test_an_evaluation_is_a_table(evaluation):
    _, (head, *rows) = table(evaluation)
    assert head == ["direction", "metric", "value", "low", "high", "queries"]
    assert rows[0][:2] == ["image2text", "mrr"] and len(rows) == 4
    assert float(rows[0][2]) == pytest.approx(evaluation.mean("i2t", "mrr"), abs=1e-3)


def test_means_of_classes_are_those_of_their_queries(evaluation):
    y = np.arange(30) % 3
    y[:2] = -1
    rows = evaluation.by_class("i2t", "mrr", y, ["cat", "dog", "owl"])
    values = evaluation.per_query["i2t", "mrr"]
    assert [row["class"] for row in rows] == ["cat", "dog", "owl"]
    for k, row in enumerate(rows):
        assert row["value"] == pytest.approx(values[y == k].mean())
        assert row["n_queries"] == (y == k).sum()
    total = sum(row["value"] * row["n_queries"] for row in rows)
    assert total / 28 == pytest.approx(values[2:].mean())
    by_name = evaluation.by_class("i2t", "mrr", np.array(["b", "a"] * 15))
    assert [row["class"] for row in by_name] == ["a", "b"]
    for wrong, message in ((y[:5], "one label for each of the 30 queries"), (y + 5, "names has 3")):
        with pytest.raises(ValueError, match=message):
            evaluation.by_class("i2t", "mrr", wrong, ["cat", "dog", "owl"])


def test_figures_are_pictures_in_a_notebook(evaluation):
    picture = np.zeros((20, 20, 3), np.uint8)
    for figure in (
        plot_intervals(evaluation),
        plot_attention(picture, word_to_region=[0.1, 0.2, 0.3, 0.4]),
    ):
        assert figure._repr_png_().startswith(PNG)
    code = "import crossfit.plotting, sys; print('matplotlib' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_intervals_are_drawn_where_they_are(evaluation):
    figure = plot_intervals({"one": evaluation, "$two$": evaluation}, "R@5")
    image, text = figure.axes
    assert [axes.get_title() for axes in (image, text)] == ["image → text", "text → image"]
    assert [label.get_text() for label in image.get_yticklabels()] == ["one", "$two$"]
    low, high = image.get_lines()[0].get_xdata()
    assert (low, high) == evaluation.interval("i2t", "r@5")
    assert image.get_lines()[1].get_xdata()[0] == evaluation.mean("i2t", "r@5")
    without = evaluate(np.eye(3), (range(3), range(3)), "mrr", ci=None)
    assert plot_intervals(without).axes[0].get_lines()[0].get_xdata().tolist() == [1, 1]
    for wrong, error, message in (
        ({}, ValueError, "at least one"),
        ({"a": 1}, TypeError, "must be an Evaluation"),
        ([evaluation], TypeError, "must be an Evaluation"),
        ({"a": evaluation, "b": without}, ValueError, "'b' must have mrr for image2text"),
    ):
        with pytest.raises(error, match=message):
            plot_intervals(wrong)
    with pytest.raises(ValueError, match="must have r@1 for"):
        plot_intervals(evaluation, "r@1")
