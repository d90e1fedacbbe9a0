"""Queries with what was found for them, as pictures, texts and waveforms."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossfit._arguments import integer, shown, validated
from crossfit._arrays import as_array
from crossfit._html import text_of
from crossfit._text import printable
from crossfit.displays.base import (
    Display,
    checked_name,
    class_name,
    documented,
    named,
    pairs_of,
    scored,
)
from crossfit.plotting import LINES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["GalleryDisplay"]

#: Sign, colour and words of each verdict; the signs and colours are those of the report.
_VERDICTS = {
    "pair": ("✓", "#16713f", "the query's own pair"),
    "relevant": ("≈", "#8a5d00", "relevant"),
    "wrong": ("×", "#b23a48", "wrong"),
}
# Lengths are in inches, of which one is one unit of the Axes.
_SIDE, _GAP, _WIDTH = 1.1, 0.12, 6.4
_SMALL, _NORMAL = 7.0, 9.0  # sizes of texts in points
_PIXELS = 320  # longest side of a picture


@documented
class GalleryDisplay(Display):
    """Queries with the items that were found for them, right and wrong ones marked.

    Pictures are shown, sounds are drawn as waveforms, and texts are written: a line for each if all
    items of a query are texts.

    Parameters
    ----------
    queries : sequence of n items
        Texts, pictures (path, PIL, pixels) or sounds (path, pair of samples and rate). Arrays of
        one axis are drawn like samples, and a mapping is its first picture, sound or text.
    found : sequence of n sequences of items
        What was found for each query, best first.
    verdicts : sequence of n sequences of {"pair", "relevant", "wrong"}, optional
        Whether an item is the own pair of its query, another relevant one, or neither.
    captions : sequence of n sequences of str, optional
        Text below each item, such as its name or score; after a text, in brackets.
    name : str, default=""
        Title.

    Attributes
    ----------
    {drawn}
    marks_ : list of list of Text
        The signs on the found items by query: ✓ (own pair), ≈ (relevant) and × (wrong).
    images_ : list of AxesImage
        The pictures, by query and rank, each query before its items.
    waves_ : list of PolyCollection
        The waveforms, in the same order.

    See Also
    --------
    crossfit.search : The results, of which a notebook shows a table.

    Examples
    --------
    >>> display = GalleryDisplay(["a pet"], [["a cat", "a car"]], verdicts=[["pair", "wrong"]])
    >>> [mark.get_text() for mark in display.plot().marks_[0]]
    ['✓', '×']
    """

    def __init__(
        self,
        queries: Sequence[Any],
        found: Sequence[Sequence[Any]],
        *,
        verdicts: Sequence[Sequence[str]] | None = None,
        captions: Sequence[Sequence[str]] | None = None,
        name: str = "",
    ) -> None:
        self.queries = _listed(queries, "queries")
        self.found = [_listed(items, "found", empty=True) for items in _listed(found, "found")]
        if len(self.found) != len(self.queries):
            raise ValueError(
                f"found must have {len(self.queries)} entries, one for each query, got "
                f"{len(self.found)}"
            )
        self.verdicts = self._per_item(verdicts, "verdicts")
        self.captions = self._per_item(captions, "captions")
        for verdict in chain.from_iterable(self.verdicts or ()):
            if verdict not in _VERDICTS:
                raise ValueError(f"verdicts must be {', '.join(_VERDICTS)}, got {shown(verdict)}")
        self.name = checked_name(name)

    def _per_item(self, given: Any, what: str) -> list[list[str]] | None:
        if given is None:
            return None
        rows = [_listed(row, what, empty=True) for row in _listed(given, what)]
        if [len(row) for row in rows] != [len(items) for items in self.found]:
            raise ValueError(f"{what} must have one entry for each item of found")
        if not all(isinstance(entry, str) for row in rows for entry in row):
            raise TypeError(f"{what} must be strings, got {shown(given)}")
        return rows

    @classmethod
    @documented
    @validated(k=[integer(1)], n_queries=[integer(1)], random_state=[integer(0, 2**32 - 1)])
    def from_estimator(
        cls,
        estimator: Any,
        views: Any,
        y: ArrayLike | None = None,
        *,
        query: str | None = None,
        gallery: str | None = None,
        raw: Any = None,
        rows: Sequence[int] | None = None,
        n_queries: int = 4,
        k: int = 6,
        random_state: int = 0,
        target_names: Sequence[str] | None = None,
        name: str | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Draw what a fitted method finds for some of the pairs.

        Parameters
        ----------
        {estimator}
        views : Views, Split or Dataset
            Pairs that were not used in the fit; of a data set its split "test", or the only one.
        y : array-like of shape (n,) or (n, n_classes), optional
            Labels; an item that shares one with the query is relevant. By default those of the
            split; if there are none, only the own pair is.
        {sides}
        raw : Views, Split or Dataset, optional
            The same pairs before their features were extracted, which are then shown.
        rows : sequence of int, optional
            Numbers of the query items; by default some are drawn at random.
        n_queries : int, default=4
            Number of queries that are drawn at random; all if there are fewer.
        k : int, default=6
            Number of items per query; all if there are fewer.
        random_state : int, default=0
            Seed of the choice of queries.
        {target_names}
        {title}
        {ax}

        Returns
        -------
        GalleryDisplay

        {fitted}
        """
        from crossfit.datasets import Split
        from crossfit.labels import check_labels
        from crossfit.querying import top_k
        from crossfit.report.gallery import describer, verdicts

        given = pairs_of(views, None if y is None else check_labels(y), "views", target_names)
        items = given if raw is None else pairs_of(raw, given.y, "raw", given.target_names)
        if len(items.views) != len(given.views):
            raise ValueError(
                f"raw must have the {len(given.views)} pairs of views, got {len(items.views)}"
            )
        ((scores, _, _, names),) = scored(estimator, given.views, None, query, gallery, "forward")
        lacking = [side for side in names if side not in items.views]
        if lacking:
            raise ValueError(f"raw must have the view {lacking[0]!r}, got {items.views!r}")
        n = len(scores)
        if rows is None:
            chosen = np.random.RandomState(random_state).permutation(n)[:n_queries].tolist()
        else:
            chosen = _rows(rows, n)
        pairs = Split(items.views, given.y, items.info)
        verdict = verdicts(pairs, *names)
        asked, answer = (describer(pairs, side, given.target_names) for side in names)
        top = top_k(scores[chosen], k).indices.tolist()
        answers = [[answer(at) for at in row] for row in top]
        if name is None:
            name = named(class_name(estimator), " → ".join(names))
        return cls(
            [asked(at)[0] for at in chosen],
            [[value for value, _, _ in row] for row in answers],
            verdicts=[[verdict(q, at) for at in row] for q, row in zip(chosen, top)],
            captions=[[_caption(*each) for each in row] for row in answers],
            name=name,
        ).plot(ax)

    @classmethod
    @documented
    def from_results(
        cls,
        results: Any,
        queries: Sequence[Any],
        relevance: Any = None,
        *,
        gallery: Sequence[Any] | None = None,
        rows: Sequence[int] | None = None,
        name: str = "",
        ax: Axes | None = None,
    ) -> Self:
        """Draw the results of a search.

        Parameters
        ----------
        results : SearchResult
            As of `crossfit.search`, of `Index.search` or of `crossfit.querying.top_k`.
        queries : sequence of n items
            What was searched for.
        relevance : array-like or sparse of shape (n, m), or pair (y_query, y_gallery), optional
            See `crossfit.evaluate`; items that are not relevant are marked as wrong. By default,
            nothing is marked.
        gallery : sequence of m items, optional
            The items to show; by default those that the results have.
        rows : sequence of int, optional
            Numbers of the queries to draw; by default the first four.
        {name}
        {ax}

        Returns
        -------
        GalleryDisplay

        {raises}
        """
        from crossfit.metrics.relevance import as_relevance
        from crossfit.querying import SearchResult

        if not isinstance(results, SearchResult):
            raise TypeError(f"results must be a SearchResult, got {type(results).__name__}")
        asked = _listed(queries, "queries")
        n, k = np.shape(results.indices)
        if len(asked) != n:
            raise ValueError(f"queries must be the {n} of the results, got {len(asked)}")
        chosen = list(range(min(n, 4))) if rows is None else _rows(rows, n)
        top = np.asarray(results.indices)
        verdicts = None
        if relevance is not None:
            relevant = as_relevance(relevance)
            if relevant.shape[0] != n or relevant.shape[1] <= top.max(initial=-1):
                raise ValueError(
                    f"relevance must be of {n} queries and at least {top.max() + 1} items, got "
                    f"shape {relevant.shape}"
                )
            verdicts = []
            for q in chosen:
                own = set(next(iter(relevant.rows(q, q + 1)))[0].tolist())
                verdicts.append(["relevant" if at in own else "wrong" for at in top[q].tolist()])
        items = results._pictures if gallery is None else _listed(gallery, "gallery")
        if items is not None and len(items) <= top.max(initial=-1):
            raise ValueError(f"gallery must have at least {top.max() + 1} items, got {len(items)}")
        held = results.ids if results.items is None else results.items

        def item(q: int, at: int) -> Any:
            if items is not None:
                return items[top[q, at]]
            return f"item {top[q, at]}" if held is None else held[q][at]

        return cls(
            [asked[q] for q in chosen],
            [[item(q, at) for at in range(k)] for q in chosen],
            verdicts=verdicts,
            captions=[[f"{score:.3f}" for score in results.scores[q]] for q in chosen],
            name=name,
        ).plot(ax)

    def _draw(self, axes: Axes, own: bool) -> None:
        kinds = [[kind_of(item) for item in items] for items in self.found]
        tiled = [any(kind != "text" for kind, _ in row) for row in kinds]
        asked = [kind_of(query) for query in self.queries]
        beside = _SIDE + 2 * _GAP if any(kind != "text" for kind, _ in asked) else 0.0
        most = max((len(row) for row, tiles in zip(kinds, tiled) if tiles), default=0)
        width = beside + max(most * (_SIDE + _GAP), 0.0 if all(tiled) else _WIDTH, 3.0)
        page = _Page(axes, width)
        heights = self._rows_of(page, asked, kinds, tiled, beside, draw=False)
        total = sum(heights) + (0.3 if self.verdicts else 0.0)
        if own:
            self.figure_.set_size_inches(width + 0.15, total + (0.3 if self.name else 0.1))
        page.fit(total, own)
        self._rows_of(page, asked, kinds, tiled, beside, draw=True)
        if self.verdicts:
            page.legend(sum(heights), {each for row in self.verdicts for each in row})
        if self.name:
            axes.set_title(self.name, fontsize=11 * page.scale, loc="left")
        self.marks_, self.images_, self.waves_ = page.marks, page.images, page.waves

    def _rows_of(
        self, page: _Page, asked: Any, kinds: Any, tiled: Any, beside: float, *, draw: bool
    ) -> list[float]:
        """Return the heights of the rows of all queries, and draw them."""
        top, heights = 0.0, []
        page.marks = [] if draw else page.marks
        for q, (row, tiles) in enumerate(zip(kinds, tiled)):
            if draw:
                page.marks.append([])
            y = top
            kind, query = asked[q]
            if kind == "text":
                y = page.text(0, y, query, page.width, _NORMAL, 2, draw, weight="bold") + 0.06
            elif draw:
                page.tile(0, y, kind, query)
            low = y if kind == "text" else y + _SIDE
            for at, (kind, item) in enumerate(row):
                verdict = None if self.verdicts is None else self.verdicts[q][at]
                caption = "" if self.captions is None else printable(self.captions[q][at])
                if tiles:
                    x = beside + at * (_SIDE + _GAP)
                    if draw:
                        page.tile(x, y, kind, item, verdict)
                    end = page.text(x, y + _SIDE + 0.05, caption, _SIDE, _SMALL, 2, draw)
                else:
                    written = f"{item} ({caption})" if caption else item
                    if draw and verdict:
                        page.mark(beside + 0.1, y + 0.02, verdict)
                    x = beside + (0.25 if self.verdicts else 0.1)
                    y = page.text(x, y, written, page.width - x, _NORMAL, 2, draw) + 0.04
                    end = y
                low = max(low, end)
            heights.append(low + 0.16 - top)
            top = low + 0.16
        return heights


