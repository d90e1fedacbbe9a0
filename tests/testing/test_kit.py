"""The conformance kit: good methods pass, and each check fails on a method that violates it."""

# Some of the bad methods here do what a method must not: touch the global random state.
# ruff: noqa: NPY002

import copy
import dataclasses
import json
import random
import re
import sys
import textwrap
import types
from functools import partial
from unittest import SkipTest

import numpy as np
import pytest

from crossfit import registry
from crossfit.base import CrossModalEstimator
from crossfit.cards import Float, MethodCard
from crossfit.cli import main
from crossfit.similarities import pairwise_similarity
from crossfit.subspace import CCA
from crossfit.testing import check_method, checks, kit, parametrize_with_checks
from crossfit.testing.bad import (
    DividesByLongest,
    LabelRegression,
    LeaksTestLabels,
    RegionRegression,
    SumsPadding,
    TakesPaddingForRegions,
    ValidatesNothing,
)
from crossfit.testing.bad_networks import (
    CollapsesTexts,
    HoardsMemory,
    IgnoresTheMask,
    LiesAboutMemory,
    RegionDots,
)
from crossfit.testing.checks import Subject
from crossfit.testing.planted import planted_views
from crossfit.testing.shared import check_listing, dense
from crossfit.testing.uneven import resized, strange_padding
from crossfit.views import Channels, Ragged, Views

BUILT_IN = [
    entry.name
    for entry in registry.entries("crossfit.methods")
    if entry.distribution == registry.CORE and entry.status == "ok"
]


@parametrize_with_checks(BUILT_IN)
def test_built_in_methods_conform(check):
    check()


# ---- other distributions ----------------------------------------------------------------


PAIR_CARDS = """
    from crossfit.cards import Float, MethodCard

    CARD = MethodCard(
        api=1, name="bilinear", target="outside.method:Bilinear",
        summary="A bilinear form without a common space", kind="pair",
        inputs={"image": ("vectors",), "text": ("vectors",)},
        search_space={"reg": Float(1e-3, 1e2, log=True)}, test_params={"reg": 0.1},
    )
"""
PAIR_METHOD = """
    import numpy as np
    import scipy.sparse as sp
    from crossfit.base import CrossModalEstimator
    from outside.cards import CARD

    class Bilinear(CrossModalEstimator):
        card = CARD

        def __init__(self, reg=1.0):
            self.reg = reg

        def _fit(self, views, y):
            parts = [self._dense(views[role], role).astype(float) for role in views.names]
            self.means_ = {role: part.mean(axis=0) for role, part in zip(views.names, parts)}
            X, Z = (part - part.mean(axis=0) for part in parts)
            inverse = [np.linalg.inv(A.T @ A + self.reg * np.eye(A.shape[1])) for A in (X, Z)]
            self.form_ = inverse[0] @ X.T @ Z @ inverse[1]

        def _dense(self, values, view):
            if sp.issparse(values):
                raise TypeError(f"Bilinear takes no sparse rows, as in view {view!r}")
            return values

        def _prepare(self, values, view):
            return self._dense(values, view) - self.means_[view]

        def _similarity(self, P, Q):
            return P @ self.form_ @ Q.T
"""


