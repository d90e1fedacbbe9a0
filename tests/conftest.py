"""Fixtures shared by the tests: real data where available, and planted pairs."""

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from crossfit import Views


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
