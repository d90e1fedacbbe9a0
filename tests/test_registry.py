"""The registry with installed plugins: valid, clashing, broken and unusual ones."""

import json
import os
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

from crossfit import registry
from crossfit.cards import MethodCard
from crossfit.subspace import CCA

SRC = str(Path(registry.__file__).parents[1])
CARD = """
from crossfit.cards import MethodCard

CARD = MethodCard(api={api}, name={name!r}, target="{package}.method:{cls}", summary="{summary}")
"""
# The registry accepts any target, and a plain class is imported quickly.
METHOD = "class {cls}:\n    pass\n"
INSTALLED = {entry.distribution for entry in registry.entries()}


def install(
    folder,
    distribution,
    name,
    *,
    package=None,
    cls="Thing",
    version="1.0",
    api=1,
    cards=CARD,
    summary="A plugin",
    entry_points=None,
    method=METHOD,
):
    """Write what pip would install: a package and the metadata of its distribution."""
    package = package or distribution.lower().replace("-", "_").replace(".", "_")
    known = {"api": api, "name": name, "package": package, "cls": cls, "summary": summary}
    if entry_points is None:
        entry_points = f"[crossfit.methods]\n{name} = {package}.cards:CARD\n"
    escaped = distribution.replace("-", "_")
    files = {
        f"{package}/__init__.py": "",
        f"{package}/cards.py": cards.format(**known),
        f"{package}/method.py": method.format(**known),
        f"{escaped}-{version}.dist-info/METADATA": (
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
        ),
        f"{escaped}-{version}.dist-info/entry_points.txt": entry_points,
    }
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def ask(code, *folders, **environment):
    """Run code in a new interpreter with the folders on its path; return its JSON output."""
    path = [*map(str, folders), SRC, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment = {**os.environ, **environment, "PYTHONPATH": os.pathsep.join(filter(None, path))}
    ran = subprocess.run(
        [sys.executable, "-c", "import json, sys\nfrom crossfit import registry\n" + code],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


ROWS = """
print(json.dumps([
    [e.group, e.name, e.distribution, e.version, e.status, e.error] for e in registry.entries()
]))
"""


def rows(*folders, **environment):
    """Return the entries that the folders add, by distribution and name."""
    found = ask(ROWS, *folders, **environment)
    return {(row[2], row[1]): row for row in found if row[2] not in INSTALLED}


def refusal(call, *folders, error="registry.RegistryError", **environment):
    """Return the type and the message of the error that a call raises."""
    code = f"""
try:
    {call}
except {error} as error:
    print(json.dumps([type(error).__name__, str(error)]))
"""
    return ask(code, *folders, **environment)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """Return a folder in which many kinds of plugins are installed together."""
    folder = tmp_path_factory.mktemp("zoo")
    install(folder, "crossfit-good", "good", cls="Good", version="2.1")
    install(folder, "crossfit-one", "shared", cls="Shared", summary="from one")
    install(folder, "crossfit-two", "shared", cls="Shared", summary="from two")
    install(folder, "crossfit-broken", "broken", cards="import no_such_module\n")
    install(folder, "crossfit-leaving", "leaving", cards="import sys\nsys.exit(3)\n")
    install(folder, "crossfit-future", "future", api=99)
    install(folder, "My_Plugin.Name", "My_Method.Name")
    install(folder, "crossfit-malformed", "x", entry_points="crossfit.methods = oops\n[[[\n")
    install(folder, "crossfit-twice", "x", entry_points="[crossfit.methods]\na = b:C\na = b:C\n")
    install(folder, "crossfit-nospec", "x", entry_points="[crossfit.methods]\nx = not a spec\n")
    install(folder, "crossfit-nocard", "x", cards="CARD = 3\n", package="nocard_x")
    install(
        folder,
        "crossfit-othername",
        "x",
        entry_points="[crossfit.methods]\ny = crossfit_othername.cards:CARD\n",
    )
    install(
        folder,
        "crossfit-othergroup",
        "x",
        entry_points="[crossfit.datasets]\nx = crossfit_othergroup.cards:CARD\n",
    )
    install(folder, "unrelated", "x", entry_points="[console_scripts\nthis is = no ini file [\n")
    install(folder, "foreign", "x", entry_points="[pytest11]\nx = foreign.cards:CARD\n")
    # A plugin that fails only when its method is loaded.
    install(folder, "crossfit-late", "late", cls="Late", method="raise OSError('no libfoo')\n")
    return folder


def test_every_plugin_is_listed_with_its_status(zoo):
    found = rows(zoo)
    statuses = {key: row[4] for key, row in found.items()}
    assert statuses == {
        ("crossfit-good", "good"): "ok",
        ("crossfit-late", "late"): "ok",
        ("crossfit-one", "shared"): "ok",
        ("crossfit-two", "shared"): "ok",
        ("my-plugin-name", "my-method-name"): "ok",
        ("crossfit-broken", "broken"): "broken",
        ("crossfit-leaving", "leaving"): "broken",
        ("crossfit-future", "future"): "incompatible",
        ("crossfit-malformed", "crossfit-malformed"): "broken",
        ("crossfit-twice", "crossfit-twice"): "broken",
        ("crossfit-nospec", "x"): "broken",
        ("crossfit-nocard", "x"): "broken",
        ("crossfit-othername", "y"): "broken",
        ("crossfit-othergroup", "x"): "broken",
    }
    errors = {key[0]: row[5] for key, row in found.items()}
    assert found["crossfit-good", "good"][3] == "2.1"
    assert errors["crossfit-good"] == ""
    assert (
        "Traceback" in errors["crossfit-broken"] and "no_such_module" in errors["crossfit-broken"]
    )
    assert "SystemExit: 3" in errors["crossfit-leaving"]
    assert "api 99" in errors["crossfit-future"]
    assert "entry_points.txt" in errors["crossfit-malformed"]
    assert "'a'" in errors["crossfit-twice"]
    assert "'package.module:CARD', got 'not a spec'" in errors["crossfit-nospec"]
    assert "must be a card, got an object of type int" in errors["crossfit-nocard"]
    assert "'x'" in errors["crossfit-othername"] and "'y'" in errors["crossfit-othername"]
    assert "requires a DatasetCard" in errors["crossfit-othergroup"]


def test_others_are_unaffected(zoo):
    own = {tuple(row) for row in ask(ROWS) if row[2] == registry.CORE}
    beside = {tuple(row) for row in ask(ROWS, zoo) if row[2] == registry.CORE}
    assert own == beside and len(own) >= 1
    assert {row[4] for row in own} == {"ok"}
    names = ask("print(json.dumps([registry.load(n).__name__ for n in ('cca', 'good')]))", zoo)
    assert names == ["CCA", "Good"]


def test_listing_imports_neither_torch_nor_scikit_learn_nor_methods(zoo):
    code = """
registry.entries()
heavy = ("torch", "sklearn", "numpy", "crossfit.base", "crossfit.subspace.cca", "gensim")
print(json.dumps([name for name in (*heavy, "crossfit_good.method") if name in sys.modules]))
"""
    assert ask(code, zoo) == []


def test_a_clash_names_both_and_is_resolved_by_the_distribution(zoo):
    kind, message = refusal("registry.find('shared')", zoo)
    assert kind == "ClashError"
    assert "crossfit-one:shared or crossfit-two:shared" in message
    code = "print(json.dumps([registry.get(d + ':Shared').summary for d in {}]))"
    asked = ["crossfit-one", "Crossfit_Two"]
    assert ask(code.format(asked), zoo) == ["from one", "from two"]


def test_a_broken_plugin_does_not_take_a_name(zoo, tmp_path):
    install(tmp_path, "crossfit-usurper", "good", cards="import no_such_module\n")
    code = "print(json.dumps(registry.find('good').distribution))"
    assert ask(code, zoo, tmp_path) == "crossfit-good"
    assert rows(zoo, tmp_path)["crossfit-usurper", "good"][4] == "broken"


def test_names_are_normalised(zoo):
    code = """
names = ("My_Method.Name", "my-method-name", "MY.METHOD_NAME", "My_Plugin.Name:my__method--name")
print(json.dumps([registry.load(name).__name__ for name in names]))
"""
    assert ask(code, zoo) == ["Thing"] * 4


def test_what_is_not_installed_says_what_comes_close(zoo):
    kind, message = refusal("registry.load('nowhere_x')", zoo)
    assert kind == "NotInstalledError"
    assert "no method 'nowhere_x' is installed; installed are: " in message
    assert "cca" in message and "good" in message
    assert "broken, see `crossfit list`: crossfit-broken" in message
    # Anyone could register a distribution under a misspelt name.
    assert "pip" not in message
    kind, message = refusal("registry.find('emojis', 'crossfit.datasets')", zoo)
    assert message.startswith("no data set 'emojis' is installed: did you mean 'emoji'?")
    assert "wikipedia" not in message and "pip" not in message
    kind, message = refusal("registry.load('crossfit-more:thing')", zoo)
    assert kind == "NotInstalledError"
    assert message == (
        "the method 'thing' is in the distribution crossfit-more, which is not installed; install "
        "crossfit-more, or leave the method out"
    )
    limited = refusal("registry.load('crossfit-more:thing')", zoo, CROSSFIT_PLUGINS="")[1]
    assert "not installed or not in CROSSFIT_PLUGINS; install" in limited
    kind, message = refusal("registry.load('crossfit-good:thing')", zoo)
    assert "no method 'crossfit-good:thing' is installed" in message


@pytest.mark.parametrize(
    "name, words",
    [
        ("broken", ["crossfit-broken 1.0", "is broken", "no_such_module"]),
        ("leaving", ["is broken", "SystemExit: 3"]),
        ("future", ["is incompatible", "api 99", "api 1"]),
        ("late", ["cannot be imported from 'crossfit_late.method:Late'", "OSError: no libfoo"]),
    ],
)
def test_asking_for_an_unusable_method_says_why(zoo, name, words):
    kind, message = refusal(f"registry.load({name!r})", zoo)
    assert kind == "PluginError"
    for word in words:
        assert word in message
    assert len(message.splitlines()) == 1


def test_a_method_that_cannot_be_imported_leaves_the_listing_alone(zoo):
    code = """
try:
    registry.load("late")
except registry.PluginError as error:
    cause = type(error.__cause__).__name__
print(json.dumps([cause, registry.find("late").status]))
"""
    assert ask(code, zoo) == ["OSError", "ok"]


def test_card_of_inverts_the_target(zoo):
    for entry in registry.entries("crossfit.methods"):
        if entry.distribution == registry.CORE:
            assert registry.card_of(registry.load(entry.name)) is entry.card
    code = """
cls = registry.load("good")
print(json.dumps([registry.card_of(cls).name, registry.card_of(cls) is registry.get("good")]))
"""
    assert ask(code, zoo) == ["good", True]

    class Unregistered(CCA):
        pass

    with pytest.raises(registry.NotInstalledError, match="no installed card has the target"):
        registry.card_of(Unregistered)


def test_card_of_finds_a_class_that_the_target_names_where_it_is_re_exported(tmp_path):
    install(tmp_path, "crossfit-inner", "inner", cls="Inner")
    (tmp_path / "crossfit_inner" / "real.py").write_text(METHOD.format(cls="Inner"))
    (tmp_path / "crossfit_inner" / "method.py").write_text("from crossfit_inner.real import Inner")
    code = """
from crossfit_inner.real import Inner
print(json.dumps([Inner.__module__, registry.card_of(Inner).name]))
"""
    assert ask(code, tmp_path) == ["crossfit_inner.real", "inner"]


def test_the_card_of_a_loader_is_found_by_the_function():
    from crossfit.datasets import emoji

    assert registry.card_of(emoji.load).name == "emoji"
    with pytest.raises(
        TypeError, match="cls must be a class or a function, got an object of type int"
    ):
        registry.card_of(3)


# ---- from crossfit.methods import ... ---------------------------------------------------


def test_methods_are_imported_by_class_name(zoo):
    code = """
from crossfit.methods import CCA, Good
import crossfit.methods
print(json.dumps([CCA.__module__, Good.__module__, dir(crossfit.methods)]))
"""
    cca, good, names = ask(code, zoo)
    assert (cca, good) == ("crossfit.subspace.cca", "crossfit_good.method")
    assert {"CCA", "Good", "Shared"} <= set(names)


def test_importing_a_missing_method_says_what_comes_close(zoo):
    kind, message = refusal("from crossfit.methods import CCAA", zoo, error="Exception")
    assert kind == "ImportError"
    assert "no installed method has the class CCAA: did you mean 'CCA'" in message
    kind, message = refusal("from crossfit.methods import Nowhere", zoo, error="Exception")
    assert message == "no installed method has the class Nowhere; see `crossfit list methods`"
    kind, message = refusal("from crossfit.methods import Cca", zoo, error="Exception")
    assert kind == "ImportError"
    assert "'cca' is crossfit.subspace.cca:CCA" in message
    assert refusal("import crossfit.methods as m; m.lower", error="AttributeError")


def test_importing_all_methods_imports_those_that_one_distribution_offers(tmp_path):
    install(tmp_path, "crossfit-good", "good", cls="Good")
    for which in ("one", "two"):
        install(tmp_path, f"crossfit-{which}", "shared", cls="Shared")
    code = """
from crossfit.methods import *
print(json.dumps([CCA.__module__, Good.__module__, "Shared" in globals()]))
"""
    found = ask(code, tmp_path)
    assert found == ["crossfit.subspace.cca", "crossfit_good.method", False]


def test_importing_a_clashing_or_broken_method_says_so(zoo):
    kind, message = refusal("from crossfit.methods import Shared", zoo, error="Exception")
    assert kind == "ImportError"
    assert "crossfit-one:shared, crossfit-two:shared" in message
    kind, message = refusal("from crossfit.methods import Broken", zoo, error="Exception")
    assert kind == "PluginError"
    assert "no_such_module" in message


EXTRACTOR_CARD = """
from crossfit.cards import ExtractorCard

CARD = ExtractorCard(api={api}, name={name!r}, target="{package}.method:{cls}",
                     summary="{summary}", modality="image")
"""


def test_extractors_are_imported_by_class_name_too(tmp_path):
    for distribution, name, cls in (
        ("crossfit-patches", "patches", "Patches"),
        ("crossfit-own-mfcc", "own-mfcc", "MFCC"),
    ):
        package = distribution.replace("-", "_")
        install(
            tmp_path,
            distribution,
            name,
            cls=cls,
            cards=EXTRACTOR_CARD,
            entry_points=f"[crossfit.extractors]\n{name} = {package}.cards:CARD\n",
        )
    code = """
import crossfit.extraction
before = sorted({"torch", "sklearn", "numpy", "crossfit_patches"} & set(sys.modules))
from crossfit.extraction import MFCC, Patches
print(json.dumps([before, Patches.__module__, MFCC.__module__, dir(crossfit.extraction)]))
"""
    before, patches, mfcc, names = ask(code, tmp_path)
    assert before == [] and patches == "crossfit_patches.method"
    assert mfcc == "crossfit.extraction.audio"  # crossfit's own method has precedence
    assert {"Patches", "GridFeatures", "load_rgb"} <= set(names)
    kind, message = refusal("from crossfit.extraction import Patch", tmp_path, error="Exception")
    assert kind == "ImportError"
    assert message == "no installed extractor has the class Patch: did you mean 'Patches'?"
    assert refusal("import crossfit.extraction as e; e.nothing", error="AttributeError")


# ---- which plugins, and when ------------------------------------------------------------


def test_crossfit_plugins_limits_what_is_loaded(zoo):
    limited = rows(zoo, CROSSFIT_PLUGINS="crossfit_good, My-Plugin-Name")
    assert set(limited) == {("crossfit-good", "good"), ("my-plugin-name", "my-method-name")}
    code = """
sources = {e.distribution for e in registry.entries()}
print(json.dumps(["crossfit_broken.cards" in sys.modules, sorted(sources)]))
"""
    assert ask(code, zoo, CROSSFIT_PLUGINS="") == [False, [registry.CORE]]


def test_an_earlier_folder_of_the_path_shadows_a_later_one(tmp_path):
    new, old, bare = (tmp_path / name for name in ("new", "old", "bare"))
    install(new, "crossfit-thing", "thing", version="2.0")
    install(old, "crossfit-thing", "thing", version="1.0")
    # A newer version without entry points hides an older one that has them.
    install(bare, "crossfit-thing", "thing", version="3.0", entry_points="")
    (bare / "crossfit_thing-3.0.dist-info" / "entry_points.txt").unlink()
    assert rows(new, old)["crossfit-thing", "thing"][3] == "2.0"
    assert rows(old, new)["crossfit-thing", "thing"][3] == "1.0"
    assert rows(bare, old) == {}


def test_a_file_that_is_no_utf8_hurts_only_its_own(tmp_path):
    install(tmp_path, "latin", "x", entry_points="")
    file = tmp_path / "latin-1.0.dist-info" / "entry_points.txt"
    file.write_bytes("[console_scripts]\né = latin:main\n".encode("latin-1"))
    install(tmp_path, "crossfit-good", "good")
    assert set(rows(tmp_path)) == {("crossfit-good", "good")}


def test_refresh_sees_what_was_installed_since(tmp_path):
    code = f"""
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_registry import install
before = [e.name for e in registry.entries()]
install(Path({str(tmp_path)!r}), "crossfit-new", "new")
cached = [e.name for e in registry.entries()]
registry.refresh()
print(json.dumps(["new" in before, "new" in cached, registry.load("new").__name__]))
"""
    assert ask(code, tmp_path) == [False, False, "Thing"]


def test_a_folder_added_to_the_path_is_seen(tmp_path, monkeypatch):
    install(tmp_path, "crossfit-added", "added")
    assert "added" not in {entry.name for entry in registry.entries()}
    monkeypatch.syspath_prepend(str(tmp_path))
    assert registry.get("added").summary == "A plugin"


def test_unknown_groups_are_refused():
    with pytest.raises(
        ValueError, match=r"group must be among crossfit\.methods.*got 'crossfit\.nothing'"
    ):
        registry.entries("crossfit.nothing")


def test_entries_are_sorted_and_typed(zoo):
    found = registry.entries()
    assert list(found) == sorted(found, key=lambda e: (e.group, e.name, e.distribution))
    methods = registry.entries("crossfit.methods")
    assert {entry.kind for entry in methods} == {"method"}
    assert all(isinstance(e.card, MethodCard) for e in methods if e.status == "ok")


# ---- a wheel, installed by pip ----------------------------------------------------------


def test_a_wheel_installed_by_pip_is_found(tmp_path):
    pytest.importorskip("pip")
    built = install(tmp_path / "built", "crossfit-wheel", "wheeled", cls="Wheeled", version="0.3")
    info = built / "crossfit_wheel-0.3.dist-info"
    (info / "WHEEL").write_text(
        textwrap.dedent("""\
        Wheel-Version: 1.0
        Generator: by hand
        Root-Is-Purelib: true
        Tag: py3-none-any
        """)
    )
    files = [file for file in sorted(built.rglob("*")) if file.is_file()]
    record = "".join(f"{file.relative_to(built).as_posix()},,\n" for file in files)
    (info / "RECORD").write_text(record + f"{info.name}/RECORD,,\n")
    wheel = tmp_path / "crossfit_wheel-0.3-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in [*files, info / "RECORD"]:
            archive.write(file, file.relative_to(built))
    target = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*command, "--target", str(target), str(wheel)], check=True)
    found = rows(target)["crossfit-wheel", "wheeled"]
    assert found[3:5] == ["0.3", "ok"]
    code = "print(json.dumps(registry.load('crossfit-wheel:wheeled').__name__))"
    assert ask(code, target) == "Wheeled"


