"""Folders of pretrained models: found, checked, identified by their content."""

from __future__ import annotations

import contextlib
import difflib
import functools
import hashlib
import importlib
import importlib.metadata
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from crossfit.extraction.weights import file_sha256

__all__ = ["at_loading", "content_id", "folder_of", "imported", "near", "tensors_in", "version_of"]

# Weights, configurations and vocabularies. Programs and pickled weights are never fetched.
_SUFFIXES = (".safetensors", ".json", ".txt", ".model", ".jinja")

_EXTRAS = {
    "transformers": ("transformers", "transformers"),
    "sentence_transformers": ("sentence-transformers", "sentence-transformers"),
    "open_clip": ("openclip", "open_clip_torch"),
    "timm": ("timm", "timm"),
}


def imported(library: str, owner: str) -> Any:
    """Return a library.

    Raises
    ------
    ImportError
        If it is not installed; the message names the extra that installs it.
    """
    try:
        return importlib.import_module(library)
    except ImportError as error:
        extra, distribution = _EXTRAS[library]
        raise ImportError(
            f"{owner} needs {distribution}: `pip install crossfit-encoders[{extra}]` ({error})"
        ) from None


def version_of(library: str) -> str:
    """Return the version of a library, or "" if it is not installed."""
    try:
        return importlib.metadata.version(_EXTRAS[library][1])
    except importlib.metadata.PackageNotFoundError:
        return ""


def folder_of(model: str | os.PathLike[str], revision: str | None, owner: str) -> Path:
    """Return the folder of a model: a local one, or the snapshot of a repository on the hub.

    Parameters
    ----------
    model : str or path-like
        A folder, or the name of a repository on the Hugging Face Hub.
    revision : str or None
        Commit hash, tag or branch of the repository.
    owner : str
        Name of the class, for error messages.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, and the repository cannot be fetched.
    ValueError
        If `model` is a file, or the revision of a repository is not given.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    name = os.fspath(model)
    if path.exists():
        raise ValueError(f"{owner}: {name!r} is a file; give the folder that contains the model")
    is_name = isinstance(model, str) and 0 < name.count("/") <= 1 and name[0].isalnum()
    if not is_name:
        raise FileNotFoundError(f"{owner}: there is no folder {name!r}")
    if revision is None:
        raise ValueError(
            f"{owner}: {name!r} is not a local folder; to take it from the Hugging Face Hub, pin "
            "the commit with revision="
        )
    return _snapshot(name, revision, owner)


@functools.lru_cache(maxsize=64)
def _snapshot(name: str, revision: str, owner: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        patterns = [f"*{suffix}" for suffix in _SUFFIXES]
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except Exception as error:  # of the hub, the network or the disk
        raise FileNotFoundError(
            f"{owner}: {name!r} at revision {revision!r} is neither a local folder nor can it be "
            f"fetched from the Hugging Face Hub: {_first_line(error)}"
        ) from error


def tensors_in(folder: Path, owner: str) -> Path:
    """Return the largest .safetensors file of a model.

    Raises
    ------
    FileNotFoundError
        If there is none; weights in other formats are not read, because they may be pickled.
    """
    found = sorted(folder.rglob("*.safetensors"), key=lambda path: path.stat().st_size)
    if not found:
        raise FileNotFoundError(
            f"{owner}: {str(folder)!r} has no .safetensors file; other formats are not read, "
            "because nothing is unpickled: save the model again with safetensors"
        )
    return found[-1]


def content_id(folder: Path) -> str:
    """Return a hash of the weights, configurations and vocabularies in a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        # sentence-transformers may keep a dense layer as a state dictionary of torch.
        alone = path.name == "pytorch_model.bin" and not any(path.parent.glob("*.safetensors"))
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if (path.suffix in _SUFFIXES or alone) and not hidden and path.is_file():
            digest.update(f"{name} {file_sha256(path)}\n".encode())
    return digest.hexdigest()


@contextlib.contextmanager
def at_loading(path: Path, library: str, owner: str) -> Iterator[None]:
    """Turn any error inside the block into one sentence that names the model."""
    try:
        yield
    except Exception as error:  # damaged files make the libraries raise almost anything
        raise ValueError(
            f"{owner}: {library} cannot load {str(path)!r}: {_first_line(error)}"
        ) from error


def near(name: str, known: Iterable[str]) -> str:
    """Return ": did you mean 'x'?" with known names close to a name, or "" without any."""
    found = difflib.get_close_matches(name, list(known), 3)
    return f": did you mean {' or '.join(map(repr, found))}?" if found else ""


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
