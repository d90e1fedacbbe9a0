"""VOC2007 on a tree of the official shape."""

import numpy as np
import pytest

from crossfit.datasets import load, voc2007
from crossfit.datasets.cards import VOC2007

KIT = "VOCdevkit/VOC2007"
PARTS = {"train": ["000012", "000005"], "val": ["000007"], "test": ["000001", "000002"]}
PARTS["trainval"] = ["000005", "000007", "000012"]
# By picture: its objects, and those of them that are hard to recognise.
CONTENT = {
    "000001": ({"dog", "person"}, set()),
    "000002": ({"train"}, {"person"}),
    "000005": ({"chair"}, set()),
    "000007": ({"car"}, set()),
    "000012": ({"car", "tvmonitor"}, {"bottle"}),
}


@pytest.fixture
def voc(tmp_path):
    root = tmp_path / "voc2007"
    (root / KIT / "JPEGImages").mkdir(parents=True)
    main = root / KIT / "ImageSets" / "Main"
    main.mkdir(parents=True)
    for name in CONTENT:
        (root / KIT / "JPEGImages" / f"{name}.jpg").write_bytes(name.encode())
    for part, ids in PARTS.items():
        for cls in voc2007.CLASSES:
            states = [1 if cls in CONTENT[i][0] else 0 if cls in CONTENT[i][1] else -1 for i in ids]
            # The official files align the signs: two spaces before 0 and 1.
            lines = [f"{i} {state:2d}\n" for i, state in zip(ids, states)]
            (main / f"{cls}_{part}.txt").write_text("".join(lines))
    return root


def test_labels_and_difficult(voc):
    ds = load("voc2007", voc.parent, strict=False)
    assert list(ds.splits) == ["trainval", "test"] and ds["test"].views.names == ("image",)
    for part in ds.splits.values():
        for path, name, y, hard in zip(
            part.views["image"], part.info["image_id"], part.y, part.info["difficult"]
        ):
            assert path.endswith(f"{KIT}/JPEGImages/{name}.jpg")
            assert {ds.target_names[k] for k in np.flatnonzero(y)} == CONTENT[name][0]
            assert {ds.target_names[k] for k in np.flatnonzero(hard)} == CONTENT[name][1]
    assert ds["test"].y.shape == ds["test"].info["difficult"].shape == (2, 20)
    assert ds["test"].info["difficult"].dtype == bool


def test_three_parts(voc):
    ds = load("voc2007", voc, split="train-val-test", strict=False)
    assert {name: list(part.info["image_id"]) for name, part in ds.splits.items()} == {
        name: PARTS[name] for name in ("train", "val", "test")
    }


def test_only_the_files_of_the_subsets_are_needed(voc):
    for path in (voc / KIT / "ImageSets" / "Main").glob("*_test.txt"):
        path.unlink()
    (voc / KIT / "JPEGImages" / "000001.jpg").unlink()
    assert list(voc2007.load(voc, subsets="trainval", strict=False).splits) == ["trainval"]
    with pytest.raises(FileNotFoundError, match=r"aeroplane_test\.txt.*and 17 more") as caught:
        voc2007.load(voc, strict=False)
    assert VOC2007.url in str(caught.value)


def test_missing_pictures(voc):
    (voc / KIT / "JPEGImages" / "000007.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"JPEGImages/000007\.jpg"):
        voc2007.load(voc, strict=False)
    assert voc2007.load(voc, subsets="test", strict=False)


def test_counts(voc):
    with pytest.raises(ValueError, match="trainval has 3, not 5011"):
        voc2007.load(voc)
    with pytest.raises(ValueError, match="val has 1, not 2510"):
        voc2007.load(voc, "train-val-test", subsets="val")
    assert sum(VOC2007.counts.values()) == 9963
    parts = voc2007.COUNTS["train-val-test"]
    assert parts["train"] + parts["val"] == VOC2007.counts["trainval"]


def test_revision(voc):
    first = voc2007.load(voc, strict=False).revision
    assert first == voc2007.load(voc, strict=False).revision
    assert first != voc2007.load(voc, "train-val-test", strict=False).revision
    (voc / KIT / "JPEGImages" / "000001.jpg").write_bytes(b"another one")
    assert first != voc2007.load(voc, strict=False).revision


def test_bad_content(voc):
    path = voc / KIT / "ImageSets" / "Main" / "bird_test.txt"
    path.write_text("000001 -1\n000002 2\n")
    with pytest.raises(ValueError, match=r"bird_test\.txt, row 2: expected .* got '000002 2'"):
        voc2007.load(voc, strict=False)
    path.write_text("000002 -1\n000001 1\n")
    with pytest.raises(ValueError, match=r"bird_test\.txt does not list the same pictures as aero"):
        voc2007.load(voc, strict=False)
