"""Notebooks: tables of data, results and evaluations, and figures as pictures."""

import base64
import copy
import dataclasses
import inspect
import io
import json
import pickle
import re
import subprocess
import sys
from pathlib import Path
from pydoc import locate
from xml.etree import ElementTree

import numpy as np
import pytest
import scipy.sparse as sp
from matplotlib.figure import Figure
from PIL import Image
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import Pipeline

import crossfit
from crossfit import Ragged, Views, ViewTransformer, evaluate
from crossfit.datasets import load
from crossfit.datasets.record import Split
from crossfit.extraction import GridFeatures
from crossfit.methods import CCA
from crossfit.metrics import Repeats, chance_level
from crossfit.plotting import plot_attention, plot_intervals, plot_recall
from crossfit.querying import SearchResult
from crossfit.report.leaderboard import Board, Row
from crossfit.retrieval.rerank import Exactness
from crossfit.systems import evaluate_run
from crossfit.views import Channels

PNG = b"\x89PNG"


def table(value):
    """Return the caption and the rows of an object's table, which must be well formed."""
    root = ElementTree.fromstring(value._repr_html_())
    return root.find("caption").text, [[cell.text for cell in row] for row in root.iter("tr")]


def test_views_are_tables_of_escaped_names():
    views = Views.from_captions(np.eye(2), ["a", "b", "c"], [0, 0, 1], names=("<img>", "text"))
    caption, (head, image, text) = table(views)
    assert caption == "Views of 3 rows"
    assert head == ["view", "items", "values", "first items", None, None]
    assert text[3:] == ["a", "b", "c"]
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


def pictures_in(value):
    """Return the pictures of an object's table, each decoded from its data URI."""
    root = ElementTree.fromstring(value._repr_html_())
    found = [each.get("src").partition(",")[2] for each in root.iter("img")]
    return [Image.open(io.BytesIO(base64.b64decode(each))) for each in found]


def test_pictures_are_small_and_few_and_texts_are_escaped_and_cut(tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (60, 200, 120, 3), dtype=np.uint8)
    views = Views(image=pixels, text=["<script>alert(1)</script>", "long " * 100, *["a"] * 58])
    shown = views._repr_html_()
    assert "<script>" not in shown and "&lt;script&gt;" in shown and "…" in shown
    assert len(shown) < 50_000
    assert [max(each.size) for each in pictures_in(views)] == [72] * 4
    X = pixels[:, ::40, ::30].reshape(60, -1) / 255.0
    method = CCA(2).fit(X, X[:, ::-1])
    found = crossfit.search(method, X[:30], view="image", gallery=X[:, ::-1], k=12)
    paths = []
    for i, picture in enumerate(pixels):
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
        paths.append(str(tmp_path / f"{i}.png"))
    (tmp_path / "5.png").write_bytes(b"not a picture")
    named = SearchResult(*found, items=np.array(paths)[found.indices])
    assert len(pictures_in(named)) == 40  # of 20 queries and the best 10 of 12
    caption, (head, *rows) = table(named)
    assert caption.endswith("the best 10 of 12") and len(head) == 11 and len(rows) == 20
    assert len(named._repr_html_()) < 400_000
    broken = SearchResult([[0]], [[1.0]], items=[[paths[5]]])
    assert not pictures_in(broken) and "5.png" in broken._repr_html_()
    red = tmp_path / "red.png"
    Image.new("RGB", (300, 100), (250, 10, 20)).save(red)
    (small,) = pictures_in(SearchResult([[3]], [[1.0]], items=[[red]]))
    assert small.size == (72, 24)
    np.testing.assert_allclose(np.asarray(small).mean(axis=(0, 1)), (250, 10, 20), atol=4)


def test_pixels_that_were_found_are_shown():
    emoji = load("emoji")["test"].views[:30]
    flat = ViewTransformer([("image", GridFeatures()), ("text", TfidfVectorizer())])
    model = Pipeline([("features", flat), ("cca", CCA(4, reg=1.0))]).fit(emoji)
    found = crossfit.search(model, ["heart"], view="text", gallery=emoji["image"], k=3)
    for picture, index in zip(pictures_in(found), found.indices[0], strict=True):
        np.testing.assert_array_equal(np.asarray(picture), emoji["image"][index])
    assert found.items is None and repr(found).count("\n") == 1


