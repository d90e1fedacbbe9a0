"""Pictures and sounds of strangers, decoded within limits."""

import io
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from crossfit.extraction import load_audio, load_rgb
from crossfit.serving import Limits
from crossfit.serving.errors import Refused
from crossfit.serving.uploads import PICTURES, decode

LIMITS = Limits(picture_pixels=10_000, sound_seconds=2.0)
BOTH = ("picture", "sound")


def picture(kind, size=(40, 30), **options):
    noise = np.random.default_rng(0).integers(0, 256, size=(size[1], size[0], 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, kind, **options)
    return stream.getvalue()


def sound(seconds=1.0, rate=8_000, channels=1, kind="WAV", **options):
    soundfile = pytest.importorskip("soundfile", reason="soundfile is of the extra audio")
    wave = np.sin(np.arange(int(seconds * rate)) / 9)[:, None].repeat(channels, axis=1)
    stream = io.BytesIO()
    soundfile.write(stream, wave, rate, format=kind, **options)
    return stream.getvalue()


def refused(status, data, accepts=BOTH):
    with pytest.raises(Refused) as caught:
        decode(data, accepts, LIMITS)
    assert caught.value.status == status, caught.value.sentence
    assert "\n" not in caught.value.sentence
    return caught.value.sentence


@pytest.mark.parametrize("kind", PICTURES)
def test_pictures_are_decoded_as_load_rgb_does(kind, tmp_path):
    data = picture(kind)
    path = tmp_path / "picture"
    path.write_bytes(data)
    found, pixels = decode(data, BOTH, LIMITS)
    assert found == "picture"
    np.testing.assert_array_equal(pixels, load_rgb(path))


@pytest.mark.parametrize("kind", PICTURES)
def test_large_and_damaged_pictures(kind):
    assert "10,000 pixels" in refused(413, picture(kind, (101, 100)))
    refused(422, picture(kind)[:60])


def test_other_formats_of_pictures_are_not_opened():
    for kind in ("TIFF", "PPM", "TGA", "PCX", "ICO", "EPS", "PDF"):
        refused(415, picture(kind))
    refused(415, b"<svg xmlns='http://www.w3.org/2000/svg'/>")


def test_a_model_takes_only_its_kinds():
    assert "sounds" in refused(415, picture("PNG"), ("text", "sound"))
    assert "pictures" in refused(415, sound(), ("text", "picture"))
    refused(422, b"")


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3", "AIFF"])
def test_sounds_are_decoded_as_load_audio_does(kind, tmp_path):
    data = sound(kind=kind, channels=2)
    path = tmp_path / "sound"
    path.write_bytes(data)
    found, (samples, rate) = decode(data, BOTH, LIMITS)
    assert (found, rate) == ("sound", 8_000)
    np.testing.assert_allclose(samples, load_audio(path, 8_000), atol=1e-6)


def test_long_and_damaged_sounds():
    assert "2 seconds" in refused(413, sound(2.1))
    long = sound(3_600, kind="FLAC")
    tracemalloc.start()
    refused(413, long)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    refused(422, sound(0.0))
    whole = sound()
    rng = np.random.default_rng(0)
    for _ in range(200):  # a right answer, or a refusal
        data = bytearray(whole)
        for at in rng.integers(len(data), size=5):
            data[at] = rng.integers(256)
        try:
            kind, (samples, _) = decode(bytes(data[: rng.integers(1, len(data))]), BOTH, LIMITS)
        except Refused as error:
            assert error.status in (413, 415, 422)
        else:
            assert kind == "sound"
            assert len(samples) <= 2**25
