"""Parts that several commands share: folders, the console, and the emoji experiments."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from crossfit.experiment import Experiment

__all__ = [
    "COLUMNS",
    "EXTRACTORS_OF",
    "FEATURES",
    "FEATURES_AND_COLUMNS",
    "KIND_OF",
    "TABLES",
    "Bundle",
    "Folder",
    "built_features",
    "check_backend",
    "check_new_folder",
    "check_not_foreign",
    "console",
    "columns_given",
    "emoji_experiment",
    "load_splits_of",
    "modality_of",
    "name_values",
    "pairs_options",
    "prepare_hub",
    "settings_of",
    "with_splits",
]

FEATURES = click.option(
    "--features",
    type=click.Choice(["auto", "pretrained", "plain"]),
    default="auto",
    help="Features: pretrained networks from crossfit-wheels, or plain descriptors without "
    "weights; auto uses pretrained ones if they are installed.",
)
COLUMNS = click.option(
    "--view", "columns", multiple=True, metavar="VIEW=COLUMN",
    help="Column of a view, such as image=photo; repeatable, with commas for several captions.  "
    "[default: columns with the usual names, such as image and caption]",
)  # fmt: skip
_BACKEND = click.option(
    "--backend", type=click.Choice(["loky", "dask"]), default="loky", show_default=True,
    help="Where processes run: on this machine, or on the workers of --scheduler.",
)  # fmt: skip
_SCHEDULER = click.option("--scheduler", help="Address of a Dask scheduler, tcp://HOST:PORT.")
#: Kind of the items that extractors of a modality take.
KIND_OF = {"image": "picture", "audio": "sound", "text": "text"}
_SHORT = "Extractor of the view {0}, short for --features {0}=SPEC."


def WORKERS(command: Any) -> Any:
    """Add the options for several machines."""
    return _BACKEND(_SCHEDULER(command))


def FEATURES_AND_COLUMNS(command: Any) -> Any:
    """Add the options that name the extractors of the views and the columns of a table.

    The command is called with `features`, the extractors by view as in experiment files, and
    `columns`, for `columns_given`.
    """

    @functools.wraps(command)
    def called(
        features: Sequence[str], image: str | None, text: str | None, audio: str | None, **rest: Any
    ) -> Any:
        return command(features=_features_given(features, image, text, audio), **rest)

    made: Any = COLUMNS(called)
    for view in ("audio", "text", "image"):
        made = click.option(f"--{view}", metavar="SPEC", help=_SHORT.format(view))(made)
    return click.option(
        "--features", multiple=True, metavar="VIEW=SPEC",
        help="Extractor of a view by name, text=minilm, with arguments, image=openclip:ViT-B-32,"
        "FILE, or several in order, text='[{name: lda, params: {n_topics: 50}}]' as in experiment "
        "files; repeatable. `crossfit list extractors` lists them.",
    )(made)  # fmt: skip


#: File names of the tables that a report writes in addition to its page.
TABLES = tuple(f"leaderboard.{ending}" for ending in ("md", "tex", "csv"))


class Folder(click.Path):
    """A folder that exists or can be made; other paths are a usage error before any work."""

    def __init__(self) -> None:
        super().__init__(file_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        # click rejects only regular files, and checks only the path itself.
        inner = next(part for part in (path.absolute(), *path.absolute().parents) if part.exists())
        if not inner.is_dir():
            self.fail(f"{str(inner)!r} is not a folder", param, ctx)
        return path


class Bundle(click.Path):
    """A bundle: its folder, or its address on the hub, which is checked before any work.

    Parameters
    ----------
    among : bool, default=False
        Whether the bundle is among other words, which are left as they are. A word may have a label
        before it, ``LABEL=hf://user/name``.
    """

    def __init__(self, among: bool = False) -> None:
        super().__init__(exists=True, file_okay=False, path_type=Path)
        self.among = among

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path of a folder, and an address as it is."""
        at = str(value).find("hf://")
        if at == 0 or (self.among and at > 0 and str(value)[at - 1] == "="):
            from crossfit.hub import parsed

            try:
                parsed(str(value)[at:])
            except ValueError as error:
                self.fail(str(error), param, ctx)
            prepare_hub()
            return str(value)
        if self.among:
            return value
        return super().convert(value, param, ctx)


