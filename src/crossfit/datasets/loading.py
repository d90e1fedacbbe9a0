"""Loading by name: the loader is found in the registry, the data on disk."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from crossfit import registry
from crossfit.cards import DatasetCard
from crossfit.datasets.record import Dataset

__all__ = ["available", "load", "with_defaults"]

GROUP = "crossfit.datasets"


def available() -> tuple[DatasetCard, ...]:
    """Return the cards of all installed data sets, sorted by name."""
    cards = (entry.card for entry in registry.entries(GROUP))
    return tuple(card for card in cards if isinstance(card, DatasetCard))


def load(
    name: str,
    root: str | os.PathLike[str] | None = None,
    *,
    split: str | None = None,
    **options: Any,
) -> Dataset:
    """Load a data set by name.

    Nothing is downloaded: the files must exist, in the layout in which their authors distribute
    them.

    Parameters
    ----------
    name : str
        Name of an installed data set (see `available`), or ``distribution:name``.
    root : path, optional
        Folder of the data set, or its parent, with a folder ``<name>/``. By default the environment
        variable ``CROSSFIT_DATA``. Not needed for data sets that are part of a distribution.
    split : str, optional
        One of the official ways to split the data; by default the first of the card's ``splits``.
    **options
        Options of the data set. The loaders of crossfit accept ``subsets`` (names of the splits to
        load, all by default; only their files are needed) and, unless the data are embedded,
        ``strict`` (check the official counts, True by default).

    Returns
    -------
    Dataset

    Raises
    ------
    FileNotFoundError
        If a file is missing; the message names it and the source of the data set.
    ValueError
        If the split is unknown or the files are invalid.
    TypeError
        If the data set does not have an option.

    See Also
    --------
    available : List the installed data sets.
    from_csv : Build a data set from your own table.
    from_folder : Build a data set from your own folder.

    Examples
    --------
    >>> from crossfit.datasets import load
    >>> ds = load("emoji")
    >>> ds["test"].views["image"].shape[1:]
    (64, 64, 3)
    """
    card: DatasetCard = registry.get(name, GROUP)
    loader = registry.load(name, GROUP)
    split = card.splits[0] if split is None else split
    if not isinstance(split, str) or split not in card.splits:
        raise ValueError(
            f"data set {card.name!r} can be split as {', '.join(card.splits)}, got {split!r}"
        )
    known = options_of(loader)
    unknown = [option for option in options if known is not None and option not in known]
    if unknown:
        raise TypeError(
            f"data set {card.name!r} takes the options {', '.join(known or ()) or 'none'}, "
            f"got {', '.join(unknown)}"
        )
    folder = None if card.embedded else folder_of(card, root)
    loaded: Dataset = loader(folder, split, **options)
    return loaded


def options_of(loader: Callable[..., Dataset]) -> list[str] | None:
    """Return the options of a loader other than folder and split; None if it accepts any."""
    parameters = list(inspect.signature(loader).parameters.values())[2:]
    if any(part.kind is part.VAR_KEYWORD for part in parameters):
        return None
    return [part.name for part in parameters]


def with_defaults(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with which a data set is loaded, with those that were left out.

    Parameters
    ----------
    name : str
        Name of a data set. One that is not installed has no known options.
    options : mapping of str to object
        Options that were given to `load`.
    """
    try:
        card: DatasetCard = registry.get(name, GROUP)
        parameters = inspect.signature(registry.load(name, GROUP)).parameters
    except (registry.RegistryError, TypeError, ValueError):
        return dict(options)
    defaults = {part.name: part.default for part in list(parameters.values())[2:]}
    known = {"split": card.splits[0], **defaults}
    return {key: value for key, value in known.items() if value is not inspect.Parameter.empty} | (
        dict(options)
    )


def folder_of(card: DatasetCard, root: str | os.PathLike[str] | None) -> Path:
    """Return the folder of a data set: `root`, else ``CROSSFIT_DATA``, or its own below that.

    Raises
    ------
    FileNotFoundError
        If neither is given, or the one that counts is not a folder.
    """
    given = os.environ.get("CROSSFIT_DATA") if root is None else root
    if not given:
        raise FileNotFoundError(
            f"data set {card.name!r} is not part of crossfit; get it from {card.url} and set root= "
            f"or CROSSFIT_DATA to the folder that holds {card.name}/"
        )
    folder = Path(given).expanduser()
    if not folder.is_dir():
        source = "CROSSFIT_DATA" if root is None else "root"
        raise FileNotFoundError(
            f"data set {card.name!r} needs a folder, but {source} is {str(folder)!r}, which is "
            f"not a folder; the data set is available from {card.url}"
        )
    return folder / card.name if (folder / card.name).is_dir() else folder
