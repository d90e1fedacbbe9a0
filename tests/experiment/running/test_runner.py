"""Running experiments: results, resuming, several runners, tuning, features shared."""

import dataclasses
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest

import crossfit
from crossfit._processes import started
from crossfit.experiment import Experiment, Store, identity, plan, planner, run
from crossfit.experiment.cell import compute
from crossfit.experiment.data import load_splits
from crossfit.experiment.runner import Listener
from crossfit.experiment.task import PairSource
from crossfit.metrics import abstention, chance_level, evaluate
from crossfit.report import report_runs

METHODS = [
    {"method": "tiny", "label": "A"},
    {"method": "tiny-fixed", "label": "B"},
]


def experiment(methods=METHODS, **more):
    given = {"title": "Tiny", "dataset": "tiny-data", "methods": methods, "seeds": [0, 1]}
    return Experiment(**{**given, "metrics": ["map@all", "r@5"], **more})


def results(record):
    return {(c.label, c.seed): c.results for c in record.cells}


def fits(log):
    return Counter(log.read_text().split("\n")[:-1]) if log.exists() else Counter()


def test_a_run_gives_what_a_few_lines_by_hand_give(tiny, tmp_path):
    import tinyplug

    record = run(experiment(), tmp_path / "s")
    assert [(c.label, c.seed, c.status) for c in record.cells] == [
        ("A", 0, "done"), ("A", 1, "done"), ("B", 0, "done"),
    ]  # fmt: skip
    ds = tinyplug.load(None)
    train, test = ds["train"], ds["test"]
    scores = tinyplug.Tiny(random_state=1).fit(train.views, train.y).similarity(test.views)
    by_label = evaluate(scores, (test.y, test.y), "map@all", names=("image", "text"))
    by_pair = evaluate(scores, np.eye(30), ("r@5", "meanr"), names=("image", "text"))
    cell = record.cells[1]
    arrays = cell.arrays()
    for direction in ("image2text", "text2image"):
        found = cell.results[direction]
        assert found["map@all"]["mean"] == pytest.approx(by_label.mean(direction, "map@all"))
        low, high = by_label.interval(direction, "map@all")
        assert (found["map@all"]["low"], found["map@all"]["high"]) == pytest.approx((low, high))
        assert found["r@5"]["mean"] == pytest.approx(by_pair.mean(direction, "r@5"))
        np.testing.assert_allclose(
            arrays[f"{direction}|map@all"], by_label.per_query[direction, "map@all"]
        )
        matrix = scores if direction == "image2text" else scores.T
        np.testing.assert_array_equal(
            arrays[f"{direction}|top"], np.argsort(-matrix, axis=1, kind="stable")[:, :10]
        )
        counts = np.bincount(arrays[f"{direction}|top"].ravel(), minlength=30)
        assert cell.hubness[direction]["max"] == counts.max()
        assert cell.hubness[direction]["never"] == pytest.approx((counts == 0).mean())
        certain = abstention(scores, (test.y, test.y), names=("image", "text"), ci=None)
        assert cell.abstention[direction] == pytest.approx(
            {name: certain.nauc(direction, name) for name in ("max", "std", "diff1")}
        )
        assert cell.chance[direction]["map@all"] == pytest.approx(
            chance_level((test.y, test.y)).mean(None, "map@all")
        )
    assert cell.relevant == {
        "map@all": "label", "r@5": "pair", "first": "label", "pr curve": "label",
        "recall curve": "pair",
    }  # fmt: skip
    assert cell.n == {"train": 60, "test": {"image": 30, "text": 30}}
    assert cell.size["dimensions"] == 4
    assert cell.environment["packages"]["tinyplug"] == "1.0"
    assert cell.environment["devices"] == []  # it has no networks
    assert set(cell.timing) >= {"data", "features", "tune", "fit", "score", "evaluate", "total"}


def test_further_measures_are_columns_like_any_other(tiny, tmp_path):
    metrics = ["map@R", "p@R", "map@all:adjusted", "meanr:adjusted", "tied"]
    record = run(experiment(metrics=metrics, seeds=[0]), tmp_path / "s")
    assert [c.status for c in record.cells] == ["done", "done"]
    for cell in record.cells:
        for direction in ("image2text", "text2image"):
            chance = cell.chance[direction]
            assert 0 < chance["map@r"] < chance["p@r"] < 0.5
            assert [chance[name] for name in record.spec["metrics"][2:]] == pytest.approx([0, 0, 0])
            assert cell.results[direction]["tied"]["mean"] == 0
    page = report_runs([record.name], tmp_path / "s", tmp_path / "report")
    text = page.read_text(encoding="utf-8")
    for words in ("mAP@R", "P@R", "adjusted mAP", "adjusted MeanR", "tied", "Abstention"):
        assert words in text


def test_a_seed_that_changes_nothing_runs_once_and_says_so(tiny, tmp_path):
    record = run(experiment(), tmp_path / "s")
    assert [c.note for c in record.cells] == ["", "", "draws nothing at random: runs once"]
    assert fits(tiny) == {"Tiny 1.0 0": 1, "Tiny 1.0 1": 1, "Fixed 1.0 0": 1}
    assert len(record.store.test_evaluations("tiny-data", "test")) == 3


def test_what_is_there_is_not_computed_again_and_what_is_new_is(tiny, tmp_path):
    first = run(experiment(), tmp_path / "s")
    again = run(experiment(), tmp_path / "s")
    assert results(first) == results(again)
    assert sum(fits(tiny).values()) == 3
    more = run(experiment(seeds=[0, 1, 2]), tmp_path / "s")
    assert sum(fits(tiny).values()) == 4
    assert results(more)["A", 1] == results(first)["A", 1]
    changed = {"name": "tiny-data", "noise": 2.0}
    run(experiment(dataset=changed), tmp_path / "s")
    assert sum(fits(tiny).values()) == 7
    assert len(Store(tmp_path / "s").test_evaluations()) == 7


