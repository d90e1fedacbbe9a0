"""Checkpoints: all that a killed fit needs to end with the weights of one that ran through."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from skorch.callbacks import Callback
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from crossfit._arguments import check_arguments, integer
from crossfit._files import clear_drafts, whole_file
from crossfit._fitted import set_fitted
from crossfit._identities import entry_named
from crossfit.extraction.weights import read_tensors

if TYPE_CHECKING:
    from skorch import NeuralNet

__all__ = ["Checkpoint"]

FORMAT = 3

_ENTRIES = {
    "format": int, "identity": dict, "module": dict, "optimizer": dict, "callbacks": dict,
    "callback_settings": dict, "history": str, "features": str, "arrays": dict, "seed": int,
    "random": dict, "stopped": bool,
}  # fmt: skip

_OTHER = {"method": "of another method", "parameters": "with other parameters",
          "data": "on other data"}  # fmt: skip


class Checkpoint(Callback):
    """Write the state of a fit to a file after every epoch, and go on from it.

    Goes into ``callbacks`` of a neural method. If the file is there when ``fit`` begins, the fit
    goes on from it and ends with the same weights, bit for bit, as one that ran through
    (on the CPU, with equal versions and threads). ``max_epochs`` may be raised, but where the
    method's schedules follow it; with other parameters or other data the file is refused. A fit
    that a callback stopped goes on if one of its callbacks is gone or has other parameters, a
    longer patience say; else it is done.

    The file holds the parameters, the optimizer, schedules and every other callback's state, the
    history, the epoch, the fitted features (a vocabulary, say), the seed, which says what rows are
    held out, and all random states. So ``random_state`` may be None, or a RandomState that has
    moved on. It is written beside its place and renamed, so that it is never half there: where
    there is no room for it the one before stays. What processes that were killed in the middle of
    a writing left beside it goes when the next fit begins. It carries a hash of its content, and
    is read with ``weights_only=True``: reading it executes nothing.

    Parameters
    ----------
    path : path-like
        The file.
    every : int, default=1
        Epochs between writings. The last epoch is always written.
    """

    def __init__(self, path: str | os.PathLike[str], every: int = 1) -> None:
        self.path = path
        self.every = every

    def initialize(self) -> Checkpoint:
        """Check the parameters."""
        check_arguments(
            "Checkpoint",
            {"path": [str, os.PathLike], "every": [integer(1)]},
            {"path": self.path, "every": self.every},
        )
        return self

    # ---- reading -----------------------------------------------------------------------------

    def read(self, identity: Mapping[str, str]) -> dict[str, Any] | None:
        """Return what the file holds, or None if there is no file.

        Parameters
        ----------
        identity : mapping of str to str
            What the fit is of: ``method``, ``parameters`` and ``data``, hashed.

        Raises
        ------
        ValueError
            If the file is not a regular one, cannot be read, was damaged or belongs to another
            fit.
        """
        path = Path(self.path)
        clear_drafts(path)
        if not os.path.lexists(path):
            return None
        with self._told("cannot read"):
            if not path.is_file():  # reading a pipe would wait
                raise ValueError("it is not a regular file")
            held = read_tensors(path)
            if not isinstance(held, dict) or "format" not in held:
                raise ValueError("it is not a checkpoint of crossfit")
            if held["format"] != FORMAT:
                raise ValueError(f"its format is {held['format']}, not {FORMAT}")
            if held.pop("sha256", None) != _sha256(held):
                raise ValueError("it was damaged or changed after it was written")
            if (
                set(held) != set(_ENTRIES)
                or not all(isinstance(held[name], kind) for name, kind in _ENTRIES.items())
                or not 0 <= held["seed"] < 2**64
            ):
                raise ValueError("it has not the entries of a checkpoint")
        written = str(held["identity"].get("method"))
        if ":" not in written:  # version 0.1.0 wrote the path of the class, with a dot
            written = ":".join(written.rsplit(".", 1))
        method = entry_named(written)
        held["identity"]["method"] = written if method is None else method.name
        for what, mine in identity.items():
            if held["identity"].get(what) != mine:
                raise ValueError(
                    f"the checkpoint {str(path)!r} belongs to a fit {_OTHER[what]}: delete it, or "
                    "give this fit a path of its own"
                )
        return held

    def features(self, held: Mapping[str, Any], owner: Any) -> None:
        """Bring what a method learned before training to the state that was read."""
        with self._told("cannot go on from"):
            arrays = {name: part.numpy() for name, part in held["arrays"].items()}
            owner._restore_features(json.loads(held["features"]), arrays)

    def restore(self, held: Mapping[str, Any], net: NeuralNet, generator: torch.Generator) -> bool:
        """Bring a net to the state that was read; return whether its training stays stopped."""
        with self._told("cannot go on from"):
            net.module_.load_state_dict(held["module"])
            _check_groups(held["optimizer"], net.optimizer_)
            net.optimizer_.load_state_dict(held["optimizer"])
            for name, callback in net.callbacks_:
                _restore_callback(callback, held["callbacks"].get(name, {}))
            for row in json.loads(held["history"]):
                net.history.append({**row, "batches": []})
            generator.set_state(held["random"]["order"])
            torch.set_rng_state(held["random"]["cpu"])
            if "cuda" in held["random"] and torch.device(net.device).type == "cuda":
                torch.cuda.set_rng_state(held["random"]["cuda"], net.device)
            now = self.callback_settings(net)
            same = all(now.get(name) == then for name, then in held["callback_settings"].items())
            return bool(held["stopped"]) and same

    @contextlib.contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Turn whatever a damaged file leads to into one sentence."""
        try:
            yield
        except Exception as error:
            said = " ".join(str(error).split())[:300] or type(error).__name__
            plain = type(error) is ValueError
            raise ValueError(
                f"{what} the checkpoint {os.fspath(self.path)!r}: "
                f"{said if plain else f'{type(error).__name__}: {said}'}"
            ) from error

    # ---- writing -----------------------------------------------------------------------------

    def callback_states(self, net: NeuralNet) -> dict[str, Any]:
        """Return the state of every other callback.

        Raises
        ------
        TypeError
            If a callback holds what cannot be read back safely.
        """
        return {
            name: _callback_state(name, callback)
            for name, callback in net.callbacks_
            if not isinstance(callback, Checkpoint)
        }

    def callback_settings(self, net: NeuralNet) -> dict[str, Any]:
        """Return the plain parameters of every other callback."""
        return {
            name: {
                key: value
                for key, value in vars(callback).items()
                if not key.endswith("_") and isinstance(value, (bool, int, float, str, type(None)))
            }
            for name, callback in net.callbacks_
            if not isinstance(callback, Checkpoint)
        }

    def write(self, net: NeuralNet, generator: torch.Generator, stopped: bool) -> None:
        """Write the state of a net after an epoch."""
        random = {"order": generator.get_state(), "cpu": torch.get_rng_state()}
        if torch.device(net.device).type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(net.device)
        features, arrays = net.owner._features_state()
        held = {
            "format": FORMAT,
            "identity": self.identity_,
            "module": net.module_.state_dict(),
            "optimizer": net.optimizer_.state_dict(),
            "callbacks": self.callback_states(net),
            "callback_settings": self.callback_settings(net),
            "history": json.dumps(
                [{k: v for k, v in row.items() if k != "batches"} for row in net.history],
                default=float,
            ),
            "features": json.dumps(features),
            "arrays": {name: torch.from_numpy(array) for name, array in arrays.items()},
            "seed": torch.initial_seed(),
            "random": random,
            "stopped": stopped,
        }
        held["sha256"] = _sha256(held)
        path = Path(self.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path, "a checkpoint") as draft, open(draft, "wb") as file:
            torch.save(held, file)
            file.flush()
            os.fsync(file.fileno())


