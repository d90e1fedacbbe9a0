"""Texts as words: strings, word ids or word vectors, their embedding, and recurrent states."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils._param_validation import Interval
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from crossfit._arguments import integer, one_of, real, validated
from crossfit.extraction import Tokens
from crossfit.neural.batching import (
    PAD,
    UNK,
    Items,
    cut_tokens,
    first_elements,
)
from crossfit.neural.estimator import NeuralEstimator
from crossfit.neural.modules import Standardize
from crossfit.views import Ragged, Views, without_padding

__all__ = ["SENTENCES", "Recurrent", "SentenceEstimator", "WordEmbedding", "text_form"]

SENTENCES: dict[str, list[Any]] = {
    "max_words": [Interval(Integral, 1, None, closed="left"), None],
    "min_count": [Interval(Integral, 1, None, closed="left")],
}
"""Constraints of the parameters `max_words` and `min_count` of methods that read sentences."""

_FORMS = {
    "strings": "strings",
    "ids": "word ids",
    "words": "word vectors",
    "vectors": "one vector per text",
}


def text_form(values: Any) -> str:
    """Return the form of the texts of a view.

    Parameters
    ----------
    values : a view
        Checked values.

    Returns
    -------
    {"strings", "ids", "words", "vectors"}
        Strings; word ids, ragged or padded with 0; word vectors, ragged or padded with zero
        vectors; or one vector per text.
    """
    if isinstance(values, Ragged):
        return "ids" if values.values.ndim == 1 else "words"
    if isinstance(values, np.ndarray) and values.dtype == object:
        return "strings"
    if len(values.shape) == 3:
        return "words"
    return "ids" if "int" in str(values.dtype) else "vectors"


class SentenceEstimator(NeuralEstimator):
    """Base class of methods that read texts word by word, next to any other base class.

    List it first: ``class Method(SentenceEstimator, NeuralPairEstimator)``. The method has the
    parameters `max_words : int or None` and `min_count : int` with the constraints `SENTENCES`; the
    role of its texts is ``"text"``. Its `_build_module` calls `_words` for the first module of the
    text branch.

    Texts are strings, for which a vocabulary is learned from the training texts; word ids, as
    from `crossfit.extraction.Tokens`; or word vectors, as from `crossfit.extraction.WordVectors`.
    Methods whose card lists ``"vectors"`` also get one vector per text, with the form
    ``"vectors"``, for which they have another branch.

    Attributes
    ----------
    text_form_ : {"strings", "ids", "words", "vectors"}
        Form of the training texts, see `text_form`. Other texts must have the same.
    vocabulary_ : tuple of str
        Word of each id; only for strings.
    """

    max_words: int | None
    min_count: int
    text_form_: str
    vocabulary_: tuple[str, ...]

    _text_role: ClassVar[str] = "text"

    def _words(self, n_inputs: int, width: int, **settings: Any) -> WordEmbedding:
        """Return the embedding of the words of the fitted form.

        Parameters
        ----------
        n_inputs : int
            Number of word ids, or width of the word vectors.
        width : int
            Width of learned vectors of ids; word vectors keep theirs.
        **settings
            Other parameters of `WordEmbedding`.

        Returns
        -------
        WordEmbedding
        """
        if self.text_form_ == "words":
            return WordEmbedding(n_inputs, **settings)
        return WordEmbedding(n_inputs, width, **settings)

    def _fit_features(self, views: Views, y: NDArray[Any] | None) -> None:
        super()._fit_features(views, y)
        texts = views.distinct(self._text_role)[0]
        self.text_form_ = text_form(texts)
        if self.text_form_ == "strings":
            self.vocabulary_ = self._tokens().fit(texts).vocabulary_

    def _features(self, values: Any, view: str) -> Any:
        if view != self._text_role:
            return super()._features(values, view)
        where = f"{self._name()}: view {self._view_name(view)!r}"
        form = text_form(values)
        if form != self.text_form_:
            fitted = _FORMS[self.text_form_]
            raise ValueError(f"{where} was fitted on {fitted}, got {_FORMS[form]}; pass {fitted}")
        if form == "strings":
            tokens = self._tokens()
            tokens.__crossfit_restore__({"vocabulary_": self.vocabulary_}, {})
            return tokens.transform(values)
        if form == "vectors" or self.max_words is None:
            return without_padding(values) if form == "words" else values
        if form == "ids":
            return cut_tokens(values, self.max_words, where)
        return first_elements(without_padding(values), self.max_words)

    def _words_of(self, values: Any) -> Ragged | None:
        """Return the words that are read of each text, as strings.

        Parameters
        ----------
        values : texts
            Checked values.

        Returns
        -------
        Ragged of str, or None
            None if the words of the ids or vectors are not known. ``"<unk>"`` stands for unknown
            words, and for a text of ids without words, which is read as one.
        """
        info = values.info if isinstance(values, Ragged) else {}
        if self.text_form_ == "words":
            if "words" not in info:
                return None
            words = Ragged(np.asarray(info["words"], object), values.offsets)
            return words if self.max_words is None else first_elements(words, self.max_words)
        vocabulary = getattr(self, "vocabulary_", info.get("vocabulary"))
        if vocabulary is None:
            return None
        ids = self._features(values, self._text_role)
        rows = [row[row != PAD] if len(row) else row for row in ids]
        named = np.array([*vocabulary, vocabulary[UNK]], object)
        return Ragged.from_list(
            [named[np.minimum(row, len(vocabulary))] if len(row) else named[-1:] for row in rows]
        )

    def _tokens(self) -> Tokens:
        return Tokens(self.max_words, self.min_count, verbose=False)


class WordEmbedding(nn.Module):
    """Words of a batch of texts as vectors.

    Parameters
    ----------
    n_inputs : int
        Number of word ids; or, without `width` and `vectors`, the width of given word vectors.
    width : int, optional
        Width of the vectors that are learned for word ids, from uniform numbers of at most 0.1.
        By default the input consists of word vectors, which are passed on.
    vectors : array-like of shape (n_inputs, width), optional
        First vectors of the word ids, in place of random ones.
    trainable : bool, default=True
        Whether the vectors of word ids are learned.
    word_dropout : float, default=0.0
        Probability, in training, that a word is replaced: an id by that of the unknown word, a
        vector by zeros.
    standardize : bool, default=False
        Subtract the mean of every feature of given word vectors over the training words, and
        divide it by its standard deviation; without effect on word ids. The base class fits it on
        the role ``"text"``.
    channel : str, optional
        Channel of the texts that holds given word vectors.

    Attributes
    ----------
    width : int
        Width of the vectors.

    Raises
    ------
    ValueError
        If `vectors` are not finite numbers of shape (n_inputs, width), or another parameter is
        invalid.
    """

    @validated(
        n_inputs=[integer(1)], width=[integer(1), None], trainable=["boolean"],
        word_dropout=[real(0, 1, "left")], standardize=["boolean"], channel=[str, None],
    )  # fmt: skip
    def __init__(
        self,
        n_inputs: int,
        width: int | None = None,
        *,
        vectors: ArrayLike | None = None,
        trainable: bool = True,
        word_dropout: float = 0.0,
        standardize: bool = False,
        channel: str | None = None,
    ) -> None:
        super().__init__()
        self.embedding: nn.Embedding | None = None
        first = None if vectors is None else np.asarray(vectors, np.float32)
        if first is not None:
            wanted = (n_inputs, first.shape[-1] if width is None else width)
            if first.shape != wanted or not np.isfinite(first).all():
                raise ValueError(
                    f"vectors must be finite numbers of shape {wanted}, one row per word id, got "
                    f"shape {first.shape}"
                )
            width = first.shape[1]
        if width is not None:
            self.embedding = nn.Embedding(n_inputs, width)
            if first is None:
                nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
            else:
                self.embedding.weight.data.copy_(torch.from_numpy(first))
            self.embedding.weight.requires_grad_(trainable)
        self.width = n_inputs if width is None else width
        scaled = standardize and width is None
        self.scaling = Standardize(n_inputs, "text", channel) if scaled else nn.Identity()
        self.word_dropout = word_dropout

    def forward(self, items: Items) -> tuple[Tensor, Tensor]:
        """Return the vectors of the words.

        Parameters
        ----------
        items : Items
            Word ids (b, T), or word vectors (b, T, n_inputs), with a mask.

        Returns
        -------
        words : Tensor of shape (b, T, width)
            Zero where there is no word.
        mask : bool Tensor of shape (b, T)
            True at words, which come first in their row.
        """
        values, mask = items
        if mask is None:
            mask = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
        kept = mask
        if self.training and self.word_dropout:
            drawn = torch.rand(mask.shape, device=mask.device) >= self.word_dropout
            kept = mask & drawn
        if self.embedding is None:
            # Only now: what stands in the padding may be anything.
            return torch.where(kept[..., None], self.scaling(values), 0.0), mask
        ids = torch.where(kept, values, torch.where(mask, UNK, PAD))
        return self.embedding(ids) * mask[..., None], mask


class Recurrent(nn.Module):
    """A GRU or LSTM over the words of texts: all states, and the one at the last word.

    Texts are packed, so that no state depends on the padding. The state at the last word of a
    bidirectional network combines that of the forward direction at the last word with that of the
    backward direction at the first.

    Parameters
    ----------
    n_inputs : int
        Width of the words.
    width : int
        Width of the states of a direction.
    cell : {"gru", "lstm", "rnn"}, default="gru"
        Kind of unit; ``"rnn"`` has a ReLU.
    directions : {"forward", "mean", "sum", "concat"}, default="forward"
        One direction, or two, whose states are averaged, added or concatenated.
    n_layers : int, default=1
        Number of layers.

    Attributes
    ----------
    width : int
        Width of the combined states.
    """

    @validated(
        n_inputs=[integer(1)], width=[integer(1)], cell=[one_of("gru", "lstm", "rnn")],
        directions=[one_of("forward", "mean", "sum", "concat")], n_layers=[integer(1)],
    )  # fmt: skip
    def __init__(
        self,
        n_inputs: int,
        width: int,
        *,
        cell: str = "gru",
        directions: str = "forward",
        n_layers: int = 1,
    ) -> None:
        super().__init__()
        settings: dict[str, Any] = {"nonlinearity": "relu"} if cell == "rnn" else {}
        kinds: dict[str, Any] = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}
        self.rnn = kinds[cell](
            n_inputs,
            width,
            n_layers,
            batch_first=True,
            bidirectional=directions != "forward",
            **settings,
        )
        self.directions = directions
        self.width = 2 * width if directions == "concat" else width

    def forward(self, words: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the states of texts.

        Parameters
        ----------
        words : Tensor of shape (b, T, n_inputs)
            Vectors of words.
        mask : bool Tensor of shape (b, T)
            True at words, which come first in their row. A text without words is one word.

        Returns
        -------
        states : Tensor of shape (b, T, width)
            Zero after the last word.
        last : Tensor of shape (b, width)
            State at the last word.
        """
        found, held = self._packed(words, mask)
        states, _ = pad_packed_sequence(found, batch_first=True, total_length=words.shape[1])
        if self.directions != "forward":
            states = self._combined(states.unflatten(-1, (2, -1)))
        return states, self._at_the_end(held)

    def last(self, words: Tensor, mask: Tensor) -> Tensor:
        """Return the state at the last word alone, faster than `forward`.

        Parameters
        ----------
        words, mask : Tensor
            As for `forward`.

        Returns
        -------
        Tensor of shape (b, width)
        """
        return self._at_the_end(self._packed(words, mask)[1])

    def _packed(self, words: Tensor, mask: Tensor) -> Any:
        lengths = mask.sum(dim=1).clamp(min=1).cpu()
        packed = pack_padded_sequence(words, lengths, batch_first=True, enforce_sorted=False)
        return self.rnn(packed)

    def _at_the_end(self, held: Any) -> Tensor:
        """Return the states (b, width) of the last layer from those of all layers."""
        last = held[0] if isinstance(held, tuple) else held  # of an LSTM, not its cells
        if self.directions == "forward":
            return last[-1]
        return self._combined(last[-2:].transpose(0, 1))

    def _combined(self, both: Tensor) -> Tensor:
        """Combine the states (..., 2, width) of the two directions."""
        if self.directions == "concat":
            return both.flatten(-2)
        return both.mean(dim=-2) if self.directions == "mean" else both.sum(dim=-2)
