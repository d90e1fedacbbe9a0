"""Build the embedded emoji set from two published packages.

Run ``python -m crossfit.datasets.emoji.build EMOJI_DATASOURCE_TGZ EMOJILIB_TGZ [--out DIR]`` with
the archives of emoji-datasource-twitter 16.0.0 (pictures) and emojilib 4.0.3 (keywords). The same
archives and library versions give the same bytes.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import re
import tarfile
import unicodedata
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold

from crossfit.datasets.emoji import CATEGORIES, IMAGES, TABLE
from crossfit.extraction.images import load_rgb

PICTURES_VERSION = "16.0.0"
KEYWORDS_VERSION = "4.0.3"

CATEGORY_WORDS = {
    *("smiley", "smileys", "emotion", "emotions", "people", "peoples", "body", "bodies"),
    *("animal", "animals", "nature", "natures", "food", "foods", "drink", "drinks"),
    *("travel", "travels", "place", "places", "activity", "activities"),
    *("object", "objects", "symbol", "symbols"),
}
"""Words of the category names, which would reveal the label."""

# Families of pictures that differ only in a detail, and must not be divided between splits.
# Each pattern is matched against the whole of "subcategory/short_name".
FAMILIES = (
    r"keycap/.*|symbols/.*",
    r"time/clock\d+",
    r"sky & weather/(.*moon|.*moon_with_face)",
    r".*/earth_.*",
    r"zodiac/.*",
    r"heart/.*",
    r"arrow/.*|av-symbol/arrow.*|av-symbol/(fast_forward|rewind|black_(left|right)_.*)",
    r"av-symbol/repeat.*",
    r"geometric/.*circle",
    r"geometric/.*square(_button)?",
    r"geometric/.*(diamond|triangle(_down)?)",
    r"alphanum/(u\d.*|ideograph_advantage|accept|koko|sa|congratulations|secret)",
    r"alphanum/(abcd|capital_abcd|1234|abc|symbols)",
    r"alphanum/(a|b|ab|o2)",
    r"alphanum/(cool|free|id|new|ng|ok|sos|up|vs|cl)",
    r"punctuation/.*(question|exclamation|bangbang|interrobang)",
    r"gender/.*",
    r"math/heavy_.*",
    r"game/(spades|clubs|hearts|diamonds)",
    r"award-medal/(first|second|third)_place_medal",
    r"money/(yen|dollar|euro|pound)",
    r"mail/mailbox.*",
    r"mail/(e-mail|email|incoming_envelope|envelope_with_arrow)",
    r"book-paper/(closed|green|blue|orange)_book",
    r"sound/(mute|speaker|sound|loud_sound)",
    r"lock/.*lock.*",
    r"face-tongue/stuck_out.*",
    r"cat-face/.*",
    r"monkey-face/.*",
    r"plant-other/.*nest.*",
    r"transport-air/.*airplane.*",
    r"hand-single-finger/.*point.*",
    r"hand-fingers-closed/.*fist",
    r"hand-fingers-open/(left|right)wards.*hand",
    # People who are not covered by the joined sequences below.
    r"family/.*|person-symbol/family.*",
    r"person/.*",
    r"person-role/(prince|princess|person_with_crown)",
    r"person-role/pregnant_.*",
    r"person-role/(breast-feeding|.*_feeding_baby)",
    r"person-role/.*tuxedo|person-role/.*veil",
    r"person-fantasy/(santa|mrs_claus|mx_claus)",
    r"person-activity/(dancer|man_dancing)",
    r"person-activity/.*(cane|wheelchair).*",
    r"person-resting/.*lotus.*",
)

# Two pictures are one family if they differ in less than this share of their ink (what is not
# white, root mean square), and two texts if they have this share of words in common. Both limits
# were chosen by inspecting pairs: a lower one for ink misses professions, a higher one joins
# faces.
PICTURE_LIMIT = 0.16
TEXT_LIMIT = 0.6

_MAN, _WOMAN, _ADULT = "1F468", "1F469", "1F9D1"
_GENDER_AND_FACING = re.compile(r"-200D-(2640|2642|27A1)\b|-FE0F")


@dataclass(frozen=True)
class _Emoji:
    unicode: str
    short_name: str
    category: str
    subcategory: str
    text: str
    pixels: NDArray[np.uint8]

    @property
    def words(self) -> set[str]:
        return set(re.findall(r"\w+", self.text.lower()))


def clean_keywords(keywords: Iterable[str]) -> str:
    """Return an emoji's keywords as one text, without the words that name its category.

    Parameters
    ----------
    keywords : iterable of str
        As emojilib has them, for instance ``["pot_of_food", "food", "stew"]``.

    Returns
    -------
    str
        Comma-separated keywords: underscores are spaces, category words, quotation marks and
        pictures in the text are gone, no keyword is repeated (``"pot of, stew"``).
    """
    kept: dict[str, None] = {}
    for keyword in keywords:
        text = unicodedata.normalize("NFC", keyword).replace("’", "'").replace(",", " ")
        text = "".join(
            char
            for char in re.sub(r"[_\s]", " ", text)
            if unicodedata.category(char) not in ("So", "Cf", "Mn", "Pi", "Pf", "Sk") or char == "^"
        )
        words = [
            word
            for word in text.split()
            if not CATEGORY_WORDS.intersection(re.findall(r"[a-z]+", word.lower()))
        ]
        cleaned = " ".join(words)
        if len(cleaned) > 1 or cleaned.isalnum():
            kept.setdefault(cleaned)
    return ", ".join(kept)


def read_emoji(pictures: Path, keywords: Path) -> list[_Emoji]:
    """Read both archives; see the module.

    Parameters
    ----------
    pictures, keywords : path
        Archives (``.tgz``) of emoji-datasource-twitter and emojilib.

    Raises
    ------
    ValueError
        If an archive is another version.
    """
    with tarfile.open(keywords) as archive:
        _check_version(archive, "emojilib", KEYWORDS_VERSION)
        words_of = json.loads(_member(archive, "package/dist/emoji-en-US.json"))
    with tarfile.open(pictures) as archive:
        _check_version(archive, "emoji-datasource-twitter", PICTURES_VERSION)
        folder = "package/img/twitter/64/"
        # A compressed archive is read from front to back: seeking would decompress it again.
        content = {
            member.name.removeprefix("package/"): archive.extractfile(member).read()  # type: ignore[union-attr]
            for member in archive
            if member.name == "package/emoji.json" or member.name.startswith(folder)
        }
    found = []
    for entry in sorted(json.loads(content["emoji.json"]), key=lambda e: e["sort_order"]):
        if entry["category"] not in CATEGORIES or not entry["has_img_twitter"]:
            continue
        characters = "".join(chr(int(code, 16)) for code in entry["unified"].split("-"))
        with Image.open(io.BytesIO(content[f"img/twitter/64/{entry['image']}"])) as image:
            pixels = load_rgb(image)
        found.append(
            _Emoji(
                unicode=entry["unified"],
                short_name=entry["short_name"],
                category=entry["category"],
                subcategory=entry["subcategory"],
                text=clean_keywords(words_of[characters]),
                pixels=pixels,
            )
        )
    return found


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    handle = archive.extractfile(name)
    assert handle is not None
    return handle.read()


def _check_version(archive: tarfile.TarFile, name: str, version: str) -> None:
    package = json.loads(_member(archive, "package/package.json"))
    if (package["name"], package["version"]) != (name, version):
        raise ValueError(
            f"expected the archive of {name} {version}, got {package['name']} {package['version']}"
        )


def find_groups(emoji: Sequence[_Emoji]) -> NDArray[np.int64]:
    """Return the groups of emoji, with near-duplicates in one group.

    Two emoji are in one group if they differ only in gender or direction, if one pattern of
    `FAMILIES` fits both, or if their pictures or their texts are all but the same; and then
    everything that this links, however indirectly.

    Returns
    -------
    array of int, shape (n,)
        Groups are numbered in order of first appearance.
    """
    n = len(emoji)
    first: dict[str, int] = {}
    links: list[tuple[int, int]] = []
    for i, one in enumerate(emoji):
        for key in _families(one):
            links.append((i, first.setdefault(key, i)))
    links += _similar_pictures(np.stack([one.pixels for one in emoji]))
    words = [one.words for one in emoji]
    links += [
        (i, j)
        for i in range(n)
        for j in range(i)
        if len(words[i] & words[j]) >= TEXT_LIMIT * len(words[i] | words[j])
    ]
    rows, columns = np.array(links).T
    _, component = connected_components(coo_array((np.ones(len(rows)), (rows, columns)), (n, n)))
    return component.astype(np.int64)


def _families(one: _Emoji) -> set[str]:
    codes = _GENDER_AND_FACING.sub("", one.unicode).split("-")
    if "200D" in codes or "200D" in one.unicode:
        codes = [_ADULT if code in (_MAN, _WOMAN) else code for code in codes]
    keys = {"-".join(codes)}
    name = f"{one.subcategory}/{one.short_name}"
    keys |= {pattern for pattern in FAMILIES if re.fullmatch(pattern, name)}
    # cat and cat2 are the same animal's face and body; oncoming_bus is a bus.
    if one.subcategory.startswith(("animal", "transport")):
        plain = one.short_name.removeprefix("oncoming_").removesuffix("_face").removesuffix("2")
        keys.add(f"{one.subcategory}:{plain}")
    return keys


def _similar_pictures(pixels: NDArray[np.uint8]) -> list[tuple[int, int]]:
    n = len(pixels)
    ink = 255 - pixels.reshape(n, 16, 4, 16, 4, 3).mean(axis=(2, 4), dtype=np.float64)
    ink = ink.reshape(n, -1)
    amount = (ink**2).sum(axis=1)
    pairs = []
    for i in range(n):
        squared = ((ink[:i] - ink[i]) ** 2).sum(axis=1)
        near = squared < PICTURE_LIMIT**2 * np.maximum(amount[:i], amount[i])
        pairs += [(i, int(j)) for j in np.flatnonzero(near)]
    return pairs


def split_groups(labels: NDArray[np.int64], groups: NDArray[np.int64]) -> list[str]:
    """Split into about 70 % train, 10 % val and 20 % test, by group and stratified by label."""
    folds = StratifiedGroupKFold(n_splits=10, shuffle=True, random_state=0)
    split = np.empty(len(labels), dtype=object)
    names = ["train"] * 7 + ["val"] + ["test"] * 2
    for name, (_, rows) in zip(names, folds.split(labels, labels, groups)):
        split[rows] = name
    return list(split)


def build(pictures: Path, keywords: Path, out: Path) -> None:
    """Write the table and the pictures of the emoji set into `out`."""
    emoji = read_emoji(pictures, keywords)
    labels = np.array([CATEGORIES.index(one.category) for one in emoji])
    groups = find_groups(emoji)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["unicode", "short_name", "category", "group", "split", "text"])
    for one, group, split in zip(emoji, groups, split_groups(labels, groups)):
        writer.writerow([one.unicode, one.short_name, one.category, group, split, one.text])
    array = io.BytesIO()
    np.save(array, np.stack([one.pixels for one in emoji]), allow_pickle=False)
    archive = io.BytesIO()
    # LZMA compresses similar neighbours: smaller than the PNG files, and readable by np.load.
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_LZMA) as handle:
        handle.writestr(zipfile.ZipInfo("image.npy"), array.getvalue(), zipfile.ZIP_LZMA)
    out.mkdir(parents=True, exist_ok=True)
    for name, content in ((TABLE, table.getvalue().encode()), (IMAGES, archive.getvalue())):
        partial = out / f"{name}.partial"
        partial.write_bytes(content)
        partial.replace(out / name)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; see the module."""
    parser = argparse.ArgumentParser(prog="crossfit.datasets.emoji.build", description=__doc__)
    parser.add_argument("pictures", type=Path, help="archive of emoji-datasource-twitter 16.0.0")
    parser.add_argument("keywords", type=Path, help="archive of emojilib 4.0.3")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    given = parser.parse_args(arguments)
    build(given.pictures, given.keywords, given.out)


if __name__ == "__main__":
    main()
