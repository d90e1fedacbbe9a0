"""NeuralEstimator: a cross-modal method that holds a skorch net and trains it on whole batches."""

from __future__ import annotations

import contextlib
import copy
import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import joblib
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import GroupShuffleSplit
from sklearn.utils._param_validation import Interval, StrOptions
from skorch.callbacks import Callback
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from crossfit._arguments import check_arguments, integer
from crossfit._devices import resolve_device
from crossfit._fitted import is_fitted_name, set_fitted
from crossfit._identities import identity_of
from crossfit._random import draw_seed
from crossfit._torch import few_torch_threads, isolated
from crossfit.base import CrossModalEstimator
from crossfit.labels import class_codes
from crossfit.neural.batching import (
    Batch,
    Batches,
    ChannelStore,
    PairData,
    Store,
    batches_of,
    most_rows,
    store,
)
from crossfit.neural.checkpoint import Checkpoint
from crossfit.neural.modules import Standardize
from crossfit.neural.training import (
    attached,
    make_net,
    operations_of,
    optimizer_class,
    seeded,
    train_net,
)
from crossfit.views import Views, is_tensor, n_rows

__all__ = ["NeuralEstimator"]

# Prefixes of parameters that are passed on: module__hidden=64 to _build_module as hidden=64.
PREFIXES = ("module", "optimizer", "iterator_train")
# Bytes that a tensor counts in addition to its data, because many small tensors take time.
_TENSOR = 2**12
# Attributes of the fit itself, which every fit computes again.
_OF_THE_FIT = {"net_", "views_in_", "n_features_in_", "n_inputs_", "n_classes_", "classes_"}


