"""load_rgb against pictures whose pixels are known."""

import io
import os
import struct
import subprocess
import sys
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from crossfit.extraction import GridFeatures, load_rgb
from crossfit.extraction.images import PICTURE_FORMATS, PICTURE_SUFFIXES, _formats

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def corners(array):
    return [tuple(int(v) for v in array[i, j]) for i, j in ((0, 0), (0, -1), (-1, 0), (-1, -1))]


def colour_card():
    """Return a 4 x 6 picture with red, green, blue and white corners."""
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[:2, :3], pixels[:2, 3:], pixels[2:, :3], pixels[2:, 3:] = RED, GREEN, BLUE, WHITE
    return pixels


# How the stored picture of each orientation must be turned, with NumPy and not Pillow.
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
    if suffix == "jpg":  # Pillow opens it and raises when the pixels are read
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
    with pytest.raises(ValueError, match=r"notes\.jpg': it is not in a supported image format"):
        load_rgb(text)
    with pytest.raises(ValueError, match=r"cannot read the image .* not a regular file"):
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
    """Only common raster formats are read, and none for which another program is started."""
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
        with pytest.raises(
            ValueError, match=rf"x\.{suffix}': it is not in a supported image format"
        ):
            load_rgb(path)


def test_naming_the_formats_is_light():
    code = "import sys, crossfit.extraction.formats; print({'PIL', 'sklearn'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


def grey_of(pixels):
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0]


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16, 17, 20, 24, 31])
@pytest.mark.parametrize("kind", ["png", "tiff", "I", "I;16"])
def test_grey_values_of_many_bits_keep_the_upper_eight(tmp_path, bits, kind):
    """White is white and mid-grey is mid-grey, whatever the number of bits of the file."""
    values = np.arange(256, dtype=np.int64).reshape(8, 32) << (bits - 8)
    values[-1, -1] = 2**bits - 1
    if bits > 16 and kind != "I":
        pytest.skip("sixteen bits at most")
    wide = values.astype(np.int32 if kind == "I" else np.uint16)
    image = Image.fromarray(wide)
    assert image.mode == ("I" if kind == "I" else "I;16")
    if kind in ("I", "I;16"):
        got = load_rgb(image)
    else:
        image.save(tmp_path / f"x.{kind}")
        with Image.open(tmp_path / f"x.{kind}") as again:
            assert again.mode in ("I", "I;16")
        got = load_rgb(tmp_path / f"x.{kind}")
    np.testing.assert_array_equal(grey_of(got), values >> (bits - 8))
    assert grey_of(got)[-1, -1] == 255
    np.testing.assert_array_equal(grey_of(got).ravel()[:255], np.arange(255))


def test_a_wide_grey_picture_is_scikit_images(tmp_path):
    from skimage import io as skimage_io
    from skimage.util import img_as_ubyte

    deep = np.random.default_rng(0).integers(0, 2**16, (9, 7), dtype=np.uint16)
    deep[0, 0] = 2**16 - 1
    Image.fromarray(deep).save(tmp_path / "x.png")
    expected = img_as_ubyte(skimage_io.imread(tmp_path / "x.png"))
    assert np.abs(grey_of(load_rgb(tmp_path / "x.png")).astype(int) - expected).max() <= 1


def test_a_black_picture_is_black():
    for wide in (np.int32, np.uint16):
        assert not load_rgb(Image.fromarray(np.zeros((3, 3), wide))).any()


def test_a_transparent_grey_of_sixteen_bits(tmp_path):
    deep = np.array([[0, 40000, 65535]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "x.png", transparency=0)
    with Image.open(tmp_path / "x.png") as image:
        image.info["transparency"] = 0
        assert load_rgb(image)[..., 0].tolist() == [[255, 40000 >> 8, 255]]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX",
                                  "CMYK", "YCbCr", "HSV"])  # fmt: skip
