"""``crossfit cache``: the cache of features."""

from __future__ import annotations

import json

import click

__all__ = ["cache"]


EXAMPLES = """\b
Examples:
  crossfit cache info
  crossfit cache clear --extractor grid
"""


@click.group(epilog=EXAMPLES)
def cache() -> None:
    """Show or clear the feature cache."""


@cache.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(as_json: bool) -> None:
    """Print the path and the contents of the cache."""
    from crossfit.cache import FeatureCache, networks_folder

    about = FeatureCache().info()
    networks = list(networks_folder().glob("*/*"))
    about["networks"] = len({path.parent for path in networks})
    about["network_bytes"] = sum(path.stat().st_size for path in networks)
    if as_json:
        click.echo(json.dumps(about, indent=2, default=str))
        return
    click.echo(f"{about['path']}: {_features(about['entries'])}, {_size(about['bytes'])}")
    for name, part in about["extractors"].items():
        click.echo(f"  {name}: {_features(part['entries'])}, {_size(part['bytes'])}")
    if networks:
        click.echo(f"  {_networks(about['networks'])}, {_size(about['network_bytes'])}")
    if about["error"]:
        click.echo(f"  the cache cannot be read: {about['error']}")


@cache.command()
@click.option(
    "--extractor", help="Delete only features of this extractor, named as by `cache info`."
)
@click.option("-y", "--yes", is_flag=True, help="Delete without asking for confirmation.")
def clear(extractor: str | None, yes: bool) -> None:
    """Delete cached features and, without --extractor, networks exported for ONNX Runtime."""
    import shutil

    from crossfit.cache import FeatureCache, networks_folder

    what = f"the features of {extractor}" if extractor else "all cached features"
    if not yes and not click.confirm(f"Delete {what}?"):
        raise click.ClickException("nothing was deleted")
    deleted = _features(FeatureCache().clear(extractor))
    networks = [] if extractor else list(networks_folder().glob("*"))
    for folder in networks:
        shutil.rmtree(folder, ignore_errors=True)
    click.echo(f"deleted {deleted}" + (f" and {_networks(len(networks))}" if networks else ""))


def _features(n: int) -> str:
    return f"{n} feature{'' if n == 1 else 's'}"


def _networks(n: int) -> str:
    return f"{n} exported network{'' if n == 1 else 's'}"


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 2**20:.1f} MiB"
