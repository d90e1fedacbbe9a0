"""Relevance from files: ECCV Caption, CxC, and grades by the ids of queries and items."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from crossfit._arguments import a_path, one_of, real, shown, validated
from crossfit._arrays import as_array

__all__ = ["read_relevance"]

Grades = Iterable[tuple[str, str, float]]

#: Grade from which a caption of CxC matches an image, of 0 to 5.
_CXC = 3.0
# COCO_val2014_000000365325.jpg and COCO_val2014:sentid:732091, as CxC names images and captions.
_COCO = re.compile(r"(?:.*/)?COCO_[a-z]+\d+(?:_0*(\d+)\.jpg|:sentid:(\d+))")


@validated(
    path=[a_path()],
    layout=[one_of("auto", "eccv_caption", "cxc", "triples", "matrix")],
    at_least=[real(0, closed="left"), None],
)
def read_relevance(
    path: str | os.PathLike[str],
    query_ids: Sequence[Any] | NDArray[Any],
    gallery_ids: Sequence[Any] | NDArray[Any],
    *,
    layout: str = "auto",
    at_least: float | None = None,
) -> sp.csr_array:
    r"""Read which items are relevant to which queries from a file.

    Parameters
    ----------
    path : path
        The file, in one of these layouts:

        - ``"eccv_caption"``: a JSON object from the id of each query to a list of ids of relevant
          items, as ``eccv_image_to_caption.json`` and ``eccv_caption_to_image.json`` of ECCV
          Caption [1]_ (and its files of COCO and CxC). The two directions have different queries:
          read one file for each and evaluate with ``directions="forward"``.
        - ``"cxc"``: the CSV file ``sits_val.csv`` or ``sits_test.csv`` of Crisscrossed
          Captions [2]_. The queries are the images, and the gallery the captions. Add the pairs
          of COCO itself, which are not all rated: ``relevance.maximum(pairs)``.
        - ``"triples"``: a CSV file with the columns ``query``, ``item`` and, optionally,
          ``grade`` (1 by default), or a ``.npz`` file with arrays of these names.
        - ``"matrix"``: a sparse matrix of `scipy.sparse.save_npz`, whose rows and columns are
          in the order of the ids.
    query_ids, gallery_ids : sequence of str or int
        Ids of the rows and columns of the scores. For COCO, numbers are equal to the names in CxC
        that contain them: ``365325`` and ``"COCO_val2014_000000365325.jpg"``.
    layout : {"auto", "eccv_caption", "cxc", "triples", "matrix"}, default="auto"
        Layout of the file, by default by its ending and its columns.
    at_least : float, optional
        Lowest grade of a relevant item; by default 3 for CxC, as in its paper, and otherwise any
        above 0.

    Returns
    -------
    csr_array of shape (n_queries, n_gallery), float64
        The grades, for `evaluate`. Ids in the file that are not among those given are left out;
        if a pair has several grades, the highest is used.

    Raises
    ------
    ValueError
        If the file is not of its layout, no pair of the file has ids among those given, ids are
        repeated, or grades are negative or not finite.
    TypeError
        If an id is not a string or an integer.

    See Also
    --------
    evaluate : Takes the result as relevance.

    References
    ----------
    .. [1] Chun, Kim, Park, Chang and Oh, "ECCV Caption: Correcting False Negatives by Collecting
           Machine-and-Human-verified Image-Caption Associations for MS-COCO", ECCV 2022.
    .. [2] Parekh, Baldridge, Cer, Waters and Yang, "Crisscrossed Captions: Extended Intramodal and
           Intermodal Semantic Similarity Judgments for MS-COCO", EACL 2021.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "r.csv").write_text("query,item,grade\nimage-1,a,2\nimage-2,b,1\n")
    >>> read_relevance(folder / "r.csv", ["image-1", "image-2"], ["a", "b"]).toarray().tolist()
    [[2.0, 0.0], [0.0, 1.0]]
    """
    file = Path(path)
    rows, columns = _positions(query_ids, "query_ids"), _positions(gallery_ids, "gallery_ids")
    layout = _found_layout(file) if layout == "auto" else layout
    if layout == "cxc" and at_least is None:
        at_least = _CXC
    if layout == "matrix":
        return _kept(_matrix(file, (len(rows), len(columns))), at_least)
    grades: dict[tuple[int, int], float] = {}
    example = None
    for query, item, grade in _READERS[layout](file):
        if not (np.isfinite(grade) and grade >= 0):
            raise ValueError(
                f"{file.name}: the grade {grade:g} of {query!r} and {item!r} is not a number of at "
                f"least 0"
            )
        example = example or (query, item)
        at = rows.get(_plain(query), -1), columns.get(_plain(item), -1)
        if min(at) >= 0:
            grades[at] = max(grade, grades.get(at, 0.0))
    if not grades:
        raise ValueError(
            f"{file.name}: no pair is of query_ids and gallery_ids; the file has for instance "
            f"{example!r}, and the ids are for instance {next(iter(rows))!r} and "
            f"{next(iter(columns))!r}"
        )
    cells = np.array(list(grades), np.int64)
    values = np.array(list(grades.values()), np.float64)
    shape = len(rows), len(columns)
    return _kept(sp.csr_array((values, (cells[:, 0], cells[:, 1])), shape=shape), at_least)


def _kept(matrix: sp.csr_array, at_least: float | None) -> sp.csr_array:
    matrix.data[matrix.data < (at_least or 0.0)] = 0.0
    matrix.eliminate_zeros()
    return matrix


def _positions(ids: Any, name: str) -> dict[str, int]:
    array = as_array(ids, name)
    if array.ndim != 1 or array.dtype.kind not in "iuUTO":
        raise TypeError(f"{name} must be a list of strings or integers, got {shown(ids)}")
    found: dict[str, int] = {}
    for number, given in enumerate(array.tolist()):
        if isinstance(given, bool) or not isinstance(given, str | int):
            raise TypeError(f"{name} must be strings or integers, got {shown(given)}")
        key = _plain(str(given))
        if key in found:
            raise ValueError(
                f"{name} must be different, but entries {found[key]} and {number} are both "
                f"{shown(given)}"
            )
        found[key] = number
    if not found:
        raise ValueError(f"{name} is empty; give the ids of the scores")
    return found


def _plain(given: str) -> str:
    match = _COCO.fullmatch(given)
    return given if match is None else (match[1] or match[2])


def _found_layout(file: Path) -> str:
    ending = file.suffix.lower()
    if ending == ".json":
        return "eccv_caption"
    if ending == ".csv":
        return "cxc" if "agg_score" in next(_lines(file), []) else "triples"
    if ending == ".npz":
        return "matrix" if "indptr" in _arrays(file) else "triples"
    raise ValueError(f"{file.name}: the layout is unknown; use a .json, .csv or .npz file")


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file.name} is not a text in UTF-8 ({error.reason})") from None


def _lines(file: Path) -> Iterator[list[str]]:
    try:
        yield from csv.reader(_text(file).splitlines(), strict=True)
    except csv.Error as error:
        raise ValueError(f"{file.name} is not valid CSV: {error}") from None


def _arrays(file: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(file, allow_pickle=False) as content:
            return {name: content[name] for name in content.files}
    except (ValueError, AttributeError, EOFError) as error:
        raise ValueError(f"{file.name} is not a .npz file of plain arrays: {error}") from None


def _eccv(file: Path) -> Grades:
    try:
        content = json.loads(_text(file))
    except ValueError as error:
        raise ValueError(f"{file.name} is not valid JSON: {error}") from None
    lists = isinstance(content, dict) and all(isinstance(v, list) for v in content.values())
    if not lists or not all(isinstance(v, str | int) for part in content.values() for v in part):
        raise ValueError(f"{file.name} must map the id of each query to a list of ids of items")
    for query, items in content.items():
        yield from ((query, str(item), 1.0) for item in items)


def _cxc(file: Path) -> Grades:
    for caption, image, grade in _columns(file, "caption", "image", "agg_score"):
        yield image, caption, _number(file, grade)


def _triples(file: Path) -> Grades:
    if file.suffix.lower() != ".npz":
        for query, item, grade in _columns(file, "query", "item", "grade"):
            yield query, item, _number(file, grade or "1")
        return
    arrays = _arrays(file)
    missing = {"query", "item"} - arrays.keys()
    if missing:
        raise ValueError(f"{file.name} has no array {min(missing)!r}; save query, item and grade")
    grades = arrays.get("grade", np.ones(len(arrays["query"])))
    if not arrays["query"].shape == arrays["item"].shape == grades.shape or grades.ndim != 1:
        raise ValueError(f"{file.name}: query, item and grade must be 1-D and of the same length")
    if grades.dtype.kind not in "biuf":
        raise ValueError(f"{file.name}: grade must be numbers, got type {grades.dtype}")
    for query, item, grade in zip(arrays["query"], arrays["item"], grades, strict=True):
        yield str(query), str(item), float(grade)


def _columns(file: Path, *names: str) -> Iterator[list[str]]:
    """Yield some columns of a CSV file; a missing third one is empty."""
    lines = _lines(file)
    head = next(lines, [])
    missing = [name for name in names if name not in head and name != "grade"]
    if missing:
        raise ValueError(
            f"{file.name} has no column {missing[0]!r}; its columns are {', '.join(head) or 'none'}"
        )
    at = [head.index(name) if name in head else -1 for name in names]
    for number, line in enumerate(lines, 2):
        if not line:
            continue
        if len(line) != len(head):
            raise ValueError(
                f"{file.name}, line {number}: {len(line)} values for {len(head)} columns"
            )
        yield [line[j] if j >= 0 else "" for j in at]


def _number(file: Path, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{file.name}: the grade {text!r} is not a number") from None


def _matrix(file: Path, shape: tuple[int, int]) -> sp.csr_array:
    try:
        matrix = sp.csr_array(sp.load_npz(file), dtype=np.float64)
    except (ValueError, KeyError, OSError, TypeError) as error:
        raise ValueError(f"{file.name} is not a matrix of scipy.sparse.save_npz: {error}") from None
    if matrix.shape != shape:
        raise ValueError(
            f"{file.name} has shape {matrix.shape}, but there are {shape[0]} query_ids and "
            f"{shape[1]} gallery_ids"
        )
    if not (np.isfinite(matrix.data) & (matrix.data >= 0)).all():
        raise ValueError(f"{file.name} must have grades of at least 0, got negative ones or NaN")
    return matrix


_READERS = {"eccv_caption": _eccv, "cxc": _cxc, "triples": _triples}
