"""The files of a bundle: how they are written, and checked before anything is read from them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import struct
from collections.abc import Iterable, Mapping
from io import BufferedReader, BufferedWriter
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from crossfit import registry
from crossfit._files import clear_drafts, draft_of
from crossfit.model_cards import is_model_card
from crossfit.persistence.allowed import ESTIMATORS, BundleError

__all__ = [
    "ARRAY_FILE",
    "CARD",
    "FORMAT",
    "LARGEST_MANIFEST",
    "LARGEST_RECORD",
    "MANIFEST",
    "MOST_BYTES",
    "RECORD",
    "check_directory",
    "checked_manifest",
    "dumped",
    "fields",
    "has_own_page",
    "is_signed",
    "lists_record",
    "matches",
    "may_replace",
    "opened",
    "read_manifest",
    "signed",
    "write_files",
]

FORMAT = 2  # 1 named registered classes by their paths
MANIFEST = "manifest.json"
CARD = "README.md"
RECORD = "record.json"
ARRAY_FILE = re.compile(r"arrays-[0-9a-f]{16}\.npz")
# Limits of a manifest, so that reading one takes at most about a gigabyte and a minute: three
# million words, for example. `save` enforces the same limits.
LARGEST_MANIFEST = 2**27
LARGEST_RECORD = 2**24
MOST_BYTES = 2**33  # of the arrays, unless more are allowed
_VALUES = 2**23
_CONTAINERS = 2**20
# Size of the directory of the array file: enough for about 100,000 arrays.
_DIRECTORY_BYTES = 2**23


def is_signed(manifest: Path) -> bool:
    """Return True if a file is a manifest with its own hash."""
    try:
        checked_manifest(read_manifest(manifest))
    except BundleError:
        return False
    return True


def matches(path: Path, listed: Any) -> bool:
    """Return True if a file has the size and hash of its entry in a manifest."""
    if not isinstance(listed, dict) or path.stat().st_size != listed.get("size"):
        return False
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == listed.get("sha256")


def opened(path: Path, what: str) -> BufferedReader:
    """Open a regular file; reject links, pipes and devices."""
    try:
        regular = stat.S_ISREG(os.lstat(path).st_mode)
    except OSError as error:
        raise BundleError(f"there is no {what} {path.name} ({error.strerror})") from None
    if not regular:
        raise BundleError(f"{path.name} is not a regular file")
    return os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)
                             | getattr(os, "O_BINARY", 0)), "rb")  # fmt: skip


def read_manifest(path: Path) -> bytes:
    """Return the bytes of a manifest, whose size is within the limits."""
    with opened(path, "manifest") as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > LARGEST_MANIFEST:
            raise BundleError(
                f"its manifest takes {size} bytes, more than the limit of {LARGEST_MANIFEST}"
            )
        raw = stream.read()
    _check_counts(raw)
    return raw


def checked_manifest(raw: bytes) -> dict[str, Any]:
    """Return the content of a manifest, which must have its own hash and all its entries."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise BundleError("the manifest contains an entry twice")
        return found

    def no_constant(name: str) -> NoReturn:
        raise BundleError(f"the manifest contains {name}, which is not JSON")

    try:
        content = json.loads(
            raw.decode("ascii"), object_pairs_hook=unique, parse_constant=no_constant
        )
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BundleError(f"the manifest is truncated or not JSON: {error}") from None
    except RecursionError:
        raise BundleError("the manifest is nested too deeply") from None
    version = content.get("crossfit_bundle") if isinstance(content, dict) else None
    if type(version) is not int or version < 1:
        raise BundleError(f"{MANIFEST} is not a manifest of a crossfit bundle")
    if version > FORMAT:
        raise BundleError(
            f"it has format {version}, but this version of crossfit reads formats up to {FORMAT}; "
            f"upgrade {registry.CORE}"
        )
    content.pop("sha256", None)
    if raw != signed(content):
        raise BundleError("the manifest was damaged or changed after it was written")
    names = {"crossfit_bundle", "arrays", "written_by", "types", "model"}
    if set(content) - {"record"} != names:
        raise BundleError(f"the manifest must have the entries {', '.join(sorted(names))}")
    if not isinstance(content["types"], dict) or len(content["types"]) > ESTIMATORS:
        raise BundleError("the manifest does not list the types of the model")
    for name, source in content["types"].items():
        parts = fields(source, ("distribution", "version"))
        if not all(isinstance(part, str) and re.fullmatch(r"\w[\w.+!-]*", part) for part in parts):
            raise BundleError(f"the type {name!r} has no valid distribution and version")
    return content


