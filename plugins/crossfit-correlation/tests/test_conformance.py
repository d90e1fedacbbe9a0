"""All methods of the plugin under the conformance kit."""

import pytest

from crossfit import registry
from crossfit.testing import parametrize_with_checks

METHODS = [
    registry.load(entry.name)
    for entry in registry.entries("crossfit.methods")
    if entry.distribution == "crossfit-correlation"
]


@pytest.mark.skipif(not METHODS, reason="no method is installed")
@parametrize_with_checks(METHODS)
def test_conformance(check):
    check()
