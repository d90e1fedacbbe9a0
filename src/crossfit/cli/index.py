"""``crossfit index``: a gallery on disk, with the vectors of a winner."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import click

from crossfit.cli._shared import WORKERS, Bundle, Folder, check_backend, check_new_folder

__all__ = ["index"]

EXAMPLES = """\b
Examples:
  crossfit index winner/ photos/ --out photos.index
  crossfit index hf://user/name@COMMIT photos/ --out photos.index
  crossfit index winner/ photos.csv --out photos.index --target-recall 0.95 --queries queries.csv
  crossfit index winner/ features/ --view image --out photos.index
  crossfit index winner/ photos/ --out photos.index --jobs 4
  crossfit index winner/ photos/ -o photos.index --backend dask --scheduler tcp://HOST:8786
  crossfit serve winner/ --gallery photos.index
"""
#: Items whose features are computed at a time.
_BLOCK = 4096
#: Most shards; the files of all of them are open when they are merged.
_PARTS = 128
_KINDS = ("auto", "exact", "hnsw", "int8", "ivf-pq")


@click.command(epilog=EXAMPLES)
@click.argument("winner", type=Bundle(), metavar="WINNER")
@click.argument("gallery", type=click.Path(exists=True))
@click.option("-o", "--out", type=Folder(), required=True, help="New folder for the index.")
@click.option("--view", help="View of the items; by default the only one of their kind.")
@click.option(
    "--kind",
    type=click.Choice(_KINDS),
    default="auto",
    show_default=True,
    help="How it is searched; auto goes by the number of items, and is exact if the target of "
    "recall is not reached.",
)
@click.option(
    "--target-recall",
    type=click.FloatRange(0, 1, min_open=True),
    help="Share of the exact results to find; the fastest settings that do are chosen.",
)
@click.option(
    "--queries",
    type=click.Path(exists=True),
    help="Table or folder with a sample of real queries, of another view.",
)
@click.option(
    "-k", type=click.IntRange(1), default=10, show_default=True, help="Results per query."
)
@click.option("--jobs", default=1, show_default=True,
              help="Processes of this machine; -1 is one per processor.")  # fmt: skip
@WORKERS
def index(
    winner: Path | str,
    gallery: str,
    out: Path,
    view: str | None,
    kind: str,
    target_recall: float | None,
    queries: str | None,
    k: int,
    jobs: int,
    backend: str,
    scheduler: str | None,
) -> None:
    """Embed the items of GALLERY with the model in WINNER, and build an index of them.

    WINNER is a folder of `crossfit fit --save`, or its address hf://user/name@revision on the
    Hugging Face Hub. GALLERY is a folder of pictures or sounds; a table, whose columns can be used
    in filters; or a folder of `crossfit embed` with the features of the winner's extractors. The
    curve of recall and speed is written to the index as recall.json and recall.png. With several
    processes or machines, their parts are kept next to the new folder until it is complete; a
    folder WINNER and the files of GALLERY must have the same paths on all machines.
    """
    check_backend(backend, scheduler, jobs)
    if (target_recall is None) != (queries is None):
        raise click.UsageError("--target-recall and --queries are given together")
    check_new_folder(out, "--out")
    from crossfit._progress import progress_bar
    from crossfit.datasets.features import is_features
    from crossfit.galleries import gallery_of_features, names_for_others, read_gallery
    from crossfit.retrieval import Part, build_shards

    place: Path | str
    if isinstance(winner, Path):
        place = winner.absolute()
        version = max(path.stat().st_mtime_ns for path in place.rglob("*"))
    else:
        from crossfit.hub import pinned

        # All processes read the same commit.
        place, version = pinned(winner), 0
    embedded = os.path.abspath(gallery) if is_features(gallery) else None
    model = _loaded(place, version, embedded)
    similarity = _similarity(model)
    if view is not None and view not in model.views:
        raise click.UsageError(f"--view: the views of {winner} are {', '.join(model.views)}")
    if embedded is not None:
        if view is None:
            raise click.UsageError(
                f"--view is required: {gallery} has features of {', '.join(model.views)}"
            )
        items, vectors = gallery_of_features(gallery, view, model.kinds.get(view))
    else:
        items = read_gallery(gallery, view, model.kinds.get(view) if view else None)
        vectors = items.items
    if view is None:
        of_kind = [name for name in model.views if model.kinds.get(name) == items.kind]
        if len(of_kind) != 1:
            raise click.UsageError(
                f"--view is required: {len(of_kind)} views of {winner} are of {items.kind}s"
            )
        (view,) = of_kind
    others = [name for name in model.views if name != view]
    asked: Any = None
    if queries is not None:
        sample = read_gallery(queries, others[0], model.kinds.get(others[0]))
        asked = _loaded(place, version, None).features(sample.items, others[0])
    columns = {name: part for name, part in items.columns.items() if name != "id"}
    names = names_for_others(items.ids)
    first = model.features(vectors[:1], view)
    size = max(_BLOCK, -(-len(items) // _PARTS))
    parts = [
        Part(
            _Encoded(place, version, vectors[some], view, embedded),
            names[some],
            {name: part[some] for name, part in columns.items()},
        )
        for start in range(0, len(items), size)
        for some in [slice(start, start + size)]
    ]
    with progress_bar(len(items), "embed", "item", "auto") as bar:
        made = build_shards(
            out,
            parts,
            first.shape[1],
            n_jobs=jobs,
            scheduler=scheduler,
            listener=bar.update,
            kind=kind,
            meta={"model": model.name, "view": view, "kind": items.kind},
            **similarity(others[0], view),
        )
    with made:
        made.compact()
        if asked is not None and made.kind != "exact":
            assert target_recall is not None
            tuning = made.tune(asked, target_recall, k)
            (out / "recall.json").write_text(json.dumps(tuning.to_dict(), indent=1))
            tuning.figure().savefig(out / "recall.png", dpi=110)
            click.echo(str(tuning))
            if kind == "auto" and not tuning.met:
                made.compact("exact")
        click.echo(f"{out}: {len(made):,} items, {made.kind}")


@lru_cache(maxsize=2)
def _loaded(place: Path | str, version: int, features: str | None) -> Any:
    """Return a winner, which each process reads once per version, the time of its last change.

    With a folder of features, it takes them in place of the items.
    """
    from crossfit.serving.searcher import Searcher
    from crossfit.winners import on_features, read_winner

    if features is None:
        return Searcher.load(place)
    return Searcher(on_features(read_winner(place), features))


@dataclass(frozen=True, eq=False)
class _Encoded:
    """The vectors of items, which are computed where this is called."""

    winner: Path | str
    version: int
    items: Any
    view: str
    features: str | None

    def __call__(self) -> Any:
        import numpy as np

        model = _loaded(self.winner, self.version, self.features)
        blocks = range(0, len(self.items), _BLOCK)
        return np.concatenate(
            [model.features(self.items[at : at + _BLOCK], self.view) for at in blocks]
        )


def _similarity(model: Any) -> Any:
    """Return what the index is created with, as a function of the views of queries and items."""
    from crossfit.retrieval.hubs import HubCorrection
    from crossfit.retrieval.stored import METRICS

    names = {value: name for name, value in METRICS.items()}
    if model.embeds:
        similarity = model.scorer.similarity_
        if isinstance(similarity, HubCorrection):
            return lambda query, view: {
                "metric": similarity.measure,
                "correction": similarity,
                "directions": (query, view),
            }
        # `resolve` of a name; a scorer without one has that of the method before it.
        measure = getattr(similarity, "keywords", {}).get("measure")
        if measure in names:
            return lambda query, view: {"metric": names[measure]}
    raise click.UsageError(
        "an index needs a model that compares vectors of a common space by cosine, dot, "
        f"correlation or l2; {model.name} does not"
    )
