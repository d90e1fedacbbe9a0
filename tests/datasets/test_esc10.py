"""The loader of ESC-10 on a tiny tree of the same shape and on the real clips."""

import re
from collections import Counter

import numpy as np
import pytest

from crossfit.datasets import esc10
from crossfit.datasets.cards import ESC10

README = """\
Waveforms ...
**001 - Dog bark**:
- **1-100-A.mp3**:       clip derived from [Dog barking at night.wav](http://x.org/1/) by *me* ([CC0](http://c.org/))
- **2-101-A.mp3**:       clip derived from [DogBARKING_in the yard 2.WAV](http://x.org/2/) by *me* ([CC0](http://c.org/))
- **2-101-B.mp3**:       clip derived from [DogBARKING_in the yard 2.WAV](http://x.org/2/) by *me* ([CC0](http://c.org/))

**002 - Rain**:
**1-200-A.mp3**:        clip derived from [rain [loud].aif](http://x.org/3/) by *me* ([CC0](http://c.org/))
- **4-201-A.mp3**:       clip derived from [sea \\u200b\\u200bon the raincoat](http://x.org/4/) by *me* ([CC0](http://c.org/))
"""  # noqa: E501
CLIPS = ["1-100-A", "2-101-A", "2-101-B", "1-200-A", "4-201-A"]


@pytest.fixture
def tree(tmp_path):
    lines = [README]
    for label, name in enumerate(esc10.CLASSES):
        folder = tmp_path / f"{label + 1:03d} - {name}"
        folder.mkdir()
        own = CLIPS[:3] if label == 0 else CLIPS[3:] if label == 1 else []
        own = own or [f"{fold}-9{label}{fold}-A" for fold in (1, 2, 4)]
        for clip in own:
            (folder / f"{clip}.ogg").write_bytes(clip.encode())
            if clip not in CLIPS:
                lines.append(
                    f"- **{clip}.mp3**: clip derived from [{name} {clip}](http://x.org/) by *me*\n"
                )
        (folder / "notes.txt").write_text("no clip")
    (tmp_path / "README.md").write_text("".join(lines), encoding="utf-8")
    return tmp_path


def load(tree, **options):
    return esc10.load(tree, **{"strict": False, "folds": (1, 2, 4), **options})


def test_folds(tree):
    ds = load(tree)
    assert list(ds.splits) == ["train", "test"]
    assert len(ds["train"]) == 4 + 16
    assert len(ds["test"]) == 1 + 8
    assert set(ds["train"].info["fold"]) == {1, 2}
    assert set(ds["test"].info["fold"]) == {4}
    other = load(tree, fold=1)
    assert set(other["test"].info["fold"]) == {1}
    assert set(other["train"].info["fold"]) == {2, 4}
    assert ds.revision != other.revision == load(tree, fold=1).revision
    assert list(load(tree, subsets=["test"]).splits) == ["test"]


def test_rows(tree):
    train = load(tree)["train"]
    assert train.views.names == ("audio", "text")
    assert train.info["name"][:4].tolist() == ["1-100-A", "2-101-A", "2-101-B", "1-200-A"]
    assert train.y[:5].tolist() == [0, 0, 0, 1, 2]
    assert train.views["audio"][1].endswith("001 - Dog bark/2-101-A.ogg")
    assert train.views["text"][:4].tolist() == ["at night", "in the yard", "in the yard", "loud"]
    assert train.info["title"][1] == "DogBARKING_in the yard 2.WAV"
    assert load(tree)["test"].views["text"][0] == "on the"
    assert load(tree).target_names == esc10.CLASSES


def test_clips_of_one_recording_are_a_group_with_one_title(tree):
    train = load(tree)["train"]
    assert train.groups[:4].tolist() == [0, 1, 1, 2]
    titles, row = train.views.distinct("text")
    assert len(titles) == len(set(train.info["recording"])) == len(train) - 1
    assert row[:4].tolist() == [0, 1, 1, 2]
    relevance = train.views.relevance("audio", "text").toarray()
    assert relevance[:4, :3].tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1]]


@pytest.mark.parametrize(
    ("title", "left"),
    [
        ("Dog barking at night (nice reflection).wav", "at night nice reflection"),
        ("DogBARKING.wav", ""),
        ("barkingdog_in_dream.mp3", "in dream"),
        ("20100803.surf.seagulls.wav", "surf"),
        ("CFX-20130331-UK-DorsetSeaBeach02.wav", "CFX UK Dorset Beach"),
        ("01 baby crying hard and long.wav", "hard and long"),
        ("Sneezing. babies' chain saw, Fireplace", ""),
        ("tickende-uhr-fewo-leipzig.wav", "uhr fewo leipzig"),
        ("8am.wav", "am"),
    ],
)
def test_titles_are_stripped(title, left):
    assert esc10.strip_title(title) == left


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fold": 3}, r"got fold=3 and folds=\(1, 2, 4\)"),
        ({"folds": (4,)}, r"got fold=4 and folds=\(4,\)"),
        ({"folds": (4, 6)}, r"has the folds 1 to 5"),
        (
            {"subsets": ["val"]},
            "subsets of data set 'esc10' must be some of train, test, got 'val'",
        ),
        ({"strict": True}, "train has 20, not 160; test has 9, not 80"),
    ],
)
def test_wrong_options_are_named(tree, options, message):
    with pytest.raises(ValueError, match=message):
        load(tree, **options)


def test_missing_files_are_named(tree):
    with pytest.raises(FileNotFoundError, match=r"needs \*/3-\*\.ogg, not found .*karoldvl/ESC-10"):
        load(tree, folds=(1, 3, 4))
    (tree / "README.md").write_text(README[:300])
    with pytest.raises(ValueError, match=r"README\.md has no title of 2-101-B\.ogg"):
        load(tree)
    (tree / "README.md").unlink()
    with pytest.raises(FileNotFoundError, match=r"data set 'esc10' needs README\.md, not found"):
        load(tree)
    with pytest.raises(FileNotFoundError, match="and 8 more"):
        esc10.load(tree / "absent")


@pytest.fixture
def real(data_root):
    if not (data_root / "esc10").is_dir():
        pytest.skip(f"no esc10/ in {data_root}")
    return data_root / "esc10"


@pytest.mark.data
def test_the_real_clips(real):
    ds = esc10.load(real)
    assert {name: len(split) for name, split in ds.splits.items()} == dict(ESC10.counts)
    for split in ds.splits.values():
        assert set(Counter(zip(split.y, split.info["fold"])).values()) == {8}
        for title in split.views["text"]:
            words = r"dog|bark|rain|sea|wave|baby|babies|cry|clock|tick|sneez|helic|saw|roost|fire"
            assert not re.search(words, title.lower())
    both = [set(split.info["recording"]) for split in ds.splits.values()]
    assert not both[0] & both[1]
    named = np.concatenate([split.info["title"] for split in ds.splits.values()])
    assert "lg fire5.wav" in named  # its line lacks the dash of the others
    assert not any("\\u" in title or "](" in title for title in named)
    assert len(ds["test"].views.distinct("text")[0]) == 59
    assert {len(esc10.load(real, fold=k)["test"]) for k in (1, 2, 3)} == {80}
