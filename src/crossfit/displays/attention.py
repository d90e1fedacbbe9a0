"""Attention over the regions of a picture and the words of its text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossfit._arguments import integer, shown, validated
from crossfit._arrays import as_array
from crossfit._text import printable
from crossfit.displays.base import Display, documented, model_of, pairs_of
from crossfit.views import Views

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["AttentionDisplay"]

_COLUMNS = 7  # panels in a row, at most
_PANEL = 1.7  # inches
# These can be distinguished on photographs, and by people who do not distinguish red and green.
_COLOURS = ("#ffb000", "#27a3ff", "#fe3d83", "#54e08d", "#a883ff")
_HEAT = "turbo"

Floats = NDArray[np.float64]


@documented
class AttentionDisplay(Display):
    """Attention over the regions of a picture and the words of its text.

    Parameters
    ----------
    image : path-like, PIL.Image.Image or ndarray
        Any input of `crossfit.extraction.load_rgb`.
    words : sequence of T str, optional
        The words of the text.
    word_to_region : array-like of shape (T, R) or (R,), optional
        The weight of each region for each word, or for the whole text. The weights are drawn over
        the image, with a panel for each word and a common scale, on which 1 is the weight of every
        region if all have the same.
    object_to_word : array-like of shape (K, T') or (T',), optional
        The weight of each word for each object, or for the whole image. Columns beyond the words
        are padding and are left out.
    grid : (int, int), optional
        Rows and columns of the regions; a square by default.
    region_boxes : array-like of shape (R, 4), optional
        Boxes of regions that are not a grid: left, top, right and bottom as fractions of the
        image.
    boxes : array-like of shape (K, 4), optional
        Boxes of the objects, in the same form.
    labels : sequence of K str, optional
        Names of the objects.
    n_objects : int, default=3
        Number of objects to draw, from the first one.

    Attributes
    ----------
    ax_, figure_ : Axes and Figure
        The Axes within whose bounds everything is drawn, and their figure.
    axes_ : list of Axes
        The panels: the picture, one for each word, and those of the objects and words.

    See Also
    --------
    crossfit.plotting.plot_attention : The same as a function.

    Examples
    --------
    >>> import numpy as np
    >>> picture = np.zeros((60, 80, 3), np.uint8)
    >>> weights = np.full((2, 16), 1 / 16)
    >>> display = AttentionDisplay(picture, ["a", "dog"], word_to_region=weights).plot()
    >>> [axes.get_title() for axes in display.axes_]
    ['image', 'a', 'dog']
    """

    @validated(n_objects=[integer(1)])
    def __init__(
        self,
        image: Any,
        words: Sequence[str] | None = None,
        *,
        word_to_region: ArrayLike | None = None,
        object_to_word: ArrayLike | None = None,
        grid: tuple[int, int] | None = None,
        region_boxes: ArrayLike | None = None,
        boxes: ArrayLike | None = None,
        labels: Sequence[str] | None = None,
        n_objects: int = 3,
    ) -> None:
        from crossfit.extraction.images import load_rgb

        whole_numbers = isinstance(grid, tuple | list) and all(
            isinstance(part, Integral) and part > 0 for part in grid
        )
        if grid is not None and not (whole_numbers and len(grid) == 2):
            raise ValueError(f"grid must be rows and columns of the regions, got {shown(grid)}")
        over_image = None if word_to_region is None else _matrix(word_to_region, "word_to_region")
        over_words = None if object_to_word is None else _matrix(object_to_word, "object_to_word")
        if over_image is None and over_words is None:
            raise ValueError("AttentionDisplay needs word_to_region or object_to_word, got neither")
        names = None if words is None else _names(words, "words")
        self.labels = None if labels is None else _names(labels, "labels")
        self.pixels = load_rgb(image)
        self.titles: list[str] = []
        if over_image is not None:
            whole = len(over_image) == 1 and np.ndim(word_to_region) == 1  # type: ignore[arg-type]
            titles = [""] if whole else names
            if titles is None or len(titles) != len(over_image):
                raise ValueError(
                    f"word_to_region has {len(over_image)} rows, so there must be as many words, "
                    f"got {'none' if names is None else len(names)}"
                )
            self.titles = titles
            self._cover = _cover(self.pixels.shape[:2], over_image.shape[1], grid, region_boxes)
        self.frames = None
        if over_words is not None:
            if names is None or over_words.shape[1] < len(names):
                raise ValueError(
                    f"object_to_word has {over_words.shape[1]} columns, so there must be at most "
                    f"as many words, got {'none' if names is None else len(names)}"
                )
            over_words = over_words[:n_objects, : len(names)]
            k = len(over_words)
            if self.labels is not None and len(self.labels) < k:
                raise ValueError(f"labels must name {k} objects, got {len(self.labels)}")
            self.frames = None if boxes is None else _boxes(boxes, k, "boxes")[:k]
        self.words, self.word_to_region, self.object_to_word = names, over_image, over_words

    @classmethod
    @documented
    def from_estimator(
        cls,
        estimator: Any,
        views: Any,
        row: int = 0,
        *,
        raw: Any = None,
        n_objects: int = 3,
        ax: Axes | None = None,
    ) -> Self:
        """Draw what a fitted method attends to in a picture and its text.

        Parameters
        ----------
        estimator : method with ``explain``, or pipeline, search or Winner with one
            Fitted, such as ACLN, BSSAN, CRAN, DAN, DVSA, MaxSim and SCAN.
        views : Views, Split or Dataset
            Pairs; of a data set its split "test", or the only one.
        row : int, default=0
            Number of the pair.
        raw : Views, Split or Dataset, optional
            The same pairs before their features were extracted, whose picture and text are shown.
        n_objects : int, default=3
            Number of objects to draw, from the first one, for attention of objects to words.
        {ax}

        Returns
        -------
        AttentionDisplay
            Words whose names are unknown are numbered.

        Raises
        ------
        TypeError, ValueError
            If an argument is invalid, there is not a picture, or the method does not have
            attention over regions or words.
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        from crossfit.querying import answering, view_names

        steps, last = answering(model_of(estimator))
        names = view_names(last)
        parts: list[Any] = [*steps, last]
        has = [i for i, step in enumerate(parts) if hasattr(step, "explain")]
        if not has:
            raise ValueError(
                f"estimator: {type(last).__name__} does not have attention; pass a method with "
                "explain, such as ACLN or SCAN, or a pipeline with one"
            )
        pairs = pairs_of(views, None, "views").views
        items = pairs if raw is None else pairs_of(raw, None, "raw").views
        if len(items) != len(pairs):
            raise ValueError(f"raw must have the {len(pairs)} pairs of views, got {len(items)}")
        if not isinstance(row, Integral) or isinstance(row, bool) or not 0 <= row < len(pairs):
            raise ValueError(
                f"row must be the number of a pair from 0 to {len(pairs) - 1}, got {shown(row)}"
            )
        pair = pairs[[int(row)]]
        picture, view, text = _shown(items[[int(row)]])
        for step in parts[: has[-1]]:
            pair = step.transform(pair)
        explained = parts[has[-1]].explain(pair)
        regions = [_info(pair[name]) for name in names if name in pair]
        found = _attention(explained, regions, view, text, type(parts[has[-1]]).__name__)
        return cls(picture, n_objects=n_objects, **found).plot(ax)

    def _draw(self, axes: Axes, own: bool) -> None:
        from matplotlib.text import Text

        spec = axes.get_subplotspec()
        if spec is None:
            raise ValueError("ax must be one of a grid of subplots, as plt.subplots makes them")
        aspect = self.pixels.shape[0] / self.pixels.shape[1]
        heights, columns = [], _COLUMNS
        if self.word_to_region is not None:
            rows, columns = _grid_of(len(self.word_to_region) + 1)
            heights.append(rows * (_PANEL * aspect + 0.35))
        if self.object_to_word is not None:
            heights.append(max(2.6 * aspect, 1.1 + 0.35 * len(self.object_to_word)) + 0.3)
            columns = _COLUMNS
        if own:
            self.figure_.set_size_inches(columns * _PANEL + 0.8, sum(heights))
        axes.set_axis_off()
        parent = axes.get_figure(root=False)
        assert parent is not None
        grid = spec.subgridspec(len(heights), 1, height_ratios=heights)
        parts = [parent.add_subfigure(grid[i]) for i in range(len(heights))]
        self.axes_ = []
        if self.word_to_region is not None:
            self.axes_ += _draw_regions(
                parts[0], columns, self.pixels, self.word_to_region, self.titles, self._cover
            )
        if self.object_to_word is not None:
            assert self.words is not None
            self.axes_ += _draw_words(
                parts[-1], self.pixels, self.object_to_word, self.words, self.frames, self.labels
            )
        for part in parts:
            for text in part.findobj(Text):
                text.set_parse_math(False)  # type: ignore[attr-defined]  # ticks are copied


