"""Real pairs that every test can use: the emoji set with plain features of few columns."""

import pytest
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline

from crossfit import datasets
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
