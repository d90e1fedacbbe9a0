"""``crossfit diagnose``: what is known of pairs before anything is trained on them."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from crossfit._packed import is_file
from crossfit._text import printable
from crossfit.cli._shared import (
    EXTRACTORS_OF,
    Folder,
    check_not_foreign,
    emoji_experiment,
    load_splits_of,
    name_values,
)

__all__ = ["diagnose"]

EXAMPLES = """\b
Examples:
  crossfit diagnose emoji
  crossfit diagnose pairs.csv --features text=minilm --out diagnosis
  crossfit diagnose pairs.csv --with hf://user/name@COMMIT
"""
FILES = ("diagnosis.html", "figures.csv", "suspects.csv", "groups.csv")


@click.command(epilog=EXAMPLES)
@click.argument("pairs")
@click.option(
    "-o", "--out", type=Folder(), default=Path("crossfit-diagnosis"), show_default=True,
    help="Folder for diagnosis.html, figures.csv, suspects.csv and groups.csv.",
)  # fmt: skip
@click.option(
    "--features", multiple=True, metavar="VIEW=NAME[,NAME]",
    help="Extractors of a view, applied in order, as for `crossfit tune`; repeatable.  [default: "
    "those of `crossfit demo` for pictures and texts, none for vectors]",
)  # fmt: skip
@EXTRACTORS_OF
@click.option(
    "--root", type=click.Path(exists=True, file_okay=False),
    help="Folder of the data sets.  [default: CROSSFIT_DATA]",
)  # fmt: skip
@click.option("--split", help="One of the official ways to split the data set.")
@click.option("--splits", metavar="SPLIT[,SPLIT]", help="Splits to read.  [default: all]")
@click.option("--train", default="train", show_default=True, metavar="SPLIT",
              help="Split that everything but near-duplicates is measured on.")  # fmt: skip
@click.option("--views", "chosen", metavar="VIEW,VIEW",
              help="The two views, if there are more.")  # fmt: skip
@click.option("--threshold", default=0.9, show_default=True,
              type=click.FloatRange(0, 1, min_open=True, max_open=True),
              help="Least cosine of near-duplicates.")  # fmt: skip
@click.option("--max-pairs", default=5000, show_default=True, type=click.IntRange(min=30),
              help="Number of pairs that methods are fitted and compared on.")  # fmt: skip
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**32 - 1),
              help="Random seed of all draws.")  # fmt: skip
def diagnose(
    pairs: str,
    out: Path,
    features: tuple[str, ...],
    bundle: Path | str | None,
    root: str | None,
    split: str | None,
    splits: str | None,
    train: str,
    chosen: str | None,
    threshold: float,
    max_pairs: int,
    seed: int,
) -> None:
    """Diagnose PAIRS before training: a CSV file as for `crossfit run`, or a data set.

    Whether the views are related, whether more pairs help, whether to align or to predict, hubs,
    near-duplicates, and pairs that look wrong. Test pairs are only compared with others to find
    near-duplicates. An earlier diagnosis in the output folder is replaced.
    """
    check_not_foreign([out / name for name in FILES])
    if bundle is not None and features:
        raise click.UsageError("--with excludes --features: the bundle has its own extractors")
    given = name_values(features, "--features", chain=True)
    named = [] if splits is None else _words(splits, "--splits")
    wanted = [] if chosen is None else _words(chosen, "--views")
    if chosen is not None and len(wanted) != 2:
        raise click.UsageError(f"--views must be two names such as image,text, got {chosen!r}")
    stage, options = None, {}
    if bundle is not None:
        from crossfit.winners import extractors_of, options_for, read_bundle

        fitted = read_bundle(bundle)
        stage, options = extractors_of(fitted), options_for(fitted, pairs)
    if os.path.exists(pairs):
        if root is not None or split is not None:
            raise click.UsageError("--root and --split belong to data sets, not to a table")
        from crossfit.datasets import read_pairs

        dataset, name = read_pairs(pairs, **options), Path(pairs).stem
    else:
        dataset, name = _data_set(pairs, root, split, named), pairs
    for each in named:
        if each not in dataset:
            raise click.UsageError(
                f"--splits: there is no split {each!r}; the splits are {', '.join(dataset.splits)}"
            )
    parts = {each: dataset[each] for each in named or dataset.splits}
    if len(parts) > 1 and train not in parts:
        raise click.UsageError(
            f"--train: there is no split {train!r}; the splits are {', '.join(parts)}"
        )
    learnt = train if train in parts else next(iter(parts))
    raw = {each: _selected(part.views, wanted) for each, part in parts.items()}
    if stage is None:
        vectors = _vectors(raw, learnt, given)
    else:
        vectors = {each: stage.transform(views) for each, views in raw.items()}

    import numpy as np

    import crossfit

    names = np.repeat(np.array(list(raw), dtype=object), [len(views) for views in raw.values()])
    shown = _together(list(raw.values()))
    found = crossfit.diagnose(
        _together(list(vectors.values())),
        shown=shown,
        splits=names if len(raw) > 1 else None,
        train=train,
        threshold=threshold,
        max_pairs=max_pairs,
        title=f"Diagnosis of {name}",
        random_state=seed,
    )
    _print(found)
    _write(found, out, shown, names)
    click.echo(f"page: {out / FILES[0]}")
    click.echo(f"tables: {', '.join(str(out / name) for name in FILES[1:])}")


def _words(text: str, option: str) -> list[str]:
    found = [part.strip() for part in text.split(",")]
    if not all(found) or len(set(found)) < len(found):
        raise click.UsageError(f"{option} must be different names with commas, got {text!r}")
    return found


def _data_set(name: str, root: str | None, split: str | None, names: Sequence[str]) -> Any:
    from crossfit import registry
    from crossfit.datasets import load

    try:
        registry.get(name, "crossfit.datasets")
    except registry.NotInstalledError as error:
        raise FileNotFoundError(f"there is no file {name!r}, and {error}") from None
    return load_splits_of(name, root, split, names) if names else load(name, root, split=split)


def _selected(views: Any, wanted: Sequence[str]) -> Any:
    if wanted:
        return views.select(*wanted)
    if len(views.names) != 2:
        raise click.UsageError(
            f"the pairs have the views {', '.join(views.names)}; choose two by --views"
        )
    return views


def _vectors(raw: Mapping[str, Any], train: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the views of each split as vectors, by extractors that are fitted on `train`."""
    from crossfit.compose import ViewTransformer
    from crossfit.experiment import SpecError
    from crossfit.experiment.build import build_features
    from crossfit.experiment.spec import Experiment

    views = raw[train]
    unknown = [name for name in given if name not in views]
    if unknown:
        raise click.UsageError(
            f"--features name the view {unknown[0]!r}, but the pairs have {', '.join(views.names)}"
        )
    wanted = {**_default_features(views, given), **given}
    if not wanted:
        return dict(raw)
    try:
        experiment = Experiment(
            title="diagnosis", dataset={"name": "pairs"}, features=wanted, methods=["cca"]
        )
    except SpecError as error:
        raise SpecError(str(error).replace("features.", "--features ")) from None
    for name, spec in experiment.features.items():
        steps = spec if isinstance(spec, list) else [spec]
        words = ", ".join(str(step["name"]).rpartition(".")[2] for step in steps)
        click.echo(f"features of {name}: {words}", err=True)
    transformer = ViewTransformer(build_features(experiment.features))
    done = {train: transformer.fit_transform(views)}
    return {name: done.get(name) or transformer.transform(part) for name, part in raw.items()}


