"""Deep canonical correlation analysis (DCCA), Andrew, Arora, Bilmes and Livescu, ICML 2013."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor, nn

from crossfit.cards import MethodCard
from crossfit.neural import Batch, CanonicalEstimator, Standardize, cca_loss, in_float64
from crossfit.neural.batching import flat_rows
from crossfit.neural.training import optimizer_class
from crossfit.subspace import CCA
from crossfit.views import Views
from crossfit_correlation import cards
from crossfit_correlation.layers import ACTIVATIONS as _COMMON

__all__ = ["DCCA", "Branch", "Branches", "CubeRoot"]

# With fewer rows per output, correlations of a batch are mostly those of noise: at five rows, the
# largest correlation of two random batches is about .8.
_ROWS_PER_OUTPUT = 5
# Channels of the blocks of convolutions.
_CHANNELS = (16, 32, 64)


class CubeRoot(nn.Module):
    r"""The activation of Andrew et al.: the inverse s(x) of :math:`g(y) = y^3/3 + y`.

    It is close to x at 0, grows like a cube root and does not saturate; its derivative is
    :math:`1 / (1 + s(x)^2)`.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return s(x), element by element.

        Parameters
        ----------
        x : Tensor
            Any shape.

        Returns
        -------
        Tensor of the same shape
        """
        return 2 * torch.sinh(torch.asinh(1.5 * x) / 3)


ACTIVATIONS: Mapping[str, type[nn.Module]] = {**_COMMON, "cube-root": CubeRoot}


class Branch(nn.Module):
    """The network of one view: fully connected layers, perhaps above convolutions.

    Parameters
    ----------
    n_inputs : int
        Number of features.
    hidden : sequence of int
        Widths of the hidden layers; a linear map if it is empty.
    width : int
        Number of outputs. The last layer has no bias, because correlations do not depend on it.
    view : str
        Role of the view, for `crossfit.neural.Standardize`.
    shape : pair of int, optional
        Rows and columns of the matrices that the features are, for the convolutions: three blocks
        of 3 x 3 convolution, batch normalisation, ReLU and maximum over 2 x 2, with 16, 32 and 64
        channels.
    activation : {"sigmoid", "tanh", "relu", "linear", "cube-root"}, default="sigmoid"
        Function after the hidden layers.
    batch_norm : bool, default=True
        Whether outputs of hidden layers are normalised over the batch, after the activation and
        without weights.
    dropout : float, default=0.0
        Probability of dropping a feature, and a hidden unit after its normalisation.
    standardize : bool, default=True
        Whether the features are standardised first.
    """

    def __init__(
        self,
        n_inputs: int,
        hidden: Sequence[int],
        width: int,
        view: str,
        *,
        shape: Sequence[int] | None = None,
        activation: str = "sigmoid",
        batch_norm: bool = True,
        dropout: float = 0.0,
        standardize: bool = True,
    ) -> None:
        super().__init__()
        self.scaling = Standardize(n_inputs, view) if standardize else nn.Identity()
        layers: list[nn.Module] = [nn.Dropout(dropout)] if dropout else []
        if shape is not None:
            layers.append(nn.Unflatten(1, (1, *shape)))
            channels, (rows, columns) = 1, shape
            for more in _CHANNELS:
                layers += [
                    nn.Conv2d(channels, more, 3, padding=1), nn.BatchNorm2d(more), nn.ReLU(),
                    nn.MaxPool2d(2, ceil_mode=True),
                ]  # fmt: skip
                channels, rows, columns = more, math.ceil(rows / 2), math.ceil(columns / 2)
            layers.append(nn.Flatten())
            n_inputs = channels * rows * columns
        for size in hidden:
            layers += [nn.Linear(n_inputs, size), ACTIVATIONS[activation]()]
            if batch_norm:
                layers.append(nn.BatchNorm1d(size, affine=False))
            if dropout:
                layers.append(nn.Dropout(dropout))
            n_inputs = size
        layers.append(nn.Linear(n_inputs, width, bias=False))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map standardised features to the outputs.

        Parameters
        ----------
        x : Tensor of shape (b, n_inputs)
            The result of ``scaling``.

        Returns
        -------
        Tensor of shape (b, width)
        """
        return self.layers(x)