def test_frames_have_what_the_objects_have():
    ds = load("emoji")
    frame = ds.to_frame()
    assert len(frame) == sum(len(split) for split in ds.splits.values())
    test = frame[frame["split"] == "test"]
    assert list(test["text"]) == list(ds["test"].views["text"])
    assert list(test["label"]) == [ds.target_names[label] for label in ds["test"].y]
    np.testing.assert_array_equal(test["image"].iloc[3], ds["test"].views["image"][3])
    assert list(test["short_name"]) == list(ds["test"].info["short_name"])
    captions = Views.from_captions(np.eye(2), ["a", "b", "c"], [0, 1, 1]).to_frame()
    assert [row.tolist() for row in captions["image"]] == [[1, 0], [0, 1], [0, 1]]
    lacking = Views(image=[["x"], ["y"]], text=["a", "b"], present={"text": [True, False]})
    assert lacking.to_frame()["text"].tolist()[:1] == ["a"]
    assert lacking.to_frame()["text"].isna().tolist() == [False, True]
    parts = Views(image={"map": np.eye(2), "objects": [1, 2]}, text=["a", "b"])
    assert list(parts.to_frame()) == ["image.map", "image.objects", "text"]
    sparse = Views(image=sp.csr_array(np.eye(2)), text=["a", "b"]).to_frame()
    assert sparse["image"][1].toarray().ravel().tolist() == [0, 1]
    words = Ragged.from_list([["a", "b"], ["<c>"]], {"at": np.array([4, 5, 6])})
    assert words.to_frame().to_numpy().tolist() == [
        [0, 0, "a", 4],
        [0, 1, "b", 5],
        [1, 0, "<c>", 6],
    ]
    assert table(words)[1] == [["row", "elements", "values"], ["0", "2", "a b"], ["1", "1", "<c>"]]
    y = np.array([[1, 0, 1], [0, 0, 0]])
    several = Split(Views(a=np.eye(2), b=np.eye(2)), y).to_frame(["x", "y", "z"])
    assert several["label"].tolist() == [["x", "z"], []]
    unlabelled = Split(Views(a=np.eye(2), b=np.eye(2)), np.array([1, -1])).to_frame()
    assert unlabelled["label"][0] == 1 and unlabelled["label"].isna().tolist() == [False, True]
    method = CCA(2).fit(np.eye(9)[:, :5], np.eye(9)[:, 3:])
    assert method.to_frame().to_numpy().tolist() == [
        ["image", "image", 5, 2], ["text", "text", 6, 2]
    ]  # fmt: skip
    assert "correlations_" in method._repr_html_()
    with pytest.raises(NotFittedError):
        CCA().to_frame()


def test_reports_of_searches_and_systems_are_tables(evaluation):
    agreement = Exactness(10, np.ones(4), np.ones(4, bool), (0.9, 0.8, 1.0), (1.0, 1.0, 1.0), 0.1)
    _, (head, first, _, last) = table(agreement)
    assert head == ["measure", "value", "low", "high"]
    assert first == ["overlap@10", "0.9", "0.8", "1"] and last[:2] == [
        "share of pairs scored",
        "0.1",
    ]
    assert agreement.to_frame()["n_queries"].tolist() == [4] * 3
    system = evaluate_run({"q": ["a", "b"]}, {"q": {"a": 1}}, "mrr", ci=None)
    _, (head, row) = table(system)
    assert row[:3] == [system.to_frame()["direction"][0], "mrr", "1"] and head[-1] == "queries"


def test_a_leaderboard_is_a_table_in_every_form(evaluation):
    rows = [Row("<b>one", Repeats([evaluation])), Row("two", Repeats([evaluation]))]
    board = Board("data", rows, ["mrr", "r@5"], chance={("image2text", "mrr"): 0.1})
    caption, (head, first, *_) = table(board)
    assert caption == "data" and head[1] == "method" and first[1] == "<b>one"
    frame = board.to_frame()
    assert frame["method"].tolist()[:1] == ["<b>one"]
    mean = frame[(frame["direction"] == "image2text") & (frame["metric"] == "r@5")]["value"]
    assert mean.tolist() == [evaluation.mean("i2t", "r@5")] * 2
    lines = repr(board).splitlines()
    assert lines[0] == "Board('data', 2 methods)" and len(lines) == 5
    assert lines[2].index("<b>one") == lines[3].index("two")