def test_two_labels_for_the_same_cell_are_computed_once(tiny, tmp_path):
    record = run(experiment([*METHODS, {"method": "tiny-fixed", "label": "C"}]), tmp_path / "s")
    assert results(record)["B", 0] == results(record)["C", 0]
    assert fits(tiny)["Fixed 1.0 0"] == 1


def test_keys_follow_parameters_data_protocol_and_nothing_else(tiny, tmp_path):
    def key(**more):
        return plan(experiment(METHODS[1:], **more), tmp_path / "s")[0].key

    base = key()
    assert key(title="Another", name="n", baseline="B", seeds=[5]) == base
    others = [
        key(dataset={"name": "tiny-data", "noise": 2.0}),
        key(dataset={"name": "tiny-data", "subset": {"train": 30}}),
        key(metrics=["map@all"]),
        key(relevance="pair"),
        key(ties="stable"),
        key(splits={"test": "val"}),
        key(features={"text": "sklearn.preprocessing.StandardScaler"}),
    ]
    assert len({base, *others}) == 8
    # A default that is written explicitly is the same setting.
    written = [{"method": "tiny-fixed", "label": "B", "params": {"power": 1.0}}]
    assert plan(experiment(written), tmp_path / "s")[0].key == base


@pytest.mark.parametrize("given", ["params", "tune"])
def test_keys_follow_the_content_of_files_that_parameters_name(tiny, tmp_path, given):
    weights = tmp_path / "weights.pth"
    method = {"method": "tiny", "params": {"start": str(weights)}}
    if given == "tune":
        method = {"method": "tiny", "tune": {"start": {"choice": [str(weights), None]}}}
        method["tuning"] = {"trials": 1, "folds": 2}
    e = experiment([method], seeds=[0])
    keys = []
    for content in ("one", "two", "one"):
        weights.write_text(content)
        (cell,) = run(e, tmp_path / "s").cells
        assert cell.status == "done"
        keys.append(cell.key)
    assert keys[0] == keys[2] != keys[1]


def test_a_failure_keeps_its_traceback_and_is_retried_on_request(tiny, tmp_path, monkeypatch):
    e = experiment([*METHODS, {"method": "tiny-fails", "label": "F"}])
    record = run(e, tmp_path / "s")
    failed = record.cells[-1]
    assert failed.status == "failed"
    assert "ArithmeticError: no good today" in failed.traceback
    assert [c.status for c in record.done] == ["done"] * 3
    monkeypatch.setenv("TINY_HEALED", "1")
    assert run(e, tmp_path / "s").cells[-1].status == "failed"
    assert fits(tiny)["Fails"] == 1
    assert run(e, tmp_path / "s", retry_failed=True).cells[-1].status == "done"


def test_what_cannot_run_is_skipped_with_the_reason(tiny, tmp_path):
    methods = [
        {"method": "tiny-labels", "label": "L"},
        {"method": "tiny-fixed", "label": "B"},
        {"method": "not-there", "label": "N"},
        {"method": "crossfit-nowhere:thing", "label": "O"},
    ]
    e = experiment(methods, datasets=["tiny-bare", "wikipedia"], dataset=None)
    record = run(e, tmp_path / "s", root=tmp_path)
    status = {(c.dataset, c.label): (c.status, c.reason) for c in record.cells}
    assert status["tiny-bare", "B"] == ("done", "")
    assert "requires labels" in status["tiny-bare", "L"][1]
    assert "no method 'not-there' is installed" in status["tiny-bare", "N"][1]
    assert "which is not installed; install crossfit-nowhere" in status["tiny-bare", "O"][1]
    assert "wikipedia" in status["wikipedia", "B"][1]
    assert all(s == "skipped" for key, (s, _) in status.items() if key != ("tiny-bare", "B"))


def test_settings_are_searched_once_for_all_seeds_and_never_on_test_pairs(tiny, tmp_path):
    import tinyplug

    methods = [{"method": "tiny", "label": "T", "tune": {"power": {"float": [0.5, 2.0]}}}]
    e = experiment(methods, seeds=[0, 1, 2], tuning={"trials": 4, "folds": 3})
    seen = []
    similarity = tinyplug.Tiny.score_items

    def spy(self, queries, query, gallery, view, chunk_size=None, out=None):
        seen.append(len(queries))
        return similarity(self, queries, query, gallery, view, chunk_size, out)

    tinyplug.Tiny.score_items = spy
    try:
        record = run(e, tmp_path / "s")
    finally:
        tinyplug.Tiny.score_items = similarity
    # Folds of the 60 training pairs, then the 30 test pairs once for each seed.
    assert Counter(seen) == {20: 12, 30: 3}
    assert sum(fits(tiny).values()) == 4 * 3 + 3
    assert len({c.chosen["power"] for c in record.cells}) == 1
    assert len(record.cells[0].trials()) == 4
    assert record.cells[0].tuning["trials"] == 4
    best = max(trial["value"] for trial in record.cells[0].trials())
    assert record.cells[0].tuning["best_value"] == pytest.approx(best)
    assert len(record.store.test_evaluations()) == 3
    run(experiment(methods, seeds=[0, 1, 2, 3], tuning={"trials": 4, "folds": 3}), tmp_path / "s")
    assert sum(fits(tiny).values()) == 4 * 3 + 4


class Events(Listener):
    """The events of a run, in order."""

    def __init__(self):
        self.seen = []

    def started(self, cell, searching):
        self.seen.append(("search" if searching else "cell", cell.label))

    def trial(self, cell, done, wanted):
        self.seen.append((f"{done} of {wanted}", cell.label))

    def finished(self, cell, outcome, left):
        self.seen.append((outcome.status, cell.label))


def test_the_cells_of_a_method_come_before_the_search_of_the_next_one(tiny, tmp_path):
    space = {"power": {"float": [0.5, 2.0]}}
    methods = [{"method": "tiny", "label": label, "tune": space} for label in "AB"]
    methods[1]["params"] = {"sleep": 0.01}
    events = Events()
    run(experiment(methods, tuning={"trials": 2, "folds": 2}), tmp_path / "s", listener=events)
    parts = ["search", "1 of 2", "2 of 2", "cell", "done", "cell", "done"]
    assert events.seen == [(part, label) for label in "AB" for part in parts]


