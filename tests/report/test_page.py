"""Reports of stored runs: figures, tests, tables, and notes that a reader needs."""

import csv
import html
import io
import json
import math
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner

from crossfit._pictures import lit
from crossfit._text import printable
from crossfit.cli.commands import cli
from crossfit.datasets import Split
from crossfit.experiment import Experiment, run
from crossfit.experiment.store import Store
from crossfit.experiment.store_files import SUMS, StoreError
from crossfit.metrics import Direction, Evaluation, Repeats, evaluate, parse_metric
from crossfit.metrics.evaluation import PerQuery
from crossfit.metrics.names import KINDS
from crossfit.report import html_tables, plots, text_tables
from crossfit.report.attention import Attention
from crossfit.report.boards import about_queries, boards, mean_curves
from crossfit.report.columns import LeaderboardColumn, Shown, columns_of
from crossfit.report.consistency import contradictions, inconsistencies
from crossfit.report.facts import Problem, about_method
from crossfit.report.format import metric_words, short
from crossfit.report.from_runs import report_runs
from crossfit.report.gallery import Found, Gallery, GalleryRow, galleries, shower, verdicts
from crossfit.report.html_tables import (
    Cell,
    Column,
    Line,
    Table,
    leaderboard_table,
    published_table,
)
from crossfit.report.leaderboard import Board, Row
from crossfit.report.page import Part, write_page, write_text
from crossfit.report.plots import search, sweeps
from crossfit.report.text_tables import csv_table, latex_table, latex_text, markdown_table
from crossfit.views import Views

METRICS = ("map@all", "r@1", "r@10", "medr")
HOSTILE = "bad </td><script>window.pwned = 1</script> & $x_1$ 100%"