def _default_features(views: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return extractors for the pictures and texts among the views that are not given any."""
    from crossfit._pictures import is_picture

    found = {}
    for name in views.names:
        if name in given:
            continue
        items = views.distinct(name)[0]
        first = items[0]
        if is_picture(first):
            found[name] = "image"
        elif isinstance(first, str) and not is_file(first):
            found[name] = "text"
        elif len(getattr(items, "shape", ())) != 2:
            raise click.UsageError(
                f"the view {name!r} holds neither vectors, pictures nor texts; name its extractor "
                f"by --features {name}=NAME"
            )
    defaults = emoji_experiment("auto").to_dict()["features"] if found else {}
    return {name: defaults[kind] for name, kind in found.items()}


def _together(parts: Sequence[Any]) -> Any:
    """Return the rows of several Views of the same names as one, with their items and groups."""
    import numpy as np
    import scipy.sparse as sp

    from crossfit.views import Views

    if len(parts) == 1:
        return parts[0]

    def joined(values: Sequence[Any]) -> Any:
        if any(sp.issparse(each) for each in values):
            return sp.vstack(values, format="csr")
        return np.concatenate(values)

    def stacked(codes: Iterable[Any]) -> Any:
        """Return codes from 0 of all parts, which do not share any."""
        found, start = [], 0
        for each in codes:
            found.append(each + start)
            start = int(found[-1].max()) + 1
        return np.concatenate(found)

    names = parts[0].names
    shared = min(names, key=lambda name: sum(len(p.first_rows(name)) for p in parts))
    (other,) = (name for name in names if name != shared)
    items = joined([part.distinct(shared)[0] for part in parts])
    index = stacked(part.distinct(shared)[1] for part in parts)
    rows = joined([part[other] for part in parts])
    views = Views.from_captions(items, rows, index, names=(shared, other)).select(*names)
    groups = [np.unique(part.groups, return_inverse=True)[1] for part in parts]
    return views.with_groups(stacked(groups))


def _print(found: Any) -> None:
    tags = {"stop": "first", "do": "to do", "fine": "fine"}
    for note in found.notes:
        click.echo(printable(f"note: {note}"))
    for each in found.advice:
        click.echo(printable(f"[{tags[each.level]}] {each.do}"))
        click.echo(printable(f"    {each.reason}"))


def _write(found: Any, out: Path, shown: Any, splits: Any) -> None:
    import numpy as np

    from crossfit.report.page import write_text

    found.write_html(out / FILES[0])
    figures = found.figures()
    write_text(out / FILES[1], _csv(figures[0], (each.values() for each in figures)))
    texts = {
        name: shown[name]
        for name in shown.names
        if isinstance(shown.distinct(name)[0], np.ndarray)
        and isinstance(shown.distinct(name)[0][0], str)
    }
    suspects = (
        [*each.values(), *(values[each["row"]] for values in texts.values())]
        for each in found.suspects()
    )
    head = ["row", "score", "better", "better_score"]
    write_text(out / FILES[2], _csv([*head, *texts], suspects))
    rows = ([row, splits[row], found.groups[row], *(values[row] for values in texts.values())]
            for row in range(len(shown)))  # fmt: skip
    write_text(out / FILES[3], _csv(["row", "split", "group", *texts], rows))


def _csv(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """Return a table as CSV, with empty entries for NaN."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(["" if each != each else each for each in row] for row in rows)
    return buffer.getvalue()