def _sha256(held: Any) -> str:
    """Hash plain values and tensors, each with its type, in their order."""
    digest = hashlib.sha256()

    def add(part: Any) -> None:
        digest.update(f"{type(part).__name__}(".encode())
        if isinstance(part, Tensor):
            part = part.detach().cpu().contiguous()
            digest.update(f"{part.dtype}{tuple(part.shape)}".encode())
            digest.update(part.reshape(-1).view(torch.uint8).numpy())
        elif isinstance(part, Mapping):
            for key, value in part.items():
                add(key)
                add(value)
        elif isinstance(part, (list, tuple)):
            for value in part:
                add(value)
        elif isinstance(part, (set, frozenset)):
            for text in sorted(map(repr, part)):
                add(text)
        else:
            digest.update(repr(part).encode(errors="surrogatepass"))
        digest.update(b")")

    add(held)
    return digest.hexdigest()


def _callback_state(name: str, callback: Any) -> dict[str, Any]:
    """Return what a callback learned in training: ``state_dict()``, or attributes in ``_``."""
    if hasattr(callback, "state_dict"):
        return {"": _plain(callback.state_dict(), name)}
    state = {}
    for key, value in vars(callback).items():
        # A class is a setting made out, not something learned.
        if key.endswith("_") and not key.startswith("_") and not isinstance(value, type):
            if hasattr(value, "state_dict"):
                value = {"state_dict": value.state_dict()}
            state[key] = _plain(value, f"{name}.{key}")
    return state


