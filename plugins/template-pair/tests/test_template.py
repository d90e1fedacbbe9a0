"""The method against the conformance checks, and against its definition in NumPy."""

import numpy as np
import torch

from crossfit import Ragged, Views
from crossfit.testing import parametrize_with_checks
from crossfit_template.network import Template


@parametrize_with_checks([Template])
def test_conforms(check):
    check()


def test_scores_are_those_of_the_definition():
    """An oracle that we did not write: the formula, pair by pair."""
    rng = np.random.default_rng(0)
    images = Ragged.from_list([rng.normal(size=(k, 6)) for k in (1, 4, 2, 3)])
    views = Views(image=images, text=rng.normal(size=(4, 5)))
    method = Template(width=8, max_epochs=2, device="cpu", random_state=0, verbose=0).fit(views)
    found = method.similarity(views)

    def unit(role, values):
        with torch.no_grad():
            layer = method.net_.module_[role]
            mapped = values @ layer.weight.double().numpy().T + layer.bias.double().numpy()
        return mapped / np.linalg.norm(mapped, axis=-1, keepdims=True)

    for i, regions in enumerate(images):
        for j, text in enumerate(views["text"]):
            cosines = unit("image", regions) @ unit("text", text)
            weights = np.exp(5 * cosines) / np.exp(5 * cosines).sum()
            np.testing.assert_allclose(found[i, j], weights @ cosines, atol=1e-5)
