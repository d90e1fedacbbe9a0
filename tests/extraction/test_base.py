"""The extractor contract: batching, order, duplicates, the cache and scikit-learn's rules."""

import io
import itertools
import pickle
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline

from crossfit.cache import FeatureCache
from crossfit.extraction import Extractor, GridFeatures, ImageExtractor, LdaTopics, TextExtractor
from crossfit.views import Ragged

calls: list[list] = []


class Lengths(TextExtractor):
    """Count characters, and record the texts of each call."""

    def __init__(self, scale=1.0, batch_size=3, cache=True, verbose="auto"):
        self.scale = scale
        self.batch_size = batch_size
        self.cache = cache
        self.verbose = verbose

    def _extract(self, batch):
        calls.append(list(batch))
        return np.array([[len(text), self.scale] for text in batch], np.float32)


class Letters(TextExtractor):
    """Return one row per text, of unequal lengths."""

    def _extract(self, batch):
        return [np.array([[ord(c)] for c in text], np.float32).reshape(-1, 1) for text in batch]

    def _collect(self, rows):
        return Ragged.from_list(rows)


class Means(ImageExtractor):
    def __init__(self, cache=True):
        self.cache = cache

    def _extract(self, batch):
        calls.append(list(batch))
        return np.stack([image.mean((0, 1)) for image in batch]).astype(np.float32)


@pytest.fixture(autouse=True)
def no_calls():
    calls.clear()


def random_images(n, side=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(max_size=5), min_size=1, max_size=20), st.integers(1, 8))
def test_rows_follow_the_input_whatever_the_batches(texts, batch_size):
    calls.clear()
    got = Lengths(batch_size=batch_size, cache=False).transform(texts)
    np.testing.assert_array_equal(got, [[len(text), 1] for text in texts])
    asked = [text for batch in calls for text in batch]
    assert sorted(asked) == sorted(set(texts))
    assert all(len(batch) <= batch_size for batch in calls)


def test_a_second_run_reads_the_cache_and_computes_nothing():
    texts = [f"{'x' * i}" for i in range(10)]
    first = Lengths().fit_transform(texts)
    calls.clear()
    second = Lengths(batch_size=7).fit_transform(texts[::-1])[::-1]
    assert calls == []
    assert second.dtype == first.dtype
    np.testing.assert_array_equal(first, second)
    Lengths().transform([*texts, "one more"])
    assert calls == [["one more"]]
    assert FeatureCache().info()["extractors"]["Lengths"]["entries"] == 11


def test_other_parameters_weights_and_classes_miss_the_cache():
    class Other(Lengths):
        pass

    class Weighted(Lengths):
        weights = "a"

        def _weights_id(self):
            return self.weights

    makers = [
        lambda: Lengths(),
        lambda: Lengths(scale=2.0),
        lambda: Other(),
        lambda: Weighted(),
    ]
    for make in makers:
        calls.clear()
        make().transform(["a"])
        assert calls == [["a"]]
        make().transform(["a"])
        assert calls == [["a"]]
    Weighted.weights = "b"
    Weighted().transform(["a"])
    assert calls == [["a"], ["a"]]


def test_cache_false_neither_reads_nor_writes():
    Lengths(cache=False).transform(["a"])
    Lengths(cache=False).transform(["a"])
    assert calls == [["a"], ["a"]]
    assert not FeatureCache().path.exists()


def test_a_parameter_without_lasting_identity_turns_the_cache_off():
    for scale in (np.float32(2), np.arange(2), "x", (1, 2), None):
        assert Lengths(scale=scale)._cache_prefix()
    assert Lengths(scale=np.arange(2))._cache_prefix() != Lengths(scale=[0, 1])._cache_prefix()
    assert Lengths(scale=lambda x: x)._cache_prefix() == ""


def test_code_of_unknown_origin_is_not_cached():
    namespace = {"TextExtractor": TextExtractor, "np": np, "__name__": "__main__x"}
    exec(
        "class Typed(TextExtractor):\n"
        "    cache = True\n"
        "    def _extract(self, batch):\n"
        "        return np.zeros((len(batch), 1))\n",
        namespace,
    )
    assert namespace["Typed"]()._cache_prefix() == ""


def test_fitted_extractors_are_not_cached():
    texts = ["cats purr softly", "engines roar loudly"] * 3
    LdaTopics(2, passes=1, no_below=1).fit_transform(texts)
    assert not FeatureCache().path.exists()


