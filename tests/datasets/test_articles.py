"""Illustrated articles: Wikipedia's captions from JSON lines, and ImageCLEF 2010."""

import json

import numpy as np
import pytest
from PIL import Image

from crossfit.datasets import imageclef, load, wikipedia_captions
from crossfit.datasets.cards import IMAGECLEF, WIKIPEDIA_CAPTIONS
from crossfit.views import Channels


def picture(path, size=(8, 8), form=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "red").save(path, form)


@pytest.fixture
def crawl(tmp_path):
    """Write seven pictures; two rows share one, two share an article, and one links both."""
    folder = tmp_path / "wikipedia-captions"
    for name in "abcdg":
        picture(folder / "images" / f"{name}.jpg")
    picture(folder / "images" / "e.png")
    picture(folder / "images" / "f.jpg", (8, 7))
    picture(folder / "images" / "h.jpg", form="PNG")
    (folder / "images" / "i.jpg").write_bytes(b"nothing")
    rows = [
        ("a", "one", "about x"),
        ("b", "two", "about x"),
        ("b", "three", "about y"),
        ("c", "four", "about z"),
        ("d", " ", "about z"),
        ("e.png", "five", "about z"),
        ("f", "six", "about z"),
        ("g", "seven", "short"),
        ("h", "eight", "about z"),
        ("i", "nine", "about z"),
    ]
    lines = [
        json.dumps({
            "image": f"images/{name}" if "." in name else f"images/{name}.jpg",
            "caption": caption, "article": article, "more": 1,
        }) + "\n"
        for name, caption, article in rows
    ]  # fmt: skip
    (folder / "pairs.jsonl").write_text("".join(lines))
    return folder


SMALL = {"min_words": 2, "min_size": 8}


class TestWikipediaCaptions:
    def test_filters_and_channels(self, crawl):
        ds = load("wikipedia-captions", crawl.parent, **SMALL)
        assert list(ds.splits) == ["train"] and ds["train"].y is None
        views = ds["train"].views
        assert isinstance(views["text"], Channels)
        assert list(views["text"]["caption"]) == ["one", "two", "three", "four"]
        assert list(views["text"]["article"]) == ["about x", "about x", "about y", "about z"]
        paths, row_to_item = views.distinct("image")
        assert [path[-5:] for path in paths] == ["a.jpg", "b.jpg", "c.jpg"]
        np.testing.assert_array_equal(row_to_item, [0, 1, 1, 2])
        # a and b are in one article, b in another: the three rows stay together.
        assert len(set(ds["train"].groups[:3])) == 1
        assert ds["train"].groups[3] != ds["train"].groups[0]
        ids = ds["train"].info["article_id"]
        assert ids[0] == ids[1] != ids[2]

    @pytest.mark.parametrize(("text", "first"), [("article", "about x"), ("caption", "one")])
    def test_one_kind_of_text(self, crawl, text, first):
        ds = wikipedia_captions.load(crawl, text=text, **SMALL)
        assert next(iter(ds["train"].views["text"])) == first

    def test_each_filter_can_be_turned_off(self, crawl):
        def captions(**options):
            views = wikipedia_captions.load(crawl, text="caption", **options)["train"].views
            return list(views["text"])

        assert captions(min_words=1, min_size=8) == ["one", "two", "three", "four", "seven"]
        # Pictures are not opened: a JPEG is recognised by its name.
        unopened = ["one", "two", "three", "four", "six", "eight", "nine"]
        assert captions(min_words=2, min_size=0) == unopened

    def test_by_default_as_the_paper_says(self, crawl):
        with pytest.raises(ValueError, match="no usable rows") as caught:
            wikipedia_captions.load(crawl)
        assert "9 with an article of less than 50 words" in str(caught.value)
        assert "1 without a caption" in str(caught.value)

    def test_rows_can_be_split_by_group(self, crawl):
        views = wikipedia_captions.load(crawl, **SMALL)["train"].views
        part = views[[0, 3]]
        assert list(part["text"]["caption"]) == ["one", "four"]

    def test_missing_pictures(self, crawl):
        (crawl / "images" / "c.jpg").unlink()
        with pytest.raises(FileNotFoundError, match=r"images/c\.jpg") as caught:
            wikipedia_captions.load(crawl, **SMALL)
        assert WIKIPEDIA_CAPTIONS.url in str(caught.value)
        assert len(wikipedia_captions.load(crawl, strict=False, **SMALL)["train"]) == 3
        (crawl / "pairs.jsonl").unlink()
        with pytest.raises(FileNotFoundError, match=r"pairs\.jsonl"):
            wikipedia_captions.load(crawl, **SMALL)

    def test_revision_follows_content_and_filters(self, crawl):
        def revision(**options):
            return wikipedia_captions.load(crawl, **SMALL | options).revision

        first = revision()
        assert first == revision()
        assert len({first, revision(text="article"), revision(min_words=1)}) == 3
        picture(crawl / "images" / "a.jpg", (80, 80))
        assert revision() != first

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("[1]", "line 1: expected a JSON object with the strings"),
            ("{", "line 1: expected a JSON object"),
            ('{"image": "a.jpg", "caption": 3, "article": ""}', "line 1: expected a JSON object"),
            ('{"image": "../a.jpg", "caption": "", "article": ""}', "inside the data set's folder"),
            ('{"image": "/a.jpg", "caption": "", "article": ""}', "inside the data set's folder"),
        ],
    )
    def test_bad_lines(self, crawl, line, message):
        (crawl / "pairs.jsonl").write_text(line + "\n")
        with pytest.raises(ValueError, match=message):
            wikipedia_captions.load(crawl)

    def test_bad_options(self, crawl):
        with pytest.raises(ValueError, match="'both', 'article' or 'caption', got 'title'"):
            wikipedia_captions.load(crawl, text="title")
        with pytest.raises(ValueError, match="must be some of train, got 'test'"):
            wikipedia_captions.load(crawl, subsets="test", **SMALL)


