"""The record returned by every loader: a data set with its splits, card and revision."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit._arrays import is_tensor
from crossfit._frames import concatenated
from crossfit._html import html_table
from crossfit.cards import DatasetCard
from crossfit.labels import labelled
from crossfit.views import Views

__all__ = [
    "Dataset",
    "MissingFilesError",
    "SPLIT_FOLDERS",
    "Split",
    "check_counts",
    "choose_subsets",
    "content_hash",
    "hash_of",
    "missing_files",
    "read_lines",
    "read_text",
    "require",
    "shortened",
    "split_order",
    "stamps",
]

#: Names of folders that are splits instead of classes, in the order of the splits.
SPLIT_FOLDERS = ("train", "training", "val", "valid", "validation", "dev", "test", "testing")


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """One part of a data set.

    Parameters
    ----------
    views : Views
        The pairs, one per row.
    y : ndarray of shape (n,) or (n, n_classes), optional
        Labels of the rows.
    info : mapping of str to array-like of n rows
        Further information on the rows that is not an input: names to display, official
        identifiers.
    """

    views: Views
    y: NDArray[Any] | None = None
    info: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.views, Views) or not isinstance(self.info, Mapping):
            raise TypeError(
                "Split takes Views and, as info, a mapping of names to entries of the rows, got "
                f"{type(self.views).__name__} and {type(self.info).__name__}"
            )
        for name, values in {"y": self.y, **self.info}.items():
            if values is None:
                continue
            scalar = not hasattr(values, "__len__") or getattr(values, "ndim", 1) == 0
            if is_tensor(values) or hasattr(values, "toarray") or scalar:
                raise TypeError(
                    f"{name} must be an array with one entry per row ({len(self.views)}), got "
                    f"{type(values).__name__}"
                )
            if len(values) != len(self.views):
                raise ValueError(
                    f"{name} must have one entry per row ({len(self.views)}), got {len(values)}"
                )

    @property
    def groups(self) -> NDArray[np.int64]:
        """Group of each row, shape (n,): rows of one group are never in different splits."""
        return self.views.groups

    def __len__(self) -> int:
        return len(self.views)

    def to_frame(self, target_names: Sequence[str] | None = None) -> Any:
        """Return the rows as a pandas DataFrame; pandas must be installed.

        Parameters
        ----------
        target_names : sequence of str, optional
            Names of the classes, by label.

        Returns
        -------
        pandas.DataFrame
            A column per view, as `Views.to_frame` returns them; ``label``, if there are labels:
            the class or its name, None without one, and for several classes a list of them; and
            the columns of `info`.
        """
        frame = self.views.to_frame()
        more: dict[str, Any] = {} if self.y is None else {"label": _named(self.y, target_names)}
        for name, values in {**more, **self.info}.items():
            if name not in frame:
                frame[name] = list(values)
        return frame

    def _repr_html_(self) -> str:
        return self.views._repr_html_()

    def __repr__(self) -> str:
        labels = "" if self.y is None else ", with labels"
        info = f", info: {', '.join(map(str, self.info))}" if self.info else ""
        return f"Split({self.views!r}{labels}{info})"


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """A data set: ``ds["train"].views``, ``.y`` and ``.groups``.

    Parameters
    ----------
    card : DatasetCard
        Name, summary, licence, citation and official counts.
    splits : mapping of str to Split
        In the order train, validation, test.
    target_names : tuple of str, optional
        Names of the classes; label ``k`` is ``target_names[k]``.
    revision : str
        Hash of the content that was read. Stored results are keyed by it.
    """

    card: DatasetCard
    splits: Mapping[str, Split]
    target_names: tuple[str, ...] | None = None
    revision: str = ""

    @property
    def name(self) -> str:
        """Name of the data set."""
        return self.card.name

    def __getitem__(self, name: str) -> Split:
        if name not in self.splits:
            raise KeyError(
                f"data set {self.name!r} has the splits {', '.join(self.splits)}, not {name!r}"
            )
        return self.splits[name]

    # Without this, Python would iterate through __getitem__ and request split 0.
    __iter__ = None  # type: ignore[assignment]

    def __contains__(self, name: object) -> bool:
        return name in self.splits

    def to_frame(self) -> Any:
        """Return the rows of all splits as a pandas DataFrame; pandas must be installed.

        Returns
        -------
        pandas.DataFrame
            The column ``split`` and those of `Split.to_frame`.
        """
        frames = []
        for name, split in self.splits.items():
            frame = split.to_frame(self.target_names)
            frame.insert(0, "split", name, allow_duplicates=True)
            frames.append(frame)
        return concatenated(frames)

    def __repr__(self) -> str:
        classes = "" if self.target_names is None else f", {len(self.target_names)} classes"
        lines = [f"Dataset {self.name!r}, revision {self.revision}{classes}"]
        for name, split in self.splits.items():
            labels = "" if split.y is None else ", with labels"
            lines.append(f"  {name}: {split.views!r}{labels}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = []
        for name, split in self.splits.items():
            items = ", ".join(
                f"{len(split.views.distinct(view)[0])} {view}" for view in split.views.names
            )
            y = split.y
            known = 0 if y is None else (y.any(axis=1) if y.ndim == 2 else labelled(y)).sum()
            rows.append((name, len(split), items, int(known)))
        classes = "" if self.target_names is None else f", {len(self.target_names)} classes"
        caption = f"{self.name}: {self.card.summary}; revision {self.revision}{classes}"
        return html_table(caption, ("split", "rows", "items", "rows with a label"), rows)


def _named(y: NDArray[Any], names: Sequence[str] | None) -> list[Any]:
    """Return the class of each row, or its name; None if it is unlabelled."""

    def name(label: Any) -> Any:
        return label if names is None else names[label]

    if y.ndim == 2:
        return [[name(int(k)) for k in np.flatnonzero(row)] for row in y]
    known = labelled(y)
    return [name(label) if known[i] else None for i, label in enumerate(y.tolist())]


def content_hash(*parts: str | bytes | Path) -> str:
    """Return a hash of files, strings and bytes: the 12 hexadecimal digits of a revision.

    Parameters
    ----------
    *parts : path, str or bytes
        Paths are replaced by the content of their files; strings and bytes are hashed directly.
    """
    return hash_of(parts)


def hash_of(parts: Iterable[str | bytes | Path]) -> str:
    """Return the `content_hash` of parts that need not be in memory together."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            with part.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").digest()
        else:
            content = part.encode() if isinstance(part, str) else part
            digest = hashlib.sha256(content).digest()
        total.update(digest)
    return total.hexdigest()[:12]


