"""Facts about a fitted method that are stored with its scores: size, curve, attention maps."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from crossfit._sizes import dimensions_of, parameters_of
from crossfit._warnings import warn
from crossfit.experiment.evaluate import Arrays
from crossfit.experiment.task import reason_of
from crossfit.views import Views

__all__ = ["attention_of", "fitted_views", "history_of", "kept_epoch", "size_of"]

#: Number of test pairs, from the first, whose attention is stored.
EXPLAINED = 4


def fitted_views(model: Any) -> tuple[str, ...]:
    """Return the names of the views on which a model was fitted."""
    from crossfit.querying import answering, view_names

    return view_names(answering(model)[1])


def size_of(model: Any, views: Views) -> dict[str, int | None]:
    """Return the number of parameters of a network and of dimensions of a common space."""
    method = model[0] if isinstance(model, Pipeline) else model
    # A method that scores pairs does not have a common space.
    dimensions = dimensions_of(method, views) if hasattr(method, "transform") else None
    return {"parameters": parameters_of(method), "dimensions": dimensions}


def attention_of(method: Any, views: Views, raw: Views) -> Arrays:
    """Return attention maps of the first test pairs, if the method has ``explain``.

    Keys are ``"<number>|<part>"``, see `CellRecord.attention`. `raw` holds the views before feature
    extraction.
    """
    if not hasattr(method, "explain"):
        return {}
    rows = np.sort(np.unique(views.groups, return_index=True)[1])[:EXPLAINED]
    try:
        explained = method.explain(views[rows])
        texts = [name for name in raw.names if _is_text(raw[rows][name])]
        found: Arrays = {}
        for i, row in enumerate(rows):
            for name in explained.names:
                weights = explained[name][[i]]
                info = getattr(weights, "info", {})
                number = len({key.partition("|")[0] for key in found})
                view = name if name in views else views.names[0]
                parts: dict[str, Any] = {
                    "weights": np.asarray(weights[0], np.float32),
                    "item": views.distinct(view)[1][row],
                    "view": name,
                    "query": str(raw[rows][texts[0]][i]) if texts else "",
                }
                if "boxes" in info:
                    parts["regions"] = np.asarray(info["boxes"], np.float32)
                if "grid" in info:
                    parts["grid"] = np.asarray(info["grid"])
                if "words" in info:
                    parts["words"] = np.asarray(list(info["words"]), dtype=str)
                if "quantity" in info:
                    parts["quantity"] = np.asarray(str(info["quantity"]))
                found |= {f"{number}|{key}": np.asarray(part) for key, part in parts.items()}
        return {key: part for key, part in found.items() if part.dtype != object}
    except Exception as error:
        warn(f"no attention maps: {reason_of(error)}")
        return {}


def _is_text(values: Any) -> bool:
    return getattr(values, "dtype", None) == np.dtype(object) and isinstance(values[0], str)


def history_of(method: Any) -> list[dict[str, Any]]:
    """Return the plain values of each epoch of a trained network."""
    history = getattr(getattr(method, "net_", None), "history", None) or []
    return [
        {
            key: float(value) if isinstance(value, (float, np.floating)) else value
            for key, value in row.items()
            if isinstance(value, (bool, int, float, str, np.floating))
        }
        for row in history
    ]


def kept_epoch(method: Any) -> int | None:
    """Return the epoch to whose weights early stopping returned; None if it did not."""
    callbacks = getattr(getattr(method, "net_", None), "callbacks_", None)  # not in a bundle
    if not callbacks:
        return None
    from skorch.callbacks import EarlyStopping

    epochs = [
        callback.best_epoch_
        for _, callback in callbacks
        if isinstance(callback, EarlyStopping) and callback.load_best
    ]
    return epochs[-1] or None if epochs else None
