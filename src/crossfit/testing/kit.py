"""Running the checks: a list of results, or one pytest case each."""

from __future__ import annotations

import contextlib
import re
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal
from unittest import SkipTest, mock

import numpy as np
from sklearn.utils import _testing, estimator_checks
from sklearn.utils.estimator_checks import estimator_checks_generator

from crossfit import registry
from crossfit.base import CrossModalEstimator
from crossfit.cards import MethodCard
from crossfit.compose import ColumnsAsViews
from crossfit.testing.checks import CHECKS, Subject
from crossfit.testing.shared import tolerance

__all__ = ["EXPECTED_FAILURES", "CheckResult", "check_method", "parametrize_with_checks"]

EXPECTED_FAILURES = {
    "check_n_features_in_after_fitting": (
        "wants the columns of X counted; a method counts and names those of each view "
        "(see check_columns)"
    ),
    "check_dtype_object": (
        "wants numbers in object arrays read; in views, object arrays hold strings and pictures"
    ),
    "check_fit2d_predict1d": (
        "wants the words 'Reshape your data'; a method first says which view it is and that "
        "labels go in as y"
    ),
    "check_fit_non_negative": (
        "wants negative numbers refused in every column; a method may refuse them in one view, "
        "such as topics, and take them in the other"
    ),
    "check_estimator_sparse_tag": (
        "wants one answer for all views; each may take sparse rows or refuse (see check_sparse)"
    ),
}
"""The checks of scikit-learn that a method may fail, and why."""


@dataclass(frozen=True)
class CheckResult:
    """What one check found.

    Parameters
    ----------
    name : str
        The check's name; those of scikit-learn begin with ``sklearn.``.
    description : str
        What was checked, in one line.
    status : {"pass", "fail", "skip", "expected"}
        ``"expected"`` is a failure of one of scikit-learn's checks that `EXPECTED_FAILURES`
        explains.
    message : str
        What went wrong, or why it was skipped or expected. Of an error's traceback there are the
        lines of the method's own package; of a failure like an earlier one, only where that was.
    seconds : float
        How long it took.
    """

    name: str
    description: str
    status: Literal["pass", "fail", "skip", "expected"]
    message: str
    seconds: float


