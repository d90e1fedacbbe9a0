"""Folders with metadata, of classes, and of sounds; what test_tables.py does not have."""

import json
import os

import pandas as pd
import pytest

from crossfit.datasets import from_folder, read_pairs


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def write_metadata(folder, rows, form="csv", columns=("file_name", "text")):
    folder.mkdir(parents=True, exist_ok=True)
    frame = pd.DataFrame(rows, columns=list(columns))
    path = folder / f"metadata.{form}"
    if form == "csv":
        frame.to_csv(path, index=False)
    elif form == "jsonl":
        path.write_text("\n".join(map(json.dumps, frame.to_dict("records"))))
    else:
        pytest.importorskip("pyarrow")
        frame.to_parquet(path)
    return path


def names_of(views, folder, view="image"):
    return [os.path.relpath(path, folder) for path in views[view]]


class TestMetadata:
    @pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
    def test_forms(self, tmp_path, form):
        touch(tmp_path, "a.jpg", "sub/b.jpg")
        write_metadata(tmp_path, [("sub/b.jpg", "x"), ("a.jpg", "y"), ("a.jpg", "z")], form)
        ds = from_folder(tmp_path)
        assert names_of(ds["all"].views, tmp_path) == ["sub/b.jpg", "a.jpg", "a.jpg"]
        assert list(ds["all"].views["text"]) == ["x", "y", "z"] and ds.name == tmp_path.name
        assert len(ds["all"].views.distinct("image")[0]) == 2

    def test_splits_with_one_table_or_one_each(self, tmp_path):
        for root in ("one", "each"):
            touch(tmp_path / root, "train/a.jpg", "train/b.jpg", "test/c.jpg")
        write_metadata(
            tmp_path / "one", [("test/c.jpg", "z"), ("train/a.jpg", "x"), ("train/b.jpg", "y")]
        )
        write_metadata(tmp_path / "each/train", [("a.jpg", "x"), ("b.jpg", "y")], "jsonl")
        write_metadata(tmp_path / "each/test", [("c.jpg", "z")])
        for root in ("one", "each"):
            ds = from_folder(tmp_path / root)
            assert list(ds.splits) == ["train", "test"]
            assert list(ds["train"].views["text"]) == ["x", "y"]
            assert names_of(ds["test"].views, tmp_path / root) == ["test/c.jpg"]

    def test_columns(self, tmp_path):
        touch(tmp_path, "a.jpg", "b.jpg")
        rows = [("a.jpg", "x", "u", "k", 7), ("b.jpg", "y", "v", "l", 8)]
        write_metadata(tmp_path, rows, columns=("file_name", "en", "fr", "kind", "id"))
        ds = from_folder(tmp_path, text=["en", "fr"], label="kind", info=["id"])
        assert list(ds["all"].views["text"]) == ["x", "u", "y", "v"]
        assert ds["all"].y.tolist() == [0, 0, 1, 1] and list(ds["all"].info["id"]) == list("7788")
        with pytest.raises(ValueError, match="no column 'text': it has file_name, en"):
            from_folder(tmp_path)

    def test_files_and_rows_that_do_not_match(self, tmp_path):
        touch(tmp_path, "a.jpg", "b.jpg")
        write_metadata(tmp_path, [("a.jpg", "x"), ("c.jpg", "y")])
        with pytest.raises(FileNotFoundError, match=r"do not exist: .*c\.jpg"):
            from_folder(tmp_path)
        with pytest.warns(UserWarning) as caught:
            ds = from_folder(tmp_path, invalid="skip")
        messages = [str(each.message) for each in caught]
        assert "left out 1 of 2 rows: the file of view 'image' does not exist" in messages[0]
        assert "1 files in" in messages[1] and messages[1].endswith("left out: b.jpg")
        assert list(ds["all"].views["text"]) == ["x"]
        write_metadata(tmp_path, [("a.jpg", "x")], "jsonl")
        with pytest.raises(ValueError, match=r"has metadata\.csv and metadata\.jsonl; keep one"):
            from_folder(tmp_path)
        (tmp_path / "metadata.jsonl").unlink()
        write_metadata(tmp_path, [("a.jpg", "x")], columns=("name", "text"))
        with pytest.raises(ValueError, match="no column 'file_name': it has name, text"):
            from_folder(tmp_path)

    def test_columns_without_metadata(self, tmp_path):
        touch(tmp_path, "a.jpg")
        with pytest.raises(ValueError, match=r"name columns of metadata, but .* has none of metad"):
            from_folder(tmp_path, label="kind")


class TestClassFolders:
    def test_the_text_is_the_name_of_the_class(self, tmp_path):
        touch(tmp_path, "tabby_cat/1.jpg", "tabby_cat/2.jpg", "dog/1.png")
        ds = from_folder(tmp_path)
        assert list(ds["all"].views["text"]) == ["dog", "tabby cat", "tabby cat"]
        assert ds["all"].y.tolist() == [0, 1, 1] and ds.target_names == ("dog", "tabby_cat")
        assert len(set(ds["all"].groups)) == 3  # so that splitters can divide a class

    def test_in_splits(self, tmp_path):
        touch(tmp_path, "train/cat/1.jpg", "train/dog/2.jpg", "test/dog/3.jpg")
        ds = from_folder(tmp_path)
        assert list(ds.splits) == ["train", "test"] and list(ds["test"].views["text"]) == ["dog"]

    def test_pictures_without_any_text(self, tmp_path):
        touch(tmp_path, "a.jpg", "b.jpg")
        with pytest.raises(ValueError, match=r"has no texts: put a text .* for each class"):
            from_folder(tmp_path)


