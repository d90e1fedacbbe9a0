"""Cards and search spaces reject invalid values when they are made."""

import math

import numpy as np
import optuna
import pytest
from optuna.trial import FixedTrial
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import Normalizer

from crossfit.cards import (
    Choice,
    DatasetCard,
    Each,
    ExperimentCard,
    ExtractorCard,
    Float,
    Int,
    MethodCard,
    suggest,
)
from crossfit.model_selection import default_search_space
from crossfit.search_space import remaining, renamed

COMMON = {"api": 1, "name": "mine", "target": "a.b:C", "summary": "A card"}


@pytest.mark.parametrize(
    ("kind", "field", "value", "error", "says"),
    [
        (MethodCard, "kind", "pairs", ValueError,
         "kind must be among embedding, pair, got 'pairs': did you mean 'pair'"),
        (MethodCard, "labels", "non", ValueError,
         "labels must be among none, optional, single, multi, got 'non': did you mean 'none'"),
        (MethodCard, "inputs", {"text": "vectors"}, TypeError,
         r"inputs of 'text' must be a tuple of strings, got 'vectors' \(for one, .*\('vectors',\)"),
        (MethodCard, "inputs", {"text": ("vectrs",)}, ValueError,
         "inputs of 'text' must be among vectors, .*, got 'vectrs': did you mean 'vectors'"),
        (MethodCard, "inputs", {"txt": ("vectors",)}, ValueError,
         "keys of inputs must be among image, text, got 'txt': did you mean 'text'"),
        (MethodCard, "inputs", ("vectors",), TypeError, "inputs must be a mapping"),
        (MethodCard, "roles", "image", TypeError, "roles must be a tuple of strings"),
        (MethodCard, "roles", ("image",), ValueError, "roles must have at least two names"),
        (MethodCard, "roles", ("image", "image"), ValueError, "must differ"),
        (MethodCard, "extra_views", "no", TypeError, "extra_views must be True or False"),
        (MethodCard, "search_space", {"reg": (1e-4, 10.0)}, TypeError,
         r"search_space: 'reg' must be a Float, Int, Choice or Each, got \(0.0001, 10.0\)"),
        (MethodCard, "search_space", {"map": Choice("a", "b"), "c": Int(1, 2, when={"mpa": "a"})},
         ValueError, "of 'c' must name parameters that precede it, got 'mpa': did you mean 'map'"),
        (MethodCard, "test_params", [("reg", 1)], TypeError, "test_params must be a mapping"),
        (MethodCard, "make_inputs", "mine", ValueError, "'package.module:function', got 'mine'"),
        (MethodCard, "api", "1", TypeError, "api must be a whole number, got '1'"),
        (MethodCard, "name", 3, TypeError, "name must be a string, got 3"),
        (MethodCard, "year", "1936", TypeError, "year must be a whole number, got '1936'"),
        (MethodCard, "target", "a.b.C", ValueError, "'package.module:attribute', got 'a.b.C'"),
        (ExtractorCard, "outputs", ("vector",), ValueError, "did you mean 'vectors'"),
        (ExtractorCard, "inputs", ("pixel",), ValueError, "did you mean 'pixels'"),
        (ExtractorCard, "inputs", "pixels", TypeError, "inputs must be a tuple of strings"),
        (ExtractorCard, "search_space", {"n": 3}, TypeError, "must be a Float, Int"),
        (DatasetCard, "labels", "multiple", ValueError, "did you mean 'multi'"),
        (DatasetCard, "modalities", "image", TypeError, "modalities must be a tuple"),
        (DatasetCard, "counts", 3, TypeError, "counts must be a mapping"),
        (ExperimentCard, "methods", "cca", TypeError, "methods must be a tuple of strings"),
    ],
)  # fmt: skip
def test_a_card_refuses_a_field_that_cannot_be_meant(kind, field, value, error, says):
    rest = {"modality": "image"} if kind is ExtractorCard else {}
    kind(**COMMON, **rest)
    with pytest.raises(error, match=says) as caught:
        kind(**{**COMMON, **rest, field: value})
    assert str(caught.value).startswith("card 'mine': " if field != "name" else "card 3: ")
    assert "\n" not in str(caught.value)


