"""The multimodal deep belief network (Srivastava and Salakhutdinov, 2012)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval, StrOptions
from skorch.callbacks import EarlyStopping
from torch import Tensor, nn

from crossfit.neural import RBM, Batch, NeuralEstimator, RBMSchedule, RBMStack, Standardize
from crossfit.neural.rbm import layer_rates, per_layer, phase_of, rbm_groups
from crossfit.views import Views, as_numpy
from crossfit_correlation import cards
from crossfit_correlation.layers import widths_by_role

__all__ = ["DeepBeliefNetwork", "MultimodalDBN"]

UNITS = ("gaussian", "bernoulli", "replicated-softmax")
# Mean field ends for an item whose probabilities change by less than this.
_TOLERANCE = 1e-7


class DeepBeliefNetwork(nn.Module):
    """One stack of restricted Boltzmann machines per view, and a machine on top of all of them.

    Parameters
    ----------
    n_inputs : mapping of str to int
        Width of the feature vectors by role.
    units : mapping of str to str
        Kind of the visible units by role.
    hidden : mapping of str to sequence of int
        Numbers of hidden units of each stack by role.
    width : int
        Number of hidden units of the joint machine.
    length : float
        Number of words to which counts are scaled.
    count_std : float, default=0.03
        Standard deviation of the first weights of replicated-softmax units.
    **settings
        Other parameters of `RBM`, for all machines; or by role those of a stack, and of ``"joint"``
        those of the joint machine.
    """

    def __init__(
        self,
        n_inputs: Mapping[str, int],
        *,
        units: Mapping[str, str],
        hidden: Mapping[str, Sequence[int]],
        width: int,
        length: float,
        count_std: float = 0.03,
        **settings: Any,
    ) -> None:
        super().__init__()
        self.scaling = nn.ModuleDict(
            {role: Standardize(n, role) if units[role] == "gaussian" else nn.Identity()
             for role, n in n_inputs.items()}
        )  # fmt: skip
        self.paths = nn.ModuleDict()
        for role, n in n_inputs.items():
            own: dict[str, Any] = {}
            if units[role] == "replicated-softmax":
                above = len(hidden[role]) - 1
                own = {"length": length, "weight_std": [count_std, *[None] * above]}
            own |= _settings_of(role, settings)
            self.paths[role] = RBMStack([n, *hidden[role]], units[role], **own)
        self.widths = {role: layers[-1] for role, layers in hidden.items()}
        self.joint = RBM(sum(self.widths.values()), width, **_settings_of("joint", settings))

    def inputs(self, values: Tensor, view: str) -> Tensor:
        """Return the inputs of a path from the items of one view, (b, d)."""
        return self.scaling[view](values)

    def top(self, values: Tensor, view: str) -> Tensor:
        """Return the probabilities of the last hidden units of a path, (b, widths[view])."""
        path = self.paths[view]
        assert isinstance(path, RBMStack)
        return path.encode(self.inputs(values, view))

    def mean_field(self, known: Tensor, view: str, steps: int) -> Tensor:
        """Return the probabilities of the joint units with one view clamped, by mean field.

        Parameters
        ----------
        known : Tensor of shape (b, widths[view])
            Probabilities of the last hidden units of the known view.
        view : str
            The known view.
        steps : int
            Largest number of steps; rows whose probabilities no longer change end before.

        Returns
        -------
        Tensor of shape (b, width)
        """
        given, W, bias = self._clamped(known, view)
        unknown = bias.sigmoid().expand(len(known), -1)
        joint = (given + unknown @ W.T).sigmoid()
        left = torch.arange(len(known), device=known.device)
        for _ in range(steps):
            before = joint[left]
            unknown = (bias + before @ W).sigmoid()
            now = (given[left] + unknown @ W.T).sigmoid()
            joint[left] = now
            left = left[(now - before).abs().amax(dim=1) > _TOLERANCE]
            if not len(left):
                break
        return joint

    def gibbs(self, known: Tensor, view: str, steps: int) -> Tensor:
        """Return the mean probabilities of the joint units over Gibbs sampling, one view clamped.

        The mean is over the second half of the steps. All rows have the same random numbers, which
        are always the same, so that the result of a row depends on this row alone.

        Parameters
        ----------
        known : Tensor of shape (b, widths[view])
            Probabilities of the last hidden units of the known view.
        view : str
            The known view.
        steps : int
            Number of steps.

        Returns
        -------
        Tensor of shape (b, width)
        """
        given, W, bias = self._clamped(known, view)
        generator = torch.Generator().manual_seed(0)

        def drawn(p: Tensor) -> Tensor:
            noise = torch.rand(p.shape[1], generator=generator, dtype=p.dtype)
            return (noise.to(p.device) < p).to(p.dtype)

        state = drawn(bias.sigmoid().expand(len(known), -1))
        total = torch.zeros_like(given)
        for step in range(steps):
            joint = (given + state @ W.T).sigmoid()
            if step >= steps // 2:
                total += joint
            state = drawn((bias + drawn(joint) @ W).sigmoid())
        return total / (steps - steps // 2)

    def _clamped(self, known: Tensor, view: str) -> tuple[Tensor, Tensor, Tensor]:
        """Return the input of the joint units from one view; weights and biases of the others.

        They are float64, so that a result does not depend on the other rows of a batch.
        """
        sizes = list(self.widths.values())
        at = list(self.widths).index(view)
        W = self.joint.weight.double().split(sizes, dim=1)
        b = self.joint.visible_bias.double().split(sizes)
        given = self.joint.hidden_bias.double() + known.double() @ W[at].T
        others = [i for i in range(len(sizes)) if i != at]
        return given, torch.cat([W[i] for i in others], dim=1), torch.cat([b[i] for i in others])


class MultimodalDBN(NeuralEstimator):
    r"""Multimodal deep belief network.

    A path of restricted Boltzmann machines per view: the first one models the features, with
    Gaussian units for real numbers or replicated-softmax units for counts of words, and each
    further one the hidden units below it. The joint machine on top models the last hidden units of
    both paths. All machines are trained by contrastive divergence, in an order that depends on
    nothing else: first the lowest ones of both paths, then those above them, and the joint one in
    the last epochs. Each has the same share of the epochs.

    An item has one view. The hidden units of its own path are clamped, those of the other path are
    inferred together with the joint ones, and the probabilities of the joint units represent it.
    Items are compared by their cosine.

    There are no negatives, and labels are not used. With several captions per image, every caption
    is a pair of its image.

    Parameters
    ----------
    hidden : sequence of int, or dict of str to sequence of int, default=(128,)
        Numbers of hidden units of the paths, from the features upwards; or those of each path by
        role.
    width : int, default=128
        Number of hidden units of the joint machine.
    units : {"auto", "gaussian", "bernoulli", "replicated-softmax"} or dict of str to str, \
            default="auto"
        Visible units of both paths, or of each by role. Features of Gaussian units are
        standardised, those of Bernoulli units must be from 0 to 1, and those of replicated-softmax
        units are counts of words, or their shares. ``"auto"`` is replicated-softmax for whole
        numbers that are not negative and sometimes above 1, Bernoulli for zeros and ones, and
        otherwise Gaussian.
    length : float, default=100.0
        Number of words to which the counts of every document are scaled.
    inference : {"mean-field", "gibbs"}, default="mean-field"
        How the missing view is inferred. Gibbs sampling has the same random numbers for every item.
    inference_steps : int, default=200
        Number of steps of the inference; mean field ends before if nothing changes.
    k : int, default=1
        Number of steps of contrastive divergence.
    n_chains : int, optional
        Number of chains of persistent contrastive divergence; by default, chains start at the rows
        of the batch.
    sparsity : float, dict of str to float or sequence of float, or None, default=None
        Target of the mean probability of hidden units: of all machines, or by role of a path or of
        each of its layers, and of ``"joint"``.
    sparsity_cost : float or dict, default=0.01
        Weight of the sparsity, in the same form.
    l2 : float or dict, default=0.0001
        Decay of the weights, in the same form.
    sample_visible : bool, default=False
        Draw the visible units during training, in place of their means.
    lr : float, default=0.1
        Learning rate of machines with Bernoulli or replicated-softmax units.
    gaussian_lr : float, default=2.0
        Learning rate of machines with Gaussian units, times their number of hidden units: at higher
        rates their weights explode, the sooner the more units there are.
    layer_lr : dict of str to float or sequence of float, optional
        Learning rates in place of these: by role, that of all layers of a path or of each of them,
        and that of ``"joint"``.
    lr_half_life : float, optional
        Number of updates of a layer after which its learning rate is half, falling with 1/t; it is
        constant by default.
    momentum : (float, float), default=(0.5, 0.9)
        First and last momentum of a layer, if the optimizer has one.
    momentum_steps : float, default=1000.0
        Number of updates in which two thirds of the rise of the momentum are done.
    k_after : int, optional
        Number of updates of a layer after which `k` rises by 1, and again after every `k_every`;
        never by default.
    k_every : int, default=5000
        Number of updates between further rises.
    count_std : float, default=0.03
        Standard deviation of the first weights of replicated-softmax units. That of the other
        machines is one over the root of their number of hidden units.
    optimizer : str or type, default="SGD"
        Name of a class in `torch.optim`, or such a class.
    max_epochs : int, default=60
        Number of passes over the training pairs, which the layers share.
    batch_size : int, default=100
        Number of pairs per batch.
    **kwargs
        See `crossfit.neural.NeuralEstimator`.

    Attributes
    ----------
    units_ : dict of str to str
        Kind of the visible units of each path.
    net_ : skorch.NeuralNet
        Its history contains the squared error of the reconstruction of every layer in the epochs in
        which it is trained: ``train_image_1``, ``train_text_1``, ..., ``train_joint``. Their sum is
        ``train_loss``.

    Raises
    ------
    ValueError
        In `fit`, if there are fewer epochs than layers, a value does not suit the units of its
        view, or early stopping is among the callbacks: ``valid_loss`` is that of the layer which is
        trained.

    See Also
    --------
    crossfit.neural.RBM : The machines.
    crossfit.neural.RBMSchedule : How learning rate, momentum and `k` change.

    Notes
    -----
    The settings of the authors' code, deepnet, which were made for a million pictures and hundreds
    of thousands of updates per layer, are in the experiment
    ``srivastava-2012-multimodal-dbn-flickr30k``. From its first weights of counts, 1e-5, nothing is
    learnt in a few thousand updates.

    References
    ----------
    N. Srivastava, R. Salakhutdinov, Learning representations for multimodal data with deep belief
    nets, ICML 2012 representation learning workshop. N. Srivastava, R. Salakhutdinov, Multimodal
    learning with deep Boltzmann machines, NIPS 2012.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit_correlation.multimodal_dbn import MultimodalDBN
    >>> from crossfit_correlation.testing import make_inputs
    >>> views, _ = make_inputs(np.random.default_rng(0), 100)
    >>> method = MultimodalDBN(hidden=(12,), width=8, max_epochs=6, device="cpu", random_state=0)
    >>> method.fit(views).transform(views)["text"].shape
    (100, 8)
    """

    card = cards.MULTIMODAL_DBN

    # The layer that is trained depends on the share of max_epochs.
    _neutral: ClassVar[tuple[str, ...]] = tuple(
        name for name in NeuralEstimator._neutral if name != "max_epochs"
    )

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **NeuralEstimator._parameter_constraints,
        "hidden": [list, tuple, dict],
        "width": [Interval(Integral, 1, None, closed="left")],
        "units": [StrOptions({"auto", *UNITS}), dict],
        "length": [Interval(Real, 0, None, closed="neither")],
        "inference": [StrOptions({"mean-field", "gibbs"})],
        "inference_steps": [Interval(Integral, 1, None, closed="left")],
        "k": [Interval(Integral, 1, None, closed="left")],
        "n_chains": [Interval(Integral, 1, None, closed="left"), None],
        "sparsity": [Interval(Real, 0, 1, closed="neither"), dict, None],
        "sparsity_cost": [Interval(Real, 0, None, closed="left"), dict],
        "l2": [Interval(Real, 0, None, closed="left"), dict],
        "sample_visible": ["boolean"],
        "gaussian_lr": [Interval(Real, 0, None, closed="neither")],
        "layer_lr": [dict, None],
        "lr_half_life": [Interval(Real, 0, None, closed="neither"), None],
        "momentum": [list, tuple],
        "momentum_steps": [Interval(Real, 0, None, closed="neither")],
        "k_after": [Interval(Integral, 0, None, closed="left"), None],
        "k_every": [Interval(Integral, 1, None, closed="left")],
        "count_std": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        *,
        hidden: Sequence[int] | Mapping[str, Sequence[int]] = (128,),
        width: int = 128,
        units: str | Mapping[str, str] = "auto",
        length: float = 100.0,
        inference: str = "mean-field",
        inference_steps: int = 200,
        k: int = 1,
        n_chains: int | None = None,
        sparsity: float | Mapping[str, Any] | None = None,
        sparsity_cost: float | Mapping[str, Any] = 0.01,
        l2: float | Mapping[str, Any] = 1e-4,
        sample_visible: bool = False,
        lr: float = 0.1,
        gaussian_lr: float = 2.0,
        layer_lr: Mapping[str, float | Sequence[float]] | None = None,
        lr_half_life: float | None = None,
        momentum: Sequence[float] = (0.5, 0.9),
        momentum_steps: float = 1000.0,
        k_after: int | None = None,
        k_every: int = 5000,
        count_std: float = 0.03,
        optimizer: str | type[torch.optim.Optimizer] = "SGD",
        max_epochs: int = 60,
        batch_size: int = 100,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            lr=lr, optimizer=optimizer, max_epochs=max_epochs, batch_size=batch_size, **kwargs
        )
        self.hidden = hidden
        self.width = width
        self.units = units
        self.length = length
        self.inference = inference
        self.inference_steps = inference_steps
        self.k = k
        self.n_chains = n_chains
        self.sparsity = sparsity
        self.sparsity_cost = sparsity_cost
        self.l2 = l2
        self.sample_visible = sample_visible
        self.gaussian_lr = gaussian_lr
        self.layer_lr = layer_lr
        self.lr_half_life = lr_half_life
        self.momentum = momentum
        self.momentum_steps = momentum_steps
        self.k_after = k_after
        self.k_every = k_every
        self.count_std = count_std

    def _validate_params(self) -> None:
        super()._validate_params()
        roles = self._roles()
        hidden = self._hidden()
        for role, layers in hidden.items():
            if not layers:
                raise ValueError(
                    f"{self._name()}: hidden must have at least one layer for {role}, got "
                    f"{self.hidden!r}"
                )
        if isinstance(self.units, Mapping) and (
            set(self.units) != set(roles) or not set(self.units.values()) <= {"auto", *UNITS}
        ):
            raise ValueError(
                f"{self._name()}: units must be one of auto, {', '.join(UNITS)}, or one for each "
                f"of {' and '.join(roles)}, got {self.units!r}"
            )
        if unknown := set(self.layer_lr or ()) - {*roles, "joint"}:
            raise ValueError(
                f"{self._name()}: layer_lr has the learning rate of {min(unknown)!r}, but there "
                f"are only {', '.join(roles)} and joint"
            )
        for name in ("sparsity", "sparsity_cost", "l2"):
            value = getattr(self, name)
            if isinstance(value, Mapping) and set(value) != {*roles, "joint"}:
                raise ValueError(
                    f"{self._name()}: {name} must be one value, or one for each of "
                    f"{', '.join(roles)} and joint, got {value!r}"
                )
        for name, value in (self.layer_lr or {}).items():
            n = 1 if name == "joint" else len(hidden[name])
            rates = per_layer(value, n, f"{self._name()}: layer_lr of {name!r}")
            if not all(
                isinstance(rate, Real) and not isinstance(rate, bool) and 0 < float(rate) < math.inf
                for rate in rates
            ):
                raise ValueError(
                    f"{self._name()}: layer_lr must have positive learning rates, got "
                    f"{self.layer_lr!r}"
                )
        if self.max_epochs < self._n_phases():
            raise ValueError(
                f"{self._name()}: max_epochs={self.max_epochs} is less than the number of layers "
                f"that are trained one after the other, {self._n_phases()}; increase it"
            )
        for item in self.callbacks or ():
            callback = item[-1] if isinstance(item, (tuple, list)) else item
            if callback is EarlyStopping or isinstance(callback, EarlyStopping):
                raise ValueError(
                    f"{self._name()}: EarlyStopping would compare the errors of different layers; "
                    "remove it, and choose max_epochs by the scores of validation pairs"
                )
        self._schedule()
        self._groups()

    def _hidden(self) -> dict[str, list[int]]:
        return widths_by_role(self.hidden, self._roles(), f"{self._name()}: hidden")

    def _n_phases(self) -> int:
        """Return the number of layers that are trained one after the other."""
        return max(map(len, self._hidden().values())) + 1

    # ---- features ------------------------------------------------------------------------------

    def _fit_features(self, views: Views, y: NDArray[Any] | None) -> None:
        given = (
            self.units
            if isinstance(self.units, Mapping)
            else dict.fromkeys(self._roles(), self.units)
        )
        self.units_ = {
            role: _units_of(views[role]) if given[role] == "auto" else str(given[role])
            for role in self._roles()
        }

    def _features(self, values: Any, view: str) -> Any:
        kind = self.units_[view]
        numbers = _numbers(values)
        wrong = {
            "gaussian": None,
            "bernoulli": "from 0 to 1",
            "replicated-softmax": "of at least 0",
        }[kind]
        most = 1.0 if kind == "bernoulli" else np.inf
        if wrong and len(numbers) and not 0 <= numbers.min() <= numbers.max() <= most:
            raise ValueError(
                f"{self._name()}: {kind} units need numbers {wrong} in view "
                f"{self._view_name(view)!r}, got {numbers.min():g} to {numbers.max():g}; set units"
            )
        return values

    # ---- the network and its loss --------------------------------------------------------------

    def _build_module(
        self, n_inputs: dict[str, Any], n_classes: int | None, **module: Any
    ) -> nn.Module:
        settings = {
            "units": self.units_,
            "hidden": self._hidden(),
            "width": self.width,
            "length": self.length,
            "n_chains": self.n_chains,
            "sparsity": self.sparsity,
            "sparsity_cost": self.sparsity_cost,
            "l2": self.l2,
            "sample_visible": self.sample_visible,
            "count_std": self.count_std,
        }
        return DeepBeliefNetwork(n_inputs, **{**settings, **module})

    def _outputs(self, module: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return the inputs of the paths, or those of the joint machine once it is trained."""
        assert isinstance(module, DeepBeliefNetwork)
        read = module.inputs if self._phase(batch) < self._n_phases() - 1 else module.top
        with torch.no_grad():
            return {role: read(items.values, role) for role, items in batch.views.items()}

    def _loss(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        module = self.net_.module_
        assert isinstance(module, DeepBeliefNetwork)
        layer = self._phase(batch)
        if layer == self._n_phases() - 1:
            both = torch.cat(list(outputs.values()), dim=1)
            return {"joint": module.joint.contrast(both, self.k)}
        found = {}
        for role, path in module.paths.items():
            assert isinstance(path, RBMStack)
            if layer < len(path):
                found[f"{role}_{layer + 1}"] = path.contrast(outputs[role], layer, self.k)
        return found

    def _phase(self, batch: Batch) -> int:
        # Once trained, as after the fit, the network is judged by its last layer.
        return phase_of(min(batch.progress, 1 - 1e-6), self._n_phases())

    def _schedule(self) -> list[Any]:
        return [
            RBMSchedule(
                self.lr_half_life,
                self.momentum,
                self.momentum_steps,
                self.k_after,
                self.k_every,
                self._n_phases(),
            )
        ]

    def _optimizer_parameters(self) -> dict[str, Any]:
        return {"param_groups": self._groups(), **super()._optimizer_parameters()}

    def _groups(self) -> list[tuple[str, dict[str, float]]]:
        """Return the learning rate of every layer, as skorch takes them."""
        own = self.layer_lr or {}
        hidden = self._hidden()
        units = getattr(self, "units_", {})  # not yet there when the parameters are checked
        rates = {
            f"paths.{role}": own.get(
                role, layer_rates(units.get(role, ""), widths, self.lr, self.gaussian_lr)
            )
            for role, widths in hidden.items()
        }
        joint = per_layer(own.get("joint", self.lr), 1, "the learning rate of 'joint'")
        layers = {f"paths.{role}": len(widths) for role, widths in hidden.items()}
        return [*rbm_groups(layers, rates), ("joint.*", {"lr": joint[0]})]

    # ---- encodings -----------------------------------------------------------------------------

    def _encode_batch(self, module: nn.Module, items: Any, view: str) -> Tensor:
        assert isinstance(module, DeepBeliefNetwork)
        with torch.autocast(items.values.device.type, enabled=False):
            known = module.top(items.values.float(), view)
            infer = module.mean_field if self.inference == "mean-field" else module.gibbs
            return infer(known, view, self.inference_steps)


def _settings_of(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a path or of the joint machine."""
    return {
        key: value[name] if isinstance(value, Mapping) else value for key, value in settings.items()
    }


def _numbers(values: Any) -> NDArray[Any]:
    """Return all numbers of a view, of a sparse one those that are stored."""
    return values.data if sp.issparse(values) else as_numpy(values)


def _units_of(values: Any) -> str:
    """Return the kind of visible units that suit the values of a view."""
    numbers = _numbers(values)
    if numbers.size == 0 or numbers.min() < 0 or (numbers != np.floor(numbers)).any():
        return "gaussian"
    return "replicated-softmax" if numbers.max() > 1 else "bernoulli"
