"""The figures of the pages on pairs of all kinds are those that their examples print."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OUTPUT = re.compile(
    r"<!-- output of examples/(\w+)\.py(?: with (\w+))? -->\n```text\n(.*?)```", re.DOTALL
)
NUMBER = re.compile(r"\d+\.\d+")
FOUND = [
    pytest.param(*found.groups(), id="-".join(filter(None, found.groups()[:2])))
    for page in sorted((ROOT / "docs").glob("*.md"))
    for found in OUTPUT.finditer(page.read_text(encoding="utf-8"))
]
# Decompositions and networks differ a little between machines.
TOLERANCE = 0.03


def test_every_page_of_pairs_has_figures():
    scripts = {param.values[0] for param in FOUND}
    assert scripts == {
        "plot_sound_and_text", "plot_recipes", "plot_three_languages", "plot_users_and_items",
    }  # fmt: skip


@pytest.mark.parametrize("script, data, stated", FOUND)
def test_the_figures_of_a_page_are_printed_by_its_example(script, data, stated, tmp_path):
    root = os.environ.get("CROSSFIT_DATA", "")
    if data and not (Path(root) / data).is_dir():
        pytest.skip(f"{data} is not in CROSSFIT_DATA")
    if script == "plot_sound_and_text":
        pytest.importorskip("librosa", reason="the example extracts features of sounds")
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / f"{script}.py")],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "MPLBACKEND": "agg", "CROSSFIT_DATA": root if data else ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    for line in stated.splitlines():
        if line.startswith("InfoNCE") and not any("InfoNCE" in one for one in printed):
            continue  # the plugin is not installed
        same = [one for one in printed if NUMBER.sub("#", one) == NUMBER.sub("#", line)]
        assert same, f"{line!r} is not printed, but:\n{done.stdout}"
        for number, other in zip(NUMBER.findall(line), NUMBER.findall(same[0]), strict=True):
            assert float(number) == pytest.approx(float(other), abs=TOLERANCE), line
