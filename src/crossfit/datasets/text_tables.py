"""Tables in text files: CSV, JSON lines, and JSON in the layouts of records, COCO and Karpathy."""

from __future__ import annotations

import codecs
import contextlib
import csv
import json
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from crossfit.datasets.columns import Table, objects, of_records, picked, refuse_same
from crossfit.datasets.record import read_text, shortened

__all__ = ["UTF8", "open_csv", "open_json", "open_lines", "other_separator"]

UTF8 = "utf-8-sig"

_CELL_LIMIT = 2**24  # csv's own limit of 131,072 characters is less than a long article
_SEPARATORS = (";", "\t", "|", ",")
_MEDIA = {"images": "image", "audio": "audio", "audios": "audio", "sounds": "audio",
          "videos": "video"}  # fmt: skip


def open_csv(path: Path, sep: str | None = None, encoding: str = UTF8) -> Table:
    """Open a CSV file with a header, whatever its name."""
    if not path.exists():
        raise FileNotFoundError(f"there is no CSV file {str(path)!r}")
    if sep is None:
        sep = "\t" if path.suffix.lower() in (".tsv", ".tab") else ","
    encoding = _encoding_of(path, encoding)
    with contextlib.closing(_csv_rows(path, sep, encoding)) as rows:
        header = next(rows, [])

    def read(wanted: Sequence[str]) -> dict[str, NDArray[Any]]:
        at = [header.index(name) for name in wanted]
        columns: list[list[str]] = [[] for _ in wanted]
        with contextlib.closing(_csv_rows(path, sep, encoding)) as rows:
            next(rows, None)
            for row in rows:
                for column, i in zip(columns, at):
                    column.append(row[i])
        return {name: objects(column) for name, column in zip(wanted, columns)}

    return Table(path.name, header, read, path.stem, path.parent, texts=True)


def other_separator(header: Sequence[str]) -> str:
    """Return the likely separator of a header that is one column; empty if there are several."""
    marks = (mark for mark in _SEPARATORS if len(header) == 1 and mark in header[0])
    return next(marks, "")


def _encoding_of(path: Path, encoding: str) -> str:
    """Return the encoding of a file: UTF-16 instead of the default if its first bytes are so."""
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise ValueError(f"encoding must be one that Python has, got {encoding!r}") from None
    if not path.is_file():
        raise ValueError(f"{str(path)!r} is not a regular file")
    with path.open("rb") as file:
        start = file.read(2)
    marked = start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    return "utf-16" if encoding == UTF8 and marked else encoding


@contextlib.contextmanager
def _text_of(path: Path, encoding: str) -> Iterator[Any]:
    """Open a text file; bytes that are not in the encoding are reported with their line."""
    try:
        with path.open(encoding=encoding, newline="") as file:
            yield file
    except UnicodeDecodeError:
        try:
            read_text(path, encoding)  # raises with the line; the stream decodes in blocks
        except ValueError as error:
            raise ValueError(
                f"{error}; save the table as UTF-8, or pass its encoding=, such as 'gb18030' "
                "(Chinese), 'cp932' (Japanese) or 'cp1252' (Western Europe)"
            ) from None
        raise


def _csv_rows(path: Path, sep: str, encoding: str) -> Generator[list[str], None, None]:
    """Yield the header and the rows of a CSV file, all of one length."""
    limit = csv.field_size_limit(_CELL_LIMIT)
    try:
        with _text_of(path, encoding) as file:
            yield from _parsed(file, path.name, sep)
    finally:
        csv.field_size_limit(limit)


def _parsed(lines: Iterable[str], name: str, sep: str) -> Iterator[list[str]]:
    reader = csv.reader(lines, delimiter=sep, strict=True)
    header: list[str] = []
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            long = f", or an entry is longer than {_CELL_LIMIT:,} characters"
            raise ValueError(
                f"{name}, line {line}: a double quote opens an entry that does not end with one "
                f"before a {sep!r} or the end of a line (a quote within it is written twice)"
                + (long if "limit" in str(error) else "")
            ) from None
        if row is None:
            return
        if not header:
            header = row
            # Spreadsheets end lines with separators where there once were more columns.
            while header and not header[-1].strip():
                header = header[:-1]
            refuse_same(name, [part.strip() for part in header])
            if header:
                yield header
            if other_separator(header):
                return  # the rows would be cut at the wrong places
            continue
        while len(row) > len(header) and not row[-1].strip():
            row = row[:-1]
        if not any(part.strip() for part in row):
            continue
        if len(row) != len(header):
            raise ValueError(
                f"{name}, line {line}: expected {len(header)} entries as in the header, got "
                f"{len(row)} (an entry that holds {sep!r} must be in double quotes)"
            )
        yield row


