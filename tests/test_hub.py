"""Bundles on a hub: a server on loopback speaks the file interface of the Hugging Face Hub."""

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

import crossfit
from crossfit import BundleError, load, push_to_hub
from crossfit.hub import bundle_from_hub
from crossfit.persistence.bundles import read_record, save_with_record
from crossfit.subspace import CCA, PLS

hub = pytest.importorskip("huggingface_hub")

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(30, 4)), RNG.normal(size=(30, 3))
FITTED = CCA(2).fit(X, Y)


def test_there_and_back(hub_server, tmp_path):
    address = push_to_hub(FITTED, "me/emoji")
    (commit, files), = hub_server["repos"]["me/emoji"]  # fmt: skip
    assert address == f"hf://me/emoji@{commit}"
    assert sorted(files)[:1] == ["README.md"] and len(files) == 3
    hub_server["requests"].clear()
    loaded = load(address, pinned=True)
    assert np.array_equal(loaded.similarity(X, Y), FITTED.similarity(X, Y))
    asked = {path for _, path in hub_server["requests"]}
    assert not any("README" in path for path in asked)  # only what is needed is downloaded
    # From the cache: the server is not asked again.
    hub_server["requests"].clear()
    load(address)
    assert not hub_server["requests"]


def test_a_branch_is_resolved_to_a_commit_which_is_stated(hub_server):
    address = push_to_hub(FITTED, "hf://me/emoji")
    with pytest.warns(UserWarning, match=re.escape(address)):
        load("hf://me/emoji")
    with pytest.raises(BundleError, match="is not pinned; add the 40 digits"):
        load("hf://me/emoji", pinned=True)
    with pytest.raises(BundleError, match="is not pinned"):
        load("hf://me/emoji@main", pinned=True)


def test_a_folder_replaces_the_bundle_and_its_arrays(hub_server, tmp_path):
    push_to_hub(FITTED, "me/emoji")
    folder = crossfit.save(PLS(2).fit(X, Y), tmp_path / "other")
    (folder / "private.txt").write_text("not part of the bundle")
    address = push_to_hub(folder, "me/emoji")
    files = hub_server["repos"]["me/emoji"][-1][1]
    assert len(files) == 3 and "private.txt" not in files
    assert isinstance(load(address), PLS)


def test_a_page_that_crossfit_did_not_write_is_kept(hub_server):
    push_to_hub(FITTED, "me/emoji")
    files = hub_server["repos"]["me/emoji"][-1][1]
    files["README.md"] = b"# Our model\n\nHow we made it.\n"
    with pytest.warns(UserWarning, match=r"README.md of hf://me/emoji was not written by crossfit"):
        address = push_to_hub(PLS(2).fit(X, Y), "me/emoji")
    files = hub_server["repos"]["me/emoji"][-1][1]
    assert files["README.md"] == b"# Our model\n\nHow we made it.\n" and len(files) == 3
    assert isinstance(load(address), PLS)
    files["README.md"] = crossfit.model_card(FITTED, notes="edited").encode()
    push_to_hub(FITTED, "me/emoji")
    assert b"edited" not in hub_server["repos"]["me/emoji"][-1][1]["README.md"]


def test_a_damaged_folder_is_not_uploaded(hub_server, tmp_path):
    folder = crossfit.save(FITTED, tmp_path / "a")
    (folder / "manifest.json").write_text("{}")
    with pytest.raises(BundleError, match="is rejected"):
        push_to_hub(folder, "me/emoji")
    assert not hub_server["requests"]


def one_sentence(caught):
    text = str(caught.value)
    assert "\n" not in text and "hf_secret" not in text and len(text) < 2100


@pytest.mark.parametrize("file", ["manifest.json", "arrays"])
def test_content_that_does_not_match_its_hash_is_rejected(hub_server, file):
    address = push_to_hub(FITTED, "me/emoji")

    def damage(name, raw):
        hit = name.startswith(file)
        return raw.replace(b"CCA", b"PLS").replace(b"cca", b"pls") + b" " * hit if hit else raw

    hub_server["damage"] = damage
    with pytest.raises(BundleError, match="rejected") as caught:
        load(address)
    one_sentence(caught)


