"""Notebooks: tables of data, results and evaluations, and figures as pictures."""

import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure

import crossfit
from crossfit import Views, evaluate
from crossfit.datasets import load
from crossfit.methods import CCA
from crossfit.metrics import chance_level
from crossfit.plotting import plot_attention, plot_intervals, plot_recall
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
        plot_recall(evaluation),
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


def naive_recall(scores, k):
    """Return the share of rows whose own column is among the k best."""
    found = [list(np.argsort(-row)[:k]) for row in scores]
    return sum(i in best for i, best in enumerate(found)) / len(found)


@pytest.fixture(scope="module")
def curves():
    """Return scores of two methods with their evaluations, and the chance level."""
    rng = np.random.default_rng(0)
    scores = {
        name: np.eye(30) + s * rng.normal(size=(30, 30)) for name, s in (("a", 0.5), ("_$", 1))
    }
    rest = ((range(30), range(30)), ["map@all", "r@10", "r@1", "r@5", "r@3:fraction"])
    names = {"names": ("image", "text")}
    found = {name: evaluate(each, *rest, ci=None, **names) for name, each in scores.items()}
    return scores, found, chance_level(*rest, **names)


def test_recall_is_drawn_as_counted_one_by_one(curves):
    scores, found, chance = curves
    figure = plot_recall(found, chance=chance)
    assert [axes.get_title() for axes in figure.axes] == ["image → text", "text → image"]
    for axes, turn in zip(figure.axes, (np.asarray, np.transpose)):
        *methods, dashed = axes.get_lines()
        for line, each in zip(methods, scores.values(), strict=True):
            assert line.get_xdata().tolist() == [1, 5, 10]
            expected = [naive_recall(turn(each), k) for k in (1, 5, 10)]
            np.testing.assert_allclose(line.get_ydata(), expected)
        np.testing.assert_allclose(dashed.get_ydata(), [1 / 30, 5 / 30, 10 / 30])
        assert dashed.is_dashed() and not any(line.is_dashed() for line in methods)
    (legend,) = [axes.get_legend() for axes in figure.axes if axes.get_legend()]
    assert [text.get_text() for text in legend.get_texts()] == ["a", "_$", "chance"]
    (line,) = plot_recall(found["a"], ks=[10, 1]).axes[1].get_lines()
    np.testing.assert_allclose(line.get_ydata(), [naive_recall(scores["a"].T, k) for k in (1, 10)])


def test_more_methods_than_colours_differ_by_their_dashes(curves):
    _, found, _ = curves
    lines = plot_recall({str(i): found["a"] for i in range(13)}).axes[0].get_lines()
    assert len({(line.get_color(), str(line._unscaled_dash_pattern)) for line in lines}) == 13


def test_curves_are_drawn_into_given_axes(curves):
    _, found, _ = curves
    own = Figure()
    axes = own.subplots(2, 2)
    assert plot_recall(found, ax=axes[1]) is own
    assert [len(each.get_lines()) for each in axes.ravel()] == [0, 0, 2, 2]
    one = evaluate(np.eye(3), (range(3), range(3)), "r@1", directions="forward")
    assert plot_recall(one, ax=axes[0, 0]) is own and len(axes[0, 0].get_lines()) == 1
    assert axes[0, 0].get_legend() is None
    axes[0, 1].plot([1, 10], [0, 1])
    plot_recall({"a": one}, ax=axes[0, 1])
    assert [text.get_text() for text in axes[0, 1].get_legend().get_texts()] == ["a"]


def test_recall_that_cannot_be_drawn_is_rejected(curves):
    _, found, chance = curves
    one = found["a"]
    other = evaluate(np.eye(3), (range(3), range(3)), ["r@1", "r@5", "r@10"], ci=None)
    without = evaluate(np.eye(3), (range(3), range(3)), ["mrr", "r@1:fraction"], ci=None)
    panel = Figure().subplots()
    for given, more, error, message in (
        ({}, {}, ValueError, "at least one entry, got none"),
        ({"a": np.eye(3)}, {}, TypeError, "must be an Evaluation, or map names"),
        (without, {}, ValueError, "evaluations must have r@K, such as r@1, got mrr, r@1:fraction"),
        ({"a": one, "b": other}, {}, ValueError, "'b' must have r@1, r@5, r@10 for image2text"),
        (one, {"ks": [1, 7]}, ValueError, "must have r@1, r@7 for image2text"),
        (one, {"ks": [0]}, ValueError, "ks must be integers of at least 1, got"),
        (one, {"chance": other}, ValueError, "^chance must have r@1, r@5, r@10 for image2text"),
        (one, {"chance": 0.1}, TypeError, "chance must be an Evaluation, got 0.1"),
        (one, {"ax": panel}, ValueError, "ax must be 2 Axes, one for each of image → text"),
        (one, {"ax": "axes"}, TypeError, "ax must be Axes of matplotlib, got 'axes'"),
    ):
        with pytest.raises(error, match=message):
            plot_recall(given, **more)
    assert not panel.get_lines() and plot_recall(one, chance=chance)
