"""Restricted Boltzmann machines, trained layer by layer by contrastive divergence."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from numbers import Real
from typing import TYPE_CHECKING, Any

import torch
from skorch.callbacks import Callback
from torch import Tensor, nn
from torch.nn import functional as F

from crossfit._arguments import integer, one_of, real, validated
from crossfit.neural.modules import check_widths

if TYPE_CHECKING:
    from crossfit.neural.batching import Batch, PairData
    from crossfit.neural.estimator import NeuralEstimator
    from crossfit.views import Views

__all__ = [
    "RBM",
    "RBMSchedule",
    "RBMStack",
    "layer_rates",
    "per_layer",
    "phase_of",
    "pretrain_rbms",
    "rbm_groups",
]

# Added to the number of words, so that an empty document can be divided by it.
_EPS = 1e-10
# Words that are drawn per document; longer ones are scaled up.
_MOST_WORDS = 1000
# Share of the running mean of the hidden units that is kept per batch.
_DAMPING = 0.9


class RBM(nn.Module):
    r"""Restricted Boltzmann machine with Bernoulli hidden units.

    Energies, with visible units v, hidden units h, weights W of shape (n_hidden, n_visible),
    visible biases b and hidden biases c:

    - ``"gaussian"``: :math:`E = \|v - b\|^2 / 2 - c'h - h'Wv`, with unit variance; standardise the
      features first;
    - ``"bernoulli"``: :math:`E = -b'v - c'h - h'Wv`, for numbers from 0 to 1;
    - ``"replicated-softmax"``: :math:`E = -b'v - N c'h - h'Wv`, for the counts v of a document of N
      words, each of which is drawn from the same softmax.

    Parameters
    ----------
    n_visible, n_hidden : int
        Numbers of units.
    visible : {"bernoulli", "gaussian", "replicated-softmax"}, default="bernoulli"
        Kind of the visible units.
    length : float, optional
        Scale the counts of every document to this number of words first; only for
        ``"replicated-softmax"``. A document without words then has as many unknown ones.
    sample_visible : bool, default=False
        Draw the visible units in Gibbs sampling. By default their means are used, which is faster
        and learns with less noise.
    sparsity : float, optional
        Target of the mean probability of a hidden unit; no target by default.
    sparsity_cost : float, default=0.01
        Weight of the sparsity.
    l2 : float, default=0.0
        Weight decay, added to the gradient of the weights.
    n_chains : int, optional
        Number of chains of persistent contrastive divergence. By default, the chains of every batch
        start at its rows.
    weight_std : float, optional
        Standard deviation of the first weights; ``n_hidden ** -0.5`` by default, or .03 for
        ``"replicated-softmax"``, whose hidden units add up many words. Biases start at zero.

    Raises
    ------
    ValueError
        If a parameter is invalid.

    See Also
    --------
    RBMStack : Machines that are trained on top of each other.

    Notes
    -----
    The gradient of the sparsity is that of deepnet: the derivative of the Kullback-Leibler
    divergence between the target and a running mean q of the probability,
    :math:`(q - t) / (q (1 - q))`, is passed to the input of the hidden unit.

    For ``"replicated-softmax"``, the loss of a document is divided by its number of words, if this
    is more than one, so that learning rates do not depend on lengths.

    References
    ----------
    G. Hinton, Training products of experts by minimizing contrastive divergence, Neural Computation
    14, 2002. T. Tieleman, Training restricted Boltzmann machines using approximations to the
    likelihood gradient, ICML 2008. R. Salakhutdinov, G. Hinton, Replicated softmax: an undirected
    topic model, NIPS 2009. First weights and sparsity: N. Srivastava's deepnet.

    Examples
    --------
    >>> import torch
    >>> from crossfit.neural import RBM
    >>> rbm = RBM(6, 3, "gaussian")
    >>> rbm.hidden(torch.zeros(2, 6)).tolist()
    [[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]]
    """

    @validated(
        n_visible=[integer(1)], n_hidden=[integer(1)],
        visible=[one_of("bernoulli", "gaussian", "replicated-softmax")],
        length=[real(0), None], sample_visible=["boolean"], sparsity=[real(0, 1), None],
        sparsity_cost=[real(0, None, "left")], l2=[real(0, None, "left")],
        n_chains=[integer(1), None], weight_std=[real(0, None, "left"), None],
    )  # fmt: skip
    def __init__(
        self,
        n_visible: int,
        n_hidden: int,
        visible: str = "bernoulli",
        *,
        length: float | None = None,
        sample_visible: bool = False,
        sparsity: float | None = None,
        sparsity_cost: float = 0.01,
        l2: float = 0.0,
        n_chains: int | None = None,
        weight_std: float | None = None,
    ) -> None:
        super().__init__()
        counts = visible == "replicated-softmax"
        if length is not None and not counts:
            raise ValueError(
                f"RBM: length is for replicated-softmax units, got length={length!r} with "
                f"visible={visible!r}"
            )
        if weight_std is None:
            weight_std = 0.03 if counts else n_hidden**-0.5
        self.kind, self.length = visible, length
        self.sample_visible = sample_visible
        self.sparsity, self.sparsity_cost, self.l2 = sparsity, sparsity_cost, l2
        self.more_steps = 0  # set by `RBMSchedule`
        self.weight = nn.Parameter(torch.randn(n_hidden, n_visible) * weight_std)
        self.hidden_bias = nn.Parameter(torch.zeros(n_hidden))
        self.visible_bias = nn.Parameter(torch.zeros(n_visible))
        running = None if sparsity is None else torch.full((n_hidden,), sparsity)
        chains = None if n_chains is None else torch.zeros(n_chains, n_hidden)
        self.activity: Tensor | None
        self.chains: Tensor | None
        self.register_buffer("activity", running)
        self.register_buffer("chains", chains)

    def extra_repr(self) -> str:
        """Return the numbers and the kind of the units."""
        n_hidden, n_visible = self.weight.shape
        return f"{n_visible}, {n_hidden}, {self.kind!r}"

    # ---- the distribution ------------------------------------------------------------------------

    def scaled(self, v: Tensor) -> Tensor:
        """Return rows as the energies take them: counts are scaled to `length`.

        Parameters
        ----------
        v : Tensor of shape (n, n_visible)
            Values of the visible units.

        Returns
        -------
        Tensor of shape (n, n_visible)
        """
        if self.length is None:
            return v
        return v * (self.length / (v.sum(dim=1, keepdim=True) + _EPS))

    def words(self, v: Tensor) -> Tensor | float:
        """Return the number N of words of every row, (n, 1); 1 for other units.

        Parameters
        ----------
        v : Tensor of shape (n, n_visible)
            Rows that are already scaled.

        Returns
        -------
        Tensor of shape (n, 1), or float
        """
        if self.kind != "replicated-softmax":
            return 1.0
        return self.length if self.length is not None else v.sum(dim=1, keepdim=True) + _EPS

    def free_energy(self, v: Tensor) -> Tensor:
        r"""Return the free energy :math:`F(v) = -\ln \sum_h e^{-E(v, h)}` of every row.

        Parameters
        ----------
        v : Tensor of shape (n, n_visible)
            Values of the visible units. Of counts, this is the energy of the words in any order.

        Returns
        -------
        Tensor of shape (n,)
            float64.
        """
        v = self.scaled(v)
        return self._energy(v, self._input(v, self.words(v)))

    def hidden(self, v: Tensor) -> Tensor:
        """Return the probabilities of the hidden units, given the visible ones.

        Parameters
        ----------
        v : Tensor of shape (n, n_visible)
            Values of the visible units.

        Returns
        -------
        Tensor of shape (n, n_hidden)
        """
        v = self.scaled(v)
        return self._input(v, self.words(v)).sigmoid()

    def visible(self, h: Tensor, words: Tensor | float = 1.0) -> Tensor:
        """Return the means of the visible units, given the hidden ones.

        Parameters
        ----------
        h : Tensor of shape (n, n_hidden)
            States or probabilities of the hidden units.
        words : float or Tensor of shape (n, 1), default=1.0
            Numbers of words; only used by ``"replicated-softmax"``.

        Returns
        -------
        Tensor of shape (n, n_visible)
        """
        x = torch.addmm(self.visible_bias, h, self.weight)
        if self.kind == "gaussian":
            return x
        return x.sigmoid() if self.kind == "bernoulli" else words * x.softmax(dim=1)

    def reconstruct(self, v: Tensor) -> Tensor:
        """Return the means of the visible units, given the probabilities of the hidden ones.

        Parameters
        ----------
        v : Tensor of shape (n, n_visible)
            Values of the visible units.

        Returns
        -------
        Tensor of shape (n, n_visible)
            Counts are scaled to `length`.
        """
        v = self.scaled(v)
        words = self.words(v)
        return self.visible(self._input(v, words).sigmoid(), words)

    def _input(self, v: Tensor, words: Tensor | float) -> Tensor:
        """Return N c + W v, the log-odds of the hidden units."""
        if isinstance(words, float) and words == 1.0:
            return F.linear(v, self.weight, self.hidden_bias)
        return F.linear(v, self.weight) + words * self.hidden_bias

    def _energy(self, v: Tensor, x: Tensor) -> Tensor:
        """Return the free energy of rows whose hidden units have the log-odds x."""
        if self.kind == "gaussian":
            alone = (v - self.visible_bias).square().sum(dim=1, dtype=torch.float64) / 2
        else:
            alone = -(v * self.visible_bias).sum(dim=1, dtype=torch.float64)
        return alone - F.softplus(x).sum(dim=1, dtype=torch.float64)

    # ---- sampling --------------------------------------------------------------------------------

    def sample(
        self, mean: Tensor, words: Tensor | float = 1.0, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw visible units with the given means.

        Parameters
        ----------
        mean : Tensor of shape (n, n_visible)
            As `visible` returns them.
        words : float or Tensor of shape (n, 1), default=1.0
            Numbers of words; only used by ``"replicated-softmax"``. Whole words are drawn, at most
            1,000 per row, and scaled to this number.
        generator : torch.Generator, optional
            Source of the random numbers; torch's own by default.

        Returns
        -------
        Tensor of shape (n, n_visible)
        """
        if self.kind == "gaussian":
            return mean + torch.randn(
                mean.shape, generator=generator, device=mean.device, dtype=mean.dtype
            )
        if self.kind == "bernoulli":
            return _draw(mean, generator)
        number = torch.as_tensor(words, dtype=mean.dtype, device=mean.device).expand(len(mean), 1)
        drawn = number.round().clamp(max=_MOST_WORDS)
        most = int(drawn.max())
        if most == 0:
            return torch.zeros_like(mean)
        at = torch.multinomial(mean.nan_to_num(1.0), most, replacement=True, generator=generator)
        real_words = torch.arange(most, device=mean.device) < drawn
        counts = torch.zeros_like(mean).scatter_add_(1, at, real_words.to(mean.dtype))
        return counts * (number / drawn.clamp(min=1))

    @torch.no_grad()
    def gibbs(self, v: Tensor, k: int = 1, generator: torch.Generator | None = None) -> Tensor:
        """Return the visible units after some steps of Gibbs sampling.

        Parameters
        ----------
        v : Tensor of shape (n, n_visible)
            Where the chains start.
        k : int, default=1
            Number of steps, each of which draws the hidden and then the visible units.
        generator : torch.Generator, optional
            Source of the random numbers; torch's own by default.

        Returns
        -------
        Tensor of shape (n, n_visible)
            The means in the last step, unless `sample_visible`.
        """
        v = self.scaled(v)
        words = self.words(v)
        for _ in range(k):
            h = _draw(self._input(v, words).sigmoid(), generator)
            v = self._visible_state(self.visible(h, words), words, generator)
        return v

    def _visible_state(
        self, mean: Tensor, words: Tensor | float, generator: torch.Generator | None
    ) -> Tensor:
        return self.sample(mean, words, generator) if self.sample_visible else mean

    # ---- learning --------------------------------------------------------------------------------

    def contrast(self, v: Tensor, k: int = 1, generator: torch.Generator | None = None) -> Tensor:
        r"""Return the loss whose gradient is that of contrastive divergence, CD-k.

        :math:`\overline{F(v)} - \overline{F(\tilde v)}`, where the chains that end at
        :math:`\tilde v` are constants, plus the penalties. With `n_chains`, the chains continue
        where they ended in the last call, in training mode.

        Parameters
        ----------
        v : Tensor of shape (n, n_visible)
            A batch.
        k : int, default=1
            Number of steps of the chains; `RBMSchedule` may add some.
        generator : torch.Generator, optional
            Source of the random numbers; torch's own by default.

        Returns
        -------
        Tensor of shape ()
            Its value is the squared error of the reconstruction per row.
        """
        # Not by autograd: the energies themselves, and passes over the weights for each term of the
        # loss, would take as long as the products.
        with torch.no_grad(), torch.autocast(v.device.type, enabled=False):
            v = self.scaled(v.float())
            words = self.words(v)
            x = self._input(v, words)
            p = x.sigmoid()
            h = _draw(p, generator)
            mean = self.visible(h, words)
            error = ((v - mean) / words).square().sum() / len(v)
            theirs = words
            if self.chains is not None:
                h = self.chains
                if isinstance(words, Tensor):  # chains have the lengths of the batch's rows
                    theirs = words[torch.arange(len(h), device=v.device) % len(v)]
                mean = self.visible(h, theirs)
            end = self._visible_state(mean, theirs, generator)
            for _ in range(k + self.more_steps - 1):
                h = _draw(self._input(end, theirs).sigmoid(), generator)
                end = self._visible_state(self.visible(h, theirs), theirs, generator)
            q = self._input(end, theirs).sigmoid()
            if self.training and self.chains is not None:
                self.chains.copy_(_draw(q, generator))
            # The derivative of F is minus the probability, by the input of a hidden unit, and
            # minus the value, by the bias of a visible one; with the variance of one, plus the
            # bias, which cancels.
            if self.activity is not None:
                p = p - self._slope(p)
            own, other = _share(words) * len(v), _share(theirs) * len(end)
            down, up = p / own, q / other
            gradients = {
                self.weight: torch.addmm(
                    self.weight, torch.cat([up, -down]).T, torch.cat([end, v]), beta=self.l2
                ),
                self.hidden_bias: (theirs * up).sum(dim=0) - (words * down).sum(dim=0),
                self.visible_bias: (end / other).sum(dim=0) - (v / own).sum(dim=0),
            }
        loss: Tensor = _WithGradients.apply(error, gradients.values(), *gradients)
        return loss

    def _slope(self, p: Tensor) -> Tensor:
        """Return the gradient of the sparsity by the inputs of the hidden units, per row."""
        assert self.activity is not None and self.sparsity is not None
        q = self.activity.lerp(p.mean(dim=0), 1 - _DAMPING)
        if self.training:
            self.activity.copy_(q)
        q = q.clamp(1e-6, 1 - 1e-6)
        return self.sparsity_cost * (q - self.sparsity) / (q * (1 - q))


