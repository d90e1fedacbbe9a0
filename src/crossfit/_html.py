"""Tables of objects for notebooks."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

from crossfit._text import printable

__all__ = ["html_table"]


def html_table(caption: str, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return an HTML table whose texts, which may be those of anyone, are escaped.

    Parameters
    ----------
    caption : str
        Text above the table.
    head : sequence of str
        Names of the columns.
    rows : iterable of sequence
        Values of the columns; numbers are aligned to the right.

    Returns
    -------
    str
    """

    def cell(tag: str, value: Any) -> str:
        number = isinstance(value, int | float)
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        side = "right" if number else "left"
        return f'<{tag} style="text-align:{side}">{html.escape(printable(text))}</{tag}>'

    def line(tag: str, values: Sequence[Any]) -> str:
        return f"<tr>{''.join(cell(tag, value) for value in values)}</tr>"

    return (
        f'<table><caption style="text-align:left">{html.escape(printable(caption))}</caption>'
        f"<thead>{line('th', head)}</thead>"
        f"<tbody>{''.join(line('td', row) for row in rows)}</tbody></table>"
    )
