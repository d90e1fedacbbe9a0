"""Galleries are read from folders, tables and lists, and bad ones are one sentence."""

import csv

import numpy as np
import pytest
from PIL import Image

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
