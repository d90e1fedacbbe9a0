"""Methods whose parts are trained one after the other, each on the outputs of the one before."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from crossfit.extraction.weights import exact, resolve_device
from crossfit.neural import (
    RBM,
    Batch,
    Items,
    MLPBranch,
    NeuralEstimator,
    RBMSchedule,
    RBMStack,
    Standardize,
    init_weights,
    label_loss,
    pretrain_rbms,
)
from crossfit.neural.batching import batches_of, store
from crossfit.views import Views, as_numpy
from crossfit_correlation.layers import belief_stack, kinds_by_role, widths_by_role

__all__ = ["BeliefNetwork", "Classifier", "StagedEstimator", "mean_of_parts"]

_SETTINGS = {"max_epochs": Integral, "lr": Real, "batch_size": Integral, "weight_decay": Real}


class BeliefNetwork(nn.Module):
    """Features of one view through a stack of restricted Boltzmann machines.

    Parameters
    ----------
    n_inputs : int
        Width of the features.
    widths : sequence of int
        Numbers of hidden units, from the bottom.
    visible : {"gaussian", "replicated-softmax", "bernoulli"}, default="gaussian"
        Kind of the features; Gaussian ones are standardised, counts are scaled to 100 words.
    weight_decay : float, default=0.0
        Weight decay of the machines.
    """

    def __init__(
        self,
        n_inputs: int,
        widths: Sequence[int],
        visible: str = "gaussian",
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__()
        self.scaling = Standardize(n_inputs) if visible == "gaussian" else nn.Identity()
        self.stack = belief_stack([n_inputs, *widths], visible, l2=weight_decay)

    def forward(self, x: Tensor) -> Tensor:
        """Return the probabilities of the last hidden units, (..., widths[-1])."""
        rows = self.stack.encode(self.scaling(x.reshape(-1, x.shape[-1])))
        return rows.reshape(*x.shape[:-1], -1)


class Classifier(nn.Module):
    """Layers of rectified linear units, and class scores from the last one.

    Parameters
    ----------
    n_inputs : int
        Width of the input.
    widths : sequence of int
        Widths of the layers.
    n_classes : int
        Number of classes.
    """

    def __init__(self, n_inputs: int, widths: Sequence[int], n_classes: int) -> None:
        super().__init__()
        self.body = MLPBranch([n_inputs, *widths], last_activation=nn.ReLU)
        self.head = nn.Linear(widths[-1], n_classes)
        init_weights(self.body)

    def forward(self, x: Tensor) -> Tensor:
        """Return the class scores, (b, n_classes)."""
        return self.head(self.body(x))


class StagedEstimator(NeuralEstimator):
    """Base of methods whose network reads what earlier stages, trained first, make of the items.

    A subclass defines `_stages`, the names and default settings of its stages; `_build_trunk`, a
    module with everything before the last stage; and `_train_trunk`. At the end, every unit of the
    codes is standardised by its mean and deviation over the training items.

    Parameters
    ----------
    rescale : bool, default=True
        Standardise what a stage passes to the next one.
    stages : dict of str to dict, optional
        Settings of stages, by name, in place of their defaults: ``max_epochs``, ``lr``,
        ``batch_size`` and ``weight_decay``.
    **kwargs
        See `crossfit.neural.NeuralEstimator`.
    """

    _stages: ClassVar[Mapping[str, Mapping[str, float]]] = {}
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **NeuralEstimator._parameter_constraints,
        "rescale": ["boolean"],
        "stages": [dict, None],
    }

    def __init__(
        self,
        *,
        rescale: bool = True,
        stages: Mapping[str, Mapping[str, float]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.rescale = rescale
        self.stages = stages

    # ---- what a method defines -----------------------------------------------------------------

    def _build_trunk(self, n_inputs: Mapping[str, Any], n_labels: int) -> nn.Module:
        """Return the module with the earlier stages; it has ``encode(items, role)``."""
        raise NotImplementedError

    def _train_trunk(self, trunk: Any, views: Views, labels: NDArray[np.int64]) -> None:
        """Train the stages on the training rows and their class numbers."""
        raise NotImplementedError

    def _stage_values(self, values: Any, role: str) -> Any:
        """Return the items of a view in the form that the trunk reads."""
        return values

    def _inputs_of(self, values: Any) -> Any:
        """Return what the trunk must know of such items: their number of features."""
        return int(values.shape[-1])

    # ---- parameters ----------------------------------------------------------------------------

    def _validate_params(self) -> None:
        super()._validate_params()
        for stage in self._stages:
            self._stage(stage)

    def _stage(self, name: str) -> dict[str, Any]:
        """Return the settings of a stage."""
        given = self.stages or {}
        known = ", ".join(self._stages)
        if set(given) - set(self._stages):
            raise ValueError(f"{self._name()}: stages may have {known}, got {given!r}")
        chosen = given.get(name, {})
        if not isinstance(chosen, Mapping) or not all(
            key in _SETTINGS
            and isinstance(value, _SETTINGS[key])
            and not isinstance(value, bool)
            and (value > 0 or (value == 0 and key == "weight_decay"))
            for key, value in chosen.items()
        ):
            raise ValueError(
                f"{self._name()}: the settings of stage {name!r} may be {', '.join(_SETTINGS)}, "
                f"positive numbers, got {chosen!r}"
            )
        return {"batch_size": self.batch_size, "weight_decay": 0.0, **self._stages[name], **chosen}

    def _sizes(self, name: str) -> tuple[int, ...]:
        """Return a parameter that is a list of one or more widths."""
        return _widths(getattr(self, name), f"{self._name()}: {name}")

    def _sizes_by_role(self, name: str) -> dict[str, list[int]]:
        """Return a parameter that is a list of widths, or one for each view by role."""
        given, what = getattr(self, name), f"{self._name()}: {name}"
        found = widths_by_role(given, self._roles(), what)
        if not all(found.values()):
            raise ValueError(f"{what} must have at least one layer for each view, got {given!r}")
        return found

    def _visible(self) -> dict[str, str]:
        """Return the kind of the features by role."""
        given = self.visible  # type: ignore[attr-defined]
        return kinds_by_role(given, self._roles(), f"{self._name()}: visible")

    # ---- training of stages --------------------------------------------------------------------

    def _run(self, function: Callable[[Any], Tensor], module: nn.Module, values: Any) -> Any:
        """Return what a function of a module computes from items, as an array."""
        device = torch.device(resolve_device(self.device))
        module.to(device).eval()
        with exact():
            found = [function(items).float().cpu() for items in batches_of(store(values), device)]
        module.cpu()
        return torch.cat(found).numpy()

    def _train_stack(
        self, stage: str, stack: RBMStack, values: Any, schedule: RBMSchedule | None = None
    ) -> None:
        """Train machines by contrastive divergence on the rows of an array."""
        settings = self._stage(stage)
        pretrain_rbms(
            self,
            {"x": stack},
            Views(x=values),
            lambda batch, role: batch.views[role].values,
            epochs=settings["max_epochs"],
            lr=settings["lr"],
            batch_size=settings["batch_size"],
            schedule=schedule,
        )

    def _train_fused(self, stage: str, rbm: RBM, values: Any) -> None:
        """Train one machine on the rows of an array."""
        stack = RBMStack([rbm.weight.shape[1], rbm.weight.shape[0]])
        stack.rbms[0] = rbm
        self._train_stack(stage, stack, values)

    def _rescaled(self, scaling: nn.Module, values: Any) -> Any:
        """Fit a module that standardises on an array, and return the standardised rows."""
        if not isinstance(scaling, Standardize):
            return values
        scaling.fit(batches_of(store(values), torch.device("cpu")))
        return self._run(lambda items: scaling(items.values), scaling, values)

    def _train_part(
        self,
        stage: str,
        module: nn.Module,
        outputs: Callable[[nn.Module, Batch], Any],
        loss: Callable[[Any, Batch], Any],
        views: Views,
        labels: NDArray[Any] | None = None,
    ) -> None:
        """Train a module by gradients."""
        settings = self._stage(stage)
        self._pretrain(
            module,
            outputs,
            loss,
            views,
            labels,
            optimizer=self.optimizer,
            lr=settings["lr"],
            max_epochs=settings["max_epochs"],
            batch_size=settings["batch_size"],
            **self._stage_optimizer(settings["weight_decay"]),
        )

    def _stage_optimizer(self, weight_decay: float) -> dict[str, Any]:
        """Return the settings of the optimizer, with the decay of a stage."""
        given = {**self._optimizer_parameters(), "weight_decay": weight_decay}
        given.pop("param_groups", None)
        return {f"optimizer__{name}": value for name, value in given.items()}

    def _train_classifier(
        self, stage: str, classifier: Classifier, views: Views, labels: NDArray[np.int64]
    ) -> None:
        """Train a classifier of the one view in `views`."""
        (role,) = views.names
        self._train_part(
            stage,
            classifier,
            lambda module, batch: module(batch.views[role].values),
            _labels_loss,
            views,
            labels,
        )

    # ---- fit -----------------------------------------------------------------------------------

    def _targets(self, y: NDArray[Any] | None) -> NDArray[Any] | None:
        targets = super()._targets(y)
        if y is not None and len(self.classes_) < 2:
            raise ValueError(
                f"{self._name()} needs labels of at least two classes, got {len(self.classes_)}"
            )
        return targets

    def _fit_features(self, views: Views, y: NDArray[Any] | None) -> None:
        if y is None:
            self.identities_, labels = np.unique(views.groups, return_inverse=True)
        else:
            known = np.isin(y, self.classes_)
            labels = np.where(known, np.searchsorted(self.classes_, y), -1)
            labels = np.where(known, labels.clip(max=len(self.classes_) - 1), -1)
        views = views.map(self._stage_values)
        self.trunk_inputs_ = {
            role: self._inputs_of(views.distinct(role)[0]) for role in views.names
        }
        self.n_labels_ = len(self.identities_ if y is None else self.classes_)
        trunk = self._build_trunk(self.trunk_inputs_, self.n_labels_)
        self._train_trunk(trunk, views, labels.astype(np.int64))
        self.trunk_ = trunk.eval().requires_grad_(False)

    def _labels(self, batch: Batch) -> Tensor:
        """Return the class numbers of a batch; without labels, those of the identities."""
        if batch.y is not None:
            return batch.y
        known = torch.as_tensor(self.identities_, device=batch.groups.device)
        at = torch.searchsorted(known, batch.groups).clamp(max=len(known) - 1)
        return torch.where(known[at] == batch.groups, at, -1)

    def _features(self, values: Any, view: str) -> Any:
        # In float64, so that an item has the same features in any batch.
        trunk: Any = copy.deepcopy(self.trunk_).double()
        values = self._stage_values(values, view)
        return self._run(lambda items: trunk.encode(_wide(items), view), trunk, values)

    def _restore_features(
        self, state: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
    ) -> None:
        trunk = self._build_trunk(state["trunk_inputs_"], state["n_labels_"])
        self.trunk_ = trunk.eval().requires_grad_(False)
        super()._restore_features(state, arrays)

    # ---- standardised codes ----------------------------------------------------------------------

    def _split(self, views: Views, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        rows, held_out = super()._split(views, seed)
        self._pairs = views[rows] if len(held_out) else views
        return rows, held_out

    def _fit(self, views: Views, y: NDArray[Any] | None) -> None:
        try:
            super()._fit(views, y)
            self.code_scaling_ = self._code_scaling()
        except FloatingPointError as error:
            if self._still_answers(error):
                self.code_scaling_ = self._code_scaling()
            raise
        finally:
            self.__dict__.pop("_pairs", None)

    def _code_scaling(self) -> NDArray[np.float64]:
        """Return mean and deviation of every unit over the training items, (roles, 2, width)."""
        found = []
        for role in self._roles():
            codes = as_numpy(super()._encode(self._pairs.distinct(role)[0], role)).astype(float)
            scale = codes.std(axis=0)
            scale[scale <= 1e-6 * np.abs(codes).max(axis=0)] = 1.0
            found.append([codes.mean(axis=0), scale])
        return np.array(found)

    def _encode(self, values: Any, view: str) -> Any:
        if hasattr(self, "code_scaling_"):
            return super()._encode(values, view)
        # A listener encodes during training, and gets the scaling of the current network.
        self.code_scaling_ = self._code_scaling()
        try:
            return super()._encode(values, view)
        finally:
            del self.code_scaling_

    def _encode_batch(self, module: nn.Module, items: Any, view: str) -> Tensor:
        # In float64: codes may differ little before they are standardised.
        wide: Any = copy.deepcopy(module).double()
        codes: Tensor = wide.encode(Items(items.values.double(), items.mask), view)
        if hasattr(self, "code_scaling_"):
            at = self._roles().index(view)
            mean, scale = torch.tensor(self.code_scaling_[at]).to(codes)
            codes = (codes - mean) / scale
        return codes


def mean_of_parts(function: Callable[[Tensor], Tensor], items: Items) -> Tensor:
    """Return the mean of a function of the parts of each item, zero for an item without parts.

    Parameters
    ----------
    function : callable
        Maps (b, R, d) to (b, R, k).
    items : Items
        Vectors (b, d), which are their only part, or (b, R, d) with a mask.

    Returns
    -------
    Tensor of shape (b, k)
    """
    found = function(items.values)
    if found.ndim == 2:
        return found
    if items.mask is None:
        return found.mean(dim=1)
    weights = items.mask.to(found.dtype)
    return torch.einsum("br,brk->bk", weights, found) / weights.sum(dim=1, keepdim=True).clamp(
        min=1
    )


def _labels_loss(scores: Tensor, batch: Batch) -> Tensor:
    assert batch.y is not None
    return label_loss(scores, batch.y)


def _wide(items: Any) -> Any:
    """Return items in float64."""
    if isinstance(items, dict):
        return {name: _wide(part) for name, part in items.items()}
    return Items(items.values.double(), items.mask)


def _widths(given: Any, what: str) -> tuple[int, ...]:
    if (
        not isinstance(given, (list, tuple))
        or not given
        or any(not isinstance(n, Integral) or isinstance(n, bool) or n < 1 for n in given)
    ):
        raise ValueError(f"{what} must be integers of at least 1, one per layer, got {given!r}")
    return tuple(int(n) for n in given)
