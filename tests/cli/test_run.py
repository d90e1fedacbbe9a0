"""`crossfit run` as users type it."""

import json

import pytest

SPEC = """\
title: Two
dataset: {name: emoji, subset: {train: 60, test: 30}}
features:
  image: {name: grid}
  text:
    - {name: sklearn.feature_extraction.text.TfidfVectorizer}
    - {name: sklearn.decomposition.TruncatedSVD, params: {n_components: 10}}
seeds: [0, 1]
metrics: [map@all, r@5]
methods:
  - {method: cca, label: CCA, params: {n_components: 5, reg: 1.0}}
  - {method: nosuch, label: none}
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "two.yaml").write_text(SPEC)
    return tmp_path


def test_dry_run_says_what_there_is_to_do_and_does_nothing(run, folder):
    done = run("run", "two.yaml", "--dry-run", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "CCA (image: grid, text: TfidfVectorizer + TruncatedSVD)" in done.stdout
    assert "runs once]  to compute" in done.stdout
    assert "would be skipped: no method 'nosuch' is installed" in done.stdout
    assert "3 cells: 1 to compute, 2 would be skipped" in done.stdout
    assert not (folder / "crossfit-runs").exists()


def test_looks_at_the_test_split_are_counted_whatever_has_been_changed_since(run, folder):
    from crossfit.report import report_runs

    for n, settings in enumerate((["reg=0.5"], ["reg=0.7"], ["reg=0.5"], ["n_components=4"])):
        changed = [word for each in settings for word in ("--set", f"methods.CCA.params.{each}")]
        done = run("run", "two.yaml", *changed, cwd=folder)
        assert done.returncode == 0, done.stderr
        looks = ("once", "2 times", "2 times", "3 times")[n]
        assert f"the split 'test' of emoji has been evaluated {looks} so far" in done.stdout
    # Another run in the same store evaluates the same pairs.
    done = run("run", "two.yaml", "--set", "name=other", "--set", "metrics=[r@1]", cwd=folder)
    assert "the split 'test' of emoji has been evaluated 4 times so far" in done.stdout
    page = report_runs(["two"], folder / "crossfit-runs", folder / "report").read_text("utf-8")
    assert "4 evaluations on the split “test” of emoji" in page
    assert "this report includes 1 of them" in page


def test_run_prints_results_and_the_next_command_and_resumes(run, folder):
    done = run("run", "two.yaml", "--set", "methods.CCA.params.reg=0.5", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "[1/1] CCA on emoji: done in" in done.stderr
    assert "skipped: none: no method 'nosuch' is installed" in done.stderr
    assert "1 done, 2 skipped in crossfit-runs" in done.stdout
    assert "the split 'test' of emoji has been evaluated once so far" in done.stdout
    assert "next: crossfit report two" in done.stdout
    record = json.loads((folder / "crossfit-runs" / "runs" / "two.json").read_text())
    assert record["command"].endswith("run two.yaml --set methods.CCA.params.reg=0.5")
    again = run("run", "two.yaml", "--set", "methods.CCA.params.reg=0.5", cwd=folder)
    assert "0 cells to compute, 1 in the store" in again.stderr
    assert again.stdout == done.stdout
    cached = run("run", "two.yaml", "--set", "methods.CCA.params.reg=0.5", "--dry-run",
                      "--seeds", "0", cwd=folder)  # fmt: skip
    assert "cached" in cached.stdout


def test_warnings_are_printed_once_and_again_for_stored_features(run, folder):
    params = "{vector_size: 4, min_count: 6, epochs: 1, output: mean}"
    args = ["two.yaml", "--set", f"features.text={{name: word-vectors, params: {params}}}"]
    for reg in (1, 2):  # the second one finds the features in the store
        done = run("run", *args, "--set", f"methods.CCA.params.reg={reg}", cwd=folder)
        assert done.returncode == 0, done.stderr
        lines = [line for line in done.stderr.splitlines() if "words are unknown" in line]
        assert all(line.startswith("warning: CCA: ") for line in lines)
        assert len(lines) == len(set(lines)) == 2  # of training and of test texts


def tuned(name):
    space = f"methods.CCA.tune={{{name}: {{int: [1, 2]}}}}"
    return ["two.yaml", "--set", "tuning={trials: 2}", "--set", space]


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["nowhere.yaml"], 1, "there is no experiment file 'nowhere.yaml'"),
        (["nowhere"], 1, "no experiment 'nowhere' is installed"),
        (["two.yaml", "--set", "seed=3"], 1, "unknown key 'seed': did you mean 'seeds'"),
        (["two.yaml", "--set", "methods.CCA.params.n=3"], 1, "two.yaml:11: "),
        (["two.yaml", "--set", "methods.CCA.params.reg=abc"], 1, "must be a number, got 'abc'"),
        (["two.yaml", "--set", "methods.CCA.similarity=cosin"], 1, "must be one of cosine, dot"),
        (["two.yaml", "--set", "dataset.sbuset=3"], 1, "'sbuset': did you mean 'subset'?"),
        (
            ["two.yaml", "--set", "dataset.strict=true"],
            1,
            "there are name, split, subset, label, subsets",
        ),
        (tuned("regg"), 1, "has no parameter 'regg', it has"),
        (tuned("features__text__n"), 1, "not a parameter of the features"),
        (["two.yaml", "--seeds", "a"], 2, "--seeds must have the form"),
        (["two.yaml", "--jobs", "0"], 2, "--jobs"),
        (["two.yaml", "--backend", "dask"], 2, "--scheduler"),
        (["two.yaml", "--scheduler", "tcp://a:1"], 2, "--backend dask"),
        (["two.yaml", "--data", "none.csv"], 2, "does not exist"),
    ],
)
def test_wrong_usage_is_told_in_one_sentence(run, folder, args, code, says):
    done = run("run", *args, "--dry-run", cwd=folder)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "crossfit-runs").exists()


def test_an_experiment_of_which_nothing_can_run_fails(run, folder):
    (folder / "two.yaml").write_text(SPEC.replace("method: cca", "method: also-not"))
    done = run("run", "two.yaml", cwd=folder)
    assert done.returncode == 1
    assert "also-not" in done.stderr
    planned = run("run", "two.yaml", "--dry-run", cwd=folder)
    assert planned.returncode == 1 and "would be skipped" in planned.stdout


def test_own_pairs_need_no_name_in_the_file(run, folder):
    (folder / "mine.yaml").write_text(
        "title: t\nmethods: [{method: cca}]\nfeatures:\n"
        "  a: {name: sklearn.feature_extraction.text.CountVectorizer}\n"
        "  b: {name: sklearn.feature_extraction.text.CountVectorizer}\n"
    )
    rows = "".join(f"w{i % 4} x,y w{i % 4}\n" for i in range(20))
    (folder / "pairs.csv").write_text("a,b\n" + rows)
    without = run("run", "mine.yaml", "--dry-run", cwd=folder)
    assert without.returncode == 1 and "'dataset'" in without.stderr
    done = run("run", "mine.yaml", "--data", "pairs.csv", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "1 done" in done.stdout
    assert "the split 'test' of pairs has been evaluated once so far" in done.stdout
    # A copy of the table, with other settings, is evaluated on the same pairs.
    (folder / "copy.csv").write_text("a,b\n" + rows)
    words = ("run", "mine.yaml", "--data", "copy.csv", "--set", "methods.cca.params.reg=2.0")
    assert "of copy has been evaluated 2 times so far" in run(*words, cwd=folder).stdout
    (folder / "other.csv").write_text("a,b\n" + rows.replace("y", "z"))
    done = run("run", "mine.yaml", "--data", "other.csv", cwd=folder)
    assert "of other has been evaluated once so far" in done.stdout
    unreported = run("report", "mine", cwd=folder)
    assert unreported.returncode == 1
    near = "'mine-copy' or 'mine-other' or 'mine-pairs'"
    assert f"has no run 'mine'; did you mean {near}? (there are: " in unreported.stderr


def test_the_best_method_is_kept_as_a_bundle(run, folder):
    import yaml

    import crossfit
    from crossfit.datasets import load
    from crossfit.experiment import Store
    from crossfit.winners import read_winner

    spec = SPEC.replace(
        "  - {method: nosuch, label: none}\n",
        "  - method: cca\n    label: tuned\n"
        "    tune: {reg: {choice: [5.0, 50.0]}}\n    params: {n_components: 4}\n",
    )
    spec = spec.replace("reg: 1.0", "reg: 1.0e-6") + "tuning: {trials: 2, folds: 2}\n"
    (folder / "two.yaml").write_text(spec)
    done = run("run", "two.yaml", "--save-best", "best", cwd=folder)
    assert done.returncode == 0, done.stderr
    cells = {cell.label: cell for cell in Store(folder / "crossfit-runs").run("two").cells}
    winner = max(cells.values(), key=lambda cell: cell.mean("map@all"))
    said = (
        f"wrote {winner.label}, the best of 2 by map@all on the test pairs, fitted on the training"
    )
    assert said in done.stdout
    found = read_winner(folder / "best")
    kept = found.model
    for row in found.record["measures"]:
        stored = winner.results[row["direction"]][row["measure"]]
        assert (row["value"], row["low"], row["high"], row["n"]) == (
            stored["mean"], stored["low"], stored["high"], stored["n"]
        )  # fmt: skip
    assert len(found.record["measures"]) == 2 * len(winner.results["image2text"])
    assert found.record["beside"].keys() == cells.keys() - {winner.label}
    assert found.record["data"]["groups"]["train"] == 60
    assert found.kind("image") == "picture"
    front = yaml.safe_load(found.card.split("---")[1])
    listed = front["model-index"][0]["results"][0]
    assert (listed["dataset"]["type"], listed["dataset"]["split"]) == ("emoji", "test")
    assert listed["metrics"][0]["args"]["low"] < listed["metrics"][0]["value"]
    assert "the best of 2 methods by map@all on the same test pairs" in found.card
    assert "crossfit run two.yaml --save-best best" in found.card
    test = load("emoji")["test"]
    assert crossfit.similarity(kept, test.views[:4]).shape == (4, 4)
    if winner.label == "tuned":
        assert kept.named_steps["method"].reg == winner.chosen["reg"]
    again = run("run", "two.yaml", "--save-best", "best", cwd=folder)
    assert again.returncode == 2 and "--save-best: 'best' exists already" in again.stderr


def test_what_should_be_done_and_is_not_ends_in_failure(folder, monkeypatch):
    from click.testing import CliRunner

    from crossfit.cli.commands import cli
    from crossfit.experiment import backends
    from crossfit.experiment.task import Outcome

    def lost(listener, tasks, options):
        return (Outcome(task.key, "failed", 0.0, "nowhere to be found") for task in tasks)

    monkeypatch.setattr(backends, "_here", lost)
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(cli, ["run", "two.yaml"])
    assert done.exit_code == 1
    assert "1 pending, 2 skipped" in done.output
    assert "1 cell without a result; repeat the command" in done.output