def test_a_search_of_another_runner_holds_up_only_its_own_cells(tiny, tmp_path):
    space = {"power": {"float": [0.5, 2.0]}}
    methods = [{"method": "tiny", "label": label, "tune": space} for label in "AB"]
    methods[1]["params"] = {"sleep": 0.01}
    e = experiment(methods, seeds=[0], tuning={"trials": 1, "folds": 2})
    store = Store(tmp_path / "s")
    first, _ = plan(e, store)
    elsewhere = store.claim(f"search-{first.search_key}")

    class Releases(Events):
        def finished(self, cell, outcome, left):
            super().finished(cell, outcome, left)
            if cell.label == "B":
                elsewhere.release()

    events = Releases()
    record = run(e, store, listener=events)
    assert [label for status, label in events.seen if status == "done"] == ["B", "A"]
    assert [cell.status for cell in record.cells] == ["done", "done"]


def test_a_search_that_is_killed_continues_with_its_trials(tiny, tmp_path):
    spec = tmp_path / "e.yaml"
    spec.write_text(
        "title: t\ndataset: tiny-data\nseeds: [0]\ntuning: {trials: 6, folds: 2, sampler: random}\n"
        "methods: [{method: tiny, params: {sleep: 0.2}, tune: {power: {float: [0.5, 2.0]}}}]\n"
    )
    command = [sys.executable, "-c", "from crossfit.cli import main; main()", "run", str(spec)]
    process = subprocess.Popen([*command, "--store", str(tmp_path / "s")])
    deadline = time.monotonic() + 120
    while sum(fits(tiny).values()) < 5:  # the third trial has begun
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait(30)
    begun = sum(fits(tiny).values())
    (study,) = (tmp_path / "s" / "studies").glob("*.db")
    (cell,) = run(Experiment.from_file(spec), tmp_path / "s").cells
    complete = [trial for trial in cell.trials() if trial["state"] == "complete"]
    assert len(complete) == 6 and cell.tuning["trials"] == 6
    assert len({trial["params"]["power"] for trial in complete}) == 6
    # At least the two finished trials were not repeated, and the cell is fitted once.
    assert sum(fits(tiny).values()) - begun <= 4 * 2 + 1
    assert not study.exists()


@pytest.mark.parametrize("scheme", ["sqlite", "journal"])
def test_a_failed_search_whose_study_is_kept_is_retried(tiny, tmp_path, monkeypatch, scheme):
    methods = [{"method": "tiny-fails", "label": "F", "tune": {"power": {"float": [0.5, 2.0]}}}]
    storage = f"{scheme}:////{tmp_path}/study"
    e = experiment(methods, tuning={"trials": 2, "folds": 2, "storage": storage})
    failed = run(e, tmp_path / "s").cells[0]
    assert "all 2 trials failed" in failed.traceback
    monkeypatch.setenv("TINY_HEALED", "1")
    assert run(e, tmp_path / "s").cells[0].status == "failed"
    (cell,) = run(e, tmp_path / "s", retry_failed=True).cells
    assert (cell.status, cell.tuning["trials"]) == ("done", 2)
    assert [trial["state"] for trial in cell.trials()] == ["complete"] * 2


@pytest.mark.parametrize(
    ("storage", "says"),
    [
        ("sqlite:////nowhere/x.db", "names a file in '/nowhere', which is not a folder"),
        ("sqllite:///x.db", "did you mean 'sqlite'"),
        ("journal:///", "does not name a file"),
    ],
)
def test_an_address_that_cannot_hold_a_study_ends_a_run_before_it_begins(
    tiny, tmp_path, storage, says
):
    methods = [{"method": "tiny-fixed", "label": "T", "tune": "default"}]
    e = experiment(methods, tuning={"trials": 2, "folds": 2, "storage": storage})
    with pytest.raises(ValueError, match=says):
        run(e, tmp_path / "s")
    assert not fits(tiny)


def test_tuning_on_validation_pairs(tiny, tmp_path):
    methods = [{"method": "tiny-fixed", "label": "T", "tune": "default"}]
    record = run(experiment(methods, tuning={"trials": 3, "validation": True}), tmp_path / "s")
    assert record.cells[0].tuning["on"] == "validation"
    assert sum(fits(tiny).values()) == 3 + 1
    no_validation = experiment(
        methods, tuning={"trials": 3, "validation": True}, splits={"validation": None}
    )
    assert "no" in run(no_validation, tmp_path / "s").cells[0].reason


@pytest.mark.parametrize("defaults", [None, False])
def test_the_methods_own_settings_are_the_first_trial_and_may_win(tiny, tmp_path, defaults):
    bad = {"n_components": {"int": [1, 1]}, "reg": {"float": [1e5, 1e6], "log": True}}
    scaler = {"name": "sklearn.preprocessing.StandardScaler"}
    more = {} if defaults is None else {"defaults": defaults}
    e = experiment(
        [{"method": "cca", "label": "CCA", "tune": bad}, {"method": "cca", "label": "untuned"}],
        features={"image": scaler, "text": scaler},
        tuning={"trials": 3, "folds": 2, **more},
    )
    record = run(e, tmp_path / "s")
    tuned, plain = record.cells
    assert tuned.status == plain.status == "done", (tuned.problem, plain.problem)
    assert len(tuned.trials()) == tuned.tuning["trials"] == 3
    first = tuned.trials()[0]["params"]
    if defaults is None:
        assert first == {} and tuned.chosen == {"n_components": None, "reg": 3.0}
        assert tuned.results == plain.results
    else:
        assert set(first) == set(tuned.chosen) == {"n_components", "reg"}
        assert tuned.chosen["n_components"] == 1


