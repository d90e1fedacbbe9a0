"""Pictures and sounds that strangers send, decoded within limits."""

from __future__ import annotations

import io
from typing import Any

from crossfit.serving.errors import Refused
from crossfit.serving.limits import Limits

__all__ = ["PICTURES", "SOUNDS", "decode"]

PICTURES = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
"""The formats of pictures that are decoded, by Pillow's names."""

SOUNDS = ("WAV", "FLAC", "OGG", "MP3", "AIFF")
"""The formats of sounds that are decoded, by libsndfile's names."""

# A stereo sound of a minute at 192,000 samples per second has 23 million.
_SAMPLES = 2**25


def decode(data: bytes, accepts: tuple[str, ...], limits: Limits) -> tuple[str, Any]:
    """Return the kind of a file, and its pixels or its samples with their rate.

    Parameters
    ----------
    data : bytes
        The content of the file; its name and its declared type do not matter.
    accepts : tuple of str
        The kinds that the model can search with: "picture", "sound".
    limits : Limits
        Pixels of a picture and duration of a sound.

    Raises
    ------
    Refused
        With 415 if it is neither a picture nor a sound of a known format or the model does not
        take its kind, with 413 if it is too large, and with 422 if it is damaged.
    """
    if not data:
        raise Refused(422, "the file is empty")
    if _is_picture(data):
        if "picture" not in accepts:
            raise Refused(415, f"the model does not take pictures; it takes {_listed(accepts)}")
        return "picture", _pixels(data, limits.picture_pixels)
    if "sound" in accepts:
        return "sound", _samples(data, limits.sound_seconds)
    formats = ", ".join(PICTURES)
    raise Refused(
        415,
        f"the file is not a picture in one of the formats {formats}; the model takes "
        f"{_listed(accepts)}",
    )


def _listed(accepts: tuple[str, ...]) -> str:
    return " and ".join(f"{kind}s" for kind in accepts) or "vectors only"


def _is_picture(data: bytes) -> bool:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=PICTURES):
            return True
    except Image.DecompressionBombError:
        return True  # reported with the limit
    except Exception:  # damaged files cause errors of many classes
        return _begins_like_a_picture(data)


def _begins_like_a_picture(data: bytes) -> bool:
    heads = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM")
    return data.startswith(heads) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")


def _pixels(data: bytes, most: int) -> Any:
    import warnings

    from PIL import Image

    from crossfit.extraction import load_rgb

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            with Image.open(io.BytesIO(data), formats=PICTURES) as image:
                width, height = image.size
        except Image.DecompressionBombError:
            width = height = most
            width += 1
        except Exception:
            width = height = 0
        # `load_rgb` would decode a large JPEG file at a smaller size, from as large a buffer.
        if width * height > most:
            raise Refused(413, f"the picture has more than {most:,} pixels; make it smaller")
        try:
            return load_rgb(data, most)
        except ValueError as error:
            raise Refused(422, f"the picture cannot be decoded: {_reason(error)}") from error


def _samples(data: bytes, seconds: float) -> tuple[Any, int]:
    try:
        import soundfile
    except ImportError:
        raise Refused(
            415, "this service cannot decode sounds: soundfile is not installed"
        ) from None
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if file.format not in SOUNDS:
                raise Refused(
                    415,
                    f"the sound is in the format {file.format}, which is not one of "
                    f"{', '.join(SOUNDS)}",
                )
            if file.frames > seconds * file.samplerate or file.frames * file.channels > _SAMPLES:
                raise Refused(413, f"the sound is longer than {seconds:g} seconds; cut it")
            samples = file.read(max(file.frames, 0), dtype="float32", always_2d=True)
            rate = int(file.samplerate)
    except (soundfile.LibsndfileError, RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise Refused(
            415,
            f"the file is neither a picture ({', '.join(PICTURES)}) nor a sound "
            f"({', '.join(SOUNDS)}) that can be decoded",
        ) from error
    if not samples.size:
        raise Refused(422, "the sound has no samples")
    return samples.mean(axis=1), rate


def _reason(error: Exception) -> str:
    return str(error).removeprefix("cannot read the image given: ")