def _install(folder, distribution, entry_points, **modules):
    """Write what pip would install: modules in a package, and the entry points."""
    info = folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    lines = "\n".join(f"{name} = {target}" for name, target in entry_points.items())
    (info / "entry_points.txt").write_text(f"[crossfit.methods]\n{lines}\n")
    if modules:
        package = folder / next(iter(entry_points.values())).partition(".")[0]
        package.mkdir()
        (package / "__init__.py").touch()
        for name, text in modules.items():
            (package / f"{name}.py").write_text(textwrap.dedent(text))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a folder on the path in which plugins are installed for one test."""
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    monkeypatch.undo()
    for name in [name for name in sys.modules if name.startswith("outside")]:
        del sys.modules[name]
    registry.refresh()


@pytest.fixture
def bundled(folder):
    """Register the methods of `crossfit.testing`."""
    _install(
        folder,
        "bundled",
        {
            "label-regression": "crossfit.testing.cards:LABEL_REGRESSION",
            "validates-nothing": "crossfit.testing.cards:VALIDATES_NOTHING",
            "leaks-test-labels": "crossfit.testing.cards:LEAKS_TEST_LABELS",
        },
    )


def _by_status(results):
    found = {"pass": set(), "fail": set(), "skip": set(), "expected": set()}
    for result in results:
        found[result.status].add(result.name)
    return found


def test_a_pair_method_from_outside_passes(folder):
    _install(
        folder,
        "outside-plugin",
        {"bilinear": "outside.cards:CARD"},
        cards=PAIR_CARDS,
        method=PAIR_METHOD,
    )
    results = check_method("bilinear", raise_on_failure=True)
    found = _by_status(results)
    assert {"check_label_leak", "check_captions", "check_listing", "check_sparse"} <= found["pass"]
    assert found["skip"] >= {"check_subset"}
    assert any("array_api" in name for name in found["skip"])
    assert {name.removeprefix("sklearn.") for name in found["expected"]} <= set(
        kit.EXPECTED_FAILURES
    )
    assert len(results) > 60
    assert sum(result.seconds for result in results) < 60


@pytest.mark.parametrize(
    ("cards", "method", "says"),
    [
        ((), (("card = CARD", "pass"),), "`card` of Bilinear must be its MethodCard, got None"),
        (
            (('"reg": 0.1', '"regg": 0.1'),),
            (),
            "Bilinear cannot be constructed with {'regg': 0.1}: Bilinear.__init__() got an "
            "unexpected keyword argument 'regg'",
        ),
        ((("method:Bilinear", "method:np.dot"),), (), "expected a subclass of CrossModalEstimator"),
        ((('kind="pair"', 'kind="pairs"'),), (), "got 'pairs': did you mean 'pair'?"),
    ],
)
def test_the_command_says_in_one_line_why_a_plugin_cannot_be_checked(
    folder, capsys, cards, method, says
):
    texts = {"cards": PAIR_CARDS, "method": PAIR_METHOD}
    for name, changes in (("cards", cards), ("method", method)):
        for old, new in changes:
            assert old in texts[name]
            texts[name] = texts[name].replace(old, new)
    _install(folder, "outside-plugin", {"bilinear": "outside.cards:CARD"}, **texts)
    with pytest.raises(SystemExit) as stopped:
        main(["check", "bilinear"])
    said = capsys.readouterr()
    assert stopped.value.code == 1 and said.out == ""
    assert says in said.err and len(said.err.splitlines()) == 1


def test_one_mistake_is_told_once_and_where_the_author_made_it(folder, capsys):
    wrong = PAIR_METHOD.replace("self.form_ @ Q.T", "self.from_ @ Q.T")
    points = {"bilinear": "outside.cards:CARD"}
    _install(folder, "outside-plugin", points, cards=PAIR_CARDS, method=wrong)
    failed = [result for result in check_method("bilinear") if result.status == "fail"]
    first, *others = [result.message for result in failed]
    assert len(failed) > 20
    assert first.splitlines()[0] == "AttributeError: 'Bilinear' object has no attribute 'from_'"
    assert first.count("File ") == 1 and "outside/method.py" in first and "in _similarity" in first
    assert sum(message == f"as in {failed[0].name}" for message in others) > 15
    assert not any("Traceback" in message for message in others)
    with pytest.raises(SystemExit):
        main(["check", "bilinear"])
    assert len(capsys.readouterr().out.splitlines()) < 110


def test_an_assertion_of_the_author_is_told_with_its_line(folder):
    wrong = PAIR_METHOD.replace("return P @", "assert len(P) > 99; return P @")
    points = {"bilinear": "outside.cards:CARD"}
    _install(folder, "outside-plugin", points, cards=PAIR_CARDS, method=wrong)
    first = next(r.message for r in check_method("bilinear") if r.status == "fail")
    assert first.startswith("AssertionError: ") and "assert len(P) > 99" in first


def _refused_with_a_cause():
    try:
        textwrap.dedent(3)
    except TypeError as error:
        raise AssertionError("TypeError: the check has said why") from error


@pytest.mark.parametrize(
    ("call", "files"),
    [
        (_refused_with_a_cause, []),
        (partial(textwrap.dedent, 3), ["textwrap.py"]),  # raised outside the author's code
        (partial(json.loads, 3), []),  # raised on purpose: the message is enough
    ],
)
def test_an_error_outside_the_authors_code_is_told_with_its_last_line(call, files):
    check = kit._Check("check_it", "It works", call)
    result = kit._result(check, LabelRegression, {})
    assert result.message.startswith("TypeError: ")
    assert re.findall(r'/(\w+\.py)", line', result.message) == files


def test_a_labelled_method_passes(bundled):
    found = _by_status(check_method(LabelRegression, {"reg": 2.0}, raise_on_failure=True))
    assert {"check_labels", "check_label_leak", "check_registered"} <= found["pass"]
    assert "sklearn.check_requires_y_none" in found["pass"]


def test_the_method_that_validates_nothing_fails(bundled):
    found = _by_status(check_method(ValidatesNothing))
    own = {name for name in found["fail"] if not name.startswith("sklearn.")}
    assert own == {
        "check_clone",
        "check_columns",
        "check_extra_views",
        "check_label_vector",
        "check_labels",
        "check_misaligned",
        "check_not_finite",
        "check_not_fitted",
        "check_one_sample",
        "check_sparse",
        "check_view_names",
        "check_wrong_view",
    }
    assert {
        "sklearn.check_estimators_nan_inf",
        "sklearn.check_complex_data",
        "sklearn.check_estimators_empty_data_messages",
    } <= found["fail"]
    assert {"check_better_than_chance", "check_label_leak", "check_chunks"} <= found["pass"]


def test_the_method_that_leaks_test_labels_fails_at_the_leak_check_alone(bundled):
    results = check_method(LeaksTestLabels)
    assert _by_status(results)["fail"] == {"check_label_leak"}
    message = next(r.message for r in results if r.name == "check_label_leak")
    assert "similarity after scoring with the labels" in message


@pytest.mark.parametrize(
    ("cls", "failing"),
    [
        (RegionRegression, {}),
        (DividesByLongest, {"check_ragged": "among shorter items", "check_padding": "in the pad"}),
        (SumsPadding, {"check_padding": "scores with other values in the padding"}),
        (TakesPaddingForRegions, {"check_ragged": "among shorter", "check_padding": "in the pad"}),
        (RegionDots, {}),
        (LiesAboutMemory, {"check_pair_memory": "4 bytes per pair, but a block limited to 800 "}),
        (HoardsMemory, {"check_pair_memory": "which makes scoring slow"}),
        (IgnoresTheMask, {"check_ragged": "among shorter items", "check_padding": "in the pad"}),
        (
            CollapsesTexts,
            {"check_training": "'text' have collapsed", "check_better_than_chance": "planted"},
        ),
    ],
)
def test_what_is_done_with_padding_and_memory_is_told_apart(cls, failing):
    results = [r for r in check_method(cls) if r.name != "check_registered"]
    assert {r.name for r in results if r.status == "fail"} == set(failing)
    for result in results:
        assert failing.get(result.name, "") in result.message
    passed = _by_status(results)["pass"]
    assert {"check_ragged", "check_padding"} - set(failing) <= passed
    if cls in (RegionDots, IgnoresTheMask):
        assert "check_pair_memory" in passed


def test_the_leak_pays():
    # Otherwise failing it would prove nothing.
    views, y = planted_views(np.random.default_rng(0), 120, LabelRegression.card)
    honest, leaking = (
        np.mean(
            [
                cls().fit(views[:80], wrong[:80]).score(views[80:], wrong[80:])
                for wrong in (np.random.default_rng(seed).permutation(y) for seed in range(5))
            ]
        )
        for cls in (LabelRegression, LeaksTestLabels)
    )
    assert leaking > honest + 0.1


def test_an_unregistered_method_fails_at_registration_alone():
    found = _by_status(check_method(LabelRegression))
    assert found["fail"] == {"check_registered"}
    assert "check_listing" in found["skip"]


def test_raise_on_failure_names_every_failing_check():
    with pytest.raises(AssertionError, match=r"(?s)2 of \d+ checks.*check_registered.*label_leak"):
        check_method(LeaksTestLabels, raise_on_failure=True)


def test_every_result_says_what_was_checked():
    results = check_method(LabelRegression)
    assert len({result.name for result in results}) == len(results)
    for result in results:
        assert result.description and "\n" not in result.description
        assert len(result.description) <= 90
        assert result.seconds >= 0
        assert bool(result.message) == (result.status != "pass")


@pytest.mark.parametrize(
    "method, error, message",
    [
        (object, TypeError, "expected a subclass of CrossModalEstimator"),
        (CCA(), TypeError, "expected a subclass of CrossModalEstimator"),
        (
            type("NoCard", (CrossModalEstimator,), {}),
            ValueError,
            "of NoCard must be its MethodCard",
        ),
    ],
)
def test_what_is_no_method_is_refused(method, error, message):
    with pytest.raises(error, match=message):
        check_method(method)


def test_test_params_that_the_method_does_not_take_are_refused():
    cls = _mutant(LabelRegression, test_params={"depth": 3})
    with pytest.raises(ValueError, match=r"Mutant cannot be constructed with \{'depth': 3\}: "):
        check_method(cls)
    with pytest.raises(ValueError, match="'width'"):
        check_method(LabelRegression, {"width": 3})


def test_inputs_that_the_kit_cannot_make_are_asked_for():
    cls = _mutant(LabelRegression, inputs={"image": ("vectors",), "text": ("strings",)})
    with pytest.raises(ValueError, match="'mutant' takes strings as 'text'; set make_inputs of"):
        check_method(cls)


def test_make_inputs_must_keep_its_promise(monkeypatch):
    cls = _mutant(LabelRegression, make_inputs="crossfit_mutants:broken_inputs")
    monkeypatch.setattr("crossfit_mutants.broken_inputs", broken_inputs, raising=False)
    with pytest.raises(ValueError, match=r"must return 120 pairs .* image, text, and 120 labels"):
        check_method(cls)


@pytest.mark.parametrize(
    "target", ["crossfit_mutants:none", "crossfit_mutants:absent", "nowhere:f"]
)
def test_make_inputs_that_fails_is_named(monkeypatch, target):
    cls = _mutant(LabelRegression, make_inputs=target)
    monkeypatch.setattr("crossfit_mutants.none", lambda rng, n: None, raising=False)
    with pytest.raises(
        ValueError, match=rf"make_inputs of the card 'mutant', {target}: \w+Error: "
    ):
        check_method(cls)


def broken_inputs(rng, n):
    return Views(image=rng.normal(size=(n, 3)), words=rng.normal(size=(n, 3))), np.zeros(n)


def test_pytest_cases_fail_skip_and_pass_as_the_list_does(pytester_like):
    listed = {result.name: result.status for result in check_method(LeaksTestLabels)}
    for name, case in pytester_like(LeaksTestLabels).items():
        outcome = "pass"
        try:
            case()
        except pytest.skip.Exception as reason:
            outcome = "expected" if "expected" in str(reason) else "skip"
        except Exception:
            outcome = "fail"
        assert outcome == listed[name], name


@pytest.fixture
def pytester_like():
    def cases(cls):
        mark = parametrize_with_checks([cls]).mark
        prefix = f"{cls.card.name}-"
        return {case.id.removeprefix(prefix): case.values[0] for case in mark.args[1]}

    return cases


# ---- inputs other than vectors ----------------------------------------------------------


def mixed_inputs(rng, n):
    """Return pictures as a map and ragged objects, and texts with words for the factors."""
    factors = rng.normal(size=(n, 8))
    lengths = 1 + np.arange(n) % 3
    objects = np.repeat(factors, lengths, axis=0) + 0.1 * rng.normal(size=(lengths.sum(), 8))
    boxes = rng.random((len(objects), 4))
    image = {
        "map": factors @ rng.normal(size=(8, 9)),
        "objects": Ragged(objects, np.concatenate([[0], np.cumsum(lengths)]), {"boxes": boxes}),
    }
    text = [" ".join(f"{'+-'[int(f < 0)]}{i}" for i, f in enumerate(row)) for row in factors]
    return Views(image=image, text=text), np.zeros(n, int)


class Mixed(CrossModalEstimator):
    """Predict the map and the mean object of a picture from words, by least squares."""

    card = MethodCard(
        api=1,
        name="mixed",
        target="crossfit_mutants:Mixed",
        summary="Channels and strings",
        inputs={"image": ("channels",), "text": ("strings",)},
        make_inputs="crossfit_mutants:mixed_inputs",
    )

    def _fit(self, views, y):
        self.words_ = sorted({word for text in views["text"] for word in text.split()})
        first = views["image"]
        self.columns_ = [first["map"].shape[1], first["objects"].values.shape[1]]
        image, words = self._read_image(views["image"]), self._read_text(views["text"])
        self.weights_ = np.linalg.lstsq(words, image, rcond=None)[0]

    def _read_image(self, channels):
        parts = [channels["map"], channels["objects"].values]
        if [part.shape[1] for part in parts] != self.columns_:
            raise ValueError(f"view 'image' must have {self.columns_} columns")
        if not all(np.isfinite(part).all() for part in parts):
            raise ValueError("view 'image' contains NaN or infinity")
        return np.hstack([parts[0], [rows.mean(axis=0) for rows in channels["objects"]]])

    def _read_text(self, texts):
        return np.array([[word in text.split() for word in self.words_] for text in texts], float)

    def _encode(self, values, view):
        if view == "text":
            return self._read_text(values) @ self.weights_
        return self._read_image(values)


def test_a_method_on_channels_ragged_rows_and_strings_passes(monkeypatch):
    home = sys.modules.setdefault("crossfit_mutants", types.ModuleType("crossfit_mutants"))
    monkeypatch.setattr(home, "Mixed", Mixed, raising=False)
    monkeypatch.setattr(home, "mixed_inputs", mixed_inputs, raising=False)
    results = check_method(Mixed)
    found = _by_status(results)
    assert found["fail"] == {"check_registered"}, [r for r in results if r.status == "fail"]
    assert {"check_memmap", "check_not_finite", "check_columns", "check_captions"} <= found["pass"]
    assert {"check_sparse", "sklearn"} <= found["skip"]


# ---- every kind of card -----------------------------------------------------------------


def _fit_indicator(self, views, y):
    """Regress on an indicator; a class vector, as scikit-learn passes, is taken as one."""
    y = y if y.ndim == 2 else y[:, None] == np.unique(y)
    data = {role: dense(views[role]).astype(float) for role in views.names}
    self.means_ = {role: X.mean(axis=0) for role, X in data.items()}
    self.weights_ = {
        role: np.linalg.lstsq(X - self.means_[role], y.astype(float), rcond=None)[0]
        for role, X in data.items()
    }


def _fit_without_labels(self, views, y):
    _super("_fit")(self, views, np.arange(len(views)) % 3 if y is None else y)


def _mean_of_regions(values, view=None):
    if isinstance(values, Ragged):
        return np.array([rows.mean(axis=0) for rows in values])
    return values if values.ndim == 2 else values.mean(axis=1)


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": "multi", "_fit": _fit_indicator},
        {"labels": "optional", "_fit": _fit_without_labels},
        {"roles": ("image", "text", "audio"), "inputs": {}},
        {
            "inputs": {"image": ("regions",), "text": ("vectors",)},
            "_fit": lambda self, views, y: _super("_fit")(self, views.map(_mean_of_regions), y),
            "_encode": lambda self, values, view: _super("_encode")(
                self, _mean_of_regions(values), view
            ),
        },
    ],
    ids=["multi-label", "optional labels", "three roles", "regions"],
)
def test_methods_of_other_kinds_pass(changes):
    results = check_method(_mutant(LabelRegression, **changes))
    failed = {result.name: result.message for result in results if result.status == "fail"}
    failed.pop("check_registered")
    assert not failed
    assert {"check_better_than_chance", "check_label_leak"} <= _by_status(results)["pass"]


# ---- rows of unequal length -------------------------------------------------------------


def _planted_as(kind):
    """Return inputs whose text has some kind, and contains some of eight factors."""

    def make(rng, n):
        shown = rng.random((n, 8)) < 0.5
        shown[:, 0] |= ~shown.any(axis=1)
        words = [np.flatnonzero(row) for row in shown]
        ids = np.zeros((n, 8), np.int64)
        for row, own in zip(ids, words):
            row[: len(own)] = own + 2
        vectors = rng.normal(size=(8, 8))
        texts = {
            "vectors": shown @ vectors,
            "sequence": (shown[:, :, None] * vectors),
            "tokens": ids,
            "strings": [" ".join(f"word{i}" for i in own) for own in words],
            "channels": {"whole": shown @ vectors, "parts": shown[:, :, None] * vectors},
        }
        return Views(image=shown @ rng.normal(size=(8, 9)), text=texts[kind]), np.arange(n) % 5

    return make


def _features(values):
    """Return features that do not depend on a text's neighbours, and the length of each text."""
    if isinstance(values, Channels):
        parts = [_features(values[name]) for name in values.names]
        return np.hstack([part for part, _ in parts]), parts[-1][1]
    if isinstance(values, Ragged):
        if values.values.ndim == 1:
            rows = [np.bincount(row, minlength=64)[:64] for row in values]
            return np.array(rows, float), values.lengths
        return np.array([row.mean(axis=0) for row in values]), values.lengths
    if values.dtype == object:
        words = [text.split() for text in values]
        bags = [[sum(word == f"word{i}" for word in own) for i in range(8)] for own in words]
        return np.array(bags, float), np.array([len(own) for own in words])
    if values.dtype.kind in "iu":
        return _features(Ragged.from_list([row[row > 0] for row in values]))
    values = values.mean(axis=1) if values.ndim == 3 else values
    return values, np.ones(len(values), int)


