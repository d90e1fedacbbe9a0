"""``crossfit new``: a new plugin, copied from a template."""

from __future__ import annotations

import datetime
import keyword
import re
import subprocess
from pathlib import Path

import click

from crossfit import registry
from crossfit._files import draft_of, room_for
from crossfit._text import printable
from crossfit.cli._shared import Folder

__all__ = ["KINDS", "new", "write_plugin"]

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_COPYRIGHT = re.compile(r"^(Copyright \(c\) ).*$", re.MULTILINE)
#: What a kind takes over from the first template, which brings a network too.
_SHARED = ("LICENSE", "src/crossfit_template/py.typed")
_NETWORK = ("src/crossfit_template/network.py", "src/crossfit_template/testing.py")


KINDS = {
    "method": "a method in closed form and one as a network",
    "network": "a method as a network",
    "pair": "a method that scores pairs, as a network",
    "extractor": "an extractor of features",
    "dataset": "a data set",
}


@click.command()
@click.argument("name")
@click.option(
    "--kind", type=click.Choice(list(KINDS)), default="method", show_default=True,
    help="What the plugin brings: " + "; ".join(f"{kind}, {what}" for kind, what in KINDS.items()),
)  # fmt: skip
@click.option(
    "--dir", "folder", default=".", show_default=True,
    type=Folder(), help="Where to put crossfit-NAME.",
)  # fmt: skip
@click.option(
    "--author",
    help="Copyright holder in the licence; by default git's user.name, else the authors of NAME.",
)
def new(name: str, kind: str, folder: Path, author: str | None) -> None:
    """Write a plugin called NAME, ready to install, check and run."""
    made = write_plugin(name, folder, kind, author)
    click.echo(f"wrote {made}")
    click.echo(f"next: pip install -e {made}; crossfit check {name}")


def write_plugin(name: str, folder: Path, kind: str = "method", author: str | None = None) -> Path:
    """Copy a template under another name.

    Parameters
    ----------
    name : str
        Of the method, extractor or data set: small letters, digits and single hyphens, for
        instance ``"my-method"``. The distribution is ``crossfit-my-method``, the package
        ``crossfit_my_method``, the class ``MyMethod``.
    folder : path
        Where the distribution's folder is made.
    kind : {"method", "network", "pair", "extractor", "dataset"}
        Which template.
    author : str, optional
        Copyright holder in the licence; by default git's ``user.name``, else the authors of the
        distribution.

    Returns
    -------
    path
        The folder that was written.

    Raises
    ------
    ValueError
        If the name is invalid or an installed distribution has it, or there is no such template.
    FileExistsError
        If the folder exists already.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be among {', '.join(KINDS)}, got {kind!r}")
    thing = {"extractor": "extractor", "dataset": "data set"}.get(kind, "method")
    of = f"the name of {'an' if thing[0] == 'e' else 'a'} {thing}"
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{of} is small letters and digits with single hyphens, such as "
            f"'my-{thing.replace('data set', 'pairs')}', got {name!r}"
        )
    class_name = "".join(part.capitalize() for part in name.split("-"))
    if keyword.iskeyword(name) or keyword.iskeyword(class_name) or name == "template":
        word = "the name of the template itself" if name == "template" else "a word of Python's own"
        raise ValueError(f"{of} cannot be {name!r}: it is {word}")
    taken = (name, f"{name}-net") if kind == "method" else (name,)
    for entry in registry.entries():
        who = f"{entry.distribution} {entry.version}, which is installed"
        if entry.kind == thing and entry.name in taken:
            raise ValueError(f"{of} must be new: {who}, has the {thing} {entry.name!r}")
        if entry.distribution == f"crossfit-{name}":
            raise ValueError(f"{of} must be new: {name!r} gives the distribution {who}")
    target = folder / f"crossfit-{name}"
    if target.exists():
        raise FileExistsError(f"{target} exists already")
    # The network is a second method in the first template, and the only one in that of networks.
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
            asked = subprocess.run(
                ["git", "config", "user.name"], capture_output=True, text=True, check=False,
                timeout=10,
            )  # fmt: skip
            given = asked.stdout
        except (OSError, UnicodeError, subprocess.SubprocessError):  # there is no git
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
    """Return a template's folder: of the installed package, or of a checkout."""
    package = Path(__file__).parents[1]
    end = "" if kind == "method" else f"-{kind}"
    for folder in (package / f"_template{end}", package.parents[1] / "plugins" / f"template{end}"):
        if (folder / "pyproject.toml").is_file():
            return folder
    raise FileNotFoundError(f"this installation of crossfit has no template of a plugin ({kind})")
