"""The loaders of official layouts, on tiny trees of the same shape and on the real data."""

import os
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from crossfit.datasets import flickr8k, load, wikipedia
from crossfit.datasets.cards import FLICKR8K, WIKIPEDIA

CLASSES = ["art", "biology", "geography"]


def real(name):
    """Return the folder of a real data set, or skip."""
    given = os.environ.get("CROSSFIT_DATA")
    if not given or not (Path(given) / name).is_dir():
        pytest.skip(f"CROSSFIT_DATA names no folder with {name}/")
    return Path(given) / name


@pytest.fixture
def wiki_matrices():
    rng = np.random.default_rng(0)
    sizes = {"I_tr": (5, 4), "T_tr": (5, 2), "I_te": (6, 4), "T_te": (6, 2)}
    return {name: rng.random(size) for name, size in sizes.items()}


@pytest.fixture
def wiki(tmp_path, wiki_matrices):
    """A Wikipedia set of 5 training and 6 test pairs."""
    (tmp_path / "categories.list").write_text("\n".join(CLASSES) + "\n")
    for source, n in (("train", 5), ("test", 6)):
        lines = [f"{source}text-{i}.1\t{source}image{i}\t{i % 3 + 1}\n" for i in range(n)]
        (tmp_path / f"{source}set_txt_img_cat.list").write_text("".join(lines))
        for i in range(n):
            article = f"About {source} {i} &amp; more.\n../img/x.jpg cut"
            path = tmp_path / "texts" / f"{source}text-{i}.1.xml"
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"<?xml?><document><text>\n{article}\n</text> <b></document>")
            picture = tmp_path / "images" / CLASSES[i % 3] / f"{source}image{i}.jpg"
            picture.parent.mkdir(exist_ok=True, parents=True)
            picture.write_bytes(b"x" * (i + 1))
    savemat(tmp_path / "raw_features.mat", wiki_matrices)
    savemat(tmp_path / "indice.mat", {"indice": np.array([[3], [5], [0], [1], [2], [4]])})
    return tmp_path


