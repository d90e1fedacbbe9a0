"""The model of a cell: features, method and similarity as one pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crossfit.compose import ViewTransformer
from crossfit.experiment.build import (
    build_features,
    build_method,
    build_similarity,
    checked_settings,
)
from crossfit.experiment.features import StoredFeatures
from crossfit.experiment.store import Store
from crossfit.experiment.task import Task

__all__ = ["cell_pipeline", "feature_stage"]


def feature_stage(task: Task, store: Store, *, shared: bool) -> StoredFeatures | None:
    """Return the feature step, `shared` with other processes through the store, or None."""
    transformers = build_features(task.features)
    if not transformers:
        return None
    return StoredFeatures(
        transformers,
        folder=str(store.folder) if shared else None,
        salt=f"{task.identity['dataset']['revision']} {task.identity['loader']}",
    )


def cell_pipeline(
    task: Task,
    stage: ViewTransformer | None,
    seed: int | None,
    chosen: Mapping[str, Any] | None = None,
) -> Any:
    """Return the unfitted pipeline of features, method and similarity.

    If the settings were searched, `chosen` is the result of the search.
    """
    from sklearn.pipeline import Pipeline

    from crossfit.retrieval import RetrievalScorer

    steps: list[tuple[str, Any]] = [] if stage is None else [("features", stage)]
    steps.append(("method", build_method(task.method, seed)))
    if task.method.similarity is not None:
        steps.append(("scorer", RetrievalScorer(build_similarity(task.method.similarity))))
    model = Pipeline(steps)
    if chosen:
        where = f"the search {task.search_key}"
        model.set_params(**checked_settings(model, chosen["params"], where))
    return model
