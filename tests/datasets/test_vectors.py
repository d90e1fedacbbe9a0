"""Precomputed features as other programs write them."""

import io
import pickle
import zipfile

import numpy as np
import pytest

from crossfit.datasets import from_precomputed, read_vectors

VECTORS = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)


def write(folder, form):
    """Write the vectors, and return the source and the key."""
    path = folder / f"v.{form}"
    if form == "npy":
        np.save(path, VECTORS)
    elif form == "npz":
        np.savez(path, image=VECTORS, other=np.eye(2))
        return path, "image"
    elif form == "packed.npz":
        np.savez_compressed(path, image=VECTORS)
    elif form == "safetensors":
        from safetensors.numpy import save_file

        save_file({"image": VECTORS, "other": np.eye(2)}, path)
        return path, "image"
    elif form in ("parquet", "feather"):
        pyarrow = pytest.importorskip("pyarrow")
        table = pyarrow.table({"emb": list(VECTORS), "caption": [f"t{i}" for i in range(20)]})
        if form == "parquet":
            pytest.importorskip("pyarrow.parquet").write_table(table, path, row_group_size=6)
        else:
            pytest.importorskip("pyarrow.feather").write_feather(table, path)
        return path, "emb"
    elif form == "dat":
        VECTORS.tofile(path)
    return path, None


class TestReadVectors:
    @pytest.mark.parametrize(
        "form", ["npy", "npz", "packed.npz", "safetensors", "parquet", "feather", "dat"]
    )
    def test_forms(self, tmp_path, form):
        path, key = write(tmp_path, form)
        raw = {"dtype": "float32", "shape": 3} if form == "dat" else {}
        found = read_vectors(path, key, **raw)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, VECTORS)
        assert isinstance(found, np.memmap) == (form in ("npy", "npz", "dat"))
        if key:
            np.testing.assert_array_equal(read_vectors(f"{path}::{key}"), VECTORS)
        if form == "dat":
            np.testing.assert_array_equal(read_vectors(path, dtype="<f4", shape=(-1, 3)), VECTORS)
            assert read_vectors(path, dtype=np.float32, shape=(20, 3)).shape == (20, 3)

    def test_orders_and_sizes_of_arrays_in_an_archive(self, tmp_path):
        arrays = {
            "fortran": np.asfortranarray(VECTORS),
            "regions": np.arange(24, dtype=np.int16).reshape(2, 3, 4),
            "half": VECTORS.astype(np.float16),
            "long_name_" * 20: VECTORS[:5],
        }
        np.savez(tmp_path / "v.npz", **arrays)
        for name, array in arrays.items():
            found = read_vectors(tmp_path / "v.npz", name)
            np.testing.assert_array_equal(found, array)
            assert found.dtype == array.dtype and not found.flags.owndata

    def test_bfloat16(self, tmp_path):
        torch = pytest.importorskip("torch")
        from safetensors.torch import save_file

        save_file({"image": torch.from_numpy(VECTORS).bfloat16()}, tmp_path / "v.safetensors")
        found = read_vectors(tmp_path / "v.safetensors")
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, VECTORS, rtol=0.01)

    def test_several_files(self, tmp_path):
        np.save(tmp_path / "0.npy", VECTORS[:5])
        np.save(tmp_path / "1.npy", VECTORS[5:])
        files = [tmp_path / "0.npy", tmp_path / "1.npy"]
        np.testing.assert_array_equal(read_vectors(files), VECTORS)
        assert isinstance(read_vectors(files[:1]), np.memmap)
        np.save(tmp_path / "1.npy", VECTORS[:, :2])
        with pytest.raises(ValueError, match=r"vectors of one size, got \[\(2,\), \(3,\)\]"):
            read_vectors(files)
        with pytest.raises(ValueError, match="needs a file, got an empty list"):
            read_vectors([])

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("v.npy", b"", "does not hold rows of numbers"),
            ("v.npy", b"\x80\x04N.", "does not hold rows of numbers"),
            ("v.npz", b"PK", "does not hold rows of numbers: File is not a zip file"),
            ("v.safetensors", b"\xff" * 40, r"v\.safetensors' does not hold rows of numbers"),
            ("v.jsonl", b'{"a": [1, 2]}\n{"a": [1]}\n', "not have a vector of one size"),
            ("v.pt", b"", "cannot be read: save the tensor by numpy.save or safetensors"),
            ("v.pkl", b"", "cannot be read: crossfit does not unpickle"),
            ("v.h5", b"", "cannot be read: save the array by numpy.save"),
        ],
    )
    def test_files_that_are_something_else(self, tmp_path, name, content, message):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=message) as raised:
            read_vectors(tmp_path / name)
        assert "allow_pickle" not in str(raised.value)

    def test_arrays_that_are_no_vectors(self, tmp_path):
        for array in (np.arange(3), np.array(["a", "b"]), np.ones((2, 2), complex)):
            np.save(tmp_path / "v.npy", array)
            with pytest.raises(ValueError, match=r"not \(n, d\)"):
                read_vectors(tmp_path / "v.npy")
        with pytest.raises(FileNotFoundError, match=r"there is no file '.*gone\.npy'"):
            read_vectors(tmp_path / "gone.npy")

    def test_keys(self, tmp_path):
        path, _ = write(tmp_path, "npz")
        with pytest.raises(ValueError, match="has the arrays image, other: give the key of one"):
            read_vectors(path)
        with pytest.raises(ValueError, match="has the arrays image, other: not 'text'"):
            read_vectors(f"{path}::text")

    def test_raw_numbers_need_a_shape_that_fits(self, tmp_path):
        path, _ = write(tmp_path, "dat")
        with pytest.raises(ValueError, match=r"raw numbers: give their dtype=.* and their shape="):
            read_vectors(path)
        for shape in (7, (21, 3), (20, 2)):
            with pytest.raises(ValueError, match="has 240 bytes, which is not the size of an arr"):
                read_vectors(path, dtype="float32", shape=shape)
        for dtype, shape in (("object", 3), ("float32", [3]), ("float32", (2, 0)), ("nothing", 3)):
            wrong = {"dtype": dtype, "shape": shape}
            with pytest.raises(ValueError, match="dtype"):
                read_vectors(path, **wrong)
        np.save(tmp_path / "v.npy", VECTORS)
        with pytest.raises(ValueError, match="dtype and shape are for raw numbers"):
            read_vectors(tmp_path / "v.npy", shape=3)

    def test_archives_are_not_trusted(self, tmp_path):
        objects = io.BytesIO()
        np.save(objects, np.array([{}], dtype=object), allow_pickle=True)
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": "<f4", "fortran_order": False, "shape": (2**40, 3)}
        )
        cases = {
            "holds Python objects": (objects.getvalue(), zipfile.ZIP_STORED),
            "does not fill a.npy": (header.getvalue() + b"1234", zipfile.ZIP_DEFLATED),
            "magic": (pickle.dumps([1]), zipfile.ZIP_STORED),
        }
        for message, (content, how) in cases.items():
            with zipfile.ZipFile(tmp_path / "v.npz", "w", how) as archive:
                archive.writestr("a.npy", content)
            with pytest.raises(ValueError, match=message):
                read_vectors(tmp_path / "v.npz")

    def test_a_limit_on_what_is_decompressed(self, tmp_path, monkeypatch):
        path, _ = write(tmp_path, "packed.npz")
        monkeypatch.setattr("crossfit.datasets.vectors._DECOMPRESSED", 239)
        with pytest.raises(ValueError, match="240 bytes when decompressed, more than 239; save it"):
            read_vectors(path)


