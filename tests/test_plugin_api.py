"""The plugins here import, override and use only what docs/plugin-api.md names."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "plugin-api.md").read_text("utf-8")
PLUGINS = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))
#: Members that are specified by Python, scikit-learn or torch and not by crossfit.
FOREIGN = {"__init__", "__init_subclass__", "__sklearn_tags__", "__len__", "__getitem__"}


def rows(heading):
    """Return the names in the first column of the tables of a section, by subsection."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    assert section, heading
    parts = re.split(r"^### `(.+)`\n", section, flags=re.M)[1:]
    return {
        name: set(re.findall(r"^\| `([\w]+)`", text, re.M))
        for name, text in zip(parts[::2], parts[1::2])
    }


IMPORTS = rows("What a plugin may import")
MEMBERS = rows("What a plugin may override or call")


def sources(plugin, *folders):
    for folder in folders:
        for path in sorted((plugin / folder).rglob("*.py")):
            yield path, ast.parse(path.read_text("utf-8"))


def imported(tree):
    """Return the names that a module imports from crossfit, as (module, name)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "crossfit":
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            names = (alias.name for alias in node.names)
            yield from ((name, "") for name in names if name.split(".")[0] == "crossfit")


def crossfit_bases(plugin):
    """Return the classes of a plugin, with the classes of crossfit that they inherit from."""
    classes, known = {}, {}
    for _, tree in sources(plugin, "src"):
        for module, name in imported(tree):
            found = getattr(importlib.import_module(module), name, None)
            if inspect.isclass(found):
                known[name] = found
        classes |= {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}

    def bases(node):
        for base in node.bases:
            name = base.id if isinstance(base, ast.Name) else ""
            if name in known:
                yield from (c for c in known[name].__mro__ if c.__module__[:8] == "crossfit")
            elif name in classes:
                yield from bases(classes[name])

    return [(node, list(bases(node))) for node in classes.values()]


def defined(node):
    """Return the names that the body of a class or a module defines."""
    for part in node.body:
        if isinstance(part, ast.FunctionDef | ast.ClassDef):
            yield part.name
        elif isinstance(part, ast.Assign):
            yield from (target.id for target in part.targets if isinstance(target, ast.Name))
        elif isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
            yield part.target.id


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda path: path.name)
def test_a_plugin_imports_what_is_documented(plugin):
    other = [
        f"{path.relative_to(plugin)}: {module}.{name}"
        for path, tree in sources(plugin, "src")
        for module, name in imported(tree)
        if name not in IMPORTS.get(module, ())
    ]
    assert not other


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda path: path.name)
def test_nothing_of_a_plugin_imports_private_names(plugin):
    private = [
        f"{path.relative_to(plugin)}: {module}.{name}"
        for path, tree in sources(plugin, "src", "tests", "experiments")
        for module, name in imported(tree)
        if any(part.startswith("_") for part in f"{module}.{name}".split("."))
    ]
    assert not private


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda path: path.name)
def test_a_plugin_overrides_and_calls_what_is_documented(plugin):
    documented = set().union(*MEMBERS.values()) | FOREIGN
    other, own, private = set(), set(), set()
    trees = list(sources(plugin, "src"))
    for _, tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef | ast.Module):
                own |= set(defined(node))
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                own.add(node.attr)
    for node, bases in crossfit_bases(plugin):
        inherited = {name for base in bases for name in vars(base)}
        inherited -= {"__module__", "__qualname__", "__doc__", "__annotations__"}
        private |= {name for name in inherited if re.match("_[^_]", name)}
        used = {
            part.attr
            for part in ast.walk(node)
            if isinstance(part, ast.Attribute) and part.attr.startswith("_")
        }
        members = (set(defined(node)) | used) & inherited
        other |= {f"{node.name}.{name}" for name in members - documented}
    for path, tree in trees:
        other |= {
            f"{path.name}: .{node.attr}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and node.attr in private - documented - own
        }
    assert not other


def test_what_is_documented_exists():
    for module, names in IMPORTS.items():
        found = importlib.import_module(module)
        assert not {name for name in names if not hasattr(found, name)}, module
    classes = {name for names in IMPORTS.values() for name in names}
    for name, members in MEMBERS.items():
        assert name in classes, name
        (cls,) = {
            getattr(importlib.import_module(module), name)
            for module, names in IMPORTS.items() if name in names
        }  # fmt: skip
        # The base classes do not define `explain`; only some methods have it.
        assert not {m for m in members if not hasattr(cls, m)} - {"explain"}, name