EXTRACTORS_OF = click.option(
    "--with", "bundle", type=Bundle(), metavar="BUNDLE",
    help="Folder of a winner or bundle, or its address hf://user/name@revision, whose extractors "
    "are used as they were fitted.",
)  # fmt: skip


def prepare_hub() -> None:
    """Raise an ImportError without huggingface_hub; in a pipe, switch its bars off."""
    from crossfit.hub import check_installed

    check_installed()
    if not sys.stderr.isatty():
        from huggingface_hub.utils.tqdm import disable_progress_bars

        disable_progress_bars()


def console(stderr: bool = False) -> Any:
    """Return a rich console; in a pipe it is wide enough to print each row on one line."""
    from rich.console import Console

    found = Console(stderr=stderr)
    return found if found.is_terminal else Console(stderr=stderr, width=240)


def check_new_folder(folder: Path, option: str) -> None:
    """Raise a UsageError before the work if a folder cannot be made after it."""
    if folder.exists():
        raise click.UsageError(f"{option}: {str(folder)!r} exists already; choose a new folder")
    above = next(parent for parent in folder.absolute().parents if parent.exists())
    if not os.access(above, os.W_OK | os.X_OK):
        raise click.UsageError(
            f"{option}: {str(above)!r} is read-only; choose a folder that can be written"
        )


def check_not_foreign(files: Sequence[Path]) -> None:
    """Raise a UsageError if some, but not all, of the files of a report exist.

    An earlier report has all of them and may be replaced; files of other origin may not.
    """
    foreign = [str(path) for path in files if path.exists()]
    if foreign and len(foreign) < len(files):
        raise click.UsageError(
            f"--out: {', '.join(foreign)} would be overwritten, but the folder does not contain an "
            "earlier report; choose another folder"
        )


def emoji_experiment(features: str) -> Experiment:
    """Return the emoji experiment for a value of ``--features``."""
    from crossfit.experiment import Experiment
    from crossfit.experiment.cards import EMOJI_PLAIN
    from crossfit.experiment.spec import shipped_file
    from crossfit.registry import NotInstalledError

    if features != "plain":
        try:
            return Experiment.find("emoji-pretrained")
        except NotInstalledError:
            if features == "pretrained":
                raise NotInstalledError(
                    "--features pretrained: the pretrained networks are not installed; install "
                    "crossfit-wheels, or use --features plain"
                ) from None
    return Experiment.from_file(shipped_file(EMOJI_PLAIN))


def name_values(given: Sequence[str], option: str, chain: bool = False) -> dict[str, Any]:
    """Return ``NAME=VALUE`` settings with YAML values; a chain may be a comma-separated list."""
    from crossfit.experiment.spec import change

    tree: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name or not value:
            raise click.UsageError(f"{option} must have the form NAME=VALUE, got {text!r}")
        # With a colon first, what follows are the arguments of one extractor.
        names = "," in value and ":" not in value.partition(",")[0]
        if chain and "{" not in value and "[" not in value and names:
            value = f"[{value}]"
        change(tree, f"{name}={value}", option)
    return tree


def _features_given(
    features: Sequence[str], image: str | None, text: str | None, audio: str | None
) -> dict[str, Any]:
    """Return the extractors of options by view, as in experiment files."""
    short = {"image": image, "text": text, "audio": audio}
    given = [f"{view}={spec}" for view, spec in short.items() if spec is not None]
    for text_ in features:
        view = text_.partition("=")[0]
        if short.get(view) is not None:
            raise click.UsageError(f"--features {view}=SPEC and --{view} SPEC are the same option")
    return name_values([*given, *features], "--features", chain=True)


def built_features(features: dict[str, Any]) -> dict[str, Any]:
    """Return the extractors that options name by view, not fitted."""
    from crossfit.experiment import SpecError
    from crossfit.experiment.build import build_features
    from crossfit.experiment.spec import Experiment

    try:
        experiment = Experiment(
            title="features", dataset={"name": "pairs"}, features=features, methods=["cca"]
        )
        return dict(build_features(experiment.features))
    except SpecError as error:
        raise SpecError(str(error).replace("features.", "--features ")) from None


