"""Commands do not fail because of a character that the encoding of the output lacks."""

import io
import json
import os
import subprocess
import sys

import pytest

from crossfit.cli import main

SPEC = """\
title: Zwei → “μ” 😀
dataset: {name: emoji, subset: {train: 40, test: 20}}
features:
  image: {name: grid}
  text:
    - {name: sklearn.feature_extraction.text.TfidfVectorizer}
    - {name: sklearn.decomposition.TruncatedSVD, params: {n_components: 5}}
methods:
  - {method: cca, label: "CCA → ü 猫 😀", params: {n_components: 3, reg: 1.0}}
  - {method: "nö-猫"}
"""
ENCODINGS = [{"PYTHONIOENCODING": "cp1252"}, {"PYTHONIOENCODING": "ascii"},
             {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0",
              "PYTHONCOERCECLOCALE": "0"}]  # fmt: skip


@pytest.mark.parametrize("about", ENCODINGS, ids=["cp1252", "ascii", "C"])
def test_output_never_fails_for_its_characters(tmp_path, about):
    (tmp_path / "e.yaml").write_text(SPEC, encoding="utf-8")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG"))}

    def crossfit(*args, code=0):
        done = subprocess.run(
            [sys.executable, "-m", "crossfit", *args], cwd=tmp_path, capture_output=True,
            check=False, env={**environment, **about, "CROSSFIT_CACHE": str(tmp_path / "cache")},
        )  # fmt: skip
        assert done.returncode == code, (args, done.stderr)
        assert b"Traceback" not in done.stderr
        return done

    assert b"to compute" in crossfit("run", "e.yaml", "--dry-run").stdout
    done = crossfit("run", "e.yaml")
    assert b"\\u2192" in done.stdout and b"1 done" in done.stdout
    assert b"\\u732b" in done.stderr
    crossfit("report", "e")
    assert "CCA → ü 猫 😀" in (tmp_path / "crossfit-report" / "report.html").read_text("utf-8")
    assert json.loads(crossfit("list", "--json").stdout)
    crossfit("list")
    crossfit("cache", "info")
    crossfit("run", "--help")
    assert b"is installed" in crossfit("cite", "nö-猫", code=1).stderr
    crossfit("run", "nö-猫.yaml", code=1)
    crossfit("tune", "nö-猫", "--dataset", "emoji", code=1)
    crossfit("check", "nö-猫", code=1)


@pytest.mark.parametrize("options", [[], ["--json"]])
@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_what_a_search_finds_is_printed_as_far_as_it_can_be(monkeypatch, encoding, options):
    found = [{"character": "😀", "name": "café \udcef", "text": "猫", "score": 0.5}]
    monkeypatch.setattr("crossfit.cli.search.answer", lambda *_: found)
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    main(["search", "a cat", *options])
    stream.flush()
    # click takes ASCII as a wrong setting, and writes UTF-8.
    text = stream.buffer.getvalue().decode(encoding.replace("ascii", "utf-8"))
    if options:
        # A lone surrogate is an escape in any case.
        assert json.loads(text) == found
    else:
        assert "0.500" in text
        assert ("\\U0001f600" if encoding == "cp1252" else "😀") in text
