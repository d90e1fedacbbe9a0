"""Files of runs, judgements, score matrices and embeddings, and TREC files to write.

Nothing is unpickled.
"""

from __future__ import annotations

import gzip
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit._arguments import a_path, validated
from crossfit._files import whole_file
from crossfit.datasets.opening import open_table
from crossfit.datasets.vectors import read_vectors
from crossfit.systems.triples import Triples, as_triples, of_table

__all__ = ["Matrix", "read_ids", "read_matrix", "read_qrels", "read_run", "write_qrels",
           "write_run"]  # fmt: skip

#: Endings of the files that tables are read from, and those of arrays.
TABLES = (".csv", ".tsv", ".tab", ".parquet", ".pq", ".arrow", ".feather", ".ipc")
RAW = (".dat", ".bin", ".raw", ".mmap", ".memmap")
ARRAYS = (".npy", ".npz", ".safetensors", *RAW)
#: Names of arrays in a ``.npz`` file.
_SCORES = ("scores", "similarity", "sims")
_QUERIES = ("query_ids", "queries", "row_ids")
_ITEMS = ("item_ids", "items", "doc_ids", "corpus_ids", "column_ids")


@dataclass(frozen=True, eq=False)
class Matrix:
    """A matrix of scores with the identifiers of its rows and columns, if they are known."""

    scores: Any
    query_ids: list[str] | None = None
    item_ids: list[str] | None = None


@validated(path=[a_path()])
def read_run(path: str | os.PathLike[str]) -> Triples:
    r"""Read the ranked lists of a system from a file.

    Parameters
    ----------
    path : path
        A TREC run (``query Q0 item rank score name``, also compressed, ``.gz``); a table
        (``.csv``, ``.tsv``, ``.parquet``, ``.feather``) with columns for queries, items and
        scores, as in `Triples.of`; a JSON file (``.json``) with a mapping of queries to items, as
        of ranx, or with the predictions of one split of mteb; or the predictions of
        sentence-transformers (``.jsonl``).

    Returns
    -------
    Triples
        Items of a TREC run are ranked by score, as in trec_eval, and its ranks are not used.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is of another form; the message gives the line.

    See Also
    --------
    read_qrels : Read judgements.
    write_run : Write a TREC run.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> file = Path(tempfile.mkdtemp()) / "bm25.run"
    >>> _ = file.write_text("q1 Q0 a 1 3.5 bm25\nq1 Q0 b 2 1.5 bm25\n")
    >>> read_run(file).value.tolist()
    [3.5, 1.5]
    """
    return _read(Path(path), 6, (0, 2, 4), "query Q0 item rank score name")


@validated(path=[a_path()])
def read_qrels(path: str | os.PathLike[str]) -> Triples:
    """Read judgements from a file.

    Parameters
    ----------
    path : path
        TREC judgements (``query 0 item grade``, also compressed, ``.gz``); a table (``.csv``,
        ``.tsv`` as in BEIR, ``.parquet``) with columns for queries, items and, optionally, grades
        and the group of the query (``group``); or a JSON file with a mapping of queries to items
        and grades, or to a list of relevant items.

    Returns
    -------
    Triples

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is of another form; the message gives the line.

    See Also
    --------
    read_run : Read the ranked lists of a system.
    """
    return _read(Path(path), 4, (0, 2, 3), "query 0 item grade", ranked=False)


def _read(
    path: Path, width: int, at: tuple[int, int, int], form: str, *, ranked: bool = True
) -> Triples:
    if not path.exists():
        raise FileNotFoundError(f"there is no file {str(path)!r}")
    if path.is_dir():
        raise ValueError(f"{str(path)!r} is a folder; name a file")
    kind = path.suffix.lower()
    if kind in TABLES:
        return of_table(open_table(path), path.name)
    if kind == ".json":
        return as_triples(_content(_json(path), ranked, path), path.name)
    if kind in (".jsonl", ".ndjson"):
        return _of_lines(path)
    return _of_trec(path, width, at, form)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{path.name} is not valid JSON: {error}") from None


def _content(content: Any, ranked: bool, path: Path) -> Any:
    """Return the mapping of queries in a JSON file, which is deeper in predictions of mteb."""
    if isinstance(content, Mapping) and "mteb_model_meta" in content:
        splits = {
            f"{subset}, {split}": found
            for subset, by_split in content.items() if subset != "mteb_model_meta"
            for split, found in by_split.items()
        }  # fmt: skip
        if len(splits) != 1:
            raise ValueError(
                f"{path.name} has predictions for {'; '.join(splits) or 'nothing'}; keep one "
                "subset and split in a file"
            )
        return next(iter(splits.values()))
    if not isinstance(content, Mapping | list) or not content:
        raise ValueError(
            f"{path.name} must map queries to their items; it has {type(content).__name__}"
        )
    if not ranked and isinstance(content, Mapping):
        # The order of relevant items is not a grade.
        return {
            query: dict.fromkeys(items, 1.0)
            if isinstance(items, list) and all(isinstance(item, str | int) for item in items)
            else items
            for query, items in content.items()
        }
    return content