class _Page:
    """Axes with inches as units, which is drawn from the top."""

    def __init__(self, axes: Axes, width: float) -> None:
        self.axes, self.width = axes, width
        self.scale = 1.0
        self.marks: list[list[Any]] = []
        self.images: list[Any] = []
        self.waves: list[Any] = []

    def fit(self, height: float, own: bool) -> None:
        """Set the limits; texts become as much smaller as the Axes of the user require."""
        if not own:
            figure: Figure = self.axes.get_figure(root=True)  # type: ignore[assignment]
            box = self.axes.get_window_extent()
            self.scale = min(box.width / self.width, box.height / height) / figure.dpi
        self.axes.set(xlim=(-0.05, self.width + 0.05), ylim=(height, -0.05), aspect="equal")
        self.axes.set_axis_off()

    def text(
        self, x: float, y: float, words: str, width: float, size: float, most: int, draw: bool,
        **style: Any,
    ) -> float:  # fmt: skip
        """Write a text in lines of a width, and return where it ends."""
        lines = _wrapped(words, 72 * width, size, most, style.get("weight", "normal"))
        if draw and lines:
            # Constrained layout would make room for a text that is a little too long.
            self.axes.text(
                x, y, "\n".join(lines), va="top", fontsize=size * self.scale, linespacing=1.2,
                **style,
            ).set_in_layout(False)  # fmt: skip
        return y + len(lines) * size * 1.32 / 72

    def tile(self, x: float, y: float, kind: str, item: Any, verdict: str | None = None) -> None:
        """Draw an item in a square with a frame of the colour of the verdict."""
        from matplotlib.patches import Rectangle

        if kind == "picture":
            height, width = item.shape[:2]
            share = _SIDE / max(height, width)
            left, above = x + (_SIDE - share * width) / 2, y + (_SIDE - share * height) / 2
            place = (left, left + share * width, above + share * height, above)
            self.images.append(self.axes.imshow(item, extent=place, interpolation="antialiased"))
        elif kind == "sound":
            low, high = item
            at = np.linspace(x + 0.04, x + _SIDE - 0.04, len(low))
            middle, reach = y + _SIDE / 2, 0.42 * _SIDE
            self.waves.append(
                self.axes.fill_between(
                    at, middle - reach * high, middle - reach * low, color=LINES[0], linewidth=0.3
                )
            )
        else:
            self.text(x + 0.05, y + 0.2, item, _SIDE - 0.1, _SMALL, 6, True)
        colour = "0.8" if verdict is None else _VERDICTS[verdict][1]
        thick = 0.6 if verdict is None else 2.2
        frame = Rectangle((x, y), _SIDE, _SIDE, fill=False, edgecolor=colour)
        frame.set_linewidth(thick * self.scale)
        self.axes.add_patch(frame)
        if verdict is not None:
            self.mark(x + 0.1, y + 0.1, verdict, boxed=True)

    def mark(self, x: float, y: float, verdict: str, boxed: bool = False) -> None:
        """Draw the sign of a verdict."""
        sign, colour, _ = _VERDICTS[verdict]
        style: dict[str, Any] = {"color": colour, "ha": "center", "va": "top"}
        if boxed:
            box = {"boxstyle": "square,pad=0.12", "facecolor": colour, "edgecolor": "none"}
            style = {"color": "white", "ha": "center", "va": "center", "bbox": box}
        size = _NORMAL * self.scale
        self.marks[-1].append(
            self.axes.text(x, y, sign, fontsize=size, weight="bold", linespacing=1.2, **style)
        )

    def legend(self, y: float, used: set[str]) -> None:
        """Explain the signs that are used."""
        x = 0.0
        for verdict, (sign, colour, words) in _VERDICTS.items():
            if verdict in used:
                self.axes.text(
                    x, y, f"{sign} {words}", color=colour, va="top", fontsize=_NORMAL * self.scale
                )
                x += (len(words) + 4) * 0.54 * _NORMAL / 72


