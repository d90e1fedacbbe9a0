"""m-RNN: a recurrent captioner that ranks by log p(sentence | image) (Mao et al., ICLR 2015)."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.nn import functional as F

from crossfit.neural import (
    Batch,
    Items,
    NeuralPairEstimator,
    Prepared,
    SentenceEstimator,
    Standardize,
    init_weights,
)
from crossfit.neural.batching import PAD, UNK
from crossfit.neural.sentences import SENTENCES
from crossfit.views import Ragged, Views, as_numpy, take_rows
from crossfit_ranking import cards

__all__ = ["Captions", "MRNN", "MRNNNetwork", "Sentences"]

# No word has the id of the padding: it is the start sign of inputs and the end sign of outputs.
_SIGN = PAD


class MRNN(SentenceEstimator, NeuralPairEstimator):
    r"""Multimodal recurrent network (m-RNN): ranks by the probability of a sentence given an image.

    A captioner. Two linear layers embed the words, w_t of the word at place t, with the start sign
    at place 0; a recurrent layer, :math:`r_t = \mathrm{ReLU}(U r_{t-1} + w_t)`, and a multimodal
    layer,

    .. math:: m_t = 1.7159 \tanh\left(\tfrac{2}{3} (V_w w_t + V_r r_t + V_I I)\right),

    predict the next word, or the end sign, by a softmax over the vocabulary. The loss is the
    cross-entropy per word plus :math:`\lambda \lVert\theta\rVert^2`. There are no negatives, so
    captions of one image do not compete.

    Images are ranked for a sentence by log p(s|I). Sentences are ranked for an image by

    .. math:: \log p(s|I) - \log \mathrm{mean}_{I'}\, p(s|I'),

    with images I' sampled from the training images, because frequent sentences would otherwise win
    for all images. The second term depends on the sentence alone, so that it does not change the
    order of the images for a sentence: `similarity` has one matrix for both directions, that with
    the second term. `log_likelihood` returns log p(s|I) itself.

    Images are vectors. Texts are word ids, padded with 0 or ragged, or strings, for which a
    vocabulary is built from the training texts.

    Parameters
    ----------
    embedding_widths : (int, int), default=(64, 128)
        Widths of the two word-embedding layers; 128 and 256 in the paper. The second is also that
        of the recurrent layer.
    width : int, default=256
        Width of the multimodal layer; 512 in the paper.
    dropout : float, default=0.3
        Probability of dropping a unit of the recurrent layer (on its way to the multimodal layer)
        or of the multimodal layer, in training.
    standardize : bool, default=True
        Scale the features of the images to mean 0 and variance 1. Not in the paper.
    l2 : float, default=1e-6
        Weight λ of the squares of all weight matrices.
    n_prior_images : int, default=100
        Number of training images I', which are kept with the method; all of them if there are
        fewer. With 0, sentences are ranked by log p(s|I).
    max_words : int or None, default=30
        Number of words per text, from the first; None for all of them. Texts that are cut have an
        end sign after their last word.
    min_count : int, default=2
        Minimum number of occurrences of a word in the training texts. Only for strings. Other words
        are one word, "unknown", whose probability counts like that of any other.
    max_epochs : int, default=8
        Number of passes over the training pairs.
    lr : float, default=0.002
        Learning rate.
    batch_size : int, default=64
        Number of pairs per batch.
    **kwargs
        See `crossfit.neural.NeuralPairEstimator`.

    Attributes
    ----------
    prior_images_ : float32 ndarray of shape (n_prior_images, d)
        Features of the images I'.
    text_form_ : {"strings", "ids"}
        Form of the training texts.
    vocabulary_ : tuple of str
        Word of each id, if strings or ids with a vocabulary were given.
    net_ : skorch.NeuralNet
        Its history contains ``train_words``, the cross-entropy per word in nats, whose exponential
        is the perplexity, and ``train_l2``.

    Notes
    -----
    The sizes are those of the paper as remembered by two readers; activations of the embedding
    layers, optimizer and learning rate are ours. The word vectors of the start sign are learned.

    For a score, the recurrent layer runs once per sentence, and the image enters the multimodal
    layer as one vector that is computed once per image. What remains per image and place of a
    sentence is a tanh of `width` units and the normalisation over the vocabulary, which is a
    product with a matrix of `width` × vocabulary: 2 million multiplications with 512 units and
    4,000 words, about 27 million for a caption of 12 words, which is exact and cannot be avoided.
    Sentences of a block that begin with the same words share these products as far as they agree:
    the start sign, often followed by "a", costs one product for all of them. One core did
    27 billion multiplications per second, which is more than an hour for 1,000 images and 5,000
    captions; use `crossfit.retrieval.Reranker` to score only the best k of a cheaper method. With
    `n_prior_images`, a sentence costs as much as so many images more.

    References
    ----------
    J. Mao, W. Xu, Y. Yang, J. Wang, Z. Huang, A. Yuille, Deep captioning with multimodal recurrent
    neural networks (m-RNN), ICLR 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit_ranking.m_rnn import MRNN
    >>> from crossfit_ranking.testing import make_sentences
    >>> views, _ = make_sentences(np.random.default_rng(0), 60)
    >>> method = MRNN(embedding_widths=(8, 12), width=16, lr=0.01, max_epochs=3, device="cpu")
    >>> method.set_params(random_state=0).fit(views).similarity(views).shape
    (60, 60)
    >>> bool(method.generate(views["image"][:2], max_words=4).ids.lengths.max() <= 4)
    True
    """

    card = cards.M_RNN

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **NeuralPairEstimator._parameter_constraints,
        **SENTENCES,
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "embedding_widths": [list, tuple, np.ndarray],
        "width": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "standardize": ["boolean"],
        "l2": [Interval(Real, 0, None, closed="left")],
        "n_prior_images": [Interval(Integral, 0, None, closed="left")],
    }

    def __init__(
        self,
        *,
        embedding_widths: tuple[int, int] = (64, 128),
        width: int = 256,
        dropout: float = 0.3,
        standardize: bool = True,
        l2: float = 1e-6,
        n_prior_images: int = 100,
        max_words: int | None = 30,
        min_count: int = 2,
        max_epochs: int = 8,
        lr: float = 2e-3,
        batch_size: int = 64,
        **kwargs: Any,
    ) -> None:
        super().__init__(max_epochs=max_epochs, lr=lr, batch_size=batch_size, **kwargs)
        self.embedding_widths = embedding_widths
        self.width = width
        self.dropout = dropout
        self.standardize = standardize
        self.l2 = l2
        self.n_prior_images = n_prior_images
        self.max_words = max_words
        self.min_count = min_count

    # ---- the parts of the method ---------------------------------------------------------------

    def _validate_params(self) -> None:
        super()._validate_params()
        widths = list(self.embedding_widths)
        whole = all(isinstance(w, Integral) and not isinstance(w, bool) and w > 0 for w in widths)
        if len(widths) != 2 or not whole:
            raise ValueError(
                f"MRNN: embedding_widths must be the widths of two layers, got {widths}"
            )

    def _build_module(
        self, n_inputs: dict[str, Any], n_classes: int | None, **module: Any
    ) -> nn.Module:
        settings = {
            "embedding_widths": tuple(self.embedding_widths),
            "width": self.width,
            "dropout": self.dropout,
            "standardize": self.standardize,
        }
        return MRNNNetwork(n_inputs, **{**settings, **module})

    def _fit_features(self, views: Views, y: NDArray[Any] | None) -> None:
        super()._fit_features(views, y)
        texts, images = (views.distinct(role)[0] for role in ("text", "image"))
        known = texts.info.get("vocabulary") if isinstance(texts, Ragged) else None
        if known is not None:
            self.vocabulary_ = tuple(str(word) for word in known)
        chosen = torch.randperm(images.shape[0])[: self.n_prior_images].sort().values.numpy()
        some = take_rows(images, chosen)
        dense = some.toarray() if hasattr(some, "toarray") else as_numpy(some)
        self.prior_images_ = np.array(dense, dtype=np.float32)

    def _outputs(self, module: nn.Module, batch: Batch) -> Any:
        """Return the logits (n, V) of all words and end signs of the batch, and their ids (n,)."""
        image: Tensor = module.image(batch.views["image"])  # type: ignore[operator]
        states, targets, mask = module.text(batch.views["text"])  # type: ignore[operator]
        row, place = mask.nonzero(as_tuple=True)
        logits = module.logits(states[row, place], image[row])  # type: ignore[operator]
        outputs = {"logits": logits, "targets": targets[row, place]}
        if module.training and self.l2:
            outputs["squares"] = module.squared_norm()  # type: ignore[operator]
        return outputs

    def _loss(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        terms = {"words": F.cross_entropy(outputs["logits"], outputs["targets"])}
        if "squares" in outputs:
            terms["l2"] = self.l2 * outputs["squares"]
        return terms

    # ---- scores --------------------------------------------------------------------------------

    def _prepare_batch(self, module: nn.Module, items: Any, view: str) -> Any:
        if view == "image":
            return module.image(items)  # type: ignore[operator]
        states, targets, mask = module.text(items)  # type: ignore[operator]
        return Sentences(states, targets, mask, states.new_zeros(len(states)))

    def _prepare(self, values: Any, view: str) -> Prepared:
        prepared = super()._prepare(values, view)
        if view == "text" and len(self.prior_images_):
            images = super()._prepare(self.prior_images_, "image")
            found = torch.from_numpy(self._similarity(images, prepared)).double()
            prior = found.logsumexp(dim=0) - np.log(len(found))
            prepared = Prepared(prepared.parts._replace(prior=prior.float()))
        return prepared

    def _score_pairs(self, module: nn.Module, P: Tensor, Q: Sentences) -> Tensor:
        # bfloat16 distinguishes too few log probabilities.
        with torch.autocast(P.device.type, enabled=False):
            return module.log_likelihood(P, Q) - Q.prior  # type: ignore[operator]

    def _pair_bytes(self, P: Tensor, Q: Sentences) -> int:
        # One place of the sentences at a time: multimodal layer, its inputs and logits; and numbers
        # of words and beginnings.
        network: Any = self.net_.module_
        return 4 * (2 * network.width + network.output.out_features + 40)

    def log_likelihood(self, X: Any, Y: Any = None) -> NDArray[np.float32]:
        """Return log p(s|I) of all sentences given all images.

        Parameters
        ----------
        X : Views, or images
            Views with both modalities, or the images alone.
        Y : texts, optional
            Only if X is not Views.

        Returns
        -------
        float32 array of shape (n_images, n_texts)
            In nats, with the probability of the end sign; of the distinct items, as in
            `similarity`.
        """
        check_is_fitted(self, "views_in_")
        if isinstance(X, Views):
            if Y is not None:
                raise TypeError("MRNN.log_likelihood expects Views alone or (X, Y), got both")
            names, X = tuple(self.views_in_.values()), self.fitted_views(X)
            missing = [name for name in names if name not in X]
            if missing:
                raise ValueError(f"MRNN.log_likelihood needs the view {missing[0]!r}")
            X, Y = (X.distinct(name)[0] for name in names)
        elif Y is None:
            raise TypeError("MRNN.log_likelihood expects Views or two modalities (X, Y), got one")
        # Without the term of the sampled images.
        P, Q = (
            super(MRNN, self)._prepare(self._checked_values(values, role), role)
            for role, values in (("image", X), ("text", Y))
        )
        found: NDArray[np.float32] = self._similarity(P, Q)
        return found

    # ---- captions ------------------------------------------------------------------------------

    def generate(self, images: Any, *, max_words: int = 20, beam: int = 5) -> Captions:
        """Return a caption of each image: the most probable one that a beam search finds.

        The unknown word is not generated, and a caption has at least one word.

        Parameters
        ----------
        images : array-like of shape (n, d)
            Features of images, as in the fit.
        max_words : int, default=20
            Maximum number of words.
        beam : int, default=5
            Number of beginnings that are kept at every step.

        Returns
        -------
        Captions

        Raises
        ------
        ValueError
            If an argument is invalid, or the vocabulary of the fit had no known word.
        """
        check_is_fitted(self, "views_in_")
        for name, value in {"max_words": max_words, "beam": beam}.items():
            if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
                raise ValueError(
                    f"MRNN.generate: {name} must be an integer of at least 1, got {value!r}"
                )
        network: Any = self.net_.module_
        n_words = network.output.out_features
        if n_words <= UNK + 1:
            raise ValueError(
                "MRNN.generate: the training texts had no known words; lower min_count, or pass "
                "word ids above 1"
            )
        rows = max(1, self.score_memory // (16 * beam * (n_words + network.width)))

        def search(module: Any, items: Items) -> list[tuple[NDArray[np.int64], float]]:
            with torch.autocast(items.values.device.type, enabled=False):
                parts = module.image(items).split(rows)
                return [one for part in parts for one in module.search(part, max_words, beam)]

        parts = self._apply(search, self._checked_values(images, "image"), "image")
        found = [one for part in parts for one in part]
        ids = Ragged.from_list([words for words, _ in found])
        vocabulary = getattr(self, "vocabulary_", None)
        texts = None
        if vocabulary is not None:
            texts = [" ".join(vocabulary[i] for i in words) for words, _ in found]
        return Captions(ids, np.array([value for _, value in found], np.float32), texts)


class Captions(NamedTuple):
    """Captions of images, as `MRNN.generate` returns them.

    Parameters
    ----------
    ids : Ragged of n rows
        Word ids of each caption, without the end sign.
    log_likelihood : float32 array of shape (n,)
        log p(s|I) of each caption, with the end sign.
    texts : list of n str, or None
        The words, joined by blanks; None if the method has no vocabulary.
    """

    ids: Ragged
    log_likelihood: NDArray[np.float32]
    texts: list[str] | None


class Sentences(NamedTuple):
    """Sentences of at most T words, prepared for scores.

    Parameters
    ----------
    states : Tensor of shape (m, T + 1, width)
        V_w w_t + V_r r_t at every place, from the start sign on.
    targets : int64 Tensor of shape (m, T + 1)
        The word that follows at every place, or the end sign, 0.
    mask : bool Tensor of shape (m, T + 1)
        True up to the end sign.
    prior : Tensor of shape (m,)
        What is subtracted from log p(s|I).
    """

    states: Tensor
    targets: Tensor
    mask: Tensor
    prior: Tensor


class MRNNNetwork(nn.Module):
    """The network of m-RNN.

    Parameters
    ----------
    n_inputs : dict of str to int
        Width of an image's features for ``"image"``, number of word ids for ``"text"``.
    embedding_widths : (int, int)
        Widths of the two word-embedding layers.
    width : int
        Width of the multimodal layer.
    dropout : float
        Probability of dropping a unit of the recurrent and the multimodal layer.
    standardize : bool
        Whether the features of the images are standardised.
    """

    def __init__(
        self,
        n_inputs: dict[str, Any],
        *,
        embedding_widths: tuple[int, int],
        width: int,
        dropout: float,
        standardize: bool,
    ) -> None:
        super().__init__()
        first, second = embedding_widths
        n_words, n_features = n_inputs["text"], n_inputs["image"]
        self.scaling = Standardize(n_features, "image") if standardize else nn.Identity()
        self.words = nn.Embedding(n_words, first)
        self.embed = nn.Linear(first, second)
        self.recur = nn.Linear(second, second, bias=False)  # U
        self.of_word = nn.Linear(second, width)  # V_w, with the bias of the layer
        self.of_state = nn.Linear(second, width, bias=False)  # V_r
        self.of_image = nn.Linear(n_features, width, bias=False)  # V_I
        self.output = nn.Linear(width, n_words)
        self.dropout = nn.Dropout(dropout)
        self.width = width
        init_weights(self, "linear")
        nn.init.orthogonal_(self.recur.weight)
        # Three inputs of equal variance are added up in the multimodal layer.
        for part in (self.of_word, self.of_state, self.of_image):
            part.weight.data.div_(3**0.5)

    def image(self, items: Items) -> Tensor:
        """Return V_I I (b, width) of images (b, d)."""
        found: Tensor = self.of_image(self.scaling(items.values))
        return found

    def start(self, n: int) -> Tensor:
        """Return the state of n sentences before the start sign."""
        return self.recur.weight.new_zeros(n, len(self.recur.weight))

    def step(self, words: Tensor, state: Tensor) -> Tensor:
        """Return the states (b, ·) after words w (b, ·)."""
        return F.relu(self.recur(state) + words)

    def inputs(self, words: Tensor, states: Tensor) -> Tensor:
        """Return V_w w + V_r r (..., width)."""
        found: Tensor = self.of_word(words) + self.of_state(self.dropout(states))
        return found

    def text(self, items: Items) -> tuple[Tensor, Tensor, Tensor]:
        """Return the states, targets and mask of `Sentences` of word ids (b, T)."""
        ids = items.values
        real = ids != PAD if items.mask is None else items.mask
        sign = ids.new_full((len(ids), 1), _SIGN)
        ids = ids.masked_fill(~real, _SIGN)
        words = self.embed(self.words(torch.cat([sign, ids], dim=1)))
        state, states = self.start(len(ids)), []
        for word in words.unbind(dim=1):
            state = self.step(word, state)
            states.append(state)
        inputs = self.inputs(words, torch.stack(states, dim=1))
        # A sentence of n words has n + 1 places; at the last one the end sign follows.
        mask = torch.cat([torch.ones_like(real[:, :1]), real], dim=1)
        return inputs, torch.cat([ids, sign], dim=1), mask

    def logits(self, states: Tensor, image: Tensor) -> Tensor:
        """Return the logits (..., V) of the next word, of states and images (..., width)."""
        hidden = (states + image).mul(2 / 3).tanh().mul(1.7159)
        found: Tensor = self.output(self.dropout(hidden))
        return found

    def log_likelihood(self, images: Tensor, text: Sentences) -> Tensor:
        """Return log p(s|I), (n, m), of images (n, width) and m sentences.

        Of all sentences that begin with the same words, the logits are computed once.
        """
        n, m = len(images), len(text.states)
        total = images.new_zeros(n, m)
        prefix = torch.zeros(m, dtype=torch.int64, device=images.device)
        for place in range(text.states.shape[1]):
            rows = text.mask[:, place].nonzero().squeeze(1)
            if not len(rows):
                break
            known, which = prefix[rows].unique(return_inverse=True)
            one = rows.new_empty(len(known)).scatter_(0, which, rows)  # any with this beginning
            hidden = images[:, None] + text.states[one, place]
            hidden.mul_(2 / 3).tanh_().mul_(1.7159)
            logits = self.output(hidden)
            following = text.targets[rows, place]
            own = logits[:, which, following]
            largest = logits.amax(dim=2, keepdim=True)
            normaliser = logits.sub_(largest).exp_().sum(dim=2).log_().add_(largest.squeeze(2))
            total.index_add_(1, rows, own.sub_(normaliser[:, which]))
            prefix[rows] = which * logits.shape[2] + following
        return total

    def search(
        self, images: Tensor, max_words: int, beam: int
    ) -> list[tuple[NDArray[np.int64], float]]:
        """Return word ids and log p(s|I) of the best caption of each image (n, width).

        The beams of an image are beginnings, of which those that have ended compete with the
        others.
        """
        n = len(images)
        # One beginning at first: the others, which would be equal to it, are impossible.
        score = images.new_full((n, beam), -torch.inf)
        score[:, 0] = 0
        ended = torch.zeros_like(score, dtype=torch.bool)
        words = torch.zeros(n, beam, 0, dtype=torch.int64, device=images.device)
        state = self.start(n * beam)
        last = words.new_full((n * beam,), _SIGN)
        among = images[:, None]
        first = torch.arange(n, device=images.device)[:, None]
        for place in range(max_words + 1):
            w = self.embed(self.words(last))
            state = self.step(w, state)
            inputs = self.inputs(w, state).unflatten(0, (n, beam))
            found = self.logits(inputs, among).log_softmax(dim=-1)
            found[..., UNK] = -torch.inf
            if place == 0:
                found[..., _SIGN] = -torch.inf
            if place == max_words:  # all have to end
                found[..., _SIGN + 1 :] = -torch.inf
            # An ended caption has one continuation, itself.
            found.masked_fill_(ended[..., None], -torch.inf)
            found[..., _SIGN].masked_fill_(ended, 0.0)
            n_words = found.shape[2]
            score, best = (score[..., None] + found).flatten(1).topk(beam, dim=1)
            source, last = best // n_words, best % n_words
            words = torch.cat([words[first, source], last[..., None]], dim=2)
            ended = last == _SIGN  # of an ended caption too
            state = state.unflatten(0, (n, beam))[first, source].flatten(0, 1)
            last = last.flatten()
            if ended.all():
                break
        captions = words[:, 0].cpu().numpy()
        return [
            (row[row != _SIGN].astype(np.int64), float(value))
            for row, value in zip(captions, score[:, 0].tolist())
        ]

    def squared_norm(self) -> Tensor:
        """Return the sum of the squares of all weight matrices, without biases."""
        return torch.stack([w.square().sum() for w in self.parameters() if w.ndim > 1]).sum()
