"""The README's commands exist, its figures are those of the demo, its TOML makes a plugin.

Its Python blocks run in test_docs.py.
"""

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from crossfit.cli._shared import emoji_experiment
from crossfit.cli.commands import cli
from crossfit.experiment import run

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


COMMANDS = [
    line.removeprefix("$ ")
    for block in blocks("console")
    for line in block.splitlines()
    if line.startswith("$ ")
]


def test_there_are_commands():
    assert {"make demo", "make test"} <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_understood(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where a user's own pairs are
    for folder in ("photos", "photos.index", "features", "winner"):
        (tmp_path / folder).mkdir()
    (tmp_path / "pairs.csv").touch()
    program, *arguments = shlex.split(command)
    if program == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(arguments) <= set(targets)
        return
    assert program == ".venv/bin/crossfit"
    name, *options = arguments
    context = cli.commands[name].make_context(name, options)  # parses, and rejects invalid options
    assert context.params


def test_figures_of_the_plain_features_are_those_of_the_demo(tmp_path, monkeypatch):
    monkeypatch.setenv("CROSSFIT_CACHE", str(tmp_path / "cache"))
    record = run(emoji_experiment("plain"), tmp_path / "store")
    cell = next(cell for cell in record.cells if cell.label == "CCA")
    of_cca = {direction: found["map@all"]["mean"] for direction, found in cell.results.items()}
    at_random = {direction: found["map@all"] for direction, found in cell.chance.items()}
    for found, label in ((of_cca, "CCA, plain features"), (at_random, "chance")):
        shown = re.search(rf"^{label} +image → text +(\S+).*\n +text → image +(\S+)", README, re.M)
        assert shown is not None
        assert f"{found['image2text']:.3f}" == shown[1]
        assert f"{found['text2image']:.3f}" == shown[2]


def test_the_entry_point_of_the_readme_is_the_one_of_its_card():
    (block,) = blocks("toml")
    ((name, target),) = tomllib.loads(block)["project"]["entry-points"]["crossfit.methods"].items()
    assert f'name="{name}"' in README
    assert target.endswith(":CARD")
