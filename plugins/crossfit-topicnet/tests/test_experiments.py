"""The data set, the experiment files and the scripts, on synthetic data of the official layouts."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import crossfit
from crossfit import registry
from crossfit.datasets import load
from crossfit.experiment.build import build_method
from crossfit_topicnet.estimator import SSVR, TextTopicNet

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
FILES = sorted(EXPERIMENTS.glob("*.yaml"))


def _script(name):
    spec = importlib.util.spec_from_file_location(f"topicnet_{name}", EXPERIMENTS / f"{name}.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_experiments_name_parameters_that_exist(file):
    spec = pytest.importorskip("crossfit.experiment.spec")
    described = spec.Experiment.from_file(file)
    assert described.methods
    for entry in described.methods:
        if entry.method.startswith("crossfit-correlation:"):
            continue  # which need not be installed; see tests/test_tables.py
        method = build_method(entry)  # which checks its parameters
        if not described.reduced:
            assert entry.published
        if not described.reduced and entry.method in ("ssvr", "texttopicnet"):
            assert (method.n_topics, method.lr) == (40, 1e-3)
            assert list(method.hidden) == [4096, 4096] and method.momentum == 0.9
            assert (method.init, method.image_size, method.bias_lr) == ("caffe", 227, 2)
            ssvr = entry.method == "ssvr"
            assert (method.batch_size, method.lr_step, method.max_epochs) == (
                (128, 200_000, 36) if ssvr else (64, 50_000, 100)
            )
            # The script that trains on other data has the same settings.
            script = _script("published")
            shared = {**script.SETTINGS, **script.OWN[entry.method]}
            for name, value in shared.items():
                given = entry.params[name]
                assert (tuple(given) if isinstance(given, list) else given) == value, name
            assert described.title.endswith("trained on the set's own texts")
    card = registry.get(file.stem, "crossfit.experiments")
    assert card.target == f"crossfit_topicnet:experiments/{file.name}"
    assert [one.name for one in described.datasets] == list(card.datasets)
    # A method of another plugin is written with its distribution.
    assert {one.method for one in described.methods} == set(card.methods)


def test_every_experiment_card_has_a_file():
    names = {entry.card.name for entry in registry.entries("crossfit.experiments")
             if entry.distribution == "crossfit-topicnet"}  # fmt: skip
    assert names == {file.stem for file in FILES} and len(names) == 5


@pytest.fixture
def flickr8k(tmp_path):
    folder = tmp_path / "flickr8k"
    (folder / "Flicker8k_Dataset").mkdir(parents=True)
    (folder / "Flickr8k_text").mkdir()
    np.random.default_rng(0)
    names, lines = [], []
    for i in range(4):
        names.append(f"picture{i}.jpg")
        Image.new("RGB", (8, 8), (60 * i, 0, 0)).save(folder / "Flicker8k_Dataset" / names[i])
        lines += [f"{names[i]}#{k}\tcaption {k} of picture {i} ." for k in range(5)]
    (folder / "Flickr8k_text" / "Flickr8k.token.txt").write_text("\n".join(lines) + "\n")
    for split, part in (("train", names[:3]), ("dev", names[3:]), ("test", [])):
        (folder / "Flickr8k_text" / f"Flickr_8k.{split}Images.txt").write_text("\n".join(part))
    return tmp_path


def test_flickr8k_with_two_texts(flickr8k):
    for root in (flickr8k, flickr8k / "flickr8k"):
        ds = load("flickr8k-two-texts", root, subsets=("train", "dev"), strict=False)
        views = ds["train"].views
        assert len(views) == 15 and len(views.distinct("image")[0]) == 3
        text = views["text"]
        assert text.names == ("article", "caption")
        assert text["caption"][6] == "caption 1 of picture 1 ."
        assert text["article"][6] == " ".join(f"caption {k} of picture 1 ." for k in range(5))
        np.testing.assert_array_equal(views.groups, np.repeat(np.arange(3), 5))
    assert Path(views["image"][0]).name == "picture0.jpg"


def test_an_article_is_ranked_once_for_each_image(flickr8k):
    given = {"subsets": ("train", "dev"), "strict": False}
    whole = load("flickr8k-two-texts", flickr8k, **given)
    ds = load("flickr8k-two-texts", flickr8k, rank="articles", **given)
    assert len(ds["train"]) == len(whole["train"]) == 15
    assert len(ds["dev"]) == len(ds["dev"].info["image_name"]) == 1
    assert ds["dev"].views["text"]["article"][0] == whole["dev"].views["text"]["article"][0]
    with pytest.raises(ValueError, match="rank: must be 'captions' or 'articles', got 'pages'"):
        load("flickr8k-two-texts", flickr8k, rank="pages", **given)


WORDS = {
    "art": "paint canvas artist gallery museum portrait",
    "biology": "animal bird species insect wing feather",
}


@pytest.fixture
def crawl(tmp_path):
    """Write small versions of Wikipedia with captions, the Wikipedia set and Pascal Sentences."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "wikipedia-captions"
    folder.mkdir()
    lines = []
    for i in range(24):
        theme = list(WORDS)[i % 2]
        colour = ((220, 30, 30), (30, 30, 220))[i % 2]
        noise = rng.integers(0, 20, (260, 260, 3))
        pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.jpg")
        words = WORDS[theme].split()
        lines.append(json.dumps({
            "image": f"{i}.jpg", "caption": " ".join(rng.choice(words, 5)),
            "article": " ".join(rng.choice(words, 60)),
        }))  # fmt: skip
    (folder / "pairs.jsonl").write_text("\n".join(lines))
    return tmp_path


@pytest.mark.parametrize("method", ["ssvr", "texttopicnet"])
def test_the_published_protocol_trains_and_tests(crawl, tmp_path, monkeypatch, method):
    monkeypatch.setenv("CROSSFIT_DATA", str(crawl))
    script = _script("published")
    small = {"hidden": (16,), "image_size": 67, "init": "kaiming", "module__channels": (8,) * 5,
             "n_topics": 2, "no_below": 2, "no_above": 0.9, "max_epochs": 3, "lr": 0.01,
             "batch_size": 8, "device": "cpu", "verbose": 0}  # fmt: skip
    model = script.train(method, "wikipedia-captions", tmp_path / "out", **small)
    assert type(model) is {"ssvr": SSVR, "texttopicnet": TextTopicNet}[method]
    assert (tmp_path / "out.pt").exists()
    read = crossfit.load(tmp_path / "out")
    tests = load("wikipedia-captions", text="article")["train"].views
    np.testing.assert_array_equal(read.similarity(tests), model.similarity(tests))

    class Part:
        views, y = tests, np.arange(24) % 2

    def fake(name, **options):
        assert options == ({"features": None, "subsets": ["test"]} if name == "wikipedia" else {})
        return {"test": Part}

    monkeypatch.setattr(script, "load", fake)
    rows = script.rows(read, method, "wikipedia-captions")
    assert len(rows) == 2 and rows[0].startswith("| wikipedia | ")
    assert ("(0.391)" in rows[0]) == (method == "ssvr")
    assert [cell.split()[-1] for cell in rows[1].split("|")[2:4]] == (
        ["(0.326)", "(0.360)"] if method == "ssvr" else ["(0.301)", "(0.352)"]
    )
