"""Failures print one sentence in the terminal, and keep their traceback where results are."""

import json
import subprocess
import sys

import optuna
import pytest
from PIL import Image

TFIDF = "{name: sklearn.feature_extraction.text.TfidfVectorizer}"
SVD = "sklearn.decomposition.TruncatedSVD"
WORDS = f"text=[{TFIDF}, {{name: {SVD}}}]"
MANY = "n_components={int: [50000, 50009]}"
EXPERIMENT = f"""
title: Too many
dataset: emoji
features:
  image: grid
  text: [{TFIDF}, {{name: {SVD}}}]
methods:
  - {{method: cca, label: cell, features: {{text: [{TFIDF}, {{name: {SVD}, params: {{n_components: 50000}}}}]}}}}
  - {{method: cca, label: search, tune: {{features__text__truncatedsvd__n_components: {{choice: [50000]}}}}}}
tuning: {{trials: 1, folds: 2}}
"""  # noqa: E501
WRONG = "n_components(50000) must be <= n_features("


def printed(folder, *words):
    """Return both outputs of a command, as a terminal shows them, and check that it has failed."""
    done = subprocess.run(
        [sys.executable, "-m", "crossfit", *map(str, words)],
        cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stdout and 'File "' not in done.stdout, done.stdout
    assert max(map(len, done.stdout.splitlines())) < 400
    return done.stdout


def check_stored(store, *, search):
    """Check the cells of a store: the reason in one line, and the tracebacks in order."""
    kept = [json.loads(path.read_text()) for path in store.glob("cells/*/cell.json")]
    failed = {"search" if "the search" in c["reason"] else "cell": c for c in kept}
    for cell in failed.values():
        assert cell["status"] == "failed" and WRONG in cell["reason"]
        assert "\n" not in cell["reason"] and "Traceback" not in cell["reason"]
        # The line of scikit-learn that has raised the error, also if a trial of a search has.
        assert "_truncated_svd.py" in cell["traceback"]
        assert cell["reason"] in cell["traceback"].strip().splitlines()[-1]
    if search:
        (found,) = [json.loads(path.read_text()) for path in store.glob("searches/*/search.json")]
        assert WRONG in found["error"] and "\n" not in found["error"]
        assert "_truncated_svd.py" in found["traceback"]
    return failed


@pytest.mark.parametrize("jobs", [1, 2])
def test_tune(tmp_path, jobs):
    text = printed(
        tmp_path, "tune", "cca", "--dataset", "emoji", "--features", "image=grid",
        "--features", WORDS, "--space", f"features__text__truncatedsvd__{MANY}", "--trials", 1,
        "--folds", 2, "--jobs", jobs, "--study", "mine", "--storage", "sqlite:///s.db",
        "--sampler", "grid",  # which leaves out the defaults, because the space does not have them
    )  # fmt: skip
    assert "the only trial failed with ValueError: view 'text': n_components(5000" in text
    assert ") must be <= n_features(" in text
    assert "the tracebacks of failed trials are in the study 'mine' in sqlite:///s.db" in text
    trials = optuna.load_study(study_name="mine", storage=f"sqlite:///{tmp_path}/s.db").trials
    # A second process may have begun a surplus trial, which has neither.
    (failed,) = [trial.user_attrs for trial in trials if "reason" in trial.user_attrs]
    assert "_truncated_svd.py" in failed["traceback"]


def test_tune_with_an_unexpected_error(tmp_path):
    """An error that no setting causes ends the search at once."""
    (tmp_path / "broken.py").write_text(
        "from sklearn.base import BaseEstimator, TransformerMixin\n"
        "class Broken(TransformerMixin, BaseEstimator):\n"
        "    def fit(self, X, y=None):\n        raise RuntimeError('no good\\ntoday')\n"
        "    def transform(self, X):\n        return X\n"
    )
    script = (
        "import sys\nfrom crossfit.cli import main\nfrom crossfit.experiment import build\n"
        "from broken import Broken\nfrom crossfit.extraction import GridFeatures\n"
        "GridFeatures.fit = Broken.fit\nmain(sys.argv[1:])\n"
    )
    words = [
        "tune", "cca", "--dataset", "emoji", "--features", "image=grid", "--features",
        "text=characters", "--space", "features__image__grid={choice: [2]}", "--trials", "3",
        "--folds", "2", "--study", "mine", "--storage", "sqlite:///s.db",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", script, *words], cwd=tmp_path, text=True, capture_output=True
    )
    assert done.returncode == 1 and "Traceback" not in done.stdout + done.stderr, done.stderr
    assert "RuntimeError: " in done.stderr and "no good today" in done.stderr
    (trial,) = optuna.load_study(study_name="mine", storage=f"sqlite:///{tmp_path}/s.db").trials
    assert "in fit" in trial.user_attrs["traceback"] and "reason" not in trial.user_attrs


@pytest.mark.parametrize("jobs", [1, 2])
def test_run(tmp_path, jobs):
    (tmp_path / "e.yaml").write_text(EXPERIMENT)
    text = printed(tmp_path, "run", "e.yaml", "--store", "store", "--jobs", jobs)
    assert f"failed: cell on emoji, seed 0: {WRONG}" in text
    why = f"the search for settings failed: the only trial failed with ValueError: {WRONG}"
    assert f"failed: search on emoji, seed 0: {why}" in text
    assert f"search: no settings: {why}" in text
    assert set(check_stored(tmp_path / "store", search=True)) == {"cell", "search"}


def test_run_on_a_cluster(tmp_path):
    distributed = pytest.importorskip("distributed", reason="needs distributed")
    (tmp_path / "e.yaml").write_text(EXPERIMENT)
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
    ) as cluster:
        text = printed(
            tmp_path, "run", "e.yaml", "--store", "store", "--backend", "dask",
            "--scheduler", cluster.scheduler_address,
        )  # fmt: skip
    assert f"failed: cell on emoji, seed 0: {WRONG}" in text
    assert set(check_stored(tmp_path / "store", search=True)) == {"cell", "search"}


@pytest.mark.parametrize("tuned", [False, True])
def test_fit(tmp_path, tuned):
    rows = ["image,text"]
    for number in range(40):
        Image.new("RGB", (16, 16), (number * 6, 99, 255 - number)).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,a picture of colour {number} word{number % 7}")
    (tmp_path / "pairs.csv").write_text("\n".join(rows))
    fixed = WORDS.replace(SVD, f"{SVD}, params: {{n_components: 50000}}")
    text = printed(
        tmp_path, "fit", "cca", "pairs.csv", "--features", "image=grid", "--features", fixed,
        *(["--tune", 2] if tuned else []), "--store", "store", "--save", "winner",
    )  # fmt: skip
    assert WRONG in text and "; the traceback is in " in text
    failed = check_stored(tmp_path / "store", search=tuned)
    assert ("search" in failed) is tuned
    assert not (tmp_path / "winner").exists()