def test_without_pandas_one_sentence_says_what_is_missing(evaluation, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    for value in (load("emoji"), Views(a=np.eye(2), b=np.eye(2)), evaluation):
        with pytest.raises(ImportError, match=r"^to_frame\(\) needs pandas: `pip install pandas`$"):
            value.to_frame()


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


def results():
    """Return public results that are not made above, each with the names in its table."""
    from crossfit import diagnosis
    from crossfit.extraction import Detections
    from crossfit.galleries import Gallery
    from crossfit.metrics import compare, hubness, paired_test
    from crossfit.retrieval import Tuning

    rng = np.random.default_rng(0)
    Z = rng.normal(size=(60, 3))
    views = Views(image=Z, text=Z[:, ::-1] + 0.1 * rng.normal(size=(60, 3)))
    one, two = (evaluate(rng.normal(size=(30, 30)), np.eye(30), ["mrr", "r@5"]) for _ in "ab")
    tests = compare({"a": one, "b": two}, "mrr", "forward")
    rows = [{"settings": {"nprobe": 4}, "recall": 0.9, "low": 0.8, "per_second": 9.0}]
    train, test = views[:40], views[40:]
    method = CCA(2).fit(train)
    return [
        (hubness(rng.integers(9, size=(20, 3)), 9), "skewness"),
        (paired_test([1, 2, 3.0], [0, 2, 1.0]), "p_value"),
        (tests, "p_adjusted"), (tests[0], "p_adjusted"),
        (Repeats([one, two]), "spread"),
        (diagnosis.near_duplicates(views["image"], threshold=0.9), "cosine"),
        (diagnosis.recoveries(train, test)[0], "n_queries"),
        (diagnosis.hub_effect_of(method, train, test), "never"),
        (diagnosis.learning_curve(train, test, sizes=[20]), "pairs"),
        (diagnosis.rank_pairs(views, n_splits=2), "better_score"),
        (diagnosis.held_out_correlations(method, test), "chance"),
        (Tuning("ivf-pq", 10, 0.9, 50, rows, 2.0, 0), "settings"),
        (Gallery(["a dog", "a cat"], ["0", "1"], {"year": [2001, 2002]}), "year"),
        (Detections(np.eye(4)[:2], np.ones(2), np.arange(2), np.ones((2, 5))), "label"),
    ]  # fmt: skip


def test_results_are_short_lines_tables_and_data_frames():
    pd = pytest.importorskip("pandas")
    for found, name in results():
        caption, (head, *rows) = table(found)
        assert caption and name in head and rows, type(found)
        text = repr(found)
        assert "array(" not in text and len(text.splitlines()) <= 14, text
        frame = found.to_frame()
        assert isinstance(frame, pd.DataFrame) and name in frame.columns
        if hasattr(found, "rows") and callable(found.rows) and not hasattr(found, "items"):
            pd.testing.assert_frame_equal(frame, pd.DataFrame(found.rows()))


def test_results_keep_what_they_were():
    from crossfit.metrics import Comparisons, Hubness, compare, hubness

    found = hubness([[0], [0], [1]], 4)
    assert isinstance(found, dict) and {**found} == dict(found) and found["max"] == 2
    assert repr(found) == "Hubness(skewness=0.4934, max=2, never=0.5)"
    assert isinstance(found, Hubness) and json.loads(json.dumps(found)) == dict(found)
    ev = evaluate([[0.9, 0.1], [0.4, 0.3]], np.eye(2), "mrr")
    tests = compare({"a": ev, "b": ev}, "mrr", "forward")
    assert isinstance(tests, list) and tests == list(tests) and len(tests) == 1
    assert repr(tests).splitlines()[0] == "Comparisons of 2 methods"
    assert pickle.loads(pickle.dumps(tests)) == tests
    assert pickle.loads(pickle.dumps(found)) == found == copy.deepcopy(found)
    with pytest.raises(TypeError, match="tests must be a list of Comparison, got 3"):
        Comparisons(3)


def test_no_public_class_prints_arrays_or_long_lists():
    """The representation that dataclasses make prints all that they hold."""
    reference = (Path(__file__).parents[1] / "docs" / "api.md").read_text(encoding="utf-8")
    kinds = ("NDArray", "Floats", "Codes", "ArrayLike", "list[", "Sequence", "CellRecord")
    printed = []
    for name in re.findall(r"^   ((?:\w+\.)*\w+)$", reference, re.MULTILINE):
        thing = locate(f"crossfit.{name}")
        if not dataclasses.is_dataclass(thing):
            continue
        made = inspect.unwrap(thing.__repr__).__code__.co_filename == "<string>"
        fields = [f for f in dataclasses.fields(thing) if f.repr]
        if made and any(kind in str(f.type) for f in fields for kind in kinds):
            printed.append(name)
    assert not printed


def test_a_run_is_a_table_of_its_cells_and_a_cell_one_of_its_results():
    from crossfit.experiment import CellRecord, RunRecord

    figures = {"mean": 0.25, "low": 0.2, "high": 0.3, "n": 40}
    results = {f"{a}2{b}": {"map@all": figures} for a, b in (("image", "text"), ("text", "image"))}
    done = CellRecord(key="0" * 64, label="CCA", dataset="emoji", seed=0, status="done",
                      results=results)  # fmt: skip
    failed = CellRecord(key="1" * 64, label="<PLS>", dataset="emoji", seed=1, status="failed",
                        traceback="Traceback\nValueError: too few rows")  # fmt: skip
    run = RunRecord("mine", "Mine", {"metrics": ["map@all"]}, (done, failed), "", "", "", None)
    assert repr(run).splitlines() == [
        "RunRecord 'mine': 1 of 2 cells are done",
        "  dataset  method  seed  status  map@all  problem",
        "  emoji    CCA        0  done     0.2500",
        "  emoji    <PLS>      1  failed           ValueError: too few rows",
    ]
    caption, rows = table(run)
    assert caption == "RunRecord 'mine': 1 of 2 cells are done" and rows[2][1] == "<PLS>"
    assert run.to_frame()["map@all"].tolist()[0] == 0.25
    assert repr(done).splitlines()[0] == "CellRecord CCA on emoji, seed 0: done"
    assert table(done)[1][1] == ["image2text", "map@all", "0.25", "0.2", "0.3", "40"]
    assert repr(failed) == ("CellRecord <PLS> on emoji, seed 1: failed, ValueError: too few rows")
    assert failed._repr_html_().startswith("<table>")
