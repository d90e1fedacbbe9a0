"""Tables of pairs in every form: one reader, several doors."""

import json
import os
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfit.datasets import from_csv, from_table
from crossfit.views import Ragged

ROWS = [("a.jpg", "one, \"two\"\nthree"), ("b.jpg", "über 一只"), ("a.jpg", "four")]  # fmt: skip
TEXTS = [text for _, text in ROWS]


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


@pytest.fixture
def pictures(tmp_path):
    touch(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    return tmp_path


def columns():
    return {"image": [image for image, _ in ROWS], "text": TEXTS}


def as_csv(folder):
    pd.DataFrame(columns()).to_csv(folder / "t.csv", index=False)
    return folder / "t.csv"


def as_tsv(folder):
    pd.DataFrame(columns()).to_csv(folder / "t.tsv", index=False, sep="\t")
    return folder / "t.tsv"


def as_utf16(folder):
    pd.DataFrame(columns()).to_csv(folder / "t.csv", index=False, encoding="utf-16")
    return folder / "t.csv"


def as_jsonl(folder):
    lines = [json.dumps({"image": i, "text": t}, ensure_ascii=False) for i, t in ROWS]
    (folder / "t.jsonl").write_text("\n\n".join(lines), encoding="utf-8")
    return folder / "t.jsonl"


def as_json(folder):
    content = [{"image": i, "text": t} for i, t in ROWS]
    (folder / "t.json").write_text("\ufeff" + json.dumps(content), encoding="utf-8")
    return str(folder / "t.json")


def as_parquet(folder):
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(as_arrow(folder), folder / "t.parquet", row_group_size=2)
    return folder / "t.parquet"


def as_shards(folder):
    parquet = pytest.importorskip("pyarrow.parquet")
    table = as_arrow(folder)
    parquet.write_table(table.slice(0, 1), folder / "t.parquet-0.parquet")
    parquet.write_table(table.slice(1), folder / "t.parquet-1.parquet")
    return folder / "t.parquet-*.parquet"


def as_feather(folder):
    feather = pytest.importorskip("pyarrow.feather")
    feather.write_feather(as_arrow(folder), folder / "t.feather")
    return folder / "t.feather"


def as_stream(folder):
    pyarrow = pytest.importorskip("pyarrow")
    table = as_arrow(folder)
    with (
        pyarrow.OSFile(str(folder / "t.arrow"), "wb") as file,
        pyarrow.ipc.new_stream(file, table.schema) as writer,
    ):
        writer.write_table(table, max_chunksize=1)
    return folder / "t.arrow"


def as_pandas(folder):
    return pd.DataFrame(columns(), index=[7, 7, 2])


def as_polars(folder):
    return pytest.importorskip("polars").DataFrame(columns())


def as_arrow(folder):
    return pytest.importorskip("pyarrow").table(columns())


def as_datasets(folder):
    return pytest.importorskip("datasets").Dataset.from_dict(columns())


def as_selection(folder):
    """A data set of `datasets` with an order of its own."""
    given = {name: column[::-1] for name, column in columns().items()}
    return pytest.importorskip("datasets").Dataset.from_dict(given).select([2, 1, 0])


def as_mapping(folder):
    return columns()


def as_records(folder):
    return [{"image": i, "text": t} for i, t in ROWS]


class Rows:
    """Anything with column_names and rows."""

    column_names = ("image", "text")

    def __iter__(self):
        return iter([{"image": i, "text": t} for i, t in ROWS])


def as_rows(folder):
    return Rows()


FORMS = [
    as_csv, as_tsv, as_utf16, as_jsonl, as_json, as_parquet, as_shards, as_feather, as_stream,
    as_pandas, as_polars, as_arrow, as_datasets, as_selection, as_mapping, as_records, as_rows,
]  # fmt: skip


class TestForms:
    @pytest.mark.parametrize("form", FORMS)
    def test_every_form_gives_the_same_data_set(self, pictures, form):
        ds = from_table(form(pictures), root=pictures)
        views = ds["all"].views
        assert list(views["text"]) == TEXTS
        assert [os.path.relpath(path, pictures) for path in views["image"]] == columns()["image"]
        assert len(views.distinct("image")[0]) == 2 and views.groups.tolist() == [0, 1, 0]
        assert ds.revision == from_csv(as_csv(pictures)).revision

    @pytest.mark.parametrize("form", FORMS[:9])
    def test_relative_paths_start_at_the_file(self, pictures, form):
        views = from_table(form(pictures))["all"].views
        assert views["image"][1] == str(pictures / "b.jpg")

    @given(
        rows=st.lists(
            st.tuples(
                st.sampled_from("abc"),
                st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
            ),
            min_size=1,
        ),
        encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "gb18030"]),
        sep=st.sampled_from(",;\t|"),
    )
    @settings(max_examples=80, deadline=None)
    def test_what_csv_writes_is_what_is_read(self, tmp_path_factory, rows, encoding, sep):
        import csv

        folder = tmp_path_factory.mktemp("round")
        touch(folder, "a", "b", "c")
        rows = [(image, text) for image, text in rows if text.strip()]
        if not rows:
            return
        with open(folder / "t.csv", "w", encoding=encoding, newline="") as file:
            writer = csv.writer(file, delimiter=sep)
            writer.writerows([("image", "text"), *rows])
        given = "gb18030" if encoding == "gb18030" else "utf-8-sig"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of repeated rows
            views = from_table(folder / "t.csv", sep=sep, encoding=given)["all"].views
        read = [(os.path.basename(path), text) for path, text in zip(views["image"], views["text"])]
        assert read == rows

    def test_columns_with_the_names_of_other_programs(self, pictures):
        for image, text in (
            ("file_name", "text"), ("filepath", "title"), (" File_Name", "Caption"),
        ):  # fmt: skip
            ds = from_table({image: ["a.jpg"], text: ["x"], "path2": ["y"]}, root=pictures)
            assert ds["all"].views.names == ("image", "text")
        sound = from_table({"audio": ["a.jpg"], "caption": ["x"]}, root=pictures)
        assert sound["all"].views.names == ("audio", "text")
        both = {"image": ["a.jpg"], "path": ["b.jpg"], "text": ["x"], "caption": ["y"]}
        assert from_table(both, root=pictures)["all"].views["text"][0] == "x"
        views = from_table(both, root=pictures, image="path", text="caption")["all"].views
        assert (os.path.basename(views["image"][0]), views["text"][0]) == ("b.jpg", "y")

    def test_a_table_that_is_not_read_is_not_imported(self):
        code = (
            "import sys; from crossfit.datasets import from_table;"
            "from_table({'image': [[1.0], [2.0]], 'text': ['x', 'y']});"
            "print(sorted({'pandas', 'polars', 'pyarrow', 'datasets'} & set(sys.modules)))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        # scikit-learn imports those that it finds.
        assert done.returncode == 0 and "polars" not in done.stdout, done.stderr
        assert "datasets" not in done.stdout

    def test_pyarrow_is_named_if_it_is_missing(self, pictures, monkeypatch):
        (pictures / "t.parquet").write_bytes(b"PAR1")
        (pictures / "t.arrow").write_bytes(b"ARROW1")
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        for name in ("t.parquet", "t.arrow"):
            with pytest.raises(ImportError, match=rf"{name}' needs pyarrow: `pip .*\[tables\]`"):
                from_table(pictures / name)

    def test_a_table_for_each_split(self, pictures):
        datasets = pytest.importorskip("datasets")
        train = {"image": ["a.jpg", "b.jpg"], "text": ["x", "y"], "kind": [1, 0]}
        test = {"image": ["c.jpg"], "text": ["z"], "kind": [1]}
        features = datasets.Features(
            {
                "image": datasets.Value("string"),
                "text": datasets.Value("string"),
                "kind": datasets.ClassLabel(names=["dog", "cat"]),
            }
        )
        splits = datasets.DatasetDict(
            train=datasets.Dataset.from_dict(train, features),
            test=datasets.Dataset.from_dict(test, features),
        )
        ds = from_table(splits, root=pictures, label="kind")
        assert list(ds.splits) == ["train", "test"] and ds.target_names == ("dog", "cat")
        assert list(ds["train"].views["text"]) == ["x", "y"] and ds["test"].y.tolist() == [1]
        test["image"] = ["a.jpg"]
        splits["test"] = datasets.Dataset.from_dict(test, features)
        with pytest.raises(ValueError, match=r"a\.jpg' is in the splits 'train' and 'test'"):
            from_table(splits, root=pictures)


class TestCaptions:
    @pytest.mark.parametrize("form", ["jsonl", "parquet", "pandas", "polars", "datasets"])
    def test_a_list_of_captions(self, pictures, form):
        given = {"image": ["a.jpg", "b.jpg"], "text": [["x", "y", "z"], ["w"]], "kind": ["u", "v"]}
        if form == "jsonl":
            source = pictures / "t.jsonl"
            rows = [dict(zip(given, row)) for row in zip(*given.values())]
            source.write_text("\n".join(map(json.dumps, rows)))
        elif form == "parquet":
            pyarrow = pytest.importorskip("pyarrow")
            source = pictures / "t.parquet"
            pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table(given), source)
        elif form == "datasets":
            source = pytest.importorskip("datasets").Dataset.from_dict(given)
        else:
            source = pytest.importorskip(form).DataFrame(given)
        split = from_table(source, root=pictures, label="kind", info=("kind",))["all"]
        assert list(split.views["text"]) == ["x", "y", "z", "w"]
        assert split.views.distinct("image")[1].tolist() == [0, 0, 0, 1]
        assert split.y.tolist() == [0, 0, 0, 1] and list(split.info["kind"]) == list("uuuv")

    def test_several_columns_of_captions(self, pictures):
        path = pictures / "t.csv"
        path.write_text("file_name,c1,c2,c3\na.jpg,x,y,z\nb.jpg,,w,\n")
        views = from_table(path, text=["c1", "c2", "c3"])["all"].views
        assert list(views["text"]) == ["x", "y", "z", "w"]
        assert views.distinct("image")[1].tolist() == [0, 0, 0, 1]
        path.write_text("file_name,c1,c2\na.jpg,x,y\nb.jpg,, \n")
        with pytest.raises(ValueError, match="column 'c1' or 'c2' is empty in 1 of 2 rows"):
            from_table(path, text=["c1", "c2"])
        with pytest.warns(UserWarning, match=r"t\.csv: left out 1 of 2 rows: column 'c1' or 'c2'"):
            assert len(from_table(path, text=["c1", "c2"], invalid="skip")["all"]) == 2

    def test_a_picture_in_several_rows_with_several_captions_each(self, pictures):
        table = {"image": ["a.jpg", "b.jpg", "a.jpg"], "text": [["x", "y"], ["z"], ["w"]]}
        views = from_table(table, root=pictures)["all"].views
        assert views.distinct("image")[1].tolist() == [0, 0, 1, 0]

    def test_vectors_with_a_key(self):
        table = {
            "vector": [[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]],
            "text": ["x", "y", "z"],
            "id": ["p", "q", "p"],
        }
        views = from_table(table, views={"image": "vector", "text": "text"}, key="id")["all"].views
        np.testing.assert_array_equal(views.distinct("image")[0], [[1, 2], [3, 4]])
        assert views.distinct("image")[1].tolist() == [0, 1, 0]
        table["vector"][2] = [1.0, 2.5]
        with pytest.raises(ValueError, match=r"same 'id' must have the same image, but row 2"):
            from_table(table, views={"image": "vector", "text": "text"}, key="id")

    def test_vectors_with_lists_of_captions(self):
        table = {"image": np.eye(2), "text": [["x", "y"], ["z"]]}
        views = from_table(table)["all"].views
        assert views.distinct("image")[0].shape == (2, 2)
        assert views.distinct("image")[1].tolist() == [0, 0, 1]

    def test_lists_in_two_views(self, pictures):
        table = {"a": [["x"], ["y"]], "b": [["u"], ["v", "w"]]}
        with pytest.raises(ValueError, match="one view may have several entries per row, got a, b"):
            from_table(table, views={"a": "a", "b": "b"})
        with pytest.raises(ValueError, match="'image' must have one path per row, got lists"):
            from_table({"image": [["a.jpg"], ["b.jpg"]], "text": ["x", "y"]})
        with pytest.raises(ValueError, match=r"list of captions in every row .* got str in row 1"):
            from_table({"image": ["a.jpg", "b.jpg"], "text": [["x"], "y"]}, root=pictures)

    @pytest.mark.parametrize("medium", ["images", "audio"])
    def test_json_as_coco_has_it(self, pictures, medium):
        view = medium.removesuffix("s")
        content = {
            "info": {"year": 2014},
            medium: [{"id": 9, "file_name": "a.jpg", "part": "train"},
                     {"id": 4, "file_name": "b.jpg", "part": "test"},
                     {"id": 5, "file_name": "c.jpg", "part": "test"}],
            "annotations": [{"id": 3, f"{view}_id": 9, "caption": "x"},
                            {"id": 2, f"{view}_id": 4, "caption": "y"},
                            {"id": 1, f"{view}_id": 9, "caption": "z"}],
        }  # fmt: skip
        path = pictures / "captions.json"
        path.write_text(json.dumps(content))
        ds = from_table(path, split="part", info=(f"{view}_id", "caption_id"))
        assert ds["train"].views.names == (view, "text")
        assert list(ds["train"].views["text"]) == ["z", "x"] and list(ds["test"].views["text"]) == [
            "y"
        ]
        assert list(ds["train"].info["caption_id"]) == [1, 3]
        assert len(ds["train"].views.distinct(view)[0]) == 1
        content["annotations"][0][f"{view}_id"] = 77
        path.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=rf"annotations of 1 {view}_id .* does not list: 77"):
            from_table(path)
        del content["annotations"][0]["caption"]
        path.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=rf"{view}_id and caption \(KeyError: 'caption'\)"):
            from_table(path)
        content[medium][1]["id"] = 9
        path.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=f"the id 9 occurs twice in {medium}"):
            from_table(path)

    def test_json_as_karpathy_has_it(self, pictures):
        images = [
            {"filename": name, "split": part, "sentences": [{"raw": " x "}, {"raw": "y"}]}
            for name, part in (("a.jpg", "train"), ("b.jpg", "test"))
        ]
        path = pictures / "dataset_own.json"
        path.write_text(json.dumps({"images": images, "dataset": "own"}))
        ds = from_table(path, split="split")
        assert list(ds.splits) == ["train", "test"]
        assert list(ds["test"].views["text"]) == ["x", "y"]
        del images[1]["filename"]
        path.write_text(json.dumps({"images": images, "dataset": "own"}))
        with pytest.raises(ValueError, match=r"image 1 does not \(KeyError: 'filename'"):
            from_table(path)

    def test_json_with_records_inside(self, pictures):
        path = pictures / "t.json"
        path.write_text(json.dumps({"version": 1, "data": [{"audio": "a.jpg", "caption": "x"}]}))
        assert from_table(path)["all"].views.names == ("audio", "text")


