"""Every example runs in a separate process and draws a figure."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))
RUN_AND_LOOK = """
import runpy, sys
runpy.run_path(sys.argv[1], run_name="__main__")
import matplotlib.pyplot as plt
figures = [plt.figure(number) for number in plt.get_fignums()]
drawn = [axes for figure in figures for axes in figure.findobj() if hasattr(axes, "has_data")]
assert any(axes.has_data() for axes in drawn), "no figure with anything in it"
"""


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)
def test_an_example_runs_and_draws(script, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", RUN_AND_LOOK, str(script)],
        cwd=tmp_path, env={**os.environ, "MPLBACKEND": "agg"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_every_example_is_in_the_gallery():
    assert len(EXAMPLES) >= 12
    assert all(script.name.startswith("plot_") for script in EXAMPLES)
