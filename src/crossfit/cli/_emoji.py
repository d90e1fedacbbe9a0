"""The emoji, searched by CCA: for ``crossfit search`` without a gallery, and the demo's page."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

import click

from crossfit.cli._shared import emoji_experiment

__all__ = ["all_emoji", "check_page_folders", "emoji_model", "write_gallery", "write_winner_of"]

_COMMAND = "crossfit demo --serve"
_COLUMNS = ("image", "id", "name", "character", "keywords", "category", "split")
_SETTINGS: dict[str, Any] = {"n_components": 64, "reg": 1.0, "power": 1.0}


def emoji_model(features: str) -> Any:
    """Return extractors and CCA, fitted on the training emoji.

    Parameters
    ----------
    features : {"auto", "pretrained", "plain"}
        Value of ``--features``.
    """
    from sklearn.pipeline import Pipeline

    from crossfit.compose import ViewTransformer
    from crossfit.datasets import load
    from crossfit.experiment.build import build_features
    from crossfit.subspace import CCA

    parts = build_features(emoji_experiment(features).features)
    model = Pipeline([("features", ViewTransformer(parts)), ("cca", CCA(**_SETTINGS))])
    return model.fit(load("emoji", subsets=["train"])["train"].views)


def all_emoji() -> dict[str, Any]:
    """Return the emoji of all splits as columns.

    Returns
    -------
    dict of str to array of n entries
        ``image`` (pixels), ``text`` (keywords), ``name``, ``unicode``, ``character``, ``category``
        and ``split``.
    """
    import numpy as np

    from crossfit.datasets import load
    from crossfit.datasets.emoji import CATEGORIES

    ds: Any = load("emoji")
    splits = ds.splits.values()
    found: dict[str, Any] = {
        view: np.concatenate([split.views[view] for split in splits]) for view in ("image", "text")
    }
    for column, key in (("name", "short_name"), ("unicode", "unicode")):
        found[column] = np.concatenate([split.info[key] for split in splits])
    found["character"] = [
        "".join(chr(int(point, 16)) for point in code.split("-")) for code in found["unicode"]
    ]
    found["category"] = [CATEGORIES[y] for split in splits for y in split.y]
    found["split"] = [name for name, split in ds.splits.items() for _ in range(len(split))]
    return found


def check_page_folders(winner: Path, gallery: Path) -> None:
    """Raise a UsageError before the work if the folders of the page hold something else.

    Parameters
    ----------
    winner : pathlib.Path
        Folder of the fitted method.
    gallery : pathlib.Path
        Folder of the pictures.
    """
    table = gallery / "metadata.csv"
    own = {
        winner: _record(winner).get("command") == _COMMAND,
        gallery: table.is_file() and table.read_bytes().startswith(",".join(_COLUMNS).encode()),
    }
    for folder, ours in own.items():
        if os.path.lexists(folder) and not ours:
            raise click.UsageError(
                f"--out: {str(folder)!r} would be replaced, but an earlier demo did not write it; "
                "choose another folder"
            )


def write_winner_of(features: str, folder: Path) -> None:
    """Fit `emoji_model` and write it as a bundle with its record, unless it is there already.

    Parameters
    ----------
    features : {"auto", "pretrained", "plain"}
        Value of ``--features``.
    folder : pathlib.Path
        Folder of the bundle; one of another version, or with other features, is replaced.
    """
    import crossfit
    from crossfit._files import clear_drafts, draft_of, put_folder
    from crossfit.datasets import load
    from crossfit.winners import versions, write_winner

    train = load("emoji", subsets=["train"])
    data = {"name": "emoji", "pairs": {"train": len(train["train"])}, "revision": train.revision}
    record = {
        "format": 1,
        "method": "CCA",
        "views": ["image", "text"],
        "kinds": {"image": "picture", "text": "text"},
        "features": emoji_experiment(features).to_dict()["features"],
        "settings": _SETTINGS,
        "data": data,
        "command": _COMMAND,
        "versions": versions(),
    }
    if _record(folder) == json.loads(json.dumps(record)):
        return
    model = emoji_model(features)
    card = crossfit.model_card(
        model,
        data={"name": "emoji", "pairs": len(train["train"]), "revision": train.revision},
        command=_COMMAND,
    )
    clear_drafts(folder)
    with draft_of(folder, Path.mkdir) as draft:
        put_folder(write_winner(model, record, draft / "made", card), folder)


def write_gallery(folder: Path) -> None:
    """Write the pictures of all emoji with a table of their columns, unless they are there already.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of the pictures and of ``metadata.csv``, as `crossfit.galleries.read_gallery` reads
        it.
    """
    from PIL import Image

    from crossfit._files import clear_drafts, draft_of, put_folder, room_for

    found = all_emoji()
    files = [f"{code}.png" for code in found["unicode"]]
    names = [name.replace("_", " ") for name in found["name"]]
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow(_COLUMNS)
    table.writerows(
        zip(files, found["name"], names, found["character"], found["text"], found["category"],
            found["split"])
    )  # fmt: skip
    written = folder / "metadata.csv"
    if written.is_file() and written.read_bytes() == buffer.getvalue().encode():
        return
    clear_drafts(folder)
    with room_for("the emoji", folder), draft_of(folder, Path.mkdir) as draft:
        for file, pixels in zip(files, found["image"]):
            Image.fromarray(pixels).save(draft / file)
        (draft / "metadata.csv").write_text(buffer.getvalue(), encoding="utf-8", newline="")
        put_folder(draft, folder)


def _record(folder: Path) -> Any:
    """Return the record of a winner, or an empty one if there is none that can be read."""
    from crossfit.persistence.files import RECORD

    try:
        found = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
