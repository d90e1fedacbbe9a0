"""A plugin made from the template: built, installed in a clean environment, listed, checked."""

import ast
import datetime
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from crossfit import registry
from crossfit.cli import main
from crossfit.cli.new import KINDS, write_plugin

ROOT = Path(__file__).parent.parent
NAME = "two-words"
WHEEL = ["wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]


def pip(*command, python=sys.executable):
    pytest.importorskip("pip")
    pytest.importorskip("hatchling", reason="plugins are built with hatchling")
    subprocess.run([sys.executable, "-m", "pip", "--python", python, *command], check=True)


def test_what_builds_a_plugin_comes_with_the_test_extra():
    # Without pip the tests below would be skipped without notice.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extra = project["project"]["optional-dependencies"]["test"]
    assert any(needed.startswith("hatchling") for needed in extra)


def test_names_are_those_of_the_method(tmp_path):
    made = write_plugin(NAME, tmp_path)
    assert made == tmp_path / "crossfit-two-words" and list(tmp_path.iterdir()) == [made]
    files = {str(path.relative_to(made)) for path in made.rglob("*") if path.is_file()}
    assert {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "src/crossfit_two_words/cards.py",
        "src/crossfit_two_words/py.typed",
        "tests/test_two_words.py",
        "experiments/anon-2026-two-words-emoji.yaml",
    } <= files
    for file in files:
        text = (made / file).read_text(encoding="utf-8")
        assert "template" not in text.lower() and "template" not in file
        if file.endswith(".py"):
            ast.parse(text)
    assert "class TwoWords(CrossModalEstimator)" in (
        made / "src" / "crossfit_two_words" / "estimator.py"
    ).read_text(encoding="utf-8")


def test_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["new", "mine"])
    assert capsys.readouterr().out.splitlines() == [
        "wrote crossfit-mine",
        "next: pip install -e crossfit-mine; crossfit check mine",
    ]
    with pytest.raises(SystemExit):
        main(["new", "mine"])
    assert "exists already" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["new", "Mine_too", "--dir", "elsewhere"])
    assert "lower-case letters, digits" in capsys.readouterr().err
    assert not Path("elsewhere").exists()


@pytest.mark.parametrize(
    ("kind", "holds"),
    [
        ("network", {"src/crossfit_two_words/network.py": "class TwoWords(NeuralEstimator)"}),
        ("pair", {"src/crossfit_two_words/network.py": "class TwoWords(NeuralPairEstimator)"}),
        ("extractor", {"src/crossfit_two_words/extractor.py": "class TwoWords(ImageExtractor)"}),
        (
            "dataset",
            {
                "src/crossfit_two_words/loader.py": "def load(",
                "src/crossfit_two_words/testing.py": "def make_files(",
            },
        ),
    ],
)
def test_every_kind_has_a_template_of_its_own(tmp_path, kind, holds):
    made = write_plugin(NAME, tmp_path, kind)
    files = {path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()}
    assert {"pyproject.toml", "README.md", "LICENSE", "tests/test_two_words.py"} <= files
    assert "src/crossfit_two_words/estimator.py" not in files
    for file in files:
        text = (made / file).read_text(encoding="utf-8")
        assert "template" not in text.lower() and "template" not in file
        assert holds.get(file, "") in text
        if file.endswith(".py"):
            ast.parse(text)
    assert set(holds) <= files
    group = {"extractor": "extractors", "dataset": "datasets"}.get(kind, "methods")
    project = tomllib.loads((made / "pyproject.toml").read_text(encoding="utf-8"))
    points = project["project"]["entry-points"][f"crossfit.{group}"]
    assert points == {NAME: "crossfit_two_words.cards:TWO_WORDS"}


def test_an_unknown_kind_is_refused(tmp_path, capsys):
    with pytest.raises(ValueError, match="kind must be among method, network, pair, extractor, da"):
        write_plugin(NAME, tmp_path, "experiment")
    with pytest.raises(SystemExit):
        main(["new", NAME, "--kind", "experiment", "--dir", str(tmp_path)])
    assert "'experiment' is not one of" in capsys.readouterr().err
    for kind, name, says in (
        ("extractor", "grid", "of an extractor must be new, .* has the extractor 'grid'"),
        ("dataset", "emoji", "of a data set must be new, .* has the data set 'emoji'"),
    ):
        with pytest.raises(ValueError, match=says):
            write_plugin(name, tmp_path, kind)
    assert not list(tmp_path.iterdir())
    assert write_plugin("grid", tmp_path).is_dir()  # a method may have an extractor's name


@pytest.mark.parametrize(
    ("given", "git", "named"),
    [
        (["--author", "Ada \\1 Lovelace"], "Somebody", "Ada \\1 Lovelace"),
        ([], "Grace Hopper", "Grace Hopper"),
        ([], "", "the authors of crossfit-mine"),
        ([], None, "the authors of crossfit-mine"),
    ],
)
def test_the_licence_names_the_author(tmp_path, monkeypatch, given, git, named):
    def asked(command, **options):
        assert command == ["git", "config", "user.name"]
        if git is None:
            raise FileNotFoundError("git")
        return subprocess.CompletedProcess(command, 0 if git else 1, f"{git}\n" if git else "")

    monkeypatch.setattr("crossfit.cli.new.subprocess.run", asked)
    main(["new", "mine", "--dir", str(tmp_path), *given])
    text = (tmp_path / "crossfit-mine" / "LICENSE").read_text(encoding="utf-8")
    year = datetime.date.today().year
    assert f"\nCopyright (c) {year}, {named}\n" in text and "The crossfit developers" not in text