class Page(HTMLParser):
    """Collect the text, links and unbalanced tags of a page."""

    VOID = {"meta", "link", "img", "br", "wbr"}

    def __init__(self, text):
        super().__init__()
        self.open, self.wrong, self.links, self.scripts, self.ids, self.text = [], [], [], 0, [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.scripts += tag == "script"
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.links += [attributes[key] for key in ("src", "href") if attributes.get(key)]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def written(report_store, tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    page = report_runs(["main"], report_store, out)
    return out, page.read_text(encoding="utf-8")


def test_the_page_is_self_contained_well_formed_and_small(written):
    out, text = written
    page = Page(text)
    assert (page.open, page.wrong) == ([], [])
    assert [link for link in page.links if not link.startswith(("data:", "#"))] == []
    assert "url(http" not in text and "@import" not in text
    assert page.scripts == 1
    assert len(page.ids) == len(set(page.ids)), "an id is there twice"
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert (out / "report.html").stat().st_size < 2_000_000


def test_what_comes_from_outside_is_text_and_never_markup(written, tmp_path):
    _, text = written
    assert "window.pwned" in text and "<script>window" not in text
    assert "<b>no</b>" not in text and "<em>careful" not in text
    row = GalleryRow("<script>1</script>", "", 1.0, [Found('"><img src=x onerror=1>', "", "pair")])
    evaluation = evaluate(np.eye(4), (range(4), range(4)), "r@1", names=("image", "text"))
    board = Board("<i>data</i>", [Row("<u>m</u>", Repeats([evaluation]))], ("r@1",))
    maps = [Attention("<script>", words=[("<script>", 1.0)]), Attention("x", svg="<svg></svg>")]
    write_page(
        tmp_path / "r.html", title="<script>t</script>", lead="<l>", footer="<f>",
        parts=[Part(board, [Gallery("<g>", [row], "<o>", "<n>")], "<note>", maps)],
        facts=[("<term>", "<value>")],
    )  # fmt: skip
    made = Page((tmp_path / "r.html").read_text())
    assert made.scripts == 1
    assert made.wrong == []
    for word in ("<i>data</i>", "<u>m</u>", "<script>1</script>", "<g>", "<value>", "<note>"):
        assert word in made.text


def test_a_reader_is_told_what_they_must_know(written):
    text = Page(written[1]).text
    assert "Planted methods, reduced" in text
    assert "Data or sizes are below the published ones" in text
    assert "crossfit run main.yaml --seeds 0,1 'a b'" in text
    assert "numpy 2.1.0" in text and "Python 3.12.0" in text
    assert "needs the distribution crossfit-cran" in text
    assert "ValueError: <b>no</b>" in text
    assert "not run yet, or interrupted" in text
    assert "3 of 14 cells have no result" in text
    assert "mAP: an item is relevant if it shares the query's label" in text
    assert "best of 9 trials by map@all, 0.4" in text


def test_paragraphs_of_a_description_are_reflowed_and_lists_are_kept(tmp_path):
    described = "Two lines\nof **one** paragraph.\n\nA list:\n- one\n- two\n\n1. first\n2. second"
    write_page(tmp_path / "p.html", title="t", lead="", parts=[], description=described, footer="f")
    found = re.findall(
        r'<p class="lines" dir="auto">(.*?)</p>', (tmp_path / "p.html").read_text(), re.S
    )
    assert found == ["Two lines of one paragraph.", "A list:\n- one\n- two", "1. first\n2. second"]


def test_test_evaluations_are_counted_over_all_runs(report_store, written):
    assert len(report_store.test_evaluations()) == 12
    assert "12 evaluations" in Page(written[1]).text
    assert "this report includes 11 of them" in Page(written[1]).text


def test_equal_methods_share_ranks_and_different_ones_do_not(report_store):
    (board,) = boards([report_store.run("main")])
    assert {row.label for row in board.rows[:2]} == {"good", "twin"}
    assert board.ranks["good"] == board.ranks["twin"] == (1, 2)
    assert board.ranks["middle"] == (3, 3)
    assert board.p_value("good", "twin") > 0.05 > board.p_value("good", "middle")
    assert board.chance["image2text", "r@1"] == pytest.approx(1 / 324)
    good = next(row for row in board.rows if row.label == "good")
    assert len(good.repeats.evaluations) == 3
    assert good.repeats.spread(None, "map@all") > 0
    low, high = good.repeats.interval(None, "map@all")
    assert low < good.repeats.mean(None, "map@all") < high
    assert good.published["image2text", "map@all"] == 0.4
    assert good.published[None, "map@all"] == 0.25
    assert inconsistencies(board) == []


def test_curves_are_means_over_the_seeds_as_figures_are(report_store):
    record = report_store.run("main")
    (board,) = boards([record])
    row = next(row for row in board.rows if row.label == "good")
    cells = [cell for cell in record.done if cell.label == "good"]
    for kind in ("recall", "pr"):
        x, y = row.curves["image2text"][kind]
        stored = [cell.curves["image2text"][kind] for cell in cells]
        assert all(each[0] == x for each in stored)
        np.testing.assert_allclose(y, np.mean([each[1] for each in stored], axis=0))
    assert row.curves["image2text"]["recall"][1][0] == pytest.approx(
        row.repeats.mean("image2text", "r@1")
    )
    cells[0] = replace(cells[0], relevant={"pr curve": "pair", "map@all": "label"})
    assert set(mean_curves(cells, "map@all")["image2text"]) == {"recall"}


def test_it_is_told_over_how_many_queries_a_figure_is(report_store):
    cell = next(cell for cell in report_store.run("main").done if cell.label == "good")
    assert "that have a relevant item" not in about_queries(cell, METRICS)
    results = {d: {m: dict(about) for m, about in found.items()}
               for d, found in cell.results.items()}  # fmt: skip
    results["text2image"]["map@all"]["n"] = 9
    assert about_queries(replace(cell, results=results), METRICS).endswith(
        "mAP, text → image: over the 9 of 324 queries that have a relevant item."
    )


def test_a_sweep_is_of_methods_that_differ_in_nothing_else(report_store):
    (board,) = boards([report_store.run("main")])
    assert [words for words, _ in sweeps(board)] == ["cca: n_components"]
    rows = [
        replace(row, params={**row.params, "features": {"image": row.label}}) for row in board.rows
    ]
    assert sweeps(replace(board, rows=rows)) == []


def test_what_a_search_found_is_told_as_ranks_are(report_store):
    cell = next(cell for cell in report_store.run("main").done if cell.label == "good")
    tuning = {**cell.tuning, "metric": "medr", "best_value": -3.5}
    assert "by medr, 3.5)" in about_method("good", replace(cell, tuning=tuning))


def test_the_stored_means_are_those_of_the_board(report_store):
    record = report_store.run("main")
    (board,) = boards([record])
    cell = next(cell for cell in record.done if cell.label == "middle")
    row = next(row for row in board.rows if row.label == "middle")
    for direction, by_metric in cell.results.items():
        for metric, found in by_metric.items():
            assert row.repeats.mean(direction, metric) == pytest.approx(found["mean"])
            stored = (found["low"], found["high"])
            assert row.repeats.interval(direction, metric) == pytest.approx(stored)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.0123456, "0.0123"),
        ({"name": "sklearn.svm.SVC", "params": {"C": 1}}, "SVC"),
        ({"image": 0.1, "text": 10.0}, "image: 0.1, text: 10"),
        ([1, None], "1, None"),
        ("x" * 50, "x" * 39 + "…"),
    ],
)
def test_settings_are_short(value, said):
    assert short(value) == said


def test_runs_on_the_same_queries_share_a_leaderboard(report_store):
    both = [report_store.run("main"), report_store.run("second")]
    (board,) = boards(both)
    assert "late" in {row.label for row in board.rows}
    assert len(board.rows) == 8
    twice = boards([both[0], both[0]])
    assert [len(each.rows) for each in twice] == [7]


@pytest.fixture
def rearranged(report_store, tmp_path):
    """Return a store with the same cells, and a function that makes runs of some of them."""
    shutil.copytree(report_store.folder, tmp_path / "s")
    store = Store(tmp_path / "s")
    found = {(c.label, c.seed): c for name in store.runs() for c in store.run(name).cells}

    def run(name, *cells, **spec):
        """Write a run; cells are (label, seed, name in this run)."""
        labels = list(dict.fromkeys(new for _, _, new in cells))
        store.write_run(
            name,
            {"title": name, "created": "", "command": "", "crossfit version": "",
             "spec": {"metrics": ["map@all"],
                      "methods": [{"method": "m", "label": each} for each in labels], **spec},
             "cells": [{"key": found[old, seed].key, "method": new, "dataset": "emoji",
                        "seed": seed, "features": "planted"} for old, seed, new in cells]},
        )  # fmt: skip
        return store.run(name)

    return run


