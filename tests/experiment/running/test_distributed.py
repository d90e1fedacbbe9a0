"""The same experiment on a real Dask cluster on loopback; one of its workers is killed."""

import os
import signal

import pytest

from crossfit.experiment import Experiment, run

pytest.importorskip("distributed", reason="dask.distributed is not installed")


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker_gives_what_this_machine_gives(tiny, two_workers, tmp_path):
    address, workers = two_workers
    methods = [
        {"method": "tiny", "label": "A", "params": {"sleep": 0.1}},
        {"method": "tiny", "label": "T", "tune": {"power": {"float": [0.5, 2.0]}}},
    ]
    e = Experiment(title="Tiny", dataset="tiny-data", methods=methods, seeds=range(6),
                   metrics=["map@all", "r@5"], tuning={"trials": 2, "folds": 2},
                   features={"image": "sklearn.preprocessing.StandardScaler"})  # fmt: skip

    from crossfit.experiment.runner import Listener

    class Killer(Listener):
        """Kill a worker while it computes, once some cells are done."""

        ended = 0

        def finished(self, cell, outcome, left):
            self.ended += 1
            if self.ended == 3:
                os.killpg(workers[0].pid, signal.SIGKILL)

    killer = Killer()
    far = run(e, tmp_path / "far", backend="dask", scheduler=address, listener=killer)
    assert workers[0].wait(timeout=10) == -signal.SIGKILL
    assert killer.ended == 12
    assert [c.status for c in far.cells] == ["done"] * 12
    near = run(e, tmp_path / "near")
    assert [c.key for c in far.cells] == [c.key for c in near.cells]
    for a, b in zip(far.cells, near.cells):
        assert a.results == b.results
        assert a.chosen == b.chosen
    # The workers wrote to the store themselves, and the killed one left no claim.
    locks = tmp_path / "far" / "locks"
    assert [path.name for path in locks.iterdir()] == [".guard"]


def test_a_cell_that_every_worker_is_lost_with_has_failed(tiny, tmp_path):
    import dask.config
    import distributed

    about = {"title": "Tiny", "dataset": "tiny-data"}
    deadly = {"method": "tiny", "label": "K", "params": {"sleep": -1.0}}
    cell = Experiment(**about, methods=["tiny", deadly])
    deadly = {"method": "tiny", "label": "T", "tune": {"sleep": {"choice": [-1.0]}}}
    search = Experiment(**about, methods=[deadly], tuning={"trials": 1, "folds": 2})
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
        ) as cluster,
    ):
        where = {"backend": "dask", "scheduler": cluster.scheduler_address}
        cells = [c for e in (cell, search) for c in run(e, tmp_path / "s", **where).cells]
    assert [c.status for c in cells] == ["done", "failed", "failed"]
    assert all("KilledWorker" in c.traceback for c in cells[1:])
    assert "the search for settings failed" in cells[2].traceback


def test_a_scheduler_that_is_not_there_is_told(tmp_path):
    e = Experiment(title="t", dataset="emoji", methods=["cca"])
    with pytest.raises(ValueError, match="needs scheduler"):
        run(e, tmp_path, backend="dask")
