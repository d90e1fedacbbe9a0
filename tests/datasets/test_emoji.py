"""The embedded emoji set: its content, and a test that it can be built again."""

import os
import re
import subprocess
import sys
import time
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfit.datasets import emoji
from crossfit.datasets.cards import EMOJI
from crossfit.datasets.emoji import build

FOLDER = Path(emoji.__file__).parent


@pytest.fixture(scope="module")
def ds():
    return emoji.load()


def words(text):
    return re.findall(r"\w+", text.lower())


def family(ds, name):
    """Return the splits and groups of the short names that match."""
    return {
        (split, group)
        for split, part in ds.splits.items()
        for short_name, group in zip(part.info["short_name"], part.info["group"])
        if re.fullmatch(name, short_name)
    }


def test_shape_and_counts(ds):
    assert {name: len(part) for name, part in ds.splits.items()} == dict(EMOJI.counts)
    assert ds.target_names == emoji.CATEGORIES and len(ds.target_names) == 8
    for part in ds.splits.values():
        images = part.views["image"]
        assert images.dtype == np.uint8 and images.shape == (len(part), 64, 64, 3)
        assert part.views["text"].dtype == object
        assert part.y.dtype == np.int64 and set(part.y) == set(range(8))
    unicodes = [code for part in ds.splits.values() for code in part.info["unicode"]]
    assert len(set(unicodes)) == 1636


def test_subsets_and_revision(ds):
    part = emoji.load(subsets=["val"])
    assert list(part.splits) == ["val"] and part.revision == ds.revision
    np.testing.assert_array_equal(part["val"].views["image"], ds["val"].views["image"])
    assert re.fullmatch("[0-9a-f]{12}", ds.revision)


def test_pictures_are_what_their_names_say(ds):
    # Unicode describes these pictures: the colour in their middle is known.
    colours = {"large_red_square": (221, 46, 68), "large_blue_circle": (85, 172, 238)}
    seen = {}
    for part in ds.splits.values():
        for name, image in zip(part.info["short_name"], part.views["image"]):
            seen[name] = image
    for name, colour in colours.items():
        assert np.abs(seen[name][32, 32].astype(int) - colour).max() <= 3
    assert (seen["large_blue_circle"][0, 0] == 255).all()  # transparency is laid over white
    assert all((image != 255).any() for image in seen.values())


def test_no_text_holds_a_word_of_its_category_or_a_picture(ds):
    # Written independently here, from the names of the categories.
    forbidden = set()
    for name in emoji.CATEGORIES:
        for word in words(name):
            forbidden |= {word, word.removesuffix("s"), word + "s"}
    forbidden |= {"activity", "bodies", "smiley", "smileys"}
    for part in ds.splits.values():
        for text in part.views["text"]:
            assert not forbidden.intersection(words(text)), text
            assert "_" not in text and text == text.strip() and not re.search(r"\s\s", text)
            assert not re.search("[\U0001f000-\U0001ffff\u2600-\u27bf\ufe0f]", text), text


def test_vocabulary_is_sane(ds):
    texts = [text for part in ds.splits.values() for text in part.views["text"]]
    counts = Counter(word for text in texts for word in set(words(text)))
    assert 3000 < len(counts) < 6000
    assert {"face", "woman", "heart", "arrow", "vehicle", "fruit"} <= {
        word for word, n in counts.items() if n >= 25
    }
    assert all(len(text) >= 5 for text in texts)
    assert np.mean([len(words(text)) for text in texts]) > 8
    known = {word for text in ds["train"].views["text"] for word in words(text)}
    test = [set(words(text)) for text in ds["test"].views["text"]]
    assert np.mean([bool(known & own) for own in test]) > 0.95


def test_no_group_lies_in_two_splits(ds):
    homes = {}
    for name, part in ds.splits.items():
        for group in part.info["group"]:
            assert homes.setdefault(group, name) == name
        # views.groups is the same partition, numbered within the split
        pairs = set(zip(part.groups, part.info["group"]))
        assert len(pairs) == len(set(part.groups)) == len(set(part.info["group"]))


@pytest.mark.parametrize(
    ("name", "n"),
    [
        ("zero|one|two|three|four|five|six|seven|eight|nine|hash|keycap_.*", 13),
        (r"clock\d+", 24),
        (".*(_moon|moon_with_face)|moon", 13),
        ("aries|taurus|gemini|cancer|leo|virgo|libra|scorpius|pisces|capricorn", 10),
        ("(blue|green|yellow|purple|black|white|orange|brown|grey|pink)_heart|heart", 11),
        ("(fe)?male-doctor|health_worker", 3),
        ("(woman|man)-shrugging|shrug", 3),
        (r"arrow_(up|down|left|right|upper_left|lower_right|forward)", 7),
        (r"(man|woman)-(man|woman)-(boy|girl).*", 15),
        ("large_.*_square", 7),
        (".*_book", 4),
        ("cat2?|cat_face", 2),
        ("merman|mermaid|merperson", 3),
        ("(oncoming_)?police_car", 2),
    ],
)
def test_families_stay_together(ds, name, n):
    matching = [
        s for part in ds.splits.values() for s in part.info["short_name"] if re.fullmatch(name, s)
    ]
    assert len(matching) == n
    assert len(family(ds, name)) == 1


