"""Exported results and the leaderboard site: equal to the store's own tables, or refused."""

import base64
import csv
import json
import re
import shutil
import subprocess
import sys
import zlib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote, unquote

import numpy as np
import pytest

from crossfit.experiment.keys import key_of
from crossfit.experiment.store_files import StoreError
from crossfit.report import report_runs, write_board, write_results
from crossfit.report.boards import boards
from crossfit.report.exported import ExportedRun, _exported, read_results
from crossfit.report.text_tables import csv_table


@pytest.fixture(scope="module")
def results(report_store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    write_results(["main", "second"], report_store, folder)
    return folder


def resigned(path, change):
    """Change a result as somebody would who computes the hash again."""
    found = json.loads(path.read_text("utf-8"))
    found.pop("sha256")
    change(found)
    found["sha256"] = key_of(found)
    path.write_text(json.dumps(found), encoding="utf-8")


def packed(values):
    content = zlib.compress(np.asarray(values).tobytes())
    kind = "int64" if np.asarray(values).dtype.kind == "i" else "float64"
    return {"type": kind, "n": len(values), "zlib": base64.b64encode(content).decode()}


def with_key(found, **dataset):
    """Change the data set of a cell, and its key with it."""
    found["cell"]["cell"]["dataset"] |= dataset
    found["key"] = key_of(found["cell"]["cell"])


def one_of(results, tmp_path, pattern="emoji-good-0-*"):
    (path,) = results.glob(pattern)
    return Path(shutil.copy(path, tmp_path))


def test_a_board_has_the_figures_of_the_store_to_the_last_digit(report_store, results):
    of_files = boards(read_results([results]))
    of_store = boards([report_store.run("main"), report_store.run("second")])
    assert len(of_files) == 1

    def figures(found):
        return sorted(line for line in csv_table(found).splitlines() if "not computed" not in line)

    assert figures(of_files) == figures(of_store)
    assert of_files[0].ranks == of_store[0].ranks
    for row in of_store[0].rows:
        (same,) = (each for each in of_files[0].rows if each.label == row.label)
        assert {s: len(h) for s, h in same.histories.items()} == {
            s: len(h) for s, h in row.histories.items()
        }
        assert list(same.trials) == list(row.trials)


def test_the_site(results, report_store, tmp_path):
    page = write_board([results], tmp_path / "site", title="All & more")
    assert page == tmp_path / "site" / "index.html"
    n = sum(len(report_store.run(name).done) for name in ("main", "second"))
    files = sorted(path.name for path in (tmp_path / "site" / "results").iterdir())
    assert len(files) == n
    text = page.read_text("utf-8")
    assert '<h1 dir="auto">All &amp; more</h1>' in text
    assert "<script>window.pwned" not in text
    inner = (page.parent / "emoji.html").read_text("utf-8")
    assert "<script>window.pwned" not in inner
    assert f"{n} evaluations on the split “test” of emoji" in inner
    assert "unequal budgets" in inner and "9 trials for good" in inner
    inner = inner.replace("<wbr>", "")
    assert "numpy 2.1.0" in inner
    assert "crossfit run main.yaml" in inner
    rows = list(csv.DictReader((page.parent / "leaderboards.csv").open(encoding="utf-8")))
    assert {row["method"] for row in rows} >= {"good", "late", "chance"}

    class Links(HTMLParser):
        found: list = []

        def handle_starttag(self, tag, attributes):
            self.found += [value for name, value in attributes if name in ("href", "src")]

    for path in (page, page.parent / "emoji.html"):
        Links().feed(path.read_text("utf-8"))
    assert len(Links.found) > 2 * n
    for link in Links.found:
        if not link.startswith(("data:", "#")):
            assert (page.parent / unquote(link)).is_file(), link
    # The results of a site are those that were given to it, so that sites can be built on.
    again = write_board([page.parent / "results"], tmp_path / "again")
    assert again.read_bytes() == page.read_bytes().replace(b"All &amp; more", b"Leaderboards")


def test_evaluations_are_counted_once_however_often_they_were_exported(
    results, report_store, tmp_path
):
    shutil.copytree(report_store.folder, tmp_path / "store")
    from crossfit.experiment.store import Store

    store = Store(tmp_path / "store")
    before = len(store.test_evaluations("emoji", "test"))
    store.count_test("emoji", "test", "an earlier setting")
    write_results(["main"], store, tmp_path / "later")
    page = write_board([results, tmp_path / "later"], tmp_path / "site")
    assert f"{before + 1} evaluations on the split" in (page.parent / "emoji.html").read_text()


def test_other_protocols_have_their_own_leaderboard(results, tmp_path):
    for path in results.glob("emoji-cca-*"):
        target = Path(shutil.copy(path, tmp_path))
        resigned(target, lambda found: with_key(found, subset={"train": 200}))
    page = write_board([results, tmp_path], tmp_path / "site")
    text = page.read_text("utf-8")
    assert "2 leaderboards of" in text
    assert "train subset: 200" in text
    assert len(list(page.parent.glob("emoji*.html"))) == 2


def test_an_option_that_was_left_out_is_its_default(results, tmp_path):
    for path in results.glob("emoji-cca-*"):
        target = Path(shutil.copy(path, tmp_path))
        resigned(target, lambda found: with_key(found, params={"split": "official"}))
    page = write_board([results, tmp_path], tmp_path / "site")
    assert "1 leaderboard of" in page.read_text("utf-8")
    for path in tmp_path.glob("emoji-cca-*"):
        resigned(path, lambda found: with_key(found, params={"split": "another"}))
    page = write_board([results, tmp_path], tmp_path / "site")
    assert "because of its split: another." in page.read_text("utf-8")


def test_the_first_measure_is_that_of_most_runs(results):
    run = read_results([results])[0]
    first, second, *_ = run.metrics
    orders = {"one": [second, first], "two": [first, second], "three": [first, second]}
    runs = [
        ExportedRun(**{**vars(run), "name": name, "spec": {**run.spec, "metrics": metrics}})
        for name, metrics in orders.items()
    ]
    for order in (runs, runs[::-1]):
        (board,) = boards(order)
        assert list(board.metrics) == [first, second]


def test_the_seeds_of_a_method_are_in_one_row(results, tmp_path):
    text = write_board([results], tmp_path / "site").read_text("utf-8")
    table = text[text.index('id="results"') :]
    held = sorted(path.name for path in (tmp_path / "site" / "results").iterdir())
    assert sorted(re.findall(r'href="results/([^"]+)"', table)) == sorted(map(quote, held))
    rows = table.count("<tr>") - 1
    assert 1 < rows < len(held)


def test_runs_of_one_name_are_told_apart(results, tmp_path):
    # The same name, label and seed, but another version of the method.
    path = one_of(results, tmp_path, "emoji-middle-*")

    def other(found):
        found["cell"]["cell"]["method"]["version"] = "2.0"
        found["run"]["version"] = "0.2.0"
        found["key"] = key_of(found["cell"]["cell"])

    resigned(path, other)
    (board,) = boards(read_results([results, path]))
    labels = [row.label for row in board.rows if row.label.startswith("middle")]
    assert len(set(labels)) == 2


def test_cells_that_differ_are_refused(results, tmp_path):
    path = one_of(results, tmp_path)

    def change(found):
        name = "image2text|r@1"
        found["values"][name] = packed(np.ones(found["values"][name]["n"]))

    resigned(path, change)
    with pytest.raises(StoreError, match="different values for the same cell; keep one"):
        write_board([results, path], tmp_path / "site")
    assert not (tmp_path / "site").exists()


def _fewer(found):
    found["cell"]["n"]["test"]["image"] += 1


def _other_groups(found):
    for name in ("image2text|groups", "text2image|groups"):
        found["values"][name] = packed(np.arange(found["values"][name]["n"]) // 2)


def _other_relevance(found):
    found["cell"]["relevant"]["map@all"] = "pair"


def _other_chance(found):
    found["cell"]["chance"]["image2text"]["r@10"] *= 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_fewer, "different numbers of test items"),
        (_other_groups, "different groups of queries"),
        (_other_relevance, "different relevant items"),
        (_other_chance, "different levels of chance"),
    ],
)
def test_unequal_protocols_under_one_name_are_refused(results, tmp_path, change, words):
    path = one_of(results, tmp_path, "emoji-late-*")
    resigned(path, change)
    others = [each for each in results.glob("*.json") if each.name != path.name]
    with pytest.raises(StoreError, match=words) as raised:
        write_board([*others, path], tmp_path / "site")
    assert str(path) in str(raised.value)


