"""Directions: values whose key is parsed with the names of the views."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfit.metrics import Direction, evaluate
from crossfit.metrics.directions import spellings

ODD = ["view1", "view2", "wav2vec", "l2", "clip2", "2", "图", "image", "a b"]


def test_a_direction_is_a_value():
    one = Direction("image", "text")
    assert (one.key, one.alias, one.label) == ("image2text", "i2t", "image → text")
    assert one == Direction("image", "text") == "image2text"
    assert hash(one) == hash(Direction("image", "text")) == hash("image2text")
    assert one.reverse == Direction("text", "image") != one
    assert json.loads(json.dumps({one: one})) == {"image2text": "image2text"}
    for again in (pickle.loads(pickle.dumps(one)), copy.deepcopy(one), eval(repr(one))):
        assert (again.query, again.gallery) == ("image", "text") and isinstance(again, Direction)
    for name in ("query", "gallery", "label", "anything"):
        with pytest.raises(AttributeError):
            setattr(one, name, "audio")


def test_keys_are_read_by_the_names_of_the_views():
    for one in Direction.between(ODD):
        assert Direction.parse(one.key, ODD) is not None
        assert Direction.parse(one, ODD).label == one.label
        assert Direction.parse(one.key, (one.query, one.gallery)).query == one.query
        stored = Direction.stored(one.key, (one.query, one.gallery))
        assert (stored.query, stored.gallery) == (one.query, one.gallery)


@given(st.lists(st.text("a2b", min_size=1, max_size=4), min_size=2, max_size=4, unique=True))
def test_a_text_stands_for_one_direction_or_is_refused(views):
    known = Direction.between(views)
    for text, one in spellings(known).items():
        assert Direction.parse(text, views).label == one.label
        assert text in (one.key, one.alias)
    for one in known:
        if sum(one.key == other.key for other in known) == 1:
            assert Direction.parse(one.key, views).label == one.label
        else:
            with pytest.raises(ValueError, match="is ambiguous"):
                Direction.parse(one.key, views)
        assert Direction.parse(one, views).label == one.label


@pytest.mark.parametrize(
    ("text", "views", "message"),
    [
        ("audio2text", ["image", "text"],
         "direction: 'audio2text' is unknown; use one of image2text, text2image"),
        ("image", ["image", "text"], "is unknown; use one of image2text, text2image"),
        (None, ["image", "text"], "direction: None is unknown"),
        ("v2v", ["view1", "view2"],
         r"'v2v' is ambiguous \(view1 → view2, view2 → view1\); use one of view12view2, view22"),
        ("i2t", ["image", "text", "tags"], "'i2t' is ambiguous"),
        ("a2b2c", ["a", "b2c", "a2b", "c"], r"is ambiguous \(a → b2c, a2b → c\)"),
        (Direction("a", "b"), ["b", "c"], "is unknown; use one of b2c, c2b"),
    ],
)  # fmt: skip
def test_what_is_unknown_or_ambiguous_is_one_error(text, views, message):
    with pytest.raises(ValueError, match=message) as raised:
        Direction.parse(text, views)
    assert "\n" not in str(raised.value)


def test_a_key_comes_before_initials():
    assert Direction.parse("i2t", ["image", "text", "i", "t"]).label == "i → t"


@pytest.mark.parametrize("bad", [("", "text"), ("image", "")])
def test_a_view_has_a_name(bad):
    with pytest.raises(ValueError, match="the name is empty"):
        Direction(*bad)
    with pytest.raises(TypeError, match="query: 3 is not a string"):
        Direction(3, "text")


def test_stored_keys_without_views_have_one_reading_or_none():
    assert Direction.stored("image2text").label == "image → text"
    assert Direction.stored("view12view2", ["view2", "view1"]).label == "view1 → view2"
    for key in ("wav2vec2l2", "imagetext", "2text", "image2", ""):
        with pytest.raises(ValueError, match="direction: "):
            Direction.stored(key)


def test_an_evaluation_is_asked_in_every_spelling():
    found = evaluate(np.eye(3), np.eye(3), "mrr", names=("wav2vec", "l2"), ci=None)
    forward, backward = found.directions
    assert (forward.label, backward.label) == ("wav2vec → l2", "l2 → wav2vec")
    for spelling in (forward, "wav2vec2l2", "w2l", "forward"):
        assert found.mean(spelling, "mrr") == 1
    with pytest.raises(ValueError, match="one key for both directions"):
        evaluate(np.eye(3), np.eye(3), "mrr", names=("x", "x2x"))
