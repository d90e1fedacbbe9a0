"""Features of views, computed once for all cells with the same rows and settings."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Self

import joblib
import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags

from crossfit._files import reserve
from crossfit._warnings import warn
from crossfit.compose import ALL_VIEWS, ChannelUnion, Named, ViewTransformer, check_transformers
from crossfit.experiment.identity import describe
from crossfit.experiment.keys import key_of
from crossfit.experiment.store import Store
from crossfit.experiment.store_files import (
    StoreError,
    check_regular,
    check_sum,
    read_json,
    warn_of_damage,
)
from crossfit.views import Channels, Ragged, Views, n_rows

__all__ = ["StoredFeatures", "needs_fit"]

# Larger arrays (in bytes) are memory-mapped, so that processes share them.
_MAPPED = 64 * 2**20
# Warnings of the extraction, in the folder of stored features.
WARNINGS = "warnings.json"
# Number of results kept in memory: features of the folds of a search.
_KEPT = 12
_memory: OrderedDict[str, tuple[Any, list[str]]] = OrderedDict()


class StoredFeatures(ViewTransformer):
    """A ViewTransformer that reuses earlier results.

    Results are identified by the content of the training rows, the rows to transform and all
    settings, so a result that was fitted on other rows is never used. Fitted transformers are not
    stored: if one is needed later, it is fitted again on the same rows.

    Parameters
    ----------
    transformers, remainder
        As in `ViewTransformer`.
    folder : str, optional
        Folder of the store, whose ``features/`` holds the arrays. By default, the most recent
        results are kept in memory.
    salt : str, default=""
        Part of every key: the revision of the data set, because rows may be file names, whose
        content is not read.
    """

    def __init__(
        self,
        transformers: Named,
        remainder: str = "passthrough",
        folder: str | None = None,
        salt: str = "",
    ) -> None:
        super().__init__(transformers, remainder)
        self.folder = folder
        self.salt = salt

    def fit_transform(  # type: ignore[override]
        self, X: Views, y: ArrayLike | None = None
    ) -> Views:
        """Fit every transformer on its view and transform it, or reuse earlier results."""
        check_transformers("features", self.transformers)
        missing = [name for name in self._by_view() if name not in X]
        if missing:
            raise ValueError(f"features name the view {missing[0]!r}, got {', '.join(X.names)}")
        self._keys: dict[str, str] = {}
        self._rows: dict[str, tuple[Any, Any]] = {}
        self.transformers_ = dict.fromkeys(X.names, self.remainder) | self._by_view()
        self.views_in_ = {name: name for name in X.names}
        self._fitted: dict[str, Any] = {}
        if (together := self._of_all_views()) is not None:
            pairs = [(name, *X.distinct(name)) for name in X.names]
            rows = joblib.hash((pairs, X.groups, y), coerce_mmap=True)
            self._rows[ALL_VIEWS] = (X, y)
            self._keys[ALL_VIEWS] = key_of(
                {"transformer": describe(together), "rows": rows, "salt": self.salt}
            )
            X = self._together(X)
        for name, transformer in self._by_view().items():
            values = X.distinct(name)[0]
            labels = None if y is None else X.item_labels(name, y)
            self._rows[name] = (values, labels)
            rows = (
                joblib.hash((values, labels), coerce_mmap=True) if needs_fit(transformer) else None
            )
            self._keys[name] = key_of(
                {"transformer": describe(transformer), "rows": rows, "salt": self.salt}
            )
        return self._by_views(X)

    def fit(  # type: ignore[override]
        self, X: Views, y: ArrayLike | None = None
    ) -> Self:
        """Fit every transformer on its view."""
        self.fit_transform(X, y)
        return self

    def transform(self, X: Views) -> Views:
        """Transform any subset of the fitted views, or reuse earlier results."""
        return self._by_views(self._together(X) if ALL_VIEWS in self._keys else X)

    def _together(self, X: Views) -> Views:
        """Apply the transformer of all views to one view after the other."""

        def compute(name: str, values: Any) -> Any:
            if ALL_VIEWS not in self._fitted:
                training, labels = self._rows[ALL_VIEWS]
                made = clone(self._of_all_views())
                self._fitted[ALL_VIEWS] = made.fit(training, labels)
            return self._fitted[ALL_VIEWS].transform(Views({name: values}))[name]

        def found(values: Any, name: str) -> Any:
            rows = joblib.hash((name, values), coerce_mmap=True)
            key = key_of({"fit": self._keys[ALL_VIEWS], "rows": rows})
            return _looked_up(key, self.folder, partial(compute, name, values), n_rows(values))

        return X.map(found)

    def _by_views(self, X: Views) -> Views:
        transformed = {
            name: self._transformed(name, X.distinct(name)[0])
            for name in X.names
            if name in self._keys
        }
        return self._assemble(X, transformed)

    def _transformed(self, name: str, values: Any) -> Any:
        key = key_of({"fit": self._keys[name], "rows": joblib.hash(values, coerce_mmap=True)})
        compute = partial(self._compute, name, values)
        return _looked_up(key, self.folder, compute, n_rows(values))

    def _compute(self, name: str, values: Any) -> Any:
        if name not in self._fitted:
            training, labels = self._rows[name]
            self._fitted[name] = clone(dict(self.transformers)[name]).fit(training, labels)
        return self._fitted[name].transform(values)


def needs_fit(transformer: Any) -> bool:
    """Return True if a transformer learns from training rows."""
    if isinstance(transformer, ChannelUnion):
        return any(needs_fit(part) for _, part in transformer.transformers)
    if isinstance(transformer, Pipeline):
        return any(needs_fit(part) for _, part in transformer.steps)
    return bool(get_tags(transformer).requires_fit)


def _looked_up(key: str, folder: str | None, compute: Callable[[], Any], n: int) -> Any:
    if folder is None:
        if key not in _memory:
            _memory[key] = _noted(compute)
            while len(_memory) > _KEPT:
                _memory.popitem(last=False)
        _memory.move_to_end(key)
        values, warned = _memory[key]
        _warn_again(warned)
        return values
    store = Store(folder)
    home = store.folder / "features" / key
    found = _kept(home, n)
    if found is None:
        # One process computes the features, the others wait for it.
        with store.waiting_claim(f"features-{key}"):
            found = _kept(home, n)
            if found is None:
                values, warned = _noted(compute)
                if _is_storable(values):
                    with store.new_folder(home) as draft:
                        _write(values, draft)
                        if warned:
                            (draft / WARNINGS).write_text(json.dumps(warned), encoding="utf-8")
                    found = _kept(home, n)
                if found is None:
                    _warn_again(warned)
                    return values
    values, warned = found
    _warn_again(warned)
    return values


def _noted(compute: Callable[[], Any]) -> tuple[Any, list[str]]:
    """Return features and the warnings of their extraction, which concern every use of them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        values = compute()
    plain = [each for each in caught if each.category is UserWarning]
    for other in caught:
        if other.category is not UserWarning:  # such as damage of a cache, or a deprecation
            warn(other.message)
    return values, list(dict.fromkeys(str(each.message) for each in plain))


