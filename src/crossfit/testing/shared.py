"""What the checks of methods, extractors and data sets share."""

# The docstrings of checks state what must hold.
# ruff: noqa: D401, NPY002

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, Protocol
from unittest import SkipTest

import joblib
import numpy as np
from numpy.typing import NDArray

from crossfit import registry
from crossfit.cards import Card

__all__ = [
    "CARD_CHECKS",
    "RandomTrial",
    "Registered",
    "check_card",
    "check_listing",
    "check_registered",
    "dense",
    "global_state",
    "other_random_state",
    "refuses",
    "same",
    "tolerance",
]


class Registered(Protocol):
    """What the checks of cards and of registration need: methods, extractors and data sets."""

    @property
    def target(self) -> Any:
        """The class, or the function that loads a data set."""
        ...

    @property
    def card(self) -> Card:
        """Its card."""
        ...


def tolerance(*arrays: NDArray[Any]) -> float:
    """Return how far equal numbers may lie apart, as a share of the largest.

    Sums and products of another order, on another number of rows or another processor, differ in
    the last bits of their type: 1e-7 in float64, 1e-5 in float32, 1e-2 in half precision. The
    coarsest of the arrays counts. A network that works in float32 and hands back float64, as it
    was given, has the precision of float32: all its numbers are of that type.
    """
    coarsest = max((_precision(array) for array in arrays), default=0.0)
    return 1e-2 if coarsest > 1e-5 else 1e-5 if coarsest > 1e-10 else 1e-7


def _precision(array: NDArray[Any]) -> float:
    """Return the last bit of what an array of floats was computed in; 0 for other arrays."""
    if array.dtype.kind != "f":
        return 0.0
    if array.dtype == np.float64 and array.size:
        with np.errstate(over="ignore"):
            rounded = array.astype(np.float32)
        return float(np.finfo(np.float32 if np.array_equal(rounded, array) else array.dtype).eps)
    return float(np.finfo(array.dtype).eps)


def same(found: Any, expected: Any, what: str) -> None:
    """Fail unless numbers agree to the precision of their type, relative to the largest."""
    found, expected = np.asarray(dense(found)), np.asarray(dense(expected))
    assert found.shape == expected.shape, f"{what}: shape {found.shape}, not {expected.shape}"
    allowed = tolerance(found, expected)
    largest = np.abs(expected).max(initial=0.0)
    off = np.abs(found - expected).max(initial=0.0)
    # A NaN compares false, and so fails.
    assert off <= allowed * largest, (
        f"{what}: they differ by {off:.3g}, the largest is {largest:.3g}"
    )


def dense(values: Any) -> Any:
    """Return sparse arrays and tensors as NumPy's arrays; everything else as it is."""
    if hasattr(values, "toarray"):
        return values.toarray()
    return values.detach().cpu().numpy() if hasattr(values, "detach") else values


def refuses(
    what: str,
    call: Callable[[], Any],
    *words: str,
    errors: tuple[type[Exception], ...] = (ValueError, TypeError),
) -> None:
    """Fail unless a call raises one of the errors with every word in its message."""
    wanted = " or ".join(error.__name__ for error in errors)
    try:
        call()
    except errors as error:
        absent = [word for word in words if word.lower() not in str(error).lower()]
        assert not absent, f"{what}: the message should name {', '.join(absent)}, got: {error}"
    except Exception as error:
        raise AssertionError(
            f"{what}: expected {wanted}, got {type(error).__name__}: {error}"
        ) from error
    else:
        raise AssertionError(f"{what}: expected {wanted}, but it was accepted")


class RandomTrial:
    """The part of an Optuna trial that a search space uses, drawing uniformly.

    Parameters
    ----------
    seed : int
    """

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Draw a real number."""
        drawn = self.rng.uniform(*np.log((low, high))) if log else self.rng.uniform(low, high)
        return float(np.clip(np.exp(drawn), low, high)) if log else float(drawn)

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        """Draw a whole number."""
        return round(self.suggest_float(name, low, high, log=log))

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """Draw one of the choices."""
        return choices[self.rng.integers(len(choices))]


@contextlib.contextmanager
def other_random_state() -> Iterator[None]:
    """Put the global random states where no earlier call can have left them, for a block."""
    kept = np.random.get_state(), random.getstate()
    try:
        np.random.seed(123)
        random.seed(123)
        yield
    finally:
        np.random.set_state(kept[0])
        random.setstate(kept[1])


def global_state() -> dict[str, str]:
    """Return hashes of what others may rely on: random states, torch's threads and modes."""
    state: dict[str, Any] = {
        "random": random.getstate(),
        "numpy.random": np.random.get_state(),
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        state |= {
            "torch random state": torch.get_rng_state().numpy(),
            "torch threads": torch.get_num_threads(),
            "torch default type": str(torch.get_default_dtype()),
            "torch gradient mode": torch.is_grad_enabled(),
        }
    return {name: joblib.hash(part) for name, part in state.items()}


# ---- cards --------------------------------------------------------------------------------------


def check_card(subject: Registered) -> None:
    """The card names the class, has a normalised name and a summary"""
    card, cls = subject.card, subject.target
    found = registry.resolve_target(card.target)
    assert found is cls, f"the card's target {card.target!r} is {found!r}, not {cls!r}"
    assert card.name == registry.normalise(card.name), f"the name {card.name!r} is not normalised"
    assert card.summary.strip(), "the card has no summary"


def check_registered(subject: Registered) -> None:
    """An installed distribution registers the card of the class"""
    try:
        found = registry.card_of(subject.target)
    except registry.NotInstalledError as error:
        raise AssertionError(str(error)) from None
    assert found == subject.card, "the class names another card than the entry point"


def check_listing(subject: Registered) -> None:
    """Listing the registry imports neither torch, nor scikit-learn, nor the method"""
    entry = _entry(subject)
    module = subject.card.target.partition(":")[0]
    code = (
        "import sys; from crossfit import registry; registry.entries(); "
        f"print(*{{'torch', 'sklearn', {module!r}}}.intersection(sys.modules))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "CROSSFIT_PLUGINS": entry.distribution,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert not ran.stdout.strip(), f"listing imports {', '.join(ran.stdout.split())}"


def _entry(subject: Registered) -> registry.Entry:
    for entry in registry.entries(subject.card.group):
        if entry.card == subject.card:
            return entry
    raise SkipTest("the card is not registered")


CARD_CHECKS: tuple[Callable[[Any], None], ...] = (check_card, check_registered, check_listing)
"""The checks of what every plugin declares."""
