"""The plugin on the documentation page works: installed by pip, listed, checked."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
FILE = re.compile(r"^\*\*`(\S+)`\*\*\n\n```\w+\n(.*?)^```$", re.DOTALL | re.MULTILINE)
MAIN = "from crossfit.cli import main; main()"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Write the files of the page; return their folder and the one that pip installed them into."""
    pytest.importorskip("pip")
    pytest.importorskip("hatchling", reason="the plugin is built with hatchling")
    folder = tmp_path_factory.mktemp("plugin") / "crossfit-rotation"
    for path, text in FILE.findall(PAGE):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    (folder / "src" / "crossfit_rotation" / "__init__.py").touch()
    site = folder.parent / "site"
    offline = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *offline, "--target", str(site), str(folder)],
        check=True,
    )
    return folder, site


def run(site, *command, cwd=None):
    path = os.pathsep.join([str(site), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, *command],
        env={**os.environ, "PYTHONPATH": path.rstrip(os.pathsep), "OMP_NUM_THREADS": "1"},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_page_shows_every_file_that_it_lists(project):
    folder, _ = project
    tree = re.search(r"^    crossfit-rotation/\n((?:      \S.*\n)+)", PAGE, re.MULTILINE)
    listed = {line.split()[0] for line in tree[1].splitlines()}
    kinds = (".py", ".toml", ".yaml")
    made = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.suffix in kinds}
    assert made == listed


def test_it_is_listed_as_the_page_says(project):
    _, site = project
    listed = run(site, "-c", MAIN, "list", "methods")
    assert listed.returncode == 0, listed.stderr
    shown = re.search(r"^    (method +rotation .*)\.\.\.$", PAGE, re.MULTILINE)[1].split()
    rows = [line.split() for line in listed.stdout.splitlines()]
    assert any(row[: len(shown)] == shown for row in rows)


def test_it_passes_the_checks(project):
    _, site = project
    checked = run(site, "-c", MAIN, "check", "crossfit-rotation:rotation")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert " 0 failed" in checked.stdout
    assert len(re.findall(r"^  expected ", checked.stdout, re.MULTILINE)) <= 4
    cited = run(site, "-c", MAIN, "cite", "rotation")
    assert "Schönemann" in cited.stdout


def test_its_experiment_is_well_formed(project, tmp_path):
    _, site = project
    name = "rotation-emoji"
    planned = run(site, "-c", MAIN, "run", name, "--dry-run", cwd=tmp_path)
    assert planned.returncode == 0, planned.stdout + planned.stderr
    assert "Rotation" in planned.stdout and "CCA" in planned.stdout


def test_its_own_tests_pass(project):
    folder, site = project
    tested = run(site, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", cwd=folder)
    assert tested.returncode == 0, tested.stdout
    assert int(re.search(r"(\d+) passed", tested.stdout)[1]) > 70


def test_its_class_is_importable_by_name(project):
    _, site = project
    code = "from crossfit.methods import Rotation; print(Rotation(3))"
    assert run(site, "-c", code).stdout.strip() == "Rotation(n_components=3)"
