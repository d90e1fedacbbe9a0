"""The picture formats that crossfit opens: common raster formats and no others."""

from __future__ import annotations

__all__ = ["PICTURE_FORMATS", "PICTURE_SUFFIXES"]

# Pillow opens forty more. Some of them start other programs (PostScript needs Ghostscript), some
# have no mark by which they are known, and none is what people keep photographs in.
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
"""Pillow's name of each format that is opened, and the suffixes of its files."""

PICTURE_SUFFIXES = tuple(suffix for part in PICTURE_FORMATS.values() for suffix in part)
"""The suffixes of all these formats, in lower case."""
