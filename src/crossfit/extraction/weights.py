"""Trained weights of networks, by their torchvision name or from a file, without unpickling."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossfit._devices import resolve_device
from crossfit._torch import isolated

if TYPE_CHECKING:
    import torch

__all__ = [
    "exact",
    "file_sha256",
    "fill",
    "load_weights",
    "read_state",
    "read_tensors",
    "resolve_device",
    "seeded",
    "weights_id",
]

# Keys under which training programs store the table of tensors in a larger one.
_HOLDERS = ("state_dict", "model_state_dict", "model", "module", "network", "net", "weights",
            "params")  # fmt: skip
# Prefixes that wrappers of torch and Lightning add to every name.
_WRAPPERS = ("module.", "_orig_mod.", "model.")


@contextlib.contextmanager
def exact() -> Iterator[None]:
    """Run a network inside the block without gradients, repeatably and in full float32.

    Process-wide settings of torch have no effect inside the block. By default, convolutions on
    recent GPUs round their inputs to ten bits, and their algorithm may differ between calls.
    """
    import torch

    with (
        isolated(),
        torch.inference_mode(),
        torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=False
        ),
    ):
        yield


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's random numbers on the CPU inside the block, and restore the global state."""
    import torch

    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would also seed the GPUs, whose state is not restored.
        torch.default_generator.manual_seed(seed)
        yield


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file; an unchanged file is read once per process.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If it is a folder, a pipe or a device.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        if path.exists():
            raise ValueError(f"{str(path)!r} is not a regular file")
        raise FileNotFoundError(f"there is no file {str(path)!r}")
    status = path.stat()
    return _sha256(path.absolute(), status.st_mtime_ns, status.st_size)