def kind_of(item: Any) -> tuple[str, Any]:
    """Return the kind of an item, and what is drawn: pixels, a lowest and highest curve, or a text.

    Parameters
    ----------
    item : object
        An item of a view, or of the payload of a gallery.
    """
    from crossfit._pictures import is_picture
    from crossfit.extraction import load_audio, load_rgb
    from crossfit.galleries import kind_of_file

    if isinstance(item, Mapping):
        parts = [kind_of(part) for part in item.values()]
        own = next((part for part in parts if part[0] != "text"), None)
        return own or ("text", text_of(item, 400))
    if isinstance(item, os.PathLike):
        item = os.fspath(item)
    try:
        if is_picture(item) or hasattr(item, "getbands"):
            return "picture", _small(load_rgb(item))
        if isinstance(item, str) and kind_of_file(item) == "sound" and os.path.isfile(item):
            return "sound", _envelope(load_audio(item))
    except (ImportError, OSError, ValueError):  # it is shown as a text
        return "text", text_of(item, 400)
    if isinstance(item, tuple) and len(item) == 2:
        item = next((part for part in item if np.ndim(part)), item)
    numbers = isinstance(item, np.ndarray) and item.dtype.kind in "biuf"
    if numbers and item.ndim == 1 and item.size and np.isfinite(item).all():
        return "sound", _envelope(item)
    return "text", text_of(item, 400)