@pytest.mark.parametrize("file", ["manifest.json", "arrays", "record.json"])
def test_a_file_that_was_damaged_on_the_way_is_downloaded_again(hub_server, tmp_path, file):
    folder = save_with_record(FITTED, tmp_path / "winner", {"experiment": "one"}, None)
    address = push_to_hub(folder, "me/emoji")

    def read():
        with bundle_from_hub(address, max_bytes=10**6, whole=True) as (found, _):
            return load(found), read_record(found, address)

    sound = hub_server["damage"]
    hub_server["damage"] = lambda name, raw: raw[::-1] if name.startswith(file) else raw
    with pytest.raises((BundleError, OSError)):
        read()
    hub_server["damage"] = sound
    model, record = read()
    np.testing.assert_array_equal(model.similarity(X, Y), FITTED.similarity(X, Y))
    assert record == {"experiment": "one"}
    asked = len(hub_server["requests"])
    read()
    assert len(hub_server["requests"]) == asked  # a sound file is not downloaded again


def test_a_damaged_file_in_the_cache_is_rejected_without_a_connection(hub_server, monkeypatch):
    address = push_to_hub(FITTED, "me/emoji")
    sound = hub_server["damage"]
    hub_server["damage"] = lambda name, raw: raw[::-1] if name.startswith("arrays") else raw
    with pytest.raises(BundleError, match="does not match its hash"):
        load(address)
    hub_server["damage"] = sound
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(BundleError, match="does not match its hash"):
        load(address)


def test_a_huge_file_is_not_downloaded(hub_server):
    address = push_to_hub(FITTED, "me/emoji")
    hub_server["sizes"]["manifest.json"] = 10**12
    with pytest.raises((BundleError, OSError), match="takes 1000000000000 bytes") as caught:
        load(address)
    one_sentence(caught)
    hub_server["sizes"].clear()
    with pytest.raises(BundleError, match="more than the limit of 10") as caught:
        load(address, max_bytes=10)
    assert not [path for way, path in hub_server["requests"] if way == "GET" and ".npz" in path]


def test_a_manifest_that_names_another_path_is_rejected(hub_server):
    address = push_to_hub(FITTED, "me/emoji")
    hub_server["damage"] = lambda name, raw: re.sub(rb"arrays-\w+\.npz", b"../../etc/passwd", raw)
    with pytest.raises(BundleError, match="is not the name of an array file"):
        load(address)


def test_another_commit_than_the_pinned_one_is_rejected(hub_server):
    push_to_hub(FITTED, "me/emoji")
    for bad in ("hf://me/emoji@" + "0" * 40, "hf://me/missing"):
        with pytest.raises(OSError) as caught:
            load(bad)
        one_sentence(caught)
    hub_server["sha"] = "main; rm -rf"
    with pytest.raises(BundleError, match="does not answer with a commit"):
        load("hf://me/emoji")


@pytest.mark.parametrize("address", ["hf://", "hf://a", "hf://a/b/c", "hf://../..", "hf://a/b@",
                                     "hf://a/b@../c", "hf://a b/c"])  # fmt: skip
def test_addresses_that_are_not_addresses(hub_server, address):
    with pytest.raises(BundleError, match="expected an address such as hf://"):
        load(address)
    assert not hub_server["requests"]


def test_a_redirect_to_another_host_does_not_take_the_token_along(hub_server):
    address = push_to_hub(FITTED, "me/emoji")
    tokens = []

    class Other(BaseHTTPRequestHandler):
        def do_GET(self):
            tokens.append(self.headers.get("Authorization"))
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *args):
            pass

    other = ThreadingHTTPServer(("127.0.0.1", 0), Other)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    hub_server["redirects"]["manifest.json"] = f"http://localhost:{other.server_address[1]}/x"
    with pytest.raises((BundleError, OSError)) as caught:
        load(address)
    one_sentence(caught)
    other.shutdown()
    other.server_close()
    assert all(token is None for token in tokens)
