"""Dual-path convolutional embeddings with instance loss (Zheng et al., 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from os import PathLike
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval
from skorch.callbacks import LRScheduler
from torch import Tensor, nn
from torch.nn import functional as F

from crossfit.extraction.weights import load_weights
from crossfit.neural import (
    AlexNet,
    Batch,
    Items,
    RankingEstimator,
    SentenceEstimator,
    Standardize,
    WordEmbedding,
    init_weights,
    label_loss,
)
from crossfit.neural.pictures import READING, Pictures
from crossfit.neural.sentences import SENTENCES
from crossfit.neural.trunks import ALEXNET_CUT
from crossfit.views import Views
from crossfit_ranking import cards

__all__ = ["Block", "DualPath", "DualPathNetwork", "Layout", "WordResNet"]

# Units of the last layer of an AlexNet without its classes.
_FC7 = 4096
# Width of the layers inside a block, as a share of its output.
_BOTTLENECK = 4


class DualPath(SentenceEstimator, RankingEstimator):
    r"""Dual-path convolutional embeddings: instance loss first, then ranking.

    An image has a vector f and a text a vector g, which are compared by their cosine. Every image
    with its captions is a class of its own, and one classifier W is shared by both branches, so
    that an image and its captions must have vectors in the same direction. Stage one minimises the
    instance loss

    .. math::

        L_I = \lambda_2\, \mathrm{CE}(W f, c) + \lambda_3\, \mathrm{CE}(W g, c),

    where c is the class of the pair. Stage two adds the ranking loss
    :math:`\lambda_1 \sum [\alpha - \cos(f, g) + \cos(f, g_n)]_+` and the one with images and texts
    exchanged, over negatives n of other classes.

    Texts are strings, word ids or sequences of word vectors, for a residual network of
    convolutions over the words; or one vector per text, for fully connected layers. Images are
    vectors, or pictures (paths, PIL images, uint8 pixels), for which an AlexNet, fixed in stage one
    and fine-tuned in stage two, has the place of the paper's ResNet-50. Texts are never padded
    inside the network, so that no text depends on the others of its batch.

    The defaults are for a few thousand images with captions. Of the paper, the two stages with
    their losses and weights, the shared classifier, word vectors of 300 features, convolutions over
    two words in residual blocks, and the shift of words are known to us; the numbers and widths of
    the blocks and the settings of the optimiser are our reading.

    Parameters
    ----------
    instance_epochs : int, default=20
        Number of epochs of stage one; stage two has the rest of `max_epochs`. If `max_epochs` is
        not larger there is no stage two, and with 0 there is no stage one.
    ranking_weight : float, default=1.0
        Weight :math:`\lambda_1` of the ranking loss in stage two.
    image_weight : float, default=1.0
        Weight :math:`\lambda_2` of the instance loss of images.
    text_weight : float, default=1.0
        Weight :math:`\lambda_3` of the instance loss of texts.
    stage_two_rate : float, default=1.0
        Factor of the learning rate in stage two.
    width : int, default=256
        Width of the common space.
    hidden : int, default=512
        Width of the layer before it, with batch normalisation and ReLU.
    dropout : float, default=0.5
        Dropout probability after this layer.
    standardize : bool, default=True
        Whether to scale vectors, also those of words, to mean 0 and variance 1 over the training
        items.
    channels : sequence of int, default=(256,)
        Widths of the stages of the network over words. Every stage but the first starts with a
        stride of two words.
    blocks : sequence of int, default=(1,)
        Number of residual blocks of each stage.
    kernel : int, default=2
        Number of words that the convolution of a block reads.
    shift : bool, default=True
        Whether training places the first word of each text at random, which determines the words
        that a stride joins.
    word_width : int, default=300
        Width of the vectors that are learned for words; given word vectors keep theirs.
    word_dropout : float, default=0.0
        Probability, in training, that a word becomes an unknown one.
    max_words : int or None, default=32
        Number of words per text, from the first.
    min_count : int, default=2
        Minimum number of occurrences of a word in the training texts. Only for strings.
    margin : float, default=0.2
        Margin :math:`\alpha` of the ranking loss; 1 in the paper.
    mining : {"sum", "all", "hardest", "top-k", "random"}, default="sum"
        Negatives of a matched pair; see `crossfit.neural.triplet_loss`.
    trunk_weights : str, path-like or None, default="DEFAULT"
        Initial weights of AlexNet: ``"DEFAULT"`` or another name of torchvision, a file, or
        None for random weights. Only for pictures.
    trunk_lr : float, default=0.0001
        Learning rate of AlexNet in stage two.
    num_workers : int or None, default=None
        Number of processes that read pictures; see `crossfit.neural.pictures.Pictures`. Results do
        not depend on it.
    picture_memory : int, default=2 ** 30
        Pictures are read once and kept if they take at most this many bytes; 5,461 pictures take
        a gibibyte. Otherwise they are read again for every batch. Results do not depend on it.
    max_epochs : int, default=30
        Number of passes over the training pairs in both stages.
    lr : float, default=0.001
        Learning rate.
    batch_size : int, default=128
        Number of pairs per batch.
    optimizer : str or type, default="Adam"
        Name of a class in `torch.optim`, or such a class.
    **kwargs
        `k_negatives`, `clip`, `lr_step` and `lr_gamma` of
        `crossfit.neural.RankingEstimator`, and those of `crossfit.neural.NeuralEstimator`.

    Attributes
    ----------
    identities_ : int array of shape (n_classes,)
        Group of each class of the instance loss.
    text_form_ : {"strings", "ids", "words", "vectors"}
        Form of the texts.
    vocabulary_ : tuple of str
        Word of each id, if strings were given.
    net_ : skorch.NeuralNet
        Its history contains the instance losses ``train_image`` and ``train_text`` and, in stage
        two, the ranking losses ``train_image2text`` and ``train_text2image``. ``valid_loss`` is the
        ranking loss in both stages: images that are held out have no class.

    References
    ----------
    Z. Zheng, L. Zheng, M. Garrett, Y. Yang, Y.-D. Shen, Dual-path convolutional image-text
    embedding with instance loss, arXiv:1711.05535, 2017 (ACM TOMM 16(2), 2020).

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit_ranking.dual_path import DualPath
    >>> from crossfit_ranking.testing import make_inputs
    >>> views, _ = make_inputs(np.random.default_rng(0), 100)
    >>> method = DualPath(width=16, hidden=32, instance_epochs=3, max_epochs=6, random_state=0)
    >>> method.fit(views).transform(views)["text"].shape
    (100, 16)
    >>> "train_image2text" in method.net_.history[2], "train_image2text" in method.net_.history[3]
    (False, True)
    """

    card = cards.DUAL_PATH
    _neutral: ClassVar[tuple[str, ...]] = (*RankingEstimator._neutral, *READING)
    _only_shown: ClassVar[tuple[str, ...]] = ("image", "text")

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **RankingEstimator._parameter_constraints,
        **SENTENCES,
        **READING,
        "instance_epochs": [Interval(Integral, 0, None, closed="left")],
        "ranking_weight": [Interval(Real, 0, None, closed="left")],
        "image_weight": [Interval(Real, 0, None, closed="left")],
        "text_weight": [Interval(Real, 0, None, closed="left")],
        "stage_two_rate": [Interval(Real, 0, None, closed="neither")],
        "width": [Interval(Integral, 1, None, closed="left")],
        "hidden": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "standardize": ["boolean"],
        "channels": [list, tuple],
        "blocks": [list, tuple],
        "kernel": [Interval(Integral, 1, None, closed="left")],
        "shift": ["boolean"],
        "word_width": [Interval(Integral, 1, None, closed="left")],
        "word_dropout": [Interval(Real, 0, 1, closed="left")],
        "trunk_weights": [str, PathLike, None],
        "trunk_lr": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        *,
        instance_epochs: int = 20,
        ranking_weight: float = 1.0,
        image_weight: float = 1.0,
        text_weight: float = 1.0,
        stage_two_rate: float = 1.0,
        width: int = 256,
        hidden: int = 512,
        dropout: float = 0.5,
        standardize: bool = True,
        channels: Sequence[int] = (256,),
        blocks: Sequence[int] = (1,),
        kernel: int = 2,
        shift: bool = True,
        word_width: int = 300,
        word_dropout: float = 0.0,
        max_words: int | None = 32,
        min_count: int = 2,
        margin: float = 0.2,
        mining: str = "sum",
        trunk_weights: str | PathLike[str] | None = "DEFAULT",
        trunk_lr: float = 1e-4,
        num_workers: int | None = None,
        picture_memory: int = 2**30,
        max_epochs: int = 30,
        lr: float = 1e-3,
        batch_size: int = 128,
        optimizer: str | type[torch.optim.Optimizer] = "Adam",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            margin=margin,
            mining=mining,
            max_epochs=max_epochs,
            lr=lr,
            batch_size=batch_size,
            optimizer=optimizer,
            **kwargs,
        )
        self.instance_epochs = instance_epochs
        self.ranking_weight = ranking_weight
        self.image_weight = image_weight
        self.text_weight = text_weight
        self.stage_two_rate = stage_two_rate
        self.width = width
        self.hidden = hidden
        self.dropout = dropout
        self.standardize = standardize
        self.channels = channels
        self.blocks = blocks
        self.kernel = kernel
        self.shift = shift
        self.word_width = word_width
        self.word_dropout = word_dropout
        self.max_words = max_words
        self.min_count = min_count
        self.trunk_weights = trunk_weights
        self.trunk_lr = trunk_lr
        self.num_workers = num_workers
        self.picture_memory = picture_memory

    def _validate_params(self) -> None:
        super()._validate_params()
        for name in ("channels", "blocks"):
            given = getattr(self, name)
            if not given or not all(
                isinstance(n, Integral) and not isinstance(n, bool) and int(n) >= 1 for n in given
            ):
                raise ValueError(
                    f"{self._name()}: {name} must be integers of at least 1, one per stage, got "
                    f"{given!r}"
                )
        if len(self.channels) != len(self.blocks):
            raise ValueError(
                f"{self._name()}: channels and blocks must have one number per stage, got "
                f"{len(self.channels)} and {len(self.blocks)}"
            )

    # ---- the network and its losses ------------------------------------------------------------

    def _build_module(
        self, n_inputs: dict[str, Any], n_classes: int | None, **module: Any
    ) -> nn.Module:
        settings: dict[str, Any] = {
            "width": self.width,
            "hidden": self.hidden,
            "dropout": self.dropout,
            "standardize": self.standardize,
        }
        words = None
        if self.text_form_ != "vectors":
            words = WordResNet(
                self._words(
                    n_inputs["text"],
                    self.word_width,
                    word_dropout=self.word_dropout,
                    standardize=self.standardize,
                ),
                self.channels,
                self.blocks,
                kernel=self.kernel,
                shift=self.shift,
            )
        trunk = AlexNet(dense=True) if self.pictures_ else None
        start = self.__dict__.pop("_start", None)
        if trunk is not None and start is not None:
            trunk.fill(start, self.trunk_weights)
        return DualPathNetwork(
            n_inputs, len(self.identities_), words, trunk, **{**settings, **module}
        )

    def _outputs(self, module: nn.Module, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        """Return vectors and class scores of the items, by role."""
        assert isinstance(module, DualPathNetwork)
        module.trunk_fixed = not self._ranks(batch)
        found = {}
        for role, items in batch.views.items():
            vectors = module.encode(items, role)
            found[role] = vectors, module.classifier(vectors)
        return found

    def _scores(self, outputs: Any) -> Tensor:
        (image, _), (text, _) = outputs.values()
        return F.normalize(image, dim=1) @ F.normalize(text, dim=1).T

    def _loss(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        labels = self._classes_of(batch)
        terms = {
            "image": self.image_weight * label_loss(outputs["image"][1], labels),
            "text": self.text_weight * label_loss(outputs["text"][1], labels),
        }
        if self._ranks(batch) or not self.net_.module_.training:
            for name, loss in super()._loss(outputs, batch).items():
                terms[name] = self.ranking_weight * loss
        return terms

    def _ranks(self, batch: Batch) -> bool:
        """Return True in stage two."""
        epoch = min(round(batch.progress * self.max_epochs), self.max_epochs - 1)
        return epoch >= self.instance_epochs

    def _classes_of(self, batch: Batch) -> Tensor:
        """Return the class numbers of the rows, -1 for groups that are held out."""
        known = torch.as_tensor(self.identities_, device=batch.groups.device)
        at = torch.searchsorted(known, batch.groups).clamp(max=len(known) - 1)
        return torch.where(known[at] == batch.groups, at, -1)

    def _schedule(self) -> list[Any]:
        stages = LRScheduler(
            "MultiStepLR", milestones=[self.instance_epochs], gamma=self.stage_two_rate
        )
        return [*super()._schedule(), stages]

    def _optimizer_parameters(self) -> dict[str, Any]:
        given = super()._optimizer_parameters()
        if not getattr(self, "pictures_", False):
            return given
        # The schedule multiplies it in stage two; before, the trunk has no gradient.
        slow = ("trunk.*", {"lr": self.trunk_lr / self.stage_two_rate})
        return {**given, "param_groups": [*given.get("param_groups", ()), slow]}

    # ---- classes and pictures ------------------------------------------------------------------

    def _fit_features(self, views: Views, y: NDArray[Any] | None) -> None:
        super()._fit_features(views, y)
        self.identities_ = np.unique(views.groups)
        self.pictures_ = _are_pictures(views.distinct("image")[0])
        if self.pictures_ and self.trunk_weights is not None:
            self._start = load_weights("alexnet", self.trunk_weights)

    def _features(self, values: Any, view: str) -> Any:
        if view == "text":
            return super()._features(values, view)
        kinds = ("vectors", "pictures")
        given = _are_pictures(values)
        where = f"{self._name()}: view {self._view_name(view)!r}"
        if given != self.pictures_:
            raise ValueError(f"{where} was fitted on {kinds[self.pictures_]}, got {kinds[given]}")
        if not given:
            return values
        return Pictures(
            values,
            ALEXNET_CUT,
            augment=True,
            num_workers=self.num_workers,
            memory=self.picture_memory,
            where=where,
        )


class DualPathNetwork(nn.Module):
    """Two branches and the classifier that they share.

    Parameters
    ----------
    n_inputs : dict of str to int
        Width of the vectors of each view; not used for words and pictures.
    n_classes : int
        Number of classes of the instance loss.
    words : WordResNet or None
        First part of the branch of texts; None for vectors.
    trunk : AlexNet or None
        First part of the branch of images; None for vectors.
    width : int
        Width of the common space.
    hidden : int
        Width of the hidden layer of each branch.
    dropout : float
        Dropout probability after the hidden layers.
    standardize : bool
        Whether vectors are standardised by the training items.

    Attributes
    ----------
    trunk_fixed : bool
        Whether the trunk has no gradient.
    """

    def __init__(
        self,
        n_inputs: dict[str, Any],
        n_classes: int,
        words: WordResNet | None,
        trunk: AlexNet | None,
        *,
        width: int,
        hidden: int,
        dropout: float,
        standardize: bool,
    ) -> None:
        super().__init__()
        self.words, self.trunk = words, trunk
        self.trunk_fixed = False
        read = dict(n_inputs)
        if trunk is not None:
            read["image"] = _FC7
        if words is not None:
            read["text"] = words.width
        self.scalings = nn.ModuleDict()
        self.heads = nn.ModuleDict()
        for role, n in read.items():
            given = trunk is None if role == "image" else words is None
            if standardize and given:
                self.scalings[role] = Standardize(n, role)
            self.heads[role] = nn.Sequential(
                nn.Linear(n, hidden, bias=False),
                nn.BatchNorm1d(hidden),
                nn.ReLU(),
                nn.Dropout(dropout),
                nn.Linear(hidden, width),
            )
        self.classifier = nn.Linear(width, n_classes, bias=False)
        for head in self.heads.values():
            init_weights(head)
        if words is not None:
            init_weights(words)
        init_weights(self.classifier, "linear")

    def encode(self, items: Items, role: str) -> Tensor:
        """Return the vectors of items in the common space, (b, width)."""
        if role == "image" and self.trunk is not None:
            with torch.set_grad_enabled(torch.is_grad_enabled() and not self.trunk_fixed):
                x = self.trunk.fc7(items.values)
        elif role == "text" and self.words is not None:
            x = self.words(items)
        else:
            x = items.values
        if role in self.scalings:
            x = self.scalings[role](x)
        vectors: Tensor = self.heads[role](x)
        return vectors


# ---- convolutions over words --------------------------------------------------------------------


class WordResNet(nn.Module):
    """A residual network of convolutions over the words of texts, and the mean of its outputs.

    The words of all texts of a batch are the rows of one matrix, without padding: convolutions of
    one word are products with this matrix, batch normalisation has the statistics of words alone,
    and the convolution over several words reads zeros beyond the ends of a text.

    Parameters
    ----------
    embedding : WordEmbedding
        Vectors of words.
    channels : sequence of int
        Widths of the stages. Every stage but the first starts with a stride of two words.
    blocks : sequence of int
        Number of residual blocks of each stage.
    kernel : int, default=2
        Number of words that the convolution of a block reads.
    shift : bool, default=False
        Whether training draws the place of the first word of each text.

    Attributes
    ----------
    width : int
        Width of the output.
    """

    def __init__(
        self,
        embedding: WordEmbedding,
        channels: Sequence[int],
        blocks: Sequence[int],
        *,
        kernel: int = 2,
        shift: bool = False,
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.kernel, self.shift = kernel, shift
        self.width = channels[-1]
        self.stages = nn.ModuleList()
        width = embedding.width
        for channel, n_blocks in zip(channels, blocks, strict=True):
            stage = [Block(width if i == 0 else channel, channel, kernel) for i in range(n_blocks)]
            self.stages.append(nn.ModuleList(stage))
            width = channel

    def forward(self, items: Items) -> Tensor:
        """Map words to one vector per text.

        Parameters
        ----------
        items : Items
            Word ids (b, T), or word vectors (b, T, d), with a mask.

        Returns
        -------
        Tensor of shape (b, width)
            Zero for a text without words.
        """
        words, mask = self.embedding(items)
        x, lengths = words[mask], mask.sum(dim=1)
        first = torch.zeros_like(lengths)
        if self.training and self.shift:
            first = torch.randint_like(lengths, 2 ** (len(self.stages) - 1))
        layout = Layout(lengths, first)
        stages: Any = self.stages
        for number, stage in enumerate(stages):
            if number:
                source, layout = layout, layout.halved()
                windows, starts = layout.windows(self.kernel, source), layout.starts(source)
            else:
                windows, starts = layout.windows(self.kernel), None
            for i, block in enumerate(stage):
                if i and starts is not None:
                    windows, starts = layout.windows(self.kernel), None
                x = block(x, windows, starts)
        total = x.new_zeros(len(mask), x.shape[1]).index_add(0, layout.text, x)
        return total / layout.lengths.clamp(min=1)[:, None]


class Layout:
    """Places of the words of several texts in a matrix that holds them without padding.

    Parameters
    ----------
    lengths : int64 Tensor of shape (b,)
        Number of words of each text.
    first : int64 Tensor of shape (b,)
        Place of the first word of each text.

    Attributes
    ----------
    begin : int64 Tensor of shape (b,)
        Row of the first word of each text.
    text, place : int64 Tensor of shape (n_words,)
        Number of the text of each row, and place of the row in it.
    """

    def __init__(self, lengths: Tensor, first: Tensor) -> None:
        self.lengths, self.first = lengths, first
        self.begin = lengths.cumsum(0) - lengths
        texts = torch.arange(len(lengths), device=lengths.device)
        self.text = texts.repeat_interleave(lengths)
        rows = torch.arange(len(self.text), device=lengths.device)
        self.place = rows - (self.begin - first)[self.text]

    def halved(self) -> Layout:
        """Return the layout that has one row for the places 2j and 2j + 1 together."""
        first, last = self.first // 2, (self.first + self.lengths - 1) // 2
        return Layout(torch.where(self.lengths > 0, last - first + 1, 0), first)

    def windows(self, kernel: int, source: Layout | None = None) -> Tensor:
        """Return the rows that each step of a convolution reads.

        Parameters
        ----------
        kernel : int
            Number of places, which begin (kernel - 1) // 2 before that of the step.
        source : Layout, optional
            The layout that was halved, with a stride of two; by default the layout itself.

        Returns
        -------
        int64 Tensor of shape (n_words, kernel)
            Numbers of rows of the source; that after the last one stands for a place without a
            word.
        """
        read, stride = (self, 1) if source is None else (source, 2)
        taps = torch.arange(kernel, device=self.place.device) - (kernel - 1) // 2
        inside = stride * self.place[:, None] + taps - read.first[self.text, None]
        outside = (inside < 0) | (inside >= read.lengths[self.text, None])
        return (inside + read.begin[self.text, None]).masked_fill(outside, len(read.text))

    def starts(self, source: Layout) -> Tensor:
        """Return the first of the rows of the layout that was halved that each row joins."""
        first = source.first[self.text]
        return (2 * self.place).clamp(min=first) - first + source.begin[self.text]


class Block(nn.Module):
    """A residual block: one word, `kernel` words, one word, and the input added.

    Parameters
    ----------
    n_inputs, width : int
        Widths of input and output.
    kernel : int
        Number of words that the second convolution reads.
    """

    def __init__(self, n_inputs: int, width: int, kernel: int) -> None:
        super().__init__()
        inner = max(width // _BOTTLENECK, 1)
        self.reduce = nn.Sequential(
            nn.Linear(n_inputs, inner, bias=False), nn.BatchNorm1d(inner), nn.ReLU()
        )
        self.convolve = nn.Sequential(
            nn.Linear(kernel * inner, inner, bias=False), nn.BatchNorm1d(inner), nn.ReLU()
        )
        self.expand = nn.Sequential(nn.Linear(inner, width, bias=False), nn.BatchNorm1d(width))
        self.shortcut: nn.Module = nn.Identity()
        if n_inputs != width:
            self.shortcut = nn.Sequential(
                nn.Linear(n_inputs, width, bias=False), nn.BatchNorm1d(width)
            )

    def forward(self, x: Tensor, windows: Tensor, starts: Tensor | None) -> Tensor:
        """Map the words of all texts.

        Parameters
        ----------
        x : Tensor of shape (n, n_inputs)
            Words.
        windows : int64 Tensor of shape (m, kernel)
            Rows that each step reads; n for none.
        starts : int64 Tensor of shape (m,), or None
            Row that is added to each step; None for the same one.

        Returns
        -------
        Tensor of shape (m, width)
        """
        inner = F.pad(self.reduce(x), (0, 0, 0, 1))  # a row of zeros, for places without a word
        read = inner.index_select(0, windows.flatten()).view(len(windows), -1)
        kept = x if starts is None else x.index_select(0, starts)
        return F.relu(self.shortcut(kept) + self.expand(self.convolve(read)))


def _are_pictures(values: Any) -> bool:
    """Return True for pictures, False for vectors."""
    dtype = str(getattr(values, "dtype", ""))
    return dtype == "object" or (dtype.endswith("uint8") and len(values.shape) == 4)
