"""Bundles on a hub: a server on loopback speaks the file interface of the Hugging Face Hub."""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest

import crossfit
from crossfit import BundleError, load, push_to_hub
from crossfit.subspace import CCA, PLS

hub = pytest.importorskip("huggingface_hub")

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(30, 4)), RNG.normal(size=(30, 3))
FITTED = CCA(2).fit(X, Y)


class Handler(BaseHTTPRequestHandler):
    """Repositories as a list of commits, each a mapping from path to bytes."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    @property
    def state(self):
        return self.server.state

    def answer(self, status, content=b"", **headers):
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def do_POST(self):
        raw = self.body()
        path = unquote(urlsplit(self.path).path)
        state = self.state
        state["requests"].append(("POST", path))
        if path == "/api/repos/create":
            name = json.loads(raw)["name"]
            organisation = json.loads(raw).get("organization")
            full = f"{organisation}/{name}" if organisation else name
            state["repos"].setdefault(full, [])
            self.answer(200, {"url": f"http://{self.headers['Host']}/{full}", "id": full,
                              "name": full})  # fmt: skip
        elif path == "/api/validate-yaml":
            self.answer(200, {"errors": [], "warnings": []})
        elif found := re.fullmatch(r"/api/models/(\w+/\w+)/preupload/(\w+)", path):
            files = [{"path": part["path"], "shouldIgnore": False,
                      "uploadMode": "lfs" if part["path"].endswith(".npz") else "regular"}
                     for part in json.loads(raw)["files"]]  # fmt: skip
            self.answer(200, {"files": files})
        elif found := re.fullmatch(r"/(\w+/\w+)\.git/info/lfs/objects/batch", path):
            objects = [
                {"oid": part["oid"], "size": part["size"], "actions": {
                    "upload": {"href": f"http://{self.headers['Host']}/put/{part['oid']}"}}}
                for part in json.loads(raw)["objects"]
            ]  # fmt: skip
            self.answer(200, {"transfer": "basic", "objects": objects})
        elif found := re.fullmatch(r"/api/models/(\w+/\w+)/commit/(\w+)", path):
            commits = state["repos"][found[1]]
            files = dict(commits[-1][1]) if commits else {}
            for line in raw.splitlines():
                part = json.loads(line)
                value = part["value"]
                if part["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif part["key"] == "lfsFile":
                    files[value["path"]] = state["blobs"][value["oid"]]
                elif part["key"] == "deletedFile":
                    del files[value["path"]]
            sha = hashlib.sha1(raw + str(len(commits)).encode()).hexdigest()
            commits.append((sha, files))
            self.answer(200, {"success": True, "commitOid": sha, "hookOutput": "",
                              "commitUrl": f"http://{self.headers['Host']}/{found[1]}/commit/{sha}",
                              })  # fmt: skip
        else:
            self.answer(404, {"error": f"nothing at {path}"})

    def do_PUT(self):
        oid = self.path.rpartition("/")[2]
        self.state["blobs"][oid] = self.body()
        self.answer(200)

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        state = self.state
        state["requests"].append((self.command, path))
        state["tokens"].add(self.headers.get("Authorization"))
        if found := re.fullmatch(r"/api/models/(\w+/\w+)/tree/(\w+)", path):
            commits = state["repos"].get(found[1], [])
            files = commits[-1][1] if commits else {}
            self.answer(200, [{"type": "file", "path": name, "size": len(raw), "oid": "0" * 40}
                              for name, raw in files.items()])  # fmt: skip
        elif found := re.fullmatch(r"/api/models/(\w+/\w+)(?:/revision/(\w+))?", path):
            commits = state["repos"].get(found[1])
            if not commits:
                self.answer(404, {"error": "not found"}, X_Error_Code="RepoNotFound")
                return
            self.answer(200, {"id": found[1], "sha": state.get("sha", commits[-1][0]),
                              "siblings": [], "tags": []})  # fmt: skip
        elif found := re.fullmatch(r"/(\w+/\w+)/resolve/(\w+)/(.+)", path):
            commits = dict(state["repos"].get(found[1], []))
            raw = commits.get(found[2], {}).get(found[3])
            if raw is None:
                self.answer(404, {"error": "no entry"}, X_Error_Code="EntryNotFound")
                return
            raw = state["damage"](found[3], raw)
            if found[3] in state["redirects"]:
                self.answer(302, b"", Location=state["redirects"][found[3]])
                return
            digest = f'"{hashlib.sha256(raw).hexdigest()}"'
            size = state["sizes"].get(found[3], len(raw))
            self.answer(200, raw, X_Repo_Commit=found[2], ETag=digest, X_Linked_Etag=digest,
                        X_Linked_Size=size, Content_Length=len(raw))  # fmt: skip
        else:
            self.answer(404, {"error": f"nothing at {path}"})

    do_HEAD = do_GET


@pytest.fixture
def server(monkeypatch, tmp_path):
    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.daemon_threads = True
    made.state = {"repos": {}, "blobs": {}, "requests": [], "tokens": set(), "sizes": {},
                  "redirects": {}, "damage": lambda name, raw: raw}  # fmt: skip
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    at = f"http://127.0.0.1:{made.server_address[1]}"
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", at)
    template = at + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    # Other tests of the same process may have turned it on.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecret")
    yield made.state
    made.shutdown()
    made.server_close()


def test_there_and_back(server, tmp_path):
    address = push_to_hub(FITTED, "me/emoji")
    (commit, files), = server["repos"]["me/emoji"]  # fmt: skip
    assert address == f"hf://me/emoji@{commit}"
    assert sorted(files)[:1] == ["README.md"] and len(files) == 3
    server["requests"].clear()
    loaded = load(address, pinned=True)
    assert np.array_equal(loaded.similarity(X, Y), FITTED.similarity(X, Y))
    asked = {path for _, path in server["requests"]}
    assert not any("README" in path for path in asked)  # only what is needed is downloaded
    # From the cache: the server is not asked again.
    server["requests"].clear()
    load(address)
    assert not server["requests"]


def test_a_branch_is_resolved_to_a_commit_which_is_stated(server):
    address = push_to_hub(FITTED, "hf://me/emoji")
    with pytest.warns(UserWarning, match=re.escape(address)):
        load("hf://me/emoji")
    with pytest.raises(BundleError, match="is not pinned; add the 40 digits"):
        load("hf://me/emoji", pinned=True)
    with pytest.raises(BundleError, match="is not pinned"):
        load("hf://me/emoji@main", pinned=True)


def test_a_folder_replaces_the_bundle_and_its_arrays(server, tmp_path):
    push_to_hub(FITTED, "me/emoji")
    folder = crossfit.save(PLS(2).fit(X, Y), tmp_path / "other")
    (folder / "private.txt").write_text("not part of the bundle")
    address = push_to_hub(folder, "me/emoji")
    files = server["repos"]["me/emoji"][-1][1]
    assert len(files) == 3 and "private.txt" not in files
    assert isinstance(load(address), PLS)


def test_a_damaged_folder_is_not_uploaded(server, tmp_path):
    folder = crossfit.save(FITTED, tmp_path / "a")
    (folder / "manifest.json").write_text("{}")
    with pytest.raises(BundleError, match="is rejected"):
        push_to_hub(folder, "me/emoji")
    assert not server["requests"]


def one_sentence(caught):
    text = str(caught.value)
    assert "\n" not in text and "hf_secret" not in text and len(text) < 2100


@pytest.mark.parametrize("file", ["manifest.json", "arrays"])
def test_content_that_does_not_match_its_hash_is_rejected(server, file):
    address = push_to_hub(FITTED, "me/emoji")

    def damage(name, raw):
        hit = name.startswith(file)
        return raw.replace(b"CCA", b"PLS").replace(b"cca", b"pls") + b" " * hit if hit else raw

    server["damage"] = damage
    with pytest.raises(BundleError, match="rejected") as caught:
        load(address)
    one_sentence(caught)


def test_a_huge_file_is_not_downloaded(server):
    address = push_to_hub(FITTED, "me/emoji")
    server["sizes"]["manifest.json"] = 10**12
    with pytest.raises((BundleError, OSError), match="takes 1000000000000 bytes") as caught:
        load(address)
    one_sentence(caught)
    server["sizes"].clear()
    with pytest.raises(BundleError, match="more than the limit of 10") as caught:
        load(address, max_bytes=10)
    assert not [path for way, path in server["requests"] if way == "GET" and ".npz" in path]


def test_a_manifest_that_names_another_path_is_rejected(server):
    address = push_to_hub(FITTED, "me/emoji")
    server["damage"] = lambda name, raw: re.sub(rb"arrays-\w+\.npz", b"../../etc/passwd", raw)
    with pytest.raises(BundleError, match="is not the name of an array file"):
        load(address)


def test_another_commit_than_the_pinned_one_is_rejected(server):
    push_to_hub(FITTED, "me/emoji")
    for bad in ("hf://me/emoji@" + "0" * 40, "hf://me/missing"):
        with pytest.raises(OSError) as caught:
            load(bad)
        one_sentence(caught)
    server["sha"] = "main; rm -rf"
    with pytest.raises(BundleError, match="does not answer with a commit"):
        load("hf://me/emoji")


@pytest.mark.parametrize("address", ["hf://", "hf://a", "hf://a/b/c", "hf://../..", "hf://a/b@",
                                     "hf://a/b@../c", "hf://a b/c"])  # fmt: skip
def test_addresses_that_are_not_addresses(server, address):
    with pytest.raises(BundleError, match="expected an address such as hf://"):
        load(address)
    assert not server["requests"]


def test_a_redirect_to_another_host_does_not_take_the_token_along(server):
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
    server["redirects"]["manifest.json"] = f"http://localhost:{other.server_address[1]}/x"
    with pytest.raises((BundleError, OSError)) as caught:
        load(address)
    one_sentence(caught)
    other.shutdown()
    other.server_close()
    assert all(token is None for token in tokens)
