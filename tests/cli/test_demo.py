"""`crossfit demo`: a leaderboard, a report, a store and a page; what is left if interrupted."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from html.parser import HTMLParser

import pytest
from click.testing import CliRunner

from crossfit.cli.commands import cli
from crossfit.experiment import Store


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CROSSFIT_CACHE", str(folder / "cache"))
        done = CliRunner().invoke(
            cli,
            ["demo", "--features", "plain", "--out", str(folder / "out")],
            catch_exceptions=False,
        )
    assert done.exit_code == 0
    return done.output, folder / "out"


def cells(folder):
    return {cell.label: cell for cell in Store(folder / "store").run("emoji-plain").cells}


def test_the_tuned_method_is_far_above_chance_and_the_ridge_matters(demo):
    _, folder = demo
    by_name = cells(folder)
    for direction in ("image2text", "text2image"):
        found = by_name["CCA"].results[direction]
        at_random = by_name["CCA"].chance[direction]["map@all"]
        assert found["map@all"]["low"] > 2 * at_random
        assert found["medr"]["mean"] < 60
        bare = by_name["CCA without a ridge"].results[direction]["map@all"]["mean"]
        assert bare < found["map@all"]["mean"]


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.links, self.open, self.images = [], [], 0

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.images += tag == "img"
        self.links += [attributes[key] for key in ("src", "href") if attributes.get(key)]
        if tag not in ("img", "meta", "br", "wbr", "link", "path", "use", "rect", "circle"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()


def test_the_report_is_one_self_contained_well_formed_page(demo):
    _, folder = demo
    page = (folder / "report.html").read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    # Three hits and three failures each way; a text query has nine pictures, the others are one.
    assert tags.images == 6 * 9 + 6
    outside = [link for link in tags.links if not link.startswith(("data:", "#"))]
    assert outside == []
    assert "nan" not in re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL).lower().split()
    assert "CC-BY 4.0" in page
    assert 50_000 < len(page) < 2_000_000


def test_figures_of_the_report_and_of_the_screen_are_those_of_the_store(demo):
    printed, folder = demo
    page = (folder / "report.html").read_text(encoding="utf-8")
    for cell in cells(folder).values():
        for by_metric in cell.results.values():
            for metric in ("map@all", "r@10"):
                figure = f"{by_metric[metric]['mean']:.3f}"
                assert figure in page
                assert figure in printed
    assert 'next:   crossfit search "a red heart"' in printed


def test_a_second_demo_computes_nothing(demo):
    _, folder = demo
    done = CliRunner().invoke(cli, ["demo", "--features", "plain", "--out", str(folder)])
    assert done.exit_code == 0
    assert "0 cells to compute, 3 in the store" in done.output
    assert {path.name for path in folder.iterdir()} == {
        "leaderboard.csv", "leaderboard.md", "leaderboard.tex", "report.html", "store"
    }  # fmt: skip


def test_tables_of_others_are_left_alone(tmp_path):
    mine = tmp_path / "leaderboard.csv"
    mine.write_text("my own figures")
    done = CliRunner().invoke(cli, ["demo", "--features", "plain", "--out", str(tmp_path)])
    assert done.exit_code == 2
    assert "leaderboard.csv would be overwritten" in done.output
    assert list(tmp_path.iterdir()) == [mine]


def test_pretrained_features_that_are_not_installed(monkeypatch, tmp_path):
    from crossfit.cli._shared import emoji_experiment
    from crossfit.experiment import Experiment
    from crossfit.registry import NotInstalledError

    find = Experiment.find

    def without_plugin(name, *args):
        if name == "emoji-pretrained":
            raise NotInstalledError(name)
        return find(name, *args)

    monkeypatch.setattr(Experiment, "find", without_plugin)
    assert emoji_experiment("auto").name == "emoji-plain"
    with pytest.raises(NotInstalledError, match="install crossfit-wheels, or use --features plain"):
        emoji_experiment("pretrained")


def test_ctrl_c_leaves_no_file_and_says_interrupted(command, tmp_path, home):
    out = tmp_path / "demo"
    process = subprocess.Popen(
        [*command, "demo", "--features", "plain", "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "CROSSFIT_CACHE": str(home), "PYTHONUNBUFFERED": "1"},
        # Background jobs of a shell ignore Ctrl-C, and so do their children; a terminal does not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    process.stdout.readline()  # the data are loaded, and the work starts
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in errors
    assert "Traceback" not in errors
    assert not list(tmp_path.rglob("*.html"))


# ---- the page ------------------------------------------------------------------------------------


@pytest.fixture
def serve(command, demo, tmp_path, home):
    """Return ``serve(*options, **environment)``, a demo that serves its page, and the address."""
    pytest.importorskip("fastapi", reason="fastapi is of the extra serve")
    pytest.importorskip("uvicorn", reason="uvicorn is of the extra serve")
    running = []
    shutil.copytree(demo[1], tmp_path / "out")

    def begin(*options, **environment):
        words = ["demo", "--features", "plain", "--out", "out", "--serve", "--port", "0", *options]
        process = subprocess.Popen(
            [*command, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            cwd=tmp_path, env={**os.environ, "CROSSFIT_CACHE": str(home), **environment},
        )  # fmt: skip
        running.append(process)
        lines = iter(process.stdout.readline, "")
        ready = next((line for line in lines if line.startswith("http://")), None)
        assert ready is not None, process.stderr.read()
        return process, ready.split()[0].rstrip("/")

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def fetched(address, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read()


def written(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_it_ends_with_a_page_over_all_emoji(serve, tmp_path):
    from crossfit.cli.search import answer

    process, address = serve("--no-open")
    assert json.loads(fetched(f"{address}/health"))["items"] == 1636
    assert b"<script" in fetched(f"{address}/")
    body = {"text": "a red heart", "k": 5}
    (hits,) = json.loads(fetched(f"{address}/search", body))["results"]
    # The pictures went through files, and the method through a bundle.
    expected = answer("a red heart", None, 5, "plain")
    assert [hit["id"] for hit in hits] == [row["name"] for row in expected]
    assert [hit["score"] for hit in hits] == pytest.approx([row["score"] for row in expected])
    assert hits[0]["payload"]["character"] == expected[0]["character"]
    assert fetched(address + hits[0]["file"]).startswith(b"\x89PNG")
    (found,) = json.loads(
        fetched(f"{address}/search", {"text": "red", "k": 9, "where": "category == 'Food & Drink'"})
    )["results"]
    assert {hit["payload"]["category"] for hit in found} == {"Food & Drink"}
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in errors
    kept = written(tmp_path / "out" / "winner") | written(tmp_path / "out" / "emoji")

    # A second time nothing is fitted or written again, and the browser shows the page.
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/shown\n')
    browser.chmod(0o755)
    process, address = serve(BROWSER=f"{browser} %s")
    until = time.monotonic() + 30
    while not (tmp_path / "shown").exists() and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert (tmp_path / "shown").read_text().strip() == f"{address}/"
    assert written(tmp_path / "out" / "winner") | written(tmp_path / "out" / "emoji") == kept


def test_a_method_of_another_version_is_fitted_again(tmp_path, monkeypatch):
    from crossfit.cli._emoji import check_page_folders, write_winner_of

    monkeypatch.setenv("CROSSFIT_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "winner"
    write_winner_of("plain", folder)
    record = json.loads((folder / "record.json").read_text())
    (folder / "record.json").write_text(json.dumps({**record, "versions": {"crossfit": "0.0.1"}}))
    check_page_folders(folder, tmp_path / "emoji")
    write_winner_of("plain", folder)
    assert json.loads((folder / "record.json").read_text()) == record
    assert {path.name for path in tmp_path.iterdir()} <= {"winner", "cache"}


@pytest.mark.parametrize("name", ["winner", "emoji"])
def test_folders_of_others_are_left_alone(name, tmp_path):
    pytest.importorskip("fastapi", reason="fastapi is of the extra serve")
    pytest.importorskip("uvicorn", reason="uvicorn is of the extra serve")
    (tmp_path / name).mkdir()
    (tmp_path / name / "metadata.csv").write_text("file_name,text\n")
    words = ["demo", "--features", "plain", "--out", str(tmp_path), "--serve", "--port", "0"]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 2
    assert f"{name}' would be replaced" in done.output
    assert [path.name for path in tmp_path.rglob("*")] == [name, "metadata.csv"]


def test_what_the_page_lacks_is_one_sentence_before_any_work(run, tmp_path):
    done = run("demo", "--port", "8000", "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert "add --serve" in done.stderr
    code = (
        "import sys; sys.modules['uvicorn'] = None\n"
        "from crossfit.cli import main\n"
        f"main(['demo', '--serve', '--out', {str(tmp_path / 'out')!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("crossfit: serving needs ")
    assert "crossfit-retrieval[serve]" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_port_that_is_taken_is_reported_before_any_work(run, tmp_path):
    pytest.importorskip("fastapi", reason="fastapi is of the extra serve")
    pytest.importorskip("uvicorn", reason="uvicorn is of the extra serve")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run("demo", "--serve", "--port", port, "--out", str(tmp_path / "out"))
    assert done.returncode == 1
    assert "in use" in done.stderr
    assert not (tmp_path / "out").exists()
