"""Fitted methods in ``mteb.evaluate``, and evaluations as results of MTEB."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from crossfit._arguments import a_path, validated
from crossfit.experiment.records import CellRecord
from crossfit.metrics.names import Measure, parse_metric
from crossfit.querying import encode
from crossfit.report.page import write_text
from crossfit.similarities import pairwise_similarity
from crossfit.systems.evaluation import SystemEvaluation

__all__ = ["MTEBEncoder", "mteb_result"]

#: Names of kinds of measures in MTEB, which all have a cut-off.
_KINDS = {
    ("ndcg", ""): "ndcg", ("map", "all"): "map", ("p", ""): "precision",
    ("r", "fraction"): "recall", ("r", "any"): "hit_rate",
}  # fmt: skip


class MTEBEncoder:
    """Return a fitted method or pipeline as an encoder for ``mteb.evaluate``.

    Parameters
    ----------
    model : CrossModalEstimator or Pipeline
        Fitted; its views take what the task has, texts as strings and images as PIL images.
    name : str, default="crossfit/model"
        Name in the results of MTEB, ``organisation/model``.
    revision : str, default="1"
        Revision in the results.
    views : mapping of str to str, optional
        View of each modality of MTEB, by default ``{"text": "text", "image": "image"}``.
    similarity : {"cosine", "dot"}, default="cosine"
        Similarity of the encoded items.

    See Also
    --------
    mteb_result : Write an evaluation as a result of MTEB.

    Examples
    --------
    >>> from crossfit import Views
    >>> from crossfit.methods import CCA
    >>> Z = np.random.default_rng(0).normal(size=(20, 3))
    >>> encoder = MTEBEncoder(CCA(2).fit(Views(image=Z, text=Z[:, ::-1])))
    >>> encoder.encode([{"image": Z[:5]}, {"image": Z[5:8]}]).shape
    (8, 2)
    """

    def __init__(
        self,
        model: Any,
        name: str = "crossfit/model",
        revision: str = "1",
        *,
        views: Mapping[str, str] | None = None,
        similarity: str = "cosine",
    ) -> None:
        self.model, self.name, self.revision = model, name, revision
        self.views = {"text": "text", "image": "image"} if views is None else dict(views)
        self.measure = similarity

    def encode(self, inputs: Any, **options: Any) -> Any:
        """Map items into the common space.

        Parameters
        ----------
        inputs : iterable of mapping
            Batches of MTEB, with a list of items by modality.
        **options
            Further arguments of MTEB, such as the metadata of the task, which are not used.

        Returns
        -------
        ndarray of shape (n, n_components)

        Raises
        ------
        ValueError
            If a batch does not have exactly one modality that has a view.
        """
        found = []
        for batch in inputs:
            known = [name for name in self.views if name in batch]
            if len(known) != 1:
                raise ValueError(
                    f"a batch has the modalities {', '.join(batch)}, but one of "
                    f"{', '.join(self.views)} must be encoded; choose it by views"
                )
            values = batch[known[0]]
            if isinstance(values, list):
                values = _items(values)
            found.append(np.asarray(encode(self.model, values, self.views[known[0]])))
        return np.concatenate(found)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Return the similarity of every pair of encoded items.

        Parameters
        ----------
        embeddings1, embeddings2 : array-like of shape (n, d) and (m, d)
            Encoded items.

        Returns
        -------
        Tensor of shape (n, m)
        """
        import torch

        one, other = (np.atleast_2d(np.asarray(each, np.float64))
                      for each in (embeddings1, embeddings2))  # fmt: skip
        return torch.as_tensor(pairwise_similarity(one, other, measure=self.measure))

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Return the similarity of items with the same number.

        Parameters
        ----------
        embeddings1, embeddings2 : array-like of shape (n, d)
            Encoded items.

        Returns
        -------
        Tensor of shape (n,)
        """
        return self.similarity(embeddings1, embeddings2).diagonal()

    @property
    def mteb_model_meta(self) -> Any:
        """The metadata that MTEB stores with the results."""
        from mteb.models.model_meta import ModelMeta

        given = {
            "name": self.name, "revision": self.revision, "modalities": list(self.views),
            "similarity_fn_name": self.measure,
        }  # fmt: skip
        return ModelMeta.create_empty(given)


def _items(values: list[Any]) -> Any:
    """Return a list of texts or pictures as an array of objects, which is not taken apart."""
    if all(isinstance(each, np.ndarray) for each in values):
        return np.stack(values)
    items = np.empty(len(values), dtype=object)
    items[:] = values
    return items


@validated(
    found=[SystemEvaluation, CellRecord], path=[a_path()], task=[str], revision=[str, None],
    split=[str], subset=[str], direction=[str, None], languages=[list, tuple],
    seconds=[float, int, None],
)  # fmt: skip
def mteb_result(
    found: SystemEvaluation | CellRecord,
    path: str | os.PathLike[str],
    task: str,
    *,
    revision: str | None = None,
    split: str = "test",
    subset: str = "default",
    direction: str | None = None,
    languages: Any = ("eng-Latn",),
    seconds: float | None = None,
) -> Path:
    """Write an evaluation or a cell as a result of MTEB, which ``TaskResult.from_disk`` reads.

    Parameters
    ----------
    found : SystemEvaluation or CellRecord
        Evaluation of a system, or a finished cell of an experiment.
    path : path
        JSON file to write, ``TaskName.json``.
    task : str
        Name of the task in MTEB.
    revision : str, optional
        Revision of the data, by default that of the data set of the cell, or ``"unknown"``.
    split, subset : str, default="test" and "default"
        Part of the task.
    direction : str, optional
        Direction to write, such as ``"image2text"``, by default the first one. MTEB has a task of
        its own for each direction.
    languages : sequence of str, default=("eng-Latn",)
        Codes of language and script.
    seconds : float, optional
        Time of the evaluation.

    Returns
    -------
    pathlib.Path
        The file. ``main_score`` is the first metric; ``ndcg@10`` is ``ndcg_at_10``,
        ``map@10:all`` ``map_at_10``, ``p@5`` ``precision_at_5``, ``r@5:fraction``
        ``recall_at_5`` and ``r@5`` ``hit_rate_at_5``; others keep their names. Metrics without a
        value are left out.

    Raises
    ------
    ValueError
        If the cell has no result, there is no such direction, or the first metric has no value.

    See Also
    --------
    MTEBEncoder : Run a method in MTEB itself.
    crossfit.systems.write_cell : Write the scores of a cell as TREC runs.
    """
    if isinstance(found, CellRecord):
        if not found.results:
            raise ValueError(f"cell {found.label!r} has no result: {found.problem}")
        revision = revision or found.cell["dataset"].get("revision")
        directions = found.directions
    else:
        directions = found.evaluation.directions
    if direction is not None and direction not in directions:
        raise ValueError(f"direction must be one of {', '.join(directions)}, got {direction!r}")
    chosen = directions[0] if direction is None else direction
    names: Iterable[str] = (
        found.results[chosen] if isinstance(found, CellRecord) else found.evaluation.metrics
    )
    values = {name: found.mean(name, chosen) for name in names}
    main = next(iter(values))
    if not math.isfinite(values[main]):
        raise ValueError(f"{main} of {chosen} is {values[main]}, and MTEB needs a main score")
    scores: dict[str, Any] = {
        _mteb_name(parse_metric(name)): value
        for name, value in values.items()
        if math.isfinite(value)
    }
    scores |= {"main_score": values[main], "hf_subset": subset, "languages": list(languages)}
    content = {
        "dataset_revision": revision or "unknown", "task_name": task, "mteb_version": None,
        "scores": {split: [scores]}, "evaluation_time": seconds, "kg_co2_emissions": None,
    }  # fmt: skip
    file = Path(path)
    write_text(file, json.dumps(content, indent=2) + "\n")
    return file


def _mteb_name(measure: Measure) -> str:
    kind = _KINDS.get((measure.kind, measure.variant))
    if kind is None or measure.k is None or measure.adjusted:
        return measure.name
    return f"{kind}_at_{measure.k}"
