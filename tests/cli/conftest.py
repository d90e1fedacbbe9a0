"""Run the command line as users do, in a separate process."""

import os
import subprocess
import sys

import pytest


@pytest.fixture(scope="session")
def command():
    """Return the words that start the command line."""
    return [sys.executable, "-c", "from crossfit.cli import main; main()"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Return the folder of a cache."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def run(command):
    """Return ``run(*words, home=None, cwd=None, **environment)``, a finished process."""

    def call(*words, home=None, cwd=None, **environment):
        settings = {**os.environ, **environment}
        if home is not None:
            settings["CROSSFIT_CACHE"] = str(home)
        return subprocess.run(
            [*command, *words], capture_output=True, text=True, env=settings, cwd=cwd,
            timeout=300, check=False,
        )  # fmt: skip

    return call
