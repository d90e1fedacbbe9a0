"""Users' own pairs: tables and folders."""

import hashlib
import os

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfit.datasets import from_csv, from_folder


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


@pytest.fixture
def pictures(tmp_path):
    touch(tmp_path, "pics/a.jpg", "pics/b.jpg", "pics/c.jpg")
    return tmp_path


def write(folder, content, name="pairs.csv"):
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


class TestFromCsv:
    def test_plain_pairs(self, pictures):
        path = write(pictures, 'image,text\npics/a.jpg,"one, two"\npics/b.jpg,über\n')
        ds = from_csv(path)
        assert ds.name == "pairs" and list(ds.splits) == ["all"]
        assert ds["all"].y is None and ds.target_names is None
        assert list(ds["all"].views["text"]) == ["one, two", "über"]
        assert list(ds["all"].views["image"]) == [
            str(pictures / "pics/a.jpg"),
            str(pictures / "pics/b.jpg"),
        ]
        assert ds.card.labels == "none" and dict(ds.card.counts) == {"all": 2}

    def test_repeated_pictures_have_several_captions(self, pictures):
        path = write(
            pictures,
            "text,image\nx,pics/b.jpg\ny,pics/a.jpg\nz,pics/b.jpg\n",
        )
        views = from_csv(path)["all"].views
        values, row_to_item = views.distinct("image")
        assert [value.rsplit("/")[-1] for value in values] == ["b.jpg", "a.jpg"]
        np.testing.assert_array_equal(row_to_item, [0, 1, 0])
        assert list(views["text"]) == ["x", "y", "z"]
        assert views.names == ("image", "text")
        np.testing.assert_array_equal(views.groups, [0, 1, 0])
        # without labels the relevance is by pair: b.jpg has two right captions
        assert views.relevance("image", "text").toarray().sum(axis=1).tolist() == [2, 1]

    def test_labels_splits_and_groups(self, pictures):
        path = write(
            pictures,
            "image,text,kind,part,clip\n"
            "pics/a.jpg,x,dog,train,7\npics/b.jpg,y,cat,train,7\npics/c.jpg,z,,test,9\n",
        )
        ds = from_csv(path, label="kind", split="part", group="clip")
        assert list(ds.splits) == ["train", "test"] and ds.target_names == ("cat", "dog")
        np.testing.assert_array_equal(ds["train"].y, [1, 0])
        np.testing.assert_array_equal(ds["test"].y, [-1])
        np.testing.assert_array_equal(ds["train"].groups, [0, 0])
        assert ds.card.labels == "single"

    def test_numeric_labels_sort_as_numbers(self, pictures):
        frame = pd.DataFrame(
            {
                "image": [f"pics/{name}.jpg" for name in "abc"],
                "text": list("xyz"),
                "label": [10, 2, -1],
            }
        )
        ds = from_csv(frame, label="label", root=pictures)
        assert ds.target_names == ("2", "10")
        np.testing.assert_array_equal(ds["all"].y, [1, 0, -1])
        frame["label"] = [10, 2, np.nan]
        same = from_csv(frame, label="label", root=pictures)
        np.testing.assert_array_equal(same["all"].y, ds["all"].y)
        assert same.target_names == ds.target_names

    def test_other_views(self, pictures):
        touch(pictures, "s.wav", "t.wav")
        path = write(pictures, "file,lyrics,cover\ns.wav,la,pics/a.jpg\nt.wav,lo,pics/a.jpg\n")
        two = from_csv(path, views={"audio": "file", "text": "lyrics"})
        assert two["all"].views.names == ("audio", "text")
        assert two["all"].views["audio"][1] == str(pictures / "t.wav")
        three = from_csv(path, views={"audio": "file", "text": "lyrics", "image": "cover"})
        assert three["all"].views.names == ("audio", "text", "image")
        assert three.card.modalities == ("audio", "text", "image")
        texts = from_csv(path, views={"a": "file", "b": "lyrics"}, paths=())
        assert list(texts["all"].views["a"]) == ["s.wav", "t.wav"]

    def test_separators_byte_order_mark_and_long_entries(self, pictures):
        tabs = write(pictures, "\ufeffimage\ttext\npics/a.jpg\tone, two\n\n", "pairs.tsv")
        assert list(from_csv(tabs)["all"].views["text"]) == ["one, two"]
        semicolons = write(pictures, "image;text\npics/a.jpg;x\n")
        assert len(from_csv(semicolons, sep=";")["all"]) == 1
        with pytest.raises(ValueError, match=r"no column 'image', 'text': it has image;text"):
            from_csv(semicolons)
        long = write(pictures, f"image,text\npics/a.jpg,{'word ' * 100_000}\n")
        assert len(from_csv(long)["all"].views["text"][0]) == 500_000

    def test_a_frame_and_its_file_give_the_same(self, pictures):
        path = write(pictures, "image,text,kind\npics/a.jpg,x,u\npics/b.jpg,y,v\n")
        one = from_csv(path, label="kind")
        two = from_csv(pd.read_csv(path), label="kind", root=pictures)
        assert one.revision == two.revision and one.target_names == two.target_names
        assert list(one["all"].views["image"]) == list(two["all"].views["image"])

    def test_revision_follows_texts_and_files(self, pictures):
        revisions = {from_csv(write(pictures, "image,text\npics/a.jpg,x\n")).revision}
        revisions.add(from_csv(write(pictures, "image,text\npics/a.jpg,y\n")).revision)
        (pictures / "pics/a.jpg").write_bytes(b"longer than before")
        revisions.add(from_csv(write(pictures, "image,text\npics/a.jpg,y\n")).revision)
        os.mkdir(pictures / "b")
        touch(pictures, "b/pics/a.jpg")
        path = write(pictures / "b", "image,text\npics/a.jpg,y\n")
        for content in (b"as long as before.", b"As long as before."):
            (pictures / "b/pics/a.jpg").write_bytes(content)
            os.utime(pictures / "b/pics/a.jpg", ns=(0, content[0]))
            revisions.add(from_csv(path).revision)
        assert len(revisions) == 5

    def test_files_are_read_once_in_a_process(self, pictures, monkeypatch):
        path = write(pictures, "image,text\npics/a.jpg,x\npics/a.jpg,y\npics/b.jpg,z\n")
        read = []
        digest = hashlib.file_digest
        monkeypatch.setattr(
            hashlib, "file_digest", lambda file, name: read.append(file.name) or digest(file, name)
        )
        monkeypatch.chdir(pictures)
        assert from_csv(path).revision == from_csv("pairs.csv").revision
        assert read == [str(pictures / f"pics/{name}.jpg") for name in "ab"]

    def test_missing_files_are_reported_together(self, pictures):
        rows = "".join(f"pics/none{i}.jpg,t\n" for i in range(5))
        path = write(pictures, f"image,text\npics/a.jpg,t\n{rows}")
        with pytest.raises(FileNotFoundError, match=r"none0\.jpg, .*none2\.jpg and 2 more"):
            from_csv(path)

    @pytest.mark.parametrize(
        ("content", "options", "message"),
        [
            ("image,text\n", {}, "the table has no rows"),
            ("", {}, "no column 'image', 'text': it has none"),
            ("image,text\npics/a.jpg\n", {}, "line 2: expected 2 entries .* got 1"),
            ("image,text\npics/a.jpg,x,y\n", {}, "line 2: expected 2 entries .* got 3"),
            ("image,text\npics/a.jpg,x\npics/b.jpg, \n", {}, "column 'text' is empty in 1 of 2"),
            ("image,image\na,b\n", {}, "columns of the same name"),
            ("image,text\npics/a.jpg,x\n", {"label": "kind"}, "no column 'kind': it has image"),
            ("image,text\npics/a.jpg,x\n", {"views": {"image": "image"}}, "two views or more"),
            (
                "image,text,s\npics/a.jpg,x,train\npics/a.jpg,y,test\n",
                {"split": "s"},
                r"image '.*a\.jpg' is in the splits 'train' and 'test'",
            ),
            (
                "image,text,s,g\npics/a.jpg,x,train,1\npics/b.jpg,y,test,1\n",
                {"split": "s", "group": "g"},
                "g '1' is in the splits 'train' and 'test'",
            ),
        ],
    )
    def test_bad_tables(self, pictures, content, options, message):
        with pytest.raises(ValueError, match=message):
            from_csv(write(pictures, content), **options)

    def test_bad_sources(self, pictures):
        with pytest.raises(FileNotFoundError, match="there is no CSV file"):
            from_csv(pictures / "absent.csv")
        with pytest.raises(TypeError, match="path of a CSV file or a DataFrame, got list"):
            from_csv([1, 2])
        (pictures / "latin.csv").write_bytes("image,text\npics/a.jpg,über\n".encode("latin-1"))
        with pytest.raises(
            ValueError, match=r"latin\.csv' is not a text in UTF-8: line 2, .*cp1252"
        ):
            from_csv(pictures / "latin.csv")
        text = "image,text\npics/a.jpg,一只红色的大猫\n"
        (pictures / "chinese.csv").write_bytes(text.encode("gb18030"))
        with pytest.raises(ValueError, match=r"chinese\.csv' .*as UTF-8, .* such as 'gb18030'"):
            from_csv(pictures / "chinese.csv")
        ds = from_csv(pictures / "chinese.csv", encoding="gb18030")
        assert list(ds["all"].views["text"]) == ["一只红色的大猫"]
        ds = from_csv(pictures / "latin.csv", encoding="cp1252")
        assert list(ds["all"].views["text"]) == ["über"]
        with pytest.raises(ValueError, match="encoding must be one that Python has, got 'klingon'"):
            from_csv(pictures / "latin.csv", encoding="klingon")
        os.mkfifo(pictures / "pipe.csv")
        with pytest.raises(ValueError, match=r"is not a regular file$"):
            from_csv(pictures / "pipe.csv")
        frame = pd.DataFrame({"image": ["pics/a.jpg", None], "text": ["x", "y"]})
        with pytest.raises(ValueError, match="column 'image' is empty in 1 of 2 rows"):
            from_csv(frame, root=pictures)

    def test_spaces_are_no_part_of_splits_and_groups_and_nan_is_neither(self, pictures):
        rows = "image,text,of\npics/a.jpg,x, one\npics/b.jpg,y,one \n"
        (pictures / "spaces.csv").write_text(rows)
        assert list(from_csv(pictures / "spaces.csv", split="of").splits) == ["one"]
        views = from_csv(pictures / "spaces.csv", group="of")["all"].views
        assert len(set(views.groups)) == 1
        (pictures / "nan.csv").write_text(rows.replace("one ", "nan").replace(" one", "NaN"))
        for column in ("split", "group"):
            with pytest.raises(ValueError, match="column 'of' is empty in 2 of 2 rows"):
                from_csv(pictures / "nan.csv", **{column: "of"})

    @pytest.mark.parametrize(
        ("content", "line"),
        [
            ('pics/a.jpg,"a cat\npics/b.jpg,a dog\npics/c.jpg,a "bird\npics/a.jpg,x\n', 2),
            ('pics/a.jpg,x\npics/b.jpg,"a dog\npics/c.jpg,a bird\n', 3),
            ('pics/a.jpg,"a cat" sits\npics/b.jpg,x\n', 2),
            ('pics/a.jpg,"two\nlines"\npics/b.jpg,"' + "x" * 2**24 + "\n", 4),
        ],
    )
    def test_a_quote_that_is_not_closed_swallows_no_rows(self, pictures, content, line):
        path = write(pictures, f"image,text\n{content}")
        with pytest.raises(ValueError, match=rf"pairs\.csv, line {line}: a double quote opens"):
            from_csv(path)

    def test_quotes_that_are_closed(self, pictures):
        path = write(
            pictures, 'image,text\npics/a.jpg,"he said ""hi"",\nthen left"\npics/b.jpg,5" pipe\n'
        )
        texts = list(from_csv(path)["all"].views["text"])
        assert texts == ['he said "hi",\nthen left', '5" pipe']

    @pytest.mark.parametrize("through_pandas", [False, True])
    def test_what_is_no_label(self, pictures, through_pandas):
        path = write(
            pictures,
            "image,text,kind\n"
            + "".join(
                f"pics/a.jpg,t{i},{kind}\n" for i, kind in enumerate(["nan", "-1.0", "-1", "NaN"])
            )
            + "pics/b.jpg,x,2.0\npics/c.jpg,y,10\npics/b.jpg,z,\n",
        )
        source = pd.read_csv(path, dtype=object) if through_pandas else path
        ds = from_csv(source, label="kind", root=pictures)
        assert ds.target_names == ("2", "10")
        by_text = dict(zip(ds["all"].views["text"], ds["all"].y.tolist()))
        assert by_text == {"t0": -1, "t1": -1, "t2": -1, "t3": -1, "x": 0, "y": 1, "z": -1}

    def test_labels_of_words_keep_their_form(self, pictures):
        frame = pd.DataFrame(
            {
                "image": [f"pics/{name}.jpg" for name in "abc"],
                "text": list("xyz"),
                "label": ["1.0", "v1.0", "-1.0"],
            }
        )
        ds = from_csv(frame, label="label", root=pictures)
        assert ds.target_names == ("1.0", "v1.0") and ds["all"].y.tolist() == [0, 1, -1]
        frame["label"] = ["007", "7", "07"]
        assert len(from_csv(frame, label="label", root=pictures).target_names) == 3

    def test_header_names_and_trailing_separators(self, pictures):
        path = write(pictures, " Image , TEXT,,\npics/a.jpg,x,,\npics/b.jpg,y\n,,,\n")
        views = from_csv(path)["all"].views
        assert list(views["text"]) == ["x", "y"] and views["image"][0].endswith("pics/a.jpg")
        with pytest.raises(ValueError, match=r"line 3: expected 2 entries .* got 3"):
            from_csv(write(pictures, "image,text,\npics/a.jpg,x,\npics/b.jpg,y,z\n"))
        both = write(pictures, "image,Text,TEXT\npics/a.jpg,x,y\n")
        with pytest.raises(ValueError, match="several columns that may be 'text': 'Text', 'TEXT'"):
            from_csv(both)
        exact = write(pictures, "image,Text,text\npics/a.jpg,x,y\n")
        assert list(from_csv(exact)["all"].views["text"]) == ["y"]

    @pytest.mark.parametrize("sep", [";", "\t", "|"])
    @pytest.mark.parametrize("text", ["x", "x, y, z", 'an "open quote'])
    def test_a_hint_at_the_separator(self, pictures, sep, text):
        path = write(pictures, f"image{sep}text\npics/a.jpg{sep}{text}\n")
        with pytest.raises(ValueError, match="Then give sep=") as raised:
            from_csv(path)
        assert str(raised.value).endswith(f"sep={sep!r}")

    def test_texts_that_read_as_numbers(self, pictures):
        path = write(pictures, "image,text\npics/a.jpg,007\npics/b.jpg,12\npics/c.jpg,1e5\n")
        assert list(from_csv(path)["all"].views["text"]) == ["007", "12", "1e5"]
        frame = pd.DataFrame({"image": ["pics/a.jpg", "pics/b.jpg"], "text": [7, 12]})
        for column in (frame["text"], frame["text"].astype("Int64"), frame["text"].astype(bool)):
            found = from_csv(frame.assign(text=column), root=pictures)["all"].views["text"]
            assert list(found) == list(map(str, column)) and all(type(t) is str for t in found)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"sep": ""}, "sep must be one character"),
            ({"sep": "::"}, "sep must be one character"),
            ({"sep": '"'}, "sep must be one character"),
            ({"sep": 5}, "'sep' parameter of from_csv must be"),
            ({"views": ["image", "text"]}, "'views' parameter of from_csv must be"),
            ({"views": {"image": 1, "text": "text"}}, "views must map the names of views"),
            ({"views": {"image": None, 2: "text"}}, "views must map the names of views"),
            ({"views": {}}, "two views or more, got none"),
            ({"paths": "image"}, "paths must be a collection of names of views"),
            ({"paths": None}, "'paths' parameter of from_csv must be"),
            ({"label": 3}, "'label' parameter of from_csv must be"),
            ({"root": 3}, "'root' parameter of from_csv must be"),
            ({"image": None}, "'image' parameter of from_csv must be"),
            ({"encoding": None}, "'encoding' parameter of from_csv must be"),
        ],
        ids=str,
    )
    def test_bad_arguments(self, pictures, options, message):
        path = write(pictures, "image,text\npics/a.jpg,x\n")
        with pytest.raises(ValueError, match=message):
            from_csv(path, **options)

    @given(
        rows=st.lists(
            st.tuples(st.sampled_from("abc"), st.text('uvw ,"\n', min_size=1)), min_size=1
        )
    )
    @settings(max_examples=60, deadline=None)
    def test_every_pair_survives(self, tmp_path_factory, rows):
        folder = tmp_path_factory.mktemp("own")
        touch(folder, "a.jpg", "b.jpg", "c.jpg")
        rows = [(image, text) for image, text in rows if text.strip()]
        if not rows:
            return
        frame = pd.DataFrame({"image": [f"{i}.jpg" for i, _ in rows], "text": [t for _, t in rows]})
        frame.to_csv(folder / "t.csv", index=False)
        views = from_csv(folder / "t.csv")["all"].views
        found = [
            (path.removesuffix(".jpg")[-1], text)
            for path, text in zip(views["image"], views["text"])
        ]
        assert found == rows
        if len(views.distinct("image")[0]) < len(rows):
            assert len(views.distinct("image")[0]) == len({image for image, _ in rows})


