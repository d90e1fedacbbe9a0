"""All methods of the plugin under the conformance kit."""

from crossfit import registry
from crossfit.testing import parametrize_with_checks

METHODS = [
    registry.load(entry.name)
    for entry in registry.entries("crossfit.methods")
    if entry.distribution == "crossfit-correlation"
]


def test_all_methods_are_tried():
    assert len(METHODS) == 11


@parametrize_with_checks(METHODS)
def test_conformance(check):
    check()
