"""Flickr30k, COCO and precomputed features, on trees of the official shapes."""

import json
from pathlib import Path

import numpy as np
import pytest

from crossfit.datasets import coco, flickr30k, from_precomputed, load
from crossfit.datasets.captions import KARPATHY, PRECOMPUTED, draw
from crossfit.datasets.cards import COCO, FLICKR30K


def karpathy(pictures, name):
    """Write Karpathy's file; pictures are (filename, filepath or None, split, n captions)."""
    images, sentid = [], 0
    for imgid, (filename, filepath, split, n) in enumerate(pictures):
        sentids = list(range(sentid, sentid + n))
        sentid += n
        sentences = [
            {
                "raw": f" {filename} says {k} ",
                "tokens": [filename, "says", str(k)],
                "imgid": imgid,
                "sentid": i,
            }
            for k, i in enumerate(sentids)
        ]
        image = {"filename": filename, "imgid": imgid, "split": split}
        # The order is that of the sentids.
        image |= {"sentids": sentids, "sentences": sentences[::-1]}
        images.append(image if filepath is None else image | {"filepath": filepath})
    return json.dumps({"images": images, "dataset": name})


FLICKR = [("3.jpg", "train"), ("1.jpg", "val"), ("2.jpg", "test"), ("5.jpg", "train")]


@pytest.fixture
def flickr(tmp_path):
    root = tmp_path / "flickr30k"
    (root / "flickr30k_images").mkdir(parents=True)
    names = [name for name, _ in FLICKR] + [f"9{i:02d}.jpg" for i in range(16)]
    for name in names:
        (root / "flickr30k_images" / name).write_bytes(name.encode())
    lines = [f"{name}#{k}\t{name} says {k} .\n" for name in names for k in range(5)]
    (root / "results_20130124.token").write_text("".join(lines))
    file = karpathy([(name, None, split, 5) for name, split in FLICKR], "flickr30k")
    (root / "dataset_flickr30k.json").write_text(file)
    return root


def check_pairs(ds):
    """Check that every caption names its picture, and that every picture exists."""
    for part in ds.splits.values():
        for path, caption, name in zip(
            part.views["image"], part.views["text"], part.info["image_name"]
        ):
            assert Path(path).is_file() and Path(path).name == name == caption.split()[0]


