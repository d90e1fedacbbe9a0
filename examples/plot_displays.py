"""
Plots of a fitted method
========================

The displays draw recall, precision, correlations, hubs and classes of a fitted method, each with
one call, as scikit-learn's displays do. Each draws into the ``ax`` that is passed, or into a new
figure.
"""

import matplotlib.pyplot as plt
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline

from crossfit import ViewTransformer
from crossfit.datasets import load
from crossfit.displays import (
    ClassAPDisplay,
    HubnessDisplay,
    PrecisionRecallDisplay,
    RecallDisplay,
    SpectrumDisplay,
)
from crossfit.extraction import GridFeatures
from crossfit.methods import CCA

emoji = load("emoji")
train, test = emoji["train"], emoji["test"]
text = make_pipeline(TfidfVectorizer(sublinear_tf=True), TruncatedSVD(200, random_state=0))
features = ViewTransformer([("image", GridFeatures()), ("text", text)])
views = features.fit_transform(train.views)
held_out = features.transform(test.views)
weak = CCA(n_components=64, reg=0.001).fit(views)
strong = CCA(n_components=64, reg=10.0).fit(views)

# %%
# With a weak ridge the correlations of the fit are near 1, and those of the test pairs are far
# below. With a strong one, the first components of the test pairs correlate more, and more queries
# find their own pair at large K. The bands are intervals over queries.

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
for method, name in ((weak, "weak ridge"), (strong, "strong ridge")):
    SpectrumDisplay.from_estimator(method, held_out, name=name, ax=left)
    RecallDisplay.from_estimator(method, held_out, directions="forward", name=name, ax=right)
plt.show()

# %%
# If items of the same class are relevant to each other, precision falls as recall rises. A few hubs
# are found by many more queries than the mean.

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
PrecisionRecallDisplay.from_estimator(strong, held_out, test.y, name="CCA", ax=left)
HubnessDisplay.from_estimator(strong, held_out, k=10, ax=right)
plt.show()

# %%
# Some classes are much easier than others.

figure, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
ClassAPDisplay.from_estimator(strong, held_out, test.y, target_names=emoji.target_names, ax=ax)
plt.show()
