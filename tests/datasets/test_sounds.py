"""Clotho and AudioCaps, on trees of the official shapes."""

import csv
from pathlib import Path

import pytest

from crossfit.datasets import audiocaps, clotho, load

PARTS = {"development": 3, "validation": 2, "evaluation": 2}


def write_csv(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


@pytest.fixture
def clotho_root(tmp_path):
    root = tmp_path / "clotho"
    head = ["file_name", *(f"caption_{k}" for k in range(1, 6))]
    for part, n in PARTS.items():
        names = [f"{part} {i}, é.wav" for i in range(n)]
        rows = [[name, *(f"{name} says {k} " for k in range(5))] for name in names]
        write_csv(root / f"clotho_captions_{part}.csv", [head, *rows])
        (root / part).mkdir()
        for name in names:
            (root / part / name).write_bytes(name.encode())
    return root


class TestClotho:
    def test_official_layout(self, clotho_root):
        ds = load("clotho", clotho_root.parent, strict=False)
        assert list(ds.splits) == ["train", "val", "test"]
        for name, n in zip(ds.splits, PARTS.values()):
            views = ds[name].views
            assert views.names == ("audio", "text")
            assert len(views.distinct("audio")[0]) == n and len(views) == 5 * n
            for path, text, own in zip(views["audio"], views["text"], ds[name].info["audio_name"]):
                assert Path(path).is_file() and text.startswith(Path(path).name)
                assert own == Path(path).name
        assert list(ds["test"].views["text"][:2]) == [
            "evaluation 0, é.wav says 0", "evaluation 0, é.wav says 1",
        ]  # fmt: skip

    def test_folders_of_the_baseline(self, clotho_root):
        for part in PARTS:
            (clotho_root / "clotho_audio_files").mkdir(exist_ok=True)
            (clotho_root / "clotho_csv_files").mkdir(exist_ok=True)
            (clotho_root / part).rename(clotho_root / "clotho_audio_files" / part)
            name = f"clotho_captions_{part}.csv"
            (clotho_root / name).rename(clotho_root / "clotho_csv_files" / name)
        ds = clotho.load(clotho_root, captions_per_clip=2, strict=False)
        assert len(ds["train"]) == 6

    def test_only_what_is_asked_for_is_needed(self, clotho_root):
        (clotho_root / "clotho_captions_development.csv").unlink()
        ds = clotho.load(clotho_root, subsets="val", strict=False)
        assert list(ds.splits) == ["val"]
        with pytest.raises(FileNotFoundError, match=r"clotho_captions_development\.csv.*zenodo"):
            clotho.load(clotho_root)

    def test_errors(self, clotho_root):
        with pytest.raises(ValueError, match="train has 3, not 3839; val has 2, not 1045"):
            clotho.load(clotho_root)
        with pytest.raises(ValueError, match="captions_per_clip of data set 'clotho' must be"):
            clotho.load(clotho_root, captions_per_clip=0)
        (clotho_root / "validation/validation 1, é.wav").unlink()
        with pytest.raises(FileNotFoundError, match=r"needs validation/validation 1, é\.wav"):
            clotho.load(clotho_root, strict=False)
        write_csv(clotho_root / "clotho_captions_evaluation.csv", [["file_name", "caption_1"]])
        with pytest.raises(ValueError, match=r"evaluation\.csv must have .* lacks caption_2, capt"):
            clotho.load(clotho_root, subsets="test", strict=False)


HEAD = ["audiocap_id", "youtube_id", "start_time", "caption"]


@pytest.fixture
def audiocaps_root(tmp_path):
    root = tmp_path / "audiocaps"
    train = [[i, f"id-{i}", 10 * i, f"clip {i}, first"] for i in range(3)]
    test = [[100 + k, "_x_y", 30, f"one says {k}"] for k in range(5)]
    test += [[200 + k, "_x_y", 60, f"two says {k}"] for k in range(5)]
    for name, rows in (("train", train), ("val", train[:1]), ("test", test)):
        write_csv(root / "dataset" / f"{name}.csv", [HEAD, *rows])
    for name in ("id-0_0.wav", "id-1_10_20.flac", "deep/id-2_20000_30000.wav", "_x_y_30.mp3",
                 "_x_y_60.ogg", "note.txt"):  # fmt: skip
        (root / "audio" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "audio" / name).write_bytes(name.encode())
    return root


class TestAudioCaps:
    def test_official_layout(self, audiocaps_root):
        with pytest.raises(ValueError, match="train has 3, not 49838"):
            load("audiocaps", audiocaps_root.parent)
        ds = audiocaps.load(audiocaps_root, subsets=("train", "test"), strict=False)
        assert [Path(p).name for p in ds["train"].views["audio"]] == [
            "id-0_0.wav", "id-1_10_20.flac", "id-2_20000_30000.wav",
        ]  # fmt: skip
        assert ds["train"].views["text"][1] == "clip 1, first"
        assert ds["test"].views.distinct("audio")[1].tolist() == [0] * 5 + [1] * 5
        assert list(ds["test"].info["caption_id"][4:6]) == ["104", "200"]
        assert ds["test"].views["text"][5] == "two says 0"

    @pytest.mark.parametrize("name", ["Yid-0.wav", "id-0.opus", "0.wav"])
    def test_other_names_of_clips(self, audiocaps_root, name):
        (audiocaps_root / "audio/id-0_0.wav").rename(audiocaps_root / name)
        views = audiocaps.load(audiocaps_root, subsets="train", strict=False)["train"].views
        assert Path(views["audio"][0]).name == name

    def test_tables_beside_the_clips_and_version_2(self, audiocaps_root):
        (audiocaps_root / "dataset").rename(audiocaps_root / "dataset2.0")
        ds = audiocaps.load(audiocaps_root, "2.0", subsets="train", strict=False)
        (audiocaps_root / "dataset2.0/train.csv").rename(audiocaps_root / "train.csv")
        first = audiocaps.load(audiocaps_root, subsets="train", strict=False)
        assert len(ds["train"]) == len(first["train"]) == 3 and ds.revision != first.revision

    def test_clips_that_are_gone(self, audiocaps_root):
        (audiocaps_root / "audio/_x_y_60.ogg").unlink()
        with pytest.raises(FileNotFoundError, match=r"needs _x_y_60\.wav \(test\), not found"):
            audiocaps.load(audiocaps_root, subsets="test")
        with pytest.warns(UserWarning, match="'audiocaps': 1 clips are not in .* left out"):
            ds = audiocaps.load(audiocaps_root, subsets="test", strict=False)
        assert len(ds["test"]) == 5
        (audiocaps_root / "audio/_x_y_30.mp3").unlink()
        with pytest.raises(FileNotFoundError, match=r"needs _x_y_30\.wav \(test\), _x_y_60\.wav"):
            audiocaps.load(audiocaps_root, subsets="test", strict=False)

    def test_bad_tables(self, audiocaps_root):
        path = audiocaps_root / "dataset/val.csv"
        for rows, message in (
            ([HEAD[:3], [1, "a", 0]], r"val\.csv must have the columns .* but lacks caption"),
            ([HEAD, [1, "a", "1:30", "x"]], r"val\.csv: the start_time of 'a' must be whole sec"),
            ([HEAD, [0, "id-0", 0, " "]], r"val\.csv has an empty caption of id-0"),
        ):
            write_csv(path, rows)
            with pytest.raises(ValueError, match=message):
                audiocaps.load(audiocaps_root, subsets="val", strict=False)
        path.unlink()
        with pytest.raises(FileNotFoundError, match=r"needs dataset/val\.csv.*cdjkim/audiocaps"):
            audiocaps.load(audiocaps_root, subsets="val")