METADATA = """<?xml version="1.0" encoding="UTF-8" ?>
<image id="{id}" file="images/{folder}/{id}{ending}">
  <name>{id}.jpg</name>
  <text xml:lang="en"><description /><comment />{captions}</text>
  <text xml:lang="de"><caption article="text/de/1/1">Deutsch {id}</caption></text>
  <comment>({{{{Information}}}}) &amp;amp;</comment><license>GFDL</license>
</image>"""
LAUGHS = """<?xml version="1.0"?>
<!DOCTYPE image [<!ENTITY a "haha"><!ENTITY b "&a;&a;&a;&a;">]>
<image id="9"><text>&b;</text></image>"""


@pytest.fixture
def clef(tmp_path):
    """Write seven pictures: two articles, no caption, too small, not JPEG, malformed XML."""
    root = tmp_path / "imageclef-wikipedia"
    captions = {
        1: '<caption article="text/en/1/10">First <b>one</b></caption>'
        '<caption article="text/en/1/11">again</caption>',
        2: '<caption article="text/en/1/11"></caption>',
        3: "",
        4: '<caption article="text/en/1/10">small</caption>',
        5: '<caption article="text/en/1/10">other kind</caption>',
        6: '<caption article="text/en/1/10">broken</caption>',
    }
    for i, own in captions.items():
        ending = ".png" if i == 5 else ".jpg"
        picture(root / "images" / str(i % 2) / f"{i}{ending}", (8, 4 if i == 4 else 8))
        path = root / "metadata" / str(i % 2) / f"{i}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = METADATA.format(id=i, folder=i % 2, ending=ending, captions=own)
        path.write_text(content[:-9] if i == 6 else content, encoding="utf-8")
    for name, content in (
        ("en/1/10.xml", "<article><p>Of&#160;ten</p> <p>words</p></article>"),
        ("en/1/11", "Plain & simple"),
        ("de/1/1", "Auf Deutsch"),
    ):
        path = root / "text" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


