"""
Compare two methods honestly
============================

The methods are tuned with the same number of trials on the same validation pairs, evaluated once
on the same test queries, and compared query by query: what matters is the interval of the
difference, not whether the intervals of two methods overlap.
"""

import matplotlib.pyplot as plt
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline

import crossfit
from crossfit import ViewTransformer
from crossfit.cards import Float, Int
from crossfit.datasets import load
from crossfit.extraction import GridFeatures
from crossfit.methods import CCA, GMLDA, PLS
from crossfit.metrics import compare
from crossfit.model_selection import OptunaSearch

emoji = load("emoji")
text = make_pipeline(TfidfVectorizer(sublinear_tf=True), TruncatedSVD(200, random_state=0))
features = ViewTransformer([("image", GridFeatures()), ("text", text)]).fit(emoji["train"].views)
train, val, test = (features.transform(emoji[name].views) for name in ("train", "val", "test"))
y_train, y_val, y_test = (emoji[name].y for name in ("train", "val", "test"))

# %%
# CCA and PLS use only the pairs; GMLDA also uses the labels.

size = Int(8, 128, log=True)
methods = {
    "PLS": (PLS(), {"n_components": size}),
    "CCA": (CCA(power=1), {"n_components": size, "reg": Float(0.01, 100, log=True)}),
    "GMLDA": (GMLDA(), {"n_components": size, "reg": Float(0.01, 100, log=True)}),
}
results = {}
for name, (method, space) in methods.items():
    search = OptunaSearch(
        method, space, scoring="map@all", n_trials=12, cv=(val, y_val), random_state=0
    )
    scores = crossfit.similarity(search.fit(train, y_train), test)
    results[name] = crossfit.evaluate(scores, (y_test, y_test), "map@all", names=("image", "text"))
    print(name, search.best_params_)

# %%
# The p-values are those of paired randomisation tests, corrected for the number of comparisons by
# Holm's rule.

tests = compare(results, "map@all", "text2image")
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
for place, result in enumerate(results.values()):
    mean = result.mean("text2image", "map@all")
    low, high = result.interval("text2image", "map@all")
    left.errorbar(mean, place, xerr=[[mean - low], [high - mean]], fmt="o", capsize=4)
left.set_yticks(range(len(results)), results)
left.set(xlabel="mAP, text → image, 95 %", ylim=(-0.6, 2.6), title="each method alone")
for place, row in enumerate(tests):
    error = [[row.difference - row.low], [row.high - row.difference]]
    right.errorbar(row.difference, place, xerr=error, fmt="s", color="black", capsize=4)
labels = [f"{row.first} − {row.second}\np = {row.p_adjusted:.4f}" for row in tests]
right.set_yticks(range(len(tests)), labels)
right.axvline(0, color="C3", linestyle="--")
right.set(xlabel="difference of mAP, 95 %", ylim=(-0.6, 2.6), title="the same queries, in pairs")
plt.show()