class TestVectors:
    @pytest.mark.parametrize("kind", ["list", "fixed", "large", "half"])
    def test_vectors_in_parquet(self, tmp_path, kind):
        pyarrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        rng = np.random.default_rng(0)
        vectors = rng.normal(size=(50, 3)).astype(np.float16 if kind == "half" else np.float32)
        number = pyarrow.float16() if kind == "half" else pyarrow.float32()
        types = {
            "fixed": pyarrow.list_(number, 3), "large": pyarrow.large_list(number),
        }  # fmt: skip
        column = pyarrow.array(list(vectors), types.get(kind, pyarrow.list_(number)))
        table = pyarrow.table({"emb": column, "caption": [f"t{i}" for i in range(50)]})
        parquet.write_table(table, tmp_path / "t.parquet", row_group_size=7)
        for source in (tmp_path / "t.parquet", table, table.slice(0, 50)):
            views = from_table(source, views={"image": "emb", "text": "caption"})["all"].views
            assert views["image"].dtype == vectors.dtype
            np.testing.assert_array_equal(views["image"], vectors)
        part = from_table(table.slice(3, 9), views={"image": "emb", "text": "caption"})["all"].views
        np.testing.assert_array_equal(part["image"], vectors[3:12])

    def test_other_sources_of_vectors(self):
        vectors = np.arange(6.0).reshape(3, 2)
        rows = [row.tolist() for row in vectors]
        for column in (vectors, rows, list(vectors), [tuple(row) for row in rows]):
            found = from_table({"image": column, "text": list("xyz")})["all"].views["image"]
            np.testing.assert_array_equal(found, vectors)
        frame = pd.DataFrame({"image": list(vectors), "text": list("xyz")})
        np.testing.assert_array_equal(from_table(frame)["all"].views["image"], vectors)
        frame = pytest.importorskip("polars").DataFrame({"image": rows, "text": list("xyz")})
        np.testing.assert_array_equal(from_table(frame)["all"].views["image"], vectors)

    def test_regions(self):
        pyarrow = pytest.importorskip("pyarrow")
        even = np.arange(12.0).reshape(2, 3, 2)
        table = pyarrow.table({"image": even.tolist(), "text": ["x", "y"]})
        np.testing.assert_array_equal(from_table(table)["all"].views["image"], even)
        ragged = from_table({"image": [even[0], even[1][:1]], "text": ["x", "y"]})["all"].views
        assert isinstance(ragged["image"], Ragged) and ragged["image"].lengths.tolist() == [3, 1]

    def test_vectors_of_unequal_size(self):
        pyarrow = pytest.importorskip("pyarrow")
        table = {"image": [[1.0, 2.0], [3.0]], "text": ["x", "y"]}
        with pytest.raises(ValueError, match="'image' must hold vectors of one size: got sizes 1"):
            from_table(table)
        with pytest.raises(ValueError, match="'image' must hold vectors of one size, got sizes 1"):
            from_table(pyarrow.table(table))
        table["image"] = [[1.0, 2.0], None]
        with pytest.raises(ValueError, match="'image' has no vector in 1 rows"):
            from_table(table)
        with pytest.raises(ValueError, match="'image' has no vector in 1 rows"):
            from_table(pyarrow.table(table))
        table["image"] = [[1.0, 2.0], [3.0, None]]
        with pytest.raises(ValueError, match="'image' holds vectors with missing numbers"):
            from_table(pyarrow.table(table))

    def test_the_revision_follows_the_vectors(self):
        table = {"image": np.eye(2), "text": ["x", "y"]}
        first = from_table(table).revision
        assert from_table({**table, "image": [[1.0, 0.0], [0.0, 1.0]]}).revision == first
        assert from_table({**table, "image": 2 * np.eye(2)}).revision != first


