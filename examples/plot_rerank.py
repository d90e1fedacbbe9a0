"""
Search with re-ranking
======================

A cheap method proposes k items for each query and an expensive one ranks only these. This example
measures how much of the expensive method's result is kept, and with how many comparisons.
"""

import matplotlib.pyplot as plt
import numpy as np

from crossfit import Views
from crossfit.methods import CCA, KCCA
from crossfit.retrieval import Reranker, exactness

rng = np.random.default_rng(0)
topics = rng.normal(size=(900, 4))


def curved(columns):
    """Return features that depend on the topics, but not linearly."""
    phase = rng.uniform(0, 2 * np.pi, columns)
    return np.cos(topics @ rng.normal(size=(4, columns)) + phase)


views = Views(
    image=curved(60) + 0.3 * rng.normal(size=(900, 60)),
    text=curved(50) + 0.3 * rng.normal(size=(900, 50)),
)
train, test = views[:500], views[500:]
first = CCA(n_components=20, reg=0.1).fit(train)
second = KCCA(n_components=40).fit(train)
print(f"MRR of the first stage {first.score(test):.3f}, of the second {second.score(test):.3f}")

# %%
# ``exactness`` compares the two stages with the second stage alone: the share of its first ten
# items that the two stages find, and how often the first item is the same.

sizes = [10, 20, 40, 80, 160, 400]  # of 400
reports, mrr = [], []
for k in sizes:
    two = Reranker(first, second, k=k, prefit=True).fit(train)
    reports.append(exactness(two, test, query="text", gallery="image"))
    mrr.append(two.score(test))
print(reports[2])

# %%
# With a tenth of the pairs, the second stage finds nearly everything that it finds with all pairs.

share = [100 * report.share_scored for report in reports]
figure, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
curves = {
    "first ten items found": [report.overlap_mean for report in reports],
    "same first item": [report.top1_mean for report in reports],
}
for label, values in curves.items():
    means, lows, highs = np.transpose(values)
    (line,) = ax.plot(share, means, "o-", label=label)
    ax.fill_between(share, lows, highs, color=line.get_color(), alpha=0.2)
ax.plot(share, mrr, "s--", color="0.4", label="MRR of the two stages")
ax.set(xscale="log", xlabel="pairs that the second stage scores, in percent", ylabel="share")
ax.set_xticks(share, [f"{value:g}" for value in share])
ax.minorticks_off()
ax.legend()
plt.show()
