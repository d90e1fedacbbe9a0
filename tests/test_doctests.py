"""Every ``>>>`` of a docstring or a page has the result that is printed below it."""

import doctest
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = [ROOT / "src", *sorted(ROOT.glob("plugins/crossfit-*/src"))]


def shows_examples(path):
    return ">>> " in path.read_text(encoding="utf-8")


def module_name(path, source):
    return ".".join(path.relative_to(source).with_suffix("").parts).removesuffix(".__init__")


MODULES = [
    module_name(path, source)
    for source in SOURCES
    for path in sorted(source.rglob("*.py"))
    if shows_examples(path)
]
TEMPLATES = [path for path in sorted(ROOT.glob("plugins/template*/src/**/*.py"))
             if shows_examples(path)]  # fmt: skip


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_there_are_examples():
    assert len(MODULES) > 30


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module(name):
    package = name.partition(".")[0]
    if package != "crossfit":
        pytest.importorskip(package, reason="the plugin is not installed")
    assert not doctest.testmod(import_module(name)).failed


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(ROOT)))
def test_examples_of_a_template(path, monkeypatch):
    source = next(parent for parent in path.parents if parent.name == "src")
    name = module_name(path, source)
    for loaded in [key for key in sys.modules if key.partition(".")[0] == name.partition(".")[0]]:
        monkeypatch.delitem(sys.modules, loaded)  # all templates have the same package name
    monkeypatch.syspath_prepend(source)
    assert not doctest.testmod(import_module(name)).failed


def test_examples_of_the_pages():
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *ROOT.glob("plugins/*/README.md")]
    for page in pages:
        assert not doctest.testfile(str(page), module_relative=False).failed
