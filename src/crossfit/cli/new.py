"""``crossfit new``: a plugin of one's own, copied from the template."""

from __future__ import annotations

import keyword
import re
import secrets
import shutil
from pathlib import Path

import click

from crossfit import registry

__all__ = ["new", "write_plugin"]

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@click.command()
@click.argument("name")
@click.option(
    "--dir", "folder", default=".", show_default=True,
    type=click.Path(file_okay=False, path_type=Path), help="Where to put crossfit-NAME.",
)  # fmt: skip
def new(name: str, folder: Path) -> None:
    """Write a plugin with a method called NAME, ready to install, check and run."""
    made = write_plugin(name, folder)
    click.echo(f"wrote {made}")
    click.echo(f"next: pip install -e {made}; crossfit check {name}")


def write_plugin(name: str, folder: Path) -> Path:
    """Copy the template under another name.

    Parameters
    ----------
    name : str
        Of the method: small letters, digits and single hyphens, for instance ``"my-method"``.
        The distribution is ``crossfit-my-method``, the package ``crossfit_my_method``, the class
        ``MyMethod``.
    folder : path
        Where the distribution's folder is made.

    Returns
    -------
    path
        The folder that was written.

    Raises
    ------
    ValueError
        If this is no name, or an installed distribution has it.
    FileExistsError
        If the folder exists already.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            "the name of a method is small letters and digits with single hyphens, such as "
            f"'my-method', got {name!r}"
        )
    class_name = "".join(part.capitalize() for part in name.split("-"))
    if keyword.iskeyword(name) or keyword.iskeyword(class_name) or name == "template":
        word = "the name of the template itself" if name == "template" else "a word of Python's own"
        raise ValueError(f"the name of a method cannot be {name!r}: it is {word}")
    for entry in registry.entries():
        who = f"{entry.distribution} {entry.version}, which is installed"
        if entry.kind == "method" and entry.name in (name, f"{name}-net"):
            raise ValueError(
                f"the name of a method must be new: {who}, has the method {entry.name!r}"
            )
        if entry.distribution == f"crossfit-{name}":
            raise ValueError(
                f"the name of a method must be new: {name!r} gives the distribution {who}"
            )
    target = folder / f"crossfit-{name}"
    if target.exists():
        raise FileExistsError(f"{target} exists already")
    words = {
        "crossfit_template": f"crossfit_{name.replace('-', '_')}",
        "test_template": f"test_{name.replace('-', '_')}",
        "template": name,
        "Template": class_name,
        "TEMPLATE": name.replace("-", "_").upper(),
    }
    pattern = re.compile("|".join(words))

    def renamed(text: str) -> str:
        return pattern.sub(lambda found: words[found[0]], text)

    source = _template()
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".crossfit-{name}-{secrets.token_hex(4)}"
    try:
        for path in sorted(source.rglob("*")):
            inside = path.relative_to(source)
            hidden = any(part.startswith((".", "__pycache__")) for part in inside.parts)
            if hidden or path.is_dir() or "egg-info" in str(inside):
                continue
            copy = draft / renamed(str(inside))
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(renamed(path.read_text(encoding="utf-8")), encoding="utf-8")
        draft.rename(target)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return target


def _template() -> Path:
    """Return the template's folder: of the installed package, or of a checkout."""
    package = Path(__file__).parents[1]
    for folder in (package / "_template", package.parents[1] / "plugins" / "template"):
        if (folder / "pyproject.toml").is_file():
            return folder
    raise FileNotFoundError("this installation of crossfit has no template of a plugin")