class TestFlickr30k:
    def test_karpathy(self, flickr):
        (flickr / "results_20130124.token").unlink()
        ds = load("flickr30k", flickr.parent, strict=False)
        assert list(ds.splits) == ["train", "val", "test"] and ds["train"].y is None
        check_pairs(ds)
        assert list(ds["val"].views["text"]) == [f"1.jpg says {k}" for k in range(5)]
        np.testing.assert_array_equal(ds["train"].groups, np.repeat([0, 1], 5))
        assert ds["train"].views.distinct("image")[0].shape == (2,)

    def test_bssan_draws_by_seed(self, flickr):
        (flickr / "dataset_flickr30k.json").unlink()

        def names(**options):
            ds = flickr30k.load(flickr, "bssan", strict=False, **options)
            check_pairs(ds)
            return {name: set(part.info["image_name"]) for name, part in ds.splits.items()}

        parts = names()
        everything = {path.name for path in (flickr / "flickr30k_images").iterdir()}
        assert set().union(*parts.values()) == everything
        assert [len(part) for part in parts.values()] == [18, 1, 1]
        assert parts == names() and any(parts != names(seed=seed) for seed in (1, 2))
        assert names(subsets="train") == {"train": parts["train"]}

    def test_captions_per_image(self, flickr):
        ds = flickr30k.load(flickr, captions_per_image=1, strict=False)
        assert list(ds["train"].views["text"]) == ["3.jpg says 0", "5.jpg says 0"]
        assert ds.revision != flickr30k.load(flickr, strict=False).revision
        with pytest.raises(ValueError, match=r"captions_per_image .* at least 1, got 0"):
            flickr30k.load(flickr, captions_per_image=0)

    def test_only_the_pictures_of_the_subsets_are_needed(self, flickr):
        (flickr / "flickr30k_images" / "2.jpg").unlink()
        flickr30k.load(flickr, subsets=["train", "val"], strict=False)
        with pytest.raises(FileNotFoundError, match=r"flickr30k_images/2\.jpg") as caught:
            flickr30k.load(flickr, strict=False)
        assert FLICKR30K.url in str(caught.value)

    def test_missing_files_say_where_they_are_to_be_had(self, flickr):
        (flickr / "dataset_flickr30k.json").unlink()
        with pytest.raises(FileNotFoundError) as caught:
            flickr30k.load(flickr)
        assert "dataset_flickr30k.json" in str(caught.value) and KARPATHY in str(caught.value)
        (flickr / "results_20130124.token").unlink()
        with pytest.raises(FileNotFoundError, match=r"results_20130124\.token"):
            flickr30k.load(flickr, "bssan")
        with pytest.raises(FileNotFoundError, match=r"f30k_precomp/train_caps\.txt") as caught:
            flickr30k.load(flickr, features="precomputed")
        assert PRECOMPUTED in str(caught.value)

    def test_counts(self, flickr):
        with pytest.raises(ValueError, match="train has 2, not 29000; val has 1, not 1014"):
            flickr30k.load(flickr)
        with pytest.raises(ValueError, match="not 29783"):
            flickr30k.load(flickr, "bssan")
        rows = draw(31783, flickr30k.COUNTS["bssan"], 0)
        assert {name: len(part) for name, part in rows.items()} == flickr30k.COUNTS["bssan"]
        assert len(np.unique(np.concatenate(list(rows.values())))) == 31783

    def test_revision_follows_what_is_read(self, flickr):
        first = flickr30k.load(flickr, strict=False).revision
        assert first == flickr30k.load(flickr, strict=False).revision
        assert first != flickr30k.load(flickr, "bssan", strict=False).revision
        (flickr / "flickr30k_images" / "3.jpg").write_bytes(b"another one")
        assert first != flickr30k.load(flickr, strict=False).revision

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("{", "is not valid JSON"),
            ("[]", "must hold a JSON object, got list"),
            ("{}", "must hold images with sentids"),
            ('{"images": [{"filename": "a.jpg"}]}', "image 0 does not .*sentences"),
            ('{"images": [3]}', "image 0 does not"),
        ],
    )
    def test_bad_json(self, flickr, content, message):
        (flickr / "dataset_flickr30k.json").write_text(content)
        with pytest.raises(ValueError, match=message):
            flickr30k.load(flickr, strict=False)

    def test_captions_have_the_ids_of_the_file(self, flickr):
        part = flickr30k.load(flickr, captions_per_image=2, strict=False)["test"]
        images = json.loads((flickr / "dataset_flickr30k.json").read_text())["images"]
        (own,) = (image["sentids"] for image in images if image["split"] == "test")
        assert part.info["caption_id"].tolist() == own[:2]

    def test_an_empty_split_is_named(self, flickr):
        file = flickr / "dataset_flickr30k.json"
        file.write_text(file.read_text().replace('"val"', '"dev"'))
        with pytest.raises(ValueError, match="no picture of the split 'val'"):
            flickr30k.load(flickr, strict=False)

    def test_bad_options(self, flickr):
        with pytest.raises(ValueError, match="got 'raw' with 'karpathy'"):
            flickr30k.load(flickr, features="raw")
        with pytest.raises(ValueError, match="got 'precomputed' with 'bssan'"):
            flickr30k.load(flickr, "bssan", features="precomputed")


YEARS = {"train": [9, 30, 57], "val": [42, 73, 74, 133, 139, 143, 164, 192, 196, 208]}
PARTS = {42: "val", 73: "test", 74: "restval"}


