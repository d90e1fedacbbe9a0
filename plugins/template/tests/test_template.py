"""The methods against the conformance checks and their definitions."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from crossfit.experiment import Experiment
from crossfit.testing import parametrize_with_checks
from crossfit_template.estimator import Template
from crossfit_template.network import TemplateNet
from crossfit_template.testing import make_inputs


@parametrize_with_checks([Template, TemplateNet])
def test_conforms(check):
    check()


def test_full_rank_is_ridge_regression():
    """An oracle that we did not write: without a cut in rank, distances are those of Ridge."""
    views, _ = make_inputs(np.random.default_rng(0), 80)
    X, Z = views["image"], views["text"]
    method = Template(n_components=10, reg=0.3).fit(views)
    alpha = 0.3 * np.trace(np.cov(X.T, bias=True)) * len(X) / X.shape[1]
    predicted = Ridge(alpha=alpha).fit(X, Z).predict(X)
    images, texts = method.encode(X, "image"), method.encode(Z, "text")
    expected = np.linalg.norm(predicted[:, None] - Z, axis=2)
    np.testing.assert_allclose(np.linalg.norm(images[:, None] - texts, axis=2), expected, atol=1e-8)


def test_the_components_are_nested():
    views, _ = make_inputs(np.random.default_rng(0), 80)
    few, many = (Template(n_components=k).fit(views) for k in (3, 8))
    np.testing.assert_allclose(few.weights_["image"], many.weights_["image"][:, :3])


@pytest.mark.parametrize(
    ("params", "message"),
    [({"n_components": 0}, "n_components"), ({"reg": -1.0}, "reg")],
)
def test_bad_parameters(params, message):
    views, _ = make_inputs(np.random.default_rng(0), 20)
    with pytest.raises(ValueError, match=message):
        Template(**params).fit(views)


def test_the_experiment_is_well_formed():
    experiment = Experiment.find("anon-2026-template-emoji")
    assert [method.method for method in experiment.methods] == ["cca", "template", "template-net"]