def _of_lines(path: Path) -> Triples:
    found: dict[str, Any] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path.name}, line {number}: not valid JSON: {error}") from None
        if not (isinstance(row, dict) and "query_id" in row and "results" in row):
            return of_table(open_table(path), path.name)
        if row["query_id"] in found:
            raise ValueError(
                f"{path.name}, line {number}: query {row['query_id']!r} occurs twice; keep one"
            )
        found[row["query_id"]] = row["results"]
    return as_triples(found, path.name)


def _lines(path: Path) -> Iterator[str]:
    raw = path.open("rb")
    with raw, gzip.open(raw) if path.suffix.lower() == ".gz" else raw as stream:
        yield from io.TextIOWrapper(stream, encoding="utf-8-sig")  # type: ignore[type-var]


def _of_trec(path: Path, width: int, at: tuple[int, int, int], form: str) -> Triples:
    queries: list[str] = []
    items: list[str] = []
    texts: list[str] = []
    try:
        for number, line in enumerate(_lines(path), 1):
            parts = line.split()
            if len(parts) != width:
                if not parts:
                    continue
                raise ValueError(
                    f"{path.name}, line {number}: {len(parts)} values, but a line must be "
                    f"“{form}”; use .csv, .tsv, .json or .parquet as the ending of other forms"
                )
            # Rows are not kept, since the garbage collector would visit each of a million lists.
            queries.append(parts[at[0]])
            items.append(parts[at[1]])
            texts.append(parts[at[2]])
    except (UnicodeDecodeError, OSError, EOFError) as error:
        raise ValueError(f"{path.name} is not a text in UTF-8: {error}") from None
    if not texts:
        raise ValueError(f"{path.name} is empty; it must have lines “{form}”")
    try:
        values = np.fromiter(map(float, texts), np.float64, len(texts))
    except ValueError:
        wrong = next(text for text in texts if not _is_number(text))
        value = slice(at[2], at[2] + 1)
        lines = (n for n, line in enumerate(_lines(path), 1) if line.split()[value] == [wrong])
        raise ValueError(
            f"{path.name}, line {next(lines)}: {wrong!r} is not a number; a line must be “{form}”"
        ) from None
    return Triples.from_columns(queries, items, values, path.name)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def read_ids(path: str | os.PathLike[str]) -> list[str]:
    """Read identifiers from a text file with one per line, a JSON list, or a ``.npy`` file."""
    file = Path(path)
    if not file.exists():
        raise FileNotFoundError(f"there is no file {str(file)!r}")
    kind = file.suffix.lower()
    if kind == ".npy":
        return [str(each) for each in _plain_array(file).tolist()]
    if kind == ".json":
        found = _json(file)
        if not isinstance(found, list):
            raise ValueError(f"{file.name} must be a JSON list of identifiers")
        return [str(each) for each in found]
    return [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()
            if line.strip()]  # fmt: skip


def _plain_array(path: Path) -> NDArray[Any]:
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path.name} is not an array of numbers or strings: {error}") from None


