"""Fitted maps as ONNX files, which run without crossfit."""

from __future__ import annotations

import copy
import io
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit._arguments import a_path, shown, validated
from crossfit._files import whole_file
from crossfit.compose import ViewTransformer
from crossfit.querying import answering

__all__ = ["export"]

#: Largest difference from `encode`, relative to the largest entry.
TOLERANCE = 1e-5

Step = Callable[[Any], Any]


@validated(view=[str], path=[a_path()])
def export(model: Any, view: str, path: str | os.PathLike[str]) -> Path:
    """Write the map of one view into the common space as an ONNX file.

    The file takes float32 rows and returns what `crossfit.encode` returns for them. In a pipeline,
    it begins after the last step that is not array mathematics: a vectorizer or a network of
    pictures, for instance, whose features are then its input. Scalers, normalisation, PCA and
    TruncatedSVD after that step are part of the file. The metadata of the file name the view
    (``view``) and the steps that are not in it (``before``).

    Parameters
    ----------
    model : CrossModalEstimator or Pipeline
        Fitted.
    view : str
        Name of the view.
    path : path-like
        File to write; one that exists is replaced.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    ValueError
        If the method computes something that ONNX cannot express here; the message names the
        method. Every file is compared with `encode` in ONNX Runtime before it is written, and may
        differ by 1e-5 of the largest entry.
    ImportError
        If the packages of the extra ``onnx`` are not installed.

    See Also
    --------
    save : Write the whole model, for crossfit.

    Examples
    --------
    >>> import tempfile
    >>> from crossfit.methods import CCA
    >>> rng = np.random.default_rng(0)
    >>> cca = CCA(2).fit(rng.normal(size=(20, 3)), rng.normal(size=(20, 2)))
    >>> export(cca, "image", tempfile.mkdtemp() + "/image.onnx").name
    'image.onnx'
    """
    _required()
    steps, last = answering(model)
    method: Any = steps.pop() if not hasattr(last, "_encode") and steps else last
    if not hasattr(method, "_encode") or not hasattr(method, "views_in_"):
        raise ValueError(
            f"{type(method).__name__} cannot be exported; expected a fitted method with a common "
            "space, or a pipeline with one"
        )
    role = method._role_of(view)
    if getattr(getattr(method, "card", None), "kind", None) == "pair":
        raise _refusal(method, "it scores pairs and has no common space")
    width = method.n_features_in_.get(role) if isinstance(method.n_features_in_, Mapping) else None
    if width is None:
        raise _refusal(method, f"its view {view!r} does not consist of vectors")
    before, chain = _chain(steps, view)
    functions = [function for function, _ in chain]
    if chain:
        width = chain[0][1].n_features_in_
    functions.append(_map_of(method, role))
    rows = _rows(width, chain[0][1] if chain else method, view)

    def expected(values: NDArray[Any]) -> NDArray[Any]:
        for _, step in chain:
            values = step.transform(values)
        return np.asarray(method.encode(values, view))

    raw = _traced(functions, rows, method)
    raw = _described(raw, view, before, method)
    _compare(raw, rows, expected, method)
    target = Path(path)
    with whole_file(target, "the ONNX file", len(raw)) as draft:
        draft.write_bytes(raw)
    return target


def _required() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "export needs onnx and onnxruntime: pip install 'crossfit-retrieval[onnx]'"
        ) from error


def _refusal(method: Any, reason: str) -> ValueError:
    return ValueError(f"{type(method).__name__} cannot be exported to ONNX: {reason}")


# ---- steps before the method ---------------------------------------------------------------------


def _chain(steps: list[Any], view: str) -> tuple[list[str], list[tuple[Step, Any]]]:
    """Return names of the steps that stay outside, and the steps of the file with their maps."""
    flat: list[Any] = []
    for step in steps:
        if not isinstance(step, ViewTransformer):
            raise ValueError(
                f"{type(step).__name__} cannot be exported to ONNX: it maps all views at once"
            )
        if "*" in step.transformers_:
            raise ValueError("a transformer of all views cannot be exported to ONNX")
        found = step.transformers_.get(view, "passthrough")
        if isinstance(found, str):
            continue
        flat += _flattened(found)
    before: list[str] = []
    chain: list[tuple[Step, Any]] = []
    for step in flat:
        convert = _CONVERTERS.get(type(step).__name__) if _of_sklearn(step) else None
        function = None if convert is None else convert(step)
        if function is None:  # what follows begins here
            before += [type(inner).__name__ for _, inner in chain] + [type(step).__name__]
            chain = []
        else:
            chain.append((function, step))
    return before, chain


