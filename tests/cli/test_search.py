"""`crossfit search`, among the emoji."""

import json
import subprocess
import sys

import numpy as np
from PIL import Image

from crossfit.cli.search import answer


def test_a_picture_that_is_none_is_refused_in_one_line(run, tmp_path, home):
    fake = tmp_path / "fake.png"
    fake.write_text("no picture")
    done = run("search", "--picture", str(fake), "--features", "plain", home=home)
    assert done.returncode == 1
    assert "fake.png" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_picture_is_read_before_the_emoji_are(run, tmp_path):
    fake = tmp_path / "fake.png"
    fake.write_text("no picture")
    code = (
        "import sys; from crossfit.cli import main\n"
        f"try: main(['search', '--picture', {str(fake)!r}])\n"
        "except SystemExit: print('crossfit.datasets' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert "fake.png" in done.stderr


def test_search_finds_an_emoji_by_its_words(run, home):
    done = run("search", "red heart", "--features", "plain", "-k", "8", "--json", home=home)
    assert done.returncode == 0, done.stderr
    assert (
        done.stderr
        == "computing the features of all emoji; the first time, this may take minutes\n"
    )
    found = json.loads(done.stdout)
    assert len(found) == 8
    assert [row["score"] for row in found] == sorted((r["score"] for r in found), reverse=True)
    assert any("heart" in row["text"] for row in found)


def test_scores_have_as_many_decimals_as_distinguish_them(monkeypatch):
    from click.testing import CliRunner

    from crossfit.cli.commands import cli

    def found(*scores):
        return [{"score": s, "character": "x", "name": "n", "text": "t"} for s in scores]

    for scores, printed in (
        ((0.9, 0.5), ["0.900", "0.500"]),
        ((0.99991, 0.99992, 0.2), ["0.99991", "0.99992", "0.20000"]),
        ((0.5, 0.5), ["0.500", "0.500"]),
    ):
        monkeypatch.setattr("crossfit.cli.search.answer", lambda *_, s=scores: found(*s))
        lines = CliRunner().invoke(cli, ["search", "heart"]).stdout.splitlines()
        assert [line.split()[0] for line in lines if "n: t" in line] == printed


def test_search_by_picture_finds_texts(tmp_path, monkeypatch):
    from crossfit.datasets import load

    test = load("emoji")["test"]
    at = int(np.flatnonzero(test.info["short_name"] == "palm_tree")[0])
    path = tmp_path / "palm.png"
    Image.fromarray(test.views["image"][at]).save(path)
    monkeypatch.setenv("CROSSFIT_CACHE", str(tmp_path / "cache"))
    found = answer(None, str(path), 3, "plain")
    assert len(found) == 3
    assert all(set(row) == {"score", "character", "name", "text"} for row in found)
