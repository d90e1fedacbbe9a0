"""Every Python block of the documentation and the README runs, page by page."""

import re
from pathlib import Path

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


def test_every_public_name_has_a_place_in_the_reference():
    reference = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\s+((?:\w+\.)*\w+)\s*$", reference, re.MULTILINE))
    missing = []
    for module in (
        "",
        ".metrics",
        ".subspace",
        ".extraction",
        ".datasets",
        ".model_selection",
        ".retrieval",
        ".testing",
        ".similarities",
        ".protocols",
        ".registry",
        ".cards",
        ".neural",
    ):
        names = __import__(f"crossfit{module}", fromlist=["__all__"]).__all__
        short = module.lstrip(".")
        for name in names:
            if name.startswith("_"):
                continue
            if name not in listed and f"{short}.{name}" not in listed:
                missing.append(f"crossfit{module}.{name}")
    assert not missing
    assert crossfit.__all__
