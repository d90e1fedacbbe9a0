"""
Users and items
===============

The pairs of a recommender are users and what they chose. An interaction matrix gives vectors of
both by a truncated SVD, but none for a user without a history. What is known of the user (age,
region and interests) is the second view: CCA and a contrastive head learn it from the users with a
history.
"""

import matplotlib.pyplot as plt
import numpy as np
import scipy.sparse as sp
from sklearn.decomposition import TruncatedSVD
from sklearn.preprocessing import normalize

import crossfit
from crossfit import Views, registry
from crossfit.methods import CCA
from crossfit.metrics import chance_level

rng = np.random.default_rng(0)
N_USERS, N_ITEMS, N_TASTES = 1200, 400, 8

# %%
# The script makes up the data. Tastes of users follow from their age, region and interests, apart
# from a part that nobody knows; most users chose few items and some chose many.

age, region = rng.integers(0, 5, N_USERS), rng.integers(0, 6, N_USERS)
interests = rng.random((N_USERS, 12)) < 0.25
side = np.hstack([np.eye(5)[age], np.eye(6)[region], interests]).astype(float)
tastes = side @ rng.normal(size=(23, N_TASTES)) + rng.normal(size=(N_USERS, N_TASTES))
genres = rng.random((N_ITEMS, 10)) < 0.2
qualities = genres @ rng.normal(size=(10, N_TASTES)) + rng.normal(size=(N_ITEMS, N_TASTES))
likes = tastes @ qualities.T / 3 + rng.normal(size=N_ITEMS)  # some items are liked by many
chances = np.exp(likes - likes.max(axis=1, keepdims=True))
chances /= chances.sum(axis=1, keepdims=True)
activity = np.minimum(rng.pareto(1.0, N_USERS) * 4 + 2, 200).astype(int)
counts = np.stack([rng.multinomial(n, p) for n, p in zip(activity, chances)])

new = np.arange(N_USERS) >= 1000  # users without a history
history, chosen = counts[~new], counts[new] > 0
print(f"{history.shape[0]} users with {np.median(history.sum(axis=1)):.0f} choices in the median, "
      f"{new.sum()} new users, {N_ITEMS} items")  # fmt: skip

# %%
# **Vectors from the interactions.** Users and items are in one space: the vector of a user is the
# sum of the vectors of the items chosen.

svd = TruncatedSVD(16, random_state=0).fit(sp.csr_array(np.log1p(history)))
of_users, of_items = svd.transform(np.log1p(history)), svd.components_.T

# %%
# **A head between what is known of a user and the vector.** A row is a user with a history. The
# direction of a vector is the less certain the fewer the choices, so a user with n choices has the
# weight n / (n + 5). For a new user, items whose vectors are closest to what is known are
# recommended: they are in the same space as those of the users, and so belong to the same view.

n_choices = history.sum(axis=1)
users = Views(known=side[~new], vector=normalize(of_users))
weights = n_choices / (n_choices + 5)
cca = CCA(reg=0.1).fit(users)
weighted = CCA(reg=0.1).fit(users, sample_weight=weights)
scores = {
    "popularity": np.tile(history.sum(axis=0), (new.sum(), 1)).astype(float),
    "CCA": cca.score_items(side[new], "known", of_items, "vector"),
    "CCA, weights": weighted.score_items(side[new], "known", of_items, "vector"),
}

# %%
# The contrastive head (InfoNCE) starts from CCA; it comes with the plugin ``crossfit-heads``.

if "contrastive-head" in {entry.name for entry in registry.entries("crossfit.methods")}:
    head = registry.load("contrastive-head", "crossfit.methods")(
        width=16, cca_reg=0.1, max_epochs=30, random_state=0, verbose=False
    )
    scores["InfoNCE"] = head.fit(users).score_items(side[new], "known", of_items, "vector")

# %%
# **The choices themselves as pairs.** A row is a choice, its weight how often the item was chosen.
# Users and items are stored once, as ``from_items`` shares them between rows, and both views are
# descriptions, so that new items can be recommended too.

row, column = history.nonzero()
index = {"user": row, "item": column}
described = genres[np.unique(column)].astype(float)  # all items that were chosen
index["item"] = np.unique(column, return_inverse=True)[1]
choices = Views.from_items(user=side[~new], item=described, index=index)
direct = CCA(reg=0.1).fit(choices, sample_weight=history[row, column])
scores["CCA of descriptions"] = direct.score_items(side[new], "user", genres.astype(float), "item")
print(choices)

# %%
# An item is right for a new user who chose it.

measures = ("ndcg@10", "map@all")
random_order = chance_level(chosen, measures, directions="forward")
results = {"random order": [random_order.mean("forward", measure) for measure in measures]}
for name, matrix in scores.items():
    found = crossfit.evaluate(matrix, chosen, measures, directions="forward", ci=None)
    results[name] = [found.mean("forward", measure) for measure in measures]
print(" " * 20 + "".join(f"{name:>9}" for name in measures))
for name, values in results.items():
    print(f"{name:20}" + "".join(f"{value:9.3f}" for value in values))

figure, ax = plt.subplots(figsize=(6, 2.6), layout="constrained")
values = [ndcg for ndcg, _ in results.values()]
bars = ax.barh(list(results), values, color=["silver", "silver", *["steelblue"] * len(scores)])
ax.bar_label(bars, fmt="{:.3f}", padding=3)
ax.set(xlabel="nDCG@10 of new users", xlim=(0, 1.15 * max(values)))
ax.invert_yaxis()
plt.show()
