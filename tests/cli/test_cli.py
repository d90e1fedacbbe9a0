"""The command line as a whole: errors, exit codes, interruptions, light imports."""

import os
import shlex
import subprocess
import sys

import click
import pytest

from crossfit.cli.commands import cli


def test_version_says_name_and_number(run):
    import crossfit

    done = run("--version")
    assert done.returncode == 0
    assert done.stdout.strip() == f"crossfit {crossfit.__version__}"


@pytest.mark.parametrize(
    "words",
    [
        ("demo", "--out"),
        ("report", "x", "--out"),
        ("report", "x", "--store"),
        ("run", "shallow-wikipedia", "--store"),
        ("new", "my-method", "--dir"),
    ],
)
@pytest.mark.parametrize("inside", ["", "/deeper"])
def test_what_is_not_a_folder_is_refused_before_any_work(run, tmp_path, words, inside):
    os.mkfifo(tmp_path / "pipe")
    done = run(*words, f"{tmp_path}/pipe{inside}")
    assert done.returncode == 2
    assert f"{str(tmp_path / 'pipe')!r} is not a folder" in done.stderr.replace("\n", " ")


@pytest.mark.parametrize("name", cli.commands)
def test_help_has_examples_that_are_valid_calls(name):
    """Every example is parsed by its command: its options exist, and its arguments fit."""
    command = cli.commands[name]
    examples = [
        line[line.index("crossfit ") :].split(", with ")[0]
        for line in (command.epilog or "").replace("\\\n", "").splitlines()
        if "crossfit " in line
    ]
    assert any(line.startswith(f"crossfit {name}") for line in examples)
    for line in examples:
        words = shlex.split(line.split(" > ")[0])[1:]
        called = cli
        while isinstance(called, click.Group) and words:
            called = called.get_command(click.Context(called), words.pop(0))
        assert called is not None, line
        context = click.Context(called)
        given, left, _ = called.make_parser(context).parse_args(words)
        assert not left, line
        for param in called.params:
            if isinstance(param.type, click.Choice) and isinstance(given.get(param.name), str):
                param.type_cast_value(context, given[param.name])


def test_the_package_runs_as_a_module(run):
    done = subprocess.run(
        [sys.executable, "-m", "crossfit", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == run("--version").stdout


def test_an_error_is_one_line_and_a_traceback_where_that_is_asked_for(run):
    assert "CROSSFIT_DEBUG=1" in run("--help").stdout
    assert "Traceback" not in run("cite", "nope", CROSSFIT_DEBUG="").stderr
    assert "Traceback" in run("cite", "nope", CROSSFIT_DEBUG="1").stderr


def test_importing_crossfit_imports_neither_torch_nor_numpy(run):
    code = "import sys, crossfit; print(sorted({'torch', 'numpy', 'sklearn'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["lst"], 2, "No such command"),
        (["list", "things"], 2, "things"),
        (
            ["cite", "nope"],
            1,
            "no method, extractor, data set or experiment 'nope' is installed; see `crossfit list`",
        ),
        (
            ["cite", "emojy"],
            1,
            "data set or experiment 'emojy' is installed: did you mean 'emoji'?",
        ),
        (["check", "nope"], 1, "no method, extractor or data set 'nope' is installed"),
        (["check", "cca", "nope"], 1, "no method, extractor or data set 'nope' is installed"),
        (["search"], 2, "exactly one of QUERY and --picture"),
        (["search", "  "], 2, "QUERY must not be empty"),
        (["search", "a", "-k", "0"], 2, "0"),
        (["search", "--picture", "nowhere.png"], 2, "does not exist"),
    ],
)
def test_wrong_input_gives_one_sentence_and_an_exit_code(run, args, code, says):
    done = run(*args)
    assert done.returncode == code
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_closed_pipe_is_no_traceback(command):
    first = subprocess.Popen(
        [*command, "list", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert first.stdout is not None
    first.stdout.close()
    assert first.stderr is not None
    assert b"Traceback" not in first.stderr.read()
    first.wait(timeout=60)


def test_ctrl_c_while_the_command_is_imported_is_no_traceback(run):
    code = (
        "import sys\n"
        "class Stop:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'crossfit.cli.commands': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Stop())\n"
        "from crossfit.cli import main; main(['list'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "crossfit: interrupted\n")
