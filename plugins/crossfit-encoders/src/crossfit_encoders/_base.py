"""Parts that all encoders share: precision, and the key of the cache."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval, StrOptions

from crossfit.extraction import MultimodalExtractor
from crossfit.extraction.onnx import RUNTIME, onnx_outputs
from crossfit.extraction.weights import resolve_device
from crossfit_encoders._files import version_of

__all__ = ["COMMON_CONSTRAINTS", "Encoder", "Rows"]

Rows = NDArray[Any] | Sequence[NDArray[Any]]

COMMON_CONSTRAINTS: dict[str, list[Any]] = {
    "view": [StrOptions({"auto", "image", "text", "audio"})],
    "revision": [str, None],
    "precision": [StrOptions({"auto", "float32", "half"})],
    "runtime": RUNTIME,
    "batch_size": [Interval(Integral, 1, None, closed="left")],
    "device": [str],
    "cache": ["boolean"],
    "verbose": [StrOptions({"auto"}), "boolean"],
}


class Encoder(MultimodalExtractor):
    """Base class of extractors with a pretrained model of a library."""

    library: ClassVar[str]
    """Import name of the library that runs the model."""

    # The content of the model is part of the key, not the place where it is. So is the precision
    # in which it runs, see `fingerprint`; and the view is part of the content of an item.
    neutral_parameters = MultimodalExtractor.neutral_parameters | {
        "model", "precision", "pretrained", "revision", "view", "weights",
    }  # fmt: skip

    model: str | os.PathLike[str]
    view: str
    precision: str
    runtime: str
    device: str

    def _validate_params(self) -> None:
        super()._validate_params()
        if self.runtime == "onnx" and self.precision == "half":
            raise ValueError(
                "precision='half' is for runtime='torch'; ONNX Runtime runs the model with 32 bits"
            )

    def _half(self) -> bool:
        """Return True if the model runs in half precision: on a GPU only."""
        if self.precision == "float32" or self.runtime == "onnx":
            return False
        return resolve_device(self.device).startswith("cuda")

    def _torch_device(self) -> str:
        """Return the device of the torch model, which only prepares and names for ONNX Runtime."""
        return "cpu" if self.runtime == "onnx" else resolve_device(self.device)

    def _by_onnx(
        self,
        network: Any,
        run: Callable[..., Sequence[Any]],
        inputs: Mapping[str, Any],
        identity: Sequence[Any],
        varying: Sequence[str] = (),
    ) -> list[Any]:
        """Return the outputs of a model; see `crossfit.extraction.onnx.onnx_outputs`."""
        return onnx_outputs(
            lambda: (network, run),
            inputs,
            [self._weights_id(), version_of(self.library), *identity],
            type(self).__name__,
            varying=varying,
            device=resolve_device(self.device),
        )

    def _extract(self, batch: list[Any]) -> Rows:
        rows = super()._extract(batch)
        if self._half() and not all(np.isfinite(row).all() for row in rows):
            raise ValueError(
                f"{type(self).__name__}: the model {os.fspath(self.model)!r} returns features that "
                "are not finite in half precision; set precision='float32'"
            )
        return rows

    def fingerprint(self) -> str:
        """Return a hash of everything that affects the output, except the items."""
        # Preparation of items is part of the library, and may change with its version.
        run = [super().fingerprint(), version_of(self.library), "half" if self._half() else ""]
        return hashlib.sha256(" ".join(run).encode()).hexdigest()
