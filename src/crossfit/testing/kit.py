"""Run the checks, and return a list of results or make one pytest case of each."""

from __future__ import annotations

import ast
import contextlib
import os
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
from crossfit._suggest import did_you_mean
from crossfit.base import CrossModalEstimator
from crossfit.cards import (
    GROUPS,
    Card,
    DatasetCard,
    ExtractorCard,
    MethodCard,
)
from crossfit.compose import ColumnsAsViews
from crossfit.testing import dataset_checks, extractor_checks
from crossfit.testing.checks import CHECKS, Subject
from crossfit.testing.shared import tolerance

__all__ = [
    "EXPECTED_FAILURES",
    "CheckResult",
    "check_dataset",
    "check_extractor",
    "check_method",
    "parametrize_with_checks",
]

EXPECTED_FAILURES = {
    "check_n_features_in_after_fitting": (
        "requires n_features_in_ to be the number of columns of X; a method stores one number per "
        "view and names the view in its errors (see check_columns)"
    ),
    "check_dtype_object": (
        "requires numbers in object arrays to be accepted; in views, object arrays hold strings "
        "and pictures"
    ),
    "check_fit2d_predict1d": (
        "requires the words 'Reshape your data' in the message; a method names the view and states "
        "that labels are passed as y"
    ),
    "check_fit_non_negative": (
        "requires an error for negative numbers in any column; a method may reject them in one "
        "view, such as topics, and accept them in the other"
    ),
    "check_estimator_sparse_tag": (
        "requires all views to accept sparse rows or all to reject them; here each view may do "
        "either (see check_sparse)"
    ),
}
"""The checks of scikit-learn that a method may fail, each with the reason."""


