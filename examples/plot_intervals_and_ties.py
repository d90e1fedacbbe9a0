"""
Intervals and ties
==================

A figure without an interval invites wrong conclusions, and a figure that depends on the order in
which the gallery is stored is wrong. This example shows both on random scores.
"""

import matplotlib.pyplot as plt
import numpy as np

from crossfit.metrics import chance_level, evaluate

rng = np.random.default_rng(0)
y = np.repeat(np.arange(5), 40)  # a gallery that is stored class by class

# %%
# The fewer steps scores are rounded to, the more ties they have. With ``ties="stable"`` tied
# items keep the order of the gallery, and the figure rises although nothing has been learned.
# ``ties="worst"`` errs in the other direction. The default, ``"expected"``, is the exact mean over
# all orders of the tied items: it stays at the chance level.

noise = rng.random((200, 200))
steps = [1, 2, 3, 5, 10, 30, 100]
figure, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
for ties in ("stable", "expected", "worst"):
    found = [
        evaluate(np.floor(noise * n), (y, y), "map@all", ties=ties, ci=None).mean(None, "map@all")
        for n in steps
    ]
    ax.plot(steps, found, "o-", label=f'ties="{ties}"')
chance = chance_level((y, y), "map@all").mean(None, "map@all")
ax.axhline(chance, color="grey", linestyle="--", label="chance")
ax.set(xscale="log", xlabel="number of different scores", ylabel="mAP")
ax.set_title("a scorer that has learned nothing")
ax.legend()
plt.show()

# %%
# The interval is a bootstrap interval over queries. It shows how far the figure could have moved
# with other queries of the same kind. Four times as many queries halve its width.

signal = np.equal.outer(y, y) * 0.5 + rng.normal(size=(200, 200))
sizes = [20, 40, 80, 160, 200]
rows = rng.permutation(200)
figure, ax = plt.subplots(figsize=(6, 3.2), layout="constrained")
for x, n in enumerate(sizes):
    some = rows[:n]
    result = evaluate(signal[some], (y[some], y), "map@all", directions="forward")
    low, high = result.interval("forward", "map@all")
    mean = result.mean("forward", "map@all")
    ax.errorbar(x, mean, [[mean - low], [high - mean]], fmt="o", color="C0", capsize=4)
ax.set_xticks(range(len(sizes)), sizes)
ax.set(xlabel="queries", ylabel="mAP", title="95 % intervals of one method")
plt.show()
