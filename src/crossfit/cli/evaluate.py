"""``crossfit evaluate``: statistics for the output of any system."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from crossfit._text import printable
from crossfit.cli._shared import (
    COLUMNS,
    TABLES,
    Bundle,
    Folder,
    check_not_foreign,
    columns_given,
    console,
)

__all__ = ["evaluate"]

_EXAMPLES = """
\b
Examples, one for each form of a file:
  TREC runs            crossfit evaluate bm25.run dense.run --qrels test.qrels
  scores, as pairs     crossfit evaluate clip=scores.npy --captions 5 --names image text
  scores with ids      crossfit evaluate scores.npz --qrels test.qrels
  raw scores           crossfit evaluate scores.memmap --query-ids q.txt --item-ids d.txt
  embeddings           crossfit evaluate clip=images.npy,texts.npy --captions 5
  ranx, mteb           crossfit evaluate run.json NFCorpus_predictions.json --qrels qrels.json
  sentence-transformers  crossfit evaluate predictions.jsonl --qrels qrels.tsv
  CSV, parquet         crossfit evaluate run.parquet --qrels qrels.csv
  fitted methods       crossfit evaluate winner/ test.csv
  those on a hub       crossfit evaluate mine=winner/ theirs=hf://user/name@COMMIT test.csv
  both directions      crossfit evaluate cca=folder, with image2text.run, image2text.qrels ...