def test_a_card_that_raises_when_it_is_read_is_a_broken_row(tmp_path):
    raising = (
        "from crossfit.cards import MethodCard\n"
        "class Mine(MethodCard):\n"
        "    @property\n"
        "    def {field}(self): raise RuntimeError('not now')\n"
        "CARD = Mine.__new__(Mine)\n"
        "for key, value in dict(api=1, name='{name}', target='a.b:C', summary='s').items():\n"
        "    if key != '{field}': object.__setattr__(CARD, key, value)\n"
    )
    for field in ("api", "name", "summary", "search_space"):
        name = f"r-{registry.normalise(field)}"
        install(tmp_path, f"crossfit-{name}", name, cards=raising.format(field=field, name=name))
    unchecked = (
        "from crossfit.cards import MethodCard\n"
        "class Mine(MethodCard):\n"
        "    def __post_init__(self): pass\n"
        "CARD = Mine(api=1, name='{name}', target='a.b:C', summary=5)\n"
    )
    install(tmp_path, "crossfit-unchecked", "unchecked", cards=unchecked)
    endings = {
        "base": "raise BaseException('out')",
        "generator": "raise GeneratorExit",
        "cancelled": "import asyncio; raise asyncio.CancelledError",
        "leaving": "raise SystemExit(0)",
        "exit": "exit()",
        "mute": "class E(BaseException):\n    def __str__(self): raise ValueError\nraise E",
    }
    for name, code in endings.items():
        install(tmp_path, f"crossfit-{name}", name, cards=code.replace("{", "{{") + "\n")
    found = rows(tmp_path)
    assert {row[4] for row in found.values()} == {"broken"} and len(found) == 11
    assert ask("print(json.dumps(registry.find('cca').distribution))", tmp_path) == registry.CORE
    ran = subprocess.run(
        [sys.executable, "-m", "crossfit", "list", "methods"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), SRC])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0 and "not now" in ran.stdout and " cca " in ran.stdout


