"""``crossfit new``: a new plugin, copied from a template, or a new experiment on own pairs."""

from __future__ import annotations

import datetime
import keyword
import re
import subprocess
from pathlib import Path
from typing import Any

import click

from crossfit import registry
from crossfit._files import draft_of, room_for
from crossfit._text import printable
from crossfit.cli._shared import (
    FEATURES_AND_COLUMNS,
    Folder,
    built_features,
    pairs_options,
)

__all__ = ["KINDS", "new", "write_plugin"]

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_COPYRIGHT = re.compile(r"^(Copyright \(c\) ).*$", re.MULTILINE)
#: Files that other kinds copy from the template "method", which also contains a network.
_SHARED = ("LICENSE", "src/crossfit_template/py.typed")
_NETWORK = ("src/crossfit_template/network.py", "src/crossfit_template/testing.py")


KINDS = {
    "method": "a closed-form method and a neural one",
    "network": "a neural method",
    "pair": "a neural method that scores pairs",
    "extractor": "a feature extractor",
    "dataset": "a data set",
}


EXAMPLES = """\b
Examples:
  crossfit new experiment pairs.csv > mine.yaml
  crossfit new my-method --kind network
"""


@click.command(epilog=EXAMPLES)
@click.argument("name")
@click.argument("pairs", required=False, type=click.Path(exists=True))
@click.option(
    "--kind", type=click.Choice(list(KINDS)), default="method", show_default=True,
    help="Contents: " + "; ".join(f"{kind}, {what}" for kind, what in KINDS.items()) + ".",
)  # fmt: skip
@click.option(
    "--dir", "folder", default=".", show_default=True,
    type=Folder(), help="Folder in which to make crossfit-NAME.",
)  # fmt: skip
@click.option(
    "--author",
    help="Copyright holder in the licence.  [default: git's user.name, else the authors of NAME]",
)
@FEATURES_AND_COLUMNS
def new(
    name: str,
    pairs: str | None,
    kind: str,
    folder: Path,
    author: str | None,
    features: dict[str, Any],
    columns: tuple[str, ...],
) -> None:
    """Write a new plugin NAME that can be installed, checked and run as it is.

    With the name "experiment" and PAIRS, print an experiment on these pairs instead, which
    `crossfit run` runs as it is: a table, a folder or tar shards, as for `crossfit run --data`.
    The options for features and columns are for experiments, the others for plugins.
    """
    if name == "experiment":
        if pairs is None:
            raise click.UsageError(
                "give the pairs of the experiment: crossfit new experiment pairs.csv > mine.yaml"
            )
        _print_experiment(pairs, features, columns)
        return
    if pairs is not None or features or columns:
        raise click.UsageError(
            "pairs, features and columns are for experiments: crossfit new experiment PAIRS"
        )
    made = write_plugin(name, folder, kind, author)
    click.echo(f"wrote {made}")
    click.echo(f"next: pip install -e {made}; crossfit check {name}")


def _print_experiment(pairs: str, features: dict[str, Any], columns: tuple[str, ...]) -> None:
    from crossfit.datasets import read_pairs
    from crossfit.experiment.written import written_experiment

    options = pairs_options(pairs, columns, features)
    if features:
        built_features(features)
    text = written_experiment(pairs, read_pairs(pairs, **options), features, options)
    click.echo(text, nl=False)