def test_a_search_against_costs_keeps_its_front(tiny, tmp_path):
    from crossfit.report import report_runs
    from crossfit.report.front import front_of

    scaler = {"name": "sklearn.preprocessing.StandardScaler"}
    e = experiment(
        [{"method": "cca", "label": "CCA", "tune": {"n_components": {"int": [1, 4]}}}],
        features={"image": scaler, "text": scaler},
        tuning={"trials": 4, "folds": 2, "against": ["dimensions"], "sampler": "grid"},
    )
    record = run(e, tmp_path / "s")
    (cell,) = record.cells
    assert cell.status == "done", cell.problem
    trials = cell.trials()
    assert sorted(t["scores"]["dimensions"] for t in trials) == [1, 2, 3, 4]
    assert cell.tuning["against"] == ["dimensions"]
    best = max(t["value"] for t in trials)
    assert cell.tuning["best_value"] == best
    found = {t["number"]: (t["value"], t["scores"]["dimensions"]) for t in trials}
    naive = [
        number
        for number, (value, size) in found.items()
        if not any(other >= value and smaller < size for other, smaller in found.values())
    ]
    front = front_of(trials)
    assert sorted(t["number"] for t in front) == sorted(naive)
    page = report_runs([record.name], tmp_path / "s", tmp_path / "report").read_text("utf-8")
    assert "Quality against cost" in page and "Pareto front of CCA" in page
    for trial in front:
        assert f"n_components={trial['params']['n_components']}" in page.replace("<wbr>", "")


def test_features_are_fitted_on_training_rows_and_computed_once(tiny, tmp_path, monkeypatch):
    import tinyplug
    from sklearn.preprocessing import StandardScaler

    fitted = []
    fit = StandardScaler.fit

    def spy(self, X, y=None, sample_weight=None):
        fitted.append(len(X))
        return fit(self, X, y, sample_weight)

    monkeypatch.setattr(StandardScaler, "fit", spy)
    scaler = {"name": "sklearn.preprocessing.StandardScaler"}
    e = experiment(features={"image": scaler, "text": [scaler]}, seeds=[0, 1, 2])
    record = run(e, tmp_path / "s")
    assert fitted == [60, 60]
    ds = tinyplug.load(None)
    train, test = ds["train"].views, ds["test"].views
    scale = {name: fit(StandardScaler(), train[name]) for name in train.names}
    views = [v.map(lambda values, name: scale[name].transform(values)) for v in (train, test)]
    model = tinyplug.Fixed().fit(views[0])
    y = ds["test"].y
    by_hand = evaluate(model.similarity(views[1]), (y, y), names=("image", "text"))
    assert results(record)["B", 0]["image2text"]["map@all"]["mean"] == pytest.approx(
        by_hand.mean("image2text", "map@all")
    )


def test_folds_do_not_see_features_fitted_on_the_whole(tiny, tmp_path, monkeypatch):
    from sklearn.preprocessing import StandardScaler

    fitted = []
    fit = StandardScaler.fit
    monkeypatch.setattr(
        StandardScaler,
        "fit",
        lambda self, X, y=None, sample_weight=None: fitted.append(len(X)) or fit(self, X),
    )
    methods = [{"method": "tiny-fixed", "label": "T", "tune": "default"}]
    run(
        experiment(
            methods,
            features={"image": "sklearn.preprocessing.StandardScaler"},
            tuning={"trials": 4, "folds": 3},
        ),
        tmp_path / "s",
    )
    # Once per fold, whatever the number of trials, and once for the final fit.
    assert Counter(fitted) == {40: 3, 60: 1}


@pytest.mark.parametrize("kind", ["dense", "csr", "ragged", "channels"])
def test_features_of_every_form_come_back_from_the_store(tmp_path, kind):
    import scipy.sparse as sp

    from crossfit import Ragged
    from crossfit.experiment.features import _is_storable, _read, _write
    from crossfit.views import Channels

    rng = np.random.default_rng(0)
    dense = rng.normal(size=(5, 3)).astype(np.float32)
    ragged = Ragged(
        rng.normal(size=(7, 2)), [0, 2, 2, 4, 6, 7], {"boxes": np.arange(28).reshape(7, 4),
                                                      "vocabulary": ("a", "b")},
    )  # fmt: skip
    values = {
        "dense": dense,
        "csr": sp.csr_matrix(dense * (dense > 0)),
        "ragged": ragged,
        "channels": Channels({"a": dense, "b": ragged}),
    }[kind]
    assert _is_storable(values)
    _write(values, tmp_path)
    found = _read(tmp_path)

    def same(a, b):
        assert type(a) is type(b)
        if isinstance(a, Channels):
            for name in a.names:
                same(a[name], b[name])
        elif isinstance(a, Ragged):
            np.testing.assert_array_equal(a.values, b.values)
            np.testing.assert_array_equal(a.offsets, b.offsets)
            np.testing.assert_array_equal(a.info["boxes"], b.info["boxes"])
            assert a.info["vocabulary"] == b.info["vocabulary"]
        elif sp.issparse(a):
            assert (a != b).nnz == 0
        else:
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype

    same(values, found)


def test_scores_too_large_for_memory_give_the_same_results(tiny, tmp_path, monkeypatch):
    from crossfit.experiment import evaluate as module

    (task,) = plan(experiment(METHODS[1:]), tmp_path / "s")
    whole, _ = compute(task, Store(tmp_path / "s"))
    monkeypatch.setattr(module, "_IN_MEMORY", 100)
    monkeypatch.setattr(module, "_BLOCK", 4 * 30 * 7)
    blocks, extras = compute(task, Store(tmp_path / "s"))
    assert blocks["results"] == whole["results"]
    assert blocks["curves"] == whole["curves"]
    assert extras["arrays"]["text2image|top"].shape == (30, 10)


def test_subsets_keep_groups_together_and_are_the_same_every_time(tiny):
    def source(**subset):
        return PairSource("tiny-data", {}, subset, {})

    one = load_splits(source(train=20, test=10)).splits
    assert (len(one["train"]), len(one["test"]), len(one["validation"])) == (20, 10, 24)
    whole = load_splits(source()).splits["train"]
    rows = [np.flatnonzero((whole.views["image"] == row).all(1))[0]
            for row in one["train"].views["image"]]  # fmt: skip
    assert rows == sorted(rows)
    with pytest.raises(ValueError, match="subset requires 99 groups"):
        load_splits(source(test=99))
    with pytest.raises(ValueError, match="names 'dev'"):
        load_splits(source(dev=9))


