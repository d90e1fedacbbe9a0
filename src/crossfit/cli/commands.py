"""The commands; what they need is imported when they run, so that `crossfit list` is quick."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import click

import crossfit
from crossfit._text import printable
from crossfit.cli.check import check
from crossfit.cli.experiments import run
from crossfit.cli.folders import Folder
from crossfit.cli.new import new
from crossfit.cli.reporting import report
from crossfit.cli.tuning import tune

SECTIONS = {
    "methods": "crossfit.methods",
    "extractors": "crossfit.extractors",
    "datasets": "crossfit.datasets",
    "experiments": "crossfit.experiments",
}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(crossfit.__version__, prog_name="crossfit", message="%(prog)s %(version)s")
def cli() -> None:
    """Cross-modal retrieval: find the text for a picture, the picture for a text.

    Start with `crossfit demo`. Errors are one line; with CROSSFIT_DEBUG=1 in the environment they
    come with their traceback.
    """


cli.add_command(run)
cli.add_command(check)
cli.add_command(new)
cli.add_command(report)
cli.add_command(tune)


@cli.command("list")
@click.argument("section", required=False, type=click.Choice(list(SECTIONS)))
@click.option("--json", "as_json", is_flag=True, help="Print every card in full as JSON.")
@click.option("-v", "--verbose", is_flag=True, help="Show tracebacks of broken plugins.")
def list_(section: str | None, as_json: bool, verbose: bool) -> None:
    """List the methods, extractors, data sets and experiments that are installed."""
    from crossfit import registry

    found = registry.entries(SECTIONS[section] if section else None)
    if as_json:
        rows = [
            {
                "kind": entry.kind,
                "name": entry.name,
                "distribution": entry.distribution,
                "version": entry.version,
                "status": entry.status,
                "error": entry.error,
                "shadowed": entry.shadowed,
                "card": None if entry.card is None else dataclasses.asdict(entry.card),
            }
            for entry in found
        ]
        click.echo(json.dumps(rows, indent=2, default=str))
        return
    _print_entries(found)
    for entry in found:
        if verbose and entry.error:
            click.echo(f"\n{entry.distribution} {entry.version}, {entry.kind} {entry.name}:")
            click.echo(printable(entry.error.rstrip(), lines=True))


def _print_entries(found: Any) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not found:
        click.echo("nothing is installed")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("kind", "name", "from", "summary"):
        table.add_column(heading, no_wrap=heading != "summary")
    for entry in found:
        if entry.card is not None:
            summary = Text(printable(entry.card.summary))
        else:
            last = entry.error.strip().splitlines()[-1]
            summary = Text(printable(f"{entry.status}: {last}"), style="red")
        if entry.shadowed:
            other = f"{entry.distribution}:{entry.name}"
            summary = Text(f"shadowed by crossfit's own, ask for {other}: ").append(summary)
        source = printable(f"{entry.distribution} {entry.version}")
        table.add_row(entry.kind, Text(printable(entry.name)), Text(source), summary)
    _console(Console).print(table)


def _console(kind: Any) -> Any:
    console = kind()
    if not console.is_terminal:
        # In a pipe every row stays on one line, for grep and cut.
        console = kind(width=240)
    return console


@cli.command()
@click.argument("name")
def cite(name: str) -> None:
    """Print how to cite a method, extractor, data set or experiment."""
    from crossfit import registry
    from crossfit.cards import did_you_mean

    for group in SECTIONS.values():
        try:
            card = registry.get(name, group)
        except registry.NotInstalledError:
            continue
        click.echo(printable(card.citation, lines=True) or f"there is no citation for {name}")
        return
    known = {entry.name for entry in registry.entries()}
    raise registry.NotInstalledError(
        f"nothing called {name!r} is installed"
        + (did_you_mean(name, sorted(known)) or "; see `crossfit list`")
    )


@cli.group()
def cache() -> None:
    """Look at the feature cache, or clear it."""


@cache.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(as_json: bool) -> None:
    """Say where the cache is and what is in it."""
    from crossfit.cache import FeatureCache

    about = FeatureCache().info()
    if as_json:
        click.echo(json.dumps(about, indent=2, default=str))
        return
    click.echo(f"{about['path']}: {_features(about['entries'])}, {_size(about['bytes'])}")
    for name, part in about["extractors"].items():
        click.echo(f"  {name}: {_features(part['entries'])}, {_size(part['bytes'])}")
    if about["error"]:
        click.echo(f"  not readable: {about['error']}")


def _features(n: int) -> str:
    return f"{n} feature{'' if n == 1 else 's'}"


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 2**20:.1f} MiB"


@cache.command()
@click.option("--extractor", help="Only the features of one extractor, as `cache info` names it.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def clear(extractor: str | None, yes: bool) -> None:
    """Delete cached features."""
    from crossfit.cache import FeatureCache

    what = f"the features of {extractor}" if extractor else "all cached features"
    if not yes and not click.confirm(f"Delete {what}?"):
        raise click.ClickException("nothing deleted")
    click.echo(f"deleted {_features(FeatureCache().clear(extractor))}")


_FEATURES = click.option(
    "--features",
    type=click.Choice(["auto", "pretrained", "plain"]),
    default="auto",
    help="Pretrained networks from crossfit-wheels, or descriptors that need no weights.",
)


@cli.command()
@click.option(
    "-o", "--out", type=Folder(), default=Path("demo"),
    show_default=True, help="Folder for report.html.",
)  # fmt: skip
@_FEATURES
def demo(out: Path, features: str) -> None:
    """Fit and compare methods on the emoji set and write a report."""
    from crossfit.experiment.demo import run_demo

    run_demo(out, features)


@cli.command()
@click.argument("query", required=False)
@click.option("--picture", type=click.Path(exists=True, dir_okay=False), help="Search by picture.")
@click.option("-k", type=click.IntRange(min=1), default=5, show_default=True, help="How many.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_FEATURES
def search(query: str | None, picture: str | None, k: int, as_json: bool, features: str) -> None:
    """Find the emoji for a text, or the texts for a picture.

    QUERY is a text, for instance "a red heart"; or give --picture FILE instead.
    """
    if (query is None) == (picture is None):
        raise click.UsageError("give a text or --picture FILE, one of the two")
    if query is not None and not query.strip():
        raise click.UsageError("the text is empty")
    if picture is not None:
        from crossfit.extraction.images import load_rgb

        load_rgb(picture)  # what is no picture is told before the work begins
    click.echo("reading all emoji: the first time may take minutes", err=True)
    from crossfit.experiment.demo import answer

    found = answer(query, picture, k, features)
    if as_json:
        # Escapes of JSON, where the output cannot take what it would need.
        readable = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
        click.echo(json.dumps(found, ensure_ascii=not readable, indent=2))
        return
    for row in found:
        line = f"{row['score']:6.3f}  {row['character']}  {row['name']}: {row['text']}"
        click.echo(printable(line))
