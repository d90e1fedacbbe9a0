"""CCL: cross-modal correlation learning with multi-grained fusion (Peng et al., TMM 2018)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval
from torch import Tensor, nn

from crossfit.neural import RBM, Batch, Items, Standardize, hinge, init_weights, label_loss
from crossfit.views import Channels, Ragged, Views, as_float
from crossfit_correlation import cards
from crossfit_correlation.corr_ae import CorrespondenceNetwork, correspondence_loss
from crossfit_correlation.stages import BeliefNetwork, Classifier, StagedEstimator, mean_of_parts

__all__ = ["CCL"]

WHOLE, PATCHES = "whole", "patches"
_EPS = 1e-4


class Trunk(nn.Module):
    """All stages of CCL before the last: belief networks, Corr-AEs, fusion, classifiers.

    Parameters
    ----------
    n_inputs : mapping of str to mapping of str to int
        By role and level: width of the features.
    n_labels : int
        Number of classes.
    dbn : mapping of str to sequence of int
        Layers of the belief networks by role.
    visible : mapping of str to str
        Kind of the features by role.
    code : int
        Width of the codes of the Corr-AEs.
    fused : int
        Number of hidden units of the machine that fuses the levels.
    hidden : sequence of int
        Layers of the classifiers.
    rescale : bool
        Whether the inputs of the stages after the first are standardised.
    weight_decay : mapping of str to float
        Of the machines, by stage.
    """

    def __init__(
        self,
        n_inputs: Mapping[str, Mapping[str, int]],
        n_labels: int,
        *,
        dbn: Mapping[str, Sequence[int]],
        visible: Mapping[str, str],
        code: int,
        fused: int,
        hidden: Sequence[int],
        rescale: bool,
        weight_decay: Mapping[str, float],
    ) -> None:
        super().__init__()
        self.levels = list(next(iter(n_inputs.values())))
        self.beliefs = nn.ModuleDict(
            {
                level: nn.ModuleDict(
                    {role: BeliefNetwork(n[level], dbn[role], visible[role], weight_decay["dbn"])
                     for role, n in n_inputs.items()}
                )
                for level in self.levels
            }
        )  # fmt: skip
        self.correspondences = nn.ModuleDict(
            {
                level: CorrespondenceNetwork(
                    {role: dbn[role][-1] for role in n_inputs},
                    reconstructed={role: [role] for role in n_inputs},
                    widths=[code],
                    activation="tanh" if rescale else "sigmoid",
                    last_activation="linear" if rescale else "sigmoid",
                    standardize=rescale,
                )
                for level in self.levels
            }
        )
        n_codes = code * len(self.levels)
        self.of_codes = _scalings(n_inputs, n_codes, rescale)
        self.fusions = nn.ModuleDict(
            {role: RBM(n_codes, fused, "gaussian" if rescale else "bernoulli",
                       l2=weight_decay["fusion"])
             for role in n_inputs}
        )  # fmt: skip
        self.of_fused = _scalings(n_inputs, fused, rescale)
        self.classifiers = nn.ModuleDict(
            {role: Classifier(fused, hidden, n_labels) for role in n_inputs}
        )

    def belief(self, items: Items, role: str, level: str) -> Tensor:
        """Return the features of one level: of patches, the mean over the patches of an item."""
        return mean_of_parts(self.beliefs[level][role], items)  # type: ignore[index]

    def codes(self, features: Mapping[str, Tensor], role: str) -> Tensor:
        """Return the codes of all levels side by side, from the features of every level."""
        parts = []
        for level in self.levels:
            network: Any = self.correspondences[level]
            parts.append(network.encode(Items(features[level]), role))
        return torch.cat(parts, dim=1)

    def fuse(self, codes: Tensor, role: str) -> Tensor:
        """Return the units of the machine that fuses the standardised codes of all levels."""
        rbm: Any = self.fusions[role]
        hidden: Tensor = rbm.hidden(codes)
        return hidden

    def encode(self, items: Any, role: str) -> Tensor:
        """Return the last hidden layer of the classifier, (b, hidden[-1])."""
        features = {level: self.belief(items[level], role, level) for level in self.levels}
        fused = self.fuse(self.of_codes[role](self.codes(features, role)), role)
        classifier: Any = self.classifiers[role]
        found: Tensor = classifier.body(self.of_fused[role](fused))
        return found


class MultiTask(nn.Module):
    """The last stage of CCL: a common space, and class scores from it, per view.

    Parameters
    ----------
    n_inputs : mapping of str to int
        Width of the input by role.
    width : int
        Width of the common space, and of the layer before it.
    n_labels : int
        Number of classes.
    """

    def __init__(self, n_inputs: Mapping[str, int], width: int, n_labels: int) -> None:
        super().__init__()
        self.scaling = nn.ModuleDict({role: Standardize(n, role) for role, n in n_inputs.items()})
        self.first = nn.ModuleDict({role: nn.Linear(n, width) for role, n in n_inputs.items()})
        self.common = nn.ModuleDict({role: nn.Linear(width, width) for role in n_inputs})
        self.heads = nn.ModuleDict({role: nn.Linear(width, n_labels) for role in n_inputs})
        init_weights(self, "sigmoid")

    def shared(self, items: Items, role: str) -> Tensor:
        """Return the layer from which the space and the scores are computed, (b, width)."""
        return self.common[role](self.first[role](self.scaling[role](items.values)).sigmoid())

    def encode(self, items: Items, role: str) -> Tensor:
        """Return the vectors of the common space, (b, width)."""
        return self.shared(items, role).sigmoid()


class CCL(StagedEstimator):
    r"""Cross-modal correlation learning with multi-grained fusion (CCL).

    An item has a coarse level, its vector as a whole, and a fine level, the vectors of its patches
    (regions of an image, segments of a text). The stages are trained one after the other, each on
    the outputs of the one before:

    1. ``dbn``: a deep belief network per view and level. The features of the fine level are the
       mean over the patches of an item.
    2. ``corr``: a `CorrAE` of both views per level, with logistic units.
    3. ``fusion``: per view, a restricted Boltzmann machine on the codes of both levels.
    4. ``classifier``: per view, rectified linear layers that are trained to classify. The last one
       is standardised by its training mean and deviation.
    5. The network that is trained last, for `max_epochs`: per view, a logistic layer and a linear
       one, u. Its logistic outputs s(u) are the common space, with the contrastive loss

       .. math::

           \frac1n \sum_{ij} [y_i = y_j] d_{ij}^2 + [y_i \ne y_j] \max(0, m - d_{ij})^2

       over all images i and texts j of a batch, where :math:`d_{ij}` is their distance; and u has
       a linear classifier, with the cross-entropy of both views.

    Items are compared by the cosine in the common space, standardised by the mean and deviation of
    the training items.

    Without labels, the class of a pair is its image: the captions of one image are of one class,
    and never negatives of each other or of their image. With labels, rows labelled -1 are similar
    to their own group alone, and are not compared with others.

    A view with patches has the channels ``whole``, of shape (n, d), and ``patches``, of shape
    (n, R, d') or ragged. A view without patches, which is an array or has the channel ``whole``
    alone, is its own only patch. If no view has patches, there is no fine level. An item with zero
    patches has zero features in the fine level.

    The defaults are for a few thousand pairs; see Notes for the paper's settings.

    Parameters
    ----------
    dbn : sequence of int, or dict of str to sequence of int, default=(128, 64)
        Layers of the belief networks, or of those of each view by role.
    visible : str, or dict of str to str, default="gaussian"
        Kind of the features, or of those of each view: "gaussian", which are standardised,
        "replicated-softmax" for counts of words, or "bernoulli" for numbers from 0 to 1.
    code : int, default=64
        Width of the codes of the Corr-AEs.
    alpha : float, default=0.7
        Weight of the distance of codes in the Corr-AEs.
    fused : int, default=128
        Number of hidden units of the machines that fuse the levels.
    hidden : sequence of int, default=(128, 128)
        Layers of the classifiers.
    width : int, default=128
        Width of the common space and of the layer before it.
    margin : float, default=1.0
        Margin m of the contrastive loss.
    rescale : bool, default=True
        Standardise the inputs of the stages ``corr``, ``fusion`` and ``classifier`` by their
        training means and deviations; the Corr-AEs then have tanh units and linear outputs, and
        the machines that fuse have Gaussian visible units. If not, all of these units are logistic,
        as in the paper: codes then differ little, and the differences get smaller from stage to
        stage, so that far more epochs are needed.
    stages : dict of str to dict, optional
        Settings of the stages ``dbn``, ``corr``, ``fusion`` and ``classifier`` in place of their
        defaults: ``max_epochs``, ``lr``, ``batch_size`` and ``weight_decay``. For instance
        ``stages={"dbn": {"max_epochs": 50}}``. `optimizer` is that of all stages but the machines,
        which are trained by CD-1.
    max_epochs : int, default=50
        Number of passes of the last stage over the training pairs.
    lr : float, default=0.003
        Learning rate of the last stage.
    batch_size : int, default=100
        Number of pairs per batch, in all stages that do not set it.
    **kwargs
        See `crossfit.neural.NeuralEstimator`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Classes of the training labels, if there are any.
    net_ : skorch.NeuralNet
        The last stage. Its history contains ``train_contrast`` and ``train_labels``.

    See Also
    --------
    CorrAE : The autoencoders of the second stage.
    CMDN : An earlier method of the same authors, without patches.

    Notes
    -----
    The settings of the authors' code are in the experiments ``peng-2018-ccl-pascal-sentences`` and
    ``peng-2018-ccl-flickr30k``. It differs in the following points. There, the common space is
    standardised by the test items, so that the scores of a query depend on the other queries. Its
    class scores have 256 columns, whatever the number of classes; here there is one per class. That
    the class is the image if there are no labels is our reading.

    References
    ----------
    Y. Peng, J. Qi, X. Huang, Y. Yuan, CCL: cross-modal correlation learning with multigrained
    fusion by hierarchical network, IEEE Transactions on Multimedia 20(2), 2018, 405-420.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit_correlation.ccl import CCL
    >>> from crossfit_correlation.testing import make_patches
    >>> views, y = make_patches(np.random.default_rng(0), 60)
    >>> small = {"dbn": (8,), "code": 8, "fused": 8, "hidden": (8,), "width": 6, "max_epochs": 2}
    >>> method = CCL(**small, device="cpu", random_state=0).fit(views, y)
    >>> method.transform(views)["text"].shape
    (60, 6)
    """

    card = cards.CCL

    _stages: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "dbn": {"max_epochs": 20, "lr": 0.01},
        "corr": {"max_epochs": 30, "lr": 3e-3},
        "fusion": {"max_epochs": 20, "lr": 0.01},
        "classifier": {"max_epochs": 20, "lr": 1e-3},
    }
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **StagedEstimator._parameter_constraints,
        "dbn": [list, tuple, dict],
        "visible": [str, dict],
        "code": [Interval(Integral, 1, None, closed="left")],
        "alpha": [Interval(Real, 0, 1, closed="both")],
        "fused": [Interval(Integral, 1, None, closed="left")],
        "hidden": [list, tuple],
        "width": [Interval(Integral, 1, None, closed="left")],
        "margin": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        *,
        dbn: Sequence[int] | Mapping[str, Sequence[int]] = (128, 64),
        visible: str | Mapping[str, str] = "gaussian",
        code: int = 64,
        alpha: float = 0.7,
        fused: int = 128,
        hidden: Sequence[int] = (128, 128),
        width: int = 128,
        margin: float = 1.0,
        rescale: bool = True,
        stages: Mapping[str, Mapping[str, float]] | None = None,
        max_epochs: int = 50,
        lr: float = 3e-3,
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
        self.dbn = dbn
        self.visible = visible
        self.code = code
        self.alpha = alpha
        self.fused = fused
        self.hidden = hidden
        self.width = width
        self.margin = margin

    def _validate_params(self) -> None:
        super()._validate_params()
        self._sizes_by_role("dbn")
        self._sizes("hidden")
        self._visible()

    # ---- the levels of an item -----------------------------------------------------------------

    def _fit_features(self, views: Views, y: NDArray[Any] | None) -> None:
        held = [views.distinct(role)[0] for role in self._roles()]
        self.with_patches_ = any(isinstance(v, Channels) and PATCHES in v.names for v in held)
        super()._fit_features(views, y)

    def _stage_values(self, values: Any, role: str) -> Channels:
        """Return the channels of all levels; a view without patches is its own patch."""
        where = f"{self._name()}: view {self._view_name(role)!r}"
        given = {WHOLE: values}
        if isinstance(values, Channels):
            given = {name: values[name] for name in values.names}
        if WHOLE not in given:
            raise ValueError(f"{where} must have the channel {WHOLE!r}, got {', '.join(given)}")
        whole = as_float(given[WHOLE], f"{where}, channel {WHOLE!r}")
        if isinstance(whole, Ragged) or len(whole.shape) != 2:
            raise ValueError(
                f"{where}, channel {WHOLE!r} must be of shape (n, d), got "
                f"{'a Ragged' if isinstance(whole, Ragged) else tuple(whole.shape)}"
            )
        levels = {WHOLE: whole}
        if self.with_patches_:
            patches = as_float(given.get(PATCHES, whole), f"{where}, channel {PATCHES!r}")
            n_axes = 3 if PATCHES in given else 2
            shape = patches.values.shape[:1] + patches.values.shape if isinstance(
                patches, Ragged) else patches.shape  # fmt: skip
            if len(shape) != n_axes:
                raise ValueError(
                    f"{where}, channel {PATCHES!r} must be vectors of patches, (n, R, d) or "
                    f"ragged, got shape {tuple(shape)}"
                )
            levels[PATCHES] = patches
        known = getattr(self, "trunk_inputs_", {}).get(role, {})
        for level, part in levels.items():
            width = _width(part)
            if width != known.get(level, width):
                raise ValueError(
                    f"{where}, channel {level!r} has {width} features, but {self._name()} is "
                    f"expecting {known[level]} features as input"
                )
        return Channels(levels)

    def _inputs_of(self, values: Any) -> dict[str, int]:
        return {level: _width(values[level]) for level in values.names}

    # ---- the stages ----------------------------------------------------------------------------

    def _build_trunk(self, n_inputs: Mapping[str, Any], n_labels: int) -> Trunk:
        return Trunk(
            n_inputs,
            n_labels,
            dbn=self._sizes_by_role("dbn"),
            visible=self._visible(),
            code=self.code,
            fused=self.fused,
            hidden=self._sizes("hidden"),
            rescale=self.rescale,
            weight_decay={s: self._stage(s)["weight_decay"] for s in ("dbn", "fusion")},
        )

    def _train_trunk(self, trunk: Trunk, views: Views, labels: NDArray[np.int64]) -> None:
        features = {}
        for level in trunk.levels:
            for role in self._roles():
                belief: Any = trunk.beliefs[level][role]  # type: ignore[index]
                rows = _rows(views.distinct(role)[0][level])
                self._train_stack("dbn", belief.stack, self._rescaled(belief.scaling, rows))

            def believed(values: Any, role: str, level: str = level) -> Any:
                return self._run(
                    lambda items: trunk.belief(items, role, level), trunk, values[level]
                )

            features[level] = views.map(believed)
            network: Any = trunk.correspondences[level]
            for role in self._roles():
                self._rescaled(network.scaling[role], features[level].distinct(role)[0])
            self._train_part(
                "corr",
                network,
                lambda module, batch: module(batch.views),
                lambda found, _: correspondence_loss(found, self.alpha),
                features[level],
            )

        def fused(_: Any, role: str) -> Any:
            levels = {level: part.distinct(role)[0] for level, part in features.items()}
            codes = self._run(
                lambda items: trunk.codes({name: x.values for name, x in items.items()}, role),
                trunk,
                Channels(levels),
            )
            codes = self._rescaled(trunk.of_codes[role], codes)
            self._train_fused("fusion", trunk.fusions[role], codes)  # type: ignore[arg-type]
            hidden = self._run(lambda items: trunk.fuse(items.values, role), trunk, codes)
            return self._rescaled(trunk.of_fused[role], hidden)

        inputs = views.map(fused)
        for role in self._roles():
            classifier: Any = trunk.classifiers[role]
            self._train_classifier("classifier", classifier, inputs.select(role), labels)

    # ---- the last stage ------------------------------------------------------------------------

    def _build_module(
        self, n_inputs: dict[str, Any], n_classes: int | None, **module: Any
    ) -> nn.Module:
        return MultiTask(n_inputs, self.width, self.n_labels_, **module)

    def _outputs(self, module: nn.Module, batch: Batch) -> dict[str, list[Tensor]]:
        assert isinstance(module, MultiTask)
        shared = {role: module.shared(items, role) for role, items in batch.views.items()}
        return {
            "common": [part.sigmoid() for part in shared.values()],
            "scores": [module.heads[role](part) for role, part in shared.items()],
        }

    def _loss(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        labels = self._labels(batch)
        first, second = outputs["common"]
        return {
            "contrast": self._contrast(first, second, batch),
            "labels": torch.stack([label_loss(z, labels) for z in outputs["scores"]]).sum(),
        }

    def _contrast(self, first: Tensor, second: Tensor, batch: Batch) -> Tensor:
        """Return the contrastive loss over all images and texts of a batch."""
        squares = (first[:, None] - second).square().sum(dim=2)
        same = batch.groups[:, None] == batch.groups
        other = batch.negatives
        if batch.y is not None:
            known = (batch.y >= 0)[:, None] & (batch.y >= 0)
            equal = batch.y[:, None] == batch.y
            same, other = same | (known & equal), other & known & ~equal
        far = hinge(self.margin - (squares + _EPS**2).sqrt(), other).square()
        return ((squares * same).sum() + far.sum()) / len(batch)


def _scalings(roles: Iterable[str], width: int, rescale: bool) -> nn.ModuleDict:
    return nn.ModuleDict({role: Standardize(width) if rescale else nn.Identity() for role in roles})


def _width(part: Any) -> int:
    return int((part.values if isinstance(part, Ragged) else part).shape[-1])


def _rows(part: Any) -> Any:
    """Return vectors, or the patches of all items, as rows."""
    if isinstance(part, Ragged):
        return part.values
    return part.reshape(-1, part.shape[-1]) if len(part.shape) == 3 else part
