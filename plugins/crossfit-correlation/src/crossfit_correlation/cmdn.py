"""CMDN: cross-media multiple deep networks (Peng, Huang and Qi, IJCAI 2016)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval
from torch import Tensor, nn

from crossfit.neural import RBM, Batch, Items, MLPBranch, Standardize, init_weights, label_loss
from crossfit.views import Views, as_float
from crossfit_correlation import cards
from crossfit_correlation.layers import LENGTH
from crossfit_correlation.multimodal_dbn import DeepBeliefNetwork
from crossfit_correlation.stages import Classifier, StagedEstimator

__all__ = ["CMDN"]

# Steps of mean-field inference of the missing view, as in the authors' code.
_STEPS = 10


class LabelledAE(nn.Module):
    """One layer of the stacked bimodal autoencoders: a code of both views or of either one.

    Parameters
    ----------
    roles : sequence of str
        The views.
    n_inputs : int
        Width of the input, the same for all views.
    width : int
        Number of logistic units of the code.
    n_classes : int
        Number of classes.
    bounded : bool
        Whether the inputs are numbers from 0 to 1, which logistic units reconstruct; linear ones
        reconstruct others.
    """

    def __init__(
        self, roles: Sequence[str], n_inputs: int, width: int, n_classes: int, bounded: bool
    ) -> None:
        super().__init__()
        self.into = nn.ModuleDict({role: nn.Linear(n_inputs, width, bias=False) for role in roles})
        self.bias = nn.Parameter(torch.zeros(width))
        self.back = nn.ModuleDict({role: nn.Linear(width, n_inputs) for role in roles})
        self.head = nn.Linear(width, n_classes)
        self.bounded = bounded
        init_weights(self, "sigmoid")

    def code(self, given: Mapping[str, Tensor]) -> Tensor:
        """Return the code of rows of one or more views, the others being zero, (b, width)."""
        parts = [self.into[role](x) for role, x in given.items()]
        return (torch.stack(parts).sum(dim=0) + self.bias).sigmoid()

    def forward(self, given: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return reconstructions of all views and class scores, from each of the three inputs."""
        sources = [{role: x} for role, x in given.items()] + [dict(given)]
        codes = torch.cat([self.code(source) for source in sources])
        rebuilt = {role: layer(codes) for role, layer in self.back.items()}
        if self.bounded:
            rebuilt = {role: x.sigmoid() for role, x in rebuilt.items()}
        return {
            "rebuilt": [rebuilt[role].chunk(len(sources)) for role in given],
            "scores": self.head(codes).chunk(len(sources)),
        }

    def encode(self, items: Items, role: str) -> Tensor:
        """Return the codes of one view."""
        return self.code({role: items.values})