def _warn_again(warned: list[str]) -> None:
    for message in warned:
        warn(message)


def _kept(home: Path, n: int) -> tuple[Any, list[str]] | None:
    """Return the stored features of n items and their warnings, or None; warn of damage."""
    if not os.path.lexists(home):
        return None
    try:
        found = _read(home)
        warned = read_json(home / WARNINGS) if os.path.lexists(home / WARNINGS) else []
        if not isinstance(warned, list) or not all(isinstance(text, str) for text in warned):
            raise ValueError(f"{WARNINGS} is not a list of warnings")
        if n_rows(found) != n:
            raise ValueError(f"there are {n_rows(found)} rows for {n} items")
    except StoreError as error:
        warn_of_damage(error)
    except Exception as error:  # damage may cause any error
        warn_of_damage(StoreError(f"{home} is damaged: {type(error).__name__}: {error}"))
    else:
        return found, warned
    return None


def _is_storable(values: Any) -> bool:
    if isinstance(values, Channels):
        return all(_is_storable(values.distinct(name)[0]) for name in values.names)
    if isinstance(values, Ragged):
        return _is_storable(values.values) and all(
            _is_storable(part) or _is_json(part) for part in values.info.values()
        )
    return sp.issparse(values) or (isinstance(values, np.ndarray) and not values.dtype.hasobject)


def _is_json(value: Any) -> bool:
    return value is None or (
        isinstance(value, (str, int, float, tuple)) and value == _thawed(json.dumps(value))
    )


def _thawed(text: str) -> Any:
    value = json.loads(text)
    return tuple(value) if isinstance(value, list) else value


def _write(values: Any, folder: Path) -> None:
    def array(part: Any) -> str:
        name = f"{sum(1 for _ in folder.iterdir())}.npy"
        with open(folder / name, "wb") as stream:
            # NumPy does not report why a write failed, so space, also for the header, is reserved.
            reserve(stream, part.nbytes + 2**12)
            np.save(stream, part, allow_pickle=False)
            stream.truncate()
        return name

    def tree(part: Any) -> dict[str, Any]:
        if isinstance(part, Channels):
            # A transformer returns one row per item: channels of a view share no items.
            return {"channels": {name: tree(part[name]) for name in part.names}}
        if isinstance(part, Ragged):
            info = {
                key: tree(value) if isinstance(value, np.ndarray) else {"json": value}
                for key, value in part.info.items()
            }
            return {"ragged": [array(part.values), array(part.offsets)], "info": info}
        if sp.issparse(part):
            part = part.tocsr()
            return {
                "csr": [array(part.data), array(part.indices), array(part.indptr)],
                "shape": list(part.shape),
                "matrix": isinstance(part, sp.spmatrix),
            }
        return {"array": array(part)}

    found = tree(values)
    (folder / "values.json").write_text(json.dumps(found), encoding="utf-8")


def _read(folder: Path) -> Any:
    def array(name: str) -> Any:
        path = folder / str(name)
        if not re.fullmatch(r"\d+\.npy", path.name) or path.parent != folder:
            raise ValueError(f"{name!r} is not the name of an array")
        check_regular(path)
        check_sum(path)
        if path.stat().st_size > _MAPPED:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        return np.load(path, allow_pickle=False)

    def tree(part: Any) -> Any:
        if "channels" in part:
            return Channels({name: tree(inner) for name, inner in part["channels"].items()})
        if "ragged" in part:
            info = {
                key: _thawed(json.dumps(value["json"])) if "json" in value else tree(value)
                for key, value in part["info"].items()
            }
            values, offsets = map(array, part["ragged"])
            return Ragged(values, offsets, info)
        if "csr" in part:
            kind = sp.csr_matrix if part["matrix"] else sp.csr_array
            found = kind(tuple(map(array, part["csr"])), shape=tuple(part["shape"]))
            found.check_format(full_check=True)  # matrix products do not check the indices
            return found
        return array(part["array"])

    return tree(read_json(folder / "values.json"))
