"""Real pairs: the emoji set with plain features of few columns, and captions of Flickr8k."""

import os
from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline

from crossfit import Views, datasets
from crossfit.compose import ViewTransformer
from crossfit.extraction import GridFeatures


@pytest.fixture(scope="session")
def emoji():
    """Training and test pairs with their groups: ((views, y), (views, y))."""
    data = datasets.load("emoji")
    text = make_pipeline(TfidfVectorizer(sublinear_tf=True), TruncatedSVD(100, random_state=0))
    features = ViewTransformer(
        [("image", make_pipeline(GridFeatures(), PCA(100, random_state=0))), ("text", text)]
    ).fit(data["train"].views)
    return [(features.transform(data[part].views), data[part].y) for part in ("train", "test")]


@pytest.fixture(scope="session")
def flickr8k():
    """Return views of training pictures with five captions each: flickr8k(start, stop, text).

    Pictures are vectors of EfficientNet-Lite0; captions are vectors of MiniLM with ``"vectors"``,
    strings with ``"strings"``.
    """
    folder = Path(os.environ.get("CROSSFIT_DATA", ""), "flickr8k")
    if not (folder / "features_train_dev.npz").exists():
        pytest.skip("CROSSFIT_DATA does not name a folder with flickr8k/features_train_dev.npz")
    with np.load(folder / "features_train_dev.npz") as held:
        ids, owner = held["image_ids"], held["caption_image_index"]
        images, vectors = held["image_efficientnet_lite0"], held["caption_minilm_l6"]
    lines = (folder / "Flickr8k_text" / "Flickr8k.token.txt").read_text("utf-8").splitlines()
    captions = dict(line.split("\t", 1) for line in lines)
    # Captions of a picture stand next to each other, in their order.
    strings = [captions[f"{name}#{i}"] for name in ids for i in range(5)]
    assert np.array_equal(owner, np.repeat(np.arange(len(ids)), 5))

    def part(start: int, stop: int, text: str = "vectors") -> Views:
        assert stop <= 6000, "the development pictures are not for tests"
        at = slice(5 * start, 5 * stop)
        texts = vectors[at].astype(np.float32) if text == "vectors" else strings[at]
        return Views.from_captions(images[start:stop].astype(np.float32), texts, owner[at] - start)

    return part
