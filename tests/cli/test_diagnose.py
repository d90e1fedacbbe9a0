"""crossfit diagnose: data sets, tables, vectors, what it prints and writes, and bad input."""

import csv
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from crossfit import Views
from crossfit.cli.commands import cli
from crossfit.cli.diagnose import FILES, _together
from crossfit.datasets import Dataset, Split, load
from crossfit.datasets.cards import EMOJI

TEXT = (
    "text=[{name: sklearn.feature_extraction.text.TfidfVectorizer}, "
    "{name: sklearn.decomposition.TruncatedSVD, params: {n_components: 100}}]"
)
PLAIN = ["--features", "image=grid", "--features", TEXT]


@pytest.fixture
def diagnose(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(cli, ["diagnose", *map(str, words)])


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def emoji(tmp_path_factory):
    folder = tmp_path_factory.mktemp("emoji")
    done = CliRunner().invoke(cli, ["diagnose", "emoji", *PLAIN, "--out", str(folder / "out")])
    assert done.exit_code == 0, done.output
    return done.output, folder / "out"


def test_the_emoji_need_no_file(emoji):
    output, folder = emoji
    assert "features of image: grid" in output and "[fine] The two views are related." in output
    assert "features of text: TfidfVectorizer, TruncatedSVD" in output
    assert f"page: {folder / 'diagnosis.html'}" in output
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    page = (folder / "diagnosis.html").read_text("utf-8")
    assert "Diagnosis of emoji" in page and page.count("data:image/png") > 20


def test_tables_hold_figures_suspects_and_groups(emoji):
    _, folder = emoji
    ds = load("emoji")
    figures = rows_of(folder / "figures.csv")
    assert figures[0]["measure"] == "linear CKA" and figures[0]["low"] == ""
    suspects = rows_of(folder / "suspects.csv")
    assert len(suspects) == len(ds["train"])
    scores = [float(each["score"]) for each in suspects]
    assert scores == sorted(scores)
    train = ds["train"].views["text"]
    assert all(train[int(each["row"])] == each["text"] for each in suspects)
    groups = rows_of(folder / "groups.csv")
    assert [each["split"] for each in groups] == [
        name for name, split in ds.splits.items() for _ in range(len(split))
    ]
    own = ds["train"].groups
    codes = np.array([int(each["group"]) for each in groups])
    for group in np.unique(own):
        assert len(set(codes[: len(own)][own == group])) == 1


@pytest.fixture
def table(tmp_path):
    """Write a table of pictures, and of texts that name their colour; the last two are swapped."""
    rng = np.random.default_rng(0)
    names = ["red", "green", "blue", "white", "black", "grey"]
    lines = ["image,text"]
    for i in range(60):
        picture = np.full((16, 16, 3), 40 * (i % 6), dtype=np.uint8)
        picture[..., i % 3] = 250 - 10 * (i % 7)
        picture += rng.integers(0, 5, picture.shape, dtype=np.uint8)
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
        lines.append(f"{i}.png,{names[i % 6]} shade {i % 7} number {i}")
    path = tmp_path / "pairs.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_a_table_of_ones_own_pairs_has_one_split(diagnose, table, tmp_path):
    words = [table, "--features", "image=grid"]
    text = ["--features", "text=sklearn.feature_extraction.text.TfidfVectorizer"]
    done = diagnose(*words, *text)
    assert done.exit_code == 0, done.output
    groups = rows_of(tmp_path / "crossfit-diagnosis" / "groups.csv")
    assert {each["split"] for each in groups} == {"all"} and len(groups) == 60
    assert groups[3]["image"].endswith("3.png") and groups[3]["text"] == "white shade 3 number 3"
    again = diagnose(*words, *text, "--seed", 1)
    assert again.exit_code == 0, again.output  # an earlier diagnosis is replaced
    with_split = table.read_text("utf-8").replace("image,text", "image,text,split")
    lines = with_split.split("\n")
    lines[1:] = [f"{line},{'test' if i % 5 == 0 else 'train'}" for i, line in enumerate(lines[1:])]
    table.write_text("\n".join(lines), encoding="utf-8")
    split = diagnose(*words, *text, "--threshold", 0.999)
    assert split.exit_code == 0, split.output
    suspects = rows_of(tmp_path / "crossfit-diagnosis" / "suspects.csv")
    assert len(suspects) == 48


def test_defaults_are_the_features_of_the_demo(diagnose, table):
    from crossfit.registry import entries

    done = diagnose(table)
    assert "features of image: " in done.output and "features of text: " in done.output
    installed = {entry.name for entry in entries("crossfit.extractors")}
    assert ("minilm" in done.output) == ("minilm" in installed)


def test_vectors_need_no_features(diagnose, monkeypatch):
    rng = np.random.default_rng(1)

    def part(n):
        Z = rng.normal(size=(n, 20))
        return Split(Views(image=Z, text=Z[:, ::-1] + 0.1, audio=Z))

    made = Dataset(EMOJI, {"train": part(80), "test": part(20)})
    monkeypatch.setattr("crossfit.datasets.load", lambda *a, **k: made)
    done = diagnose("emoji", "--views", "image,text")
    assert done.exit_code == 0, done.output
    assert "features of" not in done.output
    three = diagnose("emoji")
    assert three.exit_code == 2 and "image, text, audio; choose two by --views" in three.output


def test_rows_of_several_splits_keep_items_and_groups():
    one = Views.from_captions(np.eye(2), ["a", "b", "c"], [0, 0, 1])
    other = Views.from_captions(np.eye(2) + 1, ["d", "e"], [0, 1]).with_groups([7, 7])
    both = _together([one, other])
    assert both.names == ("image", "text") and both["text"].tolist() == list("abcde")
    values, at = both.distinct("image")
    assert len(values) == 4 and at.tolist() == [0, 0, 1, 2, 3]
    assert both.groups.tolist() == [0, 0, 1, 2, 2]
    assert np.array_equal(both["image"][3], other["image"][0])
    assert _together([one]) is one


@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        (["nowhere.csv"], "there is no file 'nowhere.csv', and no data set 'nowhere.csv'", 1),
        (["emoji", "--features", "audio=mfcc"], "--features name the view 'audio', but", 2),
        (["emoji", "--features", "text"], "--features must have the form NAME=VALUE, got", 2),
        (["emoji", "--features", "text=missing"], "no extractor 'missing' is installed", 1),
        (["emoji", "--views", "image"], "--views must be two names such as image,text, got", 2),
        (["emoji", "--views", "image,audio"], "no view 'audio'", 1),
        (["emoji", "--train", "other"], "--train: there is no split 'other'; the splits are", 2),
        (["emoji", "--splits", "train,other"], "must be some of train, val, test, got", 1),
        (["emoji", "--splits", "train,,"], "--splits must be different names with commas, got", 2),
        (["emoji", "--split", "odd"], "can be split as", 1),
        (["emoji", "--threshold", "1"], "1.0 is not in the range 0<x<1", 2),
        (["emoji", "--max-pairs", "3"], "3 is not in the range x>=30", 2),
        (["emoji", "--seed", "-1"], "-1 is not in the range", 2),
        (["pairs.csv", "--root", "."], "--root and --split belong to data sets, not to a table", 2),
        (["pairs.csv", "--splits", "dev"], "--splits: there is no split 'dev'; the spl", 2),
        (["sound.csv"], "the view 'audio' holds neither vectors, pictures nor texts; name its", 2),
        (["."], "'.' has no texts", 1),
    ],
)  # fmt: skip
def test_bad_input_is_one_clear_sentence(diagnose, table, tmp_path, words, message, code):
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    lines = "\n".join(f"a.wav,text {i}" for i in range(40))
    (tmp_path / "sound.csv").write_text(f"audio,text\n{lines}", encoding="utf-8")
    done = diagnose(*words)
    said = done.output + str(done.exception or "")
    assert done.exit_code == code and message in " ".join(said.split()), said
    assert not (tmp_path / "crossfit-diagnosis").exists()


def test_files_of_other_origin_are_not_overwritten(diagnose, tmp_path):
    folder = tmp_path / "crossfit-diagnosis"
    folder.mkdir()
    (folder / "groups.csv").write_text("mine")
    done = diagnose("emoji")
    assert done.exit_code == 2 and "would be overwritten" in done.output
    assert (folder / "groups.csv").read_text() == "mine"
    shutil.rmtree(folder)
    folder.write_text("a file")
    done = diagnose("emoji")
    assert done.exit_code == 2 and "is a file" in done.output
