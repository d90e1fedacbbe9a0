"""Models in MLflow: a bundle as the artifact of a ``pyfunc`` flavour, without pickle."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from crossfit._arguments import a_path, validated
from crossfit.persistence import load, save
from crossfit.querying import answering, encode, search

__all__ = ["load_model", "log_model", "save_model"]

_BUNDLE = "bundle"


class _Served:
    """The object that ``mlflow.pyfunc.load_model`` wraps."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> Any:
        """Return results of a search, or vectors of a model without an indexed gallery.

        `data` is a DataFrame with one column, named as a view; the parameter ``k`` is the number
        of results.
        """
        names = list(getattr(data, "columns", ()))
        if len(names) != 1:
            raise ValueError(
                "predict expects a DataFrame with one column, named as a view, got the columns "
                f"{', '.join(map(str, names)) or 'of no DataFrame'}"
            )
        view = str(names[0])
        values = data[names[0]].to_numpy(dtype=object)
        if getattr(answering(self.model)[1], "index_", None) is None:
            return encode(self.model, values, view)
        return search(self.model, values, view=view, k=int((params or {}).get("k", 10))).to_frame()


@validated(path=[a_path()])
def save_model(model: Any, path: str | os.PathLike[str], mlflow_model: Any = None) -> Path:
    """Write a model as a folder of MLflow, with the flavours ``crossfit`` and ``python_function``.

    Parameters
    ----------
    model : estimator
        Fitted; what `crossfit.save` writes.
    path : path-like
        Folder, which must be empty or not exist.
    mlflow_model : mlflow.models.Model, optional
        Description to which the flavours are added; MLflow passes it.

    Returns
    -------
    pathlib.Path
        The folder. ``mlflow.pyfunc.load_model(folder).predict(frame)`` takes a DataFrame with one
        column, named as a view, and returns vectors; or, if the `RetrievalScorer` has an indexed
        gallery, the rows of a search, of which the parameter ``k`` sets the number.

    Raises
    ------
    BundleError
        If the model cannot be saved.
    ImportError
        If mlflow is not installed.

    Examples
    --------
    >>> from crossfit.mlflow import save_model  # doctest: +SKIP
    >>> save_model(model, "model")  # doctest: +SKIP
    """
    mlflow = _mlflow()
    target = Path(path)
    if target.exists() and any(target.iterdir()):
        raise FileExistsError(f"{target} is not empty; choose a new folder")
    save(model, target / _BUNDLE)
    import crossfit

    written = mlflow.models.Model() if mlflow_model is None else mlflow_model
    written.add_flavor("crossfit", crossfit_version=crossfit.__version__, data=_BUNDLE)
    mlflow.pyfunc.add_to_model(written, loader_module=__name__, data=_BUNDLE)
    written.save(str(target / "MLmodel"))
    return target


def log_model(model: Any, name: str = "model", **options: Any) -> Any:
    """Log a model to the active run of MLflow.

    Parameters
    ----------
    model : estimator
        As in `save_model`.
    name : str, default="model"
        Name of the model in the run.
    **options
        Arguments of ``mlflow.models.Model.log``, such as ``registered_model_name``.

    Returns
    -------
    mlflow.models.model.ModelInfo
        ``model_uri`` is its address.

    Examples
    --------
    >>> from crossfit.mlflow import log_model  # doctest: +SKIP
    >>> log_model(model).model_uri  # doctest: +SKIP
    """
    import sys

    mlflow = _mlflow()
    return mlflow.models.Model.log(
        artifact_path=None, name=name, flavor=sys.modules[__name__], model=model, **options
    )


def load_model(uri: str) -> Any:
    """Return the crossfit model of a folder or address of MLflow.

    Parameters
    ----------
    uri : str
        Such as ``"models:/name/1"`` or a folder.

    Returns
    -------
    estimator

    Examples
    --------
    >>> from crossfit.mlflow import load_model  # doctest: +SKIP
    >>> load_model("models:/emoji/1")  # doctest: +SKIP
    """
    mlflow = _mlflow()
    return load(Path(mlflow.artifacts.download_artifacts(uri)) / _BUNDLE)


def _load_pyfunc(path: str) -> _Served:
    """Return what MLflow serves; it calls this by name."""
    return _Served(load(path))


def _mlflow() -> Any:
    try:
        import mlflow
        import mlflow.artifacts
        import mlflow.models
        import mlflow.pyfunc
    except ImportError as error:
        raise ImportError(
            "models of MLflow need mlflow: pip install 'crossfit-retrieval[trackers]'"
        ) from error
    return mlflow