class TestFiles:
    def test_missing_files_raise_or_are_left_out(self, pictures):
        table = {"image": ["a.jpg", "gone.jpg", "b.jpg"], "text": ["x", "y", " "]}
        with pytest.raises(ValueError, match=r"column 'text' is empty in 1 of 3 rows .*: 2; fill"):
            from_table(table, root=pictures)
        table["text"][2] = "z"
        with pytest.raises(FileNotFoundError, match=r"gone\.jpg; relative paths start at '.*skip"):
            from_table(table, root=pictures)
        table["text"][2] = ""
        with pytest.warns(UserWarning) as caught:
            ds = from_table(table, root=pictures, invalid="skip")
        assert str(caught[0].message) == (
            "the table: left out 2 of 3 rows: column 'text' is empty in 1 (rows 2, counted from "
            "0); the file of view 'image' does not exist in 1 (rows 1, counted from 0)"
        )
        assert list(ds["all"].views["text"]) == ["x"]
        assert (
            ds.revision == from_table({"image": ["a.jpg"], "text": ["x"]}, root=pictures).revision
        )
        table["image"] = ["gone.jpg"] * 3
        with pytest.raises(ValueError, match="the table has no row that can be used: column"):
            from_table(table, root=pictures, invalid="skip")

    @pytest.mark.skipif(os.name == "nt", reason="these are the paths of Windows")
    def test_paths_of_windows(self, pictures):
        touch(pictures, "pics/x.jpg", "od\\d.jpg")
        table = {"image": ["pics\\x.jpg", ".\\a.jpg", "od\\d.jpg"], "text": list("xyz")}
        views = from_table(table, root=pictures)["all"].views
        assert [os.path.relpath(path, pictures) for path in views["image"]] == [
            "pics/x.jpg", "a.jpg", "od\\d.jpg",
        ]  # fmt: skip
        table["image"][0] = "C:\\Users\\me\\x.jpg"
        with pytest.raises(FileNotFoundError, match=r"the letter of a drive .* relative to"):
            from_table(table, root=pictures)
        table["image"][0] = "https://example.org/x.jpg"
        with pytest.raises(FileNotFoundError, match=r"addresses on the web .* download the files"):
            from_table(table, root=pictures)

    def test_one_path_written_in_two_ways_is_one_item(self, pictures):
        table = {"image": ["a.jpg", "./a.jpg", str(pictures / "a.jpg")], "text": list("xyz")}
        assert len(from_table(table, root=pictures)["all"].views.distinct("image")[0]) == 1

    def test_repeated_pairs_and_copies_are_counted(self, pictures):
        (pictures / "b.jpg").write_bytes((pictures / "a.jpg").read_bytes())
        table = {"image": ["a.jpg", "b.jpg", "a.jpg", "a.jpg"], "text": ["x", "x", "x", "y"]}
        with pytest.warns(UserWarning) as caught:
            ds = from_table(table, root=pictures)
        messages = [str(each.message) for each in caught]
        assert messages[0].startswith("1 of 2 files have the same content as another one")
        assert messages[1].startswith("the table: 1 of 4 rows repeat the pair of an earlier row")
        assert len(ds["all"]) == 4

    def test_what_the_revision_depends_on(self, pictures, monkeypatch):
        def revisions():
            table = {"image": ["a.jpg", "b.jpg"], "text": ["x", "y"]}
            names = ("content", "sizes", "names", "auto")
            return {n: from_table(table, root=pictures, revision=n).revision for n in names}

        first = revisions()
        assert len(set(first.values())) == 3 and first["auto"] == first["content"]
        (pictures / "a.jpg").write_bytes(b"A.jpg")  # of the same size
        second = revisions()
        assert {n for n in first if first[n] != second[n]} == {"content", "auto"}
        (pictures / "a.jpg").write_bytes(b"longer than before")
        third = revisions()
        assert {n for n in first if third[n] != second[n]} == {"content", "sizes", "auto"}
        monkeypatch.setattr("crossfit.datasets.tables.READ_AT_MOST", 20)
        assert revisions()["auto"] == third["sizes"]
        os.remove(pictures / "a.jpg")
        table = {"image": ["a.jpg", "b.jpg"], "text": ["x", "y"]}
        assert from_table(table, root=pictures, revision="names").revision == first["names"]

    def test_no_file_is_opened_before_it_is_asked_for(self, pictures, monkeypatch):
        import builtins
        import pathlib

        def refuse(*args, **kwargs):
            raise AssertionError("a file was opened")

        monkeypatch.setattr(builtins, "open", refuse)
        monkeypatch.setattr(pathlib.Path, "open", refuse)
        ds = from_table({"image": ["a.jpg"], "text": ["x"]}, root=pictures, revision="sizes")
        assert ds["all"].views["image"][0] == str(pictures / "a.jpg")

    def test_pictures_in_the_table(self):
        from PIL import Image

        pixels = np.zeros((2, 2, 3), np.uint8)
        one = Image.fromarray(pixels)
        for column in ([pixels, pixels + 1], [one, Image.fromarray(pixels + 1)]):
            ds = from_table({"image": column, "text": ["x", "y"]})
            np.testing.assert_array_equal(ds["all"].views["image"][0], np.asarray(column[0]))
            again = from_table({"image": column, "text": ["x", "y"]})
            assert ds.revision == again.revision


