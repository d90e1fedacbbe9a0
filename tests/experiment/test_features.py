"""Features of an experiment: their warnings concern every cell that uses them."""

import json
import warnings

import pytest

from crossfit import Views
from crossfit.experiment import features
from crossfit.experiment.features import StoredFeatures
from crossfit.extraction import Tokens

VIEWS = Views(text=["a cat", "a dog", "zebras run far"])


def warned(folder, views=VIEWS):
    stage = StoredFeatures([("text", Tokens(min_count=2))], folder=folder)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = stage.fit_transform(views)
    assert found["text"][0].tolist() == [2, 1]
    return [str(each.message) for each in caught]


@pytest.mark.parametrize("in_memory", [True, False])
def test_warnings_are_given_again_with_the_features(in_memory, tmp_path, monkeypatch):
    folder = None if in_memory else str(tmp_path)
    (message,) = warned(folder)
    assert message.startswith("1 of 3 texts hold no word of the vocabulary")
    with monkeypatch.context() as context:
        context.setattr(Tokens, "_extract", None)  # nothing is extracted again
        assert warned(folder) == [message]


def test_damaged_warnings_are_reported_and_computed_again(tmp_path):
    (message,) = warned(str(tmp_path))
    (file,) = tmp_path.rglob(features.WARNINGS)
    assert json.loads(file.read_text()) == [message]
    file.write_text("[1]")
    first, second = warned(str(tmp_path))
    assert str(file) in first and second == message
    assert warned(str(tmp_path)) == [message]


def test_features_without_warnings_have_no_file_of_them(tmp_path):
    stage = StoredFeatures([("text", Tokens(min_count=1))], folder=str(tmp_path))
    stage.fit_transform(VIEWS)
    assert not list(tmp_path.rglob(features.WARNINGS))
