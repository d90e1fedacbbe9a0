"""``crossfit embed``: the features of pairs, extracted once and written to a folder."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from crossfit._text import printable
from crossfit.cli._shared import (
    EXTRACTORS_OF,
    FEATURES_AND_COLUMNS,
    WORKERS,
    Folder,
    built_features,
    check_backend,
    check_new_folder,
    pairs_options,
)

__all__ = ["embed"]

EXAMPLES = """\b
Examples:
  crossfit embed pairs.csv --image efficientnet-lite0 --text minilm --out features/
  crossfit embed pairs.csv --image openclip:ViT-B-32,weights.pt --out features/
  crossfit embed sounds.csv --features audio=log-mel --view audio=file --view text=title -o f
  crossfit embed pairs.csv --text minilm --out features/ --jobs 4
  crossfit embed pairs.csv --image timm:resnet50 --out f --devices cuda:0,cuda:1
  crossfit embed pairs.csv --text minilm -o f --backend dask --scheduler tcp://HOST:8786
  crossfit embed pairs.csv --image grid --text minilm --out features/ --format parquet
  crossfit embed more.csv --with features/extractors --out more/
  crossfit embed pairs.csv --with hf://user/name@COMMIT --out features/
  crossfit fit cca features/ --save winner/
"""
#: Seconds between two lines of progress, where there is no bar.
_SILENCE = 30.0
#: Number of files that are named if they are left out.
_NAMED = 5


@click.command(epilog=EXAMPLES)
@click.argument("pairs", type=click.Path(exists=True))
@FEATURES_AND_COLUMNS
@EXTRACTORS_OF
@click.option("-o", "--out", type=Folder(), required=True, help="New folder for the features.")
@click.option("--format", "form", type=click.Choice(["npy", "parquet"]), default="npy",
              show_default=True, help="Files of the features: arrays, or tables with a row per "
              "item, which pandas, polars, DuckDB and datasets read.")  # fmt: skip
@click.option("--skip-broken", is_flag=True,
              help="Leave out pairs with a file that is missing or damaged, and name them.",
              )  # fmt: skip
@click.option("--jobs", default=1, show_default=True,
              help="Number of processes; -1 uses all processors.")  # fmt: skip
@click.option("--devices", help="Devices such as cuda:0,cuda:1, one process each. Default: each "
              "GPU, if there are several and --jobs is 1.")  # fmt: skip
@WORKERS
def embed(
    pairs: str,
    features: dict[str, Any],
    columns: tuple[str, ...],
    bundle: Path | str | None,
    out: Path,
    form: str,
    skip_broken: bool,
    jobs: int,
    devices: str | None,
    backend: str,
    scheduler: str | None,
) -> None:
    """Extract the features of PAIRS and write them to a folder.

    PAIRS is a table, a folder of pictures and texts, or tar shards, as for `crossfit run --data`.
    The folder has an array per view, the items and the pairs; every command reads it in place of
    PAIRS. A run that is killed continues where it stopped: finished features are in the cache.
    With several processes or machines, finished parts are kept next to the new folder.
    """
    check_backend(backend, scheduler, jobs)
    if bundle is not None and (features or columns):
        raise click.UsageError("--with excludes extractors and columns: the bundle has its own")
    if devices and (jobs != 1 or scheduler):
        raise click.UsageError("--devices excludes --jobs and --backend dask")
    if not features and bundle is None:
        raise click.UsageError(
            "name an extractor for at least one view, such as --image efficientnet-lite0, or a "
            "bundle that has them by --with; `crossfit list extractors` lists them"
        )
    check_new_folder(out, "--out")
    extractors: Any
    if bundle is not None:
        from crossfit.winners import extractors_of, options_for, read_bundle

        fitted = read_bundle(bundle)
        extractors, options = extractors_of(fitted), options_for(fitted, pairs)
        features = dict(fitted.record.get("features") or {})
        parts = [part for part in extractors.transformers_.values() if not isinstance(part, str)]
    else:
        extractors = built_features(features)
        options = pairs_options(pairs, columns, features)
        parts = list(extractors.values())

    from crossfit._sharding import device_names
    from crossfit.datasets import read_pairs
    from crossfit.embedding import embed as write_features

    if skip_broken:
        options["invalid"] = "skip"
    dataset = read_pairs(pairs, **options)
    uses_torch = any("device" in part.get_params() for part in parts)
    many = jobs != 1 or scheduler is not None
    chosen = () if many else device_names(devices or "auto", uses_torch)
    show, close = _progress()
    begun = time.monotonic()
    about = {
        "features": features, "source": Path(pairs).name, "columns": options.get("views"),
        "command": shlex.join(["crossfit", *sys.argv[1:]]),
    }  # fmt: skip
    try:
        problems = write_features(
            dataset,
            extractors,
            out,
            skip=skip_broken,
            about=about,
            listener=show,
            n_jobs=jobs,
            devices=chosen,
            scheduler=scheduler,
            format=form,
        )
    except KeyboardInterrupt:
        close()
        click.echo("interrupted; repeat the command to continue", err=True)
        raise
    finally:
        close()
    _print(out, problems, time.monotonic() - begun)


def _print(out: Path, problems: dict[str, dict[int, str]], seconds: float) -> None:
    from crossfit.datasets.features import manifest_of

    for view, left_out in problems.items():
        click.echo(f"{view}: left out {len(left_out)} items that cannot be read", err=True)
        for why in list(left_out.values())[:_NAMED]:
            click.echo(printable(f"  {' '.join(why.split())}"), err=True)
    for view, written in manifest_of(out)["views"].items():
        shape = " × ".join(map(str, written.get("shape", [])))
        what = f"{shape} numbers each" if shape else "as they are"
        click.echo(printable(f"{view}: {written['n']:,} items, {what}"))
    click.echo(f"wrote {out} in {seconds:.1f} s")
    click.echo(f"next: crossfit fit cca {shlex.quote(str(out))} --save winner")


def _progress() -> tuple[Callable[[str, int, int], None], Callable[[], None]]:
    """Return functions that show the progress of each view, with the time left, and end it."""
    from crossfit._progress import progress_bar

    bars: dict[str, Any] = {}
    begun: dict[str, float] = {}
    said = [time.monotonic()]

    def show(view: str, done: int, total: int) -> None:
        if view not in bars:
            for other in bars.values():
                other.close()
            bars[view] = progress_bar(total, view, "items", "auto")
            begun[view] = said[0]
        bars[view].update(done - bars[view].n)
        now = time.monotonic()
        if bars[view].disable and now - said[0] > _SILENCE and done < total:
            left = (now - begun[view]) / done * (total - done)
            click.echo(
                printable(f"{view}: {done:,} of {total:,}, about {left:.0f} s left"), err=True
            )
            said[0] = now
        elif done == total:
            said[0] = now

    def close() -> None:
        for bar in bars.values():
            bar.close()

    return show, close
