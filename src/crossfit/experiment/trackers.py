"""Trackers that receive the cells of a run: MLflow, TensorBoard, Weights & Biases."""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from crossfit.experiment.records import CellRecord
    from crossfit.experiment.task import Cell

__all__ = ["TRACKERS", "Tracker", "make"]

logger = logging.getLogger("crossfit")

#: The distribution that each tracker needs.
TRACKERS = {"mlflow": "mlflow", "tensorboard": "tensorboard", "wandb": "wandb"}
# MLflow needs these for its database; its smallest distribution does not include them.
_DATABASE = ("sqlalchemy", "alembic")
#: Maximum length of a parameter value in every version of MLflow.
_LONGEST = 500


class Tracker(Protocol):
    """Interface of trackers. They hold only names, so that they can be sent to workers."""

    def callbacks(self, cell: Cell, run: str) -> list[Any]:
        """Return callbacks for the epochs of a neural method, before its fit.

        Parameters
        ----------
        cell : Cell
            The cell to be computed.
        run : str
            Name of the run.

        Returns
        -------
        list of skorch callbacks
        """

    def track(self, cell: CellRecord, run: Any) -> None:
        """Record a cell that is done or has failed. Failures are logged, not raised.

        Parameters
        ----------
        cell : CellRecord
            The stored record.
        run : RunRecord
            Only its ``name`` is used.
        """


def make(name: str, folder: str | os.PathLike[str]) -> Tracker:
    """Return a tracker by its name.

    Parameters
    ----------
    name : {"mlflow", "tensorboard", "wandb"}
        MLflow writes to ``MLFLOW_TRACKING_URI``, else to ``<folder>/mlflow.db``; TensorBoard to
        ``<folder>/tensorboard``; Weights & Biases to the place given by its own environment
        variables, with its files in `folder`; ``WANDB_MODE=offline`` sends nothing.
    folder : path-like
        Folder of local files.

    Raises
    ------
    ValueError
        If the name is unknown.
    ImportError
        If its package is not installed.
    """
    if name not in TRACKERS:
        raise ValueError(f"tracker must be one of {', '.join(TRACKERS)}, got {name!r}")
    package = TRACKERS[name]
    local = name == "mlflow" and not os.environ.get("MLFLOW_TRACKING_URI")
    for module in (package, *(_DATABASE if local else ())):
        if importlib.util.find_spec(module) is None:
            raise ImportError(f"the tracker {name!r} needs {module}: pip install {package}")
    made = {"mlflow": MLflowTracker, "tensorboard": TensorBoardTracker, "wandb": WandbTracker}
    return made[name](Path(folder).absolute())


class _Quiet:
    """A tracker whose failures are logged and do not end the experiment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def callbacks(self, cell: Cell, run: str) -> list[Any]:
        """Return callbacks for the epochs of a neural method."""
        try:
            return self._callbacks(cell, run)
        except Exception as error:
            logger.warning("%s cannot follow %s: %s", type(self).__name__, cell.label, error)
            return []

    def _callbacks(self, cell: Cell, run: str) -> list[Any]:
        return []  # epochs are recorded with the cell

    def track(self, cell: CellRecord, run: Any) -> None:
        """Record a cell."""
        try:
            self._track(cell, run.name)
        except Exception as error:
            logger.warning("%s could not record %s: %s", type(self).__name__, cell.label, error)

    def _track(self, cell: CellRecord, run: str) -> None:
        raise NotImplementedError


class MLflowTracker(_Quiet):
    """One MLflow experiment per run, one MLflow run per cell, with settings, results and epochs."""

    @property
    def uri(self) -> str:
        """Address of the MLflow store."""
        return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.folder / 'mlflow.db'}"

    def _track(self, cell: CellRecord, run: str) -> None:
        from mlflow.entities import Metric, Param, RunTag
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        self.folder.mkdir(parents=True, exist_ok=True)
        client = MlflowClient(self.uri)
        found = client.get_experiment_by_name(run)
        if found is not None:
            experiment = found.experiment_id
        else:
            try:
                artifacts = (self.folder / "mlflow-artifacts").as_uri()
                local = not os.environ.get("MLFLOW_TRACKING_URI")
                experiment = client.create_experiment(run, artifacts if local else None)
            except MlflowException:  # another worker was first
                found = client.get_experiment_by_name(run)
                if found is None:
                    raise
                experiment = found.experiment_id
        tags = {"crossfit.key": cell.key, "crossfit.status": cell.status}
        made = client.create_run(experiment, run_name=_name(cell), tags=tags)
        moment = int(time.time() * 1000)
        at = made.info.run_id
        params = [Param(name, value[:_LONGEST]) for name, value in _settings(cell).items()]
        metrics = [Metric(_plain(name), v, moment, 0) for name, v in _figures(cell)]
        metrics += [Metric(_plain(name), v, moment, step) for step, name, v in _epochs(cell)]
        for start in range(0, len(params), 100):
            client.log_batch(at, params=params[start : start + 100])
        for start in range(0, len(metrics), 1000):
            client.log_batch(at, metrics=metrics[start : start + 1000])
        if cell.traceback:
            client.log_batch(at, tags=[RunTag("crossfit.error", cell.traceback[-_LONGEST:])])
        if cell.folder is not None and (cell.folder / "cell.json").exists():
            client.log_artifact(at, str(cell.folder / "cell.json"))
        client.set_terminated(at, "FINISHED" if cell.status == "done" else "FAILED")


class TensorBoardTracker(_Quiet):
    """A TensorBoard log per cell: epochs by skorch's callback, results when the cell is done."""

    def _place(self, cell: Cell, run: str) -> Path:
        parts = (run, cell.dataset, f"{cell.label}-{cell.seed}")
        return self.folder.joinpath("tensorboard", *(_plain(part) for part in parts))

    def _callbacks(self, cell: Cell, run: str) -> list[Any]:
        from skorch.callbacks import TensorBoard
        from torch.utils.tensorboard import SummaryWriter

        return [TensorBoard(SummaryWriter(str(self._place(cell, run))))]

    def _track(self, cell: CellRecord, run: str) -> None:
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(str(self._place(cell, run))) as writer:
            for name, value in _figures(cell):
                writer.add_scalar(name, value)
            text = "\n".join(f"    {name} = {value}" for name, value in _settings(cell).items())
            writer.add_text("settings", text)
            if cell.traceback:
                writer.add_text("error", "    " + cell.traceback.replace("\n", "\n    "))


