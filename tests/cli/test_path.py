"""From a folder of pictures and a CSV to answers on the command line, and what stops on the way."""

import csv
import json
import os
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest
import yaml
from PIL import Image, ImageDraw

import crossfit
from crossfit.cli import main
from crossfit.cli.commands import cli
from crossfit.datasets import read_pairs
from crossfit.persistence.files import signed
from crossfit.winners import evaluate_winner, pairs_for, read_winner

COLORS = ["red", "green", "blue", "yellow", "purple", "orange", "black", "white"]
SHAPES = ["circle", "square", "bar", "cross", "frame"]
WORDS = (
    "[{name: sklearn.feature_extraction.text.TfidfVectorizer}, "
    "{name: sklearn.decomposition.TruncatedSVD, params: {n_components: 8}}]"
)
FEATURES = ["--image", "grid:2,size=32", "--text", WORDS]


def draw(path, color, shape, shade):
    picture = Image.new("RGB", (40, 40), (shade, shade, shade))
    pen = ImageDraw.Draw(picture)
    box = {"circle": (8, 8, 32, 32), "square": (8, 8, 32, 32), "bar": (4, 16, 36, 24),
           "cross": (16, 2, 24, 38), "frame": (4, 4, 36, 36)}[shape]  # fmt: skip
    if shape == "circle":
        pen.ellipse(box, fill=color)
    elif shape == "frame":
        pen.rectangle(box, outline=color, width=6)
    else:
        pen.rectangle(box, fill=color)
    picture.save(path)


def write(path, head, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *rows])


def make(folder):
    """Make 120 pictures, of which 80 have two captions each in a table, and 40 in another."""
    (folder / "photos").mkdir()
    rows = {"pairs.csv": [], "test.csv": []}
    for part, shades in {"pairs.csv": (60, 90), "test.csv": (120,)}.items():
        for shade in shades:
            for color in COLORS:
                for shape in SHAPES:
                    name = f"photos/{color}-{shape}-{shade}.png"
                    draw(folder / name, color, shape, shade)
                    rows[part] += [
                        (name, f"a {color} {shape}"),
                        (name, f"{shape}, painted {color}"),
                    ]
    for name, own in rows.items():
        write(folder / name, ["image", "caption"], own)