def write_plugin(name: str, folder: Path, kind: str = "method", author: str | None = None) -> Path:
    """Write a plugin from a template.

    Parameters
    ----------
    name : str
        Name of the method, extractor or data set: lower-case letters, digits and single hyphens,
        for instance ``"my-method"``. The distribution is then ``crossfit-my-method``, the package
        ``crossfit_my_method`` and the class ``MyMethod``.
    folder : path
        Folder in which the folder of the distribution is made.
    kind : {"method", "network", "pair", "extractor", "dataset"}, default="method"
        The template.
    author : str, optional
        Copyright holder in the licence; by default git's ``user.name``, or "the authors of
        crossfit-my-method" if it is not set.

    Returns
    -------
    path
        The folder that was written.

    Raises
    ------
    ValueError
        If `name` is invalid or used by an installed distribution, or if `kind` is invalid.
    FileExistsError
        If the folder of the distribution exists already.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be among {', '.join(KINDS)}, got {kind!r}")
    thing = {"extractor": "extractor", "dataset": "data set"}.get(kind, "method")
    of = f"the name of {'an' if thing[0] == 'e' else 'a'} {thing}"
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{of} must consist of lower-case letters, digits and single hyphens, such as "
            f"'my-{thing.replace('data set', 'pairs')}', got {name!r}"
        )
    class_name = "".join(part.capitalize() for part in name.split("-"))
    if keyword.iskeyword(name) or keyword.iskeyword(class_name) or name == "template":
        word = "the name of the template" if name == "template" else "a Python keyword"
        raise ValueError(f"{of} cannot be {name!r}, which is {word}; choose another name")
    taken = (name, f"{name}-net") if kind == "method" else (name,)
    for entry in registry.entries():
        owner = f"{entry.distribution} {entry.version}"
        if entry.kind == thing and entry.name in taken:
            raise ValueError(
                f"{of} must be new, but {owner}, which is installed, has the {thing} "
                f"{entry.name!r}; choose another name"
            )
        if entry.distribution == f"crossfit-{name}":
            raise ValueError(
                f"{of} must be new, but the distribution {owner} is installed; choose a name other "
                f"than {name!r}"
            )
    target = folder / f"crossfit-{name}"
    if target.exists():
        raise FileExistsError(f"{target} exists already; choose another name or folder")
    # The network is the second method of the template "method", and the only one of "network".
    net = {"TemplateNet": class_name, "TEMPLATE_NET": name.replace("-", "_").upper()}
    words = {
        **(net if kind == "network" else {}),
        "crossfit_template": f"crossfit_{name.replace('-', '_')}",
        "test_template": f"test_{name.replace('-', '_')}",
        "template": name,
        "Template": class_name,
        "TEMPLATE": name.replace("-", "_").upper(),
    }
    pattern = re.compile("|".join(words))

    def renamed(text: str) -> str:
        return pattern.sub(lambda found: words[found[0]], text)

    shared = _SHARED + (_NETWORK if kind == "network" else ())
    first = {inside: path for inside, path in _files("method").items() if inside in shared}
    files = first | _files(kind)
    with room_for("the plugin", target):
        folder.mkdir(parents=True, exist_ok=True)
        with draft_of(target, Path.mkdir) as draft:
            for inside, path in files.items():
                copy = draft / renamed(inside)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_text(renamed(path.read_text(encoding="utf-8")), encoding="utf-8")
            licence = draft / "LICENSE"
            whose = f"{datetime.date.today().year}, {_author(author, name)}"
            text = _COPYRIGHT.sub(
                lambda found: found[1] + whose, licence.read_text(encoding="utf-8")
            )
            licence.write_text(text, encoding="utf-8")
            draft.rename(target)
    return target


def _author(given: str | None, name: str) -> str:
    """Return the copyright holder of a licence."""
    if given is None:
        try:
            found = subprocess.run(
                ["git", "config", "user.name"], capture_output=True, text=True, check=False,
                timeout=10,
            )  # fmt: skip
            given = found.stdout
        except (OSError, UnicodeError, subprocess.SubprocessError):  # git is not available
            given = ""
    return printable(given).strip() or f"the authors of crossfit-{name}"


def _files(kind: str) -> dict[str, Path]:
    """Return the files of a template by their path inside it."""
    source = _template(kind)
    found = {}
    for path in sorted(source.rglob("*")):
        inside = path.relative_to(source)
        hidden = any(part.startswith((".", "__pycache__")) for part in inside.parts)
        if not (hidden or path.is_dir() or "egg-info" in str(inside)):
            found[inside.as_posix()] = path
    return found


def _template(kind: str) -> Path:
    """Return the folder of a template, in the installed package or in a checkout."""
    package = Path(__file__).parents[1]
    end = "" if kind == "method" else f"-{kind}"
    for folder in (package / f"_template{end}", package.parents[1] / "plugins" / f"template{end}"):
        if (folder / "pyproject.toml").is_file():
            return folder
    raise FileNotFoundError(
        f"the template {kind!r} is missing from this installation of crossfit; reinstall crossfit"
    )
