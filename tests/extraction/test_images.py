"""load_rgb against pictures whose pixels are known."""

import io
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from crossfit.extraction import load_rgb
from crossfit.extraction.images import PICTURE_FORMATS, PICTURE_SUFFIXES, _formats

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def corners(array):
    return [tuple(int(v) for v in array[i, j]) for i, j in ((0, 0), (0, -1), (-1, 0), (-1, -1))]


def colour_card():
    """A 4 x 6 picture with red, green, blue and white corners."""
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[:2, :3], pixels[:2, 3:], pixels[2:, :3], pixels[2:, 3:] = RED, GREEN, BLUE, WHITE
    return pixels


# Where each orientation's stored picture must be turned to: computed with NumPy, not with Pillow.
UPRIGHT = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    Image.fromarray(colour_card()).save(path, exif=exif)
    expected = UPRIGHT[orientation](colour_card())
    np.testing.assert_array_equal(load_rgb(path), expected)
    np.testing.assert_array_equal(load_rgb(Image.open(path)), expected)


@settings(deadline=None)
@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 5), st.just(4))))
def test_alpha_lies_over_white(rgba):
    got = load_rgb(rgba).astype(float)
    alpha = rgba[..., 3:] / 255
    np.testing.assert_allclose(got, rgba[..., :3] * alpha + 255 * (1 - alpha), atol=1.01)


def test_grey_with_alpha():
    image = Image.fromarray(np.array([[[0, 255], [0, 0]]], np.uint8))
    assert image.mode == "LA"
    assert load_rgb(image).tolist() == [[[0, 0, 0], [255, 255, 255]]]


def test_palette(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *BLUE])
    image.putpixel((1, 0), 1)
    assert load_rgb(image).tolist() == [[list(RED), list(BLUE)]]
    path = tmp_path / "palette.png"
    image.save(path, transparency=1)
    assert load_rgb(path).tolist() == [[list(RED), list(WHITE)]]


def test_a_transparent_colour(tmp_path):
    path = tmp_path / "key.png"
    Image.fromarray(colour_card()).save(path, transparency=GREEN)
    assert corners(load_rgb(path)) == [RED, WHITE, BLUE, WHITE]


@settings(deadline=None)
@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 4), st.integers(1, 4))))
def test_greyscale(grey):
    expected = np.repeat(grey[..., None], 3, axis=2)
    for form in (grey, grey[..., None], Image.fromarray(grey)):
        np.testing.assert_array_equal(load_rgb(form), expected)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bits_keep_the_upper_eight(tmp_path, suffix):
    deep = np.array([[0, 255, 256], [32768, 65535, 4660]], np.uint16)
    path = tmp_path / f"deep.{suffix}"
    Image.fromarray(deep).save(path)
    np.testing.assert_array_equal(load_rgb(path)[..., 0], deep >> 8)


def test_one_bit_and_cmyk(tmp_path):
    assert load_rgb(Image.new("1", (1, 1), 1)).tolist() == [[[255, 255, 255]]]
    path = tmp_path / "print.jpg"
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(path, quality=100)
    assert np.abs(load_rgb(path).astype(int) - RED).max() <= 2


def test_rgb_arrays_are_not_copied():
    pixels = colour_card()
    assert load_rgb(pixels) is pixels


def test_the_first_frame_of_an_animation(tmp_path):
    path = tmp_path / "moving.gif"
    frames = [Image.new("RGB", (2, 2), colour) for colour in (RED, BLUE)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert corners(load_rgb(path)) == [RED] * 4


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "webp"])
def test_a_truncated_file_is_named(tmp_path, suffix):
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, {"jpg": "jpeg"}.get(suffix, suffix))
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    with pytest.raises(ValueError, match=rf"cannot read the image '.*cut\.{suffix}': "):
        load_rgb(path)
    if suffix == "jpg":  # Pillow opens it and finds out when the pixels are asked for
        with pytest.raises(ValueError, match=r"cannot read the image '.*cut\.jpg': .*truncated"):
            load_rgb(Image.open(path))


def test_a_broken_png_chunk_is_named(tmp_path):
    path = tmp_path / "chunk.png"
    Image.fromarray(colour_card()).save(path)
    data = bytearray(path.read_bytes())
    data[20] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"cannot read the image '.*chunk\.png'"):
        load_rgb(path)


def test_other_wrong_input(tmp_path):
    text = tmp_path / "notes.jpg"
    text.write_text("no picture")
    with pytest.raises(ValueError, match=r"notes\.jpg': it is in no image format"):
        load_rgb(text)
    with pytest.raises(ValueError, match="cannot read the image"):
        load_rgb(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no image file '.*absent\.png'"):
        load_rgb(tmp_path / "absent.png")
    with pytest.raises(ValueError, match="pixels must be uint8, got an array of float64"):
        load_rgb(np.zeros((2, 2, 3)))
    for shape in ((2, 2, 2), (3,), (0, 2, 3), (1, 2, 2, 3)):
        with pytest.raises(ValueError, match=r"pixels must have shape \(H, W\)"):
            load_rgb(np.zeros(shape, np.uint8))
    with pytest.raises(ValueError, match=r"the image .* has floating-point pixels"):
        load_rgb(Image.new("F", (2, 2)))
    with pytest.raises(TypeError, match="a path, a PIL image or a uint8 array, got int"):
        load_rgb(3)


def test_formats_that_are_opened(tmp_path):
    """Common raster formats; nothing that starts another program or is known by its suffix only."""
    for name in _formats():
        suffix = PICTURE_FORMATS[name][0]
        path = tmp_path / f"x{suffix}"
        Image.fromarray(colour_card()).save(path, name)
        assert load_rgb(path).shape == (4, 6, 3)
        assert Image.registered_extensions()[suffix] == name
    assert {".jfif", ".avif", ".jpg", ".png"} <= set(PICTURE_SUFFIXES)
    for suffix in ("eps", "ps", "pcx", "tga", "ico", "sgi"):
        buffer = io.BytesIO()
        kind = {"ps": "eps"}.get(suffix, suffix)
        Image.fromarray(colour_card()).save(buffer, kind)
        path = tmp_path / f"x.{suffix}"
        path.write_bytes(buffer.getvalue())
        with pytest.raises(ValueError, match=rf"x\.{suffix}': it is in no image format"):
            load_rgb(path)


def test_naming_the_formats_is_light():
    code = "import sys, crossfit.extraction.formats; print({'PIL', 'sklearn'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"
