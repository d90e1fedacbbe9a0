"""Experiment files cannot name anything that unpickles, reads files or starts processes."""

import inspect
import os
import pickle
import re
import warnings

import joblib
import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.cluster import FeatureAgglomeration
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import all_estimators

from crossfit.experiment import Experiment, SpecError, Store, plan
from crossfit.experiment.allowed_classes import CLASSES, KERNELS, PARAMETERS
from crossfit.experiment.build import checked_settings, named
from crossfit.experiment.cell import compute
from crossfit.experiment.tuning import chosen_settings

SCALE = {"name": "sklearn.preprocessing.StandardScaler"}


def experiment(image=None, method=None, **more):
    about = {"title": "t", "dataset": {"name": "emoji", "subset": {"train": 60, "test": 20}}}
    features = {"image": image or "grid", "text": [
        "sklearn.feature_extraction.text.TfidfVectorizer",
        {"name": "sklearn.decomposition.TruncatedSVD", "params": {"n_components": 5}},
    ]}  # fmt: skip
    method = method or {"method": "cca", "params": {"n_components": 3, "reg": 1.0}}
    return Experiment(**about, features=features, methods=[method], **more)


class _Evil:
    """Make a folder when unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def poisoned(folder, mark, model, X):
    """Fill a joblib cache by fitting, then replace every result by a pickle that runs code."""
    model = clone(model).set_params(memory=joblib.Memory(str(folder), verbose=0))
    model.fit(X)
    files = list(folder.rglob("output.pkl"))
    assert files
    for file in files:
        file.write_bytes(pickle.dumps(_Evil(mark)))


@pytest.mark.parametrize("where", ["params", "set", "tune", "search.json"])
@pytest.mark.parametrize("kind", ["pipeline", "agglomeration"])
def test_a_planted_cache_is_never_unpickled(tmp_path, monkeypatch, kind, where):
    folder, mark = tmp_path / "cache", tmp_path / "mark"
    X = np.random.default_rng(0).normal(size=(20, 6))
    if kind == "pipeline":
        made = make_pipeline(StandardScaler(), StandardScaler())
        spec = {
            "name": "sklearn.pipeline.Pipeline",
            "params": {"steps": [["standardscaler-1", SCALE], ["standardscaler-2", SCALE]]},
        }
    else:
        made = FeatureAgglomeration()
        spec = {"name": "sklearn.cluster.FeatureAgglomeration", "params": {}}
    poisoned(folder, mark, made, X)
    # The attack works if a program uses the cache.
    with pytest.raises(Exception):  # noqa: B017 (whatever the planted object leads to)
        clone(made).set_params(memory=str(folder)).fit(X)
    assert mark.is_dir()
    mark.rmdir()

    if where == "params":
        spec["params"]["memory"] = str(folder)
        with pytest.raises(SpecError, match="may not set 'memory'"):
            plan(experiment(["grid", spec]), tmp_path / "s")
    elif where == "set":
        path = tmp_path / "e.yaml"
        path.write_text("title: t\ndataset: emoji\nmethods: [cca]\n")
        e = Experiment.from_file(path, [f"features.image={spec}".replace("'", '"'),
                                        f"features.image.params.memory={folder}"])  # fmt: skip
        with pytest.raises(SpecError, match="may not set 'memory'"):
            plan(e, tmp_path / "s")
    elif where == "tune":
        tuned = {
            "method": "cca",
            "tune": {"features__image__memory": {"choice": [str(folder), None]}},
        }
        with pytest.raises(SpecError, match="may not set 'memory'"):
            plan(experiment(spec, tuned, tuning={"trials": 1, "folds": 2}), tmp_path / "s")
    else:
        tuned = {"method": "cca", "params": {"n_components": 2}, "tune": {"reg": {"float": [1, 2]}}}
        e = experiment(["grid", spec], tuned, tuning={"trials": 1, "folds": 2})
        (task,) = plan(e, tmp_path / "s")
        store = Store(tmp_path / "s")
        found = chosen_settings(task, store)
        inner = "pipeline__memory" if kind == "pipeline" else "featureagglomeration__memory"
        found["params"] = {f"features__image__{inner}": str(folder)}
        monkeypatch.setattr("crossfit.experiment.cell.chosen_settings", lambda *_: found)
        with pytest.raises(ValueError, match="may not set 'memory'"):
            compute(task, store)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("sklearn.feature_extraction.text.TfidfVectorizer", {"input": "filename"}),
        ("sklearn.feature_extraction.text.CountVectorizer", {"input": "file"}),
        ("sklearn.pipeline.FeatureUnion", {"transformer_list": [["a", SCALE]], "n_jobs": 2}),
        ("sklearn.ensemble.RandomForestClassifier", {"n_jobs": -1}),
        ("sklearn.preprocessing.FunctionTransformer", {"func": "os.system"}),
        ("sklearn.preprocessing.FunctionTransformer",
         {"func": {"name": "sklearn.metrics.pairwise.rbf_kernel"}}),
        ("sklearn.neighbors.KNeighborsClassifier",
         {"weights": {"name": "sklearn.metrics.pairwise.rbf_kernel"}}),
        ("sklearn.pipeline.Pipeline",
         {"steps": [["a", {"name": "sklearn.pipeline.Pipeline",
                           "params": {"steps": [["b", SCALE]], "memory": "here"}}]]}),
        ("sklearn.model_selection.GridSearchCV",
         {"estimator": SCALE, "param_grid": {"memory": ["here"]}}),
        ("sklearn.cluster.OPTICS", {}),
        ("sklearn.pipeline.joblib.Memory", {"location": "here"}),
        ("sklearn.utils.estimator_checks.check_estimator", {}),
        ("sklearn.metrics.pairwise.pairwise_kernels", {}),
    ],
)  # fmt: skip
def test_what_would_read_files_start_processes_or_call_functions_is_refused(tmp_path, name, params):
    with pytest.raises(SpecError, match=r"may not set|experiments may name"):
        plan(experiment([{"name": name, "params": params}]), tmp_path / "s")
    classifier = {"method": "sm", "params": {"classifier": {"name": name, "params": params}}}
    with pytest.raises(SpecError, match=r"may not set|experiments may name"):
        plan(experiment(method=classifier), tmp_path / "s")


def test_settings_are_followed_to_the_object_that_takes_them():
    inner = make_pipeline(StandardScaler(), FeatureAgglomeration())
    whole = make_pipeline(inner, StandardScaler())
    for name in ("memory", "pipeline__memory", "pipeline__featureagglomeration__memory"):
        with pytest.raises(SpecError, match=f"here: {name}: .*may not set 'memory'"):
            checked_settings(whole, {name: "folder"}, "here")
        checked_settings(whole, {name: None}, "here")
    checked_settings(whole, {"pipeline__featureagglomeration__n_clusters": 3}, "here")


with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    ESTIMATORS = dict(all_estimators())


def _is_allowed(cls):
    return CLASSES.get(cls.__name__) in (cls.__module__, cls.__module__.rpartition("._")[0])


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_every_estimator_of_scikit_learn_is_allowed_or_refused_by_name(name):
    cls = ESTIMATORS[name]
    home = cls.__module__.rpartition("._")[0] or cls.__module__
    if not _is_allowed(cls):
        with pytest.raises(SpecError, match="experiments may name"):
            named(f"{home}.{name}", "here")
        return
    assert named(f"{CLASSES[name]}.{name}", "here") is cls
    # It neither sets parameters of other objects by name nor contains a grid of them.
    assert not {"param_grid", "param_distributions"} & set(inspect.signature(cls).parameters)
    source = inspect.getsource(cls)
    for parameter in inspect.signature(cls).parameters:
        if parameter not in PARAMETERS:
            continue
        # A text that scikit-learn does not compare with a list of words could name a file.
        kinds = cls._parameter_constraints.get(parameter, []) if hasattr(
            cls, "_parameter_constraints") else []  # fmt: skip
        if isinstance(kinds, list) and str in kinds:
            assert parameter in {
                "constant", "outlier_label", "pos_label", "scoring", "threshold",
                "token_pattern", "verbose_feature_names_out",
            }  # fmt: skip
        assert not re.search(
            rf"(open|check_memory|import_module|Memory|load)\(\s*self\.{parameter}\b", source
        )
        if isinstance(kinds, list) and callable in kinds:
            # A parameter that takes only functions is useless in a file; others must be allowed.
            assert len([kind for kind in kinds if kind not in (callable, None)]) > 0
    refused = {"memory", "n_jobs", "input", "func", "inverse_func", "tokenizer", "preprocessor",
               "callback", "pooling_func", "score_func", "importance_getter", "metric_params",
               "kernel_params", "encoding", "pre_dispatch"}  # fmt: skip
    assert not refused & PARAMETERS


def test_every_listed_class_and_kernel_is_there_and_every_parameter_is_someones():
    made = [named(f"{module}.{name}", "here") for name, module in CLASSES.items()]
    assert all(issubclass(cls, BaseEstimator) for cls in made if "sklearn" in cls.__module__)
    known = {name for cls in made for name in inspect.signature(cls).parameters}
    assert PARAMETERS - known == set()
    assert all(callable(named(f"sklearn.metrics.pairwise.{name}", "here")) for name in KERNELS)


def test_a_wrong_module_of_a_known_class_gets_a_hint():
    with pytest.raises(SpecError, match=r"did you mean 'sklearn.decomposition.PCA'"):
        named("sklearn.PCA", "here")