@pytest.mark.parametrize("code", ["raise BaseException('out')", "raise SystemExit(0)", "exit()"])
def test_a_method_whose_module_ends_the_program_is_an_error(tmp_path, code):
    install(tmp_path, "crossfit-ending", "ending", method=code + "\n")
    kind, message = refusal("registry.load('ending')", tmp_path)
    assert kind == "PluginError" and "the method 'ending' of crossfit-ending 1.0" in message


def test_a_plugin_that_prints_does_not_print_into_the_output(tmp_path):
    noise = "print('hello from the plugin')\nimport sys; sys.stdout.write('and more')\n"
    install(tmp_path, "crossfit-loud", "loud", cards=noise + CARD, method=noise + METHOD)
    for command in (["list", "--json"], ["list", "methods", "--json"]):
        ran = subprocess.run(
            [sys.executable, "-m", "crossfit", *command],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), SRC])},
            capture_output=True,
            text=True,
            check=True,
        )
        assert "loud" in {row["name"] for row in json.loads(ran.stdout)}
        assert "hello from the plugin" in ran.stderr
    code = "import contextlib, io\nout = io.StringIO()\nwith contextlib.redirect_stdout(out):\n"
    code += "    registry.load('loud')\nprint(json.dumps(out.getvalue()))"
    assert ask(code, tmp_path) == ""


