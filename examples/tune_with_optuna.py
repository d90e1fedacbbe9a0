"""Tune a whole pipeline with Optuna: training pictures choose, test pictures judge once."""

import optuna
from sklearn.base import clone
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline

from crossfit import RetrievalScorer, ViewTransformer, make_retrieval_scorer, registry
from crossfit.datasets import load
from crossfit.extraction import GridFeatures
from crossfit.methods import CCA

optuna.logging.set_verbosity(optuna.logging.WARNING)
emoji = load("emoji")
train, test = emoji["train"], emoji["test"]

# Pixels become features once; TF-IDF is learnt anew in every fold, so that nothing leaks.
grid = ViewTransformer([("image", GridFeatures())])
views, held_out = grid.fit_transform(train.views), grid.transform(test.views)
pipe = Pipeline(
    [
        (
            "features",
            ViewTransformer([("text", make_pipeline(TfidfVectorizer(), TruncatedSVD()))]),
        ),
        ("cca", CCA()),
        ("scorer", RetrievalScorer()),
    ]
)


def objective(trial: optuna.Trial) -> float:
    """Mean mAP over folds that keep near-duplicates together."""
    settings = registry.get("cca").suggest(trial, prefix="cca__")
    settings["features__text__truncatedsvd__n_components"] = trial.suggest_int("svd", 32, 256)
    return cross_val_score(
        clone(pipe).set_params(**settings),
        views,
        train.y,
        groups=views.groups,
        cv=GroupKFold(3),
        scoring=make_retrieval_scorer("map@all"),
    ).mean()


study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
study.optimize(objective, n_trials=5)
best = {("features__text__truncatedsvd__n_components" if k == "svd" else k): v
        for k, v in study.best_params.items() if "." not in k}  # fmt: skip
best["cca__reg"] = {role: study.best_params[f"cca__reg.{role}"] for role in ("image", "text")}
winner = clone(pipe).set_params(**best).fit(views)
print(f"cross-validation mAP {study.best_value:.3f} with {best}")
print(f"test mAP {winner.score(held_out, test.y):.3f}")