class WandbTracker(_Quiet):
    """A Weights & Biases run per cell: epochs by skorch's callback, results in the summary."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._open: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        # An open run belongs to its process.
        return {"folder": self.folder, "_open": {}}

    def _start(self, cell: Cell, run: str) -> Any:
        import wandb

        self.folder.mkdir(parents=True, exist_ok=True)
        return wandb.init(
            project=os.environ.get("WANDB_PROJECT", "crossfit"), group=run, id=cell.key[:32],
            name=_name(cell), dir=str(self.folder), resume="allow",
            reinit="create_new",
        )  # fmt: skip

    def _callbacks(self, cell: Cell, run: str) -> list[Any]:
        from skorch.callbacks import WandbLogger

        self._open[cell.key] = self._start(cell, run)
        return [WandbLogger(self._open[cell.key], save_model=False)]

    def _track(self, cell: CellRecord, run: str) -> None:
        started = self._open.pop(cell.key, None)
        if started is None:
            started = self._start(cell, run)
        started.config.update(_settings(cell), allow_val_change=True)
        started.summary.update(dict(_figures(cell)))
        started.finish(exit_code=0 if cell.status == "done" else 1)


def _name(cell: Cell) -> str:
    return f"{cell.label} on {cell.dataset}, seed {cell.seed}"


def _plain(name: str) -> str:
    """Return a name with only those characters that every tracker and file system accepts."""
    return "".join(c if c.isalnum() or c in "-._/" else "_" for c in name) or "_"


def _settings(cell: CellRecord) -> dict[str, str]:
    """Return the settings that determined the result, as strings by name."""
    method: Mapping[str, Any] = cell.cell.get("method", {})
    found = {"label": cell.label, "dataset": cell.dataset, "seed": str(cell.seed)}
    found["method"] = f"{method.get('distribution')}:{method.get('name')} {method.get('version')}"
    found["features"] = cell.features
    found |= {f"param.{name}": str(v) for name, v in (method.get("params") or {}).items()}
    found |= {f"chosen.{name}": str(v) for name, v in cell.chosen.items()}
    return {_plain(name): value for name, value in found.items()}


def _figures(cell: CellRecord) -> Iterator[tuple[str, float]]:
    """Yield results, times and sizes by name."""
    for direction, by_metric in cell.results.items():
        for metric, found in by_metric.items():
            for part in ("mean", "low", "high"):
                value = found.get(part)
                name = metric if part == "mean" else f"{metric}.{part}"
                if value is not None and math.isfinite(value):
                    yield f"{direction}/{name}", float(value)
    for group, values in (("seconds", cell.timing), ("memory", cell.memory), ("size", cell.size)):
        for name, value in values.items():
            if value is not None and math.isfinite(value):
                yield f"{group}/{name}", float(value)


def _epochs(cell: CellRecord) -> Iterator[tuple[int, str, float]]:
    """Yield the values of a training curve as (epoch, name, value)."""
    for i, row in enumerate(cell.history()):
        step = int(row.get("epoch", i + 1))
        for name, value in row.items():
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if number and name != "epoch" and math.isfinite(value):
                yield step, f"epochs/{name}", float(value)