@pytest.fixture(scope="module")
def made(tmp_path_factory, command):
    """A folder with pictures, tables and a winner, fitted on the real command line."""
    folder = tmp_path_factory.mktemp("path")
    make(folder)
    done = subprocess.run(
        [*command, "fit", "cca", "pairs.csv", *FEATURES, "--set", "n_components=6", "--save",
         "winner"],
        cwd=folder, env={**os.environ, "CROSSFIT_CACHE": str(folder / "cache")}, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def here(made, monkeypatch):
    monkeypatch.chdir(made)
    monkeypatch.setenv("CROSSFIT_CACHE", str(made / "cache"))
    return made


def test_the_whole_path(tmp_path, run):
    make(tmp_path)

    def crossfit_(*words):
        done = run(*words, cwd=tmp_path, home=tmp_path / "cache")
        assert done.returncode == 0, done.stderr
        return done.stdout

    crossfit_("embed", "pairs.csv", "--image", "grid:2,size=32", "--out", "features")
    said = crossfit_("fit", "cca", "features", "--text", WORDS, "--tune", "3", "--save", "winner")
    assert "CCA with its defaults" in said and "chance" in said and "n_components = " in said
    record = json.loads((tmp_path / "winner/record.json").read_text())
    assert record["kinds"] == {"image": "picture", "text": "text"}
    assert record["data"]["pairs"] == {"train": 128, "test": 32}
    assert record["data"]["groups"] == {"train": 64, "test": 16}  # captions stay together
    assert record["tuning"]["trials"] == 3 and record["tuning"]["on"] == "3 folds of train"
    assert all(row["low"] <= row["value"] <= row["high"] for row in record["measures"])
    assert record["command"].startswith("crossfit fit cca features")
    card = (tmp_path / "winner/README.md").read_text()
    assert (
        record["command"] in card and "128 in train (64 groups)" in card and "mrr" in card.lower()
    )

    table = crossfit_("evaluate", "winner", "test.csv", "--out", "report")
    assert "text → image" in table and (tmp_path / "report/report.html").exists()

    query = ["search", "winner", "a red square", "--gallery", "photos", "-k", "5", "--json"]
    found = json.loads(crossfit_(*query))
    assert len(found) == 5 and any(row["id"].startswith("red-") for row in found)
    assert os.path.exists(found[0]["path"])
    picture = "photos/blue-circle-120.png"
    texts = crossfit_("search", "winner", "--image", picture, "--gallery", "test.csv", "-k", "5")
    assert len(texts.splitlines()) == 5 and "blue" in texts
    crossfit_("search", "winner", "a red square", "--gallery", "photos", "--html", "r.html")
    page = (tmp_path / "r.html").read_text()
    assert page.count("data:image/png") == 10 and "a red square" in page and "</html>" in page

    text = crossfit_("new", "experiment", "pairs.csv", *FEATURES)
    spec = yaml.safe_load(text.replace("tuning: {trials: 10", "tuning: {trials: 2"))
    assert spec["dataset"]["table"] == "pairs.csv" and "# " in text
    (tmp_path / "mine.yaml").write_text(text)
    said = crossfit_("run", "mine.yaml", "--set", "tuning.trials=2")
    assert "CCA tuned" in said and "4 done" in said
    assert "4 cached" in crossfit_("run", "mine.yaml", "--set", "tuning.trials=2", "--dry-run")


def test_a_winner_says_what_a_plain_pipeline_says(here):
    winner = read_winner("winner")
    name, pairs, _ = pairs_for(winner, "test.csv")
    found = evaluate_winner(winner, pairs, ["r@1", "mrr"])
    assert name == "all"
    scores = crossfit.similarity(winner.model, pairs.views, query="image", gallery="text")
    plain = crossfit.evaluate(
        scores, pairs.views.relevance("image", "text"), ["r@1", "mrr"], names=("image", "text")
    )
    for metric in ("r@1", "mrr"):
        assert found.mean(metric, "image2text") == plain.mean("image2text", metric)
        assert found.mean(metric, "text2image") == plain.mean("text2image", metric)
    record = winner.record["measures"]
    test = read_pairs_divided()
    again = evaluate_winner(winner, test, ["mrr"])
    kept = {row["direction"]: row["value"] for row in record if row["measure"] == "mrr"}
    assert again.mean("mrr", "text2image") == pytest.approx(kept["text2image"])
    assert again.mean("mrr", "image2text") == pytest.approx(kept["image2text"])


def test_figures_on_the_pairs_of_the_fit_have_a_note(here):
    winner = read_winner("winner")
    for source, noted in ((winner.record["data"]["source"], True), ("test.csv", False)):
        _, pairs, revision = pairs_for(winner, source)
        found = evaluate_winner(winner, pairs, ["mrr"], revision=revision)
        n = winner.record["data"]["pairs"]["train"]
        assert any(f"was fitted on {n} of these pairs" in note for note in found.notes) is noted


def read_pairs_divided():
    from crossfit.experiment.own import read_own

    return read_own("pairs.csv", {}, {})["test"]


def test_the_search_is_that_of_the_pipeline_and_its_gallery_is_kept(here, capsys):
    words = ["search", "winner", "a green bar", "--gallery", "photos", "-k", "7", "--json"]
    first, second = (answers(words, capsys) for _ in range(2))
    assert first == second
    paths = sorted(str(path) for path in (here / "photos").iterdir())
    plain = crossfit.search(
        read_winner("winner").model, ["a green bar"], view="text", gallery=paths, k=7
    )
    assert [os.path.basename(path) for path in plain.items[0]] == [row["id"] for row in first]
    np.testing.assert_allclose(plain.scores[0], [row["score"] for row in first], atol=1e-5)
    assert "galleries" in crossfit.cache.FeatureCache().info()["extractors"]
    shutil.copy(here / "photos/green-bar-60.png", here / "photos/new.png")
    assert "new.png" in [row["id"] for row in answers([*words, "-k", "200"], capsys)]
    (here / "photos/new.png").unlink()
    assert "new.png" not in [row["id"] for row in answers([*words, "-k", "200"], capsys)]


def test_an_index_is_a_gallery(here, capsys):
    pytest.importorskip("pyarrow")
    main_ok(["index", "winner", "photos", "--out", "photos.index"])
    capsys.readouterr()
    words = ["search", "winner", "a green bar", "-k", "7", "--json", "--gallery"]
    found, plain = answers([*words, "photos.index"], capsys), answers([*words, "photos"], capsys)
    assert [row["id"] for row in found] == [row["id"] for row in plain]
    np.testing.assert_allclose(
        [row["score"] for row in found], [row["score"] for row in plain], atol=1e-4
    )
    assert found[0]["path"] == plain[0]["path"]
    with pytest.raises(SystemExit):
        main(["search", "winner", "x", "--gallery", "winner"])
    assert "Traceback" not in capsys.readouterr().err
    shutil.rmtree(here / "photos.index")


def answers(words, capsys):
    cli.main(words, standalone_mode=False)
    return json.loads(capsys.readouterr().out)


def test_k_may_exceed_the_gallery_and_a_gallery_may_be_of_the_kind_of_the_query(here, capsys):
    words = ["search", "winner", "a green bar", "--gallery", "photos", "-k", "9999", "--json"]
    assert len(answers(words, capsys)) == 120
    words = ["search", "winner", "--image", "photos/red-bar-60.png", "--gallery", "photos",
             "--gallery-view", "image", "-k", "1", "--json"]  # fmt: skip
    assert answers(words, capsys)[0]["id"] == "red-bar-60.png"


def test_sets_for_validation_and_test_are_shares_splits_and_files(here, capsys):
    words = ["fit", "cca", "pairs.csv", *FEATURES, "--tune", "2", "--store", "other"]
    main_ok([*words, "--validation", "0.25", "--test", "test.csv", "--save", "w2"])
    record = json.loads((here / "w2/record.json").read_text())
    assert record["data"]["groups"] == {"train": 60, "validation": 20, "test": 40}
    assert record["tuning"]["on"] == "validation" and record["columns"] == {
        "image": "image", "text": "caption"
    }  # fmt: skip
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main([*words, "--test", "pairs.csv", "--save", "w3"])
    assert "files of 'image' that are in the split 'train' too" in capsys.readouterr().err
    shutil.rmtree(here / "w2")
    shutil.rmtree(here / "other")


def main_ok(words):
    try:
        main(words)
    except SystemExit as left:
        assert not left.code


BAD = {
    "no picture": (["fit", "cca", "lost.csv", *FEATURES], "photos/none.png"),
    "no column": (
        ["fit", "cca", "pairs.csv", *FEATURES, "--view", "image=picture", "--view", "text=caption"],
        "the table has no column 'picture': it has image, caption",
    ),
    "empty table": (["fit", "cca", "empty.csv", *FEATURES], "the table has no rows"),
    "one pair": (["fit", "cca", "one.csv", *FEATURES], "one.csv has 1 pair in 1 group"),
    "unknown method": (["fit", "ccca", "pairs.csv", *FEATURES], "ccca"),
    "unknown extractor": (["fit", "cca", "pairs.csv", "--image", "girds"], "girds"),
    "unknown view": (["fit", "cca", "pairs.csv", "--audio", "grid"], "'audio'"),
    "unknown parameter": (
        ["fit", "cca", "pairs.csv", *FEATURES, "--set", "ridge=1"], "no parameter 'ridge'"
    ),
    "no features": (["fit", "cca", "pairs.csv"], "features"),
    "no labels": (["fit", "sm", "pairs.csv", *FEATURES], "sm requires labels"),
    "folder exists": (["fit", "cca", "pairs.csv", *FEATURES, "--save", "photos"], "exists already"),
    "bad share": (["fit", "cca", "pairs.csv", *FEATURES, "--test", "1.5"], "between 0 and 1"),
    "no file": (["fit", "cca", "pairs.csv", *FEATURES, "--test", "gone.csv"], "'gone.csv'"),
    "broken picture": (["fit", "cca", "broken.csv", *FEATURES], "broken.png"),
    "no plugin": (["search", "foreign", "x", "--gallery", "photos"], "crossfit-gone"),
    "no winner": (["search", "photos", "x", "--gallery", "photos"], "'photos' is not a bundle"),
    "no gallery": (["search", "winner", "a dog"], "--gallery is needed"),
    "wrong kind": (
        ["search", "winner", "--image", "photos/red-bar-60.png", "--gallery", "photos"],
        "must have texts, but 'photos' is a folder",
    ),
    "wrong query": (
        ["search", "winner", "--audio", "a.wav", "--gallery", "photos"],
        "cannot search with a sound: it was fitted on the views image (picture), text (text)",
    ),
    "empty query": (["search", "winner", " ", "--gallery", "photos"], "must not be empty"),
    "two queries": (
        ["search", "winner", "x", "--image", "photos/red-bar-60.png", "--gallery", "photos"],
        "exactly one of",
    ),
    "no pictures": (["search", "winner", "x", "--gallery", "nothing"], "has 0 other files"),
    "no pairs": (["evaluate", "winner"], "need one table of pairs"),
    "other columns": (["evaluate", "winner", "empty.csv"], "has no rows"),
    "experiment on nothing": (["new", "experiment"], "give the pairs"),
    "damaged record": (["search", "damaged", "x", "--gallery", "photos"], "is damaged"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_leaves_nothing(here, capsys, case):
    words, message = BAD[case]
    write(here / "empty.csv", ["image", "caption"], [])
    write(here / "one.csv", ["image", "caption"], [("photos/red-bar-60.png", "a bar")])
    write(here / "lost.csv", ["image", "caption"], [("photos/none.png", "nothing")])
    (here / "broken.png").write_bytes(b"not a picture")
    names = sorted(path.name for path in (here / "photos").iterdir())[:9]
    rows = [("broken.png", "broken"), *((f"photos/{name}", name) for name in names)]
    write(here / "broken.csv", ["image", "caption"], rows)
    (here / "a.wav").write_bytes(b"")
    (here / "nothing").mkdir(exist_ok=True)
    foreign_bundle(here)
    if words[0] == "fit" and "--save" not in words:
        words = [*words, "--save", "new"]
    before = sorted(path.name for path in here.iterdir())
    with pytest.raises(SystemExit) as left:
        main(words)
    said = capsys.readouterr()
    assert left.value.code in (1, 2)
    assert message in said.err.replace("\n", " "), said.err
    assert "Traceback" not in said.err
    assert said.err.splitlines()[-1].startswith(("crossfit: ", "Error: "))
    after = [path.name for path in here.iterdir() if path.name not in ("crossfit-runs", "new")]
    assert sorted(after) == [name for name in before if name != "crossfit-runs"]
    assert not (here / "new").exists()


def foreign_bundle(folder):
    """Write a winner of a plugin that is not installed, and one with a damaged record."""
    for name in ("foreign", "damaged"):
        shutil.rmtree(folder / name, ignore_errors=True)
        shutil.copytree(folder / "winner", folder / name)
    path = folder / "foreign/manifest.json"
    tree = json.loads(path.read_text().replace('"cca"', '"gone"'))
    tree["types"]["gone"]["distribution"] = "crossfit-gone"
    del tree["sha256"]
    path.write_bytes(signed(tree))
    (folder / "damaged/record.json").write_text("{")


def test_ctrl_c_leaves_nothing_half_written(here, command):
    words = [*command, "fit", "cca", "pairs.csv", *FEATURES, "--tune", "500", "--save", "late",
             "--store", "late-runs"]  # fmt: skip
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(here.glob("late-runs/studies/*.db")) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.1)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "Traceback" not in said
    assert "repeat the command to continue" in said and not (here / "late").exists()
    assert not [path.name for path in here.iterdir() if path.name.startswith(".late")]
    shutil.rmtree(here / "late-runs")


def test_the_written_experiment_has_other_features_for_other_kinds(here, capsys):
    soundfile = pytest.importorskip("soundfile")
    for i in range(2):
        soundfile.write(here / f"{i}.wav", np.full(800, i / 4), 8000)
    write(here / "sounds.csv", ["audio", "title"], [("0.wav", "none"), ("1.wav", "nothing")])
    cli.main(["new", "experiment", "sounds.csv"], standalone_mode=False)
    spec = yaml.safe_load(capsys.readouterr().out)
    assert spec["features"]["audio"] == "log-mel:output=moments" and "text" in spec["features"]
    assert read_pairs("sounds.csv")["all"].views.names == ("audio", "text")