def test_a_clash_of_labels_names_the_runs(rearranged, tmp_path):
    a = rearranged("A", ("good", 0, "SM"), ("good", 1, "SM"))
    b = rearranged("B", ("middle", 6, "SM"))
    for order in ([a, b], [b, a]):
        (board,) = boards(order)
        assert {r.label: r.seeds for r in board.rows} == {"SM (A)": (0, 1), "SM (B)": (6,)}
    text = Page(report_runs(["A", "B"], a.store, tmp_path / "r").read_text()).text
    assert "SM (A): planted:net" in text and "SM (B): planted:pls" in text
    assert "SM (B), seed 6: UserWarning" in text


def test_leaderboards_of_one_data_set_that_differ_name_their_runs(rearranged, tmp_path):
    a, b = rearranged("A", ("good", 0, "SM")), rearranged("B", ("middle", 6, "SM"))
    path = b.done[0].folder / "cell.json"
    (path.parent / SUMS).unlink()  # otherwise the edited file would be rejected
    changed = json.loads(path.read_text())
    changed["cell"]["protocol"]["ties"] = "stable"
    path.write_text(json.dumps(changed))
    found = boards([a, b.store.run("B")])
    titles = [(each.title, each.rows[0].label) for each in found]
    assert titles == [("emoji (A)", "SM"), ("emoji (B)", "SM")]
    page = report_runs(["A", "B"], a.store, tmp_path / "r")
    assert "1 method on 1 data set" in page.read_text()


def test_seeds_of_a_method_are_one_row_in_whatever_order_its_runs_come(rearranged):
    a = rearranged("A", ("good", 0, "SM"), ("middle", 6, "PLS"))
    b = rearranged("B", *(("good", seed, "SM") for seed in (2, 0, 1)))
    c = rearranged("C", ("good", 2, "semantic matching"), baseline="semantic matching")
    for order in ([a, b], [b, a], [a, a, b]):
        (board,) = boards(order)
        assert {r.label: r.seeds for r in board.rows} == {"SM": (0, 1, 2), "PLS": (6,)}
    (board,) = boards([a, c])
    assert {r.label: r.seeds for r in board.rows} == {"SM": (0, 2), "PLS": (6,)}
    assert board.baseline == "SM"


def test_every_label_of_a_run_keeps_its_row(rearranged, tmp_path):
    one = rearranged("A", ("middle", 6, "X"), ("middle", 6, "again"), ("good", 0, "good"),
                     baseline="again")  # fmt: skip
    more = rearranged("B", ("middle", 6, "X"))
    for order in ([one], [one, more], [more, one]):
        (board,) = boards(order)
        assert {row.label for row in board.rows} == {"X", "again", "good"}
        assert (board.baseline, board.p_value("X")) == ("again", 1.0)
    text = Page(report_runs(["A"], one.store, tmp_path / "r").read_text()).text
    assert "X: planted:pls" in text and "again: planted:pls" in text
    assert "4.0 s in 2 cells" in text  # a cell that is computed once is counted once
    failed = rearranged("C", ("never failed", 0, "P"), ("never failed", 0, "Q"),
                        ("good", 0, "good"), ("middle", 6, "X"), baseline="Q")  # fmt: skip
    (board,) = boards([failed])
    assert board.reference == "good" and "The baseline, Q, has no result here" in board.about
    text = Page(report_runs(["C"], one.store, tmp_path / "r").read_text()).text
    problems = text[text.index("Not done") :]
    assert re.search(r"\bP\b", problems) and re.search(r"\bQ\b", problems)


def test_methods_are_compared_in_the_directions_that_all_of_them_have(rearranged):
    record = rearranged("A", ("middle", 6, "M"), ("good", 0, "G"))
    path = record.cells[0].folder / "cell.json"
    (path.parent / SUMS).unlink()  # otherwise the edited file would be rejected
    changed = json.loads(path.read_text())
    # Like those of a method with other views.
    changed["n"]["test"]["audio"] = 324
    changed["results"]["audio2text"] = changed["results"].pop("text2image")
    path.write_text(json.dumps(changed))
    (board,) = boards([record.store.run("A")])
    assert board.directions == ("image2text",)
    assert "not all methods have it: audio → text, text → image." in board.about
    for row, cell in zip(board.rows, record.store.run("A").cells[::-1], strict=True):
        mean = cell.results["image2text"]["map@all"]["mean"]
        assert row.repeats.mean(None, "map@all") == pytest.approx(mean)
    del changed["results"]["image2text"]
    path.write_text(json.dumps(changed))
    with pytest.raises(StoreError, match="A have no direction in common on emoji"):
        boards([record.store.run("A")])


def test_gallery_shows_pictures_texts_hits_and_failures(written):
    text = written[1]
    assert text.count('class="shown"') == 6 * 9 + 6  # nine pictures each for six texts, six queries
    assert text.count('<li class="line mark') == 6 * 5
    words = Page(text).text
    assert "image → text: hits" in words and "text → image: worst failures" in words
    assert "Results of" in words
    rank = [float(found) for found in re.findall(r"first relevant text at rank ([\d.]+)", words)]
    assert rank[:3] == [1, 1, 1] and min(rank[3:]) > 1


def test_the_number_of_items_in_the_gallery_can_be_chosen(report_store, tmp_path):
    text = report_runs(["main"], report_store, tmp_path, items=2).read_text(encoding="utf-8")
    assert text.count('class="shown"') == 6 * 2 + 6
    assert text.count('<li class="line mark') == 6 * 2
    with pytest.raises(ValueError, match="'items'"):
        report_runs(["main"], report_store, tmp_path, items=11)


