"""Trackers: real MLflow and TensorBoard, and Weights & Biases without a network."""

import importlib.util
import json
import pickle
from dataclasses import replace
from types import SimpleNamespace

import pytest

from crossfit.experiment import trackers
from crossfit.experiment.records import CellRecord
from crossfit.experiment.task import Cell

RUN = SimpleNamespace(name="emoji-demo")
KEY = "ab" * 32
NET = Cell(key=KEY, label="net", dataset="emoji", seed=3)
HISTORY = [{"epoch": 1, "train_loss": 2.0, "dur": 0.1}, {"epoch": 2, "train_loss": 1.5}]


def cell(folder, **changed):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cell.json").write_text("{}")
    (folder / "history.json").write_text(json.dumps(HISTORY))
    about = {
        "key": KEY, "status": "done", "label": "net, <wide>", "dataset": "emoji", "seed": 3,
        "features": "grid × tf-idf", "folder": folder,
        "cell": {"method": {"name": "net", "distribution": "d", "version": "1",
                            "params": {"width": 8, "views": None}}},
        "results": {"image2text": {"map@all": {"mean": 0.5, "low": 0.4, "high": 0.6}},
                    "text2image": {"map@all": {"mean": 0.25, "low": None, "high": None}}},
        "chosen": {"lr": 0.01}, "timing": {"fit": 1.5}, "size": {"parameters": 12},
    }  # fmt: skip
    return CellRecord(**(about | changed))


def test_a_wrong_name_and_a_missing_package_are_one_sentence_at_once(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="one of mlflow, tensorboard, wandb, got 'comet'"):
        trackers.make("comet", tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name in trackers.TRACKERS:
        with pytest.raises(ImportError, match=f"needs {name}: pip install {name}$"):
            trackers.make(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_mlflow_without_its_database_is_refused_unless_a_server_has_one(tmp_path, monkeypatch):
    found = importlib.util.find_spec
    here = {"sqlalchemy": None, "mlflow": object()}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: here[name] if name in here else found(name)
    )
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ImportError, match=r"needs sqlalchemy: pip install mlflow$"):
        trackers.make("mlflow", tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking.example:5000")
    assert trackers.make("mlflow", tmp_path).uri == "http://tracking.example:5000"


def test_a_tracker_that_fails_is_a_warning(tmp_path, caplog):
    class Broken(trackers._Quiet):
        def _track(self, cell, run):
            raise RuntimeError("no such server")

        def _callbacks(self, *about):
            raise RuntimeError("no such server")

    broken = Broken(tmp_path)
    broken.track(cell(tmp_path / "c"), RUN)
    assert broken.callbacks(NET, "run") == []
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert all("no such server" in record.message for record in caplog.records)


def test_mlflow_has_settings_results_epochs_and_the_record(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    pytest.importorskip("alembic")
    from mlflow.tracking import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tracker = pickle.loads(pickle.dumps(trackers.make("mlflow", tmp_path / "tracking")))
    assert tracker.callbacks(NET, RUN.name) == []
    tracker.track(cell(tmp_path / "one"), RUN)
    failed = {"results": {}, "timing": {}, "status": "failed", "traceback": "ValueError: bad"}
    tracker.track(cell(tmp_path / "two", **failed), RUN)

    client = MlflowClient(tracker.uri)
    experiment = client.get_experiment_by_name("emoji-demo")
    runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])
    done = next(run for run in runs if run.info.status == "FINISHED")
    bad = next(run for run in runs if run.info.status == "FAILED")
    assert len(runs) == 2
    assert bad.data.tags["crossfit.error"] == "ValueError: bad"
    assert done.info.run_name == "net, <wide> on emoji, seed 3"
    assert done.data.tags["crossfit.key"] == KEY
    assert done.data.params["param.width"] == "8"
    assert done.data.params["chosen.lr"] == "0.01"
    assert done.data.metrics["image2text/map_all"] == 0.5
    assert done.data.metrics["image2text/map_all.low"] == 0.4
    assert "text2image/map_all.low" not in done.data.metrics
    assert done.data.metrics["seconds/fit"] == 1.5
    curve = client.get_metric_history(done.info.run_id, "epochs/train_loss")
    assert [(point.step, point.value) for point in curve] == [(1, 2.0), (2, 1.5)]
    assert [item.path for item in client.list_artifacts(done.info.run_id)] == ["cell.json"]


def read_scalars(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = {}
    for path in folder.rglob("events*"):
        events = EventAccumulator(str(path)).Reload()
        for name in events.Tags()["scalars"]:
            found[name] = [(event.step, event.value) for event in events.Scalars(name)]
    return found


def test_tensorboard_has_epochs_by_skorch_and_results(tmp_path):
    pytest.importorskip("tensorboard")
    import numpy as np
    import torch
    from skorch import NeuralNetRegressor

    tracker = pickle.loads(pickle.dumps(trackers.make("tensorboard", tmp_path)))
    callbacks = tracker.callbacks(replace(NET, seed=0), RUN.name)
    net = NeuralNetRegressor(
        torch.nn.Linear(2, 1), max_epochs=2, train_split=None, callbacks=callbacks, verbose=0
    )
    net.fit(np.ones((8, 2), np.float32), np.ones((8, 1), np.float32))
    tracker.track(cell(tmp_path / "one", label="net", seed=0), RUN)

    folder = tmp_path / "tensorboard" / "emoji-demo" / "emoji" / "net-0"
    found = read_scalars(folder)
    assert found["image2text/map@all"] == [(0, 0.5)]
    losses = next(values for name, values in found.items() if name.endswith("train_loss"))
    assert [value for _, value in losses] == pytest.approx(
        [row["train_loss"] for row in net.history], rel=1e-6
    )


def test_wandb_offline_has_epochs_and_a_summary(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_CONSOLE", "off")
    tracker = pickle.loads(pickle.dumps(trackers.make("wandb", tmp_path)))
    (callback,) = tracker.callbacks(NET, RUN.name)
    callback.initialize()
    for row in HISTORY:
        callback.on_epoch_end(SimpleNamespace(history=[row]))
    started, found = callback.wandb_run, {}
    finish = started.finish

    def finished(exit_code):
        found.update(dict(started.summary), code=exit_code, config=dict(started.config))
        finish(exit_code=exit_code)

    monkeypatch.setattr(started, "finish", finished)
    tracker.track(cell(tmp_path / "one"), RUN)
    assert found["config"]["param.width"] == "8"
    assert (found["image2text/map@all"], found["train_loss"], found["code"]) == (0.5, 1.5, 0)
    assert list(tmp_path.rglob("run-*.wandb"))
    assert tracker._open == {}