def _shown(pair: Any) -> tuple[Any, str, str]:
    """Return the picture of a pair, the name of the view of its text, and the text."""
    from crossfit._pictures import is_picture

    items = {name: pair[name][0] for name in pair.names}
    pictures = [name for name, item in items.items() if is_picture(item)]
    if not pictures:
        raise ValueError(
            f"there is not a picture to draw in {pair!r}; pass raw=, the views before their "
            "features were extracted"
        )
    texts = [name for name, item in items.items() if isinstance(item, str) and name not in pictures]
    return items[pictures[0]], *((texts[0], items[texts[0]]) if texts else ("", ""))


def _info(values: Any) -> dict[str, Any]:
    """Return what a view of one row has as `info`, also in its channels."""
    if isinstance(values, Views):
        return {key: part for name in values.names for key, part in _info(values[name]).items()}
    return dict(getattr(values, "info", {}))


def _attention(
    explained: Any, regions: Sequence[Mapping[str, Any]], view: str, text: str, who: str
) -> dict[str, Any]:
    """Return the arguments of a display from what a method returns for one pair.

    Vectors are named after the view whose elements they weight. The rows of matrices are words or
    regions: their `info` has ``words`` or ``boxes``, their name ends in ``2w`` (to words) or ``2t``
    (to texts), or else the number of words shows it. See "What `explain` returns" in
    docs/plugin-api.md.
    """
    rows = [(name, np.asarray(explained[name][0], np.float64), _info(explained[name]))
            for name in explained.names]  # fmt: skip
    rows = [(name, weights, info) for name, weights, info in rows
            if not {"quantity", "pairs"} & set(info) and weights.ndim in (1, 2)]  # fmt: skip
    spoken = [[str(word) for word in info["words"]] for _, _, info in rows if "words" in info]
    spoken.append(text.split())
    places = [*(info for _, _, info in rows), *regions]

    def words_of(n: int) -> list[str]:
        numbers = [str(i + 1) for i in range(n)]
        return next((words for words in spoken if len(words) == n), numbers)

    found: dict[str, Any] = {}
    unplaced: list[int] = []
    counts = {len(words) for words in spoken}
    for name, weights, info in rows:
        n = weights.shape[-1]
        objects = len(info.get("boxes", ())) == len(weights) and weights.ndim == 2
        if weights.ndim == 1:
            of_regions = name != view and "words" not in info
        else:
            to_words = objects or name.endswith(("2w", "2t"))
            guessed = n in counts and len(weights) not in counts
            of_regions = "words" in info or not (to_words or guessed)
        if not of_regions:
            found |= {"object_to_word": weights, "words": words_of(n)}
            if objects:
                found["boxes"] = info["boxes"]
                if len(info.get("labels", ())) == len(weights):
                    found["labels"] = [str(label) for label in info["labels"]]
        elif (place := _place(places, n)) is None:
            unplaced.append(n)
        elif weights.ndim == 2 or "word_to_region" not in found:
            found |= {"word_to_region": weights, **place}
            if weights.ndim == 2:
                found["words"] = words_of(len(weights))
    if not found and unplaced:
        raise ValueError(
            f"{who}: the places of the {unplaced[0]} regions are unknown; give regions with boxes, "
            "as crossfit.extraction.make_regions returns them"
        )
    if not found:
        raise ValueError(f"{who} does not have attention over regions or words that can be drawn")
    return found


