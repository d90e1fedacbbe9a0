"""crossfit tune: what it searches and prints, how it resumes, and which input it rejects."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import optuna
import pytest
import yaml
from click.testing import CliRunner
from PIL import Image
from sklearn.base import clone

import crossfit
from crossfit.cli.commands import cli
from crossfit.datasets import load
from crossfit.model_selection import PairKFold, make_retrieval_scorer
from crossfit.winners import evaluate_winner, read_winner

EMOJI = [
    "--dataset", "emoji", "--validation", "val", "--features", "image=grid", "--features",
    "text=sklearn.feature_extraction.text.TfidfVectorizer,"
    "sklearn.decomposition.TruncatedSVD",
]  # fmt: skip


@pytest.fixture
def tune(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        words = ["tune", *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", ["crossfit", *words])
        return CliRunner().invoke(cli, words)

    return call


def test_a_study_is_made_kept_and_goes_on(tune, tmp_path):
    first = tune("cca", *EMOJI, "--trials", 2, "--out", "bundle")
    assert first.exit_code == 0, first.output
    assert re.search(r"2 of 2 trials: 2 complete\nbest map@all 0\.\d{4} with\n", first.output)
    assert "  reg = image: " in first.output and "to continue: crossfit tune cca" in first.output
    assert first.output.rstrip().endswith("--trials 4") and "bundle --trials" not in first.output
    with_space = tune("cca", *EMOJI, "--trials", 3)
    assert "3 of 3 trials" in with_space.output
    storage = f"sqlite:///{tmp_path / 'crossfit-studies.db'}"
    (name,) = optuna.study.get_all_study_names(storage)
    assert f"study {name!r} in sqlite:///crossfit-studies.db" in with_space.output
    assert len(optuna.load_study(study_name=name, storage=storage).trials) == 3
    winner = read_winner(tmp_path / "bundle")
    assert winner.model.score(load("emoji")["val"].views) > 0
    assert winner.kind("image") == "picture" and winner.kind("text") == "text"
    held = load("emoji")["val"]
    plain = evaluate_winner(winner, held, ["map@all", "r@1"]).evaluation
    kept = {(row["direction"], row["measure"]): row for row in winner.record["measures"]}
    for row in plain.rows():
        found = kept[row["direction"], row["metric"]]
        assert (found["value"], found["low"], found["high"], found["n"]) == (
            row["value"], row["low"], row["high"], row["n_queries"]
        )  # fmt: skip
    assert winner.record["measured_on"] == "val" and winner.record["tuning"]["trials"] == 2
    front = yaml.safe_load(winner.card.split("---")[1])
    listed = front["model-index"][0]["results"][0]
    assert listed["dataset"]["name"] == "emoji" and listed["dataset"]["split"] == "val"
    assert (
        listed["metrics"][0]["args"]["level"] == 0.95 and listed["metrics"][0]["args"]["n"] == 163
    )
    assert "the best of 2 trials" in winner.card and winner.record["command"] in winner.card
    assert winner.record["command"].startswith("crossfit tune cca --dataset emoji")
    again = tune("cca", *EMOJI, "--trials", 3, "--save", "bundle")
    assert again.exit_code == 2 and "--save: 'bundle' exists already" in again.output


def test_with_folds_the_measures_are_of_models_that_were_fitted_on_the_other_folds(tune, tmp_path):
    words = [word for word in EMOJI if word not in ("--validation", "val")]
    done = tune("cca", *words, "--trials", 1, "--set", "n_components=8", "--save", "w")
    assert done.exit_code == 0, done.output
    winner = read_winner("w")
    assert winner.record["measured_on"] == "3 folds of train"
    train = load("emoji")["train"]
    values = {"image2text": [], "text2image": []}
    for fit, held in PairKFold(3, shuffle=True, random_state=0).split(
        train.views, train.y, train.views.groups
    ):
        model = clone(winner.model).fit(train.views[fit], train.y[fit])
        views, y = train.views[held], train.y[held]
        scores = crossfit.similarity(model, views, query="image", gallery="text")
        plain = crossfit.evaluate(scores, (y, y), "map@all", names=("image", "text"), ci=None)
        for way, parts in values.items():
            parts.append(plain.per_query[way, "map@all"])
    for row in winner.record["measures"]:
        if row["measure"] == "map@all":
            every = np.concatenate(values[row["direction"]])
            assert row["value"] == pytest.approx(every.mean(), abs=1e-12)
            assert row["n"] == len(every) == 1149 and row["low"] < row["value"] < row["high"]


def test_own_pairs_and_features_of_them_are_measured_and_saved(tune, tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    rows = []
    for i in range(40):
        pixels = (rng.integers(0, 40, (12, 12, 3)) + 5 * i).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"photos/{i}.png")
        rows.append(f"photos/{i}.png,{'light ' * (i // 8)}number {i}")
    Path("pairs.csv").write_text("image,caption\n" + "\n".join(rows) + "\n")
    done = CliRunner().invoke(cli, ["embed", "pairs.csv", "--image", "grid:2", "-o", "features"])
    assert done.exit_code == 0, done.output
    text = "text=sklearn.feature_extraction.text.TfidfVectorizer"
    cells = {}
    for name, words in {"a": ["--data", "pairs.csv", "--features", "image=grid:2"],
                        "b": ["--data", "features"]}.items():  # fmt: skip
        done = tune("cca", *words, "--features", text, "--trials", 1, "--seed", 3, "--save", name)
        assert done.exit_code == 0, done.output
        winner = read_winner(name)
        assert winner.record["kinds"] == {"image": "picture", "text": "text"}
        assert winner.record["data"]["source"] == "pairs.csv"
        cells[name] = winner.record["measures"]
        found = CliRunner().invoke(cli, ["search", name, "light", "--gallery", "photos", "-k", "2"])
        assert found.exit_code == 0 and len(found.output.splitlines()) == 2, found.output
    assert read_winner("a").record["columns"] == {"image": "image", "text": "caption"}
    assert [row["value"] for row in cells["a"]] == [row["value"] for row in cells["b"]]


def test_labels_count_only_for_measures_by_label_as_in_experiments(tune):
    words = ["--trials", 1, "--metric", "map@all", "--metric", "r@5", "--save", "w"]
    done = tune("cca", *EMOJI, *words)
    assert done.exit_code == 0, done.output
    best = re.search(r"best map@all (0\.\d{4}), r@5 (0\.\d+) with", done.output)
    held = load("emoji")["val"]
    model = read_winner("w").model
    for name, y, found in zip(["map@all", "r@5"], [held.y, None], best.groups()):
        score = make_retrieval_scorer(name)(model, held.views, y)
        assert float(found) == pytest.approx(score, abs=5e-5)


def test_what_is_fixed_is_not_searched_and_spaces_can_be_given(tune):
    done = tune("cca", *EMOJI, "--trials", 2, "--set", "n_components=8", "--set", "reg.image=0.5",
                "--set", "reg.text=0.1", "--metric", "r@5", "--study", "mine",
                "--storage", "journal:///s.log")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "best r@5" in done.output and "n_components =" not in done.output
    assert "power = " in done.output and "reg" not in done.output.partition("study")[0]
    other = tune("cca", *EMOJI, "--trials", 2, "--storage", "journal:///s.log",
                 "--space", "reg={float: [0.01, 1], log: true}",
                 "--space", "n_components={choice: [4, 8]}")  # fmt: skip
    assert "reg = 0." in other.output and "n_components = " in other.output
    refused = tune("cca", *EMOJI, "--trials", 2, "--study", "mine",
                   "--storage", "journal:///s.log")  # fmt: skip
    assert isinstance(refused.exception, ValueError)
    assert "the study 'mine' was made with another search space" in str(refused.exception)


def test_importance_is_told_when_there_are_enough_trials(tune):
    done = tune("cca", *EMOJI, "--trials", 10, "--pruner", "none", "--sampler", "random")
    shares = [float(share) for share in re.findall(r"importance (\d\.\d\d)", done.output)]
    assert len(shares) == 3 and sum(shares) == pytest.approx(1, abs=0.02)


def test_several_measures_and_the_front_of_quality_and_size(tune):
    words = "--trials 8 --metric r@5 --metric mrr --against dimensions --sampler nsga2 --space"
    done = tune("cca", *EMOJI, *words.split(), "n_components={int: [2, 32]}")
    assert done.exit_code == 0, done.output
    number = r"[0-9.e-]+"
    assert re.search(rf"best r@5 {number}, mrr {number}, dimensions {number} with", done.output)
    front = re.findall(rf"  r@5 ({number}), mrr {number}, dimensions (\d+): n_comp", done.output)
    qualities, sizes = ([float(row[i]) for row in front] for i in (0, 1))
    assert front and qualities == sorted(qualities, reverse=True)
    assert sizes == sorted(sizes, reverse=True)
    refused = tune("cca", *EMOJI, "--against", "dimensions", "--pruner", "median")
    assert "a pruner compares trials by one value" in str(refused.exception)


def test_the_test_pairs_are_not_even_loaded(tune, monkeypatch):
    from crossfit import datasets

    asked = []

    def spy(name, root=None, **options):
        asked.append(options["subsets"])
        return load(name, root, **options)

    monkeypatch.setattr(datasets, "load", spy)
    assert tune("cca", *EMOJI, "--trials", 1).exit_code == 0
    assert asked == [("train", "val")]
    for option in ("--validation", "--train"):
        words = [word if word != "val" else "test" for word in EMOJI] if option[2] == "v" else [
            *EMOJI, "--train", "test"]  # fmt: skip
        refused = tune("cca", *words)
        assert refused.exit_code == 2 and "must not name the test split" in refused.output


@pytest.mark.parametrize(
    "words, message",
    [
        (["nope"], "no method 'nope' is installed"),
        (["cca", "--features", "image"], "--features must have the form NAME=VALUE, got 'image'"),
        (["cca", "--set", "rge=1"], "rge"),
        (["cca", "--space", "reg={float: [1]}"], "must be [low, high]"),
        (
            ["cca", "--validation", "dev"],
            "subsets of data set 'emoji' must be some of train, val, test",
        ),
        (["cca", *EMOJI[4:], "--metric", "acc"], "acc"),
        (["cca", "--features", "image=missing"], "no extractor 'missing' is installed"),
        (["cca", "--storage", "file.db"], "storage must be a URL"),
        (["cca", "--storage", "sqllite:///file.db"], "did you mean 'sqlite'"),
        (
            ["cca", "--storage", "journal:///"],
            "does not name a file; name one as in journal:///study.log",
        ),
        (
            [
                "kcca",
                "--set",
                "kernel=rbf",
                "--space",
                "degree={int: [2, 3], when: {kernel: poly}}",
            ],
            "'degree' is never searched",
        ),
        (
            [
                "kcca",
                "--space",
                "kernel={choice: [rbf, poly]}",
                "--space",
                "degree={int: [2, 3], when: {kernel: ploy}}",
            ],
            "'degree' is never searched, because its condition requires 'kernel' to be 'ploy'",
        ),
        (["cca", "--space", "reg={choice: {when: 1, b: 2}}"], "must not name an option 'when'"),
        (["cca", "--space", "reg={choice: {}}"], "choice"),
        (["cca", "--trials", "0"], "0 is not in the range"),
        (["cca", "--seed", "4294967296"], "4294967296 is not in the range"),
        (["cca", "--space", "reg=3"], "--space reg: must be a mapping, got 3"),
        (["cca"], "CCA: view 'image' must be a numeric array of shape (n, d)"),
        (["cca", "--features", "image=grid"], "; extract features first, by --features"),
        (
            ["cca", "--features", "image=grid", "--features", "txt=characters"],
            "--features name the view 'txt', but the pairs have image, text",
        ),
        (["cca", "--epochs"], "--epochs is for neural methods, and cca has no parameter"),
        (["cca", "--validation", "train"], "--train and --validation both name 'train'"),
        (["cca", "--out", "file/bundle"], "file' is not a folder"),
    ],
)
def test_refusals(tune, tmp_path, words, message):
    (tmp_path / "file").touch()
    done = tune(*words, "--dataset", "emoji")
    assert done.exit_code != 0
    assert message in done.output + str(done.exception)


def test_pairs_without_labels_are_refused_before_the_first_trial(tune, tmp_path):
    table = tmp_path / "pairs.csv"
    rows = "".join(f"{i}.png,caption {i},{'train' if i < 8 else 'test'}\n" for i in range(10))
    table.write_text("image,text,split\n" + rows)
    for i in range(10):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{i}.png")
    done = tune("sm", "--data", table, "--features", "image=grid", "--trials", 1)
    assert "sm requires labels, but the data set has none" in done.output + str(done.exception)
    assert not list(tmp_path.glob("*.db"))


def test_own_pairs_are_tuned_and_the_test_pairs_left_out(tune, tmp_path):
    rows = "".join(f"w{i % 7} x{i % 3},y w{i % 7} z{i % 3}\n" for i in range(60))
    (tmp_path / "pairs.csv").write_text("a,b\n" + rows)
    words = [word for view in "ab" for word in (
        "--features", f"{view}=sklearn.feature_extraction.text.CountVectorizer")]  # fmt: skip
    done = tune("cca", "--data", "pairs.csv", *words, "--trials", 2, "--save", "bundle")
    assert done.exit_code == 0, done.output
    assert "wrote the method with the best settings, fitted on train, to bundle" in done.output
    winner = crossfit.load(tmp_path / "bundle")
    assert crossfit.similarity(winner, crossfit.Views(a=["w1 x2"], b=["y w1 z2"])).shape == (1, 1)
    from crossfit.cli.tune import _own_pairs

    assert len(_own_pairs("pairs.csv", ["train"])["train"]) == 48
    for wrong, message in (
        ([], "give the pairs by one of --dataset NAME and --data FILE"),
        (["--data", "pairs.csv", "--dataset", "emoji"], "give the pairs by one of"),
        (["--data", "pairs.csv", "--split", "official"], "belong to --dataset"),
        (["--data", "pairs.csv", "--validation", "val"], "has no split 'val'; its splits are"),
    ):
        refused = tune("cca", *wrong)
        assert refused.exit_code != 0
        assert message in refused.output + str(refused.exception)


def test_what_is_fixed_decides_conditions():
    from crossfit.cards import Choice, Float
    from crossfit.cli.tune import _pipeline

    given = {"dataset": "emoji", "features": {}, "space": {}, "seed": 0}
    sigma = Float(0.1, 10.0, log=True)
    _, space = _pipeline("ml-cca", params={"label_similarity": "exponential"}, **given)
    assert space["method__sigma"] == sigma and "method__label_similarity" not in space
    _, space = _pipeline("ml-cca", params={"label_similarity": "cosine"}, **given)
    assert "method__sigma" not in space and "method__label_similarity" not in space
    named = {"kernel": {"choice": {"bell": "rbf", "flat": "linear"}},
             "gamma": {"float": [0.1, 10.0], "log": True, "when": {"kernel": "bell"}}}  # fmt: skip
    _, space = _pipeline("kcca", params={}, **{**given, "space": named})
    assert space["method__kernel"] == Choice(bell="rbf", flat="linear")
    assert space["method__gamma"] == Float(0.1, 10.0, log=True, when={"method__kernel": "bell"})


def test_the_address_of_a_study_is_checked_before_the_data_are_loaded(tune, monkeypatch):
    from crossfit import datasets

    monkeypatch.setattr(datasets, "load", lambda *a, **k: pytest.fail("the data were loaded"))
    done = tune("cca", *EMOJI, "--storage", "sqlite:////nowhere/at/all.db")
    assert isinstance(done.exception, ValueError) and "not a folder" in str(done.exception)


def test_passwords_are_not_shown():
    from crossfit.model_selection.storages import without_password

    assert without_password("postgresql://me:secret@host/db") == "postgresql://me@host/db"
    assert without_password("sqlite:///a.db") == "sqlite:///a.db"


@pytest.mark.slow
def test_ctrl_c_keeps_the_study_and_says_how_it_goes_on(tmp_path):
    command = [sys.executable, "-c", "from crossfit.cli import main; main()", "tune", "cca", *EMOJI]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    url = f"sqlite:///{tmp_path / 'crossfit-studies.db'}"
    storage = optuna.storages.RDBStorage(url)  # makes the tables, once
    process = subprocess.Popen(
        [*command, "--trials", "5000"], cwd=tmp_path, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.time() + 120
    while time.time() < deadline and process.poll() is None:
        time.sleep(0.3)
        with contextlib.suppress(optuna.exceptions.StorageInternalError):  # locked just now
            names = optuna.study.get_all_study_names(storage)
            if names and len(optuna.load_study(study_name=names[0], storage=storage).trials) > 2:
                break
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    found = re.search(r"interrupted after (\d+) trials; the study 'cca-\w+' is in", err)
    assert found and "to continue: crossfit tune cca" in err and "--trials 5000" in err
    n = int(found[1]) + 1
    done = subprocess.run(
        [*command, "--trials", str(n)], cwd=tmp_path, env=environment, capture_output=True,
        text=True, timeout=120, check=False,
    )  # fmt: skip
    assert f"{n} of {n} trials" in done.stdout, done.stderr
    assert len(optuna.study.get_all_study_names(url)) == 1
