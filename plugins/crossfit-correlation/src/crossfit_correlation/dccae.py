"""Deep canonically correlated autoencoders (DCCAE), Wang, Arora, Livescu and Bilmes, ICML 2015."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, ClassVar

import torch
from sklearn.utils._param_validation import Interval
from torch import Tensor, nn

from crossfit.cards import MethodCard
from crossfit.neural import Batch
from crossfit_correlation import cards
from crossfit_correlation.dcca import ACTIVATIONS, DCCA, Branch, Branches

__all__ = ["DCCAE", "AutoBranches", "decoder"]


def decoder(
    width: int, hidden: Sequence[int], n_outputs: int, activation: str, batch_norm: bool
) -> nn.Sequential:
    """Return the mirror image of the fully connected layers of a branch.

    Parameters
    ----------
    width : int
        Number of outputs of the branch.
    hidden : sequence of int
        Widths of the hidden layers of the branch, which are reversed.
    n_outputs : int
        Number of features of the view.
    activation : str
        Function after hidden layers, as in `crossfit_correlation.dcca.Branch`.
    batch_norm : bool
        As in `crossfit_correlation.dcca.Branch`.

    Returns
    -------
    torch.nn.Sequential
    """
    layers: list[nn.Module] = []
    for size in reversed(hidden):
        layers += [nn.Linear(width, size), ACTIVATIONS[activation]()]
        if batch_norm:
            layers.append(nn.BatchNorm1d(size, affine=False))
        width = size
    return nn.Sequential(*layers, nn.Linear(width, n_outputs))


class AutoBranches(Branches):
    """One `Branch` and one decoder per view.

    Parameters
    ----------
    branches : mapping of str to Branch
        By role, in order.
    decoders : sequence of Module
        In the same order.
    """

    def __init__(self, branches: Mapping[str, Branch], decoders: Sequence[nn.Module]) -> None:
        super().__init__(branches)
        self.decoders = nn.ModuleList(decoders)

    def decoder(self, view: str) -> Any:
        """Return the decoder of a role.

        Parameters
        ----------
        view : str
            The role.
        """
        return self.decoders[self.roles.index(view)]


class DCCAE(DCCA):
    r"""Deep canonically correlated autoencoders (DCCAE).

    DCCA whose outputs must also reconstruct their own views: with decoders p and q of the networks
    f and g, the loss is

    .. math:: -\|T\|_{tr} + \lambda \frac{1}{n} \sum_i
              \|x_i - p(f(x_i))\|^2 + \|z_i - q(g(z_i))\|^2

    in a batch of n pairs, with the whitened cross-covariance T of `DCCA`. The features x and z are
    standardised before (`standardize`), so that the squares of a view add up to its number of
    features if nothing is reconstructed. Linear CCA follows, as in DCCA.

    Parameters
    ----------
    reconstruction : float, default=0.1
        Weight :math:`\lambda`; the paper chooses it among .001, .01, .1, 1 and 10. With 0 the
        networks are those of DCCA.
    **kwargs
        As in `DCCA`. A decoder has the hidden layers of its network in reverse order; convolutions
        are reconstructed by fully connected layers.

    Attributes
    ----------
    cca_, shapes_
        As in `DCCA`.
    net_ : skorch.NeuralNet
        Its history also contains ``train_reconstruction``, the weighted error, which is a part of
        ``valid_loss``.

    See Also
    --------
    DCCA : Without reconstruction.

    References
    ----------
    W. Wang, R. Arora, K. Livescu, J. Bilmes, On deep multi-view representation learning, ICML
    2015.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit_correlation.dccae import DCCAE
    >>> from crossfit_correlation.testing import make_inputs
    >>> views, _ = make_inputs(np.random.default_rng(0), 200)
    >>> dccae = DCCAE(hidden=32, width=6, max_epochs=20, random_state=0).fit(views)
    >>> dccae.transform(views)["text"].shape
    (200, 6)
    """

    card: ClassVar[MethodCard | None] = cards.DCCAE

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **DCCA._parameter_constraints,
        "reconstruction": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(self, *, reconstruction: float = 0.1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.reconstruction = reconstruction

    def _build_module(
        self, n_inputs: dict[str, Any], n_classes: int | None, **module: Any
    ) -> nn.Module:
        branches = {role: self._branch(n, role, **module) for role, n in n_inputs.items()}
        return AutoBranches(
            branches,
            [
                decoder(self.width, self._hidden(role), n, self.activation, self.batch_norm)
                for role, n in n_inputs.items()
            ],
        )

    def _outputs(self, module: nn.Module, batch: Batch) -> dict[str, Any]:
        assert isinstance(module, AutoBranches)
        outputs, errors = [], []
        for role, items in batch.views.items():
            branch = module.branch(role)
            x = branch.scaling(items.values)
            outputs.append(branch(x))
            rebuilt = module.decoder(role)(outputs[-1])
            errors.append((rebuilt - x).square().sum(dim=1).mean())
        return {"outputs": outputs, "decay": module.decay(), "error": torch.stack(errors).sum()}

    def _loss(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        terms = super()._loss(outputs, batch)
        return {**terms, "reconstruction": self.reconstruction * outputs["error"]}
