"""`crossfit demo`: a leaderboard, a report and a store; an interruption leaves no report."""

import os
import re
import signal
import subprocess
import time
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