def _small(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    from PIL import Image

    picture = Image.fromarray(pixels)
    if max(picture.size) > _PIXELS:
        picture.thumbnail((_PIXELS, _PIXELS))
    return np.asarray(picture)


def _envelope(samples: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the lowest and the highest sample in each of up to 200 parts, from -1 to 1."""
    parts = np.array_split(samples.astype(np.float64), min(200, len(samples)))
    low, high = (np.array([edge(part) for part in parts]) for edge in (np.min, np.max))
    largest = max(np.abs(low).max(), np.abs(high).max(), 1e-12)
    return low / largest, high / largest


def _wrapped(words: str, width: float, size: float, most: int, weight: str) -> list[str]:
    """Return a text in lines of a width in points; what does not fit into them is left out."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    text = printable(" ".join(words.split()))
    if not text:
        return []
    font = FontProperties(size=size, weight=weight)
    whole, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    n = int(0.95 * len(text) * width / max(whole, 1e-9))
    return textwrap.wrap(text, max(n, 4), max_lines=most, placeholder=" …")


def _caption(value: Any, words: str, label: str) -> str:
    """Return what is written below an item, which is shown itself if it is a text."""
    if isinstance(value, str) and words and value.startswith(words.rstrip("…")):
        return label
    return f"{words}, {label}" if label else words


def _listed(given: Any, what: str, empty: bool = False) -> list[Any]:
    if isinstance(given, list | tuple):
        found = list(given)
    elif hasattr(given, "__array__") and np.ndim(array := as_array(given, what)):
        found = list(array)
    else:
        raise TypeError(f"{what} must be a list or an array, got {shown(given)}")
    if not found and not empty:
        raise ValueError(f"{what} must have at least one entry, got none")
    return found


def _rows(given: Any, n: int) -> list[int]:
    rows = _listed(given, "rows")
    for row in rows:
        whole = isinstance(row, int | np.integer) and not isinstance(row, bool)
        if not whole or not 0 <= row < n:
            raise ValueError(f"rows must be numbers of queries from 0 to {n - 1}, got {shown(row)}")
    return [int(row) for row in rows]