class TestSounds:
    def test_texts_beside_sounds(self, tmp_path):
        touch(tmp_path, "rain/a.wav", "wind/b.flac")
        (tmp_path / "rain/a.txt").write_text("rain falls\nit rains")
        (tmp_path / "wind/b.txt").write_text("wind")
        ds = from_folder(tmp_path)
        assert ds["all"].views.names == ("audio", "text") and ds.card.modalities == (
            "audio", "text",
        )  # fmt: skip
        assert ds["all"].views.distinct("audio")[1].tolist() == [0, 0, 1]
        (tmp_path / "wind/b.txt").unlink()
        with pytest.raises(ValueError, match=r"each sound .* sounds without a text: wind/b\.flac"):
            from_folder(tmp_path)

    def test_metadata_of_sounds(self, tmp_path):
        touch(tmp_path, "a.wav")
        write_metadata(tmp_path, [("a.wav", "x")])
        assert names_of(from_folder(tmp_path)["all"].views, tmp_path, "audio") == ["a.wav"]


class TestInvalid:
    def test_what_does_not_match_is_left_out_and_counted(self, tmp_path):
        touch(tmp_path, "a.jpg", "b.jpg", "c.jpg", "d.jpg", "d.png")
        for name in "acde":
            (tmp_path / f"{name}.txt").write_text("" if name == "c" else name)
        with pytest.warns(UserWarning) as caught:
            ds = from_folder(tmp_path, invalid="skip")
        message = str(caught[0].message)
        assert (
            "left out 1 pictures without a text, 1 texts without a picture, 1 texts with several "
            "pictures, 1 empty texts; the first are pictures without a text: b.jpg;" in message
        )
        assert list(ds["all"].views["text"]) == ["a"]
        (tmp_path / "a.txt").unlink()
        with pytest.raises(ValueError, match="has no file that can be used: pictures without a te"):
            from_folder(tmp_path, invalid="skip")

    def test_what_the_revision_depends_on(self, tmp_path):
        touch(tmp_path, "a.jpg")
        (tmp_path / "a.txt").write_text("a")
        kinds = ("content", "sizes", "names", "auto")
        first = {kind: from_folder(tmp_path, revision=kind).revision for kind in kinds}
        (tmp_path / "a.jpg").write_bytes(b"A.jpg")
        second = {kind: from_folder(tmp_path, revision=kind).revision for kind in kinds}
        assert {kind for kind in kinds if first[kind] != second[kind]} == {"content", "auto"}

    def test_other_files(self, tmp_path):
        touch(tmp_path, "0.tar")
        with pytest.raises(ValueError, match="read its tar files with from_webdataset"):
            from_folder(tmp_path)
        touch(tmp_path, "p-0.parquet")
        with pytest.raises(ValueError, match=r"read its tables with from_table, '.*\*\.parquet'"):
            from_folder(tmp_path)


class TestReadPairs:
    def test_any_form(self, tmp_path):
        touch(tmp_path, "a.jpg", "b.jpg", "cats/1.jpg", "dogs/1.jpg")
        (tmp_path / "p.csv").write_text(
            "File_Name;Caption;Label;Split\na.jpg;x;u;train\nb.jpg;y;v;t"
        )
        ds = read_pairs(tmp_path / "p.csv")
        assert ds["train"].views.names == ("image", "text") and ds.target_names == ("u", "v")
        assert list(read_pairs(tmp_path / "p.csv", split=None).splits) == ["all"]
        assert read_pairs(tmp_path / "p.csv", image="file_name", text="label", label=None)[
            "train"
        ].views["text"].tolist() == ["u"]
        (tmp_path / "two.csv").write_text("question,answer,group\nx,y,1\nz,w,1\n")
        assert read_pairs(tmp_path / "two.csv")["all"].views.names == ("question", "answer")
        for name in ("p.csv", "two.csv", "a.jpg", "b.jpg"):
            (tmp_path / name).unlink()
        (tmp_path / "d").mkdir()
        for name in ("cats", "dogs"):
            (tmp_path / name).rename(tmp_path / "d" / name)
        assert read_pairs(tmp_path / "d").target_names == ("cats", "dogs")

    def test_what_is_no_table(self, tmp_path):
        os.mkfifo(tmp_path / "pipe.csv")
        with pytest.raises(ValueError, match=r"the table '.*pipe\.csv' is not a regular file"):
            read_pairs(tmp_path / "pipe.csv")
        with pytest.raises(FileNotFoundError, match="there is no table"):
            read_pairs(tmp_path / "gone.csv")
        with pytest.raises(ValueError, match="'source' parameter of read_pairs must be"):
            read_pairs(3)
