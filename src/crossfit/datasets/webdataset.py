"""Data sets from tar shards in the layout of webdataset, which open_clip and img2dataset write."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from crossfit._arguments import one_of, validated
from crossfit.datasets.record import Dataset, read_lines
from crossfit.datasets.shards import open_shards, shards_of
from crossfit.datasets.tables import ROLES, Roles, build, columns_of_views, default_views

__all__ = ["from_webdataset"]


@validated(
    source=[str, os.PathLike, list, tuple],
    views=[Mapping, None],
    captions=[one_of("lines", "whole")],
    **{name: ROLES[name] for name in ("label", "group", "split", "info", "invalid", "revision")},
)
def from_webdataset(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    image: str | None = None,
    text: str | Sequence[str] | None = None,
    views: Mapping[str, str | Sequence[str]] | None = None,
    label: str | None = None,
    group: str | None = None,
    split: str | None = None,
    info: Collection[str] = (),
    captions: str = "lines",
    invalid: str = "raise",
    revision: str = "auto",
) -> Dataset:
    """Build a data set from tar shards in the layout of webdataset.

    The members of a tar file whose names are equal up to the first dot are a sample:
    ``0001.jpg``, ``0001.txt`` and ``0001.json``. Pictures and sounds stay in the shards: a view has
    their addresses, ``shard.tar::0001.jpg``, which extractors and `crossfit.extraction.load_rgb`
    read like paths. Nothing is extracted or unpickled.

    Parameters
    ----------
    source : path or sequence of paths
        A tar file that is not compressed; several, as a list or a pattern,
        ``"shards/{00000..00099}.tar"`` or ``"shards/*.tar"``; a folder of tar files; or a folder as
        CLIP_benchmark writes it, with a folder for each split that contains ``0.tar``, ``1.tar``
        and so on, and ``nshards.txt``, and next to these folders, if there are classes,
        ``classnames.txt``.
    image : str, optional
        Column of the pictures. The columns are the extensions of the members; the keys of the JSON
        objects as ``json.<key>``; ``__key__``, the name of the sample; and four columns that are
        found by their content: ``image`` and ``audio``, the first picture or sound; ``text``, the
        text in ``txt``, or else ``json.caption`` or ``json.text``; ``label``, the class in ``cls``.
        By default ``image``, or ``audio`` if there are no pictures. Columns of arrays, ``npy``,
        are feature vectors.
    text : str or sequence of str, optional
        Column of the texts, by default ``text``; if there is none but classes with names, the text
        is the name of the class.
    views, label, group, split, info
        As in `from_table`; by default `label` is ``label`` if there are classes.
    captions : {"lines", "whole"}, default="lines"
        Whether each non-blank line of a text is a caption, as in CLIP_benchmark, or the whole text
        is one.
    invalid, revision
        As in `from_table`.

    Returns
    -------
    Dataset
        The splits are those of the folders, or of the column `split`, or else ``"all"``.

    Raises
    ------
    FileNotFoundError
        If there is no such file, or a shard of those that ``nshards.txt`` announces is missing.
    ValueError
        If a file is not a tar file, is compressed or cut short; if a sample has two members of one
        name or a pickle; if a text is not UTF-8 or has more than 16 MiB, or another member more
        than 256 MiB.

    See Also
    --------
    from_table : The same for tables.

    References
    ----------
    The format is described at https://github.com/webdataset/webdataset, the folders of splits at
    https://github.com/LAION-AI/CLIP_benchmark.
    """
    parts, folder = shards_of(source)
    table = open_shards(parts, folder, captions, _class_names(folder))
    there = set(table.names)
    if views is None:
        words = text
        if text is None and "text" not in there and "label" in there:
            words = "label_name"
        views = default_views(table.names, image, words)
    if label is None and "label" in there:
        label = "label"
    if split is None and len(parts) > 1:
        split = "__split__"
    roles = Roles(
        columns_of_views(views), ("image", "audio"), None, label, group, split, tuple(info)
    )
    return build(table, roles, "webdataset:from_webdataset", None, invalid, revision)


def _class_names(folder: Path) -> list[str]:
    path = folder / "classnames.txt"
    return [line.strip() for line in read_lines(path)] if path.is_file() else []