class TestImageClef:
    def test_articles(self, clef):
        ds = load("imageclef-wikipedia", clef.parent, min_size=8, strict=False)
        part = ds["train"]
        assert list(part.views["text"]) == ["Plain & simple", "Of ten words", "Plain & simple"]
        assert list(part.info["article_id"]) == ["text/en/1/11", "text/en/1/10", "text/en/1/11"]
        assert list(part.info["image_name"]) == ["images/0/2.jpg", *["images/1/1.jpg"] * 2]
        assert len(part.views.distinct("image")[0]) == 2
        assert len(set(part.groups)) == 1  # linked by the article that both are in
        assert ds["train"].y is None

    def test_captions_and_languages(self, clef):
        def texts(**options):
            return imageclef.load(clef, min_size=8, strict=False, **options)["train"].views["text"]

        assert list(texts(text="caption")) == ["First one", "again"]
        both = texts(text="both")
        assert list(both["caption"]) == ["First one", "again"]
        assert list(both["article"]) == ["Of ten words", "Plain & simple"]
        assert set(texts(language="de")) == {"Auf Deutsch"}
        assert texts(text="caption", language="de")[0] == "Deutsch 2"

    def test_without_opening_the_pictures(self, clef):
        part = imageclef.load(clef, min_size=0, strict=False)["train"]
        assert set(part.info["image_name"]) == {f"images/{i % 2}/{i}.jpg" for i in (1, 2, 4)}

    def test_counts_and_missing(self, clef):
        with pytest.raises(ValueError, match="train has 6, not 237434"):
            imageclef.load(clef)
        (clef / "text" / "en" / "1" / "10.xml").unlink()
        (clef / "images" / "0" / "2.jpg").unlink()
        part = imageclef.load(clef, min_size=8, strict=False)["train"]
        assert list(part.info["article_id"]) == ["text/en/1/11"]
        (clef / "metadata").rename(clef / "elsewhere")
        with pytest.raises(FileNotFoundError, match="metadata") as caught:
            imageclef.load(clef)
        assert IMAGECLEF.url in str(caught.value)

    def test_strict_names_what_is_missing(self, clef, monkeypatch):
        monkeypatch.setitem(IMAGECLEF.counts, "train", 6)
        assert imageclef.load(clef, min_size=8)
        (clef / "text" / "en" / "1" / "10.xml").unlink()
        (clef / "images" / "0" / "2.jpg").unlink()
        with pytest.raises(FileNotFoundError, match=r"images/0/2\.jpg, text/en/1/10,"):
            imageclef.load(clef, min_size=8)

    def test_entities_are_never_unfolded(self, clef):
        bomb = LAUGHS
        for a, b in zip("bcdefghij", "cdefghijk"):
            bomb = bomb.replace("]>", f'<!ENTITY {b} "{f"&{a};" * 10}">]>')
        bomb = bomb.replace("&b;</text>", "&k;</text>")
        (clef / "metadata" / "1" / "1.xml").write_text(bomb)
        with pytest.raises(ValueError, match=r"1\.xml declares entities"):
            imageclef.load(clef, min_size=8, strict=False)
        # Also in another encoding, which a search for bytes would not find.
        (clef / "metadata" / "1" / "1.xml").write_bytes(bomb.encode("utf-16"))
        with pytest.raises(ValueError, match=r"1\.xml declares entities"):
            imageclef.load(clef, min_size=8, strict=False)
        (clef / "metadata" / "1" / "1.xml").unlink()
        external = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><a>&x;</a>'
        (clef / "text" / "en" / "1" / "11").write_text(external)
        with pytest.raises(ValueError, match="11 declares entities"):
            imageclef.load(clef, min_size=8, strict=False)

    def test_size_is_bounded(self, clef, monkeypatch):
        monkeypatch.setattr(imageclef, "LIMIT", 2**10)
        (clef / "text" / "en" / "1" / "10.xml").write_text("<a>" + "x" * 2**10 + "</a>")
        with pytest.raises(ValueError, match=r"10\.xml is longer than"):
            imageclef.load(clef, min_size=8, strict=False)

    @pytest.mark.parametrize("name", ["../../secret", "/etc/hostname"])
    def test_paths_stay_inside(self, clef, name):
        path = clef / "metadata" / "1" / "1.xml"
        path.write_text(path.read_text().replace("text/en/1/10", name))
        with pytest.raises(ValueError, match=r"1\.xml: expected a path inside"):
            imageclef.load(clef, min_size=8, strict=False)

    def test_bad_options(self, clef):
        with pytest.raises(ValueError, match="en, de, fr, got 'it'"):
            imageclef.load(clef, language="it")
