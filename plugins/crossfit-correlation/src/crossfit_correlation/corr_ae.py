"""Correspondence autoencoders: Corr-AE, Cross-AE and Full-AE (Feng, Wang and Li, ACM MM 2014)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor, nn

from crossfit.neural import (
    Batch,
    Items,
    MLPBranch,
    NeuralEstimator,
    RBMSchedule,
    Standardize,
    init_weights,
    pretrain_rbms,
)
from crossfit_correlation import cards
from crossfit_correlation.layers import ACTIVATIONS, belief_stack, kinds_by_role, widths_by_role

__all__ = ["CorrAE", "CorrespondenceNetwork", "CrossAE", "FullAE", "correspondence_loss"]


@dataclass(frozen=True)
class Targets:
    """Values that the codes reconstruct, by role.

    Not a dict: the check for outputs that are equal for all items replaces tensors and dicts of
    them, and the targets are not outputs.
    """

    of: Mapping[str, Tensor]


class CorrespondenceNetwork(nn.Module):
    """One encoder per view, and decoders from its code to one or more views.

    Parameters
    ----------
    n_inputs : mapping of str to int
        Width of the feature vectors by role.
    reconstructed : mapping of str to sequence of str
        By role: the views that its code reconstructs.
    widths : sequence of int
        Widths of the layers of every encoder; the last one is the code. Decoders have the same
        layers in reverse.
    activation : str, default="sigmoid"
        Function after every layer of encoders and after the hidden layers of decoders, a key of
        `ACTIVATIONS`.
    last_activation : str, default="linear"
        Function after the last layer of decoders.
    standardize : bool, default=True
        Whether the features are standardised first; the standardised ones are reconstructed.
    dbn : mapping of str to sequence of int, optional
        By role: layers of a deep belief network whose last units are encoded and reconstructed in
        place of the features.
    visible : mapping of str to str, optional
        By role: kind of the features for these networks. Only Gaussian ones are standardised.
    """

    def __init__(
        self,
        n_inputs: Mapping[str, int],
        *,
        reconstructed: Mapping[str, Sequence[str]],
        widths: Sequence[int],
        activation: str = "sigmoid",
        last_activation: str = "linear",
        standardize: bool = True,
        dbn: Mapping[str, Sequence[int]] | None = None,
        visible: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        act, last = ACTIVATIONS[activation], ACTIVATIONS[last_activation]
        kinds = visible or dict.fromkeys(n_inputs, "gaussian")
        self.scaling = nn.ModuleDict(
            {role: Standardize(n, role) if standardize and kinds[role] == "gaussian"
             else nn.Identity()
             for role, n in n_inputs.items()}
        )  # fmt: skip
        layers = {role: (dbn or {}).get(role, ()) for role in n_inputs}
        self.beliefs = nn.ModuleDict(
            {role: belief_stack([n_inputs[role], *each], kinds[role])
             for role, each in layers.items() if each}
        )  # fmt: skip
        n_inputs = {role: layers[role][-1] if layers[role] else n for role, n in n_inputs.items()}
        self.encoders = nn.ModuleDict(
            {role: MLPBranch([n, *widths], activation=act, last_activation=act)
             for role, n in n_inputs.items()}
        )  # fmt: skip
        self.decoders = nn.ModuleDict(
            {
                role: nn.ModuleDict(
                    {target: MLPBranch([*reversed(widths), n_inputs[target]], activation=act,
                                       last_activation=last)
                     for target in targets}
                )
                for role, targets in reconstructed.items()
            }
        )  # fmt: skip
        init_weights(self, activation)

    def scaled(self, items: Items, view: str) -> Tensor:
        """Return what is encoded and reconstructed of the items of one view, (b, d)."""
        x: Tensor = self.scaling[view](items.values)
        if view in self.beliefs:
            stack: Any = self.beliefs[view]
            with torch.no_grad():
                x = stack.encode(x)
        return x

    def encode(self, items: Items, view: str) -> Tensor:
        """Return the codes of items of one view, (b, width)."""
        return self.encoders[view](self.scaled(items, view))

    def forward(self, views: Mapping[str, Items]) -> dict[str, Any]:
        """Return codes, reconstructions and targets, by role."""
        codes = {role: self.encode(items, role) for role, items in views.items()}
        return {
            "codes": codes,
            "rebuilt": {role: self.decode(code, role) for role, code in codes.items()},
            "targets": Targets({role: self.scaled(items, role) for role, items in views.items()}),
        }

    def decode(self, code: Tensor, view: str) -> dict[str, Tensor]:
        """Return the views that are reconstructed from codes of one view, by role."""
        decoders = self.decoders[view]
        assert isinstance(decoders, nn.ModuleDict)
        return {target: decoder(code) for target, decoder in decoders.items()}


class CorrAE(NeuralEstimator):
    r"""Correspondence autoencoder (Corr-AE).

    An autoencoder per view, with the code f(x) of an image and g(z) of a text, whose codes are
    drawn together for matched pairs. The loss is, averaged over the pairs of a batch,

    .. math::

        (1 - \alpha) (\|x - \hat x\|^2 + \|z - \hat z\|^2) + \alpha \|f(x) - g(z)\|^2,

    with squared norms that are summed over features and units. Items are compared by the cosine
    of their codes.

    There are no negatives, and labels are not used. With several captions per image, every caption
    is a pair of its image.

    The squared distance is smallest if all codes are equal. Only the reconstruction prevents this:
    with `alpha` near 1, and a large `width` for few features, codes may collapse, which is
    reported by a `TrainingWarning`. With `alpha` of 0 the method is two independent autoencoders.

    The defaults are for a few thousand pairs of real-valued features; see Notes for the paper's
    settings.

    Parameters
    ----------
    hidden : sequence of int, default=()
        Widths of hidden layers between the features and the code. Decoders have the same layers in
        reverse.
    width : int, default=256
        Number of units of the code.
    alpha : float, default=0.8
        Weight of the distance of codes, in [0, 1].
    activation : {"sigmoid", "tanh", "relu", "linear"}, default="tanh"
        Function after every layer, except for the last one of the decoders. Codes of logistic
        units are positive, so that their cosines differ less.
    last_activation : {"sigmoid", "tanh", "relu", "linear"}, default="linear"
        Function after the last layer of the decoders; "sigmoid" for features in [0, 1].
    standardize : bool, default=True
        Subtract the training mean from every feature and divide it by its standard deviation. The
        results are encoded and reconstructed.
    dbn : sequence of int, or dict of str to sequence of int, default=()
        Layers of a deep belief network per view, or those of each by role, as in the paper. It is
        trained first, layer by layer, and then fixed: the probabilities of its last units are
        encoded and reconstructed in place of the features. Set ``last_activation="sigmoid"`` then.
    visible : str, or dict of str to str, default="gaussian"
        Kind of the features for the belief networks, or of those of each view: "gaussian",
        "replicated-softmax" for counts of words, or "bernoulli" for numbers from 0 to 1. Only the
        first are standardised.
    pretrain : int, default=20
        Number of epochs per layer of the belief networks, by CD-1.
    pretrain_lr : float, or dict of str to float or sequence of float, default=0.01
        Their learning rate; or by role that of a view, or of each of its layers.
    lr_half_life : float, optional
        Number of updates after which the learning rate is half, falling with 1/t, and during which
        two thirds of the rise of the momentum from .5 to .9 are done, if the optimizer has one: the
        schedule of deepnet. Both are constant by default.
    max_epochs : int, default=50
        Number of passes over the training pairs.
    lr : float, default=0.001
        Learning rate.
    batch_size : int, default=100
        Number of pairs per batch.
    **kwargs
        See `crossfit.neural.NeuralEstimator`.

    Attributes
    ----------
    net_ : skorch.NeuralNet
        Its history contains ``train_reconstruction`` and ``train_distance``, both with their
        weights.

    See Also
    --------
    CrossAE : Each code reconstructs the other view.
    FullAE : Each code reconstructs both views.

    Notes
    -----
    The paper has codes of 1024 logistic units, `alpha` of .8 for Corr-AE, .2 for Cross-AE and .8
    for Full-AE, and inputs that are the hidden units of a deep belief network per view, which are
    reconstructed by logistic units. These settings, and the rates and numbers of updates in the
    code that the authors used (deepnet), are in the experiments ``feng-2014-corr-ae-wikipedia``
    and ``feng-2014-corr-ae-pascal-sentences``.

    References
    ----------
    F. Feng, X. Wang, R. Li, Cross-modal retrieval with correspondence autoencoder, ACM MM 2014,
    7-16.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit_correlation.corr_ae import CorrAE
    >>> from crossfit_correlation.testing import make_inputs
    >>> views, _ = make_inputs(np.random.default_rng(0), 100)
    >>> method = CorrAE(width=8, max_epochs=5, device="cpu", random_state=0).fit(views)
    >>> method.transform(views)["text"].shape
    (100, 8)
    """

    card = cards.CORR_AE

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **NeuralEstimator._parameter_constraints,
        "hidden": [list, tuple],
        "width": [Interval(Integral, 1, None, closed="left")],
        "alpha": [Interval(Real, 0, 1, closed="both")],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "last_activation": [StrOptions(set(ACTIVATIONS))],
        "standardize": ["boolean"],
        "dbn": [list, tuple, dict],
        "visible": [str, dict],
        "pretrain": [Interval(Integral, 1, None, closed="left")],
        "pretrain_lr": [Interval(Real, 0, None, closed="neither"), dict],
        "lr_half_life": [Interval(Real, 0, None, closed="neither"), None],
    }

    def __init__(
        self,
        *,
        hidden: Sequence[int] = (),
        width: int = 256,
        alpha: float = 0.8,
        activation: str = "tanh",
        last_activation: str = "linear",
        standardize: bool = True,
        dbn: Sequence[int] | Mapping[str, Sequence[int]] = (),
        visible: str | Mapping[str, str] = "gaussian",
        pretrain: int = 20,
        pretrain_lr: float | Mapping[str, float | Sequence[float]] = 0.01,
        lr_half_life: float | None = None,
        max_epochs: int = 50,
        lr: float = 1e-3,
        batch_size: int = 100,
        **kwargs: Any,
    ) -> None:
        super().__init__(max_epochs=max_epochs, lr=lr, batch_size=batch_size, **kwargs)
        self.hidden = hidden
        self.width = width
        self.alpha = alpha
        self.activation = activation
        self.last_activation = last_activation
        self.standardize = standardize
        self.dbn = dbn
        self.visible = visible
        self.pretrain = pretrain
        self.pretrain_lr = pretrain_lr
        self.lr_half_life = lr_half_life

    def _reconstructed(self) -> dict[str, list[str]]:
        """Return, by role, the views that its code reconstructs."""
        return {role: [role] for role in self._roles()}

    def _validate_params(self) -> None:
        super()._validate_params()
        if any(not isinstance(n, Integral) or isinstance(n, bool) or n < 1 for n in self.hidden):
            raise ValueError(
                f"{self._name()}: hidden must be integers of at least 1, one per layer, got "
                f"{self.hidden!r}"
            )
        self._layers()
        kinds_by_role(self.visible, self._roles(), f"{self._name()}: visible")
        self._rates()

    def _layers(self) -> dict[str, list[int]]:
        """Return the layers of the belief networks by role."""
        return widths_by_role(self.dbn, self._roles(), f"{self._name()}: dbn")

    def _rates(self) -> dict[str, Any]:
        """Return the learning rate, or rates, of the belief networks by role."""
        given, layers = self.pretrain_lr, self._layers()
        rates = given if isinstance(given, Mapping) else dict.fromkeys(layers, given)
        each = {role: list(r) if isinstance(r, (list, tuple)) else [r] for role, r in rates.items()}
        if set(rates) != set(layers) or not all(
            len(r) in (1, len(layers[role]))
            and all(isinstance(v, Real) and not isinstance(v, bool) and float(v) > 0 for v in r)
            for role, r in each.items()
        ):
            raise ValueError(
                f"{self._name()}: pretrain_lr must be a positive number, or one for each of "
                f"{' and '.join(layers)}, or one for each of their layers, got {given!r}"
            )
        return {role: r if len(r) > 1 else r[0] for role, r in each.items()}

    def _build_module(
        self, n_inputs: dict[str, Any], n_classes: int | None, **module: Any
    ) -> nn.Module:
        settings = {
            "reconstructed": self._reconstructed(),
            "widths": [*self.hidden, self.width],
            "activation": self.activation,
            "last_activation": self.last_activation,
            "standardize": self.standardize,
            "dbn": self._layers(),
            "visible": kinds_by_role(self.visible, self._roles(), f"{self._name()}: visible"),
        }
        return CorrespondenceNetwork(n_inputs, **{**settings, **module})

    def _first_weights(self, module: nn.Module, pairs: Any) -> None:
        assert isinstance(module, CorrespondenceNetwork)
        stacks: Any = dict(module.beliefs.items())
        if not stacks:
            return
        rates = self._rates()
        pretrain_rbms(
            self,
            stacks,
            pairs,
            lambda batch, role: module.scaling[role](batch.views[role].values),
            epochs=self.pretrain,
            lr={role: rates[role] for role in stacks},
            batch_size=self.batch_size,
            schedule=self._deepnet(),
        )
        module.beliefs.requires_grad_(False)

    def _deepnet(self) -> RBMSchedule | None:
        if self.lr_half_life is None:
            return None
        return RBMSchedule(self.lr_half_life, momentum_steps=self.lr_half_life)

    def _schedule(self) -> list[Any]:
        schedule = self._deepnet()
        return [] if schedule is None else [schedule]

    def _outputs(self, module: nn.Module, batch: Batch) -> dict[str, Any]:
        return module(batch.views)  # type: ignore[no-any-return]

    def _loss(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        return correspondence_loss(outputs, self.alpha)


class CrossAE(CorrAE):
    r"""Correspondence cross-modal autoencoder (Cross-AE): each code reconstructs the other view.

    The loss is that of `CorrAE`, with :math:`\|z - \hat z(f(x))\|^2 + \|x - \hat x(g(z))\|^2` as
    the reconstruction.

    Parameters
    ----------
    **kwargs
        As in `CorrAE`. The paper's `alpha` for this method is .2.

    See Also
    --------
    CorrAE : Each code reconstructs its own view.
    FullAE : Each code reconstructs both views.

    References
    ----------
    F. Feng, X. Wang, R. Li, Cross-modal retrieval with correspondence autoencoder, ACM MM 2014,
    7-16.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit_correlation.corr_ae import CrossAE
    >>> from crossfit_correlation.testing import make_inputs
    >>> views, _ = make_inputs(np.random.default_rng(0), 100)
    >>> method = CrossAE(width=8, max_epochs=5, device="cpu", random_state=0).fit(views)
    >>> method.similarity(views).shape
    (100, 100)
    """

    card = cards.CROSS_AE

    def _reconstructed(self) -> dict[str, list[str]]:
        first, second = self._roles()
        return {first: [second], second: [first]}


class FullAE(CorrAE):
    """Correspondence full-modal autoencoder (Full-AE): each code reconstructs both views.

    The loss is that of `CorrAE`, with the four squared errors of both views, reconstructed from
    either code, by four decoders.

    Parameters
    ----------
    **kwargs
        As in `CorrAE`.

    See Also
    --------
    CorrAE : Each code reconstructs its own view.
    CrossAE : Each code reconstructs the other view.

    References
    ----------
    F. Feng, X. Wang, R. Li, Cross-modal retrieval with correspondence autoencoder, ACM MM 2014,
    7-16.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit_correlation.corr_ae import FullAE
    >>> from crossfit_correlation.testing import make_inputs
    >>> views, _ = make_inputs(np.random.default_rng(0), 100)
    >>> method = FullAE(width=8, max_epochs=5, device="cpu", random_state=0).fit(views)
    >>> method.transform(views)["image"].shape
    (100, 8)
    """

    card = cards.FULL_AE

    def _reconstructed(self) -> dict[str, list[str]]:
        return {role: list(self._roles()) for role in self._roles()}


def correspondence_loss(outputs: Mapping[str, Any], alpha: float) -> dict[str, Tensor]:
    """Return the terms of the loss of correspondence autoencoders.

    Parameters
    ----------
    outputs : dict
        As `CorrespondenceNetwork` returns them.
    alpha : float
        Weight of the distance of codes.

    Returns
    -------
    dict of str to Tensor
        ``reconstruction`` and ``distance``.
    """
    first, second = outputs["codes"].values()
    errors = [
        _squared(outputs["targets"].of[target] - found)
        for rebuilt in outputs["rebuilt"].values()
        for target, found in rebuilt.items()
    ]
    return {
        "reconstruction": (1 - alpha) * torch.stack(errors).sum(),
        "distance": alpha * _squared(first - second),
    }


def _squared(difference: Tensor) -> Tensor:
    """Return the squared norm of a row, averaged over the rows."""
    return difference.square().sum(dim=1).mean()