class Trunk(nn.Module):
    """All stages of CMDN before the last bimodal autoencoder.

    Parameters
    ----------
    n_inputs : mapping of str to int
        Width of the features by role.
    n_classes : int
        Number of classes.
    sae, dbn : mapping of str to sequence of int
        Layers of the autoencoders and of the belief networks, by role.
    visible : mapping of str to str
        Kind of the features by role.
    dbn_width : int
        Hidden units of the machine on top of both belief networks.
    fused : int
        Hidden units of the machines that fuse both features of a view.
    hidden : sequence of int
        Layers of the classifiers.
    codes : sequence of int
        Widths of the bimodal autoencoders but the last.
    rescale : bool
        Whether the inputs of machines and autoencoders are standardised.
    weight_decay : mapping of str to float
        Of the machines, by stage.
    """

    low: Tensor
    high: Tensor

    def __init__(
        self,
        n_inputs: Mapping[str, int],
        n_classes: int,
        *,
        sae: Mapping[str, Sequence[int]],
        dbn: Mapping[str, Sequence[int]],
        visible: Mapping[str, str],
        dbn_width: int,
        fused: int,
        hidden: Sequence[int],
        codes: Sequence[int],
        rescale: bool,
        weight_decay: Mapping[str, float],
    ) -> None:
        super().__init__()
        roles = list(n_inputs)
        self.roles = roles
        self.scaling = nn.ModuleDict({role: Standardize(n) for role, n in n_inputs.items()})
        self.encoders = nn.ModuleDict(
            {role: MLPBranch([n, *sae[role]], last_activation=nn.ReLU)
             for role, n in n_inputs.items()}
        )  # fmt: skip
        # Range of the autoencoders' units over the training items.
        self.register_buffer("low", torch.zeros(len(roles)))
        self.register_buffer("high", torch.ones(len(roles)))
        self.beliefs = DeepBeliefNetwork(
            n_inputs, units=visible, hidden=dbn, width=dbn_width, length=LENGTH,
            l2=weight_decay["dbn"],
        )  # fmt: skip
        n_both = {role: sae[role][-1] + dbn_width for role in roles}
        self.of_both = nn.ModuleDict(
            {role: Standardize(n) if rescale else nn.Identity() for role, n in n_both.items()}
        )
        self.fusions = nn.ModuleDict(
            {role: RBM(n, fused, "gaussian" if rescale else "bernoulli",
                       l2=weight_decay["fusion"])
             for role, n in n_both.items()}
        )  # fmt: skip
        self.between = nn.ModuleDict({role: Standardize(fused) for role in roles})
        self.classifiers = nn.ModuleDict(
            {role: Classifier(fused, hidden, n_classes) for role in roles}
        )
        # One module that standardises for every autoencoder's input, the last one's included.
        self.of_codes = nn.ModuleList(
            nn.ModuleDict({role: Standardize(n) if rescale else nn.Identity() for role in roles})
            for n in [hidden[-1], *codes]
        )
        self.autoencoders = nn.ModuleList(
            LabelledAE(roles, n, width, n_classes, bounded=i > 0 and not rescale)
            for i, (n, width) in enumerate(pairwise([hidden[-1], *codes]))
        )
        init_weights(self.encoders)

    def separate(self, x: Tensor, role: str) -> Tensor:
        """Return the features that the autoencoder of one view makes, before they are scaled."""
        return self.encoders[role](self.scaling[role](x))

    def scaled(self, x: Tensor, role: str) -> Tensor:
        """Return the autoencoder's features as numbers from 0 to 1."""
        i = self.roles.index(role)
        return ((x - self.low[i]) / (self.high[i] - self.low[i])).clamp(0, 1)

    def shared(self, x: Tensor, role: str) -> Tensor:
        """Return the units of the joint machine, the other view being inferred, (b, dbn_width)."""
        return self.beliefs.mean_field(self.beliefs.top(x, role), role, _STEPS).to(x)

    def both(self, x: Tensor, role: str) -> Tensor:
        """Return both features of one view side by side, numbers from 0 to 1."""
        separate = self.scaled(self.separate(x, role), role)
        return torch.cat([separate, self.shared(x, role)], dim=1)

    def intermediate(self, x: Tensor, role: str) -> Tensor:
        """Return the standardised units of the machine that fuses both features."""
        fusion: Any = self.fusions[role]
        found: Tensor = self.between[role](fusion.hidden(self.of_both[role](self.both(x, role))))
        return found

    def encode(self, items: Items, role: str) -> Tensor:
        """Return the input of the last bimodal autoencoder."""
        classifier: Any = self.classifiers[role]
        x: Tensor = classifier.body(self.intermediate(items.values, role))
        for i, scalings in enumerate(self.of_codes):
            x = scalings[role](x)  # type: ignore[index]
            if i < len(self.autoencoders):
                x = self.autoencoders[i].code({role: x})  # type: ignore[operator]
        return x