def _flattened(step: Any) -> list[Any]:
    if hasattr(step, "steps"):
        return [part for _, inner in step.steps for part in _flattened(inner)]
    return [] if step is None or step == "passthrough" else [step]


def _of_sklearn(step: Any) -> bool:
    return type(step).__module__.startswith("sklearn.")


def _tensor(values: Any) -> Any:
    import torch

    return torch.as_tensor(np.asarray(values, dtype=np.float32))


def _shift_and_scale(shift: Any, scale: Any) -> Step:
    """Return x -> (x - shift) / scale, where None stands for no change."""
    shift = None if shift is None else _tensor(shift)
    scale = None if scale is None else _tensor(scale)

    def function(x: Any) -> Any:
        x = x if shift is None else x - shift
        return x if scale is None else x / scale

    return function


def _min_max(step: Any) -> Step:
    scale, least = _tensor(step.scale_), _tensor(step.min_)
    low, high = step.feature_range
    return lambda x: (x * scale + least).clamp(low, high) if step.clip else x * scale + least


def _normalizer(step: Any) -> Step:
    def function(x: Any) -> Any:
        if step.norm == "l2":
            norms = (x * x).sum(dim=1, keepdim=True).sqrt()
        elif step.norm == "l1":
            norms = x.abs().sum(dim=1, keepdim=True)
        else:
            norms = x.abs().amax(dim=1, keepdim=True)
        return x / (norms + (norms == 0).to(x.dtype))

    return function


def _pca(step: Any) -> Step:
    components, mean = np.asarray(step.components_).T, _tensor(step.mean_)
    if step.whiten:
        components = components / np.sqrt(step.explained_variance_)
    weights = _tensor(components)
    return lambda x: (x - mean) @ weights


def _svd(step: Any) -> Step:
    weights = _tensor(np.asarray(step.components_).T)
    return lambda x: x @ weights


_CONVERTERS: dict[str, Callable[[Any], Step | None]] = {
    "StandardScaler": lambda step: _shift_and_scale(
        step.mean_ if step.with_mean else None, step.scale_
    ),
    "RobustScaler": lambda step: _shift_and_scale(
        step.center_ if step.with_centering else None, step.scale_ if step.with_scaling else None
    ),
    "MaxAbsScaler": lambda step: None if getattr(step, "clip", False) else _shift_and_scale(
        None, step.scale_
    ),
    "MinMaxScaler": _min_max,
    "Normalizer": _normalizer,
    "PCA": _pca,
    "TruncatedSVD": _svd,
}  # fmt: skip


# ---- methods -------------------------------------------------------------------------------------


def _map_of(method: Any, role: str) -> Step:
    """Return the map of a method from tensors to tensors."""
    if hasattr(method, "kernel_means_"):
        return _kernel_map(method, role)
    if hasattr(method, "classifiers_"):
        return _posteriors(method, role)
    if hasattr(method, "_encode_batch"):
        from crossfit.neural.batching import Items

        # Weights that need no gradient become constants of the file.
        module = copy.deepcopy(method.net_.module_).to("cpu").eval().requires_grad_(False)
        return lambda x: method._encode_batch(module, Items(x.float()), role).float()
    return lambda x: method._encode(x, role)


def _kernel_map(method: Any, role: str) -> Step:
    kernel = method._of_view("kernel", role)
    if kernel not in ("linear", "rbf", "poly", "polynomial", "sigmoid"):
        raise _refusal(method, f"the kernel {shown(kernel)} has no counterpart")
    import torch

    def double(values: Any) -> Any:
        return torch.as_tensor(np.asarray(values, dtype=np.float64))

    landmarks, centre = double(method.landmarks_[role]), double(method.kernel_means_[role])
    weights = double(method.weights_[role])
    gamma = method.gamma_[role]
    gamma = 1.0 / landmarks.shape[1] if gamma is None else float(gamma)
    scaled = (
        (double(method.means_[role]), double(method.scales_[role])) if method.standardize else None
    )

    def function(x: Any) -> Any:
        x = x.double()
        if scaled is not None:
            x = (x - scaled[0]) / scaled[1]
        products = x @ landmarks.T
        if kernel == "rbf":
            squares = (x * x).sum(dim=1, keepdim=True) - 2 * products
            K = torch.exp(-gamma * (squares + (landmarks * landmarks).sum(dim=1)).clamp(min=0))
        elif kernel == "linear":
            K = products
        elif kernel == "sigmoid":
            K = torch.tanh(gamma * products + method.coef0)
        else:
            K = (gamma * products + method.coef0) ** method.degree
        return ((K - centre) @ weights).float()

    return function