def _fit_features(self, views, y):
    return _super("_fit")(self, views.map(lambda values, _: _features(values)[0]), y)


def _encode_features(self, values, view, share=0.0):
    found, lengths = _features(values)
    encoded = _super("_encode")(self, found, view)
    return encoded * [1 + share * lengths.max(), *[1] * (encoded.shape[1] - 1)]


@pytest.mark.parametrize(
    ("planted", "kinds"),
    [
        ("vectors", ("vectors", "sequence")),
        ("sequence", ("sequence",)),
        ("tokens", ("tokens",)),
        ("strings", ("strings",)),
        ("strings", ("strings", "tokens")),
        ("channels", ("channels",)),
    ],
)
def test_every_kind_of_input_is_tried_with_rows_of_unequal_length(monkeypatch, planted, kinds):
    known = {"inputs": {"image": ("vectors",), "text": kinds}, "_fit": _fit_features}
    known["make_inputs"] = "crossfit_mutants:planted"
    home = sys.modules.setdefault("crossfit_mutants", types.ModuleType("crossfit_mutants"))
    monkeypatch.setattr(home, "planted", _planted_as(planted), raising=False)
    sound = Subject(_mutant(LabelRegression, _encode=_encode_features, **known), {})
    checks.check_ragged(sound)
    checks.check_padding(sound)
    forms = [train["text"] for train, _ in checks._uneven(sound)]
    assert len(forms) == (2 if kinds == ("strings", "tokens") else 1)
    if "tokens" in kinds:
        assert isinstance(forms[-1], Ragged) and forms[-1].dtype == np.int64
        assert set(forms[-1].lengths) == {1, 2, 3, 4, 5, 6}
    bad = _mutant(LabelRegression, _encode=partial_method(_encode_features, share=0.1), **known)
    with pytest.raises(AssertionError, match="items, compared with those of the items alone"):
        checks.check_ragged(Subject(bad, {}))


