"""Results of one search: as a page with pictures and sounds, and as pictures in a terminal."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crossfit._pictures import data_uri
from crossfit.report.page import template, write_text

__all__ = ["blocks", "write_results"]

#: Width of a picture in a terminal, in characters.
_WIDTH = 32


def write_results(
    path: Path, query: str, query_kind: str, rows: Sequence[Mapping[str, Any]], kind: str
) -> None:
    """Write the results of a search to a page that needs no other file, except for sounds.

    Parameters
    ----------
    path : Path
        File to write.
    query : str
        A text, or the path of a picture or sound.
    query_kind, kind : {"picture", "sound", "text"}
        Kind of the query and of the results.
    rows : sequence of mapping
        Results, best first: ``rank``, ``score``, ``id``, ``path`` or ``text``, and what else is
        known of each.
    """
    shown = [
        {
            "rank": row["rank"],
            "score": f"{row['score']:.3f}",
            "id": row["id"] if kind != "text" else "",
            "text": row.get("text", "") if kind == "text" else "",
            "picture": data_uri(row["path"]) if kind == "picture" else "",
            "sound": _address(row["path"]) if kind == "sound" else "",
            "more": [
                (name, str(value))
                for name, value in row.items()
                if name not in ("rank", "score", "id", "path", "text")
            ],
        }
        for row in rows
    ]
    asked = {
        "text": query if query_kind == "text" else "",
        "picture": data_uri(query) if query_kind == "picture" else "",
        "sound": _address(query) if query_kind == "sound" else "",
        "name": os.path.basename(query),
    }
    write_text(path, template("results.html.j2").render(query=asked, rows=shown))


def _address(path: str) -> str:
    return Path(path).absolute().as_uri() if os.path.exists(path) else ""


def blocks(path: str, width: int = _WIDTH) -> str:
    """Return a picture for a terminal with 24-bit colours, two pixels per character.

    Parameters
    ----------
    path : str
        Any input of `crossfit.extraction.load_rgb`.
    width : int, default=32
        Width in characters.

    Returns
    -------
    str
    """
    from PIL import Image

    from crossfit.extraction import load_rgb

    picture = Image.fromarray(load_rgb(path))
    height = max(2, round(width * picture.height / picture.width / 2) * 2)
    pixels = np.asarray(picture.resize((width, height)))
    lines = []
    for upper, lower in zip(pixels[::2], pixels[1::2]):
        cells = [
            f"\x1b[38;2;{a};{b};{c}m\x1b[48;2;{d};{e};{f}m▀"
            for (a, b, c), (d, e, f) in zip(upper.tolist(), lower.tolist())
        ]
        lines.append("".join(cells) + "\x1b[0m")
    return "\n".join(lines)
