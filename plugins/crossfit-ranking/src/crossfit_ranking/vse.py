"""VSE and VSE++: visual-semantic embeddings (Kiros et al. 2014; Faghri et al., BMVC 2018)."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor, nn
from torch.nn import functional as F

from crossfit.cards import MethodCard
from crossfit.neural import (
    Batch,
    NeuralEstimator,
    RankingEstimator,
    Recurrent,
    SentenceEstimator,
    Standardize,
    WordEmbedding,
)
from crossfit.neural.sentences import SENTENCES
from crossfit_ranking import cards

__all__ = ["VSE", "VSEPP", "VSENetwork"]


class VSENetwork(nn.Module):
    """A linear layer for images; a recurrent network, or a linear layer, for texts.

    Parameters
    ----------
    n_inputs : dict of str to int
        Width of the images, and number of word ids or width of the texts.
    words : WordEmbedding or None
        Embedding of the words; None for texts that are vectors.
    width : int
        Width of the common space.
    cell, n_layers
        See `Recurrent`.
    dropout : float
        Probability of dropping a feature of an image, of a text that is a vector, or of a word.
    standardize : bool
        Whether features are standardised first.
    """

    def __init__(
        self,
        n_inputs: dict[str, int],
        words: WordEmbedding | None,
        *,
        width: int,
        cell: str,
        n_layers: int,
        dropout: float,
        standardize: bool,
    ) -> None:
        super().__init__()
        self.words = words
        linear = ["image"] if words is not None else ["image", "text"]
        self.linear = nn.ModuleDict(
            {
                role: nn.Sequential(
                    Standardize(n_inputs[role], role) if standardize else nn.Identity(),
                    nn.Dropout(dropout),
                    nn.Linear(n_inputs[role], width),
                )
                for role in linear
            }
        )
        for branch in self.linear.values():
            layer: Any = branch[-1]  # type: ignore[index]
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        if words is not None:
            self.dropout = nn.Dropout(dropout)
            self.recurrent = Recurrent(words.width, width, cell=cell, n_layers=n_layers)

    def encode(self, items: Any, view: str) -> Tensor:
        """Return unit vectors (b, width)."""
        if view == "image" or self.words is None:
            found = self.linear[view](items.values)
        else:
            words, mask = self.words(items)
            found = self.recurrent.last(self.dropout(words), mask)
        return F.normalize(found.float(), dim=1)


class VSE(SentenceEstimator, RankingEstimator):
    r"""Visual-semantic embeddings (VSE), which rank by the sum of all hinges.

    An image vector is mapped by a linear layer, a text by the last state of a GRU over its words;
    both are scaled to unit length. With cosines s, the loss of a pair (i, t) is

    .. math:: \sum_{t'} [m - s(i, t) + s(i, t')]_+ + \sum_{i'} [m - s(i, t) + s(i', t)]_+

    over the other texts and images of the batch, or over the hardest of each, as in `VSEPP`.
    Another caption of the same image is never a negative, which differs from the authors' code.

    Texts are strings, for which a vocabulary is learned; word ids, ragged, as from
    `crossfit.extraction.Tokens`; or word vectors, ragged or (n, T, d) with zeros after the last
    word, as from `crossfit.extraction.WordVectors`. Texts that are vectors (n, d), such as
    sentence embeddings, are mapped by a linear layer; an integer array (n, d) is such a vector of
    counts, never word ids.

    The defaults are for a few thousand pairs; see Notes for the paper's settings.

    Parameters
    ----------
    width : int, default=256
        Width of the common space.
    word_width : int, default=128
        Width of the learned vectors of words; given word vectors keep theirs.
    cell : {"gru", "lstm"}, default="gru"
        Kind of recurrent unit.
    n_layers : int, default=1
        Number of recurrent layers.
    dropout : float, default=0.2
        Probability of dropping a feature of an image, of a word or of a text that is a vector; 0
        in the paper. With vectors of both views, 0.5 ranks a few thousand pairs better; with words
        it does not.
    word_dropout : float, default=0.1
        Probability that a word is replaced by the unknown word in training; 0 in the paper.
    standardize : bool, default=True
        Subtract the training mean from every given feature, and divide it by its standard
        deviation. The paper does not.
    max_words : int or None, default=None
        Number of words per text, from the first; all by default.
    min_count : int, default=2
        Number of times that a word must occur in the training texts to have an id; for strings.
    margin : float, default=0.2
        Margin m.
    mining : {"sum", "all", "hardest", "top-k", "random"}, default="sum"
        Negatives of a pair, see `crossfit.neural.triplet_loss`; the default of `VSEPP` is
        ``"hardest"``.
    sum_share : float, default=0.0
        Share of the epochs, from the first, in which the hinges of all negatives are added up
        whatever `mining` is; 0.25 for `VSEPP`.
    k_negatives : int, default=10
        Number of negatives for ``mining="top-k"``.
    clip : float or None, default=2.0
        Largest norm of the gradient.
    lr_step : int or None, default=10
        Number of epochs after which the learning rate is multiplied by `lr_gamma`, repeatedly.
    lr_gamma : float, default=0.1
        Factor of the learning rate.
    max_epochs : int, default=15
        Number of passes over the training pairs.
    lr : float, default=0.001
        Learning rate.
    batch_size : int, default=128
        Number of pairs per batch.
    **kwargs
        See `crossfit.neural.NeuralEstimator`.

    Attributes
    ----------
    text_form_ : {"strings", "ids", "words", "vectors"}
        Form of the training texts.
    vocabulary_ : tuple of str
        Word of each id, if the texts are strings.
    net_ : skorch.NeuralNet
        Its history contains ``train_image2text`` and ``train_text2image``.

    See Also
    --------
    VSEPP : The same with the hardest negatives.

    Notes
    -----
    The paper's network has fc7 of VGG19, a common space of 1,024 dimensions and learned word
    vectors of 300; it is trained by Adam with the learning rate .0002, a tenth of it after 15 of
    30 epochs, batches of 128 pairs and a gradient of norm 2 at most, for hinges that are added up
    over the batch: here they are averaged over its pairs, for which `clip` is 2 / 128. These
    settings are in the experiments ``faghri-2018-vsepp-flickr30k`` and
    ``faghri-2018-vsepp-coco``.

    References
    ----------
    R. Kiros, R. Salakhutdinov, R. Zemel, Unifying visual-semantic embeddings with multimodal
    neural language models, arXiv 1411.2539, 2014. F. Faghri, D. Fleet, J. Kiros, S. Fidler,
    VSE++: improving visual-semantic embeddings with hard negatives, BMVC 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit_ranking.testing import make_sentences
    >>> from crossfit_ranking.vse import VSE
    >>> views, _ = make_sentences(np.random.default_rng(0), 60)
    >>> vse = VSE(width=16, word_width=8, max_epochs=2, random_state=0).fit(views)
    >>> vse.transform(views)["text"].shape
    (60, 16)
    """

    card: ClassVar[MethodCard | None] = cards.VSE

    # The mining depends on the share of the epochs that are done.
    _neutral: ClassVar[tuple[str, ...]] = tuple(
        name for name in NeuralEstimator._neutral if name != "max_epochs"
    )

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **RankingEstimator._parameter_constraints,
        **SENTENCES,
        "width": [Interval(Integral, 1, None, closed="left")],
        "word_width": [Interval(Integral, 1, None, closed="left")],
        "cell": [StrOptions({"gru", "lstm"})],
        "n_layers": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "word_dropout": [Interval(Real, 0, 1, closed="left")],
        "standardize": ["boolean"],
        "sum_share": [Interval(Real, 0, 1, closed="both")],
    }

    def __init__(
        self,
        *,
        width: int = 256,
        word_width: int = 128,
        cell: str = "gru",
        n_layers: int = 1,
        dropout: float = 0.2,
        word_dropout: float = 0.1,
        standardize: bool = True,
        max_words: int | None = None,
        min_count: int = 2,
        margin: float = 0.2,
        mining: str = "sum",
        sum_share: float = 0.0,
        k_negatives: int = 10,
        clip: float | None = 2.0,
        lr_step: int | None = 10,
        lr_gamma: float = 0.1,
        max_epochs: int = 15,
        lr: float = 1e-3,
        batch_size: int = 128,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            margin=margin,
            mining=mining,
            k_negatives=k_negatives,
            clip=clip,
            lr_step=lr_step,
            lr_gamma=lr_gamma,
            max_epochs=max_epochs,
            lr=lr,
            batch_size=batch_size,
            **kwargs,
        )
        self.width = width
        self.word_width = word_width
        self.cell = cell
        self.n_layers = n_layers
        self.dropout = dropout
        self.word_dropout = word_dropout
        self.standardize = standardize
        self.max_words = max_words
        self.min_count = min_count
        self.sum_share = sum_share

    def _build_module(
        self, n_inputs: dict[str, Any], n_classes: int | None, **module: Any
    ) -> nn.Module:
        words = None
        if self.text_form_ != "vectors":
            words = self._words(
                n_inputs["text"],
                self.word_width,
                word_dropout=self.word_dropout,
                standardize=self.standardize,
            )
        settings = {
            "width": self.width,
            "cell": self.cell,
            "n_layers": self.n_layers,
            "dropout": self.dropout,
            "standardize": self.standardize,
        }
        return VSENetwork(n_inputs, words, **{**settings, **module})

    def _mining(self, batch: Batch) -> str:
        # The hardest negatives of random outputs lead to equal outputs for all items.
        return "sum" if batch.progress < self.sum_share else self.mining


class VSEPP(VSE):
    r"""VSE++: visual-semantic embeddings that rank by the hardest negatives of a batch.

    `VSE` with ``mining="hardest"``: the loss of a pair is

    .. math:: \max_{t'} [m - s(i, t) + s(i, t')]_+ + \max_{i'} [m - s(i, t) + s(i', t)]_+ .

    In the first quarter of the epochs (`sum_share`) the hinges of all negatives are added up
    instead: the hardest negatives of random outputs often do not train. The paper prints nothing
    of the kind; 0 is its setting.

    Parameters
    ----------
    mining : {"sum", "all", "hardest", "top-k", "random"}, default="hardest"
        Negatives of a pair after the first epochs.
    sum_share : float, default=0.25
        Share of the epochs, from the first, in which the hinges of all negatives are added up.
    **kwargs
        See `VSE`.

    See Also
    --------
    VSE : The method with all negatives; its parameters and attributes.

    References
    ----------
    F. Faghri, D. Fleet, J. Kiros, S. Fidler, VSE++: improving visual-semantic embeddings with hard
    negatives, BMVC 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit_ranking.testing import make_sentences
    >>> from crossfit_ranking.vse import VSEPP
    >>> views, _ = make_sentences(np.random.default_rng(0), 60)
    >>> vsepp = VSEPP(width=16, word_width=8, max_epochs=4, random_state=0).fit(views)
    >>> vsepp.similarity(views).shape
    (60, 60)
    """

    card: ClassVar[MethodCard | None] = cards.VSEPP

    def __init__(self, *, mining: str = "hardest", sum_share: float = 0.25, **kwargs: Any) -> None:
        super().__init__(mining=mining, sum_share=sum_share, **kwargs)