def partial_method(function, **options):
    return lambda self, *given: function(self, *given, **options)


def test_rows_of_unequal_length_may_be_refused_by_name_only():
    def refusing(words):
        def fit(self, views, y):
            if isinstance(views["image"], Ragged):
                raise ValueError(words)
            _super("_fit")(self, views.map(_mean_of_regions), y)

        return fit

    known = {"inputs": {"image": ("regions",), "text": ("vectors",)}}
    polite = _mutant(LabelRegression, _fit=refusing("view 'image' must not be ragged"), **known)
    with pytest.raises(SkipTest, match="are rejected: view 'image' must not be ragged"):
        checks.check_ragged(Subject(polite, {}))
    rude = _mutant(LabelRegression, _fit=refusing("inhomogeneous shape"), **known)
    with pytest.raises(ValueError, match="inhomogeneous"):
        checks.check_ragged(Subject(rude, {}))


def test_rows_are_given_lengths_by_their_own_elements():
    ragged = Ragged.from_list([[1, 2, 3], [], [4]], {"box": np.arange(4), "of": "all"})
    found = resized(ragged, np.array([5, 2, 1]))
    assert [row.tolist() for row in found] == [[1, 2, 3, 1, 2], [], [4]]
    assert found.info["box"].tolist() == [0, 1, 2, 0, 1, 3] and found.info["of"] == "all"
    texts = resized(np.array(["a b", ""], dtype=object), np.array([3, 2]))
    assert texts[0] == "a b a" and not texts[1].strip()