class NeuralEstimator(CrossModalEstimator):
    """Base class of methods that train a network on batches of pairs.

    A subclass implements `_build_module`, which returns a torch module with
    ``encode(items, view)``, and `_loss`, a function of a whole batch. Other steps may be
    overridden: `_outputs`, `_encode_batch`; `_fit_features` and `_features` for methods that take
    raw items; `_optimizer_parameters`.

    A subclass declares its own parameters in ``__init__`` and passes the rest on as ``**kwargs``;
    the parameters of the base class are then visible to scikit-learn too.

    Parameters
    ----------
    max_epochs : int, default=50
        Number of passes over the training pairs.
    lr : float, default=0.001
        Learning rate.
    batch_size : int, default=128
        Number of pairs per batch.
    optimizer : str or type, default="Adam"
        Name of a class in `torch.optim`, or such a class.
    device : str, default="auto"
        Any torch device; ``"auto"`` is CUDA if present, else the CPU.
    amp : {"auto", True, False}, default="auto"
        Mixed precision: the network runs in bfloat16 where torch considers it safe, the loss in
        float32. ``"auto"`` uses it on a GPU that supports bfloat16.
    validation_fraction : float, optional
        Share of the groups of rows that is held out to compute ``valid_loss``, for instance for
        early stopping: ``callbacks=[skorch.callbacks.EarlyStopping(load_best=True)]``.
    callbacks : list of skorch callbacks, optional
        Schedules, early stopping, `crossfit.neural.Checkpoint`. Each fit works on copies, which
        are available as ``net_.callbacks_``.
    random_state : int, RandomState or None
        Seed of the initial weights, dropout and the order of batches.
    verbose : {"auto", True, False}, default="auto"
        Progress bar: for long fits on a terminal, always, or never. 1 and 0 are accepted too.
    views : mapping of str to str, optional
        View name of each role; by default matched by name, otherwise by order in `fit`.
    **prefixed
        ``module__*`` are passed to `_build_module`, ``optimizer__*`` to the optimizer (with
        ``optimizer__param_groups`` as in skorch), ``iterator_train__*`` to the batches
        (``shuffle``, ``drop_last``, ``together``). They are parameters like the others, for
        ``set_params``, ``clone`` and searches.

    Attributes
    ----------
    net_ : skorch.NeuralNet
        Holds ``module_``, ``optimizer_`` and ``history``, one row per epoch.
    n_inputs_ : dict of str to int, or of str to dict for a view with channels
        By role: width of the features, or number of token ids.
    n_classes_ : int or None
        None without labels.
    classes_ : ndarray of shape (n_classes,)
        The classes, if one-dimensional labels were given.

    Warns
    -----
    TrainingWarning
        In `fit`, if the outputs of a view collapse, the loss stays at that of equal outputs, a
        third of the ReLU units is zero for all items, or no hinge is ever active.

    See Also
    --------
    NeuralPairEstimator : Base class of neural methods without a common space.
    """

    # Belong to one training run and are not stored in bundles.
    __crossfit_transient__: ClassVar[tuple[str, ...]] = ("callbacks",)

    # A checkpoint may be resumed with other values of these.
    _neutral: ClassVar[tuple[str, ...]] = ("max_epochs", "callbacks", "device", "verbose", "views")

    # Terms of the loss that are recorded in the history but not part of valid_loss, such as an
    # adversary's.
    _only_shown: ClassVar[tuple[str, ...]] = ()

    # Whether a last training batch that is not full is dropped, unless iterator_train__drop_last
    # is set.
    _drop_last: ClassVar[bool] = False

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "optimizer": [str, type],
        "device": [str],
        "amp": [StrOptions({"auto"}), "boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither"), None],
        "callbacks": [list, tuple, None],
        "random_state": ["random_state"],
        "verbose": [StrOptions({"auto"}), "verbose"],
    }

    def __init__(
        self,
        *,
        max_epochs: int = 50,
        lr: float = 1e-3,
        batch_size: int = 128,
        optimizer: str | type[torch.optim.Optimizer] = "Adam",
        device: str = "auto",
        amp: bool | str = "auto",
        validation_fraction: float | None = None,
        callbacks: Sequence[Any] | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: bool | int | str = "auto",
        views: Mapping[str, str] | None = None,
        **prefixed: Any,
    ) -> None:
        for name in prefixed:
            if not _is_prefixed(name):
                raise TypeError(self._unknown(name))
        self.max_epochs = max_epochs
        self.lr = lr
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.device = device
        self.amp = amp
        self.validation_fraction = validation_fraction
        self.callbacks = callbacks
        self.random_state = random_state
        self.verbose = verbose
        self.views = views
        self.__dict__.update(prefixed)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Complete the signature of ``__init__``, from which scikit-learn reads the parameters."""
        super().__init_subclass__(**kwargs)
        own: Any = cls.__dict__.get("__init__")
        if own is None:
            return
        *parameters, last = inspect.signature(own).parameters.values()
        if last.kind is inspect.Parameter.VAR_KEYWORD:
            known = {parameter.name for parameter in parameters}
            inherited = inspect.signature(super(cls, cls).__init__).parameters.values()
            parameters += [
                parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
                for parameter in inherited
                if parameter.name not in known
                and parameter.kind is not inspect.Parameter.VAR_KEYWORD
            ]
            own.__signature__ = inspect.Signature([*parameters, last])

    # ---- what an author writes ---------------------------------------------------------------

    def _build_module(
        self, n_inputs: dict[str, Any], n_classes: int | None, **module: Any
    ) -> nn.Module:
        """Build the network.

        Parameters
        ----------
        n_inputs : dict of str to int
            By role: width of the feature vectors, or number of token ids.
        n_classes : int, optional
            None without labels.
        **module
            The ``module__*`` parameters.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define _build_module")

    def _loss(self, outputs: Any, batch: Batch) -> Tensor | Mapping[str, Tensor]:
        """Return the loss of a whole batch: a scalar, or named terms that are added up."""
        raise NotImplementedError(f"{type(self).__name__} does not define _loss")

    def _outputs(self, module: nn.Module, batch: Batch) -> Any:
        """Return the input of `_loss`: by default every view's encoding, by role."""
        return {
            view: self._encode_batch(module, items, view) for view, items in batch.views.items()
        }

    def _encode_batch(self, module: nn.Module, items: Any, view: str) -> Tensor:
        """Map `Items` of one view into the common space, (b, d)."""
        return module.encode(items, view)  # type: ignore[operator]

    def _fit_features(self, views: Views, y: NDArray[Any] | None) -> None:
        """Learn what `_features` needs (a vocabulary, a trunk) from the training rows."""

    def _features(self, values: Any, view: str) -> Any:
        """Convert given items to the features that batches are taken from; see `batching.store`.

        Pictures may be returned as `crossfit.neural.pictures.Pictures`, which are read from their
        files batch by batch.
        """
        return values

    def _first_weights(self, module: nn.Module, pairs: PairData) -> None:
        """Set first weights that depend on the training pairs, such as pretrained ones.

        Called after every `Standardize` is fitted, before the first batch; not if a fit resumes
        from a checkpoint. See `crossfit.neural.pretrain_rbms`.
        """

    def _optimizer_parameters(self) -> dict[str, Any]:
        """Return the arguments of the optimizer; the ``optimizer__*`` parameters by default."""
        return self._prefixed("optimizer")

    def _batch_parameters(self) -> dict[str, Any]:
        """Return the arguments of the training batches; ``iterator_train__*`` by default."""
        return {"drop_last": self._drop_last, **self._prefixed("iterator_train")}

    def _schedule(self) -> list[Any]:
        """Return callbacks that are part of the method, such as its learning rate schedule."""
        return []

    # ---- fit -----------------------------------------------------------------------------------

    def _fit(self, views: Views, y: NDArray[Any] | None) -> None:
        self._check_prefixed()
        device = torch.device(resolve_device(self.device))
        checkpoints = [cb for cb in _instances(self.callbacks) if isinstance(cb, Checkpoint)]
        if len(checkpoints) > 1:
            raise ValueError(f"one Checkpoint is enough, got {len(checkpoints)}")
        callbacks, saved = self.callbacks, None
        if checkpoints:
            identity = self._identity(views, y)
            with isolated():
                saved = checkpoints[0].initialize().read(identity)
            callbacks = [_with_identity(item, identity) for item in self.callbacks or ()]
        for name in [name for name in vars(self) if is_fitted_name(name)]:
            if name not in ("views_in_", "n_features_in_"):
                delattr(self, name)
        targets = self._targets(y)
        # A resumed fit holds out the same rows as before.
        seed = self._seed() if saved is None else saved["seed"]
        with isolated(), seeded(seed, device):
            rows, held_out = self._split(views, seed)
            if saved is None:
                chosen = views[rows] if len(held_out) else views
                self._fit_features(chosen, None if y is None else y[rows])
            else:
                checkpoints[0].features(saved, self)
            data = self._data(views, targets, device, self._features)
            self.n_inputs_ = {role: _n_inputs(part) for role, part in data.stores.items()}
            self.n_classes_ = self._n_classes(targets)
            module = self._built(self.n_inputs_, self.n_classes_)
            if saved is None:
                for part in module.modules():
                    if isinstance(part, Standardize) and part.view is not None:
                        part.fit(data.subset(rows).distinct(part.view, part.channel))
                self._first_weights(module.to(device), data.subset(rows))
            self.net_ = make_net(
                module,
                device=device,
                optimizer=self.optimizer,
                lr=self.lr,
                max_epochs=self.max_epochs,
                batch_size=self.batch_size,
                callbacks=[*self._schedule(), *(callbacks or ())] or None,
                **{f"optimizer__{k}": part for k, part in self._optimizer_parameters().items()},
                **{f"iterator_train__{k}": part for k, part in self._batch_parameters().items()},
            )
            self.net_.amp = self._use_amp(device)
            train_net(
                self.net_,
                self,
                self._outputs,
                self._loss,
                data.subset(rows),
                data.subset(held_out) if len(held_out) else None,
                saved=saved,
                listen=True,
            )

    def _pretrain(
        self,
        module: nn.Module,
        outputs: Callable[[nn.Module, Batch], Any],
        loss: Callable[[Any, Batch], Tensor | Mapping[str, Tensor]],
        views: Views | PairData,
        y: NDArray[Any] | None,
        features: Callable[[Any, str], Any] | None = None,
        **settings: Any,
    ) -> nn.Module:
        """Train a part of the method on its own, in the same loop; for use in `_fit_features`.

        Parameters
        ----------
        module : Module
        outputs, loss : callable
            ``outputs(module, batch)`` and ``loss(outputs, batch)``, as for the whole method.
        views : Views or PairData
            One or more modalities; or the rows as `_first_weights` gets them.
        y : ndarray, optional
            Class numbers or indicators of the rows of Views.
        features : callable, optional
            ``features(values, role)``, as `_features`; by default the views hold features.
        **settings
            ``optimizer``, ``lr``, ``max_epochs``, ``batch_size``, and prefixed parameters.

        Returns
        -------
        Module
            The trained module, on the CPU.
        """
        device = torch.device(resolve_device(self.device))
        net = make_net(module, device=device, **settings)
        net.amp = self._use_amp(device)
        pairs = self._data(views, y, device, features) if isinstance(views, Views) else views
        train_net(net, self, outputs, loss, pairs)
        return module.cpu()

    def _measured(self, views: Views, y: NDArray[Any] | None) -> dict[str, float]:
        """Return what `Net.measure` finds on training pairs, after the fit."""
        device = torch.device(self.net_.device)
        with isolated(), seeded(0, device):
            data = self._data(views, self._targets(y), device, self._features)
            with contextlib.closing(data), attached(self.net_, self, self._outputs, self._loss):
                return self.net_.measure(data.batch(torch.arange(len(data)), 1.0))

    def _still_answers(self, error: BaseException) -> bool:
        """Return True after a NaN loss if there is an earlier epoch with finite weights."""
        sound = isinstance(error, FloatingPointError) and "net_" in vars(self)
        return sound and len(self.net_.history) > 1

    def _targets(self, y: NDArray[Any] | None) -> NDArray[Any] | None:
        """Return class numbers (-1 if unlabelled) or indicators, and store the classes."""
        if y is None:
            return None
        if y.ndim == 2:
            return y.astype(np.float32)
        self.classes_, codes = class_codes(y)
        return codes

    def _n_classes(self, targets: NDArray[Any] | None) -> int | None:
        if targets is None:
            return None
        return targets.shape[1] if targets.ndim == 2 else len(self.classes_)

    def _split(self, views: Views, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows to train on and the rows held out; groups are never divided."""
        rows = np.arange(len(views))
        if self.validation_fraction is None:
            for callback in _instances(self.callbacks):
                if "valid" in str(getattr(callback, "monitor", "")):
                    raise ValueError(
                        f"{type(callback).__name__} monitors {callback.monitor!r}, which requires "
                        "held-out pairs; set validation_fraction"
                    )
            return rows, rows[:0]
        n_groups = len(np.unique(views.groups))
        if n_groups < 3:
            raise ValueError(f"validation_fraction needs at least 3 groups of rows, got {n_groups}")
        split = GroupShuffleSplit(1, test_size=self.validation_fraction, random_state=seed)
        return next(split.split(rows, groups=views.groups))

    def _data(
        self,
        views: Views,
        y: NDArray[Any] | None,
        device: torch.device,
        features: Callable[[Any, str], Any] | None = None,
    ) -> PairData:
        """Return the rows as batches are taken from them, on the device if they fit."""
        stores = {}
        for role in views.names:
            values, _ = views.distinct(role)
            part = store(values if features is None else features(values, role))
            if len(part) != n_rows(values):
                raise ValueError(
                    f"{self._name()}._features must return one item per item of view {role!r} "
                    f"({n_rows(values)}), got {len(part)}"
                )
            stores[role] = part.kept()
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            # Features that do not fit are moved batch by batch.
            if sum(part.nbytes for part in stores.values()) < free / 2:
                stores = {role: part.to(device) for role, part in stores.items()}
        return PairData(stores, views, y, device)

    def _use_amp(self, device: torch.device) -> bool:
        if self.amp == "auto":
            return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return bool(self.amp)

    def _seed(self) -> int:
        return draw_seed(self.random_state)

    def _identity(self, views: Views, y: NDArray[Any] | None) -> dict[str, str]:
        """Return hashes that identify the fit to which a checkpoint belongs."""
        params = {k: v for k, v in self.get_params(deep=False).items() if k not in self._neutral}
        if isinstance(self.random_state, np.random.RandomState):
            params["random_state"] = "RandomState"  # its state changes with every fit
        return {
            "method": identity_of(type(self)),
            "parameters": joblib.hash(params),
            "data": joblib.hash((views, y)),
        }

    def _built(self, n_inputs: dict[str, Any], n_classes: int | None) -> nn.Module:
        settings = self._prefixed("module")
        try:
            return self._build_module(n_inputs, n_classes, **settings)
        except TypeError as error:
            if not settings:
                raise
            given = ", ".join(f"module__{name}={value!r}" for name, value in settings.items())
            raise ValueError(f"{self._name()}: cannot build the network with {given}: {error}"
                             ) from error  # fmt: skip

    # ---- after the fit -------------------------------------------------------------------------

    def _encode(self, values: Any, view: str) -> Any:
        def encode(module: nn.Module, items: Any) -> Tensor:
            return self._encode_batch(module, items, view).float()

        # The network computes in float32; float64 input is returned as float64.
        wide = "float64" in str(getattr(values, "dtype", ""))
        encoded = torch.cat(self._apply(encode, values, view))
        encoded = encoded.to(torch.float64 if wide else torch.float32)
        return encoded.clone() if is_tensor(values) else encoded.cpu().numpy()

    def _apply(self, function: Callable[[Any, Any], Any], values: Any, view: str) -> list[Any]:
        """Call ``function(module, items)`` on batches of a view's items, without gradients."""
        net = self.net_
        net.module_.eval()
        device = torch.device(net.device)
        with isolated(), torch.inference_mode():
            items = store(self._features(values, view), self.n_inputs_[view])
            rows = most_rows(items)
            with (
                few_torch_threads(operations_of(net.module_, rows, items.elements)),
                torch.autocast(device.type, dtype=torch.bfloat16, enabled=net.amp),
                contextlib.closing(items),
            ):
                return [function(net.module_, part) for part in batches_of(items, device)]

    # ---- parameters ----------------------------------------------------------------------------

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters by name, including the prefixed ones that are set."""
        prefixed = {name: value for name, value in vars(self).items() if _is_prefixed(name)}
        return {**super().get_params(deep), **prefixed}

    def set_params(self, **params: Any) -> Self:
        """Set parameters, including prefixed ones."""
        prefixed = {name: params.pop(name) for name in list(params) if _is_prefixed(name)}
        super().set_params(**params)
        self.__dict__.update(prefixed)
        return self

    def _prefixed(self, prefix: str) -> dict[str, Any]:
        start = f"{prefix}__"
        return {k.removeprefix(start): v for k, v in vars(self).items() if k.startswith(start)}

    def _unknown(self, name: str) -> str:
        return (
            f"{self._name()} has no parameter {name!r}: there are "
            f"{', '.join(self._get_param_names())} and module__*, optimizer__*, iterator_train__*"
        )

    def _check_prefixed(self) -> None:
        """Raise a ValueError for prefixed parameters that their target does not accept."""
        takers: dict[str, Any] = {
            "module": self._build_module,
            "optimizer": optimizer_class(self.optimizer),
            "iterator_train": Batches,
        }
        given = {"self", "params", "n_inputs", "n_classes", "dataset", "generator"}
        for prefix, taker in takers.items():
            parameters = inspect.signature(taker).parameters
            if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
                continue
            known = [name for name in parameters if name not in given]
            for name in self._prefixed(prefix):
                if name not in known and (prefix, name) != ("optimizer", "param_groups"):
                    raise ValueError(
                        f"{self._name()} got {prefix}__{name}, but there are only "
                        f"{', '.join(f'{prefix}__{k}' for k in known) or 'none'}"
                    )
        self._check_optimizer()
        check_arguments(
            self._name(),
            {"iterator_train__batch_size": [integer(1)], "iterator_train__shuffle": ["boolean"],
             "iterator_train__drop_last": ["boolean"], "iterator_train__together": [integer(1)]},
            dict(vars(self)),
        )  # fmt: skip
        for callback in _instances(self.callbacks):
            made = callback if isinstance(callback, type) else type(callback)
            if not issubclass(made, Callback):
                raise ValueError(
                    f"callbacks of {self._name()} must be callbacks of skorch, alone or in pairs "
                    f"(name, callback), got {callback!r}"
                )

    def _check_optimizer(self) -> None:
        """Raise a ValueError, before any work, if the optimizer rejects its settings."""
        settings = {"lr": self.lr, **self._optimizer_parameters()}
        groups = settings.pop("param_groups", [])
        if not isinstance(groups, (list, tuple)) or not all(
            isinstance(group, (list, tuple))
            and len(group) == 2
            and isinstance(group[0], str)
            and isinstance(group[1], Mapping)
            for group in groups
        ):
            raise ValueError(
                f"optimizer__param_groups of {self._name()} must be pairs (pattern, settings), "
                f"got {groups!r}"
            )
        with isolated():
            weight = nn.Parameter(torch.zeros(1, 1))
            try:
                optimizer_class(self.optimizer)([weight], **settings)
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"{self._name()}: the optimizer rejects its settings "
                    f"{', '.join(f'{name}={value!r}' for name, value in settings.items())}: {error}"
                ) from error

    # ---- state: bundles and checkpoints --------------------------------------------------------

    def _features_state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return the state learned by `_fit_features`: plain values for JSON, and arrays."""
        plain: dict[str, Any] = {}
        arrays: dict[str, NDArray[Any]] = {}
        for name, value in vars(self).items():
            if not is_fitted_name(name) or name in _OF_THE_FIT:
                continue
            if isinstance(value, nn.Module):
                for key, part in value.state_dict().items():
                    arrays[f"{name}.{key}"] = part.detach().cpu().numpy()
            elif isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
                arrays[name] = value
            else:
                plain[name] = value
        return plain, arrays

    def _restore_features(
        self, state: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
    ) -> None:
        """Restore the state of `_features_state`; modules in it must have been built before."""
        # JSON turns tuples into lists; the fitted attributes are tuples.
        fitted = {name: tuple(v) if isinstance(v, list) else v for name, v in state.items()}
        modules: dict[str, dict[str, Tensor]] = {}
        for name, array in arrays.items():
            owner, _, key = name.partition(".")
            if key:
                modules.setdefault(owner, {})[key] = torch.from_numpy(array)
            else:
                fitted[name] = array
        for owner, weights in modules.items():
            module = vars(self).get(owner)
            if not isinstance(module, nn.Module) or owner in _OF_THE_FIT:
                raise ValueError(f"{owner!r} is not a module of a fitted {self._name()}")
            module.load_state_dict(weights)
        built = [name for name, part in vars(self).items() if isinstance(part, nn.Module)]
        if set(built) - set(modules):
            raise ValueError(f"there are no weights of {(set(built) - set(modules)).pop()!r}")
        set_fitted(self, fitted, (*_OF_THE_FIT, *built))

    def __crossfit_state__(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return the fitted state: plain values for JSON, and arrays.

        The weights of the network are included, the state of the optimizer is not.
        """
        features, arrays = self._features_state()
        arrays = {f"features.{name}": array for name, array in arrays.items()}
        for name, part in self.net_.module_.state_dict().items():
            arrays[f"module.{name}"] = part.detach().cpu().numpy()
        state: dict[str, Any] = {
            "views_in": self.views_in_,
            "n_features_in": self.n_features_in_,
            "n_inputs": self.n_inputs_,
            "n_classes": self.n_classes_,
            "amp": self.net_.amp,
            "history": [{k: v for k, v in r.items() if k != "batches"} for r in self.net_.history],
            "features": features,
        }
        classes = getattr(self, "classes_", None)
        if classes is not None and classes.dtype.kind in "OU":
            state["classes"] = classes.tolist()
        elif classes is not None:
            arrays["classes"] = classes
        return json.loads(json.dumps(state, default=float)), arrays

    def __crossfit_restore__(
        self, state: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
    ) -> None:
        """Restore the result of `__crossfit_state__` on an instance with the same parameters."""
        parts: dict[str, dict[str, NDArray[Any]]] = {"features": {}, "module": {}}
        for name, array in arrays.items():
            where, _, key = name.partition(".")
            if where in parts:
                parts[where][key] = array
        if "classes" in arrays:
            self.classes_ = arrays["classes"]
        elif "classes" in state:
            self.classes_ = np.array(state["classes"])
        self.n_inputs_, self.n_classes_ = dict(state["n_inputs"]), state["n_classes"]
        # The network may depend on the names of the views.
        self.n_features_in_ = dict(state["n_features_in"])
        self.views_in_ = dict(state["views_in"])
        try:
            device = torch.device(resolve_device(self.device))
        except ValueError:  # fitted on a machine with a GPU
            device = torch.device("cpu")
        with isolated(), seeded(0, device):  # initial weights, which are overwritten
            self._restore_features(state["features"], parts["features"])
            # The sizes in a bundle are not trusted before they are compared with its weights.
            with _no_larger_than(parts["module"].values()):
                module = self._built(self.n_inputs_, self.n_classes_)
        module.load_state_dict({k: torch.from_numpy(v) for k, v in parts["module"].items()})
        self.net_ = make_net(
            module.eval(),
            device=device,
            optimizer=self.optimizer,
            lr=self.lr,
            max_epochs=self.max_epochs,
            batch_size=self.batch_size,
            **{f"optimizer__{k}": part for k, part in self._optimizer_parameters().items()},
        )
        self.net_.amp = bool(state["amp"]) and self._use_amp(device)
        for row in state["history"]:
            self.net_.history.append({**row, "batches": []})


class _Bounded(TorchDispatchMode):
    """Context in which an error is raised before new tensors exceed a number of bytes."""

    def __init__(self, n_bytes: int) -> None:
        super().__init__()
        self.left = n_bytes

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        makes = any(argument.name == "device" for argument in func._schema.arguments)
        if makes and str(kwargs.get("device")) != "meta":
            try:
                planned = func(*args, **{**kwargs, "device": torch.device("meta")})
            except (RuntimeError, NotImplementedError):  # for tensors that already exist
                return func(*args, **kwargs)
            dense = isinstance(planned, Tensor) and planned.layout == torch.strided
            self.left -= _TENSOR + (planned.nbytes if dense else 0)
            if self.left < 0:
                raise ValueError("the network would be far larger than the weights in the bundle")
        return func(*args, **kwargs)


def _no_larger_than(weights: Iterable[NDArray[Any]]) -> _Bounded:
    """Limit the tensors made inside the block to a few times the weights (there are copies)."""
    return _Bounded(2**26 + 4 * sum(part.nbytes + _TENSOR for part in weights))


def _is_prefixed(name: str) -> bool:
    prefix, _, rest = name.partition("__")
    return prefix in PREFIXES and bool(rest)


def _instances(callbacks: Any) -> list[Any]:
    return [cb[-1] if isinstance(cb, (tuple, list)) and len(cb) == 2 else cb
            for cb in callbacks or ()]  # fmt: skip


def _with_identity(item: Any, identity: Mapping[str, str]) -> Any:
    """Return an entry of ``callbacks``; a checkpoint as a copy with the identity of the fit."""
    named = isinstance(item, (tuple, list))
    callback = item[1] if named else item
    if isinstance(callback, Checkpoint):
        callback = copy.copy(callback)
        callback.identity_ = dict(identity)
    return (item[0], callback) if named else callback


def _n_inputs(part: Store) -> Any:
    if isinstance(part, ChannelStore):
        return {name: _n_inputs(channel) for name, channel in part.parts.items()}
    return part.n_inputs
