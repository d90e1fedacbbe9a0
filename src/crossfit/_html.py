"""Tables of objects for notebooks."""

from __future__ import annotations

import html
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from crossfit._text import printable

__all__ = ["Items", "Markup", "html_table", "text_of"]

#: Longest text of an item, in characters.
_LONGEST = 120
#: Longest side of a picture of an item, in pixels.
_SIDE = 72


class Markup(str):
    """HTML that was made here and is put into a table as it is."""

    __slots__ = ()


def html_table(caption: str, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return an HTML table whose texts, which may be those of anyone, are escaped.

    The table sets no colours, so it can be read in light and in dark notebooks.

    Parameters
    ----------
    caption : str
        Text above the table.
    head : sequence of str
        Names of the columns.
    rows : iterable of sequence
        Values of the columns; numbers are aligned to the right, and `Markup` is not escaped.

    Returns
    -------
    str
    """

    def cell(tag: str, value: Any) -> str:
        number = isinstance(value, int | float)
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        side = "right" if number else "left"
        shown = value if isinstance(value, Markup) else html.escape(printable(text))
        return f'<{tag} style="text-align:{side}">{shown}</{tag}>'

    def line(tag: str, values: Sequence[Any]) -> str:
        return f"<tr>{''.join(cell(tag, value) for value in values)}</tr>"

    return (
        f'<table><caption style="text-align:left">{html.escape(printable(caption))}</caption>'
        f"<thead>{line('th', head)}</thead>"
        f"<tbody>{''.join(line('td', row) for row in rows)}</tbody></table>"
    )


class Items:
    """Items of a table: pictures as thumbnails, of which there is a limited number, and texts.

    Parameters
    ----------
    n_pictures : int, default=40
        Number of pictures to show; further ones are shown as the text of their path or shape.
    """

    def __init__(self, n_pictures: int = 40) -> None:
        self.n_pictures = n_pictures

    def shown(self, item: Any, below: str = "") -> Markup:
        """Return an item as HTML.

        Parameters
        ----------
        item : object
            A picture (path, pixels, PIL), a text, a mapping of such or anything else.
        below : str
            Text below it.

        Returns
        -------
        Markup
        """
        found = self._picture(item)
        if found is None:
            found = html.escape(text_of(item))
        return Markup(f"{found}<br/>{html.escape(printable(below))}" if below else found)

    def _picture(self, item: Any) -> str | None:
        from crossfit._pictures import data_uri, is_picture

        if isinstance(item, Mapping):
            found = (self._picture(part) for part in item.values())
            return next((each for each in found if each is not None), None)
        if isinstance(item, os.PathLike):
            item = os.fspath(item)
        if self.n_pictures < 1 or not (is_picture(item) or hasattr(item, "getbands")):
            return None
        try:
            source = data_uri(item, _SIDE)
        except (ValueError, TypeError, OSError):  # shown as a text
            return None
        self.n_pictures -= 1
        words = html.escape(text_of(item), quote=True)
        return f'<img src="{source}" alt="{words}" title="{words}"/>'


def text_of(item: Any, longest: int = _LONGEST) -> str:
    """Return an item as one line of text, shortened.

    Parameters
    ----------
    item : object
        A text, path, array, mapping or anything else.
    longest : int
        Number of characters of the longest text.

    Returns
    -------
    str
    """
    if isinstance(item, Mapping):
        text = ", ".join(f"{key}: {text_of(value, longest)}" for key, value in item.items())
    elif hasattr(item, "shape") and getattr(item, "ndim", None):
        text = f"{tuple(item.shape)} {getattr(item, 'dtype', '')}"
    elif isinstance(item, bytes):
        text = f"{len(item)} bytes"
    else:
        text = str(item)
    text = printable(" ".join(text[: 20 * longest].split()))
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