class RBMStack(nn.Module):
    """Restricted Boltzmann machines on top of each other, each trained on the one below.

    The inputs of a machine are the probabilities of the hidden units of the one below it.

    Parameters
    ----------
    sizes : sequence of int
        Width of the input, then the number of hidden units of every machine.
    visible : {"gaussian", "bernoulli", "replicated-softmax"}, default="gaussian"
        Kind of the visible units of the first machine; the others have Bernoulli units.
    length : float, optional
        Number of words to which counts are scaled; only for ``"replicated-softmax"``.
    **settings
        Other parameters of `RBM`, for all machines: a value, or a list with one per machine.

    Raises
    ------
    ValueError
        If a parameter is invalid.

    See Also
    --------
    pretrain_rbms : Train stacks as a part of a method.

    References
    ----------
    G. Hinton, R. Salakhutdinov, Reducing the dimensionality of data with neural networks, Science
    313, 2006.

    Examples
    --------
    >>> import torch
    >>> from crossfit.neural import RBMStack
    >>> generator = torch.Generator().manual_seed(0)
    >>> x = torch.randn(200, 6, generator=generator)
    >>> stack = RBMStack([6, 4, 2], "gaussian")
    >>> errors = stack.fit(x, epochs=5, generator=generator)
    >>> [len(each) for each in errors]
    [5, 5]
    >>> stack.encode(x).shape
    torch.Size([200, 2])
    """

    def __init__(
        self,
        sizes: Sequence[int],
        visible: str = "gaussian",
        *,
        length: float | None = None,
        **settings: Any,
    ) -> None:
        check_widths(sizes, 2, "sizes must be the width of the input and one or more layers")
        super().__init__()
        n = len(sizes) - 1
        each = {name: per_layer(value, n, name) for name, value in settings.items()}
        self.rbms = nn.ModuleList(
            RBM(
                below,
                above,
                "bernoulli" if i else visible,
                length=None if i else length,
                **{name: values[i] for name, values in each.items()},
            )
            for i, (below, above) in enumerate(pairwise(sizes))
        )

    def __len__(self) -> int:
        return len(self.rbms)

    def encode(self, x: Tensor, n_layers: int | None = None) -> Tensor:
        """Return the probabilities of hidden units.

        Parameters
        ----------
        x : Tensor of shape (n, sizes[0])
            Inputs.
        n_layers : int, optional
            Number of machines to pass, from the first; all by default. With 0, the inputs.

        Returns
        -------
        Tensor of shape (n, sizes[n_layers])
        """
        for rbm in self._rbms()[:n_layers]:
            x = rbm.hidden(x)
        return x

    def decode(self, h: Tensor, words: Tensor | float = 1.0) -> Tensor:
        """Return the means of the inputs, given the last hidden units.

        Parameters
        ----------
        h : Tensor of shape (n, sizes[-1])
            Probabilities of the hidden units.
        words : float or Tensor of shape (n, 1), default=1.0
            Numbers of words; only used by ``"replicated-softmax"``.

        Returns
        -------
        Tensor of shape (n, sizes[0])
        """
        for rbm in reversed(self._rbms()):
            h = rbm.visible(h, words)
        return h

    def reconstruct(self, x: Tensor) -> Tensor:
        """Return the means of the inputs after a pass through all layers and back.

        Parameters
        ----------
        x : Tensor of shape (n, sizes[0])
            Inputs.

        Returns
        -------
        Tensor of shape (n, sizes[0])
            Counts are scaled to `length`.
        """
        first = self._rbms()[0]
        return self.decode(self.encode(x), first.words(first.scaled(x)))

    def contrast(
        self, x: Tensor, layer: int, k: int = 1, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return the step of contrastive divergence of one machine; see `RBM.contrast`.

        Parameters
        ----------
        x : Tensor of shape (n, sizes[0])
            Inputs of the stack.
        layer : int
            Number of the machine, from 0. The others do not get a gradient.
        k : int, default=1
            Number of steps of the chains; `RBMSchedule` may add some.
        generator : torch.Generator, optional
            Source of the random numbers; torch's own by default.

        Returns
        -------
        Tensor of shape ()
            Its value is the squared error of the reconstruction per row.
        """
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            x = self.encode(x.float(), layer)
        return self._rbms()[layer].contrast(x, k, generator)

    @validated(
        epochs=[integer(1)], batch_size=[integer(1)], k=[integer(1)],
        generator=[torch.Generator, None],
    )  # fmt: skip
    def fit(
        self,
        X: Tensor,
        *,
        epochs: int = 10,
        batch_size: int = 128,
        lr: float | Sequence[float] = 0.01,
        k: int = 1,
        schedule: RBMSchedule | None = None,
        generator: torch.Generator | None = None,
    ) -> list[list[float]]:
        """Train the machines one after the other, by stochastic gradient descent with momentum.

        Parameters
        ----------
        X : Tensor of shape (n, sizes[0])
            Inputs, on the device of the stack.
        epochs : int, default=10
            Number of passes over the rows, per machine.
        batch_size : int, default=128
            Number of rows per batch.
        lr : float or sequence of float, default=0.01
            Learning rate, or one per machine.
        k : int, default=1
            Number of steps of the chains.
        schedule : RBMSchedule, optional
            How learning rate, momentum and `k` change; momentum rises from .5 to .9 by default.
        generator : torch.Generator, optional
            Source of all random numbers, on the device of the stack; torch's own by default. With
            equal weights and states at the beginning, the weights at the end are equal bit for bit.

        Returns
        -------
        list of list of float
            Squared error of the reconstruction per row, by machine and epoch.

        Raises
        ------
        ValueError
            If `X` is not a matrix of the width of the stack, or `lr` is invalid.
        FloatingPointError
            If the weights are no longer finite.
        """
        width = self._rbms()[0].weight.shape[1]
        if not isinstance(X, Tensor) or X.ndim != 2 or X.shape[1] != width or not len(X):
            given = tuple(X.shape) if isinstance(X, Tensor) else type(X).__name__
            raise ValueError(f"RBMStack: X must be a tensor of shape (n, {width}), got {given}")
        rates = per_layer(lr, len(self), "lr")
        schedule = schedule or RBMSchedule()
        self.train()
        errors: list[list[float]] = []
        for layer, rbm in enumerate(self._rbms()):
            optimizer = torch.optim.SGD(rbm.parameters(), lr=rates[layer])
            (group,) = optimizer.param_groups
            step = 0
            errors.append([])
            for epoch in range(epochs):
                order = torch.randperm(len(X), generator=generator, device=X.device)
                total = torch.zeros((), device=X.device)
                for at in order.split(batch_size):
                    factor, group["momentum"], rbm.more_steps = schedule.at(step)
                    group["lr"] = rates[layer] * factor
                    found = self.contrast(X[at], layer, k, generator)
                    optimizer.zero_grad()
                    found.backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                    total += found.detach() * len(at)
                    step += 1
                errors[-1].append(total.item() / len(X))
                if not math.isfinite(sum(p.detach().sum().item() for p in rbm.parameters())):
                    raise FloatingPointError(
                        f"RBMStack: the weights of layer {layer + 1} became NaN or infinite in "
                        f"epoch {epoch + 1} with lr {rates[layer]:g}; lower lr, or standardise the "
                        "features"
                    )
        self.eval()
        return errors

    @torch.no_grad()
    def initialize(self, encoder: nn.Module, decoder: nn.Module | None = None) -> None:
        """Copy the weights into the linear layers of an autoencoder.

        The first layers of the encoder get the weights and hidden biases, in order; the last layers
        of the decoder get the transposed weights and the visible biases, in reverse order. If there
        are more linear layers than machines, the inner ones are unchanged.

        Parameters
        ----------
        encoder : Module
            Its linear layers have the widths of the stack.
        decoder : Module, optional
            Its linear layers have the widths of the stack in reverse order.

        Raises
        ------
        ValueError
            If the widths differ, or counts are not scaled to one `length`, on which the biases of a
            first layer with ``"replicated-softmax"`` depend.
        """
        first = self._rbms()[0]
        if first.kind == "replicated-softmax" and first.length is None:
            raise ValueError(
                "RBMStack: a layer for counts needs documents of one length; set length, and scale "
                "the inputs of the network to it"
            )
        up = _linear_layers(encoder)[: len(self)]
        down = [] if decoder is None else _linear_layers(decoder)[::-1][: len(self)]
        mine = [tuple(rbm.weight.shape) for rbm in self._rbms()]
        for what, layers, shapes in (
            ("encoder", up, mine),
            ("decoder", down, [] if decoder is None else [shape[::-1] for shape in mine]),
        ):
            found = [tuple(layer.weight.shape) for layer in layers]
            if found != shapes:
                raise ValueError(
                    f"RBMStack: the {what} must have linear layers with weights of shapes "
                    f"{shapes}, from the outside, got {found}"
                )
        for layer, rbm in zip(up, self._rbms()):
            layer.weight.copy_(rbm.weight)
            layer.bias.copy_(rbm.hidden_bias * (rbm.length or 1.0))
        for layer, rbm in zip(down, self._rbms()):
            layer.weight.copy_(rbm.weight.T)
            layer.bias.copy_(rbm.visible_bias)

    def _rbms(self) -> list[RBM]:
        return list(self.rbms)  # type: ignore[arg-type]


class RBMSchedule(Callback):
    r"""Schedule of learning rate, momentum and number of steps, as in deepnet.

    In update t of a machine, from 0, the learning rate is divided by :math:`1 + t / T`, the
    momentum is :math:`m_1 - (m_1 - m_0) e^{-t / M}`, and from :math:`t > K_0` on the chains have
    one step more, and another one after every :math:`K_1` updates.

    It is an argument of `RBMStack.fit`, and a callback of networks. There it sets the learning rate
    and, if the optimizer has one, the momentum of all weights, and counts the updates from 0 again
    when the next layer is trained. Other schedules of the learning rate cannot be combined with it.

    Parameters
    ----------
    half_life : float, optional
        T: number of updates after which the learning rate is half; it is constant by default.
    momentum : (float, float), default=(0.5, 0.9)
        First and last momentum, m0 and m1.
    momentum_steps : float, default=1000.0
        M: number of updates in which two thirds of the rise of the momentum are done.
    k_after : int, optional
        K0: number of updates after which the chains get longer; never by default.
    k_every : int, default=5000
        K1: number of updates between further steps of the chains.
    n_phases : int, default=1
        Number of layers that the network trains one after the other, in equal shares of its epochs.

    Raises
    ------
    ValueError
        If a parameter is invalid.

    References
    ----------
    N. Srivastava, deepnet, https://github.com/nitishsrivastava/deepnet.
    """

    @validated(
        half_life=[real(0), None], momentum=[tuple, list], momentum_steps=[real(0)],
        k_after=[integer(0), None], k_every=[integer(1)], n_phases=[integer(1)],
    )  # fmt: skip
    def __init__(
        self,
        half_life: float | None = None,
        momentum: Sequence[float] = (0.5, 0.9),
        momentum_steps: float = 1000.0,
        k_after: int | None = None,
        k_every: int = 5000,
        n_phases: int = 1,
    ) -> None:
        if len(momentum) != 2 or not all(isinstance(m, Real) and 0 <= m < 1 for m in momentum):
            raise ValueError(
                f"RBMSchedule: momentum must be two numbers in [0, 1), got {momentum!r}"
            )
        self.half_life = half_life
        self.momentum = momentum
        self.momentum_steps = momentum_steps
        self.k_after = k_after
        self.k_every = k_every
        self.n_phases = n_phases

    def at(self, step: int) -> tuple[float, float, int]:
        """Return the factor of the learning rate, the momentum and the number of further steps.

        Parameters
        ----------
        step : int
            Number of updates that are done.

        Returns
        -------
        tuple of (float, float, int)
        """
        factor = 1.0 if self.half_life is None else 1 / (1 + step / self.half_life)
        first, last = self.momentum
        momentum = last - (last - first) * math.exp(-step / self.momentum_steps)
        more = 0
        if self.k_after is not None and step > self.k_after:
            more = 1 + (step - self.k_after) // self.k_every
        return factor, momentum, more

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Remember the first learning rates.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net that is trained.
        X, y : object
            Unused.
        **kwargs
            Unused.
        """
        self._rates = [group["lr"] for group in net.optimizer_.param_groups]
        self._more = 0
        self.phase_, self.step_ = 0, 0

    def on_batch_begin(
        self, net: Any, batch: Any = None, training: bool = False, **kwargs: Any
    ) -> None:
        """Set learning rates, momentum and the lengths of chains for the next update.

        Parameters
        ----------
        net : skorch.NeuralNet
            The net that is trained.
        batch : Batch
            The next batch.
        training : bool, default=False
            Whether it is a batch of training; the others have no effect.
        **kwargs
            Unused.
        """
        if not training:
            return
        phase = phase_of(batch.progress, self.n_phases)
        if phase != self.phase_:
            self.phase_, self.step_ = phase, 0
        factor, momentum, more = self.at(self.step_)
        for group, rate in zip(net.optimizer_.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
            if "momentum" in group:
                group["momentum"] = momentum
        if more != self._more:
            self._more = more
            for part in net.module_.modules():
                if isinstance(part, RBM):
                    part.more_steps = more
        self.step_ += 1


@validated(progress=[real(0, 1, "left")], n=[integer(1)])
def phase_of(progress: float, n: int) -> int:
    """Return which of n layers is trained, if each has the same share of the epochs.

    Parameters
    ----------
    progress : float
        Share of the epochs done; see `crossfit.neural.Batch.progress`.
    n : int
        Number of layers.

    Returns
    -------
    int
        From 0 to n - 1.
    """
    # A share may be a rounding error below the boundary.
    return min(int(progress * n + 1e-9), n - 1)


def pretrain_rbms(
    owner: NeuralEstimator,
    stacks: Mapping[str, RBMStack],
    pairs: PairData | Views,
    inputs: Callable[[Batch, str], Tensor],
    *,
    epochs: int = 10,
    lr: float | Mapping[str, float | Sequence[float]] = 0.01,
    batch_size: int = 128,
    k: int = 1,
    schedule: RBMSchedule | None = None,
) -> None:
    """Train one stack per view on the training pairs of a method; for use in `_first_weights`.

    The stacks are trained side by side, one layer after the other, in the same loop as the method:
    with a progress bar, and with an error if the weights are no longer finite.

    Parameters
    ----------
    owner : NeuralEstimator
        The method.
    stacks : mapping of str to RBMStack
        By role; trained in place.
    pairs : PairData or Views
        The training pairs, as given to `_first_weights`; or Views of features.
    inputs : callable
        ``inputs(batch, role)``: the inputs of a stack, (b, d), for instance standardised features.
    epochs : int, default=10
        Number of passes over the pairs, per layer.
    lr : float or mapping of str to float or sequence of float, default=0.01
        Learning rate; or by role that of the stack, or of each of its layers.
    batch_size : int, default=128
        Number of pairs per batch.
    k : int, default=1
        Number of steps of the chains.
    schedule : RBMSchedule, optional
        How learning rate and momentum change; momentum rises from .5 to .9 by default.
    """
    n = max(map(len, stacks.values()))
    rates = lr if isinstance(lr, Mapping) else dict.fromkeys(stacks, lr)
    schedule = copy.copy(schedule or RBMSchedule())
    schedule.n_phases = n

    def outputs(module: nn.Module, batch: Batch) -> dict[str, Tensor]:
        with torch.no_grad():
            return {role: inputs(batch, role) for role in stacks}

    def loss(outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        layer = phase_of(batch.progress, n)
        return {
            f"{role}_{layer + 1}": stack.contrast(outputs[role], layer, k)
            for role, stack in stacks.items()
            if layer < len(stack)
        }

    owner._pretrain(
        nn.ModuleDict(dict(stacks)),
        outputs,
        loss,
        pairs,
        None,
        optimizer="SGD",
        lr=1.0,
        max_epochs=epochs * n,
        batch_size=batch_size,
        callbacks=[schedule],
        optimizer__param_groups=rbm_groups(
            {name: len(each) for name, each in stacks.items()}, rates
        ),
    )


def rbm_groups(
    layers: Mapping[str, int], rates: Mapping[str, float | Sequence[float]]
) -> list[tuple[str, dict[str, float]]]:
    """Return skorch's groups of weights with the learning rate of every layer.

    Parameters
    ----------
    layers : mapping of str to int
        Number of layers by the name of the stack in the network.
    rates : mapping of str to float or sequence of float
        Learning rate of a stack, or of each of its layers.

    Returns
    -------
    list of (str, dict)
        For ``optimizer__param_groups``.

    Raises
    ------
    ValueError
        If there is another number of learning rates than of layers.
    """
    return [
        (f"{name}.rbms.{i}.*", {"lr": rate})
        for name, n in layers.items()
        for i, rate in enumerate(per_layer(rates[name], n, f"the learning rate of {name!r}"))
    ]


def layer_rates(
    visible: str, widths: Sequence[int], lr: float, gaussian_lr: float = 2.0
) -> list[float]:
    """Return learning rates of the layers of a stack that do not let weights explode.

    Weights below Gaussian units explode the sooner the more hidden units there are: their learning
    rate is divided by this number. For 2,048 units it is then .001, as in deepnet.

    Parameters
    ----------
    visible : str
        Kind of the visible units of the first layer.
    widths : sequence of int
        Numbers of hidden units.
    lr : float
        Learning rate of machines with other visible units.
    gaussian_lr : float, default=2.0
        Learning rate of a machine with Gaussian units, times its number of hidden units.

    Returns
    -------
    list of float
    """
    first = gaussian_lr / widths[0] if visible == "gaussian" else lr
    return [first, *[lr] * (len(widths) - 1)]


def per_layer(value: Any, n: int, name: str) -> list[Any]:
    """Return a value for each of n layers: those of a list, or one for all.

    Parameters
    ----------
    value : object, or list or tuple of n objects
        The value of all, or of each layer.
    n : int
        Number of layers.
    name : str
        Name of the parameter, for messages.

    Returns
    -------
    list

    Raises
    ------
    ValueError
        If a list has another length.
    """
    if not isinstance(value, (list, tuple)):
        return [value] * n
    if len(value) != n:
        raise ValueError(f"{name} must be one value, or one per layer ({n}), got {value!r}")
    return list(value)


def _draw(p: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw Bernoulli units; NaN gives 0, so that the loss shows it and not the draw."""
    drawn = torch.rand(p.shape, generator=generator, device=p.device, dtype=p.dtype)
    return (drawn < p).to(p.dtype)


def _linear_layers(module: nn.Module) -> list[nn.Linear]:
    return [part for part in module.modules() if isinstance(part, nn.Linear)]


def _share(words: Tensor | float) -> Tensor | float:
    """Return numbers of words, (n, 1), of which a loss may be a share."""
    return words.clamp(min=1.0) if isinstance(words, Tensor) else max(words, 1.0)


class _WithGradients(torch.autograd.Function):
    """A value with given gradients."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: Iterable[Tensor], *of: Tensor) -> Tensor:
        ctx.save_for_backward(*gradients)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Any:
        return None, None, *(slope * gradient for gradient in ctx.saved_tensors)