def test_roles_that_share_a_split_have_groups_of_their_own(tiny):
    shared = {"train": "train", "validation": "train", "test": "test"}
    sizes = {"train": 40, "validation": 15}
    found = load_splits(PairSource("tiny-data", {}, sizes, shared)).splits
    alone = load_splits(PairSource("tiny-data", {}, {"train": 40}, {})).splits
    rows = {role: set(found[role].views["image"][:, 0]) for role in sizes}
    assert [len(found[role]) for role in sizes] == [40, 15]
    assert not rows["train"] & rows["validation"]
    assert rows["train"] == set(alone["train"].views["image"][:, 0])
    for subset, says in (
        ({"train": 40}, "the number of groups that validation draws"),
        ({"train": 40, "validation": 21}, "21 groups of .* after the 40 of another role"),
    ):
        with pytest.raises(ValueError, match=says):
            load_splits(PairSource("tiny-data", {}, subset, shared))


def test_folds_that_the_data_set_names_are_held_out_one_by_one(tiny, tmp_path):
    methods = [{"method": "tiny-fixed", "label": "T", "tune": "default"}]
    record = run(experiment(methods, tuning={"trials": 2, "folds": "part"}), tmp_path / "s")
    assert record.cells[0].tuning["on"] == "every part of train"
    # Three parts are held out in each trial, and the best method is fitted once.
    assert sum(fits(tiny).values()) == 2 * 3 + 1
    unnamed = experiment(methods, tuning={"trials": 2, "folds": "year"})
    assert "have part" in run(unnamed, tmp_path / "s").cells[0].reason


def test_epochs_are_chosen_with_the_other_settings(tmp_path):
    pytest.importorskip("crossfit_alcca")
    method = {
        "method": "acmr", "params": {"hidden": 8, "width": 4, "max_epochs": 4, "device": "cpu"},
        "tune": {"lr": {"choice": [1e-3, 1e-2]}},
    }  # fmt: skip
    features = {"image": "grid", "text": "sklearn.feature_extraction.text.HashingVectorizer"}
    features["text"] = [
        {"name": features["text"], "params": {"n_features": 64}},
        {"name": "sklearn.decomposition.TruncatedSVD", "params": {"n_components": 8}},
    ]
    given = {
        "title": "Epochs", "methods": [method], "features": features,
        "dataset": {"name": "emoji", "subset": {"train": 60, "val": 30, "test": 30}},
        "tuning": {"validation": True, "sampler": "grid", "refit_epochs": True},
    }  # fmt: skip
    (cell,) = run(Experiment(**given), tmp_path / "s").cells
    assert cell.tuning["trials"] == 2
    assert len(cell.history()) == cell.chosen["max_epochs"] <= 4


def test_own_pairs_take_the_place_of_the_data_set(tmp_path):
    table = tmp_path / "pairs.csv"
    words = ["red", "blue", "green", "round", "square", "small", "large", "old"]
    rng = random.Random(0)
    rows = [rng.sample(words, 3) for _ in range(60)]
    lines = [f"{' '.join(row)},{' '.join(reversed(row))},g{i // 2}" for i, row in enumerate(rows)]
    table.write_text("question,answer,group\n" + "\n".join(lines))
    vectors = {"name": "sklearn.feature_extraction.text.TfidfVectorizer"}
    dense = {"name": "sklearn.decomposition.TruncatedSVD", "params": {"n_components": 6}}
    e = Experiment(title="Own", dataset="emoji", seeds=[0], metrics=["r@5"],
                   features={"question": [vectors, dense], "answer": [vectors, dense]},
                   methods=[{"method": "cca", "params": {"n_components": 5}}])  # fmt: skip
    record = run(e, tmp_path / "s", data=table)
    (cell,) = record.cells
    assert (cell.status, cell.dataset, record.name) == ("done", "pairs", "own-pairs")
    assert cell.n["train"] == 48 and cell.n["test"] == {"question": 12, "answer": 12}
    assert cell.results["question2answer"]["r@5"]["mean"] > 0.6
    assert record.data == str(table)
    lines[0] = "other words," + lines[0].partition(",")[2]
    table.write_text("question,answer,group\n" + "\n".join(lines))
    assert run(e, tmp_path / "s", data=table).cells[0].key != cell.key


def test_own_pairs_with_other_separators_and_headers(tmp_path):
    from crossfit.experiment.own import read_own

    for name in "abc":
        (tmp_path / f"{name}.png").touch()
    rows = "a.png;one, two;k\nb.png;three;l\nc.png;four;l\n"
    for name, header in (("pairs.csv", "image;text;label"), ("loud.csv", "Image; TEXT ;Label")):
        table = tmp_path / name
        table.write_text(f"{header}\n{rows}")
        ds = read_own(str(table), {}, {})
        assert ds["train"].views.names == ("image", "text")
        assert (len(ds["train"]), len(ds["test"])) == (2, 1) and ds["test"].y is not None
    table.write_bytes("image,text\na.png,一只红色的大猫\n".encode("gb18030"))
    with pytest.raises(ValueError, match=r"loud\.csv' is not a text in UTF-8.*'gb18030'"):
        read_own(str(table), {}, {})


def test_a_plan_knows_that_raw_views_need_features(tmp_path):
    grid = {"name": "grid"}
    words = [{"name": "sklearn.feature_extraction.text.TfidfVectorizer"}]
    e = Experiment(title="Raw", dataset="emoji", methods=["cca"], features={"image": grid})
    (task,) = plan(e, tmp_path / "s")
    assert "CCA: view 'text' must be a numeric array" in task.skip
    assert task.skip.endswith("by a ViewTransformer or the key 'features'")
    (task,) = plan(dataclasses.replace(e, features={"text": words}), tmp_path / "s")
    assert "CCA: view 'image' must be" in task.skip
    whole = dataclasses.replace(e, features={"image": grid, "text": words})
    (task,) = plan(whole, tmp_path / "s")
    assert not task.skip


