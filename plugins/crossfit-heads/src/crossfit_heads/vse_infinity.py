"""VSE∞: learnt pooling of sets (GPO), Chen, Hu, Wu, Jiang and Wang, CVPR 2021."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor, nn
from torch.nn import functional as F

from crossfit.neural import Batch, Items, RankingEstimator, Recurrent, SentenceEstimator
from crossfit.neural.sentences import SENTENCES
from crossfit.views import Views
from crossfit_heads import cards
from crossfit_heads.sets import RegionBranch, WordBranch

__all__ = ["GPO", "VSEInfinity", "VSEInfinityNetwork", "pooled", "thinned"]


def pooled(values: Tensor, mask: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted sum over the sorted values of every feature.

    Parameters
    ----------
    values : Tensor of shape (b, L, d)
        Elements of b sets.
    mask : bool Tensor of shape (b, L)
        True at elements.
    weights : Tensor of shape (b, L)
        Weight of the k-th largest value of a set; those after its last element are not used.

    Returns
    -------
    Tensor of shape (b, d)
    """
    if mask.all():
        return _weighed(values, weights)
    real = torch.arange(mask.shape[1], device=mask.device) < mask.sum(dim=1, keepdim=True)
    return _weighed(values.masked_fill(~mask[..., None], -torch.inf), weights * real, real)


def _weighed(values: Tensor, weights: Tensor, real: Tensor | None = None) -> Tensor:
    # The last axis is sorted many times faster than the one before it.
    ordered = values.mT.sort(dim=2, descending=True)[0]
    if real is not None:
        ordered = ordered.masked_fill(~real[:, None], 0.0)
    return (ordered @ weights[..., None]).squeeze(-1)


class GPO(nn.Module):
    r"""The generalised pooling operator: weights of the k-th largest value, for any length.

    A GRU in both directions runs over encodings of the positions 1, ..., L, sines and cosines of
    wavelengths from 2π to 10000 · 2π; a linear map of its states, averaged over the directions,
    gives the logits of the weights, which are divided by the temperature. They depend on the
    number of elements alone.

    Parameters
    ----------
    positions : int, default=32
        Width of the encodings of positions, an even number.
    width : int, default=32
        Number of units of a direction of the GRU.
    temperature : float, default=0.1
        Temperature of the softmax.
    """

    def __init__(self, positions: int = 32, width: int = 32, temperature: float = 0.1) -> None:
        super().__init__()
        self.gru = Recurrent(positions, width, directions="mean")
        self.linear = nn.Linear(width, 1, bias=False)
        self.positions, self.temperature = positions, temperature

    def encodings(self, length: int) -> Tensor:
        """Return the encodings (length, positions) of positions.

        Parameters
        ----------
        length : int
            Number of positions.
        """
        place = torch.arange(length, dtype=torch.float32)[:, None]
        powers = torch.arange(0, self.positions, 2) * (-math.log(10000.0) / self.positions)
        angles = place * powers.exp()
        return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)

    def weights(self, lengths: Tensor) -> Tensor:
        """Return the weights (b, L) for sets of the given lengths, L the largest.

        Parameters
        ----------
        lengths : int64 Tensor of shape (b,)
            Number of elements of each set, at least 1.
        """
        # Few lengths differ.
        distinct, at = lengths.unique(return_inverse=True)
        most = int(distinct[-1])
        mask = torch.arange(most, device=lengths.device) < distinct[:, None]
        codes = self.encodings(most).to(lengths.device).expand(len(distinct), -1, -1)
        states, _ = self.gru(codes, mask)
        logits = self.linear(states).squeeze(-1).float() / self.temperature
        return logits.masked_fill(~mask, -torch.inf).softmax(dim=1)[at]

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """Return the pooled values (b, d) of sets; see `pooled`."""
        weights = self.weights(mask.sum(dim=1))
        return pooled(values, mask, F.pad(weights, (0, mask.shape[1] - weights.shape[1])))