def test_unlabelled_items_are_of_no_class_and_who_has_nothing_to_find_has_not_failed():
    texts = np.array([f"text {i}" for i in range(6)], dtype=object)
    test = Split(Views(image=np.eye(6), text=texts), np.array([0, 0, -1, -1, 1, 1]))
    arrays = {
        "image2text|top": np.argsort(-np.eye(6), axis=1)[:, [1, 0]],
        "image2text|first": np.array([1.0, 4.0, np.nan, np.nan, 2.0, 1.0]),
    }
    arrays["image2text|top"][2] = [3, 2]
    cell = SimpleNamespace(arrays=lambda: arrays, directions=[Direction("image", "text")],
                           relevant={"first": "label"})  # fmt: skip
    hits, worst = galleries(cell, test, ("cat", "dog"))
    assert "from the 2 of 4 queries whose" in hits.note
    assert [(row.text, row.rank) for row in worst.rows] == [("image 2, cat", 4.0),
                                                            ("image 5, dog", 2.0)]  # fmt: skip
    verdict = verdicts(test, "image", "text")
    assert [verdict(2, 2), verdict(2, 3), verdict(0, 1), verdict(0, 4)] == [
        "pair", "wrong", "relevant", "wrong"
    ]  # fmt: skip
    assert shower(test, "image", ("cat", "dog"))(2)[0] == "image 3"


def test_attention_is_drawn_where_it_is_known_what_the_weights_are_of(written):
    text = written[1]
    maps = text[text.index('<div class="maps">') : text.index('id="made"')]
    assert maps.count("<figure") == 6
    assert maps.count('<img src="data:image') == 3
    assert re.findall(r": (image|text): .*?: variance ([\d.]+)<", maps) == [
        ("image", "0.0478"), ("text", "1.5"),
    ]  # fmt: skip
    assert maps.count("<svg") == 1
    assert re.findall(r"--w:(\d+)%", maps) == ["5", "11", "40"]
    assert "&lt;em&gt;red&lt;/em&gt;" in maps and "<em>" not in maps and "<u>" not in maps


def test_a_search_is_drawn_over_what_it_varied(report_store):
    (board,) = boards([report_store.run("main")])
    drawn = {row.label: search(row) for row in board.rows}
    assert drawn["middle"] is None
    words = re.findall(r">([^<]+)</text>", drawn["good"])
    assert {"lr", "act", "tanh", "relu"} <= set(words) and "width" not in words
    assert len(re.findall(r"var\(--series-[12]\)", drawn["good"])) >= 2 * 8


def test_the_experiment_is_there_in_full(written):
    import yaml

    found = re.search(r"<pre tabindex=\"0\">(title|methods.*?)</pre>", written[1], re.DOTALL)
    spec = yaml.safe_load(html.unescape(found[1]))
    assert spec["metrics"] == ["map@all", "r@1", "r@10", "medr"]
    assert HOSTILE in {method["label"] for method in spec["methods"]}


def test_without_the_data_the_report_says_so(report_store, tmp_path, monkeypatch):
    def gone(*args, **options):
        raise FileNotFoundError("data set 'emoji' needs pictures.npz")

    monkeypatch.setattr("crossfit.experiment.data.load_splits", gone)
    page = report_runs(["main"], report_store, tmp_path)
    text = Page(page.read_text(encoding="utf-8"))
    assert (
        "No gallery, because the data is missing: data set 'emoji' needs pictures.npz" in text.text
    )
    assert not text.wrong


def test_an_option_that_the_data_set_no_longer_has(report_store, tmp_path, monkeypatch):
    from crossfit.experiment import data

    load = data.load_splits
    monkeypatch.setattr(data, "load_splits", lambda asked: load(replace(asked, options={"old": 1})))
    text = Page(report_runs(["main"], report_store, tmp_path).read_text(encoding="utf-8")).text
    assert "No gallery, because the data is missing: data set 'emoji'" in text


def test_a_run_on_own_pairs_has_a_gallery_of_them_while_they_are_there(tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    for i in range(40):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(tmp_path / f"{i}.png")
    table = tmp_path / "pairs.csv"
    lines = [f"{i}.png,{'abcde'[i % 5]}red {'vwxyz'[i // 8]}blue" for i in range(40)]
    table.write_text("\n".join(["image,text", *lines]))
    words = [
        {"name": "sklearn.feature_extraction.text.TfidfVectorizer"},
        {"name": "sklearn.decomposition.TruncatedSVD", "params": {"n_components": 4}},
    ]
    experiment = Experiment(
        title="Own", dataset="emoji", metrics=["r@1"], features={"image": "grid", "text": words},
        methods=[{"method": "cca", "params": {"n_components": 3, "reg": 1.0},
                  "published": {"r@1": 0.25}}],
    )  # fmt: skip
    record = run(experiment, tmp_path / "s", data=table)
    assert boards([record])[0].rows[0].published == {}, "what was published is of other data"

    def page():
        return Page(report_runs([record.name], tmp_path / "s", tmp_path / "r").read_text())

    found = page()
    assert "No gallery" not in found.text and "text → image: worst failures" in found.text
    assert "mAP" not in found.text, "without labels only the pairs are relevant"
    assert sum(link.startswith("data:image") for link in found.links) > 20
    table.write_text(table.read_text().replace("ared", "agreen"))
    assert f"because the data is missing: {table} has changed: its revision is" in page().text
    table.unlink()
    assert (
        f"No gallery, because the data is missing: the table {table} does not exist any more"
        in page().text
    )


def test_errors_are_one_sentence(report_store, tmp_path):
    with pytest.raises(StoreError, match="has no run 'none'"):
        report_runs(["none"], report_store, tmp_path)
    report_store.write_run(
        "empty",
        {"title": "t", "spec": {"metrics": ["r@1"], "methods": []}, "cells": [], "command": "",
         "created": "", "crossfit version": ""},
    )  # fmt: skip
    with pytest.raises(StoreError, match="no cell of empty is done"):
        report_runs(["empty"], report_store, tmp_path)
    (report_store.folder / "runs" / "empty.json").unlink()
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_page_and_tables(report_store, tmp_path):
    found = CliRunner().invoke(
        cli,
        ["report", "main", "second", "main", "--store", str(report_store.folder),
         "-o", str(tmp_path / "out")],
    )  # fmt: skip
    assert found.exit_code == 0, found.output
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"report.html", "leaderboard.md", "leaderboard.tex", "leaderboard.csv"}
    page = tmp_path / "out" / "report.html"
    assert str(page) in found.output
    assert "Planted methods, reduced + A later run" in page.read_text(encoding="utf-8")


