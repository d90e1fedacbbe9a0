"""Networks that ONNX Runtime runs instead of torch: exported once, into the cache."""

from __future__ import annotations

import contextlib
import copy
import functools
import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils._param_validation import StrOptions

from crossfit._torch import isolated
from crossfit.cache import networks_folder

if TYPE_CHECKING:
    import torch

__all__ = ["RUNTIME", "onnx_outputs", "onnxruntime_of"]

RUNTIME = [StrOptions({"torch", "onnx"})]
"""Constraint of the parameter ``runtime`` of extractors."""

_ALIKE = 1e-4  # largest distance of cosines from 1


def onnxruntime_of(need: str) -> Any:
    """Return ONNX Runtime.

    Raises
    ------
    ImportError
        If it is not installed; the message starts with the need and names the extra.
    """
    try:
        import onnxruntime
    except ImportError:
        raise ImportError(
            f"{need} needs onnxruntime: `pip install crossfit-retrieval[onnx]`"
        ) from None
    return onnxruntime


def onnx_outputs(
    build: Callable[[], tuple[Any, Callable[..., Sequence[torch.Tensor]]]],
    inputs: Mapping[str, torch.Tensor],
    identity: Sequence[Any],
    owner: str,
    *,
    varying: Sequence[str] = (),
    device: str = "cpu",
) -> list[torch.Tensor]:
    """Return the outputs of a network, computed by ONNX Runtime.

    The network is exported when it is first used, and is stored in the cache for later processes.
    The outputs of the exported network are compared with those of torch before it is stored.

    Parameters
    ----------
    build : callable without arguments
        Returns a torch module, and a function that takes `inputs` by their names and returns its
        outputs as tensors; called only if the network is not in the cache.
    inputs : mapping of str to Tensor
        One batch on the CPU. The first axis is the batch.
    identity : sequence of str, int, bool or None
        What the outputs depend on except `inputs`: weights, layer, version of the library.
    owner : str
        Name of the class, for error messages.
    varying : sequence of str, optional
        Names of inputs whose second axis varies, such as tokens. All axes but the first two are
        fixed; a network of another shape of `inputs` is another one.
    device : str, default="cpu"
        Torch device of the extractor: ONNX Runtime uses the GPU if it is one.

    Returns
    -------
    list of Tensor
        The outputs, on the CPU.

    Raises
    ------
    ImportError
        If onnxruntime, or for an export onnx and onnxscript, are not installed.
    ValueError
        If torch cannot export the network, or if the outputs differ.
    """
    import torch

    shapes = {
        name: [str(part.dtype), *part.shape[2 if name in varying else 1 :]]
        for name, part in inputs.items()
    }
    text = json.dumps([owner, list(identity), shapes, torch.__version__], default=str)
    folder = networks_folder() / hashlib.sha256(text.encode()).hexdigest()
    file = folder / "network.onnx"
    onnxruntime_of(f"{owner}(runtime='onnx')")
    if not file.is_file():
        _export(build, inputs, varying, folder, owner)
    session = _session(file, device, torch.get_num_threads(), owner)
    given = {
        # An input that does not affect the outputs is not part of the exported network.
        entry.name: np.ascontiguousarray(inputs[entry.name].numpy())
        for entry in session.get_inputs()
    }
    return [torch.from_numpy(part) for part in session.run(None, given)]


@functools.lru_cache(maxsize=8)
def _session(file: Path, device: str, threads: int, owner: str) -> Any:
    onnxruntime = onnxruntime_of(f"{owner}(runtime='onnx')")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    provider: Any = "CPUExecutionProvider"
    if device.startswith("cuda"):
        provider = ("CUDAExecutionProvider", {"device_id": int(device.partition(":")[2] or 0)})
        if provider[0] not in onnxruntime.get_available_providers():
            raise ValueError(
                f"{owner}: this onnxruntime does not run on {device!r}; install onnxruntime-gpu, "
                "or set device='cpu' or runtime='torch'"
            )
    try:
        return onnxruntime.InferenceSession(file, options, providers=[provider])
    except Exception as error:  # damaged files cause errors of many classes
        raise ValueError(
            f"{owner}: onnxruntime cannot run {str(file)!r}, which was exported before: "
            f"{_first_line(error)}; delete it, and it is exported again"
        ) from error


def _export(
    build: Callable[[], tuple[Any, Callable[..., Sequence[torch.Tensor]]]],
    inputs: Mapping[str, torch.Tensor],
    varying: Sequence[str],
    folder: Path,
    owner: str,
) -> None:
    """Write a network into a folder, all of it or nothing."""
    import torch

    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        raise ImportError(
            f"{owner}(runtime='onnx') needs onnx and onnxscript to export the network: "
            "`pip install crossfit-retrieval[onnx]`"
        ) from None

    class Exported(torch.nn.Module):
        def __init__(self, network: Any, run: Callable[..., Sequence[torch.Tensor]]) -> None:
            super().__init__()
            self.network = network
            self.run = functools.partial(run, network)

        def forward(self, *parts: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(self.run(**dict(zip(inputs, parts))))

    folder.parent.mkdir(parents=True, exist_ok=True)
    dynamic = torch.export.Dim.DYNAMIC
    axes = [{0: dynamic, 1: dynamic} if name in varying else {0: dynamic} for name in inputs]
    # Axes of one size would be taken for one axis, and one row for a network of single rows.
    n = 2 if any(inputs[name].shape[1] == 3 for name in varying) else 3
    with isolated(), torch.no_grad(), _silent():
        # Tensors of torch's inference mode cannot be exported; one row would fix the batch size.
        network, run = build()
        module = Exported(copy.deepcopy(network).to("cpu"), run).eval()
        example = tuple(torch.cat([part[:n]] * n)[:n].clone() for part in inputs.values())
        expected = [part.numpy() for part in module(*example)]
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".export-") as new:
            file = Path(new, "made", "network.onnx")
            file.parent.mkdir()
            try:
                program = torch.onnx.export(
                    module,
                    example,
                    dynamo=True,
                    dynamic_shapes={"parts": tuple(axes)},
                    input_names=list(inputs),
                    verbose=False,
                )
                assert program is not None
                program.save(file, external_data=True)
            except Exception as error:  # the exporter raises almost anything
                raise ValueError(
                    f"{owner}: torch cannot export this network to ONNX: {_first_line(error)}; "
                    "set runtime='torch'"
                ) from error
            session = _session.__wrapped__(file, "cpu", torch.get_num_threads(), owner)
            given = dict(zip(inputs, (part.numpy() for part in example)))
            names = [entry.name for entry in session.get_inputs()]
            found = session.run(None, {name: given[name] for name in names})
            for part, known in zip(found, expected, strict=True):
                if part.shape != known.shape or _distance(part, known) > _ALIKE:
                    raise ValueError(
                        f"{owner}: the exported network returns other features than torch's; set "
                        "runtime='torch'"
                    )
            # Another process may have been faster.
            with contextlib.suppress(OSError):
                os.rename(file.parent, folder)
    if not (folder / "network.onnx").is_file():
        raise OSError(f"{owner}: the exported network cannot be stored in {str(folder)!r}")


def _distance(x: np.ndarray, y: np.ndarray) -> float:
    """Return 1 minus the smallest cosine of the rows of two arrays."""
    x, y = (np.asarray(part, float).reshape(len(part), -1) for part in (x, y))
    norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    return float(np.max(1 - ((x * y).sum(1) + 1e-30) / (norms + 1e-30), initial=0))


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    import logging

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        level = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(level)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
