"""Write a model to a folder, and read it."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from crossfit._arguments import a_path, check_arguments, integer
from crossfit._files import clear_drafts, draft_of, room_for
from crossfit._warnings import warn
from crossfit.model_cards import model_card
from crossfit.persistence._decoding import Decoder
from crossfit.persistence._encoding import Encoder
from crossfit.persistence.allowed import BundleError, Place, home_of, reason_of, type_name
from crossfit.persistence.files import (
    ARRAY_FILE,
    CARD,
    LARGEST_RECORD,
    MANIFEST,
    MOST_BYTES,
    RECORD,
    check_directory,
    checked_manifest,
    dumped,
    fields,
    has_own_page,
    lists_record,
    may_replace,
    opened,
    read_manifest,
    write_files,
)

__all__ = [
    "content_of",
    "load",
    "load_named",
    "note_commit",
    "read_record",
    "save",
    "save_with_record",
]

# Length of an error message, which may quote content of the bundle.
_LONGEST = 2000


def save(
    model: Any,
    folder: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    card: str | None = None,
) -> Path:
    """Write a model to a folder, from which `load` restores it on any machine.

    Parameters
    ----------
    model : estimator
        A registered method or extractor, one of the scikit-learn estimators listed in the
        documentation, or a pipeline of them; fitted or not.
    folder : path-like
        Must not exist; its parent folders are created.
    overwrite : bool, default=False
        Replace the bundle in an existing folder, with its record if it has one. The old bundle
        stays valid until the new one is complete, and files that do not belong to it are left
        alone.
    card : str, optional
        Text of ``README.md``, by default ``crossfit.model_card(model)``. Pass a `model_card` with
        data, measures and licence if they are known. A page that crossfit did not write is never
        replaced.

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    BundleError
        If a part of the model is of a type that a bundle cannot contain; the message names the
        part and the type. Nothing is written in this case.
    FileExistsError
        If the folder exists and `overwrite` is False; if it is not a bundle; or if `card` would
        replace a ``README.md`` that is not a model card of crossfit.

    See Also
    --------
    load : Read the model.
    model_card : Describe the model.

    Notes
    -----
    The parameter ``memory`` of a pipeline is not saved, because a cache belongs to one machine.

    A plugin's type that behaves like a scikit-learn estimator needs no extra code: its parameters
    and the attributes set by `fit` are saved. If that is not enough, it defines
    ``__crossfit_state__() -> (state, arrays)`` and ``__crossfit_restore__(state, arrays)``, which
    is called on a new instance with the same parameters. Both are mappings with str keys; `state`
    may contain any values that a bundle supports, including other estimators, and `arrays` contains
    numeric arrays. Parameters named in ``__crossfit_transient__``, a tuple of str, belong to one
    training run (callbacks, for instance): they are not saved and have their defaults after
    loading.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from crossfit.subspace import CCA
    >>> rng = np.random.default_rng(0)
    >>> X, Y = rng.normal(size=(20, 3)), rng.normal(size=(20, 2))
    >>> folder = save(CCA().fit(X, Y), tempfile.mkdtemp() + "/model")
    >>> load(folder)
    CCA()
    """
    check_arguments(
        "save",
        {"folder": [a_path()], "overwrite": ["boolean"], "card": [str, None]},
        {"folder": folder, "overwrite": overwrite, "card": card},
    )
    return _save(model, Path(folder), overwrite, card, None)


def save_with_record(model: Any, folder: Path, record: Mapping[str, Any], card: str | None) -> Path:
    """Write a model with its record to a new folder; the manifest has the hash of the record."""
    text = json.dumps(record, indent=2, ensure_ascii=False, default=str) + "\n"
    return _save(model, folder, False, card, text.encode(errors="replace"))


def _save(
    model: Any, folder: Path, overwrite: bool, card: str | None, record: bytes | None
) -> Path:
    encoder = Encoder()
    if not hasattr(model, "get_params") or isinstance(model, type):
        raise BundleError(f"save expects an estimator, got {type_name(model)}")
    try:
        tree = encoder.encode(model, Place("model"), 0)
    except BundleError as error:
        raise BundleError(f"the model cannot be saved: {error}") from None
    content = {
        "written_by": _environment(),
        "types": encoder.types,
        "model": tree,
    }
    if record is not None:
        if len(record) > LARGEST_RECORD:
            raise BundleError(f"the record of a model must not exceed {LARGEST_RECORD} bytes")
        content["record"] = {"size": len(record), "sha256": hashlib.sha256(record).hexdigest()}
    text = model_card(model) if card is None else card
    if not os.path.lexists(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        clear_drafts(folder)
        with room_for("the bundle", folder), draft_of(folder, Path.mkdir) as draft:
            write_files(draft, content, encoder.arrays, text)
            if record is not None:
                (draft / RECORD).write_bytes(record)
            draft.rename(folder)
        return folder
    if not overwrite:
        raise FileExistsError(f"{folder} already exists; pass overwrite=True to replace a bundle")
    if not may_replace(folder):
        raise FileExistsError(f"{folder} exists and is not a bundle; choose another folder")
    own = has_own_page(folder / CARD)
    if own and card is not None:
        raise FileExistsError(
            f"{folder / CARD} is not a model card of crossfit and is never replaced; move it first"
        )
    recorded = lists_record(folder)
    with room_for("the bundle", folder):
        kept = write_files(folder, content, encoder.arrays, None if own else text)
    for path in list(folder.iterdir()):
        old = ARRAY_FILE.fullmatch(path.name) and path.name != kept
        if old or (recorded and path.name == RECORD):
            path.unlink()
    return folder


def load(
    folder: str | os.PathLike[str], *, max_bytes: int = MOST_BYTES, pinned: bool = False
) -> Any:
    """Read a model that was written by `save`, from a folder or from the Hugging Face Hub.

    Nothing in the bundle is executed or unpickled, and no module is imported just because the
    bundle names it. The only code that runs is that of crossfit, of scikit-learn and of the
    installed plugins that provide the types in the bundle. The hashes detect damage; they do not
    prove who wrote a bundle.

    Parameters
    ----------
    folder : path-like
        Folder of the bundle, or an address such as ``"hf://user/name@revision"``, which needs the
        extra ``hub``. A branch or a tag is resolved to a commit. Only the manifest and the array
        file that it names are downloaded, into the cache of huggingface_hub; a commit that is in
        the cache is read without a connection.
    max_bytes : int, default=2**33
        Largest accepted size of the arrays in bytes; increase it for larger models from people you
        trust. Everything else is bounded by the size of the arrays and by fixed limits, which
        `save` enforces too: a manifest of 128 MiB with 8 million values and a million lists and
        objects, and 8,192 estimators. On the hub they are compared before a download.
    pinned : bool, default=False
        Reject an address without a commit of 40 digits, whose content may change.

    Returns
    -------
    estimator
        In the state in which it was saved.

    Raises
    ------
    BundleError
        If there is no bundle; if it is damaged, was changed, or was written in a newer format; if
        it contains a type that is not allowed or a parameter that its type rejects; if it exceeds
        the limits; or if a plugin is not installed.

    OSError
        If the hub cannot be reached or rejects the request.

    Warns
    -----
    UserWarning
        If it was written with another release series of scikit-learn or of a plugin; and with the
        commit to which an address without one was resolved.

    See Also
    --------
    save : Write a model.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from crossfit.subspace import PLS
    >>> rng = np.random.default_rng(0)
    >>> X, Y = rng.normal(size=(20, 3)), rng.normal(size=(20, 2))
    >>> model = PLS().fit(X, Y)
    >>> restored = load(save(model, tempfile.mkdtemp() + "/model"))
    >>> bool(np.all(restored.similarity(X, Y) == model.similarity(X, Y)))
    True
    """
    check_arguments(
        "load",
        {"folder": [a_path()], "max_bytes": [integer(0)], "pinned": ["boolean"]},
        {"folder": folder, "max_bytes": max_bytes, "pinned": pinned},
    )
    if isinstance(folder, str) and folder.startswith("hf://"):
        from crossfit.hub import bundle_from_hub

        with bundle_from_hub(folder, max_bytes=max_bytes, pinned=pinned) as (inner, address):
            model = load_named(inner, address, max_bytes)
        note_commit(folder, address)
        return model
    return load_named(Path(folder), str(folder), max_bytes)


def load_named(folder: Path, called: str, max_bytes: int = MOST_BYTES) -> Any:
    """Read a model from a folder that messages refer to by another name."""
    try:
        content = checked_manifest(read_manifest(folder / MANIFEST))
        name, size, digest = fields(content["arrays"], ("file", "size", "sha256"))
        if not isinstance(name, str) or not ARRAY_FILE.fullmatch(name):
            raise BundleError(f"{name!r} is not the name of an array file inside the folder")
        with opened(folder / name, "array file") as stream:
            actual = os.fstat(stream.fileno()).st_size
            if actual == size and size > max_bytes:
                raise BundleError(
                    f"{name} takes {size} bytes, but max_bytes is {max_bytes}; increase it if you "
                    "trust the author of the bundle"
                )
            # The size is compared first: hashing a file that is far too large would take long.
            if actual != size or hashlib.file_digest(stream, "sha256").hexdigest() != digest:
                raise BundleError(
                    f"{name} does not match its hash in the manifest; it was damaged or changed"
                )
            check_directory(stream, size)
            stream.seek(0)
            with zipfile.ZipFile(stream) as archive:
                decoder = Decoder(archive, size, content["types"])
                model = decoder.decode(content["model"], Place("model"), 0)
                decoder.finish()
        if not hasattr(model, "get_params"):
            raise BundleError("it does not contain an estimator")
    except Exception as error:
        # A BundleError, or any error that a damaged or hostile value led to.
        reason = reason_of(error)
        if len(reason) > _LONGEST:
            reason = f"{reason[: _LONGEST - 103]}...{reason[-100:]}"
        raise BundleError(f"the bundle {called} is rejected: {reason}") from error
    _warn_of_other_versions(content["types"])
    return model


def content_of(model: Any) -> str:
    """Return a hash of all that a bundle of a model would hold: equal models have equal ones."""
    encoder = Encoder()
    tree = encoder.encode(model, Place("model"), 0)
    total = hashlib.sha256(dumped({"types": encoder.types, "model": tree}))
    for array in encoder.arrays:
        total.update(f"{array.dtype.str} {array.shape}".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def note_commit(given: str, address: str) -> None:
    """Warn with the commit of an address that had none."""
    if address != given:
        warn(f"{given} is {address} at present; load that to have the same model again")


def read_record(folder: Path, called: str) -> dict[str, Any]:
    """Return the content of ``record.json``, which must have its hash in the manifest.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of a bundle.
    called : str
        Name of the bundle in messages.

    Returns
    -------
    dict
        Empty if the bundle has no record.

    Raises
    ------
    BundleError
        If the record or the manifest is damaged, changed, missing, or not listed.
    """
    path = folder / RECORD
    try:
        listed = checked_manifest(read_manifest(folder / MANIFEST)).get("record")
        if listed is None:
            if os.path.lexists(path):
                raise BundleError(
                    f"{RECORD} is not listed in {MANIFEST}, so that it may be that "
                    "of another model; delete it, or fit the method again"
                )
            return {}
        size, digest = fields(listed, ("size", "sha256"))
        with opened(path, "record") as stream:
            actual = os.fstat(stream.fileno()).st_size
            raw = stream.read(LARGEST_RECORD) if actual == size <= LARGEST_RECORD else b""
        if len(raw) != size or hashlib.sha256(raw).hexdigest() != digest:
            raise BundleError(f"{RECORD} is damaged: it does not match its hash in the manifest")
        record = json.loads(raw)
        if not isinstance(record, dict) or not isinstance(record.get("kinds", {}), dict):
            raise BundleError(f"{RECORD} is damaged: it is not a record")
    except Exception as error:
        raise BundleError(
            f"the bundle {called} is rejected: {reason_of(error)[:_LONGEST]}"
        ) from error
    return record


def _environment() -> dict[str, str]:
    import platform

    import sklearn

    import crossfit

    return {
        "crossfit": crossfit.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
    }


def _warn_of_other_versions(types: Mapping[str, Mapping[str, str]]) -> None:
    def series(version: str) -> str:
        return ".".join(version.split(".")[:2])

    written = {source["distribution"]: source["version"] for source in types.values()}
    homes = (home_of(name, source["distribution"]) for name, source in types.items())
    present = {home[1]: home[2] for home in homes if home}
    other = [
        f"{name} {version} (here {present[name]})"
        for name, version in sorted(written.items())
        if name in present and series(version) != series(present[name])
    ]
    if other:
        warn(
            f"the bundle was written with {', '.join(other)}; check the model on known results, "
            "or fit it again"
        )
