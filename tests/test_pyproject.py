"""The pyproject files of crossfit and of the plugins in this repository are consistent."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PLUGINS = sorted(ROOT.glob("plugins/*/pyproject.toml"))


def read(path):
    return tomllib.loads(path.read_text("utf-8"))["project"]


def bounds(project):
    """Return the version specifiers by distribution, of dependencies and of extras."""
    extras = project.get("optional-dependencies", {}).values()
    every = [*project["dependencies"], *(line for extra in extras for line in extra)]
    found = {}
    for requirement in map(Requirement, every):
        found.setdefault(canonicalize_name(requirement.name), set()).add(str(requirement.specifier))
    return found


CORE = read(ROOT / "pyproject.toml")


def test_every_dependency_has_a_bound():
    without = {name for name, stated in bounds(CORE).items() if "" in stated}
    assert without <= {CORE["name"]}  # named by its own extras


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: path.parent.name)
def test_a_plugin_has_the_lower_bounds_of_crossfit(path):
    plugin, core = read(path), bounds(CORE)
    assert plugin["requires-python"] == CORE["requires-python"]
    found = bounds(plugin)
    (own,) = found.pop(CORE["name"])
    assert Version(own.removeprefix(">=")) <= Version(CORE["version"])
    different = {name: (stated, core[name]) for name, stated in found.items()
                 if name in core and not stated <= core[name]}  # fmt: skip
    assert not different
