"""BSSAN: bi-directional spatial-semantic attention networks (Huang et al., IEEE TIP 2018)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import signature
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from skorch.callbacks import LRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from crossfit.extraction.weights import exact
from crossfit.neural import Batch, NeuralPairEstimator, PairGroups, group_loss
from crossfit.neural.batching import first_elements
from crossfit.neural.training import optimizer_class
from crossfit.views import Channels, Ragged, Views, as_float, as_numpy, take_rows
from crossfit_bssan import cards
from crossfit_bssan.network import CHANNELS, BSSANNetwork, Image, Text

__all__ = ["BSSAN"]

# Maximum number of parts by length that a block's texts are split into, and minimum pairs per part.
_PARTS, _PART = 8, 2048
# Maximum number of regions or objects from which principal components are computed.
_VECTORS = 20_000
# Number of pairs whose attention is computed at once.
_EXPLAINED = 64


class BSSAN(NeuralPairEstimator):
    r"""Bi-directional spatial-semantic attention networks (BSSAN).

    The method scores pairs with two branches. From words to regions (W2R), each word t_k attends
    to the regions r_j of the image's map (equations 1 to 3 of the paper),

    .. math:: \alpha_{kj} = \mathrm{softmax}_j \tanh(t_k' W r_j + b), \qquad
              u_k = \sum_j \alpha_{kj} r_j,

    an LSTM runs over [u_k; t_k], and a perceptron maps its state at the last word to the score Y.
    From objects to words (O2W), each detected object attends in the same way to the states of a
    bidirectional LSTM over the words; a perceptron scores every object with the words it attends
    to, and Y' is the mean over the objects. The score of a pair is :math:`Y + \lambda Y'`
    (equation 19). The loss ranks pairs by hinges with margin M over negatives of the batch,

    .. math:: \mathrm{mean}\,[M - Y + Y^-]_+ + \lambda\,\mathrm{mean}\,[M - Y' + Y'^-]_+
              + \delta \lVert\theta\rVert^2 .

    The defaults are for a few thousand pairs. The paper's settings are much larger widths and one
    random sentence as the negative; they are in the experiments ``huang-2018-bssan-flickr30k`` and
    ``huang-2018-bssan-coco``.

    Images have the channels ``map``, regions of a convolutional map, (n, R, d), and ``objects``,
    vectors of detected objects, (n, K, d_o); either may be ragged. Only the channels of the
    chosen branches are needed. Texts are word vectors, ragged or (n, T, E) padded with zeros;
    convert strings in a pipeline, with `crossfit.extraction.WordVectors`.

    Parameters
    ----------
    branches : sequence of {"w2r", "o2w"}, default=("w2r", "o2w")
        Both branches are the method; a single one is an ablation of the paper.
    n_components : int or None, default=64
        Number of principal components of the training regions, and of the training objects, that
        replace their features; None for the features themselves, as in the paper. Fewer features
        are cheaper, and harder to memorise.
    standardize : bool, default=True
        Scale words, regions and objects to mean 0 and variance 1: feature by feature, or by one
        factor if they are principal components, whose variances differ for a reason. Not in the
        paper.
    dropout : float, default=0.15
        Probability of dropping a feature of a word, region or object, or a hidden unit of a
        perceptron, in training; 0 in the paper.
    mining : {"all", "random", "hardest", "top-k"}, default="all"
        Negatives of a pair. ``"random"`` is that of the paper: one, drawn from the batch. For the
        others, the batch is divided into groups, in which every image is scored with every text:
        the mean over all negatives of the group, the one with the highest score, or the mean over
        the `k_negatives` with the highest scores.
    k_negatives : int, default=4
        Number of negatives for ``"top-k"``.
    bidirectional : bool, default=True
        Rank images for a text as well. False is the paper's loss, in which only texts are ranked
        for an image.
    w2r_group_size, o2w_group_size : int, default=8 and 32
        Number of rows in a group, by branch, unless `mining` is ``"random"``. A pair of W2R costs a
        pass of an LSTM, a pair of O2W much less.
    negative_attention : {"learned", "uniform"}, default="learned"
        Attention over negative pairs in training; uniform in the paper (equation 8). Matched and
        unmatched pairs then differ by the attention itself, a cue that is missing when pairs are
        scored, where the attention is learned for every pair: such a fit ranks at chance.
    o2w_weight : float, default=0.6
        Weight λ of the O2W branch.
    delta : float, default=1e-5
        Weight δ of the squares of all weight matrices; 0 is ``no_reg`` in the paper, which prints
        0.01. With SGD and a learning rate of 0.01, 0.01 halves all matrices every 350 updates.
    margin : float, default=1.0
        Margin M.
    attn_act : {"tanh", None}, default="tanh"
        Activation of the logits of the attention. With tanh, the weight of one of 196 regions is
        at most 0.036.
    lstm_width : int, default=64
        Number of units of the LSTM of W2R; 1024 in the paper.
    w2r_mlp : sequence of int, default=(64, 32)
        Widths of the hidden layers of the perceptron of W2R, each followed by batch normalisation
        and tanh; 1024, 512 and 128 in the paper.
    bilstm_width : int, default=64
        Number of units of each direction of the LSTM of O2W, whose two states are averaged; 512 in
        the paper.
    o2w_mlp : sequence of int, default=(64, 32)
        Widths of the hidden layers of the perceptron of O2W, as for W2R; 512, 256 and 64 in the
        paper.
    max_words : int, default=30
        Number of words per text, from the first.
    max_epochs : int, default=10
        Number of passes over the training pairs.
    lr : float, default=0.01
        Learning rate, as in the paper.
    batch_size : int, default=128
        Number of pairs per batch.
    optimizer : str or type, default="Adam"
        Name of a class in `torch.optim`, or such a class; SGD in the paper.
    momentum : float, default=0.9
        Momentum, if the optimizer has this setting.
    lr_decay : {"cosine", None}, default="cosine"
        Lower the learning rate from epoch to epoch, by a cosine that ends at 0; None in the paper.
    **kwargs
        See `crossfit.neural.NeuralPairEstimator`.

    Attributes
    ----------
    n_regions_ : int
        Largest number of regions of a training image, 0 without W2R.
    map_components_, objects_components_ : ndarray of shape (n_components, d)
        Principal components, scaled; only if the channel has more features than that.
    map_mean_, objects_mean_ : ndarray of shape (d,)
        Means that are subtracted before.
    net_ : skorch.NeuralNet
        Its history contains ``train_w2r``, ``train_o2w`` and ``train_reg``.

    Notes
    -----
    Margin, batch size and number of epochs are not published. Terms of the loss are means, so that
    they do not depend on the batch size. The state of the LSTM is taken at the last word of a text,
    and padding gets no attention.

    References
    ----------
    F. Huang, X. Zhang, Z. Zhao, Z. Li, Bi-directional spatial-semantic attention networks for
    image-text matching, IEEE Transactions on Image Processing 28 (4), 2008-2020, 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit_bssan.estimator import BSSAN
    >>> from crossfit_bssan.testing import make_inputs
    >>> views, _ = make_inputs(np.random.default_rng(0), 40)
    >>> bssan = BSSAN(lstm_width=16, w2r_mlp=(8,), bilstm_width=8, o2w_mlp=(8,), max_epochs=2)
    >>> bssan.set_params(device="cpu", random_state=0).fit(views).similarity(views).shape
    (40, 40)
    >>> bssan.explain(views[:1])["w2r"][0].shape == (views["text"].lengths[0], 6)
    True
    """

    card = cards.BSSAN

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **NeuralPairEstimator._parameter_constraints,
        "branches": [list, tuple, np.ndarray],
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "standardize": ["boolean"],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "mining": [StrOptions({"random", "all", "hardest", "top-k"})],
        "k_negatives": [Interval(Integral, 1, None, closed="left")],
        "bidirectional": ["boolean"],
        "w2r_group_size": [Interval(Integral, 2, None, closed="left")],
        "o2w_group_size": [Interval(Integral, 2, None, closed="left")],
        "negative_attention": [StrOptions({"uniform", "learned"})],
        "o2w_weight": [Interval(Real, 0, None, closed="left")],
        "delta": [Interval(Real, 0, None, closed="left")],
        "margin": [Interval(Real, 0, None, closed="neither")],
        "attn_act": [StrOptions({"tanh"}), None],
        "lstm_width": [Interval(Integral, 1, None, closed="left")],
        "w2r_mlp": [list, tuple, np.ndarray],
        "bilstm_width": [Interval(Integral, 1, None, closed="left")],
        "o2w_mlp": [list, tuple, np.ndarray],
        "max_words": [Interval(Integral, 1, None, closed="left")],
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "lr_decay": [StrOptions({"cosine"}), None],
    }

    def __init__(
        self,
        *,
        branches: Sequence[str] = ("w2r", "o2w"),
        n_components: int | None = 64,
        standardize: bool = True,
        dropout: float = 0.15,
        mining: str = "all",
        k_negatives: int = 4,
        bidirectional: bool = True,
        w2r_group_size: int = 8,
        o2w_group_size: int = 32,
        negative_attention: str = "learned",
        o2w_weight: float = 0.6,
        delta: float = 1e-5,
        margin: float = 1.0,
        attn_act: str | None = "tanh",
        lstm_width: int = 64,
        w2r_mlp: Sequence[int] = (64, 32),
        bilstm_width: int = 64,
        o2w_mlp: Sequence[int] = (64, 32),
        max_words: int = 30,
        max_epochs: int = 10,
        lr: float = 0.01,
        batch_size: int = 128,
        optimizer: str | type[torch.optim.Optimizer] = "Adam",
        momentum: float = 0.9,
        lr_decay: str | None = "cosine",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            max_epochs=max_epochs, lr=lr, batch_size=batch_size, optimizer=optimizer, **kwargs
        )
        self.branches = branches
        self.n_components = n_components
        self.standardize = standardize
        self.dropout = dropout
        self.mining = mining
        self.k_negatives = k_negatives
        self.bidirectional = bidirectional
        self.w2r_group_size = w2r_group_size
        self.o2w_group_size = o2w_group_size
        self.negative_attention = negative_attention
        self.o2w_weight = o2w_weight
        self.delta = delta
        self.margin = margin
        self.attn_act = attn_act
        self.lstm_width = lstm_width
        self.w2r_mlp = w2r_mlp
        self.bilstm_width = bilstm_width
        self.o2w_mlp = o2w_mlp
        self.max_words = max_words
        self.momentum = momentum
        self.lr_decay = lr_decay

    # ---- the parts of the method ---------------------------------------------------------------

    def _validate_params(self) -> None:
        super()._validate_params()
        chosen = list(self.branches)
        if not chosen or any(name not in CHANNELS for name in chosen):
            raise ValueError(
                f"BSSAN: branches must be some of {', '.join(CHANNELS)}, got {self.branches!r}"
            )
        for name in ("w2r_mlp", "o2w_mlp"):
            widths = list(getattr(self, name))
            if not all(
                isinstance(width, Integral) and not isinstance(width, bool) and int(width) > 0
                for width in widths
            ):
                raise ValueError(f"BSSAN: {name} must be widths of layers, got {widths}")

    def _build_module(
        self, n_inputs: dict[str, Any], n_classes: int | None, **module: Any
    ) -> nn.Module:
        settings = {
            "branches": tuple(self.branches),
            "lstm_width": self.lstm_width,
            "w2r_mlp": tuple(self.w2r_mlp),
            "bilstm_width": self.bilstm_width,
            "o2w_mlp": tuple(self.o2w_mlp),
            "activation": torch.tanh if self.attn_act == "tanh" else None,
            "max_words": self.max_words,
            # Project regions or words, whichever are fewer.
            "project": self.n_regions_ <= self.max_words,
            "standardize": self._standardized(),
            "dropout": self.dropout,
        }
        return BSSANNetwork(n_inputs, **{**settings, **module})

    def _standardized(self) -> tuple[str, ...]:
        """Return what the network standardises: words, and channels that are not projected."""
        found = [name for name in ("map", "objects") if not hasattr(self, f"{name}_components_")]
        return ("text", *found) if self.standardize else ()

    def _outputs(self, module: nn.Module, batch: Batch) -> Any:
        """Return scores, positives and negatives (g, n, m) of groups of pairs, by branch.

        All pairs of a branch are normalised together, by the statistics of the same batch.
        """
        image: Image = self._prepare_batch(module, batch.views["image"], "image")
        text: Text = self._prepare_batch(module, batch.views["text"], "text")
        both = self.bidirectional
        drawn = PairGroups.drawn(batch, both) if self.mining == "random" else None
        sizes = {"w2r": self.w2r_group_size, "o2w": self.o2w_group_size}
        outputs: dict[str, Any] = {}
        branches: Any = module.branches
        for name, branch in branches.items():
            groups = drawn or PairGroups.divided(batch, sizes[name])
            # Whether pairs match is known only in the loss; attention may use it in training only.
            uniform = module.training and self.negative_attention == "uniform"
            learned = groups.positives.float() if uniform else None
            scores = branch(image.take(groups.first), text.take(groups.second), learned)
            outputs[name] = scores, groups.positives, groups.negatives
        if module.training and self.delta:
            outputs["reg"] = module.squared_norm()  # type: ignore[operator]
        return outputs

    def _loss(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        terms = {}
        for name, weight in (("w2r", 1.0), ("o2w", self.o2w_weight)):
            if name in outputs:
                terms[name] = weight * group_loss(
                    *outputs[name],
                    margin=self.margin,
                    mining=self.mining,
                    k=self.k_negatives,
                    bidirectional=self.bidirectional,
                )
        if "reg" in outputs:
            terms["reg"] = self.delta * outputs["reg"]
        return terms

    def _optimizer_parameters(self) -> dict[str, Any]:
        takes = signature(optimizer_class(self.optimizer)).parameters
        settings = {"momentum": self.momentum} if "momentum" in takes else {}
        return {**settings, **super()._optimizer_parameters()}

    def _schedule(self) -> list[Any]:
        if self.lr_decay is None:
            return []
        return [LRScheduler(CosineAnnealingLR, T_max=self.max_epochs)]

    def _fit_features(self, views: Views, y: NDArray[Any] | None) -> None:
        channels = self._features(views.distinct("image")[0], "image")
        self.n_regions_ = 0
        if "map" in channels:
            part = channels["map"]
            self.n_regions_ = int(part.lengths.max() if isinstance(part, Ragged) else part.shape[1])
        for channel in channels.names if self.n_components is not None else ():
            vectors = _vectors(channels[channel])
            most = min(self.n_components, *vectors.shape)
            if most < vectors.shape[1]:
                some = vectors[:: -(-len(vectors) // _VECTORS)]
                found = PCA(most, svd_solver="covariance_eigh").fit(some)
                setattr(self, f"{channel}_mean_", found.mean_.astype(np.float32))
                # One factor for all: equal variances would make noise as large as the first ones.
                scale = np.sqrt(found.explained_variance_.mean()) if self.standardize else 1.0
                components = (found.components_ / scale).astype(np.float32)
                setattr(self, f"{channel}_components_", components)

    def _features(self, values: Any, view: str) -> Any:
        if view == "text":
            most = self._prefixed("module").get("max_words", self.max_words)
            return first_elements(values, most) if isinstance(values, Ragged) else values
        where = f"BSSAN: view {self._view_name(view)!r}"
        wanted = [CHANNELS[name] for name in CHANNELS if name in self.branches]
        found = {}
        for channel in wanted:
            if channel not in values:
                raise ValueError(
                    f"{where} must have the channel{'s' * (len(wanted) > 1)} "
                    f"{' and '.join(wanted)}, got {', '.join(values.names)}"
                )
            # Integer channels, such as counts, are not converted by the base class.
            part = found[channel] = as_float(values[channel], f"{where}, channel {channel!r}")
            ndim = part.values.ndim + 1 if isinstance(part, Ragged) else len(part.shape)
            width = (part.values if isinstance(part, Ragged) else part).shape[-1]
            if ndim != 3 or not width:
                raise ValueError(
                    f"{where}, channel {channel!r} must be vectors of shape (n, R, d) or ragged, "
                    f"got shape {tuple(part.shape)}"
                )
            components = getattr(self, f"{channel}_components_", None)
            fitted = getattr(self, "n_inputs_", {view: {channel: width}})[view][channel]
            known = fitted if components is None else components.shape[1]
            if width != known:
                raise ValueError(
                    f"{where}, channel {channel!r} has {width} features, but BSSAN is expecting "
                    f"{known} features as input"
                )
            if components is not None:
                centred = _vectors(part) - getattr(self, f"{channel}_mean_")
                found[channel] = _with_vectors(part, centred @ components.T)
        return Channels(found)

    # ---- scores --------------------------------------------------------------------------------

    def _prepare_batch(self, module: nn.Module, items: Any, view: str) -> Any:
        return getattr(module, view)(items)

    def _score_pairs(self, module: nn.Module, P: Image, Q: Text) -> Tensor:
        # There are no labels here, and attention is learned for every pair. Texts of similar length
        # are processed together, because padding costs as much as words.
        order = Q.lengths.argsort()
        n_images = len(P.keys if P.keys is not None else P.first)  # type: ignore[arg-type]
        n_parts = min(max(n_images * len(order) // _PART, 1), _PARTS, len(order))
        found = []
        for rows in order.tensor_split(n_parts):
            scores = module(P.together(), Q.take(rows).together())
            found.append(
                sum(
                    weight * scores[name][0]
                    for name, weight in (("w2r", 1.0), ("o2w", self.o2w_weight))
                    if name in scores
                )
            )
        return torch.cat(found, dim=1)[:, order.argsort()]

    def _pair_bytes(self, P: Image, Q: Text) -> int:
        # Memory that depends on an item alone is never more than that of its pairs in a block.
        n_words = Q.words.shape[1]
        numbers = 0
        if P.regions is not None:
            branch: Any = self.net_.module_.branches["w2r"]
            units = branch.lstm.hidden_size
            layers = [
                part.out_features for part in branch.mlp.modules() if isinstance(part, nn.Linear)
            ]
            n_regions, width = P.regions.shape[1:]
            width = 0 if branch.project else width
            numbers += n_words * (4 * n_regions + width + 4 * units)
            numbers += 16 * units + 4 * max(units, *layers)
        if P.first is not None:
            n_objects, first = P.first.shape[1:]
            numbers += 4 * n_objects * (n_words + first) + n_words * first
        return 4 * numbers

    # ---- bundles -------------------------------------------------------------------------------

    def __crossfit_restore__(
        self, state: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
    ) -> None:
        """Restore the result of `__crossfit_state__`."""
        # Bundles of version 0.1.0 lack these parameters, and so do their networks.
        if not any(name.startswith("module.scaling.") for name in arrays):
            self.standardize = False
        if any(".mlp.layers.3." in name for name in arrays):  # otherwise a dropout layer
            self.dropout = 0.0
        super().__crossfit_restore__(state, arrays)

    # ---- attention -----------------------------------------------------------------------------

    def explain(self, X: Any, Y: Any = None) -> Views:
        """Return the attention of pairs, row by row: each image with the text of its row.

        Parameters
        ----------
        X : Views, or images
            Pairs, row by row.
        Y : texts, optional
            As many as there are images; required unless X is Views.

        Returns
        -------
        Views
            One row per pair and one view per branch. ``["w2r"][i]`` is of shape (words, regions)
            and ``["o2w"][i]`` of shape (objects, words); rows sum to 1. They are padded with zeros
            if images have different numbers of regions, or texts different numbers of words.
            ``info`` of ``w2r`` contains ``words`` if the texts have them, that of ``o2w`` the
            ``info`` of ragged objects: boxes, scores and labels.

        Raises
        ------
        ValueError
            If a view is missing.
        """
        check_is_fitted(self, "views_in_")
        views, _ = self._given(X, Y, None, self.views_in_)
        views = self.fitted_views(views)
        if len(views.names) < 2:
            raise ValueError(
                f"BSSAN.explain needs the views {' and '.join(self.views_in_.values())}, got "
                f"{', '.join(views.names)}"
            )
        values = {}
        prepared = {}
        rows = {}
        for role, name in self.views_in_.items():
            items, rows[role] = views.distinct(name)
            values[role] = self._checked_values(items, role)
            prepared[role] = self._prepare(values[role], role)
        module: Any = self.net_.module_
        found: dict[str, list[NDArray[np.float32]]] = {name: [] for name in module.branches}
        device = torch.device(self.net_.device)
        for at in np.array_split(np.arange(len(views)), -(-len(views) // _EXPLAINED)):
            image, text = (prepared[role][rows[role][at]].to(device).parts for role in rows)
            own = torch.arange(len(at), device=device)[:, None]
            pairs = image.take(own), text.take(own)
            with exact():
                for name, branch in module.branches.items():
                    weights = branch.weights(*pairs)[:, 0, 0].float().cpu().numpy()
                    mask = text.mask if name == "w2r" else image.objects_mask
                    kept = np.ones(weights.shape[:2], bool) if mask is None else mask.cpu().numpy()
                    found[name] += [part[real] for part, real in zip(weights, kept)]
        infos = {}
        if "w2r" in found:
            infos["w2r"] = self._words_of(values["text"], rows["text"])
        if "o2w" in found:
            objects = take_rows(values["image"]["objects"], rows["image"])
            infos["o2w"] = dict(objects.info) if isinstance(objects, Ragged) else {}
        return Views({name: Ragged.from_list(found[name], infos[name]) for name in found})

    def _words_of(self, texts: Any, rows: NDArray[Any]) -> dict[str, Any]:
        """Return the words used of ragged texts; a text without words has one, ""."""
        if not isinstance(texts, Ragged) or "words" not in texts.info:
            return {}
        taken = texts[rows]
        words = np.split(taken.info["words"], taken.offsets[1:-1])
        none = np.array([""], dtype=object)
        most = self.net_.module_.max_words
        read = [part[:most] if len(part) else none for part in words]
        return {"words": np.concatenate(read)}


def _vectors(part: Any) -> NDArray[Any]:
    """Return the vectors (k, d) of all images."""
    return part.values if isinstance(part, Ragged) else as_numpy(part).reshape(-1, part.shape[-1])


def _with_vectors(part: Any, vectors: NDArray[Any]) -> Any:
    """Return a channel with other vectors in place of its own."""
    if isinstance(part, Ragged):
        return Ragged(vectors, part.offsets, part.info)
    return vectors.reshape(*part.shape[:2], -1)