"""


@click.command(epilog=_EXAMPLES)
@click.argument(
    "systems", nargs=-1, required=True, type=Bundle(among=True), metavar="[LABEL=]FILE..."
)
@COLUMNS
@click.option("--qrels", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Judgements: TREC, CSV, TSV, JSON or parquet, with an optional column group. "
              "Without them, row i of a score matrix belongs to column i, see --captions."
              )  # fmt: skip
@click.option("-m", "--metric", "metrics", multiple=True, metavar="NAME",
              help="Measure such as map@all, ndcg@10, r@5 or map@R; repeatable, the main one "
              "first.  [default: map@all, ndcg@10, r@1, r@10, mrr]")  # fmt: skip
@click.option("--captions", type=click.IntRange(min=1),
              help="Number of columns of each row of a score matrix, which follow one another; "
              "with --qrels, the number of relevant items that every query should have."
              )  # fmt: skip
@click.option("--names", nargs=2, default=("query", "item"), show_default=True,
              help="Names of queries and items.")  # fmt: skip
@click.option("--query-ids", type=click.Path(exists=True, dir_okay=False),
              help="Identifiers of rows: one per line, JSON or .npy.")  # fmt: skip
@click.option("--item-ids", type=click.Path(exists=True, dir_okay=False),
              help="Identifiers of columns.")  # fmt: skip
@click.option("--similarity", default="cosine", show_default=True,
              type=click.Choice(["cosine", "dot", "correlation", "l2", "l1"]),
              help="Similarity of embeddings.")  # fmt: skip
@click.option("--dtype", help="Type of raw numbers.  [default: float32]")
@click.option("--groups", type=click.Path(exists=True, dir_okay=False),
              help="Table with the columns query and group; queries of a group (the captions of "
              "an image) are resampled together.")  # fmt: skip
@click.option("--baseline", metavar="LABEL",
              help="System that the others are compared with.  [default: the best]")  # fmt: skip
@click.option("--ties", type=click.Choice(["expected", "stable", "worst", "best"]),
              default="expected", show_default=True, help="How tied items are ranked.")  # fmt: skip
@click.option("--gain", type=click.Choice(["exponential", "linear"]), default="exponential",
              show_default=True, help="Gain of nDCG: 2^grade - 1, or the grade as in trec_eval.",
              )  # fmt: skip
@click.option("--at-least", type=click.FloatRange(min=0), help="Lowest grade of a relevant item.")
@click.option("--gallery-size", type=click.IntRange(min=1),
              help="Number of items that could be retrieved, for chance.  [default: those in the "
              "files]")  # fmt: skip
@click.option("--missing", type=click.Choice(["zero", "skip"]), default="zero", show_default=True,
              help="Value of judged queries that a run does not have.")  # fmt: skip
@click.option("--ignore-identical", is_flag=True,
              help="Leave out items with the identifier of their query.")  # fmt: skip
@click.option("--reported", multiple=True, metavar="[LABEL:]NAME=VALUE",
              help="Figure that was reported elsewhere, to be compared; repeatable.")  # fmt: skip
@click.option("--title", default="Evaluation", show_default=True, help="Heading of the page.")
@click.option("-o", "--out", type=Folder(), default=Path("crossfit-evaluation"), show_default=True,
              help="Folder for report.html, the tables and the values per query.")  # fmt: skip
@click.option("--write-runs", is_flag=True, help="Also write TREC runs and judgements to the "
              "folder.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the bootstrap.")
def evaluate(
    systems: tuple[str, ...],
    columns: tuple[str, ...],
    qrels: Path | None,
    metrics: tuple[str, ...],
    captions: int | None,
    names: tuple[str, str],
    query_ids: str | None,
    item_ids: str | None,
    similarity: str,
    dtype: str | None,
    groups: str | None,
    baseline: str | None,
    ties: str,
    gain: str,
    at_least: float | None,
    gallery_size: int | None,
    missing: str,
    ignore_identical: bool,
    reported: tuple[str, ...],
    title: str,
    out: Path,
    write_runs: bool,
    seed: int,
) -> None:
    """Evaluate the output of any system, or of several on the same queries.

    A system is a file of ranked lists, a matrix of scores, two files of embeddings, or a folder
    with a run per direction; or the folder of `crossfit fit --save` or its address on the
    Hugging Face Hub, followed by the pairs to evaluate it on. Items are ranked by score, equal
    scores are ties, and nothing is unpickled. The page has intervals, paired tests with Holm's
    correction, ranges of ranks, the range of ties, chance, and notes on what is unusual in the
    files.
    """
    from crossfit.datasets.features import is_features
    from crossfit.metrics import parse_metric
    from crossfit.systems.evaluation import METRICS
    from crossfit.systems.files import read_ids, read_qrels
    from crossfit.systems.inputs import (
        Protocol,
        evaluate_systems,
        open_system,
        place_of,
        read_groups,
        write_systems,
    )
    from crossfit.systems.reports import notes_of_systems, off_by_one, report_systems
    from crossfit.winners import BY_LABEL, is_winner, on_features, pairs_for
    from crossfit.winners import METRICS as OF_PAIRS

    check_not_foreign([out / name for name in ("report.html", *TABLES)])
    pairs, revision, defaults = None, None, METRICS
    fitted = [each for each in systems if is_winner(place_of(each))]
    if fitted:
        systems, source = _with_pairs(systems, fitted, qrels, write_runs)
    elif columns:
        raise click.UsageError("--view is for the pairs of a fitted method")
    ids = [None if path is None else read_ids(path) for path in (query_ids, item_ids)]
    opened = [
        open_system(each, similarity=similarity, query_ids=ids[0], item_ids=ids[1], dtype=dtype)
        for each in systems
    ]
    if fitted:
        if is_features(source):
            opened = [
                replace(each, winner=on_features(each.winner, source))
                for each in opened
                if each.winner is not None
            ]
        first = opened[0].winner
        assert first is not None
        _, pairs, revision = pairs_for(first, source, columns_given(columns))
        defaults = OF_PAIRS if pairs.y is None else BY_LABEL
    shown = [parse_metric(name).name for name in metrics or defaults]
    labels = [system.label for system in opened]
    if baseline is not None and baseline not in labels:
        raise click.UsageError(f"--baseline {baseline}: use one of {', '.join(labels)}")
    figures = _figures(reported, labels)
    extra = [name for by in figures.values() for name in by]
    extra += [f"{name}:twowaynet" for name in extra if name.startswith("r@") and ":" not in name]
    protocol = Protocol(
        metrics=list(dict.fromkeys([*shown, *extra])),
        qrels=None if qrels is None else read_qrels(qrels),
        captions=captions,
        names=names,
        groups=None if groups is None else read_groups(groups),
        ties=ties,
        random_state=seed,
        gallery_size=gallery_size,
        at_least=at_least,
        gain=gain,
        missing=missing,
        ignore_identical=ignore_identical,
        pairs=pairs,
        revision=revision,
    )
    found = evaluate_systems(opened, protocol)
    page = report_systems(
        found, out, title=title, metrics=shown, baseline=baseline, reported=figures,
        command=shlex.join(["crossfit", *sys.argv[1:]]),
    )  # fmt: skip
    _print(found, shown)
    for note in [*notes_of_systems(found), *off_by_one(found, figures)]:
        click.echo(printable(f"warning: {note}"), err=True)
    click.echo(f"report: {page}")
    click.echo(f"tables: {', '.join(str(out / name) for name in TABLES)}")
    values = next(path for path in (out / "per-query.parquet", out / "per-query.csv")
                  if path.exists())  # fmt: skip
    click.echo(f"values of every query: {values}")
    if write_runs:
        written = write_systems(out / "runs", opened, protocol)
        click.echo(f"runs: {', '.join(map(str, written))}")


def _with_pairs(
    systems: tuple[str, ...], fitted: list[str], qrels: Path | None, write_runs: bool
) -> tuple[tuple[str, ...], str]:
    """Return the fitted methods, and the pairs to evaluate them on."""
    rest = [each for each in systems if each not in fitted]
    if len(rest) != 1:
        raise click.UsageError(
            f"fitted methods need one table of pairs to be evaluated on, got {len(rest)}: crossfit "
            f"evaluate {' '.join(fitted)} test.csv"
        )
    if qrels is not None or write_runs:
        name = "--write-runs" if qrels is None else "--qrels"
        raise click.UsageError(f"{name} is for the output of systems, not for fitted methods")
    if not Path(rest[0]).exists():
        raise FileNotFoundError(f"there are no pairs {rest[0]!r}")
    return tuple(fitted), rest[0]


def _figures(reported: tuple[str, ...], labels: list[str]) -> dict[str, dict[str, float]]:
    """Return the reported figures by label and metric; percentages become fractions."""
    from crossfit.metrics import parse_metric

    found: dict[str, dict[str, float]] = {}
    for text in reported:
        head, _, value = text.rpartition("=")
        label = next((each for each in labels if head.startswith(f"{each}:")), None)
        name = head if label is None else head[len(label) + 1 :]
        if label is None and len(labels) > 1:
            raise click.UsageError(
                f"--reported {text}: several systems are evaluated; write LABEL:{text}"
            )
        try:
            number, measure = float(value), parse_metric(name)
        except ValueError as error:
            raise click.UsageError(f"--reported {text}: {error}") from None
        if measure.bounded and number > 1:
            number /= 100
        found.setdefault(label or labels[0], {})[measure.name] = number
    return found


def _print(found: dict[str, Any], metrics: list[str]) -> None:
    """Print a table with the means and intervals of each system and direction."""
    from rich.table import Table

    from crossfit.metrics import parse_metric
    from crossfit.report.format import figure, interval_figure, metric_words

    table = Table()
    for head in ("system", "direction", *(metric_words(metric) for metric in metrics)):
        table.add_column(printable(head), justify="left" if head == "system" else "right")
    for label, each in found.items():
        for direction in each.evaluation.directions:
            cells = []
            for metric in metrics:
                digits = parse_metric(metric).digits
                mean = figure(each.evaluation.mean(direction, metric), digits)
                bounds = interval_figure(each.evaluation.interval(direction, metric), digits)
                cells.append(f"{mean} {bounds}")
            table.add_row(printable(label), direction.label, *cells)
    console().print(table)