def test_padding_is_what_it_was_after_the_checks():
    ragged = Ragged.from_list([np.ones((2, 3)), np.ones((1, 3))])
    with strange_padding():
        assert (ragged.padded()[0][1, 1] != 0).all()
        assert (ragged.padded(fill=-1)[0][1, 1] == -1).all()
    dense, mask = ragged.padded()
    assert (dense[1, 1] == 0).all() and mask.tolist() == [[True, True], [True, False]]


# ---- synthetic inputs -------------------------------------------------------------------


def test_planted_views_have_the_kinds_that_the_card_takes():
    card = dataclasses.replace(
        LabelRegression.card,
        roles=("image", "text", "audio"),
        inputs={"image": ("regions", "pixels"), "text": ("vectors",), "audio": ("sequence",)},
        labels="multi",
    )
    views, y = planted_views(np.random.default_rng(0), 50, card)
    assert [views[name].shape for name in views.names] == [(50, 3, 12), (50, 10), (50, 3, 8)]
    assert y.shape == (50, 5) and set(y.sum(axis=1)) >= {1, 2}
    again, _ = planted_views(np.random.default_rng(0), 50, card)
    assert np.array_equal(views["text"], again["text"])


def test_arrays_of_ragged_rows_and_channels_are_changed_too():
    # NaN must be passed to the method, whatever the parts of the view are.
    ragged = Ragged.from_list([np.zeros((2, 3)), np.zeros((1, 3))], info={"boxes": np.ones((3, 4))})
    views = Views(image={"map": np.zeros((2, 5)), "objects": ragged}, text=["a", "b"])
    spoiled = dict(checks._spoiled(views, lambda array: array + 1))
    assert list(spoiled) == ["image"]
    image = spoiled["image"]["image"]
    assert isinstance(image, Channels)
    assert (image["map"] == 1).all() and (image["objects"].values == 1).all()
    assert (image["objects"].info["boxes"] == 1).all()
    assert (views["image"]["map"] == 0).all()


