"""
Stop bad trials of a network early
==================================

A neural method reports its validation score after every epoch, so a trial that is below the others
need not be trained to its end. The method itself needs no changes.
"""

import warnings

import matplotlib.pyplot as plt
from optuna.exceptions import ExperimentalWarning

from crossfit import ViewTransformer
from crossfit.cards import Choice, Float
from crossfit.datasets import load
from crossfit.extraction import GridFeatures
from crossfit.methods import ACLN
from crossfit.model_selection import OptunaSearch

warnings.simplefilter("ignore", ExperimentalWarning)
emoji = load("emoji")
train, val, test = (emoji[name] for name in ("train", "val", "test"))

# %%
# Regions of pixels do not need training: they are made once, not in every trial.

regions = ViewTransformer([("image", GridFeatures(4, output="regions"))]).fit(train.views)
space = {
    "attention": Choice("shared", "separate", "none"),
    "lr": Float(3e-4, 3e-2, log=True),
    "dropout": Float(0.0, 0.6),
    "corr_weight": Float(0.1, 10.0, log=True),
}
search = OptunaSearch(
    ACLN(width=64, max_epochs=6, min_count=1, random_state=0, verbose=0),
    space,
    n_trials=10,
    pruner="median",
    cv=(regions.transform(val.views), val.y),
    refit_epochs=True,
    random_state=0,
)
search.fit(regions.transform(train.views), train.y)
print(f"validation mAP {search.best_score_:.3f} with {search.best_params_}")
print(f"test mAP {search.score(regions.transform(test.views), test.y):.3f}")

# %%
# Each line is a trial. Those that end early were below the median of the others at that epoch.

figure, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
for trial in search.study_.trials:
    best = trial.number == search.study_.best_trial.number
    pruned = trial.state.name == "PRUNED"
    epochs, scores = zip(*sorted(trial.intermediate_values.items()))
    style = {"color": "C0", "linewidth": 2.5, "zorder": 3} if best else {"color": "0.6"}
    ax.plot(epochs, scores, **style)
    if pruned:
        ax.plot(epochs[-1], scores[-1], "x", color="C3", markersize=8, markeredgewidth=2)
ax.plot([], [], color="C0", linewidth=2.5, label="the best trial")
ax.plot([], [], "x", color="C3", markersize=8, markeredgewidth=2, label="stopped early")
ax.set(xlabel="epoch", ylabel="mAP on the validation pairs")
ax.legend()
plt.show()