def _place(infos: Sequence[Mapping[str, Any]], n: int) -> dict[str, Any] | None:
    """Return where n regions are: their boxes or their grid, which is a square if it is unknown."""
    for info in infos:
        if len(info.get("boxes", ())) == n:
            return {"region_boxes": info["boxes"]}
        if "grid" in info and np.prod(info["grid"]) == n:
            return {"grid": tuple(int(part) for part in info["grid"])}
    side = math.isqrt(n)
    return {"grid": (side, side)} if side * side == n else None


def _matrix(given: ArrayLike, name: str) -> Floats:
    weights = as_array(given, name, numbers=True)
    numeric = weights.dtype.kind in "biuf" and np.isfinite(weights).all()
    if weights.ndim not in (1, 2) or not weights.size or not numeric:
        raise ValueError(f"{name} must be finite weights of one or two axes, got {weights.shape}")
    return np.atleast_2d(weights.astype(np.float64))


def _names(given: Any, name: str) -> list[str]:
    words = as_array(given, name)
    if words.ndim != 1:
        raise ValueError(f"{name} must be a list of strings, got {shown(given)}")
    return [printable(str(word)) for word in words.tolist()]


def _boxes(given: ArrayLike, n: int, name: str) -> Floats:
    found = as_array(given, name, numbers=True)
    if found.dtype.kind not in "biuf" or not np.isfinite(found).all():
        raise ValueError(f"{name} must be finite numbers, got type {found.dtype}")
    found = found.astype(np.float64)
    if found.ndim != 2 or found.shape[1] != 4 or len(found) < n:
        raise ValueError(f"{name} must be of shape ({n}, 4), got {found.shape}")
    return found