# ---- every check can fail ---------------------------------------------------------------


def _mutant(base, /, _card=None, **changes):
    """Return a subclass with replaced methods and replaced fields of its card."""
    known = {field.name for field in dataclasses.fields(MethodCard)}
    card = {name: changes.pop(name) for name in known & set(changes)}
    home = sys.modules.setdefault("crossfit_mutants", types.ModuleType("crossfit_mutants"))
    card = {"name": "mutant", "target": "crossfit_mutants:Mutant", **card}
    changes |= {"card": dataclasses.replace(base.card, **card), "__module__": home.__name__}
    home.Mutant = type("Mutant", (base,), changes)
    return home.Mutant


def _super(name):
    return getattr(LabelRegression, name)


def _with(**kwargs):
    return lambda: _mutant(LabelRegression, **kwargs)


def _grows(self, views, y):
    _super("_fit")(self, views, y)
    self.seen_ = getattr(self, "seen_", 0) + 1
    self.weights_["image"] = self.weights_["image"] + self.seen_


def _draws(self, views, y):
    _super("_fit")(self, views, y)
    self.weights_["image"] = np.random.normal(size=self.weights_["image"].shape)


def _draws_python(self, views, y):
    _super("_fit")(self, views, y)
    self.weights_["image"] = self.weights_["image"] + random.random()


def _seeds(self, views, y):
    np.random.seed(0)
    _super("_fit")(self, views, y)


def _changes_parameter(self, views, y):
    _super("_fit")(self, views, y)
    self.reg = self.reg * 2


def _writes_labels(self, views, y):
    _super("_fit")(self, views, y)
    y[:] = 0


def _no_memmap(self, views, y):
    if isinstance(views["image"], np.memmap):
        raise ValueError("no memmap")
    _super("_fit")(self, views, y)


def _wants_two(self, views, y):
    if len(views.names) > 2:
        raise ValueError("only two views")
    _super("_fit")(self, views, y)


def _holds_lambda(self, views, y):
    _super("_fit")(self, views, y)
    self.encoder_ = lambda values: values


def _derives(self, reg=1.0, views=None):
    self.reg, self.views, self._double = reg, views, 2 * reg


def _uses_derived(self, views, y):
    kept, self.reg = self.reg, self._double
    _super("_fit")(self, views, y)
    self.reg = kept


def _takes_anything(self, reg=1.0, views=None, **ignored):
    self.reg, self.views = reg, views


