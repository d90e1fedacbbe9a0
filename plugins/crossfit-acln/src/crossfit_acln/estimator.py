"""ACLN: attention-sharing correlation learning (Huang, Ye and Peng, ICIG 2017)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from numbers import Integral, Real
from os import PathLike
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.nn import functional as F

from crossfit.extraction import Tokens
from crossfit.extraction.weights import load_weights, resolve_device
from crossfit.neural import AlexNet, Batch, PosteriorEstimator, label_loss
from crossfit.neural.batching import batches_of, cut_tokens
from crossfit.neural.pictures import READING, Pictures
from crossfit.neural.training import optimizer_class
from crossfit.neural.trunks import ALEXNET_CUT
from crossfit.views import Ragged, Views
from crossfit_acln import cards
from crossfit_acln.network import GRID, ACLNNetwork

__all__ = ["ACLN"]


class ACLN(PosteriorEstimator):
    r"""Attention-sharing correlation learning network (ACLN).

    Regions of a picture and words of a text are mapped to common local features x. One attention,
    shared by both modalities, weights them (equations 7 to 9 of the paper),

    .. math:: a_i = \mathrm{softmax}_i(\tanh(W_a x_i)), \qquad g = \sum_i a_i x_i,

    and two further layers give class posteriors, which are the common space. The loss is

    .. math::

        \mathrm{CE}(\text{image}) + \mathrm{CE}(\text{text})
        + \lambda\, \mathrm{mean}\,(1 - \cos(g^I, g^T)),

    where the last term, over matched pairs, corrects the sign of equations 10 and 11, which as
    printed push pairs apart. An image with several captions counts once per caption.

    Images are regions, (n, R, d) or ragged, or pictures (paths, PIL images, uint8 pixels). The
    regions of pictures are the pool5 features of AlexNet, 36 regions of 256 features: AlexNet is
    fine-tuned on the labels and then frozen. Texts are token ids, padded with 0 or ragged, or
    strings, for which a vocabulary is built from the training texts. Rows labelled -1 enter only
    the correlation term.

    Parameters
    ----------
    attention : {"shared", "separate", "none"}, default="shared"
        ``"shared"`` is the method; ``"separate"`` (one attention per modality) and ``"none"`` (the
        mean) are the ablations of the paper.
    width : int, default=512
        Width d_a of the hidden layers.
    dropout : float, default=0.5
        Dropout probability after the tanh of every hidden layer.
    corr_weight : float, default=1.0
        Weight λ of the correlation. With 0, a shared attention alone connects the two branches.
    corr_negatives : bool, default=False
        Also push the cosine of rows of different groups below 0, with equal weight.
    attn_act : {"tanh", None}, default="tanh"
        Activation of the logits of the attention. With tanh, the weight of one of 36 regions is at
        most 0.17.
    measure : str, default="cosine"
        Similarity of posteriors: a name in `crossfit.similarities.MEASURES` or
        ``"posterior_over_prior"``.
    max_epochs : int, default=50
        Number of passes over the training pairs.
    lr : float, default=0.0004
        Learning rate.
    batch_size : int, default=20
        Number of pairs per batch.
    optimizer : str or type, default="RMSprop"
        Name of a class in `torch.optim`, or such a class.
    image_head_lr : float, optional
        Learning rate of FC3i and FC4i, 4e-5 in the paper for Wikipedia; `lr` by default.
    alpha : float, default=0.99
        Smoothing constant of RMSProp. The paper prints "momentum 0.99, weight-decay 1e-8", which
        in the code it builds on are alpha and epsilon. Other optimizers are passed those of
        `alpha`, `eps`, `momentum` and `weight_decay` that they accept.
    eps : float, default=1e-08
        Constant added to the denominator of RMSProp.
    momentum : float, default=0.0
        Momentum.
    weight_decay : float, default=0.0
        Weight decay.
    min_count : int, default=2
        Minimum number of occurrences of a word in the training texts. Only for strings.
    max_length : int, default=256
        Number of words per text, from the first. Longer token ids are truncated with a warning,
        as strings are, because one long text would make its whole batch as long.
    tokenizer : {"auto", "words", "characters", "bigrams"} or callable, default="auto"
        How texts are cut into words; see `crossfit.extraction.Tokens`. Only for strings.
    trunk_weights : str, path-like or None, default="DEFAULT"
        Initial weights of AlexNet: ``"DEFAULT"`` or another name of torchvision, a file, or
        None for random weights. Only for pictures.
    trunk_epochs : int, default=10
        Number of epochs of fine-tuning; 0 for no fine-tuning.
    trunk_lr : float, default=0.001
        Learning rate of fine-tuning (SGD with momentum 0.9 and weight decay 5e-4).
    keep_fc7 : bool, default=False
        Whether fc6 and fc7 of the fine-tuned AlexNet are kept for `vector_features`; they make a
        bundle 220 MB larger.
    num_workers : int or None, default=None
        Number of processes that read pictures; see `crossfit.neural.pictures.Pictures`. Results do
        not depend on it.
    picture_memory : int, default=2 ** 30
        Pictures for fine-tuning are read once and kept if they take at most this many bytes; 5,461
        pictures take a gibibyte. Otherwise they are read again for every batch. Results do not
        depend on it.
    **kwargs
        See `crossfit.neural.NeuralEstimator`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Classes, in the order of the columns of the common space.
    prior_ : ndarray of shape (n_classes,)
        Frequencies of the classes in the rows that are trained on; a class of which all rows are
        held out counts as if it had one.
    vocabulary_ : tuple of str
        Word of each id, if strings were given.
    trunk_ : torch.nn.Module
        AlexNet up to pool5, if pictures were given.
    net_ : skorch.NeuralNet
        Its history contains ``train_image``, ``train_text`` and ``train_correlation``.

    References
    ----------
    X. Huang, Z. Ye, Y. Peng, Attention-sharing correlation learning for cross-media retrieval,
    ICIG 2017, LNCS 10666, 477-488.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit_acln.estimator import ACLN
    >>> from crossfit_acln.testing import make_inputs
    >>> views, y = make_inputs(np.random.default_rng(0), 100)
    >>> acln = ACLN(width=32, lr=4e-3, max_epochs=10, random_state=0).fit(views, y)
    >>> acln.transform(views)["text"].shape
    (100, 5)
    >>> acln.explain(views)["text"].lengths[:3].tolist() == views["text"].lengths[:3].tolist()
    True
    """

    card = cards.ACLN
    _neutral: ClassVar[tuple[str, ...]] = (*PosteriorEstimator._neutral, *READING)

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **PosteriorEstimator._parameter_constraints,
        "attention": [StrOptions({"shared", "separate", "none"})],
        "width": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "corr_weight": [Interval(Real, None, None, closed="neither")],
        "corr_negatives": ["boolean"],
        "attn_act": [StrOptions({"tanh"}), None],
        "image_head_lr": [Interval(Real, 0, None, closed="neither"), None],
        "alpha": [Interval(Real, 0, 1, closed="left")],
        "eps": [Interval(Real, 0, None, closed="neither")],
        "momentum": [Interval(Real, 0, None, closed="left")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "min_count": [Interval(Integral, 1, None, closed="left")],
        "max_length": [Interval(Integral, 1, None, closed="left")],
        "tokenizer": Tokens._parameter_constraints["tokenizer"],
        "trunk_weights": [str, PathLike, None],
        "trunk_epochs": [Interval(Integral, 0, None, closed="left")],
        "trunk_lr": [Interval(Real, 0, None, closed="neither")],
        "keep_fc7": ["boolean"],
        **READING,
    }
    _absent_parameters: ClassVar[dict[str, Any]] = {"tokenizer": "words"}

    def __init__(
        self,
        *,
        attention: str = "shared",
        width: int = 512,
        dropout: float = 0.5,
        corr_weight: float = 1.0,
        corr_negatives: bool = False,
        attn_act: str | None = "tanh",
        measure: str = "cosine",
        max_epochs: int = 50,
        lr: float = 4e-4,
        batch_size: int = 20,
        optimizer: str | type[torch.optim.Optimizer] = "RMSprop",
        image_head_lr: float | None = None,
        alpha: float = 0.99,
        eps: float = 1e-8,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        min_count: int = 2,
        max_length: int = 256,
        tokenizer: str | Callable[[str], Sequence[str]] = "auto",
        trunk_weights: str | PathLike[str] | None = "DEFAULT",
        trunk_epochs: int = 10,
        trunk_lr: float = 1e-3,
        keep_fc7: bool = False,
        num_workers: int | None = None,
        picture_memory: int = 2**30,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            measure=measure,
            max_epochs=max_epochs,
            lr=lr,
            batch_size=batch_size,
            optimizer=optimizer,
            **kwargs,
        )
        self.attention = attention
        self.width = width
        self.dropout = dropout
        self.corr_weight = corr_weight
        self.corr_negatives = corr_negatives
        self.attn_act = attn_act
        self.image_head_lr = image_head_lr
        self.alpha = alpha
        self.eps = eps
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.min_count = min_count
        self.max_length = max_length
        self.tokenizer = tokenizer
        self.trunk_weights = trunk_weights
        self.trunk_epochs = trunk_epochs
        self.trunk_lr = trunk_lr
        self.keep_fc7 = keep_fc7
        self.num_workers = num_workers
        self.picture_memory = picture_memory

    # ---- the parts of the method ---------------------------------------------------------------

    def _build_module(
        self, n_inputs: dict[str, Any], n_classes: int | None, **module: Any
    ) -> nn.Module:
        assert n_classes is not None
        settings = {
            "attention": self.attention,
            "width": self.width,
            "dropout": self.dropout,
            "attn_act": self.attn_act,
        }
        return ACLNNetwork(n_inputs, n_classes, **{**settings, **module})

    def _outputs(self, module: nn.Module, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        return {view: module(items, view) for view, items in batch.views.items()}

    def _loss(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        assert batch.y is not None
        (g_image, z_image), (g_text, z_text) = outputs["image"], outputs["text"]
        correlation = (1 - F.cosine_similarity(g_image, g_text)).mean()
        if self.corr_negatives:
            cosines = F.normalize(g_image, dim=1) @ F.normalize(g_text, dim=1).T
            wrong = batch.negatives
            correlation = correlation + (cosines.clamp(min=0) * wrong).sum() / wrong.sum().clamp(
                min=1
            )
        return {
            "image": label_loss(z_image, batch.y),
            "text": label_loss(z_text, batch.y),
            "correlation": self.corr_weight * correlation,
        }

    def _optimizer_parameters(self) -> dict[str, Any]:
        names = ("alpha", "eps", "momentum", "weight_decay")
        known = signature(optimizer_class(self.optimizer)).parameters
        settings: dict[str, Any] = {name: getattr(self, name) for name in names if name in known}
        if self.image_head_lr is not None:
            settings["param_groups"] = [("heads.image.*", {"lr": self.image_head_lr})]
        return {**settings, **super()._optimizer_parameters()}

    # ---- raw pictures and strings --------------------------------------------------------------

    def _fit_features(self, views: Views, y: NDArray[Any] | None) -> None:
        given = {role: views.distinct(role)[0] for role in views.names}
        self.raw_ = {role: _is_raw(values) for role, values in given.items()}
        if self.raw_["text"]:
            self.vocabulary_ = self._tokens().fit(given["text"]).vocabulary_
        super()._fit_features(views, y)
        assert y is not None
        if self.raw_["image"]:
            self.trunk_ = self._fine_tuned(views, y)

    def _fine_tuned(self, views: Views, y: NDArray[Any]) -> AlexNet:
        """Return AlexNet up to pool5, frozen after training on the labels of the pictures."""
        n_classes = len(self.classes_) if self.trunk_epochs else None
        trunk = AlexNet(n_classes, dense=self.keep_fc7)
        if self.trunk_weights is not None:
            trunk.fill(load_weights("alexnet", self.trunk_weights), self.trunk_weights)
        if self.trunk_epochs:
            # Some of classes_ may be held out; another caption of a picture may be unlabelled.
            rows = np.flatnonzero(np.isin(y, self.classes_))
            labelled = views[rows]
            self._pretrain(
                trunk,
                lambda module, batch: module(batch.views["image"].values),
                _label_loss,
                Views(image=labelled.distinct("image")[0]),
                np.searchsorted(self.classes_, labelled.item_labels("image", y[rows])),
                lambda values, _: self._pictures(values),
                optimizer="SGD",
                lr=self.trunk_lr,
                max_epochs=self.trunk_epochs,
                batch_size=self.batch_size,
                optimizer__momentum=0.9,
                optimizer__weight_decay=5e-4,
            )
        trunk.cut(dense=self.keep_fc7)
        return trunk.eval().requires_grad_(False)

    def _features(self, values: Any, view: str) -> Any:
        self._check_kind(values, view)
        if not self.raw_[view]:
            where = f"ACLN: view {self._view_name(view)!r}"
            return cut_tokens(values, self.max_length, where) if view == "text" else values
        if view == "text":
            tokens = self._tokens()
            tokens.__crossfit_restore__({"vocabulary_": self.vocabulary_}, {})
            return tokens.transform(values)
        return self._through_trunk(values, self.trunk_)

    def _tokens(self) -> Tokens:
        return Tokens(self.max_length, self.min_count, tokenizer=self.tokenizer, verbose=False)

    def _check_kind(self, values: Any, role: str) -> None:
        if _is_raw(values) != self.raw_[role]:
            kinds = {
                "image": ("regions", "pictures"),
                "text": ("token ids", "strings"),
            }[role]
            fitted = kinds[self.raw_[role]]
            raise ValueError(
                f"ACLN: view {self._view_name(role)!r} was fitted on {fitted}, got "
                f"{kinds[not self.raw_[role]]}"
            )

    def _through_trunk(
        self, values: Any, function: Callable[[Tensor], Tensor]
    ) -> NDArray[np.float32]:
        """Return a function of the trunk of all pictures, without gradients."""
        device = torch.device(resolve_device(self.device))
        self.trunk_.to(device)
        with torch.inference_mode(), contextlib.closing(self._pictures(values)) as pictures:
            found = [function(items.values).cpu().numpy() for items in batches_of(pictures, device)]
        self.trunk_.cpu()
        return np.concatenate(found)

    def _pictures(self, values: Any) -> Pictures:
        return Pictures(
            values,
            ALEXNET_CUT,
            num_workers=self.num_workers,
            memory=self.picture_memory,
            where=f"ACLN: view {self._view_name('image')!r}",
        )

    def _restore_features(
        self, state: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
    ) -> None:
        if state["raw_"]["image"]:
            dense = "trunk_.classifier.1.weight" in arrays
            self.trunk_ = AlexNet(dense=dense).eval().requires_grad_(False)
        super()._restore_features(state, arrays)

    # ---- features and attention ----------------------------------------------------------------

    def vector_features(self, values: Any, view: str) -> NDArray[np.float32]:
        """Return the features with which the paper compares methods for vectors (section 4.3).

        Parameters
        ----------
        values : images or texts
            Items of one modality.
        view : str
            Name of the view, as in the fit.

        Returns
        -------
        float32 array of shape (n, 4096) or (n, width)
            For pictures fc7 of the fine-tuned AlexNet; for texts the output of FC2t; for given
            regions the output of FC3i, the corresponding layer of the other branch.

        Raises
        ------
        ValueError
            If `keep_fc7` was not set in the fit on pictures.
        """
        check_is_fitted(self, "views_in_")
        role = self._role_of(view)
        values = self._checked_values(values, role)
        if role == "text" or not self.raw_["image"]:
            found = self._apply(lambda m, items: m.second_last(items, role).float(), values, role)
            return torch.cat(found).cpu().numpy()
        self._check_kind(values, role)
        if self.trunk_.classifier is None:
            raise ValueError("ACLN: fc7 of AlexNet was not kept in the fit; set keep_fc7=True")
        return self._through_trunk(values, self.trunk_.fc7)

    def explain(self, X: Any, Y: Any = None) -> Any:
        """Return the attention over regions and words.

        Parameters
        ----------
        X : Views, or images
            Any subset of the modalities of the fit.
        Y : texts, optional

        Returns
        -------
        Views, or Ragged, or a pair of Ragged
            In the form of the input: Views, X alone, or X and Y. A row holds the weights of an
            item's regions or words, which sum to 1. ``info`` contains ``words``, the word of every
            weight, if the vocabulary is known; for pictures ``grid``, the rows and columns of the
            regions; and the ``info`` of ragged regions, such as boxes.

        Raises
        ------
        TypeError
            If both Views and Y are given.
        """
        check_is_fitted(self, "views_in_")
        if isinstance(X, Views):
            if Y is not None:
                raise TypeError("ACLN.explain expects Views alone or (X, Y), got both")
            return self.fitted_views(X).map(self._attention)
        image, text = self.views_in_.values()
        weights = self._attention(X, image)
        return weights if Y is None else (weights, self._attention(Y, text))

    def _attention(self, values: Any, name: str) -> Ragged:
        role = self._role_of(name)
        values = self._checked_values(values, role)

        def weigh(module: Any, items: Any) -> tuple[Any, Any, Any]:
            _, weights = module.pool(items, role)
            mask = torch.ones_like(weights).bool() if items.mask is None else items.mask
            return weights[mask].float(), mask.sum(dim=1), items.values[mask]

        parts = zip(*self._apply(weigh, values, role))
        weights, lengths, elements = (torch.cat(part).cpu().numpy() for part in parts)
        info: dict[str, Any] = dict(values.info) if isinstance(values, Ragged) else {}
        if role == "text":
            vocabulary = info.pop("vocabulary", getattr(self, "vocabulary_", None))
            if vocabulary is not None:
                info["words"] = np.array([vocabulary[i] for i in elements], dtype=object)
        elif self.raw_["image"]:
            info["grid"] = GRID
        return Ragged(weights, np.concatenate([[0], np.cumsum(lengths)]), info)


def _is_raw(values: Any) -> bool:
    """Return True for pictures or strings, False for features."""
    dtype = str(getattr(values, "dtype", ""))
    return dtype == "object" or (dtype.endswith("uint8") and len(values.shape) == 4)


def _label_loss(logits: Tensor, batch: Batch) -> Tensor:
    assert batch.y is not None
    return label_loss(logits, batch.y)
