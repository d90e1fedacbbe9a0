"""
Tune a pipeline with Optuna and look at the study
=================================================

:class:`~crossfit.model_selection.OptunaSearch` tunes any part of a pipeline. Each trial is fitted
on the training pairs, settings are chosen on the validation pairs, and the test pairs are evaluated
once. The study is Optuna's own, so Optuna's plots can draw it.
"""

import warnings

import matplotlib.pyplot as plt
from optuna.exceptions import ExperimentalWarning
from optuna.visualization import matplotlib as plots
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import Pipeline, make_pipeline

from crossfit import RetrievalScorer, ViewTransformer
from crossfit.cards import Choice, Float, Int
from crossfit.datasets import load
from crossfit.extraction import GridFeatures
from crossfit.methods import CCA
from crossfit.model_selection import OptunaSearch

emoji = load("emoji")
train, val, test = (emoji[name] for name in ("train", "val", "test"))
text = make_pipeline(TfidfVectorizer(sublinear_tf=True), TruncatedSVD(random_state=0))
pipe = Pipeline(
    [
        ("features", ViewTransformer([("image", GridFeatures()), ("text", text)])),
        ("cca", CCA()),
        ("scorer", RetrievalScorer(metric="map@all")),
    ]
)

# %%
# The keys of the space are scikit-learn's names of the parameters.

space = {
    "features__text__truncatedsvd__n_components": Int(32, 256),
    "cca__n_components": Int(8, 128, log=True),
    "cca__reg": Float(0.01, 100.0, log=True),
    "cca__power": Choice(0, 1, 4),
}
search = OptunaSearch(
    pipe, space, scoring="map@all", n_trials=20, cv=(val.views, val.y), random_state=0
)
search.fit(train.views, train.y)
print(f"validation mAP {search.best_score_:.3f} with {search.best_params_}")
print(f"test mAP {search.score(test.views, test.y):.3f}")  # once

# %%
# The history shows when the search stopped finding better settings. The slices show which values
# of the ridge and of the power were good.

warnings.simplefilter("ignore", ExperimentalWarning)  # of Optuna's Matplotlib plots
plots.plot_optimization_history(search.study_)
plots.plot_slice(search.study_, params=["cca__reg", "cca__power"])
plt.show()