class TestLabels:
    def test_lists_of_classes(self):
        table = {"image": np.eye(3), "text": list("xyz"), "tags": [["b", "a"], [], ["a"]]}
        ds = from_table(table, label="tags")
        assert ds.target_names == ("a", "b") and ds.card.labels == "multi"
        np.testing.assert_array_equal(ds["all"].y, [[1, 1], [0, 0], [1, 0]])

    def test_class_numbers_with_names(self):
        datasets = pytest.importorskip("datasets")
        features = datasets.Features(
            {
                "image": datasets.List(datasets.Value("float32")),
                "text": datasets.Value("string"),
                "kind": datasets.ClassLabel(names=["dog", "cat", "bird"]),
            }
        )
        table = {"image": np.eye(3).tolist(), "text": list("xyz"), "kind": [1, 0, -1]}
        ds = from_table(datasets.Dataset.from_dict(table, features), label="kind")
        assert ds.target_names == ("dog", "cat", "bird") and ds["all"].y.tolist() == [1, 0, -1]

    def test_categories_of_pandas(self):
        frame = pd.DataFrame({"image": list(np.eye(2)), "text": list("xy"), "kind": ["v", "u"]})
        ds = from_table(frame.astype({"kind": "category"}), label="kind")
        assert ds.target_names == ("u", "v") and ds["all"].y.tolist() == [1, 0]