def test_a_card_of_another_version_is_not_judged():
    assert MethodCard(**{**COMMON, "api": 99}, kind="triple").kind == "triple"


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: Int(1.5, 3), TypeError, "Int: low and high must be whole numbers, got 1.5 and 3"),
        (lambda: Int(True, 3), TypeError, "whole numbers, got True and 3"),
        (lambda: Float("1", 3), TypeError, "Float: low and high must be numbers, got '1' and 3"),
        (lambda: Float(3, 1), ValueError, "greater than high, got 3 and 1"),
        (lambda: Float(0, math.inf), ValueError, "finite, got 0 and inf"),
        (lambda: Float(math.nan, 1), ValueError, "finite, got nan and 1"),
        (lambda: Float(0, 1, log=True), ValueError, "low must be positive"),
        (lambda: Float(1, 2, {"kernel": "rbf"}), TypeError, "log must be True or False"),
        (lambda: Float(1, 2, when="kernel"), TypeError, "when must be a mapping, got 'kernel'"),
        (lambda: Choice(), ValueError, "at least one option"),
        (
            lambda: Choice(["a", "b"]),
            ValueError,
            r"separate arguments, .* got the single option \['a', 'b'",
        ),
        (lambda: Choice("a", when="b"), TypeError, "when must be a mapping"),
        (lambda: Choice("a", when={3: "b"}), TypeError, "the keys of when must be a string, got 3"),
        (
            lambda: Choice("a", when={"b": ()}),
            ValueError,
            "when= must have at least one value of 'b'",
        ),
        (lambda: Choice("a", "b", "a"), ValueError, "options must differ, got 'a' twice"),
        (lambda: Choice(math.nan, float("nan")), ValueError, "options must differ, got nan twice"),
        (lambda: Choice([1], [1]), ValueError, r"options must differ, got \[1\] twice"),
        (lambda: Choice(a=(1,), b=(1,)), ValueError, r"options must differ, got \(1,\) twice"),
        (lambda: Choice("a", b="b"), ValueError, "all options must have names, or none"),
        (
            lambda: Choice(options=["a"]),
            ValueError,
            r"separate arguments, .* got options=\['a'\]",
        ),
        (lambda: Int(0, 10**400), ValueError, "Int: low and high must be finite"),
        (lambda: Float(-1.7e308, 1.7e308), ValueError, "high - low must be finite"),
        (lambda: Float(True, 2), TypeError, "numbers, got True and 2"),
        (lambda: Int(0, 4, log=True), ValueError, "low must be positive if log=True, got 0"),
        (lambda: Float(1, 2, log=1), TypeError, "log must be True or False, got 1"),
        (lambda: Each((), Float(1, 2)), ValueError, "keys must not be empty"),
        (lambda: Each(("a", "a"), Float(1, 2)), ValueError, "must differ"),
        (lambda: Each("image", Float(1, 2)), TypeError, r"tuple of strings, .* \('image',\)"),
        (lambda: Each(("image",), (1, 2)), TypeError, "part must be a Float, Int or Choice"),
        (lambda: Each(("image",), Float(1, 2, when={"a": 1})), ValueError, "must not have a when="),
    ],
)
def test_a_search_space_refuses_what_cannot_be_drawn_from(make, error, says):
    with pytest.raises(error, match=says):
        make()


def test_numbers_of_numpy_are_bounds_and_lists_are_options():
    assert Int(np.int64(1), np.int64(3)).high == 3
    assert Float(np.float32(0.5), 1).low == 0.5
    assert Choice([64], [64, 64]).options == ([64], [64, 64])
    assert Choice(True).options == (True,)


# ---- options -----------------------------------------------------------------------------------


def ask(space, **fixed):
    """Draw from a space with Optuna's own fixed trial, whose values are those of a study."""
    trial = FixedTrial(fixed)
    return suggest(space, trial), trial.params


def test_options_with_names_are_drawn_as_objects_and_kept_as_names():
    small, large = (64,), (512, 512)
    part = Choice(small=small, large=large)
    assert repr(part) == "Choice(small=(64,), large=(512, 512))"
    assert part.options == (small, large) and part.names == ("small", "large") == part.recorded
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [suggest({"hidden": part}, study.ask())["hidden"] for _ in range(20)]
    assert set(drawn) == {small, large}
    assert [{"small": small, "large": large}[t.params["hidden"]] for t in study.trials] == drawn
    # The same as Optuna draws from the names.
    oracle = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    names = [oracle.ask().suggest_categorical("hidden", ["small", "large"]) for _ in range(20)]
    assert names == [t.params["hidden"] for t in study.trials]
    # A finished trial returns its parameters again.
    assert suggest({"hidden": part}, study.trials[3]) == {"hidden": drawn[3]}
    each = Each(("image", "text"), part)
    assert ask({"n": each}, **{"n.image": "small", "n.text": "large"})[0] == {
        "n": {"image": small, "text": large}
    }


