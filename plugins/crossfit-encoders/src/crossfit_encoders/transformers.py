"""Encoders of the transformers library: CLIP, SigLIP, DINOv2, BERT, CLAP, Whisper and others."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from numbers import Integral, Real
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval, StrOptions

from crossfit import Ragged
from crossfit.extraction import grid_boxes, make_regions
from crossfit.extraction.weights import exact, seeded
from crossfit_encoders._base import COMMON_CONSTRAINTS, Encoder, Rows
from crossfit_encoders._files import at_loading, content_id, folder_of, imported, tensors_in

__all__ = ["TransformersFeatures", "quiet", "token_counts"]

_METHODS = {
    "image": "get_image_features", "audio": "get_audio_features", "text": "get_text_features",
}  # fmt: skip
_MAIN_INPUTS = {
    "pixel_values": "image", "input_features": "audio", "input_values": "audio",
    "input_ids": "text",
}  # fmt: skip
# The text towers of these were trained on texts padded to a fixed length, without a mask.
_PADDED = ("siglip", "siglip2", "siglip_text_model", "siglip2_text_model")
_DURATION = 30.0


class TransformersFeatures(Encoder):
    """Features of a pretrained model in the format of the transformers library [1]_.

    The model may have one tower, such as BERT, DINOv2, DINOv3 and Whisper's encoder, or two, such
    as CLIP, SigLIP, SigLIP 2 and CLAP. Items are prepared as the files of the model require.

    Parameters
    ----------
    model : str or path-like
        A folder, as ``save_pretrained`` writes it, with weights in ``.safetensors`` files; or the
        name of a repository on the Hugging Face Hub, with `revision`.
    pooling : {"auto", "pooler", "cls", "mean", "last", "tokens"}, default="auto"
        The vector of an item: ``"pooler"`` is the model's own, ``"cls"`` is the first token,
        ``"mean"`` is the mean over words, patches or frames, and ``"last"`` is the last token of a
        text. ``"tokens"`` returns one vector per word piece, patch or frame. ``"auto"`` is the
        projected embedding for models with two towers; for pictures the model's own vector if it
        was trained, else the first token; the mean for texts and sounds.
    view : {"auto", "image", "text", "audio"}, default="auto"
        The tower. With ``"auto"``, arrays, images and paths choose it by their kind; strings are
        texts, unless all of them end like names of picture or sound files.
    max_length : int, optional
        Largest number of word pieces of a text; longer texts are cut. By default, as many as the
        model can take.
    duration : float, optional
        Largest number of seconds of a sound; longer sounds are cut. By default, what the model was
        trained on, else 30.
    revision : str, optional
        Commit hash of the repository. It is required for a name on the hub, so that the weights
        cannot change.
    precision : {"auto", "float32", "half"}, default="auto"
        On a GPU, ``"auto"`` and ``"half"`` run the model with 16-bit floats. On a CPU, it always
        runs with 32 bits.
    runtime : {"torch", "onnx"}, default="torch"
        What runs the model: torch, or ONNX Runtime with 32 bits, for which the model is exported
        once into the cache, as far as torch can export it.
    batch_size : int, default=32
        Number of items per forward pass. Long texts are in other batches than short ones.
    device : str, default="auto"
        Any torch device; ``"auto"`` is CUDA if it is available, else the CPU.
    cache : bool, default=True
        Whether to store features in the feature cache.
    verbose : {"auto", True, False}, default="auto"
        Progress bar: for long runs on a terminal, always, or never.

    Attributes
    ----------
    n_features_out_ : int
        Number of columns.
    weights_id_ : str
        Hash of the weights, the configuration and the vocabulary.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or it has no ``.safetensors`` file.
    ValueError
        If the library cannot load the model, if the model does not take the items, or if it does
        not have the pooling.
    ImportError
        If transformers is not installed.

    Notes
    -----
    `transform` returns float32 of shape (n, d); with ``pooling="tokens"`` a Ragged with rows of
    shape (T, d). Those of pictures have boxes in their ``info``, as in
    `crossfit.extraction.make_regions`, and do not contain the first token and registers; those of
    texts contain the special tokens.

    Code in a repository is never run: ``trust_remote_code`` is False. Weights in other formats than
    safetensors are not read, because they may be pickled.

    References
    ----------
    .. [1] T. Wolf et al.: Transformers: state-of-the-art natural language processing, EMNLP 2020
       (system demonstrations).
    """

    library = "transformers"

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "model": [str, os.PathLike],
        "pooling": [StrOptions({"auto", "pooler", "cls", "mean", "last", "tokens"})],
        "max_length": [Interval(Integral, 1, None, closed="left"), None],
        "duration": [Interval(Real, 0, 86_400, closed="right"), None],
        **COMMON_CONSTRAINTS,
    }

    def __init__(
        self,
        model: str | os.PathLike[str],
        pooling: str = "auto",
        view: str = "auto",
        *,
        max_length: int | None = None,
        duration: float | None = None,
        revision: str | None = None,
        precision: str = "auto",
        runtime: str = "torch",
        batch_size: int = 32,
        device: str = "auto",
        cache: bool = True,
        verbose: bool | str = "auto",
    ) -> None:
        self.model = model
        self.pooling = pooling
        self.view = view
        self.max_length = max_length
        self.duration = duration
        self.revision = revision
        self.precision = precision
        self.runtime = runtime
        self.batch_size = batch_size
        self.device = device
        self.cache = cache
        self.verbose = verbose

    def _folder(self) -> Path:
        owner = type(self).__name__
        folder = folder_of(self.model, self.revision, owner)
        tensors_in(folder, owner)
        return folder

    def _weights_id(self) -> str:
        return content_id(self._folder())

    def _views(self) -> tuple[str, ...]:
        return _views(self._folder(), self._weights_id(), type(self).__name__)

    def _sound(self) -> tuple[int, float]:
        made = self._preparation("audio")
        own = getattr(made, "max_length_s", None) or getattr(made, "chunk_length", None)
        own = float(own or _DURATION)
        return int(made.sampling_rate), own if self.duration is None else min(self.duration, own)

    def _n_outputs(self) -> int | None:
        config = _config(self._folder(), self._weights_id(), type(self).__name__)
        projected = self.pooling == "auto" and len(self._views()) > 1
        names = ("projection_dim",) if projected else ("hidden_size", "d_model")
        width = next((getattr(config, name) for name in names if hasattr(config, name)), None)
        return width if isinstance(width, int) else None

    def _lengths(self, items: list[Any]) -> list[int]:
        if items and items[0].view == "text":
            return token_counts(self._preparation("text"), [item.value for item in items])
        return super()._lengths(items)

    def _preparation(self, view: str) -> Any:
        return _preparation(self._folder(), self._weights_id(), view, type(self).__name__)

    def _encode(self, view: str, batch: list[Any]) -> Rows:
        network, missing = _network(
            self._folder(), self._weights_id(), self._torch_device(), self._half(),
            type(self).__name__,
        )  # fmt: skip
        encode = {"image": self._pictures, "text": self._texts, "audio": self._sounds}[view]
        with exact():
            onnx = self._by_onnx if self.runtime == "onnx" else None
            return encode(_Model(network, missing, view, onnx), batch)

    # -- the three kinds of items ------------------------------------------------------------------

    def _pictures(self, model: _Model, batch: list[Any]) -> Rows:
        prepare = functools.partial(
            self._preparation("image"), return_tensors="pt", input_data_format="channels_last"
        )
        # torch warns about arrays that cannot be written to.
        batch = [image if image.flags.writeable else image.copy() for image in batch]
        try:
            given = [prepare(images=batch)]
        except (ValueError, RuntimeError):  # pictures that keep their unequal sizes
            if model.onnx is not None:
                raise ValueError(
                    f"{self._named()} keeps the sizes of pictures, and ONNX Runtime runs a network "
                    "for one size; set runtime='torch'"
                ) from None
            given = [prepare(images=[image]) for image in batch]
        return [row for inputs in given for row in self._rows_of_pictures(model, inputs)]

    def _rows_of_pictures(self, model: _Model, inputs: Any) -> Rows:
        out = model(inputs)
        pooled = getattr(out, "pooler_output", None)
        hidden = _elements(out.last_hidden_state)
        grids = _grids(inputs, out.last_hidden_state, model.network.config)
        first = [hidden.shape[1] - rows * columns for rows, columns in grids]
        if "spatial_shapes" in inputs:  # the patches are padded at the end
            first = [0] * len(hidden)
        pooling = self.pooling
        if pooling == "auto":
            own = pooled is not None and not model.lacks("pooler")
            pooling = "pooler" if own or model.is_projected else "cls" if min(first) else "mean"
        if pooling == "pooler":
            return _numpy(self._own(model, pooled))
        if pooling == "cls":
            if not min(first):
                raise ValueError(f"{self._named()} has no first token of pictures; {_OTHERWISE}")
            return _numpy(hidden[:, 0])
        if pooling == "last":
            raise ValueError(f"pooling='last' is for texts, not for pictures; {_OTHERWISE}")
        patches = [
            row[skip : skip + rows * columns]
            for row, skip, (rows, columns) in zip(hidden, first, grids)
        ]
        if pooling == "mean":
            return [_numpy(row.mean(0)) for row in patches]
        return [
            np.hstack([grid_boxes(rows, columns), _numpy(row)])
            for row, (rows, columns) in zip(patches, grids)
        ]

    def _texts(self, model: _Model, batch: list[Any]) -> Rows:
        tokenizer = self._preparation("text")
        config = model.network.config
        padded = config.model_type in _PADDED
        limit = _limit(tokenizer, config)
        length = limit if self.max_length is None else min(self.max_length, limit or 2**30)
        inputs = tokenizer(
            batch,
            padding="max_length" if padded and length else True,
            truncation=length is not None,
            max_length=length,
            return_attention_mask=True,
            return_tensors="pt",
        )
        mask = inputs["attention_mask"].to(model.network.device)
        if padded:
            inputs.pop("attention_mask")
        out = model(inputs)
        pooling = self.pooling
        if pooling == "auto":
            pooling = "pooler" if model.is_projected else "mean"
        if pooling == "pooler":
            return _numpy(self._own(model, getattr(out, "pooler_output", None)))
        hidden = out.last_hidden_state
        at = [row.nonzero()[:, 0] for row in mask]  # decoders may be padded at the left
        if any(not len(places) for places in at):
            raise ValueError(f"{self._named()}: its tokenizer returns no token for an empty text")
        if pooling == "cls":
            return [_numpy(row[places[0]]) for row, places in zip(hidden, at)]
        if pooling == "last":
            return [_numpy(row[places[-1]]) for row, places in zip(hidden, at)]
        if pooling == "mean":
            weights = mask[:, :, None].to(hidden.dtype)
            return _numpy((hidden * weights).sum(1) / weights.sum(1))
        return [_unplaced(_numpy(row[places])) for row, places in zip(hidden, at)]

    def _sounds(self, model: _Model, batch: list[Any]) -> Rows:
        made = self._preparation("audio")
        prepare = functools.partial(made, sampling_rate=made.sampling_rate, return_tensors="pt")
        kind = model.network.config.model_type
        if kind == "whisper":
            # A vector is of two steps of the spectrum, and those of the padding are left out.
            step = 2 * made.hop_length
            out = model(prepare(batch)).last_hidden_state
            hidden = [row[: max(1, -(-len(item) // step))] for row, item in zip(out, batch)]
            return self._frames(model, hidden, None)
        if kind.startswith("clap"):
            with _kept_random_state():  # the feature extractor draws which sounds are long
                inputs = prepare(batch)
            if "is_longer" in inputs:
                inputs["is_longer"] = inputs["is_longer"] & False
            out = model(inputs)
            return self._frames(model, _elements(out.last_hidden_state), out.pooler_output)
        # Padding would change the features of others, so a pass has sounds of one length.
        order = sorted(range(len(batch)), key=lambda i: len(batch[i]))
        rows: dict[int, NDArray[Any]] = {}
        for _, same in itertools.groupby(order, key=lambda i: len(batch[i])):
            at = list(same)
            out = model(prepare([batch[i] for i in at]))
            pooled = getattr(out, "pooler_output", None)
            rows |= dict(zip(at, self._frames(model, _elements(out.last_hidden_state), pooled)))
        return [rows[i] for i in range(len(batch))]

    def _frames(self, model: _Model, hidden: Any, pooled: Any) -> Rows:
        pooling = self.pooling
        if pooling == "auto":
            pooling = "pooler" if model.is_projected else "mean"
        if pooling == "pooler":
            return _numpy(self._own(model, pooled))
        if pooling in ("cls", "last"):
            raise ValueError(f"pooling={pooling!r} is not for sounds; {_OTHERWISE}")
        if pooling == "mean":
            return [_numpy(row.mean(0)) for row in hidden]
        return [_unplaced(_numpy(row)) for row in hidden]

    def _own(self, model: _Model, pooled: Any) -> Any:
        if pooled is None or (model.lacks("pooler") and not model.is_projected):
            raise ValueError(f"{self._named()} has no trained pooler; {_OTHERWISE}")
        return pooled

    def _named(self) -> str:
        return f"{type(self).__name__}: the model {os.fspath(self.model)!r}"

    def _collect(self, rows: list[NDArray[Any]]) -> Any:
        if self.pooling != "tokens":
            return np.stack(rows)
        boxes, vectors = [row[:, :4] for row in rows], [row[:, 4:] for row in rows]
        if not any(part.any() for part in boxes):
            return Ragged.from_list(vectors)
        return make_regions(vectors, boxes)


_OTHERWISE = "set another pooling"


class _Model(NamedTuple):
    """A network with the names of the weights that its files lack, and the tower to use."""

    network: Any
    missing: tuple[str, ...]
    view: str
    onnx: Callable[..., list[Any]] | None

    @property
    def is_projected(self) -> bool:
        return hasattr(self.network, _METHODS["text"])

    def lacks(self, part: str) -> bool:
        return any(part in name.split(".") for name in self.missing)

    def __call__(self, inputs: Any) -> Any:
        network = self.network
        inputs = inputs.to(network.device)
        for name, part in inputs.items():
            if part.is_floating_point():
                inputs[name] = part.to(network.dtype)
        if self.onnx is None:
            return self.run(network, inputs)
        names = ("last_hidden_state", "pooler_output")

        def outputs(network: Any, **inputs: Any) -> list[Any]:
            out = self.run(network, inputs)
            return [out[name] for name in names if out.get(name) is not None]

        # Texts differ in their length, and so do sounds that are not spectra.
        fixed = self.view == "image" or "input_features" in inputs
        padded = network.config.model_type in _PADDED
        varying = () if fixed or padded else tuple(inputs)
        found = self.onnx(network, outputs, dict(inputs), [self.view], varying)
        return SimpleNamespace(**dict(itertools.zip_longest(names, found)))

    def run(self, network: Any, inputs: Mapping[str, Any]) -> Any:
        """Return what torch computes."""
        if self.is_projected:
            return getattr(network, _METHODS[self.view])(**inputs)
        if network.config.is_encoder_decoder:
            network = network.get_encoder()
        return network(**inputs)


def _numpy(x: Any) -> NDArray[np.float32]:
    return x.float().cpu().numpy()


def _elements(hidden: Any) -> Any:
    """Return tokens or cells as (n, T, d)."""
    return hidden.flatten(2).transpose(1, 2) if hidden.ndim == 4 else hidden


def _unplaced(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return vectors after four zeros, in the place of the box of a patch."""
    return np.pad(vectors, ((0, 0), (4, 0)))


