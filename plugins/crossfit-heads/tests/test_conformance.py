"""All methods of the plugin under the conformance kit."""

import tomllib
from pathlib import Path

from crossfit import registry
from crossfit.testing import parametrize_with_checks

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
NAMES = [
    entry.name
    for entry in registry.entries("crossfit.methods")
    if entry.distribution == "crossfit-heads"
]


def test_all_methods_are_tried():
    assert sorted(NAMES) == sorted(PROJECT["entry-points"]["crossfit.methods"])


@parametrize_with_checks([registry.load(name) for name in NAMES])
def test_conformance(check):
    check()