def _posteriors(method: Any, role: str) -> Step:
    """Return the posteriors of logistic regression, after the components of SCM if it has any."""
    import torch

    steps = _flattened(method.classifiers_[role])
    classifier = steps.pop()
    if type(classifier).__name__ != "LogisticRegression" or not all(
        _of_sklearn(step) and type(step).__name__ in _CONVERTERS for step in steps
    ):
        raise _refusal(method, f"its classifier is {type(classifier).__name__}")
    inner = [_CONVERTERS[type(step).__name__](step) for step in steps]
    weights, bias = _tensor(classifier.coef_.T), _tensor(classifier.intercept_)

    def function(x: Any) -> Any:
        x = method._components(x, role) if hasattr(method, "_components") else x
        for step in inner:
            assert step is not None
            x = step(x)
        logits = x @ weights + bias
        if logits.shape[1] == 1:  # two classes
            logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
        return torch.softmax(logits, dim=1)

    return function


# ---- writing and checking ------------------------------------------------------------------------


def _rows(width: int, first: Any, view: str) -> NDArray[Any]:
    """Return rows on which the file is compared with `encode`."""
    rng = np.random.RandomState(0)
    means = getattr(first, "mean_", getattr(first, "means_", None))
    if isinstance(means, Mapping):
        means = means.get(first._role_of(view))
    means = np.asarray(means) if means is not None and np.shape(means) == (width,) else 0.0
    scale = getattr(first, "scale_", None)
    scale = np.asarray(scale) if scale is not None and np.shape(scale) == (width,) else 1.0
    return np.asarray(means + scale * rng.normal(size=(12, width)), dtype=np.float32)


def _traced(functions: list[Step], rows: NDArray[Any], method: Any) -> bytes:
    import torch

    class Chain(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            for function in functions:
                x = function(x)
            return x.float()

    stream: Any = io.BytesIO()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of the tracer: the result is compared below
            torch.onnx.export(
                Chain().eval(), (torch.as_tensor(rows),), stream, dynamo=False,
                input_names=["rows"], output_names=["encoded"],
                dynamic_axes={"rows": {0: "n"}, "encoded": {0: "n"}},
            )  # fmt: skip
    except Exception as error:  # of any operation of the method
        words = (str(error).strip().splitlines() or [""])[0][:200]
        raise _refusal(
            method, f"its encode does not map rows of vectors by tensor operations ({words})"
        ) from error
    return stream.getvalue()


def _described(raw: bytes, view: str, before: list[str], method: Any) -> bytes:
    import onnx

    import crossfit

    graph = onnx.load_from_string(raw)
    about = {"view": view, "before": ", ".join(before), "method": type(method).__name__}
    onnx.helper.set_model_props(graph, about)
    graph.producer_name, graph.producer_version = "crossfit", crossfit.__version__
    onnx.checker.check_model(graph)
    return bytes(graph.SerializeToString())


def _compare(raw: bytes, rows: NDArray[Any], expected: Step, method: Any) -> None:
    """Raise unless ONNX Runtime returns what `encode` returns, for other numbers of rows too."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(raw, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime has no common class of its errors
        raise _refusal(method, "ONNX Runtime does not accept one of its operations") from error
    for part in (rows, rows[::-1][:5] * 0.5, rows[:1]):
        part = np.ascontiguousarray(part)
        try:
            wanted = expected(part)
        except ValueError as error:
            raise _refusal(method, f"it rejects rows to compare with: {error}") from error
        try:
            (found,) = session.run(None, {"rows": part})
        except Exception as error:  # the runtime has no common class of its errors
            raise _refusal(method, "its encode depends on the number of rows") from error
        scale = max(float(np.abs(wanted).max(initial=0)), float(np.finfo(np.float32).tiny))
        if found.shape != wanted.shape or not np.abs(found - wanted).max() <= TOLERANCE * scale:
            raise _refusal(method, "its encode is not array mathematics that can be traced")
