"""A run as a page of Markdown: the experiment's words, planned comparisons, chosen settings."""

import dataclasses

import pytest

from crossfit.experiment import Experiment, Store, run
from crossfit.metrics import compare
from crossfit.report import report_runs
from crossfit.report.boards import boards

SPEC = {
    "title": "Three methods on some emoji",
    "description": "What is asked, in **bold**.",
    "notes": "## How to read it\n\n- With care.",
    "dataset": {"name": "emoji", "subset": {"train": 120, "val": 40, "test": 60}},
    "features": {
        "image": {"name": "grid"},
        "text": [
            {"name": "sklearn.feature_extraction.text.TfidfVectorizer"},
            {"name": "sklearn.decomposition.TruncatedSVD", "params": {"n_components": 20}},
        ],
    },
    "metrics": ["map@all", "r@5", "r@5:twowaynet"],
    "tuning": {"validation": True, "sampler": "grid"},
    "comparisons": [["CCA", "PLS"], ["SM | L2", "CCA"]],
    "methods": [
        {"method": "cca", "label": "CCA", "params": {"n_components": 8}, "note": "a | note",
         "tune": {"reg": {"choice": [0.1, 1.0]}, "power": {"choice": [0, 1]}},
         "published": {"map@all": {"image2text": 0.25, "text2image": 0.125}}},
        {"method": "pls", "label": "PLS", "params": {"n_components": 8}},
        {"method": "sm", "label": "SM | L2"},
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    return run(Experiment(**SPEC), tmp_path_factory.mktemp("markdown") / "store")


@pytest.fixture(scope="module")
def folder(record, tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    report_runs([record.name], record.store, out)
    return out


def test_the_page_has_the_words_of_the_experiment_around_its_tables(record, folder):
    text = (folder / "leaderboard.md").read_text()
    parts = [
        "# Three methods on some emoji", "What is asked, in **bold**.", "## emoji",
        "### Planned comparisons", "## Settings that were chosen", "## How to read it",
        "## How this page was made", f"crossfit report {record.name} --store ",
    ]  # fmt: skip
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    html = (folder / "report.html").read_text()
    assert "What is asked, in bold." in html and "- With care." in html
    assert "Planned comparisons" in html
    # Paths on other machines are not part of the comparison.
    assert "Linux" not in text


def test_published_figures_and_notes_are_columns(folder):
    lines = (folder / "leaderboard.md").read_text().splitlines()
    head = next(line for line in lines if line.startswith("| rank"))
    cca = next(line for line in lines if line.startswith("| ") and "| CCA |" in line)
    assert head.endswith("| published mAP | note |")
    assert cca.endswith("| 0.250 0.125 | a \\| note |")
    assert len({line.replace("\\|", "").count("|") for line in lines if "[." in line}) == 1


def test_recall_and_the_protocol_of_2waynet_are_separate_columns_with_a_warning(record, folder):
    (board,) = boards([record])
    warning = "R@5:twowaynet counts ranks from 0"
    text = (folder / "leaderboard.md").read_text()
    (head,) = [line for line in text.splitlines() if line.startswith("| rank")]
    assert head.count(" R@5:twowaynet ") == head.count(" R@5 ") == 2
    for file in ("leaderboard.md", "leaderboard.tex", "report.html"):
        assert (folder / file).read_text().count(warning) == 1
    for row in board.rows:
        means = [row.repeats.mean(None, name) for name in ("r@5:twowaynet", "r@5")]
        assert means[0] > means[1]
    plain = dataclasses.replace(board, metrics=board.metrics[:2])
    assert warning in board.protocols[0] and not plain.protocols


def test_chosen_settings_are_a_table(folder):
    lines = (folder / "leaderboard.md").read_text().splitlines()
    (chosen,) = [line for line in lines if line.startswith("| CCA | 4 | map@all on validation")]
    assert "reg " in chosen and "power " in chosen


def test_settings_of_one_label_in_two_runs_are_told_apart(record, tmp_path):
    other = dict(SPEC["methods"][0], tune={"reg": {"choice": [5.0]}})
    spec = {**SPEC, "name": "others", "comparisons": [], "methods": [other, SPEC["methods"][1]]}
    second = run(Experiment(**spec), record.store)
    report_runs([record.name, "others"], record.store, tmp_path / "report")
    text = (tmp_path / "report" / "leaderboard.md").read_text("utf-8")
    chosen = text[text.index("## Settings that were chosen") :].split("\n\n")[1]
    rows = [line for line in chosen.splitlines() if line.startswith("| CCA")]
    assert len(rows) == 2 and second.done
    assert any("| CCA (others) |" in row and "reg 5" in row for row in rows)
    assert any(f"| CCA ({record.name}) |" in row for row in rows)


def test_planned_comparisons_are_corrected_for_their_number_alone(record, folder):
    (board,) = boards([record])
    rows = {row.label: row.repeats.averaged for row in board.rows}
    pairs = [("CCA", "PLS"), ("SM | L2", "CCA")]
    expected = compare(rows, "map@all", None, pairs=pairs)
    assert [(test.first, test.second) for test in expected] == pairs
    assert board.differences == expected
    for test, every in zip(expected, (compare(rows, "map@all", None) for _ in pairs)):
        same = next(one for one in every if {one.first, one.second} == {test.first, test.second})
        assert test.p_value == same.p_value and test.p_adjusted <= same.p_adjusted
        value = board.difference_by_seed(test.first, test.second)
        assert value == [pytest.approx(test.difference)]
    text = (folder / "leaderboard.md").read_text()
    assert f"| SM \\| L2 − CCA | {expected[1].difference:+.3f} |" in text


def test_pairs_that_are_not_there_are_named(record):
    (board,) = boards([record])
    rows = {row.label: row.repeats.averaged for row in board.rows}
    with pytest.raises(ValueError, match="'KCCA' was not evaluated"):
        compare(rows, "map@all", None, pairs=[("CCA", "KCCA")])
    with pytest.raises(ValueError, match="pairs must have at least one pair"):
        compare(rows, "map@all", None, pairs=[])
    with pytest.raises(ValueError, match="pairs and baseline"):
        compare(rows, "map@all", None, pairs=[("CCA", "PLS")], baseline="PLS")


def test_an_experiment_without_words_has_the_tables_alone(tmp_path):
    plain = {key: SPEC[key] for key in ("title", "dataset", "features")}
    record = run(Experiment(**plain, methods=["pls"]), tmp_path / "store")
    report_runs([record.name], Store(record.store.folder), tmp_path / "out")
    text = (tmp_path / "out" / "leaderboard.md").read_text()
    assert "Planned" not in text and "Settings that were chosen" not in text
    assert "note" not in text.split("| ---")[0]
