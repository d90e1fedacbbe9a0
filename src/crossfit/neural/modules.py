"""Small torch modules shared by neural methods."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from numbers import Integral
from typing import Any, Self

import torch
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from crossfit._arguments import integer, one_of, real, validated
from crossfit.neural.batching import Items

__all__ = [
    "AttentionPool",
    "BilinearAttention",
    "CharCNN",
    "MLPBranch",
    "Standardize",
    "check_widths",
    "grad_reverse",
    "grad_reverse_schedule",
    "in_float64",
    "init_weights",
    "masked_softmax",
]

Activation = Callable[[Tensor], Tensor]


class MLPBranch(nn.Module):
    """A stack of fully connected layers, as used for each view in most methods.

    Parameters
    ----------
    sizes : sequence of int
        Input width, then the width of every layer.
    activation : type
        Module after every hidden layer, for instance ``torch.nn.Tanh``; `torch.nn.ReLU` by default.
    last_activation : type, optional
        Module after the last layer.
    batch_norm : bool, default=False
        Normalise over the batch before every hidden activation.
    dropout : float, default=0.0
        Probability of dropping a hidden unit, after its activation.
    normalize : bool, default=False
        Scale every output row to unit length.

    Raises
    ------
    ValueError
        If there are fewer than two sizes, or a parameter is invalid.
    """

    @validated(
        activation=[type],
        last_activation=[type, None],
        batch_norm=["boolean"],
        dropout=[real(0, 1, "left")],
        normalize=["boolean"],
    )
    def __init__(
        self,
        sizes: Sequence[int],
        *,
        activation: type[nn.Module] = nn.ReLU,
        last_activation: type[nn.Module] | None = None,
        batch_norm: bool = False,
        dropout: float = 0.0,
        normalize: bool = False,
    ) -> None:
        check_widths(sizes, 2, "sizes must be the input width and one or more layers")
        super().__init__()
        layers: list[nn.Module] = []
        *hidden, last = pairwise(sizes)
        for before, after in hidden:
            layers.append(nn.Linear(before, after))
            if batch_norm:
                layers.append(nn.BatchNorm1d(after))
            layers.append(activation())
            if dropout:
                layers.append(nn.Dropout(dropout))
        layers.append(nn.Linear(*last))
        if last_activation is not None:
            layers.append(last_activation())
        self.layers = nn.Sequential(*layers)
        self.normalize = normalize

    def forward(self, x: Tensor) -> Tensor:
        """Compute the output of the last layer.

        Parameters
        ----------
        x : Tensor of shape (b, sizes[0])
            Input vectors.

        Returns
        -------
        Tensor of shape (b, sizes[-1])
        """
        x = self.layers(x)
        return F.normalize(x, dim=-1) if self.normalize else x


def check_widths(widths: Any, least: int, what: str) -> None:
    """Raise a ValueError unless widths are a sequence of positive integers.

    Parameters
    ----------
    widths : object
        The widths of the layers.
    least : int
        Smallest number of widths.
    what : str
        Beginning of the message.

    Raises
    ------
    ValueError
        If they are not.
    """
    if (
        not isinstance(widths, Sequence)
        or len(widths) < least
        or not all(
            isinstance(n, Integral) and not isinstance(n, bool) and int(n) > 0 for n in widths
        )
    ):
        raise ValueError(f"{what}, integers of at least 1, got {widths!r}")


def masked_softmax(logits: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the softmax over the last axis, restricted to the entries that a mask selects.

    Parameters
    ----------
    logits : Tensor of shape (..., R)
        Values before the softmax.
    mask : bool Tensor that broadcasts to the same shape, optional
        True at real elements.

    Returns
    -------
    Tensor of shape (..., R)
        Sums to 1, with zeros where the mask is False. A fully masked row is all zeros, with zero
        gradient.

    Raises
    ------
    ValueError
        If the mask is not boolean.
    """
    if mask is None:
        return logits.softmax(dim=-1)
    if mask.dtype != torch.bool:
        raise ValueError(f"mask must be a bool tensor, got {mask.dtype}")
    # The lowest finite number instead of -inf, which would turn a fully masked row into NaN.
    lowest = torch.finfo(logits.dtype).min
    return logits.masked_fill(~mask, lowest).softmax(dim=-1) * mask


