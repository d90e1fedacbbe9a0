"""crossfit push: what it uploads and prints, errors, and what it states if it stops."""

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import crossfit
from crossfit.cli import main
from crossfit.methods import CCA
from crossfit.winners import read_winner, write_winner

RNG = np.random.default_rng(0)
Z = RNG.normal(size=(30, 4))
MODEL = CCA(2).fit(crossfit.Views(image=Z, text=Z[:, ::-1]))
RECORD = {"kinds": {"image": "vector", "text": "vector"}, "note": "猫"}


@pytest.fixture
def here(hub_server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_winner(MODEL, RECORD, "winner")
    return hub_server


def push(capsys, *words):
    try:
        main(["push", *words])
        code = 0
    except SystemExit as left:
        code = left.code or 0
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_printed_address_is_that_of_the_winner_with_its_record(here, capsys):
    Path("winner/notes.txt").write_text("mine")
    code, out, err = push(capsys, "winner", "me/shoes", "--message", "first")
    assert code == 0, err
    ((commit, files),) = here["repos"]["me/shoes"]
    assert out == f"hf://me/shoes@{commit}\n"
    names = {name for name in files if not name.startswith("arrays-")}
    assert names == {"manifest.json", "record.json", "README.md"} and len(files) == 4
    found = read_winner(out.strip())
    assert dict(found.record) == RECORD and found.name == "me/shoes"
    assert found.card == Path("winner/README.md").read_text(encoding="utf-8")
    np.testing.assert_array_equal(found.model.encode(Z, "image"), MODEL.encode(Z, "image"))


def test_a_bundle_without_a_record_replaces_one_with_it(here, capsys):
    push(capsys, "winner", "me/shoes")
    crossfit.save(CCA(1).fit(crossfit.Views(image=Z, text=Z)), "plain")
    code, out, err = push(capsys, "plain", "me/shoes")
    assert code == 0, err
    assert len(here["repos"]["me/shoes"]) == 2
    files = here["repos"]["me/shoes"][-1][1]
    assert "record.json" not in files and len(files) == 3  # and one file of arrays
    assert read_winner(out.strip()).record == {}


def test_visibility_message_and_branch(here, capsys):
    code, out, err = push(capsys, "winner", "me/shoes", "--private", "--message", "with love")
    assert code == 0 and here["created"] == [{"name": "shoes", "organization": "me",
                                              "visibility": "private"}], err  # fmt: skip
    assert here["messages"] == ["with love"]
    crossfit.save(CCA(1).fit(crossfit.Views(image=Z, text=Z)), "plain")
    code, out, err = push(capsys, "plain", "me/shoes", "--branch", "next")
    assert code == 0, err
    assert len(here["repos"]["me/shoes"]) == 1 and len(here["branches"]["me/shoes", "next"]) == 2
    assert crossfit.load(out.strip()).n_components == 1
    with pytest.warns(UserWarning, match="at present"):
        assert crossfit.load("hf://me/shoes@next").n_components == 1
    with pytest.warns(UserWarning, match="at present"):
        assert crossfit.load("hf://me/shoes").n_components == 2


def damaged(name):
    with open(f"winner/{name}", "r+b") as file:
        file.seek(40)
        file.write(b"#")


BAD = {
    "no folder": (["gone", "me/shoes"], "does not exist"),
    "not a bundle": ([".", "me/shoes"], "'.' is not a bundle, which crossfit fit --save"),
    "an address": (["hf://me/shoes", "me/shoes"], "does not exist"),
    "no owner": (["winner", "shoes"], "expected an address such as hf://user/name"),
    "a commit": (["winner", "hf://me/shoes@main"], "must be 'user/name' without a revision"),
    "a branch with spaces": (["winner", "me/shoes", "--branch", "a b"], "the name of a branch"),
    "no message": (["winner", "me/shoes", "--message", " "], "message must not be empty"),
    "a token": (["winner", "me/shoes", "--token", "hf_x"], "No such option"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_before_any_request(here, capsys, case):
    words, message = BAD[case]
    code, out, err = push(capsys, *words)
    assert code in (1, 2) and message in " ".join(err.split()) and out == ""
    assert err.splitlines()[-1].startswith(("crossfit: ", "Error: ")) and "Traceback" not in err
    assert not here["requests"]


@pytest.mark.parametrize("name", ["record.json", "manifest.json"])
def test_damage_is_found_before_any_request(here, capsys, name):
    damaged(name)
    code, _, err = push(capsys, "winner", "me/shoes")
    assert code == 1 and "is rejected" in err and len(err.splitlines()) == 1
    assert not here["requests"]


def test_a_record_that_is_not_listed_is_not_uploaded(here, capsys):
    crossfit.save(MODEL, "plain")
    Path("plain/record.json").write_text(json.dumps(RECORD))
    code, _, err = push(capsys, "plain", "me/shoes")
    assert code == 1 and "record.json is not listed in manifest.json" in err
    with pytest.raises(crossfit.BundleError, match="is not listed"):
        read_winner("plain")


def test_a_failure_states_what_there_is(here, capsys):
    def refuse(handler):
        handler.answer(500, {"error": "no"})
        raise ConnectionAbortedError

    here["before_commit"] = refuse
    code, out, err = push(capsys, "winner", "me/shoes", "--branch", "next")
    assert code == 1 and out == "" and "hf_secret" not in err
    assert err.startswith("crossfit: hf://me/shoes: the server answered with status 500")
    assert err.rstrip().endswith(
        "; the repository me/shoes was created; the branch next was created"
    )
    assert "may have been made" not in err
    here["before_commit"] = lambda handler: None
    assert push(capsys, "winner", "me/shoes", "--branch", "next")[0] == 0


def test_a_lost_connection_states_that_the_commit_may_have_been_made(here, capsys):
    def leave(handler):
        handler.close_connection = True
        raise ConnectionAbortedError

    here["before_commit"] = leave
    code, _, err = push(capsys, "winner", "me/shoes")
    assert code == 1 and "the hub cannot be reached" in err
    assert "the commit may have been made; push again" in err


def test_ctrl_c_states_what_there_is(here, command):
    begun, go_on = threading.Event(), threading.Event()

    def wait(handler):
        begun.set()
        go_on.wait(60)

    here["before_commit"] = wait
    process = subprocess.Popen(
        [*command, "push", "winner", "me/shoes"], stderr=subprocess.PIPE, text=True
    )
    assert begun.wait(60)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    go_on.set()
    assert process.returncode == 130 and "Traceback" not in said
    assert "the repository me/shoes was created; the commit may have been made" in said
    assert said.splitlines()[-1] == "crossfit: interrupted"


def test_without_the_package_and_without_a_connection(here, capsys, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    code, _, err = push(capsys, "winner", "me/shoes")
    assert code == 1 and "the hub cannot be reached" in err and len(err.splitlines()) == 1
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    code, _, err = push(capsys, "winner", "me/shoes")
    assert code == 1 and "pip install 'crossfit-retrieval[hub]'" in err