def test_a_slow_plugin_is_named_and_does_not_hold_up_what_does_not_need_it(tmp_path):
    slow = "import time\ntime.sleep(0.6)\n" + CARD
    install(tmp_path, "crossfit-slow", "slow", cards=slow, version="3.1")
    code = """
import logging
from unittest.mock import Mock
registry.SLOW = 0.2
registry._log = Mock()
registry.find("cca")
one = registry._log.warning.call_count
registry.find("slow")
told = [call.args[0] % call.args[1:] for call in registry._log.warning.mock_calls]
print(json.dumps([one, told]))
"""
    before, told = ask(code, tmp_path)
    assert before == 0 and len(told) == 2
    assert told[0].startswith("the plugin crossfit-slow 3.1 is still being imported after 0.2 s")
    assert told[1].startswith("the plugin crossfit-slow 3.1 took ")
    # By default it is shown on standard error, also if the program is killed during the import.
    ran = subprocess.run(
        [
            sys.executable,
            "-c",
            "from crossfit import registry; registry.SLOW = .2; registry.entries()",
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), SRC])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "crossfit-slow 3.1 is still being imported" in ran.stderr and not ran.stdout


def test_only_the_card_that_is_needed_is_imported(zoo):
    code = """
registry.find("good")
print(json.dumps(sorted(name for name in sys.modules if name.startswith("crossfit_"))))
"""
    assert ask(code, zoo) == ["crossfit_good", "crossfit_good.cards"]


