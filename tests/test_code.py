"""The hash of the code of a class depends on its source files, and on nothing else."""

import importlib
import sys

import pytest
from sklearn.decomposition import PCA

from crossfit._code import code_of, package_files
from crossfit.subspace import CCA


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Write a package with a class that uses a helper in a subfolder and a base class elsewhere."""
    home = tmp_path / "codeplug"
    (home / "inner").mkdir(parents=True)
    (home / "__init__.py").write_text("")
    (home / "inner" / "helper.py").write_text("FACTOR = 1\n")
    (home / "data.txt").write_text("1")
    (home / "method.py").write_text("from codebase import Base\nclass M(Base): pass\n")
    (tmp_path / "codebase.py").write_text("class Base: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield home
    for name in [name for name in sys.modules if name.startswith("code" + "plug")]:
        del sys.modules[name]
    sys.modules.pop("codebase", None)


def hashed():
    for name in [name for name in sys.modules if name.startswith(("codeplug", "codebase"))]:
        del sys.modules[name]
    importlib.invalidate_caches()
    return code_of(importlib.import_module("codeplug.method").M)


def test_a_hash_follows_the_package_and_the_bases_and_nothing_else(package):
    first = hashed()
    assert len(first) == 64
    for file in (package / "inner" / "helper.py", package.parent / "codebase.py"):
        text = file.read_text()
        file.write_text(text.replace("1", "2").replace("pass", "oops = 1"))
        assert hashed() != first
        file.write_text(text)
        assert hashed() == first
    (package / "data.txt").write_text("2")
    (package.parent / "stranger.py").write_text("")
    (package / "__pycache__").mkdir(exist_ok=True)
    (package / "__pycache__" / "more.py").write_text("")
    assert hashed() == first
    (package / "more.py").write_text("MORE = 1\n")
    assert hashed() != first


def test_a_class_that_moves_within_its_package_keeps_its_hash(package):
    helper, method = package / "inner" / "helper.py", package / "method.py"
    helper.write_text(
        '"""Two."""\nimport math\n\n\n@staticmethod\ndef half(x):\n    return x / 2\n'
    )
    method.write_text(
        "import math\nfrom codebase import Base\nfrom codeplug.inner.helper import half\n"
        "class M(Base): half = half\n"
    )
    first = hashed()
    helper.unlink()
    method.write_text(
        "from codebase import Base\nfrom .halves import half\nclass M(Base): half = half\n"
    )
    halves = package / "halves.py"
    halves.write_text("import math\n\n\n@staticmethod\ndef half(x):\n    return x / 2\n")
    assert hashed() == first
    # The module that a name is imported from is part of the code, also in a library.
    other = package / "other.py"
    other.write_text("def half(x):\n    return x / 3\n")
    both = hashed()
    method.write_text(method.read_text().replace(".halves", "codeplug.other"))
    assert len({first, both, third := hashed()}) == 3
    halves.write_text(halves.read_text().replace("import math", "import cmath as math"))
    assert hashed() != third


def test_a_class_that_is_loaded_keeps_its_hash_when_its_file_changes(package):
    cls = importlib.import_module("codeplug.method").M
    first = code_of(cls)
    (package / "method.py").write_text("class M: pass\n")
    assert code_of(cls) == first != hashed()


def test_libraries_have_versions_and_crossfit_is_taken_by_its_packages():
    assert code_of(PCA) == ""
    assert len(code_of(CCA)) == 64
    assert code_of(dict) == ""
    assert package_files("no_such_package_at_all") == {}
    assert "crossfit/subspace/cca.py" in package_files("crossfit")