def test_every_mode_against_its_colours(mode):
    """Convert from RGB to the mode and back, and compare with NumPy."""
    colours = np.array([[RED, GREEN], [BLUE, WHITE]], np.uint8)
    grey = mode in ("1", "L", "LA", "La")
    if grey:
        colours = np.repeat(np.array([[0, 255], [255, 0]], np.uint8)[..., None], 3, 2)
    image = Image.fromarray(colours)
    for step in {"La": ["LA", "La"], "RGBa": ["RGBA", "RGBa"], "PA": ["P", "PA"]}.get(mode, [mode]):
        image = image.convert(step)
    assert image.mode == mode
    assert np.abs(load_rgb(image).astype(int) - colours).max() <= 3


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (Image.new("I", (2, 2), -5), "negative pixels, whose range is unknown"),
        (Image.new("F", (2, 2), 0.5), "floating-point pixels, whose range is unknown"),
    ],
)
def test_pixels_without_a_known_range_are_refused(image, message):
    with pytest.raises(ValueError, match=message):
        load_rgb(image)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32, np.float64, bool])
def test_arrays_are_of_bytes(dtype):
    message = f"pixels must be uint8, got an array of {np.dtype(dtype)}: scale them to 0 ... 255"
    with pytest.raises(ValueError, match=message):
        load_rgb(np.zeros((4, 4, 3), dtype))


def png(*chunks, header=(6, 4, 8, 2), rows=None):
    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    width, height, depth, colour = header
    if rows is None:
        rows = b"".join(b"\0" + row.tobytes() for row in colour_card())
    start = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    parts = [chunk(*part) for part in chunks]
    data = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + start + b"".join(parts) + data + chunk(b"IEND", b"")


def test_dark_colours_of_sixteen_bits_are_refused(tmp_path):
    for top, good in ((4095, False), (65535, True), (0, True)):
        wide = np.full((4, 6, 3), top, ">u2")
        rows = b"".join(b"\0" + row.tobytes() for row in wide)
        (tmp_path / "x.png").write_bytes(png(header=(6, 4, 16, 2), rows=rows))
        if good:
            assert (load_rgb(tmp_path / "x.png") == top >> 8).all()
        else:
            with pytest.raises(ValueError, match=r"x\.png' has sixteen bits a channel and uses"):
                load_rgb(tmp_path / "x.png")


@pytest.mark.parametrize(
    "chunk",
    [
        (b"zTXt", b"a\0\0" + zlib.compress(b"x" * 3_000_000)),
        (b"iTXt", b"a\0\1\0\0\0" + zlib.compress(b"x" * 3_000_000)),
        (b"tEXt", b"a\0" + b"x" * 65_000_000),
        (b"iCCP", b"a\0\0" + zlib.compress(b"x" * 3_000_000)),
        (b"eXIf", b"no EXIF"),
    ],
)
def test_what_a_png_says_beside_its_pixels_does_not_count(tmp_path, chunk):
    (tmp_path / "x.png").write_bytes(png(chunk))
    np.testing.assert_array_equal(load_rgb(tmp_path / "x.png"), colour_card())
    # But valid EXIF data is used.
    turned = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x03\0\0\0\0\0\0"
    if chunk[0] != b"eXIf":
        (tmp_path / "x.png").write_bytes(png(chunk, (b"eXIf", turned)))
        np.testing.assert_array_equal(load_rgb(tmp_path / "x.png"), UPRIGHT[3](colour_card()))


# Type, count and value of EXIF's orientation, as TIFF writes them.
ODD_EXIF = {
    "text": (2, 4, b"six\0"),
    "a fraction without denominator": (5, 1, b"\xff\xff\xff\xff"),
    "two billion of them": (3, 2**31, b"\1\0\0\0"),
    "of no type": (0, 1, b"\1\0\0\0"),
    "of an unknown type": (99, 1, b"\1\0\0\0"),
    "not a number": (11, 1, struct.pack("<f", float("nan"))),
    "two numbers": (3, 2, b"\1\0\1\0"),
}