def test_interruption_keeps_the_batches_done(monkeypatch):
    texts = [str(i) for i in range(9)]
    extract = Lengths._extract

    def interrupted(self, batch):
        if len(calls) == 2:
            raise KeyboardInterrupt
        return extract(self, batch)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Lengths, "_extract", interrupted)
        Lengths().transform(texts)
    calls.clear()
    got = Lengths().transform(texts)
    assert calls == [["6", "7", "8"]]
    np.testing.assert_array_equal(got, [[1, 1]] * 9)


def test_a_broken_cache_does_not_break_the_extraction():
    path = FeatureCache().path
    path.parent.mkdir(parents=True)
    path.write_text("no database")
    with pytest.warns(UserWarning, match="continuing without it"):
        got = Lengths().transform(["ab"])
    np.testing.assert_array_equal(got, [[2, 1]])


def test_the_same_picture_by_path_and_by_pixels(tmp_path):
    pixels = random_images(2)
    paths = []
    for i, image in enumerate(pixels):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(image).save(paths[-1])
    expected = pixels.mean((1, 2), dtype=np.float64)
    forms = [
        pixels,
        list(pixels),
        tuple(Image.fromarray(image) for image in pixels),
        paths,
        [str(path) for path in paths],
        np.array([str(path) for path in paths]),
        np.array([str(path) for path in paths], dtype=object),
        pd.Series([str(path) for path in paths], index=[5, 3]),
        [paths[0], pixels[1]],
    ]
    for form in forms:
        np.testing.assert_allclose(Means().fit_transform(form), expected, rtol=1e-6)
    # A file with the same name and another content is another item.
    Image.fromarray(pixels[1]).save(paths[0])
    np.testing.assert_allclose(Means().transform(paths), expected[[1, 1]], rtol=1e-6)


def test_read_only_input_is_not_written_to(tmp_path):
    pixels = random_images(3)
    np.save(tmp_path / "x.npy", pixels)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    GridFeatures(grid=2, size=8).fit_transform(mapped)
    np.testing.assert_array_equal(mapped, pixels)


@pytest.mark.parametrize(
    ("given_", "got"),
    [
        (np.array([1.0, 2.0, 3.0], object), "object array of 3 float"),
        ([1, 2], "list of 2 int"),
        (["a.png", None], r"nothing in 1 of 2 rows \(1\)"),
        (np.zeros((2, 8, 8, 3)), r"float64 array of shape \(2, 8, 8, 3\)"),
        (np.zeros((8, 8, 3), np.uint8), r"uint8 array of shape \(8, 8, 3\)"),
        (np.zeros((2, 5), np.uint8), r"uint8 array of shape \(2, 5\)"),
        ([np.zeros((8, 8, 3))], "list of 1 ndarray"),
        ("a.png", "a single str: put it in a list"),
        (7, "a single int"),
        ({"a": 1}, "a single dict"),
    ],
)
def test_wrong_images_are_named(given_, got):
    extractor = GridFeatures()
    for method in (extractor.fit, extractor.transform):
        with pytest.raises(TypeError, match=rf"^GridFeatures expects images \(.*\), got {got}$"):
            method(given_)


@pytest.mark.parametrize(
    ("given_", "got"),
    [
        (["a", np.nan], r"nothing in 1 of 2 rows \(1\)"),
        ([pd.NA, "a", np.ma.masked], r"nothing in 2 of 3 rows \(0, 2\)"),
        (pd.Series(["a", None], dtype=object), r"nothing in 1 of 2 rows \(1\)"),
        (np.zeros(3), r"list of 3 float64|float64 array of shape \(3,\)"),
        (np.zeros((2, 2)), r"float64 array of shape \(2, 2\)"),
        ("a", "a single str: put it in a list"),
        ([["a"]], "list of 1 list"),
    ],
)
def test_wrong_texts_are_named(given_, got):
    with pytest.raises(TypeError, match=rf"^Lengths expects texts \(.*\), got ({got})$"):
        Lengths().transform(given_)


def test_nothing_is_an_error():
    with pytest.raises(ValueError, match=r"^Lengths expects texts \(.*\), got list of 0$"):
        Lengths().transform([])


