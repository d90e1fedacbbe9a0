"""Fixtures shared by the tests: real data where available, and planted pairs."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

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
    """Return a headless Chromium that records its console."""
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
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield started
    started.quit()


@pytest.fixture
def contrasts(browser):
    """Return a function that returns the contrast and the words of every visible text."""
    return lambda: browser.execute_script(CONTRAST)