class AttentionPool(nn.Module):
    r"""Weighted mean of a set of vectors, with weights computed from the vectors themselves.

    ``kind="vector"``: logits :math:`\mathrm{act}(w'x_i)`, with one weight vector, as in ACLN.
    ``kind="additive"``: logits :math:`w'\,\mathrm{act}(W x_i)`, as in CRAN. Two modalities share
    their attention if they use the same module.

    Parameters
    ----------
    width : int
        Width of the vectors.
    kind : {"vector", "additive"}, default="vector"
        Form of the logits; see above.
    hidden : int, optional
        Number of rows of W; `width` by default.
    activation : callable or None, default=torch.tanh
        The function act; None for the identity.

    Raises
    ------
    ValueError
        If the kind is unknown, or another parameter is invalid.
    """

    @validated(
        width=[integer(1)], kind=[one_of("vector", "additive")], hidden=[integer(1), None],
        activation=[callable, None],
    )  # fmt: skip
    def __init__(
        self,
        width: int,
        kind: str = "vector",
        *,
        hidden: int | None = None,
        activation: Activation | None = torch.tanh,
    ) -> None:
        super().__init__()
        self.inner = nn.Linear(width, hidden or width, bias=False) if kind == "additive" else None
        inside = width if self.inner is None else self.inner.out_features
        self.weight = nn.Linear(inside, 1, bias=False)
        self.activation = activation

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Pool each set of vectors into one vector.

        Parameters
        ----------
        x : Tensor of shape (b, R, width)
            Sets of R vectors.
        mask : bool Tensor of shape (b, R), optional
            True at real elements; all are by default.

        Returns
        -------
        pooled : Tensor of shape (b, width)
            Weighted mean of each set.
        weights : Tensor of shape (b, R)
            Attention weights; they sum to 1 over R.
        """
        act = self.activation or nn.Identity()
        logits = act(self.weight(x)) if self.inner is None else self.weight(act(self.inner(x)))
        weights = masked_softmax(logits.squeeze(-1), mask)
        return torch.einsum("br,brd->bd", weights, x), weights


class BilinearAttention(nn.Module):
    r"""Weighted means of a set of vectors, one per query, as in BSSAN.

    Logits :math:`\mathrm{act}(q_k' W x_i + c)` with a scalar c.

    Parameters
    ----------
    query_width, width : int
        Widths of the queries and of the vectors.
    activation : callable or None, default=torch.tanh
        The function act; None for the identity.
    """

    @validated(query_width=[integer(1)], width=[integer(1)], activation=[callable, None])
    def __init__(
        self, query_width: int, width: int, *, activation: Activation | None = torch.tanh
    ) -> None:
        super().__init__()
        self.map = nn.Linear(query_width, width, bias=False)
        self.bias = nn.Parameter(torch.zeros(()))
        self.activation = activation

    def forward(
        self, queries: Tensor, x: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Pool each set of vectors once per query.

        Parameters
        ----------
        queries : Tensor of shape (b, K, query_width)
            K queries for each set.
        x : Tensor of shape (b, R, width)
            Sets of R vectors.
        mask : bool Tensor of shape (b, R), optional
            True at real elements of `x`.

        Returns
        -------
        pooled : Tensor of shape (b, K, width)
            One weighted mean per query.
        weights : Tensor of shape (b, K, R)
            Attention weights; they sum to 1 over R.
        """
        logits = torch.einsum("bkd,brd->bkr", self.map(queries), x) + self.bias
        if self.activation is not None:
            logits = self.activation(logits)
        weights = masked_softmax(logits, None if mask is None else mask[:, None])
        return torch.einsum("bkr,brd->bkd", weights, x), weights


class _GradReverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradients[0], None


@validated(x=[Tensor], strength=[real()])
def grad_reverse(x: Tensor, strength: float = 1.0) -> Tensor:
    """Return x unchanged, with its gradient multiplied by ``-strength`` in the backward pass.

    Parameters
    ----------
    x : Tensor
        Input of the adversary.
    strength : float, default=1.0
        Factor of the reversed gradient.

    Returns
    -------
    Tensor of the shape of x

    See Also
    --------
    grad_reverse_schedule : Strength that grows during training.

    References
    ----------
    Y. Ganin, V. Lempitsky, Unsupervised domain adaptation by backpropagation, ICML 2015.
    """
    return _GradReverse.apply(x, strength)


@validated(progress=[real(0, 1, "both")], steepness=[real(0, None, "left")])
def grad_reverse_schedule(progress: float, steepness: float = 10.0) -> float:
    """Return the strength ``2 / (1 + exp(-steepness p)) - 1`` for the share p of training done.

    Parameters
    ----------
    progress : float
        Share p of the epochs done, in [0, 1]; see `crossfit.neural.Batch.progress`.
    steepness : float, default=10.0
        Steepness of the schedule; 10 in Ganin and Lempitsky.

    Returns
    -------
    float
        From 0 at the beginning to almost 1 at the end.

    See Also
    --------
    grad_reverse : The gradient reversal itself.

    Examples
    --------
    >>> grad_reverse_schedule(0.0), round(grad_reverse_schedule(0.5), 3)
    (0.0, 0.987)
    """
    return 2.0 / (1.0 + math.exp(-steepness * progress)) - 1.0


