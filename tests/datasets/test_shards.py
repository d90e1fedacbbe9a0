"""Tar shards in the layout of webdataset, and files inside other files."""

import io
import json
import os
import pickle
import tarfile

import numpy as np
import pytest
from PIL import Image

from crossfit._packed import file_size, read_file
from crossfit.datasets import from_table, from_webdataset, read_pairs
from crossfit.extraction import GridFeatures, load_rgb
from crossfit.views import Views


def picture(colour, kind="PNG"):
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(stream, kind)
    return stream.getvalue()


def write_tar(path, members, mode="w"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:
        for name, content in members:
            content = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def as_open_clip(path, names=("a", "b")):
    """A shard as img2dataset writes it."""
    members = []
    for i, name in enumerate(names):
        members += [
            (f"{name}.jpg", picture((50 * i, 0, 0), "JPEG")),
            (f"{name}.txt", f"caption {name}"),
            (f"{name}.json", json.dumps({"caption": "other", "url": f"u{i}", "width": i})),
        ]
    return write_tar(path, members)


def as_clip_benchmark(folder, retrieval=True):
    """Folders of splits as CLIP_benchmark writes them."""
    for part, count in (("test", 2), ("train", 1)):
        for k in range(count):
            members = []
            for i in range(2):
                members.append((f"s{i:07d}.webp", picture((k, 90 * i, 0), "WEBP")))
                members.append(
                    (f"s{i:07d}.txt", f"one {k}{i}\ntwo {k}{i}")
                    if retrieval
                    else (f"s{i:07d}.cls", str(i))
                )
            write_tar(folder / part / f"{k}.tar", members)
        (folder / part / "nshards.txt").write_text(f"{count}\n")
    if not retrieval:
        (folder / "classnames.txt").write_text("black cat\ngreen frog\n")
    return folder


class TestFromWebdataset:
    def test_shards_of_open_clip(self, tmp_path):
        for k in range(2):
            as_open_clip(tmp_path / f"shards/{k:05d}.tar", (f"a{k}", f"b{k}"))
        sources = (
            tmp_path / "shards/{00000..00001}.tar",
            str(tmp_path / "shards/*.tar"),
            [tmp_path / "shards/00000.tar", tmp_path / "shards/00001.tar"],
            tmp_path / "shards",
        )
        found = [from_webdataset(source, info=("json.url", "__key__")) for source in sources]
        assert len({ds.revision for ds in found}) == 1
        split = found[0]["all"]
        assert list(split.views["text"]) == [f"caption {n}" for n in ("a0", "b0", "a1", "b1")]
        assert split.views["image"][3] == f"{tmp_path}/shards/00001.tar::b1.jpg"
        assert list(split.info["json.url"]) == ["u0", "u1"] * 2
        assert list(split.info["__key__"]) == ["a0", "b0", "a1", "b1"]
        assert load_rgb(split.views["image"][3])[0, 0, 0] == pytest.approx(50, abs=3)
        one = from_webdataset(sources[0], text="json.caption")
        assert set(one["all"].views["text"]) == {"other"}
        assert from_table(tmp_path / "shards/00000.tar")["all"].views["text"][1] == "caption b0"

    def test_read_pairs_sees_shards(self, tmp_path):
        as_open_clip(tmp_path / "s/0.tar")
        for source in (tmp_path / "s/0.tar", tmp_path / "s"):
            assert len(read_pairs(source)["all"]) == 2
        assert list(read_pairs(as_clip_benchmark(tmp_path / "c")).splits) == ["train", "test"]

    def test_the_revision_does_not_depend_on_the_place(self, tmp_path):
        for name in ("x", "y/z"):
            as_open_clip(tmp_path / name / "0.tar")
        first, second = (from_webdataset(tmp_path / name) for name in ("x", "y/z"))
        assert first.revision == second.revision
        with open(tmp_path / "x/0.tar", "r+b") as file:
            file.seek(600)
            file.write(b"?")
        assert from_webdataset(tmp_path / "x").revision != first.revision

    def test_folders_of_clip_benchmark(self, tmp_path):
        ds = from_webdataset(as_clip_benchmark(tmp_path / "own"))
        assert list(ds.splits) == ["train", "test"] and ds.name == "own"
        views = ds["test"].views
        assert list(views["text"][:4]) == ["one 00", "two 00", "one 01", "two 01"]
        assert len(views) == 8 and len(views.distinct("image")[0]) == 4
        assert views.distinct("image")[0][2].endswith("own/test/1.tar::s0000000.webp")
        whole = from_webdataset(tmp_path / "own", captions="whole")
        assert list(whole["train"].views["text"]) == ["one 00\ntwo 00", "one 01\ntwo 01"]
        (tmp_path / "own/test/1.tar").unlink()
        with pytest.raises(FileNotFoundError, match=r"should hold 2 shards, but lacks 1\.tar"):
            from_webdataset(tmp_path / "own")
        (tmp_path / "own/test/nshards.txt").write_text("two")
        with pytest.raises(ValueError, match="must hold the number of shards, got 'two'"):
            from_webdataset(tmp_path / "own")

    def test_classes_of_clip_benchmark(self, tmp_path):
        ds = from_webdataset(as_clip_benchmark(tmp_path / "own", retrieval=False))
        assert ds.target_names == ("black cat", "green frog")
        assert ds["test"].y.tolist() == [0, 1, 0, 1]
        assert list(ds["train"].views["text"]) == ["black cat", "green frog"]

    def test_several_classes_and_features_in_arrays(self, tmp_path):
        members = []
        for i in range(3):
            for name, array in (
                ("emb.npy", np.full(4, i, np.float32)), ("npy", np.array([1, i % 2])),
            ):  # fmt: skip
                stream = io.BytesIO()
                np.save(stream, array)
                members.append((f"{i}.{name}", stream.getvalue()))
            members.append((f"{i}.txt", f"t{i}"))
        write_tar(tmp_path / "0.tar", members)
        ds = from_webdataset(tmp_path / "0.tar", image="emb.npy", label="npy")
        np.testing.assert_array_equal(ds["all"].views["image"][:, 0], [0, 1, 2])
        np.testing.assert_array_equal(ds["all"].y, [[1, 0], [1, 1], [1, 0]])

    def test_sounds(self, tmp_path):
        soundfile = pytest.importorskip("soundfile")
        pytest.importorskip("librosa")
        from crossfit.extraction import LogMel, load_audio

        samples = np.sin(np.arange(8000) / 9).astype(np.float32)
        soundfile.write(tmp_path / "a.flac", samples, 8000)
        content = (tmp_path / "a.flac").read_bytes()
        write_tar(tmp_path / "0.tar", [("a.flac", content), ("a.txt", "a tone")])
        views = from_webdataset(tmp_path / "0.tar")["all"].views
        assert views.names == ("audio", "text")
        direct = load_audio(tmp_path / "a.flac", 8000)
        np.testing.assert_array_equal(load_audio(views["audio"][0], 8000), direct)
        mel = LogMel(duration=1.0, rate=8000, n_mels=8, n_fft=256, cache=False).fit([content])
        ways = [content, tmp_path / "a.flac", views["audio"][0]]
        first, second, third = mel.transform(ways)
        np.testing.assert_array_equal(first, second)
        np.testing.assert_array_equal(first, third)

    def test_what_webdataset_itself_writes(self, tmp_path):
        webdataset = pytest.importorskip("webdataset")
        with webdataset.TarWriter(str(tmp_path / "0.tar")) as sink:
            for i in range(3):
                sink.write(
                    {
                        "__key__": f"sample{i:03d}",
                        "png": picture((i, 0, 0)),
                        "json": {"caption": f"t{i}"},
                        "cls": i,
                    }
                )
        ds = from_webdataset(tmp_path / "0.tar")
        assert list(ds["all"].views["text"]) == ["t0", "t1", "t2"] and ds["all"].y.tolist() == [
            0, 1, 2,
        ]  # fmt: skip
        assert load_rgb(ds["all"].views["image"][2])[0, 0].tolist() == [2, 0, 0]

    def test_samples_that_lack_a_member(self, tmp_path):
        write_tar(
            tmp_path / "0.tar",
            [("a.png", picture("red")), ("a.txt", "x"), ("b.png", picture("blue")),
             ("c.txt", "z"), ("noname", "?"), ("d/.hidden.txt", "?")],
        )  # fmt: skip
        with pytest.raises(ValueError, match="column 'image' is empty in 1 of 3 rows"):
            from_webdataset(tmp_path / "0.tar")
        with pytest.warns(UserWarning, match=r"0\.tar: left out 2 of 3 rows"):
            ds = from_webdataset(tmp_path / "0.tar", invalid="skip")
        assert list(ds["all"].views["text"]) == ["x"]

    def test_members_are_never_written(self, tmp_path):
        names = ("../../out.png", "/abs.png", "in/a.png")
        write_tar(
            tmp_path / "t/0.tar",
            [
                part
                for name in names
                for part in ((name, picture("red")), (f"{name[:-4]}.txt", "x"))
            ],
        )
        before = sorted(tmp_path.rglob("*"))
        views = from_webdataset(tmp_path / "t/0.tar")["all"].views
        assert [load_rgb(path)[0, 0, 0] for path in views["image"]] == [255] * 3
        assert sorted(tmp_path.rglob("*")) == before

    @pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
    def test_links_and_pipes_in_a_shard_are_passed_over(self, tmp_path, kind):
        (tmp_path / "secret.png").write_bytes(picture("red"))
        write_tar(tmp_path / "0.tar", [("a.png", picture("blue")), ("a.txt", "x"), ("b.txt", "y")])
        with tarfile.open(tmp_path / "0.tar", "a") as tar:
            info = tarfile.TarInfo("b.png")
            info.type, info.linkname = kind, str(tmp_path / "secret.png")
            tar.addfile(info)
        with pytest.raises(ValueError, match="column 'image' is empty in 1 of 2 rows"):
            from_webdataset(tmp_path / "0.tar")
        assert file_size(f"{tmp_path}/0.tar::b.png") is None


class TestBadShards:
    @pytest.mark.parametrize(
        ("members", "message"),
        [
            (
                [("a.pkl", pickle.dumps(3)), ("a.txt", "x")],
                "'a.pkl', a pickle, which crossfit does",
            ),
            ([("a.seg.pyd", b"x"), ("a.txt", "x")], "'a.seg.pyd', a pickle"),
            ([("a.txt", "x"), ("a.TXT", "y")], "two members of the name 'a.TXT'"),
            ([("a.png", b"x"), ("a.txt", b"\xff\xfe\xff")], r"'a.txt': not a text in UTF-8"),
            ([("a.png", b"x"), ("a.json", "{"), ("a.txt", "x")], "'a.json': not valid JSON"),
            (
                [("a.png", b"x"), ("a.json", "[" * 10**5), ("a.txt", "x")],
                "'a.json': not valid JSON",
            ),
            ([("a.png", b"x"), ("a.json", "3"), ("a.txt", "x")], "expected a JSON object, got int"),
            ([("a.npy", pickle.dumps([3])), ("a.txt", "x")], "'a.npy': not an array of numbers"),
            (
                [("a.png", b"x"), ("a.txt", "x" * (2**24 + 1))],
                "bytes, more than 16,777,216 of a txt",
            ),
            ([("a.txt", "x")], "no column 'image': it has text, txt"),
        ],
    )
    def test_members(self, tmp_path, members, message):
        write_tar(tmp_path / "0.tar", members)
        image = "npy" if members[0][0].endswith("npy") else None
        info = ["json"] if any("json" in name for name, _ in members) else []
        with pytest.raises(ValueError, match=message):
            from_webdataset(tmp_path / "0.tar", image=image, info=info)

    def test_an_array_of_objects_is_not_unpickled(self, tmp_path):
        stream = io.BytesIO()
        np.save(stream, np.array([{}], dtype=object), allow_pickle=True)
        write_tar(tmp_path / "0.tar", [("a.npy", stream.getvalue()), ("a.txt", "x")])
        with pytest.raises(ValueError, match=r"'a\.npy': not an array of numbers .*allow_pickle"):
            from_webdataset(tmp_path / "0.tar", image="npy")

    def test_files(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"there is no tar file '.*1\.tar'"):
            from_webdataset(as_open_clip(tmp_path / "0.tar").with_name("{0..1}.tar"))
        with pytest.raises(FileNotFoundError, match=r"there is no tar file '.*\*\.tar'"):
            from_webdataset(tmp_path / "none" / "*.tar")
        (tmp_path / "empty").mkdir()
        with pytest.raises(FileNotFoundError, match="holds no tar files"):
            from_webdataset(tmp_path / "empty")
        with pytest.raises(ValueError, match="needs a tar file, got an empty list"):
            from_webdataset([])
        for mode in ("w:gz", "w:bz2", "w:xz"):
            write_tar(tmp_path / "z/0.tar", [("a.txt", "x")], mode)
            with pytest.raises(ValueError, match="a compressed one must be decompressed first"):
                from_webdataset(tmp_path / "z/0.tar")
        content = as_open_clip(tmp_path / "0.tar").read_bytes()
        for size in (100, 800, len(content) // 2):
            (tmp_path / "cut.tar").write_bytes(content[:size])
            with pytest.raises(ValueError, match=r"cut\.tar' is (cut short|not a tar file)"):
                from_webdataset(tmp_path / "cut.tar")

    def test_a_member_that_claims_to_be_huge(self, tmp_path):
        with tarfile.open(tmp_path / "0.tar", "w") as tar:
            info = tarfile.TarInfo("a.png")
            info.size = 2**40
            tar.fileobj.write(info.tobuf())
        with pytest.raises(ValueError, match="of 1,099,511,627,776 bytes, more than 268,435,456"):
            from_webdataset(tmp_path / "0.tar")


class TestAddresses:
    def test_extractors_read_them(self, tmp_path):
        as_open_clip(tmp_path / "0.tar")
        views = from_webdataset(tmp_path / "0.tar")["all"].views
        grid = GridFeatures(grid=2, cache=False)
        pixels = [load_rgb(path) for path in views["image"]]
        contents = [read_file(path) for path in views["image"]]
        expected = grid.fit_transform(pixels)
        np.testing.assert_array_equal(grid.transform(views["image"]), expected)
        np.testing.assert_array_equal(grid.transform(contents), expected)
        np.testing.assert_array_equal(grid.transform(Views(image=contents)["image"]), expected)

    def test_what_is_not_there(self, tmp_path):
        as_open_clip(tmp_path / "0.tar")
        for path in ("0.tar::c.jpg", "0.tar::a.txt", "1.tar::a.jpg", "0.tar::", "0.txt::a.jpg"):
            with pytest.raises(FileNotFoundError, match="there is no image file"):
                load_rgb(tmp_path / path)
            assert file_size(str(tmp_path / path)) is None
        with pytest.raises(FileNotFoundError, match=r"0\.tar' has no member 'c\.jpg'"):
            read_file(f"{tmp_path}/0.tar::c.jpg")

    def test_a_file_with_such_a_name_is_itself(self, tmp_path):
        as_open_clip(tmp_path / "0.tar")
        Image.new("RGB", (2, 2), "white").save(tmp_path / "0.tar::a.jpg", "PNG")
        assert load_rgb(tmp_path / "0.tar::a.jpg").shape == (2, 2, 3)

    def test_a_shard_that_is_replaced_is_read_again(self, tmp_path):
        path = write_tar(tmp_path / "0.tar", [("a.png", picture("red"))])
        assert load_rgb(f"{path}::a.png")[0, 0].tolist() == [255, 0, 0]
        write_tar(path, [("pad.txt", "x" * 2000), ("a.png", picture("blue"))])
        os.utime(path, ns=(1, 1))
        assert load_rgb(f"{path}::a.png")[0, 0].tolist() == [0, 0, 255]


def with_pictures(kind):
    """A table of pyarrow with encoded pictures, as `datasets` writes them, or as plain bytes."""
    pyarrow = pytest.importorskip("pyarrow")
    contents = [picture((i, 0, 0)) for i in range(10)]
    texts = [f"t{i}" for i in range(10)]
    if kind == "binary":
        return pyarrow.table({"image": contents, "text": texts})
    column = [{"bytes": content, "path": f"{i}.png"} for i, content in enumerate(contents)]
    return pyarrow.table({"image": column, "text": texts})


class TestPicturesInTables:
    @pytest.mark.parametrize("kind", ["struct", "binary"])
    def test_parquet(self, tmp_path, kind):
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(with_pictures(kind), tmp_path / "p.parquet", row_group_size=4)
        ds = from_table(tmp_path / "p.parquet")
        views = ds["all"].views
        assert views["image"][7] == f"{tmp_path}/p.parquet::image[7]"
        assert [load_rgb(path)[0, 0, 0] for path in views["image"][::-1]] == list(range(9, -1, -1))
        grid = GridFeatures(grid=2, cache=False).fit(views["image"])
        assert len(grid.transform(views["image"])) == 10
        for inner in ("image[10]", "other[0]", "image", "image[-1]"):
            with pytest.raises((FileNotFoundError, ValueError), match="image"):
                load_rgb(f"{tmp_path}/p.parquet::{inner}")

    @pytest.mark.parametrize("form", ["file", "stream"])
    def test_arrow(self, tmp_path, form):
        pyarrow = pytest.importorskip("pyarrow")
        table = with_pictures("struct")
        new = pyarrow.ipc.new_file if form == "file" else pyarrow.ipc.new_stream
        with (
            pyarrow.OSFile(str(tmp_path / "p.arrow"), "wb") as file,
            new(file, table.schema) as sink,
        ):
            sink.write_table(table, max_chunksize=3)
        views = from_table(tmp_path / "p.arrow")["all"].views
        assert [load_rgb(path)[0, 0, 0] for path in views["image"]] == list(range(10))

    def test_reports_show_them(self, tmp_path):
        from crossfit._pictures import data_uri, is_picture

        pyarrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pyarrow.table({"f": [picture("red"), b"RIFF"]}), tmp_path / "p.parquet")
        shown = [f"{tmp_path}/p.parquet::f[0]", picture("red")]
        assert all(map(is_picture, shown)) and len(set(map(data_uri, shown))) == 1
        for other in (f"{tmp_path}/p.parquet::f[1]", f"{tmp_path}/p.parquet::f[2]", b"RIFF"):
            assert not is_picture(other)

    def test_a_table_in_memory(self):
        views = from_table(with_pictures("struct"))["all"].views
        assert [load_rgb(item)[0, 0, 0] for item in views["image"]] == list(range(10))

    def test_paths_where_there_are_no_bytes(self, tmp_path):
        pyarrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        (tmp_path / "a.png").write_bytes(picture("red"))
        column = [{"bytes": None, "path": "a.png"}, {"bytes": picture("blue"), "path": None}]
        kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
        table = pyarrow.table({"image": pyarrow.array(column, kind), "text": ["x", "y"]})
        parquet.write_table(table, tmp_path / "p.parquet")
        views = from_table(tmp_path / "p.parquet")["all"].views
        assert [load_rgb(path)[0, 0].tolist() for path in views["image"]] == [
            [255, 0, 0], [0, 0, 255],
        ]  # fmt: skip

    def test_a_data_set_of_datasets(self, tmp_path):
        datasets = pytest.importorskip("datasets")
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(with_pictures("struct"), tmp_path / "p.parquet")
        made = datasets.Dataset.from_parquet(
            str(tmp_path / "p.parquet"), cache_dir=str(tmp_path / "cache")
        ).cast_column("image", datasets.Image())
        views = from_table(made)["all"].views
        assert "::image[3]" in views["image"][3]  # they stay in the file
        orders = {
            "all": (made, range(10)),
            "reversed": (made.select(range(9, -1, -1)), range(9, -1, -1)),
            "some": (made.select(range(2, 5)), range(2, 5)),
            "renamed": (made.rename_column("image", "path"), range(10)),
            "mapped": (made.map(lambda row: {"text": row["text"] + "!"}), range(10)),
            "memory": (datasets.Dataset.from_dict(made[:]).cast_column("image", datasets.Image()),
                       range(10)),
        }  # fmt: skip
        for source, expected in orders.values():
            views = from_table(source)["all"].views
            assert [load_rgb(item)[0, 0, 0] for item in views["image"]] == list(expected)
            assert [int(text.strip("t!")) for text in views["text"]] == list(expected)
