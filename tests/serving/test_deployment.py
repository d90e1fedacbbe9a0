"""The unit of systemd, the Dockerfile and the page on serving agree with the command."""

import json
import re
import shlex
import shutil
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest

from crossfit.cli.serve import serve
from crossfit.serving import Limits

ROOT = Path(__file__).parents[2]
FILES = ROOT / "examples" / "serving"
PAGE = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")


def parsed(words, tmp_path):
    """Check the arguments of a command after ``crossfit serve``, with paths that exist."""
    (tmp_path / "there").mkdir(exist_ok=True)
    given = [str(tmp_path / "there") if word.startswith("/") else word for word in words]
    return serve.make_context("serve", given).params


def test_the_unit_runs_the_command_of_the_page(tmp_path):
    unit = (FILES / "crossfit.service").read_text(encoding="utf-8")
    (command,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    assert "{literalinclude} ../examples/serving/crossfit.service" in PAGE
    words = shlex.split(command)
    assert words[:2] == ["/opt/crossfit/bin/crossfit", "serve"]
    assert parsed(words[2:], tmp_path)["host"] == "127.0.0.1"
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    program = tmp_path / "crossfit"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    copy = tmp_path / "crossfit.service"
    copy.write_text(unit.replace(words[0], str(program)))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False
    )
    complaints = [line for line in done.stderr.splitlines() if "crossfit" in line]
    assert not complaints, complaints


def test_the_image_runs_the_command(tmp_path):
    assert "{literalinclude} ../examples/serving/Dockerfile" in PAGE
    lines = (FILES / "Dockerfile").read_text(encoding="utf-8").splitlines()
    (entry,) = [line for line in lines if line.startswith("ENTRYPOINT ")]
    words = json.loads(entry.removeprefix("ENTRYPOINT "))
    assert words[:2] == ["crossfit", "serve"]
    assert parsed([*words[2:], "--token", "x" * 16], tmp_path)["host"] == "0.0.0.0"
    assert any(line.startswith("USER ") and line != "USER root" for line in lines)
    extras = re.findall(r"/src\[([a-z,]+)\]", "\n".join(lines))[0].split(",")
    declared = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert all(re.search(rf"^{extra} = \[", declared, re.MULTILINE) for extra in extras)
    volumes = json.loads(next(line for line in lines if "VOLUME" in line).partition(" ")[2])
    assert set(volumes) == {words[2], words[4]}
    for volume in volumes:
        assert f":{volume}:ro" in PAGE


def test_the_page_has_every_limit_with_its_default():
    table = PAGE.partition("## Limits")[2].partition("## Who")[0]
    for field in fields(Limits):
        (row,) = [line for line in table.splitlines() if f"`{field.name}`" in line and "|" in line]
        assert f"{field.default:,}".removesuffix(".0") in row, field.name


def test_the_page_has_every_option():
    for parameter in serve.params:
        if parameter.name not in ("bundle", "port", "token"):
            assert parameter.opts[0] in PAGE, parameter.name
    assert "CROSSFIT_TOKEN" in PAGE