def as_clip_retrieval(folder, sizes=(4, 3), text=True, names=None):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rng = np.random.default_rng(1)
    images, texts, start = [], [], 0
    for inner in ("img_emb", "text_emb", "metadata"):
        (folder / inner).mkdir(parents=True, exist_ok=True)
    for k, n in enumerate(sizes):
        images.append(rng.normal(size=(n, 5)).astype(np.float16))
        texts.append(rng.normal(size=(n, 5)).astype(np.float16))
        np.save(folder / f"img_emb/img_emb_{k}.npy", images[-1])
        if text:
            np.save(folder / f"text_emb/text_emb_{k}.npy", texts[-1])
        rows = range(start, start + n)
        table = {
            "image_path": [f"{i}.jpg" for i in rows] if names is None else names[start : start + n],
            "caption": [f"caption {i}" for i in rows],
            "url": [f"u{i}" for i in rows],
        }
        parquet.write_table(pyarrow.table(table), folder / f"metadata/metadata_{k}.parquet")
        start += n
    return np.concatenate(images), np.concatenate(texts)


class TestClipRetrieval:
    def test_shards(self, tmp_path):
        images, texts = as_clip_retrieval(tmp_path)
        split = from_precomputed(tmp_path)["all"]
        np.testing.assert_array_equal(split.views["image"], images)
        np.testing.assert_array_equal(split.views["text"], texts)
        assert list(split.info["caption"]) == [f"caption {i}" for i in range(7)]
        assert list(split.info["image_path"]) == [f"{i}.jpg" for i in range(7)]
        strings = from_precomputed(tmp_path, text="strings")["all"].views
        assert list(strings["text"]) == [f"caption {i}" for i in range(7)]

    def test_one_shard_stays_on_disk(self, tmp_path):
        as_clip_retrieval(tmp_path, sizes=(4,))
        views = from_precomputed(tmp_path)["all"].views
        assert isinstance(views["image"].base, np.memmap) or isinstance(views["image"], np.memmap)

    def test_without_vectors_of_the_texts(self, tmp_path):
        as_clip_retrieval(tmp_path, text=False)
        assert from_precomputed(tmp_path)["all"].views["text"][6] == "caption 6"
        with pytest.raises(FileNotFoundError, match=r"holds no text_emb/text_emb_<k>\.npy"):
            from_precomputed(tmp_path, text="vectors")

    def test_a_picture_with_several_captions(self, tmp_path):
        as_clip_retrieval(tmp_path, sizes=(3,), names=["a.jpg", "b.jpg", "a.jpg"])
        with pytest.raises(ValueError, match="same 'image_path' must have the same image, but row"):
            from_precomputed(tmp_path)
        array = np.load(tmp_path / "img_emb/img_emb_0.npy")
        array[2] = array[0]
        np.save(tmp_path / "img_emb/img_emb_0.npy", array)
        assert from_precomputed(tmp_path)["all"].views.distinct("image")[1].tolist() == [0, 1, 0]

    def test_what_is_missing(self, tmp_path):
        as_clip_retrieval(tmp_path)
        (tmp_path / "text_emb/text_emb_1.npy").unlink()
        with pytest.raises(
            FileNotFoundError, match=r"text_emb_<k>\.npy and .* but 1 is only in one"
        ):
            from_precomputed(tmp_path)
        as_clip_retrieval(tmp_path)
        np.save(tmp_path / "img_emb/img_emb_1.npy", np.ones((9, 5), np.float16))
        with pytest.raises(ValueError, match="13 rows of img_emb and 7 rows of metadata"):
            from_precomputed(tmp_path)
        for path in (tmp_path / "metadata").iterdir():
            path.unlink()
        with pytest.raises(FileNotFoundError, match="holds no metadata/metadata_<k>"):
            from_precomputed(tmp_path)
        with pytest.raises(FileNotFoundError, match=r"as VSE\+\+ writes it, no metadata/"):
            from_precomputed(tmp_path / "text_emb")


