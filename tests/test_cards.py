"""Cards and search spaces refuse what cannot be meant, when they are made."""

import math

import numpy as np
import pytest

from crossfit.cards import (
    Choice,
    DatasetCard,
    Each,
    ExperimentCard,
    ExtractorCard,
    Float,
    Int,
    MethodCard,
)

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
        (MethodCard, "roles", ("image",), ValueError, "roles must be two or more"),
        (MethodCard, "roles", ("image", "image"), ValueError, "must differ"),
        (MethodCard, "extra_views", "no", TypeError, "extra_views must be True or False"),
        (MethodCard, "search_space", {"reg": (1e-4, 10.0)}, TypeError,
         r"search_space: 'reg' must be a Float, Int, Choice or Each, got \(0.0001, 10.0\)"),
        (MethodCard, "search_space", {"map": Choice("a", "b"), "c": Int(1, 2, when={"mpa": "a"})},
         ValueError, "when= of 'c' must name parameters before it, got 'mpa': did you mean 'map'"),
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
        (lambda: Float(3, 1), ValueError, "low <= high, got 3 and 1"),
        (lambda: Float(0, math.inf), ValueError, "finite, got 0 and inf"),
        (lambda: Float(math.nan, 1), ValueError, "finite, got nan and 1"),
        (lambda: Float(0, 1, log=True), ValueError, "low > 0"),
        (lambda: Float(1, 2, {"kernel": "rbf"}), TypeError, "log must be True or False"),
        (lambda: Float(1, 2, when="kernel"), TypeError, "when must be a mapping, got 'kernel'"),
        (lambda: Choice(), ValueError, "at least one option"),
        (
            lambda: Choice(["a", "b"]),
            ValueError,
            r"one by one, .* got the single option \['a', 'b'",
        ),
        (lambda: Choice("a", when="b"), TypeError, "when must be a mapping"),
        (lambda: Each("image", Float(1, 2)), TypeError, r"tuple of strings, .* \('image',\)"),
        (lambda: Each(("image",), (1, 2)), TypeError, "part must be a Float, Int or Choice"),
        (lambda: Each(("image",), Float(1, 2, when={"a": 1})), ValueError, "belongs to Each"),
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
