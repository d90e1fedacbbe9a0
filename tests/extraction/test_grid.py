"""GridFeatures against scikit-image's HOG and a plain loop; their invariances."""

import colorsys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from crossfit.extraction import GridFeatures


def noise(n, height=24, width=24, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, height, width, 3), dtype=np.uint8)


def ycbcr(image):
    return np.asarray(Image.fromarray(image).convert("YCbCr")).astype(float)


@pytest.mark.parametrize(("grid", "orientations"), [(6, 9), (3, 4), (1, 7)])
def test_gradients_are_scikit_images_hog(grid, orientations):
    skimage = pytest.importorskip("skimage.feature")
    images = noise(3)
    images[1] = np.linspace(0, 255, 24, dtype=np.uint8)[None, :, None]  # a ramp
    images[2] = 90  # flat
    got = GridFeatures(grid, orientations, size=24, output="regions", cache=False).transform(images)
    for image, regions in zip(images, got):
        expected = skimage.hog(
            ycbcr(image)[..., 0],
            orientations,
            (24 // grid, 24 // grid),
            (grid, grid),
            "L2-Hys",
            feature_vector=False,
        )[0, 0]
        np.testing.assert_allclose(
            regions[:, :orientations] / grid, expected.reshape(grid**2, -1), atol=1e-6
        )


def test_colour_parts_are_those_of_a_plain_loop():
    image = noise(1)[0]
    got = GridFeatures(3, 9, 5, 24, "regions", cache=False).transform([image])[0]
    planes = ycbcr(image)
    for row in range(3):
        for column in range(3):
            cell = planes[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
            hues = np.zeros(5)
            for _, cb, cr in cell.reshape(-1, 3):
                turn = np.arctan2(cr - 128, cb - 128) % (2 * np.pi)
                hues[int(turn / (2 * np.pi) * 5)] += np.hypot(cb - 128, cr - 128)
            expected = [*hues / (128 * 64), *cell.mean((0, 1)) / 255, *cell.std((0, 1)) / 255]
            np.testing.assert_allclose(got[3 * row + column, 9:], expected, rtol=1e-5, atol=1e-6)


def test_hues_tell_colours_apart_and_ignore_grey():
    colours = [tuple(int(255 * v) for v in colorsys.hsv_to_rgb(h / 8, 1, 1)) for h in range(8)]
    images = np.array([np.full((12, 12, 3), colour, np.uint8) for colour in colours])
    hues = GridFeatures(1, 9, 8, 12, cache=False).transform(images)[:, 9:17]
    assert ((hues > 0).sum(1) == 1).all()
    assert len(set(hues.argmax(1).tolist())) >= 6
    grey = np.repeat(noise(1, 12, 12)[..., :1], 3, axis=3)
    assert not GridFeatures(1, 9, 8, 12, cache=False).transform(grey)[:, 9:17].any()


def test_outputs_and_shapes():
    images = noise(4)
    make = {o: GridFeatures(4, 9, 8, 24, o, cache=False) for o in ("flat", "pooled", "regions")}
    out = {name: extractor.fit_transform(images) for name, extractor in make.items()}
    assert out["regions"].shape == (4, 16, 23)
    np.testing.assert_array_equal(out["flat"], out["regions"].reshape(4, -1))
    np.testing.assert_allclose(out["pooled"], out["regions"].mean(1), rtol=1e-5, atol=1e-7)
    for name, array in out.items():
        assert array.dtype == np.float32
        assert np.isfinite(array).all()
        assert make[name].n_features_out_ == array.shape[-1]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=6),
    st.integers(1, 7),
    st.randoms(use_true_random=False),
)
def test_any_sizes_any_batches_any_order(shapes, batch_size, random):
    images = [noise(1, h, w, seed=h * 41 + w)[0] for h, w in shapes]
    alone = np.concatenate(
        [GridFeatures(2, size=12, cache=False).transform([image]) for image in images]
    )
    order = list(range(len(images)))
    random.shuffle(order)
    together = GridFeatures(2, size=12, batch_size=batch_size, cache=False).transform(
        [images[i] for i in order]
    )
    np.testing.assert_array_equal(together, alone[order])


def test_moving_a_cell_moves_its_features():
    image = noise(1)[0]
    for edge in (0, 1, 6, 7):  # so that no gradient crosses the edge of a cell
        image[edge::8] = image[:, edge::8] = 128
    rolled = np.roll(image, 8, axis=1)
    a, b = GridFeatures(3, size=24, output="regions", cache=False).transform([image, rolled])
    np.testing.assert_allclose(np.roll(a.reshape(3, 3, -1), 1, axis=1).reshape(9, -1), b, atol=1e-6)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"grid": 0}, "'grid' parameter of GridFeatures must be an int"),
        ({"orientations": 1.5}, "'orientations' parameter"),
        ({"output": "mean"}, "'output' parameter of GridFeatures must be a str among"),
        ({"size": 100}, "size must be a multiple of grid, got size=100 and grid=6"),
    ],
)
def test_wrong_parameters_are_named(params, message):
    with pytest.raises(ValueError, match=message):
        GridFeatures(**params).fit(noise(1))
    with pytest.raises(ValueError, match=message):
        GridFeatures(**params).transform(noise(1))
