"""Pascal Sentences and NUS-WIDE-10k, on trees of the official shapes."""

from pathlib import Path

import numpy as np
import pytest

from crossfit.datasets import load, nus_wide, pascal_sentences
from crossfit.datasets.cards import NUS_WIDE_10K, PASCAL_SENTENCES


@pytest.fixture
def pascal(tmp_path):
    """Write ten pictures of each class, with five sentences each."""
    root = tmp_path / "pascal-sentences"
    for cls in pascal_sentences.CLASSES:
        for kind in ("dataset", "sentence"):
            (root / kind / cls).mkdir(parents=True)
        for i in range(10):
            name = f"2008_{i:06d}"
            (root / "dataset" / cls / f"{name}.jpg").write_bytes(f"{cls} {i}".encode())
            lines = [f"{cls} {i} says {k}.\n" for k in range(5)]
            (root / "sentence" / cls / f"{name}.txt").write_text("".join(lines) + "\n")
    return root


class TestPascalSentences:
    def test_all_for_testing(self, pascal):
        ds = load("pascal-sentences", pascal.parent, strict=False)
        assert list(ds.splits) == ["test"] and len(ds["test"]) == 200
        for path, text, y in zip(ds["test"].views["image"], ds["test"].views["text"], ds["test"].y):
            cls, i = Path(path).parent.name, int(Path(path).stem[5:])
            assert ds.target_names[y] == cls
            assert text == " ".join(f"{cls} {i} says {k}." for k in range(5))

    @pytest.mark.parametrize(
        ("split", "sizes"),
        [
            ("600-400", {"train": 6, "test": 4}),
            ("800-100-100", {"train": 8, "val": 1, "test": 1}),
        ],
    )
    def test_drawn_from_each_class_alike(self, pascal, split, sizes):
        ds = pascal_sentences.load(pascal, split, strict=False)
        paths = [path for part in ds.splits.values() for path in part.views["image"]]
        assert len(set(paths)) == len(paths) == 200
        for name, n in sizes.items():
            np.testing.assert_array_equal(np.bincount(ds[name].y), np.full(20, n))
        # The official numbers have the same proportions: 50 per class.
        assert {k: 20 * 50 * n // 10 for k, n in sizes.items()} == pascal_sentences.COUNTS[split]

    def test_the_draw_follows_the_seed_alone(self, pascal):
        def test_ids(**options):
            part = pascal_sentences.load(pascal, "600-400", strict=False, **options)["test"]
            return list(part.info["image_id"])

        assert test_ids() == test_ids(subsets="test") != test_ids(seed=1)

    def test_sentences_apart(self, pascal):
        part = pascal_sentences.load(pascal, joined=False, strict=False)["test"]
        assert len(part) == 1000 and part.views.distinct("image")[0].shape == (200,)
        np.testing.assert_array_equal(part.groups, np.repeat(np.arange(200), 5))
        np.testing.assert_array_equal(part.y, np.repeat(np.arange(20), 50))
        assert part.views["text"][6] == "aeroplane 1 says 1."

    def test_missing(self, pascal):
        (pascal / "sentence" / "cat" / "2008_000003.txt").unlink()
        with pytest.raises(FileNotFoundError, match=r"sentence/cat/2008_000003\.txt") as caught:
            pascal_sentences.load(pascal, strict=False)
        assert PASCAL_SENTENCES.url in str(caught.value)
        (pascal / "dataset" / "dog").rename(pascal / "dataset" / "hound")
        with pytest.raises(FileNotFoundError, match="dataset/dog"):
            pascal_sentences.load(pascal, strict=False)
        with pytest.raises(FileNotFoundError, match="dataset, sentence"):
            pascal_sentences.load(pascal.parent, strict=False)

    def test_counts(self, pascal):
        with pytest.raises(ValueError, match="aeroplane has 10, not 50"):
            pascal_sentences.load(pascal)

    def test_bad_content(self, pascal):
        (pascal / "sentence" / "cat" / "2008_000003.txt").write_text(" \n")
        with pytest.raises(ValueError, match=r"sentence/cat/2008_000003\.txt is empty"):
            pascal_sentences.load(pascal, strict=False)

    def test_revision(self, pascal):
        first = pascal_sentences.load(pascal, strict=False).revision
        assert first == pascal_sentences.load(pascal, strict=False).revision
        assert first != pascal_sentences.load(pascal, strict=False, joined=False).revision
        (pascal / "sentence" / "cat" / "2008_000003.txt").write_text("New.")
        assert first != pascal_sentences.load(pascal, strict=False).revision


N, N_TAGS, N_WORDS = 300, 1000, 500


@pytest.fixture(scope="module")
def nus_arrays():
    """Write 300 pictures; about half have one of the ten labels, every seventh has no tag."""
    rng = np.random.default_rng(0)
    has = np.zeros((N, 10), int)
    has[np.arange(N), np.arange(N) % 10] = 1
    has[::3] = 0  # none of the ten
    has[1::9, 3] = 1  # some of them have two
    tags = np.zeros((N, N_TAGS), int)
    tags[np.arange(N), rng.integers(N_TAGS, size=N)] = 1
    tags[::7] = 0
    names = [f"{'abc'[i % 3]}x\\{i:04d}_{9000 + i}.jpg" for i in range(N)]
    return names, has, tags, rng.integers(9, size=(N, N_WORDS))


@pytest.fixture
def nus(tmp_path, nus_arrays):
    names, has, tags, words = nus_arrays
    root = tmp_path / "nus-wide-10k"
    for folder in ("ImageList", "Groundtruth/AllLabels", "NUS_WID_Tags", "Low_Level_Features"):
        (root / folder).mkdir(parents=True)
    (root / "ImageList" / "Imagelist.txt").write_text("".join(f"{name}\n" for name in names))
    for k, cls in enumerate(nus_wide.CLASSES):
        path = root / "Groundtruth" / "AllLabels" / f"Labels_{cls}.txt"
        path.write_text("".join(f"{one}\n" for one in has[:, k]))
    rows = ["\t".join(map(str, row)) + "\t\n" for row in tags]
    (root / "NUS_WID_Tags" / "AllTags1k.txt").write_text("".join(rows))
    rows = [f"{9000 + i}    of{i} and more \n" for i in range(N)]
    (root / "NUS_WID_Tags" / "All_Tags.txt").write_text("".join(rows))
    for part, at in (("Train", range(1, N, 2)), ("Test", range(0, N, 2))):
        (root / "ImageList" / f"{part}Imagelist.txt").write_text(
            "".join(f"{names[i]}\n" for i in at)
        )
        rows = [" ".join(map(str, words[i])) + " \n" for i in at]
        (root / "Low_Level_Features" / f"BoW_{part}_int.dat").write_text("".join(rows))
    for name in names:
        path = root / "Flickr" / name.replace("\\", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return root


def numbers(split):
    return [int(name.split("/")[1][:4]) for name in split.info["image_name"]]


class TestNusWide:
    def test_the_rule(self, nus, nus_arrays):
        _, has, tags, _ = nus_arrays
        ds = load("nus-wide-10k", nus.parent, strict=False)
        assert list(ds.splits) == ["train", "val", "test"]
        found = [i for part in ds.splits.values() for i in numbers(part)]
        candidates = {i for i in range(N) if has[i].sum() == 1 and tags[i].any()}
        assert len(found) == len(set(found)) and set(found) == candidates
        for part in ds.splits.values():
            for i, path, text, y in zip(
                numbers(part), part.views["image"], part.views["text"], part.y
            ):
                assert has[i, y] == 1 and Path(path).is_file()
                assert text == f"of{i} and more"
        n = np.bincount(np.concatenate([part.y for part in ds.splits.values()]))
        np.testing.assert_array_equal(np.bincount(ds["train"].y), np.round(0.8 * n))

    def test_raw_features_are_of_the_same_pictures(self, nus, nus_arrays):
        _, _, tags, words = nus_arrays
        strings = nus_wide.load(nus, strict=False)
        for name in ("Flickr", "NUS_WID_Tags/All_Tags.txt"):
            (nus / name).rename(nus / "elsewhere" if name == "Flickr" else nus / "tags")
        vectors = nus_wide.load(nus, features="raw", strict=False)
        for name, part in vectors.splits.items():
            assert numbers(part) == numbers(strings[name])
            np.testing.assert_array_equal(part.views["image"], words[numbers(part)])
            np.testing.assert_array_equal(part.views["text"], tags[numbers(part)])
            assert part.views["image"].dtype == part.views["text"].dtype == np.float32
        assert strings.revision != vectors.revision

    def test_the_draw_takes_1000_of_each_class(self):
        rng = np.random.default_rng(1)
        label = rng.integers(-1, 10, size=30000)
        rows, y = nus_wide._draw(label, 0)
        assert {name: len(part) for name, part in rows.items()} == NUS_WIDE_10K.counts
        for name, part in rows.items():
            np.testing.assert_array_equal(label[part], y[name])
            np.testing.assert_array_equal(np.bincount(y[name]), len(part) // 10)
        assert len(set(np.concatenate(list(rows.values())))) == 10000
        again, other = nus_wide._draw(label, 0)[0], nus_wide._draw(label, 1)[0]
        np.testing.assert_array_equal(rows["test"], again["test"])
        assert not np.array_equal(rows["test"], other["test"])

    def test_counts(self, nus):
        with pytest.raises(ValueError, match=r"train has \d+, not 8000; val has"):
            nus_wide.load(nus)

    def test_pictures_that_are_gone(self, nus):
        gone = numbers(nus_wide.load(nus, strict=False)["test"])[0]
        next((nus / "Flickr").glob(f"*/{gone:04d}_*.jpg")).unlink()
        part = nus_wide.load(nus, strict=False)
        assert gone not in [i for name in part.splits for i in numbers(part[name])]

    @pytest.mark.parametrize(
        "name",
        [
            "ImageList/Imagelist.txt",
            "Groundtruth/AllLabels/Labels_clouds.txt",
            "NUS_WID_Tags/AllTags1k.txt",
        ],
    )
    def test_missing_files(self, nus, name):
        (nus / name).unlink()
        with pytest.raises(FileNotFoundError) as caught:
            nus_wide.load(nus, strict=False)
        assert name in str(caught.value) and NUS_WIDE_10K.url in str(caught.value)

    def test_bad_content(self, nus):
        with pytest.raises(ValueError, match="'raw' or None, got 'cnn'"):
            nus_wide.load(nus, features="cnn")
        tags = nus / "NUS_WID_Tags" / "All_Tags.txt"
        tags.write_text(tags.read_text().replace("9002  ", "9999  "))
        with pytest.raises(ValueError, match=r"row 3 is of the photo 9999"):
            nus_wide.load(nus, strict=False)
        labels = nus / "Groundtruth" / "AllLabels" / "Labels_sky.txt"
        labels.write_text(labels.read_text().replace("1", "7"))
        with pytest.raises(ValueError, match=r"Labels_sky\.txt must have 0 or 1 for each of"):
            nus_wide.load(nus, strict=False)
        labels.write_text("0\n1\n")
        with pytest.raises(ValueError, match=r"got 2 entries"):
            nus_wide.load(nus, strict=False)
        (nus / "Low_Level_Features" / "BoW_Test_int.dat").write_text("1 2\n")
        with pytest.raises(ValueError, match="sky"):
            nus_wide.load(nus, features="raw", strict=False)