def _restore_callback(callback: Any, state: Mapping[str, Any]) -> None:
    """Take back `_callback_state`, under no names but those that it gives."""
    for key, value in state.items():
        if key == "" and hasattr(callback, "load_state_dict"):
            callback.load_state_dict(value)
        elif isinstance(value, dict) and "state_dict" in value:
            part = vars(callback).get(key)
            if not hasattr(part, "load_state_dict"):
                raise ValueError(f"the callback {type(callback).__name__} has no state {key!r}")
            if isinstance(part, LRScheduler):  # which takes over whatever names it is given
                _check_names(value["state_dict"], part.state_dict(), type(part).__name__)
            part.load_state_dict(value["state_dict"])
        else:
            set_fitted(callback, {key: value})


def _check_names(given: Any, own: Any, where: str) -> None:
    """Refuse names at any depth that an object's own state has not."""
    if isinstance(own, Mapping) and isinstance(given, Mapping):
        for key, value in given.items():
            if key in own:
                _check_names(value, own[key], where)
            elif isinstance(key, str):
                raise ValueError(f"{key!r} is not a part of the state of {where}")
    elif isinstance(own, (list, tuple)) and isinstance(given, (list, tuple)):
        for value, held in zip(given, own):
            _check_names(value, held, where)
    elif isinstance(own, Mapping) or isinstance(given, Mapping):
        raise ValueError(f"a part of the state of {where} is not what it should be")


def _check_groups(state: Any, optimizer: torch.optim.Optimizer) -> None:
    """Refuse an optimizer's state whose groups lack what this optimizer reads."""
    if not all(set(optimizer.defaults) <= set(group) for group in state["param_groups"]):
        raise ValueError("its optimizer lacks a setting")


def _plain(value: Any, where: str) -> Any:
    """Return a copy that ``torch.load(weights_only=True)`` reads back, or raise."""
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str, Tensor)):
        return value
    if isinstance(value, Mapping):
        return {key: _plain(part, where) for key, part in value.items()}
    if isinstance(value, (list, tuple, set)):
        return type(value)(_plain(part, where) for part in value)
    raise TypeError(
        f"a checkpoint cannot keep the callback's {where}, a {type(value).__name__}: give the "
        "callback state_dict() and load_state_dict()"
    )
