"""The bimodal autoencoder (Ngiam et al., ICML 2011)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor, nn

from crossfit.neural import (
    Batch,
    MLPBranch,
    NeuralEstimator,
    RBMSchedule,
    RBMStack,
    Standardize,
    init_weights,
    pretrain_rbms,
)
from crossfit.neural.rbm import layer_rates
from crossfit_correlation import cards
from crossfit_correlation.layers import ACTIVATIONS, widths_by_role

__all__ = ["BimodalAE", "BimodalNetwork"]


class BimodalNetwork(nn.Module):
    """One encoder and one decoder per view, and one code of all views between them.

    Parameters
    ----------
    n_inputs : mapping of str to int
        Width of the feature vectors by role.
    hidden : mapping of str to sequence of int
        By role: widths of the view's own layers before the code. Decoders have the same layers in
        reverse.
    width : int
        Number of units of the code.
    activation : str, default="tanh"
        Function after every layer but the last one of the decoders, a key of `ACTIVATIONS`.
    standardize : bool, default=True
        Whether the features are standardised first; the standardised ones are reconstructed.
    """

    def __init__(
        self,
        n_inputs: Mapping[str, int],
        *,
        hidden: Mapping[str, Sequence[int]],
        width: int,
        activation: str = "tanh",
        standardize: bool = True,
    ) -> None:
        super().__init__()
        act = ACTIVATIONS[activation]
        sizes = {role: [n, *hidden[role]] for role, n in n_inputs.items()}
        self.n_inputs = dict(n_inputs)
        self.widths = {role: layers[-1] for role, layers in sizes.items()}
        self.scaling = nn.ModuleDict(
            {role: Standardize(n, role) if standardize else nn.Identity()
             for role, n in n_inputs.items()}
        )  # fmt: skip
        self.encoders = nn.ModuleDict()
        self.decoders = nn.ModuleDict()
        for role, layers in sizes.items():
            deep = len(layers) > 1
            self.encoders[role] = (
                MLPBranch(layers, activation=act, last_activation=act) if deep else nn.Identity()
            )
            self.decoders[role] = (
                nn.Sequential(act(), MLPBranch(layers[::-1], activation=act))
                if deep
                else nn.Identity()
            )
        self.code = nn.Linear(sum(self.widths.values()), width)
        self.expand = nn.Linear(width, sum(self.widths.values()))
        self.act = act()
        init_weights(self, activation)

    def inputs(self, values: Tensor, view: str) -> Tensor:
        """Return what is encoded and reconstructed of the items of one view, (b, d)."""
        return self.scaling[view](values)

    def encode(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the codes of rows with some of the views, (b, width); the others are zero."""
        first = next(iter(inputs.values()))
        parts = []
        for role, encoder in self.encoders.items():
            if role in inputs:
                parts.append(encoder(inputs[role]))
            else:
                zero = first.new_zeros(1, self.n_inputs[role])
                parts.append(encoder(zero).expand(first.shape[0], -1))
        return self.act(self.code(torch.cat(parts, dim=1)))

    def decode(self, code: Tensor) -> dict[str, Tensor]:
        """Return the reconstruction of every view, by role."""
        parts = self.expand(code).split(list(self.widths.values()), dim=1)
        return {role: self.decoders[role](part) for role, part in zip(self.widths, parts)}


