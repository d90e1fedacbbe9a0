"""
Search, and show what was found
===============================

A pipeline from raw pictures and strings to a common space can search with texts that are not in the
data. The gallery shows each query with the pictures that were found for it, best first.
"""

import matplotlib.pyplot as plt
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import Pipeline, make_pipeline

import crossfit
from crossfit import ViewTransformer
from crossfit.datasets import load
from crossfit.displays import GalleryDisplay
from crossfit.extraction import GridFeatures
from crossfit.methods import CCA

emoji = load("emoji")
train, test = emoji["train"], emoji["test"]
text = make_pipeline(TfidfVectorizer(sublinear_tf=True), TruncatedSVD(200, random_state=0))
pipe = Pipeline(
    [
        ("features", ViewTransformer([("image", GridFeatures()), ("text", text)])),
        ("cca", CCA(n_components=64, reg=10.0, power=1)),
    ]
)
pipe.fit(train.views)

# %%
# To evaluate the pipeline, rank all test texts for every test picture, and all test pictures for
# every test text. An item is relevant if it is of the query's class (``map@all``), or only if it is
# the query's own pair (``r@10``, ``medr``). The chance level is the result of a random order.

scores = crossfit.similarity(pipe, test.views)
names = ("image", "text")
print(crossfit.metrics.chance_level((test.y, test.y), "map@all", names=names))
print(crossfit.evaluate(scores, (test.y, test.y), "map@all", names=names))
print(crossfit.evaluate(scores, test.views.relevance(*names), ["r@10", "medr"], names=names))

# %%
# The display shows what is found for some of the test pairs: the own picture of a text is marked by
# ✓, others of its class by ≈, and wrong ones by ×. The features are gradients and colours, so the
# pictures that are found look like what was meant, but are not always right.

display = GalleryDisplay.from_estimator(pipe, emoji, query="text", gallery="image")
plt.figure(display.figure_)  # the figure is not pyplot's until it is attached
plt.show()

# %%
# A search for texts that are not in the data returns pictures with their scores.

queries = ["happy face", "a person playing sports", "red flower", "fruit"]
found = crossfit.search(pipe, queries, view="text", gallery=test.views["image"], k=8)
plt.figure(GalleryDisplay.from_results(found, queries).figure_)
plt.show()