def test_a_missing_file_is_named_before_work_starts(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no image file '.*absent\.png'"):
        Means().transform([random_images(1)[0], tmp_path / "absent.png"])
    assert calls == []


def broken_files(folder):
    """Write five pictures, of which one is damaged; a sixth is missing."""
    paths = [folder / f"{i}.png" for i in range(6)]
    for path, pixels in zip(paths[:5], random_images(5)):
        Image.fromarray(pixels).save(path)
    paths[1].write_bytes(paths[1].read_bytes()[:40])
    return [*paths, paths[1]]


def test_files_that_cannot_be_read_are_left_out_and_listed_on_request(tmp_path):
    paths = broken_files(tmp_path)
    for made in (Means(), Means(), Means(cache=False)):  # the second reads the cache
        features, problems = made.transform_readable(paths)
        np.testing.assert_array_equal(features, Means().transform([paths[i] for i in (0, 2, 3, 4)]))
        assert list(problems) == [1, 5, 6]
        assert problems[1] == problems[6]
        assert problems[1].startswith(f"cannot read the image {str(paths[1])!r}: ")
        assert problems[5] == f"there is no image file {str(paths[5])!r}"
    features, problems = Means().transform_readable(paths[2:5])
    assert features.shape == (3, 3)
    assert problems == {}
    with pytest.raises(ValueError, match=r"^Means: none of the 2 items can be read; .*1\.png"):
        Means().transform_readable([paths[1], paths[5]])


def test_features_that_are_not_finite_are_left_out_on_request():
    class Odd(Lengths):
        def _extract(self, batch):
            return np.array([[np.nan if "x" in text else len(text)] for text in batch])

    features, problems = Odd(batch_size=2).transform_readable(["a", "x", "bb", "x"])
    assert features.tolist() == [[1], [2]]
    sentence = "Odd returned features that are not finite for item 1, 'x'"
    assert problems == {1: sentence, 3: sentence}


def test_long_items_are_extracted_first():
    Lengths(batch_size=2, cache=False).transform(["a", "dddd", "bb", "ccc", "ee"])
    assert calls == [["dddd", "ccc"], ["bb", "ee"], ["a"]]


def test_wrong_row_count_of_an_author_is_named():
    class Wrong(Lengths):
        def _extract(self, batch):
            return np.zeros((len(batch) - 1, 2))

    with pytest.raises(ValueError, match=r"Wrong\._extract returned 1 rows for a batch of 2"):
        Wrong().transform(["a", "b"])
    for nothing in (None, np.float32(1), np.array(1), (row for row in "ab")):
        Wrong._extract = lambda self, batch, nothing=nothing: nothing
        came = type(nothing).__name__
        with pytest.raises(TypeError, match=rf"Wrong\._extract must return one row .* got {came}$"):
            Wrong().transform(["a", "b"])
    with pytest.raises(NotImplementedError, match=r"TextExtractor must implement _extract"):
        TextExtractor().transform(["a"])


def test_ragged_rows():
    got = Letters().fit_transform(["ab", "", "xyz"])
    assert isinstance(got, Ragged)
    assert got.lengths.tolist() == [2, 0, 3]
    assert got.values.ravel().tolist() == [97, 98, 120, 121, 122]


def test_scikit_learns_rules():
    extractor = GridFeatures(grid=2, size=8, cache=False)
    twin = clone(extractor)
    assert twin.get_params() == extractor.get_params()
    assert twin.set_params(grid=4).grid == 4
    images = random_images(6)
    expected = extractor.fit_transform(images)
    for copy in (pickle.loads(pickle.dumps(extractor)), clone(extractor)):
        np.testing.assert_array_equal(copy.fit(images).transform(images), expected)
    # Nothing is learned, so fit is optional, as in scikit-learn's HashingVectorizer.
    np.testing.assert_array_equal(clone(extractor).transform(images), expected)
    assert extractor.n_features_out_ == expected.shape[1]
    assert extractor.get_feature_names_out().tolist() == [
        f"gridfeatures{i}" for i in range(expected.shape[1])
    ]
    with pytest.raises(AttributeError, match="Lengths has no named features"):
        Lengths().fit(["a"]).get_feature_names_out()


def test_views_with_several_captions_extract_each_image_once():
    from sklearn.feature_extraction.text import TfidfVectorizer

    from crossfit import Views, ViewTransformer

    images = random_images(3)
    captions = ["a cat", "one cat", "a dog", "two dogs", "a bird"]
    views = Views.from_captions(images, captions, [0, 0, 1, 1, 2])
    out = ViewTransformer([("image", Means()), ("text", TfidfVectorizer())]).fit_transform(views)
    assert [len(batch) for batch in calls] == [3]
    np.testing.assert_allclose(out["image"][1], images[0].mean((0, 1)), rtol=1e-6)
    assert out["text"].shape[0] == 5


def test_unfitted_is_refused_where_fitting_matters():
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError):
        LdaTopics().transform(["a"])