def modality_of(spec: Any) -> str | None:
    """Return the modality of the first extractor of a view, or None if it is another class."""
    from crossfit import registry
    from crossfit.extraction import parse_extractor

    while isinstance(spec, list) and spec:
        spec = spec[0]
    name = spec.get("name") if isinstance(spec, dict) else spec
    try:
        name = parse_extractor(spec)[0] if isinstance(spec, str) else name
        found: str = registry.get(str(name), "crossfit.extractors").modality
    except (registry.RegistryError, ValueError, TypeError):
        return None
    return found


def columns_given(columns: Sequence[str]) -> dict[str, Any]:
    """Return the columns of `COLUMNS` by view."""
    found: dict[str, Any] = {}
    for text in columns:
        view, _, column = text.partition("=")
        if not view or not column:
            raise click.UsageError(f"--view must have the form VIEW=COLUMN, got {text!r}")
        if view in found:
            raise click.UsageError(f"--view names the view {view!r} twice")
        parts = column.split(",")
        found[view] = parts[0] if len(parts) == 1 else parts
    return found


def pairs_options(
    source: str | os.PathLike[str], columns: Sequence[str], features: dict[str, Any]
) -> dict[str, Any]:
    """Return the options with which `crossfit.datasets.read_pairs` reads pairs.

    The views whose extractors take pictures or sounds are files.
    """
    named = columns_given(columns)
    if len(named) == 1:
        raise click.UsageError(
            f"--view: a pair needs two views or more; name the column of each, not only "
            f"{next(iter(named))}"
        )
    if named and os.path.isdir(source):
        raise click.UsageError("--view is for tables, and the pairs are in a folder")
    found: dict[str, Any] = {"views": named} if named else {}
    files = [view for view, spec in features.items() if modality_of(spec) in ("image", "audio")]
    own = [view for view in files if view not in ("image", "audio")]
    if own and not os.path.isdir(source) and not str(source).lower().endswith(".tar"):
        found["paths"] = ["image", "audio", *own]
    return found


def load_splits_of(dataset: str, root: str | None, split: str | None, names: Sequence[str]) -> Any:
    """Load the named splits; if the loader has the option ``subsets``, read only their files."""
    import inspect

    from crossfit import registry
    from crossfit.datasets import load

    loader = registry.load(dataset, "crossfit.datasets")
    only = {"subsets": tuple(names)} if "subsets" in inspect.signature(loader).parameters else {}
    found = load(dataset, root, split=split, **only)
    return with_splits(found, f"data set {dataset!r}", names)


def with_splits(found: Any, what: str, names: Sequence[str]) -> Any:
    """Return a data set after checking that it has the named splits."""
    for name in names:
        if name not in found:
            raise ValueError(
                f"{what} has no split {name!r}; its splits are: {', '.join(found.splits)}"
            )
    return found


def settings_of(params: tuple[str, ...]) -> dict[str, Any]:
    """Return the settings of ``--params``: JSON objects, and ``key=value`` with YAML values."""
    import yaml

    found: dict[str, Any] = {}
    for text in params:
        key, equals, value = text.partition("=")
        try:
            if text.lstrip().startswith("{"):
                part = yaml.safe_load(text)  # JSON is a subset of YAML
            elif equals and key.strip().isidentifier():
                part = {key.strip(): yaml.safe_load(value)}
            else:
                part = None
        except (yaml.YAMLError, RecursionError):
            part = None
        if not isinstance(part, dict) or not all(isinstance(name, str) for name in part):
            raise click.UsageError(
                f"--params must be a JSON object or KEY=VALUE, such as k=3, got {text!r}"
            )
        found |= part
    return found


def check_backend(backend: str, scheduler: str | None, jobs: int) -> None:
    """Check the options of commands that use several processes or machines."""
    if backend == "dask" and not scheduler:
        raise click.UsageError("--backend dask requires --scheduler tcp://HOST:PORT")
    if scheduler and backend != "dask":
        raise click.UsageError("--scheduler requires --backend dask")
    if jobs == 0 or jobs < -1:
        raise click.UsageError(f"--jobs must be a positive number or -1, got {jobs}")