def _centres_batch(self, values, view):
    encoded = _super("_encode")(self, values, view)
    return encoded - encoded.mean(axis=0)


def _reads_sparse_wrongly(self, values, view):
    scale = 2.0 if hasattr(values, "tocsr") else 1.0
    encoded = _super("_encode")(self, values, view)
    return encoded + (scale - 1)


def _writes_sparse(self, views, y):
    for role in views.names:
        if hasattr(views[role], "tocsr"):
            views[role].data *= 1.5
            views[role].data /= 1.5
            views[role].data[0] = np.nextafter(views[role].data[0], np.inf)
    _super("_fit")(self, views, y)


def _random_weights(self, views, y):
    _super("_fit")(self, views, y)
    rng = np.random.RandomState(len(views))
    for role, w in self.weights_.items():
        self.weights_[role] = rng.normal(size=w.shape)


def _views_differ(self, X, Y=None, **kwargs):
    scores = _super("similarity")(self, X, Y, **kwargs)
    return scores + np.float32(isinstance(X, Views))


def _by_position(self, X, Y=None, *, query=None, gallery=None, chunk_size=None):
    if isinstance(X, Views) and query is None and X.names == tuple(self.views_in_.values())[::-1]:
        return _super("similarity")(self, X, query=X.names[0], gallery=X.names[1])
    return _super("similarity")(self, X, Y, query=query, gallery=gallery, chunk_size=chunk_size)


def _row_by_row(self, X, Y=None, **kwargs):
    if isinstance(X, Views):
        named = {name: X[name] for name in X.names}
        return _super("similarity")(self, Views(named), **kwargs)
    return _super("similarity")(self, X, Y, **kwargs)


def _float64(self, X, Y=None, **kwargs):
    return _super("similarity")(self, X, Y, **kwargs).astype(np.float64)


def _one_way(self, X, Y=None, *, query=None, gallery=None, chunk_size=None):
    scores = _super("similarity")(self, X, Y, query=query, gallery=gallery, chunk_size=chunk_size)
    return scores if query in (None, "image") else scores - scores.max(axis=0)


def _chunked_differently(self, X, Y=None, *, chunk_size=None, **kwargs):
    scores = _super("similarity")(self, X, Y, **kwargs)
    return scores if chunk_size is None else scores + np.float32(0.01)


def _knows_partners(self, X, Y=None, **kwargs):
    scores = _super("similarity")(self, X, Y, **kwargs)
    return scores + np.eye(*scores.shape, dtype=np.float32)


def _score_of_another(self, X, Y=None, y=None):
    return min(1.0, _super("score")(self, X, Y, y) + 0.05)


def _score_remembers(self, X, Y=None, y=None):
    self.bonus_ = np.float32(0.5)
    return _super("score")(self, X, Y, y)


def _similarity_of_bonus(self, P, Q):
    return pairwise_similarity(P, Q, "cosine") + getattr(self, "bonus_", 0)


def _alone_differs(self, X, Y=None):
    found = _super("transform")(self, X, Y)
    alone = isinstance(X, Views) and len(X.names) == 1
    return found.map(lambda values, name: 2 * values) if alone else found


def _no_labels_needed(self, y, n):
    return np.zeros(n, int) if y is None else np.asarray(y)[:n]


class _Draws(LabelRegression):
    """A method that takes a seed and ignores it."""

    def __init__(self, reg=1.0, views=None, random_state=None):
        super().__init__(reg, views)
        self.random_state = random_state

    def _fit(self, views, y):
        super()._fit(views, y)
        noise = np.random.default_rng().normal(size=self.weights_["image"].shape)
        self.weights_["image"] = self.weights_["image"] + noise


class _Remembers(LabelRegression):
    """A method whose clones are fitted."""

    def __sklearn_clone__(self):
        return copy.deepcopy(self)