def test_built_ins_win_bare_names(tmp_path):
    install(tmp_path, "crossfit-other", "cca", cls="CCA", summary="another CCA")
    code = """
import crossfit.methods
from crossfit.methods import CCA
shadowed = [(e.distribution, e.shadowed) for e in registry.entries() if e.name == "cca"]
print(json.dumps([
    registry.find("cca").distribution, registry.load("cca").__module__, CCA.__module__,
    registry.find("crossfit-other:cca").card.summary, sorted(shadowed),
    "CCA" in crossfit.methods.__all__,
]))
"""
    bare, loaded, imported, other, shadowed, listed = ask(code, tmp_path)
    assert (bare, other) == (registry.CORE, "another CCA") and listed
    assert loaded == imported == "crossfit.subspace.cca"
    assert shadowed == [["crossfit-other", True], [registry.CORE, False]]
    ran = subprocess.run(
        [sys.executable, "-m", "crossfit", "list", "methods"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), SRC])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "hidden by crossfit's own; use the name crossfit-other:cca: another CCA" in ran.stdout


def test_escape_sequences_do_not_reach_the_terminal(tmp_path):
    summary = "\\x1b[31mred\\x1b]0;title\\x07 \\u202eabc\\u200b \\x9b2J"
    install(tmp_path, "crossfit-esc", "esc", summary=summary)
    install(tmp_path, "crossfit-bad", "bad", cards="raise ValueError('\\x1b[2Jgone \\u202ex')\n")
    for command in (["list"], ["list", "-v"], ["check", "bad"], ["cite", "\x1b[2J"]):
        ran = subprocess.run(
            [sys.executable, "-m", "crossfit", *command],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), SRC])},
            capture_output=True,
            text=True,
            check=False,
        )
        shown = ran.stdout + ran.stderr
        assert not {"\x1b", "\x07", "\u202e", "\u200b", "\x9b"} & set(shown)
        assert "gone x" in shown or "[31mred" in shown or "is installed" in shown
