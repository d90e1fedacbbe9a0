"""Checkpoints: all that a killed fit needs to end with the weights of one that ran through."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from skorch.callbacks import Callback
from torch import Tensor

if TYPE_CHECKING:
    from skorch import NeuralNet

__all__ = ["Checkpoint"]

FORMAT = 2

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
    moved on. It is written beside its place and renamed, so that it is never half there, and is
    read with ``weights_only=True``: reading it executes nothing.

    Parameters
    ----------
    path : path-like
        The file.
    every : int
        Epochs between writings. The last epoch is always written.
    """

    def __init__(self, path: str | os.PathLike[str], every: int = 1) -> None:
        self.path = path
        self.every = every

    def initialize(self) -> Checkpoint:
        """Check the parameters."""
        if not isinstance(self.every, Integral) or self.every < 1:
            raise ValueError(f"every must be an integer of at least 1, got {self.every!r}")
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
            If the file cannot be read or belongs to another fit.
        """
        path = Path(self.path)
        if not path.exists():
            return None
        try:
            held = torch.load(path, map_location="cpu", weights_only=True)
            if held["format"] != FORMAT:
                raise ValueError(f"its format is {held['format']}, not {FORMAT}")
        except Exception as error:  # torch has no one error for a damaged file
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ValueError(f"cannot read the checkpoint {str(path)!r}: {reason}") from error
        for what, mine in identity.items():
            if held["identity"].get(what) != mine:
                raise ValueError(
                    f"the checkpoint {str(path)!r} belongs to a fit {_OTHER[what]}: delete it, or "
                    "give this fit a path of its own"
                )
        return dict(held)

    def restore(self, held: Mapping[str, Any], net: NeuralNet, generator: torch.Generator) -> bool:
        """Bring a net to the state that was read; return whether its training stays stopped."""
        net.module_.load_state_dict(held["module"])
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
        path = Path(self.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                torch.save(held, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(beside)
            raise


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
    for key, value in state.items():
        if key == "":
            callback.load_state_dict(value)
        elif isinstance(value, dict) and "state_dict" in value:
            getattr(callback, key).load_state_dict(value["state_dict"])
        else:
            setattr(callback, key, value)


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
