"""The method: conformance checks, training, parameters and the experiment."""

import numpy as np
import pytest

from crossfit.experiment import Experiment
from crossfit.testing import parametrize_with_checks
from crossfit_template.network import Template
from crossfit_template.testing import make_inputs


@parametrize_with_checks([Template])
def test_conforms(check):
    check()


def test_training_lowers_the_loss():
    views, _ = make_inputs(np.random.default_rng(0), 80)
    method = Template(max_epochs=10, lr=3e-3, device="cpu", random_state=0, verbose=0).fit(views)
    losses = method.net_.history[:, "train_loss"]
    assert losses[-1] < losses[0] / 2


def test_bad_parameters():
    views, _ = make_inputs(np.random.default_rng(0), 20)
    with pytest.raises(ValueError, match="margin"):
        Template(margin=-1.0).fit(views)


def test_the_experiment_is_well_formed():
    experiment = Experiment.find("anon-2026-template-emoji")
    assert [method.method for method in experiment.methods] == ["cca", "template"]
