"""Bundles: fitted models on disk as plain values and arrays, which are read and never executed.

A bundle is a folder of three files. ``manifest.json`` lists the types that the model is made of and
holds their parameters and fitted values; ``arrays-<hash>.npz`` holds the arrays; ``README.md``, the
model card, is for people and is never read. A winner has a fourth one, ``record.json``, which
states how it was made. Nothing is pickled. Only types that the registry lists or that this module
names are allowed; a type is never imported just because a bundle names it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import reprlib
import stat
import struct
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from io import BufferedReader, BufferedWriter
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from crossfit import registry
from crossfit._arguments import a_path, check_arguments, integer
from crossfit._files import clear_drafts, draft_of, room_for
from crossfit._fitted import stands_for_code
from crossfit._identities import entry_named, identity_of
from crossfit._warnings import warn
from crossfit.model_cards import is_model_card, model_card
from crossfit.views import Channels, Ragged, Views, n_rows

__all__ = ["BundleError", "load", "save"]

FORMAT = 2  # 1 named registered classes by their paths
MANIFEST = "manifest.json"
CARD = "README.md"
RECORD = "record.json"
ARRAY_FILE = re.compile(r"arrays-[0-9a-f]{16}\.npz")

# Nesting depth: more than any pipeline needs and far below Python's recursion limit. It also stops
# objects that contain themselves.
_DEPTH = 100

# Limits of a manifest, so that reading one takes at most about a gigabyte and a minute: three
# million words, for example. `save` enforces the same limits.
LARGEST_MANIFEST = 2**27
LARGEST_RECORD = 2**24
MOST_BYTES = 2**33  # of the arrays, unless more are allowed
_VALUES = 2**23
_CONTAINERS = 2**20
_ESTIMATORS = 2**13
# Keys of a set or a dict with the same hash: each of them is compared with all the others.
_SAME_HASH = 64
# Size of the directory of the array file: enough for about 100,000 arrays.
_DIRECTORY_BYTES = 2**23
# Rows of arrays without columns, which take no bytes.
_EMPTY_ROWS = 2**24
_COLUMNS = 2**31
# Length of an error message, which may quote content of the bundle.
_LONGEST = 2000

#: Class name to public module: the types that bundles may contain in addition to registered ones.
BUNDLED = {
    name: module
    for module, names in {
        "crossfit.compose": "ChannelUnion ColumnsAsViews SelectChannel ViewTransformer",
        "crossfit.retrieval": "ApproximateIndex CSLS DualSoftmax ExactIndex Fusion "
        "InvertedSoftmax NNN QBNorm Reranker RetrievalScorer",
        "crossfit.similarities": "KNNPosterior MethodSimilarity PosteriorOverPrior",
        # Only classes whose fitted state consists of numbers and names that compiled code does not
        # use as unchecked indices, as it does a tree's nodes or a support vector machine's arrays.
        "sklearn.compose": "ColumnTransformer",
        "sklearn.decomposition": "FactorAnalysis FastICA LatentDirichletAllocation NMF PCA "
        "TruncatedSVD",
        "sklearn.discriminant_analysis": "LinearDiscriminantAnalysis",
        "sklearn.feature_extraction.text": "CountVectorizer HashingVectorizer TfidfTransformer "
        "TfidfVectorizer",
        "sklearn.feature_selection": "VarianceThreshold",
        "sklearn.kernel_approximation": "RBFSampler",
        "sklearn.linear_model": "LinearRegression LogisticRegression Ridge RidgeClassifier",
        "sklearn.multiclass": "OneVsRestClassifier",
        "sklearn.naive_bayes": "GaussianNB MultinomialNB",
        "sklearn.neighbors": "KNeighborsClassifier KNeighborsRegressor NearestNeighbors",
        "sklearn.pipeline": "FeatureUnion Pipeline",
        "sklearn.preprocessing": "Binarizer FunctionTransformer LabelBinarizer LabelEncoder "
        "MaxAbsScaler MinMaxScaler Normalizer PowerTransformer QuantileTransformer RobustScaler "
        "StandardScaler",
        "sklearn.svm": "LinearSVC",
    }.items()
    for name in names.split()
}
_PIPELINE = "sklearn.pipeline:Pipeline"
_NEIGHBORS = tuple(
    f"sklearn.neighbors:{name}"
    for name in ("KNeighborsClassifier", "KNeighborsRegressor", "NearestNeighbors")
)
_VECTORIZERS = tuple(
    f"sklearn.feature_extraction.text:{name}" for name in ("CountVectorizer", "TfidfVectorizer")
)


class BundleError(ValueError):
    """Raised if a model cannot be stored in a bundle, or a bundle cannot be trusted or read."""


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
    encoder = _Encoder()
    if not hasattr(model, "get_params") or isinstance(model, type):
        raise BundleError(f"save expects an estimator, got {_called(model)}")
    try:
        tree = encoder.encode(model, _Place("model"), 0)
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
            _write(draft, content, encoder.arrays, text)
            if record is not None:
                (draft / RECORD).write_bytes(record)
            draft.rename(folder)
        return folder
    if not overwrite:
        raise FileExistsError(f"{folder} already exists; pass overwrite=True to replace a bundle")
    if not _may_replace(folder):
        raise FileExistsError(f"{folder} exists and is not a bundle; choose another folder")
    own = _has_own_page(folder / CARD)
    if own and card is not None:
        raise FileExistsError(
            f"{folder / CARD} is not a model card of crossfit and is never replaced; move it first"
        )
    recorded = lists_record(folder)
    with room_for("the bundle", folder):
        kept = _write(folder, content, encoder.arrays, None if own else text)
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


def content_of(model: Any) -> str:
    """Return a hash of all that a bundle of a model would hold: equal models have equal ones."""
    encoder = _Encoder()
    tree = encoder.encode(model, _Place("model"), 0)
    total = hashlib.sha256(_dumped({"types": encoder.types, "model": tree}))
    for array in encoder.arrays:
        total.update(f"{array.dtype.str} {array.shape}".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def note_commit(given: str, address: str) -> None:
    """Warn with the commit of an address that had none."""
    if address != given:
        warn(f"{given} is {address} at present; load that to have the same model again")


def is_signed(manifest: Path) -> bool:
    """Return True if a file is a manifest with its own hash."""
    try:
        _checked_manifest(_read_manifest(manifest))
    except BundleError:
        return False
    return True


def matches(path: Path, listed: Any) -> bool:
    """Return True if a file has the size and hash of its entry in a manifest."""
    if not isinstance(listed, dict) or path.stat().st_size != listed.get("size"):
        return False
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == listed.get("sha256")


def load_named(folder: Path, called: str, max_bytes: int = MOST_BYTES) -> Any:
    """Read a model from a folder that messages refer to by another name."""
    try:
        content = _checked_manifest(_read_manifest(folder / MANIFEST))
        name, size, digest = _fields(content["arrays"], ("file", "size", "sha256"))
        if not isinstance(name, str) or not ARRAY_FILE.fullmatch(name):
            raise BundleError(f"{name!r} is not the name of an array file inside the folder")
        with _opened(folder / name, "array file") as stream:
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
            _check_directory(stream, size)
            stream.seek(0)
            with zipfile.ZipFile(stream) as archive:
                decoder = _Decoder(archive, size, content["types"])
                model = decoder.decode(content["model"], _Place("model"), 0)
                decoder.finish()
        if not hasattr(model, "get_params"):
            raise BundleError("it does not contain an estimator")
    except Exception as error:
        # A BundleError, or any error that a damaged or hostile value led to.
        reason = _reason(error)
        if len(reason) > _LONGEST:
            reason = f"{reason[: _LONGEST - 103]}...{reason[-100:]}"
        raise BundleError(f"the bundle {called} is rejected: {reason}") from error
    _warn_of_other_versions(content["types"])
    return model


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
        listed = _checked_manifest(_read_manifest(folder / MANIFEST)).get("record")
        if listed is None:
            if os.path.lexists(path):
                raise BundleError(
                    f"{RECORD} is not listed in {MANIFEST}, so that it may be that "
                    "of another model; delete it, or fit the method again"
                )
            return {}
        size, digest = _fields(listed, ("size", "sha256"))
        with _opened(path, "record") as stream:
            actual = os.fstat(stream.fileno()).st_size
            raw = stream.read(LARGEST_RECORD) if actual == size <= LARGEST_RECORD else b""
        if len(raw) != size or hashlib.sha256(raw).hexdigest() != digest:
            raise BundleError(f"{RECORD} is damaged: it does not match its hash in the manifest")
        record = json.loads(raw)
        if not isinstance(record, dict) or not isinstance(record.get("kinds", {}), dict):
            raise BundleError(f"{RECORD} is damaged: it is not a record")
    except Exception as error:
        raise BundleError(
            f"the bundle {called} is rejected: {_reason(error)[:_LONGEST]}"
        ) from error
    return record


# ---- which types ---------------------------------------------------------------------------------


def _home(name: str, distribution: str | None = None) -> tuple[str, str, str] | None:
    """Return path, distribution and version of a type that bundles may contain, else None.

    The name is only looked up; nothing is imported.
    """
    module, _, attribute = name.partition(":")
    if BUNDLED.get(attribute) == module:
        if module.startswith("crossfit."):
            import crossfit

            return name, registry.CORE, crossfit.__version__
        import sklearn

        return name, "scikit-learn", sklearn.__version__
    entry = entry_named(name, distribution)
    if entry is None or entry.card is None:
        return None
    return entry.card.target, entry.distribution, entry.version


def _name_of(cls: type) -> str | None:
    """Return the name by which bundles refer to a class, or None if they may not contain it."""
    known = f"{BUNDLED.get(cls.__name__)}:{cls.__name__}"
    # The last one, the path, is for a name that several plugins provide.
    for name in (known, identity_of(cls), f"{cls.__module__}:{cls.__qualname__}"):
        home = _home(name)
        if home and registry.resolve_target(home[0]) is cls:
            return name
    return None


def _check_names(cls: type, names: Iterable[Any], path: object) -> None:
    """Check that no value would replace a method or another piece of code of the class."""
    for name in names:
        if not isinstance(name, str) or name.startswith("__") or stands_for_code(cls, name):
            raise BundleError(
                f"{path}: {name!r} is not the name of a fitted attribute of {cls.__name__}"
            )


def _check_params(made: Any, path: object) -> None:
    """Check parameters by the constraints of their type, before compiled code uses them."""
    if hasattr(made, "_parameter_constraints"):
        try:
            made._validate_params()
        except ValueError as error:
            raise BundleError(f"{path}: {error}") from None


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
    homes = (_home(name, source["distribution"]) for name, source in types.items())
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


def _reason(error: Exception) -> str:
    """Return the message of an error, with its type unless that adds nothing."""
    plain = type(error) in (BundleError, ValueError)
    return str(error) if plain else f"{type(error).__name__}: {error}"


def _called(value: Any) -> str:
    cls = value if isinstance(value, type) else type(value)
    name = f"{cls.__module__}.{cls.__qualname__}".removeprefix("builtins.")
    return f"the class {name}" if isinstance(value, type) else name


class _Place:
    """The location of a value in the model, formatted only for an error message.

    Each location refers to its parent; building the text on the way down would copy it for every
    value.
    """

    __slots__ = ("above", "form", "key")

    def __init__(self, form: str, above: _Place | None = None, key: Any = None) -> None:
        self.form, self.above, self.key = form, above, key

    def part(self, name: str) -> _Place:
        return _Place("{above}.{key}", self, name)

    def item(self, key: Any) -> _Place:
        return _Place("{above}[{shown}]", self, key)

    def one_of(self, what: str) -> _Place:
        return _Place("{key} of {above}", self, what)

    def __str__(self) -> str:
        text = str(self.key)
        return self.form.format(
            above=self.above,
            key=text if len(text) <= 60 else f"{text[:57]}...",
            shown=reprlib.repr(self.key),
        )


# ---- which arrays --------------------------------------------------------------------------------


def _is_plain(dtype: np.dtype[Any]) -> bool:
    """Return True if a dtype is the same on all machines and contains no references."""
    limit = {"f": 8, "c": 16}.get(dtype.kind, math.inf)
    return dtype.kind in "biufcUSmM" and 0 < dtype.itemsize <= limit


def _check_rows(shape: tuple[int, ...]) -> None:
    """Reject an empty array with so many rows that a loop over them would not end."""
    if 0 in shape and math.prod(size or 1 for size in shape) > _EMPTY_ROWS:
        raise ValueError(f"an empty array of shape {shape} has too many rows")


def _check_hashes(keys: Iterable[Any]) -> None:
    """Reject many keys with the same hash, which would all be compared with each other."""
    (_, most), *_ = Counter(map(hash, keys)).most_common(1) or [(0, 0)]
    if most > _SAME_HASH:
        raise ValueError(f"{most} keys of a set or dict have the same hash")


def _read_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(info) as stream:
        version = np.lib.format.read_magic(stream)
        if version != (1, 0):  # later ones are for structured types
            raise ValueError(f"the array {info.filename} is of format {version}, not (1, 0)")
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        if not _is_plain(dtype):
            raise ValueError(f"the array {info.filename} is of type {dtype}, not of numbers")
        # Before memory is allocated for it.
        size = math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or size != info.file_size - stream.tell():
            raise ValueError(f"the array {info.filename} does not have the size that it declares")
        _check_rows(shape)
    with archive.open(info) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


# ---- from values to JSON and arrays --------------------------------------------------------------


class _Encoder:
    """Converts a model to JSON, and collects its arrays and the names of its types."""

    def __init__(self) -> None:
        self.arrays: list[NDArray[Any]] = []
        self.types: dict[str, dict[str, str]] = {}
        self.estimators = 0

    def encode(self, value: Any, path: _Place, depth: int) -> Any:
        if depth > _DEPTH:
            raise BundleError(
                f"{str(path)[:80]}...: values are nested more than {_DEPTH} levels deep; one may "
                "contain itself"
            )
        encode = partial(self.encode, depth=depth + 1)
        kind = type(value)
        if value is None or kind in (bool, int, str):
            return value
        if kind is float:
            return value if math.isfinite(value) else _tagged("float", value=repr(value))
        if kind is list:
            return [encode(part, path.item(i)) for i, part in enumerate(value)]
        if kind is tuple:
            items = [encode(part, path.item(i)) for i, part in enumerate(value)]
            return _tagged("tuple", items=items)
        if kind in (set, frozenset):
            # Sorted, so that the same model gives the same bundle.
            self._check_keys(value, path)
            items = [encode(part, path.one_of("an element")) for part in sorted(value, key=repr)]
            return _tagged(kind.__name__, items=items)
        if kind is dict:
            if all(type(key) is str and key != "$" for key in value):
                return {key: encode(part, path.item(key)) for key, part in value.items()}
            self._check_keys(value, path)
            pairs = [
                [encode(key, path.one_of("a key")), encode(part, path.item(key))]
                for key, part in value.items()
            ]
            return _tagged("dict", items=pairs)
        if kind is slice:
            bounds = (value.start, value.stop, value.step)
            return _tagged("slice", items=[encode(bound, path) for bound in bounds])
        if isinstance(value, np.generic) and value.dtype.kind in "biufUS":
            return self._scalar(value, path)
        if kind in (np.ndarray, np.memmap):
            return self._array(np.asarray(value), path, depth)
        if kind in (sp.csr_matrix, sp.csr_array):
            parts = {"data": value.data, "indices": value.indices, "indptr": value.indptr}
            encoded = {name: self._array(part, path, depth) for name, part in parts.items()}
            return _tagged("csr", matrix=kind is sp.csr_matrix, shape=list(value.shape), **encoded)
        if isinstance(value, np.dtype) and _is_plain(value):
            return _tagged("dtype", value=value.str)
        if isinstance(value, type) and issubclass(value, np.generic) and _is_scalar_type(value):
            return _tagged("scalar type", value=np.dtype(value).str)
        if kind is np.random.RandomState:
            state = value.get_state(legacy=False)
            if state["bit_generator"] != "MT19937":
                raise BundleError(f"{path} is a RandomState that does not use MT19937")
            names = ("key", "position", "has_gauss", "gauss")
            held = (*state["state"].values(), state["has_gauss"], state["gauss"])
            return _tagged(
                "RandomState", **{part: encode(at, path) for part, at in zip(names, held)}
            )
        if isinstance(value, Path):
            return _tagged("path", value=str(value))
        if kind is Ragged:
            parts = {"values": value.values, "offsets": value.offsets, "info": dict(value.info)}
            return _tagged(
                "Ragged", **{name: encode(part, path.part(name)) for name, part in parts.items()}
            )
        if kind in (Views, Channels):
            parts = {"values": value._values, "index": value._index, "groups": value._groups}
            encoded = {name: encode(part, path.part(name)) for name, part in parts.items()}
            return _tagged(kind.__name__, **encoded)
        if isinstance(value, partial):
            return self._named_similarity(value, path)
        return self._estimator(value, path, depth)

    def _check_keys(self, keys: Iterable[Any], path: _Place) -> None:
        try:
            _check_hashes(keys)
        except ValueError as error:
            raise BundleError(f"{path}: {error}") from None

    def _scalar(self, value: np.generic, path: _Place) -> dict[str, Any]:
        if not _is_plain(value.dtype):
            raise BundleError(f"{path} is a {value.dtype}, which not every machine supports")
        plain = value.item()
        if isinstance(plain, bytes):
            plain = plain.decode("latin-1")
        return _tagged("scalar", dtype=value.dtype.str, value=self.encode(plain, path, 0))

    def _array(self, value: NDArray[Any], path: _Place, depth: int) -> dict[str, Any]:
        if value.dtype == object:
            items = [
                self.encode(part, path.one_of("an element"), depth + 1) for part in value.ravel()
            ]
            return _tagged("objects", shape=list(value.shape), items=items)
        if value.dtype.kind in "SU" and not value.dtype.itemsize:
            value = value.astype(f"{value.dtype.kind}1")
        if not _is_plain(value.dtype):
            raise BundleError(f"{path} is an array of type {value.dtype}, not of numbers")
        if 0 in value.shape:
            try:
                _check_rows(value.shape)
            except ValueError as error:
                raise BundleError(f"{path} is {error}") from None
        self.arrays.append(value)
        return _tagged("array", number=len(self.arrays) - 1)

    def _named_similarity(self, value: partial[Any], path: _Place) -> dict[str, Any]:
        from crossfit.similarities import MEASURES, pairwise_similarity

        name = value.keywords.get("measure")
        if value.func is not pairwise_similarity or value.args or len(value.keywords) != 1:
            raise BundleError(f"{path} is a function; bundles contain no code")
        assert name in MEASURES
        return _tagged("similarity", name=name)

    def _estimator(self, value: Any, path: _Place, depth: int) -> dict[str, Any]:
        cls = type(value)
        name = _name_of(cls)
        home = None if name is None else _home(name)
        if name is None or home is None or not hasattr(value, "get_params"):
            raise BundleError(f"{path} is {_refused(value)}")
        self.estimators += 1
        if self.estimators > _ESTIMATORS:
            raise BundleError(f"it consists of more than {_ESTIMATORS} estimators")
        self.types[name] = dict(zip(("distribution", "version"), home[1:]))
        forgotten = getattr(cls, "__crossfit_transient__", ())
        params = {
            key: part for key, part in value.get_params(deep=False).items() if key not in forgotten
        }
        if name == _PIPELINE:
            params["memory"] = None
        arrays: Mapping[str, Any] = {}
        if name in _NEIGHBORS:
            state = _training_data(value)
        elif hasattr(value, "__crossfit_state__"):
            state, arrays = value.__crossfit_state__()
        else:
            state = {
                key: part
                for key, part in vars(value).items()
                # _stop_words_id is the id() of an object, meaningless in another process.
                if key not in (*params, *forgotten, "_stop_words_id")
            }
        for mapping in (state, arrays):
            _check_names(cls, mapping, path)
        unfit = [key for key, part in arrays.items()
                 if type(part) is not np.ndarray or part.dtype == object]  # fmt: skip
        if unfit:
            raise BundleError(
                f"{path}: __crossfit_state__ returns {unfit[0]!r} among the arrays, but it is of "
                f"type {_called(arrays[unfit[0]])}"
            )

        def encoded(mapping: Mapping[str, Any]) -> dict[str, Any]:
            return {
                key: self.encode(part, path.part(key), depth + 1) for key, part in mapping.items()
            }

        node = _tagged(
            "object", type=name, params=encoded(params), state=encoded(state),
            arrays=encoded(arrays),
        )  # fmt: skip
        _check_params(value, path)
        return node


def _refused(value: Any) -> str:
    if callable(value) and not isinstance(value, type) and not hasattr(value, "get_params"):
        return f"the function {getattr(value, '__name__', '?')}; bundles contain no code"
    hint = ""
    if hasattr(value, "best_estimator_"):
        hint = "; save its best_estimator_"
    elif hasattr(value, "get_params"):
        hint = "; supported are registered methods and extractors and some scikit-learn estimators"
    return f"of type {_called(value)}, which bundles do not support{hint}"


def _is_scalar_type(value: type[np.generic]) -> bool:
    try:
        dtype = np.dtype(value)
    except TypeError:  # abstract, such as numpy.floating
        return False
    return dtype.type is value and dtype.itemsize > 0 and _is_plain(dtype)


def _tagged(tag: str, **content: Any) -> dict[str, Any]:
    return {"$": tag, **content}


def _training_data(neighbors: Any) -> dict[str, Any]:
    """Return the training data of a nearest-neighbour estimator, which `load` fits again.

    Its search tree is a compiled object that supports only pickle; a tree built from the same rows
    is identical.
    """
    if not hasattr(neighbors, "_fit_X"):
        return {}
    data = {"X": neighbors._fit_X}
    if hasattr(neighbors, "classes_"):
        if neighbors.outputs_2d_:
            columns = zip(neighbors.classes_, neighbors._y.T)
            data["y"] = np.column_stack([classes[codes] for classes, codes in columns])
        else:
            data["y"] = neighbors.classes_[neighbors._y]
    elif hasattr(neighbors, "_y"):
        data["y"] = neighbors._y
    return data


# ---- writing -------------------------------------------------------------------------------------


def _write(
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
        raw = _signed({"crossfit_bundle": FORMAT, "arrays": listed, **content})
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


def _has_own_page(path: Path) -> bool:
    """Return True if there is a page that crossfit did not write, which is never changed."""
    if not os.path.lexists(path):
        return False
    if path.is_symlink() or not path.is_file():
        return True
    with path.open(encoding="utf-8", errors="replace") as stream:
        return not is_model_card(stream.read(200))


def _may_replace(folder: Path) -> bool:
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


def _to_disk(stream: BufferedWriter) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _signed(content: Mapping[str, Any]) -> bytes:
    """Return the canonical bytes of a manifest, starting with its own hash."""
    digest = hashlib.sha256(_dumped(content)).hexdigest()
    return _dumped({"sha256": digest, **content}) + b"\n"


def _dumped(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, allow_nan=False).encode()


# ---- reading -------------------------------------------------------------------------------------


def _opened(path: Path, what: str) -> BufferedReader:
    """Open a regular file; reject links, pipes and devices."""
    try:
        regular = stat.S_ISREG(os.lstat(path).st_mode)
    except OSError as error:
        raise BundleError(f"there is no {what} {path.name} ({error.strerror})") from None
    if not regular:
        raise BundleError(f"{path.name} is not a regular file")
    return os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)
                             | getattr(os, "O_BINARY", 0)), "rb")  # fmt: skip


def _read_manifest(path: Path) -> bytes:
    with _opened(path, "manifest") as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > LARGEST_MANIFEST:
            raise BundleError(
                f"its manifest takes {size} bytes, more than the limit of {LARGEST_MANIFEST}"
            )
        raw = stream.read()
    _check_counts(raw)
    return raw


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


def _check_directory(stream: BufferedReader, size: int) -> None:
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


def _checked_manifest(raw: bytes) -> dict[str, Any]:
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
    if raw != _signed(content):
        raise BundleError("the manifest was damaged or changed after it was written")
    names = {"crossfit_bundle", "arrays", "written_by", "types", "model"}
    if set(content) - {"record"} != names:
        raise BundleError(f"the manifest must have the entries {', '.join(sorted(names))}")
    if not isinstance(content["types"], dict) or len(content["types"]) > _ESTIMATORS:
        raise BundleError("the manifest does not list the types of the model")
    for name, source in content["types"].items():
        parts = _fields(source, ("distribution", "version"))
        if not all(isinstance(part, str) and re.fullmatch(r"\w[\w.+!-]*", part) for part in parts):
            raise BundleError(f"the type {name!r} has no valid distribution and version")
    return content


def _fields(node: Any, names: Iterable[str]) -> list[Any]:
    """Return the entries of a JSON object, which must be exactly these."""
    names = tuple(names)
    if not isinstance(node, dict) or set(node) - {"$"} != set(names):
        raise ValueError(f"expected an object with {', '.join(names)}")
    return [node[name] for name in names]


class _Decoder:
    """Converts JSON and arrays back to a model."""

    def __init__(
        self, archive: zipfile.ZipFile, size: int, types: Mapping[str, Mapping[str, str]]
    ) -> None:
        self.archive = archive
        self.types = types
        self.estimators = 0
        members = archive.infolist()
        self.unread = {info.filename: info for info in members}
        if (
            len(self.unread) < len(members)
            or any(info.compress_type != zipfile.ZIP_STORED for info in members)
            # Members that overlap would need more memory than the size of the file.
            or sum(info.file_size for info in members) > size
        ):
            raise BundleError("the array file was not written by crossfit")

    def finish(self) -> None:
        """Check that every array is referred to."""
        if self.unread:
            raise BundleError(f"nothing refers to the array {next(iter(self.unread))}")

    def decode(self, node: Any, path: _Place, depth: int) -> Any:
        if depth > _DEPTH:
            raise BundleError(f"values are nested more than {_DEPTH} levels deep")
        decode = partial(self.decode, depth=depth + 1)
        if isinstance(node, list):
            return [decode(part, path.item(i)) for i, part in enumerate(node)]
        if not isinstance(node, dict):
            return node
        if "$" not in node:
            return {key: decode(part, path.item(key)) for key, part in node.items()}
        try:
            return self._tagged(node, path, decode)
        except BundleError:
            raise
        except Exception as error:
            raise BundleError(f"{path}: {_reason(error)}") from error

    def _tagged(
        self, node: dict[str, Any], path: _Place, decode: Callable[[Any, _Place], Any]
    ) -> Any:
        def parts(*names: str) -> list[Any]:
            return [
                decode(part, path.part(name)) for name, part in zip(names, _fields(node, names))
            ]

        match node["$"]:
            case "float":
                return float({"nan": "nan", "inf": "inf", "-inf": "-inf"}[parts("value")[0]])
            case "tuple":
                return tuple(*parts("items"))
            case "set" | "frozenset" as kind:
                (items,) = parts("items")
                _check_hashes(items)
                return (set if kind == "set" else frozenset)(items)
            case "dict":
                (items,) = parts("items")
                _check_hashes(key for key, _ in items)
                return dict(items)
            case "slice":
                return slice(*parts("items")[0])
            case "scalar":
                dtype, value = parts("dtype", "value")
                scalar = _dtype(dtype).type
                return scalar(value.encode("latin-1") if scalar is np.bytes_ else value)
            case "dtype":
                return _dtype(*parts("value"))
            case "scalar type":
                return _dtype(*parts("value")).type
            case "array":
                return self._array(*parts("number"))
            case "objects":
                shape, items = parts("shape", "items")
                if math.prod(shape) != len(items) or min(shape, default=0) < 0:
                    raise ValueError(f"{len(items)} objects do not fill an array of shape {shape}")
                _check_rows(tuple(shape))
                held = np.empty(len(items), object)
                for i, item in enumerate(items):
                    held[i] = item
                return held.reshape(shape)
            case "csr":
                names = ("data", "indices", "indptr")
                matrix, shape, *arrays = parts("matrix", "shape", *names)
                if shape[1] > _COLUMNS:
                    raise ValueError(f"a sparse matrix of {shape[1]} columns is too wide")
                sparse = (sp.csr_matrix if matrix else sp.csr_array)(tuple(arrays), tuple(shape))
                # Matrix products use the indices unchecked.
                sparse.check_format(full_check=True)
                return sparse
            case "RandomState":
                key, position, has_gauss, gauss = parts("key", "position", "has_gauss", "gauss")
                if not 0 <= position <= 624:  # used as an index unchecked
                    raise ValueError("the state of a RandomState is out of range")
                state = np.random.RandomState()
                state.set_state(("MT19937", key, position, has_gauss, gauss))
                return state
            case "path":
                return Path(*parts("value"))
            case "Ragged":
                return Ragged(*parts("values", "offsets", "info"))
            case "Views":
                return _views(Views, *parts("values", "index", "groups"))
            case "Channels":
                return _views(Channels, *parts("values", "index", "groups"))
            case "similarity":
                from crossfit.similarities import resolve

                return resolve(*parts("name"))
            case "object":
                name, params, state, arrays = parts("type", "params", "state", "arrays")
                return self._estimator(name, params, state, arrays, path)
        raise ValueError(f"{node['$']!r} is not a kind of value")

    def _array(self, number: Any) -> NDArray[Any]:
        info = self.unread.pop(f"arr_{number}.npy", None)
        if info is None:
            raise ValueError(f"there is no array {number!r}, or it is referred to twice")
        return _read_array(self.archive, info)

    def _estimator(
        self,
        name: Any,
        params: dict[str, Any],
        state: dict[str, Any],
        arrays: dict[str, Any],
        path: _Place,
    ) -> Any:
        source = self.types.get(name) if isinstance(name, str) else None
        home = _home(name, (source or {}).get("distribution")) if isinstance(name, str) else None
        if home is None:
            if source is None:
                raise BundleError(f"{path} is of type {name!r}, which bundles may not contain")
            distribution = source["distribution"]
            raise BundleError(
                f"{path} is of type {name!r}, which no installed plugin provides; according to the "
                f"bundle it comes from {distribution} {source['version']}; if you trust that, "
                f"pip install {distribution}"
            )
        cls = registry.resolve_target(home[0])
        if not isinstance(cls, type):
            raise BundleError(f"{path}: {name!r} is not a class")
        if name == _PIPELINE and params.get("memory") is not None:
            # joblib unpickles the files of a cache folder.
            raise BundleError(f"{path}: a bundle may not set the cache folder of a pipeline")
        self.estimators += 1
        if self.estimators > _ESTIMATORS:
            raise BundleError(f"it consists of more than {_ESTIMATORS} estimators")
        # A bundle lacks the parameters that were added after it was written.
        made = cls(**{**getattr(cls, "_absent_parameters", {}), **params})
        _check_params(made, path)
        for mapping in (state, arrays):
            _check_names(cls, mapping, path)
        if name in _NEIGHBORS:
            return made.fit(**state) if state else made
        if hasattr(cls, "__crossfit_restore__"):
            made.__crossfit_restore__(state, arrays)
            return made
        # Parameters are set by the constructor only, including those that were left out.
        known = made.get_params(deep=False)
        clash = [key for key in state if key in known]
        if clash or arrays:
            raise BundleError(f"{path}: {[*clash, *arrays][0]!r} is not a fitted attribute")
        vars(made).update(state)
        if name in _VECTORIZERS and "vocabulary_" in state:
            # The values become column indices, which matrix products use unchecked.
            columns = state["vocabulary_"].values()
            if sorted(columns) != list(range(len(columns))):
                raise BundleError(f"{path}.vocabulary_ does not number its terms consecutively")
        return made


def _dtype(text: Any) -> np.dtype[Any]:
    if not isinstance(text, str) or not re.fullmatch(r"[<>|][biufcSUmM]\d+(\[\w+\])?", text):
        raise ValueError(f"{text!r} is not a supported dtype")
    dtype = np.dtype(text)
    if not _is_plain(dtype):
        raise ValueError(f"{text!r} is not a supported dtype")
    return dtype


def _views(cls: type[Views], values: Any, index: Any, groups: Any) -> Views:
    for part in values.values():
        if not isinstance(part, (np.ndarray, Ragged, Channels, sp.csr_matrix, sp.csr_array)):
            raise ValueError(f"a view of {cls.__name__} cannot be of type {_called(part)}")
    sizes = {len(index.get(name, range(n_rows(part)))) for name, part in values.items()}
    numbers = [*index.values(), *([] if groups is None else [groups])]
    if (
        len(sizes) != 1
        or not set(index) <= set(values)
        or any(part.dtype != np.int64 or part.shape != (max(sizes),) for part in numbers)
        or any(np.any(at < -1) or np.any(at >= n_rows(values[name])) for name, at in index.items())
    ):
        raise ValueError(f"the views of a {cls.__name__} do not fit together")
    return cls._build(values, index, groups, sizes.pop())
