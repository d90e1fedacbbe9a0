"""The training loop of neural methods: skorch's, over whole batches of pairs."""

from __future__ import annotations

import contextlib
import copy
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, ClassVar, NoReturn

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import EpochTimer, LRScheduler, PassthroughScoring
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LinearLR

from crossfit._arguments import integer, validated
from crossfit._torch import few_torch_threads
from crossfit._warnings import warn
from crossfit.neural.batching import Batch, Batches, PairData
from crossfit.neural.checkpoint import Checkpoint
from crossfit.neural.health import (
    CHECKED_ROWS,
    DeadUnits,
    TrainingWarning,
    constant,
    due,
    mean_cosine,
    signs,
)
from crossfit.neural.losses import counted_hinges

__all__ = [
    "Net",
    "attached",
    "float32_dropout",
    "listening",
    "make_net",
    "operations_of",
    "optimizer_class",
    "seeded",
    "train_net",
    "warm_up",
]

logger = logging.getLogger("crossfit")

Listener = Callable[[Any, int, Mapping[str, Any]], object]

_LISTENER: ContextVar[Listener | None] = ContextVar("crossfit_listener", default=None)


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Call a function at the end of every epoch of the neural fits inside the block.

    A study prunes in this way: the listener reports a value and raises. It is not a parameter of
    the method, because scikit-learn copies parameters and a copied trial does not prune.

    Parameters
    ----------
    listener : callable
        ``listener(estimator, epoch, record)``: the method being fitted, which can already be
        used; the number of epochs done, from 1; the epoch's row of the history
        (``train_loss``, ``valid_loss``, ...). Its exceptions propagate out of ``fit``. It must
        not draw from torch's random state.

    Yields
    ------
    None

    Raises
    ------
    TypeError
        If the listener is not callable.

    Examples
    --------
    ::

        def report(estimator, epoch, record):
            trial.report(record["valid_loss"], epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

        with listening(report):
            method.fit(views, y)
    """
    if not callable(listener):
        raise TypeError(
            "listening expects a function (estimator, epoch, record), got "
            f"{type(listener).__name__}"
        )
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


@validated(updates=[integer(1)])
def warm_up(updates: int) -> LRScheduler:
    """Return a callback that raises the learning rate linearly over the first updates.

    Update i of n is made with i/n of the learning rate that the fit would otherwise have. The first
    updates of RMSprop are several times larger than the later ones, since its estimate of the
    squared gradients starts at zero.

    Parameters
    ----------
    updates : int
        Number n of updates, which are batches.

    Returns
    -------
    skorch.callbacks.LRScheduler
        For ``callbacks`` or for a method's `_schedule`, before or after other schedules that
        multiply the current learning rate, such as ``StepLR``, ``ExponentialLR`` and
        ``CosineAnnealingLR``. ``LambdaLR`` and ``OneCycleLR`` set the learning rate themselves and
        cannot be combined with it.

    Examples
    --------
    >>> from crossfit.neural import warm_up
    >>> warm_up(4).simulate(6, initial_lr=1.0).tolist()
    [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    """
    return LRScheduler(
        LinearLR, start_factor=1 / updates, total_iters=updates - 1, step_every="batch",
        event_name=None,
    )  # fmt: skip


@contextlib.contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch inside the block and restore its random state afterwards.

    Parameters
    ----------
    seed : int
        Seed.
    device : torch.device
        Device on which the network is trained.

    Yields
    ------
    None
    """
    on_cuda = device.type == "cuda"
    at = [torch.cuda.current_device() if device.index is None else device.index] if on_cuda else []
    with torch.random.fork_rng(devices=at):
        # torch.manual_seed would also seed every other device.
        torch.default_generator.manual_seed(seed)
        for index in at:
            with torch.cuda.device(index):
                torch.cuda.manual_seed(seed)
        yield


class Net(NeuralNet):
    """The net that a method holds during and after training; not an estimator to be used alone.

    It differs from skorch's in the batches (a `Batch` is passed to the loss as a whole), in its
    work at the end of an epoch (checkpoints, the listener, a check for NaN), and in that Ctrl-C
    stops the program instead of only the training.
    """

    # A schedule holds the optimizer, and early stopping holds the best weights.
    cuda_dependent_attributes_: ClassVar[list[str]] = ["callbacks_"]

    owner: Any = None
    outputs: Callable[[nn.Module, Batch], Any]
    loss: Callable[[Any, Batch], Tensor | Mapping[str, Tensor]]
    amp: bool = False

    @property
    def _default_callbacks(self) -> list[tuple[str, Any]]:
        return [
            ("epoch_timer", EpochTimer()),
            ("train_loss", PassthroughScoring(name="train_loss", on_train=True)),
            ("valid_loss", PassthroughScoring(name="valid_loss")),
        ]

    # ---- steps -------------------------------------------------------------------------------

    def _loss(self, batch: Batch, prefix: str) -> dict[str, Any]:
        outputs = self._autocast(self.outputs, self.module_, batch)
        with counted_hinges() as hinges:
            found = self.loss(outputs, batch)
        if isinstance(found, Mapping):
            for name, term in found.items():
                # Stays on the device: reading each value would make the CPU wait for the GPU.
                self.history.record_batch(f"{prefix}_{name}", term.detach())
        if hinges:
            active, number = (sum(parts) for parts in zip(*hinges, strict=True))
            share = active / torch.as_tensor(number).clamp(min=1)
            self.history.record_batch(f"{prefix}_active_hinges", share)
        total = self._total(found, prefix)
        if not torch.isfinite(total):
            self._not_finite(f"the {prefix} loss became {total.item()}")
        return {"loss": total, "y_pred": outputs}

    def _autocast(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function of the network in mixed precision, if the fit has it."""
        kind = torch.device(self.device).type
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=self.amp):
            found = function(*arguments)
        return _as_float32(found) if self.amp else found

    def _total(self, found: Tensor | Mapping[str, Tensor], prefix: str) -> Tensor:
        """Return the loss from its terms; in validation, without those that are only shown."""
        if not isinstance(found, Mapping):
            return found
        shown = self.owner._only_shown if prefix == "valid" else ()
        terms = [term for name, term in found.items() if name not in shown]
        return sum(terms, start=torch.zeros((), device=self.device))

    def train_step_single(self, batch: Batch, **fit_params: Any) -> dict[str, Any]:
        """Compute the loss of a whole batch and its gradients."""
        if not self.module_.training:  # setting it on all layers costs as much as a small layer
            self._set_training(True)
        step = self._loss(batch, "train")
        step["loss"].backward()
        return step

    def validation_step(self, batch: Batch, **fit_params: Any) -> dict[str, Any]:
        """Compute the loss of a whole batch without dropout and gradients."""
        self._set_training(False)
        with torch.no_grad():
            return self._loss(batch, "valid")

    def on_batch_end(
        self, net: Any, batch: Any = None, training: bool = False, **kwargs: Any
    ) -> None:
        """Advance the progress bar."""
        self._bar.update(int(training))

    def on_epoch_end(self, net: Any, *args: Any, **kwargs: Any) -> None:
        """Average the terms of the loss over the epoch, as skorch's callbacks do with the loss."""
        row = self.history[-1]
        for prefix in ("train", "valid"):
            taken = [batch for batch in row["batches"] if f"{prefix}_batch_size" in batch]
            weights = [batch[f"{prefix}_batch_size"] for batch in taken]
            for name in taken[0] if taken else ():
                known = name in (f"{prefix}_loss", f"{prefix}_batch_size")
                if name.startswith(f"{prefix}_") and not known:
                    values = torch.stack([batch[name] for batch in taken]).tolist()
                    self.history.record(name, float(np.average(values, weights=weights)))

    # ---- the loop ----------------------------------------------------------------------------

    def train(
        self,
        train: PairData,
        valid: PairData | None,
        *,
        saved: Mapping[str, Any] | None,
        listen: bool,
    ) -> None:
        """Train up to ``max_epochs``, starting from a checkpoint's state if one is given."""
        generator = torch.Generator().manual_seed(torch.initial_seed())
        self.iterator_train__generator = generator
        batches = self.get_iterator(train, training=True)
        batches_valid = None if valid is None else self.get_iterator(valid, training=False)
        data = {"dataset_train": train, "dataset_valid": valid}
        self.notify("on_train_begin", X=train, y=None)
        checkpoints = [cb for _, cb in self.callbacks_ if isinstance(cb, Checkpoint)]
        stopped = False
        if saved is not None:
            stopped = checkpoints[0].restore(saved, self, generator)
            what = "had been stopped by a callback after" if stopped else "resumes from"
            logger.info("%s %s epoch %d", self._name(), what, len(self.history))
        elif checkpoints:
            checkpoints[0].callback_states(self)  # raises before any work if it cannot be kept
        self._good = copy.deepcopy(self.module_.state_dict())
        # Checks of the network take other rows each time, the same ones in a resumed fit.
        order = torch.randperm(
            len(train), generator=torch.Generator().manual_seed(generator.initial_seed())
        )
        n_checked = min(self._n_checked(), len(train))
        warned: set[str] = set()
        done = len(self.history)
        with self._progress(len(batches), done) as self._bar:
            while done < self.max_epochs and not stopped:
                for each in filter(None, (batches, batches_valid)):
                    each.progress, each.epoch = done / self.max_epochs, done
                self.notify("on_epoch_begin", **data)
                self.run_single_epoch(batches, True, "train", self.train_step)
                if batches_valid is not None:
                    # Losses that draw negatives draw the same ones at every epoch, so that two
                    # epochs differ by the weights alone.
                    with seeded(generator.initial_seed(), torch.device(self.device)):
                        self.run_single_epoch(batches_valid, False, "valid", self.validation_step)
                self._check_weights()
                if due(done + 1, len(train), n_checked):
                    with seeded(generator.initial_seed(), torch.device(self.device)):
                        first = done * n_checked % len(train)
                        at = order.roll(-first)[:n_checked]
                        measured = self.measure(train.batch(at, done / self.max_epochs))
                    for name, value in measured.items():
                        self.history.record(name, value)
                stopped = self._end_epoch(data)
                done += 1
                found = signs(self._name(), list(self.history), done * len(batches))
                for kind in found.keys() - warned:
                    warn(found[kind], TrainingWarning)
                warned |= found.keys()
                for checkpoint in checkpoints:
                    if done % checkpoint.every == 0 or stopped or done == self.max_epochs:
                        checkpoint.write(self, generator, stopped)
                listener = _LISTENER.get()
                if listen and listener is not None:
                    listener(self.owner, done, _scalars(self.history[-1]))
        self.notify("on_train_end", X=train, y=None)

    def _end_epoch(self, data: Mapping[str, Any]) -> bool:
        """Run the callbacks at the end of an epoch; return True if one of them stops the fit."""
        stopped = False
        try:
            self.notify("on_epoch_end", **data)
        except KeyboardInterrupt:  # raised by skorch's callbacks to stop
            stopped = True
        row = self.history[-1]
        row["batches"].clear()  # would become larger than the model
        self._bar.set_postfix(_shown(row), refresh=False)
        logger.debug("%s: %s", self._name(), row)
        return stopped

    def _n_checked(self) -> int:
        # The scores of all pairs of a larger batch than in training may not fit into memory.
        pairs = hasattr(self.owner, "_score_pairs")
        return self.batch_size if pairs else max(self.batch_size, CHECKED_ROWS)

    def measure(self, batch: Batch) -> dict[str, float]:
        """Measure signs of failure on a batch, without gradients or dropout.

        Parameters
        ----------
        batch : Batch
            Training pairs.

        Returns
        -------
        dict of str to float
            ``dead_units``: share of the ReLU units that are zero for all items; only if there are
            some. ``checked_loss`` and ``constant_loss``: the loss, and the loss if all items had
            the mean of the outputs, or all pairs the mean score. ``cosine_`` and a role: mean
            cosine of the outputs of different items of the view; for scores of pairs, of the
            prepared items, the largest among their tensors.
        """
        self._set_training(False)
        owner = self.owner
        pairs = hasattr(owner, "_score_pairs")
        found: dict[str, float] = {}
        with torch.no_grad():
            with DeadUnits() as units:
                outputs = self._autocast(self.outputs, self.module_, batch)
            if units.share is not None:
                found["dead_units"] = units.share
            found["checked_loss"] = self._total(self.loss(outputs, batch), "valid").item()
            try:
                same = self.loss(constant(outputs, len(batch), pairs), batch)
                found["constant_loss"] = self._total(same, "valid").item()
            except (ValueError, RuntimeError):  # not defined for constant outputs
                pass
        if self.outputs == owner._outputs:  # the whole method, not a part trained beforehand
            for role, items in batch.views.items():
                _, index = np.unique(batch.item[role].cpu().numpy(), return_index=True)
                if len(index) < 2:
                    continue
                parts = self._items_outputs(role, items, pairs)
                cosines = [mean_cosine(part[torch.from_numpy(index)]) for part in parts]
                if cosines:
                    found[f"cosine_{role}"] = max(cosines)
        return found

    def _items_outputs(self, role: str, items: Any, pairs: bool) -> list[Tensor]:
        """Return what the network computes from each item of a view, one tensor or several."""
        owner = self.owner
        if not pairs:
            with torch.no_grad():
                return [self._autocast(owner._encode_batch, self.module_, items, role)]
        # Among the prepared tensors may be inputs and masks, which no weight has changed.
        with torch.enable_grad():
            prepared = self._autocast(owner._prepare_batch, self.module_, items, role)
        return [part.detach() for part in _tensors(prepared) if part.requires_grad]

    def _check_weights(self) -> None:
        state = self.module_.state_dict()
        sums = [w.sum() for w in state.values() if w.is_floating_point()]
        if sums and not torch.isfinite(torch.stack(sums)).all():
            self._not_finite("the weights became NaN or infinite")
        for name, kept in self._good.items():
            kept.copy_(state[name])

    def _not_finite(self, what: str) -> NoReturn:
        epoch = len(self.history)
        rates = sorted({group["lr"] for group in self.optimizer_.param_groups})
        self.module_.load_state_dict(self._good)
        kept = f"; the weights after epoch {epoch - 1} are kept" if epoch > 1 else ""
        raise FloatingPointError(
            f"{self._name()}: {what} in epoch {epoch} with lr "
            f"{' and '.join(f'{rate:g}' for rate in rates)}; lower lr, or check the scale of the "
            f"features{kept}"
        )

    def _name(self) -> str:
        return type(self.owner).__name__

    def _progress(self, n_batches: int, done: int) -> Any:
        from tqdm import tqdm

        shown = getattr(self.owner, "verbose", False)
        on_terminal = sys.stderr is not None and sys.stderr.isatty()
        return tqdm(
            total=n_batches * self.max_epochs,
            initial=n_batches * done,
            desc=self._name(),
            unit="batch",
            delay=2.0 if shown == "auto" else 0.0,
            leave=False,
            disable=not (on_terminal if shown == "auto" else shown),
        )


def make_net(
    module: nn.Module,
    *,
    device: torch.device,
    optimizer: str | type[torch.optim.Optimizer],
    lr: float,
    max_epochs: int,
    batch_size: int,
    callbacks: Any = None,
    **prefixed: Any,
) -> Net:
    """Build a net around a module, ready to train or to use.

    Parameters
    ----------
    module : Module
        Moved to the device.
    device : torch.device
        Where the network runs.
    optimizer, lr, max_epochs, batch_size, callbacks, **prefixed
        As in `NeuralEstimator`.

    Returns
    -------
    Net
        An initialized net.
    """
    net = Net(
        module,
        criterion=nn.Identity,  # the loss is a method of the owner
        optimizer=optimizer_class(optimizer),
        lr=lr,
        max_epochs=max_epochs,
        batch_size=batch_size,
        iterator_train=Batches,
        iterator_valid=Batches,
        train_split=None,
        callbacks=_own(callbacks),
        verbose=0,
        device=str(device),
        **{"iterator_train__shuffle": True, **prefixed},
    )
    net.initialize()
    net.module = type(module)  # skorch handles tensors on a GPU only in module_
    return net


def train_net(
    net: Net,
    owner: Any,
    outputs: Callable[[nn.Module, Batch], Any],
    loss: Callable[[Any, Batch], Tensor | Mapping[str, Tensor]],
    train: PairData,
    valid: PairData | None = None,
    *,
    saved: Mapping[str, Any] | None = None,
    listen: bool = False,
) -> None:
    """Train a net.

    Parameters
    ----------
    net : Net
        As `make_net` returns it.
    owner : NeuralEstimator
        Provides the name for messages and ``verbose`` for the progress bar.
    outputs : callable
        ``outputs(module, batch)``: the input of the loss.
    loss : callable
        ``loss(outputs, batch)``: a scalar, or named scalars, which are added up and recorded in
        the history.
    train, valid : PairData
        Pairs to train on, and held-out pairs, which are optional.
    saved : mapping, optional
        Content of a checkpoint from which to resume.
    listen : bool, default=False
        Whether the listener of `listening` is called during this training.

    Raises
    ------
    FloatingPointError
        If the loss or a weight is no longer finite. The net then has the weights after the last
        epoch in which all were finite.
    """
    elements = sum(part.elements for part in train.stores.values())
    # The backward pass costs about twice as much as the forward pass.
    operations = 3 * operations_of(net.module_, net.batch_size, elements)
    # Held-out pairs have the same stores.
    with (
        contextlib.closing(train),
        attached(net, owner, outputs, loss),
        float32_dropout(net.module_) if net.amp else contextlib.nullcontext(),
        few_torch_threads(operations),
    ):
        net.train(train, valid, saved=saved, listen=listen)


@contextlib.contextmanager
def attached(
    net: Net,
    owner: Any,
    outputs: Callable[[nn.Module, Batch], Any],
    loss: Callable[[Any, Batch], Tensor | Mapping[str, Tensor]],
) -> Iterator[None]:
    """Assign an owner to a net inside the block; the net is kept and pickled without it.

    Parameters
    ----------
    net, owner, outputs, loss
        As in `train_net`.

    Yields
    ------
    None
    """
    net.owner, net.outputs, net.loss = owner, outputs, loss
    try:
        yield
    finally:
        # Nor are the order of the data and spare weights kept.
        for name in ("owner", "outputs", "loss", "_bar", "_good", "iterator_train__generator"):
            net.__dict__.pop(name, None)
        net.module_.eval()


@contextlib.contextmanager
def float32_dropout(module: nn.Module) -> Iterator[None]:
    """Drop units of 16-bit numbers in float32 inside the block.

    On CUDA, torch draws eight random numbers per thread for 16-bit numbers but advances its
    generator by four (seen in 2.11), so that half of the units that one call drops are dropped by
    the next one too. Two branches of one width would then drop the same units of paired items, and
    recognise the pairs by them instead of by their content.

    Parameters
    ----------
    module : torch.nn.Module
        The network; its `torch.nn.Dropout` layers are changed.

    Yields
    ------
    None
    """

    def dropped(part: nn.Dropout) -> Callable[[Tensor], Tensor]:
        return lambda x: F.dropout(x.float(), part.p, part.training).to(x.dtype)

    layers = [part for part in module.modules() if isinstance(part, nn.Dropout)]
    for part in layers:
        part.forward = dropped(part)  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        for part in layers:
            del part.forward


def operations_of(module: nn.Module, rows: int, elements: int) -> float:
    """Return the approximate number of operations of a network on rows of several elements.

    Every weight is assumed to be applied to every element once. This is right for layers, and an
    overestimate for layers above a mean over the elements. Embedding lookups cost nothing.

    Parameters
    ----------
    module : torch.nn.Module
        The network.
    rows : int
        Number of rows.
    elements : int
        Number of elements per row, such as words or regions.

    Returns
    -------
    float
    """
    looked_up = {
        id(part.weight)
        for part in module.modules()
        if isinstance(part, (nn.Embedding, nn.EmbeddingBag))
    }
    weights = sum(part.numel() for part in module.parameters() if id(part) not in looked_up)
    return 2.0 * weights * rows * max(elements, 1)


def optimizer_class(optimizer: str | type[torch.optim.Optimizer]) -> type[torch.optim.Optimizer]:
    """Return a class of `torch.optim` by its name, or the given class.

    Parameters
    ----------
    optimizer : str or type
        Name of a class in `torch.optim`, or such a class.

    Returns
    -------
    type

    Raises
    ------
    ValueError
        If it is not an optimizer.
    """
    found = getattr(torch.optim, optimizer, None) if isinstance(optimizer, str) else optimizer
    if not (isinstance(found, type) and issubclass(found, torch.optim.Optimizer)):
        raise ValueError(
            "optimizer must be the name of a class in torch.optim, or such a class, got "
            f"{optimizer!r}"
        )
    return found


def _own(callbacks: Any) -> list[Any] | None:
    """Copy the callbacks: training changes their attributes, but parameters must not change."""
    if callbacks is None:
        return None
    return [
        (item[0], copy.copy(item[1])) if isinstance(item, (tuple, list)) else copy.copy(item)
        for item in callbacks
    ]


def _as_float32(outputs: Any) -> Any:
    if isinstance(outputs, Tensor):
        return outputs.float() if outputs.is_floating_point() else outputs
    if isinstance(outputs, Mapping):
        return {name: _as_float32(part) for name, part in outputs.items()}
    if isinstance(outputs, (tuple, list)):
        return tuple(_as_float32(part) for part in outputs)
    return outputs


def _tensors(parts: Any) -> Iterator[Tensor]:
    if isinstance(parts, Tensor):
        yield parts
    elif isinstance(parts, Mapping):
        yield from _tensors(list(parts.values()))
    elif isinstance(parts, (tuple, list)):
        for part in parts:
            yield from _tensors(part)


def _scalars(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "batches"}


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "epoch": row["epoch"],
        **{name: f"{row[name]:.4g}" for name in ("train_loss", "valid_loss") if name in row},
    }