def _cover(
    shape: tuple[int, ...], n: int, grid: tuple[int, int] | None, boxes: ArrayLike | None
) -> Any:
    """Return a function that spreads the weights of n regions over the pixels of an image."""
    height, width = shape[:2]
    if boxes is not None:
        frames = _boxes(boxes, n, "region_boxes")[:n]

        def paint(weights: Floats) -> Floats:
            heat = np.full((height, width), weights.min())
            for value, (left, top, right, bottom) in sorted(
                zip(weights, frames), key=lambda entry: entry[0]
            ):
                rows = slice(int(top * height), max(int(bottom * height), int(top * height) + 1))
                columns = slice(int(left * width), max(int(right * width), int(left * width) + 1))
                heat[rows, columns] = value
            return heat

        return paint
    side = round(n**0.5)
    rows, columns = (side, side) if grid is None else grid
    if rows * columns != n:
        raise ValueError(
            f"{n} regions do not form a grid of {rows} x {columns}; pass grid= or region_boxes="
        )

    def spread(weights: Floats) -> Floats:
        from PIL import Image
        from scipy.ndimage import gaussian_filter

        cells = Image.fromarray(weights.reshape(rows, columns).astype(np.float32))
        smooth = np.asarray(cells.resize((width, height), Image.Resampling.BICUBIC))
        return gaussian_filter(smooth, 0.15 * min(height / rows, width / columns))

    return spread