class _Fixed(nn.Module):
    """The limits of GPO: the mean or the largest value of every feature."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        if self.kind == "max":
            return values.masked_fill(~mask[..., None], -torch.inf).amax(dim=1)
        return (values * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)


def thinned(values: Tensor, mask: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Return sets without a random share of their elements, which keep their order.

    Parameters
    ----------
    values : Tensor of shape (b, L, d)
        Elements of sets.
    mask : bool Tensor of shape (b, L)
        True at elements, which come first in their row.
    share : float
        Probability of dropping an element.

    Returns
    -------
    values : Tensor of shape (b, L', d)
        The kept ones come first in their row. A set that would be empty stays as it is.
    mask : bool Tensor of shape (b, L')
    """
    kept = mask & (torch.rand(mask.shape, device=mask.device) >= share)
    kept = torch.where(kept.any(dim=1, keepdim=True), kept, mask)
    order = kept.int().argsort(dim=1, descending=True, stable=True)
    order = order[:, : max(int(kept.sum(dim=1).max()), 1)]
    found = values.gather(1, order[..., None].expand(-1, -1, values.shape[2]))
    return found, kept.gather(1, order)


class VSEInfinityNetwork(nn.Module):
    """Branches of both views, and their pooling.

    Parameters
    ----------
    image : RegionBranch
        Maps regions.
    text : WordBranch
        Maps words.
    pooling : mapping of str to Module
        By role: maps sets (b, L, d), with their mask, to vectors (b, d).
    drop : mapping of str to float
        By role: share of the elements that are dropped in training.
    """

    def __init__(
        self,
        image: RegionBranch,
        text: WordBranch,
        pooling: Mapping[str, nn.Module],
        drop: Mapping[str, float],
    ) -> None:
        super().__init__()
        self.image = image
        self.text = text
        self.pooling = nn.ModuleDict(pooling)
        self.drop = dict(drop)

    def encode(self, items: Items, view: str) -> Tensor:
        """Return the unit vectors (b, width) of sets.

        Parameters
        ----------
        items : Items
            Regions or words.
        view : {"image", "text"}
            Which of them.
        """
        thin = self.training and self.drop[view] > 0
        if view == "image":
            if thin:
                values, mask = items
                if mask is None:
                    mask = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
                items = Items(*thinned(values, mask, self.drop[view]))
            values, mask = self.image(items)
        else:
            words, mask = self.text.words(items)
            if thin:
                words, mask = thinned(words, mask, self.drop[view])
            values, mask = self.text.read(words, mask)
        with torch.autocast(values.device.type, enabled=False):
            return F.normalize(self.pooling[view](values.float(), mask), dim=1)


