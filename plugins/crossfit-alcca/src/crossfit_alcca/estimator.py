"""ACMR (Wang et al., ACM MM 2017) and ALCCA, which is ACMR followed by CCA (Vuong et al., 2019)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import signature
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval, Options, StrOptions
from torch import Tensor, nn

from crossfit.neural import (
    Batch,
    CanonicalEstimator,
    NeuralEstimator,
    grad_reverse_schedule,
    hinge,
    in_float64,
    label_loss,
)
from crossfit.neural.batching import flat_rows
from crossfit.neural.training import optimizer_class
from crossfit.similarities import MEASURES
from crossfit_alcca import cards
from crossfit_alcca.network import AdversarialNetwork

__all__ = ["ACMR", "ALCCA"]

# Added under the root of squared distances to make the gradient finite for equal rows.
_EPS = 1e-4


class ACMR(NeuralEstimator):
    r"""Adversarial cross-modal retrieval (ACMR).

    Two projectors, d -> hidden -> width with tanh, map the modalities v and t into one space.
    They minimise the embedding loss

    .. math:: L_{emb} = \alpha L_{imi} + \beta L_{imd} + r L_{reg}

    while a modality classifier D predicts the modality of their outputs. The projectors work
    against it: :math:`\min_{\theta} L_{emb} - \lambda L_{adv}` for the projectors and the label
    predictor, :math:`\min_{\theta_D} L_{adv}` for D. One optimizer solves both, because the
    gradient of :math:`L_{adv}` is reversed between D and the projectors.

    - :math:`L_{imi}`, inter-modal invariance: the mean distance of pairs of items with the same
      label, :math:`\|v_i - t_j^+\|`, plus `negative_weight` times the mean over pairs with
      different labels of :math:`[\mu - \|v_i - t_k^-\|]_+`, with either modality as the anchor
      (a factor of 2). Distances are unsquared.
    - :math:`L_{imd}`, intra-modal discrimination: the cross-entropy of a linear label predictor
      shared by both modalities, summed over them.
    - :math:`L_{reg}`: the squared Frobenius norms of the projectors' weights.
    - :math:`L_{adv} = -\frac1n\sum_i \log D_v(v_i) + \log D_t(t_i)`, which is :math:`2 \ln 2`
      if D predicts at chance.

    The strength of the reversal is :math:`\lambda = w (2 / (1 + e^{-sp}) - 1)`, with w
    `adv_weight`, s `adv_steepness` and p the share of the epochs that are done. A checkpoint
    can therefore be resumed only with the same `max_epochs`.

    Rows labelled -1 have no label loss, and their own pair is their only positive.

    Parameters
    ----------
    hidden : int or dict of str to int, optional
        Width of the hidden layer of the projectors, or of each by role; 2000 for images and 500
        for texts by default.
    width : int, default=200
        Width of the common space.
    modality_hidden : int, default=50
        Width of the modality classifier's hidden layer.
    alpha, beta : float, default=1.0
        Weights of the invariance and of the label loss.
    margin : float, default=5.0
        Margin μ. Distances of tanh outputs reach twice the root of `width`, 28 for 200 units, and
        those between classes start at about 5: with a margin of 1 no negative is ever too near.
    negative_weight : float, default=1.0
        Weight of the negatives in the invariance.
    negatives : {"triplet", None}, default="triplet"
        If None, labels and negatives are dropped from the invariance, which becomes the mean
        distance of matched pairs, as printed in equation 4 of ALCCA. Only the label loss then
        keeps the space from collapsing.
    reg : float, default=0.0001
        Weight r of the decay.
    reg_power : {2, 1}, default=2
        With 1, the norms are summed unsquared, as printed in equation 5 of ALCCA.
    adv_weight : float, default=1.0
        Weight w of the adversary. With 0, D is trained but has no effect on the projectors.
    adv_steepness : float, default=10.0
        Steepness s of the schedule.
    projector_steps : int, default=1
        k of ALCCA's algorithm 1: D is trained on every k-th batch, the projectors on all.
    beta1 : float, default=0.5
        Decay of the first moment, if the optimizer has one (Adam).
    standardize : bool, default=True
        Standardise every feature by its training mean and standard deviation first, because large
        features, such as raw cepstral coefficients, saturate the tanh units.
    measure : str, default="l2"
        Similarity of items, a name in `crossfit.similarities.MEASURES`.
    max_epochs : int, default=50
        Number of passes over the training pairs.
    lr : float, default=0.001
        Learning rate.
    batch_size : int, default=64
        Number of pairs per batch.
    **kwargs
        See `crossfit.neural.NeuralEstimator`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Classes of the training labels.
    net_ : skorch.NeuralNet
        Its history contains ``train_invariance``, ``train_labels``, ``train_decay`` and
        ``train_adversary``, :math:`L_{adv}`. With `validation_fraction`, ``valid_loss`` is
        :math:`L_{emb}` alone, and ``valid_adversary`` is recorded separately.

    Raises
    ------
    ValueError
        In `fit`, if there are fewer than two classes.

    See Also
    --------
    ALCCA : Adds linear CCA of the embeddings.

    Notes
    -----
    Items are vectors, (n, d), possibly sparse, or matrices of one size, (n, r, c), such as
    cepstral coefficients, which are flattened.

    The code released by the authors is not adversarial: the gradient of the modality classifier
    does not reach the projectors. This class implements the method of the paper.

    References
    ----------
    B. Wang, Y. Yang, X. Xu, A. Hanjalic, H. T. Shen, Adversarial cross-modal retrieval, ACM MM
    2017, 154-162. Gradient reversal: Y. Ganin, V. Lempitsky, Unsupervised domain adaptation by
    backpropagation, ICML 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit_alcca.estimator import ACMR
    >>> from crossfit_alcca.testing import make_image_inputs
    >>> views, y = make_image_inputs(np.random.default_rng(0), 100)
    >>> acmr = ACMR(hidden=32, width=16, lr=5e-3, margin=5, max_epochs=10, random_state=0)
    >>> acmr.fit(views, y).transform(views)["text"].shape
    (100, 16)
    """

    card = cards.ACMR

    _hidden: ClassVar[Mapping[str, int]] = {"image": 2000, "text": 500}
    # The strength of the reversal depends on the share of max_epochs.
    _neutral: ClassVar[tuple[str, ...]] = tuple(
        name for name in NeuralEstimator._neutral if name != "max_epochs"
    )
    # The loss that the projectors work against: the lower it is, the worse they are.
    _only_shown: ClassVar[tuple[str, ...]] = ("adversary",)

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **NeuralEstimator._parameter_constraints,
        "hidden": [Interval(Integral, 1, None, closed="left"), dict, None],
        "width": [Interval(Integral, 1, None, closed="left")],
        "modality_hidden": [Interval(Integral, 1, None, closed="left")],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "beta": [Interval(Real, 0, None, closed="left")],
        "margin": [Interval(Real, 0, None, closed="neither")],
        "negative_weight": [Interval(Real, 0, None, closed="left")],
        "negatives": [StrOptions({"triplet"}), None],
        "reg": [Interval(Real, 0, None, closed="left")],
        "reg_power": [Options(Integral, {1, 2})],
        "adv_weight": [Interval(Real, 0, None, closed="left")],
        "adv_steepness": [Interval(Real, 0, None, closed="neither")],
        "projector_steps": [Interval(Integral, 1, None, closed="left")],
        "beta1": [Interval(Real, 0, 1, closed="left")],
        "standardize": ["boolean"],
        "measure": [StrOptions(set(MEASURES))],
    }

    def __init__(
        self,
        *,
        hidden: int | dict[str, int] | None = None,
        width: int = 200,
        modality_hidden: int = 50,
        alpha: float = 1.0,
        beta: float = 1.0,
        margin: float = 5.0,
        negative_weight: float = 1.0,
        negatives: str | None = "triplet",
        reg: float = 1e-4,
        reg_power: int = 2,
        adv_weight: float = 1.0,
        adv_steepness: float = 10.0,
        projector_steps: int = 1,
        beta1: float = 0.5,
        standardize: bool = True,
        measure: str = "l2",
        max_epochs: int = 50,
        lr: float = 1e-3,
        batch_size: int = 64,
        **kwargs: Any,
    ) -> None:
        super().__init__(max_epochs=max_epochs, lr=lr, batch_size=batch_size, **kwargs)
        self.hidden = hidden
        self.width = width
        self.modality_hidden = modality_hidden
        self.alpha = alpha
        self.beta = beta
        self.margin = margin
        self.negative_weight = negative_weight
        self.negatives = negatives
        self.reg = reg
        self.reg_power = reg_power
        self.adv_weight = adv_weight
        self.adv_steepness = adv_steepness
        self.projector_steps = projector_steps
        self.beta1 = beta1
        self.standardize = standardize
        self.measure = measure

    # ---- the parts of the method ---------------------------------------------------------------

    def _build_module(
        self, n_inputs: dict[str, Any], n_classes: int | None, **module: Any
    ) -> nn.Module:
        assert n_classes is not None
        settings = {
            "hidden": self._hidden_by_role(),
            "width": self.width,
            "modality_hidden": self.modality_hidden,
            "standardize": self.standardize,
        }
        return AdversarialNetwork(n_inputs, n_classes, **{**settings, **module})

    def _outputs(self, module: nn.Module, batch: Batch) -> dict[str, Any]:
        assert isinstance(module, AdversarialNetwork)
        strength = self.adv_weight * grad_reverse_schedule(batch.progress, self.adv_steepness)
        learns = module.discriminator_learns(self.projector_steps)
        embedded = [module.encode(items, role) for role, items in batch.views.items()]
        both = torch.cat(embedded)  # one pass through each classifier for both modalities
        return {
            "embedded": embedded,
            "labels": module.label_predictor(both).chunk(2),
            "modalities": module.modality(both, strength, learns).chunk(2),
            "decay": module.decay(self.reg_power),
        }

    def _loss(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        assert batch.y is not None
        first, second = outputs["embedded"]
        return {
            "invariance": self.alpha * self._invariance(first, second, batch),
            "labels": self.beta * _discrimination(outputs["labels"], batch.y),
            "decay": self.reg * outputs["decay"],
            # Added, because its gradient is reversed between classifier and projectors.
            "adversary": _adversary(outputs["modalities"]),
        }

    def _invariance(self, first: Tensor, second: Tensor, batch: Batch) -> Tensor:
        """Return L_imi; the factor 2 is for the two anchors, which have the same distances."""
        if self.negatives is None:
            return 2 * _root((first - second).square().sum(dim=1)).mean()
        assert batch.y is not None
        squares = first.square().sum(dim=1)[:, None] + second.square().sum(dim=1)
        distances = _root((squares - 2 * first @ second.T).clamp(min=0))
        labelled = batch.y >= 0
        same = (batch.y[:, None] == batch.y) & labelled[:, None]
        positives = same | batch.positives
        negatives = labelled[:, None] & labelled & ~same & batch.negatives
        hinges = hinge(self.margin - distances, negatives)
        return 2 * (
            (distances * positives).sum() / positives.sum()
            + self.negative_weight * hinges.sum() / negatives.sum().clamp(min=1)
        )

    def _optimizer_parameters(self) -> dict[str, Any]:
        settings: dict[str, Any] = {}
        if "betas" in signature(optimizer_class(self.optimizer)).parameters:
            settings["betas"] = (self.beta1, 0.999)
        return {**settings, **super()._optimizer_parameters()}

    def _validate_params(self) -> None:
        super()._validate_params()
        self._hidden_by_role()

    def _hidden_by_role(self) -> dict[str, int]:
        given = self._hidden if self.hidden is None else self.hidden
        widths = given if isinstance(given, Mapping) else dict.fromkeys(self._roles(), given)
        if set(widths) != set(self._roles()) or not all(
            isinstance(width, Integral) and not isinstance(width, bool) and width >= 1
            for width in widths.values()
        ):
            raise ValueError(
                f"{self._name()}: hidden must be a number of at least 1, or one for each of "
                f"{' and '.join(self._roles())}, got {given!r}"
            )
        return {role: int(widths[role]) for role in self._roles()}

    def _targets(self, y: NDArray[Any] | None) -> NDArray[Any] | None:
        targets = super()._targets(y)
        if len(self.classes_) < 2:
            raise ValueError(
                f"{self._name()} needs labels of at least two classes, got {len(self.classes_)}"
            )
        return targets

    # ---- features ------------------------------------------------------------------------------

    def _features(self, values: Any, view: str) -> Any:
        """Return vectors (n, d) from vectors or matrices of one size."""
        where = f"{self._name()}: view {self._view_name(view)!r}"
        return flat_rows(values, where, getattr(self, "n_inputs_", {}).get(view))

    # ---- encodings and scores ------------------------------------------------------------------

    def _encode_batch(self, module: nn.Module, items: Any, view: str) -> Tensor:
        assert isinstance(module, AdversarialNetwork)
        scaled = module.scaling[view](items.values.double())
        return in_float64(module.projectors[view], scaled)

    def _own_similarity(self) -> str:
        return self.measure

    # ---- bundles -------------------------------------------------------------------------------

    def __crossfit_restore__(
        self, state: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
    ) -> None:
        """Restore the result of `__crossfit_state__`."""
        arrays = dict(arrays)
        # Version 0.1.0 kept the means and deviations of both views side by side.
        scaling = arrays.pop("features.scaling_", None)
        if scaling is not None:
            at = np.cumsum(list(state["n_inputs"].values()))[:-1]
            for role, part in zip(state["n_inputs"], np.split(scaling, at, axis=1)):
                for name, row in zip(("mean", "scale"), part.astype(np.float32)):
                    arrays[f"module.scaling.{role}.{name}"] = row
        super().__crossfit_restore__(state, arrays)


class ALCCA(CanonicalEstimator, ACMR):
    """Adversarial learning and canonical correlation analysis (ALCCA).

    ACMR's network for sound and text, followed by linear CCA of the embeddings of all training
    pairs, except those held out by `validation_fraction`. Items are compared by the cosine in the
    space of CCA.

    Parameters
    ----------
    n_components : int or None, default=80
        Number of canonical components, 10 to 100 in the paper; at most as many as the ranks of
        the embeddings allow. None for all of these.
    cca_reg : float, default=1.0
        Ridge of CCA, relative to the mean variance of an embedding. The paper uses none, which
        suffices with 8,000 pairs; with a few hundred, components of small variance are noise.
    measure : str, default="cosine"
        Similarity of items, a name in `crossfit.similarities.MEASURES`.
    batch_size : int, default=100
        Number of pairs per batch.
    **kwargs
        As in `ACMR`, but ``hidden`` is 1000 for sounds and 200 for texts by default.

    Attributes
    ----------
    cca_ : crossfit.subspace.CCA
        Fitted on the embeddings; ``cca_.correlations_`` are the canonical correlations.
    classes_, net_
        As in `ACMR`.

    See Also
    --------
    ACMR : The adversarial network alone.
    crossfit.subspace.CCA : The correlation analysis alone.

    Notes
    -----
    This differs from the paper in two points: its equation 1 mixes modality and class labels, and
    its equation 4 has no negatives. Both are as in ACMR here, as the text of the paper states.

    Sounds are vectors or matrices of cepstral coefficients, (n, 20, 161) in the paper, which are
    flattened; texts are vectors. Convert strings in a pipeline, for instance by Doc2Vec.

    References
    ----------
    T.-H. Vuong, T.-H. Pham, T.-T. Nguyen, Q.-T. Ha, An adversarial learning and canonical
    correlation analysis based cross-modal retrieval model, ACIIDS 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit_alcca.estimator import ALCCA
    >>> from crossfit_alcca.testing import make_inputs
    >>> views, y = make_inputs(np.random.default_rng(0), 100)
    >>> views["audio"].shape
    (100, 4, 6)
    >>> alcca = ALCCA(n_components=8, hidden=32, width=16, lr=5e-3, margin=5, max_epochs=10,
    ...               random_state=0)
    >>> alcca.fit(views, y).transform(views)["audio"].shape
    (100, 8)
    """

    card = cards.ALCCA

    _hidden: ClassVar[Mapping[str, int]] = {"audio": 1000, "text": 200}

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **ACMR._parameter_constraints,
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "cca_reg": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        *,
        n_components: int | None = 80,
        cca_reg: float = 1.0,
        measure: str = "cosine",
        batch_size: int = 100,
        **kwargs: Any,
    ) -> None:
        super().__init__(measure=measure, batch_size=batch_size, **kwargs)
        self.n_components = n_components
        self.cca_reg = cca_reg


def _root(squares: Tensor) -> Tensor:
    return (squares + _EPS).sqrt()


def _discrimination(logits: Sequence[Tensor], y: Tensor) -> Tensor:
    """Return L_imd over labelled rows: the sum of the cross-entropies of both modalities."""
    return torch.stack([label_loss(z, y) for z in logits]).sum()


def _adversary(logits: Sequence[Tensor]) -> Tensor:
    """Return L_adv: minus the mean log-probability of the right modality, summed over both."""
    return -torch.stack([z.log_softmax(dim=1)[:, i].mean() for i, z in enumerate(logits)]).sum()