@pytest.mark.parametrize("tag", [0x0112, 0x8769, 0x8825, 0x011A])
@pytest.mark.parametrize("entry", ODD_EXIF)
@pytest.mark.parametrize("suffix", ["jpeg", "png", "webp"])
def test_odd_exif_leaves_the_pixels(tmp_path, suffix, entry, tag):
    kind, count, value = ODD_EXIF[entry]
    exif = b"Exif\0\0II*\0" + struct.pack("<IHHHI", 8, 1, tag, kind, count) + value + b"\0" * 4
    path = tmp_path / f"odd.{suffix}"
    Image.fromarray(colour_card()).save(path, exif=exif, lossless=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = np.asarray(Image.open(path).convert("RGB"))
    for action in ("ignore", "error"):
        with warnings.catch_warnings():
            warnings.simplefilter(action)
            np.testing.assert_array_equal(load_rgb(path), expected)


@pytest.mark.parametrize("suffix", ["jpeg", "png", "webp", "tiff", "gif", "bmp", "jp2", "ppm"])
def test_damaged_heads_are_read_or_named(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "camera"
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(colour_card()).save(path, exif=exif)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(80):
        data = bytearray(whole)
        for at in rng.integers(0, min(len(data), 250), rng.integers(1, 4)):
            data[at] = rng.choice([0, 255, rng.integers(256)])
        path.write_bytes(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                assert load_rgb(path, 10_000).dtype == np.uint8
            except ValueError as error:
                assert f"x.{suffix}'" in str(error)


def test_a_fifo_and_a_device_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", "/dev/zero"):
        with pytest.raises(ValueError, match=r"(pipe\.png|zero)': it is not a regular file"):
            load_rgb(path)
        with pytest.raises(ValueError, match=r"(pipe\.png|zero)': it is not a regular file"):
            GridFeatures().transform([path])
    (tmp_path / "link.png").symlink_to(tmp_path / "real.png")
    with pytest.raises(FileNotFoundError, match="there is no image file"):
        load_rgb(tmp_path / "link.png")
    Image.fromarray(colour_card()).save(tmp_path / "real.png")
    np.testing.assert_array_equal(load_rgb(tmp_path / "link.png"), colour_card())
    for name in ("a\0.png", "x" * 5000, "\ud800.png", ""):
        with pytest.raises(FileNotFoundError, match="there is no image file"):
            load_rgb(name)


@pytest.mark.parametrize(("limit", "side"), [(64 * 48, 48), (64 * 48 - 1, 24), (200, 12), (48, 6)])
@pytest.mark.parametrize("suffix", ["jpeg", "jp2"])
def test_large_jpegs_are_decoded_smaller(tmp_path, suffix, limit, side):
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    picture = np.kron(coarse, np.ones((8, 8, 1), np.uint8))
    options = {"quality": 100, "subsampling": 0} if suffix == "jpeg" else {"num_resolutions": 6}
    Image.fromarray(picture).save(tmp_path / f"x.{suffix}", **options)
    got = load_rgb(tmp_path / f"x.{suffix}", limit)
    assert got.shape == (side, side * 4 // 3, 3)
    if suffix == "jpeg":
        block = side // 6
        np.testing.assert_allclose(got[block // 2 :: block, block // 2 :: block], coarse, atol=40)
    with pytest.raises(ValueError, match="has 64 x 48 pixels, more than max_pixels=47; make it"):
        load_rgb(tmp_path / f"x.{suffix}", 47)


def test_large_pictures_are_refused_before_they_are_decoded(tmp_path):
    """Write a file of 100 kB whose pixels would take a gigabyte."""
    path = tmp_path / "x.png"
    Image.new("1", (9400, 9400)).save(path)
    assert path.stat().st_size < 250_000
    message = r"x\.png' has 9400 x 9400 pixels, more than max_pixels=50000000; make it smaller"
    tracemalloc.start()
    with pytest.raises(ValueError, match=message):
        load_rgb(path)
    with Image.open(path) as image, pytest.raises(ValueError, match=message):
        load_rgb(image)
    with pytest.raises(ValueError, match=message):
        GridFeatures(cache=False).transform([path])
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()
    small = tmp_path / "small.png"
    Image.fromarray(colour_card()).save(small)
    with pytest.raises(ValueError, match="has 6 x 4 pixels, more than max_pixels=23"):
        GridFeatures(max_pixels=23).transform([small])
    np.testing.assert_array_equal(load_rgb(small, None), colour_card())
    assert load_rgb(np.zeros((4, 6, 3), np.uint8), 1).shape == (4, 6, 3)  # already decoded
    for wrong in (0, -1, 1.5, True, "many"):
        with pytest.raises(ValueError, match="'max_pixels' parameter of load_rgb must be"):
            load_rgb(small, wrong)