# ---------------------------------------------------------------- tables


def test_csv_has_every_figure(report_store):
    (board,) = boards([report_store.run("main")])
    rows = list(csv.DictReader(io.StringIO(csv_table([board]))))
    found = {(row["method"], row["direction"], row["metric"]): row for row in rows}
    assert HOSTILE in {row["method"] for row in rows}
    for row in board.rows:
        for direction in (None, *board.directions):
            for metric in board.metrics:
                line = found[row.label, direction or "mean", metric]
                value = row.repeats.mean(direction, metric)
                assert float(line["value"]) == pytest.approx(value, rel=1e-5)
                assert float(line["low"]) <= float(line["value"]) <= float(line["high"])
    assert found["good", "text2image", "map@all"]["published"] == "0.1"
    assert found["good", "mean", "map@all"]["seeds"] == "3"
    assert float(found["good", "mean", "map@all"]["seed_sd"]) > 0
    assert found["middle", "mean", "map@all"]["seed_sd"] == ""
    assert found["chance", "image2text", "r@1"]["low"] == ""


def test_markdown_is_one_table(report_store):
    (board,) = boards([report_store.run("main")])
    lines = [line for line in markdown_table(board).splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(board.rows) + 1
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
    assert "<script" not in markdown_table(board)
    assert "costs \\$5 or \\$6" in markdown_table(replace(board, title="costs $5 or $6"))
    assert "<script" not in markdown_table(replace(board, baseline=HOSTILE))
    text = markdown_table(replace(board, title="<b>\n# emoji", about="<i>sizes"))
    assert text.startswith("## &lt;b> # emoji\n\n&lt;i>sizes\n")


def test_published_figures_without_a_result_are_in_every_medium(report_store):
    record = report_store.run("main")
    figures = {"map@all": {"i2t": 0.7, "mean": 0.6}, "r@5": {"text2image": 0.2}}
    spec = {
        **record.spec,
        "methods": [
            *record.spec["methods"],
            {"method": "x", "label": "never skipped", "params": {}, "published": figures},
            {"method": "x", "label": "never failed", "params": {}},
        ],
        "published_only": [
            {"label": "elsewhere", "published": {"r@1": {"i2t": 0.3, "t2i": 0.1}}, "note": "gone"},
            {"label": "no reason", "published": {"map@all": {"i2t": 0.5, "t2i": 0.4}}},
        ],
    }
    (board,) = boards([replace(record, spec=spec)])
    assert [row.label for row in board.rows] == [row.label for row in boards([record])[0].rows]
    skipped, elsewhere, bare = board.quoted
    assert skipped.note == "not computed: needs the distribution crossfit-cran"
    assert skipped.published == {
        ("image2text", "map@all"): 0.7, (None, "map@all"): 0.6, ("text2image", "r@5"): 0.2
    }  # fmt: skip
    assert (elsewhere.label, elsewhere.note) == ("elsewhere", "not computed: gone")
    assert bare.note == "not computed"
    table = published_table(board)
    lines = [line for line in table.lines if line.label == "never skipped"]
    assert [[cell.text for cell in line.cells[1:5]] for line in lines] == [
        ["image → text", "0.700", "–", "–"], ["mean", "0.600", "–", "–"],
        ["text → image", "0.200", "–", "–"],
    ]  # fmt: skip
    assert {line.detail for line in lines} == {skipped.note}
    found = [line for line in markdown_table(board).splitlines() if "not computed" in line]
    assert [line.split(" | ")[1] for line in found] == ["never skipped", "elsewhere", "no reason"]
    assert "0.500 0.400" in found[2]
    text = latex_table(board)
    assert text.count("not computed") == 3 and "0.500 0.400" in text
    rows = list(csv.DictReader(io.StringIO(csv_table([board]))))
    here = {(r["method"], r["direction"], r["metric"]): r for r in rows if "not comp" in r["note"]}
    assert len(here) == 3 + 2 + 2
    line = here["elsewhere", "text2image", "r@1"]
    assert (line["value"], line["published"], line["seeds"]) == ("", "0.1", "")
    wrong = {("image2text", "r@1"): 0.384, ("image2text", "medr"): 1.0}
    said = inconsistencies(replace(board, quoted=[replace(elsewhere, published=wrong)]))
    assert len(said) == 1 and said[0].startswith("elsewhere, published, image → text")
    own = replace(record, spec=spec, data="pairs.csv")
    assert boards([own])[0].quoted == [], "what was published is of other data"


def test_latex_is_balanced_and_escaped(report_store):
    (board,) = boards([report_store.run("main")])
    text = latex_table(board)
    assert text.count(r"\begin{") == text.count(r"\end{") == 2
    columns = len(re.search(r"\{tabular\}\{@\{\}(\w+)@\{\}\}", text)[1])
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    lines = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert len(lines) == 1 + 2 * (len(board.rows) + 1)
    assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {columns - 1}
    assert latex_text(HOSTILE) in text
    assert f"Ranks and p, against {board.rows[0].label}, are of the mean" in text
    assert re.sub(r"\\.", "", text).count("{") == re.sub(r"\\.", "", text).count("}")
    assert text.isascii(), "inputenc of old installations knows ASCII only"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex on this machine")
def test_latex_compiles(report_store, tmp_path):
    import subprocess

    (board,) = boards([report_store.run("main")])
    head = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n"
    (tmp_path / "t.tex").write_text(head + latex_table(board) + "\\end{document}\n")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0


def noted(board):
    """Return the board with a note, so that every column has content."""
    first, *others = board.rows
    return replace(board, rows=[replace(first, note="as published"), *others])


def test_all_media_show_the_same_columns(report_store):
    board = noted(*boards([report_store.run("main")]))
    columns = columns_of(board)
    assert all(column.wanted for column in columns)
    away = {column.head: sorted(column.elsewhere) for column in columns if column.elsewhere}
    assert away == {"published mAP": ["page"], "fit, s": ["latex", "markdown"]}

    def heads(medium):
        return [c.alone or c.head for c in columns if c.is_in(medium)]

    on_page = [column.head for column in leaderboard_table(board).columns]
    assert on_page == [column.head for column in columns if column.is_in("page")]
    (head,) = re.findall(r"^\| (rank .*) \|$", markdown_table(board), re.MULTILINE)
    assert head.split(" | ") == ["rank", "method", *heads("markdown")[1:]]
    (head,) = re.findall(r"^(rank .*) \\\\$", latex_table(board), re.MULTILINE)
    per_method = [c for c in columns if c.is_in("latex") and c.direction is None]
    names = [c.latex or latex_text(c.alone or c.head) for c in per_method]
    assert {*names, *map(metric_words, METRICS)} == {*head.split(" & ")} - {"method", "direction"}
    fields = next(csv.reader(io.StringIO(csv_table([board]))))
    assert {name for column in columns for name in column.csv} < set(fields)


def test_a_column_that_is_added_is_in_all_media(report_store, monkeypatch):
    board = noted(*boards([report_store.run("main")]))
    new = LeaderboardColumn(
        head="carbon", row=lambda row: Shown(text="12 g"), chance=Shown(text="0 g"),
        csv={"carbon_g": lambda row, direction, metric: 12.5},
    )  # fmt: skip
    for module in (html_tables, text_tables):
        monkeypatch.setattr(module, "columns_of", lambda board: [*columns_of(board), new])
    table = leaderboard_table(board)
    assert table.columns[-1].head == "carbon" and table.lines[0].cells[-1].text == "12 g"
    assert table.lines[-1].cells[-1].text == "0 g"
    for text in (markdown_table(board), latex_table(board)):
        assert "carbon" in text and text.count("12 g") == len(board.rows) and "0 g" in text
    first = next(csv.DictReader(io.StringIO(csv_table([board]))))
    assert first["carbon_g"] == "12.5"


def test_a_table_has_a_cell_for_every_column():
    columns, cell = [Column("a"), Column("b")], Cell("1")
    with pytest.raises(ValueError, match="groups span 3 columns, but there are 2; they must"):
        Table("t", [("", 3)], columns, [])
    with pytest.raises(ValueError, match="'m' has 1 cells for 2 columns"):
        Table("t", (), columns, [Line("m", "", [cell])])


def test_every_character_that_latex_reads_is_written_out():
    assert latex_text("a_b & 50% #1 $x$ {y} ~ ^ \\ < >") == (
        r"a\_b \& 50\% \#1 \$x\$ \{y\} \textasciitilde{} \textasciicircum{} \textbackslash{} "
        r"\textless{} \textgreater{}"
    )


# ---------------------------------------------------------------- self-checks


@pytest.mark.parametrize(
    ("values", "said"),
    [
        # Two published rows that contradict each other.
        ({"r@1": 0.384, "r@5": 0.699, "r@10": 0.805, "medr": 1.0}, ["above 1, but it is 1"]),
        ({"r@1": 0.529, "r@5": 0.793, "r@10": 0.883, "medr": 2.0}, ["at most 1, but it is 2"]),
        ({"r@1": 0.446, "r@5": 0.749, "r@10": 0.843, "medr": 2.0}, []),
        ({"r@1": 0.5, "medr": 1.5}, []),
        ({"r@1": 0.5, "medr": 1.0}, []),
        ({"r@5": 0.4, "medr": 3.0}, ["above 5"]),
        ({"r@1": 0.3, "r@5": 0.2}, ["R@1 is 0.3, above R@5"]),
        ({"r@1:fraction": 0.3, "r@5:fraction": 0.4, "medr": 1.0}, []),
        ({"map@all": 1.2}, ["mAP is 1.2, not between 0 and 1"]),
        ({"medr": 0.0}, ["ranks begin at 1"]),
        ({"r@1": 0.4, "mrr": 0.3}, ["MRR is 0.3, below R@1"]),
    ],
)
def test_contradictions_are_found_and_only_they(values, said):
    found = contradictions(values)
    assert len(found) == len(said), found
    assert all(words in line for words, line in zip(said, found))


def test_ties_excuse_what_they_explain():
    """Half the queries are tied with one other item: their rank is 1.5 and their R@1 is .5."""
    scores = np.eye(8)
    scores[:6] = [[i in (0, j) for i in range(8)] for j in range(6)]
    ev = evaluate(scores, np.eye(8), ["r@1", "medr"], ci=None, names=("a", "b"))
    values = {m: ev.mean("a2b", m) for m in ev.metrics}
    assert contradictions(values, whole_ranks=False) == []


@pytest.mark.parametrize("seed", range(20))
def test_true_figures_never_contradict_each_other(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 30))
    scores = rng.standard_normal((n, n)) + rng.choice([0.0, 1.0, 3.0]) * np.eye(n)
    ev = evaluate(scores, np.eye(n), ["r@1", "r@2", "r@5", "medr", "mrr"], ci=None)
    for direction in ev.directions:
        assert contradictions({m: ev.mean(direction, m) for m in ev.metrics}) == []


