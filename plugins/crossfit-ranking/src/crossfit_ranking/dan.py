"""Dual attention networks for matching (m-DAN), Nam, Ha and Kim, CVPR 2017."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.nn import functional as F

from crossfit.cards import MethodCard
from crossfit.neural import (
    Items,
    RankingEstimator,
    Recurrent,
    SentenceEstimator,
    Standardize,
    WordEmbedding,
    init_weights,
    masked_softmax,
)
from crossfit.neural.sentences import SENTENCES
from crossfit.views import Ragged, Views
from crossfit_ranking import cards

__all__ = ["DAN", "DANNetwork", "MemoryAttention"]


class MemoryAttention(nn.Module):
    r"""Attention over a set of vectors, steered by a memory.

    .. math:: h_t = \tanh(W u_t) \odot \tanh(W_m m), \quad a = \mathrm{softmax}_t\, w' h_t

    Parameters
    ----------
    width : int
        Width of the vectors.
    memory : int
        Width of the memory.
    hidden : int
        Number of hidden units.
    dropout : float, default=0.0
        Probability of dropping a hidden unit.
    """

    def __init__(self, width: int, memory: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.of_vectors = nn.Linear(width, hidden)
        self.of_memory = nn.Linear(memory, hidden)
        # A bias would cancel in the softmax.
        self.weight = nn.Linear(hidden, 1, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, vectors: Tensor, memory: Tensor, mask: Tensor | None) -> Tensor:
        """Return the weights of the vectors.

        Parameters
        ----------
        vectors : Tensor of shape (b, T, width)
            Sets of vectors.
        memory : Tensor of shape (b, memory)
            What each set has been attended for so far.
        mask : bool Tensor of shape (b, T), or None
            True at real vectors.

        Returns
        -------
        Tensor of shape (b, T)
            Sums to 1 over the real vectors.
        """
        hidden = torch.tanh(self.of_vectors(vectors)) * torch.tanh(self.of_memory(memory))[:, None]
        return masked_softmax(self.weight(self.dropout(hidden)).squeeze(-1), mask)


class DANNetwork(nn.Module):
    """Both branches of m-DAN: vectors of an initial glimpse and of every step of attention.

    Parameters
    ----------
    n_regions : int
        Width of the regions.
    words : WordEmbedding
        Embedding of the words.
    width : int
        Width of the LSTM, of the attention, and of the vectors of a step.
    n_steps : int
        Number K of steps.
    directions : {"sum", "mean"}
        How the states of both directions of the LSTM are combined.
    dropout : float
        Probability of dropping a feature of a region or word, a state or a hidden unit.
    normalize : bool
        Whether the vector of every step has unit length, and that of the item too.
    standardize : bool
        Whether the regions are standardised.
    """

    def __init__(
        self,
        n_regions: int,
        words: WordEmbedding,
        *,
        width: int,
        n_steps: int,
        directions: str,
        dropout: float,
        normalize: bool,
        standardize: bool,
    ) -> None:
        super().__init__()
        self.scaling = Standardize(n_regions, "image") if standardize else nn.Identity()
        self.words = words
        self.lstm = Recurrent(words.width, width, cell="lstm", directions=directions)
        self.projections = nn.ModuleList(nn.Linear(n_regions, width) for _ in range(n_steps + 1))
        self.looks = nn.ModuleList(
            MemoryAttention(n_regions, width, width, dropout) for _ in range(n_steps)
        )
        self.reads = nn.ModuleList(
            MemoryAttention(width, width, width, dropout) for _ in range(n_steps)
        )
        self.dropout = nn.Dropout(dropout)
        self.normalize = normalize
        init_weights(self, "tanh")
        for attention in (*self.looks, *self.reads):
            init_weights(attention.weight, "linear")

    def steps(self, items: Items, view: str) -> tuple[list[Tensor], list[Tensor]]:
        """Return the vector of every step, and the attention of all but the first.

        Parameters
        ----------
        items : Items
            Regions of images, or words of texts.
        view : {"image", "text"}
            Role of the items.

        Returns
        -------
        vectors : list of K + 1 Tensors of shape (b, width)
            v_0 to v_K of images, u_0 to u_K of texts, not normalised.
        weights : list of K Tensors of shape (b, T)
            The attention of step 1 to K over regions or words.
        """
        if view == "image":
            mask = items.mask
            elements = self.dropout(self.scaling(items.values))
            if mask is not None:
                elements = torch.where(mask[..., None], elements, 0.0)  # the padding is arbitrary
            attentions = self.looks
        else:
            words, mask = self.words(items)
            # A text without words is one word of zeros.
            mask = mask | F.one_hot(mask.new_zeros(len(mask), dtype=torch.int64),
                                    mask.shape[1]).bool()  # fmt: skip
            elements = self.dropout(self.lstm(self.dropout(words), mask)[0])
            attentions = self.reads
        vectors = [self._vector(mean(elements, mask), 0, view)]
        memory = vectors[0]
        weights = []
        for step, attention in enumerate(attentions, start=1):
            found = attention(elements, memory, mask)
            vectors.append(self._vector((found[:, None] @ elements).squeeze(1), step, view))
            weights.append(found)
            memory = memory + vectors[-1]
        return vectors, weights

    def _vector(self, pooled: Tensor, step: int, view: str) -> Tensor:
        return torch.tanh(self.projections[step](pooled)) if view == "image" else pooled

    def encode(self, items: Items, view: str) -> Tensor:
        """Return the vectors of all steps, one after the other: (b, (K + 1) width)."""
        vectors, _ = self.steps(items, view)
        if self.normalize:
            scale = math.sqrt(len(vectors))
            vectors = [F.normalize(part, dim=1) / scale for part in vectors]
        return torch.cat(vectors, dim=1)


def mean(elements: Tensor, mask: Tensor | None) -> Tensor:
    """Return the mean over the real vectors of each set.

    Parameters
    ----------
    elements : Tensor of shape (b, T, width)
        Zero where there is no vector.
    mask : bool Tensor of shape (b, T), or None
        True at real vectors.

    Returns
    -------
    Tensor of shape (b, width)
        Zero for a set without vectors.
    """
    if mask is None:
        return elements.mean(dim=1)
    return elements.sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1)


class DAN(SentenceEstimator, RankingEstimator):
    r"""Dual attention networks for matching (m-DAN): several glimpses of an image and of a text.

    A text is read by a bidirectional LSTM, whose states of both directions are combined to u_t. Its
    first vector u_0 is their mean; that of an image is :math:`v_0 = \tanh(P_0 \bar v)` with the
    mean of the regions. Step k of K attends to the words by a memory m of what was read before,

    .. math:: h_t = \tanh(W u_t) \odot \tanh(W_m m), \quad a = \mathrm{softmax}_t\, w' h_t, \quad
              u_k = \sum_t a_t u_t, \quad m \leftarrow m + u_k ,

    and to the regions in the same way, with :math:`v_k = \tanh(P_k \sum_i a_i v_i)` and a memory of
    its own. Every step has its own weights. The score of a pair is
    :math:`\sum_{k=0}^K u_k \cdot v_k`. Since neither side attends by the other, it is one dot
    product of the vectors of all steps, concatenated, which a search index takes as they are. The
    loss is the sum of the hinges of both directions; another caption of the same image is never
    wrong.

    Images are sets of regions, (n, R, d) or ragged. Texts are strings, for which vectors of words
    are learned; word ids, as from `crossfit.extraction.Tokens`; or word vectors, ragged or padded
    with zeros, as from `crossfit.extraction.WordVectors`.

    The defaults are for a few thousand images with captions; see Notes for the paper's settings.

    Parameters
    ----------
    width : int, default=128
        Width of the states, of the hidden units of the attention, and of the vectors of a step. The
        common space has K + 1 times as many dimensions.
    n_steps : int, default=2
        Number K of steps of attention; 0 for means alone.
    directions : {"mean", "sum"}, default="mean"
        How the states of both directions are combined; the paper adds them up, a public
        implementation of it averages them.
    word_width : int, default=128
        Width of the vectors of strings and word ids, which are learned.
    max_words : int or None, default=30
        Number of words per text, from the first; None for all.
    min_count : int, default=2
        Number of times that a word of strings must occur in the training texts to have a vector.
    dropout : float, default=0.2
        Probability of dropping a feature of a region or word, a state, or a hidden unit of the
        attention.
    normalize : bool, default=True
        Scale the vectors of every step so that the score is the mean of their cosines, for which
        the margin has a fixed meaning. Otherwise it is the sum of their dot products, as in the
        paper, which is up to `width` times K + 1.
    standardize : bool, default=True
        Subtract the training mean of every feature of the regions, and of word vectors, and divide
        it by its standard deviation. Not in the paper.
    margin : float, default=0.2
        Margin of the hinges; 100 in the paper, for dot products.
    mining : {"all", "sum", "hardest", "top-k", "random"}, default="all"
        Wrong items of the batch that a matched pair is compared with; see
        `crossfit.neural.triplet_loss`.
    max_epochs : int, default=12
        Number of passes over the training pairs.
    lr : float, default=0.001
        Learning rate.
    batch_size : int, default=128
        Number of pairs per batch, as in the paper.
    optimizer : str or type, default="Adam"
        Name of a class in `torch.optim`, or such a class; SGD in the paper.
    **kwargs
        See `crossfit.neural.RankingEstimator`.

    Attributes
    ----------
    text_form_ : {"strings", "ids", "words"}
        Form of the training texts.
    vocabulary_ : tuple of str
        Word of each id; only for strings.
    net_ : skorch.NeuralNet
        Its history contains the hinges of both directions, ``train_image2text`` and
        ``train_text2image``.

    See Also
    --------
    crossfit_ranking.dvsa.DVSA : Every word is matched with its nearest region.

    Notes
    -----
    The paper has regions of 14 x 14 x 512 numbers (pool5 of VGG-19, pictures of 448 x 448 pixels),
    K = 2, all widths 512, sums of the states, dot products with margin 100, and SGD with learning
    rate 0.1, momentum 0.9 and clipped gradients, for 60 epochs on batches of 128. They are in the
    experiment ``nam-2017-dan-flickr30k``, which also lists what is not among our sources.

    References
    ----------
    H. Nam, J.-W. Ha, J. Kim, Dual attention networks for multimodal reasoning and matching, CVPR
    2017, 299-307.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit_ranking.dan import DAN
    >>> from crossfit_ranking.testing import make_regions
    >>> views, _ = make_regions(np.random.default_rng(0), 60)
    >>> dan = DAN(width=16, max_epochs=2, device="cpu", random_state=0).fit(views)
    >>> dan.transform(views)["image"].shape  # of three steps
    (60, 48)
    >>> round(float(dan.explain(views[:1])["image"][0].sum()), 3)
    1.0
    """

    card: ClassVar[MethodCard | None] = cards.DAN

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **RankingEstimator._parameter_constraints,
        **SENTENCES,
        "width": [Interval(Integral, 1, None, closed="left")],
        "n_steps": [Interval(Integral, 0, None, closed="left")],
        "directions": [StrOptions({"sum", "mean"})],
        "word_width": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "normalize": ["boolean"],
        "standardize": ["boolean"],
    }

    def __init__(
        self,
        *,
        width: int = 128,
        n_steps: int = 2,
        directions: str = "mean",
        word_width: int = 128,
        max_words: int | None = 30,
        min_count: int = 2,
        dropout: float = 0.2,
        normalize: bool = True,
        standardize: bool = True,
        margin: float = 0.2,
        mining: str = "all",
        max_epochs: int = 12,
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
        self.width = width
        self.n_steps = n_steps
        self.directions = directions
        self.word_width = word_width
        self.max_words = max_words
        self.min_count = min_count
        self.dropout = dropout
        self.normalize = normalize
        self.standardize = standardize

    def _build_module(
        self, n_inputs: dict[str, Any], n_classes: int | None, **module: Any
    ) -> nn.Module:
        names = ("width", "n_steps", "directions", "dropout", "normalize", "standardize")
        settings = {name: getattr(self, name) for name in names}
        words = self._words(n_inputs["text"], self.word_width, standardize=self.standardize)
        return DANNetwork(n_inputs["image"], words, **{**settings, **module})

    def _own_similarity(self) -> str:
        return "dot"

    # ---- attention -----------------------------------------------------------------------------

    def explain(self, X: Any, Y: Any = None, *, step: int | None = None) -> Any:
        """Return the attention over regions and words.

        Parameters
        ----------
        X : Views, or images
            Either or both of the modalities; what is attended to does not depend on the other one.
        Y : texts, optional
        step : int, optional
            Number of the step, from 1 to `n_steps`; the mean over all steps by default.

        Returns
        -------
        Views, or Ragged, or a pair of Ragged
            In the form of the input: Views, X alone, or X and Y. A row holds the weights of an
            item's regions or words, which sum to 1. ``info`` contains ``words``, if the words are
            known, and the ``info`` of ragged regions, such as boxes.

        Raises
        ------
        ValueError
            If there is no such step.
        TypeError
            If both Views and Y are given.
        """
        check_is_fitted(self, "views_in_")
        n_steps = len(self.net_.module_.looks)
        if not n_steps or (step is not None and not 1 <= step <= n_steps):
            raise ValueError(
                f"DAN: there is no step {step} of attention, because the method has {n_steps}"
                if n_steps
                else "DAN: there is no attention with n_steps=0; fit with at least one step"
            )
        if isinstance(X, Views):
            if Y is not None:
                raise TypeError("DAN.explain expects Views alone or (X, Y), got both")
            return self.fitted_views(X).map(lambda part, name: self._attention(part, name, step))
        image, text = self.views_in_.values()
        weights = self._attention(X, image, step)
        return weights if Y is None else (weights, self._attention(Y, text, step))

    def _attention(self, values: Any, name: str, step: int | None) -> Ragged:
        role = self._role_of(name)
        values = self._checked_values(values, role)

        def weigh(module: Any, items: Items) -> tuple[Tensor, Tensor]:
            _, steps = module.steps(items, role)
            weights = torch.stack(steps).mean(dim=0) if step is None else steps[step - 1]
            mask = items.mask if role == "image" else module.words(items)[1]
            if mask is None:
                mask = torch.ones_like(weights, dtype=torch.bool)
            return weights[mask].float(), mask.sum(dim=1)

        parts = zip(*self._apply(weigh, values, role), strict=True)
        weights, lengths = (torch.cat(part).cpu().numpy() for part in parts)
        info: dict[str, Any] = {}
        if role == "text":
            words = self._words_of(values)
            info = {} if words is None else {"words": words.values}
        elif isinstance(values, Ragged):
            info = dict(values.info)
        return Ragged(weights, np.concatenate([[0], np.cumsum(lengths)]), info)
