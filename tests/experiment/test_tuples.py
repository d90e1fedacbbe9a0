"""YAML has no tuples: lists become tuples where a parameter takes nothing else."""

import inspect

import pytest
import yaml
from sklearn.pipeline import Pipeline

from crossfit import registry
from crossfit.experiment import Experiment, Store, plan
from crossfit.experiment.allowed_classes import CLASSES, PARAMETERS
from crossfit.experiment.build import build_features, checked_settings
from crossfit.experiment.cell import compute
from crossfit.experiment.tuning import chosen_settings

TFIDF = "sklearn.feature_extraction.text.TfidfVectorizer"
SVD = {"name": "sklearn.decomposition.TruncatedSVD", "params": {"n_components": 5}}


def _experiment(ngrams, **more):
    words = {"name": TFIDF, "params": {"analyzer": "char", "ngram_range": ngrams}}
    return Experiment(
        title="t",
        dataset={"name": "emoji", "subset": {"train": 60, "test": 20}},
        features={"image": "grid", "text": [words, SVD]},
        methods=[{"method": "cca", "params": {"n_components": 3, "reg": 1.0}, **more}],
        tuning={"trials": 2, "folds": 2, "sampler": "grid"} if "tune" in more else None,
    )


@pytest.mark.parametrize("ngrams", [[1, 2], (1, 2)])
def test_a_list_serves_as_a_tuple(ngrams, tmp_path):
    experiment = _experiment(ngrams)
    words = dict(build_features(experiment.features))["text"].steps[0][1]
    assert words.ngram_range == (1, 2)
    (task,) = plan(experiment, tmp_path)
    assert compute(task, Store(tmp_path))[0]["results"]


def test_a_tuple_stays_a_tuple():
    experiment = _experiment((1, 2), tune={"power": {"choice": [0, 1]}})
    assert experiment.features["text"][0]["params"]["ngram_range"] == (1, 2)
    written = yaml.safe_load(yaml.safe_dump(experiment.to_dict()))
    assert written["features"]["text"][0]["params"]["ngram_range"] == [1, 2]


@pytest.mark.parametrize("choice", [[[1, 1], [1, 2]], {"words": [1, 1], "pairs": [1, 2]}])
def test_tuples_are_searched_over(choice, tmp_path):
    name = "features__text__tfidfvectorizer__ngram_range"
    experiment = _experiment([1, 3], tune={name: {"choice": choice}})
    (task,) = plan(experiment, tmp_path)
    found = chosen_settings(task, Store(tmp_path))
    assert [trial["state"] for trial in found["trials"]] == ["complete", "complete"]
    assert found["params"][name] in ([1, 1], [1, 2])  # as JSON has it
    assert compute(task, Store(tmp_path))[0]["results"]


def test_every_parameter_that_takes_only_tuples_accepts_a_list():
    tried = 0
    for name, module in CLASSES.items():
        cls = registry.resolve_target(f"{module}:{name}")
        parameters = inspect.signature(cls).parameters
        if any(found.default is inspect.Parameter.empty for found in parameters.values()):
            continue  # an estimator around another one
        for parameter, found in parameters.items():
            if not isinstance(found.default, tuple) or parameter not in PARAMETERS:
                continue
            value = list(found.default)
            settings = checked_settings(Pipeline([("it", cls())]), {f"it__{parameter}": value}, "")
            made = cls(**{parameter: settings[f"it__{parameter}"]})
            if getattr(cls, "_parameter_constraints", None):
                made._validate_params()
            tried += 1
    assert tried >= 7


def test_lists_of_methods_that_take_lists_are_unchanged():
    cls = registry.load("bssan")
    found = checked_settings(Pipeline([("it", cls())]), {"it__branches": ["w2r"]}, "")
    assert found == {"it__branches": ["w2r"]}