def test_plain_options_are_kept_as_they_are_and_old_studies_are_read():
    plain = Choice("a", 1, 2.5, None, False)
    assert plain.recorded == plain.options and plain.names is None
    # A study made before options had names is found by a hash of this text.
    assert vars(Choice("a", "b")) == {"options": ("a", "b"), "when": None}
    sizes = Choice((), (256,))
    assert sizes.recorded == ("()", "(256,)")
    assert ask({"hidden": sizes}, hidden="(256,)")[0] == {"hidden": (256,)}


class Plain:
    pass


def test_options_that_look_alike_stay_apart():
    # scikit-learn shortens long texts: the texts of these two are equal.
    steps = [Normalizer() for _ in range(40)]
    one = make_pipeline(*steps, Normalizer("l1"), *steps)
    two = make_pipeline(*steps, Normalizer("max"), *steps)
    assert repr(one) == repr(two)
    part = Choice(one, two)
    first, second = part.recorded
    assert first != second
    assert ask({"p": part}, p=first)[0]["p"] is one and ask({"p": part}, p=second)[0]["p"] is two
    # Python's default text of an object contains its address, which differs between processes.
    a, b = Plain(), Plain()
    assert Choice(a, b).recorded == Choice(Plain(), Plain()).recorded
    assert ask({"p": Choice(a, b)}, p=Choice(a, b).recorded[1])[0]["p"] is b
    # Optuna does not distinguish True from 1.
    for options in [(1, True), (False, 0), (1, 1.0)]:
        part = Choice(*options)
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        drawn = [suggest({"p": part}, study.ask())["p"] for _ in range(20)]
        assert {type(value) for value in drawn} == {type(option) for option in options}
        again = [suggest({"p": part}, trial)["p"] for trial in study.trials]
        assert [type(value) for value in again] == [type(value) for value in drawn]


# ---- conditions --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("space", "says"),
    [
        ({"k": Choice("rbf", "poly"), "d": Int(1, 3, when={"k": "ploy"})},
         "'d' is never searched, because its condition requires 'k' to be 'ploy'"),
        ({"k": Choice(small=(64,), large=(256,)), "d": Int(1, 3, when={"k": (256,)})},
         "requires 'k' to be \\(256,\\)"),
        ({"n": Int(1, 3), "d": Int(1, 3, when={"n": 4})}, "requires 'n' to be 4"),
        ({"n": Int(1, 3), "d": Int(1, 3, when={"n": 1.5})}, "requires 'n' to be 1.5"),
        ({"n": Float(0, 1), "d": Int(1, 3, when={"n": (2.0, "x")})}, "requires 'n' to be"),
        ({"a": Choice("x", "y"), "b": Choice(1, 2, when={"a": "x"}),
          "c": Int(1, 2, when={"a": "y", "b": 1})},
         "requires 'a' to be 'y' and 'x', which is not in Choice"),
        ({"a": Each(("i", "t"), Choice(1, 2)), "c": Int(1, 2, when={"a": {"i": 1}})},
         "'c' is never searched"),
        ({"d": Int(1, 3, when={"k": "rbf"}), "k": Choice("rbf", "poly")},
         "when= of 'd' must name parameters that precede it, got 'k'"),
        ({"a": Each(("i", "t"), Choice(1, 2)), "a.i": Int(1, 2)}, "name 'a.i' in a study"),
        ({"k": (1, 2)}, "'k' must be a Float"),
        ({3: Int(1, 2)}, "the names must be a string, got 3"),
    ],
)  # fmt: skip
def test_a_condition_that_can_never_hold_is_refused(space, says):
    with pytest.raises((ValueError, TypeError), match=says) as caught:
        suggest(space, optuna.create_study().ask())
    assert "\n" not in str(caught.value)
    with pytest.raises((ValueError, TypeError), match=says):
        MethodCard(**COMMON, search_space=space)