@validated(module=[nn.Module], x=[Tensor])
def in_float64(module: nn.Module, x: Tensor) -> Tensor:
    """Return the output of a network computed in float64.

    Equal items then have equal outputs at any place in a batch, up to far less than a float32:
    titles and lyrics repeat, and scores that differ in the last bit would not be ties.

    Parameters
    ----------
    module : torch.nn.Module
        The network, which is not changed.
    x : Tensor
        Its input, of any floating type.

    Returns
    -------
    float64 Tensor
    """
    named = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    if torch.jit.is_tracing():  # type: ignore[attr-defined]  # for ONNX; functional_call rejects it
        found: Tensor = copy.deepcopy(module).double()(x.double())
        return found
    wide = {name: w.double() if w.is_floating_point() else w for name, w in named.items()}
    return functional_call(module, wide, (x.double(),))


@validated(module=[nn.Module], nonlinearity=[one_of("relu", "tanh", "sigmoid", "linear")])
def init_weights(module: nn.Module, nonlinearity: str = "relu") -> nn.Module:
    """Draw the first weights of a network, so that its outputs differ as much as its inputs.

    With torch's own first weights (variance 1/3 divided by the number of inputs), activations
    shrink from layer to layer with ReLU, whereas biases do not: after several layers all items
    have almost the same output, which one negative per pair cannot pull apart.

    - Linear layers and convolutions: normal, with the variance of He et al. for the layer's number
      of inputs and the nonlinearity after it; zero biases.
    - LSTM, GRU and RNN: Xavier's uniform weights for the inputs, an orthogonal matrix per gate for
      the recurrence, zero biases; 1 for the forget gates of an LSTM, so that it remembers at first.
    - Everything else, such as embeddings and normalisations, is unchanged.

    Parameters
    ----------
    module : torch.nn.Module
        The network, or a part of it; changed in place. Call it again on parts that another
        nonlinearity follows, for instance on the last layers.
    nonlinearity : {"relu", "tanh", "sigmoid", "linear"}, default="relu"
        The function after the layers. The variances of weights are 2, 25/9, 1 and 1 divided by the
        number of inputs.

    Returns
    -------
    torch.nn.Module
        The given module.

    See Also
    --------
    Standardize : The same for the inputs of a network.

    References
    ----------
    K. He, X. Zhang, S. Ren, J. Sun, Delving deep into rectifiers, ICCV 2015. Xavier: X. Glorot,
    Y. Bengio, AISTATS 2010. Orthogonal: A. Saxe, J. McClelland, S. Ganguli, ICLR 2014. Forget
    gates: R. Jozefowicz, W. Zaremba, I. Sutskever, ICML 2015.

    Examples
    --------
    >>> from torch import nn
    >>> from crossfit.neural import init_weights
    >>> network = nn.Sequential(nn.Linear(8, 400), nn.ReLU(), nn.Linear(400, 4))
    >>> init_weights(network)[0].bias.abs().sum().item()
    0.0
    >>> last = init_weights(network[2], "linear")
    """
    convolutions = (
        nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d
    )  # fmt: skip
    for part in module.modules():
        if isinstance(part, (nn.Linear, *convolutions)):
            nn.init.kaiming_normal_(part.weight, nonlinearity=nonlinearity)  # type: ignore[arg-type]
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.RNNBase):
            for name, weight in part.named_parameters():
                if name.startswith("weight_hh"):
                    for gate in weight.data.split(part.hidden_size):
                        nn.init.orthogonal_(gate)
                elif name.startswith("weight"):
                    for gate in weight.data.split(part.hidden_size):
                        nn.init.xavier_uniform_(gate)
                else:
                    nn.init.zeros_(weight)
                    # Gates are in the order input, forget, cell, output; torch adds two biases.
                    if isinstance(part, nn.LSTM) and name.startswith("bias_ih"):
                        nn.init.ones_(weight.data[part.hidden_size : 2 * part.hidden_size])
    return module


