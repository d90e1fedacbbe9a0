"""Tables for people who work with pandas, and aligned lines for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from crossfit._text import printable

__all__ = ["aligned", "concatenated", "frame_of"]


def frame_of(data: Any, columns: Sequence[str] | None = None) -> Any:
    """Return a pandas DataFrame.

    Parameters
    ----------
    data : list of dict, or mapping of str to sequence
        Rows, or columns.
    columns : sequence of str, optional
        Names of the columns, which also a table without rows has.

    Returns
    -------
    pandas.DataFrame

    Raises
    ------
    ImportError
        If pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError:
        raise ImportError("to_frame() needs pandas: `pip install pandas`") from None
    return pd.DataFrame(data, columns=columns)


def concatenated(frames: Sequence[Any]) -> Any:
    """Return frames of pandas below each other, with rows numbered from 0."""
    import pandas as pd

    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def aligned(rows: Sequence[Sequence[Any]], indent: str = "  ") -> list[str]:
    """Return rows as lines whose columns are aligned: numbers to the right, others to the left.

    Parameters
    ----------
    rows : sequence of sequence
        The cells of each row; rows may have unequal lengths.
    indent : str
        What each line begins with.

    Returns
    -------
    list of str
    """
    texts = [[_cell(value) for value in row] for row in rows]
    n = max(map(len, texts), default=0)
    widths = [max(len(row[i]) for row in texts if i < len(row)) for i in range(n)]
    return [
        (indent + "  ".join(
            text.rjust(width) if isinstance(value, int | float) else text.ljust(width)
            for text, width, value in zip(line, widths, row)
        )).rstrip()
        for line, row in zip(texts, rows)
    ]  # fmt: skip


def _cell(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else printable(str(value))
