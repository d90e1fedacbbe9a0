"""Helpers that the checks of methods, extractors and data sets share."""

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
    "expect_error",
    "same",
    "tolerance",
]


class Registered(Protocol):
    """A method, extractor or data set under test, as seen by the checks of its card."""

    @property
    def target(self) -> Any:
        """The class, or the function that loads a data set."""
        ...

    @property
    def card(self) -> Card:
        """The card of the plugin."""
        ...


def tolerance(*arrays: NDArray[Any]) -> float:
    """Return by how much equal results may differ, as a share of the largest number.

    Sums and products that are computed in another order, on another number of rows or on another
    processor differ in the last bits of their type. Allowed are 1e-7 in float64, 1e-5 in float32
    and 1e-2 in half precision, for the coarsest type of the arrays. The precision of a float64
    array whose values are all exact in float32, such as the output of a network, is that of
    float32.
    """
    coarsest = max((_precision(array) for array in arrays), default=0.0)
    return 1e-2 if coarsest > 1e-5 else 1e-5 if coarsest > 1e-10 else 1e-7


def _precision(array: NDArray[Any]) -> float:
    """Return the machine epsilon of the type that floats were computed in; 0 for other types."""
    if array.dtype.kind != "f":
        return 0.0
    if array.dtype == np.float64 and array.size:
        with np.errstate(over="ignore"):
            rounded = array.astype(np.float32)
        return float(np.finfo(np.float32 if np.array_equal(rounded, array) else array.dtype).eps)
    return float(np.finfo(array.dtype).eps)


def same(found: Any, expected: Any, what: str) -> None:
    """Raise an AssertionError unless arrays are equal to the `tolerance` of their types."""
    found, expected = np.asarray(dense(found)), np.asarray(dense(expected))
    assert found.shape == expected.shape, (
        f"{what}: expected shape {expected.shape}, got {found.shape}"
    )
    allowed = tolerance(found, expected)
    largest = np.abs(expected).max(initial=0.0)
    off = np.abs(found - expected).max(initial=0.0)
    # Comparisons with NaN are false, so NaN fails.
    assert off <= allowed * largest, (
        f"{what}: the values differ by up to {off:.3g}; the largest expected value is {largest:.3g}"
    )


def dense(values: Any) -> Any:
    """Return sparse arrays and tensors as NumPy arrays, and everything else unchanged."""
    if hasattr(values, "toarray"):
        return values.toarray()
    return values.detach().cpu().numpy() if hasattr(values, "detach") else values


def expect_error(
    what: str,
    call: Callable[[], Any],
    *words: str,
    errors: tuple[type[Exception], ...] = (ValueError, TypeError),
) -> None:
    """Raise an AssertionError unless a call raises one of `errors` with all `words` in it."""
    expected = " or ".join(error.__name__ for error in errors)
    try:
        call()
    except errors as error:
        absent = [word for word in words if word.lower() not in str(error).lower()]
        assert not absent, f"{what}: the message must contain {', '.join(absent)}, got: {error}"
    except Exception as error:
        raise AssertionError(
            f"{what}: expected {expected}, got {type(error).__name__}: {error}"
        ) from error
    else:
        raise AssertionError(f"{what}: expected {expected}, but no error was raised")


class RandomTrial:
    """A stand-in for an Optuna trial that draws values uniformly.

    Parameters
    ----------
    seed : int
        Seed of the random number generator.
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
    """Set the global random states to other values, for the duration of a block."""
    kept = np.random.get_state(), random.getstate()
    try:
        np.random.seed(123)
        random.seed(123)
        yield
    finally:
        np.random.set_state(kept[0])
        random.setstate(kept[1])


def global_state() -> dict[str, str]:
    """Return hashes of global state: random states, and torch's threads, types and modes."""
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
    """The card has a normalised name, a summary, and the class or loader as its target"""
    card, cls = subject.card, subject.target
    found = registry.resolve_target(card.target)
    assert found is cls, f"the card's target {card.target!r} is {found!r}, not {cls!r}"
    assert card.name == registry.normalise(card.name), f"the name {card.name!r} is not normalised"
    assert card.summary.strip(), "the card has no summary"


def check_registered(subject: Registered) -> None:
    """An installed distribution registers the card"""
    try:
        found = registry.card_of(subject.target)
    except registry.NotInstalledError as error:
        raise AssertionError(str(error)) from None
    assert found == subject.card, "the card differs from that of the entry point"


def check_listing(subject: Registered) -> None:
    """Listing the registry imports neither torch, nor scikit-learn, nor the target of the card"""
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
    assert not ran.stdout.strip(), f"listing the registry imports {', '.join(ran.stdout.split())}"


def _entry(subject: Registered) -> registry.Entry:
    for entry in registry.entries(subject.card.group):
        if entry.card == subject.card:
            return entry
    raise SkipTest("the card is not registered")


CARD_CHECKS: tuple[Callable[[Any], None], ...] = (check_card, check_registered, check_listing)
"""The checks of the card, which every plugin has."""
