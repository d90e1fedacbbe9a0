"""Fixtures shared by the tests: real data where available, and planted pairs."""

import base64
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest

from crossfit import Views

# Contrast, as WCAG 2 defines it, of every visible text against its background.
CONTRAST = """
const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
const rgba = (colour) => {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = "#000"; canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
  const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
  return [r, g, b, a / 255];
};
const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3]));
const behind = (node) => {
  const layers = [];
  for (let at = node; at instanceof Element; at = at.parentElement)
    layers.push(rgba(getComputedStyle(at).backgroundColor));
  return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255]);
};
const light = (colour) => {
  const [r, g, b] = colour.map((c) => c / 255)
    .map((c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const node = walker.currentNode, parent = node.parentElement;
  if (!node.textContent.trim() || parent.closest("script, style, .sr")) continue;
  if (!parent.checkVisibility()) continue;
  const style = getComputedStyle(parent), drawn = parent.closest("svg");
  const ground = behind(parent);
  const ink = over(rgba(drawn ? style.fill : style.color), ground);
  const [a, b] = [light(ink), light(ground)].sort((x, y) => y - x);
  found.push([(a + 0.05) / (b + 0.05), node.textContent.trim().slice(0, 40)]);
}
return found;
"""


def pytest_collection_modifyitems(items):
    for item in items:
        if "data_root" in getattr(item, "fixturenames", ()):
            item.add_marker("data")


@pytest.fixture(scope="session")
def data_root():
    root = os.environ.get("CROSSFIT_DATA")
    if not root:
        pytest.skip("CROSSFIT_DATA does not name a folder with the real data sets")
    return Path(root)


@pytest.fixture(scope="session")
def wikipedia(data_root):
    """Return the shallow features of the official split: 2173 training and 693 test pairs."""
    folder = data_root / "wikipedia"
    if not (folder / "raw_features.mat").exists():
        pytest.skip(f"no wikipedia/raw_features.mat in {data_root}")
    from scipy.io import loadmat

    raw = loadmat(folder / "raw_features.mat")
    labels = {
        part: np.loadtxt(folder / f"{part}set_txt_img_cat.list", dtype=str, delimiter="\t")[:, 2]
        for part in ("train", "test")
    }
    return SimpleNamespace(
        train=Views(image=raw["I_tr"], text=raw["T_tr"]),
        y_train=labels["train"].astype(int),
        test=Views(image=raw["I_te"], text=raw["T_te"]),
        y_test=labels["test"].astype(int),
        # A permutation of the test rows: 231 for validation, then 462 for testing.
        rows_462=loadmat(folder / "indice.mat")["indice"].ravel()[231:],
    )


@pytest.fixture(scope="session")
def flickr_captions(data_root):
    """Return features of 1500 pictures of Flickr8k and of two captions of each: three views."""
    path = data_root / "flickr8k" / "features_train_dev.npz"
    if not path.exists():
        pytest.skip(f"no flickr8k/features_train_dev.npz in {data_root}")
    with np.load(path) as held:
        image = held["image_efficientnet_lite0"][:1500].astype(np.float32)
        captions, of = held["caption_minilm_l6"], held["caption_image_index"]
    first = np.searchsorted(of, np.arange(1500))
    texts = [captions[first + i].astype(np.float32) for i in range(2)]
    return Views(image=image, text=texts[0], second=texts[1])


@pytest.fixture
def planted():
    """Return ``make(n, ...) -> (Views, y)`` with a correspondence that linear methods find."""

    def make(n=120, dims=(6, 5), shared=3, classes=4, noise=0.3, seed=0, names=("image", "text")):
        rng = np.random.default_rng(seed)
        y = rng.permutation(np.arange(n) % classes)
        Z = 2 * rng.normal(size=(classes, shared))[y] + rng.normal(size=(n, shared))
        views = {
            name: Z @ rng.normal(size=(shared, d)) + noise * rng.normal(size=(n, d))
            for name, d in zip(names, dims)
        }
        return Views(views), y

    return make


