"""Packages export their names, and use no private name of another package."""

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest

from crossfit import registry

ROOT = Path(__file__).parent.parent
SOURCES = sorted(
    path
    for folder in (ROOT / "src", *ROOT.glob("plugins/*/src"))
    for path in folder.rglob("*.py")
    if "template" not in str(path)
)


def imports(path):
    """Yield module and name of what a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and not node.level:
            yield from ((node.module, alias.name) for alias in node.names)


def package_of(path):
    parts = path.parts[path.parts.index("src") + 1 :]
    return ".".join(parts[:-1])


def test_private_names_stay_in_their_module_or_package():
    assert len(SOURCES) > 100
    crossing = []
    for path in SOURCES:
        package = package_of(path)
        for module, name in imports(path):
            if not module.startswith("crossfit"):
                continue
            home = module.rpartition(".")[0] or module
            private_module = any(part.startswith("_") for part in module.split("."))
            # A private module may be used in its own package and subpackages: `crossfit._arguments`
            # in all of crossfit.
            inside = f"{package}.".startswith(f"{home}.")
            foreign = name.startswith("_") and package not in (home, module)
            if foreign or (private_module and not inside):
                crossing.append(f"{path.relative_to(ROOT)}: {module}.{name}")
    assert not crossing


LAZY = [path for path in SOURCES if path.name == "__init__.py" and "attach(" in path.read_text()]


@pytest.mark.parametrize("path", LAZY, ids=package_of)
def test_type_checkers_see_the_names_that_are_exported(path):
    """The names under TYPE_CHECKING, from the same modules, are those of the table."""
    package = import_module(package_of(path))
    checked = next(node for node in ast.parse(path.read_text()).body if isinstance(node, ast.If))
    assert ast.unparse(checked.test) == "TYPE_CHECKING"
    static = {}
    for node in checked.body:
        (alias,) = node.names
        assert alias.asname == alias.name, "only `import x as x` is an export for type checkers"
        static[alias.name] = node.module
    assert static == {name: f"{package.__name__}.{home}" for name, home in package._HOMES.items()}
    assert set(package.__all__) - {"__version__"} == set(static)
    assert set(package.__all__) - {"__version__"} <= set(dir(package))


CARDS = [
    (group, entry.name)
    for group in ("crossfit.methods", "crossfit.extractors", "crossfit.datasets")
    for entry in registry.entries(group)
    if entry.distribution == registry.CORE
]


@pytest.mark.parametrize(("group", "name"), CARDS, ids=[name for _, name in CARDS])
def test_what_a_card_of_the_core_names_is_exported_and_documented(group, name):
    module, _, attribute = registry.get(name, group).target.partition(":")
    room = import_module(".".join(module.split(".")[:2]))
    docs = ROOT / "docs"
    if group == "crossfit.datasets":  # a module per data set, with a function `load`
        assert module.rpartition(".")[2] in dir(room)
        assert f"`{name}`" in (docs / "datasets.md").read_text(encoding="utf-8")
        return
    assert attribute in room.__all__
    assert getattr(room, attribute) is getattr(import_module(module), attribute)
    listed = re.findall(r"^   (\S+)$", (docs / "api.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert f"{room.__name__}.{attribute}".removeprefix("crossfit.") in listed