def _grids(inputs: Any, hidden: Any, config: Any) -> list[tuple[int, int]]:
    """Return the rows and columns of patches of each picture."""
    if "spatial_shapes" in inputs:
        return [(int(rows), int(columns)) for rows, columns in inputs["spatial_shapes"]]
    if hidden.ndim == 4:
        return [tuple(hidden.shape[2:])] * len(hidden)
    n = hidden.shape[1]
    height, width = inputs["pixel_values"].shape[-2:]
    config = getattr(config, "vision_config", config)
    size = getattr(config, "patch_size", None)
    tall, wide = size if isinstance(size, (list, tuple)) else (size, size)
    if tall and wide and 0 < (height // tall) * (width // wide) <= n:
        return [(height // tall, width // wide)] * len(hidden)
    # Networks of several stages have fewer, larger cells in the end.
    rows = round((n * height / width) ** 0.5)
    return [(rows, n // rows) if rows and n % rows == 0 else (1, n)] * len(hidden)


def _limit(tokenizer: Any, config: Any) -> int | None:
    """Return how many word pieces a model can take, or None if that is unknown."""
    text = getattr(config, "text_config", config)
    places = getattr(text, "max_position_embeddings", None)
    known = [
        n for n in (tokenizer.model_max_length, places) if isinstance(n, int) and 0 < n < 2**30
    ]
    return min(known, default=None)


@contextlib.contextmanager
def _kept_random_state() -> Iterator[None]:
    state = np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


@contextlib.contextmanager
def quiet(transformers: Any) -> Iterator[None]:
    """Keep the library from printing reports and progress bars."""
    logging = transformers.utils.logging
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(50)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


def token_counts(tokenizer: Any, texts: list[str]) -> list[int]:
    """Return how many tokens texts have: texts with equally many need no padding in one batch."""
    counts: list[int] = []
    for start in range(0, len(texts), 4096):
        # Longer texts are cut, but not at one place for all models; a warning would be wrong.
        found = tokenizer(
            texts[start : start + 4096],
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        counts += map(len, found["input_ids"])
    return counts


def _from(load: Callable[..., Any], folder: Path, **settings: Any) -> Any:
    return load(str(folder), local_files_only=True, trust_remote_code=False, **settings)


@functools.lru_cache(maxsize=8)
def _config(folder: Path, identity: str, owner: str) -> Any:
    transformers = imported("transformers", owner)
    with at_loading(folder, "transformers", owner), quiet(transformers):
        return _from(transformers.AutoConfig.from_pretrained, folder)


@functools.lru_cache(maxsize=8)
def _views(folder: Path, identity: str, owner: str) -> tuple[str, ...]:
    transformers = imported("transformers", owner)
    config = _config(folder, identity, owner)
    with at_loading(folder, "transformers", owner):
        found = transformers.AutoModel._model_mapping[type(config)]
        cls = found[0] if isinstance(found, (list, tuple)) else found
    if hasattr(cls, _METHODS["text"]):
        return tuple(view for view, method in _METHODS.items() if hasattr(cls, method))
    view = _MAIN_INPUTS.get(cls.main_input_name)
    if view is None:
        raise ValueError(
            f"{owner}: {str(folder)!r} holds a {cls.__name__}, whose input is "
            f"{cls.main_input_name!r}, and not pictures, texts or sounds"
        )
    return (view,)


@functools.lru_cache(maxsize=8)
def _preparation(folder: Path, identity: str, view: str, owner: str) -> Any:
    """Return the tokenizer, image processor or feature extractor of a model."""
    transformers = imported("transformers", owner)
    auto = {"image": "AutoImageProcessor", "text": "AutoTokenizer", "audio": "AutoFeatureExtractor"}
    with at_loading(folder, "transformers", owner), quiet(transformers):
        made = _from(getattr(transformers, auto[view]).from_pretrained, folder)
    if view == "text" and made.pad_token is None:
        made.pad_token = made.eos_token
    return made


@functools.lru_cache(maxsize=2)
def _network(
    folder: Path, identity: str, device: str, half: bool, owner: str
) -> tuple[Any, tuple[str, ...]]:
    """Load a model once per process and device, so that estimators need not contain it."""
    import torch

    transformers = imported("transformers", owner)
    with at_loading(folder, "transformers", owner), exact(), seeded(0), quiet(transformers):
        network, info = _from(
            transformers.AutoModel.from_pretrained,
            folder,
            use_safetensors=True,
            output_loading_info=True,
            dtype=torch.float32,
        )
        missing = tuple(sorted(info["missing_keys"]))
        # A model of masked words, for instance, has no pooler, and is complete without it.
        needed = [name for name in missing if "pooler" not in name.split(".")]
        if needed:
            raise ValueError(
                f"its weights lack {len(needed)} tensors of {type(network).__name__}, such as "
                f"{needed[0]!r}"
            )
    network = network.half() if half else network
    return network.to(device).eval().requires_grad_(False), missing