class TestBadTables:
    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            (
                "t.jsonl",
                '{"image": "a.jpg", "text": "x"}\n{"image": \n',
                r"jsonl, line 2: not valid",
            ),
            ("t.jsonl", '["a.jpg", "x"]\n', r"line 1: expected a JSON object .* got list"),
            ("t.jsonl", "", "no column 'image', 'text': it has none"),
            ("t.json", "{", r"t\.json is not valid JSON"),
            ("t.json", "[" * 100_000, r"t\.json is not valid JSON"),
            ("t.json", '"text"', r"t\.json must hold a list of objects .* got a str"),
            ("t.json", '{"a": 1}', r"must hold a list of objects .* got an object with a"),
            ("t.json", '{"images": [3], "annotations": []}', r"images with id and file_name"),
            ("t.parquet", "PAR1 and no more", r"t\.parquet' is not a parquet file"),
            ("t.arrow", "ARROW1", r"t\.arrow' is not an Arrow file"),
            ("t.xlsx", "PK", r"t\.xlsx' is not a table .*: save the sheet as CSV"),
            ("t.pkl", "x", r"t\.pkl' is not a table .* does not unpickle"),
            ("t.csv.gz", "x", r"decompress it first"),
        ],
    )
    def test_files(self, pictures, name, content, message):
        if name.endswith(("parquet", "arrow")):
            pytest.importorskip("pyarrow")
        (pictures / name).write_text(content)
        with pytest.raises(ValueError, match=message):
            from_table(pictures / name)

    def test_places(self, pictures):
        with pytest.raises(FileNotFoundError, match=r"there is no table '.*gone\.parquet'"):
            from_table(pictures / "gone.parquet")
        with pytest.raises(FileNotFoundError, match=r"no file matches '.*gone-\*\.csv'"):
            from_table(pictures / "gone-*.csv")
        with pytest.raises(ValueError, match="is a folder: read a folder of files with from_fold"):
            from_table(pictures)

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            (3, "path of a table, a table with named columns, or a list of records, got int"),
            ([1, 2], "got list"),
            (None, "got NoneType"),
            (np.eye(2), "got ndarray"),
        ],
    )
    def test_sources(self, source, message):
        with pytest.raises(TypeError, match=message):
            from_table(source)

    def test_mappings(self):
        with pytest.raises(ValueError, match="the same length, got image: 2, text: 1"):
            from_table({"image": [[1.0], [2.0]], "text": ["x"]})

    def test_parquet_cut_short(self, pictures):
        path = as_parquet(pictures)
        content = path.read_bytes()
        (pictures / "cut.parquet").write_bytes(content[: len(content) // 2])
        with pytest.raises(ValueError, match=r"cut\.parquet' is not a parquet file"):
            from_table(pictures / "cut.parquet")

    def test_shards_with_other_columns(self, pictures):
        (pictures / "t-0.csv").write_text("image,text,more\na.jpg,x,1\n")
        (pictures / "t-1.csv").write_text("image,text\nb.jpg,y\n")
        files = [pictures / "t-0.csv", pictures / "t-1.csv"]
        assert len(from_table(files)["all"]) == 2
        with pytest.raises(ValueError, match="no column 'more': it has image, text"):
            from_table(files, label="more")

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"text": []}, "view 'text' needs a column"),
            ({"image": 3}, "'image' parameter of from_table must be"),
            ({"invalid": "drop"}, "'invalid' parameter of from_table must be"),
            ({"revision": "all"}, "'revision' parameter of from_table must be"),
            ({"info": "kind"}, "info must be a list of names"),
            ({"key": "id"}, "no column 'id'"),
            ({"views": {"image": ["image", "text"], "text": "text"}}, "must have one column"),
        ],
        ids=str,
    )
    def test_arguments(self, pictures, options, message):
        with pytest.raises(ValueError, match=message):
            from_table({"image": ["a.jpg"], "text": ["x"]}, root=pictures, **options)
