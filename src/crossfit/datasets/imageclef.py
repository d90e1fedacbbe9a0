"""The Wikipedia collection of ImageCLEF 2010 (Popescu et al.): pictures, captions, articles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NoReturn
from xml.etree import ElementTree
from xml.parsers import expat

from crossfit._arguments import is_word
from crossfit.datasets.articles import (
    Illustration,
    TextOf,
    check_inside,
    check_text,
    dataset_of,
    jpeg_problem,
)
from crossfit.datasets.cards import IMAGECLEF as CARD
from crossfit.datasets.record import (
    Dataset,
    check_counts,
    choose_subsets,
    missing_files,
    read_text,
    require,
)

LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
LIMIT = 2**24  # maximum size of an XML file in bytes; articles have about ten thousand


def load(
    root: Path,
    split: str = "official",
    *,
    language: Literal["en", "de", "fr"] = "en",
    text: TextOf = "article",
    min_size: int = 256,
    subsets: Iterable[str] | None = None,
    strict: bool = True,
) -> Dataset:
    """Load the Wikipedia collection of ImageCLEF 2010.

    Parameters
    ----------
    root : path
        Folder with ``images/<n>/<id>.jpg``, ``metadata/<n>/<id>.xml`` and the articles named by
        captions in the metadata, ``text/<language>/<n>/<id>``, with or without ``.xml``.
    split : {"official"}, default="official"
        Name of the split. There is one part, ``"train"``.
    language : {"en", "de", "fr"}, default="en"
        Language of captions and articles.
    text : {"article", "caption", "both"}, default="article"
        The view ``text``: strings of one kind, or two channels, ``article`` and ``caption``.
        Unless it is ``"article"``, rows without a caption are skipped.
    min_size : int, default=256
        Pictures that are not JPEG, or smaller than this number of pixels in width or height, are
        skipped, as in the code of TextTopicNet. With 0, only the file extension is checked.
    subsets : iterable of str, optional
        Splits to load; only ``"train"``.
    strict : bool, default=True
        Whether to check that there are the official 237,434 metadata files and all pictures and
        articles that they name; otherwise rows without one are skipped.

    Returns
    -------
    Dataset
        ``info`` contains ``image_name`` and ``article_id``; there are no labels. A row is a
        picture in an article; a picture in several articles is one item. Rows that share a picture
        or an article are one group. Metadata that are not well-formed XML are skipped.

    Raises
    ------
    FileNotFoundError
        If files are missing.
    ValueError
        If an option is invalid or the counts differ, or if an XML file declares entities, which
        could expand to any size, or is longer than 16 MiB.
    """
    check_text(text, CARD)
    choose_subsets(subsets, ("train",), CARD)
    if not is_word(language, ("en", "de", "fr")):
        raise ValueError(f"languages of data set {CARD.name!r} are en, de, fr, got {language!r}")
    require(root, "images", "metadata", card=CARD)
    files = sorted((root / "metadata").glob("*/*.xml"))
    if strict:
        check_counts({"train": len(files)}, CARD.counts, CARD)
    rows: list[Illustration] = []
    left_out: Counter[str] = Counter()
    missing: list[str] = []
    articles: dict[str, str | None] = {}  # an article has several pictures
    for path in files:
        tree = read_xml(path)
        if tree is None:
            left_out["with metadata that are not XML"] += 1
            continue
        image = tree.get("file") or f"images/{path.parent.name}/{path.stem}.jpg"
        check_inside(image, path.name)
        captions = [
            (one.get("article", ""), " ".join("".join(one.itertext()).split()))
            for part in tree.iter("text")
            if part.get(LANGUAGE) == language
            for one in part.iter("caption")
        ]
        captions = [(of, said) for of, said in captions if of and (said or text == "article")]
        if not captions:
            left_out[f"without a caption in {language!r}"] += 1
        elif not (root / image).is_file():
            left_out["without their picture"] += 1
            missing.append(image)
        elif problem := jpeg_problem(root / image, min_size):
            left_out[problem] += 1
        else:
            for of, said in captions:
                if of not in articles:
                    check_inside(of, path.name)
                    articles[of] = _read_article(root / of)
                found = articles[of]
                if found:
                    rows.append(Illustration(image, found, said, of))
                else:
                    left_out["without their article"] += 1
                    missing += [of] if found is None else []
    if strict and missing:
        raise missing_files(dict.fromkeys(missing), root, CARD)
    hashed = [f"{language} {min_size}", *(f"{row.article_id} {row.article}" for row in rows),
              *(row.caption for row in rows)]  # fmt: skip
    return dataset_of(
        rows, left_out, root=root, text=text, subsets=subsets, card=CARD, hashed=hashed
    )


def read_xml(path: Path) -> ElementTree.Element | None:
    """Parse a small XML file from an untrusted source; None if it is not well-formed.

    Raises
    ------
    ValueError
        If it declares entities or is longer than `LIMIT`.
    """
    if path.stat().st_size > LIMIT:
        raise ValueError(f"{path.name} is longer than {LIMIT // 2**20} MiB and is not read")
    data = path.read_bytes()

    def refuse(*_: object) -> NoReturn:
        raise ValueError(f"{path.name} declares entities, which is not allowed in metadata")

    # A first pass, because ElementTree cannot reject entities; declarations precede their use.
    guard = expat.ParserCreate()
    guard.EntityDeclHandler = refuse
    try:
        guard.Parse(data, True)
        return ElementTree.fromstring(data)
    except (expat.ExpatError, ElementTree.ParseError):
        return None


def _read_article(path: Path) -> str | None:
    """Return the words of an article, ``""`` if it has none, or None if the file is missing."""
    for file in (path, path.with_name(f"{path.name}.xml"), path.with_name(f"{path.name}.txt")):
        if file.is_file():
            break
    else:
        return None
    tree = None if file.suffix == ".txt" else read_xml(file)
    content = read_text(file, errors="replace") if tree is None else " ".join(tree.itertext())
    return " ".join(content.split())