@pytest.fixture(scope="session", autouse=True)
def feature_cache(tmp_path_factory):
    """Set up a temporary cache, so that tests never read or write the user's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CROSSFIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Return a headless Chromium that records its console; its microphone returns a tone."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    binary = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("no Chromium with its chromedriver on this machine")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    profile = tmp_path_factory.mktemp("profile")
    for argument in (
        "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage",
        "--disable-background-networking", f"--user-data-dir={profile}",
        "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield started
    started.quit()


@pytest.fixture
def opened(browser):
    """Return ``opened(address, width=1280, scheme="light", **media)``: the browser with a page.

    Widths below 500 are those of a phone; ``media`` are further features, such as
    ``forced_colors="active"``.
    """

    def at(address, width=1280, scheme="light", **media):
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 844 if width < 500 else 900, "deviceScaleFactor": 1,
             "mobile": width < 500},
        )  # fmt: skip
        features = {"prefers-color-scheme": scheme} | {
            name.replace("_", "-"): value for name, value in media.items()
        }
        browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"features": [{"name": name, "value": value} for name, value in features.items()]},
        )
        browser.get_log("browser")
        browser.get(address)
        return browser

    return at


@pytest.fixture
def contrasts(browser):
    """Return a function that returns the contrast and the words of every visible text."""
    return lambda: browser.execute_script(CONTRAST)


class Hub(BaseHTTPRequestHandler):
    """The file interface of the Hugging Face Hub.

    Repositories are a list of commits of the main branch, each a mapping from path to bytes; those
    of other branches are in ``branches``.
    """

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

    def commits(self, name, branch):
        """Return the commits of a branch, or None."""
        state = self.state
        return state["repos"].get(name) if branch == "main" else state["branches"].get(
            (name, branch))  # fmt: skip

    def every_commit(self, name):
        """Return all commits of a repository, by their hashes."""
        of_branches = [made for (own, _), made in self.state["branches"].items() if own == name]
        return dict(sum(of_branches, list(self.state["repos"].get(name, []))))

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
            state["created"].append(
                {key: value for key, value in json.loads(raw).items() if key != "type"}
            )
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
        elif found := re.fullmatch(r"/api/models/(\w+/\w+)/branch/(\w+)", path):
            main = state["repos"][found[1]]
            self.state["branches"].setdefault((found[1], found[2]), main[-1:])
            self.answer(200, {})
        elif found := re.fullmatch(r"/api/models/(\w+/\w+)/commit/(\w+)", path):
            state["before_commit"](self)
            commits = self.commits(found[1], found[2])
            files = dict(commits[-1][1]) if commits else {}
            for line in raw.splitlines():
                part = json.loads(line)
                value = part["value"]
                if part["key"] == "header":
                    state["messages"].append(value["summary"])
                elif part["key"] == "file":
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
            commits = self.commits(found[1], found[2])
            files = commits[-1][1] if commits else {}
            self.answer(200, [{"type": "file", "path": name, "size": len(raw), "oid": "0" * 40}
                              for name, raw in files.items()])  # fmt: skip
        elif found := re.fullmatch(r"/api/models/(\w+/\w+)/refs", path):
            names = ["main", *(name for own, name in state["branches"] if own == found[1])]
            refs = [{"name": name, "ref": f"refs/heads/{name}", "targetCommit": "0" * 40}
                    for name in names]  # fmt: skip
            self.answer(200, {"branches": refs, "converts": [], "tags": []})
        elif found := re.fullmatch(r"/api/models/(\w+/\w+)(?:/revision/(\w+))?", path):
            if found[1] not in state["repos"]:
                self.answer(404, {"error": "not found"}, X_Error_Code="RepoNotFound")
                return
            commits = self.commits(found[1], found[2] or "main")
            if commits is None:
                self.answer(404, {"error": "not found"}, X_Error_Code="RevisionNotFound")
                return
            last = commits[-1][0] if commits else None
            self.answer(200, {"id": found[1], "sha": state.get("sha", last),
                              "siblings": [], "tags": []})  # fmt: skip
        elif found := re.fullmatch(r"/(\w+/\w+)/resolve/(\w+)/(.+)", path):
            files = self.every_commit(found[1]).get(found[2])
            if files is None or found[3] not in files:
                what = "Repo" if found[1] not in state["repos"] else "Revision"
                code = "EntryNotFound" if files is not None else f"{what}NotFound"
                self.answer(404, {"error": "no entry"}, X_Error_Code=code)
                return
            raw = files[found[3]]
            digest = f'"{hashlib.sha256(raw).hexdigest()}"'
            raw = state["damage"](found[3], raw)
            if found[3] in state["redirects"]:
                self.answer(302, b"", Location=state["redirects"][found[3]])
                return
            size = state["sizes"].get(found[3], len(raw))
            self.answer(200, raw, X_Repo_Commit=found[2], ETag=digest, X_Linked_Etag=digest,
                        X_Linked_Size=size, Content_Length=len(raw))  # fmt: skip
        else:
            self.answer(404, {"error": f"nothing at {path}"})

    do_HEAD = do_GET


@pytest.fixture
def hub_server(monkeypatch, tmp_path):
    """Return the state of a stand-in for the Hugging Face Hub, on loopback."""
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is of the extra hub")
    made = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    made.daemon_threads = True
    made.handle_error = lambda *_: None  # a test may break the connection
    made.state = {"repos": {}, "blobs": {}, "requests": [], "tokens": set(), "sizes": {},
                  "redirects": {}, "damage": lambda name, raw: raw, "branches": {},
                  "created": [], "messages": [],
                  "before_commit": lambda handler: None}  # fmt: skip
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    at = f"http://127.0.0.1:{made.server_address[1]}"
    from huggingface_hub import constants

    # The environment is for processes that a test starts.
    for name, value in {"HF_ENDPOINT": at, "HF_HUB_CACHE": str(tmp_path / "hub"),
                        "HF_HUB_DISABLE_XET": "1"}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(constants, "ENDPOINT", at)
    template = at + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    # Other tests of the same process may have turned it on.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecret")
    yield made.state
    made.shutdown()
    made.server_close()


@pytest.fixture
def two_workers(tmp_path_factory):
    """Start a Dask scheduler and two workers, each in a process that runs in another folder.

    Name it after the fixtures whose environment variables the workers need.
    """
    pytest.importorskip("distributed", reason="dask.distributed is not installed")
    from distributed import Client

    elsewhere = tmp_path_factory.mktemp("elsewhere")
    about = elsewhere / "scheduler.json"

    def start(*words):
        return subprocess.Popen(
            [sys.executable, "-m", "dask", *words, "--host", "127.0.0.1", "--no-dashboard"],
            cwd=elsewhere, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip

    scheduler = start("scheduler", "--port", "0", "--scheduler-file", str(about))
    workers = []
    try:
        deadline = time.monotonic() + 90
        while not about.exists() or not about.read_text().endswith("}"):
            assert time.monotonic() < deadline and scheduler.poll() is None
            time.sleep(0.05)
        address = json.loads(about.read_text())["address"]
        options = ("--nthreads", "1", "--nworkers", "1", "--no-nanny")
        workers += [start("worker", address, *options) for _ in range(2)]
        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=90)
        yield address, workers
    finally:
        for process in (*workers, scheduler):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=30)
