"""Galleries are read from folders, tables and lists, and bad ones are one sentence."""

import csv
import datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.pipeline import make_pipeline

from crossfit.datasets.text_types import typed
from crossfit.galleries import Gallery, kind_of_file, names_for_others, read_gallery


@pytest.fixture
def pictures(tmp_path):
    """A folder of three pictures, one in a folder below, and a table of captions."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for i, name in enumerate(["a.png", "b.png", "more/c.jpg"]):
        Image.new("RGB", (8, 8), (i * 90, 0, 0)).save(folder / name)
    (folder / "notes.txt").write_text("not a picture")
    rows = [("a.png", "one", "x"), ("a.png", "uno", "y"), ("more/c.jpg", "three", "z")]
    with open(folder / "captions.csv", "w", newline="") as file:
        csv.writer(file).writerows([("image", "caption", "by"), *rows])
    return folder


def test_a_folder_of_pictures(pictures):
    found = read_gallery(pictures)
    assert (found.kind, found.ids) == ("picture", ["a.png", "b.png", "more/c.jpg"])
    assert found.items == [str(pictures / name) for name in found.ids]
    assert found.rows([2]) == [{"id": "more/c.jpg", "path": found.items[2]}]


def test_a_table_has_each_picture_once_with_the_columns_of_its_first_row(pictures):
    found = read_gallery(pictures / "captions.csv", view="image")
    assert (found.kind, found.ids) == ("picture", ["a.png", "more/c.jpg"])
    assert found.rows([0, 1]) == [
        {"id": "a.png", "path": str(pictures / "a.png"), "caption": "one", "by": "x"},
        {"id": "more/c.jpg", "path": str(pictures / "more/c.jpg"), "caption": "three", "by": "z"},
    ]


def test_columns_with_the_names_of_the_items_do_not_replace_them(pictures):
    (pictures / "t.csv").write_text("image,path,text\na.png,elsewhere,one\n")
    found = read_gallery(pictures / "t.csv", view="image")
    assert found.columns["path"] == [str(pictures / "a.png")] and found.columns["text"] == ["one"]
    found = read_gallery(pictures / "t.csv", view="x", kind="text", column="path")
    assert found.items == found.columns["text"] == ["elsewhere"]


def test_a_table_of_texts_has_every_row(pictures):
    found = read_gallery(pictures / "captions.csv", view="text")
    assert (found.kind, found.items, found.ids) == (
        "text", ["one", "uno", "three"], ["0", "1", "2"]
    )  # fmt: skip
    assert found.rows([1]) == [{"id": "1", "text": "uno", "image": "a.png", "by": "y"}]
    assert read_gallery(pictures / "captions.csv", "words", "text", column="by").items[0] == "x"


def test_the_column_id_names_the_items_if_its_entries_differ(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("id,text\nk1,a dog\nk2,a cat\n")
    assert read_gallery(table).ids == ["k1", "k2"]
    table.write_text("id,text\nk1,a dog\nk1,a cat\n")
    assert read_gallery(table).ids == ["0", "1"]


def test_metadata_in_a_folder_and_separators(pictures, tmp_path):
    (pictures / "metadata.csv").write_text("file_name,text\nb.png,two\n")
    assert read_gallery(pictures).ids == ["b.png"]
    assert read_gallery(pictures, kind="text").items == ["two"]
    table = tmp_path / "semicolons.csv"
    table.write_text("text;by\na, b;x\n")
    assert read_gallery(table).items == ["a, b"]


def test_lists_of_texts():
    found = read_gallery(["a dog", "a cat"], view="text")
    assert (found.items, found.ids, len(found)) == (["a dog", "a cat"], ["0", "1"], 2)


def test_kinds_of_files():
    assert [kind_of_file(name) for name in ("a.JPG", "b.wav", "c.csv")] == [
        "picture",
        "sound",
        None,
    ]


@pytest.mark.parametrize(
    ("given", "options", "words"),
    [
        ("nothing", {}, "there is no"),
        ("photos", {"kind": "text"}, "is a folder; give a table with a column of texts"),
        ("photos", {"kind": "sound"}, "must have sounds, but the folder .* has 3 pictures"),
        ("photos/a.png", {}, "is a picture"),
        ("empty", {}, "must have pictures, but the folder .* has 0 other files"),
        ("none.csv", {}, "has no rows"),
        ("blank.csv", {}, r"an empty text in 1 of 2 rows \(counted from 0\): 1"),
        ("blank.csv", {"kind": "sound"}, "has no column of sounds: expected 'audio'"),
        ("blank.csv", {"column": "words"}, "expected 'words', it has text"),
        ("lost.csv", {}, "names 1 of 1 files that do not exist: gone.png"),
        (["a", " "], {}, "an empty text in 1 of 2 rows"),
        ([], {}, "got an empty list"),
        ([1, 2], {}, "a list of texts"),
        (["a"], {"kind": "picture"}, "a gallery of pictures is a folder or a table"),
    ],
)
def test_bad_galleries_are_one_sentence(pictures, tmp_path, given, options, words):
    (tmp_path / "empty").mkdir()
    (tmp_path / "none.csv").write_text("text\n")
    (tmp_path / "blank.csv").write_text('text,by\na dog,x\n"  ",y\n')
    (tmp_path / "lost.csv").write_text("image\ngone.png\n")
    source = given if isinstance(given, list) else tmp_path / given
    with pytest.raises((ValueError, FileNotFoundError), match=words) as raised:
        read_gallery(source, **options)
    assert "\n" not in str(raised.value)


def test_the_record_checks_its_columns():
    with pytest.raises(ValueError, match=r"ids must have one entry per item \(1\), got 2"):
        Gallery(["a"], ["0", "1"])
    with pytest.raises(TypeError, match="ids must be a list"):
        Gallery(["a"], np.array(["0"]))
    with pytest.raises(ValueError, match="kind must be one of"):
        Gallery(["a"], ["0"], kind="film")


def test_names_for_others_do_not_show_where_files_are():
    assert names_for_others(["b/a.png", "c.png"]) == ["b/a.png", "c.png"]
    found = names_for_others(["/home/ann/photos/x/a.png", "/home/ann/photos/b.png", "c.png"])
    assert found == ["x/a.png", "b.png", "c.png"]
    assert names_for_others(["/home/ann/a.png"]) == ["a.png"]
    assert names_for_others(["/home/ann/a.png", "a.png"]) == ["0", "1"]
    assert names_for_others([]) == []


COLUMNS = {
    "integers": ["1", " 2010 ", "-3", ""],
    "numbers": ["1", "2.5", "1e3", "NaN"],
    "small": [".5", "-0.25", "1.", "0"],
    "booleans": ["true", "False", "", "TRUE"],
    "days": ["2010-05-01", "", "0001-01-01", "9999-12-31"],
    "moments": ["2010-05-01", "2010-05-01 10:00", "2010-05-01T10:00:00", ""],
    "fractions": ["2010-05-01 10:00:00.5", "", "2010-05-01 10:00:00.25", "2010-05-01 10:00:00"],
    "zones": ["2010-05-01T10:00:00Z", "2010-05-01 10:00:00+02:00", "", "2010-05-01T10:00:00-0130"],
    "words": ["yes", "no", "", "NA"],
    "mixed": ["1", "x", "", "2"],
    "not days": ["2010-13-01", "2010-01-01", "", ""],
    "short days": ["2010-5-1", "", "", ""],
    "underscores": ["1_000", "2", "", ""],
    "arabic": ["١", "٢", "", ""],
}


def test_columns_of_csv_have_the_types_of_arrow(tmp_path):
    pa = pytest.importorskip("pyarrow")
    csv_of_arrow = pytest.importorskip("pyarrow.csv")
    table = tmp_path / "typed.csv"
    with open(table, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", *COLUMNS])
        writer.writerows(zip("abcd", *COLUMNS.values()))
    found = read_gallery(table).columns
    expected_table = csv_of_arrow.read_csv(table)
    for name, expected in zip(expected_table.column_names, expected_table.columns):
        if name != "text":
            made = pa.array(found[name])
            if pa.types.is_timestamp(expected.type):
                expected = expected.cast(made.type)
            assert (name, made.type) == (name, expected.type)
            assert made.to_pylist() == expected.to_pylist(), name


@given(
    st.lists(
        st.one_of(
            st.integers(-(2**63), 2**63 - 1).map(str),
            st.floats(allow_nan=False, allow_infinity=False).map(repr),
            st.booleans().map(str), st.dates().map(str), st.datetimes().map(str),
        ),
        min_size=1, max_size=4,
    )
)  # fmt: skip
def test_what_is_read_is_what_was_written(texts):
    found = typed(texts)
    assert len({type(value) for value in found}) == 1
    for text, value in zip(texts, found):
        if isinstance(value, datetime.datetime):
            assert value == datetime.datetime.fromisoformat(text)
        elif isinstance(value, float):
            assert value == float(text)
        else:
            assert str(value) == text


@pytest.mark.parametrize(
    "texts",
    [["007", "1"], ["0x1F"], ["12345678901234567890"], ["1.5", "9007199254740993"], ["1e999"],
     ["inf"], ["+5"], ["00.5"], ["12:30"], ["", "NA"], ["2010-01-01T10:00Z", "2010-01-01"],
     ["2010-02-30"], ["0001-01-01T00:00:00+05:00"], ["true", "1"]],
)  # fmt: skip
def test_names_and_what_would_lose_digits_stay_texts(texts):
    assert typed(texts) == texts


def test_numbers_in_other_tables_keep_their_types(tmp_path):
    table = tmp_path / "t.jsonl"
    table.write_text('{"text": "a", "code": "12", "share": 0.5}\n')
    assert dict(read_gallery(table).columns) == {"text": ["a"], "code": ["12"], "share": [0.5]}


def test_a_gallery_in_memory_filters_by_the_types_of_its_table(tmp_path):
    pytest.importorskip("pyarrow")
    pytest.importorskip("fastapi")
    from crossfit import RetrievalScorer, Views, ViewTransformer
    from crossfit.extraction import Characters
    from crossfit.methods import CCA
    from crossfit.serving.gallery import MemoryGallery
    from crossfit.serving.searcher import Searcher
    from crossfit.winners import Winner

    table = tmp_path / "t.csv"
    rows = [(f"text {i}", i / 4, f"2010-01-0{i + 1}") for i in range(8)]
    with open(table, "w", newline="") as file:
        csv.writer(file).writerows([("text", "price", "day"), *rows])
    texts = [row[0] for row in rows]
    features = ViewTransformer([("text", Characters())])
    views = Views(image=np.eye(8), text=texts)
    model = make_pipeline(features, CCA(2, reg=1.0), RetrievalScorer()).fit(views)
    searcher = Searcher(Winner(model))
    gallery = MemoryGallery(searcher, "text", read_gallery(table))
    assert gallery.columns == {"text": "str", "price": "float", "day": "date"}
    asked = searcher.features(texts[:1], "text")
    for where, kept in (("price > 0.5 and price < 1", "3"), ("day < '2010-01-03'", "01")):
        (hits,) = gallery.search(asked, "text", 8, where)
        assert sorted(hit.id for hit in hits) == list(kept)
