"""CRAN: cross-media relation attention network (Qi, Peng and Yuan, IJCAI 2018)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from crossfit.extraction import Characters
from crossfit.extraction.weights import exact
from crossfit.neural import Batch, NeuralPairEstimator, triplet_loss, warm_up
from crossfit.neural.batching import first_elements
from crossfit.views import Channels, Ragged, Views, as_float, as_numpy, without_padding
from crossfit_cran import cards
from crossfit_cran.network import (
    ALPHABET,
    LEVELS,
    CRANNetwork,
    fragments,
    receptive_field,
    relations,
)

__all__ = ["CRAN"]


class CRAN(NeuralPairEstimator):
    r"""Cross-media relation attention network (CRAN): alignment at three levels.

    An image has a global vector g, regions l_j and their relations r_jk, the concatenations of
    ordered pairs of different regions. A text is a sequence of characters, which is mapped to
    fragments h_1, ..., h_m by convolutions and an LSTM, with separate weights for each level. Its
    global vector is their mean; its local and its relation vector are (equations 4 and 5)

    .. math:: \sum_k a_k h_k, \qquad a = \mathrm{softmax}_k\, w' \tanh(W h_k).

    One linear layer per level and modality maps them to a common space. The similarity is
    (equation 11)

    .. math::

        g^i \cdot g^t + \frac1K \sum_{k=1}^K l^i_{(k)} \cdot l^t
        + \frac1K \sum_{k=1}^K r^i_{(k)} \cdot r^t,

    where the sums are over the K regions, and the K relations, nearest to the text. The loss is
    the sum of three hinges (equations 6 to 10): at the global level, matched pairs against wrong
    texts and wrong images; at the other two levels, against wrong images. Another caption of the
    same image is never wrong.

    Images have the channels ``global``, (n, d), and ``regions``, (n, R, d) or ragged, best first;
    an image may have fewer than `n_regions` regions. Texts are strings, or character ids as from
    `crossfit.extraction.Characters`, padded with 0. Or, which is not in the paper, they are
    sequences of word vectors, ragged or (n, T, d) with zero vectors after the last word, as from
    `crossfit.extraction.WordVectors`: every word is then a fragment, and its vector goes to the
    LSTM in place of the outputs of the convolutions. The form of the given texts decides.

    The defaults are for a few thousand images with captions; see Notes for the paper's settings.

    Parameters
    ----------
    levels : sequence of {"global", "local", "relation"}, default=("global", "local", "relation")
        Terms of the similarity. The paper's "CRAN-local" is ``("global", "local")``,
        "CRAN-relation" ``("global", "relation")`` and its baseline ``("global",)``.
    k : int, default=3
        Number K of nearest regions and relations; all of them if there are fewer.
    n_regions : int, default=5
        Number of regions per image, from the first. Five regions have 20 relations.
    length : int, default=84
        Number of characters, or words, per text, from the first. 84 characters give 5 fragments,
        201 give 18.
    channels : sequence of int, default=(48, 64, 128)
        Output channels of the convolutions over characters. Not used for word vectors.
    lstm_width : int, default=128
        Width of the LSTM over the outputs of the convolutions, or over word vectors.
    lstm_layers : int, default=1
        Number of layers of the LSTM.
    attention_width : int, optional
        Number of rows of W; `lstm_width` by default.
    width : int, default=128
        Width of the vectors whose dot products are computed.
    normalize : bool, default=True
        Scale these vectors to unit length, so that dot products and the margin are comparable.
    attn_mean : bool, default=False
        Divide the weighted sums by m, as printed in the paper, although the weights sum to 1.
    bidirectional_local : bool, default=True
        Also rank texts for an image at the local and relation levels.
    mask_padding : bool, default=True
        Exclude fragments that begin after the end of the text. What follows the last word of a
        sequence of word vectors is always excluded.
    margin : float, default=0.3
        Margin of the hinges.
    mining : {"all", "random", "hardest", "top-k", "sum"}, default="all"
        Wrong items of the batch that a matched pair is compared with: all, one drawn at random,
        the most similar one, or the `k_negatives` most similar ones. The hinges of several are
        averaged, with "sum" added up.
    k_negatives : int, default=10
        Number of wrong items for ``mining="top-k"``.
    init : {"scaled", "torch"}, default="scaled"
        First weights: of `crossfit.neural.init_weights`, or torch's own, with which all texts have
        almost the same vector at first.
    standardize : bool, default=True
        Subtract the training mean from every feature of the images, and of word vectors, and
        divide it by its standard deviation.
    dropout : float, default=0.3
        Dropout probability before the linear layers. All regions of an image lose the same
        features.
    lr_halving : int or None, default=6
        Number of epochs after which the learning rate is halved, repeatedly; None for never.
    warm_up : int, default=0
        Number of updates over which the learning rate rises linearly at first; see
        `crossfit.neural.warm_up`. RMSprop needs it.
    max_epochs : int, default=24
        Number of passes over the training pairs.
    lr : float, default=0.001
        Learning rate.
    batch_size : int, default=100
        Number of pairs per batch.
    optimizer : str or type, default="Adam"
        Name of a class in `torch.optim`, or such a class.
    **kwargs
        See `crossfit.neural.NeuralPairEstimator`.

    Attributes
    ----------
    net_ : skorch.NeuralNet
        Its history contains ``train_global``, ``train_local`` and ``train_relation``.

    Notes
    -----
    The paper has 201 characters, convolutions (384, 512, 2048), an LSTM of 2048, vectors of 1024,
    margin 1 and the learning rate .0004 halved every 50 epochs, includes the fragments of the
    padding, and ranks images for a text alone at the local and relation levels; its other settings
    are not published. They are in the
    experiments ``qi-2018-cran-flickr30k`` and ``qi-2018-cran-coco``.

    References
    ----------
    J. Qi, Y. Peng, Y. Yuan, Cross-media multi-level alignment with relation attention network,
    IJCAI 2018, 892-898.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit_cran.estimator import CRAN
    >>> from crossfit_cran.testing import make_inputs
    >>> views, _ = make_inputs(np.random.default_rng(0), 60)
    >>> small = dict(channels=(8, 8, 16), lstm_width=16, width=8, length=66, max_epochs=2)
    >>> cran = CRAN(**small, device="cpu", random_state=0).fit(views)
    >>> cran.similarity(views[:20]).shape
    (20, 20)
    >>> [round(weight, 2) for weight in sorted(cran.explain(views[:1])["image"].values.tolist())]
    [0.0, 0.33, 0.33, 0.33]
    """

    card = cards.CRAN

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **NeuralPairEstimator._parameter_constraints,
        "levels": [list, tuple],
        "k": [Interval(Integral, 1, None, closed="left")],
        "n_regions": [Interval(Integral, 1, None, closed="left")],
        "length": [Interval(Integral, 1, None, closed="left")],
        "channels": [list, tuple],
        "lstm_width": [Interval(Integral, 1, None, closed="left")],
        "lstm_layers": [Interval(Integral, 1, None, closed="left")],
        "attention_width": [Interval(Integral, 1, None, closed="left"), None],
        "width": [Interval(Integral, 1, None, closed="left")],
        "normalize": ["boolean"],
        "attn_mean": ["boolean"],
        "bidirectional_local": ["boolean"],
        "mask_padding": ["boolean"],
        "margin": [Interval(Real, 0, None, closed="left")],
        "mining": [StrOptions({"all", "random", "hardest", "top-k", "sum"})],
        "k_negatives": [Interval(Integral, 1, None, closed="left")],
        "init": [StrOptions({"scaled", "torch"})],
        "standardize": ["boolean"],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "lr_halving": [Interval(Integral, 1, None, closed="left"), None],
        "warm_up": [Interval(Integral, 0, None, closed="left")],
    }

    def __init__(
        self,
        *,
        levels: Sequence[str] = LEVELS,
        k: int = 3,
        n_regions: int = 5,
        length: int = 84,
        channels: Sequence[int] = (48, 64, 128),
        lstm_width: int = 128,
        lstm_layers: int = 1,
        attention_width: int | None = None,
        width: int = 128,
        normalize: bool = True,
        attn_mean: bool = False,
        bidirectional_local: bool = True,
        mask_padding: bool = True,
        margin: float = 0.3,
        mining: str = "all",
        k_negatives: int = 10,
        init: str = "scaled",
        standardize: bool = True,
        dropout: float = 0.3,
        lr_halving: int | None = 6,
        warm_up: int = 0,
        max_epochs: int = 24,
        lr: float = 1e-3,
        batch_size: int = 100,
        optimizer: str | type[torch.optim.Optimizer] = "Adam",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            max_epochs=max_epochs, lr=lr, batch_size=batch_size, optimizer=optimizer, **kwargs
        )
        self.levels = levels
        self.k = k
        self.n_regions = n_regions
        self.length = length
        self.channels = channels
        self.lstm_width = lstm_width
        self.lstm_layers = lstm_layers
        self.attention_width = attention_width
        self.width = width
        self.normalize = normalize
        self.attn_mean = attn_mean
        self.bidirectional_local = bidirectional_local
        self.mask_padding = mask_padding
        self.margin = margin
        self.mining = mining
        self.k_negatives = k_negatives
        self.init = init
        self.standardize = standardize
        self.dropout = dropout
        self.lr_halving = lr_halving
        self.warm_up = warm_up

    # ---- the parts of the method ---------------------------------------------------------------

    def _validate_params(self) -> None:
        super()._validate_params()
        levels = list(self.levels)
        if not levels or len(set(levels)) < len(levels) or set(levels) - set(LEVELS):
            raise ValueError(f"levels must be one or more of {', '.join(LEVELS)}, got {levels}")
        sizes = list(self.channels)
        if not sizes or any(not isinstance(n, Integral) or n < 1 for n in sizes):
            raise ValueError(f"channels must be positive integers, one per layer, got {sizes}")

    def _build_module(
        self, n_inputs: dict[str, Any], n_classes: int | None, **module: Any
    ) -> nn.Module:
        settings = {
            # In the order of the paper, whatever the order of the parameter.
            "levels": [level for level in LEVELS if level in self.levels],
            "k": self.k,
            "n_regions": self.n_regions,
            "channels": list(self.channels),
            "lstm_width": self.lstm_width,
            "lstm_layers": self.lstm_layers,
            "attention_width": self.attention_width or self.lstm_width,
            "width": self.width,
            "dropout": self.dropout,
            "normalize": self.normalize,
            "attn_mean": self.attn_mean,
            "mask_padding": self.mask_padding,
            "standardize": self.standardize,
            "init": self.init,
        }
        return CRANNetwork(n_inputs, **{**settings, **module})

    def _schedule(self) -> list[Any]:
        from skorch.callbacks import LRScheduler

        callbacks = [warm_up(self.warm_up)] if self.warm_up else []
        if self.lr_halving is not None:
            callbacks.append(LRScheduler("StepLR", step_size=self.lr_halving, gamma=0.5))
        return callbacks

    def _prepare_batch(self, module: Any, items: Any, view: str) -> dict[str, Tensor]:
        return module.prepare(items, view)

    def _outputs(self, module: Any, batch: Batch) -> dict[str, Tensor]:
        P, Q = (module.prepare(items, role) for role, items in batch.views.items())
        return module.scores(P, Q)

    def _score_pairs(self, module: Any, P: Any, Q: Any) -> Tensor:
        found = list(module.scores(P, Q).values())
        return sum(found[1:], found[0])

    def _pair_bytes(self, P: Any, Q: Any) -> int:
        # The dot products of one level, a copy if masked parts are filled, the best values so far
        # and the next ones, and the levels already summed. Masks and counts of parts are per row,
        # but a block may have as many rows as pairs.
        parts = max((P[name].shape[1] for name in ("local", "relation") if name in P), default=0)
        masked = any(name.endswith("_mask") for name in P)
        best = min(self.net_.module_.k, parts)
        return 4 * (parts * (1 + masked) + best * (2 + masked) + len(Q) + 1) + masked * (parts + 24)

    def _loss(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        positives, negatives = batch.positives, batch.negatives
        settings: dict[str, Any] = {
            "margin": self.margin, "mining": self.mining, "k": self.k_negatives,
        }  # fmt: skip
        losses = {}
        for level, scores in outputs.items():
            # Wrong images for a text: equations 8, 9 and 10.
            losses[level] = triplet_loss(scores.T, positives.T, negatives.T, **settings)
            if level == "global" or self.bidirectional_local:
                losses[level] = losses[level] + triplet_loss(
                    scores, positives, negatives, **settings
                )
        return losses

    def __crossfit_restore__(
        self, state: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
    ) -> None:
        """Restore a fitted method; networks of version 0.1.0 had no standardisation."""
        if not any(name.startswith("module.standard.") for name in arrays):
            self.standardize = False
        super().__crossfit_restore__(state, arrays)

    # ---- channels, characters and words --------------------------------------------------------

    def _features(self, values: Any, view: str) -> Any:
        if view == "text":
            return self._text(values)
        where = f"{self._name()}: view {self._view_name(view)!r}"
        fitted = getattr(self, "n_inputs_", {}).get(view)
        forms = {"global": "of shape (n, d)", "regions": "of shape (n, R, d) or ragged"}
        if "global" not in self.levels:
            del forms["global"]
        if set(self.levels) == {"global"}:
            del forms["regions"]
        found = {}
        for name, form in forms.items():
            if name not in values.names:
                raise ValueError(
                    f"{where} needs the channel {name!r} for levels={tuple(self.levels)}, got "
                    f"{', '.join(values.names)}"
                )
            # Integer channels, such as counts, are not converted by the base class.
            part = found[name] = as_float(values[name], f"{where}, channel {name!r}")
            ragged = isinstance(part, Ragged)
            shape = part.values.shape if ragged else part.shape
            if len(shape) + ragged != (2 if name == "global" else 3) or ragged > ("R" in form):
                raise ValueError(
                    f"{where}, channel {name!r} must be {form}, got "
                    f"{'a Ragged of elements' if ragged else 'an array'} of shape "
                    f"{tuple(shape[ragged:])}"
                )
            if fitted is not None and shape[-1] != fitted[name]:
                raise ValueError(
                    f"{where}, channel {name!r} has {shape[-1]} features, but {self._name()} is "
                    f"expecting {fitted[name]} features as input"
                )
            if ragged:
                most = self._prefixed("module").get("n_regions", self.n_regions)
                found[name] = first_elements(part, most)
        return Channels(found)

    def _text(self, values: Any) -> Any:
        """Return character ids as a tensor, or the channel ``words``."""
        where = f"{self._name()}: view {self._view_name('text')!r}"
        fitted = getattr(self, "n_inputs_", {}).get("text")
        if not _are_words(values):
            if isinstance(fitted, dict):
                raise ValueError(
                    f"{where} must be word vectors of width {fitted['words']}, as in fit, got "
                    "characters; fit on characters, or pass word vectors"
                )
            n_layers = len(self.channels)
            if not fragments(self.length, n_layers):
                raise ValueError(
                    f"{where}: length is {self.length}, but {n_layers} convolutions need at least "
                    f"{receptive_field(n_layers)[0]} characters; increase length"
                )
            # A tensor of bytes, because batches of integer arrays would drop zeros (spaces).
            return torch.from_numpy(self._characters(values))
        words = first_elements(without_padding(as_float(values, where)), self.length)
        if isinstance(fitted, int):
            raise ValueError(
                f"{where} must be strings or character ids, as in fit, got word vectors; fit on "
                "word vectors, or pass characters"
            )
        return Channels({"words": words})

    def _characters(self, values: Any) -> NDArray[np.uint8]:
        """Return character ids of shape (n, length)."""
        held = values.values if isinstance(values, Ragged) else as_numpy(values)
        if held.dtype == object:
            return Characters(self.length, verbose=False).transform(held).astype(np.uint8)
        if held.size and not 0 <= held.min() <= held.max() <= ALPHABET:
            raise ValueError(
                f"{self._name()}: view {self._view_name('text')!r} must have character ids from 0 "
                f"to {ALPHABET}, got {held.min()} to {held.max()}"
            )
        values = values.padded(self.length)[0] if isinstance(values, Ragged) else held
        ids = np.zeros((len(values), self.length), np.uint8)
        shown = values[:, : self.length]
        ids[:, : shown.shape[1]] = shown
        return ids

    # ---- attention -----------------------------------------------------------------------------

    def explain(self, X: Any, Y: Any = None, *, level: str = "local") -> Any:
        """Return which regions or relations of an image match its text, and the text's attention.

        Parameters
        ----------
        X : Views, or images
            Pairs, row by row: the weights of an image depend on its text.
        Y : texts, optional
            Required unless X is Views.
        level : {"local", "relation"}, default="local"
            Regions or relations.

        Returns
        -------
        Views, or a pair of Ragged
            In the form of the input, one row per pair. The weights of an image's regions are 1 / K
            at the K nearest to its text and 0 elsewhere. At the relation level there is one weight
            per ordered pair of regions, and ``info["pairs"]`` holds the numbers of the regions.
            The weights of a text are its attention over fragments; ``info["words"]`` holds the
            characters of each fragment, or the words if the given texts have them, and
            ``info["spans"]`` start and stop, in characters or words. At the local
            level, the ``info`` of ragged regions, such as boxes, is kept.

        Raises
        ------
        ValueError
            If the method does not have the level, or a view is missing.
        TypeError
            If Y is missing, or given in addition to Views.
        """
        check_is_fitted(self, "views_in_")
        if level not in ("local", "relation") or level not in self.levels:
            raise ValueError(
                f"level must be 'local' or 'relation' and one of the method's levels "
                f"({', '.join(self.levels)}), got {level!r}"
            )
        image, text = self.views_in_.values()
        if not isinstance(X, Views) or isinstance(X, Channels):
            if Y is None:
                raise TypeError(
                    "CRAN.explain expects pairs, as Views or (X, Y): which regions count depends "
                    "on the text"
                )
            X, pair = Views({image: X, text: Y}), True
        elif Y is not None:
            raise TypeError("CRAN.explain expects Views alone or (X, Y), got both")
        else:
            pair = False
        views = self.fitted_views(X)
        if len(views.names) < 2:
            raise ValueError(
                f"CRAN.explain needs the views {image} and {text}, got {', '.join(views.names)}"
            )
        values = {
            view: self._checked_values(views[view], self._role_of(view)) for view in views.names
        }
        found = {
            image: self._nearest(values[image], values[text], level),
            text: self._attention(values[text], level),
        }
        return (found[image], found[text]) if pair else Views(found)

    def _nearest(self, images: Any, texts: Any, level: str) -> Ragged:
        """Return weights of 1 / K at the K parts nearest to the text of the row, 0 elsewhere."""
        P, Q = self._prepare(images, "image").parts, self._prepare(texts, "text").parts
        network: Any = self.net_.module_
        with exact():
            dots = torch.einsum("nrd,nd->nr", P[level], Q[level])
            mask = P.get(f"{level}_mask", torch.ones_like(dots, dtype=torch.bool))
            dots = dots.masked_fill(~mask, -torch.inf)
            k = min(network.k, dots.shape[1])
            at = dots.topk(k, dim=1).indices
            chosen = torch.zeros_like(dots).scatter_(1, at, 1.0) * mask
            weights = (chosen / chosen.sum(dim=1, keepdim=True).clamp(min=1)).numpy()
        regions = images["regions"]
        ragged = isinstance(regions, Ragged)
        lengths = regions.lengths if ragged else np.full(len(weights), regions.shape[1])
        if level == "local":
            # Regions beyond n_regions have weight 0.
            parts = [np.zeros(n, np.float32) for n in lengths]
            for part, row in zip(parts, weights):
                part[: len(row)] = row[: len(part)]
            info = dict(regions.info) if ragged else {}
            return Ragged(np.concatenate(parts), _offsets(lengths), info)
        n = network.n_regions if ragged else min(network.n_regions, regions.shape[1])
        pairs = np.stack([index.numpy() for index in relations(n)], axis=1)
        real = mask.numpy()
        info = {"pairs": np.concatenate([pairs[row] for row in real])}
        return Ragged(weights[real], _offsets(real.sum(axis=1)), info)

    def _attention(self, texts: Any, level: str) -> Ragged:
        def attention(module: Any, items: Any) -> list[NDArray[Any]]:
            values, mask = items["words"] if module.words else (items.values, None)
            weights = module.pool(values, mask)[level][1].float()
            real = torch.ones_like(weights, dtype=torch.bool) if mask is None else mask
            return [row[kept].cpu().numpy() for row, kept in zip(weights, real)]

        rows = [row for part in self._apply(attention, texts, "text") for row in part]
        offsets = _offsets([len(row) for row in rows])
        if _are_words(texts):
            spans = [(k, k + 1) for row in rows for k in range(len(row))]
            given = without_padding(texts)
            words = given.info.get("words")
            place = np.arange(len(given.values)) - np.repeat(given.offsets[:-1], given.lengths)
            named = {} if words is None else {"words": np.asarray(words)[place < self.length]}
        else:
            ids = self._characters(texts)
            alphabet = np.array(["", *Characters.alphabet])
            spans = fragments(self.length, len(self.channels))
            parts = ["".join(alphabet[row[start:stop]]) for row in ids for start, stop in spans]
            named = {"words": np.array(parts, dtype=object)}
            spans = spans * len(ids)
        return Ragged(np.concatenate(rows), offsets, {**named, "spans": np.array(spans)})


def _are_words(values: Any) -> bool:
    """Return True for sequences of vectors, False for strings and ids of characters."""
    if isinstance(values, Ragged):
        return values.values.ndim == 2
    return getattr(values, "ndim", 1) == 3


def _offsets(lengths: Any) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
