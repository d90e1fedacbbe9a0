"""Every Python block of the documentation and the README runs, page by page."""

import pkgutil
import re
from importlib import import_module
from inspect import isclass, isroutine
from pathlib import Path
from pydoc import locate

import pytest

import crossfit

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
# Blocks under a file's name are files of a plugin, built by test_docs_plugin.py.
FILE = re.compile(r"^\*\*`\S+`\*\*\n\n(?=```)", re.MULTILINE)
PAGES = [page for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
         if BLOCK.search(page.read_text(encoding="utf-8"))]  # fmt: skip


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_python_block_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "page"}
    text = page.read_text(encoding="utf-8")
    files = {found.end() for found in FILE.finditer(text)}
    for found in BLOCK.finditer(text):
        if found.start() in files:
            continue
        line = text[: found.start()].count("\n") + 1
        # Blank lines in front make a traceback point at the line of the page.
        code = compile("\n" * line + found[1], str(page), "exec")
        exec(code, namespace)


def public_modules():
    """Return the packages and modules directly in crossfit, without the parts of packages.

    ``methods`` has the names of what is installed, and ``cli`` is for the command line.
    """
    names = [module.name for module in pkgutil.iter_modules(crossfit.__path__)]
    public = [name for name in names if not name.startswith("_") and name not in ("methods", "cli")]
    return [crossfit, *(import_module(f"crossfit.{name}") for name in public)]


def test_every_public_name_has_a_place_in_the_reference_and_a_docstring():
    reference = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    listed = re.findall(r"^   ((?:\w+\.)*\w+)$", reference, re.MULTILINE)
    shown = {name: locate(f"crossfit.{name}") for name in listed}
    assert not [name for name, found in shown.items() if found is None]
    unlisted, undocumented = [], []
    for module in public_modules():
        for name in module.__all__:
            if name.startswith("_"):
                continue
            found = getattr(module, name)
            if not any(found is other for other in shown.values()):
                unlisted.append(f"{module.__name__}.{name}")
            if (isclass(found) or isroutine(found)) and not found.__doc__:
                undocumented.append(f"{module.__name__}.{name}")
    assert not unlisted, ", ".join(unlisted)
    assert not undocumented, ", ".join(undocumented)


def test_the_readme_links_to_what_there_is():
    """Sphinx checks the links of the other pages; pictures are small enough to load at once."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    assert len(links) > 10
    for link in links:
        assert (ROOT / link).exists(), link
    pictures = [ROOT / link for link in links if link.endswith(".png")]
    assert len(pictures) >= 2
    assert all(path.stat().st_size < 300_000 for path in pictures)
