"""Parameters of every registered method and extractor: declared, and checked by fit first."""

import inspect
import math
import re
import typing
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from types import UnionType

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crossfit import registry
from crossfit.subspace import CCA, CCA3V, CFA, JRL, KCCA, LGCFL, MACC, SM

METHODS = {
    entry.name: entry for entry in registry.entries("crossfit.methods") if entry.status == "ok"
}
EXTRACTORS = {
    entry.name: entry for entry in registry.entries("crossfit.extractors") if entry.status == "ok"
}
CARDS = {name: entry.card for name, entry in {**METHODS, **EXTRACTORS}.items()}
each_class = pytest.mark.parametrize("name", CARDS)
# Without this extra, the entry is missing.
OBLIGATORY = {
    "onnx-detector": {"path": "detector.onnx"},
    "openclip": {"model": "folder"},
    "sentence-transformers": {"model": "folder"},
    "timm": {"model": "folder"},
    "transformers": {"model": "folder"},
}

# Numbers that may be negative, and texts that may be anything.
SIGNED = {"bias", "coef0", "corr_weight", "shift", "verbose"}
ANY_TEXT = {"device", "optimizer", "trunk_weights", "weights", "views", "name", "layer", "path"}
ANY_TEXT |= {"model", "pretrained", "prompt", "revision"}
WRONG = ["False", "no", "", math.nan, math.inf, -1, -0.5, 2, 1.5, True, False, None, [], [1], {}]
WRONG += [{"image": "no"}, {"image": math.nan}, {"image": True}, {"image": []}, object(), b"no", 1j]
WRONG += [np.array([1.0, 2.0]), np.bool_(True), np.float32("nan"), 10**400]


def loaded(name):
    return registry.load(name, "crossfit.methods" if name in METHODS else "crossfit.extractors")


def method(name):
    return registry.load(name, "crossfit.methods")


def parameters(cls):
    return [
        name
        for name, parameter in inspect.signature(cls).parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]


def hints(cls):
    """Return the annotations of all parameters, including those inherited by **."""
    found = {}
    for base in reversed(cls.__mro__):
        init = base.__dict__.get("__init__")
        if base is not object and inspect.isfunction(init):
            found |= typing.get_type_hints(init)
    return found


def options(hint):
    if typing.get_origin(hint) in (typing.Union, UnionType):
        return [part for option in typing.get_args(hint) for part in options(option)]
    return [hint]


def may_be(value, name, hint):
    """Return True if the annotation and the known limits of numbers allow a value."""
    of = options(hint)
    if typing.Any in of:
        return True
    if isinstance(value, (bool, np.bool_)):
        return bool in of
    if isinstance(value, Integral):
        return (int in of or float in of) and (value >= 0 or name in SIGNED) and value < 10**300
    if isinstance(value, Real):
        return float in of and math.isfinite(value) and (value >= 0 or name in SIGNED)
    if value is None:
        return type(None) in of
    if isinstance(value, str):
        return str in of and name in ANY_TEXT
    if isinstance(value, Mapping):
        maps = [part for part in of if typing.get_origin(part) in (dict, Mapping)]
        return any(
            all(may_be(item, name, typing.get_args(part)[1]) for item in value.values())
            for part in maps
        )
    if isinstance(value, (list, tuple)):
        return any(typing.get_origin(part) is Sequence or part is Sequence for part in of)
    return any(isinstance(part, type) and isinstance(value, part) for part in of)


def check(cls, name, value, obligatory):
    """Fit on an invalid object, so that parameters are rejected before the data are read."""
    with pytest.raises((TypeError, ValueError)) as caught:
        cls(**{**obligatory, name: value}).fit(None)
    message = str(caught.value)
    if re.search(r"expects (Views or two modalities|images|texts|sounds|a Ragged)", message):
        assert may_be(value, name, hints(cls)[name]), f"{name}={value!r} passes"
    else:
        assert re.search(rf"\b{name}\b", message), message


def test_all_methods_are_there():
    assert {"cca", "pls", "cfa", "kcca", "acln", "ssvr"} <= set(METHODS)
    assert {"grid", "backbone", "tokens", "fisher", "mfcc", "minilm"} <= set(EXTRACTORS)


@each_class
def test_every_parameter_is_declared(name):
    cls = loaded(name)
    declared = {"views"} | set(cls._parameter_constraints)
    assert set(parameters(cls)) - declared == set()
    assert set(cls._parameter_constraints) - set(parameters(cls)) == set()


@each_class
def test_defaults_and_test_parameters_pass(name):
    cls, obligatory = loaded(name), OBLIGATORY.get(name, {})
    for given_ in ({}, dict(CARDS[name].test_params)):
        cls(**obligatory, **given_)._validate_params()


@each_class
def test_wrong_values_are_refused_by_name_before_the_data_are_looked_at(name):
    cls = loaded(name)
    for parameter in parameters(cls):
        for value in WRONG:
            check(cls, parameter, value, OBLIGATORY.get(name, {}))


ODD = st.one_of(
    st.text(max_size=5),
    st.floats(),
    st.integers(max_value=-1),
    st.booleans(),
    st.binary(max_size=3),
    st.complex_numbers(),
    st.just([]),
    st.builds(object),
    st.dictionaries(st.text(max_size=3), st.floats() | st.text(max_size=3), max_size=2),
)


@each_class
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_odd_values_of_every_kind(name, data):
    cls = loaded(name)
    if not parameters(cls):
        pytest.skip("it has no parameters")
    parameter = data.draw(st.sampled_from(parameters(cls)))
    check(cls, parameter, data.draw(ODD), OBLIGATORY.get(name, {}))


STANDARDIZED = [name for name in METHODS if "standardize" in parameters(method(name))]


@pytest.mark.parametrize("name", STANDARDIZED)
@pytest.mark.parametrize("value", ["False", "no", "yes", math.nan, [], -1, 2, 0, 1.0, None])
def test_standardize_is_a_bool(name, value, planted):
    views, y = planted(n=30)
    with pytest.raises(ValueError, match=r"'standardize' parameter of \w+ must be .*bool.* Got"):
        method(name)(standardize=value).fit(views, y)


@pytest.mark.parametrize(
    "made",
    [
        CCA(reg={"image": 1.0, "text": True}),
        CCA(reg={"image": 1.0, "text": -1}),
        CCA(reg={1: 1.0}),
        CCA(reg={"image": 2.0, "text": 0.0}, reg_style="shrink"),
        CFA(center="no"),
        CCA3V(view_weights={"text": math.nan}),
        CCA3V(fourier={"image": 2.5}),
        KCCA(kernel={"image": "rbf", "text": "rbv"}),
        KCCA(gamma={"image": 0.0}),
        MACC(reg={"image": "no"}),
        LGCFL(groups={"image": []}),
        LGCFL(groups=["a", "b"]),
        SM({"image": 3}),
        JRL(random_state=-1),
        CCA(views={"image": 3}),
        CCA(views=["image", "text"]),
    ],
    ids=repr,
)
def test_parameters_per_view_are_checked_in_depth(made):
    with pytest.raises(ValueError, match=r"Got|at most 1"):
        made.fit(None)


def test_partial_fit_checks_first_too():
    with pytest.raises(ValueError, match="'standardize' parameter of CCA"):
        CCA(standardize="no").partial_fit(None)