@dataclass(frozen=True)
class CheckResult:
    """The result of one check.

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
        Why the check failed, was skipped, or was expected to fail; empty if it passed. For an
        error, the traceback follows, cut to the lines of the plugin's own package. In place of a
        message that an earlier check has given, it is ``"as in <name of that check>"``.
    seconds : float
        Duration of the check.
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
            warnings.simplefilter("ignore")  # odd settings are intended: only the outcome matters
            self.function()


def check_method(
    method: type[CrossModalEstimator] | str,
    params: Mapping[str, Any] | None = None,
    raise_on_failure: bool = False,
    *,
    select: str | None = None,
) -> list[CheckResult]:
    """Run every check on a method.

    Parameters
    ----------
    method : type or str
        The class, or the name under which it is registered.
    params : mapping of str to object, optional
        Settings to test; they override the card's ``test_params``.
    raise_on_failure : bool, default=False
        If True, raise an AssertionError after all checks have run if one of them fails.
    select : str, optional
        Which checks to run: parts of their names, combined by ``and``, ``or``, ``not`` and
        parentheses, such as ``"ragged or padding"`` or ``"not sklearn"``. All by default.

    Returns
    -------
    list of CheckResult
        In a fixed order: the kit's checks, then those of scikit-learn.

    Raises
    ------
    TypeError
        If `method` is not a subclass of CrossModalEstimator.
    ValueError
        If the method has no card or cannot be constructed with its settings, if the kit cannot
        make its inputs, or if `select` is not a valid expression or selects no check.
    RegistryError
        If no method of that name can be loaded.
    AssertionError
        If `raise_on_failure` is True and a check fails; the message names every check that failed.

    Examples
    --------
    >>> from crossfit.testing import check_method
    >>> [result.name for result in check_method("cca") if result.status == "fail"]
    []
    """
    subject = _subject(method, params)
    return _run(_checks(subject), subject.target, select, raise_on_failure)


def check_extractor(
    extractor: type | ExtractorCard | str,
    params: Mapping[str, Any] | None = None,
    raise_on_failure: bool = False,
    *,
    select: str | None = None,
) -> list[CheckResult]:
    """Run every check on an extractor.

    Parameters
    ----------
    extractor : type, ExtractorCard or str
        The class or the name under which it is registered, or the card of an extractor that is
        not registered.
    params, raise_on_failure, select
        As in `check_method`.

    Returns
    -------
    list of CheckResult
        In a fixed order.

    Raises
    ------
    TypeError, ValueError, RegistryError, AssertionError
        As in `check_method`.

    Examples
    --------
    >>> from crossfit.testing import check_extractor
    >>> [result.name for result in check_extractor("characters") if result.status == "fail"]
    []
    """
    subject = _extractor_subject(extractor, params)
    checks = _checks(subject, extractor_checks.CHECKS)
    return _run(checks, subject.target, select, raise_on_failure)


def check_dataset(
    dataset: Callable[..., Any] | DatasetCard | str,
    params: Mapping[str, Any] | None = None,
    raise_on_failure: bool = False,
    *,
    root: str | os.PathLike[str] | None = None,
    select: str | None = None,
) -> list[CheckResult]:
    """Run every check on a data set.

    Parameters
    ----------
    dataset : callable, DatasetCard or str
        The loader or the name under which it is registered, or the card of a data set that is not
        registered.
    params : mapping of str to object, optional
        Options of the loader.
    raise_on_failure : bool, default=False
        As in `check_method`.
    root : path-like, optional
        Folder of the official files, as in `crossfit.datasets.load`. By default, the files that
        the card's ``make_files`` writes or, if the card has no ``make_files``, the files in the
        folder ``CROSSFIT_DATA``; if there are no files, the checks that need them are skipped.
    select : str, optional
        As in `check_method`.

    Returns
    -------
    list of CheckResult
        In a fixed order.

    Raises
    ------
    TypeError, ValueError, RegistryError, AssertionError
        As in `check_method`.

    Examples
    --------
    >>> from crossfit.testing import check_dataset
    >>> [result.name for result in check_dataset("music") if result.status == "fail"]
    []
    """
    subject = _dataset_subject(dataset, params, root)
    checks = _checks(subject, dataset_checks.CHECKS)
    return _run(checks, subject.target, select, raise_on_failure)


def _run(
    checks: Iterable[_Check], target: Any, select: str | None, raise_on_failure: bool
) -> list[CheckResult]:
    chosen = _selection(select)
    seen: dict[str, str] = {}
    results = [_result(check, target, seen) for check in checks if chosen(check.name)]
    if select is not None and not results:
        raise ValueError(
            f"no check has a name that matches {select!r}; without a selection, all checks run"
        )
    failed = [f"{r.name}: {r.message}" for r in results if r.status == "fail"]
    if failed and raise_on_failure:
        raise AssertionError(f"{len(failed)} of {len(results)} checks fail\n" + "\n".join(failed))
    return results


def _selection(expression: str | None) -> Callable[[str], bool]:
    """Return a function that tests a name against an expression like that of ``pytest -k``."""
    if expression is None:
        return lambda name: True
    words: list[str] = []

    def numbered(word: re.Match[str]) -> str:
        if word[0] in ("and", "or", "not"):
            return word[0]
        words.append(word[0].lower())
        return f"w{len(words) - 1}"

    grammar = (ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.Name, ast.Load)
    try:
        tree = ast.parse(re.sub(r"[^\s()]+", numbered, expression), mode="eval").body
        sound = all(isinstance(node, grammar) for node in ast.walk(tree))
    except SyntaxError:
        sound = False
    if not sound:
        raise ValueError(
            "select must combine parts of the names of checks by 'and', 'or', 'not' and "
            f"parentheses, such as 'ragged or padding', got {expression!r}"
        )

    def holds(node: Any, name: str) -> bool:
        if isinstance(node, ast.BoolOp):
            combined = all if isinstance(node.op, ast.And) else any
            return combined(holds(part, name) for part in node.values)
        if isinstance(node, ast.UnaryOp):
            return not holds(node.operand, name)
        return words[int(node.id[1:])] in name.lower()

    return lambda name: holds(tree, name)


def parametrize_with_checks(
    things: Iterable[Any],
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make one pytest case per check, for methods, extractors and data sets.

    Parameters
    ----------
    things : iterable of type, callable, card or str
        Classes of methods and extractors, loaders of data sets, their cards, or the names under
        which they are registered.

    Returns
    -------
    decorator
        Decorator of a test function with the argument ``check``, a function without arguments
        that runs the check.

    Examples
    --------
    >>> from crossfit.testing import parametrize_with_checks
    >>> @parametrize_with_checks(["cca"])
    ... def test_conforms(check):
    ...     check()
    """
    import pytest

    cases = []
    for thing in things:
        card, checks = _everything(thing)
        cases += [
            pytest.param(partial(_run_in_pytest, check), id=f"{card.name}-{check.name}")
            for check in checks
        ]
    return pytest.mark.parametrize("check", cases)


