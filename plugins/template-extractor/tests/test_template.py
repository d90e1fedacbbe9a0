"""The extractor against the conformance checks, and on pictures with known features."""

import numpy as np
import pytest

from crossfit.testing import check_extractor, parametrize_with_checks
from crossfit_template.cards import TEMPLATE
from crossfit_template.extractor import Template


@parametrize_with_checks([TEMPLATE])
def test_conforms(check):
    check()


def test_regions_conform_too():
    check_extractor(TEMPLATE, {"output": "regions"}, raise_on_failure=True)


def test_colours_are_those_of_the_patches():
    picture = np.zeros((10, 20, 3), np.uint8)
    picture[:5, :10] = (255, 0, 0)
    picture[5:, 10:] = (0, 0, 255)
    (found,) = Template(n_patches=2, output="regions", cache=False).fit_transform([picture])
    assert found.tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 7), (3, 2)])
def test_small_pictures(height, width):
    picture = np.full((height, width, 3), 51, np.uint8)
    (found,) = Template(n_patches=4, cache=False).fit_transform([picture])
    np.testing.assert_allclose(found, 0.2)


def test_bad_parameters():
    with pytest.raises(ValueError, match="n_patches"):
        Template(n_patches=0).fit([np.zeros((2, 2, 3), np.uint8)])