@dataclass(frozen=True)
class _Check:
    name: str
    description: str
    function: Callable[[], Any]
    expected: str = ""

    def run(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd settings are meant: what counts is the outcome
            self.function()


def check_method(
    method: type[CrossModalEstimator] | str,
    params: Mapping[str, Any] | None = None,
    raise_on_failure: bool = False,
) -> list[CheckResult]:
    """Run every check on a method.

    Parameters
    ----------
    method : type or str
        The class, or the name under which it is registered.
    params : mapping of str to object, optional
        Settings to test; they go over the card's ``test_params``.
    raise_on_failure : bool
        Whether to raise at the end if a check fails.

    Returns
    -------
    list of CheckResult
        In a fixed order: the kit's checks, then those of scikit-learn.

    Raises
    ------
    TypeError
        If this is no subclass of CrossModalEstimator.
    ValueError
        If it has no card, cannot be made with its settings, or the kit cannot make its inputs.
    RegistryError
        If no method of that name can be loaded.
    AssertionError
        With `raise_on_failure`, naming every check that fails.

    Examples
    --------
    >>> from crossfit.testing import check_method
    >>> [result.name for result in check_method("cca") if result.status == "fail"]
    []
    """
    subject = _subject(method, params)
    seen: dict[str, str] = {}
    results = [_result(check, subject.cls, seen) for check in _checks(subject)]
    failed = [f"{r.name}: {r.message}" for r in results if r.status == "fail"]
    if failed and raise_on_failure:
        raise AssertionError(f"{len(failed)} of {len(results)} checks fail\n" + "\n".join(failed))
    return results


def parametrize_with_checks(
    methods: Iterable[type[CrossModalEstimator] | str],
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make one pytest case of every check on every method.

    Parameters
    ----------
    methods : iterable of type or str
        Classes, or the names under which they are registered.

    Returns
    -------
    decorator
        For a test with the argument ``check``, which runs the check when called.

    Examples
    --------
    >>> from crossfit.testing import parametrize_with_checks
    >>> @parametrize_with_checks(["cca"])
    ... def test_conforms(check):
    ...     check()
    """
    import pytest

    cases = []
    for method in methods:
        subject = _subject(method, None)
        cases += [
            pytest.param(partial(_run_in_pytest, check), id=f"{subject.card.name}-{check.name}")
            for check in _checks(subject)
        ]
    return pytest.mark.parametrize("check", cases)


def _subject(method: type[CrossModalEstimator] | str, params: Mapping[str, Any] | None) -> Subject:
    cls = registry.load(method) if isinstance(method, str) else method
    if not (isinstance(cls, type) and issubclass(cls, CrossModalEstimator)):
        words = f"expected a subclass of CrossModalEstimator or its name, got {cls!r}"
        raise (registry.PluginError(words) if isinstance(method, str) else TypeError(words))
    card = cls.card
    if not isinstance(card, MethodCard):
        raise ValueError(f"{cls.__name__} must have its MethodCard as `card`, got {card!r}")
    subject = Subject(cls, {**card.test_params, **(params or {})})
    # Refuse now what every check would stumble over.
    try:
        subject.make()
    except Exception as error:
        raise ValueError(
            f"{cls.__name__} cannot be made with {dict(subject.params)}: {error}"
        ) from error
    try:
        _ = subject.data
    except Exception as error:
        if card.make_inputs is None:
            raise
        raise ValueError(
            f"make_inputs of the card {card.name!r}, {card.make_inputs}: "
            f"{type(error).__name__}: {error}"
        ) from error
    return subject


def _checks(subject: Subject) -> list[_Check]:
    own = [_Check(check.__name__, _first_line(check), partial(check, subject)) for check in CHECKS]
    return own + _sklearn_checks(subject)


def _first_line(check: Callable[..., Any]) -> str:
    return (check.__doc__ or "").strip().splitlines()[0]


def _sklearn_checks(subject: Subject) -> list[_Check]:
    """Return scikit-learn's own checks, on the method behind one array of columns."""
    roles = subject.card.roles
    vectors = ["vectors" in subject.card.inputs.get(role, ("vectors",)) for role in roles]
    if vectors != [True, True]:

        def skip() -> None:
            raise SkipTest("scikit-learn's checks need two views of vectors")

        return [_Check("sklearn", "scikit-learn's own checks", skip)]
    adapter = ColumnsAsViews(subject.make())
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of private tags that only scikit-learn's checks read
        for estimator, check in estimator_checks_generator(adapter):
            name, options = _name_of(check)
            given = ", ".join(f"{option}={value}" for option, value in options.items())
            found.append(
                _Check(
                    f"sklearn.{name}" + (f"({given})" if given else ""),
                    "scikit-learn: " + re.sub("^check_", "", name).replace("_", " "),
                    partial(_run_sklearn, check, estimator),
                    EXPECTED_FAILURES.get(name, ""),
                )
            )
    return found


def _run_sklearn(check: Callable[[Any], None], estimator: ColumnsAsViews) -> None:
    """Run a check of scikit-learn, which holds float32 to the precision of float32."""
    with _precision_of_type():
        check(estimator)


@contextlib.contextmanager
def _precision_of_type() -> Iterator[None]:
    """Let scikit-learn's checks allow what the precision of an output cannot hold.

    Some of them allow 1e-7 or 1e-9 whatever the type: in float32 that is the last bit, in which
    products of one row and of twenty differ on some processors. What they allow in float64 stays.
    """
    theirs = _testing.assert_allclose

    def assert_allclose(
        actual: Any, desired: Any, rtol: float | None = None, atol: float = 0.0, **options: Any
    ) -> None:
        found, expected = np.asanyarray(actual), np.asanyarray(desired)
        allowed = tolerance(found, expected)
        if allowed > 1e-7:  # coarser than float64
            atol = max(atol, allowed * float(np.abs(expected).max(initial=0.0)))
        theirs(actual, desired, rtol, atol, **options)

    with (
        mock.patch.object(_testing, "assert_allclose", assert_allclose),
        mock.patch.object(estimator_checks, "assert_allclose", assert_allclose),
    ):
        yield


def _name_of(check: Any) -> tuple[str, dict[str, Any]]:
    """Return the name and the options of a check, through partials and decorators."""
    options: dict[str, Any] = {}
    while isinstance(check, partial):
        options = {**check.keywords, **options}
        check = check.func
    return check.__name__, options


def _result(check: _Check, cls: type, seen: dict[str, str]) -> CheckResult:
    start = time.perf_counter()
    status: Literal["pass", "fail", "skip", "expected"] = "pass"
    message = ""
    try:
        check.run()
    except SkipTest as reason:
        status, message = "skip", str(reason)
    except Exception as error:
        if check.expected:
            status, message = "expected", check.expected
        else:
            status, message = "fail", _told(error, cls)
            # How many rows a check hands over makes no other fault.
            first = seen.setdefault(re.sub(r"\d+", "0", message), check.name)
            if first != check.name:
                message = f"as in {first}"
    return CheckResult(check.name, check.description, status, message, time.perf_counter() - start)


def _told(error: Exception, cls: type) -> str:
    """Return an error's message, and where in the package of the method it came about."""
    words = str(error)
    if not words or not isinstance(error, AssertionError):
        words = f"{type(error).__name__}: {words}"
    package = cls.__module__
    if not package.startswith("crossfit."):
        package = package.partition(".")[0]
    frames = list(traceback.walk_tb((error.__cause__ or error).__traceback__))
    own = [
        (frame, line)
        for frame, line in frames
        if (frame.f_globals.get("__name__", "") + ".").startswith(package + ".")
    ]
    stack = traceback.StackSummary.extract(own or frames[-1:])
    # What a check or a library raises on purpose says it all in its message.
    if not own and (
        isinstance(error, AssertionError) or (stack[-1].line or "").startswith("raise")
    ):
        return words
    return "\n".join([words, *(part.rstrip() for part in stack.format())])


def _run_in_pytest(check: _Check) -> None:
    import pytest

    try:
        check.run()
    except SkipTest as reason:
        pytest.skip(str(reason))
    except Exception:
        if not check.expected:
            raise
        pytest.skip(f"expected: {check.expected}")