class TestViewsInFiles:
    def test_files_with_captions_in_succession(self, tmp_path):
        np.savez(tmp_path / "f.npz", image=VECTORS, text=np.repeat(VECTORS, 2, axis=0))
        source = {"image": f"{tmp_path}/f.npz::image", "text": f"{tmp_path}/f.npz::text"}
        ds = from_precomputed(source)
        items, row_to_item = ds["all"].views.distinct("image")
        assert not items.flags.owndata and row_to_item.tolist() == np.repeat(range(20), 2).tolist()
        np.testing.assert_array_equal(ds["all"].views["image"], ds["all"].views["text"])
        assert ds.revision == from_precomputed(source).revision

    def test_index_labels_and_splits(self, tmp_path):
        np.save(tmp_path / "i.npy", VECTORS[:3])
        (tmp_path / "t.txt").write_text("one\ntwo\nthree\nfour\n")
        np.save(tmp_path / "index.npy", np.array([2, 0, 2, 1]))
        (tmp_path / "y.txt").write_text("a\nb\na\nb\n")
        source = {"image": tmp_path / "i.npy", "text": tmp_path / "t.txt"}
        ds = from_precomputed(
            source,
            index=tmp_path / "index.npy",
            label=tmp_path / "y.txt",
            split=["train", "test", "train", "test"],
        )
        assert list(ds.splits) == ["train", "test"] and ds.target_names == ("a", "b")
        np.testing.assert_array_equal(ds["train"].views["image"], VECTORS[[2, 2]])
        assert list(ds["test"].views["text"]) == ["two", "four"] and ds["test"].y.tolist() == [1, 1]
        assert len(ds["train"].views.distinct("image")[0]) == 1
        many = from_precomputed(source, index=[2, 0, 2, 1], label=np.eye(4, 2, dtype=int))
        assert many.card.labels == "multi" and many["all"].y.shape == (4, 2)

    def test_three_views(self):
        views = from_precomputed({"a": VECTORS, "b": VECTORS[:, :2], "c": ["x"] * 20})["all"].views
        assert views.names == ("a", "b", "c")

    @pytest.mark.parametrize(
        ("source", "options", "message"),
        [
            ({"image": VECTORS}, {}, "two named views or more, got"),
            ({"image": VECTORS, "text": ["x"] * 7}, {}, "got image: 20, text: 7"),
            ({"image": VECTORS, "text": []}, {}, "got image: 20, text: 0"),
            ({"image": VECTORS, "text": ["x"]}, {"index": [20]}, "between 0 and 19, got values fr"),
            ({"image": VECTORS, "text": ["x"]}, {"index": [1, 2]}, r"second view \(1\), got 2"),
            ({"image": VECTORS, "text": ["x"]}, {"index": ["a"]}, "index must hold integers"),
            (
                {"image": VECTORS, "text": VECTORS},
                {"label": [1]},
                r"label .* per row \(20\), got 1",
            ),
            (
                {"image": VECTORS, "text": VECTORS},
                {"split": ["a"]},
                r"split .* per row \(20\), got",
            ),
            ("folder", {"index": [1]}, "index is for a mapping of views to files"),
            (
                "folder",
                {"text": "words"},
                "The 'text' parameter of from_precomputed must be a str among",
            ),
        ],
    )
    def test_bad_arguments(self, source, options, message):
        with pytest.raises(ValueError, match=message):
            from_precomputed(source, **options)

    def test_bad_files(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"there is no file '.*gone\.txt'"):
            from_precomputed({"image": VECTORS, "text": tmp_path / "gone.txt"})
        with pytest.raises(TypeError, match="image must be a file, an array or a list, got int"):
            from_precomputed({"image": 3, "text": ["x"]})
