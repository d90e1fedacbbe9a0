"""crossfit embed: the folder has what the extractors return, and bad input leaves nothing."""

import csv
import json
import os
import signal
import subprocess
import time

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import crossfit
from crossfit.cli import main
from crossfit.cli.commands import cli
from crossfit.datasets import from_precomputed, from_table, read_pairs
from crossfit.embedding import columns_of, embed, extracted
from crossfit.extraction import Characters, GridFeatures, LogMel

CAPTIONS = {"a": ["a dark picture", "dark"], "b": ["grey"], "c": ["a light one"], "d": ["white"]}


@pytest.fixture
def pairs(tmp_path, monkeypatch):
    """Four pictures with five captions in a table, in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CROSSFIT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for i, (name, texts) in enumerate(CAPTIONS.items()):
        pixels = rng.integers(0, 60, (24, 24, 3)) + 60 * i
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"photos/{name}.png")
        part = "train" if i < 3 else "test"
        rows += [(f"photos/{name}.png", text, f"class {i % 2}", part) for text in texts]
    write(tmp_path / "pairs.csv", ["image", "caption", "label", "split"], rows)
    return tmp_path


def write(path, head, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *rows])


def call(*words):
    return CliRunner().invoke(cli, ["embed", *map(str, words)])


def test_the_folder_has_the_features_of_each_item_once_and_the_pairs(pairs):
    done = call("pairs.csv", "--image", "grid:2,size=16", "--text", "characters", "--out", "f")
    assert done.exit_code == 0, done.output
    assert "image: 4 items" in done.output and "text: 5 items, 201" in done.output
    ds, raw = from_precomputed("f"), read_pairs("pairs.csv")
    assert list(ds.splits) == ["train", "test"] and ds.target_names == ("class 0", "class 1")
    for name, split in raw.splits.items():
        found = ds[name]
        np.testing.assert_array_equal(found.y, split.y)
        np.testing.assert_array_equal(found.groups, split.groups)
        for view, extractor in [("image", GridFeatures(2, size=16)), ("text", Characters())]:
            plain = [extractor.fit([item]).transform([item])[0] for item in split.views[view]]
            np.testing.assert_array_equal(found.views[view], plain)
        assert len(found.views.distinct("image")[0]) == len(split.views.distinct("image")[0])
    assert isinstance(ds["train"].views.distinct("image")[0], np.memmap)
    again = crossfit.load("f/extractors").transform(raw["test"].views)
    np.testing.assert_array_equal(again["image"], ds["test"].views["image"])
    with open("f/image.csv", encoding="utf-8") as file:
        assert [row["id"] for row in csv.DictReader(file)] == ["a.png", "b.png", "c.png", "d.png"]


def test_every_command_reads_the_folder_in_place_of_the_pairs(pairs):
    assert call("pairs.csv", "--image", "grid:2", "-o", "f").exit_code == 0
    ds = read_pairs("f")
    assert (
        ds["train"].views["text"].tolist()
        == read_pairs("pairs.csv")["train"].views["text"].tolist()
    )
    with pytest.raises(ValueError, match="has features, so that it has no 'label'"):
        read_pairs("f", label="label")


def test_views_of_other_names(pairs):
    rows = [(f"photos/{name}.png", text, "ja") for name, (text, *_) in CAPTIONS.items()]
    write(pairs / "three.csv", ["photo", "english", "german"], rows)
    done = call("three.csv", "--view", "photo=photo", "--view", "en=english", "--view", "de=german",
                "--features", "photo=grid:2", "--out", "three")  # fmt: skip
    assert done.exit_code == 0, done.output
    views = read_pairs("three")["all"].views
    assert views.names == ("photo", "en", "de") and views["photo"].shape[0] == 4
    assert views["de"].tolist() == ["ja"] * 4


def test_sounds(pairs):
    soundfile = pytest.importorskip("soundfile")
    pytest.importorskip("librosa")
    rng = np.random.default_rng(0)
    for i in range(3):
        soundfile.write(pairs / f"{i}.wav", rng.normal(size=8000) / 10, 8000)
    write(pairs / "sounds.csv", ["audio", "title"], [(f"{i}.wav", f"no {i}") for i in range(3)])
    done = call("sounds.csv", "--audio", "log-mel:duration=1", "--out", "s")
    assert done.exit_code == 0, done.output
    plain = LogMel(duration=1).fit_transform([str(pairs / f"{i}.wav") for i in range(3)])
    np.testing.assert_array_equal(read_pairs("s")["all"].views["audio"], plain)


def test_extractors_that_learn_are_fitted_on_training_pairs_alone(pairs):
    spec = "[{name: sklearn.feature_extraction.text.CountVectorizer}, " \
        "{name: sklearn.decomposition.TruncatedSVD, params: {n_components: 2}}]"  # fmt: skip
    done = call("pairs.csv", "--text", spec, "--out", "f")
    assert done.exit_code == 0, done.output
    stage = crossfit.load("f/extractors").transformers_["text"]
    assert "white" not in stage[0].vocabulary_ and "grey" in stage[0].vocabulary_
    rows = [(f"photos/{name}.png", texts[0]) for name, texts in CAPTIONS.items()]
    write(pairs / "whole.csv", ["image", "caption"], rows)
    refused = call("whole.csv", "--text", spec, "--out", "g")
    assert "have no split 'train'" in str(refused.exception) and not (pairs / "g").exists()


def test_blocks_are_the_same_as_one_call(pairs):
    pixels = list(np.random.default_rng(0).integers(0, 255, (30, 12, 12, 3)).astype(np.uint8))
    extractor = GridFeatures(2, cache=False).fit(pixels)
    blocks = [rows for rows, _ in extracted(extractor, pixels, size=7)]
    assert list(map(len, blocks)) == [7, 7, 7, 7, 2]
    np.testing.assert_array_equal(np.concatenate(blocks), extractor.transform(pixels))


def test_broken_files_are_one_sentence_or_left_out_and_named(pairs):
    (pairs / "photos/b.png").write_bytes(b"not a picture")
    refused = call("pairs.csv", "--image", "grid:2", "--out", "f")
    assert refused.exit_code == 1 and "photos/b.png" in str(refused.exception)
    assert sorted(path.name for path in pairs.iterdir()) == ["pairs.csv", "photos"]
    done = call("pairs.csv", "--image", "grid:2", "--out", "f", "--skip-broken")
    assert done.exit_code == 0, done.output
    assert "image: left out 1 items" in done.output and "photos/b.png" in done.output
    left = read_pairs("f")["train"].views
    assert left["text"].tolist() == ["a dark picture", "dark", "a light one"]
    plain = GridFeatures(2).fit_transform(["photos/a.png", "photos/a.png", "photos/c.png"])
    np.testing.assert_array_equal(left["image"], plain)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pairs.csv", "--out", "f"], "name an extractor for at least one view"),
        (["pairs.csv", "--image", "grids", "--out", "f"], "grids"),
        (["pairs.csv", "--text", "characters:onehot=false", "--out", "f"],
         "characters has no parameter 'onehot'"),
        (["pairs.csv", "--audio", "grid", "--out", "f"],
         "there is no view 'audio': the views of the pairs are image, text"),
        (["pairs.csv", "--image", "grid", "--out", "photos"], "'photos' exists already"),
        (["pairs.csv", "--image", "grid", "--features", "image=grid", "--out", "f"],
         "are the same option"),
        (["pairs.csv", "--image", "grid", "--view", "image=image", "--out", "f"],
         "needs two views or more"),
        (["pairs.csv", "--image", "grid", "--view", "image", "--out", "f"], "VIEW=COLUMN"),
        (["pairs.csv", "--image", "grid", "--view", "image=picture", "--view", "text=caption",
          "--out", "f"], "no column 'picture': it has image, caption, label, split"),
        (["none.csv", "--image", "grid", "--out", "f"], "does not exist"),
        (["empty.csv", "--image", "grid", "--out", "f"], "has no rows"),
        (["lost.csv", "--image", "grid", "--out", "f"], "photos/z.png"),
        (["pairs.csv", "--text", "sklearn.feature_extraction.text.CountVectorizer", "--out", "f"],
         "features must be an array of numbers"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence_and_leaves_nothing(pairs, capsys, words, message):
    write(pairs / "empty.csv", ["image", "caption"], [])
    write(pairs / "lost.csv", ["image", "caption"], [("photos/z.png", "a zebra")])
    before = sorted(path.name for path in pairs.iterdir())
    with pytest.raises(SystemExit) as left:
        main(["embed", *words])
    done = capsys.readouterr()
    assert left.value.code in (1, 2) and message in done.err and done.out == ""
    assert done.err.splitlines()[-1].startswith(("crossfit: ", "Error: "))
    assert sorted(path.name for path in pairs.iterdir() if path.name != "cache") == before


def test_a_run_that_was_killed_continues_from_the_cache(pairs, command):
    rng = np.random.default_rng(0)
    rows = []
    for i in range(600):
        pixels = rng.integers(0, 255, (200, 200, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(pairs / f"photos/{i}.png", compress_level=0)
        rows.append((f"photos/{i}.png", f"no {i}"))
    write(pairs / "many.csv", ["image", "caption"], rows)
    words = [*command, "embed", "many.csv", "--image", "grid:8,size=256", "--out", "f"]
    process = subprocess.Popen(words, cwd=pairs, stderr=subprocess.DEVNULL)
    cache = crossfit.cache.FeatureCache()
    deadline = time.monotonic() + 60
    while not cache.info()["entries"] and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = cache.info()["entries"]
    assert 0 < kept < 600 and not (pairs / "f").exists()
    assert subprocess.run(words, cwd=pairs, check=False).returncode == 0
    assert cache.info()["entries"] == 600
    assert not [name for name in os.listdir(pairs) if name.startswith(".f-")]  # the draft is gone
    assert json.loads((pairs / "f/features.json").read_text())["views"]["image"]["n"] == 600


def test_damage_is_found(pairs):
    assert call("pairs.csv", "--image", "grid:2", "-o", "f").exit_code == 0
    with open("f/image.npy", "ab") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match=r"image\.npy must have"):
        read_pairs("f")
    (pairs / "f/features.json").write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        read_pairs("f")


def test_arguments_of_the_function(tmp_path):
    ds = from_table({"image": ["x", "y"], "text": ["a", "b"]}, views={"p": "image", "t": "text"})
    assert [column.index.tolist() for column in columns_of(ds).values()] == [[0, 1], [0, 1]]
    with pytest.raises(ValueError, match="there is no view 'image'"):
        embed(ds, {"image": GridFeatures()}, tmp_path / "f")
    with pytest.raises(FileExistsError, match="exists already"):
        embed(ds, {}, tmp_path)
