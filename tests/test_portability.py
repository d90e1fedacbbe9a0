"""Every module can be imported without the modules and functions of POSIX."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import importlib, os, pkgutil, sys

for package in {packages!r}:  # which import other modules on other platforms
    importlib.import_module(package)
for name in ("resource", "fcntl", "pwd", "grp", "termios"):
    sys.modules[name] = None
for name in ("kill", "fork", "sysconf", "getuid", "killpg"):
    delattr(os, name)

for name in {modules!r}:
    package = importlib.import_module(name)
    for found in pkgutil.walk_packages(package.__path__, name + "."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
"""
PLUGINS = sorted(path.name for path in Path(__file__).parents[1].glob("plugins/crossfit-*/src/*"))
OTHERS = ("numpy", "scipy", "sklearn", "joblib", "torch", "torchvision", "skorch", "optuna",
          "gensim", "rich", "click", "matplotlib.pyplot", "psutil")  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="where they are missing anyway")
def test_every_module_is_imported_without_posix():
    modules = ["crossfit", *(name for name in PLUGINS if importlib.util.find_spec(name))]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(packages=OTHERS, modules=modules)],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
