"""Fit CCA on pictures and their keywords, measure it, and search with it."""

from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import Pipeline, make_pipeline

import crossfit
from crossfit import Views, ViewTransformer
from crossfit.datasets import load
from crossfit.extraction import GridFeatures
from crossfit.methods import CCA

emoji = load("emoji")
train, test = emoji["train"], emoji["test"]

# 1. A pipeline from raw pictures and strings to a common space.
text_features = make_pipeline(TfidfVectorizer(sublinear_tf=True), TruncatedSVD(200, random_state=0))
pipe = Pipeline(
    [
        ("features", ViewTransformer([("image", GridFeatures()), ("text", text_features)])),
        ("cca", CCA(n_components=64, reg=10.0, power=1)),
    ]
)
pipe.fit(train.views)

# 2. Every test picture against every test text, measured both ways with intervals: by class
#    (any emoji of the same class is right) and by pair (only its own text is).
scores = crossfit.similarity(pipe, test.views)
names = ("image", "text")
print("chance:", crossfit.metrics.chance_level((test.y, test.y), names=names).mean(None, "map@all"))
print(crossfit.evaluate(scores, (test.y, test.y), "map@all", names=names))
pairs = test.views.relevance("image", "text")
print(crossfit.evaluate(scores, pairs, ["r@1", "r@10", "medr"], names=names))

# 3. Search: a text nobody wrote in the data, answered with pictures.
found = crossfit.search(
    pipe, ["happy cat", "a green vegetable"], view="text", gallery=test.views["image"], k=5
)
for query, hits in zip(("happy cat", "a green vegetable"), found.indices):
    print(f"{query}: {', '.join(test.info['short_name'][hits])}")

# 4. One modality alone, as at query time.
print(crossfit.encode(pipe, test.views["image"][:3], "image").shape)
assert isinstance(pipe.transform(test.views), Views)
