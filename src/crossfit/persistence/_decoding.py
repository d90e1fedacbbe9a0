"""From JSON and arrays to a model; all that they contain is checked before it is used."""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from crossfit import registry
from crossfit.persistence.allowed import (
    DEPTH,
    ESTIMATORS,
    NEIGHBORS,
    PIPELINE,
    VECTORIZERS,
    BundleError,
    Place,
    check_hashes,
    check_names,
    check_params,
    check_rows,
    home_of,
    is_plain,
    reason_of,
    type_name,
)
from crossfit.persistence.files import fields
from crossfit.views import Channels, Ragged, Views, n_rows

__all__ = [
    "Decoder",
]

_COLUMNS = 2**31


class Decoder:
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

    def decode(self, node: Any, path: Place, depth: int) -> Any:
        if depth > DEPTH:
            raise BundleError(f"values are nested more than {DEPTH} levels deep")
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
            raise BundleError(f"{path}: {reason_of(error)}") from error

    def _tagged(
        self, node: dict[str, Any], path: Place, decode: Callable[[Any, Place], Any]
    ) -> Any:
        def parts(*names: str) -> list[Any]:
            return [decode(part, path.part(name)) for name, part in zip(names, fields(node, names))]

        match node["$"]:
            case "float":
                return float({"nan": "nan", "inf": "inf", "-inf": "-inf"}[parts("value")[0]])
            case "tuple":
                return tuple(*parts("items"))
            case "set" | "frozenset" as kind:
                (items,) = parts("items")
                check_hashes(items)
                return (set if kind == "set" else frozenset)(items)
            case "dict":
                (items,) = parts("items")
                check_hashes(key for key, _ in items)
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
                check_rows(tuple(shape))
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
        path: Place,
    ) -> Any:
        source = self.types.get(name) if isinstance(name, str) else None
        home = home_of(name, (source or {}).get("distribution")) if isinstance(name, str) else None
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
        if name == PIPELINE and params.get("memory") is not None:
            # joblib unpickles the files of a cache folder.
            raise BundleError(f"{path}: a bundle may not set the cache folder of a pipeline")
        self.estimators += 1
        if self.estimators > ESTIMATORS:
            raise BundleError(f"it consists of more than {ESTIMATORS} estimators")
        # A bundle lacks the parameters that were added after it was written.
        made = cls(**{**getattr(cls, "_absent_parameters", {}), **params})
        check_params(made, path)
        for mapping in (state, arrays):
            check_names(cls, mapping, path)
        if name in NEIGHBORS:
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
        if name in VECTORIZERS and "vocabulary_" in state:
            # The values become column indices, which matrix products use unchecked.
            columns = state["vocabulary_"].values()
            if sorted(columns) != list(range(len(columns))):
                raise BundleError(f"{path}.vocabulary_ does not number its terms consecutively")
        return made


def _read_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(info) as stream:
        version = np.lib.format.read_magic(stream)
        if version != (1, 0):  # later ones are for structured types
            raise ValueError(f"the array {info.filename} is of format {version}, not (1, 0)")
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        if not is_plain(dtype):
            raise ValueError(f"the array {info.filename} is of type {dtype}, not of numbers")
        # Before memory is allocated for it.
        size = math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or size != info.file_size - stream.tell():
            raise ValueError(f"the array {info.filename} does not have the size that it declares")
        check_rows(shape)
    with archive.open(info) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def _dtype(text: Any) -> np.dtype[Any]:
    if not isinstance(text, str) or not re.fullmatch(r"[<>|][biufcSUmM]\d+(\[\w+\])?", text):
        raise ValueError(f"{text!r} is not a supported dtype")
    dtype = np.dtype(text)
    if not is_plain(dtype):
        raise ValueError(f"{text!r} is not a supported dtype")
    return dtype


def _views(cls: type[Views], values: Any, index: Any, groups: Any) -> Views:
    for part in values.values():
        if not isinstance(part, (np.ndarray, Ragged, Channels, sp.csr_matrix, sp.csr_array)):
            raise ValueError(f"a view of {cls.__name__} cannot be of type {type_name(part)}")
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