class Branches(nn.Module):
    """One `Branch` per view.

    Parameters
    ----------
    branches : mapping of str to Branch
        By role, in order.
    """

    def __init__(self, branches: Mapping[str, Branch]) -> None:
        super().__init__()
        self.roles = tuple(branches)
        # Not a dict of modules: a view may have any name.
        self.branches = nn.ModuleList(branches.values())

    def branch(self, view: str) -> Any:
        """Return the branch of a role.

        Parameters
        ----------
        view : str
            The role.
        """
        return self.branches[self.roles.index(view)]

    def decay(self) -> Tensor:
        """Return half the sum of the squares of all weights, without biases."""
        return torch.stack([w.square().sum() for w in self.parameters() if w.ndim > 1]).sum() / 2


class DCCA(CanonicalEstimator):
    r"""Deep canonical correlation analysis (DCCA).

    A network per view, f and g, maximises the sum of the canonical correlations of the outputs,

    .. math:: \|T\|_{tr}, \quad
              T = (S_{11} + r_1 I)^{-1/2} S_{12} (S_{22} + r_2 I)^{-1/2}

    with the covariances S of the outputs f(x) and g(z) in a batch. With more than two views it is
    the sum over all pairs of views. Then linear CCA is fitted to the outputs of all training
    pairs, and items are compared by the cosine in its space: the networks alone do not align the
    axes of the views, so that retrieval by their outputs is at chance.

    The loss is computed in float64, see `crossfit.neural.cca_loss`. Its gradient for the outputs
    :math:`H_1` (rows are samples, centred) is, with :math:`T = U D V'`,

    .. math:: (2 H_1 N_{11} + H_2 N_{12}') / (m - 1), \quad
              N_{12} = S_{11}^{-1/2} U V' S_{22}^{-1/2}, \quad
              N_{11} = -\tfrac12 S_{11}^{-1/2} U D U' S_{11}^{-1/2}.

    Parameters
    ----------
    hidden : int, sequence of int or mapping of str to these, default=256
        Widths of the hidden layers, or of those of each view by role or name. An empty sequence
        makes the networks linear.
    width : int, default=50
        Number d of outputs of each network, at most as many canonical components.
    activation : {"sigmoid", "tanh", "relu", "linear", "cube-root"}, default="sigmoid"
        Function after hidden layers; ``"cube-root"`` is that of the paper.
    batch_norm : bool, default=True
        Normalise the outputs of hidden layers over the batch, without weights. The paper does not.
    dropout : float, default=0.2
        Probability of dropping a feature, and a hidden unit. The paper has none. With a few
        thousand pairs it is what keeps the networks from memorising them; L-BFGS needs 0.
    standardize : bool, default=True
        Standardise every feature by its training mean and standard deviation first.
    audio_branch : {"mlp", "cnn"}, default="mlp"
        How matrices (n, r, c) enter, such as 20 cepstral coefficients of 161 frames: flattened, or
        through three blocks of convolutions with 16, 32 and 64 channels. Views of vectors are not
        affected.
    reg : float or mapping of str to float, default=0.001
        Ridge r of the loss, or of each view by role or name.
    weight_decay : float, default=0.00001
        Weight of half the sum of the squared weights, a term of the loss, for any optimizer.
    n_components : int, optional
        Number of canonical components of the final CCA, by default all.
    cca_reg : float or mapping of str to float, default=0.1
        Ridge of the final CCA, relative to the mean variance of the outputs of a view.
    cca_power : float, default=1.0
        Power of the correlations that scales the components, see `crossfit.subspace.CCA`.
    max_epochs : int, default=30
        Number of passes over the training pairs.
    lr : float, default=0.001
        Learning rate. Use 1 with ``optimizer="LBFGS"``.
    batch_size : int, default=800
        Number of pairs per batch, which must be far larger than `width`: with no more rows than
        outputs, every batch is correlated perfectly. A last batch that is smaller is left out.
        With ``optimizer="LBFGS"`` it must be at least the number of training pairs.
    **kwargs
        See `crossfit.neural.NeuralEstimator`. ``optimizer="LBFGS"`` is the fit of the paper: an
        epoch is up to 20 iterations (``optimizer__max_iter``) with a line search by the strong
        Wolfe conditions.

    Attributes
    ----------
    cca_ : crossfit.subspace.CCA
        Fitted to the outputs; ``cca_.correlations_`` are the canonical correlations.
    shapes_ : dict of str to list of int
        Rows and columns of the items of each view of matrices.
    net_ : skorch.NeuralNet
        Its history contains ``train_correlation``, minus the sum of the correlations, and
        ``train_decay``. ``valid_loss`` is the first alone.

    Raises
    ------
    ValueError
        In `fit`, if a batch has no more different items of a view than outputs; if the optimizer
        is L-BFGS and a batch is not the whole training set.

    Warns
    -----
    UserWarning
        In `fit`, if a batch has fewer than five times as many different items of a view as
        outputs.

    See Also
    --------
    crossfit.subspace.CCA : The linear method.
    DCCAE : Adds the reconstruction of the views.
    DGCCA : More than two views with a shared representation.

    Notes
    -----
    A row is a pair. An image with several captions counts once per caption in the covariances, as
    in CCA, and no item is a negative of another.

    The default of hidden layers, sigmoid with batch normalisation, and the batch of 800 are those
    of the common implementation in PyTorch; the paper fits all pairs at once by L-BFGS. Its
    pretraining by denoising autoencoders is not included.

    References
    ----------
    G. Andrew, R. Arora, J. Bilmes, K. Livescu, Deep canonical correlation analysis, ICML 2013.
    Images and captions: F. Yan, K. Mikolajczyk, Deep correlation for matching images and text,
    CVPR 2015. Music: Y. Yu, S. Tang, F. Raposo, L. Chen, Deep cross-modal correlation learning for
    audio and lyrics in music retrieval, arXiv 1711.08976, 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit_correlation.dcca import DCCA
    >>> from crossfit_correlation.testing import make_inputs
    >>> views, _ = make_inputs(np.random.default_rng(0), 200)
    >>> dcca = DCCA(hidden=32, width=6, max_epochs=20, random_state=0).fit(views)
    >>> dcca.transform(views)["text"].shape
    (200, 6)
    """

    card: ClassVar[MethodCard | None] = cards.DCCA

    _drop_last: ClassVar[bool] = True
    _only_shown: ClassVar[tuple[str, ...]] = ("decay",)

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **CanonicalEstimator._parameter_constraints,
        "hidden": [Interval(Integral, 1, None, closed="left"), list, tuple, dict],
        "width": [Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "batch_norm": ["boolean"],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "standardize": ["boolean"],
        "audio_branch": [StrOptions({"mlp", "cnn"})],
        "reg": [Interval(Real, 0, None, closed="left"), dict],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "cca_reg": [Interval(Real, 0, None, closed="left"), dict],
        "cca_power": [Interval(Real, 0, None, closed="left")],
    }

    shapes_: dict[str, list[int]]

    def __init__(
        self,
        *,
        hidden: int | Sequence[int] | Mapping[str, Any] = 256,
        width: int = 50,
        activation: str = "sigmoid",
        batch_norm: bool = True,
        dropout: float = 0.2,
        standardize: bool = True,
        audio_branch: str = "mlp",
        reg: float | Mapping[str, float] = 1e-3,
        weight_decay: float = 1e-5,
        n_components: int | None = None,
        cca_reg: float | Mapping[str, float] = 0.1,
        cca_power: float = 1.0,
        max_epochs: int = 30,
        lr: float = 1e-3,
        batch_size: int = 800,
        **kwargs: Any,
    ) -> None:
        super().__init__(max_epochs=max_epochs, lr=lr, batch_size=batch_size, **kwargs)
        self.hidden = hidden
        self.width = width
        self.activation = activation
        self.batch_norm = batch_norm
        self.dropout = dropout
        self.standardize = standardize
        self.audio_branch = audio_branch
        self.reg = reg
        self.weight_decay = weight_decay
        self.n_components = n_components
        self.cca_reg = cca_reg
        self.cca_power = cca_power

    # ---- the parts of the method ---------------------------------------------------------------

    def _build_module(
        self, n_inputs: dict[str, Any], n_classes: int | None, **module: Any
    ) -> nn.Module:
        return Branches({role: self._branch(n, role, **module) for role, n in n_inputs.items()})

    def _branch(self, n_inputs: int, role: str, **module: Any) -> Branch:
        settings = {
            "shape": self.shapes_.get(role) if self.audio_branch == "cnn" else None,
            "activation": self.activation,
            "batch_norm": self.batch_norm,
            "dropout": self.dropout,
            "standardize": self.standardize,
        }
        return Branch(n_inputs, self._hidden(role), self.width, role, **{**settings, **module})

    def _outputs(self, module: nn.Module, batch: Batch) -> dict[str, Any]:
        assert isinstance(module, Branches)
        outputs = []
        for role, items in batch.views.items():
            branch = module.branch(role)
            outputs.append(branch(branch.scaling(items.values)))
        return {"outputs": outputs, "decay": module.decay()}

    def _loss(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        return {
            "correlation": cca_loss(*outputs["outputs"], reg=self._ridges(batch)),
            "decay": self.weight_decay * outputs["decay"],
        }

    def _ridges(self, batch: Batch) -> list[float]:
        return [self._of_view("reg", role) for role in batch.views]

    def _linear_cca(self) -> CCA:
        reg = {role: self._of_view("cca_reg", role) for role in self.views_in_}
        return CCA(self.n_components, reg=reg, power=self.cca_power)

    def _encode_batch(self, module: nn.Module, items: Any, view: str) -> Tensor:
        assert isinstance(module, Branches)
        branch = module.branch(view)
        return in_float64(branch.layers, branch.scaling(items.values.double()))

    def _optimizer_parameters(self) -> dict[str, Any]:
        search = {"line_search_fn": "strong_wolfe"} if self._full_batch() else {}
        return {**search, **super()._optimizer_parameters()}

    # ---- checks --------------------------------------------------------------------------------

    def _validate_params(self) -> None:
        super()._validate_params()
        for name in ("reg", "cca_reg"):
            value = getattr(self, name)
            if isinstance(value, Mapping) and not all(
                isinstance(r, Real) and not isinstance(r, bool) and 0 <= float(r) < math.inf
                for r in value.values()
            ):
                raise ValueError(
                    f"{self._name()}: {name} must be a number of at least 0, or one for each view, "
                    f"got {value!r}"
                )
        given = self.hidden.values() if isinstance(self.hidden, Mapping) else [self.hidden]
        for sizes in given:
            listed = [sizes] if isinstance(sizes, Integral) else sizes
            if not isinstance(listed, (list, tuple)) or not all(
                isinstance(n, Integral) and not isinstance(n, bool) and int(n) >= 1 for n in listed
            ):
                raise ValueError(
                    f"{self._name()}: hidden must be the widths of the hidden layers, integers of "
                    f"at least 1, or these for each view, got {self.hidden!r}"
                )

    def _hidden(self, role: str) -> list[int]:
        sizes = self._of_view("hidden", role)
        return [int(sizes)] if isinstance(sizes, Integral) else [int(n) for n in sizes]

    def _full_batch(self) -> bool:
        return issubclass(optimizer_class(self.optimizer), torch.optim.LBFGS)

    def _split(self, views: Views, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        rows, held_out = super()._split(views, seed)
        size = self._prefixed("iterator_train").get("batch_size", self.batch_size)
        if self._full_batch() and self.dropout:
            # The line search compares values of the same function.
            raise ValueError(
                f"{self._name()}: L-BFGS needs a loss that is not random, got "
                f"dropout={self.dropout}; set it to 0"
            )
        if self._full_batch() and size < len(rows):
            raise ValueError(
                f"{self._name()}: L-BFGS needs all {len(rows)} training pairs in one batch, got "
                f"batch_size={size}; raise it"
            )
        for role in views.names:
            n = min(size, len(np.unique(views.distinct(role)[1][rows])))
            if n < _ROWS_PER_OUTPUT * self.width:
                sizes = (
                    f"{self._name()}: a batch has at most {n} different items of view "
                    f"{self._view_name(role)!r} for {self.width} outputs"
                )
                if n <= self.width:
                    raise ValueError(
                        f"{sizes}, so that every batch is correlated perfectly; raise batch_size "
                        "or lower width"
                    )
                warnings.warn(
                    f"{sizes}, so that much of the correlation is that of noise; raise batch_size "
                    "or lower width",
                    stacklevel=2,
                )
        return rows, held_out

    # ---- features ------------------------------------------------------------------------------

    def _fit_features(self, views: Views, y: NDArray[Any] | None) -> None:
        for role in views.names:  # raises for missing entries before anything is computed
            self._hidden(role), self._of_view("reg", role), self._of_view("cca_reg", role)
        shapes = {role: getattr(views.distinct(role)[0], "shape", ()) for role in views.names}
        self.shapes_ = {
            role: [int(n) for n in shape[1:]] for role, shape in shapes.items() if len(shape) == 3
        }
        if self.audio_branch == "cnn" and not self.shapes_:
            raise ValueError(
                f"{self._name()}: audio_branch='cnn' needs a view of matrices, (n, r, c), got "
                + ", ".join(
                    f"{self._view_name(role)!r} of shape {tuple(shape)}"
                    for role, shape in shapes.items()
                )
            )

    def _features(self, values: Any, view: str) -> Any:
        """Return vectors (n, d) from vectors or matrices of one size."""
        where = f"{self._name()}: view {self._view_name(view)!r}"
        return flat_rows(values, where, getattr(self, "n_inputs_", {}).get(view))