@pytest.fixture
def mscoco(tmp_path):
    """Write three pictures of train2014 and ten of val2014; one has seven captions."""
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    pictures = []
    for year, ids in YEARS.items():
        (root / f"{year}2014").mkdir()
        names = {i: f"COCO_{year}2014_{i:012d}.jpg" for i in ids}
        annotations = []
        for i, name in names.items():
            (root / f"{year}2014" / name).write_bytes(name.encode())
            n = 7 if i == 42 else 5
            own = [
                {"id": 10 * i + k, "image_id": i, "caption": f"{name} says {k}"} for k in range(n)
            ]
            # In the official file, captions are in arbitrary order.
            annotations = own[::-1] + annotations
            part = "train" if year == "train" else PARTS.get(i, "restval")
            pictures.append((name, f"{year}2014", part, n))
        images = [{"id": i, "file_name": names[i], "height": 1} for i in ids[::-1]]
        (root / "annotations" / f"captions_{year}2014.json").write_text(
            json.dumps({"info": {}, "images": images, "annotations": annotations})
        )
    (root / "dataset_coco.json").write_text(karpathy(pictures, "coco"))
    return root


def ids(split):
    return {int(name[-16:-4]) for name in split.info["image_name"]}


class TestCoco:
    def test_relevance_of_other_authors_by_the_ids(self, mscoco):
        from crossfit.metrics import read_relevance

        split = load("coco", mscoco.parent, split="cran", strict=False)["train"]
        views = split.views
        images = split.info["image_name"][views.first_rows("image")]
        captions = split.info["caption_id"][views.first_rows("text")]
        paired = views.relevance("image", "text")
        one, other = 0, int(paired.shape[1] - 1)
        assert not paired[[one], [other]].any()
        found = {str(int(images[one][-16:-4])): [captions[other]]}
        (mscoco / "eccv.json").write_text(json.dumps(found))
        relevance = read_relevance(mscoco / "eccv.json", images, captions)
        assert relevance.nnz == 1 and relevance[[one], [other]].all()
        row = captions[paired[[one]].indices].tolist()
        assert row == [10 * int(images[one][-16:-4]) + k for k in range(5)]

    def test_karpathy(self, mscoco):
        for path in (mscoco / "annotations").iterdir():
            path.unlink()
        ds = load("coco", mscoco.parent, strict=False)
        check_pairs(ds)
        assert {name: ids(part) for name, part in ds.splits.items()} == {
            "train": {9, 30, 57},
            "val": {42},
            "test": {73},
        }
        # Of seven captions the first five.
        assert [caption[-1] for caption in ds["val"].views["text"]] == list("01234")

    def test_karpathy_with_restval(self, mscoco):
        ds = coco.load(mscoco, "karpathy+restval", strict=False)
        check_pairs(ds)
        assert ids(ds["train"]) == {9, 30, 57, *YEARS["val"][2:]}
        assert ids(ds["val"]) == {42} and ids(ds["test"]) == {73}

    def test_bssan_draws_from_val2014(self, mscoco):
        (mscoco / "dataset_coco.json").unlink()
        ds = coco.load(mscoco, "bssan", strict=False)
        check_pairs(ds)
        assert ids(ds["train"]) == set(YEARS["train"])
        assert ids(ds["val"]) | ids(ds["test"]) <= set(YEARS["val"])
        assert not ids(ds["val"]) & ids(ds["test"])

    def test_bssan_needs_only_the_years_of_the_subsets(self, mscoco):
        (mscoco / "annotations" / "captions_val2014.json").unlink()
        ds = coco.load(mscoco, "bssan", subsets="train", strict=False)
        assert ids(ds["train"]) == set(YEARS["train"])
        with pytest.raises(FileNotFoundError, match=r"captions_val2014\.json") as caught:
            coco.load(mscoco, "bssan", subsets="val", strict=False)
        assert COCO.url in str(caught.value)

    def test_cran_draws_from_both_years(self, mscoco):
        parts = [
            {name: ids(part) for name, part in ds.splits.items()}
            for ds in (coco.load(mscoco, "cran", seed=seed, strict=False) for seed in range(8))
        ]
        everything = {*YEARS["train"], *YEARS["val"]}
        assert all(set().union(*part.values()) == everything for part in parts)
        assert all(sum(map(len, part.values())) == 13 for part in parts)
        held_out = set().union(*(part["val"] | part["test"] for part in parts))
        assert held_out & set(YEARS["train"]) and held_out & set(YEARS["val"])

    def test_native_captions_are_in_the_order_of_their_ids(self, mscoco):
        ds = coco.load(mscoco, "bssan", subsets="train", strict=False)
        assert [caption[-1] for caption in ds["train"].views["text"]] == list("01234") * 3

    def test_counts(self, mscoco):
        with pytest.raises(ValueError, match="train has 3, not 82783; val has 1, not 5000"):
            coco.load(mscoco)
        with pytest.raises(ValueError, match="not 113287"):
            coco.load(mscoco, "cran")
        rows = draw(coco.N_VAL2014, {"val": 4000, "test": 1000, "rest": 35504}, 0)
        assert (len(rows["val"]), len(rows["test"])) == (4000, 1000)
        assert sum(coco.COUNTS["cran"].values()) == 82783 + coco.N_VAL2014

    def test_bad_content(self, mscoco):
        path = mscoco / "annotations" / "captions_train2014.json"
        content = json.loads(path.read_text())
        content["annotations"].append({"id": 1, "image_id": 1, "caption": "of nothing"})
        path.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=r"captions_train2014\.json must hold .*KeyError: 1"):
            coco.load(mscoco, "bssan", subsets="train", strict=False)
        content["annotations"] = content["annotations"][:5]
        path.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=r"no caption of train2014/COCO_train2014_0+9\.jpg"):
            coco.load(mscoco, "bssan", subsets="train", strict=False)