class CMDN(StagedEstimator):
    r"""Cross-media multiple deep networks (CMDN).

    The stages are trained one after the other, each on the outputs of the one before:

    1. ``sae``: per view, an autoencoder of rectified linear layers, one layer at a time. Its codes
       are the features of the view alone.
    2. ``dbn``: per view, a deep belief network, and a restricted Boltzmann machine on top of both.
       Its units, when the other view is inferred by ten steps of mean field, are the features
       that the views share.
    3. ``fusion``: per view, a restricted Boltzmann machine on both features, with those of the
       autoencoder scaled to [0, 1] by their training range.
    4. ``classifier``: per view, rectified linear layers that are trained to classify the units of
       the machine, standardised by their training mean and deviation.
    5. ``bae`` and the network that is trained last: bimodal autoencoders, each on the code of the
       one before, with one logistic code of both views. Each learns from (x, z), (x, 0) and
       (0, z), rows of a pair and of each of its items, with the loss

       .. math:: \|x - \hat x\|^2 + \|z - \hat z\|^2 - \log p(y)

       averaged over the rows, where p are the class probabilities of a linear classifier of the
       code. The last one is trained for `max_epochs`.

    Items are compared by the cosine of their codes in the last autoencoder, standardised by the
    mean and deviation of the training items.

    Rows labelled -1 have no label loss. There are no negatives: with several captions per image,
    every caption is a pair of its image.

    The defaults are for a few thousand pairs; see Notes for the paper's settings.

    Parameters
    ----------
    sae : sequence of int, or dict of str to sequence of int, default=(128, 64)
        Layers of the autoencoders, or of those of each view by role.
    dbn : sequence of int, or dict of str to sequence of int, default=(128, 64)
        Layers of the belief networks, or of those of each view by role.
    visible : str, or dict of str to str, default="gaussian"
        Kind of the features for the belief networks, or of those of each view: "gaussian", which
        are standardised, "replicated-softmax" for counts of words, or "bernoulli" for numbers
        from 0 to 1.
    dbn_width : int, default=64
        Hidden units of the machine on top of both belief networks.
    fused : int, default=128
        Hidden units of the machines that fuse both features of a view.
    hidden : sequence of int, default=(128, 128)
        Layers of the classifiers.
    codes : sequence of int, default=(64, 32)
        Widths of the bimodal autoencoders.
    rescale : bool, default=True
        Standardise the inputs of the stages ``fusion`` and ``bae`` by their training means and
        deviations; the machines then have Gaussian visible units, and the autoencoders linear
        outputs. If not, these units are logistic, as in the paper: their inputs differ little, so
        that far more epochs are needed.
    stages : dict of str to dict, optional
        Settings of the stages ``sae``, ``dbn``, ``fusion``, ``classifier`` and ``bae`` (all but the
        last one) in place of their defaults: ``max_epochs`` (per layer), ``lr``, ``batch_size`` and
        ``weight_decay``. For instance ``stages={"dbn": {"max_epochs": 50}}``. `optimizer` is that
        of all stages but the machines, which are trained by CD-1.
    max_epochs : int, default=50
        Number of passes of the last stage over the training pairs.
    lr : float, default=0.001
        Learning rate of the last stage.
    batch_size : int, default=100
        Number of pairs per batch, in all stages that do not set it.
    **kwargs
        See `crossfit.neural.NeuralEstimator`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Classes of the training labels.
    net_ : skorch.NeuralNet
        The last stage. Its history contains ``train_reconstruction`` and ``train_labels``.

    Raises
    ------
    ValueError
        In `fit`, if there are fewer than two classes.

    See Also
    --------
    CCL : A later method of the same authors, with patches.

    Notes
    -----
    The settings of the authors' code are in the experiment ``peng-2016-cmdn-wikipedia``. It differs
    in the following points. There, codes are standardised, and the ranges of the autoencoders
    computed, on the test items, so that the scores of a query depend on the other queries. Its
    autoencoders and its first bimodal autoencoder reconstruct their inputs by logistic units,
    which cannot exceed 1; here linear ones reconstruct standardised features and rectified units.

    References
    ----------
    Y. Peng, X. Huang, J. Qi, Cross-media shared representation by hierarchical learning with
    multiple deep networks, IJCAI 2016, 3846-3853.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit_correlation.cmdn import CMDN
    >>> from crossfit_correlation.testing import make_inputs
    >>> views, y = make_inputs(np.random.default_rng(0), 60)
    >>> small = {"sae": (8,), "dbn": (8,), "dbn_width": 8, "fused": 8, "hidden": (8,)}
    >>> method = CMDN(**small, codes=(6, 4), max_epochs=2, device="cpu", random_state=0)
    >>> method.fit(views, y).transform(views)["text"].shape
    (60, 4)
    """

    card = cards.CMDN

    _stages: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "sae": {"max_epochs": 20, "lr": 1e-3},
        "dbn": {"max_epochs": 20, "lr": 0.01},
        "fusion": {"max_epochs": 20, "lr": 0.01},
        "classifier": {"max_epochs": 20, "lr": 1e-3},
        "bae": {"max_epochs": 30, "lr": 1e-3},
    }
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **StagedEstimator._parameter_constraints,
        "sae": [list, tuple, dict],
        "dbn": [list, tuple, dict],
        "visible": [str, dict],
        "dbn_width": [Interval(Integral, 1, None, closed="left")],
        "fused": [Interval(Integral, 1, None, closed="left")],
        "hidden": [list, tuple],
        "codes": [list, tuple],
    }

    def __init__(
        self,
        *,
        sae: Sequence[int] | Mapping[str, Sequence[int]] = (128, 64),
        dbn: Sequence[int] | Mapping[str, Sequence[int]] = (128, 64),
        visible: str | Mapping[str, str] = "gaussian",
        dbn_width: int = 64,
        fused: int = 128,
        hidden: Sequence[int] = (128, 128),
        codes: Sequence[int] = (64, 32),
        rescale: bool = True,
        stages: Mapping[str, Mapping[str, float]] | None = None,
        max_epochs: int = 50,
        lr: float = 1e-3,
        batch_size: int = 100,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            rescale=rescale,
            stages=stages,
            max_epochs=max_epochs,
            lr=lr,
            batch_size=batch_size,
            **kwargs,
        )
        self.sae = sae
        self.dbn = dbn
        self.visible = visible
        self.dbn_width = dbn_width
        self.fused = fused
        self.hidden = hidden
        self.codes = codes

    def _validate_params(self) -> None:
        super()._validate_params()
        self._sizes_by_role("sae")
        self._sizes_by_role("dbn")
        self._sizes("hidden")
        self._sizes("codes")
        self._visible()

    # ---- the stages ----------------------------------------------------------------------------

    def _stage_values(self, values: Any, role: str) -> Any:
        return as_float(values, f"{self._name()}: view {self._view_name(role)!r}")

    def _build_trunk(self, n_inputs: Mapping[str, Any], n_labels: int) -> Trunk:
        return Trunk(
            n_inputs,
            n_labels,
            sae=self._sizes_by_role("sae"),
            dbn=self._sizes_by_role("dbn"),
            visible=self._visible(),
            dbn_width=self.dbn_width,
            fused=self.fused,
            hidden=self._sizes("hidden"),
            codes=self._sizes("codes")[:-1],
            rescale=self.rescale,
            weight_decay={s: self._stage(s)["weight_decay"] for s in ("dbn", "fusion")},
        )

    def _train_trunk(self, trunk: Trunk, views: Views, labels: NDArray[np.int64]) -> None:
        given = {role: views.distinct(role)[0] for role in self._roles()}
        for i, role in enumerate(self._roles()):
            self._train_autoencoder(trunk, role, given[role])
            separate = self._run(partial(_separate, trunk, role), trunk, given[role])
            trunk.low[i], trunk.high[i] = float(separate.min()), float(separate.max()) + 1e-6
            path: Any = trunk.beliefs.paths[role]
            scaled = self._rescaled(trunk.beliefs.scaling[role], given[role])
            self._train_stack("dbn", path, scaled)

        beliefs = views.map(
            lambda values, role: self._run(
                lambda items: trunk.beliefs.top(items.values, role), trunk, values
            )
        )
        rows = [beliefs.distinct(role) for role in self._roles()]
        pairs = np.hstack([values[index] for values, index in rows])
        self._train_fused("dbn", trunk.beliefs.joint, pairs)

        def body(values: Any, role: str) -> Any:
            both = self._run(lambda items: trunk.both(items.values, role), trunk, values)
            both = self._rescaled(trunk.of_both[role], both)
            fusion: Any = trunk.fusions[role]
            self._train_fused("fusion", fusion, both)
            fused = self._run(lambda items: fusion.hidden(items.values), fusion, both)
            between = self._rescaled(trunk.between[role], fused)
            classifier: Any = trunk.classifiers[role]
            labelled = views.select(role).map(lambda *_: between)
            self._train_classifier("classifier", classifier, labelled, labels)
            return self._run(lambda items: classifier.body(items.values), classifier, between)

        inputs = views.map(body)
        for i, scalings in enumerate(trunk.of_codes):
            inputs = inputs.map(partial(self._standardized, scalings))
            if i == len(trunk.autoencoders):
                break
            layer: Any = trunk.autoencoders[i]
            self._train_part(
                "bae",
                layer,
                lambda module, batch: _from_three(module, batch.views),
                _labelled_loss,
                inputs,
                labels,
            )
            inputs = inputs.map(partial(self._coded, layer))

    def _standardized(self, scalings: Any, values: Any, role: str) -> Any:
        return self._rescaled(scalings[role], values)

    def _coded(self, layer: LabelledAE, values: Any, role: str) -> Any:
        return self._run(lambda items: layer.encode(items, role), layer, values)

    def _train_autoencoder(self, trunk: Trunk, role: str, values: Any) -> None:
        """Train the autoencoder of one view: with one layer, then with two, and so on."""
        x = self._rescaled(trunk.scaling[role], values)
        encoder: Any = trunk.encoders[role]
        layers = [layer for layer in encoder.layers if isinstance(layer, nn.Linear)]
        decoder: list[nn.Module] = []
        for depth, layer in enumerate(layers, 1):
            back = nn.Linear(layer.out_features, layer.in_features)
            init_weights(back)
            decoder = [back, *([nn.ReLU()] if decoder else []), *decoder]
            whole = nn.Sequential(*encoder.layers[: 2 * depth], *decoder)
            self._train_part(
                "sae",
                whole,
                lambda module, batch: module(batch.views["x"].values),
                lambda found, batch: (found - batch.views["x"].values).square().sum(dim=1).mean(),
                Views(x=x),
            )

    # ---- the last stage ------------------------------------------------------------------------

    def _build_module(
        self, n_inputs: dict[str, Any], n_classes: int | None, **module: Any
    ) -> nn.Module:
        (n,) = set(n_inputs.values())
        codes = self._sizes("codes")
        bounded = len(codes) > 1 and not self.rescale
        return LabelledAE(self._roles(), n, codes[-1], self.n_labels_, bounded=bounded)

    def _outputs(self, module: nn.Module, batch: Batch) -> dict[str, Any]:
        return _from_three(module, batch.views)

    def _loss(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        return _labelled_loss(outputs, batch)


def _separate(trunk: Trunk, role: str, items: Items) -> Tensor:
    return trunk.separate(items.values, role)


def _from_three(module: nn.Module, views: Mapping[str, Items]) -> dict[str, Any]:
    return module({role: items.values for role, items in views.items()})  # type: ignore[no-any-return]


def _labelled_loss(outputs: Mapping[str, Any], batch: Batch) -> dict[str, Tensor]:
    """Return the terms of the loss of a bimodal autoencoder with labels, averaged over the rows."""
    assert batch.y is not None
    errors = [
        (items.values - found).square().sum(dim=1).mean()
        for items, rebuilt in zip(batch.views.values(), outputs["rebuilt"], strict=True)
        for found in rebuilt
    ]
    scores = [label_loss(z, batch.y) for z in outputs["scores"]]
    return {
        "reconstruction": torch.stack(errors).sum() / len(scores),
        "labels": torch.stack(scores).mean(),
    }
