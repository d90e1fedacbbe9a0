"""Numbers and devices of the networks of a fitted model."""

from types import SimpleNamespace

import pytest
from sklearn.base import BaseEstimator
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

from crossfit._sizes import devices_of, parameters_of
from crossfit.report.facts import about_environment

torch = pytest.importorskip("torch")


class Fitted(BaseEstimator):
    """An estimator that holds a network."""

    def __init__(self, device="cpu"):
        self.device = device

    def held(self):
        self.net_ = SimpleNamespace(module_=torch.nn.Linear(3, 2, device=self.device))
        return self


def test_networks_of_all_steps_are_counted():
    pipeline = make_pipeline(Ridge(), Fitted().held(), Fitted("meta").held())
    assert parameters_of(pipeline) == 2 * (3 * 2 + 2)
    assert devices_of(pipeline) == ["cpu", "meta"]
    assert parameters_of(Ridge()) is None and devices_of(Ridge()) == []


def test_a_graphics_card_has_its_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"Card {device.index}")
    device = torch.device("cuda", 1)
    network = SimpleNamespace(parameters=lambda: [SimpleNamespace(device=device)])
    model = Fitted()
    model.net_ = SimpleNamespace(module_=network)
    assert devices_of(model) == ["Card 1"]
    about = {"python": "3.12", "platform": "Linux", "packages": {"numpy": "2.4"}}
    assert about_environment(about) == "Python 3.12, numpy 2.4; Linux"
    assert about_environment({**about, "devices": ["cpu"]}) == "Python 3.12, numpy 2.4; Linux"
    assert about_environment({**about, "devices": ["Card 1"]}).endswith("; Linux, Card 1")