@pytest.fixture
def features(tmp_path):
    """Write four training pictures with features repeated per caption, and two test pictures."""
    rng = np.random.default_rng(0)
    arrays = {"train": rng.random((4, 3), np.float32), "test": rng.random((2, 2, 3), np.float32)}
    root = tmp_path / "f30k_precomp"
    root.mkdir()
    for name, array in arrays.items():
        n = len(array)
        np.save(root / f"{name}_ims.npy", np.repeat(array, 5, axis=0) if name == "train" else array)
        lines = [f"picture {i} caption {k}\n" for i in range(n) for k in range(5)]
        (root / f"{name}_caps.txt").write_text("".join(lines))
    return root, arrays


class TestPrecomputed:
    def test_five_rows_per_picture_or_one(self, features):
        root, arrays = features
        ds = from_precomputed(root)
        assert list(ds.splits) == ["test", "train"]
        for name, array in arrays.items():
            images, row_to_item = ds[name].views.distinct("image")
            np.testing.assert_array_equal(images, array)
            assert images.dtype == np.float32 and not images.flags.owndata
            np.testing.assert_array_equal(row_to_item, np.repeat(np.arange(len(array)), 5))
            for caption, item in zip(ds[name].views["text"], row_to_item):
                assert caption.startswith(f"picture {item} ")

    def test_by_the_names_of_the_sets(self, features, tmp_path):
        root, arrays = features
        ds = load("flickr30k", tmp_path, features="precomputed", subsets="test", strict=False)
        np.testing.assert_array_equal(ds["test"].views.distinct("image")[0], arrays["test"])
        with pytest.raises(FileNotFoundError, match=r"f30k_precomp/dev_caps\.txt"):
            load("flickr30k", tmp_path, features="precomputed", strict=False)
        with pytest.raises(ValueError, match="test has 2, not 1000"):
            load("flickr30k", tmp_path, features="precomputed", subsets="test")
        root.rename(tmp_path / "coco_precomp")
        (tmp_path / "coco_precomp" / "test_caps.txt").rename(
            tmp_path / "coco_precomp" / "testall_caps.txt"
        )
        (tmp_path / "coco_precomp" / "test_ims.npy").rename(
            tmp_path / "coco_precomp" / "testall_ims.npy"
        )
        ds = load(
            "coco",
            tmp_path,
            split="karpathy+restval",
            features="precomputed",
            subsets=["train", "test"],
            captions_per_image=2,
            strict=False,
        )
        assert list(ds["test"].views["text"]) == [
            f"picture {i} caption {k}" for i in range(2) for k in range(2)
        ]

    def test_what_does_not_go_together(self, features):
        root, _ = features
        array = np.load(root / "train_ims.npy")
        array[7] += 1
        np.save(root / "train_ims.npy", array)
        with pytest.raises(ValueError, match="the five rows of a picture differ for 1 of 4"):
            from_precomputed(root)
        np.save(root / "train_ims.npy", array[:3])
        with pytest.raises(ValueError, match="got 20 lines and 3 rows"):
            from_precomputed(root)
        (root / "train_ims.npy").unlink()
        with pytest.raises(FileNotFoundError, match=r"train_ims\.npy"):
            from_precomputed(root)

    def test_nothing_is_unpickled(self, features):
        root, _ = features
        np.save(root / "train_ims.npy", np.array([{}] * 20, dtype=object), allow_pickle=True)
        with pytest.raises(
            ValueError, match=r"train_ims\.npy' does not hold rows of numbers: .*[Oo]bject"
        ):
            from_precomputed(root)
        for content in (b"abc", b"", b"PK\x03\x04", b"\x80\x04N."):
            (root / "train_ims.npy").write_bytes(content)
            with pytest.raises(ValueError, match=r"train_ims\.npy' does not hold rows") as raised:
                from_precomputed(root)
            assert "allow_pickle" not in str(raised.value)  # as NumPy advises

    @pytest.mark.parametrize("per_picture", [1, 2, 5, 7])
    def test_any_number_of_captions_per_picture(self, tmp_path, per_picture):
        array = np.random.default_rng(0).random((5, 3), np.float32)
        np.save(tmp_path / "x_ims.npy", array)
        lines = [f"{i}.{k} a\u2028b" for i in range(5) for k in range(per_picture)]
        (tmp_path / "x_caps.txt").write_text("\n".join(lines), encoding="utf-8")
        views = from_precomputed(tmp_path, captions_per_image=9)["x"].views
        assert list(views["text"]) == lines
        images, row_to_item = views.distinct("image")
        np.testing.assert_array_equal(images, array)
        np.testing.assert_array_equal(row_to_item, np.repeat(np.arange(5), per_picture))

    def test_files_that_cannot_be_read_are_named(self, features):
        root, _ = features
        (root / "train_caps.txt").write_bytes(b"fine\n\xff\n" * 10)
        with pytest.raises(ValueError, match=r"train_caps\.txt' is not a text in UTF-8: line 2"):
            from_precomputed(root)
        (root / "train_caps.txt").write_text("\n".join(map(str, range(20))))
        for damage in (
            b"",
            b"\x93NUMPY",
            (root / "train_ims.npy").read_bytes()[:-9],
            b"PK\x03\x04",
        ):
            (root / "train_ims.npy").write_bytes(damage)
            with pytest.raises(ValueError, match=r"train_ims\.npy' does not hold rows of numbers"):
                from_precomputed(root)
        np.save(root / "train_ims.npy", np.zeros(4))
        with pytest.raises(ValueError, match=r"not \(n, d\)"):
            from_precomputed(root)

    def test_an_empty_folder(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"holds no <split>_caps\.txt"):
            from_precomputed(tmp_path)