@pytest.mark.parametrize("name", ["", "a b", "-a", "a--b", "1a", "../a", "A", "a_b"])
def test_bad_names(tmp_path, name):
    with pytest.raises(
        ValueError, match="must consist of lower-case letters, digits and single hyphens"
    ):
        write_plugin(name, tmp_path)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("class", "cannot be 'class', which is a Python keyword"),
        ("none", "cannot be 'none', which is a Python keyword"),  # the class would be None
        ("template", "cannot be 'template', which is the name of the template"),
        ("cca", r"crossfit-retrieval \S+, which is installed, has the method 'cca'"),
        ("retrieval", "must be new, but the distribution crossfit-retrieval .* is installed"),
    ],
)
def test_names_that_others_have(tmp_path, name, says):
    with pytest.raises(ValueError, match=f"the name of a method .*{says}"):
        write_plugin(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_name_of_a_networks_method_is_taken_too(tmp_path, monkeypatch):
    taken = registry.Entry("crossfit.methods", "mine-net", "others", "2.0", "broken")
    monkeypatch.setattr(registry, "entries", lambda: (taken,))
    with pytest.raises(
        ValueError, match=r"others 2\.0, which is installed, has the method 'mine-net'"
    ):
        write_plugin("mine", tmp_path)


def test_the_wheel_of_crossfit_holds_the_template(tmp_path):
    pip(*WHEEL, "--wheel-dir", str(tmp_path), str(ROOT))
    (wheel,) = tmp_path.glob("crossfit_retrieval-*.whl")
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if "/_template/" in name}
    assert "crossfit/_template/src/crossfit_template/estimator.py" in inside
    assert "crossfit/_template/experiments/anon-2026-template-emoji.yaml" in inside
    names = zipfile.ZipFile(wheel).namelist()
    for kind in KINDS:
        if kind != "method":
            assert f"crossfit/_template-{kind}/tests/test_template.py" in names
    assert not [name for name in names if "__pycache__" in name or "egg-info" in name]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Return plugins made from the templates, and the Python of an environment with all of them."""
    folder = tmp_path_factory.mktemp("template")
    made = {
        kind: write_plugin(NAME if kind == "method" else f"of-{kind}", folder, kind)
        for kind in KINDS
    }
    pip(*WHEEL, "--wheel-dir", str(folder), *map(str, made.values()))
    wheels = sorted(folder.glob("*.whl"))
    assert wheels[-1].name.startswith("crossfit_two_words-0.1.0-") and len(wheels) == len(KINDS)
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    python = folder / "venv" / "bin" / "python"
    # torch and the other packages are not installed again: the environment shares them.
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    here = sysconfig.get_paths()["purelib"]
    (site / "parent.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    pip("install", "--quiet", "--no-index", "--no-deps", *map(str, wheels), python=str(python))
    return made, python


def run(python, *command, cwd):
    done = subprocess.run(
        [str(python), *command],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


CLI = ("-c", "from crossfit.cli import main; main()")


@pytest.mark.slow
def test_it_is_listed_from_the_clean_environment(environment, tmp_path):
    _, python = environment
    rows = [line.split()[:4] for line in run(python, *CLI, "list", cwd=tmp_path).splitlines()]
    for kind, name in (
        ("method", NAME),
        ("method", f"{NAME}-net"),
        ("experiment", f"anon-2026-{NAME}-emoji"),
    ):
        assert [kind, name, f"crossfit-{NAME}", "0.1.0"] in rows
    code = (
        "import crossfit_two_words as m; print(m.__file__); from crossfit.methods import TwoWords"
    )
    assert str(python.parents[1]) in run(python, "-c", code, cwd=tmp_path)


@pytest.mark.slow
def test_crossfit_checks_it(environment, tmp_path):
    _, python = environment
    assert " 0 failed" in run(python, *CLI, "check", NAME, cwd=tmp_path)
    assert "Izenman" in run(python, *CLI, "cite", NAME, cwd=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "least"), [("network", 70), ("pair", 35), ("extractor", 20), ("dataset", 10)]
)
def test_plugins_of_other_kinds_conform(environment, kind, least, tmp_path):
    made, python = environment
    checked = run(python, *CLI, "check", "-q", f"of-{kind}", cwd=tmp_path)
    assert re.fullmatch(rf"of-{kind}: \d+ passed, 0 failed, \d+ other\n", checked)
    said = run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=made[kind])
    assert int(re.search(r"(\d+) passed", said)[1]) >= least


@pytest.mark.slow
def test_the_experiment_of_a_network_runs(environment, tmp_path):
    _, python = environment
    said = run(python, *CLI, "run", "anon-2026-of-network-emoji", "--dry-run", cwd=tmp_path)
    assert "Network" in said and "CCA" in said


@pytest.mark.slow
def test_its_own_tests_pass(environment):
    made, python = environment
    said = run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=made["method"])
    assert int(re.search(r"(\d+) passed", said)[1]) > 140


@pytest.mark.slow
def test_its_experiment_runs_and_is_reported(environment, tmp_path):
    _, python = environment
    said = run(python, *CLI, "run", f"anon-2026-{NAME}-emoji", cwd=tmp_path)
    assert "3 done" in said
    run(python, *CLI, "report", f"anon-2026-{NAME}-emoji", cwd=tmp_path)
    assert "Closed form" in (tmp_path / "crossfit-report" / "report.html").read_text()


def test_a_disk_without_room_is_one_sentence_and_leaves_nothing(tmp_path):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OSError, match=r"^cannot write the plugin to '.*full': the file is"):
            write_plugin("full", tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []
