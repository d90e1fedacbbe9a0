"""Results that are a table: in a terminal, in a notebook, and as a DataFrame of pandas."""

from __future__ import annotations

import math
from typing import Any

from crossfit._frames import aligned, frame_of
from crossfit._html import html_table

__all__ = ["Tabular"]

#: Number of rows in a notebook, and in a terminal.
_ROWS, _LINES = 20, 10


class Tabular:
    """Base of results, whose subclasses have `rows` and `_title`."""

    def rows(self) -> list[dict[str, Any]]:
        """Return the values as rows.

        Returns
        -------
        list of dict
        """
        raise NotImplementedError

    def _title(self) -> str:
        """Return one line on the whole."""
        raise NotImplementedError

    def to_frame(self) -> Any:
        """Return the rows as a pandas DataFrame; pandas must be installed."""
        return frame_of(self.rows())

    def _repr_html_(self) -> str:
        rows = self.rows()
        head = list(rows[0]) if rows else []
        cut = f", {_ROWS} of {len(rows)} rows" if len(rows) > _ROWS else ""
        body = [[_shown(row[name]) for name in head] for row in rows[:_ROWS]]
        return html_table(self._title() + cut, head, body)

    def __repr__(self) -> str:
        rows = self.rows()
        if not rows:
            return self._title()
        body = [[_shown(value) for value in row.values()] for row in rows[:_LINES]]
        more = [f"  ... {len(rows)} rows"] if len(rows) > _LINES else []
        return "\n".join([self._title(), *aligned([list(rows[0]), *body]), *more])


def _shown(value: Any) -> Any:
    """Return a value of a cell, which is empty if there is none."""
    missing = value is None or (isinstance(value, float) and math.isnan(value))
    return "" if missing else value
