"""Pictures of attention: what is drawn, and which input is rejected."""

import io
import subprocess
import sys
from itertools import pairwise
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest

from crossfit.plotting import plot_attention

WORDS = ["a", "dog", "runs"]


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def _heats(figure):
    """Return the heat map of every panel, its second picture, in data units."""
    found = [axes.images[1].get_array() for axes in figure.subfigs[0].axes if len(axes.images) > 1]
    return [np.asarray(heat) for heat in found]


def test_heat_lies_where_the_weight_is(picture):
    weights = np.full((3, 16), 0.5 / 15)
    for row, cell in zip(weights, (0, 7, 14)):
        row[cell] = 0.5
    figure = plot_attention(picture, WORDS, word_to_region=weights)
    heats = _heats(figure)
    assert [axes.get_title() for axes in figure.subfigs[0].axes[:4]] == ["image", *WORDS]
    for heat, (row, column) in zip(heats, ((0, 0), (1, 3), (3, 2)), strict=True):
        y, x = np.unravel_index(heat.argmax(), heat.shape)
        assert heat.shape == (48, 64) and (y // 12, x // 16) == (row, column)
        assert heat.max() > 4  # of the uniform weight, 1
    wide = plot_attention(picture, WORDS, word_to_region=weights, grid=(2, 8))
    y, x = np.unravel_index(_heats(wide)[1].argmax(), (48, 64))
    assert (y // 24, x // 8) == (0, 7)


def test_all_words_share_one_scale(picture):
    weights = np.array([[0.7, 0.1, 0.1, 0.1], [0.25] * 4, [0.4, 0.2, 0.2, 0.2]])
    figure = plot_attention(picture, WORDS, word_to_region=weights)
    limits = {axes.images[1].get_clim() for axes in figure.subfigs[0].axes if len(axes.images) > 1}
    (limit,) = limits
    assert limit == pytest.approx((0.4, 2.8))
    (flat,) = _heats(plot_attention(picture, word_to_region=[0.25] * 4))
    np.testing.assert_allclose(flat, 1)


def test_regions_may_be_boxes(picture):
    boxes = [[0, 0, 1, 1], [0.5, 0.5, 1, 1]]
    (heat,) = _heats(plot_attention(picture, word_to_region=[0.2, 0.8], region_boxes=boxes))
    assert heat[30, 40] == pytest.approx(1.6) and heat[10, 10] == pytest.approx(0.4)


def test_objects_have_rows_of_words_and_boxes(picture):
    weights = np.arange(20).reshape(4, 5) / 100  # two columns of padding
    boxes = np.tile([0.1, 0.2, 0.5, 0.9], (4, 1))
    figure = plot_attention(
        picture, WORDS, object_to_word=weights, boxes=boxes, labels=["dog", "cat", "ox", "hen"]
    )
    left, right, _ = figure.subfigs[0].axes
    np.testing.assert_allclose(right.images[0].get_array(), weights[:3, :3])
    assert [tick.get_text() for tick in right.get_xticklabels()] == WORDS
    assert [tick.get_text() for tick in right.get_yticklabels()] == ["1 dog", "2 cat", "3 ox"]
    corners = {(patch.get_x(), patch.get_y(), patch.get_width()) for patch in left.patches}
    assert len(left.patches) == 6
    ((x, y, width),) = corners
    np.testing.assert_allclose((x, y, width), (6.4, 9.6, 25.6))


def test_both_parts_and_one_row_of_each(picture, tmp_path):
    from PIL import Image

    file = tmp_path / "picture.png"
    Image.fromarray(picture).save(file)
    figure = plot_attention(
        file, WORDS, word_to_region=np.full(36, 1 / 36), object_to_word=[0.2, 0.5, 0.3]
    )
    assert len(figure.subfigs) == 2
    assert [tick.get_text() for tick in figure.subfigs[1].axes[1].get_yticklabels()] == ["text"]
    figure.savefig(tmp_path / "attention.png", dpi=40)
    drawn = np.asarray(Image.open(tmp_path / "attention.png").convert("RGB"))
    assert drawn.std() > 20


@pytest.mark.parametrize("n", [0, 1, 3, 6, 10])
@pytest.mark.parametrize("with_objects", [False, True])
def test_panels_are_next_to_each_other_and_the_scale_is_not_cut(picture, n, with_objects):
    words = [f"word{i}" for i in range(max(n, 2))]
    weights = np.full((n, 9) if n else 9, 1 / 9)
    more = {"object_to_word": np.full(len(words), 0.5)} if with_objects else {}
    figure = plot_attention(picture, words[:n] or words, word_to_region=weights, **more)
    figure.draw_without_rendering()
    *panels, scale = figure.subfigs[0].axes
    assert len(panels) == max(n, 1) + 1
    boxes = [panel.get_window_extent() for panel in panels]
    for one, other in pairwise(boxes):
        if other.y0 == pytest.approx(one.y0):
            assert 0 <= other.x0 - one.x1 < 0.25 * one.width
    whole = figure.bbox
    label = scale.yaxis.label.get_window_extent()
    assert label.y0 >= 0 and label.y1 <= whole.y1 and label.x1 <= whole.x1
    assert with_objects or whole.x1 - label.x1 < boxes[0].width


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "needs word_to_region or object_to_word"),
        ({"word_to_region": np.ones((2, 4))}, "has 2 rows, so there must be as many words, got 3"),
        ({"word_to_region": np.ones((3, 5))}, "5 regions do not form a grid of 2 x 2"),
        (
            {"word_to_region": np.ones((3, 4)), "grid": (3, 2)},
            "4 regions do not form a grid of 3 x 2",
        ),
        ({"word_to_region": np.full((3, 4), np.nan)}, "word_to_region must be finite"),
        ({"object_to_word": np.ones((1, 2))}, "has 2 columns"),
        ({"object_to_word": np.ones((2, 3)), "boxes": np.ones((1, 4))}, "boxes must be of shape"),
        ({"object_to_word": np.ones((2, 3)), "labels": ["dog"]}, "labels must name 2 objects"),
    ],
)
def test_what_does_not_go_together_is_refused(picture, given, words):
    with pytest.raises(ValueError, match=words):
        plot_attention(picture, WORDS, **given)


def test_importing_it_imports_no_matplotlib():
    code = (
        "import sys, crossfit.plotting; print('matplotlib' in sys.modules, 'torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("word", ["$$", r"$\frac{1}{0}$", "costs $5 or $6", r"a \$ b", "a\u202eb"])
def test_words_and_labels_are_drawn_as_they_are_written(word):
    picture = np.zeros((20, 20, 3), np.uint8)
    figure = plot_attention(
        picture, [word, "x"], word_to_region=np.full((2, 4), 0.25),
        object_to_word=np.full((1, 2), 0.5), labels=[word],
    )  # fmt: skip
    figure.savefig(io.BytesIO(), format="svg")
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg")
    root = ElementTree.fromstring(buffer.getvalue())
    texts = ["".join(t.itertext()) for t in root.iter() if t.tag.endswith("text")]
    assert sum(text == word.replace("\u202e", "") for text in texts) == 3
