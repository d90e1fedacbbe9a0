"""Checkpoints, from which an interrupted fit resumes and ends with the same weights."""

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
    """Write the state of a fit to a file after every epoch, and resume from it.

    Pass it in ``callbacks`` of a neural method. If the file exists when ``fit`` begins, the fit
    resumes from it and ends with the same weights, bit for bit, as an uninterrupted fit (on the
    CPU, with equal versions and threads). ``max_epochs`` may be increased, unless the method's
    schedules depend on it. If other parameters or the data have changed, `fit` raises a
    ValueError. A fit that was stopped by a callback resumes only if one of its callbacks was
    removed or has other parameters, such as a longer patience.

    The file holds the weights, the states of the optimizer, schedules and all other callbacks, the
    history, the epoch, the fitted features (such as a vocabulary), the seed, which determines the
    held-out rows, and all random states. Therefore ``random_state`` may be None, or a RandomState
    that has advanced. The file is written under a temporary name and renamed, so it is never
    incomplete: if the disk is full, the previous file is kept. Temporary files of processes that
    were killed while writing are deleted when the next fit begins. The file carries a hash of its
    content and is read with ``weights_only=True``, which executes no code.

    Parameters
    ----------
    path : path-like
        The file.
    every : int, default=1
        Number of epochs between writes. The last epoch is always written.

    See Also
    --------
    crossfit.save : Store a fitted method; a checkpoint stores an unfinished fit.
    """

    def __init__(self, path: str | os.PathLike[str], every: int = 1) -> None:
        self.path = path
        self.every = every

    def initialize(self) -> Checkpoint:
        """Check the parameters.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If a parameter is invalid.
        """
        check_arguments(
            "Checkpoint",
            {"path": [str, os.PathLike], "every": [integer(1)]},
            {"path": self.path, "every": self.every},
        )
        return self

    # ---- reading -----------------------------------------------------------------------------

    def read(self, identity: Mapping[str, str]) -> dict[str, Any] | None:
        """Return the content of the file, or None if it does not exist.

        Parameters
        ----------
        identity : mapping of str to str
            Hashes that identify the fit: ``method``, ``parameters`` and ``data``.

        Returns
        -------
        dict or None
            Weights, states and identity of the interrupted fit.

        Raises
        ------
        ValueError
            If the file is not a regular one, cannot be read, is damaged or belongs to another
            fit.
        """
        path = Path(self.path)
        clear_drafts(path)
        if not os.path.lexists(path):
            return None
        with self._told("cannot read"):
            if not path.is_file():  # reading a pipe would block
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
                raise ValueError("it does not have the entries of a checkpoint")
        written = str(held["identity"].get("method"))
        if ":" not in written:  # version 0.1.0 wrote the path of the class, with a dot
            written = ":".join(written.rsplit(".", 1))
        method = entry_named(written)
        held["identity"]["method"] = written if method is None else method.name
        for what, mine in identity.items():
            if held["identity"].get(what) != mine:
                raise ValueError(
                    f"the checkpoint {str(path)!r} belongs to a fit {_OTHER[what]}; delete it, or "
                    "use another path for this fit"
                )
        return held

    def features(self, held: Mapping[str, Any], owner: Any) -> None:
        """Restore what a method learned before training, from the content of the file.

        Parameters
        ----------
        held : mapping
            Content of the file, from `read`.
        owner : NeuralEstimator
            The method that is being fitted.

        Raises
        ------
        ValueError
            If the content does not belong to such a method.
        """
        with self._told("cannot resume from"):
            arrays = {name: part.numpy() for name, part in held["arrays"].items()}
            owner._restore_features(json.loads(held["features"]), arrays)

    def restore(self, held: Mapping[str, Any], net: NeuralNet, generator: torch.Generator) -> bool:
        """Restore a net, its callbacks and all random states from the content of the file.

        Parameters
        ----------
        held : mapping
            Content of the file, from `read`.
        net : skorch.NeuralNet
            Initialized net with the same module and optimizer.
        generator : torch.Generator
            Source of the order of the batches.

        Returns
        -------
        bool
            Whether a callback had stopped the fit, and all callbacks have the same parameters now.

        Raises
        ------
        ValueError
            If the content does not fit the net.
        """
        with self._told("cannot resume from"):
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
        """Convert any error that a damaged file causes into one ValueError with the path."""
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

        Parameters
        ----------
        net : skorch.NeuralNet
            The net that is trained.

        Returns
        -------
        dict of str to dict
            By the name of the callback.

        Raises
        ------
        TypeError
            If a callback has state that cannot be read back safely.
        """
        return {
            name: _callback_state(name, callback)
            for name, callback in net.callbacks_
            if not isinstance(callback, Checkpoint)
        }

    def callback_settings(self, net: NeuralNet) -> dict[str, Any]:
        """Return the plain parameters of every other callback.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net that is trained.

        Returns
        -------
        dict of str to dict
            By the name of the callback.
        """
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
        """Write the state of a net to the file, after an epoch.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net that is trained.
        generator : torch.Generator
            Source of the order of the batches.
        stopped : bool
            Whether a callback has stopped the fit.

        Raises
        ------
        TypeError
            If a callback has state that cannot be read back safely.
        OSError
            If the file cannot be written; the previous one is kept.
        """
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
    """Return a hash of plain values and tensors, including their types and order."""
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
    """Return the state of a callback: ``state_dict()``, or its attributes that end in ``_``."""
    if hasattr(callback, "state_dict"):
        return {"": _plain(callback.state_dict(), name)}
    state = {}
    for key, value in vars(callback).items():
        # A class is a resolved setting, not something learned.
        if key.endswith("_") and not key.startswith("_") and not isinstance(value, type):
            if hasattr(value, "state_dict"):
                value = {"state_dict": value.state_dict()}
            state[key] = _plain(value, f"{name}.{key}")
    return state


def _restore_callback(callback: Any, state: Mapping[str, Any]) -> None:
    """Restore the result of `_callback_state`; raise for any other names."""
    for key, value in state.items():
        if key == "" and hasattr(callback, "load_state_dict"):
            callback.load_state_dict(value)
        elif isinstance(value, dict) and "state_dict" in value:
            part = vars(callback).get(key)
            if not hasattr(part, "load_state_dict"):
                raise ValueError(f"the callback {type(callback).__name__} has no state {key!r}")
            if isinstance(part, LRScheduler):  # which accepts any names
                _check_names(value["state_dict"], part.state_dict(), type(part).__name__)
            part.load_state_dict(value["state_dict"])
        else:
            set_fitted(callback, {key: value})


def _check_names(given: Any, own: Any, where: str) -> None:
    """Raise a ValueError for names, at any depth, that are not part of an object's own state."""
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
        raise ValueError(f"a part of the state of {where} has the wrong type")


def _check_groups(state: Any, optimizer: torch.optim.Optimizer) -> None:
    """Raise a ValueError if groups of an optimizer's state lack settings of this optimizer."""
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
        f"a checkpoint cannot keep the callback's {where}, a {type(value).__name__}; give the "
        "callback state_dict() and load_state_dict()"
    )