class TestWikipedia:
    def test_official_features(self, wiki, wiki_matrices):
        ds = wikipedia.load(wiki, strict=False)
        assert list(ds.splits) == ["train", "test"] and ds.target_names == tuple(CLASSES)
        np.testing.assert_array_equal(ds["train"].views["image"], wiki_matrices["I_tr"])
        np.testing.assert_array_equal(ds["test"].views["text"], wiki_matrices["T_te"])
        np.testing.assert_array_equal(ds["test"].y, [0, 1, 2, 0, 1, 2])
        assert ds["train"].info["text_id"][2] == "traintext-2.1"
        assert ds["train"].info["image_id"][2] == "trainimage2"

    def test_acln_cuts_the_test_set_by_the_permutation(self, wiki, wiki_matrices):
        ds = wikipedia.load(wiki, "acln", strict=False)
        assert list(ds.splits) == ["train", "val", "test"]
        np.testing.assert_array_equal(ds["val"].views["image"], wiki_matrices["I_te"][[3, 5]])
        np.testing.assert_array_equal(ds["test"].views["text"], wiki_matrices["T_te"][[0, 1, 2, 4]])
        np.testing.assert_array_equal(ds["val"].y, [0, 2])
        assert list(ds["val"].info["image_id"]) == ["testimage3", "testimage5"]

    @pytest.mark.parametrize("folders", ["by category", "flat"])
    def test_paths_and_articles(self, wiki, folders):
        (wiki / "raw_features.mat").unlink()
        if folders == "flat":
            for path in (wiki / "images").rglob("*.jpg"):
                path.rename(wiki / "images" / path.name)
        ds = wikipedia.load(wiki, features=None, strict=False)
        assert ds["train"].views["text"][1] == "About train 1 & more."
        paths = [Path(path) for path in ds["test"].views["image"]]
        assert [path.stem for path in paths] == [f"testimage{i}" for i in range(6)]
        assert all(path.is_file() for path in paths)

    def test_only_the_files_of_the_subsets_are_needed(self, wiki):
        for name in ("testset_txt_img_cat.list", "indice.mat"):
            (wiki / name).unlink()
        assert list(wikipedia.load(wiki, "acln", subsets=["train"], strict=False).splits) == [
            "train"
        ]
        with pytest.raises(FileNotFoundError, match=r"testset_txt_img_cat\.list, indice\.mat"):
            wikipedia.load(wiki, "acln", subsets=["val"], strict=False)

    def test_the_training_pairs_do_not_depend_on_the_split(self, wiki):
        one = wikipedia.load(wiki, "official", strict=False)["train"]
        other = wikipedia.load(wiki, "acln", strict=False)["train"]
        np.testing.assert_array_equal(one.views["image"], other.views["image"])

    def test_revision_follows_the_content(self, wiki):
        def revision(**options):
            return wikipedia.load(wiki, strict=False, **options).revision

        first, originals = revision(), revision(features=None)
        assert first == revision()
        assert len({first, originals, revision(split="acln")}) == 3
        path = wiki / "texts" / "traintext-0.1.xml"
        path.write_text("<text>New.</text>")
        assert revision() == first and revision(features=None) != originals
        (wiki / "images" / "art" / "trainimage0.jpg").write_bytes(b"changed")
        assert revision(features=None, subsets=["test"]) != originals

    def test_counts(self, wiki):
        with pytest.raises(ValueError, match="train has 5, not 2173; test has 6, not 693"):
            wikipedia.load(wiki)
        with pytest.raises(ValueError, match="val has 2, not 231; test has 4, not 462"):
            wikipedia.load(wiki, "acln", subsets=["val", "test"])

    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("categories.list", {}),
            ("trainset_txt_img_cat.list", {}),
            ("raw_features.mat", {}),
            ("indice.mat", {"split": "acln"}),
        ],
    )
    def test_missing_files(self, wiki, name, options):
        (wiki / name).unlink()
        with pytest.raises(FileNotFoundError) as caught:
            wikipedia.load(wiki, strict=False, **options)
        assert name in str(caught.value) and WIKIPEDIA.url in str(caught.value)

    def test_missing_originals(self, wiki):
        (wiki / "texts" / "testtext-4.1.xml").unlink()
        (wiki / "images" / "art" / "testimage0.jpg").unlink()
        with pytest.raises(FileNotFoundError) as caught:
            wikipedia.load(wiki, features=None, strict=False)
        assert "testimage0.jpg" in str(caught.value) and "testtext-4.1.xml" in str(caught.value)
        assert wikipedia.load(wiki, features=None, strict=False, subsets="train")

    def test_bad_content(self, wiki):
        with pytest.raises(ValueError, match="'raw' or None, got 'cnn'"):
            wikipedia.load(wiki, features="cnn")
        (wiki / "texts" / "traintext-0.1.xml").write_text("nothing")
        with pytest.raises(ValueError, match=r"traintext-0\.1\.xml has no <text>"):
            wikipedia.load(wiki, features=None, strict=False)
        savemat(wiki / "indice.mat", {"indice": np.array([0, 1, 1, 2, 3, 4])})
        with pytest.raises(ValueError, match="a permutation of the 6 test rows"):
            wikipedia.load(wiki, "acln", strict=False)
        savemat(wiki / "raw_features.mat", {"I_tr": np.zeros((4, 2)), "T_tr": np.zeros((5, 2))})
        with pytest.raises(ValueError, match="I_tr with 5 rows, one per pair, got 4 rows"):
            wikipedia.load(wiki, strict=False)
        (wiki / "trainset_txt_img_cat.list").write_text("a\tb\t1\na\tb\t4\n")
        with pytest.raises(ValueError, match=r"row 2: expected .* class from 1 to 3"):
            wikipedia.load(wiki, strict=False)

    @pytest.mark.data
    def test_real_data(self):
        root = real("wikipedia")
        ds = wikipedia.load(root)
        assert ds["train"].views["image"].shape == (2173, 128)
        assert ds["test"].views["text"].shape == (693, 10)
        # The class counts of the official lists, and of the test set of Feng et al.
        train = [138, 272, 244, 248, 202, 178, 186, 144, 214, 347]
        test = [34, 88, 96, 85, 65, 58, 51, 41, 71, 104]
        np.testing.assert_array_equal(np.bincount(ds["train"].y), train)
        np.testing.assert_array_equal(np.bincount(ds["test"].y), test)
        acln = wikipedia.load(root, "acln")
        assert {name: len(part) for name, part in acln.splits.items()} == {
            "train": 2173,
            "val": 231,
            "test": 462,
        }
        np.testing.assert_array_equal(
            np.bincount(acln["test"].y), [25, 60, 63, 58, 40, 39, 34, 29, 43, 71]
        )
        for part in ds.splits.values():
            for view in ("image", "text"):
                np.testing.assert_allclose(part.views[view].sum(axis=1), 1, atol=1e-3)
        assert ds.target_names[0] == "art" and ds.target_names[9] == "warfare"
        both = np.concatenate([acln["val"].views["image"], acln["test"].views["image"]])
        assert sorted(map(bytes, both)) == sorted(map(bytes, np.array(ds["test"].views["image"])))

    @pytest.mark.data
    def test_labels_agree_with_the_second_source(self):
        from scipy.io import loadmat

        root = real("wikipedia")
        if not (root / "category.mat").exists():
            pytest.skip("the folder has no category.mat")
        other = loadmat(root / "category.mat")
        ds = wikipedia.load(root)
        np.testing.assert_array_equal(ds["train"].y + 1, other["trCat"].ravel())
        np.testing.assert_array_equal(ds["test"].y + 1, other["teCat"].ravel())