def _everything(thing: Any) -> tuple[Card, list[_Check]]:
    """Return the card and the checks of a method, an extractor or a data set."""
    if isinstance(thing, str):
        kind: Any = GROUPS[group_of(thing)]
    elif isinstance(thing, Card):
        kind = type(thing)
    elif isinstance(thing, type):
        is_method = issubclass(thing, CrossModalEstimator) or not hasattr(thing, "transform")
        kind = MethodCard if is_method else ExtractorCard
    else:
        kind = DatasetCard if callable(thing) else MethodCard
    if kind is ExtractorCard:
        extractor = _extractor_subject(thing, None)
        return extractor.card, _checks(extractor, extractor_checks.CHECKS)
    if kind is DatasetCard:
        dataset = _dataset_subject(thing, None, None)
        return dataset.card, _checks(dataset, dataset_checks.CHECKS)
    method = _subject(thing, None)
    return method.card, _checks(method)


def group_of(name: str) -> str:
    """Return the entry-point group of the method, extractor or data set with a name.

    Raises
    ------
    ValueError
        If the name is that of an experiment, or of plugins of several kinds.
    NotInstalledError
        If no method, extractor or data set has the name.
    """
    groups = ("crossfit.methods", "crossfit.extractors", "crossfit.datasets")
    found: list[str] = []
    for group in groups:
        try:
            registry.find(name, group)
        except registry.NotInstalledError:
            continue
        except registry.RegistryError:
            if not found:
                raise
        found.append(group)
    if len(found) > 1:
        kinds = " and ".join(group.rpartition(".")[2] for group in found)
        raise ValueError(
            f"{name!r} is ambiguous: it is registered among {kinds}; pass the class, the loader or "
            "the card to check_method, check_extractor or check_dataset"
        )
    if found:
        return found[0]
    experiments = {entry.name for entry in registry.entries("crossfit.experiments")}
    if registry.normalise(name.rpartition(":")[2]) in experiments:
        raise ValueError(
            f"{name!r} is an experiment, which has no conformance checks; `crossfit run {name} "
            "--dry-run` validates it"
        )
    known = {entry.name for group in groups for entry in registry.entries(group)}
    raise registry.NotInstalledError(
        f"no method, extractor or data set {name!r} is installed"
        + (did_you_mean(registry.normalise(name), sorted(known)) or "; see `crossfit list`")
    )


def _subject(method: type[CrossModalEstimator] | str, params: Mapping[str, Any] | None) -> Subject:
    if isinstance(method, MethodCard):
        with _naming(method, "target"):
            method = registry.resolve_target(method.target)
    cls = registry.load(method) if isinstance(method, str) else method
    if not (isinstance(cls, type) and issubclass(cls, CrossModalEstimator)):
        words = f"expected a subclass of CrossModalEstimator or its name, got {cls!r}"
        raise (registry.PluginError(words) if isinstance(method, str) else TypeError(words))
    card = cls.card
    if not isinstance(card, MethodCard):
        raise ValueError(
            f"the class attribute `card` of {cls.__name__} must be its MethodCard, got {card!r}"
        )
    subject = Subject(cls, {**card.test_params, **(params or {})})
    _try(subject)
    with _naming(card, "make_inputs"):
        _ = subject.data
    return subject


def _extractor_subject(
    extractor: type | ExtractorCard | str, params: Mapping[str, Any] | None
) -> extractor_checks.ExtractorSubject:
    card, target = _card_and_target(extractor, ExtractorCard, "an extractor's class")
    if not (isinstance(target, type) and hasattr(target, "fit") and hasattr(target, "transform")):
        raise TypeError(f"expected a class with fit and transform, got {target!r}")
    chosen = {**card.test_params, **(params or {})}
    subject = extractor_checks.ExtractorSubject(target, card, chosen)
    _try(subject)
    if not subject.kinds:
        raise ValueError(f"the card {card.name!r} must name a kind of input, but inputs is empty")
    with _naming(card, "make_inputs"):
        _ = subject.train
    return subject


def _dataset_subject(
    dataset: Callable[..., Any] | DatasetCard | str,
    params: Mapping[str, Any] | None,
    root: str | os.PathLike[str] | None,
) -> dataset_checks.DatasetSubject:
    card, target = _card_and_target(dataset, DatasetCard, "a loader")
    if not callable(target):
        raise TypeError(f"expected a function that loads a data set, got {target!r}")
    subject = dataset_checks.DatasetSubject(target, card, dict(params or {}), root)
    unknown = [name for name in subject.params if name not in (subject.options or (name,))]
    if unknown:
        raise ValueError(
            f"params: the loader of {card.name!r} has no option {unknown[0]!r}; its options are: "
            f"{', '.join(subject.options or ()) or 'none'}"
        )
    with _naming(card, "make_files"), contextlib.suppress(SkipTest):
        _ = subject.folder
    return subject


