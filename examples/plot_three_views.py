"""
Three views in one common space
===============================

CCA takes any number of views. Here pictures, texts and sounds share latent topics, and each view
has its own noise. One fit serves six directions of retrieval.
"""

import matplotlib.pyplot as plt
import numpy as np

import crossfit
from crossfit import Views
from crossfit.methods import CCA

rng = np.random.default_rng(0)
n, shared = 600, 6
topics = rng.normal(size=(n, shared))
noise = {"image": 1.0, "text": 0.5, "sound": 3.0}
sizes = {"image": 60, "text": 30, "sound": 40}
views = Views(
    {
        name: topics @ rng.normal(size=(shared, sizes[name]))
        + noise[name] * rng.normal(size=(n, sizes[name]))
        for name in noise
    }
)
train, test = views[:400], views[400:]
cca = CCA(n_components=shared, reg=0.1).fit(train)
print(cca.transform(test))

# %%
# ``query=`` and ``gallery=`` select a direction. Retrieval is worst in directions with the noisiest
# view, and the two directions between the same views need not be equally good.

names = list(noise)
recall = np.full((3, 3), np.nan)
for i, query in enumerate(names):
    for j, gallery in enumerate(names):
        if query != gallery:
            scores = crossfit.similarity(cca, test, query=query, gallery=gallery)
            relevant = test.relevance(query, gallery)
            found = crossfit.evaluate(scores, relevant, "r@1", directions="forward", ci=None)
            recall[i, j] = found.mean("forward", "r@1")

figure, ax = plt.subplots(figsize=(4.6, 3.8), layout="constrained")
heat = ax.imshow(recall, cmap="Blues", vmin=0, vmax=1)
for (i, j), value in np.ndenumerate(recall):
    if i != j:
        ax.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=14,
                color="white" if value > 0.5 else "black")  # fmt: skip
ax.set_xticks(range(3), names)
ax.set_yticks(range(3), names)
ax.set(xlabel="gallery", ylabel="query", title="R@1 among 200 items")
figure.colorbar(heat, label="R@1", shrink=0.85)
plt.show()
