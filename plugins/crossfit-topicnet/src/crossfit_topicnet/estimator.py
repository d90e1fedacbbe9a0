"""TextTopicNet (Gomez et al., CVPR 2017) and SSVR (Patel et al., ICMR 2019)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from inspect import signature
from numbers import Integral, Real
from os import PathLike
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from skorch.callbacks import LRScheduler
from torch import Tensor, nn
from torch.nn import functional as F

from crossfit.extraction import LdaTopics
from crossfit.neural import Batch, NeuralEstimator
from crossfit.neural.pictures import READING, Pictures, SquareCut
from crossfit.neural.training import optimizer_class
from crossfit.similarities import MEASURES
from crossfit.views import Channels, Views, as_numpy, is_tensor
from crossfit_topicnet import cards
from crossfit_topicnet.network import (
    CHANNELS,
    SMALLEST,
    TopicNetwork,
    stored_edge,
)

__all__ = ["SSVR", "TextTopicNet"]

HEADS = ("article", "caption")


class TextTopicNet(NeuralEstimator):
    r"""Self-supervised visual features by predicting the topics of an image's text.

    The topics t of each text are obtained by latent Dirichlet allocation. A network f of the image
    learns them by a sigmoid cross-entropy, summed over the topics and averaged over the batch,

    .. math::

        - \sum_k t_k \log \sigma(f_k) + (1 - t_k) \log (1 - \sigma(f_k)),

    whose minimum is :math:`\sigma(f_k) = t_k`. The outputs, normalised to a sum of one, are a
    topic distribution, and items are ranked by :math:`-\mathrm{KL}(\text{text} \,\|\,
    \text{image})` in both directions. The features of lower layers are available by
    `visual_features`.

    Images are pictures (paths, PIL images, uint8 pixels), for which the network is CaffeNet, or
    feature vectors, for which it consists of the layers from fc6 up. Texts are strings, for which
    a topic model is fitted on the distinct training texts, or topic vectors: rows of non-negative
    numbers, which are scaled to a sum of one if they add up to more. Strings are not lemmatised,
    as the authors' are; for topics of lemmas, pass the vectors of
    `crossfit.extraction.LdaTopics` with a lemmatizer. An empty string or a row of
    zeros counts as a missing text: it is not used in training, and as a query its topics are
    uniform.

    Parameters
    ----------
    hidden : sequence of int, default=(512, 512)
        Widths of fc6, fc7 and further layers, 4096 each in the papers. If empty, the topics are
        linear in the input of fc6.
    dropout : float, default=0.5
        Dropout probability after the ReLU of every hidden layer.
    loss : {"sigmoid", "softmax"}, default="sigmoid"
        ``"softmax"`` is the cross-entropy of distributions, an ablation.
    measure : str, default="kl_reversed"
        Similarity of topic distributions, a name in `crossfit.similarities.MEASURES` with the
        image first: ``"kl_reversed"`` is -KL(text || image).
    n_topics : int, default=40
        Number of topics of the topic model; see `crossfit.extraction.LdaTopics`, also for
        `passes`, `no_below` and `no_above`.
    passes : int, default=10
        Passes over the texts.
    no_below : int, default=20
        Minimum number of texts that contain a word.
    no_above : float, default=0.5
        Maximum share of texts that contain a word.
    tokenizer : {"auto", "words", "characters", "bigrams"} or callable, default="auto"
        How texts are cut into words; see `crossfit.extraction.LdaTopics`.
    minimum_probability : float, default=0.01
        Topics of a text below this probability are set to exact zeros, in training and in queries.
        0.01 is the value in the authors' code; the default of `LdaTopics` is 0. On held-out images
        of Flickr8k, all networks were better with 0.01 than with 0.
    image_size : int, default=227
        Edge of the squares cut out of pictures, which are first resized to 256 / 227 of it. In
        training, the place is random and half of the squares are mirrored.
    init : {"caffe", "kaiming"}, default="kaiming"
        Random initial weights of the layers for pictures: ``"caffe"``, as published, suits only
        the published widths, ``"kaiming"`` any. For vectors, torch's defaults are used.
    standardize : bool, default=True
        Whether to standardise feature vectors by the mean and deviation of the training images.
        Without, histograms that sum to one are too small to learn from. Ignored for pictures.
    trunk_weights : path-like, optional
        File with initial weights of all layers below the topics; see
        `crossfit_topicnet.network.TopicNetwork.fill_trunk`.
    max_epochs : int, default=30
        Number of passes over the training pairs.
    lr : float, default=0.01
        Learning rate, 0.001 in the papers.
    batch_size : int, default=64
        Number of pairs per batch.
    optimizer : str or type, default="SGD"
        Name of a class in `torch.optim`, or such a class.
    momentum : float, default=0.9
        Momentum, if the optimizer has this setting.
    weight_decay : float, default=0.0005
        Weight decay, if the optimizer has this setting. Biases do not decay.
    bias_lr : float, default=2.0
        Learning rate of biases as a multiple of `lr`, 2 as in Caffe.
    lr_step : int or None, optional
        Number of batches after which `lr` is multiplied by `lr_gamma`, repeatedly; by default
        never. 50,000 in TextTopicNet's code, 200,000 in the paper of SSVR.
    lr_gamma : float, default=0.1
        Factor of the learning rate every `lr_step` batches.
    num_workers : int or None, default=None
        Number of processes that read pictures; see `crossfit.neural.pictures.Pictures`. Results do
        not depend on it.
    picture_memory : int, default=2 ** 30
        Training pictures are read once and kept if they take at most this many bytes; 5,461
        pictures of 256 x 256 take a gibibyte. Otherwise they are read again for every batch, so
        that any number of pictures can be used. Results do not depend on it.
    **kwargs
        See `crossfit.neural.NeuralEstimator`. ``module__channels`` are the widths of CaffeNet's
        five convolutions.

    Attributes
    ----------
    vocabulary_ : tuple of str
        Words of the topic model, if strings were given.
    word_counts_ : float32 ndarray of shape (n_topics, n_words)
        Expected number of occurrences of each word in each topic.
    net_ : skorch.NeuralNet
        The trained network.

    See Also
    --------
    SSVR : Adds a second head for captions.

    Notes
    -----
    The defaults are meant for a few thousand images; the published settings, for hundreds of
    thousands of batches, are those of the experiments and of ``experiments/published.py``.

    References
    ----------
    L. Gomez, Y. Patel, M. Rusinol, D. Karatzas, C. Jawahar, Self-supervised learning of visual
    features through embedding images into text topic spaces, CVPR 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit_topicnet.estimator import TextTopicNet
    >>> from crossfit_topicnet.testing import make_inputs
    >>> views, _ = make_inputs(np.random.default_rng(0), 100)
    >>> net = TextTopicNet(hidden=(32,), lr=0.05, max_epochs=10, random_state=0).fit(views)
    >>> net.transform(views)["image"].shape
    (100, 8)
    >>> net.visual_features(views["image"], layer="fc6").shape
    (100, 32)
    """

    card = cards.TEXTTOPICNET
    head = "article"
    _neutral: ClassVar[tuple[str, ...]] = (*NeuralEstimator._neutral, "head", "measure", *READING)

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **NeuralEstimator._parameter_constraints,
        "hidden": [list, tuple],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "loss": [StrOptions({"sigmoid", "softmax"})],
        "measure": [StrOptions(set(MEASURES))],
        "n_topics": LdaTopics._parameter_constraints["n_topics"],
        "passes": LdaTopics._parameter_constraints["passes"],
        "no_below": LdaTopics._parameter_constraints["no_below"],
        "no_above": LdaTopics._parameter_constraints["no_above"],
        "tokenizer": LdaTopics._parameter_constraints["tokenizer"],
        "minimum_probability": LdaTopics._parameter_constraints["minimum_probability"],
        "image_size": [Interval(Integral, SMALLEST, None, closed="left")],
        "init": [StrOptions({"caffe", "kaiming"})],
        "standardize": ["boolean"],
        "trunk_weights": [str, PathLike, None],
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "bias_lr": [Interval(Real, 0, None, closed="neither")],
        "lr_step": [Interval(Integral, 1, None, closed="left"), None],
        "lr_gamma": [Interval(Real, 0, 1, closed="right")],
        **READING,
    }
    _absent_parameters: ClassVar[dict[str, Any]] = {"tokenizer": "words"}

    def __init__(
        self,
        *,
        hidden: Sequence[int] = (512, 512),
        dropout: float = 0.5,
        loss: str = "sigmoid",
        measure: str = "kl_reversed",
        n_topics: int = 40,
        passes: int = 10,
        no_below: int = 20,
        no_above: float = 0.5,
        tokenizer: str | Callable[[str], Sequence[str]] = "auto",
        minimum_probability: float = 0.01,
        image_size: int = 227,
        init: str = "kaiming",
        standardize: bool = True,
        trunk_weights: str | PathLike[str] | None = None,
        max_epochs: int = 30,
        lr: float = 0.01,
        batch_size: int = 64,
        optimizer: str | type[torch.optim.Optimizer] = "SGD",
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        bias_lr: float = 2.0,
        lr_step: int | None = None,
        lr_gamma: float = 0.1,
        num_workers: int | None = None,
        picture_memory: int = 2**30,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            max_epochs=max_epochs, lr=lr, batch_size=batch_size, optimizer=optimizer, **kwargs
        )
        self.hidden = hidden
        self.dropout = dropout
        self.loss = loss
        self.measure = measure
        self.n_topics = n_topics
        self.passes = passes
        self.no_below = no_below
        self.no_above = no_above
        self.tokenizer = tokenizer
        self.minimum_probability = minimum_probability
        self.image_size = image_size
        self.init = init
        self.standardize = standardize
        self.trunk_weights = trunk_weights
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.bias_lr = bias_lr
        self.lr_step = lr_step
        self.lr_gamma = lr_gamma
        self.num_workers = num_workers
        self.picture_memory = picture_memory

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True  # topics must be non-negative
        return tags

    # ---- the parts of the method ---------------------------------------------------------------

    def _build_module(  # type: ignore[override]
        self,
        n_inputs: dict[str, Any],
        n_classes: int | None,
        channels: Sequence[int] = CHANNELS,
    ) -> nn.Module:
        topics = n_inputs["text"]
        topics = topics if isinstance(topics, dict) else {"article": topics}
        network = TopicNetwork(
            n_inputs["image"],
            {name: topics[name] for name in HEADS if name in topics},
            hidden=self.hidden,
            dropout=self.dropout,
            loss=self.loss,
            image_size=self.image_size if self.raw_["image"] else None,
            channels=channels,
            init=self.init,
            standardize=self.standardize,
        )
        # A restored method has all its weights already.
        if self.__dict__.pop("_is_fitted_now", False) and self.trunk_weights is not None:
            network.fill_trunk(self.trunk_weights)
        return network

    def _schedule(self) -> list[Any]:
        if self.lr_step is None:
            return []
        schedule = LRScheduler(
            "StepLR", step_size=self.lr_step, gamma=self.lr_gamma, step_every="batch"
        )
        return [("lr_step", schedule)]

    def _outputs(self, module: nn.Module, batch: Batch) -> dict[str, dict[str, Tensor]]:
        texts = batch.views["text"]
        texts = texts if isinstance(texts, dict) else {"article": texts}
        return {
            "logits": module(batch.views["image"].values),
            "topics": {name: items.values for name, items in texts.items()},
        }

    def _loss(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        return {
            name: topic_loss(outputs["logits"][name], topics, self.loss)
            for name, topics in outputs["topics"].items()
        }

    def _optimizer_parameters(self) -> dict[str, Any]:
        known = signature(optimizer_class(self.optimizer)).parameters
        settings = {
            name: getattr(self, name) for name in ("momentum", "weight_decay") if name in known
        }
        lr = self._prefixed("optimizer").get("lr", self.lr)
        biases: dict[str, Any] = {"lr": self.bias_lr * lr}
        if "weight_decay" in known:
            biases["weight_decay"] = 0.0
        return {**settings, "param_groups": [("*.bias", biases)], **super()._optimizer_parameters()}

    def _encode_batch(self, module: nn.Module, items: Any, view: str) -> Tensor:
        return module.encode(items, view, self.head)  # type: ignore[operator]

    def _own_similarity(self) -> str:
        return self.measure

    # ---- pictures and texts --------------------------------------------------------------------

    def _check_widths(self) -> None:
        if not all(isinstance(width, Integral) and int(width) >= 1 for width in self.hidden):
            raise ValueError(
                f"{self._name()}: hidden must be integers of at least 1, got {self.hidden!r}"
            )
        channels = self._prefixed("module").get("channels", CHANNELS)
        if np.size(channels) != len(CHANNELS) or not all(
            isinstance(width, Integral) and int(width) >= 2 and width % 2 == 0 for width in channels
        ):
            raise ValueError(
                f"{self._name()}: module__channels must be {len(CHANNELS)} even integers of at "
                f"least 2, because CaffeNet divides them into two groups, got {channels!r}"
            )

    def _fit_features(self, views: Views, y: NDArray[Any] | None) -> None:
        self._is_fitted_now = True
        self._check_widths()  # before the topic model is fitted
        image, text = (views.distinct(role)[0] for role in ("image", "text"))
        parts = {name: (part, where) for name, part, where in self._parts(text)}
        for part, where in parts.values():
            if not _present(part, where).any():
                raise ValueError(f"{where} has no text in any of the {len(views)} rows")
        strings = [_is_strings(part) for part, _ in parts.values()]
        if any(strings) and not all(strings):
            where = " and ".join(where for _, where in parts.values())
            raise ValueError(f"{where} must both be strings or both be topic vectors")
        if not any(strings) and len({part.shape[1] for part, _ in parts.values()}) > 1:
            raise ValueError(
                f"{self._name()}: article and caption must have the same number of topics, got "
                f"{' and '.join(str(part.shape[1]) for part, _ in parts.values())}"
            )
        self.raw_ = {"image": _is_pictures(image), "text": any(strings)}
        if self.raw_["image"]:
            self._pictures(image)  # raises if a file is missing, before the topic model is fitted
        if self.raw_["text"]:
            articles = parts["article"][0][_present(*parts["article"])]
            # An article may have many pictures, but counts once.
            lda = self._lda(torch.initial_seed()).fit(list(dict.fromkeys(articles)))
            self.vocabulary_, self.word_counts_ = lda.vocabulary_, lda.word_counts_
            self.lda_seed_ = lda.seed_

    def _lda(self, seed: int) -> LdaTopics:
        return LdaTopics(
            self.n_topics,
            self.passes,
            self.minimum_probability,
            self.no_below,
            self.no_above,
            random_state=seed % 2**31,
            tokenizer=self.tokenizer,
            verbose=False,
        )

    def _parts(self, text: Any) -> Iterator[tuple[str, Any, str]]:
        """Yield the name of the head, the values and their name in messages, for every text."""
        where = f"{self._name()}: view {self._view_name('text')!r}"
        if not isinstance(text, Channels):
            yield "article", text, where
            return
        for name in text.names:
            yield name, text[name], f"{where}, channel {name!r},"

    def _features(self, values: Any, view: str) -> Any:
        if view == "text":
            topics = {name: self._topics(part, where) for name, part, where in self._parts(values)}
            return Channels(topics) if isinstance(values, Channels) else topics["article"]
        where = f"{self._name()}: view {self._view_name(view)!r}"
        self._check_kind(_is_pictures(values), view, ("vectors", "pictures"), where)
        return self._pictures(values) if self.raw_[view] else values

    def _pictures(self, values: Any) -> Pictures:
        return Pictures(
            values,
            SquareCut(stored_edge(self.image_size), self.image_size),
            augment=True,
            num_workers=self.num_workers,
            memory=self.picture_memory,
            where=f"{self._name()}: view {self._view_name('image')!r}",
        )

    def _check_kind(self, raw: bool, role: str, kinds: tuple[str, str], where: str) -> None:
        if raw != self.raw_[role]:
            raise ValueError(f"{where} was fitted on {kinds[self.raw_[role]]}, got {kinds[raw]}")

    def _topics(self, values: Any, where: str) -> NDArray[np.float32]:
        """Return topics (n, n_topics), with rows of zeros for missing texts."""
        self._check_kind(_is_strings(values), "text", ("topic vectors", "strings"), where)
        if not self.raw_["text"]:
            topics = _topic_vectors(values, where)
        else:
            present = _present(values, where)
            lda = self._lda(self.lda_seed_)
            state = {"vocabulary_": self.vocabulary_, "seed_": self.lda_seed_}
            lda.__crossfit_restore__(state, {"word_counts_": self.word_counts_})
            topics = np.zeros((len(values), self.n_topics), np.float32)
            if present.any():
                topics[present] = lda.transform(values[present])
        known = getattr(self, "n_inputs_", {}).get("text", topics.shape[1])
        known = next(iter(known.values())) if isinstance(known, dict) else known
        if topics.shape[1] != known:
            raise ValueError(
                f"{where} has {topics.shape[1]} topics, but {self._name()} was fitted on {known}"
            )
        return topics

    def visual_features(self, values: Any, layer: str = "fc7") -> NDArray[np.float32]:
        """Return the output of a layer for images: the visual features that were learned.

        Parameters
        ----------
        values : pictures or vectors of n rows
            Of the same kind as in `fit`.
        layer : str, default="fc7"
            ``"fc6"``, ``"fc7"`` and so on, after ReLU; for pictures also ``"pool5"`` and
            ``"max5"``, the maximum of each channel of conv5.

        Returns
        -------
        float32 array of shape (n, width)

        Raises
        ------
        ValueError
            If the layer does not exist.
        """
        check_is_fitted(self, "views_in_")
        layers = self.net_.module_.layers
        if layer not in layers:
            raise ValueError(f"layer must be one of {', '.join(layers) or 'none'}, got {layer!r}")
        found = self._apply(
            lambda module, items: module.layer(items.values, layer).float(),  # type: ignore[operator]
            self._checked_values(values, "image"),
            "image",
        )
        return torch.cat(found).cpu().numpy()

    def topic_words(self, n_words: int = 10) -> list[tuple[str, ...]]:
        """Return the most probable words of every topic, for a method fitted on strings.

        Parameters
        ----------
        n_words : int, default=10
            Number of words per topic.

        Returns
        -------
        list of tuple of str

        Raises
        ------
        ValueError
            If the method was fitted on topic vectors.
        """
        check_is_fitted(self, "views_in_")
        if not self.raw_["text"]:
            raise ValueError(f"{self._name()} was fitted on topic vectors and has no words")
        best = np.argsort(-self.word_counts_, axis=1, kind="stable")[:, :n_words]
        return [tuple(self.vocabulary_[i] for i in row) for row in best]


class SSVR(TextTopicNet):
    r"""Self-supervised visual representations (SSVR): one network learns two texts per image.

    Extends `TextTopicNet` by a second head: the topics of the article that contains an image and
    those of its own caption are learned together,

    .. math:: \mathrm{CE}(t^{article}, f^{article}) + \mathrm{CE}(t^{caption}, f^{caption}),

    where each term is the sigmoid cross-entropy with both halves. One topic model, fitted on the
    distinct articles, is used for both.

    The text view has the channels ``article`` and ``caption``:
    ``Views(image=..., text={"article": ..., "caption": ...})``. A row that lacks one of them (an
    empty string or a row of zeros) trains only the other head. After the fit, plain texts are
    accepted too, as are mappings with only the channels that `head` needs. A fit on plain texts
    has only the article head and equals `TextTopicNet`.

    Parameters
    ----------
    head : {"article", "caption", "mean"}, default="article"
        Head used for images, and channel used for texts that have several. A plain text is
        compared with any head. ``"mean"`` is the mean over both heads, and over the texts that
        are present. It may be changed after the fit.
    **kwargs
        See `TextTopicNet`.

    Attributes
    ----------
    vocabulary_, word_counts_, net_
        See `TextTopicNet`. The history contains ``train_article`` and ``train_caption``.

    See Also
    --------
    TextTopicNet : The method with one text per image.

    References
    ----------
    Y. Patel, L. Gomez, M. Rusinol, D. Karatzas, C. Jawahar, Self-supervised visual
    representations for cross-modal retrieval, ICMR 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit_topicnet.estimator import SSVR
    >>> from crossfit_topicnet.testing import make_two_texts
    >>> views, _ = make_two_texts(np.random.default_rng(0), 100)
    >>> ssvr = SSVR(hidden=(32,), lr=0.05, max_epochs=10, random_state=0).fit(views)
    >>> ssvr.set_params(head="caption").similarity(views).shape
    (100, 100)
    """

    card = cards.SSVR

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **TextTopicNet._parameter_constraints,
        "head": [StrOptions({*HEADS, "mean"})],
    }

    def __init__(
        self,
        *,
        head: str = "article",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.head = head

    def _fit_features(self, views: Views, y: NDArray[Any] | None) -> None:
        text = views.distinct("text")[0]
        if isinstance(text, Channels):
            if set(text.names) != set(HEADS):
                raise ValueError(
                    f"SSVR: view {self._view_name('text')!r} must have the channels article and "
                    f"caption, got {', '.join(text.names)}"
                )
        elif self.head != "article":
            raise ValueError(
                f"SSVR with head={self.head!r} needs the channels article and caption in view "
                f"{self._view_name('text')!r}, got one text, which is the article"
            )
        super()._fit_features(views, y)

    def _encode(self, values: Any, view: str) -> Any:
        heads = self.net_.module_.heads
        if self.head != "mean" and self.head not in heads:
            raise ValueError(
                f"SSVR has the heads {', '.join(heads)} and their mean, got head={self.head!r}"
            )
        if view == "text" and isinstance(values, Channels):
            wanted = HEADS if self.head == "mean" else (self.head,)
            there = [name for name in wanted if name in values]
            if not there:
                raise ValueError(
                    f"SSVR with head={self.head!r} needs the channel {' or '.join(wanted)} of "
                    f"view {self._view_name(view)!r}, got {', '.join(values.names)}"
                )
            values = values.select(*there) if len(there) > 1 else values[there[0]]
        return super()._encode(values, view)


def topic_loss(logits: Tensor, topics: Tensor, kind: str = "sigmoid") -> Tensor:
    """Return the cross-entropy of topics and logits, averaged over the rows that have topics.

    Parameters
    ----------
    logits, topics : Tensor of shape (b, n_topics)
    kind : {"sigmoid", "softmax"}, default="sigmoid"
        Sigmoid: cross-entropies of independent topics, summed; softmax: that of distributions.

    Returns
    -------
    Tensor
        A scalar, 0 if no row has topics.
    """
    total = topics.sum(dim=1, keepdim=True)
    present = (total > 0).to(logits.dtype)
    if kind == "sigmoid":
        whole = F.binary_cross_entropy_with_logits(logits, topics, present, reduction="sum")
    else:  # rows without topics add zeros
        whole = -(topics / total.clamp(min=1e-30) * logits.log_softmax(dim=1)).sum()
    return whole / present.sum().clamp(min=1)


def _is_pictures(values: Any) -> bool:
    dtype = str(getattr(values, "dtype", ""))
    return dtype == "object" or (dtype.endswith("uint8") and len(values.shape) == 4)


def _is_strings(values: Any) -> bool:
    return str(getattr(values, "dtype", "")) == "object"


def _present(values: Any, where: str) -> NDArray[np.bool_]:
    """Return a mask of the rows that have a text; in channels, None and NaN are missing texts."""
    if not _is_strings(values):
        return np.asarray(values.sum(axis=1) != 0).ravel()
    for text in values:
        if not isinstance(text, str) and text is not None and text == text:
            raise ValueError(f"{where} must be strings, got a {type(text).__name__} among them")
    return np.array([isinstance(text, str) and bool(text.strip()) for text in values])


def _topic_vectors(values: Any, where: str) -> NDArray[np.float32]:
    if not is_tensor(values) and not isinstance(values, np.ndarray) and not sp.issparse(values):
        raise ValueError(f"{where} must be strings or topic vectors, got {type(values).__name__}")
    topics = values.toarray() if sp.issparse(values) else as_numpy(values)
    if topics.ndim != 2 or topics.dtype.kind not in "fiub":
        raise ValueError(
            f"{where} must be topic vectors of shape (n, n_topics), got shape {topics.shape} and "
            f"type {topics.dtype}"
        )
    if topics.size and topics.min() < 0:
        raise ValueError(
            f"Negative values in data passed to {where}, which holds topic vectors: expected "
            f"shares of topics, got {topics.min():.3g}"
        )
    total = topics.sum(axis=1, dtype=np.float64, keepdims=True)
    return (topics / np.maximum(total, 1)).astype(np.float32)