def open_lines(path: Path, encoding: str) -> Table:
    """Open a file with one JSON object per line."""
    encoding = _encoding_of(path, encoding)

    def rows() -> Iterator[dict[str, Any]]:
        with _text_of(path, encoding) as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise ValueError(
                        f"{path.name}, line {number}: not valid JSON ({error}); a JSONL file has "
                        "one object per line"
                    ) from None
                if not isinstance(row, dict):
                    raise ValueError(
                        f"{path.name}, line {number}: expected a JSON object with the columns of "
                        f"a row, got {type(row).__name__}"
                    )
                yield row

    names: dict[str, None] = {}
    for row in rows():
        names.update(dict.fromkeys(row))

    def read(wanted: Sequence[str]) -> dict[str, NDArray[Any]]:
        return picked(rows(), wanted)

    return Table(path.name, list(names), read, path.stem, path.parent)


def open_json(path: Path, encoding: str) -> Table:
    """Open a JSON file: a list of records, or the layouts of COCO and Karpathy."""
    with _text_of(path, _encoding_of(path, encoding)) as file:
        try:
            content = json.load(file)
        except UnicodeDecodeError:
            raise
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path.name} is not valid JSON: {error}") from None
    records = content
    if isinstance(content, dict):
        medium = next((name for name in _MEDIA if isinstance(content.get(name), list)), None)
        if medium and isinstance(content.get("annotations"), list):
            records = _of_coco(content, medium, path.name)
        elif medium and all(
            isinstance(row, dict) and "sentences" in row for row in content[medium]
        ):
            records = _of_karpathy(content[medium], path.name)
        else:
            records = content.get("data", content.get("annotations"))
    if not isinstance(records, list) or not all(isinstance(row, dict) for row in records):
        raise ValueError(
            f"{path.name} must hold a list of objects with the columns of a row, or an object with "
            "images and annotations as in COCO (or audio and annotations), got "
            + (f"an object with {shortened(content)}" if isinstance(content, dict) else
               f"a {type(content).__name__}")
        )  # fmt: skip
    made = of_records(records, path.name)
    return Table(path.name, made.names, made.read, path.stem, path.parent)


def _of_coco(content: Mapping[str, Any], medium: str, name: str) -> list[dict[str, Any]]:
    """Return a row per annotation, in the order of the files' list and of the annotations' ids.

    The columns are the view (``image``), ``text``, the ids and what else an entry of the list of
    files holds.
    """
    view = _MEDIA[medium]
    items: dict[Any, dict[str, Any]] = {}
    captions: dict[Any, list[dict[str, Any]]] = {}
    try:
        for item in content[medium]:
            if item["id"] in items:
                raise ValueError(f"{name}: the id {item['id']!r} occurs twice in {medium}")
            rest = {key: value for key, value in item.items() if key not in ("id", "file_name")}
            items[item["id"]] = {view: item["file_name"], f"{view}_id": item["id"], **rest}
        for one in sorted(content["annotations"], key=lambda one: one.get("id", 0)):
            captions.setdefault(one[f"{view}_id"], []).append(
                {"text": one["caption"], "caption_id": one.get("id")}
            )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{name} must hold {medium} with id and file_name, and annotations with {view}_id and "
            f"caption ({type(error).__name__}: {error})"
        ) from None
    unknown = [str(item) for item in captions if item not in items]
    if unknown:
        raise ValueError(
            f"{name} has annotations of {len(unknown)} {view}_id that {medium} does not list: "
            f"{shortened(unknown)}"
        )
    return [{**items[item], **own} for item in items for own in captions.get(item, [])]


def _of_karpathy(images: Sequence[Mapping[str, Any]], name: str) -> list[dict[str, Any]]:
    """Return a row per picture of a ``dataset_<name>.json`` file, with a list of captions."""
    rows = []
    for number, image in enumerate(images):
        try:
            path = "/".join(filter(None, (image.get("filepath", ""), image["filename"])))
            captions = [sentence["raw"].strip() for sentence in image["sentences"]]
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{name} must hold images with filename and sentences; image {number} does not "
                f"({type(error).__name__}: {error})"
            ) from None
        rows.append({"image": path, "text": captions, "split": image.get("split")})
    return rows
