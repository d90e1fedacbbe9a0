"""Deep visual-semantic alignments (DVSA), Karpathy and Fei-Fei, CVPR 2015: words and regions."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from skorch.callbacks import Callback
from torch import Tensor, nn
from torch.nn import functional as F

from crossfit.cards import MethodCard
from crossfit.extraction.weights import exact
from crossfit.neural import (
    Batch,
    Items,
    NeuralPairEstimator,
    SentenceEstimator,
    Standardize,
    WordEmbedding,
    init_weights,
    ranked,
)
from crossfit.neural.sentences import SENTENCES
from crossfit.views import Ragged, Views, take_rows
from crossfit_ranking import cards

__all__ = ["BRNN", "DVSA", "DVSANetwork", "Windows", "aligned"]

# Words are copied without their padding if the regions of a block are this many times as many as
# the features of a word: the copy is then small next to the products.
_WORTH_A_COPY = 4


class BRNN(nn.Module):
    r"""The bidirectional recurrent network over words, equations 3 to 7 of the paper.

    .. math::

        e_t = f(W_e x_t + b_e), \quad
        h^f_t = f(e_t + W_f h^f_{t-1} + b_f), \quad
        h^b_t = f(e_t + W_b h^b_{t+1} + b_b), \quad
        s_t = f(W_d (h^f_t + h^b_t) + b_d)

    with the ReLU f.

    Parameters
    ----------
    n_inputs : int
        Width of the words x.
    hidden : int
        Width of e and h.
    width : int
        Width of s.
    dropout : float, default=0.0
        Probability of dropping a feature of x, and of the sum of the states; none is dropped in
        the recurrence.
    """

    def __init__(self, n_inputs: int, hidden: int, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.read = nn.Linear(n_inputs, hidden)
        # Forward and backward.
        self.weight = nn.Parameter(torch.empty(2, hidden, hidden))
        for weight in self.weight.data:
            nn.init.orthogonal_(weight)
        self.bias = nn.Parameter(torch.zeros(2, 1, hidden))
        self.write = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, words: Tensor, mask: Tensor) -> Tensor:
        """Return s (b, T, width) of words (b, T, n_inputs); what follows a text is arbitrary."""
        e = F.relu(self.read(self.dropout(words)))
        # From the last word of a text to its first, so that no state depends on the padding.
        length = mask.sum(dim=1, keepdim=True)
        steps = torch.arange(mask.shape[1], device=mask.device)
        back = torch.where(mask, length - 1 - steps, steps)[..., None].expand_as(e)
        both = torch.stack([e, e.gather(1, back)]) + self.bias[:, None]
        states = [F.relu(both[:, :, 0])]
        for step in range(1, mask.shape[1]):
            states.append(F.relu(torch.baddbmm(both[:, :, step], states[-1], self.weight)))
        forward, backward = torch.stack(states, dim=2)
        return F.relu(self.write(self.dropout(forward + backward.gather(1, back))))


class Windows(nn.Module):
    """Fragments of consecutive words: one linear map of their vectors, and a ReLU.

    Parameters
    ----------
    n_inputs : int
        Width of the words.
    n_words : int
        Number of words of a fragment. Fragment t begins at word t; zeros follow the last word.
    width : int
        Width of a fragment.
    dropout : float, default=0.0
        Probability of dropping a feature of a word.
    """

    def __init__(self, n_inputs: int, n_words: int, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.map = nn.Linear(n_inputs * n_words, width)
        self.n_words = n_words
        self.dropout = nn.Dropout(dropout)

    def forward(self, words: Tensor, mask: Tensor) -> Tensor:
        """Return fragments (b, T, width) of words (b, T, n_inputs), zero after the last one."""
        n = words.shape[1]
        words = F.pad(self.dropout(words), (0, 0, 0, self.n_words - 1))
        parts = [words[:, start : start + n] for start in range(self.n_words)]
        return F.relu(self.map(torch.cat(parts, dim=2)))


def aligned(
    regions: Tensor, regions_mask: Tensor | None, words: Tensor, words_mask: Tensor
) -> Tensor:
    """Return the sum, over the words of a text, of the largest dot product with a region.

    Parameters
    ----------
    regions : Tensor of shape (n, R, d)
        Vectors of the regions of n images.
    regions_mask : bool Tensor of shape (n, R), or None
        True at real regions. An image without any has the score 0.
    words : Tensor of shape (m, T, d)
        Vectors of the words of m texts.
    words_mask : bool Tensor of shape (m, T)
        True at words, which come first in their row. A text without any has the score 0.

    Returns
    -------
    Tensor of shape (n, m)
    """
    n, n_regions, width = regions.shape
    compact = n * n_regions >= _WORTH_A_COPY * width
    read = words[words_mask] if compact else words.flatten(0, 1)
    products = (regions.flatten(0, 1) @ read.T).view(n, n_regions, len(read))
    if regions_mask is not None:
        products.masked_fill_(~regions_mask[:, :, None], -torch.inf)
    best = products.amax(dim=1)
    if regions_mask is not None:
        best = best.masked_fill(~regions_mask.any(dim=1)[:, None], 0.0)
    # Without the copy, what stands in the padding is left out of the sums.
    places = (
        torch.arange(len(read), device=read.device)
        if compact
        else words_mask.flatten().nonzero().squeeze(1)
    )
    lengths = words_mask.sum(dim=1)
    return F.embedding_bag(places, best.T, lengths.cumsum(0) - lengths, mode="sum").T


class DVSANetwork(nn.Module):
    """Vectors of regions, and of words or fragments, in one space.

    Parameters
    ----------
    n_regions : int
        Width of the regions.
    words : WordEmbedding
        Embedding of the words.
    fragments : {"brnn", "windows"}
        How words become vectors: `BRNN` or `Windows`.
    hidden : int
        Width of the states of the BRNN.
    window : int
        Number of words of a fragment.
    width : int
        Width of the common space.
    dropout : float
        Probability of dropping a feature of a region or word, or a state.
    standardize : bool
        Whether the regions are standardised.
    unit_length : bool
        Whether vectors are scaled to unit length.
    """

    def __init__(
        self,
        n_regions: int,
        words: WordEmbedding,
        *,
        fragments: str,
        hidden: int,
        window: int,
        width: int,
        dropout: float,
        standardize: bool,
        unit_length: bool,
    ) -> None:
        super().__init__()
        self.scaling = Standardize(n_regions, "image") if standardize else nn.Identity()
        self.regions = nn.Linear(n_regions, width)
        self.words = words
        self.fragments: BRNN | Windows
        if fragments == "brnn":
            self.fragments = BRNN(words.width, hidden, width, dropout)
        else:
            self.fragments = Windows(words.width, window, width, dropout)
        self.dropout = nn.Dropout(dropout)
        self.unit_length = unit_length
        init_weights(self.fragments)
        init_weights(self.regions, "linear")

    def prepare(self, items: Items, view: str) -> tuple[Tensor, Tensor | None]:
        """Return the vectors (b, R, width) of regions or (b, T, width) of words, and their mask."""
        mask: Tensor | None
        if view == "image":
            found, mask = self.regions(self.dropout(self.scaling(items.values))), items.mask
        else:
            words, mask = self.words(items)
            found = self.fragments(words, mask)
        return F.normalize(found, dim=-1) if self.unit_length else found, mask


class _ValueClipping(Callback):
    """Limit every element of the gradient.

    Parameters
    ----------
    limit : float
        Largest absolute value.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit

    def on_grad_computed(self, net: Any, named_parameters: Any, **kwargs: Any) -> None:
        """Limit the gradients before the update."""
        nn.utils.clip_grad_value_((weight for _, weight in named_parameters), self.limit)