def read_matrix(
    paths: Sequence[str | os.PathLike[str]],
    *,
    similarity: str = "cosine",
    query_ids: list[str] | None = None,
    item_ids: list[str] | None = None,
    dtype: str | None = None,
) -> Matrix:
    """Read a matrix of scores, or two files of embeddings and compute it.

    Parameters
    ----------
    paths : sequence of one or two paths
        A file with scores (``.npy``, a memory map; ``.npz`` with ``scores`` and, optionally,
        ``query_ids`` and ``item_ids``; or raw numbers such as ``.memmap``, in float32 or `dtype`,
        whose shape is that of the identifiers), or the embeddings of queries and of items.
    similarity : {"cosine", "dot", "euclidean"}, default="cosine"
        Similarity of embeddings.
    query_ids, item_ids : list of str, optional
        Identifiers of rows and columns.
    dtype : str, optional
        Type of raw numbers.

    Returns
    -------
    Matrix
    """
    if len(paths) == 2:
        from crossfit.similarities import pairwise_similarity

        sides = [np.asarray(read_vectors(path)) for path in paths]
        for path, side in zip(paths, sides, strict=True):
            if side.ndim != 2 or side.dtype.kind not in "biuf":
                raise ValueError(f"{path} must be (n, d) numbers, got shape {side.shape}")
        if sides[0].shape[1] != sides[1].shape[1]:
            raise ValueError(
                f"embeddings must have one dimension, got {sides[0].shape[1]} in {paths[0]} and "
                f"{sides[1].shape[1]} in {paths[1]}"
            )
        scores = pairwise_similarity(sides[0], sides[1], similarity)
        return Matrix(scores, query_ids or _ids_in(paths[0]), item_ids or _ids_in(paths[1]))
    path = Path(paths[0])
    kind = path.suffix.lower()
    if kind == ".npz":
        if not path.exists():
            raise FileNotFoundError(f"there is no file {str(path)!r}")
        try:
            with np.load(path, allow_pickle=False) as content:
                names = content.files
                rows, columns = (
                    next(([str(i) for i in content[name].tolist()] for name in known
                          if name in names), None)
                    for known in (_QUERIES, _ITEMS)
                )  # fmt: skip
        except (ValueError, EOFError, AttributeError) as error:
            raise ValueError(f"{path.name} is not a .npz file of plain arrays: {error}") from None
        key = next((name for name in _SCORES if name in names), None)
        return Matrix(read_vectors(path, key), query_ids or rows, item_ids or columns)
    if kind in RAW:
        if query_ids is None or item_ids is None:
            raise ValueError(
                f"{path.name} has raw numbers; give the identifiers of its rows and columns, "
                "which determine its shape"
            )
        shape = len(query_ids), len(item_ids)
        found = read_vectors(path, dtype=dtype or "float32", shape=shape)
        return Matrix(found, query_ids, item_ids)
    return Matrix(read_vectors(path), query_ids, item_ids)


def _ids_in(path: str | os.PathLike[str]) -> list[str] | None:
    """Return the column ``id`` of a parquet file of embeddings, if it has one."""
    if Path(path).suffix.lower() not in (".parquet", ".pq"):
        return None
    table = open_table(Path(path))
    return [str(i) for i in table.read(["id"])["id"]] if "id" in table.names else None


@validated(path=[a_path()], name=[str])
def write_run(path: str | os.PathLike[str], run: Any, name: str = "crossfit") -> None:
    """Write a run in the format of TREC, with scores that are read again exactly.

    Parameters
    ----------
    path : path
        File to write, completely or not at all.
    run : Triples or other form
        See `Triples.of`.
    name : str, default="crossfit"
        Name of the system, the last column.

    Raises
    ------
    ValueError
        If an identifier or the name has white space, which the format does not allow.

    See Also
    --------
    read_run : Read it again.
    """
    found = as_triples(run, "the run")
    _check_words([*found.query_ids, *found.item_ids, name])
    order = np.lexsort((np.arange(len(found)), -found.value, found.query))
    query, item, value = (part[order].tolist() for part in (found.query, found.item, found.value))
    rank, last = 0, -1
    lines = []
    for q, i, v in zip(query, item, value, strict=True):
        rank, last = (rank + 1 if q == last else 1), q
        lines.append(f"{found.query_ids[q]} Q0 {found.item_ids[i]} {rank} {v!r} {name}\n")
    _write(Path(path), lines)


@validated(path=[a_path()])
def write_qrels(path: str | os.PathLike[str], qrels: Any) -> None:
    """Write judgements in the format of TREC, in the order in which they are given.

    Parameters
    ----------
    path : path
        File to write, completely or not at all.
    qrels : Triples or other form
        See `Triples.of`.

    Raises
    ------
    ValueError
        If an identifier has white space, which the format does not allow.

    See Also
    --------
    read_qrels : Read it again.
    """
    found = as_triples(qrels, "the judgements")
    _check_words([*found.query_ids, *found.item_ids])
    _write(
        Path(path),
        [
            f"{found.query_ids[q]} 0 {found.item_ids[i]} {int(v) if v.is_integer() else v!r}\n"
            for q, i, v in zip(found.query.tolist(), found.item.tolist(), found.value.tolist(),
                               strict=True)
        ],
    )  # fmt: skip


def _check_words(ids: Sequence[str]) -> None:
    wrong = next((each for each in ids if not each or each.split() != [each]), None)
    if wrong is not None:
        raise ValueError(
            f"{wrong!r} cannot be written to a TREC file, whose columns are separated by white "
            "space; use identifiers and names without it"
        )


def _write(path: Path, lines: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path, "a TREC file") as draft:
        draft.write_text("".join(lines), encoding="utf-8")
