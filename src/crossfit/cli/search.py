"""``crossfit search``: emoji for a text, or texts for a picture."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from crossfit._text import printable
from crossfit.cli._shared import FEATURES, emoji_experiment

__all__ = ["search"]


@click.command()
@click.argument("query", required=False)
@click.option(
    "--picture", type=click.Path(exists=True, dir_okay=False), help="File to search with."
)
@click.option("-k", type=click.IntRange(min=1), default=5, show_default=True,
              help="Number of results.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@FEATURES
def search(query: str | None, picture: str | None, k: int, as_json: bool, features: str) -> None:
    """Find emoji for a text, or texts for a picture.

    QUERY is a text, for instance "a red heart". To search with a picture, use --picture FILE
    instead.
    """
    if (query is None) == (picture is None):
        raise click.UsageError("exactly one of QUERY and --picture FILE is required")
    if query is not None and not query.strip():
        raise click.UsageError("QUERY must not be empty")
    if picture is not None:
        from crossfit.extraction.images import load_rgb

        load_rgb(picture)  # a file that is not a picture is reported before any work
    click.echo(
        "computing the features of all emoji; the first time, this may take minutes", err=True
    )
    found = answer(query, picture, k, features)
    if as_json:
        # JSON escapes are used if the output cannot encode the characters themselves.
        readable = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
        click.echo(json.dumps(found, ensure_ascii=not readable, indent=2))
        return
    scores = {row["score"] for row in found}
    # As few decimals as distinguish the scores.
    digits = next(
        n for n in range(3, 7) if n == 6 or len({round(s, n) for s in scores}) == len(scores)
    )
    for row in found:
        score = f"{row['score']:{digits + 3}.{digits}f}"
        line = f"{score}  {row['character']}  {row['name']}: {row['text']}"
        click.echo(printable(line))


def answer(query: str | None, picture: str | None, k: int, features: str) -> list[dict[str, Any]]:
    """Return the k emoji most similar to a text or to a picture, best first.

    Parameters
    ----------
    query : str or None
        A text; None to search with `picture`.
    picture : str or None
        Path of a picture; None to search with `query`.
    k : int
        Number of results.
    features : {"auto", "pretrained", "plain"}
        Value of ``--features``.

    Returns
    -------
    list of dict
        ``score``, ``character``, ``name`` and ``text`` of each.
    """
    import numpy as np
    from sklearn.pipeline import Pipeline

    import crossfit
    from crossfit.compose import ViewTransformer
    from crossfit.datasets import load
    from crossfit.experiment.build import build_features
    from crossfit.subspace import CCA
    from crossfit.views import Views

    parts = build_features(emoji_experiment(features).features)
    ds = load("emoji")
    model = Pipeline([("features", ViewTransformer(parts)), ("cca", CCA(64, reg=1.0, power=1.0))])
    model.fit(ds["train"].views)
    everything = {
        name: np.concatenate([split.views[name] for split in ds.splits.values()])
        for name in ("image", "text")
    }
    about = {
        key: np.concatenate([split.info[key] for split in ds.splits.values()])
        for key in ("short_name", "unicode")
    }
    view, other = ("text", "image") if picture is None else ("image", "text")
    found = crossfit.search(
        model,
        Views({view: [query if picture is None else picture]})[view],
        view=view,
        gallery=everything[other],
        gallery_view=other,
        k=k,
    )
    return [
        {
            "score": round(float(score), 6),
            "character": "".join(chr(int(point, 16)) for point in about["unicode"][i].split("-")),
            "name": str(about["short_name"][i]),
            "text": str(everything["text"][i]),
        }
        for i, score in zip(found.indices[0], found.scores[0])
    ]