class VSEInfinity(SentenceEstimator, RankingEstimator):
    r"""VSE∞: visual-semantic embeddings with learnt pooling (GPO).

    The regions of an image, and the words of a text, are mapped to a common space, in which every
    set becomes one vector: feature by feature, the values of its L elements are sorted and summed
    up with weights that depend on the position and on L alone,

    .. math:: v_f = \sum_{k=1}^L \theta_k \, \mathrm{max}_k \{x_{1f}, \ldots, x_{Lf}\}, \qquad
              \theta = g(1, \ldots, L), \quad \sum_k \theta_k = 1,

    where :math:`\max_k` is the k-th largest value and g a small GRU in both directions over the
    positions (equations 4 to 7 of the paper). Equal weights are the mean, and
    :math:`\theta = (1, 0, \ldots, 0)` is the maximum. Unit vectors are compared by their dot
    product. The loss is a hinge with the hardest negatives of the batch in both directions, at
    first with all of them; another caption of the same image is never a negative.

    Images are regions, (n, R, d) or ragged. Texts are strings, word ids as from
    `crossfit.extraction.Tokens`, or word vectors as from `crossfit.extraction.WordVectors`, ragged
    or padded with zeros. The defaults are for a few thousand images with captions; the paper's
    settings are in the experiment ``chen-2021-vse-infinity-flickr30k``.

    Parameters
    ----------
    pooling : {"gpo", "mean", "max"} or mapping of str to these, default="gpo"
        How a set becomes a vector, for both views or for each by role or name.
    width : int, default=256
        Width of the common space; 1024 in the paper.
    residual : bool, default=False
        Add the output of a perceptron to the linear map of regions, with `width` / 2 hidden units,
        batch normalisation and ReLU, as in the paper.
    gru : bool, default=True
        Read words by a GRU in both directions, whose states are averaged. If False, words are
        mapped linearly, and their order does not matter.
    word_width : int, default=300
        Width of the vectors that are learned for the words of strings and for word ids.
    max_words : int or None, default=30
        Number of words per text, from the first; None for all.
    min_count : int, default=1
        Least frequency of the words of the vocabulary of strings; others are one unknown word.
    word_dropout : float, default=0.0
        Probability that a word is replaced by the unknown one in training.
    drop : float or mapping of str to float, default=0.2
        Share of the regions and words that are left out in training, for both views or for each by
        role or name ("size augmentation").
    positions : int, default=32
        Width of the encodings of positions of GPO, an even number.
    gpo_width : int, default=32
        Number of units of a direction of the GRU of GPO.
    temperature : float, default=0.1
        Temperature of the weights of GPO.
    standardize : bool, default=True
        Scale features of regions and of word vectors to mean 0 and deviation 1. Not in the paper.
    dropout : float, default=0.2
        Probability of dropping a feature of a region or of a word in training; 0 in the paper.
    mining : {"sum", "all", "hardest", "top-k", "random"}, default="hardest"
        Negatives of a pair, see `crossfit.neural.triplet_loss`.
    sum_share : float, default=0.25
        Share of the epochs, from the first, in which hinges are summed over all negatives instead;
        one of 25 epochs in the paper.
    clip : float or None, default=None
        Largest norm of the gradient; longer ones are scaled down to it. In the paper it is 2 for
        hinges that are added up over the batch, which are averaged here.
    max_epochs : int, default=12
        Number of passes over the training pairs.
    lr : float, default=0.0005
        Learning rate.
    optimizer : str or type, default="AdamW"
        Name of a class in `torch.optim`, or such a class.
    **kwargs
        See `crossfit.neural.RankingEstimator`.

    Attributes
    ----------
    text_form_ : str
        Form of the training texts.
    vocabulary_ : tuple of str
        Word of each id; only for strings.
    net_ : skorch.NeuralNet
        Its history contains ``train_image2text`` and ``train_text2image``.

    See Also
    --------
    SCAN : Words attend to regions; scores pairs.

    Notes
    -----
    The authors replace one word in ten by a mask, one in fifty by another word, and leave out two
    in 25; here, `word_dropout` and `drop` are the first and the last.

    References
    ----------
    J. Chen, H. Hu, H. Wu, Y. Jiang, C. Wang, Learning the best pooling strategy for visual semantic
    embedding, CVPR 2021, 15789-15798.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit_heads.testing import make_sets
    >>> from crossfit_heads.vse_infinity import VSEInfinity
    >>> views, _ = make_sets(np.random.default_rng(0), 40)
    >>> vse = VSEInfinity(width=16, max_epochs=2, device="cpu", random_state=0).fit(views)
    >>> vse.transform(views)["text"].shape
    (40, 16)
    """

    card = cards.VSE_INFINITY

    # Whether hinges are summed depends on the share of max_epochs.
    _neutral: ClassVar[tuple[str, ...]] = tuple(
        name for name in RankingEstimator._neutral if name != "max_epochs"
    )

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **RankingEstimator._parameter_constraints,
        **SENTENCES,
        "pooling": [StrOptions({"gpo", "mean", "max"}), dict],
        "width": [Interval(Integral, 2, None, closed="left")],
        "residual": ["boolean"],
        "gru": ["boolean"],
        "word_width": [Interval(Integral, 1, None, closed="left")],
        "word_dropout": [Interval(Real, 0, 1, closed="left")],
        "drop": [Interval(Real, 0, 1, closed="left"), dict],
        "positions": [Interval(Integral, 2, None, closed="left")],
        "gpo_width": [Interval(Integral, 1, None, closed="left")],
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "standardize": ["boolean"],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "sum_share": [Interval(Real, 0, 1, closed="both")],
    }

    def __init__(
        self,
        *,
        pooling: str | Mapping[str, str] = "gpo",
        width: int = 256,
        residual: bool = False,
        gru: bool = True,
        word_width: int = 300,
        max_words: int | None = 30,
        min_count: int = 1,
        word_dropout: float = 0.0,
        drop: float | Mapping[str, float] = 0.2,
        positions: int = 32,
        gpo_width: int = 32,
        temperature: float = 0.1,
        standardize: bool = True,
        dropout: float = 0.2,
        mining: str = "hardest",
        sum_share: float = 0.25,
        clip: float | None = None,
        max_epochs: int = 12,
        lr: float = 5e-4,
        optimizer: str | type[torch.optim.Optimizer] = "AdamW",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            mining=mining, clip=clip, max_epochs=max_epochs, lr=lr, optimizer=optimizer, **kwargs
        )
        self.pooling = pooling
        self.width = width
        self.residual = residual
        self.gru = gru
        self.word_width = word_width
        self.max_words = max_words
        self.min_count = min_count
        self.word_dropout = word_dropout
        self.drop = drop
        self.positions = positions
        self.gpo_width = gpo_width
        self.temperature = temperature
        self.standardize = standardize
        self.dropout = dropout
        self.sum_share = sum_share

    def _validate_params(self) -> None:
        super()._validate_params()
        if self.positions % 2:
            raise ValueError(f"VSEInfinity: positions must be even, got {self.positions}")
        kinds, shares = self.pooling, self.drop
        if isinstance(kinds, Mapping) and not all(
            kind in ("gpo", "mean", "max") for kind in kinds.values()
        ):
            raise ValueError(
                f"VSEInfinity: pooling must be 'gpo', 'mean' or 'max' for each view, got {kinds!r}"
            )
        if isinstance(shares, Mapping) and not all(
            isinstance(share, Real) and 0 <= float(share) < 1 for share in shares.values()
        ):
            raise ValueError(
                f"VSEInfinity: drop must be at least 0 and below 1 for each view, got {shares!r}"
            )

    def _build_module(
        self, n_inputs: dict[str, Any], n_classes: int | None, **module: Any
    ) -> nn.Module:
        words = self._words(
            n_inputs["text"],
            self.word_width,
            word_dropout=self.word_dropout,
            standardize=self.standardize,
        )
        image = RegionBranch(
            n_inputs["image"],
            self.width,
            hidden=self.width // 2 if self.residual else None,
            standardize=self.standardize,
            dropout=self.dropout,
            **module,
        )
        return VSEInfinityNetwork(
            image,
            WordBranch(words, self.width, gru=self.gru, dropout=self.dropout),
            {role: self._pooling(role) for role in n_inputs},
            {role: self._of_view("drop", role) for role in n_inputs},
        )

    def _fit_features(self, views: Views, y: NDArray[Any] | None) -> None:
        for role in views.names:  # raises for missing entries before anything is computed
            self._of_view("pooling", role), self._of_view("drop", role)
        super()._fit_features(views, y)

    def _pooling(self, role: str) -> nn.Module:
        kind = self._of_view("pooling", role)
        if kind != "gpo":
            return _Fixed(kind)
        return GPO(self.positions, self.gpo_width, self.temperature)

    def _mining(self, batch: Batch) -> str:
        return "sum" if batch.progress < self.sum_share else self.mining
