"""MS-COCO 2014 captions (Lin et al., ECCV 2014; Chen et al., 2015)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Literal

from crossfit._arguments import is_word
from crossfit.datasets.captions import (
    KARPATHY,
    PER_IMAGE,
    Captioned,
    captioned_set,
    check_per_image,
    draw,
    precomputed_set,
    read_json,
    read_karpathy,
)
from crossfit.datasets.cards import COCO as CARD
from crossfit.datasets.record import Dataset, choose_subsets, require

JSON = "dataset_coco.json"
RESTVAL = {"train": 113287, "val": 5000, "test": 5000}
COUNTS = {
    "karpathy": CARD.counts,
    "karpathy+restval": RESTVAL,
    "bssan": {"train": 82783, "val": 4000, "test": 1000},
    "cran": RESTVAL,
}
N_VAL2014 = 40504


def load(
    root: Path,
    split: str = "karpathy",
    *,
    features: Literal["precomputed"] | None = None,
    captions_per_image: int = PER_IMAGE,
    seed: int = 0,
    subsets: Iterable[str] | None = None,
    strict: bool = True,
) -> Dataset:
    """Load MS-COCO.

    Parameters
    ----------
    root : path
        Folder with ``train2014/`` and ``val2014/``, and the captions: ``dataset_coco.json`` of
        Karpathy for his splits, ``annotations/captions_{train,val}2014.json`` for the others.
    split : {"karpathy", "karpathy+restval", "bssan", "cran"}, default="karpathy"
        ``"karpathy"``: 82,783 pictures for training, 5,000 for validation and 5,000 for testing.
        ``"karpathy+restval"``: the same, with the other 30,504 pictures added to training.
        ``"bssan"``: 4,000 and 1,000 drawn from ``val2014``, as in BSSAN. ``"cran"``: 5,000 and
        5,000 drawn from all pictures, as in CRAN. The pictures that they drew are not published.
    features : {"precomputed", None}, default=None
        ``None``: paths and captions. ``"precomputed"``: features of the pictures from
        ``coco_precomp/{train,dev,testall}_ims.npy`` and the captions from ``..._caps.txt``, the
        files of VSE++ and SCAN; only for their split, ``"karpathy+restval"``.
    captions_per_image : int, default=5
        Number of captions per picture, from the first. Some pictures have six or seven.
    seed : int, default=0
        Seed of the splits ``"bssan"`` and ``"cran"``.
    subsets : iterable of str, optional
        Splits to load, of ``"train"``, ``"val"`` and ``"test"``.
    strict : bool, default=True
        Whether to check the official counts.

    Returns
    -------
    Dataset
        A row is a caption with its picture. There are no labels. Unless the features are
        precomputed, ``info`` has ``image_name`` and ``caption_id``, the ids of COCO by which
        `crossfit.metrics.read_relevance` reads ECCV Caption and CxC.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If an option is invalid, or the counts differ.
    """
    precomputed = is_word(features, ("precomputed",)) and split == "karpathy+restval"
    if features is not None and not precomputed:
        raise ValueError(
            "features of data set 'coco' must be None, or 'precomputed' with the split "
            f"'karpathy+restval', got {features!r} with {split!r}"
        )
    check_per_image(captions_per_image, CARD)
    chosen = choose_subsets(subsets, COUNTS[split], CARD)
    counts = COUNTS[split] if strict else None
    if features:
        files = {"train": "train", "val": "dev", "test": "testall"}
        return precomputed_set(
            root,
            {name: f"coco_precomp/{files[name]}" for name in chosen},
            per_image=captions_per_image,
            card=CARD,
            counts=counts,
        )
    sources: list[Path]
    if split.startswith("karpathy"):
        sources = require(root, JSON, card=replace(CARD, url=KARPATHY))
        of_split = read_karpathy(sources[0])
        if split.endswith("restval"):
            of_split["train"] = of_split.get("train", []) + of_split.get("restval", [])
        parts = {name: of_split.get(name, []) for name in chosen}
        which = split
    else:
        # BSSAN trains on train2014 and draws from val2014; CRAN draws from both.
        both = split == "cran" or ("train" in chosen and len(chosen) > 1)
        years = ("train", "val") if both else ("train",) if "train" in chosen else ("val",)
        sources = require(root, *(f"annotations/captions_{y}2014.json" for y in years), card=CARD)
        read = {year: _read_native(path, year) for year, path in zip(years, sources)}
        if split == "cran":
            pictures = read["train"] + read["val"]
            rows = draw(len(pictures), COUNTS[split], seed)
            parts = {name: [pictures[row] for row in rows[name]] for name in chosen}
        else:
            sizes = {"val": 4000, "test": 1000, "rest": N_VAL2014 - 5000}
            rows = draw(len(read.get("val", [])), sizes, seed)
            parts = {
                name: read["train"] if name == "train" else [read["val"][row] for row in rows[name]]
                for name in chosen
            }
        which = f"{split} {seed}"
    return captioned_set(
        root,
        parts,
        per_image=captions_per_image,
        card=CARD,
        counts=counts,
        hashed=[which, *sources],
    )


def _read_native(path: Path, year: str) -> list[Captioned]:
    """Read ``captions_<year>2014.json``: pictures sorted by id, captions sorted by their ids."""
    content = read_json(path)
    try:
        names = {image["id"]: image["file_name"] for image in content["images"]}
        captions: dict[int, list[str]] = {image: [] for image in names}
        ids: dict[int, list[int]] = {image: [] for image in names}
        for one in sorted(content["annotations"], key=lambda one: one["id"]):
            captions[one["image_id"]].append(one["caption"].strip())
            ids[one["image_id"]].append(one["id"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path.name} must hold images with id and file_name, and annotations with id, "
            f"image_id and caption ({type(error).__name__}: {error})"
        ) from None
    return [
        Captioned(f"{year}2014/{names[image]}", captions[image], ids[image])
        for image in sorted(names)
    ]
