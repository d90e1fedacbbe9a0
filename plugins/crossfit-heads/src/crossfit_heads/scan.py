"""Stacked cross attention (SCAN), Lee, Chen, Hua, Hu and He, ECCV 2018."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from skorch.callbacks import GradientNormClipping, LRScheduler
from torch import Tensor, nn
from torch.nn import functional as F

from crossfit.extraction.weights import exact
from crossfit.neural import Batch, NeuralPairEstimator, SentenceEstimator, ranked
from crossfit.neural.sentences import SENTENCES
from crossfit.views import Ragged, Views, take_rows
from crossfit_heads import cards
from crossfit_heads.explained import pairs_of, words_of
from crossfit_heads.sets import RegionBranch, WordBranch

__all__ = ["SCAN", "Elements", "stacked_attention"]

# Inverse temperatures of both directions: of the attention, and of LogSumExp.
_SOFTMAX, _LSE = {"t2i": 9.0, "i2t": 4.0}, {"t2i": 6.0, "i2t": 5.0}
# Similarities of elements that are held at once, so that they stay in the cache of a core, and
# contexts among them.
_AT_ONCE, _CONTEXTS = 2**17, 8
# Least norm that is divided by.
_TINY = 1e-8
# Number of pairs whose attention is computed at once.
_EXPLAINED = 64


class Elements(NamedTuple):
    """Unit vectors of the elements of items.

    Parameters
    ----------
    values : Tensor of shape (n, L, width)
        Zero after the last element of an item.
    lengths : int64 Tensor of shape (n,)
        Number of elements of each item.
    gram : Tensor of shape (n, L, L), or None
        Their dot products, of items whose elements are attended to.
    """

    values: Tensor
    lengths: Tensor
    gram: Tensor | None = None

    def some(self, rows: Any) -> Elements:
        """Return some items, padded to the longest of them; a slice is not copied."""
        lengths = self.lengths[rows]
        most = int(lengths.max())
        gram = None if self.gram is None else self.gram[rows, :most, :most]
        return Elements(self.values[rows, :most], lengths, gram)


def stacked_attention(
    context: Elements,
    query: Elements,
    *,
    lambda_softmax: float,
    pooling: str = "mean",
    lambda_lse: float = 6.0,
    leak: float = 0.0,
) -> Tensor:
    r"""Return the scores of items whose elements attend to the elements of others.

    The attended vector of a query element is never formed: with the similarities s of the element
    and weights w of the context, its dot product with the query is w's, and its squared norm w'Gw
    with the Gram matrix G of the context. The cosine does not depend on the sum of the weights.

    Parameters
    ----------
    context : Elements
        n items that are attended to, with Gram matrices.
    query : Elements
        m items whose elements attend.
    lambda_softmax, pooling, lambda_lse, leak
        See `SCAN`.

    Returns
    -------
    Tensor of shape (n, m)
    """
    # Items of similar length together, because padding costs as much as elements.
    (context, first), (query, second) = _sorted(context), _sorted(query)
    parts = []
    for start in range(0, len(context.lengths), _CONTEXTS):
        part = context.some(slice(start, start + _CONTEXTS))
        found = [
            _pooled(
                _cosines(part, each, _logits(_products(part, each), lambda_softmax, leak)),
                each.lengths,
                pooling,
                lambda_lse,
            )
            for each in _chunks(query, part.values.shape[:2].numel())
        ]
        parts.append(torch.cat(found, dim=1))
    scores = torch.cat(parts)
    scores = scores if first is None else scores[first]
    return scores if second is None else scores[:, second]


def _sorted(items: Elements) -> tuple[Elements, Tensor | None]:
    """Return items by their length, and where each of them is; None if they are in order."""
    if not (items.lengths.diff() < 0).any():
        return items, None
    order = items.lengths.argsort(stable=True)
    return items.some(order), order.argsort()


def _chunks(query: Elements, n_context: int) -> Iterator[Elements]:
    """Yield sorted items, so many at once that their similarities to a context are few."""
    lengths = query.lengths.tolist()
    start = 0
    while start < len(lengths):
        stop = start + 1
        while stop < len(lengths) and (stop + 1 - start) * lengths[stop] * n_context <= _AT_ONCE:
            stop += 1
        yield query.some(slice(start, stop))
        start = stop


def _products(context: Elements, query: Elements) -> Tensor:
    """Return the dot products (n, L, m, T) of all elements."""
    (n, length, _), (m, width, _) = context.values.shape, query.values.shape
    flat = context.values.flatten(0, 1) @ query.values.flatten(0, 1).T
    return flat.view(n, length, m, width)


class _Attended(NamedTuple):
    """Dot products s and the logits of the attention, both of shape (n, L, m, T)."""

    products: Tensor
    logits: Tensor


def _logits(products: Tensor, scale: float, leak: float) -> _Attended:
    """Rectify the products, and normalise those of an element over the elements of the query."""
    rectified = F.leaky_relu(products, leak) if leak else products.relu()
    norm = torch.linalg.vector_norm(rectified, dim=-1, keepdim=True)
    return _Attended(products, rectified * (scale / norm.clamp(min=_TINY)))


def _cosines(context: Elements, query: Elements, attended: _Attended) -> Tensor:
    """Return the cosine (n, m, T) of every query element with the vector that it attends to."""
    assert context.gram is not None
    # Logits are at most 40, and elements that do not exist have no products.
    weights = attended.logits.exp_().flatten(2)
    dots = (weights * attended.products.flatten(2)).sum(dim=1)
    squares = (weights * (context.gram @ weights)).sum(dim=1)
    cosines = dots * squares.clamp(min=_TINY**2).rsqrt()
    return cosines.unflatten(1, query.values.shape[:2])


def _pooled(cosines: Tensor, lengths: Tensor, pooling: str, scale: float) -> Tensor:
    """Return scores (n, m) of the cosines (n, m, T) of elements; those of padding are 0."""
    if pooling in ("mean", "sum"):
        total = cosines.sum(dim=-1)
        return total / lengths if pooling == "mean" else total
    real = torch.arange(cosines.shape[-1], device=cosines.device) < lengths[:, None]
    cosines = cosines.masked_fill(~real, -torch.inf)
    if pooling == "max":
        return cosines.amax(dim=-1)
    return (scale * cosines).logsumexp(dim=-1) / scale


class SCANNetwork(nn.Module):
    """Regions and words of a common space, as unit vectors.

    Parameters
    ----------
    image : RegionBranch
        Maps regions.
    text : WordBranch
        Maps words.
    """

    def __init__(self, image: RegionBranch, text: WordBranch) -> None:
        super().__init__()
        self.image = image
        self.text = text

    def elements(self, items: Any, view: str, attended: bool) -> Elements:
        """Return the elements of items.

        Parameters
        ----------
        items : Items
            Regions or words.
        view : {"image", "text"}
            Which of them.
        attended : bool
            Whether other elements attend to them, for which their Gram matrices are needed.
        """
        values, mask = self.get_submodule(view)(items)
        with torch.autocast(values.device.type, enabled=False):
            values = F.normalize(values.float(), dim=-1)
            gram = values @ values.mT if attended else None
        return Elements(values, mask.sum(dim=1), gram)


class SCAN(SentenceEstimator, NeuralPairEstimator):
    r"""Stacked cross attention (SCAN): words attend to regions, or regions to words.

    Linear maps of regions :math:`v_i`, and the states of a GRU over the words, :math:`w_j`, are
    unit vectors of a common space. With ``attention="t2i"``, every word attends to the regions
    (equations 1 to 4 of the paper, from text to image),

    .. math::

        \bar s_{ij} = [v_i' w_j]_+ \Big/ \sqrt{\sum_j [v_i' w_j]_+^2}, \qquad
        \alpha_{ij} = \mathrm{softmax}_i (\lambda_1 \bar s_{ij}), \qquad
        a_j = \sum_i \alpha_{ij} v_i,

    and the score of a pair is pooled over the cosines :math:`R_j = \cos(w_j, a_j)` of all words:
    their mean, or :math:`\log(\sum_j \exp(\lambda_2 R_j)) / \lambda_2`. With ``attention="i2t"``,
    the roles of words and regions are exchanged. The loss is a hinge with the hardest negatives of
    the batch in both directions; another caption of the same image is never a negative. The
    paper's best figures average the scores of one fit with each direction.

    Images are regions, (n, R, d) or ragged. Texts are strings, word ids as from
    `crossfit.extraction.Tokens`, or word vectors as from `crossfit.extraction.WordVectors`, ragged
    or padded with zeros. The defaults are for a few thousand images with captions; the paper's
    settings are in the experiment ``lee-2018-scan-flickr30k``.

    Parameters
    ----------
    attention : {"t2i", "i2t"}, default="t2i"
        Words attend to regions, or regions to words.
    pooling : {"mean", "sum", "lse", "max"}, default="mean"
        How cosines become a score. ``"lse"`` is LogSumExp, which comes close to the maximum for a
        large `lambda_lse`.
    lambda_softmax : float, optional
        Inverse temperature λ₁ of the attention, at most 40; by default 9 for ``"t2i"`` and 4 for
        ``"i2t"``, as in the paper.
    lambda_lse : float, optional
        Inverse temperature λ₂ of LogSumExp; by default 6 for ``"t2i"`` and 5 for ``"i2t"``.
    leak : float, default=0.1
        Slope of the rectification below zero, as in the authors' code; 0 in the paper.
    width : int, default=256
        Width of the common space; 1024 in the paper.
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
    standardize : bool, default=True
        Scale features of regions and of word vectors to mean 0 and deviation 1. Not in the paper.
    dropout : float, default=0.2
        Probability of dropping a feature of a region or of a word in training; 0 in the paper.
    margin : float, default=0.2
        Margin of the hinges.
    mining : {"sum", "all", "hardest", "top-k", "random"}, default="hardest"
        Negatives of a pair, see `crossfit.neural.triplet_loss`.
    k_negatives : int, default=10
        Number of negatives for ``"top-k"``.
    sum_share : float, default=0.25
        Share of the epochs, from the first, in which hinges are summed over all negatives instead:
        the hardest negatives of random outputs often do not train. 0 in the paper.
    clip : float or None, default=None
        Largest norm of the gradient; longer ones are scaled down to it. In the paper it is 2 for
        hinges that are added up over the batch, which are averaged here.
    lr_step : int or None, default=None
        Number of epochs after which the learning rate is multiplied by 0.1, repeatedly.
    max_epochs : int, default=12
        Number of passes over the training pairs.
    lr : float, default=0.0005
        Learning rate.
    batch_size : int, default=128
        Number of pairs per batch, all of which are scored with each other.
    **kwargs
        See `crossfit.neural.NeuralPairEstimator`.

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
    MaxSim : The sum of the largest similarities, without training.
    VSEInfinity : One vector per set, pooled by learnt weights.

    Notes
    -----
    The vector that a word attends to is never formed: its dot product with the word and its norm
    follow from the similarities and from the Gram matrix of the regions, which is computed once per
    image. At 36 regions and 256 features this needs half the multiplications.

    The paper normalises similarities over the words of a text, as the authors' code does, which
    rectifies them with a slope of 0.1 below zero.

    References
    ----------
    K.-H. Lee, X. Chen, G. Hua, H. Hu, X. He, Stacked cross attention for image-text matching, ECCV
    2018, 201-216.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit_heads.scan import SCAN
    >>> from crossfit_heads.testing import make_sets
    >>> views, _ = make_sets(np.random.default_rng(0), 40)
    >>> scan = SCAN(width=16, max_epochs=2, device="cpu", random_state=0).fit(views)
    >>> scan.similarity(views).shape
    (40, 40)
    >>> scan.explain(views[:1])["t2i"][0].shape == (views["text"].lengths[0], 6)
    True
    """

    card = cards.SCAN

    # Whether hinges are summed depends on the share of max_epochs.
    _neutral: ClassVar[tuple[str, ...]] = tuple(
        name for name in NeuralPairEstimator._neutral if name != "max_epochs"
    )

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **NeuralPairEstimator._parameter_constraints,
        **SENTENCES,
        "attention": [StrOptions({"t2i", "i2t"})],
        "pooling": [StrOptions({"mean", "sum", "lse", "max"})],
        "lambda_softmax": [Interval(Real, 0, 40, closed="right"), None],
        "lambda_lse": [Interval(Real, 0, None, closed="neither"), None],
        "leak": [Interval(Real, 0, 1, closed="both")],
        "width": [Interval(Integral, 1, None, closed="left")],
        "gru": ["boolean"],
        "word_width": [Interval(Integral, 1, None, closed="left")],
        "word_dropout": [Interval(Real, 0, 1, closed="left")],
        "standardize": ["boolean"],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "margin": [Interval(Real, 0, None, closed="left")],
        "mining": [StrOptions({"sum", "all", "hardest", "top-k", "random"})],
        "k_negatives": [Interval(Integral, 1, None, closed="left")],
        "sum_share": [Interval(Real, 0, 1, closed="both")],
        "clip": [Interval(Real, 0, None, closed="neither"), None],
        "lr_step": [Interval(Integral, 1, None, closed="left"), None],
    }

    def __init__(
        self,
        *,
        attention: str = "t2i",
        pooling: str = "mean",
        lambda_softmax: float | None = None,
        lambda_lse: float | None = None,
        leak: float = 0.1,
        width: int = 256,
        gru: bool = True,
        word_width: int = 300,
        max_words: int | None = 30,
        min_count: int = 1,
        word_dropout: float = 0.0,
        standardize: bool = True,
        dropout: float = 0.2,
        margin: float = 0.2,
        mining: str = "hardest",
        k_negatives: int = 10,
        sum_share: float = 0.25,
        clip: float | None = None,
        lr_step: int | None = None,
        max_epochs: int = 12,
        lr: float = 5e-4,
        batch_size: int = 128,
        **kwargs: Any,
    ) -> None:
        super().__init__(max_epochs=max_epochs, lr=lr, batch_size=batch_size, **kwargs)
        self.attention = attention
        self.pooling = pooling
        self.lambda_softmax = lambda_softmax
        self.lambda_lse = lambda_lse
        self.leak = leak
        self.width = width
        self.gru = gru
        self.word_width = word_width
        self.max_words = max_words
        self.min_count = min_count
        self.word_dropout = word_dropout
        self.standardize = standardize
        self.dropout = dropout
        self.margin = margin
        self.mining = mining
        self.k_negatives = k_negatives
        self.sum_share = sum_share
        self.clip = clip
        self.lr_step = lr_step

    # ---- the parts of the method ---------------------------------------------------------------

    def _build_module(
        self, n_inputs: dict[str, Any], n_classes: int | None, **module: Any
    ) -> nn.Module:
        settings = {"standardize": self.standardize, "dropout": self.dropout, **module}
        words = self._words(
            n_inputs["text"],
            self.word_width,
            word_dropout=self.word_dropout,
            standardize=settings["standardize"],
        )
        return SCANNetwork(
            RegionBranch(n_inputs["image"], self.width, **settings),
            WordBranch(words, self.width, gru=self.gru, dropout=settings["dropout"]),
        )

    def _schedule(self) -> list[Any]:
        callbacks: list[Any] = []
        if self.clip is not None:
            callbacks.append(GradientNormClipping(self.clip))
        if self.lr_step is not None:
            callbacks.append(LRScheduler("StepLR", step_size=self.lr_step, gamma=0.1))
        return callbacks

    def _loss(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        mining = "sum" if batch.progress < self.sum_share else self.mining
        return ranked(outputs, batch, margin=self.margin, mining=mining, k=self.k_negatives)

    # ---- scores --------------------------------------------------------------------------------

    def _prepare_batch(self, module: Any, items: Any, view: str) -> Elements:
        return module.elements(items, view, attended=view == self._context())

    def _score_pairs(self, module: nn.Module, P: Elements, Q: Elements) -> Tensor:
        first, second = (P, Q) if self.attention == "t2i" else (Q, P)
        with torch.autocast(first.values.device.type, enabled=False):
            scores = stacked_attention(
                first,
                second,
                lambda_softmax=self._softmax(),
                pooling=self.pooling,
                lambda_lse=_LSE[self.attention] if self.lambda_lse is None else self.lambda_lse,
                leak=self.leak,
            )
        return scores if self.attention == "t2i" else scores.T

    def _pair_bytes(self, P: Elements, Q: Elements) -> int:
        # Products, rectified ones, logits, weights and a product of two. Items are copied a few at
        # a time, but a block may have as many of them as pairs.
        (_, n_regions, width), n_words = P.values.shape, Q.values.shape[1]
        products = 5 * n_regions * n_words + 4 * max(n_regions, n_words)
        copies = (n_regions + n_words) * width + max(n_regions, n_words) ** 2
        return 4 * (products + copies) + 64

    def _context(self) -> str:
        return "image" if self.attention == "t2i" else "text"

    def _softmax(self) -> float:
        return _SOFTMAX[self.attention] if self.lambda_softmax is None else self.lambda_softmax

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
            One row per pair, in the view ``t2i`` or ``i2t``, after the direction of the fit: of
            shape (words, regions) or (regions, words); rows sum to 1. They are padded with zeros if
            images have different numbers of regions, or texts different numbers of words. ``info``
            contains ``words`` if the texts are strings or have them; with ``"i2t"`` also the
            ``info`` of ragged regions, such as boxes.

        Raises
        ------
        ValueError
            If a view is missing.
        """
        check_is_fitted(self, "views_in_")
        views, _ = self._given(X, Y, None, self.views_in_)
        views = pairs_of(self.fitted_views(views), self._name())
        values, prepared, rows = {}, {}, {}
        for role, name in self.views_in_.items():
            items, rows[role] = views.distinct(name)
            values[role] = self._checked_values(items, role)
            prepared[role] = self._prepare(values[role], role)
        roles = ("image", "text") if self.attention == "t2i" else ("text", "image")
        found: list[NDArray[np.float32]] = []
        device = torch.device(self.net_.device)
        for at in np.array_split(np.arange(len(views)), -(-len(views) // _EXPLAINED)):
            context, query = (prepared[role][rows[role][at]].to(device).parts for role in roles)
            with exact():
                products = context.values @ query.values.mT
                weights = _logits(products[:, :, None], self._softmax(), self.leak).logits[:, :, 0]
                real = torch.arange(weights.shape[1], device=device) < context.lengths[:, None]
                weights = weights.masked_fill(~real[..., None], -torch.inf).softmax(dim=1)
            lengths = query.lengths.tolist()
            found += [part[:n] for part, n in zip(weights.mT.cpu().numpy(), lengths, strict=True)]
        info: dict[str, Any] = {}
        if self.attention == "t2i":
            texts = self._worded(take_rows(values["text"], rows["text"]))
            info = words_of(texts, [len(part) for part in found])
        else:
            regions = take_rows(values["image"], rows["image"])
            # A picture without regions has a row of weights, but no entry in info.
            if isinstance(regions, Ragged) and regions.lengths.all():
                info = dict(regions.info)
        return Views({self.attention: Ragged.from_list(found, info)})

    def _worded(self, texts: Any) -> Any:
        """Return strings as a Ragged with their words, and other texts unchanged."""
        if self.text_form_ != "strings":
            return texts
        ids = self._features(texts, "text")
        words = np.array(self.vocabulary_, dtype=object)[ids.values]
        return Ragged(ids.values, ids.offsets, {"words": words})