@pytest.fixture
def flickr(tmp_path):
    """A Flickr8k of three training, two development and one test pictures."""
    text = tmp_path / "Flickr8k_text"
    text.mkdir()
    (tmp_path / "Flicker8k_Dataset").mkdir()
    lists = {"train": ["c.jpg", "a.jpg", "b.jpg"], "dev": ["e.jpg", "d.jpg"], "test": ["f.jpg"]}
    # The official captions file also has a picture that is in no list.
    names = [*sorted(name for part in lists.values() for name in part), "g.jpg.1"]
    lines = [f"{name}#{k}\tcaption {k} of {name} .\n" for name in names for k in range(5)]
    (text / "Flickr8k.token.txt").write_text("".join(lines))
    for split, part in lists.items():
        (text / f"Flickr_8k.{split}Images.txt").write_text("\n".join(part) + "\n")
        for name in part:
            (tmp_path / "Flicker8k_Dataset" / name).write_bytes(name.encode())
    return tmp_path


class TestFlickr8k:
    def test_paths_and_captions(self, flickr):
        ds = flickr8k.load(flickr, strict=False)
        assert list(ds.splits) == ["train", "dev", "test"]
        images, row_to_item = ds["train"].views.distinct("image")
        assert [Path(path).name for path in images] == ["c.jpg", "a.jpg", "b.jpg"]
        np.testing.assert_array_equal(row_to_item, np.repeat([0, 1, 2], 5))
        np.testing.assert_array_equal(ds["train"].groups, np.repeat([0, 1, 2], 5))
        captions = ds["train"].views["text"]
        assert list(captions[5:7]) == ["caption 0 of a.jpg .", "caption 1 of a.jpg ."]
        assert ds["train"].y is None and ds.target_names is None
        assert list(ds["dev"].info["image_name"][:6]) == ["e.jpg"] * 5 + ["d.jpg"]
        for part in ds.splits.values():
            for path, caption, name in zip(
                part.views["image"], part.views["text"], part.info["image_name"]
            ):
                assert Path(path).is_file() and Path(path).name == name and name in caption

    def test_the_missing_test_split_is_named(self, flickr):
        (flickr / "Flickr8k_text" / "Flickr_8k.testImages.txt").unlink()
        with pytest.raises(FileNotFoundError) as caught:
            flickr8k.load(flickr, strict=False)
        assert "Flickr8k_text/Flickr_8k.testImages.txt" in str(caught.value)
        assert FLICKR8K.url in str(caught.value)
        assert len(flickr8k.load(flickr, subsets=("train", "dev"), strict=False).splits) == 2

    def test_missing_pictures_are_reported_together(self, flickr):
        for name in ("a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"):
            (flickr / "Flicker8k_Dataset" / name).unlink()
        with pytest.raises(FileNotFoundError, match=r"c\.jpg, .*a\.jpg, .*b\.jpg and 2 more"):
            flickr8k.load(flickr, strict=False)

    def test_bad_content(self, flickr):
        with pytest.raises(ValueError, match="train has 3, not 6000; dev has 2, not 1000"):
            flickr8k.load(flickr)
        with pytest.raises(
            ValueError, match="subsets of data set 'flickr8k' must be some of train, dev, test"
        ):
            flickr8k.load(flickr, subsets=["val"])
        token = flickr / "Flickr8k_text" / "Flickr8k.token.txt"
        token.write_text("".join(token.read_text().splitlines(keepends=True)[5:]))
        with pytest.raises(ValueError, match=r"has no caption of a\.jpg"):
            flickr8k.load(flickr, strict=False)
        token.write_text("a.jpg#0\tfine\na.jpg without a tab\n")
        with pytest.raises(ValueError, match="line 2: expected"):
            flickr8k.load(flickr, strict=False)

    def test_revision_follows_the_pictures(self, flickr):
        first = flickr8k.load(flickr, strict=False).revision
        assert first == flickr8k.load(flickr, strict=False).revision
        (flickr / "Flicker8k_Dataset" / "a.jpg").write_bytes(b"another picture")
        assert first != flickr8k.load(flickr, strict=False).revision

    @pytest.mark.data
    def test_real_data(self):
        root = real("flickr8k")
        subsets = ("train", "dev")
        ds = flickr8k.load(root, subsets=subsets)
        for name, n in (("train", 6000), ("dev", 1000)):
            views = ds[name].views
            images, owner = views.distinct("image")
            assert len(images) == n and len(views) == 5 * n
            np.testing.assert_array_equal(owner, np.repeat(np.arange(n), 5))
            assert all(isinstance(caption, str) for caption in views["text"])


@pytest.mark.parametrize(
    ("name", "option"),
    [("imageclef-wikipedia", "language"), ("wikipedia", "features"), ("nus-wide-10k", "features"),
     ("coco", "features"), ("flickr30k", "features")],
)  # fmt: skip
def test_a_column_as_an_option_is_rejected_in_one_sentence(tmp_path, name, option):
    """A column of pandas cannot be compared with a string in a condition."""
    column = pytest.importorskip("pandas").Series([1, None], dtype="Int64")
    with pytest.raises(ValueError, match=f"{option}s? of data set '{name}'"):
        load(name, root=tmp_path, **{option: column})