def test_a_board_reports_contradictions_of_published_figures(report_store):
    (board,) = boards([report_store.run("main")])
    rows = list(board.rows)
    rows[0] = replace(
        rows[0], published={("image2text", "r@1"): 0.384, ("image2text", "medr"): 1.0}
    )
    said = inconsistencies(replace(board, rows=rows))
    assert len(said) == 1 and "published, image → text" in said[0]


# ---------------------------------------------------------------- boards


def _board(*strengths, metrics=("mrr",), **options):
    rng = np.random.default_rng(0)
    groups = (np.arange(60) // 2, np.arange(60) // 2)
    rows = [
        Row(
            f"m{i}",
            Repeats(
                [
                    evaluate(
                        s * np.eye(60) + rng.standard_normal((60, 60)), np.eye(60),
                        [*metrics], groups=groups, names=("image", "text"),
                    )
                ]
            ),
        )
        for i, s in enumerate(strengths)
    ]  # fmt: skip
    return Board("data", rows, metrics, **options)


def test_a_median_rank_orders_upwards_and_is_tested_by_the_mean_rank():
    board = _board(1.0, 4.0, metrics=("medr", "r@1"))
    assert [row.label for row in board.rows] == ["m1", "m0"]
    assert board.tested == "meanr"
    assert board.ranks == {"m1": (1, 1), "m0": (2, 2)}


@pytest.mark.parametrize("form", [f for kind, row in KINDS.items() for f in row.forms(kind)])
def test_every_kind_of_measure_is_shown(form, tmp_path):
    metric = parse_metric(form.replace("@K", "@5").partition("|")[0]).name
    board = _board(1.0, 4.0, metrics=(metric,))
    write_page(tmp_path / "r.html", title="t", lead="l", parts=[Part(board)])
    words = metric_words(metric)
    assert words.startswith(KINDS[parse_metric(metric).kind].words)
    assert f">{words}</button>" in (tmp_path / "r.html").read_text()
    assert words in markdown_table(board) and words in latex_table(board)
    assert f",{metric}," in csv_table([board])
    assert inconsistencies(board) == []


def test_where_median_and_mean_rank_disagree_the_page_says_what_the_test_says(tmp_path):
    """The first has the smaller median and many large ranks; the others have rank 2."""
    values = {"early": np.r_[np.ones(60), np.full(41, 100.0)], "even": np.full(101, 2.0),
              "odd": np.full(101, 2.0)}  # fmt: skip
    groups = dict.fromkeys(Direction.between(("image", "text")), np.arange(101))

    def page(*labels):
        rows = [
            Row(label, Repeats([Evaluation(PerQuery({(d, "medr"): values[label] for d in groups}),
                                       tuple(groups), ("medr",), groups=groups)]))
            for label in labels
        ]  # fmt: skip
        board = Board("data", rows, ("medr",))
        assert board.rows[0].label == "early"
        write_page(tmp_path / "r.html", title="t", lead="l", parts=[Part(board)])
        return board, " ".join(Page((tmp_path / "r.html").read_text()).text.split())

    board, text = page("early", "even")
    assert "early ranks first by MedR, but even is better in mean rank" in text
    assert "The two disagree on early and even." in text
    assert "early is better" not in text
    assert board.ranks == {"even": (1, 1), "early": (2, 2)}
    assert "tests of the mean rank (Holm" in markdown_table(board)
    _, text = page("early", "even", "odd")
    assert "but even and odd are better in mean rank" in text


@pytest.mark.parametrize(
    ("ties", "words"),
    [
        ("expected", "means over all orders of items with the same score"),
        ("stable", "keep the order of the gallery, which may be an advantage over chance"),
        ("worst", "relevant ones are ranked last"),
        ("best", "relevant ones are ranked first"),
    ],
)
def test_the_note_on_ties_is_about_the_rule_that_was_used(tmp_path, ties, words):
    found = evaluate(np.eye(4), np.eye(4), "mrr", ties=ties, names=("image", "text"))
    board = Board("data", [Row("m", Repeats([found]))], ("mrr",))
    write_page(tmp_path / "r.html", title="t", lead="l", parts=[Part(board)])
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert words in text and text.count("with the same score") == 1


def test_a_baseline_and_a_single_method():
    board = _board(1.0, 4.0, 4.0, baseline="m0")
    assert board.reference == "m0"
    assert board.p_value("m1") < 0.05
    assert math.isnan(board.p_value("m0"))
    alone = _board(2.0)
    assert alone.comparisons == {} and alone.ranks == {"m0": (1, 1)}
    with pytest.raises(ValueError, match="baseline: 'x' is not a method; use one of m0"):
        _board(1.0, baseline="x")
    with pytest.raises(ValueError, match="has no method"):
        Board("data", [], ("mrr",))


def test_many_methods_can_still_be_told_apart():
    """The smallest p-value after the correction is below the level."""
    board = _board(*([3.0] * 3 + [0.0] * 17))
    assert len(board.comparisons[None]) == 190
    assert board.ranks[board.rows[0].label][1] <= 3


def test_light_falls_on_the_regions_with_weight():
    image = np.full((10, 20, 3), 200, np.uint8)
    boxes = [[0, 0, 0.5, 1], [0.5, 0, 1, 1]]
    found = lit(image, [0.1, 0.9], boxes)
    assert found.shape == image.shape
    assert found[0, 19, 0] == 200 and 40 < found[0, 0, 0] < 70
    assert image.min() == 200, "the picture given is not written to"


LABELS = [
    "$$", r"$\frac{1}{0}$", "$x", "costs $5 or $6", r"a \$ b", "%d {x} #1", r"\textbf{",
    "=HYPERLINK(1)", "+1", "-cmd", "@x", "\t=1", "a\u202eb\u200bc", "שלום", "\x1b[31mred\x07",
    "\ud800", "& <i>",
]  # fmt: skip


def planted_board(labels):
    rng = np.random.default_rng(0)
    directions = Direction.between(("=a", "b"))
    keys = [(d, m) for d in directions for m in ("map@all", "r@1")]
    rows = []
    for label in labels:
        values = {key: (rng.random(12) > 0.5).astype(float) for key in keys}
        groups = {direction: np.arange(12) for direction in directions}
        evaluation = Evaluation(
            PerQuery(values), directions, ("map@all", "r@1"), "expected", 0.95, 0, groups
        )
        history = {0: [{"epoch": e, f"train_{label}": 1.0 / e, "train_other": 1.0} for e in (1, 2)]}
        trials = [{"value": v, "params": {label: f"{v}{label}"}} for v in (1.0, 2.0)]
        curves = {d: {"recall": ([1, 2], [0.1, 0.2])} for d in directions}
        rows.append(
            Row(label, Repeats([evaluation]), curves=curves, histories=history, trials=trials,
                costs={"fit": float(len(rows) + 1)})
        )  # fmt: skip
    return Board("-title\u202e", rows, ("map@all", "r@1"))


@pytest.mark.parametrize("label", LABELS)
def test_labels_are_drawn_as_they_are_written(label):
    board = planted_board([label, "another"])
    row = next(row for row in board.rows if row.label == label)
    drawn = [plots.intervals(board), plots.curves(board, "recall"), plots.training(row),
             plots.search(row), plots.attention(np.eye(2), [label, "x"])]  # fmt: skip
    wanted = " ".join(printable(label).split())
    for svg in drawn:
        root = ElementTree.fromstring(svg)  # of characters that XML allows
        texts = {
            " ".join("".join(t.itertext()).split()) for t in root.iter() if t.tag.endswith("text")
        }
        assert any(wanted in text for text in texts), (label, texts)


def test_a_spreadsheet_finds_no_formula_and_numbers_stay_numbers():
    table = csv_table([planted_board(LABELS)])
    rows = list(csv.reader(table.splitlines()))
    numbers = 0
    for row in rows[1:]:
        for cell in row[:4]:
            assert not cell.lstrip().startswith(("=", "+", "-", "@")) and "\t" not in cell
        for cell in row[4:]:
            numbers += bool(cell) and math.isfinite(float(cell))
    assert numbers > 100
    assert "'=HYPERLINK(1)" in {row[1] for row in rows} and rows[1][0] == "'-title"


def test_no_character_of_a_label_turns_or_hides_what_stands_beside_it(tmp_path):
    board = planted_board(LABELS)
    path = tmp_path / "page.html"
    write_page(path, title="t\u202e", lead="l", parts=[Part(board)],
               problems=[Problem("p\u200b", "d", 0, "failed", "r\u202e")])  # fmt: skip
    texts = [path.read_text("utf-8"), markdown_table(board), latex_table(board), csv_table([board])]
    for text in texts:
        text.encode()  # half a surrogate pair has been removed
        unseen = [c for c in text if ord(c) in (0x202E, 0x200B, 0x1B, 7)]
        assert not unseen
        assert "abc" in text and "שלום" in text
    assert '<th scope="row"><bdi>שלום</bdi>' in texts[0]


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")

    def stop(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", stop)
    with pytest.raises(KeyboardInterrupt):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