class TestFromFolder:
    def test_classes_and_single_texts(self, tmp_path):
        touch(tmp_path, "dog/1.jpg", "cat/1.PNG", "cat/2.webp")
        for name in ("dog/1.txt", "cat/1.txt", "cat/2.txt"):
            (tmp_path / name).write_text(f"about {name}\n")
        touch(tmp_path, ".hidden/x.jpg", "cat/.DS_Store")
        ds = from_folder(tmp_path)
        assert ds.target_names == ("cat", "dog") and ds.name == tmp_path.name
        np.testing.assert_array_equal(ds["all"].y, [0, 0, 1])
        assert list(ds["all"].views["text"]) == [
            "about cat/1.txt",
            "about cat/2.txt",
            "about dog/1.txt",
        ]
        np.testing.assert_array_equal(ds["all"].groups, [0, 1, 2])

    def test_several_captions(self, tmp_path):
        touch(tmp_path, "x/a.jpg", "y/b.jpg")
        (tmp_path / "x/a.txt").write_text("one\n\n two \nthree")
        (tmp_path / "y/b.txt").write_text("four")
        ds = from_folder(tmp_path)
        views = ds["all"].views
        assert list(views["text"]) == ["one", "two", "three", "four"]
        assert len(views.distinct("image")[0]) == 2
        np.testing.assert_array_equal(views.distinct("image")[1], [0, 0, 0, 1])
        np.testing.assert_array_equal(ds["all"].y, [0, 0, 0, 1])

    def test_flat(self, tmp_path):
        touch(tmp_path, "b.jpg", "a.jpg")
        for name in "ab":
            (tmp_path / f"{name}.txt").write_text(name)
        ds = from_folder(str(tmp_path))
        assert ds["all"].y is None and ds.target_names is None
        assert [path[-5] for path in ds["all"].views["image"]] == ["a", "b"]
        assert list(ds["all"].views["text"]) == ["a", "b"]

    def test_revision(self, tmp_path):
        touch(tmp_path, "a.jpg")
        (tmp_path / "a.txt").write_text("a")
        first = from_folder(tmp_path).revision
        assert first == from_folder(tmp_path).revision
        (tmp_path / "a.jpg").write_bytes(b"A.jpg")
        second = from_folder(tmp_path).revision
        (tmp_path / "a.txt").write_text("b")
        assert len({first, second, from_folder(tmp_path).revision}) == 3

    def test_errors(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="there is no folder"):
            from_folder(tmp_path / "absent")
        with pytest.raises(ValueError, match=r"holds no pictures .* only 0 other files"):
            from_folder(tmp_path)
        touch(tmp_path, "k/a.jpg", "k/b.jpg", "k/c.jpg", "k/c.png")
        for name in "acd":
            (tmp_path / f"k/{name}.txt").write_text("t")
        with pytest.raises(ValueError) as caught:
            from_folder(tmp_path)
        for part in (
            "pictures without a text: k/b.jpg",
            "texts without a picture: k/d.txt",
            "texts with several pictures: k/c.txt",
        ):
            assert part in str(caught.value)
        assert "k/a" not in str(caught.value).partition("there are")[2]
        for name in ("b.jpg", "c.png", "d.txt"):
            (tmp_path / "k" / name).unlink()
        touch(tmp_path, "loose.jpg", "loose.txt")
        with pytest.raises(ValueError, match=r"lie outside: loose\.jpg"):
            from_folder(tmp_path)
        (tmp_path / "loose.jpg").unlink()
        (tmp_path / "loose.txt").unlink()
        (tmp_path / "k/a.txt").write_text(" \n")
        with pytest.raises(ValueError, match=r"a\.txt' is empty: expected one caption per line"):
            from_folder(tmp_path)
        (tmp_path / "k/a.txt").write_bytes(b"\xff\xfe\xff")
        with pytest.raises(ValueError, match=r"a\.txt' is not a text in UTF-8: line 1, byte 0xff"):
            from_folder(tmp_path)

    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    def test_only_newlines_end_a_line(self, tmp_path, end):
        touch(tmp_path, "a.jpg")
        captions = ["one\u2028still one", "two\x85two", "three\vthree\fthree\x1cthree"]
        (tmp_path / "a.txt").write_bytes(end.join(captions).encode())
        assert list(from_folder(tmp_path)["all"].views["text"]) == captions

    def test_a_whole_file_is_one_text(self, tmp_path):
        from PIL import Image

        for name in "ab":
            Image.new("RGB", (4, 4), "red" if name == "a" else "blue").save(
                tmp_path / f"{name}.png"
            )
            (tmp_path / f"{name}.txt").write_text(
                f"\n Title {name} \n\nfirst line\nsecond line\n\n"
            )
        lines, whole = from_folder(tmp_path), from_folder(tmp_path, captions="whole")
        assert len(lines["all"]) == 6 and len(whole["all"]) == 2
        assert list(whole["all"].views["text"]) == [
            f"Title {name}\n\nfirst line\nsecond line" for name in "ab"
        ]
        assert lines.revision != whole.revision
        with pytest.raises(ValueError, match=r"'captions' .* must be a str among"):
            from_folder(tmp_path, captions="all")

    def test_linked_folders_and_files(self, tmp_path):
        touch(tmp_path, "far/dog/1.jpg", "far/2.jpg")
        (tmp_path / "far/dog/1.txt").write_text("a dog")
        near = tmp_path / "near"
        (near / "cat").mkdir(parents=True)
        (near / "dog").symlink_to(tmp_path / "far/dog")
        (near / "cat/2.jpg").symlink_to(tmp_path / "far/2.jpg")
        (near / "cat/2.txt").write_text("a cat")
        ds = from_folder(near)
        assert list(ds["all"].views["text"]) == ["a cat", "a dog"]
        assert ds.target_names == ("cat", "dog")
        (near / "cat/3.jpg").symlink_to(tmp_path / "nowhere.jpg")
        (near / "cat/3.txt").write_text("gone")
        with pytest.raises(ValueError, match=r"links or pipes that are not files: cat/3\.jpg"):
            from_folder(near)
        (near / "cat/3.jpg").unlink()
        (near / "cat/3.txt").unlink()
        (near / "cat/loop").symlink_to(near)
        with pytest.raises(ValueError, match="is a link to a folder that contains it"):
            from_folder(near)

    def test_folders_named_as_splits(self, tmp_path):
        for place in ("train/cat/1", "train/dog/1", "test/cat/9", "val/dog/5"):
            touch(tmp_path, f"{place}.jpg")
            (tmp_path / f"{place}.txt").write_text(place)
        ds = from_folder(tmp_path)
        assert list(ds.splits) == ["train", "val", "test"] and ds.target_names == ("cat", "dog")
        assert [ds[name].y.tolist() for name in ds.splits] == [[0, 1], [1], [0]]
        assert list(ds["test"].views["text"]) == ["test/cat/9"]
        assert dict(ds.card.counts) == {"train": 2, "val": 1, "test": 1}
        for name in ("train/cat", "train/dog", "test/cat", "val/dog"):
            for file in list((tmp_path / name).iterdir()):
                file.rename(tmp_path / name.split("/")[0] / f"{name[-3:]}{file.name}")
        flat = from_folder(tmp_path)
        assert list(flat.splits) == ["train", "val", "test"] and flat.target_names is None
        # A class may be named train if other folders are not splits.
        (tmp_path / "val").rename(tmp_path / "bus")
        assert from_folder(tmp_path).target_names == ("bus", "test", "train")
        (tmp_path / "bus").rename(tmp_path / "val")
        touch(tmp_path, "val/cat/x.jpg")
        (tmp_path / "val/cat/x.txt").write_text("x")
        with pytest.raises(
            ValueError, match="class folders of test, train, val, but these lie outs"
        ):
            from_folder(tmp_path)

    def test_every_kind_of_picture_that_is_read(self, tmp_path):
        names = ("a.jfif", "b.AVIF", "c.jpe", "d.tiff", "e.webp")
        touch(tmp_path, *names)
        for name in names:
            (tmp_path / name).with_suffix(".txt").write_text(name)
        assert list(from_folder(tmp_path)["all"].views["text"]) == list(names)
        touch(tmp_path, "f.heic")
        (tmp_path / "f.txt").write_text("f")
        with pytest.raises(ValueError, match=r"f\.txt \(next to f\.heic, which is not among \.jpg"):
            from_folder(tmp_path)

    @pytest.mark.parametrize("path", [None, 3, ["a"]])
    def test_bad_arguments(self, path):
        with pytest.raises(ValueError, match="'path' parameter of from_folder must be"):
            from_folder(path)