def _bomb(found):
    content = zlib.compress(bytes(2**27))
    found["values"]["image2text|r@1"]["zlib"] = base64.b64encode(content).decode()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda found: found.update(kind="other"), "is not a result that crossfit report"),
        (lambda found: found.pop("values"), "it has no 'values'"),
        (lambda found: found["values"].pop("image2text|groups"), "has no 'image2text|groups'"),
        (lambda found: found["values"].pop("image2text|r@1"), "has no 'image2text|r@1'"),
        (_bomb, "bytes and not"),
        (lambda f: f["values"]["image2text|r@1"].update(zlib="!"), "'image2text|r@1'"),
        (lambda f: f["values"]["image2text|r@1"].update(n=2**40), "its length is"),
        (lambda f: f["values"]["image2text|r@1"].update(type="object"), "type is 'object'"),
        (lambda f: f["cell"].update(status="failed"), "it is not done|its cell is not done"),
        (lambda f: f["cell"]["cell"].update(seed=9), "its key is not that of its cell"),
        (lambda f: f["run"].pop("own data"), "no 'own data'"),
        (lambda f: f["run"].pop("spec"), "it has no 'spec'"),
        (lambda f: f.update(seed="0"), "it.seed is '0'"),
        (lambda f: f.update(run=3), "it.run is not a mapping"),
    ],
)
def test_a_damaged_result_is_one_sentence(results, tmp_path, change, words):
    path = one_of(results, tmp_path)
    resigned(path, change)
    with pytest.raises(StoreError, match=words) as raised:
        write_board([path], tmp_path / "site")
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_changed_byte_a_missing_file_and_other_json(results, tmp_path):
    path = one_of(results, tmp_path)
    path.write_text(path.read_text("utf-8").replace('"label": "good"', '"label": "best"'))
    with pytest.raises(StoreError, match="its content has changed since it was written"):
        read_results([path])
    with pytest.raises(StoreError, match="does not exist"):
        read_results([tmp_path / "none.json"])
    for content in ("[]", "{}", "no JSON", "[" * 100_000):
        path.write_text(content)
        with pytest.raises(StoreError, match=r"result|cannot be read"):
            read_results([path])
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match="has no JSON file"):
        read_results([tmp_path / "empty"])
    with pytest.raises(StoreError, match="files is empty"):
        read_results([])