def _grid_of(n: int) -> tuple[int, int]:
    """Return the numbers of rows and columns for n panels, with rows of similar length."""
    rows = -(-n // _COLUMNS)
    return rows, -(-n // rows)


def _bare(axes: Axes, title: str = "") -> None:
    axes.set_axis_off()
    axes.set_title(title, fontsize=11, pad=3)


def _draw_regions(
    part: Any,
    width: int,
    pixels: NDArray[np.uint8],
    weights: Floats,
    titles: list[str],
    cover: Any,
) -> list[Any]:
    """Draw the image, then once for each word with the heat of its weights; return the panels.

    `width` is the width of the figure in panels, which are next to each other from the left.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    n = len(weights) + 1
    rows, columns = _grid_of(n)
    grid = part.add_gridspec(rows, width)
    axes = [part.add_subplot(grid[divmod(i, columns)]) for i in range(n)]
    axes[0].imshow(pixels)
    _bare(axes[0], "image")
    share = weights * weights.shape[1]
    # Uniform attention must not show a pattern, as it would on a scale of rounding errors.
    low, high = min(share.min(), 0.95), max(share.max(), 1.05)
    grey = pixels.mean(axis=2, keepdims=True).repeat(3, axis=2) / 255
    for panel, row, title in zip(axes[1:], share, titles):
        panel.imshow(0.25 + 0.75 * grey)
        heat = cover(row)
        # Regions without attention are not coloured.
        seen = 0.7 * ((heat - low) / (high - low)).clip(0, 1)
        panel.imshow(heat, cmap=_HEAT, vmin=low, vmax=high, alpha=seen)
        _bare(panel, title)
    scale = ScalarMappable(Normalize(low, high), _HEAT)
    bar = part.colorbar(scale, ax=axes, fraction=0.02 * _COLUMNS / columns, pad=0.01)
    bar.set_label("weight /\nuniform weight", fontsize=9)  # one line is longer than a row is high
    bar.ax.tick_params(labelsize=8)
    return axes


def _draw_words(
    part: Any,
    pixels: NDArray[np.uint8],
    weights: Floats,
    words: list[str],
    boxes: Floats | None,
    labels: list[str] | None,
) -> list[Any]:
    """Draw the image with its objects, and next to it the words, in a row for each object.

    Return both panels.
    """
    from matplotlib.patches import Rectangle

    k = len(weights)
    left, right = part.subplots(1, 2, width_ratios=(1, 2.4))
    left.imshow(pixels)
    _bare(left)
    names = ([""] * k if labels is None else labels)[:k]
    colours = [_COLOURS[i % len(_COLOURS)] for i in range(k)]
    rows = [f"{i + 1} {name}".strip() for i, name in enumerate(names)]
    if boxes is None:
        rows = names if labels is not None else (["text"] if k == 1 else rows)
        colours = ["black"] * k
    else:
        height, width = pixels.shape[:2]
        frames = boxes * (width, height, width, height)
        for i, (colour, (x, y, x2, y2)) in enumerate(zip(colours, frames)):
            # A line on the edge of the image would be cut off.
            x, x2 = np.clip((x, x2), 0.5, width - 1.5)
            y, y2 = np.clip((y, y2), 0.5, height - 1.5)
            # A dark line below the coloured one keeps it visible on any background.
            for line, ink in ((4.5, "black"), (2.5, colour)):
                left.add_patch(
                    Rectangle((x, y), x2 - x, y2 - y, fill=False, linewidth=line, edgecolor=ink)
                )
            # Boxes of the same object nearly coincide, so each number is in another corner.
            at_right, at_bottom = i % 2, i // 2 % 2
            left.text(
                x2 if at_right else x, y2 if at_bottom else y, str(i + 1), fontsize=9,
                ha="right" if at_right else "left", va="bottom" if at_bottom else "top",
                bbox={"facecolor": colour, "edgecolor": "none", "pad": 1.5},
            )  # fmt: skip
    heat = right.imshow(
        weights, cmap="Blues", vmin=0, vmax=max(weights.max(), 1e-12), aspect="auto"
    )
    right.set_xticks(range(len(words)), words, rotation=40, ha="right", fontsize=11)
    right.set_yticks(range(k), rows, fontsize=10)
    for tick, colour in zip(right.get_yticklabels(), colours):
        if colour != "black":
            tick.set_bbox({"facecolor": colour, "edgecolor": "none", "pad": 1.5})
    right.tick_params(length=0)
    right.set_xticks(np.arange(len(words) + 1) - 0.5, minor=True)
    right.set_yticks(np.arange(k + 1) - 0.5, minor=True)
    right.grid(which="minor", color="white", linewidth=2)
    right.tick_params(which="minor", length=0)
    right.spines[:].set_visible(False)
    bar = part.colorbar(heat, ax=right, fraction=0.03, pad=0.01)
    bar.set_label("weight", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    return [left, right]