class DVSA(SentenceEstimator, NeuralPairEstimator):
    r"""Deep visual-semantic alignments (DVSA): every word is matched with its nearest region.

    Regions v_i of an image and words s_t of a text are mapped into one space, and the score of a
    pair is the sum over the words of the largest dot product with a region (equation 8),

    .. math:: S = \sum_t \max_i\, v_i \cdot s_t ,

    perhaps divided by the number of words (`normalize`). The regions are mapped linearly. Words are
    read by a bidirectional recurrent network (``fragments="brnn"``, "BRNN" in the paper), so that
    s_t depends on the words around it. The paper's other form, "DepTree", has a vector per edge of
    the text's dependency tree in place of a word. ``fragments="windows"``, which is experimental,
    is our reading of it without a parser: a fragment is a word with the `window` - 1 words that
    follow it, and its vector a linear map of theirs with a ReLU. The loss is the sum of the hinges
    of both directions (equation 9). Another caption of the same image is never wrong.

    Images are sets of regions, (n, R, d) or ragged. Texts are strings, for which vectors of words
    are learned; word ids, as from `crossfit.extraction.Tokens`; or word vectors, ragged or padded
    with zeros, as from `crossfit.extraction.WordVectors`. An image without regions, and a text
    without words, have the score 0 with everything.

    The defaults are for a few thousand images with captions; see Notes for the paper's settings.

    Parameters
    ----------
    fragments : {"brnn", "windows"}, default="brnn"
        How words become vectors.
    normalize : bool, default=True
        Divide scores by the number of words. Otherwise long captions have larger scores, and are
        found for too many images; that is the paper's score.
    unit_length : bool, default=True
        Scale the vectors of regions and words to unit length, so that products are cosines and the
        margin has a fixed meaning. Not in the paper.
    hidden : int, default=128
        Width of the states of the BRNN.
    window : int, default=2
        Number of words of a fragment for ``fragments="windows"``; 1 for single words.
    width : int, default=128
        Width of the common space.
    word_width : int, default=128
        Width of the vectors of strings and word ids, which are learned.
    max_words : int or None, default=30
        Number of words per text, from the first; None for all.
    min_count : int, default=2
        Number of times that a word of strings must occur in the training texts to have a vector.
    dropout : float, default=0.2
        Probability of dropping a feature of a region or word, or a state before the last layer.
        There is no dropout in the recurrence.
    standardize : bool, default=True
        Subtract the training mean of every feature of the regions, and of word vectors, and divide
        it by its standard deviation. Not in the paper.
    margin : float, default=0.1
        Margin of the hinges; 1 in the paper.
    mining : {"all", "sum", "hardest", "top-k", "random"}, default="all"
        Wrong items of the batch that a matched pair is compared with; see
        `crossfit.neural.triplet_loss`. The paper adds the hinges up (``"sum"``).
    k_negatives : int, default=10
        Number of wrong items for ``mining="top-k"``.
    clip : float or None, default=None
        Largest absolute value of an element of the gradient; 5 in the paper, for the sum over a
        batch of 100 pairs, of which the loss here is the mean.
    max_epochs : int, default=12
        Number of passes over the training pairs.
    lr : float, default=0.003
        Learning rate.
    batch_size : int, default=100
        Number of pairs per batch, as in the paper.
    optimizer : str or type, default="Adam"
        Name of a class in `torch.optim`, or such a class; SGD in the paper.
    **kwargs
        See `crossfit.neural.NeuralPairEstimator`.

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
    crossfit_ranking.dan.DAN : Attention over regions and words, with one vector per item.

    Notes
    -----
    Blocks of scores are one matrix product of all words with all regions, and are computed once for
    both directions.

    The paper has 20 regions of 4096 numbers (19 detected objects and the whole image), fixed
    300-dimensional word vectors, sums of products of unscaled vectors, margin 1 with all hinges
    added up, SGD with momentum 0.9 on batches of 100, and limited gradients. They are in the
    experiments ``karpathy-2015-dvsa-flickr30k`` and ``karpathy-2015-dvsa-coco``. The relations of
    dependency trees, each with its own matrix, cannot be had without a parser.

    References
    ----------
    A. Karpathy, L. Fei-Fei, Deep visual-semantic alignments for generating image descriptions, CVPR
    2015. Fragments: A. Karpathy, A. Joulin, L. Fei-Fei, Deep fragment embeddings for bidirectional
    image sentence mapping, NIPS 2014.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit_ranking.dvsa import DVSA
    >>> from crossfit_ranking.testing import make_regions
    >>> views, _ = make_regions(np.random.default_rng(0), 60)
    >>> dvsa = DVSA(hidden=16, width=16, max_epochs=2, device="cpu", random_state=0).fit(views)
    >>> dvsa.similarity(views[:20]).shape
    (20, 20)
    >>> set(dvsa.explain(views[:1])["alignment"][0].sum(axis=1).tolist())  # one region per word
    {1.0}
    """

    card: ClassVar[MethodCard | None] = cards.DVSA

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **NeuralPairEstimator._parameter_constraints,
        **SENTENCES,
        "fragments": [StrOptions({"brnn", "windows"})],
        "normalize": ["boolean"],
        "unit_length": ["boolean"],
        "hidden": [Interval(Integral, 1, None, closed="left")],
        "window": [Interval(Integral, 1, None, closed="left")],
        "width": [Interval(Integral, 1, None, closed="left")],
        "word_width": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "standardize": ["boolean"],
        "margin": [Interval(Real, 0, None, closed="left")],
        "mining": [StrOptions({"sum", "all", "hardest", "top-k", "random"})],
        "k_negatives": [Interval(Integral, 1, None, closed="left")],
        "clip": [Interval(Real, 0, None, closed="neither"), None],
    }

    def __init__(
        self,
        *,
        fragments: str = "brnn",
        normalize: bool = True,
        unit_length: bool = True,
        hidden: int = 128,
        window: int = 2,
        width: int = 128,
        word_width: int = 128,
        max_words: int | None = 30,
        min_count: int = 2,
        dropout: float = 0.2,
        standardize: bool = True,
        margin: float = 0.1,
        mining: str = "all",
        k_negatives: int = 10,
        clip: float | None = None,
        max_epochs: int = 12,
        lr: float = 3e-3,
        batch_size: int = 100,
        optimizer: str | type[torch.optim.Optimizer] = "Adam",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            max_epochs=max_epochs, lr=lr, batch_size=batch_size, optimizer=optimizer, **kwargs
        )
        self.fragments = fragments
        self.normalize = normalize
        self.unit_length = unit_length
        self.hidden = hidden
        self.window = window
        self.width = width
        self.word_width = word_width
        self.max_words = max_words
        self.min_count = min_count
        self.dropout = dropout
        self.standardize = standardize
        self.margin = margin
        self.mining = mining
        self.k_negatives = k_negatives
        self.clip = clip

    # ---- the parts of the method ---------------------------------------------------------------

    def _build_module(
        self, n_inputs: dict[str, Any], n_classes: int | None, **module: Any
    ) -> nn.Module:
        names = (
            "fragments", "hidden", "window", "width", "dropout", "standardize", "unit_length",
        )  # fmt: skip
        settings = {name: getattr(self, name) for name in names}
        words = self._words(n_inputs["text"], self.word_width, standardize=self.standardize)
        return DVSANetwork(n_inputs["image"], words, **{**settings, **module})

    def _prepare_batch(self, module: Any, items: Any, view: str) -> Any:
        return module.prepare(items, view)

    def _score_pairs(self, module: nn.Module, P: Any, Q: Any) -> Tensor:
        (regions, regions_mask), (words, mask) = P, Q
        with torch.autocast(regions.device.type, enabled=False):
            scores = aligned(regions.float(), regions_mask, words.float(), mask)
        return scores / mask.sum(dim=1).clamp(min=1) if self.normalize else scores

    def _pair_bytes(self, P: Any, Q: Any) -> int:
        # The products of a word with all regions and the copy of the word, its largest product
        # three times, and the numbers of the places of words; the score before and after division.
        n_regions, n_words = P[0].shape[1], Q[0].shape[1]
        return n_words * (4 * n_regions * (_WORTH_A_COPY + 1) // _WORTH_A_COPY + 12 + 24) + 8

    def _loss(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        return ranked(outputs, batch, margin=self.margin, mining=self.mining, k=self.k_negatives)

    def _schedule(self) -> list[Any]:
        return [] if self.clip is None else [_ValueClipping(self.clip)]

    # ---- which region every word matched -------------------------------------------------------

    def explain(self, X: Any, Y: Any = None) -> Views:
        """Return the region that every word matched, row by row: each image with its text.

        Parameters
        ----------
        X : Views, or images
            Pairs, row by row.
        Y : texts, optional
            As many as there are images; required unless X is Views.

        Returns
        -------
        Views
            One row per pair. ``["alignment"][i]`` is of shape (words, regions), 1 at the region
            with the largest dot product and 0 elsewhere, with columns of zeros if other images have
            more regions; rows are zero for an image without regions. The other view has the name of
            the images, and for every region the share of the words that matched it; it keeps the
            ``info`` of ragged regions, such as boxes. ``info`` of ``alignment`` contains
            ``words``, if the words are known; a fragment is named by its first word.

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
                f"DVSA.explain needs the views {' and '.join(self.views_in_.values())}, got "
                f"{', '.join(views.names)}"
            )
        values, prepared, rows = {}, {}, {}
        for role, name in self.views_in_.items():
            items, rows[role] = views.distinct(name)
            values[role] = self._checked_values(items, role)
            prepared[role] = self._prepare(values[role], role)
        matched: list[NDArray[np.float32]] = []
        shares: list[NDArray[np.float32]] = []
        with exact():
            for first, second in zip(rows["image"], rows["text"], strict=True):
                regions, real = (_of_item(prepared["image"].parts[k], first) for k in (0, 1))
                words, said = (_of_item(prepared["text"].parts[k], second) for k in (0, 1))
                products = words[said] @ regions.T
                ones = torch.zeros_like(products)
                n = len(regions) if real is None else int(real.sum())
                if n:
                    ones.scatter_(1, products[:, :n].argmax(dim=1, keepdim=True), 1.0)
                matched.append(ones.numpy())
                shares.append(ones[:, :n].sum(dim=0).div(max(len(ones), 1)).numpy())
        images = take_rows(values["image"], rows["image"])
        boxes = dict(images.info) if isinstance(images, Ragged) else {}
        names = self._words_of(values["text"])
        said_by = {} if names is None else {"words": take_rows(names, rows["text"]).values}
        return Views({
            "alignment": Ragged.from_list(matched, said_by),
            self.views_in_["image"]: Ragged.from_list(shares, boxes),
        })  # fmt: skip


def _of_item(part: Tensor | None, row: int) -> Any:
    return None if part is None else part[row]
