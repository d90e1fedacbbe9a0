"""``crossfit search``: in a gallery with a fitted method, or among the emoji."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import webbrowser
from pathlib import Path
from typing import Any

import click

from crossfit._text import printable
from crossfit.cli._shared import FEATURES, Bundle

__all__ = ["search"]


EXAMPLES = """\b
Examples:
  crossfit search "a red heart"
  crossfit search winner/ "a dog on the beach" --gallery photos/ -k 10 --open
  crossfit search hf://user/name@COMMIT "a dog on the beach" --gallery photos/
  crossfit search winner/ --image query.jpg --gallery captions.csv
  crossfit search winner/ --audio bark.wav --gallery titles.csv --json
"""


@click.command(epilog=EXAMPLES)
@click.argument("words", nargs=-1, type=Bundle(among=True), metavar="[WINNER] [QUERY]")
@click.option("--image", "--picture", "picture", type=click.Path(exists=True, dir_okay=False),
              help="Picture to search with.")  # fmt: skip
@click.option("--audio", "sound", type=click.Path(exists=True, dir_okay=False),
              help="Sound to search with.")  # fmt: skip
@click.option("--gallery", type=click.Path(exists=True),
              help="Folder of pictures or sounds, a table, or an index of crossfit index.",
              )  # fmt: skip
@click.option("--column", help="Column of the gallery's table.  [default: that of the fit]")
@click.option("--query-view", help="View of the query, if several are of its kind.")
@click.option("--gallery-view", help="View of the gallery, if there are several.")
@click.option("-k", type=click.IntRange(min=1), default=None,
              help="Number of results.  [default: 10, or 5 emoji]")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path),
              help="Write the results to this page.")  # fmt: skip
@click.option("--open", "show", is_flag=True, help="Show the page in the browser.")
@FEATURES
def search(
    words: tuple[str, ...],
    picture: str | None,
    sound: str | None,
    gallery: str | None,
    column: str | None,
    query_view: str | None,
    gallery_view: str | None,
    k: int | None,
    as_json: bool,
    html: Path | None,
    show: bool,
    features: str,
) -> None:
    """Search a gallery with a fitted method, or the emoji without one.

    WINNER is the folder of `crossfit fit --save` or its address on the Hugging Face Hub, and QUERY
    a text; to search with a picture or a sound, use --image or --audio instead. The features of the
    gallery are kept, so that the next search takes a moment. Without WINNER and --gallery, emoji
    are found for a text, or texts for a picture.
    """
    if gallery is None:
        only = {"--audio": sound, "--column": column, "--html": html, "--open": show or None,
                "--query-view": query_view, "--gallery-view": gallery_view}  # fmt: skip
        given = next((name for name, value in only.items() if value is not None), None)
        a_winner = bool(words) and (words[0].startswith("hf://") or os.path.isdir(words[0]))
        if given is not None or len(words) > 1 or a_winner:
            raise click.UsageError(
                "--gallery is needed to search with a fitted method: crossfit search WINNER QUERY "
                "--gallery FOLDER"
            )
        _search_emoji(words[0] if words else None, picture, k or 5, as_json, features)
        return
    if not words:
        raise click.UsageError("--gallery needs the folder of a fitted method, WINNER")
    if len(words) > 2:
        raise click.UsageError(f"QUERY must be one text; put it in quotes: {' '.join(words[1:])!r}")
    text = words[1] if len(words) == 2 else None
    if sum(value is not None for value in (text, picture, sound)) != 1:
        raise click.UsageError("exactly one of QUERY, --image FILE and --audio FILE is required")
    if text is not None and not text.strip():
        raise click.UsageError("QUERY must not be empty")
    if picture is not None:
        from crossfit.extraction.images import load_rgb

        load_rgb(picture)
    if html is not None and html.exists():
        raise click.UsageError(f"--html: {str(html)!r} exists already; choose a new file")
    kind = "text" if text is not None else "picture" if picture is not None else "sound"
    query = text or picture or sound
    _search_gallery(
        words[0], str(query), kind, gallery, column, query_view, gallery_view, k or 10, as_json,
        html, show,
    )  # fmt: skip


def _search_gallery(
    folder: str,
    query: str,
    kind: str,
    gallery: str,
    column: str | None,
    query_view: str | None,
    gallery_view: str | None,
    k: int,
    as_json: bool,
    html: Path | None,
    show: bool,
) -> None:
    from crossfit.winners import gallery_for, read_winner, search_winner

    winner = read_winner(folder)
    own = winner.of_kind(kind)
    if query_view is not None and query_view not in own:
        raise click.UsageError(
            f"--query-view {query_view}: the views of this kind, {kind}, are "
            f"{', '.join(own) or 'none'}"
        )
    if not own:
        what = ", ".join(f"{view} ({winner.kind(view) or 'unknown'})" for view in winner.views)
        raise ValueError(f"{folder} cannot search with a {kind}: it was fitted on the views {what}")
    if query_view is None:
        others = [name for name in own if name != gallery_view] or own
        if len(others) > 1:
            raise click.UsageError(
                f"name the view of the query by --query-view: {', '.join(others)}"
            )
        query_view = others[0]
    if (Path(gallery) / "manifest.json").is_file():
        found_kind, hits = _of_index(winner, query, query_view, gallery, gallery_view, k)
    else:
        view, items = gallery_for(winner, gallery, query_view, gallery_view, column)
        found = search_winner(winner, query, query_view, items, view, k)
        found_kind, at = items.kind, found.indices[0].tolist()
        hits = list(zip(found.scores[0].tolist(), items.rows(at)))
    rows = [
        {"rank": rank + 1, "score": round(float(score), 6), **row}
        for rank, (score, row) in enumerate(hits)
    ]
    if as_json:
        _print_json(rows)
    else:
        _print_rows(rows, found_kind)
    if html is not None or show:
        from crossfit.report.results import write_results

        page = html or Path(tempfile.mkdtemp(prefix="crossfit-search-")) / "results.html"
        write_results(page, query, kind, rows, found_kind)
        click.echo(f"page: {page}", err=as_json)
        if show and not webbrowser.open(page.absolute().as_uri()):
            click.echo("there is no browser to show the page in", err=True)


def _of_index(
    winner: Any, query: str, query_view: str, folder: str, view: str | None, k: int
) -> tuple[str, list[tuple[float, dict[str, Any]]]]:
    """Search an index; return the kind of its items, and the score and columns of each result."""
    import crossfit
    from crossfit.retrieval import Index

    index = Index.open(folder)
    view = view or index.meta.get("view")
    kind = winner.kind(str(view)) if view in winner.views else None
    if kind is None or ("text" if kind == "text" else "path") not in index.columns:
        raise ValueError(
            f"the index {folder!r} was not built with this method: its view is {view!r}, and those "
            f"of the method are {', '.join(winner.views)}; build it with crossfit index"
        )
    found = index.search(crossfit.encode(winner.model, [query], query_view), k, payload=False)
    rows = index.get([str(name) for name in found.ids[0]])
    return kind, [
        (float(score), {"id": str(name), **row})
        for name, score, row in zip(found.ids[0], found.scores[0], rows)
    ]


def _print_rows(rows: list[dict[str, Any]], kind: str) -> None:
    """Print a line per result, and the picture above it if the terminal has colours for it."""
    digits = _digits([row["score"] for row in rows])
    pictures = kind == "picture" and sys.stdout.isatty() and os.environ.get("COLORTERM") in (
        "truecolor", "24bit"
    )  # fmt: skip
    for row in rows:
        if pictures:
            from crossfit.report.results import blocks

            click.echo(blocks(row["path"]))
        if kind == "text":
            words = row["text"]
        else:
            others = [
                str(value) for name, value in row.items()
                if name not in ("rank", "score", "id", "path")
            ]  # fmt: skip
            words = f"{row['id']}  {'  '.join(others)}".rstrip()
        line = " ".join(str(words).split())
        click.echo(printable(f"{row['score']:{digits + 3}.{digits}f}  {line}"))


def _digits(scores: list[float]) -> int:
    """Return as few decimals as distinguish the scores."""
    values = set(scores)
    return next(
        n for n in range(3, 7) if n == 6 or len({round(s, n) for s in values}) == len(values)
    )


def _print_json(found: list[dict[str, Any]]) -> None:
    # JSON escapes are used if the output cannot encode the characters themselves.
    readable = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    click.echo(json.dumps(found, ensure_ascii=not readable, indent=2, default=str))


def _search_emoji(
    query: str | None, picture: str | None, k: int, as_json: bool, features: str
) -> None:
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
        _print_json(found)
        return
    digits = _digits([row["score"] for row in found])
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
    import crossfit
    from crossfit.cli._emoji import all_emoji, emoji_model
    from crossfit.views import Views

    model, emoji = emoji_model(features), all_emoji()
    view, other = ("text", "image") if picture is None else ("image", "text")
    found = crossfit.search(
        model,
        Views({view: [query if picture is None else picture]})[view],
        view=view,
        gallery=emoji[other],
        gallery_view=other,
        k=k,
    )
    return [
        {
            "score": round(float(score), 6),
            "character": emoji["character"][i],
            "name": str(emoji["name"][i]),
            "text": str(emoji["text"][i]),
        }
        for i, score in zip(found.indices[0], found.scores[0])
    ]