def test_near_identical_pictures_and_equal_texts_share_a_group(ds):
    parts = list(ds.splits.values())
    pixels = np.concatenate([part.views["image"] for part in parts])
    texts = np.concatenate([part.views["text"] for part in parts])
    groups = np.concatenate([part.info["group"] for part in parts])
    ink = 255 - pixels.reshape(len(pixels), -1).astype(np.int16)
    total = ink.sum(axis=1, dtype=np.int64)
    found = 0
    for i in range(len(ink)):
        # Compared with the earlier ones whose amount of ink allows it, to save time.
        near = np.flatnonzero(np.abs(total[:i] - total[i]) < 0.05 * total[i])
        differs = np.abs(ink[near] - ink[i]).sum(axis=1, dtype=np.int64)
        alike = near[differs < 0.05 * np.maximum(total[near], total[i])]
        assert (groups[alike] == groups[i]).all()
        found += len(alike)
    assert found > 100
    by_text = {}
    for text, group in zip(texts, groups):
        assert by_text.setdefault(frozenset(words(text)), group) == group


def test_split_is_stratified(ds):
    whole = np.concatenate([part.y for part in ds.splits.values()])
    shares = {"train": 0.7, "val": 0.1, "test": 0.2}
    for name, part in ds.splits.items():
        expected = shares[name] * np.bincount(whole)
        assert np.abs(np.bincount(part.y) - expected).max() <= 5, name


def test_groups_are_not_one_lump(ds):
    sizes = Counter(g for part in ds.splits.values() for g in part.info["group"])
    assert max(sizes.values()) <= 42  # the families of parents and children
    assert sum(n == 1 for n in sizes.values()) > 900


def test_loads_quickly(ds):
    start = time.process_time()
    emoji.load()
    assert time.process_time() - start < 1.0


def test_data_are_small_and_carry_their_licences():
    size = sum(path.stat().st_size for path in FOLDER.glob("*.*") if path.suffix != ".py")
    assert size < 4_000_000
    text = (FOLDER / "LICENCES.md").read_text()
    for part in (
        "Attribution 4.0 International",
        "Section 8 -- Interpretation.",
        "Copyright (c) 2014 Mu-An Chiou",
        "Copyright (c) 2013 Cal Henderson",
        "https://creativecommons.org/licenses/by/4.0/",
        "Twitter, Inc and other contributors",
    ):
        assert part in text


def test_clean_keywords():
    assert build.clean_keywords(["pot_of_food", "food", "stew", "stew"]) == "pot of, stew"
    assert build.clean_keywords(["Smiley", "happy_smileys", ":D", "x"]) == "happy, :D, x"
    assert build.clean_keywords(["“congratulations”", "men’s", "left\xa0arrow"]) == (
        "congratulations, men's, left arrow"
    )
    assert build.clean_keywords(["🚓\xa0cop", "¯\\", "^^", "family a, b"]) == (
        "cop, ^^, family a b"
    )
    assert build.clean_keywords(["body-building", "everybody"]) == "everybody"


@given(st.lists(st.text(alphabet="abodyfn _-’“”,🚓\xa0", max_size=12), max_size=6))
def test_clean_keywords_is_idempotent_and_leaves_no_category_word(keywords):
    once = build.clean_keywords(keywords)
    assert build.clean_keywords(once.split(", ")) == once
    assert not build.CATEGORY_WORDS.intersection(re.findall("[a-z]+", once.lower()))


def test_split_groups_keeps_groups_together():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 120, 400)
    labels = groups % 4
    split = np.array(build.split_groups(labels, groups))
    for group in set(groups):
        assert len(set(split[groups == group])) == 1
    assert abs(np.mean(split == "train") - 0.7) < 0.05


@pytest.fixture(scope="module")
def archives():
    given = os.environ.get("CROSSFIT_EMOJI_ARCHIVES")
    if not given:
        pytest.skip("CROSSFIT_EMOJI_ARCHIVES names no folder with the two npm archives")
    found = [
        Path(given) / f"{name}.tgz"
        for name in ("emoji-datasource-twitter-16.0.0", "emojilib-4.0.3")
    ]
    missing = [path.name for path in found if not path.exists()]
    if missing:
        pytest.skip(f"CROSSFIT_EMOJI_ARCHIVES lacks {', '.join(missing)}")
    return found


@pytest.mark.slow
@pytest.mark.data
def test_build_gives_the_shipped_files(archives, tmp_path):
    command = [sys.executable, "-m", "crossfit.datasets.emoji.build", *map(str, archives)]
    subprocess.run([*command, "--out", str(tmp_path)], check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images.npz", "table.csv"]
    for name in ("images.npz", "table.csv"):
        assert (tmp_path / name).read_bytes() == (FOLDER / name).read_bytes(), name
    with zipfile.ZipFile(tmp_path / "images.npz") as packed:
        assert [info.date_time[0] for info in packed.infolist()] == [1980]


@pytest.mark.data
def test_build_refuses_another_package(archives, tmp_path):
    pictures, _ = archives
    with pytest.raises(ValueError, match=r"expected the archive of emojilib 4\.0\.3, got emoji-d"):
        build.build(pictures, pictures, tmp_path)
    assert not list(tmp_path.iterdir())