def pictures(folder, seed):
    """Write pictures of one size, and a table; the pixels depend on the seed."""
    from PIL import Image

    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    words = ["red", "blue", "green", "round", "square", "small", "large", "old"]
    for i in range(40):
        shown = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(shown).save(folder / f"{i}.bmp")
    lines = [f"{i}.bmp,{words[i % 8]} {words[i // 5]}" for i in range(40)]
    table = folder / "pairs.csv"
    if not table.exists():
        table.write_text("\n".join(["image,text", *lines]))
    return table


def of_pictures():
    dense = {"name": "sklearn.decomposition.TruncatedSVD", "params": {"n_components": 4}}
    return Experiment(
        title="Own",
        dataset="emoji",
        metrics=["medr"],
        features={
            "image": "grid",
            "text": [{"name": "sklearn.feature_extraction.text.TfidfVectorizer"}, dense],
        },
        methods=[{"method": "cca", "params": {"n_components": 3, "reg": 1.0}}],
    )


def test_other_pictures_of_the_same_names_and_sizes_are_other_data(tmp_path):
    one, two = (
        run(of_pictures(), tmp_path / "s", data=pictures(tmp_path / name, seed)).cells[0]
        for seed, name in enumerate("ab")
    )
    alone = run(of_pictures(), tmp_path / "t", data=tmp_path / "b" / "pairs.csv").cells[0]
    assert one.key != two.key == alone.key
    # Features of the other pictures were not computed either.
    assert one.results != two.results == alone.results


def test_pictures_that_are_replaced_under_a_finished_run_are_seen(tmp_path):
    before = run(of_pictures(), tmp_path / "s", data=pictures(tmp_path / "a", 0)).cells[0]
    table = pictures(tmp_path / "a", 1)
    after = run(of_pictures(), tmp_path / "s", data=table).cells[0]
    assert after.key == plan(of_pictures(), tmp_path / "s", data=table)[0].key != before.key
    assert after.results != before.results


def test_processes_give_the_same_results_as_one(tiny, tmp_path):
    e = experiment(seeds=[0, 1, 2])
    assert results(run(e, tmp_path / "a")) == results(run(e, tmp_path / "b", n_jobs=2))


def test_of_cells_computed_at_once_only_the_one_that_kills_its_process_fails(tiny, tmp_path):
    def method(label, sleep):
        return {"method": "tiny", "label": label, "params": {"sleep": sleep}}

    methods = [method("K", -1.0), method("A", 0.5), method("X", 0.01), method("B", 0.02)]
    e = experiment(methods, seeds=[0])
    store = Store(tmp_path / "s")
    keys = {task.cell.label: task.key for task in plan(e, store)}
    elsewhere = store.claim(keys["X"])

    class Releases(Listener):
        """A claim of another runner, which releases it after the failure."""

        def finished(self, cell, outcome, left):
            if cell.label == "K":
                elsewhere.release()

    record = run(e, store, n_jobs=2, listener=Releases())
    assert {c.label: c.status for c in record.cells} == {
        "K": "failed", "A": "done", "X": "done", "B": "done",
    }  # fmt: skip
    assert "was killed" in record.cells[0].traceback
    assert [p.name for p in (tmp_path / "s" / "locks").iterdir() if p.name[0] != "."] == []


def test_a_search_that_kills_its_process_fails_once_for_all_seeds(tiny, tmp_path):
    deadly = {"method": "tiny", "label": "K", "tune": {"sleep": {"choice": [-1.0]}}}
    e = experiment([deadly, METHODS[1]], seeds=[0, 1, 2], tuning={"trials": 1, "folds": 2})
    record = run(e, tmp_path / "s", n_jobs=2)
    assert [c.status for c in record.cells] == ["failed"] * 3 + ["done"]
    last = record.cells[2].traceback.strip().splitlines()[-1]
    assert "the search for settings failed: the process" in last and "was killed" in last


def _runner(folder, seeds, sleep):
    os.environ["OMP_NUM_THREADS"] = "1"
    methods = [{"method": "tiny", "label": "A", "params": {"sleep": sleep}}]
    run(experiment(methods, seeds=list(range(seeds))), folder)
    os._exit(0)


def test_two_runners_on_one_store_share_the_work(tiny, tmp_path):
    import tinyplug  # noqa: F401 (before the fork, so that children start at once)

    context = multiprocessing.get_context("fork")
    runners = [context.Process(target=_runner, args=(tmp_path / "s", 12, 0.05)) for _ in range(2)]
    for runner in runners:
        runner.start()
    for runner in runners:
        runner.join(60)
        assert runner.exitcode == 0
    counts = fits(tiny)
    assert sorted(counts.values()) == [1] * 12
    assert len(list((tmp_path / "s" / "cells").iterdir())) == 12
    assert len(Store(tmp_path / "s").test_evaluations()) == 12


@pytest.mark.slow
def test_killed_twenty_times_nothing_is_lost_and_nothing_doubled(tiny, tmp_path):
    import tinyplug  # noqa: F401

    n, rng = 80, random.Random(0)
    context = multiprocessing.get_context("fork")
    store, cells = Store(tmp_path / "s"), tmp_path / "s" / "cells"
    before: dict[str, bytes] = {}
    kills = 0

    def done():
        return list(cells.glob("[!.]*/cell.json"))

    for _ in range(20):
        runner = context.Process(target=_runner, args=(tmp_path / "s", n, 0.01))
        runner.start()
        # At any moment of a cell, but early enough that on a fast machine some are not done.
        stop = time.monotonic() + rng.uniform(0.02, 0.4)
        while runner.is_alive() and time.monotonic() < stop and len(done()) == len(before):
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.03))
        if runner.is_alive():
            os.kill(runner.pid, signal.SIGKILL)
            kills += 1
        runner.join(30)
        now = {path.parent.name: path.read_bytes() for path in done()}
        # Nothing is lost: all earlier files are there, byte for byte.
        assert all(now[key] == content for key, content in before.items())
        before = now
        assert all(store.cell(key).status == "done" for key in now)
    assert kills >= 15
    runner = context.Process(target=_runner, args=(tmp_path / "s", n, 0.01))
    runner.start()
    runner.join(60)
    assert runner.exitcode == 0
    methods = [{"method": "tiny", "label": "A", "params": {"sleep": 0.01}}]
    e = experiment(methods, seeds=list(range(n)))
    record = store.run("tiny")
    assert [c.status for c in record.cells] == ["done"] * n
    assert len({c.key for c in record.cells}) == n
    assert len([p for p in cells.iterdir() if p.name[0] != "."]) == n
    for cell in record.cells:
        assert cell.arrays()["image2text|map@all"].shape == (30,)
    # Nothing is computed twice, except fits that a kill interrupted.
    assert n <= sum(fits(tiny).values()) <= n + kills
    assert n <= len(store.test_evaluations()) <= n + kills
    assert [p.name for p in (tmp_path / "s/locks").iterdir()] == [".guard"]
    assert results(record) == results(run(e, tmp_path / "untouched"))


