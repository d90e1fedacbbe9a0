"""Detectors: the objects in an image, with one vector per object."""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.base import clone
from sklearn.utils._param_validation import Interval, StrOptions

from crossfit._devices import resolve_device
from crossfit._frames import frame_of
from crossfit._html import html_table
from crossfit._torch import isolated
from crossfit.extraction.images import MAX_PIXELS, ImageExtractor
from crossfit.extraction.regions import make_regions
from crossfit.extraction.weights import (
    exact,
    file_sha256,
    fill,
    load_weights,
    seeded,
    weights_id,
)
from crossfit.views import Ragged

if TYPE_CHECKING:
    import torch

__all__ = ["COCO", "Detections", "Detector", "FasterRCNN", "OnnxDetector"]

_WHOLE = np.array([[0, 0, 1, 1]], np.float32)

COCO = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat",
    "traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog",
    "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella",
    "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite",
    "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich",
    "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch",
    "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote",
    "keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book",
    "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
"""The eighty classes of COCO's detection task, in its order."""


class Detections(NamedTuple):
    """Boxes in one image, with their scores, classes and vectors.

    Parameters
    ----------
    boxes : ndarray of shape (R, 4)
        Left, top, right and bottom, as shares of the image's width and height.
    scores : ndarray of shape (R,)
        Confidence, from 0 to 1.
    labels : ndarray of int, shape (R,)
        Index of the class; -1 for no class.
    vectors : ndarray of shape (R, d)
        Features of the boxes.
    """

    boxes: NDArray[Any]
    scores: NDArray[Any]
    labels: NDArray[Any]
    vectors: NDArray[Any]

    def to_frame(self) -> Any:
        """Return the boxes as a pandas DataFrame; pandas must be installed.

        Returns
        -------
        pandas.DataFrame
            Columns ``left, top, right, bottom, score`` and ``label``.
        """
        return frame_of(_box_rows(self))

    def _repr_html_(self) -> str:
        rows = _box_rows(self)[:20]
        return html_table(
            repr(self), list(rows[0]) if rows else [], [[*row.values()] for row in rows]
        )

    def __repr__(self) -> str:
        return f"Detections({len(self.boxes)} boxes, vectors of shape {np.shape(self.vectors)})"


def _box_rows(found: Detections) -> list[dict[str, Any]]:
    """Return one row per box."""
    return [
        dict(zip(("left", "top", "right", "bottom"), map(float, box)))
        | {"score": float(score), "label": int(label)}
        for box, score, label in zip(found.boxes, found.scores, found.labels)
    ]


class Detector(ImageExtractor):
    """Base class of extractors of regions, which implement `_detect` and `_label_names`.

    `_detect` receives a list of RGB arrays and returns the `Detections` of each. For an image
    without objects it must return one region, the whole image, with score 0 and label -1, because
    attention over an empty set is undefined.
    """

    def _detect(self, batch: list[np.ndarray]) -> list[Detections]:
        raise NotImplementedError(f"{type(self).__name__} must implement _detect(batch)")

    def _label_names(self) -> tuple[str, ...]:
        raise NotImplementedError(f"{type(self).__name__} must implement _label_names()")

    def _extract(self, batch: list[np.ndarray]) -> list[np.ndarray]:
        # The cache stores one array per image; float32 represents labels up to 2**24 exactly.
        return [
            np.column_stack([found.boxes, found.scores, found.labels, found.vectors]).astype("f4")
            for found in self._detect(batch)
        ]

    def _collect(self, rows: list[np.ndarray]) -> Ragged:
        return make_regions(
            [row[:, 6:] for row in rows],
            [row[:, :4] for row in rows],
            [row[:, 4] for row in rows],
            [row[:, 5] for row in rows],
            self._label_names(),
        )


def _check_label_names(names: Sequence[str] | None) -> None:
    if names is None:
        return
    listed = isinstance(names, Sequence) or hasattr(names, "__array__")
    wrong = [name for name in names if not isinstance(name, str)] if listed else [names]
    if wrong:
        raise ValueError(f"label_names must be a sequence of strings, got {wrong[0]!r}")


