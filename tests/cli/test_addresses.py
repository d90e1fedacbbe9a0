"""Every command that takes a bundle takes its address on the hub, with the same results."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.pipeline import Pipeline

import crossfit
from crossfit import RetrievalScorer, Views, ViewTransformer
from crossfit.cli import main
from crossfit.cli.index import _loaded
from crossfit.datasets import read_pairs
from crossfit.extraction import Characters, GridFeatures
from crossfit.methods import CCA
from crossfit.winners import extractors_of, read_winner, write_winner

# The picture is a view that is not called image, so that a search needs the record.
KINDS = {"photo": "picture", "text": "text"}


def model_of(files, texts, k=3):
    features = ViewTransformer([("photo", GridFeatures(2)), ("text", Characters())])
    steps = [("features", features), ("cca", CCA(k, reg=1.0)), ("scorer", RetrievalScorer())]
    return Pipeline(steps).fit(Views(photo=files, text=texts))


@pytest.fixture
def here(hub_server, tmp_path, monkeypatch, capsys):
    """Pictures and tables in the current folder, and two winners in folders and on the hub."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CROSSFIT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for i in range(30):
        pixels = rng.integers(0, 60, (24, 24, 3)) + 6 * i
        path = f"photos/{i:02}.png"
        Image.fromarray(pixels.astype(np.uint8)).save(path)
        rows.append((path, "light " * (i // 3) + f"picture {i}"))
    with open("pairs.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("photo", "text"), *rows])
    files, texts = zip(*((os.path.abspath(path), text) for path, text in rows))
    columns = {"photo": "photo", "text": "text"}
    record = {"kinds": KINDS, "columns": columns, "data": {"revision": "x"}}
    found = {}
    for name, k in (("winner", 3), ("second", 2)):
        write_winner(model_of(list(files), list(texts), k), record, name)
        main_ok("push", name, f"me/{name}")
        found[name] = capsys.readouterr().out.strip()
    hub_server["requests"].clear()
    _loaded.cache_clear()  # the commits are the same in each test
    return found


def main_ok(*words):
    try:
        main(list(words))
    except SystemExit as left:
        assert not left.code


def said_by(capsys, *words):
    capsys.readouterr()
    main_ok(*words)
    return capsys.readouterr().out


def test_evaluate(here, capsys):
    main_ok("evaluate", "a=winner", "b=second", "pairs.csv", "--out", "folder")
    main_ok("evaluate", f"a={here['winner']}", f"b={here['second']}", "pairs.csv", "--out", "hub")
    for name in ("leaderboard.csv", "leaderboard.md"):
        assert Path("hub", name).read_bytes() == Path("folder", name).read_bytes()
    table = said_by(capsys, "evaluate", here["winner"], here["second"], "pairs.csv", "--out", "c")
    assert "me/winner" in table and "me/second" in table


def test_search(here, capsys):
    words = ["light light picture", "--gallery", "photos", "-k", "4", "--json"]
    plain, found = (
        json.loads(said_by(capsys, "search", place, *words)) for place in ("winner", here["winner"])
    )
    assert found == plain and len(found) == 4
    texts = ["--image", "photos/07.png", "--gallery", "pairs.csv", "--json"]
    assert said_by(capsys, "search", here["winner"], *texts) == said_by(
        capsys, "search", "winner", *texts
    )


def test_a_pinned_winner_is_read_again_without_a_connection(here, capsys, hub_server, monkeypatch):
    words = ["light", "--gallery", "photos", "--json"]
    first = said_by(capsys, "search", here["winner"], *words)
    hub_server["requests"].clear()
    assert said_by(capsys, "search", here["winner"], *words) == first
    assert not hub_server["requests"]


def test_a_branch_is_stated_as_its_commit(here, capsys):
    main_ok("search", "hf://me/winner", "light", "--gallery", "photos")
    err = capsys.readouterr().err
    assert re.search(rf"warning: hf://me/winner is {here['winner']} at present", err)


def test_index(here, capsys):
    pytest.importorskip("faiss")
    pytest.importorskip("pyarrow")
    for place, out in (("winner", "a.index"), (here["winner"], "b.index")):
        main_ok("index", place, "photos", "--view", "photo", "--out", out)
    a, b = (crossfit.retrieval.Index.open(name) for name in ("a.index", "b.index"))
    np.testing.assert_array_equal(a.vectors(a.ids), b.vectors(b.ids))
    assert list(a.ids) == list(b.ids) and b.meta["model"] == "me/winner"
    words = ["light light", "--gallery", "b.index", "--json"]
    assert said_by(capsys, "search", "winner", *words) == said_by(
        capsys, "search", here["winner"], *words
    )


def test_serve(here, command):
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    answers = []
    for place, rerank in (("winner", "second"), (here["winner"], here["second"])):
        process = subprocess.Popen(
            [*command, "serve", place, "--gallery", "photos", "--view", "photo", "--port", "0",
             "--rerank", rerank],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            line = process.stdout.readline()
            assert "is ready" in line, process.stderr.read()
            at = line.split()[0]
            body = json.dumps({"text": "light light", "k": 3, "rerank": 5}).encode()
            asked = urllib.request.Request(
                f"{at}search", body, {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(asked, timeout=60) as answer:
                results = json.loads(answer.read())["results"]
            with urllib.request.urlopen(f"{at}about", timeout=60) as answer:
                about = json.loads(answer.read())
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
        answers.append((results, about))
    (plain, one), (found, other) = answers
    assert found == plain and len(found[0]) == 3
    assert (one["name"], other["name"]) == ("winner", "me/winner")
    assert one["card"] == other["card"] == Path("winner/README.md").read_text(encoding="utf-8")


def test_embed_with_the_extractors_of_a_winner(here, capsys):
    for place, out in (("winner", "a"), (here["winner"], "b")):
        main_ok("embed", "pairs.csv", "--with", place, "--out", out)
    model = read_winner("winner").model
    a, b = read_pairs("a")["all"].views, read_pairs("b")["all"].views
    plain = model[0].transform(read_pairs("pairs.csv", views={"photo": "photo", "text": "text"},
                                          paths=["photo"])["all"].views)  # fmt: skip
    for view in ("photo", "text"):
        np.testing.assert_array_equal(a[view], plain[view])
        np.testing.assert_array_equal(b[view], plain[view])
    # Further items are embedded in the same way.
    Path("more.csv").write_text("photo,text\nphotos/03.png,light\nphotos/04.png,picture 4\n")
    write_winner(crossfit.load("b/extractors"), {"kinds": KINDS}, "of-b")
    main_ok("embed", "more.csv", "--with", "of-b", "--out", "c")
    np.testing.assert_array_equal(read_pairs("c")["all"].views["photo"], plain["photo"][3:5])


def test_embed_refuses_other_extractors_and_other_views(here, capsys):
    words = ["embed", "pairs.csv", "--with", "winner", "--out", "new"]
    assert "--with excludes" in refused(capsys, [*words, "--text", "characters"])
    Path("other.csv").write_text("image,caption\nphotos/01.png,a\nphotos/02.png,b\n")
    words[1] = "other.csv"
    message = "the extractors are of the views photo, text, but the pairs have image, text"
    assert message in refused(capsys, words)
    Z = np.random.default_rng(0).normal(size=(20, 3))
    crossfit.save(CCA().fit(Views(image=Z, text=Z)), "bare")
    words[3] = "bare"
    assert "bare has no extractors" in refused(capsys, words)


def test_diagnose_with_the_extractors_of_a_winner(here, capsys):
    rng = np.random.default_rng(1)
    rows = ["photo,text"]
    for i in range(40):
        blocks = rng.integers(0, 256, (4, 4, 3)).astype(np.uint8)
        Image.fromarray(blocks.repeat(6, 0).repeat(6, 1)).save(f"photos/n{i}.png")
        rows.append(f"photos/n{i}.png,{''.join(rng.choice(list('abcdefghij'), 12))}")
    Path("noise.csv").write_text("\n".join(rows))
    for place, out in (("winner", "a"), (here["winner"], "b")):
        main_ok("diagnose", "noise.csv", "--with", place, "--out", out, "--threshold", "0.99")
    for name in ("figures.csv", "suspects.csv", "groups.csv"):
        assert Path("a", name).read_bytes() == Path("b", name).read_bytes()
    assert "--with excludes --features" in refused(
        capsys, ["diagnose", "pairs.csv", "--with", "winner", "--features", "photo=grid"]
    )


def test_extractors_of_features_and_of_the_fit_are_one_step(here):
    main_ok("embed", "pairs.csv", "--features", "photo=grid:2", "--view", "photo=photo", "--view",
            "text=text", "--out", "features")  # fmt: skip
    main_ok("fit", "cca", "features", "--text", "characters", "--set", "n_components=2", "--save",
            "fitted")  # fmt: skip
    stage = extractors_of(read_winner("fitted"))
    views = read_pairs("pairs.csv", views={"photo": "photo", "text": "text"}, paths=["photo"])
    model = read_winner("fitted").model
    plain = model[:2].transform(views["all"].views)
    found = stage.transform(views["all"].views)
    for view in ("photo", "text"):
        np.testing.assert_array_equal(found[view], plain[view])


COMMANDS = {
    "embed": ["embed", "pairs.csv", "--with", "{}", "--out", "new"],
    "diagnose": ["diagnose", "pairs.csv", "--with", "{}", "--out", "new"],
    "evaluate": ["evaluate", "{}", "pairs.csv"],
    "labelled": ["evaluate", "mine=winner", "theirs={}", "pairs.csv"],
    "search": ["search", "{}", "light", "--gallery", "photos"],
    "index": ["index", "{}", "photos", "--view", "photo", "--out", "new"],
    "serve": ["serve", "{}", "--gallery", "photos", "--view", "photo", "--port", "0"],
    "rerank": ["serve", "winner", "--gallery", "photos", "--rerank", "{}", "--port", "0"],
}
ERRORS = {
    "malformed": ("hf://winner", "expected an address such as hf://user/name@revision"),
    "above": ("hf://me/..", "expected an address such as hf://user/name@revision"),
    "no repository": ("hf://me/gone", "hf://me/gone: there is no such repository"),
    "no revision": ("hf://me/winner@v2", "hf://me/winner@v2: the repository has no such revision"),
    "no commit": (f"hf://me/winner@{'0' * 40}", "the repository has no such revision"),
}


def refused(capsys, words):
    capsys.readouterr()
    before = set(os.listdir())
    with pytest.raises(SystemExit) as left:
        main(words)
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert left.value.code in (1, 2) and "Traceback" not in said.err and "hf_secret" not in said.err
    assert lines[-1].startswith(("crossfit: ", "Error: "))
    assert len([line for line in lines if line.startswith("crossfit: ")]) <= 1
    assert set(os.listdir()) - before <= {"hub", "cache"}  # caches
    return " ".join(said.err.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_wrong_addresses_are_one_sentence(here, capsys, name, monkeypatch, hub_server):
    pytest.importorskip("fastapi")
    for address, message in ERRORS.values():
        assert message in refused(capsys, [word.format(address) for word in COMMANDS[name]])
    words = [word.format(here["winner"]) for word in COMMANDS[name]]
    hub_server["damage"] = lambda file, raw: raw.replace(b"picture", b"pictura")
    message = refused(capsys, words)
    assert f"the bundle {here['winner']} is rejected: record.json is damaged" in message


@pytest.mark.parametrize("name", COMMANDS)
def test_without_a_connection_or_the_package(here, capsys, name, monkeypatch):
    pytest.importorskip("fastapi")
    from huggingface_hub import constants

    words = [word.format(here["winner"]) for word in COMMANDS[name]]
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE",
        "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}",
    )  # fmt: skip
    message = refused(capsys, words)
    assert f"{here['winner']}: the hub cannot be reached" in message
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    message = refused(capsys, words)
    assert f"{here['winner']}: it is not in the cache, and HF_HUB_OFFLINE is set" in message
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "pip install 'crossfit-retrieval[hub]'" in refused(capsys, words)


@pytest.mark.parametrize("name", ["evaluate", "search", "index", "serve", "embed", "diagnose"])
def test_the_help_has_an_example(capsys, name):
    assert "hf://user/name@COMMIT" in said_by(capsys, name, "--help")


def test_a_bundle_without_a_card_is_read(here, hub_server):
    (_, files), = hub_server["repos"]["me/winner"]  # fmt: skip
    del files["README.md"]
    found = read_winner(here["winner"])
    assert found.card == "" and found.kind("photo") == "picture"
