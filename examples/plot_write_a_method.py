"""
Write a method of your own
==========================

A method is a class with ``_fit`` and ``_encode``, and a card that describes it. The base class
provides checks of the input, several captions per image, pipelines, tuning and search; the
conformance kit tests that all of this works.
"""

from collections import Counter

import matplotlib.pyplot as plt
import numpy as np

from crossfit import CrossModalEstimator, Views
from crossfit.cards import Float, MethodCard
from crossfit.methods import CCA
from crossfit.testing import check_method

CARD = MethodCard(
    api=1,
    name="ridge-map",
    target=f"{__name__}:RidgeMap",
    summary="Text features predicted from the picture by ridge regression",
    search_space={"alpha": Float(1e-3, 1e3, log=True)},
)


class RidgeMap(CrossModalEstimator):
    """Predict text features from image features; compare by cosine."""

    card = CARD

    def __init__(self, alpha=1.0):
        self.alpha = alpha

    def _fit(self, views, y):
        X, Z = views["image"], views["text"]
        self.x_mean_, self.z_mean_ = X.mean(axis=0), Z.mean(axis=0)
        X, Z = X - self.x_mean_, Z - self.z_mean_
        self.weights_ = np.linalg.solve(X.T @ X + self.alpha * np.eye(X.shape[1]), X.T @ Z)

    def _encode(self, values, view):
        if view == "image":
            return (values - self.x_mean_) @ self.weights_
        return values - self.z_mean_


# %%
# The kit fits the method on synthetic pairs of many kinds. Without ``select=`` every check runs,
# including those of scikit-learn and of the registration, which needs a package with an entry
# point. On the command line, use ``crossfit check``.

results = check_method(RidgeMap, select="not sklearn and not registered")
print(Counter(result.status for result in results))
print(*(result.description for result in results[:8]), sep="\n")

# %%
# The plot compares the method with CCA on synthetic pairs, with increasing noise in the picture.

rng = np.random.default_rng(0)
topics = rng.normal(size=(400, 8))
to_image, to_text = rng.normal(size=(8, 60)), rng.normal(size=(8, 30))
levels = [0.5, 1, 2, 3, 4, 6, 8]
figure, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
for method in (RidgeMap(alpha=100.0), CCA(n_components=8, reg=0.1)):
    found = []
    for noise in levels:
        views = Views(
            image=topics @ to_image + noise * rng.normal(size=(400, 60)),
            text=topics @ to_text + rng.normal(size=(400, 30)),
        )
        found.append(method.fit(views[:250]).score(views[250:]))
    ax.plot(levels, found, "o-", label=type(method).__name__)
ax.set(xlabel="noise in the picture's features", ylabel="MRR, mean of both directions", ylim=(0, 1))
ax.legend()
plt.show()