def test_ctrl_c_releases_the_cell_and_says_how_to_go_on(tiny, tmp_path):
    spec = tmp_path / "e.yaml"
    spec.write_text(
        "title: t\ndataset: tiny-data\nseeds: [0, 1, 2]\n"
        "methods: [{method: tiny, params: {sleep: 1.5}}]\n"
    )
    command = [sys.executable, "-c", "from crossfit.cli import main; main()"]
    process = subprocess.Popen(
        [*command, "run", str(spec), "--store", str(tmp_path / "s")],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    locks = tmp_path / "s" / "locks"
    deadline = time.monotonic() + 60
    while not (locks.exists() and any(p.name[0] != "." for p in locks.iterdir())):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.3)  # it has the claim and is computing
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "repeat the command to continue" in errors
    assert "Traceback" not in errors
    assert [p.name for p in locks.iterdir()] == [".guard"]


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")
def test_the_workers_of_a_run_that_is_killed_end_with_it(tiny, tmp_path):
    spec = tmp_path / "e.yaml"
    spec.write_text(
        "title: t\ndataset: tiny-data\nseeds: [0, 1]\n"
        "methods: [{method: tiny, params: {sleep: 600.0}}]\n"
    )
    command = [sys.executable, "-m", "crossfit", "run", str(spec), "--jobs", "2"]
    process = subprocess.Popen([*command, "--store", str(tmp_path / "s")])
    locks = tmp_path / "s" / "locks"
    deadline = time.monotonic() + 120

    def claims():
        return [p for p in locks.glob("[!.]*") if p.stat().st_size] if locks.exists() else []

    while len(claims()) < 2:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    workers = {json.loads(path.read_text())["pid"] for path in claims()}
    assert len(workers) == 2 and process.pid not in workers
    process.kill()
    process.wait(30)
    while any(started(pid) for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    store = Store(tmp_path / "s")
    assert store.clear_claims() == 2


def test_a_finished_experiment_loads_neither_data_nor_methods_again(tiny, tmp_path):
    spec = tmp_path / "e.yaml"
    spec.write_text("title: t\ndataset: tiny-data\nmethods: [tiny]\n")
    run(Experiment.from_file(spec), tmp_path / "s")
    code = (
        "import sys\nfrom crossfit.experiment import Experiment, run\n"
        f"record = run(Experiment.from_file({str(spec)!r}), {str(tmp_path / 's')!r})\n"
        "print(record.cells[0].status, sorted({'sklearn', 'tinyplug', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # The registry reads the cards, which in this plugin are in the module of the methods.
    assert done.stdout.split()[0] == "done"
    assert "torch" not in done.stdout


AGAIN = """\
import sys
from crossfit.experiment import Experiment, run
e = Experiment(title="Tiny", dataset="tiny-data", seeds=[0, 1], metrics=["map@all", "r@5"],
               methods=[{"method": "tiny-fixed", "label": "B", **eval(sys.argv[2])}],
               features={"image": "sklearn.preprocessing.StandardScaler"},
               tuning=eval(sys.argv[3]))
(cell,) = run(e, sys.argv[1]).cells
print(cell.key, cell.mean("map@all"))
"""


def again(folder, tuned=None):
    """Run in another process, which has not loaded the plugin yet."""
    method = {} if tuned is None else {"tune": tuned}
    tuning = None if tuned is None else {"trials": 1, "folds": 2}
    command = [sys.executable, "-c", AGAIN, str(folder), repr(method), repr(tuning)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    key, value = done.stdout.split()
    return key, float(value)


@pytest.mark.parametrize("tuned", [None, {"power": {"float": [1.0, 1.1]}}])
def test_code_that_was_edited_computes_anew_and_its_undoing_finds_the_old_figures(
    tiny, tiny_site, tmp_path, tuned
):
    source = tiny_site / "tinyplug.py"
    text = source.read_text()
    before = again(tmp_path / "s", tuned)
    count = sum(fits(tiny).values())
    assert again(tmp_path / "s", tuned) == before
    assert sum(fits(tiny).values()) == count
    # Of the same length, without a change of the version or of a parameter.
    old = "return np.asarray(values) @ self.maps_[view]"
    assert old in text
    source.write_text(text.replace(old, old.replace("@ self.maps_[view]", "[:,:1] * 0 + 1.0  ")))
    after = again(tmp_path / "s", tuned)
    assert after[0] != before[0]
    # All scores are equal: chance, of three classes.
    assert after[1] == pytest.approx(chance_level((np.arange(30) % 3,) * 2).mean(None, "map@all"))
    assert sum(fits(tiny).values()) == 2 * count
    source.write_text(text)
    assert again(tmp_path / "s", tuned) == before
    assert sum(fits(tiny).values()) == 2 * count


def test_code_of_others_recomputes_nothing(tiny, tiny_site, tmp_path):
    before = again(tmp_path / "s")
    other = tiny_site / "otherplug.py"
    other.write_text(
        "from crossfit.cards import MethodCard\n"
        "CARD = MethodCard(api=1, name='other', target='otherplug:M', summary='another')\n"
    )
    info = tiny_site / "otherplug-1.0.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_text("[crossfit.methods]\nother = otherplug:CARD\n")
    assert again(tmp_path / "s") == before
    other.write_text(other.read_text() + "# edited\n")
    assert again(tmp_path / "s") == before
    assert sum(fits(tiny).values()) == 1


def test_a_change_of_the_methods_own_defaults_is_seen(tiny, tiny_site, tmp_path):
    before = again(tmp_path / "s")
    source = tiny_site / "tinyplug.py"
    text = source.read_text()
    old = "def __init__(self, power=1.0):\n"
    assert old in text
    source.write_text(text.replace(old, old.replace("1.0", "1.5")))
    assert again(tmp_path / "s")[0] != before[0]


def test_code_that_changes_between_plan_and_work_is_refused(tiny, tmp_path):
    from dataclasses import replace

    (task,) = plan(experiment(METHODS[1:]), tmp_path / "s")
    method = {**task.identity["method"], "code": "of another file"}
    cell = replace(task.cell, cell={**task.identity, "method": method})
    with pytest.raises(RuntimeError, match="the code of tiny-fixed differs from that"):
        compute(replace(task, cell=cell), Store(tmp_path / "s"))


def test_all_is_computed_again_by_force(tiny, tmp_path):
    tuned = {"method": "tiny", "label": "T", "tune": {"power": {"float": [0.5, 2.0]}}}
    e = experiment([METHODS[1], tuned], seeds=[0], tuning={"trials": 2, "folds": 2},
                   features={"image": "sklearn.preprocessing.StandardScaler"})  # fmt: skip
    first = run(e, tmp_path / "s")
    count = sum(fits(tiny).values())
    assert count == 1 + 2 * 2 + 1
    second = run(e, tmp_path / "s", force=True)
    assert results(second) == results(first)
    assert sum(fits(tiny).values()) == 2 * count
    assert all(a.finished < b.finished for a, b in zip(first.cells, second.cells))
    assert len(second.store.test_evaluations()) == 4
    run(e, tmp_path / "s")
    assert sum(fits(tiny).values()) == 2 * count


def test_a_run_is_json_that_other_programs_read(tiny, tmp_path):
    record = run(experiment(), tmp_path / "s", command="crossfit run tiny")
    found = json.loads((tmp_path / "s" / "runs" / "tiny.json").read_text())
    assert found["format"] == 1
    assert found["command"] == "crossfit run tiny"
    assert [c["key"] for c in found["cells"]] == [c.key for c in record.cells]
    assert (
        Experiment(
            title=found["title"],
            **{k: v for k, v in found["spec"].items() if k not in ("title",)},
        ).to_dict()
        == record.spec
    )


def test_a_name_is_no_experiment(tmp_path):
    with pytest.raises(TypeError, match=r"Experiment.find.*got 'mine.yaml'"):
        run("mine.yaml", tmp_path)


PINNED = {
    "title": "Pinned",
    "dataset": {"name": "tiny-data", "noise": 1.0, "subset": {"train": 30}},
    "splits": {"train": "train", "test": "test"},
    "features": {"text": {"name": "sklearn.preprocessing.StandardScaler",
                          "params": {"copy": True, "with_mean": True, "with_std": False}}},
    "metrics": ["map@all", "r@5"],
    "relevance": "label",
    "ties": "expected",
    "seeds": [7],
    "tuning": {"trials": 3, "folds": 2, "sampler": "random", "metric": "map@all"},
    "methods": [
        {"method": "tiny", "label": "plain", "params": {"power": 2.0},
         "similarity": {"name": "crossfit.similarities.KNNPosterior",
                        "params": {"n_neighbors": 5}}},
        {"method": "tiny", "label": "tuned", "params": {"sleep": 0.0}, "similarity": "l2",
         "tune": {"power": {"float": [0.5, 2.0], "log": True}}},
    ],
}  # fmt: skip


def test_keys_do_not_change_by_accident(tiny, tmp_path, monkeypatch):
    """Stored cells are found by their keys; a change of these is a change for every user.

    The hashes of code and the version of crossfit, which are parts of a key, are constants here.
    If a key has to change, keep the old one where the new part has its default, as for
    `refit_epochs`; otherwise change the constants, and announce it in the change log.
    """
    monkeypatch.setattr(crossfit, "__version__", "0")
    for module in (planner, identity):
        monkeypatch.setattr(module, "code_of", lambda thing: "code")
    plain, tuned = plan(Experiment(**PINNED), tmp_path / "s")
    without = {**PINNED, "tuning": {**PINNED["tuning"], "defaults": False}}
    _, before = plan(Experiment(**without), tmp_path / "s")
    dataset = {
        "name": "tiny-data", "params": {"noise": 1.0}, "revision": "r1.0", "subset": {"train": 30},
        "splits": {"train": "train", "validation": "val", "test": "test"},
    }  # fmt: skip
    scaler = {"class": "sklearn.preprocessing._data:StandardScaler",
              "params": {"copy": True, "with_mean": True, "with_std": False}}  # fmt: skip
    neighbours = {"class": "crossfit.similarities:KNNPosterior", "params": {"n_neighbors": 5},
                  "version": "0", "code": "code"}  # fmt: skip
    assert plain.identity == {
        "dataset": dataset,
        "loader": "code",
        "features": {"text": scaler},
        "method": {
            "name": "tiny", "distribution": "tinyplug", "version": "1.0", "code": "code",
            "params": {"power": 2.0, "random_state": None, "sleep": 0.0, "start": None},
            "similarity": neighbours,
        },
        "seed": 7,
        "protocol": {"metrics": ["map@all", "r@5"], "relevance": "label", "ties": "expected",
                     "tuning": None, "tune": None},
    }  # fmt: skip
    assert tuned.search_key != before.search_key
    assert [plain.key, before.key, before.search_key, tuned.key] == [
        "072f96eb0bf75621061dcd30109ce29258a77690784f46473c6e6e96a8ed6fd7",
        "dd130c50e6cba93f5694646bfcdb386d5bf8e4d8e6866fa54f66a1d754915965",
        "bf239b1b3c95fd7b1287e3d6fd8bdcf18f0498d28360066213c88dfe14eec0c3",
        "a097ca44ca61f05d969d335e7b9d3058ed8c6c593394b7482cdd09302cab22e1",
    ]
