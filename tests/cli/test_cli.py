"""The command line, run as a person runs it: in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

CROSSFIT = [sys.executable, "-c", "from crossfit.cli import main; main()"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def run(*args, home=None, **env):
    settings = {**os.environ, **env}
    if home is not None:
        settings["CROSSFIT_CACHE"] = str(home)
    return subprocess.run(
        [*CROSSFIT, *args], capture_output=True, text=True, env=settings, timeout=300, check=False
    )


def test_version_says_name_and_number():
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
def test_what_is_not_a_folder_is_refused_before_any_work(tmp_path, words, inside):
    os.mkfifo(tmp_path / "pipe")
    done = run(*words, f"{tmp_path}/pipe{inside}")
    assert done.returncode == 2
    assert f"{str(tmp_path / 'pipe')!r} is not a folder" in done.stderr.replace("\n", " ")


def test_the_package_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "crossfit", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == run("--version").stdout


def test_an_error_is_one_line_and_a_traceback_where_that_is_asked_for():
    assert "CROSSFIT_DEBUG=1" in run("--help").stdout
    assert "Traceback" not in run("cite", "nope", CROSSFIT_DEBUG="").stderr
    assert "Traceback" in run("cite", "nope", CROSSFIT_DEBUG="1").stderr


def test_list_shows_one_line_for_every_entry_and_json_every_card():
    from crossfit import registry

    table, cards = run("list"), run("list", "--json")
    assert table.returncode == cards.returncode == 0
    rows = json.loads(cards.stdout)
    assert len(rows) == len(registry.entries())
    assert len(table.stdout.splitlines()) == len(rows) + 1
    cca = next(row for row in rows if row["name"] == "cca")
    assert cca["status"] == "ok"
    assert cca["card"]["target"] == "crossfit.subspace.cca:CCA"
    assert "reg" in cca["card"]["search_space"]


def test_list_can_be_limited_to_a_section():
    done = run("list", "methods", "--json")
    assert {row["kind"] for row in json.loads(done.stdout)} == {"method"}


def test_listing_imports_no_heavy_library():
    code = (
        "import sys; from crossfit.cli import main\n"
        "try: main(['list'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'sklearn', 'numpy', 'gensim', 'optuna'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr.strip() == "[]"


def test_importing_crossfit_imports_neither_torch_nor_numpy():
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
        (["cite", "nope"], 1, "nothing called 'nope' is installed; see `crossfit list`"),
        (["cite", "emojy"], 1, "nothing called 'emojy' is installed: did you mean 'emoji'?"),
        (["check", "nope"], 1, "no method, extractor or data set 'nope' is installed"),
        (["check", "cca", "nope"], 1, "no method, extractor or data set 'nope' is installed"),
        (["search"], 2, "give a text or --picture"),
        (["search", "  "], 2, "the text is empty"),
        (["search", "a", "-k", "0"], 2, "0"),
        (["search", "--picture", "nowhere.png"], 2, "does not exist"),
    ],
)
def test_wrong_input_gives_one_sentence_and_an_exit_code(args, code, says):
    done = run(*args)
    assert done.returncode == code
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_cite_prints_the_citation_of_a_method_and_of_a_data_set():
    assert "Hotelling" in run("cite", "cca").stdout
    assert run("cite", "emoji").stdout.strip()


def test_a_picture_that_is_none_is_refused_in_one_line(tmp_path, home):
    fake = tmp_path / "fake.png"
    fake.write_text("no picture")
    done = run("search", "--picture", str(fake), "--features", "plain", home=home)
    assert done.returncode == 1
    assert "fake.png" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_picture_is_read_before_the_emoji_are(tmp_path):
    fake = tmp_path / "fake.png"
    fake.write_text("no picture")
    code = (
        "import sys; from crossfit.cli import main\n"
        f"try: main(['search', '--picture', {str(fake)!r}])\n"
        "except SystemExit: print('crossfit.experiment.demo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert "fake.png" in done.stderr


def test_search_finds_an_emoji_by_its_words(home):
    done = run("search", "red heart", "--features", "plain", "-k", "8", "--json", home=home)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "reading all emoji: the first time may take minutes\n"
    found = json.loads(done.stdout)
    assert len(found) == 8
    assert [row["score"] for row in found] == sorted((r["score"] for r in found), reverse=True)
    assert any("heart" in row["text"] for row in found)


def test_cache_info_counts_and_clear_empties(home):
    run("search", "red heart", "--features", "plain", home=home)
    before = json.loads(run("cache", "info", "--json", home=home).stdout)
    assert before["entries"] >= 1600
    assert str(home) in before["path"]
    assert run("cache", "clear", home=home).returncode == 130  # no answer to the question
    assert json.loads(run("cache", "info", "--json", home=home).stdout) == before
    assert run("cache", "clear", "--yes", home=home).returncode == 0
    assert json.loads(run("cache", "info", "--json", home=home).stdout)["entries"] == 0


def test_a_closed_pipe_is_no_traceback():
    first = subprocess.Popen(
        [*CROSSFIT, "list", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert first.stdout is not None
    first.stdout.close()
    assert first.stderr is not None
    assert b"Traceback" not in first.stderr.read()
    first.wait(timeout=60)


def test_ctrl_c_while_the_command_is_imported_is_no_traceback():
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


def test_a_report_leaves_alone_what_no_report_wrote(tmp_path):
    mine = tmp_path / "leaderboard.csv"
    mine.write_text("my own figures")
    done = run("report", "anything", "--out", str(tmp_path))
    assert done.returncode == 2
    assert "leaderboard.csv would be overwritten" in done.stderr
    assert mine.read_text() == "my own figures"
    for name in ("report.html", "leaderboard.md", "leaderboard.tex"):
        (tmp_path / name).touch()  # as an earlier report leaves it
    done = run("report", "anything", "--out", str(tmp_path), "--store", str(tmp_path / "none"))
    assert done.returncode == 1
    assert "overwritten" not in done.stderr


def test_ctrl_c_leaves_no_file_and_says_interrupted(tmp_path, home):
    out = tmp_path / "demo"
    process = subprocess.Popen(
        [*CROSSFIT, "demo", "--features", "plain", "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "CROSSFIT_CACHE": str(home), "PYTHONUNBUFFERED": "1"},
        # A shell's background jobs ignore Ctrl-C and hand that on; a person's terminal does not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    process.stdout.readline()  # the data are loaded, the work begins
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in errors
    assert "Traceback" not in errors
    assert not list(tmp_path.rglob("*.html"))
