"""The music set's loader on tiny npz files of its documented contract."""

import numpy as np
import pytest

from crossfit import registry
from crossfit.datasets import load, music


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {
        "audio": rng.normal(size=(15, 20, 161)).astype(np.float32),
        "text": rng.normal(size=(15, 300)).astype(np.float32),
        "y": np.arange(15) % 20,
    }


@pytest.fixture
def folder(tmp_path, arrays):
    np.savez(tmp_path / "music.npz", **arrays)
    return tmp_path


def test_a_fifth_tests_and_the_folds_are_a_partition(folder, arrays):
    seen = []
    for fold in range(5):
        ds = load("music", folder, fold=fold, strict=False)
        assert list(ds.splits) == ["train", "test"]
        assert (len(ds["train"]), len(ds["test"])) == (12, 3)
        for name in ("train", "test"):
            rows = ds[name].info["row"]
            np.testing.assert_array_equal(ds[name].views["audio"], arrays["audio"][rows])
            np.testing.assert_array_equal(ds[name].views["text"], arrays["text"][rows])
            np.testing.assert_array_equal(ds[name].y, arrays["y"][rows])
        assert not set(ds["train"].info["row"]) & set(ds["test"].info["row"])
        seen += ds["test"].info["row"].tolist()
    assert sorted(seen) == list(range(15))


def test_other_features_of_the_sounds_are_channels(folder, arrays):
    alone = load("music", folder, channels=True, strict=False)["test"]
    assert alone.views["audio"].names == ("mfcc",)
    more = {"spotify": np.ones((15, 12)), "pretrained": np.arange(45.0).reshape(15, 3)}
    np.savez(folder / "music.npz", **arrays, **more)
    data = load("music", folder, channels=True, strict=False)
    for name in ("train", "test"):
        audio, rows = data[name].views["audio"], data[name].info["row"]
        assert audio.names == ("mfcc", "pretrained", "spotify")
        np.testing.assert_array_equal(audio["mfcc"], arrays["audio"][rows])
        np.testing.assert_array_equal(audio["pretrained"], more["pretrained"][rows])
    plain = load("music", folder, strict=False)
    assert plain["test"].views["audio"].shape == (3, 20, 161)
    assert plain.revision != data.revision
    for wrong, message in (
        (np.ones(15), r"spotify must have shape \(15, d\), got \(15,\)"),
        (np.ones((14, 2)), r"spotify must have shape \(15, 2\), got \(14, 2\)"),
        (np.full((15, 2), np.inf), "spotify contains NaN or infinity"),
    ):
        np.savez(folder / "music.npz", **arrays, spotify=wrong)
        with pytest.raises(ValueError, match=message):
            load("music", folder, strict=False)


def test_folds_repeat_and_follow_the_seed(folder):
    first, again, other = (load("music", folder, seed=seed, strict=False) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first["test"].info["row"], again["test"].info["row"])
    assert first.revision == again.revision != other.revision
    assert first["test"].info["row"].tolist() != other["test"].info["row"].tolist()
    assert list(load("music", folder, subsets="test", strict=False).splits) == ["test"]


def test_moods_by_name_are_moods_by_number(folder, arrays):
    by_number = load("music", folder, strict=False)
    names = np.array(music.MOODS)[arrays["y"]]
    np.savez(folder / "music.npz", **arrays | {"y": names})
    by_name = load("music", folder, strict=False)
    np.testing.assert_array_equal(by_name["train"].y, by_number["train"].y)
    assert by_name.target_names == music.MOODS == tuple(sorted(music.MOODS))
    assert len(music.MOODS) == 20


def test_the_official_counts_are_checked(folder):
    with pytest.raises(ValueError, match=r"train has 12, not 8000; test has 3, not 2000"):
        load("music", folder)
    assert sum(registry.get("music", "crossfit.datasets").counts.values()) == 10_000


def test_what_is_missing_or_misshapen_is_said(folder, arrays):
    with pytest.raises(FileNotFoundError, match=r"data set 'music' needs music\.npz"):
        music.load(folder / "absent")
    with pytest.raises(ValueError, match="has the folds 0 to 4, got fold=5"):
        load("music", folder, fold=5)
    for change, message in (
        ({"audio": None}, r"must hold audio, text, y; audio is missing, got text, y"),
        ({"audio": arrays["audio"][:, :13]}, r"audio must have shape \(15, 20, 161\), got"),
        ({"text": arrays["text"][:9]}, r"text must have shape \(15, 300\), got \(9, 300\)"),
        ({"text": np.full((15, 300), "la")}, "text must hold numbers, got type <U2"),
        ({"text": np.full((15, 300), np.nan)}, "text contains NaN or infinity"),
        ({"y": np.arange(15) + 6}, "from 0 to 19, got 6 to 20"),
        ({"y": np.arange(15) / 2}, "from 0 to 19, got type float64"),
        ({"y": np.array(["sad"] * 14 + ["hungry"])}, "y has the mood 'hungry', there are aggres"),
        ({"y": np.int64(3)}, "y must have one row per song, got a single value"),
        ({"y": arrays["y"].astype(object)}, "y is an array of Python objects, which is not read"),
    ):
        held = {name: part for name, part in (arrays | change).items() if part is not None}
        np.savez(folder / "music.npz", **held)
        with pytest.raises(ValueError, match=message):
            load("music", folder, strict=False)
    few = {name: part[:4] for name, part in arrays.items()}
    np.savez(folder / "music.npz", **few)
    with pytest.raises(ValueError, match="must have at least 5 songs, got 4"):
        load("music", folder, strict=False)


def test_what_is_no_archive_is_refused(folder):
    for content in (b"", b"text", b"PK\x03\x04 cut"):
        (folder / "music.npz").write_bytes(content)
        with pytest.raises(ValueError, match=r"music\.npz is not an npz archive"):
            load("music", folder, strict=False)
    with (folder / "music.npz").open("wb") as stream:
        np.save(stream, np.zeros(3))
    with pytest.raises(ValueError, match=r"music\.npz is not an npz archive"):
        load("music", folder, strict=False)
    # A pickle is never opened.
    (folder / "music.npz").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(ValueError, match=r"music\.npz is not an npz archive"):
        load("music", folder, strict=False)