MUTANTS = [
    ("check_card", _with(target="crossfit.subspace.cca:CCA"), "not <class"),
    ("check_card", _with(name="Mutant_Two"), "not normalised"),
    ("check_search_space", _with(search_space={"depth": Float(0, 1)}), "search_space: .*depth"),
    ("check_kind", _with(kind="pair", transform=_super("fit")), "has transform"),
    ("check_unknown_parameters", _with(__init__=_takes_anything), "no error was raised"),
    (
        "check_set_params",
        _with(__init__=_derives, _fit=_uses_derived, search_space={"reg": Float(50, 60)}),
        "after set_params",
    ),
    ("check_clone", lambda: _Remembers, "NotFittedError"),
    ("check_pickle", _with(_fit=_holds_lambda), None),
    ("check_same_seed", _with(_fit=_draws), "second fit"),
    ("check_same_seed", _with(_fit=_draws_python), "second fit"),
    ("check_same_seed", lambda: _Draws, "second fit"),
    ("check_global_state", _with(_fit=_draws), "numpy.random"),
    ("check_global_state", _with(_fit=_seeds), "numpy.random"),
    ("check_refit", _with(_fit=_grows), "fit on other rows"),
    (
        "check_inputs_unchanged",
        _with(_fit=_changes_parameter),
        "fit changed constructor parameters",
    ),
    ("check_inputs_unchanged", _with(_fit=_writes_labels), "inputs were modified"),
    ("check_memmap", _with(_fit=_no_memmap), None),
    ("check_sparse", _with(_encode=_reads_sparse_wrongly), "sparse image"),
    ("check_sparse", _with(_fit=_writes_sparse), "was modified"),
    ("check_three_arguments", _with(similarity=_views_differ), "similarity"),
    ("check_view_names", _with(similarity=_by_position), "another order"),
    ("check_extra_views", _with(extra_views=True, _fit=_wants_two), "two views"),
    ("check_subset", _with(transform=_alone_differs), "image alone"),
    ("check_scores", _with(similarity=_float64), "float32"),
    ("check_scores", _with(score=lambda *given: 1.5), "0, 1"),
    ("check_directions", _with(similarity=_one_way), "query='text'"),
    ("check_chunks", _with(similarity=_chunked_differently), "chunk_size=1"),
    ("check_batch", _with(_encode=_centres_batch), "five rows"),
    ("check_permutation", _with(similarity=_knows_partners), "permuted"),
    ("check_missing_views", _with(missing_views=True), "is missing in 16 of 80"),
    (
        "check_captions",
        _with(similarity=_row_by_row),
        r"must give scores of shape \(13, 39\), got \(39",
    ),
    ("check_label_leak", _with(score=_score_of_another), "compared with the metric"),
    (
        "check_label_leak",
        _with(score=_score_remembers, _similarity=_similarity_of_bonus),
        "after scoring",
    ),
    ("check_better_than_chance", _with(_fit=_random_weights), r"must be at least 0\.5"),
    ("check_labels", _with(_checked_labels=_no_labels_needed), "without labels"),
]


@pytest.mark.parametrize("name, mutant, message", MUTANTS)
def test_every_check_fails_on_a_method_that_breaks_it(name, mutant, message):
    (check,) = [check for check in checks.CHECKS if check.__name__ == name]
    if name != "check_search_space":  # it does not have one
        check(Subject(LabelRegression, {}))
    # An error in the method also fails a check, but a skip does not.
    with pytest.raises(Exception, match=message) as caught:
        check(Subject(mutant(), {}))
    assert not isinstance(caught.value, SkipTest)


def test_every_check_has_a_method_that_breaks_it():
    # The others are failed by ValidatesNothing, an unregistered class, a heavy plugin and the
    # methods that do something wrong with padding and memory.
    broken = {name for name, _, _ in MUTANTS} | {
        "check_padding",
        "check_pair_memory",
        "check_ragged",
        "check_columns",
        "check_label_vector",
        "check_listing",
        "check_misaligned",
        "check_not_finite",
        "check_not_fitted",
        "check_one_sample",
        "check_registered",
        "check_training",
        "check_wrong_view",
    }
    assert broken == {check.__name__ for check in checks.CHECKS}


def test_a_plugin_that_is_heavy_to_list_fails(folder):
    heavy = "from sklearn.base import BaseEstimator\n" + textwrap.dedent(PAIR_CARDS)
    points = {"bilinear": "outside.cards:CARD"}
    _install(folder, "outside-plugin", points, cards=heavy, method=PAIR_METHOD)
    cls = registry.load("bilinear")
    with pytest.raises(AssertionError, match="listing the registry imports sklearn"):
        check_listing(Subject(cls, {}))


# ---- tolerances follow the type ---------------------------------------------------------


def _moves_with_the_batch(dtype, by, wide=False):
    """Return an `_encode` whose rows change by a share of the largest if they are alone."""

    def encode(self, values, view):
        encoded = _super("_encode")(self, np.asarray(dense(values), float), view)
        moved = by * np.abs(self.means_[view]).max() * (len(values) == 1)
        return (encoded + moved).astype(dtype).astype(np.float64 if wide else dtype)

    return encode


@pytest.mark.parametrize(
    ("given", "passes"),
    [
        # Two units in the last place of the largest, like products of one row with AVX-512.
        ((np.float32, 2.4e-7), True),
        ((np.float32, 1e-3), False),
        ((np.float32, 2.4e-7, True), True),  # returned as float64
        ((np.float32, 1e-3, True), False),
        ((np.float64, 2.4e-7), False),
        ((np.float64, 1e-14), True),
    ],
)
def test_rows_may_move_by_what_their_type_cannot_hold(given, passes):
    cls = _mutant(LabelRegression, _encode=_moves_with_the_batch(*given))
    results = {result.name: result for result in check_method(cls)}
    for name in ("sklearn.check_methods_subset_invariance", "check_batch"):
        assert (results[name].status == "pass") == passes, results[name]


def test_scikit_learns_own_comparison_is_theirs_again_after_the_checks():
    from sklearn.utils import estimator_checks

    before = estimator_checks.assert_allclose
    check_method(LabelRegression)
    assert estimator_checks.assert_allclose is before
