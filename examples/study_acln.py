"""An Optuna study of ACLN on the emoji set, with its plots; needs the plugin crossfit-acln."""

import warnings

import matplotlib.pyplot as plt
from optuna.exceptions import ExperimentalWarning
from optuna.visualization import matplotlib as plots

from crossfit import ViewTransformer
from crossfit.cards import Choice, Float
from crossfit.datasets import load
from crossfit.extraction import GridFeatures
from crossfit.methods import ACLN
from crossfit.model_selection import OptunaSearch

warnings.simplefilter("ignore", ExperimentalWarning)  # as Optuna calls its plots
plt.switch_backend("Agg")
emoji = load("emoji")
train, val, test = (emoji[name] for name in ("train", "val", "test"))
# Regions of pixels need no training: they are made once, and not in every trial.
regions = ViewTransformer([("image", GridFeatures(4, output="regions"))]).fit(train.views)
space = {"attention": Choice("shared", "separate", "none"), "lr": Float(3e-4, 3e-2, log=True),
         "dropout": Float(0.0, 0.6), "corr_weight": Float(0.1, 10.0, log=True)}  # fmt: skip
search = OptunaSearch(
    ACLN(width=64, max_epochs=8, random_state=0), space, n_trials=14, pruner="median",
    cv=(regions.transform(val.views), val.y), refit_epochs=True, random_state=0,
)  # fmt: skip
search.fit(regions.transform(train.views), train.y)
print(f"validation mAP {search.best_score_:.3f} with {search.best_params_}")
print(f"test mAP {search.score(regions.transform(test.views), test.y):.3f}")  # looked at once
for name in ("optimization_history", "intermediate_values", "param_importances", "slice"):
    getattr(plots, f"plot_{name}")(search.study_)
    plt.gcf().savefig(f"study_{name}.png", dpi=100, bbox_inches="tight")