def read_text(path: Path, encoding: str = "utf-8-sig", errors: str = "strict") -> str:
    """Return the text of a file, with its line ends unchanged.

    Parameters
    ----------
    path : path
        The file.
    encoding : str, default="utf-8-sig"
        Encoding; by default UTF-8, with or without a byte order mark.
    errors : str, default="strict"
        As in `open`: ``"replace"`` for files with mixed encodings.

    Raises
    ------
    ValueError
        If the path is not a regular file, or its bytes are not valid in the encoding; the message
        names the file and the line.
    LookupError
        If the encoding is unknown.
    """
    _refuse_irregular(path)
    content = path.read_bytes()
    try:
        return content.decode(encoding, errors)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{str(path)!r} is not a text in {encoding.removesuffix('-sig').upper()}: line {line}, "
            f"byte 0x{content[error.start]:02x} ({error.reason})"
        ) from None


def read_lines(path: Path, errors: str = "strict") -> Iterator[str]:
    """Yield the lines of a text file in UTF-8, without line ends; errors are as in `read_text`.

    Only newline characters end a line: `str.splitlines` would also split at form feeds and
    Unicode separators, which occur inside captions.
    """
    _refuse_irregular(path)
    try:
        with path.open(encoding="utf-8-sig", errors=errors) as stream:
            for line in stream:
                yield line.rstrip("\n")
    except UnicodeDecodeError:
        read_text(path)  # raises with the line number; the stream decodes in blocks


def _refuse_irregular(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise ValueError(f"{str(path)!r} is not a regular file")


def require(folder: Path, *names: str, card: DatasetCard) -> list[Path]:
    """Return paths in a data set's folder, or raise with the names of those that are missing.

    Parameters
    ----------
    folder : path
        Folder of the data set.
    *names : str
        Paths inside it.
    card : DatasetCard
        The card, whose ``url`` is the source of the data set.

    Raises
    ------
    FileNotFoundError
        If a file or folder is missing.
    """
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        raise missing_files(missing, folder, card)
    return [folder / name for name in names]


class MissingFilesError(FileNotFoundError):
    """Error for files of a data set that are missing.

    Parameters
    ----------
    message : str
        The first few of them, and the source of the data set.
    names : sequence of str
        All of them, relative to the folder of the data set.
    """

    def __init__(self, message: str, names: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.names = tuple(names)


def missing_files(names: Iterable[str], folder: Path, card: DatasetCard) -> MissingFilesError:
    """Return an error that lists missing files and the source of the data set."""
    listed = list(names)
    return MissingFilesError(
        f"data set {card.name!r} needs {shortened(listed)}, not found in {str(folder)!r}; get it "
        f"from {card.url} and set root= or CROSSFIT_DATA to the folder that holds {card.name}/",
        listed,
    )


def stamps(folder: Path, names: Iterable[str], card: DatasetCard) -> list[str]:
    """Return names and sizes of files, which represent their content in a revision.

    Hashing gigabytes of pictures would take longer than loading the data set.

    Raises
    ------
    FileNotFoundError
        If some of the files are missing.
    """
    found, missing = [], []
    for name in names:
        try:
            found.append(f"{name} {(folder / name).stat().st_size}")
        except FileNotFoundError:
            missing.append(name)
    if missing:
        raise missing_files(missing, folder, card)
    return found


def choose_subsets(
    subsets: Iterable[str] | None, offered: Iterable[str], card: DatasetCard
) -> tuple[str, ...]:
    """Return the requested splits, in the order of the data set; all by default.

    Raises
    ------
    ValueError
        If a split does not exist, or none is requested.
    """
    names = tuple(offered)
    wanted = names if subsets is None else (subsets,) if isinstance(subsets, str) else (*subsets,)
    unknown = [name for name in wanted if name not in names]
    if unknown or not wanted:
        raise ValueError(
            f"subsets of data set {card.name!r} must be some of {', '.join(names)}, "
            f"got {', '.join(map(repr, unknown)) or 'none'}"
        )
    return tuple(name for name in names if name in wanted)


def check_counts(found: Mapping[str, int], official: Mapping[str, int], card: DatasetCard) -> None:
    """Check the number of items of each split against the official number.

    Raises
    ------
    ValueError
        If a number differs.
    """
    wrong = {name: n for name, n in found.items() if n != official[name]}
    if wrong:
        listed = "; ".join(f"{name} has {n}, not {official[name]}" for name, n in wrong.items())
        raise ValueError(
            f"data set {card.name!r} is incomplete or not the official one: {listed} "
            "(strict=False skips this check)"
        )


def shortened(names: Iterable[str], limit: int = 3) -> str:
    """Return names for an error message: the first few, and the number of others."""
    listed = list(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more


def split_order(name: str) -> int:
    """Return the place of a split among others: training, validation, test, other names."""
    return SPLIT_FOLDERS.index(name) if name in SPLIT_FOLDERS else len(SPLIT_FOLDERS)