@functools.cache
def _sha256(path: Path, modified: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_id(model: str, weights: str | os.PathLike[str]) -> str:
    """Return an identifier of weights: the SHA-256 of a file, or the name of torchvision's file.

    Parameters
    ----------
    model : str
        Name of a torchvision model.
    weights : str or path-like
        ``"DEFAULT"``, another torchvision name of weights, or a file.

    Raises
    ------
    FileNotFoundError
        If `weights` is neither a name nor an existing file.
    """
    source = _source(model, weights)
    # The names of torchvision's files end in the first digits of their SHA-256.
    return source.rpartition("/")[2] if isinstance(source, str) else file_sha256(source)


def load_weights(model: str, weights: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """Return the tensors of trained weights by name, on the CPU.

    Weights with a torchvision name are read from torch's folder of downloads; if they are not
    there, they are downloaded and their hash is checked. The tensors of a file may be in a larger
    table, for instance under ``"model"`` or ``"state_dict"``, and all of their names may start with
    ``module.``, as after training on several GPUs.

    Parameters
    ----------
    model, weights
        See `weights_id`.

    Raises
    ------
    FileNotFoundError
        If the file does not exist and cannot be downloaded.
    ValueError
        If the file does not consist of named tensors.
    """
    source = _source(model, weights)
    return read_state(_fetched(source) if isinstance(source, str) else source)


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Return the named tensors of a file, on the CPU; see `load_weights`.

    Raises
    ------
    ValueError
        If the file does not consist of named tensors.
    """
    try:
        return _read(path)
    except Exception as error:  # a damaged file makes the two readers raise almost anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"cannot read {str(path)!r} as weights, a .safetensors file or a state dictionary "
            f"saved by torch: {reason}"
        ) from error


def read_tensors(path: str | os.PathLike[str]) -> Any:
    """Return the content of a file of torch or safetensors, on the CPU, without unpickling.

    Raises
    ------
    ValueError
        If it is another file, such as a web page, or contains more than tensors and plain values.
    """
    import pickle

    import torch

    with open(path, "rb") as file:
        head = file.read(256)
    other = what_else(head)
    if other is None and head and all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head):
        other = f"it is a text file, which begins with {head[:40].decode('ascii')!r}"
    if other:
        raise ValueError(other)
    if head[8:9] == b"{" and not head.startswith((b"PK", b"\x80")):
        from safetensors.torch import load_file

        return load_file(path)
    try:
        with open(path, "rb") as file:  # for a path, torch would use the suffix
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # The message of torch recommends unpickling the file.
        found = re.search(r"GLOBAL (\w[\w.]*)", str(error))
        what = (
            f"holds {found[1]}, which is more than tensors and plain values, and nothing is "
            "unpickled: save its state_dict() alone"
            if found
            else "was not written by torch.save, or is damaged"
        )
        raise ValueError(f"it {what}") from error
    except EOFError as error:
        raise ValueError("it is empty or ends too early") from error
    except RuntimeError as error:
        if "zip archive" not in str(error):
            raise
        raise ValueError("it is damaged, or ends too early") from error


def what_else(head: bytes) -> str | None:
    """Return what a file contains in place of data, judged by its first bytes, or None."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(b"version https://git-lfs"):
        return (
            "it is a pointer of Git LFS and not the file itself: run git lfs pull where it comes "
            "from, or download the file"
        )
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<body", b"<?xml", b"<!--")):
        return "it is a web page and not the file itself: download what the page links to"
    return None


def fill(network: torch.nn.Module, state: Mapping[str, Any], source: object) -> None:
    """Assign tensors to a network; `state` may contain others as well.

    Raises
    ------
    ValueError
        If a tensor is missing or has another shape.
    """
    own = network.state_dict()
    # Counters of batches do not affect inference, and older files lack them.
    needed = [name for name in own if not name.endswith("num_batches_tracked")]
    missing = [name for name in needed if name not in state]
    other = [name for name in needed if name in state and state[name].shape != own[name].shape]
    if missing or other:
        name = (missing or other)[0]
        what = "has no" if missing else f"has shape {tuple(state[name].shape)} for"
        raise ValueError(
            f"the weights {str(source)!r} belong to another network: among {len(missing or other)} "
            f"misfits, the file {what} {name!r}, which is {tuple(own[name].shape)} here"
        )
    given = {name: state[name].to(own[name].dtype) for name in needed}
    network.load_state_dict(given, strict=False, assign=True)


def _source(model: str, weights: str | os.PathLike[str]) -> str | Path:
    """Return the address of weights with a torchvision name, or the path of a file."""
    from torchvision.models import get_model_weights

    named = get_model_weights(model).__members__
    if weights in named:
        return str(named[str(weights)].url)
    path = Path(weights).expanduser()
    if path.exists() and not path.is_file():
        raise ValueError(f"the weights {str(path)!r} are not a regular file")
    if not path.is_file():
        raise FileNotFoundError(
            f"weights of {model} are {', '.join(named)} or a file, got {str(weights)!r}, and "
            "there is no such file"
        )
    return path


def _fetched(url: str) -> Path:
    from torch import hub

    name = url.rpartition("/")[2]
    path = Path(hub.get_dir(), "checkpoints", name)
    if not path.is_file():
        prefix = re.search(r"-([0-9a-f]{8,})\.", name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            hub.download_url_to_file(url, str(path), prefix and prefix[1], progress=False)
        except (OSError, RuntimeError) as error:
            raise FileNotFoundError(
                f"the weights {name!r} are not in {str(path.parent)!r} and cannot be fetched "
                f"({error}): put them there from {url}, or give a local path as weights="
            ) from error
    return path


def _read(path: Path) -> dict[str, torch.Tensor]:
    import torch

    state = read_tensors(path)
    for _ in range(3):
        holder = next((name for name in _HOLDERS if _is_table(state, name)), None)
        if holder is None:
            break
        state = state[holder]
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(part, torch.Tensor) for name, part in state.items()
    ):
        raise ValueError(f"it holds a {type(state).__name__} that is not a table of named tensors")
    # In addition to its names torch's average of models counts them.
    table = {name: part for name, part in state.items() if name != "n_averaged"}
    while wrapper := next((w for w in _WRAPPERS if table and all(n.startswith(w) for n in table)),
                          None):  # fmt: skip
        table = {name.removeprefix(wrapper): part for name, part in table.items()}
    return table


def _is_table(state: Any, name: str) -> bool:
    return isinstance(state, Mapping) and isinstance(state.get(name), Mapping)