def _check_counts(raw: bytes) -> None:
    """Reject a manifest that would take far more memory than it has bytes.

    Brackets and commas inside strings are counted too, which makes little difference to a valid
    manifest.
    """
    containers = raw.count(b"[") + raw.count(b"{")
    if containers > _CONTAINERS:
        raise BundleError(
            f"its manifest has {containers} lists and objects, more than the limit of {_CONTAINERS}"
        )
    values = raw.count(b",")
    if values > _VALUES:
        raise BundleError(f"its manifest has {values} values, more than the limit of {_VALUES}")


def check_directory(stream: BufferedReader, size: int) -> None:
    """Reject an array file whose directory would fill the memory: each entry becomes an object."""
    stream.seek(max(size - 98, 0))
    tail = stream.read()
    end = tail[-22:]
    if not end.startswith(b"PK\5\6") or not end.endswith(b"\0\0"):
        raise BundleError("the array file was not written by crossfit")
    length = struct.unpack_from("<L", end, 12)[0]
    if tail[-42:-38] == b"PK\6\7":  # of more than two gigabytes
        if struct.unpack_from("<Q", tail, 64)[0] != size - 98 or not tail.startswith(b"PK\6\6"):
            raise BundleError("the array file was not written by crossfit")
        length = struct.unpack_from("<Q", tail, 40)[0]
    if length > _DIRECTORY_BYTES:
        raise BundleError("the array file contains too many arrays")


def fields(node: Any, names: Iterable[str]) -> list[Any]:
    """Return the entries of a JSON object, which must be exactly these."""
    names = tuple(names)
    if not isinstance(node, dict) or set(node) - {"$"} != set(names):
        raise ValueError(f"expected an object with {', '.join(names)}")
    return [node[name] for name in names]


def signed(content: Mapping[str, Any]) -> bytes:
    """Return the canonical bytes of a manifest, starting with its own hash."""
    digest = hashlib.sha256(dumped(content)).hexdigest()
    return dumped({"sha256": digest, **content}) + b"\n"


def dumped(content: Mapping[str, Any]) -> bytes:
    """Return the canonical bytes of JSON, without its hash."""
    return json.dumps(content, allow_nan=False).encode()


def write_files(
    folder: Path, content: Mapping[str, Any], arrays: list[NDArray[Any]], card: str | None
) -> str:
    """Write the files; the manifest completes the bundle, and the card follows it at once."""
    paths = [folder / "arrays", folder / MANIFEST, folder / CARD]
    for path in paths:
        clear_drafts(path)
    arrays_draft, manifest_draft, card_draft = (draft_of(path, Path.touch) for path in paths)
    with arrays_draft as draft, manifest_draft as last, card_draft as page:
        with open(draft, "wb") as stream:
            np.savez(stream, *arrays)
            _to_disk(stream)
        with open(draft, "rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        name = f"arrays-{digest[:16]}.npz"
        listed = {"file": name, "size": draft.stat().st_size, "sha256": digest}
        raw = signed({"crossfit_bundle": FORMAT, "arrays": listed, **content})
        try:
            if len(raw) > LARGEST_MANIFEST:
                raise BundleError(f"its manifest would exceed {LARGEST_MANIFEST} bytes")
            _check_counts(raw)
        except BundleError as error:
            raise BundleError(f"the model cannot be saved: {error}") from None
        with open(last, "wb") as stream:
            stream.write(raw)
            _to_disk(stream)
        if card is not None:
            with open(page, "wb") as stream:
                stream.write(card.encode(errors="replace"))
                _to_disk(stream)
        draft.replace(folder / name)
        last.replace(folder / MANIFEST)
        if card is not None:
            page.replace(folder / CARD)
    return name


def _to_disk(stream: BufferedWriter) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def has_own_page(path: Path) -> bool:
    """Return True if there is a page that crossfit did not write, which is never changed."""
    if not os.path.lexists(path):
        return False
    if path.is_symlink() or not path.is_file():
        return True
    with path.open(encoding="utf-8", errors="replace") as stream:
        return not is_model_card(stream.read(200))


def may_replace(folder: Path) -> bool:
    """Return True if a folder is empty or contains a bundle, damaged or not."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return folder.is_dir()
    manifest = folder / MANIFEST
    return manifest.is_file() and b'"crossfit_bundle"' in manifest.read_bytes()


def lists_record(folder: Path) -> bool:
    """Return True if ``record.json`` in a folder belongs to the bundle that is there."""
    try:
        return "record" in json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError, TypeError, RecursionError):
        return False
