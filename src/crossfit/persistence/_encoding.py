"""From a model to JSON and arrays."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from crossfit.persistence.allowed import (
    DEPTH,
    ESTIMATORS,
    NEIGHBORS,
    PIPELINE,
    BundleError,
    Place,
    check_hashes,
    check_names,
    check_params,
    check_rows,
    home_of,
    is_plain,
    name_of,
    type_name,
)
from crossfit.views import Channels, Ragged, Views

__all__ = [
    "Encoder",
    "tagged",
]


class Encoder:
    """Converts a model to JSON, and collects its arrays and the names of its types."""

    def __init__(self) -> None:
        self.arrays: list[NDArray[Any]] = []
        self.types: dict[str, dict[str, str]] = {}
        self.estimators = 0

    def encode(self, value: Any, path: Place, depth: int) -> Any:
        if depth > DEPTH:
            raise BundleError(
                f"{str(path)[:80]}...: values are nested more than {DEPTH} levels deep; one may "
                "contain itself"
            )
        encode = partial(self.encode, depth=depth + 1)
        kind = type(value)
        if value is None or kind in (bool, int, str):
            return value
        if kind is float:
            return value if math.isfinite(value) else tagged("float", value=repr(value))
        if kind is list:
            return [encode(part, path.item(i)) for i, part in enumerate(value)]
        if kind is tuple:
            items = [encode(part, path.item(i)) for i, part in enumerate(value)]
            return tagged("tuple", items=items)
        if kind in (set, frozenset):
            # Sorted, so that the same model gives the same bundle.
            self._check_keys(value, path)
            items = [encode(part, path.one_of("an element")) for part in sorted(value, key=repr)]
            return tagged(kind.__name__, items=items)
        if kind is dict:
            if all(type(key) is str and key != "$" for key in value):
                return {key: encode(part, path.item(key)) for key, part in value.items()}
            self._check_keys(value, path)
            pairs = [
                [encode(key, path.one_of("a key")), encode(part, path.item(key))]
                for key, part in value.items()
            ]
            return tagged("dict", items=pairs)
        if kind is slice:
            bounds = (value.start, value.stop, value.step)
            return tagged("slice", items=[encode(bound, path) for bound in bounds])
        if isinstance(value, np.generic) and value.dtype.kind in "biufUS":
            return self._scalar(value, path)
        if kind in (np.ndarray, np.memmap):
            return self._array(np.asarray(value), path, depth)
        if kind in (sp.csr_matrix, sp.csr_array):
            parts = {"data": value.data, "indices": value.indices, "indptr": value.indptr}
            encoded = {name: self._array(part, path, depth) for name, part in parts.items()}
            return tagged("csr", matrix=kind is sp.csr_matrix, shape=list(value.shape), **encoded)
        if isinstance(value, np.dtype) and is_plain(value):
            return tagged("dtype", value=value.str)
        if isinstance(value, type) and issubclass(value, np.generic) and _is_scalar_type(value):
            return tagged("scalar type", value=np.dtype(value).str)
        if kind is np.random.RandomState:
            state = value.get_state(legacy=False)
            if state["bit_generator"] != "MT19937":
                raise BundleError(f"{path} is a RandomState that does not use MT19937")
            names = ("key", "position", "has_gauss", "gauss")
            held = (*state["state"].values(), state["has_gauss"], state["gauss"])
            return tagged(
                "RandomState", **{part: encode(at, path) for part, at in zip(names, held)}
            )
        if isinstance(value, Path):
            return tagged("path", value=str(value))
        if kind is Ragged:
            parts = {"values": value.values, "offsets": value.offsets, "info": dict(value.info)}
            return tagged(
                "Ragged", **{name: encode(part, path.part(name)) for name, part in parts.items()}
            )
        if kind in (Views, Channels):
            parts = {"values": value._values, "index": value._index, "groups": value._groups}
            encoded = {name: encode(part, path.part(name)) for name, part in parts.items()}
            return tagged(kind.__name__, **encoded)
        if isinstance(value, partial):
            return self._named_similarity(value, path)
        return self._estimator(value, path, depth)

    def _check_keys(self, keys: Iterable[Any], path: Place) -> None:
        try:
            check_hashes(keys)
        except ValueError as error:
            raise BundleError(f"{path}: {error}") from None

    def _scalar(self, value: np.generic, path: Place) -> dict[str, Any]:
        if not is_plain(value.dtype):
            raise BundleError(f"{path} is a {value.dtype}, which not every machine supports")
        plain = value.item()
        if isinstance(plain, bytes):
            plain = plain.decode("latin-1")
        return tagged("scalar", dtype=value.dtype.str, value=self.encode(plain, path, 0))

    def _array(self, value: NDArray[Any], path: Place, depth: int) -> dict[str, Any]:
        if value.dtype == object:
            items = [
                self.encode(part, path.one_of("an element"), depth + 1) for part in value.ravel()
            ]
            return tagged("objects", shape=list(value.shape), items=items)
        if value.dtype.kind in "SU" and not value.dtype.itemsize:
            value = value.astype(f"{value.dtype.kind}1")
        if not is_plain(value.dtype):
            raise BundleError(f"{path} is an array of type {value.dtype}, not of numbers")
        if 0 in value.shape:
            try:
                check_rows(value.shape)
            except ValueError as error:
                raise BundleError(f"{path} is {error}") from None
        self.arrays.append(value)
        return tagged("array", number=len(self.arrays) - 1)

    def _named_similarity(self, value: partial[Any], path: Place) -> dict[str, Any]:
        from crossfit.similarities import MEASURES, pairwise_similarity

        name = value.keywords.get("measure")
        if value.func is not pairwise_similarity or value.args or len(value.keywords) != 1:
            raise BundleError(f"{path} is a function; bundles contain no code")
        assert name in MEASURES
        return tagged("similarity", name=name)

    def _estimator(self, value: Any, path: Place, depth: int) -> dict[str, Any]:
        cls = type(value)
        name = name_of(cls)
        home = None if name is None else home_of(name)
        if name is None or home is None or not hasattr(value, "get_params"):
            raise BundleError(f"{path} is {_refused(value)}")
        self.estimators += 1
        if self.estimators > ESTIMATORS:
            raise BundleError(f"it consists of more than {ESTIMATORS} estimators")
        self.types[name] = dict(zip(("distribution", "version"), home[1:]))
        forgotten = getattr(cls, "__crossfit_transient__", ())
        params = {
            key: part for key, part in value.get_params(deep=False).items() if key not in forgotten
        }
        if name == PIPELINE:
            params["memory"] = None
        arrays: Mapping[str, Any] = {}
        if name in NEIGHBORS:
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
            check_names(cls, mapping, path)
        unfit = [key for key, part in arrays.items()
                 if type(part) is not np.ndarray or part.dtype == object]  # fmt: skip
        if unfit:
            raise BundleError(
                f"{path}: __crossfit_state__ returns {unfit[0]!r} among the arrays, but it is of "
                f"type {type_name(arrays[unfit[0]])}"
            )

        def encoded(mapping: Mapping[str, Any]) -> dict[str, Any]:
            return {
                key: self.encode(part, path.part(key), depth + 1) for key, part in mapping.items()
            }

        node = tagged(
            "object", type=name, params=encoded(params), state=encoded(state),
            arrays=encoded(arrays),
        )  # fmt: skip
        check_params(value, path)
        return node


def _refused(value: Any) -> str:
    if callable(value) and not isinstance(value, type) and not hasattr(value, "get_params"):
        return f"the function {getattr(value, '__name__', '?')}; bundles contain no code"
    hint = ""
    if hasattr(value, "best_estimator_"):
        hint = "; save its best_estimator_"
    elif hasattr(value, "get_params"):
        hint = "; supported are registered methods and extractors and some scikit-learn estimators"
    return f"of type {type_name(value)}, which bundles do not support{hint}"


def _is_scalar_type(value: type[np.generic]) -> bool:
    try:
        dtype = np.dtype(value)
    except TypeError:  # abstract, such as numpy.floating
        return False
    return dtype.type is value and dtype.itemsize > 0 and is_plain(dtype)


def tagged(tag: str, **content: Any) -> dict[str, Any]:
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