class FasterRCNN(Detector):
    """Objects that torchvision's Faster R-CNN [1]_ detects, with fully connected features.

    The boxes that remain after the non-maximum suppression of the network are pooled again from
    the feature maps and passed through the two fully connected layers of its head. Their output
    after the ReLU is the vector of a box.

    Parameters
    ----------
    name : str, default="fasterrcnn_resnet50_fpn"
        One of torchvision's Faster R-CNNs: ``"fasterrcnn_resnet50_fpn"``,
        ``"fasterrcnn_resnet50_fpn_v2"`` or those with MobileNetV3.
    weights : str, path-like or None, default="DEFAULT"
        ``"DEFAULT"`` or another torchvision name of weights, which are read from torch's folder of
        downloads or downloaded; or a ``.safetensors`` file or a state dictionary saved by torch,
        with any number of classes. If None, weights are random, drawn from `random_state`; they are
        for tests and do not detect objects.
    top_k : int, default=10
        Largest number of boxes per image; those with the highest scores are kept.
    score_threshold : float, default=0.05
        Lowest score of a box.
    nms_threshold : float, default=0.5
        If two boxes of the same class overlap by more than this (intersection over union), the one
        with the lower score is removed.
    min_size : int, optional
        Side in pixels to which the shorter side of images is resized; by default that of the
        network, 800 or 320. The longer side remains below the limit of the network.
    label_names : sequence of str, optional
        Names of the classes, with the background first; by default those of COCO, which has 91.
    random_state : int, default=0
        Seed of random weights.
    max_pixels : int or None, default=50_000_000
        Largest number of pixels of a file; see `load_rgb`.
    batch_size : int, default=8
        Number of images read at once. The network processes them one at a time, because padding
        to a common size would make the features of an image depend on the others.
    device : str, default="auto"
        Any torch device; ``"auto"`` is CUDA if it is available, else the CPU.
    cache : bool, default=True
        Whether to store features in the feature cache.
    verbose : {"auto", True, False}, default="auto"
        Progress bar: for long runs on a terminal, always, or never.

    Attributes
    ----------
    n_features_out_ : int
        1024.
    weights_id_ : str
        Identifier of the weights.

    Raises
    ------
    ValueError
        If there is no such network, or if the weights belong to another.
    FileNotFoundError
        If the weights are not a file and cannot be downloaded.

    Notes
    -----
    `transform` returns a `Ragged` in the format of `make_regions`: float32 vectors (R_i, 1024) with
    boxes, scores and labels, by decreasing score. An image without objects has the whole image as
    its only region, with score 0 and label -1.

    References
    ----------
    .. [1] S. Ren, K. He, R. Girshick, J. Sun: Faster R-CNN: towards real-time object detection
       with region proposal networks, NIPS 2015.
    """

    # Results depend on the content of the weights, not on their path.
    neutral_parameters = Detector.neutral_parameters | {"weights"}

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "name": [str],
        "weights": [str, os.PathLike, None],
        "top_k": [Interval(Integral, 1, 100_000, closed="both")],
        "score_threshold": [Interval(Real, 0, 1, closed="left")],
        "nms_threshold": [Interval(Real, 0, 1, closed="both")],
        "min_size": [Interval(Integral, 1, 16_384, closed="both"), None],
        "label_names": ["array-like", None],
        "random_state": [Interval(Integral, 0, 2**32 - 1, closed="both")],
        "max_pixels": [Interval(Integral, 1, None, closed="left"), None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "device": [str],
        "cache": ["boolean"],
        "verbose": [StrOptions({"auto"}), "boolean"],
    }

    def __init__(
        self,
        name: str = "fasterrcnn_resnet50_fpn",
        weights: str | os.PathLike[str] | None = "DEFAULT",
        top_k: int = 10,
        score_threshold: float = 0.05,
        nms_threshold: float = 0.5,
        *,
        min_size: int | None = None,
        label_names: Sequence[str] | None = None,
        random_state: int = 0,
        max_pixels: int | None = MAX_PIXELS,
        batch_size: int = 8,
        device: str = "auto",
        cache: bool = True,
        verbose: bool | str = "auto",
    ) -> None:
        self.name = name
        self.weights = weights
        self.top_k = top_k
        self.score_threshold = score_threshold
        self.nms_threshold = nms_threshold
        self.min_size = min_size
        self.label_names = label_names
        self.random_state = random_state
        self.max_pixels = max_pixels
        self.batch_size = batch_size
        self.device = device
        self.cache = cache
        self.verbose = verbose

    def _validate_params(self) -> None:
        super()._validate_params()
        _check_label_names(self.label_names)
        from torchvision.models import list_models

        known = list_models(include="fasterrcnn_*")
        if self.name not in known:
            raise ValueError(f"name must be one of {', '.join(known)}, got {self.name!r}")

    def _n_outputs(self) -> int:
        return 1024

    def _weights_id(self) -> str:
        if self.weights is None:
            return f"random {self.random_state}"
        return weights_id(self.name, self.weights)

    def _label_names(self) -> tuple[str, ...]:
        if self.label_names is not None:
            return tuple(self.label_names)
        from torchvision.models import get_model_weights

        return tuple(get_model_weights(self.name).DEFAULT.meta["categories"])

    def _detect(self, batch: list[np.ndarray]) -> list[Detections]:
        import torch

        device = resolve_device(self.device)
        weights = None if self.weights is None else os.fspath(self.weights)
        network: Any = _faster_rcnn(
            self.name, weights, self._weights_id(), self.random_state, device, self.min_size
        )
        # A copy that shares the weights, since another thread may use other settings.
        head = copy.copy(network.roi_heads)
        n_classes = head.box_predictor.cls_score.out_features
        if n_classes != len(self._label_names()):
            raise ValueError(
                f"label_names must name the {n_classes} classes of the weights, the background "
                f"first, got {len(self._label_names())} names"
            )
        head.score_thresh, head.nms_thresh = self.score_threshold, self.nms_threshold
        head.detections_per_img = self.top_k
        found = []
        with exact():
            for image in batch:
                pixels = torch.tensor(image, device=device)
                images, _ = network.transform([pixels.permute(2, 0, 1).float() / 255])
                maps = network.backbone(images.tensors)
                proposals, _ = network.rpn(images, maps)
                ((detected,), _) = head(maps, proposals, images.image_sizes)
                height, width = images.image_sizes[0]
                scale = pixels.new_tensor([width, height, width, height], dtype=torch.float32)
                boxes, scores, labels = (detected[k] for k in ("boxes", "scores", "labels"))
                if not len(boxes):
                    boxes, scores = scale.new_tensor(_WHOLE) * scale, scale.new_zeros(1)
                    labels = scale.new_full((1,), -1)
                pooled = head.box_roi_pool(maps, [boxes], images.image_sizes)
                vectors = head.box_head(pooled)
                parts = ((boxes / scale).clamp(0, 1), scores, labels, vectors)
                found.append(Detections(*(part.cpu().numpy() for part in parts)))
        return found