class BimodalAE(NeuralEstimator):
    r"""Bimodal autoencoder: one code, from either view or both, reconstructs both.

    The code :math:`h = s(W_1 a(x) + W_2 b(z) + c)` of an image x and a text z, with layers a and b
    of the views' own, is decoded into both views. Every pair is learnt three times, from
    :math:`(x, z)`, :math:`(x, 0)` and :math:`(0, z)`, always with (x, z) as the target, so that the
    code of one view alone contains what it reveals about the other one. The loss is the mean over
    these rows of

    .. math:: \|x - \hat x\|^2 + \|z - \hat z\|^2,

    summed over the features. At test, the other view is zero, which is the mean of standardised
    features, and items are compared by the cosine of their codes.

    There are no negatives, and labels are not used. With several captions per image, every caption
    is a pair of its image.

    Parameters
    ----------
    hidden : sequence of int, or dict of str to sequence of int, default=()
        Widths of the views' own layers between the features and the code, or those of each view by
        role. Decoders have the same layers in reverse.
    width : int, default=64
        Number of units of the code.
    activation : {"sigmoid", "tanh", "relu", "linear"}, default="tanh"
        Function after every layer, except for the last one of the decoders. Codes of logistic
        units are positive, so that their cosines differ less.
    tripled : bool, default=True
        Learn from each view alone too. If not, from (x, z) only; with linear units the code is
        then that of principal component analysis of [x z].
    standardize : bool, default=True
        Subtract the training mean from every feature and divide it by its standard deviation. The
        results are encoded and reconstructed.
    pretrain : int, default=0
        Number of epochs per layer in which restricted Boltzmann machines are trained first, with
        Gaussian units for the features; the layers start with their weights. Requires logistic
        units and standardised features.
    pretrain_lr : float, default=0.1
        Learning rate of these machines, in stochastic gradient descent whose momentum rises from .5
        to .9; with Gaussian units it is 2 divided by the number of hidden units.
    lr_half_life : float, optional
        Number of updates after which the learning rate is half, falling with 1/t, and during which
        two thirds of the rise of the momentum from .5 to .9 are done, if the optimizer has one: the
        schedule of deepnet. Both are constant by default.
    max_epochs : int, default=30
        Number of passes over the training pairs.
    lr : float, default=0.003
        Learning rate.
    batch_size : int, default=100
        Number of pairs per batch.
    **kwargs
        See `crossfit.neural.NeuralEstimator`.

    Attributes
    ----------
    net_ : skorch.NeuralNet
        Its history contains the parts of the loss by what the code was computed from:
        ``train_from_both``, and ``train_from_image`` and ``train_from_text`` (by role).

    Raises
    ------
    ValueError
        In `fit`, if `pretrain` is set with other than logistic units.

    See Also
    --------
    crossfit.neural.RBMStack : The machines of `pretrain`.

    Notes
    -----
    The paper trains on audio and video of speech. For images and texts, the settings of deepnet,
    which later authors used for this method, are in the experiment
    ``ngiam-2011-bimodal-ae-flickr30k``.

    References
    ----------
    J. Ngiam, A. Khosla, M. Kim, J. Nam, H. Lee, A. Ng, Multimodal deep learning, ICML 2011.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit_correlation.bimodal_ae import BimodalAE
    >>> from crossfit_correlation.testing import make_inputs
    >>> views, _ = make_inputs(np.random.default_rng(0), 100)
    >>> method = BimodalAE(width=8, max_epochs=5, device="cpu", random_state=0).fit(views)
    >>> method.transform(views)["text"].shape
    (100, 8)
    """

    card = cards.BIMODAL_AE

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **NeuralEstimator._parameter_constraints,
        "hidden": [list, tuple, dict],
        "width": [Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "tripled": ["boolean"],
        "standardize": ["boolean"],
        "pretrain": [Interval(Integral, 0, None, closed="left")],
        "pretrain_lr": [Interval(Real, 0, None, closed="neither")],
        "lr_half_life": [Interval(Real, 0, None, closed="neither"), None],
    }

    def __init__(
        self,
        *,
        hidden: Sequence[int] | Mapping[str, Sequence[int]] = (),
        width: int = 64,
        activation: str = "tanh",
        tripled: bool = True,
        standardize: bool = True,
        pretrain: int = 0,
        pretrain_lr: float = 0.1,
        lr_half_life: float | None = None,
        max_epochs: int = 30,
        lr: float = 3e-3,
        batch_size: int = 100,
        **kwargs: Any,
    ) -> None:
        super().__init__(max_epochs=max_epochs, lr=lr, batch_size=batch_size, **kwargs)
        self.hidden = hidden
        self.width = width
        self.activation = activation
        self.tripled = tripled
        self.standardize = standardize
        self.pretrain = pretrain
        self.pretrain_lr = pretrain_lr
        self.lr_half_life = lr_half_life

    def _validate_params(self) -> None:
        super()._validate_params()
        self._hidden()
        if self.pretrain and not (self.activation == "sigmoid" and self.standardize):
            raise ValueError(
                f"{self._name()}: pretrain={self.pretrain!r} needs logistic units and standardised "
                f"features, got activation={self.activation!r} and "
                f"standardize={self.standardize!r}; set activation='sigmoid' and standardize=True"
            )

    def _build_module(
        self, n_inputs: dict[str, Any], n_classes: int | None, **module: Any
    ) -> nn.Module:
        settings = {
            "hidden": self._hidden(),
            "width": self.width,
            "activation": self.activation,
            "standardize": self.standardize,
        }
        return BimodalNetwork(n_inputs, **{**settings, **module})

    def _first_weights(self, module: nn.Module, pairs: Any) -> None:
        if not self.pretrain:
            return
        assert isinstance(module, BimodalNetwork)
        settings: dict[str, Any] = {"epochs": self.pretrain, "batch_size": self.batch_size}

        def rates(visible: str, widths: Sequence[int]) -> list[float]:
            return layer_rates(visible, widths, self.pretrain_lr)

        def inputs(batch: Batch, role: str) -> Tensor:
            return module.inputs(batch.views[role].values, role)

        def below(batch: Batch, _: str) -> Tensor:
            parts = [module.encoders[role](inputs(batch, role)) for role in module.encoders]
            return torch.cat(parts, dim=1)

        deep = {
            role: RBMStack([n, *self._hidden()[role]], "gaussian")
            for role, n in module.n_inputs.items()
            if self._hidden()[role]
        }
        if deep:
            lr = {role: rates("gaussian", self._hidden()[role]) for role in deep}
            pretrain_rbms(self, deep, pairs, inputs, lr=lr, **settings)
            for role, stack in deep.items():
                stack.initialize(module.encoders[role], module.decoders[role])
        # One view may have features while another one has probabilities of its own layers.
        visible = "bernoulli" if len(deep) == len(module.encoders) else "gaussian"
        top = RBMStack([module.code.in_features, module.code.out_features], visible)
        lr = {"code": rates(visible, [self.width])}
        pretrain_rbms(self, {"code": top}, pairs, below, lr=lr, **settings)
        top.initialize(module.code, module.expand)

    def _hidden(self) -> dict[str, list[int]]:
        return widths_by_role(self.hidden, self._roles(), f"{self._name()}: hidden")

    def _schedule(self) -> list[Any]:
        if self.lr_half_life is None:
            return []
        return [RBMSchedule(self.lr_half_life, momentum_steps=self.lr_half_life)]

    # ---- the loss ------------------------------------------------------------------------------

    def _outputs(self, module: nn.Module, batch: Batch) -> dict[str, dict[str, Tensor]]:
        """Return the reconstructions by what the code was computed from."""
        assert isinstance(module, BimodalNetwork)
        given = {role: module.inputs(items.values, role) for role, items in batch.views.items()}
        found = {"both": module.decode(module.encode(given))}
        if self.tripled:
            for role, part in given.items():
                found[role] = module.decode(module.encode({role: part}))
        return found

    def _loss(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        module = self.net_.module_
        assert isinstance(module, BimodalNetwork)
        with torch.no_grad():
            targets = {
                role: module.inputs(items.values, role) for role, items in batch.views.items()
            }
        return {
            f"from_{source}": _squares(targets, rebuilt) / len(outputs)
            for source, rebuilt in outputs.items()
        }

    def _encode_batch(self, module: nn.Module, items: Any, view: str) -> Tensor:
        assert isinstance(module, BimodalNetwork)
        return module.encode({view: module.inputs(items.values, view)})


def _squares(targets: Mapping[str, Tensor], rebuilt: Mapping[str, Tensor]) -> Tensor:
    """Return the squared error of all views, averaged over the rows."""
    parts = [(targets[role] - part).square().sum(dim=1).mean() for role, part in rebuilt.items()]
    return torch.stack(parts).sum()