def test_only_a_site_is_replaced(results, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "index.html").write_text("my page")
    with pytest.raises(FileExistsError, match="is not a leaderboard site"):
        write_board([results], mine)
    assert (mine / "index.html").read_text() == "my page"
    first = write_board([results], tmp_path / "site").read_bytes()
    (tmp_path / "site" / "old.html").touch()
    assert write_board([results], tmp_path / "site").read_bytes() == first
    assert not (tmp_path / "site" / "old.html").exists()


def test_results_have_no_paths_of_the_machine(tmp_path, report_store):
    from dataclasses import replace

    run = replace(
        report_store.run("main"),
        command="crossfit run x.yaml --store /home/me/s --data '/home/me/my pairs.csv' "
        "--root=/home/me/sets",
        data="/home/me/my pairs.csv",
        root="/home/me/sets",
    )
    found = _exported(run, run.done[0])
    assert found["run"]["command"] == "crossfit run x.yaml --data DATA --root=ROOT"
    assert found["run"]["own data"] is True
    assert "/home/me" not in json.dumps(found)


def run(*words):
    command = [sys.executable, "-m", "crossfit", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_on_the_command_line(report_store, tmp_path):
    store, site = str(report_store.folder), tmp_path / "site"
    done = run(
        "report", "second", "--store", store, "-o", str(tmp_path / "report"),
        "--results", str(tmp_path / "results"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "results: 1 file in" in done.stdout
    done = run("board", str(tmp_path / "results"), "--out", str(site))
    assert done.returncode == 0, done.stderr
    assert (site / "emoji.html").is_file()
    (tmp_path / "other.json").write_text("{}")
    done = run("board", str(tmp_path / "other.json"), "--out", str(tmp_path / "none"))
    assert done.returncode == 1
    assert (
        done.stderr.strip()
        .splitlines()[-1]
        .endswith("is not a result that crossfit report --results wrote")
    )
    assert not (tmp_path / "none").exists()


def test_the_report_and_the_board_agree(report_store, results, tmp_path):
    page = report_runs(["main", "second"], report_store, tmp_path / "report")
    write_board([results], tmp_path / "site")
    first, second = (
        {(r["method"], r["direction"], r["metric"]): r["value"] for r in csv.DictReader(f.open())
         if r["value"]}
        for f in (page.parent / "leaderboard.csv", tmp_path / "site" / "leaderboards.csv")
    )  # fmt: skip
    assert first == second


SHIPPED = sorted((Path(__file__).parents[2] / "docs" / "results").glob("*.json"))


@pytest.mark.skipif(not SHIPPED, reason="the documentation is not there")
def test_the_results_in_the_documentation_can_be_read_and_name_installed_experiments():
    from crossfit import registry

    pytest.importorskip("crossfit_wheels", reason="crossfit-wheels is not installed")
    for run in read_results(SHIPPED):
        assert registry.get(run.name, "crossfit.experiments")
        for cell in run.cells:
            for direction, by_metric in cell.results.items():
                for metric, stored in by_metric.items():
                    values = cell.arrays()[f"{direction}|{metric}"]
                    mean = np.nanmedian(values) if metric == "medr" else np.nanmean(values)
                    assert mean == pytest.approx(stored["mean"], rel=1e-12), (cell.file, metric)