@functools.lru_cache(maxsize=2)
def _faster_rcnn(
    name: str, weights: str | None, identity: str, seed: int, device: str, min_size: int | None
) -> torch.nn.Module:
    """Build a detector once per process and device, so that estimators need not contain it."""
    from torch import nn
    from torchvision.models import get_model

    options: dict[str, Any] = {} if min_size is None else {"min_size": min_size}
    state = None if weights is None else load_weights(name, weights)
    if state is not None:
        classes = state.get("roi_heads.box_predictor.cls_score.bias")
        if classes is not None:
            options["num_classes"] = len(classes)
    # Not on "meta", because the anchors are tensors that would remain there.
    with isolated(), seeded(seed):
        network = get_model(name, weights=None, weights_backbone=None, **options)
    if state is not None:
        fill(network, state, weights)
        if identity.startswith("258fb6c6") or "-258fb6c6." in identity:
            # torchvision's first weights were trained without this term, and are loaded without it.
            for part in network.modules():
                if isinstance(part, nn.BatchNorm2d):
                    part.eps = 0.0
    return network.to(device).eval().requires_grad_(False)


class OnnxDetector(Detector):
    """Objects that a detector in an ONNX file detects, with ``onnxruntime`` on the CPU.

    This class is for FastestDet [1]_. Its input are images that are resized to a fixed size
    without keeping the aspect ratio, BGR from 0 to 1. Its output has 5 + C channels on a grid: the
    objectness of each cell, the offset of the centre of the box (before tanh), its width and height
    (before the logistic function) and the probabilities of C classes. The score is
    ``objectness**0.6 * p**0.4`` with the largest probability p, as in the code of the authors. For
    other detectors, derive a class that overrides `_prepare` and `_decode`.

    Parameters
    ----------
    path : str or path-like
        The ONNX file.
    top_k : int, default=10
        Largest number of boxes per image; those with the highest scores are kept.
    score_threshold : float, default=0.5
        Lowest score of a box.
    nms_threshold : float, default=0.45
        If two boxes of the same class overlap by more than this (intersection over union), the one
        with the lower score is removed.
    describe : extractor, optional
        Extractor of image vectors that does not need a fit, for instance a `Backbone`. It computes
        the vector of each box from its content. By default, the vector has the class probabilities.
    label_names : sequence of str, optional
        Names of the classes; by default the eighty classes of COCO.
    max_pixels : int or None, default=50_000_000
        Largest number of pixels of a file; see `load_rgb`.
    batch_size : int, default=32
        Number of images that are read at once and whose boxes are described together.
    cache : bool, default=True
        Whether to store features in the feature cache.
    verbose : {"auto", True, False}, default="auto"
        Progress bar: for long runs on a terminal, always, or never.

    Attributes
    ----------
    n_features_out_ : int
        Size of a vector.
    weights_id_ : str
        SHA-256 of the file, and the identifier of the weights of `describe`.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ImportError
        If onnxruntime is not installed.
    ValueError
        If the file is not an ONNX network, or if its output has another shape.

    Notes
    -----
    `transform` returns a `Ragged` in the format of `make_regions`: float32 vectors (R_i, d) with
    boxes, scores and labels, by decreasing score. An image without objects has the whole image as
    its only region, with score 0 and label -1; its class probabilities are the mean of all cells,
    weighted by their scores.

    References
    ----------
    .. [1] X. Ma: FastestDet, https://github.com/dog-qiuqiu/FastestDet, 2022.
    """

    # Results depend on the content of the file, not on its path.
    neutral_parameters = Detector.neutral_parameters | {"path"}

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "path": [str, os.PathLike],
        "top_k": [Interval(Integral, 1, 100_000, closed="both")],
        "score_threshold": [Interval(Real, 0, 1, closed="left")],
        "nms_threshold": [Interval(Real, 0, 1, closed="both")],
        "describe": [ImageExtractor, None],
        "label_names": ["array-like", None],
        "max_pixels": [Interval(Integral, 1, None, closed="left"), None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "cache": ["boolean"],
        "verbose": [StrOptions({"auto"}), "boolean"],
    }

    def __init__(
        self,
        path: str | os.PathLike[str],
        top_k: int = 10,
        score_threshold: float = 0.5,
        nms_threshold: float = 0.45,
        describe: ImageExtractor | None = None,
        *,
        label_names: Sequence[str] | None = None,
        max_pixels: int | None = MAX_PIXELS,
        batch_size: int = 32,
        cache: bool = True,
        verbose: bool | str = "auto",
    ) -> None:
        self.path = path
        self.top_k = top_k
        self.score_threshold = score_threshold
        self.nms_threshold = nms_threshold
        self.describe = describe
        self.label_names = label_names
        self.max_pixels = max_pixels
        self.batch_size = batch_size
        self.cache = cache
        self.verbose = verbose

    # -- to be overridden for other detectors --------------------------------------------------

    def _prepare(self, image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Return the input of the network, (3, height, width), for an RGB image."""
        small = Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR)
        return np.asarray(small)[:, :, ::-1].transpose(2, 0, 1).astype(np.float32) / 255

    def _decode(self, output: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the boxes (m, 4), scores (m,) and class probabilities (m, C) of an output."""
        n_classes = len(self._label_names())
        if output.ndim != 3 or len(output) != 5 + n_classes:
            raise ValueError(
                f"the output of {os.fspath(self.path)!r} must have 5 + {n_classes} channels on a "
                f"grid, as FastestDet's for the {n_classes} label_names, got shape {output.shape}"
            )
        rows, columns = output.shape[1:]
        y, x = np.mgrid[:rows, :columns].reshape(2, -1)
        objectness, dx, dy, width, height, *rest = output.reshape(len(output), -1).astype(float)
        centre = np.stack([(x + np.tanh(dx)) / columns, (y + np.tanh(dy)) / rows], 1)
        half = 0.5 / (1 + np.exp(-np.stack([width, height], 1)))
        classes = np.stack(rest, 1)
        scores = objectness**0.6 * classes.max(1) ** 0.4
        return np.hstack([centre - half, centre + half]), scores, classes

    # -- inside ----------------------------------------------------------------------------------

    def _validate_params(self) -> None:
        super()._validate_params()
        _check_label_names(self.label_names)
        if self.describe is not None and self.describe._needs_fit():
            raise ValueError(
                f"describe must be an extractor that does not need a fit, got {self.describe!r}"
            )

    def _n_outputs(self) -> int | None:
        if self.describe is None:
            return len(self._label_names())
        return self.describe._n_outputs()

    def _label_names(self) -> tuple[str, ...]:
        return COCO if self.label_names is None else tuple(self.label_names)

    def _weights_id(self) -> str:
        own = file_sha256(self.path)
        return own if self.describe is None else f"{own} {self.describe._weights_id()}".strip()

    def _detect(self, batch: list[np.ndarray]) -> list[Detections]:
        session = _session(os.fspath(self.path), file_sha256(self.path))
        (entry,) = session.get_inputs()[:1]
        found = []
        for image in batch:
            pixels = self._prepare(image, tuple(entry.shape[2:]))
            output = session.run(None, {entry.name: pixels[None]})[0][0]
            found.append(self._chosen(*self._decode(output)))
        if self.describe is None:
            return found
        crops = [_crop(image, box) for image, part in zip(batch, found) for box in part.boxes]
        # Vectors are cached together with the boxes, so that `describe` need not cache them.
        quiet = {"cache": False, "verbose": False}
        own = self.describe.get_params(deep=False)
        describe = clone(self.describe).set_params(**{k: v for k, v in quiet.items() if k in own})
        vectors = np.asarray(describe.transform(crops))
        if vectors.ndim != 2:
            raise ValueError(
                f"describe must return one vector per image, got an array of shape {vectors.shape}"
            )
        parts = np.split(vectors, np.cumsum([len(part.boxes) for part in found])[:-1])
        return [part._replace(vectors=own) for part, own in zip(found, parts)]

    def _chosen(self, boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray) -> Detections:
        import torch
        from torchvision.ops import batched_nms

        boxes, labels = boxes.clip(0, 1), classes.argmax(1)
        good = np.flatnonzero(scores >= self.score_threshold)
        if not len(good):
            mean = scores @ classes / max(scores.sum(), np.finfo(float).tiny)
            return Detections(_WHOLE, np.zeros(1), np.full(1, -1), mean[None])
        arrays = (torch.from_numpy(part[good]) for part in (boxes, scores, labels))
        kept = good[batched_nms(*arrays, self.nms_threshold).numpy()[: self.top_k]]
        return Detections(boxes[kept], scores[kept], labels[kept], classes[kept])


def _crop(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return the pixels that overlap a box, at least one."""
    height, width = image.shape[:2]
    left, top = min(int(box[0] * width), width - 1), min(int(box[1] * height), height - 1)
    right, bottom = int(np.ceil(box[2] * width)), int(np.ceil(box[3] * height))
    return image[top : max(bottom, top + 1), left : max(right, left + 1)]


@functools.lru_cache(maxsize=2)
def _session(path: str, digest: str) -> Any:
    """Read a network once per process, so that estimators need not contain it."""
    try:
        import onnxruntime
    except ImportError:
        raise ImportError(
            "reading an ONNX file needs onnxruntime: `pip install crossfit-retrieval[onnx]`"
        ) from None
    try:
        session = onnxruntime.InferenceSession(
            Path(path).expanduser(), providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # damaged files cause errors of many classes
        raise ValueError(
            f"{path!r} is not an ONNX network that onnxruntime can run: "
            f"{str(error).splitlines()[0]}"
        ) from error
    shapes = [entry.shape for entry in session.get_inputs()]
    if (
        len(shapes) != 1
        or len(shapes[0]) != 4
        or not all(isinstance(k, int) for k in shapes[0][2:])
    ):
        raise ValueError(
            f"{path!r} must have one input of shape (1, 3, height, width) with a fixed height and "
            f"width, got {shapes}"
        )
    return session
