"""Hubness against scipy, and bad input."""

import numpy as np
import pytest
from scipy.stats import skew

from crossfit.metrics import hubness


def test_hubness_is_the_skewness_of_the_counts():
    top = np.random.default_rng(0).zipf(1.5, size=(80, 5)) % 40
    counts = [np.sum(top == item) for item in range(50)]
    found = hubness(top, 50)
    assert found["skewness"] == pytest.approx(skew(counts))
    assert found["max"] == max(counts) and found["never"] == np.mean(np.equal(counts, 0))


def test_items_that_are_found_equally_often_have_no_hubs():
    assert hubness([[0, 1], [2, 3]], 4) == {"skewness": 0.0, "max": 1, "never": 0.0}


@pytest.mark.parametrize(
    ("top", "n", "message"),
    [
        ([[0, 5]], 5, "numbers of items from 0 to 4, got an array of shape .1, 2. .* from 0 to 5"),
        ([[-1, 0]], 5, "from -1 to 0"),
        ([[0.5]], 5, "got an array of shape .1, 1. and type float64"),
        (np.empty((0, 3), int), 5, "got an array of shape .0, 3."),
        ([[0]], 0, "'n_gallery' parameter of hubness must be an int in the range"),
    ],
)
def test_bad_input_is_one_clear_sentence(top, n, message):
    with pytest.raises(ValueError, match=message):
        hubness(top, n)