def test_pipelines_and_grid_search(tmp_path):
    images = random_images(24)
    images[::2, :, :, 0] //= 4
    y = np.arange(24) % 2
    pipe = Pipeline(
        [("grid", GridFeatures(grid=2, size=8)), ("model", LogisticRegression())],
        memory=str(tmp_path / "memory"),
    )
    search = GridSearchCV(pipe, {"grid__grid": [1, 2]}, cv=3, n_jobs=2)
    assert search.fit(images, y).best_score_ == 1
    paths = []
    for i, image in enumerate(images):
        paths.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(image).save(paths[-1])
    by_path = GridSearchCV(pipe, {"grid__grid": [1, 2]}, cv=3).fit(paths, y)
    np.testing.assert_allclose(
        by_path.cv_results_["mean_test_score"], search.cv_results_["mean_test_score"]
    )
    reduced = make_pipeline(GridFeatures(grid=2, size=8), PCA(3)).fit_transform(images)
    assert reduced.shape == (24, 3)


def test_global_random_state_stays():
    before = np.random.get_state()  # noqa: NPY002
    GridFeatures(grid=2, size=8).fit_transform(random_images(2))
    LdaTopics(2, passes=1, no_below=1).fit_transform(["cats purr", "engines roar"])
    for ours, theirs in zip(np.random.get_state(), before):  # noqa: NPY002
        np.testing.assert_array_equal(ours, theirs)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("verbose", "terminal", "shown"),
    [("auto", True, False), ("auto", False, False), (True, False, True), (False, True, False)],
)
def test_the_bar_of_a_short_run(monkeypatch, verbose, terminal, shown):
    stream = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    Lengths(verbose=verbose, cache=False).transform(["a", "bb"])
    assert ("Lengths" in stream.getvalue()) == shown


def test_the_bar_of_a_long_run(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    seconds = itertools.count(1000.0, 3.0)  # three seconds pass between two readings of the clock
    monkeypatch.setattr("tqdm.std.time", lambda: next(seconds))
    Lengths(cache=False, batch_size=1).transform([str(i) for i in range(9)])
    assert "Lengths" in stream.getvalue()


def test_bundle_state_restores():
    texts = ["cats purr softly", "engines roar loudly"] * 3
    fitted = LdaTopics(2, passes=1, no_below=1).fit(texts)
    import json

    state, arrays = fitted.__crossfit_state__()
    twin = LdaTopics(2, passes=1, no_below=1)
    twin.__crossfit_restore__(json.loads(json.dumps(state)), arrays)
    assert twin.vocabulary_ == fitted.vocabulary_
    np.testing.assert_array_equal(twin.transform(texts), fitted.transform(texts))


def test_listing_the_package_imports_nothing_heavy():
    import subprocess

    code = (
        "import sys, crossfit.extraction, crossfit.extraction.cards; "
        "print({'torch', 'sklearn', 'gensim', 'PIL'} & set(sys.modules)); "
        "assert set(dir(crossfit.extraction)) >= {'GridFeatures', 'Tokens'}"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


def test_lazy_names():
    import crossfit.extraction

    for name in crossfit.extraction.__all__:
        assert getattr(crossfit.extraction, name).__name__ == name
    assert issubclass(GridFeatures, Extractor)
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        _ = crossfit.extraction.absent
    with pytest.raises(ImportError, match="no installed extractor has the class Absent"):
        _ = crossfit.extraction.Absent


def test_cards_point_at_what_they_say():
    import importlib

    from crossfit.extraction import cards

    rng = np.random.default_rng(0)
    items = {
        "pixels": random_images(4, 16),
        "strings": ["cats purr softly", "engines roar"] * 2,
        "samples": [np.sin(np.arange(9000) / k).astype(np.float32) for k in (5, 6, 7, 8)],
        "sequence": Ragged.from_list([rng.normal(size=(k, 5)) for k in (30, 20, 30, 20)]),
    }
    for card in (part for part in vars(cards).values() if isinstance(part, cards.ExtractorCard)):
        module, name = card.target.split(":")
        cls = getattr(importlib.import_module(module), name)
        if issubclass(cls, Extractor):
            assert cls._needs_fit() == card.needs_fit
        if card.name == "onnx-detector":  # needs a file, which test_detectors.py makes
            continue
        if card.modality == "audio":
            pytest.importorskip("librosa")
        extractor = cls(**card.test_params)
        assert set(card.search_space) <= set(extractor.get_params())
        (kind,) = items.keys() & set(card.inputs)
        out = extractor.fit_transform(items[kind])
        assert len(out) == 4
