"""The defaults of methods over sets learn from regions and names of emoji."""

import numpy as np
import pytest

from crossfit import datasets
from crossfit.compose import ViewTransformer
from crossfit.extraction import GridFeatures, WordVectors
from crossfit.metrics import chance_level
from crossfit_heads.maxsim import MaxSim
from crossfit_heads.scan import SCAN
from crossfit_heads.vse_infinity import VSEInfinity


@pytest.fixture(scope="module")
def emoji_sets():
    """Training and test pairs: cells of a grid, and names with keywords."""
    data = datasets.load("emoji")
    grid = ViewTransformer([("image", GridFeatures(4, output="regions", cache=False))])
    grid.fit(data["train"].views)
    return [grid.transform(data[part].views) for part in ("train", "test")]


def _over_chance(method, train, test):
    """Return how many times as large as by chance the mean reciprocal rank is.

    By chance it is below 1.4 in 999 of 1,000 cases: its deviation is about a tenth.
    """
    chance = chance_level(np.eye(len(test)), "mrr").mean(None, "mrr")
    return method.fit(train).score(test) / chance


@pytest.mark.filterwarnings("ignore:.*words are unknown")
@pytest.mark.parametrize("method", [VSEInfinity, SCAN])
def test_the_defaults_learn_from_emoji_in_a_few_epochs(method, emoji_sets):
    learnt = method(max_epochs=3, device="cpu", random_state=0, verbose=0)
    assert _over_chance(learnt, *emoji_sets) > 2


@pytest.mark.filterwarnings("ignore:.*words are unknown")
def test_maxsim_learns_from_emoji(emoji_sets):
    words = WordVectors(vector_size=50, min_count=1, random_state=0, verbose=False)
    words.fit(emoji_sets[0]["text"])
    train, test = (part.map(lambda texts, _: words.transform(texts), "text") for part in emoji_sets)
    assert _over_chance(MaxSim(), train, test) > 1.4