def _card_and_target(thing: Any, kind: type[Card], what: str) -> tuple[Any, Any]:
    if isinstance(thing, str):
        return registry.get(thing, kind.group), registry.load(thing, kind.group)
    if isinstance(thing, kind):
        with _naming(thing, "target"):
            return thing, registry.resolve_target(thing.target)
    if not callable(thing) or isinstance(thing, Card):
        raise TypeError(f"expected {what}, its {kind.__name__} or its name, got {thing!r}")
    card: Card | None
    try:
        card = registry.card_of(thing)
    except registry.NotInstalledError as error:
        raise ValueError(f"{error}; you can also pass the card") from None
    except TypeError:
        card = None
    if not isinstance(card, kind):
        raise TypeError(f"expected {what}, its {kind.__name__} or its name, got {thing!r}")
    return card, thing


def _try(subject: Subject | extractor_checks.ExtractorSubject) -> None:
    """Raise for faults that would make every check fail."""
    try:
        subject.make()
    except Exception as error:
        hint = "" if subject.params else " (its card has no test_params)"
        raise ValueError(
            f"{subject.target.__name__} cannot be constructed with {dict(subject.params)}{hint}: "
            f"{error}"
        ) from error


@contextlib.contextmanager
def _naming(card: Any, field: str) -> Iterator[None]:
    """Raise errors from inside the block again, with the name of the card's field added."""
    try:
        yield
    except SkipTest:
        raise
    except Exception as error:
        if getattr(card, field) is None:
            raise
        raise ValueError(
            f"{field} of the card {card.name!r}, {getattr(card, field)}: "
            f"{type(error).__name__}: {error}"
        ) from error


def _checks(subject: Any, checks: Iterable[Callable[[Any], None]] = CHECKS) -> list[_Check]:
    own = [_Check(check.__name__, _first_line(check), partial(check, subject)) for check in checks]
    return own + (_sklearn_checks(subject) if isinstance(subject, Subject) else [])


def _first_line(check: Callable[..., Any]) -> str:
    return (check.__doc__ or "").strip().splitlines()[0]


def _sklearn_checks(subject: Subject) -> list[_Check]:
    """Return scikit-learn's own checks, run on an adapter that splits one array into views."""
    roles = subject.card.roles
    vectors = ["vectors" in subject.card.inputs.get(role, ("vectors",)) for role in roles]
    if vectors != [True, True]:

        def skip() -> None:
            raise SkipTest("scikit-learn's checks require two views of vectors")

        return [_Check("sklearn", "scikit-learn's own checks", skip)]
    adapter = ColumnsAsViews(subject.make())
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about private tags that only scikit-learn's checks read
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
    """Run a check of scikit-learn with tolerances that suit the type of the output."""
    with _precision_of_type():
        check(estimator)


@contextlib.contextmanager
def _precision_of_type() -> Iterator[None]:
    """Make scikit-learn's checks allow rounding errors of the type of the output, in a block.

    Some of them allow 1e-7 or 1e-9 whatever the type. In float32 that is the last bit, in which
    products of one row and of twenty rows differ on some processors. The tolerance for float64 is
    unchanged.
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


def _result(check: _Check, cls: Any, seen: dict[str, str]) -> CheckResult:
    start = time.perf_counter()
    status: Literal["pass", "fail", "skip", "expected"] = "pass"
    message = ""
    try:
        check.run()
    except SkipTest as reason:
        status, message = "skip", str(reason)
        first = seen.setdefault(message, check.name)
        # A long reason is printed once.
        if first != check.name and len(message) > 80:
            message = f"as in {first}"
    except Exception as error:
        if check.expected:
            status, message = "expected", check.expected
        else:
            status, message = "fail", _described(error, cls)
            # Messages that differ only in a number of rows report the same fault.
            first = seen.setdefault(re.sub(r"\d+", "0", message), check.name)
            if first != check.name:
                message = f"as in {first}"
    return CheckResult(check.name, check.description, status, message, time.perf_counter() - start)


def _described(error: Exception, cls: Any) -> str:
    """Return an error's message, with the part of its traceback in the method's package."""
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
    # If a check or a library raises on purpose, the message is enough.
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
