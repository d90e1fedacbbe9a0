"""The formats of pictures and sounds that crossfit opens."""

from __future__ import annotations

__all__ = ["PICTURE_FORMATS", "PICTURE_SUFFIXES", "SOUND_SUFFIXES"]

# Pillow opens forty more. Some of them start other programs (PostScript requires Ghostscript), some
# cannot be recognised by their content, and none is common for photographs.
PICTURE_FORMATS: dict[str, tuple[str, ...]] = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "DIB": (".dib",),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif", ".avifs"),
    "JPEG2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
"""Suffixes of the files of each format, by Pillow's name of the format."""

PICTURE_SUFFIXES = tuple(suffix for part in PICTURE_FORMATS.values() for suffix in part)
"""The suffixes of all these formats, in lower case."""

SOUND_SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au")
"""The suffixes of sounds that libsndfile reads, in lower case."""
