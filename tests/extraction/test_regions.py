"""Regions: the one format, and boxes on pictures."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from crossfit.extraction import (
    GridFeatures,
    MeanRegions,
    draw_boxes,
    grid_boxes,
    make_regions,
)
from crossfit.views import Ragged, Views


def pictures(n=2, height=48, width=72, seed=0):
    coarse = np.random.default_rng(seed).integers(0, 256, (n, 6, 8, 3), dtype=np.uint8)
    return [np.asarray(Image.fromarray(c).resize((width, height))) for c in coarse]


# -- the format ------------------------------------------------------------------------------------


def test_grid_boxes_cut_the_picture_as_a_grid_does():
    """Cut a picture whose cells have different colours by the boxes of the grid."""
    boxes = grid_boxes(2, 3)
    colours = np.arange(6).reshape(2, 3)
    picture = colours.repeat(10, 0).repeat(20, 1)
    for cell, (left, top, right, bottom) in enumerate(boxes):
        part = picture[round(top * 20) : round(bottom * 20), round(left * 60) : round(right * 60)]
        assert part.shape == (10, 20)
        assert (part == cell).all()


def test_regions_of_a_grid():
    vectors = GridFeatures(4, size=16, output="regions", cache=False).fit_transform(pictures())
    found = make_regions(vectors)
    assert isinstance(found, Ragged)
    assert found.lengths.tolist() == [16, 16]
    np.testing.assert_array_equal(found[1], vectors[1])
    np.testing.assert_array_equal(found.info["boxes"][16:], grid_boxes(4, 4))
    assert (found.info["scores"] == 1).all()
    assert (found.info["labels"] == -1).all()
    assert [found.info[k].dtype for k in ("boxes", "scores", "labels")] == [
        np.float32,
        np.float32,
        np.int64,
    ]


def test_means_of_regions_are_those_of_numpy_in_every_form():
    vectors = GridFeatures(4, size=16, output="regions", cache=False).fit_transform(pictures())
    expected = vectors.mean(axis=1)
    for form in (vectors, list(vectors), Ragged.from_list(list(vectors)), make_regions(vectors)):
        found = MeanRegions().fit_transform(form)
        assert found.dtype == vectors.dtype
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    uneven = Ragged.from_list([vectors[0], vectors[1, :3]])
    np.testing.assert_allclose(MeanRegions().transform(uneven)[1], vectors[1, :3].mean(0))


def test_means_need_finite_regions_and_one_in_every_row():
    row = np.ones((2, 3))
    with pytest.raises(
        ValueError, match=r"at least one region per row, got none in 1 of 2 rows \(1\)"
    ):
        MeanRegions().transform(Ragged.from_list([row, row[:0]]))
    with pytest.raises(ValueError, match="finite"):
        MeanRegions().transform([row, row * np.nan])
    with pytest.raises(TypeError, match="MeanRegions expects a Ragged of vectors"):
        MeanRegions().transform(row)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(0, 2**16), st.data())
def test_boxes_follow_their_rows(counts, seed, data):
    rng = np.random.default_rng(seed)
    vectors = [rng.normal(size=(k, 3)) for k in counts]
    boxes = [np.sort(rng.random((k, 2, 2)), axis=1).reshape(k, 4) for k in counts]
    scores, labels = [rng.random(k) for k in counts], [rng.integers(0, 9, k) for k in counts]
    found = make_regions(vectors, boxes, scores, labels, ["name"] * 9)
    rows = data.draw(st.lists(st.integers(0, len(counts) - 1), min_size=1, max_size=8))
    taken = found[rows]
    for name, parts in (("boxes", boxes), ("scores", scores), ("labels", labels)):
        expected = np.concatenate([parts[row] for row in rows]).astype(found.info[name].dtype)
        np.testing.assert_array_equal(taken.info[name], expected)
    assert taken.info["label_names"] == ("name",) * 9
    assert Views(image=found, text=["t"] * len(counts))[rows]["image"].info["boxes"].shape == (
        taken.lengths.sum(),
        4,
    )


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        (([],), r"every image needs vectors of shape \(R, d\) with R >= 1, got no image"),
        (([np.ones((2, 3)), np.ones((0, 3))],), r"got \(0, 3\)"),
        (([np.ones(3)],), r"got \(3,\)"),
        (([np.ones((5, 3))],), "without boxes the regions must be a square grid, got 5 regions"),
        (([np.ones((1, 3))], [[[0, 0, 1]]]), r"boxes must have a row .* \[\(1, 4\)\], got \[\(1, "),
        (([np.ones((1, 3))], None, [[1, 2]]), r"scores must have a row for each"),
        (([np.ones((1, 3))], [[[0, 0, 1.2, 1]]]), "boxes are left, top, right and bottom as shar"),
        (([np.ones((1, 3))], [[[0.5, 0, 0.2, 1]]]), "between 0 and 1 and in this order"),
        (([np.ones((1, 3))], [[[0, 0, np.nan, 1]]]), "between 0 and 1 and in this order"),
    ],
)
def test_wrong_regions_are_named(given_, message):
    with pytest.raises(ValueError, match=message):
        make_regions(*given_)


# -- Faster R-CNN ----------------------------------------------------------------------------------


def test_a_box_is_drawn_where_it_is():
    image = np.full((100, 200, 3), 255, np.uint8)
    drawn = np.asarray(draw_boxes(image, [[0.25, 0.2, 0.75, 0.8]]))
    changed = (drawn != 255).any(2)
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (20, 80, 50, 150)
    assert not changed[30:70, 60:140].any()
    assert (image == 255).all()


def test_labels_have_their_colour_and_stay_inside():
    image = np.full((100, 200, 3), 255, np.uint8)
    corners = [[0, 0, 0.1, 0.1], [0.95, 0.9, 1, 1]]
    dogs = draw_boxes(image, corners, ["dog", "dog"], [0.5, 0.25])
    assert dogs.size == (200, 100)
    colours = {tuple(c) for c in np.asarray(dogs)[[0, 99], [0, 199]]}
    assert len(colours) == 1
    other = draw_boxes(image, corners, ["dog", "cat"])
    assert len({tuple(c) for c in np.asarray(other)[[0, 99], [0, 199]]}) == 2
    # The label of the box at the right edge is left of it, and is not cut off.
    text = np.asarray(draw_boxes(image, corners[1:], ["traffic light"], [0.5]))
    assert (text[:, 60:190] != 255).any()


def test_drawing_refuses():
    image = np.zeros((9, 9, 3), np.uint8)
    with pytest.raises(ValueError, match="each of 1 boxes, got 2 labels and 1 scores"):
        draw_boxes(image, [[0, 0, 1, 1]], ["a", "b"])
    assert draw_boxes(image, np.empty((0, 4))).size == (9, 9)