class Standardize(nn.Module):
    """Subtract the training mean of every feature and divide by its standard deviation.

    As a part of a network it is fitted before the first batch, on the distinct training items of
    `view`; the real elements of ragged items count, their padding does not. Mean and scale are
    buffers, which are kept in checkpoints and bundles.

    Parameters
    ----------
    width : int
        Number of features.
    view : str, optional
        Role of the view on whose training items the base class fits the module. By default it is
        not fitted, and returns its input.
    channel : str, optional
        Channel of the view.

    Attributes
    ----------
    mean, scale : float32 Tensor of shape (width,)
        Means and standard deviations; the scale of a constant feature is 1.

    See Also
    --------
    init_weights : First weights for inputs of variance 1.

    Examples
    --------
    ::

        def _build_module(self, n_inputs, n_classes):
            return nn.ModuleDict({
                role: nn.Sequential(Standardize(n, role), nn.Linear(n, 64))
                for role, n in n_inputs.items()
            })
    """

    mean: Tensor
    scale: Tensor

    @validated(width=[integer(1)], view=[str, None], channel=[str, None])
    def __init__(self, width: int, view: str | None = None, channel: str | None = None) -> None:
        super().__init__()
        self.view, self.channel = view, channel
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))

    def fit(self, blocks: Iterable[Items]) -> Self:
        """Compute mean and scale from blocks of items.

        Parameters
        ----------
        blocks : iterable of Items
            Values of shape (b, ..., width), with masks of the real elements if there is padding.

        Returns
        -------
        Standardize
            The module itself.

        Raises
        ------
        ValueError
            If there are no values, or their width differs.
        """
        scaler = StandardScaler()
        for values, mask in blocks:
            rows = values if mask is None else values[mask]
            if rows.shape[-1] != len(self.mean):
                raise ValueError(
                    f"Standardize: has {len(self.mean)} features, got items of shape "
                    f"{tuple(values.shape)}; set width to their last axis"
                )
            if rows.numel():
                scaler.partial_fit(rows.reshape(-1, len(self.mean)).cpu().numpy())
        if not hasattr(scaler, "mean_"):
            raise ValueError("Standardize: there are no items to fit; pass at least one")
        self.mean.copy_(torch.from_numpy(scaler.mean_))
        self.scale.copy_(torch.from_numpy(scaler.scale_))
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Return the standardised values.

        Parameters
        ----------
        x : Tensor of shape (..., width)
            Vectors; padding is not zero afterwards.

        Returns
        -------
        Tensor of the shape of x
        """
        return (x - self.mean) / self.scale


class _Convolution(nn.Conv1d):
    """Convolution whose input and output are views of arrays with the channels last.

    A window of consecutive steps is then a row of a matrix product, and a convolution of one-hot
    ids is a sum of looked-up columns: on a CPU several times faster than the general convolution,
    for the few channels and steps of a text.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map features (b, channels, length), or ids (b, length), 0 for none, to (b, out, m)."""
        width = self.kernel_size[0]
        steps = x.shape[-1] - width + 1
        if not x.is_floating_point():
            tables = F.pad(self.weight.permute(2, 1, 0), (0, 0, 1, 0))  # of id 0: zeros
            ids = x.long()
            parts = [F.embedding(ids[:, o : o + steps], tables[o]) for o in range(width)]
            return sum(parts, self.get_parameter("bias")).transpose(1, 2)
        x = x.transpose(1, 2)
        windows = torch.cat([x[:, o : o + steps] for o in range(width)], dim=2)
        weight = self.weight.permute(0, 2, 1).flatten(1)
        return F.linear(windows, weight, self.bias).transpose(1, 2)


class CharCNN(nn.Module):
    """Character-level convolutions of CRAN: 201 characters are mapped to 18 vectors.

    Convolutions of width 4 with ReLU, each but the last followed by max pooling over three steps.

    Parameters
    ----------
    alphabet : int, default=70
        Number of characters, or width of the vectors of words.
    channels : sequence of int
        Output channels of each convolution; (384, 512, 2048) by default.

    References
    ----------
    X. Zhang, J. Zhao, Y. LeCun, Character-level convolutional networks for text classification,
    NIPS 2015; sizes as in S. Reed, Z. Akata, H. Lee, B. Schiele, Learning deep representations of
    fine-grained visual descriptions, CVPR 2016.
    """

    @validated(alphabet=[integer(1)])
    def __init__(self, alphabet: int = 70, channels: Sequence[int] = (384, 512, 2048)) -> None:
        check_widths(channels, 1, "channels must be those of every convolution")
        super().__init__()
        sizes = (alphabet, *channels)
        self.convolutions = nn.ModuleList(
            _Convolution(before, after, kernel_size=4) for before, after in pairwise(sizes)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Compute vectors of segments of the text from its characters.

        Parameters
        ----------
        x : Tensor of shape (b, length, alphabet), or int Tensor of shape (b, length)
            One-hot characters, with rows of zeros for padding and characters outside the alphabet;
            or their ids from 1, and 0 for those, which gives the same result faster.

        Returns
        -------
        Tensor of shape (b, m, channels[-1])
            A length of 201 gives m = 18.
        """
        x = x.transpose(1, 2) if x.is_floating_point() else x
        last = len(self.convolutions) - 1
        for i, convolution in enumerate(self.convolutions):
            x = convolution(x)
            if i < last:
                # In two dimensions, where torch has a fast kernel for channels that come last.
                x = F.max_pool2d(x.unsqueeze(2), (1, 3)).squeeze(2)
            x = F.relu(x)
        return x.transpose(1, 2)