def test_conditions_that_can_hold_decide_what_is_drawn():
    space = {
        "size": Choice(small=(64,), large=(256,)),
        "kernel": Choice("rbf", "poly"),
        "degree": Int(2, 4, when={"kernel": ("poly", "spline")}),
        "coef": Float(0, 1, when={"size": "large", "degree": 3}),
        "both": Each(("i", "t"), Choice(a=1, b=2)),
        "last": Int(1, 2, when={"both": {"i": "a", "t": "b"}}),
    }
    drawn, kept = ask(
        space, size="large", kernel="poly", degree=3, coef=0.5, last=1, **{"both.i": "a",
        "both.t": "b"},
    )  # fmt: skip
    assert drawn == {"size": (256,), "kernel": "poly", "degree": 3, "coef": 0.5,
                     "both": {"i": 1, "t": 2}, "last": 1}  # fmt: skip
    assert set(kept) == {"size", "kernel", "degree", "coef", "both.i", "both.t", "last"}
    drawn, kept = ask(space, size="small", kernel="rbf", **{"both.i": "a", "both.t": "a"})
    assert set(drawn) == {"size", "kernel", "both"}


def test_what_is_fixed_is_not_drawn_and_decides_conditions():
    space = {
        "attention": Choice("shared", "separate", "none"),
        "act": Choice("tanh", None, when={"attention": ("shared", "separate")}),
        "gain": Float(0, 1, when={"act": "tanh"}),
        "max_epochs": Int(1, 9),
    }
    card = MethodCard(**COMMON, search_space=space)
    trial = FixedTrial({"attention": "shared", "act": None})
    assert card.suggest(trial, fixed={"max_epochs": 4, "lr": 0.1}) == {
        "max_epochs": 4, "lr": 0.1, "attention": "shared", "act": None,
    }  # fmt: skip
    assert "max_epochs" not in trial.params
    none = FixedTrial({"p__max_epochs": 2})
    assert card.suggest(none, "p__", fixed={"attention": "none"}) == {
        "p__attention": "none", "p__max_epochs": 2,
    }  # fmt: skip
    # A condition may name a fixed parameter; if that satisfies it, the condition disappears.
    left = remaining(space, {"attention": "separate", "act": "tanh"})
    assert left == {"gain": Float(0, 1), "max_epochs": Int(1, 9)}
    assert list(remaining(space, {"act": None})) == ["attention", "max_epochs"]
    named = {"size": Choice(small=(64,), large=(256,)), "d": Int(1, 2, when={"size": "large"})}
    assert list(remaining(named, {"size": (256,)})) == ["d"]
    assert list(remaining(named, {"size": (64,)})) == []


def test_names_of_a_space_change_with_its_conditions_and_keep_its_options():
    space = {"a": Choice(x=(1,), y=(2,)), "b": Choice(p=[1], q=[2], when={"a": "x"}),
             "c": Each(("i",), Int(1, 2, when={"a": "x"}), when={"a": "x"})}  # fmt: skip
    found = renamed(space, "m__".__add__)
    assert found["m__b"] == Choice(p=[1], q=[2], when={"m__a": "x"})
    assert found["m__c"].when == {"m__a": "x"} and found["m__c"].part == Int(1, 2)

    class Branching(Normalizer):
        card = MethodCard(**COMMON, search_space=space)

    assert default_search_space(Pipeline([("m", Branching())])) == found


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda card, trial: card.suggest(optuna.create_study()), "trial must be an Opt"),
        (lambda card, trial: card.suggest(None), "trial must be an Optuna trial, got None"),
        (lambda card, trial: card.suggest(trial, 3), "prefix must be a string, got 3"),
        (lambda card, trial: card.suggest(trial, None), "prefix must be a string, got None"),
        (lambda card, trial: card.suggest(trial, fixed=("a",)), "fixed must be a mapping"),
        (lambda card, trial: suggest([Int(1, 2)], trial), "space must be a mapping"),
        (lambda card, trial: suggest(None, trial), "space must be a mapping, got None"),
        (lambda card, trial: Int(1, 2).suggest(trial, 3), "name of a parameter must be a string"),
        (lambda card, trial: Float(1, 2).suggest("t", "x"), "trial must be an Optuna trial"),
        (lambda card, trial: Choice(1).suggest(3, "x"), "trial must be an Optuna trial, got 3"),
    ],
)
def test_a_wrong_trial_prefix_or_space_is_told(call, says):
    with pytest.raises(TypeError, match=says):
        call(MethodCard(**COMMON, search_space={"a": Int(1, 2)}), optuna.create_study().ask())
